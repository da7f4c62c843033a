//! OAuth 2.0 client credentials, and which certificates are trusted.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edgetap::batch::Limits;
use edgetap::bridge::{Attempt, Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::grant::{Answer, DEFAULT_LIFETIME, MAX_LIFETIME, ParametersError, SHORT_LIFETIME};
use edgetap::ingest::ingest;
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{LocalBridge, Options, Reaction, serve};
use edgetap::time::Deadline;
use edgetap::token::{AuthMethod, Token, TokenError, TokenParameters};
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use proptest::prelude::*;
use serde_json::json;

use crate::support::certificates::{Certificates, Kind, certificates};
use crate::support::{
    BACKOFF, at_token, client, client_with, credentials, log, rules, sdk_config, start,
};

const SOON: Duration = Duration::from_secs(20);

async fn token(client: &Bridge) -> Result<Arc<Token>, TokenError> {
    client.tokens().token(Deadline::after(SOON)).await
}

fn json_response(status: u16, body: &serde_json::Value) -> Reaction {
    Reaction::respond(status, "application/json", body.to_string())
}

// proves: T8
#[tokio::test]
async fn both_auth_methods_encode_any_character() {
    let secrets = [
        "plain",
        "a&b=c+d%20e:f g",
        "$(rm -rf) `x` \"'\\#;|",
        "pässwörd–€🔑",
        "%41%%",
        " leading and trailing ",
    ];
    for method in [AuthMethod::Post, AuthMethod::Basic] {
        for secret in secrets {
            let options = Options {
                client_id: format!("id {secret}"),
                client_secret: secret.to_owned(),
                ..Options::default()
            };
            let bridge = start(&options).await;
            let client = client(&bridge, &options, method, None);
            token(&client)
                .await
                .unwrap_or_else(|error| panic!("{method:?} {secret}: {error}"));
        }
    }
}

// proves: T2
#[tokio::test]
async fn concurrent_tasks_share_one_token_request() {
    let options = at_token(|_| Reaction::After(Duration::from_millis(50)));
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let tokens = client.tokens();
    let wanted =
        futures_util::future::join_all((0..40).map(|_| tokens.token(Deadline::after(SOON)))).await;
    assert!(wanted.iter().all(Result::is_ok));
    tokens.token(Deadline::after(SOON)).await.unwrap();
    assert_eq!(bridge.tally().tokens, 1);
}

// proves: T1
#[tokio::test]
async fn token_is_renewed_before_its_expiry() {
    // The renewal margin is half of a lifetime this short.
    let options = Options {
        token_lifetime: Duration::from_secs(2),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let first = token(&client).await.unwrap().authorization();
    assert_eq!(token(&client).await.unwrap().authorization(), first);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_ne!(token(&client).await.unwrap().authorization(), first);
}

// proves: T3
#[tokio::test]
async fn token_is_used_until_expiry_if_renewal_fails() {
    let options = Options {
        token_lifetime: Duration::from_secs(4),
        ..at_token(|arrival| {
            if arrival.number == 1 {
                Reaction::Normal
            } else {
                Reaction::status(503)
            }
        })
    };
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let first = token(&client).await.unwrap().authorization();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(token(&client).await.unwrap().authorization(), first);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(matches!(
        token(&client).await,
        Err(TokenError::Later { .. })
    ));
}

// proves: T2
#[tokio::test]
async fn discard_keeps_a_token_that_was_already_replaced() {
    let options = Options::default();
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let tokens = client.tokens();
    let rejected = tokens.token(Deadline::after(SOON)).await.unwrap();
    tokens.discard(&rejected).await;
    let fresh = tokens.token(Deadline::after(SOON)).await.unwrap();
    tokens.discard(&rejected).await;
    assert!(Arc::ptr_eq(
        &fresh,
        &tokens.token(Deadline::after(SOON)).await.unwrap()
    ));
    assert_eq!(bridge.tally().tokens, 2);
}

// proves: T6
#[tokio::test]
async fn transient_token_failures_are_retried() {
    for reaction in [408, 429, 500, 502, 503, 504]
        .map(Reaction::status)
        .into_iter()
        .chain([Reaction::HangUp])
    {
        let options = at_token(move |arrival| {
            if arrival.number <= 3 {
                reaction.clone()
            } else {
                Reaction::Normal
            }
        });
        let bridge = start(&options).await;
        client(&bridge, &options, AuthMethod::Post, None)
            .tokens()
            .token(Deadline::after(SOON))
            .await
            .unwrap();
    }
}

// proves: T4, T5
#[tokio::test]
async fn permanent_token_failures_name_endpoint_and_cause() {
    let redirect = Reaction::Respond {
        status: 302,
        headers: vec![("location", "/login".to_owned())],
        body: String::new(),
    };
    for (reaction, words) in [
        (
            json_response(
                200,
                &json!({"access_token": "canary-token", "token_type": "mac", "expires_in": 60}),
            ),
            "not a bearer token",
        ),
        (
            json_response(200, &json!({"access_token": "canary\r\nX-Evil: 1"})),
            "returned 200 OK with a token that cannot be sent in a header",
        ),
        (
            json_response(200, &json!({"access_token": "canary tokén"})),
            "a token that cannot be sent in a header",
        ),
        (
            json_response(200, &json!({"token": "canary-token"})),
            "returned 200 OK with neither a token nor an OAuth 2.0 error",
        ),
        (
            Reaction::status(404),
            "returned 404 Not Found with neither a token nor an OAuth 2.0 error",
        ),
        (redirect, "returned 302 Found with a redirect"),
        (
            Reaction::respond(200, "Text/HTML; charset=utf-8", "<html>"),
            "returned 200 OK with an HTML page",
        ),
        (
            long_token(64 << 10 | 1),
            "returned 200 OK with more than 64 KiB",
        ),
    ] {
        let shown = format!("{reaction:?}");
        let options = at_token(move |_| reaction.clone());
        let bridge = start(&options).await;
        let client = client(&bridge, &options, AuthMethod::Post, None);
        let error = token(&client).await.unwrap_err();
        let TokenError::Misconfigured(text) = &error else {
            panic!("{shown}: {error:?}")
        };
        assert!(text.contains(words), "{shown}: {text}");
        assert!(text.contains(&bridge.token_url()), "{shown}: {text}");
        assert!(!text.contains("canary"), "{shown}: {text}");
        assert!(!text.contains(&options.client_secret), "{shown}: {text}");
        assert!(
            text.contains("Check BRIDGE_AUTH_ENDPOINT"),
            "{shown}: {text}"
        );
    }
}

/// A token response with a body of this many bytes.
fn long_token(bytes: usize) -> Reaction {
    let body = json!({"access_token": "canary-token", "expires_in": 60}).to_string();
    let space = " ".repeat(bytes - body.len());
    Reaction::respond(200, "application/json", space + &body)
}

/// Refusals, with what the error says of each.
fn refusals() -> Vec<(Reaction, &'static str)> {
    let oauth = |status, code| {
        let body = json!({"error": code, "error_description": "canary-description"});
        json_response(status, &body)
    };
    vec![
        (
            oauth(401, "invalid_client"),
            "(401 Unauthorized, invalid_client)",
        ),
        (
            oauth(400, "invalid_client"),
            "(400 Bad Request, invalid_client)",
        ),
        // Keycloak's answer to a wrong secret, and that of its versions before 23.
        (
            oauth(401, "unauthorized_client"),
            "(401 Unauthorized, unauthorized_client)",
        ),
        (
            oauth(400, "unauthorized_client"),
            "(400 Bad Request, unauthorized_client)",
        ),
        // Auth0's.
        (
            oauth(401, "access_denied"),
            "(401 Unauthorized, access_denied)",
        ),
        (
            oauth(403, "access_denied"),
            "(403 Forbidden, access_denied)",
        ),
        (
            oauth(400, "invalid_scope"),
            "(400 Bad Request, invalid_scope)",
        ),
        (oauth(400, "canary-error"), "(400 Bad Request)"),
        (
            oauth(422, "invalid_grant"),
            "(422 Unprocessable Entity, invalid_grant)",
        ),
        (oauth(200, "invalid_client"), "(200 OK, invalid_client)"),
        (
            json_response(401, &json!({"error": {"code": "canary-code"}})),
            "(401 Unauthorized)",
        ),
        (Reaction::status(401), "(401 Unauthorized)"),
        (
            Reaction::respond(400, "text/plain", "canary-text"),
            "(400 Bad Request)",
        ),
        (
            Reaction::respond(403, "text/html", "<html>canary-page"),
            "(403 Forbidden, an HTML page)",
        ),
    ]
}

/// A Secrets Manager whose secret changes.
struct SecretsManager {
    endpoint: String,
    secret: Arc<Mutex<String>>,
    reads: Arc<AtomicUsize>,
}

impl SecretsManager {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (secret, reads) = (
            Arc::<Mutex<String>>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let (current, count) = (secret.clone(), reads.clone());
        serve(listener, None, move |_: Request<Incoming>| {
            count.fetch_add(1, Ordering::Relaxed);
            let secret = json!({"client_id": "id", "client_secret": *current.lock().unwrap()});
            let body = json!({"SecretString": secret.to_string()}).to_string();
            async { Ok(Response::new(Full::new(Bytes::from(body)))) }
        });
        Self {
            endpoint,
            secret,
            reads,
        }
    }

    fn put(&self, secret: &str) {
        secret.clone_into(&mut self.secret.lock().unwrap());
    }

    fn source(&self) -> CredentialsSource {
        CredentialsSource::secrets_manager(&sdk_config(&self.endpoint), "arn".to_owned())
    }
}

/// A bridge that issued one token for the secret `first`, and from then on refuses it; with a client
/// that wants the next token.
async fn refusing(refusal: Reaction) -> (LocalBridge, SecretsManager, Bridge) {
    let issued = AtomicUsize::new(0);
    let options = Options {
        client_id: "id".to_owned(),
        client_secret: "second".to_owned(),
        ..at_token(move |arrival| {
            if !arrival.body.ends_with(b"first") {
                Reaction::Normal
            } else if issued.fetch_add(1, Ordering::Relaxed) == 0 {
                json_response(200, &json!({"access_token": "t"}))
            } else {
                refusal.clone()
            }
        })
    };
    let (bridge, secrets) = (start(&options).await, SecretsManager::start().await);
    let client = client_with(&bridge, secrets.source(), AuthMethod::Post, None);
    secrets.put("first");
    let rejected = token(&client).await.unwrap();
    client.tokens().discard(&rejected).await;
    assert_eq!(made(&secrets, &client), (1, 1));
    (bridge, secrets, client)
}

/// Reads of the secret and requests for a token since the last call.
fn made(secrets: &SecretsManager, client: &Bridge) -> (usize, u64) {
    let reads = secrets.reads.swap(0, Ordering::Relaxed);
    (reads, client.tokens().take_requests())
}

// proves: T4
#[tokio::test]
async fn any_refusal_reads_the_secret_again() {
    for (refusal, words) in refusals() {
        let (_bridge, secrets, client) = refusing(refusal).await;
        secrets.put("second");
        token(&client).await.unwrap();
        assert_eq!(made(&secrets, &client), (1, 2), "{words}");
    }
}

// proves: T4, T5
#[tokio::test]
async fn refused_secret_is_a_misconfiguration_and_forgotten() {
    for (refusal, words) in refusals() {
        let (bridge, secrets, client) = refusing(refusal).await;
        let error = token(&client).await.unwrap_err();
        assert_eq!(made(&secrets, &client), (1, 1), "{words}");
        assert!(matches!(error, TokenError::Misconfigured(_)), "{error:?}");
        let error = error.to_string();
        let expected = format!(
            "{} rejected the token request {words}. Check the client ID",
            bridge.token_url()
        );
        assert!(error.contains(&expected), "{error}");
        assert!(!error.contains("canary"), "{error}");
        assert!(!error.contains("first"), "{error}");

        secrets.put("second");
        token(&client).await.unwrap();
        assert_eq!(made(&secrets, &client), (1, 1), "{words}");
    }
}

#[tokio::test]
async fn rejected_client_is_told_the_lengths_of_its_credentials() {
    let options = Options::default();
    let bridge = start(&options).await;
    let swapped = Credentials::new(options.client_secret.clone(), options.client_id.clone());
    let client = client_with(
        &bridge,
        CredentialsSource::Variables(swapped),
        AuthMethod::Post,
        None,
    );
    let error = token(&client).await.unwrap_err().to_string();
    let expected = format!(
        "cannot get a token: {} rejected the token request (401 Unauthorized, invalid_client). \
         Check the client ID and secret, and that they are not swapped: the ID has 32 characters, \
         the secret 4. Also check BRIDGE_AUTH_ENDPOINT, BRIDGE_AUTH_METHOD and \
         BRIDGE_TOKEN_PARAMETERS, and that the client may use the client credentials grant",
        bridge.token_url()
    );
    assert_eq!(error, expected);
}

// proves: T5
#[tokio::test]
async fn token_responses_are_read_leniently() {
    let token = r#"{"access_token":"t","token_type":"Bearer","expires_in":600}"#;
    let mut responses = vec![
        Reaction::respond(201, "application/json", token),
        Reaction::respond(200, "application/hal+json; charset=utf-8", token),
        Reaction::respond(200, "text/plain", token),
        Reaction::respond(200, "application/json", format!("\u{feff}{token}")),
        Reaction::Respond {
            status: 200,
            headers: Vec::new(),
            body: token.to_owned(),
        },
        long_token(64 << 10),
    ];
    for (name, value) in [
        ("token_type", json!(null)),
        ("token_type", json!("BEARER")),
        ("token_type", json!("BearerToken")),
        ("scope", json!(["a", "b"])),
        ("scope", json!(null)),
        ("scope", json!({"a": 1})),
        ("refresh_token", json!(7)),
    ] {
        let mut body = json!({"access_token": "t", "token_type": "bearer", "expires_in": 600});
        body[name] = value;
        responses.push(json_response(200, &body));
    }
    responses.push(json_response(200, &json!({"access_token": "t"})));
    for response in responses {
        let shown = format!("{response:.200?}");
        let options = at_token(move |_| response.clone());
        let bridge = start(&options).await;
        let client = client(&bridge, &options, AuthMethod::Post, None);
        let received = client.tokens().token(Deadline::after(SOON)).await;
        received.unwrap_or_else(|error| panic!("{shown}: {error}"));
    }
}

fn lifetime(body: &str) -> Duration {
    match Answer::read(200, body.as_bytes()) {
        Answer::Token { lifetime, .. } => lifetime,
        other => panic!("{body}: {other:?}"),
    }
}

// proves: T1
#[test]
fn lifetime_is_that_of_expires_in_or_five_minutes() {
    for (expires_in, expected) in [
        ("3600", Duration::from_hours(1)),
        ("\"3600\"", Duration::from_hours(1)),
        ("\" 3600.0 \"", Duration::from_hours(1)),
        ("1.5", Duration::from_millis(1500)),
        ("36e2", Duration::from_hours(1)),
        ("0", SHORT_LIFETIME),
        ("0.5", SHORT_LIFETIME),
        ("-1", SHORT_LIFETIME),
        ("\"-3600\"", SHORT_LIFETIME),
        ("86401", MAX_LIFETIME),
        ("18446744073709551616", MAX_LIFETIME),
        ("1e300", MAX_LIFETIME),
        ("null", DEFAULT_LIFETIME),
        ("true", DEFAULT_LIFETIME),
        ("[60]", DEFAULT_LIFETIME),
        ("{\"seconds\":60}", DEFAULT_LIFETIME),
        ("\"\"", DEFAULT_LIFETIME),
        ("\"an hour\"", DEFAULT_LIFETIME),
        ("\"inf\"", DEFAULT_LIFETIME),
        ("\"NaN\"", DEFAULT_LIFETIME),
    ] {
        let body = format!(r#"{{"access_token":"t","expires_in":{expires_in}}}"#);
        assert_eq!(lifetime(&body), expected, "{expires_in}");
    }
    assert_eq!(lifetime(r#"{"access_token":"t"}"#), DEFAULT_LIFETIME);
    assert_eq!(DEFAULT_LIFETIME, Duration::from_mins(5));
}

proptest! {
    // proves: T1
    #[test]
    fn any_expires_in_gives_a_usable_lifetime(
        expires_in in prop_oneof![
            any::<f64>().prop_map(|number| json!(number)),
            any::<i64>().prop_map(|number| json!(number)),
            any::<u64>().prop_map(|number| json!(number.to_string())),
            any::<String>().prop_map(|text| json!(text)),
        ],
    ) {
        let body = json!({"access_token": "t", "expires_in": expires_in}).to_string();
        let lifetime = lifetime(&body);
        prop_assert!(lifetime >= Duration::from_secs(1) && lifetime <= MAX_LIFETIME);
    }

    // proves: T5
    #[test]
    fn any_response_shows_known_error_codes_only(
        status in 200_u16..500,
        body in prop_oneof![
            any::<Vec<u8>>(),
            "\\PC{0,40}".prop_map(|text| json!({"error": text}).to_string().into_bytes()),
        ],
    ) {
        if let Answer::Refused(Some(code)) = Answer::read(status, &body) {
            prop_assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
    }
}

// proves: T5
#[tokio::test]
async fn response_without_an_end_is_not_awaited() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
    serve(listener, None, |_: Request<Incoming>| async {
        let kibibyte = |_| Ok::<_, io::Error>(Frame::data(Bytes::from_static(&[b' '; 1 << 10])));
        let frames = stream::iter(0..65).map(kibibyte);
        Ok(Response::new(StreamBody::new(
            frames.chain(stream::pending()),
        )))
    });
    let options = Options::default();
    let bridge = start(&options).await;
    let client = client_with_token_url(&bridge, &options, &endpoint, None);
    let error = token(&client).await.unwrap_err().to_string();
    assert!(error.contains("with more than 64 KiB"), "{error}");
}

// proves: T10
#[tokio::test]
async fn parameters_and_queries_are_sent() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Mutex<Vec<(String, String)>>>::default();
    let record = seen.clone();
    serve(listener, None, move |request: Request<Incoming>| {
        let record = record.clone();
        async move {
            let uri = request.uri().to_string();
            let body = request
                .into_body()
                .collect()
                .await
                .map_err(io::Error::other)?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            record.lock().unwrap().push((uri, body));
            let token = json!({"access_token": "t"}).to_string();
            Ok(Response::new(Full::new(Bytes::from(token))))
        }
    });
    for (method, identity) in [
        (AuthMethod::Post, "client_id=tap&client_secret=s&"),
        (AuthMethod::Basic, ""),
    ] {
        let endpoints = Endpoints {
            edge: format!("http://{address}/edge?api-version=1&code=a%20b")
                .parse()
                .unwrap(),
            token: format!("http://{address}/token?grant_type=client_credentials")
                .parse()
                .unwrap(),
            method,
            parameters: TokenParameters::parse("scope=a+b%2Fc&resource=x&resource=https://y/?z=1")
                .unwrap(),
            bridge_ca: None,
        };
        let source = CredentialsSource::Variables(Credentials::new("tap", "s"));
        let client = Bridge::new(endpoints, source, BACKOFF, 1).unwrap();
        let shown = format!("{client:?}");
        assert!(
            !shown.contains("api-version") && !shown.contains("b/c"),
            "{shown}"
        );
        deliver(&client).await.unwrap();
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        let form = format!(
            "grant_type=client_credentials&{identity}scope=a+b%2Fc&resource=x&resource=https%3A%2F%2Fy%2F%3Fz%3D1"
        );
        assert_eq!(
            seen[0],
            ("/token?grant_type=client_credentials".to_owned(), form)
        );
        assert_eq!(seen[1].0, "/edge?api-version=1&code=a%20b");
    }
}

#[test]
fn reserved_and_malformed_parameters_are_refused() {
    use ParametersError::{Invalid, Reserved};
    for (text, expected) in [
        ("", Ok(())),
        (" scope=a b&&x.y-z_1= ", Ok(())),
        ("scope=a&audience", Err(Invalid { position: 2 })),
        ("=a", Err(Invalid { position: 1 })),
        ("a b=c", Err(Invalid { position: 1 })),
        ("%73cope=a", Err(Invalid { position: 1 })),
        ("&a=b&&grant_type=password", Err(Reserved { position: 2 })),
        ("CLIENT_ID=a", Err(Reserved { position: 1 })),
        ("client_secret=a", Err(Reserved { position: 1 })),
        ("client_assertion=a", Err(Reserved { position: 1 })),
        ("client_assertion_type=a", Err(Reserved { position: 1 })),
    ] {
        assert_eq!(TokenParameters::parse(text).map(|_| ()), expected, "{text}");
    }
}

// proves: T7
#[tokio::test]
async fn stalled_token_endpoint_respects_the_deadline() {
    let options = at_token(|_| Reaction::After(Duration::from_mins(5)));
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let token = client
        .tokens()
        .token(Deadline::after(Duration::from_millis(100)));
    let token = tokio::time::timeout(SOON, token)
        .await
        .expect("it waited for the endpoint");
    assert!(matches!(token, Err(TokenError::Later { .. })));
}

fn over_tls(certificates: &Certificates) -> Options {
    Options {
        tls: Some(certificates.server.clone()),
        ..Options::default()
    }
}

/// A client of `bridge` that reaches the token endpoint at another URL.
fn client_with_token_url(
    bridge: &LocalBridge,
    options: &Options,
    token_url: &str,
    bridge_ca: Option<String>,
) -> Bridge {
    let endpoints = Endpoints {
        edge: bridge.edge_url().parse().unwrap(),
        token: token_url.parse().unwrap(),
        method: AuthMethod::Post,
        parameters: TokenParameters::default(),
        bridge_ca,
    };
    let credentials = CredentialsSource::Variables(credentials(options));
    Bridge::new(endpoints, credentials, BACKOFF, 1).unwrap()
}

/// Delivers a small log; returns the reason if the bridge could not be reached.
async fn delivers(options: &Options, bridge_ca: Option<String>) -> Result<(), String> {
    let bridge = start(options).await;
    deliver(&client(&bridge, options, AuthMethod::Post, bridge_ca)).await
}

async fn deliver(client: &Bridge) -> Result<(), String> {
    let job = Job::all(ObjectRef::local("log"));
    let attempt = Attempt {
        deadline: Deadline::after(SOON),
        number: 1,
    };
    let bytes = std::io::Cursor::new(log(3));
    let outcome = ingest(&job, bytes, &rules(Limits::default()), client, attempt).await;
    outcome.why().map_or(Ok(()), Err)
}

// proves: T9
#[tokio::test]
async fn tls_trusts_only_matching_operator_certificates() {
    let private = certificates(Kind::PrivateCa, &["127.0.0.1"]);
    let self_signed = certificates(Kind::SelfSigned, &["127.0.0.1"]);
    let other_name = certificates(Kind::SelfSigned, &["bridge.example.com"]);
    let misnamed = certificates(Kind::PrivateCa, &["bridge.example.com"]);
    let unknown_ca = Some("certificate was not issued by a trusted CA");
    let wrong_key = Some("certificate names a trusted issuer, but another key signed it");
    let wrong_name = Some("certificate is not valid for this host name");
    for (options, bridge_ca, problem) in [
        (over_tls(&private), None, unknown_ca),
        (over_tls(&private), private.ca_pem.clone(), None),
        (
            over_tls(&private),
            Some(self_signed.own_pem.clone()),
            unknown_ca,
        ),
        (over_tls(&self_signed), None, unknown_ca),
        (
            over_tls(&self_signed),
            Some(self_signed.own_pem.clone()),
            None,
        ),
        (
            over_tls(&self_signed),
            Some(other_name.own_pem.clone()),
            wrong_key,
        ),
        // A pinned certificate is trusted whatever host name it is for.
        (
            over_tls(&other_name),
            Some(other_name.own_pem.clone()),
            None,
        ),
        // A file may contain several certificates.
        (
            over_tls(&self_signed),
            Some(other_name.own_pem.clone() + &self_signed.own_pem),
            None,
        ),
        (over_tls(&misnamed), misnamed.ca_pem.clone(), wrong_name),
        (over_tls(&misnamed), private.ca_pem.clone(), wrong_key),
    ] {
        match (delivers(&options, bridge_ca.clone()).await, problem) {
            (Ok(()), None) => {}
            (Err(why), Some(problem)) if why.contains(problem) => {}
            (delivered, _) => panic!("{delivered:?} with {bridge_ca:?}, expected {problem:?}"),
        }
    }
}

#[tokio::test]
async fn tls_errors_are_in_plain_words() {
    let ca = certificates(Kind::SelfSignedCa, &["127.0.0.1"]);
    let why = delivers(&over_tls(&ca), None).await.unwrap_err();
    assert!(
        why.contains("certificate is self-signed (or a CA certificate) and not trusted"),
        "{why}"
    );
    assert!(why.contains("must be in BRIDGE_CA_FILE"), "{why}");

    let options = Options::default();
    let plain = start(&options).await;
    let https = plain.token_url().replace("http:", "https:");
    let client = client_with_token_url(&plain, &options, &https, None);
    let why = token(&client).await.unwrap_err().to_string();
    assert!(why.contains("does not speak TLS on this port"), "{why}");
}

// proves: T9
#[tokio::test]
async fn authorities_serve_both_hosts_and_a_pin_one() {
    // The token endpoint has another host name here than the bridge's 127.0.0.1.
    let names = ["127.0.0.1", "localhost"];
    let private = certificates(Kind::PrivateCa, &names);
    let pin = certificates(Kind::SelfSigned, &names);
    let ca_pin = certificates(Kind::SelfSignedCa, &names);
    for (server, pem, problem) in [
        (&private, private.ca_pem.clone(), None),
        (
            &private,
            private.ca_pem.clone().map(|ca| pin.own_pem.clone() + &ca),
            None,
        ),
        (&private, None, Some("was not issued by a trusted CA")),
        // A server's certificate does not make its key an authority.
        (
            &private,
            Some(private.own_pem.clone()),
            Some("was not issued by a trusted CA"),
        ),
        (
            &pin,
            Some(pin.own_pem.clone()),
            Some("was not issued by a trusted CA"),
        ),
        (
            &ca_pin,
            Some(ca_pin.own_pem.clone()),
            Some("self-signed (or a CA certificate)"),
        ),
    ] {
        let options = over_tls(server);
        let bridge = start(&options).await;
        let localhost = bridge.token_url().replace("127.0.0.1", "localhost");
        let client = client_with_token_url(&bridge, &options, &localhost, pem.clone());
        match (token(&client).await, problem) {
            (Ok(_), None) => deliver(&client).await.unwrap(),
            (Err(error), Some(problem)) => {
                let error = error.to_string();
                assert!(error.contains(problem), "{error}");
                let hint = "A private CA must be in BRIDGE_CA_FILE, or in bridge_ca of the secret. \
                            A self-signed certificate is trusted for the bridge's host (127.0.0.1) only";
                assert!(error.ends_with(hint), "{error}");
            }
            (received, _) => panic!("{received:?} with {pem:?}, expected {problem:?}"),
        }
    }
}

// proves: T9
#[tokio::test]
async fn bridge_ca_of_the_secret_is_trusted() {
    let certificates = certificates(Kind::SelfSigned, &["127.0.0.1"]);
    let options = over_tls(&certificates);
    let bridge = start(&options).await;
    let with_ca = Credentials {
        bridge_ca: Some(certificates.own_pem),
        ..credentials(&options)
    };
    let client = client_with(
        &bridge,
        CredentialsSource::Variables(with_ca),
        AuthMethod::Post,
        None,
    );
    token(&client).await.unwrap();
}

//! OAuth 2.0 client credentials, and which certificates are trusted.

use std::sync::Arc;
use std::time::Duration;

use edgetap::batch::Limits;
use edgetap::bridge::{Attempt, Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::ingest::ingest;
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{LocalBridge, Options, Reaction};
use edgetap::time::Deadline;
use edgetap::token::{AuthMethod, Token, TokenError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;

use crate::support::{BACKOFF, at_token, client, client_with, credentials, log, rules, start};

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
            json_response(400, &json!({"error": "unauthorized_client"})),
            "(unauthorized_client)",
        ),
        (
            json_response(
                400,
                &json!({"error": "invalid_scope", "error_description": "canary-description"}),
            ),
            "(invalid_scope)",
        ),
        (
            json_response(400, &json!({"error": "canary-error"})),
            "an error code that RFC 6749 does not define",
        ),
        (
            json_response(401, &json!({"error": "invalid_client"})),
            "(invalid_client)",
        ),
        (
            json_response(
                200,
                &json!({"access_token": "canary-token", "token_type": "mac", "expires_in": 60}),
            ),
            "not a bearer token",
        ),
        (
            json_response(200, &json!({"token": "canary-token"})),
            "returned 200 without an OAuth 2.0 token response",
        ),
        (
            Reaction::status(404),
            "returned 404 without an OAuth 2.0 token response",
        ),
        (redirect, "redirect"),
        (Reaction::respond(200, "text/html", "<html>"), "HTML page"),
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
        "cannot get a token: {} rejected the OAuth client (invalid_client). \
         Check the client ID and secret, and that they are not \
         swapped: the ID has 32 characters, the secret 4. Also check BRIDGE_AUTH_METHOD",
        bridge.token_url()
    );
    assert_eq!(error, expected);
}

// proves: T1
#[tokio::test]
async fn token_without_expires_in_lives_five_minutes() {
    let options =
        at_token(|_| json_response(200, &json!({"access_token": "t", "token_type": "bearer"})));
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let left = token(&client).await.unwrap().time_left();
    assert!((290..=300).contains(&left.as_secs()), "{left:?}");
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

/// A server with a certificate that is self-signed or issued by a private CA.
struct Certificates {
    server: Arc<rustls::ServerConfig>,
    own_pem: String,
    ca_pem: Option<String>,
}

#[derive(Clone, Copy)]
enum Kind {
    PrivateCa,
    SelfSigned,
    SelfSignedCa,
}

fn certificates(kind: Kind, names: &[&str]) -> Certificates {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca_params
        .distinguished_name
        .push(DnType::CommonName, "Private CA");
    let (certificate, ca_pem) = match kind {
        Kind::PrivateCa => {
            let ca = CertifiedIssuer::self_signed(ca_params, KeyPair::generate().unwrap()).unwrap();
            (params.signed_by(&key, &ca).unwrap(), Some(ca.pem()))
        }
        Kind::SelfSigned => (params.self_signed(&key).unwrap(), None),
        Kind::SelfSignedCa => {
            params.is_ca = ca_params.is_ca;
            (params.self_signed(&key).unwrap(), None)
        }
    };
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )
    .unwrap();
    Certificates {
        server: Arc::new(server),
        own_pem: certificate.pem(),
        ca_pem,
    }
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
        bridge_ca,
    };
    let credentials = CredentialsSource::Variables(credentials(options));
    Bridge::new(endpoints, credentials, BACKOFF, 1).unwrap()
}

/// Delivers a small log; returns the reason if the bridge could not be reached.
async fn delivers(options: &Options, bridge_ca: Option<String>) -> Result<(), String> {
    let bridge = start(options).await;
    let client = client(&bridge, options, AuthMethod::Post, bridge_ca);
    let job = Job::all(ObjectRef::local("log"));
    let attempt = Attempt {
        deadline: Deadline::after(SOON),
        number: 1,
    };
    let bytes = std::io::Cursor::new(log(3));
    let outcome = ingest(&job, bytes, &rules(Limits::default()), &client, attempt).await;
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
async fn own_certificates_are_trusted_for_the_bridge_only() {
    // The token endpoint has another host name here, "localhost", for which nothing is pinned.
    let certificates = certificates(Kind::SelfSigned, &["127.0.0.1", "localhost"]);
    let options = over_tls(&certificates);
    let bridge = start(&options).await;
    let localhost = bridge.token_url().replace("127.0.0.1", "localhost");
    let own = Some(certificates.own_pem);
    let client = client_with_token_url(&bridge, &options, &localhost, own);
    let error = token(&client).await.unwrap_err().to_string();
    assert!(
        error.contains("certificate was not issued by a trusted CA"),
        "{error}"
    );
    assert!(
        error.contains("trusted for the bridge's host (127.0.0.1) only"),
        "{error}"
    );
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

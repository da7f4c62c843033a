//! OAuth 2.0 client credentials, and whose certificates are believed.

use std::sync::Arc;
use std::time::Duration;

use edgetap::batch::Limits;
use edgetap::credentials::CredentialsSource;
use edgetap::ingest::{Outcome, Why, ingest};
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{Endpoint, Options, Reaction};
use edgetap::retry::Deadline;
use edgetap::token::{AuthMethod, TokenError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;

use crate::support::{client, client_with, log, rules, start};

const SOON: Duration = Duration::from_secs(20);

/// What the token endpoint does.
fn at_token(react: impl Fn(u64) -> Reaction + Send + Sync + 'static) -> Options {
    Options {
        react: Arc::new(move |arrival| {
            if arrival.endpoint == Endpoint::Token {
                react(arrival.number)
            } else {
                Reaction::Normal
            }
        }),
        ..Options::default()
    }
}

fn response(status: u16, body: &serde_json::Value) -> Reaction {
    Reaction::Respond {
        status,
        headers: vec![("content-type", "application/json".to_owned())],
        body: body.to_string(),
    }
}

#[tokio::test]
async fn any_character_in_id_and_secret_and_both_ways_of_authenticating() {
    let nasty = [
        "plain",
        "a&b=c+d%20e:f g",
        "$(rm -rf) `x` \"'\\#;|",
        "pässwörd–€🔑",
        "%41%%",
        " leading and trailing ",
    ];
    for method in [AuthMethod::Post, AuthMethod::Basic] {
        for secret in nasty {
            let options = Options {
                client_id: format!("id {secret}"),
                client_secret: secret.to_owned(),
                ..Options::default()
            };
            let bridge = start(&options).await;
            let client = client(&bridge, &options, method, None);
            client
                .tokens()
                .token(Deadline::after(SOON))
                .await
                .unwrap_or_else(|error| panic!("{method:?} {secret}: {error}"));
        }
    }
}

#[tokio::test]
async fn many_tasks_make_one_request_and_the_token_is_kept() {
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

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_expiry() {
    // Of two seconds the margin takes half.
    let options = Options {
        token_lifetime: Duration::from_secs(2),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let first = client
        .tokens()
        .token(Deadline::after(SOON))
        .await
        .unwrap()
        .authorization();
    assert_eq!(
        client
            .tokens()
            .token(Deadline::after(SOON))
            .await
            .unwrap()
            .authorization(),
        first
    );
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_ne!(
        client
            .tokens()
            .token(Deadline::after(SOON))
            .await
            .unwrap()
            .authorization(),
        first
    );
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_ahead_of_time_is_used_until_its_time() {
    let options = Options {
        token_lifetime: Duration::from_secs(4),
        ..at_token(|number| {
            if number == 1 {
                Reaction::Normal
            } else {
                Reaction::status(503)
            }
        })
    };
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let first = client
        .tokens()
        .token(Deadline::after(SOON))
        .await
        .unwrap()
        .authorization();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(
        client
            .tokens()
            .token(Deadline::after(SOON))
            .await
            .unwrap()
            .authorization(),
        first
    );
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(matches!(
        client.tokens().token(Deadline::after(SOON)).await,
        Err(TokenError::Later { .. })
    ));
}

#[tokio::test]
async fn a_refused_token_that_was_replaced_meanwhile_is_not_fetched_again() {
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

#[tokio::test]
async fn what_may_pass_at_the_token_endpoint_is_tried_again() {
    for reaction in [408, 429, 500, 502, 503, 504]
        .map(Reaction::status)
        .into_iter()
        .chain([Reaction::HangUp])
    {
        let options = at_token(move |number| {
            if number <= 3 {
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

#[tokio::test]
async fn what_will_not_pass_at_the_token_endpoint_is_told_in_words() {
    let html = Reaction::Respond {
        status: 200,
        headers: vec![("content-type", "text/html".to_owned())],
        body: "<html>".to_owned(),
    };
    for (reaction, words) in [
        (
            response(400, &json!({"error": "unauthorized_client"})),
            "unauthorized_client",
        ),
        (
            response(
                400,
                &json!({"error": "invalid_scope", "error_description": "canary-description"}),
            ),
            "invalid_scope",
        ),
        (
            response(400, &json!({"error": "canary-error"})),
            "an error of its own",
        ),
        (
            response(401, &json!({"error": "invalid_client"})),
            "invalid_client",
        ),
        (
            response(
                200,
                &json!({"access_token": "canary-token", "token_type": "mac", "expires_in": 60}),
            ),
            "not a bearer token",
        ),
        (
            response(200, &json!({"token": "canary-token"})),
            "something else",
        ),
        (Reaction::status(404), "answers 404 with something else"),
        (
            Reaction::Respond {
                status: 302,
                headers: vec![("location", "/login".to_owned())],
                body: String::new(),
            },
            "redirect",
        ),
        (html, "web page"),
    ] {
        let shown = reaction.clone();
        let options = at_token(move |_| reaction.clone());
        let bridge = start(&options).await;
        let client = client(&bridge, &options, AuthMethod::Post, None);
        let error = client
            .tokens()
            .token(Deadline::after(SOON))
            .await
            .unwrap_err();
        let TokenError::Misconfigured(text) = &error else {
            panic!("{shown:?}: {error:?}")
        };
        assert!(
            text.contains(words) && text.contains(&bridge.token_url()),
            "{shown:?}: {text}"
        );
        assert!(
            !format!("{error:?}").contains("canary")
                && !format!("{error:?}").contains(&options.client_secret)
        );
    }
}

#[tokio::test]
async fn without_expires_in_a_token_lives_five_minutes() {
    let options =
        at_token(|_| response(200, &json!({"access_token": "t", "token_type": "bearer"})));
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let left = client
        .tokens()
        .token(Deadline::after(SOON))
        .await
        .unwrap()
        .time_left();
    assert!((290..=300).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn a_token_endpoint_that_stalls_costs_no_more_than_the_deadline() {
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

/// A server's certificate: signed by itself, or by a private authority.
struct Certificates {
    server: Arc<rustls::ServerConfig>,
    own_pem: String,
    authority_pem: Option<String>,
}

fn certificates(by_authority: bool, names: &[&str]) -> Certificates {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let (certificate, authority_pem) = if by_authority {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), Some(issuer.pem()))
    } else {
        (params.self_signed(&key).unwrap(), None)
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
        authority_pem,
    }
}

async fn delivers(options: &Options, bridge_ca: Option<String>) -> Result<(), String> {
    let bridge = start(options).await;
    let client = client(&bridge, options, AuthMethod::Post, bridge_ca);
    let job = Job::all(ObjectRef::local("log"));
    let session = client.session(Deadline::after(SOON));
    match ingest(
        &job,
        std::io::Cursor::new(log(3)),
        &rules(Limits::default()),
        &session,
        1,
    )
    .await
    {
        Outcome::Complete(_) => Ok(()),
        Outcome::Partial {
            why: Why::Later(why),
            ..
        } => Err(why),
        other @ Outcome::Partial { .. } => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn private_and_self_signed_certificates_over_real_tls() {
    let private = certificates(true, &["127.0.0.1"]);
    let self_signed = certificates(false, &["127.0.0.1"]);
    let other_name = certificates(false, &["bridge.example.com"]);
    let over = |certificates: &Certificates| Options {
        tls: Some(certificates.server.clone()),
        ..Options::default()
    };

    for (options, bridge_ca, believed) in [
        (over(&private), None, false),
        (over(&private), private.authority_pem.clone(), true),
        (over(&private), Some(self_signed.own_pem.clone()), false),
        (over(&self_signed), None, false),
        (over(&self_signed), Some(self_signed.own_pem.clone()), true),
        (over(&self_signed), Some(other_name.own_pem.clone()), false),
        // The very certificate named by the operator, whatever name it bears.
        (over(&other_name), Some(other_name.own_pem.clone()), true),
        // Several in one file.
        (
            over(&self_signed),
            Some(other_name.own_pem.clone() + &self_signed.own_pem),
            true,
        ),
        (
            over(&certificates(true, &["bridge.example.com"])),
            private.authority_pem.clone(),
            false,
        ),
    ] {
        let delivered = delivers(&options, bridge_ca.clone()).await;
        assert_eq!(
            delivered.is_ok(),
            believed,
            "{delivered:?} with {bridge_ca:?}"
        );
        if let Err(why) = delivered {
            assert!(why.contains("certificate"), "{why}");
        }
    }
}

#[tokio::test]
async fn the_operators_certificates_count_for_the_bridges_host_only() {
    // The token endpoint is another host here ("localhost"), whose certificate nobody named for it.
    let certificates = certificates(false, &["127.0.0.1", "localhost"]);
    let options = Options {
        tls: Some(certificates.server.clone()),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let endpoints = edgetap::bridge::Endpoints {
        edge: bridge.edge_url().parse().unwrap(),
        token: bridge
            .token_url()
            .replace("127.0.0.1", "localhost")
            .parse()
            .unwrap(),
        method: AuthMethod::Post,
        bridge_ca: Some(certificates.own_pem),
    };
    let credentials = edgetap::credentials::Credentials::new(
        options.client_id.clone(),
        options.client_secret.clone(),
    );
    let client = edgetap::bridge::Bridge::new(
        endpoints,
        CredentialsSource::Variables(credentials),
        crate::support::BACKOFF,
    )
    .unwrap();
    let error = client
        .tokens()
        .token(Deadline::after(SOON))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn certificates_of_the_secret_are_believed_too() {
    let certificates = certificates(false, &["127.0.0.1"]);
    let options = Options {
        tls: Some(certificates.server.clone()),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let credentials = edgetap::credentials::Credentials {
        bridge_ca: Some(certificates.own_pem),
        ..edgetap::credentials::Credentials::new(
            options.client_id.clone(),
            options.client_secret.clone(),
        )
    };
    let client = client_with(
        &bridge,
        CredentialsSource::Variables(credentials),
        AuthMethod::Post,
        None,
    );
    client.tokens().token(Deadline::after(SOON)).await.unwrap();
}

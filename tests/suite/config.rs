//! Variables and `.env` files.

use edgetap::config::{Config, CredentialsConfig, Problems, SETTINGS, Variables};
use edgetap::dotenv;
use edgetap::token::AuthMethod;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::support::fixtures;

const COMPLETE: [(&str, &str); 4] = [
    ("BRIDGE_CLIENT_ID", "tap"),
    ("BRIDGE_CLIENT_SECRET", "canary$(x)"),
    ("BRIDGE_AUTH_ENDPOINT", "https://auth.tenant.example.com"),
    (
        "BRIDGE_EDGE_ENDPOINT",
        "https://edge.tenant.example.com:9443/",
    ),
];

fn pairs<'a>(pairs: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Vec<(String, String)> {
    pairs
        .into_iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn read(more: &[(&str, &str)]) -> Result<Config, Problems> {
    let mut all = pairs(&COMPLETE);
    all.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    all.extend(pairs(more));
    Config::read(&Variables::from_pairs(all)?)
}

#[test]
fn four_variables_are_enough_and_urls_without_a_path_get_one() {
    let config = read(&[]).unwrap();
    let endpoints = &config.bridge.endpoints;
    assert_eq!(
        endpoints.token.as_str(),
        "https://auth.tenant.example.com/auth/realms/cequence/protocol/openid-connect/token"
    );
    assert_eq!(
        endpoints.edge.as_str(),
        "https://edge.tenant.example.com:9443/api-transactions"
    );
    assert_eq!(
        (endpoints.method, config.bridge.concurrency),
        (AuthMethod::Post, 4)
    );
    assert_eq!(
        (config.rules.limits.transactions, config.rules.limits.bytes),
        (250, 1_000_000)
    );
    assert!(
        !format!("{config:?}").contains("canary"),
        "Debug shows no secret"
    );
}

#[test]
fn a_vendor_env_file_works_unchanged() {
    let text = "tf_auto_approve=true\n\
                cequence_client_id=\"tap\"\n\
                cequence_client_secret='s$e(c&r#e t'\n\
                cequence_auth_endpoint=auth.tenant.example.com\n\
                cequence_edge_endpoint=edge.tenant.example.com # theirs\n\
                cequence_log_level=DEBUG\n";
    let config =
        Config::read(&Variables::from_pairs(dotenv::parse(text).unwrap()).unwrap()).unwrap();
    let CredentialsConfig::Given(credentials) = config.bridge.secret else {
        panic!()
    };
    assert_eq!(
        (
            credentials.client_id.expose_secret(),
            credentials.client_secret.expose_secret()
        ),
        ("tap", "s$e(c&r#e t")
    );
    assert_eq!(
        config.bridge.endpoints.edge.as_str(),
        "https://edge.tenant.example.com/api-transactions"
    );
    assert_eq!(config.log_level, tracing::Level::DEBUG);
}

#[test]
fn every_problem_is_told_at_once_by_the_name_of_its_variable_and_without_its_value() {
    let Problems(problems) = read(&[
        ("BRIDGE_CLIENT_SECRET", ""),
        ("BRIDGE_AUTH_ENDPOINT", "http://auth.canary.example.com"),
        (
            "BRIDGE_EDGE_ENDPOINT",
            "https://user:canary@edge.example.com",
        ),
        ("BRIDGE_AUTH_METHOD", "canary"),
        ("BRIDGE_CONCURRENCY", "0"),
        ("BATCH_MAX_TRANSACTIONS", "251"),
        ("BATCH_MAX_BYTES", "1e6"),
        ("STATIC_EXTENSIONS", "css,+canary"),
        ("LOG_LEVEL", "2"),
        ("BRIDGE_CA_FILE", "/nowhere/bridge.pem"),
    ])
    .unwrap_err();
    let mut names: Vec<_> = problems
        .iter()
        .map(|problem| problem.name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "BATCH_MAX_BYTES",
            "BATCH_MAX_TRANSACTIONS",
            "BRIDGE_AUTH_ENDPOINT",
            "BRIDGE_AUTH_METHOD",
            "BRIDGE_CA_FILE",
            "BRIDGE_CLIENT_SECRET",
            "BRIDGE_CONCURRENCY",
            "BRIDGE_EDGE_ENDPOINT",
            "LOG_LEVEL",
            "STATIC_EXTENSIONS"
        ]
    );
    assert!(!format!("{problems:?}").contains("canary"));
}

#[test]
fn what_is_refused() {
    for (name, value, words) in [
        (
            "BRIDGE_AUTH_ENDPOINT",
            "ftp://a.example.com",
            "neither https nor http",
        ),
        ("BRIDGE_AUTH_ENDPOINT", "https://", "not a URL"),
        (
            "BRIDGE_EDGE_ENDPOINT",
            "https://a.example.com/x?y=z",
            "query",
        ),
        ("BRIDGE_EDGE_ENDPOINT", "http://10.0.0.1", "in the clear"),
        (
            "BRIDGE_EDGE_ENDPOINT",
            "http://localhost.example.com",
            "in the clear",
        ),
        (
            "BRIDGE_SECRET_ARN",
            "arn:aws:secretsmanager:x",
            "one of the two ways",
        ),
        ("BRIDGE_EDGE_ENPOINT", "https://a.example.com", "no setting"),
        ("REDACT", "yes", "neither on nor off"),
        ("redact_cookies", "mask", "none of keep, drop, hash"),
        ("REDACT_COOKIES", "hash", "REDACTION_KEY is not set"),
        ("EXCLUDE_PATHS", "health", "does not begin with /"),
        ("EXCLUDE_PATHS", "/a[", "is none: unclosed character class"),
        ("cequence_client_id", "another", "set twice"),
    ] {
        let problems = read(&[(name, value)]).unwrap_err().to_string();
        assert!(problems.contains(words), "{name}={value}: {problems}");
    }
}

#[test]
fn what_is_accepted() {
    for (name, value) in [
        ("BRIDGE_AUTH_ENDPOINT", "http://127.0.0.1:8787"),
        ("BRIDGE_EDGE_ENDPOINT", "http://localhost:8787/other/path"),
        ("BRIDGE_EDGE_ENDPOINT", "http://[::1]:8787"),
        ("BRIDGE_AUTH_METHOD", "client_secret_basic"),
        ("LOG_LEVEL", "TRACE"),
        ("cequence_client_id", "tap"),
        ("TF_AUTO_APPROVE", "true"),
        ("PATH", "/usr/bin"),
        ("BATCH_MAX_BYTES", "10000000"),
    ] {
        read(&[(name, value)]).unwrap_or_else(|problems| panic!("{name}={value}: {problems}"));
    }
}

#[test]
fn a_secret_by_its_arn_needs_no_credentials() {
    let variables = [
        COMPLETE[2],
        COMPLETE[3],
        (
            "BRIDGE_SECRET_ARN",
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:edgetap",
        ),
    ];
    let config = Config::read(&Variables::from_pairs(pairs(&variables)).unwrap()).unwrap();
    assert!(
        matches!(config.bridge.secret, CredentialsConfig::Arn(arn) if arn.ends_with(":edgetap"))
    );
}

/// The one table of cases: the scripts are to read `.env` files in the same way.
#[test]
fn env_files_are_read_as_the_table_says() {
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(fixtures().join("dotenv/cases.json")).unwrap())
            .unwrap();
    for case in cases {
        let text = format!(
            "# before\n\n{}\nAFTER='after'\n",
            case["line"].as_str().unwrap()
        );
        match (dotenv::parse(&text), &case["error"]) {
            (Ok(variables), Value::Null) => {
                assert_eq!(
                    variables.get("NAME").map(String::as_str),
                    case["value"].as_str(),
                    "{case}"
                );
                assert_eq!(variables["AFTER"], "after");
            }
            (Err(errors), Value::String(words)) => {
                assert!(
                    errors.len() == 1
                        && errors[0].line == 3
                        && errors[0].what.contains(words.as_str()),
                    "{case}: {errors:?}"
                );
            }
            (found, _) => panic!("{case}: {found:?}"),
        }
    }
    assert!(
        dotenv::parse("A=1\r\nA=2\r\n").unwrap_err()[0]
            .what
            .contains("set before")
    );
}

#[test]
fn the_example_file_is_one() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example")).unwrap();
    let variables = dotenv::parse(&text).unwrap();
    let required: Vec<_> = SETTINGS
        .iter()
        .filter(|setting| setting.default.is_none())
        .map(|setting| setting.name)
        .collect();
    let mut set: Vec<_> = variables.keys().map(String::as_str).collect();
    set.sort_unstable();
    let mut wanted = required.clone();
    wanted.sort_unstable();
    assert_eq!(
        set, wanted,
        "the required ones are there to be filled in, the others are commented out"
    );
}

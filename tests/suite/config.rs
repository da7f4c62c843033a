//! Variables and `.env` files.

use std::process::Command;

use edgetap::batch::Limits;
use edgetap::config::{Config, CredentialsConfig, Problems, Variables};
use edgetap::dotenv;
use edgetap::token::AuthMethod;
use jiff::SignedDuration;
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
    Config::read(&Variables::from_pairs(all))
}

fn messages(problems: &Problems) -> Vec<&str> {
    problems
        .0
        .iter()
        .map(|problem| problem.message.as_str())
        .collect()
}

#[test]
fn required_settings_suffice_and_urls_get_a_default_path() {
    let config = read(&[]).unwrap();
    let endpoints = &config.bridge.endpoints;
    assert_eq!(
        endpoints.token.url().as_str(),
        "https://auth.tenant.example.com/auth/realms/cequence/protocol/openid-connect/token"
    );
    assert_eq!(
        endpoints.edge.url().as_str(),
        "https://edge.tenant.example.com:9443/api-transactions"
    );
    assert_eq!(endpoints.method, AuthMethod::Post);
    assert_eq!(config.bridge.concurrency, 10);
    assert_eq!(config.rules.limits, Limits::default());
    assert_eq!(config.retry_for, SignedDuration::from_hours(72));
    assert_eq!(config.log_level, tracing::Level::INFO);
    assert!(
        !format!("{config:?}").contains("canary"),
        "Debug shows no secret"
    );
}

// proves: T10
#[test]
fn query_of_an_endpoint_is_kept_and_not_shown() {
    let config = read(&[
        ("BRIDGE_AUTH_ENDPOINT", "auth.example.com?code=canary&a=%20"),
        (
            "BRIDGE_EDGE_ENDPOINT",
            "https://edge.example.com/x?code=canary",
        ),
        ("BRIDGE_TOKEN_PARAMETERS", "scope=canary"),
    ])
    .unwrap();
    let endpoints = &config.bridge.endpoints;
    assert_eq!(
        endpoints.token.url().as_str(),
        "https://auth.example.com/auth/realms/cequence/protocol/openid-connect/token?code=canary&a=%20"
    );
    assert_eq!(
        endpoints.edge.url().as_str(),
        "https://edge.example.com/x?code=canary"
    );
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn requests_in_flight_must_fit_into_the_functions_memory() {
    for (memory, concurrency, bytes, most) in [
        ("", "64", "10000000", None),
        ("10240", "64", "10000000", None),
        ("512", "64", "10000000", Some("234881024")),
        ("512", "24", "10000000", Some("234881024")),
        ("512", "23", "10000000", None),
        ("128", "10", "1000000", None),
        ("128", "34", "1000000", Some("33554432")),
        ("64", "1", "1000", Some("0")),
    ] {
        let found = read(&[
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory),
            ("BRIDGE_CONCURRENCY", concurrency),
            ("BATCH_MAX_BYTES", bytes),
        ]);
        let expected = most.map(|most| {
            format!(
                "`BRIDGE_CONCURRENCY` × `BATCH_MAX_BYTES` is too much for {memory} MB of memory \
                 (lower one of them so that the product is {most} or less, or raise the function's memory)"
            )
        });
        let found = found.err().map(|problems| problems.to_string());
        assert_eq!(found, expected, "{memory} {concurrency} {bytes}");
    }
}

#[test]
fn vendor_env_file_works_unchanged() {
    let text = "tf_auto_approve=true\n\
                cequence_client_id=\"tap\"\n\
                cequence_client_secret='s$e(c&r#e t'\n\
                cequence_auth_endpoint=auth.tenant.example.com\n\
                cequence_edge_endpoint=edge.tenant.example.com # theirs\n\
                cequence_log_level=DEBUG\n";
    let config = Config::read(&Variables::from_dotenv(text, ".env")).unwrap();
    let CredentialsConfig::Given(credentials) = config.bridge.credentials else {
        panic!()
    };
    assert_eq!(credentials.client_id.expose_secret(), "tap");
    assert_eq!(credentials.client_secret.expose_secret(), "s$e(c&r#e t");
    assert_eq!(
        config.bridge.endpoints.edge.url().as_str(),
        "https://edge.tenant.example.com/api-transactions"
    );
    assert_eq!(config.log_level, tracing::Level::DEBUG);
}

#[test]
fn all_problems_are_reported_without_values() {
    let problems = read(&[
        ("BRIDGE_CLIENT_SECRET", ""),
        ("BRIDGE_AUTH_ENDPOINT", "http://auth.canary.example.com"),
        (
            "BRIDGE_EDGE_ENDPOINT",
            "https://user:canary@edge.example.com",
        ),
        ("BRIDGE_AUTH_METHOD", "canary"),
        ("BRIDGE_TOKEN_PARAMETERS", "scope=a&canary"),
        ("BRIDGE_CONCURRENCY", "0"),
        ("BRIDGE_CONCURRENT", "canary"),
        ("BATCH_MAX_TRANSACTIONS", "251"),
        ("BATCH_MAX_BYTES", "1e6"),
        ("STATIC_EXTENSIONS", "css,+canary"),
        ("INCLUDE_PATHS", "canary"),
        ("EXCLUDE_PATHS", "/a,canary"),
        ("REDACT", "canary"),
        ("REDACT_COOKIES", "canary"),
        ("REDACTION_KEY", "canary"),
        ("RETRY_FOR", "canary"),
        ("LOG_LEVEL", "2"),
        ("TF_AUTO_APPROVE", "canary"),
        ("BRIDGE_CA_FILE", "/nowhere/bridge.pem"),
        ("cequence_client_id", "canary"),
    ])
    .unwrap_err();
    let mut found = messages(&problems);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "`BATCH_MAX_BYTES` must be a whole number from 1000 to 10000000",
            "`BATCH_MAX_TRANSACTIONS` must be a whole number from 1 to 250",
            "`BRIDGE_AUTH_ENDPOINT` must use https",
            "`BRIDGE_AUTH_METHOD` must be `client_secret_post` or `client_secret_basic`",
            "`BRIDGE_CLIENT_ID` is set to different values, as `BRIDGE_CLIENT_ID` and as `cequence_client_id`",
            "`BRIDGE_CONCURRENCY` must be a whole number from 1 to 64",
            "`BRIDGE_EDGE_ENDPOINT` must not contain a user name or password",
            "`LOG_LEVEL` must be `error`, `warn`, `info`, `debug` or `trace`",
            "`REDACTION_KEY` must have at least 16 bytes",
            "`REDACT_COOKIES` must be `keep`, `drop` or `hash`",
            "`REDACT` must be `on` or `off`, or `on,+name,-name` to edit the list",
            "`RETRY_FOR` must be a duration from `1m` to `3d`",
            "`STATIC_EXTENSIONS` mixes a list (`css,js`) with edits of the built-in list (`+pdf,-svg`)",
            "`TF_AUTO_APPROVE` must be `true` or `false`",
            "cannot read the file in `BRIDGE_CA_FILE`: No such file or directory",
            "glob 1 of `INCLUDE_PATHS` must start with `/`",
            "glob 2 of `EXCLUDE_PATHS` must start with `/`",
            "missing setting `BRIDGE_CLIENT_SECRET`",
            "parameter 2 of `BRIDGE_TOKEN_PARAMETERS` must have the form `name=value`",
            "unknown setting `BRIDGE_CONCURRENT`",
        ]
    );
    assert!(!format!("{problems:?}{problems}").contains("canary.example"));
    for problem in &problems.0 {
        let spelling = problem.message.replace("cequence_client_id", "");
        assert!(!spelling.contains("canary"), "{problem:?}");
        assert_eq!(problem.message.find('{'), None, "{problem:?}");
        assert_eq!(problem.hint.as_ref().and_then(|hint| hint.find('{')), None);
    }
}

/// Values that the scripts do not check; `tests/fixtures/dotenv/refusals.json` has the others.
#[test]
fn values_are_rejected_in_words() {
    for (name, value, words) in [
        (
            "BRIDGE_SECRET_ARN",
            "arn:aws:secretsmanager:x",
            "`BRIDGE_SECRET_ARN` cannot be combined with `BRIDGE_CLIENT_ID`",
        ),
        (
            "REDACT_COOKIES",
            "hash",
            "missing setting `REDACTION_KEY`: `REDACT_COOKIES=hash` needs a key",
        ),
        (
            "EXCLUDE_PATHS",
            "/b,/a[",
            "glob 2 of `EXCLUDE_PATHS` is invalid: unclosed character class",
        ),
        (
            "INCLUDE_PATHS",
            "/b,/a[",
            "glob 2 of `INCLUDE_PATHS` is invalid: unclosed character class",
        ),
        (
            "REDACT",
            "on,+a,-unknown",
            "name 2 of `REDACT` is not in the list (leave it out",
        ),
        ("RETRY_FOR", "73h 1s", "from `1m` to `3d`"),
        (
            "BRIDGE_EDGE_ENDPOINT",
            "https://[::1",
            "a URL or a host name",
        ),
    ] {
        let problems = read(&[(name, value)]).unwrap_err().to_string();
        assert!(problems.contains(words), "{name}={value}: {problems}");
    }
}

#[test]
fn problems_are_one_log_line() {
    let problems = read(&[("REDACT", "yes"), ("RETRY_FOR", "soon")]).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "`REDACT` must be `on` or `off`, or `on,+name,-name` to edit the list (write it in lower case; \
         names only follow `on`); `RETRY_FOR` must be a duration from `1m` to `3d` \
         (write a number and a unit, such as `12h`)"
    );
}

#[test]
fn similar_setting_name_is_suggested() {
    for (name, hint) in [
        ("BRIDGE_CONCURRENT", "did you mean `BRIDGE_CONCURRENCY`?"),
        (
            "bridge_client_secrets",
            "did you mean `BRIDGE_CLIENT_SECRET`?",
        ),
        ("CEQUENCE_CLIENTID", "did you mean `CEQUENCE_CLIENT_ID`?"),
        ("REDACT_COOKIE", "did you mean `REDACT_COOKIES`?"),
        (
            "REDACT_URLS_AND_MORE",
            "correct or remove it; `.env.example` lists every setting",
        ),
        (
            "BRIDGE_NONSENSE",
            "correct or remove it; `.env.example` lists every setting",
        ),
    ] {
        let Problems(problems) = read(&[(name, "x")]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].message, format!("unknown setting `{name}`"));
        assert_eq!(problems[0].hint.as_deref(), Some(hint));
    }
}

/// Runs `edgetap check` in an empty directory, without settings, and returns what it says.
fn check(args: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_edgetap"))
        .arg("check")
        .args(args)
        .env_clear()
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn absent_env_file_is_mentioned_once() {
    let text = check(&[]);
    assert_eq!(text.matches("missing setting ").count(), 4, "{text}");
    assert_eq!(text.matches("has no `.env`").count(), 1, "{text}");
}

#[test]
fn unreadable_env_file_is_the_only_problem() {
    let text = check(&["--env-file", "/nowhere/.env"]);
    assert_eq!(
        text,
        "error: cannot read /nowhere/.env: No such file or directory\n"
    );
}

#[test]
fn valid_values_are_accepted() {
    for (name, value) in [
        ("BRIDGE_AUTH_ENDPOINT", "http://127.0.0.1:8787"),
        ("BRIDGE_EDGE_ENDPOINT", "http://localhost:8787/other/path"),
        ("BRIDGE_EDGE_ENDPOINT", "http://[::1]:8787"),
        ("BRIDGE_AUTH_METHOD", "client_secret_basic"),
        ("LOG_LEVEL", "TRACE"),
        ("cequence_client_id", "tap"),
        ("TF_AUTO_APPROVE", "True"),
        ("PATH", "/usr/bin"),
        ("BATCH_MAX_BYTES", "10000000"),
    ] {
        read(&[(name, value)]).unwrap_or_else(|problems| panic!("{name}={value}: {problems}"));
    }
}

#[test]
fn dry_run_reports_every_problem_of_its_settings() {
    let variables = pairs(&[
        ("BATCH_MAX_BYTES", "1"),
        ("LOG_LEVEL", "loud"),
        ("REDACT_COOKIE", "hash"),
    ]);
    let problems = Config::read_rules(&Variables::from_pairs(variables)).unwrap_err();
    assert_eq!(
        messages(&problems),
        [
            "unknown setting `REDACT_COOKIE`",
            "`BATCH_MAX_BYTES` must be a whole number from 1000 to 10000000",
            "`LOG_LEVEL` must be `error`, `warn`, `info`, `debug` or `trace`",
        ]
    );
}

#[test]
fn secret_arn_replaces_id_and_secret() {
    let variables = [
        COMPLETE[2],
        COMPLETE[3],
        (
            "BRIDGE_SECRET_ARN",
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:edgetap",
        ),
    ];
    let config = Config::read(&Variables::from_pairs(pairs(&variables))).unwrap();
    assert!(
        matches!(config.bridge.credentials, CredentialsConfig::Arn(arn) if arn.ends_with(":edgetap"))
    );
}

/// `scripts/dotenv.jq` is compared with the same fixture by `tests/scripts/settings.bats`.
#[test]
fn env_lines_are_read_as_in_the_fixture() {
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(fixtures().join("dotenv/cases.json")).unwrap())
            .unwrap();
    for case in cases {
        let line = case["line"].as_str().unwrap();
        let (variables, errors) = dotenv::parse(&format!("# before\n\n{line}\nAFTER='after'\n"));
        let errors: Vec<_> = errors
            .iter()
            .map(|error| (error.line, error.message.key))
            .collect();
        let wanted = case["error"].as_str().map(|key| (3, key));
        assert_eq!(errors, Vec::from_iter(wanted), "{case}");
        let value = variables.get("NAME").map(String::as_str);
        assert_eq!(value, case["value"].as_str(), "{case}");
        assert_eq!(variables["AFTER"], "after");
    }
}

#[test]
fn env_name_set_twice_shows_both_lines() {
    let variables = Variables::from_dotenv("REDACT=on\r\n\r\nREDACT=off\r\n", "my.env");
    let problems = Config::read_rules(&variables).unwrap_err();
    assert_eq!(
        messages(&problems),
        ["`REDACT` is set twice in my.env, on lines 1 and 3"]
    );
}

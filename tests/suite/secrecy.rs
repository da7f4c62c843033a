//! Secrets and log content never reach a log line, an error or `Debug` output. Also the format of
//! log lines.

use std::sync::Arc;

use base64::Engine as _;
use edgetap::batch::Limits;
use edgetap::bridge::{Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::invocation::Context;
use edgetap::local_bridge::{Endpoint, LocalBridge, Options, Reaction};
use edgetap::telemetry::MetricValue::{List, Number, Text};
use edgetap::telemetry::metrics;
use edgetap::time::Deadline;
use edgetap::token::{AuthMethod, TokenParameters};
use serde_json::{Value, json};
use tracing::{Instrument as _, Level, info_span};

use crate::command_line::edgetap;
use crate::support::{
    BACKOFF, CapturedLogs, at_token, client_with, fixtures, gzip, s3_event, sqs_event, start, world,
};

const SECRET: &str = "canary-secret-5f1d";
const CLIENT_ID: &str = "canary-client-id-c3a8";
/// In the queries of both endpoints.
const ENDPOINT_KEY: &str = "canary-key-41d9";
const COOKIE: &str = "canary-cookie-77a0";
const QUERY: &str = "canary-query-02bc";
const AGENT: &str = "canary-agent-9e4e";

fn log_with_canaries() -> String {
    let row = |path: &str, ip: &str| {
        format!(
            "1700000000000\t{ip}\tGET\t{path}\t200\tk={QUERY}\tsession={COOKIE}\t{AGENT}\thttps://x/{QUERY}\tid\n"
        )
    };
    "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem sc-status cs-uri-query cs(Cookie) cs(User-Agent) cs(Referer) x-edge-request-id\n"
        .to_owned()
        + &row("/api/users", "192.0.2.7")
        + &row("/static/small.jpg", "192.0.2.7")
        + &row("/api/other", "-")
        + &row("/api/users", "192.0.2.7")
}

fn context() -> Context {
    Context {
        deadline: Deadline::NEVER,
        trace: None,
        function: "edgetap".to_owned(),
    }
}

fn at(endpoint: Endpoint, wanted: Endpoint, reaction: Reaction) -> Reaction {
    if endpoint == wanted {
        reaction
    } else {
        Reaction::Normal
    }
}

/// Adds a query to a URL.
fn with_key(url: &str) -> String {
    format!("{url}?api-version=1&code={ENDPOINT_KEY}")
}

/// A client of `bridge` whose endpoints have queries.
fn client_with_key(bridge: &LocalBridge) -> Bridge {
    let endpoints = Endpoints {
        edge: with_key(&bridge.edge_url()).parse().unwrap(),
        token: with_key(&bridge.token_url()).parse().unwrap(),
        method: AuthMethod::Post,
        parameters: TokenParameters::default(),
        bridge_ca: None,
    };
    let credentials = CredentialsSource::Variables(Credentials::new(CLIENT_ID, SECRET));
    Bridge::new(endpoints, credentials, BACKOFF, 1).unwrap()
}

/// The span that the Lambda runtime opens around an invocation.
fn invocation_span() -> tracing::Span {
    info_span!(
        target: "lambda_runtime::layers::trace", "Lambda runtime invoke", requestId = "request-1"
    )
}

/// Runs the function through every kind of outcome. Returns its log at `level`, and its responses,
/// errors and `Debug` output.
async fn run_all_outcomes(level: Level) -> (String, Vec<String>) {
    let (lines, _guard) = CapturedLogs::capture(level);
    let mut shown = Vec::new();
    let reactions: [fn(Endpoint, u64) -> Reaction; 9] = [
        |_, _| Reaction::Normal,
        |endpoint, number| {
            if (endpoint, number) == (Endpoint::Edge, 1) {
                Reaction::status(401)
            } else {
                Reaction::Normal
            }
        },
        |endpoint, _| at(endpoint, Endpoint::Edge, Reaction::status(503)),
        |endpoint, _| at(endpoint, Endpoint::Edge, Reaction::status(400)),
        |endpoint, _| at(endpoint, Endpoint::Edge, Reaction::HangUp),
        |endpoint, _| at(endpoint, Endpoint::Token, Reaction::HangUp),
        |endpoint, _| at(endpoint, Endpoint::Token, Reaction::status(404)),
        // The token endpoint echoes what it was sent.
        |endpoint, _| {
            let body =
                format!("{{\"error\":\"invalid_scope\",\"error_description\":\"{SECRET}\"}}");
            let echo = Reaction::respond(400, "application/json", body);
            at(endpoint, Endpoint::Token, echo)
        },
        |endpoint, _| {
            let body = format!("{{\"access_token\": {SECRET}");
            let echo = Reaction::respond(200, "application/json", body);
            at(endpoint, Endpoint::Token, echo)
        },
    ];
    let run = async {
        for react in reactions {
            let options = Options {
                client_id: CLIENT_ID.to_owned(),
                client_secret: SECRET.to_owned(),
                react: Arc::new(move |arrival| react(arrival.endpoint, arrival.number)),
                ..Options::default()
            };
            let mut world = world(options, Limits::default()).await;
            world.function.bridge = client_with_key(&world.bridge);
            world.s3.put("whole", log_with_canaries());
            let zipped = gzip(&log_with_canaries());
            world.s3.put("cut", zipped[..zipped.len() - 4].to_vec());
            world
                .s3
                .put("other", format!("{{\"cookie\": \"{COOKIE}\"}}"));
            shown.push(format!("{:?}", world.function));
            for event in [
                sqs_event(&["whole", "cut", "other", "gone"]),
                s3_event(&["whole", "cut", "other", "gone"]),
            ] {
                match world.function.handle(event, &context()).await {
                    Ok(response) => shown.push(response.to_string()),
                    Err(error) => shown.push(format!("{error} {error:?}")),
                }
            }
            for batch in world.bridge.received() {
                assert!(
                    String::from_utf8_lossy(&batch.body).contains(QUERY),
                    "the canaries are in what was delivered"
                );
            }
        }
    };
    run.instrument(invocation_span()).await;
    (lines.text(), shown)
}

// proves: S1, T10
#[tokio::test]
async fn canaries_appear_nowhere() {
    for level in [Level::ERROR, Level::INFO, Level::DEBUG, Level::TRACE] {
        let (lines, shown) = run_all_outcomes(level).await;
        assert!(!lines.is_empty());
        for canary in [
            SECRET,
            CLIENT_ID,
            ENDPOINT_KEY,
            COOKIE,
            QUERY,
            AGENT,
            "Bearer ",
        ] {
            assert!(!lines.contains(canary), "{canary} in a log line at {level}");
            assert!(
                !shown.iter().any(|text| text.contains(canary)),
                "{canary} in {shown:?}"
            );
        }
    }
}

/// Responses of a token endpoint to a client whose ID and secret are swapped.
fn echoes() -> Vec<Reaction> {
    let both = format!("{SECRET} {CLIENT_ID}");
    let json =
        |status, body: Value| Reaction::respond(status, "application/json", body.to_string());
    let with_header = |status, name, body: Value| Reaction::Respond {
        status,
        headers: vec![
            ("content-type", "application/json".to_owned()),
            (name, both.clone()),
        ],
        body: body.to_string(),
    };
    let mut echoes = vec![
        Reaction::Normal,
        json(400, json!({"error": both, "error_uri": both})),
        json(
            401,
            json!({"error": SECRET, "error_description": CLIENT_ID}),
        ),
        json(
            200,
            json!({"access_token": both, "token_type": both, "expires_in": 60}),
        ),
        json(
            200,
            json!({"access_token": both, "token_type": "bearer", "expires_in": 60}),
        ),
        json(200, json!({"access_token": both, "expires_in": both})),
        Reaction::respond(200, "text/html", format!("<html>{both}</html>")),
        Reaction::respond(500, "text/plain", both.clone()),
        with_header(302, "location", json!({})),
        with_header(401, "www-authenticate", json!({"error": "invalid_client"})),
        with_header(429, "retry-after", json!({"error": "slow_down"})),
    ];
    for code in [
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
    ] {
        let description = format!("client {both} is unknown");
        echoes.push(json(
            400,
            json!({"error": code, "error_description": description}),
        ));
    }
    echoes
}

/// Everything by which ID and secret could be recognized: as they are, and as HTTP Basic
/// authentication encodes them.
fn swapped_canaries() -> [String; 3] {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{SECRET}:{CLIENT_ID}"));
    [SECRET.to_owned(), CLIENT_ID.to_owned(), basic]
}

// proves: S1
#[tokio::test]
async fn function_never_shows_swapped_credentials() {
    for level in [Level::ERROR, Level::INFO, Level::TRACE] {
        let (lines, _guard) = CapturedLogs::capture(level);
        let mut shown = Vec::new();
        for (reaction, method) in echoes()
            .into_iter()
            .flat_map(|echo| [AuthMethod::Post, AuthMethod::Basic].map(|m| (echo.clone(), m)))
        {
            let options = Options {
                client_id: CLIENT_ID.to_owned(),
                client_secret: SECRET.to_owned(),
                ..at_token(move |_| reaction.clone())
            };
            let mut world = world(options, Limits::default()).await;
            let swapped = CredentialsSource::Variables(Credentials::new(SECRET, CLIENT_ID));
            world.function.bridge = client_with(&world.bridge, swapped, method, None);
            world.s3.put("log", log_with_canaries());
            shown.push(format!("{:?}", world.function));
            let response = world.function.handle(s3_event(&["log"]), &context()).await;
            let error = response.expect_err("nothing is delivered");
            shown.push(format!("{error} {error:?}"));
        }
        shown.push(lines.text());
        assert!(shown.iter().any(|text| text.contains("not swapped")));
        for canary in swapped_canaries() {
            let found = shown.iter().find(|text| text.contains(&canary));
            assert_eq!(found, None, "{canary} at {level}");
        }
    }
}

#[tokio::test]
async fn commands_never_show_swapped_credentials() {
    let description = format!("client {SECRET} {CLIENT_ID} is unknown");
    let body = json!({"error": "unauthorized_client", "error_description": description});
    let echo = Reaction::respond(401, "application/json", body.to_string());
    for reaction in [Reaction::Normal, echo] {
        let options = Options {
            client_id: CLIENT_ID.to_owned(),
            client_secret: SECRET.to_owned(),
            ..at_token(move |_| reaction.clone())
        };
        let bridge = start(&options).await;
        for level in ["error", "info", "debug", "trace"] {
            for args in [&["check"][..], &["replay", "--post", "-"]] {
                let (token_url, edge_url) = (bridge.token_url(), bridge.edge_url());
                let run = move || {
                    let settings = [
                        ("BRIDGE_AUTH_ENDPOINT", token_url.as_str()),
                        ("BRIDGE_EDGE_ENDPOINT", edge_url.as_str()),
                        ("BRIDGE_CLIENT_ID", SECRET),
                        ("BRIDGE_CLIENT_SECRET", CLIENT_ID),
                        ("LOG_LEVEL", level),
                        ("RUST_LOG", level),
                    ];
                    edgetap(args, &settings, log_with_canaries().as_bytes())
                };
                let output = tokio::task::spawn_blocking(run).await.unwrap();
                assert_eq!(output.status.code(), Some(1), "{args:?} at {level}");
                let text =
                    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                assert!(text.contains("not swapped"), "{args:?} at {level}: {text}");
                for canary in swapped_canaries() {
                    assert!(!text.contains(&canary), "{args:?} at {level}: {text}");
                }
            }
        }
    }
}

// proves: T10
#[tokio::test]
async fn commands_never_show_a_query() {
    type React = fn(Endpoint) -> Reaction;
    let reactions: [(React, i32); 5] = [
        (|_| Reaction::Normal, 0),
        (
            |endpoint| at(endpoint, Endpoint::Edge, Reaction::status(404)),
            1,
        ),
        (|endpoint| at(endpoint, Endpoint::Edge, Reaction::HangUp), 1),
        (
            |endpoint| at(endpoint, Endpoint::Token, Reaction::status(401)),
            1,
        ),
        (
            |endpoint| at(endpoint, Endpoint::Token, Reaction::HangUp),
            1,
        ),
    ];
    for (react, status) in reactions {
        let options = Options {
            client_id: CLIENT_ID.to_owned(),
            client_secret: SECRET.to_owned(),
            react: Arc::new(move |arrival| react(arrival.endpoint)),
            ..Options::default()
        };
        let bridge = start(&options).await;
        for args in [&["check", "--send"][..], &["replay", "--post", "-"]] {
            let [token_url, edge_url] = [bridge.token_url(), bridge.edge_url()];
            let run = move || {
                let [token_url, edge_url] = [token_url, edge_url].map(|url| with_key(&url));
                let settings = [
                    ("BRIDGE_AUTH_ENDPOINT", token_url.as_str()),
                    ("BRIDGE_EDGE_ENDPOINT", &edge_url),
                    ("BRIDGE_CLIENT_ID", CLIENT_ID),
                    ("BRIDGE_CLIENT_SECRET", SECRET),
                    ("LOG_LEVEL", "trace"),
                ];
                edgetap(args, &settings, log_with_canaries().as_bytes())
            };
            let output = tokio::task::spawn_blocking(run).await.unwrap();
            assert_eq!(output.status.code(), Some(status), "{args:?} {output:?}");
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(ENDPOINT_KEY), "{args:?}: {text}");
        }
    }
}

// proves: S1, I38
#[tokio::test]
async fn static_asset_is_logged_at_debug_with_its_path() {
    let (at_debug, _) = run_all_outcomes(Level::DEBUG).await;
    assert!(at_debug.contains("skipping request with static extension for /static/small.jpg"));
    let (at_info, _) = run_all_outcomes(Level::INFO).await;
    assert!(!at_info.contains("small.jpg"));
}

#[tokio::test]
async fn object_is_logged_in_one_line_with_its_counts() {
    let (lines, _guard) = CapturedLogs::capture(Level::INFO);
    let run = async {
        let world = world(Options::default(), Limits::default()).await;
        let name = "E27FO14I29XXXX.2026-11-14-20.d740d76b.gz";
        world.s3.put(
            name,
            std::fs::read(fixtures().join("logs").join(name)).unwrap(),
        );
        world
            .function
            .handle(s3_event(&[name]), &context())
            .await
            .unwrap();
    };
    run.instrument(invocation_span()).await;
    let lines = lines.json();
    let [warning, line] = &lines[..] else {
        panic!("{lines:#?}")
    };
    assert_eq!(warning["level"], "WARN");
    assert_eq!(warning["message"], "malformed row (logged once per object)");
    assert_eq!(warning["reason"], "missing or unreadable cs-method");
    let message = "successfully sent 12 transactions for distribution E27FO14I29XXXX, but 1 of 17 rows are malformed";
    assert_eq!(line["message"], message);
    assert_eq!(
        (&line["level"], &line["requestId"]),
        (&Value::from("WARN"), &Value::from("request-1"))
    );
    assert_eq!(
        line["object"],
        "s3://logs/E27FO14I29XXXX.2026-11-14-20.d740d76b.gz"
    );
    let count = |name: &str| {
        line[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {line}"))
    };
    assert_eq!(
        count("rows"),
        count("sent")
            + count("static")
            + count("excluded")
            + count("malformed")
            + count("rejected")
    );
    assert_eq!(
        (
            count("rows"),
            count("static"),
            count("malformed"),
            count("batches")
        ),
        (17, 4, 1, 1)
    );
    assert!(count("bytes") > 1000);
    assert!(line["elapsed_ms"].is_u64());
    line["timestamp"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
}

/// Returns the fields of the single line that `say` logs at INFO, without the timestamp.
fn logged(say: impl FnOnce()) -> Value {
    let (lines, _guard) = CapturedLogs::capture(Level::INFO);
    say();
    let [line] = &mut lines.json()[..] else {
        panic!("{}", lines.text())
    };
    assert!(line.as_object_mut().unwrap().remove("timestamp").is_some());
    line.take()
}

#[test]
fn log_fields_keep_their_json_types() {
    let line = logged(|| {
        tracing::info!(
            target: "edgetap::test", text = "a \"quoted\"\n\u{1} line\\", shown = %"\"", list = ?["\"", "é"], absent = None::<u64>, yes = true,
            negative = -1, large = u64::MAX, share = 0.5, neither = f64::NAN, bridge_latency = ?[1], rows = 2,
        );
    });
    let expected = json!({
        "level": "INFO", "message": "", "text": "a \"quoted\"\n\u{1} line\\", "shown": "\"", "list": "[\"\\\"\", \"é\"]", "yes": true,
        "negative": -1, "large": u64::MAX, "share": 0.5, "neither": null, "bridge_latency": "[1]", "rows": 2,
    });
    assert_eq!(line, expected);
}

#[test]
fn log_line_has_fields_of_all_enclosing_spans() {
    let line = logged(|| {
        let span = |name| info_span!(target: "lambda_runtime::layers::trace", "span", name);
        let bare = || info_span!(target: "lambda_runtime::layers::trace", "span");
        let around = info_span!(target: "lambda_runtime::layers::trace", "span", requestId = "request-1", xrayTraceId = "trace-1");
        let _ = span("never entered");
        around.in_scope(|| {
            bare().in_scope(|| {
                bare().in_scope(|| {
                    span("inner").in_scope(|| tracing::info!(target: "edgetap::test", "m"));
                });
            });
        });
    });
    assert_eq!(
        line,
        json!({ "level": "INFO", "message": "m", "requestId": "request-1", "xrayTraceId": "trace-1", "name": "inner" })
    );
    let line = logged(|| {
        info_span!(target: "lambda_runtime::layers::trace", "span")
            .in_scope(|| tracing::info!(target: "edgetap::test", "m"));
    });
    assert_eq!(line, json!({ "level": "INFO", "message": "m" }));
}

#[test]
fn metrics_line_names_only_present_metrics() {
    let mut line = logged(|| {
        let values = [
            ("function", Text("f")),
            ("rows", Number(2)),
            ("sent", Text("two")),
            ("elapsed_ms", Number(3)),
            ("bridge_latency", List(&[])),
            ("delivery_lag", List(&[1, 2])),
        ];
        metrics(Level::INFO, "done", &values);
    });
    let directive = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].take();
    assert_eq!(
        directive,
        json!([{ "Name": "rows", "Unit": "Count" }, { "Name": "delivery_lag", "Unit": "Milliseconds" }])
    );
    assert!(line.as_object_mut().unwrap().remove("_aws").is_some());
    let expected = json!({
        "level": "INFO", "message": "done", "function": "f", "rows": 2, "sent": "two", "elapsed_ms": 3, "delivery_lag": [1, 2],
    });
    assert_eq!(line, expected);
}

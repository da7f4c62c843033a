//! Secrets and log content never reach a log line, an error or `Debug` output; and what log lines look like.

use std::sync::Arc;

use edgetap::batch::Limits;
use edgetap::invocation::Context;
use edgetap::local_bridge::{Endpoint, Options, Reaction};
use edgetap::retry::Deadline;
use edgetap::telemetry::METRICS;
use serde_json::{Value, json};
use tracing::{Instrument as _, Level, info_span};

use crate::support::{Lines, fixtures, gzip, s3_event, sqs_event, world};

const SECRET: &str = "canary-secret-5f1d";
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

/// Every way an invocation can go, at every level: what was logged, and what was answered.
async fn everything_said(level: Level) -> (String, Vec<String>) {
    let (lines, _listening) = Lines::listen(level);
    let mut said = Vec::new();
    let reactions: [fn(Endpoint, u64) -> Reaction; 7] = [
        |_, _| Reaction::Normal,
        |endpoint, number| {
            if (endpoint, number) == (Endpoint::Edge, 1) {
                Reaction::status(401)
            } else {
                Reaction::Normal
            }
        },
        |endpoint, _| {
            if endpoint == Endpoint::Edge {
                Reaction::status(503)
            } else {
                Reaction::Normal
            }
        },
        |endpoint, _| {
            if endpoint == Endpoint::Edge {
                Reaction::status(400)
            } else {
                Reaction::Normal
            }
        },
        |endpoint, _| {
            if endpoint == Endpoint::Edge {
                Reaction::HangUp
            } else {
                Reaction::Normal
            }
        },
        // The answers of a token endpoint gone mad show what they were sent.
        |endpoint, _| match endpoint {
            Endpoint::Token => Reaction::Respond {
                status: 400,
                headers: vec![("content-type", "application/json".to_owned())],
                body: format!("{{\"error\":\"invalid_scope\",\"error_description\":\"{SECRET}\"}}"),
            },
            Endpoint::Edge => Reaction::Normal,
        },
        |endpoint, _| match endpoint {
            Endpoint::Token => Reaction::Respond {
                status: 200,
                headers: vec![],
                body: format!("{{\"access_token\": {SECRET}"),
            },
            Endpoint::Edge => Reaction::Normal,
        },
    ];
    let run = async {
        for react in reactions {
            let options = Options {
                client_secret: SECRET.to_owned(),
                react: Arc::new(move |arrival| react(arrival.endpoint, arrival.number)),
                ..Options::default()
            };
            let world = world(options, Limits::default()).await;
            world.s3.put("whole", log_with_canaries());
            let zipped = gzip(&log_with_canaries());
            world.s3.put("cut", zipped[..zipped.len() - 4].to_vec());
            world
                .s3
                .put("other", format!("{{\"cookie\": \"{COOKIE}\"}}"));
            said.push(format!("{:?}", world.function));
            for event in [
                sqs_event(&["whole", "cut", "other", "gone"]),
                s3_event(&["whole", "cut", "other", "gone"]),
            ] {
                match world
                    .function
                    .handle(
                        event,
                        &Context {
                            deadline: Deadline::NEVER,
                            trace: None,
                            function: "edgetap".to_owned(),
                        },
                    )
                    .await
                {
                    Ok(response) => said.push(response.to_string()),
                    Err(error) => said.push(format!("{error} {error:?}")),
                }
            }
            for batch in world.bridge.received() {
                assert!(
                    String::from_utf8_lossy(&batch.body).contains(QUERY),
                    "the canaries do fly"
                );
            }
        }
    };
    run.instrument(info_span!(target: "lambda_runtime::layers::trace", "Lambda runtime invoke", requestId = "request-1")).await;
    (lines.text(), said)
}

#[tokio::test]
async fn canaries_are_never_seen() {
    for level in [Level::ERROR, Level::INFO, Level::DEBUG, Level::TRACE] {
        let (lines, said) = everything_said(level).await;
        assert!(!lines.is_empty());
        for canary in [SECRET, COOKIE, QUERY, AGENT, "Bearer "] {
            assert!(!lines.contains(canary), "{canary} in a log line at {level}");
            assert!(
                !said.iter().any(|text| text.contains(canary)),
                "{canary} in {said:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_dropped_static_asset_is_one_debug_line_with_its_path() {
    let (at_debug, _) = everything_said(Level::DEBUG).await;
    assert!(at_debug.contains("skipping request with static extension for /static/small.jpg"));
    let (at_info, _) = everything_said(Level::INFO).await;
    assert!(!at_info.contains("small.jpg"));
}

#[tokio::test]
async fn an_object_is_one_line_with_its_counts() {
    let (lines, _listening) = Lines::listen(Level::INFO);
    let run = async {
        let world = world(Options::default(), Limits::default()).await;
        let name = "E27FO14I29XXXX.2026-11-14-20.d740d76b.gz";
        world.s3.put(
            name,
            std::fs::read(fixtures().join("logs").join(name)).unwrap(),
        );
        world
            .function
            .handle(
                s3_event(&[name]),
                &Context {
                    deadline: Deadline::NEVER,
                    trace: None,
                    function: "edgetap".to_owned(),
                },
            )
            .await
            .unwrap();
    };
    run.instrument(info_span!(target: "lambda_runtime::layers::trace", "Lambda runtime invoke", requestId = "request-1")).await;
    let lines = lines.json();
    let [warning, line] = &lines[..] else {
        panic!("{lines:#?}")
    };
    assert!(
        warning["level"] == "WARN"
            && warning["message"]
                .as_str()
                .unwrap()
                .starts_with("malformed row: c-ip"),
        "{warning}"
    );
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
    assert!(count("bytes") > 1000 && line["elapsed_ms"].is_u64());
    line["timestamp"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
}

/// The fields that `say` logs at INFO, without the time.
fn said(say: impl FnOnce()) -> Value {
    let (lines, _listening) = Lines::listen(Level::INFO);
    say();
    let [line] = &mut lines.json()[..] else {
        panic!("{}", lines.text())
    };
    assert!(line.as_object_mut().unwrap().remove("timestamp").is_some());
    line.take()
}

#[test]
fn every_kind_of_field_is_json_of_its_kind() {
    let line = said(|| {
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
fn a_line_has_the_fields_of_all_spans_around_it() {
    let line = said(|| {
        let span = |name| info_span!(target: "lambda_runtime::layers::trace", "span", name);
        let bare = || info_span!(target: "lambda_runtime::layers::trace", "span");
        let around = info_span!(target: "lambda_runtime::layers::trace", "span", requestId = "request-1", xrayTraceId = "trace-1");
        let _ = span("never entered");
        around.in_scope(|| {
            bare().in_scope(|| {
                bare().in_scope(|| {
                    span("inner").in_scope(|| tracing::info!(target: "edgetap::test", "m"))
                })
            })
        });
    });
    assert_eq!(
        line,
        json!({ "level": "INFO", "message": "m", "requestId": "request-1", "xrayTraceId": "trace-1", "name": "inner" })
    );
    let line = said(|| {
        info_span!(target: "lambda_runtime::layers::trace", "span")
            .in_scope(|| tracing::info!(target: "edgetap::test", "m"))
    });
    assert_eq!(line, json!({ "level": "INFO", "message": "m" }));
}

#[test]
fn a_line_of_metrics_names_those_that_it_has() {
    let mut line = said(|| {
        tracing::info!(
            target: METRICS, function = "f", rows = 2, sent = "two", elapsed_ms = 3, retry_age = None::<u64>, bridge_latency = ?Vec::<u64>::new(),
            delivery_lag = ?[1, 2], duration = ?"none", "done",
        );
    });
    let directive = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].take();
    assert_eq!(
        directive,
        json!([{ "Name": "rows", "Unit": "Count" }, { "Name": "delivery_lag", "Unit": "Milliseconds" }])
    );
    assert!(line.as_object_mut().unwrap().remove("_aws").is_some());
    let expected = json!({
        "level": "INFO", "message": "done", "function": "f", "rows": 2, "sent": "two", "elapsed_ms": 3, "delivery_lag": [1, 2], "duration": "\"none\"",
    });
    assert_eq!(line, expected);
}

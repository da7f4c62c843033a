//! End to end with real parts: the `bootstrap` of the zip, moto's server as S3, SQS and Secrets
//! Manager, `oidc-provider` as the OAuth server, the local bridge, and a decoder in Python.
//! Lambda is the tests' own Runtime API, or AWS's emulator. `./scripts/test.sh` installs the peers
//! and runs these tests.
//!
//! Every process logs at level trace. When a test ends, [`tap::Tap`] searches the output for
//! secrets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod backfill;
mod cloud;
mod emulator;
#[allow(dead_code)]
#[path = "../support/fake_s3.rs"]
mod fake_s3;
mod memory;
mod peers;
mod queue;
#[path = "../support/runtime_api.rs"]
mod runtime_api;
mod tap;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use edgetap::local_bridge::{Options, Received};
use serde_json::{Value, json};

use cloud::{Bucket, Queue, log};
use peers::{BASIC_CLIENT, POST_CLIENT, Peers, WRONG_SECRET, python_program, repository, secret};
use runtime_api::{Outcome, Output, Process};
use tap::{COOKIE_CANARY, PATIENCE, PLENTY, Tap};

// proves: D1, D28
#[tokio::test]
async fn s3_objects_arrive_as_expected_transactions() {
    let tap = Tap::start(|variables| {
        // Several batches per object, in order.
        variables.insert("BATCH_MAX_TRANSACTIONS", "5".to_owned());
        variables.insert("BRIDGE_CONCURRENCY", "1".to_owned());
    })
    .await;
    // The bucket's name is part of the IDs of rows without a request ID.
    let bucket = Bucket::create(&tap.peers, "fixtures").await;
    let queue = Queue::create(&tap.peers, "logs").await;
    bucket.notify(&queue).await;
    let test_event = queue.receive().await;
    assert!(
        test_event.body.contains("s3:TestEvent"),
        "{}",
        test_event.body
    );
    assert_eq!(
        tap.deliver(&[(&test_event.id, &test_event.body)]).await,
        [""; 0]
    );

    let mut delivered = Vec::new();
    for (key, bytes, expected) in fixtures() {
        bucket.put(&key, bytes).await;
        let message = queue.receive().await;
        assert!(message.body.contains(&key), "{}", message.body);
        let before = tap.bridge.received().len();
        assert_eq!(
            tap.deliver(&[(&message.id, &message.body)]).await,
            [""; 0],
            "{key}"
        );
        let received = tap.received_since(before);
        compare(
            &key,
            &decoded(&received),
            expected["transactions"].as_array().unwrap(),
        );
        delivered.push((key, expected, received));
    }
    assert!(
        delivered.len() >= 8,
        "fixtures are missing: {}",
        delivered.len()
    );
    assert!(
        delivered.iter().any(|(_, _, received)| received.len() > 1),
        "no object took several batches"
    );

    let log = tap.stop();
    assert_eq!(
        (log.at("ERROR").len(), log.reports().len()),
        (0, delivered.len()),
        "{log:#?}"
    );
    for ((key, expected, received), line) in delivered.iter().zip(log.reports()) {
        check_report(line, key, expected, received);
    }
}

fn check_report(line: &Value, key: &str, expected: &Value, received: &[Received]) {
    let counts = &expected["counts"];
    let distribution = expected["distribution"].as_str().unwrap_or("unknown");
    let (level, message) = headline(counts, distribution);
    assert_eq!(
        (&line["level"], &line["message"]),
        (&json!(level), &json!(message))
    );
    assert_eq!(line["object"], format!("s3://fixtures/{key}"));
    for name in [
        "rows",
        "sent",
        "static",
        "excluded",
        "malformed",
        "rejected",
    ] {
        assert_eq!(line[name], counts[name], "{name}: {line}");
    }
    let foreign = counts.get("foreign").unwrap_or(&Value::from(0)).clone();
    assert_eq!(line["foreign"], foreign, "{line}");
    let number = |name: &str| {
        line[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {line}"))
    };
    assert_eq!(
        number("rows"),
        number("sent")
            + number("static")
            + number("excluded")
            + number("malformed")
            + number("rejected")
            + number("foreign"),
        "{line}"
    );
    assert_eq!(number("batches"), received.len() as u64, "{line}");
    assert_eq!(
        number("bytes"),
        received
            .iter()
            .map(|batch| batch.body.len() as u64)
            .sum::<u64>(),
        "{line}"
    );
    assert!(
        u128::from(number("elapsed_ms")) < PATIENCE.as_millis(),
        "{line}"
    );
    assert!(
        line["requestId"]
            .as_str()
            .is_some_and(|id| id.ends_with("-4000-8000-000000000000")),
        "{line}"
    );
}

/// Returns the level and the message that an object's line must have.
fn headline(counts: &Value, distribution: &str) -> (&'static str, String) {
    let sent = &counts["sent"];
    match [&counts["sent"], &counts["malformed"], &counts["rows"]]
        .map(|count| count.as_u64().unwrap())
    {
        [0, malformed, rows] if malformed == rows => (
            "WARN",
            format!("sent no transactions for distribution {distribution}: every row is malformed"),
        ),
        [0, ..] => (
            "WARN",
            format!(
                "sent no transactions for distribution {distribution}: every request is for a static asset"
            ),
        ),
        [_, 0, _] => (
            "INFO",
            format!("successfully sent {sent} transactions for distribution {distribution}"),
        ),
        [_, malformed, rows] => (
            "WARN",
            format!(
                "successfully sent {sent} transactions for distribution {distribution}, but {malformed} of {rows} rows are malformed"
            ),
        ),
    }
}

#[tokio::test]
async fn larger_object_arrives_once_with_concurrent_requests() {
    let tap = Tap::start(|_| {}).await;
    let bucket = Bucket::create(&tap.peers, "larger").await;
    bucket
        .put("E27FO14I29XXXX.2026-11-14-20.large.gz", log(3000))
        .await;
    let body = bucket
        .notification("E27FO14I29XXXX.2026-11-14-20.large.gz")
        .to_string();
    assert_eq!(tap.deliver(&[("m1", &body)]).await, [""; 0]);
    let decoded = decoded(&tap.bridge.received());
    let ids: BTreeSet<_> = decoded
        .iter()
        .map(|transaction| transaction["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        (decoded.len(), ids.len(), tap.bridge.tally().repeated),
        (3000, 3000, 0)
    );
    assert_eq!(
        decoded[0]["request_headers"]["Cookie"],
        format!("session={COOKIE_CANARY}")
    );
    let log = tap.stop();
    let line = log.the_one(
        "INFO",
        "successfully sent 3000 transactions for distribution E27FO14I29XXXX",
    );
    assert_eq!(
        (&line["rows"], &line["static"], &line["malformed"]),
        (&json!(3002), &json!(1), &json!(1))
    );
    // These lines could contain the cookie; Tap searches them for it.
    log.the_one("WARN", "malformed row");
    log.the_one(
        "DEBUG",
        "skipping request with static extension for /static/small.jpg",
    );
}

// proves: T4
#[tokio::test]
async fn rotated_secret_is_used_without_restart() {
    let peers = Peers::shared();
    let bucket = Bucket::create(&peers, "rotation").await;
    bucket.put("log.gz", log(1)).await;
    let secrets = aws_sdk_secretsmanager::Client::new(&peers.sdk_config().await);
    let credentials =
        |secret: &str| json!({ "client_id": POST_CLIENT, "client_secret": secret }).to_string();
    let created = secrets
        .create_secret()
        .name("edgetap/bridge")
        .secret_string(credentials(WRONG_SECRET))
        .send()
        .await
        .unwrap();
    let arn = created.arn.unwrap();

    let tap = Tap::start(|variables| {
        variables.remove("BRIDGE_CLIENT_ID");
        variables.remove("BRIDGE_CLIENT_SECRET");
        variables.insert("BRIDGE_SECRET_ARN", arn.clone());
    })
    .await;
    let body = bucket.notification("log.gz").to_string();
    assert_eq!(tap.deliver(&[("m1", &body)]).await, ["m1"]);
    assert_eq!(tap.bridge.tally().requests, 0);

    secrets
        .put_secret_value()
        .secret_id(&arn)
        .secret_string(credentials(&secret()))
        .send()
        .await
        .unwrap();
    assert_eq!(tap.deliver(&[("m1", &body)]).await, [""; 0]);
    // The next invocation uses the same token.
    assert_eq!(tap.deliver(&[("m2", &body)]).await, [""; 0]);
    assert_eq!(tap.bridge.tally().transactions, 2);

    let token_endpoint = tap.peers.token_endpoint.clone();
    let log = tap.stop();
    let line = log.the_one("ERROR", "invalid_client")["message"]
        .as_str()
        .unwrap();
    assert!(line.contains(&token_endpoint), "{line}");
    assert!(!line.contains(POST_CLIENT), "{line}");
    log.the_one("DEBUG", "got a token");
}

// proves: T8
#[tokio::test]
async fn both_client_authentication_methods_take_any_character() {
    let peers = Peers::shared();
    let bucket = Bucket::create(&peers, "authentication").await;
    bucket.put("log.gz", log(1)).await;
    let body = bucket.notification("log.gz").to_string();
    for (client, method) in [
        (POST_CLIENT, "client_secret_post"),
        (BASIC_CLIENT, "client_secret_basic"),
    ] {
        let tap = Tap::start(|variables| {
            variables.insert("BRIDGE_CLIENT_ID", client.to_owned());
            variables.insert("BRIDGE_AUTH_METHOD", method.to_owned());
        })
        .await;
        assert_eq!(tap.deliver(&[("m1", &body)]).await, [""; 0], "{method}");
        assert_eq!(tap.bridge.tally().transactions, 1);
        assert_eq!(peers.authentication_of(client), method);
    }
}

// proves: D4
#[tokio::test]
async fn direct_events_succeed_or_fail_as_a_whole() {
    let tap = Tap::start(|_| {}).await;
    let bucket = Bucket::create(&tap.peers, "direct").await;
    bucket.put("log.gz", log(2)).await;
    let event_bridge = json!({
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": { "version": "0", "bucket": { "name": bucket.name }, "object": { "key": "log.gz", "size": 1024 }, "reason": "PutObject" }
    });
    for event in [bucket.notification("log.gz"), event_bridge] {
        let outcome = tap.invoke(event, PLENTY).await;
        assert_eq!(outcome, Outcome::Response(json!({ "objects": 1 })));
    }
    assert_eq!(tap.bridge.tally().transactions, 4);

    bucket.put("other.gz", b"no access log\n".to_vec()).await;
    let outcome = tap.invoke(bucket.notification("other.gz"), PLENTY).await;
    let Outcome::Error(error) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        error["errorMessage"]
            .as_str()
            .unwrap()
            .contains("s3://direct/other.gz, rows [0,end): not a supported CloudFront access log"),
        "{error}"
    );
    // In one SQS event, each message succeeds or fails on its own. (These name no queue.)
    let (good, bad) = (
        bucket.notification("log.gz").to_string(),
        bucket.notification("other.gz").to_string(),
    );
    assert_eq!(
        tap.deliver(&[("bad", &bad), ("good", &good)]).await,
        ["bad"]
    );
    assert_eq!(tap.bridge.tally().transactions, 6);
    // An object that expired before it was started is done: a retry cannot help.
    assert_eq!(
        tap.deliver(&[("gone", &bucket.notification("missing.gz").to_string())])
            .await,
        [""; 0]
    );
    let log = tap.stop();
    assert_eq!(
        log.at("ERROR")
            .iter()
            .filter(|line| line["object"] == "s3://direct/other.gz" && line.get("_aws").is_some())
            .count(),
        2,
        "{log:#?}"
    );
    log.the_one("WARN", "was deleted before it was read");
}

// proves: D5
#[tokio::test]
async fn invalid_configuration_fails_messages_but_not_init() {
    let tap = Tap::start(|variables| {
        variables.remove("BRIDGE_EDGE_ENDPOINT");
        variables.insert("BATCH_MAX_BYTES", "a lot".to_owned());
    })
    .await;
    let bucket = Bucket::create(&tap.peers, "unconfigured").await;
    bucket.put("log.gz", log(1)).await;
    let body = bucket.notification("log.gz").to_string();
    assert_eq!(
        tap.deliver(&[("m1", &body), ("m2", &body)]).await,
        ["m1", "m2"]
    );
    assert!(matches!(
        tap.invoke(bucket.notification("log.gz"), PLENTY).await,
        Outcome::Error(_)
    ));
    assert!(tap.api().polls() >= 2, "the process keeps polling");
    let log = tap.stop();
    // One line per invocation, with every problem.
    let invalid: Vec<_> = log
        .at("ERROR")
        .into_iter()
        .filter(|line| line.get("problems").is_some())
        .collect();
    assert_eq!(invalid.len(), 2, "{log:#?}");
    for line in invalid {
        let problems = line["problems"].as_str().unwrap();
        for part in [
            "missing setting `BRIDGE_EDGE_ENDPOINT`",
            "`BATCH_MAX_BYTES` must be a whole number",
        ] {
            assert!(problems.contains(part), "{problems}");
        }
        assert!(line["requestId"].is_string(), "{line}");
    }
}

// proves: D13
#[tokio::test]
async fn past_deadline_fails_the_message() {
    let tap = Tap::start(|_| {}).await;
    let bucket = Bucket::create(&tap.peers, "late").await;
    bucket.put("log.gz", log(1)).await;
    let body = bucket.notification("log.gz").to_string();
    for time_left in [-3_600_000, i64::MIN, 0] {
        assert_eq!(
            tap.deliver_within(&[("m1", &body)], time_left).await,
            ["m1"]
        );
    }
    assert_eq!(tap.bridge.tally().requests, 0);
    assert_eq!(
        tap.deliver(&[("m1", &body)]).await,
        [""; 0],
        "only the deadline was wrong"
    );
}

// proves: D13
#[tokio::test]
async fn bridge_outage_fails_message_within_deadline() {
    let tap = Tap::with_bridge_responding(503).await;
    let bucket = Bucket::create(&tap.peers, "down").await;
    bucket.put("log.gz", log(1)).await;
    fails_within(&tap, &bucket, 20_000).await;
    assert!(
        (2..=5).contains(&tap.bridge.tally().requests),
        "{:?}",
        tap.bridge.tally()
    );
    let log = tap.stop();
    let line = log.the_one(
        "ERROR",
        "sent 0 transactions for distribution unknown, but not all",
    );
    assert_eq!(
        (&line["rows"], &line["sent"]),
        (&json!(0), &json!(0)),
        "nothing was settled: {line}"
    );
}

// proves: D13
#[tokio::test]
async fn silent_bridge_fails_message_within_deadline() {
    let tap = Tap::with_bridge(
        Options {
            delay: 10 * PATIENCE,
            ..Options::default()
        },
        |_| {},
    )
    .await;
    let bucket = Bucket::create(&tap.peers, "silent").await;
    bucket.put("log.gz", log(1)).await;
    fails_within(&tap, &bucket, 13_000).await;
    tap.stop().the_one("ERROR", "but not all");
}

async fn fails_within(tap: &Tap, bucket: &Bucket, time_left_ms: u32) {
    let body = bucket.notification("log.gz").to_string();
    let started = Instant::now();
    assert_eq!(
        tap.deliver_within(&[("m1", &body)], time_left_ms.into())
            .await,
        ["m1"]
    );
    assert!(
        started.elapsed() < Duration::from_millis(time_left_ms.into()),
        "{:?}",
        started.elapsed()
    );
}

/// Guards against a schema that accepts anything.
#[test]
fn decoder_rejects_invalid_wire_format() {
    let good = json!({ "data": [{
        "timestamp": "1794686590.816",
        "version": "1.0",
        "transaction-id": "jZ7o-uYEYUitwvBuVwXQ==",
        "request": {
            "http-method": "GET",
            "uri-query-fragment": "/v1/orders?page=2",
            "connection": { "connection-ip": "2001:db8::7334", "connection-port": 41234, "server-ip": "0.0.0.0", "server-port": 443 },
            "headers": ["Host:YXBpLmV4YW1wbGUuY29t", "X-Forwarded-For:MTkyLjAuMi43LCAyMDAxOmRiODo6NzMzNA=="],
            "body": { "length": 0, "data": "" }
        },
        "response": { "status-code": "200", "headers": ["Content-Length:Nw=="], "body": { "length": 7, "data": "" } },
        "txn-meta-data": {
            "source_info": { "type": "cloudfront", "version": "0.1.0", "pool_id": "E27FO14I29XXXX", "instance_id": "FRA56-P4" },
            "filter_info": { "filter_name": "core" }
        }
    }]});
    let (status, output) = decode([good.to_string().as_bytes()]);
    assert!(status.success(), "{output:#?}");
    let mutations = [
        ("/data", json!([])),
        ("/data/0/timestamp", json!("1794686590")),
        ("/data/0/timestamp", json!(1_794_686_590.816)),
        (
            "/data/0/request/connection",
            json!({ "server-ip": "0.0.0.0", "server-port": 443 }),
        ),
        (
            "/data/0/request/connection/connection-ip",
            json!("FRA56-P4"),
        ),
        ("/data/0/request/connection/server-port", json!("443")),
        (
            "/data/0/request/uri-query-fragment",
            json!("/v1/orders?q=a b"),
        ),
        ("/data/0/request/uri-query-fragment", json!("/caf\u{e9}")),
        ("/data/0/request/headers/0", json!("Host:api.example.com")),
        ("/data/0/request/headers/0", json!("Server:YXBp")),
        (
            "/data/0/request/headers/1",
            json!("X-Forwarded-For:MTkyLjAuMi43"),
        ),
        (
            "/data/0/request/body",
            json!({ "length": 0, "data": "", "more": 1 }),
        ),
        ("/data/0/response/status-code", json!(200)),
        ("/data/0/response/status-code", json!("000")),
        (
            "/data/0/response/headers",
            json!(["Content-Length:Nw==", "Content-Length:OA=="]),
        ),
        ("/data/0/response/body/length", json!(8)),
        ("/data/0/txn-meta-data/source_info/type", json!("kong")),
    ];
    for (place, value) in mutations {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value.clone();
        let (status, output) = decode([bad.to_string().as_bytes()]);
        assert!(!status.success(), "{place} {value}: {:#?}", output.stdout);
        assert!(
            output
                .stderr
                .last()
                .is_some_and(|why| why.contains("body 1") || why.contains("ValueError")),
            "{:#?}",
            output.stderr
        );
    }
}

/// The output of `replay` matches its published schema.
#[test]
fn replayed_lines_match_the_schema() {
    let logs: Vec<_> = fixtures()
        .into_iter()
        .map(|(key, ..)| repository().join("tests/fixtures/logs").join(key))
        .collect();
    let replay = Command::new(env!("CARGO_BIN_EXE_edgetap"))
        .arg("replay")
        .args(logs)
        .env_clear()
        .output()
        .unwrap();
    assert!(
        replay.status.success(),
        "{}",
        String::from_utf8_lossy(&replay.stderr)
    );
    let files = ["tests/e2e/validate.py", "docs/transaction.schema.json"]
        .map(|file| repository().join(file));
    let mut validator = Process::start(
        Command::new(python_program("python"))
            .args(files)
            .stdin(Stdio::piped()),
    );
    _ = validator.stdin().write_all(&replay.stdout);
    let (status, output) = validator.finish(PATIENCE);
    assert!(status.success(), "{:#?}", output.stderr);
    let sent: u64 = fixtures()
        .iter()
        .map(|(_, _, expected)| expected["counts"]["sent"].as_u64().unwrap())
        .sum();
    assert_eq!(output.stdout, [sent.to_string()]);
}

/// Returns the fixture logs that are not refused: name, bytes and expected result.
fn fixtures() -> Vec<(String, Vec<u8>, Value)> {
    let directory = repository().join("tests/fixtures/logs");
    let names = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut fixtures: Vec<(String, Vec<u8>, Value)> = names
        .filter_map(|name| {
            let key = name.strip_suffix(".expected.json")?.to_owned();
            let expected =
                serde_json::from_slice(&std::fs::read(directory.join(&name)).unwrap()).unwrap();
            Some((
                key.clone(),
                std::fs::read(directory.join(key)).unwrap(),
                expected,
            ))
        })
        .collect();
    // A log of which no row can be read is refused.
    fixtures.retain(|(.., expected)| expected["counts"]["malformed"] != expected["counts"]["rows"]);
    fixtures.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    fixtures
}

/// Decodes bodies with the Python decoder, which also checks them against the schema.
fn decoded(received: &[Received]) -> Vec<Value> {
    let (status, output) = decode(received.iter().map(|batch| &batch.body[..]));
    assert!(status.success(), "{status}: {:#?}", output.stderr);
    serde_json::from_str(&output.stdout.concat()).unwrap()
}

fn decode<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> (ExitStatus, Output) {
    let files = ["tests/e2e/decode.py", "docs/uap.schema.json"].map(|file| repository().join(file));
    let mut decoder = Process::start(
        Command::new(python_program("python"))
            .args(files)
            .stdin(Stdio::piped()),
    );
    for body in bodies {
        assert!(!body.contains(&b'\n'), "a body is one line");
        // A decoder that ended early fails the check below.
        _ = decoder
            .stdin()
            .write_all(body)
            .and_then(|()| decoder.stdin().write_all(b"\n"));
    }
    decoder.finish(PATIENCE)
}

fn compare(key: &str, arrived: &[Value], expected: &[Value]) {
    for (index, (arrived, expected)) in arrived.iter().zip(expected).enumerate() {
        assert_eq!(arrived, expected, "transaction {index} of {key}");
    }
    assert_eq!(arrived.len(), expected.len(), "{key}");
}

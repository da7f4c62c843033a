//! Every format of a log gives the same transactions, hostile values cause no harm, and redacted
//! values are never sent.

use std::io::Cursor;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgetap::batch::{Counts, Limits};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::encode::Encoding;
use edgetap::filter::{ExcludedPaths, StaticAssets};
use edgetap::invocation::Context;
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{Options, decode};
use edgetap::log::{Field, LogError};
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::redact::{Cookies, Key, Names, Redaction};
use edgetap::rows::{OPEN, Rows};
use edgetap::telemetry;
use edgetap::time::Deadline;
use edgetap::token::AuthMethod;
use proptest::prelude::*;
use serde_json::{Value, json};
use tracing::Level;

use crate::support::{CapturedLogs, client_with, s3_event, world};

/// Rules that drop nothing and encode as `ndjson`.
pub(crate) fn everything() -> Rules {
    Rules {
        encoding: Encoding::Ndjson,
        static_assets: StaticAssets::parse("none").unwrap(),
        ..Rules::default()
    }
}

fn read(text: &str, rules: Rules) -> (Vec<u8>, Counts) {
    let job = Job::all(ObjectRef::in_s3("b", "k"));
    let (mut bodies, mut summary) = (Vec::new(), Summary::default());
    for batch in Batches::new(
        &job,
        Cursor::new(text.to_owned().into_bytes()),
        Arc::new(rules),
    ) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(LogError::Malformed { .. }) => break,
            Err(error) => panic!("{error}\n{text}"),
        };
        bodies.extend_from_slice(&batch.body);
        summary.accept(&batch);
    }
    assert!(summary.counts.is_balanced(), "{:?}", summary.counts);
    (bodies, summary.counts)
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    let (bodies, _) = read(text, everything());
    String::from_utf8(bodies)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A log of one row with these values and the required fields.
fn row(values: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("timestamp(ms)", "1700000000000"),
        ("c-ip", "192.0.2.7"),
        ("cs-method", "GET"),
        ("cs-uri-stem", "/a"),
    ];
    for (name, value) in values {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => all.push((name, value)),
        }
    }
    let [names, values] = [
        all.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        all.iter().map(|(_, value)| *value).collect(),
    ];
    format!("#Fields: {}\n{}\n", names.join(" "), values.join("\t"))
}

fn line(values: &[(&str, &str)]) -> Value {
    let [line] = &lines(&row(values))[..] else {
        panic!("{values:?}")
    };
    line.clone()
}

/// Checks cases of a field, its logged value, a place in `ndjson` and the expected value there.
fn check_decoded<const N: usize>(cases: [(&str, &str, &str, Value); N]) {
    for (field, logged, pointer, expected) in cases {
        let line = line(&[(field, logged)]);
        assert_eq!(
            line.pointer(pointer).cloned().unwrap_or_default(),
            expected,
            "{field} {logged}: {line}"
        );
    }
}

// proves: I15, I16
#[test]
fn paths_and_queries_are_decoded_once() {
    check_decoded([
        (
            "cs-uri-stem",
            "/caf%25C3%25A9",
            "/request/path",
            json!("/caf%C3%A9"),
        ),
        (
            "cs-uri-stem",
            "/caf%C3%A9",
            "/request/path",
            json!("/caf%C3%A9"),
        ),
        (
            "cs-uri-stem",
            "/old?in=stem",
            "/request/path",
            json!("/old?in=stem"),
        ),
        (
            "cs-uri-stem",
            "/a%0A%09b",
            "/request/path",
            json!("/a%0A%09b"),
        ),
        (
            "cs-uri-query",
            "q=a+b%2520c&d=%257B",
            "/request/query",
            json!("q=a+b%20c&d=%7B"),
        ),
        (
            "cs-uri-query",
            "bad=%zz%4",
            "/request/query",
            json!("bad=%zz%4"),
        ),
    ]);
}

// proves: I15
#[test]
fn each_field_is_decoded_by_its_own_rules() {
    check_decoded([
        (
            "cs(User-Agent)",
            "Mastodon/4.5.2+glitch",
            "/request/headers/user-agent",
            json!("Mastodon/4.5.2+glitch"),
        ),
        (
            "cs(User-Agent)",
            "Mozilla/5.0%2520(X11)",
            "/request/headers/user-agent",
            json!("Mozilla/5.0%20(X11)"),
        ),
        (
            "cs(User-Agent)",
            "Bad%UA%",
            "/request/headers/user-agent",
            json!("Bad%UA%"),
        ),
        (
            "cs(User-Agent)",
            "%FF%FE",
            "/request/headers/user-agent",
            json!("\u{fffd}\u{fffd}"),
        ),
        (
            "x-forwarded-for",
            r"10.0.0.1,\x20unknown",
            "/request/headers/x-forwarded-for",
            json!("10.0.0.1, unknown, 192.0.2.7"),
        ),
        (
            "cs(Cookie)",
            "a=b;%20c=%25",
            "/request/headers/cookie",
            json!("a=b; c=%"),
        ),
        ("cs(Referer)", "-", "/request/headers/referer", Value::Null),
        ("sc-status", "000", "/response/status", json!("0")),
        ("sc-status", "-", "/response/status", Value::Null),
        (
            "sc-content-len",
            "5000000000",
            "/response/headers/content-length",
            json!(5_000_000_000_u64),
        ),
        (
            "sc-bytes",
            "5000000000",
            "/cloudfront/sc-bytes",
            json!("5000000000"),
        ),
        (
            "sc-content-type",
            "text/html;%20charset=UTF-8",
            "/response/headers/content-type",
            json!("text/html; charset=UTF-8"),
        ),
        (
            "x-edge-result-type",
            "FunctionGeneratedResponse",
            "/cloudfront/x-edge-result-type",
            json!("FunctionGeneratedResponse"),
        ),
        ("ASN", "16509", "/cloudfront/asn", json!("16509")),
        (
            "distributionid",
            "E27FO14I29XXXX",
            "/cloudfront/distribution",
            json!("E27FO14I29XXXX"),
        ),
        (
            "viewer-request-log-data",
            "a%3Db%20c",
            "/cloudfront/viewer-request-log-data",
            json!("a=b c"),
        ),
        (
            "x-of-tomorrow",
            "a%20b",
            "/fields/x-of-tomorrow",
            json!("a b"),
        ),
    ]);
}

// proves: I19, I31
#[test]
fn unreadable_values_are_left_out_and_counted() {
    for (field, logged, pointer) in [
        ("c-ip", "x.x.x.x", "/client/ip"),
        ("c-ip", "-", "/client/ip"),
        ("c-ip", "", "/client/ip"),
        ("c-ip", "***", "/client/ip"),
        ("c-port", "65536", "/client/port"),
        ("time-taken", "soon", "/took_ms"),
        ("sc-status", "2x0", "/response/status"),
        ("sc-content-len", "12.5", "/response/headers/content-length"),
        ("sc-range-end", "9e9", "/response/headers/content-range"),
        ("DistributionId", "../../x", "/cloudfront/distribution"),
    ] {
        let text = row(&[(field, logged)]);
        let counts = read(&text, everything()).1;
        assert_eq!((counts.sent, counts.unreadable), (1, 1), "{field} {logged}");
        assert_eq!(lines(&text)[0].pointer(pointer), None, "{field} {logged}");
        assert!(decode(&read(&text, Rules::default()).0).is_ok());
    }
    assert_eq!(
        read(
            &row(&[
                ("c-ip", "2001:db8::1"),
                ("c-port", "-"),
                ("sc-range-start", "-")
            ]),
            everything()
        )
        .1
        .unreadable,
        0
    );
    for missing in ["cs-method", "cs-uri-stem", "timestamp(ms)"] {
        assert_eq!(
            read(&row(&[(missing, "-")]), everything()).1.malformed,
            1,
            "{missing}"
        );
    }
}

// proves: I20
#[test]
fn row_of_100_kb_is_sent_whole() {
    let query = "%25F0%259F".repeat(10_000);
    assert_eq!(
        line(&[("cs-uri-query", &query)])["request"]["query"]
            .as_str()
            .unwrap()
            .len(),
        60_000
    );
}

/// What was logged as `x-forwarded-for` and `c-ip`, and the header that leaves in both encodings.
// proves: I39
#[test]
fn forwarded_for_ends_with_the_client_address() {
    for (logged, client_ip, expected) in [
        ("-", "192.0.2.7", Some("192.0.2.7")),
        ("-", "2001:db8::7", Some("2001:db8::7")),
        ("198.51.100.1", "192.0.2.7", Some("198.51.100.1, 192.0.2.7")),
        (
            r"198.51.100.1,\x2010.0.0.1",
            "192.0.2.7",
            Some("198.51.100.1, 10.0.0.1, 192.0.2.7"),
        ),
        ("192.0.2.7", "192.0.2.7", Some("192.0.2.7, 192.0.2.7")),
        ("%22x%22", "192.0.2.7", Some("\"x\", 192.0.2.7")),
        ("198.51.100.1", "x.x.x.x", Some("198.51.100.1")),
        ("-", "***", None),
    ] {
        let values = [("x-forwarded-for", logged), ("c-ip", client_ip)];
        let case = format!("{logged} {client_ip}");
        let header = &line(&values)["request"]["headers"]["x-forwarded-for"];
        assert_eq!(header.as_str(), expected, "{case}");
        let body = read(&row(&values), Rules::default()).0;
        let header = decode(&body).unwrap()[0].request_header("X-Forwarded-For");
        assert_eq!(header.as_deref(), expected.map(str::as_bytes), "{case}");
    }
}

/// A viewer cannot forge a row, a column or a transaction in any format.
// proves: I21
#[test]
fn viewer_values_stay_in_their_field() {
    let forged = "x%0A2026-11-14%0920:00:00%096.6.6.6%09GET%09/forged%0D%0A%22%7D%0A%7B%22cs-uri-stem%22:%22/forged";
    for field in [
        "cs-uri-stem",
        "cs-uri-query",
        "cs(User-Agent)",
        "cs(Referer)",
        "cs(Cookie)",
        "x-host-header",
        "x-forwarded-for",
        "cs-method",
    ] {
        let value = if field == "cs-uri-stem" {
            format!("/{forged}")
        } else {
            forged.to_owned()
        };
        let tabs = row(&[(field, &value)]);
        let json = json!({"timestamp(ms)": "1700000000000", "c-ip": "192.0.2.7", "cs-method": "GET", "cs-uri-stem": "/a"});
        let mut json = json.as_object().unwrap().clone();
        json.insert(field.to_owned(), json!(value));
        for text in [tabs, format!("{}\n", Value::Object(json))] {
            let found = lines(&text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0]["client"]["ip"], "192.0.2.7");
            let (body, _) = read(
                &text,
                Rules {
                    static_assets: StaticAssets::parse("none").unwrap(),
                    ..Rules::default()
                },
            );
            assert_eq!(decode(&body).unwrap().len(), 1);
            assert!(!body.contains(&b'\n'), "control character in a body");
        }
    }
}

/// Globs, logged path, and whether it is excluded.
// proves: I29, I30
#[test]
fn excluded_paths_are_dropped_but_lookalikes_are_sent() {
    for (globs, path, excluded) in [
        ("/health", "/health", true),
        ("/health", "/health/deep", false),
        ("/health", "/Health", false),
        ("/health", "/he%2561lth", true),
        ("/health, /metrics/**", "/metrics/a/b", true),
        ("/metrics/*", "/metrics/a", true),
        ("/metrics/*", "/metrics/a/b", false),
        ("/v?/ping", "/v1/ping", true),
        ("/caf%C3%A9", "/caf%25C3%25A9", false),
        ("/café", "/caf%25C3%25A9", true),
        ("/health/**", "/health/../api/users", false),
        ("/health/**", "/health/%252e%252e/api", false),
        ("/health/**", "/health/%25252e%25252e/api", false),
        ("/health/**", "/health/..;/api", false),
        ("/health/**", "/health/..%255Capi", false),
        ("/health/**", "/health/..%252fapi", false),
        ("/health/**", "/health/x%2500", false),
        ("/health/**", "/health/;/api", false),
        ("/health/**", "/health;x=1", false),
        ("/health/**", "/health/%25c0%25ae%25c0%25ae/api", false),
        ("/health/**", "/health/%25FF", false),
        ("/health/**", "/health/%FF", false),
        ("/health/**", "/health/...", false),
        ("/health/**", "/health/%2520../api", false),
        ("/health/**", "/health/%253Fapi", false),
        ("/health/**", "/health/a.b", true),
        ("", "/health", false),
    ] {
        let rules = || Rules {
            excluded_paths: ExcludedPaths::parse(globs).unwrap(),
            ..Rules::default()
        };
        let counts = read(&row(&[("cs-uri-stem", path)]), rules()).1;
        assert_eq!(
            (counts.excluded, counts.sent),
            (u64::from(excluded), u64::from(!excluded)),
            "{globs} {path}"
        );
    }
}

fn said(warnings: &CapturedLogs, text: &'static str) -> Value {
    let subscriber: Arc<dyn tracing::Subscriber + Send + Sync> =
        Arc::new(telemetry::json(Level::INFO, warnings.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _current = tracing::subscriber::set_default(subscriber);
    runtime.block_on(async {
        let world = world(Options::default(), Limits::default()).await;
        world.s3.put("log", text);
        let context = Context {
            deadline: Deadline::NEVER,
            trace: None,
            function: "edgetap".to_owned(),
        };
        world
            .function
            .handle(s3_event(&["log"]), &context)
            .await
            .unwrap();
    });
    warnings
        .json()
        .into_iter()
        .find(|line| line["rows"].is_u64())
        .unwrap()
}

// proves: I32
#[test]
fn suspicious_counts_are_logged_as_warnings() {
    let rows = |good: usize, bad: usize, stem: &str| -> &'static str {
        let row = |method: &str| format!("1700000000000\t192.0.2.7\t{method}\t{stem}\n");
        let text = format!(
            "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem\n{}{}",
            row("GET").repeat(good),
            row("-").repeat(bad)
        );
        text.leak()
    };
    for (text, level, words) in [
        (rows(3, 0, "/a"), "INFO", "successfully sent 3 transactions"),
        (
            rows(3, 0, "/a.css"),
            "WARN",
            "every request is for a static asset",
        ),
        (
            rows(1, 3, "/a.css"),
            "WARN",
            "every row is static, excluded, malformed, foreign or rejected",
        ),
        (rows(99, 1, "/a"), "INFO", "successfully sent 99"),
        (rows(98, 2, "/a"), "WARN", "2 of 100 rows are malformed"),
        (
            "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem\n",
            "INFO",
            "successfully sent 0",
        ),
    ] {
        let line = said(&CapturedLogs::default(), text);
        assert_eq!(line["level"], level, "{line}");
        assert!(line["message"].as_str().unwrap().contains(words), "{line}");
    }
}

// proves: I14
#[test]
fn missing_optional_fields_are_logged_once() {
    let line = said(
        &CapturedLogs::default(),
        "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem sc-status\n1700000000000\t::1\tGET\t/a\t200\n",
    );
    let absent = line["absent"].as_str().unwrap();
    assert!(
        absent.starts_with("x-edge-request-id, time-taken, "),
        "{absent}"
    );
    assert!(!absent.contains("sc-status"), "{absent}");
}

// proves: I9
#[test]
fn log_of_another_service_is_skipped_with_a_warning() {
    let lines = CapturedLogs::default();
    let line = said(
        &lines,
        "{\"Records\":[{\"eventVersion\":\"1.11\",\"eventSource\":\"s3.amazonaws.com\"}]}",
    );
    assert_eq!(
        [
            &line["rows"],
            &line["foreign"],
            &line["level"],
            &line["dead_letters"]
        ],
        [&json!(1), &json!(1), &json!("INFO"), &json!(0)]
    );
    let warning = lines
        .json()
        .into_iter()
        .find(|line| line["level"] == "WARN")
        .unwrap();
    assert_eq!(
        warning["message"],
        "skipped object: not a CloudFront access log"
    );
    assert_eq!(warning["kind"], "CloudTrail log");
}

fn counts_and_end(text: &str, rows: Rows) -> (Counts, Option<LogError>) {
    let job = Job {
        rows,
        ..Job::all(ObjectRef::in_s3("b", "k"))
    };
    let (mut summary, mut end) = (Summary::default(), None);
    let bytes = Cursor::new(text.to_owned().into_bytes());
    for batch in Batches::new(&job, bytes, Arc::new(everything())) {
        match batch {
            Ok(batch) => summary.accept(&batch),
            Err(error) => end = Some(error),
        }
    }
    assert!(summary.counts.is_balanced(), "{:?}", summary.counts);
    (summary.counts, end)
}

/// Whether a log is refused depends on its rows, not on those that an attempt asks for.
// proves: I41
#[test]
fn log_without_a_readable_row_is_refused() {
    let log = |rows: &str| {
        let row = |kind| match kind {
            'g' => "1700000000000\t192.0.2.7\tGET\t/a\n",
            _ => "-\t192.0.2.7\tGET\t/a\n",
        };
        let rows: String = rows.chars().map(row).collect();
        format!("#Fields: timestamp(ms) c-ip cs-method cs-uri-stem\n{rows}")
    };
    for (rows, asked, is_refused) in [
        ("", 0..OPEN, false),
        ("m", 0..OPEN, true),
        ("mmmm", 0..OPEN, true),
        ("mmmm", 2..OPEN, true),
        ("mmmm", 9..OPEN, true),
        ("mmmm", 1..3, false),
        ("mmmg", 0..OPEN, false),
        ("gmmm", 0..OPEN, false),
        ("gmmm", 1..OPEN, false),
        ("mgmm", 3..OPEN, false),
    ] {
        let (counts, end) = counts_and_end(&log(rows), Rows::from(asked.clone()));
        assert_eq!(end.is_some(), is_refused, "{rows} {asked:?}: {end:?}");
        if let Some(end) = end {
            let text = "every row is malformed. The first one (line 2): missing or unreadable time";
            assert_eq!(end.to_string(), text, "{rows} {asked:?}");
            assert_eq!(counts.malformed, counts.rows);
        }
    }
}

/// What JSON that is not CloudFront's does to the log, alone and beside rows.
// proves: I9, I40, I41
#[test]
fn foreign_and_wrapped_objects_are_counted() {
    let good = "{\"timestamp(ms)\":\"1700000000000\",\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/a\"}";
    let few = "{\"timestamp(ms)\":\"1\",\"cs-method\":\"GET\"}";
    let (foreign, wrapped, unknown) = ("{\"webaclId\":1}", "{\"message\":\"x\"}", "{\"a\":1}");
    for (objects, [sent, malformed, rejected, foreign], reason) in [
        (vec![good, foreign], [1, 0, 0, 1], None),
        (vec![foreign, good, foreign], [1, 0, 0, 2], None),
        (vec![foreign, foreign], [0, 0, 0, 2], None),
        (vec![wrapped, good], [1, 0, 1, 0], None),
        (vec![wrapped, unknown], [0, 0, 2, 0], None),
        (vec![unknown, good], [1, 0, 1, 0], None),
        (vec![foreign, unknown], [0, 0, 1, 1], None),
        (vec![unknown, few], [0, 1, 1, 0], None),
        (
            vec![few, few],
            [0, 2, 0, 0],
            Some("(line 1): log lacks required fields: cs-uri-stem. Add"),
        ),
    ] {
        let (counts, end) = counts_and_end(&objects.join("\n"), Rows::all());
        let found = [
            counts.sent,
            counts.malformed,
            counts.rejected,
            counts.foreign,
        ];
        assert_eq!(found, [sent, malformed, rejected, foreign], "{objects:?}");
        match (&end, reason) {
            (None, None) => {}
            (Some(end), Some(reason)) => assert!(end.to_string().contains(reason), "{end}"),
            _ => panic!("{objects:?}: {end:?}"),
        }
    }
}

/// Objects by which services test the bucket are told by their text, else by their name.
// proves: I11
#[test]
fn access_tests_are_skipped() {
    let is_skipped = |key: &str, text: &str| {
        let bytes = Cursor::new(text.to_owned().into_bytes());
        let job = Job::all(ObjectRef::in_s3("b", key));
        Batches::new(&job, bytes, Arc::new(everything()))
            .next()
            .is_none()
    };
    assert!(is_skipped(
        "logs/aws-logs-write-test",
        "Permission Check Successful"
    ));
    assert!(is_skipped("logs/x", "Permission Check Successful\n"));
    assert!(is_skipped(
        "logs/aws-programmatic-access-test-object",
        "anything"
    ));
    assert!(!is_skipped("logs/x", "anything"));
}

/// Without the key, which is part of the secret, nothing is sent.
// proves: I37
#[tokio::test]
async fn cookies_are_hashed_with_the_key_from_the_secret() {
    let text = row(&[("cs(Cookie)", "sid=canary"), ("x-edge-request-id", "id")]);
    let hashed = Redaction {
        urls: Some(Names::default()),
        cookies: Cookies::Hash(None),
    };
    for key in [None, Key::new(*b"0123456789abcdef")] {
        let options = Options::default();
        let mut world = world(options.clone(), Limits::default()).await;
        let credentials = Credentials {
            redaction_key: key.clone(),
            ..Credentials::new(options.client_id.clone(), options.client_secret.clone())
        };
        world.function.bridge = client_with(
            &world.bridge,
            CredentialsSource::Variables(credentials),
            AuthMethod::Post,
            None,
        );
        world.function.rules = Arc::new(Rules {
            redaction: hashed.clone(),
            ..Rules::default()
        });
        world.s3.put("log", text.clone());
        let context = Context {
            deadline: Deadline::NEVER,
            trace: None,
            function: "edgetap".to_owned(),
        };
        let response = world.function.handle(s3_event(&["log"]), &context).await;
        let received = world.bridge.received();
        if key.is_none() {
            let error = response.unwrap_err().to_string();
            assert!(error.contains("redaction_key"), "{error}");
            assert_eq!(received.len(), 0);
        } else {
            response.unwrap();
            let cookie = String::from_utf8(
                received[0].transactions[0]
                    .request_header("Cookie")
                    .unwrap(),
            )
            .unwrap();
            assert!(cookie.starts_with("sid="), "{cookie}");
            assert_eq!(cookie.len(), 20, "{cookie}");
        }
    }
}

/// Encodes a value as CloudFront does (Developer Guide, "Standard log file format").
fn logged(value: &str) -> String {
    let encoded = value.bytes().map(|b| {
        if b <= 32 || b >= 127 || b"<>\"#%{}|\\^~[]`'".contains(&b) {
            format!("%{b:02X}")
        } else {
            char::from(b).to_string()
        }
    });
    encoded.collect()
}

pub(crate) const FIELDS: [Field; 33] = {
    let mut fields = [Field::Date; 33];
    let mut index = 0;
    while index < fields.len() {
        fields[index] = Field::ALL[index];
        index += 1;
    }
    fields
};

/// The 33 values of a request in a legacy log.
pub(crate) fn request() -> impl Strategy<Value = Vec<String>> {
    let text = || {
        prop_oneof![Just("-".to_owned()), "[ -~]{1,20}", "\\PC{1,8}"]
            .prop_map(|text| if text == "-" { text } else { logged(&text) })
    };
    (
        prop::collection::vec(text(), 33),
        prop::sample::select(vec!["192.0.2.7", "2001:db8::7", "x.x.x.x"]),
        prop::sample::select(vec!["GET", "POST", "PROPFIND"]),
        prop::sample::select(vec!["200", "404", "000"]),
        0u32..86_400,
        0u32..100_000,
    )
        .prop_map(|(mut values, ip, method, status, second, took)| {
            values[0] = String::from("2026-11-14");
            values[1] = format!(
                "{:02}:{:02}:{:02}",
                second / 3600,
                second / 60 % 60,
                second % 60
            );
            values[3] = took.to_string();
            values[4] = ip.into();
            values[5] = method.into();
            values[7] = format!("/{}", values[7]);
            values[8] = status.into();
            values[18] = format!("{}.{:03}", took / 1000, took % 1000);
            values[26] = took.to_string();
            values
        })
}

pub(crate) enum Format {
    /// Separators of names and of values.
    Header(&'static str, &'static str),
    Headerless,
    Json,
}

/// Writes a log of the fields with these indices.
pub(crate) fn write(requests: &[Vec<String>], fields: &[usize], format: &Format) -> String {
    let names: Vec<&str> = fields.iter().map(|&index| FIELDS[index].name()).collect();
    let rows = requests.iter().map(|request| {
        fields
            .iter()
            .map(|&index| request[index].as_str())
            .collect::<Vec<_>>()
    });
    match format {
        Format::Header(between, delimiter) => {
            format!("#Fields: {}\n", names.join(between))
                + &rows
                    .map(|row| row.join(delimiter) + "\n")
                    .collect::<String>()
        }
        Format::Headerless => rows.map(|row| row.join("\t") + "\r\n").collect(),
        Format::Json => rows
            .map(|row| {
                Value::Object(
                    names
                        .iter()
                        .zip(row)
                        .map(|(name, value)| ((*name).to_owned(), json!(value)))
                        .collect(),
                )
                .to_string()
                    + "\n"
            })
            .collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The reference has all 33 columns, with `-` in those that the other format lacks.
    // proves: I2, I3
    #[test]
    fn every_format_and_width_gives_the_same_transactions(
        requests in prop::collection::vec(request(), 1..4),
        order in Just((0..33).collect::<Vec<usize>>()).prop_shuffle(),
        subset in prop::collection::vec(any::<bool>(), 33),
    ) {
        let required = [0, 1, 4, 5, 7];
        let chosen: Vec<usize> = order.into_iter().filter(|index| subset[*index] || required.contains(index)).collect();
        let all: Vec<usize> = (0..33).collect();
        let mut formats = vec![(all.clone(), Format::Json), (chosen.clone(), Format::Json)];
        for (between, delimiter) in [(" ", "\t"), ("\t", "\t"), ("|", "|"), ("||", "||"), (" ", " "), (" ", "~^~")] {
            formats.push((chosen.clone(), Format::Header(between, delimiter)));
        }
        for width in [12, 15, 18, 19, 23, 24, 26, 33] {
            formats.push((all[..width].to_vec(), Format::Header(" ", "\t")));
            formats.push((all[..width].to_vec(), Format::Headerless));
        }
        for (fields, format) in formats {
            let masked: Vec<Vec<String>> = requests
                .iter()
                .map(|request| (0..33).map(|index| if fields.contains(&index) { request[index].clone() } else { "-".to_owned() }).collect())
                .collect();
            let expected = lines(&write(&masked, &all, &Format::Header(" ", "\t")));
            prop_assert_eq!(expected.len(), requests.len());
            let text = write(&requests, &fields, &format);
            prop_assert_eq!(lines(&text), expected, "{}", text);
        }
    }
}

const CANARY: &str = "cAnArY5f1d";

/// A body as it is, followed by its headers decoded.
fn shown(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for transaction in decode(body).into_iter().flatten() {
        for header in transaction
            .request
            .headers
            .iter()
            .chain(&transaction.response.headers)
        {
            let (_, value) = header.split_once(':').unwrap();
            text.push_str(&String::from_utf8_lossy(&STANDARD.decode(value).unwrap()));
        }
    }
    text
}

/// Fields that are never a URL, and so are not searched for credentials.
const NO_URLS: [&str; 15] = [
    "cs(Host)",
    "cs(User-Agent)",
    "x-forwarded-for",
    "cs-method",
    "x-host-header",
    "cs-protocol",
    "cs-protocol-version",
    "sc-content-type",
    "x-edge-request-id",
    "x-edge-location",
    "c-ip",
    "date",
    "time",
    "timestamp",
    "timestamp(ms)",
];

/// Runs a log through the pipeline and returns all log lines, errors and `Debug` output.
fn said_of(text: &str, rules: Rules) -> String {
    let lines = CapturedLogs::default();
    let subscriber: Arc<dyn tracing::Subscriber + Send + Sync> =
        Arc::new(telemetry::json(Level::TRACE, lines.clone()));
    let _current = tracing::subscriber::set_default(subscriber);
    let batches = Batches::new(
        &Job::all(ObjectRef::local("k")),
        Cursor::new(text.to_owned().into_bytes()),
        Arc::new(rules),
    );
    let ends: Vec<String> = batches
        .map(|batch| {
            format!(
                "{batch:?} {}",
                batch
                    .as_ref()
                    .err()
                    .map(ToString::to_string)
                    .unwrap_or_default()
            )
        })
        .collect();
    lines.text() + &ends.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // proves: S1
    #[test]
    fn log_content_never_reaches_messages(
        field in prop::sample::select(Field::ALL.iter().map(|field| field.name()).chain(["x-of-tomorrow"]).collect::<Vec<_>>()),
        prefix in prop::sample::select(vec!["", "/", "/a.css?", "https://h/?sig=", "%zz", "{"]),
        json in any::<bool>(),
        broken in any::<bool>(),
    ) {
        let value = format!("{prefix}{CANARY}");
        let mut text = if json { json!({"timestamp(ms)": "1700000000000", "c-ip": "::1", "cs-method": "GET", "cs-uri-stem": "/a", field: value}).to_string() } else { row(&[(field, &value)]) };
        if broken {
            text.truncate(text.len() - 5);
        }
        prop_assert!(!said_of(&text, Rules::default()).contains(CANARY), "{}", text);
    }

    /// In both formats, in every field, at every depth of encoding and in any case.
    // proves: I33, I34, I35
    #[test]
    fn credentials_in_urls_are_never_sent(
        name in prop::sample::select(vec![
            "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature",
            "Policy", "Key-Pair-Id", "password", "passwd", "pwd", "client_secret", "access_token", "refresh_token", "id_token",
            "passphrase", "j_password", "new_password", "password[]", "user[password]", "user.password", "user:password", "csrf_token",
            "access_token[0]", "token", "api_key", "apikey", "secret", "code", "otp", "session_id", "authorization",
        ]),
        upper in any::<bool>(),
        depth in 0usize..3,
        field in prop::sample::select(Field::ALL.iter().map(|field| field.name()).chain(["x-of-tomorrow"]).collect::<Vec<_>>()),
        json in any::<bool>(),
        cookies in prop::sample::select(vec![Cookies::Drop, Cookies::Hash(None), Cookies::Hash(Key::new(*b"0123456789abcdef"))]),
        ndjson in any::<bool>(),
    ) {
        prop_assume!(!NO_URLS.contains(&field));
        let name = if upper { name.to_uppercase() } else { name.to_owned() };
        // A password may contain anything, but in a path a slash ends it.
        let is_password = name.to_lowercase().contains("pass") || name.eq_ignore_ascii_case("pwd");
        let before = match (is_password, field) {
            (true, "cs-uri-stem") => "",
            (true, _) => "a/b?c+",
            (false, "cs-uri-stem") => "a-b_c~d.e%2B",
            (false, _) => "a-b_c~d.e%2F",
        };
        let parameter = format!("{name}={before}{CANARY}");
        let nested = (0..depth).fold(parameter, |inner, _| format!("next={}", percent_encoding::utf8_percent_encode(&inner, percent_encoding::NON_ALPHANUMERIC)));
        let value = match field {
            "cs-uri-stem" => format!("/a;{nested}"),
            "cs-uri-query" => format!("a=1&{nested}&b=2"),
            "cs(Cookie)" => format!("sid={CANARY}; theme=dark"),
            "cs(Referer)" => format!("https://h/p{}{nested}&b=2", if upper { "#" } else { "?" }),
            "x-of-tomorrow" => format!("{nested}&b=2"),
            _ => format!("https://h/p?{nested}&b=2"),
        };
        let text = if json {
            json!({"timestamp(ms)": "1700000000000", "c-ip": "192.0.2.7", "cs-method": "GET", "cs-uri-stem": "/a"}).as_object().map(|row| {
                let mut row = row.clone();
                row.insert(field.to_owned(), json!(logged(&value)));
                Value::Object(row).to_string() + "\n"
            }).unwrap()
        } else {
            row(&[(field, &logged(&value))])
        };
        let redaction = Redaction { urls: Some(Names::default()), cookies };
        let encoding = if ndjson { Encoding::Ndjson } else { Rules::default().encoding };
        let (body, counts) = read(&text, Rules { redaction, encoding, ..everything() });
        prop_assert_eq!(counts.sent, 1);
        prop_assert!(!shown(&body).contains(CANARY), "{}\n{}", text, shown(&body));
        // It is sent if redaction is off.
        let off = Redaction { urls: None, cookies: Cookies::Keep };
        let (body, _) = read(&text, Rules { redaction: off, ..everything() });
        let numeric = ["sc-status", "time-taken", "c-port", "sc-content-len", "sc-range-start", "sc-range-end", "DistributionId"];
        prop_assert!(shown(&body).contains(CANARY) || numeric.contains(&field), "{}", text);
    }
}

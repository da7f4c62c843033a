//! `edgetap report`: its numbers are those of the pipeline, and a log cannot write into it. What a
//! browser makes of the page is checked in `tests/report/`.

use std::fmt::Write as _;
use std::process::Output;
use std::sync::Arc;

use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules, Summary};
use serde_json::Value;

use crate::command_line::{edgetap, stderr, stdout};
use crate::support::fake_s3::FakeS3;
use crate::support::{fixtures, gzip};

const HEADER: &str = "#Fields: timestamp(ms) c-ip cs-method x-host-header cs-uri-stem cs-uri-query sc-status cs(Cookie) cs(Referer)\n";

fn row(ip: &str, method: &str, host: &str, path: &str, query: &str) -> String {
    format!("1700000000000\t{ip}\t{method}\t{host}\t{path}\t{query}\t200\t-\t-\n")
}

/// A row whose request ended this many minutes after the end of the others.
fn row_after(minutes: i64, path: &str) -> String {
    let end = 1_700_000_000_000 + minutes * 60_000;
    format!("{end}\t192.0.2.7\tGET\th\t{path}\t-\t200\tsid=1\t-\n")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(output)))
}

fn report(log: &str) -> Value {
    json(&edgetap(&["report", "--json", "-"], &[], log.as_bytes()))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn sum(list: &Value, name: &str) -> u64 {
    let values = list.as_array().unwrap().iter();
    values.map(|value| number(&value[name])).sum()
}

/// Writes the page of a log, and returns it, with plain slashes.
fn page(log: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("page.html");
    let output = edgetap(
        &["report", "-", "--html", file.to_str().unwrap()],
        &[],
        log.as_bytes(),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    std::fs::read_to_string(file)
        .unwrap()
        .replace("&#x2f;", "/")
}

#[test]
fn report_counts_what_the_pipeline_counts() {
    for file in std::fs::read_dir(fixtures().join("logs")).unwrap() {
        let path = file.unwrap().path();
        let name = path.to_string_lossy().into_owned();
        let output = edgetap(&["report", "--json", &name], &[], b"");
        let job = Job::all(ObjectRef::local(name.as_str()));
        let log = std::fs::File::open(&path).unwrap();
        let (mut summary, mut is_whole) = (Summary::default(), true);
        for batch in Batches::new(&job, log, Arc::new(Rules::default())) {
            match batch {
                Ok(batch) => summary.accept(&batch),
                Err(_) => is_whole = false,
            }
        }
        let counts = summary.counts;
        let is_read = is_whole && summary.flaws.rows.is_empty();
        let status = i32::from(!is_read || counts.rows == 0);
        assert_eq!(output.status.code(), Some(status), "{path:?}");
        if counts.rows == 0 {
            assert_eq!(stdout(&output), "", "{path:?}");
            continue; // there is nothing to report on
        }
        let report = json(&output);
        let totals = &report["totals"];
        for (name, count) in [
            ("rows", counts.rows),
            ("sent", counts.sent),
            ("static", counts.static_assets),
            ("excluded", counts.excluded),
            ("malformed", counts.malformed),
            ("rejected", counts.rejected),
            ("foreign", counts.foreign),
            ("unreadable_values", counts.unreadable),
        ] {
            assert_eq!(totals[name], count, "{name} of {path:?}");
        }
        let total = &report["backfill"]["total"];
        assert_eq!(total["requests"], summary.batches, "{path:?}");
        assert_eq!(total["body_bytes"], summary.bytes, "{path:?}");
        for list in ["methods", "hosts", "endpoints", "clients"] {
            let values = &report[list]["values"];
            assert_eq!(
                sum(values, "transactions"),
                counts.sent,
                "{list} of {path:?}"
            );
        }
        assert_eq!(sum(&report["statuses"], "count"), counts.sent, "{path:?}");
        assert_eq!(
            sum(&report["hours"]["values"], "static"),
            counts.static_assets
        );
        assert_eq!(
            sum(&report["static_extensions"], "count"),
            counts.static_assets
        );
    }
}

#[test]
fn report_does_not_depend_on_the_order_of_reading() {
    let directory = tempfile::tempdir().unwrap();
    for log in 0..12_u32 {
        let mut text = HEADER.to_owned();
        for at in 0..(13 - log) * 40 {
            text += &row(
                "192.0.2.7",
                "GET",
                "h",
                &format!("/a{}/b", at * log % 97),
                "-",
            );
        }
        std::fs::write(directory.path().join(format!("{log}.gz")), gzip(&text)).unwrap();
    }
    let path = directory.path().to_str().unwrap();
    let report = || edgetap(&["report", "--json", path], &[], b"").stdout;
    let first = report();
    assert!((0..3).all(|_| report() == first));
}

#[test]
fn settings_decide_what_is_reported() {
    let log = [
        HEADER,
        &row("192.0.2.7", "GET", "h", "/health", "-"),
        &row("192.0.2.7", "GET", "h", "/id.png", "-"),
        &row("192.0.2.7", "GET", "h", "/x", "pin=1234"),
    ]
    .concat();
    let settings = [
        ("EXCLUDE_PATHS", "/health"),
        ("INCLUDE_PATHS", "/id.png"),
        ("REDACT", "on,+pin"),
    ];
    let report = json(&edgetap(
        &["report", "--json", "-"],
        &settings,
        log.as_bytes(),
    ));
    assert_eq!(report["totals"]["excluded"], 1);
    assert_eq!(report["totals"]["sent"], 2);
    assert_eq!(report["kept"][0]["reason"], "the path is in INCLUDE_PATHS");
    assert_eq!(report["masked"]["by"][0]["name"], "pin");
}

#[test]
fn list_that_is_full_says_so_and_keeps_the_frequent() {
    let mut log = HEADER.to_owned();
    for at in 0..30_000_u32 {
        log += &row(
            &format!("10.0.{}.{}", at / 200, at % 200),
            "GET",
            &format!("h-{}-{}", at / 200, at % 200),
            "/",
            "-",
        );
        if at % 10 == 0 {
            log += &row("192.0.2.7", "GET", "often", "/", "-");
        }
    }
    let report = report(&log);
    let hosts = &report["hosts"];
    let first = &hosts["values"][0];
    assert_eq!(first["name"], "often");
    let (count, short) = (number(&first["transactions"]), number(&hosts["short"]));
    assert!(
        short > 0 && count <= 3000 && count + short >= 3000,
        "{first} {short}"
    );
    assert_eq!(hosts["different"], Value::Null);
    assert_eq!(hosts["values"].as_array().unwrap().len(), 100);
    let listed = sum(&hosts["values"], "transactions");
    assert_eq!(listed + number(&hosts["others"]), 33_000);
    for text in [
        stdout(&edgetap(&["report", "-"], &[], log.as_bytes())),
        page(&log),
    ] {
        assert!(
            text.contains("a count may be too small, by at most"),
            "{text}"
        );
    }
}

/// Values that must not be shown, and one that must.
#[test]
fn report_shows_no_credential_value_or_cookie() {
    let canaries = [
        "canaryquery",
        "canarycookie",
        "canarybare",
        "canaryreferer",
        "canaryparameter",
        "c4n4ry7t0k3n9",
        "canaryPassword",
    ];
    let log = [
        HEADER,
        "1700000000000\t192.0.2.7\tGET\th\t/visible;x=canaryparameter/c4n4ry7t0k3n9\tk=canaryquery&password=canaryPassword\t200\t\
         sid=canarycookie;%20canarybare\thttps://u:canaryreferer@x/?token=canaryreferer1\n",
    ]
    .concat();
    let texts = [
        stdout(&edgetap(&["report", "-"], &[], log.as_bytes())),
        report(&log).to_string(),
        page(&log),
    ];
    for text in texts {
        for canary in canaries {
            assert!(!text.contains(canary), "{canary}: {text}");
        }
        assert!(text.contains("/visible;x={value}/{id}"), "{text}");
        assert!(text.contains("password") && text.contains("sid"), "{text}");
    }
}

#[test]
fn log_cannot_write_into_any_view() {
    let log = [
        HEADER,
        &row("192.0.2.7", "GET", "h", "/<script>alert(1)</script>", "-"),
        &row(
            "192.0.2.7",
            "GET",
            "\"><img%20src=x%20onerror=alert(1)>",
            "/a",
            "-",
        ),
        &row("192.0.2.7", "GET", "%E2%80%AEevil%1B[31m%07", "/b", "-"),
        &row("192.0.2.7", "GET", "%FF%FE%00", "/{{7*7}}", "-"),
        &row("192.0.2.7", "GET", "a%E2%80%8Bb", "/a", "-"),
        &row("192.0.2.7", "<svg/onload=1>", "h", "/c", "-"),
    ]
    .concat();
    let page = page(&log);
    assert_eq!(page.matches("<script").count(), 1, "{page}");
    for raw in ["<img", "<svg/onload", "alert(1)</"] {
        assert!(!page.contains(raw), "{raw}");
    }
    assert!(page.contains("{{7*7}}"), "{page}");
    let text = stdout(&edgetap(&["report", "-"], &[], log.as_bytes()));
    let json = report(&log).to_string();
    for view in [page, text, json] {
        let is_wild = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!view.contains(is_wild), "{view:?}");
        assert!(view.contains("u{202e}evil"), "{view}");
        assert!(view.contains("u{200b}b"), "{view}");
    }
}

#[test]
fn page_needs_nothing_but_its_file() {
    let log = HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-");
    let page = page(&log);
    assert!(page.starts_with("<!doctype html>"), "{page}");
    assert!(
        page.contains("default-src &#x27;none&#x27;; style-src &#x27;sha256-"),
        "{page}"
    );
    for outside in ["src=", "href=", "url(", "@import", "style="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn page_replaces_a_file_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let log = HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-");
    std::fs::write(at("old.html"), "old").unwrap();
    let write = |file: &str| edgetap(&["report", "-", "--html", file], &[], log.as_bytes());
    assert!(write(&at("old.html")).status.success());
    let written = std::fs::read_to_string(at("old.html")).unwrap();
    assert!(written.ends_with("</html>\n"), "{written}");
    for file in [at("missing/page.html"), at(".")] {
        let output = write(&file);
        assert_eq!(output.status.code(), Some(1));
        // Nothing was read before.
        assert_eq!(stdout(&output), "");
        let error = stderr(&output);
        assert!(error.contains("cannot write"), "{error}");
        assert!(!error.contains(".edgetap-report-"), "{error}");
    }
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 1, "a temporary file is left");
}

#[test]
fn report_is_about_what_could_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let log = HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-");
    let [good, missing] = ["good.log", "missing.log"]
        .map(|name| directory.path().join(name).to_str().unwrap().to_owned());
    std::fs::write(&good, log).unwrap();
    let output = edgetap(&["report", "--json", &missing, &good], &[], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("missing.log"),
        "{}",
        stderr(&output)
    );
    let totals = &json(&output)["totals"];
    assert_eq!(
        (&totals["objects"], &totals["unread"]),
        (&1.into(), &1.into())
    );
    let output = edgetap(&["report", &missing], &[], b"");
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(1), "")
    );
}

/// Reports on a log in S3.
async fn report_of_s3(log: &str, arguments: &'static [&'static str]) -> Output {
    let s3 = FakeS3::start().await;
    s3.put("logs/a.gz", gzip(log));
    let endpoint = s3.endpoint();
    let output = tokio::task::spawn_blocking(move || {
        let variables = [
            ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ];
        edgetap(
            &[&["report", "s3://bucket/logs"], arguments].concat(),
            &variables,
            b"",
        )
    });
    output.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_lag_is_that_of_objects_in_s3() {
    let log = HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-");
    let report = json(&report_of_s3(&log, &["--json"]).await);
    // The fake's objects are put 15 minutes and 40 s after the end of that request.
    let delivery = &report["delivery"];
    assert_eq!(
        (&delivery["rows"], &delivery["slowest"]),
        (&1.into(), &16.into())
    );
    assert_eq!(delivery["within"][2]["rows"], 1, "{delivery}");
    assert_eq!(report["backfill"]["days"]["values"][0]["day"], "2023-11-14");
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_lag_of_old_rows_is_said_in_words() {
    let old = row_after(-2880, "/old");
    let new = row("192.0.2.7", "GET", "h", "/a", "-");
    for (rows, expected) in [
        (
            [&old, &old, &new],
            "half of the rows are more than a day older than their logs in S3",
        ),
        (
            [&old, &new, &new],
            "within 16 minutes of the request's end, 1 row (33.3%) after more than a day.",
        ),
    ] {
        let log = [HEADER, rows[0], rows[1], rows[2]].concat();
        let text = stdout(&report_of_s3(&log, &[]).await);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("within more"), "{text}");
    }
}

#[test]
fn report_on_nothing_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, log: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, log).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let one = write(
        "E2EXAMPLE00000.2023-11-14-22.abcdef01.log",
        &(HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-")),
    );
    let plain = write(
        "plain.log",
        &(HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-")),
    );
    let empty = write("empty.log", "");
    let header = write("header.log", HEADER);
    for (arguments, expected) in [
        (
            &[one.as_str(), "--since", "2027-01-01"][..],
            "error: no log was read: all are outside --since, --until or --distribution\n  hint: widen them\n",
        ),
        (
            &[&one, "--distribution", "E2OTHER0000000"],
            "error: no log was read: all are outside --since, --until or --distribution\n  hint: widen them\n",
        ),
        (
            &[&plain, "--since", "2027-01-01"],
            "error: no row is between --since and --until: 1 row is outside\n  hint: widen them\n",
        ),
        (&[&empty], "error: the log has no data rows\n"),
        (
            &[&empty, &header, "--json"],
            "error: the logs have no data rows\n",
        ),
    ] {
        let output = edgetap(&[&["report"], arguments].concat(), &[], b"");
        assert_eq!(
            (
                output.status.code(),
                stdout(&output).as_str(),
                stderr(&output).as_str()
            ),
            (Some(1), "", expected),
            "{arguments:?}"
        );
    }
}

#[test]
fn objects_of_other_services_are_no_logs() {
    let directory = tempfile::tempdir().unwrap();
    let test = directory.path().join("aws-logs-write-test");
    std::fs::write(&test, "AWS Logs Write Test\n").unwrap();
    let test = test.to_str().unwrap();
    let output = edgetap(&["report", test], &[], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "0 logs, 0 rows\n");
    let log = HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-");
    let output = edgetap(&["report", test, "-", "--json"], &[], log.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["totals"]["objects"], 1);
    assert_eq!(report["backfill"]["total"]["objects"], 1);
}

#[test]
fn window_selects_rows_by_the_end_of_the_request() {
    // 2023-11-14T22:13:20Z, and minutes around it.
    let log = [
        HEADER,
        &row_after(-14, "/early"),
        &row_after(-13, "/a"),
        &row_after(0, "/b"),
        &row_after(0, "/c.png"),
        &row_after(1, "/late"),
        &row_after(1, "/late.png"),
        "not a row\n",
    ]
    .concat();
    let window = [
        "--since",
        "2023-11-14T22:00:20Z",
        "--until",
        "2023-11-14T22:14:20Z",
    ];
    let run = |arguments: &[&str]| {
        let arguments = [&["report", "-"], &window[..], arguments].concat();
        edgetap(&arguments, &[], log.as_bytes())
    };
    let report = json(&run(&["--json"]));
    let totals = &report["totals"];
    for (name, count) in [
        ("rows", 4),
        ("sent", 2),
        ("static", 1),
        ("malformed", 1),
        ("outside", 3),
    ] {
        assert_eq!(totals[name], count, "{name}: {totals}");
    }
    assert_eq!(sum(&report["endpoints"]["values"], "transactions"), 2);
    assert_eq!(report["period"]["from"], "2023-11-14T22:00:20Z");
    assert_eq!(report["period"]["to"], "2023-11-14T22:13:20Z");
    // A backfill sends whole logs.
    assert_eq!(report["backfill"]["total"]["transactions"], 4);
    let text = stdout(&run(&[]));
    assert!(
        text.contains("without 3 rows outside --since and --until"),
        "{text}"
    );
}

#[test]
fn page_replaces_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("victim.log");
    let log = HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-");
    std::fs::write(&file, &log).unwrap();
    let name = file.to_str().unwrap();
    let other = directory.path().join(".").join("victim.log");
    for (page, expected) in [
        (name, "names one of the logs"),
        (other.to_str().unwrap(), "names one of the logs"),
        ("-", "needs the name of a file"),
    ] {
        let output = edgetap(&["report", name, "--html", page], &[], b"");
        assert_eq!(output.status.code(), Some(2), "{page}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), log);
    }
}

#[test]
fn host_shows_no_password_and_whole_characters() {
    let accents = "%C3%A9".repeat(100);
    let log = [
        HEADER,
        &row("192.0.2.7", "GET", "user:hunter2@evil.example", "/a", "-"),
        &row("192.0.2.7", "GET", &format!("x{accents}"), "/a", "-"),
    ]
    .concat();
    let report = report(&log).to_string();
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("{value}@evil.example"), "{report}");
    assert!(!report.contains('\u{fffd}'), "{report}");
}

#[test]
fn estimate_is_for_the_concurrency_of_a_backfill() {
    let log = HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a", "-");
    let duration = |arguments: &[&str]| {
        let arguments = [&["report", "-", "--json"], arguments].concat();
        let report = json(&edgetap(&arguments, &[], log.as_bytes()));
        report["backfill"]["total"]["duration_seconds"]
            .as_f64()
            .unwrap()
    };
    assert!(duration(&[]) / duration(&["--concurrency", "20"]) > 9.0);
    let text = stdout(&edgetap(&["report", "-"], &[], log.as_bytes()));
    for part in [
        "at 2 invocations at a time",
        "1 request to the bridge",
        "done in 0.2 s",
        "for data out",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn page_says_what_becomes_of_cookies() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("page.html");
    for (handling, expected) in [
        ("keep", "Cookies, sent as logged"),
        ("drop", "Cookies, dropped"),
    ] {
        let log = HEADER.to_owned() + &row_after(0, "/a");
        edgetap(
            &["report", "-", "--html", file.to_str().unwrap()],
            &[("REDACT_COOKIES", handling)],
            log.as_bytes(),
        );
        let page = std::fs::read_to_string(&file).unwrap();
        assert!(page.contains(expected), "{page}");
        let bar = format!("<rect class=\"cookies-{handling}\"");
        assert!(page.contains(&bar), "{page}");
    }
}

#[test]
fn largest_transactions_keep_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("folder/".repeat(12));
    std::fs::create_dir_all(&deep).unwrap();
    let name = "E2EXAMPLE00000.2023-11-14-22.abcdef01.gz";
    let log = HEADER.to_owned() + &row("192.0.2.7", "GET", "h", &"/a/b".repeat(40), "-");
    std::fs::write(deep.join(name), gzip(&log)).unwrap();
    let file = deep.join(name);
    let text = stdout(&edgetap(&["report", file.to_str().unwrap()], &[], b""));
    assert!(text.contains(&format!("{name}:2\n")), "{text}");
}

#[test]
fn page_marks_code() {
    let page = page(&(HEADER.to_owned() + &row("192.0.2.7", "GET", "h", "/a;.css", "-")));
    assert!(page.contains("<code>;</code>"), "{page}");
    assert!(!page.contains('`'), "{page}");
}

#[test]
fn terminal_report_fits_every_width() {
    let mut log = HEADER.to_owned();
    for at in 0..300_u32 {
        let path = format!(
            "/a/long/path/of/a/service/that/has/many/parts/{}",
            "x/".repeat(20)
        );
        let host = format!("host-{}.example.com", at % 12);
        _ = write!(log, "{}", row("2001:db8::1", "GET", &host, &path, "-"));
    }
    // Without a terminal, lines are as wide as 100 characters.
    let text = stdout(&edgetap(&["report", "-"], &[], log.as_bytes()));
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest.unwrap() <= 100, "{text}");
}

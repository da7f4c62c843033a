//! The `edgetap` program: its output and exit status. `golden.rs` compares whole outputs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use edgetap::local_bridge::{Endpoint, LocalBridge, Options, Reaction, decode};
use serde_json::Value;

use crate::support::{fixtures, gzip, log, start};

/// Runs `edgetap` in an empty directory, with no variables but those given.
pub(crate) fn edgetap(args: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_edgetap"))
        .args(args)
        .env_clear()
        .env("TMPDIR", directory.path())
        .envs(variables.iter().copied())
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    match child.stdin.take().unwrap().write_all(input) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {} // it ended without reading
        written => written.unwrap(),
    }
    child.wait_with_output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn settings(bridge: &LocalBridge, options: &Options) -> Vec<(&'static str, String)> {
    vec![
        ("BRIDGE_AUTH_ENDPOINT", bridge.token_url()),
        ("BRIDGE_EDGE_ENDPOINT", bridge.edge_url()),
        ("BRIDGE_CLIENT_ID", options.client_id.clone()),
        ("BRIDGE_CLIENT_SECRET", options.client_secret.clone()),
    ]
}

pub(crate) async fn against(
    bridge: &LocalBridge,
    options: &Options,
    args: &[&str],
    input: Vec<u8>,
) -> Output {
    with_input(settings(bridge, options), args, input).await
}

pub(crate) async fn with_settings(settings: Vec<(&'static str, String)>, args: &[&str]) -> Output {
    with_input(settings, args, Vec::new()).await
}

async fn with_input(
    settings: Vec<(&'static str, String)>,
    args: &[&str],
    input: Vec<u8>,
) -> Output {
    let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let settings = settings.iter();
        let settings: Vec<_> = settings
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        edgetap(&args, &settings, &input)
    })
    .await
    .unwrap()
}

fn fixture(name: &str) -> String {
    fixtures()
        .join("logs")
        .join(name)
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn demo_reports_received_transactions() {
    let output = edgetap(&["demo"], &[], b"");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("The bridge received 44 transactions in 4 requests, using 1 OAuth token"),
        "{text}"
    );
    assert!(text.contains("/../../etc/passwd"), "{text}");
    assert!(text.contains("?sig=REDACTED&page=2"), "{text}");
    assert!(text.contains("edgetap-demo-"), "{text}");
    assert_eq!(stderr(&output), "");
}

#[test]
fn replay_prints_json_lines_and_summary() {
    let output = edgetap(
        &[
            "replay",
            &fixture("E27FO14I29XXXX.2026-11-14-20.d740d76b.gz"),
        ],
        &[],
        b"",
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 12);
    for line in &lines {
        assert_eq!(line["cloudfront"]["distribution"], "E27FO14I29XXXX");
        assert!(line["request"]["path"].is_string());
    }
    let summary = stderr(&output);
    assert!(summary.contains("1 object, 17 rows"), "{summary}");
    assert!(
        summary.contains("12 to send, 4 static, 0 excluded, 1 malformed, 0 rejected"),
        "{summary}"
    );
    assert!(summary.contains("KiB of ndjson\n"), "{summary}");
    assert!(!summary.contains('\u{1b}'), "colors without a terminal");
}

#[test]
fn replay_uap_prints_one_request_body_per_line() {
    let output = edgetap(
        &["replay", "--wire", "uap", "-"],
        &[("BATCH_MAX_TRANSACTIONS", "4")],
        &gzip(&log(10)),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let sizes: Vec<_> = stdout(&output)
        .lines()
        .map(|line| decode(line.as_bytes()).unwrap().len())
        .collect();
    assert_eq!(sizes, [4, 4, 2]);
}

#[test]
fn unreadable_input_exits_1_after_reading_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    let whole = gzip(&log(500));
    write("a-cut.gz", &whole[..whole.len() - 8]);
    write("b-other.txt", b"no log\n");
    std::fs::create_dir(directory.path().join("inner")).unwrap();
    write("inner/c.gz", &whole);
    let output = edgetap(
        &[
            "replay",
            directory.path().to_str().unwrap(),
            "/nowhere/at/all",
        ],
        &[],
        b"",
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().count(), 1000);
    for name in ["a-cut.gz", "b-other.txt", "/nowhere/at/all"] {
        assert_eq!(
            stderr(&output).matches(name).count(),
            1,
            "{name}: {}",
            stderr(&output)
        );
    }
}

// proves: I86
#[test]
fn explain_shows_verdict_fields_and_destinations() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log:2"); // a name may end as a line does
    let row = |method: &str, stem: &str, query: &str| {
        format!("1700000000000\t192.0.2.7\t{method}\t{stem}\t{query}\tx%20\u{1b}[31m\n")
    };
    let header = "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem cs-uri-query x-new\n";
    let text = [
        header,
        &row("GET", "/a.js", "-"),
        "\n",
        &row("POST", "/a.js", "otp=canary1&a=1&pwd=canary"),
        &row("GET", "/health", "-"),
        &row("-", "/", "-"),
    ];
    std::fs::write(&path, text.concat()).unwrap();
    let explain = |line: &str| {
        edgetap(
            &["explain", &format!("{}{line}", path.display())],
            &[("EXCLUDE_PATHS", "/health")],
            b"",
        )
    };
    for (line, expected) in [
        (
            "",
            &[
                "line 2 (row 0)\nNot sent: static asset (extension `.js`).\n",
                "Not in this log: x-edge-request-id",
            ][..],
        ),
        (
            ":4",
            &[
                "line 4 (row 1)\nSent: ",
                "request.uri-query-fragment",
                "otp=REDACTED&a=1&pwd=REDACTED",
                "x-new",
                "Masked (REDACT): cs-uri-query (`otp`, `pwd`)\n",
                "\"x-new\": \"x ",
            ],
        ),
        (
            ":5",
            &["Not sent: excluded path (EXCLUDE_PATHS has `/health`).\n"],
        ),
        (":6", &["Not sent: malformed row (", "cs-method"]),
    ] {
        let output = explain(line);
        assert!(output.status.success(), "{}", stderr(&output));
        for words in expected {
            assert!(
                stdout(&output).contains(words),
                "{words}: {}",
                stdout(&output)
            );
        }
        assert!(!stdout(&output).contains("canary"));
        assert!(!stdout(&output).contains('\u{1b}'));
    }
    for (line, words) in [
        (":0", "line 0 is not a data row: lines are counted from 1\n"),
        (":1", "line 1 is not a data row: it is a header line\n"),
        (":3", "line 3 is not a data row: it is blank\n"),
        (":7", "line 7 is not a data row: the log has 6 lines\n"),
        (":99", "line 99 is not a data row: the log has 6 lines\n"),
        (":x", "log:2:x"),
    ] {
        let output = explain(line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

/// The values of a row that differ from those of an ordinary asset, and what `explain` says first.
// proves: I27
#[test]
fn explain_names_the_test_that_keeps_a_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("static.log");
    for (method, stem, query, agent, status, content_type, verdict) in [
        (
            "GET",
            "/a.CSS",
            "v=1",
            "x",
            "200",
            "text/css",
            "Not sent: static asset (extension `.css`)",
        ),
        (
            "GET",
            "/users/1/id-card.jpg",
            "-",
            "x",
            "200",
            "image/jpeg",
            "Sent: included path (INCLUDE_PATHS has `/users/*/id-card.jpg`)",
        ),
        (
            "PUT",
            "/a.css",
            "-",
            "x",
            "200",
            "text/css",
            "Sent: the method is neither GET nor HEAD",
        ),
        (
            "GET",
            "/a",
            "-",
            "x",
            "200",
            "text/css",
            "Sent: the path does not end in a static-asset extension",
        ),
        (
            "GET",
            "/;/a.css",
            "-",
            "x",
            "200",
            "text/css",
            "Sent: the path contains `;`, `\\`, `?`, `#`, a control character or an encoded delimiter",
        ),
        (
            "GET",
            "/%25252f/a.css",
            "-",
            "x",
            "200",
            "text/css",
            "Sent: the path contains an encoded `%`, or a `%` that encodes nothing",
        ),
        (
            "GET",
            "/%25ff/a.css",
            "-",
            "x",
            "200",
            "text/css",
            "Sent: the path is not UTF-8",
        ),
        (
            "GET",
            "/../a.css",
            "-",
            "x",
            "200",
            "text/css",
            "Sent: the path contains a segment of dots",
        ),
        (
            "GET",
            "/a.php/a.css",
            "-",
            "x",
            "200",
            "text/css",
            "Sent: the path names a server's script before its extension",
        ),
        (
            "GET",
            "/a.css",
            "a='",
            "x",
            "200",
            "text/css",
            "Sent: the query is not one that static assets have",
        ),
        (
            "GET",
            "/a.css",
            &"a".repeat(2049),
            "x",
            "200",
            "text/css",
            "Sent: the query is longer than 2,048 bytes",
        ),
        (
            "GET",
            "/a.css",
            "callback=x",
            "x",
            "200",
            "text/css",
            "Sent: a query parameter selects a callback or another method",
        ),
        (
            "GET",
            "/a.css",
            "-",
            "x",
            "403",
            "text/css",
            "Sent: the status is not one that static assets have",
        ),
        (
            "GET",
            "/a.css",
            "-",
            "x",
            "200",
            "text/plain",
            "Sent: the content type of the response does not fit the extension",
        ),
        (
            "GET",
            "/a.css",
            "-",
            "x",
            "200",
            "-",
            "Sent: the response has no content type",
        ),
        (
            "GET",
            "/a.css",
            "-",
            "%3Cb",
            "200",
            "text/css",
            "Sent: cs(User-Agent) contains `${`, `<`, `\"` or a backtick",
        ),
    ] {
        let names = "cs-method cs-uri-stem cs-uri-query cs(User-Agent) sc-status sc-content-type";
        let row = [method, stem, query, agent, status, content_type].join("\t");
        let text =
            format!("#Fields: timestamp(ms) c-ip {names}\n1700000000000\t192.0.2.7\t{row}\n");
        std::fs::write(&path, text).unwrap();
        let globs = [("INCLUDE_PATHS", "/a/*,/users/*/id-card.jpg")];
        let output = edgetap(&["explain", path.to_str().unwrap()], &globs, b"");
        assert!(output.status.success(), "{}", stderr(&output));
        let output = stdout(&output);
        assert_eq!(
            output.lines().nth(1),
            Some(&*format!("{verdict}.")),
            "{row}"
        );
    }
}

#[test]
fn explain_shows_cookies_as_they_are_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.log");
    let text = "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem cs(Cookie)\n\
                1700000000000\t192.0.2.7\tGET\t/a\taccess_token=canary\n\
                1700000000000\t192.0.2.7\t-\t/a\taccess_token=canary\n";
    std::fs::write(&path, text).unwrap();
    let explain = |line: &str, variables: &[(&str, &str)]| {
        let output = edgetap(
            &["explain", &format!("{}:{line}", path.display())],
            variables,
            b"",
        );
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let cell = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("cs(Cookie)"));
        let words = line.unwrap().split_whitespace().nth(1);
        words.unwrap().to_owned()
    };

    let kept = explain("2", &[]);
    assert_eq!(cell(&kept), "access_token=canary");
    assert!(!kept.contains("Masked"), "{kept}");

    let hash = [
        ("REDACT_COOKIES", "hash"),
        ("REDACTION_KEY", "0123456789abcdef"),
    ];
    let hashed = explain("2", &hash);
    let value = cell(&hashed);
    assert!(value.starts_with("access_token="), "{value}");
    assert_eq!(
        hashed.matches(&value).count(),
        2,
        "table and JSON: {hashed}"
    );
    assert!(!hashed.contains("canary"), "{hashed}");

    for variables in [&hash[..], &[("REDACT_COOKIES", "drop")]] {
        let malformed = explain("3", variables);
        assert!(
            malformed.contains("\ncs-method      (missing)\n"),
            "{malformed}"
        );
        assert!(!malformed.contains("canary"), "{malformed}");
    }
}

#[test]
fn usage_and_configuration_errors_exit_2() {
    for (args, variables, words) in [
        (vec!["replay"], vec![], "PATH"),
        (
            vec!["replay", "--wire", "xml", "x"],
            vec![],
            "possible values",
        ),
        (vec!["bridge", "--status", "99"], vec![], "99"),
        (vec!["bridge", "--delay", "soon"], vec![], "200ms"),
        (
            vec!["bridge", "--listen", "0.0.0.0:0"],
            vec![],
            "loopback address",
        ),
        (vec!["replay", "--post", "x"], vec![], "BRIDGE_CLIENT_ID"),
        (
            vec!["replay", "x"],
            vec![("BATCH_MAX_BYTES", "1")],
            "BATCH_MAX_BYTES",
        ),
        (
            vec!["replay", "x"],
            vec![("LOG_LEVEL", "loud")],
            "LOG_LEVEL",
        ),
        (
            vec!["replay", "x"],
            vec![("REDACT_COOKIE", "hash")],
            "REDACT_COOKIES",
        ),
        (
            vec!["check", "--env-file", "/nowhere/.env"],
            vec![],
            "/nowhere/.env",
        ),
    ] {
        let output = edgetap(&args, &variables, b"");
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(words),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn dangling_symlink_is_named_and_the_walk_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    std::fs::create_dir_all(logs.join("a")).unwrap();
    std::os::unix::fs::symlink("nothing", logs.join("a/dangling.gz")).unwrap();
    std::fs::write(logs.join("b.log"), log(3)).unwrap();
    let output = edgetap(&["replay", logs.to_str().unwrap()], &[], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().count(), 3);
    let expected = format!(
        "error: cannot read {}/a/dangling.gz: the target of this symbolic link does not exist\n",
        logs.display()
    );
    assert!(
        stderr(&output).starts_with(&expected),
        "{}",
        stderr(&output)
    );
}

#[test]
fn directory_without_files_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::create_dir_all(empty.join("inner")).unwrap();
    let empty = empty.to_str().unwrap();
    let output = edgetap(&["replay", "/nowhere.gz", empty], &[], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        format!(
            "error: cannot read /nowhere.gz: No such file or directory\n\
             error: cannot read {empty}: no files in this directory\n"
        )
    );
}

#[test]
fn logs_without_rows_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.log");
    std::fs::write(&path, b"").unwrap();
    for command in [
        &["replay", path.to_str().unwrap()][..],
        &["replay", "-"],
        &["explain", path.to_str().unwrap()],
        &["find", "some-id", "-"],
    ] {
        let output = edgetap(command, &[], b"");
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(stderr(&output).contains("error: "), "{}", stderr(&output));
    }
}

#[test]
fn names_of_many_logs_and_of_no_bucket_are_told() {
    let folder = fixtures().join("logs");
    let folder = folder.to_str().unwrap();
    for (args, words) in [
        (
            ["explain", &format!("{folder}:4")],
            "logs is a directory, not a log\n  hint: name one log in it",
        ),
        (
            ["explain", "s3://bucket/prefix/:4"],
            "error: s3://bucket/prefix/ is a prefix, not a log\n  hint: ",
        ),
        (
            ["replay", "s3:/bucket/x"],
            "error: cannot read s3:/bucket/x: write it as `s3://BUCKET/PREFIX`\n",
        ),
        (
            ["replay", "S3:///x"],
            "error: cannot read S3:///x: the bucket is missing\n",
        ),
    ] {
        let output = edgetap(&args, &[], b"");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn missing_aws_session_is_told_with_a_command() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    let profiles = "[profile sso]\nsso_session = s\nsso_account_id = 111122223333\n\
                    sso_role_name = r\nregion = us-east-1\n\
                    [sso-session s]\nsso_region = us-east-1\n\
                    sso_start_url = https://127.0.0.1/start\n\
                    [profile login]\nregion = us-east-1\n\
                    login_session = arn:aws:iam::111122223333:user/x\n";
    std::fs::write(&config, profiles).unwrap();
    for (profile, words) in [
        ("sso", "\n  hint: run `aws sso login`\n"),
        ("login", "aws configure export-credentials"),
        ("none", "\n  hint: set `AWS_REGION`\n"),
    ] {
        let variables = [
            ("AWS_PROFILE", profile),
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("HOME", directory.path().to_str().unwrap()),
        ];
        let output = edgetap(&["replay", "s3://bucket/x"], &variables, b"");
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(text.contains(words), "{text}");
        assert!(!text.contains("ProviderError"), "{text}");
    }
}

/// Every command that writes to standard output, with settings for the bridge.
fn writing_commands() -> Vec<Vec<String>> {
    let log = fixture("attack-fidelity.log");
    [
        &["demo"][..],
        &["replay", &log],
        &["replay", "--wire", "uap", &log],
        &["explain", &log],
        &["find", "fidelity-01==", &log],
        &["check"],
        &["bridge", "--listen", "127.0.0.1:0"],
        &["--help"],
        &["bridge", "--help"],
    ]
    .map(|words| words.iter().map(|&word| word.to_owned()).collect())
    .to_vec()
}

/// Runs each command with a standard output that fails, and returns its stderr and exit status.
async fn outputs_to(
    stdout: impl Fn() -> Stdio + Send + 'static,
) -> Vec<(String, String, ExitStatus)> {
    let options = Options::default();
    let bridge = start(&options).await;
    let settings = settings(&bridge, &options);
    let run = move || {
        let mut outputs = Vec::new();
        for args in writing_commands() {
            let mut child = Command::new(env!("CARGO_BIN_EXE_edgetap"))
                .args(&args)
                .env_clear()
                .envs(settings.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stdout(stdout())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let status = exit_within(&mut child, Duration::from_secs(30));
            let mut text = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            outputs.push((args.join(" "), text, status));
        }
        outputs
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn exit_within(child: &mut Child, patience: Duration) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if started.elapsed() > patience {
            child.kill().unwrap();
            panic!("still running after {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn closed_pipe_ends_every_command_quietly() {
    let closed_pipe = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer.into()
    };
    for (command, stderr, status) in outputs_to(closed_pipe).await {
        assert_eq!(stderr, "", "{command}");
        assert_eq!(status.code(), Some(1), "{command}");
    }
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn full_disk_is_an_error_of_every_command() {
    let full = || {
        File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .into()
    };
    for (command, stderr, status) in outputs_to(full).await {
        assert_eq!(
            stderr,
            "error: cannot write to standard output: No space left on device (os error 28)\n",
            "{command}"
        );
        assert_eq!(status.code(), Some(1), "{command}");
    }
}

/// A running `edgetap bridge`, with the settings that it printed.
struct RunningBridge {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    settings: Vec<(String, String)>,
}

impl RunningBridge {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edgetap"))
            .args(["bridge", "--listen", "127.0.0.1:0"])
            .args(options)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut settings = Vec::new();
        while settings.len() < 4 {
            let mut line = String::new();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0);
            if let Some((name, value)) = line.trim_end().split_once('=') {
                settings.push((name.to_owned(), value.to_owned()));
            }
        }
        Self {
            child,
            stdout: Some(stdout),
            settings,
        }
    }

    fn check_send(&self) -> Output {
        let settings = self.settings.iter();
        let settings: Vec<_> = settings
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        edgetap(&["check", "--send"], &settings, b"")
    }

    /// Waits for its end, and returns what it wrote to standard error.
    fn end(mut self) -> (String, ExitStatus) {
        let status = exit_within(&mut self.child, Duration::from_secs(30));
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        (text, status)
    }
}

#[test]
fn bridge_prints_totals_when_interrupted() {
    for (options, lines) in [
        (&[][..], 1),
        (&["--quiet"], 0),
        (&["--status", "204"], 1), // edgetap takes it for an acceptance
    ] {
        assert_totals(RunningBridge::start(options), lines);
    }
}

/// `lines`: how often the bridge names the transaction.
fn assert_totals(mut bridge: RunningBridge, lines: usize) {
    let check = bridge.check_send();
    assert!(check.status.success(), "{}", stderr(&check));
    let pid = bridge.child.id().to_string();
    let kill = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(kill.success());
    let mut text = String::new();
    let stdout = bridge.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("1 transaction, ").count(), lines, "{text}");
    let totals = "1 request: 1 accepted, 0 not in the wire format\n\
                  1 transaction accepted; 0 requests received twice, with the same ids\n\
                  1 token issued\n";
    assert!(text.ends_with(totals), "{text}");
    let (stderr, status) = bridge.end();
    assert_eq!(stderr, "");
    assert!(status.success());
}

#[test]
fn names_that_are_no_input_are_errors() {
    for (name, words) in [
        ("", "error: cannot read : the name is empty\n"),
        ("s3:// /x", "a bucket has letters, digits"),
    ] {
        let output = edgetap(&["replay", name], &[], b"");
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
}

#[test]
fn bridge_prints_what_it_refuses() {
    let mut bridge = RunningBridge::start(&["--status", "503"]);
    assert!(!bridge.check_send().status.success());
    let pid = bridge.child.id().to_string();
    let kill = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(kill.success());
    let mut text = String::new();
    let stdout = bridge.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut text).unwrap();
    let refused = text.matches("responded 503 to 1 transaction\n").count();
    assert!(refused > 0, "{text}");
    let totals = format!(": 0 accepted, {refused} answered 503, 0 not in the wire format\n");
    assert!(text.contains(&totals), "{text}");
    assert!(bridge.end().1.success());
}

#[test]
fn bridge_ends_quietly_once_its_reader_has_left() {
    let mut bridge = RunningBridge::start(&[]);
    bridge.stdout = None;
    bridge.check_send(); // the bridge may end before it responds
    let (stderr, status) = bridge.end();
    assert_eq!(stderr, "");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn bridge_names_the_address_that_is_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = edgetap(&["bridge", "--listen", &address], &[], b"");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    let expected = format!("error: cannot listen on {address}: Address already in use");
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.contains("\n  hint: "), "{text}");
    assert!(text.contains("--listen"), "{text}");
}

/// `println!` panics when the reader has closed the pipe and when the disk is full.
#[test]
fn command_line_sources_use_no_println() {
    let mut paths = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/edgetap")];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(path).unwrap();
            paths.extend(inside.map(|file| file.unwrap().path()));
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for word in ["print!(", "println!("] {
            assert!(!source.contains(word), "{} has {word}", path.display());
        }
    }
}

#[tokio::test]
async fn replay_post_delivers_every_transaction() {
    let options = Options::default();
    let bridge = start(&options).await;
    let output = against(
        &bridge,
        &options,
        &["replay", "--post", &fixture("two-members.gz"), "-"],
        log(600).into_bytes(),
    )
    .await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(bridge.tally().transactions, 603);
    let summary = stderr(&output);
    assert!(summary.contains("2 objects, "), "{summary}");
    assert!(summary.contains("603 sent"), "{summary}");
}

#[tokio::test]
async fn replay_post_says_that_no_row_was_delivered() {
    let options = Options {
        react: std::sync::Arc::new(|arrival| {
            if arrival.endpoint == Endpoint::Edge {
                Reaction::status(404)
            } else {
                Reaction::Normal
            }
        }),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let output = against(
        &bridge,
        &options,
        &["replay", "--post", "-"],
        log(6).into_bytes(),
    )
    .await;
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("error: standard input: no row was delivered: "),
        "{text}"
    );
    assert!(text.contains("404"), "{text}");
}

/// The peak after 40 MB is that after the first 5 MB, because no log is held as a whole.
#[test]
#[cfg(target_os = "linux")]
fn replay_memory_is_independent_of_log_size() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_edgetap"))
        .args(["replay", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let peak = |pid: u32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmHWM:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .parse()
                    .ok()
            })
            .unwrap()
    };
    let mut input = child.stdin.take().unwrap();
    let megabyte = log(1 << 14);
    let mut write =
        |times: usize| (0..times).for_each(|_| input.write_all(megabyte.as_bytes()).unwrap());
    write(5);
    let early = peak(child.id());
    write(35);
    let late = peak(child.id());
    drop(input);
    assert!(child.wait().unwrap().success());
    assert!(
        late < early + 4096,
        "{early} kB after 5 MB, {late} kB after 40 MB"
    );
    assert!(late < 64 << 10, "{late} kB");
}

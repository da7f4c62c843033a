//! The `edgetap` program: what it writes, and how it exits.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use edgetap::local_bridge::{Endpoint, LocalBridge, Options, Reaction, decode};
use serde_json::Value;

use crate::support::{fixtures, gzip, log, start};

/// Runs `edgetap` in an empty folder, with no variables but those given.
fn edgetap(args: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_edgetap"))
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn settings(bridge: &LocalBridge, options: &Options) -> Vec<(&'static str, String)> {
    vec![
        ("BRIDGE_AUTH_ENDPOINT", bridge.token_url()),
        ("BRIDGE_EDGE_ENDPOINT", bridge.edge_url()),
        ("BRIDGE_CLIENT_ID", options.client_id.clone()),
        ("BRIDGE_CLIENT_SECRET", options.client_secret.clone()),
    ]
}

async fn against(bridge: &LocalBridge, options: &Options, args: &[&str], input: Vec<u8>) -> Output {
    let (settings, args) = (
        settings(bridge, options),
        args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>(),
    );
    tokio::task::spawn_blocking(move || {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        edgetap(
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
            &settings,
            &input,
        )
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
fn demo_shows_what_arrived() {
    let output = edgetap(&["demo"], &[], b"");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("What arrived: 42 transactions in 3 posts, with 1 token"),
        "{text}"
    );
    assert!(text.contains("/../../etc/passwd"), "{text}");
}

#[test]
fn replay_writes_our_lines_and_a_summary() {
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
    assert!(lines.iter().all(
        |line| line["cloudfront"]["distribution"] == "E27FO14I29XXXX"
            && line["request"]["path"].is_string()
    ));
    assert!(
        stderr(&output).contains("1 objects, 17 rows"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("12 written, 4 static, 0 excluded, 1 malformed, 0 rejected"),
        "{}",
        stderr(&output)
    );
    assert!(
        !stderr(&output).contains('\u{1b}'),
        "no colours where no terminal is"
    );
}

#[test]
fn replay_writes_request_bodies_one_a_line() {
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
fn what_cannot_be_read_to_its_end_is_exit_1_after_all_that_can_be() {
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

#[test]
fn explain_shows_each_field_where_it_goes_and_why() {
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
        &row("POST", "/a.js", "sig=canary&a=1"),
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
                "line 2: row 0",
                "a request for a static asset",
                "Not in this log: x-edge-request-id",
            ][..],
        ),
        (
            ":4",
            &[
                "row 1",
                "request.uri-query-fragment",
                "sig=REDACTED&a=1",
                "x-new",
                "its method is neither GET nor HEAD",
                "\"x-new\": \"x ",
            ],
        ),
        (":5", &["a request for an excluded path"]),
        (":6", &["cs-method is missing"]),
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
        assert!(!stdout(&output).contains("canary") && !stdout(&output).contains('\u{1b}'));
    }
    for (line, words) in [
        (":1", "line 1 is no row"),
        (":3", "line 3 is no row"),
        (":99", "line 99 is no row"),
        (":x", "log:2:x"),
    ] {
        let output = explain(line);
        assert!(
            output.status.code() == Some(1) && stderr(&output).contains(words),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn usage_and_configuration_are_exit_2() {
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
            vec!["replay", "--post", "x"],
            vec![],
            "BRIDGE_CLIENT_ID is not set",
        ),
        (
            vec!["replay", "x"],
            vec![("BATCH_MAX_BYTES", "1")],
            "BATCH_MAX_BYTES is not a number",
        ),
        (
            vec!["check", "--env-file", "/nowhere/.env"],
            vec![],
            "/nowhere/.env cannot be read",
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
fn help_is_there_for_every_verb() {
    for verb in ["demo", "replay", "check", "bridge"] {
        let output = edgetap(&[verb, "--help"], &[], b"");
        assert!(
            output.status.success() && stdout(&output).contains("Usage: edgetap"),
            "{verb}"
        );
    }
}

#[tokio::test]
async fn replay_post_delivers_and_fails_where_something_is_not_delivered() {
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
    assert!(
        stderr(&output).contains("603 delivered"),
        "{}",
        stderr(&output)
    );

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
    assert!(
        stderr(&output).contains("not delivered from row 0 on") && stderr(&output).contains("404"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn check_says_what_is_right_and_what_is_wrong() {
    let options = Options::default();
    let bridge = start(&options).await;
    let output = against(&bridge, &options, &["check", "--send"], Vec::new()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("token          ok")
            && stdout(&output).contains("transaction    ok"),
        "{}",
        stdout(&output)
    );
    assert_eq!(
        bridge.received()[0].transactions[0]
            .request
            .uri_query_fragment,
        "/edgetap-check?sent-by=edgetap-check"
    );

    let wrong = Options {
        client_secret: "another".to_owned(),
        ..options.clone()
    };
    let output = against(&bridge, &wrong, &["check"], Vec::new()).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("invalid_client") && !stderr(&output).contains("another"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn check_shows_a_certificate_that_is_not_believed_and_how_to_pin_it() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )
    .unwrap();
    let options = Options::default();
    let (plain, over_tls) = (
        start(&options).await,
        start(&Options {
            tls: Some(tls.into()),
            ..options.clone()
        })
        .await,
    );
    let directory = tempfile::tempdir().unwrap();
    let env_file = directory.path().join("bridge.env");
    // Tokens come in the clear from this machine, so that the certificate is met at the bridge.
    let text = format!(
        "BRIDGE_AUTH_ENDPOINT={}\nBRIDGE_EDGE_ENDPOINT={}\nBRIDGE_CLIENT_ID={}\nBRIDGE_CLIENT_SECRET={}\n",
        plain.token_url(),
        over_tls.edge_url(),
        options.client_id,
        options.client_secret
    );
    let check = |env_file: &Path| {
        let env_file = env_file.to_str().unwrap().to_owned();
        tokio::task::spawn_blocking(move || edgetap(&["check", "--env-file", &env_file], &[], b""))
    };
    std::fs::write(&env_file, &text).unwrap();
    let output = check(&env_file).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = stdout(&output);
    let (start, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    assert!(
        shown.contains("SHA-256") && stderr(&output).contains("BRIDGE_CA_FILE"),
        "{shown}{}",
        stderr(&output)
    );

    // What it shows is what it takes.
    let pem = &shown[shown.find(start).unwrap()..shown.find(end).unwrap() + end.len()];
    let file = directory.path().join("bridge.pem");
    std::fs::write(&file, pem).unwrap();
    std::fs::write(
        &env_file,
        format!("{text}BRIDGE_CA_FILE={}\n", file.display()),
    )
    .unwrap();
    let output = check(&env_file).await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("TLS            ok: TLSv1_3"),
        "{}",
        stdout(&output)
    );
}

/// Nothing of a log is held whole: what 40 MB cost at the most is what the first of them cost.
#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_log() {
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

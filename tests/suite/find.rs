//! `edgetap find`: which rows have a request, whatever the logs are like. `golden.rs` compares whole
//! outputs.

use std::process::Output;

use serde_json::{Value, json};

use crate::command_line::edgetap;
use crate::support::fake_s3::FakeS3;
use crate::support::gzip;

const ID: &str = "Aa-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN==";
const HEADER: &str =
    "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem cs-uri-query x-edge-request-id\n";

fn row(method: &str, query: &str, id: &str) -> String {
    format!("1700000000000\t192.0.2.7\t{method}\t/a\t{query}\t{id}\n")
}

/// The hits that `--json` prints, without their objects.
fn hits(output: &Output) -> Vec<(u64, Option<u64>, String)> {
    let text = str::from_utf8(&output.stdout).unwrap();
    let hits = text.lines().map(|line| {
        let hit: Value = serde_json::from_str(line).unwrap();
        let verdict = hit["verdict"].as_str().unwrap().to_owned();
        (hit["line"].as_u64().unwrap(), hit["row"].as_u64(), verdict)
    });
    hits.collect()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// A row that is found: its line, its number, and the verdict.
type Expected<'a> = (u64, Option<u64>, &'a str);

/// Checks the hits in a log, plain and compressed, and the exit status.
fn assert_hits(text: &str, status: i32, expected: &[Expected<'_>]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|&(line, row, verdict)| (line, row, verdict.to_owned()))
        .collect();
    for input in [text.as_bytes().to_vec(), gzip(text)] {
        let output = edgetap(&["find", "--json", ID, "-"], &[], &input);
        let start = text.get(..200).unwrap_or(text);
        let stderr = stderr(&output);
        assert_eq!(hits(&output), expected, "{start}: {stderr}");
        assert_eq!(output.status.code(), Some(status), "{start}: {stderr}");
    }
}

#[test]
fn find_tells_rows_from_mentions() {
    let other = row("GET", "-", "other==");
    let query = format!("id={ID}");
    let mention = row("GET", &query, "other==");
    let longer_id = format!("x{ID}");
    let longer = row("GET", "-", &longer_id);
    let [get, post, malformed] = ["GET", "POST", "-"].map(|method| row(method, "-", ID));
    assert_hits(
        &[HEADER, &other, &mention, &get, &longer, &post].concat(),
        0,
        &[(4, Some(2), "sent"), (6, Some(4), "sent")],
    );
    assert_hits(&[HEADER, &mention, &longer].concat(), 1, &[]);
    let of_another = row("-", &query, "b");
    let no_id = row("-", &format!("id,{ID}"), "-");
    let in_comment = ["# ", ID, "\n\n"].concat();
    assert_hits(
        &[HEADER, &in_comment, &other, &malformed, &of_another].concat(),
        0,
        &[(5, Some(1), "malformed")],
    );
    assert_hits(&[HEADER, &other, &of_another].concat(), 1, &[]);
    assert_hits(
        &[HEADER, &other, &no_id, &no_id.replace(ID, &longer_id)].concat(),
        0,
        &[(3, Some(1), "malformed")],
    );
    // A column is missing, or one too many, so that another value is where the ID should be.
    let [short, long] = [
        row("GET", "-", ID).replacen("-\t", "", 1),
        row("-", "-\t-", ID),
    ];
    assert_hits(
        &[HEADER, &other, &short, &long].concat(),
        0,
        &[(3, Some(1), "sent"), (4, Some(2), "malformed")],
    );
    let too_long = [ID, "\t", &"x".repeat(1 << 20), "\n"].concat();
    let too_short = ["GET\t", ID, "\n"].concat();
    assert_hits(
        &[HEADER, &other, &too_long, &too_short].concat(),
        0,
        &[(3, Some(1), "malformed"), (4, Some(2), "malformed")],
    );
    let header = "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem x-edge-request-id\n";
    let start = "1700000000000|-|GET|/a|";
    assert_hits(
        &[header, start, ID, "\n", start, "b|", ID, "\n"].concat(),
        0,
        &[(2, Some(0), "sent"), (3, Some(1), "rejected")],
    );
}

#[test]
fn find_reads_json_escaped_cut_and_wrapped() {
    let object = |id: &str| {
        format!(
            r#"{{"timestamp(ms)":"1700000000000","cs-method":"GET","cs-uri-stem":"/a","x-edge-request-id":"{id}""#
        )
    };
    let [escaped, cut, other] = [&ID.replace('=', r"\u003d"), ID, "b"].map(object);
    assert_hits(
        &format!("{escaped}}}\n{cut}\n{other}}}\n"),
        0,
        &[(1, Some(0), "sent"), (2, Some(1), "malformed")],
    );
    let wrapped = format!("{{\"message\": \"{ID}\"}}\n{other}}}\n");
    assert_hits(&wrapped, 0, &[(1, Some(0), "rejected")]);
    let line = format!("{{\"message\": \"GET\\t{ID}\\u0009\"}}\n{other}}}\n");
    assert_hits(&line, 0, &[(1, Some(0), "rejected")]);
}

#[test]
fn rows_that_are_not_read_show_no_foreign_values() {
    let header =
        "#Fields: date time cs-method cs-uri-stem cs(Cookie) cs(Referer) x-edge-request-id\n";
    let start = "2026-11-14\t20:00:00";
    for log in [
        format!("{{\"message\":\"{start}\\tsession=SECRET\\t{ID}\"}}\n"),
        format!("{{\"message\":\"access_token=SECRET {ID}\"}}\n"),
        format!(
            "{{\"password\":\"SECRET\",\"cs-uri-stem\":\"/\",\"x-edge-request-id\":\"{ID}\"}}\n"
        ),
        format!("{header}{start}\t-\t/password=SECRET/\ta=SECRET\thttps://u:SECRET@x/\t{ID}\n"),
        format!("{header}{start}\t-\ta=SECRET\t/\t{ID}\n"),
        format!("{header}{start}\t-\t/\t-\tb\ta=SECRET\t{ID}\n"),
    ] {
        for arguments in [&["find", ID, "-"][..], &["explain", "-"]] {
            let settings = [("REDACT_COOKIES", "drop")];
            let output = edgetap(arguments, &settings, log.as_bytes());
            let text = str::from_utf8(&output.stdout).unwrap();
            assert!(text.contains("Not sent: "), "{log}: {}", stderr(&output));
            assert!(!text.contains("SECRET"), "{text}");
        }
    }
}

#[test]
fn find_searches_a_log_behind_its_error() {
    let get = row("GET", "-", ID);
    let later = "#Fields: date c-ip\n";
    assert_hits(
        &[HEADER, &get, later, &row("GET", "-", "b"), &get, ID].concat(),
        1,
        &[
            (2, Some(0), "sent"),
            (5, None, "unreadable"),
            (6, None, "unreadable"),
        ],
    );
    let no_log = format!("no log\n{ID} {ID}\n");
    assert_hits(&no_log, 1, &[(2, None, "unreadable")]);
}

#[test]
fn find_reads_a_cut_log_up_to_the_cut() {
    let text = HEADER.to_owned() + &row("GET", "-", ID) + &row("GET", "-", "b").repeat(1000);
    let whole = gzip(&text);
    let output = edgetap(&["find", "--json", ID, "-"], &[], &whole[..whole.len() - 8]);
    assert_eq!(hits(&output), [(2, Some(0), "sent".to_owned())]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot read the log to its end"),
        "{}",
        stderr(&output)
    );
}

/// More objects than are read at a time.
#[test]
fn find_prints_hits_in_the_order_of_the_logs() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..100 {
        let rows = if number % 7 == 0 { 3000 } else { 3 };
        let id = if number % 3 == 0 { ID } else { "b" };
        let text = HEADER.to_owned() + &row("GET", "-", "c").repeat(rows) + &row("GET", "-", id);
        std::fs::write(
            directory.path().join(format!("{number:02}.gz")),
            gzip(&text),
        )
        .unwrap();
    }
    let path = directory.path().to_str().unwrap();
    let output = edgetap(&["find", "--json", ID, path], &[], b"");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = str::from_utf8(&output.stdout).unwrap();
    let objects: Vec<_> = text
        .lines()
        .map(|line| line.split('"').nth(3).unwrap())
        .collect();
    let expected: Vec<_> = (0..100)
        .step_by(3)
        .map(|number| format!("{path}/{number:02}.gz"))
        .collect();
    assert_eq!(objects, expected);
    assert!(
        stderr(&output).starts_with("34 hits in 100 objects, 45,355 rows in "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn option_with_a_typing_error_is_no_request_id() {
    let output = edgetap(&["find", "--from", "2h", ID, "x"], &[], b"");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = edgetap(&["explain", "--line", "x"], &[], b"");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    // Some IDs begin with hyphens.
    for id in ["-hV0==", "--V0=="] {
        let log = HEADER.to_owned() + &row("GET", "-", id);
        let output = edgetap(&["find", "--json", id, "-"], &[], log.as_bytes());
        assert!(output.status.success(), "{id}: {}", stderr(&output));
    }
}

/// Runs `find --json` in a directory of logs, and returns the logs with hits.
fn logs_found(arguments: &[&str]) -> (Vec<String>, Output) {
    let output = edgetap(&[&["find", "--json", ID], arguments].concat(), &[], b"");
    let lines = str::from_utf8(&output.stdout).unwrap().lines();
    let object = |line| serde_json::from_str::<Value>(line).unwrap()["object"].clone();
    let objects = lines.map(|line| object(line).as_str().unwrap().to_owned());
    (objects.collect(), output)
}

#[test]
fn only_folders_below_a_directory_tell_the_hour() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("EBACKUPSTORE1/2025/x");
    let log = HEADER.to_owned() + &row("GET", "-", ID);
    let names = [
        "E27FO14I29XXXX.2026-11-25-10.a.gz",
        "E27FO14I29XXXX/2025/b.gz",
        "E27FO14I29XXXX/2026/11/25/c.gz",
        "d.gz",
    ];
    for name in names {
        let path = inner.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, gzip(&log)).unwrap();
    }
    let inner = inner.to_str().unwrap();
    let file = format!("{inner}/{}", names[0]);
    let old = format!("{inner}/{}", names[1]);
    for (path, found) in [
        (inner, &[names[2], names[0], names[3]][..]),
        (&file, &names[..1]),
        (&old, &names[1..2]), // its name tells nothing
    ] {
        let (objects, output) = logs_found(&[path, "--since", "2026-11-25"]);
        let found: Vec<_> = found.iter().map(|name| format!("{inner}/{name}")).collect();
        assert_eq!(objects, found, "{}", stderr(&output));
    }
    let (objects, _) = logs_found(&[inner, "--distribution", "E27FO14I29XXXX"]);
    assert_eq!(objects.len(), 4);
}

#[cfg(unix)]
#[test]
fn only_regular_files_of_a_directory_are_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let log = HEADER.to_owned() + &row("GET", "-", ID);
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("logs")).unwrap();
    std::fs::write(path("a.gz"), gzip(&log)).unwrap();
    std::os::unix::fs::symlink("../a.gz", path("logs/link.gz")).unwrap();
    std::os::unix::fs::symlink("..", path("logs/up")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("logs/socket")).unwrap();
    let [logs, file] = ["logs", "a.gz"].map(|name| path(name).to_str().unwrap().to_owned());
    let (objects, output) = logs_found(&[&logs, &file, "-", "-"]);
    assert_eq!(objects, [format!("{logs}/link.gz")]);
    let warning = format!(
        " WARN skipped what is not a regular file: name it to read it file={logs}/socket\n \
          WARN skipped a linked directory: name it to read it file={logs}/up\n"
    );
    assert!(stderr(&output).starts_with(&warning), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("1 hit in 2 objects"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn names_are_printed_without_control_characters() {
    let directory = tempfile::tempdir().unwrap();
    let name = "a\u{1b}[2J\n\u{202e}\u{2028}é.log";
    let shown = r"a\u{1b}[2J\n\u{202e}\u{2028}é.log";
    let path = directory.path().join(name);
    let directory = directory.path().to_str().unwrap();
    let query = "a\u{1b}\u{202e}\u{2028}b";
    let without_ids = "#Fields: timestamp(ms) cs-method cs-uri-stem\n1700000000000\tGET\t/a\n";
    for log in [
        HEADER.to_owned() + &row("GET", query, ID),
        format!("no log\n{ID}\n"),
        without_ids.to_owned(),
    ] {
        std::fs::write(&path, log).unwrap();
        for arguments in [
            &["find", ID, directory][..],
            &["find", "--json", ID, directory],
        ] {
            let output = edgetap(arguments, &[], b"");
            let stdout = str::from_utf8(&output.stdout).unwrap();
            let text = stdout.to_owned() + stderr(&output);
            let is_raw = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{2028}".contains(c);
            assert!(!text.contains(is_raw), "{text:?}");
            if !arguments.contains(&"--json") {
                assert!(text.contains(shown), "{text:?}");
            }
            let replayed = edgetap(&["replay", path.to_str().unwrap()], &[], b"");
            assert!(
                !stderr(&replayed).contains(is_raw),
                "{:?}",
                stderr(&replayed)
            );
            for line in stdout
                .lines()
                .filter(|line| line.starts_with('{') && line.len() > 1)
            {
                let hit: Value = serde_json::from_str(line).unwrap();
                assert_eq!(hit["object"], path.to_str().unwrap());
            }
        }
    }
}

#[test]
fn log_that_is_refused_as_a_whole_is_an_error() {
    let malformed = row("-", "-", ID);
    let text = HEADER.to_owned() + &malformed;
    assert_hits(&text, 1, &[(2, Some(0), "malformed")]);
    let output = edgetap(&["find", ID, "-"], &[], text.as_bytes());
    assert!(
        stderr(&output)
            .starts_with("error: standard input: every row is malformed. The first one (line 2): "),
        "{}",
        stderr(&output)
    );
    let output = edgetap(&["find", "other==", "-"], &[], text.as_bytes());
    assert!(
        stderr(&output).contains("error: the request is in none of the logs that could be read\n"),
        "{}",
        stderr(&output)
    );
    assert_hits(
        &(text + &row("GET", "-", "b")),
        0,
        &[(2, Some(0), "malformed")],
    );
}

#[test]
fn absence_is_said_of_what_was_searched_only() {
    let with = HEADER.to_owned() + &row("GET", "-", "other");
    let without = "#Fields: timestamp(ms) cs-method cs-uri-stem\n1700000000000\tGET\t/a\n";
    for (logs, args, words) in [
        (
            &[&*with, &with][..],
            &[][..],
            "the request is in none of these logs\n",
        ),
        (
            &[&with, without],
            &[],
            "the request is in none of the logs that can be searched (1 of 2 lacks x-edge-request-id)\n",
        ),
        (
            &[without, without],
            &[],
            "cannot tell: none of these logs has x-edge-request-id in every row\n",
        ),
        (
            &[&with],
            &["--distribution", "E2AAAAAAAAAAA2"],
            "no log was searched: all are outside --since, --until or --distribution\n",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        for (number, log) in logs.iter().enumerate() {
            let name = format!("E1AAAAAAAAAAA1.2026-11-14-{number:02}.0a1b2c3d.gz");
            std::fs::write(directory.path().join(name), log).unwrap();
        }
        let find = ["find", ID, directory.path().to_str().unwrap()];
        let output = edgetap(&[&find, args].concat(), &[], b"");
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("error: {words}")), "{text}");
    }
}

#[test]
fn rows_without_ids_are_shown_below_any_header() {
    let later = "#Fields: timestamp(ms) cs-method cs-uri-stem\n1700000000000\tGET\t/a\n";
    let log = [HEADER, &row("GET", "-", ID), later].concat();
    let output = edgetap(&["find", ID, "-"], &[], log.as_bytes());
    assert!(
        stderr(&output).starts_with(" WARN cannot search rows without x-edge-request-id"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn distribution_that_cannot_be_one_is_a_usage_error() {
    let arn = "arn:aws:cloudfront::123456789012:distribution/E27FO14I29XXXX";
    for id in ["", "foo", "e1aaaaaaaaaaa1", arn, "E27FO14I29XXXX "] {
        let output = edgetap(&["find", ID, "-", "--distribution", id], &[], b"");
        assert_eq!(output.status.code(), Some(2), "{id}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("not the ID of a distribution"),
            "{}",
            stderr(&output)
        );
    }
}

#[tokio::test]
async fn find_and_explain_read_s3() {
    let s3 = FakeS3::start().await;
    s3.list_by(2);
    let log = HEADER.to_owned() + &row("GET", "-", ID);
    let folder = "p/E27FO14I29XXXX/2026/11";
    for key in ["25/08/a.gz", "25/09/b.gz", "25/09/c.gz", "26/12/d.gz"] {
        s3.put(&format!("{folder}/{key}"), gzip(&log));
    }
    s3.put("p/E27FO14I29XXXX/2026/11/25/09/x.gz", "no log");
    s3.put("p/aws-logs-write-test", "test");
    s3.put("c\u{1}+ é.gz", gzip(&log));
    let endpoint = s3.endpoint();
    let run = move |args: &[&str]| {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_S3", &endpoint),
        ];
        edgetap(args, &variables, b"")
    };
    tokio::task::spawn_blocking(move || {
        let output = run(&[
            "find",
            ID,
            "s3://logs/p/",
            "--json",
            "--since",
            "2026-11-25T10:10:00Z",
            "--until",
            "2026-11-25T11:30:00Z",
        ]);
        let text = str::from_utf8(&output.stdout).unwrap();
        let found: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let hit = |key: &str| {
            json!({
                "object": format!("s3://logs/{folder}/{key}"),
                "line": 2,
                "row": 0,
                "verdict": "sent",
                "reason": "the path does not end in a static-asset extension",
            })
        };
        assert_eq!(found, [hit("25/09/b.gz"), hit("25/09/c.gz")]);
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(
            text.contains("/25/09/x.gz: not a supported CloudFront access log"),
            "{text}"
        );
        assert!(text.contains("kind=\"access test\""), "{text}");
        assert!(text.contains("2 hits in 4 objects, 2 rows in "), "{text}");

        let output = run(&["find", "--json", ID, "s3://logs/c", "s3://logs/c"]);
        assert_eq!(hits(&output), [(2, Some(0), "sent".to_owned())]);

        let output = run(&["find", ID, "s3://logs/none/"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("no objects under this prefix"),
            "{}",
            stderr(&output)
        );

        for (row, words) in [
            ("s3://logs/p/E27FO14I29XXXX/2026/11/25/09/b.gz:2", "Sent: "),
            ("s3://logs/p/E27FO14I29XXXX/2026/11/25/09/b.gz", "Sent: "),
            (
                "s3://logs/p/E27FO14I29XXXX/2026/11/25/09/b.gz:1",
                "it is a header line",
            ),
            (
                "s3://logs/p/E27FO14I29XXXX/2026/11/25/09/b.gz:9",
                "the log has 2 lines",
            ),
            ("s3://logs/none.gz:2", "does not exist"),
            ("s3:///b.gz:2", "the bucket is missing"),
        ] {
            let output = run(&["explain", row]);
            let text = str::from_utf8(&output.stdout).unwrap().to_owned() + stderr(&output);
            assert!(text.contains(words), "{row}: {text}");
        }
    })
    .await
    .unwrap();
}

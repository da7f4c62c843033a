//! Detection of formats and delimiters.

use super::*;

// proves: I8, I13
#[test]
fn unsupported_formats_are_rejected_with_a_hint() {
    for (text, reason) in [
        ("\u{1f}\u{8b}", "neither a header nor a data row"),
        ("ORC\u{1}", "it is an ORC file"),
        ("#\0F\0i\0", "its text is UTF-16"),
        ("\u{50}\u{4b}\u{3}\u{4}zip", "it is a zip archive"),
        (
            "\"date\",\"time\",\"cs_method\"\n\"2026-11-14\",\"20:00:00\",\"GET\"\n",
            "it is a CSV export of a table",
        ),
        (
            "date;time;c-ip;cs(User-Agent)\r\n",
            "it is a CSV export of a table",
        ),
        (
            "2026-11-14T20:03:10.816Z {\"cs-method\":\"GET\"}\n",
            "it is an export of CloudWatch Logs",
        ),
        (
            "#Software: Microsoft Internet Information Services 10.0\n#Fields: date time c-ip cs-method cs-uri-stem\n",
            "it is a log of IIS",
        ),
        (
            "#Version: 1.0\n#Software: Microsoft Internet Information Services 8.5\n#Fields: date time c-ip\n",
            "it is a log of IIS",
        ),
        (
            "#Fields: date time s-ip cs-method cs-uri-stem s-port c-ip sc-status sc-win32-status\n",
            "it is a log of IIS",
        ),
        (
            "#Fields: date time cs-method\n",
            "required fields: cs-uri-stem",
        ),
        // `plain` and `raw` have no header, so values cannot be assigned to fields.
        (
            "2026-11-14\t20:00:00\tx\n",
            "Set the delivery's output format to `w3c`, `json` or `parquet`",
        ),
        (
            "GET\t/a\t192.0.2.1\t2026-11-14\t20:00:00\n",
            "Set the delivery's output format to `w3c`, `json` or `parquet`",
        ),
        // The number of columns of a legacy log, but not its columns.
        (
            "2026-11-14\t20:00:00\t192.0.2.1\tGET\t/\t200\t-\t-\t-\t-\t-\t-\n",
            "not those of a legacy log",
        ),
        (
            "2026-11-14|20:00:00|192.0.2.1|GET|/\n",
            "not those of a legacy log",
        ),
        (
            "#Fields: date time c-ip cs-method cs-uri-stem\n2026-11-14 20:00:00 192.0.2.1 GET\n",
            "column delimiter cannot be detected",
        ),
        (
            "127.0.0.1 - - [14/Nov/2026] \"GET / HTTP/1.1\" 200 1\n",
            "neither a header nor a data row",
        ),
        ("\u{1f}", "neither a header nor a data row"),
    ] {
        let (rows, end) = paths(LogReader::new(text.as_bytes()));
        assert_eq!(rows.len(), 0);
        let error = end.expect_err(text);
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!matches!(error, LogError::OtherLog(_)), "{error}");
    }
}

/// Compressions other than one layer of gzip.
// proves: I8
#[test]
fn unsupported_compression_is_named() {
    for (bytes, reason) in [
        (gzip_bytes(&gzip(HEADER)), "gzip inside gzip"),
        (b"\x28\xb5\x2f\xfd\x04".to_vec(), "compressed with zstd"),
        (gzip_bytes(b"\x28\xb5\x2f\xfd\x04"), "compressed with zstd"),
        (b"BZh91AY".to_vec(), "compressed with bzip2"),
        (b"\xfd7zXZ\0".to_vec(), "compressed with xz"),
        (b"\xff\xfe#\0V\0".to_vec(), "UTF-16"),
        (b"\xfe\xff\0#".to_vec(), "UTF-16"),
    ] {
        let (_, end) = paths(LogReader::new(&bytes[..]));
        assert!(
            matches!(&end, Err(LogError::NotAccessLog(text)) if text.contains(reason)),
            "{end:?}"
        );
    }
}

// proves: I9
#[test]
fn logs_of_other_services_are_named() {
    let owner = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be";
    for (text, name) in [
        (
            "#Version: 1.0\n#Fields: date time x-event c-ip\n".to_owned(),
            "RTMP distribution log",
        ),
        (
            "1731614400.123\t192.0.2.1\t0.001\t200\n".to_owned(),
            "CloudFront real-time log",
        ),
        (
            "#Fields: eventTimestamp connectionId connectionStatus\n".to_owned(),
            "CloudFront connection log",
        ),
        (
            "https 2026-11-14T20:00:00.1Z app/my-lb/50dc 192.0.2.1:1 - -1\n".to_owned(),
            "Application Load Balancer log",
        ),
        (
            "tls 2.0 2026-11-14T20:00:00 net/my-lb/c6e 51de\n".to_owned(),
            "Network Load Balancer log",
        ),
        (
            "version account-id interface-id srcaddr\n".to_owned(),
            "VPC flow log",
        ),
        (
            "#Fields: timestamp c-ip sc-status cs-method cs-host cs-uri-stem\n".to_owned(),
            "CloudFront real-time log",
        ),
        (
            "#Fields: c-ip cs-method cs-uri-stem cs-user-agent c-ip-version\n".to_owned(),
            "CloudFront real-time log",
        ),
        (
            "2026-11-14T20:03:10.945958Z my-lb 192.0.2.7:2817 10.0.0.1:80 0.000073 0.001048 0.000057 200 200 0 29 \"GET http://h:80/ HTTP/1.1\" \"curl/7.38.0\" - -\n".to_owned(),
            "Classic Load Balancer log",
        ),
        (
            "2026-11-14T20:03:10.945958Z my-lb 192.0.2.7:2817 - -1 -1 -1 503 0 0 0 \"GET http://h:80/ HTTP/1.1\" \"-\" - -\n".to_owned(),
            "Classic Load Balancer log",
        ),
        (
            "2026-11-14T20:03:10.514108Z 192.0.2.7 36280 443 TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 4.036 \"-\" - - - Success TID_1\n".to_owned(),
            "Application Load Balancer connection log",
        ),
        (
            "Permission Check Successful".to_owned(),
            "test file of CloudWatch Logs",
        ),
        (
            "Enable AccessLog for ELB: app/my-lb/50dc at 2026-11-14T20:00:00Z\n".to_owned(),
            "test file of a load balancer",
        ),
        (
            format!("{owner} bucket [14/Nov/2026:20:00:00 +0000] 192.0.2.3\n"),
            "S3 server access log",
        ),
    ] {
        let (_, end) = paths(LogReader::new(text.as_bytes()));
        let error = end.expect_err(&text);
        assert!(
            matches!(error, LogError::OtherLog(kind) if kind == name),
            "{error}"
        );
        assert_eq!(
            error.to_string(),
            format!("not a CloudFront access log (detected: {name})")
        );
    }
}

/// The same rows with every delimiter that a delivery can be configured to use.
// proves: I5
#[test]
fn every_delimiter_is_detected() {
    let names: Vec<&str> = HEADER
        .split_once("#Fields: ")
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let (found, _) = paths(LogReader::new(
        &b"#Fields: x.of.tomorrow c-ip cs-method cs-uri-stem timestamp\nx\t::1\tGET\t/a\t1\n"[..],
    ));
    assert_eq!(found, ["/a"], "a dot in a name is not a delimiter");
    for (between_names, delimiter) in [
        ("\t", "\t"),
        (" ", "\t"),
        (" ", " "),
        (" ", ","),
        (",", ","),
        (";", ";"),
        ("|", "|"),
        ("||", "||"),
        (" ", "||"),
        (", ", ", "),
        (" ", "~|~|~"),
        (" ", "^"),
    ] {
        for (version, end) in [("#Version: 1.0\n", "\n"), ("", "\r\n")] {
            let rows: String = (0..3)
                .map(|n| row(n).replace('\t', delimiter) + end)
                .collect();
            let text = format!("{version}#Fields: {}{end}{rows}", names.join(between_names));
            let (found, ended) = paths(LogReader::new(text.as_bytes()));
            assert!(ended.is_ok(), "{between_names:?} {delimiter:?}: {ended:?}");
            assert_eq!(
                found,
                ["/row/0", "/row/1", "/row/2"],
                "{between_names:?} {delimiter:?}"
            );
        }
    }
}

// proves: I10
#[test]
fn viewer_values_cannot_change_the_detected_format() {
    let json = |agent: &str| {
        format!(
            "{{\"cs(User-Agent)\":\"{agent}\",\"timestamp(ms)\":\"1\",\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/a\"}}\n"
        )
    };
    for agent in [
        "connectionStatus",
        "webaclId",
        "digestS3Bucket",
        "query_timestamp",
        "eventVersion",
        "Records",
    ] {
        assert_eq!(
            paths(LogReader::new(json(agent).as_bytes())).0,
            ["/a"],
            "{agent}"
        );
    }
    let delimited = |delimiter: &str, agent: &str| {
        let row = |agent: &str| ["1700000000", "::1", "GET", "/a", agent].join(delimiter) + "\n";
        format!(
            "#Fields: timestamp c-ip cs-method cs-uri-stem cs(User-Agent)\n{}{}",
            row(agent),
            row("x")
        )
    };
    for (delimiter, agent) in [
        ("|", "a;;b;;c;;d;;e"),
        ("|", "a,b,c,d,e"),
        (";", "a,,b,,c,,d,,e"),
        (" ", "a@b@c@d@e"),
    ] {
        let text = delimited(delimiter, agent);
        assert_eq!(
            paths(LogReader::new(text.as_bytes())).0,
            ["/a", "/a"],
            "{text}"
        );
    }
    // Other rows tell the delimiter: no row is read with shifted values.
    let text = delimited(",", "a;;b;;c;;d;;e,");
    let (rows, end) = paths(LogReader::new(text.as_bytes()));
    assert_eq!(
        (rows, end.is_ok()),
        (vec!["?".to_owned(), "/a".to_owned()], true)
    );
}

/// A viewer who writes the first rows can neither choose the delimiter nor hide it.
// proves: I5, I10
#[test]
fn viewers_first_rows_do_not_decide_the_delimiter() {
    let row = |agent: &str| ["1700000000", "::1", "GET", "/a", agent].join(",") + "\n";
    for agent in [
        "a;b;c;d;e",
        "a,b",
        "a,b,c,d,e;;;;",
        ",",
        "1|::1|GET|/forged|x",
        "1!::1!GET!/forged!x!",
        "1700000000$::1$GET$/forged$x,",
    ] {
        for (hostile, honest) in [(1, 1), (40, 1), (63, 1), (64, 0), (200, 10)] {
            let text = format!(
                "#Fields: timestamp c-ip cs-method cs-uri-stem cs(User-Agent)\n{}{}",
                row(agent).repeat(hostile),
                row("x").repeat(honest)
            );
            let (rows, end) = paths(LogReader::new(text.as_bytes()));
            assert!(end.is_ok(), "{agent}: {end:?}");
            assert!(rows[hostile..].iter().all(|path| path == "/a"), "{agent}");
            assert!(rows.iter().all(|path| path != "/forged"), "{agent}");
        }
    }
}

/// An editor replaced the tabs.
// proves: I5
#[test]
fn spaces_in_place_of_tabs_are_a_delimiter() {
    for spaces in [1, 2, 4, 6, 8, 16] {
        let text = format!("{HEADER}{}\n", row(0).replace('\t', &" ".repeat(spaces)));
        assert_eq!(
            paths(LogReader::new(text.as_bytes())).0,
            ["/row/0"],
            "{spaces} spaces"
        );
    }
}

/// A first row whose values read like the names of a table, or like another log.
// proves: I10
#[test]
fn values_that_read_like_names_do_not_decide() {
    for agent in [
        "x,date,time,c-ip,x",
        "2026-11-14T20:03:10.816Z",
        "Permission Check Successful",
    ] {
        let text = format!(
            "{{\"cs(User-Agent)\":\"{agent}\",\"timestamp(ms)\":\"1\",\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/a\"}}\n"
        );
        assert_eq!(paths(LogReader::new(text.as_bytes())).0, ["/a"], "{agent}");
    }
}

/// A foreign header says what its rows are, until the next header.
// proves: I9
#[test]
fn foreign_header_decides_about_its_rows_only() {
    let real_time = "#Fields: timestamp c-ip sc-status cs-method cs-host cs-uri-stem\n";
    let rtmp = "#Version: 1.0\n#Fields: date time x-event c-ip\n";
    for other in [real_time, rtmp] {
        for rows in ["", "1\t2\t3\t4\n", "x\n"] {
            let text = format!("{other}{rows}{HEADER}{}\n{other}{rows}", row(1));
            let mut reader = LogReader::new(text.as_bytes());
            let mut found = Vec::new();
            while reader.advance().unwrap() {
                let record = reader.record().1;
                found.push(matches!(record.defect(), Some(Defect::Foreign(_))));
            }
            let expected: &[bool] = if rows.is_empty() {
                &[false]
            } else {
                &[true, false, true]
            };
            assert_eq!(found, expected, "{text}");
        }
    }
}

/// Logs that were put into one object.
// proves: I9
#[test]
fn log_behind_another_kind_of_line_is_refused() {
    let legacy = "2026-11-14\t20:03:10\tFRA56\t512\t192.0.2.7\tGET\th\t/a\t200\t-\t-\t-\n";
    let log = format!("{HEADER}{}\n", row(1));
    for first in [
        "https 2026-11-14T20:00:00.1Z app/my-lb/50dc 192.0.2.1:1 - -1\n",
        "Enable AccessLog for ELB: app/my-lb/50dc at 2026-11-14T20:00:00Z\n",
        "version account-id interface-id srcaddr\n",
    ] {
        for log in [&log, legacy] {
            for sizes in [&[1][..], &[7, 100], &[1 << 20]] {
                let text = format!("{first}{log}");
                let (_, end) = paths(LogReader::new(Chunks(text.as_bytes(), sizes, 0)));
                let error = end.expect_err(&text).to_string();
                assert!(error.contains("contains a CloudFront log"), "{error}");
            }
        }
    }
}

// proves: I7
#[test]
fn json_is_told_behind_other_text() {
    let object = "{\"timestamp(ms)\":\"1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/a\"}\n";
    for (start, rows) in [
        ("14\",\"x\":\"y\"}\n", 2),
        ("null\n", 2),
        (",\n", 1),
        (",", 1),
        ("}\n", 2),
        ("some text\n", 2),
        (
            "#Version: 1.0\n#Fields: date time c-ip cs-method cs-uri-stem\n",
            1,
        ),
        ("\t\n", 1),
        (&"# a comment\n".repeat(30_000), 1),
        (&" ".repeat(300_000), 1),
        (&"\n".repeat(300_000), 1),
    ] {
        for sizes in [&[1 << 20][..], &[20_000], &[50_001, 9]] {
            let text = format!("{start}{object}");
            let (found, end) = paths(LogReader::new(Chunks(text.as_bytes(), sizes, 0)));
            let start: String = start.chars().take(30).collect();
            assert!(end.is_ok(), "{start}: {end:?}");
            assert_eq!(found.len(), rows, "{start}");
            assert_eq!(found[rows - 1], "/a", "{start}");
        }
    }
}

// proves: I12
#[test]
fn lines_that_end_in_cr_alone_are_refused() {
    let legacy = "2026-11-14\t20:03:10\tFRA56\t512\t192.0.2.7\tGET\th\t/a\t200\t-\t-\t-\n";
    let log = format!("{HEADER}{}\n{}\n", row(1), row(2));
    for text in [log, format!("{legacy}{legacy}")] {
        let text = text.replace('\n', "\r");
        let (_, end) = paths(LogReader::new(text.as_bytes()));
        let error = end.expect_err(&text).to_string();
        assert!(error.contains("end in CR alone"), "{error}");
    }
}

/// Where the first column is a viewer's, only the text between the names can tell the delimiter.
// proves: I5, I6, I10
#[test]
fn viewers_majority_does_not_decide_the_delimiter() {
    let forged = "/x|9|::1|GET";
    let rows = |delimiter: &str, path: &str, hostile: usize| {
        let row = |path: &str| [path, "1700000000", "::1", "GET"].join(delimiter) + "\n";
        row(path).repeat(hostile) + &row("/a")
    };
    for (names, delimiter, path, is_read) in [
        ("cs-uri-stem timestamp c-ip cs-method", "^", "/b", true),
        ("cs-uri-stem timestamp c-ip cs-method", "|", "/b", false),
        ("cs-uri-stem|timestamp|c-ip|cs-method", "|", "/b", true),
        ("cs-uri-stem timestamp c-ip cs-method", "\t", "/b", true),
        ("cs-uri-stem timestamp c-ip cs-method", ",", forged, false),
    ] {
        for hostile in [1, 10] {
            let text = format!("#Fields: {names}\n{}", rows(delimiter, path, hostile));
            let (rows, end) = paths(LogReader::new(text.as_bytes()));
            let expected = if is_read { hostile + 1 } else { 0 };
            assert_eq!((rows.len(), end.is_ok()), (expected, is_read), "{text}");
        }
    }
    // A row that fits another delimiter as a whole.
    let text =
        "#Fields: x-edge-location cs-uri-stem timestamp cs-method\nFRA^/a^1^GET\nFRA|/a|1|GET\n";
    assert!(paths(LogReader::new(text.as_bytes())).1.is_err());
}

/// CloudFront itself writes `\x20` into a value.
// proves: I6
#[test]
fn row_with_an_additional_backslash_is_rejected() {
    let text = "#Fields: timestamp\\c-ip\\cs-method\\cs-uri-stem\\x-forwarded-for\n1\\::1\\GET\\/a\\::1,\\x20::2\n";
    let mut reader = LogReader::new(text.as_bytes());
    assert!(reader.advance().unwrap());
    let defect = reader.record().1.defect().unwrap();
    assert_eq!((defect, defect.is_rejection()), (Defect::Delimiter, true));
}

//! Detection of formats and delimiters.

use super::*;

// proves: I8, I13
#[test]
fn unsupported_formats_are_rejected_with_a_hint() {
    for (text, reason) in [
        (
            "PAR1\u{1}",
            "Parquet is not supported. Set the delivery's output format to `w3c` or `json`",
        ),
        ("[{\"date\":\"2026-11-14\"}]\n", "a JSON array"),
        (
            "{\"date\":\"2026-11-14\"}\n",
            "required fields: cs-method, cs-uri-stem",
        ),
        (
            "#Fields: date time cs-method\n",
            "required fields: cs-uri-stem",
        ),
        // `plain` and `raw` have no header, so values cannot be assigned to fields.
        (
            "2026-11-14\t20:00:00\tx\n",
            "Set the delivery's output format to `w3c` or `json`",
        ),
        (
            "GET\t/a\t192.0.2.1\t2026-11-14\t20:00:00\n",
            "Set the delivery's output format to `w3c` or `json`",
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
            "#Fields: date time c-ip cs-method cs-uri-stem\n2026-11-14 20:00:00 192.0.2.1 GET / more\n",
            "column delimiter cannot be detected",
        ),
        (
            "127.0.0.1 - - [14/Nov/2026] \"GET / HTTP/1.1\" 200 1\n",
            "neither a header nor a data row",
        ),
        ("\u{1f}", "neither a header nor a data row"),
        (
            "\u{50}\u{4b}\u{3}\u{4}zip",
            "neither a header nor a data row",
        ),
    ] {
        let (rows, end) = paths(LogReader::new(text.as_bytes()));
        assert_eq!(rows.len(), 0);
        let error = end.expect_err(text);
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!matches!(error, LogError::OtherLog(_)), "{error}");
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
            "{\"eventTimestamp\":\"1\",\"connectionId\":\"x\",\"connectionStatus\":\"Success\"}\n"
                .to_owned(),
            "CloudFront connection log",
        ),
        (
            "#Fields: eventTimestamp connectionId connectionStatus\n".to_owned(),
            "CloudFront connection log",
        ),
        (
            "{\"Records\":[{\"eventVersion\":\"1.11\"}]}".to_owned(),
            "CloudTrail log",
        ),
        (
            "{\"awsAccountId\":\"1\",\"digestS3Bucket\":\"b\"}".to_owned(),
            "CloudTrail digest",
        ),
        (
            "{\"timestamp\":1,\"formatVersion\":1,\"webaclId\":\"arn\"}\n".to_owned(),
            "AWS WAF log",
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
    // An ambiguous delimiter is an error: no row is read with shifted values.
    let (rows, end) = paths(LogReader::new(delimited(",", "a;;b;;c;;d;;e,").as_bytes()));
    assert_eq!(rows, [""; 0]);
    assert!(matches!(end, Err(LogError::NotAccessLog(_))), "{end:?}");
}

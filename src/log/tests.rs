use super::*;
use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

/// The path stands in the thirteenth column.
const HEADER: &str =
    "#Version: 1.0\n#Fields: date time c-ip cs-method 5 6 7 8 9 10 11 12 cs-uri-stem\n";
/// What stands before it.
const START: &str = "2026-11-14\t20:00:00\t192.0.2.1\tGET\t-\t-\t-\t-\t-\t-\t-\t-\t";

fn row(n: u64) -> String {
    format!("{START}/row/{n}")
}

/// The paths that a reader yields, and how it ended.
fn paths(mut reader: LogReader<impl Read>) -> (Vec<String>, Result<(), LogError>) {
    let mut paths = Vec::new();
    loop {
        match reader.advance() {
            Ok(true) => {
                let (number, record) = reader.record();
                assert_eq!(number, paths.len() as u64);
                paths.push(
                    String::from_utf8_lossy(record.get(Field::UriStem).unwrap_or(b"?"))
                        .into_owned(),
                );
            }
            Ok(false) => return (paths, Ok(())),
            Err(error) => {
                assert!(
                    matches!(reader.advance(), Ok(false)),
                    "an error is said once, then the end"
                );
                return (paths, Err(error));
            }
        }
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Hands out chunks of the given sizes, over and over; of size 0 is an interruption.
pub(super) struct Chunks<'a>(pub &'a [u8], pub &'a [usize], pub usize);

impl Read for Chunks<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let size = self.1[self.2 % self.1.len()];
        self.2 += 1;
        if size == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = size.min(buf.len());
        self.0.read(&mut buf[..len])
    }
}

#[test]
fn blank_lines_directives_and_carriage_returns_are_no_rows() {
    let text = format!(
        "#\r\n{HEADER}\r\n\n{}\r\n#Software: x\n\n{}",
        row(0),
        row(1)
    );
    assert_eq!(
        paths(LogReader::new(text.as_bytes())).0,
        ["/row/0", "/row/1"]
    );
}

#[test]
fn a_byte_order_mark_is_passed_over_however_the_bytes_come() {
    let text = format!("\u{feff}{HEADER}{}\n", row(0));
    let alone = [gzip("\u{feff}"), gzip(&text[3..])].concat();
    for bytes in [text.clone().into_bytes(), gzip(&text), alone] {
        for step in [1, 2, 3, 1000] {
            let (paths, end) = paths(LogReader::new(Chunks(&bytes, &[step], 0)));
            assert_eq!(paths, ["/row/0"], "chunks of {step}");
            end.unwrap();
        }
    }
}

#[test]
fn a_byte_order_mark_before_a_row_is_the_rows_own() {
    let text = format!("{HEADER}\u{feff}{}\n{}\n", row(0), row(1));
    let mut reader = LogReader::new(text.as_bytes());
    assert!(reader.advance().unwrap());
    assert_eq!(
        reader.record().1.get(Field::Date),
        Some("\u{feff}2026-11-14".as_bytes())
    );
    for path in ["\u{feff}/a", "\u{feff}"] {
        let text = format!("{HEADER}{}\n{START}{path}\n{}\n", row(0), row(2));
        let mut reader = LogReader::new(text.as_bytes());
        assert!(
            reader.advance().unwrap() && reader.advance().unwrap(),
            "the first row is only glanced at"
        );
        assert_eq!(reader.record().1.get(Field::UriStem), Some(path.as_bytes()));
        assert!(
            reader.advance().unwrap() && reader.record().1.get(Field::UriStem) == Some(b"/row/2")
        );
    }
}

/// A line of more carriage returns than one is not blank, so that it stands before the header.
#[test]
fn what_a_log_begins_with_is_the_same_however_the_bytes_come() {
    let json =
        "{\"timestamp(ms)\":\"1\",\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/a\"}";
    for (log, begins_with_blank_lines) in [("\r\n\n", true), ("\r\r\n", false), ("\r", false)]
        .into_iter()
        .flat_map(|(start, blank)| {
            [
                format!("{start}{HEADER}{}\n", row(0)),
                format!("{start}#Fields: c-ip`cs-method`cs-uri-stem`timestamp\n::1`GET`/a`1\n"),
                format!("{start}{json}\n"),
            ]
            .map(|log| (log, blank))
        })
    {
        for step in [1, 2, 3, 1000] {
            let (found, end) = paths(LogReader::new(Chunks(log.as_bytes(), &[0, step], 0)));
            assert_eq!(
                (found.len(), end.is_ok()),
                if begins_with_blank_lines {
                    (1, true)
                } else {
                    (0, false)
                },
                "{log:?} in chunks of {step}"
            );
        }
    }
}

#[test]
fn a_header_in_the_middle_sets_the_columns_anew() {
    let text = format!(
        "{HEADER}{}\n#Fields:\tcs-uri-stem\tcs-method\tc-ip\ttimestamp(ms)\n/row/1\tGET\t::1\t1\n",
        row(0)
    );
    assert_eq!(
        paths(LogReader::new(text.as_bytes())).0,
        ["/row/0", "/row/1"]
    );
}

#[test]
fn a_row_without_tabs_behind_a_header_in_the_middle_is_refused() {
    let text = format!(
        "{HEADER}{}\n#Fields: cs-uri-stem cs-method c-ip timestamp(ms)\n/row/1 GET ::1 1\n",
        row(0)
    );
    let (rows, end) = paths(LogReader::new(text.as_bytes()));
    assert_eq!(rows, ["/row/0"]);
    assert!(
        end.unwrap_err()
            .to_string()
            .contains("not separated by tabs")
    );
}

#[test]
fn every_gzip_member_is_read() {
    let bytes = [
        gzip(&format!("{HEADER}{}\n", row(0))),
        gzip(""),
        gzip(&format!("{HEADER}{}\n", row(1))),
    ]
    .concat();
    let (paths, end) = paths(LogReader::new(&bytes[..]));
    assert_eq!(paths, ["/row/0", "/row/1"]);
    end.unwrap();
}

#[test]
fn what_cannot_be_read_is_refused_with_what_to_do() {
    for (text, reason) in [
        (
            "PAR1\u{1}",
            "Parquet; set the delivery's output format to w3c or json",
        ),
        ("[{\"date\":\"2026-11-14\"}]\n", "a JSON array"),
        (
            "{\"date\":\"2026-11-14\"}\n",
            "has no cs-method, cs-uri-stem, c-ip",
        ),
        ("#Fields: date time cs-method\n", "has no cs-uri-stem, c-ip"),
        // `plain` and `raw` have no header: whose value is whose is not known.
        (
            "2026-11-14\t20:00:00\tx\n",
            "set the delivery's output format to w3c or json",
        ),
        (
            "GET\t/a\t192.0.2.1\t2026-11-14\t20:00:00\n",
            "set the delivery's output format to w3c or json",
        ),
        // As many columns as an old log had, and other ones.
        (
            "2026-11-14\t20:00:00\t192.0.2.1\tGET\t/\t200\t-\t-\t-\t-\t-\t-\n",
            "no legacy log had such columns",
        ),
        (
            "2026-11-14|20:00:00|192.0.2.1|GET|/\n",
            "no legacy log had such columns",
        ),
        (
            "#Fields: date time c-ip cs-method cs-uri-stem\n2026-11-14 20:00:00 192.0.2.1 GET / more\n",
            "what separates its columns",
        ),
        (
            "127.0.0.1 - - [14/Nov/2026] \"GET / HTTP/1.1\" 200 1\n",
            "neither a header nor a row",
        ),
        ("\u{1f}", "neither a header nor a row"),
        ("\u{50}\u{4b}\u{3}\u{4}zip", "neither a header nor a row"),
    ] {
        let (rows, end) = paths(LogReader::new(text.as_bytes()));
        assert_eq!(rows.len(), 0);
        let error = end.expect_err(text);
        assert!(
            error.to_string().contains(reason) && !matches!(error, LogError::OtherLog(_)),
            "{error}"
        );
    }
}

#[test]
fn logs_of_others_are_known_by_name() {
    let owner = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be";
    for (text, name) in [
        (
            "#Version: 1.0\n#Fields: date time x-event c-ip\n".to_owned(),
            "RTMP",
        ),
        (
            "1731614400.123\t192.0.2.1\t0.001\t200\n".to_owned(),
            "real-time log",
        ),
        (
            "{\"eventTimestamp\":\"1\",\"connectionId\":\"x\",\"connectionStatus\":\"Success\"}\n"
                .to_owned(),
            "connection log",
        ),
        (
            "#Fields: eventTimestamp connectionId connectionStatus\n".to_owned(),
            "connection log",
        ),
        (
            "{\"Records\":[{\"eventVersion\":\"1.11\"}]}".to_owned(),
            "CloudTrail",
        ),
        (
            "{\"awsAccountId\":\"1\",\"digestS3Bucket\":\"b\"}".to_owned(),
            "CloudTrail digest",
        ),
        (
            "{\"timestamp\":1,\"formatVersion\":1,\"webaclId\":\"arn\"}\n".to_owned(),
            "WAF",
        ),
        (
            "https 2026-11-14T20:00:00.1Z app/my-lb/50dc 192.0.2.1:1 - -1\n".to_owned(),
            "Application Load Balancer",
        ),
        (
            "tls 2.0 2026-11-14T20:00:00 net/my-lb/c6e 51de\n".to_owned(),
            "Network Load Balancer",
        ),
        (
            "version account-id interface-id srcaddr\n".to_owned(),
            "VPC",
        ),
        (
            format!("{owner} bucket [14/Nov/2026:20:00:00 +0000] 192.0.2.3\n"),
            "S3 server access",
        ),
    ] {
        let (_, end) = paths(LogReader::new(text.as_bytes()));
        let error = end.expect_err(&text);
        assert!(
            matches!(error, LogError::OtherLog(_)) && error.to_string().contains(name),
            "{error}"
        );
    }
}

/// The same rows in every layout that AWS writes.
#[test]
fn every_delimiter_is_told_from_the_log() {
    let names: Vec<&str> = HEADER
        .split_once("#Fields: ")
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let (found, _) = paths(LogReader::new(
        &b"#Fields: x.of.tomorrow c-ip cs-method cs-uri-stem timestamp\nx\t::1\tGET\t/a\t1\n"[..],
    ));
    assert_eq!(found, ["/a"], "a name may hold what divides nothing");
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

/// Nor can a viewer make a log look like somebody else's, or like one that is divided otherwise.
#[test]
fn what_a_viewer_writes_does_not_tell_what_a_log_is() {
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
    let divided = |delimiter: &str, agent: &str| {
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
        let text = divided(delimiter, agent);
        assert_eq!(
            paths(LogReader::new(text.as_bytes())).0,
            ["/a", "/a"],
            "{text}"
        );
    }
    // Where it cannot be told, all of it is refused, and nothing is read shifted.
    let (rows, end) = paths(LogReader::new(divided(",", "a;;b;;c;;d;;e,").as_bytes()));
    assert!(
        rows.is_empty() && matches!(end, Err(LogError::NotAccessLog(_))),
        "{rows:?}"
    );
}

/// With commas between columns a viewer's own comma would shift what follows it.
#[test]
fn a_row_of_another_width_is_no_record_unless_tabs_divide_it() {
    let text = "#Fields: date,time,c-ip,cs-method,cs-uri-stem\n2026-11-14,20:00:00,192.0.2.1,GET,/a\n2026-11-14,20:00:00,192.0.2.1,GET,/b,6.6.6.6\n";
    let mut reader = LogReader::new(text.as_bytes());
    assert!(reader.advance().unwrap() && reader.record().1.defect().is_none());
    assert!(reader.advance().unwrap());
    let (_, record) = reader.record();
    assert_eq!(
        (record.defect(), record.get(Field::ClientIp)),
        (Some(Defect::Width), None)
    );
    assert!(!reader.advance().unwrap());
    let text = format!("{HEADER}{}\t\n", row(0));
    assert_eq!(paths(LogReader::new(text.as_bytes())).0, ["/row/0"]);
}

#[test]
fn json_rows_have_their_own_keys() {
    let text = concat!(
        "{\"timestamp(ms)\":\"1\",\"c-ip\":\"192.0.2.1\",\"CS-Method\":\"GET\",\"cs-uri-stem\":\"/a\",\"new\":\"x\"}\r\n",
        "\n",
        "{\"cs-uri-stem\":\"/\\u0062\",\"sc-status\":200,\"asn\":null,\"cs-method\":\"GET\"}\n",
        "not json\n",
        "{\"cs-uri-stem\":\"/c\"} {\n",
        "{\"cs-uri-stem\":{\"a\":[1,{}]},\"c-ip\":[1],\"cs-method\":true}\n",
        "{\"cs-uri-stem\":\"/d\"}",
    );
    let mut reader = LogReader::new(text.as_bytes());
    let mut found = Vec::new();
    while reader.advance().unwrap() {
        let line = reader.line();
        let (_, record) = reader.record();
        let get = |field| {
            record
                .get(field)
                .map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        found.push((
            line,
            record.defect(),
            get(Field::UriStem),
            get(Field::Status),
            record.others().count(),
        ));
    }
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        found,
        [
            (1, None, some("/a"), None, 1),
            (3, None, some("/b"), some("200"), 0),
            (4, Some(Defect::NotJson), None, None, 0),
            (5, Some(Defect::NotJson), None, None, 0),
            (6, None, None, None, 0),
            (7, None, some("/d"), None, 0),
        ]
    );
}

#[test]
fn hostile_json_ends_as_malformed_rows() {
    let first = "{\"timestamp(ms)\":\"1\",\"c-ip\":\"192.0.2.1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/a\"}";
    let (deep, long) = ("[".repeat(100_000), "x".repeat(2 * MAX_LINE));
    let many = (0..50_000)
        .map(|n| format!("\"{n}\":\"\""))
        .collect::<Vec<_>>()
        .join(",");
    let text = format!(
        "{first}\n{{\"a\":{deep}\n{{\"a\":\"{long}\"}}\n{{{many},\"c-ip\":\"::1\"}}\n{first}\n"
    );
    let mut reader = LogReader::new(text.as_bytes());
    let mut found = Vec::new();
    while reader.advance().unwrap() {
        let (_, record) = reader.record();
        found.push((record.defect(), record.get(Field::UriStem).is_some()));
    }
    assert_eq!(
        found,
        [
            (None, true),
            (Some(Defect::NotJson), false),
            (Some(Defect::TooLong), false),
            (None, false),
            (None, true)
        ]
    );
}

#[test]
fn a_row_of_a_million_columns_is_a_row() {
    let text = format!("{HEADER}{}{}\n{}\n", row(0), "\t".repeat(1_000_000), row(1));
    assert_eq!(
        paths(LogReader::new(text.as_bytes())).0,
        ["/row/0", "/row/1"]
    );
}

/// What follows a member and is no member is not an end.
#[test]
fn garbage_after_a_gzip_member_is_an_error_after_its_rows() {
    let bytes = [gzip(&format!("{HEADER}{}\n", row(0))), b"garbage".to_vec()].concat();
    let (paths, end) = paths(LogReader::new(&bytes[..]));
    assert_eq!(paths, ["/row/0"]);
    assert!(matches!(end, Err(LogError::Cut(_))));
}

#[test]
fn a_record_knows_its_line() {
    let text = format!("{HEADER}\n\n{}\n#x\n\n{}\n{}", row(0), row(1), row(2))
        .replace("#Fields: ", "#fields:");
    let mut reader = LogReader::new(text.as_bytes());
    let mut lines = Vec::new();
    while reader.advance().unwrap() {
        lines.push(reader.line());
    }
    assert_eq!(lines, [5, 8, 9]);
}

#[test]
fn an_empty_log_has_no_rows() {
    for bytes in [Vec::new(), gzip(""), HEADER.as_bytes().to_vec()] {
        let (rows, end) = paths(LogReader::new(&bytes[..]));
        assert!(rows.is_empty());
        end.unwrap();
    }
}

#[test]
fn an_endless_line_is_one_row_marked_as_cut_and_the_next_is_whole() {
    let text = format!("{HEADER}{START}/{}\n{}\n", "a".repeat(3 * MAX_LINE), row(1));
    let mut reader = LogReader::new(text.as_bytes());
    assert!(reader.advance().unwrap() && reader.record().1.defect() == Some(Defect::TooLong));
    assert!(reader.advance().unwrap() && reader.record().1.defect().is_none());
    assert_eq!(reader.record().1.get(Field::UriStem), Some(&b"/row/1"[..]));
    assert!(!reader.advance().unwrap());
}

/// A line that is cut must not look like a whole one, wherever it is cut.
#[test]
fn a_line_of_one_mebibyte_is_a_row_and_one_byte_more_is_too_much() {
    let filled = |len: usize| format!("{START}{}", "a".repeat(len - START.len()));
    for (line, too_long) in [
        (filled(MAX_LINE), false),
        (filled(MAX_LINE - 1) + "\r", false),
        (filled(MAX_LINE + 1), true),
        (filled(MAX_LINE) + "\r", true),
        (filled(MAX_LINE) + "\rmore", true),
        (filled(MAX_LINE - 1) + "\rmore", true),
    ] {
        for columns in ["", "\t200"] {
            let text = format!("{HEADER}{line}{columns}\n{}\n", row(1));
            let mut reader = LogReader::new(text.as_bytes());
            assert!(reader.advance().unwrap());
            let defect = (too_long || !columns.is_empty()).then_some(Defect::TooLong);
            assert_eq!(
                reader.record().1.defect(),
                defect,
                "{} bytes {columns:?}",
                line.len()
            );
            assert!(
                reader.advance().unwrap()
                    && reader.record().1.get(Field::UriStem) == Some(b"/row/1")
            );
        }
    }
}

#[test]
fn half_of_the_names_of_fields_are_none() {
    let text = format!(
        "#Fields: date time c-ip cs-method cs-uri-stem {}\n{}\n",
        "x ".repeat(MAX_LINE),
        row(0)
    );
    let (rows, end) = paths(LogReader::new(text.as_bytes()));
    assert!(
        rows.is_empty()
            && end
                .unwrap_err()
                .to_string()
                .contains("#Fields line is longer")
    );
}

/// A source that breaks is not one that ends.
#[test]
fn a_read_error_ends_the_log_with_an_error_after_the_whole_rows() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset"))
        }
    }
    let text = format!("{HEADER}{}\n{}", row(0), row(1));
    let (rows, end) = paths(LogReader::new(text.as_bytes().chain(Broken)));
    assert_eq!(rows, ["/row/0"], "the second row may be half of one");
    assert!(matches!(end, Err(LogError::Cut(_))));
}

/// Also one that would not come again, and before there was a row: what comes after it is not read on.
#[test]
fn a_read_error_is_said_wherever_the_log_is_when_it_comes() {
    let text = format!("{HEADER}{}\n{}\n", row(0), row(1));
    for at in 1..text.len() {
        let broken = Failed(Some(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "reset",
        )));
        let (rows, end) = paths(LogReader::new(
            text.as_bytes()[..at]
                .chain(broken)
                .chain(&text.as_bytes()[at..]),
        ));
        let whole = text[..at].matches('\n').count().saturating_sub(2);
        assert!(
            rows == ["/row/0", "/row/1"][..whole] && matches!(end, Err(LogError::Cut(_))),
            "at {at}: {rows:?} {end:?}"
        );
    }
}

#[test]
fn every_proper_prefix_of_a_gzip_file_is_an_error_after_its_whole_rows() {
    let rows: Vec<String> = (0..60).map(row).collect();
    let json: Vec<String> = (0..60)
        .map(|n| format!("{{\"timestamp(ms)\":\"{n}\",\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/row/{n}\"}}"))
        .collect();
    for (text, headers) in [
        (format!("{HEADER}{}\n", rows.join("\n")), 2),
        (json.join("\n") + "\n", 0),
    ] {
        let whole = gzip(&text);
        for cut in 1..whole.len() {
            let mut inflated = Vec::new();
            // What a decoder can make of the prefix; that it fails at the end is the point.
            assert!(
                cut < 2
                    || flate2::read::MultiGzDecoder::new(&whole[..cut])
                        .read_to_end(&mut inflated)
                        .is_err()
            );
            let whole_rows = memchr::memchr_iter(b'\n', &inflated)
                .count()
                .saturating_sub(headers);
            let (paths, end) = paths(LogReader::new(&whole[..cut]));
            assert!(end.is_err(), "cut at {cut} of {}", whole.len());
            assert_eq!(paths.len(), whole_rows, "cut at {cut} of {}", whole.len());
        }
        assert_eq!(paths(LogReader::new(&whole[..])).0.len(), 60);
    }
}

proptest! {
    /// Columns are those that a simple split knows.
    #[test]
    fn columns_are_those_of_a_simple_split(
        rows in prop::collection::vec((prop::collection::vec("(|-|[a-z]{1,3}|[a-z/\r\u{8}\u{e9}\u{feff}]{1,40})", 1..45), any::<bool>(), any::<bool>()), 1..8),
        names in Just(Field::ALL.to_vec()).prop_shuffle(),
    ) {
        let names: Vec<&str> = names.iter().map(|field| field.name()).collect();
        // A row of two columns at least shows that tabs divide them.
        let mut text = format!("#Fields: {}\n-\t-\n", names.join(" "));
        for (cells, return_, _) in &rows {
            text += &(cells.join("\t") + if *return_ { "\r\n" } else { "\n" });
        }
        let mut reader = LogReader::new(text.as_bytes());
        prop_assert!(reader.advance().unwrap());
        for (cells, return_, only_glanced_at) in rows {
            let row = cells.join("\t");
            let line = if return_ { &row } else { row.strip_suffix('\r').unwrap_or(&row) };
            if line.is_empty() {
                continue; // no row
            }
            prop_assert!(reader.advance().unwrap());
            let cells: Vec<&str> = line.split('\t').collect();
            let value = |name| cells.get(names.iter().position(|other| *other == name)?).copied().filter(|cell| !matches!(*cell, "" | "-"));
            let simple: Vec<_> = Field::ALL.iter().map(|field| value(field.name()).map(|value| value.as_bytes().to_vec())).collect();
            let values = |record: Record<'_>| Field::ALL.iter().map(|field| record.get(*field).map(<[u8]>::to_vec)).collect::<Vec<_>>();
            if !only_glanced_at {
                prop_assert_eq!(values(reader.record().1), &simple[..]);
                prop_assert_eq!(values(reader.record().1), &simple[..], "asked twice");
            }
        }
        prop_assert!(!reader.advance().unwrap());
    }

    #[test]
    fn long_values_come_whole(
        lens in prop::collection::vec((1usize..4).prop_flat_map(|blocks| blocks * 8192 - 3..blocks * 8192 + 4), 1..5),
        end in prop::sample::select(vec!["\n", "\r\n"]),
    ) {
        let long: Vec<String> = lens.into_iter().map(|len| "p".repeat(len)).collect();
        let rows: Vec<String> = long.iter().map(|path| format!("{START}{path}{end}")).collect();
        let (found, ended) = paths(LogReader::new(format!("{HEADER}{}", rows.concat()).as_bytes()));
        prop_assert!(ended.is_ok() && found == long);
    }

    #[test]
    fn any_chunking_gives_the_same_records(sizes in prop::collection::vec(0usize..5000, 1..8).prop_filter("something comes", |sizes| sizes.iter().any(|size| *size > 0)), rows in 0u64..200, zip: bool) {
        let text = format!("{HEADER}{}", (0..rows).map(|n| row(n) + "\n").collect::<String>());
        let bytes = if zip { gzip(&text) } else { text.into_bytes() };
        let (found, end) = paths(LogReader::new(Chunks(&bytes, &sizes, 0)));
        prop_assert!(end.is_ok());
        prop_assert_eq!(found, (0..rows).map(|n| format!("/row/{n}")).collect::<Vec<_>>());
    }
}

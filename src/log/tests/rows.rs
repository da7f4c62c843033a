//! Rows, headers and lines of every shape.

use proptest::prelude::*;

use super::*;

// proves: I12
#[test]
fn blank_lines_and_directives_are_not_rows() {
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

// proves: I12
#[test]
fn byte_order_mark_is_skipped_for_any_chunking() {
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
fn byte_order_mark_after_the_start_is_a_value() {
    let text = format!("{HEADER}\u{feff}{}\n{}\n", row(0), row(1));
    let mut reader = LogReader::new(text.as_bytes());
    assert!(reader.advance().unwrap());
    assert_eq!(
        reader.record().1.get(Field::Date),
        Some("\u{feff}2026-11-14".as_bytes())
    );
    for value in ["\u{feff}/a", "\u{feff}"] {
        let text = format!("{HEADER}{}\n{START}{value}\n{}\n", row(0), row(2));
        let mut reader = LogReader::new(text.as_bytes());
        assert!(reader.advance().unwrap());
        assert!(reader.advance().unwrap());
        assert_eq!(path(&reader), Some(value.as_bytes()));
        assert!(reader.advance().unwrap());
        assert_eq!(path(&reader), Some(&b"/row/2"[..]));
    }
}

/// Lines of spaces are blank. A line of two carriage returns is a row.
// proves: I12
#[test]
fn blank_lines_are_skipped_for_any_chunking() {
    let json =
        "{\"timestamp(ms)\":\"1\",\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/a\"}";
    let legacy = "2026-11-14\t20:03:10\tFRA56\t512\t192.0.2.7\tGET\th\t/a\t200\t-\t-\t-";
    for (blank, more) in [("\r\n\n", 0), (" \n", 0), ("  \r\n \n", 0), ("\r\r\n", 1)] {
        for (log, rows) in [
            (
                format!("{blank}{HEADER}{blank}{}\n{blank}", row(0)),
                1 + 3 * more,
            ),
            (
                format!(
                    "{blank}#Fields: c-ip`cs-method`cs-uri-stem`timestamp\n{blank}::1`GET`/a`1\n"
                ),
                1 + 2 * more,
            ),
            (format!("{blank}{legacy}\n{blank}{legacy}\n"), 2 + 2 * more),
            (format!("{blank}{json}\n"), 1),
        ] {
            for step in [1, 2, 3, 1000] {
                let (found, end) = paths(LogReader::new(Chunks(log.as_bytes(), &[0, step], 0)));
                assert!(end.is_ok(), "{log:?}: {end:?}");
                assert_eq!(found.len(), rows, "{log:?} in chunks of {step}");
            }
        }
    }
}

/// A cut row is malformed, wherever it stands. It decides nothing about the others.
// proves: I12
#[test]
fn short_row_does_not_decide_about_the_log() {
    let legacy = "2026-11-14\t20:03:10\tFRA56\t512\t192.0.2.7\tGET\th\t/a\t200\t-\t-\t-";
    for short in [
        "2026-11-14",
        "2026-11-14\t20:0",
        "0:03:10,x y;z",
        "\t\t",
        "}",
    ] {
        for (log, expected) in [
            (
                format!("{HEADER}{short}\n{}\n", row(1)),
                vec!["?", "/row/1"],
            ),
            (
                format!("{HEADER}{}\n{HEADER}{short}\n{}\n", row(0), row(2)),
                vec!["/row/0", "?", "/row/2"],
            ),
            (
                format!("{short}\n{HEADER}{}\n", row(1)),
                vec!["?", "/row/1"],
            ),
            (format!("{short}\n{legacy}\n"), vec!["?", "/a"]),
        ] {
            let (rows, end) = paths(LogReader::new(log.as_bytes()));
            assert!(end.is_ok(), "{log}: {end:?}");
            assert_eq!(rows, expected, "{log}");
        }
    }
    let text = format!("{HEADER}{}\n{HEADER}{}", row(0), "x\n".repeat(100));
    let (rows, end) = paths(LogReader::new(text.as_bytes()));
    assert_eq!(rows.len(), 64);
    assert!(end.is_err());
}

// proves: I4
#[test]
fn second_header_replaces_the_columns() {
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
fn row_without_tabs_after_second_header_is_an_error() {
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

/// If commas separate the columns, a comma in a viewer's value would shift the values after it.
// proves: I6
#[test]
fn row_of_wrong_width_is_a_defect_unless_tab_separated() {
    let text = "#Fields: date,time,c-ip,cs-method,cs-uri-stem\n2026-11-14,20:00:00,192.0.2.1,GET,/a\n2026-11-14,20:00:00,192.0.2.1,GET,/b,6.6.6.6\n";
    let mut reader = LogReader::new(text.as_bytes());
    assert!(reader.advance().unwrap());
    assert_eq!(reader.record().1.defect(), None);
    assert!(reader.advance().unwrap());
    let (_, record) = reader.record();
    assert_eq!(
        (record.defect(), record.get(Field::ClientIp)),
        (Some(Defect::Delimiter), None)
    );
    assert!(!reader.advance().unwrap());
    let text = format!("{HEADER}{}\t\n", row(0));
    assert_eq!(paths(LogReader::new(text.as_bytes())).0, ["/row/0"]);
}

// proves: I23
#[test]
fn million_columns_are_one_row() {
    let text = format!("{HEADER}{}{}\n{}\n", row(0), "\t".repeat(1_000_000), row(1));
    assert_eq!(
        paths(LogReader::new(text.as_bytes())).0,
        ["/row/0", "/row/1"]
    );
    let row = "1|::1|GET|/a\n";
    let text = format!(
        "#Fields: timestamp|c-ip|cs-method|cs-uri-stem\n{row}{}\n{row}",
        "|".repeat(1_000_000)
    );
    let mut reader = LogReader::new(text.as_bytes());
    for defect in [None, Some(Defect::Delimiter), None] {
        assert!(reader.advance().unwrap());
        assert_eq!(reader.record().1.defect(), defect);
    }
}

#[test]
fn line_numbers_count_every_line() {
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
fn empty_log_has_no_rows() {
    for bytes in [Vec::new(), gzip(""), HEADER.as_bytes().to_vec()] {
        let (rows, end) = paths(LogReader::new(&bytes[..]));
        assert_eq!(rows, [""; 0]);
        end.unwrap();
    }
}

// proves: I22
#[test]
fn too_long_line_is_one_defective_row() {
    let text = format!("{HEADER}{START}/{}\n{}\n", "a".repeat(3 * MAX_LINE), row(1));
    let mut reader = LogReader::new(text.as_bytes());
    assert!(reader.advance().unwrap());
    assert_eq!(reader.record().1.defect(), Some(Defect::TooLong));
    assert_eq!(path(&reader), None, "its values may be incomplete");
    assert!(reader.advance().unwrap());
    assert_eq!(reader.record().1.defect(), None);
    assert_eq!(path(&reader), Some(&b"/row/1"[..]));
    assert!(!reader.advance().unwrap());
}

/// A cut line must never look like a complete one, wherever it is cut.
#[test]
fn line_of_1_mib_is_a_row_and_one_byte_more_is_not() {
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
            assert!(reader.advance().unwrap());
            assert_eq!(path(&reader), Some(&b"/row/1"[..]));
        }
    }
}

#[test]
fn cut_fields_line_is_an_error() {
    let text = format!(
        "#Fields: date time c-ip cs-method cs-uri-stem {}\n{}\n",
        "x ".repeat(MAX_LINE),
        row(0)
    );
    let (rows, end) = paths(LogReader::new(text.as_bytes()));
    assert_eq!(rows, [""; 0]);
    let error = end.unwrap_err().to_string();
    assert!(error.contains("`#Fields` line is longer"), "{error}");
}

// proves: I23
#[test]
fn fields_line_of_too_many_names_is_an_error() {
    for (between, delimiter) in [(" ", "\t"), ("|", "|")] {
        for (more, is_read) in [(995, true), (996, false), (500_000, false)] {
            let names = ["timestamp", "c-ip", "cs-method", "cs-uri-stem", "x"].join(between);
            let names = names + &format!("{between}y").repeat(more);
            let values = ["1", "::1", "GET", "/a", "-"].join(delimiter);
            let values = values + &format!("{delimiter}-").repeat(more);
            let text = format!("#Fields: {names}\n{values}\n");
            let (rows, end) = paths(LogReader::new(text.as_bytes()));
            assert_eq!(
                (rows.len(), end.is_ok()),
                (usize::from(is_read), is_read),
                "{more}"
            );
        }
    }
}

// proves: I3
#[test]
fn legacy_rows_may_end_in_a_tab_or_be_wider() {
    let values = "2026-11-14\t20:03:10\tFRA56\t512\t192.0.2.7\tGET\th\t/a\t200\t-\t-\t-";
    for (more, is_read) in [
        ("", true),
        ("\t", true),
        ("\tx", false),
        (&"\t-".repeat(21), true),
        (&"\tx".repeat(22), true),
        (&"\tx".repeat(40), true),
    ] {
        let text = format!("{values}{more}\n{values}\n");
        let (rows, _) = paths(LogReader::new(text.as_bytes()));
        assert_eq!(rows, [if is_read { "/a" } else { "?" }, "/a"], "{more:?}");
    }
}

proptest! {
    #[test]
    fn fields_agree_with_a_simple_split(
        rows in prop::collection::vec((prop::collection::vec("(|-|[a-z]{1,3}|[a-z/\r\u{8}\u{e9}\u{feff}]{1,40})", 1..45), any::<bool>()), 1..8),
        names in Just(Field::ALL.to_vec()).prop_shuffle(),
    ) {
        let names: Vec<&str> = names.iter().map(|field| field.name()).collect();
        // The first row after a header must contain a tab.
        let mut text = format!("#Fields: {}\n-\t-\n", names.join(" "));
        for (cells, return_) in &rows {
            text += &(cells.join("\t") + if *return_ { "\r\n" } else { "\n" });
        }
        let mut reader = LogReader::new(text.as_bytes());
        prop_assert!(reader.advance().unwrap());
        for (cells, return_) in rows {
            let row = cells.join("\t");
            let line = if return_ { &row } else { row.strip_suffix('\r').unwrap_or(&row) };
            if line.is_empty() {
                continue;
            }
            prop_assert!(reader.advance().unwrap());
            let cells: Vec<&str> = line.split('\t').collect();
            let value = |name| cells.get(names.iter().position(|other| *other == name)?).copied().filter(|cell| !matches!(*cell, "" | "-"));
            let simple: Vec<_> = Field::ALL.iter().map(|field| value(field.name()).map(|value| value.as_bytes().to_vec())).collect();
            let values = |record: Record<'_>| Field::ALL.iter().map(|field| record.get(*field).map(<[u8]>::to_vec)).collect::<Vec<_>>();
            prop_assert_eq!(values(reader.record().1), simple);
        }
        prop_assert!(!reader.advance().unwrap());
    }

    #[test]
    fn long_values_are_complete(
        lens in prop::collection::vec((1usize..4).prop_flat_map(|blocks| blocks * 8192 - 3..blocks * 8192 + 4), 1..5),
        end in prop::sample::select(vec!["\n", "\r\n"]),
    ) {
        let long: Vec<String> = lens.into_iter().map(|len| "p".repeat(len)).collect();
        let rows: Vec<String> = long.iter().map(|path| format!("{START}{path}{end}")).collect();
        let (found, ended) = paths(LogReader::new(format!("{HEADER}{}", rows.concat()).as_bytes()));
        prop_assert!(ended.is_ok());
        prop_assert!(found == long, "values of {:?} bytes", long.iter().map(String::len).collect::<Vec<_>>());
    }
}

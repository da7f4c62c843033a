use super::*;
use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

const HEADER: &str = "#Version: 1.0\n#Fields: date time c-ip cs-method cs-uri-stem\n";

fn row(n: u64) -> String {
    format!("2026-11-14\t20:00:00\t192.0.2.{}\tGET\t/row/{n}", n % 250)
}

/// The paths that a reader yields, and how it ended.
fn paths(mut reader: LogReader<impl Read>) -> (Vec<String>, Result<(), LogError>) {
    let mut paths = Vec::new();
    loop {
        match reader.advance() {
            Ok(true) => {
                let (number, record) = reader.record();
                assert_eq!(number, paths.len() as u64);
                paths.push(String::from_utf8_lossy(record.get(Field::UriStem).unwrap_or(b"?")).into_owned());
            }
            Ok(false) => return (paths, Ok(())),
            Err(error) => {
                assert!(matches!(reader.advance(), Ok(false)), "an error is said once, then the end");
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

/// Hands out chunks of the given sizes, over and over.
struct Chunks(Vec<u8>, Vec<usize>, usize);

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.1[self.2 % self.1.len()].min(buf.len()).min(self.0.len());
        self.2 += 1;
        buf[..n].copy_from_slice(&self.0[..n]);
        self.0.drain(..n);
        Ok(n)
    }
}

#[test]
fn blank_lines_directives_and_carriage_returns_are_no_rows() {
    let text = format!("#\r\n{HEADER}\r\n\n{}\r\n#Software: x\n\n{}", row(0), row(1));
    assert_eq!(paths(LogReader::new(text.as_bytes())).0, ["/row/0", "/row/1"]);
}

#[test]
fn a_byte_order_mark_is_passed_over_however_the_bytes_come() {
    let text = format!("\u{feff}{HEADER}{}\n", row(0));
    let alone = [gzip("\u{feff}"), gzip(&text[3..])].concat();
    for bytes in [text.clone().into_bytes(), gzip(&text), alone] {
        for step in [1, 2, 3, 1000] {
            let (paths, end) = paths(LogReader::new(Chunks(bytes.clone(), vec![step], 0)));
            assert_eq!(paths, ["/row/0"], "chunks of {step}");
            end.unwrap();
        }
    }
}

#[test]
fn a_header_in_the_middle_sets_the_columns_anew() {
    let text = format!("{HEADER}{}\n#Fields:\tcs-uri-stem\tcs-method\tc-ip\ttimestamp(ms)\n/row/1\tGET\t::1\t1\n", row(0));
    assert_eq!(paths(LogReader::new(text.as_bytes())).0, ["/row/0", "/row/1"]);
}

#[test]
fn every_gzip_member_is_read() {
    let bytes = [gzip(&format!("{HEADER}{}\n", row(0))), gzip(""), gzip(&format!("{HEADER}{}\n", row(1)))].concat();
    let (paths, end) = paths(LogReader::new(&bytes[..]));
    assert_eq!(paths, ["/row/0", "/row/1"]);
    end.unwrap();
}

#[test]
fn what_is_no_access_log_is_refused_by_name() {
    for (text, reason) in [
        ("{\"date\":\"2026-11-14\"}\n", "JSON"),
        ("PAR1\u{1}", "Parquet"),
        ("#Fields: date time x-event c-ip\n", "RTMP"),
        ("#Fields: date time cs-method\n", "c-ip"),
        ("2026-11-14\t20:00:00\tx\n", "no legacy log"),
        ("#Fields: date time c-ip cs-method cs-uri-stem\n2026-11-14 20:00:00 192.0.2.1 GET /\n", "not separated by tabs"),
        ("127.0.0.1 - - [14/Nov/2026] \"GET / HTTP/1.1\" 200 1\n", "neither a header nor a row"),
        ("\u{1f}", "neither a header nor a row"),
    ] {
        let (rows, end) = paths(LogReader::new(text.as_bytes()));
        assert_eq!(rows.len(), 0);
        let error = end.expect_err(text).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_record_knows_its_line() {
    let text = format!("{HEADER}\n\n{}\n#x\n\n{}\n{}", row(0), row(1), row(2)).replace("#Fields: ", "#fields:");
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
    let text = format!("{HEADER}2026-11-14\t20:00:00\t192.0.2.1\tGET\t/{}\n{}\n", "a".repeat(3 * MAX_LINE), row(1));
    let mut reader = LogReader::new(text.as_bytes());
    assert!(reader.advance().unwrap() && reader.record().1.is_cut());
    assert!(reader.advance().unwrap() && !reader.record().1.is_cut());
    assert_eq!(reader.record().1.get(Field::UriStem), Some(&b"/row/1"[..]));
    assert!(!reader.advance().unwrap());
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

#[test]
fn every_proper_prefix_of_a_gzip_file_is_an_error_after_its_whole_rows() {
    let rows: Vec<String> = (0..60).map(row).collect();
    let text = format!("{HEADER}{}\n", rows.join("\n"));
    let whole = gzip(&text);
    for cut in 1..whole.len() {
        let mut inflated = Vec::new();
        // What a decoder can make of the prefix; that it fails at the end is the point.
        assert!(cut < 2 || flate2::read::MultiGzDecoder::new(&whole[..cut]).read_to_end(&mut inflated).is_err());
        let whole_rows = memchr::memchr_iter(b'\n', &inflated).count().saturating_sub(2);
        let (paths, end) = paths(LogReader::new(&whole[..cut]));
        assert!(end.is_err(), "cut at {cut} of {}", whole.len());
        assert_eq!(paths.len(), whole_rows, "cut at {cut} of {}", whole.len());
    }
    assert_eq!(paths(LogReader::new(&whole[..])).0.len(), 60);
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_records(sizes in prop::collection::vec(1usize..5000, 1..8), rows in 0u64..200, zip: bool) {
        let text = format!("{HEADER}{}", (0..rows).map(|n| row(n) + "\n").collect::<String>());
        let bytes = if zip { gzip(&text) } else { text.into_bytes() };
        let (found, end) = paths(LogReader::new(Chunks(bytes, sizes, 0)));
        prop_assert!(end.is_ok());
        prop_assert_eq!(found, (0..rows).map(|n| format!("/row/{n}")).collect::<Vec<_>>());
    }
}

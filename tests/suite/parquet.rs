//! Parquet logs: the same transactions as from text, whatever the writer; clear errors and bounded
//! work for files that are damaged or lie.

use std::cell::Cell;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::time::Duration;

use edgetap::batch::{Batch, Limits};
use edgetap::encode::Encoding;
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::Options;
use edgetap::log::{Field, LogReader};
use edgetap::pipeline::{Batches, Observer, Rules};
use edgetap::rows::{OPEN, Rows};
use proptest::prelude::*;
use serde_json::json;

use super::input::{FIELDS, Format, everything, lines, request, write};
use crate::support::parquet::{COLUMNS, How, Made, Page, by_crate, parquet, plain};
use crate::support::{gzip_of, world};

const LIMITS: Limits = Limits {
    transactions: 3,
    bytes: 1_000_000,
};

/// The batches of some rows, and the error at the end.
fn read(file: &[u8], rows: Rows, rules: Rules) -> (Vec<Batch>, Option<String>) {
    let job = Job {
        rows,
        ..Job::all(ObjectRef::in_s3("b", "k"))
    };
    let (mut batches, mut error) = (Vec::new(), None);
    for batch in Batches::new(&job, Cursor::new(file.to_vec()), Arc::new(rules)) {
        match batch {
            Ok(batch) => batches.push(batch),
            Err(end) => error = Some(end.to_string()),
        }
    }
    (batches, error)
}

fn bodies(batches: &[Batch]) -> Vec<u8> {
    batches
        .iter()
        .flat_map(|batch| batch.body.to_vec())
        .collect()
}

/// The name of a field as AWS writes it in Parquet files.
fn mangled(field: Field) -> String {
    let words = field
        .name()
        .split(|byte: char| !byte.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("_")
}

fn how() -> impl Strategy<Value = How> {
    (
        prop::sample::select(vec!["gzip", "snappy", "none"]),
        any::<[bool; 4]>(),
        prop::sample::select(vec![1, 2, 3, 100]),
        prop::sample::select(vec![1, 2, 1000]),
    )
        .prop_map(|(codec, flags, group, page)| How {
            codec,
            is_v2: flags[0],
            has_dictionary: flags[1],
            is_plain: flags[2],
            is_optional: flags[3],
            group,
            page,
        })
}

/// The values of the fields of each row, which are empty where they are missing.
fn by_edgetap(file: &[u8], fields: &[usize]) -> Vec<Vec<String>> {
    let (mut log, mut rows) = (LogReader::new(file), Vec::new());
    while log.advance().unwrap() {
        let (_, record) = log.record();
        let value = |index: &usize| record.get(FIELDS[*index]).unwrap_or_default().to_vec();
        let text = |index| String::from_utf8(value(index)).unwrap();
        rows.push(fields.iter().map(text).collect());
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same requests as `w3c`, `json` and Parquet give equal transactions.
    // proves: I2, I4, I42
    #[test]
    fn parquet_gives_the_transactions_of_text(
        requests in prop::collection::vec(request(), 1..8),
        order in Just((0..33).collect::<Vec<usize>>()).prop_shuffle(),
        subset in prop::collection::vec(any::<bool>(), 33),
        nulls in prop::collection::vec(any::<bool>(), 33),
        spelling in prop::collection::vec(0..4_u8, 33),
        how in how(),
    ) {
        let required = [0, 1, 4, 5, 7];
        let chosen: Vec<usize> = order.into_iter().filter(|index| subset[*index] || required.contains(index)).collect();
        let names: Vec<String> = chosen.iter().map(|&index| match spelling[index] {
            0 => FIELDS[index].name().to_owned(),
            1 => mangled(FIELDS[index]),
            2 => mangled(FIELDS[index]).to_lowercase(),
            _ => mangled(FIELDS[index]).to_uppercase(),
        }).collect();
        let rows: Vec<Vec<Option<String>>> = requests.iter().map(|request| {
            let value = |index: usize| {
                let is_null = request[index] == "-" && nulls[index] && how.is_optional;
                (!is_null).then(|| request[index].clone())
            };
            chosen.iter().map(|index| value(*index)).collect()
        }).collect();
        let file = parquet(&names, &rows, &how);
        prop_assert_eq!(by_edgetap(&file, &chosen), by_crate(&file));
        let (batches, error) = read(&file, Rows::all(), everything());
        prop_assert_eq!(error, None);
        let text = write(&requests, &chosen, &Format::Header(" ", "\t"));
        let json = write(&requests, &chosen, &Format::Json);
        let parquet: Vec<serde_json::Value> = bodies(&batches)
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        prop_assert_eq!(&parquet, &lines(&text));
        prop_assert_eq!(&parquet, &lines(&json));
    }
}

/// Rows whose values fill several pages and change their dictionary.
fn sample(rows: usize) -> (Vec<String>, Vec<Vec<Option<String>>>) {
    let names = [
        "date",
        "time",
        "cs_method",
        "cs_uri_stem",
        "sc_status",
        "x_edge_request_id",
        "x_host_header",
        "vendor",
    ];
    let row = |number: usize| {
        let status = ["200", "404", "-"][number % 3];
        let host = (!number.is_multiple_of(4)).then(|| format!("h{}.example.com", number % 7));
        vec![
            Some("2026-11-14".to_owned()),
            Some("20:00:00".to_owned()),
            Some("GET".to_owned()),
            Some(format!("/row/{number}")),
            Some(status.to_owned()),
            Some(format!("id-{number}")),
            host,
            Some(format!("v{}", number % 2)),
        ]
    };
    (
        names.map(str::to_owned).to_vec(),
        (0..rows).map(row).collect(),
    )
}

// proves: D5, I42
#[test]
fn parquet_resumed_at_any_row_gives_the_same_rows() {
    const ROWS: usize = 40;
    let (names, rows) = sample(ROWS);
    for how in [
        How {
            group: 7,
            page: 3,
            ..How::default()
        },
        How {
            group: 100,
            page: 2,
            is_v2: true,
            codec: "gzip",
            ..How::default()
        },
        How {
            group: 1,
            has_dictionary: false,
            codec: "none",
            ..How::default()
        },
    ] {
        let file = parquet(&names, &rows, &how);
        let rules = || Rules {
            limits: LIMITS,
            encoding: Encoding::Ndjson,
            ..Rules::default()
        };
        let (all, error) = read(&file, Rows::all(), rules());
        assert_eq!(error, None);
        let (all, mut start) = (bodies(&all), 0);
        for row in 0..ROWS {
            let rest = Rows::from(row as u64..OPEN);
            let (batches, error) = read(&file, rest, rules());
            assert_eq!(error, None);
            assert_eq!(bodies(&batches), all[start..], "{row} {how:?}");
            assert_eq!(batches[0].rows.start, row as u64);
            start += 1 + memchr::memchr(b'\n', &all[start..]).unwrap();
        }
    }
}

/// An observer that lets all columns be read.
struct All;

impl Observer for All {
    fn see(
        &mut self,
        _: &LogReader<impl std::io::Read>,
        _: &Rules,
        _: &edgetap::pipeline::Fate<'_>,
    ) {
    }
}

proptest! {
    /// Columns that are not opened change nothing.
    // proves: I42
    #[test]
    fn used_columns_alone_give_the_same_bodies(requests in prop::collection::vec(request(), 1..8)) {
        let names: Vec<String> = FIELDS.iter().map(|field| mangled(*field)).collect();
        let rows: Vec<Vec<Option<String>>> = requests.iter().map(|request| request.iter().cloned().map(Some).collect()).collect();
        let file = parquet(&names, &rows, &How::default());
        let job = Job::all(ObjectRef::in_s3("b", "k"));
        let rules = Arc::new(Rules::default());
        let some = Batches::new(&job, &file[..], rules.clone()).collect::<Result<Vec<_>, _>>().unwrap();
        let all = Batches::observed(&job, &file[..], rules, All).collect::<Result<Vec<_>, _>>().unwrap();
        prop_assert_eq!(some, all);
    }
}

// proves: I42
#[test]
fn padding_behind_pages_is_skipped() {
    for padding in [1, 1_000] {
        let made = Made {
            padding,
            ..Made::default()
        };
        let (batches, error) = read(&made.write(), Rows::all(), Rules::default());
        assert_eq!((batches[0].counts.rows, error), (2, None));
    }
}

/// A change to a file, the rows that are read before the error, and the error after the words that all
/// have.
type Case = (&'static str, fn(&mut Made), u64, &'static str);

const PAGE: &str = "a page is invalid";
const METADATA: &str = "its metadata is invalid";
const ROWS: &str = "the number of rows differs between its parts";
const OUTSIDE: &str = "a column is outside of the file, or has a negative size";
const OVERLAP: &str = "its columns overlap";

// proves: I43, I44
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn files_that_lie_are_refused_after_their_whole_rows() {
    let cases: [Case; 35] = [
        ("fewer rows in the footer", |made| made.rows = 1, 2, ROWS),
        (
            "more rows in the footer",
            |made| made.rows = i64::MAX,
            2,
            ROWS,
        ),
        ("negative rows", |made| made.rows = -1, 0, METADATA),
        (
            "negative rows of a group",
            |made| made.group_rows = -1,
            0,
            METADATA,
        ),
        (
            "more rows in the group",
            |made| made.group_rows = 3,
            0,
            ROWS,
        ),
        ("more values in the chunk", |made| made.values = 3, 0, ROWS),
        (
            "more values than in the pages",
            |made| (made.rows, made.group_rows, made.values) = (3, 3, 3),
            2,
            ROWS,
        ),
        (
            "more values in the page",
            |made| made.page_values = 3,
            0,
            ROWS,
        ),
        (
            "values that are not there",
            |made| (made.rows, made.group_rows, made.values, made.page_values) = (3, 3, 3, 3),
            2,
            PAGE,
        ),
        (
            "a second group without pages of its own",
            |made| (made.rows, made.groups, made.has_own_pages) = (4, 2, false),
            2,
            OVERLAP,
        ),
        (
            "100,000 groups",
            |made| (made.groups, made.has_own_pages) = (100_000, false),
            2,
            OVERLAP,
        ),
        (
            "an integer",
            |made| made.kind = 1,
            0,
            "the column of `cs-uri-stem` is INT32. Write the values as strings, as CloudFront does",
        ),
        (
            "a list",
            |made| made.repetition = 2,
            0,
            "the column of `cs-uri-stem` is repeated. Write the values as strings, as CloudFront does",
        ),
        (
            "a deep schema",
            |made| made.depth = 5_000,
            0,
            "the column of `cs-uri-stem` is nested. Write the values as strings, as CloudFront does",
        ),
        (
            "a schema that is too deep",
            |made| made.depth = 10_000,
            0,
            "it has more than 1,000 columns",
        ),
        (
            "many columns",
            |made| made.more_columns = 997,
            0,
            "it has more than 1,000 columns",
        ),
        (
            "zstd",
            |made| made.codec = 6,
            0,
            "it is compressed with zstd. Write it with gzip or Snappy, or uncompressed",
        ),
        (
            "LZ4",
            |made| made.codec = 7,
            0,
            "it is compressed with LZ4. Write it with gzip or Snappy, or uncompressed",
        ),
        (
            "Brotli",
            |made| made.codec = 4,
            0,
            "it is compressed with Brotli. Write it with gzip or Snappy, or uncompressed",
        ),
        (
            "LZO",
            |made| made.codec = 3,
            0,
            "it is compressed with LZO. Write it with gzip or Snappy, or uncompressed",
        ),
        (
            "a codec that does not exist",
            |made| made.codec = 99,
            0,
            "it is compressed with an unknown codec. Write it with gzip or Snappy, or uncompressed",
        ),
        ("no Snappy", |made| made.codec = 1, 0, PAGE),
        ("no gzip", |made| made.codec = 2, 0, PAGE),
        (
            "an unknown encoding",
            |made| made.encoding = 9,
            0,
            "a page has an encoding that is not supported. Write it with plain or dictionary encoding",
        ),
        (
            "a dictionary that is not there",
            |made| made.encoding = 8,
            0,
            PAGE,
        ),
        ("no deltas", |made| made.encoding = 7, 0, PAGE),
        (
            "a page of 2 GiB",
            |made| (made.codec, made.size) = (2, Some(i32::MAX.into())),
            0,
            "a page is larger than 8 MiB. Write smaller pages or row groups",
        ),
        (
            "a page of a negative size",
            |made| made.size = Some(-1),
            0,
            PAGE,
        ),
        (
            "a page of a size that is too large for one",
            |made| made.size = Some(1 << 40),
            0,
            PAGE,
        ),
        (
            "a page that ends behind its column",
            |made| made.compressed = Some(1 << 20),
            0,
            PAGE,
        ),
        (
            "a size that is not that of the bytes",
            |made| made.size = Some(1),
            0,
            PAGE,
        ),
        ("an unknown page", |made| made.page_kind = 9, 0, PAGE),
        (
            "a chunk behind the file",
            |made| made.start = Some(i64::MAX),
            0,
            OUTSIDE,
        ),
        (
            "a chunk before the file",
            |made| made.start = Some(-5),
            0,
            METADATA,
        ),
        (
            "a chunk that is too long",
            |made| made.len = Some(i64::MAX),
            0,
            OUTSIDE,
        ),
    ];
    for (name, change, rows, expected) in cases {
        let mut made = Made::default();
        change(&mut made);
        let (batches, error) = read(&made.write(), Rows::all(), Rules::default());
        let expected = format!("cannot read the Parquet file: {expected}");
        assert_eq!(error.as_deref(), Some(&expected[..]), "{name}");
        assert_eq!(
            batches.iter().map(|batch| batch.counts.rows).sum::<u64>(),
            rows,
            "{name}"
        );
    }
}

// proves: I44
#[test]
fn file_cut_at_any_byte_is_truncated() {
    let (names, rows) = sample(5);
    let file = parquet(&names, &rows, &How::default());
    for len in 4..file.len() {
        let (batches, error) = read(&file[..len], Rows::all(), Rules::default());
        let expected = "cannot read the Parquet file: it is truncated: its end is missing. Upload the whole file";
        assert_eq!(error.as_deref(), Some(expected), "{len}");
        assert!(batches.is_empty());
    }
}

// proves: I44
#[test]
fn pages_without_rows_are_skipped() {
    let made = Made {
        empty_pages: 1_000,
        ..Made::default()
    };
    let (batches, error) = read(&made.write(), Rows::all(), Rules::default());
    assert_eq!((batches[0].counts.rows, error), (2, None));
}

// proves: I42
#[test]
fn row_groups_without_rows_are_skipped() {
    let with_groups = |empty_groups| Made {
        empty_groups,
        ..Made::default()
    };
    let (all, _) = read(&Made::default().write(), Rows::all(), Rules::default());
    for made in [with_groups(1), with_groups(1_000)] {
        let (batches, error) = read(&made.write(), Rows::all(), Rules::default());
        assert_eq!((bodies(&batches), error), (bodies(&all), None));
    }
}

// proves: I42
#[test]
fn parquet_without_rows_ends_like_text_without_rows() {
    let (names, _) = sample(0);
    let without_rows = Made {
        rows: 0,
        groups: 0,
        ..Made::default()
    };
    let with_group = Made {
        empty_groups: 1,
        ..without_rows.clone()
    };
    let header = b"#Version: 1.0\n#Fields: date\ttime\tcs-method\tcs-uri-stem\n";
    let ends = |file: &[u8]| {
        let (batches, error) = read(file, Rows::all(), Rules::default());
        let counts: Vec<_> = batches.iter().map(|batch| batch.counts).collect();
        (counts, bodies(&batches), error)
    };
    for file in [
        without_rows.write(),
        with_group.write(),
        parquet(&names, &[], &How::default()),
    ] {
        assert_eq!(ends(&file), ends(header));
    }
}

// proves: I42
#[test]
fn column_may_return_to_its_dictionary() {
    let page = |kind, encoding, values, body| Page {
        kind,
        encoding,
        values,
        body,
    };
    let index = |index| vec![1, 1 << 1, index]; // 1 bit; one time
    let made = Made {
        rows: 3,
        group_rows: 3,
        values: 3,
        page_values: 3,
        written: 3,
        pages: vec![
            page(2, 0, 2, plain(&["/first", "/third"])),
            page(0, 8, 1, index(0)),
            page(0, 0, 1, plain(&["/second"])),
            page(0, 8, 1, index(1)),
        ],
        ..Made::default()
    };
    let (batches, error) = read(&made.write(), Rows::all(), everything());
    assert_eq!(error, None);
    let body = String::from_utf8(bodies(&batches)).unwrap();
    let paths: Vec<serde_json::Value> = body
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["request"]["path"].take()
        })
        .collect();
    assert_eq!(paths, ["/first", "/second", "/third"]);
}

// proves: I43
#[test]
fn column_of_nulls_without_a_type_has_no_values() {
    let made = Made {
        kind: 1,
        repetition: 1,
        logical: Some(11),
        ..Made::default()
    };
    let (batches, error) = read(&made.write(), Rows::all(), Rules::default());
    let expected =
        "every row is malformed. The first one (line 1): missing or unreadable cs-uri-stem";
    assert_eq!(error.as_deref(), Some(expected));
    let counts = batches[0].counts;
    assert_eq!((counts.rows, counts.malformed), (2, 2), "they lack a path");
}

// proves: I20, I42
#[test]
fn headers_of_pages_may_have_long_values() {
    let made = Made {
        statistics: 400 << 10,
        ..Made::default()
    };
    let (batches, error) = read(&made.write(), Rows::all(), Rules::default());
    assert_eq!((batches[0].counts.rows, error), (2, None));
}

// proves: I44
#[test]
fn small_file_may_take_less_memory() {
    let (names, mut rows) = sample(1);
    for index in [4, 5] {
        rows[0][index] = Some("x".repeat(3 << 20));
    }
    let read = |is_large: bool| {
        let how = How {
            has_dictionary: false,
            codec: "gzip",
            ..How::default()
        };
        let mut rows = rows.clone();
        if is_large {
            let text = (0..400_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let text: Vec<String> = text.map(|number| format!("{number:016x}")).collect();
            rows[0][7] = Some(text.concat());
        }
        read(&parquet(&names, &rows, &how), Rows::all(), Rules::default()).1
    };
    assert!(read(false).unwrap().contains("32 times the size"));
    assert!(read(true).unwrap().contains("it is longer than 1 MiB"));
}

// proves: I8, I43
#[test]
fn whole_files_that_are_not_read_are_refused_by_name() {
    let plain = Made::default().write();
    let mut encrypted = plain.clone();
    let end = encrypted.len() - 1;
    encrypted[end] = b'E';
    let (names, rows) = sample(1);
    let with_names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        parquet(
            &names,
            &[vec![Some("x".to_owned()); names.len()]],
            &How::default(),
        )
    };
    for (file, expected) in [
        (
            encrypted,
            "cannot read the Parquet file: it is encrypted. Write it without encryption",
        ),
        (
            gzip_of(&plain),
            "cannot read the log to its end: it is Parquet inside gzip. Decompress it once, and upload it again",
        ),
        (
            parquet(&names[1..], &[rows[0][1..].to_vec()], &How::default()),
            "log lacks required fields: date and time, or timestamp(ms). Add them to the distribution's log delivery",
        ),
        (
            with_names(&["date", "time", "cs_method", "c_ip"]),
            "log lacks required fields: cs-uri-stem. Add them to the distribution's log delivery",
        ),
        (
            with_names(&["message"]),
            "not a supported CloudFront access log: it is a log line that a log shipper wrapped in JSON. Write the lines as CloudFront delivers them, or deliver the logs to S3 directly",
        ),
    ] {
        let (batches, error) = read(&file, Rows::all(), Rules::default());
        assert_eq!(error.as_deref(), Some(expected));
        assert!(batches.is_empty());
    }
    let flow = with_names(&["version", "account_id", "interface_id", "srcaddr"]);
    let mut batches = Batches::new(
        &Job::all(ObjectRef::in_s3("b", "k")),
        &flow[..],
        Arc::default(),
    );
    assert!(batches.next().is_none());
    assert!(batches.is_skipped());
}

// proves: I44
#[test]
fn row_over_1_mib_is_malformed_and_decides_nothing() {
    let (names, mut rows) = sample(3);
    rows[1][3] = Some("/".repeat((1 << 20) + 1));
    for is_plain in [true, false] {
        let how = How {
            is_plain,
            has_dictionary: false,
            ..How::default()
        };
        let (batches, error) = read(&parquet(&names, &rows, &how), Rows::all(), Rules::default());
        assert_eq!(error, None);
        let counts = batches[0].counts;
        assert_eq!((counts.rows, counts.sent, counts.malformed), (3, 2, 1));
    }
}

// proves: I25, I44
#[test]
fn pages_that_are_larger_than_all_memory_are_refused() {
    let names: Vec<String> = COLUMNS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain((0..20).map(|index| FIELDS[index + 10].name().to_owned()))
        .collect();
    // The values that are joined from parts take as much as their pages.
    for (is_plain, len) in [(true, 3 << 20), (false, 700 << 10)] {
        let value = |index: usize| match COLUMNS.get(index) {
            Some((_, value)) => (*value).to_owned(),
            None => "x".repeat(len),
        };
        let row: Vec<_> = (0..names.len()).map(|index| Some(value(index))).collect();
        let how = How {
            has_dictionary: false,
            is_plain,
            ..How::default()
        };
        let (_, error) = read(&parquet(&names, &[row], &how), Rows::all(), everything());
        let expected = "cannot read the Parquet file: the pages of its columns take too much memory together: 16 MiB, or 32 times the size of a small file. Write smaller pages";
        assert_eq!(error.as_deref(), Some(expected), "{len}");
    }
}

const PLENTY: Duration = Duration::from_secs(20);

// proves: D31
#[tokio::test]
async fn parquet_objects_wait_for_temporary_storage() {
    let mut world = world(Options::default(), LIMITS).await;
    let (names, rows) = sample(100);
    let file = parquet(
        &names,
        &rows,
        &How {
            codec: "none",
            ..How::default()
        },
    );
    let size = file.len() as u64;
    world.function = world.function.with_space(size + size / 2);
    for key in ["a", "b", "c"] {
        world.s3.put(key, file.clone());
        world.notify(key);
    }
    assert_eq!(world.poll_batch(10, PLENTY).await, [true; 3]);
    assert_eq!(world.sqs.dead_letters().len(), 0);
}

// proves: D31
#[tokio::test]
async fn parquet_object_over_all_storage_is_dead_lettered() {
    let mut world = world(Options::default(), LIMITS).await;
    world.function = world.function.with_space(1 << 20);
    let (names, rows) = sample(1);
    let mut file = parquet(&names, &rows, &How::default());
    file.resize(5 << 20, 0);
    world.s3.put("large", file);
    world.notify("large");
    assert_eq!(world.poll(PLENTY).await, Some(true));
    let letters = world.sqs.dead_letters();
    let letter: serde_json::Value = serde_json::from_str(&letters[0].body).unwrap();
    assert_eq!(letter["rows"], json!([[0, null]]));
    assert_eq!(
        letter["reason"],
        "the Parquet file needs 5 MB of temporary storage, and the function has 1 MB. Set `ephemeral_storage` to more than 5"
    );
}

/// A file that cannot be read any more once `is_wanted` is false.
struct Wanted<'a> {
    file: &'a [u8],
    is_wanted: &'a Cell<bool>,
}

impl Read for Wanted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.is_wanted.get() {
            self.file.read(buf)
        } else {
            Err(io::Error::other("not wanted any more"))
        }
    }
}

// proves: D31
#[test]
fn reading_ends_once_the_source_fails() {
    let names: Vec<String> = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let row: Vec<Option<String>> = names.iter().map(|_| Some("x".to_owned())).collect();
    let file = parquet(&names, &vec![row; 1_000], &How::default());
    let is_wanted = Cell::new(true);
    let mut log = LogReader::new(Wanted {
        file: &file,
        is_wanted: &is_wanted,
    });
    for _ in 0..100 {
        assert!(log.advance().unwrap());
    }
    is_wanted.set(false);
    let ended = (0..64).find_map(|_| log.advance().err());
    let text = ended.map(|error| error.to_string());
    assert_eq!(
        text.as_deref(),
        Some("cannot read the log to its end: not wanted any more")
    );
}

//! In steady state the pipeline allocates per batch, not per row. This test is a program of its own
//! because it replaces the allocator.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::sync::Arc;

use edgetap::batch::Limits;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules};
use flate2::{Compression, write::GzEncoder};

#[path = "support/parquet.rs"]
#[allow(dead_code, reason = "files made by hand are for other tests")]
mod parquet;

use crate::parquet::How;

/// Allocations per batch: the body, the marks, and the reference count of the shared body.
const ALLOCATIONS_OF_A_BATCH: u64 = 3;

/// First row of the steady state, in which buffers no longer grow. It is past the head of the log and
/// past three batches of any size tested.
const STEADY: u64 = 6_000;

const FIELDS: &str = "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) \
                      cs-uri-query cs(Cookie) x-edge-request-id x-host-header cs-protocol time-taken x-forwarded-for \
                      cs-protocol-version c-port sc-content-type sc-content-len sc-range-start sc-range-end";

/// Rows that need every kind of work: escapes, credentials, invalid UTF-8, a range, an old user agent,
/// IPv4 and IPv6, a static asset, malformed rows, and one without an id.
const ROWS: [&str; 6] = [
    "2026-11-14 20:00:00 FRA56-P4 900 192.0.2.7 GET d1.cloudfront.net /api/caf%C3%A9/%22x%22 200 https://shop.example.com/?page=1 Mozilla/5.0%2520(X%2522) q=a%2520b&access_token=s3cr%2565t a=b;%20c=d id-1== api.example.com https 0.012 10.0.0.1,\\x2010.0.0.2 HTTP/2.0 50000 application/json 120 0 119",
    "2026-11-14 20:00:00 FRA56-P4 900 2001:db8::7 POST d1.cloudfront.net /%FF%01 500 https://user:pw@example.com/%FE Mozilla/5.0%20(X) password=x - id-2== api.%FF.example https 1.5 - HTTP/1.1 50001 application/json 120 - -",
    "2026-11-14 20:00:00 FRA56-P4 900 192.0.2.7 GET d1.cloudfront.net /app.js 200 - Mozilla/5.0%20(X) - - id-3== - https 0.001 - HTTP/2.0 50000 text/javascript 120 - -",
    "2026-11-14 20:00:00 FRA56-P4 900 x.x.x.x GET d1.cloudfront.net /%2e%2e/app%2ejson 200 - Mozilla/5.0%20(X) eyJhbGciOiJub25lIn0.e30.c2ln - - - https 0.001 - HTTP/2.0 50000 - 120 - -",
    "not a row",
    "2026-11-14 25:00:00 FRA56-P4 900 192.0.2.7 GET d1.cloudfront.net / 200 - - - - - - - - - - - - - - -",
];

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A legacy log with tabs, made of `ROWS` in turn.
fn legacy(rows: usize) -> Vec<u8> {
    let lines = ROWS
        .iter()
        .cycle()
        .take(rows)
        .map(|row| row.replace(' ', "\t") + "\n");
    gzip(&format!(
        "#Version: 1.0\n#Fields: {FIELDS}\n{}",
        lines.collect::<String>()
    ))
}

/// The same as a JSON log. It leaves out what does allocate: keys that differ from those of the line
/// before, and JSON escapes.
fn json(rows: usize) -> Vec<u8> {
    let line = |row: &str| {
        let members: Vec<_> = FIELDS
            .split_whitespace()
            .zip(row.split(' '))
            .map(|(field, value)| format!("\"{field}\":\"{value}\""))
            .collect();
        format!("{{{}}}\n", members.join(",").replace('\\', "%5C"))
    };
    let whole = ROWS
        .iter()
        .filter(|row| row.contains("200") || row.contains("500"));
    gzip(
        &whole
            .cycle()
            .take(rows)
            .map(|row| line(row))
            .collect::<String>(),
    )
}

/// The same as a Parquet file with one page of each column: further pages may allocate.
fn parquet_file(rows: usize) -> Vec<u8> {
    let names: Vec<String> = FIELDS.split_whitespace().map(str::to_owned).collect();
    let whole = ROWS
        .iter()
        .filter(|row| row.contains("200") || row.contains("500"));
    let values = |row: &&str| row.split(' ').map(|value| Some(value.to_owned())).collect();
    let rows: Vec<Vec<Option<String>>> = whole.cycle().take(rows).map(values).collect();
    let how = How {
        page: usize::MAX,
        ..How::default()
    };
    parquet::parquet(&names, &rows, &how)
}

/// Counts the allocations of each full batch in the steady state.
fn allocations_of_batches(log: &[u8], transactions: usize) -> Vec<u64> {
    let rules = Arc::new(Rules {
        limits: Limits {
            transactions,
            bytes: 1 << 24,
        },
        ..Rules::default()
    });
    let mut batches = Batches::new(&Job::all(ObjectRef::local("log.gz")), log, rules);
    let mut counts = Vec::new();
    loop {
        let mut batch = None;
        let allocated = allocation_counter::measure(|| batch = batches.next());
        match batch.transpose().unwrap() {
            Some(batch)
                if batch.rows.start >= STEADY && batch.counts.sent == transactions as u64 =>
            {
                counts.push(allocated.count_total);
            }
            Some(_) => {} // before the steady state, or the last one, which is not full
            None => return counts,
        }
    }
}

#[test]
fn rows_do_not_allocate() {
    const ROWS_OF_A_LOG: usize = 30_000;
    for (layout, log) in [
        ("legacy", legacy(ROWS_OF_A_LOG)),
        ("json", json(ROWS_OF_A_LOG)),
        ("parquet", parquet_file(ROWS_OF_A_LOG)),
    ] {
        for transactions in [10, 250, 1000] {
            let counts = allocations_of_batches(&log, transactions);
            let name = format!("{layout}, batches of {transactions} transactions");
            assert!(counts.len() > 5, "{name}: too few full batches");
            assert_eq!(counts, vec![ALLOCATIONS_OF_A_BATCH; counts.len()], "{name}");
        }
    }
}

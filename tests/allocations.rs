//! In steady state the pipeline allocates for batches, and for no row. The counting allocator is this program's own: one test, alone.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::sync::Arc;

use edgetap::batch::Limits;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules};
use flate2::{Compression, write::GzEncoder};

/// Its body, where each transaction stands in it, and the counter of those who share the body.
const ALLOCATIONS_OF_A_BATCH: u64 = 3;

/// From this row on buffers have the size of what they hold: three batches of each size, and more than the head of a log.
const STEADY: u64 = 6_000;

const FIELDS: &str = "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) \
                      cs-uri-query cs(Cookie) x-edge-request-id x-host-header cs-protocol time-taken x-forwarded-for \
                      cs-protocol-version c-port sc-content-type sc-content-len sc-range-start sc-range-end";

/// One of everything that a row may have to be done for it: escapes, credentials, what is not UTF-8, a range, an old user agent, an
/// address of either kind; a static asset, a row that is none, one without an id.
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

/// The rows over and over, as tabs divide them.
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

/// The same in JSON, but for what does allocate there: other keys than in the line before, escapes of JSON's own.
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

/// How often each batch of a log allocates in steady state.
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
                counts.push(allocated.count_total)
            }
            // The last one is not full.
            Some(_) => {}
            None => return counts,
        }
    }
}

#[test]
fn no_row_allocates() {
    const ROWS_OF_A_LOG: usize = 30_000;
    for (layout, log) in [
        ("legacy", legacy(ROWS_OF_A_LOG)),
        ("json", json(ROWS_OF_A_LOG)),
    ] {
        for transactions in [10, 250, 1000] {
            let counts = allocations_of_batches(&log, transactions);
            assert!(counts.len() > 5, "{layout}: there is something to count");
            assert!(
                counts.iter().all(|count| *count == ALLOCATIONS_OF_A_BATCH),
                "{layout}, batches of {transactions} transactions: {:?}",
                counts.iter().take(20).collect::<Vec<_>>()
            );
        }
    }
}

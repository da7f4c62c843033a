//! Parquet files of any content: rows or an error, whatever they say about themselves.

use std::ops::Range;
use std::sync::Arc;

use edgetap::batch::{Batch, Counts, Limits};
use edgetap::encode::{Encoding, Uap};
use edgetap::filter::StaticAssets;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules};
use edgetap::rows::Rows;

/// Rows that are read. A page may say that it has more than can be read in a reasonable time.
const MAX_ROWS: u64 = 2_000;

/// The input is a byte of settings, the length of the footer, and a file without what is behind the
/// footer: so a change of a length leaves most of the file readable.
pub fn parquet(data: &[u8]) {
    let Some((&[flags, high, low], file)) = data.split_first_chunk() else {
        return;
    };
    let footer = u32::from(u16::from_be_bytes([high, low])).to_le_bytes();
    let file = [file, &footer, b"PAR1"].concat();
    let static_assets = StaticAssets::default();
    let encoding = if flags & 1 == 0 {
        Encoding::Uap(Uap::new(static_assets.name()))
    } else {
        Encoding::Ndjson
    };
    let limits = Limits {
        transactions: usize::from(flags >> 1).clamp(1, 100),
        bytes: 100_000,
    };
    let rules = super::rules(encoding, static_assets, limits);

    let (all, error) = read(&file, 0..MAX_ROWS, &rules);
    let mut next = 0;
    for batch in &all {
        assert_eq!(batch.rows.start, next, "no row is left out");
        assert_eq!(batch.counts.rows, batch.rows.end - batch.rows.start);
        next = batch.rows.end;
    }
    if let Some(second) = all.get(1) {
        let (rest, same) = read(&file, second.rows.start..MAX_ROWS, &rules);
        assert_eq!(
            content(&rest),
            content(&all[1..]),
            "the first row of a batch gives the batches from there on"
        );
        assert_eq!(same, error);
    }
}

/// What is sent. The first batch of a job also says which fields the log lacks.
fn content<'a>(batches: &'a [Batch]) -> Vec<(Range<u64>, Counts, &'a [u8])> {
    let content = |batch: &'a Batch| (batch.rows.clone(), batch.counts, &batch.body[..]);
    batches.iter().map(content).collect()
}

fn read(file: &[u8], rows: Range<u64>, rules: &Arc<Rules>) -> (Vec<Batch>, Option<String>) {
    let job = Job {
        rows: Rows::from(rows),
        ..Job::all(ObjectRef::in_s3("fuzz", "a.parquet"))
    };
    let (mut batches, mut error) = (Vec::new(), None);
    for item in Batches::new(&job, file, rules.clone()) {
        match item {
            Ok(batch) => batches.push(batch),
            Err(cause) => error = Some(cause.to_string()),
        }
    }
    (batches, error)
}

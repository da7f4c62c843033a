//! Heap allocations of the pipeline in steady state: `allocations FILE` prints those of all full
//! batches after the first rows, and how many rows they have. `tests/allocations.rs` is the test.

use std::fs::File;
use std::sync::Arc;

use anyhow::Context as _;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules};

/// First row of the steady state, in which buffers no longer grow.
const STEADY: u64 = 6_000;

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("FILE is missing")?;
    let rules = Arc::new(Rules::default());
    let full = rules.limits.transactions as u64;
    let object = ObjectRef::in_s3("logs", "E27FO14I29XXXX.2026-11-14-20.d740d76b.gz");
    let mut batches = Batches::new(&Job::all(object), File::open(path)?, rules);
    let (mut rows, mut count, mut allocations) = (0, 0, 0);
    loop {
        let mut batch = None;
        let allocated = allocation_counter::measure(|| batch = batches.next());
        let Some(batch) = batch.transpose()? else {
            break;
        };
        if batch.rows.start >= STEADY && batch.counts.sent == full {
            rows += batch.rows.end - batch.rows.start;
            count += 1;
            allocations += allocated.count_total;
        }
    }
    println!("{{\"rows\": {rows}, \"batches\": {count}, \"allocations\": {allocations}}}");
    Ok(())
}

//! The pipeline as in the function, without the network: reads a gzip file and makes request
//! bodies, on one thread and with the default settings.
//!
//! `pipeline FILE [REPEAT] [--ndjson] [--print]`: reads the file REPEAT times, as members of one
//! stream. `--ndjson` encodes edgetap's own format, unmasked. `--print` writes the bodies instead
//! of the counts.

use std::io::{self, Write as _};
use std::sync::Arc;

use edgetap::encode::Encoding;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap_benches::{peak_kib, repeat};

fn main() -> anyhow::Result<()> {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let mut rules = Rules::default();
    if has("--ndjson") {
        rules.encoding = Encoding::Ndjson;
        rules.redaction.urls = None;
    }
    let object = ObjectRef::in_s3("logs", "E27FO14I29XXXX.2026-11-14-20.d740d76b.gz");
    let mut summary = Summary::default();
    let mut out = io::stdout().lock();
    for batch in Batches::new(
        &Job::all(object),
        repeat::from_arguments()?,
        Arc::new(rules),
    ) {
        let batch = batch?;
        summary.accept(&batch);
        if has("--print") {
            out.write_all(&batch.body)?;
        }
    }
    if !has("--print") {
        let Summary {
            counts,
            batches,
            bytes,
            ..
        } = summary;
        let peak = peak_kib().map_or("null".to_owned(), |peak| peak.to_string());
        println!(
            "{{\"rows\": {}, \"sent\": {}, \"batches\": {batches}, \"bytes\": {bytes}, \"peak_kib\": {peak}}}",
            counts.rows, counts.sent
        );
    }
    Ok(())
}

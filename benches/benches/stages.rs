//! The stages of the pipeline and the whole of it, in uncompressed bytes per second:
//! `cargo bench --manifest-path benches/Cargo.toml`.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use edgetap::encode::Origin;
use edgetap::job::{Job, ObjectRef};
use edgetap::log::LogReader;
use edgetap::pipeline::{Batches, Rules};
use edgetap::transaction::stitch;
use edgetap_benches::logs;
use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};

const ROWS: usize = 20_000;

fn stages(criterion: &mut Criterion) {
    let (text, gzip) = log();
    let object = ObjectRef::local("E27FO14I29XXXX.2026-11-14-20.d740d76b.gz");
    let rules = Arc::new(Rules::default());
    let mut group = criterion.benchmark_group("stage");
    group
        .throughput(Throughput::Bytes(text.len() as u64))
        .sample_size(20);

    group.bench_function("gunzip", |bench| {
        let mut buffer = vec![0; 64 << 10];
        bench.iter(|| {
            let mut text = MultiGzDecoder::new(&gzip[..]);
            while text.read(&mut buffer).unwrap() > 0 {}
        });
    });
    // Each of the next stages includes those above it, except gunzip: rows are borrowed and cannot
    // be prepared in advance.
    group.bench_function("records", |bench| {
        bench.iter(|| {
            let mut reader = LogReader::new(&text[..]);
            while reader.advance().unwrap() {
                black_box(reader.record());
            }
        });
    });
    group.bench_function("stitch", |bench| {
        let mut scratch = Vec::new();
        bench.iter(|| {
            let mut reader = LogReader::new(&text[..]);
            while reader.advance().unwrap() {
                let (row, record) = reader.record();
                black_box(stitch(row, record, &mut scratch).is_ok());
            }
        });
    });
    group.bench_function("encode uap", |bench| {
        let (mut scratch, mut redacted, mut body) = (Vec::new(), Vec::new(), Vec::new());
        let origin = Origin {
            object: &object,
            distribution: object.distribution(),
        };
        bench.iter(|| {
            let mut reader = LogReader::new(&text[..]);
            while reader.advance().unwrap() {
                let (row, record) = reader.record();
                if rules.static_assets.test(record, &mut scratch).is_err() {
                    let transaction = stitch(row, record, &mut scratch).unwrap();
                    body.clear();
                    rules.encoding.encode(
                        &rules.redaction.redact(&transaction, &mut redacted),
                        origin,
                        &rules.redaction,
                        &mut body,
                    );
                    black_box(&body);
                }
            }
        });
    });
    group.bench_function("whole", |bench| {
        bench.iter_batched(
            || Batches::new(&Job::all(object.clone()), &gzip[..], rules.clone()),
            |batches| {
                batches
                    .map(|batch| batch.unwrap().body.len())
                    .sum::<usize>()
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A log as text and as gzip.
fn log() -> (Vec<u8>, Vec<u8>) {
    let mut text = Vec::new();
    logs::write_header(&mut text).unwrap();
    for cells in logs::Rows::new(1).take(ROWS) {
        logs::write_row(&cells, &mut text).unwrap();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&text).unwrap();
    let gzip = encoder.finish().unwrap();
    (text, gzip)
}

criterion_group!(benches, stages);
criterion_main!(benches);

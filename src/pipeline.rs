//! *Pipeline*: the pure whole, from an object's bytes to batches, as one loop. [`Rules`] in, a [`Summary`] out.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::batch::{Batch, Builder, Counts, Limits};
use crate::filter::StaticAssets;
use crate::log::{LogError, LogReader};
use crate::transaction::stitch;
use crate::wire::{Origin, Wire};
use crate::work::{ObjectRef, Work};

/// Of a path in a log line, so many bytes are shown.
const SHOWN_PATH: usize = 200;

/// What is sent, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which requests are not sent.
    pub static_assets: StaticAssets,
    /// In which form the others are.
    pub wire: Wire,
    /// In batches of which size.
    pub limits: Limits,
}

impl Rules {
    /// Tells these rules from others, in 16 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut digest = format!("{:x}", Sha256::digest(format!("{self:?}")));
        digest.truncate(16);
        digest
    }
}

/// The batches of an object, read as they are asked for. When the log ends early: the last, partial batch, then the
/// error, then nothing for ever.
pub struct Batches<R: Read> {
    log: LogReader<R>,
    rules: Arc<Rules>,
    object: ObjectRef,
    distribution: Option<String>,
    rows: Range<u64>,
    builder: Builder,
    scratch: Vec<u8>,
    warned: bool,
    end: Option<Result<(), LogError>>,
}

impl<R: Read> Batches<R> {
    /// The batches of `work`, whose object's bytes are `source`. Nothing is read before the first is asked for.
    pub fn new(work: &Work, source: R, rules: Arc<Rules>) -> Self {
        Self {
            log: LogReader::new(source),
            builder: Builder::new(rules.limits, rules.wire.framing(), work.rows.start),
            rules,
            distribution: work.object.distribution().map(str::to_owned),
            object: work.object.clone(),
            rows: work.rows.clone(),
            scratch: Vec::new(),
            warned: false,
            end: None,
        }
    }

    /// What ended the log early, while only the last, partial batch was taken.
    pub fn pending_error(&self) -> Option<&LogError> {
        self.end.as_ref()?.as_ref().err()
    }

    /// Reads rows until one completes a batch; `None` at the end, which `end` then tells.
    fn read_batch(&mut self) -> Option<Batch> {
        loop {
            let more = self.log.advance();
            if !matches!(more, Ok(true)) {
                self.end = Some(more.map(|_| ()));
                let next_row = self.log.next_row().max(self.rows.start);
                return self.builder.finish(next_row);
            }
            let (row, record) = self.log.record();
            if row >= self.rows.end {
                self.end = Some(Ok(()));
                return self.builder.finish(row);
            }
            if row < self.rows.start {
                continue; // accepted before: only found again
            }
            let long_enough = self.builder.begin_row(row);
            let full = match stitch(row, record, &mut self.scratch) {
                Err(malformed) => {
                    self.builder.push_malformed();
                    if !self.warned {
                        tracing::warn!(object = %self.object, line = self.log.line(), "malformed row: {malformed} (the first of this object; the others are only counted)");
                        self.warned = true;
                    }
                    None
                }
                Ok(transaction) if self.rules.static_assets.matches(&transaction) => {
                    self.builder.push_static();
                    tracing::debug!("skipping request with static extension for {}", shown(transaction.stem));
                    None
                }
                Ok(transaction) => {
                    let origin = Origin { object: &self.object, distribution: self.distribution.as_deref() };
                    let wire = &self.rules.wire;
                    self.builder.push(row, transaction.ended(), transaction.distribution, |body| wire.encode(&transaction, origin, body))
                }
            };
            // At most one of them: after a batch closed for its rows the next is empty.
            if let Some(batch) = long_enough.or(full) {
                return Some(batch);
            }
        }
    }
}

impl<R: Read> Iterator for Batches<R> {
    type Item = Result<Batch, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end.is_none()
            && let Some(batch) = self.read_batch()
        {
            return Some(Ok(batch));
        }
        match self.end.replace(Ok(())) {
            Some(Err(error)) => Some(Err(error)),
            _ => None,
        }
    }
}

/// The stem as it was logged, cut, and with nothing in it that a terminal would obey.
fn shown(stem: &[u8]) -> String {
    let stem = String::from_utf8_lossy(&stem[..stem.len().min(SHOWN_PATH)]);
    stem.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A transaction that the bridge will not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its row.
    pub row: u64,
    /// The status that refused it.
    pub status: u16,
}

/// What became of an object, as far as it was delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of its rows.
    pub counts: Counts,
    /// Request bodies that were accepted.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What the bridge will not have.
    pub refused: Vec<Refusal>,
    /// The distribution, by the log's own field, else by the object's name.
    pub distribution: Option<String>,
}

impl Summary {
    /// Counts a batch that was settled: accepted but for what was refused.
    pub fn settle(&mut self, batch: &Batch, refused: Vec<Refusal>) {
        let mut counts = batch.counts;
        counts.refused = refused.len() as u64;
        counts.sent -= counts.refused.min(counts.sent);
        self.counts += counts;
        if counts.sent > 0 {
            self.batches += 1;
            self.bytes += batch.body.len() as u64;
        }
        self.refused.extend(refused);
        if self.distribution.is_none() {
            self.distribution.clone_from(&batch.distribution);
        }
    }
}

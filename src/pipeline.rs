//! *Pipeline*: the pure whole, from an object's bytes to batches, as one loop. [`Rules`] in, a [`Summary`] out.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::batch::{Batch, Builder, Counts, Limits};
use crate::encode::{Encoding, Origin, Uap};
use crate::filter::{ExcludedPaths, StaticAssets};
use crate::job::{Job, ObjectRef};
use crate::log::{Columns, Field, LogError, LogReader};
use crate::redact::{Cookies, Key, Redaction};
use crate::transaction::{stitch, suffices};

/// Of a path in a log line, so many bytes are shown.
const SHOWN_PATH: usize = 200;

/// What is sent, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which requests are not sent for the kind of their answers.
    pub static_assets: StaticAssets,
    /// And which for their paths.
    pub excluded_paths: ExcludedPaths,
    /// What is masked in the others.
    pub redaction: Redaction,
    /// In which form they are sent.
    pub encoding: Encoding,
    /// In batches of which size.
    pub limits: Limits,
}

impl Default for Rules {
    /// What holds without any setting.
    fn default() -> Self {
        let static_assets = StaticAssets::default();
        Self {
            encoding: Encoding::Uap(Uap::new(static_assets.name())),
            static_assets,
            excluded_paths: ExcludedPaths::default(),
            redaction: Redaction::default(),
            limits: Limits::default(),
        }
    }
}

impl Rules {
    /// With the key that the secret holds, where these rules want one and have none; `None` when they go without.
    pub fn keyed(self: &Arc<Self>, key: Option<Key>) -> Option<Arc<Self>> {
        if self.redaction.cookies != Cookies::Hash(None) {
            return Some(self.clone());
        }
        let redaction = Redaction {
            cookies: Cookies::Hash(Some(key?)),
            ..self.redaction
        };
        Some(Arc::new(Self {
            redaction,
            ..(**self).clone()
        }))
    }

    /// Tells these rules from others, in 16 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut digest = hex::encode(Sha256::digest(format!("{self:?}")));
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
    masked: Vec<u8>,
    /// Whether what the log lacks is known.
    named: bool,
    warned: bool,
    end: Option<Result<(), LogError>>,
}

impl<R: Read> Batches<R> {
    /// The batches of `job`, whose object's bytes are `source`. Nothing is read before the first is asked for.
    pub fn new(job: &Job, source: R, rules: Arc<Rules>) -> Self {
        Self {
            log: LogReader::new(source),
            builder: Builder::new(rules.limits, rules.encoding.framing(), job.rows.start),
            rules,
            distribution: job.object.distribution().map(str::to_owned),
            object: job.object.clone(),
            rows: job.rows.clone(),
            scratch: Vec::new(),
            masked: Vec::new(),
            named: false,
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
                self.end = Some(self.ended(more));
                let next_row = self.log.next_row().max(self.rows.start);
                return self.builder.finish(next_row);
            }
            let row = self.log.number();
            if row >= self.rows.end {
                self.end = Some(Ok(()));
                return self.builder.finish(row);
            }
            if row < self.rows.start {
                continue; // accepted before: only found again
            }
            if !std::mem::replace(&mut self.named, true) {
                self.builder
                    .lacks(self.log.columns().into_iter().flat_map(Columns::absent));
            }
            let long_enough = self.builder.begin_row(row);
            // At most one of them: after a batch closed for its rows the next is empty.
            if let Some(batch) = long_enough.or(self.take_row()) {
                return Some(batch);
            }
        }
    }

    /// Decides on the row last read, and encodes it when it is to be sent. Returns the batch before it when it did not fit in there.
    fn take_row(&mut self) -> Option<Batch> {
        let Rules {
            static_assets,
            excluded_paths,
            redaction,
            encoding,
            ..
        } = &*self.rules;
        let (row, record) = self.log.record();
        if static_assets.matches_as_logged(record) && suffices(record).is_ok() {
            self.builder.push_static();
            say_static(record.get(Field::UriStem).unwrap_or_default());
            return None;
        }
        let line = self.log.line();
        match stitch(row, record, &mut self.scratch) {
            Err(malformed) => {
                self.builder.push_malformed();
                if !std::mem::replace(&mut self.warned, true) {
                    tracing::warn!(object = %self.object, line, "malformed row: {malformed} (the first of this object; the others are only counted)");
                }
                None
            }
            Ok(transaction) if static_assets.matches(&transaction) => {
                self.builder.push_static();
                say_static(transaction.stem);
                None
            }
            Ok(transaction) if excluded_paths.matches(&transaction) => {
                self.builder.push_excluded();
                None
            }
            Ok(transaction) => {
                let origin = Origin {
                    object: &self.object,
                    distribution: self.distribution.as_deref(),
                };
                let masked = redaction.mask(&transaction, &mut self.masked);
                self.builder.push(&masked, |body| {
                    encoding.encode(&masked, origin, redaction, body)
                })
            }
        }
    }
}

impl<R: Read> Batches<R> {
    /// The end of the log. Somebody else's log has nothing for us, and is no failure.
    fn ended(&self, end: Result<bool, LogError>) -> Result<(), LogError> {
        match end {
            Err(error @ LogError::OtherLog(_)) if self.log.next_row() == 0 => {
                tracing::warn!(object = %self.object, "skipped: it {error}");
                Ok(())
            }
            end => end.map(|_| ()),
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

fn say_static(stem: &[u8]) {
    tracing::debug!("skipping request with static extension for {}", shown(stem));
}

/// The stem as it was logged, cut, and with nothing in it that a terminal would obey.
fn shown(stem: &[u8]) -> String {
    let stem = String::from_utf8_lossy(&stem[..stem.len().min(SHOWN_PATH)]);
    stem.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// A transaction that the bridge will not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub row: u64,
    /// The status that refused it.
    pub status: u16,
}

/// What became of an object, as far as it was delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub counts: Counts,
    /// Request bodies that were accepted.
    pub batches: u64,
    pub bytes: u64,
    /// What the bridge will not have.
    pub rejected: Vec<Rejection>,
    /// The distribution, by the log's own field, else by the object's name.
    pub distribution: Option<String>,
    /// Fields that the log does not have, so that its transactions go without.
    pub absent: Vec<&'static str>,
}

impl Summary {
    /// Counts a batch that was settled: accepted but for what was refused.
    pub fn settle(&mut self, batch: &Batch, rejected: Vec<Rejection>) {
        let mut counts = batch.counts;
        counts.rejected = rejected.len() as u64;
        counts.sent -= counts.rejected.min(counts.sent);
        self.counts += counts;
        if counts.sent > 0 {
            self.batches += 1;
            self.bytes += batch.body.len() as u64;
        }
        self.rejected.extend(rejected);
        self.absent.extend(&batch.absent);
        if self.distribution.is_none() {
            self.distribution.clone_from(&batch.distribution);
        }
    }
}

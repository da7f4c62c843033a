//! *Pipeline*: from the bytes of an object to batches, without I/O of its own. [`Rules`] decide what
//! is sent and how; a [`Summary`] counts what happened to the rows.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::batch::{Batch, Builder, Counts, Flaw, Flaws, Limits, Rejection};
use crate::decode::as_sent;
use crate::encode::{Encoding, Origin, Uap};
use crate::filter::{ExcludedPaths, Extension, IncludedPaths, Keep, StaticAssets};
use crate::job::{Job, ObjectRef};
use crate::log::{Columns, Defect, Field, LogError, LogReader, Record, USED};
use crate::redact::{Cookies, Key, Redaction};
use crate::transaction::{Malformed, Transaction, ended, stitch, suffices};

/// Bytes of a path that a log line shows.
const SHOWN_PATH: usize = 200;

/// Revision of the text that [`Rules::digest`] hashes. Increase it when that text changes for the
/// same rules.
const DIGEST_REVISION: u32 = 2;

/// Which requests are sent, in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub static_assets: StaticAssets,
    pub included_paths: IncludedPaths,
    pub excluded_paths: ExcludedPaths,
    pub redaction: Redaction,
    pub encoding: Encoding,
    pub limits: Limits,
}

impl Default for Rules {
    /// The rules when no setting is given.
    fn default() -> Self {
        let static_assets = StaticAssets::default();
        Self {
            encoding: Encoding::Uap(Uap::new(static_assets.name())),
            static_assets,
            included_paths: IncludedPaths::default(),
            excluded_paths: ExcludedPaths::default(),
            redaction: Redaction::default(),
            limits: Limits::default(),
        }
    }
}

impl Rules {
    /// Returns these rules with `key`, if they hash cookies and have no key yet.
    ///
    /// # Errors
    /// [`MissingKey`] if they need a key and `key` is `None`.
    pub fn keyed(self: &Arc<Self>, key: Option<Key>) -> Result<Arc<Self>, MissingKey> {
        if self.redaction.cookies != Cookies::Hash(None) {
            return Ok(self.clone());
        }
        let redaction = Redaction {
            cookies: Cookies::Hash(Some(key.ok_or(MissingKey)?)),
            ..self.redaction.clone()
        };
        Ok(Arc::new(Self {
            redaction,
            ..(**self).clone()
        }))
    }

    /// Returns the extension of a static asset whose path is not included. It is decided from the
    /// record, because most rows of most logs need nothing else.
    fn drops_as_static(
        &self,
        record: Record<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<Extension, Kept> {
        let extension = self.static_assets.test(record, scratch).map_err(Kept::By)?;
        let stem = record.get(Field::UriStem).unwrap_or_default();
        let is_included = !self.included_paths.is_empty()
            && self
                .included_paths
                .matching_glob(as_sent(Field::UriStem, stem, scratch))
                .is_some();
        if is_included {
            Err(Kept::Included)
        } else {
            Ok(extension)
        }
    }

    /// Returns a digest of what determines a body in addition to its rows: these rules with their
    /// key, and this release's encoding. With the same digest, the same rows have the same body.
    pub fn making(&self) -> String {
        let key = match &self.redaction.cookies {
            Cookies::Hash(Some(key)) => key.fingerprint(),
            Cookies::Hash(None) | Cookies::Keep | Cookies::Drop => String::new(),
        };
        let revision = Encoding::REVISION;
        let text = self.canonical_text();
        hex::encode(Sha256::digest(format!("{text}{revision}\0{key}")))
    }

    /// Returns 16 hexadecimal digits that identify these rules in a queued message: the beginning
    /// of the SHA-256 of [`canonical_text`](Self::canonical_text).
    ///
    /// The digest is information for people: under other rules, batches may begin at other rows.
    /// edgetap does not compare it. A message with another digest, from other rules or another
    /// release, is delivered under the rules now in force.
    pub fn digest(&self) -> String {
        let mut digest = hex::encode(Sha256::digest(self.canonical_text()));
        digest.truncate(16);
        digest
    }

    /// Returns the settings as text, the same for rules that do the same.
    ///
    /// After a line with the revision, each setting has a line with its name and the number of its
    /// values, then a line for each value: its length in bytes, a colon and the value. The values
    /// of a set are sorted and unique. Counts and lengths keep the text unambiguous whatever a
    /// value contains.
    ///
    /// ```text
    /// edgetap rules 2
    /// STATIC_EXTENSIONS 2
    /// 3:css
    /// 2:js
    /// INCLUDE_PATHS 0
    /// …
    /// ```
    ///
    /// The key of hashed cookies is left out, so the digest reveals nothing about it. It could not
    /// move a batch: hashes have the same length under every key.
    pub fn canonical_text(&self) -> String {
        let Self {
            static_assets,
            included_paths,
            excluded_paths,
            redaction: Redaction { urls, cookies },
            encoding,
            limits: Limits {
                transactions,
                bytes,
            },
        } = self;
        let cookies = match cookies {
            Cookies::Keep => "keep",
            Cookies::Drop => "drop",
            Cookies::Hash(_) => "hash",
        };
        let (encoding, server_ip, filter_name) = match encoding {
            Encoding::Uap(Uap {
                server_ip,
                filter_name,
            }) => ("uap", Some(server_ip), Some(filter_name)),
            Encoding::Ndjson => ("ndjson", None, None),
        };
        let set = |globs: BTreeSet<&str>| globs.into_iter().map(str::to_owned).collect();
        let one = |value: &dyn ToString| vec![value.to_string()];
        let masked = urls.as_ref().map_or_else(
            || one(&"off"),
            |names| one(&"on").into_iter().chain(names.edits()).collect(),
        );
        let settings = [
            ("STATIC_EXTENSIONS", static_assets.extensions().collect()),
            ("INCLUDE_PATHS", set(included_paths.patterns().collect())),
            ("EXCLUDE_PATHS", set(excluded_paths.patterns().collect())),
            ("REDACT", masked),
            ("REDACT_COOKIES", one(&cookies)),
            ("BATCH_MAX_TRANSACTIONS", one(transactions)),
            ("BATCH_MAX_BYTES", one(bytes)),
            ("encoding", one(&encoding)),
            ("server_ip", server_ip.into_iter().cloned().collect()),
            ("filter_name", filter_name.into_iter().cloned().collect()),
        ];
        let mut text = format!("edgetap rules {DIGEST_REVISION}\n");
        for (name, values) in settings {
            // Writing to a string cannot fail.
            _ = writeln!(text, "{name} {}", values.len());
            for value in values {
                _ = writeln!(text, "{}:{value}", value.len());
            }
        }
        text
    }
}

/// The rules hash cookies, and the key for it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{MISSING_KEY}")]
pub struct MissingKey;

const MISSING_KEY: &str = "the secret has no redaction_key, which REDACT_COOKIES=hash requires. \
                           scripts/setup-tfvars.sh generates one";

/// Totals of an object's settled rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub counts: Counts,
    /// Bodies that were accepted: batches, or parts of them.
    pub batches: u64,
    /// Bytes of these bodies.
    pub bytes: u64,
    pub rejected: Vec<Rejection>,
    pub flaws: Flaws,
    /// The distribution: from the log's own field, else from the object's name.
    pub distribution: Option<String>,
    /// Optional fields that the log lacks. Its transactions are sent without them.
    pub absent: Vec<&'static str>,
}

impl Summary {
    /// Counts a batch, or a part of one, that was accepted.
    pub fn accept(&mut self, batch: &Batch) {
        self.count(batch, batch.counts);
        if batch.counts.sent > 0 {
            self.batches += 1;
            self.bytes += batch.body.len() as u64;
        }
    }

    /// Counts a batch, or a part of one, whose transactions were all rejected with `status`.
    pub fn reject(&mut self, batch: &Batch, status: Option<u16>) {
        let counts = Counts {
            sent: 0,
            rejected: batch.counts.rejected + batch.counts.sent,
            ..batch.counts
        };
        self.count(batch, counts);
        let rows = batch.marks.iter().map(|mark| mark.row);
        self.rejected
            .extend(rows.map(|row| Rejection { row, status }));
    }

    fn count(&mut self, batch: &Batch, counts: Counts) {
        self.counts += counts;
        self.flaws.extend(&batch.flaws);
        self.absent.extend(&batch.absent);
        if self.distribution.is_none() {
            self.distribution.clone_from(&batch.distribution);
        }
    }
}

/// Why a request is not dropped as one for a static asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    By(Keep),
    /// Its path is included.
    Included,
}

/// Outcome of a row, with what is known of it.
#[derive(Clone, Copy)]
pub enum Fate<'a> {
    Sent {
        /// The request as it was, and as it is sent.
        transaction: &'a Transaction<'a>,
        redacted: &'a Transaction<'a>,
        kept: Kept,
        /// Bytes in a body.
        bytes: usize,
    },
    Static {
        extension: Extension,
        /// The end of the request, in milliseconds since the Unix epoch.
        ended: i64,
    },
    Excluded(&'a Transaction<'a>),
    /// Malformed, flawed or foreign.
    Unread(Malformed),
}

impl Fate<'_> {
    /// Returns what the row counts as.
    pub fn class(&self) -> Class {
        match self {
            Self::Sent { .. } => Class::Sent,
            Self::Static { .. } => Class::Static,
            Self::Excluded(_) => Class::Excluded,
            Self::Unread(Malformed::Defect(Defect::Foreign(_))) => Class::Foreign,
            Self::Unread(Malformed::Defect(defect)) if defect.is_rejection() => Class::Flawed,
            Self::Unread(_) => Class::Malformed,
        }
    }
}

/// What was found in the rows so far, those that were not asked for included. It depends on the
/// object alone.
#[derive(Debug, Default)]
struct Found {
    has_readable: bool,
    has_flaw: bool,
    /// The first malformed row: its line, and why.
    malformed: Option<(u64, String)>,
    /// The first record of another log: its line, and the log.
    foreign: Option<(u64, &'static str)>,
}

/// Sees each row that a job asks for, as it is read and before its batch is complete. The function
/// has none: `()`.
pub trait Observer {
    /// Whether it sees values that no rule and no request uses.
    fn sees_all(&self) -> bool {
        true
    }

    /// Sees the current row of a log, and its outcome.
    fn see(&mut self, log: &LogReader<impl Read>, rules: &Rules, fate: &Fate<'_>);
}

impl Observer for () {
    fn sees_all(&self) -> bool {
        false
    }

    fn see(&mut self, _: &LogReader<impl Read>, _: &Rules, _: &Fate<'_>) {}
}

impl<O: Observer> Observer for Option<O> {
    fn sees_all(&self) -> bool {
        self.as_ref().is_some_and(O::sees_all)
    }

    fn see(&mut self, log: &LogReader<impl Read>, rules: &Rules, fate: &Fate<'_>) {
        if let Some(observer) = self {
            observer.see(log, rules, fate);
        }
    }
}

/// Which of the [`Counts`] a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It is sent, unless the bridge rejects it.
    Sent,
    Static,
    Excluded,
    Malformed,
    /// It may hold requests, and cannot be read: it counts as rejected.
    Flawed,
    Foreign,
}

/// The batches of an object, read on demand. If the log ends early, the last and partial batch is
/// followed by the error, and the error by `None`.
pub struct Batches<R: Read, O = ()> {
    log: LogReader<R>,
    rules: Arc<Rules>,
    object: ObjectRef,
    distribution: Option<String>,
    /// The range being read.
    rows: Range<u64>,
    /// The ranges after it.
    ranges: std::vec::IntoIter<Range<u64>>,
    builder: Builder,
    scratch: Vec<u8>,
    redacted: Vec<u8>,
    /// Whether the first batch was told which fields the log lacks.
    absent_set: bool,
    found: Found,
    observer: O,
    is_skipped: bool,
    /// How the log ended, until the iterator has returned it.
    end: Option<Result<(), LogError>>,
}

impl<R: Read> Batches<R> {
    /// Prepares to read the rows of `job` from `source`, the bytes of its object. Reads nothing
    /// yet.
    pub fn new(job: &Job, source: R, rules: Arc<Rules>) -> Self {
        Self::observed(job, source, rules, ())
    }
}

impl<R: Read, O: Observer> Batches<R, O> {
    /// Does what [`new`](Batches::new) does, and shows the rows to `observer`.
    pub fn observed(job: &Job, source: R, rules: Arc<Rules>, observer: O) -> Self {
        let mut ranges = job.rows.ranges().to_vec().into_iter();
        let rows = ranges.next().unwrap_or(0..0);
        let log = if observer.sees_all() || rules.encoding.writes_all() {
            LogReader::new(source)
        } else {
            LogReader::of_fields(source, &USED)
        };
        Self {
            log,
            builder: Builder::new(rules.limits, rules.encoding.framing(), rows.start),
            rules,
            distribution: job.object.distribution().map(str::to_owned),
            object: job.object.clone(),
            rows,
            ranges,
            scratch: Vec::new(),
            redacted: Vec::new(),
            absent_set: false,
            found: Found::default(),
            observer,
            is_skipped: false,
            end: None,
        }
    }

    /// Returns the error that `next` will return after the batch it has just returned.
    pub(crate) fn pending_error(&self) -> Option<&LogError> {
        self.end.as_ref()?.as_ref().err()
    }

    /// Returns how many rows of the log were read, skipped ones included. At the end of the log it
    /// is their number; after an error it is the number of the row that could not be read.
    pub fn rows_read(&self) -> u64 {
        self.log.next_row()
    }

    /// Whether the object was skipped on purpose, which was logged: it is of another AWS service, or a
    /// test of whether one may write.
    pub fn is_skipped(&self) -> bool {
        self.is_skipped
    }

    /// Reads rows until a batch is complete. At the end of the log, sets `end` and returns the last
    /// batch, or `None` if no rows are left for one.
    fn read_batch(&mut self) -> Option<Batch> {
        loop {
            let more = self.log.advance();
            if !matches!(more, Ok(true)) {
                self.end = Some(self.end_of(more.map(|_| ())));
                let next_row = self.log.next_row().max(self.rows.start);
                return self.builder.finish(next_row);
            }
            let row = self.log.number();
            if row >= self.rows.end {
                let last = self.builder.finish(row);
                if let Some(rows) = self.ranges.next() {
                    self.builder.restart(rows.start);
                    self.rows = rows;
                } else {
                    self.found.log_foreign(&self.object);
                    self.end = Some(Ok(()));
                }
                if last.is_some() || self.end.is_some() {
                    return last;
                }
            }
            if !self.found.has_readable {
                self.found.has_readable = suffices(self.log.record().1).is_ok();
            }
            if row < self.rows.start {
                self.look_at_row();
                continue; // not asked for: an earlier attempt settled it
            }
            if !self.absent_set && self.log.record().1.defect().is_none() {
                self.absent_set = true;
                let absent = self.log.columns().into_iter().flat_map(Columns::absent);
                self.builder.set_absent(absent);
            }
            let closed = self.builder.begin_row(row);
            // If `begin_row` closed a batch, the row belongs to the next one.
            let full = self.take_row();
            // At most one: when `begin_row` closes a batch, the row is the first of an empty one
            // and fits.
            debug_assert!(closed.is_none() || full.is_none(), "two batches");
            // Not `or`, which would copy an absent batch for every row.
            if closed.is_some() {
                return closed;
            }
            if full.is_some() {
                return full;
            }
        }
    }

    /// Notes a row that was not asked for, as long as none of them can be read.
    fn look_at_row(&mut self) {
        if !self.found.has_readable
            && let Err(malformed) = suffices(self.log.record().1)
        {
            self.found.note(malformed, &self.log);
        }
    }

    /// Counts the current row, and encodes it if it is to be sent. Returns the batch before it if
    /// the row did not fit there.
    fn take_row(&mut self) -> Option<Batch> {
        let Rules {
            excluded_paths,
            redaction,
            encoding,
            ..
        } = &*self.rules;
        let (row, record) = self.log.record();
        let kept = match self.rules.drops_as_static(record, &mut self.scratch) {
            Err(kept) => kept,
            Ok(extension) => {
                if let Ok(ended) = ended(record) {
                    self.builder.push_static();
                    log_static(record.get(Field::UriStem).unwrap_or_default());
                    let fate = Fate::Static { extension, ended };
                    self.observer.see(&self.log, &self.rules, &fate);
                    return None;
                }
                Kept::By(Keep::Extension) // without a time, the row is malformed
            }
        };
        match stitch(row, record, &mut self.scratch) {
            Err(malformed) => {
                let is_first = self.found.note(malformed, &self.log);
                let line = self.log.line();
                let fate = Fate::Unread(malformed);
                self.observer.see(&self.log, &self.rules, &fate);
                match malformed {
                    Malformed::Defect(Defect::Foreign(_)) => self.builder.push_foreign(),
                    Malformed::Defect(defect) if defect.is_rejection() => {
                        self.builder.push_flaw(Flaw { row, line, defect });
                    }
                    _ => {
                        self.builder.push_malformed();
                        if is_first {
                            tracing::warn!(object = %self.object, line, reason = %malformed, "malformed row (logged once per object)");
                        }
                    }
                }
                None
            }
            Ok(transaction) if excluded_paths.matches(&transaction) => {
                let fate = Fate::Excluded(&transaction);
                self.observer.see(&self.log, &self.rules, &fate);
                self.builder.push_excluded();
                None
            }
            Ok(transaction) => {
                let origin = Origin {
                    object: &self.object,
                    distribution: self.distribution.as_deref(),
                };
                let redacted = redaction.redact(&transaction, &mut self.redacted);
                let mut bytes = 0;
                let full = self.builder.push(&redacted, |body| {
                    let start = body.len();
                    encoding.encode(&redacted, origin, redaction, body);
                    bytes = body.len() - start;
                });
                let fate = Fate::Sent {
                    transaction: &transaction,
                    redacted: &redacted,
                    kept,
                    bytes,
                };
                self.observer.see(&self.log, &self.rules, &fate);
                full
            }
        }
    }

    /// How the log ended. An object of another AWS service is skipped: that is not an error. A log
    /// without a row that can be read is one.
    fn end_of(&mut self, last: Result<(), LogError>) -> Result<(), LogError> {
        let mut skip = |kind| {
            self.is_skipped = true;
            tracing::warn!(object = %self.object, kind, "skipped object: not a CloudFront access log");
        };
        match (last, &self.found) {
            (Err(LogError::OtherLog(kind)), _) if self.log.next_row() == 0 => {
                skip(kind);
                Ok(())
            }
            (Err(LogError::NotAccessLog(_)), _)
                if self.log.next_row() == 0 && is_access_test(&self.object) =>
            {
                skip("access test");
                Ok(())
            }
            (
                Ok(()),
                Found {
                    has_readable: false,
                    has_flaw: false,
                    malformed,
                    foreign,
                },
            ) => match (malformed, foreign) {
                (Some((line, reason)), _) => Err(LogError::Malformed {
                    line: *line,
                    reason: reason.clone(),
                }),
                (None, Some((_, kind))) => {
                    skip(kind);
                    Ok(())
                }
                (None, None) => Ok(()),
            },
            (last, found) => {
                found.log_foreign(&self.object);
                last
            }
        }
    }
}

impl Found {
    /// Notes a row that is not sent. Returns whether it is the first malformed one.
    fn note(&mut self, malformed: Malformed, log: &LogReader<impl Read>) -> bool {
        match malformed {
            Malformed::Defect(Defect::Foreign(kind)) => {
                self.foreign.get_or_insert((log.line(), kind));
            }
            Malformed::Defect(defect) if defect.is_rejection() => self.has_flaw = true,
            _ if self.malformed.is_none() => {
                self.malformed = Some((log.line(), reason(malformed, log.columns())));
                return true;
            }
            _ => {}
        }
        false
    }

    fn log_foreign(&self, object: &ObjectRef) {
        if let Some((line, kind)) = self.foreign {
            tracing::warn!(%object, line, kind, "foreign record (logged once per object)");
        }
    }
}

/// Names of these objects.
const ACCESS_TESTS: [&str; 5] = [
    "aws-logs-write-test",
    "aws-programmatic-access-test-object",
    "ELBAccessLogTestFile",
    "ELBConnectionLogTestFile",
    "ConfigWritabilityCheckFile",
];

/// Whether an object is one by which an AWS service tests whether it may write to the bucket.
pub fn is_access_test(object: &ObjectRef) -> bool {
    let name = object.key.rsplit('/').next().unwrap_or_default();
    ACCESS_TESTS.contains(&name)
}

/// Returns why a row is malformed. If its columns lack required fields, it names them all.
fn reason(malformed: Malformed, columns: Option<&Columns>) -> String {
    let missing = columns.map(Columns::missing).unwrap_or_default();
    match malformed {
        Malformed::Missing(_) if !missing.is_empty() => {
            LogError::MissingFields(missing.join(", ")).to_string()
        }
        malformed => malformed.to_string(),
    }
}

impl<R: Read, O: Observer> Iterator for Batches<R, O> {
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

fn log_static(stem: &[u8]) {
    // The wording is that of Cequence's own CloudFront integration, whose users search for it.
    tracing::debug!("skipping request with static extension for {}", shown(stem));
}

/// Shortens a path, and replaces the control characters that a terminal would obey.
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

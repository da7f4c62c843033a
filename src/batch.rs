//! *Batch*: one request body and the rows it covers.
//!
//! The batches of an object cover its rows in order and without gaps. Dropped rows belong to the
//! batch in which they occur. One row number therefore says how far an object was delivered.

use std::fmt;
use std::ops::{AddAssign, Range, Sub};

use bytes::Bytes;

use crate::encode::Framing;
use crate::log::Defect;
use crate::rows::{OPEN, Rows};
use crate::transaction::Transaction;

/// Most rows of a batch, dropped ones included. It bounds what is read again after a failure when
/// nearly every row is dropped.
pub const MAX_ROWS: u64 = 1 << 16;

/// Upper bounds of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions, at least 1.
    pub transactions: usize,
    /// Bytes of the body. A larger transaction is sent in a batch of its own.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            transactions: 250,
            bytes: 1_000_000,
        }
    }
}

/// Row counts by outcome. The conservation law: every row read is counted exactly once, so
/// `rows = sent + static + excluded + malformed + rejected + foreign`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: u64,
    /// Rows whose transactions were accepted, or are to be sent.
    pub sent: u64,
    /// Rows dropped as requests for static assets.
    pub static_assets: u64,
    /// Rows dropped as requests for excluded paths.
    pub excluded: u64,
    /// Rows that could not be read as transactions.
    pub malformed: u64,
    /// Rows whose transactions the bridge rejected, and [`Flaws`].
    pub rejected: u64,
    /// Records of another service, or of another kind of log.
    pub foreign: u64,
    /// Values (not rows) that could not be read. Their transactions are sent without them.
    pub unreadable: u64,
}

impl Counts {
    /// Whether the conservation law holds. It cannot see a row that was not counted at all: compare
    /// `rows` with the row range, as [`accounts_for`](Self::accounts_for) does.
    pub fn is_balanced(&self) -> bool {
        let unsent = self.static_assets + self.excluded + self.malformed + self.foreign;
        self.rows == self.sent + unsent + self.rejected
    }

    /// Whether the conservation law holds and as many rows are counted as are in `rows`. These are
    /// totals: a row counted twice makes up for a row that was not counted.
    pub fn accounts_for(&self, rows: &Range<u64>) -> bool {
        rows.end.checked_sub(rows.start) == Some(self.rows) && self.is_balanced()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.sent += other.sent;
        self.static_assets += other.static_assets;
        self.excluded += other.excluded;
        self.malformed += other.malformed;
        self.rejected += other.rejected;
        self.foreign += other.foreign;
        self.unreadable += other.unreadable;
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            rows: self.rows - other.rows,
            sent: self.sent - other.sent,
            static_assets: self.static_assets - other.static_assets,
            excluded: self.excluded - other.excluded,
            malformed: self.malformed - other.malformed,
            rejected: self.rejected - other.rejected,
            foreign: self.foreign - other.foreign,
            unreadable: self.unreadable - other.unreadable,
        }
    }
}

/// A transaction that the bridge rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub row: u64,
    /// The HTTP status of the response, if there was one.
    pub status: Option<u16>,
}

/// Rows that may hold requests but cannot be read ([`Defect::is_rejection`]). They go to the
/// dead-letter queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    pub rows: Rows,
    /// The first of them.
    pub first: Option<Flaw>,
}

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub row: u64,
    /// Its line in the log, from 1.
    pub line: u64,
    pub defect: Defect,
}

impl Flaws {
    /// Adds those of another batch.
    pub fn extend(&mut self, other: &Self) {
        self.rows.extend(&other.rows);
        let firsts = [self.first.take(), other.first.clone()];
        self.first = firsts.into_iter().flatten().min_by_key(|flaw| flaw.row);
    }

    fn push(&mut self, flaw: Flaw) {
        self.rows.insert(flaw.row..flaw.row + 1);
        self.first.get_or_insert(flaw);
    }

    fn within(&self, rows: &Range<u64>) -> Self {
        let outside: Rows = [0..rows.start, rows.end..OPEN].into_iter().collect();
        let first = self.first.clone();
        Self {
            rows: self.rows.without(&outside),
            first: first.filter(|flaw| rows.contains(&flaw.row)),
        }
    }
}

/// Position of a transaction in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub row: u64,
    /// Offset of the byte after its last one.
    pub end: usize,
    /// Counts of the batch's rows before this one.
    pub before: Counts,
}

/// One request body and the rows it covers.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    /// The rows it covers, dropped ones included.
    pub rows: Range<u64>,
    pub counts: Counts,
    /// The framed body; empty if every row was dropped.
    pub body: Bytes,
    pub marks: Vec<Mark>,
    pub flaws: Flaws,
    /// The distribution, from the log's own field.
    pub distribution: Option<String>,
    /// Optional fields that the log lacks; only set in the first batch of an object.
    pub absent: Vec<&'static str>,
    /// Earliest end of one of its requests, in milliseconds since the Unix epoch.
    pub oldest_end: Option<i64>,
    framing: Framing,
}

impl fmt::Debug for Batch {
    /// Omits the body, which is log content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.body.len();
        f.debug_struct("Batch")
            .field("rows", &self.rows)
            .field("counts", &self.counts)
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// Returns the rows of its transactions, without the dropped ones between them.
    pub fn sent_rows(&self) -> Rows {
        self.marks
            .iter()
            .map(|mark| mark.row..mark.row + 1)
            .collect()
    }

    /// Splits the batch into two with half of the transactions each, or returns `None` for fewer
    /// than two transactions. Together they cover and count its rows, dropped ones included.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let middle = self.marks.len() / 2;
        (middle > 0).then(|| [self.part(0..middle), self.part(middle..self.marks.len())])
    }

    /// Splits the batch into the transactions before the one at `index`, that one, and those after
    /// it; `None` stands for no transactions. Together they cover and count its rows.
    pub fn around(&self, index: usize) -> [Option<Self>; 3] {
        let end = self.marks.len();
        let [from, to] = [index, index + 1].map(|at| at.min(end));
        [0..from, from..to, to..end].map(|marks| (!marks.is_empty()).then(|| self.part(marks)))
    }

    fn part(&self, marks: Range<usize>) -> Self {
        let (before, start) = match marks.start.checked_sub(1) {
            Some(last) => (
                self.marks[marks.start].before,
                self.marks[last].end + self.framing.separator.len(),
            ),
            None => (Counts::default(), self.framing.open.len()),
        };
        let absent = match marks.start {
            0 => self.absent.clone(),
            _ => Vec::new(),
        };
        let after = self
            .marks
            .get(marks.end)
            .map_or(self.counts, |mark| mark.before);
        let marks = &self.marks[marks];
        let end = marks.last().map_or(start, |mark| mark.end);
        let body = [
            self.framing.open.as_bytes(),
            &self.body[start..end],
            self.framing.close.as_bytes(),
        ]
        .concat();
        let shift = start - self.framing.open.len();
        let marks = marks.iter().map(|mark| Mark {
            row: mark.row,
            end: mark.end - shift,
            before: mark.before - before,
        });
        let rows = self.rows.start + before.rows..self.rows.start + after.rows;
        Self {
            flaws: self.flaws.within(&rows),
            rows,
            counts: after - before,
            body: body.into(),
            marks: marks.collect(),
            distribution: self.distribution.clone(),
            absent,
            oldest_end: self.oldest_end,
            framing: self.framing,
        }
    }
}

/// Collects rows into batches.
pub(crate) struct Builder {
    limits: Limits,
    framing: Framing,
    body: Vec<u8>,
    marks: Vec<Mark>,
    flaws: Flaws,
    counts: Counts,
    first_row: u64,
    distribution: Option<String>,
    absent: Vec<&'static str>,
    oldest_end: Option<i64>,
}

impl Builder {
    /// Creates a builder whose first batch starts at `first_row`.
    pub(crate) fn new(limits: Limits, framing: Framing, first_row: u64) -> Self {
        Self {
            limits,
            framing,
            body: Vec::new(),
            marks: Vec::new(),
            flaws: Flaws::default(),
            counts: Counts::default(),
            first_row,
            distribution: None,
            absent: Vec::new(),
            oldest_end: None,
        }
    }

    /// Starts a batch at `row`, once the batch before it is finished.
    pub(crate) fn restart(&mut self, row: u64) {
        self.first_row = row;
    }

    /// Sets the fields that the log lacks.
    pub(crate) fn set_absent(&mut self, absent: impl Iterator<Item = &'static str>) {
        self.absent = absent.collect();
    }

    /// Announces the next row, which one of the `push` methods must then count. Returns the batch
    /// before it if that covers [`MAX_ROWS`] rows.
    pub(crate) fn begin_row(&mut self, row: u64) -> Option<Batch> {
        (row - self.first_row >= MAX_ROWS)
            .then(|| self.finish(row))
            .flatten()
    }

    /// Counts a request for a static asset.
    pub(crate) fn push_static(&mut self) {
        self.counts.rows += 1;
        self.counts.static_assets += 1;
    }

    /// Counts a request for an excluded path.
    pub(crate) fn push_excluded(&mut self) {
        self.counts.rows += 1;
        self.counts.excluded += 1;
    }

    /// Counts a row that could not be read as a transaction.
    pub(crate) fn push_malformed(&mut self) {
        self.counts.rows += 1;
        self.counts.malformed += 1;
    }

    /// Counts a record of another log.
    pub(crate) fn push_foreign(&mut self) {
        self.counts.rows += 1;
        self.counts.foreign += 1;
    }

    /// Counts a row that may hold a request but cannot be read.
    pub(crate) fn push_flaw(&mut self, flaw: Flaw) {
        self.counts.rows += 1;
        self.counts.rejected += 1;
        self.flaws.push(flaw);
    }

    /// Counts a transaction, which `encode` appends to the body. Returns the batch before it if the
    /// transaction did not fit there.
    pub(crate) fn push(
        &mut self,
        transaction: &Transaction<'_>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Batch> {
        let Transaction {
            row, distribution, ..
        } = *transaction;
        let ended = transaction.ended();
        let mut full = None;
        if self.marks.len() >= self.limits.transactions {
            full = self.finish(row);
        }
        let before = self.body.len();
        let separator = if self.marks.is_empty() {
            self.framing.open
        } else {
            self.framing.separator
        };
        self.body.extend_from_slice(separator.as_bytes());
        let start = self.body.len();
        encode(&mut self.body);
        let too_large = self.body.len() + self.framing.close.len() > self.limits.bytes;
        if too_large && !self.marks.is_empty() {
            let transaction = self.body.split_off(start);
            self.body.truncate(before);
            full = self.finish(row);
            self.body.extend_from_slice(self.framing.open.as_bytes());
            self.body.extend_from_slice(&transaction);
        }
        self.marks.push(Mark {
            row,
            end: self.body.len(),
            before: self.counts,
        });
        self.counts.rows += 1;
        self.counts.sent += 1;
        self.counts.unreadable += transaction.unreadable;
        self.oldest_end = Some(self.oldest_end.map_or(ended, |oldest| oldest.min(ended)));
        if self.distribution.is_none() {
            self.distribution = distribution.map(|id| String::from_utf8_lossy(id).into_owned());
        }
        full
    }

    /// Closes the batch before `next_row`. Returns `None` if it would cover no rows.
    ///
    /// Each row of the batch must have been counted. Delivery checks it again, with
    /// [`Counts::accounts_for`], and does not go past a batch for which it does not hold.
    pub(crate) fn finish(&mut self, next_row: u64) -> Option<Batch> {
        let rows = self.first_row..next_row;
        self.first_row = next_row;
        if rows.is_empty() {
            return None;
        }
        debug_assert!(
            self.counts.accounts_for(&rows),
            "rows {rows:?} are counted as {:?}",
            self.counts
        );
        if !self.marks.is_empty() {
            self.body.extend_from_slice(self.framing.close.as_bytes());
        }
        // The next batch will be about as large.
        let next_body = Vec::with_capacity(self.body.len() + self.body.len() / 16);
        let next_marks = Vec::with_capacity(self.marks.len());
        Some(Batch {
            rows,
            counts: std::mem::take(&mut self.counts),
            body: std::mem::replace(&mut self.body, next_body).into(),
            marks: std::mem::replace(&mut self.marks, next_marks),
            flaws: std::mem::take(&mut self.flaws),
            distribution: self.distribution.clone(),
            absent: std::mem::take(&mut self.absent),
            oldest_end: self.oldest_end.take(),
            framing: self.framing,
        })
    }
}

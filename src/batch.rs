//! *Batch*: one request body and the rows it covers.
//!
//! The batches of an object tile its rows in order: what was dropped belongs to the batch around it, so that a row number
//! is all one needs to know how far an object was delivered.

use std::fmt;
use std::ops::{AddAssign, Range};

use bytes::Bytes;

use crate::encode::Framing;
use crate::transaction::Transaction;

/// A batch is closed after so many rows even when nearly all of them were dropped, so that an object of static assets
/// makes progress that can be seen.
pub const MAX_ROWS: u64 = 1 << 16;

/// How large a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions, at least 1.
    pub transactions: usize,
    /// Bytes of the body. A single transaction that is larger still travels, alone.
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

/// What became of rows. The conservation law: `rows = sent + static + excluded + malformed + rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: u64,
    /// Rows whose transactions were accepted (in a batch not yet posted: are to be).
    pub sent: u64,
    /// Rows dropped as requests for static assets.
    pub static_assets: u64,
    /// Rows dropped as requests for excluded paths.
    pub excluded: u64,
    /// Rows that are no transactions.
    pub malformed: u64,
    /// Rows whose transactions were refused for what they are.
    pub rejected: u64,
    /// Values, not rows: those that could not be read, so that their transactions go without them.
    pub unreadable: u64,
}

impl Counts {
    /// Whether every row is accounted for.
    pub fn balance(&self) -> bool {
        self.rows == self.sent + self.static_assets + self.excluded + self.malformed + self.rejected
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
        self.unreadable += other.unreadable;
    }
}

/// Where a transaction stands in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub row: u64,
    /// The offset behind its last byte.
    pub end: usize,
}

/// One request body and the rows it covers.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    /// The rows it covers, dropped ones included.
    pub rows: Range<u64>,
    pub counts: Counts,
    /// The body, framed; empty when every row was dropped.
    pub body: Bytes,
    pub marks: Vec<Mark>,
    /// The distribution that the log's own field names.
    pub distribution: Option<String>,
    /// Fields that the log does not have: in the first batch of an object, for all of them.
    pub absent: Vec<&'static str>,
    /// When the first of its requests to end did so, in milliseconds since the Unix epoch.
    pub oldest_end: Option<i64>,
    framing: Framing,
}

impl fmt::Debug for Batch {
    /// Without the body: it is log content.
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
    /// Two batches with half of the transactions each; `None` when there are not two.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let middle = self.marks.len() / 2;
        let first_of_second = self.marks.get(middle).filter(|_| middle > 0)?.row;
        Some([
            self.part(0..middle, self.rows.start..first_of_second),
            self.part(middle..self.marks.len(), first_of_second..self.rows.end),
        ])
    }

    fn part(&self, marks: Range<usize>, rows: Range<u64>) -> Self {
        let start = match marks.start.checked_sub(1) {
            Some(before) => self.marks[before].end + self.framing.separator.len(),
            None => self.framing.open.len(),
        };
        let marks = &self.marks[marks];
        let end = marks.last().map_or(start, |mark| mark.end);
        let body = [
            self.framing.open.as_bytes(),
            &self.body[start..end],
            self.framing.close.as_bytes(),
        ]
        .concat();
        let shift = start - self.framing.open.len();
        Self {
            rows,
            counts: Counts {
                sent: marks.len() as u64,
                ..Counts::default()
            },
            body: body.into(),
            marks: marks
                .iter()
                .map(|mark| Mark {
                    row: mark.row,
                    end: mark.end - shift,
                })
                .collect(),
            distribution: self.distribution.clone(),
            absent: Vec::new(),
            oldest_end: self.oldest_end,
            framing: self.framing,
        }
    }
}

/// Puts transactions into batches.
pub struct Builder {
    limits: Limits,
    framing: Framing,
    body: Vec<u8>,
    marks: Vec<Mark>,
    counts: Counts,
    first_row: u64,
    distribution: Option<String>,
    absent: Vec<&'static str>,
    oldest_end: Option<i64>,
}

impl Builder {
    /// A builder whose first batch starts at `first_row`.
    pub fn new(limits: Limits, framing: Framing, first_row: u64) -> Self {
        Self {
            limits,
            framing,
            body: Vec::new(),
            marks: Vec::new(),
            counts: Counts::default(),
            first_row,
            distribution: None,
            absent: Vec::new(),
            oldest_end: None,
        }
    }

    /// Says which fields the log does not have.
    pub fn lacks(&mut self, absent: impl Iterator<Item = &'static str>) {
        self.absent = absent.collect();
    }

    /// Says that `row` comes next. Returns the batch before it when that covers [`MAX_ROWS`].
    pub fn begin_row(&mut self, row: u64) -> Option<Batch> {
        (row - self.first_row >= MAX_ROWS)
            .then(|| self.finish(row))
            .flatten()
    }

    /// The row is a request for a static asset.
    pub fn push_static(&mut self) {
        self.counts.rows += 1;
        self.counts.static_assets += 1;
    }

    /// The row is a request for an excluded path.
    pub fn push_excluded(&mut self) {
        self.counts.rows += 1;
        self.counts.excluded += 1;
    }

    /// The row is no transaction.
    pub fn push_malformed(&mut self) {
        self.counts.rows += 1;
        self.counts.malformed += 1;
    }

    /// The row is a transaction, which `encode` appends. Returns the batch before it when it did not fit in there.
    pub fn push(
        &mut self,
        transaction: &Transaction<'_>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Batch> {
        let Transaction {
            row, distribution, ..
        } = *transaction;
        let ended = transaction.ended();
        let full = if self.marks.len() >= self.limits.transactions {
            self.finish(row)
        } else {
            None
        };
        let before = self.body.len();
        let before_it = if self.marks.is_empty() {
            self.framing.open
        } else {
            self.framing.separator
        };
        self.body.extend_from_slice(before_it.as_bytes());
        let start = self.body.len();
        encode(&mut self.body);
        let too_large = self.body.len() + self.framing.close.len() > self.limits.bytes;
        let full = if too_large && !self.marks.is_empty() {
            let transaction = self.body.split_off(start);
            self.body.truncate(before);
            let full = self.finish(row);
            self.body.extend_from_slice(self.framing.open.as_bytes());
            self.body.extend_from_slice(&transaction);
            full
        } else {
            full
        };
        self.marks.push(Mark {
            row,
            end: self.body.len(),
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

    /// Closes the batch before `next_row`; `None` when it covers no rows.
    pub fn finish(&mut self, next_row: u64) -> Option<Batch> {
        let rows = self.first_row..next_row;
        self.first_row = next_row;
        if rows.is_empty() {
            return None;
        }
        if !self.marks.is_empty() {
            self.body.extend_from_slice(self.framing.close.as_bytes());
        }
        // The next will be about as large.
        let next_body = Vec::with_capacity(self.body.len() + self.body.len() / 16);
        let next_marks = Vec::with_capacity(self.marks.len());
        Some(Batch {
            rows,
            counts: std::mem::take(&mut self.counts),
            body: std::mem::replace(&mut self.body, next_body).into(),
            marks: std::mem::replace(&mut self.marks, next_marks),
            distribution: self.distribution.clone(),
            absent: std::mem::take(&mut self.absent),
            oldest_end: self.oldest_end.take(),
            framing: self.framing,
        })
    }
}

//! *Log*: the inflated text of an object, read as *records*: one row each, in CloudFront's words.
//!
//! What an object is, its content tells; its name is never asked. The text is split into rows and columns before
//! anything is decoded, so an encoded newline or tab in a request can never become a row or a column.

mod fields;
mod inflate;

pub use fields::{Columns, Field};
pub use inflate::MAX_LINE;

use std::io::{self, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};
use inflate::{CapLines, Inflate};
use thiserror::Error;

/// Why a log cannot be read, or not further. The text never holds log content.
#[derive(Debug, Error)]
pub enum LogError {
    /// The bytes could not be read or inflated to their end.
    #[error("cannot be read to its end: {0}")]
    Cut(io::Error),
    /// Something else than a CloudFront access log.
    #[error("is not a CloudFront standard access log that this version reads: {0}")]
    NotAccessLog(&'static str),
    /// A `#Fields` line without what a transaction must have.
    #[error("has no {0}: add these fields to the distribution's log delivery")]
    MissingFields(String),
}

/// Reads the records of a log, one at a time, into one reused buffer.
pub struct LogReader<R: Read> {
    csv: csv::Reader<CapLines<Inflate<R>>>,
    row: ByteRecord,
    columns: Option<Columns>,
    /// Whether a row must show yet that the columns are separated by tabs.
    unproven: bool,
    /// The number of the next record.
    next: u64,
    /// The line of the record last read.
    line: u64,
    ended: bool,
}

impl<R: Read> LogReader<R> {
    /// Nothing is read before the first [`advance`](Self::advance).
    pub fn new(source: R) -> Self {
        let csv = ReaderBuilder::new()
            .delimiter(b'\t')
            .quoting(false)
            .flexible(true)
            .has_headers(false)
            // A bare `\r` would start a row otherwise; the one before a newline is stripped by `Record::get`.
            .terminator(Terminator::Any(b'\n'))
            .buffer_capacity(64 << 10)
            .from_reader(CapLines::new(Inflate::new(source)));
        Self { csv, row: ByteRecord::new(), columns: None, unproven: false, next: 0, line: 0, ended: false }
    }

    /// Reads the next record. `false` is the end of the log, and every call after an end or an error says so.
    ///
    /// # Errors
    /// When the log ends early or is not one: what was read before is all there is.
    pub fn advance(&mut self) -> Result<bool, LogError> {
        if self.ended {
            return Ok(false);
        }
        let more = self.read_row();
        self.ended = !matches!(more, Ok(true));
        more
    }

    /// The record last read, and its number: the index of its line among those that are not empty and not headers.
    pub fn record(&self) -> (u64, Record<'_>) {
        (self.next.saturating_sub(1), Record { columns: self.columns.as_ref(), row: &self.row })
    }

    /// The number that the next record will have: how many there were so far.
    pub fn next_row(&self) -> u64 {
        self.next
    }

    /// The line on which the record last read stands, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    fn read_row(&mut self) -> Result<bool, LogError> {
        loop {
            let before = self.csv.position().line();
            if !self.csv.read_byte_record(&mut self.row).map_err(cut)? {
                return Ok(false);
            }
            // The reader stands behind the newline, where there was one.
            self.line = before.max(self.csv.position().line().saturating_sub(1));
            let first = self.row.get(0).unwrap_or_default();
            if self.row.len() == 1 && matches!(first, b"" | b"\r") {
                continue; // a blank line is no row
            }
            if first.starts_with(b"#") {
                self.read_header()?;
                continue;
            }
            if self.columns.is_none() {
                self.columns = Some(headerless(&self.row)?);
            }
            if self.unproven && self.row.len() == 1 {
                return Err(LogError::NotAccessLog("its columns are not separated by tabs"));
            }
            self.unproven = false;
            self.next += 1;
            return Ok(true);
        }
    }

    /// `#Fields: …` (names separated by spaces or tabs) sets the columns anew; other directives say nothing that matters.
    fn read_header(&mut self) -> Result<(), LogError> {
        const FIELDS: &[u8] = b"#Fields:";
        let is_fields = self.row.get(0).and_then(|first| first.get(..FIELDS.len())).is_some_and(|start| start.eq_ignore_ascii_case(FIELDS));
        if !is_fields {
            return Ok(());
        }
        let cells = self.row.iter().enumerate().map(|(index, cell)| if index == 0 { &cell[FIELDS.len()..] } else { cell });
        let names: Vec<&[u8]> = cells.flat_map(|cell| cell.split(u8::is_ascii_whitespace)).filter(|word| !word.is_empty()).collect();
        if names.iter().any(|name| name.eq_ignore_ascii_case(b"x-event")) {
            return Err(LogError::NotAccessLog("it is the log of an RTMP distribution"));
        }
        let columns = Columns::from_names(names.iter().copied());
        let missing = columns.missing();
        if !missing.is_empty() {
            return Err(LogError::MissingFields(missing.join(", ")));
        }
        self.unproven = names.len() > 1;
        self.columns = Some(columns);
        Ok(())
    }
}

fn cut(error: csv::Error) -> LogError {
    LogError::Cut(match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        // Reading bytes with `flexible` knows no other error; its text could quote a row.
        _ => io::Error::new(io::ErrorKind::InvalidData, "malformed text"),
    })
}

/// The columns of a log without a header, told by the first row's width when that row begins with a date.
fn headerless(row: &ByteRecord) -> Result<Columns, LogError> {
    let first = row.get(0).unwrap_or_default();
    let refusal = match first {
        [b'{', ..] => "it is JSON",
        [b'P', b'A', b'R', b'1', ..] => "it is Parquet; choose the output format w3c",
        [y1, _, _, _, b'-', _, _, b'-', _, _] if y1.is_ascii_digit() => {
            return Columns::from_legacy_width(row.len())
                .ok_or(LogError::NotAccessLog("it has no #Fields line, and no legacy log had that many columns"));
        }
        _ => "its first line is neither a header nor a row",
    };
    Err(LogError::NotAccessLog(refusal))
}

/// One row of a log, in CloudFront's words and encoding.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    columns: Option<&'a Columns>,
    row: &'a ByteRecord,
}

impl<'a> Record<'a> {
    /// The logged value, still percent-encoded. Empty, `-` (CloudFront's "not applicable") and a column that is not there
    /// are `None`.
    #[inline]
    pub fn get(&self, field: Field) -> Option<&'a [u8]> {
        let index = self.columns?.index(field)?;
        let value = self.row.get(index)?;
        let value = if index + 1 == self.row.len() { value.strip_suffix(b"\r").unwrap_or(value) } else { value };
        (!matches!(value, b"" | b"-")).then_some(value)
    }

    /// Whether the line was over [`MAX_LINE`] bytes long, so that its end is missing here.
    pub fn is_cut(&self) -> bool {
        self.row.as_slice().len() + self.row.len().saturating_sub(1) > MAX_LINE
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

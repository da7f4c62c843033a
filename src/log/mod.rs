//! *Log*: the inflated text of an object, read as *records*: one row each, in CloudFront's words.
//!
//! What an object is, its content tells; its name and a setting are never asked. The text is split into rows and columns
//! before anything is decoded, so an encoded newline or tab in a request can never become a row or a column.

mod fields;
mod inflate;
mod json;
mod layout;

pub use fields::{Columns, Field};
pub use inflate::{MAX_INFLATED, MAX_LINE};

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};
use inflate::{CapLines, Inflate};
use layout::Layout;
use thiserror::Error;

/// Why a log cannot be read, or not further. The text never holds log content.
#[derive(Debug, Error)]
pub enum LogError {
    /// The bytes could not be read or inflated to their end.
    #[error("cannot be read to its end: {0}")]
    Cut(io::Error),
    /// Something else than a CloudFront access log that can be read.
    #[error("is not a CloudFront standard access log that this version reads: {0}")]
    NotAccessLog(&'static str),
    /// A log that holds no requests of viewers, recognised for what it is.
    #[error("is {0}, not a CloudFront access log")]
    OtherLog(&'static str),
    /// Columns without what a transaction must have.
    #[error("has no {0}: add these fields to the distribution's log delivery")]
    MissingFields(String),
}

/// Why a line that is a row is no record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Defect {
    /// It is longer than [`MAX_LINE`], so that its end is missing.
    #[error("the line is longer than 1 MiB")]
    TooLong,
    /// It stands in a JSON log and is not an object.
    #[error("the line is not a JSON object")]
    NotJson,
    /// Its columns cannot be told apart: a value may hold the delimiter.
    #[error("the line has not as many columns as there are fields")]
    Width,
}

/// Of a log so much is looked at before its layout is told: its header lines and its first row.
const HEAD: usize = 256 << 10;
const BUFFER: usize = 64 << 10;

/// Reads the records of a log, one at a time, into one reused buffer.
pub struct LogReader<R: Read> {
    rows: Rows<R>,
    row: ByteRecord,
    defect: Option<Defect>,
    columns: Option<Columns>,
    /// Whether a row must show yet that the columns are separated by tabs.
    unproven: bool,
    /// The number of the next record.
    next: u64,
    /// The line of the record last read.
    line: u64,
    ended: bool,
}

/// The text of an object: what was looked at, and the rest of it. An error that was met while looking stands between them.
type Text<R> = Chain<Chain<Cursor<Vec<u8>>, Failed>, CapLines<Inflate<R>>>;

enum Rows<R: Read> {
    /// Nothing was read yet.
    Unread(Option<R>),
    Tabs(csv::Reader<Text<R>>),
    Delimited(Lines<Text<R>>, Vec<u8>),
    Json(Lines<Text<R>>, json::Keys),
}

impl<R: Read> LogReader<R> {
    /// Nothing is read before the first [`advance`](Self::advance).
    pub fn new(source: R) -> Self {
        Self {
            rows: Rows::Unread(Some(source)),
            row: ByteRecord::new(),
            defect: None,
            columns: None,
            unproven: false,
            next: 0,
            line: 0,
            ended: false,
        }
    }

    /// Reads the next record. `false` is the end of the log, and every call after an end or an error says so.
    ///
    /// # Errors
    /// When the log ends early or is not one: what was read before is all there is.
    pub fn advance(&mut self) -> Result<bool, LogError> {
        if self.ended {
            return Ok(false);
        }
        let more = self.read_record();
        self.ended = !matches!(more, Ok(true));
        more
    }

    /// The record last read, and its number: the index of its line among those that are not empty and not headers.
    pub fn record(&self) -> (u64, Record<'_>) {
        (self.next.saturating_sub(1), Record { columns: self.columns.as_ref(), row: &self.row, defect: self.defect })
    }

    /// The number that the next record will have: how many there were so far.
    pub fn next_row(&self) -> u64 {
        self.next
    }

    /// The line on which the record last read stands, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The columns of the record last read.
    pub fn columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }

    fn read_record(&mut self) -> Result<bool, LogError> {
        if let Rows::Unread(source) = &mut self.rows {
            let Some(source) = source.take() else { return Ok(false) };
            self.rows = open(source)?;
        }
        loop {
            self.defect = None;
            if !self.read_line()? {
                return Ok(false);
            }
            let first = self.row.get(0).unwrap_or_default();
            if self.row.len() == 1 && matches!(first, b"" | b"\r") && self.defect.is_none() {
                continue; // a blank line is no row
            }
            if first.starts_with(b"#") && !matches!(self.rows, Rows::Json(..)) {
                self.read_header()?;
                continue;
            }
            if self.columns.is_none() && !matches!(self.rows, Rows::Json(..)) {
                // The layout was told from that row.
                let columns = Columns::from_legacy_width(self.row.len());
                self.columns = Some(columns.ok_or(LogError::NotAccessLog("it has rows before its #Fields line"))?);
            }
            if self.unproven && self.row.len() == 1 {
                return Err(LogError::NotAccessLog("its columns are not separated by tabs"));
            }
            self.unproven = false;
            self.next += 1;
            return Ok(true);
        }
    }

    /// Reads the next line into the row: its cells, or the whole of it where it is blank or a header.
    fn read_line(&mut self) -> Result<bool, LogError> {
        let Self { rows, row, defect, columns, line: number, .. } = self;
        match rows {
            Rows::Unread(_) => return Ok(false),
            Rows::Tabs(csv) => {
                let before = csv.position().line();
                let more = csv.read_byte_record(row).map_err(cut)?;
                // The reader stands behind the newline, where there was one.
                *number = before.max(csv.position().line().saturating_sub(1));
                if row.as_slice().len() + row.len().saturating_sub(1) > MAX_LINE {
                    *defect = Some(Defect::TooLong);
                }
                return Ok(more);
            }
            Rows::Delimited(lines, delimiter) => {
                let Some(line) = lines.next().map_err(LogError::Cut)? else { return Ok(false) };
                *defect = split_columns(line, delimiter, columns.as_ref(), row);
            }
            Rows::Json(lines, keys) => {
                let Some(line) = lines.next().map_err(LogError::Cut)? else { return Ok(false) };
                *defect = split_members(line, keys, columns, row)?;
            }
        }
        *number += 1;
        Ok(true)
    }

    /// `#Fields: …` sets the columns anew; other directives say nothing that matters.
    fn read_header(&mut self) -> Result<(), LogError> {
        // Names may be separated by tabs, and are cells then.
        let line = self.row.iter().collect::<Vec<_>>().join(&b' ');
        let Some(names) = layout::field_names(&line) else { return Ok(()) };
        let spaced = match &self.rows {
            Rows::Delimited(_, delimiter) => layout::split(names, delimiter).collect::<Vec<_>>().join(&b' '),
            _ => names.to_vec(),
        };
        let names: Vec<&[u8]> = spaced.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty()).collect();
        let columns = Columns::from_names(names.iter().copied());
        suffice(&columns, names.iter().copied())?;
        self.unproven = names.len() > 1;
        self.columns = Some(columns);
        Ok(())
    }
}

/// Looks at the beginning of a log, and makes the reader that its layout wants.
fn open<R: Read>(source: R) -> Result<Rows<R>, LogError> {
    let mut text = CapLines::new(Inflate::new(source));
    let mut head = Vec::new();
    let mut failed = None;
    let whole = loop {
        let before = head.len();
        head.resize(before + BUFFER, 0);
        match text.read(&mut head[before..]) {
            Ok(read) => {
                head.truncate(before + read);
                if read == 0 || has_row(without_mark(&head)) || head.len() >= HEAD {
                    break read == 0;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => head.truncate(before),
            Err(error) => {
                head.truncate(before);
                failed = Some(error);
                break false;
            }
        }
    };
    head.drain(..head.len() - without_mark(&head).len());
    // Half of a first row tells nothing, and is none.
    let seen = if whole || head.len() >= HEAD { &head[..] } else { &head[..memchr::memrchr(b'\n', &head).map_or(0, |at| at + 1)] };
    let layout = match failed {
        Some(error) if seen.is_empty() => return Err(LogError::Cut(error)),
        _ => Layout::of(seen)?,
    };
    let text = Cursor::new(head).chain(Failed(failed)).chain(text);
    Ok(match layout {
        Layout::Tabs => Rows::Tabs(
            ReaderBuilder::new()
                .delimiter(b'\t')
                .quoting(false)
                .flexible(true)
                .has_headers(false)
                // A bare `\r` would start a row otherwise; the one before a newline is stripped by `Record::get`.
                .terminator(Terminator::Any(b'\n'))
                .buffer_capacity(BUFFER)
                .from_reader(text),
        ),
        Layout::Delimited(delimiter) => Rows::Delimited(Lines::new(text), delimiter),
        Layout::Json => Rows::Json(Lines::new(text), json::Keys::default()),
    })
}

/// What stands behind a byte order mark. `csv` would pass over it too, but only when it comes whole.
fn without_mark(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head)
}

/// Whether a whole row is there.
fn has_row(head: &[u8]) -> bool {
    head.split_inclusive(|byte| *byte == b'\n')
        .any(|line| line.ends_with(b"\n") && !line.starts_with(b"#") && !matches!(line, b"\n" | b"\r\n"))
}

/// Whether records of such columns can become transactions.
fn suffice<'a>(columns: &Columns, names: impl Iterator<Item = &'a [u8]>) -> Result<(), LogError> {
    let missing = columns.missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(layout::other_fields(names).map_or_else(|| LogError::MissingFields(missing.join(", ")), LogError::OtherLog))
}

/// Fails once, where there is something to fail with.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Lines, one at a time, in one reused buffer.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    fn new(text: R) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER, text), line: Vec::new() }
    }

    /// The next line, without what ends it; of the last one nothing may end it.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        if self.reader.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

/// The cells of a line with a delimiter of its own.
fn split_columns(line: &[u8], delimiter: &[u8], columns: Option<&Columns>, row: &mut ByteRecord) -> Option<Defect> {
    row.clear();
    if line.len() > MAX_LINE {
        return Some(Defect::TooLong);
    }
    if line.starts_with(b"#") || line.is_empty() {
        row.push_field(line);
        return None;
    }
    layout::split(line, delimiter).for_each(|cell| row.push_field(cell));
    if columns.is_none_or(|columns| columns.width() == row.len()) {
        return None;
    }
    row.clear(); // whose value is whose cannot be told
    Some(Defect::Width)
}

/// The values of a line in JSON; where its keys are others than before, so are the columns.
fn split_members(
    line: &[u8],
    keys: &mut json::Keys,
    columns: &mut Option<Columns>,
    row: &mut ByteRecord,
) -> Result<Option<Defect>, LogError> {
    row.clear();
    if line.len() > MAX_LINE {
        return Ok(Some(Defect::TooLong));
    }
    if line.is_empty() {
        row.push_field(line);
        return Ok(None);
    }
    let Ok(changed) = keys.read(line, row) else { return Ok(Some(Defect::NotJson)) };
    if changed {
        let named = Columns::from_names(keys.iter());
        if columns.is_none() {
            suffice(&named, keys.iter())?;
        }
        *columns = Some(named);
    }
    Ok(None)
}

fn cut(error: csv::Error) -> LogError {
    LogError::Cut(match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        // Reading bytes with `flexible` knows no other error; its text could quote a row.
        _ => io::Error::new(io::ErrorKind::InvalidData, "malformed text"),
    })
}

/// One row of a log, in CloudFront's words and encoding.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    columns: Option<&'a Columns>,
    row: &'a ByteRecord,
    defect: Option<Defect>,
}

impl<'a> Record<'a> {
    /// Why there is no record in this row.
    #[inline]
    pub fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// The logged value, still percent-encoded. Empty, `-` (CloudFront's "not applicable") and a column that is not there
    /// are `None`.
    #[inline]
    pub fn get(&self, field: Field) -> Option<&'a [u8]> {
        self.cell(self.columns?.index(field)?)
    }

    /// The values under names that are not ours.
    pub fn others(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let record = *self;
        let others = self.columns.into_iter().flat_map(Columns::others);
        others.filter_map(move |(name, index)| Some((name, record.cell(index)?)))
    }

    #[inline]
    fn cell(&self, index: usize) -> Option<&'a [u8]> {
        let value = self.row.get(index)?;
        let value = if index + 1 == self.row.len() { value.strip_suffix(b"\r").unwrap_or(value) } else { value };
        (!matches!(value, b"" | b"-")).then_some(value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

//! *Log*: the inflated text of an object, read as *records*: one row each, in CloudFront's words.
//!
//! What an object is, its content tells; its name and a setting are never asked. The text is split into rows and columns
//! before anything is decoded, so an encoded newline or tab in a request can never become a row or a column.

mod fields;
mod inflate;
mod json;
mod layout;
mod lines;

pub use fields::{Columns, Field};
pub use inflate::{MAX_INFLATED, MAX_LINE};

use std::io::{self, Chain, Read};

use inflate::{CapLines, Inflate};
use layout::Layout;
use lines::Lines;
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
    /// The columns of the row, where tabs do not divide them.
    row: Row,
    defect: Option<Defect>,
    columns: Option<Columns>,
    /// Whether a row must show yet that the columns are separated by tabs.
    unproven: bool,
    /// The number of the next record.
    next: u64,
    ended: bool,
}

/// The text of an object behind what was looked at. An error that was met while looking stands before it.
type Text<R> = Chain<Failed, CapLines<Inflate<R>>>;

enum Rows<R: Read> {
    Unread(Option<R>),
    Tabs(Lines<Text<R>>),
    Delimited(Lines<Text<R>>, Vec<u8>),
    Json(Lines<Text<R>>, json::Keys),
}

impl<R: Read> Rows<R> {
    fn lines(&self) -> Option<&Lines<Text<R>>> {
        match self {
            Self::Unread(_) => None,
            Self::Tabs(lines) | Self::Delimited(lines, _) | Self::Json(lines, _) => Some(lines),
        }
    }

    /// The line at hand.
    fn line(&self) -> &[u8] {
        self.lines().map(Lines::line).unwrap_or_default()
    }

    /// Goes to the next line; `false` is the end.
    fn next_line(&mut self) -> io::Result<bool> {
        match self {
            Self::Unread(_) => Ok(false),
            Self::Tabs(lines) | Self::Delimited(lines, _) | Self::Json(lines, _) => lines.advance(),
        }
    }
}

impl<R: Read> LogReader<R> {
    /// Nothing is read before the first [`advance`](Self::advance).
    pub fn new(source: R) -> Self {
        Self {
            rows: Rows::Unread(Some(source)),
            row: Row::default(),
            defect: None,
            columns: None,
            unproven: false,
            next: 0,
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
        let more = self.read_row();
        self.ended = !matches!(more, Ok(true));
        more
    }

    /// The number of the record last read: the index of its line among those that are not empty and not headers.
    pub fn number(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// The record last read, until the next [`advance`](Self::advance), and its number.
    pub fn record(&self) -> (u64, Record<'_>) {
        let cells = match &self.rows {
            Rows::Tabs(lines) if self.defect.is_none() => lines.cells(),
            _ => self.row.cells(),
        };
        (
            self.number(),
            Record {
                columns: self.columns.as_ref(),
                cells,
                defect: self.defect,
            },
        )
    }

    /// The number that the next record will have: how many there were so far.
    pub fn next_row(&self) -> u64 {
        self.next
    }

    /// The line on which the record last read stands, counted from 1.
    pub fn line(&self) -> u64 {
        self.rows.lines().map_or(0, Lines::number)
    }

    /// The columns of the record last read.
    pub fn columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }

    fn read_row(&mut self) -> Result<bool, LogError> {
        if let Rows::Unread(source) = &mut self.rows {
            let Some(source) = source.take() else {
                return Ok(false);
            };
            self.rows = open(source)?;
        }
        while self.rows.next_line().map_err(LogError::Cut)? {
            match self.rows.line() {
                b"" => {} // no row
                [b'#', ..] if !matches!(self.rows, Rows::Json(..)) => self.read_header()?,
                _ => {
                    self.read_line()?;
                    self.next += 1;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Reads the line at hand into the row, unless tabs divide its columns.
    fn read_line(&mut self) -> Result<(), LogError> {
        let Self {
            rows,
            row,
            defect,
            columns,
            unproven,
            ..
        } = self;
        row.clear();
        let line = rows.line();
        *defect = (line.len() > MAX_LINE).then_some(Defect::TooLong);
        if columns.is_none() && !matches!(rows, Rows::Json(..)) {
            // The layout was told from that row.
            let width = line.split(|byte| *byte == b'\t').count();
            *columns = Some(
                Columns::from_legacy_width(width).ok_or(LogError::NotAccessLog(
                    "it has rows before its #Fields line",
                ))?,
            );
        }
        match rows {
            Rows::Unread(_) => {}
            Rows::Tabs(_) => {
                if std::mem::take(unproven) && !line.contains(&b'\t') {
                    return Err(LogError::NotAccessLog(
                        "its columns are not separated by tabs",
                    ));
                }
            }
            _ if defect.is_some() => {}
            Rows::Delimited(lines, delimiter) => {
                *defect = split_columns(lines.line(), delimiter, columns.as_ref(), row)
            }
            Rows::Json(lines, keys) => *defect = split_members(lines.line(), keys, columns, row)?,
        }
        Ok(())
    }

    /// `#Fields: …` sets the columns anew; other directives say nothing that matters.
    fn read_header(&mut self) -> Result<(), LogError> {
        let line = self.rows.line();
        let Some(names) = layout::field_names(line) else {
            return Ok(());
        };
        if line.len() > MAX_LINE {
            return Err(LogError::NotAccessLog(
                "its #Fields line is longer than 1 MiB",
            ));
        }
        let spaced = match &self.rows {
            Rows::Delimited(_, delimiter) => layout::split(names, delimiter)
                .collect::<Vec<_>>()
                .join(&b' '),
            _ => names.to_vec(),
        };
        let names: Vec<&[u8]> = spaced
            .split(u8::is_ascii_whitespace)
            .filter(|name| !name.is_empty())
            .collect();
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
    let mut head = Vec::with_capacity(BUFFER);
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
    let seen = if whole || head.len() >= HEAD {
        &head[..]
    } else {
        &head[..memchr::memrchr(b'\n', &head).map_or(0, |at| at + 1)]
    };
    let layout = match failed {
        Some(error) if seen.is_empty() => return Err(LogError::Cut(error)),
        _ => Layout::of(seen)?,
    };
    let lines = Lines::new(head, Failed(failed).chain(text));
    Ok(match layout {
        Layout::Tabs => Rows::Tabs(lines),
        Layout::Delimited(delimiter) => Rows::Delimited(lines, delimiter),
        Layout::Json => Rows::Json(lines, json::Keys::default()),
    })
}

/// What stands behind a byte order mark.
fn without_mark(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head)
}

/// Whether a whole row is there.
fn has_row(head: &[u8]) -> bool {
    head.split_inclusive(|byte| *byte == b'\n').any(|line| {
        line.ends_with(b"\n") && !line.starts_with(b"#") && !matches!(line, b"\n" | b"\r\n")
    })
}

/// Whether records of such columns can become transactions.
fn suffice<'a>(columns: &Columns, names: impl Iterator<Item = &'a [u8]>) -> Result<(), LogError> {
    let missing = columns.missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(layout::other_fields(names).map_or_else(
        || LogError::MissingFields(missing.join(", ")),
        LogError::OtherLog,
    ))
}

/// Fails once, where there is something to fail with.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// The cells of a line with a delimiter of its own.
fn split_columns(
    line: &[u8],
    delimiter: &[u8],
    columns: Option<&Columns>,
    row: &mut Row,
) -> Option<Defect> {
    layout::split(line, delimiter).for_each(|cell| row.push(cell));
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
    row: &mut Row,
) -> Result<Option<Defect>, LogError> {
    let Ok(changed) = keys.read(line, row) else {
        return Ok(Some(Defect::NotJson));
    };
    if changed {
        let named = Columns::from_names(keys.iter());
        if columns.is_none() {
            suffice(&named, keys.iter())?;
        }
        *columns = Some(named);
    }
    Ok(None)
}

/// One row of a log, in CloudFront's words and encoding.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    columns: Option<&'a Columns>,
    cells: Cells<'a>,
    defect: Option<Defect>,
}

/// The values of a row in one text, one byte between two.
#[derive(Clone, Copy)]
struct Cells<'a> {
    text: &'a [u8],
    /// Where each begins, and where one behind the last would.
    starts: &'a [u32],
}

impl<'a> Cells<'a> {
    #[inline]
    fn get(&self, index: usize) -> Option<&'a [u8]> {
        let (start, next) = (*self.starts.get(index)?, *self.starts.get(index + 1)?);
        self.text.get(start as usize..next as usize - 1)
    }
}

/// Cells that are not in the line as they are.
struct Row {
    text: Vec<u8>,
    starts: Vec<u32>,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            text: Vec::new(),
            starts: vec![0],
        }
    }
}

impl Row {
    fn clear(&mut self) {
        self.text.clear();
        self.starts.truncate(1);
    }

    fn push(&mut self, cell: &[u8]) {
        self.text.extend_from_slice(cell);
        self.text.push(b'\n');
        self.starts
            .push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn cells(&self) -> Cells<'_> {
        Cells {
            text: &self.text,
            starts: &self.starts,
        }
    }
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
        self.cells
            .get(index)
            .filter(|value| !matches!(*value, b"" | b"-"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

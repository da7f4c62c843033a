//! *Log*: the decompressed text of an object, read as *records*: one per row, in CloudFront's
//! words.
//!
//! The format is detected from the content, never from the object's name or a setting. The text is
//! split into rows and columns before any value is decoded, so an encoded newline or tab in a
//! request can never become a row or a column.

mod fields;
mod inflate;
mod json;
mod layout;
mod lines;

pub use fields::{Columns, Field};
pub use inflate::{MAX_INFLATED, MAX_LINE};

use std::io::{self, Chain, Read};

use csv::ByteRecord;
use inflate::{CapLines, Inflate};
use layout::Layout;
use lines::Lines;
use thiserror::Error;

/// Why a log cannot be read completely. The text never contains log content.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("cannot read the log to its end: {0}")]
    Cut(io::Error),
    #[error("not a supported CloudFront access log: {0}")]
    NotAccessLog(&'static str),
    /// The log of another service, or of another kind, such as `CloudTrail log`. It has no viewer
    /// requests.
    #[error("not a CloudFront access log (detected: {0})")]
    OtherLog(&'static str),
    /// Transactions cannot be built without these fields.
    #[error("log lacks required fields: {0}. Add them to the distribution's log delivery")]
    MissingFields(String),
}

/// Why a row has no values.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Defect {
    /// Longer than [`MAX_LINE`]. The end of such a line is discarded.
    #[error("the line is longer than 1 MiB")]
    TooLong,
    #[error("the line is not a JSON object")]
    NotJson,
    /// A value may contain the delimiter, so the columns cannot be assigned to fields.
    #[error("the number of columns differs from the header")]
    Width,
}

/// Bytes of a log that are searched for its first row, from which the layout is detected.
const HEAD: usize = 256 << 10;
const BUFFER: usize = 64 << 10;

/// Reads the records of a log one at a time. All of them share its buffers.
pub struct LogReader<R: Read> {
    rows: Rows<R>,
    /// The values of the current row, unless they are slices of a tab-separated line.
    row: ByteRecord,
    defect: Option<Defect>,
    columns: Option<Columns>,
    /// Whether the next row must contain a tab: the first row after a header with several names.
    expects_tab: bool,
    /// The number of the next record.
    next: u64,
    ended: bool,
}

/// The text after the head. A read error that occurred in the head is returned first.
type Text<R> = Chain<FailOnce, CapLines<Inflate<R>>>;

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

    /// The current line.
    fn line(&self) -> &[u8] {
        self.lines().map(Lines::line).unwrap_or_default()
    }

    /// Goes to the next line. Returns `false` at the end.
    fn next_line(&mut self) -> io::Result<bool> {
        match self {
            Self::Unread(_) => Ok(false),
            Self::Tabs(lines) | Self::Delimited(lines, _) | Self::Json(lines, _) => lines.advance(),
        }
    }
}

impl<R: Read> LogReader<R> {
    /// Does not read before the first [`advance`](Self::advance).
    pub fn new(source: R) -> Self {
        Self {
            rows: Rows::Unread(Some(source)),
            row: ByteRecord::new(),
            defect: None,
            columns: None,
            expects_tab: false,
            next: 0,
            ended: false,
        }
    }

    /// Reads the next record. Returns `false` at the end of the log, and always after that or after
    /// an error.
    ///
    /// # Errors
    /// [`LogError::Cut`] after the last complete row; the other errors before the first row, or at
    /// a later header that cannot be used.
    pub fn advance(&mut self) -> Result<bool, LogError> {
        if self.ended {
            return Ok(false);
        }
        let more = self.read_row();
        self.ended = !matches!(more, Ok(true));
        more
    }

    /// Returns the number of the current record, from 0. Blank lines and headers are not counted.
    pub fn number(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Returns the current record and its number.
    pub fn record(&self) -> (u64, Record<'_>) {
        let cells = match &self.rows {
            Rows::Tabs(lines) if self.defect.is_none() => lines.cells(),
            _ => Cells::Row(&self.row),
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

    /// Returns the number of the next record, which is the count of the records read so far.
    pub fn next_row(&self) -> u64 {
        self.next
    }

    /// Returns the line number of the current record, from 1. All lines are counted.
    pub fn line(&self) -> u64 {
        self.rows.lines().map_or(0, Lines::number)
    }

    /// Returns the columns of the current record.
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
                b"" => {}
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

    /// Reads the current line as a row.
    fn read_line(&mut self) -> Result<(), LogError> {
        let Self {
            rows,
            row,
            defect,
            columns,
            expects_tab,
            ..
        } = self;
        row.clear();
        let line = rows.line();
        *defect = (line.len() > MAX_LINE).then_some(Defect::TooLong);
        if columns.is_none() && !matches!(rows, Rows::Json(..)) {
            // A log without a header, which `Layout::of` has accepted for its first row.
            let width = line.split(|byte| *byte == b'\t').count();
            *columns = Some(
                Columns::from_legacy_width(width).ok_or(LogError::NotAccessLog(
                    "a data row precedes the `#Fields` line",
                ))?,
            );
        }
        match rows {
            Rows::Unread(_) => {}
            Rows::Tabs(_) => {
                if std::mem::take(expects_tab) && !line.contains(&b'\t') {
                    return Err(LogError::NotAccessLog(
                        "the columns are not separated by tabs",
                    ));
                }
            }
            _ if defect.is_some() => {}
            Rows::Delimited(lines, delimiter) => {
                let width = columns.as_ref().map_or(0, Columns::width);
                *defect = split_columns(lines.line(), delimiter, width, row);
            }
            Rows::Json(lines, keys) => *defect = read_members(lines.line(), keys, columns, row)?,
        }
        Ok(())
    }

    /// Takes the columns from a `#Fields` line. Other directives are ignored.
    fn read_header(&mut self) -> Result<(), LogError> {
        let line = self.rows.line();
        let Some(names) = layout::field_names(line) else {
            return Ok(());
        };
        if line.len() > MAX_LINE {
            return Err(LogError::NotAccessLog(
                "the `#Fields` line is longer than 1 MiB",
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
        require_fields(&columns, names.iter().copied())?;
        self.expects_tab = names.len() > 1;
        self.columns = Some(columns);
        Ok(())
    }
}

/// Detects the layout of a log from its head.
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
    // An incomplete last line is not used, unless the head is full or is the whole text.
    let seen = if whole || head.len() >= HEAD {
        &head[..]
    } else {
        &head[..memchr::memrchr(b'\n', &head).map_or(0, |at| at + 1)]
    };
    let layout = match failed {
        Some(error) if seen.is_empty() => return Err(LogError::Cut(error)),
        _ => Layout::of(seen)?,
    };
    let lines = Lines::new(head, FailOnce(failed).chain(text));
    Ok(match layout {
        Layout::Tabs => Rows::Tabs(lines),
        Layout::Delimited(delimiter) => Rows::Delimited(lines, delimiter),
        Layout::Json => Rows::Json(lines, json::Keys::default()),
    })
}

/// Returns the text after its byte order mark, if it starts with one.
fn without_mark(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head)
}

/// Whether the text contains a complete row.
fn has_row(head: &[u8]) -> bool {
    head.split_inclusive(|byte| *byte == b'\n').any(|line| {
        line.ends_with(b"\n") && !line.starts_with(b"#") && !matches!(line, b"\n" | b"\r\n")
    })
}

/// Checks that transactions can be built from these columns.
fn require_fields<'a>(
    columns: &Columns,
    names: impl Iterator<Item = &'a [u8]>,
) -> Result<(), LogError> {
    let missing = columns.missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(layout::other_fields(names).map_or_else(
        || LogError::MissingFields(missing.join(", ")),
        LogError::OtherLog,
    ))
}

/// Returns the error on the first read, if there is one, and is then empty.
struct FailOnce(Option<io::Error>);

impl Read for FailOnce {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Splits a line at `delimiter` into `row`.
fn split_columns(
    line: &[u8],
    delimiter: &[u8],
    width: usize,
    row: &mut ByteRecord,
) -> Option<Defect> {
    // One column too many proves the defect; a hostile line could have a million.
    let cells = layout::split(line, delimiter).take(width + 1);
    cells.for_each(|cell| row.push_field(cell));
    if row.len() == width {
        return None;
    }
    row.clear();
    Some(Defect::Width)
}

/// Reads the values of a line of JSON into `row`. Every line may have keys, and so columns, of its
/// own.
fn read_members(
    line: &[u8],
    keys: &mut json::Keys,
    columns: &mut Option<Columns>,
    row: &mut ByteRecord,
) -> Result<Option<Defect>, LogError> {
    let Ok(changed) = keys.read(line, row) else {
        return Ok(Some(Defect::NotJson));
    };
    if changed {
        let named = Columns::from_names(keys.iter());
        if columns.is_none() {
            require_fields(&named, keys.iter())?;
        }
        *columns = Some(named);
    }
    Ok(None)
}

/// One row of a log, in CloudFront's words and encoding. It has no `Debug`, so that log content
/// cannot be printed by mistake.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    columns: Option<&'a Columns>,
    cells: Cells<'a>,
    defect: Option<Defect>,
}

/// The values of a row, by the index of their column.
#[derive(Clone, Copy)]
enum Cells<'a> {
    /// A tab-separated line with the starts of its columns, and of one that would follow.
    Line(&'a [u8], &'a [usize]),
    /// Values that are not next to each other in the line, or are changed by unescaping.
    Row(&'a ByteRecord),
}

impl<'a> Cells<'a> {
    #[inline]
    fn get(self, index: usize) -> Option<&'a [u8]> {
        match self {
            Self::Line(line, starts) => {
                let [start, next] = *starts.get(index..)?.first_chunk()?;
                line.get(start..next - 1)
            }
            Self::Row(row) => row.get(index),
        }
    }
}

impl<'a> Record<'a> {
    /// Returns why the row has no values.
    #[inline]
    pub fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// Returns the logged value, still percent-encoded, or `None` for an empty value, `-`
    /// (CloudFront's "not applicable") and a missing column.
    #[inline]
    pub fn get(&self, field: Field) -> Option<&'a [u8]> {
        self.cell(self.columns?.index(field)?)
    }

    /// Whether the log has a column for the field, whatever this row has in it.
    pub fn has_column(&self, field: Field) -> bool {
        self.columns.is_some_and(|columns| {
            let index = columns.index(field);
            // A later row of a log without a header may be longer than the first.
            index.is_some_and(|index| index < columns.width() || self.cells.get(index).is_some())
        })
    }

    /// Returns the values of the columns that are not a [`Field`], with their names.
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

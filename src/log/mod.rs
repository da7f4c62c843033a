//! *Log*: the decompressed text of an object, or a Parquet file, read as *records*: one per row, in
//! CloudFront's words.
//!
//! The format is detected from the content, never from the object's name or a setting. The text is
//! split into rows and columns before any value is decoded, so an encoded newline or tab in a
//! request can never become a row or a column.

mod delimiter;
mod fields;
mod inflate;
mod json;
mod kind;
mod layout;
mod lines;
mod parquet;
mod values;

pub(crate) use fields::USED;
pub use fields::{Columns, Field};
pub use inflate::{MAX_INFLATED, MAX_LINE};
pub use parquet::Fault;
pub(crate) use parquet::{MAGIC, most_open};

use std::borrow::Cow;
use std::io::{self, BufRead as _, Chain, Read};
use std::ops::RangeInclusive;

use csv::ByteRecord;
use inflate::{CapLines, Inflate, Sniffed};
use kind::Kind;
use layout::Layout;
use lines::Lines;
use parquet::Parquet;
use thiserror::Error;
use values::{Object, Values};

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
    #[error("cannot read the Parquet file: {0}")]
    Parquet(#[from] Fault),
    /// A later attempt may succeed.
    #[error(
        "cannot copy the Parquet file to the temporary directory: {0}. Set `TMPDIR` to a directory with space for it; in the function, increase `ephemeral_storage`"
    )]
    Spool(io::Error),
    /// The log was read to its end, and none of its rows can be read.
    #[error("every row is malformed. The first one (line {line}): {reason}")]
    Malformed { line: u64, reason: String },
}

/// Why a row is not one of an access log, or has no values.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Defect {
    /// Longer than [`MAX_LINE`]. The end of such a line is discarded.
    #[error("it is longer than 1 MiB")]
    TooLong,
    #[error("it is not a JSON object")]
    NotJson,
    #[error("it has more than 1,000 fields")]
    TooMany,
    /// It may be a row in a wrapping.
    #[error("it has no field of a CloudFront access log but a time")]
    Unknown,
    #[error("the number of columns differs from the header")]
    Width,
    #[error("no `#Fields` line precedes it, and it is not a row of a legacy log")]
    Headerless,
    /// A viewer can cause this: the columns cannot be assigned to fields.
    #[error("a value contains the column delimiter. Set the delivery's field delimiter to a tab")]
    Delimiter,
    /// Viewer requests may be inside, in a form that edgetap does not read.
    #[error("{0}")]
    Wrapped(&'static str),
    /// A record of another service, or of another kind of log.
    #[error("it is not of a CloudFront access log (detected: {0})")]
    Foreign(&'static str),
}

impl Defect {
    /// Whether the row may contain requests that must not be lost.
    pub fn is_rejection(self) -> bool {
        matches!(self, Self::Delimiter | Self::Unknown | Self::Wrapped(_))
    }
}

/// Most names that a header or an object may have.
const MAX_NAMES: usize = json::MAX_MEMBERS;
/// Bytes of a log that are searched for its first rows, from which the layout is detected.
const HEAD: usize = 256 << 10;
/// The same for a log of which these are all blank or comments. It is read in pieces of `BUFFER`.
const LONG_HEAD: usize = MAX_LINE - BUFFER;
const BUFFER: usize = 64 << 10;
/// Rows of a Parquet file that are read before its source is asked again whether it can be read. A
/// row takes milliseconds at most.
const ROWS_UNASKED: u64 = 64;

/// Returns the text of a log, decompressed if it is gzip.
pub fn text_of(source: impl Read) -> impl Read {
    Inflate::new(source)
}

/// Reads the records of a log one at a time. All of them share its buffers.
pub struct LogReader<R: Read> {
    rows: Rows<R>,
    /// The values of the current row, unless they are slices of a tab-separated line.
    row: ByteRecord,
    defect: Option<Defect>,
    columns: Option<Columns>,
    /// What the names of a JSON object or of a header say it is, unless it is an access log's.
    kind: Option<Kind>,
    /// How many of the next rows may lack a tab, until one has a tab. 0 if none has to.
    tabless: usize,
    /// The fields that are used, if not all.
    fields: Option<&'static [Field]>,
    /// The number of the next record.
    next: u64,
    ended: bool,
}

/// The text after the head. A read error that occurred in the head is returned first.
type Text<R> = Chain<FailOnce, Inflate<R>>;
type CappedText<R> = Chain<FailOnce, CapLines<Inflate<R>>>;

enum Rows<R: Read> {
    Unread(Option<Inflate<R>>),
    Tabs(Lines<CappedText<R>>),
    Delimited(Lines<CappedText<R>>, Vec<u8>),
    Json(Box<Values<Text<R>>>),
    Parquet(Box<Parquet>, Sniffed<R>),
}

impl<R: Read> Rows<R> {
    /// The current line.
    fn line(&self) -> &[u8] {
        match self {
            Self::Unread(_) | Self::Json(_) | Self::Parquet(..) => &[],
            Self::Tabs(lines) | Self::Delimited(lines, _) => lines.line(),
        }
    }

    /// Goes to the next line. Returns `false` at the end.
    fn next_line(&mut self) -> io::Result<bool> {
        match self {
            Self::Unread(_) | Self::Json(_) | Self::Parquet(..) => Ok(false),
            Self::Tabs(lines) | Self::Delimited(lines, _) => lines.advance(),
        }
    }
}

impl<R: Read> LogReader<R> {
    /// Does not read before the first [`advance`](Self::advance).
    pub fn new(source: R) -> Self {
        Self::reading(Inflate::new(source))
    }

    /// The same for rows whose values of other fields, and of columns that are not a field, are not
    /// used. They may be missing.
    pub(crate) fn of_fields(source: R, fields: &'static [Field]) -> Self {
        Self {
            fields: Some(fields),
            ..Self::new(source)
        }
    }

    /// The same for text that [`text_of`] returned.
    pub fn of_text(text: R) -> Self {
        Self::reading(Inflate::plain(text))
    }

    fn reading(text: Inflate<R>) -> Self {
        Self {
            rows: Rows::Unread(Some(text)),
            row: ByteRecord::new(),
            defect: None,
            columns: None,
            kind: None,
            tabless: 0,
            fields: None,
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
            Rows::Json(values) => Cells::Object(values.object()),
            Rows::Parquet(parquet, _) if self.defect.is_none() => Cells::Parquet(parquet.row()),
            _ => Cells::Row(&self.row),
        };
        (
            self.number(),
            Record {
                columns: self.columns.as_ref(),
                cells,
                defect: self.defect.as_ref(),
            },
        )
    }

    /// Returns the number of the next record, which is the count of the records read so far.
    pub fn next_row(&self) -> u64 {
        self.next
    }

    /// Whether the log is text. Otherwise its rows are numbered as if each were a line.
    pub fn is_text(&self) -> bool {
        !matches!(self.rows, Rows::Parquet(..))
    }

    /// Returns the line number of the current record, from 1. All lines are counted.
    pub fn line(&self) -> u64 {
        *self.lines().start()
    }

    /// Returns the line numbers of the current record. A JSON object may have several.
    pub fn lines(&self) -> RangeInclusive<u64> {
        match &self.rows {
            Rows::Unread(_) => 0..=0,
            Rows::Tabs(lines) | Rows::Delimited(lines, _) => lines.number()..=lines.number(),
            Rows::Json(values) => values.lines(),
            Rows::Parquet(parquet, _) => parquet.number()..=parquet.number(),
        }
    }

    /// Returns the columns of the current record.
    pub fn columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }

    fn read_row(&mut self) -> Result<bool, LogError> {
        if let Rows::Unread(text) = &mut self.rows {
            let Some(text) = text.take() else {
                return Ok(false);
            };
            self.rows = match text.into_parquet().map_err(LogError::Cut)? {
                Ok(mut file) => {
                    let (parquet, columns) = Parquet::open(&mut file, self.fields)?;
                    self.columns = Some(columns);
                    Rows::Parquet(Box::new(parquet), file)
                }
                Err(text) => open(text)?,
            };
        }
        if let Rows::Parquet(parquet, file) = &mut self.rows {
            // The file was copied, but it is what fails once the rows are not wanted any more.
            if self.next.is_multiple_of(ROWS_UNASKED) {
                file.fill_buf().map_err(LogError::Cut)?;
            }
            if !parquet.advance()? {
                return Ok(false);
            }
            self.defect = parquet.defect();
            self.next += 1;
            return Ok(true);
        }
        if let Rows::Json(values) = &mut self.rows {
            if !values.advance().map_err(LogError::Cut)? {
                return Ok(false);
            }
            self.read_object();
            self.next += 1;
            return Ok(true);
        }
        while self.rows.next_line().map_err(LogError::Cut)? {
            match self.rows.line() {
                b"" => {}
                line @ [b' ', ..] if layout::is_blank(line) => {}
                [b'#', ..] => self.read_header()?,
                _ => {
                    self.read_line()?;
                    self.next += 1;
                    return Ok(true);
                }
            }
        }
        match self.kind {
            Some(Kind::Foreign(log)) if self.next == 0 => Err(LogError::OtherLog(log)),
            _ => Ok(false),
        }
    }

    /// Reads the current line as a row.
    fn read_line(&mut self) -> Result<(), LogError> {
        let Self {
            rows,
            row,
            defect,
            columns,
            kind,
            tabless,
            ..
        } = self;
        row.clear();
        let line = rows.line();
        *defect = if let Some(Kind::Foreign(log)) = kind {
            Some(Defect::Foreign(log))
        } else if line.len() > MAX_LINE {
            Some(Defect::TooLong)
        } else {
            None
        };
        if columns.is_none() {
            *columns = layout::legacy_columns(line);
        }
        let Some(columns) = columns else {
            *defect = Some(Defect::Headerless);
            return Ok(());
        };
        match rows {
            Rows::Unread(_) | Rows::Json(_) | Rows::Parquet(..) => {}
            Rows::Tabs(_) if *tabless == 0 || defect.is_some() => {}
            Rows::Tabs(_) if line.contains(&b'\t') => *tabless = 0,
            Rows::Tabs(_) => {
                *tabless -= 1;
                if *tabless == 0 || delimiter::detect(columns, &[line]).is_some() {
                    return Err(LogError::NotAccessLog(
                        "the columns are not separated by tabs",
                    ));
                }
            }
            Rows::Delimited(..) if defect.is_some() => {}
            Rows::Delimited(lines, delimiter) => {
                *defect = split_columns(lines.line(), delimiter, columns.width(), row);
            }
        }
        Ok(())
    }

    /// Notes what the current JSON object is, by its names.
    fn read_object(&mut self) {
        let Rows::Json(values) = &self.rows else {
            return;
        };
        self.defect = values.defect();
        let is_readable = self.defect.is_none();
        if is_readable && values.has_new_names()
            || matches!(self.defect, Some(Defect::TooLong | Defect::TooMany))
        {
            let names: Vec<Cow<'_, [u8]>> = values.names().collect();
            let names: Vec<&[u8]> = names.iter().map(Cow::as_ref).collect();
            let columns = Columns::from_names(names.iter().copied());
            self.kind = kind::of_names(&names, &columns);
            self.columns = Some(columns);
        } else if !is_readable {
            return;
        }
        let is = |index, known: &[u8]| {
            let value = values.object().get(index);
            value.is_some_and(|value| value.starts_with(known))
        };
        self.defect = match self.kind {
            Some(Kind::Foreign(log)) => Some(Defect::Foreign(log)),
            Some(Kind::Messages(index)) if is(index, kind::CONTROL_MESSAGE) => {
                Some(Defect::Foreign(kind::CONTROL_MESSAGES))
            }
            Some(Kind::Messages(_)) => Some(Defect::Wrapped(kind::SUBSCRIPTION)),
            Some(Kind::Events(index)) if is(index, kind::OF_AWS) => {
                Some(Defect::Foreign(kind::EVENTS))
            }
            Some(Kind::Events(_)) => Some(Defect::Wrapped(kind::EVENT)),
            Some(Kind::Records) if kind::is_cloud_trail(values.items()) => {
                Some(Defect::Foreign(kind::CLOUD_TRAIL))
            }
            Some(Kind::Records) => Some(Defect::Wrapped(kind::RECORDS)),
            Some(Kind::Refused(reason)) => Some(Defect::Wrapped(reason)),
            None if !is_readable => self.defect,
            None if !self.columns.as_ref().is_some_and(Columns::has_request) => {
                Some(Defect::Unknown)
            }
            None => None,
        };
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
            Rows::Delimited(_, delimiter) => delimiter::split(names, delimiter)
                .take(MAX_NAMES + 1)
                .collect::<Vec<_>>()
                .join(&b' '),
            _ => names.to_vec(),
        };
        let names: Vec<&[u8]> = spaced
            .split(u8::is_ascii_whitespace)
            .filter(|name| !name.is_empty())
            .take(MAX_NAMES + 1)
            .collect();
        if names.len() > MAX_NAMES {
            return Err(LogError::NotAccessLog(
                "the `#Fields` line has more than 1,000 names",
            ));
        }
        let columns = Columns::from_names(names.iter().copied());
        self.kind = kind::of_names(&names, &columns);
        self.tabless = match self.kind {
            Some(Kind::Foreign(_)) => 0,
            kind => {
                require_fields(&columns, kind)?;
                if names.len() > 1 {
                    delimiter::SAMPLE
                } else {
                    0
                }
            }
        };
        self.columns = Some(columns);
        Ok(())
    }
}

/// Detects the layout of a log from its head.
fn open<R: Read>(text: Inflate<R>) -> Result<Rows<R>, LogError> {
    let mut text = CapLines::new(text);
    let mut head = Vec::with_capacity(BUFFER);
    let mut failed = None;
    let whole = loop {
        let before = head.len();
        head.resize(before + BUFFER, 0);
        match text.read(&mut head[before..]) {
            Ok(read) => {
                head.truncate(before + read);
                let has_new_line = head[before..].contains(&b'\n');
                if read == 0
                    || head.len() >= limit(&head)
                    || has_new_line && layout::is_enough(without_mark(&head))
                {
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
    let limit = limit(&head);
    head.drain(..head.len() - without_mark(&head).len());
    // An incomplete last line is not used, unless the head is full or is the whole text.
    let seen = if whole || head.len() >= limit {
        &head[..head.len().min(limit)]
    } else {
        &head[..memchr::memrchr(b'\n', &head).map_or(0, |at| at + 1)]
    };
    let layout = match failed {
        Some(error) if seen.is_empty() => return Err(LogError::Cut(error)),
        _ => Layout::of(seen)?,
    };
    let failed = FailOnce(failed);
    Ok(match layout {
        Layout::Tabs => Rows::Tabs(Lines::new(head, failed.chain(text))),
        Layout::Delimited(delimiter) => {
            Rows::Delimited(Lines::new(head, failed.chain(text)), delimiter)
        }
        // The head is not longer than the longest line, so nothing of it was discarded.
        Layout::Json => Rows::Json(Box::new(Values::new(head, failed.chain(text.into_inner())))),
    })
}

/// Returns how much of a log is searched for its first rows. It depends on the log alone.
fn limit(head: &[u8]) -> usize {
    match head.get(..HEAD) {
        Some(head) if !layout::has_row(without_mark(head)) => LONG_HEAD,
        _ => HEAD,
    }
}

/// Returns the text after its byte order mark, if it starts with one.
fn without_mark(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head)
}

/// Checks that transactions can be built from these columns.
fn require_fields(columns: &Columns, kind: Option<Kind>) -> Result<(), LogError> {
    if let Some(kind) = kind {
        return Err(kind.into());
    }
    let missing = columns.missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(LogError::MissingFields(missing.join(", ")))
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
    let cells = delimiter::split(line, delimiter).take(width + 1);
    cells.for_each(|cell| row.push_field(cell));
    if row.len() == width {
        return None;
    }
    row.clear();
    Some(if delimiter::is_writable(delimiter) {
        Defect::Delimiter
    } else {
        Defect::Width
    })
}

/// One row of a log, in CloudFront's words and encoding. It has no `Debug`, so that log content
/// cannot be printed by mistake.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    columns: Option<&'a Columns>,
    cells: Cells<'a>,
    defect: Option<&'a Defect>,
}

/// The values of a row, by the index of their column.
#[derive(Clone, Copy)]
enum Cells<'a> {
    /// A tab-separated line with the starts of its columns, and of one that would follow.
    Line(&'a [u8], &'a [usize]),
    /// Values that are not next to each other in the line.
    Row(&'a ByteRecord),
    Object(&'a Object),
    Parquet(&'a parquet::Row),
}

impl<'a> Cells<'a> {
    #[inline]
    fn get(self, index: usize) -> Option<&'a [u8]> {
        let Self::Line(line, starts) = self else {
            return self.get_apart(index);
        };
        let [start, next] = *starts.get(index..)?.first_chunk()?;
        line.get(start..next - 1)
    }

    /// Returns a value of another layout. On its own, so that the common one is inlined.
    #[inline(never)]
    fn get_apart(self, index: usize) -> Option<&'a [u8]> {
        match self {
            Self::Line(..) => None,
            Self::Row(row) => row.get(index),
            Self::Object(object) => object.get(index),
            Self::Parquet(row) => row.get(index),
        }
    }
}

impl<'a> Record<'a> {
    /// Returns why the row has no values.
    #[inline]
    pub fn defect(&self) -> Option<Defect> {
        self.defect.copied()
    }

    /// Returns the logged value, still percent-encoded, or `None` for an empty value, `-`
    /// (CloudFront's "not applicable") and a missing column.
    #[inline]
    pub fn get(&self, field: Field) -> Option<&'a [u8]> {
        self.cell(self.columns?.index(field)?)
    }

    /// Whether the row has as many values as the log has columns, so that each is that of its column.
    /// An empty one may follow.
    pub fn is_whole(&self) -> bool {
        let width = self.columns.map_or(0, Columns::width);
        let is_end = |index| self.cells.get(index).is_none_or(<[u8]>::is_empty);
        self.defect.is_none()
            && width
                .checked_sub(1)
                .is_some_and(|last| self.cells.get(last).is_some())
            && is_end(width)
            && self.cells.get(width + 1).is_none()
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

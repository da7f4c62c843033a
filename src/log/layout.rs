//! *Layout*: how the rows of a log are written, detected from its first lines.
//!
//! Standard logging (v2) writes `json`, and `w3c` with any delimiter of up to five characters.
//! Legacy logs are separated by tabs. A `#Fields` line separates names by spaces, tabs or the
//! delimiter, so the delimiter may have to be detected from the first row.

use super::kind::{self, Kind};
use super::{Columns, LogError, MAX_NAMES, delimiter};

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Columns separated by tabs: legacy logs, and `w3c` as edgetap enables it.
    Tabs,
    /// Columns separated by another delimiter.
    Delimited(Vec<u8>),
    /// JSON objects.
    Json,
}

const FIELDS: &[u8] = b"#Fields:";

const MIXED: &str = "it begins like the log of another service, and contains a CloudFront log. Write each log to an object of its own";
const CARRIAGE_RETURNS: &str = "its lines end in CR alone. Convert the line ends to LF";

impl Layout {
    /// Detects the layout of a log that starts with `head`.
    ///
    /// # Errors
    /// [`LogError::OtherLog`] and [`LogError::NotAccessLog`].
    pub(super) fn of(head: &[u8]) -> Result<Self, LogError> {
        let first = first_line(head);
        let has_access_log = || headers(head).any(is_access_log) || sample(head).any(is_legacy_row);
        match kind::of_start(head, first) {
            Some(Kind::Foreign(_)) if has_access_log() => {
                return Err(LogError::NotAccessLog(MIXED));
            }
            Some(kind) => return Err(kind.into()),
            None => {}
        }
        if ends_lines_with_carriage_returns(first) {
            return Err(LogError::NotAccessLog(CARRIAGE_RETURNS));
        }
        let Some(row) = sample(head).next() else {
            return Ok(Self::Tabs);
        };
        if is_json(row) {
            return Ok(Self::Json);
        }
        if leading_header(head).is_none() && is_legacy_row(row) {
            return Ok(Self::Tabs);
        }
        match headers(head).find(|names| !is_foreign(names)) {
            Some(names) => Self::of_header(names, head),
            None if is_json_later(head) => Ok(Self::Json),
            None if headers(head).next().is_some() || sample(head).any(is_legacy_row) => {
                Ok(Self::Tabs)
            }
            None => Err(LogError::NotAccessLog(without_header(row))),
        }
    }

    fn of_header(names: &[u8], head: &[u8]) -> Result<Self, LogError> {
        if let Some(between) = between_names(names) {
            return Ok(Self::Delimited(between.to_vec()));
        }
        let names: Vec<&[u8]> = words(names).take(MAX_NAMES).collect();
        if names.len() < 2 || has_tabs(head) {
            return Ok(Self::Tabs);
        }
        let columns = Columns::from_names(names.into_iter());
        let rows: Vec<&[u8]> = sample(head).collect();
        delimiter::detect(&columns, &rows)
            .map(Self::Delimited)
            .ok_or(LogError::NotAccessLog(
                "the column delimiter cannot be detected. Set the delivery's field delimiter to a tab",
            ))
    }
}

/// Whether enough of a log is known for [`Layout::of`]: rows that show its layout, or as many as are
/// looked at. Whatever follows does not change the layout.
pub(super) fn is_enough(head: &[u8]) -> bool {
    let complete = &head[..memchr::memrchr(b'\n', head).map_or(0, |at| at + 1)];
    let Some(row) = sample(complete).next() else {
        return false;
    };
    let is_shown_by =
        |names: &[u8]| !is_foreign(names) && (between_names(names).is_some() || has_tabs(complete));
    let shows_layout = || {
        is_json(row)
            || leading_header(complete).is_none() && is_legacy_row(row)
            || headers(complete).next().is_some_and(is_shown_by)
    };
    let is_other = matches!(
        kind::of_start(complete, first_line(complete)),
        Some(Kind::Foreign(_))
    );
    !is_other && (shows_layout() || sample(complete).count() == delimiter::SAMPLE)
}

/// Whether a log, as far as it was read, has a row.
pub(super) fn has_row(head: &[u8]) -> bool {
    sample(head).next().is_some()
}

/// The first line, of any kind, or the `#Software` line before the first row.
fn first_line(text: &[u8]) -> &[u8] {
    let mut directives = lines(text).take_while(|line| line.starts_with(b"#"));
    let software = directives.find(|line| line.starts_with(b"#Software:"));
    software.or(lines(text).next()).unwrap_or_default()
}

/// Returns the lines that are not blank.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bare = |line| <[u8]>::strip_suffix(line, b"\r").unwrap_or(line);
    let lines = text.split(|byte| *byte == b'\n').map(bare);
    lines.filter(|line| !is_blank(line))
}

/// Whether a line has nothing but spaces.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte == b' ')
}

/// Returns the first rows. One of them alone may be cut, or be a viewer's.
fn sample(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let rows = lines(text).filter(|line| !line.starts_with(b"#"));
    rows.take(delimiter::SAMPLE)
}

/// Returns the names of the `#Fields` lines among the first rows.
fn headers(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rows = 0;
    let lines = lines(text).take_while(move |line| {
        rows += usize::from(!line.starts_with(b"#"));
        rows < delimiter::SAMPLE
    });
    lines.filter_map(field_names)
}

/// Returns the names of the first `#Fields` line, if it precedes the first row.
fn leading_header(text: &[u8]) -> Option<&[u8]> {
    let mut directives = lines(text).take_while(|line| line.starts_with(b"#"));
    directives.find_map(field_names)
}

/// Whether the columns of a header's rows are separated by tabs. No value contains a tab.
fn has_tabs(text: &[u8]) -> bool {
    sample(text).any(|row| row.contains(&b'\t'))
}

fn kind_of(names: &[u8]) -> (Option<Kind>, Columns) {
    let names: Vec<&[u8]> = words(names).take(MAX_NAMES).collect();
    let columns = Columns::from_names(names.iter().copied());
    (kind::of_names(&names, &columns), columns)
}

/// Whether a header is that of another log, without viewer requests.
fn is_foreign(names: &[u8]) -> bool {
    matches!(kind_of(names).0, Some(Kind::Foreign(_)))
}

/// Whether a header is that of a log whose rows are transactions.
fn is_access_log(names: &[u8]) -> bool {
    let (kind, columns) = kind_of(names);
    kind.is_none() && columns.missing().is_empty()
}

/// Whether a text has lines that end in a CR alone, by what it has as its first line.
fn ends_lines_with_carriage_returns(first: &[u8]) -> bool {
    let lines = || first.split(|byte| *byte == b'\r');
    first.starts_with(b"#") && first.contains(&b'\r') || lines().skip(1).any(is_legacy_row)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = text.split(u8::is_ascii_whitespace);
    words.filter(|word| !word.is_empty())
}

/// Whether a row begins a JSON object, or an array that may have objects.
fn is_json(row: &[u8]) -> bool {
    let start = row.trim_ascii_start();
    match start.strip_prefix(b"\x1e").unwrap_or(start) {
        [b'{', ..] => true,
        [b'[', rest @ ..] => matches!(rest.trim_ascii_start(), [] | [b'{' | b'[' | b']', ..]),
        _ => false,
    }
}

/// Whether a row behind a broken one begins a JSON object. No row of another format does so.
fn is_json_later(text: &[u8]) -> bool {
    let is_between = |byte: &u8| b"}],".contains(byte) || byte.is_ascii_whitespace();
    let begins = |row: &[u8]| {
        let start = row.iter().position(|byte| !is_between(byte));
        start.is_some_and(|start| row[start] == b'{')
    };
    sample(text).any(begins) && !sample(text).any(is_legacy_row)
}

/// Returns the names of a `#Fields` line, or `None` for any other line.
pub(super) fn field_names(line: &[u8]) -> Option<&[u8]> {
    let is_fields = line
        .get(..FIELDS.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(FIELDS));
    is_fields.then(|| line[FIELDS.len()..].trim_ascii())
}

/// Returns the text between the first two names if it is a delimiter other than white space.
fn between_names(names: &[u8]) -> Option<&[u8]> {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"()-_".contains(byte);
    let start = names.iter().position(|byte| !is_of_name(byte))?;
    let between = &names[start..];
    let between = &between[..between.iter().position(is_of_name)?];
    let is_delimiter = between
        .iter()
        .all(|byte| byte.is_ascii_whitespace() || delimiter::is_delimiter(&[*byte]));
    (is_delimiter && !between.iter().all(u8::is_ascii_whitespace)).then_some(between)
}

/// Returns the columns of a log without a header, by a row that is one of a legacy log.
pub(super) fn legacy_columns(row: &[u8]) -> Option<Columns> {
    is_legacy_row(row)
        .then(|| Columns::from_legacy_row(row))
        .flatten()
}

/// Whether a row is one of a legacy log, judged by the number of columns and the first nine values.
fn is_legacy_row(row: &[u8]) -> bool {
    let cells: Vec<&[u8]> = row.split(|byte| *byte == b'\t').take(10).collect();
    let [date, time, _, bytes, _, method, _, stem, status, ..] = &cells[..] else {
        return false;
    };
    let shaped = kind::has_shape;
    Columns::from_legacy_row(row).is_some()
        && shaped(date, b"0000-00-00")
        && shaped(time, b"00:00:00")
        && (*bytes == b"-" || bytes.iter().all(u8::is_ascii_digit))
        && method.iter().all(u8::is_ascii_graphic)
        && !stem.iter().all(u8::is_ascii_digit)
        && (*status == b"-" || shaped(status, b"000"))
}

fn without_header(row: &[u8]) -> &'static str {
    if row.contains(&b'\t') || row.iter().all(u8::is_ascii_graphic) && row.contains(&b'|') {
        "the `#Fields` line is missing, and the columns are not those of a legacy log (the output format may be `plain` or `raw`). Set the delivery's output format to `w3c`, `json` or `parquet`"
    } else {
        "the first line is neither a header nor a data row. If CloudFront wrote it, set the delivery's output format to `w3c`, `json` or `parquet`"
    }
}

//! *Layout*: how the rows of a log are written, detected from its first lines.
//!
//! Standard logging (v2) writes `json`, and `w3c` with any delimiter of up to five characters.
//! Legacy logs are separated by tabs. A `#Fields` line separates names by spaces, tabs or the
//! delimiter, so the delimiter may have to be detected from the first row.

use super::{Columns, LogError, MAX_NAMES, delimiter, kind};

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

impl Layout {
    /// Detects the layout of a log that starts with `head`.
    ///
    /// # Errors
    /// [`LogError::OtherLog`] and [`LogError::NotAccessLog`].
    pub(super) fn of(head: &[u8]) -> Result<Self, LogError> {
        let Head { header, row, first } = Head::of(head);
        if let Some(kind) = kind::of_start(head, first) {
            return Err(kind.into());
        }
        let start = row.unwrap_or_default().trim_ascii_start();
        match (header, row) {
            (Some(names), row) => Self::of_header(names, row, head),
            (None, None) => Ok(Self::Tabs),
            (None, Some(_)) if is_json(start) => Ok(Self::Json),
            (None, Some(row)) if is_legacy_row(row) => Ok(Self::Tabs),
            (None, Some(row)) => Err(LogError::NotAccessLog(without_header(row))),
        }
    }

    fn of_header(names: &[u8], row: Option<&[u8]>, head: &[u8]) -> Result<Self, LogError> {
        if let Some(between) = between_names(names) {
            return Ok(Self::Delimited(between.to_vec()));
        }
        let names: Vec<&[u8]> = words(names).take(MAX_NAMES).collect();
        let Some(row) = row else {
            return Ok(Self::Tabs);
        };
        if names.len() < 2 || row.contains(&b'\t') {
            return Ok(Self::Tabs);
        }
        let columns = Columns::from_names(names.into_iter());
        let rows: Vec<&[u8]> = rows(head).take(delimiter::SAMPLE).collect();
        delimiter::detect(&columns, &rows)
            .map(Self::Delimited)
            .ok_or(LogError::NotAccessLog(
                "the column delimiter cannot be detected. Set the delivery's field delimiter to a tab",
            ))
    }
}

/// Whether enough of a log is known for [`Layout::of`]: its first row, and several rows if that does
/// not show the delimiter. Whatever follows does not change the layout.
pub(super) fn is_enough(head: &[u8]) -> bool {
    let complete = &head[..memchr::memrchr(b'\n', head).map_or(0, |at| at + 1)];
    let Head { header, row, .. } = Head::of(complete);
    let shows_delimiter = |row: &[u8]| match header {
        Some(names) => {
            between_names(names).is_some() || row.contains(&b'\t') || words(names).count() < 2
        }
        None => true,
    };
    row.is_some_and(|row| {
        shows_delimiter(row) || rows(complete).take(delimiter::SAMPLE).count() == delimiter::SAMPLE
    })
}

/// The beginning of a log.
#[derive(Clone, Copy)]
struct Head<'a> {
    /// The names of the first `#Fields` line before the first row.
    header: Option<&'a [u8]>,
    row: Option<&'a [u8]>,
    /// The first line, of any kind, or the `#Software` line.
    first: &'a [u8],
}

impl<'a> Head<'a> {
    fn of(text: &'a [u8]) -> Self {
        let directives = || lines(text).take_while(|line| line.starts_with(b"#"));
        let software = directives().find(|line| line.starts_with(b"#Software:"));
        Self {
            header: directives().find_map(field_names),
            row: rows(text).next(),
            first: software.or(lines(text).next()).unwrap_or_default(),
        }
    }
}

/// Returns the lines that are not blank.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bare = |line| <[u8]>::strip_suffix(line, b"\r").unwrap_or(line);
    let lines = text.split(|byte| *byte == b'\n').map(bare);
    lines.filter(|line| !line.trim_ascii().is_empty())
}

fn rows(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines(text).filter(|line| !line.starts_with(b"#"))
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = text.split(u8::is_ascii_whitespace);
    words.filter(|word| !word.is_empty())
}

/// Whether the text is that of a JSON object, or of an array that may have objects.
fn is_json(start: &[u8]) -> bool {
    match start.strip_prefix(b"\x1e").unwrap_or(start) {
        [b'{', ..] => true,
        [b'[', rest @ ..] => matches!(rest.trim_ascii_start(), [] | [b'{' | b'[' | b']', ..]),
        _ => false,
    }
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
        "the `#Fields` line is missing, and the columns are not those of a legacy log (the output format may be `plain` or `raw`). Set the delivery's output format to `w3c` or `json`"
    } else {
        "the first line is neither a header nor a data row. If CloudFront wrote it, set the delivery's output format to `w3c` or `json`"
    }
}

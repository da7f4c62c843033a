//! *Layout*: how the rows of a log are written, detected from its first lines.
//!
//! Standard logging (v2) writes `json`, and `w3c` with any delimiter of up to five characters.
//! Legacy logs are separated by tabs. A `#Fields` line separates names by spaces, tabs or the
//! delimiter, so the delimiter may have to be detected from the first row.

use super::{Columns, LogError};

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Columns separated by tabs: legacy logs, and `w3c` as edgetap enables it.
    Tabs,
    /// Columns separated by another delimiter.
    Delimited(Vec<u8>),
    /// One JSON object per line.
    Json,
}

const FIELDS: &[u8] = b"#Fields:";

/// Characters of a delimiter, in addition to the tab.
const DELIMITERS: &[u8] = b" |^~#<>\"'`{}[]\\,;!$*@";
/// Those of them that CloudFront encodes inside values, so that a viewer cannot write them
/// (Developer Guide, "Standard log file format").
const ENCODED: &[u8] = b" |^~#<>\"'`{}[]\\";

impl Layout {
    /// Detects the layout of a log that starts with `head`.
    ///
    /// # Errors
    /// [`LogError::OtherLog`] and [`LogError::NotAccessLog`].
    pub(super) fn of(head: &[u8]) -> Result<Self, LogError> {
        let mut start = head;
        while let Some(after_blank) = start
            .strip_prefix(b"\n")
            .or_else(|| start.strip_prefix(b"\r\n"))
        {
            start = after_blank;
        }
        if let Some(other) = other_log(start) {
            return Err(LogError::OtherLog(other));
        }
        let reason = match start {
            [b'{', ..] => return Ok(Self::Json),
            [b'[', ..] => "the content is a JSON array, but a JSON log has one object per line",
            [b'P', b'A', b'R', b'1', ..] => {
                "Parquet is not supported. Set the delivery's output format to `w3c` or `json`"
            }
            _ => return Self::of_lines(start),
        };
        Err(LogError::NotAccessLog(reason))
    }

    fn of_lines(text: &[u8]) -> Result<Self, LogError> {
        let bare = |line| <[u8]>::strip_suffix(line, b"\r").unwrap_or(line);
        let lines = || {
            text.split(|byte| *byte == b'\n')
                .map(bare)
                .filter(|line| !line.is_empty())
        };
        let header = lines()
            .take_while(|line| line.starts_with(b"#"))
            .find_map(field_names);
        let Some(row) = lines().find(|line| !line.starts_with(b"#")) else {
            return Ok(header
                .and_then(between_names)
                .map_or(Self::Tabs, |between| Self::Delimited(between.to_vec())));
        };
        let Some(names) = header else {
            return if is_legacy_row(row) {
                Ok(Self::Tabs)
            } else {
                Err(LogError::NotAccessLog(without_header(row)))
            };
        };
        if let Some(between) = between_names(names) {
            return Ok(Self::Delimited(between.to_vec()));
        }
        let width = names
            .split(u8::is_ascii_whitespace)
            .filter(|name| !name.is_empty())
            .count();
        if width < 2 || row.contains(&b'\t') {
            return Ok(Self::Tabs);
        }
        delimiter(row, width)
            .map(Self::Delimited)
            .ok_or(LogError::NotAccessLog(
                "the column delimiter cannot be detected. Set the delivery's field delimiter to a tab",
            ))
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
        .all(|byte| DELIMITERS.contains(byte) || byte.is_ascii_whitespace());
    (is_delimiter && !between.iter().all(u8::is_ascii_whitespace)).then_some(between)
}

/// Finds a delimiter that splits `row` into `width` columns.
///
/// The delimiter must contain the row's first character of [`ENCODED`] or, without one, of
/// [`DELIMITERS`]. Later characters are not trusted: a viewer could have written text that happens
/// to split the row into the same number of columns.
fn delimiter(row: &[u8], width: usize) -> Option<Vec<u8>> {
    const MAX_DELIMITER: usize = 5;
    let first = |of: &[u8]| row.iter().position(|byte| of.contains(byte));
    let at = first(ENCODED).or_else(|| first(DELIMITERS))?;
    (1..=MAX_DELIMITER).rev().find_map(|len| {
        let around = at.saturating_sub(len - 1)..=at;
        let mut candidates = around.filter_map(|start| row.get(start..start + len));
        let found = candidates.find(|candidate| {
            candidate.iter().all(|byte| DELIMITERS.contains(byte))
                && split(row, candidate).count() == width
        });
        found.map(<[u8]>::to_vec)
    })
}

/// Splits a line at each `delimiter`.
pub(super) fn split<'a>(line: &'a [u8], delimiter: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let at = memchr::memmem::find(line, delimiter);
        rest = at.map(|at| &line[at + delimiter.len()..]);
        Some(&line[..at.unwrap_or(line.len())])
    })
}

/// Whether a row is one of a legacy log, judged by the number of columns and the first nine values.
fn is_legacy_row(row: &[u8]) -> bool {
    let cells: Vec<&[u8]> = split(row, b"\t").collect();
    let [date, time, _, bytes, _, method, _, stem, status, ..] = &cells[..] else {
        return false;
    };
    let shaped = |cell: &[u8], pattern: &[u8]| {
        cell.len() == pattern.len()
            && cell.iter().zip(pattern).all(|(byte, like)| {
                if *like == b'0' {
                    byte.is_ascii_digit()
                } else {
                    byte == like
                }
            })
    };
    Columns::from_legacy_width(cells.len()).is_some()
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

/// Recognizes the logs of other services, which may share the prefix, by their first line.
fn other_log(start: &[u8]) -> Option<&'static str> {
    let line = start
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let has = |part: &str| memchr::memmem::find(line, part.as_bytes()).is_some();
    let first_word = line
        .split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default();
    let is_hex = |word: &[u8]| word.iter().all(u8::is_ascii_hexdigit);
    if line.starts_with(b"{\"Records\":[") {
        return Some("CloudTrail log");
    }
    match first_word {
        b"http" | b"https" | b"h2" | b"grpcs" | b"ws" | b"wss" if has(" app/") => {
            Some("Application Load Balancer log")
        }
        b"tls" if has(" net/") => Some("Network Load Balancer log"),
        b"version" if has("account-id interface-id") => Some("VPC flow log"),
        [seconds @ .., b'.', _, _, _]
            if seconds.len() == 10 && seconds.iter().all(u8::is_ascii_digit) =>
        {
            Some("CloudFront real-time log")
        }
        owner if owner.len() == 64 && is_hex(owner) && has(" [") => Some("S3 server access log"),
        _ => None,
    }
}

/// Recognizes the log of another service by the names of its fields, never by its values: a viewer
/// controls those.
pub(super) fn other_fields<'a>(mut names: impl Iterator<Item = &'a [u8]>) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 5] = [
        (b"x-event", "RTMP distribution log"),
        (b"connectionStatus", "CloudFront connection log"),
        (b"digestS3Bucket", "CloudTrail digest"),
        (b"webaclId", "AWS WAF log"),
        (b"query_timestamp", "Route 53 query log"),
    ];
    names.find_map(|name| {
        KNOWN
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
            .map(|(_, log)| *log)
    })
}

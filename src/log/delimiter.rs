//! Finds the delimiter of a log whose header does not show it, from several rows.
//!
//! A viewer who writes some of the rows must not decide. A delimiter fits a row only if values that
//! CloudFront writes, such as the date, come out as they should.

use std::collections::BTreeSet;

use super::kind::has_shape;
use super::{Columns, Field};

/// Rows that are looked at.
pub(super) const SAMPLE: usize = 64;
/// Most characters of a delivery's delimiter.
const MAX_LEN: usize = 5;
/// Most spaces that an editor puts in place of a tab.
const MAX_SPACES: usize = 16;
/// Places in a row that are looked at for delimiters.
const PLACES: usize = 8;

/// Characters of a delimiter, in addition to the tab.
const CHARACTERS: &[u8] = b" |^~#<>\"'`{}[]\\,;!$*@";
/// Those that a viewer can put into a value: CloudFront may not encode them, and writes `\x20` for a
/// space into `x-forwarded-for`.
const WRITABLE: &[u8] = b",;!$*@|\\";

/// Whether a value may contain the delimiter.
pub(super) fn is_writable(delimiter: &[u8]) -> bool {
    delimiter.iter().all(|byte| WRITABLE.contains(byte))
}

/// Whether `text` may be (a part of) a delimiter other than a tab.
pub(super) fn is_delimiter(text: &[u8]) -> bool {
    text.iter().all(|byte| CHARACTERS.contains(byte))
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

/// Returns the delimiter that fits most rows of a log with these columns, or `None` if none fits, or
/// if a viewer could have decided which one does: another one fits a whole row too, or a viewer can
/// write both the delimiter and what stands before the first one.
pub(super) fn detect(columns: &Columns, rows: &[&[u8]]) -> Option<Vec<u8>> {
    let candidates: BTreeSet<&[u8]> = rows.iter().flat_map(|row| candidates(row)).collect();
    let rate = |delimiter| {
        let fits = rows.iter().map(|row| Fit::of(columns, row, delimiter));
        let (mut whole, mut start) = (0, 0);
        for fit in fits {
            whole += usize::from(fit == Fit::Whole);
            start += usize::from(fit == Fit::Start);
        }
        (whole, start, delimiter.len())
    };
    let rated: Vec<_> = candidates
        .into_iter()
        .map(|delimiter| (rate(delimiter), delimiter))
        .collect();
    let &((whole, start, _), best) = rated.iter().max()?;
    let is_rival = |((whole, ..), other): &&((usize, usize, usize), &[u8])| {
        *whole > 0 && !is_part(other, best) && !is_part(best, other)
    };
    let is_told = whole + start > 0 && !rated.iter().any(|one| is_rival(&one));
    let is_viewers = is_writable(best) && !begins_with_cloudfronts(columns);
    (is_told && !is_viewers).then(|| best.to_vec())
}

fn is_part(part: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// Whether CloudFront chooses the values of the first column.
fn begins_with_cloudfronts(columns: &Columns) -> bool {
    let is_first = |field: &Field| columns.index(*field) == Some(0);
    !VIEWERS.iter().any(is_first) && Field::ALL.iter().any(is_first)
}

/// Returns the text at the first places of a row that may be the delimiter.
fn candidates(row: &[u8]) -> Vec<&[u8]> {
    let places = (0..row.len()).filter(|at| CHARACTERS.contains(&row[*at]));
    let mut found = Vec::new();
    for place in places.take(PLACES) {
        let run = row[place..].iter().take(MAX_LEN);
        let run = run.take_while(|byte| CHARACTERS.contains(byte)).count();
        found.extend((1..=run).map(|len| &row[place..place + len]));
    }
    let is_space = |byte: &&u8| **byte == b' ';
    if let Some(start) = row.iter().position(|byte| *byte == b' ') {
        let spaces = row[start..].iter().take(MAX_SPACES).take_while(is_space);
        let end = start + spaces.count();
        found.push(&row[start..end]);
    }
    found
}

/// How a delimiter fits a row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    No,
    /// There are more columns than names, but those before a viewer's first value are right.
    Start,
    Whole,
}

impl Fit {
    fn of(columns: &Columns, row: &[u8], delimiter: &[u8]) -> Self {
        let cells: Vec<&[u8]> = split(row, delimiter).take(columns.width() + 1).collect();
        let is_right = |field: &Field| {
            let cell = columns.index(*field).and_then(|index| cells.get(index));
            cell.is_none_or(|cell| is_plausible(*field, cell))
        };
        if cells.len() == columns.width() {
            return if CLOUDFRONTS.iter().all(is_right) {
                Self::Whole
            } else {
                Self::No
            };
        }
        let first = CLOUDFRONTS
            .into_iter()
            .find(|field| columns.index(*field) == Some(0));
        match first {
            Some(field) if cells.len() > columns.width() && is_right(&field) => Self::Start,
            _ => Self::No,
        }
    }
}

/// Fields whose values a viewer chooses, or a function that was given the request.
const VIEWERS: [Field; 10] = [
    Field::Method,
    Field::UriStem,
    Field::UriQuery,
    Field::Referer,
    Field::UserAgent,
    Field::Cookie,
    Field::HostHeader,
    Field::XForwardedFor,
    Field::ViewerRequestLogData,
    Field::ViewerResponseLogData,
];

/// Fields whose values can be told from a viewer's.
const CLOUDFRONTS: [Field; 6] = [
    Field::Date,
    Field::Time,
    Field::Timestamp,
    Field::TimestampMs,
    Field::ClientIp,
    Field::Status,
];

/// Whether a value may be one of a field.
fn is_plausible(field: Field, value: &[u8]) -> bool {
    let consists_of = |extra: &[u8]| {
        value
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || extra.contains(byte))
    };
    value == b"-"
        || match field {
            Field::Date => has_shape(value, b"0000-00-00"),
            Field::Time => has_shape(value, b"00:00:00"),
            Field::Status => has_shape(value, b"000"),
            Field::Timestamp | Field::TimestampMs => !value.is_empty() && consists_of(b"."),
            _ => consists_of(b".:x*"),
        }
}

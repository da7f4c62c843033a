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
/// Those that a viewer can write into a value, because CloudFront may not encode them.
const WRITABLE: &[u8] = b",;!$*@|";

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

/// Returns the delimiter that fits most rows of a log with these columns, or `None` if none fits.
pub(super) fn detect(columns: &Columns, rows: &[&[u8]]) -> Option<Vec<u8>> {
    let candidates: BTreeSet<&[u8]> = rows.iter().flat_map(|row| candidates(row)).collect();
    let rated = candidates.into_iter().map(|delimiter| {
        let fits: Vec<Fit> = rows
            .iter()
            .map(|row| Fit::of(columns, row, delimiter))
            .collect();
        let count = |fit| fits.iter().filter(|one| **one == fit).count();
        (
            (count(Fit::Whole), count(Fit::Start), delimiter.len()),
            delimiter,
        )
    });
    let (rating, delimiter) = rated.max()?;
    (rating.0 + rating.1 > 0).then(|| delimiter.to_vec())
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

/// Fields whose values a viewer cannot choose.
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

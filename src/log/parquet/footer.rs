//! *Footer*: the columns and the row groups of a Parquet file. The row groups are read one at a time
//! from the file, so that their number costs no memory.
//!
//! Format: Apache Parquet, `parquet.thrift`.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use super::thrift::{Kind, Part, Thrift};
use super::{Fault, MAGIC};
use crate::log::{MAX_LINE, MAX_NAMES};

/// Bytes of the largest footer (16 MiB). One of 1,000 row groups with 33 columns takes 5 MB.
const MAX_FOOTER: u64 = 16 << 20;
/// Bytes behind the footer: its length, and the magic.
const TAIL: usize = 8;
/// Most elements of a schema: the columns, and what they are in or consist of.
const MAX_ELEMENTS: u64 = 10 * MAX_NAMES as u64;

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: Vec<u8>,
    pub(super) form: Form,
    /// Its index among the columns that have values, which those within others are too.
    pub(super) leaf: usize,
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Byte strings. Some may be missing if it is optional.
    Text { is_optional: bool },
    /// Nothing: each value is null, and has no type.
    Null,
    /// Other values, by the name of their type.
    Other(&'static str),
}

/// Where the values of a column are in a row group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) range: Range<u64>,
    pub(super) codec: i64,
    pub(super) values: u64,
}

/// The footer of a file, read as far as the row groups.
pub(super) struct Footer {
    thrift: Thrift,
    pub(super) columns: Vec<Column>,
    /// Columns that have values, those within others included.
    leaves: usize,
    /// Rows of the file.
    pub(super) rows: u64,
    /// Row groups that were not read.
    groups: u64,
    /// Where the pages end.
    end: u64,
}

impl Footer {
    /// Reads the columns of a file of `size` bytes.
    pub(super) fn open(file: &Arc<File>, size: u64) -> Result<Self, Fault> {
        let magic = MAGIC.len() as u64;
        let tail_at = size.checked_sub(TAIL as u64).filter(|at| *at >= magic);
        let mut tail = Thrift::new(Part::new(file.clone(), tail_at.ok_or(Fault::Cut)?..size));
        let tail: [u8; TAIL] = tail.array()?;
        let [len @ .., _, _, _, _] = tail;
        let len = u64::from(u32::from_le_bytes(len));
        match &tail[4..] {
            b"PAR1" => {}
            b"PARE" => return Err(Fault::Encrypted),
            _ => return Err(Fault::Cut),
        }
        let end = size - TAIL as u64;
        let start = end.checked_sub(len).filter(|start| *start >= magic);
        let start = start.ok_or(Fault::Metadata)?;
        if len > MAX_FOOTER {
            return Err(Fault::LargeFooter);
        }
        let mut footer = Self {
            thrift: Thrift::new(Part::new(file.clone(), start..end)),
            columns: Vec::new(),
            leaves: 0,
            rows: 0,
            groups: 0,
            end: start,
        };
        footer.read_columns()?;
        Ok(footer)
    }

    /// Bytes of the file that may be of pages.
    pub(super) fn pages(&self) -> u64 {
        self.end - MAGIC.len() as u64
    }

    /// Reads as far as the row groups. Every writer writes the fields in the order of their numbers.
    fn read_columns(&mut self) -> Result<(), Fault> {
        let (mut rows, mut groups) = (None, None);
        let Self {
            thrift,
            columns,
            leaves,
            ..
        } = self;
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (2, Kind::List) => *leaves = read_schema(thrift, columns)?,
                (3, Kind::Number) => rows = u64::try_from(thrift.number()?).ok(),
                (4, Kind::List) => {
                    groups = Some(thrift.list()?.1);
                    thrift.stop();
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (Some(rows), Some(groups)) = (rows, groups) else {
            return Err(Fault::Metadata);
        };
        (self.rows, self.groups) = (rows, groups);
        Ok(())
    }

    /// Reads the next row group: its rows, and the chunks of the columns with these leaves, which are
    /// in ascending order. Returns `None` at the end.
    pub(super) fn next_group(
        &mut self,
        leaves: &[usize],
        chunks: &mut Vec<Chunk>,
    ) -> Result<Option<u64>, Fault> {
        chunks.clear();
        let Some(left) = self.groups.checked_sub(1) else {
            return Ok(None);
        };
        self.groups = left;
        let (mut rows, mut all) = (None, 0);
        let end = self.end;
        self.thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, Kind::List) => {
                    all = thrift.list()?.1;
                    for leaf in 0..all {
                        let wanted = leaves
                            .get(chunks.len())
                            .is_some_and(|next| *next as u64 == leaf);
                        let chunk = read_chunk(thrift, end, wanted)?;
                        chunks.extend(chunk.filter(|_| wanted));
                    }
                }
                (3, Kind::Number) => rows = u64::try_from(thrift.number()?).ok(),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if all != self.leaves as u64 || chunks.len() != leaves.len() {
            return Err(Fault::Metadata);
        }
        rows.map(Some).ok_or(Fault::Metadata)
    }
}

/// Reads a schema. Returns the number of leaves.
fn read_schema(thrift: &mut Thrift, columns: &mut Vec<Column>) -> Result<usize, Fault> {
    let (_, elements) = thrift.list()?;
    if elements > MAX_ELEMENTS {
        return Err(Fault::ManyColumns);
    }
    let (mut leaves, mut names) = (0, 0);
    // Elements of the current column that follow.
    let mut within: u64 = 0;
    for index in 0..elements {
        let mut element = Element::default();
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, Kind::Number) => element.kind = Some(thrift.number()?),
                (3, Kind::Number) => element.repetition = thrift.number()?,
                (4, Kind::Bytes) => element.name = thrift.bytes(MAX_LINE)?,
                (5, Kind::Number) => {
                    let children = u64::try_from(thrift.number()?);
                    element.children = children.map_err(|_| Fault::Metadata)?;
                }
                (10, Kind::Struct) => thrift.fields(|_, id, _| {
                    element.is_null |= id == UNKNOWN;
                    Ok(false)
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if index == 0 {
            continue; // the root, which is the row
        }
        let leaf = leaves;
        leaves += usize::from(element.children == 0);
        if let Some(left) = within.checked_sub(1) {
            within = left;
        } else {
            names += element.name.len();
            if columns.len() == MAX_NAMES {
                return Err(Fault::ManyColumns);
            } else if names > MAX_LINE {
                return Err(Fault::Metadata);
            }
            columns.push(Column {
                form: element.form(),
                name: element.name,
                leaf,
            });
        }
        within = within.saturating_add(element.children);
    }
    if within > 0 {
        return Err(Fault::Metadata);
    }
    Ok(leaves)
}

#[derive(Default)]
struct Element {
    kind: Option<i64>,
    repetition: i64,
    name: Vec<u8>,
    children: u64,
    is_null: bool,
}

/// The logical type of a column without values.
const UNKNOWN: i64 = 11;

impl Element {
    fn form(&self) -> Form {
        match (self.children, self.repetition, self.kind) {
            (1.., _, _) => Form::Other("nested"),
            (0, 2, _) => Form::Other("repeated"),
            (0, 1, _) if self.is_null => Form::Null,
            (0, repetition @ (0 | 1), Some(6)) => Form::Text {
                is_optional: repetition == 1,
            },
            (_, _, Some(0)) => Form::Other("BOOLEAN"),
            (_, _, Some(1)) => Form::Other("INT32"),
            (_, _, Some(2)) => Form::Other("INT64"),
            (_, _, Some(3)) => Form::Other("INT96"),
            (_, _, Some(4)) => Form::Other("FLOAT"),
            (_, _, Some(5)) => Form::Other("DOUBLE"),
            (_, _, Some(7)) => Form::Other("FIXED_LEN_BYTE_ARRAY"),
            _ => Form::Other("unknown"),
        }
    }
}

/// Reads a column chunk. What is wrong with one that is not wanted does not matter.
fn read_chunk(thrift: &mut Thrift, end: u64, wanted: bool) -> Result<Option<Chunk>, Fault> {
    let (mut codec, mut values, mut size) = (0, None, None);
    let (mut data, mut dictionary) = (None, None);
    let (mut is_elsewhere, mut is_encrypted) = (false, false);
    thrift.fields(|thrift, id, kind| {
        match (id, kind) {
            (1, Kind::Bytes) => {
                is_elsewhere = true;
                return Ok(false);
            }
            (3, Kind::Struct) => thrift.fields(|thrift, id, kind| {
                let count = match (id, kind) {
                    (4, Kind::Number) => {
                        codec = thrift.number()?;
                        return Ok(true);
                    }
                    (5, Kind::Number) => &mut values,
                    (7, Kind::Number) => &mut size,
                    (9, Kind::Number) => &mut data,
                    (11, Kind::Number) => &mut dictionary,
                    _ => return Ok(false),
                };
                *count = u64::try_from(thrift.number()?).ok();
                Ok(true)
            })?,
            (8, Kind::Struct) => {
                is_encrypted = true;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !wanted {
        return Ok(None);
    }
    if is_encrypted {
        return Err(Fault::Encrypted);
    } else if is_elsewhere {
        return Err(Fault::Elsewhere);
    }
    let (Some(values), Some(size), Some(data)) = (values, size, data) else {
        return Err(Fault::Metadata);
    };
    if values == 0 {
        // Some writers write any offsets then. If there is a dictionary, it has no use.
        return Ok(Some(Chunk {
            codec,
            ..Chunk::default()
        }));
    }
    // Some writers write 0 for no dictionary.
    let start = dictionary
        .filter(|at| (1..data).contains(at))
        .unwrap_or(data);
    let range = start..start.checked_add(size).ok_or(Fault::Outside)?;
    if range.start < MAGIC.len() as u64 || range.end > end {
        return Err(Fault::Outside);
    }
    Ok(Some(Chunk {
        range,
        codec,
        values,
    }))
}

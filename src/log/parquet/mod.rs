//! *Parquet*: the rows of a Parquet file, from the columns that are used.
//!
//! docs/decisions/parquet.md says why the pages are read here and not by a library: a file has to be
//! read in bounded memory whatever it says about itself.
//!
//! A row is where each column has its next value. Nothing is copied, and nothing is allocated for a
//! row: only one page of each column is in memory, with the column's dictionary.

mod column;
mod footer;
mod spool;
mod thrift;
mod values;

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use column::{Column, Reading};
use footer::{Chunk, Footer, Form};
use thiserror::Error;

use super::kind;
use super::{Columns, Defect, Field, LogError, MAX_INFLATED, MAX_LINE, require_fields};

/// What a Parquet file begins and ends with.
pub(crate) const MAGIC: &[u8] = b"PAR1";

/// Bytes that the pages and dictionaries of all columns of a file may take together. It is less for
/// small files, so that several of them can be read side by side.
pub(crate) fn most_open(size: u64) -> u64 {
    const INFLATION: u64 = 32; // an access log has the random id of each request
    size.saturating_mul(INFLATION).clamp(4 << 20, 16 << 20)
}

/// Why a Parquet file cannot be read. The text has no names and no values of the file.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("it is truncated: its end is missing. Upload the whole file")]
    Cut,
    #[error("it is encrypted. Write it without encryption")]
    Encrypted,
    #[error("its metadata is invalid")]
    Metadata,
    #[error("its metadata is larger than 16 MiB. Write fewer and larger row groups")]
    LargeFooter,
    #[error("it has more than 1,000 columns")]
    ManyColumns,
    #[error("the column of `{field}` is {form}. Write the values as strings, as CloudFront does")]
    Form {
        field: &'static str,
        /// The type, or `nested` or `repeated`.
        form: &'static str,
    },
    #[error("it is compressed with {0}. Write it with gzip or Snappy, or uncompressed")]
    Codec(&'static str),
    #[error("a column is in another file")]
    Elsewhere,
    #[error("a column is outside of the file, or has a negative size")]
    Outside,
    #[error("its columns overlap")]
    Overlap,
    #[error("a page is invalid")]
    Page,
    #[error(
        "a page has an encoding that is not supported. Write it with plain or dictionary encoding"
    )]
    Encoding,
    #[error("a page is larger than 8 MiB. Write smaller pages or row groups")]
    LargePage,
    #[error(
        "the pages of its columns take too much memory together: 16 MiB, or 32 times the size of a small file. Write smaller pages"
    )]
    OpenPages,
    #[error("its values exceed {} GiB", MAX_INFLATED >> 30)]
    Bomb,
    #[error("the number of rows differs between its parts")]
    Rows,
    /// The copy in the temporary directory cannot be read.
    #[error("cannot read the copy in the temporary directory: {0}")]
    Io(#[from] io::Error),
}

/// What may still be read.
struct Limits {
    /// Bytes of the file before the footer. Each is part of one page at most.
    file: u64,
    /// Bytes of pages and of values.
    unpacked: u64,
}

impl Limits {
    fn read_file(&mut self, bytes: u64) -> Result<(), Fault> {
        self.file = self.file.checked_sub(bytes).ok_or(Fault::Overlap)?;
        Ok(())
    }

    #[inline]
    fn unpack(&mut self, bytes: u64) -> Result<(), Fault> {
        self.unpacked = self.unpacked.checked_sub(bytes).ok_or(Fault::Bomb)?;
        Ok(())
    }
}

/// Reads the rows of a Parquet file.
pub(super) struct Parquet {
    file: Arc<File>,
    footer: Footer,
    row: Row,
    /// Which columns have values, for each of `row.open`.
    leaves: Vec<usize>,
    chunks: Vec<Chunk>,
    raw: Vec<u8>,
    /// Bytes that the columns have, and those that they may have with `raw`.
    memory: usize,
    most_memory: usize,
    limits: Limits,
    /// Rows of the row group that were not read.
    in_group: u64,
    /// Rows that were read.
    rows: u64,
    /// Bytes of the row's values.
    len: usize,
}

/// The values of the current row.
pub(super) struct Row {
    /// For each column of the file: which of the open ones it is.
    places: Vec<Option<u16>>,
    open: Vec<Column>,
}

impl Row {
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let place = self.places.get(index)?;
        Some(place.map_or(&[][..], |place| self.open[usize::from(place)].value()))
    }
}

impl Parquet {
    /// Copies a file, and reads its columns. Only those of `fields` are opened; without `fields`, all
    /// that have text.
    pub(super) fn open(
        source: impl Read,
        fields: Option<&[Field]>,
    ) -> Result<(Self, Columns), LogError> {
        let (file, size) = spool::spool(source)?;
        let file = Arc::new(file);
        let footer = Footer::open(&file, size)?;
        let names: Vec<&[u8]> = footer
            .columns
            .iter()
            .map(|column| &column.name[..])
            .collect();
        let columns = Columns::from_names(names.iter().copied());
        require_fields(&columns, kind::of_names(&names, &columns))?;
        let mut row = Row {
            places: vec![None; names.len()],
            open: Vec::new(),
        };
        let mut leaves = Vec::new();
        for (index, column) in footer.columns.iter().enumerate() {
            let field = columns.field(index);
            let is_used = match (fields, field) {
                (None, _) => true,
                (Some(fields), Some(field)) => fields.contains(&field),
                (Some(_), None) => false,
            };
            match (column.form, field) {
                _ if !is_used => {}
                (Form::Text { is_optional }, _) => {
                    row.places[index] = u16::try_from(row.open.len()).ok();
                    row.open.push(Column::new(is_optional));
                    leaves.push(column.leaf);
                }
                (Form::Other(form), Some(field)) => {
                    let field = field.name();
                    return Err(Fault::Form { field, form }.into());
                }
                // CloudFront has no such column, so the text of its values is unknown.
                (Form::Other(_), None) | (Form::Null, _) => {}
            }
        }
        let limits = Limits {
            file: footer.pages(),
            unpacked: MAX_INFLATED,
        };
        let parquet = Self {
            file,
            footer,
            row,
            leaves,
            chunks: Vec::new(),
            raw: Vec::new(),
            memory: 0,
            most_memory: usize::try_from(most_open(size)).unwrap_or_default(),
            limits,
            in_group: 0,
            rows: 0,
            len: 0,
        };
        Ok((parquet, columns))
    }

    /// Goes to the next row. Returns `false` at the end.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool, LogError> {
        while self.in_group == 0 {
            if !self.begin_group()? {
                return Ok(false);
            }
        }
        let mut len = 0;
        for index in 0..self.row.open.len() {
            if self.row.open[index].needs_page() {
                self.read_page(index)?;
            }
            len += self.row.open[index].advance()?;
        }
        self.limits.unpack(len as u64)?;
        self.len = len;
        self.in_group -= 1;
        self.rows += 1;
        Ok(true)
    }

    /// Goes to the next row group. Returns `false` at the end of the file.
    fn begin_group(&mut self) -> Result<bool, Fault> {
        for index in 0..self.chunks.len() {
            if !self.row.open[index].is_read() {
                self.with_column(index, Column::end)?;
            }
        }
        let group = self.footer.next_group(&self.leaves, &mut self.chunks)?;
        let Some(rows) = group else {
            let is_whole = self.rows == self.footer.rows;
            return if is_whole {
                Ok(false)
            } else {
                Err(Fault::Rows)
            };
        };
        for (column, chunk) in self.row.open.iter_mut().zip(&self.chunks) {
            column.begin(chunk, rows)?;
        }
        self.in_group = rows;
        Ok(true)
    }

    fn read_page(&mut self, index: usize) -> Result<(), Fault> {
        self.with_column(index, Column::read_page)
    }

    fn with_column(
        &mut self,
        index: usize,
        read: impl FnOnce(&mut Column, Reading<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let column = &mut self.row.open[index];
        let others = self.memory - column.memory();
        let reading = Reading {
            file: &self.file,
            raw: &mut self.raw,
            limits: &mut self.limits,
            memory: self.most_memory.saturating_sub(others),
        };
        let done = read(column, reading);
        self.memory = others + column.memory();
        done
    }

    pub(super) fn row(&self) -> &Row {
        &self.row
    }

    /// The number of the current row, from 1.
    pub(super) fn number(&self) -> u64 {
        self.rows
    }

    /// Why the current row is not read.
    pub(super) fn defect(&self) -> Option<Defect> {
        (self.len > MAX_LINE).then_some(Defect::TooLong)
    }
}

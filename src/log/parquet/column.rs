//! *Column*: the values of a column, page by page. A page is decompressed only after its size was
//! checked, and one page of a column is in memory at a time.
//!
//! Format: Apache Parquet, `parquet.thrift` and "Data pages".

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::sync::Arc;

use super::footer::Chunk;
use super::thrift::{Kind, Part, Thrift};
use super::values::{Runs, Values, of_len, plain, prefix, take};
use super::{Fault, Limits};
use crate::log::MAX_LINE;
use crate::log::inflate::gunzip;

/// Bytes of the largest page, decompressed (8 MiB). Writers make pages of about 1 MiB.
const MAX_PAGE: usize = 8 << 20;
/// Bytes that a value counts for, whatever its length: it takes time, but may take no space.
const VALUE: u64 = 16;

/// What a column is read from, and what it may take.
pub(super) struct Reading<'a> {
    pub(super) file: &'a Arc<File>,
    /// The compressed page.
    pub(super) raw: &'a mut Vec<u8>,
    pub(super) limits: &'a mut Limits,
    /// Bytes that this column and `raw` may take together.
    pub(super) memory: usize,
}

/// The reading of a column.
#[derive(Default)]
pub(super) struct Column {
    is_optional: bool,
    codec: i64,
    /// Its bytes of the row group that were not read.
    pages: Range<u64>,
    /// Values of the row group that are not in a page read so far.
    unread: u64,
    /// The page of the row group's dictionary: its header, and where its bytes are in the file.
    dictionary_page: Option<(Header, Range<u64>)>,
    /// The dictionary if it was read, and where each of its values starts.
    dictionary: Vec<u8>,
    starts: Vec<u32>,
    page: Vec<u8>,
    /// Rows of the page that were not read.
    in_page: u64,
    levels: Option<Runs>,
    values: Values,
    /// The current value, where it is not in a page.
    joined: Vec<u8>,
    place: Place,
}

/// Where the current value is.
#[derive(Clone, Debug, Default)]
enum Place {
    #[default]
    Nowhere,
    Page(Range<usize>),
    Dictionary(Range<usize>),
    Joined,
}

#[derive(Clone, Debug, Default)]
struct Header {
    kind: i64,
    /// Bytes in memory and in the file.
    size: usize,
    compressed: usize,
    values: u64,
    encoding: i64,
    level_encoding: i64,
    /// Of a page of version 2: the bytes of both kinds of levels, which are not compressed.
    repetitions: usize,
    definitions: usize,
    is_plain: bool,
}

const DATA: i64 = 0;
const INDEX: i64 = 1;
const DICTIONARY: i64 = 2;
const DATA_V2: i64 = 3;

const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;

const UNCOMPRESSED: i64 = 0;
const SNAPPY: i64 = 1;
const GZIP: i64 = 2;

impl Column {
    pub(super) fn new(is_optional: bool) -> Self {
        Self {
            is_optional,
            ..Self::default()
        }
    }

    /// Begins a row group of `rows` rows.
    pub(super) fn begin(&mut self, chunk: &Chunk, rows: u64) -> Result<(), Fault> {
        if chunk.values != rows {
            return Err(Fault::Rows);
        }
        check_codec(chunk.codec)?;
        self.codec = chunk.codec;
        self.pages = chunk.range.clone();
        self.unread = rows;
        self.in_page = 0;
        self.dictionary_page = None;
        self.starts.clear();
        Ok(())
    }

    /// Bytes that are allocated.
    pub(super) fn memory(&self) -> usize {
        self.dictionary.capacity()
            + self.starts.capacity() * size_of::<u32>()
            + self.page.capacity()
            + self.joined.capacity()
    }

    /// Whether all pages of the row group were read.
    pub(super) fn is_read(&self) -> bool {
        self.in_page == 0 && self.pages.is_empty()
    }

    /// Whether the next value is in another page.
    #[inline]
    pub(super) fn needs_page(&self) -> bool {
        self.in_page == 0
    }

    /// The current value, or nothing.
    #[inline]
    pub(super) fn value(&self) -> &[u8] {
        match &self.place {
            Place::Nowhere => &[],
            Place::Page(range) => &self.page[range.clone()],
            Place::Dictionary(range) => &self.dictionary[range.clone()],
            Place::Joined => &self.joined,
        }
    }

    /// Goes to the next value, of a page that has one. Returns its length.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<usize, Fault> {
        self.in_page -= 1;
        if let Some(levels) = &mut self.levels
            && levels.next(&self.page)? == 0
        {
            self.place = Place::Nowhere;
            return Ok(0);
        }
        let range = match &mut self.values {
            Values::Plain(left) => plain(&self.page, left)?,
            Values::Indices(runs) => {
                let index = runs.next(&self.page)? as usize;
                let range = self.starts.get(index..).and_then(<[u32]>::first_chunk);
                let [start, next] = range.ok_or(Fault::Page)?;
                let range = *start as usize..*next as usize - 4;
                let len = range.len();
                self.place = Place::Dictionary(range);
                return Ok(len);
            }
            Values::Lengths { lens, values } => of_len(&self.page, lens, values)?,
            Values::Prefixes {
                prefixes,
                lens,
                values,
                ..
            } => {
                let prefix = prefix(&self.page, prefixes)?;
                let rest = of_len(&self.page, lens, values)?;
                if prefix > self.joined.len() || prefix + rest.len() > MAX_JOINED {
                    return Err(Fault::Page);
                }
                self.joined.truncate(prefix);
                self.joined.extend_from_slice(&self.page[rest]);
                self.place = Place::Joined;
                return Ok(self.joined.len());
            }
        };
        let len = range.len();
        self.place = Place::Page(range);
        Ok(len)
    }

    /// Reads pages up to one with values.
    pub(super) fn read_page(&mut self, mut reading: Reading<'_>) -> Result<(), Fault> {
        self.place = Place::Nowhere;
        while self.in_page == 0 {
            if self.pages.is_empty() {
                return Err(Fault::Rows);
            }
            let header = self.read_header(&mut reading)?;
            match header.kind {
                DATA | DATA_V2 => self.read_data(&header, &mut reading)?,
                DICTIONARY => self.find_dictionary(header)?,
                INDEX => drop(self.body(&header)),
                _ => return Err(Fault::Page),
            }
        }
        Ok(())
    }

    /// Checks that a row group has no values behind those that were read. Padding may follow.
    pub(super) fn end(&mut self, mut reading: Reading<'_>) -> Result<(), Fault> {
        if self.in_page > 0 {
            return Err(Fault::Rows);
        }
        while !self.pages.is_empty() {
            let header = match self.read_header(&mut reading) {
                Err(Fault::Page) => break,
                header => header?,
            };
            if matches!(header.kind, DATA | DATA_V2) && header.values > 0 {
                return Err(Fault::Rows);
            }
            self.body(&header);
        }
        Ok(())
    }

    /// Goes behind the page of a header. Returns where its bytes are.
    fn body(&mut self, header: &Header) -> Range<u64> {
        let start = self.pages.start;
        self.pages.start += header.compressed as u64;
        start..self.pages.start
    }

    /// Reads the header of a page, and checks it as far as its sizes are concerned.
    fn read_header(&mut self, reading: &mut Reading<'_>) -> Result<Header, Fault> {
        let start = self.pages.start;
        // The header may contain the least and the greatest value, which are skipped.
        let part = Part::new(reading.file.clone(), self.pages.clone());
        let mut thrift = Thrift::new(part);
        let header = Header::read(&mut thrift).map_err(|fault| match fault {
            Fault::Metadata => Fault::Page,
            fault => fault,
        })?;
        self.pages.start = thrift.offset();
        let len = self.pages.end - self.pages.start;
        if header.compressed as u64 > len {
            return Err(Fault::Page);
        }
        let header_len = self.pages.start - start;
        reading
            .limits
            .read_file(header_len + header.compressed as u64)?;
        reading
            .limits
            .unpack(header.size as u64 + header.values * VALUE)?;
        if header.size > MAX_PAGE {
            return Err(Fault::LargePage);
        }
        Ok(header)
    }

    fn read_data(&mut self, header: &Header, reading: &mut Reading<'_>) -> Result<(), Fault> {
        self.unread = self.unread.checked_sub(header.values).ok_or(Fault::Rows)?;
        let is_v2 = header.kind == DATA_V2;
        let levels = if is_v2 {
            header.repetitions.checked_add(header.definitions)
        } else {
            Some(0)
        };
        let levels = levels.filter(|levels| *levels <= header.size.min(header.compressed));
        let levels = levels.ok_or(Fault::Page)?;
        let codec = if header.is_plain {
            UNCOMPRESSED
        } else {
            self.codec
        };
        let body = self.body(header);
        let others = self.memory() - self.page.capacity();
        read_body(header, body, levels, codec, &mut self.page, others, reading)?;

        let mut left = 0..self.page.len();
        self.levels = if is_v2 {
            take(&mut left, header.repetitions)?;
            let levels = take(&mut left, header.definitions)?;
            self.is_optional.then(|| Runs::new(levels, 1))
        } else if self.is_optional && header.values > 0 {
            if header.level_encoding != RLE {
                return Err(Fault::Encoding);
            }
            let levels = plain(&self.page, &mut left)?;
            Some(Runs::new(levels, 1))
        } else {
            None
        }
        .transpose()?;
        if header.values == 0 {
            return Ok(());
        }
        self.values = Values::new(header.encoding, &self.page, left, header.values)?;
        if self.values.need_dictionary() {
            if self.starts.is_empty() {
                self.read_dictionary(reading)?;
            }
        } else {
            // Writers give up a dictionary that grows too large. Few return to it.
            self.starts = Vec::new();
            self.dictionary = Vec::new();
        }
        self.make_joined(reading)?;
        self.in_page = header.values;
        Ok(())
    }

    /// Makes space for the longest value of the page that is joined from parts.
    fn make_joined(&mut self, reading: &Reading<'_>) -> Result<(), Fault> {
        let most = self.values.most_joined().min(MAX_JOINED);
        let others = self.memory() - self.joined.capacity() + reading.raw.capacity();
        if others + capacity(&self.joined, most) > reading.memory {
            return Err(Fault::OpenPages);
        }
        size(&mut self.joined, most);
        self.joined.clear();
        Ok(())
    }

    fn find_dictionary(&mut self, header: Header) -> Result<(), Fault> {
        if !matches!(header.encoding, PLAIN | PLAIN_DICTIONARY) {
            return Err(Fault::Encoding);
        }
        // Each value has its length before it.
        if header.values > header.size as u64 / 4 || self.dictionary_page.is_some() {
            return Err(Fault::Page);
        }
        let body = self.body(&header);
        self.dictionary_page = Some((header, body));
        Ok(())
    }

    /// Reads the dictionary. Without one, every index is invalid.
    fn read_dictionary(&mut self, reading: &mut Reading<'_>) -> Result<(), Fault> {
        let Some((header, body)) = self.dictionary_page.clone() else {
            return Ok(());
        };
        let cost = header.size + header.compressed;
        reading.limits.unpack(cost as u64)?;
        let values = usize::try_from(header.values).map_err(|_| Fault::Page)?;
        let starts = (values + 1) * size_of::<u32>();
        self.starts = Vec::new();
        let others = self.memory() - self.dictionary.capacity() + starts;
        let (codec, dictionary) = (self.codec, &mut self.dictionary);
        read_body(&header, body, 0, codec, dictionary, others, reading)?;
        self.starts.reserve_exact(values + 1);
        let mut left = 0..self.dictionary.len();
        for _ in 0..values {
            let value = plain(&self.dictionary, &mut left)?;
            self.starts
                .push(u32::try_from(value.start).map_err(|_| Fault::Page)?);
        }
        let end = u32::try_from(left.start + 4).map_err(|_| Fault::Page)?;
        self.starts.push(end);
        Ok(())
    }
}

/// Bytes of the longest value that is joined from parts. It is not longer than a row may be, and one
/// that is too long stays one.
const MAX_JOINED: usize = 2 * MAX_LINE;

/// Reads the bytes of a page into `page`. The first `levels` bytes are not compressed. `others` are
/// the bytes that the column takes in addition.
fn read_body(
    header: &Header,
    body: Range<u64>,
    levels: usize,
    codec: i64,
    page: &mut Vec<u8>,
    others: usize,
    reading: &mut Reading<'_>,
) -> Result<(), Fault> {
    let mut part = Part::new(reading.file.clone(), body);
    let raw_size = if codec == UNCOMPRESSED {
        0
    } else {
        header.compressed - levels
    };
    let needed = capacity(page, header.size) + capacity(reading.raw, raw_size) + others;
    if needed > reading.memory {
        return Err(Fault::OpenPages);
    }
    size(page, header.size);
    size(reading.raw, raw_size);
    if codec == UNCOMPRESSED {
        if header.size != header.compressed {
            return Err(Fault::Page);
        }
        return Ok(part.read_exact(page)?);
    }
    let (levels, values) = page.split_at_mut(levels);
    part.read_exact(levels)?;
    part.read_exact(reading.raw)?;
    let is_whole = match codec {
        // A page of version 2 without values may have no bytes.
        _ if raw_size == 0 => values.is_empty(),
        SNAPPY => {
            snap::raw::decompress_len(reading.raw).is_ok_and(|len| len == values.len())
                && snap::raw::Decoder::new()
                    .decompress(reading.raw, values)
                    .is_ok_and(|len| len == values.len())
        }
        _ => gunzip(reading.raw, values).is_ok(),
    };
    if is_whole { Ok(()) } else { Err(Fault::Page) }
}

/// Bytes that a buffer may have in addition to those that are used. More are given back.
const SPARE: usize = 256 << 10;

/// Returns the bytes that a buffer has once it is [that long](size).
fn capacity(buffer: &Vec<u8>, len: usize) -> usize {
    let has = buffer.capacity();
    if (len..=len + SPARE).contains(&has) {
        has
    } else {
        len
    }
}

/// Makes a buffer that long.
fn size(buffer: &mut Vec<u8>, len: usize) {
    if buffer.capacity() != capacity(buffer, len) {
        *buffer = Vec::new();
        buffer.reserve_exact(len);
    }
    buffer.resize(len, 0);
}

/// Refuses the codecs that are not read.
fn check_codec(codec: i64) -> Result<(), Fault> {
    Err(Fault::Codec(match codec {
        UNCOMPRESSED | SNAPPY | GZIP => return Ok(()),
        3 => "LZO",
        4 => "Brotli",
        5 | 7 => "LZ4",
        6 => "zstd",
        _ => "an unknown codec",
    }))
}

impl Header {
    fn read(thrift: &mut Thrift) -> Result<Self, Fault> {
        let mut header = Self::default();
        let mut has_sizes = (false, false);
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, Kind::Number) => header.kind = thrift.number()?,
                (2, Kind::Number) => {
                    header.size = size_of_page(thrift)?;
                    has_sizes.0 = true;
                }
                (3, Kind::Number) => {
                    header.compressed = size_of_page(thrift)?;
                    has_sizes.1 = true;
                }
                (5, Kind::Struct) => header.read_data(thrift)?,
                (7, Kind::Struct) => header.read_dictionary(thrift)?,
                (8, Kind::Struct) => header.read_data_v2(thrift)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if has_sizes == (true, true) {
            Ok(header)
        } else {
            Err(Fault::Page)
        }
    }

    fn read_data(&mut self, thrift: &mut Thrift) -> Result<(), Fault> {
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, Kind::Number) => self.values = values_of_page(thrift)?,
                (2, Kind::Number) => self.encoding = thrift.number()?,
                (3, Kind::Number) => self.level_encoding = thrift.number()?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    fn read_dictionary(&mut self, thrift: &mut Thrift) -> Result<(), Fault> {
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, Kind::Number) => self.values = values_of_page(thrift)?,
                (2, Kind::Number) => self.encoding = thrift.number()?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    fn read_data_v2(&mut self, thrift: &mut Thrift) -> Result<(), Fault> {
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, Kind::Number) => self.values = values_of_page(thrift)?,
                (4, Kind::Number) => self.encoding = thrift.number()?,
                (5, Kind::Number) => self.definitions = size_of_page(thrift)?,
                (6, Kind::Number) => self.repetitions = size_of_page(thrift)?,
                (7, Kind::Flag(is_compressed)) => self.is_plain = !is_compressed,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

/// Reads a number of bytes. Parquet has 32 bits for it.
fn size_of_page(thrift: &mut Thrift) -> Result<usize, Fault> {
    let size = i32::try_from(thrift.number()?).map_err(|_| Fault::Page)?;
    usize::try_from(size).map_err(|_| Fault::Page)
}

fn values_of_page(thrift: &mut Thrift) -> Result<u64, Fault> {
    size_of_page(thrift).map(|values| values as u64)
}

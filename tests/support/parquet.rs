//! Parquet files: written by the crate `parquet`, or by hand, so that they can say what no writer does.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, GzipLevel, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Field as RowField, Row};
use parquet::schema::types::Type;

/// How a file is written.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the writer"
)]
pub(crate) struct How {
    /// `gzip`, `snappy` or none.
    pub(crate) codec: &'static str,
    pub(crate) is_v2: bool,
    pub(crate) has_dictionary: bool,
    /// Without a dictionary: as plain values, or as parts of the values before.
    pub(crate) is_plain: bool,
    pub(crate) is_optional: bool,
    /// Rows of a row group, and of a page.
    pub(crate) group: usize,
    pub(crate) page: usize,
}

impl Default for How {
    fn default() -> Self {
        Self {
            codec: "snappy",
            is_v2: false,
            has_dictionary: true,
            is_plain: true,
            is_optional: true,
            group: usize::MAX,
            page: 20_000,
        }
    }
}

/// Writes a file of text columns. A value that is `None` is null.
pub(crate) fn parquet(names: &[String], rows: &[Vec<Option<String>>], how: &How) -> Vec<u8> {
    let repetition = if how.is_optional {
        Repetition::OPTIONAL
    } else {
        Repetition::REQUIRED
    };
    let columns = names.iter().map(|name| {
        let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY);
        Arc::new(column.with_repetition(repetition).build().unwrap())
    });
    let schema = Type::group_type_builder("row");
    let schema = schema.with_fields(columns.collect()).build().unwrap();
    let mut properties = WriterProperties::builder()
        .set_compression(match how.codec {
            "gzip" => Compression::GZIP(GzipLevel::default()),
            "snappy" => Compression::SNAPPY,
            _ => Compression::UNCOMPRESSED,
        })
        .set_writer_version(if how.is_v2 {
            WriterVersion::PARQUET_2_0
        } else {
            WriterVersion::PARQUET_1_0
        })
        .set_data_page_row_count_limit(how.page)
        .set_write_batch_size(how.page.min(1024))
        .set_dictionary_enabled(how.has_dictionary);
    if how.is_plain {
        properties = properties.set_encoding(Encoding::PLAIN);
    } else {
        properties = properties.set_encoding(Encoding::DELTA_BYTE_ARRAY);
    }
    let properties = Arc::new(properties.build());
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties).unwrap();
    for rows in rows.chunks(how.group) {
        let mut group = file.next_row_group().unwrap();
        let mut index = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            let values: Vec<ByteArray> = rows
                .iter()
                .filter_map(|row| row[index].as_deref().map(ByteArray::from))
                .collect();
            let levels: Vec<i16> = rows.iter().map(|row| row[index].is_some().into()).collect();
            let levels = how.is_optional.then_some(&levels[..]);
            let writer = column.typed::<ByteArrayType>();
            writer.write_batch(&values, levels, None).unwrap();
            column.close().unwrap();
            index += 1;
        }
        group.close().unwrap();
    }
    file.into_inner().unwrap()
}

/// The values of each row as the crate reads them. Null and `-` are an empty one.
pub(crate) fn by_crate(file: &[u8]) -> Vec<Vec<String>> {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(file)).unwrap();
    let text = |field: &RowField| match field {
        RowField::Bytes(bytes) if bytes.data() != b"-" => {
            String::from_utf8(bytes.data().to_vec()).unwrap()
        }
        _ => String::new(),
    };
    let row = |row: Row| {
        row.get_column_iter()
            .map(|(_, field)| text(field))
            .collect()
    };
    reader
        .get_row_iter(None)
        .unwrap()
        .map(|next| row(next.unwrap()))
        .collect()
}

/// A structure in Thrift's compact protocol.
#[derive(Clone, Default)]
pub(crate) struct Struct(pub(crate) Vec<u8>);

const NUMBER: u8 = 6;
const BYTES: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

impl Struct {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn signed(&mut self, number: i64) {
        self.varint(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    fn field(&mut self, id: i64, kind: u8) {
        self.0.push(kind);
        self.signed(id);
    }

    pub(crate) fn number(mut self, id: i64, number: i64) -> Self {
        self.field(id, NUMBER);
        self.signed(number);
        self
    }

    pub(crate) fn text(mut self, id: i64, text: &str) -> Self {
        self.field(id, BYTES);
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn inner(mut self, id: i64, inner: &Self) -> Self {
        self.field(id, STRUCT);
        self.0.extend_from_slice(&inner.0);
        self.0.push(0);
        self
    }

    /// A list of structures that says it has `len`.
    pub(crate) fn list(mut self, id: i64, len: u64, items: &[Self]) -> Self {
        self.field(id, LIST);
        self.0.push(0xf0 | STRUCT);
        self.varint(len);
        for item in items {
            self.0.extend_from_slice(&item.0);
            self.0.push(0);
        }
        self
    }
}

/// A file with the required columns, plain values and no compression. Each part says what it is told
/// to.
#[derive(Clone)]
pub(crate) struct Made {
    /// What the footer, the row groups and the column chunks say that they have.
    pub(crate) rows: i64,
    pub(crate) group_rows: i64,
    pub(crate) values: i64,
    pub(crate) page_values: i64,
    /// Values of each column.
    pub(crate) written: usize,
    /// Row groups, which all have the same pages unless `has_own_pages`.
    pub(crate) groups: usize,
    pub(crate) has_own_pages: bool,
    /// The type and the repetition of the last column, and the elements in it.
    pub(crate) kind: i64,
    pub(crate) repetition: i64,
    pub(crate) logical: Option<i64>,
    pub(crate) depth: usize,
    /// Columns that are not fields, before the others.
    pub(crate) more_columns: usize,
    pub(crate) codec: i64,
    pub(crate) encoding: i64,
    /// The page, after the values.
    pub(crate) page_kind: i64,
    pub(crate) size: Option<i64>,
    pub(crate) compressed: Option<i64>,
    /// Pages without values before each page.
    pub(crate) empty_pages: usize,
    /// Row groups without rows before the others, as pyarrow writes them.
    pub(crate) empty_groups: usize,
    /// The pages of the last column, if not the usual one.
    pub(crate) pages: Vec<Page>,
    /// Zeros behind the pages of each column.
    pub(crate) padding: usize,
    /// Bytes of the least value of each page, which is in its header.
    pub(crate) statistics: usize,
    /// The start and the length of each column chunk.
    pub(crate) start: Option<i64>,
    pub(crate) len: Option<i64>,
}

/// A page of version 1, or of a dictionary.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) kind: i64,
    pub(crate) encoding: i64,
    pub(crate) values: i64,
    pub(crate) body: Vec<u8>,
}

impl Page {
    fn write(&self, file: &mut Vec<u8>) {
        let len = i64::try_from(self.body.len()).unwrap();
        let data = Struct::default().number(1, self.values);
        let data = data.number(2, self.encoding).number(3, 3).number(4, 3);
        let header = Struct::default().number(1, self.kind);
        let header = header.number(2, len).number(3, len);
        let is_dictionary = self.kind == 2;
        let header = header.inner(if is_dictionary { 7 } else { 5 }, &data);
        file.extend_from_slice(&header.0);
        file.push(0);
        file.extend_from_slice(&self.body);
    }
}

/// Values with their length before them.
pub(crate) fn plain(values: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body
}

pub(crate) const COLUMNS: [(&str, &str); 4] = [
    ("date", "2026-11-14"),
    ("time", "20:00:00"),
    ("cs_method", "GET"),
    ("cs_uri_stem", "/a"),
];

impl Default for Made {
    fn default() -> Self {
        Self {
            rows: 2,
            group_rows: 2,
            values: 2,
            page_values: 2,
            written: 2,
            groups: 1,
            has_own_pages: true,
            kind: 6,
            repetition: 0,
            logical: None,
            statistics: 0,
            padding: 0,
            depth: 0,
            more_columns: 0,
            codec: 0,
            encoding: 0,
            page_kind: 0,
            size: None,
            compressed: None,
            empty_pages: 0,
            empty_groups: 0,
            pages: Vec::new(),
            start: None,
            len: None,
        }
    }
}

impl Made {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut file = b"PAR1".to_vec();
        let nothing = Struct::default().number(4, self.codec).number(5, 0);
        let nothing = nothing.number(7, 0).number(9, 0);
        let chunk = Struct::default().number(2, 0).inner(3, &nothing);
        let chunks = vec![chunk; self.more_columns + COLUMNS.len()];
        let group = Struct::default().list(1, chunks.len() as u64, &chunks);
        let mut groups: Vec<Struct> = vec![group.number(3, 0); self.empty_groups];
        for _ in 0..self.groups {
            if let Some(first) = groups.first().filter(|_| !self.has_own_pages) {
                groups.push(first.clone());
                continue;
            }
            let more = std::iter::repeat_n(("x", "x"), self.more_columns);
            let chunks: Vec<_> = more
                .chain(COLUMNS)
                .map(|(_, value)| self.chunk(value, &mut file))
                .collect();
            let group = Struct::default().list(1, chunks.len() as u64, &chunks);
            groups.push(group.number(3, self.group_rows));
        }
        let footer = Struct::default()
            .number(1, 1)
            .list(2, self.elements().len() as u64, &self.elements())
            .number(3, self.rows)
            .list(4, groups.len() as u64, &groups);
        let start = file.len();
        file.extend_from_slice(&footer.0);
        file.push(0);
        let len = u32::try_from(file.len() - start).unwrap();
        file.extend_from_slice(&len.to_le_bytes());
        file.extend_from_slice(b"PAR1");
        file
    }

    fn elements(&self) -> Vec<Struct> {
        let columns = self.more_columns + COLUMNS.len();
        let root = Struct::default().text(4, "row");
        let mut all = vec![root.number(5, i64::try_from(columns).unwrap())];
        let leaf = |name: &str, kind, repetition| {
            let element = Struct::default().number(1, kind);
            element.number(3, repetition).text(4, name)
        };
        all.extend((0..self.more_columns).map(|index| leaf(&format!("x{index}"), 6, 0)));
        for (name, _) in &COLUMNS[..3] {
            all.push(leaf(name, 6, 0));
        }
        for _ in 0..self.depth {
            all.push(
                Struct::default()
                    .number(3, 0)
                    .text(4, COLUMNS[3].0)
                    .number(5, 1),
            );
        }
        let last = leaf(COLUMNS[3].0, self.kind, self.repetition);
        all.push(match self.logical {
            Some(id) => last.inner(10, &Struct::default().inner(id, &Struct::default())),
            None => last,
        });
        all
    }

    fn chunk(&self, value: &str, file: &mut Vec<u8>) -> Struct {
        let start = file.len();
        let body = plain(&vec![value; self.written]);
        for _ in 0..self.empty_pages {
            let header = Self::page(0, 0, 0, &Struct::default().number(1, 0).number(2, 0));
            file.extend_from_slice(&header.0);
            file.push(0);
        }
        if self.pages.is_empty() || value != COLUMNS[3].1 {
            let len = i64::try_from(body.len()).unwrap();
            let data = Struct::default().number(1, self.page_values);
            let data = data.number(2, self.encoding).number(3, 3).number(4, 3);
            let least = Struct::default().text(2, &"x".repeat(self.statistics));
            let data = data.inner(5, &least);
            let header = Self::page(
                self.page_kind,
                self.size.unwrap_or(len),
                self.compressed.unwrap_or(len),
                &data,
            );
            file.extend_from_slice(&header.0);
            file.push(0);
            file.extend_from_slice(&body);
        } else {
            self.pages.iter().for_each(|page| page.write(file));
        }
        file.resize(file.len() + self.padding, 0);
        let position = |number: usize| i64::try_from(number).unwrap();
        let metadata = Struct::default()
            .number(1, 6)
            .number(4, self.codec)
            .number(5, self.values)
            .number(7, self.len.unwrap_or(position(file.len() - start)))
            .number(9, self.start.unwrap_or(position(start)));
        Struct::default().number(2, 0).inner(3, &metadata)
    }

    fn page(kind: i64, size: i64, compressed: i64, data: &Struct) -> Struct {
        Struct::default()
            .number(1, kind)
            .number(2, size)
            .number(3, compressed)
            .inner(5, data)
    }
}

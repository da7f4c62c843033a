//! *Thrift*: the compact protocol of Apache Thrift, read from a part of a file, a small piece at a
//! time. Nothing is allocated by what the bytes say, and every step goes forward.
//!
//! Format: Apache Thrift, "Thrift compact protocol encoding".

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use super::Fault;

/// Most structures and lists within each other. Parquet has about six.
const MAX_DEPTH: u32 = 32;

/// A part of a file, read from its start to its end.
#[derive(Clone, Debug)]
pub(super) struct Part {
    file: Arc<File>,
    /// The bytes that were not read.
    left: Range<u64>,
}

impl Part {
    pub(super) fn new(file: Arc<File>, range: Range<u64>) -> Self {
        Self { file, left: range }
    }
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.end.saturating_sub(self.left.start));
        let most = most.unwrap_or(usize::MAX).min(buf.len());
        // The parts of a file share its position.
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(self.left.start))?;
        let read = file.read(&mut buf[..most])?;
        self.left.start += read as u64;
        Ok(read)
    }
}

/// The type of a field or of the items of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A truth value, which a field has in its type.
    Flag(bool),
    Byte,
    /// A number of 16, 32 or 64 bits.
    Number,
    Double,
    Bytes,
    List,
    Map,
    Struct,
    Uuid,
}

impl Kind {
    fn of(code: u8) -> Result<Self, Fault> {
        Ok(match code {
            1 => Self::Flag(true),
            2 => Self::Flag(false),
            3 => Self::Byte,
            4..=6 => Self::Number,
            7 => Self::Double,
            8 => Self::Bytes,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => return Err(Fault::Metadata),
        })
    }
}

/// A reader of values in the compact protocol.
pub(super) struct Thrift {
    part: Part,
    piece: [u8; 512],
    /// The bytes of the piece that were not read.
    ahead: Range<usize>,
    /// Structures and lists that are open.
    depth: u32,
    is_stopped: bool,
}

impl Thrift {
    pub(super) fn new(part: Part) -> Self {
        Self {
            part,
            piece: [0; 512],
            ahead: 0..0,
            depth: 0,
            is_stopped: false,
        }
    }

    /// Ends the reading of the structure whose field is being read. What follows can be read on.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Returns the offset of the next byte in the file.
    pub(super) fn offset(&self) -> u64 {
        self.part.left.start - self.ahead.len() as u64
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        if self.ahead.is_empty() {
            let read = read_some(&mut self.part, &mut self.piece)?;
            if read == 0 {
                return Err(Fault::Metadata);
            }
            self.ahead = 0..read;
        }
        let byte = self.piece[self.ahead.start];
        self.ahead.start += 1;
        Ok(byte)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Fault> {
        let ahead = self
            .ahead
            .len()
            .min(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.ahead.start += ahead;
        let left = &mut self.part.left;
        left.start = (bytes - ahead as u64)
            .checked_add(left.start)
            .filter(|start| *start <= left.end)
            .ok_or(Fault::Metadata)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Fault::Metadata)
    }

    pub(super) fn number(&mut self) -> Result<i64, Fault> {
        self.varint().map(unzigzag)
    }

    /// Reads bytes that are not a value of the protocol.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        Ok(bytes)
    }

    /// Reads a text of at most `most` bytes.
    pub(super) fn bytes(&mut self, most: usize) -> Result<Vec<u8>, Fault> {
        let len = self.varint()?;
        let len = usize::try_from(len).ok().filter(|len| *len <= most);
        let len = len.ok_or(Fault::Metadata)?;
        let mut bytes = Vec::with_capacity(len);
        for _ in 0..len {
            bytes.push(self.byte()?);
        }
        Ok(bytes)
    }

    /// Reads the fields of a structure. `read` reads the value of a field and returns `true`, or
    /// returns `false` for one that is to be skipped.
    pub(super) fn fields(
        &mut self,
        mut read: impl FnMut(&mut Self, i64, Kind) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        self.open()?;
        let mut id = 0_i64;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                break;
            }
            id = match byte >> 4 {
                0 => self.number()?,
                step => id + i64::from(step),
            };
            if !(0..=i64::from(i16::MAX)).contains(&id) {
                return Err(Fault::Metadata);
            }
            let kind = Kind::of(byte & 0xf)?;
            if !read(self, id, kind)? {
                self.skip_value(kind, true)?;
            }
            if std::mem::take(&mut self.is_stopped) {
                break;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads the beginning of a list: the type of its items, and their number.
    pub(super) fn list(&mut self) -> Result<(Kind, u64), Fault> {
        let byte = self.byte()?;
        let items = match byte >> 4 {
            15 => self.varint()?,
            items => items.into(),
        };
        if items == 0 {
            return Ok((Kind::Byte, 0)); // an empty list may have no type
        }
        Ok((Kind::of(byte & 0xf)?, items))
    }

    fn open(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::Metadata);
        }
        Ok(())
    }

    /// Skips a value. A truth value takes a byte, unless it is that of a field.
    fn skip_value(&mut self, kind: Kind, is_field: bool) -> Result<(), Fault> {
        match kind {
            Kind::Flag(_) if is_field => Ok(()),
            Kind::Flag(_) | Kind::Byte => self.skip(1),
            Kind::Number => self.varint().map(|_| ()),
            Kind::Double => self.skip(8),
            Kind::Uuid => self.skip(16),
            Kind::Bytes => {
                let len = self.varint()?;
                self.skip(len)
            }
            Kind::Struct => self.fields(|_, _, _| Ok(false)),
            Kind::List => {
                self.open()?;
                let (kind, items) = self.list()?;
                for _ in 0..items {
                    self.skip_value(kind, false)?;
                }
                self.depth -= 1;
                Ok(())
            }
            Kind::Map => {
                self.open()?;
                let items = self.varint()?;
                if items > 0 {
                    let kinds = self.byte()?;
                    let (key, value) = (Kind::of(kinds >> 4)?, Kind::of(kinds & 0xf)?);
                    for _ in 0..items {
                        self.skip_value(key, false)?;
                        self.skip_value(value, false)?;
                    }
                }
                self.depth -= 1;
                Ok(())
            }
        }
    }
}

/// Returns the number that is written so that small negative numbers are short too.
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Reads as much as one call gives.
fn read_some(part: &mut Part, buf: &mut [u8]) -> Result<usize, Fault> {
    loop {
        match part.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return Ok(read?),
        }
    }
}

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn thrift(bytes: &[u8]) -> Thrift {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Thrift::new(Part::new(Arc::new(file), 0..bytes.len() as u64))
    }

    /// The number of field 15 in a structure whose other fields are skipped.
    fn field_15(thrift: &mut Thrift) -> Result<Option<i64>, Fault> {
        let mut number = None;
        thrift.fields(|thrift, id, kind| {
            let is_it = (id, kind) == (15, Kind::Number);
            if is_it {
                number = Some(thrift.number()?);
            }
            Ok(is_it)
        })?;
        Ok(number)
    }

    #[test]
    fn values_of_every_type_are_skipped() {
        let long = [&[0x18, 0x80, 0x08][..], &[b'x'; 1024]].concat(); // over the piece
        let cases: [&[u8]; 14] = [
            &[],
            &[0x11],                         // true
            &[0x12],                         // false
            &[0x13, 0xff],                   // a byte
            &[0x16, 0xff, 0xff, 3],          // a number
            &[0x17, 1, 2, 3, 4, 5, 6, 7, 8], // a double
            &[0x18, 2, b'a', b'b'],          // bytes
            &[0x19, 0x25, 1, 2],             // a list of two numbers
            &[0x19, 0xf1, 2, 1, 2],          // a list of two truth values, its length apart
            &[0x19, 0x1c, 0x15, 2, 0],       // a list of a structure
            &[0x1b, 1, 0x58, 4, 1, b'x'],    // a map of a number to bytes
            &[0x1b, 0],                      // an empty map has no types
            &[0x1c, 0x15, 2, 0x11, 0],       // a structure
            &long,
        ];
        for skipped in cases {
            // The identifier in full, then 300.
            let bytes = [skipped, &[0x05, 30, 0xd8, 4], &[0, 9]].concat();
            let mut whole = thrift(&bytes);
            assert_eq!(field_15(&mut whole).unwrap(), Some(300), "{skipped:?}");
            assert_eq!(whole.offset(), bytes.len() as u64 - 1);
            for len in 0..bytes.len() - 1 {
                let cut = field_15(&mut thrift(&bytes[..len]));
                assert!(matches!(cut, Err(Fault::Metadata)), "{skipped:?} {len}");
            }
        }
    }

    #[test]
    fn numbers_have_at_most_ten_bytes() {
        let least = [&[0xff; 9][..], &[1]].concat();
        let most = [&[0xfe][..], &[0xff; 8], &[1]].concat();
        for (bytes, expected) in [
            (&[0][..], Some(0)),
            (&[1], Some(-1)),
            (&[2], Some(1)),
            (&least, Some(i64::MIN)),
            (&most, Some(i64::MAX)),
            (&[0xff; 11], None),
            (&[0x80], None),
        ] {
            assert_eq!(thrift(bytes).number().ok(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn bytes_longer_than_allowed_are_refused() {
        assert_eq!(thrift(b"\x02ab").bytes(2).unwrap(), b"ab");
        for bytes in [&b"\x03abc"[..], b"\x02a", &[0xff; 9]] {
            assert!(thrift(bytes).bytes(2).is_err());
        }
    }

    #[test]
    fn fields_without_a_valid_identifier_are_refused() {
        for bytes in [
            &[0x05, 1, 0, 0][..],         // -1
            &[0x05, 0x80, 0x80, 4, 0, 0], // 32,768
            &[0x1e, 0, 0],                // an unknown type
        ] {
            assert!(field_15(&mut thrift(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn structures_within_each_other_are_bounded() {
        for (start, depth, is_read) in [(0x1c, 31, true), (0x1c, 32, false)] {
            let bytes = [vec![start; depth], vec![0; depth + 1]].concat();
            assert_eq!(field_15(&mut thrift(&bytes)).is_ok(), is_read, "{depth}");
        }
        let lists = [&[0x19][..], &[0x19; 100]].concat();
        assert!(field_15(&mut thrift(&lists)).is_err());
    }

    #[test]
    fn stopped_structure_is_read_on() {
        let mut thrift = thrift(&[0x15, 2, 0x15, 4, 0]);
        thrift
            .fields(|thrift, _, _| {
                thrift.number()?;
                thrift.stop();
                Ok(true)
            })
            .unwrap();
        assert_eq!(thrift.offset(), 2);
    }
}

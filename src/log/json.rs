//! Reads a line of a JSON log into a row. Values are percent-encoded strings, as in the other
//! formats.

use std::borrow::Cow;
use std::fmt;

use csv::ByteRecord;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The keys of the last line, in its order. Nearly all lines of a log have the same.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Vec<u8>>);

impl Keys {
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Reads a line's values into `row`. Returns whether its keys differ from those of the line
    /// before.
    ///
    /// # Errors
    /// If the line is not exactly one JSON object. The error must not be shown: it may quote the
    /// line.
    pub(super) fn read(
        &mut self,
        line: &[u8],
        row: &mut ByteRecord,
    ) -> Result<bool, serde_json::Error> {
        row.clear();
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let read = Object {
            keys: &mut self.0,
            row,
        }
        .deserialize(&mut deserializer);
        let read = read.and_then(|changed| deserializer.end().map(|()| changed));
        if read.is_err() {
            self.0.clear(); // they may be a mix of two lines
            row.clear();
        }
        read
    }
}

struct Object<'a> {
    keys: &'a mut Vec<Vec<u8>>,
    row: &'a mut ByteRecord,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let (mut count, mut changed) = (0, false);
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            if self.keys.get(count).map(Vec::as_slice) != Some(key.as_bytes()) {
                changed = true;
                self.keys.truncate(count);
                self.keys.push(key.as_bytes().to_vec());
            }
            count += 1;
            map.next_value_seed(Cell(self.row))?;
        }
        changed |= self.keys.len() != count;
        self.keys.truncate(count);
        Ok(changed)
    }
}

/// A string. It is borrowed from the line unless it contains escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends one value to the row. Arrays and objects, which access logs do not contain, become
/// empty.
struct Cell<'a>(&'a mut ByteRecord);

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.0.push_field(value.as_bytes());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0
            .push_field(itoa::Buffer::new().format(value).as_bytes());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0
            .push_field(itoa::Buffer::new().format(value).as_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.push_field(value.to_string().as_bytes());
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push_field(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push_field(b"");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push_field(b"");
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.push_field(b"");
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

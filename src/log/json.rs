//! A line of a JSON log → the cells of a row. Values are strings, percent-encoded as in every other format.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Row;

/// The keys of the last line, in their order: those of nearly every line.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// The keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Reads a line's values into `row`, in the order of its keys. Returns whether the keys are others than those of the line
    /// before.
    ///
    /// # Errors
    /// When the line is not one JSON object. The error could quote it.
    pub(super) fn read(&mut self, line: &[u8], row: &mut Row) -> Result<bool, serde_json::Error> {
        row.clear();
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let read = Object {
            keys: &mut self.0,
            row,
        }
        .deserialize(&mut deserializer);
        let read = read.and_then(|changed| deserializer.end().map(|()| changed));
        if read.is_err() {
            self.0.clear(); // half of them may be another line's
            row.clear();
        }
        read
    }
}

struct Object<'a> {
    keys: &'a mut Vec<Vec<u8>>,
    row: &'a mut Row,
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

/// A string, borrowed from the line where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends one value to the row: a string as it is, a number in its digits; nothing for what no access log holds.
struct Cell<'a>(&'a mut Row);

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
        self.0.push(value.as_bytes());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.push(itoa::Buffer::new().format(value).as_bytes());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.push(itoa::Buffer::new().format(value).as_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.push(value.to_string().as_bytes());
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push(b"");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push(b"");
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.push(b"");
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

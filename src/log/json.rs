//! Scans a JSON object, in as many pieces as it comes. Where the object ends and what values it has
//! is found in one pass.
//!
//! Nearly every member of a log has the name that the object before has at the same place, and a
//! plain string. Such names are compared, and the ends of such strings searched, 32 bytes at a
//! time. All else is left to a scanner of single characters, which is the only one that decides
//! what is broken.
//!
//! Only what could move the end of a value or of the object is checked. An unknown escape, and a
//! control character other than a newline, stay in their value.

use std::ops::Range;

use super::MAX_LINE;
use crate::simd::{Prefix, find};

/// Most members of an object that is read as a row. CloudFront has about 50 fields.
pub(super) const MAX_MEMBERS: usize = 1_000;
/// Most brackets that may be open.
const MAX_DEPTH: u32 = u128::BITS;
/// Bytes of the longest number.
const MAX_SCALAR: usize = 1_000;
/// How the member begins whose array is [looked into](Scanner::items).
const RECORDS: &[u8] = b"\"Records\":\"";
/// Most names of the array's first object that are kept. `CloudTrail` has about 30.
const MAX_INNER: usize = 100;

/// What came of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The object continues behind the piece.
    More,
    /// The object ends at [`Scanner::at`].
    Closed,
    /// The byte at [`Scanner::at`] cannot follow those before it, or the word that ends there is
    /// unknown.
    Broken,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Name,
    NameOrEnd,
    Colon,
    Value,
    ValueOrEnd,
    CommaOrEnd,
    RestOfName,
    RestOfText,
    /// The rest of a number, or of `true`, `false` or `null`.
    RestOfScalar,
}

/// A value of an object, as a range of its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: Range<usize>,
    pub(super) has_escapes: bool,
}

/// The scan of an object, and of the one before it.
#[derive(Debug)]
pub(super) struct Scanner {
    /// End of the scanned text. It counts from the start of the object, without what was forgotten.
    pub(super) at: usize,
    /// Bytes at the start that were [forgotten](Self::forget).
    forgotten: usize,
    /// Newlines in the scanned text.
    pub(super) newlines: u64,
    next: Next,
    /// The string or scalar that is being read; its end is not known.
    current: Value,
    /// The open brackets: their number, and for each a bit that is set if it is that of an object.
    depth: u32,
    objects: u128,
    /// Where they are, unless some text was forgotten.
    opened: [usize; MAX_DEPTH as usize],
    /// The values, in the order of the names. Arrays, objects and `null` are empty.
    pub(super) values: Vec<Value>,
    /// How many strings may not be plain: ASCII without escapes or control characters.
    pub(super) special: usize,
    /// How a member with a string begins, `"name":"`, for the names of the last object. Nearly all
    /// objects of a log have the same names, written the same way.
    beginnings: Vec<Prefix>,
    /// How many of them are names of this object.
    named: usize,
    /// Whether they may be a mix of those of two objects.
    is_mixed: bool,
    /// Whether the names differ from those of the object before.
    pub(super) has_new_names: bool,
    /// Whether the object has more than [`MAX_MEMBERS`].
    pub(super) has_too_many: bool,
    /// What the array `Records` contains, as far as its first object.
    pub(super) items: Items,
}

/// What is known of an array.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Items {
    /// Not an array, or one that does not begin with an object.
    #[default]
    Other,
    Empty,
    /// The names of its first object, as they are written.
    Object {
        names: Vec<Vec<u8>>,
        is_complete: bool,
    },
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            at: 0,
            forgotten: 0,
            newlines: 0,
            next: Next::Name,
            current: Value::default(),
            depth: 0,
            objects: 0,
            opened: [0; MAX_DEPTH as usize],
            values: Vec::new(),
            special: 0,
            beginnings: Vec::new(),
            named: 0,
            is_mixed: false,
            has_new_names: false,
            has_too_many: false,
            items: Items::Other,
        }
    }

    /// Begins an object. Its first byte, `{`, counts as scanned.
    pub(super) fn begin(&mut self) {
        self.at = 1;
        self.forgotten = 0;
        self.newlines = 0;
        self.next = Next::NameOrEnd;
        (self.depth, self.objects) = (1, 1);
        self.opened[0] = 0;
        self.values.clear();
        self.special = 0;
        self.has_new_names = std::mem::take(&mut self.is_mixed);
        if self.has_new_names {
            self.beginnings.clear();
        }
        self.named = 0;
        self.has_too_many = false;
        self.items = Items::Other;
    }

    /// Returns the number of bytes scanned.
    pub(super) fn len(&self) -> usize {
        self.forgotten + self.at
    }

    /// Returns where the brackets are that are open. Nothing may be forgotten.
    pub(super) fn open(&self) -> &[usize] {
        &self.opened[..self.depth as usize]
    }

    /// Gives up the values. Returns how many bytes at the start are not needed any more.
    pub(super) fn forget(&mut self) -> usize {
        let needed = match self.next {
            Next::RestOfScalar => self.current.text.start,
            _ => self.at,
        };
        self.at -= needed;
        self.current.text.start = 0;
        self.forgotten += needed;
        self.has_too_many = true;
        needed
    }

    /// Gives up the values of an object with a defect, and its names once the next one begins.
    pub(super) fn give_up(&mut self) {
        self.values.clear();
        self.is_mixed = true;
    }

    /// Returns the names of the object's members as they are written, with escapes. Of an object
    /// that is too long or has too many members, these are the first ones.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        let names = self.beginnings.iter().take(self.named);
        names.map(|beginning| {
            let text = beginning.text();
            &text[1..text.len() - 3]
        })
    }

    /// Scans on. `text` starts where the object does, without what was forgotten, and must be longer
    /// than before.
    pub(super) fn scan(&mut self, text: &[u8]) -> Step {
        loop {
            self.scan_members(text);
            let step = match self.next {
                Next::RestOfText | Next::RestOfName => self.scan_string(text),
                Next::RestOfScalar => self.scan_scalar(text),
                _ => self.scan_punctuation(text),
            };
            if let Some(step) = step {
                if step == Step::Closed {
                    self.has_new_names |= self.named != self.beginnings.len();
                    self.beginnings.truncate(self.named);
                }
                return step;
            }
        }
    }

    /// Scans members that begin like those of the object before, up to a string that is not plain or
    /// does not end in `text`.
    fn scan_members(&mut self, text: &[u8]) {
        if self.depth > 1 || self.has_too_many {
            return;
        }
        // No name behind it counts: see `scan_string`.
        let text = &text[..text.len().min(MAX_LINE)];
        let mut name = match self.next {
            Next::NameOrEnd => self.at,
            Next::CommaOrEnd if text.get(self.at) == Some(&b',') => self.at + 1,
            _ => return,
        };
        while let Some(beginning) = self.beginnings.get(self.values.len())
            && let Some(rest) = text.get(name..)
            && beginning.begins(rest)
        {
            let start = name + beginning.text().len();
            let Some(end) = plain_end(text, start) else {
                self.named = self.values.len() + 1;
                self.at = start;
                self.begin_value(Next::RestOfText, 0);
                return;
            };
            self.values.push(Value {
                text: start..end,
                has_escapes: false,
            });
            self.named = self.values.len();
            self.at = end + 1;
            self.next = Next::CommaOrEnd;
            if text.get(self.at) != Some(&b',') {
                return;
            }
            name = self.at + 1;
        }
    }

    #[inline]
    fn scan_string(&mut self, text: &[u8]) -> Option<Step> {
        loop {
            let Some(found) = memchr::memchr3(b'"', b'\\', b'\n', &text[self.at..]) else {
                self.at = text.len();
                return Some(Step::More);
            };
            self.at += found;
            match text[self.at] {
                b'"' => break,
                b'\\' => {
                    self.current.has_escapes = true;
                    match text.get(self.at + 1) {
                        None => return Some(Step::More),
                        Some(b'\n') => self.at += 1,
                        Some(_) => self.at += 2,
                    }
                }
                _ => return Some(Step::Broken),
            }
        }
        let end = self.at;
        self.at += 1;
        if self.next == Next::RestOfText {
            self.special += 1;
            self.end_value(self.current.text.start..end);
        } else {
            let name = &text[self.current.text.start..end];
            match self.depth {
                // Of a name behind it, a part may be forgotten.
                _ if self.len() > MAX_LINE => {}
                1 => self.note_name(name),
                3 => self.note_inner_name(name),
                _ => {}
            }
            self.next = Next::Colon;
        }
        None
    }

    fn scan_scalar(&mut self, text: &[u8]) -> Option<Step> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let end = text[self.at..].iter().position(|byte| !is_part(byte));
        let scanned = end.map_or(text.len(), |end| self.at + end);
        if scanned - self.current.text.start > MAX_SCALAR {
            self.at = self.current.text.start + MAX_SCALAR;
            return Some(Step::Broken);
        }
        self.at = scanned;
        if end.is_none() {
            return Some(Step::More);
        }
        match &text[self.current.text.start..scanned] {
            b"null" => self.end_value(0..0),
            b"true" | b"false" | [b'-' | b'0'..=b'9', ..] => {
                self.end_value(self.current.text.start..scanned);
            }
            // Not back to its start: what lies before may be forgotten.
            _ => return Some(Step::Broken),
        }
        None
    }

    /// Scans one character that is not part of a value.
    fn scan_punctuation(&mut self, text: &[u8]) -> Option<Step> {
        let Some(&byte) = text.get(self.at) else {
            return Some(Step::More);
        };
        match (self.next, byte) {
            (_, b' ' | b'\t' | b'\r') => {}
            (_, b'\n') => self.newlines += 1,
            (Next::Name | Next::NameOrEnd, b'"') => self.begin_value(Next::RestOfName, 1),
            (Next::Colon, b':') => self.next = Next::Value,
            (Next::Value | Next::ValueOrEnd, b'"') => self.begin_value(Next::RestOfText, 1),
            (Next::Value | Next::ValueOrEnd, b'{' | b'[') => {
                if self.depth == MAX_DEPTH {
                    return Some(Step::Broken);
                }
                let is_object = byte == b'{';
                if is_object && self.depth == 2 && self.next == Next::ValueOrEnd {
                    self.begin_items();
                }
                let bit = 1 << self.depth;
                self.objects = self.objects & !bit | if is_object { bit } else { 0 };
                self.opened[self.depth as usize] = self.at;
                self.depth += 1;
                self.next = if is_object {
                    Next::NameOrEnd
                } else {
                    Next::ValueOrEnd
                };
            }
            (Next::Value | Next::ValueOrEnd, b'-' | b'0'..=b'9' | b'a'..=b'z') => {
                self.begin_value(Next::RestOfScalar, 0);
                return None;
            }
            (Next::CommaOrEnd, b',') => {
                self.next = if self.is_in_object() {
                    Next::Name
                } else {
                    Next::Value
                };
            }
            (Next::CommaOrEnd, b'}') if self.is_in_object() => return self.end_bracket(),
            (Next::CommaOrEnd, b']') if !self.is_in_object() => return self.end_bracket(),
            (Next::ValueOrEnd, b']') => {
                if self.depth == 2 && self.is_in_records() {
                    self.items = Items::Empty;
                }
                return self.end_bracket();
            }
            (Next::NameOrEnd, b'}') => return self.end_bracket(),
            _ => return Some(Step::Broken),
        }
        self.at += 1;
        None
    }

    fn is_in_object(&self) -> bool {
        self.objects >> (self.depth - 1) & 1 == 1
    }

    fn begin_value(&mut self, next: Next, quote: usize) {
        self.current.text.start = self.at + quote;
        self.current.has_escapes = false;
        self.next = next;
    }

    #[inline]
    fn end_value(&mut self, text: Range<usize>) {
        self.next = Next::CommaOrEnd;
        if self.depth > 1 {
            return;
        }
        if self.values.len() >= MAX_MEMBERS {
            self.has_too_many = true;
        }
        if !self.has_too_many {
            let has_escapes = self.current.has_escapes;
            self.values.push(Value { text, has_escapes });
        }
    }

    fn end_bracket(&mut self) -> Option<Step> {
        self.at += 1;
        self.depth -= 1;
        if self.depth == 0 {
            return Some(Step::Closed);
        }
        if let Items::Object { is_complete, .. } = &mut self.items {
            *is_complete |= self.depth == 2;
        }
        self.current.has_escapes = false;
        self.end_value(0..0);
        None
    }

    /// Compares a name with that of the object before.
    fn note_name(&mut self, name: &[u8]) {
        let index = self.values.len();
        if index >= MAX_MEMBERS || self.has_too_many {
            return;
        }
        self.named = index + 1;
        if self.names().nth(index) != Some(name) {
            self.has_new_names = true;
            self.beginnings.truncate(index);
            let beginning = [b"\"", name, b"\":\""].concat();
            self.beginnings.push(Prefix::new(beginning));
        }
    }

    fn is_in_records(&self) -> bool {
        let member = self.named.checked_sub(1);
        member.is_some_and(|index| self.beginnings[index].text() == RECORDS)
    }

    /// Notes that an array begins with an object.
    fn begin_items(&mut self) {
        if self.is_in_records() {
            self.items = Items::Object {
                names: Vec::new(),
                is_complete: false,
            };
        }
    }

    fn note_inner_name(&mut self, name: &[u8]) {
        if let Items::Object {
            names,
            is_complete: false,
        } = &mut self.items
            && names.len() < MAX_INNER
        {
            names.push(name.to_vec());
        }
    }
}

/// Returns the end of the string that continues at `start`, if it is plain: ASCII without escapes or
/// control characters. May miss an end among the last 31 bytes of `text`.
#[inline]
fn plain_end(text: &[u8], start: usize) -> Option<usize> {
    let end = find(text, start, |lanes| {
        // As signed numbers, bytes above ASCII are negative.
        lanes.simd_eq(b'"'.cast_signed())
            | lanes.simd_eq(b'\\'.cast_signed())
            | lanes.simd_lt(b' '.cast_signed())
    })?;
    (text[end] == b'"').then_some(end)
}

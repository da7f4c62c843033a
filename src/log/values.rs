//! Splits a JSON text into its objects. They may stand one per line, one behind the other, in an
//! array, or over several lines.
//!
//! Where an object ends, and how reading goes on behind what is not an object, depends on the bytes
//! of the text alone, not on how they are read. Row numbers mean the same at every attempt.

use std::borrow::Cow;
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};

use super::json::{Items, Scanner, Step, Value};
use super::{Defect, MAX_LINE};

/// Bytes to read at once. The buffer grows for a longer object, to 2 MiB at most: behind an object
/// that is not complete after [`MAX_LINE`] bytes, and in the search for the next one, no more than
/// that is kept.
const BUFFER: usize = 256 << 10;

/// What may stand between objects, in addition to newlines: blanks, the brackets and commas of arrays, byte
/// order marks, and record separators (RFC 7464).
const BETWEEN: &[u8] = b" \t\r,[]\x1e\xef\xbb\xbf";

/// Reads JSON objects one by one. Their values are slices of its buffer, unless they have escapes.
pub(super) struct Values<R> {
    text: R,
    object: Object,
    /// End of the text in the buffer.
    filled: usize,
    /// Start of the text behind the current object.
    next: usize,
    /// Whether only blanks precede it in its line.
    is_line_start: bool,
    /// Number of newlines before it.
    newlines: u64,
    /// Number of bytes before the buffer.
    before: usize,
    broken: Broken,
    defect: Option<Defect>,
    /// The lines of the current object, from 0.
    lines: Range<u64>,
}

/// Where an object was last found broken, and the brackets that were open there. The objects among
/// them are broken too, and need no other scan. Offsets count from the start of the text.
#[derive(Debug, Default)]
struct Broken {
    at: usize,
    open: Vec<usize>,
}

/// The current object, in the buffer.
pub(super) struct Object {
    buffer: Vec<u8>,
    range: Range<usize>,
    scanner: Scanner,
    /// Its values that are changed by unescaping.
    unescaped: Vec<u8>,
}

impl Object {
    /// Returns the value of a member.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let Value { text, has_escapes } = self.scanner.values.get(index)?;
        if *has_escapes {
            return self.unescaped.get(text.clone());
        }
        let start = self.range.start;
        self.buffer.get(start + text.start..start + text.end)
    }
}

/// Where the search for the next object ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Newline,
    Object,
    End,
}

impl<R: Read> Values<R> {
    /// Reads the objects of `head`, followed by `text`. Does not read before the first
    /// [`advance`](Self::advance).
    pub(super) fn new(head: Vec<u8>, text: R) -> Self {
        Self {
            text,
            filled: head.len(),
            object: Object {
                buffer: head,
                range: 0..0,
                scanner: Scanner::new(),
                unescaped: Vec::new(),
            },
            next: 0,
            is_line_start: true,
            newlines: 0,
            before: 0,
            broken: Broken::default(),
            defect: None,
            lines: 0..0,
        }
    }

    /// Goes to the next object, or to the next piece of other text, which has a defect. Returns
    /// `false` at the end of the text.
    ///
    /// # Errors
    /// Read errors of the text. An incomplete object before the error is dropped.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        self.object.range = 0..0;
        self.object.scanner.values.clear();
        self.defect = Some(Defect::NotJson);
        loop {
            if self.next == self.filled && !self.fill()? {
                return Ok(false);
            }
            let byte = self.object.buffer[self.next];
            self.lines = self.newlines..self.newlines + 1;
            match byte {
                b'\n' => {
                    self.skip(1);
                    self.is_line_start = true;
                }
                _ if BETWEEN.contains(&byte) => self.next += 1,
                b'{' => {
                    self.is_line_start = false;
                    self.defect = self.read_object()?;
                    return Ok(true);
                }
                b'#' if self.is_line_start => {
                    if self.search()? == Found::Object {
                        return Ok(true);
                    }
                }
                _ => {
                    self.is_line_start = false;
                    self.search()?;
                    return Ok(true);
                }
            }
        }
    }

    fn read_object(&mut self) -> io::Result<Option<Defect>> {
        let start = self.before + self.next;
        if self.broken.open.binary_search(&start).is_ok() {
            return self.resume(self.broken.at - self.before);
        }
        self.object.scanner.begin();
        loop {
            let step = self
                .object
                .scanner
                .scan(&self.object.buffer[self.next..self.filled]);
            let is_long = self.object.scanner.len() > MAX_LINE;
            match step {
                Step::Closed => {
                    self.object.range = self.next..self.next + self.object.scanner.at;
                    self.next = self.object.range.end;
                    self.newlines += self.object.scanner.newlines;
                    self.lines.end = self.newlines + 1;
                    return Ok(self.finish_object(is_long));
                }
                Step::Broken => return self.skip_broken(is_long),
                Step::More => {
                    if is_long {
                        self.next += self.object.scanner.forget();
                    }
                    if !self.fill()? {
                        return self.skip_broken(is_long);
                    }
                }
            }
        }
    }

    /// Prepares the values of a complete object, unless it has a defect.
    fn finish_object(&mut self, is_long: bool) -> Option<Defect> {
        let defect = if is_long {
            Defect::TooLong
        } else if self.object.scanner.has_too_many {
            Defect::TooMany
        } else {
            self.unescape();
            return None;
        };
        self.object.scanner.give_up();
        Some(defect)
    }

    /// Goes behind an object whose byte at the end of the scan is wrong, or missing.
    fn skip_broken(&mut self, is_long: bool) -> io::Result<Option<Defect>> {
        self.object.scanner.give_up();
        let end = self.next + self.object.scanner.at;
        if is_long {
            self.newlines += self.object.scanner.newlines;
            self.next = end;
            self.search()?;
            return Ok(Some(Defect::TooLong));
        }
        let start = self.before + self.next;
        self.broken.at = self.before + end;
        self.broken.open.clear();
        let open = self.object.scanner.open().iter();
        self.broken.open.extend(open.map(|at| start + at));
        self.resume(end)
    }

    /// Goes behind an object that is broken at `end`. Reading resumes at the object's next line that
    /// begins another one: a line was cut. Without such a line, it resumes behind the wrong byte.
    fn resume(&mut self, end: usize) -> io::Result<Option<Defect>> {
        let seen = &self.object.buffer[self.next..self.filled.min(end + 1)];
        let begins_object = |newline: &usize| {
            let mut after = seen[newline + 1..].iter();
            after.find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) == Some(&b'{')
        };
        let cut = memchr::memchr_iter(b'\n', seen).find(begins_object);
        if let Some(newline) = cut {
            self.skip(newline);
        } else {
            self.skip(end - self.next);
            self.search()?;
        }
        self.lines.end = self.newlines + 1;
        Ok(Some(Defect::NotJson))
    }

    /// Goes to the next newline or, if none follows within [`MAX_LINE`] bytes, to the next `{` behind
    /// a `}`, with only blanks or commas between them.
    fn search(&mut self) -> io::Result<Found> {
        let mut searched = 0;
        loop {
            let window = &self.object.buffer[self.next..self.filled.min(self.next + MAX_LINE)];
            if let Some(newline) = memchr::memchr(b'\n', &window[searched..]) {
                self.next += searched + newline;
                return Ok(Found::Newline);
            }
            searched = window.len();
            if searched == MAX_LINE || !self.fill()? {
                break;
            }
        }
        self.search_further()
    }

    /// Goes to the next `{` behind a `}`, or to a newline that comes before.
    fn search_further(&mut self) -> io::Result<Found> {
        let mut is_behind_object = false;
        loop {
            while self.next < self.filled {
                match self.object.buffer[self.next] {
                    b'\n' => return Ok(Found::Newline),
                    b'{' if is_behind_object => return Ok(Found::Object),
                    b'}' => is_behind_object = true,
                    b' ' | b'\t' | b'\r' | b',' => {}
                    _ => is_behind_object = false,
                }
                self.next += 1;
            }
            if !self.fill()? {
                return Ok(Found::End);
            }
        }
    }

    /// Goes over bytes of the buffer, and counts their newlines.
    fn skip(&mut self, len: usize) {
        let skipped = &self.object.buffer[self.next..self.next + len];
        self.newlines += memchr::memchr_iter(b'\n', skipped).count() as u64;
        self.next += len;
    }

    /// Moves the text that was not read to the front of the buffer and reads more behind it. Returns
    /// `false` at the end of the text.
    fn fill(&mut self) -> io::Result<bool> {
        self.object.buffer.copy_within(self.next..self.filled, 0);
        self.filled -= self.next;
        self.before += self.next;
        self.next = 0;
        if self.filled == self.object.buffer.len() {
            self.object
                .buffer
                .resize((self.filled + 1).next_power_of_two(), 0);
        }
        loop {
            match self.text.read(&mut self.object.buffer[self.filled..]) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.filled += read;
                    // Only now, because the head often is the whole text.
                    self.object
                        .buffer
                        .resize(self.object.buffer.len().max(BUFFER), 0);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R> Values<R> {
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.object.buffer.capacity()
    }

    /// Why the current text is not an object with values.
    pub(super) fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// The current object.
    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    /// Whether the names of the current object differ from those of the one before.
    pub(super) fn has_new_names(&self) -> bool {
        self.object.scanner.has_new_names
    }

    /// The names of the current object.
    pub(super) fn names(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        self.object.scanner.names().map(|name| {
            let mut plain = Vec::new();
            unescape(name, &mut plain);
            Cow::Owned(plain)
        })
    }

    /// What the array `Records` of the current object contains.
    pub(super) fn items(&self) -> &Items {
        &self.object.scanner.items
    }

    /// The lines of the current object, from 1.
    pub(super) fn lines(&self) -> RangeInclusive<u64> {
        self.lines.start + 1..=self.lines.end
    }

    /// Replaces values that are not the text they stand for.
    fn unescape(&mut self) {
        let Object {
            buffer,
            range,
            scanner,
            unescaped,
        } = &mut self.object;
        if scanner.special == 0 {
            return;
        }
        unescaped.clear();
        let object = &buffer[range.clone()];
        let is_ascii = object.is_ascii();
        for value in &mut scanner.values {
            let text = &object[value.text.clone()];
            if !value.has_escapes && (is_ascii || std::str::from_utf8(text).is_ok()) {
                continue;
            }
            let start = unescaped.len();
            unescape(text, unescaped);
            value.text = start..unescaped.len();
            value.has_escapes = true;
        }
    }
}

/// Appends the text that a JSON string stands for. What is not UTF-8, and half of a surrogate pair,
/// becomes U+FFFD. An unknown escape is kept as it is.
fn unescape(string: &[u8], plain: &mut Vec<u8>) {
    let mut push = |text: &[u8]| plain.extend_from_slice(String::from_utf8_lossy(text).as_bytes());
    let mut rest = string;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        push(&rest[..at]);
        let (text, len) = unescape_first(&rest[at..]);
        let mut utf8 = [0; 4];
        push(match &text {
            Some(char) => char.encode_utf8(&mut utf8).as_bytes(),
            None => &rest[at..at + len],
        });
        rest = &rest[at + len..];
    }
    push(rest);
}

/// Reads the escape at the start of `text`. Returns the character, if it is a known escape, and the
/// number of bytes read.
fn unescape_first(text: &[u8]) -> (Option<char>, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix(b"\\u")?.get(..4)?;
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        let digits = str::from_utf8(digits).ok().filter(|_| is_hex)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let plain = match text.get(1) {
        Some(escaped @ (b'"' | b'\\' | b'/')) => char::from(*escaped),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        _ => {
            let Some(first) = unit(0) else {
                return (None, 1);
            };
            let pair = unit(6).map_or(vec![first], |second| vec![first, second]);
            let decoded = char::decode_utf16(pair).next().and_then(Result::ok);
            let len = if decoded.is_some_and(|char| char.len_utf16() == 2) {
                12
            } else {
                6
            };
            return (decoded.or(Some(char::REPLACEMENT_CHARACTER)), len);
        }
    };
    (Some(plain), 2)
}

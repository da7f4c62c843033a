//! *Lines* of a text, and single columns of a line that tabs divide.

use std::io::{self, Read};
use std::ops::Range;

use super::MAX_LINE;

/// So much is read at once; a longer line makes the buffer grow.
const BUFFER: usize = 256 << 10;

/// Lines, one at a time, where they were read to. As a reader it hands out the line at hand, and ends with it.
pub struct Lines<R> {
    text: R,
    buffer: Vec<u8>,
    /// How much of the buffer was read from the text.
    filled: usize,
    /// The line at hand, without what ended it.
    line: Range<usize>,
    /// Where the next line begins.
    next: usize,
    /// How much of the line was handed out.
    read: usize,
    /// How many lines there were.
    number: u64,
}

impl<R: Read> Lines<R> {
    /// Nothing is read before the first [`advance`](Self::advance); until then the line at hand is a stand-in, `-`.
    pub fn new(text: R) -> Self {
        let mut buffer = vec![0; BUFFER];
        buffer[0] = b'-';
        Self { text, buffer, filled: 0, line: 0..1, next: 0, read: 0, number: 0 }
    }

    /// Goes to the next line; `false` is the end. Nothing may end the last one.
    ///
    /// # Errors
    /// Those of the text. The line that was being read is lost, since it may be half of one.
    pub fn advance(&mut self) -> io::Result<bool> {
        let mut searched = self.next;
        let end = loop {
            if let Some(newline) = memchr::memchr(b'\n', &self.buffer[searched..self.filled]) {
                break searched + newline;
            }
            searched = self.filled;
            if !self.fill(&mut searched)? {
                if self.next == self.filled {
                    return Ok(false);
                }
                break self.filled;
            }
        };
        // Of a line that was cut the last byte is not what ended it.
        let is_whole = end - self.next <= MAX_LINE;
        let carriage_return = usize::from(is_whole && self.buffer[self.next..end].ends_with(b"\r"));
        self.line = self.next..end - carriage_return;
        self.next = self.filled.min(end + 1);
        self.read = 0;
        self.number += 1;
        Ok(true)
    }

    /// Reads more of the text; `false` is its end. What was begun moves to the front of the buffer.
    fn fill(&mut self, searched: &mut usize) -> io::Result<bool> {
        self.buffer.copy_within(self.next..self.filled, 0);
        self.line = 0..0;
        self.filled -= self.next;
        *searched -= self.next;
        self.next = 0;
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        loop {
            match self.text.read(&mut self.buffer[self.filled..]) {
                Ok(read) => {
                    self.filled += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<R> Lines<R> {
    /// The line at hand, without what ended it.
    pub fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// Its number, counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl<R> Read for Lines<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.line().get(self.read..).unwrap_or_default();
        let mut read = rest.len().min(buf.len());
        buf[..read].copy_from_slice(&rest[..read]);
        if self.read + read == self.line.len() && read < buf.len() {
            buf[read] = b'\n';
            read += 1;
        }
        self.read += read;
        Ok(read)
    }
}

/// Where the first columns of a line end that tabs divide.
#[derive(Clone, Copy, Default)]
pub struct Ends {
    ends: [usize; Self::MOST],
    len: usize,
}

impl Ends {
    /// In legacy logs date, time, address, method and path are among so many.
    const MOST: usize = 8;

    /// Those of a line.
    pub fn of(line: &[u8]) -> Self {
        let mut columns = Self::default();
        let (words, rest) = line.as_chunks();
        for (word, start) in words.iter().zip((0..).step_by(WORD)) {
            let mut tabs = tabs(*word);
            while tabs != 0 {
                if !columns.push(start + first(tabs)) {
                    return columns;
                }
                tabs &= tabs - 1;
            }
        }
        let start = line.len() - rest.len();
        for (at, _) in rest.iter().enumerate().filter(|(_, byte)| **byte == b'\t') {
            if !columns.push(start + at) {
                return columns;
            }
        }
        columns.push(line.len());
        columns
    }

    /// `false` is the last.
    fn push(&mut self, end: usize) -> bool {
        if let Some(slot) = self.ends.get_mut(self.len) {
            *slot = end;
            self.len += 1;
        }
        self.len < Self::MOST
    }

    /// One of all the columns of that line. What follows the first is looked for.
    pub fn column<'a>(&self, line: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let start = |index: usize| if index == 0 { 0 } else { self.ends[index - 1] + 1 };
        if index < self.len {
            return line.get(start(index)..self.ends[index]);
        }
        let rest = line.get(start(self.len)..).filter(|_| self.len == Self::MOST)?;
        nth(rest, index - self.len)
    }
}

/// One column of a line. Those before it are counted many bytes at a time.
fn nth(line: &[u8], index: usize) -> Option<&[u8]> {
    const AT_ONCE: usize = 32;
    let mut rest = line;
    let mut before = index;
    while let Some((chunk, after)) = rest.split_first_chunk::<AT_ONCE>() {
        let tabs = usize::from(chunk.iter().map(|byte| u8::from(*byte == b'\t')).sum::<u8>());
        if tabs >= before {
            break;
        }
        before -= tabs;
        rest = after;
    }
    for _ in 0..before {
        rest = &rest[tab(rest)? + 1..];
    }
    Some(tab(rest).map_or(rest, |end| &rest[..end]))
}

/// Where the next tab stands.
fn tab(line: &[u8]) -> Option<usize> {
    let (words, rest) = line.as_chunks();
    for (word, start) in words.iter().zip((0..).step_by(WORD)) {
        let tabs = tabs(*word);
        if tabs != 0 {
            return Some(start + first(tabs));
        }
    }
    let tab = rest.iter().position(|byte| *byte == b'\t')?;
    Some(line.len() - rest.len() + tab)
}

/// So many bytes are compared at once: columns are too short for `memchr` to pay.
const WORD: usize = 8;

/// The highest bit of each byte that is a tab.
#[inline]
fn tabs(word: [u8; WORD]) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; WORD]);
    const LOW_BITS: u64 = EACH * 0x7f;
    const TAB: u64 = 0x09;
    let differs = u64::from_le_bytes(word) ^ (EACH * TAB);
    !(((differs & LOW_BITS) + LOW_BITS) | differs | LOW_BITS)
}

/// Which byte the first of such bits stands in.
#[inline]
fn first(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::Chunks;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_longer_than_the_buffer_is_whole() {
        let long = "l".repeat(3 * BUFFER + 1);
        let text = format!("short\n{long}\r\n\nlast");
        for step in [1000, BUFFER, 1 << 22] {
            let sizes = [0, step];
            let mut lines = Lines::new(Chunks(text.as_bytes(), &sizes, 0));
            for expected in ["short", &long, "", "last"] {
                assert!(lines.advance().unwrap() && lines.line() == expected.as_bytes());
                let mut handed_out = Vec::new();
                lines.read_to_end(&mut handed_out).unwrap();
                assert!(handed_out == [expected.as_bytes(), b"\n"].concat(), "{step}: {}", handed_out.len());
            }
            assert!(!lines.advance().unwrap());
            assert_eq!(lines.number(), 4);
        }
    }

    /// With many columns or few, and with what differs from a tab by one bit or by one.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        (1u32..60).prop_flat_map(|others| {
            let other = prop::sample::select(vec![0x08, 0x0a, 0x00, 0x89, 0xff, b'a']);
            prop::collection::vec(prop_oneof![1 => Just(b'\t'), others => other], 0..300)
        })
    }

    proptest! {
        #[test]
        fn lines_are_those_of_a_simple_split(text in "[ab\t\r\n]{0,200}", step in 1usize..50) {
            let sizes = [step, 0];
            let mut lines = Lines::new(Chunks(text.as_bytes(), &sizes, 0));
            let mut found = Vec::new();
            while lines.advance().unwrap() {
                found.push(String::from_utf8(lines.line().to_vec()).unwrap());
            }
            let simple = text.split_inclusive('\n').map(|line| line.strip_suffix('\n').unwrap_or(line));
            prop_assert_eq!(found, simple.map(|line| line.strip_suffix('\r').unwrap_or(line)).collect::<Vec<_>>());
        }

        #[test]
        fn columns_are_those_of_a_simple_split(line in line()) {
            let ends = Ends::of(&line);
            let simple: Vec<&[u8]> = line.split(|byte| *byte == b'\t').collect();
            for index in 0..=simple.len() {
                prop_assert_eq!(ends.column(&line, index), simple.get(index).copied(), "column {}", index);
            }
        }
    }
}

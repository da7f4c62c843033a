//! *Lines* of a text, and single columns of a line that tabs divide.

use std::io::{self, Read};
use std::ops::Range;

use super::MAX_LINE;
use crate::octets::{Positions, equal};

/// So much is read at once; a longer line makes the buffer grow.
const BUFFER: usize = 256 << 10;

/// Lines, one at a time, where they were read to. As a reader it hands out the line at hand, or the end of it, and ends with it.
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
    /// The lines of what was read of a text already, and of the rest. Nothing is read before the first [`advance`](Self::advance); until
    /// then the line at hand is a stand-in, `-`.
    pub fn new(mut head: Vec<u8>, text: R) -> Self {
        let filled = head.len();
        head.push(b'-');
        Self { text, buffer: head, filled, line: filled..filled + 1, next: 0, read: 0, number: 0 }
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
            // A power of two has room behind the longest line, however long the head was.
            self.buffer.resize((self.filled + 1).next_power_of_two(), 0);
        }
        loop {
            match self.text.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.filled += read;
                    // A text that its head held whole needs no more room.
                    self.buffer.resize(self.buffer.len().max(BUFFER), 0);
                    return Ok(true);
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

    /// As a reader it hands out the line at hand from there on.
    pub fn hand_out_from(&mut self, start: usize) {
        self.read = start;
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

/// Where the first columns of a line stand that tabs divide.
#[derive(Clone, Copy, Default)]
pub struct FirstColumns {
    /// Where each begins, and where the one behind the last does.
    starts: [usize; Self::MOST + 1],
    len: usize,
}

impl FirstColumns {
    /// So many columns have legacy logs had at all times, and most of the bytes of a row stand in them.
    pub const MOST: usize = 12;

    /// Those of a line.
    pub fn of(line: &[u8]) -> Self {
        let mut columns = Self::default();
        for (start, end) in columns.starts[1..].iter_mut().zip(tabs(line).chain([line.len()])) {
            *start = end + 1;
            columns.len += 1;
        }
        columns
    }

    /// One of them, of that line.
    #[inline]
    pub fn column<'a>(&self, line: &'a [u8], index: usize) -> Option<&'a [u8]> {
        if index >= self.len {
            return None;
        }
        line.get(self.starts[index]..self.starts[index + 1] - 1)
    }

    /// Where something stands behind them in that line, in further columns.
    pub fn end(&self, line: &[u8]) -> Option<usize> {
        Some(self.starts[Self::MOST]).filter(|end| self.len == Self::MOST && *end < line.len())
    }
}

/// One column of what tabs divide.
pub fn column(line: &[u8], index: usize) -> Option<&[u8]> {
    let mut tabs = tabs(line);
    let start = match index {
        0 => 0,
        before => tabs.nth(before - 1)? + 1,
    };
    line.get(start..tabs.next().unwrap_or(line.len()))
}

fn tabs(line: &[u8]) -> impl Iterator<Item = usize> {
    Positions::new(line, |bytes| equal(bytes, b'\t'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::inflate::CapLines;
    use super::super::tests::Chunks;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_longer_than_the_buffer_is_whole() {
        let long = "l".repeat(3 * BUFFER + 1);
        let text = format!("short\n{long}\r\n\nlast");
        for step in [1000, BUFFER, 1 << 22] {
            let sizes = [0, step];
            let mut lines = Lines::new(Vec::new(), Chunks(text.as_bytes(), &sizes, 0));
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

    /// Reads, and notes the room that it was given.
    struct Rooms<'a>(&'a [u8], &'a mut Vec<usize>);

    impl Read for Rooms<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1.push(buf.len());
            self.0.read(buf)
        }
    }

    #[test]
    fn a_line_that_is_cut_is_passed_over_in_large_steps() {
        const STEP: usize = 64 << 10;
        let long = "l".repeat(8 * MAX_LINE) + "\nlast";
        for head in [0, 1, STEP, 4 * STEP, 4 * STEP + 2] {
            let mut rooms = Vec::new();
            let mut text = CapLines::new(Rooms(long.as_bytes(), &mut rooms));
            let mut begun = vec![0; head];
            text.read_exact(&mut begun).unwrap();
            let mut lines = Lines::new(begun, text);
            assert!(lines.advance().unwrap() && lines.line().len() == MAX_LINE + 1);
            assert!(lines.advance().unwrap() && lines.line() == b"last");
            // The reads that make the head, the first one after it, and the last of the buffer before it grows may find less.
            let small = rooms.iter().filter(|room| **room < STEP).count();
            assert!(small <= 4, "behind {head} bytes: {rooms:?}");
        }
    }

    proptest! {
        #[test]
        fn lines_are_those_of_a_simple_split(text in "[ab\t\r\n]{0,200}", head in 0usize..300, step in 1usize..50) {
            let sizes = [step, 0];
            let (head, rest) = text.as_bytes().split_at(head.min(text.len()));
            let mut lines = Lines::new(head.to_vec(), Chunks(rest, &sizes, 0));
            let mut found = Vec::new();
            while lines.advance().unwrap() {
                found.push(String::from_utf8(lines.line().to_vec()).unwrap());
            }
            let simple = text.split_inclusive('\n').map(|line| line.strip_suffix('\n').unwrap_or(line));
            prop_assert_eq!(found, simple.map(|line| line.strip_suffix('\r').unwrap_or(line)).collect::<Vec<_>>());
        }
    }
}

//! *Lines* of a text, and the columns that tabs divide them into: found together, in one search.

use std::io::{self, Read};
use std::ops::Range;

use super::{Cells, MAX_LINE};
use crate::simd::{Piece, equal};

/// So much is read at once; a longer line makes the buffer grow.
const BUFFER: usize = 256 << 10;

/// Lines, one at a time, where they were read to.
pub(super) struct Lines<R> {
    text: R,
    buffer: Vec<u8>,
    /// How much of the buffer was read from the text.
    filled: usize,
    /// The line at hand, without what ended it.
    line: Range<usize>,
    /// Where its columns begin in it, and where one behind the last would.
    starts: Vec<u32>,
    len: usize,
    /// Where the next line begins.
    next: usize,
    /// Where the piece begins that was searched last, and where the next does.
    piece: usize,
    searched: usize,
    /// What of that piece is still to be told, a bit for each byte.
    tabs: u64,
    newlines: u64,
    /// How many lines there were.
    number: u64,
}

impl<R: Read> Lines<R> {
    /// The lines of what was read of a text already, and of the rest. Nothing is read before the first [`advance`](Self::advance).
    pub(super) fn new(head: Vec<u8>, text: R) -> Self {
        let filled = head.len();
        let starts = vec![0; 64];
        Self {
            text,
            buffer: head,
            filled,
            line: 0..0,
            starts,
            len: 0,
            next: 0,
            piece: 0,
            searched: 0,
            tabs: 0,
            newlines: 0,
            number: 0,
        }
    }

    /// Goes to the next line; `false` is the end. Nothing may end the last one.
    ///
    /// # Errors
    /// Those of the text. The line that was being read is lost, since it may be half of one.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        self.len = 1;
        let end = loop {
            let newline = self.newlines.trailing_zeros();
            let before = u64::MAX.checked_shr(u64::BITS - newline).unwrap_or(0);
            self.take_tabs(before);
            if self.newlines != 0 {
                self.newlines &= self.newlines - 1;
                break self.piece + newline as usize;
            }
            if self.searched == self.filled && !self.fill()? {
                if self.next == self.filled {
                    return Ok(false);
                }
                break self.filled;
            }
            self.search();
        };
        // Of a line that was cut the last byte is not what ended it.
        let is_whole = end - self.next <= MAX_LINE;
        let carriage_return = usize::from(is_whole && self.buffer[self.next..end].ends_with(b"\r"));
        self.line = self.next..end - carriage_return;
        self.starts[self.len] = offset(self.line.len()) + 1;
        self.len += 1;
        self.next = self.filled.min(end + 1);
        self.number += 1;
        Ok(true)
    }

    /// Notes the tabs among these bytes of the piece.
    #[inline]
    fn take_tabs(&mut self, among: u64) {
        let mut tabs = self.tabs & among;
        self.tabs &= !among;
        let behind = self.piece.wrapping_sub(self.next).wrapping_add(1);
        let found = tabs.count_ones() as usize;
        // Eight at a time, whether or not there are so many: nobody can tell beforehand how many there are.
        let mut at = self.len;
        self.len += found;
        if self.starts.len() < self.len + 8 {
            self.starts.resize((self.len + 8).next_power_of_two(), 0);
        }
        loop {
            if let Some(room) = self
                .starts
                .get_mut(at..)
                .and_then(<[u32]>::first_chunk_mut::<8>)
            {
                for start in room {
                    *start = offset(behind.wrapping_add(tabs.trailing_zeros() as usize));
                    tabs &= tabs.wrapping_sub(1);
                }
            }
            at += 8;
            if tabs == 0 {
                break;
            }
        }
    }

    /// Searches the next piece of what was read.
    #[inline]
    fn search(&mut self) {
        self.piece = self.searched;
        let piece = Piece::of(&self.buffer[self.piece..self.filled]);
        self.tabs = piece.bits(|bytes| equal(bytes, b'\t'));
        self.newlines = piece.bits(|bytes| equal(bytes, b'\n'));
        self.searched += piece.len();
    }

    /// Reads more of the text; `false` is its end. What was begun moves to the front of the buffer.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.next..self.filled, 0);
        self.line = 0..0;
        self.filled -= self.next;
        self.searched = self.filled;
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
    pub(super) fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// What tabs divide it into.
    pub(super) fn cells(&self) -> Cells<'_> {
        Cells {
            text: self.line(),
            starts: &self.starts[..self.len],
        }
    }

    /// Its number, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// Lines are capped far below.
#[expect(clippy::cast_possible_truncation, reason = "lines are capped at 1 MiB")]
fn offset(offset: usize) -> u32 {
    offset as u32
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

//! Splits text into lines and tab-separated columns, both in one pass.
//!
//! The search takes a block of 64 bytes at a time and turns it into two masks, one bit per byte.
//! Shown with the lowest bit on the left, `→` for a tab and `⏎` for a newline:
//!
//! ```text
//! block     2→/a→200⏎GET→/b→304⏎PUT→/…
//! tabs      .1..1.......1..1.......1..
//! newlines  ........1..........1......
//! ```
//!
//! The lowest newline ends the current line, and the tabs below it start its columns. Both are then
//! removed from the masks; the bits that are left belong to the following lines.

use std::io::{self, Read};
use std::ops::Range;

use super::{Cells, MAX_LINE};
use crate::simd::{Block, equal};

/// Bytes to read at once. The buffer grows for a longer line, to 2 MiB at most, because the text
/// has no line of more than `MAX_LINE` + 1 bytes.
const BUFFER: usize = 256 << 10;

/// Column starts that are written at once.
const STEP: usize = 8;

/// Reads text line by line. Lines are slices of its buffer, not copies.
pub(super) struct Lines<R> {
    text: R,
    buffer: Vec<u8>,
    /// End of the text in the buffer.
    filled: usize,
    /// End of the searched text.
    searched: usize,
    /// Start of the block that was searched last.
    block: usize,
    /// Tabs and newlines of that block that belong to no line yet.
    tabs: u64,
    newlines: u64,
    /// Start of the next line.
    next: usize,
    /// The current line, without its line ending.
    line: Range<usize>,
    /// Starts of its columns, relative to its own; then its length plus 1, as if a tab followed.
    /// At most `MAX_LINE` + 3 values, for a line of tabs, and room for [`STEP`] more.
    starts: Vec<usize>,
    /// Number of those values. The others are of earlier lines.
    filled_starts: usize,
    /// Number of the current line, from 1.
    number: u64,
}

impl<R: Read> Lines<R> {
    /// Reads the lines of `head`, followed by `text`. Does not read before the first
    /// [`advance`](Self::advance).
    pub(super) fn new(head: Vec<u8>, text: R) -> Self {
        Self {
            text,
            filled: head.len(),
            buffer: head,
            searched: 0,
            block: 0,
            tabs: 0,
            newlines: 0,
            next: 0,
            line: 0..0,
            starts: vec![0; 8 * STEP],
            filled_starts: 1,
            number: 0,
        }
    }

    /// Goes to the next line. Returns `false` at the end of the text. The last line need not end
    /// in a newline.
    ///
    /// # Errors
    /// Read errors of the text. The incomplete line before the error is dropped.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        self.filled_starts = 1;
        let end = loop {
            // The lowest newline and the bits below it. Without a newline, all bits.
            let up_to_newline = self.newlines ^ self.newlines.wrapping_sub(1);
            self.push_starts(self.tabs & up_to_newline);
            self.tabs &= !up_to_newline;
            if self.newlines != 0 {
                let newline = self.block + self.newlines.trailing_zeros() as usize;
                self.newlines &= !up_to_newline;
                break newline;
            }
            if self.searched == self.filled && !self.fill()? {
                if self.next == self.filled {
                    return Ok(false);
                }
                break self.filled;
            }
            self.search();
        };
        // A line longer than `MAX_LINE` was cut: its last byte is not part of a line ending.
        let has_ending = end - self.next <= MAX_LINE;
        let carriage_return = has_ending && self.buffer[self.next..end].ends_with(b"\r");
        self.line = self.next..end - usize::from(carriage_return);
        self.starts[self.filled_starts] = self.line.len() + 1;
        self.filled_starts += 1;
        self.next = self.filled.min(end + 1);
        self.number += 1;
        Ok(true)
    }

    /// Adds the column starts after `tabs`. Leaves room for [`STEP`] more.
    ///
    /// It always writes whole steps, because a branch on the number of tabs in a block would often
    /// be mispredicted. Values after the last tab are overwritten by the next call.
    #[inline]
    fn push_starts(&mut self, mut tabs: u64) {
        let mut at = self.filled_starts;
        self.filled_starts += tabs.count_ones() as usize;
        let needed = self.filled_starts + STEP;
        if self.starts.len() < needed {
            self.starts.resize(needed.next_power_of_two(), 0);
        }
        // The line may have begun in an earlier block, or begins within this one.
        let first = (self.block + 1).wrapping_sub(self.next);
        while let Some(step) = self.starts[at..].first_chunk_mut::<STEP>() {
            for start in step {
                *start = first.wrapping_add(tabs.trailing_zeros() as usize);
                tabs &= tabs.wrapping_sub(1);
            }
            if tabs == 0 {
                break;
            }
            at += STEP;
        }
    }

    /// Searches the next block of the text in the buffer.
    #[inline]
    fn search(&mut self) {
        let block = Block::first_of(&self.buffer[self.searched..self.filled]);
        self.tabs = block.mask(|lanes| equal(lanes, b'\t'));
        self.newlines = block.mask(|lanes| equal(lanes, b'\n'));
        self.block = self.searched;
        self.searched += block.len();
    }

    /// Moves the incomplete line to the front of the buffer and reads more of the text after it.
    /// Returns `false` at the end of the text.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.next..self.filled, 0);
        self.line = 0..0;
        self.filled -= self.next;
        self.searched = self.filled;
        self.next = 0;
        if self.filled == self.buffer.len() {
            // Grows in powers of two, so that a line of `MAX_LINE` + 1 bytes leaves room for large
            // reads whatever the length of the head.
            self.buffer.resize((self.filled + 1).next_power_of_two(), 0);
        }
        loop {
            match self.text.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.filled += read;
                    // Only now, because the head often is the whole text.
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
    /// The current line, without its line ending (`\n` or `\r\n`).
    pub(super) fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// The tab-separated columns of the current line.
    pub(super) fn cells(&self) -> Cells<'_> {
        Cells::Line(self.line(), &self.starts[..self.filled_starts])
    }

    /// The number of the current line, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::inflate::CapLines;
    use super::super::tests::Chunks;
    use super::*;
    use csv::{ByteRecord, ReaderBuilder, Terminator};
    use proptest::prelude::*;

    /// Returns the lines, each as its columns.
    fn columns(mut lines: Lines<impl Read>) -> Vec<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        while lines.advance().unwrap() {
            let cells = lines.cells();
            let columns = (0..).map_while(|index| Some(cells.get(index)?.to_vec()));
            found.push(columns.collect::<Vec<_>>());
            let line = found.last().unwrap().join(&b'\t');
            assert_eq!(lines.line(), line, "columns make up the line");
        }
        found
    }

    /// The same by `csv`. It skips empty lines and keeps the carriage return of a line ending.
    fn columns_by_csv(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut reader = ReaderBuilder::new()
            .delimiter(b'\t')
            .quoting(false)
            .flexible(true)
            .has_headers(false)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(text);
        let columns = |record: ByteRecord| {
            let mut columns: Vec<_> = record.iter().map(<[u8]>::to_vec).collect();
            let last = columns.last_mut().unwrap();
            last.truncate(last.strip_suffix(b"\r").unwrap_or(last).len());
            columns
        };
        let records = reader.byte_records().map(|record| columns(record.unwrap()));
        records.filter(|columns| !is_empty(columns)).collect()
    }

    fn is_empty(columns: &[Vec<u8>]) -> bool {
        matches!(columns, [only] if only.is_empty())
    }

    #[test]
    fn line_longer_than_buffer_is_whole() {
        let long = "l".repeat(3 * BUFFER + 1);
        let text = format!("short\n{long}\r\n\nlast");
        for step in [1000, BUFFER, 1 << 22] {
            let sizes = [0, step];
            let mut lines = Lines::new(Vec::new(), Chunks(text.as_bytes(), &sizes, 0));
            for expected in ["short", &long, "", "last"] {
                assert!(lines.advance().unwrap());
                assert!(lines.line() == expected.as_bytes(), "steps of {step}");
            }
            assert!(!lines.advance().unwrap());
            assert_eq!(lines.number(), 4);
        }
    }

    /// Every boundary between head, reads and blocks, on lines of every kind.
    #[test]
    fn head_may_end_at_any_byte() {
        let row = "2026-11-14\t\t-\t".repeat(6);
        let text = format!("{row}\r\n\r\r\n\0\t\0\n#x\ty\n\t\t\n{row}\n\n\tlast\t");
        let whole = columns(Lines::new(text.clone().into_bytes(), io::empty()));
        assert_eq!(
            whole.iter().map(Vec::len).collect::<Vec<_>>(),
            [19, 1, 2, 2, 3, 19, 1, 3]
        );
        for at in 0..=text.len() {
            let (head, rest) = text.as_bytes().split_at(at);
            for sizes in [&[1][..], &[0, 7], &[63, 0, 65], &[1000]] {
                let found = columns(Lines::new(head.to_vec(), Chunks(rest, sizes, 0)));
                assert_eq!(found, whole, "head of {at} bytes, reads of {sizes:?}");
            }
        }
    }

    #[test]
    fn read_error_is_returned_after_the_complete_lines() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let text = b"a\tb\nc\r\n\nd\te";
        for at in 0..=text.len() {
            let mut lines = Lines::new(Vec::new(), text[..at].chain(Broken));
            for _ in memchr::memchr_iter(b'\n', &text[..at]) {
                assert!(lines.advance().unwrap(), "error after {at} bytes");
            }
            lines.advance().unwrap_err();
            assert_eq!(lines.line(), b"", "an incomplete line is dropped");
            assert_eq!(lines.cells().get(0), None);
        }
    }

    #[test]
    fn line_of_tabs_is_bounded() {
        let text = format!("{}\na\tb\n", "\t".repeat(3 * MAX_LINE));
        let mut lines = Lines::new(Vec::new(), CapLines::new(text.as_bytes()));
        assert!(lines.advance().unwrap());
        assert_eq!(lines.line().len(), MAX_LINE + 1);
        assert_eq!(lines.filled_starts, MAX_LINE + 3);
        assert_eq!(lines.cells().get(MAX_LINE + 1), Some(&b""[..]));
        assert_eq!(lines.cells().get(MAX_LINE + 2), None);
        assert!(lines.advance().unwrap());
        assert_eq!(lines.cells().get(1), Some(&b"b"[..]));
        assert!(lines.buffer.len() <= 2 << 20);
    }

    /// Records the size of the buffer of every read.
    struct Rooms<'a>(&'a [u8], &'a mut Vec<usize>);

    impl Read for Rooms<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1.push(buf.len());
            self.0.read(buf)
        }
    }

    // proves: I22
    #[test]
    fn cut_line_is_skipped_in_large_reads() {
        const STEP: usize = 64 << 10;
        let long = "l".repeat(8 * MAX_LINE) + "\nlast";
        for head in [0, 1, STEP, 4 * STEP, 4 * STEP + 2] {
            let mut rooms = Vec::new();
            let mut text = CapLines::new(Rooms(long.as_bytes(), &mut rooms));
            let mut start = vec![0; head];
            text.read_exact(&mut start).unwrap();
            let mut lines = Lines::new(start, text);
            assert!(lines.advance().unwrap());
            assert_eq!(lines.line().len(), MAX_LINE + 1);
            assert!(lines.advance().unwrap());
            assert_eq!(lines.line(), b"last");
            // Four may be small: two that read the head, the one after it, and the one before the
            // buffer grows.
            let small = rooms.iter().filter(|room| **room < STEP).count();
            assert!(small <= 4, "head of {head} bytes: {rooms:?}");
        }
    }

    proptest! {
        #[test]
        fn columns_agree_with_csv(
            text in prop::collection::vec(prop::sample::select(&b"aa\t\t\n\r\0\"#\x80\xff"[..]), 0..300),
            head in 0usize..300,
            step in 1usize..130,
        ) {
            let sizes = [step, 0];
            let (head, rest) = text.split_at(head.min(text.len()));
            let mut found = columns(Lines::new(head.to_vec(), Chunks(rest, &sizes, 0)));
            found.retain(|columns| !is_empty(columns));
            prop_assert_eq!(found, columns_by_csv(&text));
        }
    }
}

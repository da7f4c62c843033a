//! *Tee*: text that is seen piece by piece on its way to the reader of a log, for what its rows do not
//! tell: how a line begins, and which lines contain a text.

use std::io::{self, Read};
use std::ops::RangeInclusive;

use memchr::memmem;

/// Shows what is read from `text` to `see`.
pub(crate) struct Tee<R, F> {
    text: R,
    see: F,
}

impl<R: Read, F: FnMut(&[u8])> Tee<R, F> {
    pub(crate) fn new(text: R, see: F) -> Self {
        Self { text, see }
    }
}

impl<R: Read, F: FnMut(&[u8])> Read for Tee<R, F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buf)?;
        (self.see)(&buf[..read]);
        Ok(read)
    }
}

/// Finds the lines that contain a text without newlines.
pub(crate) struct Mentions {
    finder: memmem::Finder<'static>,
    /// The last bytes seen: one less than the text has.
    last: Vec<u8>,
    newlines: u64,
    /// Numbers of lines, from 1, sorted.
    lines: Vec<u64>,
}

impl Mentions {
    pub(crate) fn new(text: &[u8]) -> Self {
        Self {
            finder: memmem::Finder::new(text).into_owned(),
            last: Vec::new(),
            newlines: 0,
            lines: Vec::new(),
        }
    }

    pub(crate) fn see(&mut self, piece: &[u8]) {
        let most = self.finder.needle().len().saturating_sub(1);
        self.last.extend_from_slice(&piece[..most.min(piece.len())]);
        if self.finder.find(&self.last).is_some() {
            self.lines.push(self.newlines + 1); // it began in the piece before
        }
        let mut counted = 0;
        for at in self.finder.find_iter(piece) {
            self.newlines += newlines(&piece[counted..at]);
            counted = at;
            self.lines.push(self.newlines + 1);
        }
        self.newlines += newlines(&piece[counted..]);
        if piece.len() >= most {
            self.last.clear();
            self.last.extend_from_slice(&piece[piece.len() - most..]);
        } else {
            self.last.drain(..self.last.len().saturating_sub(most));
        }
    }

    /// Whether one of these lines contains the text. Forgets all lines up to the last of them.
    pub(crate) fn take(&mut self, lines: &RangeInclusive<u64>) -> bool {
        let behind = self.lines.partition_point(|line| line <= lines.end());
        self.lines.drain(..behind).any(|line| lines.contains(&line))
    }

    /// Returns the lines that were not taken, each once.
    pub(crate) fn rest(&mut self) -> Vec<u64> {
        self.lines.dedup();
        std::mem::take(&mut self.lines)
    }
}

fn newlines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

/// Notes how a line begins.
pub(crate) struct Beginning {
    wanted: u64,
    newlines: u64,
    is_line_start: bool,
    /// The first byte of the wanted line; its newline, if it has no other.
    pub(crate) byte: Option<u8>,
}

impl Beginning {
    /// Lines are counted from 1.
    pub(crate) fn of_line(wanted: u64) -> Self {
        Self {
            wanted,
            newlines: 0,
            is_line_start: true,
            byte: None,
        }
    }

    pub(crate) fn see(&mut self, piece: &[u8]) {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.is_line_start && self.newlines + 1 == self.wanted {
                self.byte = line.first().copied();
            }
            self.is_line_start = line.ends_with(b"\n");
            self.newlines += u64::from(self.is_line_start);
        }
    }

    /// Returns the number of lines seen.
    pub(crate) fn lines(&self) -> u64 {
        self.newlines + u64::from(!self.is_line_start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to cut a text in two and in three.
    fn cuts(text: &[u8]) -> impl Iterator<Item = [&[u8]; 3]> {
        (0..=text.len()).flat_map(move |second| {
            (0..=second).map(move |first| [&text[..first], &text[first..second], &text[second..]])
        })
    }

    #[test]
    fn lines_with_a_text_are_found_across_pieces() {
        for (text, wanted, lines) in [
            ("aab\nb\n\nab ab\nxaab", "ab", &[1, 4, 5][..]),
            ("aaaa\naa", "aa", &[1, 2]),
            ("abc", "abcd", &[]),
            ("a\nb", "a", &[1]),
            ("", "a", &[]),
        ] {
            for pieces in cuts(text.as_bytes()) {
                let mut mentions = Mentions::new(wanted.as_bytes());
                for piece in pieces {
                    mentions.see(piece);
                }
                assert_eq!(mentions.rest(), lines, "{wanted} in {pieces:?}");
            }
        }
    }

    #[test]
    fn taken_lines_are_forgotten_with_those_before() {
        let mut mentions = Mentions::new(b"x");
        mentions.see(b"x\n\nx\nx\nx\n");
        assert!(!mentions.take(&(2..=2)));
        assert!(mentions.take(&(2..=3)));
        assert!(!mentions.take(&(3..=3)));
        assert_eq!(mentions.rest(), [4, 5]);
    }

    #[test]
    fn first_byte_of_a_line_and_number_of_lines_are_noted() {
        for (text, line, byte, lines) in [
            ("#a\nb\n\n c", 1, Some(b'#'), 4),
            ("#a\nb\n\n c", 2, Some(b'b'), 4),
            ("#a\nb\n\n c", 3, Some(b'\n'), 4),
            ("#a\nb\n\n c", 4, Some(b' '), 4),
            ("#a\nb\n\n c", 5, None, 4),
            ("a\n", 2, None, 1),
            ("", 1, None, 0),
            ("a", 0, None, 1),
        ] {
            for pieces in cuts(text.as_bytes()) {
                let mut beginning = Beginning::of_line(line);
                for piece in pieces {
                    beginning.see(piece);
                }
                assert_eq!(
                    (beginning.byte, beginning.lines()),
                    (byte, lines),
                    "{line}: {pieces:?}"
                );
            }
        }
    }
}

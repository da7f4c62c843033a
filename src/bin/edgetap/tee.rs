//! *Tee*: text that is seen piece by piece on its way to the reader of a log, for what its rows do not
//! tell: how a line begins, and which lines contain a request ID.

use std::io::{self, Read};
use std::ops::RangeInclusive;

use memchr::memmem;

/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// Shows what is read from `text` to `see`, unless it is a Parquet file, which has no lines.
pub(crate) struct Tee<R, F> {
    text: R,
    see: F,
    /// What the first piece tells. It has at least four bytes, or the whole text: the reader
    /// detects the format by them.
    is_parquet: Option<bool>,
}

impl<R: Read, F: FnMut(&[u8])> Tee<R, F> {
    pub(crate) fn new(text: R, see: F) -> Self {
        Self {
            text,
            see,
            is_parquet: None,
        }
    }
}

impl<R: Read, F: FnMut(&[u8])> Read for Tee<R, F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buf)?;
        let piece = &buf[..read];
        let is_parquet = *self
            .is_parquet
            .get_or_insert_with(|| piece.starts_with(PARQUET));
        if !is_parquet {
            (self.see)(piece);
        }
        Ok(read)
    }
}

/// Finds the lines that contain a request ID as a whole word: between characters that no ID has.
pub(crate) struct Mentions {
    finder: memmem::Finder<'static>,
    /// The end of the text seen, from [`BEFORE`] bytes before what was not searched.
    text: Vec<u8>,
    /// Start of what was not searched, in `text`.
    next: usize,
    /// Number of newlines before it.
    newlines: u64,
    /// Numbers of lines, from 1, sorted.
    lines: Vec<u64>,
}

/// Bytes before an ID that tell whether it begins there: an escape in JSON, such as `\u0009`.
const BEFORE: usize = 6;

impl Mentions {
    pub(crate) fn new(id: &[u8]) -> Self {
        Self {
            finder: memmem::Finder::new(id).into_owned(),
            text: Vec::new(),
            next: 0,
            newlines: 0,
            lines: Vec::new(),
        }
    }

    /// Sees the next piece of the text; an empty one at its end.
    pub(crate) fn see(&mut self, piece: &[u8]) {
        self.text.extend_from_slice(piece);
        // The byte behind an ID decides.
        let end = self.text.len() - usize::from(!piece.is_empty());
        let length = self.finder.needle().len();
        let mut counted = self.next;
        for at in self.finder.find_iter(&self.text[self.next..end]) {
            let at = self.next + at;
            let behind = self.text.get(at + length);
            if begins_word(&self.text[..at]) && !behind.is_some_and(|byte| is_of_id(*byte)) {
                self.newlines += newlines(&self.text[counted..at]);
                counted = at;
                self.lines.push(self.newlines + 1);
            }
        }
        let next = self.next.max((end + 1).saturating_sub(length));
        self.newlines += newlines(&self.text[counted..next]);
        let seen = next.saturating_sub(BEFORE);
        self.text.drain(..seen);
        self.next = next - seen;
    }

    /// Whether one of these lines contains the text. Forgets all lines up to the last of them.
    pub(crate) fn take(&mut self, lines: &RangeInclusive<u64>) -> bool {
        let behind = self.lines.partition_point(|line| line <= lines.end());
        self.lines.drain(..behind).any(|line| lines.contains(&line))
    }

    /// Returns the lines that were not taken, each once. The text ends here.
    pub(crate) fn rest(&mut self) -> Vec<u64> {
        self.see(b"");
        self.lines.dedup();
        std::mem::take(&mut self.lines)
    }
}

/// Whether a request ID may have this byte.
pub(crate) fn is_of_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_=+/".contains(&byte)
}

/// Whether a word begins behind this text. The tabs of a line in a JSON string are escapes.
fn begins_word(before: &[u8]) -> bool {
    let is_escape = |text: &[u8]| match text {
        [.., b'\\', b'b' | b'f' | b'n' | b'r' | b't'] => true,
        [b'\\', b'u', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    };
    let start = before.len().saturating_sub(BEFORE);
    !before.last().is_some_and(|byte| is_of_id(*byte)) || is_escape(&before[start..])
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
    fn lines_with_an_id_are_found_across_pieces() {
        for (text, wanted, lines) in [
            ("a ab\nb\n\nab ab\nx,ab", "ab", &[1, 4, 5][..]),
            ("xab abx\nab=\n/ab\nab", "ab", &[4]),
            (r"\tab \u0009ab", "ab", &[1]),
            (r"tab \u00g9ab u0009ab \xab", "ab", &[]),
            ("aaaa\naa", "aa", &[2]),
            ("abc", "abcd", &[]),
            ("a\nb", "a", &[1]),
            ("", "a", &[]),
        ] {
            for pieces in cuts(text.as_bytes()) {
                let mut mentions = Mentions::new(wanted.as_bytes());
                for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
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

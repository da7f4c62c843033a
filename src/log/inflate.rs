//! Bytes of an object → its *log*: inflated when they are gzip, as they are when they are not, in lines of bounded length.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

/// A line longer than this is no access log row: real rows reach 100 KB. 1 MiB.
pub const MAX_LINE: usize = 1 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BUFFER: usize = 64 << 10;

/// Of an object so many bytes are inflated, and no more: the largest logs have a tenth of it, and a gzip bomb must end. 64 GiB.
pub const MAX_INFLATED: u64 = 64 << 30;

/// An object inflates to more than [`MAX_INFLATED`] bytes.
#[derive(Debug, Error)]
#[error("it inflates to more than {} GiB", MAX_INFLATED >> 30)]
pub(super) struct Bomb;

/// The text of an object: every member of a gzip file, or a plain file as it is. Names and content types are not asked.
pub(super) struct Inflate<R: Read> {
    state: State<R>,
    /// How many bytes may still come.
    left: u64,
}

type Sniffed<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum State<R: Read> {
    Unread(R),
    Gzip(Box<MultiGzDecoder<Sniffed<R>>>),
    Plain(Sniffed<R>),
    /// Reading the first bytes failed: said once, and every time after.
    Broken,
}

impl<R: Read> Inflate<R> {
    /// Nothing is read before the first `read`.
    pub(super) fn new(source: R) -> Self {
        Self {
            state: State::Unread(source),
            left: MAX_INFLATED,
        }
    }

    fn sniff(mut source: R) -> io::Result<State<R>> {
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        source
            .by_ref()
            .take(GZIP_MAGIC.len() as u64)
            .read_to_end(&mut magic)?;
        let gzip = magic == GZIP_MAGIC;
        let whole = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(source));
        Ok(if gzip {
            State::Gzip(Box::new(MultiGzDecoder::new(whole)))
        } else {
            State::Plain(whole)
        })
    }
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if matches!(self.state, State::Unread(_))
            && let State::Unread(source) = std::mem::replace(&mut self.state, State::Broken)
        {
            self.state = Self::sniff(source)?;
        }
        let read = match &mut self.state {
            State::Gzip(gzip) => gzip.read(buf)?,
            State::Plain(plain) => plain.read(buf)?,
            State::Unread(_) | State::Broken => {
                return Err(io::Error::other(
                    "the object could not be read from its first bytes on",
                ));
            }
        };
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(Bomb))?;
        Ok(read)
    }
}

/// Cuts what a line has beyond [`MAX_LINE`] bytes plus one, so that a reader's buffer cannot grow without limit: a line
/// that comes out longer than [`MAX_LINE`] was too long.
pub(super) struct CapLines<R> {
    inner: R,
    /// Bytes of the current line that were let through.
    line: usize,
}

impl<R: Read> CapLines<R> {
    /// Caps the lines of `inner`.
    pub(super) fn new(inner: R) -> Self {
        Self { inner, line: 0 }
    }

    /// Moves what is let through to the front of `bytes` and returns its length.
    fn compact(&mut self, bytes: &mut [u8]) -> usize {
        let (mut kept, mut start) = (0, 0);
        while start < bytes.len() {
            let newline = memchr::memchr(b'\n', &bytes[start..]);
            let content = newline.unwrap_or(bytes.len() - start);
            let keep = content.min(MAX_LINE + 1 - self.line);
            bytes.copy_within(start..start + keep, kept);
            kept += keep;
            self.line += keep;
            start += content;
            if newline.is_some() {
                bytes[kept] = b'\n';
                kept += 1;
                start += 1;
                self.line = 0;
            }
        }
        kept
    }
}

impl<R: Read> Read for CapLines<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.inner.read(buf)?;
            if read == 0 {
                return Ok(0);
            }
            if self.line + read <= MAX_LINE {
                let last_newline = memchr::memrchr(b'\n', &buf[..read]);
                self.line = last_newline.map_or(self.line + read, |at| read - at - 1);
                return Ok(read);
            }
            // Nothing let through is not the end: the line goes on.
            let kept = self.compact(&mut buf[..read]);
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::Chunks;
    use super::*;

    #[test]
    fn what_inflates_without_end_is_an_error_at_the_cap_and_not_an_end() {
        for (left, whole) in [(10, true), (9, false)] {
            let mut inflate = Inflate::new(&b"0123456789"[..]);
            inflate.left = left;
            let mut out = Vec::new();
            let end = inflate.read_to_end(&mut out);
            assert_eq!(end.is_ok(), whole);
            assert!(whole || end.unwrap_err().get_ref().unwrap().is::<Bomb>());
        }
    }

    #[test]
    fn only_lines_beyond_the_cap_are_cut_whatever_the_chunks() {
        let exact = "e".repeat(MAX_LINE);
        let long = "l".repeat(MAX_LINE * 3 + 17);
        let text = format!("short\n{exact}\n{long}\n\nlast{long}");
        let expected = format!(
            "short\n{exact}\n{}\n\nlast{}",
            &long[..=MAX_LINE],
            &long[..=MAX_LINE - 4]
        );
        for step in [1000, 65536, 1 << 22] {
            let mut out = String::new();
            CapLines::new(Chunks(text.as_bytes(), &[step], 0))
                .read_to_string(&mut out)
                .unwrap();
            assert!(out == expected, "step {step}");
        }
    }
}

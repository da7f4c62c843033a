//! Bytes of an object → its *log*: inflated when they are gzip, as they are when they are not, in lines of bounded length.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// A line longer than this is no access log row: real rows reach 100 KB. 1 MiB.
pub const MAX_LINE: usize = 1 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The first read brings so many bytes, where there are so many: `csv` passes over a byte order mark (three bytes) only when
/// it comes whole, and takes one that comes alone for the end.
const FIRST_READ: usize = 4;
const BUFFER: usize = 64 << 10;

/// The text of an object: every member of a gzip file, or a plain file as it is. Names and content types are not asked.
pub struct Inflate<R: Read> {
    state: State<R>,
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
    pub fn new(source: R) -> Self {
        Self { state: State::Unread(source) }
    }

    fn sniff(mut source: R) -> io::Result<State<R>> {
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        source.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
        let gzip = magic == GZIP_MAGIC;
        let whole = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(source));
        Ok(if gzip { State::Gzip(Box::new(MultiGzDecoder::new(whole))) } else { State::Plain(whole) })
    }

    fn read_on(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Gzip(gzip) => gzip.read(buf),
            State::Plain(plain) => plain.read(buf),
            State::Unread(_) | State::Broken => Err(io::Error::other("the object could not be read from its first bytes on")),
        }
    }
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut at_least = 1;
        if matches!(self.state, State::Unread(_))
            && let State::Unread(source) = std::mem::replace(&mut self.state, State::Broken)
        {
            self.state = Self::sniff(source)?;
            at_least = FIRST_READ;
        }
        let mut read = 0;
        while read < at_least.min(buf.len()) {
            match self.read_on(&mut buf[read..])? {
                0 => break,
                more => read += more,
            }
        }
        Ok(read)
    }
}

/// Cuts what a line has beyond [`MAX_LINE`] bytes plus one, so that a reader's buffer cannot grow without limit: a line
/// that comes out longer than [`MAX_LINE`] was too long.
pub struct CapLines<R> {
    inner: R,
    /// Bytes of the current line that were let through.
    line: usize,
}

impl<R: Read> CapLines<R> {
    /// Caps the lines of `inner`.
    pub fn new(inner: R) -> Self {
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
    use super::*;

    /// Hands out at most `step` bytes a call.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(buf.len()).min(self.0.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn only_lines_beyond_the_cap_are_cut_whatever_the_chunks() {
        let exact = "e".repeat(MAX_LINE);
        let long = "l".repeat(MAX_LINE * 3 + 17);
        let text = format!("short\n{exact}\n{long}\n\nlast{long}");
        let expected = format!("short\n{exact}\n{}\n\nlast{}", &long[..=MAX_LINE], &long[..=MAX_LINE - 4]);
        for step in [1000, 65536, 1 << 22] {
            let mut out = String::new();
            CapLines::new(Drip(text.as_bytes(), step)).read_to_string(&mut out).unwrap();
            assert!(out == expected, "step {step}");
        }
    }
}

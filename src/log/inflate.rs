//! Turns the bytes of an object into its text: decompressed if they are gzip, and with a bounded
//! line length.

#![expect(clippy::disallowed_types, reason = "`Members` reads every member")]

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::GzDecoder;
use thiserror::Error;

use super::parquet;

/// Longest line that is read as a row (1 MiB). Rows of real logs reach 100 KB.
pub const MAX_LINE: usize = 1 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Bytes by which a file is told.
const START: usize = parquet::MAGIC.len();
const BUFFER: usize = 64 << 10;

/// Longest text of one object (64 GiB): ten times the largest logs, and an end for gzip bombs.
pub const MAX_INFLATED: u64 = 64 << 30;

#[derive(Debug, Error)]
#[error("the decompressed size exceeds {} GiB", MAX_INFLATED >> 30)]
pub(super) struct Bomb;

#[derive(Debug, Error)]
#[error("it is Parquet inside gzip. Decompress it once, and upload it again")]
struct GzippedParquet;

/// Reads the text of an object: all members of a gzip file, or a plain file as it is. The first
/// bytes decide, not the object's name or content type.
pub(super) struct Inflate<R: Read> {
    state: State<R>,
    /// Bytes left until [`MAX_INFLATED`].
    left: u64,
}

pub(super) type Sniffed<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum State<R: Read> {
    Unread {
        source: R,
        may_be_gzip: bool,
    },
    Gzip(Box<Members<Sniffed<R>>>),
    /// A Parquet file, if it says so.
    Plain {
        text: Sniffed<R>,
        is_parquet: bool,
    },
    /// Reading the first bytes failed, so every later read fails too.
    Broken,
}

impl<R: Read> Inflate<R> {
    /// Does not read before the first `read`.
    pub(super) fn new(source: R) -> Self {
        Self {
            state: State::Unread {
                source,
                may_be_gzip: true,
            },
            left: MAX_INFLATED,
        }
    }

    /// Reads what is not gzip.
    pub(super) fn plain(source: R) -> Self {
        Self {
            state: State::Unread {
                source,
                may_be_gzip: false,
            },
            left: MAX_INFLATED,
        }
    }

    /// Returns the bytes of the object if it is a Parquet file, or else the text of the object.
    pub(super) fn into_parquet(mut self) -> io::Result<Result<Sniffed<R>, Self>> {
        self.begin()?;
        Ok(match self.state {
            State::Plain {
                text,
                is_parquet: true,
            } => Ok(text),
            state => Err(Self { state, ..self }),
        })
    }

    /// Reads the first bytes, if that was not done.
    fn begin(&mut self) -> io::Result<()> {
        if matches!(self.state, State::Unread { .. })
            && let State::Unread {
                source,
                may_be_gzip,
            } = std::mem::replace(&mut self.state, State::Broken)
        {
            self.state = Self::sniff(source, may_be_gzip)?;
        }
        Ok(())
    }

    fn sniff(mut source: R, may_be_gzip: bool) -> io::Result<State<R>> {
        let mut start = Vec::with_capacity(START);
        source.by_ref().take(START as u64).read_to_end(&mut start)?;
        let is_gzip = may_be_gzip && start.starts_with(&GZIP_MAGIC);
        let is_parquet = start == parquet::MAGIC;
        let text = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(source));
        Ok(if is_gzip {
            State::Gzip(Box::new(Members::new(text)))
        } else {
            State::Plain { text, is_parquet }
        })
    }
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.begin()?;
        let read = match &mut self.state {
            State::Gzip(gzip) => {
                let read = gzip.read(buf)?;
                if self.left == MAX_INFLATED && buf[..read].starts_with(parquet::MAGIC) {
                    return Err(io::Error::other(GzippedParquet));
                }
                read
            }
            State::Plain { text, .. } => text.read(buf)?,
            State::Unread { .. } | State::Broken => {
                return Err(io::Error::other("an earlier read of the object failed"));
            }
        };
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(Bomb))?;
        Ok(read)
    }
}

/// Decompresses gzip to exactly as many bytes as `into` has.
///
/// # Errors
/// Also for a text of another length.
pub(super) fn gunzip(gzip: &[u8], into: &mut [u8]) -> io::Result<()> {
    let mut members = Members::new(gzip);
    members.read_exact(into)?;
    match members.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Reads the members of a gzip file one after the other. Zeros behind the last one are padding.
struct Members<R>(GzDecoder<Lent<R>>);

impl<R: BufRead> Members<R> {
    fn new(file: R) -> Self {
        Self(GzDecoder::new(Lent(Some(file))))
    }

    /// Goes to the next member. Returns `false` at the end of the file.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(mut file) = self.0.get_mut().0.take() else {
            return Ok(false);
        };
        let next = skip_padding(&mut file);
        if matches!(next, Ok(true)) {
            self.0.reset(Lent(Some(file)));
        } else {
            self.0.get_mut().0 = Some(file);
        }
        next
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(buf)?;
            if read > 0 || buf.is_empty() || !self.advance()? {
                return Ok(read);
            }
        }
    }
}

/// Reads the zeros behind a member. Returns whether another member follows.
fn skip_padding(file: &mut impl BufRead) -> io::Result<bool> {
    let mut is_padded = false;
    loop {
        let bytes = match file.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        if bytes.is_empty() {
            return Ok(false);
        } else if zeros < bytes.len() && (is_padded || zeros > 0) {
            let text = "the zeros behind a gzip member are followed by other data";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        } else if zeros == 0 {
            return Ok(true);
        }
        is_padded = true;
        file.consume(zeros);
    }
}

/// A file that can be taken from its decoder and given to the next one.
struct Lent<R>(Option<R>);

impl<R: Read> Read for Lent<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |file| file.read(buf))
    }
}

impl<R: BufRead> BufRead for Lent<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.as_mut().map_or(Ok(&[]), BufRead::fill_buf)
    }

    fn consume(&mut self, amount: usize) {
        if let Some(file) = &mut self.0 {
            file.consume(amount);
        }
    }
}

/// Discards the bytes of each line after the first [`MAX_LINE`] + 1, so that a line buffer stays
/// bounded. A line of `MAX_LINE` + 1 bytes was therefore too long.
pub(super) struct CapLines<R> {
    inner: R,
    /// Bytes of the current line that were kept.
    line: usize,
}

impl<R: Read> CapLines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, line: 0 }
    }

    /// Returns the text behind what was read, with lines of any length.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// Moves the bytes to keep to the front of `bytes` and returns their number.
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
            // Returning 0 would mean the end of the text, but the line continues.
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

    // proves: I25
    #[test]
    fn text_over_the_size_limit_is_an_error() {
        let read = |left| {
            let mut inflate = Inflate::new(&b"0123456789"[..]);
            inflate.left = left;
            inflate.read_to_end(&mut Vec::new())
        };
        assert_eq!(read(10).unwrap(), 10);
        let error = read(9).unwrap_err();
        assert!(error.get_ref().unwrap().is::<Bomb>(), "{error}");
    }

    #[test]
    fn failed_first_read_fails_every_later_one() {
        struct FailOnce(bool);
        impl Read for FailOnce {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                if std::mem::take(&mut self.0) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Ok(0)
            }
        }
        let mut inflate = Inflate::new(FailOnce(true));
        let error = inflate.read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        for _ in 0..2 {
            inflate.read(&mut [0; 10]).unwrap_err();
        }
    }

    #[test]
    fn only_bytes_over_the_line_limit_are_discarded() {
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

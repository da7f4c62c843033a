//! A file, repeated as one stream: gzip allows any number of members.

use std::fs::File;
use std::io::{self, Read, Seek as _};

use anyhow::Context as _;

/// Reads the arguments `FILE [REPEAT]`.
///
/// # Errors
/// If the file cannot be opened, or REPEAT is not a number.
pub fn from_arguments() -> anyhow::Result<Repeat> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    let path = arguments.next().context("FILE is missing")?;
    let times = arguments
        .next()
        .map_or(Ok(1), |times| times.parse())
        .context("REPEAT is not a number")?;
    Ok(Repeat {
        file: File::open(&path).with_context(|| path.clone())?,
        left: times,
    })
}

/// A file that is read `left` more times.
pub struct Repeat {
    file: File,
    left: u64,
}

impl Read for Repeat {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left > 0 {
            let read = self.file.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.left -= 1;
            self.file.rewind()?;
        }
        Ok(0)
    }
}

//! The log reader as a whole, from an object's bytes to records.

mod ends;
mod layouts;
mod objects;
mod rows;

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;

/// The path is the thirteenth column, so that rows are longer than one block of the search.
const HEADER: &str =
    "#Version: 1.0\n#Fields: date time c-ip cs-method 5 6 7 8 9 10 11 12 cs-uri-stem\n";
/// The columns before the path.
const START: &str = "2026-11-14\t20:00:00\t192.0.2.1\tGET\t-\t-\t-\t-\t-\t-\t-\t-\t";

fn row(n: u64) -> String {
    format!("{START}/row/{n}")
}

/// The paths of all rows, and how the log ended.
fn paths(mut reader: LogReader<impl Read>) -> (Vec<String>, Result<(), LogError>) {
    let mut paths = Vec::new();
    loop {
        match reader.advance() {
            Ok(true) => {
                let (number, record) = reader.record();
                assert_eq!(number, paths.len() as u64);
                paths.push(
                    String::from_utf8_lossy(record.get(Field::UriStem).unwrap_or(b"?"))
                        .into_owned(),
                );
            }
            Ok(false) => return (paths, Ok(())),
            Err(error) => {
                assert!(
                    matches!(reader.advance(), Ok(false)),
                    "an error is returned once, then the end"
                );
                return (paths, Err(error));
            }
        }
    }
}

fn path<R: Read>(reader: &LogReader<R>) -> Option<&[u8]> {
    reader.record().1.get(Field::UriStem)
}

fn gzip(text: &str) -> Vec<u8> {
    gzip_bytes(text.as_bytes())
}

fn gzip_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns reads of the given sizes, in rotation. A size of 0 is an interruption.
pub(super) struct Chunks<'a>(
    pub(super) &'a [u8],
    pub(super) &'a [usize],
    /// The number of reads so far.
    pub(super) usize,
);

impl Read for Chunks<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let size = self.1[self.2 % self.1.len()];
        self.2 += 1;
        if size == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = size.min(buf.len());
        self.0.read(&mut buf[..len])
    }
}

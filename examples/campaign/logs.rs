//! The logs of a run and the expected result of each row, computed independently of edgetap.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::ops::Range;

use flate2::bufread::MultiGzDecoder;
use jiff::Timestamp;
use rand::RngExt as _;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};

use crate::support::{HEADER, gzip};

/// A part of every path. Only the bridge may see it.
pub(crate) const CONTENT_CANARY: &str = "canary-content";

/// The expected result of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Sent,
    Static,
    Malformed,
}

/// One version of an object.
pub(crate) struct Version {
    pub bytes: Vec<u8>,
    pub etag: String,
    /// The number of readable rows.
    pub rows: u64,
    /// Whether the number of readable rows depends on how the bytes arrive, because the decoder
    /// stops at a corrupt byte.
    pub uneven: bool,
}

/// A log and its expected result.
pub(crate) struct Log {
    pub key: String,
    /// When its first notification was sent, by the queues' clock.
    pub notified: Timestamp,
    pub rows: Vec<Row>,
    /// The first version, and the repaired one if the first is damaged.
    pub versions: Vec<Version>,
}

impl Log {
    /// Returns a random log of fewer than `most` rows: API calls, static assets and malformed rows;
    /// gzip (one or two members) or plain; some truncated or corrupt.
    pub(crate) fn random(number: usize, most: u64, notified: Timestamp, rng: &mut StdRng) -> Self {
        let key = format!("log-{number}");
        let kinds = |roll| match roll {
            0..=2 => Row::Static,
            3 => Row::Malformed,
            _ => Row::Sent,
        };
        let mut rows: Vec<Row> = (0..rng.random_range(0..most))
            .map(|_| kinds(rng.random_range(0..10)))
            .collect();
        // A log without a readable row is refused as a whole.
        if rows.iter().all(|row| matches!(row, Row::Malformed)) {
            rows.fill(Row::Sent);
        }
        let text = text(&key, &rows);
        let whole = match rng.random_range(0..3) {
            0 => text.clone().into_bytes(),
            1 => gzip(&text),
            _ => {
                let (first, second) = text.split_at(rng.random_range(0..text.len()));
                [gzip(first), gzip(second)].concat()
            }
        };
        let mut log = Self {
            key,
            notified,
            rows,
            versions: Vec::new(),
        };
        if whole.starts_with(&[0x1f, 0x8b]) {
            match rng.random_range(0..10) {
                0 | 1 => log.add(cut(&whole, rng), false, &text),
                2 | 3 => log.add(flip(&whole, &text, rng), true, &text),
                _ => {}
            }
        }
        log.add(whole, false, &text);
        log
    }

    /// Returns an undamaged log of these rows.
    #[cfg(test)]
    pub(crate) fn whole(key: &str, rows: Vec<Row>) -> Self {
        let text = text(key, &rows);
        let mut log = Self {
            key: key.to_owned(),
            notified: Timestamp::UNIX_EPOCH,
            rows,
            versions: Vec::new(),
        };
        log.add(text.clone().into_bytes(), false, &text);
        log
    }

    fn add(&mut self, bytes: Vec<u8>, uneven: bool, whole: &str) {
        let etag = hex::encode(Sha256::digest(&bytes));
        let rows = if bytes.starts_with(&[0x1f, 0x8b]) {
            let decompressed = decompress(&bytes);
            let lines = memchr::memchr_iter(b'\n', &decompressed)
                .count()
                .saturating_sub(2);
            if decompressed.len() == whole.len() {
                self.rows.len()
            } else {
                lines
            }
        } else if bytes.starts_with(b"#") {
            self.rows.len()
        } else {
            0 // not a log anymore
        };
        self.versions.push(Version {
            bytes,
            etag,
            rows: rows as u64,
            uneven,
        });
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.versions.len() == 1
    }

    pub(crate) fn id(&self, row: u64) -> String {
        format!("{}-{row}", self.key)
    }

    /// Returns the rows in `rows` that must arrive.
    pub(crate) fn kept(&self, rows: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        rows.filter(|row| self.row(*row) == Some(Row::Sent))
    }

    pub(crate) fn row(&self, row: u64) -> Option<Row> {
        self.rows.get(usize::try_from(row).ok()?).copied()
    }

    /// Finds the version and the rows of a batch by trying which ones yield its key. Dropped rows
    /// before and after its transactions may belong to it.
    /// `making` is what the key says of rules and encoding.
    pub(crate) fn identify(
        &self,
        key: &str,
        ids: &[String],
        making: &str,
    ) -> Option<(usize, Range<u64>)> {
        let row_of = |id: &String| {
            id.strip_prefix(&self.key)?
                .strip_prefix('-')?
                .parse::<u64>()
                .ok()
        };
        let (first, last) = (row_of(ids.first()?)?, row_of(ids.last()?)?);
        let before = (0..first)
            .rev()
            .find(|row| self.row(*row) == Some(Row::Sent))
            .map_or(0, |row| row + 1);
        let after = (last + 1..self.rows.len() as u64)
            .find(|row| self.row(*row) == Some(Row::Sent))
            .unwrap_or(self.rows.len() as u64);
        for (version, Version { etag, .. }) in self.versions.iter().enumerate() {
            for start in before..=first {
                for end in last..after {
                    let derived = hex::encode(Sha256::digest(format!(
                        "logs\0{}\0{etag}\0{start}\0{end}\0{making}",
                        self.key
                    )));
                    if derived == key {
                        return Some((version, start..end + 1));
                    }
                }
            }
        }
        None
    }
}

/// Returns the log that a transaction belongs to.
pub(crate) fn log_of<'a>(logs: &'a [Log], id: &str) -> Option<&'a Log> {
    let key = id.rsplit_once('-')?.0;
    logs.iter().find(|log| log.key == key)
}

/// Returns every ID that may arrive.
pub(crate) fn ids(logs: &[Log]) -> BTreeSet<String> {
    logs.iter()
        .flat_map(|log| log.kept(0..log.rows.len() as u64).map(|row| log.id(row)))
        .collect()
}

/// Counts equal elements.
pub(crate) fn multiset<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    all.into_iter().fold(BTreeMap::new(), |mut counts, each| {
        *counts.entry(each).or_default() += 1;
        counts
    })
}

fn text(key: &str, rows: &[Row]) -> String {
    let mut text = HEADER.to_owned();
    for (row, kind) in rows.iter().enumerate() {
        let (method, suffix) = match kind {
            Row::Sent => ("GET", ""),
            Row::Static => ("GET", ".js"),
            Row::Malformed => ("-", ""),
        };
        writeln!(
            text,
            "2026-11-14\t20:00:00\t192.0.2.7\t{method}\t/{CONTENT_CANARY}/{row}{suffix}\t200\t{key}-{row}"
        )
        .unwrap();
    }
    text
}

/// Decompresses as much of a gzip file as possible.
fn decompress(bytes: &[u8]) -> Vec<u8> {
    let mut decompressed = Vec::new();
    let mut decoder = MultiGzDecoder::new(bytes);
    let mut byte = [0];
    // Byte by byte: a failed read loses the bytes before the error.
    while matches!(decoder.read(&mut byte), Ok(1)) {
        decompressed.extend(byte);
    }
    decompressed
}

/// Truncates a gzip file, but not at the end of a member, which would leave a valid file.
fn cut(whole: &[u8], rng: &mut StdRng) -> Vec<u8> {
    loop {
        let cut = &whole[..rng.random_range(1..whole.len())];
        if MultiGzDecoder::new(cut)
            .read_to_end(&mut Vec::new())
            .is_err()
        {
            return cut.to_vec();
        }
    }
}

/// Corrupts a byte so that decompression fails and yields only correct bytes before that. Otherwise
/// the expected result would be unknown.
fn flip(whole: &[u8], text: &str, rng: &mut StdRng) -> Vec<u8> {
    for _ in 0..60 {
        let mut bytes = whole.to_vec();
        let at = rng.random_range(0..bytes.len());
        bytes[at] ^= rng.random_range(1..=255u8);
        let is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
        let decompressed = decompress(&bytes);
        // Not what looks like another kind of log.
        if bytes.starts_with(b"{") || bytes.starts_with(b"#") {
            continue;
        }
        let fails = !is_gzip
            || MultiGzDecoder::new(&bytes[..])
                .read_to_end(&mut Vec::new())
                .is_err();
        if fails && text.as_bytes().starts_with(&decompressed) {
            return bytes;
        }
    }
    // A wrong length in the trailer is always detected.
    let mut bytes = whole.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x55;
    bytes
}

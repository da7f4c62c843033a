//! The logs of a run, and by another way than edgetap's what must become of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::ops::Range;

use flate2::bufread::MultiGzDecoder;
use rand::RngExt as _;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};

use crate::support::{HEADER, gzip};

/// Stands in every path: log content that must be seen nowhere but at the bridge.
pub(crate) const CONTENT_CANARY: &str = "canary-content";

/// What must become of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Sent,
    Static,
    Malformed,
}

/// An object's bytes at a time.
pub(crate) struct Version {
    pub bytes: Vec<u8>,
    pub etag: String,
    /// How many rows can be read of it.
    pub rows: u64,
    /// Whether what can be read of it hangs on how its bytes arrive: so it is where the inflater meets a wrong byte.
    pub uneven: bool,
}

/// A log, and what must become of it.
pub(crate) struct Log {
    pub key: String,
    pub rows: Vec<Row>,
    /// Its bytes at first, and once it was repaired.
    pub versions: Vec<Version>,
}

impl Log {
    /// API calls, static assets and malformed rows, gzip (of one or several members) or plain, some of them cut or corrupt.
    pub(crate) fn random(number: usize, dice: &mut StdRng) -> Self {
        let key = format!("log-{number}");
        let kinds = |roll| match roll {
            0..=2 => Row::Static,
            3 => Row::Malformed,
            _ => Row::Sent,
        };
        let rows: Vec<Row> = (0..dice.random_range(0..120))
            .map(|_| kinds(dice.random_range(0..10)))
            .collect();
        let text = text(&key, &rows);
        let whole = match dice.random_range(0..3) {
            0 => text.clone().into_bytes(),
            1 => gzip(&text),
            _ => {
                let (first, second) = text.split_at(dice.random_range(0..text.len()));
                [gzip(first), gzip(second)].concat()
            }
        };
        let mut log = Self {
            key,
            rows,
            versions: Vec::new(),
        };
        if whole.starts_with(&[0x1f, 0x8b]) {
            match dice.random_range(0..10) {
                0 | 1 => log.add(cut(&whole, dice), false, &text),
                2 | 3 => log.add(flip(&whole, &text, dice), true, &text),
                _ => {}
            }
        }
        log.add(whole, false, &text);
        log
    }

    /// A log of these rows that is whole.
    #[cfg(test)]
    pub(crate) fn whole(key: &str, rows: Vec<Row>) -> Self {
        let text = text(key, &rows);
        let mut log = Self {
            key: key.to_owned(),
            rows,
            versions: Vec::new(),
        };
        log.add(text.clone().into_bytes(), false, &text);
        log
    }

    fn add(&mut self, bytes: Vec<u8>, uneven: bool, whole: &str) {
        let etag = hex::encode(Sha256::digest(&bytes));
        let rows = if bytes.starts_with(&[0x1f, 0x8b]) {
            let inflated = inflate(&bytes);
            let lines = memchr::memchr_iter(b'\n', &inflated)
                .count()
                .saturating_sub(2);
            if inflated.len() == whole.len() {
                self.rows.len()
            } else {
                lines
            }
        } else if bytes.starts_with(b"#") {
            self.rows.len()
        } else {
            0 // it is no log any more
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

    /// Those of `rows` that must arrive.
    pub(crate) fn kept(&self, rows: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        rows.filter(|row| self.row(*row) == Some(Row::Sent))
    }

    pub(crate) fn count(&self, rows: Range<u64>, kind: Row) -> u64 {
        rows.filter(|row| self.row(*row) == Some(kind)).count() as u64
    }

    fn row(&self, row: u64) -> Option<Row> {
        self.rows.get(usize::try_from(row).ok()?).copied()
    }

    /// The version and the rows that a batch covers, found by trying which of them give its key: dropped rows around its
    /// transactions may belong to it.
    pub(crate) fn identify(&self, key: &str, ids: &[String]) -> Option<(usize, Range<u64>)> {
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
                        "logs\0{}\0{etag}\0{start}\0{end}",
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

/// Which log a transaction is of.
pub(crate) fn log_of<'a>(logs: &'a [Log], id: &str) -> Option<&'a Log> {
    let key = id.rsplit_once('-')?.0;
    logs.iter().find(|log| log.key == key)
}

/// Every id that may arrive.
pub(crate) fn ids(logs: &[Log]) -> BTreeSet<String> {
    logs.iter()
        .flat_map(|log| log.kept(0..log.rows.len() as u64).map(|row| log.id(row)))
        .collect()
}

/// How often each.
pub(crate) fn multiset<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    all.into_iter().fold(BTreeMap::new(), |mut counts, each| {
        *counts.entry(each).or_default() += 1;
        counts
    })
}

fn text(key: &str, rows: &[Row]) -> String {
    let mut text = HEADER.to_owned();
    for (row, kind) in rows.iter().enumerate() {
        let (ip, suffix) = match kind {
            Row::Sent => ("192.0.2.7", ""),
            Row::Static => ("192.0.2.7", ".js"),
            Row::Malformed => ("-", ""),
        };
        writeln!(
            text,
            "2026-11-14\t20:00:00\t{ip}\tGET\t/{CONTENT_CANARY}/{row}{suffix}\t200\t{key}-{row}"
        )
        .unwrap();
    }
    text
}

/// All that can be had of a gzip file.
fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut inflated = Vec::new();
    let mut decoder = MultiGzDecoder::new(bytes);
    let mut byte = [0];
    // Byte by byte: what comes before an error in one read is lost with it.
    while matches!(decoder.read(&mut byte), Ok(1)) {
        inflated.extend(byte);
    }
    inflated
}

/// Cuts it short, and not where one member ends: what is left would be whole.
fn cut(whole: &[u8], dice: &mut StdRng) -> Vec<u8> {
    loop {
        let cut = &whole[..dice.random_range(1..whole.len())];
        if MultiGzDecoder::new(cut)
            .read_to_end(&mut Vec::new())
            .is_err()
        {
            return cut.to_vec();
        }
    }
}

/// Flips a byte so that it is found, and nothing wrong is inflated before: else it could not be known what must arrive.
/// (S3's own checks and TLS see to the others.)
fn flip(whole: &[u8], text: &str, dice: &mut StdRng) -> Vec<u8> {
    for _ in 0..60 {
        let mut bytes = whole.to_vec();
        let at = dice.random_range(0..bytes.len());
        bytes[at] ^= dice.random_range(1..=255u8);
        let is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
        let inflated = inflate(&bytes);
        let fails = !is_gzip
            || MultiGzDecoder::new(&bytes[..])
                .read_to_end(&mut Vec::new())
                .is_err();
        if fails && text.as_bytes().starts_with(&inflated) {
            return bytes;
        }
    }
    // The length in the trailer is always looked at.
    let mut bytes = whole.to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x55;
    bytes
}

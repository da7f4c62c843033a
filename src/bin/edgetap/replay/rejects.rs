//! *Rejects*: the file of `--reject`, a line of JSON for each row that is not sent.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde::Serialize;

use crate::show;
use crate::verdict::Verdict;

pub(crate) struct Rejects {
    path: PathBuf,
    file: Mutex<BufWriter<File>>,
    /// The first error.
    failed: Mutex<Option<std::io::Error>>,
}

/// A row that is not sent.
#[derive(Serialize)]
struct Reject<'a> {
    object: &'a str,
    line: Option<u64>,
    row: Option<u64>,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// Returns the line of a row.
pub(crate) fn line(object: &str, line: Option<u64>, row: Option<u64>, verdict: &Verdict) -> String {
    let text = serde_json::to_string(&Reject {
        object,
        line,
        row,
        verdict,
    });
    // Text and numbers can always be written as JSON.
    show::json_line(&text.unwrap_or_default()) + "\n"
}

impl Rejects {
    /// Creates the file, or empties it.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        Self::open(
            path,
            OpenOptions::new().write(true).create(true).truncate(true),
        )
    }

    /// Writes behind what the file has.
    pub(crate) fn append(path: &Path) -> anyhow::Result<Self> {
        Self::open(path, OpenOptions::new().append(true).create(true))
    }

    fn open(path: &Path, options: &OpenOptions) -> anyhow::Result<Self> {
        let file = options.open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(BufWriter::new(file)),
            failed: Mutex::default(),
        })
    }

    pub(crate) fn write(&self, lines: &str) {
        if lines.is_empty() {
            return;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        self.note(file.write_all(lines.as_bytes()));
    }

    pub(crate) fn flush(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        self.note(file.flush());
    }

    fn note(&self, written: std::io::Result<()>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = failed.take().or(written.err());
    }

    /// Writes the rest.
    ///
    /// # Errors
    /// The first error of all writes.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.flush();
        let failed = self.failed.into_inner();
        match failed.unwrap_or_else(PoisonError::into_inner) {
            Some(error) => {
                Err(error).with_context(|| format!("cannot write {}", self.path.display()))
            }
            None => Ok(()),
        }
    }
}

//! *Remaining*: the objects and rows that are left, in memory and in the file of `--resume`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use edgetap::encode::Encoding;
use edgetap::ingest::Outcome;
use edgetap::job::ObjectRef;
use edgetap::pipeline::Rules;
use edgetap::rows::{OPEN, Rows};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Failure;
use crate::inputs;
use crate::output;
use crate::show::{self, count, quoted};
use crate::usage;

/// The version of the file.
const VERSION: u32 = 1;

/// How often the file is written, at most. A long list is written less often: that takes no more
/// than a twentieth of the time.
const EVERY: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;

/// Objects that are listed at the end.
const MAX_LISTED: usize = 10;

/// Ranges of rows that are listed for an object.
const MAX_RANGES: usize = 3;

/// The largest file that is read: a million objects have some 200 MB.
const MAX_FILE: u64 = 1 << 30;

/// What is left of a replay: names and numbers, no content.
pub(crate) struct Remaining {
    file: Option<PathBuf>,
    /// Held until the end: two replays with one file would send everything twice.
    _lock: Option<Lock>,
    head: Head,
    items: Vec<Item>,
    /// Whether the file does not say all that is known.
    is_stale: bool,
    /// When the file may be written next.
    next: Instant,
}

/// What all objects have in common.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
struct Head {
    #[serde(rename = "edgetap_resume")]
    version: u32,
    /// The names of the command line.
    inputs: Vec<String>,
    /// The folder that names of local logs start from.
    folder: PathBuf,
    /// A digest of the bridge's URL, which has accepted what is not left.
    bridge: String,
    /// [`Rules::digest`]: under other rules batches begin at other rows.
    rules: String,
    /// [`Encoding::REVISION`]: under another one bodies have other idempotency keys.
    encoding: String,
}

#[derive(Deserialize, Serialize)]
struct Saved<H, I> {
    #[serde(flatten)]
    head: H,
    left: I,
}

/// An object of which rows are left, or were.
#[derive(Clone, Deserialize, Serialize)]
struct Item {
    /// With the `ETag` and the size of the version that was begun.
    object: ObjectRef,
    /// When a local file was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<Timestamp>,
    rows: Rows,
}

impl Item {
    /// Whether some rows are settled, so that only others of the same version may follow.
    fn is_begun(&self) -> bool {
        !self.rows.is_all()
    }
}

impl Remaining {
    /// # Errors
    /// The file is in use.
    pub(crate) fn new(
        file: Option<&Path>,
        inputs: Vec<String>,
        rules: &Rules,
        edge: &str,
        objects: impl Iterator<Item = ObjectRef>,
    ) -> Result<Self, Failure> {
        let item = |object| Item {
            object,
            modified: None,
            rows: Rows::all(),
        };
        let lock = file.map(Lock::take).transpose()?;
        let items = objects.map(item).collect();
        Ok(Self::of(file, lock, head(inputs, rules, edge), items))
    }

    fn of(file: Option<&Path>, lock: Option<Lock>, head: Head, items: Vec<Item>) -> Self {
        Self {
            file: file.map(Path::to_owned),
            _lock: lock,
            head,
            items,
            is_stale: true,
            next: Instant::now(),
        }
    }

    /// Reads the file. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// It cannot be read, is of other inputs (unless none are named), or of other rules.
    pub(crate) fn read(
        file: &Path,
        inputs: &[String],
        rules: &Rules,
        edge: &str,
    ) -> Result<Option<Self>, Failure> {
        let name = show::escaped(&file.to_string_lossy());
        let metadata = match file.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.with_context(|| format!("cannot read {name}"))?,
        };
        if !metadata.is_file() || metadata.len() > MAX_FILE {
            return Err(usage(
                format!("{name} is not a file of `--resume`"),
                "name another file, which is then created",
            ));
        }
        let lock = Lock::take(file)?;
        let text = fs::read(file).with_context(|| format!("cannot read {name}"))?;
        let Ok(Saved { head, left }) = serde_json::from_slice::<Saved<Head, Vec<Item>>>(&text)
        else {
            return Err(usage(
                format!("{name} is not a file of `--resume`"),
                "name another file, which is then created",
            ));
        };
        let expected = self::head(inputs.to_vec(), rules, edge);
        if head.version != expected.version || head.encoding != expected.encoding {
            return Err(usage(
                format!("{name} is of another release of edgetap, which makes other batches"),
                "go on with that release, or remove the file to start over",
            ));
        }
        if head.rules != expected.rules {
            return Err(usage(
                format!(
                    "{name} was written with other settings, which put other rows into a request"
                ),
                "set STATIC_EXTENSIONS, INCLUDE_PATHS, EXCLUDE_PATHS, REDACT, REDACT_COOKIES and BATCH_MAX_… \
                 as they were then, or remove the file to start over",
            ));
        }
        if head.bridge != expected.bridge {
            return Err(usage(
                format!("{name} is of a replay to another bridge"),
                "set BRIDGE_EDGE_ENDPOINT as it was then, or remove the file to start over",
            ));
        }
        let is_local = |item: &Item| {
            item.object.bucket.is_empty() && !Path::new(&item.object.key).is_absolute()
        };
        if head.folder != expected.folder && left.iter().any(is_local) {
            let folder = quoted(&head.folder.to_string_lossy());
            return Err(usage(
                format!("{name} is of a replay in another folder: {folder}"),
                format!("go on there: cd {folder}"),
            ));
        }
        if !inputs.is_empty() && head.inputs != expected.inputs {
            return Err(usage(
                format!(
                    "{name} is of a replay of other logs: {}",
                    head.inputs.join(" ")
                ),
                "leave out the logs to go on with those, or name another file",
            ));
        }
        Ok(Some(Self::of(Some(file), Some(lock), head, left)))
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = ObjectRef> {
        self.items.iter().map(|item| item.object.clone())
    }

    /// Returns an object, with the version that was begun.
    pub(crate) fn object(&self, index: usize) -> ObjectRef {
        self.items[index].object.clone()
    }

    /// Returns the size of all objects, if every one is known.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.items.iter().map(|item| item.object.size).sum()
    }

    /// Returns the rows of an object that are left.
    pub(crate) fn rows(&self, index: usize) -> Rows {
        self.items[index].rows.clone()
    }

    /// Notes the version of an object that is begun. Returns `false` if rows of another one were
    /// delivered: they cannot be continued.
    pub(crate) fn begin(&mut self, index: usize, object: &ObjectRef, size: Option<u64>) -> bool {
        let item = &mut self.items[index];
        let modified = modified(object);
        let is_same = item.object.etag == object.etag
            && item.object.size == size
            && item.modified == modified;
        if item.is_begun() && !is_same {
            return false;
        }
        (item.object.etag, item.object.size) = (object.etag.clone(), size);
        item.modified = modified;
        true
    }

    /// Notes that rows are settled.
    pub(crate) fn settle(&mut self, index: usize, rows: &Range<u64>) {
        let item = &mut self.items[index];
        item.rows = item.rows.without(&Rows::from(rows.clone()));
        self.is_stale = true;
    }

    /// Notes which rows of an object an attempt has left.
    pub(crate) fn leave(&mut self, index: usize, outcome: &Outcome) {
        let item = &mut self.items[index];
        if item.is_begun() || outcome.left.is_empty() || outcome.unreadable.is_some() {
            item.rows.clone_from(&outcome.left);
            self.is_stale = true;
        }
    }

    /// Notes that no row of an object can be delivered any more.
    pub(crate) fn give_up(&mut self, index: usize) {
        self.items[index].rows = Rows::default();
        self.is_stale = true;
    }

    fn left(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.rows.is_empty())
    }

    /// Writes the file if something changed and some time has passed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save_if_due(&mut self) -> anyhow::Result<()> {
        if self.next > Instant::now() {
            return Ok(());
        }
        let started = Instant::now();
        self.save()?;
        self.next = Instant::now() + EVERY.max(started.elapsed() * SHARE);
        Ok(())
    }

    /// Writes the file, in one step: whoever reads it finds the old one or the new one. Removes it
    /// if nothing is left.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save(&mut self) -> anyhow::Result<()> {
        let Some(file) = self.file.as_deref().filter(|_| self.is_stale) else {
            return Ok(());
        };
        let left: Vec<&Item> = self.left().collect();
        let saved = Saved {
            head: &self.head,
            left,
        };
        let written = if saved.left.is_empty() {
            fs::remove_file(file).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
        } else {
            replace(file, &saved)
        };
        written.with_context(|| format!("cannot write {}", file.display()))?;
        self.is_stale = false;
        Ok(())
    }

    /// Says what is left, and how to go on: `command` is for a shell, without the logs and `--resume`.
    pub(crate) fn report(&self, is_resumed: bool, command: &str) {
        let left = self.left().count();
        if left == 0 {
            if let Some(file) = self.file.as_deref().filter(|_| is_resumed) {
                output::stderr_line(format_args!(
                    "nothing is left: removed {}",
                    show::escaped(&file.to_string_lossy())
                ));
            }
            return;
        }
        output::stderr_line(format_args!(
            "left: {}",
            count(left as u64, "object", "objects")
        ));
        for item in self.left().take(MAX_LISTED) {
            let name = show::escaped(&show::input(&item.object));
            output::stderr_line(format_args!("  {name}: {}", in_words(&item.rows)));
        }
        if left > MAX_LISTED {
            let more = count((left - MAX_LISTED) as u64, "other", "others");
            output::stderr_line(format_args!("  and {more}"));
        }
        let inputs = &self.head.inputs;
        match &self.file {
            Some(file) => {
                let file = quoted(&file.to_string_lossy());
                output::hint(format_args!("go on with: {command} --resume {file}"));
            }
            None if inputs.iter().any(|name| name == "-") => {}
            None => {
                let inputs: Vec<String> = inputs.iter().map(|name| quoted(name)).collect();
                output::hint(format_args!(
                    "start over, able to go on from then on: {command} --resume left.json {}",
                    inputs.join(" ")
                ));
            }
        }
    }
}

fn head(inputs: Vec<String>, rules: &Rules, edge: &str) -> Head {
    Head {
        version: VERSION,
        inputs,
        folder: inputs::place(Path::new(".")),
        bridge: hex::encode(Sha256::digest(edge)),
        rules: rules.digest(),
        encoding: Encoding::REVISION.to_owned(),
    }
}

/// The file beside that of `--resume` that is locked by whoever uses it.
struct Lock {
    path: PathBuf,
    /// Unlocked when it is closed, also by the end of the process.
    _file: File,
}

impl Lock {
    fn take(file: &Path) -> Result<Self, Failure> {
        let path = beside(file, ".lock");
        let name = show::escaped(&path.to_string_lossy());
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let opened = opened.with_context(|| format!("cannot write {name}"))?;
        match opened.try_lock() {
            Ok(()) => Ok(Self {
                path,
                _file: opened,
            }),
            Err(TryLockError::WouldBlock) => Err(usage(
                format!("another replay uses the file of --resume: {name} is locked"),
                "wait for its end, or name another file",
            )),
            Err(TryLockError::Error(error)) => Err(anyhow::Error::from(error)
                .context(format!("cannot lock {name}"))
                .into()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.path); // one that stays behind does no harm
    }
}

/// Returns the name of a file beside another.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// When a local file was last changed.
fn modified(object: &ObjectRef) -> Option<Timestamp> {
    if !object.bucket.is_empty() {
        return None;
    }
    let changed = fs::metadata(&object.key).and_then(|file| file.modified());
    Timestamp::try_from(changed.ok()?).ok()
}

/// Writes a file beside this one, and puts it in its place.
fn replace(file: &Path, saved: &impl Serialize) -> io::Result<()> {
    let new = beside(file, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A link that somebody put there is not followed.
    let mut writer = BufWriter::new(OpenOptions::new().write(true).create_new(true).open(&new)?);
    serde_json::to_writer(&mut writer, saved)?;
    writer.write_all(b"\n")?;
    writer.into_inner()?.sync_data()?;
    fs::rename(&new, file)
}

/// Returns rows as text: `rows 250 to 499 and from 750 on`.
fn in_words(rows: &Rows) -> String {
    if rows.is_all() {
        return "all rows".to_owned();
    }
    let ranges = rows.ranges();
    let range = |range: &Range<u64>| match (range.start, range.end) {
        (start, OPEN) => format!("{start} to the end"),
        (start, end) if end == start + 1 => start.to_string(),
        (start, end) => format!("{start} to {}", end - 1),
    };
    let mut words: Vec<String> = ranges.iter().take(MAX_RANGES).map(range).collect();
    if ranges.len() > MAX_RANGES {
        words.push("others".to_owned());
    }
    format!("rows {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shown_in_words() {
        for (rows, words) in [
            (Rows::all(), "all rows"),
            (Rows::from(7..8), "rows 7"),
            (Rows::from(7..9), "rows 7 to 8"),
            (
                [0..5, 9..10, 12..OPEN].into_iter().collect(),
                "rows 0 to 4, 9, 12 to the end",
            ),
            (
                [0..1, 2..3, 4..5, 6..7].into_iter().collect(),
                "rows 0, 2, 4, others",
            ),
        ] {
            assert_eq!(in_words(&rows), words);
        }
    }
}

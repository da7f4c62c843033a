//! *Seen*: the rows of an object that were read: how many of each class, and what `--reject` says of
//! those that are not settled yet.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edgetap::batch::Counts;
use edgetap::ingest::Settled;
use edgetap::log::LogReader;
use edgetap::pipeline::{Class, Fate, Observer, Rules};

use super::rejects;
use crate::verdict::Verdict;

/// Shared with the thread that reads.
#[derive(Clone)]
pub(crate) struct Seen(Arc<Mutex<Rows>>);

struct Rows {
    /// The object's name; `None` without `--reject`.
    object: Option<String>,
    counts: Counts,
    /// The row after the last one counted: a row that is read again counts once.
    next: u64,
    /// Rows that are not settled: those of the batches that are read or in flight.
    unsettled: BTreeMap<u64, Noted>,
}

enum Noted {
    /// To be sent: the number of its line.
    Sent(u64),
    /// Not to be sent: its line of `--reject`.
    Unsent(String),
}

impl Seen {
    pub(crate) fn new(object: Option<String>) -> Self {
        Self(Arc::new(Mutex::new(Rows {
            object,
            counts: Counts::default(),
            next: 0,
            unsettled: BTreeMap::new(),
        })))
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the row after the last one that was read.
    pub(crate) fn next_row(&self) -> u64 {
        self.rows().next
    }

    pub(crate) fn counts(&self) -> Counts {
        self.rows().counts
    }

    /// Forgets rows that are not settled: they are read again.
    pub(crate) fn restart(&self) {
        self.rows().unsettled.clear();
    }

    /// Returns the lines of `--reject` for rows that are settled now.
    pub(crate) fn settle(&self, rows: &Range<u64>, settled: Settled) -> String {
        let mut seen = self.rows();
        let mut taken = seen.unsettled.split_off(&rows.start);
        let mut behind = taken.split_off(&rows.end);
        seen.unsettled.append(&mut behind);
        let object = seen.object.as_deref().unwrap_or_default();
        let lines = taken.into_iter().filter_map(|(row, noted)| match noted {
            Noted::Unsent(line) => Some(line),
            Noted::Sent(line) => match settled {
                Settled::Accepted => None,
                Settled::Rejected(status) => {
                    let verdict = Verdict::rejected(status);
                    Some(rejects::line(object, Some(line), Some(row), &verdict))
                }
            },
        });
        lines.collect()
    }
}

impl Observer for Seen {
    fn see(&mut self, log: &LogReader<impl Read>, rules: &Rules, fate: &Fate<'_>) {
        let class = fate.class();
        let mut seen = self.rows();
        let row = log.number();
        if row >= seen.next {
            seen.next = row + 1;
            seen.count(class);
        }
        let Rows {
            object: Some(object),
            unsettled,
            ..
        } = &mut *seen
        else {
            return;
        };
        let noted = if class == Class::Sent {
            Noted::Sent(log.line())
        } else {
            let verdict = Verdict::of_fate(fate, rules);
            Noted::Unsent(rejects::line(object, Some(log.line()), Some(row), &verdict))
        };
        unsettled.insert(row, noted);
    }
}

impl Rows {
    fn count(&mut self, class: Class) {
        let counts = &mut self.counts;
        counts.rows += 1;
        *match class {
            Class::Sent => &mut counts.sent,
            Class::Static => &mut counts.static_assets,
            Class::Excluded => &mut counts.excluded,
            Class::Malformed => &mut counts.malformed,
            Class::Flawed => &mut counts.rejected,
            Class::Foreign => &mut counts.foreign,
        } += 1;
    }
}

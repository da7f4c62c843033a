//! *Total*: what was done with the objects, as the summary at the end and as progress.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edgetap::batch::Counts;
use edgetap::pipeline::Summary;
use indicatif::{HumanBytes, HumanCount, ProgressBar};

use crate::Failure;
use crate::output;
use crate::show::count;

/// What became of one object.
#[derive(Default)]
pub(crate) struct Replayed {
    /// The rows that were settled, or printed.
    pub(crate) summary: Summary,
    /// All rows that were read: more than those of the summary if some are left.
    pub(crate) read: Counts,
    /// Whether it was opened.
    pub(crate) is_opened: bool,
    /// Whether it is of another service, and was skipped on purpose.
    pub(crate) is_skipped: bool,
    /// Whether rows are left that were not read.
    pub(crate) has_unread: bool,
    /// Requests that were sent again.
    pub(crate) retries: u64,
    /// What went wrong, as a sentence that names the object.
    pub(crate) problem: Option<String>,
    /// Why, if other objects may have the same problem.
    pub(crate) cause: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// What is done with transactions.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// They are printed one by one.
    Ndjson,
    /// They are printed as the request bodies of the bridge.
    Bodies,
    Posted,
}

#[derive(Default)]
pub(crate) struct Total {
    objects: u64,
    counts: Counts,
    /// Rows that were read, are to be sent, and were neither accepted nor rejected.
    undelivered: u64,
    /// Whether there are others, which were not read.
    pub(crate) has_unread: bool,
    /// Objects without rows, if they were read to the end and not skipped.
    empty: u64,
    absent: BTreeSet<&'static str>,
    retries: u64,
    /// The cause that was reported last.
    cause: Option<String>,
    batches: u64,
    bytes: u64,
    /// Inputs and objects with a problem that was reported.
    pub(crate) unreadable: usize,
}

impl Total {
    /// Adds an object, and reports its problem.
    pub(crate) fn add(&mut self, replayed: Replayed) {
        let Replayed {
            summary,
            read,
            is_skipped,
            has_unread,
            retries,
            problem,
            cause,
            hint,
            ..
        } = replayed;
        self.objects += 1;
        self.empty += u64::from(read.rows == 0 && !is_skipped && !has_unread);
        self.has_unread |= has_unread;
        self.retries += retries;
        let by_bridge = summary.rejected.len() as u64;
        let Counts {
            sent, unreadable, ..
        } = summary.counts;
        self.undelivered += read.sent.saturating_sub(sent + by_bridge);
        self.counts += Counts {
            sent,
            rejected: read.rejected + by_bridge,
            unreadable,
            ..read
        };
        self.absent.extend(summary.absent);
        self.batches += summary.batches;
        self.bytes += summary.bytes;
        if let Some(problem) = problem {
            match &cause {
                None => output::error(problem),
                Some(_) if cause == self.cause => {
                    output::error(format_args!("{problem}, for the same reason"));
                }
                Some(cause) => output::error(format_args!("{problem}: {cause}")),
            }
            hint.iter().for_each(output::hint);
            self.cause = cause.or_else(|| self.cause.take());
            self.unreadable += 1;
        }
    }

    /// Whether this cause is the one that was reported last.
    pub(crate) fn has_reported(&self, cause: &str) -> bool {
        self.cause.as_deref() == Some(cause)
    }

    /// Writes what was done to standard error, one fact per line.
    pub(crate) fn report(&self, kind: Kind, time: Duration) {
        if self.objects == 0 {
            return;
        }
        let done = match kind {
            Kind::Posted => "sent",
            Kind::Ndjson | Kind::Bodies => "to send",
        };
        let size = HumanBytes(self.bytes);
        let size = match kind {
            Kind::Ndjson => format!("{size} of ndjson"),
            Kind::Bodies | Kind::Posted => format!(
                "{}, {size} of request bodies",
                count(self.batches, "batch", "batches")
            ),
        };
        let Counts {
            rows,
            sent,
            static_assets,
            excluded,
            malformed,
            rejected,
            foreign,
            unreadable,
        } = self.counts;
        let undelivered = self.undelivered;
        let absent = self.absent.iter().copied().collect::<Vec<_>>().join(", ");
        let logs = match self.objects {
            1 => "not in this log".to_owned(),
            objects => format!("not in some of the {} logs", HumanCount(objects)),
        };
        let more = [
            (foreign > 0).then(|| format!(", {} foreign", HumanCount(foreign))),
            (undelivered > 0 && !self.has_unread)
                .then(|| format!(", {} not delivered", HumanCount(undelivered))),
            (unreadable > 0).then(|| {
                format!(
                    "\n{} could not be read, and left out of its transaction",
                    count(unreadable, "field value", "field values")
                )
            }),
            (!absent.is_empty()).then(|| format!("\n{logs}: {absent}")),
        ];
        let more: String = more.into_iter().flatten().collect();
        let again = match self.retries {
            0 => String::new(),
            retries => format!(", {} sent again", count(retries, "request", "requests")),
        };
        output::stderr_line(format_args!(
            "{}, {} in {:.1} s\n{} {done}, {} static, {} excluded, {} malformed, {} rejected{more}\n{size}{again}",
            count(self.objects, "object", "objects"),
            count(rows, "row", "rows"),
            time.as_secs_f64(),
            HumanCount(sent),
            HumanCount(static_assets),
            HumanCount(excluded),
            HumanCount(malformed),
            HumanCount(rejected),
        ));
    }

    /// Reports that no row was read at all, and nothing else was wrong: probably other logs are meant.
    /// Objects that were skipped on purpose have been reported.
    pub(crate) fn expect_rows(&mut self) {
        if self.empty > 0 && self.counts.rows == 0 && self.unreadable == 0 {
            output::error(match self.empty {
                1 => "the log has no data rows",
                _ => "the logs have no data rows",
            });
            self.unreadable += 1;
        }
    }

    /// Whether everything was read and delivered, and nothing was rejected.
    pub(crate) fn result(&self) -> Result<(), Failure> {
        let is_complete = self.undelivered == 0 && !self.has_unread;
        if self.unreadable > 0 || self.counts.rejected > 0 || !is_complete {
            Err(Failure::Incomplete)
        } else {
            Ok(())
        }
    }
}

/// The progress of all objects together.
pub(crate) struct Meter {
    pub(crate) bar: ProgressBar,
    rows: AtomicU64,
    started: Instant,
    /// What is waited for, if anything.
    wait: Mutex<Option<&'static str>>,
}

impl Meter {
    pub(crate) fn new(bar: ProgressBar) -> Self {
        Self {
            bar,
            rows: AtomicU64::new(0),
            started: Instant::now(),
            wait: Mutex::default(),
        }
    }

    pub(crate) fn add(&self, rows: u64) {
        let rows = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        if !self.bar.is_hidden() {
            self.show(rows);
        }
    }

    /// Shows what is waited for, or rows again.
    pub(crate) fn waits_for(&self, what: Option<&'static str>) {
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner) = what;
        self.show(self.rows.load(Ordering::Relaxed));
    }

    fn show(&self, rows: u64) {
        let wait = *self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        self.bar.set_message(match wait {
            Some(what) => what.to_owned(),
            None => format!(
                "{}, {}/s",
                count(rows, "row", "rows"),
                HumanCount(per_second(rows, self.started))
            ),
        });
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn per_second(rows: u64, since: Instant) -> u64 {
    let milliseconds = u64::try_from(since.elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    rows.saturating_mul(1000) / milliseconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_without_rows_differs_from_one_that_was_not_read() {
        for (has_unread, empty) in [(false, 1), (true, 0)] {
            let mut total = Total::default();
            total.add(Replayed {
                has_unread,
                ..Replayed::default()
            });
            total.expect_rows();
            assert_eq!(total.unreadable, empty, "{has_unread}");
            assert!(total.result().is_err(), "{has_unread}");
        }
    }
}

//! Sends a message for each selected object, in the order of keys, so that one key tells how far it
//! came.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use edgetap::event::notification;
use edgetap::job::ObjectRef;
use edgetap::listing::{Listed, Listing};
use edgetap::outbox::{BATCH, Outbox, Unsent};
use edgetap::retry::Backoff;
use edgetap::source::SourceError;
use futures_util::stream::{self, StreamExt as _};
use indicatif::ProgressBar;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::interrupted;
use super::select::{Choice, Selection};
use crate::{output, show};

/// Batches in flight. SQS responds in some 10 ms, so that a few are enough for thousands a second.
const IN_FLIGHT: usize = 8;

/// SQS is asked again for up to two minutes.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    cap: Duration::from_secs(20),
    attempts: 12,
};

/// Where messages go, and what is in them.
pub(super) struct Post<'a> {
    pub(super) outbox: &'a Outbox,
    pub(super) bucket: &'a str,
    pub(super) region: &'a str,
}

/// What was sent.
#[derive(Default)]
pub(super) struct Sent {
    /// Messages that SQS accepted.
    pub(super) accepted: u64,
    /// The key up to which every selected object was accepted.
    pub(super) last: Option<String>,
    /// Whether it ended because of Ctrl-C or SIGTERM.
    pub(super) is_interrupted: bool,
    /// Why it ended before the end of the listing, if it failed.
    pub(super) failure: Option<String>,
}

/// Selected objects that become one request, or why the listing ended early.
type Batch = Result<Vec<Listed>, SourceError>;

/// The selected objects of a listing.
struct Selected<'a> {
    listing: Listing,
    selection: &'a Selection,
    /// Listed objects that no batch has yet, of one page.
    page: VecDeque<Listed>,
    /// Objects of one batch.
    size: usize,
    ticks: Interval,
    /// Whether the listing has failed, which ends the stream.
    has_failed: bool,
}

impl Selected<'_> {
    /// Returns the next batch at its time. `None` at the end.
    async fn next(&mut self) -> Option<Batch> {
        let mut batch = Vec::with_capacity(self.size);
        while batch.len() < self.size && !self.has_failed {
            match self.page.pop_front() {
                Some(listed) if self.selection.select(&listed) == Choice::Wanted => {
                    batch.push(listed);
                }
                Some(_) => {}
                None => match self.listing.page().await {
                    Ok(Some(page)) => self.page = page.into(),
                    Err(error) if batch.is_empty() => {
                        self.has_failed = true;
                        return Some(Err(error));
                    }
                    Ok(None) | Err(_) => break, // after an error, the next call asks once more
                },
            }
        }
        if batch.is_empty() {
            return None;
        }
        self.ticks.tick().await;
        Some(Ok(batch))
    }
}

/// Sends the selected objects, at most `rate` per second. Ctrl-C and the first failure end it once
/// what is in flight is finished; a second Ctrl-C ends it at once.
pub(super) async fn send(
    post: &Post<'_>,
    selection: &Selection,
    listing: Listing,
    rate: u32,
    progress: &ProgressBar,
) -> Sent {
    let size = usize::try_from(rate).unwrap_or(BATCH).clamp(1, BATCH);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(
        f64::from(u32::try_from(size).unwrap_or(1)) / f64::from(rate.max(1)),
    ));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let selected = Selected {
        listing,
        selection,
        page: VecDeque::new(),
        size,
        ticks,
        has_failed: false,
    };
    let (stop, mut stopped) = watch::channel(false);
    let batches = stream::unfold(selected, async |mut selected| {
        selected.next().await.map(|batch| (batch, selected))
    });
    let batches = batches.take_until(async move { _ = stopped.wait_for(|is| *is).await });
    let sends = batches.map(|batch| post.send(batch)).buffered(IN_FLIGHT);
    let mut sends = pin!(sends);
    let mut sent = Sent::default();
    let mut interrupt = pin!(interrupted());
    loop {
        tokio::select! {
            biased;
            () = &mut interrupt => {
                if sent.is_interrupted {
                    break;
                }
                sent.is_interrupted = true;
                interrupt.set(interrupted());
                _ = stop.send(true);
                output::stderr_line("finishing what is in flight; press Ctrl-C once more to stop at once");
            }
            outcome = sends.next() => match outcome {
                None => break,
                Some(outcome) => {
                    progress.inc(outcome.accepted);
                    if sent.add(outcome) {
                        _ = stop.send(true);
                    }
                }
            },
        }
    }
    sent
}

/// What became of a batch.
struct Outcome {
    accepted: u64,
    /// The last key before the first object that was not accepted.
    last: Option<String>,
    failure: Option<String>,
}

impl Post<'_> {
    async fn send(&self, batch: Batch) -> Outcome {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                return Outcome {
                    accepted: 0,
                    last: None,
                    failure: Some(error.to_string()),
                };
            }
        };
        let messages: Vec<String> = batch.iter().map(|listed| self.message(listed)).collect();
        let (first, accepted, failure) = match self.outbox.send(&messages, &BACKOFF).await {
            Ok(()) => (batch.len(), batch.len(), None),
            Err(Unsent {
                first,
                accepted,
                error,
            }) => {
                let key = batch.get(first).map(|listed| show::escaped(&listed.key));
                let failure = format!("{error} (first object: {})", key.unwrap_or_default());
                (first, accepted, Some(failure))
            }
        };
        let last = first.checked_sub(1).and_then(|last| batch.get(last));
        Outcome {
            accepted: accepted as u64,
            last: last.map(|listed| listed.key.clone()),
            failure,
        }
    }

    fn message(&self, listed: &Listed) -> String {
        let object = ObjectRef {
            etag: listed.etag.clone(),
            size: listed.size,
            ..ObjectRef::in_s3(self.bucket, listed.key.as_str())
        };
        notification(&object, self.region, Timestamp::now()).to_string()
    }
}

impl Sent {
    /// Adds what became of the next batch. Returns whether it is the first one that failed.
    fn add(&mut self, outcome: Outcome) -> bool {
        self.accepted += outcome.accepted;
        if self.failure.is_some() {
            return false; // what was accepted behind a failure is sent once more
        }
        self.last = outcome.last.or(self.last.take());
        self.failure = outcome.failure;
        self.failure.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_key_is_the_one_before_the_first_failure() {
        let outcome = |accepted, last: &str, failure: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Outcome {
                accepted,
                last: text(last),
                failure: text(failure),
            }
        };
        for (outcomes, accepted, last) in [
            (vec![], 0, None),
            (
                vec![outcome(10, "b", ""), outcome(3, "c", "")],
                13,
                Some("c"),
            ),
            (
                vec![
                    outcome(10, "b", ""),
                    outcome(9, "", "no"),
                    outcome(10, "e", ""),
                ],
                29,
                Some("b"),
            ),
            (vec![outcome(9, "", "no"), outcome(10, "e", "")], 19, None),
            (
                vec![outcome(9, "a", "no"), outcome(0, "", "too")],
                9,
                Some("a"),
            ),
        ] {
            let mut sent = Sent::default();
            let failures: Vec<_> = outcomes
                .into_iter()
                .filter_map(|outcome| sent.add(outcome).then_some(()))
                .collect();
            assert_eq!((sent.accepted, sent.last.as_deref()), (accepted, last));
            assert_eq!(sent.failure.is_some(), !failures.is_empty());
            assert!(failures.len() <= 1, "a failure stops once");
        }
    }
}

//! Follows a queue until the function has taken all of its messages.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::{Duration, Instant};

use edgetap::outbox::{Depth, Outbox, OutboxError};
use indicatif::{HumanCount, ProgressBar};

use super::tally::short;
use crate::output;

/// Looks in a row at which the queue must be empty: SQS counts approximately, and a count is right a
/// minute after the last message at the latest. With [`INTERVAL`] they span 75 s.
const EMPTY: u32 = 6;

/// Time between two looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(15);

/// Looks without a finished message after which it is said that nothing moves: 5 minutes.
const STUCK: u32 = 20;

/// Looks from which the rate is taken: 5 minutes.
const LOOKS: usize = 20;

/// How many times a failed look is repeated.
const FAILURES: u32 = 5;

/// How the wait ended.
pub(super) enum End {
    /// The queue is empty.
    Empty,
    Interrupted,
}

/// Where the wait stands.
#[derive(Default)]
struct Progress {
    /// Looks in a row at which the queue was empty.
    empty: u32,
    /// Looks in a row at which no message was finished.
    stuck: u32,
    /// The last looks.
    looks: VecDeque<(Instant, u64)>,
    /// The smallest number of messages that was seen.
    least: Option<u64>,
}

/// What a look shows.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Moving,
    /// For the first time in a row.
    Stuck,
    Empty,
}

impl Progress {
    fn note(&mut self, at: Instant, depth: Depth) -> Seen {
        let total = depth.total();
        self.empty = if total == 0 { self.empty + 1 } else { 0 };
        let is_less = self.least.is_none_or(|least| total < least);
        if is_less {
            self.least = Some(total);
        }
        self.stuck = if is_less || total == 0 {
            0
        } else {
            self.stuck + 1
        };
        self.looks.push_back((at, total));
        if self.looks.len() > LOOKS {
            self.looks.pop_front();
        }
        if self.empty >= EMPTY {
            Seen::Empty
        } else if self.stuck == STUCK {
            Seen::Stuck
        } else {
            Seen::Moving
        }
    }

    /// Returns the messages finished per second, if there are any.
    fn rate(&self) -> Option<f64> {
        let ((first, before), (last, after)) = (self.looks.front()?, self.looks.back()?);
        let finished = u32::try_from(before.checked_sub(*after)?).ok()?;
        let seconds = last.duration_since(*first).as_secs_f64();
        (finished > 0 && seconds > 0.0).then(|| f64::from(finished) / seconds)
    }
}

/// Waits until the queue is empty. Says so if nothing moves, and waits on.
///
/// # Errors
/// [`OutboxError`] if SQS does not say repeatedly how many messages there are.
pub(super) async fn until_empty(
    outbox: &Outbox,
    interval: Duration,
    bar: &ProgressBar,
) -> Result<End, OutboxError> {
    let (mut progress, mut failures) = (Progress::default(), 0);
    let mut interrupt = pin!(super::interrupted());
    loop {
        let depth = tokio::select! {
            biased;
            () = &mut interrupt => return Ok(End::Interrupted),
            depth = outbox.depth() => depth,
        };
        match depth {
            Ok(depth) => {
                failures = 0;
                match progress.note(Instant::now(), depth) {
                    Seen::Empty => return Ok(End::Empty),
                    Seen::Stuck => say_stuck(depth),
                    Seen::Moving => {}
                }
                show(bar, depth, progress.rate());
            }
            Err(error) if failures >= FAILURES => return Err(error),
            Err(_) => failures += 1,
        }
        tokio::select! {
            biased;
            () = &mut interrupt => return Ok(End::Interrupted),
            () = tokio::time::sleep(interval) => {}
        }
    }
}

fn say_stuck(depth: Depth) {
    if depth.in_flight == 0 {
        tracing::warn!(
            waiting = depth.waiting,
            "no message is being received from the queue; still waiting. Check that its event source mapping is enabled (scripts/pause.sh --queue backfill --resume)"
        );
    } else {
        tracing::warn!(
            waiting = depth.waiting,
            in_flight = depth.in_flight,
            "no message was finished for minutes; still waiting. Look at the function's log: usually the bridge is unavailable"
        );
    }
}

fn show(bar: &ProgressBar, depth: Depth, rate: Option<f64>) {
    let total = depth.total();
    let eta = rate.and_then(|rate| {
        let left = f64::from(u32::try_from(total).unwrap_or(u32::MAX)) / rate;
        Duration::try_from_secs_f64(left).ok()
    });
    let eta = eta.map(|eta| format!(", ETA {}", short(eta)));
    let rate = rate.map(|rate| format!(", {rate:.1}/s"));
    bar.set_message(format!(
        "{} messages left, {} of them in flight{}{}",
        HumanCount(total),
        HumanCount(depth.in_flight),
        rate.unwrap_or_default(),
        eta.unwrap_or_default()
    ));
}

/// Reports the dead letters. Returns whether there are new ones.
pub(super) fn report(before: u64, after: u64) -> bool {
    let new = after.saturating_sub(before);
    if new == 0 {
        output::stderr_line(format_args!(
            "the queue is empty; {after} dead letters, none of them new"
        ));
        return false;
    }
    output::error(format_args!(
        "the queue is empty, but {} of its messages became dead letters",
        HumanCount(new)
    ));
    output::hint("`scripts/redrive.sh --queue backfill --dry-run` shows them and why");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(waiting: u64, in_flight: u64) -> Depth {
        Depth { waiting, in_flight }
    }

    #[test]
    fn queue_is_empty_once_it_was_several_times_in_a_row() {
        let mut progress = Progress::default();
        let now = Instant::now();
        let zeros = |progress: &mut Progress, times| {
            let mut seen = Seen::Moving;
            (0..times).for_each(|_| seen = progress.note(now, depth(0, 0)));
            seen
        };
        assert_eq!(zeros(&mut progress, EMPTY - 1), Seen::Moving);
        assert_eq!(progress.note(now, depth(0, 1)), Seen::Moving);
        assert_eq!(zeros(&mut progress, EMPTY - 1), Seen::Moving);
        assert_eq!(zeros(&mut progress, 1), Seen::Empty);
    }

    #[test]
    fn queue_that_does_not_move_is_told_once() {
        let mut progress = Progress::default();
        let now = Instant::now();
        let mut told = Vec::new();
        for look in 0..3 * STUCK {
            // A message goes from one state to the other, and one more arrives.
            let waiting = 100 + u64::from(look == 3);
            if progress.note(now, depth(waiting, 0)) == Seen::Stuck {
                told.push(look);
            }
        }
        assert_eq!(told, [STUCK]);
        assert_eq!(progress.note(now, depth(99, 0)), Seen::Moving);
        assert_eq!(progress.stuck, 0);
    }

    #[test]
    fn rate_is_that_of_the_last_minutes() {
        let mut progress = Progress::default();
        let start = Instant::now();
        assert_eq!(progress.rate(), None);
        for (second, total) in [(0, 100), (10, 100), (20, 60)] {
            progress.note(start + Duration::from_secs(second), depth(total, 0));
        }
        assert_eq!(
            progress.rate().map(|rate| rate.to_string()),
            Some("2".to_owned())
        );
        progress.note(start + Duration::from_secs(30), depth(200, 0));
        assert_eq!(progress.rate(), None, "messages were sent in between");
    }
}

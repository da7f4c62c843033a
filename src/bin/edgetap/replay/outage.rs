//! *Outage*: whether and when rows that are left are sent again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edgetap::bridge::Trouble;
use edgetap::ingest::{Outcome, StopReason};
use edgetap::response::Scope;

use crate::show::short;

/// The longest wait between two attempts, unless the bridge asks for more.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The attempt from which on a failure may be a refusal of the batch: it is then sent in parts.
const LATE: u32 = 3;

/// After an outage is shown, the time in which no other one is. A bridge that fails now and then would
/// flood the terminal.
const QUIET: Duration = Duration::from_mins(1);

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// No row is left.
    Done,
    /// The bridge is down: wait for it, for at least the time that it asked for.
    Wait(Option<Duration>),
    /// The bridge is down, unless it accepts other batches.
    Doubt(Option<Duration>),
    /// Perhaps these batches are at fault: another attempt, soon.
    Soon,
    /// Waiting does not help this object.
    GiveUpObject,
    /// Waiting does not help any object: no other is begun.
    GiveUpAll,
}

/// Decides what follows the attempt of this number, from 1.
pub(crate) fn next(outcome: &Outcome, number: u32) -> Next {
    if outcome.left.is_empty() {
        return Next::Done;
    }
    let mut next = Next::GiveUpObject;
    for reason in &outcome.reasons {
        next = match reason {
            StopReason::Bridge(trouble) => worse(next, of_trouble(trouble, number)),
            StopReason::Source(_) if number < LATE => worse(next, Next::Soon),
            StopReason::Source(_) => next,
            StopReason::Deadline
            | StopReason::Interrupted
            | StopReason::Reader
            | StopReason::Unbalanced => return Next::GiveUpObject,
        };
    }
    next
}

/// Decides what follows a trouble.
pub(crate) fn of_trouble(trouble: &Trouble, number: u32) -> Next {
    match (trouble.scope, trouble.lasts) {
        (Scope::Bridge, true) => Next::GiveUpAll,
        (Scope::Bridge, false) => Next::Wait(trouble.after),
        (Scope::Batch, _) if number < LATE => Next::Soon,
        (Scope::Batch, true) => Next::GiveUpObject,
        (Scope::Batch, false) => Next::Doubt(trouble.after),
    }
}

/// Returns the more severe of two decisions: what gives up all, then the longest wait, then what gives
/// up this object.
fn worse(one: Next, other: Next) -> Next {
    match (one, other) {
        (Next::GiveUpAll, _) | (_, Next::GiveUpAll) => Next::GiveUpAll,
        (Next::Wait(one), Next::Wait(other)) => Next::Wait(one.max(other)),
        (wait @ Next::Wait(_), _) | (_, wait @ Next::Wait(_)) => wait,
        (doubt @ Next::Doubt(_), _) | (_, doubt @ Next::Doubt(_)) => doubt,
        (Next::Soon, _) | (_, Next::Soon) => Next::Soon,
        (one, _) => one,
    }
}

/// Returns the wait after so many attempts without progress.
pub(crate) fn wait(failed: u32) -> Duration {
    let doubled = Duration::from_secs(1 << failed.saturating_sub(1).min(5));
    doubled.min(MAX_WAIT)
}

/// Whether the bridge is down, for all objects that are sent at the same time.
pub(crate) struct Outage {
    pub(crate) retry_for: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since when nothing was accepted.
    since: Option<Instant>,
    /// Whether this outage is shown.
    is_shown: bool,
    /// When an outage was last shown.
    shown: Option<Instant>,
    /// When something was last accepted.
    accepted: Option<Instant>,
}

impl Outage {
    pub(crate) fn new(retry_for: Duration) -> Self {
        Self {
            retry_for,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an attempt that failed because of the bridge.
    pub(crate) fn begin(&self, attempt: Instant) {
        self.state().since.get_or_insert(attempt);
    }

    /// Shows once for each outage that the bridge is waited for.
    pub(crate) fn show(&self, reason: &str) {
        let mut state = self.state();
        let is_quiet = state.shown.is_some_and(|shown| shown.elapsed() < QUIET);
        if !state.is_shown && !is_quiet {
            state.is_shown = true;
            state.shown = Some(Instant::now());
            let retry_for = short(self.retry_for);
            tracing::warn!(retry_for, reason, "waiting for the bridge");
        }
    }

    /// Notes that the bridge has accepted something. Returns whether it was down before.
    pub(crate) fn end(&self) -> bool {
        let mut state = self.state();
        state.accepted = Some(Instant::now());
        let Some(since) = state.since.take() else {
            return false;
        };
        if std::mem::take(&mut state.is_shown) {
            let after = short(since.elapsed());
            tracing::warn!(after, "the bridge accepts requests again");
        }
        true
    }

    /// Whether the bridge has accepted something since.
    pub(crate) fn has_accepted_since(&self, time: Instant) -> bool {
        self.state()
            .accepted
            .is_some_and(|accepted| accepted > time)
    }

    /// Whether nothing was accepted for `retry_for`.
    pub(crate) fn is_over(&self) -> bool {
        let since = self.state().since;
        since.is_some_and(|since| since.elapsed() >= self.retry_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgetap::rows::Rows;

    fn trouble(scope: Scope, lasts: bool, after: Option<u64>) -> StopReason {
        StopReason::Bridge(Trouble {
            scope,
            why: format!("{scope:?} {lasts} {after:?}"),
            after: after.map(Duration::from_secs),
            lasts,
        })
    }

    #[test]
    fn outage_is_waited_for_and_refusal_is_not() {
        use Scope::{Batch, Bridge};
        let wait = |seconds: Option<u64>| Next::Wait(seconds.map(Duration::from_secs));
        for (reasons, number, expected) in [
            (vec![trouble(Bridge, false, None)], 1, wait(None)),
            (vec![trouble(Bridge, false, None)], 9, wait(None)),
            (
                vec![
                    trouble(Bridge, false, Some(7)),
                    trouble(Bridge, false, Some(9)),
                ],
                1,
                wait(Some(9)),
            ),
            (vec![trouble(Bridge, true, None)], 1, Next::GiveUpAll),
            (
                vec![trouble(Bridge, false, None), trouble(Bridge, true, None)],
                1,
                Next::GiveUpAll,
            ),
            (vec![trouble(Batch, true, None)], 1, Next::Soon),
            (vec![trouble(Batch, true, None)], LATE, Next::GiveUpObject),
            (vec![trouble(Batch, false, None)], 1, Next::Soon),
            (vec![trouble(Batch, false, None)], LATE, Next::Doubt(None)),
            (
                vec![trouble(Batch, false, None), trouble(Bridge, false, None)],
                LATE,
                wait(None),
            ),
            (vec![StopReason::Source("cut".to_owned())], 1, Next::Soon),
            (
                vec![StopReason::Source("cut".to_owned())],
                LATE,
                Next::GiveUpObject,
            ),
            (
                vec![trouble(Bridge, false, None), StopReason::Interrupted],
                1,
                Next::GiveUpObject,
            ),
            (vec![StopReason::Unbalanced], 1, Next::GiveUpObject),
        ] {
            let text = format!("{reasons:?} {number}");
            let outcome = Outcome::of_left(Rows::all(), reasons);
            assert_eq!(next(&outcome, number), expected, "{text}");
        }
        assert_eq!(next(&Outcome::default(), 1), Next::Done);
    }

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let seconds: Vec<u64> = (1..9).map(|failed| wait(failed).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn outage_ends_with_the_first_acceptance() {
        let outage = Outage::new(Duration::ZERO);
        assert!(!outage.is_over() && !outage.end());
        outage.begin(Instant::now());
        outage.show("down");
        assert!(outage.is_over());
        assert!(outage.end());
        assert!(!outage.is_over());
    }
}

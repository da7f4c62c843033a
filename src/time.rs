//! *Time*: the [`Clock`], the end of a wait (`Moment`) and the end of an invocation
//! ([`Deadline`]).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

/// The current time: the system's clock, or a test's.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// Returns a clock that reads `now`.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// An instant by the monotonic clock and by the wall clock; the earlier one counts. Lambda freezes
/// the process between invocations, and the monotonic clock may stop during that time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(Instant, SystemTime);

impl Moment {
    /// Returns the instant `time` from now, at most a year ahead so that neither clock overflows.
    pub(crate) fn after(time: Duration) -> Self {
        let time = time.min(Duration::from_hours(24 * 365));
        Self(Instant::now() + time, SystemTime::now() + time)
    }

    /// Returns the time until the instant; zero once it has passed.
    pub(crate) fn time_left(&self) -> Duration {
        let by_wall = self
            .1
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO);
        self.0
            .saturating_duration_since(Instant::now())
            .min(by_wall)
    }

    pub(crate) fn has_come(&self) -> bool {
        self.time_left().is_zero()
    }
}

/// The instant by which an invocation must end. The command line has [`Deadline::NEVER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    pub const NEVER: Self = Self(None);

    /// Returns the deadline `time_left` from now. Zero is a deadline that has passed.
    pub fn after(time_left: Duration) -> Self {
        Self(Instant::now().checked_add(time_left))
    }

    /// Returns the earlier of this deadline and `time` from now. [`Deadline::NEVER`] stays as it
    /// is.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        Self(self.0.map(|at| {
            Instant::now()
                .checked_add(time)
                .map_or(at, |other| at.min(other))
        }))
    }

    /// Returns the deadline `time` later. [`Deadline::NEVER`] stays as it is.
    #[must_use]
    pub fn extended(&self, time: Duration) -> Self {
        Self(self.0.and_then(|at| at.checked_add(time)))
    }

    /// Returns the time left: zero once the deadline has passed, `Duration::MAX` for
    /// [`Deadline::NEVER`].
    pub fn time_left(&self) -> Duration {
        self.0.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }

    /// Whether no time is left.
    pub fn has_passed(&self) -> bool {
        self.time_left().is_zero()
    }

    /// Sleeps for `time` and returns `true`, or returns `false` at once if the deadline comes
    /// first.
    pub async fn sleep(&self, time: Duration) -> bool {
        if time >= self.time_left() {
            return false;
        }
        tokio::time::sleep(time).await;
        true
    }

    /// Awaits `task`; returns `None` if the deadline passes first.
    pub async fn bound<T>(&self, task: impl Future<Output = T>) -> Option<T> {
        match self.0 {
            Some(at) => tokio::time::timeout_at(at, task).await.ok(),
            None => Some(task.await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn past_deadline_leaves_no_time() {
        let past = Deadline::after(Duration::ZERO);
        assert!(past.has_passed());
        assert!(!past.sleep(Duration::ZERO).await);
        assert_eq!(past.bound(std::future::pending::<()>()).await, None);
        assert!(!Deadline::NEVER.has_passed());
        assert_eq!(Deadline::NEVER.within(Duration::ZERO), Deadline::NEVER);
        assert!(
            Deadline::after(Duration::from_mins(1))
                .within(Duration::from_secs(1))
                .time_left()
                <= Duration::from_secs(1)
        );
        assert!(past.within(Duration::from_mins(1)).has_passed());
    }
}

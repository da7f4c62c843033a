//! *Time*: the [`Clock`], and instants that end something: a [`Moment`] and the [`Deadline`] of an
//! invocation.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

/// What time it is: the system's clock, but for tests.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock of one's own.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
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

/// An instant by both clocks: it has come when either says so. The monotonic clock may stand still while a process is frozen.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant, SystemTime);

impl Moment {
    /// That much from now; far ahead when that is further than a clock goes.
    pub fn after(time: Duration) -> Self {
        let time = time.min(Duration::from_hours(24 * 365));
        Self(Instant::now() + time, SystemTime::now() + time)
    }

    /// How long until it comes.
    pub fn time_left(&self) -> Duration {
        let by_wall = self
            .1
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO);
        self.0
            .saturating_duration_since(Instant::now())
            .min(by_wall)
    }

    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.time_left().is_zero()
    }
}

/// The instant by which an invocation must be over; at a terminal there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub const NEVER: Self = Self(None);

    /// A deadline that much from now. Zero is a deadline that has passed.
    pub fn after(time_left: Duration) -> Self {
        Self(Instant::now().checked_add(time_left))
    }

    /// The earlier of this deadline and one that much from now; never, when this never comes.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        Self(self.0.map(|at| {
            Instant::now()
                .checked_add(time)
                .map_or(at, |other| at.min(other))
        }))
    }

    /// The time left; zero when it has passed, `Duration::MAX` when there is no deadline.
    pub fn time_left(&self) -> Duration {
        self.0.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }

    /// Whether there is no time left.
    pub fn has_passed(&self) -> bool {
        self.time_left().is_zero()
    }

    /// Waits, unless the deadline would pass meanwhile: then it returns at once, with `false`.
    pub async fn sleep(&self, time: Duration) -> bool {
        if time >= self.time_left() {
            return false;
        }
        tokio::time::sleep(time).await;
        true
    }

    /// Awaits what must come in time; `None` when it did not.
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
    async fn a_deadline_in_the_past_leaves_no_time() {
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

//! *Retry*: the [`Backoff`] between tries, the wait that `Retry-After` asks for, and the causes
//! of a failure as text.

use std::error::Error;
use std::time::{Duration, SystemTime};

use retry_policies::policies::ExponentialBackoff;
use retry_policies::{Jitter, RetryDecision, RetryPolicy};

/// Exponential backoff with full jitter: the wait after *n* failed tries is random between zero
/// and `base` × 2ⁿ⁻¹, capped at `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub cap: Duration,
    /// Total tries, including the first.
    pub attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(200),
            cap: Duration::from_secs(20),
            attempts: 5,
        }
    }
}

impl Backoff {
    /// Returns the wait after `failed` failed tries, or `None` when no try is left.
    pub fn wait(&self, failed: u32) -> Option<Duration> {
        let policy = ExponentialBackoff::builder()
            .retry_bounds(self.base, self.cap)
            .jitter(Jitter::Full)
            .build_with_max_retries(self.attempts.saturating_sub(1));
        let now = SystemTime::now();
        match policy.should_retry(now, failed.saturating_sub(1)) {
            // Zero if the system clock was set back between the two readings.
            RetryDecision::Retry { execute_after } => {
                Some(execute_after.duration_since(now).unwrap_or(Duration::ZERO))
            }
            RetryDecision::DoNotRetry => None,
        }
    }
}

/// Upper bound on the wait that a `Retry-After` header can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(15);

/// Reads a `Retry-After` header (RFC 9110, 10.2.3): seconds or an HTTP date, capped at 15 minutes.
/// Returns `None` for anything else.
pub fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse()
        && !value.starts_with('+')
    {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    // A date in the past means no wait.
    Some(
        date.duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO)
            .min(MAX_RETRY_AFTER),
    )
}

/// Joins an error and its causes, outermost first, and drops a cause whose text the error before it
/// already ends with.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !words.last().is_some_and(|last| last.ends_with(&text)) {
            words.push(text);
        }
        next = cause.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_stays_within_bounds_and_ends() {
        let backoff = Backoff {
            base: Duration::from_millis(100),
            cap: Duration::from_millis(300),
            attempts: 4,
        };
        for _ in 0..200 {
            for (failed, longest) in [(1, 100), (2, 200), (3, 300)] {
                assert!(
                    backoff
                        .wait(failed)
                        .is_some_and(|wait| wait <= Duration::from_millis(longest + 5)),
                    "after {failed}"
                );
            }
            assert_eq!(backoff.wait(4), None);
        }
        let waits: std::collections::BTreeSet<_> =
            (0..50).filter_map(|_| backoff.wait(3)).collect();
        assert!(waits.len() > 10, "jitter");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_mins(1));
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("31536000"), Some(Duration::from_mins(15)));
        assert!(retry_after(&in_a_minute).is_some_and(|wait| (58..=60).contains(&wait.as_secs())));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::ZERO)
        );
        for nonsense in ["", "soon", "-1", "+7", "1.5", "99999999999999999999999"] {
            assert_eq!(retry_after(nonsense), None, "{nonsense}");
        }
    }
}

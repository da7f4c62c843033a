//! *Plan*: what follows from the attempts at a message's jobs. The whole rule is the pure function
//! [`decide`].
//!
//! 1. Rows that no attempt can deliver go to the dead-letter queue.
//! 2. If rows of a message were settled, those that are left are requeued: at once if the deadline
//!    was the reason, else after the wait that was asked for, or else after the retry delay.
//! 3. If nothing was settled, the message is redelivered after that wait or the retry delay,
//!    whichever is longer. SQS delivers a message `maxReceiveCount` times, and short waits would use
//!    them up.
//! 4. Once `RETRY_FOR` is over, a message without progress goes to the dead-letter queue. With
//!    progress, rows that are left are requeued until twice that time is over.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use crate::batch::{Flaw, Flaws, Rejection};
use crate::continuation::History;
use crate::ingest::{Outcome, StopReason};
use crate::pipeline::Summary;
use crate::rows::Rows;

/// The limit on requeues. A requeued message has fewer rows than the one before, so only a defect
/// reaches it.
pub const MAX_REQUEUES: u32 = 1_000;

/// Retry delays in minutes, by attempt. The last one repeats.
const RETRY_DELAYS: [u64; 5] = [1, 2, 4, 8, 15];

/// The longest delay, which is also the longest `DelaySeconds` of SQS.
pub const MAX_DELAY: Duration = Duration::from_mins(15);

/// How long a visible message may take until it is received.
const POLLING: Duration = Duration::from_secs(30);

/// How much later than its message's first delivery an invocation may begin.
const COLD_START: Duration = Duration::from_secs(5);

/// The least factor of a retry delay. Retries spread out with it.
pub const LEAST_JITTER: f64 = 0.8;

/// How long an attempt without progress usually takes at most: a minute of retries, and the last
/// response.
const ATTEMPT: Duration = Duration::from_secs(90);

/// The result of one attempt at a job, as far as [`decide`] needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the attempt settled rows, or found rows that cannot be read.
    pub has_progress: bool,
    /// Rows that the bridge rejected, and the reason.
    pub rejected: Option<(Rows, String)>,
    /// Rows that cannot be read, and the reason.
    pub unreadable: Option<(Rows, String)>,
    pub left: Rows,
    /// Why rows are left.
    pub why: String,
    /// The wait that the bridge or the token endpoint asked for.
    pub after: Option<Duration>,
    /// Whether rows are left because the deadline came.
    pub is_late: bool,
}

impl Facts {
    /// Returns the facts of a job that was not begun, or whose object could not be opened.
    pub(crate) fn nothing(rows: &Rows, reason: &StopReason) -> Self {
        let after = match reason {
            StopReason::Bridge(trouble) => trouble.after,
            _ => None,
        };
        Self {
            left: rows.clone(),
            why: reason.to_string(),
            after,
            is_late: matches!(reason, StopReason::Deadline),
            ..Self::default()
        }
    }

    /// Returns the facts of a job whose object no attempt can read.
    pub(crate) fn unreadable(rows: &Rows, reason: &impl ToString) -> Self {
        Self {
            has_progress: true,
            unreadable: Some((rows.clone(), reason.to_string())),
            ..Self::default()
        }
    }

    /// Returns the facts of a job whose object was read.
    pub(crate) fn of(outcome: Outcome) -> Self {
        let reasons = &outcome.reasons;
        let asked = reasons.iter().filter_map(|reason| match reason {
            StopReason::Bridge(trouble) => trouble.after,
            _ => None,
        });
        Self {
            has_progress: outcome.summary.counts.rows > 0 || outcome.unreadable.is_some(),
            rejected: rejected(&outcome),
            after: asked.max(),
            is_late: reasons
                .iter()
                .any(|reason| matches!(reason, StopReason::Deadline)),
            why: join(reasons.iter().map(ToString::to_string)),
            left: outcome.left,
            unreadable: outcome
                .unreadable
                .map(|(rows, error)| (rows, error.to_string())),
        }
    }

    /// Returns why rows were not delivered, or `None` if all were.
    pub(crate) fn undelivered(&self) -> Option<String> {
        let finals = [&self.rejected, &self.unreadable].into_iter().flatten();
        let left = (!self.left.is_empty()).then_some(&self.why);
        let text = join(finals.map(|(_, why)| why).chain(left).cloned());
        (!text.is_empty()).then_some(text)
    }
}

fn join(reasons: impl Iterator<Item = String>) -> String {
    reasons
        .reduce(|all, reason| format!("{all}; {reason}"))
        .unwrap_or_default()
}

/// Returns the rejected rows and the reason as text.
fn rejected(outcome: &Outcome) -> Option<(Rows, String)> {
    let Summary {
        rejected, flaws, ..
    } = &outcome.summary;
    let by_bridge: BTreeSet<u64> = rejected.iter().map(|rejection| rejection.row).collect();
    let mut rows: Rows = by_bridge.into_iter().map(|row| row..row + 1).collect();
    rows.extend(&flaws.rows);
    let why = join(
        [rejected_by_bridge(rejected), flawed(flaws)]
            .into_iter()
            .flatten(),
    );
    (!rows.is_empty()).then_some((rows, why))
}

fn rejected_by_bridge(rejected: &[Rejection]) -> Option<String> {
    let first = rejected.first()?;
    let status =
        |status: Option<u16>| status.map_or("no response".to_owned(), |code| code.to_string());
    let is_same = rejected.iter().all(|other| other.status == first.status);
    Some(format!(
        "the bridge rejected {} ({})",
        match rejected.len() {
            1 => "1 transaction".to_owned(),
            count => format!("{count} transactions"),
        },
        if is_same {
            status(first.status)
        } else {
            "different statuses".to_owned()
        },
    ))
}

/// Describes the rows that cannot be read. Returns `None` for an empty set.
pub fn flawed(flaws: &Flaws) -> Option<String> {
    let count = match flaws.rows.count() {
        0 => return None,
        1 => "1 row cannot be read".to_owned(),
        count => format!("{count} rows cannot be read"),
    };
    Some(match &flaws.first {
        Some(Flaw { line, defect, .. }) => {
            format!("{count}. The first one (line {line}): {defect}")
        }
        None => count,
    })
}

/// What is known about a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Situation {
    pub history: History,
    /// How many times SQS delivered the message, including this time.
    pub receive_count: u32,
    /// Time since SQS first delivered this message.
    pub message_age: SignedDuration,
    /// Time since SQS first delivered the first message for its rows.
    pub age: SignedDuration,
    /// The age at which rows that make no progress go to the dead-letter queue.
    pub retry_for: SignedDuration,
    /// Factor of the retry delay, [`LEAST_JITTER`] to 1.0.
    pub jitter: f64,
}

/// What to do with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Send these messages to SQS; then the original message is finished.
    Finish(Vec<Message>),
    /// Let SQS deliver it again after this time.
    Redeliver(Duration),
}

/// Rows that get a message of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Index of the job.
    pub job: usize,
    pub rows: Rows,
    pub why: String,
    pub target: Target,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The dead-letter queue.
    DeadLetters,
    /// The work queue, after this time.
    Work { after: Duration, history: History },
}

impl Situation {
    /// Returns the number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.history
            .attempts
            .saturating_add(self.receive_count.max(1))
    }

    /// Whether the message was redelivered when an invocation that Lambda killed had it every time:
    /// each time after `hold`, the visibility timeout that the function sets when it begins, and at
    /// most half a minute later. A message that was delayed or not begun comes at other times. From
    /// about the fifth retry on, retry delays may add up to the same time, which then proves nothing.
    /// `time` is what an invocation has for its attempts.
    pub fn may_have_been_killed(&self, time: Duration, hold: Duration) -> bool {
        let deliveries = self.receive_count.saturating_sub(1);
        let age = self.message_age.unsigned_abs();
        let each = |least: Duration, most: Duration| {
            (least.saturating_mul(deliveries)..=most.saturating_mul(deliveries)).contains(&age)
        };
        deliveries > 0
            && each(
                hold.saturating_sub(COLD_START),
                hold.saturating_add(POLLING),
            )
            && !self.was_delayed(deliveries, time.min(ATTEMPT), age)
    }

    /// Whether the retry delays after so many attempts, each of at most this time, make up the age.
    fn was_delayed(&self, attempts: u32, time: Duration, age: Duration) -> bool {
        let numbers = 1..=attempts.min(MAX_REQUEUES);
        let delays: Duration = numbers
            .map(|number| retry_delay(self.history.attempts.saturating_add(number)))
            .sum();
        let most = delays.saturating_add(time.saturating_mul(attempts));
        (delays.mul_f64(LEAST_JITTER)..=most).contains(&age)
    }
}

/// Returns the delay after an attempt, by its number from 1.
pub(crate) fn retry_delay(attempt: u32) -> Duration {
    let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    Duration::from_mins(RETRY_DELAYS[index.min(RETRY_DELAYS.len() - 1)])
}

/// Decides what to do with a message after the attempts at its jobs.
pub fn decide(jobs: &[Facts], situation: Situation) -> Plan {
    let Situation {
        history,
        age,
        retry_for,
        jitter,
        ..
    } = situation;
    let has_progress = jobs.iter().any(|job| job.has_progress);
    let retry_delay = retry_delay(situation.attempt()).mul_f64(jitter);
    let is_over = if has_progress {
        age >= retry_for + retry_for || history.requeue_count >= MAX_REQUEUES
    } else {
        age >= retry_for
    };
    let left = jobs.iter().filter(|job| !job.left.is_empty());
    let asked = left.map(|job| job.after.unwrap_or_default()).max();
    if let Some(asked) = asked
        && !has_progress
        && !is_over
    {
        return Plan::Redeliver(retry_delay.max(asked).min(MAX_DELAY));
    }
    let mut messages = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let message = |rows: &Rows, why: String, target| Message {
            job: index,
            rows: rows.clone(),
            why,
            target,
        };
        for (rows, why) in [&job.rejected, &job.unreadable].into_iter().flatten() {
            messages.push(message(rows, why.clone(), Target::DeadLetters));
        }
        if job.left.is_empty() {
            continue;
        }
        if is_over {
            let limit = if history.requeue_count >= MAX_REQUEUES {
                "requeued too often"
            } else {
                "RETRY_FOR is over"
            };
            let why = format!("{} ({limit})", job.why);
            messages.push(message(&job.left, why, Target::DeadLetters));
            continue;
        }
        // An attempt that settled rows until the deadline has not failed.
        let (after, attempts) = if job.is_late {
            let after = job.after.unwrap_or_default().min(MAX_DELAY);
            (after, situation.attempt() - 1)
        } else {
            let after = job.after.unwrap_or(retry_delay).min(MAX_DELAY);
            (after, situation.attempt())
        };
        let history = History {
            requeue_count: history.requeue_count.saturating_add(1),
            attempts,
            ..history
        };
        messages.push(message(
            &job.left,
            job.why.clone(),
            Target::Work { after, history },
        ));
    }
    Plan::Finish(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY_FOR: SignedDuration = SignedDuration::from_hours(72);

    const FRESH: Situation = Situation {
        history: History {
            since: None,
            requeue_count: 0,
            attempts: 0,
        },
        receive_count: 1,
        message_age: SignedDuration::ZERO,
        age: SignedDuration::ZERO,
        retry_for: RETRY_FOR,
        jitter: 1.0,
    };

    fn minutes(minutes: u64) -> Duration {
        Duration::from_mins(minutes)
    }

    fn left(rows: Rows) -> Facts {
        Facts {
            left: rows,
            why: "down".to_owned(),
            ..Facts::default()
        }
    }

    fn progress(left: Facts) -> Facts {
        Facts {
            has_progress: true,
            ..left
        }
    }

    fn tail() -> Facts {
        left(Rows::from(20..crate::rows::OPEN))
    }

    fn requeued(plan: Plan) -> (Duration, u32, u32) {
        match plan {
            Plan::Finish(messages) => match &messages[..] {
                [
                    Message {
                        target: Target::Work { after, history },
                        rows,
                        why,
                        ..
                    },
                ] => {
                    assert_eq!((rows, why.as_str()), (&tail().left, "down"));
                    (*after, history.requeue_count, history.attempts)
                }
                other => panic!("{other:?}"),
            },
            Plan::Redeliver(_) => panic!("{plan:?}"),
        }
    }

    fn dead(plan: Plan) -> Vec<(Rows, String)> {
        let Plan::Finish(messages) = plan else {
            panic!("{plan:?}")
        };
        assert!(
            messages
                .iter()
                .all(|message| message.target == Target::DeadLetters)
        );
        messages
            .into_iter()
            .map(|message| (message.rows, message.why))
            .collect()
    }

    // proves: D9
    #[test]
    fn message_without_progress_is_redelivered_later() {
        for (receive_count, attempts, delay) in [
            (1, 0, 1),
            (2, 0, 2),
            (3, 0, 4),
            (4, 0, 8),
            (5, 0, 15),
            (300, 0, 15),
            (0, 0, 1),
            (1, 2, 4),
            (2, 9, 15),
        ] {
            let situation = Situation {
                receive_count,
                history: History {
                    attempts,
                    ..FRESH.history
                },
                ..FRESH
            };
            assert_eq!(
                decide(&[tail()], situation),
                Plan::Redeliver(minutes(delay)),
                "{situation:?}"
            );
        }
        let spread = Situation {
            jitter: 0.8,
            ..FRESH
        };
        assert_eq!(
            decide(&[tail()], spread),
            Plan::Redeliver(Duration::from_secs(48))
        );
    }

    // proves: D9, B7
    #[test]
    fn wait_that_was_asked_for_is_kept() {
        for (after, delay) in [
            (0, 60),
            (59, 60),
            (61, 61),
            (120, 120),
            (900, 900),
            (3600, 900),
        ] {
            let asked = Facts {
                after: Some(Duration::from_secs(after)),
                ..tail()
            };
            let delay = Duration::from_secs(delay);
            assert_eq!(
                decide(std::slice::from_ref(&asked), FRESH),
                Plan::Redeliver(delay)
            );
            // Progress cannot be repeated without end: there the wait alone counts.
            let alone = Duration::from_secs(after.min(900));
            assert_eq!(requeued(decide(&[progress(asked.clone())], FRESH)).0, alone);
            // The jitter shortens the retry delay, not the wait.
            let spread = Situation {
                jitter: 0.8,
                ..FRESH
            };
            let at_least = Duration::from_secs(after.clamp(48, 900));
            assert_eq!(decide(&[asked], spread), Plan::Redeliver(at_least));
        }
    }

    // proves: D7, D8
    #[test]
    fn rows_left_after_progress_are_requeued() {
        let tried = Situation {
            receive_count: 2,
            history: History {
                attempts: 3,
                requeue_count: 5,
                since: None,
            },
            ..FRESH
        };
        assert_eq!(
            requeued(decide(&[progress(tail())], FRESH)),
            (minutes(1), 1, 1)
        );
        assert_eq!(
            requeued(decide(&[progress(tail())], tried)),
            (minutes(15), 6, 5)
        );
        let late = Facts {
            is_late: true,
            ..progress(tail())
        };
        assert_eq!(
            requeued(decide(std::slice::from_ref(&late), FRESH)),
            (Duration::ZERO, 1, 0)
        );
        let asked = Facts {
            after: Some(minutes(3)),
            ..late.clone()
        };
        assert_eq!(requeued(decide(&[late], tried)), (Duration::ZERO, 6, 4));
        assert_eq!(requeued(decide(&[asked], tried)), (minutes(3), 6, 4));
        let too_slow = Facts {
            is_late: true,
            ..tail()
        };
        assert_eq!(decide(&[too_slow], FRESH), Plan::Redeliver(minutes(1)));
    }

    // proves: D10
    #[test]
    fn retries_end_with_the_last_reason() {
        let aged = |age: SignedDuration| Situation { age, ..FRESH };
        let hour = SignedDuration::from_hours(1);
        let expected = [(tail().left, "down (RETRY_FOR is over)".to_owned())];
        assert_eq!(
            decide(&[tail()], aged(RETRY_FOR - hour)),
            Plan::Redeliver(minutes(1))
        );
        assert_eq!(dead(decide(&[tail()], aged(RETRY_FOR))), expected);
        assert_eq!(requeued(decide(&[progress(tail())], aged(RETRY_FOR))).1, 1);
        assert_eq!(
            requeued(decide(&[progress(tail())], aged(RETRY_FOR * 2 - hour))).1,
            1
        );
        assert_eq!(
            dead(decide(&[progress(tail())], aged(RETRY_FOR * 2))),
            expected
        );
        let requeues = |requeue_count| Situation {
            history: History {
                requeue_count,
                ..FRESH.history
            },
            ..FRESH
        };
        assert_eq!(
            requeued(decide(&[progress(tail())], requeues(999))).1,
            1_000
        );
        let expected = [(tail().left, "down (requeued too often)".to_owned())];
        assert_eq!(dead(decide(&[progress(tail())], requeues(1_000))), expected);
        assert_eq!(
            decide(&[tail()], requeues(1_000)),
            Plan::Redeliver(minutes(1))
        );
        // Old work that is delivered is not dead.
        assert_eq!(
            decide(&[progress(Facts::default())], aged(RETRY_FOR * 3)),
            Plan::Finish(Vec::new())
        );
    }

    // proves: D11, D19
    #[test]
    fn settled_jobs_of_a_message_are_not_repeated() {
        let rows = |start: u64| Rows::from(start..start + 1);
        let bad = Facts {
            rejected: Some((rows(3), "rejected".to_owned())),
            unreadable: Some((rows(9), "cut".to_owned())),
            ..progress(Facts::default())
        };
        assert_eq!(
            dead(decide(std::slice::from_ref(&bad), FRESH)),
            [
                (rows(3), "rejected".to_owned()),
                (rows(9), "cut".to_owned())
            ]
        );
        // One that is down beside it gets a message of its own.
        let Plan::Finish(messages) = decide(&[tail(), bad, progress(Facts::default())], FRESH)
        else {
            panic!()
        };
        let jobs: Vec<_> = messages
            .iter()
            .map(|message| (message.job, message.target == Target::DeadLetters))
            .collect();
        assert_eq!(jobs, [(0, false), (1, true), (1, true)]);
        // Of two without progress, the longer wait counts for both.
        let asked = Facts {
            after: Some(minutes(5)),
            ..tail()
        };
        assert_eq!(decide(&[tail(), asked], FRESH), Plan::Redeliver(minutes(5)));
        assert_eq!(decide(&[Facts::default()], FRESH), Plan::Finish(Vec::new()));
        assert_eq!(decide(&[], FRESH), Plan::Finish(Vec::new()));
    }

    // proves: D10
    #[test]
    fn retries_end_before_max_receive_count() {
        // RETRY_FOR / (0.8 × 15 min) < maxReceiveCount = 400. Otherwise SQS moves the message to
        // the dead-letter queue first, without a reason.
        let (mut age, mut receive_count) = (SignedDuration::ZERO, 1);
        while age < RETRY_FOR {
            let situation = Situation {
                receive_count,
                age,
                jitter: 0.8,
                ..FRESH
            };
            let Plan::Redeliver(delay) = decide(&[tail()], situation) else {
                panic!()
            };
            age += SignedDuration::try_from(delay).unwrap();
            receive_count += 1;
        }
        assert!((300..400).contains(&receive_count), "{receive_count}");
    }

    // proves: D18
    #[test]
    fn redelivery_after_the_hold_means_a_kill() {
        let hold = Duration::from_mins(6);
        for (receive_count, seconds, killed) in [
            (1, 0, false),
            (1, 360, false),
            (2, 48, false),
            (2, 354, false),
            (2, 355, true),
            (2, 360, true),
            (2, 390, true),
            (2, 391, false),
            (3, 709, false),
            (3, 710, true),
            (3, 780, true),
            (10, 40 * 60, false),
            (10, 9 * 360, true),
            (u32::MAX, 360, false),
        ] {
            let situation = Situation {
                receive_count,
                message_age: SignedDuration::from_secs(seconds),
                ..FRESH
            };
            let found =
                situation.may_have_been_killed(hold.saturating_sub(Duration::from_secs(70)), hold);
            assert_eq!(found, killed, "{receive_count} {seconds}");
        }
    }

    // proves: D18
    #[test]
    fn redelivery_that_retry_delays_explain_means_no_kill() {
        for (hold, attempts, receive_count, seconds, killed) in [
            (6, 0, 5, 4 * 360, true),
            (6, 0, 6, 5 * 355, false),
            (6, 0, 6, 5 * 390, false),
            (6, 0, 7, 6 * 355, true),
            (6, 0, 7, 6 * 360, false),
            (6, 2, 2, 360, true),
            (6, 3, 2, 383, true),
            (6, 3, 2, 384, false),
            (6, u32::MAX, 2, 360, true),
            (6, 0, 400, 399 * 360, true),
            (16, 0, 2, 960, true),
            (16, 4, 2, 960, false),
            (16, 4, 2, 990, false),
            (16, 4, 3, 2 * 990, false),
            (16, 0, 6, 5 * 960, true),
        ] {
            let situation = Situation {
                receive_count,
                message_age: SignedDuration::from_secs(seconds),
                history: History {
                    attempts,
                    ..FRESH.history
                },
                ..FRESH
            };
            let hold = Duration::from_mins(hold);
            let found =
                situation.may_have_been_killed(hold.saturating_sub(Duration::from_secs(70)), hold);
            assert_eq!(
                found, killed,
                "{hold:?} {attempts} {receive_count} {seconds}"
            );
        }
    }
}

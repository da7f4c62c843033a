//! *Work queue*: what is left of an object → SQS: handed over, postponed, or dead-lettered. What happens is decided in one
//! place, [`Situation::next`].
//!
//! The queues are those that the event names: the work queue by the message's own `eventSourceARN`, the dead-letter queue by
//! the work queue's redrive policy. There is nothing to configure.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::OnceCell;

use crate::job::{Continuation, Job, SqsMessageMeta};
use crate::retry::causes;

/// AWS ends a chain of messages and functions after about 16 hops (Lambda Developer Guide, "recursive loop detection").
pub const MAX_REQUEUES: u8 = 12;

/// How long a message that made no progress rests, by the number of its receipts, in minutes; then the last for ever.
const RETRY_DELAYS: [u64; 5] = [1, 2, 4, 8, 15];

/// Longer than its time left the function's message stays invisible by so much: a killed function's work returns in minutes.
const VISIBILITY_RESERVE: Duration = Duration::from_mins(1);

/// SQS keeps a message invisible for 12 hours at most.
const MAX_VISIBILITY: Duration = Duration::from_hours(12);

/// What is known of work that could not be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Whether rows were accepted since its message came.
    pub progress: bool,
    /// How many invocations have handed it over.
    pub requeue_count: u8,
    /// How often its message was received.
    pub receive_count: u32,
    pub age: SignedDuration,
    /// How old it may become.
    pub retry_for: SignedDuration,
}

/// What happens to work that could not be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The rest goes on in a message of its own; this one is done.
    Requeue,
    /// The same message comes again, about so much later.
    Delay(Duration),
    /// It has been tried for long enough.
    DeadLetter,
}

impl Situation {
    /// The one decision.
    pub fn next(&self) -> Next {
        if self.age >= self.retry_for {
            Next::DeadLetter
        } else if self.progress && self.requeue_count < MAX_REQUEUES {
            Next::Requeue
        } else {
            Next::Delay(remainder(self.receive_count))
        }
    }

    /// Whether the message was received more often than its rests can explain: something killed the function meanwhile.
    pub fn was_killed(&self) -> bool {
        let explained: u64 = (1..self.receive_count)
            .map(|receive_count| remainder(receive_count).as_secs() * 8 / 10)
            .sum();
        self.receive_count > 3
            && !self.progress
            && self.age < SignedDuration::from_secs(i64::try_from(explained).unwrap_or(i64::MAX))
    }
}

/// How long a message rests that was received so often.
pub fn remainder(receive_count: u32) -> Duration {
    let index = usize::try_from(receive_count.saturating_sub(1))
        .unwrap_or(usize::MAX)
        .min(RETRY_DELAYS.len() - 1);
    Duration::from_mins(RETRY_DELAYS[index])
}

/// Since when work is tried, and how often it was handed over. What was brought back from the dead-letter queue begins anew:
/// its message was sent when the time for it was over.
pub fn begun(
    job: &Job,
    meta: &SqsMessageMeta,
    now: Timestamp,
    retry_for: SignedDuration,
) -> (Timestamp, u8) {
    let since = job.since.unwrap_or(now);
    match meta.sent {
        Some(sent) if sent.duration_since(since) > retry_for => (sent, 0),
        _ => (since, job.requeue_count),
    }
}

/// Why a queue did not do what it was asked. The text names the queue.
#[derive(Debug, Error)]
pub enum QueueError {
    /// The message did not say where it came from, so that this is no queue of ours.
    #[error("the message names no queue and receipt")]
    Unknown,
    /// The work queue has no dead-letter queue.
    #[error("{0} has no dead-letter queue: set its redrive policy")]
    NoDeadLetterQueue(String),
    /// SQS said no, or nothing.
    #[error("{queue}: {reason}")]
    Sqs { queue: String, reason: String },
}

/// The work queue that messages come from, and the dead-letter queue behind it.
#[derive(Debug)]
pub struct WorkQueue {
    sqs: Client,
    dead_letters: OnceCell<String>,
}

impl WorkQueue {
    /// A client for SQS.
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            sqs: Client::new(config),
            dead_letters: OnceCell::new(),
        }
    }

    /// Keeps the message invisible for as long as this invocation can take, and a little longer.
    ///
    /// # Errors
    /// When SQS does not do it.
    pub async fn hold(&self, meta: &SqsMessageMeta, time_left: Duration) -> Result<(), QueueError> {
        self.set_visibility(meta, time_left.saturating_add(VISIBILITY_RESERVE))
            .await
    }

    /// Lets the message come again after 0.8 to 1.0 times `remainder`, so that not all come at once.
    ///
    /// # Errors
    /// When SQS does not do it.
    pub async fn delay(
        &self,
        meta: &SqsMessageMeta,
        remainder: Duration,
    ) -> Result<(), QueueError> {
        self.set_visibility(meta, remainder.mul_f64(rand::random_range(0.8..=1.0)))
            .await
    }

    /// Sends what is left to the work queue. `trace` is the invocation's trace header, by which AWS counts hops.
    ///
    /// # Errors
    /// When SQS does not take it.
    pub async fn requeue(
        &self,
        meta: &SqsMessageMeta,
        remainder: &Continuation,
        trace: Option<&str>,
    ) -> Result<(), QueueError> {
        let queue = meta.queue.as_deref().ok_or(QueueError::Unknown)?;
        self.send(queue, remainder, trace).await
    }

    /// Sends what cannot be delivered to the dead-letter queue.
    ///
    /// # Errors
    /// When there is none, or SQS does not take it.
    pub async fn dead_letter(
        &self,
        meta: &SqsMessageMeta,
        remainder: &Continuation,
    ) -> Result<(), QueueError> {
        let queue = meta.queue.as_deref().ok_or(QueueError::Unknown)?;
        let dead_letters = self
            .dead_letters
            .get_or_try_init(|| self.find_dead_letters(queue))
            .await?;
        self.send(dead_letters, remainder, None).await
    }

    async fn find_dead_letters(&self, queue: &str) -> Result<String, QueueError> {
        let response = self
            .sqs
            .get_queue_attributes()
            .queue_url(url(queue)?)
            .attribute_names(QueueAttributeName::RedrivePolicy)
            .send()
            .await
            .map_err(|error| QueueError::Sqs {
                queue: queue.to_owned(),
                reason: causes(&error),
            })?;
        let policy = response
            .attributes()
            .and_then(|attributes| attributes.get(&QueueAttributeName::RedrivePolicy));
        let policy: Option<Value> = policy.and_then(|text| serde_json::from_str(text).ok());
        let target =
            policy.and_then(|policy| policy["deadLetterTargetArn"].as_str().map(str::to_owned));
        target.ok_or_else(|| QueueError::NoDeadLetterQueue(queue.to_owned()))
    }

    async fn send(
        &self,
        queue: &str,
        remainder: &Continuation,
        trace: Option<&str>,
    ) -> Result<(), QueueError> {
        let sqs_error = |reason| QueueError::Sqs {
            queue: queue.to_owned(),
            reason,
        };
        let body =
            serde_json::to_string(remainder).map_err(|error| sqs_error(error.to_string()))?;
        let mut message = self
            .sqs
            .send_message()
            .queue_url(url(queue)?)
            .message_body(body);
        if let Some(trace) = trace {
            let header = MessageSystemAttributeValue::builder()
                .data_type("String")
                .string_value(trace)
                .build();
            let header = header.map_err(|error| sqs_error(error.to_string()))?;
            message = message.message_system_attributes(
                MessageSystemAttributeNameForSends::AwsTraceHeader,
                header,
            );
        }
        message
            .send()
            .await
            .map_err(|error| sqs_error(causes(&error)))?;
        Ok(())
    }

    async fn set_visibility(
        &self,
        meta: &SqsMessageMeta,
        time: Duration,
    ) -> Result<(), QueueError> {
        let (Some(queue), Some(handle)) = (&meta.queue, &meta.handle) else {
            return Err(QueueError::Unknown);
        };
        let seconds = i32::try_from(time.min(MAX_VISIBILITY).as_secs()).unwrap_or(i32::MAX);
        self.sqs
            .change_message_visibility()
            .queue_url(url(queue)?)
            .receipt_handle(handle)
            .visibility_timeout(seconds)
            .send()
            .await
            .map_err(|error| QueueError::Sqs {
                queue: queue.clone(),
                reason: causes(&error),
            })?;
        Ok(())
    }
}

/// The URL of a queue, from its ARN (`arn:aws:sqs:REGION:ACCOUNT:NAME`).
fn url(arn: &str) -> Result<String, QueueError> {
    let parts: Vec<&str> = arn.split(':').collect();
    let [_, partition, "sqs", region, account, name] = parts[..] else {
        return Err(QueueError::Unknown);
    };
    let suffix = if partition == "aws-cn" {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    Ok(format!("https://sqs.{region}.{suffix}/{account}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Situation = Situation {
        progress: false,
        requeue_count: 0,
        receive_count: 1,
        age: SignedDuration::ZERO,
        retry_for: SignedDuration::from_hours(72),
    };

    #[test]
    fn what_happens_is_decided_by_progress_hops_and_age() {
        let minutes = |minutes| Next::Delay(Duration::from_mins(minutes));
        for (situation, next) in [
            (FRESH, minutes(1)),
            (
                Situation {
                    receive_count: 2,
                    ..FRESH
                },
                minutes(2),
            ),
            (
                Situation {
                    receive_count: 5,
                    ..FRESH
                },
                minutes(15),
            ),
            (
                Situation {
                    receive_count: 300,
                    ..FRESH
                },
                minutes(15),
            ),
            (
                Situation {
                    receive_count: 0,
                    ..FRESH
                },
                minutes(1),
            ),
            (
                Situation {
                    progress: true,
                    ..FRESH
                },
                Next::Requeue,
            ),
            (
                Situation {
                    progress: true,
                    requeue_count: 11,
                    ..FRESH
                },
                Next::Requeue,
            ),
            (
                Situation {
                    progress: true,
                    requeue_count: 12,
                    receive_count: 3,
                    ..FRESH
                },
                minutes(4),
            ),
            (
                Situation {
                    age: SignedDuration::from_hours(72),
                    ..FRESH
                },
                Next::DeadLetter,
            ),
            (
                Situation {
                    age: SignedDuration::from_hours(73),
                    progress: true,
                    ..FRESH
                },
                Next::DeadLetter,
            ),
        ] {
            assert_eq!(situation.next(), next, "{situation:?}");
        }
    }

    #[test]
    fn rests_end_before_a_message_may_be_received_no_more() {
        // RETRY_FOR / (0.8 × 15 min) < maxReceiveCount = 400: the dead letter is ours, with its reason.
        let (mut age, mut receive_count) = (Duration::ZERO, 1);
        while age < Duration::from_hours(72) {
            let Next::Delay(remainder) = (Situation {
                receive_count,
                ..FRESH
            })
            .next() else {
                panic!()
            };
            age += remainder.mul_f64(0.8);
            receive_count += 1;
        }
        assert!(receive_count < 400, "{receive_count}");
    }

    #[test]
    fn a_message_received_more_often_than_it_rested_is_recognised() {
        let minutes = SignedDuration::from_mins;
        assert!(
            (Situation {
                receive_count: 10,
                age: minutes(40),
                ..FRESH
            })
            .was_killed()
        );
        assert!(
            !(Situation {
                receive_count: 10,
                age: minutes(120),
                ..FRESH
            })
            .was_killed()
        );
        assert!(!FRESH.was_killed());
    }

    #[test]
    fn what_was_brought_back_begins_anew() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap_or_default();
        let hours = SignedDuration::from_hours;
        let job = |since: i64| Job {
            since: Some(now - hours(since)),
            requeue_count: 7,
            ..Job::all(crate::job::ObjectRef::local("x"))
        };
        let sent = |ago: i64| SqsMessageMeta {
            sent: Some(now - hours(ago)),
            ..SqsMessageMeta::default()
        };
        assert_eq!(
            begun(&job(5), &sent(1), now, hours(72)),
            (now - hours(5), 7)
        );
        assert_eq!(
            begun(&job(200), &sent(1), now, hours(72)),
            (now - hours(1), 0)
        );
        assert_eq!(
            begun(
                &Job::all(crate::job::ObjectRef::local("x")),
                &SqsMessageMeta::default(),
                now,
                hours(72)
            ),
            (now, 0)
        );
    }

    #[test]
    fn a_queues_url_is_made_of_its_arn() {
        assert_eq!(
            url("arn:aws:sqs:eu-west-1:123456789012:edgetap-work")
                .ok()
                .as_deref(),
            Some("https://sqs.eu-west-1.amazonaws.com/123456789012/edgetap-work")
        );
        assert!(url("arn:aws:sns:eu-west-1:123456789012:topic").is_err());
        assert!(url("nonsense").is_err());
    }
}

//! *Work queue*: the remaining rows of an object → SQS. They are requeued, delayed for retry, or
//! sent to the dead-letter queue; [`Situation::next`] decides.
//!
//! The event names the queues: a message's `eventSourceARN` is the work queue, and the work queue's
//! redrive policy names the dead-letter queue. Neither is configured.

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

/// AWS stops a chain of messages and functions after about 16 hops (Lambda Developer Guide,
/// "recursive loop detection"). This bound stays below that.
pub const MAX_REQUEUES: u8 = 12;

/// Retry delays in minutes, by receive count. The last one repeats.
const RETRY_DELAYS: [u64; 5] = [1, 2, 4, 8, 15];

/// Added to the time left when extending the visibility timeout. If Lambda kills the function, the
/// message is visible again a minute after the deadline.
const VISIBILITY_RESERVE: Duration = Duration::from_mins(1);

/// The longest visibility timeout that SQS allows.
const MAX_VISIBILITY: Duration = Duration::from_hours(12);

/// The facts that decide what happens to remaining rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Whether rows were settled in this invocation.
    pub progress: bool,
    /// How many invocations have requeued the job.
    pub requeue_count: u8,
    /// How many times SQS delivered the message.
    pub receive_count: u32,
    pub age: SignedDuration,
    /// The age at which the job goes to the dead-letter queue.
    pub retry_for: SignedDuration,
}

/// The fate of remaining rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A new message continues with the remaining rows; this one is deleted.
    Requeue,
    /// The same message is redelivered after this delay.
    Delay(Duration),
    /// A message in the dead-letter queue names the rows and the reason.
    DeadLetter,
}

impl Situation {
    /// Decides what happens to the remaining rows.
    pub fn next(&self) -> Next {
        if self.age >= self.retry_for {
            Next::DeadLetter
        } else if self.progress && self.requeue_count < MAX_REQUEUES {
            Next::Requeue
        } else {
            Next::Delay(retry_delay(self.receive_count))
        }
    }

    /// Whether the message was redelivered sooner than its retry delays allow. Something then
    /// killed the function before it could delay the message.
    pub fn was_killed(&self) -> bool {
        let explained: u64 = (1..self.receive_count)
            .map(|receive_count| retry_delay(receive_count).as_secs() * 8 / 10)
            .sum();
        self.receive_count > 3
            && !self.progress
            && self.age < SignedDuration::from_secs(i64::try_from(explained).unwrap_or(i64::MAX))
    }
}

/// Returns the retry delay of a message with this receive count.
pub(crate) fn retry_delay(receive_count: u32) -> Duration {
    let index = usize::try_from(receive_count.saturating_sub(1))
        .unwrap_or(usize::MAX)
        .min(RETRY_DELAYS.len() - 1);
    Duration::from_mins(RETRY_DELAYS[index])
}

/// Returns the time of the job's first message and its requeue count. A redriven job starts over:
/// its message was sent to the work queue after `retry_for` had passed.
pub fn started(
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

/// Why a request to a queue failed. The text names the queue.
#[derive(Debug, Error)]
pub enum QueueError {
    #[error("the SQS record has no valid eventSourceARN or no receiptHandle")]
    Unknown,
    #[error("the queue {0} has no dead-letter queue. Set its redrive policy")]
    NoDeadLetterQueue(String),
    /// SQS returned an error, or did not respond.
    #[error("SQS request to {queue} failed: {reason}")]
    Sqs { queue: String, reason: String },
}

/// The client of the work queue and its dead-letter queue.
#[derive(Debug)]
pub struct WorkQueue {
    sqs: Client,
    dead_letters: OnceCell<String>,
}

impl WorkQueue {
    /// Creates a client, without any network access.
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            sqs: Client::new(config),
            dead_letters: OnceCell::new(),
        }
    }

    /// Extends the visibility timeout to the end of this invocation plus `VISIBILITY_RESERVE`.
    ///
    /// # Errors
    /// [`QueueError`] if SQS rejects the request.
    pub async fn hold(&self, meta: &SqsMessageMeta, time_left: Duration) -> Result<(), QueueError> {
        self.set_visibility(meta, time_left.saturating_add(VISIBILITY_RESERVE))
            .await
    }

    /// Makes SQS redeliver the message after `delay` times 0.8 to 1.0, so that retries spread out.
    ///
    /// # Errors
    /// [`QueueError`] if SQS rejects the request.
    pub async fn delay(&self, meta: &SqsMessageMeta, delay: Duration) -> Result<(), QueueError> {
        self.set_visibility(meta, delay.mul_f64(rand::random_range(0.8..=1.0)))
            .await
    }

    /// Sends the remaining rows to the work queue. `trace` is the invocation's trace header, by
    /// which AWS detects loops.
    ///
    /// # Errors
    /// [`QueueError`] if SQS rejects the message.
    pub async fn requeue(
        &self,
        meta: &SqsMessageMeta,
        remainder: &Continuation,
        trace: Option<&str>,
    ) -> Result<(), QueueError> {
        let queue = meta.queue.as_deref().ok_or(QueueError::Unknown)?;
        self.send(queue, remainder, trace).await
    }

    /// Sends rows that cannot be delivered to the dead-letter queue.
    ///
    /// # Errors
    /// [`QueueError`] if the work queue has no dead-letter queue, or SQS rejects the message.
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

/// Returns the URL of a queue by its ARN (`arn:aws:sqs:REGION:ACCOUNT:NAME`).
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

    // proves: D9, D10
    #[test]
    fn next_step_depends_on_progress_requeues_and_age() {
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

    // proves: D10
    #[test]
    fn retries_end_before_max_receive_count() {
        // RETRY_FOR / (0.8 × 15 min) < maxReceiveCount = 400. Otherwise SQS moves the message to
        // the dead-letter queue first, without a reason.
        let (mut age, mut receive_count) = (Duration::ZERO, 1);
        while age < Duration::from_hours(72) {
            let Next::Delay(delay) = (Situation {
                receive_count,
                ..FRESH
            })
            .next() else {
                panic!()
            };
            age += delay.mul_f64(0.8);
            receive_count += 1;
        }
        assert!(receive_count < 400, "{receive_count}");
    }

    // proves: D18
    #[test]
    fn early_redelivery_means_killed() {
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

    // proves: D20
    #[test]
    fn redriven_job_starts_over() {
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
            started(&job(5), &sent(1), now, hours(72)),
            (now - hours(5), 7)
        );
        assert_eq!(
            started(&job(200), &sent(1), now, hours(72)),
            (now - hours(1), 0)
        );
        assert_eq!(
            started(
                &Job::all(crate::job::ObjectRef::local("x")),
                &SqsMessageMeta::default(),
                now,
                hours(72)
            ),
            (now, 0)
        );
    }

    #[test]
    fn queue_url_is_built_from_arn() {
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

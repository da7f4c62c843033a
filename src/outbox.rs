//! *Outbox*: a queue as `edgetap backfill` uses it: it sends messages in batches, and watches how
//! many wait. [`crate::work_queue`] is the function's side of a queue.

use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use aws_sdk_sqs::{Client, Config};
use serde_json::Value;
use thiserror::Error;

use crate::aws::advice;
use crate::retry::{Backoff, causes};
use crate::work_queue;

/// Messages of one request.
pub const BATCH: usize = 10;

/// Tries of a message for which SQS blames the sender: the same message will hardly fare better.
const SENDER_TRIES: u32 = 3;

/// What to do about most errors.
const CHECK: &str = "Check the URL of the queue and the region";

/// Why a queue cannot be used. The text names it.
#[derive(Debug, Error)]
pub enum OutboxError {
    #[error("{action} {queue}: {reason}. {advice}")]
    Refused {
        action: &'static str,
        /// The queue's URL.
        queue: String,
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    #[error(
        "{0} has no dead-letter queue. Name the queue that `backfill_queue_url` of Terraform's outputs names"
    )]
    NoDeadLetters(String),
}

/// What a queue says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// ARN of its dead-letter queue.
    pub dead_letters: String,
    /// How long it keeps a message.
    pub retention: Duration,
    /// Whether its policy lets S3, SNS or `EventBridge` send to it, as for the events of new logs.
    pub has_events: bool,
}

/// Services that send the events of new logs.
const SENDERS: [&str; 3] = [
    "s3.amazonaws.com",
    "sns.amazonaws.com",
    "events.amazonaws.com",
];

/// How many messages a queue has. SQS counts approximately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait, be it for their delay.
    pub waiting: u64,
    /// Messages that were received and not yet deleted.
    pub in_flight: u64,
}

impl Depth {
    /// Returns the number of all messages that are not finished.
    pub fn total(&self) -> u64 {
        self.waiting.saturating_add(self.in_flight)
    }
}

/// Why some messages of a batch were not accepted.
#[derive(Debug)]
pub struct Unsent {
    /// Index of the first message that was not accepted.
    pub first: usize,
    /// Number of messages that were accepted.
    pub accepted: usize,
    pub error: OutboxError,
}

/// The client of one queue.
#[derive(Clone, Debug)]
pub struct Outbox {
    sqs: Client,
    url: String,
}

/// A request that failed, and whether another try may help.
struct Failed {
    reason: String,
    advice: &'static str,
    is_final: bool,
}

impl Outbox {
    /// Returns the client of a queue by its URL, which names the region. Uses no network.
    pub fn new(config: &SdkConfig, url: &str) -> Self {
        let mut builder = Config::from(config).to_builder();
        if let Some(region) = region(url) {
            builder = builder.region(Region::new(region.to_owned()));
        }
        Self {
            sqs: Client::from_conf(builder.build()),
            url: url.to_owned(),
        }
    }

    /// Returns the client of another queue of the same region by its ARN.
    ///
    /// # Errors
    /// [`OutboxError::Refused`] if it is not the ARN of a queue.
    pub fn of_arn(&self, arn: &str) -> Result<Self, OutboxError> {
        let url = work_queue::url(arn).map_err(|_| OutboxError::Refused {
            action: "cannot use the dead-letter queue of",
            queue: self.url.clone(),
            reason: "its redrive policy has no ARN of a queue".to_owned(),
            advice: CHECK,
        })?;
        Ok(Self {
            sqs: self.sqs.clone(),
            url,
        })
    }

    /// Asks the queue for its facts, which shows that it exists.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub async fn facts(&self) -> Result<Facts, OutboxError> {
        let names = [
            QueueAttributeName::RedrivePolicy,
            QueueAttributeName::MessageRetentionPeriod,
            QueueAttributeName::Policy,
        ];
        let [policy, retention, access] = self.attributes(names).await?;
        let access = access.unwrap_or_default();
        let policy: Option<Value> = policy.and_then(|text| serde_json::from_str(&text).ok());
        let target =
            policy.and_then(|policy| policy["deadLetterTargetArn"].as_str().map(str::to_owned));
        Ok(Facts {
            dead_letters: target.ok_or_else(|| OutboxError::NoDeadLetters(self.url.clone()))?,
            retention: Duration::from_secs(number(retention)),
            has_events: SENDERS.iter().any(|sender| access.contains(sender)),
        })
    }

    /// Asks how many messages the queue has.
    ///
    /// # Errors
    /// [`OutboxError::Refused`]
    pub async fn depth(&self) -> Result<Depth, OutboxError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let [visible, delayed, in_flight] = self.attributes(names).await?.map(number);
        Ok(Depth {
            waiting: visible.saturating_add(delayed),
            in_flight,
        })
    }

    async fn attributes<const N: usize>(
        &self,
        names: [QueueAttributeName; N],
    ) -> Result<[Option<String>; N], OutboxError> {
        let request = self.sqs.get_queue_attributes().queue_url(&self.url);
        let response = request
            .set_attribute_names(Some(names.to_vec()))
            .send()
            .await
            .map_err(|error| self.refused("cannot use the queue", failed(&error)))?;
        let attributes = response.attributes();
        Ok(names.map(|name| attributes?.get(&name).cloned()))
    }

    /// Sends up to [`BATCH`] messages. Tries those that were not accepted once more after `backoff`,
    /// and none of the others.
    ///
    /// # Errors
    /// [`Unsent`] once no try is left or useful.
    pub async fn send(&self, messages: &[String], backoff: &Backoff) -> Result<(), Unsent> {
        let mut pending: Vec<usize> = (0..messages.len()).collect();
        let (mut tries, mut blamed) = (0, 0);
        while let Some(&first) = pending.first() {
            let failed = match self.send_once(messages, &mut pending).await {
                Ok(None) => return Ok(()),
                Ok(Some(failed)) | Err(failed) => failed,
            };
            let first = pending.first().copied().unwrap_or(first);
            tries += 1;
            blamed += u32::from(failed.is_final);
            let wait = backoff.wait(tries).filter(|_| blamed < SENDER_TRIES);
            let Some(wait) = wait else {
                return Err(Unsent {
                    first,
                    accepted: messages.len() - pending.len(),
                    error: self.refused("cannot send to the queue", failed),
                });
            };
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Sends the pending messages in one request and removes those that SQS names as accepted.
    /// Returns why another was not accepted.
    async fn send_once(
        &self,
        messages: &[String],
        pending: &mut Vec<usize>,
    ) -> Result<Option<Failed>, Failed> {
        let entries = pending.iter().map(|&index| {
            SendMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .set_message_body(messages.get(index).cloned())
                .build()
        });
        let entries: Result<Vec<_>, _> = entries.collect();
        let entries = entries.map_err(|error| Failed {
            reason: error.to_string(),
            advice: CHECK,
            is_final: true,
        })?;
        let request = self.sqs.send_message_batch().queue_url(&self.url);
        let sent = request.set_entries(Some(entries)).send().await;
        let response = sent.map_err(|error| failed(&error))?;
        let accepted = response.successful();
        pending.retain(|index| accepted.iter().all(|entry| entry.id() != index.to_string()));
        if pending.is_empty() {
            return Ok(None);
        }
        let refused = response.failed();
        let blamed = refused.iter().find(|entry| entry.sender_fault());
        Ok(Some(match blamed.or(refused.first()) {
            Some(entry) => Failed {
                reason: format!("SQS refuses a message ({})", entry.code()),
                advice: CHECK,
                is_final: entry.sender_fault(),
            },
            None => Failed {
                reason: "SQS did not say that it accepted a message".to_owned(),
                advice: CHECK,
                is_final: false,
            },
        }))
    }

    fn refused(&self, action: &'static str, failed: Failed) -> OutboxError {
        OutboxError::Refused {
            action,
            queue: self.url.clone(),
            reason: failed.reason,
            advice: failed.advice,
        }
    }
}

fn number(attribute: Option<String>) -> u64 {
    attribute
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// Returns the region in a queue's URL, `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`.
fn region(url: &str) -> Option<&str> {
    let host = url.strip_prefix("https://sqs.")?.split('/').next()?;
    let (region, domain) = host.split_once('.')?;
    domain.starts_with("amazonaws.com").then_some(region)
}

fn failed<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> Failed {
    let response = error.raw_response();
    let code = response.map(|_| error.code().unwrap_or("no code"));
    let told = causes(error).trim_end_matches('.').to_owned();
    let known = advice(code, &told).unwrap_or(CHECK);
    let (Some(response), Some(code)) = (response, code) else {
        // Without credentials or a region, no request is made.
        let is_final = told.contains("credential") || told.contains("region");
        return Failed {
            reason: told,
            advice: known,
            is_final,
        };
    };
    let status = response.status().as_u16();
    let (reason, advice) = match code {
        _ if code.ends_with("NonExistentQueue") || code.ends_with("QueueDoesNotExist") => {
            ("the queue does not exist", CHECK)
        }
        "AccessDenied" | "AccessDeniedException" => (
            "access denied",
            "Your identity needs sqs:SendMessage and sqs:GetQueueAttributes",
        ),
        _ => ("SQS refuses to", known),
    };
    Failed {
        reason: format!("{reason} (SQS returned {status}, {code})"),
        advice,
        is_final: (400..500).contains(&status) && !code.contains("Throttl"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_read_from_the_url() {
        for (url, expected) in [
            (
                "https://sqs.eu-west-1.amazonaws.com/123456789012/q",
                Some("eu-west-1"),
            ),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q",
                Some("cn-north-1"),
            ),
            ("https://sqs.amazonaws.com/123456789012/q", None),
            ("https://sqs.eu-west-1.example.com/123456789012/q", None),
            ("http://127.0.0.1:5000/123456789012/q", None),
            ("q", None),
        ] {
            assert_eq!(region(url), expected, "{url}");
        }
    }
}

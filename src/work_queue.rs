//! *Work queue*: the requests to SQS that carry out what [`crate::plan`] decides.
//!
//! The event names the queues: a message's `eventSourceARN` is its work queue, and that queue's
//! redrive policy names the dead-letter queue. Neither is configured.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeNameForSends,
    MessageSystemAttributeValue, QueueAttributeName,
};
use aws_sdk_sqs::{Client, Config};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::event::Receipt;
use crate::retry::causes;

/// The longest visibility timeout that SQS allows.
const MAX_VISIBILITY: Duration = Duration::from_hours(12);

/// Timeout of a request with its retries. Several of them fit into the reserve of an invocation.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Entries of one batch request.
const MAX_ENTRIES: usize = 10;

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

/// The client of the work queues and their dead-letter queues.
#[derive(Debug)]
pub struct WorkQueue {
    sqs: Client,
    /// ARNs of dead-letter queues, by those of their work queues.
    dead_letters: Mutex<BTreeMap<String, String>>,
}

impl WorkQueue {
    /// Creates a client, without any network access.
    pub fn new(config: &SdkConfig) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
        let config = Config::from(config)
            .to_builder()
            .timeout_config(timeouts)
            .build();
        Self {
            sqs: Client::from_conf(config),
            dead_letters: Mutex::default(),
        }
    }

    /// Sets the visibility timeout of all messages of an event: one request, as long as they are
    /// from one queue and no more than ten.
    ///
    /// # Errors
    /// [`QueueError`] if SQS rejects it for one of them.
    pub(crate) async fn hold(
        &self,
        receipts: impl Iterator<Item = &Receipt>,
        time: Duration,
    ) -> Result<(), QueueError> {
        let mut queues = BTreeMap::<_, Vec<_>>::new();
        for receipt in receipts {
            let (queue, handle) = receipt.parts()?;
            queues.entry(queue).or_default().push(handle);
        }
        for (queue, handles) in queues {
            for handles in handles.chunks(MAX_ENTRIES) {
                self.hold_batch(queue, handles, time).await?;
            }
        }
        Ok(())
    }

    async fn hold_batch(
        &self,
        queue: &str,
        handles: &[&str],
        time: Duration,
    ) -> Result<(), QueueError> {
        let entries = handles.iter().enumerate().map(|(id, handle)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(id.to_string())
                .receipt_handle(*handle)
                .visibility_timeout(seconds(time))
                .build()
        });
        let entries: Result<Vec<_>, BuildError> = entries.collect();
        let response = self
            .sqs
            .change_message_visibility_batch()
            .queue_url(url(queue)?)
            .set_entries(Some(entries.map_err(|error| sqs_error(queue, &error))?))
            .send()
            .await
            .map_err(|error| sqs_error(queue, causes(&error)))?;
        match response.failed() {
            [] => Ok(()),
            [first, ..] => Err(sqs_error(queue, first.code())),
        }
    }

    /// Makes SQS deliver a message again after `delay`.
    ///
    /// # Errors
    /// [`QueueError`] if SQS rejects the request.
    pub(crate) async fn delay(&self, receipt: &Receipt, delay: Duration) -> Result<(), QueueError> {
        let (queue, handle) = receipt.parts()?;
        self.sqs
            .change_message_visibility()
            .queue_url(url(queue)?)
            .receipt_handle(handle)
            .visibility_timeout(seconds(delay))
            .send()
            .await
            .map_err(|error| sqs_error(queue, causes(&error)))?;
        Ok(())
    }

    /// Deletes a message that is finished.
    ///
    /// # Errors
    /// [`QueueError`] if SQS rejects the request.
    pub(crate) async fn delete(&self, receipt: &Receipt) -> Result<(), QueueError> {
        let (queue, handle) = receipt.parts()?;
        self.sqs
            .delete_message()
            .queue_url(url(queue)?)
            .receipt_handle(handle)
            .send()
            .await
            .map_err(|error| sqs_error(queue, causes(&error)))?;
        Ok(())
    }

    /// Sends a message to the work queue of `receipt`, where it is visible after `delay`, at most 15
    /// minutes. `trace` is the invocation's trace header, by which AWS counts the steps of a loop.
    ///
    /// # Errors
    /// [`QueueError`] if SQS rejects the message.
    pub(crate) async fn requeue(
        &self,
        receipt: &Receipt,
        body: String,
        delay: Duration,
        trace: Option<&str>,
    ) -> Result<(), QueueError> {
        let (queue, _) = receipt.parts()?;
        let mut message = self
            .sqs
            .send_message()
            .queue_url(url(queue)?)
            .message_body(body)
            .delay_seconds(seconds(delay));
        if let Some(trace) = trace {
            let header = MessageSystemAttributeValue::builder()
                .data_type("String")
                .string_value(trace)
                .build();
            message = message.message_system_attributes(
                MessageSystemAttributeNameForSends::AwsTraceHeader,
                header.map_err(|error| sqs_error(queue, error))?,
            );
        }
        message
            .send()
            .await
            .map_err(|error| sqs_error(queue, causes(&error)))?;
        Ok(())
    }

    /// Sends a message to the dead-letter queue of the work queue of `receipt`.
    ///
    /// # Errors
    /// [`QueueError`] if that queue has no dead-letter queue, or SQS rejects the message.
    pub(crate) async fn dead_letter(
        &self,
        receipt: &Receipt,
        body: String,
    ) -> Result<(), QueueError> {
        let (queue, _) = receipt.parts()?;
        let dead_letters = self.dead_letters(queue).await?;
        self.sqs
            .send_message()
            .queue_url(url(&dead_letters)?)
            .message_body(body)
            .send()
            .await
            .map_err(|error| sqs_error(&dead_letters, causes(&error)))?;
        Ok(())
    }

    /// Returns the ARN of a queue's dead-letter queue. Asks SQS for it once.
    async fn dead_letters(&self, queue: &str) -> Result<String, QueueError> {
        let mut known = self.dead_letters.lock().await;
        if let Some(target) = known.get(queue) {
            return Ok(target.clone());
        }
        let response = self
            .sqs
            .get_queue_attributes()
            .queue_url(url(queue)?)
            .attribute_names(QueueAttributeName::RedrivePolicy)
            .send()
            .await
            .map_err(|error| sqs_error(queue, causes(&error)))?;
        let policy = response
            .attributes()
            .and_then(|attributes| attributes.get(&QueueAttributeName::RedrivePolicy));
        let policy: Option<Value> = policy.and_then(|text| serde_json::from_str(text).ok());
        let target =
            policy.and_then(|policy| policy["deadLetterTargetArn"].as_str().map(str::to_owned));
        let target = target.ok_or_else(|| QueueError::NoDeadLetterQueue(queue.to_owned()))?;
        known.insert(queue.to_owned(), target.clone());
        Ok(target)
    }
}

impl Receipt {
    /// Returns the queue's ARN and the receipt handle.
    fn parts(&self) -> Result<(&str, &str), QueueError> {
        match (&self.queue, &self.handle) {
            (Some(queue), Some(handle)) => Ok((queue, handle)),
            _ => Err(QueueError::Unknown),
        }
    }
}

fn sqs_error(queue: &str, reason: impl Display) -> QueueError {
    QueueError::Sqs {
        queue: queue.to_owned(),
        reason: reason.to_string(),
    }
}

/// Returns a time in whole seconds, rounded up, so that no wait is cut short.
fn seconds(time: Duration) -> i32 {
    let time = time.min(MAX_VISIBILITY);
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

/// Returns the URL of a queue by its ARN (`arn:aws:sqs:REGION:ACCOUNT:NAME`).
pub(crate) fn url(arn: &str) -> Result<String, QueueError> {
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

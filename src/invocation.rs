//! *Invocation*: one Lambda event in, one answer out.
//!
//! From SQS each message succeeds or fails by itself (partial batch responses); any other event as a whole. What was not
//! delivered whole fails, so that AWS brings it again: there is no success with loss.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};
use serde_json::{Value, json};
use thiserror::Error;

use crate::bridge::{Bridge, Session};
use crate::ingest::{Outcome, ingest};
use crate::pipeline::{Refusal, Rules, Summary};
use crate::retry::Deadline;
use crate::source::{Opened, S3};
use crate::work::{Event, EventError, SqsRecord, Work};

/// Of an invocation's time so much is kept back for the answer.
pub const RESERVE: Duration = Duration::from_secs(10);

/// Of refused rows so many are named in a log line.
const SHOWN_ROWS: usize = 20;

/// All that an invocation needs: made once for the process.
#[derive(Debug)]
pub struct Function {
    /// Where objects are read.
    pub s3: S3,
    /// What is sent, and how.
    pub rules: Arc<Rules>,
    /// Where to.
    pub bridge: Bridge,
    /// Posts in flight.
    pub concurrency: usize,
}

/// Why an invocation failed as a whole. The text is what AWS keeps: objects and reasons, no content.
#[derive(Debug, Error)]
pub enum InvocationError {
    /// The event is not understood.
    #[error("the event is not understood: {0}")]
    Event(#[from] EventError),
    /// Some objects of a direct event were not delivered whole.
    #[error("not delivered: {0}")]
    Undelivered(String),
}

/// When an invocation must be over, from the instant that Lambda tells, in milliseconds since the Unix epoch. What is past
/// is past: no time is left then.
pub fn deadline(lambda_deadline_ms: u64) -> Deadline {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Deadline::after(Duration::from_millis(lambda_deadline_ms).saturating_sub(now).saturating_sub(RESERVE))
}

impl Function {
    /// Handles one event.
    ///
    /// # Errors
    /// When the event is not understood, or something of a direct event was not delivered whole.
    pub async fn handle(&self, event: Value, deadline: Deadline) -> Result<Value, InvocationError> {
        let session = self.bridge.session(deadline);
        match Event::parse(event).inspect_err(|error| tracing::error!("{error}"))? {
            Event::Sqs(records) => {
                let mut failed = Vec::new();
                for SqsRecord { message_id, works } in records {
                    let delivered = match works {
                        Ok(works) => self.deliver(&works, &session).await.is_empty(),
                        Err(error) => {
                            tracing::error!(message_id, "{error}");
                            false
                        }
                    };
                    if !delivered {
                        failed.push(message_id);
                    }
                }
                Ok(sqs_response(failed))
            }
            Event::Direct(works) => {
                let undelivered = self.deliver(&works, &session).await;
                if undelivered.is_empty() {
                    Ok(json!({ "objects": works.len() }))
                } else {
                    Err(InvocationError::Undelivered(undelivered.join("; ")))
                }
            }
        }
    }

    /// Delivers objects one after the other, and says which were not delivered whole.
    async fn deliver(&self, works: &[Work], session: &Session<'_>) -> Vec<String> {
        let mut undelivered = Vec::new();
        for work in works {
            if let Err(why) = self.deliver_object(work, session).await {
                undelivered.push(format!("{}: {why}", work.object));
            }
        }
        undelivered
    }

    async fn deliver_object(&self, work: &Work, session: &Session<'_>) -> Result<(), String> {
        let started = Instant::now();
        let opened = match self.open(work, session).await {
            Ok(opened) => opened,
            Err(why) => {
                tracing::error!(object = %work.object, "not delivered: {why}");
                return Err(why);
            }
        };
        let work = Work { object: opened.object, rows: work.rows.clone() };
        let outcome = ingest(&work, opened.bytes, &self.rules, session, self.concurrency).await;
        report(&work, &outcome, started)
    }

    /// Opens the object and fetches the token side by side.
    async fn open(&self, work: &Work, session: &Session<'_>) -> Result<Opened, String> {
        // The SDK's future is large: on the heap, so that those around it stay small.
        let both = futures_util::future::join(Box::pin(self.s3.open(&work.object)), session.warm_up());
        let Some((opened, token)) = session.deadline().bound(both).await else { return Err("the invocation's time was over".to_owned()) };
        token.map_err(|error| error.to_string())?;
        opened.map_err(|error| error.to_string())
    }
}

/// Every message of an SQS event fails and comes again; a direct event fails as a whole. For when there is no [`Function`].
///
/// # Errors
/// Always for a direct event.
pub fn fail_all(event: Value, why: &str) -> Result<Value, InvocationError> {
    match Event::parse(event)? {
        Event::Sqs(records) => Ok(sqs_response(records.into_iter().map(|record| record.message_id).collect())),
        Event::Direct(_) => Err(InvocationError::Undelivered(why.to_owned())),
    }
}

fn sqs_response(failed: Vec<String>) -> Value {
    let failures = failed.into_iter().map(|message_id| {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = message_id;
        failure
    });
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failures.collect();
    json!(response)
}

/// One line an object: INFO when all of it was delivered, else ERROR.
fn report(work: &Work, outcome: &Outcome, started: Instant) -> Result<(), String> {
    let (summary, undelivered) = match outcome {
        Outcome::Complete(summary) if summary.refused.is_empty() => (summary, None),
        Outcome::Complete(summary) => (summary, Some(refused_in_words(&summary.refused))),
        Outcome::Rest { from_row, why, summary } => (summary, Some(format!("from row {from_row} on: {why}"))),
    };
    let Summary { counts, batches, bytes, .. } = summary;
    let distribution = summary.distribution.as_deref().unwrap_or("unknown");
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident, $($message:tt)*) => {
            tracing::$level!(
                object = %work.object, rows = counts.rows, sent = counts.sent, static = counts.static_assets, malformed = counts.malformed,
                refused = counts.refused, batches, bytes, elapsed_ms, $($message)*
            )
        };
    }
    match undelivered {
        None => {
            line!(info, "successfully sent {} transactions for distribution {distribution}", counts.sent);
            Ok(())
        }
        Some(why) => {
            line!(error, "sent {} transactions for distribution {distribution}, but not all: {why}", counts.sent);
            Err(why)
        }
    }
}

fn refused_in_words(refused: &[Refusal]) -> String {
    let shown: Vec<String> = refused.iter().take(SHOWN_ROWS).map(|refusal| format!("{} ({})", refusal.row, refusal.status)).collect();
    let more = refused.len().saturating_sub(SHOWN_ROWS);
    format!("the bridge refuses rows {}{}", shown.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}

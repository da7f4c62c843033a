//! *Invocation*: one Lambda event in, one response out.
//!
//! Each SQS message succeeds or fails on its own (partial batch responses). The remaining rows of
//! an object are requeued, delayed for retry, or sent to the dead-letter queue (see
//! [`crate::work_queue`]). Any other event succeeds or fails as a whole. Success never hides a
//! loss.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};
use jiff::SignedDuration;
use serde_json::{Value, json};
use thiserror::Error;

use crate::batch::Batch;
use crate::bridge::{Bridge, Session};
use crate::ingest::{Outcome, StopReason, ingest_watched};
use crate::job::{
    ALL_ROWS, CONTINUATION_VERSION, Continuation, ContinuedObject, Event, EventError, Job,
    RowRanges, SqsMessageMeta, SqsRecord,
};
use crate::pipeline::{Rejection, Rules, Summary};
use crate::report::Report;
use crate::source::{Opened, S3, SourceError};
use crate::telemetry::json_text;
use crate::time::{Clock, Deadline};
use crate::work_queue::{Next, Situation, WorkQueue, retry_delay, started};

/// The part of an invocation's time that is kept back to respond.
pub const RESERVE: Duration = Duration::from_secs(10);

/// The parts that every invocation uses, made once per process.
#[derive(Debug)]
pub struct Function {
    pub s3: S3,
    pub rules: Arc<Rules>,
    pub bridge: Bridge,
    pub concurrency: usize,
    pub work_queue: WorkQueue,
    /// The age at which a job goes to the dead-letter queue.
    pub retry_for: SignedDuration,
    pub clock: Clock,
}

/// Why an invocation failed as a whole. AWS stores the text: it names objects and reasons, never
/// log content.
#[derive(Debug, Error)]
pub enum InvocationError {
    #[error("cannot process the event: {0}")]
    Event(#[from] EventError),
    /// A direct event whose objects were not all delivered completely.
    #[error("delivery failed: {0}")]
    Undelivered(String),
}

/// Facts about one invocation, from Lambda.
#[derive(Clone, Debug)]
pub struct Context {
    pub deadline: Deadline,
    /// The X-Ray trace header, by which AWS detects recursive loops.
    pub trace: Option<String>,
    /// The function's name: the dimension of its metrics.
    pub function: String,
}

/// Converts Lambda's deadline (milliseconds since the Unix epoch) and subtracts [`RESERVE`]. A
/// deadline in the past leaves no time.
pub fn deadline(lambda_deadline_ms: u64) -> Deadline {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    Deadline::after(
        Duration::from_millis(lambda_deadline_ms)
            .saturating_sub(now)
            .saturating_sub(RESERVE),
    )
}

/// Rows of a job that were not delivered.
struct Remainder {
    job: Job,
    rows: RowRanges,
    why: String,
    /// Whether rows were settled in this invocation.
    progress: bool,
    /// Whether a retry cannot help.
    is_final: bool,
}

impl Function {
    /// Handles one event.
    ///
    /// # Errors
    /// [`InvocationError`]: the event cannot be parsed, or a direct event was not delivered
    /// completely.
    pub async fn handle(&self, event: Value, context: &Context) -> Result<Value, InvocationError> {
        let session = self.bridge.session(context.deadline);
        if context.deadline.has_passed() {
            tracing::error!(
                reserve_seconds = RESERVE.as_secs(),
                "no time is left to deliver: set the function's timeout well above the reserve (recommended: 300 s)"
            );
        }
        match Event::parse(event)
            .inspect_err(|error| tracing::error!(%error, "failed to parse the event"))?
        {
            Event::Sqs(records) => {
                let mut failed = Vec::new();
                for SqsRecord {
                    message_id,
                    meta,
                    jobs,
                } in records
                {
                    let done = match jobs {
                        Ok(jobs) => self.deliver_message(jobs, &meta, &session, context).await,
                        Err(error) => {
                            tracing::error!(message_id, %error, "failed to parse the message");
                            self.delay(&meta).await;
                            false
                        }
                    };
                    if !done {
                        failed.push(message_id);
                    }
                }
                Ok(sqs_response(failed))
            }
            Event::Direct(jobs) => {
                let mut undelivered = Vec::new();
                for job in &jobs {
                    let (report, remainders) = self.deliver_object(job, &session).await;
                    report.print(&context.function);
                    undelivered.extend(
                        remainders
                            .into_iter()
                            .map(|remainder| format!("{}: {}", job.object, remainder.why)),
                    );
                }
                if undelivered.is_empty() {
                    Ok(json!({ "objects": jobs.len() }))
                } else {
                    Err(InvocationError::Undelivered(undelivered.join("; ")))
                }
            }
        }
    }

    /// Delivers the jobs of a message. Returns `true` if the message can be deleted: every row was
    /// delivered, or the remaining rows are in messages of their own.
    async fn deliver_message(
        &self,
        jobs: Vec<Job>,
        meta: &SqsMessageMeta,
        session: &Session<'_>,
        context: &Context,
    ) -> bool {
        if jobs.is_empty() {
            return true;
        }
        if let Err(error) = self
            .work_queue
            .hold(meta, context.deadline.time_left().saturating_add(RESERVE))
            .await
        {
            tracing::warn!(%error, "failed to extend the visibility timeout; the message may be redelivered early");
        }
        let (mut progress, mut delivered) = (false, Vec::with_capacity(jobs.len()));
        for mut job in jobs {
            let (since, requeue_count) = started(&job, meta, self.clock.now(), self.retry_for);
            (job.since, job.requeue_count) = (Some(since), requeue_count);
            let situation = self.situation(&job, meta, false);
            if situation.was_killed() {
                tracing::error!(object = %job.object, receive_count = meta.receive_count, "message was redelivered before its retry delay ended; the function was probably killed (out of memory or timeout)");
            }
            // Every message is tried at least once, however old it is.
            let (report, remainders) = if situation.age >= self.retry_for && meta.receive_count > 1
            {
                let why = "retried for longer than RETRY_FOR".to_owned();
                let mut report = Report::begin(job.object.clone());
                report.undelivered = Some(why.clone());
                (
                    report,
                    vec![Remainder {
                        rows: vec![open_end(&job)],
                        why,
                        progress: false,
                        is_final: false,
                        job,
                    }],
                )
            } else {
                self.deliver_object(&job, session).await
            };
            progress |= report.summary.counts.rows > 0;
            delivered.push((report, remainders));
        }
        // Decide only after all objects in the message were tried. Progress on one lets us requeue
        // the others; otherwise the whole message, finished objects included, would be redelivered.
        let mut done = true;
        for (mut report, remainders) in delivered {
            for mut remainder in remainders {
                remainder.progress |= progress;
                // Once one remainder stays with the original message, the later ones stay too
                // (`&&` must short-circuit).
                done = done && self.settle(remainder, meta, context, &mut report).await;
            }
            report.print(&context.function);
        }
        done
    }

    /// Requeues, delays or dead-letters a remainder. Returns `true` if it now has a message of its
    /// own.
    async fn settle(
        &self,
        remainder: Remainder,
        meta: &SqsMessageMeta,
        context: &Context,
        report: &mut Report,
    ) -> bool {
        let situation = self.situation(&remainder.job, meta, remainder.progress);
        let next = if remainder.is_final {
            Next::DeadLetter
        } else {
            situation.next()
        };
        report.retry_age = situation.age.try_into().ok();
        let sent = match next {
            Next::Requeue => {
                let requeue =
                    self.continuation(&remainder, remainder.job.requeue_count.saturating_add(1));
                self.work_queue
                    .requeue(meta, &requeue, context.trace.as_deref())
                    .await
            }
            Next::DeadLetter => {
                self.work_queue
                    .dead_letter(
                        meta,
                        &self.continuation(&remainder, remainder.job.requeue_count),
                    )
                    .await
            }
            Next::Delay(_) => {
                report.messages_delayed += 1;
                self.delay(meta).await;
                return false;
            }
        };
        let Remainder {
            job: Job { object, .. },
            rows,
            why,
            ..
        } = &remainder;
        let row_ranges = json_text(rows);
        match (sent, next) {
            (Ok(()), Next::DeadLetter) => {
                report.dead_letters += 1;
                tracing::error!(%object, row_ranges, reason = why, "sent undelivered rows to the dead-letter queue");
            }
            (Ok(()), _) => {
                report.requeues += 1;
                tracing::info!(%object, row_ranges, reason = why, "requeued the remaining rows");
            }
            (Err(error), _) => {
                tracing::error!(%object, row_ranges, %error, "failed to send undelivered rows to SQS; the original message will be retried");
                report.messages_delayed += 1;
                self.delay(meta).await;
                return false;
            }
        }
        true
    }

    async fn delay(&self, meta: &SqsMessageMeta) {
        let delay = retry_delay(meta.receive_count);
        match self.work_queue.delay(meta, delay).await {
            Ok(()) => tracing::info!(
                delay_minutes = delay.as_secs() / 60,
                receive_count = meta.receive_count,
                "delayed the message for retry"
            ),
            Err(error) => tracing::warn!(
                %error,
                "failed to delay the message; it will be redelivered when its visibility timeout ends"
            ),
        }
    }

    fn situation(&self, job: &Job, meta: &SqsMessageMeta, progress: bool) -> Situation {
        let now = self.clock.now();
        let age = now.duration_since(job.since.unwrap_or(now));
        Situation {
            progress,
            requeue_count: job.requeue_count,
            receive_count: meta.receive_count,
            age,
            retry_for: self.retry_for,
        }
    }

    fn continuation(&self, remainder: &Remainder, requeue_count: u8) -> Continuation {
        let Job { object, since, .. } = &remainder.job;
        Continuation {
            edgetap: CONTINUATION_VERSION,
            object: ContinuedObject {
                bucket: object.bucket.clone(),
                key: object.key.clone(),
                etag: object.etag.clone(),
            },
            rows: remainder.rows.clone(),
            since: since.unwrap_or_else(|| self.clock.now()),
            requeue_count,
            reason: remainder.why.clone(),
            rules: self.rules.digest(),
        }
    }

    /// Delivers an object. Returns its report and the undelivered rows: those from the first row
    /// that was not accepted, and those that the bridge rejected.
    async fn deliver_object(&self, job: &Job, session: &Session<'_>) -> (Report, Vec<Remainder>) {
        let mut report = Report::begin(job.object.clone());
        let (opened, rules) = match self.open(job, session, &mut report).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return (report, Vec::new()),
            Err(why) => {
                report.undelivered = Some(why.clone());
                report.token_requests = self.bridge.tokens().take_requests();
                return (
                    report,
                    vec![Remainder {
                        job: job.clone(),
                        rows: vec![open_end(job)],
                        why,
                        progress: false,
                        is_final: false,
                    }],
                );
            }
        };
        let mut job = Job {
            object: opened.object,
            ..job.clone()
        };
        if job.rows != ALL_ROWS && opened.replaced {
            tracing::warn!(object = %job.object, "object was replaced after part of it was delivered; starting over");
            job.rows = ALL_ROWS;
        }
        let (bytes, read) = counted(opened.bytes);
        let note_lag = |_: &Summary, batch: &Batch| {
            let lag = batch
                .oldest_end
                .map(|ended| self.clock.now().as_millisecond().saturating_sub(ended));
            report
                .delivery_lags
                .extend(lag.and_then(|lag| u64::try_from(lag).ok()));
        };
        let outcome =
            ingest_watched(&job, bytes, &rules, session, self.concurrency, note_lag).await;
        report.bytes_in = read.load(Ordering::Relaxed);
        report.meter = session.take_meter();
        report.token_requests = self.bridge.tokens().take_requests();
        report.summary = outcome.summary().clone();
        let remainders = remainders(job, outcome);
        report.undelivered = remainders
            .iter()
            .map(|remainder| remainder.why.clone())
            .reduce(|all, why| format!("{all}; {why}"));
        (report, remainders)
    }

    /// Opens the object and gets the token at the same time. Returns `None` if the object was
    /// deleted.
    async fn open(
        &self,
        job: &Job,
        session: &Session<'_>,
        report: &mut Report,
    ) -> Result<Option<(Opened, Arc<Rules>)>, String> {
        // The SDK's future is large; on the heap it does not enlarge those around it.
        let both =
            futures_util::future::join(Box::pin(self.s3.open(&job.object)), session.warm_up());
        let Some((opened, token)) = session.deadline().bound(both).await else {
            return Err(StopReason::Deadline.to_string());
        };
        match opened {
            Ok(opened) => {
                token.map_err(|error| error.to_string())?;
                Ok(Some((opened, session.keyed(&self.rules)?)))
            }
            Err(SourceError::NotFound { object }) if job.has_started() => {
                report.lost = true;
                let (first, end) = open_end(job);
                let last = end.map_or_else(
                    || "the end".to_owned(),
                    |end| end.saturating_sub(1).to_string(),
                );
                report.undelivered = Some(format!(
                    "data loss: {object} was deleted before its rows from {first} to {last} were delivered"
                ));
                Ok(None)
            }
            Err(SourceError::NotFound { object }) => {
                tracing::warn!(%object, "object was deleted before it was read; keep logs for longer (log_expiration_days)");
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn open_end(job: &Job) -> (u64, Option<u64>) {
    (
        job.rows.start,
        Some(job.rows.end).filter(|end| *end != u64::MAX),
    )
}

/// Returns the undelivered rows of an ingested object.
fn remainders(job: Job, outcome: Outcome) -> Vec<Remainder> {
    let rejected = rejections(&outcome.summary().rejected);
    let progress = match &outcome {
        Outcome::Complete(_) => true,
        Outcome::Partial { from_row, .. } => *from_row > job.rows.start,
    };
    let mut remainders = Vec::new();
    if let Some((rows, why)) = rejected {
        remainders.push(Remainder {
            job: job.clone(),
            rows,
            why,
            progress,
            is_final: true,
        });
    }
    if let Outcome::Partial { from_row, why, .. } = outcome {
        let job = Job {
            rows: from_row..job.rows.end,
            ..job
        };
        remainders.push(Remainder {
            rows: vec![open_end(&job)],
            is_final: why.is_final(),
            why: why.to_string(),
            progress,
            job,
        });
    }
    remainders
}

/// Returns the rejected rows as ranges, and the reason as text.
fn rejections(rejected: &[Rejection]) -> Option<(RowRanges, String)> {
    let first = rejected.first()?;
    let mut rows = RowRanges::new();
    for Rejection { row, .. } in rejected {
        match rows.last_mut() {
            Some((_, end)) if *end == Some(*row) => *end = Some(row + 1),
            _ => rows.push((*row, Some(row + 1))),
        }
    }
    let same = rejected
        .iter()
        .all(|rejection| rejection.status == first.status);
    let status = if same {
        first.status.to_string()
    } else {
        "different statuses".to_owned()
    };
    let transactions = match rejected.len() {
        1 => "1 transaction".to_owned(),
        count => format!("{count} transactions"),
    };
    Some((
        rows,
        format!("the bridge rejected {transactions} ({status})"),
    ))
}

/// Fails every message of an SQS event, so that SQS redelivers it. For an invocation without a
/// [`Function`].
///
/// # Errors
/// [`InvocationError`] for any other event.
pub fn fail_all(event: Value, why: &str) -> Result<Value, InvocationError> {
    match Event::parse(event)? {
        Event::Sqs(records) => Ok(sqs_response(
            records
                .into_iter()
                .map(|record| record.message_id)
                .collect(),
        )),
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

/// Counts the bytes read.
fn counted(bytes: Box<dyn Read + Send>) -> (impl Read + Send, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    (
        Counted {
            bytes,
            read: read.clone(),
        },
        read,
    )
}

struct Counted {
    bytes: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buf)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

//! *Invocation*: one Lambda event in, one answer out.
//!
//! From SQS each message succeeds or fails by itself (partial batch responses), and what is left of an object is handed over,
//! postponed or dead-lettered (see [`crate::work_queue`]). Any other event succeeds or fails as a whole. There is no success
//! with loss.

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
use crate::ingest::{Outcome, ingest_watched};
use crate::job::{
    ALL_ROWS, CONTINUATION_VERSION, Continuation, ContinuedObject, Event, EventError, Job,
    RowRanges, SqsMessageMeta, SqsRecord,
};
use crate::pipeline::{Rejection, Rules, Summary};
use crate::report::Report;
use crate::source::{Opened, S3, SourceError};
use crate::time::{Clock, Deadline};
use crate::work_queue::{Next, Situation, WorkQueue, begun, remainder};

/// Of an invocation's time so much is kept back for the answer.
pub const RESERVE: Duration = Duration::from_secs(10);

/// All that an invocation needs: made once for the process.
#[derive(Debug)]
pub struct Function {
    pub s3: S3,
    /// What is sent, and how.
    pub rules: Arc<Rules>,
    pub bridge: Bridge,
    pub concurrency: usize,
    /// Where what is left goes.
    pub work_queue: WorkQueue,
    /// How long an object is tried before it is dead-lettered.
    pub retry_for: SignedDuration,
    pub clock: Clock,
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

/// What Lambda says of an invocation.
#[derive(Clone, Debug)]
pub struct Context {
    /// When it must be over.
    pub deadline: Deadline,
    /// The trace header (AWS X-Ray), by which AWS recognises loops.
    pub trace: Option<String>,
    /// The function's name: the dimension of its metrics.
    pub function: String,
}

/// When an invocation must be over, from the instant that Lambda tells, in milliseconds since the Unix epoch. What is past
/// is past: no time is left then.
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

/// What is left of an object.
struct Remainder {
    job: Job,
    rows: RowRanges,
    why: String,
    /// Whether rows were accepted since its message came.
    progress: bool,
    /// Whether trying again cannot help.
    is_final: bool,
}

impl Function {
    /// Handles one event.
    ///
    /// # Errors
    /// When the event is not understood, or something of a direct event was not delivered whole.
    pub async fn handle(&self, event: Value, context: &Context) -> Result<Value, InvocationError> {
        let session = self.bridge.session(context.deadline);
        if context.deadline.has_passed() {
            tracing::error!(
                "there is no time left: {} s of it are kept for the answer, so the function's timeout must be longer than that",
                RESERVE.as_secs()
            );
        }
        match Event::parse(event).inspect_err(|error| tracing::error!("{error}"))? {
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
                            tracing::error!(message_id, "{error}");
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

    /// Delivers what a message asks for. `true` when the message is done: all of it was delivered, or what is left has a
    /// message of its own.
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
            tracing::warn!(
                "the message's visibility could not be set, so that it may come again early: {error}"
            );
        }
        let (mut progress, mut delivered) = (false, Vec::with_capacity(jobs.len()));
        for mut job in jobs {
            let (since, requeue_count) = begun(&job, meta, self.clock.now(), self.retry_for);
            (job.since, job.requeue_count) = (Some(since), requeue_count);
            let situation = self.situation(&job, meta, false);
            if situation.was_killed() {
                tracing::error!(object = %job.object, receive_count = meta.receive_count, "the message came again without having been postponed: something ends the function early (memory, time-out?)");
            }
            // A message that was never tried is tried once, however old.
            let (report, remainders) = if situation.age >= self.retry_for && meta.receive_count > 1
            {
                let why = "it was tried for long enough".to_owned();
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
        // Only now: what was delivered of one object would come again with the rest of another that has no message of its own.
        let mut done = true;
        for (mut report, remainders) in delivered {
            for mut remainder in remainders {
                remainder.progress |= progress;
                // What follows a rest that has no message yet comes again with it.
                done = done && self.settle(remainder, meta, context, &mut report).await;
            }
            report.print(&context.function);
        }
        done
    }

    /// Does with a rest what its situation asks for. `true` when it has a message of its own.
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
        match (sent, next) {
            (Ok(()), Next::DeadLetter) => {
                report.dead_letters += 1;
                tracing::error!(%object, ?rows, "dead-lettered: {why}");
            }
            (Ok(()), _) => {
                report.requeues += 1;
                tracing::info!(%object, ?rows, "handed over: {why}");
            }
            (Err(error), _) => {
                tracing::error!(%object, ?rows, "what is left could not be sent on, so that its message comes again: {error}");
                report.messages_delayed += 1;
                self.delay(meta).await;
                return false;
            }
        }
        true
    }

    async fn delay(&self, meta: &SqsMessageMeta) {
        let remainder = remainder(meta.receive_count);
        match self.work_queue.delay(meta, remainder).await {
            Ok(()) => tracing::info!(
                minutes = remainder.as_secs() / 60,
                receive_count = meta.receive_count,
                "postponed"
            ),
            Err(error) => tracing::warn!(
                "the message could not be postponed, so that it comes again when its visibility ends: {error}"
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

    /// Delivers an object, and says what is left of it: the rest of its rows, and those that the bridge refuses.
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
            tracing::warn!(object = %job.object, "the object was replaced since part of it was delivered: starting over");
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

    /// Opens the object and fetches the token side by side. `None` when there is nothing to do any more.
    async fn open(
        &self,
        job: &Job,
        session: &Session<'_>,
        report: &mut Report,
    ) -> Result<Option<(Opened, Arc<Rules>)>, String> {
        // The SDK's future is large: on the heap, so that those around it stay small.
        let both =
            futures_util::future::join(Box::pin(self.s3.open(&job.object)), session.warm_up());
        let Some((opened, token)) = session.deadline().bound(both).await else {
            return Err("the invocation's time was over".to_owned());
        };
        match opened {
            Ok(opened) => {
                token.map_err(|error| error.to_string())?;
                Ok(Some((opened, session.keyed(&self.rules)?)))
            }
            Err(SourceError::NotFound { object }) if job.has_begun() => {
                report.lost = true;
                let (first, end) = open_end(job);
                let end =
                    end.map_or_else(|| "its end".to_owned(), |end| format!("before row {end}"));
                report.undelivered = Some(format!(
                    "lost: {object} was deleted before it was delivered from row {first} to {end}"
                ));
                Ok(None)
            }
            Err(SourceError::NotFound { object }) => {
                tracing::warn!(%object, "the object was deleted before it was read: the logs' expiry is shorter than the wait");
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

/// What is left of an object after it was ingested.
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

/// Refused rows as ranges, and why, in words.
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
        .all(|refusal| refusal.status == first.status);
    let status = if same {
        first.status.to_string()
    } else {
        "several statuses".to_owned()
    };
    Some((
        rows,
        format!(
            "the bridge refuses {} transactions ({status})",
            rejected.len()
        ),
    ))
}

/// Every message of an SQS event fails and comes again; a direct event fails as a whole. For when there is no [`Function`].
///
/// # Errors
/// Always for a direct event.
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

/// Counts what is read.
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

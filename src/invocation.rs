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
use crate::pipeline::{Refusal, Rules, Summary};
use crate::report::Report;
use crate::retry::{Clock, Deadline};
use crate::source::{Opened, S3, SourceError};
use crate::work::{ALL_ROWS, CONTINUATION_VERSION, Continuation, ContinuedObject, Event, EventError, Receipt, RowRanges, SqsRecord, Work};
use crate::work_queue::{Next, Situation, WorkQueue, begun, rest};

/// Of an invocation's time so much is kept back for the answer.
pub const RESERVE: Duration = Duration::from_secs(10);

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
    /// Where what is left goes.
    pub work_queue: WorkQueue,
    /// How long an object is tried before it is dead-lettered.
    pub retry_for: SignedDuration,
    /// What time it is.
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
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Deadline::after(Duration::from_millis(lambda_deadline_ms).saturating_sub(now).saturating_sub(RESERVE))
}

/// What is left of an object.
struct Rest {
    work: Work,
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
                for SqsRecord { message_id, receipt, works } in records {
                    let done = match works {
                        Ok(works) => self.deliver_message(works, &receipt, &session, context).await,
                        Err(error) => {
                            tracing::error!(message_id, "{error}");
                            self.postpone(&receipt).await;
                            false
                        }
                    };
                    if !done {
                        failed.push(message_id);
                    }
                }
                Ok(sqs_response(failed))
            }
            Event::Direct(works) => {
                let mut undelivered = Vec::new();
                for work in &works {
                    let (report, rests) = self.deliver_object(work, &session).await;
                    report.print(&context.function);
                    undelivered.extend(rests.into_iter().map(|rest| format!("{}: {}", work.object, rest.why)));
                }
                if undelivered.is_empty() {
                    Ok(json!({ "objects": works.len() }))
                } else {
                    Err(InvocationError::Undelivered(undelivered.join("; ")))
                }
            }
        }
    }

    /// Delivers what a message asks for. `true` when the message is done: all of it was delivered, or what is left has a
    /// message of its own.
    async fn deliver_message(&self, works: Vec<Work>, receipt: &Receipt, session: &Session<'_>, context: &Context) -> bool {
        if works.is_empty() {
            return true;
        }
        if let Err(error) = self.work_queue.hold(receipt, context.deadline.time_left().saturating_add(RESERVE)).await {
            tracing::warn!("the message's visibility could not be set, so that it may come again early: {error}");
        }
        let (mut progress, mut delivered) = (false, Vec::with_capacity(works.len()));
        for mut work in works {
            let (since, hops) = begun(&work, receipt, self.clock.now(), self.retry_for);
            (work.since, work.hops) = (Some(since), hops);
            let situation = self.situation(&work, receipt, false);
            if situation.was_killed() {
                tracing::error!(object = %work.object, receives = receipt.receives, "the message came again without having been postponed: something ends the function early (memory, time-out?)");
            }
            // A message that was never tried is tried once, however old.
            let (report, rests) = if situation.age >= self.retry_for && receipt.receives > 1 {
                let why = "it was tried for long enough".to_owned();
                let mut report = Report::begin(work.object.clone());
                report.undelivered = Some(why.clone());
                (report, vec![Rest { rows: vec![open_end(&work)], why, progress: false, is_final: false, work }])
            } else {
                self.deliver_object(&work, session).await
            };
            progress |= report.summary.counts.rows > 0;
            delivered.push((report, rests));
        }
        // Only now: what was delivered of one object would come again with the rest of another that has no message of its own.
        let mut done = true;
        for (mut report, rests) in delivered {
            for mut rest in rests {
                rest.progress |= progress;
                // What follows a rest that has no message yet comes again with it.
                done = done && self.settle(rest, receipt, context, &mut report).await;
            }
            report.print(&context.function);
        }
        done
    }

    /// Does with a rest what its situation asks for. `true` when it has a message of its own.
    async fn settle(&self, rest: Rest, receipt: &Receipt, context: &Context, report: &mut Report) -> bool {
        let situation = self.situation(&rest.work, receipt, rest.progress);
        let next = if rest.is_final { Next::DeadLetter } else { situation.next() };
        report.retry_age = situation.age.try_into().ok();
        let sent = match next {
            Next::HandOver => {
                let hop = self.continuation(&rest, rest.work.hops.saturating_add(1));
                self.work_queue.hand_over(receipt, &hop, context.trace.as_deref()).await
            }
            Next::DeadLetter => self.work_queue.dead_letter(receipt, &self.continuation(&rest, rest.work.hops)).await,
            Next::Postpone(_) => {
                report.postponements += 1;
                self.postpone(receipt).await;
                return false;
            }
        };
        let Rest { work: Work { object, .. }, rows, why, .. } = &rest;
        match (sent, next) {
            (Ok(()), Next::DeadLetter) => {
                report.dead_letters += 1;
                tracing::error!(%object, ?rows, "dead-lettered: {why}");
            }
            (Ok(()), _) => {
                report.hand_overs += 1;
                tracing::info!(%object, ?rows, "handed over: {why}");
            }
            (Err(error), _) => {
                tracing::error!(%object, ?rows, "what is left could not be sent on, so that its message comes again: {error}");
                report.postponements += 1;
                self.postpone(receipt).await;
                return false;
            }
        }
        true
    }

    async fn postpone(&self, receipt: &Receipt) {
        let rest = rest(receipt.receives);
        match self.work_queue.postpone(receipt, rest).await {
            Ok(()) => tracing::info!(minutes = rest.as_secs() / 60, receives = receipt.receives, "postponed"),
            Err(error) => tracing::warn!("the message could not be postponed, so that it comes again when its visibility ends: {error}"),
        }
    }

    fn situation(&self, work: &Work, receipt: &Receipt, progress: bool) -> Situation {
        let now = self.clock.now();
        let age = now.duration_since(work.since.unwrap_or(now));
        Situation { progress, hops: work.hops, receives: receipt.receives, age, retry_for: self.retry_for }
    }

    fn continuation(&self, rest: &Rest, hops: u8) -> Continuation {
        let Work { object, since, .. } = &rest.work;
        Continuation {
            edgetap: CONTINUATION_VERSION,
            object: ContinuedObject { bucket: object.bucket.clone(), key: object.key.clone(), etag: object.etag.clone() },
            rows: rest.rows.clone(),
            since: since.unwrap_or_else(|| self.clock.now()),
            hops,
            reason: rest.why.clone(),
            rules: self.rules.digest(),
        }
    }

    /// Delivers an object, and says what is left of it: the rest of its rows, and those that the bridge refuses.
    async fn deliver_object(&self, work: &Work, session: &Session<'_>) -> (Report, Vec<Rest>) {
        let mut report = Report::begin(work.object.clone());
        let (opened, rules) = match self.open(work, session, &mut report).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return (report, Vec::new()),
            Err(why) => {
                report.undelivered = Some(why.clone());
                report.token_requests = self.bridge.tokens().take_requests();
                return (report, vec![Rest { work: work.clone(), rows: vec![open_end(work)], why, progress: false, is_final: false }]);
            }
        };
        let mut work = Work { object: opened.object, ..work.clone() };
        if work.rows != ALL_ROWS && opened.replaced {
            tracing::warn!(object = %work.object, "the object was replaced since part of it was delivered: starting over");
            work.rows = ALL_ROWS;
        }
        let (bytes, read) = counted(opened.bytes);
        let note_lag = |_: &Summary, batch: &Batch| {
            let lag = batch.oldest_end.map(|ended| self.clock.now().as_millisecond().saturating_sub(ended));
            report.delivery_lags.extend(lag.and_then(|lag| u64::try_from(lag).ok()));
        };
        let outcome = ingest_watched(&work, bytes, &rules, session, self.concurrency, note_lag).await;
        report.bytes_in = read.load(Ordering::Relaxed);
        report.meter = session.take_meter();
        report.token_requests = self.bridge.tokens().take_requests();
        report.summary = outcome.summary().clone();
        let rests = rests(work, outcome);
        report.undelivered = rests.iter().map(|rest| rest.why.clone()).reduce(|all, why| format!("{all}; {why}"));
        (report, rests)
    }

    /// Opens the object and fetches the token side by side. `None` when there is nothing to do any more.
    async fn open(&self, work: &Work, session: &Session<'_>, report: &mut Report) -> Result<Option<(Opened, Arc<Rules>)>, String> {
        // The SDK's future is large: on the heap, so that those around it stay small.
        let both = futures_util::future::join(Box::pin(self.s3.open(&work.object)), session.warm_up());
        let Some((opened, token)) = session.deadline().bound(both).await else { return Err("the invocation's time was over".to_owned()) };
        match opened {
            Ok(opened) => {
                token.map_err(|error| error.to_string())?;
                Ok(Some((opened, session.keyed(&self.rules)?)))
            }
            Err(SourceError::NotFound { object }) if work.has_begun() => {
                report.lost = true;
                let (first, end) = open_end(work);
                let end = end.map_or_else(|| "its end".to_owned(), |end| format!("before row {end}"));
                report.undelivered = Some(format!("lost: {object} was deleted before it was delivered from row {first} to {end}"));
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

fn open_end(work: &Work) -> (u64, Option<u64>) {
    (work.rows.start, Some(work.rows.end).filter(|end| *end != u64::MAX))
}

/// What is left of an object after it was ingested.
fn rests(work: Work, outcome: Outcome) -> Vec<Rest> {
    let refused = refusals(&outcome.summary().refused);
    let progress = match &outcome {
        Outcome::Complete(_) => true,
        Outcome::Rest { from_row, .. } => *from_row > work.rows.start,
    };
    let mut rests = Vec::new();
    if let Some((rows, why)) = refused {
        rests.push(Rest { work: work.clone(), rows, why, progress, is_final: true });
    }
    if let Outcome::Rest { from_row, why, .. } = outcome {
        let work = Work { rows: from_row..work.rows.end, ..work };
        rests.push(Rest { rows: vec![open_end(&work)], is_final: why.is_final(), why: why.to_string(), progress, work });
    }
    rests
}

/// Refused rows as ranges, and why, in words.
fn refusals(refused: &[Refusal]) -> Option<(RowRanges, String)> {
    let first = refused.first()?;
    let mut rows = RowRanges::new();
    for Refusal { row, .. } in refused {
        match rows.last_mut() {
            Some((_, end)) if *end == Some(*row) => *end = Some(row + 1),
            _ => rows.push((*row, Some(row + 1))),
        }
    }
    let same = refused.iter().all(|refusal| refusal.status == first.status);
    let status = if same { first.status.to_string() } else { "several statuses".to_owned() };
    Some((rows, format!("the bridge refuses {} transactions ({status})", refused.len())))
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

/// Counts what is read.
fn counted(bytes: Box<dyn Read + Send>) -> (impl Read + Send, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    (Counted { bytes, read: read.clone() }, read)
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

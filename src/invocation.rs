//! *Invocation*: one Lambda event in, one response out.
//!
//! The messages of an SQS event are delivered side by side, and each succeeds or fails on its own
//! (partial batch responses). Each message has three steps: an attempt at each of its jobs, the
//! [`Plan`] that follows from the attempts, and the requests that carry it out. Any other event
//! succeeds or fails as a whole. Success never hides a loss.

use std::io::{self, Read};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};
use futures_util::stream::{self, StreamExt as _};
use futures_util::{FutureExt as _, future};
use jiff::SignedDuration;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::batch::Batch;
use crate::bridge::{Attempt, Bridge, Trouble};
use crate::continuation::{CONTINUATION_VERSION, Continuation, History};
use crate::event::{Event, EventError, Receipt, SqsRecord, Work};
use crate::ingest::{Place, Settled, StopReason, Watch, ingest_watched};
use crate::job::Job;
use crate::pipeline::{Rules, Summary};
use crate::plan::{Facts, LEAST_JITTER, Message, Plan, Situation, Target, decide, retry_delay};
use crate::report::Report;
use crate::response::Scope;
use crate::rows::{OPEN, Rows};
use crate::source::{Opened, S3, SourceError};
use crate::space::{Share, Space, TooLarge};
use crate::telemetry;
use crate::time::{Clock, Deadline};
use crate::work_queue::{QueueError, WorkQueue};

/// The part of an invocation's time that is kept back to finish what is in flight and to respond.
pub const RESERVE: Duration = Duration::from_secs(10);

/// The part of [`RESERVE`] in which messages are still sent to SQS.
const SENDING: Duration = Duration::from_secs(9);

/// If Lambda kills the function, its messages are visible again this long after its timeout.
const VISIBILITY_RESERVE: Duration = Duration::from_mins(1);

/// KiB of memory for the objects that are read side by side. Each takes its size, but at most
/// [`MOST_OF_OBJECT`], because two ranges of 4 MiB of an object are in memory at a time.
const MEMORY: u32 = 32 << 10;
const MOST_OF_OBJECT: u32 = 8 << 10;

/// Messages that are delivered side by side. Each has connections, and a thread if its object is not
/// [`SMALL`].
const SIDE_BY_SIDE: usize = 20;

/// Most bytes of an object that is read without a thread, because handing its few batches over costs
/// as much as making them. The text of no gzip file this small is longer than 66 MB, which takes
/// tenths of a second.
const SMALL: u64 = 64 << 10;

/// Ranges of rows that an error names at most.
const SHOWN_RANGES: usize = 100;

/// The parts that every invocation uses, made once per process.
#[derive(Debug)]
pub struct Function {
    pub s3: S3,
    pub rules: Arc<Rules>,
    pub bridge: Bridge,
    pub work_queue: WorkQueue,
    /// The age at which rows that make no progress go to the dead-letter queue.
    pub retry_for: SignedDuration,
    pub clock: Clock,
    memory: Semaphore,
    space: Space,
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

/// Returns the deadline that is [`RESERVE`] before Lambda's, which is in milliseconds since the
/// Unix epoch. If it is in the past, no time is left.
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

/// What Lambda is to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settlement {
    /// Delete it: its rows are settled, or other messages carry them.
    Acknowledge,
    /// Leave it in the queue, which delivers it again.
    Redeliver,
}

impl Function {
    /// Puts the parts together.
    pub fn new(
        s3: S3,
        rules: Arc<Rules>,
        bridge: Bridge,
        work_queue: WorkQueue,
        retry_for: SignedDuration,
    ) -> Self {
        Self {
            s3,
            rules,
            bridge,
            work_queue,
            retry_for,
            clock: Clock::default(),
            memory: Semaphore::new(MEMORY as usize),
            space: Space::of_temporary_directory(),
        }
    }

    /// Sets the bytes of temporary storage, which are otherwise the free ones of its directory.
    #[must_use]
    pub fn with_space(self, bytes: u64) -> Self {
        Self {
            space: Space::of(bytes),
            ..self
        }
    }

    /// Handles one event.
    ///
    /// # Errors
    /// [`InvocationError`]: the event cannot be parsed, or a direct event was not delivered
    /// completely.
    pub async fn handle(&self, event: Value, context: &Context) -> Result<Value, InvocationError> {
        if context.deadline.has_passed() {
            tracing::error!(
                reserve_seconds = RESERVE.as_secs(),
                "no time is left to deliver: set the function's timeout well above the reserve (recommended: 300 s)"
            );
        }
        let event = Event::parse(event)
            .inspect_err(|error| tracing::error!(%error, "failed to parse the event"))?;
        match event {
            Event::Sqs(records) => Ok(sqs_response(self.deliver_messages(records, context).await)),
            Event::Direct(jobs) => self.deliver_directly(&jobs, context).await,
        }
    }

    /// Delivers the messages of an event side by side. Returns the IDs of those that SQS is to
    /// deliver again.
    ///
    /// A message that may have killed the function before runs after the others and alone, so that
    /// they are finished if it does so again.
    async fn deliver_messages(&self, records: Vec<SqsRecord>, context: &Context) -> Vec<String> {
        let had_time = !context.deadline.has_passed();
        let time_left = context.deadline.time_left();
        let hold = time_left.saturating_add(RESERVE + VISIBILITY_RESERVE);
        let receipts = records.iter().map(|record| &record.receipt);
        if let Err(error) = self.work_queue.hold(receipts, hold).await {
            tracing::warn!(%error, "failed to extend the visibility timeouts; messages may be redelivered early");
        }
        let unfinished = AtomicUsize::new(records.len());
        let deliver = |record: SqsRecord| {
            let unfinished = &unfinished;
            async move {
                let SqsRecord {
                    message_id,
                    receipt,
                    work,
                } = record;
                let delivery = self.deliver_message(&message_id, work, &receipt, had_time, context);
                // A panic fails its own message only.
                let settlement = AssertUnwindSafe(Box::pin(delivery)).catch_unwind().await;
                let settlement = if let Ok(settlement) = settlement {
                    settlement
                } else {
                    tracing::error!(
                        message_id,
                        "delivery panicked (a bug in edgetap); the message will be retried"
                    );
                    self.delay(&receipt, retry_delay(receipt.receive_count))
                        .await;
                    Settlement::Redeliver
                };
                let others = unfinished.fetch_sub(1, Ordering::Relaxed) - 1;
                if settlement == Settlement::Acknowledge && others > 0 {
                    // Lambda deletes messages only after the response. If the function is killed
                    // before that, this message is not delivered again.
                    if let Err(error) = self.work_queue.delete(&receipt).await {
                        tracing::warn!(%error, "failed to delete a finished message; it is deleted when the invocation ends");
                    }
                }
                (settlement == Settlement::Redeliver).then_some(message_id)
            }
        };
        let (suspects, others): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|record| self.situation(record).may_have_been_killed(time_left, hold));
        for SqsRecord {
            message_id,
            receipt: Receipt { receive_count, .. },
            ..
        } in suspects
            .iter()
            .filter(|suspect| suspect.receipt.receive_count > 2)
        {
            tracing::error!(
                message_id,
                receive_count,
                "message was redelivered as if the function had been killed each time (out of memory or timeout)"
            );
        }
        let failed = stream::iter(others)
            .map(deliver)
            .buffered(SIDE_BY_SIDE)
            .chain(stream::iter(suspects).then(deliver));
        failed.filter_map(future::ready).collect().await
    }

    /// Delivers a message. `had_time` says whether any time was left when the invocation began.
    async fn deliver_message(
        &self,
        message_id: &str,
        work: Result<Work, EventError>,
        receipt: &Receipt,
        had_time: bool,
        context: &Context,
    ) -> Settlement {
        let work = match work {
            Ok(work) => work,
            Err(error) => {
                tracing::error!(message_id, %error, "failed to parse the message");
                self.delay(receipt, retry_delay(receipt.receive_count))
                    .await;
                return Settlement::Redeliver;
            }
        };
        if work.jobs.is_empty() {
            return Settlement::Acknowledge;
        }
        let memory = context.deadline.bound(self.memory_for(&work.jobs)).await;
        if had_time && (memory.is_none() || context.deadline.has_passed()) {
            // Not begun: another invocation can begin at once.
            self.delay(receipt, Duration::ZERO).await;
            return Settlement::Redeliver;
        }
        let situation = self.situation_of(&work.history, receipt);
        let attempt = Attempt {
            deadline: context.deadline,
            number: situation.attempt(),
        };
        let mut attempts = Vec::with_capacity(work.jobs.len());
        for job in work.jobs {
            attempts.push(self.attempt(job, attempt).await);
        }
        // Its ages are taken again, because the attempts may have taken minutes.
        let situation = self.situation_of(&work.history, receipt);
        let (facts, mut rest): (Vec<_>, Vec<_>) = attempts
            .into_iter()
            .map(|(facts, job, report)| (facts, (job, report)))
            .unzip();
        let plan = decide(&facts, situation);
        for (facts, (_, report)) in facts.iter().zip(&mut rest) {
            if facts.undelivered().is_some() {
                report.retry_age = situation.age.try_into().ok();
            }
        }
        let settlement = self
            .carry_out(plan, &situation, receipt, &mut rest, context)
            .await;
        for (_, report) in rest {
            report.print(&context.function);
        }
        settlement
    }

    /// Carries out a plan. If SQS does not take one of its messages, the original message is
    /// redelivered, so that no row is lost.
    async fn carry_out(
        &self,
        plan: Plan,
        situation: &Situation,
        receipt: &Receipt,
        attempts: &mut [(Job, Report)],
        context: &Context,
    ) -> Settlement {
        let messages = match plan {
            Plan::Finish(messages) => messages,
            Plan::Redeliver(delay) => {
                self.put_off(receipt, delay, attempts).await;
                return Settlement::Redeliver;
            }
        };
        let end = context.deadline.extended(SENDING);
        for message in messages {
            let Some((job, report)) = attempts.get_mut(message.job) else {
                return Settlement::Redeliver; // unreachable: a plan names these jobs only
            };
            let sending = self.send(&message, job, report, situation, receipt, context);
            let sent = end.bound(sending).await.unwrap_or(Err(SendError::Late));
            let (object, ranges) = (&job.object, message.rows.ranges().len());
            let first_range = shown(&message.rows, 1);
            match sent {
                Ok(()) if message.target == Target::DeadLetters => {
                    tracing::error!(%object, ranges, first_range, reason = message.why, "sent undelivered rows to the dead-letter queue");
                }
                Ok(()) => {
                    tracing::info!(%object, ranges, first_range, reason = message.why, "requeued the remaining rows");
                }
                Err(error) => {
                    tracing::error!(%object, ranges, first_range, %error, "failed to send undelivered rows to SQS; the original message will be retried");
                    let delay = retry_delay(situation.attempt());
                    self.put_off(receipt, delay, attempts).await;
                    return Settlement::Redeliver;
                }
            }
        }
        Settlement::Acknowledge
    }

    /// Sends a message of a plan, in parts if it has many ranges.
    async fn send(
        &self,
        message: &Message,
        job: &Job,
        report: &mut Report,
        situation: &Situation,
        receipt: &Receipt,
        context: &Context,
    ) -> Result<(), SendError> {
        let history = match message.target {
            Target::DeadLetters => situation.history,
            Target::Work { history, .. } => history,
        };
        let now = self.clock.now();
        let continuation = Continuation {
            edgetap: CONTINUATION_VERSION,
            object: job.object.clone(),
            rows: message.rows.clone(),
            since: now.checked_sub(situation.age).unwrap_or(now),
            requeue_count: history.requeue_count,
            attempts: history.attempts,
            reason: message.why.clone(),
            rules: self.rules.digest(),
            dead_letter: message.target == Target::DeadLetters,
        };
        for body in continuation.messages()? {
            match message.target {
                Target::DeadLetters => {
                    self.work_queue.dead_letter(receipt, body).await?;
                    report.dead_letters += 1;
                }
                Target::Work { after, .. } => {
                    let trace = context.trace.as_deref();
                    self.work_queue.requeue(receipt, body, after, trace).await?;
                    report.requeues += 1;
                }
            }
        }
        Ok(())
    }

    /// Delays a message, and counts that in the report of its first job.
    async fn put_off(&self, receipt: &Receipt, delay: Duration, attempts: &mut [(Job, Report)]) {
        if let Some((_, report)) = attempts.first_mut() {
            report.messages_delayed += 1;
        }
        self.delay(receipt, delay).await;
    }

    async fn delay(&self, receipt: &Receipt, delay: Duration) {
        match self.work_queue.delay(receipt, delay).await {
            Ok(()) => tracing::info!(
                delay_seconds = delay.as_secs(),
                receive_count = receipt.receive_count,
                "delayed the message for retry"
            ),
            Err(error) => tracing::warn!(
                %error,
                "failed to delay the message; it will be redelivered when its visibility timeout ends"
            ),
        }
    }

    fn situation(&self, record: &SqsRecord) -> Situation {
        let history = record.work.as_ref().map(|work| work.history);
        self.situation_of(&history.unwrap_or_default(), &record.receipt)
    }

    fn situation_of(&self, history: &History, receipt: &Receipt) -> Situation {
        let now = self.clock.now();
        let first_received = receipt.first_received.unwrap_or(now);
        let since = history.since.unwrap_or(first_received);
        Situation {
            history: *history,
            receive_count: receipt.receive_count,
            message_age: now.duration_since(first_received),
            age: now.duration_since(since),
            retry_for: self.retry_for,
            jitter: rand::random_range(LEAST_JITTER..=1.0),
        }
    }

    async fn deliver_directly(
        &self,
        jobs: &[Job],
        context: &Context,
    ) -> Result<Value, InvocationError> {
        let attempt = Attempt {
            deadline: context.deadline,
            number: 1,
        };
        let mut undelivered = Vec::new();
        for job in jobs {
            let (facts, job, report) = self.attempt(job.clone(), attempt).await;
            report.print(&context.function);
            let left = Some((facts.left, facts.why)).filter(|(rows, _)| !rows.is_empty());
            let parts = [facts.rejected, facts.unreadable, left];
            for (rows, why) in parts.into_iter().flatten() {
                let rows = shown(&rows, SHOWN_RANGES);
                undelivered.push(format!("{}, rows {rows}: {why}", job.object));
            }
            if report.lost {
                undelivered.extend(report.undelivered);
            }
        }
        if undelivered.is_empty() {
            Ok(json!({ "objects": jobs.len() }))
        } else {
            Err(InvocationError::Undelivered(undelivered.join("; ")))
        }
    }

    /// Makes one attempt at a job. Returns its facts, the job with the version that was read, and
    /// the report.
    async fn attempt(&self, mut job: Job, attempt: Attempt) -> (Facts, Job, Report) {
        let mut report = Report::begin(job.object.clone());
        let opened = attempt.deadline.bound(self.open(&job, attempt)).await;
        let opened = opened.unwrap_or(Err(OpenError::Stop(StopReason::Deadline)));
        report.token_requests = self.bridge.tokens().take_requests();
        let (opened, rules) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Deleted) => {
                let facts = Facts {
                    has_progress: true, // there is nothing left to do
                    ..Facts::default()
                };
                if job.has_started() {
                    report.lost = true;
                    report.undelivered = Some(format!(
                        "data loss: {} was deleted before its rows {} were delivered",
                        job.object,
                        shown(&job.rows, SHOWN_RANGES)
                    ));
                } else {
                    tracing::warn!(object = %job.object, "object was deleted before it was read; keep logs for longer (log_expiration_days)");
                }
                return (facts, job, report);
            }
            Err(OpenError::Stop(reason)) => {
                let facts = Facts::nothing(&job.rows, &reason);
                report.undelivered = facts.undelivered();
                return (facts, job, report);
            }
        };
        if !job.rows.is_all() && opened.replaced {
            tracing::warn!(object = %opened.object, "object was replaced after part of it was delivered; starting over");
            job.rows = Rows::all();
        }
        job.object = opened.object.clone();
        let _share = match attempt.deadline.bound(self.space_for(&opened)).await {
            Some(Ok(share)) => share,
            Some(Err(refused)) => {
                let facts = Facts::unreadable(&job.rows, &refused);
                report.undelivered = facts.undelivered();
                return (facts, job, report);
            }
            None => {
                let facts = Facts::nothing(&job.rows, &StopReason::Deadline);
                report.undelivered = facts.undelivered();
                return (facts, job, report);
            }
        };
        let place = place_for(&opened);
        let (bytes, read) = counted(opened.bytes);
        let note_lag = |_: &Summary, batch: &Batch, settled: Settled| {
            if settled != Settled::Accepted {
                return;
            }
            let lag = batch
                .oldest_end
                .map(|ended| self.clock.now().as_millisecond().saturating_sub(ended));
            report
                .delivery_lags
                .extend(lag.and_then(|lag| u64::try_from(lag).ok()));
        };
        let watch = Watch {
            rows: (),
            settled: note_lag,
            stop: future::pending(),
        };
        let outcome =
            ingest_watched(&job, bytes, place, &rules, &self.bridge, attempt, watch).await;
        report.bytes_in = read.load(Ordering::Relaxed);
        report.meter = outcome.meter.clone();
        report.token_requests += self.bridge.tokens().take_requests();
        report.summary = outcome.summary.clone();
        let facts = Facts::of(outcome);
        report.undelivered = facts.undelivered();
        (facts, job, report)
    }

    /// Waits for the memory that the largest of these objects takes. They are read one after the
    /// other.
    async fn memory_for(&self, jobs: &[Job]) -> Option<SemaphorePermit<'_>> {
        let kibibytes = |job: &Job| {
            let size = job
                .object
                .size
                .map(|bytes| u32::try_from(bytes.div_ceil(1024)));
            let size = size.and_then(Result::ok).unwrap_or(MOST_OF_OBJECT);
            size.min(MOST_OF_OBJECT)
        };
        let most = jobs.iter().map(kibibytes).max().unwrap_or_default();
        // An error would mean that the semaphore is closed, which it never is.
        self.memory.acquire_many(most).await.ok()
    }

    /// Waits for the space that the object takes until it is delivered, if it is a Parquet file.
    async fn space_for(&self, opened: &Opened) -> Result<Option<Share<'_>>, TooLarge> {
        match opened.size.filter(|_| opened.is_parquet) {
            Some(size) => self.space.take(size).await,
            None => Ok(None),
        }
    }

    /// Opens the object, and gets the token at the same time.
    async fn open(&self, job: &Job, attempt: Attempt) -> Result<(Opened, Arc<Rules>), OpenError> {
        // The SDK's future is large; on the heap it does not enlarge those around it.
        let opening = Box::pin(self.s3.open(&job.object));
        let (opened, token) = future::join(opening, self.bridge.warm_up(attempt.deadline)).await;
        let opened = opened.map_err(|error| match error {
            SourceError::NotFound { .. } => OpenError::Deleted,
            error => OpenError::Stop(StopReason::Source(error.to_string())),
        })?;
        token.map_err(|trouble| OpenError::Stop(StopReason::Bridge(trouble)))?;
        let key = self.bridge.tokens().redaction_key();
        let rules = self.rules.keyed(key).map_err(|error| {
            OpenError::Stop(StopReason::Bridge(Trouble {
                scope: Scope::Bridge,
                why: error.to_string(),
                after: None,
                lasts: true,
            }))
        })?;
        Ok((opened, rules))
    }
}

/// Returns where to read an object. Reading a Parquet file blocks, because it is copied first.
fn place_for(opened: &Opened) -> Place {
    let is_small = opened.size.is_some_and(|size| size <= SMALL);
    if opened.is_in_memory && is_small && !opened.is_parquet {
        Place::Here
    } else {
        Place::Thread
    }
}

/// Why the attempt at a job ends before its object is read.
enum OpenError {
    Deleted,
    Stop(StopReason),
}

/// Why a message of a plan was not sent.
#[derive(Debug, Error)]
enum SendError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("cannot write the message as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("no time is left to send the message")]
    Late,
}

/// Returns row ranges as text, such as `[13,15) [20,end)`, at most `most` of them.
fn shown(rows: &Rows, most: usize) -> String {
    let ranges = rows.ranges();
    let mut text: Vec<_> = ranges
        .iter()
        .take(most)
        .map(|range| match range.end {
            OPEN => format!("[{},end)", range.start),
            end => format!("[{},{end})", range.start),
        })
        .collect();
    if ranges.len() > most && most > 1 {
        text.push(format!("and {} more ranges", ranges.len() - most));
    }
    text.join(" ")
}

/// Fails every message of an SQS event, so that SQS redelivers it, and counts them in a metric. It
/// replaces [`Function::handle`] if the configuration is invalid.
///
/// # Errors
/// [`InvocationError`] for any other event.
pub fn fail_all(event: Value, why: &str, function: &str) -> Result<Value, InvocationError> {
    let event = Event::parse(event)?;
    let messages = match &event {
        Event::Sqs(records) => records.len(),
        Event::Direct(_) => 1,
    };
    telemetry::metrics(
        tracing::Level::ERROR,
        "invalid configuration; nothing will be delivered",
        &[
            ("function", telemetry::MetricValue::Text(function)),
            (
                "unconfigured",
                telemetry::MetricValue::Number(messages as u64),
            ),
            ("problems", telemetry::MetricValue::Text(why)),
        ],
    );
    match event {
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

/// Returns a reader of the same bytes, and the number of bytes read so far.
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

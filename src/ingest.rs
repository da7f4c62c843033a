//! *Ingest*: one attempt at the rows of a job, from an object's bytes to the bridge. One thread
//! reads, or none for a small object, and batches are in flight side by side. The result says which
//! rows are settled, which are left, and why.

use std::error::Error;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{SemaphorePermit, mpsc};
use tokio::task::{JoinHandle, spawn_blocking, yield_now};

use crate::batch::Batch;
use crate::bridge::{Attempt, Bridge, Delivered, Fate, GRACE, Kept, Meter, Trouble};
use crate::job::Job;
use crate::log::{Fault, LogError};
use crate::pipeline::{Batches, Observer, Rules, Summary};
use crate::response::{MAX_BEHIND, Scope, most_behind};
use crate::rows::Rows;
use crate::source::SourceError;

/// Bytes of refused batches that wait for a witness until the rest of the log is delivered.
const MAX_REFUSED: usize = 4 << 20;

/// The result of one attempt at a job.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Counts of the settled rows: sent, dropped, malformed or rejected.
    pub summary: Summary,
    /// Rows that a later attempt can deliver.
    pub left: Rows,
    /// Why rows are left, each reason once.
    pub reasons: Vec<StopReason>,
    /// Rows that no attempt can deliver, because the object itself is at fault.
    pub unreadable: Option<(Rows, LogError)>,
    /// Rows that the log has, if it was read to its end.
    pub rows: Option<u64>,
    /// Whether the object was skipped on purpose ([`Batches::is_skipped`]).
    pub is_skipped: bool,
    pub(crate) meter: Meter,
}

impl Outcome {
    /// Returns the outcome of an attempt that has left rows.
    pub fn of_left(left: Rows, reasons: Vec<StopReason>) -> Self {
        Self {
            left,
            reasons,
            ..Self::default()
        }
    }

    /// Whether every row is settled.
    pub fn is_complete(&self) -> bool {
        self.left.is_empty() && self.unreadable.is_none()
    }

    /// Returns how many requests were sent again, beyond the first for a body.
    pub fn retries(&self) -> u64 {
        self.meter.retries
    }

    /// Whether the attempt ended because it was told to.
    pub fn is_interrupted(&self) -> bool {
        let mut reasons = self.reasons.iter();
        reasons.any(|reason| matches!(reason, StopReason::Interrupted))
    }

    /// Returns why rows are left or unreadable, as text.
    pub fn why(&self) -> Option<String> {
        let reasons = self.reasons.iter().map(ToString::to_string);
        let defect = self.unreadable.as_ref().map(|(_, error)| error.to_string());
        reasons
            .chain(defect)
            .reduce(|all, why| format!("{all}; {why}"))
    }
}

/// Why rows are left.
#[derive(Debug, thiserror::Error)]
pub enum StopReason {
    /// The bridge or the token endpoint failed.
    #[error("{}", .0.why)]
    Bridge(Trouble),
    /// The object could not be opened or read to its end, and may be later.
    #[error("{0}")]
    Source(String),
    #[error("the invocation ran out of time")]
    Deadline,
    /// The attempt was told to end.
    #[error("interrupted")]
    Interrupted,
    #[error("reading the log panicked (a bug in edgetap)")]
    Reader,
    #[error("the row counts do not add up (a bug in edgetap)")]
    Unbalanced,
}

/// Whether reading from S3 failed, or the temporary directory did, as opposed to the bytes being
/// invalid.
fn is_broken_read(error: &LogError) -> bool {
    match error {
        LogError::Cut(error) => error
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<SourceError>),
        LogError::Spool(_) | LogError::Parquet(Fault::Io(_)) => true,
        _ => false,
    }
}

/// Delivers the rows of `job` from the object's `bytes`.
pub async fn ingest(
    job: &Job,
    bytes: impl Read + Send + 'static,
    rules: &Arc<Rules>,
    bridge: &Bridge,
    attempt: Attempt,
) -> Outcome {
    let watch = Watch {
        rows: (),
        settled: |_: &Summary, _: &Batch, _| (),
        stop: future::pending(),
    };
    ingest_watched(job, bytes, Place::Thread, rules, bridge, attempt, watch).await
}

/// Where a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a thread of its own, so that reading may block.
    Thread,
    /// On the thread of the caller, which does nothing else while a batch is made.
    Here,
}

/// What follows an attempt.
pub struct Watch<O, F, S> {
    /// Sees the rows as they are read.
    pub rows: O,
    /// Called with each batch or part of one that is settled, and the counts so far.
    pub settled: F,
    /// Ends the attempt: no batch is begun once it is ready, and what is in flight has five seconds.
    pub stop: S,
}

/// How rows were settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Accepted,
    /// The bridge rejected the transactions. The status is `None` if it did not respond.
    Rejected(Option<u16>),
}

/// Does what [`ingest`] does, under the eyes of `watch`.
pub async fn ingest_watched(
    job: &Job,
    bytes: impl Read + Send + 'static,
    place: Place,
    rules: &Arc<Rules>,
    bridge: &Bridge,
    attempt: Attempt,
    watch: Watch<
        impl Observer + Send + 'static,
        impl FnMut(&Summary, &Batch, Settled),
        impl Future<Output = ()>,
    >,
) -> Outcome {
    let delivery = bridge.delivery(&job.object, rules.making(), attempt);
    let Watch {
        rows,
        settled,
        stop,
    } = watch;
    let stop = stop.shared();
    let ledger = Mutex::new(Ledger {
        watch: settled,
        settled: Rows::default(),
        outcome: Outcome::default(),
        behind: 0,
        fruitless: 0,
        refused: Vec::new(),
        is_stopped: false,
        is_read: false,
    });
    let locked = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let settle = |part: &Batch, fate: Fate| locked().settle(part, fate);
    let (deliver, settle) = (&delivery, &settle);

    let mut reader = Reader::new(job, bytes, rules.clone(), rows, place);
    let feed = stream::unfold(&mut reader, async |reader| {
        let next = async {
            let next = reader.next(bridge).await;
            locked().is_read = next.is_none();
            next
        };
        let next = tokio::select! {
            biased;
            () = stop.clone() => None,
            next = attempt.deadline.bound(next) => next,
        }??;
        (!locked().is_stopped).then_some((next, reader))
    });
    let deliveries = feed
        .map(|(batch, permit)| async move {
            if batch.marks.is_empty() {
                settle(&batch, Fate::Accepted); // every row was dropped: there is nothing to send
            } else {
                let may_probe = batch.marks.len() > 1 && locked().fruitless < MAX_BEHIND;
                let delivered = deliver.deliver(batch, may_probe, settle).await;
                locked().finish_batch(delivered, may_probe, most_behind(attempt.number));
            }
            drop(permit);
        })
        .buffer_unordered(bridge.concurrency())
        .collect::<()>();
    let all = async {
        deliveries.await;
        // A later batch may be the witness that a refused one lacked.
        let refused = std::mem::take(&mut locked().refused);
        for kept in refused {
            if deliver.has_witness(&kept) && !locked().is_stopped {
                let permit = bridge.permit().await;
                deliver.deliver_again(kept, settle).await;
                drop(permit);
            }
        }
    };
    let stopped = async {
        stop.clone().await;
        tokio::time::sleep(GRACE).await;
    };
    let deadline = attempt.deadline.extended(GRACE);
    let is_cut = tokio::select! {
        biased;
        done = deadline.bound(all) => done.is_none(),
        () = stopped => true,
    };
    let cut = match stop.now_or_never() {
        Some(()) => StopReason::Interrupted,
        None => StopReason::Deadline,
    };

    let Ledger {
        settled,
        mut outcome,
        is_stopped,
        is_read,
        ..
    } = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.meter = delivery.into_meter();
    if outcome.summary.distribution.is_none() {
        outcome.summary.distribution = job.object.distribution().map(str::to_owned);
    }
    outcome.left = job.rows.without(&settled);
    if is_read {
        if is_cut {
            outcome.because(cut);
        }
        outcome.conclude(reader.end().await);
    } else if is_cut || !is_stopped {
        outcome.because(cut); // the reading thread ends at its next read
    }
    outcome
}

impl Outcome {
    /// Completes the outcome of a log that was read to its end, or to where it cannot be read.
    fn conclude(&mut self, ended: Option<Ended>) {
        match ended {
            None => self.because(StopReason::Reader),
            Some(Ended {
                rows,
                error: None,
                is_skipped,
            }) => {
                self.rows = Some(rows);
                self.left = self.left.below(rows);
                self.is_skipped = is_skipped;
            }
            Some(Ended {
                rows,
                error: Some(error),
                ..
            }) => {
                if is_broken_read(&error) {
                    self.because(StopReason::Source(error.to_string()));
                    return;
                }
                // Rows of a log without a readable one were counted, but none was delivered.
                let unreadable = match error {
                    LogError::Malformed { .. } => Rows::from(0..rows),
                    _ => self.left.without(&Rows::from(0..rows)),
                };
                self.left = self.left.below(rows);
                // A defect behind the rows that were asked for does not matter.
                self.unreadable = (!unreadable.is_empty()).then_some((unreadable, error));
            }
        }
        if self.left.is_empty() {
            self.reasons.clear();
        } else if self.reasons.is_empty() {
            self.because(StopReason::Unbalanced); // a row that is in no batch
        }
    }

    /// Notes a reason once. If two differ only in the wait, the longer wait counts.
    fn because(&mut self, reason: StopReason) {
        let text = reason.to_string();
        let known = self
            .reasons
            .iter_mut()
            .find(|known| known.to_string() == text);
        match (known, reason) {
            (Some(StopReason::Bridge(known)), StopReason::Bridge(reason)) => {
                known.after = known.after.max(reason.after);
            }
            (Some(_), _) => {}
            (None, reason) => self.reasons.push(reason),
        }
    }
}

/// What is known of an object's rows during an attempt.
struct Ledger<W> {
    watch: W,
    settled: Rows,
    /// Its `left` and `unreadable` are set only at the end.
    outcome: Outcome,
    /// Batches in a row of which no part was accepted.
    behind: u32,
    /// Those of them of which probes were sent.
    fruitless: u32,
    /// Refused batches that a later witness may help.
    refused: Vec<Kept>,
    /// Whether no other batch may be begun.
    is_stopped: bool,
    /// Whether the log was read to its end, or to where it cannot be read.
    is_read: bool,
}

impl<W: FnMut(&Summary, &Batch, Settled)> Ledger<W> {
    /// Notes what came of a batch. `most` batches in a row may stay behind.
    fn finish_batch(&mut self, delivered: Delivered, was_probed: bool, most: u32) {
        let Delivered {
            is_accepted,
            has_left,
            kept,
        } = delivered;
        if is_accepted {
            (self.behind, self.fruitless) = (0, 0);
        } else if has_left {
            self.behind += 1;
            self.fruitless += u32::from(was_probed);
            self.is_stopped |= self.behind >= most;
        }
        let bytes: usize = self.refused.iter().map(Kept::bytes).sum();
        self.refused
            .extend(kept.filter(|kept| bytes + kept.bytes() <= MAX_REFUSED));
    }

    fn settle(&mut self, part: &Batch, fate: Fate) {
        if let Fate::Behind(trouble) = fate {
            let is_whole = trouble
                .as_ref()
                .is_none_or(|trouble| trouble.scope == Scope::Bridge);
            self.is_stopped |= is_whole;
            let reason = trouble.map_or(StopReason::Deadline, StopReason::Bridge);
            self.outcome.because(reason);
            return;
        }
        // A row that is counted twice or not at all must not pass for settled.
        let rows = Rows::from(part.rows.clone());
        if !self.settled.is_disjoint(&rows) || !part.counts.accounts_for(&part.rows) {
            self.outcome.because(StopReason::Unbalanced);
            return;
        }
        self.settled.extend(&rows);
        let summary = &mut self.outcome.summary;
        let settled = if let Fate::Rejected(status) = fate {
            summary.reject(part, status);
            Settled::Rejected(status)
        } else {
            summary.accept(part);
            Settled::Accepted
        };
        (self.watch)(summary, part, settled);
    }
}

/// How the reading of a log ended.
struct Ended {
    /// Rows that the log has, or has before the error.
    rows: u64,
    error: Option<LogError>,
    is_skipped: bool,
}

/// Batches that a thread is asked for at a time: the next one, and the one after it.
const MOST_ASKED: usize = 2;

/// Makes the batches of a log, each when it is asked for.
enum Reader<'b, R: Read, O> {
    /// On a thread of its own. It ends when the receiver is dropped, even in the middle of a batch.
    Thread {
        ask: mpsc::Sender<()>,
        batches: mpsc::Receiver<Batch>,
        /// The permit of the batch after the next one, if it was asked for.
        ahead: Option<SemaphorePermit<'b>>,
        ended: JoinHandle<Ended>,
    },
    /// On the thread that asks.
    Here(Box<Reading<R, O>>),
    Panicked,
}

impl<'b, R: Read + Send + 'static, O: Observer + Send + 'static> Reader<'b, R, O> {
    fn new(job: &Job, bytes: R, rules: Arc<Rules>, observer: O, place: Place) -> Self {
        match place {
            Place::Thread => Self::on_thread(job, bytes, rules, observer),
            Place::Here => Self::Here(Box::new(Reading::new(job, bytes, rules, observer))),
        }
    }

    fn on_thread(job: &Job, bytes: R, rules: Arc<Rules>, observer: O) -> Self {
        let (ask, mut asked) = mpsc::channel(MOST_ASKED);
        let (sender, batches) = mpsc::channel(1);
        let bytes = Stoppable {
            bytes,
            batches: sender.clone(),
        };
        let mut reading = Reading::new(job, bytes, rules, observer);
        let read = move || {
            while asked.blocking_recv().is_some()
                && let Some(batch) = reading.next()
                && sender.blocking_send(batch).is_ok()
            {}
            reading.end()
        };
        let (subscriber, span) = (
            tracing::dispatcher::get_default(Clone::clone),
            tracing::Span::current(),
        );
        let ended = spawn_blocking(move || {
            tracing::dispatcher::with_default(&subscriber, || span.in_scope(read))
        });
        Self::Thread {
            ask,
            batches,
            ahead: None,
            ended,
        }
    }

    /// Returns the next batch and the permit to send it, or `None` at the end of the log or where it
    /// cannot be read.
    async fn next(&mut self, bridge: &'b Bridge) -> Option<(Batch, SemaphorePermit<'b>)> {
        match self {
            Self::Thread {
                ask,
                batches,
                ahead,
                ..
            } => {
                // There is always room, so it fails only if the thread has ended.
                let ask = || _ = ask.try_send(());
                let permit = match ahead.take() {
                    Some(permit) => permit,
                    None => bridge.permit().await.inspect(|_| ask())?,
                };
                // A thread that is asked ahead makes the next batch without a pause.
                *ahead = bridge.spare_permit().inspect(|_| ask());
                let batch = batches.recv().await;
                if batch.is_none() {
                    *ahead = None; // it must not wait for what is in flight
                }
                Some((batch?, permit))
            }
            Self::Here(reading) => {
                let permit = bridge.permit().await?;
                yield_now().await; // between two batches, others have their turn
                let next = catch_unwind(AssertUnwindSafe(|| reading.next()));
                let next = next.unwrap_or_else(|_| {
                    *self = Self::Panicked;
                    None
                });
                Some((next?, permit))
            }
            Self::Panicked => None,
        }
    }

    /// Returns how the reading ended, once [`next`](Self::next) has returned `None`. Returns `None`
    /// if it panicked.
    async fn end(self) -> Option<Ended> {
        match self {
            Self::Thread { ended, .. } => ended.await.ok(),
            Self::Here(reading) => Some(reading.end()),
            Self::Panicked => None,
        }
    }
}

/// The batches of a log, until it ends.
struct Reading<R: Read, O> {
    batches: Batches<R, O>,
    error: Option<LogError>,
}

impl<R: Read, O: Observer> Reading<R, O> {
    fn new(job: &Job, bytes: R, rules: Arc<Rules>, observer: O) -> Self {
        Self {
            batches: Batches::observed(job, bytes, rules, observer),
            error: None,
        }
    }

    fn next(&mut self) -> Option<Batch> {
        let batch = next_whole(&mut self.batches)?;
        batch.map_err(|error| self.error = Some(error)).ok()
    }

    fn end(self) -> Ended {
        Ended {
            rows: self.batches.rows_read(),
            error: self.error,
            is_skipped: self.batches.is_skipped(),
        }
    }
}

/// Returns the next batch. The rows just before a broken read do not become a batch: after a retry,
/// batches would start at other rows and have other idempotency keys.
fn next_whole<R: Read, O: Observer>(
    batches: &mut Batches<R, O>,
) -> Option<Result<Batch, LogError>> {
    let next = batches.next();
    let is_broken = batches.pending_error().is_some_and(is_broken_read);
    if is_broken { batches.next() } else { next }
}

/// A reader that fails once the receiver of the batches is dropped.
struct Stoppable<R> {
    bytes: R,
    batches: mpsc::Sender<Batch>,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.batches.is_closed() {
            return Err(io::Error::other("the receiver of the batches was dropped"));
        }
        self.bytes.read(buf)
    }
}

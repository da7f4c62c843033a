//! *Ingest*: one object, from its bytes to the bridge. One thread reads, and up to N requests are
//! in flight. The first row that was not accepted is known at any moment: a later invocation
//! continues there.

use std::error::Error;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::batch::Batch;
use crate::bridge::{Session, Verdict};
use crate::job::{Job, ObjectRef};
use crate::log::LogError;
use crate::pipeline::{Batches, Rules, Summary};
use crate::source::SourceError;

/// The result of ingesting an object. The summary counts settled batches only.
#[derive(Debug)]
pub enum Outcome {
    /// Every row is settled: sent, dropped, malformed or rejected.
    Complete(Summary),
    /// The rows from `from_row` on are not settled.
    Partial {
        /// The first row of the first batch that was not accepted.
        from_row: u64,
        why: StopReason,
        summary: Summary,
    },
}

impl Outcome {
    /// Returns the counts of the settled rows.
    pub fn summary(&self) -> &Summary {
        match self {
            Self::Complete(summary) | Self::Partial { summary, .. } => summary,
        }
    }
}

/// Why ingestion stopped before the end of an object.
#[derive(Debug, thiserror::Error)]
pub enum StopReason {
    #[error(transparent)]
    Log(#[from] LogError),
    /// A transient failure at the bridge or the token endpoint.
    #[error("{0}")]
    Later(String),
    /// A failure at the bridge or the token endpoint that lasts until an operator changes
    /// something.
    #[error("{0}")]
    Misconfigured(String),
    #[error("the invocation ran out of time")]
    Deadline,
    #[error("the thread that reads the log panicked (a bug in edgetap)")]
    Reader,
    #[error("the row counts do not add up (a bug in edgetap)")]
    Unbalanced,
}

impl StopReason {
    /// Whether the object itself is at fault, so that a retry cannot help.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Log(error) => !is_broken_read(error),
            Self::Later(_)
            | Self::Misconfigured(_)
            | Self::Deadline
            | Self::Reader
            | Self::Unbalanced => false,
        }
    }
}

/// Whether reading from S3 failed, as opposed to the bytes being invalid.
fn is_broken_read(error: &LogError) -> bool {
    matches!(error, LogError::Cut(error) if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<SourceError>))
}

/// Delivers the rows of `job` from the object's `bytes`, with at most `concurrency` requests in
/// flight.
pub async fn ingest(
    job: &Job,
    bytes: impl Read + Send + 'static,
    rules: &Arc<Rules>,
    session: &Session<'_>,
    concurrency: usize,
) -> Outcome {
    ingest_watched(job, bytes, rules, session, concurrency, |_, _| ()).await
}

/// Does what [`ingest`] does, and calls `watch` after each settled batch.
pub async fn ingest_watched(
    job: &Job,
    bytes: impl Read + Send + 'static,
    rules: &Arc<Rules>,
    session: &Session<'_>,
    concurrency: usize,
    mut watch: impl FnMut(&Summary, &Batch),
) -> Outcome {
    let mut summary = Summary::default();
    let mut batches = Batches::new(job, bytes, rules.clone());
    let (sender, mut receiver) = mpsc::channel(1);
    let (subscriber, span) = (
        tracing::dispatcher::get_default(Clone::clone),
        tracing::Span::current(),
    );
    let read = move || {
        while let Some(batch) = batches.next() {
            if batches.pending_error().is_some_and(is_broken_read) {
                // Rows before a broken read are not a batch: after a retry, batches would start at
                // other rows and have other idempotency keys.
                continue;
            }
            if sender.blocking_send(batch).is_err() {
                return; // ingestion has stopped
            }
        }
    };
    let reader = spawn_blocking(move || {
        tracing::dispatcher::with_default(&subscriber, || span.in_scope(read));
    });

    let isolated = AtomicUsize::new(0);
    let mut requests = stream::poll_fn(|context| receiver.poll_recv(context))
        .map(|batch| async {
            let batch = batch?;
            let verdict = deliver_batch(&job.object, &batch, session, &isolated).await;
            Ok::<_, LogError>((batch, verdict))
        })
        .buffered(concurrency.max(1));

    let mut from_row = job.rows.start;
    let why = loop {
        let Some(next) = session.deadline().bound(requests.next()).await else {
            break StopReason::Deadline;
        };
        let (batch, rejected) = match next {
            None => {
                drop(requests);
                // A panic also closes the channel and must not look like the end of the object.
                break match reader.await {
                    Ok(()) if !summary.counts.accounts_for(&(job.rows.start..from_row)) => {
                        from_row = job.rows.start; // the missing row may be any of them
                        StopReason::Unbalanced
                    }
                    Ok(()) => {
                        name_distribution(job, &mut summary);
                        return Outcome::Complete(summary);
                    }
                    Err(_) => StopReason::Reader,
                };
            }
            Some(Err(error)) => break StopReason::Log(error),
            Some(Ok((batch, Verdict::Accepted))) => (batch, Vec::new()),
            Some(Ok((batch, Verdict::Rejected(rejected)))) => (batch, rejected),
            Some(Ok((_, Verdict::Later { .. }))) if session.deadline().has_passed() => {
                break StopReason::Deadline;
            }
            Some(Ok((_, Verdict::Later { why, .. }))) => break StopReason::Later(why),
            Some(Ok((_, Verdict::Misconfigured(why)))) => break StopReason::Misconfigured(why),
        };
        // A row that no batch counts must not be passed: it would be lost without a trace.
        if batch.rows.start != from_row || !batch.counts.accounts_for(&batch.rows) {
            break StopReason::Unbalanced;
        }
        from_row = batch.rows.end;
        summary.settle(&batch, rejected);
        watch(&summary, &batch);
    };
    name_distribution(job, &mut summary);
    Outcome::Partial {
        from_row,
        why,
        summary,
    }
}

/// Delivers a batch. If all of its rows were dropped, it is settled without a request.
async fn deliver_batch(
    object: &ObjectRef,
    batch: &Batch,
    session: &Session<'_>,
    isolated: &AtomicUsize,
) -> Verdict {
    if batch.marks.is_empty() {
        Verdict::Accepted
    } else {
        session.deliver(object, batch, isolated).await
    }
}

fn name_distribution(job: &Job, summary: &mut Summary) {
    if summary.distribution.is_none() {
        summary.distribution = job.object.distribution().map(str::to_owned);
    }
}

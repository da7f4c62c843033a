//! *Ingest*: one object, from its bytes to the bridge. One thread reads, up to N posts are in flight, and the first row that
//! was not accepted is known at any moment: the checkpoint from which a later invocation goes on.

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

/// How an object ended. The summary counts settled batches only.
#[derive(Debug)]
pub enum Outcome {
    /// Every row is accounted for.
    Complete(Summary),
    /// The rest, from this row on, is not delivered.
    Partial {
        /// The first row that was not accepted: the first row of a batch.
        from_row: u64,
        why: Why,
        summary: Summary,
    },
}

impl Outcome {
    /// What was delivered.
    pub fn summary(&self) -> &Summary {
        match self {
            Self::Complete(summary) | Self::Partial { summary, .. } => summary,
        }
    }
}

/// Why the rest of an object was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    #[error("{0}")]
    Log(#[from] LogError),
    /// The bridge or the token endpoint, for now.
    #[error("{0}")]
    Later(String),
    /// The bridge or the token endpoint, until somebody changes something.
    #[error("{0}")]
    Misconfigured(String),
    /// The invocation's time was over.
    #[error("the invocation's time was over")]
    Deadline,
    #[error("the reading thread panicked")]
    Reader,
    /// Rows that are not accounted for: a defect of edgetap's.
    #[error("not every row is accounted for")]
    Unbalanced,
}

impl Why {
    /// Whether it is the object's own fault, so that trying again cannot help.
    pub fn is_final(&self) -> bool {
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

/// Whether the bytes could not be had, rather than being wrong.
fn is_broken_read(error: &LogError) -> bool {
    matches!(error, LogError::Cut(error) if error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<SourceError>))
}

/// Delivers the rows of `job`, whose object's bytes are `bytes`, with at most `concurrency` posts in flight.
pub async fn ingest(
    job: &Job,
    bytes: impl Read + Send + 'static,
    rules: &Arc<Rules>,
    session: &Session<'_>,
    concurrency: usize,
) -> Outcome {
    ingest_watched(job, bytes, rules, session, concurrency, |_, _| ()).await
}

/// As [`ingest`], and tells `watch` what is settled each time that more of it is.
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
                continue; // a broken read ends no batch: else batches would begin elsewhere later, under other keys
            }
            if sender.blocking_send(batch).is_err() {
                return; // nobody wants the rest in this invocation
            }
        }
    };
    let reader = spawn_blocking(move || {
        tracing::dispatcher::with_default(&subscriber, || span.in_scope(read))
    });

    let isolated = AtomicUsize::new(0);
    let mut posts = stream::poll_fn(|context| receiver.poll_recv(context))
        .map(|batch| async {
            let batch = batch?;
            let verdict = settle(&job.object, &batch, session, &isolated).await;
            Ok::<_, LogError>((batch, verdict))
        })
        .buffered(concurrency.max(1));

    let mut from_row = job.rows.start;
    let why = loop {
        let Some(next) = session.deadline().bound(posts.next()).await else {
            break Why::Deadline;
        };
        let (batch, rejected) = match next {
            None => {
                drop(posts);
                // A reader that panicked must not look like one that reached the end.
                break match reader.await {
                    Ok(()) if !summary.counts.account_for(&(job.rows.start..from_row)) => {
                        from_row = job.rows.start; // the missing row may be any of them
                        Why::Unbalanced
                    }
                    Ok(()) => {
                        name_distribution(job, &mut summary);
                        return Outcome::Complete(summary);
                    }
                    Err(_) => Why::Reader,
                };
            }
            Some(Err(error)) => break Why::Log(error),
            Some(Ok((batch, Verdict::Accepted))) => (batch, Vec::new()),
            Some(Ok((batch, Verdict::Refused(rejected)))) => (batch, rejected),
            Some(Ok((_, Verdict::Later { .. }))) if session.deadline().has_passed() => {
                break Why::Deadline;
            }
            Some(Ok((_, Verdict::Later { why, .. }))) => break Why::Later(why),
            Some(Ok((_, Verdict::Misconfigured(why)))) => break Why::Misconfigured(why),
        };
        // A row that no batch counts must not be passed: it would be lost without a trace.
        if batch.rows.start != from_row || !batch.counts.account_for(&batch.rows) {
            break Why::Unbalanced;
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

/// A batch whose rows were all dropped is settled without a post.
async fn settle(
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

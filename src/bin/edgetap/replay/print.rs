//! *Printing*: several objects are read at a time, and written one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use edgetap::batch::Counts;
use edgetap::ingest::Settled;
use edgetap::job::{Job, ObjectRef};
use edgetap::log::LogError;
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::plan::flawed;
use edgetap::source::Opened;
use indicatif::ProgressBar;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::rejects::{self, Rejects};
use super::seen::Seen;
use super::total::{Meter, Replayed, Total};
use crate::Failure;
use crate::inputs::Input;
use crate::output::{self, Turn};
use crate::show;
use crate::verdict::Verdict;

/// Bytes of an object's output that may wait for its turn. One batch more is being made.
const MAX_WAITING: u32 = 4 << 20;

pub(crate) struct Printing {
    pub(crate) rules: Arc<Rules>,
    pub(crate) one_per_line: bool,
    pub(crate) meter: Meter,
    pub(crate) has_rejects: bool,
}

/// An object that is being read.
struct Reading {
    turn: Arc<Turn>,
    pieces: UnboundedReceiver<Piece>,
    /// `None` if it cannot be opened. The error names it.
    ended: JoinHandle<Result<Read, String>>,
}

/// The output of a batch.
struct Piece {
    body: Bytes,
    /// Lines of `--reject`.
    rejects: String,
    rows: u64,
    /// Its share of [`MAX_WAITING`].
    _waiting: Option<OwnedSemaphorePermit>,
}

/// What was read of an object.
struct Read {
    object: ObjectRef,
    summary: Summary,
    error: Option<LogError>,
    is_skipped: bool,
    /// After an error, the row that could not be read; else the number of rows.
    next_row: u64,
}

impl Printing {
    /// Prints the objects in their order, `jobs` at a time.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) async fn run(
        &self,
        inputs: Vec<Input>,
        jobs: usize,
        rejects: Option<&Rejects>,
        total: &mut Total,
    ) -> Result<(), Failure> {
        let mut inputs = inputs.into_iter();
        let mut readings = VecDeque::new();
        loop {
            while readings.len() < jobs.max(1)
                && let Some(input) = inputs.next()
            {
                readings.push_back(self.start(input));
            }
            let Some(mut reading) = readings.pop_front() else {
                return Ok(());
            };
            reading.turn.begin();
            while let Some(piece) = reading.pieces.recv().await {
                output::write_body(&piece.body, self.one_per_line)?;
                if let Some(rejects) = rejects {
                    rejects.write(&piece.rejects);
                }
                self.meter.add(piece.rows);
            }
            total.add(match reading.ended.await? {
                Ok(read) => read.replayed(rejects),
                Err(problem) => Replayed {
                    problem: Some(problem),
                    ..Replayed::default()
                },
            });
        }
    }

    fn start(&self, input: Input) -> Reading {
        let turn = Arc::new(Turn::default());
        let (sender, pieces) = mpsc::unbounded_channel(); // bounded by `MAX_WAITING`
        let reader = Reader {
            rules: self.rules.clone(),
            sender,
            bar: self.meter.bar.clone(),
            has_rejects: self.has_rejects,
        };
        let lines = turn.clone();
        let read = async move {
            let opened = input.open().await.map_err(|error| error.to_string())?;
            let object = opened.object.clone();
            let reading = tokio::task::spawn_blocking(move || lines.hold(|| reader.read(opened)));
            let read = reading.await;
            read.map_err(|panicked| format!("{object}: {panicked}"))
        };
        Reading {
            turn,
            pieces,
            ended: tokio::spawn(read),
        }
    }
}

/// Reads an object on a thread of its own.
struct Reader {
    rules: Arc<Rules>,
    sender: UnboundedSender<Piece>,
    bar: ProgressBar,
    has_rejects: bool,
}

impl Reader {
    fn read(self, Opened { object, bytes, .. }: Opened) -> Read {
        let seen = self
            .has_rejects
            .then(|| Seen::new(Some(object.to_string())));
        let (waiting, runtime) = (
            Arc::new(Semaphore::new(MAX_WAITING as usize)),
            Handle::current(),
        );
        let job = Job::all(object);
        let bytes = self.bar.wrap_read(bytes);
        let mut batches = Batches::observed(&job, bytes, self.rules, seen.clone());
        let mut read = Read {
            object: job.object.clone(),
            summary: Summary::default(),
            error: None,
            is_skipped: false,
            next_row: 0,
        };
        for batch in &mut batches {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    read.error = Some(error);
                    break;
                }
            };
            read.summary.accept(&batch);
            let rejects = seen
                .as_ref()
                .map(|seen| seen.settle(&batch.rows, Settled::Accepted))
                .unwrap_or_default();
            let size = u32::try_from(batch.body.len() + rejects.len());
            let size = size.unwrap_or(MAX_WAITING).min(MAX_WAITING);
            // An error would mean that the semaphore is closed, which it never is.
            let share = runtime.block_on(waiting.clone().acquire_many_owned(size));
            let piece = Piece {
                body: batch.body,
                rejects,
                rows: batch.counts.rows,
                _waiting: share.ok(),
            };
            if self.sender.send(piece).is_err() {
                break; // the output cannot be written
            }
        }
        read.next_row = batches.rows_read();
        read.is_skipped = batches.is_skipped();
        read
    }
}

impl Read {
    fn replayed(self, rejects: Option<&Rejects>) -> Replayed {
        let Self {
            object,
            summary,
            error,
            is_skipped,
            next_row,
        } = self;
        if let (Some(rejects), Some(error)) = (rejects, &error) {
            rejects.write(&unreadable(&object, next_row, error));
        }
        let problems = [flawed(&summary.flaws), error.map(|error| error.to_string())];
        Replayed {
            read: Counts { ..summary.counts },
            is_opened: true,
            is_skipped,
            problem: sentence(&object, problems),
            summary,
            ..Replayed::default()
        }
    }
}

/// Returns the line of `--reject` for a log that cannot be read to its end. Of one whose rows are all
/// malformed, each row has a line.
pub(crate) fn unreadable(object: &ObjectRef, row: u64, error: &LogError) -> String {
    if matches!(error, LogError::Malformed { .. }) {
        return String::new();
    }
    let verdict = Verdict::unreadable(error);
    rejects::line(&object.to_string(), None, Some(row), &verdict)
}

/// Joins the problems of an object to one text.
pub(crate) fn sentence<const N: usize>(
    object: &ObjectRef,
    problems: [Option<String>; N],
) -> Option<String> {
    let problems: Vec<_> = problems.into_iter().flatten().collect();
    let name = show::input(object);
    (!problems.is_empty()).then(|| format!("{name}: {}", problems.join("; ")))
}

//! *Continuation*: rows of an object as a message, for a later invocation or for the dead-letter
//! queue, from which they can be redriven. Its format is versioned, and edgetap reads every version
//! that it ever wrote.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::job::{Job, ObjectRef};
use crate::rows::Rows;

/// The version of [`Continuation`] that this release writes.
pub const CONTINUATION_VERSION: u32 = 2;

/// Ranges of rows in one message. A range takes at most 43 bytes, and the rest of the message less
/// than 20,000: together less than 200,000. SQS accepts 262,144.
pub const MAX_RANGES: usize = 4_000;

/// Characters of a reason; the rest is cut off.
const MAX_REASON: usize = 1_000;

/// Some rows of an object, as a message.
///
/// Version 1 had no `attempts`, `dead_letter`, `version` and `size`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Continuation {
    /// The version of this format.
    pub edgetap: u32,
    /// The object, with the `ETag` of the version that was read.
    pub object: ObjectRef,
    pub rows: Rows,
    /// When the first message for the object was first received.
    pub since: Timestamp,
    /// How often the rows were requeued.
    #[serde(rename = "hops")]
    pub requeue_count: u32,
    /// Attempts before this message, without those that settled rows until the deadline.
    #[serde(default)]
    pub attempts: u32,
    /// Why these rows were not delivered, as text.
    pub reason: String,
    /// The digest of the rules in force. Under other rules batches may start at other rows.
    pub rules: String,
    /// Whether it was sent to the dead-letter queue. If it comes from the work queue all the same,
    /// it was redriven.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead_letter: bool,
}

/// What earlier attempts leave to later ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// When the first message for the object was first received; `None` if that is this message.
    pub since: Option<Timestamp>,
    /// How often the rows were requeued.
    pub requeue_count: u32,
    /// Attempts before this message, without those that settled rows until the deadline.
    pub attempts: u32,
}

/// Why a continuation cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ContinuationError {
    /// Probably written by a later release. The message waits in the queue for that release.
    #[error(
        "unsupported continuation: version {0}, but this release reads up to {CONTINUATION_VERSION}; the message will be retried"
    )]
    Version(u64),
    #[error(
        "invalid continuation: a field is missing or invalid, `rows` is empty, or a row range ends before it starts"
    )]
    Invalid,
}

impl Continuation {
    /// Reads a message.
    ///
    /// # Errors
    /// [`ContinuationError`] if it is of a later version or invalid. Its rows then do not count as
    /// delivered.
    pub fn read(message: &Value) -> Result<Self, ContinuationError> {
        let version = message["edgetap"]
            .as_u64()
            .ok_or(ContinuationError::Invalid)?;
        if version == 0 || version > CONTINUATION_VERSION.into() {
            return Err(ContinuationError::Version(version));
        }
        Self::deserialize(message).map_err(|_| ContinuationError::Invalid)
    }

    /// Returns the messages that carry these rows, of at most [`MAX_RANGES`] ranges each, as JSON.
    ///
    /// # Errors
    /// The first error of writing JSON. No message is then returned.
    pub(crate) fn messages(&self) -> Result<Vec<String>, serde_json::Error> {
        let part = |rows| Self {
            rows,
            reason: self.reason.chars().take(MAX_REASON).collect(),
            ..self.clone()
        };
        let parts = self.rows.chunks(MAX_RANGES).map(part);
        parts.map(|part| serde_json::to_string(&part)).collect()
    }

    /// Returns the job, and what its message says about earlier attempts. A redriven message starts
    /// over. So does one of version 1, which does not say whether it was redriven.
    pub(crate) fn into_job(self) -> (Job, History) {
        let starts_over = self.dead_letter || self.edgetap == 1;
        let history = History {
            since: Some(self.since),
            requeue_count: self.requeue_count,
            attempts: self.attempts,
        };
        let job = Job {
            object: self.object,
            rows: self.rows,
        };
        (
            job,
            if starts_over {
                History::default()
            } else {
                history
            },
        )
    }
}

//! *Evidence*: the observations of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::logs::Log;
use crate::support::fake_sqs::Queued;
use crate::weather::Weather;

/// Half-open row ranges. `None` as the end means the end of the object.
pub(crate) type Ranges = Vec<(u64, Option<u64>)>;

/// The observations of a run.
#[derive(Default)]
pub(crate) struct Evidence {
    pub weather: Weather,
    pub logs: Vec<Log>,
    /// The status by the ID of each transaction that the bridge refuses for its content.
    pub refused: BTreeMap<String, u16>,
    /// What idempotency keys say of rules and encoding.
    pub making: String,
    /// The maximum number of requests in flight in one environment.
    pub concurrency: usize,
    pub invocations: Vec<Invocation>,
    /// The number of invocations before the final redrive.
    pub before_redrive: usize,
    /// The dead letters before the final redrive.
    pub dead_letters: Vec<Letter>,
    /// The dead letters at the end.
    pub dead_letters_left: Vec<Letter>,
    /// Log lines, responses and dead letters.
    pub output: Vec<String>,
    /// Texts that must not be in the output.
    pub secrets: BTreeSet<String>,
    /// Violations found during the run.
    pub violations: Vec<String>,
}

/// One invocation, or two concurrent ones.
#[derive(Default)]
pub(crate) struct Invocation {
    /// When it began, by the queues' clock.
    pub time: Timestamp,
    /// The objects in its messages. A message that both of two invocations received is here twice.
    pub messages: Vec<Message>,
    /// The current version of each log.
    pub current: Vec<usize>,
    /// The number of concurrent invocations.
    pub environments: usize,
    pub was_killed: bool,
    /// Whether a deadline passed before the response.
    pub is_late: bool,
    /// Failed requests that would have sent a message.
    pub failed_sends: usize,
    /// Failed requests to SQS.
    pub queue_failures: usize,
    /// The transactions of each accepted request whose response the bridge did not send.
    pub lost: Vec<BTreeSet<String>>,
    /// Disturbed connections to the bridge. A response may have been lost at each.
    pub disturbances: usize,
    /// The longest wait that the bridge asked for, and the requests that it asked to wait.
    pub asked: (Duration, usize),
    pub accepted: Vec<Accepted>,
    /// The messages that it sent to any queue.
    pub sent: Vec<Letter>,
    /// Its log lines, if they can be attributed.
    pub lines: Option<Vec<Value>>,
}

/// One object in a message of an invocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub id: String,
    /// The queue's ARN.
    pub queue: String,
    pub key: String,
    pub etag: Option<String>,
    pub rows: Ranges,
    /// How many objects the message names.
    pub objects: usize,
    /// Whether the message was deleted afterwards.
    pub done: bool,
}

/// A batch that the bridge accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub key: String,
    pub body: Vec<u8>,
    pub ids: Vec<String>,
}

/// A message that the function sent: remaining rows of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Letter {
    /// The queue's ARN.
    pub queue: String,
    pub key: String,
    pub etag: Option<String>,
    pub rows: Ranges,
    pub hops: u64,
    pub reason: String,
    /// How long it was hidden at first.
    pub delay: SignedDuration,
}

impl Letter {
    /// Reads a message. Returns `None` if it is S3's notification.
    pub(crate) fn read(message: &Queued) -> Option<Self> {
        let body: Value = serde_json::from_str(&message.body).ok()?;
        body["edgetap"].as_u64()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            queue: message.queue.to_owned(),
            key: text(&body["object"]["key"])?,
            etag: text(&body["object"]["etag"]),
            rows: serde_json::from_value(body["rows"].clone()).ok()?,
            hops: body["hops"].as_u64()?,
            reason: text(&body["reason"])?,
            delay: message.visible_from.duration_since(message.sent),
        })
    }

    /// Whether it is in a dead-letter queue.
    pub(crate) fn is_dead(&self) -> bool {
        self.queue.ends_with("-dead-letters")
    }

    /// Whether it holds transactions that the bridge rejected.
    pub(crate) fn is_rejection(&self) -> bool {
        self.is_dead() && self.reason.starts_with("the bridge rejected")
    }
}

pub(crate) fn covers(rows: &Ranges, row: u64) -> bool {
    rows.iter()
        .any(|(start, end)| (*start..end.unwrap_or(u64::MAX)).contains(&row))
}

/// Counts the rows up to `end`.
pub(crate) fn rows_before(rows: &Ranges, end: u64) -> impl Iterator<Item = Range<u64>> + '_ {
    rows.iter()
        .map(move |(start, last)| *start..last.unwrap_or(end).min(end))
        .filter(|range| !range.is_empty())
}

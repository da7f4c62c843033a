//! *Report*: what became of an object in one invocation, as one log line that is also its metrics (CloudWatch embedded metric
//! format). It is printed at every `LOG_LEVEL`. The names and units of the metrics stand in `terraform/metrics.json`, which
//! dashboard and alarms are made of too.

use std::time::{Duration, Instant};

use crate::batch::Counts;
use crate::bridge::Meter;
use crate::job::ObjectRef;
use crate::pipeline::Summary;

/// CloudWatch takes at most so many values of one metric in one line.
const MAX_VALUES: usize = 100;
/// More malformed rows than one in so many are a warning.
const MALFORMED_IN: u64 = 100;

/// What became of an object in one invocation.
#[derive(Debug)]
pub struct Report {
    pub object: ObjectRef,
    /// What was delivered of it.
    pub summary: Summary,
    /// Why not all of it was.
    pub undelivered: Option<String>,
    pub bytes_in: u64,
    pub meter: Meter,
    /// Requests to the token endpoint.
    pub token_requests: u64,
    /// From the end of a batch's first request to its acceptance, in milliseconds, a value each batch.
    pub delivery_lags: Vec<u64>,
    /// Rests that have a message of their own.
    pub requeues: u64,
    pub messages_delayed: u64,
    pub dead_letters: u64,
    /// Whether the object was gone before all of it was delivered.
    pub lost: bool,
    /// How old work was that was handed over or postponed.
    pub retry_age: Option<Duration>,
    started: Instant,
}

impl Report {
    /// A report of an object that is begun now.
    pub fn begin(object: ObjectRef) -> Self {
        Self {
            object,
            summary: Summary::default(),
            undelivered: None,
            bytes_in: 0,
            meter: Meter::default(),
            token_requests: 0,
            delivery_lags: Vec::new(),
            requeues: 0,
            messages_delayed: 0,
            dead_letters: 0,
            lost: false,
            retry_age: None,
            started: Instant::now(),
        }
    }

    /// Prints the line: INFO when all was delivered, else ERROR; and more lines for what is more than a line may hold.
    pub fn print(&self, function: &str) {
        let counts = &self.summary.counts;
        let distribution = self
            .summary
            .distribution
            .as_deref()
            .or(self.object.distribution())
            .unwrap_or("unknown");
        let elapsed_ms = milliseconds(self.started.elapsed());
        let absent = Some(self.summary.absent.join(", ")).filter(|absent| !absent.is_empty());
        let (latencies, more_latencies) = split(&self.meter.latencies);
        let (lags, more_lags) = split(&self.delivery_lags);
        macro_rules! line {
            ($level:ident, $($message:tt)*) => {
                tracing::$level!(
                    target: "edgetap::metrics", function, object = %self.object, distribution,
                    rows = counts.rows, sent = counts.sent, static = counts.static_assets, excluded = counts.excluded, malformed = counts.malformed, rejected = counts.rejected, unreadable = counts.unreadable,
                    batches = self.summary.batches, bytes = self.summary.bytes, elapsed_ms, bytes_in = self.bytes_in, bytes_out = self.summary.bytes, retries = self.meter.retries,
                    requeues = self.requeues, messages_delayed = self.messages_delayed, dead_letters = self.dead_letters,
                    retry_age = self.retry_age.map(|age| age.as_secs()), token_requests = self.token_requests,
                    bridge_latency = ?latencies, delivery_lag = ?lags, duration = elapsed_ms, lost = u64::from(self.lost), absent,
                    $($message)*
                )
            };
        }
        match &self.undelivered {
            None if counts.rows > 0 && counts.sent == 0 => {
                line!(
                    warn,
                    "sent no transactions for distribution {distribution}: {}",
                    all_of_them(counts)
                );
            }
            None if counts.malformed > counts.rows / MALFORMED_IN => {
                line!(
                    warn,
                    "successfully sent {} transactions for distribution {distribution}, but {} of {} rows are malformed",
                    counts.sent,
                    counts.malformed,
                    counts.rows
                );
            }
            None => line!(
                info,
                "successfully sent {} transactions for distribution {distribution}",
                counts.sent
            ),
            Some(why) => line!(
                error,
                "sent {} transactions for distribution {distribution}, but not all: {why}",
                counts.sent
            ),
        }
        let more = more_latencies
            .chunks(MAX_VALUES)
            .map(|values| (values, &[][..]))
            .chain(more_lags.chunks(MAX_VALUES).map(|values| (&[][..], values)));
        for (latencies, lags) in more {
            tracing::info!(target: "edgetap::metrics", function, object = %self.object, distribution, bridge_latency = ?latencies, delivery_lag = ?lags, "more values of the line before");
        }
    }
}

/// What the rows of an object were of which none was sent.
fn all_of_them(counts: &Counts) -> &'static str {
    match counts.rows {
        rows if rows == counts.malformed => "every row is malformed",
        rows if rows == counts.static_assets => "every request is for a static asset",
        rows if rows == counts.excluded => "every request is for an excluded path",
        rows if rows == counts.rejected => "the bridge refuses every one",
        _ => "its rows are static, excluded, malformed or rejected",
    }
}

fn split(values: &[u64]) -> (&[u64], &[u64]) {
    values.split_at(values.len().min(MAX_VALUES))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

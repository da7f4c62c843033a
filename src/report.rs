//! *Report*: the result of one object in one invocation, as one log line that also carries its
//! metrics. It is logged at every `LOG_LEVEL`. `terraform/modules/edgetap/metrics.json` holds the names and units
//! of the metrics.

use std::time::{Duration, Instant};

use tracing::Level;

use crate::batch::Counts;
use crate::bridge::Meter;
use crate::job::ObjectRef;
use crate::pipeline::Summary;
use crate::telemetry::MetricValue::{List, Number, Text};
use crate::telemetry::metrics;

/// CloudWatch accepts at most 100 values of one metric per line.
const MAX_VALUES: usize = 100;
/// An object with more than one malformed row in 100 is reported as a warning.
const MALFORMED_IN: u64 = 100;

/// The result of one object in one invocation.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) object: ObjectRef,
    /// Counts of the rows that are settled.
    pub(crate) summary: Summary,
    /// The reason if some rows were not delivered.
    pub(crate) undelivered: Option<String>,
    /// Bytes read from S3.
    pub(crate) bytes_in: u64,
    pub(crate) meter: Meter,
    /// Requests to the token endpoint.
    pub(crate) token_requests: u64,
    /// Milliseconds from the end of a batch's first request at CloudFront to the acceptance of the
    /// batch, one value per batch.
    pub(crate) delivery_lags: Vec<u64>,
    /// Messages with remaining rows that were sent to the work queue.
    pub(crate) requeues: u64,
    /// Messages that were delayed: 0 or 1, in the report of a message's first job.
    pub(crate) messages_delayed: u64,
    /// Messages sent to the dead-letter queue.
    pub(crate) dead_letters: u64,
    /// Whether the object was deleted after its delivery had begun and before all of its rows were
    /// delivered.
    pub(crate) lost: bool,
    /// Age of the job when its remaining rows were requeued, delayed or dead-lettered.
    pub(crate) retry_age: Option<Duration>,
    started: Instant,
}

impl Report {
    /// Starts the report of an object. The metric `duration` counts from here.
    pub(crate) fn begin(object: ObjectRef) -> Self {
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

    /// Logs the line, and further lines for the metric values that exceed [`MAX_VALUES`].
    pub(crate) fn print(&self, function: &str) {
        let object = self.object.to_string();
        let distribution = self
            .summary
            .distribution
            .as_deref()
            .or(self.object.distribution())
            .unwrap_or("unknown");
        let (level, message) = self.headline(distribution);
        let (latencies, more_latencies) = split(&self.meter.latencies);
        let (lags, more_lags) = split(&self.delivery_lags);
        let elapsed_ms = milliseconds(self.started.elapsed());
        let absent = self.summary.absent.join(", ");
        let Counts {
            rows,
            sent,
            static_assets,
            excluded,
            malformed,
            rejected,
            foreign,
            unreadable,
        } = self.summary.counts;
        let source = [
            ("function", Text(function)),
            ("object", Text(&object)),
            ("distribution", Text(distribution)),
        ];
        let mut line = source.to_vec();
        line.extend([
            ("rows", Number(rows)),
            ("sent", Number(sent)),
            ("static", Number(static_assets)),
            ("excluded", Number(excluded)),
            ("malformed", Number(malformed)),
            ("rejected", Number(rejected)),
            ("foreign", Number(foreign)),
            ("unreadable", Number(unreadable)),
            ("batches", Number(self.summary.batches)),
            ("bytes", Number(self.summary.bytes)),
            ("elapsed_ms", Number(elapsed_ms)),
            ("bytes_in", Number(self.bytes_in)),
            ("bytes_out", Number(self.summary.bytes)),
            ("retries", Number(self.meter.retries)),
            ("requeues", Number(self.requeues)),
            ("messages_delayed", Number(self.messages_delayed)),
            ("dead_letters", Number(self.dead_letters)),
            ("token_requests", Number(self.token_requests)),
            ("bridge_latency", List(latencies)),
            ("delivery_lag", List(lags)),
            ("duration", Number(elapsed_ms)),
            ("lost", Number(self.lost.into())),
        ]);
        if let Some(age) = self.retry_age {
            line.push(("retry_age", Number(age.as_secs())));
        }
        if !absent.is_empty() {
            line.push(("absent", Text(&absent)));
        }
        metrics(level, &message, &line);
        let more = [
            ("bridge_latency", more_latencies),
            ("delivery_lag", more_lags),
        ];
        for (name, values) in more {
            for values in values.chunks(MAX_VALUES) {
                let line = [&source[..], &[(name, List(values))]].concat();
                metrics(Level::INFO, "additional metric values", &line);
            }
        }
    }

    /// Returns the level and the message of the line.
    fn headline(&self, distribution: &str) -> (Level, String) {
        let counts = &self.summary.counts;
        let Counts {
            rows,
            sent,
            malformed,
            foreign,
            ..
        } = counts;
        match &self.undelivered {
            Some(why) => (
                Level::ERROR,
                format!(
                    "sent {sent} transactions for distribution {distribution}, but not all rows were delivered: {why}"
                ),
            ),
            None if rows > foreign && *sent == 0 => (
                Level::WARN,
                format!(
                    "sent no transactions for distribution {distribution}: {}",
                    why_none_sent(counts)
                ),
            ),
            None if *malformed > rows / MALFORMED_IN => (
                Level::WARN,
                format!(
                    "successfully sent {sent} transactions for distribution {distribution}, but {malformed} of {rows} rows are malformed"
                ),
            ),
            // The wording is that of Cequence's own CloudFront integration, whose users search for
            // it.
            None => (
                Level::INFO,
                format!("successfully sent {sent} transactions for distribution {distribution}"),
            ),
        }
    }
}

/// Explains why no row of an object was sent.
fn why_none_sent(counts: &Counts) -> &'static str {
    match counts.rows {
        rows if rows == counts.malformed => "every row is malformed",
        rows if rows == counts.static_assets => "every request is for a static asset",
        rows if rows == counts.excluded => "every request is for an excluded path",
        rows if rows == counts.rejected => "the bridge rejected every transaction",
        _ => "every row is static, excluded, malformed, foreign or rejected",
    }
}

fn split(values: &[u64]) -> (&[u64], &[u64]) {
    values.split_at(values.len().min(MAX_VALUES))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

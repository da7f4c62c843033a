//! *Estimate*: what the delivery of logs takes (time, requests, dollars), from their sizes or counts.
//!
//! This file holds all figures of the model, which is that of `docs/scaling.md`. Nothing was measured
//! on AWS.

use std::ops::AddAssign;
use std::time::Duration;

use serde::Serialize;

/// Bytes per row, a request's share of its log (docs/scaling.md, "Size of a million requests").
const GZIP_BYTES_PER_ROW: u64 = 114;
/// In the middle of what pyarrow makes of the same rows: 73 with gzip, 100 with snappy. AWS does not
/// say which it uses.
const PARQUET_BYTES_PER_ROW: u64 = 87;
/// Of 100 rows, those that are sent: the others are for static assets (as above).
const SENT_OF_100: u64 = 45;
/// Bytes of request body per transaction (as above).
const BODY_BYTES_PER_TRANSACTION: u64 = 1_170;
/// Default of `BATCH_MAX_TRANSACTIONS`. A request never spans two objects.
const TRANSACTIONS_PER_REQUEST: u64 = 250;

/// Default of Terraform's `batch_size`: the objects that an invocation takes side by side. A backfill
/// fills its invocations (docs/scaling.md, "Load").
const OBJECTS_PER_INVOCATION: u64 = 10;
/// Default of `BRIDGE_CONCURRENCY`: requests of one invocation in flight.
const IN_FLIGHT: f64 = 10.0;
/// Seconds that the bridge takes for a request (docs/scaling.md, "Capacity of one environment").
const BRIDGE_LATENCY: f64 = 0.1;
/// CPU seconds per row on a whole vCPU, with TLS (docs/scaling.md, "Size of a million requests").
const CPU_PER_ROW: f64 = 3.1e-6;
/// Seconds of an invocation until it reads its objects (docs/operations.md, "Costs").
const START: f64 = 0.3;
/// Bytes per second of one execution environment: 625 Mbit/s (docs/scaling.md).
const NETWORK: f64 = 625e6 / 8.0;
/// Default of `memory_size`, and the memory that has a whole vCPU, in MB.
const MEMORY: f64 = 512.0;
const MEMORY_OF_VCPU: f64 = 1_769.0;
/// Bytes of one GetObject, as `source.rs` reads.
const RANGE: u64 = 4 << 20;
/// SQS requests per object: send, receive, extend visibility, delete (docs/benchmarks.md, "Sizing").
const SQS_REQUESTS: f64 = 4.0;
/// Bytes of log lines per object, with Lambda's own (as above).
const LOG_BYTES: f64 = 2_000.0;

/// US dollars in us-east-1, on demand, without free tiers: those of `benches/report.py`.
mod price {
    /// <https://aws.amazon.com/lambda/pricing/>, `x86_64`
    pub(super) const GB_SECOND: f64 = 0.000_016_666_7;
    pub(super) const MILLION_INVOCATIONS: f64 = 0.20;
    /// <https://aws.amazon.com/s3/pricing/>
    pub(super) const MILLION_GETS: f64 = 0.40;
    /// <https://aws.amazon.com/sqs/pricing/>
    pub(super) const MILLION_SQS_REQUESTS: f64 = 0.40;
    /// <https://aws.amazon.com/cloudwatch/pricing/>
    pub(super) const GB_OF_LOGS: f64 = 0.50;
    /// <https://aws.amazon.com/ec2/pricing/on-demand/>, by volume
    pub(super) const GB_OUT: [f64; 2] = [0.05, 0.09];
}

/// How an object is stored, which decides how many rows its size stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Gzip,
    Parquet,
}

impl Stored {
    /// Returns what the name of an object says. Unlike a reader, an estimate does not open it.
    pub fn by_name(key: &str) -> Self {
        let (_, extension) = key.rsplit_once('.').unwrap_or_default();
        if extension.eq_ignore_ascii_case("parquet") {
            Self::Parquet
        } else {
            Self::Gzip
        }
    }

    fn bytes_per_row(self) -> u64 {
        match self {
            Self::Gzip => GZIP_BYTES_PER_ROW,
            Self::Parquet => PARQUET_BYTES_PER_ROW,
        }
    }
}

/// How much there is to deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Volume {
    pub objects: u64,
    /// Bytes as stored, which is compressed.
    pub bytes: u64,
    pub rows: u64,
    /// Rows that are sent.
    pub transactions: u64,
    /// Bytes of all request bodies.
    pub body_bytes: u64,
    /// Requests to the bridge.
    pub requests: u64,
}

impl Volume {
    /// Returns the volume that is expected of objects of this total size, all of about the same size.
    /// An object has at least one row, and its numbers are rounded up.
    pub fn guessed(objects: u64, bytes: u64, stored: Stored) -> Self {
        if objects == 0 {
            return Self::default();
        }
        let rows = bytes.div_ceil(stored.bytes_per_row()).max(objects);
        let transactions = rows.saturating_mul(SENT_OF_100).div_ceil(100);
        let per_object = transactions.div_ceil(objects);
        let requests = objects.saturating_mul(per_object.div_ceil(TRANSACTIONS_PER_REQUEST));
        Self {
            objects,
            bytes,
            rows,
            transactions,
            body_bytes: transactions.saturating_mul(BODY_BYTES_PER_TRANSACTION),
            requests,
        }
    }
}

impl AddAssign for Volume {
    fn add_assign(&mut self, other: Self) {
        let Self {
            objects,
            bytes,
            rows,
            transactions,
            body_bytes,
            requests,
        } = other;
        for (sum, added) in [
            (&mut self.objects, objects),
            (&mut self.bytes, bytes),
            (&mut self.rows, rows),
            (&mut self.transactions, transactions),
            (&mut self.body_bytes, body_bytes),
            (&mut self.requests, requests),
        ] {
            *sum = sum.saturating_add(added);
        }
    }
}

/// US dollars by item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Dollars {
    pub lambda: f64,
    pub s3: f64,
    pub sqs: f64,
    pub logs: f64,
    /// Lowest and highest, if the bridge is outside AWS. Else it is zero.
    pub data_out: [f64; 2],
}

impl Dollars {
    /// Returns the sum in AWS, without data out.
    pub fn in_aws(&self) -> f64 {
        self.lambda + self.s3 + self.sqs + self.logs
    }
}

/// What a delivery takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Billed seconds of the function, over all invocations.
    pub lambda_seconds: f64,
    /// Time until everything is delivered.
    #[serde(rename = "duration_seconds", serialize_with = "in_seconds")]
    pub duration: Duration,
    /// Requests to the bridge per second in that time.
    pub requests_per_second: f64,
    pub dollars: Dollars,
}

impl Estimate {
    /// Estimates the delivery of a volume by full invocations, `concurrency` (at least 1) at a time.
    /// The slowest of CPU, network and bridge decides, after the start.
    pub fn of(volume: &Volume, concurrency: u32) -> Self {
        let Volume {
            objects,
            bytes,
            rows,
            body_bytes,
            requests,
            ..
        } = *volume;
        let gets = number(objects.max(bytes.div_ceil(RANGE)));
        let invocations = objects.div_ceil(OBJECTS_PER_INVOCATION);
        let [objects, invocations, bytes, rows, body_bytes, requests] =
            [objects, invocations, bytes, rows, body_bytes, requests].map(number);
        let cpu = rows * CPU_PER_ROW / (MEMORY / MEMORY_OF_VCPU);
        let network = (bytes + body_bytes) / NETWORK;
        // An invocation waits at least once for the bridge if it has anything to send.
        let bridge = requests.min(invocations).max(requests / IN_FLIGHT) * BRIDGE_LATENCY;
        let lambda_seconds = invocations * START + cpu.max(network).max(bridge);
        let seconds = lambda_seconds / f64::from(concurrency.max(1));
        Self {
            lambda_seconds,
            duration: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
            requests_per_second: if seconds > 0.0 {
                requests / seconds
            } else {
                0.0
            },
            dollars: Dollars {
                lambda: lambda_seconds * MEMORY / 1024.0 * price::GB_SECOND
                    + invocations / 1e6 * price::MILLION_INVOCATIONS,
                s3: gets / 1e6 * price::MILLION_GETS,
                sqs: objects * SQS_REQUESTS / 1e6 * price::MILLION_SQS_REQUESTS,
                logs: objects * LOG_BYTES / 1e9 * price::GB_OF_LOGS,
                data_out: price::GB_OUT.map(|price| body_bytes / 1e9 * price),
            },
        }
    }
}

/// Returns the prices in use, in one line.
pub fn prices() -> String {
    format!(
        "list prices of us-east-1 in US dollars, without free tiers: Lambda {} per GB-second and {:.2} per million \
         invocations, S3 {:.2} per million GetObject, SQS {:.2} per million requests, CloudWatch Logs {:.2} per GB, data \
         out {:.2} to {:.2} per GB",
        price::GB_SECOND,
        price::MILLION_INVOCATIONS,
        price::MILLION_GETS,
        price::MILLION_SQS_REQUESTS,
        price::GB_OF_LOGS,
        price::GB_OUT[0],
        price::GB_OUT[1],
    )
}

/// Returns the assumptions about the function and the bridge, in one line.
pub fn assumptions() -> String {
    format!(
        "{OBJECTS_PER_INVOCATION} objects per invocation side by side, {MEMORY} MB of memory, {IN_FLIGHT} requests in flight, {TRANSACTIONS_PER_REQUEST} \
         transactions per request, and a bridge that responds in {:.0} ms",
        BRIDGE_LATENCY * 1e3
    )
}

/// Returns how rows and transactions follow from the size of objects, in one line.
pub fn guess() -> String {
    format!(
        "{GZIP_BYTES_PER_ROW} bytes of gzip per row, or {PARQUET_BYTES_PER_ROW} of Parquet; {SENT_OF_100}% of the rows are sent, with {BODY_BYTES_PER_TRANSACTION} \
         bytes each"
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an estimate needs no more than 53 bits"
)]
fn number(integer: u64) -> f64 {
    integer as f64
}

fn in_seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SETTINGS;

    #[test]
    fn volume_is_guessed_from_sizes() {
        for (objects, bytes, rows, transactions, requests) in [
            (0, 0, 0, 0, 0),
            (1, 0, 1, 1, 1),
            (1, 1, 1, 1, 1),
            (1, 228, 2, 1, 1),
            (1, 114_000, 1_000, 450, 2),
            (1, 114 * 555, 555, 250, 1),
            (1, 114 * 558, 558, 252, 2),
            (10, 114, 10, 5, 10),
            (1_000, 114_000_000, 1_000_000, 450_000, 2_000),
        ] {
            let volume = Volume::guessed(objects, bytes, Stored::Gzip);
            let expected = Volume {
                objects,
                bytes: if objects == 0 { 0 } else { bytes },
                rows,
                transactions,
                body_bytes: transactions * 1_170,
                requests,
            };
            assert_eq!(volume, expected, "{objects} objects, {bytes} bytes");
        }
    }

    #[test]
    fn rows_depend_on_how_an_object_is_stored() {
        for (key, rows) in [
            ("E1.2026-11-14-20.d740d76b.gz", 1_000),
            ("20/d740d76b.log.parquet", 1_311),
            ("20/d740d76b.log.Parquet", 1_311),
            ("parquet/log", 1_000),
            ("parquet", 1_000),
        ] {
            let volume = Volume::guessed(1, 114_000, Stored::by_name(key));
            assert_eq!(volume.rows, rows, "{key}");
        }
    }

    #[test]
    fn volumes_add_up_without_overflow() {
        let mut sum = Volume::default();
        for _ in 0..1_000 {
            sum += Volume::guessed(1, 114_000, Stored::Gzip);
        }
        assert_eq!(sum, Volume::guessed(1_000, 114_000_000, Stored::Gzip));
        sum += Volume::guessed(u64::MAX, u64::MAX, Stored::Gzip);
        sum += Volume::guessed(u64::MAX, u64::MAX, Stored::Gzip);
        assert_eq!((sum.objects, sum.bytes), (u64::MAX, u64::MAX));
        assert!(Estimate::of(&sum, 2).lambda_seconds.is_finite());
    }

    /// The example of docs/operations.md, "Costs": a million rows in 1,000 objects, ten per invocation.
    #[test]
    fn estimate_is_that_of_the_documented_example() {
        let volume = Volume::guessed(1_000, 114_000_000, Stored::Gzip);
        let estimate = Estimate::of(&volume, 10);
        let Dollars {
            lambda,
            s3,
            sqs,
            logs,
            data_out: [least, most],
        } = estimate.dollars;
        for (name, found, expected) in [
            ("Lambda-seconds", estimate.lambda_seconds, 30.0 + 20.0),
            ("seconds", estimate.duration.as_secs_f64(), 5.0),
            ("requests per second", estimate.requests_per_second, 400.0),
            ("Lambda", lambda, 0.00042 + 0.00002),
            ("S3", s3, 0.0004),
            ("SQS", sqs, 0.0016),
            ("logs", logs, 0.001),
            ("least data out", least, 0.026),
            ("most data out", most, 0.047),
            ("in AWS", estimate.dollars.in_aws(), 0.0034),
        ] {
            assert!((found / expected - 1.0).abs() < 0.05, "{name}: {found}");
        }
    }

    #[test]
    fn slowest_part_decides_how_long_it_takes() {
        let volume = |rows, body_bytes, requests| Volume {
            objects: 1,
            bytes: 1,
            rows,
            transactions: rows,
            body_bytes,
            requests,
        };
        for (what, volume, seconds) in [
            ("nothing to send", volume(0, 0, 0), 0.3),
            ("one request", volume(1, 0, 1), 0.4),
            ("ten at once", volume(1, 0, 10), 0.4),
            ("bridge", volume(1, 0, 1_000), 10.3),
            ("CPU", volume(1_000_000, 0, 1), 11.0),
            ("network", volume(1, 781_250_000, 1), 10.3),
        ] {
            let estimate = Estimate::of(&volume, 1);
            let off = (estimate.lambda_seconds - seconds).abs();
            assert!(off < 0.1, "{what}: {}", estimate.lambda_seconds);
            for concurrency in [0, 2] {
                let at = Estimate::of(&volume, concurrency).duration;
                let expected = estimate.duration / concurrency.max(1);
                assert!(at.abs_diff(expected).as_millis() < 1, "{what}");
            }
        }
        for (objects, requests, seconds) in [(10, 10, 0.4), (11, 11, 0.8), (100, 200, 5.0)] {
            let volume = Volume {
                objects,
                requests,
                ..volume(1, 0, 0)
            };
            let found = Estimate::of(&volume, 2).lambda_seconds;
            assert!((found - seconds).abs() < 1e-9, "{objects}: {found}");
        }
        let nothing = Estimate::of(&Volume::default(), 2);
        assert_eq!(nothing.duration, Duration::ZERO);
        assert!(nothing.requests_per_second.abs() < f64::EPSILON);
    }

    #[test]
    fn prices_are_printed_as_they_are_used() {
        let text = prices();
        for part in ["0.0000166667 per GB-second", "0.20 per", "0.05 to 0.09"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(guess().contains("45% of the rows"), "{}", guess());
        assert!(assumptions().contains("in 100 ms"), "{}", assumptions());
    }

    #[test]
    fn model_has_the_defaults_of_the_function() {
        for (name, number) in [
            ("BRIDGE_CONCURRENCY", IN_FLIGHT.to_string()),
            (
                "BATCH_MAX_TRANSACTIONS",
                TRANSACTIONS_PER_REQUEST.to_string(),
            ),
        ] {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            assert_eq!(setting.unwrap().default, Some(number.as_str()), "{name}");
        }
        let module = include_str!("../terraform/modules/edgetap/variables.tf");
        for (name, number) in [
            ("batch_size", OBJECTS_PER_INVOCATION.to_string()),
            ("memory_size", MEMORY.to_string()),
        ] {
            let (_, variable) = module
                .split_once(&format!("variable \"{name}\" {{"))
                .unwrap();
            let (_, default) = variable.split_once("  default     = ").unwrap();
            assert_eq!(default.lines().next(), Some(number.as_str()), "{name}");
        }
    }
}

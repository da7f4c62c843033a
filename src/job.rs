//! *Job*: an object and the rows of it still to deliver, parsed from a Lambda event.
//!
//! Parsing is tolerant, because AWS adds fields to events without notice: a [`Value`] is classified
//! by its keys and then deserialized with `aws_lambda_events`, which ignores unknown fields. Test
//! events, directory placeholders, empty objects and deletions are skipped and logged at debug
//! level. Anything unrecognized is an error and is never skipped.
//!
//! A [`Continuation`] carries the remaining rows of an object to a later invocation, or to the
//! dead-letter queue, from which they can be redriven. Its format is versioned, and edgetap reads
//! every version that it ever wrote.

use std::fmt;
use std::ops::Range;

use aws_lambda_events::s3::S3Entity;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Every row of an object.
pub const ALL_ROWS: Range<u64> = 0..u64::MAX;

/// Envelopes inside envelopes (S3 in SNS in SQS is two) before an event is rejected.
const MAX_ENVELOPES: usize = 4;

/// The key that some AWS services write to test their access to a bucket.
const ACCESS_TEST_OBJECT: &str = "aws-programmatic-access-test-object";

/// An object in S3, or a local file (whose bucket is empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// The bucket's name; empty for a local file.
    pub bucket: String,
    /// The key, decoded; for a local file its path.
    pub key: String,
    /// The `ETag` without quotes: first from the event, then from the GetObject response.
    pub etag: Option<String>,
    /// The version ID, if the bucket is versioned and the event has it.
    pub version: Option<String>,
    /// The size in bytes, if the event has it.
    pub size: Option<u64>,
}

impl ObjectRef {
    /// Returns the reference of a local file.
    pub fn local(path: impl Into<String>) -> Self {
        Self::in_s3("", path)
    }

    /// Returns the reference of the current version of an S3 object.
    pub fn in_s3(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            key: key.into(),
            etag: None,
            version: None,
            size: None,
        }
    }

    /// Returns the distribution ID in the key: `E` and ten or more upper-case letters and digits.
    /// It is in the file name (`E27FO14I29XXXX.2026-11-14-20.d740d76b.gz`), else in a part of the
    /// prefix, with or without a Hive-style name (`DistributionId=E27FO14I29XXXX/`).
    pub fn distribution(&self) -> Option<&str> {
        self.key
            .rsplit(['/', '\\'])
            .flat_map(|segment| segment.split(['.', '=']))
            .find(|part| {
                part.len() >= 11
                    && part.starts_with('E')
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bucket.is_empty() {
            f.write_str(&self.key)
        } else {
            write!(f, "s3://{}/{}", self.bucket, self.key)
        }
    }
}

/// An object and the rows of it still to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub object: ObjectRef,
    /// Row indexes, from 0: [`ALL_ROWS`] for a new object.
    pub rows: Range<u64>,
    /// When the first message for the object was sent, if the event has that time.
    pub since: Option<Timestamp>,
    /// How many invocations have requeued it.
    pub requeue_count: u8,
}

impl Job {
    /// Returns the job of delivering a whole object.
    pub fn all(object: ObjectRef) -> Self {
        Self {
            object,
            rows: ALL_ROWS,
            since: None,
            requeue_count: 0,
        }
    }

    /// Whether an earlier invocation may have delivered some rows. If the object is missing now,
    /// the rest of its rows is lost.
    pub(crate) fn has_started(&self) -> bool {
        self.rows != ALL_ROWS || self.requeue_count > 0
    }
}

/// Half-open row ranges `[start, end)`. `None` as the end means the end of the object.
pub type RowRanges = Vec<(u64, Option<u64>)>;

/// The remaining rows of an object, as a message.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Continuation {
    /// The version of this format.
    pub edgetap: u32,
    pub object: ContinuedObject,
    pub rows: RowRanges,
    /// When the first message for the object was sent.
    pub since: Timestamp,
    /// How many invocations have requeued it.
    #[serde(rename = "hops")]
    pub requeue_count: u8,
    /// Why these rows were not delivered, as text.
    pub reason: String,
    /// The digest of the rules in force. Under other rules batches may start at other rows.
    pub rules: String,
}

/// The object of a [`Continuation`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ContinuedObject {
    pub bucket: String,
    /// The key, decoded.
    pub key: String,
    /// The `ETag` of the version that was read.
    pub etag: Option<String>,
}

/// The version of [`Continuation`] that this release writes.
pub const CONTINUATION_VERSION: u32 = 1;

impl Continuation {
    /// Returns one job per row range.
    fn jobs(self) -> Result<Vec<Job>, EventError> {
        if self.edgetap == 0 || self.edgetap > CONTINUATION_VERSION {
            return Err(EventError::ContinuationVersion(self.edgetap));
        }
        let is_sound = !self.rows.is_empty()
            && self
                .rows
                .iter()
                .all(|(start, end)| end.is_none_or(|end| *start <= end));
        if !is_sound {
            return Err(EventError::Continuation); // its message would be deleted with nothing delivered
        }
        let ContinuedObject { bucket, key, etag } = self.object;
        let object = ObjectRef {
            etag,
            ..ObjectRef::in_s3(bucket, key)
        };
        let jobs = self.rows.into_iter().map(|(start, end)| Job {
            object: object.clone(),
            rows: start..end.unwrap_or(u64::MAX),
            since: Some(self.since),
            requeue_count: self.requeue_count,
        });
        Ok(jobs.collect())
    }
}

/// A Lambda event, classified.
#[derive(Debug)]
pub enum Event {
    /// A batch of SQS messages, each of which succeeds or fails on its own.
    Sqs(Vec<SqsRecord>),
    /// Any other event. It succeeds or fails as a whole.
    Direct(Vec<Job>),
}

/// One SQS message and its jobs.
#[derive(Debug)]
pub struct SqsRecord {
    pub message_id: String,
    pub meta: SqsMessageMeta,
    pub jobs: Result<Vec<Job>, EventError>,
}

/// Metadata of an SQS message, as delivered by the event source mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqsMessageMeta {
    /// The queue's ARN.
    pub queue: Option<String>,
    /// The receipt handle.
    pub handle: Option<String>,
    /// How many times SQS delivered the message, including this time.
    pub receive_count: u32,
    pub sent: Option<Timestamp>,
}

impl SqsMessageMeta {
    fn of(message: &SqsMessage) -> Self {
        let number = |name: &str| {
            message
                .attributes
                .get(name)
                .and_then(|text| text.parse::<i64>().ok())
        };
        Self {
            queue: message.event_source_arn.clone(),
            handle: message.receipt_handle.clone(),
            receive_count: number("ApproximateReceiveCount")
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(1),
            sent: number("SentTimestamp")
                .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok()),
        }
    }
}

/// Why an event cannot be parsed. The text may contain keys and version numbers of the event, but
/// no other values.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EventError {
    #[error("{0} is not valid JSON")]
    NotJson(&'static str),
    #[error(
        "unrecognized event: expected an S3 notification (direct, SQS, SNS or EventBridge); top-level keys: {0}"
    )]
    Unrecognized(String),
    #[error("incomplete S3 notification: {0} is missing or invalid")]
    Incomplete(&'static str),
    /// An S3 event of a future major version.
    #[error("unsupported S3 notification: event version {0}, but this release reads version 2")]
    Version(String),
    #[error("invalid S3 notification: the object key is not UTF-8 after URL decoding")]
    Key,
    /// A message without an ID cannot be reported as failed, so the whole event fails.
    #[error("invalid SQS event: a record has no messageId or no body")]
    Sqs,
    #[error(
        "the message is an SNS subscription confirmation, not a notification. Confirm the queue's subscription to the topic"
    )]
    Confirmation,
    /// Probably written by a later release. The message waits in the queue for that release.
    #[error(
        "unsupported continuation: version {0}, but this release reads up to {CONTINUATION_VERSION}; the message will be retried"
    )]
    ContinuationVersion(u32),
    #[error(
        "invalid continuation: a field is missing or invalid, `rows` is empty, or a row range ends before it starts"
    )]
    Continuation,
    #[error("the notification is nested in more than {MAX_ENVELOPES} envelopes")]
    TooDeep,
}

impl Event {
    /// Parses a Lambda event.
    ///
    /// # Errors
    /// [`EventError`] for the event as a whole. An SQS message that cannot be parsed is an error in
    /// its own [`SqsRecord`].
    pub fn parse(event: Value) -> Result<Self, EventError> {
        let from_sqs = event["Records"]
            .get(0)
            .is_some_and(|first| first["eventSource"] == "aws:sqs");
        if !from_sqs {
            return jobs(&event, 0).map(Self::Direct);
        }
        let event = SqsEvent::deserialize(event).map_err(|_| EventError::Sqs)?;
        let records = event.records.into_iter().map(|message| {
            let meta = SqsMessageMeta::of(&message);
            let (Some(message_id), Some(body)) = (message.message_id, message.body) else {
                return Err(EventError::Sqs);
            };
            let mut jobs =
                parse_text(&body, "the body of the SQS message").and_then(|body| jobs(&body, 1));
            for job in jobs.iter_mut().flatten() {
                job.since = job.since.or(meta.sent);
            }
            Ok(SqsRecord {
                message_id,
                meta,
                jobs,
            })
        });
        records.collect::<Result<_, _>>().map(Self::Sqs)
    }
}

fn jobs(event: &Value, envelopes: usize) -> Result<Vec<Job>, EventError> {
    if envelopes > MAX_ENVELOPES {
        return Err(EventError::TooDeep);
    }
    if let Some(records) = event["Records"].as_array() {
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            if record.get("s3").is_some() {
                all.extend(from_s3_record(record)?);
            } else if let Some(text) = record["Sns"]["Message"].as_str() {
                all.extend(jobs(&parse_text(text, "the SNS message")?, envelopes + 1)?);
            } else {
                return Err(unrecognized(record));
            }
        }
        return Ok(all);
    }
    if event.get("edgetap").is_some() {
        return Continuation::deserialize(event)
            .map_err(|_| EventError::Continuation)?
            .jobs();
    }
    if event["Event"] == "s3:TestEvent" {
        tracing::debug!("skipping an S3 test event");
        return Ok(Vec::new());
    }
    if event["source"] == "aws.s3" && event.get("detail").is_some() {
        return Ok(from_event_bridge(event)?.into_iter().collect());
    }
    match (event["Type"].as_str(), event["Message"].as_str()) {
        (Some("Notification"), Some(text)) => {
            jobs(&parse_text(text, "the SNS message")?, envelopes + 1)
        }
        (Some("SubscriptionConfirmation"), _) => Err(EventError::Confirmation),
        _ => Err(unrecognized(event)),
    }
}

/// Parses a record of an S3 event notification. Its key is form-encoded: `+` is a space.
fn from_s3_record(record: &Value) -> Result<Option<Job>, EventError> {
    if let Some(version) = record["eventVersion"].as_str()
        && version.split('.').next() != Some("2")
    {
        return Err(EventError::Version(version.chars().take(16).collect()));
    }
    let name = record["eventName"].as_str().unwrap_or("ObjectCreated:");
    let name = name.strip_prefix("s3:").unwrap_or(name);
    if !name.starts_with("ObjectCreated:") {
        tracing::debug!(
            event = name,
            "skipping an event other than an object creation"
        );
        return Ok(None);
    }
    let entity = S3Entity::deserialize(&record["s3"])
        .map_err(|_| EventError::Incomplete("s3.bucket or s3.object"))?;
    let bucket = entity
        .bucket
        .name
        .ok_or(EventError::Incomplete("s3.bucket.name"))?;
    let key = entity
        .object
        .key
        .ok_or(EventError::Incomplete("s3.object.key"))?;
    let key = decode_form_key(&key)?;
    Ok(creation(
        bucket,
        key,
        entity.object.size,
        entity.object.e_tag,
    ))
}

/// Parses an EventBridge event of S3. Its key is not encoded.
fn from_event_bridge(event: &Value) -> Result<Option<Job>, EventError> {
    let kind = event["detail-type"]
        .as_str()
        .ok_or(EventError::Incomplete("detail-type"))?;
    if kind != "Object Created" {
        tracing::debug!(
            event = kind,
            "skipping an event other than an object creation"
        );
        return Ok(None);
    }
    let (bucket, object) = (&event["detail"]["bucket"], &event["detail"]["object"]);
    let bucket = bucket["name"]
        .as_str()
        .ok_or(EventError::Incomplete("detail.bucket.name"))?;
    let key = object["key"]
        .as_str()
        .ok_or(EventError::Incomplete("detail.object.key"))?;
    Ok(creation(
        bucket.to_owned(),
        key.to_owned(),
        object["size"].as_i64(),
        object["etag"].as_str().map(str::to_owned),
    ))
}

fn creation(bucket: String, key: String, size: Option<i64>, etag: Option<String>) -> Option<Job> {
    let object = ObjectRef {
        etag: etag.filter(|etag| !etag.is_empty()),
        ..ObjectRef::in_s3(bucket, key)
    };
    if object.key.ends_with('/') || size == Some(0) || object.key.ends_with(ACCESS_TEST_OBJECT) {
        tracing::debug!(%object, "skipping a directory placeholder, an empty object or an access test");
        return None;
    }
    Some(Job::all(object))
}

/// Decodes an object key from an S3 event notification: `+` is a space and `%3D` is `=`.
///
/// # Errors
/// [`EventError::Key`] if the decoded key is not UTF-8.
pub fn decode_form_key(key: &str) -> Result<String, EventError> {
    let spaced = key.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| EventError::Key)
}

fn parse_text(text: &str, what: &'static str) -> Result<Value, EventError> {
    serde_json::from_str(text).map_err(|_| EventError::NotJson(what))
}

fn unrecognized(event: &Value) -> EventError {
    let keys = event.as_object().map(|fields| {
        fields
            .keys()
            .take(12)
            .map(|key| key.chars().take(40).collect::<String>())
            .collect::<Vec<_>>()
    });
    EventError::Unrecognized(keys.map_or_else(|| "none".to_owned(), |keys| keys.join(", ")))
}

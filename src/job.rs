//! *Work*: an object and the rows of it still to deliver; and how a Lambda event names it.
//!
//! Events are read tolerantly (AWS adds fields to them without notice): a [`Value`] is classified by its keys, then read
//! through the types of `aws_lambda_events`, of which only those are used whose fields are optional. Every record counts;
//! what is not work (test events, folder markers, empty objects, deletions) is skipped at debug level, and what cannot be
//! understood is an error, never nothing.
//!
//! What is left of an object travels as a [`Continuation`]: to a later invocation, or to the dead-letter queue, from where
//! it can be brought back. Its format has a version, and every version is read for ever.

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

/// Wrappings inside wrappings (S3 in SNS in SQS is two) before an event is refused.
const MAX_ENVELOPES: usize = 4;

/// What some AWS services write to see whether they may.
const ACCESS_TEST_OBJECT: &str = "aws-programmatic-access-test-object";

/// An object in S3, or a local file (whose bucket is empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// The bucket's name; empty for a local file.
    pub bucket: String,
    /// The key, decoded; for a local file its path.
    pub key: String,
    /// The entity tag, without quotes: from the event at first, from the GetObject answer once the object is open.
    pub etag: Option<String>,
}

impl ObjectRef {
    /// A local file by its path.
    pub fn local(path: impl Into<String>) -> Self {
        Self {
            bucket: String::new(),
            key: path.into(),
            etag: None,
        }
    }

    /// The distribution that the object's name tells, `E` and ten or more upper-case letters and digits: from the file's
    /// name (`E27FO14I29XXXX.2026-11-14-20.d740d76b.gz`), else from a folder, hive-style or not.
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
    /// Which of its rows, counted from 0: [`ALL_ROWS`] for an object just created.
    pub rows: Range<u64>,
    /// When the object was first asked for; unknown for an event that does not say.
    pub since: Option<Timestamp>,
    /// How many invocations have handed it over.
    pub requeue_count: u8,
}

impl Job {
    /// All of an object, from now on.
    pub fn all(object: ObjectRef) -> Self {
        Self {
            object,
            rows: ALL_ROWS,
            since: None,
            requeue_count: 0,
        }
    }

    /// Whether part of it was delivered before, or it was brought back: then its object must exist.
    pub fn has_begun(&self) -> bool {
        self.rows != ALL_ROWS || self.requeue_count > 0
    }
}

/// Rows of an object: of each stretch the first, and the one behind the last, `None` for the end of the object.
pub type RowRanges = Vec<(u64, Option<u64>)>;

/// What is left of an object, as a message.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Continuation {
    /// The version of this format.
    pub edgetap: u32,
    pub object: ContinuedObject,
    pub rows: RowRanges,
    /// When the object was first asked for.
    pub since: Timestamp,
    /// How many invocations have handed it over.
    #[serde(rename = "hops")]
    pub requeue_count: u8,
    /// Why it was not delivered at once, in words.
    pub reason: String,
    /// The digest of the rules in force: with other rules batches may begin elsewhere.
    pub rules: String,
}

/// The object of a [`Continuation`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ContinuedObject {
    pub bucket: String,
    /// Its key, decoded.
    pub key: String,
    /// The version that was read.
    pub etag: Option<String>,
}

/// The version of [`Continuation`] that is written.
pub const CONTINUATION_VERSION: u32 = 1;

impl Continuation {
    /// What it asks for.
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
            return Err(EventError::Continuation); // else it would be done with nothing done
        }
        let ContinuedObject { bucket, key, etag } = self.object;
        let object = ObjectRef { bucket, key, etag };
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
    /// A batch of SQS messages, each of which succeeds or fails by itself.
    Sqs(Vec<SqsRecord>),
    /// Everything else: it succeeds or fails as a whole.
    Direct(Vec<Job>),
}

/// One SQS message and the work it names.
#[derive(Debug)]
pub struct SqsRecord {
    pub message_id: String,
    /// How the queue knows this receipt of it.
    pub meta: SqsMessageMeta,
    /// What it asks for, or why it cannot be understood.
    pub jobs: Result<Vec<Job>, EventError>,
}

/// One receipt of an SQS message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqsMessageMeta {
    pub queue: Option<String>,
    /// The handle of this receipt.
    pub handle: Option<String>,
    /// How often the message was received, this time included.
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

/// Why an event cannot be understood. The text names keys of the event, never its values.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EventError {
    #[error("the {0} is not JSON")]
    NotJson(&'static str),
    /// None of the known shapes.
    #[error(
        "not an S3 notification in any known wrapping (S3, SQS, SNS, EventBridge): its keys are {0}"
    )]
    Unrecognized(String),
    /// A record of a known shape without what it must have.
    #[error("an S3 record without {0}")]
    Incomplete(&'static str),
    /// An S3 event of a future major version.
    #[error("an S3 record of event version {0}: this version of edgetap reads version 2")]
    Version(String),
    /// A key that is not UTF-8 once form-decoded.
    #[error("an S3 record whose object key is not UTF-8 once decoded")]
    Key,
    /// An SQS message without an id could not be reported as failed.
    #[error("an SQS record without messageId or body")]
    Sqs,
    /// An SNS topic wants a confirmation before it sends notifications.
    #[error(
        "an SNS subscription confirmation, not a notification: confirm the queue's subscription to the topic"
    )]
    Confirmation,
    /// A continuation that a later version of edgetap wrote.
    #[error(
        "a continuation of version {0}, which this version of edgetap does not read: it comes again"
    )]
    ContinuationVersion(u32),
    /// A continuation that is none.
    #[error("a continuation that cannot be read")]
    Continuation,
    #[error("a notification wrapped more than {MAX_ENVELOPES} times")]
    TooDeep,
}

impl Event {
    /// Classifies a Lambda event.
    ///
    /// # Errors
    /// When the event as a whole is not understood. An SQS message that is not understood is an error of its own record.
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
            let mut jobs = parse_text(&body, "SQS message's body").and_then(|body| jobs(&body, 1));
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
                all.extend(jobs(&parse_text(text, "SNS message")?, envelopes + 1)?);
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
        tracing::debug!("skipping S3's test event");
        return Ok(Vec::new());
    }
    if event["source"] == "aws.s3" && event.get("detail").is_some() {
        return Ok(from_event_bridge(event)?.into_iter().collect());
    }
    match (event["Type"].as_str(), event["Message"].as_str()) {
        (Some("Notification"), Some(text)) => {
            jobs(&parse_text(text, "SNS message")?, envelopes + 1)
        }
        (Some("SubscriptionConfirmation"), _) => Err(EventError::Confirmation),
        _ => Err(unrecognized(event)),
    }
}

/// A record of an S3 event notification. Its key is form-encoded: `+` is a space.
fn from_s3_record(record: &Value) -> Result<Option<Job>, EventError> {
    if let Some(version) = record["eventVersion"].as_str()
        && version.split('.').next() != Some("2")
    {
        return Err(EventError::Version(version.chars().take(16).collect()));
    }
    let name = record["eventName"].as_str().unwrap_or("ObjectCreated:");
    let name = name.strip_prefix("s3:").unwrap_or(name);
    if !name.starts_with("ObjectCreated:") {
        tracing::debug!(event = name, "skipping an event that is not a creation");
        return Ok(None);
    }
    let entity = S3Entity::deserialize(&record["s3"])
        .map_err(|_| EventError::Incomplete("a bucket and an object"))?;
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

/// An EventBridge event of S3. Its key is plain.
fn from_event_bridge(event: &Value) -> Result<Option<Job>, EventError> {
    let kind = event["detail-type"]
        .as_str()
        .ok_or(EventError::Incomplete("detail-type"))?;
    if kind != "Object Created" {
        tracing::debug!(event = kind, "skipping an event that is not a creation");
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
        bucket,
        key,
        etag: etag.filter(|etag| !etag.is_empty()),
    };
    if object.key.ends_with('/') || size == Some(0) || object.key.ends_with(ACCESS_TEST_OBJECT) {
        tracing::debug!(%object, "skipping a folder marker, an empty or a test object");
        return None;
    }
    Some(Job::all(object))
}

/// An object key as S3 event notifications encode it: form-encoded, so `+` is a space and `%3D` is `=`.
///
/// # Errors
/// When the decoded key is not UTF-8.
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

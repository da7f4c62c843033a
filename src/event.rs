//! *Event*: a Lambda event → the jobs it names, and what SQS says about the messages that carry
//! them.
//!
//! Parsing is tolerant, because AWS adds fields to events without notice: a [`Value`] is classified
//! by its keys and then deserialized with `aws_lambda_events`, which ignores unknown fields. Test
//! events, directory placeholders, empty objects and deletions are skipped and logged at debug
//! level. Anything unrecognized is an error and is never skipped.

use aws_lambda_events::s3::S3Entity;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Value, json};
use thiserror::Error;

use crate::continuation::{Continuation, ContinuationError, History};
use crate::job::{Job, ObjectRef};

/// The most envelopes around a notification (S3 in SNS in SQS has two).
const MAX_ENVELOPES: usize = 4;

/// The key that some AWS services write to test their access to a bucket.
const ACCESS_TEST_OBJECT: &str = "aws-programmatic-access-test-object";

/// A Lambda event, classified.
#[derive(Debug)]
pub enum Event {
    /// A batch of SQS messages, each of which succeeds or fails on its own.
    Sqs(Vec<SqsRecord>),
    /// Any other event. It succeeds or fails as a whole.
    Direct(Vec<Job>),
}

/// One SQS message and its work.
#[derive(Debug)]
pub struct SqsRecord {
    pub message_id: String,
    pub receipt: Receipt,
    pub work: Result<Work, EventError>,
}

/// What a message asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub jobs: Vec<Job>,
    pub history: History,
}

/// What SQS says about a message, as delivered by the event source mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The queue's ARN.
    pub queue: Option<String>,
    /// The receipt handle.
    pub handle: Option<String>,
    /// How many times SQS delivered the message, including this time.
    pub receive_count: u32,
    /// When SQS first delivered it. If the event does not say so, when it was sent.
    pub first_received: Option<Timestamp>,
}

impl Receipt {
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
            first_received: number("ApproximateFirstReceiveTimestamp")
                .or(number("SentTimestamp"))
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
    #[error(transparent)]
    Continuation(#[from] ContinuationError),
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
            return work(&event, 0).map(|work| Self::Direct(work.jobs));
        }
        let event = SqsEvent::deserialize(event).map_err(|_| EventError::Sqs)?;
        let records = event.records.into_iter().map(|message| {
            let receipt = Receipt::of(&message);
            let (Some(message_id), Some(body)) = (message.message_id, message.body) else {
                return Err(EventError::Sqs);
            };
            let body = parse_text(&body, "the body of the SQS message");
            Ok(SqsRecord {
                message_id,
                receipt,
                work: body.and_then(|body| work(&body, 1)),
            })
        });
        records.collect::<Result<_, _>>().map(Self::Sqs)
    }
}

fn work(event: &Value, envelopes: usize) -> Result<Work, EventError> {
    if envelopes > MAX_ENVELOPES {
        return Err(EventError::TooDeep);
    }
    if let Some(records) = event["Records"].as_array() {
        let mut all = Work::default();
        for record in records {
            if record.get("s3").is_some() {
                all.jobs.extend(from_s3_record(record)?);
            } else if let Some(text) = record["Sns"]["Message"].as_str() {
                let message = parse_text(text, "the SNS message")?;
                all.jobs.extend(work(&message, envelopes + 1)?.jobs);
            } else {
                return Err(unrecognized(record));
            }
        }
        return Ok(all);
    }
    if event.get("edgetap").is_some() {
        let (job, history) = Continuation::read(event)?.into_job();
        return Ok(Work {
            jobs: vec![job],
            history,
        });
    }
    if event["Event"] == "s3:TestEvent" {
        tracing::debug!("skipping an S3 test event");
        return Ok(Work::default());
    }
    if event["source"] == "aws.s3" && event.get("detail").is_some() {
        return Ok(Work {
            jobs: from_event_bridge(event)?.into_iter().collect(),
            history: History::default(),
        });
    }
    match (event["Type"].as_str(), event["Message"].as_str()) {
        (Some("Notification"), Some(text)) => {
            work(&parse_text(text, "the SNS message")?, envelopes + 1)
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
    Ok(creation(ObjectRef {
        etag: entity.object.e_tag,
        version: entity.object.version_id,
        size: size(entity.object.size),
        ..ObjectRef::in_s3(bucket, key)
    }))
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
    let text = |name: &str| object[name].as_str().map(str::to_owned);
    Ok(creation(ObjectRef {
        etag: text("etag"),
        version: text("version-id"),
        size: size(object["size"].as_i64()),
        ..ObjectRef::in_s3(bucket, key)
    }))
}

fn size(size: Option<i64>) -> Option<u64> {
    size.and_then(|size| u64::try_from(size).ok())
}

fn creation(mut object: ObjectRef) -> Option<Job> {
    let is_empty = object.size == Some(0);
    if object.key.ends_with('/') || is_empty || object.key.ends_with(ACCESS_TEST_OBJECT) {
        tracing::debug!(%object, "skipping a directory placeholder, an empty object or an access test");
        return None;
    }
    for id in [&mut object.etag, &mut object.version] {
        id.take_if(|id| id.is_empty());
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

/// Returns the S3 notification of one object, as S3 sends it (event version 2.1), with `now` as its
/// time. [`Event::parse`] reads it.
pub fn notification(object: &ObjectRef, region: &str, now: Timestamp) -> Value {
    let mut entity = json!({ "key": encode_form_key(&object.key) });
    if let Some(size) = object.size {
        entity["size"] = size.into();
    }
    if let Some(etag) = &object.etag {
        entity["eTag"] = etag.as_str().into();
    }
    json!({ "Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": now.to_string(),
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "edgetap-backfill",
            "bucket": { "name": object.bucket },
            "object": entity,
        },
    }]})
}

/// Encodes an object key as in S3 event notifications: `/` stays, and a space is `+`.
fn encode_form_key(key: &str) -> String {
    let parts = key.split('/').map(|part| {
        let encoded: String = url::form_urlencoded::byte_serialize(part.as_bytes()).collect();
        encoded
    });
    parts.collect::<Vec<_>>().join("/")
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

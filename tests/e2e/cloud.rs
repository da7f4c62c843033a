//! Buckets and queues in moto, through the AWS SDK's clients.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{NotificationConfiguration, QueueConfiguration, StorageClass};
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, MessageSystemAttributeName, QueueAttributeName,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::peers::{Peers, REGION};
use crate::tap::{COOKIE_CANARY, PATIENCE};

pub(crate) struct Bucket {
    s3: aws_sdk_s3::Client,
    pub(crate) name: &'static str,
}

impl Bucket {
    pub(crate) async fn create(peers: &Peers, name: &'static str) -> Self {
        let s3 = aws_sdk_s3::Client::new(&peers.sdk_config().await);
        s3.create_bucket().bucket(name).send().await.unwrap();
        Self { s3, name }
    }

    pub(crate) async fn put(&self, key: &str, bytes: Vec<u8>) {
        self.s3
            .put_object()
            .bucket(self.name)
            .key(key)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .unwrap();
    }

    /// Stores an object in the storage class `GLACIER`.
    pub(crate) async fn put_archived(&self, key: &str, bytes: Vec<u8>) {
        let put = self.s3.put_object().bucket(self.name).key(key);
        put.storage_class(StorageClass::Glacier)
            .body(ByteStream::from(bytes))
            .send()
            .await
            .unwrap();
    }

    /// Makes the bucket notify the queue of every new object.
    pub(crate) async fn notify(&self, queue: &Queue) {
        let to_queue = QueueConfiguration::builder()
            .queue_arn(&queue.arn)
            .events("s3:ObjectCreated:*".into())
            .build()
            .unwrap();
        let configuration = NotificationConfiguration::builder()
            .queue_configurations(to_queue)
            .build();
        self.s3
            .put_bucket_notification_configuration()
            .bucket(self.name)
            .notification_configuration(configuration)
            .send()
            .await
            .unwrap();
    }

    /// Returns an S3 notification of an object as S3 sends it. The keys in these tests need no form
    /// encoding.
    pub(crate) fn notification(&self, key: &str) -> Value {
        json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": REGION,
            "eventTime": "2026-11-14T20:05:00.000Z",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "s3SchemaVersion": "1.0",
                "bucket": { "name": self.name, "arn": format!("arn:aws:s3:::{}", self.name) },
                "object": { "key": key, "size": 1024, "sequencer": "0055AED6DCD90281E5" }
            }
        }]})
    }
}

pub(crate) struct Queue {
    sqs: aws_sdk_sqs::Client,
    pub(crate) url: String,
    arn: String,
}

/// A received message, with what the event source mapping passes on.
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) attributes: BTreeMap<String, String>,
    receipt_handle: String,
}

impl From<aws_sdk_sqs::types::Message> for Message {
    fn from(message: aws_sdk_sqs::types::Message) -> Self {
        let attributes = message.attributes.unwrap_or_default();
        Self {
            id: message.message_id.unwrap(),
            body: message.body.unwrap(),
            attributes: attributes
                .into_iter()
                .map(|(name, value)| (name.as_str().to_owned(), value))
                .collect(),
            receipt_handle: message.receipt_handle.unwrap(),
        }
    }
}

impl Queue {
    pub(crate) async fn create(peers: &Peers, name: &str) -> Self {
        let sqs = aws_sdk_sqs::Client::new(&peers.sdk_config().await);
        let url = sqs
            .create_queue()
            .queue_name(name)
            .send()
            .await
            .unwrap()
            .queue_url
            .unwrap();
        let asked = sqs
            .get_queue_attributes()
            .queue_url(&url)
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await
            .unwrap();
        let arn = asked.attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
        Self { sqs, url, arn }
    }

    /// Creates a work queue and its dead-letter queue.
    pub(crate) async fn create_with_dead_letters(peers: &Peers, name: &str) -> (Self, Self) {
        let (work, dead_letters) = (
            Self::create(peers, name).await,
            Self::create(peers, &format!("{name}-dead-letters")).await,
        );
        let policy =
            json!({ "deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": 400 }).to_string();
        work.sqs
            .set_queue_attributes()
            .queue_url(&work.url)
            .attributes(QueueAttributeName::RedrivePolicy, policy)
            .send()
            .await
            .unwrap();
        (work, dead_letters)
    }

    /// Returns the same queue, whose requests go to another endpoint.
    pub(crate) async fn through(self, peers: &Peers, endpoint: &str) -> Self {
        let config = peers.sdk_config().await.into_builder();
        let config = config.endpoint_url(endpoint).build();
        Self {
            sqs: aws_sdk_sqs::Client::new(&config),
            ..self
        }
    }

    pub(crate) async fn send(&self, body: &Value) {
        self.sqs
            .send_message()
            .queue_url(&self.url)
            .message_body(body.to_string())
            .send()
            .await
            .unwrap();
    }

    /// Takes one message off the queue.
    pub(crate) async fn receive(&self) -> Message {
        let message = self.borrow(1).await.remove(0);
        self.delete(&message).await;
        message
    }

    /// Receives at least one and up to `most` messages, with a visibility timeout of half an hour.
    pub(crate) async fn borrow(&self, most: i32) -> Vec<Message> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let receive = self
                .sqs
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(most)
                .wait_time_seconds(1)
                .visibility_timeout(1800)
                .message_system_attribute_names(MessageSystemAttributeName::All);
            let received = receive.send().await.unwrap().messages.unwrap_or_default();
            if !received.is_empty() {
                return received.into_iter().map(Message::from).collect();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no message arrived");
    }

    pub(crate) async fn delete(&self, message: &Message) {
        self.sqs
            .delete_message()
            .queue_url(&self.url)
            .receipt_handle(&message.receipt_handle)
            .send()
            .await
            .unwrap();
    }

    /// Deletes up to ten messages with one request.
    pub(crate) async fn delete_batch(&self, messages: &[Message]) {
        let entries = messages.iter().zip(0..).map(|(message, number)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(&message.receipt_handle)
                .build()
                .unwrap()
        });
        self.sqs
            .delete_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .unwrap();
    }

    /// Ends the visibility timeout of messages that the function did not delete.
    pub(crate) async fn reveal(&self, messages: &[Message]) {
        for message in messages {
            let change = self
                .sqs
                .change_message_visibility()
                .queue_url(&self.url)
                .receipt_handle(&message.receipt_handle)
                .visibility_timeout(0);
            if let Err(error) = change.send().await {
                let error = error.into_service_error();
                assert!(error.is_receipt_handle_is_invalid(), "{error:?}");
            }
        }
    }

    /// Returns the number of messages that wait, be it for their delay, and of messages in flight.
    pub(crate) async fn depth(&self) -> (u32, u32) {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let asked = self
            .sqs
            .get_queue_attributes()
            .queue_url(&self.url)
            .set_attribute_names(Some(names.to_vec()))
            .send()
            .await
            .unwrap();
        let attributes = asked.attributes.unwrap();
        let [visible, in_flight, delayed] = names.map(|name| attributes[&name].parse().unwrap());
        (visible + delayed, in_flight)
    }

    /// Returns the event that the event source mapping makes of messages.
    pub(crate) fn event(&self, messages: &[Message]) -> Value {
        let records = messages.iter().map(|message| {
            json!({
                "messageId": message.id,
                "receiptHandle": message.receipt_handle,
                "body": message.body,
                "attributes": message.attributes,
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": self.arn,
                "awsRegion": REGION
            })
        });
        json!({ "Records": records.collect::<Vec<_>>() })
    }
}

/// Returns a log of `requests` requests, each with a canary cookie; their IDs are `id-0` and so on.
/// After the first come a request for a static asset and a row without a method.
pub(crate) fn log(requests: usize) -> Vec<u8> {
    log_with_ids("id", requests)
}

/// Returns such a log whose IDs begin with `name`.
pub(crate) fn log_with_ids(name: &str, requests: usize) -> Vec<u8> {
    let mut text = "#Version: 1.0\n#Fields: date time x-edge-location c-ip cs-method cs-uri-stem cs-uri-query sc-status cs(Cookie) x-edge-request-id\n"
        .to_owned();
    for number in 0..requests {
        let row = |method, stem, id| {
            format!(
                "2026-11-14\t20:00:00\tFRA56-P4\t192.0.2.7\t{method}\t{stem}\tkey={COOKIE_CANARY}\t200\tsession={COOKIE_CANARY}\t{id}-{number}\n"
            )
        };
        text += &row("GET", "/v1/orders", name);
        if number == 0 {
            text += &row("GET", "/static/small.jpg", "static");
            text += &row("-", "/v1/orders", "malformed");
        }
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

//! Buckets, queues and secrets at moto, through the SDK's own clients.

use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{NotificationConfiguration, QueueConfiguration};
use aws_sdk_sqs::types::QueueAttributeName;
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
        self.s3.put_object().bucket(self.name).key(key).body(ByteStream::from(bytes)).send().await.unwrap();
    }

    /// From now on every object created is told to the queue.
    pub(crate) async fn notify(&self, queue: &Queue) {
        let to_queue = QueueConfiguration::builder().queue_arn(&queue.arn).events("s3:ObjectCreated:*".into()).build().unwrap();
        let configuration = NotificationConfiguration::builder().queue_configurations(to_queue).build();
        self.s3.put_bucket_notification_configuration().bucket(self.name).notification_configuration(configuration).send().await.unwrap();
    }

    /// An S3 notification of that object, in itself as S3 sends it. Every key here is the same when form-encoded.
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
    url: String,
    arn: String,
}

/// What the event source mapping would pass on.
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: String,
}

impl Queue {
    pub(crate) async fn create(peers: &Peers, name: &str) -> Self {
        let sqs = aws_sdk_sqs::Client::new(&peers.sdk_config().await);
        let url = sqs.create_queue().queue_name(name).send().await.unwrap().queue_url.unwrap();
        let asked = sqs.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn).send().await.unwrap();
        let arn = asked.attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
        Self { sqs, url, arn }
    }

    /// Takes one message off the queue.
    pub(crate) async fn receive(&self) -> Message {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let received =
                self.sqs.receive_message().queue_url(&self.url).max_number_of_messages(1).wait_time_seconds(1).send().await.unwrap();
            if let Some(message) = received.messages.unwrap_or_default().pop() {
                self.sqs.delete_message().queue_url(&self.url).receipt_handle(message.receipt_handle.unwrap()).send().await.unwrap();
                return Message { id: message.message_id.unwrap(), body: message.body.unwrap() };
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no message came");
    }
}

/// A log of that many requests, each with a marked cookie; between them a static one, and one without a client address.
pub(crate) fn log(requests: usize) -> Vec<u8> {
    let mut text = "#Version: 1.0\n#Fields: date time x-edge-location c-ip cs-method cs-uri-stem cs-uri-query sc-status cs(Cookie) x-edge-request-id\n"
        .to_owned();
    for number in 0..requests {
        let row = |ip, stem, id| {
            format!("2026-11-14\t20:00:00\tFRA56-P4\t{ip}\tGET\t{stem}\tkey={COOKIE_CANARY}\t200\tsession={COOKIE_CANARY}\t{id}-{number}\n")
        };
        text += &row("192.0.2.7", "/v1/orders", "id");
        if number == 0 {
            text += &row("192.0.2.7", "/static/small.jpg", "static");
            text += &row("-", "/v1/orders", "malformed");
        }
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

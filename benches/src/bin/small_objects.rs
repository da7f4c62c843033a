//! Small objects through the function's own handler, set up as in `bootstrap`, compared with
//! clients that send the same requests. Objects are delivered one after the other, or with
//! `--messages` as many side by side, by every client.
//!
//! Clients, in turns:
//!
//! - *requests*: the bare requests, unsigned, so the real S3 would reject them;
//! - *minimal*: GETs signed by the AWS SDK, and bodies that were made in advance;
//! - *reading*: the same, but it makes the bodies from the objects it gets;
//! - *handler*: the function.
//!
//! `small_objects --server http://127.0.0.1:PORT`, with the settings of the function and the SDK in
//! the environment. The server (`loopback`) is the bridge, and S3 too unless `--put` is given.
//! Prints the seconds of wall time and of CPU time (of all threads of this process) of each round,
//! and the peak resident memory, objects and prepared bodies included.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry;
use bytes::Bytes;
use clap::Parser;
use cpu_time::ProcessTime;
use edgetap::aws::{Network, sdk_config};
use edgetap::bridge::Bridge;
use edgetap::config::{BridgeConfig, Config, CredentialsConfig, Variables};
use edgetap::credentials::CredentialsSource;
use edgetap::invocation::{Context, Function};
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::EDGE_PATH;
use edgetap::pipeline::{Batches, Rules};
use edgetap::retry::Backoff;
use edgetap::source::S3;
use edgetap::telemetry;
use edgetap::time::Deadline;
use edgetap::work_queue::WorkQueue;
use edgetap_benches::objects::{self, BUCKET, Object};
use edgetap_benches::peak_kib;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH, RANGE};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

#[derive(Parser)]
#[command(about = "Compare the handler with clients that do less, on small objects")]
struct Args {
    /// URL of `loopback`.
    #[arg(long)]
    server: String,
    #[arg(long, default_value_t = 1000)]
    objects: usize,
    #[arg(long, default_value_t = 100)]
    rows: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Wrap each object in an SQS message. Every client then also sends what the handler sends to
    /// SQS: it holds the messages of an event, and deletes each but the last when it is done.
    #[arg(long)]
    sqs: bool,
    /// Messages of an event: objects that every client delivers side by side.
    #[arg(long, default_value_t = 1, value_parser = 1..=20, requires = "sqs")]
    messages: i64,
    /// Use the S3 of the SDK's settings: upload the objects first, and leave out the unsigned
    /// client.
    #[arg(long)]
    put: bool,
    /// Run only this client, for a profiler.
    #[arg(long, value_parser = CLIENTS)]
    only: Option<String>,
}

const CLIENTS: [&str; 4] = ["requests", "minimal", "reading", "handler"];
/// The clients that send bodies which were made in advance.
const PREPARED: [&str; 2] = ["requests", "minimal"];
/// The range of the function's first GET.
const FIRST_RANGE: &str = "bytes=0-4194303";
const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:work";
const QUEUE_URL: &str = "https://sqs.us-east-1.amazonaws.com/123456789012/work";
/// Messages of a batch request to SQS.
const MOST_ENTRIES: usize = 10;
/// Seconds for which a message is held.
const HOLD: i32 = 330;

struct Bench {
    server: String,
    s3: aws_sdk_s3::Client,
    queue: aws_sdk_sqs::Client,
    http: Client<HttpConnector, Full<Bytes>>,
    sqs: bool,
    messages: usize,
    objects: Vec<Object>,
    /// The request body of each object, if a client needs it; else empty.
    bodies: Vec<Bytes>,
    /// The size of each body in bytes.
    sizes: Vec<usize>,
    rules: Arc<Rules>,
    function: Function,
}

// The runtime of the function.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args {
        server,
        objects,
        rows,
        rounds,
        sqs,
        messages,
        put,
        only,
    } = Args::parse();
    let sdk = sdk_config(Network::default()).await?;
    let (s3, queue) = (
        aws_sdk_s3::Client::new(&sdk),
        aws_sdk_sqs::Client::new(&sdk),
    );
    let (function, rules) = function().await?;
    let mut objects = objects::make(objects, rows)?;
    if put {
        put_all(&s3, &mut objects).await?;
    }
    let is_prepared = only.as_deref().is_none_or(|only| PREPARED.contains(&only));
    let (mut bodies, mut sizes) = (Vec::new(), Vec::new());
    for object in &objects {
        let body = body(object, &rules)?;
        sizes.push(body.len());
        bodies.push(if is_prepared { body } else { Bytes::new() });
    }
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http = Client::builder(TokioExecutor::new()).build(connector);
    let bench = Bench {
        server,
        s3,
        queue,
        http,
        sqs,
        messages: usize::try_from(messages)?,
        objects,
        bodies,
        sizes,
        rules,
        function,
    };
    let clients = CLIENTS[usize::from(put)..]
        .iter()
        .filter(|name| only.as_deref().is_none_or(|only| only == **name));
    ensure!(
        clients.clone().next().is_some(),
        "S3 would reject the bare requests: use --only with another client"
    );
    let (mut wall, mut cpu) = (json!({}), json!({}));
    for name in clients.clone() {
        bench.run(name, bench.objects.len().min(50)).await?; // connections, token
        (wall[*name], cpu[*name]) = (json!([]), json!([]));
    }
    for _ in 0..rounds {
        for name in clients.clone() {
            let (wall_took, cpu_took) = bench.run(name, bench.objects.len()).await?;
            for (figures, took) in [(&mut wall, wall_took), (&mut cpu, cpu_took)] {
                figures[*name]
                    .as_array_mut()
                    .context("a list")?
                    .push(took.as_secs_f64().into());
            }
        }
    }
    println!(
        "{}",
        json!({ "objects": bench.objects.len(), "rows": rows, "wall": wall, "cpu": cpu, "peak_kib": peak_kib() })
    );
    Ok(())
}

/// Sets up the function as `bootstrap` does. Its log lines are formatted and discarded.
async fn function() -> anyhow::Result<(Function, Arc<Rules>)> {
    tracing::subscriber::set_global_default(telemetry::json(tracing::Level::INFO, io::sink))?;
    let config = Config::read(&Variables::from_environment())?;
    let sdk = sdk_config(Network::default()).await?;
    let BridgeConfig {
        endpoints,
        credentials,
        concurrency,
    } = config.bridge;
    let credentials = match credentials {
        CredentialsConfig::Given(credentials) => CredentialsSource::Variables(credentials),
        CredentialsConfig::Arn(arn) => CredentialsSource::secrets_manager(&sdk, arn),
    };
    let (backoff, rules) = (Backoff::default(), Arc::new(config.rules));
    let function = Function::new(
        S3::new(&sdk, backoff),
        rules.clone(),
        Bridge::new(endpoints, credentials, backoff, concurrency)?,
        WorkQueue::new(&sdk),
        config.retry_for,
    );
    Ok((function, rules))
}

/// Uploads the objects to S3, which returns an `ETag` for each.
async fn put_all(s3: &aws_sdk_s3::Client, objects: &mut [Object]) -> anyhow::Result<()> {
    s3.create_bucket().bucket(BUCKET).send().await?;
    for Object { key, etag, gzip } in objects {
        let put = s3
            .put_object()
            .bucket(BUCKET)
            .key(key.as_str())
            .body(gzip.clone().into())
            .send()
            .await?;
        *etag = put.e_tag.context("S3 returned no ETag")?;
    }
    Ok(())
}

fn receipt_handle(number: usize) -> String {
    format!("bench-{number}")
}

fn job(object: &Object) -> Job {
    Job::all(ObjectRef {
        etag: Some(object.etag.trim_matches('"').to_owned()),
        ..ObjectRef::in_s3(BUCKET, &object.key)
    })
}

/// The body of the only batch of a small object.
fn body(object: &Object, rules: &Arc<Rules>) -> anyhow::Result<Bytes> {
    let mut batches = Batches::new(
        &job(object),
        io::Cursor::new(object.gzip.clone()),
        rules.clone(),
    );
    let body = batches
        .next()
        .context("an object has no transactions")??
        .body;
    ensure!(batches.next().is_none(), "a small object is one batch");
    Ok(body)
}

impl Bench {
    /// Runs a client once through `objects` objects. Returns wall and CPU time, and checks what the
    /// server received.
    async fn run(&self, client: &str, objects: usize) -> anyhow::Result<(Duration, Duration)> {
        let events: Vec<_> = self.objects[..objects]
            .chunks(self.messages)
            .map(|objects| self.event(objects))
            .collect();
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        match client {
            "handler" => self.handle(events).await?,
            _ => self.deliver(objects, client).await?,
        }
        let took = (wall.elapsed(), cpu.elapsed());
        let told = self
            .send(Request::get(format!("{}/posts", self.server)).body(Full::default())?)
            .await?;
        let posts: Vec<(f64, f64, usize)> = serde_json::from_slice(&told)?;
        let posted = posts.iter().map(|(_, _, bytes)| bytes).sum::<usize>();
        let due = self.sizes[..objects].iter().sum::<usize>();
        ensure!(
            posts.len() == objects && posted == due,
            "{client}: {} requests with {posted} bytes, expected {objects} with {due}",
            posts.len()
        );
        Ok(took)
    }

    /// An S3 event, or an event with an SQS message per object.
    fn event(&self, objects: &[Object]) -> Value {
        let notification = |object: &Object| {
            let entity = json!({ "bucket": { "name": BUCKET }, "object": { "key": object.key, "size": object.gzip.len(), "eTag": object.etag.trim_matches('"') } });
            json!({ "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entity })
        };
        if !self.sqs {
            return json!({ "Records": objects.iter().map(notification).collect::<Vec<_>>() });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis().to_string();
        let attributes = json!({ "ApproximateReceiveCount": "1", "SentTimestamp": now, "ApproximateFirstReceiveTimestamp": now });
        let messages = objects.iter().enumerate().map(|(number, object)| {
            let body = json!({ "Records": [notification(object)] }).to_string();
            json!({ "eventSource": "aws:sqs", "eventSourceARN": QUEUE, "messageId": number.to_string(), "receiptHandle": receipt_handle(number), "attributes": attributes, "body": body })
        });
        json!({ "Records": messages.collect::<Vec<_>>() })
    }

    async fn handle(&self, events: Vec<Value>) -> anyhow::Result<()> {
        for event in events {
            let context = Context {
                deadline: Deadline::after(Duration::from_secs(290)),
                trace: None,
                function: "bench".to_owned(),
            };
            let response = Box::pin(self.function.handle(event, &context)).await?;
            ensure!(
                response["batchItemFailures"]
                    .as_array()
                    .is_none_or(Vec::is_empty),
                "the handler failed: {response}"
            );
        }
        Ok(())
    }

    /// Delivers as one of the other clients.
    async fn deliver(&self, objects: usize, client: &str) -> anyhow::Result<()> {
        let signed = client != "requests";
        let numbers: Vec<_> = (0..objects).collect();
        for event in numbers.chunks(self.messages) {
            if self.sqs {
                self.hold(event, signed).await?;
            }
            let unfinished = Cell::new(event.len());
            let deliveries = event.iter().map(async |&number| {
                self.deliver_object(number, client).await?;
                unfinished.set(unfinished.get() - 1);
                if self.sqs && unfinished.get() > 0 {
                    self.delete(number, signed).await?;
                }
                anyhow::Ok(())
            });
            try_join_all(deliveries).await?;
        }
        Ok(())
    }

    async fn deliver_object(&self, number: usize, client: &str) -> anyhow::Result<()> {
        let object = &self.objects[number];
        let got = self.get(object, client != "requests").await?;
        if client != "reading" {
            return self.post(self.bodies[number].clone()).await;
        }
        for batch in Batches::new(&job(object), io::Cursor::new(got), self.rules.clone()) {
            self.post(batch?.body).await?;
        }
        Ok(())
    }

    /// Sets the visibility timeout of the messages of an event.
    async fn hold(&self, event: &[usize], signed: bool) -> anyhow::Result<()> {
        for event in event.chunks(MOST_ENTRIES) {
            if signed {
                let entries = event.iter().map(|number| {
                    ChangeMessageVisibilityBatchRequestEntry::builder()
                        .id(number.to_string())
                        .receipt_handle(receipt_handle(*number))
                        .visibility_timeout(HOLD)
                        .build()
                });
                let hold = self.queue.change_message_visibility_batch();
                hold.queue_url(QUEUE_URL)
                    .set_entries(Some(entries.collect::<Result<_, _>>()?))
                    .send()
                    .await?;
            } else {
                let entries = event.iter().map(|number| json!({ "Id": number.to_string(), "ReceiptHandle": receipt_handle(*number), "VisibilityTimeout": HOLD }));
                let call = json!({ "QueueUrl": QUEUE_URL, "Entries": entries.collect::<Vec<_>>() });
                self.call_sqs("ChangeMessageVisibilityBatch", &call).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, number: usize, signed: bool) -> anyhow::Result<()> {
        if signed {
            let delete = self.queue.delete_message().queue_url(QUEUE_URL);
            delete.receipt_handle(receipt_handle(number)).send().await?;
            return Ok(());
        }
        let call = json!({ "QueueUrl": QUEUE_URL, "ReceiptHandle": receipt_handle(number) });
        self.call_sqs("DeleteMessage", &call).await
    }

    /// Sends what the SDK would send to SQS, unsigned.
    async fn call_sqs(&self, action: &str, call: &Value) -> anyhow::Result<()> {
        let request = Request::post(&self.server)
            .header(CONTENT_TYPE, "application/x-amz-json-1.0")
            .header("X-Amz-Target", format!("AmazonSQS.{action}"));
        self.send(request.body(call.to_string().into())?).await?;
        Ok(())
    }

    async fn get(&self, object: &Object, signed: bool) -> anyhow::Result<Bytes> {
        if signed {
            let get = self
                .s3
                .get_object()
                .bucket(BUCKET)
                .key(&object.key)
                .range(FIRST_RANGE)
                .if_match(&object.etag);
            return Ok(get.send().await?.body.collect().await?.into_bytes());
        }
        let get = Request::get(format!("{}/{BUCKET}/{}", self.server, object.key))
            .header(RANGE, FIRST_RANGE)
            .header(IF_MATCH, &object.etag);
        self.send(get.body(Full::default())?).await
    }

    async fn post(&self, body: Bytes) -> anyhow::Result<()> {
        let post = Request::post(format!("{}{EDGE_PATH}", self.server))
            .header(CONTENT_TYPE, "application/json");
        let post = post
            .header(AUTHORIZATION, "Bearer bench")
            .header("Idempotency-Key", "bench");
        self.send(post.body(body.into())?).await.map(|_| ())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let response = self.http.request(request).await?;
        ensure!(response.status().is_success(), "{}", response.status());
        Ok(response.into_body().collect().await?.to_bytes())
    }
}

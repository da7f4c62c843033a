//! Small objects through the function's own handler, made as `bootstrap` makes it, against a minimal client that makes the same GETs
//! and POSTs, to the same server (`loopback`), one object after the other.
//!
//! Three contestants, in turns: the *minimal client* (hyper's: no signing, no retries, and the bodies were made before); the same with
//! the *pipeline* between GET and POST, as plainly as that can be written; and the *handler*. What lies between the first two is the
//! work itself, what lies between the last two is what the function adds: signing, deadlines, threads, log lines.
//!
//! `small_objects --server http://127.0.0.1:PORT`, with the function's settings in the environment. Prints seconds of wall time and of
//! CPU (of this process, all of its threads), a figure for each round.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Parser;
use cpu_time::ProcessTime;
use edgetap::aws::sdk_config;
use edgetap::bridge::Bridge;
use edgetap::config::{BridgeConfig, Config, SecretConfig, Variables};
use edgetap::invocation::{Context, Function};
use edgetap::local_bridge::EDGE_PATH;
use edgetap::pipeline::{Batches, Rules};
use edgetap::retry::{Backoff, Clock, Deadline};
use edgetap::secret::SecretSource;
use edgetap::source::S3;
use edgetap::telemetry;
use edgetap::work::{ObjectRef, Work};
use edgetap::work_queue::WorkQueue;
use edgetap_benches::objects::{self, BUCKET, ETAG, Object};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH, RANGE};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

#[derive(Parser)]
#[command(about = "Small objects through the handler, against a minimal client")]
struct Args {
    /// Where `loopback` listens.
    #[arg(long)]
    server: String,
    #[arg(long, default_value_t = 1000)]
    objects: usize,
    #[arg(long, default_value_t = 100)]
    rows: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Each object comes in a message of SQS, whose visibility is set: one more call, which the other contestants make too.
    #[arg(long)]
    sqs: bool,
    /// Only this contestant, to look at it with a profiler.
    #[arg(long)]
    only: Option<String>,
}

const CONTESTANTS: [&str; 3] = ["minimal", "pipeline", "handler"];
const QUEUE: &str = "arn:aws:sqs:us-east-1:123456789012:work";
/// What the SDK says to SQS has about so many bytes.
const SQS_CALL: &str =
    r#"{"QueueUrl":"https://sqs.us-east-1.amazonaws.com/123456789012/work","ReceiptHandle":"bench","VisibilityTimeout":330}"#;

struct Bench {
    server: String,
    http: Client<HttpConnector, Full<Bytes>>,
    sqs: bool,
    objects: Vec<Object>,
    /// What is posted of each object.
    bodies: Vec<Bytes>,
    rules: Arc<Rules>,
    function: Function,
}

// As the function runs.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args { server, objects, rows, rounds, sqs, only } = Args::parse();
    let (function, rules) = function().await?;
    let objects = objects::make(objects, rows)?;
    let bodies = objects.iter().map(|object| body(object, &rules)).collect::<Result<_, _>>()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http = Client::builder(TokioExecutor::new()).build(connector);
    let bench = Bench { server, http, sqs, objects, bodies, rules, function };
    let contestants = CONTESTANTS.iter().filter(|name| only.as_deref().is_none_or(|only| only == **name));
    let (mut wall, mut cpu) = (json!({}), json!({}));
    for name in contestants.clone() {
        bench.run(name, bench.objects.len().min(50)).await?; // connections, token
        (wall[*name], cpu[*name]) = (json!([]), json!([]));
    }
    for _ in 0..rounds {
        for name in contestants.clone() {
            let (wall_took, cpu_took) = bench.run(name, bench.objects.len()).await?;
            for (figures, took) in [(&mut wall, wall_took), (&mut cpu, cpu_took)] {
                figures[*name].as_array_mut().context("a list")?.push(took.as_secs_f64().into());
            }
        }
    }
    println!("{}", json!({ "objects": bench.objects.len(), "rows": rows, "wall": wall, "cpu": cpu }));
    Ok(())
}

/// As `bootstrap` makes it, with its log lines made and thrown away.
async fn function() -> anyhow::Result<(Function, Arc<Rules>)> {
    tracing::subscriber::set_global_default(telemetry::json(tracing::Level::INFO, io::sink))?;
    let config = Config::read(&Variables::from_environment()?)?;
    let sdk = sdk_config().await;
    let BridgeConfig { endpoints, secret, concurrency } = config.bridge;
    let secret = match secret {
        SecretConfig::Given(credentials) => SecretSource::Variables(credentials),
        SecretConfig::Arn(arn) => SecretSource::secrets_manager(&sdk, arn),
    };
    let (backoff, rules) = (Backoff::default(), Arc::new(config.rules));
    let function = Function {
        s3: S3::new(&sdk, backoff),
        rules: rules.clone(),
        bridge: Bridge::new(endpoints, secret, backoff)?,
        concurrency,
        work_queue: WorkQueue::new(&sdk),
        retry_for: config.retry_for,
        clock: Clock::default(),
    };
    Ok((function, rules))
}

fn work(object: &Object) -> Work {
    Work::all(ObjectRef { bucket: BUCKET.to_owned(), key: object.key.clone(), etag: Some(ETAG.trim_matches('"').to_owned()) })
}

/// The one batch of a small object.
fn body(object: &Object, rules: &Arc<Rules>) -> anyhow::Result<Bytes> {
    let mut batches = Batches::new(&work(object), io::Cursor::new(object.gzip.clone()), rules.clone());
    let body = batches.next().context("an object without a transaction")??.body;
    ensure!(batches.next().is_none(), "a small object is one batch");
    Ok(body)
}

impl Bench {
    /// One contestant once through so many objects: wall time and CPU. The server must have got the same of each.
    async fn run(&self, contestant: &str, objects: usize) -> anyhow::Result<(Duration, Duration)> {
        let events: Vec<_> = self.objects[..objects].iter().map(|object| self.event(object)).collect();
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        match contestant {
            "handler" => self.handle(events).await?,
            _ => self.deliver(objects, contestant == "pipeline").await?,
        }
        let took = (wall.elapsed(), cpu.elapsed());
        let told = self.send(Request::get(format!("{}/posts", self.server)).body(Full::default())?).await?;
        let posts: Vec<(f64, f64, usize)> = serde_json::from_slice(&told)?;
        let posted = posts.iter().map(|(_, _, bytes)| bytes).sum::<usize>();
        let due = self.bodies[..objects].iter().map(Bytes::len).sum::<usize>();
        ensure!(posts.len() == objects && posted == due, "{contestant}: {} posts of {posted} bytes, not {objects} of {due}", posts.len());
        Ok(took)
    }

    fn event(&self, object: &Object) -> Value {
        let entity = json!({ "bucket": { "name": BUCKET }, "object": { "key": object.key, "size": object.gzip.len(), "eTag": ETAG.trim_matches('"') } });
        let event =
            json!({ "Records": [{ "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entity }] });
        if !self.sqs {
            return event;
        }
        let attributes = json!({ "ApproximateReceiveCount": "1", "SentTimestamp": "1763150400000" });
        json!({ "Records": [{ "eventSource": "aws:sqs", "eventSourceARN": QUEUE, "messageId": "1", "receiptHandle": "bench", "attributes": attributes, "body": event.to_string() }] })
    }

    async fn handle(&self, events: Vec<Value>) -> anyhow::Result<()> {
        for event in events {
            let context = Context { deadline: Deadline::after(Duration::from_secs(290)), trace: None, function: "bench".to_owned() };
            let answer = Box::pin(self.function.handle(event, &context)).await?;
            ensure!(answer["batchItemFailures"].as_array().is_none_or(Vec::is_empty), "the handler fails: {answer}");
        }
        Ok(())
    }

    /// The minimal client, with the pipeline between or with the bodies made before.
    async fn deliver(&self, objects: usize, with_pipeline: bool) -> anyhow::Result<()> {
        for (object, body) in self.objects[..objects].iter().zip(&self.bodies) {
            if self.sqs {
                self.send(Request::post(&self.server).body(SQS_CALL.into())?).await?;
            }
            let url = format!("{}/{BUCKET}/{}", self.server, object.key);
            let get = Request::get(url).header(RANGE, "bytes=0-4194303").header(IF_MATCH, ETAG);
            let got = self.send(get.body(Full::default())?).await?;
            if with_pipeline {
                for batch in Batches::new(&work(object), io::Cursor::new(got), self.rules.clone()) {
                    self.post(batch?.body).await?;
                }
            } else {
                self.post(body.clone()).await?;
            }
        }
        Ok(())
    }

    async fn post(&self, body: Bytes) -> anyhow::Result<()> {
        let post = Request::post(format!("{}{EDGE_PATH}", self.server)).header(CONTENT_TYPE, "application/json");
        let post = post.header(AUTHORIZATION, "Bearer bench").header("Idempotency-Key", "bench");
        self.send(post.body(body.into())?).await.map(|_| ())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let answer = self.http.request(request).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(answer.into_body().collect().await?.to_bytes())
    }
}

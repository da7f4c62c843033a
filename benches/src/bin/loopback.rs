//! The servers that the benchmarks talk to, on one loopback port: S3 with small objects or a log,
//! SQS, a token endpoint, a bridge, and Lambda's Runtime API. They run in a process of their own, so that their CPU time
//! is not counted. They respond at once, except that the bridge waits for `--delay`, S3 waits for
//! `--s3-delay`, and the log is as slow as in S3. They check nothing.
//!
//! The first line of output is the port. `GET /posts` returns the requests since the last call: the
//! times of arrival and response in seconds, and the bytes of the body.
//!
//! The Runtime API gives each connection `--events` S3 events, one per object. Then it closes the
//! connection, which ends a function.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Parser;
use edgetap::local_bridge::{EDGE_PATH, TOKEN_PATH};
use edgetap_benches::objects::{self, BUCKET, ETAG};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG as ETAG_HEADER, RANGE};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until};

#[derive(Parser)]
#[command(about = "S3, SQS, token endpoint and bridge on loopback")]
struct Args {
    /// Number of objects in the bucket.
    #[arg(long, default_value_t = 0)]
    objects: usize,
    /// Rows of each object.
    #[arg(long, default_value_t = 100)]
    rows: usize,
    /// File to serve as an object, with 30 ms per GET and 625 Mbit/s.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Latency of the bridge in milliseconds, from the last byte of a request.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Latency of S3 in milliseconds, for the objects of the bucket.
    #[arg(long, default_value_t = 0)]
    s3_delay: u64,
    /// Events that the Runtime API gives.
    #[arg(long, default_value_t = 0)]
    events: usize,
}

/// Lambda's Runtime API.
const NEXT_EVENT: &str = "/2018-06-01/runtime/invocation/next";
const RESPONSE: &str = "/2018-06-01/runtime/invocation/bench/response";
/// Time to the first byte of the log, and its rate after that.
const FIRST_BYTE: Duration = Duration::from_millis(30);
const BYTES_PER_SECOND: u32 = 625_000_000 / 8;
/// The target of the SQS call that holds the messages of an event.
const HOLD_BATCH: &str = "AmazonSQS.ChangeMessageVisibilityBatch";
/// The key of the log, without its extension.
const LOG_KEY: &str = "E27FO14I29XXXX.2026-11-14-20.d740d76b";

struct State {
    objects: BTreeMap<String, Bytes>,
    log: Option<Log>,
    delay: Duration,
    s3_delay: Duration,
    events: usize,
    started: Instant,
    posts: Mutex<Vec<Post>>,
}

struct Log {
    key: String,
    bytes: Bytes,
}

/// Times in seconds since the start, and the bytes of the body.
struct Post {
    arrived: f64,
    responded: f64,
    bytes: usize,
}

// One thread, because the client needs the other core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args {
        objects,
        rows,
        log,
        delay,
        s3_delay,
        events,
    } = Args::parse();
    let log = log.map(|path| {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        anyhow::Ok(Log {
            key: format!("{LOG_KEY}.{extension}"),
            bytes: std::fs::read(&path)?.into(),
        })
    });
    let objects = objects::make(objects, rows)?
        .into_iter()
        .map(|object| (format!("/{BUCKET}/{}", object.key), object.gzip))
        .collect();
    let state = Arc::new(State {
        objects,
        log: log.transpose()?,
        delay: Duration::from_millis(delay),
        s3_delay: Duration::from_millis(s3_delay),
        events,
        started: Instant::now(),
        posts: Mutex::default(),
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = state.clone();
        tokio::spawn(async move {
            let polls = AtomicUsize::new(0);
            let service = service_fn(|request: Request<Incoming>| {
                let is_poll = request.uri().path() == NEXT_EVENT;
                let poll = is_poll.then(|| polls.fetch_add(1, Ordering::Relaxed));
                response(state.clone(), request, poll)
            });
            let ended = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = ended
                && polls.load(Ordering::Relaxed) <= events
            {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

async fn response(
    state: Arc<State>,
    request: Request<Incoming>,
    poll: Option<usize>,
) -> anyhow::Result<Response<Full<Bytes>>> {
    if let Some(number) = poll {
        return event(&state, number);
    }
    let (head, mut body) = request.into_parts();
    let action = head.headers.get("x-amz-target").cloned();
    let (mut bytes, mut sqs_call) = (0, Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let part = frame.data_ref().map_or(&b""[..], |part| part);
        bytes += part.len();
        if action.is_some() {
            sqs_call.extend_from_slice(part);
        }
    }
    let json = |text: String| {
        Response::builder()
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(text))
    };
    Ok(match (&head.method, head.uri.path()) {
        (&Method::POST, EDGE_PATH) => {
            let arrived = Instant::now();
            wait_until(arrived + state.delay).await;
            let since_start = |at: Instant| (at - state.started).as_secs_f64();
            let post = Post {
                arrived: since_start(arrived),
                responded: since_start(Instant::now()),
                bytes,
            };
            state
                .posts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(post);
            json(r#"{"status":"accepted"}"#.to_owned())
        }
        (&Method::GET, path) if path.trim_end_matches('/') == format!("/{BUCKET}") => {
            Response::builder().body(Full::from(listing(&state)))
        }
        (&Method::GET, path) if path.starts_with(&format!("/{BUCKET}/{LOG_KEY}.")) => {
            let log = state.log.as_ref();
            let whole = &log.context("the server was started without --log")?.bytes;
            let range = range_of(&head)?;
            let bytes = whole.slice(*range.start()..(*range.end() + 1).min(whole.len()));
            sleep(
                FIRST_BYTE
                    + Duration::from_secs(1) * u32::try_from(bytes.len())? / BYTES_PER_SECOND,
            )
            .await;
            part_of(whole.len(), *range.start(), bytes)
        }
        (&Method::GET, "/posts") => {
            let posts =
                std::mem::take(&mut *state.posts.lock().unwrap_or_else(PoisonError::into_inner));
            let posts = posts
                .iter()
                .map(|post| (post.arrived, post.responded, post.bytes));
            json(serde_json::to_string(&posts.collect::<Vec<_>>())?)
        }
        (&Method::POST, TOKEN_PATH) => {
            json(r#"{"access_token":"bench","token_type":"Bearer","expires_in":1800}"#.to_owned())
        }
        (&Method::POST, _) if action.is_some_and(|action| action == HOLD_BATCH) => {
            json(all_successful(&sqs_call)?)
        }
        (&Method::POST, RESPONSE) => {
            // A line tells the benchmark that the function succeeded.
            println!("responded");
            io::stdout().flush()?;
            Response::builder()
                .status(StatusCode::ACCEPTED)
                .body(Full::default())
        }
        // SQS: ChangeMessageVisibility, DeleteMessage, GetQueueAttributes.
        (&Method::POST, _) => json("{}".to_owned()),
        (_, path) => match state.objects.get(path) {
            // The objects are smaller than a range.
            Some(object) if head.headers.contains_key(RANGE) => {
                wait_until(Instant::now() + state.s3_delay).await;
                part_of(object.len(), 0, object.clone())
            }
            _ => Response::builder()
                .status(StatusCode::NOT_FOUND)
                .body(Full::default()),
        },
    }?)
}

/// An S3 event for the log, or for the object of this number. After the last one it is an error, which closes the
/// connection.
fn event(state: &State, number: usize) -> anyhow::Result<Response<Full<Bytes>>> {
    ensure!(number < state.events, "no more events");
    let mut entries = entries(state);
    let (key, size) = entries.nth(number).context("no such object")?;
    let entity = json!({ "bucket": { "name": BUCKET }, "object": { "key": key, "size": size, "eTag": ETAG.trim_matches('"') } });
    let record = json!({ "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entity });
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() + 300_000;
    let response = Response::builder()
        .header(CONTENT_TYPE, "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", "bench")
        .header("Lambda-Runtime-Deadline-Ms", deadline.to_string())
        .header(
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:us-east-1:123456789012:function:bench",
        );
    Ok(response.body(json!({ "Records": [record] }).to_string().into())?)
}

/// Waits, but not for a time that has passed: the timer may be a millisecond late.
async fn wait_until(time: Instant) {
    if time > Instant::now() {
        sleep_until(time).await;
    }
}

/// The response to a batch call of SQS with the entries of `call`.
fn all_successful(call: &[u8]) -> anyhow::Result<String> {
    let call: Value = serde_json::from_slice(call)?;
    let entries = call["Entries"].as_array().context("no entries")?;
    let ids: Vec<_> = entries
        .iter()
        .map(|entry| json!({ "Id": entry["Id"] }))
        .collect();
    Ok(json!({ "Successful": ids, "Failed": [] }).to_string())
}

/// The range that a request asks for.
fn range_of(head: &Parts) -> anyhow::Result<RangeInclusive<usize>> {
    let range = head
        .headers
        .get(RANGE)
        .context("a GET without a range")?
        .to_str()?;
    let (first, last) = range
        .trim_start_matches("bytes=")
        .split_once('-')
        .context("no range")?;
    Ok(first.parse()?..=last.parse()?)
}

/// A part of an object of `size` bytes.
fn part_of(size: usize, first: usize, bytes: Bytes) -> hyper::http::Result<Response<Full<Bytes>>> {
    Response::builder()
        .status(StatusCode::PARTIAL_CONTENT)
        .header(ETAG_HEADER, ETAG)
        .header(
            CONTENT_RANGE,
            format!("bytes {first}-{}/{size}", first + bytes.len() - 1),
        )
        .body(Full::from(bytes))
}

/// Key and size of the log, or of each object.
fn entries(state: &State) -> impl Iterator<Item = (&str, usize)> {
    let log = state
        .log
        .iter()
        .map(|log| (log.key.as_str(), log.bytes.len()));
    log.chain(state.objects.iter().map(|(path, object)| {
        let key = path.rsplit('/').next().unwrap_or_default();
        (key, object.len())
    }))
}

/// The bucket's listing (`ListObjectsV2`) in one page.
fn listing(state: &State) -> String {
    let entry = |(key, size)| format!("<Contents><Key>{key}</Key><Size>{size}</Size></Contents>");
    let contents: String = entries(state).map(entry).collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>")
}

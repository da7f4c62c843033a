//! `edgetap backfill` end to end: a bucket of forty days in moto, a queue of its own, and the real
//! function, which takes the messages of that queue only.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgetap::local_bridge::serve;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use crate::cloud::{Bucket, Queue, log_with_ids};
use crate::peers::{Peers, REGION, http, repository};
use crate::queue::{arrivals, once_each};
use crate::runtime_api::Outcome;
use crate::tap::{PATIENCE, PLENTY, Tap};

const IDS: [&str; 2] = ["E27FO14I29XXXX", "E1AAAAAAAAAAA1"];
const FOLDER: &str = "AWSLogs/123456789012/CloudFront";
/// A log of each distribution every two hours from here on.
const FIRST: &str = "2025-10-01T00:00:00Z";
const DAYS: i64 = 40;
const HOURS: i64 = 24 * DAYS;
const LOGS: usize = 1_000;
/// The window, in days and in hours from the first log: 528 of the logs.
const DAYS_WANTED: usize = 22;
const SINCE: i64 = 24 * 8;
const UNTIL: i64 = SINCE + 24 * 22;

fn time(hour: i64) -> Timestamp {
    let first: Timestamp = FIRST.parse().unwrap();
    first.checked_add(hour.hours()).unwrap()
}

fn key(id: &str, hour: i64, name: &str) -> String {
    let hour = time(hour).strftime("%Y-%m-%d-%H");
    format!("{FOLDER}/{id}.{hour}.{name}.gz")
}

/// A log: its key, its name, the number of its requests, and the hour in its key.
struct Log {
    key: String,
    name: String,
    requests: usize,
    hour: i64,
}

fn logs() -> Vec<Log> {
    let log = |number: usize| {
        let hour = i64::try_from(number / IDS.len()).unwrap() * 2 % HOURS;
        let id = IDS[number % IDS.len()];
        Log {
            key: key(id, hour, &format!("{number:04}")),
            name: format!("log{number:04}"),
            requests: 1 + number % 3,
            hour,
        }
    };
    (0..LOGS).map(log).collect()
}

/// A proxy in front of moto's SQS, which loses messages and deletions if requests overlap. It makes one
/// entry of every tenth batch fail, which it keeps from moto.
struct Sqs {
    url: String,
    server: AbortHandle,
}

impl Sqs {
    async fn start(moto: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let batches: &Mutex<u64> = Box::leak(Box::default());
        let moto: &str = moto.to_owned().leak();
        let client = http();
        let server = serve(listener, None, move |request| {
            forward(request, client.clone(), moto, batches)
        });
        Self { url, server }
    }
}

impl Drop for Sqs {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn forward(
    request: Request<Incoming>,
    client: reqwest::Client,
    moto: &str,
    batches: &Mutex<u64>,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut message: Value = serde_json::from_slice(&body)?;
    let mut batches = batches.lock().await;
    let mut kept = None;
    if head.headers["x-amz-target"] == "AmazonSQS.SendMessageBatch" {
        *batches += 1;
        let entries = message["Entries"].as_array_mut().unwrap();
        if *batches % 10 == 3 && entries.len() > 5 {
            kept = Some(entries.remove(5)["Id"].clone());
        }
    }
    let mut headers = head.headers;
    headers.remove("content-length");
    let sent = client
        .post(format!("{moto}{}", head.uri))
        .headers(headers)
        .body(message.to_string())
        .send()
        .await
        .map_err(io::Error::other)?;
    let status = sent.status();
    let body = sent.bytes().await.map_err(io::Error::other)?;
    let mut answer: Value = serde_json::from_slice(&body).unwrap_or(json!({}));
    if let Some(id) = kept {
        answer["Failed"] = json!([{"Id": id, "Code": "InternalError", "SenderFault": false}]);
    }
    let response = Response::builder().status(status);
    response
        .header("content-type", "application/x-amz-json-1.0")
        .body(Full::from(answer.to_string()))
        .map_err(io::Error::other)
}

/// Starts `edgetap backfill` with these words, which a shell reads.
fn start(peers: &Peers, sqs: &Sqs, words: &str) -> Child {
    let script = format!("exec {} {words}", env!("CARGO_BIN_EXE_edgetap"));
    Command::new("bash")
        .args(["-c", &script])
        .current_dir(repository())
        .env_clear()
        .envs([
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", REGION),
            ("AWS_ENDPOINT_URL_S3", &peers.aws),
            ("AWS_ENDPOINT_URL_SQS", &sqs.url),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the end of a command, and returns its exit status, stdout and stderr.
async fn end(child: Child) -> (Option<i32>, String, String) {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), stdout, stderr)
}

async fn until_sent(queue: &Queue, messages: usize) {
    let started = Instant::now();
    while (queue.depth().await.0 as usize) < messages {
        assert!(started.elapsed() < PATIENCE, "messages are missing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// proves: D1, D8
#[tokio::test]
async fn backfill_delivers_forty_days_once_beside_the_live_queue() {
    let peers = Peers::shared();
    let sqs = Sqs::start(&peers.aws).await;
    let url = sqs.url.clone();
    let tap = Tap::start(|variables| _ = variables.insert("AWS_ENDPOINT_URL_SQS", url)).await;
    let bucket = Bucket::create(&tap.peers, "forty-days").await;
    let logs = logs();
    let puts = stream::iter(&logs).map(async |log| {
        let bytes = log_with_ids(&log.name, log.requests);
        bucket.put(&log.key, bytes).await;
    });
    puts.buffer_unordered(16).collect::<Vec<()>>().await;
    let of_window = |name: &str| key(IDS[0], SINCE, name);
    bucket
        .put_archived(&of_window("archived"), log_with_ids("archived", 1))
        .await;
    bucket.put(&of_window("empty"), Vec::new()).await;
    bucket.put(&format!("{FOLDER}/"), Vec::new()).await;
    let live = Queue::create(&tap.peers, "forty-days-live").await;
    bucket.notify(&live).await;
    live.receive().await; // S3's test event
    let (queue, dead_letters) =
        Queue::create_with_dead_letters(&tap.peers, "forty-days-backfill").await;
    let queue = queue.through(&peers, &sqs.url).await;

    let place = format!("s3://forty-days/AWSLogs/ --queue {}", queue.url);
    let window = format!("--since {} --until {}", time(SINCE), time(UNTIL));
    let wanted: Vec<&Log> = logs
        .iter()
        .filter(|log| (SINCE..UNTIL).contains(&log.hour))
        .collect();
    let (status, stdout, stderr) = end(start(
        &peers,
        &sqs,
        &format!("backfill {place} {window} --dry-run --json"),
    ))
    .await;
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    let estimate = &serde_json::from_str::<Value>(&stdout).unwrap()["estimate"];
    assert_eq!(estimate["total"]["objects"], wanted.len());
    assert_eq!(estimate["not_sent"]["archived"], 1);
    assert_eq!(estimate["not_sent"]["empty"], 1);
    assert_eq!(
        estimate["days"].as_array().unwrap().len(),
        IDS.len() * DAYS_WANTED
    );
    assert_eq!(queue.depth().await, (0, 0), "a dry run sends nothing");

    // Ten seconds at this rate: enough for the signal to come in between.
    let slowly = start(
        &peers,
        &sqs,
        &format!("backfill {place} {window} --yes --rate 100"),
    );
    until_sent(&queue, 50).await;
    let pid = slowly.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let (status, _, stderr) = end(slowly).await;
    assert_eq!(status, Some(130), "{stderr}");
    let sent = queue.depth().await.0 as usize;
    assert!((50..wanted.len()).contains(&sent), "{sent} sent: {stderr}");
    let printed = stderr
        .lines()
        .find_map(|line| line.strip_prefix("  edgetap "));
    let printed = printed.unwrap();
    let rest = start(&peers, &sqs, &format!("{printed} --wait --look-every 300"));

    let mut delivered = 0;
    while delivered < wanted.len() {
        assert_eq!(live.depth().await, (0, 0), "new logs never wait");
        let messages = queue.borrow(10).await;
        let outcome = tap.invoke(queue.event(&messages), PLENTY).await;
        assert_eq!(outcome, Outcome::Response(json!({"batchItemFailures": []})));
        delivered += messages.len();
        queue.delete_batch(&messages).await; // the function has deleted all but the last one
    }
    let (status, _, stderr) = end(rest).await;
    assert_eq!(status, Some(0), "{stderr}");
    assert!(
        stderr.contains("0 dead letters, none of them new"),
        "{stderr}"
    );
    assert_eq!(
        (queue.depth().await, dead_letters.depth().await),
        ((0, 0), (0, 0))
    );
    assert_eq!(delivered, wanted.len(), "each object is one message");
    let expected = wanted.iter().map(|log| (log.name.clone(), log.requests));
    let expected: BTreeMap<String, usize> = once_each(expected);
    assert_eq!(arrivals(&tap), expected, "each transaction once");
    tap.stop();
}

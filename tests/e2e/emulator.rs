//! The function in AWS's Runtime Interface Emulator, which starts it, sets its deadlines and kills
//! it when they pass.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use edgetap::local_bridge::Options;
use serde_json::Value;

use crate::cloud::{Bucket, Queue, log_with_ids};
use crate::peers::{bootstrap, emulator, http};
use crate::queue::{Polled, arrivals, once_each, poll, put, slow_bridge, small_batches, ten_logs};
use crate::runtime_api::{GRACE, LAMBDA, Outcome, Process};
use crate::tap::{PATIENCE, PLENTY, Tap, Variables};

pub(crate) struct Emulator {
    url: String,
    timeout_ms: i64,
}

impl Emulator {
    /// Starts the emulator. It starts the function with the first invocation. `timeout_ms` is the
    /// function's timeout, which Lambda configures in whole seconds.
    pub(crate) async fn start(variables: &Variables, timeout_ms: i64) -> (Self, Process) {
        assert_eq!(timeout_ms % 1000, 0, "whole seconds");
        let (invocations, runtime_api) = (free_port(), free_port());
        let mut process = Process::start(
            Command::new(emulator())
                .args(["--log-level", "error"])
                .arg(format!(
                    "--runtime-interface-emulator-address=127.0.0.1:{invocations}"
                ))
                .arg(format!("--runtime-api-address=127.0.0.1:{runtime_api}"))
                .arg(bootstrap())
                .env_clear()
                .envs(LAMBDA)
                .env(
                    "AWS_LAMBDA_FUNCTION_TIMEOUT",
                    (timeout_ms / 1000).to_string(),
                )
                .envs(variables),
        );
        let started = Instant::now();
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, invocations))
            .await
            .is_err()
        {
            assert!(
                process.has_ended().is_none() && started.elapsed() < PATIENCE,
                "the emulator does not listen: {:#?}",
                process.stop()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let url =
            format!("http://127.0.0.1:{invocations}/2015-03-31/functions/function/invocations");
        (Self { url, timeout_ms }, process)
    }

    /// Invokes the function. `time_left_ms` must be its timeout.
    pub(crate) async fn invoke(&self, event: &Value, time_left_ms: i64) -> Outcome {
        assert_eq!(time_left_ms, self.timeout_ms, "the function's timeout");
        let patience = Duration::from_millis(time_left_ms.try_into().unwrap()) + GRACE;
        let response = http()
            .post(&self.url)
            .timeout(patience)
            .body(event.to_string())
            .send()
            .await
            .unwrap();
        let (status, body) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{status}: {body}");
        // A killed function has this text as its response, and no other status.
        if body.starts_with("Task timed out") {
            return Outcome::TimedOut;
        }
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        match body.get("errorType") {
            Some(_) => Outcome::Error(body),
            None => Outcome::Response(body),
        }
    }
}

/// Ends the emulator and, through it, the function.
pub(crate) fn end(process: &mut Process) {
    process.signal("TERM");
    process.finish(PATIENCE);
}

/// Whether the emulator wrote this line, not the function.
pub(crate) fn is_own_line(line: &str) -> bool {
    ["START", "END", "REPORT"]
        .iter()
        .any(|word| line.starts_with(&format!("{word} RequestId: ")))
}

/// Returns a port for a peer that cannot choose one: below the range of ephemeral ports, and another
/// one each time.
fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (start + TAKEN.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

// proves: D1, D2
#[tokio::test]
async fn ten_notifications_of_one_event_arrive() {
    let tap = Tap::in_emulator(PLENTY, Options::default(), small_batches).await;
    let bucket = Bucket::create(&tap.peers, "emulator").await;
    let queue = Queue::create(&tap.peers, "emulator").await;
    bucket.notify(&queue).await;
    let Polled { messages, failed } = poll(&tap, &queue, PLENTY).await;
    assert!(messages[0].body.contains("s3:TestEvent"));
    assert_eq!(failed, [""; 0]);

    for (name, requests) in ten_logs() {
        bucket.put(&name, log_with_ids(&name, requests)).await;
    }
    let Polled { messages, failed } = poll(&tap, &queue, PLENTY).await;
    assert_eq!((messages.len(), failed), (10, Vec::new()));
    assert_eq!(queue.depth().await, (0, 0));
    assert_eq!(arrivals(&tap), once_each(ten_logs()));
    let log = tap.stop();
    assert_eq!((log.at("ERROR").len(), log.reports().len()), (0, 10));
}

// proves: D8, D13
#[tokio::test]
async fn rows_left_at_the_deadline_are_requeued_before_the_kill() {
    const TIMEOUT: i64 = 13_000; // 10 s of them are the reserve; the bridge takes 6 s
    let tap = Tap::in_emulator(TIMEOUT, slow_bridge(), small_batches).await;
    let bucket = Bucket::create(&tap.peers, "deadline").await;
    let (queue, dead_letters) = Queue::create_with_dead_letters(&tap.peers, "deadline").await;
    put(&bucket, &queue, &ten_logs()).await;

    let mut requeued = 0;
    while queue.depth().await != (0, 0) {
        // `poll` fails if the emulator kills the function.
        let Polled { messages, .. } = poll(&tap, &queue, TIMEOUT).await;
        requeued += messages
            .iter()
            .filter(|message| message.body.contains("\"edgetap\""))
            .count();
        queue.reveal(&messages).await;
    }
    assert!(requeued > 0);
    assert_eq!(dead_letters.depth().await, (0, 0));
    assert_eq!(arrivals(&tap), once_each(ten_logs()));
    tap.stop();
}

// proves: D5
#[tokio::test]
async fn refused_settings_fail_every_message_in_the_emulator() {
    let tap = Tap::in_emulator(PLENTY, Options::default(), |variables| {
        variables.insert(
            "BRIDGE_EDGE_ENDPOINT",
            "http://bridge.example.com".to_owned(),
        );
    })
    .await;
    let bucket = Bucket::create(&tap.peers, "refused").await;
    let body = bucket.notification("log.gz").to_string();
    // The second invocation finds the same process.
    for _ in 0..2 {
        assert_eq!(
            tap.deliver(&[("m1", &body), ("m2", &body)]).await,
            ["m1", "m2"]
        );
    }
    let log = tap.stop();
    assert_eq!(log.at("ERROR").len(), 2, "{log:#?}");
}

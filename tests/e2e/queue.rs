//! Retries with moto's SQS, ten messages an event: a bridge outage, a killed function, a deadline
//! shorter than the object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgetap::local_bridge::{Options, Reaction};
use serde_json::Value;

use crate::cloud::{Bucket, Message, Queue, log_with_ids};
use crate::runtime_api::{Outcome, TRACE};
use crate::tap::{PATIENCE, PLENTY, Tap, Variables, failures};

/// Counts the arrivals of each transaction.
pub(crate) fn arrivals(tap: &Tap) -> BTreeMap<String, usize> {
    let received = tap.bridge.received();
    let ids = received
        .iter()
        .flat_map(|batch| &batch.transactions)
        .map(|transaction| transaction.transaction_id.clone());
    ids.fold(BTreeMap::new(), |mut counts, id| {
        *counts.entry(id).or_default() += 1;
        counts
    })
}

/// Returns the arrivals if each transaction of these logs (name and number of requests) arrives
/// once.
pub(crate) fn once_each(
    logs: impl IntoIterator<Item = (String, usize)>,
) -> BTreeMap<String, usize> {
    logs.into_iter()
        .flat_map(|(name, requests)| {
            (0..requests).map(move |number| (format!("{name}-{number}"), 1))
        })
        .collect()
}

pub(crate) fn small_batches(variables: &mut Variables) {
    variables.insert("BATCH_MAX_TRANSACTIONS", "5".to_owned());
    variables.insert("BRIDGE_CONCURRENCY", "1".to_owned());
}

/// A bridge that takes 0.3 s for a batch.
pub(crate) fn slow_bridge() -> Options {
    Options {
        delay: Duration::from_millis(300),
        ..Options::default()
    }
}

/// Returns ten logs by name and number of requests; the last one is large.
pub(crate) fn ten_logs() -> Vec<(String, usize)> {
    let small = (0..9).map(|number| (format!("small{number}"), 5));
    small.chain([("large".to_owned(), 60)]).collect()
}

/// Puts each log into the bucket and its notification into the queue.
pub(crate) async fn put(bucket: &Bucket, queue: &Queue, logs: &[(String, usize)]) {
    for (name, requests) in logs {
        bucket.put(name, log_with_ids(name, *requests)).await;
        queue.send(&bucket.notification(name)).await;
    }
}

/// The messages of an event, and the IDs of those that failed.
pub(crate) struct Polled {
    pub(crate) messages: Vec<Message>,
    pub(crate) failed: Vec<String>,
}

/// Acts as the event source mapping once: receives up to ten messages, invokes the function with
/// all of them, and deletes those that did not fail.
pub(crate) async fn poll(tap: &Tap, queue: &Queue, time_left_ms: i64) -> Polled {
    let messages = queue.borrow(10).await;
    let outcome = tap.invoke(queue.event(&messages), time_left_ms).await;
    let Outcome::Response(response) = outcome else {
        panic!("{outcome:?}")
    };
    let failed = failures(&response);
    for message in &messages {
        if !failed.contains(&message.id) {
            queue.delete(message).await;
        }
    }
    Polled { messages, failed }
}

// proves: D9, D14
#[tokio::test]
async fn bridge_outage_of_three_attempts_loses_nothing() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = down.clone();
    let react = move |_: edgetap::local_bridge::Arrival<'_>| {
        if is_down.load(Ordering::Relaxed) {
            Reaction::status(503)
        } else {
            Reaction::Normal
        }
    };
    let options = Options {
        react: Arc::new(react),
        ..Options::default()
    };
    let tap = Tap::with_bridge(options, |_| {}).await;
    let bucket = Bucket::create(&tap.peers, "down-for-a-while").await;
    let (queue, dead_letters) =
        Queue::create_with_dead_letters(&tap.peers, "down-for-a-while").await;
    put(&bucket, &queue, &ten_logs()).await;
    for attempt in 1..=3 {
        // 10 s of them are the reserve.
        let Polled { messages, failed } = poll(&tap, &queue, 13_000).await;
        assert_eq!((messages.len(), failed.len()), (10, 10));
        for message in &messages {
            assert_eq!(
                message.attributes["ApproximateReceiveCount"],
                attempt.to_string()
            );
        }
        queue.reveal(&messages).await;
        assert_eq!(queue.depth().await, (10, 0), "nothing else was sent");
    }
    down.store(false, Ordering::Relaxed);
    assert_eq!(poll(&tap, &queue, PLENTY).await.failed, [""; 0]);
    assert_eq!(
        (queue.depth().await, dead_letters.depth().await),
        ((0, 0), (0, 0))
    );
    assert_eq!(arrivals(&tap), once_each(ten_logs()));
    let log = tap.stop();
    let delayed = log
        .reports()
        .iter()
        .filter(|line| line["messages_delayed"] == 1)
        .count();
    // Messages that were not begun are not delayed.
    assert!(delayed >= 3, "{log:#?}");
}

// proves: D17
#[tokio::test]
async fn killed_function_delivers_after_redelivery() {
    let mut tap = Tap::with_bridge(slow_bridge(), small_batches).await;
    let bucket = Bucket::create(&tap.peers, "killed").await;
    let (queue, dead_letters) = Queue::create_with_dead_letters(&tap.peers, "killed").await;
    put(&bucket, &queue, &ten_logs()).await;
    let messages = queue.borrow(10).await;
    assert_eq!(messages.len(), 10);
    let six_batches = async {
        let started = Instant::now();
        while tap.bridge.received().len() < 6 {
            assert!(started.elapsed() < PATIENCE, "the bridge got nothing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        outcome = tap.invoke(queue.event(&messages), PLENTY) => panic!("the invocation ended too early: {outcome:?}"),
        () = six_batches => {}
    }
    tap.kill_and_restart();
    let before = tap.bridge.received().len();
    let (visible, hidden) = queue.depth().await;
    assert_eq!(visible, 0, "the visibility timeout outlives the invocation");
    assert!(hidden > 0, "the large log is unfinished");
    queue.reveal(&messages).await;
    while queue.depth().await != (0, 0) {
        let Polled { messages, failed } = poll(&tap, &queue, PLENTY).await;
        assert_eq!(failed, [""; 0]);
        for message in &messages {
            assert_eq!(message.attributes["ApproximateReceiveCount"], "2");
        }
    }
    assert_eq!(dead_letters.depth().await, (0, 0));

    let arrived = arrivals(&tap);
    assert!(
        arrived.keys().eq(once_each(ten_logs()).keys()),
        "{arrived:?}"
    );
    // Only batches from before the kill (and the one in flight) arrive twice, with the same key and
    // body.
    let (mut bodies, mut again) = (BTreeMap::new(), 0);
    for batch in tap.bridge.received() {
        again += usize::from(batch.repeated);
        let first = bodies.entry(batch.key).or_insert(batch.body.clone());
        assert_eq!(*first, batch.body);
    }
    assert!(again <= before + 1, "{again} of {before}");
    assert_eq!(bodies.len(), 9 + 12);
    // Messages that were finished before the kill are not delivered again.
    let whole = arrived
        .iter()
        .filter(|(id, times)| id.starts_with("small") && id.ends_with("-0") && **times == 1);
    assert!(whole.count() + hidden as usize >= 10);
    tap.stop();
}

// proves: D1, D8
#[tokio::test]
async fn short_deadline_requeues_with_the_trace_header() {
    const ROWS: u64 = 72;
    let tap = Tap::with_bridge(slow_bridge(), small_batches).await;
    let bucket = Bucket::create(&tap.peers, "long").await;
    let (queue, dead_letters) = Queue::create_with_dead_letters(&tap.peers, "long").await;
    let log = [("long".to_owned(), 70)];
    put(&bucket, &queue, &log).await;
    let mut hops = Vec::new();
    while queue.depth().await != (0, 0) {
        // 10 s of them are the reserve; the bridge takes 4.2 s.
        let polled = poll(&tap, &queue, 11_500).await;
        queue.reveal(&polled.messages).await;
        for message in polled.messages {
            let body: Value = serde_json::from_str(&message.body).unwrap();
            if body.get("edgetap").is_some() {
                assert_eq!(
                    message.attributes.get("AWSTraceHeader").map(String::as_str),
                    Some(TRACE),
                    "{:?}",
                    message.attributes
                );
                assert_eq!(body["object"]["key"], "long");
                hops.push(body["hops"].as_u64().unwrap());
            }
        }
    }
    hops.dedup();
    assert!(hops.iter().copied().eq(1..=hops.len() as u64), "{hops:?}");
    assert!(!hops.is_empty());
    assert_eq!(dead_letters.depth().await, (0, 0));
    assert_eq!(arrivals(&tap), once_each(log));
    let log = tap.stop();
    let total = |name: &str| -> u64 {
        let reports = log.reports();
        reports
            .iter()
            .map(|line| line[name].as_u64().unwrap())
            .sum()
    };
    assert_eq!(total("requeues"), hops.len() as u64);
    assert_eq!(
        total("rows"),
        ROWS,
        "every row is counted once across invocations"
    );
}

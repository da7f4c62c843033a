//! Retries with moto's SQS: a bridge outage, a killed function, a deadline shorter than the object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgetap::local_bridge::{Options, Reaction};
use serde_json::{Value, json};

use crate::cloud::{Bucket, Message, Queue, log};
use crate::runtime_api::{Outcome, TRACE};
use crate::tap::{PATIENCE, PLENTY, Tap, Variables};

/// Counts the arrivals of each transaction.
fn arrivals(tap: &Tap) -> BTreeMap<String, usize> {
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

fn once_each(requests: usize) -> BTreeMap<String, usize> {
    (0..requests)
        .map(|number| (format!("id-{number}"), 1))
        .collect()
}

fn small_batches(variables: &mut Variables) {
    variables.insert("BATCH_MAX_TRANSACTIONS", "5".to_owned());
    variables.insert("BRIDGE_CONCURRENCY", "1".to_owned());
}

/// Invokes the function with the next message and deletes it if it is done, as the event source
/// mapping does.
async fn poll(tap: &Tap, queue: &Queue, time_left_ms: i64) -> (Message, bool) {
    let message = queue.borrow().await;
    let outcome = tap.invoke(queue.event(&message), time_left_ms).await;
    let Outcome::Response(response) = outcome else {
        panic!("{outcome:?}")
    };
    let done = response == json!({ "batchItemFailures": [] });
    if done {
        queue.delete(&message).await;
    }
    (message, done)
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
    let tap = Tap::with_bridge(
        Options {
            react: Arc::new(react),
            ..Options::default()
        },
        small_batches,
    )
    .await;
    let bucket = Bucket::create(&tap.peers, "down-for-a-while").await;
    let (queue, dead_letters) =
        Queue::create_with_dead_letters(&tap.peers, "down-for-a-while").await;
    bucket.put("log.gz", log(30)).await;
    queue.send(&bucket.notification("log.gz")).await;
    for attempt in 1..=3 {
        let (message, done) = poll(&tap, &queue, PLENTY).await;
        assert!(!done, "attempt {attempt}");
        assert_eq!(
            message.attributes["ApproximateReceiveCount"],
            attempt.to_string()
        );
        assert_eq!(
            queue.depth().await,
            (0, 1),
            "it is delayed, and nothing else was sent"
        );
        queue.reveal(&message).await;
    }
    down.store(false, Ordering::Relaxed);
    assert!(poll(&tap, &queue, PLENTY).await.1);
    assert_eq!(
        (queue.depth().await, dead_letters.depth().await),
        ((0, 0), (0, 0))
    );
    assert_eq!(arrivals(&tap), once_each(30));
    let log = tap.stop();
    assert_eq!(
        log.reports()
            .iter()
            .filter(|line| line["messages_delayed"] == 1)
            .count(),
        3,
        "{log:#?}"
    );
}

// proves: D17
#[tokio::test]
async fn killed_function_delivers_after_redelivery() {
    let options = Options {
        delay: Duration::from_millis(200),
        ..Options::default()
    };
    let mut tap = Tap::with_bridge(options, small_batches).await;
    let bucket = Bucket::create(&tap.peers, "killed").await;
    let (queue, dead_letters) = Queue::create_with_dead_letters(&tap.peers, "killed").await;
    bucket.put("log.gz", log(60)).await;
    queue.send(&bucket.notification("log.gz")).await;
    let message = queue.borrow().await;
    let three_batches = async {
        let started = Instant::now();
        while tap.bridge.received().len() < 3 {
            assert!(started.elapsed() < PATIENCE, "the bridge got nothing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        outcome = tap.invoke(queue.event(&message), PLENTY) => panic!("the invocation ended too early: {outcome:?}"),
        () = three_batches => {}
    }
    tap.kill_and_restart();
    let before = tap.bridge.received().len();
    assert!(before < 12, "{before} of 12 batches");
    assert_eq!(
        queue.depth().await,
        (0, 1),
        "the visibility timeout outlives the invocation"
    );
    queue.reveal(&message).await;
    let (message, done) = poll(&tap, &queue, PLENTY).await;
    assert!(done);
    assert_eq!(message.attributes["ApproximateReceiveCount"], "2");
    assert_eq!(
        (queue.depth().await, dead_letters.depth().await),
        ((0, 0), (0, 0))
    );

    let arrived = arrivals(&tap);
    assert!(arrived.keys().eq(once_each(60).keys()), "{arrived:?}");
    assert!(arrived.values().all(|times| *times <= 2), "{arrived:?}");
    // Only batches from before the kill (and the one in flight) arrive twice, with the same key and
    // body.
    let received = tap.bridge.received();
    let (first, second) = received.split_at(received.len() - 12);
    assert!(
        (3..=before + 1).contains(&first.len()),
        "{} of {before}",
        first.len()
    );
    for (batch, again) in first.iter().zip(second) {
        assert_eq!((&batch.key, &batch.body), (&again.key, &again.body));
    }
    tap.stop();
}

/// Each invocation delivers 6 of the 20 batches and then waits for a response until its deadline:
/// three requeues.
// proves: D1, D8
#[tokio::test]
async fn short_deadline_requeues_with_the_trace_header() {
    let react = |arrival: edgetap::local_bridge::Arrival<'_>| {
        if arrival.number.is_multiple_of(7) {
            Reaction::After(10 * PATIENCE)
        } else {
            Reaction::Normal
        }
    };
    let tap = Tap::with_bridge(
        Options {
            react: Arc::new(react),
            ..Options::default()
        },
        small_batches,
    )
    .await;
    let bucket = Bucket::create(&tap.peers, "long").await;
    let (queue, dead_letters) = Queue::create_with_dead_letters(&tap.peers, "long").await;
    bucket.put("log.gz", log(100)).await;
    queue.send(&bucket.notification("log.gz")).await;
    let mut requeue_count = Vec::new();
    loop {
        let (message, done) = poll(&tap, &queue, 16_000).await; // 10 s of them are the reserve
        assert!(done, "{}", message.body);
        let body: Value = serde_json::from_str(&message.body).unwrap();
        if body.get("edgetap").is_some() {
            assert_eq!(
                message.attributes.get("AWSTraceHeader").map(String::as_str),
                Some(TRACE),
                "{:?}",
                message.attributes
            );
            assert_eq!(body["object"]["key"], "log.gz");
            requeue_count.push((
                body["hops"].as_u64().unwrap(),
                body["rows"][0][0].as_u64().unwrap(),
            ));
        }
        if queue.depth().await == (0, 0) {
            break;
        }
    }
    // Rows 1 and 2 are dropped.
    assert_eq!(requeue_count, [(1, 32), (2, 62), (3, 92)]);
    assert_eq!(dead_letters.depth().await, (0, 0));
    assert_eq!(arrivals(&tap), once_each(100));
    let log = tap.stop();
    assert_eq!(
        log.reports()
            .iter()
            .map(|line| line["requeues"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [1, 1, 1, 0]
    );
    assert_eq!(
        log.reports()
            .iter()
            .map(|line| line["rows"].as_u64().unwrap())
            .sum::<u64>(),
        102,
        "every row is counted once across invocations"
    );
}

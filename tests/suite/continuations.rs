//! Rows as messages: across redrives, releases and the size limit of SQS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgetap::batch::Limits;
use edgetap::continuation::Continuation;
use edgetap::local_bridge::{Options, Reaction, decode};
use edgetap::rows::Rows;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::fake_s3::Fault;
use crate::support::fake_sqs::{DEAD_LETTERS, WORK};
use crate::support::{HEADER, World, at_edge, gzip, log, once_each, row, world_with};

const LIMITS: Limits = Limits {
    transactions: 10,
    bytes: 1_000_000,
};
const PLENTY: Duration = Duration::from_secs(20);

/// Bytes of a message; more than SQS takes with the limit that Terraform sets.
const MAX_LETTER: usize = 200_000;

fn continuation(text: &str) -> Continuation {
    serde_json::from_str(text).unwrap()
}

fn dead_letters(world: &World) -> Vec<Continuation> {
    let letters = world.sqs.dead_letters();
    letters.iter().map(|one| continuation(&one.body)).collect()
}

/// A message with these members in place of the fixture's.
fn message(fixture: &str, members: Value) -> String {
    let mut message: Value = serde_json::from_str(fixture).unwrap();
    let Value::Object(members) = members else {
        panic!()
    };
    message.as_object_mut().unwrap().extend(members);
    message.to_string()
}

const VERSION_1: &str = include_str!("../fixtures/continuations/version-1.json");
const VERSION_2: &str = include_str!("../fixtures/continuations/version-2.json");

// proves: D20, D30
#[tokio::test]
async fn redriven_rejected_rows_are_rejected_beside_others_only() {
    // The bad rows take longer, so that others arrive between their refusals.
    let options = at_edge(|arrival| {
        let bad = ["id-13", "id-14"];
        let transactions = decode(arrival.body).unwrap();
        let is_bad = |id: &str| bad.contains(&id);
        if transactions.iter().any(|t| is_bad(&t.transaction_id)) {
            Reaction::status(422)
        } else {
            Reaction::After(Duration::from_millis(5))
        }
    });
    let options = Options {
        delay: Duration::from_millis(100),
        ..options
    };
    let world = world_with(options, LIMITS, 4).await;
    world.s3.put("log", log(45));
    world.notify("log");
    assert_eq!(world.drain(PLENTY, 1).await, 1);
    let rejected = || dead_letters(&world).into_iter().map(|letter| letter.rows);
    assert_eq!(rejected().collect::<Vec<_>>(), [Rows::from(13..15)]);

    // Alone they may be all that the bridge refuses, or it may refuse everything. With so much time
    // left, no retry delay is taken for the time after a kill.
    let much = Duration::from_mins(14);
    world.sqs.redrive();
    for minutes in [1, 2, 4] {
        assert_eq!(world.poll(much).await, Some(false));
        let delay = world.sqs.wait_for_next().unwrap();
        let (least, most) = (
            SignedDuration::from_secs(minutes * 48 - 1),
            SignedDuration::from_mins(minutes),
        );
        assert!((least..=most).contains(&delay), "{delay:?}");
    }
    assert_eq!(rejected().count(), 0);

    let others: String = (100..1_100).map(row).collect();
    world.s3.put("others", HEADER.to_owned() + &others);
    world.notify("others");
    assert_eq!(world.poll_batch(10, much).await, [true, true]);
    assert_eq!(rejected().collect::<Vec<_>>(), [Rows::from(13..15)]);
    let good = (0..45).filter(|row| ![13, 14].contains(row));
    assert_eq!(world.arrivals(), once_each(good.chain(100..1_100)));
}

/// What the release before wrote waits in the queue, or is redriven. It was dead-lettered after
/// three days or twelve requeues; this release must not count these.
// proves: D20, D21
#[tokio::test]
async fn messages_of_version_1_start_over() {
    for (rows, hops, since) in [
        (json!([[0, 3], [40, null]]), 12, "2026-01-01T00:00:00Z"),
        (json!([[13, 14]]), 0, "2026-11-20T00:00:00Z"),
        (json!([[20, null]]), 12, "1970-01-01T00:00:00Z"),
        (json!([[0, null]]), 255, "2100-01-01T00:00:00Z"),
        (json!([[1, 2], [3, 4], [5, 6]]), 11, "2026-01-01T00:00:00Z"),
        (
            json!([[9, 9], [5, 6], [1, 3], [2, 4]]),
            1,
            "2026-01-01T00:00:00Z",
        ),
    ] {
        for queue in [WORK, DEAD_LETTERS] {
            let down = Arc::new(AtomicBool::new(true));
            let is_down = down.clone();
            let options = at_edge(move |_| {
                if is_down.load(Ordering::Relaxed) {
                    Reaction::status(403)
                } else {
                    Reaction::Normal
                }
            });
            let world = world_with(options, LIMITS, 4).await;
            world.s3.put("a b/log.gz", gzip(&log(45)));
            let members = json!({"rows": rows, "hops": hops, "since": since});
            world.sqs.send_to(queue, message(VERSION_1, members));
            world.sqs.redrive();
            for _ in 0..3 {
                world.sqs.wait_for_next();
                assert_eq!(world.poll(PLENTY).await, Some(false), "{rows} {since}");
            }
            down.store(false, Ordering::Relaxed);
            world.drain(PLENTY, 1).await;
            let asked: Rows = serde_json::from_value(rows.clone()).unwrap();
            let asked = asked.below(45);
            let expected = asked.ranges().iter().cloned().flatten();
            assert_eq!(world.arrivals(), once_each(expected));
            assert_eq!(world.sqs.dead_letters().len(), 0, "{rows} {since}");
        }
    }
}

/// A message of a later release waits for that release, after a rollback for example.
// proves: D21
#[tokio::test]
async fn message_of_version_3_waits() {
    let world = world_with(Options::default(), LIMITS, 4).await;
    world.s3.put("a b/log.gz", gzip(&log(45)));
    for fixture in [VERSION_1, VERSION_2] {
        let members = json!({"edgetap": 3, "since": "2026-01-01T00:00:00Z"});
        world.sqs.send(message(fixture, members));
    }
    for _ in 0..10 {
        world.sqs.wait_for_next();
        let done = world.poll_batch(10, PLENTY).await;
        assert!(done.iter().all(|done| !done), "{done:?}");
    }
    assert_eq!((world.sqs.messages().len(), world.sqs.sent()), (2, 2));
    assert_eq!(world.ids().len(), 0);
}

/// The longest numbers, a key of characters that JSON writes with six bytes, and a reason that names it.
// proves: D19
#[tokio::test]
async fn every_dead_letter_fits_into_sqs() {
    let key = "\u{1}".repeat(1024);
    for (ranges, messages) in [(1, 1), (4_000, 1), (4_001, 2), (10_000, 3)] {
        let mut world = world_with(Options::default(), LIMITS, 4).await;
        world.function.retry_for = SignedDuration::ZERO;
        world
            .s3
            .react(|| Some(Fault::Rejection(403, "AccessDenied")));
        let end = u64::MAX - 1;
        let rows: Rows = (0..ranges)
            .map(|range| end - 2 * range - 1..end - 2 * range)
            .collect();
        assert_eq!(rows.ranges().len() as u64, ranges);
        let etag = "e".repeat(64);
        let object = json!({
            "bucket": "b".repeat(63), "key": key, "etag": etag, "version": "v".repeat(1024), "size": u64::MAX,
        });
        let members = json!({"object": object, "rows": rows, "dead_letter": false});
        world.sqs.send(message(VERSION_2, members));
        assert_eq!(world.poll(PLENTY).await, Some(true), "{ranges}");
        let letters = world.sqs.dead_letters();
        assert_eq!(letters.len(), messages);
        for letter in &letters {
            assert!(letter.body.len() < MAX_LETTER, "{}", letter.body.len());
        }
        let mut all = Rows::default();
        for letter in dead_letters(&world) {
            assert_eq!(letter.reason.chars().count(), 1_000, "{}", letter.reason);
            assert!(all.is_disjoint(&letter.rows));
            all.extend(&letter.rows);
        }
        assert_eq!(all, rows);
    }
}

// proves: D7, D19
#[tokio::test]
async fn many_remaining_ranges_are_requeued_in_parts() {
    // After the first batch everything is refused, until the bridge recovers.
    let down = Arc::new(AtomicBool::new(true));
    let is_down = down.clone();
    let options = at_edge(move |arrival| {
        if is_down.load(Ordering::Relaxed) && arrival.number > 1 {
            Reaction::status(403)
        } else {
            Reaction::Normal
        }
    });
    let world = world_with(options, LIMITS, 1).await;
    world.s3.put("a b/log.gz", gzip(&log(200))); // how long it is, only the last attempt sees
    let ranges: Vec<_> = (0..9_000).map(|range| [range * 2, range * 2 + 1]).collect();
    let object = json!({"bucket": "logs", "key": "a b/log.gz", "etag": null});
    let members = json!({"object": object, "rows": ranges});
    world.sqs.send(message(VERSION_2, members));
    assert_eq!(world.poll(PLENTY).await, Some(true));
    let waiting = world.sqs.messages();
    assert_eq!(waiting.len(), 3);
    for message in waiting {
        assert!(message.body.len() < MAX_LETTER, "{}", message.body.len());
    }
    down.store(false, Ordering::Relaxed);
    let reads = world.s3.gets().len();
    assert_eq!(world.drain(PLENTY, 3).await, 3);
    assert_eq!(world.s3.gets().len(), reads + 3, "one read a message");
    assert_eq!(world.arrivals(), once_each((0..100).map(|row| row * 2)));
}

//! Requeue, retry delay, dead-letter queue: objects that cannot be delivered at once are not lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgetap::batch::Limits;
use edgetap::continuation::Continuation;
use edgetap::event::notification;
use edgetap::job::ObjectRef;
use edgetap::local_bridge::{Endpoint, Options, Reaction, decode};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::support::fake_s3::Fault;
use crate::support::fake_sqs::{OTHER_DEAD_LETTERS, OTHER_WORK};
use crate::support::{CapturedLogs, World, gzip, log, once_each, row, world_with};

const LIMITS: Limits = Limits {
    transactions: 10,
    bytes: 1_000_000,
};
const PLENTY: Duration = Duration::from_secs(20);

/// Every member of an object's line. Scripts and queries read them by name.
const LINE_MEMBERS: [&str; 31] = [
    "_aws",
    "absent",
    "batches",
    "bridge_latency",
    "bytes",
    "bytes_in",
    "bytes_out",
    "dead_letters",
    "delivery_lag",
    "distribution",
    "duration",
    "elapsed_ms",
    "excluded",
    "foreign",
    "function",
    "level",
    "lost",
    "malformed",
    "message",
    "messages_delayed",
    "object",
    "rejected",
    "requeues",
    "retries",
    "retry_age",
    "rows",
    "sent",
    "static",
    "timestamp",
    "token_requests",
    "unreadable",
];

/// The edge endpoint reacts by the request's number and body. The token endpoint behaves.
fn at_edge(react: impl Fn(u64, &[u8]) -> Reaction + Send + Sync + 'static) -> Options {
    Options {
        react: Arc::new(move |arrival| {
            if arrival.endpoint == Endpoint::Edge {
                react(arrival.number, arrival.body)
            } else {
                Reaction::Normal
            }
        }),
        ..Options::default()
    }
}

async fn sequential(options: Options) -> World {
    world_with(options, LIMITS, 1).await
}

fn dead_letters(world: &World) -> Vec<Continuation> {
    world
        .sqs
        .dead_letters()
        .iter()
        .map(|message| serde_json::from_str(&message.body).unwrap())
        .collect()
}

/// The number of row ranges, and the first, of every line that names rows.
fn ranges(lines: &CapturedLogs) -> Vec<(u64, String)> {
    let lines = lines.json();
    let named = lines.iter().filter_map(|line| {
        let first = line["first_range"].as_str()?;
        Some((line["ranges"].as_u64()?, first.to_owned()))
    });
    named.collect()
}

// proves: D7
#[tokio::test]
async fn requeued_rows_continue_where_delivery_stopped() {
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::INFO);
    let world = sequential(at_edge(|number, _| {
        if (3..=7).contains(&number) {
            Reaction::status(503)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world.s3.put("log", log(45));
    world.notify("log");
    assert_eq!(
        world.poll(PLENTY).await,
        Some(true),
        "the first message is done: the remaining rows have one of their own"
    );
    let [remainder] = &world.sqs.messages()[..] else {
        panic!()
    };
    let continuation: Continuation = serde_json::from_str(&remainder.body).unwrap();
    assert_eq!(
        (
            json!(continuation.rows),
            continuation.requeue_count,
            continuation.object.etag.is_some()
        ),
        (json!([[20, null]]), 1, true)
    );
    assert!(
        remainder
            .trace
            .as_deref()
            .is_some_and(|trace| trace.starts_with("Root=")),
        "AWS detects loops by the trace header"
    );
    assert_eq!(ranges(&lines), [(1, "[20,end)".to_owned())]);
    assert_eq!(world.drain(PLENTY, 5).await, 1);
    assert_eq!(world.arrivals(), once_each(0..45));
    assert_eq!(world.sqs.dead_letters().len(), 0);
}

// proves: D7, D29
#[tokio::test]
async fn backfilled_log_stays_in_the_queue_of_the_backfill() {
    let world = sequential(at_edge(|number, _| {
        if (3..=7).contains(&number) {
            Reaction::status(503)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    let send = |key: &str| {
        let object = ObjectRef::in_s3("logs", key);
        let message = notification(&object, "us-east-1", Timestamp::now());
        world.sqs.send_to(OTHER_WORK, message.to_string());
    };
    world.s3.put("log", log(45));
    send("log");
    assert_eq!(world.poll(PLENTY).await, Some(true));
    let [remainder] = &world.sqs.messages()[..] else {
        panic!()
    };
    let continuation: Continuation = serde_json::from_str(&remainder.body).unwrap();
    assert_eq!(
        (remainder.queue, continuation.requeue_count),
        (OTHER_WORK, 1)
    );
    assert_eq!(world.drain(PLENTY, 5).await, 1);
    assert_eq!(world.arrivals(), once_each(0..45));
    world.s3.put("unreadable", "neither a header nor a row\n");
    send("unreadable");
    world.drain(PLENTY, 5).await;
    let [letter] = &world.sqs.dead_letters()[..] else {
        panic!()
    };
    assert_eq!(letter.queue, OTHER_DEAD_LETTERS);
}

// proves: D9, D14
#[tokio::test]
async fn bridge_outage_delays_message_without_requeue() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = down.clone();
    let world = sequential(at_edge(move |_, _| {
        if is_down.load(Ordering::Relaxed) {
            Reaction::status(503)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world.s3.put("log", log(45));
    world.notify("log");
    for minutes in [1, 2, 4, 8, 15, 15] {
        world.sqs.wait_for_next();
        assert_eq!(world.poll(PLENTY).await, Some(false));
        let delay = world.sqs.wait_for_next().unwrap();
        let (least, most) = (
            SignedDuration::from_secs(minutes * 48 - 1),
            SignedDuration::from_mins(minutes),
        );
        assert!(
            (least..=most).contains(&delay),
            "{delay:?} for {minutes} minutes"
        );
    }
    assert_eq!(world.sqs.requests("SendMessage"), 0);
    down.store(false, Ordering::Relaxed);
    world.drain(PLENTY, 2).await;
    assert_eq!(world.arrivals(), once_each(0..45));
}

// proves: D7, D8, D10
#[tokio::test]
async fn bridge_that_accepts_little_gets_everything_once() {
    // Every invocation gets one batch through.
    let accepted = Arc::new(AtomicU64::new(0));
    let seen = accepted.clone();
    let world = sequential(at_edge(move |_, _| {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            Reaction::Normal
        } else {
            Reaction::status(503)
        }
    }))
    .await;
    world.s3.put("log", log(300));
    world.notify("log");
    let (mut requeue_count, mut invocations) = (0, 0);
    while let Some(delay) = world.sqs.wait_for_next() {
        assert!(delay <= SignedDuration::from_mins(15), "{delay:?}");
        accepted.store(0, Ordering::Relaxed);
        for message in world.sqs.messages() {
            if let Ok(left) = serde_json::from_str::<Continuation>(&message.body) {
                assert_eq!(left.requeue_count, requeue_count + 1);
                requeue_count = left.requeue_count;
            }
        }
        world.poll(PLENTY).await.unwrap();
        invocations += 1;
        assert!(invocations < 400, "it loops");
    }
    assert_eq!((invocations, requeue_count), (30, 29));
    assert_eq!(world.arrivals(), once_each(0..300));
    assert_eq!(world.sqs.dead_letters().len(), 0);
}

// proves: D7, D8, B2
#[tokio::test]
async fn bridge_that_often_says_401_gets_everything_once() {
    for seed in 0..2 {
        let dice = Mutex::new(StdRng::seed_from_u64(seed));
        let options = at_edge(move |_, _| {
            if dice.lock().unwrap().random_bool(0.5) {
                Reaction::status(401)
            } else {
                Reaction::Normal
            }
        });
        let world = world_with(options, LIMITS, 4).await;
        world.s3.put("log", log(1_000));
        world.notify("log");
        let invocations = world.drain(PLENTY, 200).await;
        assert!(invocations > 12, "{seed}: {invocations}");
        assert_eq!(world.arrivals(), once_each(0..1_000), "{seed}");
        assert_eq!(world.sqs.dead_letters().len(), 0, "{seed}");
    }
}

// proves: D19, D20
#[tokio::test]
async fn rejected_rows_share_a_dead_letter_and_can_be_redriven() {
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::INFO);
    let strict = Arc::new(AtomicBool::new(true));
    let is_strict = strict.clone();
    let world = sequential(at_edge(move |_, body| {
        let bad = decode(body)
            .unwrap()
            .iter()
            .any(|t| ["id-13", "id-14", "id-31"].contains(&t.transaction_id.as_str()));
        if bad && is_strict.load(Ordering::Relaxed) {
            Reaction::status(422)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world.s3.put("log", log(45));
    world.notify("log");
    assert_eq!(world.drain(PLENTY, 1).await, 1);
    let [dead_letter] = &dead_letters(&world)[..] else {
        panic!()
    };
    assert_eq!(json!(dead_letter.rows), json!([[13, 15], [31, 32]]));
    assert_eq!(ranges(&lines), [(2, "[13,15)".to_owned())]);
    assert!(
        dead_letter.reason.contains("3 transactions (422)"),
        "{}",
        dead_letter.reason
    );
    assert!(
        !world.sqs.dead_letters()[0].body.contains("/row/"),
        "a dead letter holds no log content"
    );
    assert_eq!(
        world.arrivals(),
        once_each((0..45).filter(|row| ![13, 14, 31].contains(row)))
    );

    strict.store(false, Ordering::Relaxed);
    world.sqs.redrive();
    world.drain(PLENTY, 2).await;
    assert_eq!(world.arrivals(), once_each(0..45));
    assert_eq!(world.sqs.dead_letters().len(), 0);
}

/// A firewall in front of the bridge refuses what one transaction contains.
// proves: D7, D30
#[tokio::test]
async fn one_refused_transaction_withholds_no_other() {
    for status in [400, 403, 413, 422, 500] {
        let world = sequential(at_edge(move |_, body| {
            let ids = decode(body).unwrap();
            if ids.iter().any(|t| t.transaction_id == "id-13") {
                Reaction::status(status)
            } else {
                Reaction::Normal
            }
        }))
        .await;
        world.s3.put("log", log(45));
        world.notify("log");
        let invocations = world.drain(PLENTY, 4).await;
        let expected = match status {
            400 | 413 | 422 => 1,
            _ => 3, // its halves are sent from the third attempt on
        };
        assert_eq!(invocations, expected, "{status}");
        assert_eq!(
            world.arrivals(),
            once_each((0..45).filter(|row| *row != 13)),
            "{status}"
        );
        let [letter] = &dead_letters(&world)[..] else {
            panic!("{status}")
        };
        assert_eq!(json!(letter.rows), json!([[13, 14]]), "{status}");
        let reason = format!("the bridge rejected 1 transaction ({status})");
        assert_eq!(letter.reason, reason);
    }
}

/// Whatever its status, an outage is not taken for bad transactions: nothing is accepted while it lasts.
// proves: D30, D14
#[tokio::test]
async fn refusal_of_everything_rejects_nothing() {
    for status in [400, 401, 403, 413, 429, 500] {
        let down = Arc::new(AtomicBool::new(true));
        let is_down = down.clone();
        let world = sequential(at_edge(move |_, _| {
            if is_down.load(Ordering::Relaxed) {
                Reaction::status(status)
            } else {
                Reaction::Normal
            }
        }))
        .await;
        for (key, rows) in [("one", 1), ("two", 2), ("many", 30)] {
            world.s3.put(key, log(rows));
            world.notify(key);
        }
        for _ in 0..5 {
            world.sqs.wait_for_next();
            world.poll_batch(10, PLENTY).await;
        }
        assert_eq!(world.sqs.messages().len(), 3, "{status}: all are delayed");
        assert_eq!(world.sqs.requests("SendMessage"), 0, "{status}");
        down.store(false, Ordering::Relaxed);
        world.drain_batches(10, PLENTY, 6).await;
        assert_eq!(world.ids().len(), 33, "{status}");
        assert_eq!(world.sqs.dead_letters().len(), 0, "{status}");
    }
}

/// The reason is the last one of the bridge, not that time is over.
// proves: D10, D19
#[tokio::test]
async fn retries_end_in_a_dead_letter_with_the_last_reason() {
    let mut world = sequential(at_edge(|number, _| match number {
        1 => Reaction::Normal,
        2..=20 => Reaction::status(503),
        _ => Reaction::status(403),
    }))
    .await;
    world.function.retry_for = SignedDuration::from_hours(3);
    world.s3.put("log", log(25));
    world.notify("log");
    let invocations = world.drain(PLENTY, 30).await;
    assert!(invocations > 12, "for three hours: {invocations}");
    let [letter] = &dead_letters(&world)[..] else {
        panic!()
    };
    assert_eq!(json!(letter.rows), json!([[10, 25]]));
    assert!(letter.dead_letter);
    assert!(
        letter.reason.contains("403 Forbidden. Check"),
        "{}",
        letter.reason
    );
    assert!(
        letter.reason.ends_with("(RETRY_FOR is over)"),
        "{}",
        letter.reason
    );
    assert_eq!(world.arrivals(), once_each(0..10));
    // What is redriven starts over, however soon.
    world.sqs.redrive();
    assert_eq!(world.poll(PLENTY).await, Some(false));
    assert_eq!(world.sqs.dead_letters().len(), 0);
}

// proves: D19
#[tokio::test]
async fn letter_of_many_ranges_is_one_read() {
    let world = sequential(Options::default()).await;
    world.s3.put("a b/log.gz", gzip(&log(6_000)));
    let mut letter: Value =
        serde_json::from_str(include_str!("../fixtures/continuations/version-2.json")).unwrap();
    let ranges: Vec<_> = (0..3_000).map(|range| [range * 2, range * 2 + 1]).collect();
    letter["rows"] = json!(ranges);
    letter["object"] = json!({"bucket": "logs", "key": "a b/log.gz", "etag": null});
    world.sqs.send(letter.to_string());
    assert_eq!(world.drain(PLENTY, 3).await, 1);
    assert_eq!(world.arrivals(), once_each((0..3_000).map(|row| row * 2)));
    assert_eq!(world.s3.gets().len(), 1);
}

// proves: D16
#[tokio::test]
async fn rejected_row_is_settled_once_sqs_has_its_dead_letter() {
    let world = sequential(at_edge(|_, body| {
        if decode(body)
            .unwrap()
            .iter()
            .any(|t| t.transaction_id == "id-13")
        {
            Reaction::status(400)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    // The SDK sends each request twice.
    world
        .sqs
        .fail(|action, number| action == "SendMessage" && number <= 4);
    world.s3.put("log", log(45));
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(false));
    world.drain(PLENTY, 5).await;
    assert_eq!(dead_letters(&world).len(), 1);
    let arrived: BTreeSet<_> = world.arrivals().into_keys().collect();
    assert_eq!(
        arrived,
        once_each((0..45).filter(|row| *row != 13))
            .into_keys()
            .collect()
    );
}

// proves: D3, D19
#[tokio::test]
async fn unreadable_object_is_dead_lettered_after_its_good_rows() {
    let world = sequential(Options::default()).await;
    let whole = gzip(&log(1000));
    world.s3.put("cut.gz", whole[..whole.len() - 8].to_vec());
    world.s3.put("other", "{\"hello\": []}\n");
    world.s3.put(
        "few-fields",
        "#Fields: date time cs-method\n2026-11-14\t20:00:00\tGET\n",
    );
    for key in ["cut.gz", "other", "few-fields"] {
        world.notify(key);
    }
    assert_eq!(world.drain(PLENTY, 3).await, 3);
    assert_eq!(world.arrivals(), once_each(0..1000));
    let dead_letters = dead_letters(&world);
    let expected = [
        (
            "cut.gz",
            json!([[1000, null]]),
            "cannot read the log to its end",
        ),
        (
            "other",
            json!([[0, 1]]),
            "(line 1): it has no field of a CloudFront access log",
        ),
        ("few-fields", json!([[0, null]]), "cs-uri-stem"),
    ];
    assert_eq!(dead_letters.len(), expected.len());
    for (dead_letter, (key, rows, reason)) in dead_letters.iter().zip(expected) {
        assert_eq!(dead_letter.object.key, key);
        assert_eq!(json!(dead_letter.rows), rows);
        assert!(dead_letter.reason.contains(reason), "{dead_letter:?}");
    }
}

/// A viewer can hide a request neither by the delimiter nor behind the rows around it.
// proves: I6, D19
#[tokio::test]
async fn row_with_the_delimiter_in_a_value_is_dead_lettered() {
    let world = sequential(Options::default()).await;
    let row =
        |row: u64, agent: &str| format!("2026-11-14,20:00:00,192.0.2.7,GET,/a,id-{row},{agent}\n");
    let agent = |number| match number {
        13 | 40 => "a,b",
        41 => "a,,",
        _ => "curl/8",
    };
    let rows: String = (0..60).map(|number| row(number, agent(number))).collect();
    let names = "date time c-ip cs-method cs-uri-stem x-edge-request-id cs(User-Agent)";
    world.s3.put("log", format!("#Fields: {names}\n{rows}"));
    world.notify("log");
    assert_eq!(world.drain(PLENTY, 3).await, 1);
    let is_sent = |row: &u64| ![13, 40, 41].contains(row);
    assert_eq!(world.arrivals(), once_each((0..60).filter(is_sent)));
    let [letter] = &dead_letters(&world)[..] else {
        panic!("one dead letter")
    };
    assert_eq!(json!(letter.rows), json!([[13, 14], [40, 42]]));
    let reason =
        "3 rows cannot be read. The first one (line 15): a value contains the column delimiter";
    assert!(letter.reason.starts_with(reason), "{}", letter.reason);
}

// proves: D16
#[tokio::test]
async fn failed_requeue_duplicates_rows_but_loses_none() {
    let world = sequential(at_edge(|number, _| {
        if (3..=7).contains(&number) {
            Reaction::status(503)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world
        .sqs
        .fail(|action, number| action == "SendMessage" && number <= 2);
    world.s3.put("log", log(45));
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(false));
    world.drain(PLENTY, 5).await;
    let arrived = world.arrivals();
    assert_eq!(
        arrived.keys().collect::<BTreeSet<_>>(),
        once_each(0..45).keys().collect()
    );
    assert!(arrived.values().all(|times| *times <= 2), "{arrived:?}");
    assert_eq!((arrived["id-0"], arrived["id-20"]), (2, 1));
    let received = world.bridge.received();
    assert_eq!(received.iter().filter(|batch| batch.repeated).count(), 2);
}

// proves: D16
#[tokio::test]
async fn failed_visibility_change_loses_nothing() {
    let world = sequential(at_edge(|number, _| {
        if number <= 5 {
            Reaction::status(503)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world
        .sqs
        .fail(|action, _| action.starts_with("ChangeMessageVisibility"));
    world.s3.put("log", log(25));
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(false));
    assert_eq!(
        world.sqs.wait_for_next(),
        Some(SignedDuration::from_mins(30)),
        "the visibility timeout of the event source mapping"
    );
    world.drain(PLENTY, 1).await;
    assert_eq!(world.arrivals(), once_each(0..25));
}

// proves: D17
#[tokio::test]
async fn visibility_timeout_covers_the_deadline() {
    let world = sequential(Options {
        delay: Duration::from_mins(1),
        ..Options::default()
    })
    .await;
    world.s3.put("log", log(25));
    world.notify("log");
    let function = world.poll(Duration::from_hours(1));
    // Dropped in the middle, as when Lambda kills the process.
    assert!(
        tokio::time::timeout(Duration::from_millis(500), function)
            .await
            .is_err()
    );
    let hidden = world.sqs.wait_for_next().unwrap();
    assert!(
        (SignedDuration::from_secs(3650)..=SignedDuration::from_secs(3671)).contains(&hidden),
        "{hidden:?}"
    );
}

// proves: D8
#[tokio::test]
async fn short_deadline_delivers_in_several_invocations() {
    let world = sequential(Options {
        delay: Duration::from_millis(40),
        ..Options::default()
    })
    .await;
    world.s3.put("log", log(200));
    world.notify("log");
    let invocations = world.drain(Duration::from_millis(250), 60).await;
    assert!(invocations > 2, "{invocations}");
    let arrived = world.arrivals();
    assert_eq!(
        arrived.keys().collect::<BTreeSet<_>>(),
        once_each(0..200).keys().collect()
    );
    // Only batches in flight at a deadline may arrive twice.
    let repeated = world
        .bridge
        .received()
        .iter()
        .filter(|batch| batch.repeated)
        .count();
    assert!(repeated < invocations, "{repeated} of {invocations}");
}

// proves: D22
#[tokio::test]
async fn missing_object_is_skipped_if_new_and_reported_if_started() {
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::INFO);
    let world = sequential(at_edge(|number, _| {
        if (2..=6).contains(&number) {
            Reaction::status(503)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world.notify("expired");
    assert_eq!(world.drain(PLENTY, 1).await, 1);
    world.s3.put("log", log(45));
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(true));
    world.s3.remove("log");
    assert_eq!(world.drain(PLENTY, 1).await, 1);
    assert_eq!(world.ids().len(), 10);
    let lost: Vec<Value> = lines
        .json()
        .into_iter()
        .filter(|line| line["lost"] == 1)
        .collect();
    let [lost] = &lost[..] else {
        panic!("{lost:?}")
    };
    assert_eq!(lost["level"], "ERROR");
    let message = lost["message"].as_str().unwrap();
    assert!(
        message.contains("before its rows [10,end) were"),
        "{message}"
    );
}

// proves: D23
#[tokio::test]
async fn replaced_object_is_read_from_its_start() {
    let world = sequential(at_edge(|number, _| {
        if (2..=6).contains(&number) {
            Reaction::status(503)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world.s3.put("log", log(45));
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(true));
    let other: String = (100..130).map(row).collect();
    world
        .s3
        .put("log", crate::support::HEADER.to_owned() + &other);
    world.drain(PLENTY, 2).await;
    assert_eq!(world.arrivals(), once_each((0..10).chain(100..130)));
}

/// Rejected rows that include row 0 must not be taken for the whole object.
// proves: D20, D23
#[tokio::test]
async fn redriven_first_rows_of_replaced_object_start_over() {
    let world = sequential(at_edge(|number, body| {
        let bad = decode(body)
            .unwrap()
            .iter()
            .any(|t| t.transaction_id == "id-0");
        // 413 needs no accepted batch before it to count as a rejection.
        if bad && number < 100 {
            Reaction::status(413)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world.s3.put("log", log(20));
    world.notify("log");
    assert_eq!(world.drain(PLENTY, 1).await, 1);
    let [dead_letter] = &dead_letters(&world)[..] else {
        panic!()
    };
    assert_eq!(json!(dead_letter.rows), json!([[0, 1]]));
    world.s3.put(
        "log",
        crate::support::HEADER.to_owned() + &(100..130).map(row).collect::<String>(),
    );
    world.sqs.redrive();
    world.drain(PLENTY, 2).await;
    assert_eq!(world.arrivals(), once_each((1..20).chain(100..130)));
}

// proves: D11
#[tokio::test]
async fn only_undelivered_objects_of_a_message_are_requeued() {
    for keys in [["good", "bad"], ["bad", "good"]] {
        let down = Arc::new(AtomicBool::new(true));
        let is_down = down.clone();
        let world = sequential(at_edge(move |_, body| {
            let bad = decode(body)
                .unwrap()
                .iter()
                .any(|t| t.transaction_id == "id-100");
            if bad && is_down.load(Ordering::Relaxed) {
                Reaction::status(404)
            } else {
                Reaction::Normal
            }
        }))
        .await;
        world.s3.put("good", log(25));
        world.s3.put(
            "bad",
            crate::support::HEADER.to_owned() + &(100..130).map(row).collect::<String>(),
        );
        world.sqs.send(crate::support::s3_event(&keys).to_string());
        assert_eq!(
            world.poll(PLENTY).await,
            Some(true),
            "the remaining rows have a message of their own"
        );
        let [remainder] = &world.sqs.messages()[..] else {
            panic!()
        };
        let remainder: Continuation = serde_json::from_str(&remainder.body).unwrap();
        assert_eq!(
            (
                remainder.object.key.as_str(),
                json!(remainder.rows),
                remainder.requeue_count
            ),
            ("bad", json!([[0, 10]]), 1)
        );
        world.sqs.wait_for_next();
        assert_eq!(
            world.poll(PLENTY).await,
            Some(false),
            "without progress it is delayed"
        );
        down.store(false, Ordering::Relaxed);
        world.drain(PLENTY, 1).await;
        assert_eq!(world.arrivals(), once_each((0..25).chain(100..130)));
    }
}

/// Delaying the message is cheaper than paying for a waiting function.
// proves: D12
#[tokio::test]
async fn long_retry_after_ends_the_invocation() {
    for endpoint in [Endpoint::Edge, Endpoint::Token] {
        let response = Reaction::Respond {
            status: 503,
            headers: vec![("retry-after", "120".to_owned())],
            body: String::new(),
        };
        let react = move |arrival: edgetap::local_bridge::Arrival<'_>| {
            if arrival.endpoint == endpoint {
                response.clone()
            } else {
                Reaction::Normal
            }
        };
        let world = sequential(Options {
            react: Arc::new(react),
            ..Options::default()
        })
        .await;
        world.s3.put("log", log(45));
        world.notify("log");
        let polled =
            tokio::time::timeout(Duration::from_mins(1), world.poll(Duration::from_mins(14))).await;
        assert_eq!(
            polled.expect("the invocation waited for the Retry-After"),
            Some(false)
        );
        let delay = world.sqs.wait_for_next().unwrap().as_secs();
        assert!(
            (118..=121).contains(&delay),
            "as long as was asked for: {delay} s"
        );
    }
}

// proves: D15
#[tokio::test]
async fn s3_error_delays_the_message() {
    let world = sequential(Options::default()).await;
    world.s3.put("log", log(45));
    world.notify("log");
    world.s3.fail(0, Fault::Status(403));
    assert_eq!(
        world.poll(PLENTY).await,
        Some(false),
        "a missing permission may be granted later"
    );
    world.drain(PLENTY, 1).await;
    assert_eq!(world.arrivals(), once_each(0..45));
}

/// A batch cut short by a broken read would have another key, and so would every later batch.
// proves: D24
#[tokio::test]
async fn broken_read_keeps_batch_boundaries() {
    let world = sequential(Options::default()).await;
    let text = log(45);
    let rows_25 = text.find("/row/25").unwrap();
    world.s3.put("log", text);
    world.s3.fail(0, Fault::Cut(rows_25));
    for get in 1..=10 {
        world.s3.fail(get, Fault::HangUp); // 5 attempts, each sent twice by the SDK
    }
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(true), "requeued");
    let [remainder] = &world.sqs.messages()[..] else {
        panic!()
    };
    assert_eq!(
        json!(
            serde_json::from_str::<Continuation>(&remainder.body)
                .unwrap()
                .rows
        ),
        json!([[20, null]]),
        "25 rows were read, 20 of them in whole batches"
    );
    assert_eq!(world.drain(PLENTY, 1).await, 1);
    assert_eq!(world.arrivals(), once_each(0..45));
    let sizes: Vec<_> = world
        .bridge
        .received()
        .iter()
        .map(|batch| batch.transactions.len())
        .collect();
    assert_eq!(sizes, [10, 10, 10, 10, 5]);
}

// proves: D25
#[tokio::test]
async fn duplicate_notification_repeats_ids_and_keys() {
    let world = sequential(Options::default()).await;
    world.s3.put("log", log(45));
    world.notify("log");
    world.notify("log");
    world.drain(PLENTY, 2).await;
    let received = world.bridge.received();
    let (first, second) = received.split_at(5);
    assert!(second.iter().all(|batch| batch.repeated));
    assert_eq!(
        first.iter().map(|b| (&b.key, &b.body)).collect::<Vec<_>>(),
        second.iter().map(|b| (&b.key, &b.body)).collect::<Vec<_>>()
    );
}

/// Every version that a release ever wrote has a fixture.
// proves: D21
#[tokio::test]
async fn known_continuations_are_read_and_newer_ones_kept() {
    let world = sequential(Options::default()).await;
    world.s3.put("a b/log.gz", log(45));
    let version_1: Value =
        serde_json::from_str(include_str!("../fixtures/continuations/version-1.json")).unwrap();
    world.sqs.send(version_1.to_string());
    assert_eq!(world.drain(PLENTY, 2).await, 1);
    assert_eq!(world.arrivals(), once_each((0..3).chain(40..45)));

    let version_2: Value =
        serde_json::from_str(include_str!("../fixtures/continuations/version-2.json")).unwrap();
    let mut unversioned = version_2;
    unversioned["object"]["version"] = json!(null); // the fake has no versions
    world.sqs.send(unversioned.to_string());
    assert_eq!(world.drain(PLENTY, 2).await, 1);
    assert_eq!(world.ids().len(), 8 + 10);

    let mut newer = version_1;
    newer["edgetap"] = json!(3);
    world.sqs.send(newer.to_string());
    assert_eq!(
        world.poll(PLENTY).await,
        Some(false),
        "the message waits for a release that reads it"
    );
}

/// If it succeeded, its message would be deleted with nothing delivered.
#[tokio::test]
async fn continuation_without_rows_fails() {
    let world = sequential(Options::default()).await;
    let sound: Value =
        serde_json::from_str(include_str!("../fixtures/continuations/version-1.json")).unwrap();
    for rows in [json!([]), json!([[5, 3]]), json!([[0, 3], [9, 8]])] {
        let mut message = sound.clone();
        message["rows"] = rows.clone();
        world.sqs.send(message.to_string());
        assert_eq!(world.poll(PLENTY).await, Some(false), "{rows}");
    }
}

// proves: D28
#[tokio::test]
async fn object_line_says_what_was_not_delivered() {
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::INFO);
    let world = sequential(at_edge(|_, body| {
        let ids = decode(body).unwrap();
        let has = |id: &str| ids.iter().any(|t| t.transaction_id == id);
        match () {
            () if has("id-13") => Reaction::status(422),
            () if has("id-33") => Reaction::status(404),
            () => Reaction::Normal,
        }
    }))
    .await;
    for (rows, level, text) in [
        (10, "INFO", "successfully sent 10 transactions"),
        (20, "ERROR", ": the bridge rejected 1 transaction (422)"),
        (
            40,
            "ERROR",
            ": the bridge rejected 1 transaction (422); http://",
        ),
        (
            40,
            "ERROR",
            "404 Not Found. Check the path of BRIDGE_EDGE_ENDPOINT",
        ),
    ] {
        world.s3.put("log", log(rows));
        world.notify("log");
        assert_eq!(world.poll(PLENTY).await, Some(true));
        let lines = lines.json();
        let line = lines.iter().rfind(|line| line.get("_aws").is_some());
        let (line, message) = (line.unwrap(), line.unwrap()["message"].as_str().unwrap());
        assert_eq!(line["level"], level, "{message}");
        assert!(message.contains(text), "{message}");
    }
}

/// The deadline passes while the bridge accepts the first of two objects.
// proves: D8, D11, D13
#[tokio::test]
async fn object_that_was_not_begun_is_requeued_at_once() {
    let options = Options {
        delay: Duration::from_millis(500),
        ..Options::default()
    };
    let world = world_with(options, LIMITS, 4).await;
    world.s3.put("first", log(10));
    let rows: String = (100..110).map(row).collect();
    world
        .s3
        .put("second", crate::support::HEADER.to_owned() + &rows);
    let event = crate::support::s3_event(&["first", "second"]);
    world.sqs.send(event.to_string());
    assert_eq!(world.poll(Duration::from_millis(300)).await, Some(true));
    let [left] = &world.sqs.messages()[..] else {
        panic!("{:?}", world.sqs.messages())
    };
    let continuation: Continuation = serde_json::from_str(&left.body).unwrap();
    assert_eq!(continuation.object.key, "second");
    assert_eq!((continuation.attempts, continuation.requeue_count), (0, 1));
    assert_eq!(left.visible_from, left.sent, "the deadline was the reason");
    assert_eq!(world.drain(PLENTY, 1).await, 1);
    assert_eq!(world.arrivals(), once_each((0..10).chain(100..110)));
}

/// Names, units, namespace and dimension of the metrics are those of the dashboard and the alarms.
// proves: D28
#[tokio::test]
async fn object_line_carries_metrics_at_every_level() {
    let known: Value =
        serde_json::from_str(include_str!("../../terraform/modules/edgetap/metrics.json")).unwrap();
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::ERROR);
    let world = sequential(at_edge(|number, body| {
        let rejected = decode(body)
            .unwrap()
            .iter()
            .any(|t| t.transaction_id == "id-1015");
        if number == 2 {
            Reaction::status(503)
        } else if rejected {
            Reaction::status(422)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world
        .s3
        .put("E27FO14I29XXXX.2026-11-14-20.d740d76b.gz", gzip(&log(1025)));
    world.notify("E27FO14I29XXXX.2026-11-14-20.d740d76b.gz");
    world.drain(PLENTY, 1).await;

    let lines: Vec<Value> = lines
        .json()
        .into_iter()
        .filter(|line| line.get("_aws").is_some())
        .collect();
    let [line, more @ ..] = &lines[..] else {
        panic!()
    };
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(
        (&directive["Namespace"], &directive["Dimensions"]),
        (&known["namespace"], &json!([[known["dimension"]]]))
    );
    assert_eq!(line[known["dimension"].as_str().unwrap()], "edgetap");
    assert!(line["_aws"]["Timestamp"].is_i64());
    let named: BTreeMap<_, _> = directive["Metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| (metric["Name"].as_str().unwrap(), &metric["Unit"]))
        .collect();
    let mut known = known["metrics"].as_object().unwrap().clone();
    assert!(known.remove("unconfigured").is_some(), "not of an object");
    for (name, metric) in &known {
        assert_eq!(named.get(name.as_str()), Some(&&metric["unit"]), "{name}");
        assert!(
            line[name].is_u64()
                || line[name]
                    .as_array()
                    .is_some_and(|values| (1..=100).contains(&values.len())),
            "{name}: {}",
            line[name]
        );
    }
    assert_eq!(named.len(), known.len());
    let number = |name: &str| line[name].as_u64().unwrap();
    assert_eq!(
        (
            number("rows"),
            number("sent"),
            number("rejected"),
            number("dead_letters"),
            number("retries")
        ),
        (1025, 1024, 1, 1, 1)
    );
    assert_eq!(
        (
            number("token_requests"),
            number("lost"),
            number("requeues"),
            number("messages_delayed")
        ),
        (1, 0, 0, 0)
    );
    assert!(number("bytes_in") > 1000);
    assert!(number("bytes_out") > 100_000);
    let members: Vec<_> = line.as_object().unwrap().keys().collect();
    assert_eq!(members, LINE_MEMBERS);
    // The latencies of more than 100 requests need further lines.
    assert_eq!(more.len(), 2, "{more:#?}");
    let latencies: usize = lines
        .iter()
        .map(|line| line["bridge_latency"].as_array().map_or(0, Vec::len))
        .sum();
    assert!(latencies > 103, "{latencies}");
}

// proves: D18
#[tokio::test]
async fn outage_is_not_taken_for_kills() {
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::INFO);
    let world = sequential(at_edge(|_, _| Reaction::status(404))).await;
    world.s3.put("log", log(45));
    world.notify("log");
    for _ in 0..8 {
        world.sqs.wait_for_next();
        assert_eq!(world.poll(Duration::from_secs(50)).await, Some(false));
    }
    let text = lines.text();
    assert!(!text.contains("killed"), "{text}");
}

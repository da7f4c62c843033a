//! Several messages in one event: they are delivered side by side, and none costs another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use edgetap::batch::Limits;
use edgetap::continuation::Continuation;
use edgetap::local_bridge::{Arrival, Options, Reaction, decode};
use edgetap::time::Clock;
use jiff::SignedDuration;
use serde_json::json;
use tokio::sync::Notify;

use crate::support::fake_sqs::{DEAD_LETTERS, ENTRY, OTHER_DEAD_LETTERS, OTHER_WORK, WORK};
use crate::support::{World, at_edge, log, row, s3_event, world, world_with};

const LIMITS: Limits = Limits {
    transactions: 10,
    bytes: 1_000_000,
};
const PLENTY: Duration = Duration::from_secs(20);

/// Puts an object whose rows are numbered from `first`, and notifies its message.
fn put(world: &World, key: &str, first: u64, rows: u64) {
    let rows: String = (first..first + rows).map(row).collect();
    world.s3.put(key, crate::support::HEADER.to_owned() + &rows);
    world.notify(key);
}

fn first_id(arrival: &Arrival<'_>) -> u64 {
    let id = &decode(arrival.body).unwrap()[0].transaction_id;
    id[3..].parse().unwrap()
}

/// The requests that are in flight at the bridge, and the most that were.
#[derive(Clone, Default)]
struct InFlight(Arc<(AtomicU64, AtomicU64)>);

impl InFlight {
    /// Counts a request for 50 ms, less than the bridge takes for it.
    fn count(&self) -> u64 {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            this.0.0.fetch_sub(1, Ordering::SeqCst);
        });
        now
    }

    fn most(&self) -> u64 {
        self.0.1.load(Ordering::SeqCst)
    }
}

// proves: D29, B11
#[tokio::test]
async fn messages_of_an_event_are_delivered_side_by_side() {
    let in_flight = InFlight::default();
    let counter = in_flight.clone();
    let mut options = at_edge(move |_| {
        counter.count();
        Reaction::Normal
    });
    options.delay = Duration::from_millis(500);
    let world = world_with(options, LIMITS, 6).await;
    for message in 0..10 {
        put(&world, &format!("log-{message}"), message * 100, 5);
    }
    assert_eq!(world.poll_batch(10, PLENTY).await, [true; 10]);
    assert_eq!(in_flight.most(), 6, "the limit is that of the process");
    assert_eq!(world.sqs.requests("ChangeMessageVisibilityBatch"), 1);
    assert_eq!(world.sqs.requests("ChangeMessageVisibility"), 0);
    let deleted = world.sqs.requests("DeleteMessage");
    assert_eq!(
        deleted, 9,
        "the last one is done when the function responds"
    );
    assert_eq!(world.arrivals().len(), 50);
    assert!(world.arrivals().values().all(|times| *times == 1));
}

// proves: D29
#[tokio::test]
async fn kill_costs_finished_messages_nothing() {
    let options = at_edge(|arrival| match first_id(&arrival) {
        300.. => Reaction::After(Duration::from_mins(1)),
        _ => Reaction::Normal,
    });
    let world = world_with(options, LIMITS, 10).await;
    for message in 0..4 {
        put(&world, &format!("log-{message}"), message * 100, 25);
    }
    let function = world.poll_batch(10, Duration::from_mins(5));
    // Dropped in the middle, as when Lambda kills the process.
    assert!(
        tokio::time::timeout(Duration::from_secs(2), function)
            .await
            .is_err()
    );
    let [left] = &world.sqs.messages()[..] else {
        panic!("{:?}", world.sqs.messages())
    };
    assert!(left.body.contains("log-3"), "{}", left.body);
    assert_eq!(world.ids().len(), 75);
}

/// The process is killed at each of its requests in turn, to whichever peer.
// proves: D17, D29, D30
#[tokio::test]
async fn kill_at_any_request_loses_nothing() {
    let (mut kills, mut is_killed) = (0, true);
    while is_killed {
        kills += 1;
        let (requests, is_there) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let count = {
            let (requests, is_there) = (requests.clone(), is_there.clone());
            move || {
                if requests.fetch_add(1, Ordering::SeqCst) + 1 == kills {
                    is_there.notify_one();
                }
            }
        };
        let (at_bridge, was_down) = (count.clone(), AtomicBool::new(false));
        let options = at_edge(move |arrival| {
            at_bridge();
            let ids = decode(arrival.body).unwrap();
            let has = |id: &str| ids.iter().any(|t| t.transaction_id == id);
            match () {
                () if has("id-103") => Reaction::status(422),
                () if has("id-215") && !was_down.swap(true, Ordering::SeqCst) => {
                    Reaction::status(404)
                }
                () => Reaction::Normal,
            }
        });
        let world = world_with(options, LIMITS, 4).await;
        let at_s3 = count.clone();
        world.s3.react(move || {
            at_s3();
            None
        });
        world.sqs.misbehave(move |action, _| {
            if action != ENTRY {
                count();
            }
            None
        });
        put(&world, "one", 0, 25);
        put(&world, "rejected", 100, 15);
        put(&world, "requeued", 200, 35);
        // A killed process sends nothing more. What it sent before may still take effect.
        is_killed = tokio::select! {
            biased;
            () = is_there.notified() => true,
            _ = world.poll_batch(10, PLENTY) => false,
        };
        world.drain_batches(10, PLENTY, 10).await;
        let arrived: BTreeSet<_> = world.ids().into_iter().collect();
        let good = (0..25).chain(100..115).chain(200..235);
        let expected = good
            .filter(|row| *row != 103)
            .map(|row| format!("id-{row}"));
        assert_eq!(arrived, expected.collect(), "{kills}");
        let letters = world.sqs.dead_letters();
        let rejected = letters.iter().map(|letter| {
            let letter: Continuation = serde_json::from_str(&letter.body).unwrap();
            (letter.object.key, json!(letter.rows))
        });
        let rejected: BTreeSet<_> = rejected
            .map(|(key, rows)| format!("{key} {rows}"))
            .collect();
        assert_eq!(rejected, ["rejected [[3,4]]".to_owned()].into(), "{kills}");
    }
    assert!(kills > 15, "{kills}");
}

// proves: D29
#[tokio::test]
async fn panic_fails_its_own_message_only() {
    let mut world = world(Options::default(), LIMITS).await;
    for message in 0..3 {
        put(&world, &format!("log-{message}"), message * 100, 5);
    }
    let (calls, clock) = (AtomicU64::new(0), world.sqs.clock());
    world.function.clock = Clock::new(move || {
        // Once for each message before any is begun.
        assert_ne!(calls.fetch_add(1, Ordering::SeqCst), 3, "for a test");
        clock.now()
    });
    let done = world.poll_batch(10, PLENTY).await;
    assert_eq!(done.iter().filter(|done| !**done).count(), 1, "{done:?}");
    assert_eq!(world.ids().len(), 10);
    world.drain(PLENTY, 1).await;
    assert_eq!(world.arrivals().len(), 15);
}

// proves: D29
#[tokio::test]
async fn message_that_was_killed_before_runs_alone_and_last() {
    let in_flight = InFlight::default();
    let counter = in_flight.clone();
    let beside = Arc::new(AtomicU64::new(0));
    let others = beside.clone();
    let mut options = at_edge(move |arrival| {
        let now = counter.count();
        if first_id(&arrival) >= 300 {
            others.fetch_max(now, Ordering::SeqCst);
        }
        Reaction::Normal
    });
    options.delay = Duration::from_millis(100);
    let world = world_with(options, LIMITS, 10).await;
    put(&world, "killed", 300, 5);
    // Received, and visible again when the function would have been killed: its time, and 70 s.
    let hold = PLENTY + Duration::from_secs(70);
    let [killed] = &world.sqs.receive_batch(1, hold, |_| 0)[..] else {
        panic!()
    };
    assert_eq!(killed["attributes"]["ApproximateReceiveCount"], "1");
    world.sqs.wait_for_next();
    for message in 0..3 {
        put(&world, &format!("log-{message}"), message * 100, 5);
    }
    assert_eq!(world.poll_batch(10, PLENTY).await, [true; 4]);
    assert_eq!(in_flight.most(), 3);
    assert_eq!(beside.load(Ordering::SeqCst), 1, "nothing ran beside it");
    assert!(
        world.ids().ends_with(&["id-304".to_owned()]),
        "{:?}",
        world.ids()
    );
}

/// Objects of 8 MiB: four at a time.
// proves: D29
#[tokio::test]
async fn message_that_was_not_begun_is_visible_at_once() {
    let options = at_edge(|_| Reaction::After(Duration::from_millis(300)));
    let world = world_with(options, LIMITS, 10).await;
    for message in 0..5 {
        let key = format!("log-{message}");
        world.s3.put(&key, log(25));
        let mut event = s3_event(&[&key]);
        event["Records"][0]["s3"]["object"]["size"] = json!(8 << 20);
        world.sqs.send(event.to_string());
    }
    let done = world.poll_batch(10, Duration::from_millis(200)).await;
    assert_eq!(done.iter().filter(|done| !**done).count(), 1, "{done:?}");
    let waiting = world.sqs.messages();
    let untouched = waiting.iter().filter(|left| left.body.contains("Records"));
    assert_eq!(untouched.count(), 1, "{waiting:?}");
    assert_eq!(world.sqs.wait_for_next(), Some(SignedDuration::ZERO));
    world.drain_batches(10, PLENTY, 4).await;
    assert_eq!(world.arrivals().len(), 25);
}

// proves: D29
#[tokio::test]
async fn own_queue_decides_the_dead_letter_queue() {
    let world = world(Options::default(), LIMITS).await;
    for (queue, key) in [(WORK, "first"), (OTHER_WORK, "second"), (WORK, "third")] {
        world.s3.put(key, "neither a header nor a row\n");
        world.sqs.send_to(queue, s3_event(&[key]).to_string());
    }
    while world.sqs.wait_for_next().is_some() {
        world.poll_batch(10, PLENTY).await;
    }
    let mut letters: Vec<_> = world
        .sqs
        .dead_letters()
        .iter()
        .map(|letter| {
            let continuation: Continuation = serde_json::from_str(&letter.body).unwrap();
            (letter.queue, continuation.object.key)
        })
        .collect();
    letters.sort_by(|one, other| one.1.cmp(&other.1));
    let expected = [
        (DEAD_LETTERS, "first"),
        (OTHER_DEAD_LETTERS, "second"),
        (DEAD_LETTERS, "third"),
    ];
    assert_eq!(
        letters,
        expected.map(|(queue, key)| (queue, key.to_owned()))
    );
}

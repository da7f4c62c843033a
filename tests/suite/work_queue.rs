//! Nothing lost: what becomes of objects that cannot be delivered at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use edgetap::batch::Limits;
use edgetap::job::Continuation;
use edgetap::local_bridge::{Endpoint, Options, Reaction, decode};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::fake_s3::Fault;
use crate::support::{CapturedLogs, World, gzip, log, row, world};

const LIMITS: Limits = Limits {
    transactions: 10,
    bytes: 1_000_000,
};
const PLENTY: Duration = Duration::from_secs(20);

/// What the edge endpoint does, by the number of the post; the token endpoint does what it should.
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

async fn quiet(options: Options) -> World {
    let mut world = world(options, LIMITS).await;
    world.function.concurrency = 1;
    world
}

/// How often each transaction arrived.
fn arrivals(world: &World) -> BTreeMap<String, u64> {
    world
        .ids()
        .into_iter()
        .fold(BTreeMap::new(), |mut counts, id| {
            *counts.entry(id).or_default() += 1;
            counts
        })
}

fn once_each(rows: impl IntoIterator<Item = u64>) -> BTreeMap<String, u64> {
    rows.into_iter()
        .map(|row| (format!("id-{row}"), 1))
        .collect()
}

fn letters(world: &World) -> Vec<Continuation> {
    world
        .sqs
        .dead_letters()
        .iter()
        .map(|letter| serde_json::from_str(&letter.body).unwrap())
        .collect()
}

#[tokio::test]
async fn the_rest_of_an_object_goes_on_where_it_was_left() {
    let world = quiet(at_edge(|number, _| {
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
        "the first message is done: the rest has one of its own"
    );
    let [rest] = &world.sqs.messages()[..] else {
        panic!()
    };
    let continuation: Continuation = serde_json::from_str(&rest.body).unwrap();
    assert_eq!(
        (
            &continuation.rows[..],
            continuation.requeue_count,
            continuation.object.etag.is_some()
        ),
        (&[(20, None)][..], 1, true)
    );
    assert!(
        rest.trace
            .as_deref()
            .is_some_and(|trace| trace.starts_with("Root=")),
        "AWS counts hops by it"
    );
    assert_eq!(world.drain(PLENTY, 5).await, 1);
    assert_eq!(arrivals(&world), once_each(0..45));
    assert_eq!(world.sqs.dead_letters().len(), 0);
}

#[tokio::test]
async fn a_bridge_that_is_down_costs_rests_and_no_hops() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = down.clone();
    let world = quiet(at_edge(move |_, _| {
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
        let rest = world.sqs.wait_for_next().unwrap();
        let (least, most) = (
            SignedDuration::from_secs(minutes * 48 - 1),
            SignedDuration::from_mins(minutes),
        );
        assert!(
            (least..=most).contains(&rest),
            "{rest:?} for {minutes} minutes"
        );
    }
    assert_eq!(world.sqs.requests("SendMessage"), 0);
    down.store(false, Ordering::Relaxed);
    world.drain(PLENTY, 2).await;
    assert_eq!(arrivals(&world), once_each(0..45));
}

#[tokio::test]
async fn a_bridge_that_accepts_one_batch_and_then_fails_for_days_neither_loses_nor_loops() {
    // Every invocation gets one batch through.
    let accepted = Arc::new(AtomicU64::new(0));
    let seen = accepted.clone();
    let world = quiet(at_edge(move |_, _| {
        if seen.fetch_add(1, Ordering::Relaxed) == 0 {
            Reaction::Normal
        } else {
            Reaction::status(503)
        }
    }))
    .await;
    world.s3.put("log", log(300));
    world.notify("log");
    let (mut requeue_count, mut invocations) = (BTreeSet::new(), 0);
    while world.sqs.wait_for_next().is_some() {
        accepted.store(0, Ordering::Relaxed);
        for message in world.sqs.messages() {
            requeue_count.extend(
                serde_json::from_str::<Continuation>(&message.body)
                    .ok()
                    .map(|rest| rest.requeue_count),
            );
        }
        world.poll(PLENTY).await.unwrap();
        invocations += 1;
        assert!(invocations < 400, "it loops");
    }
    assert_eq!(requeue_count.last(), Some(&12));
    let [letter] = &letters(&world)[..] else {
        panic!()
    };
    let [(first, None)] = letter.rows[..] else {
        panic!("{letter:?}")
    };
    // What was accepted once more is known by its key; nothing is missing before the rows that the letter names.
    let arrived: BTreeSet<_> = arrivals(&world).into_keys().collect();
    assert!(
        (0..first).all(|row| arrived.contains(&format!("id-{row}"))),
        "{first} {}",
        arrived.len()
    );
    let keys: BTreeSet<_> = world
        .bridge
        .received()
        .into_iter()
        .map(|batch| (batch.key, batch.body))
        .collect();
    assert_eq!(
        keys.len() * 10,
        arrived.len(),
        "the same rows have the same key and body"
    );
}

#[tokio::test]
async fn refused_transactions_are_one_dead_letter_and_can_be_brought_back() {
    let strict = Arc::new(AtomicBool::new(true));
    let is_strict = strict.clone();
    let world = quiet(at_edge(move |_, body| {
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
    let [letter] = &letters(&world)[..] else {
        panic!()
    };
    assert_eq!(letter.rows, [(13, Some(15)), (31, Some(32))]);
    assert!(
        letter.reason.contains("3 transactions (422)"),
        "{}",
        letter.reason
    );
    assert!(
        !world.sqs.dead_letters()[0].body.contains("/row/"),
        "no content"
    );
    assert_eq!(
        arrivals(&world),
        once_each((0..45).filter(|row| ![13, 14, 31].contains(row)))
    );

    strict.store(false, Ordering::Relaxed);
    world.sqs.redrive();
    world.drain(PLENTY, 2).await;
    assert_eq!(arrivals(&world), once_each(0..45));
    assert_eq!(world.sqs.dead_letters().len(), 0);
}

#[tokio::test]
async fn a_refusal_is_settled_only_once_its_dead_letter_is_accepted() {
    let world = quiet(at_edge(|_, body| {
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
    // The SDK tries each twice.
    world
        .sqs
        .fail(|action, number| action == "SendMessage" && number <= 4);
    world.s3.put("log", log(45));
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(false));
    world.drain(PLENTY, 5).await;
    assert_eq!(letters(&world).len(), 1);
    let arrived: BTreeSet<_> = arrivals(&world).into_keys().collect();
    assert_eq!(
        arrived,
        once_each((0..45).filter(|row| *row != 13))
            .into_keys()
            .collect()
    );
}

#[tokio::test]
async fn objects_that_cannot_be_read_are_dead_lettered_after_what_was_good() {
    let world = quiet(Options::default()).await;
    let whole = gzip(&log(1000));
    world.s3.put("cut.gz", whole[..whole.len() - 8].to_vec());
    world.s3.put("other", "{\"Records\": []}\n");
    world.s3.put(
        "few-fields",
        "#Fields: date time cs-method\n2026-11-14\t20:00:00\tGET\n",
    );
    for key in ["cut.gz", "other", "few-fields"] {
        world.notify(key);
    }
    assert_eq!(world.drain(PLENTY, 3).await, 3);
    assert_eq!(arrivals(&world), once_each(0..1000));
    let letters: Vec<_> = letters(&world)
        .into_iter()
        .map(|letter| (letter.object.key, letter.rows, letter.reason))
        .collect();
    let expected = [
        ("cut.gz", 1000, "to its end"),
        ("other", 0, "cs-method"),
        ("few-fields", 0, "c-ip"),
    ];
    for ((key, rows, reason), (wanted, from, words)) in letters.iter().zip(expected) {
        assert!(
            key == wanted && *rows == [(from, None)] && reason.contains(words),
            "{letters:?}"
        );
    }
    assert_eq!(letters.len(), 3);
}

#[tokio::test]
async fn a_hand_over_that_fails_costs_duplicates_and_no_rows() {
    let world = quiet(at_edge(|number, _| {
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
    let arrived = arrivals(&world);
    assert_eq!(
        arrived.keys().collect::<BTreeSet<_>>(),
        once_each(0..45).keys().collect()
    );
    assert!(
        arrived.values().all(|times| *times <= 2) && arrived["id-0"] == 2 && arrived["id-20"] == 1,
        "{arrived:?}"
    );
    assert!(
        world
            .bridge
            .received()
            .iter()
            .filter(|batch| batch.repeated)
            .count()
            == 2
    );
}

#[tokio::test]
async fn visibility_that_cannot_be_changed_loses_nothing() {
    let world = quiet(at_edge(|number, _| {
        if number <= 5 {
            Reaction::status(500)
        } else {
            Reaction::Normal
        }
    }))
    .await;
    world
        .sqs
        .fail(|action, _| action == "ChangeMessageVisibility");
    world.s3.put("log", log(25));
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(false));
    assert_eq!(
        world.sqs.wait_for_next(),
        Some(SignedDuration::from_mins(30)),
        "as the mapping hid it"
    );
    world.drain(PLENTY, 1).await;
    assert_eq!(arrivals(&world), once_each(0..25));
}

#[tokio::test]
async fn the_message_is_hidden_for_as_long_as_the_function_can_take() {
    let world = quiet(Options {
        delay: Duration::from_mins(1),
        ..Options::default()
    })
    .await;
    world.s3.put("log", log(25));
    world.notify("log");
    let function = world.poll(Duration::from_hours(1));
    // Killed in the middle, as Lambda does.
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

#[tokio::test]
async fn a_deadline_shorter_than_the_object_costs_hops() {
    let world = quiet(Options {
        delay: Duration::from_millis(40),
        ..Options::default()
    })
    .await;
    world.s3.put("log", log(200));
    world.notify("log");
    let invocations = world.drain(Duration::from_millis(250), 60).await;
    assert!(invocations > 2, "{invocations}");
    let arrived = arrivals(&world);
    assert_eq!(
        arrived.keys().collect::<BTreeSet<_>>(),
        once_each(0..200).keys().collect()
    );
    // At most the batch that was in flight at each deadline came twice.
    let repeated = world
        .bridge
        .received()
        .iter()
        .filter(|batch| batch.repeated)
        .count();
    assert!(repeated < invocations, "{repeated} of {invocations}");
}

#[tokio::test]
async fn an_object_that_is_gone_is_done_when_it_was_never_begun_and_lost_when_it_was() {
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::INFO);
    let world = quiet(at_edge(|number, _| {
        if number == 2 {
            Reaction::status(404)
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
    assert!(
        lost["level"] == "ERROR"
            && lost["message"]
                .as_str()
                .unwrap()
                .contains("from row 10 to its end"),
        "{lost}"
    );
}

#[tokio::test]
async fn an_object_that_was_replaced_is_read_again_from_its_beginning() {
    let world = quiet(at_edge(|number, _| {
        if number == 2 {
            Reaction::status(404)
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
    assert_eq!(arrivals(&world), once_each((0..10).chain(100..130)));
}

/// Refused rows from the first on: that nothing is left before them does not make them the whole object.
#[tokio::test]
async fn a_dead_letter_of_first_rows_whose_object_was_replaced_is_read_from_its_beginning() {
    let world = quiet(at_edge(|number, body| {
        let bad = decode(body)
            .unwrap()
            .iter()
            .any(|t| t.transaction_id == "id-0");
        // Once it has accepted something a bridge is believed that it refuses something.
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
    let [letter] = &letters(&world)[..] else {
        panic!()
    };
    assert_eq!(letter.rows, [(0, Some(1))]);
    world.s3.put(
        "log",
        crate::support::HEADER.to_owned() + &(100..130).map(row).collect::<String>(),
    );
    world.sqs.redrive();
    world.drain(PLENTY, 2).await;
    assert_eq!(arrivals(&world), once_each((1..20).chain(100..130)));
}

/// What was delivered of a message does not come again with what was not.
#[tokio::test]
async fn of_several_objects_in_a_message_only_those_not_delivered_come_again() {
    for keys in [["good", "bad"], ["bad", "good"]] {
        let down = Arc::new(AtomicBool::new(true));
        let is_down = down.clone();
        let world = quiet(at_edge(move |_, body| {
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
            "what is left has a message of its own"
        );
        let [rest] = &world.sqs.messages()[..] else {
            panic!()
        };
        let rest: Continuation = serde_json::from_str(&rest.body).unwrap();
        assert_eq!(
            (rest.object.key.as_str(), &rest.rows[..], rest.requeue_count),
            ("bad", &[(0, None)][..], 1)
        );
        world.sqs.wait_for_next();
        assert_eq!(
            world.poll(PLENTY).await,
            Some(false),
            "alone it makes no progress"
        );
        down.store(false, Ordering::Relaxed);
        world.drain(PLENTY, 1).await;
        assert_eq!(arrivals(&world), once_each((0..25).chain(100..130)));
    }
}

/// A message that rests costs less than a function that waits.
#[tokio::test]
async fn a_bridge_that_asks_for_long_waits_is_not_waited_for_in_an_invocation() {
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
        let world = quiet(Options {
            react: Arc::new(react),
            ..Options::default()
        })
        .await;
        world.s3.put("log", log(45));
        world.notify("log");
        let polled =
            tokio::time::timeout(Duration::from_mins(1), world.poll(Duration::from_mins(14))).await;
        assert_eq!(
            polled.expect("it waits as long as it is asked"),
            Some(false)
        );
        assert!(
            world.sqs.wait_for_next().unwrap() <= SignedDuration::from_mins(1),
            "postponed"
        );
    }
}

#[tokio::test]
async fn s3_trouble_is_postponed_and_passes() {
    let world = quiet(Options::default()).await;
    world.s3.put("log", log(45));
    world.notify("log");
    world.s3.fail(0, Fault::Status(403));
    assert_eq!(
        world.poll(PLENTY).await,
        Some(false),
        "a missing permission may be given"
    );
    world.drain(PLENTY, 1).await;
    assert_eq!(arrivals(&world), once_each(0..45));
}

/// A batch that a broken read cut short would have a key of its own, and so would all that follow it.
#[tokio::test]
async fn a_read_that_breaks_off_moves_no_batch() {
    let world = quiet(Options::default()).await;
    let text = log(45);
    let rows_25 = text.find("/row/25").unwrap();
    world.s3.put("log", text);
    world.s3.fail(0, Fault::Cut(rows_25));
    for get in 1..=10 {
        world.s3.fail(get, Fault::HangUp); // each of 5 attempts is tried twice
    }
    world.notify("log");
    assert_eq!(world.poll(PLENTY).await, Some(true), "handed over");
    let [rest] = &world.sqs.messages()[..] else {
        panic!()
    };
    assert_eq!(
        serde_json::from_str::<Continuation>(&rest.body)
            .unwrap()
            .rows,
        [(20, None)],
        "25 rows were read"
    );
    assert_eq!(world.drain(PLENTY, 1).await, 1);
    assert_eq!(arrivals(&world), once_each(0..45));
    let sizes: Vec<_> = world
        .bridge
        .received()
        .iter()
        .map(|batch| batch.transactions.len())
        .collect();
    assert_eq!(sizes, [10, 10, 10, 10, 5]);
}

#[tokio::test]
async fn the_same_object_notified_twice_has_the_same_ids_and_keys() {
    let world = quiet(Options::default()).await;
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

/// A fixture of every version is read for ever.
#[tokio::test]
async fn continuations_of_every_version_are_read_and_those_to_come_are_kept() {
    let world = quiet(Options::default()).await;
    world.s3.put("a b/log.gz", log(45));
    let version_1: Value =
        serde_json::from_str(include_str!("../fixtures/continuations/version-1.json")).unwrap();
    world.sqs.send(version_1.to_string());
    assert_eq!(world.drain(PLENTY, 2).await, 1);
    assert_eq!(arrivals(&world), once_each((0..3).chain(40..45)));

    let mut later = version_1;
    later["edgetap"] = json!(2);
    world.sqs.send(later.to_string());
    assert_eq!(
        world.poll(PLENTY).await,
        Some(false),
        "it waits for the version that reads it"
    );
}

/// Else its message would be done, and nothing delivered.
#[tokio::test]
async fn a_continuation_that_asks_for_nothing_is_not_done() {
    let world = quiet(Options::default()).await;
    let sound: Value =
        serde_json::from_str(include_str!("../fixtures/continuations/version-1.json")).unwrap();
    for rows in [json!([]), json!([[5, 3]]), json!([[0, 3], [9, 8]])] {
        let mut message = sound.clone();
        message["rows"] = rows.clone();
        world.sqs.send(message.to_string());
        assert_eq!(world.poll(PLENTY).await, Some(false), "{rows}");
    }
}

/// The line of an object is its metrics: names, units, namespace and dimension are those of the dashboard and the alarms.
#[tokio::test]
async fn the_line_of_an_object_is_its_metrics_at_every_level() {
    let known: Value = serde_json::from_str(include_str!("../../terraform/metrics.json")).unwrap();
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::ERROR);
    let world = quiet(at_edge(|number, body| {
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
    for (name, metric) in known["metrics"].as_object().unwrap() {
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
    assert_eq!(named.len(), known["metrics"].as_object().unwrap().len());
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
    assert!(number("bytes_in") > 1000 && number("bytes_out") > 100_000);
    // A hundred and some posts do not fit into one line.
    assert_eq!(more.len(), 2, "{more:#?}");
    let latencies: usize = lines
        .iter()
        .map(|line| line["bridge_latency"].as_array().map_or(0, Vec::len))
        .sum();
    assert!(latencies > 103, "{latencies}");
}

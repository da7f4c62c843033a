//! The meaning of each response of the bridge: the table in `docs/semantics.md`, row by row.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use edgetap::batch::Limits;
use edgetap::ingest::{Outcome, StopReason, ingest};
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{Arrival, Endpoint, LocalBridge, Options, React, Reaction, decode};
use edgetap::pipeline::Rejection;
use edgetap::time::Deadline;
use edgetap::token::AuthMethod;

use crate::support::{client, log, rules, start};

const LIMITS: Limits = Limits {
    transactions: 10,
    bytes: 1_000_000,
};

/// The edge endpoint reacts; the token endpoint behaves.
fn at_edge(react: impl Fn(Arrival<'_>) -> Reaction + Send + Sync + 'static) -> Options {
    let react: React = Arc::new(move |arrival| {
        if arrival.endpoint == Endpoint::Edge {
            react(arrival)
        } else {
            Reaction::Normal
        }
    });
    Options {
        react,
        ..Options::default()
    }
}

/// Delivers a log of `rows` rows, one request at a time.
async fn deliver(options: &Options, rows: u64, deadline: Duration) -> (Outcome, LocalBridge) {
    let bridge = start(options).await;
    let client = client(&bridge, options, AuthMethod::Post, None);
    let job = Job::all(ObjectRef::local("log"));
    let session = client.session(Deadline::after(deadline));
    let outcome = ingest(
        &job,
        std::io::Cursor::new(log(rows)),
        &rules(LIMITS),
        &session,
        1,
    )
    .await;
    (outcome, bridge)
}

fn html(status: u16) -> Reaction {
    Reaction::Respond {
        status,
        headers: vec![("content-type", "text/html; charset=utf-8".to_owned())],
        body: "<html>log in</html>".to_owned(),
    }
}

fn ids(body: &[u8]) -> BTreeSet<String> {
    decode(body)
        .unwrap()
        .into_iter()
        .map(|transaction| transaction.transaction_id)
        .collect()
}

fn accepted(bridge: &LocalBridge) -> Vec<String> {
    bridge
        .received()
        .iter()
        .flat_map(|batch| batch.transactions.iter().map(|t| t.transaction_id.clone()))
        .collect()
}

fn misconfigured(outcome: Outcome) -> String {
    match outcome {
        Outcome::Partial {
            why: StopReason::Misconfigured(why),
            ..
        } => why,
        other => panic!("{other:?}"),
    }
}

// proves: B1, B9
#[tokio::test]
async fn misconfiguration_is_reported_without_retry() {
    for (reaction, words) in [
        (html(200), "HTML page"),
        (
            Reaction::Respond {
                status: 200,
                headers: vec![("content-type", "Text/HTML".to_owned())],
                body: String::new(),
            },
            "HTML page",
        ),
        (
            Reaction::Respond {
                status: 302,
                headers: vec![("location", "/elsewhere".to_owned())],
                body: String::new(),
            },
            "Redirects are not followed",
        ),
        (Reaction::status(301), "Redirects are not followed"),
        (Reaction::status(403), "permissions"),
        (Reaction::status(404), "path of BRIDGE_EDGE_ENDPOINT"),
        (Reaction::status(405), "path of BRIDGE_EDGE_ENDPOINT"),
        (Reaction::status(400), "accepted none"),
        (Reaction::status(422), "accepted none"),
        (Reaction::status(501), "BRIDGE_EDGE_ENDPOINT"),
        (Reaction::status(505), "BRIDGE_EDGE_ENDPOINT"),
    ] {
        let response = reaction.clone();
        let (outcome, bridge) = deliver(
            &at_edge(move |_| response.clone()),
            30,
            Duration::from_secs(20),
        )
        .await;
        let why = misconfigured(outcome);
        assert!(why.contains(words), "{reaction:?}: {why}");
        assert!(why.contains(&bridge.edge_url()), "{reaction:?}: {why}");
        assert_eq!(bridge.tally().requests, 1, "{reaction:?}");
    }
}

// proves: B6
#[tokio::test]
async fn transient_failure_is_retried_until_success() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (outcome, bridge) = deliver(
            &at_edge(move |arrival| {
                if arrival.number <= 4 {
                    Reaction::status(status)
                } else {
                    Reaction::Normal
                }
            }),
            25,
            Duration::from_secs(20),
        )
        .await;
        assert!(
            matches!(outcome, Outcome::Complete(ref summary) if summary.counts.sent == 25),
            "{status}: {outcome:?}"
        );
        assert_eq!(bridge.tally().requests, 4 + 3, "{status}");
    }
}

// proves: B6
#[tokio::test]
async fn retries_stop_after_five_attempts() {
    let (outcome, bridge) = deliver(
        &at_edge(|arrival| {
            if arrival.number == 1 {
                Reaction::Normal
            } else {
                Reaction::status(503)
            }
        }),
        25,
        Duration::from_secs(20),
    )
    .await;
    let Outcome::Partial {
        from_row: 10,
        why: StopReason::Later(why),
        summary,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert!(why.contains("503"), "{why}");
    assert_eq!(
        (summary.counts.rows, summary.counts.sent, summary.batches),
        (10, 10, 1)
    );
    assert_eq!(bridge.tally().requests, 1 + 5);
}

// proves: B10
#[tokio::test]
async fn dropped_connection_gets_one_free_retry_with_same_key() {
    let (outcome, bridge) = deliver(
        &at_edge(|arrival| {
            if arrival.number == 2 {
                Reaction::NormalThenHangUp
            } else {
                Reaction::Normal
            }
        }),
        25,
        Duration::from_secs(20),
    )
    .await;
    assert!(matches!(outcome, Outcome::Complete(_)), "{outcome:?}");
    let received = bridge.received();
    assert_eq!(
        received
            .iter()
            .map(|batch| batch.repeated)
            .collect::<Vec<_>>(),
        [false, false, true, false]
    );
    assert_eq!(
        (&received[1].key, &received[1].body),
        (&received[2].key, &received[2].body)
    );
}

// proves: B6
#[tokio::test]
async fn unreachable_bridge_is_retried_later() {
    let options = Options::default();
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    client.session(Deadline::NEVER).warm_up().await.unwrap();
    drop(bridge);
    let job = Job::all(ObjectRef::local("log"));
    let outcome = ingest(
        &job,
        std::io::Cursor::new(log(3)),
        &rules(LIMITS),
        &client.session(Deadline::NEVER),
        1,
    )
    .await;
    assert!(
        matches!(outcome, Outcome::Partial { from_row: 0, why: StopReason::Later(ref why), .. } if why.contains("connect")),
        "{outcome:?}"
    );
}

// proves: B7, B8
#[tokio::test]
async fn retry_after_in_either_form_holds_back_all_requests() {
    // HTTP dates have whole seconds: two seconds ahead is at least one second.
    let in_two_seconds = || httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    for value in [&|| "1".to_owned(), &in_two_seconds as &dyn Fn() -> String] {
        let value = value();
        let times = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (seen, asked) = (times.clone(), value.clone());
        let options = at_edge(move |arrival| {
            seen.lock().unwrap().push(Instant::now());
            let headers = vec![("retry-after", asked.clone())];
            if arrival.number == 1 {
                Reaction::Respond {
                    status: 429,
                    headers,
                    body: String::new(),
                }
            } else {
                Reaction::Normal
            }
        });
        let bridge = start(&options).await;
        let client = client(&bridge, &options, AuthMethod::Post, None);
        let job = Job::all(ObjectRef::local("log"));
        let session = client.session(Deadline::after(Duration::from_secs(20)));
        let rules = rules(LIMITS);
        let first = ingest(&job, std::io::Cursor::new(log(10)), &rules, &session, 1);
        let second = async {
            // Another object of the same process, started after the first response.
            while times.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            ingest(&job, std::io::Cursor::new(log(10)), &rules, &session, 1).await
        };
        let outcomes = tokio::join!(first, second);
        assert!(
            matches!(outcomes, (Outcome::Complete(_), Outcome::Complete(_))),
            "{outcomes:?}"
        );
        let times = times.lock().unwrap().clone();
        let least = if value == "1" { 990 } else { 900 };
        assert_eq!(times.len(), 3);
        assert!(
            times[1..]
                .iter()
                .all(|time| time.duration_since(times[0]) >= Duration::from_millis(least)),
            "{value}: {times:?}"
        );
    }
}

// proves: B7
#[tokio::test]
async fn retry_after_beyond_deadline_ends_the_delivery() {
    let hour = || Reaction::Respond {
        status: 503,
        headers: vec![("retry-after", "3600".to_owned())],
        body: String::new(),
    };
    let (outcome, bridge) = deliver(&at_edge(move |_| hour()), 5, Duration::from_secs(30)).await;
    assert!(
        matches!(
            outcome,
            Outcome::Partial {
                from_row: 0,
                why: StopReason::Later(_),
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(bridge.tally().requests, 1);
}

// proves: B3
#[tokio::test]
async fn too_large_batch_is_split_down_to_one_rejected_row() {
    let options = at_edge(|arrival| {
        let ids = ids(arrival.body);
        if ids.len() > 3 || ids.contains("id-13") {
            Reaction::status(413)
        } else {
            Reaction::Normal
        }
    });
    let (outcome, bridge) = deliver(&options, 25, Duration::from_secs(20)).await;
    let Outcome::Complete(summary) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        summary.rejected,
        [Rejection {
            row: 13,
            status: 413
        }]
    );
    assert_eq!((summary.counts.sent, summary.counts.rejected), (24, 1));
    assert!(summary.counts.is_balanced());
    let expected: Vec<String> = (0..25)
        .filter(|row| *row != 13)
        .map(|row| format!("id-{row}"))
        .collect();
    assert_eq!(accepted(&bridge), expected, "in order, each one once");
    let keys: BTreeSet<_> = bridge
        .received()
        .into_iter()
        .map(|batch| batch.key)
        .collect();
    assert_eq!(
        keys.len(),
        bridge.received().len(),
        "each part has a key of its own"
    );
}

// proves: B4
#[tokio::test]
async fn rejected_rows_are_isolated_after_an_accepted_batch() {
    for status in [400, 422] {
        let bad: BTreeSet<String> = [17, 18, 44].map(|row| format!("id-{row}")).into();
        let rejects = bad.clone();
        let options = at_edge(move |arrival| {
            if ids(arrival.body).is_disjoint(&rejects) {
                Reaction::Normal
            } else {
                Reaction::status(status)
            }
        });
        let (outcome, bridge) = deliver(&options, 50, Duration::from_secs(20)).await;
        let Outcome::Complete(summary) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(
            summary.rejected,
            [17, 18, 44].map(|row| Rejection { row, status })
        );
        assert_eq!(accepted(&bridge).len(), 47);
    }
}

// proves: B5
#[tokio::test]
async fn too_many_rejected_rows_are_a_misconfiguration() {
    let options = at_edge(|arrival| {
        if arrival.number == 1 {
            Reaction::Normal
        } else {
            Reaction::status(400)
        }
    });
    let (outcome, bridge) = deliver(&options, 100, Duration::from_secs(20)).await;
    let why = misconfigured(outcome);
    assert!(
        why.contains("more than 10 transactions of one object"),
        "{why}"
    );
    assert!(
        bridge.tally().requests < 60,
        "{} requests",
        bridge.tally().requests
    );
}

// proves: B2
#[tokio::test]
async fn unauthorized_renews_token_once() {
    let (outcome, bridge) = deliver(
        &at_edge(|arrival| {
            if arrival.number == 2 {
                Reaction::status(401)
            } else {
                Reaction::Normal
            }
        }),
        25,
        Duration::from_secs(20),
    )
    .await;
    assert!(matches!(outcome, Outcome::Complete(_)), "{outcome:?}");
    assert_eq!(bridge.tally().tokens, 2);

    let (outcome, bridge) = deliver(
        &at_edge(|_| Reaction::status(401)),
        25,
        Duration::from_secs(20),
    )
    .await;
    let why = misconfigured(outcome);
    assert!(why.contains("fresh token"), "{why}");
    assert!(why.contains("same tenant"), "{why}");
    assert_eq!((bridge.tally().tokens, bridge.tally().requests), (2, 2));
}

// proves: B11
#[tokio::test]
async fn requests_in_flight_reach_and_respect_concurrency() {
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counter, highest) = (now.clone(), most.clone());
    let options = Options {
        delay: Duration::from_millis(60),
        react: Arc::new(move |arrival| {
            if arrival.endpoint == Endpoint::Edge {
                let in_flight = counter.fetch_add(1, Ordering::SeqCst) + 1;
                highest.fetch_max(in_flight, Ordering::SeqCst);
                let counter = counter.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    counter.fetch_sub(1, Ordering::SeqCst);
                });
            }
            Reaction::Normal
        }),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let job = Job::all(ObjectRef::local("log"));
    let outcome = ingest(
        &job,
        std::io::Cursor::new(log(200)),
        &rules(LIMITS),
        &client.session(Deadline::NEVER),
        4,
    )
    .await;
    assert!(
        matches!(outcome, Outcome::Complete(ref summary) if summary.counts.sent == 200),
        "{outcome:?}"
    );
    assert_eq!(most.load(Ordering::SeqCst), 4);
    let mut arrived = accepted(&bridge);
    arrived.sort_by_key(|id| id[3..].parse::<u64>().unwrap());
    assert_eq!(
        arrived,
        (0..200).map(|row| format!("id-{row}")).collect::<Vec<_>>()
    );
}

/// A panic must not look like the end of the object.
// proves: D6
#[tokio::test]
async fn reader_panic_is_a_failure() {
    struct Panics;
    impl std::io::Read for Panics {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("for a test")
        }
    }
    use std::io::Read as _;
    let options = Options::default();
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let job = Job::all(ObjectRef::local("log"));
    let bytes = std::io::Cursor::new(log(3)).chain(Panics);
    let outcome = ingest(
        &job,
        bytes,
        &rules(LIMITS),
        &client.session(Deadline::NEVER),
        1,
    )
    .await;
    assert!(
        matches!(
            outcome,
            Outcome::Partial {
                why: StopReason::Reader,
                ..
            }
        ),
        "{outcome:?}"
    );
}

//! The meaning of each response of the bridge: the table in `docs/semantics.md`, row by row.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use edgetap::batch::{Batch, Counts, Limits, Rejection};
use edgetap::bridge::Attempt;
use edgetap::credentials::CredentialsSource;
use edgetap::encode::Encoding;
use edgetap::filter::{ExcludedPaths, StaticAssets};
use edgetap::ingest::{Outcome, Place, StopReason, Watch, ingest, ingest_watched};
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{Arrival, Endpoint, LocalBridge, Options, React, Reaction, decode};
use edgetap::pipeline::{Rules, Summary};
use edgetap::redact::{Cookies, Key};
use edgetap::time::Deadline;
use edgetap::token::AuthMethod;
use futures_util::future;
use serde_json::{Value, json};

use crate::support::odd_bridge::{OddBridge, Tail};
use crate::support::{client, client_with, credentials, log, rules, start};

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
    attempt(options, rows, 1, deadline).await
}

/// Makes the attempt of this number.
async fn attempt(
    options: &Options,
    rows: u64,
    number: u32,
    deadline: Duration,
) -> (Outcome, LocalBridge) {
    let bridge = start(options).await;
    let client = client(&bridge, options, AuthMethod::Post, None);
    let attempt = Attempt {
        deadline: Deadline::after(deadline),
        number,
    };
    let outcome = ingest(
        &job(),
        Cursor::new(log(rows)),
        &rules(LIMITS),
        &client,
        attempt,
    )
    .await;
    (outcome, bridge)
}

fn job() -> Job {
    Job::all(ObjectRef::local("log"))
}

const FIRST: Attempt = Attempt {
    deadline: Deadline::NEVER,
    number: 1,
};

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

/// Rows that are left, as ranges.
fn left(outcome: &Outcome) -> Value {
    json!(outcome.left)
}

// proves: B1, B9
#[tokio::test]
async fn other_status_leaves_each_batch_behind() {
    for (reaction, words) in [
        (html(200), "HTML page. This is probably a login page"),
        (
            Reaction::Respond {
                status: 200,
                headers: vec![("content-type", "Text/HTML".to_owned())],
                body: String::new(),
            },
            "HTML page",
        ),
        (
            Reaction::respond(200, "text/plain", "\u{feff}\n <HTML><body>"),
            "HTML page",
        ),
        (
            Reaction::Respond {
                status: 200,
                headers: Vec::new(),
                body: "<!DOCTYPE html>".to_owned(),
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
        (Reaction::status(207), "does not say that every transaction"),
        (Reaction::status(403), "permissions"),
        (Reaction::status(404), "path of BRIDGE_EDGE_ENDPOINT"),
        (Reaction::status(405), "path of BRIDGE_EDGE_ENDPOINT"),
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
        let why = outcome.why().unwrap();
        assert!(why.contains(words), "{reaction:?}: {why}");
        assert_eq!(
            why.matches(&bridge.edge_url()).count(),
            1,
            "{reaction:?}: {why}"
        );
        assert_eq!(
            bridge.tally().requests,
            3,
            "one request a batch: {reaction:?}"
        );
        assert_eq!(left(&outcome), json!([[0, 30]]), "{reaction:?}");
        assert_eq!(outcome.summary.counts.rows, 0, "{reaction:?}");
    }
}

/// A batch that only the bridge's firewall dislikes withholds no other.
// proves: B9
#[tokio::test]
async fn batches_behind_a_failing_one_are_delivered() {
    for status in [403, 404, 500, 502, 504] {
        let options = at_edge(move |arrival| {
            if ids(arrival.body).contains("id-13") {
                Reaction::status(status)
            } else {
                Reaction::Normal
            }
        });
        let (outcome, bridge) = deliver(&options, 45, Duration::from_secs(20)).await;
        assert_eq!(left(&outcome), json!([[10, 20]]), "{status}");
        assert_eq!(accepted(&bridge).len(), 35, "{status}");
        // From the third attempt on, its halves are sent, too.
        let (outcome, bridge) = attempt(&options, 45, 3, Duration::from_secs(20)).await;
        assert!(outcome.is_complete(), "{status}: {outcome:?}");
        let rejection = Rejection {
            row: 13,
            status: Some(status),
        };
        assert_eq!(outcome.summary.rejected, [rejection]);
        assert_eq!(accepted(&bridge).len(), 44, "{status}");
    }
}

// proves: B9
#[tokio::test]
async fn ten_failing_batches_in_a_row_end_the_attempt() {
    let options = at_edge(|arrival| match arrival.number {
        5 => Reaction::Normal,
        _ => Reaction::status(404),
    });
    let (outcome, bridge) = deliver(&options, 500, Duration::from_secs(20)).await;
    assert_eq!(bridge.tally().requests, 15);
    assert_eq!(left(&outcome), json!([[0, 40], [50, null]]));
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
            outcome.is_complete() && outcome.summary.counts.sent == 25,
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
    let why = outcome.why().unwrap();
    assert!(why.contains("503"), "{why}");
    let summary = &outcome.summary;
    assert_eq!(
        (summary.counts.rows, summary.counts.sent, summary.batches),
        (10, 10, 1)
    );
    assert_eq!(
        left(&outcome),
        json!([[10, null]]),
        "no other batch is begun"
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
    assert!(outcome.is_complete(), "{outcome:?}");
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
    client.warm_up(Deadline::NEVER).await.unwrap();
    drop(bridge);
    let outcome = ingest(&job(), Cursor::new(log(3)), &rules(LIMITS), &client, FIRST).await;
    assert_eq!(left(&outcome), json!([[0, 3]]));
    let why = outcome.why().unwrap();
    assert!(why.contains("connect"), "{why}");
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
        let (job, rules) = (job(), rules(LIMITS));
        let attempt = Attempt {
            deadline: Deadline::after(Duration::from_secs(20)),
            number: 1,
        };
        let first = ingest(&job, Cursor::new(log(10)), &rules, &client, attempt);
        let second = async {
            // Another object of the same process, started after the first response.
            while times.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            ingest(&job, Cursor::new(log(10)), &rules, &client, attempt).await
        };
        let outcomes = tokio::join!(first, second);
        assert!(
            outcomes.0.is_complete() && outcomes.1.is_complete(),
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
    assert_eq!(left(&outcome), json!([[0, 5]]));
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
    assert!(outcome.is_complete(), "{outcome:?}");
    let summary = outcome.summary;
    assert_eq!(
        summary.rejected,
        [Rejection {
            row: 13,
            status: Some(413)
        }]
    );
    assert_eq!((summary.counts.sent, summary.counts.rejected), (24, 1));
    assert!(summary.counts.is_balanced());
    let expected: BTreeSet<_> = (0..25)
        .filter(|row| *row != 13)
        .map(|row| format!("id-{row}"))
        .collect();
    let arrived = accepted(&bridge);
    assert_eq!(arrived.len(), 24, "each one once");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), expected);
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
        assert!(outcome.is_complete(), "{outcome:?}");
        let mut summary = outcome.summary;
        summary.rejected.sort_by_key(|rejection| rejection.row);
        assert_eq!(
            summary.rejected,
            [17, 18, 44].map(|row| Rejection {
                row,
                status: Some(status)
            })
        );
        assert_eq!(accepted(&bridge).len(), 47);
    }
}

/// After ten rejected parts, a small part is rejected whole, unless its size may be the reason.
// proves: B5
#[tokio::test]
async fn many_bad_rows_cost_few_requests_and_withhold_no_other() {
    for (status, step) in [(400, 2), (400, 3), (413, 2), (413, 3), (413, 7)] {
        let is_bad = move |id: &String| id[3..].parse::<u64>().unwrap() % step == 1;
        let options = at_edge(move |arrival| {
            if ids(arrival.body).iter().any(is_bad) {
                Reaction::status(status)
            } else {
                Reaction::Normal
            }
        });
        let bridge = start(&options).await;
        let secret = CredentialsSource::Variables(credentials(&options));
        let client = client_with(&bridge, secret, AuthMethod::Post, None);
        let rules = rules(Limits::default());
        let outcome = ingest(&job(), Cursor::new(log(1_000)), &rules, &client, FIRST).await;
        let case = format!("{status} {step} {:?}", outcome.summary.counts);
        let Counts { sent, rejected, .. } = outcome.summary.counts;
        let left = outcome.left.below(1_000).count();
        let bad = (0..1_000).filter(|row| row % step == 1).count() as u64;
        assert_eq!(sent + rejected + left, 1_000, "{case}");
        assert_eq!(sent, accepted(&bridge).len() as u64, "{case}");
        if status == 413 {
            assert_eq!(sent, 1_000 - bad, "{case}");
        } else {
            assert!((bad..=bad * 4).contains(&(rejected + left)), "{case}");
        }
        let requests = bridge.tally().requests;
        assert!(requests < 3_000, "{case}: {requests} requests");
    }
}

/// A bridge that refuses everything may recover: nothing is rejected without a witness.
// proves: B4, B5
#[tokio::test]
async fn nothing_is_rejected_without_a_witness() {
    for (status, advice) in [
        (400, "accepts API transactions"),
        (403, "any firewall in front of the bridge"),
        (413, "Set BATCH_MAX_BYTES below"),
        (422, "accepts API transactions"),
        (500, ". Check the bridge"),
    ] {
        for (rows, number) in [(1, 1), (1, 3), (2, 3), (200, 1), (200, 3)] {
            let options = at_edge(move |_| Reaction::status(status));
            let (outcome, bridge) = attempt(&options, rows, number, Duration::from_secs(20)).await;
            let why = outcome.why().unwrap();
            assert!(why.contains(advice), "{status}: {why}");
            assert_eq!(outcome.summary.counts.rows, 0, "{status} {rows} {number}");
            assert_eq!(outcome.left.first(), Some(0), "{status} {rows} {number}");
            let requests = bridge.tally().requests;
            // Each one twice: for ten batches one and eight probes, for ten more only one.
            assert!(
                requests <= (10 * 9 + 10) * 2,
                "{status} {rows} {number}: {requests}"
            );
        }
    }
}

/// Every transaction of the first batch is bad, as a viewer can arrange.
// proves: D30
#[tokio::test]
async fn bad_batch_withholds_no_other() {
    for status in [400, 403] {
        for number in [1, 3] {
            let bad = |id: &String| id[3..].parse::<u64>().unwrap() < 10;
            let options = at_edge(move |arrival| {
                if ids(arrival.body).iter().any(bad) {
                    Reaction::status(status)
                } else {
                    Reaction::Normal
                }
            });
            let (outcome, bridge) = attempt(&options, 45, number, Duration::from_secs(20)).await;
            // Some of them are rejected at the end, beside the batches behind them.
            let rejected = outcome.summary.counts.rejected;
            let bad_rows = outcome.left.count() + rejected;
            assert_eq!(bad_rows, 10, "{status} {number}: {outcome:?}");
            assert_eq!(accepted(&bridge).len(), 35, "{status} {number}");
        }
    }
}

/// One bad transaction in an object of one batch, wherever it stands.
// proves: B4
#[tokio::test]
async fn half_of_the_same_batch_is_a_witness() {
    for (rows, bad) in [(2, 0), (2, 1), (3, 1), (10, 0), (10, 9), (7, 3)] {
        let options = at_edge(move |arrival| {
            if ids(arrival.body).contains(&format!("id-{bad}")) {
                Reaction::status(422)
            } else {
                Reaction::Normal
            }
        });
        let (outcome, bridge) = deliver(&options, rows, Duration::from_secs(20)).await;
        assert!(outcome.is_complete(), "{rows} {bad}: {outcome:?}");
        let rejected: Vec<_> = outcome.summary.rejected.iter().map(|one| one.row).collect();
        assert_eq!(rejected, [bad], "{rows}");
        assert_eq!(accepted(&bridge).len() as u64, rows - 1, "{rows} {bad}");
    }
}

/// Some proxies close the connection instead of answering 413.
// proves: B3
#[tokio::test]
async fn connection_closed_on_a_large_body_means_halves() {
    let options = at_edge(|arrival| {
        if arrival.body.len() > 9_000 {
            Reaction::HangUp
        } else {
            Reaction::Normal
        }
    });
    let bridge = start(&options).await;
    let client = client(&bridge, &options, AuthMethod::Post, None);
    let limits = Limits {
        transactions: 100,
        bytes: 1_000_000,
    };
    let outcome = ingest(
        &job(),
        Cursor::new(log(200)),
        &rules(limits),
        &client,
        FIRST,
    )
    .await;
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(outcome.summary.counts.sent, 200);
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
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(bridge.tally().tokens, 2);

    let (outcome, bridge) = deliver(
        &at_edge(|_| Reaction::status(401)),
        25,
        Duration::from_secs(20),
    )
    .await;
    assert_eq!(left(&outcome), json!([[0, null]]));
    let why = outcome.why().unwrap();
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
    let credentials = CredentialsSource::Variables(credentials(&options));
    let client = client_with(&bridge, credentials, AuthMethod::Post, None);
    // The limit is that of the process, not of an object.
    let (job, rules) = (job(), rules(LIMITS));
    let deliver = || ingest(&job, Cursor::new(log(100)), &rules, &client, FIRST);
    let (first, second) = tokio::join!(deliver(), deliver());
    for outcome in [first, second] {
        assert!(outcome.is_complete(), "{outcome:?}");
        assert_eq!(outcome.summary.counts.sent, 100);
    }
    assert_eq!(most.load(Ordering::SeqCst), 4);
    assert_eq!(accepted(&bridge).len(), 200);
}

/// The headers are the verdict. If bodies were awaited, even for the second for which they are
/// drained, fifty batches would not be delivered by the deadline.
// proves: B1
#[tokio::test]
async fn body_of_a_response_is_not_awaited() {
    let deliver = async |tail| {
        let bridge = OddBridge::start(tail).await;
        let client = bridge.client();
        let attempt = Attempt {
            deadline: Deadline::after(Duration::from_secs(30)),
            number: 1,
        };
        let bytes = Cursor::new(log(500));
        let outcome = ingest(&job(), bytes, &rules(LIMITS), &client, attempt).await;
        assert!(outcome.is_complete(), "{tail:?}: {outcome:?}");
        assert_eq!(bridge.keys().len(), 50, "{tail:?}: no request is repeated");
        // The connections are dropped, although the client lives.
        bridge.is_quiet().await;
        drop(client);
    };
    let tails = [Tail::Drip, Tail::Silence, Tail::Flood, Tail::Break];
    future::join_all(tails.map(deliver)).await;
}

// proves: D25
#[tokio::test]
async fn key_covers_the_rows_and_what_makes_bodies_of_them() {
    let changes: [fn(&mut Job, &mut Rules); 11] = [
        |_, _| {},
        |job, _| job.object.key = "other".to_owned(),
        |job, _| job.object.etag = Some("other".to_owned()),
        |job, _| job.rows = (1..u64::MAX).into(),
        |_, rules| rules.static_assets = StaticAssets::parse("none").unwrap(),
        |_, rules| rules.excluded_paths = ExcludedPaths::parse("/health").unwrap(),
        |_, rules| rules.redaction.urls = None,
        |_, rules| rules.redaction.cookies = Cookies::Drop,
        |_, rules| rules.redaction.cookies = Cookies::Hash(Key::new("one key of 16 bytes")),
        |_, rules| rules.redaction.cookies = Cookies::Hash(Key::new("another one of them")),
        |_, rules| rules.encoding = Encoding::Ndjson,
    ];
    let bridge = OddBridge::start(Tail::Empty).await;
    let client = bridge.client();
    for _ in 0..2 {
        for change in changes {
            let (mut job, mut rules) = (job(), Rules::default());
            job.object.etag = Some("etag".to_owned());
            change(&mut job, &mut rules);
            let bytes = Cursor::new(log(3));
            let outcome = ingest(&job, bytes, &Arc::new(rules), &client, FIRST).await;
            assert!(outcome.is_complete(), "{outcome:?}");
        }
    }
    let keys = bridge.keys();
    let (first, second) = keys.split_at(changes.len());
    assert_eq!(first, second, "the same ones each time");
    let distinct: BTreeSet<_> = first.iter().collect();
    assert_eq!(distinct.len(), changes.len(), "{first:#?}");
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
    for place in [Place::Thread, Place::Here] {
        let bytes = Cursor::new(log(3)).chain(Panics);
        let watch = Watch {
            rows: (),
            settled: |_: &Summary, _: &Batch, _| (),
            stop: std::future::pending(),
        };
        let rules = rules(LIMITS);
        let outcome = ingest_watched(&job(), bytes, place, &rules, &client, FIRST, watch).await;
        assert!(!outcome.is_complete(), "{place:?}: {outcome:?}");
        assert!(
            matches!(outcome.reasons[..], [StopReason::Reader]),
            "{place:?}: {outcome:?}"
        );
    }
}

//! From an S3 event to the bridge, in process: failures of S3, the deadline, the response to
//! Lambda.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use edgetap::batch::Limits;
use edgetap::bridge::Attempt;
use edgetap::ingest::ingest;
use edgetap::invocation::{Context, deadline, fail_all};
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{Endpoint, Options, Reaction, decode};
use edgetap::time::Deadline;
use edgetap::token::AuthMethod;
use serde_json::{Value, json};

use crate::support::fake_s3::Fault;
use crate::support::{
    HEADER, World, at_edge, client, gzip, log, row, rules, s3_event, sqs_event, start, world,
    world_with,
};

const LIMITS: Limits = Limits {
    transactions: 7,
    bytes: 1_000_000,
};

async fn handle(world: &World, event: Value) -> Result<Value, String> {
    world
        .function
        .handle(event, &within(Duration::from_mins(1)))
        .await
        .map_err(|error| error.to_string())
}

fn within(time_left: Duration) -> Context {
    Context {
        deadline: Deadline::after(time_left),
        trace: None,
        function: "edgetap".to_owned(),
    }
}

fn ids(rows: u64) -> Vec<String> {
    (0..rows).map(|row| format!("id-{row}")).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_by_key(|id| id[3..].parse::<u64>().unwrap());
    ids
}

// proves: D2
#[tokio::test]
async fn every_record_of_an_event_is_delivered() {
    let world = world(Options::default(), LIMITS).await;
    world.s3.put("a b.gz", gzip(&log(30)));
    world.s3.put("c.gz", log(5));
    assert_eq!(
        handle(&world, s3_event(&["a+b.gz", "c.gz"])).await,
        Ok(json!({"objects": 2}))
    );
    let mut arrived = world.ids();
    arrived.sort();
    let mut expected = [ids(30), ids(5)].concat();
    expected.sort();
    assert_eq!(arrived, expected);
    assert!(
        world
            .bridge
            .received()
            .iter()
            .all(|batch| batch.transactions.len() <= 7 && !batch.repeated)
    );
}

/// Larger than two ranges of 4 MiB, so that several GETs are made.
fn large_log() -> (Vec<u8>, u64) {
    let rows = 180_000;
    (log(rows).into_bytes(), rows)
}

// proves: D24
#[tokio::test]
async fn large_object_is_read_in_ranges_and_resumed_at_the_byte() {
    let world = world(Options::default(), Limits::default()).await;
    let (bytes, rows) = large_log();
    let len = bytes.len();
    world.s3.put("large", bytes);
    world.s3.fail(1, Fault::Cut(1_000_003));
    world.s3.fail(2, Fault::HangUp);
    world.s3.fail(3, Fault::Status(500));
    assert_eq!(
        handle(&world, s3_event(&["large"])).await,
        Ok(json!({"objects": 1}))
    );
    assert_eq!(sorted(world.ids()), ids(rows));
    let gets = world.s3.gets();
    assert_eq!(gets[0].range, "bytes=0-4194303");
    assert!(gets[0].if_match.is_none(), "the event had no ETag");
    assert!(
        gets[1..].iter().all(|get| get.if_match.is_some()),
        "{gets:?}"
    );
    assert!(
        gets.iter().any(|get| get
            .range
            .starts_with(&format!("bytes={}-", 4_194_304 + 1_000_003))),
        "{gets:?}"
    );
    assert!(len > 8 << 20, "three ranges or more");
}

#[tokio::test]
async fn next_range_is_prefetched() {
    let late = |endpoint| {
        if endpoint == Endpoint::Edge {
            Reaction::After(Duration::from_mins(1))
        } else {
            Reaction::Normal
        }
    };
    let world = world(
        Options {
            react: Arc::new(move |arrival| late(arrival.endpoint)),
            ..Options::default()
        },
        LIMITS,
    )
    .await;
    let (bytes, _) = large_log();
    world.s3.put("large", bytes);
    let asked_twice = async {
        while world.s3.gets().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // The bridge accepts no batch, so only the start of the first range is read.
    tokio::select! {
        done = handle(&world, s3_event(&["large"])) => panic!("{done:?}"),
        () = asked_twice => {}
    }
    let ranges: Vec<_> = world.s3.gets().into_iter().map(|get| get.range).collect();
    assert_eq!(ranges, ["bytes=0-4194303", "bytes=4194304-8388607"]);
    assert_eq!(world.bridge.tally().transactions, 0);
}

// proves: D4, D24
#[tokio::test]
async fn failed_range_ends_delivery_after_earlier_rows() {
    for (status, code, reason) in [
        (412, "PreconditionFailed", "replaced by another version"),
        (404, "NoSuchKey", "does not exist"),
        (403, "AccessDenied", "s3:GetObject"),
    ] {
        let world = world(Options::default(), Limits::default()).await;
        let (bytes, rows) = large_log();
        world.s3.put("large", bytes);
        world.s3.fail(1, Fault::Rejection(status, code));
        let rejected = handle(&world, s3_event(&["large"])).await.unwrap_err();
        assert!(rejected.contains("s3://logs/large"), "{rejected}");
        assert!(rejected.contains(reason), "{rejected}");
        let arrived = sorted(world.ids());
        let delivered = u64::try_from(arrived.len()).unwrap();
        assert!(
            (1..rows).contains(&delivered),
            "{status}: {delivered} of {rows}"
        );
        assert_eq!(arrived, ids(delivered), "{status}");
    }
}

// proves: D24
#[tokio::test]
async fn object_without_etag_must_fit_one_range() {
    let world = world(Options::default(), LIMITS).await;
    world.s3.put_untagged("small", log(30));
    world.s3.put_untagged("large", large_log().0);
    world.s3.fail(1, Fault::Cut(1000));
    assert_eq!(
        handle(&world, s3_event(&["small"])).await,
        Ok(json!({"objects": 1}))
    );
    for object in ["small", "large"] {
        let rejected = handle(&world, s3_event(&[object])).await.unwrap_err();
        assert!(rejected.contains("no ETag"), "{object}: {rejected}");
    }
    assert_eq!(world.ids(), ids(30), "nothing else was delivered");
}

#[tokio::test]
async fn changed_object_is_read_in_its_current_version() {
    let world = world(Options::default(), LIMITS).await;
    world.s3.put("a", log(3));
    let mut event = s3_event(&["a"]);
    event["Records"][0]["s3"]["object"]["eTag"] = json!("0123");
    assert_eq!(handle(&world, event).await, Ok(json!({"objects": 1})));
    assert_eq!(world.ids(), ids(3));
    let if_match: Vec<_> = world
        .s3
        .gets()
        .into_iter()
        .map(|get| get.if_match)
        .collect();
    assert_eq!(if_match, [Some("\"0123\"".to_owned()), None]);
}

#[tokio::test]
async fn unopenable_object_is_named_in_the_error() {
    let world = world(Options::default(), LIMITS).await;
    world.s3.put("no-range", log(1));
    world.s3.fail(0, Fault::Status(403));
    let forbidden = handle(&world, s3_event(&["secret"])).await.unwrap_err();
    assert!(forbidden.contains("s3://logs/secret"), "{forbidden}");
    assert!(forbidden.contains("s3:GetObject"), "{forbidden}");
    world.s3.fail(1, Fault::NoRange);
    let no_range = handle(&world, s3_event(&["no-range"])).await.unwrap_err();
    assert!(no_range.contains("Content-Range"), "{no_range}");
    world
        .s3
        .fail(2, Fault::Rejection(400, "KMS.DisabledException"));
    let no_key = handle(&world, s3_event(&["no-range"])).await.unwrap_err();
    assert!(no_key.contains("KMS.DisabledException"), "{no_key}");
    assert!(no_key.contains("kms:Decrypt"), "{no_key}");
    assert_eq!(world.bridge.tally().requests, 0);
}

// proves: D4
#[tokio::test]
async fn only_failed_messages_are_reported_to_sqs() {
    let world = world(Options::default(), LIMITS).await;
    world.s3.put("good", log(3));
    world.s3.put("cut", gzip(&log(40))[..200].to_vec());
    world.s3.put("other", "127.0.0.1 - - \"GET /\"\n");
    let mut event = sqs_event(&["good", "cut", "missing", "other"]);
    event["Records"]
        .as_array_mut()
        .unwrap()
        .push(json!({"messageId": "not-json", "eventSource": "aws:sqs", "body": "{"}));
    // The missing object was never started: its message is done.
    let failed =
        ["message-cut", "message-other", "not-json"].map(|id| json!({"itemIdentifier": id}));
    assert_eq!(
        handle(&world, event).await,
        Ok(json!({"batchItemFailures": failed}))
    );
    assert!(world.ids().starts_with(&ids(3)));
}

// proves: D3
#[tokio::test]
async fn rows_before_a_cut_are_delivered() {
    let world = world(Options::default(), LIMITS).await;
    let whole = gzip(&log(2000));
    world.s3.put("cut", whole[..whole.len() - 9].to_vec());
    let why = handle(&world, s3_event(&["cut"])).await.unwrap_err();
    assert!(why.contains("cannot read the log to its end"), "{why}");
    assert_eq!(
        sorted(world.ids()),
        ids(2000),
        "every row is complete; only the gzip trailer is missing"
    );
}

// proves: D13
#[tokio::test]
async fn past_deadline_delivers_nothing_and_fails_message() {
    let world = world(Options::default(), LIMITS).await;
    world.s3.put("a", log(3));
    // A deadline in the past, as after a freeze that lasted longer than the timeout.
    let past = deadline(600_000);
    assert!(past.has_passed());
    let response = world
        .function
        .handle(
            sqs_event(&["a"]),
            &Context {
                deadline: past,
                trace: None,
                function: "edgetap".to_owned(),
            },
        )
        .await
        .unwrap();
    assert_eq!(
        response,
        json!({"batchItemFailures": [{"itemIdentifier": "message-a"}]})
    );
    assert_eq!(world.bridge.tally().requests, 0);
}

// proves: D13
#[tokio::test]
async fn silent_bridge_takes_no_longer_than_the_deadline() {
    let options = Options {
        delay: Duration::from_mins(5),
        ..Options::default()
    };
    let world = world(options, LIMITS).await;
    world.s3.put("a", log(30));
    let context = within(Duration::from_millis(500));
    let response = world.function.handle(sqs_event(&["a"]), &context);
    let response = tokio::time::timeout(Duration::from_secs(20), response)
        .await
        .expect("the function waited beyond its deadline")
        .unwrap();
    assert!(world.bridge.tally().requests >= 1);
    assert_eq!(
        response,
        json!({"batchItemFailures": [{"itemIdentifier": "message-a"}]})
    );
}

/// A piece a millisecond, for longer than the test waits.
struct Slow {
    piece: Vec<u8>,
    reads: Arc<AtomicU64>,
    /// Dropped with the reader.
    _alive: mpsc::Sender<()>,
}

const MAX_READS: u64 = 20_000;

impl Read for Slow {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1));
        match self.reads.fetch_add(1, Ordering::SeqCst) {
            0..MAX_READS => (&self.piece[..]).read(buf),
            _ => Ok(0),
        }
    }
}

/// Nothing is sent while rows are skipped, so the thread cannot notice at its batches that their
/// receiver is gone.
// proves: D13
#[tokio::test]
async fn reading_ends_with_its_invocation() {
    let lines = |line: &str| line.repeat(100).into_bytes();
    for (from, piece) in [
        (1 << 40, lines(&row(1))),
        (0, lines("\n")),
        (0, lines("#Version: 1.0\n")),
        (0, gzip(&"\n".repeat(1_000))),
        (0, vec![b'x'; 100]),
    ] {
        let options = Options::default();
        let bridge = start(&options).await;
        let client = client(&bridge, &options, AuthMethod::Post, None);
        let job = Job {
            rows: (from..u64::MAX).into(),
            ..Job::all(ObjectRef::local("log"))
        };
        let (reads, (alive, ended)) = (Arc::new(AtomicU64::new(0)), mpsc::channel());
        let head = if piece.starts_with(&[0x1f, 0x8b]) {
            gzip(HEADER)
        } else {
            HEADER.into()
        };
        let slow = Slow {
            piece,
            reads: reads.clone(),
            _alive: alive,
        };
        let attempt = Attempt {
            deadline: Deadline::after(Duration::from_millis(100)),
            number: 1,
        };
        let bytes = io::Cursor::new(head).chain(slow);
        let outcome = ingest(&job, bytes, &rules(LIMITS), &client, attempt).await;
        assert_eq!(outcome.left, job.rows, "{outcome:?}");
        assert!(ended.recv().is_err(), "the reader is dropped");
        let reads = reads.load(Ordering::SeqCst);
        assert!((1..MAX_READS).contains(&reads), "{reads}");
    }
}

// proves: D4
#[tokio::test]
async fn error_of_a_direct_event_names_what_is_missing() {
    let options = at_edge(|arrival| {
        let transactions = decode(arrival.body).unwrap();
        let rows = transactions.iter().map(|t| &t.transaction_id[3..]);
        let rows: Vec<u64> = rows.map(|id| id.parse().unwrap()).collect();
        match rows[0] {
            21.. => Reaction::After(Duration::from_millis(100)),
            _ if rows.contains(&13) || rows.contains(&17) => Reaction::status(422),
            _ => Reaction::Normal,
        }
    });
    let world = world_with(options, LIMITS, 1).await;
    let rejected = "rows [13,14) [17,18): the bridge rejected 2 transactions (422)";
    world.s3.put("a", log(20));
    let error = handle(&world, s3_event(&["a"])).await.unwrap_err();
    assert_eq!(error, format!("delivery failed: s3://logs/a, {rejected}"));
    // Past the deadline: 700 rows would take ten seconds.
    world.s3.put("b", log(700));
    let (event, context) = (s3_event(&["a", "b"]), within(Duration::from_secs(1)));
    let handled = world.function.handle(event, &context).await;
    let error = handled.unwrap_err().to_string();
    let finals =
        format!("delivery failed: s3://logs/a, {rejected}; s3://logs/b, {rejected}; s3://logs/b, ");
    let left = error.strip_prefix(&finals).unwrap();
    let (rows, reason) = left.split_once(": ").unwrap();
    assert!(
        rows.starts_with("rows [") && rows.ends_with(",end)"),
        "{rows}"
    );
    assert_eq!(reason, "the invocation ran out of time");
}

// proves: D25
#[tokio::test]
async fn retry_repeats_batches_with_the_same_keys() {
    let options = Options {
        react: Arc::new(|arrival| match (arrival.endpoint, arrival.number) {
            // The bridge fails after two requests and recovers later.
            (Endpoint::Edge, 3..=40) => Reaction::Respond {
                status: 404,
                headers: vec![],
                body: String::new(),
            },
            _ => Reaction::Normal,
        }),
        ..Options::default()
    };
    let world = world(options, LIMITS).await;
    world.s3.put("a", log(30));
    assert!(handle(&world, s3_event(&["a"])).await.is_err());
    let first = world.bridge.received();
    assert!((1..=2).contains(&first.len()), "{}", first.len());
    for _ in 0..40 {
        if handle(&world, s3_event(&["a"])).await.is_ok() {
            break;
        }
    }
    let all = world.bridge.received();
    for batch in &first {
        let again: Vec<_> = all.iter().filter(|other| other.key == batch.key).collect();
        assert!(again.len() > 1, "{}", batch.key);
        assert!(
            again.iter().all(|other| other.body == batch.body),
            "one key, one body"
        );
    }
    let mut distinct = world.ids();
    distinct.sort();
    distinct.dedup();
    assert_eq!(sorted(distinct), ids(30));
}

// proves: D5
#[test]
fn invalid_configuration_fails_every_message() {
    let response = fail_all(sqs_event(&["a", "b"]), "why", "edgetap").unwrap();
    assert_eq!(
        response,
        json!({"batchItemFailures": [{"itemIdentifier": "message-a"}, {"itemIdentifier": "message-b"}]})
    );
    assert!(
        fail_all(s3_event(&["a"]), "the reason", "edgetap")
            .unwrap_err()
            .to_string()
            .contains("the reason")
    );
}

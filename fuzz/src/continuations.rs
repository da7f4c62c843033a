//! Continuation messages: what one invocation writes and a later one reads.

use edgetap::work::{CONTINUATION_VERSION, Continuation, Event, EventError, Receipt, Work};
use edgetap::work_queue::{MAX_HOPS, Next, Situation, begun};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize as _;
use serde_json::{Value, json};

const RETRY_FOR: SignedDuration = SignedDuration::from_hours(72);

/// The input is a message.
pub fn continuations(data: &[u8]) {
    let Ok(message) = serde_json::from_slice::<Value>(data) else { return };
    // Records come first, whatever stands beside them: the fuzz target of events.
    if message.get("edgetap").is_none() || message["Records"].is_array() {
        return;
    }
    let works = read(message.clone());
    let Ok(continuation) = Continuation::deserialize(&message) else {
        assert_eq!(works, Err(EventError::Continuation));
        return;
    };

    let text = serde_json::to_string(&continuation).unwrap();
    assert_eq!(serde_json::from_str::<Continuation>(&text).unwrap(), continuation, "what is written is read");
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read(again), works, "and means the same");
    assert_eq!(from_queue(&text), works, "in SQS too, where its age is its own");

    match works {
        Ok(works) => {
            assert!((1..=CONTINUATION_VERSION).contains(&continuation.edgetap));
            assert!(!works.is_empty(), "a message that names an object asks for something");
            assert_eq!(works.len(), continuation.rows.len());
            for (work, rows) in works.iter().zip(&continuation.rows) {
                check(work, *rows, &continuation);
            }
        }
        Err(EventError::ContinuationVersion(version)) => assert!(version == 0 || version > CONTINUATION_VERSION),
        Err(error) => assert_eq!(error, EventError::Continuation),
    }
}

fn check(work: &Work, (start, end): (u64, Option<u64>), continuation: &Continuation) {
    let object = &continuation.object;
    assert_eq!((&work.object.bucket, &work.object.key, &work.object.etag), (&object.bucket, &object.key, &object.etag));
    assert_eq!((work.rows.start, work.rows.end), (start, end.unwrap_or(u64::MAX)));
    assert!(work.rows.start <= work.rows.end, "rows that run backwards");
    assert_eq!((work.since, work.hops), (Some(continuation.since), continuation.hops));

    // Whatever the message says, it is handed over a bounded number of times.
    let mut hops = work.hops;
    let fresh = Situation { progress: true, hops, receives: 1, age: SignedDuration::ZERO, retry_for: RETRY_FOR };
    while (Situation { hops, ..fresh }).next() == Next::HandOver {
        hops += 1;
        assert!(hops <= MAX_HOPS);
    }

    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let (since, hops) = begun(work, &Receipt { sent: Some(now), ..Receipt::default() }, now, RETRY_FOR);
    assert!(now.duration_since(since) <= RETRY_FOR, "brought back, its time begins anew");
    assert!(hops == work.hops || hops == 0);
}

fn read(message: Value) -> Result<Vec<Work>, EventError> {
    match Event::parse(message)? {
        Event::Direct(works) => Ok(works),
        Event::Sqs(_) => panic!("no message of a queue"),
    }
}

/// The same, as SQS hands it to Lambda.
fn from_queue(body: &str) -> Result<Vec<Work>, EventError> {
    let record = json!({"messageId": "m", "eventSource": "aws:sqs", "body": body, "attributes": {"SentTimestamp": "1763726400000"}});
    match Event::parse(json!({"Records": [record]}))? {
        Event::Sqs(mut records) => records.remove(0).works,
        Event::Direct(_) => panic!("a message of a queue"),
    }
}

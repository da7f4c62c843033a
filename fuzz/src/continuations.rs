//! Continuation messages, which one invocation writes and a later one reads.

use edgetap::job::{CONTINUATION_VERSION, Continuation, Event, EventError, Job, SqsMessageMeta};
use edgetap::work_queue::{MAX_REQUEUES, Next, Situation, started};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize as _;
use serde_json::{Value, json};

const RETRY_FOR: SignedDuration = SignedDuration::from_hours(72);

/// The input is a message.
pub fn continuations(data: &[u8]) {
    let Ok(message) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    // A message with records is an event, whatever else it contains: see the target `events`.
    if message.get("edgetap").is_none() || message["Records"].is_array() {
        return;
    }
    let jobs = read(message.clone());
    let Ok(continuation) = Continuation::deserialize(&message) else {
        assert_eq!(jobs, Err(EventError::Continuation));
        return;
    };

    let text = serde_json::to_string(&continuation).unwrap();
    assert_eq!(
        serde_json::from_str::<Continuation>(&text).unwrap(),
        continuation,
        "a written continuation is read back"
    );
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read(again), jobs, "and gives the same jobs");
    assert_eq!(from_queue(&text), jobs, "and the same jobs from SQS");

    match jobs {
        Ok(jobs) => {
            assert!((1..=CONTINUATION_VERSION).contains(&continuation.edgetap));
            assert!(!jobs.is_empty(), "a continuation has at least one job");
            assert_eq!(jobs.len(), continuation.rows.len());
            for (job, rows) in jobs.iter().zip(&continuation.rows) {
                check(job, *rows, &continuation);
            }
        }
        Err(EventError::ContinuationVersion(version)) => {
            assert!(version == 0 || version > CONTINUATION_VERSION);
        }
        Err(error) => assert_eq!(error, EventError::Continuation),
    }
}

fn check(job: &Job, (start, end): (u64, Option<u64>), continuation: &Continuation) {
    let object = &continuation.object;
    assert_eq!(
        (&job.object.bucket, &job.object.key, &job.object.etag),
        (&object.bucket, &object.key, &object.etag)
    );
    assert_eq!(
        (job.rows.start, job.rows.end),
        (start, end.unwrap_or(u64::MAX))
    );
    assert!(job.rows.start <= job.rows.end, "rows end before they start");
    assert_eq!(
        (job.since, job.requeue_count),
        (Some(continuation.since), continuation.requeue_count)
    );

    // The number of requeues is bounded whatever the message contains.
    let mut requeue_count = job.requeue_count;
    let fresh = Situation {
        progress: true,
        requeue_count,
        receive_count: 1,
        age: SignedDuration::ZERO,
        retry_for: RETRY_FOR,
    };
    while (Situation {
        requeue_count,
        ..fresh
    })
    .next()
        == Next::Requeue
    {
        requeue_count += 1;
        assert!(requeue_count <= MAX_REQUEUES);
    }

    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let (since, requeue_count) = started(
        job,
        &SqsMessageMeta {
            sent: Some(now),
            ..SqsMessageMeta::default()
        },
        now,
        RETRY_FOR,
    );
    assert!(
        now.duration_since(since) <= RETRY_FOR,
        "the age of a redriven message starts over"
    );
    assert!(requeue_count == job.requeue_count || requeue_count == 0);
}

fn read(message: Value) -> Result<Vec<Job>, EventError> {
    match Event::parse(message)? {
        Event::Direct(jobs) => Ok(jobs),
        Event::Sqs(_) => panic!("read as a message of a queue"),
    }
}

/// Reads the continuation as SQS delivers it to Lambda.
fn from_queue(body: &str) -> Result<Vec<Job>, EventError> {
    let record = json!({"messageId": "m", "eventSource": "aws:sqs", "body": body, "attributes": {"SentTimestamp": "1763726400000"}});
    match Event::parse(json!({"Records": [record]}))? {
        Event::Sqs(mut records) => records.remove(0).jobs,
        Event::Direct(_) => panic!("not read as a message of a queue"),
    }
}

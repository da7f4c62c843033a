//! Continuation messages, which one invocation writes and a later one reads.

use edgetap::continuation::{CONTINUATION_VERSION, Continuation, ContinuationError, History};
use edgetap::event::{Event, EventError, Work};
use edgetap::job::Job;
use edgetap::plan::{Facts, MAX_REQUEUES, Plan, Situation, Target, decide};
use jiff::SignedDuration;
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
    let continuation = match Continuation::read(&message) {
        Ok(continuation) => continuation,
        Err(error) => {
            if let ContinuationError::Version(version) = error {
                assert!(version == 0 || version > CONTINUATION_VERSION.into());
            }
            assert_eq!(jobs, Err(error.into()));
            return;
        }
    };
    assert!((1..=CONTINUATION_VERSION).contains(&continuation.edgetap));
    assert!(!continuation.rows.is_empty(), "it has at least one row");

    let text = serde_json::to_string(&continuation).unwrap();
    assert_eq!(
        serde_json::from_str::<Continuation>(&text).unwrap(),
        continuation,
        "a written continuation is read back"
    );
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read(again), jobs, "and gives the same job");
    let Work {
        jobs: queued,
        history,
    } = from_queue(&text).unwrap();
    assert_eq!(Ok(&queued), jobs.as_ref(), "and the same job from SQS");
    let [job] = &queued[..] else { panic!() };
    assert_eq!(
        (&job.object, &job.rows),
        (&continuation.object, &continuation.rows)
    );
    if continuation.dead_letter || continuation.edgetap == 1 {
        assert_eq!(history, History::default(), "it starts over");
    } else {
        let History {
            since,
            requeue_count,
            attempts,
        } = history;
        assert_eq!(since, Some(continuation.since));
        assert_eq!(requeue_count, continuation.requeue_count);
        assert_eq!(attempts, continuation.attempts);
    }
    ends(job, history);
}

/// The number of requeues is bounded whatever the message contains.
fn ends(job: &Job, history: History) {
    let facts = Facts {
        has_progress: true,
        left: job.rows.clone(),
        ..Facts::default()
    };
    let situation = Situation {
        history,
        receive_count: 1,
        message_age: SignedDuration::ZERO,
        age: SignedDuration::ZERO,
        retry_for: RETRY_FOR,
        jitter: 1.0,
    };
    let Plan::Finish(messages) = decide(&[facts], situation) else {
        panic!("progress is redelivered")
    };
    let [message] = &messages[..] else { panic!() };
    match message.target {
        Target::Work { history: next, .. } => {
            assert_eq!(next.requeue_count, history.requeue_count + 1);
            assert!(next.requeue_count <= MAX_REQUEUES);
        }
        Target::DeadLetters => assert!(history.requeue_count >= MAX_REQUEUES),
    }
}

fn read(message: Value) -> Result<Vec<Job>, EventError> {
    match Event::parse(message)? {
        Event::Direct(jobs) => Ok(jobs),
        Event::Sqs(_) => panic!("read as a message of a queue"),
    }
}

/// Reads the continuation as SQS delivers it to Lambda.
fn from_queue(body: &str) -> Result<Work, EventError> {
    let record = json!({"messageId": "m", "eventSource": "aws:sqs", "body": body});
    match Event::parse(json!({"Records": [record]}))? {
        Event::Sqs(mut records) => records.remove(0).work,
        Event::Direct(_) => panic!("not read as a message of a queue"),
    }
}

//! `edgetap backfill` and what it is made of, with a fake S3 and a fake SQS.

use edgetap::outbox::{Depth, Outbox, OutboxError};

use crate::support::fake_sqs::{FakeSqs, OTHER_DEAD_LETTERS, OTHER_WORK, SENT_ENTRY};
use crate::support::{BACKOFF, sdk_config};

const QUEUE: &str = "https://sqs.us-east-1.amazonaws.com/123456789012/other-work";

fn outbox(sqs: &FakeSqs) -> Outbox {
    Outbox::new(&sdk_config(&sqs.endpoint()), QUEUE)
}

fn bodies(sqs: &FakeSqs) -> Vec<String> {
    let messages = sqs.messages().into_iter();
    messages.map(|message| message.body).collect()
}

/// Ten messages, `0` to `9`.
fn ten() -> Vec<String> {
    (0..10).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn only_failed_entries_of_a_batch_are_sent_again() {
    let sqs = FakeSqs::start().await;
    // The entries 3 and 7, and 7 once more.
    sqs.fail(|action, number| action == SENT_ENTRY && [4, 8, 12].contains(&number));
    let sent = outbox(&sqs).send(&ten(), &BACKOFF).await;
    assert!(sent.is_ok(), "{sent:?}");
    let mut bodies = bodies(&sqs);
    assert_eq!(bodies.len(), 10);
    bodies.sort();
    assert_eq!(bodies, ten());
    assert_eq!(sqs.requests("SendMessageBatch"), 3);
    assert_eq!(sqs.requests(SENT_ENTRY), 10 + 2 + 1);
}

#[tokio::test]
async fn refused_entries_end_after_a_few_tries() {
    for (blamed, requests) in [(true, 3), (false, 5)] {
        let sqs = FakeSqs::start().await;
        if blamed {
            sqs.blame("6");
        } else {
            sqs.fail(|action, number| action == SENT_ENTRY && (number == 7 || number > 10));
        }
        let unsent = outbox(&sqs).send(&ten(), &BACKOFF).await.err().unwrap();
        assert_eq!((unsent.first, unsent.accepted), (6, 9), "{unsent:?}");
        assert_eq!(sqs.requests("SendMessageBatch"), requests);
        assert!(
            unsent.error.to_string().contains("SQS refuses a message"),
            "{unsent:?}"
        );
        assert_eq!(bodies(&sqs).len(), 9);
    }
}

#[tokio::test]
async fn failed_request_is_sent_again_until_no_try_is_left() {
    let sqs = FakeSqs::start().await;
    sqs.fail(|action, number| action == "SendMessageBatch" && number <= 4);
    let sent = outbox(&sqs).send(&ten(), &BACKOFF).await;
    assert!(sent.is_ok(), "{sent:?}");
    assert_eq!(bodies(&sqs).len(), 10);
    sqs.fail(|action, _| action == "SendMessageBatch");
    let unsent = outbox(&sqs).send(&ten(), &BACKOFF).await.err().unwrap();
    assert_eq!((unsent.first, unsent.accepted), (0, 0), "{unsent:?}");
}

#[tokio::test]
async fn queue_tells_its_depth_and_its_dead_letters() {
    let sqs = FakeSqs::start().await;
    let outbox = outbox(&sqs);
    let facts = outbox.facts().await.unwrap();
    assert_eq!(facts.dead_letters, OTHER_DEAD_LETTERS);
    assert_eq!(facts.retention.as_secs(), 14 * 24 * 3600);
    for body in ten() {
        sqs.send_to(OTHER_WORK, body);
    }
    sqs.send_to(OTHER_DEAD_LETTERS, "dead".to_owned());
    sqs.send("in another queue".to_owned());
    sqs.receive_batch(3, std::time::Duration::from_mins(1), |_| 0);
    let depth = outbox.depth().await.unwrap();
    assert_eq!(depth.total(), 10);
    let dead = outbox.of_arn(&facts.dead_letters).unwrap();
    let expected = Depth {
        waiting: 1,
        in_flight: 0,
    };
    assert_eq!(dead.depth().await.unwrap(), expected);
    let error = dead.facts().await.err().unwrap();
    assert!(matches!(error, OutboxError::NoDeadLetters(_)), "{error}");
    let nowhere = Outbox::new(
        &sdk_config(&sqs.endpoint()),
        "https://sqs.us-east-1.amazonaws.com/123456789012/none",
    );
    let error = nowhere.facts().await.err().unwrap().to_string();
    assert!(error.contains("the queue does not exist"), "{error}");
}

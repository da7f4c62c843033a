//! Lambda events in every shape, from `tests/fixtures/events`.

use edgetap::event::{Event, decode_form_key, notification};
use edgetap::job::{Job, ObjectRef};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::fixtures;

fn as_json(jobs: &[Job]) -> Value {
    jobs.iter().map(|job| json!({"bucket": job.object.bucket, "key": job.object.key, "etag": job.object.etag})).collect()
}

// proves: D2, I11
#[test]
fn every_event_shape_yields_its_jobs() {
    let directory = fixtures().join("events");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap()
    };
    let expected = read("expected.json");
    let expected = expected.as_object().unwrap();
    for (name, expected) in expected {
        let found = match Event::parse(read(name)) {
            Err(error) => {
                let (error, wanted) = (
                    error.to_string(),
                    expected["error"]
                        .as_str()
                        .unwrap_or_else(|| panic!("{name}: {error}")),
                );
                assert!(error.contains(wanted), "{name}: {error}");
                continue;
            }
            Ok(Event::Direct(jobs)) => {
                json!({"kind": "direct", "jobs": as_json(&jobs), "failed": []})
            }
            Ok(Event::Sqs(records)) => {
                let failed: Vec<_> = records
                    .iter()
                    .filter(|record| record.work.is_err())
                    .map(|record| record.message_id.clone())
                    .collect();
                let jobs: Vec<_> = records
                    .into_iter()
                    .filter_map(|record| record.work.ok())
                    .flat_map(|work| work.jobs)
                    .collect();
                json!({"kind": "sqs", "jobs": as_json(&jobs), "failed": failed})
            }
        };
        let wanted = json!({"kind": expected["kind"], "jobs": expected["jobs"], "failed": expected.get("failed").unwrap_or(&json!([]))});
        assert_eq!(found, wanted, "{name}");
    }
    let files = std::fs::read_dir(&directory).unwrap().count();
    assert_eq!(
        files,
        expected.len() + 1,
        "every event is listed in expected.json"
    );
}

#[test]
fn notification_is_written_as_s3_writes_it() {
    let object = ObjectRef {
        etag: Some("d41d8cd9".to_owned()),
        size: Some(1024),
        ..ObjectRef::in_s3("logs", "a b/DistributionId=E1/c+é.gz")
    };
    let now = "2026-11-25T10:00:00Z".parse().unwrap();
    let written = notification(&object, "eu-west-1", now);
    let expected = json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1", "eventTime": "2026-11-25T10:00:00Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "edgetap-backfill", "bucket": {"name": "logs"},
            "object": {"key": "a+b/DistributionId%3DE1/c%2B%C3%A9.gz", "size": 1024, "eTag": "d41d8cd9"},
        },
    }]});
    assert_eq!(written, expected);
}

proptest! {
    #[test]
    fn notification_is_read_as_its_object(
        key in "\\PC{1,80}[a-z]",
        size in prop::option::of(1_u64..1 << 50),
        etag in prop::option::of("[0-9a-f]{32}"),
    ) {
        let object = ObjectRef { size, etag, ..ObjectRef::in_s3("logs", key) };
        let written = notification(&object, "us-east-1", jiff::Timestamp::UNIX_EPOCH);
        let message = json!({"messageId": "m", "eventSource": "aws:sqs", "body": written.to_string()});
        for event in [written, json!({"Records": [message]})] {
            let jobs = match Event::parse(event).unwrap() {
                Event::Direct(jobs) => jobs,
                Event::Sqs(mut records) => records.remove(0).work.unwrap().jobs,
            };
            prop_assert_eq!(jobs, vec![Job::all(object.clone())]);
        }
    }

    #[test]
    fn object_key_survives_form_encoding(key in "\\PC{1,80}") {
        let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        prop_assert_eq!(decode_form_key(&encoded), Ok(key));
    }
}

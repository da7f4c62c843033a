//! Lambda events in every shape, from `tests/fixtures/events`.

use edgetap::event::{Event, decode_form_key};
use edgetap::job::Job;
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

proptest! {
    #[test]
    fn object_key_survives_form_encoding(key in "\\PC{1,80}") {
        let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        prop_assert_eq!(decode_form_key(&encoded), Ok(key));
    }
}

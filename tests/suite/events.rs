//! Lambda events in every shape, from `tests/fixtures/events`.

use edgetap::work::{Event, Work, decode_form_key};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::fixtures;

fn shown(works: &[Work]) -> Value {
    works.iter().map(|work| json!({"bucket": work.object.bucket, "key": work.object.key, "etag": work.object.etag})).collect()
}

#[test]
fn every_shape_of_event_names_the_work_expected() {
    let folder = fixtures().join("events");
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap() };
    let expected = read("expected.json");
    let expected = expected.as_object().unwrap();
    for (name, expected) in expected {
        let found = match Event::parse(read(name)) {
            Err(error) => {
                let (error, wanted) = (error.to_string(), expected["error"].as_str().unwrap_or_else(|| panic!("{name}: {error}")));
                assert!(error.contains(wanted), "{name}: {error}");
                continue;
            }
            Ok(Event::Direct(works)) => json!({"kind": "direct", "works": shown(&works), "failed": []}),
            Ok(Event::Sqs(records)) => {
                let failed: Vec<_> =
                    records.iter().filter(|record| record.works.is_err()).map(|record| record.message_id.clone()).collect();
                let works: Vec<_> = records.into_iter().filter_map(|record| record.works.ok()).flatten().collect();
                json!({"kind": "sqs", "works": shown(&works), "failed": failed})
            }
        };
        let wanted = json!({"kind": expected["kind"], "works": expected["works"], "failed": expected.get("failed").unwrap_or(&json!([]))});
        assert_eq!(found, wanted, "{name}");
    }
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, expected.len() + 1, "every event stands in expected.json");
}

proptest! {
    #[test]
    fn a_key_comes_back_from_its_form_encoding(key in "\\PC{1,80}") {
        let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        prop_assert_eq!(decode_form_key(&encoded), Ok(key));
    }
}

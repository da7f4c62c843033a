//! Lambda events: every record with a bucket and a key becomes a job, a known skip or an error.

use edgetap::event::{Event, EventError};
use edgetap::job::Job;
use serde_json::Value;

/// The input is an event.
pub fn events(data: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    match Event::parse(event.clone()) {
        Ok(Event::Direct(jobs)) => check(&jobs, &event),
        Ok(Event::Sqs(records)) => {
            let messages = event["Records"].as_array().unwrap();
            assert_eq!(records.len(), messages.len(), "every message has a record");
            for (record, message) in records.into_iter().zip(messages) {
                assert_eq!(message["messageId"], record.message_id);
                match record.work {
                    Ok(work) => check(&work.jobs, &json(&message["body"])),
                    Err(error) => check_error(&error),
                }
            }
        }
        Err(error) => check_error(&error),
    }
}

fn check(jobs: &[Job], event: &Value) {
    let found: Vec<_> = jobs
        .iter()
        .map(|job| (job.object.bucket.clone(), job.object.key.clone()))
        .collect();
    assert_eq!(
        found,
        named(event),
        "jobs differ from the objects of the event"
    );
}

fn check_error(error: &EventError) {
    assert!(
        error.to_string().len() < 2500,
        "an error quotes only the start of a few keys"
    );
}

/// Finds bucket and key of every object in an event that edgetap understands.
fn named(event: &Value) -> Vec<(String, String)> {
    if let Some(records) = event["Records"].as_array() {
        let of_record = |record: &Value| match record.get("s3") {
            None => named(&json(&record["Sns"]["Message"])),
            Some(s3) if is_creation(record["eventName"].as_str()) => {
                created(s3, form_decoded(&string(&s3["object"]["key"])))
            }
            Some(_) => Vec::new(),
        };
        return records.iter().flat_map(of_record).collect();
    }
    if event.get("edgetap").is_some() {
        let object = (
            string(&event["object"]["bucket"]),
            string(&event["object"]["key"]),
        );
        return vec![object];
    }
    match event.get("detail") {
        _ if event["Event"] == "s3:TestEvent" => Vec::new(),
        Some(detail) if event["source"] == "aws.s3" => {
            if event["detail-type"] == "Object Created" {
                created(detail, string(&detail["object"]["key"]))
            } else {
                Vec::new()
            }
        }
        _ => named(&json(&event["Message"])),
    }
}

fn is_creation(name: Option<&str>) -> bool {
    name.is_none_or(|name| {
        name.strip_prefix("s3:")
            .unwrap_or(name)
            .starts_with("ObjectCreated:")
    })
}

/// The created object, unless it is skipped: directory placeholders, empty objects, AWS's tests.
fn created(notice: &Value, key: String) -> Vec<(String, String)> {
    let bucket = string(&notice["bucket"]["name"]);
    let is_log = !key.ends_with('/')
        && notice["object"]["size"] != 0
        && !key.ends_with("aws-programmatic-access-test-object");
    if is_log {
        vec![(bucket, key)]
    } else {
        Vec::new()
    }
}

fn form_decoded(key: &str) -> String {
    let pairs = key.replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(pairs.as_bytes())
        .next()
        .map(|(key, _)| key.into_owned())
        .unwrap_or_default()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn json(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

//! Keys of S3 events, which are form-encoded.

use edgetap::event::{Event, EventError, decode_form_key};
use edgetap::job::ObjectRef;
use serde_json::json;

/// The input is the key as an event contains it.
pub fn keys(data: &[u8]) {
    let Ok(key) = std::str::from_utf8(data) else {
        return;
    };
    let found = decode_form_key(key);
    // These two characters are separators in the URL standard, but not in a key.
    let pairs = key.replace('&', "%26").replace('=', "%3D");
    let wanted = url::form_urlencoded::parse(pairs.as_bytes())
        .next()
        .map(|(key, _)| key.into_owned())
        .unwrap_or_default();
    match &found {
        Ok(found) => assert_eq!(*found, wanted),
        Err(error) => assert!(
            *error == EventError::Key && wanted.contains(char::REPLACEMENT_CHARACTER),
            "{error}"
        ),
    }
    if let Ok(decoded) = &found {
        let encoded: String = url::form_urlencoded::byte_serialize(decoded.as_bytes()).collect();
        assert_eq!(
            decode_form_key(&encoded).as_ref(),
            Ok(decoded),
            "an encoded key is decoded to itself"
        );
    }

    let record = json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "logs"}, "object": {"key": key, "size": 1}}});
    match (Event::parse(json!({"Records": [record]})), found) {
        (Ok(Event::Direct(jobs)), Ok(key)) => {
            let is_skipped =
                key.ends_with('/') || key.ends_with("aws-programmatic-access-test-object");
            assert_eq!(jobs.len(), usize::from(!is_skipped));
            for job in jobs {
                assert_eq!(job.object.key, key);
                check_distribution(&job.object);
            }
        }
        (Err(found), Err(wanted)) => assert_eq!(found, wanted),
        (event, key) => panic!("{event:?} of {key:?}"),
    }
}

/// Checks that a distribution ID comes from the key and has the form of one.
fn check_distribution(object: &ObjectRef) {
    if let Some(id) = object.distribution() {
        assert!(object.key.contains(id) && id.len() > 10 && id.starts_with('E'));
        assert!(
            id.bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        );
    }
}

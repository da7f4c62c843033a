//! Reading objects from S3: what counts as deleted, which version is read, and bounds.

use std::io::Read as _;

use edgetap::job::ObjectRef;
use edgetap::source::{Opened, S3, SourceError};

use crate::support::fake_s3::{FakeS3, Fault};
use crate::support::{BACKOFF, sdk_config};

async fn open(s3: &FakeS3, object: &ObjectRef) -> Result<Opened, SourceError> {
    S3::new(&sdk_config(&s3.endpoint()), BACKOFF)
        .open(object)
        .await
}

/// Reads an open object to its end.
async fn read(mut opened: Opened) -> Vec<u8> {
    let read = move || {
        let mut bytes = Vec::new();
        opened.bytes.read_to_end(&mut bytes).map(|_| bytes)
    };
    tokio::task::spawn_blocking(read).await.unwrap().unwrap()
}

fn object() -> ObjectRef {
    ObjectRef::in_s3("logs", "a.gz")
}

// proves: D22
#[tokio::test]
async fn only_no_such_key_is_a_deletion() {
    for (fault, is_deleted, text) in [
        (Fault::Rejection(404, "NoSuchKey"), true, "does not exist"),
        (Fault::Rejection(404, "NoSuchBucket"), false, "the region"),
        (
            Fault::Rejection(404, "NoSuchVersion"),
            false,
            "noncurrent versions",
        ),
        (Fault::Page(404), false, "any proxy"),
        (Fault::Status(404), false, "any proxy"),
        (Fault::Status(410), false, "410"),
        (Fault::Rejection(405, "MethodNotAllowed"), false, "405"),
    ] {
        let s3 = FakeS3::start().await;
        s3.put("a.gz", "content");
        s3.fail(0, fault.clone());
        let error = open(&s3, &object()).await.err().unwrap();
        let deleted = matches!(error, SourceError::NotFound { .. });
        assert_eq!(deleted, is_deleted, "{fault:?}");
        let error = error.to_string();
        assert!(error.contains("s3://logs/a.gz"), "{fault:?}: {error}");
        assert!(error.contains(text), "{fault:?}: {error}");
    }
}

// proves: D22, I11
#[tokio::test]
async fn object_is_empty_only_if_no_size_was_told() {
    for (size, is_empty) in [(None, true), (Some(0), true), (Some(1), false)] {
        let s3 = FakeS3::start().await;
        s3.put("a.gz", "");
        let object = ObjectRef { size, ..object() };
        match open(&s3, &object).await {
            Ok(opened) => {
                assert!(is_empty, "{size:?}");
                assert_eq!(read(opened).await, b"", "{size:?}");
            }
            Err(error) => {
                assert!(!is_empty, "{size:?}: {error}");
                assert!(error.to_string().contains("416"), "{size:?}: {error}");
            }
        }
    }
}

/// Version ID and ETag of a notification, the current content, what is read, and whether that
/// counts as replaced. The reference that `open` returns reads the same once more.
// proves: D23, D24
#[tokio::test]
async fn version_of_the_notification_is_read() {
    for (version, etag, current, expected, replaced) in [
        (Some("v1"), None, Some("second"), "first", false),
        (Some("v1"), None, None, "first", false),
        (None, None, Some("second"), "second", false),
        (None, Some("0123"), Some("second"), "second", true),
        (None, Some("0123"), Some(""), "", true),
    ] {
        let s3 = FakeS3::start().await;
        s3.put_version("a.gz", "v1", "first");
        if let Some(current) = current {
            s3.put("a.gz", current);
        }
        let mut told = ObjectRef {
            version: version.map(str::to_owned),
            etag: etag.map(str::to_owned),
            size: Some(5),
            ..object()
        };
        for replaced in [replaced, false] {
            let opened = open(&s3, &told).await.unwrap();
            assert_eq!(opened.replaced, replaced, "{told:?}");
            assert_eq!(opened.object.size, opened.size, "{told:?}");
            let known = opened.object.clone();
            assert_eq!(read(opened).await, expected.as_bytes(), "{told:?}");
            told = known;
        }
        assert!(
            s3.gets()
                .iter()
                .all(|get| get.version.as_deref() == version),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn every_range_is_of_the_same_version() {
    let s3 = FakeS3::start().await;
    let bytes = vec![b'x'; 9 << 20]; // three ranges
    s3.put_version("a.gz", "v1", bytes.clone());
    let told = ObjectRef {
        version: Some("v1".to_owned()),
        ..object()
    };
    let opened = open(&s3, &told).await.unwrap();
    assert_eq!(read(opened).await.len(), bytes.len());
    let versions: Vec<_> = s3.gets().into_iter().map(|get| get.version).collect();
    assert_eq!(versions, vec![Some("v1".to_owned()); 3]);
}

#[tokio::test]
async fn body_is_bounded_while_it_is_read() {
    let s3 = FakeS3::start().await;
    s3.put("a.gz", "content");
    s3.react(|| Some(Fault::Overrun));
    let error = open(&s3, &object()).await.err().unwrap().to_string();
    assert!(error.contains("more than the 7 bytes"), "{error}");
}

//! Reading objects from S3: what counts as deleted, which version is read, and bounds.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::Ipv4Addr;

use edgetap::job::ObjectRef;
use edgetap::listing::Listed;
use edgetap::period::Window;
use edgetap::source::{Opened, S3, SourceError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{Timestamp, ToSpan as _};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

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

async fn list(s3: &FakeS3, prefix: &str, window: &Window) -> Vec<String> {
    let s3 = S3::new(&sdk_config(&s3.endpoint()), BACKOFF);
    let listed = s3.list("logs", prefix, window).await.unwrap();
    listed.into_iter().map(|(object, _)| object.key).collect()
}

/// Keys of every sixth hour of two years, and some that tell no hour.
fn keys_of_two_years(form: &str) -> Vec<String> {
    let first: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    let hour = |hour: i64| first.checked_add(hour.hours()).unwrap();
    let told = (0..2 * 365 * 24)
        .step_by(6)
        .map(|at| hour(at).strftime(form).to_string());
    let untold = [
        "0.gz",
        "E27FO14I29XXXX/1.gz",
        "E27FO14I29XXXX/2025.gz",
        "E27FO14I29XXXX/20250/x.gz",
        "E27FO14I29XXXX.2025~",
        "E27FO14I29XXXX~.gz",
        "~",
    ];
    told.chain(untold.map(str::to_owned)).collect()
}

#[tokio::test]
async fn listing_has_keys_of_any_characters() {
    let s3 = FakeS3::start().await;
    s3.list_by(1);
    let keys = ["a\u{1}b\r\n", "a&<b>\"%2B", "a+ b%", "aé\u{2028}\u{202e}"];
    for key in keys {
        s3.put(key, "x");
    }
    assert_eq!(list(&s3, "", &Window::default()).await, keys);
    assert_eq!(list(&s3, "a+ ", &Window::default()).await, ["a+ b%"]);
}

#[tokio::test]
async fn listing_passes_over_hours_outside_the_window() {
    let time = |text: &str| Some(text.parse().unwrap());
    for form in [
        "E27FO14I29XXXX.%Y-%m-%d-%H.x.gz",
        "p/E27FO14I29XXXX.%Y-%m-%d-%H.x.gz",
    ] {
        let s3 = FakeS3::start().await;
        s3.list_by(20);
        let mut keys = keys_of_two_years(form);
        for key in &keys {
            s3.put(key, "x");
        }
        keys.sort();
        for (since, until, most) in [
            (None, None, 147),
            (time("2026-11-25T10:00:00Z"), None, 50),
            (
                time("2026-11-25T10:00:00Z"),
                time("2026-11-25T12:00:00Z"),
                50,
            ),
            (None, time("2025-01-02T00:00:00Z"), 25),
            (time("2028-01-01T00:00:00Z"), None, 10),
        ] {
            let window = Window::new(since, until);
            let before = s3.pages();
            let mut listed = list(&s3, "", &window).await;
            let pages = s3.pages() - before;
            assert!(pages <= most, "{form} from {since:?} to {until:?}: {pages}");
            let is_wanted = |key: &String| window.excluding(key).is_none();
            listed.retain(is_wanted);
            let mut wanted = keys.clone();
            wanted.retain(is_wanted);
            assert_eq!(listed, wanted, "{form} from {since:?} to {until:?}");
        }
    }
}

#[tokio::test]
async fn part_of_a_listing_is_not_taken_for_the_whole() {
    let s3 = FakeS3::start().await;
    let more = "<Size>1</Size></Contents><IsTruncated>true</IsTruncated><Contents><Key>b</Key>";
    s3.put_told("a", "x", more);
    let s3 = S3::new(&sdk_config(&s3.endpoint()), BACKOFF);
    let listed = s3.list("logs", "", &Window::default()).await;
    let error = listed.unwrap_err().to_string();
    assert!(error.contains("only a part of the objects"), "{error}");
}

/// A folder can hold logs of another time than its own, whose names then decide.
#[tokio::test]
async fn listing_passes_over_no_log_in_the_window() {
    let mut keys = BTreeSet::new();
    for folder in [
        "",
        "year=2025/",
        "year=2025/month=12/",
        "E27FO14I29XXXX/2025/12/",
        "E27FO14I29XXXX/2026/",
    ] {
        for name in ["x.gz", "E1AAAAAAAAAAA1.2026-02-01-00.x.gz"] {
            keys.insert(format!("{folder}{name}"));
        }
        for hour in [
            "2025-07-01-10",
            "2025-12-31-23",
            "2026-01-02-00",
            "2026-03-01-00",
        ] {
            keys.insert(format!("{folder}E27FO14I29XXXX.{hour}.x.gz"));
        }
    }
    let s3 = FakeS3::start().await;
    for key in &keys {
        s3.put(key, "x");
    }
    let times = [
        "",
        "2025-07-10T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "2026-02-01T00:00:00Z",
    ];
    let time = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    for (since, until) in times
        .iter()
        .flat_map(|since| times.map(|until| (since, until)))
    {
        let window = Window::new(time(since), time(until));
        let is_wanted = |key: &&String| window.excluding(key).is_none();
        for keys_of_page in 1..=7 {
            s3.list_by(keys_of_page);
            let listed = list(&s3, "", &window).await;
            let found: Vec<&String> = listed.iter().filter(is_wanted).collect();
            let wanted: Vec<&String> = keys.iter().filter(is_wanted).collect();
            assert_eq!(found, wanted, "{since} to {until}, {keys_of_page} a page");
        }
    }
}

/// The pages that S3 lists behind a key, without any `ETag`.
async fn pages(s3: &FakeS3, after: &str) -> Vec<Vec<Listed>> {
    let s3 = S3::new(&sdk_config(&s3.endpoint()), BACKOFF);
    let mut listing = s3.listing("logs", "p/", after, &Window::default());
    let mut pages = Vec::new();
    while let Some(mut page) = listing.page().await.unwrap() {
        for listed in &mut page {
            assert_eq!(listed.etag.take().map(|etag| etag.len()), Some(64));
        }
        pages.push(page);
    }
    pages
}

#[tokio::test]
async fn listing_tells_what_s3_says_page_by_page() {
    let s3 = FakeS3::start().await;
    s3.list_by(2);
    s3.put("p/", "");
    s3.put("p/a", "content");
    s3.put_told(
        "p/b",
        "content",
        "<LastModified>2026-11-25T10:00:00.500Z</LastModified><Size>0</Size><StorageClass>GLACIER</StorageClass>",
    );
    s3.put_told("p/c", "content", "");
    let of = |key: &str, size| Listed {
        key: key.to_owned(),
        size,
        ..Listed::default()
    };
    let archived = Listed {
        last_modified: Some("2026-11-25T10:00:00.5Z".parse().unwrap()),
        storage_class: Some("GLACIER".to_owned()),
        ..of("p/b", Some(0))
    };
    let unknown = of("p/c", None);
    assert_eq!(
        pages(&s3, "").await,
        [
            vec![of("p/", Some(0)), of("p/a", Some(7))],
            vec![archived.clone(), unknown.clone()]
        ]
    );
    assert_eq!(
        pages(&s3, "p/a").await,
        [vec![archived, unknown.clone()]],
        "behind a key"
    );
    assert_eq!(pages(&s3, "p/bb").await, [vec![unknown]], "behind no key");
    assert_eq!(pages(&s3, "p/c").await, [vec![]], "behind the last key");
    assert_eq!(
        list(&s3, "p/", &Window::default()).await,
        ["p/a", "p/c"],
        "what has no size may have content"
    );
}

#[tokio::test]
async fn failed_listing_names_the_prefix_and_what_to_do() {
    for (status, code, region, reason, advice) in [
        (
            404,
            "NoSuchBucket",
            None,
            "does not exist",
            "Check the bucket",
        ),
        (403, "AccessDenied", None, "access denied", "s3:ListBucket"),
        (
            400,
            "ExpiredToken",
            None,
            "400, ExpiredToken",
            "sign in again",
        ),
        (403, "InvalidAccessKeyId", None, "403", "`AWS_PROFILE`"),
        (
            301,
            "PermanentRedirect",
            Some("eu-west-1"),
            "the region of the bucket is eu-west-1",
            "`AWS_REGION`",
        ),
        (
            400,
            "AuthorizationHeaderMalformed",
            None,
            "another",
            "`AWS_REGION`",
        ),
        (405, "MethodNotAllowed", None, "405", "endpoint"),
    ] {
        let s3 = FakeS3::start().await;
        let region = region.map(|region| ("x-amz-bucket-region", region));
        s3.reject_lists(status, code, region);
        let client = S3::new(&sdk_config(&s3.endpoint()), BACKOFF);
        let mut listing = client.listing("logs", "p/", "", &Window::default());
        let error = listing.page().await.err().unwrap().to_string();
        for words in ["cannot list s3://logs/p/: ", reason, advice] {
            assert!(error.contains(words), "{code}: {error}");
        }
    }
}

/// Returns the head of the request for an object with this key, byte for byte as it was sent.
async fn sent_for(key: &str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let object = ObjectRef::in_s3("logs", key);
    let client = S3::new(&sdk_config(&endpoint), BACKOFF);
    let opening = tokio::spawn(async move { client.open(&object).await.err() });
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    opening.abort();
    String::from_utf8(head).unwrap()
}

/// Returns the signature (AWS Signature Version 4 for S3) of a request with this head, by the
/// secret key of the tests.
fn signature(head: &str) -> String {
    let (line, rest) = head.split_once("\r\n").unwrap();
    let header = |name: &str| {
        let mut fields = rest.lines().filter_map(|line| line.split_once(": "));
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("no {name}")).1
    };
    let authorization = header("authorization");
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(name).unwrap();
        rest.split(',').next().unwrap()
    };
    let (_, scope) = part("Credential=").split_once('/').unwrap();
    let signed = part("SignedHeaders=");
    let headers = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", header(name)));
    let target = line.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap();
    let canonical = format!(
        "GET\n{path}\n{query}\n{}\n{signed}\n{}",
        headers.collect::<String>(),
        header("x-amz-content-sha256"),
    );
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        header("x-amz-date"),
        hex::encode(Sha256::digest(canonical)),
    );
    let mac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let key = scope
        .split('/')
        .fold(b"AWS4test".to_vec(), |key, part| mac(&key, part));
    hex::encode(mac(&key, &text))
}

#[tokio::test]
async fn keys_arrive_as_they_were_signed() {
    for (key, path) in [
        ("a.gz", "a.gz"),
        ("a/../b.gz", "a/../b.gz"),
        ("../a", "../a"),
        ("./a/.", "./a/."),
        ("a//b", "a//b"),
        ("/a/", "/a/"),
        ("a+b", "a%2Bb"),
        ("a b", "a%20b"),
        ("a%2Fb%2e%2e", "a%252Fb%252e%252e"),
        ("a\\b|c[d]", "a%5Cb%7Cc%5Bd%5D"),
        ("a?b#c&d=e", "a%3Fb%23c%26d%3De"),
        ("é/日本\u{1f980}", "%C3%A9/%E6%97%A5%E6%9C%AC%F0%9F%A6%80"),
    ] {
        let head = sent_for(key).await;
        let line = format!("GET /logs/{path}?x-id=GetObject HTTP/1.1\r\n");
        assert!(head.starts_with(&line), "{key}: {head}");
        let signed = format!("Signature={}", signature(&head));
        assert!(head.contains(&signed), "{key}: {head}");
    }
}

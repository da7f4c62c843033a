//! A fake S3 that can misbehave: serves ranged GETs with `If-Match` from memory, and lists what it
//! has. It does not check signatures.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edgetap::local_bridge::serve;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

type AnyBody = UnsyncBoxBody<Bytes, io::Error>;

/// A fault of one GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A response with this status and an empty body.
    Status(u16),
    /// A response with this status and an XML body with this error code.
    Rejection(u16, &'static str),
    /// A response with this status and an HTML page, as a proxy sends it.
    Page(u16),
    /// The connection is closed without a response.
    HangUp,
    /// The connection breaks after this many bytes of the body.
    Cut(usize),
    /// The response lacks `Content-Range`.
    NoRange,
    /// The body pauses after this many bytes.
    Stall(usize, Duration),
    /// The body arrives in pieces of this many bytes, one per millisecond.
    Drip(usize),
    /// The body goes on for 64 MB after its last byte.
    Overrun,
}

#[derive(Clone, Debug)]
pub(crate) struct Get {
    pub key: String,
    pub version: Option<String>,
    pub range: String,
    pub if_match: Option<String>,
}

#[derive(Default)]
struct State {
    /// Content and ETag by key. An empty ETag is not sent.
    objects: Mutex<BTreeMap<String, (Bytes, String)>>,
    /// Earlier versions by key and version ID.
    versions: Mutex<BTreeMap<(String, String), (Bytes, String)>>,
    /// By the number of the GET, counted from 0.
    faults: Mutex<BTreeMap<usize, Fault>>,
    gets: Mutex<Vec<Get>>,
    /// XML that a listing has of an object, instead of its size, by key.
    told: Mutex<BTreeMap<String, String>>,
    /// Status, error code and a header of the response to every list after so many.
    unlisted: Mutex<Option<Unlisted>>,
    listed: AtomicUsize,
    /// Number of keys in a page of a list, and of the pages that were asked for.
    page: AtomicUsize,
    pages: AtomicUsize,
    /// Decides the fault of every GET that has no entry in `faults`.
    react: Mutex<Option<React>>,
}

type Unlisted = (u16, &'static str, Option<(&'static str, &'static str)>);
type React = Box<dyn Fn() -> Option<Fault> + Send>;

pub(crate) struct FakeS3 {
    address: std::net::SocketAddr,
    state: Arc<State>,
    server: AbortHandle,
}

impl FakeS3 {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            page: AtomicUsize::new(1_000),
            ..State::default()
        });
        let shared = state.clone();
        let server = serve(listener, None, move |request| {
            let query = request.uri().query().unwrap_or_default();
            let response = if query.contains("list-type=2") {
                list(&shared, query)
            } else {
                response(&shared, &request)
            };
            async move { response }
        });
        Self {
            address,
            state,
            server,
        }
    }

    /// Stores an object. There is only one bucket.
    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.state
            .objects
            .lock()
            .unwrap()
            .insert(key.to_owned(), tagged(bytes.into()));
    }

    /// Stores a version of an object, which only GETs with its ID return.
    pub(crate) fn put_version(&self, key: &str, version: &str, bytes: impl Into<Bytes>) {
        self.state
            .versions
            .lock()
            .unwrap()
            .insert((key.to_owned(), version.to_owned()), tagged(bytes.into()));
    }

    /// Stores an object that is served without an ETag.
    pub(crate) fn put_untagged(&self, key: &str, bytes: impl Into<Bytes>) {
        self.state
            .objects
            .lock()
            .unwrap()
            .insert(key.to_owned(), (bytes.into(), String::new()));
    }

    /// Stores an object of which listings have this XML instead of its size.
    pub(crate) fn put_told(&self, key: &str, bytes: impl Into<Bytes>, xml: &str) {
        self.put(key, bytes);
        let mut told = self.state.told.lock().unwrap();
        told.insert(key.to_owned(), xml.to_owned());
    }

    /// Rejects every list with this status and code, and a header.
    pub(crate) fn reject_lists(
        &self,
        status: u16,
        code: &'static str,
        header: Option<(&'static str, &'static str)>,
    ) {
        *self.state.unlisted.lock().unwrap() = Some((status, code, header));
    }

    /// Rejects every list after this many, as long as there is a limit.
    pub(crate) fn deny_lists_after(&self, lists: Option<usize>) {
        let denied = lists.map(|_| (403, "AccessDenied", None));
        *self.state.unlisted.lock().unwrap() = denied;
        let lists = lists.unwrap_or_default();
        self.state.listed.store(lists, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, key: &str) {
        self.state.objects.lock().unwrap().remove(key);
    }

    /// Injects a fault into the GET with this number, counted from 0.
    pub(crate) fn fail(&self, get: usize, fault: Fault) {
        self.state.faults.lock().unwrap().insert(get, fault);
    }

    pub(crate) fn react(&self, react: impl Fn() -> Option<Fault> + Send + 'static) {
        *self.state.react.lock().unwrap() = Some(Box::new(react));
    }

    pub(crate) fn gets(&self) -> Vec<Get> {
        self.state.gets.lock().unwrap().clone()
    }

    /// Lists this many keys in a page.
    pub(crate) fn list_by(&self, keys: usize) {
        self.state.page.store(keys, Ordering::Relaxed);
    }

    /// Returns how many pages were listed.
    pub(crate) fn pages(&self) -> usize {
        self.state.pages.load(Ordering::Relaxed)
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for FakeS3 {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// When every object was put: 15 minutes and 40 s after 1700000000.
const LAST_MODIFIED: &str = "Tue, 14 Nov 2023 22:29:00 GMT";

/// An object with its quoted ETag.
fn tagged(bytes: Bytes) -> (Bytes, String) {
    let etag = format!("\"{}\"", hex::encode(Sha256::digest(&bytes)));
    (bytes, etag)
}

fn response(state: &State, request: &Request<Incoming>) -> io::Result<Response<AnyBody>> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let key = request
        .uri()
        .path()
        .splitn(3, '/')
        .nth(2)
        .unwrap_or_default();
    let key = percent_encoding::percent_decode_str(key)
        .decode_utf8_lossy()
        .into_owned();
    let version = request
        .uri()
        .query()
        .and_then(|query| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix("versionId="))
        })
        .map(str::to_owned);
    let (range, if_match) = (header("range").unwrap_or_default(), header("if-match"));
    let number = {
        let mut gets = state.gets.lock().unwrap();
        gets.push(Get {
            key: key.clone(),
            version: version.clone(),
            range: range.clone(),
            if_match: if_match.clone(),
        });
        gets.len() - 1
    };
    let fault = state.faults.lock().unwrap().get(&number).cloned();
    let fault = fault.or_else(|| {
        state
            .react
            .lock()
            .unwrap()
            .as_ref()
            .and_then(|react| react())
    });
    match fault {
        Some(Fault::Status(status)) => return status_only(status),
        Some(Fault::Rejection(status, code)) => return rejection(status, code),
        Some(Fault::Page(status)) => {
            return with_body(
                status,
                "<html><body><h1>Not Found</h1></body></html>".to_owned(),
            );
        }
        Some(Fault::HangUp) => {
            return Err(io::Error::other("closed the connection as the test asked"));
        }
        _ => {}
    }
    let (object, etag) = match found(state, key, version) {
        Ok(found) => found,
        Err(code) => return rejection(404, code),
    };
    if if_match.is_some_and(|wanted| wanted != etag) {
        return status_only(412);
    }
    let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    if first >= object.len() {
        return status_only(416);
    }
    let last = last.parse::<usize>().unwrap().min(object.len() - 1);
    let bytes = object.slice(first..=last);
    let mut response = partial_content();
    if fault != Some(Fault::Overrun) {
        response = response.header("content-length", bytes.len());
    }
    if !etag.is_empty() {
        response = response.header("etag", etag);
    }
    if fault != Some(Fault::NoRange) {
        response = response.header(
            "content-range",
            format!("bytes {first}-{last}/{}", object.len()),
        );
    }
    let stalled = match fault {
        Some(Fault::Stall(_, time)) => time,
        _ => Duration::ZERO,
    };
    let frames = frames(bytes, fault.as_ref());
    // The frames arrive one by one, so that those before a break are sent.
    let frames =
        stream::iter(frames.into_iter().enumerate()).then(move |(index, frame)| async move {
            let pause = if index > 0 { stalled } else { Duration::ZERO };
            tokio::time::sleep(pause + Duration::from_millis(1)).await;
            frame
        });
    response
        .body(BodyExt::boxed_unsync(StreamBody::new(frames)))
        .map_err(io::Error::other)
}

/// Lists a page of keys. A continuation token is the last key of the page before, in hexadecimal.
fn list(state: &State, query: &str) -> io::Result<Response<AnyBody>> {
    let before = state.pages.fetch_add(1, Ordering::Relaxed);
    if let Some((status, code, header)) = *state.unlisted.lock().unwrap()
        && before >= state.listed.load(Ordering::Relaxed)
    {
        let mut rejected = rejection(status, code)?;
        if let Some((name, value)) = header {
            let value = HeaderValue::from_static(value);
            rejected.headers_mut().insert(name, value);
        }
        return Ok(rejected);
    }
    let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).collect();
    let given = |name: &str| query.get(name).map(AsRef::as_ref).unwrap_or_default();
    let is_encoded = given("encoding-type") == "url";
    let token = hex::decode(given("continuation-token")).unwrap();
    let behind = given("start-after").max(str::from_utf8(&token).unwrap());
    let start = match behind.max(given("prefix")) {
        start if start == behind => Bound::Excluded(start),
        start => Bound::Included(start),
    };
    let objects = state.objects.lock().unwrap();
    let told = state.told.lock().unwrap();
    let mut keys = objects
        .range::<str, _>((start, Bound::Unbounded))
        .filter(|(key, _)| key.starts_with(given("prefix")));
    let page = keys.by_ref().take(state.page.load(Ordering::Relaxed));
    let mut last = "";
    let mut listed: Vec<_> = page
        .map(|(key, (object, etag))| {
            last = key;
            let told = match told.get(key) {
                Some(told) => told.clone(),
                None => format!("<Size>{}</Size>", object.len()),
            };
            let encoded = url::form_urlencoded::byte_serialize(key.as_bytes());
            let key = if is_encoded {
                encoded.collect()
            } else {
                key.clone()
            };
            let etag = etag.replace('"', "&quot;");
            format!("<Contents><Key>{key}</Key><ETag>{etag}</ETag>{told}</Contents>")
        })
        .collect();
    if keys.next().is_some() {
        listed.push(format!(
            "<NextContinuationToken>{}</NextContinuationToken>",
            hex::encode(last)
        ));
    }
    if is_encoded {
        listed.push("<EncodingType>url</EncodingType>".to_owned());
    }
    let listed = listed.concat();
    with_body(
        200,
        format!("<ListBucketResult>{listed}</ListBucketResult>"),
    )
}

/// Returns an object with its ETag, or else S3's error code.
fn found(
    state: &State,
    key: String,
    version: Option<String>,
) -> Result<(Bytes, String), &'static str> {
    match version {
        None => state
            .objects
            .lock()
            .unwrap()
            .get(&key)
            .cloned()
            .ok_or("NoSuchKey"),
        Some(version) => state
            .versions
            .lock()
            .unwrap()
            .get(&(key, version))
            .cloned()
            .ok_or("NoSuchVersion"),
    }
}

fn partial_content() -> hyper::http::response::Builder {
    let response = Response::builder().status(StatusCode::PARTIAL_CONTENT);
    response.header("last-modified", LAST_MODIFIED)
}

/// Splits a body into frames as the fault requires.
fn frames(bytes: Bytes, fault: Option<&Fault>) -> Vec<io::Result<Frame<Bytes>>> {
    match fault {
        Some(Fault::Cut(after)) => {
            vec![
                Ok(Frame::data(bytes.slice(..(*after).min(bytes.len() - 1)))),
                Err(io::ErrorKind::ConnectionReset.into()),
            ]
        }
        Some(Fault::Stall(after, _)) => {
            let mut first = bytes;
            let remaining = first.split_off((*after).min(first.len() - 1));
            vec![Ok(Frame::data(first)), Ok(Frame::data(remaining))]
        }
        Some(Fault::Drip(step)) => bytes
            .chunks(*step)
            .map(|drop| Ok(Frame::data(bytes.slice_ref(drop))))
            .collect(),
        Some(Fault::Overrun) => {
            let more = Bytes::from(vec![b'x'; 1 << 20]);
            let more = (0..64).map(|_| Ok(Frame::data(more.clone())));
            std::iter::once(Ok(Frame::data(bytes)))
                .chain(more)
                .collect()
        }
        _ => vec![Ok(Frame::data(bytes))],
    }
}

fn rejection(status: u16, code: &str) -> io::Result<Response<AnyBody>> {
    with_body(
        status,
        format!("<Error><Code>{code}</Code><Message>rejected by the test</Message></Error>"),
    )
}

fn with_body(status: u16, body: String) -> io::Result<Response<AnyBody>> {
    Response::builder()
        .status(status)
        .body(
            http_body_util::Full::from(body)
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
        .map_err(io::Error::other)
}

fn status_only(status: u16) -> io::Result<Response<AnyBody>> {
    Response::builder()
        .status(status)
        .body(Empty::new().map_err(|never| match never {}).boxed_unsync())
        .map_err(io::Error::other)
}

//! A fake S3 that misbehaves: GET of objects by range, under `If-Match`, from memory. Requests are neither signed nor checked.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edgetap::local_bridge::serve;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

type AnyBody = UnsyncBoxBody<Bytes, io::Error>;

/// What goes wrong with one GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status.
    Status(u16),
    /// This status, with a code in words.
    Rejection(u16, &'static str),
    /// The connection is closed without an answer.
    HangUp,
    /// The connection breaks after so many of the bytes promised.
    Cut(usize),
    /// The answer's `Content-Range` is missing.
    NoRange,
    /// After so many of the bytes promised nothing comes for so long.
    Stall(usize, Duration),
    /// The bytes come so many at a time, a millisecond each.
    Drip(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Get {
    pub key: String,
    pub range: String,
    pub if_match: Option<String>,
}

#[derive(Default)]
struct State {
    /// With their entity tags.
    objects: Mutex<BTreeMap<String, (Bytes, String)>>,
    /// By the number of the GET, from 0.
    faults: Mutex<BTreeMap<usize, Fault>>,
    gets: Mutex<Vec<Get>>,
    /// What goes wrong with whichever GET, where nothing was said of its number.
    react: Mutex<Option<React>>,
}

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
        let state = Arc::new(State::default());
        let shared = state.clone();
        let server = serve(listener, None, move |request| {
            let response = response(&shared, &request);
            async move { response }
        });
        Self {
            address,
            state,
            server,
        }
    }

    /// Puts an object into the one bucket there is.
    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let etag = format!("\"{}\"", hex::encode(Sha256::digest(&bytes)));
        self.state
            .objects
            .lock()
            .unwrap()
            .insert(key.to_owned(), (bytes, etag));
    }

    /// An object whose entity tag is never told.
    pub(crate) fn put_untagged(&self, key: &str, bytes: impl Into<Bytes>) {
        self.state
            .objects
            .lock()
            .unwrap()
            .insert(key.to_owned(), (bytes.into(), String::new()));
    }

    pub(crate) fn remove(&self, key: &str) {
        self.state.objects.lock().unwrap().remove(key);
    }

    /// Makes the GET of that number, counted from 0, go wrong.
    pub(crate) fn fail(&self, get: usize, fault: Fault) {
        self.state.faults.lock().unwrap().insert(get, fault);
    }

    pub(crate) fn react(&self, react: impl Fn() -> Option<Fault> + Send + 'static) {
        *self.state.react.lock().unwrap() = Some(Box::new(react));
    }

    pub(crate) fn gets(&self) -> Vec<Get> {
        self.state.gets.lock().unwrap().clone()
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
    let (range, if_match) = (header("range").unwrap_or_default(), header("if-match"));
    let number = {
        let mut gets = state.gets.lock().unwrap();
        gets.push(Get {
            key: key.clone(),
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
        Some(Fault::Rejection(status, code)) => {
            let body = http_body_util::Full::from(format!(
                "<Error><Code>{code}</Code><Message>no</Message></Error>"
            ));
            return Response::builder()
                .status(status)
                .body(body.map_err(|never| match never {}).boxed_unsync())
                .map_err(io::Error::other);
        }
        Some(Fault::HangUp) => return Err(io::Error::other("told to hang up")),
        _ => {}
    }
    let Some((object, etag)) = state.objects.lock().unwrap().get(&key).cloned() else {
        return status_only(404);
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
    let mut response = Response::builder()
        .status(StatusCode::PARTIAL_CONTENT)
        .header("content-length", bytes.len());
    if !etag.is_empty() {
        response = response.header("etag", etag);
    }
    if fault != Some(Fault::NoRange) {
        response = response.header(
            "content-range",
            format!("bytes {first}-{last}/{}", object.len()),
        );
    }
    let frames: Vec<io::Result<Frame<Bytes>>> = match fault {
        Some(Fault::Cut(after)) => {
            vec![
                Ok(Frame::data(bytes.slice(..after.min(bytes.len() - 1)))),
                Err(io::ErrorKind::ConnectionReset.into()),
            ]
        }
        Some(Fault::Stall(after, _)) => {
            let mut first = bytes;
            let rest = first.split_off(after.min(first.len() - 1));
            vec![Ok(Frame::data(first)), Ok(Frame::data(rest))]
        }
        Some(Fault::Drip(step)) => bytes
            .chunks(step)
            .map(|drop| Ok(Frame::data(bytes.slice_ref(drop))))
            .collect(),
        _ => vec![Ok(Frame::data(bytes))],
    };
    let stall = if let Some(Fault::Stall(_, time)) = fault {
        time
    } else {
        Duration::ZERO
    };
    // Frames that come one by one, so that those before a break are sent.
    let frames =
        stream::iter(frames.into_iter().enumerate()).then(move |(index, frame)| async move {
            let pause = if index > 0 { stall } else { Duration::ZERO };
            tokio::time::sleep(pause + Duration::from_millis(1)).await;
            frame
        });
    response
        .body(BodyExt::boxed_unsync(StreamBody::new(frames)))
        .map_err(io::Error::other)
}

fn status_only(status: u16) -> io::Result<Response<AnyBody>> {
    Response::builder()
        .status(status)
        .body(Empty::new().map_err(|never| match never {}).boxed_unsync())
        .map_err(io::Error::other)
}

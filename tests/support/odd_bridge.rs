//! A bridge that accepts every body unseen, with a response whose own body misbehaves.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use edgetap::bridge::{Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::local_bridge::{EDGE_PATH, TOKEN_PATH, serve};
use edgetap::token::{AuthMethod, TokenParameters};
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::BACKOFF;

/// The body of each response.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tail {
    Empty,
    /// A byte every ten milliseconds, without an end.
    Drip,
    /// No byte, and no end.
    Silence,
    /// As many bytes as the connection takes, without an end.
    Flood,
    /// The connection breaks after the headers.
    Break,
}

const MAX_BODIES: usize = 1000;

struct State {
    tail: Tail,
    keys: Mutex<Vec<String>>,
    /// A permit less for each response whose body is still sent.
    bodies: Arc<Semaphore>,
}

pub(crate) struct OddBridge {
    address: SocketAddr,
    state: Arc<State>,
    server: AbortHandle,
}

type Frames = Pin<Box<dyn Stream<Item = io::Result<Frame<Bytes>>> + Send>>;

impl OddBridge {
    pub(crate) async fn start(tail: Tail) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            tail,
            keys: Mutex::default(),
            bodies: Arc::new(Semaphore::new(MAX_BODIES)),
        });
        let shared = state.clone();
        let server = serve(listener, None, move |request| {
            respond(shared.clone(), request)
        });
        Self {
            address,
            state,
            server,
        }
    }

    /// A client that sends one request at a time.
    pub(crate) fn client(&self) -> Bridge {
        let url = |path| format!("http://{}{path}", self.address).parse().unwrap();
        let endpoints = Endpoints {
            edge: url(EDGE_PATH),
            token: url(TOKEN_PATH),
            method: AuthMethod::Post,
            parameters: TokenParameters::default(),
            bridge_ca: None,
        };
        let credentials = Credentials::new("tap", "secret");
        let source = CredentialsSource::Variables(credentials);
        Bridge::new(endpoints, source, BACKOFF, 1).unwrap()
    }

    /// The idempotency keys of all requests, in order of arrival.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state.keys.lock().unwrap().clone()
    }

    /// Waits until no body of a response is being sent anymore.
    pub(crate) async fn is_quiet(&self) {
        let all = u32::try_from(MAX_BODIES).unwrap();
        _ = self.state.bodies.acquire_many(all).await.unwrap();
    }
}

impl Drop for OddBridge {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn respond(
    state: Arc<State>,
    request: Request<Incoming>,
) -> io::Result<Response<StreamBody<Frames>>> {
    let key = request.headers().get("idempotency-key").cloned();
    let is_token = request.uri().path() == TOKEN_PATH;
    request
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?;
    let frames: Frames = if is_token {
        let token = json!({"access_token": "t", "token_type": "Bearer", "expires_in": 3600});
        let token = Frame::data(Bytes::from(token.to_string()));
        Box::pin(stream::once(async { Ok(token) }))
    } else {
        let key = key.and_then(|key| key.to_str().ok().map(str::to_owned));
        state.keys.lock().unwrap().push(key.unwrap_or_default());
        tail(&state)
    };
    let response = Response::builder().header("content-type", "application/json");
    response
        .body(StreamBody::new(frames))
        .map_err(io::Error::other)
}

/// The frames of a body. It counts as sent until they are dropped.
fn tail(state: &State) -> Frames {
    let tail = state.tail;
    let frames = stream::unfold(0_u32, move |number| async move {
        let bytes = match tail {
            Tail::Empty => return None,
            Tail::Silence => std::future::pending().await,
            Tail::Flood => Bytes::from_static(&[b'x'; 1 << 14]),
            Tail::Drip | Tail::Break => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Bytes::from_static(b" ")
            }
        };
        let frame = match (tail, number) {
            (Tail::Break, 1..) => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Ok(Frame::data(bytes)),
        };
        Some((frame, number + 1))
    });
    let sending = state.bodies.clone().try_acquire_owned().unwrap();
    Box::pin(frames.inspect(move |_| _ = &sending))
}

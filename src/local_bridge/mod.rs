//! *Local bridge*: an OAuth token endpoint and `/api-transactions`, served in process on a
//! loopback address.
//!
//! `edgetap demo`, `edgetap bridge` and the tests share it. It checks each request against the wire
//! format with a decoder of its own, and it can be told to misbehave.

mod decode;

pub use decode::{
    BodyPart, Connection, FilterInfo, MetaData, RequestPart, ResponsePart, SourceInfo, Transaction,
    decode,
};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Path of the token endpoint.
pub const TOKEN_PATH: &str = "/auth/realms/cequence/protocol/openid-connect/token";
/// Path of the endpoint that receives transactions.
pub const EDGE_PATH: &str = "/api-transactions";

const MAX_BODY: usize = 10_000_000;

/// The endpoint of the local bridge that a request addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    Token,
    Edge,
}

/// A request, before the bridge responds to it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub endpoint: Endpoint,
    /// Number of the request at this endpoint, counted from 1.
    pub number: u64,
    pub body: &'a [u8],
}

/// The bridge's reaction to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    Normal,
    /// It returns this response and does nothing else.
    Respond {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// It waits first, then processes the request normally.
    After(Duration),
    /// It closes the connection without a response and ignores the request.
    HangUp,
    /// It processes the request normally, and responds with this status.
    NormalAs(StatusCode),
    /// It processes the request normally, then closes the connection without a response.
    NormalThenHangUp,
}

impl Reaction {
    /// Returns a response with this status, no headers and an empty body.
    pub fn status(status: u16) -> Self {
        Self::Respond {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// Returns a response with this status, content type and body.
    pub fn respond(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        Self::Respond {
            status,
            headers: vec![("content-type", content_type.to_owned())],
            body: body.into(),
        }
    }
}

/// Chooses the reaction to a request.
pub type React = Arc<dyn Fn(Arrival<'_>) -> Reaction + Send + Sync>;
/// Decides whether a bearer token is valid, for tokens that another server issued.
pub type Authorize =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;
/// Receives every accepted batch.
pub type Watch = Arc<dyn Fn(&Received) + Send + Sync>;

/// How the bridge behaves.
#[derive(Clone)]
pub struct Options {
    /// ID of the only client that the bridge knows.
    pub client_id: String,
    pub client_secret: String,
    pub token_lifetime: Duration,
    /// Delay of every response of the edge endpoint.
    pub delay: Duration,
    pub react: React,
    /// Replaces the bridge's own check of bearer tokens.
    pub authorize: Option<Authorize>,
    /// Receives the accepted batches. `None` keeps them for [`LocalBridge::received`].
    pub watch: Option<Watch>,
    /// TLS configuration; `None` serves plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "demo".to_owned(),
            client_secret: random(),
            token_lifetime: Duration::from_mins(30),
            delay: Duration::ZERO,
            react: Arc::new(|_| Reaction::Normal),
            authorize: None,
            watch: None,
            tls: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

/// A batch that the bridge accepted.
#[derive(Clone, Debug)]
pub struct Received {
    pub key: String,
    /// The request body, byte for byte.
    pub body: Bytes,
    pub transactions: Vec<Transaction>,
    /// Whether a batch with this key was accepted before.
    pub repeated: bool,
}

/// Counts since the bridge started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tokens issued.
    pub tokens: u64,
    /// Requests to the edge endpoint, whatever the response.
    pub requests: u64,
    /// Accepted transactions, including those of repeated batches.
    pub transactions: u64,
    /// Batches whose key was accepted before.
    pub repeated: u64,
    /// Requests to the edge endpoint that violated the wire format.
    pub invalid: u64,
}

/// A bridge that runs until it is dropped.
#[derive(Debug)]
pub struct LocalBridge {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    server: AbortHandle,
}

struct State {
    options: Options,
    tokens: Mutex<BTreeMap<String, Instant>>,
    keys: Mutex<BTreeSet<String>>,
    received: Mutex<Vec<Received>>,
    tally: Mutex<Tally>,
    numbers: [AtomicU64; 2],
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("options", &self.options)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

impl LocalBridge {
    /// Starts a bridge on a loopback address; port 0 selects a free port.
    ///
    /// # Errors
    /// If the address is not a loopback address, or if it is in use.
    pub async fn start(address: SocketAddr, options: Options) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the local bridge must listen on a loopback address (127.0.0.1 or [::1])",
            ));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let tls = options.tls.clone();
        let state = Arc::new(State {
            options,
            tokens: Mutex::default(),
            keys: Mutex::default(),
            received: Mutex::default(),
            tally: Mutex::default(),
            numbers: Default::default(),
        });
        let (scheme, shared) = (if tls.is_some() { "https" } else { "http" }, state.clone());
        let server = serve(listener, tls, move |request| {
            respond(shared.clone(), request)
        });
        Ok(Self {
            address,
            scheme,
            state,
            server,
        })
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of its token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}://{}{TOKEN_PATH}", self.scheme, self.address)
    }

    /// Returns the URL of the endpoint that receives transactions.
    pub fn edge_url(&self) -> String {
        format!("{}://{}{EDGE_PATH}", self.scheme, self.address)
    }

    /// Returns the accepted batches, oldest first; empty if [`Options::watch`] receives them.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// Returns the counts so far.
    pub fn tally(&self) -> Tally {
        *lock(&self.state.tally)
    }

    /// Revokes every token issued so far.
    pub fn revoke_tokens(&self) {
        lock(&self.state.tokens).clear();
    }
}

impl Drop for LocalBridge {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves HTTP/1 and HTTP/2 until aborted. If the handler fails, the connection is closed without a
/// response.
pub fn serve<F, R, B>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: F,
) -> AbortHandle
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = io::Result<Response<B>>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let tls = tls.map(TlsAcceptor::from);
    let accept = async move {
        // Dropping this set with the task closes all connections.
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (tls, handler) = (tls.clone(), handler.clone());
            connections.spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let served = match tls {
                    None => {
                        http.serve_connection(TokioIo::new(stream), service_fn(handler))
                            .await
                    }
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => {
                            http.serve_connection(TokioIo::new(stream), service_fn(handler))
                                .await
                        }
                        Err(error) => Err(error.into()),
                    },
                };
                if let Err(error) = served {
                    tracing::debug!(%error, "connection closed with an error");
                }
            });
        }
    };
    tokio::spawn(accept).abort_handle()
}

async fn respond(
    state: Arc<State>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let endpoint = match (request.method(), request.uri().path()) {
        (&Method::POST, TOKEN_PATH) => Endpoint::Token,
        (&Method::POST, EDGE_PATH) => Endpoint::Edge,
        (_, TOKEN_PATH | EDGE_PATH) => {
            return Ok(plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "the method must be POST",
            ));
        }
        _ => return Ok(plain(StatusCode::NOT_FOUND, "unknown path")),
    };
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return Ok(plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 10,000,000 bytes",
        ));
    };
    let body = body.to_bytes();
    let number = state.numbers[endpoint as usize].fetch_add(1, Ordering::Relaxed) + 1;
    if endpoint == Endpoint::Edge {
        lock(&state.tally).requests += 1;
    }
    let reaction = (state.options.react)(Arrival {
        endpoint,
        number,
        body: &body,
    });
    match (&reaction, endpoint) {
        (Reaction::After(delay), _) => tokio::time::sleep(*delay).await,
        (_, Endpoint::Edge) => tokio::time::sleep(state.options.delay).await,
        (_, Endpoint::Token) => {}
    }
    if let Reaction::Respond {
        status,
        headers,
        body,
    } = reaction
    {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        return response.body(Full::from(body)).map_err(io::Error::other);
    }
    if reaction == Reaction::HangUp {
        return Err(io::Error::other("closed the connection as configured"));
    }
    let mut response = match endpoint {
        Endpoint::Token => issue_token(&state, &parts.headers, &body),
        Endpoint::Edge => accept(&state, &parts.headers, body).await,
    };
    if let Reaction::NormalAs(status) = reaction
        && response.status().is_success()
    {
        *response.status_mut() = status;
    }
    if reaction == Reaction::NormalThenHangUp {
        Err(io::Error::other("closed the connection as configured"))
    } else {
        Ok(response)
    }
}

/// Issues a token (RFC 6749, section 4.4.2). Accepts both ways of client authentication (section
/// 2.3.1).
fn issue_token(state: &State, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
    let form: BTreeMap<_, _> = url::form_urlencoded::parse(body).into_owned().collect();
    let field = |name: &str| form.get(name).cloned();
    let (id, secret) =
        basic_credentials(headers).unwrap_or((field("client_id"), field("client_secret")));
    let Options {
        client_id,
        client_secret,
        token_lifetime,
        ..
    } = &state.options;
    if id.as_ref() != Some(client_id) || secret.as_ref() != Some(client_secret) {
        return json_response(
            StatusCode::UNAUTHORIZED,
            &json!({ "error": "invalid_client" }),
        );
    }
    if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
        return json_response(
            StatusCode::BAD_REQUEST,
            &json!({ "error": "unsupported_grant_type" }),
        );
    }
    let token = random();
    lock(&state.tokens).insert(token.clone(), Instant::now() + *token_lifetime);
    lock(&state.tally).tokens += 1;
    json_response(
        StatusCode::OK,
        &json!({ "access_token": token, "token_type": "Bearer", "expires_in": token_lifetime.as_secs() }),
    )
}

/// Returns ID and secret of HTTP Basic authentication. RFC 6749 requires that both are
/// form-encoded.
fn basic_credentials(headers: &HeaderMap) -> Option<(Option<String>, Option<String>)> {
    let encoded = headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let decode = |text: &str| {
        url::form_urlencoded::parse(format!("v={text}").as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    Some((decode(id), decode(secret)))
}

async fn accept(state: &State, headers: &HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let bearer =
        text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
    let authorized = match (bearer, &state.options.authorize) {
        (None, _) => false,
        (Some(bearer), Some(authorize)) => authorize(bearer).await,
        (Some(bearer), None) => lock(&state.tokens)
            .get(&bearer)
            .is_some_and(|expiry| Instant::now() < *expiry),
    };
    if !authorized {
        return plain(
            StatusCode::UNAUTHORIZED,
            "the bearer token is missing, unknown or expired",
        );
    }
    let checked = if text(CONTENT_TYPE).as_deref() == Some("application/json") {
        decode(&body)
    } else {
        Err("Content-Type must be application/json".to_owned())
    };
    let key = headers
        .get("Idempotency-Key")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let (transactions, key) = match (checked, key) {
        (Ok(transactions), Some(key)) => (transactions, key),
        (checked, _) => {
            lock(&state.tally).invalid += 1;
            let problem = checked
                .err()
                .unwrap_or_else(|| "the Idempotency-Key header is missing".to_owned());
            tracing::warn!(problem, "request violates the wire format");
            return plain(StatusCode::BAD_REQUEST, &problem);
        }
    };
    let repeated = !lock(&state.keys).insert(key.clone());
    {
        let mut tally = lock(&state.tally);
        tally.transactions += transactions.len() as u64;
        tally.repeated += u64::from(repeated);
    }
    let received = Received {
        key,
        body,
        transactions,
        repeated,
    };
    match &state.options.watch {
        Some(watch) => watch(&received),
        None => lock(&state.received).push(received),
    }
    json_response(StatusCode::OK, &json!({ "status": "accepted" }))
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain", text.to_owned())
}

fn json_response(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    response(status, "application/json", value.to_string())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    response
}

fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! *Bridge*: a batch → accepted, or why not.
//!
//! | answer | what follows |
//! |---|---|
//! | 2xx, not HTML | accepted |
//! | 401 | a new token, once; then misconfiguration |
//! | 413 | the batch is split in halves, down to one transaction, which is then refused |
//! | 400, 422 | once the bridge has accepted a batch in this invocation: bisected, at most [`MAX_ISOLATED`] transactions an object; else misconfiguration |
//! | 408, 429, 500, 502, 503, 504, no answer | tried again: exponential back-off with full jitter, `Retry-After`; 429 and 503 hold back all posts of the process |
//! | 2xx with HTML, 3xx, every other status | misconfiguration: nothing is tried again |

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use url::{Host, Url};

use crate::batch::Batch;
use crate::credentials::CredentialsSource;
use crate::filter::is_html;
use crate::job::ObjectRef;
use crate::pipeline::{Rejection, Rules};
use crate::retry::{Backoff, retry_after};
use crate::time::{Deadline, Moment};
use crate::tls::{ServerTrust, TlsError};
use crate::token::{AuthMethod, TokenError, TokenSource, in_words};

/// Refused transactions of one object that are isolated by bisecting; more of them mean that something else is wrong.
pub const MAX_ISOLATED: usize = 10;

/// In an invocation so long is waited for a batch to be accepted: a message that rests costs less than a function that waits.
const PATIENCE: Duration = Duration::from_mins(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const POST_TIMEOUT: Duration = Duration::from_secs(30);
/// A frozen process finds its pooled connections dead when it thaws; few live long enough to be met then.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// A wait that an operator at a terminal should know of.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// Of an answer's body so much is read, only to keep the connection.
const MAX_RESPONSE: usize = 64 << 10;

/// Where transactions go and how to be let in.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub edge: Url,
    pub token: Url,
    /// How the client authenticates there.
    pub method: AuthMethod,
    /// The operator's certificates for the bridge's host, PEM.
    pub bridge_ca: Option<String>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// The bridge has it but for these transactions.
    Refused(Vec<Rejection>),
    Later {
        why: String,
        /// How long the bridge asks to wait.
        after: Option<Duration>,
    },
    /// Not before somebody changes something.
    Misconfigured(String),
}

/// The client of a bridge: one for the process.
#[derive(Debug)]
pub struct Bridge {
    http: reqwest::Client,
    endpoint: Url,
    tokens: TokenSource,
    backoff: Backoff,
    gate: Gate,
}

/// One invocation's deliveries.
#[derive(Debug)]
pub struct Session<'a> {
    bridge: &'a Bridge,
    deadline: Deadline,
    accepted: AtomicBool,
    meter: Mutex<Meter>,
}

/// What deliveries took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Posts that were tried again.
    pub retries: u64,
    /// From a post to its answer, each post that had one, in milliseconds.
    pub latencies: Vec<u64>,
}

/// What one request came to.
enum Meaning {
    Accepted,
    Unauthorized,
    TooLarge,
    Unprocessable(StatusCode),
    MayPass {
        why: String,
        after: Option<Duration>,
        holds_all: bool,
    },
    Misconfigured(String),
}

impl Bridge {
    /// A bridge's client. Nothing is asked of the network yet.
    ///
    /// # Errors
    /// When the operator's certificates are none.
    pub fn new(
        endpoints: Endpoints,
        secret: CredentialsSource,
        backoff: Backoff,
    ) -> Result<Self, TlsError> {
        let Endpoints {
            edge,
            token,
            method,
            bridge_ca,
        } = endpoints;
        let tls = ServerTrust::new(edge.host_str().unwrap_or_default())?;
        if let Some(pem) = bridge_ca {
            tls.set_own(&pem)?;
        }
        let http = http_client(&tls, is_loopback(&edge))?;
        let token_http = if is_loopback(&edge) == is_loopback(&token) {
            http.clone()
        } else {
            http_client(&tls, is_loopback(&token))?
        };
        let tokens = TokenSource::new(token_http, token, method, secret, tls, backoff);
        Ok(Self {
            http,
            endpoint: edge,
            tokens,
            backoff,
            gate: Gate::default(),
        })
    }

    /// Begins an invocation's deliveries.
    pub fn session(&self, deadline: Deadline) -> Session<'_> {
        Session {
            bridge: self,
            deadline,
            accepted: AtomicBool::new(false),
            meter: Mutex::default(),
        }
    }

    /// Whose certificates are believed.
    pub fn tls(&self) -> &Arc<ServerTrust> {
        self.tokens.tls()
    }

    /// The process's source of tokens.
    pub fn tokens(&self) -> &TokenSource {
        &self.tokens
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one client")]
fn http_client(tls: &Arc<ServerTrust>, local: bool) -> Result<reqwest::Client, TlsError> {
    let tls = tls.client_config(&[b"h2", b"http/1.1"])?;
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("edgetap/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        // A redirected POST would become a GET.
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls);
    if local {
        // Plain HTTP is allowed to this machine only, and must not leave it by a proxy.
        builder = builder.no_proxy();
    }
    builder.build().map_err(|_| TlsError::Tls)
}

/// Whether a URL's host is this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

impl Session<'_> {
    /// By when this invocation must be over.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// What deliveries took since this was asked last.
    pub fn take_meter(&self) -> Meter {
        std::mem::take(&mut *self.meter())
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules, with the secret's key where they want it. For after [`warm_up`](Self::warm_up).
    ///
    /// # Errors
    /// In words, when the secret has no key.
    pub fn keyed(&self, rules: &Arc<Rules>) -> Result<Arc<Rules>, String> {
        const MISSING: &str = "the secret has no redaction_key, which REDACT_COOKIES=hash needs: scripts/setup-tfvars.sh makes one";
        rules
            .keyed(self.bridge.tokens.redaction_key())
            .ok_or_else(|| MISSING.to_owned())
    }

    /// Fetches the token while something else is waited for.
    ///
    /// # Errors
    /// As [`TokenSource::token`].
    pub async fn warm_up(&self) -> Result<(), TokenError> {
        self.bridge
            .tokens
            .token(self.deadline.within(PATIENCE))
            .await
            .map(|_| ())
    }

    /// Delivers a batch of an object, in parts where it must be. `isolated` counts the object's refused transactions.
    pub async fn deliver(
        &self,
        object: &ObjectRef,
        batch: &Batch,
        isolated: &AtomicUsize,
    ) -> Verdict {
        let mut rejected = Vec::new();
        let mut parts = VecDeque::from([batch.clone()]);
        while let Some(part) = parts.pop_front() {
            let response = self.post_until_settled(object, &part).await;
            let status = match response {
                Meaning::Accepted => continue,
                Meaning::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                Meaning::Unprocessable(status) if self.accepted.load(Ordering::Relaxed) => status,
                Meaning::Unprocessable(status) => {
                    return self.misconfigured(
                        status,
                        "it refuses what it is sent and has accepted nothing yet",
                    );
                }
                Meaning::Unauthorized => {
                    return self.misconfigured(
                        StatusCode::UNAUTHORIZED,
                        "it does not accept a fresh token",
                    );
                }
                Meaning::MayPass { why, after, .. } => return Verdict::Later { why, after },
                Meaning::Misconfigured(why) => return Verdict::Misconfigured(why),
            };
            if let Some([first, second]) = part.halves() {
                parts.push_front(second);
                parts.push_front(first);
                continue;
            }
            // A bridge that has accepted something may have its reasons to find transactions too large, however many.
            let bounded =
                status != StatusCode::PAYLOAD_TOO_LARGE || !self.accepted.load(Ordering::Relaxed);
            if bounded && isolated.fetch_add(1, Ordering::Relaxed) >= MAX_ISOLATED {
                return self.misconfigured(
                    status,
                    "it refuses more transactions than can be an accident",
                );
            }
            rejected.extend(part.marks.iter().map(|mark| Rejection {
                row: mark.row,
                status: status.as_u16(),
            }));
        }
        if rejected.is_empty() {
            Verdict::Accepted
        } else {
            Verdict::Refused(rejected)
        }
    }

    fn misconfigured(&self, status: StatusCode, why: &str) -> Verdict {
        Verdict::Misconfigured(format!(
            "{} answers {status}: {why}; {}",
            self.bridge.endpoint,
            advice(status)
        ))
    }

    /// Posts until the answer says something else than "try again", or there are no attempts or no time left.
    async fn post_until_settled(&self, object: &ObjectRef, batch: &Batch) -> Meaning {
        let bridge = self.bridge;
        let key = idempotency_key(object, batch);
        let patience = self.deadline.within(PATIENCE);
        let (mut failed, mut renewed, mut reconnected) = (0, false, false);
        loop {
            if !bridge.gate.wait(patience).await {
                return Meaning::MayPass {
                    why: "the bridge asks to wait for longer than an invocation does".to_owned(),
                    after: None,
                    holds_all: false,
                };
            }
            let token = match bridge.tokens.token(patience).await {
                Ok(token) => token,
                Err(TokenError::Later { reason, after }) => {
                    return Meaning::MayPass {
                        why: reason,
                        after,
                        holds_all: false,
                    };
                }
                Err(error @ TokenError::Misconfigured(_)) => {
                    return Meaning::Misconfigured(error.to_string());
                }
            };
            let started = Instant::now();
            let sent = self
                .post(&token.authorization(), &key, batch.body.clone())
                .await;
            if sent.is_ok() {
                self.meter()
                    .latencies
                    .push(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
            }
            let response = match sent {
                Ok(response) => self.classify(response).await,
                // A pooled connection that died while the process was frozen shows so: once, that costs no attempt.
                Err(error) if !reconnected && is_hang_up(&error) => {
                    reconnected = true;
                    self.meter().retries += 1;
                    continue;
                }
                Err(error) => Meaning::MayPass {
                    why: format!("{}: {}", bridge.endpoint, in_words(&error)),
                    after: None,
                    holds_all: false,
                },
            };
            match response {
                Meaning::Accepted => self.accepted.store(true, Ordering::Relaxed),
                Meaning::Unauthorized if !renewed => {
                    renewed = true;
                    bridge.tokens.discard(&token).await;
                    continue;
                }
                Meaning::MayPass {
                    ref why,
                    after,
                    holds_all,
                } => {
                    failed += 1;
                    let wait = bridge
                        .backoff
                        .wait(failed)
                        .map(|wait| wait.max(after.unwrap_or_default()));
                    if holds_all {
                        bridge.gate.hold(wait.or(after).unwrap_or_default());
                    }
                    let Some(wait) = wait else { return response };
                    if wait > LONG_WAIT && wait < patience.time_left() {
                        tracing::warn!(
                            seconds = wait.as_secs(),
                            "waiting as the bridge asks: {why}"
                        );
                    }
                    tracing::debug!(
                        failed,
                        wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                        "posting again: {why}"
                    );
                    self.meter().retries += 1;
                    if !holds_all && !patience.sleep(wait).await {
                        return response;
                    }
                    continue;
                }
                _ => {}
            }
            return response;
        }
    }

    async fn post(
        &self,
        authorization: &str,
        key: &str,
        body: Bytes,
    ) -> Result<Response, reqwest::Error> {
        let mut request = self
            .bridge
            .http
            .post(self.bridge.endpoint.clone())
            .timeout(POST_TIMEOUT.min(self.deadline.time_left()))
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key)
            .body(body);
        // A token that is no field value is refused by the bridge as missing, without being shown.
        if let Ok(mut value) = HeaderValue::from_str(authorization) {
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.send().await
    }

    async fn classify(&self, response: Response) -> Meaning {
        let (status, endpoint) = (response.status(), &self.bridge.endpoint);
        let html = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| is_html(value.as_bytes()));
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(retry_after);
        if let Err(error) = drain(response).await
            && !status.is_success()
        {
            tracing::debug!("the answer's body could not be read: {}", in_words(&error));
        }
        match status.as_u16() {
            200..=299 if html => Meaning::Misconfigured(format!(
                "{endpoint} answers {status} with a web page, not as a bridge: a login page or a proxy stands there; check BRIDGE_EDGE_ENDPOINT"
            )),
            200..=299 => Meaning::Accepted,
            401 => Meaning::Unauthorized,
            413 => Meaning::TooLarge,
            400 | 422 => Meaning::Unprocessable(status),
            408 | 429 | 500 | 502 | 503 | 504 => Meaning::MayPass {
                why: format!("{endpoint} answers {status}"),
                after,
                holds_all: matches!(status.as_u16(), 429 | 503),
            },
            _ => Meaning::Misconfigured(format!("{endpoint} answers {status}; {}", advice(status))),
        }
    }
}

/// Reads an answer's body to its end, so that the connection can be used again. Its content is not looked at.
async fn drain(mut response: Response) -> Result<(), reqwest::Error> {
    let mut read = 0;
    while let Some(chunk) = response.chunk().await? {
        read += chunk.len();
        if read > MAX_RESPONSE {
            break;
        }
    }
    Ok(())
}

/// What an operator should look at.
fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "a redirect is never followed: set BRIDGE_EDGE_ENDPOINT to where it points",
        400 | 422 => {
            "check that BRIDGE_EDGE_ENDPOINT takes API transactions, and the bridge's own log"
        }
        401 => "check that BRIDGE_AUTH_ENDPOINT and BRIDGE_EDGE_ENDPOINT belong to the same tenant",
        403 => "check what the OAuth client is permitted to do, and any firewall before the bridge",
        404 | 405 => "check the path of BRIDGE_EDGE_ENDPOINT",
        _ => "check BRIDGE_EDGE_ENDPOINT and the bridge's own log",
    }
}

/// The same rows of the same version of an object have the same key, whoever sends them and how often.
/// What has no entity tag, a local log, is told by the batch's own content.
fn idempotency_key(object: &ObjectRef, batch: &Batch) -> String {
    let version = object
        .etag
        .clone()
        .unwrap_or_else(|| hex::encode(Sha256::digest(&batch.body)));
    let (first, last) = (batch.rows.start, batch.rows.end.saturating_sub(1));
    hex::encode(Sha256::digest(format!(
        "{}\0{}\0{version}\0{first}\0{last}",
        object.bucket, object.key
    )))
}

/// Whether the connection was closed before an answer came.
fn is_hang_up(error: &reqwest::Error) -> bool {
    use std::error::Error as _;
    if error.is_timeout() || error.is_connect() {
        return false;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(|error| {
            error.is_incomplete_message() || error.is_closed() || error.is_canceled()
        }) {
            return true;
        }
        let kind = error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        if matches!(
            kind,
            Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
        ) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Holds back all posts of the process while the bridge asks for it.
#[derive(Debug, Default)]
struct Gate(Mutex<Option<Moment>>);

impl Gate {
    fn hold(&self, time: Duration) {
        let until = Moment::after(time);
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *gate = Some(
            gate.filter(|held| held.time_left() > until.time_left())
                .unwrap_or(until),
        );
    }

    /// Waits until the gate is open; `false` when that is not in time.
    async fn wait(&self, deadline: Deadline) -> bool {
        loop {
            let held = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let time = held.map_or(Duration::ZERO, |until| until.time_left());
            if time.is_zero() {
                return !deadline.has_passed();
            }
            if !deadline.sleep(time).await {
                return false;
            }
        }
    }
}

//! *Bridge*: a batch → accepted, or the reason why not.
//!
//! | response | action |
//! |---|---|
//! | 2xx, not HTML | the batch is accepted |
//! | 401 | one retry with a new token; then misconfiguration |
//! | 413 | the batch is halved, down to one transaction, which is then rejected |
//! | 400, 422 | bisected if the bridge has accepted a batch in this invocation (at most `MAX_ISOLATED` rejected transactions per object); else misconfiguration |
//! | 408, 429, 500, 502, 503, 504, no response | retried with exponential backoff, full jitter and `Retry-After`; 429 and 503 hold back all requests of the process |
//! | 2xx with HTML, 3xx, any other status | misconfiguration, not retried |

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::batch::Batch;
use crate::credentials::CredentialsSource;
use crate::endpoint::EndpointUrl;
use crate::http::{self, asked_wait, in_words, is_hang_up, is_html, read_at_most};
use crate::job::ObjectRef;
use crate::pipeline::{Rejection, Rules};
use crate::retry::Backoff;
use crate::time::{Deadline, Moment};
use crate::tls::{ServerTrust, TlsError};
use crate::token::{AuthMethod, TokenError, TokenParameters, TokenSource};

/// Rejected transactions of one object that are isolated by bisecting. More of them indicate a
/// misconfiguration.
pub(crate) const MAX_ISOLATED: usize = 10;

/// How long one invocation keeps retrying a batch. After that, delaying the message is cheaper than
/// paying for a waiting function.
const PATIENCE: Duration = Duration::from_mins(1);

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Waits longer than this are logged as warnings.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a response body that are read (and ignored) so that the connection can be reused.
const MAX_RESPONSE: usize = 64 << 10;

/// The bridge's endpoints and the client's authentication.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub edge: EndpointUrl,
    pub token: EndpointUrl,
    /// How the client authenticates at the token endpoint.
    pub method: AuthMethod,
    /// Additional form parameters of the token request.
    pub parameters: TokenParameters,
    /// The operator's certificates, PEM.
    pub bridge_ca: Option<String>,
}

/// The result of delivering a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// The bridge accepted the batch except for these transactions.
    Rejected(Vec<Rejection>),
    Later {
        why: String,
        /// The bridge's `Retry-After`.
        after: Option<Duration>,
    },
    /// A retry cannot help before an operator changes something.
    Misconfigured(String),
}

/// The client of a bridge, one per process.
#[derive(Debug)]
pub struct Bridge {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoint: EndpointUrl,
    tokens: TokenSource,
    backoff: Backoff,
    gate: Gate,
}

/// The deliveries of one invocation.
#[derive(Debug)]
pub struct Session<'a> {
    bridge: &'a Bridge,
    deadline: Deadline,
    accepted: AtomicBool,
    meter: Mutex<Meter>,
}

/// Measurements of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meter {
    /// Retried requests.
    pub(crate) retries: u64,
    /// Milliseconds from each request to its response.
    pub(crate) latencies: Vec<u64>,
}

/// The meaning of one response.
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
    /// Creates a client, without any network access.
    ///
    /// # Errors
    /// [`TlsError`] if the operator's certificates are invalid.
    pub fn new(
        endpoints: Endpoints,
        secret: CredentialsSource,
        backoff: Backoff,
    ) -> Result<Self, TlsError> {
        let Endpoints {
            edge,
            token,
            method,
            parameters,
            bridge_ca,
        } = endpoints;
        let tls = ServerTrust::new(edge.host(), token.host())?;
        if let Some(pem) = bridge_ca {
            tls.set_operator_certificates(&pem)?;
        }
        let http = http::client(&tls, edge.is_loopback())?;
        let token_http = if edge.is_loopback() == token.is_loopback() {
            http.clone()
        } else {
            http::client(&tls, token.is_loopback())?
        };
        let tokens = TokenSource::new(token_http, token, method, parameters, secret, tls, backoff);
        Ok(Self {
            http,
            endpoint: edge,
            tokens,
            backoff,
            gate: Gate::default(),
        })
    }

    /// Starts the deliveries of an invocation.
    pub fn session(&self, deadline: Deadline) -> Session<'_> {
        Session {
            bridge: self,
            deadline,
            accepted: AtomicBool::new(false),
            meter: Mutex::default(),
        }
    }

    /// Returns the verifier of server certificates.
    pub fn tls(&self) -> &Arc<ServerTrust> {
        self.tokens.tls()
    }

    /// Returns the token source of the process.
    pub fn tokens(&self) -> &TokenSource {
        &self.tokens
    }
}

impl Session<'_> {
    /// Returns the deadline of the invocation.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Returns the measurements since the last call.
    pub(crate) fn take_meter(&self) -> Meter {
        std::mem::take(&mut *self.meter())
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the rules, with the secret's redaction key if they need it. Call
    /// [`warm_up`](Self::warm_up) first: it reads the secret.
    ///
    /// # Errors
    /// A message for the operator if the secret has no key.
    pub fn keyed(&self, rules: &Arc<Rules>) -> Result<Arc<Rules>, String> {
        const MISSING: &str = "the secret has no redaction_key, which REDACT_COOKIES=hash requires. scripts/setup-tfvars.sh generates one";
        rules
            .keyed(self.bridge.tokens.redaction_key())
            .ok_or_else(|| MISSING.to_owned())
    }

    /// Gets the token ahead of the first request.
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

    /// Delivers a batch of an object, split if needed. `isolated` counts the rejected transactions
    /// of the object.
    pub(crate) async fn deliver(
        &self,
        object: &ObjectRef,
        batch: &Batch,
        isolated: &AtomicUsize,
    ) -> Verdict {
        let mut rejected = Vec::new();
        let mut parts = VecDeque::from([batch.clone()]);
        while let Some(part) = parts.pop_front() {
            let status = match self.post_until_settled(object, &part).await {
                Meaning::Accepted => continue,
                Meaning::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                Meaning::Unprocessable(status) if self.accepted.load(Ordering::Relaxed) => status,
                Meaning::Unprocessable(status) => {
                    return self.misconfigured(
                        status,
                        "it rejected a batch and has accepted none in this invocation",
                    );
                }
                Meaning::Unauthorized => {
                    return self
                        .misconfigured(StatusCode::UNAUTHORIZED, "it rejects a fresh token");
                }
                Meaning::MayPass { why, after, .. } => return Verdict::Later { why, after },
                Meaning::Misconfigured(why) => return Verdict::Misconfigured(why),
            };
            if let Some([first, second]) = part.halves() {
                parts.push_front(second);
                parts.push_front(first);
                continue;
            }
            // A bridge that has accepted a batch may have a size limit that any number of
            // transactions exceed.
            let bounded =
                status != StatusCode::PAYLOAD_TOO_LARGE || !self.accepted.load(Ordering::Relaxed);
            if bounded && isolated.fetch_add(1, Ordering::Relaxed) >= MAX_ISOLATED {
                return self.misconfigured(
                    status,
                    &format!("it rejected more than {MAX_ISOLATED} transactions of one object"),
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
            Verdict::Rejected(rejected)
        }
    }

    fn misconfigured(&self, status: StatusCode, why: &str) -> Verdict {
        Verdict::Misconfigured(format!(
            "{} returned {status}: {why}. {}",
            self.bridge.endpoint,
            advice(status)
        ))
    }

    /// Sends a batch and retries until the outcome is final, or no attempt or no time is left.
    async fn post_until_settled(&self, object: &ObjectRef, batch: &Batch) -> Meaning {
        let bridge = self.bridge;
        let key = idempotency_key(object, batch);
        let patience = self.deadline.within(PATIENCE);
        let (mut failed, mut renewed, mut reconnected) = (0, false, false);
        loop {
            if !bridge.gate.wait(patience).await {
                return Meaning::MayPass {
                    why: "requests to the bridge are paused for longer than this batch can wait"
                        .to_owned(),
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
            let meaning = match sent {
                Ok(response) => self.classify(response).await,
                // A pooled connection may have died while the process was frozen. The first such
                // failure does not count as an attempt.
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
            match meaning {
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
                    let Some(wait) = wait else { return meaning };
                    if wait > LONG_WAIT && wait < patience.time_left() {
                        tracing::warn!(
                            seconds = wait.as_secs(),
                            reason = why,
                            "waiting before the next attempt"
                        );
                    }
                    tracing::debug!(
                        failed,
                        wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                        reason = why,
                        "retrying the request"
                    );
                    self.meter().retries += 1;
                    if !holds_all && !patience.sleep(wait).await {
                        return meaning;
                    }
                    continue;
                }
                _ => {}
            }
            return meaning;
        }
    }

    async fn post(
        &self,
        authorization: &str,
        key: &str,
        body: Bytes,
    ) -> Result<Response, reqwest::Error> {
        let Bridge { http, endpoint, .. } = self.bridge;
        http::post(http, endpoint, authorization, key, body)
            .timeout(REQUEST_TIMEOUT.min(self.deadline.time_left()))
            .send()
            .await
    }

    async fn classify(&self, response: Response) -> Meaning {
        let (status, endpoint) = (response.status(), &self.bridge.endpoint);
        let html = is_html(response.headers());
        let after = asked_wait(response.headers());
        if let Err(error) = read_at_most(response, MAX_RESPONSE).await
            && !status.is_success()
        {
            tracing::debug!(error = in_words(&error), "failed to read the response body");
        }
        match status.as_u16() {
            200..=299 if html => Meaning::Misconfigured(format!(
                "{endpoint} returned {status} with an HTML page: this is probably a login page or a proxy, not the bridge. Check BRIDGE_EDGE_ENDPOINT"
            )),
            200..=299 => Meaning::Accepted,
            401 => Meaning::Unauthorized,
            413 => Meaning::TooLarge,
            400 | 422 => Meaning::Unprocessable(status),
            408 | 429 | 500 | 502 | 503 | 504 => Meaning::MayPass {
                why: format!("{endpoint} returned {status}"),
                after,
                holds_all: matches!(status.as_u16(), 429 | 503),
            },
            _ => {
                Meaning::Misconfigured(format!("{endpoint} returned {status}. {}", advice(status)))
            }
        }
    }
}

/// Advice to the operator for a status.
pub(crate) fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => {
            "Redirects are not followed. Set BRIDGE_EDGE_ENDPOINT to the redirect's target"
        }
        400 | 422 => {
            "Check that BRIDGE_EDGE_ENDPOINT accepts API transactions, and check the bridge's log"
        }
        401 => "Check that BRIDGE_AUTH_ENDPOINT and BRIDGE_EDGE_ENDPOINT belong to the same tenant",
        403 => "Check the permissions of the OAuth client, and any firewall in front of the bridge",
        404 | 405 => "Check the path of BRIDGE_EDGE_ENDPOINT",
        _ => "Check BRIDGE_EDGE_ENDPOINT and the bridge's log",
    }
}

/// Returns the idempotency key of a batch. It depends only on the object's version and the rows, so
/// that every retry has the same key. Local logs have no `ETag`: a hash of the batch body takes its
/// place.
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

/// Pauses all requests of the process after a 429 or 503 of the bridge, for its `Retry-After` or
/// the backoff, whichever is longer.
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

    /// Waits until the gate is open. Returns `false` if the deadline comes first.
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

//! *Bridge*: a batch → accepted, rejected, or left to a later attempt, and why.
//!
//! [`crate::response`] decides what follows a response, and this module carries it out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::batch::Batch;
use crate::credentials::CredentialsSource;
use crate::endpoint::EndpointUrl;
use crate::http::{
    self, asked_wait, in_words, is_handshake_failure, is_hang_up, is_page, read_at_most,
};
use crate::job::ObjectRef;
use crate::response::{
    Answer, MAX_PROBES, Part, RefusedPart, Scope, Step, Terms, Tries, VOUCHED_PARTS, advice, part,
    step,
};
use crate::retry::Backoff;
use crate::time::{Deadline, Moment};
use crate::tls::{ServerTrust, TlsError};
use crate::token::{AuthMethod, Token, TokenError, TokenParameters, TokenSource};

/// How long one attempt keeps retrying a body. After that, delaying the message is cheaper than
/// paying for a waiting function.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long an accepted request remains a witness.
const WITNESS_LIFETIME: Duration = Duration::from_mins(1);

/// How long a request that is in flight at the deadline may still take.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of a part of a refused batch. A transaction that makes the bridge hang must not outlast
/// its witness.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer waits are logged as warnings.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a response body that are read (and ignored) so that the connection can be reused.
const MAX_RESPONSE: usize = 64 << 10;
/// How long a response body is read after the verdict, and how long its first piece is waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

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

/// One attempt at the rows of a job.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// No request is begun after it.
    pub deadline: Deadline,
    /// Its number, from 1. From the third on, more failures of the bridge count as refusals of a
    /// batch, which is then sent in parts.
    pub number: u32,
}

impl Attempt {
    /// The attempt of the command line. No later one follows, so failures count as in a late one.
    pub const ONLY: Self = Self {
        deadline: Deadline::NEVER,
        number: u32::MAX,
    };
}

/// Why rows were not accepted, and whether others can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub scope: Scope,
    /// Names the endpoint, the status and what to check.
    pub why: String,
    /// The wait that the bridge or the token endpoint asked for.
    pub after: Option<Duration>,
    /// Whether it lasts until the operator acts, as far as the answer tells.
    pub lasts: bool,
}

/// What became of a batch or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Accepted,
    /// The bridge refused its transactions, and has accepted others since. The status is `None` if
    /// it closed the connection or did not respond.
    Rejected(Option<u16>),
    /// It stays behind, for a later attempt. `None` if the reason is that no time is left.
    Behind(Option<Trouble>),
}

/// The client of a bridge, one per process.
#[derive(Debug)]
pub struct Bridge {
    pub(crate) http: reqwest::Client,
    pub(crate) endpoint: EndpointUrl,
    tokens: TokenSource,
    backoff: Backoff,
    gate: Gate,
    permits: Semaphore,
    concurrency: usize,
    /// The accepted request that was sent last.
    witness: Mutex<Option<Witness>>,
}

/// An accepted request.
#[derive(Clone, Copy, Debug)]
struct Witness {
    sent: Instant,
    expiry: Moment,
    /// Parts that were rejected because of it.
    vouched: u32,
}

/// The delivery of an object's batches in one attempt.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    bridge: &'a Bridge,
    object: &'a ObjectRef,
    /// A digest of what determines the bytes of a body in addition to its rows: the rules and the
    /// encoding.
    making: String,
    attempt: Attempt,
    /// Number of rejected parts of batches.
    isolated: AtomicUsize,
    meter: Mutex<Meter>,
}

/// Measurements of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meter {
    /// Requests that were sent again.
    pub(crate) retries: u64,
    /// Milliseconds from each request to its response.
    pub(crate) latencies: Vec<u64>,
}

/// How the requests for one body ended.
enum Ended {
    Accepted,
    /// The bridge refuses this body. The status is `None` if there was no response.
    Refused(Option<u16>, Trouble),
    Left(Option<Trouble>),
}

impl Bridge {
    /// Creates a client, without any network access. At most `concurrency` requests are in flight.
    ///
    /// # Errors
    /// [`TlsError`] if the operator's certificates are invalid.
    pub fn new(
        endpoints: Endpoints,
        secret: CredentialsSource,
        backoff: Backoff,
        concurrency: usize,
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
        let concurrency = concurrency.max(1);
        Ok(Self {
            http,
            endpoint: edge,
            tokens,
            backoff,
            gate: Gate::default(),
            permits: Semaphore::new(concurrency),
            concurrency,
            witness: Mutex::default(),
        })
    }

    /// Returns the verifier of server certificates.
    pub fn tls(&self) -> &Arc<ServerTrust> {
        self.tokens.tls()
    }

    /// Returns the token source of the process.
    pub fn tokens(&self) -> &TokenSource {
        &self.tokens
    }

    /// Returns the most requests that may be in flight.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Waits for the permission to have one more request in flight. `None` would mean that the
    /// semaphore is closed, which it never is.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }

    /// Returns the permission for one more request, as long as more than half of all are free, so that
    /// what is ahead of its time does not take the last one.
    pub(crate) fn spare_permit(&self) -> Option<SemaphorePermit<'_>> {
        let is_spare = 2 * self.permits.available_permits() > self.concurrency;
        is_spare.then(|| self.permits.try_acquire().ok()).flatten()
    }

    /// Gets the token ahead of the first request.
    ///
    /// # Errors
    /// [`Trouble`] of the whole bridge.
    pub async fn warm_up(&self, deadline: Deadline) -> Result<(), Trouble> {
        let token = self.tokens.token(deadline.within(PATIENCE)).await;
        token.map(|_| ()).map_err(|error| no_token(&error))
    }

    /// Starts the delivery of an object. `making` is a digest of the rules and the encoding.
    pub(crate) fn delivery<'a>(
        &'a self,
        object: &'a ObjectRef,
        making: String,
        attempt: Attempt,
    ) -> Delivery<'a> {
        Delivery {
            bridge: self,
            object,
            making,
            attempt,
            isolated: AtomicUsize::new(0),
            meter: Mutex::default(),
        }
    }

    fn note_accepted(&self, sent: Instant) {
        let mut last = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.sent < sent) {
            *last = Some(Witness {
                sent,
                expiry: Moment::after(WITNESS_LIFETIME.saturating_sub(sent.elapsed())),
                vouched: 0,
            });
        }
    }

    /// Returns how many parts were rejected because of the last witness. `None` if the bridge
    /// accepted no request that was sent after `refusal`, at most a minute ago.
    fn vouched(&self, refusal: Instant) -> Option<u32> {
        let last = *self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|last| last.sent > refusal && !last.expiry.has_come())
            .map(|last| last.vouched)
    }

    /// Whether the last witness may speak for one more rejected part. Counts that part.
    fn vouches(&self) -> bool {
        let mut last = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_mut().is_some_and(|last| {
            last.vouched += 1;
            last.vouched <= VOUCHED_PARTS
        })
    }
}

fn no_token(error: &TokenError) -> Trouble {
    let (after, lasts) = match error {
        TokenError::Later { after, .. } => (*after, false),
        TokenError::Misconfigured(_) => (None, true),
    };
    Trouble {
        scope: Scope::Bridge,
        why: error.to_string(),
        after,
        lasts,
    }
}

impl Delivery<'_> {
    /// Returns the measurements.
    pub(crate) fn into_meter(self) -> Meter {
        self.meter
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers a batch, in parts if necessary. Calls `settle` with each part as soon as its fate
    /// is known; together the parts are the batch. Sends probes if `may_probe`.
    pub(crate) async fn deliver(
        &self,
        batch: Batch,
        may_probe: bool,
        settle: &impl Fn(&Batch, Fate),
    ) -> Delivered {
        let probes = if may_probe { MAX_PROBES } else { 0 };
        // On the heap, its layout does not enlarge the futures around it.
        let kept = Kept {
            probes,
            ..Kept::default()
        };
        Box::pin(self.deliver_parts(Some(batch), kept, settle)).await
    }

    /// Delivers the parts of a refused batch again.
    pub(crate) async fn deliver_again(&self, kept: Kept, settle: &impl Fn(&Batch, Fate)) {
        Box::pin(self.deliver_parts(None, kept, settle)).await;
    }

    /// Whether the bridge accepted another request since a batch was refused.
    pub(crate) fn has_witness(&self, kept: &Kept) -> bool {
        let refusal = kept.refusal.as_ref();
        refusal.is_some_and(|(first, _)| self.bridge.vouched(*first).is_some())
    }

    async fn deliver_parts(
        &self,
        batch: Option<Batch>,
        mut kept: Kept,
        settle: &impl Fn(&Batch, Fate),
    ) -> Delivered {
        let mut parts: VecDeque<_> = batch.into_iter().map(Pending::new).collect();
        let mut delivered = Delivered::default();
        loop {
            if parts.is_empty() {
                parts.extend(self.next_parts(&mut kept).into_iter().map(Pending::new));
            }
            let Some(Pending { batch, was_refused }) = parts.pop_front() else {
                break;
            };
            match self
                .post_until_settled(&batch, kept.refusal.is_some(), was_refused)
                .await
            {
                Ended::Accepted => {
                    delivered.is_accepted = true;
                    settle(&batch, Fate::Accepted);
                    for single in kept.take_singles(VOUCHED_PARTS) {
                        parts.push_front(Pending::new(single));
                    }
                }
                Ended::Left(trouble) => {
                    delivered.has_left = true;
                    let is_batch = |trouble: &Trouble| trouble.scope == Scope::Batch;
                    if !trouble.as_ref().is_some_and(is_batch) {
                        let others = parts.iter().map(|pending| &pending.batch);
                        let left = std::iter::once(&batch).chain(others).chain(kept.parts());
                        leave(left, trouble.as_ref(), settle);
                        return delivered;
                    }
                    settle(&batch, Fate::Behind(trouble));
                }
                Ended::Refused(status, trouble) => {
                    let refused = RefusedPart {
                        transactions: batch.marks.len(),
                        bytes: batch.body.len(),
                        status,
                    };
                    let vouched = self.bridge.vouched(kept.refused(trouble));
                    let isolated = self.isolated.load(Ordering::Relaxed);
                    match (part(refused, vouched, isolated), batch.halves()) {
                        // Behind the others: the larger parts are sent while the witness is fresh.
                        (Part::Halve, Some(halves)) => parts.extend(halves.map(Pending::new)),
                        // Once could be chance, if the bridge fails now and then.
                        (Part::Reject, _) if !was_refused => parts.push_front(Pending {
                            batch,
                            was_refused: true,
                        }),
                        (Part::Reject, _) if self.bridge.vouches() => {
                            self.isolated.fetch_add(1, Ordering::Relaxed);
                            settle(&batch, Fate::Rejected(status));
                        }
                        _ => kept.push(batch),
                    }
                }
            }
        }
        leave(kept.parts(), kept.trouble(), settle);
        delivered.has_left |= kept.parts().next().is_some();
        delivered.kept = kept.for_later();
        delivered
    }

    /// Returns the kept parts to send next: those that the last witness speaks for, or a probe.
    fn next_parts(&self, kept: &mut Kept) -> Vec<Batch> {
        let Some((first, _)) = kept.refusal else {
            return Vec::new();
        };
        if let Some(vouched) = self.bridge.vouched(first) {
            let parts = kept.take(VOUCHED_PARTS.saturating_sub(vouched));
            if !parts.is_empty() {
                return parts;
            }
        }
        kept.probe().into_iter().collect()
    }

    /// Sends a body until the bridge accepts or refuses it, or no try or no time is left.
    async fn post_until_settled(&self, batch: &Batch, is_part: bool, is_last: bool) -> Ended {
        let Self {
            bridge, attempt, ..
        } = self;
        let key = idempotency_key(self.object, batch, &self.making);
        let patience = attempt.deadline.within(PATIENCE);
        let terms = Terms {
            bytes: batch.body.len(),
            attempt: attempt.number,
            tries: bridge.backoff.attempts,
            is_last,
        };
        let timeout = if is_part {
            PART_TIMEOUT
        } else {
            REQUEST_TIMEOUT
        };
        let mut tries = Tries::default();
        loop {
            let posted = self.post(&key, batch.body.clone(), patience, timeout).await;
            let answer = &posted.answer;
            let after = answer.after().unwrap_or_default();
            let mut next = step(answer, tries, terms);
            let mut wait = Duration::ZERO;
            if let Step::Retry { hold } = next {
                tries.failed += 1;
                wait = after.max(bridge.backoff.wait(tries.failed).unwrap_or_default());
                if wait >= patience.time_left() {
                    tries.failed = terms.tries;
                    next = match step(answer, tries, terms) {
                        // It had fewer tries than it takes to refuse it.
                        Step::Refuse(scope) => Step::Leave(scope),
                        last => last,
                    };
                }
                if hold {
                    bridge.gate.hold(wait);
                }
            }
            match next {
                Step::Accept => {
                    bridge.note_accepted(posted.sent);
                    return Ended::Accepted;
                }
                Step::Refuse(scope) => {
                    return Ended::Refused(answer.status(), posted.trouble(scope));
                }
                Step::Leave(scope) => {
                    if let (Some(_), Some(after)) = (answer.status(), answer.after()) {
                        bridge.gate.hold(after);
                    }
                    return Ended::Left((!posted.why.is_empty()).then(|| posted.trouble(scope)));
                }
                Step::Reconnect => tries.hung_up = true,
                Step::Renew => {
                    tries.renewed = true;
                    if let Some(token) = &posted.token {
                        bridge.tokens.discard(token).await;
                    }
                }
                Step::Retry { hold } => {
                    if wait > LONG_WAIT {
                        tracing::warn!(
                            seconds = wait.as_secs(),
                            reason = posted.why,
                            "waiting before the next request"
                        );
                    }
                    // A gate that is held makes the next request wait.
                    if !hold {
                        tokio::time::sleep(wait).await;
                    }
                }
            }
            self.meter().retries += 1;
        }
    }

    /// Sends a body once, unless it may not be sent before `patience` ends.
    async fn post(&self, key: &str, body: Bytes, patience: Deadline, timeout: Duration) -> Posted {
        let (bridge, endpoint) = (self.bridge, &self.bridge.endpoint);
        let mut posted = Posted {
            answer: Answer::NotSent { after: None },
            why: String::new(),
            lasts: false,
            sent: Instant::now(),
            token: None,
        };
        if !bridge.gate.wait(patience).await {
            let wait = bridge.gate.time_left();
            if !wait.is_zero() {
                posted.answer = Answer::NotSent { after: Some(wait) };
                posted.why = format!("{endpoint} asked for a pause");
            } else if !self.attempt.deadline.has_passed() {
                posted.why = format!("{endpoint} accepted nothing within a minute");
            }
            return posted;
        }
        let token = match bridge.tokens.token(patience).await {
            Ok(token) => posted.token.insert(token),
            Err(error) => {
                let Trouble {
                    why, after, lasts, ..
                } = no_token(&error);
                posted.answer = Answer::NotSent { after };
                (posted.why, posted.lasts) = (why, lasts);
                return posted;
            }
        };
        let time_left = self.attempt.deadline.extended(GRACE).time_left();
        let request = http::post(&bridge.http, endpoint, token.authorization(), key, body)
            .timeout(timeout.min(time_left));
        posted.sent = Instant::now();
        match request.send().await {
            Ok(mut response) => {
                let milliseconds = posted.sent.elapsed().as_millis();
                self.meter()
                    .latencies
                    .push(u64::try_from(milliseconds).unwrap_or(u64::MAX));
                let (status, after) = (response.status(), asked_wait(response.headers()));
                let is_html = is_page(&mut response, DRAIN_TIMEOUT).await;
                posted.answer = Answer::Status {
                    status: status.as_u16(),
                    is_html,
                    after,
                };
                posted.why = describe(endpoint, status, is_html);
                posted.lasts = posted.answer.lasts();
                let drained = read_at_most(response, MAX_RESPONSE);
                tokio::spawn(tokio::time::timeout(DRAIN_TIMEOUT, drained));
            }
            // The deadline cut the request short: the bridge may still accept it.
            Err(error) if error.is_timeout() && self.attempt.deadline.has_passed() => {}
            Err(error) => {
                posted.answer = match () {
                    () if error.is_connect() => Answer::Unreachable,
                    () if is_hang_up(&error) => Answer::HungUp,
                    () => Answer::NoResponse,
                };
                posted.why = format!("{endpoint}: {}", in_words(endpoint, &error));
                posted.lasts = is_handshake_failure(&error);
            }
        }
        posted
    }
}

/// One request, and what came of it.
struct Posted {
    answer: Answer,
    /// The answer in words: the endpoint, the status and what to check. Empty if no time was left.
    why: String,
    /// Whether it lasts until the operator acts.
    lasts: bool,
    sent: Instant,
    token: Option<Arc<Token>>,
}

impl Posted {
    fn trouble(&self, scope: Scope) -> Trouble {
        Trouble {
            scope,
            why: self.why.clone(),
            after: self.answer.after(),
            lasts: self.lasts,
        }
    }
}

/// What came of a batch.
#[derive(Default)]
pub(crate) struct Delivered {
    /// Whether the bridge accepted a part of it.
    pub(crate) is_accepted: bool,
    /// Whether a part of it stayed behind.
    pub(crate) has_left: bool,
    /// What stayed behind because it was refused, without a witness.
    pub(crate) kept: Option<Kept>,
}

/// A part of a batch that is to be sent.
struct Pending {
    batch: Batch,
    /// Whether it was refused beside a witness already.
    was_refused: bool,
}

impl Pending {
    fn new(batch: Batch) -> Self {
        Self {
            batch,
            was_refused: false,
        }
    }
}

/// The parts of a refused batch that wait for a witness.
#[derive(Default)]
pub(crate) struct Kept {
    /// When the batch was first refused, and why its last refused part was.
    refusal: Option<(Instant, Trouble)>,
    /// Parts that probes are taken from: refused, or the rest of a refused part.
    untried: Vec<Batch>,
    /// Single transactions that were refused, the one that was refused last at the end.
    singles: VecDeque<Batch>,
    /// Probes that may still be sent.
    probes: u32,
}

impl Kept {
    /// Notes a refusal. Returns the time of the first one.
    fn refused(&mut self, trouble: Trouble) -> Instant {
        let first = self
            .refusal
            .take()
            .map_or_else(Instant::now, |(first, _)| first);
        self.refusal = Some((first, trouble));
        first
    }

    fn push(&mut self, batch: Batch) {
        if batch.marks.len() < 2 {
            self.singles.push_back(batch);
        } else {
            self.untried.push(batch);
        }
    }

    /// Takes one transaction out of the largest part, at random. Returns `None` if none is left, or
    /// when no probe may be sent anymore.
    fn probe(&mut self) -> Option<Batch> {
        let is_over = self
            .refusal
            .as_ref()
            .is_some_and(|(first, _)| first.elapsed() > PATIENCE);
        if is_over || self.probes == 0 {
            return None;
        }
        self.probes -= 1;
        self.untried.sort_by_key(|batch| batch.marks.len());
        let largest = self.untried.pop()?;
        let [before, probe, after] = largest.around(rand::random_range(0..largest.marks.len()));
        self.untried.extend([before, after].into_iter().flatten());
        probe
    }

    /// Takes the parts that halving may help, and at most `singles` of the others, because without
    /// a witness they would be sent in vain.
    fn take(&mut self, singles: u32) -> Vec<Batch> {
        let mut parts = std::mem::take(&mut self.untried);
        parts.extend(self.take_singles(singles));
        parts
    }

    fn take_singles(&mut self, most: u32) -> impl Iterator<Item = Batch> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.singles.drain(..most.min(self.singles.len()))
    }

    fn parts(&self) -> impl Iterator<Item = &Batch> {
        self.untried.iter().chain(&self.singles)
    }

    fn trouble(&self) -> Option<&Trouble> {
        self.refusal.as_ref().map(|(_, trouble)| trouble)
    }

    /// Returns the bytes of the bodies.
    pub(crate) fn bytes(&self) -> usize {
        self.parts().map(|part| part.body.len()).sum()
    }

    /// Returns what a later witness of the same attempt may help.
    fn for_later(self) -> Option<Self> {
        let is_batch = self.trouble()?.scope == Scope::Batch && self.parts().next().is_some();
        is_batch.then_some(Self { probes: 0, ..self })
    }
}

/// Reports that these parts of a batch stay behind.
fn leave<'a>(
    parts: impl Iterator<Item = &'a Batch>,
    trouble: Option<&Trouble>,
    settle: &impl Fn(&Batch, Fate),
) {
    for batch in parts {
        settle(batch, Fate::Behind(trouble.cloned()));
    }
}

/// Returns a response in words, with what to check.
pub(crate) fn describe(endpoint: &EndpointUrl, status: StatusCode, is_html: bool) -> String {
    let what = if is_html { " with an HTML page" } else { "" };
    let advice = advice(status.as_u16(), is_html);
    format!("{endpoint} returned {status}{what}. {advice}")
}

/// Returns the idempotency key of a batch. It depends on the object's version, the rows, the rules
/// and the encoding: every retry has the same key, and another body has another one. Local logs
/// have no `ETag`; a hash of the body replaces it.
fn idempotency_key(object: &ObjectRef, batch: &Batch, making: &str) -> String {
    let version = object
        .etag
        .clone()
        .unwrap_or_else(|| hex::encode(Sha256::digest(&batch.body)));
    let (first, last) = (batch.rows.start, batch.rows.end.saturating_sub(1));
    hex::encode(Sha256::digest(format!(
        "{}\0{}\0{version}\0{first}\0{last}\0{making}",
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

    fn time_left(&self) -> Duration {
        let held = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.map_or(Duration::ZERO, |until| until.time_left())
    }

    /// Waits until the gate is open. Returns `false` if the deadline comes first.
    async fn wait(&self, deadline: Deadline) -> bool {
        loop {
            let time = self.time_left();
            if time.is_zero() {
                return !deadline.has_passed();
            }
            if !deadline.sleep(time).await {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;

    #[test]
    fn permit_is_spare_while_most_are_free() {
        for (concurrency, spare) in [(1, 0), (2, 0), (3, 1), (10, 4)] {
            let endpoints = Endpoints {
                edge: "http://127.0.0.1:1".parse().unwrap(),
                token: "http://127.0.0.1:1".parse().unwrap(),
                method: AuthMethod::Post,
                parameters: TokenParameters::default(),
                bridge_ca: None,
            };
            let source = CredentialsSource::Variables(Credentials::new("id", "secret"));
            let bridge = Bridge::new(endpoints, source, Backoff::default(), concurrency).unwrap();
            let _used = bridge.permits.try_acquire().unwrap();
            let taken: Vec<_> = std::iter::from_fn(|| bridge.spare_permit()).collect();
            assert_eq!(taken.len(), spare, "{concurrency}");
        }
    }
}

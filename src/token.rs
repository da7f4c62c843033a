//! *Token*: OAuth 2.0 client credentials grant (RFC 6749, section 4.4): one bearer token per
//! process.
//!
//! The token is fetched on first use, renewed before it expires, and dropped when the bridge
//! returns 401. Tasks that wait for it share one request. Expiry is judged by the wall clock as
//! well as by the monotonic clock, because Lambda freezes the process between invocations and the
//! monotonic clock may stop while it is frozen.
//!
//! Errors and log lines never contain the client's ID or its secret. Of a response they contain only
//! its status and known error codes: an identity provider may echo what it was sent, and the operator
//! may have swapped ID and secret.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::credentials::{Credentials, CredentialsError, CredentialsSource};
use crate::endpoint::EndpointUrl;
use crate::grant::{self, Answer};
use crate::http::{asked_wait, in_words, is_html, is_of_proxy, read_at_most};
use crate::redact::Key;
use crate::retry::Backoff;
use crate::time::{Deadline, Moment};
use crate::tls::{ServerTrust, is_certificate_error};

pub use crate::grant::{AuthMethod, TokenParameters};

/// Bytes of a response that are read. A token has at most a few thousand.
const MAX_RESPONSE: usize = 64 << 10;
/// Timeout of an early renewal. It is short because the current token is still valid.
const EARLY_RENEWAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after the start of a failed early renewal.
const EARLY_RENEWAL_PAUSE: Duration = Duration::from_secs(20);
/// Timeout of one request to the token endpoint.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The log message for a failed early renewal.
const EARLY_RENEWAL_FAILED: &str =
    "failed to renew the token before its expiry; the current token remains in use";

/// The reason why a token could not be obtained. The text never contains the client's ID or secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// A retry may help.
    #[error("cannot get a token yet: {reason}")]
    Later {
        reason: String,
        /// `Retry-After` of the response.
        after: Option<Duration>,
    },
    /// The operator must act.
    #[error("cannot get a token: {0}")]
    Misconfigured(String),
}

/// A bearer token (RFC 6750).
#[derive(Debug)]
pub struct Token {
    /// Marked as sensitive: `Debug` does not show it.
    authorization: HeaderValue,
    renewal: Moment,
    expiry: Moment,
}

impl Token {
    /// Returns `None` if the token cannot be sent in a header.
    fn new(bearer: &SecretString, lifetime: Duration) -> Option<Self> {
        let bearer = bearer.expose_secret();
        // Stricter than a header's value, as RFC 6750, section 2.1 is.
        if !bearer.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let mut authorization = HeaderValue::from_str(&format!("Bearer {bearer}")).ok()?;
        authorization.set_sensitive(true);
        Some(Self {
            authorization,
            renewal: Moment::after(lifetime.saturating_sub(renewal_margin(lifetime))),
            expiry: Moment::after(lifetime),
        })
    }

    /// Returns the text of the token. It must not be shown.
    pub(crate) fn bearer(&self) -> &str {
        let text = self.authorization.to_str().unwrap_or_default();
        text.trim_start_matches("Bearer ")
    }

    /// Returns the time until the token expires.
    pub fn time_left(&self) -> Duration {
        self.expiry.time_left()
    }

    /// Returns the value of the `Authorization` header. It must not be logged.
    pub fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }
}

/// How long before its expiry a token is renewed: the longer of 60 seconds and a tenth of its
/// lifetime, at most half of it.
fn renewal_margin(lifetime: Duration) -> Duration {
    (lifetime / 10)
        .max(Duration::from_mins(1))
        .min(lifetime / 2)
}

/// The source of tokens. All tasks of a process share one source, and so one token.
#[derive(Debug)]
pub struct TokenSource {
    http: reqwest::Client,
    endpoint: EndpointUrl,
    method: AuthMethod,
    parameters: TokenParameters,
    credentials: CredentialsSource,
    tls: Arc<ServerTrust>,
    backoff: Backoff,
    requests: AtomicU64,
    state: Mutex<State>,
    /// `redaction_key` of the secret that was read last.
    redaction_key: std::sync::Mutex<Option<Key>>,
}

#[derive(Debug, Default)]
struct State {
    credentials: Option<Credentials>,
    token: Option<Arc<Token>>,
    /// When to attempt an early renewal again after one failed.
    early_renewal: Option<Moment>,
}

/// The reason why one request to the token endpoint returned no token.
enum Failure {
    /// A refusal, with its status and what is known of it, as text. The secret may have been
    /// rotated.
    Refused(String),
    Error(TokenError),
}

impl TokenSource {
    /// Returns a source of tokens from `endpoint`. It makes no request yet.
    pub fn new(
        http: reqwest::Client,
        endpoint: EndpointUrl,
        method: AuthMethod,
        parameters: TokenParameters,
        credentials: CredentialsSource,
        tls: Arc<ServerTrust>,
        backoff: Backoff,
    ) -> Self {
        Self {
            http,
            endpoint,
            method,
            parameters,
            credentials,
            tls,
            backoff,
            requests: AtomicU64::new(0),
            state: Mutex::default(),
            redaction_key: std::sync::Mutex::default(),
        }
    }

    /// Returns the number of requests to the token endpoint since the last call.
    pub fn take_requests(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }

    /// Returns the verifier of server certificates.
    pub fn tls(&self) -> &Arc<ServerTrust> {
        &self.tls
    }

    /// Returns ID and secret that were read last.
    pub(crate) async fn credentials(&self) -> Option<Credentials> {
        self.state.lock().await.credentials.clone()
    }

    /// Returns `redaction_key` of the secret, or `None` until the credentials were read.
    pub fn redaction_key(&self) -> Option<Key> {
        self.redaction_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the token; fetches or renews it first if necessary.
    ///
    /// # Errors
    /// [`TokenError::Later`] if the deadline passes or a retry may help, else
    /// [`TokenError::Misconfigured`].
    pub async fn token(&self, deadline: Deadline) -> Result<Arc<Token>, TokenError> {
        let late = || TokenError::Later {
            reason: format!(
                "{} did not return a token before the deadline",
                self.endpoint
            ),
            after: None,
        };
        deadline
            .bound(self.token_unbounded(deadline))
            .await
            .ok_or_else(late)?
    }

    /// Drops a token that the bridge rejected, unless it was already replaced.
    pub async fn discard(&self, rejected: &Arc<Token>) {
        let mut state = self.state.lock().await;
        state.token.take_if(|token| Arc::ptr_eq(token, rejected));
    }

    /// Holds the lock during the request, so that tasks that want the token share one request.
    async fn token_unbounded(&self, deadline: Deadline) -> Result<Arc<Token>, TokenError> {
        let mut state = self.state.lock().await;
        if let Some(token) = state
            .token
            .as_ref()
            .filter(|token| !token.renewal.has_come())
        {
            return Ok(token.clone());
        }
        let current = state.token.clone().filter(|token| !token.expiry.has_come());
        let Some(current) = current else {
            let token = self
                .fetch(&mut state.credentials, deadline, self.backoff)
                .await?;
            return Ok(state.token.insert(Arc::new(token)).clone());
        };
        // An early renewal is a single short try. If it fails, the current token is used until
        // it expires.
        if state.early_renewal.is_none_or(|next| next.has_come()) {
            state.early_renewal = Some(Moment::after(EARLY_RENEWAL_PAUSE));
            let once = Backoff {
                attempts: 1,
                ..self.backoff
            };
            let attempt = self.fetch(&mut state.credentials, deadline, once);
            match tokio::time::timeout(EARLY_RENEWAL_TIMEOUT, attempt).await {
                Ok(Ok(token)) => {
                    state.early_renewal = None;
                    return Ok(state.token.insert(Arc::new(token)).clone());
                }
                Ok(Err(error)) => tracing::warn!(%error, "{EARLY_RENEWAL_FAILED}"),
                Err(_) => {
                    let seconds = EARLY_RENEWAL_TIMEOUT.as_secs();
                    let error = format!("{} did not respond within {seconds} s", self.endpoint);
                    tracing::warn!(error, "{EARLY_RENEWAL_FAILED}");
                }
            }
        }
        Ok(current)
    }

    /// Requests a token, with the credentials that were read before if there are any. After a
    /// refusal it reads them once more, because the secret may have been rotated. Credentials that
    /// were refused are forgotten, so that the next call reads the secret again.
    async fn fetch(
        &self,
        credentials: &mut Option<Credentials>,
        deadline: Deadline,
        backoff: Backoff,
    ) -> Result<Token, TokenError> {
        let known = match credentials {
            Some(known) => known,
            None => credentials.insert(self.read_credentials().await?),
        };
        let refused = match self.request_with_retries(known, deadline, backoff).await {
            Ok(token) => return Ok(token),
            Err(Failure::Error(error)) => return Err(error),
            Err(Failure::Refused(refused)) => refused,
        };
        let known = known.clone();
        *credentials = None;
        let read = self.read_credentials().await?;
        if read.is_same_client(&known) {
            return Err(self.refusal(&refused, &known));
        }
        match self.request_with_retries(&read, deadline, backoff).await {
            Err(Failure::Refused(refused)) => Err(self.refusal(&refused, &read)),
            Err(Failure::Error(error)) => Err(error),
            Ok(token) => {
                *credentials = Some(read);
                Ok(token)
            }
        }
    }

    async fn read_credentials(&self) -> Result<Credentials, TokenError> {
        let credentials = self.credentials.read().await.map_err(|error| match error {
            CredentialsError::Unavailable { .. } => TokenError::Later {
                reason: error.to_string(),
                after: None,
            },
            CredentialsError::Rejected { .. } | CredentialsError::Malformed { .. } => {
                TokenError::Misconfigured(error.to_string())
            }
        })?;
        if let Some(pem) = &credentials.bridge_ca {
            self.tls.set_operator_certificates(pem).map_err(|error| {
                TokenError::Misconfigured(format!("invalid bridge_ca in the secret: {error}"))
            })?;
        }
        self.redaction_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&credentials.redaction_key);
        Ok(credentials)
    }

    /// Returns the error for a refusal. Identity providers name the cause too differently for
    /// advice by error code.
    fn refusal(&self, refused: &str, credentials: &Credentials) -> TokenError {
        let length = |secret: &SecretString| secret.expose_secret().chars().count();
        let id = length(&credentials.client_id);
        TokenError::Misconfigured(format!(
            "{} rejected the token request ({refused}). Check the client ID and secret, and that \
             they are not swapped: the ID has {id} character{}, the secret {}. Also check \
             BRIDGE_AUTH_ENDPOINT, BRIDGE_AUTH_METHOD and BRIDGE_TOKEN_PARAMETERS, and that the \
             client may use the client credentials grant",
            self.endpoint,
            if id == 1 { "" } else { "s" },
            length(&credentials.client_secret)
        ))
    }

    async fn request_with_retries(
        &self,
        credentials: &Credentials,
        deadline: Deadline,
        backoff: Backoff,
    ) -> Result<Token, Failure> {
        let mut failed = 0;
        loop {
            let error = match self.request(credentials).await {
                Err(Failure::Error(error @ TokenError::Later { .. })) => error,
                other => return other,
            };
            failed += 1;
            let after = if let TokenError::Later { after, .. } = &error {
                *after
            } else {
                None
            };
            let wait = backoff
                .wait(failed)
                .map(|wait| wait.max(after.unwrap_or_default()));
            match wait {
                Some(wait) if deadline.sleep(wait).await => {
                    tracing::debug!(failed, %error, "retrying the token request");
                }
                _ => return Err(Failure::Error(error)),
            }
        }
    }

    async fn request(&self, credentials: &Credentials) -> Result<Token, Failure> {
        let later = |reason, after| Failure::Error(TokenError::Later { reason, after });
        let transport = |error: reqwest::Error| {
            let hint = if is_certificate_error(&error) && !is_of_proxy(&error) {
                self.certificate_hint()
            } else {
                String::new()
            };
            let words = in_words(&self.endpoint, &error);
            let reason = format!("{}: {words}{hint}", self.endpoint);
            later(reason, None)
        };
        let response = self.send(credentials).await.map_err(transport)?;
        let status = response.status();
        if matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        ) || status.is_server_error()
        {
            let after = asked_wait(response.headers());
            return Err(later(format!("{} returned {status}", self.endpoint), after));
        }
        let misconfigured = |what: &str| {
            Failure::Error(TokenError::Misconfigured(format!(
                "{} returned {status} with {what}. Check BRIDGE_AUTH_ENDPOINT",
                self.endpoint
            )))
        };
        if status.is_redirection() {
            return Err(misconfigured("a redirect, which edgetap does not follow"));
        }
        let is_html = is_html(response.headers());
        let body = read_at_most(response, MAX_RESPONSE + 1)
            .await
            .map_err(transport)?;
        let is_long = body.len() > MAX_RESPONSE;
        let readable: &[u8] = if is_html || is_long { &[] } else { &body };
        match Answer::read(status.as_u16(), readable) {
            Answer::Token { bearer, lifetime } => {
                let token = Token::new(&bearer, lifetime)
                    .ok_or_else(|| misconfigured("a token that cannot be sent in a header"))?;
                tracing::debug!(lifetime = lifetime.as_secs(), "got a token");
                Ok(token)
            }
            Answer::Refused(Some(code)) => Err(Failure::Refused(format!("{status}, {code}"))),
            Answer::Refused(None) if is_html => {
                Err(Failure::Refused(format!("{status}, an HTML page")))
            }
            Answer::Refused(None) => Err(Failure::Refused(status.to_string())),
            Answer::NotBearer => Err(misconfigured("a token that is not a bearer token")),
            Answer::Unreadable if is_html => Err(misconfigured("an HTML page")),
            Answer::Unreadable if is_long => Err(misconfigured("more than 64 KiB")),
            Answer::Unreadable => Err(misconfigured("neither a token nor an OAuth 2.0 error")),
        }
    }

    async fn send(&self, credentials: &Credentials) -> Result<Response, reqwest::Error> {
        let mut request = self
            .http
            .post(self.endpoint.url().clone())
            .timeout(REQUEST_TIMEOUT)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(grant::form(credentials, self.method, &self.parameters));
        if self.method == AuthMethod::Basic {
            let [id, secret] = grant::basic(credentials);
            request = request.basic_auth(id, Some(secret));
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        request.send().await
    }

    /// Returns the advice for a certificate of the token endpoint that is not trusted.
    fn certificate_hint(&self) -> String {
        const WHERE: &str = "must be in BRIDGE_CA_FILE, or in bridge_ca of the secret";
        let bridge = self.tls.bridge();
        if self.endpoint.host().eq_ignore_ascii_case(bridge) {
            format!(". A private CA or a self-signed certificate {WHERE}")
        } else {
            format!(
                ". A private CA {WHERE}. A self-signed certificate is trusted for the bridge's host \
                 ({bridge}) only"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: T1
    #[test]
    fn renewal_margin_is_a_minute_or_a_tenth_at_most_half() {
        for (lifetime, margin) in [
            (1800, 180),
            (300, 60),
            (100, 50),
            (1, 0),
            (0, 0),
            (86_400, 8640),
        ] {
            assert_eq!(
                renewal_margin(Duration::from_secs(lifetime)).as_secs(),
                margin,
                "{lifetime}"
            );
        }
    }

    // proves: S2
    #[test]
    fn token_debug_hides_the_bearer() {
        let token = Token::new(&"canary".to_owned().into(), grant::DEFAULT_LIFETIME).unwrap();
        assert!(!format!("{token:?}").contains("canary"));
    }
}

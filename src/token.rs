//! *Token*: OAuth 2.0 client credentials grant (RFC 6749, section 4.4): one bearer token per
//! process.
//!
//! The token is fetched on first use, renewed before it expires, and dropped when the bridge
//! returns 401. Tasks that wait for it share one request. Expiry is judged by the wall clock as
//! well as by the monotonic clock, because Lambda freezes the process between invocations and the
//! monotonic clock may stop while it is frozen.
//!
//! Errors and log lines never contain the client's ID or its secret. Of a response body they
//! contain only the error codes that RFC 6749 defines: an identity provider may echo what it was
//! sent, and the operator may have swapped ID and secret.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use oauth2::basic::{BasicClient, BasicErrorResponseType};
use oauth2::{
    AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError,
    TokenResponse as _, TokenUrl, basic::BasicTokenType,
};
use reqwest::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::sync::Mutex;
use url::Url;

use crate::credentials::{Credentials, CredentialsError, CredentialsSource};
use crate::http::{asked_wait, in_words, is_html};
use crate::redact::Key;
use crate::retry::Backoff;
use crate::time::{Deadline, Moment};
use crate::tls::{ServerTrust, is_certificate_error};

/// The lifetime of a token if the response has no `expires_in`, which RFC 6749, section 5.1 makes
/// optional.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// Upper bound on a token's lifetime, whatever `expires_in` says.
const MAX_LIFETIME: Duration = Duration::from_hours(24);
/// Timeout of an early renewal. It is short because the current token is still valid.
const EARLY_RENEWAL_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after a failed early renewal.
const EARLY_RENEWAL_PAUSE: Duration = Duration::from_secs(20);
/// Timeout of one request to the token endpoint.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The log message for a failed early renewal.
const EARLY_RENEWAL_FAILED: &str =
    "failed to renew the token before its expiry; the current token remains in use";

/// How the client authenticates to the token endpoint (OpenID Connect Core 1.0, section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMethod {
    /// `client_secret_post`: ID and secret in the request body.
    #[default]
    Post,
    /// `client_secret_basic`: ID and secret in the `Authorization` header.
    Basic,
}

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
    bearer: SecretString,
    renewal: Moment,
    expiry: Moment,
}

impl Token {
    fn new(bearer: String, lifetime: Duration) -> Self {
        Self {
            bearer: bearer.into(),
            renewal: Moment::after(lifetime.saturating_sub(renewal_margin(lifetime))),
            expiry: Moment::after(lifetime),
        }
    }

    /// Returns the time until the token expires.
    pub fn time_left(&self) -> Duration {
        self.expiry.time_left()
    }

    /// Returns the value of the `Authorization` header. It must not be logged.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.bearer.expose_secret())
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
    endpoint: Url,
    method: AuthMethod,
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
    /// The OAuth error `invalid_client`: the secret may have been rotated.
    InvalidClient,
    Error(TokenError),
}

impl TokenSource {
    /// Returns a source of tokens from `endpoint`. It makes no request yet.
    pub fn new(
        http: reqwest::Client,
        endpoint: Url,
        method: AuthMethod,
        credentials: CredentialsSource,
        tls: Arc<ServerTrust>,
        backoff: Backoff,
    ) -> Self {
        Self {
            http,
            endpoint,
            method,
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
            let token = self.fetch(&mut state.credentials, deadline).await?;
            return Ok(state.token.insert(Arc::new(token)).clone());
        };
        // An early renewal is a single short attempt. If it fails, the current token is used until
        // it expires.
        if state.early_renewal.is_none_or(|next| next.has_come()) {
            state.early_renewal = Some(Moment::after(EARLY_RENEWAL_PAUSE));
            let attempt = self.fetch_once(&mut state.credentials);
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

    /// Makes one attempt, with the credentials that were read before if there are any.
    async fn fetch_once(&self, credentials: &mut Option<Credentials>) -> Result<Token, TokenError> {
        let known = match credentials {
            Some(known) => known,
            None => credentials.insert(self.read_credentials().await?),
        };
        self.request(known).await.map_err(|failure| match failure {
            Failure::InvalidClient => self.invalid_client(known),
            Failure::Error(error) => error,
        })
    }

    async fn fetch(
        &self,
        credentials: &mut Option<Credentials>,
        deadline: Deadline,
    ) -> Result<Token, TokenError> {
        let known = match credentials.take() {
            Some(known) => known,
            None => self.read_credentials().await?,
        };
        match self.request_with_retries(&known, deadline).await {
            Err(Failure::InvalidClient) => {}
            Err(Failure::Error(error)) => {
                *credentials = Some(known);
                return Err(error);
            }
            Ok(token) => {
                *credentials = Some(known);
                return Ok(token);
            }
        }
        // The secret may have been rotated: read it once more. If that does not help, forget it, so
        // that the next call reads it again.
        let read = self.read_credentials().await?;
        let rotated = read.client_id.expose_secret() != known.client_id.expose_secret()
            || read.client_secret.expose_secret() != known.client_secret.expose_secret();
        if !rotated {
            return Err(self.invalid_client(&known));
        }
        match self.request_with_retries(&read, deadline).await {
            Ok(token) => {
                *credentials = Some(read);
                Ok(token)
            }
            Err(Failure::InvalidClient) => Err(self.invalid_client(&read)),
            Err(Failure::Error(error)) => Err(error),
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

    fn invalid_client(&self, credentials: &Credentials) -> TokenError {
        TokenError::Misconfigured(format!(
            "{} rejected the OAuth client (invalid_client). {}",
            self.endpoint,
            credentials_hint(credentials)
        ))
    }

    /// The error for an OAuth error response (RFC 6749, section 5.2) other than `invalid_client`.
    fn oauth_error(&self, code: &BasicErrorResponseType, credentials: &Credentials) -> TokenError {
        let endpoint = &self.endpoint;
        TokenError::Misconfigured(match code {
            // Keycloak also returns this for a wrong secret.
            BasicErrorResponseType::UnauthorizedClient => format!(
                "{endpoint} rejected the OAuth client (unauthorized_client). Check that the client \
                 may use the client credentials grant. {}",
                credentials_hint(credentials)
            ),
            // Not shown: the server chose the text, and it may echo the request.
            BasicErrorResponseType::Extension(_) => format!(
                "{endpoint} rejected the token request with an error code that RFC 6749 does not \
                 define. Check the client's permissions"
            ),
            defined => format!(
                "{endpoint} rejected the token request ({}). Check that the client may use the \
                 client credentials grant",
                defined.as_ref()
            ),
        })
    }

    async fn request_with_retries(
        &self,
        credentials: &Credentials,
        deadline: Deadline,
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
            let wait = self
                .backoff
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
        let client = BasicClient::new(ClientId::new(
            credentials.client_id.expose_secret().to_owned(),
        ))
        .set_client_secret(ClientSecret::new(
            credentials.client_secret.expose_secret().to_owned(),
        ))
        .set_auth_type(match self.method {
            AuthMethod::Post => AuthType::RequestBody,
            AuthMethod::Basic => AuthType::BasicAuth,
        })
        .set_token_uri(TokenUrl::from_url(self.endpoint.clone()));
        let status = AtomicU16::new(0);
        let send = |request| self.send(request, &status);
        let exchanged = client
            .exchange_client_credentials()
            .request_async(&send)
            .await;
        let response = exchanged.map_err(|error| match error {
            RequestTokenError::Request(error) => Failure::Error(error),
            RequestTokenError::ServerResponse(response) => match response.error() {
                BasicErrorResponseType::InvalidClient => Failure::InvalidClient,
                code => Failure::Error(self.oauth_error(code, credentials)),
            },
            // These errors contain the response body, so they are not shown.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                Failure::Error(TokenError::Misconfigured(format!(
                    "{} returned {} without an OAuth 2.0 token response. \
                     Check BRIDGE_AUTH_ENDPOINT",
                    self.endpoint,
                    status.load(Ordering::Relaxed)
                )))
            }
        })?;
        if !matches!(response.token_type(), BasicTokenType::Bearer) {
            let reason = format!(
                "{} returned a token that is not a bearer token",
                self.endpoint
            );
            return Err(Failure::Error(TokenError::Misconfigured(reason)));
        }
        let lifetime = response
            .expires_in()
            .unwrap_or(DEFAULT_LIFETIME)
            .min(MAX_LIFETIME);
        tracing::debug!(lifetime = lifetime.as_secs(), "got a token");
        Ok(Token::new(
            response.access_token().secret().clone(),
            lifetime,
        ))
    }

    /// Sends the request that `oauth2` built. Handles every response that is not an OAuth response.
    async fn send(
        &self,
        request: HttpRequest,
        seen: &AtomicU16,
    ) -> Result<HttpResponse, TokenError> {
        let later = |reason, after| TokenError::Later { reason, after };
        let transport = |error: reqwest::Error| {
            let hint = if is_certificate_error(&error) {
                self.certificate_hint()
            } else {
                String::new()
            };
            later(
                format!("{}: {}{hint}", self.endpoint, in_words(&error)),
                None,
            )
        };
        let mut request = reqwest::Request::try_from(request).map_err(transport)?;
        *request.timeout_mut() = Some(REQUEST_TIMEOUT);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let response = self.http.execute(request).await.map_err(transport)?;
        let status = response.status();
        seen.store(status.as_u16(), Ordering::Relaxed);
        if status == StatusCode::REQUEST_TIMEOUT
            || status == StatusCode::TOO_MANY_REQUESTS
            || status.is_server_error()
        {
            let after = asked_wait(response.headers());
            return Err(later(format!("{} returned {status}", self.endpoint), after));
        }
        let html = is_html(response.headers());
        if status.is_redirection() || html {
            let what = if html {
                "an HTML page"
            } else {
                "a redirect, which edgetap does not follow"
            };
            return Err(TokenError::Misconfigured(format!(
                "{} returned {status} with {what}. Check BRIDGE_AUTH_ENDPOINT",
                self.endpoint
            )));
        }
        let mut copy = HttpResponse::new(Vec::new());
        *copy.status_mut() = status;
        copy.headers_mut().clone_from(response.headers());
        *copy.body_mut() = response.bytes().await.map_err(transport)?.into();
        Ok(copy)
    }
    /// Returns the advice for a certificate of the token endpoint that is not trusted.
    fn certificate_hint(&self) -> String {
        let bridge = self.tls.host();
        let host = self.endpoint.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.eq_ignore_ascii_case(bridge) {
            ". A private CA or a self-signed certificate must be in BRIDGE_CA_FILE, or in bridge_ca \
             of the secret"
                .to_owned()
        } else {
            format!(
                ". BRIDGE_CA_FILE and bridge_ca are trusted for the bridge's host ({bridge}) \
                 only; the token endpoint needs a certificate from a public CA"
            )
        }
    }
}

/// Returns the advice for rejected credentials. It shows their lengths only.
fn credentials_hint(credentials: &Credentials) -> String {
    let length = |secret: &SecretString| secret.expose_secret().chars().count();
    let id = length(&credentials.client_id);
    format!(
        "Check the client ID and secret, and that they are not swapped: the ID has {id} \
         character{}, the secret {}. Also check BRIDGE_AUTH_METHOD",
        if id == 1 { "" } else { "s" },
        length(&credentials.client_secret)
    )
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
        let token = Token::new("canary".to_owned(), DEFAULT_LIFETIME);
        assert!(!format!("{token:?}").contains("canary"));
    }
}

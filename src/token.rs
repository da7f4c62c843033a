//! *Token*: OAuth 2.0 client credentials (RFC 6749, 4.4), one token for the process.
//!
//! The token is fetched when it is first wanted, renewed ahead of its expiry, and dropped when the bridge answers 401. One
//! request is made however many tasks want it. Expiry is judged by the wall clock too: a Lambda process is frozen between
//! invocations, and its monotonic clock may stand still meanwhile.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use oauth2::basic::{BasicClient, BasicErrorResponseType};
use oauth2::{
    AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError,
    TokenResponse as _, TokenUrl, basic::BasicTokenType,
};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;
use tokio::sync::Mutex;
use url::Url;

use crate::credentials::{Credentials, CredentialsError, CredentialsSource};
use crate::filter::is_html;
use crate::redact::Key;
use crate::retry::{Backoff, Deadline, Moment, causes, retry_after};
use crate::tls::ServerTrust;

/// The lifetime of a token whose answer does not tell it (RFC 6749, 5.1 makes `expires_in` optional).
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// However long a token is said to live, it is renewed after a day.
const MAX_LIFETIME: Duration = Duration::from_hours(24);
/// A renewal ahead of time may take so long, since the old token is still good, and is tried again after so long.
const EARLY_RENEWAL_TIMEOUT: Duration = Duration::from_secs(3);
const EARLY_RENEWAL_PAUSE: Duration = Duration::from_secs(20);
/// One request to the token endpoint may take so long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How the client authenticates to the token endpoint (OpenID Connect Core 1.0, 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMethod {
    /// `client_secret_post`: id and secret in the request's body.
    #[default]
    Post,
    /// `client_secret_basic`: id and secret in the `Authorization` field.
    Basic,
}

/// Why there is no token. The text names the endpoint and the client's id, never the secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("no token for now: {reason}")]
    Later {
        reason: String,
        /// How long the endpoint asks to wait.
        after: Option<Duration>,
    },
    /// It will not pass by itself.
    #[error("no token: {0}")]
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

    /// How long it lives.
    pub fn time_left(&self) -> Duration {
        self.expiry.time_left()
    }

    /// The value of an `Authorization` field. Keep it out of logs.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.bearer.expose_secret())
    }
}

/// How long before its expiry a token is renewed: 60 seconds or a tenth of its lifetime, whichever is longer, but never more
/// than half of it.
fn renewal_margin(lifetime: Duration) -> Duration {
    (lifetime / 10)
        .max(Duration::from_mins(1))
        .min(lifetime / 2)
}

/// The process's one source of tokens.
#[derive(Debug)]
pub struct TokenSource {
    http: reqwest::Client,
    endpoint: Url,
    method: AuthMethod,
    secret: CredentialsSource,
    tls: Arc<ServerTrust>,
    backoff: Backoff,
    requests: AtomicU64,
    state: Mutex<State>,
    /// The secret's, as it was read last.
    redaction_key: std::sync::Mutex<Option<Key>>,
}

#[derive(Debug, Default)]
struct State {
    credentials: Option<Credentials>,
    token: Option<Arc<Token>>,
    /// When a renewal that failed ahead of time is tried again.
    early_renewal: Option<Moment>,
}

/// What one request to the token endpoint came to, when not to a token.
enum Failure {
    InvalidClient,
    Error(TokenError),
}

impl TokenSource {
    /// Tokens from `endpoint`, for the credentials of `secret`. Nothing is asked of the network yet.
    pub fn new(
        http: reqwest::Client,
        endpoint: Url,
        method: AuthMethod,
        secret: CredentialsSource,
        tls: Arc<ServerTrust>,
        backoff: Backoff,
    ) -> Self {
        Self {
            http,
            endpoint,
            method,
            secret,
            tls,
            backoff,
            requests: AtomicU64::new(0),
            state: Mutex::default(),
            redaction_key: std::sync::Mutex::default(),
        }
    }

    /// How many requests were made since this was asked last.
    pub fn take_requests(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }

    /// Whom its requests trust.
    pub fn tls(&self) -> &Arc<ServerTrust> {
        &self.tls
    }

    /// The key that the secret holds beside the credentials; known once there was a token.
    pub fn redaction_key(&self) -> Option<Key> {
        self.redaction_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The token, fetched or renewed when need be.
    ///
    /// # Errors
    /// When there is none, in time or at all.
    pub async fn token(&self, deadline: Deadline) -> Result<Arc<Token>, TokenError> {
        let late = || TokenError::Later {
            reason: format!("{} gives none in time", self.endpoint),
            after: None,
        };
        deadline
            .bound(self.token_unbounded(deadline))
            .await
            .ok_or_else(late)?
    }

    /// Drops a token that the bridge did not accept, unless another has taken its place.
    pub async fn discard(&self, rejected: &Arc<Token>) {
        let mut state = self.state.lock().await;
        state.token.take_if(|token| Arc::ptr_eq(token, rejected));
    }

    /// Holding the lock makes it one request, however many tasks want the token.
    async fn token_unbounded(&self, deadline: Deadline) -> Result<Arc<Token>, TokenError> {
        let mut state = self.state.lock().await;
        if let Some(token) = state
            .token
            .as_ref()
            .filter(|token| !token.renewal.has_come())
        {
            return Ok(token.clone());
        }
        let good = state.token.clone().filter(|token| !token.expiry.has_come());
        let Some(good) = good else {
            let token = self.fetch(&mut state.credentials, deadline).await?;
            return Ok(state.token.insert(Arc::new(token)).clone());
        };
        // Ahead of its time a token is renewed in one short attempt; while that fails, it serves until its time.
        if state.early_renewal.is_none_or(|next| next.has_come()) {
            state.early_renewal = Some(Moment::after(EARLY_RENEWAL_PAUSE));
            let attempt = self.fetch_once(&mut state.credentials);
            match tokio::time::timeout(EARLY_RENEWAL_TIMEOUT, attempt).await {
                Ok(Ok(token)) => {
                    state.early_renewal = None;
                    return Ok(state.token.insert(Arc::new(token)).clone());
                }
                Ok(Err(error)) => {
                    tracing::warn!("the token could not be renewed ahead of its expiry: {error}")
                }
                Err(_) => tracing::warn!(
                    "the token could not be renewed ahead of its expiry: {} does not answer",
                    self.endpoint
                ),
            }
        }
        Ok(good)
    }

    /// One attempt, with the credentials that are known.
    async fn fetch_once(&self, credentials: &mut Option<Credentials>) -> Result<Token, TokenError> {
        let known = match credentials {
            Some(known) => known,
            None => credentials.insert(self.read_secret().await?),
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
            None => self.read_secret().await?,
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
        // The secret may have been rotated: it is read once more, and forgotten when that does not help.
        let read = self.read_secret().await?;
        let rotated = read.client_id != known.client_id
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

    async fn read_secret(&self) -> Result<Credentials, TokenError> {
        let credentials = self.secret.read().await.map_err(|error| match error {
            CredentialsError::Unavailable { .. } => TokenError::Later {
                reason: error.to_string(),
                after: None,
            },
            CredentialsError::Refused { .. } | CredentialsError::Malformed { .. } => {
                TokenError::Misconfigured(error.to_string())
            }
        })?;
        if let Some(pem) = &credentials.bridge_ca {
            self.tls.set_own(pem).map_err(|error| {
                TokenError::Misconfigured(format!("bridge_ca in the secret {error}"))
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
            "{} does not accept the secret of client {:?} (invalid_client): check the client's id and secret, and BRIDGE_AUTH_METHOD",
            self.endpoint, credentials.client_id
        ))
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
                    tracing::debug!(failed, "asking for a token again: {error}")
                }
                _ => return Err(Failure::Error(error)),
            }
        }
    }

    async fn request(&self, credentials: &Credentials) -> Result<Token, Failure> {
        let client = BasicClient::new(ClientId::new(credentials.client_id.clone()))
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
        let response = client.exchange_client_credentials().request_async(&send).await.map_err(|error| match error {
            RequestTokenError::Request(error) => Failure::Error(error),
            RequestTokenError::ServerResponse(response) if *response.error() == BasicErrorResponseType::InvalidClient => Failure::InvalidClient,
            RequestTokenError::ServerResponse(response) => Failure::Error(TokenError::Misconfigured(format!(
                "{} answers {} to client {:?}: check the client's grant (client credentials) and its permissions",
                self.endpoint,
                // Only the words of RFC 6749: any other could hold what it was sent.
                if let BasicErrorResponseType::Extension(_) = response.error() { "an error of its own" } else { response.error().as_ref() },
                credentials.client_id
            ))),
            // These hold the answer's body: nothing of it is shown.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => Failure::Error(TokenError::Misconfigured(format!(
                "{} answers {} with something else than an OAuth 2.0 token response: check BRIDGE_AUTH_ENDPOINT",
                self.endpoint,
                status.load(Ordering::Relaxed)
            ))),
        })?;
        if !matches!(response.token_type(), BasicTokenType::Bearer) {
            let reason = format!("{} gives a token that is not a bearer token", self.endpoint);
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

    /// Sends the request that `oauth2` made. Answers that are no OAuth answers are told apart here.
    async fn send(
        &self,
        request: HttpRequest,
        seen: &AtomicU16,
    ) -> Result<HttpResponse, TokenError> {
        let later = |reason, after| TokenError::Later { reason, after };
        let transport =
            |error: reqwest::Error| later(format!("{}: {}", self.endpoint, in_words(&error)), None);
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
            let after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .and_then(retry_after);
            return Err(later(format!("{} answers {status}", self.endpoint), after));
        }
        let html = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| is_html(value.as_bytes()));
        if status.is_redirection() || html {
            return Err(TokenError::Misconfigured(format!(
                "{} answers {status}{}: this is no token endpoint; check BRIDGE_AUTH_ENDPOINT",
                self.endpoint,
                if html {
                    " with a web page"
                } else {
                    ", a redirect, which is never followed"
                },
            )));
        }
        let mut copy = HttpResponse::new(Vec::new());
        *copy.status_mut() = status;
        copy.headers_mut().clone_from(response.headers());
        *copy.body_mut() = response.bytes().await.map_err(transport)?.into();
        Ok(copy)
    }
}

/// What went wrong with a request, without its URL.
pub(crate) fn in_words(error: &reqwest::Error) -> String {
    let kind = match () {
        () if error.is_timeout() => "timed out",
        () if error.is_connect() => "cannot connect",
        () => "the request failed",
    };
    std::error::Error::source(error).map_or_else(
        || kind.to_owned(),
        |cause| format!("{kind}: {}", causes(cause)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_a_minute_or_a_tenth_ahead_but_never_before_half() {
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

    #[test]
    fn a_token_does_not_show_itself() {
        let token = Token::new("canary".to_owned(), DEFAULT_LIFETIME);
        assert!(!format!("{token:?}").contains("canary"));
    }
}

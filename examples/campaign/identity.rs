//! *Identity*: an identity provider whose client secret is rotated, and the Secrets Manager that
//! holds the secret.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use edgetap::local_bridge::{Reaction, serve};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub(crate) const CLIENT_ID: &str = "campaign";
/// The beginning of every client secret.
pub(crate) const CLIENT_SECRET: &str = "canary-secret-campaign";

/// How identity providers refuse a wrong secret: that of RFC 6749, Keycloak's and Auth0's, with
/// the statuses that they use.
const WORDS: [(u16, &str); 6] = [
    (401, "invalid_client"),
    (400, "invalid_client"),
    (401, "unauthorized_client"),
    (400, "unauthorized_client"),
    (401, "access_denied"),
    (403, "access_denied"),
];

pub(crate) struct Identity {
    state: Arc<Mutex<State>>,
    word: (u16, &'static str),
    lifetime: Duration,
    /// Of Secrets Manager.
    address: SocketAddr,
    server: AbortHandle,
}

struct State {
    /// The number of the valid secret.
    valid: u32,
    /// The number of the secret in Secrets Manager.
    stored: u32,
    tokens: BTreeMap<String, Instant>,
}

impl Identity {
    pub(crate) async fn start(lifetime: Duration, rng: &mut StdRng) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            valid: 0,
            stored: 0,
            tokens: BTreeMap::new(),
        }));
        let shared = state.clone();
        let server = serve(listener, None, move |request| {
            secret_value(shared.clone(), request)
        });
        Self {
            state,
            word: *WORDS.choose(rng).unwrap(),
            lifetime,
            address,
            server,
        }
    }

    /// The endpoint of Secrets Manager.
    pub(crate) fn secrets_manager(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes another secret valid, stores it at once or later, and may revoke all tokens.
    pub(crate) fn rotate(&self, rng: &mut StdRng) {
        let mut state = self.lock();
        state.valid += 1;
        if rng.random_bool(0.6) {
            state.stored = state.valid;
        }
        if rng.random_bool(0.6) {
            state.tokens.clear();
        }
    }

    /// Stores the valid secret.
    pub(crate) fn store(&self) {
        let mut state = self.lock();
        state.stored = state.valid;
    }

    pub(crate) fn revoke_tokens(&self) {
        self.lock().tokens.clear();
    }

    pub(crate) fn is_valid(&self, token: &str) -> bool {
        (self.lock().tokens.get(token)).is_some_and(|expiry| Instant::now() < *expiry)
    }

    /// Responds to a token request.
    pub(crate) fn respond(&self, body: &[u8]) -> Reaction {
        let mut state = self.lock();
        let secret = url::form_urlencoded::parse(body)
            .find_map(|(name, value)| (name == "client_secret").then(|| value.into_owned()));
        if secret != Some(secret_of(state.valid)) {
            let (status, word) = self.word;
            return Reaction::respond(
                status,
                "application/json",
                json!({ "error": word }).to_string(),
            );
        }
        let token = format!("{:032x}", rand::random::<u128>());
        state
            .tokens
            .insert(token.clone(), Instant::now() + self.lifetime);
        let response = json!({"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime.as_secs()});
        Reaction::respond(200, "application/json", response.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn secret_of(number: u32) -> String {
    format!("{CLIENT_SECRET}-{number}")
}

/// Responds to `GetSecretValue` (AWS JSON 1.1).
async fn secret_value(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await;
    let body: Value = serde_json::from_slice(&body.map_err(io::Error::other)?.to_bytes())?;
    let secret = json!({"client_id": CLIENT_ID, "client_secret": secret_of(lock(&state).stored)})
        .to_string();
    let response = json!({"ARN": body["SecretId"], "Name": "campaign", "SecretString": secret});
    Response::builder()
        .header("content-type", "application/x-amz-json-1.1")
        .body(response.to_string().into())
        .map_err(io::Error::other)
}

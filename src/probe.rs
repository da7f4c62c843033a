//! *Probe*: one request to the bridge and what it returns, for `edgetap check --send`. Nothing is
//! retried or split.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::bridge::{Bridge, describe};
use crate::http::{in_words, is_html, post, read_at_most};
use crate::response::is_success;
use crate::time::Deadline;

/// Bytes of the response's body that are kept.
pub const HEAD: usize = 500;
/// How long the body may take after the headers.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A response of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Number and name, such as `200 OK`.
    pub status: String,
    /// The beginning of the body, at most [`HEAD`] bytes, or why it cannot be read. It may repeat
    /// what was sent: it must not be logged.
    pub head: Result<Vec<u8>, String>,
    /// Why the transactions were not accepted, and what to do about it. `None` if they were.
    pub refusal: Option<String>,
}

/// Posts a request body to the bridge, with a token.
///
/// # Errors
/// The reason why the token or the response is missing.
pub async fn probe(bridge: &Bridge, body: Bytes, deadline: Deadline) -> Result<Response, String> {
    let token = bridge.tokens().token(deadline).await;
    let authorization = token.map_err(|error| error.to_string())?.authorization();
    let key = hex::encode(Sha256::digest(&body));
    let Bridge { http, endpoint, .. } = bridge;
    let sent = post(http, endpoint, &authorization, &key, body)
        .timeout(deadline.time_left())
        .send()
        .await;
    let response = sent.map_err(|error| format!("{endpoint}: {}", in_words(&error)))?;
    let (status, is_html) = (response.status(), is_html(response.headers()));
    let head = tokio::time::timeout(BODY_TIMEOUT, read_at_most(response, HEAD)).await;
    let is_success = is_success(status.as_u16(), is_html);
    let refusal = (!is_success).then(|| describe(endpoint, status, is_html));
    Ok(Response {
        status: status.to_string(),
        head: match head {
            Ok(read) => read.map_err(|error| in_words(&error)),
            Err(_) => Err(format!("nothing within {} s", BODY_TIMEOUT.as_secs())),
        },
        refusal,
    })
}

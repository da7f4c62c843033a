//! *Probe*: one request to the bridge and what it returns, for `edgetap check`. Nothing is retried
//! or split.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::bridge::{Bridge, describe};
use crate::echo::Secrets;
use crate::encode::Encoding;
use crate::http::{begins_html, in_words, is_hang_up, is_html, post, read_at_most};
use crate::response::is_success;
use crate::time::Deadline;
use crate::token::TokenError;

/// Bytes of the response's body that are kept.
pub const HEAD: usize = 500;
/// How long the body may take after the headers.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes. No bridge can work with a lower limit, so `BATCH_MAX_BYTES` does not help.
const SMALL: usize = 4_000;

/// What a response to a request without transactions says about the path of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Something there accepts the token, and reads the body.
    Exists,
    /// No request would be accepted there.
    Wrong,
    /// Nothing: the request did not get that far.
    Unknown,
}

/// A response of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Only for a request without transactions.
    pub path: Path,
    /// Number and name, such as `200 OK`.
    pub status: String,
    /// The beginning of the body, [`HEAD`] bytes with masked secrets, or why it cannot be read. It may
    /// repeat what else was sent: it must not be logged.
    pub head: Result<Vec<u8>, String>,
    /// Why the transactions were not accepted, and what to do about it. `None` if they were.
    pub refusal: Option<String>,
    /// Whether a refusal may be of the size of the request: that of a firewall, too.
    pub may_be_size: bool,
}

/// Why the response is missing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{why}")]
pub struct NoResponse {
    pub why: String,
    /// Whether there was no connection, or none that TLS accepts.
    pub is_unreachable: bool,
    /// Whether the size of the request may be the reason: the connection was closed, or time ended.
    pub may_be_size: bool,
}

/// Returns a request body without transactions. A POST is the only request that tells whether a path
/// exists: many servers return 404 to every other method.
pub fn no_transactions(encoding: &Encoding) -> Bytes {
    let framing = encoding.framing();
    [framing.open, framing.close].concat().into()
}

/// Returns what a response to [`no_transactions`] says. A bridge may refuse such a body.
fn path(status: u16, is_html: bool) -> Path {
    match status {
        _ if is_success(status, is_html) => Path::Exists,
        400 | 422 if !is_html => Path::Exists,
        408 | 429 | 500 | 502..=504 => Path::Unknown,
        _ => Path::Wrong,
    }
}

/// Posts a request body to the bridge, with a token.
///
/// # Errors
/// [`NoResponse`] if the token or the response is missing.
pub async fn probe(
    bridge: &Bridge,
    body: Bytes,
    deadline: Deadline,
) -> Result<Response, NoResponse> {
    let no_token = |error: TokenError| NoResponse {
        why: error.to_string(),
        is_unreachable: false,
        may_be_size: false,
    };
    let token = bridge.tokens().token(deadline).await.map_err(no_token)?;
    let key = hex::encode(Sha256::digest(&body));
    let bytes = body.len();
    let Bridge { http, endpoint, .. } = bridge;
    let sent = post(http, endpoint, token.authorization(), &key, body)
        .timeout(deadline.time_left())
        .send()
        .await;
    let response = sent.map_err(|error| NoResponse {
        why: format!("{endpoint}: {}", in_words(endpoint, &error)),
        is_unreachable: error.is_connect(),
        may_be_size: is_hang_up(&error) || (error.is_timeout() && !error.is_connect()),
    })?;
    let (status, mut is_html) = (response.status(), is_html(response.headers()));
    let credentials = bridge.tokens().credentials().await;
    let secrets = Secrets::of(endpoint, &token, credentials.as_ref());
    let limit = HEAD + secrets.longest();
    let head = tokio::time::timeout(BODY_TIMEOUT, read_at_most(response, limit)).await;
    is_html |= matches!(&head, Ok(Ok(head)) if begins_html(head));
    let is_success = is_success(status.as_u16(), is_html);
    let refusal = (!is_success).then(|| match status.as_u16() {
        413 if bytes <= SMALL => format!(
            "{endpoint} returned {status} to a request of {bytes} bytes. Check the limits of the \
             bridge, and of any proxy in front of it"
        ),
        _ => describe(endpoint, status, is_html),
    });
    Ok(Response {
        path: path(status.as_u16(), is_html),
        status: status.to_string(),
        head: match head {
            Ok(read) => read
                .map(|body| secrets.mask(&body, HEAD))
                .map_err(|error| in_words(endpoint, &error)),
            Err(_) => Err(format!("nothing within {} s", BODY_TIMEOUT.as_secs())),
        },
        refusal,
        may_be_size: matches!(status.as_u16(), 400 | 403 | 413),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_says_whether_the_path_exists() {
        for (statuses, expected) in [
            (&[200, 202, 204, 400, 422][..], Path::Exists),
            (
                &[207, 302, 401, 403, 404, 405, 413, 415, 501, 505],
                Path::Wrong,
            ),
            (&[408, 429, 500, 502, 503, 504], Path::Unknown),
        ] {
            for &status in statuses {
                assert_eq!(path(status, false), expected, "{status}");
            }
        }
        for status in [200, 400, 404] {
            assert_eq!(path(status, true), Path::Wrong, "{status} with a page");
        }
    }
}

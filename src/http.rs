//! *HTTP*: what the requests to the bridge and to the token endpoint have in common.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};

use crate::endpoint::EndpointUrl;
use crate::retry::{causes, retry_after};
use crate::tls::{ServerTrust, TlsError, handshake_error};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections die while Lambda freezes the process. A short timeout leaves few of them to
/// fail after the thaw.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Returns a client. `local` says whether its endpoint is on this machine.
///
/// # Errors
/// [`TlsError`] if TLS cannot be set up.
#[expect(
    clippy::disallowed_methods,
    reason = "the only function that builds clients"
)]
pub(crate) fn client(tls: &Arc<ServerTrust>, local: bool) -> Result<reqwest::Client, TlsError> {
    let tls = tls.client_config(&[b"h2", b"http/1.1"])?;
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("edgetap/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        // A redirected POST would become a GET.
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls);
    if local {
        // Plain HTTP is allowed for loopback only, and a proxy would be another machine.
        builder = builder.no_proxy();
    }
    builder.build().map_err(|_| TlsError::Tls)
}

/// Returns the request that carries a body of transactions to the bridge, without a timeout.
pub(crate) fn post(
    client: &reqwest::Client,
    endpoint: &EndpointUrl,
    authorization: HeaderValue,
    idempotency_key: &str,
    body: Bytes,
) -> RequestBuilder {
    client
        .post(endpoint.url().clone())
        .header(CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", idempotency_key)
        .header(AUTHORIZATION, authorization)
        .body(body)
}

/// Whether a response is an HTML page by its type: a login page or a proxy's, not an API's.
pub(crate) fn is_html(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|essence| {
        essence.eq_ignore_ascii_case(b"text/html")
            || essence.eq_ignore_ascii_case(b"application/xhtml+xml")
    })
}

/// Whether a response's body begins like an HTML page, after white space.
pub(crate) fn begins_html(body: &[u8]) -> bool {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let body = body.trim_ascii_start();
    [b"<html".as_slice(), b"<!doctype html"]
        .iter()
        .any(|start| {
            body.get(..start.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
        })
}

/// Whether a response is an HTML page, by its type or else by the first piece of its body. That is
/// only waited for after a 2xx response without an API's type, at most for `time`.
pub(crate) async fn is_page(response: &mut Response, time: Duration) -> bool {
    if is_html(response.headers()) {
        return true;
    }
    if !response.status().is_success() || is_json(response.headers()) {
        return false;
    }
    let first = tokio::time::timeout(time, response.chunk()).await;
    matches!(first, Ok(Ok(Some(first))) if begins_html(&first))
}

fn is_json(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|essence| essence.eq_ignore_ascii_case(b"application/json"))
}

/// Returns the type of a response's body without its parameters.
fn essence(headers: &HeaderMap) -> Option<&[u8]> {
    let content_type = headers.get(CONTENT_TYPE)?.as_bytes();
    let essence = content_type.split(|byte| *byte == b';').next()?;
    Some(essence.trim_ascii())
}

/// Returns the wait that a response asks for in `Retry-After`.
pub(crate) fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?)
}

/// Reads at most `limit` bytes of a response's body.
///
/// # Errors
/// The client's, if the body breaks off.
pub(crate) async fn read_at_most(
    mut response: Response,
    limit: usize,
) -> Result<Vec<u8>, reqwest::Error> {
    let mut read = Vec::new();
    while read.len() < limit
        && let Some(chunk) = response.chunk().await?
    {
        read.extend_from_slice(&chunk[..chunk.len().min(limit - read.len())]);
    }
    Ok(read)
}

/// Returns why a request to `endpoint` failed, as text without its URL.
pub(crate) fn in_words(endpoint: &EndpointUrl, error: &reqwest::Error) -> String {
    if let (Some(failure), Some(proxy)) = (tunnel_failure(error), endpoint.proxy()) {
        return format!("cannot connect: the proxy {proxy} {failure}");
    }
    let cause = match error.source() {
        _ if error.is_timeout() => "timed out".to_owned(),
        Some(cause) => handshake_error(cause).unwrap_or_else(|| {
            if error.is_connect() {
                // The outer causes only name the layers of the HTTP client.
                innermost(cause).to_string()
            } else {
                causes(cause)
            }
        }),
        None => "unknown cause".to_owned(),
    };
    match () {
        () if error.is_connect() => format!("cannot connect: {cause}"),
        () if error.is_timeout() => "the request timed out".to_owned(),
        () => format!("the request failed: {cause}"),
    }
}

/// Whether a request failed because the TLS handshake did: the certificate is not accepted, or the
/// server does not speak TLS.
pub(crate) fn is_handshake_failure(error: &reqwest::Error) -> bool {
    error.is_connect() && error.source().and_then(handshake_error).is_some()
}

/// Whether a proxy, not the endpoint, is the reason why a request failed.
pub(crate) fn is_of_proxy(error: &reqwest::Error) -> bool {
    tunnel_failure(error).is_some()
}

/// Returns what a proxy did, if it made no tunnel to the endpoint. The status of its response is
/// lost in the HTTP client, except 407.
fn tunnel_failure(error: &reqwest::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        // The type is not public.
        let text = error.to_string();
        if let Some(what) = text.strip_prefix("tunnel error: ") {
            return Some(match (what, error.source()) {
                ("proxy authorization required", _) => {
                    "refused the tunnel with 407: it wants other credentials than its URL has"
                        .to_owned()
                }
                ("unsuccessful", _) => "refused the tunnel".to_owned(),
                ("failed to create underlying connection", Some(cause)) => {
                    let cause = handshake_error(cause).map_or_else(
                        || innermost(cause).to_string(),
                        |text| text.replace("the server", "the proxy"),
                    );
                    format!("cannot be reached: {cause}")
                }
                _ => format!("made no tunnel: {what}"),
            });
        }
        cause = error.source();
    }
    None
}

fn innermost<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

/// Whether the connection was closed before the response.
pub(crate) fn is_hang_up(error: &reqwest::Error) -> bool {
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

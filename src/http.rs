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
    authorization: &str,
    idempotency_key: &str,
    body: Bytes,
) -> RequestBuilder {
    let request = client
        .post(endpoint.url().clone())
        .header(CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", idempotency_key)
        .body(body);
    // If the token is not a valid header value, send the request without it: the bridge then
    // returns 401, and the token never appears in an error.
    match HeaderValue::from_str(authorization) {
        Ok(mut value) => {
            value.set_sensitive(true);
            request.header(AUTHORIZATION, value)
        }
        Err(_) => request,
    }
}

/// Whether a response is an HTML page: a login page or a proxy's, not an API's.
pub(crate) fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    essence.map(<[u8]>::trim_ascii).is_some_and(|essence| {
        essence.eq_ignore_ascii_case(b"text/html")
            || essence.eq_ignore_ascii_case(b"application/xhtml+xml")
    })
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

/// Returns why a request failed, as text without its URL.
pub(crate) fn in_words(error: &reqwest::Error) -> String {
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

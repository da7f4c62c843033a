//! *HTTP*: what the requests to the bridge and to the token endpoint have in common.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use url::{Host, Url};

use crate::retry::{causes, retry_after};
use crate::tls::{ServerTrust, TlsError, handshake_error};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections die while Lambda freezes the process. A short timeout leaves few of them to
/// fail after the thaw.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

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

/// Whether a URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// Whether a response is an HTML page: a login page or a proxy's, not an API's.
pub(crate) fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .map(aws_lambda_events::http::HeaderValue::as_bytes);
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

/// Describes a failed request, without its URL.
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

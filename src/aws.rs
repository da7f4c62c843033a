//! *AWS configuration* that all clients share: region and credentials by the SDK's rules,
//! timeouts, TLS on ring, and the network.

use std::fmt;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::RootCertStore;
use url::Url;

pub use aws_config::SdkConfig;

use crate::connector::Connector;
use crate::tls::{TlsError, client_config, public_roots};

/// Short, because in a VPC without an endpoint for the service every connection attempt times out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the head of a response.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Hosts that never use the proxy. Credentials come from some of them.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16";

/// The way to AWS.
#[derive(Clone, Debug)]
pub struct Network {
    pub proxy: Option<Proxy>,
    /// The certificates that servers, and an `https://` proxy, are trusted by.
    pub roots: RootCertStore,
}

/// No proxy, and the public roots.
impl Default for Network {
    fn default() -> Self {
        Self {
            proxy: None,
            roots: public_roots(),
        }
    }
}

/// An HTTP proxy for https.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its URL, with a scheme. It may contain credentials.
    pub url: String,
    /// Hosts that do not use it, separated by commas.
    pub exceptions: String,
}

/// Why a text is not the URL of an HTTP proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// It is not clear where its password ends and its host begins.
    Ambiguous,
    /// It has another scheme, no host or an invalid port.
    NotHttp,
}

impl Proxy {
    /// Returns the proxy at a URL, whose scheme is http by default.
    ///
    /// # Errors
    /// [`ProxyError`], without the text.
    pub fn new(url: &str, exceptions: &str) -> Result<Self, ProxyError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if let Some((before, _)) = rest.rsplit_once('@')
            && before.contains(['@', '/', '?', '#'])
        {
            return Err(ProxyError::Ambiguous);
        }
        let url = format!("{scheme}://{rest}");
        // All clients must be able to read it: those of AWS, and that of the bridge.
        let parsed = url.parse::<Url>().ok().filter(Url::has_host);
        let is_http = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https"));
        let proxy = Self {
            url,
            exceptions: exceptions.to_owned(),
        };
        let any = hyper::Uri::from_static("https://amazonaws.com");
        let without_exceptions = Matcher::builder().https(proxy.url.as_str()).build();
        if !is_http || without_exceptions.intercept(&any).is_none() {
            return Err(ProxyError::NotHttp);
        }
        Ok(proxy)
    }

    /// Returns the proxy in hyper's form. It is used for https only: over plain http, EC2 and ECS
    /// offer credentials, which no proxy may see.
    fn matcher(&self) -> Matcher {
        Matcher::builder()
            .https(self.url.as_str())
            .no(format!("{NEVER_PROXIED},{}", self.exceptions))
            .build()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("exceptions", &self.exceptions)
            .finish_non_exhaustive()
    }
}

/// Loads region, credentials and endpoints as the SDK finds them. Only some credential providers
/// use the network for it.
///
/// # Errors
/// [`TlsError::Tls`] if the TLS library rejects its own defaults.
pub async fn sdk_config(network: Network) -> Result<SdkConfig, TlsError> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build();
    Ok(aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client(network)?)
        .timeout_config(timeouts)
        .load()
        .await)
}

/// Returns the HTTP client of the AWS clients.
///
/// # Errors
/// [`TlsError::Tls`] if the TLS library rejects its own defaults.
pub fn http_client(network: Network) -> Result<SharedHttpClient, TlsError> {
    let proxies = network.proxy.as_ref().map(Proxy::matcher);
    let proxies = proxies.unwrap_or_else(|| Matcher::builder().build());
    let tls = client_config(network.roots)?;
    let connector = Connector::new(tls, proxies, CONNECT_TIMEOUT);
    Ok(SharedHttpClient::new(connector))
}

/// Returns what an operator does about an error that any AWS service may return, by its code, or by
/// its text if the service did not respond.
pub(crate) fn advice(code: Option<&str>, text: &str) -> Option<&'static str> {
    let Some(code) = code else {
        return Some(if text.contains("credential") {
            "Sign in to AWS, or set `AWS_PROFILE`"
        } else if text.contains("region") {
            "Set `AWS_REGION`"
        } else {
            "Check the network, the region and the endpoint"
        });
    };
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
            Some("The AWS credentials have expired: sign in again")
        }
        "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidToken"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => Some("Check the AWS credentials and `AWS_PROFILE`"),
        _ => None,
    }
}

//! *AWS configuration* that all clients share: region and credentials by the SDK's rules,
//! timeouts, TLS on ring, and the proxy.

use std::fmt;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector, tls};
use url::Url;

/// Short, because in a VPC without an endpoint for the service every connection attempt times out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the first byte of a response.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Hosts that never use the proxy. Credentials come from some of them.
const NEVER_PROXIED: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16";

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
        if !is_http || ProxyConfig::https(url.as_str()).is_err() {
            return Err(ProxyError::NotHttp);
        }
        Ok(Self {
            url,
            exceptions: exceptions.to_owned(),
        })
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
/// use the network for it. All clients use `proxy`.
pub async fn sdk_config(proxy: Option<Proxy>) -> SdkConfig {
    let proxy = proxy.map_or_else(ProxyConfig::disabled, proxy_config);
    let http = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build()
    });
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .load()
        .await
}

/// Returns the SDK's form of a proxy. It is used for https only: over plain http, EC2 and ECS offer
/// credentials, which no proxy may see.
fn proxy_config(proxy: Proxy) -> ProxyConfig {
    if let Ok(config) = ProxyConfig::https(proxy.url) {
        return config.no_proxy(format!("{NEVER_PROXIED},{}", proxy.exceptions));
    }
    // `Proxy::new` refuses such a URL.
    ProxyConfig::disabled()
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

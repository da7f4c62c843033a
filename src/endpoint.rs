//! *Endpoint*: the URL of the bridge or of the token endpoint.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, ParseError, Position, Url};

/// The URL of an endpoint. Its query is sent, and never shown: it may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

impl EndpointUrl {
    /// Returns the URL with its query. It must not be shown.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Returns the host in lower case and without the brackets of an IPv6 address, as TLS has it.
    pub fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns the port, by default that of the scheme.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            None => false,
        }
    }

    /// Returns host and port of the proxy that requests use, by the rules of the HTTP client
    /// (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`). It never contains the proxy's credentials.
    pub fn proxy(&self) -> Option<String> {
        if self.is_loopback() {
            return None;
        }
        let url: Uri = self.0.as_str().parse().ok()?;
        let proxy = Matcher::from_system().intercept(&url)?;
        let (host, port) = (proxy.uri().host()?, proxy.uri().port_u16());
        Some(port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }
}

impl From<Url> for EndpointUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl FromStr for EndpointUrl {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..Position::AfterPath])
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: T10
    #[test]
    fn endpoint_is_shown_without_its_query() {
        for (text, shown, host) in [
            (
                "https://A.example/b?code=canary",
                "https://a.example/b",
                "a.example",
            ),
            (
                "https://a.example:1/?canary",
                "https://a.example:1/",
                "a.example",
            ),
            ("http://[::1]:1/b#canary", "http://[::1]:1/b", "::1"),
        ] {
            let endpoint: EndpointUrl = text.parse().unwrap();
            assert_eq!(
                format!("{endpoint} {endpoint:?}"),
                format!("{shown} {shown}")
            );
            assert_eq!(endpoint.host(), host);
            assert!(endpoint.url().as_str().contains("canary"));
        }
    }
}

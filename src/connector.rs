//! *Connector*: the HTTP client of the AWS SDK.
//!
//! The SDK's own client would be a second HTTP and TLS stack, and would read the machine's
//! certificates before the first request. This one is hyper with rustls, which the client of the
//! bridge consists of too. It sends the target of a request as it was signed: a client that parses
//! it as a URL would resolve the `..` of a key.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{
    CaptureConnection, HttpConnector as TcpConnector, capture_connection,
};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::tls::{handshake_error, is_certificate_error};

/// What to do about a certificate that is not trusted.
const TRUST_HINT: &str =
    "If a proxy intercepts TLS, name a PEM file with its authority in `AWS_CA_BUNDLE`";

type BoxError = Box<dyn StdError + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
/// Plain to a server or an `http://` proxy, TLS to an `https://` proxy.
type Way = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Why a connection through a proxy failed.
#[derive(Debug, Error)]
#[error("the proxy of `HTTPS_PROXY` or `ALL_PROXY` gave no connection")]
struct NoTunnel(#[source] BoxError);

/// Makes the requests of all AWS clients, with one pool of connections.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    client: Client<Connect, SdkBody>,
    read_timeout: Option<Duration>,
}

impl Connector {
    /// Returns a connector that uses the proxies of `proxies`, and `tls` for https. A connection,
    /// with its TLS handshake, may take `connect_timeout`.
    pub(crate) fn new(tls: ClientConfig, proxies: Matcher, connect_timeout: Duration) -> Self {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let route = Route {
            to_proxy: HttpsConnector::from((tcp.clone(), tls.clone())),
            tcp,
            proxies: proxies.into(),
        };
        let connect = Connect {
            https: HttpsConnector::from((route, tls)),
            timeout: connect_timeout,
        };
        let mut client = Client::builder(TokioExecutor::new());
        Self {
            client: client.pool_timer(TokioTimer::new()).build(connect),
            read_timeout: None,
        }
    }
}

impl HttpClient for Connector {
    /// A read timeout counts from the start of a request, so that it bounds the connect timeout.
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Self {
            read_timeout: settings.read_timeout(),
            ..self.clone()
        })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mut request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        let connection = capture_connection(&mut request);
        if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
            capture.set_connection_retriever(move || retrieve(&connection));
        }
        let response = self.client.request(request);
        let timeout = self.read_timeout.unwrap_or(Duration::MAX);
        HttpConnectorFuture::new(async move {
            let response = within(timeout, response, "response").await;
            let response = response.map_err(connector_error)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Returns what lets the SDK close the connection of a failed request, so that no other gets it.
fn retrieve(connection: &CaptureConnection) -> Option<ConnectionMetadata> {
    connection.connection_metadata().as_ref()?;
    let connection = connection.clone();
    let poison = move || {
        if let Some(connected) = connection.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    let metadata = ConnectionMetadata::builder().proxied(false);
    Some(metadata.poison_fn(poison).build())
}

/// Waits for what a server does.
async fn within<T, E: Into<BoxError>>(
    timeout: Duration,
    done: impl Future<Output = Result<T, E>>,
    what: &str,
) -> Result<T, BoxError> {
    match tokio::time::timeout(timeout, done).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no {what} within {} s", timeout.as_secs_f32()),
        )
        .into()),
    }
}

/// Returns the error as the SDK classifies it. It retries timeouts, I/O errors and what is
/// transient, but no handshake whose certificate is not trusted.
fn connector_error(error: BoxError) -> ConnectorError {
    if is_certificate_error(&*error)
        && let Some(reason) = handshake_error(&*error)
    {
        let text = format!("{reason}. {TRUST_HINT}");
        return ConnectorError::other(text.into(), None);
    }
    let io = find::<io::Error>(&*error);
    let http = find::<hyper::Error>(&*error);
    let client = find::<ClientError>(&*error);
    if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
        return ConnectorError::timeout(error);
    }
    if io.is_some()
        || client.is_some_and(ClientError::is_connect)
        || http.is_some_and(|http| http.is_closed() || http.is_canceled())
    {
        return ConnectorError::io(error);
    }
    if http.is_some_and(hyper::Error::is_user) {
        return ConnectorError::user(error);
    }
    // S3 closes idle connections, at times while a request is on its way.
    let kind = http
        .is_some_and(hyper::Error::is_incomplete_message)
        .then_some(ErrorKind::TransientError);
    ConnectorError::other(error, kind)
}

/// Returns the first error of a type among an error and its causes.
fn find<'a, E: StdError + 'static>(mut error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    loop {
        match error.downcast_ref() {
            Some(found) => return Some(found),
            None => error = error.source()?,
        }
    }
}

/// Connects to servers, with TLS for https, in limited time.
#[derive(Clone, Debug)]
struct Connect {
    https: HttpsConnector<Route>,
    timeout: Duration,
}

impl Service<Uri> for Connect {
    type Response = MaybeHttpsStream<Way>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        Box::pin(within(self.timeout, self.https.call(server), "connection"))
    }
}

/// Connects to servers, or to a proxy that makes a tunnel to the server.
#[derive(Clone, Debug)]
struct Route {
    tcp: TcpConnector,
    to_proxy: HttpsConnector<TcpConnector>,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Route {
    type Response = Way;
    type Error = BoxError;
    type Future = Connecting<Way>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.intercept(&server) else {
            let connecting = self.tcp.call(server);
            return Box::pin(async { Ok(MaybeHttpsStream::Http(connecting.await?)) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Box::pin(async move {
            let connected = tunnel.call(server).await;
            connected.map_err(|error| NoTunnel(error.into()).into())
        })
    }
}

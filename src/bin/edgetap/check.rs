//! `edgetap check`: checks the configuration step by step. The first step that fails ends it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use edgetap::bridge::{Bridge, Endpoints};
use edgetap::config::{Config, Variables};
use edgetap::endpoint::EndpointUrl;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules};
use edgetap::probe::{self, probe};
use edgetap::time::Deadline;
use edgetap::tls::{ServerTrust, handshake_error};
use edgetap::token::TokenError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::output::{Hinted, StdoutError, stdout};
use crate::{Failure, connect};

/// Limit of each step that uses the network.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also post one transaction, labeled /edgetap-check, and show the bridge's response.
    #[arg(long)]
    send: bool,
}

pub(crate) async fn run(args: &Args, variables: &Variables) -> Result<(), Failure> {
    let config = Config::read(variables)?;
    let Endpoints { token, edge, .. } = config.bridge.endpoints.clone();
    writeln!(
        stdout(),
        "settings     ok\ntoken URL    {token}\nbridge URL   {edge}"
    )?;
    let bridge = connect(config.bridge).await?;

    let started = Instant::now();
    if let Err(error) = bridge.tokens().token(Deadline::after(PATIENCE)).await {
        return Err(no_token(error, &token, &edge, bridge.tls()).await);
    }
    writeln!(
        stdout(),
        "token        ok: received in {} ms",
        started.elapsed().as_millis()
    )?;

    if edge.is_https() {
        check_tls(&edge, bridge.tls()).await?;
    } else {
        writeln!(
            stdout(),
            "TLS          not used: the bridge is on this machine"
        )?;
    }

    if args.send {
        send(&bridge, Arc::new(config.rules)).await?;
        writeln!(
            stdout(),
            "transaction  ok: accepted; look for /edgetap-check in the platform"
        )?;
    } else {
        writeln!(stdout(), "transaction  not tested; use --send")?;
    }
    Ok(())
}

/// Returns the error for a token that was not received. `check` does not try again later, unlike
/// the function. Prints the certificates of the token endpoint if they are not trusted.
async fn no_token(
    error: TokenError,
    token: &EndpointUrl,
    edge: &EndpointUrl,
    tls: &Arc<ServerTrust>,
) -> Failure {
    let TokenError::Later { reason, .. } = error else {
        return error.into();
    };
    if reason.contains("certificate")
        && token.is_https()
        && let Ok(Handshake {
            chain,
            opened: Err(error),
        }) = shake_hands(token, tls).await
        && !chain.is_empty()
    {
        let is_bridge = token.host() == edge.host();
        return untrusted(token, is_bridge, &chain, &error);
    }
    let message = format!("cannot get a token: {reason}");
    let is_unreachable = [
        format!("{token}: cannot connect: "),
        format!("{token}: the request timed out"),
        format!("{token} did not return"),
    ]
    .iter()
    .any(|begin| reason.starts_with(begin));
    if is_unreachable && !reason.contains("certificate") {
        let hint = "check the host and port in BRIDGE_AUTH_ENDPOINT, and the proxy (HTTPS_PROXY) if there is one";
        let hint = hint.to_owned();
        return Hinted { message, hint }.into();
    }
    anyhow!(message).into()
}

/// Sends one transaction, as the function encodes it, and prints what the bridge returns.
async fn send(bridge: &Bridge, rules: Arc<Rules>) -> Result<(), Failure> {
    let now = jiff::Timestamp::now().as_millisecond();
    let agent = concat!("edgetap/", env!("CARGO_PKG_VERSION"), "%20check");
    let log = format!(
        "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem cs-uri-query sc-status x-host-header cs-protocol cs(User-Agent) x-edge-request-id\n\
         {now}\t192.0.2.1\tGET\t/edgetap-check\tsent-by=edgetap-check\t200\tedgetap.invalid\thttps\t{agent}\tedgetap-check-{now}\n"
    );
    let job = Job::all(ObjectRef::local("edgetap-check"));
    let batch = Batches::new(&job, io::Cursor::new(log), rules).next();
    let batch = batch.transpose()?.filter(|batch| batch.counts.sent == 1);
    let Some(batch) = batch else {
        return Err(Hinted {
            message: "the test transaction was not sent: EXCLUDE_PATHS excludes /edgetap-check"
                .to_owned(),
            hint: "remove the glob that matches it; it probably matches every path".to_owned(),
        }
        .into());
    };
    let failed = |why| anyhow!("the test transaction was not delivered: {why}");
    let response = probe(bridge, batch.body, Deadline::after(PATIENCE))
        .await
        .map_err(failed)?;
    let (status, head) = (response.status, head_text(&response.head));
    writeln!(stdout(), "response     {status}, {head}")?;
    match response.refusal {
        None => Ok(()),
        Some(why) => Err(failed(why).into()),
    }
}

/// Returns the beginning of a response's body in one line, with control characters as escapes, which
/// a terminal does not obey.
fn head_text(head: &Result<Vec<u8>, String>) -> String {
    let head = match head {
        Ok(head) if head.is_empty() => return "without a body".to_owned(),
        Ok(head) => head,
        Err(error) => return format!("whose body cannot be read: {error}"),
    };
    let mut text = "body: ".to_owned();
    for c in String::from_utf8_lossy(head).chars() {
        match c {
            '"' | '\'' | '\\' => text.push(c),
            c => text.extend(c.escape_debug()),
        }
    }
    if head.len() == probe::HEAD {
        text.push('…');
    }
    text
}

/// A TLS handshake, and the certificates that the server presented.
struct Handshake {
    chain: Vec<CertificateDer<'static>>,
    /// The protocol's version, or why the handshake failed.
    opened: Result<String, String>,
}

/// Opens TLS to an endpoint.
///
/// # Errors
/// If the endpoint cannot be reached.
async fn shake_hands(
    endpoint: &EndpointUrl,
    tls: &Arc<ServerTrust>,
) -> Result<Handshake, anyhow::Error> {
    let (host, port) = (endpoint.host().to_owned(), endpoint.port());
    let name = ServerName::try_from(host.clone())
        .with_context(|| format!("`{host}` is not a valid host name"))?;
    let recorder = Arc::new(Recorder {
        tls: tls.clone(),
        chain: Mutex::default(),
    });
    let mut config = tls.client_config(&[b"h2", b"http/1.1"])?;
    config
        .dangerous()
        .set_certificate_verifier(recorder.clone());

    let connect = async {
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .with_context(|| format!("cannot connect to {host}:{port}"))?;
        Ok::<_, anyhow::Error>(
            TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await,
        )
    };
    let opened = tokio::time::timeout(PATIENCE, connect)
        .await
        .map_err(|_| {
            let seconds = PATIENCE.as_secs();
            anyhow!("{host}:{port} did not complete a TLS handshake within {seconds} s")
        })??;
    let chain = recorder
        .chain
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    Ok(Handshake {
        chain,
        opened: match opened {
            Ok(stream) => Ok(version(stream.get_ref().1.protocol_version())),
            Err(error) => Err(handshake_error(&error).unwrap_or_else(|| error.to_string())),
        },
    })
}

/// Opens TLS to the bridge, and prints its certificates whether they are trusted or not.
async fn check_tls(edge: &EndpointUrl, tls: &Arc<ServerTrust>) -> Result<(), Failure> {
    let (host, port) = (edge.host(), edge.port());
    let Handshake { chain, opened } = shake_hands(edge, tls).await?;
    match opened {
        Ok(version) => {
            writeln!(
                stdout(),
                "TLS          ok: {version} to {host}:{port}, certificate trusted"
            )?;
            Ok(print_chain(&chain)?)
        }
        Err(error) if chain.is_empty() => {
            Err(anyhow!("cannot open TLS to {host}:{port}: {error}").into())
        }
        Err(error) => Err(untrusted(edge, true, &chain, &error)),
    }
}

/// Prints the certificates of an endpoint, and returns the error that they are not trusted.
/// `is_bridge` says whether the endpoint is on the bridge's host.
fn untrusted(
    endpoint: &EndpointUrl,
    is_bridge: bool,
    chain: &[CertificateDer<'_>],
    error: &str,
) -> Failure {
    let printed = print_chain(chain).and_then(|()| match chain.first() {
        Some(own) => writeln!(stdout(), "\n{}", pem(own)),
        None => Ok(()),
    });
    if let Err(error) = printed {
        return error.into();
    }
    let hint = if is_bridge {
        "compare the SHA-256 above with the bridge operator's. If it matches, save the PEM above as\n  \
         `bridge.pem` and set BRIDGE_CA_FILE=bridge.pem. If a private CA issued it, use the CA's\n  \
         certificate instead. For the function, run scripts/setup-tfvars.sh again, then terraform apply."
    } else {
        "if a private CA issued it, save the CA's certificate as `ca.pem` and set BRIDGE_CA_FILE=ca.pem.\n  \
         The file may have several certificates. A self-signed certificate is trusted for the bridge's\n  \
         host only. For the function, run scripts/setup-tfvars.sh again, then terraform apply."
    };
    Hinted {
        message: format!(
            "the certificate of {}:{} is not trusted: {error}",
            endpoint.host(),
            endpoint.port()
        ),
        hint: hint.to_owned(),
    }
    .into()
}

/// The protocol version as people write it: `TLS 1.3`, where rustls has `TLSv1_3`.
fn version(version: Option<rustls::ProtocolVersion>) -> String {
    let name = version
        .and_then(|version| version.as_str())
        .unwrap_or("TLS");
    name.replace("TLSv", "TLS ").replace('_', ".")
}

fn print_chain(chain: &[CertificateDer<'_>]) -> Result<(), StdoutError> {
    for certificate in chain {
        writeln!(stdout(), "{}", describe(certificate))?;
    }
    Ok(())
}

fn describe(der: &CertificateDer<'_>) -> String {
    let fingerprint: Vec<String> = Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return format!(
            "  unreadable certificate, SHA-256 {}",
            fingerprint.join(":")
        );
    };
    let names = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|names| {
            let names = names
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
                        .ok()
                        .map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
                    _ => None,
                });
            names.collect::<Vec<_>>().join(", ")
        });
    let validity = certificate.validity();
    let text = format!(
        "  subject {}\n    issuer {}\n    names {}\n    valid from {} to {}\n    SHA-256 {}",
        certificate.subject(),
        certificate.issuer(),
        names.unwrap_or_default(),
        validity.not_before,
        validity.not_after,
        fingerprint.join(":"),
    );
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
        lines.join("\n")
    )
}

/// Trusts what [`ServerTrust`] trusts, and keeps the chain that the server presented.
#[derive(Debug)]
struct Recorder {
    tls: Arc<ServerTrust>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        self.tls
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.tls
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.tls.supported_verify_schemes()
    }
}

//! `edgetap check`: is the configuration right? Each step is said in a line; the first that fails is explained.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use edgetap::config::{Config, Variables};
use edgetap::ingest::{Outcome, ingest};
use edgetap::job::{Job, ObjectRef};
use edgetap::retry::Deadline;
use edgetap::tls::ServerTrust;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{Failure, connect};

/// What `check` asks of the network may take so long, each time.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Post one transaction, labelled /edgetap-check.
    #[arg(long)]
    send: bool,
}

pub(crate) async fn run(args: &Args, variables: &Variables) -> Result<(), Failure> {
    let config = Config::read(variables)?;
    let edge = config.bridge.endpoints.edge.clone();
    println!(
        "configuration  ok: tokens from {}, transactions to {edge}",
        config.bridge.endpoints.token
    );
    let bridge = connect(config.bridge).await?;

    let started = Instant::now();
    bridge.tokens().token(Deadline::after(PATIENCE)).await?;
    println!(
        "token          ok: got one in {} ms",
        started.elapsed().as_millis()
    );

    if edge.scheme() == "https" {
        check_tls(&edge, bridge.tls()).await?;
    } else {
        println!("TLS            none: {edge} is this machine");
    }

    if args.send {
        send(&bridge, Arc::new(config.rules)).await?;
        println!("transaction    ok: accepted; look for /edgetap-check at the bridge");
    }
    Ok(())
}

/// Sends one transaction through the real pipeline.
async fn send(
    bridge: &edgetap::bridge::Bridge,
    rules: Arc<edgetap::pipeline::Rules>,
) -> Result<(), Failure> {
    let now = jiff::Timestamp::now().as_millisecond();
    let agent = concat!("edgetap/", env!("CARGO_PKG_VERSION"), "%20check");
    let log = format!(
        "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem cs-uri-query sc-status x-host-header cs-protocol cs(User-Agent) x-edge-request-id\n\
         {now}\t192.0.2.1\tGET\t/edgetap-check\tsent-by=edgetap-check\t200\tedgetap.invalid\thttps\t{agent}\tedgetap-check-{now}\n"
    );
    let job = Job::all(ObjectRef::local("edgetap-check"));
    let session = bridge.session(Deadline::after(PATIENCE));
    match ingest(&job, std::io::Cursor::new(log), &rules, &session, 1).await {
        Outcome::Complete(summary) if summary.counts.sent == 1 => Ok(()),
        Outcome::Complete(_) => Err(anyhow!("transaction: the bridge refuses it").into()),
        Outcome::Partial { why, .. } => Err(anyhow!("transaction: {why}").into()),
    }
}

/// Opens TLS to the bridge, and shows its certificates whether they are believed or not.
async fn check_tls(edge: &Url, tls: &Arc<ServerTrust>) -> Result<(), Failure> {
    let host = edge
        .host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = edge.port_or_known_default().unwrap_or(443);
    let name = ServerName::try_from(host.clone())
        .with_context(|| format!("TLS: {host} is no host name"))?;
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
            .with_context(|| format!("TLS: cannot connect to {host}:{port}"))?;
        Ok::<_, anyhow::Error>(
            TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await,
        )
    };
    let handshake = tokio::time::timeout(PATIENCE, connect)
        .await
        .map_err(|_| anyhow!("TLS: {host}:{port} does not answer"))??;
    let chain = recorder
        .chain
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let error = match handshake {
        Ok(stream) => {
            let version = stream
                .get_ref()
                .1
                .protocol_version()
                .and_then(|version| version.as_str().map(str::to_owned))
                .unwrap_or_default();
            println!(
                "TLS            ok: {version} to {host}:{port}, with a certificate that is believed"
            );
            print_chain(&chain);
            return Ok(());
        }
        Err(error) => error,
    };
    print_chain(&chain);
    let Some(own) = chain.first() else {
        return Err(anyhow!("TLS: {host}:{port}: {error}").into());
    };
    println!("\n{}", pem(own));
    Err(anyhow!(
        "TLS: the certificate of {host}:{port} is not believed: {error}\n\
         If its SHA-256 above is what the bridge's operator tells you, pin it: save the text above as bridge.pem and set \
         BRIDGE_CA_FILE=bridge.pem (for the Lambda: bridge_ca in the secret). If a private authority issued it, put that authority's certificate there instead."
    )
    .into())
}

fn print_chain(chain: &[CertificateDer<'_>]) {
    for certificate in chain {
        println!("{}", describe(certificate));
    }
}

fn describe(der: &CertificateDer<'_>) -> String {
    let fingerprint: Vec<String> = Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return format!(
            "  a certificate that cannot be read, SHA-256 {}",
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
        "  subject {}\n    issuer {}\n    for {}\n    from {} to {}\n    SHA-256 {}",
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

/// Believes what [`ServerTrust`] believes, and keeps what it was shown.
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

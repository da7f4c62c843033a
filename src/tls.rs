//! *Server trust*: the public roots are trusted for every host. The operator's authorities are
//! trusted for the bridge and the token endpoint, and a certificate that is not an authority's for
//! the bridge only: it is a pin.
//!
//! No setting turns verification off.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError,
    PeerIncompatible, RootCertStore, SignatureScheme,
};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The reason why TLS cannot be set up. The caller prefixes the name of the setting that holds the
/// certificates.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TlsError {
    #[error("the text contains no certificate; PEM starts with -----BEGIN CERTIFICATE-----")]
    Empty,
    #[error("the PEM text contains an entry that is not a valid X.509 certificate")]
    NotCertificate,
    #[error("the TLS library rejected its configuration")]
    Tls,
}

/// The certificates by which the AWS clients trust servers, unless the environment names others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The public roots, which are compiled in: reading others takes longer than all else at the
    /// first event of a function.
    Public,
    /// Also the machine's, which may have those of a proxy that intercepts TLS.
    PublicAndMachine,
}

/// The operator's own certificates.
#[derive(Debug)]
struct OperatorCertificates {
    pins: Vec<CertificateDer<'static>>,
    /// Trusts all of them.
    bridge: Arc<WebPkiServerVerifier>,
    /// Trusts the authorities among them.
    token_endpoint: Arc<WebPkiServerVerifier>,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It was not issued by a trusted CA, or is self-signed.
    Issuer,
    Expired,
    /// It is for other hosts.
    Name,
    Other,
}

/// What a server presented in its last TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Its certificate, then the others that it sent.
    pub chain: Vec<CertificateDer<'static>>,
    /// Why its certificate is not trusted, and in words.
    pub distrust: Option<(Flaw, String)>,
    /// The protocol; `None` if the handshake did not get that far.
    pub version: Option<&'static str>,
}

/// Trusts the public roots, and for two hosts also the operator's certificates.
#[derive(Debug)]
pub struct ServerTrust {
    bridge: String,
    token_endpoint: String,
    provider: Arc<CryptoProvider>,
    public: Arc<WebPkiServerVerifier>,
    own: RwLock<Option<OperatorCertificates>>,
    /// By host.
    presented: Mutex<BTreeMap<String, Presented>>,
}

impl ServerTrust {
    /// Returns a verifier that trusts the public roots only, for a bridge and a token endpoint at
    /// these hosts, which have no brackets.
    ///
    /// # Errors
    /// [`TlsError::Tls`] if the TLS library rejects its own defaults.
    pub fn new(bridge: &str, token_endpoint: &str) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let public = verifier(&provider, public_roots())?;
        Ok(Arc::new(Self {
            bridge: bridge.to_owned(),
            token_endpoint: token_endpoint.to_owned(),
            provider,
            public,
            own: RwLock::new(None),
            presented: Mutex::default(),
        }))
    }

    /// Returns what the server at `host` (without brackets) presented last. `None` if no TLS
    /// handshake with it got as far as its certificate.
    pub fn presented(&self, host: &str) -> Option<Presented> {
        let presented = self.presented.lock();
        let presented = presented.unwrap_or_else(PoisonError::into_inner);
        presented.get(&host.to_ascii_lowercase()).cloned()
    }

    /// Notes the protocol of the handshakes in which `certificate` was presented.
    fn note_version(&self, certificate: &CertificateDer<'_>, version: &'static str) {
        let presented = self.presented.lock();
        let mut presented = presented.unwrap_or_else(PoisonError::into_inner);
        let is_own = |server: &&mut Presented| server.chain.first() == Some(certificate);
        for server in presented.values_mut().filter(is_own) {
            server.version = Some(version);
        }
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let is_at = |host: &str| server_name.to_str().eq_ignore_ascii_case(host);
        let verifier = match own.as_ref() {
            // webpki rejects a self-signed CA certificate as a server certificate
            // (`CaUsedAsEndEntity`). An exact match is stronger than any chain, whatever host name
            // the certificate is for.
            Some(own) if is_at(&self.bridge) && own.pins.iter().any(|pin| pin == end_entity) => {
                return Ok(ServerCertVerified::assertion());
            }
            Some(own) if is_at(&self.bridge) => &own.bridge,
            Some(own) if is_at(&self.token_endpoint) => &own.token_endpoint,
            _ => &self.public,
        };
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    /// Returns the bridge's host, without brackets.
    pub(crate) fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Trusts these certificates (PEM). They replace those set before.
    ///
    /// # Errors
    /// [`TlsError::Empty`] or [`TlsError::NotCertificate`], depending on the text.
    pub fn set_operator_certificates(&self, pem: &str) -> Result<(), TlsError> {
        let pins: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NotCertificate)?;
        if pins.is_empty() {
            return Err(TlsError::Empty);
        }
        let [mut bridge, mut token_endpoint] = [public_roots(), public_roots()];
        for certificate in &pins {
            let add = |roots: &mut RootCertStore| {
                let added = roots.add(certificate.clone());
                added.map_err(|_| TlsError::NotCertificate)
            };
            add(&mut bridge)?;
            if is_authority(certificate) {
                add(&mut token_endpoint)?;
            }
        }
        let own = OperatorCertificates {
            bridge: verifier(&self.provider, bridge)?,
            token_endpoint: verifier(&self.provider, token_endpoint)?,
            pins,
        };
        // A poisoned lock still holds a consistent value, because the value is only ever replaced.
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = Some(own);
        Ok(())
    }

    /// Returns a TLS client configuration that verifies with `self` and offers `protocols` (ALPN).
    ///
    /// # Errors
    /// [`TlsError::Tls`] if the TLS library rejects its own defaults.
    pub fn client_config(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::Tls)?
            // rustls' term for any custom verifier; this one only adds the operator's certificates.
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

impl Roots {
    /// Returns the certificates. Those of the machine that cannot be read are left out.
    pub(crate) fn load(self) -> RootCertStore {
        let mut roots = public_roots();
        if self == Self::PublicAndMachine {
            roots.add_parsable_certificates(load_native_certs().certs);
        }
        roots
    }
}

/// Returns the certificates (PEM) of files and directories. Warns of those that cannot be read.
///
/// # Errors
/// The reason in words, if no certificate can be used.
pub(crate) fn roots_of(paths: impl Iterator<Item = PathBuf>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let mut errors = Vec::new();
    for path in paths {
        let found = if path.is_dir() {
            load_certs_from_paths(None, Some(&path))
        } else {
            load_certs_from_paths(Some(&path), None)
        };
        roots.add_parsable_certificates(found.certs);
        errors.extend(found.errors);
    }
    if roots.is_empty() {
        let first = errors.first().map(ToString::to_string);
        return Err(first.unwrap_or_else(|| TlsError::Empty.to_string()));
    }
    for error in errors {
        tracing::warn!(%error, "failed to read a certificate");
    }
    Ok(roots)
}

/// Returns a TLS client configuration that trusts `roots`, for HTTP/1.1.
///
/// # Errors
/// [`TlsError::Tls`] if the TLS library rejects its own defaults.
pub(crate) fn client_config(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Returns the reason of a failed TLS handshake in plain words, or `None` if no TLS error is among
/// the causes of `error`.
pub fn handshake_error(error: &(dyn Error + 'static)) -> Option<String> {
    tls_cause(error).map(in_words)
}

/// Whether the TLS handshake failed because the server's certificate was rejected.
pub(crate) fn is_certificate_error(error: &(dyn Error + 'static)) -> bool {
    matches!(tls_cause(error), Some(rustls::Error::InvalidCertificate(_)))
}

fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // `io::Error::source` skips the error that it wraps.
    let wrapped = error.downcast_ref::<io::Error>().and_then(|error| {
        error
            .get_ref()
            .map(|wrapped| wrapped as &(dyn Error + 'static))
    });
    tls_cause(wrapped.or_else(|| error.source())?)
}

fn flaw(error: &rustls::Error) -> Flaw {
    let rustls::Error::InvalidCertificate(problem) = error else {
        return Flaw::Other;
    };
    match problem {
        CertificateError::UnknownIssuer => Flaw::Issuer,
        CertificateError::Other(other) if is_authority_as_server(other) => Flaw::Issuer,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Flaw::Expired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Flaw::Name
        }
        _ => Flaw::Other,
    }
}

/// The type is webpki's own; only its text is accessible.
fn is_authority_as_server(error: &OtherError) -> bool {
    error.to_string() == "CaUsedAsEndEntity"
}

fn in_words(error: &rustls::Error) -> String {
    let text = match error {
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS on this port",
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer => {
                "the server's certificate was not issued by a trusted CA"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is not valid for this host name"
            }
            CertificateError::BadSignature => {
                "the server's certificate names a trusted issuer, but another key signed it"
            }
            CertificateError::Other(other) if is_authority_as_server(other) => {
                "the server's certificate is self-signed (or a CA certificate) and not trusted"
            }
            CertificateError::Revoked => "the server's certificate was revoked",
            CertificateError::Other(other) => {
                return format!("the server's certificate is not valid: {other}");
            }
            problem => return format!("the server's certificate is not valid: {problem}"),
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate, which edgetap does not have"
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            "the server supports neither TLS 1.2 nor TLS 1.3"
        }
        rustls::Error::AlertReceived(alert) => {
            return format!("the server ended the TLS handshake with the alert {alert:?}");
        }
        _ => return format!("the TLS handshake failed: {error}"),
    };
    text.to_owned()
}

/// Whether a certificate says that it is a CA's. webpki accepts any certificate as a root.
fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// Returns the public roots, which are compiled in.
pub(crate) fn public_roots() -> RootCertStore {
    RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    }
}

fn verifier(
    provider: &Arc<CryptoProvider>,
    roots: RootCertStore,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|_| TlsError::Tls)
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verify(end_entity, intermediates, server_name, ocsp_response, now);
        let chain = std::iter::once(end_entity).chain(intermediates);
        let presented = Presented {
            chain: chain.map(|own| own.clone().into_owned()).collect(),
            distrust: verified
                .as_ref()
                .err()
                .map(|error| (flaw(error), in_words(error))),
            version: None,
        };
        let host = server_name.to_str().to_ascii_lowercase();
        let mut last = self
            .presented
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.insert(host, presented);
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note_version(certificate, "TLS 1.2");
        self.public
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.note_version(certificate, "TLS 1.3");
        self.public
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.public.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_errors_are_in_words() {
        let other = |name: &'static str| {
            let other = rustls::OtherError(Arc::from(Box::from(name)));
            rustls::Error::InvalidCertificate(CertificateError::Other(other))
        };
        for (error, words) in [
            (
                other("CaUsedAsEndEntity"),
                "is self-signed (or a CA certificate)",
            ),
            (
                other("UnsupportedCertVersion"),
                "certificate is not valid: UnsupportedCertVersion",
            ),
            (
                CertificateError::BadEncoding.into(),
                "certificate is not valid: ",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                "requires a client certificate",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::HandshakeFailure),
                "with the alert HandshakeFailure",
            ),
            (
                PeerIncompatible::ServerDoesNotSupportTls12Or13.into(),
                "supports neither TLS 1.2 nor TLS 1.3",
            ),
        ] {
            let wrapped = io::Error::other(error);
            let text = handshake_error(&wrapped).unwrap();
            assert!(text.contains(words), "{text}");
        }
    }
}

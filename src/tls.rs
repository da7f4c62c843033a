//! *Server trust*: the public roots are trusted for every host. The operator's own
//! certificates are trusted for the bridge's host only: private CAs, or the bridge's self-signed
//! certificate, which is then pinned.
//!
//! No setting turns verification off.

use std::error::Error;
use std::io;
use std::sync::{Arc, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use thiserror::Error;

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

/// The operator's own certificates.
#[derive(Debug)]
struct OperatorCertificates {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

/// Trusts the public roots, and for one host also the operator's certificates.
#[derive(Debug)]
pub struct ServerTrust {
    host: String,
    provider: Arc<CryptoProvider>,
    public: Arc<WebPkiServerVerifier>,
    own: RwLock<Option<OperatorCertificates>>,
}

impl ServerTrust {
    /// Returns a verifier for a bridge at `host` that trusts the public roots only.
    ///
    /// # Errors
    /// [`TlsError::Tls`] if the TLS library rejects its own defaults.
    pub fn new(host: &str) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let public = verifier(&provider, public_roots())?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        Ok(Arc::new(Self {
            host,
            provider,
            public,
            own: RwLock::new(None),
        }))
    }

    /// Returns the host for which the operator's certificates are trusted, in lower case and
    /// without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Trusts these certificates (PEM) for the bridge's host. They replace those set before.
    ///
    /// # Errors
    /// [`TlsError::Empty`] or [`TlsError::NotCertificate`], depending on the text.
    pub fn set_operator_certificates(&self, pem: &str) -> Result<(), TlsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NotCertificate)?;
        if certificates.is_empty() {
            return Err(TlsError::Empty);
        }
        let mut roots = public_roots();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|_| TlsError::NotCertificate)?;
        }
        let own = OperatorCertificates {
            verifier: verifier(&self.provider, roots)?,
            certificates,
        };
        // A poisoned lock still holds a consistent value, because the value is only ever replaced.
        *self
            .own
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(own);
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
            // The type that `Other` holds is webpki's own; only its text is accessible.
            CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
                "the server's certificate is self-signed (or a CA certificate) and not trusted"
            }
            _ => return error.to_string(),
        },
        _ => return error.to_string(),
    };
    text.to_owned()
}

fn public_roots() -> RootCertStore {
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
        let own = self
            .own
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match own
            .as_ref()
            .filter(|_| server_name.to_str().eq_ignore_ascii_case(&self.host))
        {
            // webpki rejects a self-signed CA certificate as a server certificate
            // (`CaUsedAsEndEntity`). An exact match is stronger than any chain, whatever host name
            // the certificate is for.
            Some(own) if own.certificates.iter().any(|pin| pin == end_entity) => {
                Ok(ServerCertVerified::assertion())
            }
            Some(own) => own.verifier.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => self.public.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.public
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.public
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.public.supported_verify_schemes()
    }
}

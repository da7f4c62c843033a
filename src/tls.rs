//! *Trust*: whose certificates are believed. The public roots for every host; for the bridge's host also the operator's
//! own certificates: authorities, or the bridge's own self-signed one, which is then a pin.
//!
//! There is no switch that turns verification off.

use std::sync::{Arc, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

/// Why certificates cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TlsError {
    /// No certificate in the text.
    #[error("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    Empty,
    /// Something in it that is not a certificate.
    #[error("holds something that is not an X.509 certificate")]
    NotCertificate,
    /// The TLS library refused to be set up.
    #[error("cannot be set up for TLS")]
    Tls,
}

/// The operator's own certificates.
#[derive(Debug)]
struct Own {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

/// Believes the public roots, and for one host the operator's certificates too.
#[derive(Debug)]
pub struct ServerTrust {
    host: String,
    provider: Arc<CryptoProvider>,
    public: Arc<WebPkiServerVerifier>,
    own: RwLock<Option<Own>>,
}

impl ServerTrust {
    /// Trust for a bridge at `host`, with the public roots only.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
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

    /// Believes these certificates (PEM) for the bridge's host, in place of those given before.
    ///
    /// # Errors
    /// When the text holds no certificate, or something else.
    pub fn set_own(&self, pem: &str) -> Result<(), TlsError> {
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
        let own = Own {
            verifier: verifier(&self.provider, roots)?,
            certificates,
        };
        // A poisoned lock holds a whole value all the same: it is only ever replaced.
        *self
            .own
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(own);
        Ok(())
    }

    /// A TLS client that trusts accordingly, offering the application protocols named.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn client_config(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::Tls)?
            .dangerous() // rustls' word for any verifier that is not its own; this one adds a pin to it
            .with_custom_certificate_verifier(self.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
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
            // A certificate that is its own issuer cannot be verified as a root (`CaUsedAsEndEntity`); to be the very
            // certificate that the operator named says more than any chain.
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

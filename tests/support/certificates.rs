//! Certificates for servers of the tests.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

/// A server with a certificate that is self-signed or issued by a private CA.
pub(crate) struct Certificates {
    pub(crate) server: Arc<rustls::ServerConfig>,
    pub(crate) own_pem: String,
    pub(crate) ca_pem: Option<String>,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    PrivateCa,
    /// Issued by a private CA, and expired.
    Expired,
    SelfSigned,
    SelfSignedCa,
}

pub(crate) fn certificates(kind: Kind, names: &[&str]) -> Certificates {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca_params
        .distinguished_name
        .push(DnType::CommonName, "Private CA");
    let (certificate, ca_pem) = match kind {
        Kind::PrivateCa | Kind::Expired => {
            if matches!(kind, Kind::Expired) {
                params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            }
            let ca = CertifiedIssuer::self_signed(ca_params, KeyPair::generate().unwrap()).unwrap();
            (params.signed_by(&key, &ca).unwrap(), Some(ca.pem()))
        }
        Kind::SelfSigned => (params.self_signed(&key).unwrap(), None),
        Kind::SelfSignedCa => {
            params.is_ca = ca_params.is_ca;
            (params.self_signed(&key).unwrap(), None)
        }
    };
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )
    .unwrap();
    Certificates {
        server: Arc::new(server),
        own_pem: certificate.pem(),
        ca_pem,
    }
}

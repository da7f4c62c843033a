//! Certificates as text: what `edgetap check` shows of a chain.

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Returns subject, issuer, names, validity and SHA-256 of a certificate, in several lines.
pub(crate) fn describe(der: &CertificateDer<'_>) -> String {
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

/// Whether a certificate's validity is over.
pub(crate) fn is_expired(der: &CertificateDer<'_>) -> bool {
    let now = jiff::Timestamp::now().as_second();
    X509Certificate::from_der(der)
        .is_ok_and(|(_, certificate)| certificate.validity().not_after.timestamp() < now)
}

/// Returns a certificate in PEM, without a line break at its end.
pub(crate) fn pem(der: &CertificateDer<'_>) -> String {
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

//! *Redact*: removes credentials from a transaction before it is encoded.
//!
//! Three words, each with one meaning. *Redact* is the whole feature. *Mask* replaces a credential
//! in a URL by `REDACTED`. *Hash* replaces the value of a cookie by a keyed hash.
//!
//! The values of query and path parameters that hold credentials are masked. So are the password
//! before the host of a URL, and the payload and signature of a JSON Web Token (RFC 7519).

mod cursor;
mod finder;
mod mask;
mod names;
mod web_token;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::transaction::Transaction;
use finder::Finder;

pub(crate) use names::MAX_NAME;

pub use mask::Part;
pub use names::{Names, NamesError};

/// Bytes of an HMAC that are kept: enough to distinguish sessions.
const DIGEST_BYTES: usize = 12;

/// The key of [`Cookies::Hash`].
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    pub(crate) const MIN_BYTES: usize = 16;

    /// Returns `None` if the key is shorter than `MIN_BYTES`.
    pub fn new(key: impl Into<Vec<u8>>) -> Option<Self> {
        Some(key.into())
            .filter(|key| key.len() >= Self::MIN_BYTES)
            .map(Self)
    }

    /// Returns hexadecimal digits that differ for other keys and do not reveal this one.
    pub(crate) fn fingerprint(&self) -> String {
        ::hex::encode(Sha256::digest([&b"redaction key\0"[..], &self.0].concat()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Handling of cookies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cookies {
    /// Names and values. CloudFront logs cookies only if the operator asked for it.
    #[default]
    Keep,
    Drop,
    /// Names, with a truncated HMAC-SHA-256 for each value, so that sessions stay distinguishable.
    /// Without a key, cookies are dropped. The key may come with the secret, after the start.
    Hash(Option<Key>),
}

/// Settings of the redaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// The parameters whose values are masked in URLs, along with passwords before a host and
    /// tokens; `None` if nothing is.
    pub urls: Option<Names>,
    pub cookies: Cookies,
}

impl Default for Redaction {
    fn default() -> Self {
        Self {
            urls: Some(Names::default()),
            cookies: Cookies::Keep,
        }
    }
}

impl Redaction {
    /// Returns the transaction without its credentials. Values that change are written to
    /// `scratch`, which is cleared first.
    pub fn redact<'a>(
        &self,
        transaction: &Transaction<'a>,
        scratch: &'a mut Vec<u8>,
    ) -> Transaction<'a> {
        scratch.clear();
        let mut path_len = transaction.path_len;
        let names = self.urls.as_ref();
        let target =
            names.and_then(|names| mask_target(transaction, names, &mut path_len, scratch));
        let referer = transaction
            .referer
            .zip(names)
            .and_then(|(referer, names)| mask::mask(referer, Part::Url, names, scratch));
        let cookie = transaction.cookie.and_then(|cookie| match &self.cookies {
            Cookies::Hash(Some(key)) => Some(hash_cookies(cookie, key, scratch)),
            _ => None,
        });
        let keeps_cookies = !matches!(self.cookies, Cookies::Drop | Cookies::Hash(None));
        let scratch: &'a [u8] = scratch;
        let masked = |range: Range<usize>| &scratch[range];
        Transaction {
            target: target.map_or(transaction.target, masked),
            path_len,
            referer: referer.map(masked).or(transaction.referer),
            cookie: cookie
                .map(masked)
                .or(transaction.cookie.filter(|_| keeps_cookies)),
            ..*transaction
        }
    }

    /// Masks credentials in any other decoded value.
    pub fn mask_value<'a>(
        &self,
        value: &'a [u8],
        part: Part,
        scratch: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        scratch.clear();
        let names = self.urls.as_ref();
        match names.and_then(|names| mask::mask(value, part, names, scratch)) {
            Some(range) => &scratch[range],
            None => value,
        }
    }

    /// Returns by what the credentials in a decoded value were recognized, for people.
    pub fn reasons(&self, value: &[u8], part: Part) -> BTreeSet<String> {
        let names = self.urls.iter();
        names
            .flat_map(|names| Finder::new(value, part, names))
            .map(|credential| credential.reason.to_string())
            .collect()
    }
}

/// Masks path and query separately, because a logged path can contain a `?`. Returns `None`, and
/// appends nothing, if there is nothing to mask.
fn mask_target(
    transaction: &Transaction<'_>,
    names: &Names,
    path_len: &mut usize,
    out: &mut Vec<u8>,
) -> Option<Range<usize>> {
    if mask::is_plain(transaction.target, names) {
        return None;
    }
    let start = out.len();
    let path = mask::mask(transaction.path(), Part::Path, names, out);
    let masked = path.is_some();
    if !masked {
        out.extend_from_slice(transaction.path());
    }
    let path_end = out.len();
    let mut query_masked = false;
    if let Some(query) = transaction.query() {
        out.push(b'?');
        query_masked = mask::mask(query, Part::Query, names, out).is_some();
        if !query_masked {
            out.extend_from_slice(query);
        }
    }
    if !masked && !query_masked {
        out.truncate(start);
        return None;
    }
    *path_len = path_end - start;
    Some(start..out.len())
}

/// Appends a `Cookie` field with its values hashed.
fn hash_cookies(field: &[u8], key: &Key, out: &mut Vec<u8>) -> Range<usize> {
    let start = out.len();
    for (index, cookie) in field.split(|byte| *byte == b';').enumerate() {
        if index > 0 {
            out.push(b';');
        }
        // A cookie without `=` is all value.
        let value = memchr::memchr(b'=', cookie)
            .map_or(cookie.len() - cookie.trim_ascii_start().len(), |at| at + 1);
        out.extend_from_slice(&cookie[..value]);
        if value < cookie.len() {
            out.extend_from_slice(digest(&cookie[value..], key).as_bytes());
        }
    }
    start..out.len()
}

fn digest(value: &[u8], key: &Key) -> String {
    // HMAC accepts keys of any length, so this cannot fail.
    Hmac::<Sha256>::new_from_slice(&key.0).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(value);
            URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..DIGEST_BYTES])
        },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    // proves: I86
    #[test]
    fn reasons_name_what_a_credential_was_recognized_by() {
        let redaction = Redaction::default();
        for (text, expected) in [
            (
                "newPassword=x&csrf_token=abcdef",
                &["`*_token`", "`new_password`"][..],
            ),
            ("u=https://me:secret@h/", &["password before a host"]),
            ("t=eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln", &["JSON Web Token"]),
            ("a=Bearer+abc123", &["`Bearer`"]),
            ("a=1", &[]),
        ] {
            let reasons = redaction.reasons(text.as_bytes(), Part::Query);
            assert_eq!(Vec::from_iter(reasons), expected, "{text}");
        }
    }

    // proves: I36
    #[test]
    fn cookie_hash_depends_on_value_and_key() {
        let [one, other] =
            ["a key of 16 bytes", "another of 16 bytes"].map(|key| Key::new(key).unwrap());
        assert_eq!(Key::new("short"), None);
        let hash = |field: &str, key| {
            let mut out = Vec::new();
            let range = hash_cookies(field.as_bytes(), key, &mut out);
            String::from_utf8(out[range].to_vec()).unwrap()
        };
        let text = hash("sid=secret; empty=; theme=dark;other=secret; bare", &one);
        let values: Vec<&str> = text
            .split(';')
            .map(|cookie| {
                cookie
                    .split_once('=')
                    .map_or(cookie.trim(), |(_, value)| value)
            })
            .collect();
        assert_eq!(
            text,
            format!(
                "sid={}; empty=; theme={};other={}; {}",
                values[0], values[2], values[0], values[4]
            )
        );
        assert_eq!(values[0].len(), 16);
        assert_ne!(values[0], values[2]);
        assert!(!text.contains("secret"), "{text}");
        assert!(!text.contains("bare"), "{text}");
        assert_ne!(
            text,
            hash("sid=secret; empty=; theme=dark;other=secret; bare", &other)
        );
        // printf secret | openssl dgst -sha256 -hmac 'a key of 16 bytes' -binary |
        //   head -c 12 | base64
        assert_eq!(digest(b"secret", &one), "Jb66h3DXLgPd_8Sn");
    }
}

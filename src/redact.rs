//! *Redact*: removes credentials from a transaction before it is encoded.
//!
//! Three words, each with one meaning. *Redact* is the whole feature. *Mask* replaces a credential
//! in a URL by `REDACTED`. *Hash* replaces the value of a cookie by a keyed hash.
//!
//! The values of query and path parameters that hold credentials are masked: those of
//! OpenTelemetry's semantic conventions (`url.full`, `url.query`), CloudFront's signed URLs, OAuth
//! 2.0 and login forms. So are the user information of a URL, and the signature of anything shaped
//! like a JSON Web Token (RFC 7519), which leaves the token readable but unusable.

use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::simd::{Positions, equal, hex};
use crate::transaction::Transaction;

/// Replaces a credential.
const MASK: &[u8] = b"REDACTED";

/// Parameters that hold credentials, in lower case.
const CREDENTIALS: [&[u8]; 16] = [
    b"x-amz-signature",
    b"x-amz-credential",
    b"x-amz-security-token",
    b"awsaccesskeyid",
    b"signature",
    b"sig",
    b"x-goog-signature",
    // These two and `Signature` make a CloudFront signed URL.
    b"policy",
    b"key-pair-id",
    b"password",
    b"passwd",
    b"pwd",
    b"client_secret",
    b"access_token",
    b"refresh_token",
    b"id_token",
];

/// Upper bound on the length of a name in [`CREDENTIALS`].
const MAX_NAME: usize = 24;
/// Layers of percent-encoding that are decoded to find a URL inside a URL.
const MAX_DEPTH: u8 = 4;
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
    /// Whether credentials in URLs are masked.
    pub urls: bool,
    pub cookies: Cookies,
}

impl Default for Redaction {
    fn default() -> Self {
        Self {
            urls: true,
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
        let target = if self.urls {
            mask_target(transaction, &mut path_len, scratch)
        } else {
            None
        };
        let referer = transaction
            .referer
            .filter(|_| self.urls)
            .and_then(|referer| mask_url(referer, Part::Path, scratch));
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

    /// Masks credentials in any other decoded value, as in a query.
    pub fn mask_value<'a>(&self, value: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        scratch.clear();
        match mask_url(value, Part::Query, scratch).filter(|_| self.urls) {
            Some(range) => &scratch[range],
            None => value,
        }
    }
}

/// Masks path and query separately, because a logged path can contain a `?`. Returns `None`, and
/// appends nothing, if there is nothing to mask.
fn mask_target(
    transaction: &Transaction<'_>,
    path_len: &mut usize,
    out: &mut Vec<u8>,
) -> Option<Range<usize>> {
    if is_plain(transaction.target) {
        return None;
    }
    let start = out.len();
    let path = mask_url(transaction.path(), Part::Path, out);
    let masked = path.is_some();
    if !masked {
        out.extend_from_slice(transaction.path());
    }
    let path_end = out.len();
    let mut query_masked = false;
    if let Some(query) = transaction.query() {
        out.push(b'?');
        query_masked = mask_url(query, Part::Query, out).is_some();
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

/// The part of a URL in which a string begins. In a path, `/`, `?` and `;` end the value of a
/// parameter (`;name=value`). After the first `?` or `#`, only `&` and `#` do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Query,
}

/// Appends the text with its credentials masked. Returns `None`, and appends nothing, if it has
/// none.
fn mask_url(text: &[u8], part: Part, out: &mut Vec<u8>) -> Option<Range<usize>> {
    if is_plain(text) {
        return None;
    }
    let start = out.len();
    let mut copied = 0;
    let mut find = Finder {
        text,
        at: 0,
        part,
        name: Name::default(),
    };
    while let Some(credential) = find.next() {
        out.extend_from_slice(&text[copied..credential.start]);
        out.extend_from_slice(MASK);
        copied = credential.end;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&text[copied..]);
    Some(start..out.len())
}

/// Fast path: whether `text` certainly has no credential. It has neither `%`, `@` nor `]`, does not
/// contain the start of a token, and no `=` follows the name of a credential. Most logged values
/// are plain.
fn is_plain(text: &[u8]) -> bool {
    let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let is_credential = |at: usize| {
        let longest = &text[at.saturating_sub(MAX_NAME)..at];
        let name = &longest[longest
            .iter()
            .rposition(|byte| !is_name_byte(byte))
            .map_or(0, |before| before + 1)..];
        CREDENTIALS
            .iter()
            .any(|credential| credential.eq_ignore_ascii_case(name))
    };
    let is_suspect = |bytes| {
        equal(bytes, b'%')
            | equal(bytes, b'@')
            | equal(bytes, b']')
            | equal(bytes, b'=')
            | equal(bytes, JWT_START[2])
    };
    !Positions::new(text, is_suspect).any(|at| match text[at] {
        b'=' => is_credential(at),
        b'%' | b'@' | b']' => true,
        _ => text[..=at].ends_with(JWT_START),
    })
}

/// Finds credentials, from left to right. It decodes percent-encoding on the fly, so that it also
/// finds those of a URL inside a URL.
struct Finder<'a> {
    text: &'a [u8],
    at: usize,
    part: Part,
    /// The text since the last delimiter.
    name: Name,
}

impl Finder<'_> {
    fn next(&mut self) -> Option<Range<usize>> {
        while let Some(character) = Character::at(self.text, self.at) {
            let begins = self.name.len == 0;
            let here = self.at;
            self.at += character.len;
            // The first arm that applies wins: `=`, `?`, `#` and `/` have guarded arms above the
            // plain one.
            match character.byte {
                b'=' if self.name.is_credential() => {
                    self.name = Name::default();
                    let end = self.end_of_value(character.depth);
                    let value = self.at..end;
                    self.at = end;
                    if !value.is_empty() {
                        return Some(value);
                    }
                }
                b'?' | b'#' if character.depth == 0 => {
                    self.part = Part::Query;
                    self.name = Name::default();
                }
                b'/' if self.text[..here].ends_with(b"/") || character.depth > 0 => {
                    self.name = Name::default();
                    if let Some(end) = self.user_information(character.depth) {
                        let found = self.at..end;
                        self.at = end;
                        return Some(found);
                    }
                }
                b'=' | b'?' | b'/' | b'&' | b';' | b'#' | b',' | b'[' | b'"' | b'\'' | b' ' => {
                    self.name = Name::default();
                }
                b']' => {} // keeps the name in user[password]=…
                byte => {
                    if byte == JWT_START[0]
                        && begins
                        && let Some(signature) = jwt_signature(self.text, here)
                    {
                        self.at = signature.end;
                        return Some(signature);
                    }
                    self.name.push(byte);
                }
            }
        }
        None
    }

    /// Returns the end of the value at `self.at`. A delimiter ends it only if it is encoded no
    /// deeper than the `=` before it: `%26` ends the value in `next=%3Fpwd%3Da%26b`, but not in
    /// `pwd=a%26b`.
    fn end_of_value(&self, depth: u8) -> usize {
        let mut at = self.at;
        while let Some(character) = Character::at(self.text, at) {
            let ends = match character.byte {
                b'&' | b'#' => true,
                b'/' | b'?' | b';' => self.part == Part::Path && depth == 0,
                _ => false,
            };
            if ends && character.depth <= depth {
                break;
            }
            at += character.len;
        }
        at
    }

    /// Returns the end of the user information that follows `//`, if there is any.
    fn user_information(&self, depth: u8) -> Option<usize> {
        let mut at = self.at;
        let mut last = None;
        while let Some(character) = Character::at(self.text, at) {
            match character.byte {
                b'@' if at > self.at => last = Some(at),
                b'/' | b'?' | b'#' | b'&' | b' ' if character.depth <= depth => break,
                _ => {}
            }
            at += character.len;
        }
        last
    }
}

/// A character, with all its percent-encoding removed.
struct Character {
    byte: u8,
    /// Bytes of its encoded form.
    len: usize,
    /// Layers of percent-encoding: `%2541` is `A` with a depth of 2.
    depth: u8,
}

impl Character {
    fn at(text: &[u8], at: usize) -> Option<Self> {
        let mut character = Self {
            byte: *text.get(at)?,
            len: 1,
            depth: 0,
        };
        while character.byte == b'%' && character.depth < MAX_DEPTH {
            let Some([high, low]) = text.get(at + character.len..at + character.len + 2) else {
                break;
            };
            let Some(byte) = hex(*high, *low) else { break };
            character = Self {
                byte,
                len: character.len + 2,
                depth: character.depth + 1,
            };
        }
        Some(character)
    }
}

/// The part of a parameter's name that was read, in lower case. `len` counts all of its bytes; only
/// the first [`MAX_NAME`] are stored.
#[derive(Default)]
struct Name {
    bytes: [u8; MAX_NAME],
    len: usize,
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte.to_ascii_lowercase();
        }
        self.len += 1;
    }

    fn is_credential(&self) -> bool {
        self.bytes
            .get(..self.len)
            .is_some_and(|name| CREDENTIALS.contains(&name))
    }
}

/// The base64url of `{"`, the beginning of every token's header.
const JWT_START: &[u8] = b"eyJ";

/// Returns the signature of a token that begins at `at`: the text after the second dot.
fn jwt_signature(text: &[u8], at: usize) -> Option<Range<usize>> {
    let is_token =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=' | b'.');
    let rest = &text[at..];
    if !rest.starts_with(JWT_START) {
        return None;
    }
    let token = &rest[..rest
        .iter()
        .position(|byte| !is_token(byte))
        .unwrap_or(rest.len())];
    let header = memchr::memchr(b'.', token)?;
    let payload = memchr::memchr(b'.', &token[header + 1..])? + header + 1;
    (payload + 1 < token.len()).then_some(at + payload + 1..at + token.len())
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
    use proptest::prelude::*;

    fn masked(text: &str, part: Part) -> String {
        let mut out = Vec::new();
        let Some(range) = mask_url(text.as_bytes(), part, &mut out) else {
            assert!(out.is_empty());
            return text.to_owned();
        };
        String::from_utf8(out[range].to_vec()).unwrap()
    }

    // proves: I33
    #[test]
    fn query_credentials_are_masked_and_nothing_else() {
        for (query, expected) in [
            ("password=x&a=1", "password=REDACTED&a=1"),
            ("a=1&PassWord=x", "a=1&PassWord=REDACTED"),
            ("%70assword=x", "%70assword=REDACTED"),
            ("user[password]=x", "user[password]=REDACTED"),
            (
                "user[password]=x&user%5Bpwd%5D=y",
                "user[password]=REDACTED&user%5Bpwd%5D=REDACTED",
            ),
            (
                "X-Amz-Signature=0a&X-Amz-Date=1&X-Amz-Security-Token=t%2F=",
                "X-Amz-Signature=REDACTED&X-Amz-Date=1&X-Amz-Security-Token=REDACTED",
            ),
            (
                "Policy=p&Signature=a~b_&Key-Pair-Id=K&Expires=1",
                "Policy=REDACTED&Signature=REDACTED&Key-Pair-Id=REDACTED&Expires=1",
            ),
            ("sig=a=b==&x", "sig=REDACTED&x"),
            ("sig=a/b+c;d?e==&x", "sig=REDACTED&x"),
            ("access_token=a;b c&x=1", "access_token=REDACTED&x=1"),
            ("password=&pwd", "password=&pwd"),
            (
                "passwords=1&mypassword=2&password2=3&design=4",
                "passwords=1&mypassword=2&password2=3&design=4",
            ),
            ("a=password=x", "a=password=REDACTED"),
            (
                "next=https%3A%2F%2Fh%2F%3Fid_token%3Dsecret%26a%3Db&z=1",
                "next=https%3A%2F%2Fh%2F%3Fid_token%3DREDACTED%26a%3Db&z=1",
            ),
            (
                "next=%252F%253Fpwd%253Dsecret%2526a&z=1",
                "next=%252F%253Fpwd%253DREDACTED%2526a&z=1",
            ),
            ("u=https://me:secret@h/p&a@b", "u=https://REDACTED@h/p&a@b"),
            (
                "u=https%3A%2F%2Fme%3Asecret%40h%2Fp&a",
                "u=https%3A%2F%2FREDACTED%40h%2Fp&a",
            ),
            (
                "t=eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln&b=1",
                "t=eyJhbGciOiJub25lIn0.eyJhIjoxfQ.REDACTED&b=1",
            ),
            (
                "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.a.b.c",
                "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.REDACTED",
            ),
            (
                "t=eyJhbGciOiJub25lIn0.eyJhIjoxfQ.&u=keyJob.a.b",
                "t=eyJhbGciOiJub25lIn0.eyJhIjoxfQ.&u=keyJob.a.b",
            ),
            ("100%&%zz=%", "100%&%zz=%"),
            ("", ""),
        ] {
            assert_eq!(masked(query, Part::Query), expected, "{query}");
        }
    }

    proptest! {
        /// The fast path never skips text in which the slow one finds a credential.
        #[test]
        fn plain_text_has_no_credential(
            words in prop::collection::vec(prop::sample::select(vec![
                "password", "sig", "x-AMZ-Security-Token", "Refresh_token", "aaaaaaaaaaaaaaaaaaaaaaaaa", "x", "=", "&", "?", "/", "//", ";", "#", ",", "[", "]", ".", "-", "%3d", "%70", "@", "eyJ", "eyJh.eyJh.x", "\u{e9}", " ",
            ]), 0..10),
            in_query in any::<bool>(),
        ) {
            let text = words.concat();
            let part = if in_query { Part::Query } else { Part::Path };
            let found = Finder { text: text.as_bytes(), at: 0, part, name: Name::default() }.next();
            prop_assert!(!is_plain(text.as_bytes()) || found.is_none(), "{}: {:?}", text, found);
        }
    }

    // proves: I33
    #[test]
    fn path_credentials_are_masked() {
        for (path, expected) in [
            (
                "/a;sig=x/b;password=y",
                "/a;sig=REDACTED/b;password=REDACTED",
            ),
            (
                "/verify/eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln/now",
                "/verify/eyJhbGciOiJub25lIn0.eyJhIjoxfQ.REDACTED/now",
            ),
            ("/old?pwd=x&b", "/old?pwd=REDACTED&b"),
            (
                "https://u:p@h/?a=b#access_token=t",
                "https://REDACTED@h/?a=b#access_token=REDACTED",
            ),
            (
                "https://h/p#access_token=a/b;c?d&e=f",
                "https://h/p#access_token=REDACTED&e=f",
            ),
            ("/@me/a@b", "/@me/a@b"),
            ("//user@host/x", "//REDACTED@host/x"),
            ("/reset/password/form", "/reset/password/form"),
        ] {
            assert_eq!(masked(path, Part::Path), expected, "{path}");
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

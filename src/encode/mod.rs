//! *Encode*: from a transaction to bytes of a request body. Each encoding has a file of its own.

mod ndjson;
mod uap;

pub use uap::Uap;

use sha2::{Digest, Sha256};
use wide::i8x32;

use crate::job::ObjectRef;
use crate::redact::Redaction;
use crate::simd::{equal, every};
use crate::transaction::Transaction;

/// The form in which transactions are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    Uap(Uap),
    /// edgetap's own format, one JSON object per line.
    Ndjson,
}

/// The text around and between the transactions of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    pub open: &'static str,
    pub separator: &'static str,
    pub close: &'static str,
}

/// The source of a transaction, which its row does not contain.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub object: &'a ObjectRef,
    /// The distribution, from the object's name.
    pub distribution: Option<&'a str>,
}

impl Encoding {
    /// What the bytes of a transaction depend on in addition to the rules: edgetap's version, which
    /// the bodies name, and a revision. Increase the revision if the same transaction gets other
    /// bytes within one version.
    pub const REVISION: &str = concat!(env!("CARGO_PKG_VERSION"), " 2");

    /// Whether values are written that no transaction has.
    pub(crate) fn writes_all(&self) -> bool {
        *self == Self::Ndjson
    }

    /// Returns the framing of a body.
    pub fn framing(&self) -> Framing {
        match self {
            Self::Uap(_) => uap::FRAMING,
            Self::Ndjson => ndjson::FRAMING,
        }
    }

    /// Appends a redacted transaction to a body. Logged values that are not part of the transaction
    /// are masked here, with `redaction`.
    pub fn encode(
        &self,
        transaction: &Transaction<'_>,
        origin: Origin<'_>,
        redaction: &Redaction,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Uap(uap) => uap.encode(transaction, origin, out),
            Self::Ndjson => ndjson::encode(transaction, origin, redaction, out),
        }
    }
}

/// Appends a JSON string (RFC 8259), quotes included. Invalid UTF-8 becomes U+FFFD.
fn push_json_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if every(bytes, is_not_escaped) {
        out.extend_from_slice(bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            push_escaped(chunk.valid().as_bytes(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

fn push_escaped(mut rest: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = rest.iter().position(|byte| is_escaped(*byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend([b'\\', byte]),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend(hex_digits(byte));
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Marks the ASCII bytes that JSON strings contain unescaped. Bytes from 0x80 are negative here and
/// therefore not marked: they need a UTF-8 check.
fn is_not_escaped(bytes: i8x32) -> i8x32 {
    bytes.simd_gt(0x1f) & !(equal(bytes, b'"') | equal(bytes, b'\\'))
}

fn push_number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Returns `x-edge-request-id`, or else the SHA-256 of bucket, NUL, key, NUL and row number in
/// hexadecimal. The position is hashed, not the content, because identical rows occur.
fn transaction_id<'a>(
    transaction: &Transaction<'a>,
    origin: Origin<'_>,
    digits: &'a mut [u8; 64],
) -> &'a [u8] {
    if let Some(id) = transaction.request_id {
        return id;
    }
    let ObjectRef { bucket, key, .. } = origin.object;
    let mut digest = Sha256::new();
    for part in [
        bucket,
        "\0",
        key,
        "\0",
        itoa::Buffer::new().format(transaction.row),
    ] {
        digest.update(part);
    }
    for (digits, byte) in digits.chunks_exact_mut(2).zip(digest.finalize()) {
        digits.copy_from_slice(&hex_digits(byte));
    }
    digits
}

fn hex_digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each ASCII character in strings of harmless ones, so that it alone decides whether they are
    /// copied unescaped.
    #[test]
    fn json_string_of_any_ascii_is_read_by_serde_json() {
        for len in [1, 3, 4, 8, 15, 16, 17, 40] {
            for byte in 0..=0x7f {
                let mut bytes = vec![b'a'; len];
                bytes[len / 2] = byte;
                let mut out = Vec::new();
                push_json_string(&bytes, &mut out);
                assert_eq!(
                    serde_json::from_slice::<String>(&out).ok(),
                    String::from_utf8(bytes).ok(),
                    "{byte:#04x} in {len} bytes"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn json_string_of_any_bytes_is_read_by_serde_json(text in any::<String>(), end in prop::collection::vec(any::<u8>(), 0..9)) {
            let bytes = [text.as_bytes(), &end].concat();
            let mut out = Vec::new();
            push_json_string(&bytes, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

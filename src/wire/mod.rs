//! *Wire*: a transaction → bytes. One encoding a file, one function each.

mod ndjson;
mod uap;

pub use uap::Uap;

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::redact::Redaction;
use crate::transaction::Transaction;
use crate::work::ObjectRef;

/// In which form transactions leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The bridge's request bodies.
    Uap(Uap),
    /// Our own transaction, one JSON object a line.
    Ndjson,
}

/// What stands around and between the transactions of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Before the first.
    pub open: &'static str,
    /// Between two.
    pub separator: &'static str,
    /// After the last.
    pub close: &'static str,
}

/// Where a transaction comes from: what its row does not say.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The log's object.
    pub object: &'a ObjectRef,
    /// The distribution that the object's name tells.
    pub distribution: Option<&'a str>,
}

impl Wire {
    /// How bodies are framed.
    pub fn framing(&self) -> Framing {
        match self {
            Self::Uap(_) => uap::FRAMING,
            Self::Ndjson => ndjson::FRAMING,
        }
    }

    /// Appends one transaction, already masked, to a body. What stands beside it in the log is masked here.
    pub fn encode(&self, transaction: &Transaction<'_>, origin: Origin<'_>, redaction: &Redaction, out: &mut String) {
        match self {
            Self::Uap(uap) => uap.encode(transaction, origin, out),
            Self::Ndjson => ndjson::encode(transaction, origin, redaction, out),
        }
    }
}

/// Appends a JSON string with quotes (RFC 8259). Bytes that are not UTF-8 become U+FFFD.
fn push_json_string(bytes: &[u8], out: &mut String) {
    let text = std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    let mut rest = &*text;
    out.push('"');
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            byte => {
                out.push_str("\\u00");
                out.push_str(&hex::encode([byte]));
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

fn push_number(number: impl itoa::Integer, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// `x-edge-request-id`, else (identical rows exist) the SHA-256 of bucket, key and row, each after the other with a NUL
/// between them, in hexadecimal.
fn transaction_id<'a>(transaction: &Transaction<'a>, origin: Origin<'_>) -> Cow<'a, str> {
    if let Some(id) = transaction.request_id {
        return String::from_utf8_lossy(id);
    }
    let ObjectRef { bucket, key, .. } = origin.object;
    Cow::Owned(hex::encode(Sha256::digest(format!("{bucket}\0{key}\0{}", transaction.row))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_strings_are_read_back_by_another_reader(text in any::<String>()) {
            let mut out = String::new();
            push_json_string(text.as_bytes(), &mut out);
            prop_assert_eq!(serde_json::from_str::<String>(&out).ok(), Some(text));
        }
    }
}

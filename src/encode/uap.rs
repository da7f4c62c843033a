//! The wire format of Cequence's bridge: `POST …/api-transactions` with `{"data":[…]}`.
//!
//! `docs/wire-format.md` lists its members: which are documented, which were observed, and which to
//! confirm with the tenant.

use std::io::{Cursor, Write as _};

use base64_simd::STANDARD;

use super::{Framing, Origin, push_json_string, push_number, transaction_id};
use crate::transaction::Transaction;

pub(super) const FRAMING: Framing = Framing {
    open: "{\"data\":[",
    separator: ",",
    close: "]}",
};

/// Decimal digits of a 64-bit number.
const MAX_DIGITS: usize = 20;
/// The format requires a client address even if the log has none.
const UNKNOWN_IP: &[u8] = b"0.0.0.0";

/// The encoding, and the members that do not come from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uap {
    /// Address of the server. The format requires it; the logs do not have it.
    pub server_ip: String,
    /// Name of the filter rules in force.
    pub filter_name: String,
}

impl Uap {
    /// Creates the encoding with `0.0.0.0` as the server's address.
    pub fn new(filter_name: impl Into<String>) -> Self {
        Self {
            server_ip: "0.0.0.0".to_owned(),
            filter_name: filter_name.into(),
        }
    }

    pub(super) fn encode(
        &self,
        transaction: &Transaction<'_>,
        origin: Origin<'_>,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        push_seconds(transaction.started, out);
        out.extend_from_slice(b"\",\"version\":\"1.0\",\"transaction-id\":");
        push_json_string(transaction_id(transaction, origin, &mut [0; 64]), out);
        out.extend_from_slice(b",\"request\":{");
        self.encode_request(transaction, out);
        out.extend_from_slice(b"},\"response\":{");
        encode_response(transaction, out);
        out.extend_from_slice(
            b"},\"txn-meta-data\":{\"source_info\":{\"type\":\"cloudfront\",\"version\":\"",
        );
        out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
        out.push(b'"');
        push_member(
            ",\"pool_id\":",
            transaction
                .distribution
                .or(origin.distribution.map(str::as_bytes)),
            out,
        );
        push_member(",\"instance_id\":", transaction.edge_location, out);
        out.extend_from_slice(b"},\"filter_info\":{\"filter_name\":");
        push_json_string(self.filter_name.as_bytes(), out);
        out.extend_from_slice(b"}}}");
    }

    fn encode_request(&self, transaction: &Transaction<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"http-method\":");
        push_json_string(transaction.method, out);
        out.extend_from_slice(b",\"uri-query-fragment\":");
        push_json_string(transaction.target, out);
        push_member(",\"http-scheme\":", transaction.scheme, out);
        push_member(",\"http-version\":", transaction.http_version, out);
        push_member(",\"host\":", transaction.host, out);
        out.extend_from_slice(b",\"connection\":{\"connection-ip\":");
        push_json_string(transaction.client_ip.unwrap_or(UNKNOWN_IP), out);
        if let Some(port) = transaction.client_port {
            out.extend_from_slice(b",\"connection-port\":");
            push_number(port, out);
        }
        out.extend_from_slice(b",\"server-ip\":");
        push_json_string(self.server_ip.as_bytes(), out);
        out.extend_from_slice(b",\"server-port\":");
        out.extend_from_slice(if matches!(transaction.scheme, Some(b"http" | b"ws")) {
            b"80"
        } else {
            b"443"
        });
        out.extend_from_slice(b"},\"headers\":[");
        let mut headers = Headers { out, first: true };
        headers.push("Host", transaction.host_header);
        headers.push("User-Agent", transaction.user_agent);
        headers.push("Referer", transaction.referer);
        headers.push("Cookie", transaction.cookie);
        headers.push("X-Forwarded-For", transaction.x_forwarded_for);
        out.extend_from_slice(b"],\"body\":{\"length\":0,\"data\":\"\"}");
    }
}

fn encode_response(transaction: &Transaction<'_>, out: &mut Vec<u8>) {
    if let Some(status) = transaction.status {
        out.extend_from_slice(b"\"status-code\":");
        push_json_string(status, out);
        out.push(b',');
    }
    out.extend_from_slice(b"\"headers\":[");
    let (mut length, mut range) = (
        itoa::Buffer::new(),
        Cursor::new([0; "bytes -/*".len() + 2 * MAX_DIGITS]),
    );
    let mut headers = Headers { out, first: true };
    headers.push("Content-Type", transaction.content_type);
    headers.push(
        "Content-Length",
        transaction
            .content_length
            .map(|n| length.format(n).as_bytes()),
    );
    if let Some((start, end)) = transaction.content_range {
        // The complete length is not logged, so it is `*` (RFC 9110, 14.4). `range` has room for
        // any two numbers.
        if write!(range, "bytes {start}-{end}/*").is_ok() {
            let len = usize::try_from(range.position()).unwrap_or_default();
            headers.push("Content-Range", range.get_ref().get(..len));
        }
    }
    headers.push("X-Amz-Cf-Id", transaction.request_id);
    out.extend_from_slice(b"],\"body\":{\"length\":");
    push_number(transaction.content_length.unwrap_or(0), out);
    out.extend_from_slice(b",\"data\":\"\"}");
}

/// Appends headers as `"Name:<base64 of the value>"`, separated by commas.
struct Headers<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Headers<'_> {
    fn push(&mut self, name: &str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        if !self.first {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b':');
        // `reserve` grows the body in large steps. `encode_append` alone would reserve the exact
        // size, and copy the body for every header.
        self.out.reserve(STANDARD.encoded_length(value.len()));
        STANDARD.encode_append(value, self.out);
        self.out.push(b'"');
        self.first = false;
    }
}

fn push_member(name: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(name.as_bytes());
        push_json_string(value, out);
    }
}

/// Appends Unix seconds with three decimals.
fn push_seconds(milliseconds: i64, out: &mut Vec<u8>) {
    if milliseconds < 0 {
        out.push(b'-');
    }
    let milliseconds = milliseconds.unsigned_abs();
    push_number(milliseconds / 1000, out);
    // Adding 1000 keeps leading zeros: 7 is written as `1007`, whose `1` then becomes the point.
    let point = out.len();
    push_number(1000 + milliseconds % 1000, out);
    out[point] = b'.';
}

#[cfg(test)]
mod tests {
    use super::push_seconds;

    #[test]
    fn seconds_have_three_decimals() {
        for (milliseconds, expected) in [
            (1_731_623_425_421, "1731623425.421"),
            (1000, "1.000"),
            (7, "0.007"),
            (-1, "-0.001"),
            (0, "0.000"),
        ] {
            let mut out = Vec::new();
            push_seconds(milliseconds, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}

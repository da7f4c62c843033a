//! The bridge's wire format: `POST …/api-transactions`, `{"data":[…]}`.
//!
//! The table of its members stands in `docs/wire-format.md`, with what is published, what was observed, and what to
//! confirm with the tenant.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Framing, Origin, push_json_string, push_number, transaction_id};
use crate::transaction::Transaction;

pub(super) const FRAMING: Framing = Framing { open: "{\"data\":[", separator: ",", close: "]}" };

/// The format wants an address where none is known.
const UNKNOWN_IP: &[u8] = b"0.0.0.0";

/// The encoding, and what it says beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uap {
    /// Which address answered: required by the format, absent from the logs.
    pub server_ip: String,
    /// The name of the filter rules in force.
    pub filter_name: String,
}

impl Uap {
    /// With `0.0.0.0` for the address that answered.
    pub fn new(filter_name: impl Into<String>) -> Self {
        Self { server_ip: "0.0.0.0".to_owned(), filter_name: filter_name.into() }
    }

    pub(super) fn encode(&self, transaction: &Transaction<'_>, origin: Origin<'_>, out: &mut String) {
        out.push_str("{\"timestamp\":\"");
        push_seconds(transaction.started, out);
        out.push_str("\",\"version\":\"1.0\",\"transaction-id\":");
        push_json_string(transaction_id(transaction, origin).as_bytes(), out);
        out.push_str(",\"request\":{");
        self.encode_request(transaction, out);
        out.push_str("},\"response\":{");
        encode_response(transaction, out);
        out.push_str("},\"txn-meta-data\":{\"source_info\":{\"type\":\"cloudfront\",\"version\":\"");
        out.push_str(env!("CARGO_PKG_VERSION"));
        out.push('"');
        push_member(",\"pool_id\":", transaction.distribution.or(origin.distribution.map(str::as_bytes)), out);
        push_member(",\"instance_id\":", transaction.edge_location, out);
        out.push_str("},\"filter_info\":{\"filter_name\":");
        push_json_string(self.filter_name.as_bytes(), out);
        out.push_str("}}}");
    }

    fn encode_request(&self, transaction: &Transaction<'_>, out: &mut String) {
        out.push_str("\"http-method\":");
        push_json_string(transaction.method, out);
        out.push_str(",\"uri-query-fragment\":");
        push_json_string(transaction.target, out);
        push_member(",\"http-scheme\":", transaction.scheme, out);
        push_member(",\"http-version\":", transaction.http_version, out);
        push_member(",\"host\":", transaction.host, out);
        out.push_str(",\"connection\":{\"connection-ip\":");
        push_json_string(transaction.client_ip.unwrap_or(UNKNOWN_IP), out);
        if let Some(port) = transaction.client_port {
            out.push_str(",\"connection-port\":");
            push_number(port, out);
        }
        out.push_str(",\"server-ip\":");
        push_json_string(self.server_ip.as_bytes(), out);
        out.push_str(",\"server-port\":");
        out.push_str(if matches!(transaction.scheme, Some(b"http" | b"ws")) { "80" } else { "443" });
        out.push_str("},\"headers\":[");
        let mut headers = Headers { out, first: true };
        headers.push("Host", transaction.host_header);
        headers.push("User-Agent", transaction.user_agent);
        headers.push("Referer", transaction.referer);
        headers.push("Cookie", transaction.cookie);
        headers.push("X-Forwarded-For", transaction.x_forwarded_for);
        out.push_str("],\"body\":{\"length\":0,\"data\":\"\"}");
    }
}

fn encode_response(transaction: &Transaction<'_>, out: &mut String) {
    if let Some(status) = transaction.status {
        out.push_str("\"status-code\":");
        push_json_string(status, out);
        out.push(',');
    }
    out.push_str("\"headers\":[");
    let (mut length, mut range) = (itoa::Buffer::new(), String::new());
    let mut headers = Headers { out, first: true };
    headers.push("Content-Type", transaction.content_type);
    headers.push("Content-Length", transaction.content_length.map(|n| length.format(n).as_bytes()));
    if let Some((start, end)) = transaction.content_range {
        range.push_str("bytes ");
        push_number(start, &mut range);
        range.push('-');
        push_number(end, &mut range);
        range.push_str("/*"); // the whole length is not logged (RFC 9110, 14.4)
        headers.push("Content-Range", Some(range.as_bytes()));
    }
    headers.push("X-Amz-Cf-Id", transaction.request_id);
    out.push_str("],\"body\":{\"length\":");
    push_number(transaction.content_length.unwrap_or(0), out);
    out.push_str(",\"data\":\"\"}");
}

/// `"Name:<base64 of the value>"`, one after the other.
struct Headers<'a> {
    out: &'a mut String,
    first: bool,
}

impl Headers<'_> {
    fn push(&mut self, name: &str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.out.push_str(if self.first { "\"" } else { ",\"" });
        self.out.push_str(name);
        self.out.push(':');
        STANDARD.encode_string(value, self.out);
        self.out.push('"');
        self.first = false;
    }
}

fn push_member(name: &str, value: Option<&[u8]>, out: &mut String) {
    if let Some(value) = value {
        out.push_str(name);
        push_json_string(value, out);
    }
}

/// Unix seconds with three decimals.
fn push_seconds(milliseconds: i64, out: &mut String) {
    if milliseconds < 0 {
        out.push('-');
    }
    let milliseconds = milliseconds.unsigned_abs();
    push_number(milliseconds / 1000, out);
    out.push('.');
    for unit in [100, 10, 1] {
        push_number(milliseconds / unit % 10, out);
    }
}

#[cfg(test)]
mod tests {
    use super::push_seconds;

    #[test]
    fn seconds_have_three_decimals() {
        for (milliseconds, expected) in [(1_731_623_425_421, "1731623425.421"), (1000, "1.000"), (7, "0.007"), (-1, "-0.001"), (0, "0.000")]
        {
            let mut out = String::new();
            push_seconds(milliseconds, &mut out);
            assert_eq!(out, expected);
        }
    }
}

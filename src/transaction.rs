//! *Transaction*: one request and its response, in HTTP's words, built from a record.
//!
//! | HTTP | CloudFront |
//! |---|---|
//! | started | `timestamp(ms)`, else `date` and `time`, else `timestamp`; minus `time-taken` |
//! | method, target | `cs-method`; `cs-uri-stem`, and `?` with `cs-uri-query` |
//! | host | `x-host-header`, else `cs(Host)` (the distribution's own domain) |
//! | request headers | `cs(Referer)`, `cs(User-Agent)`, `cs(Cookie)`, `x-forwarded-for` and `c-ip` |
//! | peer | `c-ip`, `c-port` |
//! | status, response headers | `sc-status`, `sc-content-type`, `sc-content-len`, `sc-range-start`, `sc-range-end` |

use thiserror::Error;

use crate::decode::{
    Span, address, date_time, decode, milliseconds, number, plausible, push_visible, status,
    user_agent,
};
use crate::log::{Defect, Field, Record};

/// One request and its response. Slices borrow from the record or from one reused scratch buffer.
#[derive(Clone, Copy)]
pub struct Transaction<'a> {
    /// The number of its row.
    pub row: u64,
    /// CloudFront's ID of the request, `x-edge-request-id`.
    pub request_id: Option<&'a [u8]>,
    /// When the request started, in milliseconds since the Unix epoch.
    pub started: i64,
    /// Milliseconds from receiving the request to queuing the last byte of the response.
    pub took: Option<i64>,
    /// The client's address (IPv6 as in RFC 5952), or `None` if it was not logged, CloudFront
    /// anonymized it (`x.x.x.x`, `***`), or it is invalid.
    pub client_ip: Option<&'a [u8]>,
    pub client_port: Option<u16>,
    /// `http`, `https`, `grpcs`, `ws`, `wss`.
    pub scheme: Option<&'a [u8]>,
    /// The HTTP version without `HTTP/`.
    pub http_version: Option<&'a [u8]>,
    /// The method, which may be any visible text.
    pub method: &'a [u8],
    /// Path and query as the viewer sent them, but with control, space and non-ASCII bytes
    /// percent-encoded.
    pub target: &'a [u8],
    /// Bytes of `target` that are the path.
    pub path_len: usize,
    /// The path as it was logged.
    pub stem: &'a [u8],
    /// The `Host` header, else the distribution's domain.
    pub host: Option<&'a [u8]>,
    /// The `Host` header, if it was logged.
    pub host_header: Option<&'a [u8]>,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// The `Cookie` header, if the distribution logs cookies.
    pub cookie: Option<&'a [u8]>,
    /// The `X-Forwarded-For` header as CloudFront sends it to an origin: the viewer's value, which
    /// can be forged, then the client's address.
    pub x_forwarded_for: Option<&'a [u8]>,
    /// Three digits, or `0` if the viewer closed the connection before a response.
    pub status: Option<&'a [u8]>,
    pub content_type: Option<&'a [u8]>,
    /// The response's `Content-Length`, in bytes.
    pub content_length: Option<u64>,
    /// First and last byte of a range response.
    pub content_range: Option<(u64, u64)>,
    pub edge_location: Option<&'a [u8]>,
    /// The distribution's ID, if the log has it as a field.
    pub distribution: Option<&'a [u8]>,
    /// Number of values that were left out because they could not be read.
    pub unreadable: u64,
    /// All logged values, in CloudFront's words.
    pub record: Record<'a>,
}

impl<'a> Transaction<'a> {
    /// Returns when the last byte of the response was queued, in milliseconds since the Unix epoch.
    pub fn ended(&self) -> i64 {
        self.started + self.took.unwrap_or(0)
    }

    /// Returns the path, without the query.
    pub fn path(&self) -> &'a [u8] {
        &self.target[..self.path_len]
    }

    /// Returns the query, without `?`.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.target.get(self.path_len + 1..)
    }
}

/// Why a row cannot become a transaction.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// A required field is missing, or is a time that cannot be read.
    #[error("missing or unreadable {0}")]
    Missing(&'static str),
    #[error("{0}")]
    Defect(Defect),
}

/// Builds a transaction from a record, decoding into `scratch`, which is cleared first.
///
/// # Errors
/// [`Malformed`] if the row lacks a method, path or time. Other values that cannot be read are left
/// out and counted.
pub fn stitch<'a>(
    row: u64,
    record: Record<'a>,
    scratch: &'a mut Vec<u8>,
) -> Result<Transaction<'a>, Malformed> {
    let (ended, [method, stem]) = required(record)?;
    let mut unreadable = Unreadable(0);
    scratch.clear();
    // A client always has an address, so one that is not logged is as unreadable as a masked one.
    let logged = record.get(Field::ClientIp).unwrap_or_default();
    let client_ip = unreadable.count(Some(logged), |logged| address(logged, scratch));
    let took = unreadable.count(record.get(Field::TimeTaken), |logged| {
        milliseconds(logged).filter(|took| ended.checked_sub(*took).and_then(plausible).is_some())
    });
    let ends = [Field::RangeStart, Field::RangeEnd]
        .map(|field| unreadable.count(record.get(field), number));

    let target = scratch.len();
    push_visible(stem, scratch);
    let path_len = scratch.len() - target;
    if let Some(query) = record.get(Field::UriQuery) {
        scratch.push(b'?');
        push_visible(query, scratch);
    }
    let target = Span::Decoded(target, scratch.len());
    let method = decode(Field::Method, method, scratch);
    let mut decode = |field| record.get(field).map(|value| decode(field, value, scratch));
    let host_header = decode(Field::HostHeader);
    let host = host_header.or_else(|| decode(Field::DistributionDomain));
    let [referer, cookie, content_type] =
        [Field::Referer, Field::Cookie, Field::ContentType].map(decode);
    let user_agent = record
        .get(Field::UserAgent)
        .map(|logged| user_agent(logged, ended, scratch));
    let x_forwarded_for = forwarded_for(record.get(Field::XForwardedFor), client_ip, scratch);

    let scratch: &'a [u8] = scratch;
    let text = |span: Span<'a>| span.of(scratch);
    Ok(Transaction {
        row,
        request_id: record.get(Field::RequestId),
        started: ended - took.unwrap_or(0),
        took,
        client_ip: client_ip.map(text),
        client_port: unreadable.count(record.get(Field::ClientPort), |logged| {
            u16::try_from(number(logged)?).ok()
        }),
        scheme: record.get(Field::Protocol),
        http_version: record
            .get(Field::ProtocolVersion)
            .map(|version| version.strip_prefix(b"HTTP/").unwrap_or(version)),
        method: text(method),
        target: text(target),
        path_len,
        stem,
        host: host.map(text),
        host_header: host_header.map(text),
        referer: referer.map(text),
        user_agent: user_agent.map(text),
        cookie: cookie.map(text),
        x_forwarded_for: x_forwarded_for.map(text),
        status: unreadable.count(record.get(Field::Status), status),
        content_type: content_type.map(text),
        content_length: unreadable.count(record.get(Field::ContentLength), number),
        content_range: if let [Some(start), Some(end)] = ends {
            Some((start, end))
        } else {
            None
        },
        edge_location: record.get(Field::EdgeLocation),
        distribution: unreadable.count(record.get(Field::DistributionId), |id| {
            (id.len() <= 32 && id.iter().all(u8::is_ascii_alphanumeric)).then_some(id)
        }),
        unreadable: unreadable.0,
        record,
    })
}

/// Appends the client's address to the viewer's `X-Forwarded-For`, as CloudFront does for an origin
/// ("Request and response behavior for custom origins: Client IP addresses" in its Developer Guide).
fn forwarded_for<'a>(
    logged: Option<&'a [u8]>,
    client_ip: Option<Span<'a>>,
    scratch: &mut Vec<u8>,
) -> Option<Span<'a>> {
    let Some(logged) = logged else {
        return client_ip;
    };
    let start = scratch.len();
    let viewers = decode(Field::XForwardedFor, logged, scratch);
    let Some(client_ip) = client_ip else {
        return Some(viewers);
    };
    if let Span::Logged(viewers) = viewers {
        scratch.extend_from_slice(viewers);
    }
    scratch.extend_from_slice(b", ");
    match client_ip {
        Span::Logged(address) => scratch.extend_from_slice(address),
        Span::Decoded(start, end) => scratch.extend_from_within(start..end),
    }
    Some(Span::Decoded(start, scratch.len()))
}

/// Checks that a record has the required fields of a transaction.
///
/// # Errors
/// The same as [`stitch`].
pub fn suffices(record: Record<'_>) -> Result<(), Malformed> {
    required(record).map(|_| ())
}

/// Returns when the request of a record ended, in milliseconds since the Unix epoch.
///
/// # Errors
/// The same as [`stitch`].
pub fn ended(record: Record<'_>) -> Result<i64, Malformed> {
    required(record).map(|(ended, _)| ended)
}

/// Returns the end time, and the method and path as logged.
fn required(record: Record<'_>) -> Result<(i64, [&[u8]; 2]), Malformed> {
    if let Some(defect) = record.defect() {
        return Err(Malformed::Defect(defect));
    }
    let get = |field: Field| record.get(field).ok_or(Malformed::Missing(field.name()));
    let ended = end_time(record).ok_or(Malformed::Missing("time"))?;
    Ok((ended, [get(Field::Method)?, get(Field::UriStem)?]))
}

/// Counts values that are logged but cannot be read.
struct Unreadable(u64);

impl Unreadable {
    fn count<'a, T>(
        &mut self,
        logged: Option<&'a [u8]>,
        read: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Option<T> {
        let logged = logged?;
        let value = read(logged);
        self.0 += u64::from(value.is_none());
        value
    }
}

/// Returns when CloudFront finished responding, in milliseconds since the Unix epoch.
fn end_time(record: Record<'_>) -> Option<i64> {
    let epoch = |field, unit: i64| {
        record
            .get(field)
            .and_then(number)
            .and_then(|n| plausible(i64::try_from(n).ok()?.checked_mul(unit)?))
    };
    epoch(Field::TimestampMs, 1)
        .or_else(|| {
            plausible(date_time(
                record.get(Field::Date)?,
                record.get(Field::Time)?,
            )?)
        })
        .or_else(|| epoch(Field::Timestamp, 1000))
}

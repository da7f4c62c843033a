//! edgetap's own format, one JSON object per line: for people, `jq` and tests. Its JSON Schema is
//! `docs/transaction.schema.json`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Framing, Origin, transaction_id};
use crate::log::Field;
use crate::redact::{Part, Redaction};
use crate::transaction::Transaction;

pub(super) const FRAMING: Framing = Framing {
    open: "",
    separator: "\n",
    close: "\n",
};

/// Fields that have no counterpart in HTTP. They keep CloudFront's names.
const CLOUDFRONT_FIELDS: [Field; 20] = [
    Field::ResultType,
    Field::ResponseResultType,
    Field::DetailedResultType,
    Field::ScBytes,
    Field::CsBytes,
    Field::TimeToFirstByte,
    Field::OriginFirstByteLatency,
    Field::OriginLastByteLatency,
    Field::SslProtocol,
    Field::SslCipher,
    Field::FleStatus,
    Field::FleEncryptedFields,
    Field::DistributionDomain,
    Field::DistributionTenantId,
    Field::ConnectionId,
    Field::AutonomousSystem,
    Field::Country,
    Field::CacheBehavior,
    Field::ViewerRequestLogData,
    Field::ViewerResponseLogData,
];

pub(super) fn encode(
    transaction: &Transaction<'_>,
    origin: Origin<'_>,
    redaction: &Redaction,
    out: &mut Vec<u8>,
) {
    let mut digits = [0; 64];
    let id = transaction_id(transaction, origin, &mut digits);
    let line = Line {
        id: text(id),
        // Times from 2008 to 2100 are in jiff's range.
        started: format!(
            "{:.3}",
            Timestamp::from_millisecond(transaction.started).unwrap_or_default()
        ),
        took_ms: transaction.took,
        client: Client {
            ip: transaction.client_ip.map(text),
            port: transaction.client_port,
        },
        request: Request {
            method: text(transaction.method),
            scheme: transaction.scheme.map(text),
            http_version: transaction.http_version.map(text),
            host: transaction.host.map(text),
            path: text(transaction.path()),
            query: transaction.query().map(text),
            headers: RequestHeaders {
                referer: transaction.referer.map(text),
                user_agent: transaction.user_agent.map(text),
                cookie: transaction.cookie.map(text),
                x_forwarded_for: transaction.x_forwarded_for.map(text),
            },
        },
        response: Response {
            status: transaction.status.map(text),
            headers: ResponseHeaders {
                content_type: transaction.content_type.map(text),
                content_length: transaction.content_length,
                content_range: transaction
                    .content_range
                    .map(|(start, end)| format!("bytes {start}-{end}/*")),
            },
        },
        cloudfront: CloudFront {
            distribution: transaction
                .distribution
                .map(text)
                .or(origin.distribution.map(Cow::Borrowed)),
            edge_location: transaction.edge_location.map(text),
            object: origin.object.to_string(),
            row: transaction.row,
            logged: logged(transaction, redaction),
        },
        fields: others(transaction, redaction),
    };
    // A `Line` has only strings, numbers and maps with string keys, so serializing it cannot fail.
    let line = serde_json::to_vec(&line)
        .unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}").into_bytes());
    out.extend_from_slice(&line);
}

/// The values of [`CLOUDFRONT_FIELDS`], masked.
fn logged(transaction: &Transaction<'_>, redaction: &Redaction) -> BTreeMap<&'static str, String> {
    let values = CLOUDFRONT_FIELDS
        .iter()
        .filter_map(|&field| Some((field.name(), transaction.record.get(field)?)));
    values
        .map(|(name, value)| (name, masked(value, redaction)))
        .collect()
}

/// The values of fields that edgetap does not know, masked.
fn others<'a>(transaction: &Transaction<'a>, redaction: &Redaction) -> BTreeMap<&'a str, String> {
    transaction
        .record
        .others()
        .map(|(name, value)| (name, masked(value, redaction)))
        .collect()
}

fn masked(logged: &[u8], redaction: &Redaction) -> String {
    let value: Cow<'_, [u8]> = percent_encoding::percent_decode(logged).into();
    text(redaction.mask_value(&value, Part::Query, &mut Vec::new())).into_owned()
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[skip_serializing_none]
#[derive(Serialize)]
struct Line<'a> {
    id: Cow<'a, str>,
    started: String,
    took_ms: Option<i64>,
    client: Client<'a>,
    request: Request<'a>,
    response: Response<'a>,
    cloudfront: CloudFront<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<&'a str, String>,
}

#[skip_serializing_none]
#[derive(Serialize)]
struct Client<'a> {
    ip: Option<Cow<'a, str>>,
    port: Option<u16>,
}

#[skip_serializing_none]
#[derive(Serialize)]
struct Request<'a> {
    method: Cow<'a, str>,
    scheme: Option<Cow<'a, str>>,
    http_version: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
    headers: RequestHeaders<'a>,
}

#[skip_serializing_none]
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RequestHeaders<'a> {
    referer: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
    cookie: Option<Cow<'a, str>>,
    x_forwarded_for: Option<Cow<'a, str>>,
}

#[skip_serializing_none]
#[derive(Serialize)]
struct Response<'a> {
    status: Option<Cow<'a, str>>,
    headers: ResponseHeaders<'a>,
}

#[skip_serializing_none]
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::struct_field_names, reason = "the names are HTTP's")]
struct ResponseHeaders<'a> {
    content_type: Option<Cow<'a, str>>,
    content_length: Option<u64>,
    content_range: Option<String>,
}

#[skip_serializing_none]
#[derive(Serialize)]
struct CloudFront<'a> {
    distribution: Option<Cow<'a, str>>,
    edge_location: Option<Cow<'a, str>>,
    object: String,
    row: u64,
    #[serde(flatten)]
    logged: BTreeMap<&'static str, String>,
}

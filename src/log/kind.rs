//! *Kind*: what a record or a log that is not CloudFront's is, and what to do with it.
//!
//! Kinds are told by the names of fields and by text that only AWS or a log shipper writes, never by
//! what a viewer could have sent.

use super::json::Items;
use super::{Columns, LogError, MAX_NAMES};

/// What is not an access log of CloudFront.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has no viewer requests that edgetap reads: it is skipped.
    Foreign(&'static str),
    /// It may contain viewer requests, in a form that edgetap does not read: it is refused, and the
    /// text says what to do.
    Refused(&'static str),
    /// Messages of CloudWatch Logs. The column with this index has their type.
    Messages(usize),
    /// Events of EventBridge. The column with this index has their source.
    Events(usize),
    /// `Records`: those of `CloudTrail`, or whatever a function of Lambda was given.
    Records,
}

impl From<Kind> for LogError {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Foreign(log) => Self::OtherLog(log),
            Kind::Refused(reason) => Self::NotAccessLog(reason),
            Kind::Messages(_) => Self::NotAccessLog(SUBSCRIPTION),
            Kind::Events(_) => Self::NotAccessLog(EVENT),
            Kind::Records => Self::NotAccessLog(RECORDS),
        }
    }
}

/// The type of message by which CloudWatch Logs tests a subscription's destination.
pub(super) const CONTROL_MESSAGE: &[u8] = b"CONTROL_MESSAGE";
pub(super) const CONTROL_MESSAGES: &str = "CloudWatch Logs control message";
pub(super) const SUBSCRIPTION: &str = "it is a CloudWatch Logs subscription record, with log lines inside. Deliver the logs to S3 directly, or let the Firehose stream extract `logEvents[].message`";

/// How the sources of AWS's own events begin. Nobody else may send such events.
pub(super) const OF_AWS: &[u8] = b"aws.";
pub(super) const EVENTS: &str = "EventBridge event";
pub(super) const EVENT: &str = "it is an EventBridge event, with a record inside. Write its `detail`, or deliver the logs to S3 directly";
pub(super) const CLOUD_TRAIL: &str = "CloudTrail log";
pub(super) const RECORDS: &str = "it is an object with `Records` that are not CloudTrail's. Write each record on its own, or deliver the logs to S3 directly";

const REAL_TIME: Kind = Kind::Foreign("CloudFront real-time log");
const IIS: Kind =
    Kind::Refused("it is a log of IIS. Keep it out of the prefix of CloudFront's logs");
const FIREHOSE_REQUEST: Kind = Kind::Refused(
    "it is a Firehose request, with records in base64. Write the decoded `data` of each record, or deliver the logs to S3 directly",
);
const FIREHOSE_ERROR: Kind = Kind::Refused(
    "it is a Firehose error record, with the record that was not delivered in base64. Decode `rawData`, and write it to a new object",
);
const SHIPPED: Kind = Kind::Refused(
    "it is a log line that a log shipper wrapped in JSON. Write the lines as CloudFront delivers them, or deliver the logs to S3 directly",
);

/// Names that only real-time logs have, as they and as tables write them.
const REAL_TIME_NAMES: [&str; 20] = [
    "cs-host",
    "cs-user-agent",
    "cs-referer",
    "cs-cookie",
    "c-ip-version",
    "c_ip_version",
    "cs-accept-encoding",
    "cs_accept_encoding",
    "cs-accept",
    "cs_accept",
    "cs-headers",
    "cs_headers",
    "cs-header-names",
    "cs_header_names",
    "cs-headers-count",
    "cs_headers_count",
    "primary-distribution-id",
    "primary_distribution_id",
    "primary-distribution-dns-name",
    "primary_distribution_dns_name",
];

/// Names that standard logs have and real-time logs lack.
const STANDARD_NAMES: [&str; 7] = [
    "cs(Host)",
    "cs(User-Agent)",
    "cs(Referer)",
    "cs(Cookie)",
    "timestamp(ms)",
    "timestamp_ms",
    "DistributionId",
];

const IIS_NAMES: [&str; 6] = [
    "sc-win32-status",
    "sc-substatus",
    "s-sitename",
    "s-computername",
    "cs-username",
    "s-port",
];

/// Names of records without viewer requests. All names of a line are needed.
const FOREIGN: [(&[&str], &str); 20] = [
    (&["x-event"], "RTMP distribution log"),
    (&["connectionStatus"], "CloudFront connection log"),
    (&["tlsHandshakeDuration"], "CloudFront connection log"),
    (
        &["eventTimestamp", "connectionId"],
        "CloudFront connection log",
    ),
    (&["digestS3Bucket"], "CloudTrail digest"),
    (&["eventVersion", "eventSource"], CLOUD_TRAIL),
    (&["webaclId"], "AWS WAF log"),
    (&["query_timestamp"], "Route 53 query log"),
    (&["configurationItems"], "AWS Config log"),
    (&["configurationItem"], "AWS Config log"),
    (&["configSnapshotId"], "AWS Config log"),
    (&["firewall_name"], "AWS Network Firewall log"),
    (&["metric_stream_name"], "CloudWatch metric stream"),
    (
        &["schemaVersion", "accountId", "service"],
        "GuardDuty finding",
    ),
    (&["Service", "Event", "Bucket"], "S3 test event"),
    (&["sourceBucket", "fileSchema"], "S3 Inventory manifest"),
    (&["account_id", "interface_id"], "VPC flow log"),
    (&["account-id", "interface-id"], "VPC flow log"),
    (
        &["requestId", "httpMethod", "resourcePath"],
        "API Gateway log",
    ),
    (&["requestId", "httpMethod", "routeKey"], "API Gateway log"),
];

/// Names of records that may contain viewer requests, the most telling ones first.
const REFUSED: [(&[&str], Kind); 21] = [
    (&["rawData", "attemptsMade"], FIREHOSE_ERROR),
    (&["rawData", "errorCode"], FIREHOSE_ERROR),
    (&["records", "requestId"], FIREHOSE_REQUEST),
    (&["records", "deliveryStreamArn"], FIREHOSE_REQUEST),
    (&["records", "invocationId"], FIREHOSE_REQUEST),
    (&["records"], FIREHOSE_REQUEST),
    (&["recordId", "data"], FIREHOSE_REQUEST),
    (&["kinesis"], FIREHOSE_REQUEST),
    (&["logEvents"], Kind::Refused(SUBSCRIPTION)),
    (&["detail-type", "detail"], Kind::Refused(EVENT)),
    (&["message"], SHIPPED),
    (&["@message"], SHIPPED),
    (&["log"], SHIPPED),
    (&["_raw"], SHIPPED),
    (&["raw"], SHIPPED),
    (&["line"], SHIPPED),
    (&["body"], SHIPPED),
    (&["event"], SHIPPED),
    (&["msg"], SHIPPED),
    (&["payload"], SHIPPED),
    (&["data"], SHIPPED),
];

/// Returns the kind of records with these fields, or `None` if they are those of CloudFront's
/// access logs or nothing known.
pub(super) fn of_names(names: &[&[u8]], columns: &Columns) -> Option<Kind> {
    let at = |known: &str| {
        let known = known.as_bytes();
        names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(known))
    };
    let has = |known: &&str| at(known).is_some();
    let is_standard = STANDARD_NAMES.iter().any(has) || has(&"date") && has(&"time");
    if IIS_NAMES.iter().any(has) {
        return Some(IIS);
    }
    if !is_standard && REAL_TIME_NAMES.iter().any(has) {
        return Some(REAL_TIME);
    }
    if columns.missing().is_empty() {
        return None;
    }
    if let Some(index) = at("messageType").filter(|_| has(&"logEvents")) {
        return Some(Kind::Messages(index));
    }
    if let Some(index) = at("source").filter(|_| has(&"detail-type") && has(&"detail")) {
        return Some(Kind::Events(index));
    }
    // A Firehose request has `records`.
    if names.contains(&b"Records".as_slice()) {
        return Some(Kind::Records);
    }
    let foreign = FOREIGN.iter().find(|(known, _)| known.iter().all(has));
    let refused = || REFUSED.iter().find(|(known, _)| known.iter().all(has));
    foreign
        .map(|(_, log)| Kind::Foreign(log))
        .or_else(|| refused().map(|(_, kind)| *kind))
}

/// Names that every record of `CloudTrail` has.
const CLOUD_TRAIL_NAMES: [&[u8]; 2] = [b"eventVersion", b"eventSource"];

/// Names of events that a function of Lambda is given, with data of others.
const EVENT_NAMES: [&[u8]; 8] = [
    b"kinesis",
    b"s3",
    b"dynamodb",
    b"Sns",
    b"body",
    b"data",
    b"message",
    b"cf",
];

/// Whether `Records` are those of `CloudTrail`, by the first one. A file without any is skipped too.
pub(super) fn is_cloud_trail(items: &Items) -> bool {
    match items {
        Items::Other => false,
        Items::Empty => true,
        Items::Object { names, .. } => {
            let has = |known: &&[u8]| names.iter().any(|name| name == known);
            CLOUD_TRAIL_NAMES.iter().all(has) && !EVENT_NAMES.iter().any(has)
        }
    }
}

/// Beginnings of files that are not text.
const MAGIC: [(&[u8], &str); 11] = [
    (
        b"\x1f\x8b",
        "it is gzip inside gzip. Decompress it once, and upload it again",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "it is compressed with zstd. Compress it with gzip instead, or not at all",
    ),
    (
        b"BZh",
        "it is compressed with bzip2. Compress it with gzip instead, or not at all",
    ),
    (
        b"\xfd7zXZ\0",
        "it is compressed with xz. Compress it with gzip instead, or not at all",
    ),
    (
        b"\x04\x22\x4d\x18",
        "it is compressed with lz4. Compress it with gzip instead, or not at all",
    ),
    (
        b"\xff\x06\0\0sNaPpY",
        "it is compressed with Snappy. Compress it with gzip instead, or not at all",
    ),
    (
        b"PK\x03\x04",
        "it is a zip archive. Extract it, and compress the logs with gzip or not at all",
    ),
    (
        b"ORC",
        "it is an ORC file. Write the rows as JSON, with CloudFront's field names",
    ),
    (
        b"Obj\x01",
        "it is an Avro file. Write the rows as JSON, with CloudFront's field names",
    ),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
];
const UTF_16: &str = "its text is UTF-16. Convert it to UTF-8";

/// Returns what a log is by how its text begins, and by its first line that is not blank.
pub(super) fn of_start(text: &[u8], line: &[u8]) -> Option<Kind> {
    let magic = MAGIC.iter().find(|(magic, _)| text.starts_with(magic));
    if let Some((_, reason)) = magic {
        return Some(Kind::Refused(reason));
    }
    if let [0, other, ..] | [other, 0, ..] = text
        && other.is_ascii_graphic()
    {
        return Some(Kind::Refused(UTF_16));
    }
    let words: Vec<&[u8]> = line
        .split(u8::is_ascii_whitespace)
        .take(15)
        .filter(|word| !word.is_empty())
        .collect();
    let has = |part: &str| memchr::memmem::find(line, part.as_bytes()).is_some();
    let is_like = |word: &[u8], like: &str| has_shape(word, like.as_bytes());
    let is_hex = |word: &[u8]| word.iter().all(u8::is_ascii_hexdigit);
    Some(match words[..] {
        [b"http" | b"https" | b"h2" | b"grpcs" | b"ws" | b"wss", ..] if has(" app/") => {
            Kind::Foreign("Application Load Balancer log")
        }
        [b"tls", ..] if has(" net/") => Kind::Foreign("Network Load Balancer log"),
        [b"version", ..] if has("account-id") || has("interface-id") => {
            Kind::Foreign("VPC flow log")
        }
        [owner, ..] if owner.len() == 64 && is_hex(owner) && has(" [") => {
            Kind::Foreign("S3 server access log")
        }
        [time, ..] if is_like(time, "0000000000.000") => REAL_TIME,
        [
            b"Enable",
            b"AccessLog" | b"ConnectionLog",
            b"for",
            b"ELB:",
            ..,
        ] => Kind::Foreign("test file of a load balancer"),
        [b"Permission", b"Check", b"Successful"] => Kind::Foreign("test file of CloudWatch Logs"),
        [time, _, client, backend, ..]
            if is_like(time, "0000-00-00T00:00:00.000000Z")
                && client.contains(&b':')
                && (backend.contains(&b':') || backend == b"-")
                && has(" \"") =>
        {
            Kind::Foreign("Classic Load Balancer log")
        }
        [time, _, port, listener, ..]
            if is_like(time, "0000-00-00T00:00:00.000000Z")
                && port.iter().all(u8::is_ascii_digit)
                && listener.iter().all(u8::is_ascii_digit) =>
        {
            Kind::Foreign("Application Load Balancer connection log")
        }
        [time, _, ..] if is_like(time, "0000-00-00T00:00:00.000Z") => Kind::Refused(
            "it is an export of CloudWatch Logs, with a time before each line. Deliver the logs to S3 directly, or remove the times",
        ),
        [b"#Software:", b"Microsoft", ..] => IIS,
        _ if is_csv_header(line) || line.starts_with(b"\"") && has("\",\"") => Kind::Refused(
            "it is a CSV export of a table. Export the rows as JSON, with CloudFront's field names",
        ),
        _ => return None,
    })
}

/// Whether each byte of `word` is the one of `like`, or a digit where that has a `0`.
pub(super) fn has_shape(word: &[u8], like: &[u8]) -> bool {
    let is_alike = |(byte, like): (&u8, &u8)| match like {
        b'0' => byte.is_ascii_digit(),
        _ => byte == like,
    };
    word.len() == like.len() && word.iter().zip(like).all(is_alike)
}

/// Whether a line consists of names, among them fields that access logs have.
fn is_csv_header(line: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-()".contains(byte);
    let cells = line.split(|byte| b",;\t|".contains(byte));
    let names = || cells.clone().map(unquoted);
    names().all(|name| !name.is_empty() && name.iter().all(is_of_name))
        && Columns::from_names(names().take(MAX_NAMES)).known() >= 3
}

fn unquoted(cell: &[u8]) -> &[u8] {
    let cell = cell.trim_ascii();
    let quoted = cell
        .strip_prefix(b"\"")
        .and_then(|cell| cell.strip_suffix(b"\""));
    quoted.unwrap_or(cell)
}

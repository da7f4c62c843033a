//! The fields of one row: the column of each, and its decoding as `docs/input.md` describes it.

use std::io::Cursor;
use std::net::IpAddr;
use std::sync::Arc;

use edgetap::filter::StaticAssets;
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{Transaction, decode};
use edgetap::log::Field;
use edgetap::pipeline::{Batches, Rules};
use edgetap::redact::Redaction;

/// The input is two bytes that select an order of the columns, and a row up to its newline.
pub fn fields(data: &[u8]) {
    let Some((&[rotation, reversal], row)) = data.split_first_chunk() else {
        return;
    };
    let row = row.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let row = Row::new(row, usize::from(rotation), reversal % 2 == 1);
    // Neither blank lines and headers nor a single column are rows. JSON begins with a bracket, and
    // CloudFront encodes those.
    let mut cells = row.cells.iter().map(|cell| cell.trim_ascii_start());
    let first = cells.find_map(|cell| cell.first());
    if row.cells.len() < 2 || matches!(first, Some(b'#' | b'{' | b'[' | 0x1e)) {
        return;
    }

    let job = Job::all(ObjectRef::in_s3("fuzz", "log"));
    let (static_assets, redaction) = (
        StaticAssets::parse("none").unwrap(),
        Redaction {
            urls: None,
            ..Redaction::default()
        },
    );
    let rules = Arc::new(Rules {
        static_assets,
        redaction,
        ..Rules::default()
    });
    // A log without a readable row ends with an error.
    let batches: Vec<_> = Batches::new(&job, Cursor::new(row.log()), rules)
        .map_while(Result::ok)
        .collect();
    let [batch] = &batches[..] else {
        panic!("{} batches of a row", batches.len())
    };
    match row.expected() {
        None => assert_eq!(
            (batch.counts.malformed, batch.body.len()),
            (1, 0),
            "a required field is missing"
        ),
        Some(expected) => {
            let transactions = decode(&batch.body).unwrap();
            let [found] = &transactions[..] else {
                panic!("{} transactions of a row", transactions.len())
            };
            expected.check(found);
        }
    }
}

struct Row<'a> {
    order: Vec<Field>,
    cells: Vec<&'a [u8]>,
}

impl<'a> Row<'a> {
    fn new(row: &'a [u8], rotation: usize, is_reversed: bool) -> Self {
        let mut order = Field::ALL.to_vec();
        order.rotate_left(rotation % Field::ALL.len());
        if is_reversed {
            order.reverse();
        }
        Self {
            order,
            cells: row.split(|byte| *byte == b'\t').collect(),
        }
    }

    fn log(&self) -> Vec<u8> {
        let names: Vec<_> = self.order.iter().map(|field| field.name()).collect();
        [
            b"#Fields: ",
            names.join(" ").as_bytes(),
            b"\n",
            &self.cells.join(&b'\t'),
            b"\n",
        ]
        .concat()
    }

    fn get(&self, field: Field) -> Option<&'a [u8]> {
        let index = self.order.iter().position(|known| *known == field).unwrap();
        let mut value = *self.cells.get(index)?;
        if index + 1 == self.cells.len() {
            value = value.strip_suffix(b"\r").unwrap_or(value);
        }
        Some(value).filter(|value| !matches!(*value, b"" | b"-"))
    }

    fn number(&self, field: Field) -> Option<u64> {
        self.get(field).and_then(number)
    }

    fn text(&self, field: Field) -> Option<String> {
        self.get(field)
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The expected transaction, or `None` if a required field is missing.
    fn expected(&self) -> Option<Expected<'a, '_>> {
        let target = (self.get(Field::UriStem)?, self.get(Field::UriQuery));
        let (method, ended) = (self.get(Field::Method)?, self.ended()?);
        let client_ip: Option<IpAddr> = self
            .text(Field::ClientIp)
            .and_then(|address| address.parse().ok());
        let client_ip = client_ip.map_or_else(
            || "0.0.0.0".to_owned(),
            |address| address.to_canonical().to_string(),
        );
        let took = self.get(Field::TimeTaken).and_then(milliseconds);
        let started = took
            .and_then(|took| ended.checked_sub(took))
            .filter(|started| is_plausible(*started))
            .unwrap_or(ended);
        Some(Expected {
            row: self,
            target,
            method,
            ended,
            started,
            client_ip,
        })
    }

    /// In milliseconds since the Unix epoch.
    fn ended(&self) -> Option<i64> {
        let epoch = |field, unit| i64::try_from(self.number(field)?).ok()?.checked_mul(unit);
        let epoch = |field, unit| epoch(field, unit).filter(|time| is_plausible(*time));
        epoch(Field::TimestampMs, 1)
            .or_else(|| {
                let (date, time) = (self.text(Field::Date)?, self.text(Field::Time)?);
                let has_shape = |text: &str, shape: &str| {
                    text.len() == shape.len()
                        && text.bytes().zip(shape.bytes()).all(|(b, s)| {
                            if s == b'0' {
                                b.is_ascii_digit()
                            } else {
                                b == s
                            }
                        })
                };
                if !has_shape(&date, "0000-00-00") || !has_shape(&time, "00:00:00") {
                    return None;
                }
                // jiff reads a leap second as the second before it.
                let leap = if time.ends_with(":60") { 1000 } else { 0 };
                let time: jiff::Timestamp = format!("{date}T{time}Z").parse().ok()?;
                Some(time.as_millisecond() + leap).filter(|time| is_plausible(*time))
            })
            .or_else(|| epoch(Field::Timestamp, 1000))
    }
}

/// Whether a time, in milliseconds since the Unix epoch, is from 2008 to 2100.
fn is_plausible(time: i64) -> bool {
    (1_199_145_600_000..4_102_444_800_000).contains(&time)
}

struct Expected<'a, 'r> {
    row: &'r Row<'a>,
    target: (&'a [u8], Option<&'a [u8]>),
    method: &'a [u8],
    ended: i64,
    started: i64,
    client_ip: String,
}

impl Expected<'_, '_> {
    fn check(&self, found: &Transaction) {
        let (row, (path, query)) = (self.row, self.target);
        let (request, response, source) = (
            &found.request,
            &found.response,
            &found.txn_meta_data.source_info,
        );
        assert_eq!(
            in_milliseconds(&found.timestamp),
            self.started.into(),
            "{}",
            found.timestamp
        );
        check_visible(&request.http_method, self.method);
        check_visible(
            &request.uri_query_fragment,
            &[
                path,
                if query.is_some() { b"?" } else { b"" },
                query.unwrap_or_default(),
            ]
            .concat(),
        );
        assert_eq!(request.connection.connection_ip, self.client_ip);
        assert_eq!(
            request.connection.connection_port,
            row.number(Field::ClientPort)
                .and_then(|port| port.try_into().ok())
        );
        assert_eq!(request.http_scheme, row.text(Field::Protocol));
        let version = row.text(Field::ProtocolVersion);
        assert_eq!(
            request.http_version.as_deref(),
            version
                .as_deref()
                .map(|version| version.strip_prefix("HTTP/").unwrap_or(version))
        );

        let once = |field| row.get(field).map(decoded);
        let host = once(Field::HostHeader).or_else(|| once(Field::DistributionDomain));
        assert_eq!(
            request.host,
            host.map(|host| String::from_utf8_lossy(&host).into_owned())
        );
        assert_eq!(found.request_header("Host"), once(Field::HostHeader));
        assert_eq!(found.request_header("Referer"), once(Field::Referer));
        assert_eq!(found.request_header("Cookie"), once(Field::Cookie));
        assert_eq!(
            found.request_header("User-Agent"),
            row.get(Field::UserAgent)
                .map(|logged| user_agent(logged, self.ended))
        );
        let chain = row.get(Field::XForwardedFor).map(forwarded_for);
        let peer: Option<IpAddr> = row
            .text(Field::ClientIp)
            .and_then(|address| address.parse().ok());
        let peer = peer.map(|address| address.to_canonical().to_string().into());
        let chain: Vec<_> = chain.into_iter().chain(peer).collect();
        assert_eq!(
            found.request_header("X-Forwarded-For"),
            (!chain.is_empty()).then(|| chain.join(&b", "[..]))
        );

        assert_eq!(
            response.status_code,
            row.text(Field::Status).and_then(status)
        );
        assert_eq!(
            found.response_header("Content-Type"),
            once(Field::ContentType)
        );
        let length = row.number(Field::ContentLength);
        assert_eq!(
            found.response_header("Content-Length"),
            length.map(|length| length.to_string().into_bytes())
        );
        assert_eq!(response.body.length, length.unwrap_or(0));
        let range = row
            .number(Field::RangeStart)
            .zip(row.number(Field::RangeEnd));
        assert_eq!(
            found.response_header("Content-Range"),
            range.map(|(start, end)| format!("bytes {start}-{end}/*").into_bytes())
        );
        assert_eq!(
            found.response_header("X-Amz-Cf-Id").as_deref(),
            row.get(Field::RequestId)
        );
        assert!(
            row.get(Field::RequestId).is_none()
                || Some(&found.transaction_id) == row.text(Field::RequestId).as_ref()
        );

        assert_eq!(source.instance_id, row.text(Field::EdgeLocation));
        let is_id =
            |id: &String| id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert_eq!(
            source.pool_id,
            row.text(Field::DistributionId).filter(is_id)
        );
        for (headers, most) in [(&request.headers, 5), (&response.headers, 4)] {
            assert!(headers.len() <= most, "unexpected header");
        }
    }
}

/// Checks that `sent` is `logged` decoded once, with everything but visible ASCII encoded.
fn check_visible(sent: &str, logged: &[u8]) {
    let mut rest = sent.as_bytes();
    for byte in decoded(logged) {
        let taken = if byte.is_ascii_graphic() {
            rest.strip_prefix(&[byte])
        } else {
            escape(rest)
                .filter(|escaped| escaped.0 == byte)
                .map(|(_, rest)| rest)
        };
        rest = taken.unwrap_or_else(|| panic!("{sent} of {}", logged.escape_ascii()));
    }
    assert!(rest.is_empty(), "{sent} of {}", logged.escape_ascii());
}

/// Returns the byte that a leading escape encodes, and the text after it.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, rest @ ..] = text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((
        u8::try_from(digit(*high)? * 16 + digit(*low)?).unwrap(),
        rest,
    ))
}

pub(crate) fn decoded(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&first, after)) = text.split_first() {
        let (byte, rest) = escape(text).unwrap_or((first, after));
        out.push(byte);
        text = rest;
    }
    out
}

/// Rows before 2020-02-01 have user agents that may be encoded twice.
fn user_agent(logged: &[u8], ended: i64) -> Vec<u8> {
    let once = decoded(logged);
    if ended >= 1_580_515_200_000 {
        return once;
    }
    let is_escape = |three: &[u8]| {
        [b"%20", b"%22", b"%5c"]
            .iter()
            .any(|escape| three == *escape)
    };
    let is_encoded_twice =
        !once.contains(&b' ') && once.to_ascii_lowercase().windows(3).any(is_escape);
    if !is_encoded_twice {
        return once;
    }
    let mut text = &once[..];
    let mut twice = Vec::new();
    while let Some((&first, after)) = text.split_first() {
        let (byte, rest) = escape(text)
            .filter(|(byte, _)| !byte.is_ascii_control())
            .unwrap_or((first, after));
        twice.push(byte);
        text = rest;
    }
    twice
}

/// `\x20` is another way to write `%20`.
pub(crate) fn forwarded_for(mut logged: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some((&first, after)) = logged.split_first() {
        logged = match logged {
            [b'\\', b'x', high, low, rest @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                text.extend([b'%', *high, *low]);
                rest
            }
            _ => {
                text.push(first);
                after
            }
        };
    }
    decoded(&text)
}

fn status(logged: String) -> Option<String> {
    let is_status = logged.len() == 3 && logged.bytes().all(|byte| byte.is_ascii_digit());
    match logged.as_str() {
        "000" | "0" => Some("0".to_owned()),
        _ => Some(logged).filter(|status| is_status && !status.starts_with('0')),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}

/// Parses seconds with decimals.
fn milliseconds(seconds: &[u8]) -> Option<i64> {
    let seconds = std::str::from_utf8(seconds).ok()?;
    let (whole, decimals) = seconds.split_once('.').unwrap_or((seconds, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let thousandths = format!("{decimals}000");
    format!("{}{}", whole, &thousandths[..3])
        .parse::<i64>()
        .ok()
}

/// Parses seconds with three decimals and an optional sign.
fn in_milliseconds(seconds: &str) -> i128 {
    seconds.replace('.', "").parse().unwrap()
}

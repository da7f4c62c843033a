//! The header `Retry-After`, which is a number of seconds or a date.

use std::time::{Duration, SystemTime};

use edgetap::retry::retry_after as parse;

const LONGEST: Duration = Duration::from_mins(15);
/// More than can pass between two reads of the clock.
const TOLERANCE: Duration = Duration::from_mins(2);

/// The input is the header's value. Its first two bytes are also used as an offset in seconds from
/// now, to make a date.
pub fn retry_after(data: &[u8]) {
    if let Ok(value) = std::str::from_utf8(data) {
        check(value);
    }
    if let Some(&[high, low]) = data.first_chunk() {
        let offset = i16::from_be_bytes([high, low]);
        let distance = Duration::from_secs(u64::from(offset.unsigned_abs()));
        let now = SystemTime::now();
        let field = httpdate::fmt_http_date(if offset < 0 {
            now - distance
        } else {
            now + distance
        });
        let wait = parse(&field).unwrap();
        let wanted = if offset < 0 { Duration::ZERO } else { distance };
        assert!(
            wait <= wanted.min(LONGEST) && wait >= wanted.saturating_sub(TOLERANCE).min(LONGEST),
            "{field}: {wait:?}"
        );
    }
}

fn check(value: &str) {
    let found = parse(value);
    assert!(found.is_none_or(|wait| wait <= LONGEST), "{found:?}");
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        // A number of more than 64 bits is ignored.
        let wanted = value
            .parse()
            .ok()
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST));
        assert_eq!(found, wanted, "{value}");
    } else if found.is_some() {
        assert!(
            httpdate::parse_http_date(value).is_ok(),
            "{value} is neither seconds nor a date"
        );
    }
    // The date format that servers send, read by a second parser.
    if value.ends_with(" GMT")
        && let Ok(date) = jiff::fmt::rfc2822::parse(value)
        && let Some(wait) = found
    {
        let ahead = date.timestamp().duration_since(jiff::Timestamp::now());
        let wanted = Duration::try_from(ahead).unwrap_or_default();
        assert!(
            wait <= (wanted + TOLERANCE).min(LONGEST)
                && wait >= wanted.saturating_sub(TOLERANCE).min(LONGEST),
            "{value}: {wait:?}"
        );
    }
}

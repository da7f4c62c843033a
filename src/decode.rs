//! *Decode*: from a logged value to the bytes that were sent, or to a time, number or address.
//!
//! CloudFront percent-encodes every value once, including `%`, so decoding once restores the bytes
//! that were sent. There are two exceptions: until January 2020 user agents were encoded twice, and
//! in `x-forwarded-for` a space is logged as `\x20`. `+` is not an encoded space.

use std::io::Write as _;
use std::net::Ipv6Addr;
use std::ops::Range;

use crate::log::Field;
use crate::simd::{Positions, equal, every, hex, is_graphic};

/// Milliseconds since the Unix epoch that can be the time of a request: from 2008, when CloudFront
/// began, to 2100.
const TIMES: Range<i64> = 1_199_145_600_000..4_102_444_800_000;

/// 2020-02-01, in milliseconds since the Unix epoch. Earlier user agents may be encoded twice.
const ENCODED_ONCE: i64 = 1_580_515_200_000;

/// Returns a logged value, decoded by the rules of its field. User agents are decoded once.
/// `scratch` is cleared first.
pub fn as_sent<'a>(field: Field, logged: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    scratch.clear();
    decode(field, logged, scratch).of(scratch)
}

/// Like [`as_sent`], but appends to `scratch`.
pub(crate) fn decode<'a>(field: Field, logged: &'a [u8], scratch: &mut Vec<u8>) -> Span<'a> {
    match field {
        Field::XForwardedFor => decoded_forwarded_for(logged, scratch),
        Field::Method | Field::UriStem | Field::UriQuery => visible(logged, scratch),
        _ => decoded(logged, scratch),
    }
}

/// Like [`decode`], but undoes one layer of encoding in a user agent of any age, too.
pub(crate) fn decode_once<'a>(field: Field, logged: &'a [u8], scratch: &mut Vec<u8>) -> Span<'a> {
    match field {
        Field::UserAgent => decoded(logged, scratch),
        _ => decode(field, logged, scratch),
    }
}

/// Undoes the percent-encoding of `text` in place. Returns the length of the result.
pub(crate) fn decode_in_place(text: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while let Some(&first) = text.get(from) {
        let escape = match text[from..] {
            [b'%', high, low, ..] => hex(high, low),
            _ => None,
        };
        text[to] = escape.unwrap_or(first);
        from += if escape.is_some() { 3 } else { 1 };
        to += 1;
    }
    to
}

/// A value as it was logged, or a range of the scratch buffer.
#[derive(Clone, Copy)]
pub(crate) enum Span<'a> {
    Logged(&'a [u8]),
    Decoded(usize, usize),
}

impl<'a> Span<'a> {
    /// Returns the bytes of the value. `scratch` must be the buffer that it was decoded into.
    pub(crate) fn of(self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Logged(value) => value,
            Self::Decoded(start, end) => &scratch[start..end],
        }
    }
}

/// Decodes a value that may contain any byte.
fn decoded<'a>(value: &'a [u8], scratch: &mut Vec<u8>) -> Span<'a> {
    if every(value, |bytes| !equal(bytes, b'%')) {
        return Span::Logged(value);
    }
    let start = scratch.len();
    push_decoded(value, scratch);
    Span::Decoded(start, scratch.len())
}

/// Appends a decoded value. A `%` without two hexadecimal digits after it is kept.
fn push_decoded(value: &[u8], out: &mut Vec<u8>) {
    let mut copied = 0;
    for at in Positions::new(value, |bytes| equal(bytes, b'%')) {
        if let [_, high, low, ..] = value[at..]
            && let Some(byte) = hex(high, low)
        {
            out.extend_from_slice(&value[copied..at]);
            out.push(byte);
            copied = at + 3;
        }
    }
    out.extend_from_slice(&value[copied..]);
}

/// Decodes the user agent of a request that ended at this time. Until January 2020 CloudFront encoded
/// them twice (`%2520` for a space), so one that contains `%20`, `%22` or `%5C` but no space after
/// decoding is decoded again: no client writes `%20` for every space. Control characters stay
/// encoded then, because they would be new header lines.
pub(crate) fn user_agent<'a>(logged: &'a [u8], ended: i64, scratch: &mut Vec<u8>) -> Span<'a> {
    let once = decoded(logged, scratch);
    let Span::Decoded(start, end) = once else {
        return once;
    };
    if ended >= ENCODED_ONCE || !is_encoded_twice(&scratch[start..end]) {
        return once;
    }
    let mut at = start;
    while let Some((&first, rest)) = scratch[at..end].split_first() {
        let escape = match (first, rest) {
            (b'%', [high, low, ..]) => hex(*high, *low).filter(|byte| !byte.is_ascii_control()),
            _ => None,
        };
        at += if escape.is_some() { 3 } else { 1 };
        scratch.push(escape.unwrap_or(first));
    }
    Span::Decoded(end, scratch.len())
}

/// Whether a user agent that was decoded once is still encoded.
fn is_encoded_twice(text: &[u8]) -> bool {
    let is_encoded = |at: usize| {
        matches!(
            text[at..],
            [_, b'2', b'0' | b'2', ..] | [_, b'5', b'C' | b'c', ..]
        )
    };
    memchr::memchr(b' ', text).is_none() && memchr::memchr_iter(b'%', text).any(is_encoded)
}

/// Decodes `x-forwarded-for`, in which a space is logged as `\x20`. A backslash from the viewer
/// would be `%5C`.
fn decoded_forwarded_for<'a>(value: &'a [u8], scratch: &mut Vec<u8>) -> Span<'a> {
    if memchr::memchr(b'\\', value).is_none() {
        return decoded(value, scratch);
    }
    let start = scratch.len();
    let mut rest = value;
    while let Some(&first) = rest.first() {
        let escape = match rest {
            [b'\\', b'x', high, low, ..] => hex(*high, *low).map(|byte| (byte, 4)),
            [b'%', high, low, ..] => hex(*high, *low).map(|byte| (byte, 3)),
            _ => None,
        };
        let (byte, len) = escape.unwrap_or((first, 1));
        scratch.push(byte);
        rest = &rest[len..];
    }
    Span::Decoded(start, scratch.len())
}

/// Decodes a value of the request line. Bytes that may not appear in one unencoded (control
/// characters, space, non-ASCII) stay or become percent-encoded.
fn visible<'a>(value: &'a [u8], scratch: &mut Vec<u8>) -> Span<'a> {
    if is_visible(value) {
        return Span::Logged(value);
    }
    let start = scratch.len();
    push_visible(value, scratch);
    Span::Decoded(start, scratch.len())
}

/// Whether [`visible`] leaves the value unchanged.
fn is_visible(value: &[u8]) -> bool {
    every(value, |bytes| is_graphic(bytes) & !equal(bytes, b'%'))
}

/// Appends a path or query, decoded like [`visible`] does.
pub(crate) fn push_visible(value: &[u8], out: &mut Vec<u8>) {
    if is_visible(value) {
        return out.extend_from_slice(value);
    }
    let mut rest = value;
    loop {
        let plain = rest
            .iter()
            .position(|byte| !byte.is_ascii_graphic() || *byte == b'%')
            .unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let Some((&byte, after)) = rest.split_first() else {
            return;
        };
        let escape = match after {
            [high, low, ..] if byte == b'%' => hex(*high, *low),
            _ => None,
        };
        match escape {
            Some(decoded) if decoded.is_ascii_graphic() => out.push(decoded),
            Some(_) => out.extend_from_slice(&rest[..3]),
            None if byte == b'%' => out.push(byte),
            None => out.extend_from_slice(percent_encoding::percent_encode_byte(byte).as_bytes()),
        }
        rest = &rest[if escape.is_some() { 3 } else { 1 }..];
    }
}

/// Returns a time in milliseconds since the Unix epoch, if it can be that of a request.
pub(crate) fn plausible(time: i64) -> Option<i64> {
    TIMES.contains(&time).then_some(time)
}

/// Parses `YYYY-MM-DD` and `HH:MM:SS` (UTC) to milliseconds since the Unix epoch. A leap second
/// (`:60`) is the second after `:59`.
pub(crate) fn date_time(date: &[u8], time: &[u8]) -> Option<i64> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else {
        return None;
    };
    let &[h1, h2, b':', min1, min2, b':', s1, s2] = time else {
        return None;
    };
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, min1, min2, s1, s2];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |tens: u8, ones: u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    let (year, month, day) = (two(y1, y2) * 100 + two(y3, y4), two(m1, m2), two(d1, d2));
    let (hour, minute, second) = (two(h1, h2), two(min1, min2), two(s1, s2));
    let month_length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=month_length).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970-01-01 in the proleptic Gregorian calendar. Years start in March, so that the
    // leap day is the last day of a year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        + day
        - 719_469;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

/// Parses seconds with any number of decimals to milliseconds, rounding down.
pub(crate) fn milliseconds(seconds: &[u8]) -> Option<i64> {
    let dot = memchr::memchr(b'.', seconds).unwrap_or(seconds.len());
    let (whole, decimals) = (&seconds[..dot], seconds.get(dot + 1..).unwrap_or_default());
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths = (0..3).fold(0, |sum, index| {
        sum * 10
            + decimals
                .get(index)
                .map_or(0, |digit| i64::from(digit - b'0'))
    });
    i64::try_from(number(whole)?)
        .ok()?
        .checked_mul(1000)?
        .checked_add(thousandths)
}

/// Checks that a status has three digits, the first not zero. `000`, which CloudFront logs if the
/// viewer closed the connection before a response (`0` as a number of JSON), becomes `0`.
pub(crate) fn status(logged: &[u8]) -> Option<&[u8]> {
    match logged {
        b"000" | b"0" => Some(b"0"),
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => Some(logged),
        _ => None,
    }
}

/// Parses a number of one or more decimal digits, without a sign.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Returns an address in the spelling of RFC 5952, and an IPv4-mapped one as IPv4.
pub(crate) fn address<'a>(logged: &'a [u8], scratch: &mut Vec<u8>) -> Option<Span<'a>> {
    if is_ipv4(logged) || is_full_ipv6(logged) {
        return Some(Span::Logged(logged));
    }
    let address: Ipv6Addr = std::str::from_utf8(logged).ok()?.parse().ok()?;
    let start = scratch.len();
    // Writing to a `Vec` cannot fail.
    _ = write!(scratch, "{}", address.to_canonical());
    Some(Span::Decoded(start, scratch.len()))
}

/// Agrees with the standard library's parser (four numbers up to 255 without leading zeros) but is
/// faster: with the media types that `filter/media.rs` compares first it saves 3% of the pipeline's time.
fn is_ipv4(text: &[u8]) -> bool {
    let is_number = |number: &[u8]| {
        matches!(
            number,
            [b'0'..=b'9']
                | [b'1'..=b'9', b'0'..=b'9']
                | [b'1', b'0'..=b'9', b'0'..=b'9']
                | [b'2', b'0'..=b'4', b'0'..=b'9']
                | [b'2', b'5', b'0'..=b'5']
        )
    };
    let mut numbers = text.split(|byte| *byte == b'.');
    numbers
        .by_ref()
        .take(4)
        .filter(|number| is_number(number))
        .count()
        == 4
        && numbers.next().is_none()
}

/// Whether `text` is an IPv6 address of eight groups, none of them zero, in the spelling of RFC 5952.
/// Most IPv6 addresses of clients are. Parsing and writing one would be a quarter of the work for its row.
fn is_full_ipv6(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_group =
        |group: &[u8]| matches!(group, [b'1'..=b'9' | b'a'..=b'f', ..]) && group.len() <= 4;
    let mut groups = text.split(|byte| *byte == b':');
    groups
        .by_ref()
        .take(8)
        .filter(|group| is_group(group) && group.iter().all(is_digit))
        .count()
        == 8
        && groups.next().is_none()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn shown(decode: impl for<'a> Fn(&'a [u8], &mut Vec<u8>) -> Span<'a>, value: &str) -> String {
        let mut scratch = b"before".to_vec();
        let span = decode(value.as_bytes(), &mut scratch);
        String::from_utf8_lossy(span.of(&scratch)).into_owned()
    }

    // proves: I16
    #[test]
    fn target_is_sent_as_the_viewer_sent_it() {
        for (logged, sent) in [
            ("/../../etc/passwd", "/../../etc/passwd"),
            ("//a//", "//a//"),
            ("/a;b=c", "/a;b=c"),
            ("/%25252e%25252e", "/%252e%252e"),
            ("/%252e", "/%2e"),
            ("/%3Cscript%3E%22%5C", "/<script>\"\\"),
            ("/caf%C3%A9", "/caf%C3%A9"),
            ("/%0A%09%00%7F%20", "/%0A%09%00%7F%20"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("/a+b", "/a+b"),
            ("/raw space\u{e9}", "/raw%20space%C3%A9"),
        ] {
            assert_eq!(shown(visible, logged), sent, "{logged}");
        }
    }

    // proves: I17
    #[test]
    fn old_user_agents_are_decoded_twice() {
        for (logged, sent, old) in [
            (
                "Mozilla/5.0%2520(Windows%2520NT)",
                "Mozilla/5.0%20(Windows%20NT)",
                "Mozilla/5.0 (Windows NT)",
            ),
            (
                "Mozilla/5.0%20(Windows%20NT)",
                "Mozilla/5.0 (Windows NT)",
                "Mozilla/5.0 (Windows NT)",
            ),
            ("a%20b%2520c", "a b%20c", "a b%20c"),
            (
                "Mastodon/4.5.2+glitch",
                "Mastodon/4.5.2+glitch",
                "Mastodon/4.5.2+glitch",
            ),
            ("Bad%UA%", "Bad%UA%", "Bad%UA%"),
            ("x%2541", "x%41", "x%41"),
            ("x%255C%2541", "x%5C%41", "x\\A"),
            (
                "x%2520%250d%250aCookie:%2500%257F%251b",
                "x%20%0d%0aCookie:%00%7F%1b",
                "x %0d%0aCookie:%00%7F%1b",
            ),
        ] {
            for (ended, sent) in [
                (0, old),
                (ENCODED_ONCE - 1, old),
                (ENCODED_ONCE, sent),
                (i64::MAX, sent),
            ] {
                let decoded = shown(|value, scratch| user_agent(value, ended, scratch), logged);
                assert_eq!(decoded, sent, "{logged} {ended}");
            }
        }
    }

    // proves: I50
    #[test]
    fn times_of_requests_are_from_2008_to_2100() {
        for (time, plausible_time) in [
            ("2007-12-31T23:59:59.999Z", false),
            ("2008-01-01T00:00:00Z", true),
            ("2099-12-31T23:59:59.999Z", true),
            ("2100-01-01T00:00:00Z", false),
        ] {
            let time: jiff::Timestamp = time.parse().unwrap();
            let time = time.as_millisecond();
            assert_eq!(plausible(time).is_some(), plausible_time, "{time}");
        }
        let old: jiff::Timestamp = "2020-02-01T00:00:00Z".parse().unwrap();
        assert_eq!(old.as_millisecond(), ENCODED_ONCE);
    }

    // proves: I51
    #[test]
    fn addresses_have_one_spelling() {
        for (logged, spelled) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("::FFFF:c000:0201", Some("192.0.2.1")),
            ("0:0:0:0:0:ffff:192.0.2.1", Some("192.0.2.1")),
            (
                "2001:0DB8:0000:0000:0000:ff00:0042:8329",
                Some("2001:db8::ff00:42:8329"),
            ),
            ("2001:db8:0:1:1:1:1:1", Some("2001:db8:0:1:1:1:1:1")),
            ("2001:db8:0:0:1:0:0:1", Some("2001:db8::1:0:0:1")),
            ("2001:db8::", Some("2001:db8::")),
            ("::", Some("::")),
            ("fe80::1%eth0", None),
            ("fe80::1%25eth0", None),
            ("[2001:db8::1]", None),
            ("192.0.2.1:443", None),
            ("192.0.2.010", None),
            ("192.0.2", None),
            ("***", None),
            ("x.x.x.x", None),
        ] {
            let mut scratch = b"before".to_vec();
            let found = address(logged.as_bytes(), &mut scratch);
            let found = found.map(|span| String::from_utf8_lossy(span.of(&scratch)));
            assert_eq!(found.as_deref(), spelled, "{logged}");
        }
    }

    // proves: I18
    #[test]
    fn forwarded_for_has_two_kinds_of_escapes() {
        assert_eq!(
            shown(decoded_forwarded_for, r"10.3.200.121,\x2010.56.14.213"),
            "10.3.200.121, 10.56.14.213"
        );
        assert_eq!(
            shown(decoded_forwarded_for, r"a%5Cx20,\x20b%20\xzz"),
            r"a\x20, b \xzz"
        );
    }

    #[test]
    fn durations_are_rounded_down_to_milliseconds() {
        for (logged, expected) in [
            ("0.001", Some(1)),
            ("1.747954871498064", Some(1747)),
            ("12", Some(12000)),
            ("0.5", Some(500)),
            ("-", None),
            ("1.x", None),
            ("1.234x", None),
            (".5", None),
        ] {
            assert_eq!(milliseconds(logged.as_bytes()), expected, "{logged}");
        }
    }

    #[test]
    fn impossible_dates_are_rejected() {
        for (date, time) in [
            ("2026-02-29", "00:00:00"),
            ("2026-13-01", "00:00:00"),
            ("2026-01-01", "24:00:00"),
            ("26-01-01", "00:00:00"),
            ("", ""),
        ] {
            assert_eq!(
                date_time(date.as_bytes(), time.as_bytes()),
                None,
                "{date} {time}"
            );
        }
    }

    #[test]
    fn numbers_of_addresses_agree_with_std() {
        for number in (0..1000).flat_map(|number| [format!("{number}"), format!("0{number}")]) {
            for address in [
                format!("{number}.2.3.4"),
                format!("1.2.{number}.4"),
                format!("1.2.3.{number}"),
            ] {
                assert_eq!(
                    is_ipv4(address.as_bytes()),
                    address.parse::<IpAddr>().is_ok(),
                    "{address}"
                );
            }
        }
    }

    #[test]
    fn full_ipv6_addresses_are_in_their_spelling() {
        let groups = [
            "1", "f", "20", "db8", "2001", "ffff", "", "0", "00", "01", "0db8", "DB8", "dB8", "g",
            "/", ":", "12345", "1.2.3.4",
        ];
        for (group, at) in groups
            .iter()
            .flat_map(|group| (0..8).map(move |at| (group, at)))
        {
            for count in 6..10 {
                let mut all = vec!["2001"; count];
                all[at.min(count - 1)] = group;
                let address = all.join(":");
                let parsed = address
                    .parse()
                    .map(|address: IpAddr| address.to_canonical().to_string());
                let is_spelled_so =
                    parsed.as_ref() == Ok(&address) && !all.contains(&"0") && !all.contains(&"");
                assert_eq!(
                    is_full_ipv6(address.as_bytes()),
                    is_spelled_so && count == 8,
                    "{address}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn dates_agree_with_jiff(second in 0i64..4_102_444_800) {
            let time = jiff::Timestamp::from_second(second).unwrap().to_string();
            prop_assert_eq!(date_time(&time.as_bytes()[..10], &time.as_bytes()[11..19]), Some(second * 1000));
        }

        #[test]
        fn values_encoded_by_cloudfront_are_restored(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            // The Developer Guide's rule: bytes 0 to 32, 127 to 255 and these are encoded.
            let logged: String = bytes.iter().map(|&b| {
                if b <= 32 || b >= 127 || b"<>\"#%{}|\\^~[]`'".contains(&b) { format!("%{b:02X}") } else { char::from(b).to_string() }
            }).collect();
            let mut scratch = Vec::new();
            prop_assert_eq!(decoded(logged.as_bytes(), &mut scratch).of(&scratch), &bytes[..]);
            let target = shown(visible, &logged);
            prop_assert!(target.bytes().all(|b| b.is_ascii_graphic()));
            if bytes.iter().all(u8::is_ascii_graphic) {
                prop_assert_eq!(target.as_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn addresses_agree_with_std(text in "(([0-9]|[12][0-9]{1,2}|0?[0-9]{1,3})[.]){3}[0-9]{1,3}[.]?|[0-9a-f:.]{1,20}|::1") {
            let mut scratch = Vec::new();
            let found = address(text.as_bytes(), &mut scratch);
            let found = found.map(|span| String::from_utf8_lossy(span.of(&scratch)).into_owned());
            let expected = text.parse().ok().map(|address: IpAddr| address.to_canonical().to_string());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn decoding_agrees_with_percent_encoding(value in "([a-z ]{0,20}|%[0-9A-Fa-f]{2}|%[0-9a-g%]{0,2}){0,20}") {
            let other: Vec<u8> = percent_encoding::percent_decode_str(&value).collect();
            prop_assert_eq!(shown(decoded, &value), String::from_utf8_lossy(&other));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut scratch = Vec::new();
            decoded(&value, &mut scratch);
            user_agent(&value, 0, &mut scratch);
            address(&value, &mut scratch);
            decoded_forwarded_for(&value, &mut scratch);
            visible(&value, &mut scratch);
            milliseconds(&value);
        }
    }
}

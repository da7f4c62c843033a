//! *Endpoint*: a path with the parts that differ from request to request replaced: `/orders/{n}`.
//!
//! What looks random may be a credential, so it is never shown, whatever its name.

/// Longest template, in bytes. A longer one is cut.
const MAX_BYTES: usize = 120;
/// Longest part that is shown, in bytes. A longer one is not a word.
const MAX_PART: usize = 40;
/// Letters and digits of the shortest number in hexadecimal that is not a word.
const MIN_HASH: usize = 12;

/// Appends the template of a path, which has visible ASCII only.
pub(super) fn push_template(path: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    for (at, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if at > 0 {
            out.push(b'/');
        }
        push_segment(segment, out);
        if out.len() - start > MAX_BYTES {
            out.truncate(start + MAX_BYTES);
            out.extend_from_slice("…".as_bytes());
            return;
        }
    }
}

/// Appends a name, such as that of a cookie, with what looks random replaced.
pub(super) fn push_name(name: &[u8], out: &mut Vec<u8>) {
    push_segment(name, out);
}

/// Appends the segment of a path, whose parameters (`;name=value`) have no value then.
fn push_segment(segment: &[u8], out: &mut Vec<u8>) {
    if let Some(kind) = whole(segment) {
        out.extend_from_slice(kind);
        return;
    }
    let mut parts = segment.split_inclusive(|byte| matches!(byte, b';' | b'=' | b'.'));
    let mut before = b'.';
    for part in &mut parts {
        let (word, end) = match part {
            [word @ .., end @ (b';' | b'=' | b'.')] => (word, Some(*end)),
            word => (word, None),
        };
        match before {
            b'=' if word == b"REDACTED" || word.is_empty() => out.extend_from_slice(word),
            b'=' => out.extend_from_slice(b"{value}"),
            _ => match whole(word) {
                Some(kind) => out.extend_from_slice(kind),
                None => push_words(word, out),
            },
        }
        out.extend(end);
        before = end.unwrap_or(b'.');
    }
}

/// Appends words that are joined by `-` and the like, such as `order-{n}`.
fn push_words(part: &[u8], out: &mut Vec<u8>) {
    for word in part.split_inclusive(|byte| !byte.is_ascii_alphanumeric() && *byte != b'%') {
        let (word, joint) = match word {
            [word @ .., joint] if !joint.is_ascii_alphanumeric() && *joint != b'%' => {
                (word, Some(*joint))
            }
            word => (word, None),
        };
        let is_number = word.len() > 1 && word.iter().all(u8::is_ascii_digit);
        if is_number {
            out.extend_from_slice(b"{n}");
        } else {
            out.extend_from_slice(random(word).unwrap_or(word));
        }
        out.extend(joint);
    }
}

/// Returns what stands for a whole segment or a part of one.
fn whole(part: &[u8]) -> Option<&'static [u8]> {
    let digits = part.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_number =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b',' | b':' | b'_');
    if digits > 0 && part.iter().all(is_number) {
        return Some(b"{n}");
    }
    if is_uuid(part) {
        return Some(b"{uuid}");
    }
    if part.contains(&b'@') || part.len() > MAX_PART {
        return Some(b"{id}");
    }
    let has = |is: fn(&u8) -> bool| part.iter().filter(|byte| is(byte)).count() > 2;
    let is_mixed =
        digits > 2 && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && part.len() > 15;
    if is_mixed && !part.contains(&b'.') {
        return Some(b"{id}");
    }
    random(part)
}

/// Returns what stands for a word that looks random.
fn random(word: &[u8]) -> Option<&'static [u8]> {
    if !word.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let count = |is: fn(&u8) -> bool| word.iter().filter(|byte| is(byte)).count();
    let (digits, upper) = (count(u8::is_ascii_digit), count(u8::is_ascii_uppercase));
    let (len, letters) = (word.len(), word.len() - digits);
    if len >= MIN_HASH && digits > 1 && word.iter().all(u8::is_ascii_hexdigit) {
        return Some(b"{hash}");
    }
    let turns = word
        .array_windows()
        .filter(|[a, b]| a.is_ascii_digit() != b.is_ascii_digit())
        .count();
    let is_id = if digits > 0 && letters > 0 {
        digits > 3 || turns > 3 || len > 15
    } else {
        // No word has so many letters, or so many capital letters among small ones.
        len > 24 && (upper == 0 || upper == len) || len > 15 && upper * 3 > len && upper < len
    };
    is_id.then_some(b"{id}")
}

fn is_uuid(part: &[u8]) -> bool {
    part.len() == 36
        && part.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn template(path: &str) -> String {
        let mut out = Vec::new();
        push_template(path.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_differs_between_requests_is_folded() {
        for (path, expected) in [
            ("/", "/"),
            ("", ""),
            ("/v1/orders/1042", "/v1/orders/{n}"),
            ("/orders/1042/items/7/", "/orders/{n}/items/{n}/"),
            ("/d/2026-11-14/12:30", "/d/{n}/{n}"),
            ("/u/6fa459ea-ee8a-3ca4-894e-db77e160355e", "/u/{uuid}"),
            ("/c/d41d8cd98f00b204e9800998ecf8427e", "/c/{hash}"),
            ("/app.3f9a2b1c4d5e6f70.js", "/app.{hash}.js"),
            ("/t/dQw4w9WgXcQ/u/x7f3k9", "/t/{id}/u/{id}"),
            ("/order-1042/sku_A12345", "/order-{n}/sku_{id}"),
            ("/users/jane@example.com", "/users/{id}"),
            ("/page/1.html", "/page/{n}.html"),
            (
                "/a;jsessionid=abc;v=REDACTED/b",
                "/a;jsessionid={value};v=REDACTED/b",
            ),
            ("/reset/aZbYcXdWeVfUgThS", "/reset/{id}"),
            ("/k/qwertzuiopasdfghjklyxcvbnm", "/k/{id}"),
            ("/k/ab-Cd_12ef-34GHij", "/k/{id}"),
            (
                "/eyJhbGciOiJIUzI1NiJ9.REDACTED.REDACTED",
                "/{id}.REDACTED.REDACTED",
            ),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
    }

    #[test]
    fn words_and_attacks_stay_as_they_are() {
        for path in [
            "/api/v1beta1/oauth2/authorize",
            "/summer-sale/new-collection",
            "/com.example.UserService/GetNotificationPreferences",
            "/../../etc/passwd",
            "/public/..;/admin",
            "/%2e%2e%2fadmin%00",
            "/<script>alert",
            "/internationalization",
            "/wp-login.php",
            "/h264/mp3",
        ] {
            assert_eq!(template(path), path);
        }
    }

    #[test]
    fn template_is_bounded() {
        let long = template(&"/segment".repeat(10_000));
        assert!(long.len() <= MAX_BYTES + '…'.len_utf8(), "{long}");
        assert!(long.ends_with('…'));
        assert_eq!(template(&format!("/{}", "%61".repeat(500))), "/{id}");
    }
}

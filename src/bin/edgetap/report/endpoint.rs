//! *Endpoint*: a path with the parts that differ from request to request replaced: `/orders/{n}`.
//!
//! What looks random may be a credential, so it is never shown, whatever its name. A token has words of
//! letters and digits, so one such word folds its whole segment. Attacks stay readable: in a segment
//! with characters that no token has, only the word itself is folded.

/// Longest template, in bytes. A longer one is cut.
const MAX_BYTES: usize = 120;
/// Bytes of a segment that are looked at. A longer one is cut.
const MAX_SEGMENT: usize = 1024;
/// Longest word of letters, in bytes.
const MAX_WORD: usize = 24;
/// Letters and digits of the shortest word that is not one if it has both, or capitals inside.
const MIN_TOKEN: usize = 8;
/// Letters and digits of the shortest token whose words are each too short for that.
const MIN_JOINED: usize = 16;
/// Digits of the shortest number in hexadecimal that is not a word.
const MIN_HASH: usize = 12;
/// Longest extension of a file, in bytes.
const MAX_EXTENSION: usize = 5;

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

/// Appends a host without what is before `@`, and with labels that look random replaced. Domains of
/// CloudFront are shown.
pub(super) fn push_host(host: &[u8], out: &mut Vec<u8>) {
    let at = memchr::memrchr(b'@', host);
    let host = at.map_or(host, |at| {
        out.extend_from_slice(b"{value}@");
        &host[at + 1..]
    });
    if host.ends_with(b".cloudfront.net") && host.len() <= b"d111111abcdef8.cloudfront.net".len() {
        out.extend_from_slice(host);
        return;
    }
    for label in host.split_inclusive(|byte| matches!(byte, b'.' | b':')) {
        let end = label.len() - usize::from(matches!(label.last(), Some(b'.' | b':')));
        let (name, joint) = label.split_at(end);
        out.extend_from_slice(Words::of(name).folded().unwrap_or(name));
        out.extend_from_slice(joint);
    }
}

/// Appends the segment of a path, whose parameters (`;name=value`) have no value then.
fn push_segment(segment: &[u8], out: &mut Vec<u8>) {
    let is_plain = segment.len() <= MAX_WORD && segment.iter().all(u8::is_ascii_lowercase);
    if is_plain {
        out.extend_from_slice(segment);
        return;
    }
    let (segment, is_cut) = match segment.get(..MAX_SEGMENT) {
        Some(start) if start.len() < segment.len() => (start, true),
        _ => (segment, false),
    };
    for part in segment.split_inclusive(|byte| matches!(byte, b';' | b'&')) {
        let end = part.len() - usize::from(matches!(part.last(), Some(b';' | b'&')));
        let (pair, joint) = part.split_at(end);
        match memchr::memchr(b'=', pair) {
            Some(at) if pair[at..].iter().any(|byte| *byte != b'=') => {
                push_words(&pair[..at], out);
                let value = &pair[at + 1..];
                out.push(b'=');
                let is_masked = value == b"REDACTED";
                out.extend_from_slice(if is_masked { value } else { b"{value}" });
            }
            _ => push_words(pair, out),
        }
        out.extend_from_slice(joint);
    }
    if is_cut {
        out.extend_from_slice("…".as_bytes());
    }
}

/// Appends words that are joined by `-` and the like, such as `order-{n}`.
fn push_words(segment: &[u8], out: &mut Vec<u8>) {
    if let Some(kind) = whole(segment) {
        out.extend_from_slice(kind);
        return;
    }
    let words = Words::of(segment);
    if !words.is_attack
        && let Some(kind) = words.folded()
    {
        out.extend_from_slice(kind);
        out.extend_from_slice(extension(segment));
        return;
    }
    let mut shown = 0;
    for word in &words.words {
        let (start, end) = word.place;
        out.extend_from_slice(&segment[shown..start]);
        shown = end;
        let is_value = start > 0 && segment[start - 1] == b':';
        if word.letters == 0 && (word.digits > 1 || !words.is_attack) {
            out.extend_from_slice(b"{n}");
        } else if let Some(kind) = word.random {
            out.extend_from_slice(kind);
        } else if is_value && word.digits > 0 {
            out.extend_from_slice(b"{value}");
        } else {
            out.extend_from_slice(&segment[start..end]);
        }
    }
    out.extend_from_slice(&segment[shown..]);
}

/// Returns what stands for a whole segment that is not of words.
fn whole(segment: &[u8]) -> Option<&'static [u8]> {
    let is_number =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b',' | b':' | b'_');
    if segment.iter().any(u8::is_ascii_digit) && segment.iter().all(is_number) {
        return Some(b"{n}");
    }
    if is_uuid(segment) {
        return Some(b"{uuid}");
    }
    is_address(segment).then_some(b"{id}")
}

fn is_uuid(part: &[u8]) -> bool {
    part.len() == 36
        && part.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether a text is an e-mail address.
fn is_address(text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    let separator = memchr::memmem::find(&text, b"%40").map(|at| (at, at + 3));
    let Some((end, start)) = separator.or(memchr::memchr(b'@', &text).map(|at| (at, at + 1)))
    else {
        return false;
    };
    let (name, domain) = (&text[..end], &text[start..]);
    let is_in = |text: &[u8], more: &[u8]| {
        let is_one = |byte: &u8| byte.is_ascii_alphanumeric() || more.contains(byte);
        !text.is_empty() && text.iter().all(is_one)
    };
    is_in(name, b"._%+-") && is_in(domain, b".-") && domain.contains(&b'.') && domain[0] != b'.'
}

/// Returns the extension of a file, with its dot; else nothing.
fn extension(segment: &[u8]) -> &[u8] {
    let dot = memchr::memrchr(b'.', segment).unwrap_or(segment.len());
    let extension = &segment[dot..];
    let is_word = extension.iter().skip(1).all(u8::is_ascii_lowercase);
    if is_word && extension.len() <= 1 + MAX_EXTENSION {
        extension
    } else {
        b""
    }
}

/// The words of a segment: letters and digits, escaped or not.
struct Words {
    words: Vec<Word>,
    /// Whether there are characters that no token has, or `..`.
    is_attack: bool,
}

struct Word {
    /// Where it is in the segment.
    place: (usize, usize),
    letters: usize,
    digits: usize,
    /// What stands for it, if it looks random.
    random: Option<&'static [u8]>,
    /// Whether it is neither a word nor a number, but too short to be random.
    is_odd: bool,
}

impl Words {
    fn of(segment: &[u8]) -> Self {
        let mut of_segment = Self {
            words: Vec::new(),
            is_attack: memchr::memmem::find(segment, b"..").is_some(),
        };
        let (mut text, mut place) = (Vec::new(), (0, 0));
        let mut at = 0;
        while at < segment.len() {
            let (byte, len) = decoded(&segment[at..]);
            of_segment.is_attack |= b"<>'\"(){}$;\\%".contains(&byte);
            if byte.is_ascii_alphanumeric() {
                if text.is_empty() {
                    place.0 = at;
                }
                text.push(byte);
                place.1 = at + len;
            } else {
                of_segment.push(&mut text, place);
            }
            at += len;
        }
        of_segment.push(&mut text, place);
        of_segment
    }

    fn push(&mut self, text: &mut Vec<u8>, place: (usize, usize)) {
        if !text.is_empty() {
            let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
            self.words.push(Word {
                place,
                letters: text.len() - digits,
                digits,
                random: random(text, digits),
                is_odd: is_odd(text, digits),
            });
            text.clear();
        }
    }

    /// Returns what stands for all words together, if they look random.
    fn folded(&self) -> Option<&'static [u8]> {
        let random = self.words.iter().find_map(|word| word.random);
        let odd = self.words.iter().filter(|word| word.is_odd).count();
        let digits: usize = self.words.iter().map(|word| word.digits).sum();
        let letters: usize = self.words.iter().map(|word| word.letters).sum();
        let is_joined = odd > 1 || odd > 0 && digits > 0 && letters + digits >= MIN_JOINED;
        random.or(is_joined.then_some(b"{id}"))
    }
}

/// Returns the first byte of a text, and how long it is there: `%41`, `%2541` and `%u0041` are one.
fn decoded(text: &[u8]) -> (u8, usize) {
    let is_hex = |digit: u8| digit.is_ascii_hexdigit();
    let escape = match text {
        [b'%', b'u' | b'U', b'0', b'0', high, low, ..] => Some((high, low, 6)),
        [b'%', b'2', b'5', high, low, ..] if is_hex(*high) && is_hex(*low) => Some((high, low, 5)),
        [b'%', high, low, ..] => Some((high, low, 3)),
        _ => None,
    };
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let byte = escape.and_then(|(high, low, len)| {
        let byte = hex(*high)? * 16 + hex(*low)?;
        Some((u8::try_from(byte).ok()?, len))
    });
    byte.unwrap_or((text[0], 1))
}

/// Returns what stands for a word that looks random.
fn random(word: &[u8], digits: usize) -> Option<&'static [u8]> {
    let (len, letters) = (word.len(), word.len() - digits);
    if len >= MIN_HASH && digits > 1 && letters > 0 && word.iter().all(u8::is_ascii_hexdigit) {
        return Some(b"{hash}");
    }
    let turns = word
        .array_windows()
        .filter(|[a, b]| a.is_ascii_digit() != b.is_ascii_digit())
        .count();
    let is_id = if digits > 0 && letters > 0 {
        digits > 3 || turns > 3 || len >= MIN_TOKEN
    } else {
        len > MAX_WORD && !is_camel(word) || len >= MIN_TOKEN && has_cases(word) && !is_camel(word)
    };
    (is_id && letters > 0).then_some(b"{id}")
}

/// Whether a word is neither one of letters alone nor one with a number at its end, such as `v2`.
fn is_odd(word: &[u8], digits: usize) -> bool {
    if digits == 0 {
        return has_cases(word) && !is_camel(word);
    }
    let name = word.trim_ascii_digits();
    let is_numbered = name.len() + digits == word.len() && digits < 4;
    let is_short = word.len() < 4 || name.iter().all(u8::is_ascii_lowercase);
    digits < word.len() && !(is_numbered && is_short)
}

trait TrimDigits {
    fn trim_ascii_digits(&self) -> &[u8];
}

impl TrimDigits for [u8] {
    /// Returns the text without the digits at its end.
    fn trim_ascii_digits(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| !byte.is_ascii_digit());
        &self[..end.map_or(0, |end| end + 1)]
    }
}

fn has_cases(word: &[u8]) -> bool {
    word.iter().any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase)
}

/// Whether letters are words that are joined by their capitals, as in `getUserById` and `HTTPServer`.
fn is_camel(word: &[u8]) -> bool {
    let mut start = 0;
    let mut parts = 0;
    for at in 1..=word.len() {
        let is_end = at == word.len() || {
            let starts_word = word[at].is_ascii_uppercase();
            let is_after_small = word[at - 1].is_ascii_lowercase();
            let is_before_small = word.get(at + 1).is_some_and(u8::is_ascii_lowercase);
            starts_word && (is_after_small || is_before_small)
        };
        if !is_end {
            continue; // within a part
        }
        let part = &word[start..at];
        if !is_word(part) {
            return false;
        }
        parts += 1;
        start = at;
    }
    parts * 5 <= word.len() * 2
}

/// Whether letters may be a word or an abbreviation in capitals. One of two letters has one vowel.
fn is_word(letters: &[u8]) -> bool {
    let is_vowel = |byte: &u8| b"aeiouyAEIOUY".contains(byte);
    let vowels = letters.iter().filter(|byte| is_vowel(byte)).count();
    let consonants = letters.split(is_vowel).map(<[u8]>::len).max();
    match letters.len() {
        0 | 1 => false,
        2 => vowels == 1,
        len if letters.iter().all(u8::is_ascii_uppercase) => len < 6,
        len => len <= MAX_WORD && vowels > 0 && consonants < Some(5) && vowels * 2 <= len + 1,
    }
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
            ("/app.3f9a2b1c4d5e6f70.js", "/{hash}.js"),
            ("/t/dQw4w9WgXcQ/u/x7f3k9", "/t/{id}/u/{id}"),
            ("/order-1042/sku_A12345", "/order-{n}/{id}"),
            ("/users/jane@example.com", "/users/{id}"),
            ("/users/jane%40example.com", "/users/{id}"),
            ("/page/1.html", "/page/{n}.html"),
            ("/order-7/100%", "/order-{n}/{n}%"),
            (
                "/a;jsessionid=abc.def;v=REDACTED/b",
                "/a;jsessionid={value};v=REDACTED/b",
            ),
            ("/reset/aZbYcXdWeVfUgThS", "/reset/{id}"),
            ("/k/qwertzuiopasdfghjklyxcvbnm", "/k/{id}"),
            ("/k/ab-Cd_12ef-34GHij", "/k/{id}"),
            ("/eyJhbGciOiJIUzI1NiJ9.REDACTED.REDACTED", "/{id}"),
            ("/login:hunter2", "/login:{value}"),
            ("/%61bcd1234efgh", "/{id}"),
            ("/a;t='x'4f9a8b7c6d/b", "/a;t={value}/b"),
            ("/'%20or%20a9f8e7d6%20--", "/'%20or%20{id}%20--"),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
    }

    #[test]
    fn words_and_attacks_stay_as_they_are() {
        for path in [
            "/api/v1beta1/oauth2/authorize",
            "/products/user-profile/getUserById/index.html",
            "/summer-sale/new-collection",
            "/com.example.UserService/GetNotificationPreferences",
            "/v1/projects:batchGet",
            "/../../etc/passwd",
            "/public/..;/admin",
            "/%2e%2e%2fadmin%00",
            "/<script>alert",
            "/internationalization",
            "/wp-login.php",
            "/xmlrpc.php",
            "/h264/mp3",
            "/.env@x",
            "/{{7*7}}",
            "/${jndi:ldap://a@b}",
            "/..;..;..;..;..;..;..;..;..;..;..;..;..;..;",
            "/search/OR%2520UNION%2520SELECT%2520password%2520FROM%2520users",
        ] {
            assert_eq!(template(path), path);
        }
    }

    #[test]
    fn tokens_are_folded() {
        const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut token = |alphabet: &[u8], len: usize| -> String {
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state >> 33).unwrap() % alphabet.len();
                char::from(alphabet[at])
            };
            (0..len).map(|_| next()).collect()
        };
        let base62 = &BASE64[..62];
        let upper = &b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[..];
        for (kind, alphabet, lengths, joint) in [
            ("22 of base64url", BASE64, &[22][..], ""),
            ("43 of base64url", BASE64, &[43], ""),
            ("10 of base62", base62, &[10], ""),
            ("two parts", BASE64, &[16, 16], "."),
            ("four groups", upper, &[4, 4, 4, 4], "-"),
            ("sk_live_", base62, &[24], ""),
        ] {
            let mut next = || {
                let parts: Vec<_> = lengths.iter().map(|len| token(alphabet, *len)).collect();
                let prefix = if kind.ends_with('_') { kind } else { "" };
                format!("{prefix}{}", parts.join(joint))
            };
            let tokens = (0..10_000).map(|_| next());
            let is_shown = |token: &String| !template(token).starts_with('{');
            let shown: Vec<_> = tokens.filter(is_shown).collect();
            assert!(
                shown.len() < 100,
                "{kind}: {} {:?}",
                shown.len(),
                &shown[..20.min(shown.len())]
            );
        }
    }

    #[test]
    fn hosts_have_no_password_and_no_token() {
        for (host, expected) in [
            ("api.example.com:8443", "api.example.com:8443"),
            ("192.0.2.7", "192.0.2.7"),
            (
                "d111111abcdef8.cloudfront.net",
                "d111111abcdef8.cloudfront.net",
            ),
            ("user:hunter2@evil.example", "{value}@evil.example"),
            ("a@b@evil.example", "{value}@evil.example"),
            ("dQw4w9WgXcQ.example.com", "{id}.example.com"),
        ] {
            let mut out = Vec::new();
            push_host(host.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn template_is_bounded() {
        for path in [
            "/segment".repeat(10_000),
            format!("/{}", "'x".repeat(10_000)),
        ] {
            let long = template(&path);
            assert!(long.len() <= MAX_BYTES + '…'.len_utf8(), "{long}");
            assert!(long.ends_with('…'));
        }
        assert_eq!(template(&format!("/{}", "%61".repeat(500))), "/{id}%…");
    }
}

//! Masking of URLs: it removes credentials, and nothing else.

use edgetap::redact::{Part, Redaction};

/// What every credential has before or in it, in lower case and without `_` and `-`, however it is
/// encoded.
const INTRODUCTIONS: [&str; 17] = [
    "passw",
    "passphrase",
    "pwd",
    "token",
    "apikey",
    "secret",
    "code",
    "otp",
    "sessionid",
    "accesskeyid",
    "keypairid",
    "xamz",
    "credential",
    "authorization",
    "sig",
    "policy",
    "bearer",
];

/// The input is a byte that selects path, query or URL, and the text.
pub fn masks(data: &[u8]) {
    let Some((&selector, text)) = data.split_first() else {
        return;
    };
    // A text that looks masked could not be told from one that is.
    if text.windows(8).any(|word| word == b"REDACTED") {
        return;
    }
    let part = [Part::Path, Part::Query, Part::Url][usize::from(selector % 3)];
    let redaction = Redaction::default();
    let mut scratch = Vec::new();
    let masked = redaction.mask_value(text, part, &mut scratch);
    let shown = || format!("{} of {}", masked.escape_ascii(), text.escape_ascii());

    let reasons = redaction.reasons(text, part);
    assert_eq!(reasons.is_empty(), masked == text, "{}", shown());
    assert!(holds_credential(text) || masked == text, "{}", shown());
    assert!(is_rest(masked, text), "{}", shown());
    let [before, after] =
        [text, masked].map(|text| path(text, part).split(|byte| *byte == b'/').count());
    assert_eq!(before, after, "a slash was removed: {}", shown());
    let (before, after) = (names(text, part), names(masked, part));
    assert_eq!(before.len(), after.len(), "{}", shown());
    for (before, after) in before.iter().zip(after) {
        assert!(*before == after || !is_plain(before), "{}", shown());
    }
}

/// Whether a text may hold a credential, by the words that introduce one.
fn holds_credential(text: &[u8]) -> bool {
    let mut decoded = text.to_vec();
    for _ in 0..4 {
        decoded = once(&decoded);
    }
    let flat: String = decoded
        .iter()
        .filter(|byte| !matches!(byte, b'_' | b'-'))
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect();
    INTRODUCTIONS.iter().any(|word| flat.contains(word))
        || flat.contains("eyj")
        || flat.contains(':') && flat.contains('@')
}

fn once(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        match digit(0).zip(digit(1)) {
            Some((high, low)) if first == b'%' => {
                out.push(u8::try_from(high * 16 + low).unwrap());
                rest = &after[2..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// Whether `masked` is `text` with parts of it replaced.
fn is_rest(masked: &[u8], text: &[u8]) -> bool {
    let masked = String::from_utf8_lossy(masked).into_owned();
    let text = String::from_utf8_lossy(text).into_owned();
    let mut pieces = masked.split("REDACTED");
    let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else {
        return false;
    };
    for piece in pieces {
        let kinds = piece
            .strip_prefix('(')
            .and_then(|piece| piece.split_once(')'));
        let is_kinds = |kinds: &str| kinds.split(',').all(|kind| KINDS.contains(&kind));
        let piece = match kinds {
            Some((kinds, piece)) if is_kinds(kinds) => piece,
            _ => piece,
        };
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    true
}

const KINDS: [&str; 5] = ["quote", "space", "bracket", "semicolon", "control"];

fn path(text: &[u8], part: Part) -> &[u8] {
    let is_query = |byte: &u8| matches!(byte, b'?' | b'#');
    match part {
        Part::Path => text,
        Part::Query => b"",
        Part::Url => text.split(is_query).next().unwrap_or_default(),
    }
}

/// The names of the parameters of a query.
fn names(text: &[u8], part: Part) -> Vec<&[u8]> {
    let query = match part {
        Part::Query => text,
        _ => text.get(path(text, part).len() + 1..).unwrap_or_default(),
    };
    query
        .split(|byte| *byte == b'&')
        .map(|parameter| {
            parameter
                .split(|byte| *byte == b'=')
                .next()
                .unwrap_or_default()
        })
        .collect()
}

/// Whether a name is only a name, and introduces nothing itself.
fn is_plain(name: &[u8]) -> bool {
    !name.windows(3).any(|word| word == b"eyJ")
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-[].".contains(byte))
}

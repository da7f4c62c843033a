//! *Web token*: recognizes a JSON Web Token (RFC 7519).

use std::ops::Range;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::cursor::Cursor;
use super::names::is_name_byte;

/// The base64url of `{"`, the beginning of every token's header.
pub(super) const WEB_TOKEN: &[u8; 3] = b"eyJ";

/// Reads the header of a token, which may be truncated.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Characters of a header that are decoded, a multiple of 4.
const HEADER: usize = 64;

/// Whether the beginning of a header is that of a JSON text.
fn is_text(header: &[u8]) -> bool {
    let whole = header.len() - usize::from(header.len() % 4 == 1);
    let mut json = [0; HEADER];
    let Ok(len) = LENIENT.decode_slice(&header[..whole], &mut json) else {
        return false;
    };
    let Some(first) = json[..len].utf8_chunks().next() else {
        return false;
    };
    // The last character may be incomplete if the header is longer.
    let is_whole = first.valid().len() == len
        || header.len() == HEADER && first.valid().len() + first.invalid().len() == len;
    is_whole
        && first
            .valid()
            .chars()
            .all(|c| !c.is_control() || c.is_whitespace())
}

/// Returns what follows the header of the JSON Web Token (RFC 7519) that begins at `at`: at least
/// two dots, and something behind one of them.
pub(super) fn web_token(text: &[u8], at: usize) -> Option<Range<usize>> {
    let mut cursor = Cursor { text, at };
    for byte in WEB_TOKEN {
        cursor.take(*byte)?;
    }
    cursor.at = at;
    let (mut header, mut len) = ([0; HEADER], 0);
    while let Some(character) = cursor.peek().filter(|next| is_name_byte(next.byte)) {
        if let Some(slot) = header.get_mut(len) {
            *slot = character.byte;
            len += 1;
        }
        cursor.at += character.len;
    }
    if !is_text(&header[..len]) {
        return None;
    }
    let padding = |byte| byte == b'=';
    cursor.skip(2, padding);
    let start = cursor.at;
    cursor.take(b'.')?;
    let payload = cursor.at;
    cursor.skip(usize::MAX, is_name_byte);
    cursor.skip(2, padding);
    let is_empty = cursor.at == payload;
    cursor.take(b'.')?;
    let signature = cursor.at;
    cursor.skip(usize::MAX, |byte| {
        is_name_byte(byte) || matches!(byte, b'=' | b'.')
    });
    (!is_empty || cursor.at > signature).then_some(start..cursor.at)
}

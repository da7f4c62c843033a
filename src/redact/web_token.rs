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

/// Returns what follows the header of the JSON Web Token (RFC 7519) that begins at `at`: at least
/// two dots, and something behind one of them.
pub(super) fn web_token(text: &[u8], at: usize) -> Option<Range<usize>> {
    let mut cursor = Cursor { text, at };
    for byte in WEB_TOKEN {
        cursor.take(*byte)?;
    }
    cursor.at = at;
    let mut header = Vec::new();
    while let Some(character) = cursor.peek().filter(|next| is_name_byte(next.byte)) {
        header.push(character.byte);
        cursor.at += character.len;
    }
    header.truncate(header.len() - usize::from(header.len() % 4 == 1));
    let json = LENIENT.decode(header).ok()?;
    if !std::str::from_utf8(&json)
        .ok()?
        .chars()
        .all(|c| !c.is_control() || c.is_whitespace())
    {
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

//! *Path*: whether every server reads it in the same way.
//!
//! A viewer who wants to hide a request writes a path that CloudFront's log and the origin read in
//! different ways: `/static/..;/api/users/1.css`, `/api/me%3b.css`, `/shell.php/x.png`.

use super::Keep;
use crate::simd::{equal, every, hex, is_graphic};

/// Whether the path as it was logged is the path as it was sent and as every server decodes it: it
/// contains neither an escape nor a delimiter.
pub(super) fn is_plain(logged: &[u8]) -> bool {
    every(logged, |bytes| {
        let special = equal(bytes, b';') | equal(bytes, b'\\') | equal(bytes, b'?');
        is_graphic(bytes) & !(special | equal(bytes, b'#') | equal(bytes, b'%'))
    })
}

/// Checks the delimiters of a path as it was sent.
///
/// # Errors
/// [`Keep::Delimiter`] or [`Keep::SecondEncoding`].
pub(super) fn check_delimiters(sent: &[u8]) -> Result<(), Keep> {
    if sent.iter().any(|byte| is_delimiter(*byte)) {
        return Err(Keep::Delimiter);
    }
    let mut encoded = memchr::memchr_iter(b'%', sent).map(|at| escaped(&sent[at + 1..]));
    encoded.try_for_each(|byte| match byte {
        None | Some(b'%') => Err(Keep::SecondEncoding),
        Some(b'/') => Err(Keep::Delimiter),
        Some(byte) if is_delimiter(byte) => Err(Keep::Delimiter),
        Some(_) => Ok(()),
    })
}

/// Checks a path whose delimiters are plain, with the viewer's encoding undone.
///
/// # Errors
/// [`Keep::NotUtf8`], [`Keep::Delimiter`] or [`Keep::DotSegment`].
pub(super) fn check_decoded(decoded: &[u8]) -> Result<(), Keep> {
    // Overlong forms, such as C0 AE for a dot, are delimiters to some servers.
    let text = std::str::from_utf8(decoded).map_err(|_| Keep::NotUtf8)?;
    // So are full-width forms, to servers that normalize.
    let is_delimiter =
        |c: char| c.is_control() || matches!(c, '．' | '／' | '＼' | '；' | '？' | '＃' | '％');
    if text.contains(is_delimiter) {
        return Err(Keep::Delimiter);
    }
    if has_dot_segment(decoded) {
        return Err(Keep::DotSegment);
    }
    Ok(())
}

/// Checks what stands around the dots of a decoded path.
///
/// # Errors
/// [`Keep::DotSegment`] or [`Keep::Script`].
pub(super) fn check_dots(decoded: &[u8]) -> Result<(), Keep> {
    let mut may_be_segment = false;
    for dot in memchr::memchr_iter(b'.', decoded) {
        may_be_segment |= matches!(decoded[..dot].last(), None | Some(b'/' | b' '));
        if begins_with_script(&decoded[dot + 1..]) {
            return Err(Keep::Script);
        }
    }
    if may_be_segment && has_dot_segment(decoded) {
        return Err(Keep::DotSegment);
    }
    Ok(())
}

/// Whether a segment is of dots only. Windows ignores the spaces around them.
fn has_dot_segment(decoded: &[u8]) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b'.' | b' ');
    decoded
        .split(|byte| *byte == b'/')
        .any(|segment| segment.contains(&b'.') && segment.iter().all(is_blank))
}

/// Whether what follows a dot is the extension of a script that a server would run, and not the
/// end of the path: `php/x.css` or `php.css`.
fn begins_with_script(rest: &[u8]) -> bool {
    if !matches!(
        rest.first(),
        Some(b'a' | b'c' | b'j' | b'p' | b'A' | b'C' | b'J' | b'P')
    ) {
        return false; // as most
    }
    let letters = rest
        .iter()
        .take(MAX_SCRIPT + 1)
        .take_while(|byte| byte.is_ascii_alphanumeric())
        .count();
    letters < rest.len() && is_script(&rest[..letters])
}

/// Longest extension of a server's script, in bytes.
const MAX_SCRIPT: usize = 5;

fn is_script(extension: &[u8]) -> bool {
    const SCRIPTS: [&[u8]; 11] = [
        b"php", b"phtml", b"phar", b"asp", b"aspx", b"ashx", b"asmx", b"jsp", b"jspx", b"cgi",
        b"cfm",
    ];
    if !(3..=MAX_SCRIPT).contains(&extension.len()) {
        return false;
    }
    // Versions of PHP have extensions of their own: `php5`.
    let digits = extension[3..].iter().all(u8::is_ascii_digit);
    let name = if digits { &extension[..3] } else { extension };
    SCRIPTS
        .iter()
        .any(|script| name.eq_ignore_ascii_case(script))
}

/// Whether some servers treat the byte as a delimiter, as a slash, or as the end of the path.
fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b';' | b'\\' | b'?' | b'#') || byte.is_ascii_control()
}

/// The byte that two leading hexadecimal digits encode.
fn escaped(text: &[u8]) -> Option<u8> {
    match text {
        [high, low, ..] => hex(*high, *low),
        _ => None,
    }
}

/// Returns the text after the last slash.
pub(super) fn last_segment(path: &[u8]) -> &[u8] {
    memchr::memrchr(b'/', path).map_or(path, |slash| &path[slash + 1..])
}

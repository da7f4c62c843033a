//! *Query*: whether it is one that static assets have.
//!
//! Image resizers, cache busters and CloudFront's signed URLs have plain queries:
//! `?w=640&auto=compress%2Cformat`, `?v=1.2.3`, `?Expires=…&Signature=…&Key-Pair-Id=…`.

use super::Keep;
use crate::simd::{Positions, equal, hex};
use wide::i8x32;

/// Longest plain query as sent, in bytes. A signed URL with a custom policy has about 1,000.
const MAX_QUERY: usize = 2048;

/// Checks a query as it was logged.
///
/// # Errors
/// [`Keep::LongQuery`], [`Keep::Query`] or [`Keep::Parameter`].
pub(super) fn check(logged: &[u8]) -> Result<(), Keep> {
    let mut encoded = 0;
    for at in Positions::new(logged, |bytes| !is_plain(bytes)) {
        if !is_plain_escape(&logged[at..]) {
            return Err(Keep::Query);
        }
        encoded += 2;
    }
    if logged.len() - encoded > MAX_QUERY {
        return Err(Keep::LongQuery);
    }
    if memchr::memchr_iter(b'.', logged).any(|dot| logged.get(dot + 1) == Some(&b'.')) {
        return Err(Keep::Query);
    }
    let mut names = logged
        .split(|byte| *byte == b'&')
        .filter_map(|parameter| parameter.split(|byte| *byte == b'=').next());
    if names.any(changes_the_answer) {
        return Err(Keep::Parameter);
    }
    Ok(())
}

/// Matches letters, digits and `. _ ~ - = & , :`.
#[inline]
fn is_plain(bytes: i8x32) -> i8x32 {
    let between = |bytes: i8x32, first: u8, last: u8| {
        bytes.simd_gt((first - 1).cast_signed()) & bytes.simd_lt((last + 1).cast_signed())
    };
    let letter = between(bytes | i8x32::splat(0x20), b'a', b'z');
    // `,-./0123456789:`
    let digit = between(bytes, b',', b':') & !equal(bytes, b'/');
    letter
        | digit
        | equal(bytes, b'=')
        | equal(bytes, b'&')
        | equal(bytes, b'_')
        | equal(bytes, b'~')
}

/// Whether a logged escape stands for `~`, `,` or `:`, or for the viewer's `%2C` or `%3A`.
fn is_plain_escape(logged: &[u8]) -> bool {
    let (b'%', Some([high, low])) = (logged[0], logged[1..].first_chunk()) else {
        return false;
    };
    match hex(*high, *low) {
        Some(b'~' | b',' | b':') => true,
        Some(b'%') => logged.get(3..5).is_some_and(|digits| {
            digits.eq_ignore_ascii_case(b"2c") || digits.eq_ignore_ascii_case(b"3a")
        }),
        _ => false,
    }
}

/// Whether a parameter turns a request for a script or an image into an API call: JSONP, and the
/// override of the method. PHP reads a dot in a name as `_`.
fn changes_the_answer(name: &[u8]) -> bool {
    let has = |word: &[u8]| {
        name.windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word))
    };
    has(b"callback")
        || has(b"jsonp")
        || matches!(name, [b'_' | b'.', rest @ ..] if rest.eq_ignore_ascii_case(b"method"))
}

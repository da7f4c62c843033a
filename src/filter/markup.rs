//! *Markup*: the characters with which a viewer attacks whoever reads a header.

use wide::i8x32;

use crate::decode::decode_once;
use crate::log::Field;
use crate::simd::{equal, every_three};

/// Whether a logged header, decoded once, contains `${`, `<`, `"` or a backtick.
pub(super) fn is_in(field: Field, logged: &[u8], scratch: &mut Vec<u8>) -> bool {
    if every_three(logged, is_harmless) && field != Field::XForwardedFor {
        return false;
    }
    scratch.clear();
    let sent = decode_once(field, logged, scratch).of(scratch);
    memchr::memchr3(b'<', b'"', b'`', sent).is_some()
        || memchr::memchr_iter(b'$', sent).any(|at| sent.get(at + 1) == Some(&b'{'))
}

/// Matches bytes that certainly begin no markup, given the two bytes after each: neither raw markup
/// nor an escape, except for those of a space and of other characters in `%20` to `%50`.
#[inline]
fn is_harmless([first, second, third]: [i8x32; 3]) -> i8x32 {
    let raw = equal(first, b'<') | equal(first, b'"') | equal(first, b'`') | equal(first, b'$');
    let encoded = equal(first, b'%') & (!equal(third, b'0') | equal(second, b'6'));
    !(raw | encoded)
}

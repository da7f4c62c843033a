//! *Octets*: what the hot path asks of bytes.

/// Whether all bytes are so. Within eight it does not end at the first that is not, so that they can be compared at once.
#[inline]
pub(crate) fn every(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    let (eights, rest) = bytes.as_chunks::<8>();
    eights.iter().all(|eight| eight.iter().fold(true, |all, byte| all & is(*byte))) && rest.iter().all(|byte| is(*byte))
}

/// The byte that two hexadecimal digits mean.
#[inline]
pub(crate) fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

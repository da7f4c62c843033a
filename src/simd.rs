//! *Octets*: what the hot path asks of bytes, many at once. Most columns and values are too short for `memchr` to pay.

use wide::i8x16;

/// So many bytes are looked at in one step.
const STEP: usize = 16;

/// Whether all bytes are so. Of the bytes of a step, as signed numbers, `is` answers -1 for those that are and 0 for the others.
#[inline]
pub(crate) fn every(bytes: &[u8], is: impl Fn(i8x16) -> i8x16) -> bool {
    let all = |step: &[u8; STEP]| is(i8x16::from_ne_bytes(*step)).all();
    match bytes.last_chunk() {
        // The last step overlaps the one before it.
        Some(last) => bytes.as_chunks().0.iter().all(all) && all(last),
        None => few(bytes).is_none_or(|few| all(&few)),
    }
}

/// Less than a step's bytes, some of them more than once, so that they fill it; `None` where there are none.
#[inline]
fn few(bytes: &[u8]) -> Option<[u8; STEP]> {
    let mut step = [*bytes.first()?; STEP];
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        step[..8].copy_from_slice(first);
        step[8..].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        step[..4].copy_from_slice(first);
        step[4..8].copy_from_slice(last);
    } else {
        step[1] = bytes[bytes.len() / 2];
        step[2] = bytes[bytes.len() - 1];
    }
    Some(step)
}

/// Which bytes are this one.
#[inline]
pub(crate) fn equal(bytes: i8x16, byte: u8) -> i8x16 {
    bytes.simd_eq(byte.cast_signed())
}

/// Which bytes are visible characters of ASCII.
#[inline]
pub(crate) fn is_graphic(bytes: i8x16) -> i8x16 {
    bytes.simd_gt(b' '.cast_signed()) & bytes.simd_lt(0x7f)
}

/// So many bytes are searched at once: a bit for each.
const PIECE: usize = u64::BITS as usize;

/// The first bytes of a text, as many as are searched at once.
pub(crate) struct Piece {
    bytes: [u8; PIECE],
    len: usize,
}

impl Piece {
    #[inline]
    pub(crate) fn of(text: &[u8]) -> Self {
        match text.first_chunk() {
            Some(bytes) => Self {
                bytes: *bytes,
                len: PIECE,
            },
            None => {
                let mut bytes = [0; PIECE];
                bytes[..text.len()].copy_from_slice(text);
                Self {
                    bytes,
                    len: text.len(),
                }
            }
        }
    }

    /// How many they are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A bit for each of them that is of the kind that `is` tells, as for [`every`]; the first is the lowest.
    #[inline]
    pub(crate) fn bits(&self, is: impl Fn(i8x16) -> i8x16) -> u64 {
        let steps = self.bytes.as_chunks().0.iter().zip((0..).step_by(STEP));
        let bits = steps.fold(0, |bits, (step, at)| {
            bits | u64::from(is(i8x16::from_ne_bytes(*step)).to_bitmask()) << at
        });
        bits & u64::MAX
            .checked_shr(u64::BITS - u32::try_from(self.len).unwrap_or(0))
            .unwrap_or(0)
    }
}

/// Where bytes of a kind stand in a text.
pub(crate) struct Positions<'a, F> {
    text: &'a [u8],
    is: F,
    /// Where the piece at hand begins.
    piece: usize,
    /// Those of its bytes that are still to be told, the first the lowest bit.
    bits: u64,
}

impl<'a, F: Fn(i8x16) -> i8x16> Positions<'a, F> {
    /// Of the kind that `is` tells, as for [`every`].
    #[inline]
    pub(crate) fn new(text: &'a [u8], is: F) -> Self {
        let mut positions = Self {
            text,
            is,
            piece: 0,
            bits: 0,
        };
        positions.search();
        positions
    }

    /// Searches the piece at hand.
    #[inline]
    fn search(&mut self) {
        let rest = &self.text[self.piece..];
        self.bits = match (rest.first_chunk(), self.text.last_chunk()) {
            // The last piece overlaps the one before it, whose bits go.
            (None, Some(last)) => {
                Piece {
                    bytes: *last,
                    len: PIECE,
                }
                .bits(&self.is)
                    >> (PIECE - rest.len())
            }
            (Some(piece), _) => Piece {
                bytes: *piece,
                len: PIECE,
            }
            .bits(&self.is),
            (None, None) => Piece::of(rest).bits(&self.is),
        };
    }

    /// Goes to the next piece; `false` is the end.
    #[inline]
    fn advance(&mut self) -> bool {
        let more = self.text.len() - self.piece > PIECE;
        if more {
            self.piece += PIECE;
            self.search();
        }
        more
    }
}

impl<F: Fn(i8x16) -> i8x16> Iterator for Positions<'_, F> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            if !self.advance() {
                return None;
            }
        }
        let position = self.piece + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(position)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Mostly of one kind, so that the others stand anywhere, and nowhere too.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        (1u32..60, any::<u8>()).prop_flat_map(|(others, other)| {
            let near = prop::sample::select(vec![
                0x08, 0x09, 0x0a, 0x00, 0x1f, b' ', b'!', b'~', 0x7f, 0x80, 0x89, 0xff,
            ]);
            prop::collection::vec(prop_oneof![1 => near, others => Just(other)], 0..300)
        })
    }

    /// Texts of every length around a step and a piece, with one byte of another kind wherever it can stand.
    #[test]
    fn one_byte_among_others_is_found_wherever_it_stands() {
        for len in 0..=2 * PIECE + STEP {
            let mut text = vec![b'a'; len];
            assert!(
                every(&text, is_graphic)
                    && Positions::new(&text, |bytes| equal(bytes, b'\t'))
                        .next()
                        .is_none(),
                "{len} bytes"
            );
            for at in 0..len {
                text[at] = b'\t';
                assert!(!every(&text, is_graphic), "byte {at} of {len}");
                assert!(
                    Positions::new(&text, |bytes| equal(bytes, b'\t')).eq([at]),
                    "byte {at} of {len}"
                );
                text[at] = b'a';
            }
        }
    }

    proptest! {
        #[test]
        fn every_byte_is_asked(text in text()) {
            prop_assert_eq!(every(&text, is_graphic), text.iter().all(u8::is_ascii_graphic));
            prop_assert_eq!(every(&text, |bytes| !equal(bytes, b'\t')), !text.contains(&b'\t'));
        }

        #[test]
        fn positions_are_those_of_a_simple_search(text in text()) {
            let simple: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b'\t').collect();
            prop_assert_eq!(Positions::new(&text, |bytes| equal(bytes, b'\t')).collect::<Vec<_>>(), simple);
        }
    }
}

//! Byte searches, 32 or 64 bytes per step. Most columns and values are so short that a call of
//! `memchr` costs more than the search.

use wide::i8x32;

const LANES: usize = 32;

/// Returns whether `matches` holds for every byte of `bytes`.
///
/// `matches` receives 32 bytes as signed lanes and returns a mask: -1 for lanes that match, 0 for
/// the others.
#[inline]
pub(crate) fn every(bytes: &[u8], matches: impl Fn(i8x32) -> i8x32) -> bool {
    let all = |lanes: &[u8; LANES]| matches(i8x32::from_ne_bytes(*lanes)).all();
    match bytes.last_chunk() {
        // The last step overlaps the one before it.
        Some(last) => bytes.as_chunks().0.iter().all(all) && all(last),
        None => widened(bytes).is_none_or(|lanes| all(&lanes)),
    }
}

/// Returns whether `matches` holds for every byte of `bytes`, seen with the two bytes after it.
///
/// `matches` receives the lanes of 32 bytes, of the bytes after each, and of those after these;
/// behind the end of `bytes` they are 0. It must hold for a byte 0 followed by zeros.
#[inline]
pub(crate) fn every_three(bytes: &[u8], matches: impl Fn([i8x32; 3]) -> i8x32) -> bool {
    let all = |window: &[u8; LANES + 2]| {
        let [first, second, third] = [0, 1, 2].map(|at| {
            let mut lanes = [0; LANES];
            lanes.copy_from_slice(&window[at..at + LANES]);
            i8x32::from_ne_bytes(lanes)
        });
        matches([first, second, third]).all()
    };
    let mut rest = bytes;
    while let Some(window) = rest.first_chunk() {
        if !all(window) {
            return false;
        }
        rest = &rest[LANES..];
    }
    let mut end = [0; LANES + 2];
    // Of 33 bytes, the first is not among the last 32.
    if rest.len() > LANES {
        end[..rest.len()].copy_from_slice(rest);
        if !all(&end) {
            return false;
        }
        end = [0; LANES + 2];
    }
    match bytes.last_chunk::<LANES>() {
        // The last step overlaps the one before it.
        Some(last) => end[..LANES].copy_from_slice(last),
        None => end[..bytes.len()].copy_from_slice(bytes),
    }
    all(&end)
}

/// Fills 32 lanes with the 1 to 31 bytes of `bytes` by repeating some of them: `abcde` becomes
/// `abcdbcdeaaaaaaaaaaaaaaaaaaaaaaaa`. Returns `None` if `bytes` is empty.
#[inline]
fn widened(bytes: &[u8]) -> Option<[u8; LANES]> {
    let mut lanes = [*bytes.first()?; LANES];
    if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
        lanes[..16].copy_from_slice(first);
        lanes[16..].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        lanes[..8].copy_from_slice(first);
        lanes[8..16].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        lanes[..4].copy_from_slice(first);
        lanes[4..8].copy_from_slice(last);
    } else {
        lanes[1] = bytes[bytes.len() / 2];
        lanes[2] = bytes[bytes.len() - 1];
    }
    Some(lanes)
}

/// Matches lanes that equal `byte`; for [`every`], [`Block::mask`] and [`Positions`].
#[inline]
pub(crate) fn equal(lanes: i8x32, byte: u8) -> i8x32 {
    lanes.simd_eq(byte.cast_signed())
}

/// Matches visible ASCII characters, `!` to `~`; as [`u8::is_ascii_graphic`].
#[inline]
pub(crate) fn is_graphic(lanes: i8x32) -> i8x32 {
    lanes.simd_gt(b' '.cast_signed()) & lanes.simd_lt(0x7f)
}

/// The start of a text, compared in one step if it has at most 32 bytes.
#[derive(Debug)]
pub(crate) struct Prefix {
    text: Vec<u8>,
    /// Its first bytes, padded.
    lanes: i8x32,
    /// A bit for each byte of the padding.
    padding: u32,
}

impl Prefix {
    pub(crate) fn new(text: Vec<u8>) -> Self {
        let mut lanes = [0; LANES];
        let len = text.len().min(lanes.len());
        lanes[..len].copy_from_slice(&text[..len]);
        let padding = u32::MAX.unbounded_shl(u32::try_from(len).unwrap_or(u32::BITS));
        Self {
            text,
            lanes: i8x32::from_ne_bytes(lanes),
            padding,
        }
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether `text` starts with it.
    #[inline]
    pub(crate) fn begins(&self, text: &[u8]) -> bool {
        let Some(lanes) = text.first_chunk() else {
            return text.starts_with(&self.text);
        };
        let equal = i8x32::from_ne_bytes(*lanes)
            .simd_eq(self.lanes)
            .to_bitmask()
            | self.padding;
        equal == u32::MAX && (self.text.len() <= lanes.len() || text.starts_with(&self.text))
    }
}

/// Bytes in a [`Block`]: one per bit of a `u64`.
const BLOCK: usize = u64::BITS as usize;

/// Returns the position of the first byte of `text` from `start` for which `matches` holds, unless
/// it is among the last 31 bytes.
///
/// `matches` receives 32 bytes as signed lanes and returns a mask: -1 for lanes that match, 0 for
/// the others.
#[inline]
pub(crate) fn find(
    text: &[u8],
    mut start: usize,
    matches: impl Fn(i8x32) -> i8x32,
) -> Option<usize> {
    while let Some(lanes) = text.get(start..)?.first_chunk() {
        let found = matches(i8x32::from_ne_bytes(*lanes)).to_bitmask();
        if found != 0 {
            return Some(start + found.trailing_zeros() as usize);
        }
        start += lanes.len();
    }
    None
}

/// Up to 64 bytes of text, padded with zeros.
pub(crate) struct Block {
    bytes: [u8; BLOCK],
    len: usize,
    /// A bit for each byte without the padding.
    text: u64,
}

impl Block {
    /// Copies the first bytes of `text`.
    #[inline]
    pub(crate) fn first_of(text: &[u8]) -> Self {
        let Some(bytes) = text.first_chunk() else {
            let (mut bytes, len) = ([0; BLOCK], text.len());
            bytes[..len].copy_from_slice(text);
            return Self {
                bytes,
                len,
                text: (1 << len) - 1,
            };
        };
        Self::full(bytes)
    }

    #[inline]
    fn full(bytes: &[u8; BLOCK]) -> Self {
        Self {
            bytes: *bytes,
            len: BLOCK,
            text: u64::MAX,
        }
    }

    /// Returns the number of bytes without the padding.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns a bit for each byte, set if `matches` holds for it (see [`every`]). The first byte
    /// has the lowest bit; bits of the padding are 0.
    #[inline]
    pub(crate) fn mask(&self, matches: impl Fn(i8x32) -> i8x32) -> u64 {
        let steps = self.bytes.as_chunks().0.iter().zip((0..).step_by(LANES));
        let mask = steps.fold(0, |mask, (lanes, at)| {
            mask | u64::from(matches(i8x32::from_ne_bytes(*lanes)).to_bitmask()) << at
        });
        mask & self.text
    }
}

/// Iterates over the positions of the bytes of `text` for which `matches` holds (see [`every`]).
pub(crate) struct Positions<'a, F> {
    text: &'a [u8],
    matches: F,
    /// Start of the current block.
    block: usize,
    /// Matches in it that are still to be returned.
    mask: u64,
}

impl<'a, F: Fn(i8x32) -> i8x32> Positions<'a, F> {
    #[inline]
    pub(crate) fn new(text: &'a [u8], matches: F) -> Self {
        let mut positions = Self {
            text,
            matches,
            block: 0,
            mask: 0,
        };
        positions.search();
        positions
    }

    /// Searches the current block.
    #[inline]
    fn search(&mut self) {
        let rest = &self.text[self.block..];
        self.mask = match self.text.last_chunk() {
            // A last block that is not full is moved back to fill it; the bits of what the block
            // before it has covered are shifted out.
            Some(last) if rest.len() < BLOCK => {
                Block::full(last).mask(&self.matches) >> (BLOCK - rest.len())
            }
            _ => Block::first_of(rest).mask(&self.matches),
        };
    }

    /// Goes to the next block. Returns `false` at the end of the text.
    #[inline]
    fn advance(&mut self) -> bool {
        let more = self.text.len() - self.block > BLOCK;
        if more {
            self.block += BLOCK;
            self.search();
        }
        more
    }
}

impl<F: Fn(i8x32) -> i8x32> Iterator for Positions<'_, F> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            if !self.advance() {
                return None;
            }
        }
        let position = self.block + self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(position)
    }
}

/// Returns the byte that two hexadecimal digits encode.
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

    /// Texts that are mostly one byte, so that matches are rare, dense or missing.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        (1u32..60, any::<u8>()).prop_flat_map(|(others, other)| {
            let near = prop::sample::select(vec![
                0x08, 0x09, 0x0a, 0x00, 0x1f, b' ', b'!', b'~', 0x7f, 0x80, 0x89, 0xff,
            ]);
            prop::collection::vec(prop_oneof![1 => near, others => Just(other)], 0..300)
        })
    }

    fn tabs(text: &[u8]) -> Vec<usize> {
        Positions::new(text, |lanes| equal(lanes, b'\t')).collect()
    }

    #[test]
    fn single_match_is_found_at_every_position() {
        for len in 0..=2 * BLOCK + LANES {
            let mut text = vec![b'a'; len];
            assert!(every(&text, is_graphic), "{len} bytes");
            assert_eq!(tabs(&text), [0; 0], "{len} bytes");
            for at in 0..len {
                text[at] = b'\t';
                assert!(!every(&text, is_graphic), "byte {at} of {len}");
                assert_eq!(tabs(&text), [at], "{len} bytes");
                text[at] = b'a';
            }
        }
    }

    #[test]
    fn prefix_begins_what_starts_with_it() {
        let name: Vec<u8> = (b'0'..b'0' + 70).collect();
        for len in 0..name.len() {
            let prefix = Prefix::new(name[..len].to_vec());
            for end in 0..name.len() {
                assert_eq!(prefix.begins(&name[..end]), len <= end, "{len} of {end}");
            }
            for at in 0..name.len() {
                let mut text = name.clone();
                text[at] ^= 0x80;
                assert_eq!(prefix.begins(&text), at >= len, "{len} bytes, not {at}");
            }
        }
    }

    #[test]
    fn block_padding_never_matches() {
        for len in 0..=BLOCK + 1 {
            let block = Block::first_of(&[0; BLOCK + 1][..len]);
            assert_eq!(block.len(), len.min(BLOCK));
            assert_eq!(
                block.mask(|lanes| equal(lanes, 0)).count_ones() as usize,
                block.len()
            );
        }
    }

    #[test]
    fn every_three_sees_each_position_of_each_length() {
        for len in 1..=4 * LANES + 3 {
            for at in 0..len {
                let mut text = vec![b'a'; len];
                text[at] = b'%';
                let is_clean = every_three(&text, |[first, ..]| !equal(first, b'%'));
                assert!(!is_clean, "{at} of {len}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_agrees_with_std(text in text()) {
            prop_assert_eq!(every(&text, is_graphic), text.iter().all(u8::is_ascii_graphic));
            prop_assert_eq!(every(&text, |lanes| !equal(lanes, b'\t')), !text.contains(&b'\t'));
        }

        #[test]
        fn every_three_agrees_with_a_simple_search(text in prop::collection::vec(prop::sample::select(&b"aaaa%23\0"[..]), 0..70)) {
            let found = !every_three(&text, |[first, second, third]| {
                !(equal(first, b'%') & equal(second, b'2') & equal(third, b'3'))
            });
            prop_assert_eq!(found, text.windows(3).any(|three| three == b"%23"));
            let at_the_end = !every_three(&text, |[first, second, third]| {
                !(equal(first, b'%') & (equal(second, 0) | equal(third, 0)))
            });
            let padded = [&text[..], b"\0\0"].concat();
            let simple = padded.windows(3).any(|three| three[0] == b'%' && three[1..].contains(&0));
            prop_assert_eq!(at_the_end, simple);
        }

        #[test]
        fn find_agrees_with_a_simple_search(text in text(), start in 0usize..310) {
            let simple = text.iter().skip(start).position(|byte| *byte == b'\t').map(|at| start + at);
            let found = find(&text, start, |lanes| lanes.simd_eq(b'\t'.cast_signed()));
            let is_near_the_end = simple.is_some_and(|at| text.len() - at < LANES);
            prop_assert!(found == simple || found.is_none() && is_near_the_end, "{found:?} {simple:?}");
        }

        #[test]
        fn positions_agree_with_a_simple_search(text in text()) {
            let simple: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b'\t').collect();
            prop_assert_eq!(tabs(&text), simple);
        }
    }
}

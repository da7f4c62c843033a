//! *Values*: where the values of a page are, found one after the other.
//!
//! Format: Apache Parquet, "Parquet encoding definitions".

use std::ops::Range;

use super::Fault;
use super::thrift::unzigzag;

/// Small numbers in runs, each of one number many times, or of many numbers in a few bits each.
/// Parquet calls it RLE.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    /// The bytes of the page that were not read.
    left: Range<usize>,
    /// Bits of a number, at most 32.
    width: u32,
    run: Run,
}

#[derive(Clone, Debug)]
enum Run {
    Same {
        number: u32,
        times: u64,
    },
    /// Numbers of their own, in the page from this bit.
    Packed {
        bit: usize,
        numbers: u64,
    },
}

impl Default for Run {
    fn default() -> Self {
        Self::Same {
            number: 0,
            times: 0,
        }
    }
}

impl Runs {
    pub(super) fn new(bytes: Range<usize>, width: u32) -> Result<Self, Fault> {
        if width > 32 {
            return Err(Fault::Page);
        }
        Ok(Self {
            left: bytes,
            width,
            run: Run::default(),
        })
    }

    #[inline]
    pub(super) fn next(&mut self, page: &[u8]) -> Result<u32, Fault> {
        loop {
            match &mut self.run {
                Run::Same { number, times } if *times > 0 => {
                    *times -= 1;
                    return Ok(*number);
                }
                Run::Packed { bit, numbers } if *numbers > 0 => {
                    let number = bits(page, *bit, self.width);
                    *bit += self.width as usize;
                    *numbers -= 1;
                    return Ok(number);
                }
                _ => self.begin_run(page)?,
            }
        }
    }

    fn begin_run(&mut self, page: &[u8]) -> Result<(), Fault> {
        let header = varint(page, &mut self.left)?;
        self.run = if header & 1 == 0 {
            let bytes = self.width.div_ceil(8) as usize;
            let number = bits(page, take(&mut self.left, bytes)?.start * 8, self.width);
            let times = header >> 1;
            Run::Same { number, times }
        } else {
            let groups = usize::try_from(header >> 1).map_err(|_| Fault::Page)?;
            let bytes = groups.checked_mul(self.width as usize).ok_or(Fault::Page)?;
            // Some writers leave out the end of the last group.
            let bytes = bytes.min(self.left.len());
            let start = take(&mut self.left, bytes)?.start;
            let numbers = match self.width as usize {
                0 => (groups as u64).saturating_mul(8),
                width => (groups as u64)
                    .saturating_mul(8)
                    .min((bytes * 8 / width) as u64),
            };
            Run::Packed {
                bit: start * 8,
                numbers,
            }
        };
        Ok(())
    }
}

/// Most numbers of a miniblock. Writers use 32 or 64.
const MAX_MINIBLOCK: usize = 1 << 16;

/// Differences between numbers, in blocks. Parquet calls it `DELTA_BINARY_PACKED`.
#[derive(Clone, Debug, Default)]
pub(super) struct Deltas {
    left: Range<usize>,
    /// Numbers that were not returned.
    numbers: u64,
    /// Numbers of a miniblock, a multiple of 8, and miniblocks of a block.
    of_miniblock: usize,
    miniblocks: usize,
    /// The number that is returned next, until it was.
    first: Option<i64>,
    last: i64,
    least: i64,
    /// The widths of the block's miniblocks that follow.
    widths: Range<usize>,
    /// The bits of the current miniblock.
    width: u32,
    bit: usize,
    in_miniblock: usize,
}

impl Deltas {
    /// Reads the beginning of at most `most` numbers.
    fn new(page: &[u8], mut left: Range<usize>, most: u64) -> Result<Self, Fault> {
        let block = varint(page, &mut left)?;
        let miniblocks = varint(page, &mut left)?;
        let numbers = varint(page, &mut left)?;
        let first = unzigzag(varint(page, &mut left)?);
        let [block, miniblocks] =
            [block, miniblocks].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let of_miniblock = block.checked_div(miniblocks).unwrap_or_default();
        let is_whole = of_miniblock.checked_mul(miniblocks) == Some(block);
        let is_sized = of_miniblock > 0 && of_miniblock % 8 == 0 && of_miniblock <= MAX_MINIBLOCK;
        if !is_whole || !is_sized || numbers > most {
            return Err(Fault::Page);
        }
        Ok(Self {
            left,
            numbers,
            of_miniblock,
            miniblocks,
            first: Some(first),
            last: first,
            ..Self::default()
        })
    }

    /// Returns the next number, as a length.
    fn next_len(&mut self, page: &[u8]) -> Result<usize, Fault> {
        self.numbers = self.numbers.checked_sub(1).ok_or(Fault::Page)?;
        if let Some(first) = self.first.take() {
            return usize::try_from(first).map_err(|_| Fault::Page);
        }
        if self.in_miniblock == 0 {
            self.begin_miniblock(page)?;
        }
        let delta = wide_bits(page, self.bit, self.width);
        self.bit += self.width as usize;
        self.in_miniblock -= 1;
        self.last = self
            .last
            .wrapping_add(self.least)
            .wrapping_add(delta.cast_signed());
        usize::try_from(self.last).map_err(|_| Fault::Page)
    }

    fn begin_miniblock(&mut self, page: &[u8]) -> Result<(), Fault> {
        if self.widths.is_empty() {
            self.least = unzigzag(varint(page, &mut self.left)?);
            self.widths = take(&mut self.left, self.miniblocks)?;
        }
        self.width = page[self.widths.start].into();
        self.widths.start += 1;
        if self.width > 64 {
            return Err(Fault::Page);
        }
        let bytes = self.of_miniblock / 8 * self.width as usize;
        // The last miniblock may end with its last number.
        let bytes = bytes.min(self.left.len());
        self.bit = take(&mut self.left, bytes)?.start * 8;
        self.in_miniblock = match self.width as usize {
            0 => self.of_miniblock,
            width => self.of_miniblock.min(bytes * 8 / width),
        };
        if self.in_miniblock == 0 {
            return Err(Fault::Page);
        }
        Ok(())
    }

    /// Goes to the end of the numbers. Returns the greatest, and what is behind them.
    fn behind(&self, page: &[u8]) -> Result<(usize, Range<usize>), Fault> {
        let (mut all, mut most) = (self.clone(), 0);
        while all.numbers > 0 {
            most = most.max(all.next_len(page)?);
        }
        // The widths of a block are there for miniblocks without numbers too; those have no bytes.
        Ok((most, all.left))
    }
}

/// The values of a page, in one of Parquet's encodings.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// Each with its length before it.
    Plain(Range<usize>),
    /// Indices of values in the dictionary.
    Indices(Runs),
    /// All lengths, then all values.
    Lengths { lens: Deltas, values: Range<usize> },
    /// How many bytes of the value before each one begins with, then the rest as `Lengths`.
    Prefixes {
        prefixes: Deltas,
        lens: Deltas,
        values: Range<usize>,
        /// Bytes that no value exceeds.
        most: usize,
    },
}

impl Default for Values {
    fn default() -> Self {
        Self::Plain(0..0)
    }
}

impl Values {
    /// Reads the beginning of at most `most` values.
    pub(super) fn new(
        encoding: i64,
        page: &[u8],
        mut bytes: Range<usize>,
        most: u64,
    ) -> Result<Self, Fault> {
        Ok(match encoding {
            0 => Self::Plain(bytes),
            2 | 8 if bytes.is_empty() => Self::Indices(Runs::default()),
            2 | 8 => {
                let width = page[take(&mut bytes, 1)?.start];
                Self::Indices(Runs::new(bytes, width.into())?)
            }
            6 => {
                let lens = Deltas::new(page, bytes, most)?;
                let (_, values) = lens.behind(page)?;
                Self::Lengths { lens, values }
            }
            7 => {
                let prefixes = Deltas::new(page, bytes, most)?;
                let (prefix, bytes) = prefixes.behind(page)?;
                let lens = Deltas::new(page, bytes, most)?;
                let (rest, values) = lens.behind(page)?;
                Self::Prefixes {
                    prefixes,
                    lens,
                    values,
                    most: prefix.saturating_add(rest),
                }
            }
            _ => return Err(Fault::Encoding),
        })
    }

    /// Bytes that no value that is joined from parts exceeds.
    pub(super) fn most_joined(&self) -> usize {
        match self {
            Self::Prefixes { most, .. } => *most,
            _ => 0,
        }
    }

    /// Whether the values are in the dictionary.
    pub(super) fn need_dictionary(&self) -> bool {
        matches!(self, Self::Indices(_))
    }
}

/// Takes the next value with its length before it.
#[inline]
pub(super) fn plain(page: &[u8], left: &mut Range<usize>) -> Result<Range<usize>, Fault> {
    let at = take(left, 4)?.start;
    let len = page[at..].first_chunk().ok_or(Fault::Page)?;
    take(left, u32::from_le_bytes(*len) as usize)
}

/// Takes the next value of a list of lengths.
#[inline]
pub(super) fn of_len(
    page: &[u8],
    lens: &mut Deltas,
    values: &mut Range<usize>,
) -> Result<Range<usize>, Fault> {
    take(values, lens.next_len(page)?)
}

/// Returns how many bytes of the value before the next one begins with.
pub(super) fn prefix(page: &[u8], prefixes: &mut Deltas) -> Result<usize, Fault> {
    prefixes.next_len(page)
}

/// Takes bytes from the front of a range.
#[inline]
pub(super) fn take(left: &mut Range<usize>, bytes: usize) -> Result<Range<usize>, Fault> {
    if bytes > left.len() {
        return Err(Fault::Page);
    }
    let start = left.start;
    left.start += bytes;
    Ok(start..left.start)
}

fn varint(page: &[u8], left: &mut Range<usize>) -> Result<u64, Fault> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = page[take(left, 1)?.start];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Fault::Page)
}

/// Returns the `width` bits from `bit`, the lowest first. Bits behind the page are 0.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the mask has 32 bits at most"
)]
fn bits(page: &[u8], bit: usize, width: u32) -> u32 {
    let word = match page.get(bit / 8..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_word(page, bit / 8),
    };
    let mask = (1_u64 << width) - 1; // at most 32 bits, and up to 7 before them
    (word >> (bit % 8) & mask) as u32
}

/// The same for up to 64 bits.
fn wide_bits(page: &[u8], bit: usize, width: u32) -> u64 {
    let low = width.min(32);
    let number = u64::from(bits(page, bit, low));
    if width <= 32 {
        return number;
    }
    number | u64::from(bits(page, bit + 32, width - 32)) << 32
}

/// The last bytes of a page as a number.
fn last_word(page: &[u8], at: usize) -> u64 {
    let rest = page.get(at..).unwrap_or_default();
    let bytes = rest.iter().take(8).rev();
    bytes.fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Appends numbers of `width` bits, the lowest first, and fills the last byte.
    fn pack(bytes: &mut Vec<u8>, numbers: &[u64], width: u32) {
        let bit = |number: u64, at: u32| u8::from(number >> at & 1 == 1);
        let bits: Vec<u8> = numbers
            .iter()
            .flat_map(|number| (0..width).map(move |at| bit(*number, at)))
            .collect();
        let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit);
        bytes.extend(bits.chunks(8).map(byte));
    }

    fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
        while number >= 0x80 {
            bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        bytes.push(number.to_le_bytes()[0]);
    }

    fn push_signed(bytes: &mut Vec<u8>, number: i64) {
        push_varint(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    /// Reads up to `most` numbers, until one is invalid.
    fn runs(bytes: &[u8], width: u32, most: usize) -> Vec<u64> {
        let mut runs = Runs::new(0..bytes.len(), width).unwrap();
        (0..most)
            .map_while(|_| runs.next(bytes).ok())
            .map(u64::from)
            .collect()
    }

    #[test]
    fn runs_of_every_width_give_their_numbers() {
        for width in 0..=32 {
            let most = (1_u64 << width) - 1;
            let mut numbers: Vec<u64> = (0..16).map(|number| (most / 15 * number) & most).collect();
            numbers[15] = most;
            let mut bytes = vec![2 << 1 | 1]; // two groups of eight
            pack(&mut bytes, &numbers, width);
            bytes.push(3 << 1); // three times
            pack(&mut bytes, &[most], width);
            numbers.extend([most; 3]);
            assert_eq!(runs(&bytes, width, 100), numbers, "{width}");
            for len in 0..bytes.len() {
                let read = runs(&bytes[..len], width, 100);
                assert!(numbers.starts_with(&read), "{width} {len}");
                assert!(read.len() < numbers.len());
            }
        }
        assert!(Runs::new(0..9, 33).is_err());
    }

    #[test]
    fn number_of_a_run_ends_with_its_width() {
        assert_eq!(runs(&[1 << 1, 0xff], 3, 9), [7]);
        assert_eq!(runs(&[0, 0, 1 << 1, 5], 8, 9), [5]); // a run of no numbers
    }

    #[test]
    fn varints_have_at_most_ten_bytes() {
        let mut most = vec![0xff; 9];
        most.push(1);
        for (bytes, expected) in [
            (&[][..], None),
            (&[0x80], None),
            (&[0x7f], Some(127)),
            (&[0x80, 1], Some(128)),
            (&most, Some(u64::MAX)),
            (&[0x80; 10], None),
            (&[0xff; 11], None),
        ] {
            let mut left = 0..bytes.len();
            assert_eq!(varint(bytes, &mut left).ok(), expected, "{bytes:?}");
            assert!(expected.is_none() || left.is_empty());
        }
    }

    /// Writes numbers as one block of four miniblocks of 8.
    fn deltas(numbers: &[i64]) -> Vec<u8> {
        let mut bytes = vec![32, 4];
        push_varint(&mut bytes, numbers.len() as u64);
        push_signed(&mut bytes, numbers[0]);
        let steps = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
        let steps: Vec<i64> = steps.collect();
        for block in steps.chunks(32) {
            let least = *block.iter().min().unwrap();
            push_signed(&mut bytes, least);
            let more = |step: &i64| step.wrapping_sub(least).cast_unsigned();
            let more: Vec<u64> = block.iter().map(more).collect();
            let miniblocks: Vec<&[u64]> = more.chunks(8).collect();
            let width = |numbers: &&[u64]| 64 - numbers.iter().max().unwrap().leading_zeros();
            let mut widths: Vec<u32> = miniblocks.iter().map(width).collect();
            widths.resize(4, 0);
            bytes.extend(widths.iter().map(|width| u8::try_from(*width).unwrap()));
            for (numbers, width) in miniblocks.iter().zip(widths) {
                let mut numbers = numbers.to_vec();
                numbers.resize(8, 0);
                pack(&mut bytes, &numbers, width);
            }
        }
        bytes
    }

    fn lens(bytes: &[u8]) -> Vec<i64> {
        let Ok(mut deltas) = Deltas::new(bytes, 0..bytes.len(), 1000) else {
            return Vec::new();
        };
        (0..1000)
            .map_while(|_| deltas.next_len(bytes).ok())
            .map(|len| i64::try_from(len).unwrap())
            .collect()
    }

    #[test]
    fn deltas_give_their_numbers() {
        let squares: Vec<i64> = (0..100).map(|number| number * number % 777).collect();
        let cases: [&[i64]; 6] = [
            &[0],
            &[7, 7, 7],
            &[9, 3, 0, 100_000, 1],
            &[0, i64::MAX, 0, i64::MAX], // the steps wrap
            &[i64::MAX, 1 << 40, 5],
            &squares,
        ];
        for numbers in cases {
            let mut bytes = deltas(numbers);
            let len = bytes.len();
            assert_eq!(lens(&bytes), numbers);
            for len in 0..len {
                assert!(
                    numbers.starts_with(&lens(&bytes[..len])),
                    "{numbers:?} {len}"
                );
            }
            bytes.extend(b"behind");
            let all = Deltas::new(&bytes, 0..bytes.len(), 1000).unwrap();
            let (most, behind) = all.behind(&bytes).unwrap();
            assert_eq!(behind, len..bytes.len());
            assert_eq!(Some(&i64::try_from(most).unwrap()), numbers.iter().max());
        }
    }

    #[test]
    fn negative_lengths_end_deltas() {
        assert_eq!(lens(&deltas(&[-1, 5])), [0_i64; 0]);
        assert_eq!(lens(&deltas(&[3, -1, 5])), [3]);
        assert_eq!(lens(&deltas(&[3, i64::MIN])), [3]);
    }

    #[test]
    fn deltas_of_invalid_sizes_are_refused() {
        for (block, miniblocks, numbers, is_read) in [
            (32, 4, 1000, true),
            (32, 4, 1001, false),
            (0, 4, 1, false),
            (32, 0, 1, false),
            (33, 4, 1, false),
            (16, 4, 1, false), // miniblocks of 4
            (4 << 16, 4, 1, true),
            (8 << 16, 4, 1, false),
            (u64::MAX, 1, 1, false),
        ] {
            let mut bytes = Vec::new();
            for number in [block, miniblocks, numbers, 0] {
                push_varint(&mut bytes, number);
            }
            let read = Deltas::new(&bytes, 0..bytes.len(), 1000);
            assert_eq!(read.is_ok(), is_read, "{block} {miniblocks} {numbers}");
        }
        assert_eq!(lens(&[8, 1, 2, 0, 0, 65, 0, 0, 0, 0, 0, 0, 0, 0]), [0]); // 65 bits
    }
}

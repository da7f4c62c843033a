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

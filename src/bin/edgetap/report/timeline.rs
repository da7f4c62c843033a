//! *Timeline*: rows by periods of equal length, few enough to be drawn.

use super::model::{Hour, time};
use super::tally::HOUR;
use crate::show::count;

/// Lengths of periods, in hours.
const LENGTHS: [i64; 6] = [1, 3, 6, 24, 7 * 24, 28 * 24];

/// Rows of a period.
#[derive(Clone, Default)]
pub(super) struct Bin {
    /// Its start, and the hour of its first row. Hours since the Unix epoch.
    start: i64,
    first: i64,
    /// Whether it stands for all periods between its neighbors, which have no rows.
    pub(super) is_gap: bool,
    pub(super) sent: u64,
    pub(super) static_assets: u64,
    pub(super) excluded: u64,
}

impl Bin {
    pub(super) fn rows(&self) -> u64 {
        self.sent + self.static_assets + self.excluded
    }
}

pub(super) struct Timeline {
    pub(super) bins: Vec<Bin>,
    /// Hours of a period.
    length: i64,
}

impl Timeline {
    /// Spreads hours, which are sorted, over at most `most` periods. If the logs have a gap longer than
    /// all of them, one stands for all periods of a gap.
    pub(super) fn new(hours: &[Hour], most: usize) -> Self {
        let mut lengths = LENGTHS.into_iter();
        let mut length = LENGTHS[0];
        let mut bins;
        loop {
            bins = binned(hours, length);
            if spanned(&bins, length) <= most {
                fill(&mut bins, length);
                break;
            }
            let longer = lengths.next();
            if longer.is_none() {
                mark_gaps(&mut bins, length);
                if bins.len() <= most {
                    break;
                }
            }
            length = longer.unwrap_or(length * 2);
        }
        Self { bins, length }
    }

    /// Returns how long a period is: `1 hour`, `7 days`.
    pub(super) fn unit(&self) -> String {
        let length = self.length.unsigned_abs();
        match length / 24 {
            0 => count(length, "hour", "hours"),
            days => count(days, "day", "days"),
        }
    }

    pub(super) fn has_gaps(&self) -> bool {
        self.bins.iter().any(|bin| bin.is_gap)
    }

    /// Returns when the first row of a period is, or when it starts if it has none.
    pub(super) fn label(&self, bin: &Bin) -> String {
        if bin.is_gap {
            return "…".to_owned();
        }
        let format = if self.length < 24 {
            "%m-%d %H:00"
        } else {
            "%Y-%m-%d"
        };
        time(bin.first * HOUR, format)
    }
}

fn binned(hours: &[Hour], length: i64) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    for hour in hours {
        let start = hour.number.div_euclid(length) * length;
        if bins.last().is_none_or(|bin| bin.start != start) {
            bins.push(Bin {
                start,
                first: hour.number,
                ..Bin::default()
            });
        }
        if let Some(bin) = bins.last_mut() {
            bin.sent += hour.sent;
            bin.static_assets += hour.static_assets;
            bin.excluded += hour.excluded;
        }
    }
    bins
}

/// How many periods there are between the first and the last one, both included.
fn spanned(bins: &[Bin], length: i64) -> usize {
    match (bins.first(), bins.last()) {
        (Some(first), Some(last)) => {
            usize::try_from((last.start - first.start) / length + 1).unwrap_or(usize::MAX)
        }
        _ => 0,
    }
}

/// Adds the periods without rows.
fn fill(bins: &mut Vec<Bin>, length: i64) {
    let mut filled: Vec<Bin> = Vec::with_capacity(spanned(bins, length));
    for bin in bins.drain(..) {
        while let Some(start) = filled.last().map(|last| last.start + length)
            && start < bin.start
        {
            filled.push(Bin {
                start,
                first: start,
                ..Bin::default()
            });
        }
        filled.push(bin);
    }
    *bins = filled;
}

/// Puts one period where there are some without rows.
fn mark_gaps(bins: &mut Vec<Bin>, length: i64) {
    let mut marked: Vec<Bin> = Vec::with_capacity(bins.len());
    for bin in bins.drain(..) {
        let expected = marked.last().map(|last| last.start + length);
        if expected.is_some_and(|expected| expected < bin.start) {
            marked.push(Bin {
                is_gap: true,
                ..Bin::default()
            });
        }
        marked.push(bin);
    }
    *bins = marked;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(numbers: &[i64], most: usize) -> Timeline {
        let hour = |&number| Hour {
            number,
            start: String::new(),
            sent: 1,
            static_assets: 0,
            excluded: 0,
        };
        let hours: Vec<_> = numbers.iter().map(hour).collect();
        Timeline::new(&hours, most)
    }

    fn timeline(numbers: &[i64], most: usize) -> (String, Vec<u64>) {
        let timeline = of(numbers, most);
        let rows = timeline.bins.iter().map(Bin::rows).collect();
        (timeline.unit(), rows)
    }

    #[test]
    fn periods_are_few_and_of_equal_length() {
        for (numbers, unit, rows) in [
            (&[][..], "1 hour", &[][..]),
            (&[480_000], "1 hour", &[1]),
            (&[480_000, 480_003], "1 hour", &[1, 0, 0, 1]),
            (&[480_000, 480_001, 480_006], "3 hours", &[2, 0, 1]),
            (
                &[480_000, 480_024, 480_025, 480_072],
                "1 day",
                &[1, 2, 0, 1],
            ),
        ] {
            assert_eq!(timeline(numbers, 4), (unit.to_owned(), rows.to_vec()));
        }
        let month: Vec<i64> = (480_000..480_720).collect();
        let (unit, rows) = timeline(&month, 40);
        assert_eq!((unit.as_str(), rows.len()), ("1 day", 30));
        // Two logs, two thousand years apart.
        assert_eq!(timeline(&[0, 20_000_000], 4).1, [1, 0, 1]);
    }

    #[test]
    fn label_is_that_of_a_row_or_of_a_gap() {
        for (numbers, expected) in [
            (
                &[480_007, 480_080][..],
                &["2024-10-04", "2024-10-05", "2024-10-06", "2024-10-07"][..],
            ),
            (&[7, 480_007], &["1970-01-01", "…", "2024-10-04"]),
        ] {
            let timeline = of(numbers, 4);
            let labels = timeline.bins.iter().map(|bin| timeline.label(bin));
            assert_eq!(labels.collect::<Vec<_>>(), expected);
            assert_eq!(timeline.has_gaps(), expected.contains(&"…"));
        }
    }
}

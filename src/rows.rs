//! *Rows*: a set of row numbers of an object, as sorted half-open ranges. It is what a job asks
//! for, what an attempt settled, what is left, and what a message carries.

use std::ops::Range;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The end of a range that reaches to the end of the object, wherever that is.
pub const OPEN: u64 = u64::MAX;

/// A set of row numbers.
///
/// In JSON it is a list of pairs `[start, end]`, each half-open; an `end` of `null` means the end
/// of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(
    /// Sorted, none empty, and at least one row apart.
    Vec<Range<u64>>,
);

impl Rows {
    /// Returns every row of an object.
    pub fn all() -> Self {
        Self::from(0..OPEN)
    }

    /// Whether the set is that of [`Rows::all`].
    pub fn is_all(&self) -> bool {
        matches!(
            self.0[..],
            [Range {
                start: 0,
                end: OPEN
            }]
        )
    }

    /// Whether the set has no rows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the ranges, the first one first.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Returns the first row.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|range| range.start)
    }

    /// Returns the number of rows. It has no meaning for a set with an open end.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Adds the rows of `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // The ranges that overlap with the new one or touch it are those in `from..to`.
        let from = self.0.partition_point(|known| known.end < range.start);
        let to = self.0.partition_point(|known| known.start <= range.end);
        let touched = &self.0[from..to];
        let start = touched.first().map_or(range.start, |first| first.start);
        let end = touched.last().map_or(range.end, |last| last.end);
        let merged = start.min(range.start)..end.max(range.end);
        self.0.splice(from..to, [merged]);
    }

    /// Adds the rows of `other`.
    pub fn extend(&mut self, other: &Self) {
        for range in &other.0 {
            self.insert(range.clone());
        }
    }

    /// Returns the rows that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut others = other.0.iter().peekable();
        for range in &self.0 {
            let mut start = range.start;
            while let Some(cut) = others.next_if(|cut| cut.end <= range.end) {
                if start < cut.start {
                    left.push(start..cut.start);
                }
                start = start.max(cut.end);
            }
            // A cut that reaches beyond this range may also cut the next one.
            let end = others.peek().map_or(range.end, |cut| cut.start);
            if start < range.end.min(end) {
                left.push(start..range.end.min(end));
            }
        }
        Self(left)
    }

    /// Returns the rows below `end`.
    #[must_use]
    pub fn below(&self, end: u64) -> Self {
        self.without(&Self::from(end..OPEN))
    }

    /// Whether no row is in both sets.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.without(other) == *self
    }

    /// Divides the set into sets of at most `ranges` ranges each.
    pub fn chunks(&self, ranges: usize) -> impl Iterator<Item = Self> {
        self.0.chunks(ranges.max(1)).map(|part| Self(part.to_vec()))
    }
}

impl From<Range<u64>> for Rows {
    fn from(range: Range<u64>) -> Self {
        let mut rows = Self::default();
        rows.insert(range);
        rows
    }
}

impl FromIterator<Range<u64>> for Rows {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut rows = Self::default();
        for range in ranges {
            rows.insert(range);
        }
        rows
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|range| {
            let end = (range.end != OPEN).then_some(range.end);
            (range.start, end)
        }))
    }
}

impl<'de> Deserialize<'de> for Rows {
    /// Accepts ranges in any order, overlapping or not.
    ///
    /// # Errors
    /// If the set would be empty, or a range ends before it starts.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut pairs = Vec::<(u64, Option<u64>)>::deserialize(deserializer)?;
        if pairs
            .iter()
            .any(|(start, end)| end.is_some_and(|end| end < *start))
        {
            return Err(D::Error::custom("a row range ends before it starts"));
        }
        // Sorted, each insertion is at the end: a long list takes no longer than its length.
        pairs.sort_unstable();
        let rows: Self = pairs
            .into_iter()
            .map(|(start, end)| start..end.unwrap_or(OPEN))
            .collect();
        if rows.is_empty() {
            return Err(D::Error::custom("the list of row ranges is empty"));
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(rows: &Rows) -> BTreeSet<u64> {
        rows.ranges().iter().cloned().flatten().collect()
    }

    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        prop::collection::vec(
            (0..40u64, 0..8u64).prop_map(|(start, len)| start..start + len),
            0..12,
        )
    }

    fn is_canonical(rows: &Rows) -> bool {
        rows.ranges().iter().all(|range| !range.is_empty())
            && rows
                .ranges()
                .windows(2)
                .all(|pair| pair[0].end < pair[1].start)
    }

    proptest! {
        #[test]
        fn rows_behave_as_a_set(first in ranges(), second in ranges(), end in 0..50u64) {
            let (a, b): (Rows, Rows) = (first.iter().cloned().collect(), second.iter().cloned().collect());
            let expected = |ranges: &[Range<u64>]| ranges.iter().cloned().flatten().collect::<BTreeSet<_>>();
            prop_assert_eq!(set(&a), expected(&first));
            prop_assert_eq!(a.count(), set(&a).len() as u64);
            prop_assert_eq!(a.first(), set(&a).first().copied());
            let without = a.without(&b);
            prop_assert_eq!(set(&without), &set(&a) - &set(&b));
            prop_assert_eq!(a.is_disjoint(&b), set(&a).is_disjoint(&set(&b)));
            let below = a.below(end);
            prop_assert_eq!(set(&below), set(&a).into_iter().filter(|row| *row < end).collect());
            let mut both = a.clone();
            both.extend(&b);
            prop_assert_eq!(set(&both), &set(&a) | &set(&b));
            for rows in [&a, &without, &below, &both] {
                prop_assert!(is_canonical(rows), "{:?}", rows);
            }
            let joined: Rows = a.chunks(2).flat_map(|part| part.ranges().to_vec()).collect();
            prop_assert_eq!(&joined, &a);
            prop_assert!(a.chunks(2).all(|part| (1..=2).contains(&part.ranges().len())));
            if !a.is_empty() {
                let json = serde_json::to_string(&a).unwrap();
                prop_assert_eq!(serde_json::from_str::<Rows>(&json).unwrap(), a);
            }
        }
    }

    #[test]
    fn open_end_is_null_in_json() {
        let rows: Rows = serde_json::from_str("[[7,9],[0,5],[12,null],[4,6]]").unwrap();
        assert_eq!(rows.ranges(), [0..6, 7..9, 12..OPEN]);
        assert_eq!(
            serde_json::to_string(&rows).unwrap(),
            "[[0,6],[7,9],[12,null]]"
        );
        assert!(serde_json::from_str::<Rows>("[[0,null]]").unwrap().is_all());
        assert!(!rows.is_all());
        assert_eq!(Rows::all().without(&rows).ranges(), [6..7, 9..12]);
    }

    #[test]
    fn rows_without_a_row_are_refused() {
        for text in [
            "[]",
            "[[5,5]]",
            "[[5,4]]",
            "[[1,2],[9,3]]",
            "[[-1,2]]",
            "{}",
        ] {
            assert!(serde_json::from_str::<Rows>(text).is_err(), "{text}");
        }
    }
}

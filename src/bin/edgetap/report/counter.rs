//! *Counter*: how often values occur, in bounded memory.
//!
//! Whoever sends requests chooses most values, and could fill any list with values that occur once.
//! When a counter is full, the half of its values that occur least is therefore dropped. Counts are
//! exact while no more values differ than the counter holds. After that, one may be too small, by
//! at most [`List::short`].

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::AddAssign;

/// What is counted of a value.
pub(super) trait Tallied: AddAssign + Copy + Default {
    /// How often the value occurs.
    fn occurrences(&self) -> u64;
}

impl Tallied for u64 {
    fn occurrences(&self) -> u64 {
        *self
    }
}

/// Counts of values. The hash is keyed at random, so that no choice of values makes it slow.
pub(super) struct Counter<K, T> {
    counts: HashMap<K, T>,
    /// Most values.
    cap: usize,
    dropped: T,
    short: u64,
}

impl<K: Eq + Hash + Ord + Clone, T: Tallied> Counter<K, T> {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            counts: HashMap::new(),
            cap,
            dropped: T::default(),
            short: 0,
        }
    }

    pub(super) fn add<Q>(&mut self, value: &Q, tallied: T)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned: Into<K>> + ?Sized,
    {
        if let Some(count) = self.counts.get_mut(value) {
            *count += tallied;
            return;
        }
        self.shrink_below(self.cap);
        self.counts.insert(value.to_owned().into(), tallied);
    }

    /// Adds the counts of another part of the logs. The result does not depend on the order of the
    /// values, but on that of the parts.
    pub(super) fn merge(&mut self, part: Self) {
        for (value, tallied) in part.counts {
            *self.counts.entry(value).or_default() += tallied;
        }
        self.dropped += part.dropped;
        self.short += part.short;
        self.shrink_below(self.cap + 1);
    }

    fn shrink_below(&mut self, len: usize) {
        while self.counts.len() >= len {
            let mut order: Vec<(u64, &K)> = self
                .counts
                .iter()
                .map(|(value, tallied)| (tallied.occurrences(), value))
                .collect();
            let middle = order.len() / 2;
            let (_, &mut (most, last), _) = order.select_nth_unstable(middle);
            let last = last.clone();
            let dropped = &mut self.dropped;
            self.counts.retain(|value, tallied| {
                let is_kept = (tallied.occurrences(), value) > (most, &last);
                if !is_kept {
                    *dropped += *tallied;
                }
                is_kept
            });
            self.short += most;
        }
    }

    /// Returns the values, the most frequent first.
    pub(super) fn into_list(self) -> List<K, T> {
        let different = (self.short == 0).then_some(self.counts.len());
        let mut values: Vec<_> = self.counts.into_iter().collect();
        values.sort_by(|(a, one), (b, other)| {
            other
                .occurrences()
                .cmp(&one.occurrences())
                .then_with(|| a.cmp(b))
        });
        List {
            values,
            dropped: self.dropped,
            different,
            short: self.short,
        }
    }
}

/// Values in order.
pub(super) struct List<K, T> {
    pub(super) values: Vec<(K, T)>,
    /// Counts of the values that are not listed.
    pub(super) dropped: T,
    /// How many values differ. `None` if they are too many to be counted.
    pub(super) different: Option<usize>,
    /// Upper bound on what the count of a listed value lacks.
    pub(super) short: u64,
}

impl<K, T: Tallied> List<K, T> {
    /// Leaves out all values but the first ones.
    pub(super) fn truncate(&mut self, len: usize) {
        for (_, tallied) in self.values.drain(len.min(self.values.len())..) {
            self.dropped += tallied;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn counted(values: &[&str], cap: usize) -> Counter<Box<str>, u64> {
        let mut counter = Counter::new(cap);
        for value in values {
            counter.add(*value, 1);
        }
        counter
    }

    #[test]
    fn counts_are_exact_up_to_the_cap() {
        let list = counted(&["b", "a", "b", "c", "c", "b"], 3).into_list();
        let values: Vec<_> = list.values.iter().map(|(k, n)| (&**k, *n)).collect();
        assert_eq!(values, [("b", 3), ("c", 2), ("a", 1)]);
        assert_eq!((list.dropped, list.different, list.short), (0, Some(3), 0));
    }

    #[test]
    fn flood_of_rare_values_hides_no_frequent_one() {
        let mut counter = counted(&[], 100);
        for at in 0..100_000_u64 {
            counter.add(at.to_string().as_str(), 1);
            if at % 10 == 0 {
                counter.add("often", 1);
            }
        }
        let list = counter.into_list();
        let (first, count) = &list.values[0];
        assert_eq!(&**first, "often");
        assert!(*count <= 10_000 && count + list.short >= 10_000);
        let listed: u64 = list.values.iter().map(|(_, count)| count).sum();
        assert_eq!(listed + list.dropped, 110_000);
        assert_eq!(list.different, None);
        assert!(list.values.len() <= 100);
    }

    #[test]
    fn merged_counts_do_not_depend_on_hashes() {
        let parts: Vec<Vec<String>> = (0..40_u64)
            .map(|part| {
                (0..90)
                    .map(|at| (at * part % 997 % 61).to_string())
                    .collect()
            })
            .collect();
        let merged = || {
            let mut all = counted(&[], 20);
            for part in &parts {
                let part: Vec<&str> = part.iter().map(String::as_str).collect();
                all.merge(counted(&part, 15));
            }
            let list = all.into_list();
            (list.values, list.dropped, list.short)
        };
        let first = merged();
        assert!((0..5).all(|_| merged() == first));
        let listed: u64 = first.0.iter().map(|(_, count)| count).sum();
        assert_eq!(listed + first.1, 40 * 90);
    }
}

//! *Period*: the time that the key of a log tells, by which a search skips logs.
//!
//! CloudFront names a log after distribution and hour (UTC), `ID.YYYY-MM-DD-HH.UNIQUE.gz`. It may
//! deliver it to folders `ID/YYYY/MM/DD/HH/`, or with Hive partitions to
//! `year=YYYY/month=MM/day=DD/hour=HH/`.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};

use crate::job::{SEPARATORS, in_file_name, is_distribution_id};

/// Hours before the period of a log in which its requests may have begun. A request is logged when
/// its response ends, which takes hours for a WebSocket, and is delivered up to 24 hours later.
pub const HOURS_BEFORE: i64 = 24;
/// Hours after the period of a log in which its requests may have begun: the name of a log may be
/// that of its first request.
pub const HOURS_AFTER: i64 = 1;

/// Years that a key may tell. Other numbers are not years.
const YEARS: std::ops::RangeInclusive<i16> = 2008..=2100;

/// The time in which a request began, from `since` to before `until`. UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    since: DateTime,
    until: DateTime,
}

impl Default for Window {
    /// All of time.
    fn default() -> Self {
        Self {
            since: DateTime::MIN,
            until: DateTime::MAX,
        }
    }
}

impl Window {
    /// Returns the window between two times; `None` does not bound it.
    pub fn new(since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let utc = |time| TimeZone::UTC.to_datetime(time);
        Self {
            since: since.map_or(DateTime::MIN, utc),
            until: until.map_or(DateTime::MAX, utc),
        }
    }

    /// Returns the shortest beginning of a key that tells that no log with this beginning has a
    /// request of this window. `None` if the log may have one, or its key tells no time.
    pub fn excluding<'a>(&self, key: &'a str) -> Option<&'a str> {
        let mut told = told(key);
        told.sort_by_key(|(end, _)| *end);
        let outside = told.iter().find(|(_, period)| self.is_outside(period));
        outside.and_then(|(end, _)| key.get(..*end))
    }

    /// Returns the shortest beginning of a key, into its file name, with which no log has a request of
    /// this window. Folders do not count: one may hold names of another time, which decide.
    pub fn excluding_names<'a>(&self, key: &'a str) -> Option<&'a str> {
        let start = key.rfind(SEPARATORS).map_or(0, |at| at + 1);
        let told = of_name(key.get(start..)?, start);
        let outside = told.iter().find(|(_, period)| self.is_outside(period));
        outside.and_then(|(end, _)| key.get(..*end))
    }

    fn is_outside(&self, [start, end]: &[DateTime; 2]) -> bool {
        start.saturating_sub(HOURS_BEFORE.hours()) >= self.until
            || end.saturating_add(HOURS_AFTER.hours()) <= self.since
    }
}

/// Returns the shortest period that a key tells: from, and up to. It is an hour for the keys that
/// CloudFront gives. `None` if the key tells no time.
pub fn period_of(key: &str) -> Option<[Timestamp; 2]> {
    let told = told(key).into_iter();
    let [from, to] = told
        .map(|(_, period)| period)
        .min_by_key(|[from, to]| to.duration_since(*from))?;
    let utc = |time| TimeZone::UTC.to_timestamp(time).ok();
    Some([utc(from)?, utc(to)?])
}

/// A beginning of a key, by its length, and the period that it tells: from, and up to.
type Told = (usize, [DateTime; 2]);

/// Returns the periods that a key tells: year, month, day and hour, of its folders and its name. A
/// folder that the name contradicts tells none: logs may have been moved.
fn told(key: &str) -> Vec<Told> {
    let mut end = 0;
    let parts: Vec<(usize, &str)> = key
        .split_inclusive(SEPARATORS)
        .map(|part| {
            end += part.len();
            (end, part.trim_end_matches(SEPARATORS))
        })
        .collect();
    let Some((&(_, name), folders)) = parts.split_last() else {
        return Vec::new();
    };
    let id = in_file_name(name);
    let mut told = Vec::new();
    for (at, (_, folder)) in folders.iter().enumerate() {
        if is_distribution_id(folder) && id.is_none_or(|id| id == *folder) {
            told.extend(periods(folders[at + 1..].iter().copied()));
        }
        if is_partition(folder, UNITS[0]) {
            told.extend(periods(partitions(&folders[at..])));
        }
    }
    let of_name = of_name(name, key.len() - name.len());
    if let Some((_, [start, end])) = of_name.last() {
        told.retain(|(_, [from, to])| from <= start && end <= to);
    }
    told.extend(of_name);
    told
}

const UNITS: [&str; 4] = ["year", "month", "day", "hour"];

fn is_partition(folder: &str, unit: &str) -> bool {
    folder
        .split_once('=')
        .is_some_and(|(name, _)| name.eq_ignore_ascii_case(unit))
}

/// Returns the values of Hive partitions, as far as they follow each other.
fn partitions<'a>(folders: &[(usize, &'a str)]) -> impl Iterator<Item = (usize, &'a str)> {
    UNITS
        .iter()
        .zip(folders)
        .map_while(|(unit, (end, folder))| {
            let (_, value) = folder.split_once('=')?;
            is_partition(folder, unit).then_some((*end, value))
        })
}

/// Returns the periods of a file name that CloudFront gives, which starts at `start` in the key.
fn of_name(name: &str, start: usize) -> Vec<Told> {
    let Some(id) = in_file_name(name) else {
        return Vec::new();
    };
    let mut end = start + id.len() + 1;
    let hour = name.split('.').nth(1).unwrap_or_default();
    periods(hour.split('-').map(|number| {
        end += number.len() + 1;
        (end, number)
    }))
}

/// Returns the periods of a year, month, day and hour, as far as they are ones.
fn periods<'a>(numbers: impl Iterator<Item = (usize, &'a str)>) -> Vec<Told> {
    let units: [(usize, Span); 4] = [(4, 1.year()), (2, 1.month()), (2, 1.day()), (2, 1.hour())];
    let mut read = [0, 1, 1, 0];
    let mut told = Vec::new();
    for (at, ((digits, unit), (end, number))) in units.into_iter().zip(numbers).enumerate() {
        let is_number = number.len() == digits && number.bytes().all(|byte| byte.is_ascii_digit());
        let (true, Ok(number)) = (is_number, number.parse()) else {
            break;
        };
        read[at] = number;
        let Some(start) = date_time(read) else {
            break;
        };
        told.push((end, [start, start.saturating_add(unit)]));
    }
    told
}

fn date_time([year, month, day, hour]: [i16; 4]) -> Option<DateTime> {
    let small = |number: i16| i8::try_from(number).ok();
    let time = DateTime::new(year, small(month)?, small(day)?, small(hour)?, 0, 0, 0);
    time.ok().filter(|_| YEARS.contains(&year))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(since: &str, until: &str) -> Window {
        let time = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Window::new(time(since), time(until))
    }

    #[test]
    fn key_outside_the_window_is_excluded_by_its_beginning() {
        let noon = "2026-11-25T12:00:00Z";
        for (since, until, key, excluding) in [
            // Names of legacy logs.
            (
                noon,
                "",
                "logs/E27FO14I29XXXX.2026-11-25-10.x.gz",
                Some("logs/E27FO14I29XXXX.2026-11-25-10."),
            ),
            (noon, "", "logs/E27FO14I29XXXX.2026-11-25-11.x.gz", None),
            (
                noon,
                "",
                "logs/E27FO14I29XXXX.2026-11-24-23.x.gz",
                Some("logs/E27FO14I29XXXX.2026-11-24-"),
            ),
            (
                noon,
                "",
                "logs/E27FO14I29XXXX.2026-10-31-23.x.gz",
                Some("logs/E27FO14I29XXXX.2026-10-"),
            ),
            (
                noon,
                "",
                "logs/E27FO14I29XXXX.2025-12-31-23.x.gz",
                Some("logs/E27FO14I29XXXX.2025-"),
            ),
            (noon, "", "logs/E27FO14I29XXXX.2027-01-01-00.x.gz", None),
            ("", noon, "E27FO14I29XXXX.2026-11-26-11.x.gz", None),
            (
                "",
                noon,
                "E27FO14I29XXXX.2026-11-26-12.x.gz",
                Some("E27FO14I29XXXX.2026-11-26-12."),
            ),
            (
                "",
                noon,
                "E27FO14I29XXXX.2026-11-27-00.x.gz",
                Some("E27FO14I29XXXX.2026-11-27-"),
            ),
            ("", noon, "E27FO14I29XXXX.2026-01-01-00.x.gz", None),
            // Folders, with any name in them.
            (
                noon,
                "",
                "AWSLogs/123456789012/CloudFront/E27FO14I29XXXX/2026/11/25/10/x.gz",
                Some("AWSLogs/123456789012/CloudFront/E27FO14I29XXXX/2026/11/25/10/"),
            ),
            (noon, "", "p/E27FO14I29XXXX/2026/11/25/11/x.gz", None),
            (
                noon,
                "",
                "p/E27FO14I29XXXX/2025/11/25/11/x.gz",
                Some("p/E27FO14I29XXXX/2025/"),
            ),
            (
                noon,
                "",
                "p/E27FO14I29XXXX/2026/11/24/E27FO14I29XXXX.2026-11-24-12.x.gz",
                Some("p/E27FO14I29XXXX/2026/11/24/"),
            ),
            (
                noon,
                "",
                r"C:\E27FO14I29XXXX\2026\10\x.gz",
                Some(r"C:\E27FO14I29XXXX\2026\10\"),
            ),
            (
                noon,
                "",
                "DistributionId=E27FO14I29XXXX/year=2026/month=11/day=25/hour=10/x.gz",
                Some("DistributionId=E27FO14I29XXXX/year=2026/month=11/day=25/hour=10/"),
            ),
            (
                noon,
                "",
                "Year=2026/Month=10/x.gz",
                Some("Year=2026/Month=10/"),
            ),
            // Keys that tell nothing, or too little.
            (noon, "", "2025/11/25/10/x.gz", None),
            (noon, "", "E27FO14I29XXXX/2026/x.gz", None),
            (noon, "", "E27FO14I29XXXX/0001/02/x.gz", None),
            (noon, "", "E27FO14I29XXXX/2026/13/25/10/x.gz", None),
            (noon, "", "E27FO14I29XXXX/26/1/x.gz", None),
            (noon, "", "E27FO14I29XXXX/+025/01/x.gz", None),
            (noon, "", "day=25/year=2026/hour=10/x.gz", None),
            (noon, "", "month=01/x.gz", None),
            (noon, "", "backup.2025-11-25-10.tar.gz", None),
            (noon, "", "E27FO14I29XXXX.2025-11-25.x.gz", None),
            (noon, "", "x.gz", None),
            (noon, "", "", None),
            ("", "", "E27FO14I29XXXX.2025-01-01-00.x.gz", None),
        ] {
            let excluded = window(since, until).excluding(key);
            assert_eq!(excluded, excluding, "{key}");
        }
    }

    #[test]
    fn shortest_period_of_a_key_is_told() {
        for (key, period) in [
            (
                "p/E27FO14I29XXXX.2026-11-25-10.x.gz",
                Some(["2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"]),
            ),
            (
                "E27FO14I29XXXX/2026/11/25/23/x.gz",
                Some(["2026-11-25T23:00:00Z", "2026-11-26T00:00:00Z"]),
            ),
            (
                "year=2026/month=12/x.gz",
                Some(["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
            ),
            (
                "E27FO14I29XXXX/2026/11/24/E27FO14I29XXXX.2026-11-25-10.x.gz",
                Some(["2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"]),
            ),
            ("x.gz", None),
            ("", None),
        ] {
            let expected = period.map(|period| period.map(|time| time.parse().unwrap()));
            assert_eq!(period_of(key), expected, "{key}");
        }
    }

    #[test]
    fn name_of_a_log_wins_over_its_folders() {
        let window = window("2026-11-25T12:00:00Z", "");
        for (key, excluding) in [
            (
                "p/E27FO14I29XXXX/2026/11/24/E27FO14I29XXXX.2026-11-25-12.x.gz",
                None,
            ),
            (
                "p/E27FO14I29XXXX/2026/11/25/12/E27FO14I29XXXX.2026-11-25-10.x.gz",
                Some("p/E27FO14I29XXXX/2026/11/25/12/E27FO14I29XXXX.2026-11-25-10."),
            ),
            (
                "EBACKUPSTORE1/2025/x/E27FO14I29XXXX.2026-11-25-12.x.gz",
                None,
            ),
            ("year=2025/E27FO14I29XXXX.2026-11-25-12.x.gz", None),
        ] {
            assert_eq!(window.excluding(key), excluding, "{key}");
        }
    }

    proptest! {
        /// No key is excluded whose hour, a day earlier or an hour later, touches the window. All
        /// others are, and with them every key that has the same beginning.
        #[test]
        fn hour_of_a_key_decides(
            hour in 0_i64..24 * 900,
            since in 0_i64..24 * 900,
            length in 1_i64..24 * 60,
            form in 0_usize..3,
        ) {
            let first = "2025-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
            let time = |hours: i64| first.checked_add(hours.hours()).unwrap();
            let forms = [
                "p/E27FO14I29XXXX.%Y-%m-%d-%H.x.gz",
                "p/E27FO14I29XXXX/%Y/%m/%d/%H/x.gz",
                "p/year=%Y/month=%m/day=%d/hour=%H/x.gz",
            ];
            let key = |hour| time(hour).strftime(forms[form]).to_string();
            let window = Window::new(Some(time(since)), Some(time(since + length)));
            let is_outside = |hour| hour - HOURS_BEFORE >= since + length
                || hour + 1 + HOURS_AFTER <= since;
            let key_of_hour = key(hour);
            let excluding = window.excluding(&key_of_hour);
            prop_assert_eq!(excluding.is_some(), is_outside(hour), "{}", key_of_hour);
            if let Some(beginning) = excluding {
                for other in 0..24 * 900 {
                    prop_assert!(is_outside(other) || !key(other).starts_with(beginning));
                }
            }
        }

        #[test]
        fn any_key_is_read_without_a_panic(key in "[E/\\\\.=0-9A-Zé-]{0,40}") {
            Window::new(Some(Timestamp::UNIX_EPOCH), Some(Timestamp::UNIX_EPOCH)).excluding(&key);
        }
    }
}

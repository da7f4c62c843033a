//! Which of the listed objects are sent: a decision about what the listing says, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use edgetap::job::ObjectRef;
use edgetap::listing::Listed;
use edgetap::period::{Window, period_of};
use edgetap::pipeline::is_access_test;
use jiff::{Timestamp, ToSpan as _};

/// Storage classes whose objects must be restored before they can be read. Those that
/// `INTELLIGENT_TIERING` has archived are not told in a listing.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Hours by which a log can be later than the hour in its key.
const LATE: i64 = 24;

/// The upper end of the selection.
pub(super) enum Until {
    Open,
    At(Timestamp),
    /// The moment from which on events are sent for new objects.
    Enabled(EnabledAt),
}

/// When distributions were enabled.
#[derive(Default)]
pub(super) struct EnabledAt {
    /// Of those that are not in `of`.
    pub(super) others: Option<Timestamp>,
    pub(super) of: BTreeMap<String, Timestamp>,
}

/// What is selected.
pub(super) struct Selection {
    pub(super) since: Option<Timestamp>,
    pub(super) until: Until,
    /// All, if empty.
    pub(super) distributions: BTreeSet<String>,
    /// Keys up to this one are not sent; an empty text is before all keys.
    pub(super) after: String,
    /// The keys that may be selected, by their hours.
    window: Window,
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Wanted,
    Left(Left),
    /// `--until enabled`, but no one said when the object's distribution was enabled.
    NotEnabled,
}

/// Why an object is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    /// Up to the key of `--after`.
    NotAfter,
    /// An empty object whose key ends with `/`, as consoles make for a folder.
    Placeholder,
    /// One by which an AWS service tests whether it may write.
    AccessTest,
    /// Of another service.
    Foreign,
    /// Of another distribution than those asked for.
    OtherDistribution,
    /// Neither the hour of the key nor `LastModified` is in the window.
    Outside,
    /// Without a byte.
    Empty,
    /// Not readable before it is restored.
    Archived,
}

impl Left {
    pub(super) const ALL: [Self; 8] = [
        Self::Outside,
        Self::OtherDistribution,
        Self::Archived,
        Self::Empty,
        Self::Foreign,
        Self::AccessTest,
        Self::Placeholder,
        Self::NotAfter,
    ];

    /// Name in JSON, and text after a number.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::NotAfter => ("up_to_after_key", "up to the key of --after"),
            Self::Placeholder => ("placeholders", "as folder placeholder"),
            Self::AccessTest => ("access_tests", "as access test"),
            Self::Foreign => ("foreign", "of another service"),
            Self::OtherDistribution => ("other_distributions", "of another distribution"),
            Self::Outside => ("outside", "outside the window"),
            Self::Empty => ("empty", "empty"),
            Self::Archived => ("archived", "archived (GLACIER, DEEP_ARCHIVE)"),
        }
    }
}

impl Selection {
    pub(super) fn new(
        since: Option<Timestamp>,
        until: Until,
        distributions: BTreeSet<String>,
        after: String,
    ) -> Self {
        let earliest = since.and_then(|since| since.checked_sub(LATE.hours()).ok());
        let latest = match until {
            Until::At(until) => Some(until),
            // LastModified alone decides.
            Until::Open | Until::Enabled(_) => None,
        };
        Self {
            since,
            until,
            distributions,
            after,
            window: Window::new(earliest, latest),
        }
    }

    /// Returns the window by which a listing may pass over keys: none of them is selected.
    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Decides about an object in the bucket.
    pub(super) fn select(&self, listed: &Listed) -> Choice {
        let object = ObjectRef::in_s3("", listed.key.as_str());
        let distribution = object.distribution();
        let is_other = |id: &BTreeSet<String>| !distribution.is_some_and(|of| id.contains(of));
        if listed.key <= self.after {
            Choice::Left(Left::NotAfter)
        } else if listed.key.ends_with('/') {
            Choice::Left(Left::Placeholder)
        } else if is_access_test(&object) {
            Choice::Left(Left::AccessTest)
        } else if is_foreign(&listed.key) {
            Choice::Left(Left::Foreign)
        } else if !self.distributions.is_empty() && is_other(&self.distributions) {
            Choice::Left(Left::OtherDistribution)
        } else {
            match self.is_in_window(listed, distribution) {
                None => Choice::NotEnabled,
                Some(false) => Choice::Left(Left::Outside),
                Some(true) if listed.size == Some(0) => Choice::Left(Left::Empty),
                Some(true) if is_archived(listed) => Choice::Left(Left::Archived),
                Some(true) => Choice::Wanted,
            }
        }
    }

    /// Whether the hour of the key or `LastModified` is in the window: some rows are late. `None` if
    /// the end of the window is not known.
    fn is_in_window(&self, listed: &Listed, distribution: Option<&str>) -> Option<bool> {
        let modified = listed.last_modified;
        let until = match &self.until {
            Until::Open => None,
            Until::At(until) => Some(*until),
            Until::Enabled(enabled) => {
                let enabled = enabled.of(distribution)?;
                if modified.is_none_or(|modified| modified >= enabled) {
                    return Some(false);
                }
                None
            }
        };
        if self.window.excluding(&listed.key).is_some() {
            return Some(false);
        }
        let is_early = |end: Timestamp| self.since.is_some_and(|since| end < since);
        let is_late = |start: Timestamp| until.is_some_and(|until| start >= until);
        let [by_key, by_time] = [
            period_of(&listed.key)
                // The end of a period is not part of it.
                .map(|[from, to]| !(is_early(to) || self.since == Some(to) || is_late(from))),
            modified.map(|modified| !(is_early(modified) || is_late(modified))),
        ];
        let is_unbounded = self.since.is_none() && until.is_none();
        Some(is_unbounded || by_key == Some(true) || by_time == Some(true))
    }
}

impl EnabledAt {
    fn of(&self, distribution: Option<&str>) -> Option<Timestamp> {
        let known = distribution.and_then(|id| self.of.get(id)).copied();
        known.or(self.others)
    }
}

fn is_archived(listed: &Listed) -> bool {
    let class = listed.storage_class.as_deref();
    class.is_some_and(|class| ARCHIVES.contains(&class))
}

/// Whether a key is that of another log: below `AWSLogs/ACCOUNT/` another service's folder.
fn is_foreign(key: &str) -> bool {
    let (folders, _) = key.rsplit_once('/').unwrap_or_default();
    let is_account = |folder: &str| {
        let id = folder.strip_prefix("aws-account-id=").unwrap_or(folder);
        id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut below = folders.split('/').skip_while(|folder| *folder != "AWSLogs");
    let account = below
        .by_ref()
        .skip(1)
        .find(|folder| !folder.starts_with("o-"));
    let service = account
        .filter(|folder| is_account(folder))
        .and(below.next());
    service.is_some_and(|service| service != "CloudFront")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AWSLogs/123456789012/CloudFront/E27FO14I29XXXX.2026-11-25-10.a.gz";

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn listed(key: &str, modified: &str) -> Listed {
        Listed {
            key: key.to_owned(),
            size: Some(100),
            last_modified: (!modified.is_empty()).then(|| time(modified)),
            ..Listed::default()
        }
    }

    fn selection(since: &str, until: &str) -> Selection {
        let bound = |text: &str| (!text.is_empty()).then(|| time(text));
        let until = bound(until).map_or(Until::Open, Until::At);
        Selection::new(bound(since), until, BTreeSet::new(), String::new())
    }

    #[test]
    fn hour_of_the_key_or_last_modified_is_in_the_window() {
        let (noon, ten) = ("2026-11-25T12:00:00Z", "2026-11-25T10:00:00Z");
        let eleven = "2026-11-25T11:00:00Z";
        let untold = "x.gz";
        let next_day = "E27FO14I29XXXX.2026-11-26-10.a.gz";
        for (since, until, key, modified, is_wanted) in [
            ("", "", KEY, "", true),
            ("", "", untold, "", true),
            // The hour of the key ends at 11:00.
            (ten, "", KEY, ten, true),
            ("2026-11-25T10:59:59.999Z", "", KEY, ten, true),
            (eleven, "", KEY, ten, false),
            ("", ten, KEY, noon, false),
            ("", "2026-11-25T10:00:00.001Z", KEY, noon, true),
            // LastModified, which is late.
            (eleven, "", KEY, eleven, true),
            (eleven, "", KEY, "2026-11-25T10:59:59Z", false),
            (noon, "", KEY, "2026-11-26T09:00:00Z", true),
            (
                noon,
                "2026-11-26T09:00:00Z",
                KEY,
                "2026-11-26T09:00:00Z",
                false,
            ),
            (
                noon,
                "2026-11-26T09:00:00Z",
                KEY,
                "2026-11-26T08:59:59Z",
                true,
            ),
            // A log is at most a day late: one that was copied later is not.
            (
                "2026-11-26T11:59:59Z",
                "",
                KEY,
                "2026-12-01T00:00:00Z",
                true,
            ),
            (
                "2026-11-26T12:00:00Z",
                "",
                KEY,
                "2026-12-01T00:00:00Z",
                false,
            ),
            ("", noon, next_day, ten, true),
            ("", ten, next_day, "2026-11-25T09:00:00Z", false),
            // Keys that tell a day, or nothing.
            (noon, "", "E27FO14I29XXXX/2026/11/25/a.gz", ten, true),
            (
                "2026-11-26",
                "",
                "E27FO14I29XXXX/2026/11/25/a.gz",
                ten,
                false,
            ),
            (noon, "", untold, noon, true),
            (noon, "", untold, ten, false),
            ("", noon, untold, ten, true),
            ("", noon, untold, noon, false),
            (noon, "", untold, "", false),
        ] {
            let day = |text: &str| match text.len() {
                10 => format!("{text}T00:00:00Z"),
                _ => text.to_owned(),
            };
            let selection = selection(&day(since), &day(until));
            let expected = if is_wanted {
                Choice::Wanted
            } else {
                Choice::Left(Left::Outside)
            };
            let choice = selection.select(&listed(key, modified));
            assert_eq!(choice, expected, "{since}–{until}: {key}, {modified}");
        }
    }

    #[test]
    fn before_the_enabling_last_modified_alone_decides() {
        let (enabled, before) = ("2026-11-25T10:00:00Z", "2026-11-25T09:59:59Z");
        let other = "E1AAAAAAAAAAA1.2026-11-25-10.a.gz";
        let far = "E27FO14I29XXXX.2026-12-25-10.a.gz";
        let none = Choice::NotEnabled;
        let outside = Choice::Left(Left::Outside);
        for (others, of, since, key, modified, expected) in [
            (enabled, "", "", KEY, before, Choice::Wanted),
            (enabled, "", "", KEY, enabled, outside),
            (enabled, "", "", KEY, "2026-12-01T00:00:00Z", outside),
            (enabled, "", "", KEY, "", outside),
            (enabled, "", "", far, before, Choice::Wanted),
            (enabled, "", "2026-11-26T10:00:00Z", KEY, before, outside),
            (
                enabled,
                "",
                "2026-11-25T09:00:00Z",
                KEY,
                before,
                Choice::Wanted,
            ),
            (enabled, "", "", "x.gz", before, Choice::Wanted),
            // That of the distribution, if there is one.
            (enabled, before, "", KEY, before, outside),
            (before, enabled, "", KEY, before, Choice::Wanted),
            (before, enabled, "", other, before, outside),
            ("", enabled, "", KEY, before, Choice::Wanted),
            ("", enabled, "", other, before, none),
            ("", enabled, "", "x.gz", before, none),
        ] {
            let bound = |text: &str| (!text.is_empty()).then(|| time(text));
            let of = bound(of).map(|at| ("E27FO14I29XXXX".to_owned(), at));
            let enabled = EnabledAt {
                others: bound(others),
                of: of.into_iter().collect(),
            };
            let until = Until::Enabled(enabled);
            let selection = Selection::new(bound(since), until, BTreeSet::new(), String::new());
            let choice = selection.select(&listed(key, modified));
            assert_eq!(
                choice,
                expected,
                "{others}, {of:?}, {since}: {key}, {modified}",
                of = selection.until_text()
            );
        }
    }

    impl Selection {
        fn until_text(&self) -> String {
            match &self.until {
                Until::Enabled(EnabledAt { of, .. }) => format!("{of:?}"),
                _ => String::new(),
            }
        }
    }

    #[test]
    fn objects_that_cannot_be_delivered_are_left() {
        let account = "AWSLogs/123456789012";
        for (key, left) in [
            (KEY, None),
            ("x.gz", None),
            ("logs/AWSLogs/E27FO14I29XXXX/2026/a.gz", None),
            ("AWSLogs/a.gz", None),
            ("AWSLogs/123456789012/a.gz", None),
            ("AWSLogs/aws-account-id=123456789012/CloudFront/a.gz", None),
            ("AWSLogs/o-abcdefghij/123456789012/CloudFront/a.gz", None),
            (
                &format!("{account}/elasticloadbalancing/a.gz"),
                Some(Left::Foreign),
            ),
            (
                &format!("p/{account}/CloudTrail/us-east-1/a.gz"),
                Some(Left::Foreign),
            ),
            (
                "AWSLogs/o-abcdefghij/123456789012/WAFLogs/a.gz",
                Some(Left::Foreign),
            ),
            ("E27FO14I29XXXX.2026-11-25-10.a.parquet", None),
            (
                "AWSLogs/aws-account-id=123456789012/CloudFront/DistributionId=E27FO14I29XXXX/year=2026/a.log.parquet",
                None,
            ),
            (
                &format!("{account}/vpcflowlogs/us-east-1/2026/11/25/a.log.parquet"),
                Some(Left::Foreign),
            ),
            ("p/", Some(Left::Placeholder)),
            ("p/aws-logs-write-test", Some(Left::AccessTest)),
        ] {
            let choice = selection("", "").select(&listed(key, "2026-11-25T10:00:00Z"));
            assert_eq!(choice, left.map_or(Choice::Wanted, Choice::Left), "{key}");
        }
        for (size, class, left) in [
            (Some(0), None, Some(Left::Empty)),
            (None, None, None),
            (Some(0), Some("GLACIER"), Some(Left::Empty)),
            (Some(1), Some("GLACIER"), Some(Left::Archived)),
            (None, Some("DEEP_ARCHIVE"), Some(Left::Archived)),
            (Some(1), Some("GLACIER_IR"), None),
            (Some(1), Some("INTELLIGENT_TIERING"), None),
            (Some(1), Some("STANDARD_IA"), None),
        ] {
            let listed = Listed {
                size,
                storage_class: class.map(str::to_owned),
                ..listed(KEY, "2026-11-25T10:00:00Z")
            };
            let choice = selection("", "").select(&listed);
            assert_eq!(
                choice,
                left.map_or(Choice::Wanted, Choice::Left),
                "{class:?}"
            );
        }
    }

    #[test]
    fn other_distributions_and_earlier_keys_are_left() {
        let of = |ids: &[&str], after: &str| {
            let ids = ids.iter().map(|&id| id.to_owned()).collect();
            Selection::new(None, Until::Open, ids, after.to_owned())
        };
        let (first, second) = ("E27FO14I29XXXX", "E1AAAAAAAAAAA1");
        let other = Some(Left::OtherDistribution);
        for (ids, after, key, left) in [
            (&[][..], "", KEY, None),
            (&[first], "", KEY, None),
            (&[second, first], "", KEY, None),
            (&[second], "", KEY, other),
            (&[second], "", "x.gz", other),
            (&[], KEY, KEY, Some(Left::NotAfter)),
            (
                &[],
                "AWSLogs/123456789012/CloudFront/E27FO14I29XXXX.2026-11-25-09",
                KEY,
                None,
            ),
            (&[], "B", KEY, Some(Left::NotAfter)),
        ] {
            let choice = of(ids, after).select(&listed(key, "2026-11-25T10:00:00Z"));
            assert_eq!(choice, left.map_or(Choice::Wanted, Choice::Left), "{ids:?}");
        }
    }

    /// What a listing passes over is outside by `select` too.
    #[test]
    fn passing_over_keys_loses_nothing() {
        let selection = selection("2026-11-25T12:00:00Z", "2026-11-25T13:00:00Z");
        for hour in 0..72_i64 {
            let start = time("2026-11-24T00:00:00Z")
                .checked_add(hour.hours())
                .unwrap();
            let key = start
                .strftime("E27FO14I29XXXX.%Y-%m-%d-%H.a.gz")
                .to_string();
            let in_time = listed(&key, "2026-11-25T12:30:00Z");
            let is_wanted = selection.select(&in_time) == Choice::Wanted;
            assert_eq!(
                is_wanted,
                selection.window().excluding(&key).is_none(),
                "{key}"
            );
        }
    }
}

//! What the selection holds, per distribution and day, and what its delivery takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::CellAlignment;
use edgetap::estimate::{self, Dollars, Estimate, Volume};
use edgetap::job::ObjectRef;
use edgetap::listing::Listed;
use edgetap::period::period_of;
use indicatif::{HumanBytes, HumanCount};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};

use super::select::{Choice, Left, Selection};
use crate::show::{self, count, escaped};

/// Pairs of a distribution and a day that are counted on their own: some 10 MB. A thousand distributions
/// have that many in two months.
pub(super) const MAX_DAYS: usize = 60_000;

/// Distributions whose days are shown, those with most objects. The others are shown together.
const SHOWN: usize = 10;

/// Distributions without a moment of enabling that are named.
const NAMED: usize = 10;

/// Name of a distribution that the key does not tell.
const UNKNOWN: &str = "unknown";

/// A distribution and a day (UTC): that of the hour in the key, else of `LastModified`.
type Day = (String, Option<Date>);

/// The counts of a listing.
pub(super) struct Tally {
    /// Pairs of a distribution and a day that are counted on their own.
    max_days: usize,
    /// Objects that were listed.
    pub(super) listed: u64,
    days: BTreeMap<Day, Volume>,
    /// Of days beyond `max_days`.
    more: Volume,
    left: BTreeMap<Left, u64>,
    /// Distributions of which no one said when they were enabled, some of them.
    pub(super) not_enabled: BTreeSet<String>,
}

/// How a delivery is done, as far as the estimate needs it.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) concurrency: u32,
    /// Messages sent per second.
    pub(super) rate: u32,
}

impl Tally {
    pub(super) fn new(max_days: usize) -> Self {
        Self {
            max_days,
            listed: 0,
            days: BTreeMap::new(),
            more: Volume::default(),
            left: BTreeMap::new(),
            not_enabled: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, listed: &Listed, selection: &Selection) {
        self.listed += 1;
        match selection.select(listed) {
            Choice::Wanted => self.add_wanted(listed),
            Choice::Left(left) => *self.left.entry(left).or_default() += 1,
            Choice::NotEnabled if self.not_enabled.len() < NAMED => {
                self.not_enabled.insert(distribution(listed));
            }
            Choice::NotEnabled => {}
        }
    }

    fn add_wanted(&mut self, listed: &Listed) {
        let volume = Volume::guessed(1, listed.size.unwrap_or_default());
        let day = (distribution(listed), day(listed));
        let has_space = self.days.len() < self.max_days;
        match self.days.get_mut(&day) {
            Some(known) => *known += volume,
            None if has_space => _ = self.days.insert(day, volume),
            None => self.more += volume,
        }
    }

    pub(super) fn total(&self) -> Volume {
        let mut total = self.more;
        self.days.values().for_each(|volume| total += *volume);
        total
    }

    /// Returns how long the last message waits in the queue.
    pub(super) fn waiting(&self, pace: Pace) -> Duration {
        let total = self.total();
        let estimate = Estimate::of(&total, pace.concurrency);
        estimate
            .duration
            .saturating_sub(pace.sending(total.objects))
    }

    /// Returns the volumes that a table shows: the days of the largest distributions, and those of the
    /// others together.
    fn shown(&self) -> Vec<(String, String, Volume)> {
        let mut objects = BTreeMap::<&str, u64>::new();
        for ((id, _), volume) in &self.days {
            *objects.entry(id).or_default() += volume.objects;
        }
        let mut largest: Vec<_> = objects
            .iter()
            .map(|(id, objects)| (*objects, *id))
            .collect();
        largest.sort_unstable_by(|one, other| other.cmp(one));
        let shown: BTreeSet<&str> = largest.iter().take(SHOWN).map(|(_, id)| *id).collect();
        let name =
            |day: &Option<Date>| day.map_or_else(|| UNKNOWN.to_owned(), |day| day.to_string());
        let (mut rows, mut others) = (Vec::new(), BTreeMap::<String, Volume>::new());
        for ((id, day), volume) in &self.days {
            if shown.contains(id.as_str()) {
                rows.push((id.clone(), name(day), *volume));
            } else {
                *others.entry(name(day)).or_default() += *volume;
            }
        }
        let number = objects.len().saturating_sub(SHOWN);
        let others = others.into_iter();
        rows.extend(others.map(|(day, volume)| (format!("{number} others"), day, volume)));
        if self.more.objects > 0 {
            rows.push(("more".to_owned(), "other days".to_owned(), self.more));
        }
        rows
    }

    /// Returns the table, the totals, and what they follow from, as text.
    pub(super) fn text(&self, pace: Pace) -> String {
        let mut table = show::table(&[
            "DISTRIBUTION",
            "DAY",
            "OBJECTS",
            "SIZE",
            "ROWS",
            "TRANSACTIONS",
            "REQUESTS",
            "LAMBDA",
            "IN AWS",
        ]);
        for number in 2..9 {
            if let Some(column) = table.column_mut(number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for (id, day, volume) in self.shown() {
            let Estimate {
                lambda_seconds,
                dollars,
                ..
            } = Estimate::of(&volume, pace.concurrency);
            table.add_row([
                escaped(&id),
                day,
                HumanCount(volume.objects).to_string(),
                HumanBytes(volume.bytes).to_string(),
                HumanCount(volume.rows).to_string(),
                HumanCount(volume.transactions).to_string(),
                HumanCount(volume.requests).to_string(),
                format!("{lambda_seconds:.0} s"),
                money(dollars.in_aws()),
            ]);
        }
        let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
        let mut text: String = lines.collect();
        if self.days.is_empty() {
            text.clear();
        } else {
            text.push('\n');
        }
        self.write_totals(&mut text, pace);
        text
    }

    fn write_totals(&self, text: &mut String, pace: Pace) {
        let total = self.total();
        let estimate = Estimate::of(&total, pace.concurrency);
        let Dollars {
            lambda,
            s3,
            sqs,
            logs,
            data_out: [least, most],
        } = estimate.dollars;
        let sending = pace.sending(total.objects);
        let left = Left::ALL.into_iter().filter_map(|left| {
            let number = self.left.get(&left)?;
            Some(format!("{} {}", HumanCount(*number), left.names().1))
        });
        let left: Vec<_> = left.collect();
        // Written to a `String`, which does not fail.
        _ = writeln!(
            text,
            "{}, {}: about {}, {} in {}",
            count(total.objects, "object", "objects"),
            HumanBytes(total.bytes),
            count(total.rows, "row", "rows"),
            count(total.transactions, "transaction", "transactions"),
            count(total.requests, "request", "requests"),
        );
        if !left.is_empty() {
            _ = writeln!(text, "not sent: {}", left.join(", "));
        }
        if total.objects == 0 {
            return;
        }
        let lambda_time = Duration::try_from_secs_f64(estimate.lambda_seconds);
        _ = writeln!(
            text,
            "time: {} at a concurrency of {} ({} of Lambda); sending takes {} at {} objects a second",
            short(estimate.duration),
            pace.concurrency,
            short(lambda_time.unwrap_or(Duration::MAX)),
            short(sending),
            HumanCount(pace.rate.into()),
        );
        _ = writeln!(
            text,
            "bridge: {:.1} requests a second",
            estimate.requests_per_second
        );
        _ = writeln!(
            text,
            "cost: {} in AWS (Lambda {}, S3 {}, SQS {}, logs {}); {} to {} more for data out, if the bridge is outside AWS",
            money(estimate.dollars.in_aws()),
            money(lambda),
            money(s3),
            money(sqs),
            money(logs),
            money(least),
            money(most),
        );
        for (name, words) in [
            ("prices", estimate::prices()),
            (
                "assumed",
                format!("{}; {}", estimate::guess(), estimate::assumptions()),
            ),
        ] {
            _ = writeln!(text, "{name}: {words}");
        }
    }

    /// Returns the same as [`Self::text`], with all days.
    pub(super) fn json(&self, pace: Pace) -> Value {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            distribution: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            day: Option<Date>,
            #[serde(flatten)]
            volume: Volume,
            #[serde(flatten)]
            estimate: Estimate,
        }
        let line = |volume: &Volume| Line {
            distribution: None,
            day: None,
            volume: *volume,
            estimate: Estimate::of(volume, pace.concurrency),
        };
        let days = self.days.iter().map(|((id, day), volume)| Line {
            distribution: Some(id),
            day: *day,
            ..line(volume)
        });
        let days: Vec<_> = days.collect();
        let left = Left::ALL.map(|left| {
            let number = self.left.get(&left).copied().unwrap_or_default();
            (left.names().0.to_owned(), Value::from(number))
        });
        let total = self.total();
        json!({
            "listed": self.listed,
            "total": line(&total),
            "sending_seconds": pace.sending(total.objects).as_secs(),
            "concurrency": pace.concurrency,
            "rate": pace.rate,
            "not_sent": Value::Object(left.into_iter().collect()),
            "days": days,
            "other_days": (self.more.objects > 0).then(|| line(&self.more)),
            "prices": estimate::prices(),
            "assumed": [estimate::guess(), estimate::assumptions()],
        })
    }
}

impl Pace {
    /// Returns how long it takes to send messages.
    pub(super) fn sending(self, messages: u64) -> Duration {
        Duration::from_secs(messages / u64::from(self.rate.max(1)))
    }
}

fn distribution(listed: &Listed) -> String {
    let object = ObjectRef::in_s3("", listed.key.as_str());
    object.distribution().unwrap_or(UNKNOWN).to_owned()
}

fn day(listed: &Listed) -> Option<Date> {
    let told =
        period_of(&listed.key).filter(|[from, to]| to.duration_since(*from).as_hours() <= 24);
    let time = told.map(|[from, _]| from).or(listed.last_modified)?;
    Some(TimeZone::UTC.to_datetime(time).date())
}

/// Returns dollars and cents.
pub(super) fn money(dollars: f64) -> String {
    match dollars {
        ..=0.0 => "$0".to_owned(),
        ..0.01 => "<$0.01".to_owned(),
        _ => format!("${dollars:.2}"),
    }
}

/// Returns a time in the unit that has few digits.
pub(super) fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} minutes", seconds / 60.0),
        ..172_800.0 => format!("{:.1} hours", seconds / 3_600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backfill::select::Until;

    const PACE: Pace = Pace {
        concurrency: 10,
        rate: 500,
    };

    fn listed(key: &str, size: u64) -> Listed {
        Listed {
            key: key.to_owned(),
            size: Some(size),
            last_modified: "2026-11-26T01:00:00Z".parse().ok(),
            ..Listed::default()
        }
    }

    fn tally(keys: impl IntoIterator<Item = String>) -> Tally {
        let selection = Selection::new(None, Until::Open, BTreeSet::new(), String::new());
        let mut tally = Tally::new(100);
        for key in keys {
            tally.add(&listed(&key, 114_000), &selection);
        }
        tally
    }

    #[test]
    fn objects_are_counted_by_distribution_and_day() {
        let tally = tally(
            [
                "E27FO14I29XXXX.2026-11-25-23.a.gz",
                "E27FO14I29XXXX.2026-11-25-22.a.gz",
                "E27FO14I29XXXX.2026-11-26-00.a.gz",
                "E27FO14I29XXXX/2026/11/25/a.gz",
                "E27FO14I29XXXX/2026/11/a.gz",
                "x.gz",
                "p/",
            ]
            .map(str::to_owned),
        );
        let days: Vec<_> = tally
            .days
            .iter()
            .map(|((id, day), volume)| (id.as_str(), day.unwrap().to_string(), volume.objects))
            .collect();
        let day = |day: &str| day.to_owned();
        assert_eq!(
            days,
            [
                ("E27FO14I29XXXX", day("2026-11-25"), 3),
                ("E27FO14I29XXXX", day("2026-11-26"), 2),
                ("unknown", day("2026-11-26"), 1),
            ]
        );
        assert_eq!(tally.total(), Volume::guessed(6, 6 * 114_000));
        assert_eq!(tally.listed, 7);
        let text = tally.text(PACE);
        for words in [
            "6 objects, 667.97 KiB: about 6,000 rows, 2,700 transactions in 12 requests",
            "not sent: 1 as folder placeholder",
            "at a concurrency of 10",
            "prices: list prices of us-east-1",
            "assumed: 114 bytes of gzip per row",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let json = tally.json(PACE);
        assert_eq!(json["days"].as_array().unwrap().len(), 3);
        assert_eq!(json["days"][0]["requests"], 6);
        assert_eq!(json["total"]["rows"], 6_000);
        assert_eq!(json["not_sent"]["placeholders"], 1);
        assert_eq!(json["not_sent"]["archived"], 0);
    }

    #[test]
    fn many_distributions_and_days_take_bounded_space() {
        let key = |number: usize| format!("E{number:013}.2026-11-25-10.a.gz");
        let few = tally((0..30).map(key));
        let rows = few.shown();
        assert_eq!(rows.len(), SHOWN + 1);
        let (name, _, volume) = rows.last().unwrap();
        assert_eq!((name.as_str(), volume.objects), ("20 others", 20));
        let many = tally((0..105).map(key));
        assert_eq!((many.days.len(), many.more.objects), (100, 5));
        assert_eq!(many.total().objects, 105);
        assert!(many.text(PACE).contains("other days"));
    }

    #[test]
    fn times_and_dollars_have_few_digits() {
        for (seconds, text) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 minutes"),
            (7_200, "2.0 hours"),
            (172_800, "2.0 days"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
        for (dollars, text) in [
            (0.0, "$0"),
            (0.004, "<$0.01"),
            (0.01, "$0.01"),
            (1234.5, "$1234.50"),
        ] {
            assert_eq!(money(dollars), text);
        }
    }
}

//! What the selection holds, per distribution and day, and what its delivery takes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement};
use edgetap::estimate::{self, Dollars, Estimate, Stored, Volume};
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

/// Heads of the table.
const HEADS: [&str; 9] = [
    "DISTRIBUTION",
    "DAY",
    "OBJECTS",
    "SIZE",
    "ROWS",
    "TRANSACTIONS",
    "REQUESTS",
    "LAMBDA",
    "COST IN AWS",
];
/// Those of a narrow table, without the columns that have none: mostly 80 characters.
const NARROW: [&str; 9] = [
    "DISTRIBUTION",
    "DAY",
    "OBJECTS",
    "SIZE",
    "",
    "TRANSACTIONS",
    "REQUESTS",
    "",
    "COST",
];

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
        let volume = Volume::guessed(
            1,
            listed.size.unwrap_or_default(),
            Stored::by_name(&listed.key),
        );
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

    /// Returns the table, the totals, and what they follow from, as text. Lines are not longer than
    /// `width`, if there is one and a narrower table fits.
    pub(super) fn text(&self, pace: Pace, width: Option<u16>) -> String {
        let width = width.map_or(usize::MAX, usize::from);
        let mut text = String::new();
        if !self.days.is_empty() {
            let rows = self.shown().into_iter();
            let rows: Vec<_> = rows.map(|row| cells(row, pace.concurrency)).collect();
            text = table(HEADS, &rows);
            if text.lines().any(|line| line.chars().count() > width) {
                text = table(NARROW, &rows);
            }
            text.push('\n');
        }
        for paragraph in self.paragraphs(pace) {
            wrap(&paragraph, width, &mut text);
        }
        text
    }

    /// Returns the totals, and what they follow from.
    fn paragraphs(&self, pace: Pace) -> Vec<String> {
        let total = self.total();
        let estimate = Estimate::of(&total, pace.concurrency);
        let Dollars {
            lambda,
            s3,
            sqs,
            logs,
            data_out: [least, most],
        } = estimate.dollars;
        let left = Left::ALL.into_iter().filter_map(|left| {
            let number = self.left.get(&left)?;
            Some(format!("{} {}", HumanCount(*number), left.names().1))
        });
        let left: Vec<_> = left.collect();
        let mut paragraphs = vec![format!(
            "{}, {}: about {}, {} in {}",
            count(total.objects, "object", "objects"),
            HumanBytes(total.bytes),
            count(total.rows, "row", "rows"),
            count(total.transactions, "transaction", "transactions"),
            count(total.requests, "request", "requests"),
        )];
        if !left.is_empty() {
            paragraphs.push(format!("not sent: {}", left.join(", ")));
        }
        if total.objects == 0 {
            return paragraphs;
        }
        let lambda_time = Duration::try_from_secs_f64(estimate.lambda_seconds);
        paragraphs.extend([
            format!(
                "time: {} at a concurrency of {} ({} of Lambda); sending takes {} at {} objects a second",
                short(estimate.duration),
                pace.concurrency,
                short(lambda_time.unwrap_or(Duration::MAX)),
                short(pace.sending(total.objects)),
                HumanCount(pace.rate.into()),
            ),
            format!(
                "bridge: {:.1} requests a second",
                estimate.requests_per_second
            ),
            format!(
                "cost: {} in AWS (Lambda {}, S3 {}, SQS {}, logs {}); {} to {} more for data out, if the bridge is outside AWS",
                money(estimate.dollars.in_aws()),
                money(lambda),
                money(s3),
                money(sqs),
                money(logs),
                money(least),
                money(most),
            ),
            format!("prices: {}", estimate::prices()),
            format!("assumed: {}; {}", estimate::guess(), estimate::assumptions()),
        ]);
        paragraphs
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
        Duration::from_millis(messages.saturating_mul(1_000) / u64::from(self.rate.max(1)))
    }
}

/// Returns the cells of a row.
fn cells((id, day, volume): (String, String, Volume), concurrency: u32) -> [String; 9] {
    let estimate = Estimate::of(&volume, concurrency);
    [
        escaped(&id),
        day,
        HumanCount(volume.objects).to_string(),
        HumanBytes(volume.bytes).to_string(),
        HumanCount(volume.rows).to_string(),
        HumanCount(volume.transactions).to_string(),
        HumanCount(volume.requests).to_string(),
        seconds(estimate.lambda_seconds),
        money(estimate.dollars.in_aws()),
    ]
}

/// Formats a table of the columns that have a head. No cell is broken in two.
fn table(heads: [&str; 9], rows: &[[String; 9]]) -> String {
    let with_head = |cells: [String; 9]| {
        let pairs = heads.into_iter().zip(cells);
        let shown = pairs.filter(|(head, _)| !head.is_empty());
        shown.map(|(_, cell)| cell).collect::<Vec<_>>()
    };
    let mut table = show::table(&heads.map(|_| ""));
    table.set_header(with_head(heads.map(str::to_owned)));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.add_rows(rows.iter().cloned().map(with_head));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// Appends a paragraph whose lines are broken between words, and indented from the second one on.
fn wrap(paragraph: &str, width: usize, text: &mut String) {
    let mut used = 0;
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            text.push_str("\n  ");
            used = 2;
        } else if used > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    text.push('\n');
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
    let time = time.as_secs_f64();
    match time {
        ..120.0 => seconds(time),
        ..7_200.0 => format!("{:.0} minutes", time / 60.0),
        ..172_800.0 => format!("{:.1} hours", time / 3_600.0),
        _ => format!("{:.1} days", time / 86_400.0),
    }
}

/// Returns seconds with few digits.
fn seconds(seconds: f64) -> String {
    match seconds {
        ..=0.0 => "0 s".to_owned(),
        ..0.1 => "<0.1 s".to_owned(),
        ..9.95 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
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
        assert_eq!(tally.total(), Volume::guessed(6, 6 * 114_000, Stored::Gzip));
        assert_eq!(tally.listed, 7);
        let text = tally.text(PACE, None);
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
        assert!(many.text(PACE, None).contains("other days"));
    }

    #[test]
    fn narrow_terminal_breaks_no_day_number_or_word() {
        let keys =
            |day| (0..12).map(move |hour| format!("E27FO14I29XXXX.2026-11-{day}-{hour:02}.a.gz"));
        let tally = tally([24, 25].into_iter().flat_map(keys));
        let wide = tally.text(PACE, None);
        let words = |text: &str| -> Vec<String> {
            let (_, paragraphs) = text.split_once("\n\n").unwrap();
            paragraphs.split_whitespace().map(str::to_owned).collect()
        };
        assert!(
            wide.contains("ROWS") && wide.contains("COST IN AWS"),
            "{wide}"
        );
        for width in [80, 90, 120] {
            let text = tally.text(PACE, Some(width));
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width.into()), "{width}: {text}");
            assert_eq!(text.contains("LAMBDA"), width == 120, "{text}");
            for day in ["  2026-11-24  ", "  2026-11-25  "] {
                assert!(text.contains(day), "{width}: {text}");
            }
            assert_eq!(words(&text), words(&wide), "{width}");
        }
        let narrow = tally.text(PACE, Some(40));
        assert!(narrow.contains("E27FO14I29XXXX  2026-11-24"), "{narrow}");
    }

    #[test]
    fn times_and_dollars_have_few_digits() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (0.04, "<0.1 s"),
            (0.42, "0.4 s"),
            (9.96, "10 s"),
            (119.0, "119 s"),
            (120.0, "2 minutes"),
            (7_200.0, "2.0 hours"),
            (172_800.0, "2.0 days"),
        ] {
            assert_eq!(short(Duration::from_secs_f64(seconds)), text);
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

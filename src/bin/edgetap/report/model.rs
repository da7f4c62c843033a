//! *Report*: what is shown of logs, for every view. Its form as JSON is that of `--json`, which
//! `docs/report.md` describes.
//!
//! Texts that come from logs have control characters as escapes. A view escapes them further as it
//! needs.

use std::borrow::Borrow;
use std::hash::Hash;

use edgetap::batch::Counts;
use edgetap::estimate::{self, Estimate, Volume};
use edgetap::pipeline::{Kept, Rules};
use edgetap::redact::Cookies;
use jiff::Timestamp;
use serde::Serialize;

use super::counter::{Counter, List, Tallied};
use super::html::percent;
use super::minutes;
use super::tally::{DAY, HOUR, Lag, MAX_VALUES, MINUTES, Tally, Transactions};
use crate::show::{count, escaped};

/// Values that a list has.
const LISTED: usize = 100;
/// Upper bounds of the times to delivery that are shown, in minutes.
const LAGS: [usize; 6] = [5, 15, 30, 60, 180, 1440];

/// The report on some logs.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Version of edgetap.
    pub(super) edgetap: &'static str,
    pub(super) totals: Totals,
    /// First and last end of a request.
    pub(super) period: Option<Period>,
    pub(super) hours: Listed<Hour>,
    pub(super) methods: Listed<Row>,
    pub(super) statuses: Vec<Count>,
    pub(super) hosts: Listed<Row>,
    pub(super) endpoints: Listed<Endpoint>,
    pub(super) clients: Listed<Row>,
    pub(super) static_extensions: Vec<Count>,
    pub(super) masked: Masked,
    pub(super) cookies: CookieNames,
    pub(super) kept: Vec<KeptRow>,
    pub(super) largest: Vec<LargeRow>,
    /// `None` if no log is in S3.
    pub(super) delivery: Option<Delivery>,
    pub(super) backfill: Backfill,
    /// Values that a list counts exactly.
    pub(super) exact_up_to: usize,
}

/// Counts as `replay` has them, and what they make.
#[derive(Serialize)]
pub(super) struct Totals {
    pub(super) objects: u64,
    /// Logs with a problem, which was reported.
    pub(super) unread: usize,
    pub(super) rows: u64,
    /// Rows outside the window, which are in no other count.
    pub(super) outside: u64,
    pub(super) sent: u64,
    #[serde(rename = "static")]
    pub(super) static_assets: u64,
    pub(super) excluded: u64,
    pub(super) malformed: u64,
    pub(super) rejected: u64,
    pub(super) foreign: u64,
    /// Values (not rows) that are left out.
    pub(super) unreadable_values: u64,
}

impl Totals {
    fn new(objects: u64, unread: usize, outside: u64, counts: Counts) -> Self {
        Self {
            objects,
            unread,
            rows: counts.rows,
            outside,
            sent: counts.sent,
            static_assets: counts.static_assets,
            excluded: counts.excluded,
            malformed: counts.malformed,
            rejected: counts.rejected,
            foreign: counts.foreign,
            unreadable_values: counts.unreadable,
        }
    }

    /// Outcomes by name, in the order of every view.
    pub(super) fn outcomes(&self) -> [(&'static str, u64); 6] {
        [
            ("sent", self.sent),
            ("static", self.static_assets),
            ("excluded", self.excluded),
            ("malformed", self.malformed),
            ("rejected", self.rejected),
            ("foreign", self.foreign),
        ]
    }
}

#[derive(Serialize)]
pub(super) struct Period {
    pub(super) from: String,
    pub(super) to: String,
}

/// The first values of a list, and what is known of the others.
#[derive(Serialize)]
pub(super) struct Listed<T> {
    pub(super) values: Vec<T>,
    /// What is counted of the values that are not listed.
    pub(super) others: u64,
    /// How many values differ. `None` if they are more than are counted.
    pub(super) different: Option<usize>,
    /// Upper bound on what a count lacks; 0 if all are exact.
    pub(super) short: u64,
}

impl<T> Listed<T> {
    fn new<K, C>(counter: Counter<K, C>, len: usize, value: impl Fn(K, C) -> T) -> Self
    where
        K: Eq + Hash + Ord + Clone,
        C: Tallied,
    {
        let mut list = counter.into_list();
        list.truncate(len);
        let List {
            values,
            dropped,
            different,
            short,
        } = list;
        let values = values.into_iter().map(|(key, count)| value(key, count));
        Self {
            values: values.collect(),
            others: dropped.occurrences(),
            different,
            short,
        }
    }
}

impl<T: Counted> Listed<T> {
    /// Returns the list with at most `len` values.
    pub(super) fn first(&self, len: usize) -> Listed<&T> {
        let (first, others) = self.values.split_at(len.min(self.values.len()));
        let others: u64 = others.iter().map(Counted::count).sum();
        Listed {
            values: first.iter().collect(),
            others: self.others + others,
            different: self.different,
            short: self.short,
        }
    }
}

/// A value of a list.
pub(super) trait Counted {
    fn count(&self) -> u64;
}

impl Counted for Row {
    fn count(&self) -> u64 {
        self.transactions
    }
}

impl Counted for Endpoint {
    fn count(&self) -> u64 {
        self.transactions
    }
}

impl Counted for Count {
    fn count(&self) -> u64 {
        self.count
    }
}

/// Rows of an hour.
#[derive(Clone, Serialize)]
pub(super) struct Hour {
    /// Hours since the Unix epoch.
    #[serde(skip)]
    pub(super) number: i64,
    #[serde(rename = "hour")]
    pub(super) start: String,
    pub(super) sent: u64,
    #[serde(rename = "static")]
    pub(super) static_assets: u64,
    pub(super) excluded: u64,
}

#[derive(Serialize)]
pub(super) struct Count {
    pub(super) name: String,
    pub(super) count: u64,
}

/// Transactions of a method, host or client.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) transactions: u64,
    pub(super) client_errors: u64,
    pub(super) server_errors: u64,
}

impl Row {
    fn new(name: &[u8], count: Transactions) -> Self {
        Self {
            name: text(name),
            transactions: count.all,
            client_errors: count.client_errors,
            server_errors: count.server_errors,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Endpoint {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) transactions: u64,
    pub(super) client_errors: u64,
    pub(super) server_errors: u64,
}

impl Endpoint {
    fn new(endpoint: &[u8], count: Transactions) -> Self {
        let [method, host, path] = parts(endpoint);
        Self {
            method,
            host,
            path,
            transactions: count.all,
            client_errors: count.client_errors,
            server_errors: count.server_errors,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Masked {
    pub(super) transactions: u64,
    pub(super) by: Vec<Count>,
}

#[derive(Serialize)]
pub(super) struct CookieNames {
    /// `REDACT_COOKIES`.
    pub(super) handling: &'static str,
    pub(super) transactions: u64,
    pub(super) names: Listed<Count>,
}

impl CookieNames {
    /// Returns how cookies are handled, in words.
    pub(super) fn fate(&self) -> &'static str {
        match self.handling {
            "keep" => "sent as logged",
            "hash" => "sent with hashed values",
            _ => "dropped",
        }
    }
}

#[derive(Serialize)]
pub(super) struct KeptRow {
    pub(super) reason: String,
    pub(super) transactions: u64,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
}

#[derive(Serialize)]
pub(super) struct LargeRow {
    pub(super) bytes: usize,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) status: String,
    pub(super) object: String,
    pub(super) line: u64,
}

/// Time from the end of a request to the delivery of its log, in minutes.
#[derive(Serialize)]
pub(super) struct Delivery {
    pub(super) rows: u64,
    pub(super) median: usize,
    pub(super) percentile_95: usize,
    pub(super) slowest: usize,
    /// Rows up to each time, without those before it; the last have none.
    pub(super) within: Vec<Within>,
    /// Rows whose request ended after the delivery of the log.
    pub(super) early: u64,
}

impl Delivery {
    /// Returns what is known of the time to delivery, or why nothing is.
    pub(super) fn sentence(&self) -> Result<String, &'static str> {
        if self.rows == 0 {
            return Err("Unknown: by their times, all requests ended after their logs were in S3.");
        }
        if self.median > MINUTES {
            return Err(
                "Unknown: half of the rows are more than a day older than their logs in S3, so the \
                 logs are probably copies.",
            );
        }
        let mut parts = vec![format!(
            "Half of the rows were in S3 within {} of the request's end",
            minutes(self.median)
        )];
        if self.percentile_95 <= MINUTES {
            parts.push(format!("95% within {}", minutes(self.percentile_95)));
        }
        parts.push(if self.slowest <= MINUTES {
            format!("the last within {}", minutes(self.slowest))
        } else {
            let late = self.within.last().map_or(0, |late| late.rows);
            let rows = count(late, "row", "rows");
            format!(
                "{rows} ({}) after more than a day",
                percent(late, self.rows)
            )
        });
        Ok(parts.join(", ") + ".")
    }
}

#[derive(Serialize)]
pub(super) struct Within {
    pub(super) minutes: Option<usize>,
    pub(super) rows: u64,
}

/// What the backfill of these logs takes.
#[derive(Serialize)]
pub(super) struct Backfill {
    pub(super) concurrency: u32,
    pub(super) prices: String,
    pub(super) total: Cost,
    pub(super) days: Listed<DayRow>,
}

#[derive(Serialize)]
pub(super) struct DayRow {
    /// `None` for the logs without a row that can be read.
    pub(super) day: Option<String>,
    #[serde(flatten)]
    pub(super) cost: Cost,
}

#[derive(Serialize)]
pub(super) struct Cost {
    #[serde(flatten)]
    pub(super) volume: Volume,
    #[serde(flatten)]
    pub(super) estimate: Estimate,
    /// Dollars without data out.
    pub(super) in_aws: f64,
}

impl Cost {
    fn of(volume: Volume, concurrency: u32) -> Self {
        let estimate = Estimate::of(&volume, concurrency);
        Self {
            in_aws: estimate.dollars.in_aws(),
            estimate,
            volume,
        }
    }
}

impl Report {
    /// Returns by what credentials were recognized, in how many transactions.
    pub(crate) fn masked(&self) -> (u64, Vec<&str>) {
        let names = self.masked.by.iter().map(|by| by.name.as_str());
        (self.masked.transactions, names.collect())
    }

    /// `objects` is how many logs were read, `unread` how many have a problem, and `concurrency` that of
    /// the backfill.
    pub(super) fn new(
        tally: Tally,
        objects: u64,
        unread: usize,
        concurrency: u32,
        rules: &Rules,
    ) -> Self {
        let period = tally.ends.map(|[from, to]| Period {
            from: time(from, "%Y-%m-%dT%H:%M:%SZ"),
            to: time(to, "%Y-%m-%dT%H:%M:%SZ"),
        });
        let mut hours = Listed::new(tally.hours, usize::MAX, |number, rows| Hour {
            number,
            start: time(number * HOUR, "%Y-%m-%dT%H:00Z"),
            sent: rows.sent,
            static_assets: rows.static_assets,
            excluded: rows.excluded,
        });
        hours.values.sort_by_key(|hour| hour.number);
        Self {
            edgetap: env!("CARGO_PKG_VERSION"),
            totals: Totals::new(objects, unread, tally.outside, tally.counts),
            period,
            hours,
            methods: rows(tally.methods),
            statuses: statuses(tally.statuses, tally.closed),
            hosts: rows(tally.hosts),
            endpoints: Listed::new(tally.endpoints, LISTED, |value, count| {
                Endpoint::new(&value, count)
            }),
            clients: rows(tally.clients),
            static_extensions: counts(
                tally
                    .extensions
                    .into_iter()
                    .map(|(extension, rows)| (format!(".{extension}"), rows)),
            ),
            masked: Masked {
                transactions: tally.with_masked,
                by: counts(
                    tally
                        .masked
                        .into_iter()
                        .map(|(name, count)| (name.trim_matches('`').to_owned(), count)),
                ),
            },
            cookies: CookieNames {
                handling: match rules.redaction.cookies {
                    Cookies::Keep => "keep",
                    Cookies::Drop => "drop",
                    Cookies::Hash(_) => "hash",
                },
                transactions: tally.with_cookies,
                names: Listed::new(tally.cookies, LISTED, |name, count| Count {
                    name: text(&name),
                    count,
                }),
            },
            kept: kept(tally.kept),
            largest: tally
                .largest
                .into_iter()
                .map(|large| {
                    let [method, host, path] = parts(&large.endpoint);
                    LargeRow {
                        bytes: large.bytes,
                        method,
                        host,
                        path,
                        status: text(&large.status),
                        object: escaped(&large.object),
                        line: large.line,
                    }
                })
                .collect(),
            delivery: tally.lag.map(|lag| delivery(&lag)),
            backfill: backfill(tally.days, tally.undated, concurrency),
            exact_up_to: MAX_VALUES,
        }
    }
}

fn rows<K>(counter: Counter<K, Transactions>) -> Listed<Row>
where
    K: Eq + Hash + Ord + Clone + Borrow<[u8]>,
{
    Listed::new(counter, LISTED, |name, count| {
        Row::new(name.borrow(), count)
    })
}

/// The most frequent first.
fn counts(values: impl Iterator<Item = (String, u64)>) -> Vec<Count> {
    let mut counts: Vec<_> = values.map(|(name, count)| Count { name, count }).collect();
    counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    counts
}

fn statuses(classes: [u64; 6], closed: u64) -> Vec<Count> {
    let names = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(str::to_owned);
    let others = [
        ("closed before a response".to_owned(), closed),
        ("none".to_owned(), classes[0].saturating_sub(closed)),
    ];
    let counts = names.into_iter().zip(classes.into_iter().skip(1));
    counts
        .chain(others)
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| Count { name, count })
        .collect()
}

fn kept(kept: Vec<(Kept, u64, Box<[u8]>)>) -> Vec<KeptRow> {
    let row = |(kept, transactions, example): (Kept, u64, Box<[u8]>)| {
        let [method, host, path] = parts(&example);
        KeptRow {
            reason: match kept {
                Kept::By(keep) => keep.to_string(),
                Kept::Included => "the path is in INCLUDE_PATHS".to_owned(),
            },
            transactions,
            method,
            host,
            path,
        }
    };
    let mut rows: Vec<_> = kept.into_iter().map(row).collect();
    rows.sort_by(|a, b| {
        b.transactions
            .cmp(&a.transactions)
            .then_with(|| a.reason.cmp(&b.reason))
    });
    rows
}

fn delivery(lag: &Lag) -> Delivery {
    let rows: u64 = lag.minutes.iter().sum();
    // The first minute within which this share of the rows is delivered.
    let within = |percent: u64| {
        let mut seen = 0;
        lag.minutes
            .iter()
            .position(|count| {
                seen += count;
                seen * 100 >= rows * percent && seen > 0
            })
            .map_or(0, |minute| minute + 1)
    };
    let mut start = 0;
    let mut up_to: Vec<Within> = LAGS
        .into_iter()
        .map(|minutes| {
            let rows = lag.minutes[start..minutes].iter().sum();
            start = minutes;
            Within {
                minutes: Some(minutes),
                rows,
            }
        })
        .collect();
    up_to.push(Within {
        minutes: None,
        rows: lag.minutes[start..].iter().sum(),
    });
    Delivery {
        rows,
        median: within(50),
        percentile_95: within(95),
        slowest: within(100),
        within: up_to,
        early: lag.early,
    }
}

fn backfill(days: Counter<i64, Volume>, undated: Volume, concurrency: u32) -> Backfill {
    let List {
        mut values,
        dropped,
        different,
        short,
    } = days.into_list();
    values.sort_by_key(|(day, _)| *day);
    let mut total = undated;
    total += dropped;
    for (_, volume) in &values {
        total += *volume;
    }
    let dated = values.into_iter().map(|(day, volume)| DayRow {
        day: Some(time(day * DAY, "%Y-%m-%d")),
        cost: Cost::of(volume, concurrency),
    });
    let undated = (undated.objects > 0).then(|| DayRow {
        day: None,
        cost: Cost::of(undated, concurrency),
    });
    Backfill {
        concurrency,
        prices: estimate::prices(),
        total: Cost::of(total, concurrency),
        days: Listed {
            values: dated.chain(undated).collect(),
            others: dropped.objects,
            different,
            short,
        },
    }
}

/// Returns the method, host and path of an endpoint.
fn parts(endpoint: &[u8]) -> [String; 3] {
    let mut parts = endpoint.splitn(3, |byte| *byte == 0);
    [(); 3].map(|()| text(parts.next().unwrap_or_default()))
}

/// Returns a text of a log for people.
fn text(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "(none)".to_owned()
    } else {
        let text = escaped(&String::from_utf8_lossy(bytes));
        let shown = text.chars().map(|c| match c {
            // Characters without a width: two values must not look alike.
            '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => {
                c.escape_unicode().to_string()
            }
            c => c.to_string(),
        });
        shown.collect()
    }
}

/// Formats milliseconds since the Unix epoch, in UTC.
pub(super) fn time(milliseconds: i64, format: &str) -> String {
    Timestamp::from_millisecond(milliseconds).map_or_else(
        |_| "(unknown)".to_owned(),
        |time| time.strftime(format).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_has_the_days_that_are_not_listed() {
        let mut days = Counter::new(2);
        for day in 0..9 {
            let volume = Volume {
                objects: 1,
                ..Volume::default()
            };
            days.add(&day, volume);
        }
        let backfill = backfill(days, Volume::default(), 2);
        assert_eq!(backfill.total.volume.objects, 9);
        assert_eq!(backfill.days.others + backfill.days.values.len() as u64, 9);
        assert!(backfill.days.others > 0);
    }
}

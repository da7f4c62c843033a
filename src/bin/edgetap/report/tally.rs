//! *Tally*: what is counted of rows. Rows in, numbers out; what is shown of them is for the views.
//!
//! Credentials are masked and what looks random is folded before anything is counted, so no tally
//! holds the value of a parameter or of a cookie.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::{AddAssign, Range};
use std::sync::Arc;

use edgetap::batch::Counts;
use edgetap::estimate::Volume;
use edgetap::filter::{Extension, Keep};
use edgetap::log::LogReader;
use edgetap::pipeline::{Fate, Kept, Observer, Rules};
use edgetap::redact::{Part, Redaction};
use edgetap::transaction::Transaction;

use super::counter::{Counter, Tallied};
use super::endpoint::{push_host, push_name, push_template};

/// Cap of endpoints and clients, in distinct values.
pub(super) const MAX_VALUES: usize = 25_000;
/// Cap of hours, days, methods, hosts and cookies, in distinct values. 10,000 hours are 13 months.
pub(super) const MAX_FEW: usize = 10_000;
/// Longest values, in bytes. Longer ones are cut.
const MAX_METHOD: usize = 20;
const MAX_HOST: usize = 80;
const MAX_NAME: usize = 64;
/// Cookies of one request that are counted.
const MAX_COOKIES: usize = 100;
/// Transactions of which the size is shown.
pub(super) const LARGEST: usize = 10;
/// Minutes up to which a delivery is measured. CloudFront delivers within 24 hours.
pub(super) const MINUTES: usize = 24 * 60;

pub(super) const HOUR: i64 = 3_600_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// Rows of an hour, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) sent: u64,
    pub(super) static_assets: u64,
    pub(super) excluded: u64,
}

impl AddAssign for Rows {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.static_assets += other.static_assets;
        self.excluded += other.excluded;
    }
}

impl Tallied for Rows {
    fn occurrences(&self) -> u64 {
        self.sent + self.static_assets + self.excluded
    }
}

/// Transactions, and those of them with a status of 400 to 499 and of 500 and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Transactions {
    pub(super) all: u64,
    pub(super) client_errors: u64,
    pub(super) server_errors: u64,
}

impl AddAssign for Transactions {
    fn add_assign(&mut self, other: Self) {
        self.all += other.all;
        self.client_errors += other.client_errors;
        self.server_errors += other.server_errors;
    }
}

impl Tallied for Transactions {
    fn occurrences(&self) -> u64 {
        self.all
    }
}

impl Tallied for Volume {
    fn occurrences(&self) -> u64 {
        self.objects
    }
}

pub(super) type Text = Box<[u8]>;

/// A transaction whose size is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Large {
    pub(super) bytes: usize,
    pub(super) object: Arc<str>,
    pub(super) line: u64,
    /// Method, host and template.
    pub(super) endpoint: Text,
    pub(super) status: Text,
}

/// Time from the end of a request to the delivery of its log.
pub(super) struct Lag {
    /// Rows by whole minutes; later ones at the end.
    pub(super) minutes: Vec<u64>,
    /// Rows that ended after the delivery, by the clocks of CloudFront and S3.
    pub(super) early: u64,
}

impl Lag {
    fn new() -> Self {
        Self {
            minutes: vec![0; MINUTES + 1],
            early: 0,
        }
    }

    fn note(&mut self, milliseconds: i64) {
        match usize::try_from(milliseconds / 60_000) {
            Ok(minutes) if milliseconds >= 0 => self.minutes[minutes.min(MINUTES)] += 1,
            _ => self.early += 1,
        }
    }
}

/// What is counted of a log, or of several.
pub(super) struct Tally {
    /// Counts of the pipeline, without the rows outside the window.
    pub(super) counts: Counts,
    /// Rows outside the window.
    pub(super) outside: u64,
    /// Earliest and latest end of a request, in milliseconds since the Unix epoch.
    pub(super) ends: Option<[i64; 2]>,
    pub(super) hours: Counter<i64, Rows>,
    pub(super) methods: Counter<Text, Transactions>,
    /// Transactions by the first digit of the status: 1 to 5; 0 for none, and the others.
    pub(super) statuses: [u64; 6],
    /// Transactions whose viewer closed the connection before a response.
    pub(super) closed: u64,
    pub(super) hosts: Counter<Text, Transactions>,
    pub(super) endpoints: Counter<Text, Transactions>,
    pub(super) clients: Counter<Text, Transactions>,
    pub(super) extensions: BTreeMap<Extension, u64>,
    /// Why requests with the name of an asset are sent, with an example of each.
    pub(super) kept: Vec<(Kept, u64, Text)>,
    /// Transactions by what their credentials were recognized by.
    pub(super) masked: BTreeMap<String, u64>,
    /// Transactions in which something was masked, and with cookies.
    pub(super) with_masked: u64,
    pub(super) with_cookies: u64,
    pub(super) cookies: Counter<Text, u64>,
    pub(super) largest: Vec<Large>,
    pub(super) lag: Option<Lag>,
    /// Volume of the objects by the day of their first request in the window.
    pub(super) days: Counter<i64, Volume>,
    /// Volume of the objects without a row that can be read.
    pub(super) undated: Volume,
}

impl Tally {
    pub(super) fn of_all() -> Self {
        Self::new(1)
    }

    /// `parts` is how many tallies there are at a time, which together may have as many values as one.
    fn new(parts: usize) -> Self {
        let (cap, few) = (MAX_VALUES / parts, MAX_FEW / parts);
        Self {
            counts: Counts::default(),
            outside: 0,
            ends: None,
            hours: Counter::new(few),
            methods: Counter::new(few),
            statuses: [0; 6],
            closed: 0,
            hosts: Counter::new(few),
            endpoints: Counter::new(cap),
            clients: Counter::new(cap),
            extensions: BTreeMap::new(),
            kept: Vec::new(),
            masked: BTreeMap::new(),
            with_masked: 0,
            with_cookies: 0,
            cookies: Counter::new(few),
            largest: Vec::new(),
            lag: None,
            days: Counter::new(few),
            undated: Volume::default(),
        }
    }

    /// Adds the tally of the next object.
    pub(super) fn merge(&mut self, next: Self) {
        self.counts += next.counts;
        self.outside += next.outside;
        if let Some([start, end]) = next.ends {
            self.note_end(start);
            self.note_end(end);
        }
        self.hours.merge(next.hours);
        self.methods.merge(next.methods);
        for (sum, added) in self.statuses.iter_mut().zip(next.statuses) {
            *sum += added;
        }
        self.closed += next.closed;
        self.hosts.merge(next.hosts);
        self.endpoints.merge(next.endpoints);
        self.clients.merge(next.clients);
        for (extension, rows) in next.extensions {
            *self.extensions.entry(extension).or_default() += rows;
        }
        for (kept, transactions, example) in next.kept {
            self.note_kept(kept, transactions, || example);
        }
        for (name, transactions) in next.masked {
            *self.masked.entry(name).or_default() += transactions;
        }
        self.with_masked += next.with_masked;
        self.with_cookies += next.with_cookies;
        self.cookies.merge(next.cookies);
        self.largest.extend(next.largest);
        self.keep_largest();
        if let Some(next) = next.lag {
            let lag = self.lag.get_or_insert_with(Lag::new);
            for (sum, added) in lag.minutes.iter_mut().zip(next.minutes) {
                *sum += added;
            }
            lag.early += next.early;
        }
        self.days.merge(next.days);
        self.undated += next.undated;
    }

    fn note_end(&mut self, end: i64) {
        let [earliest, latest] = self.ends.unwrap_or([end; 2]);
        self.ends = Some([earliest.min(end), latest.max(end)]);
    }

    fn note_kept(&mut self, kept: Kept, transactions: u64, example: impl FnOnce() -> Text) {
        match self.kept.iter_mut().find(|(known, ..)| *known == kept) {
            Some((_, count, _)) => *count += transactions,
            None => self.kept.push((kept, transactions, example())),
        }
    }

    /// The sort is stable: of those of a size, the first stay.
    fn keep_largest(&mut self) {
        self.largest.sort_by_key(|large| Reverse(large.bytes));
        self.largest.truncate(LARGEST);
    }

    fn is_large(&self, bytes: usize) -> bool {
        self.largest.len() < LARGEST
            || self
                .largest
                .last()
                .is_some_and(|smallest| bytes > smallest.bytes)
    }
}

/// Counts the rows of one object.
pub(super) struct OfObject {
    pub(super) tally: Tally,
    object: Arc<str>,
    /// When the object was put in S3, in milliseconds since the Unix epoch.
    modified: Option<i64>,
    /// The ends of requests that are counted, in milliseconds since the Unix epoch.
    window: Range<i64>,
    /// Counts of the rows outside the window.
    pub(super) outside: Counts,
    /// End of its first request in the window.
    pub(super) first: Option<i64>,
    endpoint: Vec<u8>,
    scratch: Vec<u8>,
}

impl OfObject {
    /// `parts` is how many objects are counted at a time.
    pub(super) fn new(
        object: &str,
        modified: Option<i64>,
        window: Range<i64>,
        parts: usize,
    ) -> Self {
        Self {
            tally: Tally::new(parts),
            object: object.into(),
            modified,
            window,
            outside: Counts::default(),
            first: None,
            endpoint: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Returns whether a row is outside the window, and counts it then. A row that cannot be read has
    /// no time, and is not.
    fn is_outside(&mut self, fate: &Fate<'_>) -> bool {
        let mut counts = Counts {
            rows: 1,
            ..Counts::default()
        };
        let ended = match fate {
            Fate::Sent { redacted, .. } => {
                counts.sent = 1;
                counts.unreadable = redacted.unreadable;
                redacted.ended()
            }
            Fate::Static { ended, .. } => {
                counts.static_assets = 1;
                *ended
            }
            Fate::Excluded(transaction) => {
                counts.excluded = 1;
                transaction.ended()
            }
            Fate::Unread(_) => return false,
        };
        let is_outside = !self.window.contains(&ended);
        if is_outside {
            self.outside += counts;
        }
        is_outside
    }

    fn note_row(&mut self, ended: i64, rows: Rows) {
        self.first.get_or_insert(ended);
        self.tally.note_end(ended);
        self.tally.hours.add(&ended.div_euclid(HOUR), rows);
        if let Some(modified) = self.modified {
            let lag = self.tally.lag.get_or_insert_with(Lag::new);
            lag.note(modified - ended);
        }
    }

    fn note_sent(
        &mut self,
        transaction: &Transaction<'_>,
        redacted: &Transaction<'_>,
        redaction: &Redaction,
    ) {
        let status = redacted.status.unwrap_or_default();
        let class = match status {
            [class @ b'1'..=b'5', _, _] => usize::from(class - b'0'),
            _ => 0,
        };
        let count = Transactions {
            all: 1,
            client_errors: u64::from(class == 4),
            server_errors: u64::from(class == 5),
        };
        let tally = &mut self.tally;
        tally.statuses[class] += 1;
        tally.closed += u64::from(matches!(status, b"0" | b"000"));
        let method = cut(redacted.method, MAX_METHOD);
        self.scratch.clear();
        push_host(
            cut(redacted.host.unwrap_or_default(), MAX_HOST),
            &mut self.scratch,
        );
        let host = self.scratch.as_slice();
        tally.methods.add(method, count);
        tally.hosts.add(host, count);
        let client = redacted.client_ip.unwrap_or_default();
        tally.clients.add(client, count);
        let endpoint = &mut self.endpoint;
        endpoint.clear();
        for part in [method, host] {
            endpoint.extend_from_slice(part);
            endpoint.push(0);
        }
        push_template(redacted.path(), endpoint);
        tally.endpoints.add(endpoint.as_slice(), count);
        self.note_masked(transaction, redacted, redaction);
        if let Some(cookie) = transaction.cookie {
            self.note_cookies(cookie);
        }
    }

    /// Counts by what the credentials of a transaction were recognized: once each.
    fn note_masked(
        &mut self,
        transaction: &Transaction<'_>,
        redacted: &Transaction<'_>,
        redaction: &Redaction,
    ) {
        let is_target = redacted.target != transaction.target;
        if !is_target && redacted.referer == transaction.referer {
            return;
        }
        let parts = [
            (is_target, Some(transaction.path()), Part::Path),
            (is_target, transaction.query(), Part::Query),
            (true, transaction.referer, Part::Url),
        ];
        let mut reasons = BTreeSet::new();
        for (is_masked, value, part) in parts {
            if let Some(value) = value.filter(|_| is_masked) {
                reasons.extend(redaction.reasons(value, part));
            }
        }
        self.tally.with_masked += 1;
        for reason in reasons {
            *self.tally.masked.entry(reason).or_default() += 1;
        }
    }

    /// Counts the names of cookies. A cookie without `=` is all value, and not counted.
    fn note_cookies(&mut self, field: &[u8]) {
        self.tally.with_cookies += 1;
        for cookie in field.split(|byte| *byte == b';').take(MAX_COOKIES) {
            let Some(end) = memchr::memchr(b'=', cookie) else {
                continue; // no name
            };
            self.scratch.clear();
            push_name(cut(cookie[..end].trim_ascii(), MAX_NAME), &mut self.scratch);
            self.tally.cookies.add(self.scratch.as_slice(), 1);
        }
    }
}

/// Cuts a value that is longer than any real one, between characters of UTF-8.
fn cut(value: &[u8], len: usize) -> &[u8] {
    let is_inside = |at: &usize| value.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    let before = (len.saturating_sub(3)..=len).rev();
    let end = before.into_iter().find(|at| !is_inside(at)).unwrap_or(len);
    &value[..value.len().min(end)]
}

impl Observer for &mut OfObject {
    fn see(&mut self, log: &LogReader<impl Read>, rules: &Rules, fate: &Fate<'_>) {
        if self.is_outside(fate) {
            return;
        }
        match *fate {
            Fate::Sent {
                transaction,
                redacted,
                kept,
                bytes,
            } => {
                let sent = Rows {
                    sent: 1,
                    ..Rows::default()
                };
                self.note_row(redacted.ended(), sent);
                self.note_sent(transaction, redacted, &rules.redaction);
                let endpoint = &self.endpoint;
                if !matches!(kept, Kept::By(Keep::Method | Keep::Extension)) {
                    let example = || endpoint.as_slice().into();
                    self.tally.note_kept(kept, 1, example);
                }
                if self.tally.is_large(bytes) {
                    self.tally.largest.push(Large {
                        bytes,
                        object: self.object.clone(),
                        line: log.line(),
                        endpoint: endpoint.as_slice().into(),
                        status: redacted.status.unwrap_or_default().into(),
                    });
                    self.tally.keep_largest();
                }
            }
            Fate::Static { extension, ended } => {
                let dropped = Rows {
                    static_assets: 1,
                    ..Rows::default()
                };
                self.note_row(ended, dropped);
                *self.tally.extensions.entry(extension).or_default() += 1;
            }
            Fate::Excluded(transaction) => {
                let excluded = Rows {
                    excluded: 1,
                    ..Rows::default()
                };
                self.note_row(transaction.ended(), excluded);
            }
            Fate::Unread(_) => {} // the pipeline counts it; it has no time
        }
    }
}

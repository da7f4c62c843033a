//! *Terminal*: the report as text, at most as wide as the terminal. Lists are shorter than in the
//! other views.

use indicatif::{HumanBytes, HumanCount};

use super::html::percent;
use super::model::{Backfill, Count, Counted, Delivery, Listed, Report, Row, Totals};
use super::timeline::Timeline;
use super::{dollars, range, seconds};
use crate::show::count;

/// Values of a list.
const SHOWN: usize = 10;
/// Periods of the timeline.
const PERIODS: usize = 36;
/// The narrowest terminal in which lists have columns for errors.
const WITH_ERRORS: usize = 80;

/// A line of a list.
struct Line {
    count: u64,
    /// Further columns, shown if there is space.
    more: Vec<String>,
    text: String,
}

/// Formats the report.
pub(super) fn text(report: &Report, width: usize) -> String {
    let mut page = Page {
        text: String::new(),
        width,
    };
    page.head(report);
    if report.totals.rows == 0 {
        return page.text;
    }
    page.outcome(&report.totals);
    page.timeline(report);
    page.list("Top endpoints", ERRORS, &report.endpoints, |row| Line {
        count: row.transactions,
        more: vec![number(row.client_errors), number(row.server_errors)],
        text: format!("{} {}{}", row.method, row.host, row.path),
    });
    page.list("Methods", ERRORS, &report.methods, transactions);
    page.lines(
        "Status classes",
        &["transactions"],
        report.statuses.iter().map(counted).collect(),
    );
    page.list("Hosts", ERRORS, &report.hosts, transactions);
    page.list("Top clients", ERRORS, &report.clients, transactions);
    page.statics(report);
    page.masked(report);
    page.kept(report);
    page.largest(report);
    page.delivery(report.delivery.as_ref());
    page.backfill(&report.backfill);
    page.text
}

/// Columns of transactions with errors.
const ERRORS: &[&str] = &["transactions", "4xx", "5xx"];

fn transactions(row: &Row) -> Line {
    Line {
        count: row.transactions,
        more: vec![number(row.client_errors), number(row.server_errors)],
        text: row.name.clone(),
    }
}

fn counted(row: &Count) -> Line {
    Line {
        count: row.count,
        more: Vec::new(),
        text: row.name.clone(),
    }
}

fn number(number: u64) -> String {
    HumanCount(number).to_string()
}

struct Page {
    text: String,
    width: usize,
}

impl Page {
    /// Writes a line, cut to the width.
    fn line(&mut self, line: &str) {
        let line = line.trim_end();
        let is_long = line.chars().nth(self.width).is_some();
        let shown = if is_long {
            self.width.saturating_sub(1)
        } else {
            self.width
        };
        self.text.extend(line.chars().take(shown));
        self.text.push_str(if is_long { "…\n" } else { "\n" });
    }

    fn heading(&mut self, heading: &str) {
        self.text.push('\n');
        self.line(heading);
    }

    /// Writes a paragraph, wrapped between words.
    fn paragraph(&mut self, text: &str) {
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && 2 + line.chars().count() + 1 + word.chars().count() > self.width
            {
                self.line(&format!("  {line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&format!("  {line}"));
    }

    fn head(&mut self, report: &Report) {
        let totals = &report.totals;
        let objects = count(totals.objects, "log", "logs");
        let rows = count(totals.rows, "row", "rows");
        self.line(&format!("{objects}, {rows}"));
        if let Some(period) = &report.period {
            self.line(&format!("from {} to {}", period.from, period.to));
        }
        if totals.outside > 0 {
            let rows = count(totals.outside, "row", "rows");
            self.line(&format!(
                "without {rows} outside --since and --until; rows without a time count"
            ));
        }
        if totals.unread > 0 {
            let unread = count(totals.unread as u64, "log has", "logs have");
            self.line(&format!(
                "{unread} problems, listed above; what could not be read is not in this report"
            ));
        }
        if self.width < WITH_ERRORS {
            self.line(&format!(
                "4xx and 5xx are shown from {WITH_ERRORS} columns on"
            ));
        }
    }

    fn bar_width(&self) -> usize {
        (self.width / 8).clamp(6, 20)
    }

    fn outcome(&mut self, totals: &Totals) {
        self.heading("Outcome");
        self.line(&format!("  {:>11}", "rows"));
        for (name, rows) in totals.outcomes() {
            if rows > 0 {
                let bar = bar(rows, totals.rows, self.bar_width());
                let share = percent(rows, totals.rows);
                self.line(&format!(
                    "  {:>11}  {bar}  {share:>6}  {name}",
                    number(rows)
                ));
            }
        }
        if totals.unreadable_values > 0 {
            let values = count(totals.unreadable_values, "value", "values");
            self.paragraph(&format!("{values} left out as unreadable"));
        }
    }

    fn timeline(&mut self, report: &Report) {
        let timeline = Timeline::new(&report.hours.values, PERIODS);
        let Some(most) = timeline.bins.iter().map(super::timeline::Bin::rows).max() else {
            return;
        };
        self.heading(&format!(
            "Rows, each {} (UTC): █ sent, ▒ static, ░ excluded",
            timeline.unit()
        ));
        let width = self.width.saturating_sub(2 + 11 + 2 + 9 + 2).clamp(10, 80);
        for bin in &timeline.bins {
            let mut drawn = String::new();
            let mut before = 0;
            for (rows, block) in [
                (bin.sent, '█'),
                (bin.static_assets, '▒'),
                (bin.excluded, '░'),
            ] {
                let end = scaled(before + rows, most, width);
                drawn.extend(std::iter::repeat_n(
                    block,
                    end - scaled(before, most, width),
                ));
                before += rows;
            }
            let label = timeline.label(bin);
            if bin.is_gap {
                self.line(&format!("  {label}"));
                continue;
            }
            self.line(&format!(
                "  {label:<11}  {:>9}  {drawn}",
                number(bin.rows())
            ));
        }
        if timeline.has_gaps() {
            self.paragraph("… stands for a time without rows.");
        }
        if report.hours.others > 0 {
            let others = count(report.hours.others, "row", "rows");
            self.paragraph(&format!("{others} of other hours are left out."));
        }
    }

    /// Writes the beginning of a list, and what is known of the rest.
    fn list<T: Counted>(
        &mut self,
        title: &str,
        columns: &[&str],
        list: &Listed<T>,
        line: impl Fn(&T) -> Line,
    ) {
        let first = list.first(SHOWN);
        let lines = first.values.iter().map(|value| line(value));
        self.lines(title, columns, lines.collect());
        if first.others > 0 {
            let others = number(first.others);
            let all = first.different.map(|different| different as u64);
            let all = all.map(|all| format!(" ({} in all)", number(all)));
            self.line(&format!(
                "  {others:>11}  others{}",
                all.unwrap_or_default()
            ));
        }
        if first.short > 0 {
            self.paragraph(&format!(
                "More values than are counted exactly: a count may be too small, by at most {}.",
                number(first.short)
            ));
        }
    }

    /// Writes lines below the names of their columns, the first of which is that of the counts.
    fn lines(&mut self, title: &str, columns: &[&str], lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let (counted, more) = columns.split_first().unwrap_or((&"", &[]));
        let has_more = self.width >= WITH_ERRORS || more.len() == 1;
        let cells = |cells: &mut dyn Iterator<Item = &str>| -> String {
            cells.filter(|_| has_more).map(cell).collect()
        };
        let bar_width = self.bar_width();
        self.heading(title);
        let names = cells(&mut more.iter().copied());
        self.line(&format!("{counted:>13}  {:bar_width$}{names}", ""));
        let most = lines.iter().map(|line| line.count).max().unwrap_or(0);
        for Line { count, more, text } in lines {
            let bar = bar(count, most, bar_width);
            let more = cells(&mut more.iter().map(String::as_str));
            self.line(&format!("  {:>11}  {bar}{more}  {text}", number(count)));
        }
    }

    fn statics(&mut self, report: &Report) {
        let statics = report.static_extensions.iter().map(|row| Line {
            more: vec![percent(row.count, report.totals.rows)],
            ..counted(row)
        });
        self.lines(
            "Static assets, dropped",
            &["rows", "of rows"],
            statics.collect(),
        );
    }

    fn masked(&mut self, report: &Report) {
        let transactions = |number| count(number, "transaction", "transactions");
        let masked = &report.masked;
        let title = format!("Masked, in {}", transactions(masked.transactions));
        self.lines(
            &title,
            &["transactions"],
            masked.by.iter().map(counted).collect(),
        );
        let cookies = &report.cookies;
        let title = format!(
            "Cookies, {} (REDACT_COOKIES={}), in {}",
            cookies.fate(),
            cookies.handling,
            transactions(cookies.transactions)
        );
        self.list(&title, &["occurrences"], &cookies.names, counted);
    }

    fn kept(&mut self, report: &Report) {
        let kept = report.kept.iter().map(|row| Line {
            count: row.transactions,
            more: Vec::new(),
            text: row.reason.clone(),
        });
        let title = "Sent, although the name is that of an asset, because";
        self.lines(title, &["transactions"], kept.collect());
    }

    /// Writes each with its place on a line of its own, as `edgetap explain` takes it.
    fn largest(&mut self, report: &Report) {
        if report.largest.is_empty() {
            return;
        }
        self.heading("Largest transactions, as sent");
        self.line(&format!("{:>13}  {:>6}", "bytes", "status"));
        let width = self.width.saturating_sub(2 + 11 + 2);
        for row in &report.largest {
            let bytes = number(u64::try_from(row.bytes).unwrap_or(u64::MAX));
            let endpoint = format!("{} {}{}", row.method, row.host, row.path);
            let endpoint = shortened(&endpoint, width.saturating_sub(6 + 2));
            self.line(&format!("  {bytes:>11}  {:>6}  {endpoint}", row.status));
            let place = shortened(&format!("{}:{}", row.object, row.line), width);
            self.line(&format!("  {:11}  {place}", ""));
        }
    }

    fn delivery(&mut self, delivery: Option<&Delivery>) {
        self.heading("Delivery lag");
        match delivery.map(Delivery::sentence) {
            Some(Ok(sentence)) => self.paragraph(&sentence),
            Some(Err(unknown)) => self.paragraph(unknown),
            None => self
                .paragraph("Unknown: files do not tell when S3 had them. Read the logs from S3."),
        }
    }

    fn backfill(&mut self, backfill: &Backfill) {
        let invocations = count(backfill.concurrency.into(), "invocation", "invocations");
        self.heading(&format!(
            "Backfill (an estimate, at {invocations} at a time)"
        ));
        let days = &backfill.days.values;
        let last = days.len().saturating_sub(SHOWN);
        if last > 0 {
            let earlier = count(last as u64, "earlier day", "earlier days");
            self.line(&format!(
                "  {earlier} not shown (--json and --html have all)"
            ));
        }
        if backfill.days.others > 0 {
            let logs = count(backfill.days.others, "log", "logs");
            self.line(&format!("  {logs} of other days in the total only"));
        }
        let rows = days.iter().skip(last).map(|row| {
            let day = row.day.as_deref().unwrap_or("no readable row");
            (day, &row.cost)
        });
        let total = (days.len() > 1).then_some(("all", &backfill.total));
        for (day, cost) in rows.chain(total) {
            let (volume, estimate) = (&cost.volume, &cost.estimate);
            let parts = [
                count(volume.objects, "log", "logs"),
                HumanBytes(volume.bytes).to_string(),
                count(volume.transactions, "transaction", "transactions"),
                count(
                    volume.requests,
                    "request to the bridge",
                    "requests to the bridge",
                ),
                format!("{} of Lambda", seconds(estimate.lambda_seconds)),
                format!("done in {}", seconds(estimate.duration.as_secs_f64())),
                format!("{} in AWS", dollars(cost.in_aws)),
                format!("{} for data out", range(&estimate.dollars.data_out)),
            ];
            self.paragraph(&format!("{day}: {}", parts.join(", ")));
        }
        self.paragraph(
            "Data out is charged if the bridge is outside AWS. What running edgetap costs per month is in \
             docs/scaling.md.",
        );
    }
}

/// Shortens a text in the middle: a place keeps its line number.
fn shortened(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    // From 80 columns on, the end holds `ID.YYYY-MM-DD-HH.UNIQUE.gz:LINE`.
    let end = kept.saturating_sub(kept / 3);
    let start = text.chars().take(kept - end);
    start
        .chain(['…'])
        .chain(text.chars().skip(len - end))
        .collect()
}

fn cell(text: &str) -> String {
    format!("{text:>9}")
}

/// Returns a bar of eighths of blocks.
fn bar(part: u64, whole: u64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = scaled(part, whole, width * 8).max(usize::from(part > 0));
    let mut bar = "█".repeat(eighths / 8);
    if eighths % 8 > 0 {
        bar.push(EIGHTHS[eighths % 8]);
    }
    let used = eighths.div_ceil(8);
    bar + &" ".repeat(width.saturating_sub(used))
}

/// Returns how much of `width` a part takes.
fn scaled(part: u64, whole: u64, width: usize) -> usize {
    let scaled = u128::from(part) * (width as u128) / u128::from(whole.max(1));
    usize::try_from(scaled).unwrap_or(width).min(width)
}

//! `edgetap report`: what logs hold, and what edgetap does with it, before anything is enabled and
//! for a review afterwards.

mod chart;
mod counter;
mod endpoint;
mod html;
mod model;
mod tally;
mod terminal;
mod timeline;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use edgetap::config::{Config, Variables};
use edgetap::estimate::Volume;
use edgetap::job::Job;
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::plan::flawed;
use edgetap::source::Opened;
use futures_util::stream::{self, StreamExt as _};
use indicatif::ProgressBar;

use crate::Failure;
use crate::find::distribution;
use crate::inputs::{self, Found, Input, Wanted};
use crate::output::{self, stdout};
use crate::show::{self, count, escaped, json_line};
use crate::times::{self, Day, Time};
pub(crate) use html::write_temporary;
pub(crate) use model::Report;
use tally::{DAY, MAX_VALUES, OfObject, Tally};

/// Objects that are read at a time. Each has a tally of its own; all of them together may have as many
/// values as that of the report, 20 MB.
const AT_ONCE: usize = 4;

#[derive(clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Logs to read: files, directories, `s3://BUCKET/PREFIX`, or `-` for stdin.
    #[arg(required = true, value_name = "PATH | s3://BUCKET/PREFIX")]
    inputs: Vec<String>,
    /// Also write the report to FILE as an HTML page, which replaces what is there.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Skip logs of requests before this time: `2026-11-25T10:00:00Z`, `2026-11-25` (UTC), or a duration
    /// before now, such as `2h` or `30d`.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Time::read(text, Day::Start))]
    since: Option<Time>,
    /// Skip logs of requests after this time; a date includes its day.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Time::read(text, Day::End))]
    until: Option<Time>,
    /// Skip logs of other distributions.
    #[arg(long, value_name = "ID", value_parser = distribution)]
    distribution: Option<String>,
}

const HELP: &str = "\
The report tells the outcome of the rows over time, endpoints, clients, what is masked, what is
sent although its name is that of a static asset, and what a backfill would take.
It follows from the settings here, which may differ from the function's. Nothing is sent.

It has the addresses of clients, which are personal data, and no value of a parameter or cookie.
In paths, numbers, UUIDs, hashes and what looks random are folded.

Lists count up to 50,000 different values exactly. Of more, the rarest are counted together;
the report says so, and by how much a count may be too small.

The page needs nothing but its file, which only its owner can read.
docs/report.md describes the JSON. Logs are skipped by their keys alone, as by `edgetap find`.

Exit status:
  0  all logs were read
  1  some log was not read, or not to its end; the report is about the others
  2  usage or configuration error";

/// What was counted of an object.
struct Counted {
    tally: Tally,
    /// Why the object cannot be read, or not to its end.
    problem: Option<String>,
    is_read: bool,
}

pub(crate) async fn run(args: Args, variables: &Variables) -> Result<(), Failure> {
    let rules = Arc::new(Config::read_rules(variables)?);
    let wanted = Wanted {
        window: times::window(args.since.as_ref(), args.until.as_ref())?,
        distribution: args.distribution,
    };
    let found = inputs::find(&args.inputs, &wanted).await;
    let Some(report) = read(found, &rules).await else {
        return Err(Failure::Incomplete);
    };
    if args.json {
        writeln!(stdout(), "{}", json_line(&serde_json::to_string(&report)?))?;
    } else {
        write!(stdout(), "{}", terminal::text(&report, show::width()))?;
    }
    if let Some(file) = &args.html {
        let name = escaped(&file.display().to_string());
        html::write(&report, file).with_context(|| format!("cannot write {name}"))?;
        output::stderr_line(format_args!("wrote {name}"));
    }
    if report.totals.unread > 0 {
        return Err(Failure::Incomplete);
    }
    Ok(())
}

/// Returns the report on logs that can be read to their end.
pub(crate) fn of(logs: impl IntoIterator<Item = Opened>, rules: &Arc<Rules>) -> Report {
    let (mut all, mut objects) = (Tally::of_all(), 0);
    for opened in logs {
        all.merge(count_opened(opened, rules.clone(), MAX_VALUES, &ProgressBar::hidden()).tally);
        objects += 1;
    }
    Report::new(all, objects, 0, rules)
}

/// Reads the inputs. Reports what cannot be read. Returns `None` if nothing can.
async fn read(found: Found, rules: &Arc<Rules>) -> Option<Report> {
    let Found {
        inputs,
        bytes,
        mut unreadable,
        ..
    } = found;
    let progress = output::progress(bytes);
    let cap = MAX_VALUES / inputs.len().clamp(1, AT_ONCE);
    let counting = stream::iter(inputs).map(|input| count_rows(input, rules, cap, &progress));
    // In the order of the inputs, so that the report does not depend on which is read first.
    let mut counting = std::pin::pin!(counting.buffered(AT_ONCE));
    let (mut all, mut objects) = (Tally::of_all(), 0);
    while let Some(counted) = counting.next().await {
        objects += u64::from(counted.is_read);
        all.merge(counted.tally);
        progress.set_message(count(all.counts.rows, "row", "rows"));
        if let Some(problem) = counted.problem {
            output::error(problem);
            unreadable += 1;
        }
    }
    progress.finish_and_clear();
    (objects > 0).then(|| Report::new(all, objects, unreadable, rules))
}

/// Counts the rows of one input on a thread of its own.
async fn count_rows(
    input: Input,
    rules: &Arc<Rules>,
    cap: usize,
    progress: &ProgressBar,
) -> Counted {
    let object = input.object();
    let counted = match input.open().await {
        Ok(opened) => {
            let (rules, progress) = (rules.clone(), progress.clone());
            let reading =
                tokio::task::spawn_blocking(move || count_opened(opened, rules, cap, &progress));
            reading
                .await
                .map_err(|panicked| format!("{object}: {panicked}"))
        }
        Err(error) => Err(error.to_string()),
    };
    counted.unwrap_or_else(|problem| Counted {
        tally: Tally::of_all(),
        problem: Some(problem),
        is_read: false,
    })
}

fn count_opened(opened: Opened, rules: Arc<Rules>, cap: usize, progress: &ProgressBar) -> Counted {
    let Opened {
        object,
        bytes,
        size,
        modified,
        ..
    } = opened;
    let name = object.to_string();
    let modified = modified.map(jiff::Timestamp::as_millisecond);
    let mut rows = OfObject::new(&name, modified, cap);
    let mut stored = Stored { bytes, read: 0 };
    let source = progress.wrap_read(&mut stored);
    let mut summary = Summary::default();
    let job = Job::all(object);
    let mut error = None;
    for batch in Batches::observed(&job, source, rules, &mut rows) {
        match batch {
            Ok(batch) => summary.accept(&batch),
            Err(cause) => error = Some(cause.to_string()),
        }
    }
    let first = rows.first;
    let mut tally = rows.tally;
    tally.counts = summary.counts;
    let volume = Volume {
        objects: 1,
        bytes: size.unwrap_or(stored.read),
        rows: summary.counts.rows,
        transactions: summary.counts.sent,
        body_bytes: summary.bytes,
        requests: summary.batches,
    };
    match first {
        Some(first) => tally.days.add(&first.div_euclid(DAY), volume),
        None => tally.undated += volume,
    }
    let problems: Vec<String> = flawed(&summary.flaws).into_iter().chain(error).collect();
    let problem = (!problems.is_empty()).then(|| format!("{name}: {}", problems.join("; ")));
    Counted {
        tally,
        problem,
        is_read: true,
    }
}

/// Counts the bytes of an input of unknown size.
struct Stored {
    bytes: Box<dyn std::io::Read + Send>,
    read: u64,
}

impl std::io::Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

/// Formats a time to delivery.
fn minutes(minutes: usize) -> String {
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    match minutes {
        0..60 => count(number(minutes), "minute", "minutes"),
        tally::MINUTES => "24 hours".to_owned(),
        _ if minutes > tally::MINUTES => "more than 24 hours".to_owned(),
        _ if minutes.is_multiple_of(60) => count(number(minutes / 60), "hour", "hours"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// Formats a duration in seconds.
fn seconds(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        10.0..180.0 => format!("{seconds:.0} s"),
        180.0..10_800.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

fn dollars(dollars: f64) -> String {
    match dollars {
        0.0 => "$0".to_owned(),
        ..0.01 => "<$0.01".to_owned(),
        _ => format!("${dollars:.2}"),
    }
}

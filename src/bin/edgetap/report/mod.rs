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

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use edgetap::config::{Config, Problem, Problems, Variables};
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
use model::Totals;
use tally::{DAY, OfObject, Tally};

/// Objects that are read at a time. Each has a tally of its own; all of them together may have as many
/// values as that of the report.
const AT_ONCE: usize = 4;

/// Invocations at a time of a backfill, as in `edgetap backfill`.
const CONCURRENCY: u32 = 2;

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
    /// Skip requests before this time: `2026-11-25T10:00:00Z`, `2026-11-25` (UTC), or a duration before
    /// now, such as `2h` or `30d`.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Time::read(text, Day::Start))]
    since: Option<Time>,
    /// Skip requests after this time; a date includes its day.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Time::read(text, Day::End))]
    until: Option<Time>,
    /// Skip logs of other distributions.
    #[arg(long, value_name = "ID", value_parser = distribution)]
    distribution: Option<String>,
    /// Invocations at a time of a backfill, for the estimate only.
    #[arg(long, value_name = "N", default_value_t = CONCURRENCY, value_parser = clap::value_parser!(u32).range(2..=1000))]
    concurrency: u32,
}

const HELP: &str = "\
The report shows the outcome of the rows over time, endpoints, clients, what is masked, what is
sent although its name is that of a static asset, and what a backfill would take.
It follows from the settings here, which may differ from the function's. Nothing is sent.

It has the addresses of clients, which are personal data, and no value of a parameter or cookie.
In paths, numbers, UUIDs, hashes and what looks random are folded.

Lists count up to 25,000 different values exactly. Of more, the rarest are counted together;
the report says so, and by how much a count may be too small.

The page needs nothing but its file, which only its owner can read.
docs/report.md describes the JSON.

With --since and --until, logs are skipped by their keys, as by `edgetap find`, and the rows of the
others by the end of the request. Rows that cannot be read have no time: they are counted.
The estimate is for whole logs, those with a request in that time.

Exit status:
  0  all logs were read
  1  some log was not read, or not to its end, and is missing in the report as far as it was not;
     or there was no row to report on
  2  usage or configuration error";

/// What was counted of an object.
struct Counted {
    tally: Tally,
    /// Why the object cannot be read, or not to its end.
    problem: Option<String>,
    /// Whether the tally is that of a log, not of an object of another service.
    is_read: bool,
}

/// How logs are read.
#[derive(Clone)]
struct Reading {
    rules: Arc<Rules>,
    /// The ends of requests that are counted, in milliseconds since the Unix epoch.
    window: Range<i64>,
    /// How many logs are read at a time.
    parts: usize,
    progress: ProgressBar,
}

pub(crate) async fn run(args: Args, variables: &Variables) -> Result<(), Failure> {
    let rules = Arc::new(Config::read_rules(variables)?);
    let wanted = Wanted {
        window: times::window(args.since.as_ref(), args.until.as_ref())?,
        distribution: args.distribution,
    };
    if let Some(file) = &args.html {
        if file.as_os_str() == "-" {
            return Err(usage("`--html` needs the name of a file"));
        }
        html::expect_writable(file).with_context(|| cannot_write(file))?;
    }
    let found = inputs::find(&args.inputs, &wanted).await;
    if let Some(file) = &args.html
        && found.inputs.iter().any(|input| input.is_file(file))
    {
        return Err(usage(
            "`--html` names one of the logs, which it would replace",
        ));
    }
    if found.inputs.is_empty() && found.has_unwanted && found.unreadable == 0 {
        output::error("no log was read: all are outside --since, --until or --distribution");
        output::hint("widen them");
        return Err(Failure::Incomplete);
    }
    let at = |time: Option<&Time>| time.map(|time| time.at.as_millisecond());
    let reading = Reading {
        rules,
        window: at(args.since.as_ref()).unwrap_or(i64::MIN)
            ..at(args.until.as_ref()).unwrap_or(i64::MAX),
        parts: found.inputs.len().clamp(1, AT_ONCE),
        progress: output::progress(found.bytes),
    };
    let report = read(found, reading, args.concurrency).await;
    expect_rows(&report.totals)?;
    if args.json {
        writeln!(stdout(), "{}", json_line(&serde_json::to_string(&report)?))?;
    } else {
        write!(stdout(), "{}", terminal::text(&report, show::width()))?;
    }
    if let Some(file) = &args.html {
        html::write(&report, file).with_context(|| cannot_write(file))?;
        let name = escaped(&file.display().to_string());
        output::stderr_line(format_args!("wrote {name}"));
    }
    if report.totals.unread > 0 {
        return Err(Failure::Incomplete);
    }
    Ok(())
}

/// An error of the command line that clap cannot know.
fn usage(message: &str) -> Failure {
    Failure::Configuration(Problems(vec![Problem {
        message: message.to_owned(),
        hint: Some("name another file, such as `report.html`".to_owned()),
    }]))
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write {}", escaped(&file.display().to_string()))
}

/// Fails without a row to report on, and says why.
fn expect_rows(totals: &Totals) -> Result<(), Failure> {
    if totals.rows > 0 {
        return Ok(());
    }
    if totals.outside > 0 {
        let rows = count(totals.outside, "row is", "rows are");
        output::error(format_args!(
            "no row is between --since and --until: {rows} outside"
        ));
        output::hint("widen them");
    } else if totals.unread == 0 {
        if totals.objects == 0 {
            return Ok(()); // all were skipped, which was logged
        }
        output::error(match totals.objects {
            1 => "the log has no data rows",
            _ => "the logs have no data rows",
        });
    }
    Err(Failure::Incomplete) // what cannot be read was reported
}

/// Returns the report on logs that can be read to their end.
pub(crate) fn of(logs: impl IntoIterator<Item = Opened>, rules: &Arc<Rules>) -> Report {
    let reading = Reading {
        rules: rules.clone(),
        window: i64::MIN..i64::MAX,
        parts: 1,
        progress: ProgressBar::hidden(),
    };
    let (mut all, mut objects) = (Tally::of_all(), 0);
    for opened in logs {
        all.merge(count_opened(opened, reading.clone()).tally);
        objects += 1;
    }
    Report::new(all, objects, 0, CONCURRENCY, rules)
}

/// Reads the inputs. Reports what cannot be read.
async fn read(found: Found, reading: Reading, concurrency: u32) -> Report {
    let Found {
        inputs,
        mut unreadable,
        ..
    } = found;
    let counting = stream::iter(inputs).map(|input| count_rows(input, &reading));
    // In the order of the inputs, so that the report does not depend on which is read first.
    let mut counting = std::pin::pin!(counting.buffered(AT_ONCE));
    let (mut all, mut objects) = (Tally::of_all(), 0);
    while let Some(counted) = counting.next().await {
        objects += u64::from(counted.is_read);
        all.merge(counted.tally);
        let rows = count(all.counts.rows, "row", "rows");
        reading.progress.set_message(rows);
        if let Some(problem) = counted.problem {
            output::error(problem);
            unreadable += 1;
        }
    }
    reading.progress.finish_and_clear();
    Report::new(all, objects, unreadable, concurrency, &reading.rules)
}

/// Counts the rows of one input on a thread of its own.
async fn count_rows(input: Input, reading: &Reading) -> Counted {
    let object = input.object();
    let counted = match input.open().await {
        Ok(opened) => {
            let reading = reading.clone();
            let counting = tokio::task::spawn_blocking(move || count_opened(opened, reading));
            counting
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

fn count_opened(opened: Opened, reading: Reading) -> Counted {
    let Reading {
        rules,
        window,
        parts,
        progress,
    } = reading;
    let Opened {
        object,
        bytes,
        size,
        modified,
        ..
    } = opened;
    let name = object.to_string();
    let modified = modified.map(jiff::Timestamp::as_millisecond);
    let mut rows = OfObject::new(&name, modified, window, parts);
    let mut stored = Stored { bytes, read: 0 };
    let source = progress.wrap_read(&mut stored);
    let mut summary = Summary::default();
    let job = Job::all(object);
    let mut error = None;
    let mut batches = Batches::observed(&job, source, rules, &mut rows);
    for batch in batches.by_ref() {
        match batch {
            Ok(batch) => summary.accept(&batch),
            Err(cause) => error = Some(cause.to_string()),
        }
    }
    let is_skipped = batches.is_skipped();
    drop(batches);
    let (first, outside) = (rows.first, rows.outside);
    let mut tally = rows.tally;
    tally.counts = summary.counts - outside;
    tally.outside = outside.rows;
    let volume = Volume {
        objects: 1,
        bytes: size.unwrap_or(stored.read),
        rows: summary.counts.rows,
        transactions: summary.counts.sent,
        body_bytes: summary.bytes,
        requests: summary.batches,
    };
    let problems: Vec<String> = flawed(&summary.flaws).into_iter().chain(error).collect();
    let problem = (!problems.is_empty()).then(|| format!("{name}: {}", problems.join("; ")));
    let is_read = summary.counts.rows > 0 || problem.is_none() && !is_skipped;
    match first {
        Some(first) => tally.days.add(&first.div_euclid(DAY), volume),
        None if outside.rows > 0 => {} // a backfill of the window needs no such log
        None if !is_read => {}
        None => tally.undated += volume,
    }
    Counted {
        tally,
        problem,
        is_read,
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

/// Formats dollars that are known as the least and the most.
fn range(of: &[f64]) -> String {
    let mut texts: Vec<String> = of.iter().copied().map(dollars).collect();
    texts.dedup();
    texts.join(" to ")
}

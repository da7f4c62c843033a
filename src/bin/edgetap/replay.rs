//! `edgetap replay`: the pipeline on local or S3 logs.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use edgetap::batch::Counts;
use edgetap::bridge::{Attempt, Bridge};
use edgetap::config::{Config, Variables};
use edgetap::encode::Encoding;
use edgetap::ingest::ingest_watched;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::plan::flawed;
use edgetap::source::Opened;
use edgetap::time::Deadline;
use indicatif::{HumanBytes, HumanCount, ProgressBar};

use crate::inputs::{self, Found, Input, Wanted};
use crate::output::{self, StdoutError};
use crate::show::count;
use crate::{Failure, connect};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Logs to read: files, directories, `s3://BUCKET/PREFIX`, or `-` for stdin.
    #[arg(required = true, value_name = "PATH | s3://BUCKET/PREFIX")]
    inputs: Vec<String>,
    /// Output format when not posting.
    #[arg(long = "wire", value_enum, default_value_t = WireArg::Ndjson, conflicts_with = "post")]
    encoding: WireArg,
    /// Deliver to the configured bridge instead of printing.
    #[arg(long)]
    post: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum WireArg {
    /// edgetap's JSON, one transaction per line.
    Ndjson,
    /// The bridge's request bodies, one per line.
    Uap,
}

/// The destination of transactions.
enum Sink {
    Stdout(Arc<Rules>),
    Bridge {
        rules: Arc<Rules>,
        bridge: Box<Bridge>,
    },
}

pub(crate) async fn run(args: Args, variables: &Variables) -> Result<(), Failure> {
    let sink = if args.post {
        let Config { rules, bridge, .. } = Config::read(variables)?;
        Sink::Bridge {
            rules: Arc::new(rules),
            bridge: Box::new(connect(bridge).await?),
        }
    } else {
        let rules = Config::read_rules(variables)?;
        Sink::Stdout(Arc::new(match args.encoding {
            WireArg::Ndjson => Rules {
                encoding: Encoding::Ndjson,
                ..rules
            },
            WireArg::Uap => rules,
        }))
    };
    let Found {
        inputs,
        bytes,
        mut unreadable,
        ..
    } = inputs::find(&args.inputs, &Wanted::default()).await;
    let progress = output::progress(bytes);
    let started = Instant::now();
    let (mut total, mut objects) = (Summary::default(), 0_u64);
    for input in inputs {
        let before = total.counts.rows;
        let bar = progress.clone();
        let watch = move |summary: &Summary| {
            let rows = before + summary.counts.rows;
            bar.set_message(format!(
                "{}, {}/s",
                count(rows, "row", "rows"),
                HumanCount(per_second(rows, started))
            ));
        };
        let replayed = replay(input, &sink, &progress, watch).await;
        let (summary, problem) = replayed.inspect_err(|_| progress.finish_and_clear())?;
        objects += 1;
        total.counts += summary.counts;
        total.absent.extend(summary.absent);
        total.batches += summary.batches;
        total.bytes += summary.bytes;
        if let Some(problem) = problem {
            output::error(problem);
            unreadable += 1;
        }
    }
    progress.finish_and_clear();
    if objects > 0 {
        summarize(&total, objects, &args, started.elapsed());
    }
    if unreadable > 0 || total.counts.rejected > 0 {
        Err(Failure::Incomplete)
    } else {
        Ok(())
    }
}

/// Writes what was done to standard error, one fact per line.
fn summarize(total: &Summary, objects: u64, args: &Args, time: Duration) {
    let done = if args.post { "sent" } else { "to send" };
    let size = HumanBytes(total.bytes);
    let size = match args.encoding {
        WireArg::Ndjson if !args.post => format!("{size} of ndjson"),
        _ => format!(
            "{}, {size} of request bodies",
            count(total.batches, "batch", "batches")
        ),
    };
    let Counts {
        rows,
        sent,
        static_assets,
        excluded,
        malformed,
        rejected,
        foreign,
        unreadable,
    } = total.counts;
    let absent: BTreeSet<&str> = total.absent.iter().copied().collect();
    let absent = absent.into_iter().collect::<Vec<_>>().join(", ");
    let more = [
        (foreign > 0).then(|| format!(", {} foreign", HumanCount(foreign))),
        (unreadable > 0).then(|| {
            format!(
                "\n{} left out as unreadable",
                count(unreadable, "value", "values")
            )
        }),
        (!absent.is_empty()).then(|| format!("\nabsent: {absent}")),
    ];
    let more: String = more.into_iter().flatten().collect();
    output::stderr_line(format_args!(
        "{}, {} in {:.1} s\n{} {done}, {} static, {} excluded, {} malformed, {} rejected{more}\n{size}",
        count(objects, "object", "objects"),
        count(rows, "row", "rows"),
        time.as_secs_f64(),
        HumanCount(sent),
        HumanCount(static_assets),
        HumanCount(excluded),
        HumanCount(malformed),
        HumanCount(rejected),
    ));
}

fn per_second(rows: u64, since: Instant) -> u64 {
    let milliseconds = u64::try_from(since.elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    rows.saturating_mul(1000) / milliseconds
}

/// Runs one input through the pipeline. Returns its counts, and what went wrong as a sentence.
async fn replay(
    input: Input,
    sink: &Sink,
    progress: &ProgressBar,
    watch: impl Fn(&Summary) + Send + 'static,
) -> Result<(Summary, Option<String>), Failure> {
    let Opened { object, bytes, .. } = match input.open().await {
        Ok(opened) => opened,
        Err(error) => return Ok((Summary::default(), Some(error.to_string()))),
    };
    let job = Job::all(object);
    let bytes = progress.wrap_read(bytes);
    match sink {
        Sink::Stdout(rules) => {
            let batches = Batches::new(&job, bytes, rules.clone());
            let one_per_line = rules.encoding != Encoding::Ndjson;
            let written =
                tokio::task::spawn_blocking(move || write(batches, one_per_line, watch)).await?;
            let (summary, error) = written.map_err(StdoutError)?;
            let problems = [flawed(&summary.flaws), error.map(|error| error.to_string())];
            let problem = sentence(&job.object, problems);
            Ok((summary, problem))
        }
        Sink::Bridge { rules, bridge } => {
            let keyed = match bridge.warm_up(Deadline::NEVER).await {
                Ok(()) => {
                    let key = bridge.tokens().redaction_key();
                    rules.keyed(key).map_err(|error| error.to_string())
                }
                Err(trouble) => Err(trouble.why),
            };
            let rules = match keyed {
                Ok(rules) => rules,
                Err(why) => {
                    let problem = format!("cannot deliver {}: {why}", job.object);
                    return Ok((Summary::default(), Some(problem)));
                }
            };
            let watch = |summary: &Summary, _: &_| watch(summary);
            let outcome = ingest_watched(&job, bytes, &rules, bridge, Attempt::ONLY, watch).await;
            let flawed = flawed(&outcome.summary.flaws);
            let rejected = outcome.summary.rejected.len() as u64;
            let rejected = (rejected > 0)
                .then(|| format!("the bridge rejected {}", count(rejected, "row", "rows")));
            let undelivered = outcome.why().map(|why| match outcome.left.first() {
                Some(row) => format!("not all rows were delivered (the first is row {row}): {why}"),
                None => why,
            });
            let problem = sentence(&job.object, [rejected, flawed, undelivered]);
            Ok((outcome.summary, problem))
        }
    }
}

/// Joins the problems of an object to one text.
fn sentence<const N: usize>(object: &ObjectRef, problems: [Option<String>; N]) -> Option<String> {
    let problems: Vec<_> = problems.into_iter().flatten().collect();
    (!problems.is_empty()).then(|| format!("{object}: {}", problems.join("; ")))
}

/// Writes the bodies of batches to stdout, up to the first that cannot be read. Returns that error
/// with the counts.
///
/// # Errors
/// Stdout cannot be written.
fn write(
    batches: Batches<impl io::Read>,
    one_per_line: bool,
    watch: impl Fn(&Summary),
) -> io::Result<(Summary, Option<edgetap::log::LogError>)> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut summary = Summary::default();
    for batch in batches {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                stdout.flush()?;
                return Ok((summary, Some(error)));
            }
        };
        stdout.write_all(&batch.body)?;
        if one_per_line && !batch.body.is_empty() {
            stdout.write_all(b"\n")?;
        }
        summary.accept(&batch);
        watch(&summary);
    }
    stdout.flush()?;
    Ok((summary, None))
}

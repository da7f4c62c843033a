//! `edgetap replay`: the pipeline on local or S3 logs.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use edgetap::aws;
use edgetap::batch::Counts;
use edgetap::bridge::{Attempt, Bridge};
use edgetap::config::{Config, Variables, https_proxy};
use edgetap::encode::Encoding;
use edgetap::ingest::ingest_watched;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::plan::flawed;
use edgetap::retry::Backoff;
use edgetap::source::{Opened, S3};
use edgetap::time::Deadline;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

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

/// An input, found but not yet opened.
enum Input {
    File(PathBuf),
    Stdin,
    Object(S3, ObjectRef),
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
    } = find(&args.inputs).await;
    let progress = progress(bytes);
    output::show_progress(&progress);
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

fn progress(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} ETA {eta}",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {bytes} {binary_bytes_per_sec} {msg}",
        ),
    };
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

struct Found {
    inputs: Vec<Input>,
    /// Total size, if every size is known.
    bytes: Option<u64>,
    /// Number of inputs that cannot be read, each of which was reported.
    unreadable: usize,
}

/// Finds every object that the inputs name, in directories and below S3 prefixes too. Reports what
/// cannot be read and goes on.
async fn find(names: &[String]) -> Found {
    let mut found = Found {
        inputs: Vec::new(),
        bytes: Some(0),
        unreadable: 0,
    };
    for name in names {
        if let Err(error) = found.add(name).await {
            found.report(name, &error);
        }
    }
    found
}

impl Found {
    fn report(&mut self, name: impl Display, error: &anyhow::Error) {
        output::error(format_args!("cannot read {name}: {error:#}"));
        self.unreadable += 1;
    }

    async fn add(&mut self, name: &str) -> anyhow::Result<()> {
        if name == "-" {
            self.bytes = None;
            self.inputs.push(Input::Stdin);
        } else if let Some(location) = name.strip_prefix("s3://") {
            let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
            anyhow::ensure!(!bucket.is_empty(), "the bucket is missing");
            let s3 = S3::new(&aws::sdk_config(https_proxy()).await, Backoff::default());
            let objects = s3.list(bucket, prefix).await?;
            anyhow::ensure!(!objects.is_empty(), "no objects under this prefix");
            for (object, size) in objects {
                self.bytes = self.bytes.map(|bytes| bytes + size);
                self.inputs.push(Input::Object(s3.clone(), object));
            }
        } else {
            let before = self.inputs.len() + self.unreadable;
            self.add_path(Path::new(name))?;
            let found = self.inputs.len() + self.unreadable - before;
            anyhow::ensure!(found > 0, "no files in this directory");
        }
        Ok(())
    }

    /// Adds a file, or every file below a directory that can be read.
    fn add_path(&mut self, path: &Path) -> anyhow::Result<()> {
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                anyhow::bail!("the target of this symbolic link does not exist")
            }
            metadata => metadata?,
        };
        if metadata.is_dir() {
            let mut inside = std::fs::read_dir(path)?
                .map(|child| child.map(|child| child.path()))
                .collect::<Result<Vec<_>, _>>()?;
            // A link to a directory may form a loop.
            inside.retain(|child| !(child.is_symlink() && child.is_dir()));
            inside.sort();
            for child in inside {
                if let Err(error) = self.add_path(&child) {
                    self.report(child.display(), &error);
                }
            }
            return Ok(());
        }
        self.bytes = self
            .bytes
            .filter(|_| metadata.is_file())
            .map(|bytes| bytes + metadata.len());
        self.inputs.push(Input::File(path.to_owned()));
        Ok(())
    }
}

/// Runs one input through the pipeline. Returns its counts, and what went wrong as a sentence.
async fn replay(
    input: Input,
    sink: &Sink,
    progress: &ProgressBar,
    watch: impl Fn(&Summary) + Send + 'static,
) -> Result<(Summary, Option<String>), Failure> {
    let opened = match &input {
        Input::File(path) => Opened::file(path),
        Input::Stdin => Ok(Opened::stdin()),
        Input::Object(s3, object) => s3.open(object).await,
    };
    let Opened { object, bytes, .. } = match opened {
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

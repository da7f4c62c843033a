//! `edgetap replay`: the pipeline on local or S3 logs.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::ValueEnum;
use edgetap::aws;
use edgetap::batch::Counts;
use edgetap::bridge::Bridge;
use edgetap::config::{Config, Variables};
use edgetap::encode::Encoding;
use edgetap::ingest::{Outcome, ingest_watched};
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::retry::{Backoff, Deadline};
use edgetap::source::{Opened, S3};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::{Failure, connect};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Logs: files, folders, objects below a prefix in S3, or - for the standard input.
    #[arg(required = true, value_name = "PATH | s3://BUCKET/PREFIX")]
    inputs: Vec<String>,
    /// Without --post: in which form transactions are written.
    #[arg(long = "wire", value_enum, default_value_t = WireArg::Ndjson, conflicts_with = "post")]
    encoding: WireArg,
    /// Deliver to the configured bridge instead of writing to stdout.
    #[arg(long)]
    post: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum WireArg {
    /// Our own transaction, one JSON object a line.
    Ndjson,
    /// The bridge's request bodies, one a line.
    Uap,
}

/// Where transactions go.
enum Sink {
    Stdout(Arc<Rules>),
    Bridge {
        rules: Arc<Rules>,
        bridge: Box<Bridge>,
        concurrency: usize,
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
        let concurrency = bridge.concurrency;
        Sink::Bridge {
            rules: Arc::new(rules),
            bridge: Box::new(connect(bridge).await?),
            concurrency,
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
    let started = Instant::now();
    let (mut total, mut objects) = (Summary::default(), 0_u64);
    for input in inputs {
        let before = total.counts.rows;
        let bar = progress.clone();
        let watch = move |summary: &Summary| {
            let rows = before + summary.counts.rows;
            bar.set_message(format!(
                "{} rows, {}/s",
                HumanCount(rows),
                HumanCount(per_second(rows, started))
            ));
        };
        let (summary, problem) = replay(input, &sink, &progress, watch).await?;
        objects += 1;
        total.counts += summary.counts;
        total.batches += summary.batches;
        total.bytes += summary.bytes;
        total.rejected.extend(summary.rejected);
        if let Some(problem) = problem {
            progress.suspend(|| eprintln!("edgetap: {problem}"));
            unreadable = true;
        }
    }
    progress.finish_and_clear();
    let Counts {
        rows,
        sent,
        static_assets,
        excluded,
        malformed,
        rejected,
        ..
    } = total.counts;
    let verb = if args.post { "delivered" } else { "written" };
    eprintln!(
        "{} objects, {} rows in {:.1} s: {} {verb}, {} static, {} excluded, {} malformed, {} rejected; {} batches, {}",
        HumanCount(objects),
        HumanCount(rows),
        started.elapsed().as_secs_f64(),
        HumanCount(sent),
        HumanCount(static_assets),
        HumanCount(excluded),
        HumanCount(malformed),
        HumanCount(rejected),
        HumanCount(total.batches),
        HumanBytes(total.bytes),
    );
    if unreadable || !total.rejected.is_empty() {
        Err(Failure::Incomplete)
    } else {
        Ok(())
    }
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
    /// In all, where every size is known.
    bytes: Option<u64>,
    unreadable: bool,
}

/// Every object that the inputs name, folders and prefixes searched through; what cannot be is said.
async fn find(names: &[String]) -> Found {
    let mut found = Found {
        inputs: Vec::new(),
        bytes: Some(0),
        unreadable: false,
    };
    for name in names {
        if let Err(error) = found.add(name).await {
            eprintln!("edgetap: {name}: {error:#}");
            found.unreadable = true;
        }
    }
    found
}

impl Found {
    async fn add(&mut self, name: &str) -> anyhow::Result<()> {
        if name == "-" {
            self.bytes = None;
            self.inputs.push(Input::Stdin);
        } else if let Some(location) = name.strip_prefix("s3://") {
            let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
            let s3 = S3::new(&aws::sdk_config().await, Backoff::default());
            let objects = s3.list(bucket, prefix).await?;
            anyhow::ensure!(!objects.is_empty(), "there is no object below this prefix");
            for (object, size) in objects {
                self.bytes = self.bytes.map(|bytes| bytes + size);
                self.inputs.push(Input::Object(s3.clone(), object));
            }
        } else {
            self.add_path(Path::new(name))?;
        }
        Ok(())
    }

    fn add_path(&mut self, path: &Path) -> anyhow::Result<()> {
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            let mut inside = std::fs::read_dir(path)?
                .map(|child| child.map(|child| child.path()))
                .collect::<Result<Vec<_>, _>>()?;
            inside.retain(|child| !(child.is_symlink() && child.is_dir())); // it may lead back here
            inside.sort();
            return inside.iter().try_for_each(|child| self.add_path(child));
        }
        self.bytes = self
            .bytes
            .filter(|_| metadata.is_file())
            .map(|bytes| bytes + metadata.len());
        self.inputs.push(Input::File(path.to_owned()));
        Ok(())
    }
}

/// Runs one input through the pipeline; returns what became of it, and what went wrong, in words.
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
            let one_a_line = rules.encoding != Encoding::Ndjson;
            let written =
                tokio::task::spawn_blocking(move || write(batches, one_a_line, watch)).await?;
            let (summary, error) = match written {
                // Whoever read our output has seen enough, and knows it.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(Failure::Incomplete);
                }
                written => written?,
            };
            Ok((
                summary,
                error.map(|error| format!("{}: {error}", job.object)),
            ))
        }
        Sink::Bridge {
            rules,
            bridge,
            concurrency,
        } => {
            let session = bridge.session(Deadline::NEVER);
            let keyed = match session.warm_up().await {
                Ok(()) => session.keyed(rules),
                Err(error) => Err(error.to_string()),
            };
            let rules = match keyed {
                Ok(rules) => rules,
                Err(why) => {
                    return Ok((
                        Summary::default(),
                        Some(format!("{}: not delivered: {why}", job.object)),
                    ));
                }
            };
            Ok(
                match ingest_watched(&job, bytes, &rules, &session, *concurrency, |summary, _| {
                    watch(summary)
                })
                .await
                {
                    Outcome::Complete(summary) => {
                        let problem = (!summary.rejected.is_empty()).then(|| {
                            format!(
                                "{}: the bridge refuses {} rows",
                                job.object,
                                summary.rejected.len()
                            )
                        });
                        (summary, problem)
                    }
                    Outcome::Partial {
                        from_row,
                        why,
                        summary,
                    } => (
                        summary,
                        Some(format!(
                            "{}: not delivered from row {from_row} on: {why}",
                            job.object
                        )),
                    ),
                },
            )
        }
    }
}

/// Writes the bodies of batches to stdout, to the last that can be read.
fn write(
    batches: Batches<impl io::Read>,
    one_a_line: bool,
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
        if one_a_line && !batch.body.is_empty() {
            stdout.write_all(b"\n")?;
        }
        summary.settle(&batch, Vec::new());
        watch(&summary);
    }
    stdout.flush()?;
    Ok((summary, None))
}

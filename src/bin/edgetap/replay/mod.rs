//! `edgetap replay`: the pipeline on local or S3 logs.

mod outage;
mod post;
mod print;
mod rejects;
mod remaining;
mod seen;
mod total;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use edgetap::config::{Config, Variables};
use edgetap::encode::Encoding;
use edgetap::pipeline::Rules;

use crate::inputs::{self, Found, Input, Wanted};
use crate::output;
use crate::show::{self, duration, escaped, exact, quoted};
use crate::{Failure, connect, usage};
use post::{Ended, Post};
use print::Printing;
use rejects::Rejects;
use remaining::Remaining;
use total::{Kind, Meter, Total};

/// The default of `--retry-for`.
const RETRY_FOR: Duration = Duration::from_mins(10);

/// Objects that are posted at a time. One of a few rows takes a GET and a POST, one after the other.
const JOBS_OF_POST: usize = 4;

#[derive(clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Logs to read: files, directories, `s3://BUCKET/PREFIX`, or `-` for stdin.
    #[arg(
        required_unless_present = "resume",
        value_name = "PATH | s3://BUCKET/PREFIX"
    )]
    inputs: Vec<String>,
    /// Output format when not posting.
    #[arg(long = "wire", value_enum, default_value_t = WireArg::Ndjson, conflicts_with = "post")]
    encoding: WireArg,
    /// Deliver to the configured bridge instead of printing.
    #[arg(long)]
    post: bool,
    /// Objects to read at a time [default: 4 with --post, else the number of processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// How long to keep trying while the bridge is down: `10m`, `2h`, or `0s` to give up at once.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration, requires = "post")]
    retry_for: Duration,
    /// Keep in FILE what is left, and go on with it if FILE exists.
    #[arg(long, value_name = "FILE", requires = "post")]
    resume: Option<PathBuf>,
    /// Write a line of JSON to FILE for each row that is not sent.
    #[arg(long, value_name = "FILE")]
    reject: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Output has the order of the inputs, whatever --jobs is.
A Parquet file is copied to the temporary directory (TMPDIR) while it is read.

--retry-for counts from the last response that accepted something.
A refusal that waiting cannot mend (such as 401 or 404) ends the delivery at once.

--resume writes the objects and rows that are left to FILE, at the start, about once a second and at
the end; it removes FILE when nothing is left.
After Ctrl-C or SIGTERM, requests in flight have five seconds; a second Ctrl-C ends at once.
What was accepted is not sent again. After `kill -9` or a second Ctrl-C, what was accepted since the
last write is sent again with the same idempotency keys.
FILE has names and numbers only. With a FILE that exists, PATH can be left out.
It is for one folder and one bridge, and for one replay at a time: FILE.lock is locked.

--reject writes {\"object\":…,\"line\":…,\"row\":…,\"verdict\":…,\"reason\":…}, as `find --json` does,
for rows that are `static`, `excluded`, `malformed`, `foreign` or `rejected`.
`edgetap explain OBJECT:LINE` shows such a row, also of a Parquet file, in which each row is a line.
Where a log cannot be read further, a line has the verdict `unreadable` and the first row that was
not read; its line is then unknown: null.
Going on with --resume appends to it, after `kill -9` perhaps some lines again; else it is overwritten.";

#[derive(Clone, Copy, ValueEnum)]
enum WireArg {
    /// edgetap's JSON, one transaction per line.
    Ndjson,
    /// The bridge's request bodies, one per line.
    Uap,
}

pub(crate) async fn run(
    args: Args,
    env_file: Option<&Path>,
    variables: &Variables,
) -> Result<(), Failure> {
    if args.post {
        let Config { rules, bridge, .. } = Config::read(variables)?;
        let edge = bridge.endpoints.edge.to_string();
        let bridge = connect(bridge).await?;
        return deliver(args, env_file, Arc::new(rules), bridge, edge).await;
    }
    let rules = Config::read_rules(variables)?;
    let rules = Arc::new(match args.encoding {
        WireArg::Ndjson => Rules {
            encoding: Encoding::Ndjson,
            ..rules
        },
        WireArg::Uap => rules,
    });
    let done = match args.encoding {
        WireArg::Ndjson => Kind::Ndjson,
        WireArg::Uap => Kind::Bodies,
    };
    let Found {
        inputs,
        bytes,
        unreadable,
        ..
    } = inputs::find(&args.inputs, &Wanted::default()).await;
    expect_other_files(&inputs, [("--reject", args.reject.as_deref())])?;
    let rejects = args.reject.as_deref().map(Rejects::create).transpose()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let printing = Printing {
        one_per_line: rules.encoding != Encoding::Ndjson,
        rules,
        meter: Meter::new(output::progress(bytes)),
        has_rejects: rejects.is_some(),
    };
    let mut total = Total::default();
    total.unreadable = unreadable;
    let jobs = args.jobs.map_or(processors, usize::from);
    let started = Instant::now();
    let printed = printing.run(inputs, jobs, rejects.as_ref(), &mut total);
    let printed = printed.await;
    printing.meter.end();
    printed?;
    total.report(done, started.elapsed());
    rejects.map_or(Ok(()), Rejects::finish)?;
    total.expect_rows();
    total.result()
}

/// Posts what the arguments name, or what is left of it.
async fn deliver(
    args: Args,
    env_file: Option<&Path>,
    rules: Arc<Rules>,
    bridge: edgetap::bridge::Bridge,
    edge: String,
) -> Result<(), Failure> {
    let go_on = command(
        env_file,
        &[
            ("--jobs", args.jobs.map(|jobs| jobs.to_string())),
            (
                "--retry-for",
                (args.retry_for != RETRY_FOR).then(|| exact(args.retry_for)),
            ),
            (
                "--reject",
                args.reject
                    .as_deref()
                    .map(|file| file.to_string_lossy().into_owned()),
            ),
        ],
    );
    let known = match &args.resume {
        Some(file) => Remaining::read(file, &args.inputs, &rules, &edge)?,
        None => None,
    };
    let is_resumed = known.is_some();
    let mut total = Total::default();
    let (inputs, bytes, mut remaining) = match known {
        Some(remaining) => {
            let inputs = inputs::of_objects(remaining.objects()).await?;
            (inputs, remaining.bytes(), remaining)
        }
        None if args.inputs.is_empty() => {
            return Err(usage(
                "the file of `--resume` does not exist, and no log is named",
                "name the logs; what is left of them is then written to this file",
            ));
        }
        None => {
            let found = inputs::find(&args.inputs, &Wanted::default()).await;
            if args.resume.is_some() {
                expect_resumable(&found.inputs)?;
            }
            total.unreadable = found.unreadable;
            let objects = found.inputs.iter().map(Input::object);
            let remaining =
                Remaining::new(args.resume.as_deref(), args.inputs, &rules, &edge, objects)?;
            (found.inputs, found.bytes, remaining)
        }
    };
    let outputs = [
        ("--reject", args.reject.as_deref()),
        ("--resume", args.resume.as_deref()),
    ];
    expect_other_files(&inputs, outputs)?;
    let rejects = match args.reject.as_deref() {
        Some(file) if is_resumed => Some(Rejects::append(file)?),
        Some(file) => Some(Rejects::create(file)?),
        None => None,
    };
    remaining.save()?;
    let started = Instant::now();
    let post = Post::new(
        rules,
        bridge,
        args.retry_for,
        Meter::new(output::progress(bytes)),
        remaining,
        rejects,
        command(env_file, &[]),
    );
    let jobs = args.jobs.map_or(JOBS_OF_POST, usize::from);
    let ended = post.run(&inputs, jobs, &mut total).await;
    let (remaining, rejects) = post.end();
    total.report(Kind::Posted, started.elapsed());
    let written = rejects.map_or(Ok(()), Rejects::finish);
    remaining.report(is_resumed, &go_on);
    written?;
    let ended = ended?;
    if !is_resumed {
        total.expect_rows(); // what is left of a log may be its end, without a row
    }
    match ended {
        Ended::Interrupted => Err(Failure::Interrupted),
        Ended::Through => total.result(),
    }
}

/// Checks that what is left of logs can be found again by their names.
fn expect_resumable(inputs: &[Input]) -> Result<(), Failure> {
    for input in inputs {
        let name = escaped(&show::input(&input.object()));
        if !input.can_be_read_again() {
            return Err(usage(
                format!("`--resume` cannot go on with {name}, which cannot be read twice"),
                "write it to a file, and name that",
            ));
        }
        if !input.has_plain_name() {
            return Err(usage(
                format!("`--resume` cannot note the name of {name}, which is not UTF-8"),
                "rename it, or replay it without `--resume`",
            ));
        }
    }
    Ok(())
}

/// Checks that no file that is written is a log, or written for two purposes.
fn expect_other_files<const N: usize>(
    inputs: &[Input],
    outputs: [(&str, Option<&Path>); N],
) -> Result<(), Failure> {
    let mut known: Vec<PathBuf> = Vec::new();
    for (option, file) in outputs {
        let Some(file) = file else {
            continue; // not written
        };
        let place = inputs::place(file);
        if known.contains(&place) || inputs.iter().any(|input| input.is_file(file)) {
            return Err(usage(
                format!("the file of `{option}` is also a log or that of another option"),
                "name another file, which is then created",
            ));
        }
        known.push(place);
    }
    Ok(())
}

/// Returns the command that delivers logs like this one, for a shell, without the logs.
fn command(env_file: Option<&Path>, options: &[(&str, Option<String>)]) -> String {
    let mut words = vec!["edgetap replay --post".to_owned()];
    let env_file = env_file.map(|file| file.to_string_lossy().into_owned());
    for (name, value) in options.iter().chain(&[("--env-file", env_file)]) {
        words.extend(
            value
                .iter()
                .map(|value| format!("{name} {}", quoted(value))),
        );
    }
    words.join(" ")
}

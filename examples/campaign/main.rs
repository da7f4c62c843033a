//! A randomized fault-injection test: the real function against a fake S3, SQS, token endpoint and
//! bridge that misbehave by a seeded random generator.
//!
//! `cargo run --release --example campaign -- --runs 1000 --seed 1`
//!
//! A run puts a few logs into S3, sends notifications to the work queue (two for some logs), and
//! polls until the queue is empty, while faults are injected everywhere. Then the faults stop,
//! corrupt logs are repaired and the dead letters are redriven. In every tenth run the function is
//! the real `bootstrap`, which is killed at random; in the other runs it runs in this process, with
//! waits of milliseconds. `check.rs` holds the invariants. Faults stop after a number of
//! invocations, so that every run ends. The last line is the tally. The exit status is 1 if an
//! invariant was violated.
//!
//! A seed fixes which faults may occur but not their timing, because the sockets are real.

#![recursion_limit = "256"] // the layout of one future, from a run down to the SDK
#![allow(clippy::unwrap_used)]

mod bridge;
mod check;
mod claims;
mod evidence;
mod faults;
mod identity;
mod logs;
mod receiver;
mod run;
mod weather;
#[path = "../../tests/support/runtime_api.rs"]
mod runtime_api;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Parser)]
#[command(about = "Randomized fault-injection test of the real function")]
struct Args {
    /// Number of runs.
    #[arg(long, default_value_t = 100)]
    runs: u64,
    /// Seed of the first run; each later run uses the next seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of parallel runs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Use the real process in every Nth run; 0 for never.
    #[arg(long, default_value_t = 10)]
    process_every: u64,
    /// Path of the real process [default: `bootstrap` of the same build]
    #[arg(long)]
    bootstrap: Option<PathBuf>,
    /// Troubles of every run, instead of random ones; none without a value.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..)]
    troubles: Option<Vec<weather::Trouble>>,
    /// Show the function's output of runs with a violation.
    #[arg(long)]
    lines: bool,
}

#[derive(Default)]
struct Tally {
    runs: u64,
    processes: u64,
    invocations: usize,
    killed: usize,
    accepted: usize,
    repeated: claims::Repeated,
    requeues: usize,
    dead_letters: usize,
    redriven: usize,
    violations: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let bootstrap = match bootstrap(&args) {
        Ok(bootstrap) => bootstrap,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let progress = ProgressBar::new(args.runs); // hidden without a terminal
    if let Ok(style) =
        ProgressStyle::with_template("{bar:40} {pos} of {len} runs, {msg}{per_sec}, {eta} left")
    {
        progress.set_style(style);
    }
    let (tally, next) = (Mutex::new(Tally::default()), AtomicU64::new(0));
    let worker = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= args.runs {
                // Reader threads of killed invocations may still be waiting. They would panic if
                // the runtime were dropped.
                return std::mem::forget(runtime);
            }
            let seed = args.seed.saturating_add(number);
            let process = bootstrap
                .as_deref()
                .filter(|_| seed.is_multiple_of(args.process_every));
            let run = runtime.block_on(Box::pin(run::run(seed, process, args.troubles.as_deref())));
            progress.suspend(|| show(seed, &run, args.lines));
            let mut tally = tally.lock().unwrap();
            tally.count(&run);
            progress.set_message(format!("{} violations, ", tally.violations));
            progress.inc(1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(worker);
        }
    });
    progress.finish_and_clear();
    let tally = tally.into_inner().unwrap();
    println!("{tally}");
    ExitCode::from(u8::from(tally.violations > 0))
}

/// Returns the path of the real process, if it is to be used. A missing process is an error, so
/// that it does not look like a run without violations.
fn bootstrap(args: &Args) -> Result<Option<PathBuf>, String> {
    if args.process_every == 0 {
        return Ok(None);
    }
    let own = || {
        Some(
            std::env::current_exe()
                .ok()?
                .parent()?
                .parent()?
                .join("bootstrap"),
        )
    };
    match args.bootstrap.clone().or_else(own).filter(|path| path.is_file()) {
        Some(path) => Ok(Some(path)),
        None => {
            Err("bootstrap not found: build it (cargo build --bins), pass --bootstrap, or pass --process-every 0".to_owned())
        }
    }
}

fn show(seed: u64, run: &run::Run, lines: bool) {
    if !run.violations.is_empty() {
        println!("seed {seed}: {:?}", run.evidence.weather);
    }
    for violation in &run.violations {
        println!("seed {seed}: {violation}");
    }
    if lines && !run.violations.is_empty() {
        println!("{}", run.evidence.output.join("\n"));
    }
}

impl Tally {
    fn count(&mut self, run: &run::Run) {
        let evidence = &run.evidence;
        let accepted = evidence.invocations.iter().flat_map(|one| &one.accepted);
        self.runs += 1;
        self.processes += u64::from(run.is_process);
        self.invocations += evidence.invocations.len();
        self.killed += run.killed;
        self.accepted += accepted.map(|batch| batch.ids.len()).sum::<usize>();
        self.repeated += run.repeated;
        self.requeues += evidence
            .invocations
            .iter()
            .flat_map(|one| &one.sent)
            .filter(|letter| !letter.is_dead())
            .count();
        self.dead_letters += evidence.dead_letters.len();
        self.redriven += run.redriven;
        self.violations += run.violations.len();
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            runs,
            processes,
            invocations,
            killed,
            accepted,
            repeated:
                claims::Repeated {
                    killed: after_kill,
                    lost_response,
                    failed_send,
                },
            requeues,
            dead_letters,
            redriven,
            violations,
        } = self;
        let repeated = after_kill + lost_response + failed_send;
        write!(
            f,
            "{runs} runs ({processes} of the real process), {invocations} invocations, {killed} killed, {accepted} transactions accepted, \
             {repeated} sent again ({after_kill} after a kill, {lost_response} after a lost response, {failed_send} after a failed send), \
             {requeues} requeues, {dead_letters} dead letters, {redriven} redriven, {violations} violations"
        )
    }
}

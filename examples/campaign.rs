//! A fault campaign: the real function against fake S3, SQS, token endpoint and bridge that misbehave at random, from a seed.
//!
//! `cargo run --release --example campaign -- --runs 1000 --seed 1`
//!
//! A run puts a few logs into S3, notifies the work queue of them (of some twice), and polls until the queue is empty, while
//! everything goes wrong that can. Then it checks that nothing was lost, nothing was made up, and that what came twice is
//! recognisable. Faults cease after a while, so that every run ends. The last line is the tally; exit status 1 on a violation.

#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use edgetap::batch::Limits;
use edgetap::local_bridge::{Arrival, Endpoint, Options, Reaction, decode};
use edgetap::telemetry;
use edgetap::work::Continuation;
use edgetap::work_queue::MAX_HOPS;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use support::fake_s3::Fault;
use support::{HEADER, Lines, World, gzip, world};

#[derive(Parser)]
#[command(about = "A fault campaign against the real function")]
struct Args {
    /// How many runs.
    #[arg(long, default_value_t = 100)]
    runs: u64,
    /// The seed of the first run; each run after it has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show what the function logged in a run with a violation.
    #[arg(long)]
    lines: bool,
}

/// Invocations after which faults cease.
const FAULTY_INVOCATIONS: usize = 25;
/// Invocations after which a run that has not ended loops.
const MAX_INVOCATIONS: usize = 300;

/// A log, and what must become of it.
struct Log {
    key: String,
    /// By row, the ids of the transactions that must arrive.
    kept: BTreeMap<u64, String>,
    rows: u64,
}

#[derive(Default)]
struct Tally {
    runs: u64,
    invocations: usize,
    killed: u64,
    accepted: usize,
    repeated: usize,
    hand_overs: usize,
    dead_letters: usize,
    violations: usize,
}

fn main() {
    let Args { runs, seed, lines } = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut tally = Tally::default();
    for seed in seed..seed.saturating_add(runs) {
        let violations = runtime.block_on(Box::pin(run(seed, lines, &mut tally)));
        for violation in &violations {
            println!("seed {seed}: {violation}");
        }
        tally.runs += 1;
        tally.violations += violations.len();
    }
    let Tally { runs, invocations, killed, accepted, repeated, hand_overs, dead_letters, violations } = tally;
    println!(
        "{runs} runs, {invocations} invocations, {killed} killed, {accepted} transactions accepted, {repeated} batches repeated, \
         {hand_overs} hand-overs, {dead_letters} dead letters, {violations} violations"
    );
    // Not by returning: reading threads of killed invocations may still wait.
    std::process::exit(i32::from(violations > 0));
}

async fn run(seed: u64, show_lines: bool, tally: &mut Tally) -> Vec<String> {
    let rng = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    let mut dice = StdRng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
    let faulty = Arc::new(AtomicBool::new(true));
    let bad: BTreeSet<String> = (0..dice.random_range(0..4)).map(|_| format!("log-0-{}", dice.random_range(0..80))).collect();
    let lines = Lines::default();
    let subscriber: Arc<dyn tracing::Subscriber + Send + Sync> = Arc::new(telemetry::json(tracing::Level::INFO, lines.clone()));
    let _current = tracing::subscriber::set_default(subscriber);

    let rate = dice.random_range(0.0..0.5);
    let (shared, is_faulty, refused) = (rng.clone(), faulty.clone(), bad.clone());
    let options = Options {
        client_secret: "canary-secret-campaign".to_owned(),
        react: Arc::new(move |arrival| react(arrival, &mut shared.lock().unwrap(), is_faulty.load(Ordering::Relaxed), rate, &refused)),
        ..Options::default()
    };
    let limits = Limits { transactions: dice.random_range(1..30), bytes: dice.random_range(1000..20_000) };
    let mut world = world(options, limits).await;
    world.function.retry_for = jiff::SignedDuration::from_hours(3); // so that what never passes ends in a few invocations
    world.function.concurrency = dice.random_range(1..6);
    let logs = put_logs(&world, &mut dice);
    let (shared, is_faulty) = (rng.clone(), faulty.clone());
    world.sqs.fail(move |_, _| is_faulty.load(Ordering::Relaxed) && shared.lock().unwrap().random_bool(rate / 3.0));
    let (shared, is_faulty) = (rng.clone(), faulty.clone());
    world.s3.react(move || is_faulty.load(Ordering::Relaxed).then(|| s3_fault(&mut shared.lock().unwrap(), rate)).flatten());

    let mut violations = Vec::new();
    let mut hops = 0;
    for invocation in 0.. {
        faulty.store(invocation < FAULTY_INVOCATIONS, Ordering::Relaxed);
        if world.sqs.wait_for_next().is_none() {
            tally.invocations += invocation;
            break;
        }
        if invocation == MAX_INVOCATIONS {
            violations.push(format!("it loops: {:?}", world.sqs.work()));
            break;
        }
        hops = world
            .sqs
            .work()
            .iter()
            .filter_map(|m| serde_json::from_str::<Continuation>(&m.body).ok())
            .map(|rest| rest.hops)
            .fold(hops, u8::max);
        let time_left = Duration::from_millis(if invocation < FAULTY_INVOCATIONS { dice.random_range(1..400) } else { 20_000 });
        let killed_after = Duration::from_millis(if invocation < FAULTY_INVOCATIONS && dice.random_bool(0.15) {
            dice.random_range(1..100)
        } else {
            60_000
        });
        if tokio::time::timeout(killed_after, Box::pin(world.poll(time_left))).await.is_err() {
            tally.killed += 1;
        }
    }
    if hops > MAX_HOPS {
        violations.push(format!("{hops} hops"));
    }
    check(&world, &logs, &lines, show_lines, tally, &mut violations);
    violations
}

/// What the token endpoint and the bridge do.
fn react(arrival: Arrival<'_>, rng: &mut StdRng, faulty: bool, rate: f64, bad: &BTreeSet<String>) -> Reaction {
    if arrival.endpoint == Endpoint::Edge && decode(arrival.body).is_ok_and(|all| all.iter().any(|t| bad.contains(&t.transaction_id))) {
        return Reaction::status(422);
    }
    if !faulty || !rng.random_bool(rate) {
        return Reaction::Normal;
    }
    let retry_after = |status, value: String| Reaction::Answer { status, headers: vec![("retry-after", value)], body: String::new() };
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    match rng.random_range(0..14) {
        0 => Reaction::status(401),
        1 => Reaction::status(403),
        2 => Reaction::status(413),
        3 => retry_after(429, "0".to_owned()),
        4 => retry_after(503, date),
        5..=8 => Reaction::status(*[408, 500, 502, 503, 504].choose(rng).unwrap()),
        9 => Reaction::HangUp,
        10 | 11 => Reaction::NormalThenHangUp,
        12 => Reaction::After(Duration::from_millis(rng.random_range(1..60))),
        _ => Reaction::Answer { status: 200, headers: vec![("content-type", "text/html".to_owned())], body: "<html>".to_owned() },
    }
}

fn s3_fault(rng: &mut StdRng, rate: f64) -> Option<Fault> {
    if !rng.random_bool(rate) {
        return None;
    }
    Some(match rng.random_range(0..6) {
        0 => Fault::Status(*[403, 500, 503].choose(rng).unwrap()),
        1 => Fault::HangUp,
        2 => Fault::NoRange,
        _ => Fault::Cut(rng.random_range(0..2000)),
    })
}

/// Logs of API calls, static assets and malformed rows, gzip or plain, some of them cut.
fn put_logs(world: &World, dice: &mut StdRng) -> Vec<Log> {
    let mut logs = Vec::new();
    for number in 0..dice.random_range(1..4) {
        let (key, rows) = (format!("log-{number}"), dice.random_range(0..120));
        let (mut text, mut kept) = (HEADER.to_owned(), BTreeMap::new());
        for row in 0..rows {
            let id = format!("{key}-{row}");
            let (path, ip) = match dice.random_range(0..10) {
                0..=2 => ("/asset.js", "192.0.2.7"),
                3 => ("/api", "-"),
                _ => ("/api", "192.0.2.7"),
            };
            writeln!(text, "2026-11-14\t20:00:00\t{ip}\tGET\t{path}/{row}{}\t200\t{id}", if path == "/asset.js" { ".js" } else { "" })
                .unwrap();
            if path == "/api" && ip != "-" {
                kept.insert(row, id);
            }
        }
        let mut bytes = if dice.random_bool(0.5) { gzip(&text) } else { text.into_bytes() };
        if dice.random_bool(0.2) && bytes.starts_with(&[0x1f, 0x8b]) {
            bytes.truncate(bytes.len() - dice.random_range(1..bytes.len() / 2));
        }
        world.s3.put(&key, bytes);
        for _ in 0..dice.random_range(1..3) {
            world.notify(&key);
        }
        logs.push(Log { key, kept, rows });
    }
    logs
}

fn check(world: &World, logs: &[Log], lines: &Lines, show_lines: bool, tally: &mut Tally, violations: &mut Vec<String>) {
    let received = world.bridge.received();
    let accepted: BTreeSet<String> =
        received.iter().flat_map(|batch| batch.transactions.iter().map(|t| t.transaction_id.clone())).collect();
    let letters: Vec<Continuation> = world.sqs.dead_letters().iter().map(|letter| serde_json::from_str(&letter.body).unwrap()).collect();
    for log in logs {
        let dead = |row: u64| {
            let mut ranges = letters.iter().filter(|letter| letter.object.key == log.key).flat_map(|letter| &letter.rows);
            ranges.any(|(start, end)| (*start..end.unwrap_or(u64::MAX)).contains(&row))
        };
        for (row, id) in &log.kept {
            if !accepted.contains(id) && !dead(*row) {
                violations.push(format!("row {row} of {} of {} rows is lost", log.key, log.rows));
            }
        }
    }
    let known: BTreeSet<&String> = logs.iter().flat_map(|log| log.kept.values()).collect();
    violations.extend(accepted.iter().filter(|id| !known.contains(id)).map(|id| format!("{id} was made up")));
    let mut bodies = BTreeMap::new();
    for batch in &received {
        if bodies.insert(&batch.key, &batch.body).is_some_and(|body| body != &batch.body) {
            violations.push(format!("two bodies under the key {}", batch.key));
        }
    }
    for line in lines.json() {
        let number = |name: &str| line[name].as_u64();
        if let (Some(rows), Some(sent)) = (number("rows"), number("sent")) {
            let accounted = sent + ["static", "malformed", "refused"].iter().filter_map(|name| number(name)).sum::<u64>();
            if rows != accounted {
                violations.push(format!("rows are not accounted for: {line}"));
            }
        }
        tally.hand_overs += usize::try_from(number("hand_overs").unwrap_or(0)).unwrap();
    }
    if lines.text().contains("canary") || lines.text().contains("Bearer ") {
        violations.push("a secret in a log line".to_owned());
    }
    if !violations.is_empty() && show_lines {
        println!("{}\n{:#?}", lines.text(), letters);
    }
    tally.accepted += accepted.len();
    tally.repeated += received.iter().filter(|batch| batch.repeated).count();
    tally.dead_letters += letters.len();
}

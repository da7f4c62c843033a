//! `edgetap replay`: objects side by side, an outage of the bridge, and what `--resume` and
//! `--reject` write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgetap::local_bridge::{Arrival, LocalBridge, Options, Reaction};
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command_line::{edgetap, settings, stderr, stdout, with_settings};
use crate::support::fake_s3::FakeS3;
use crate::support::{HEADER, at_edge, fixtures, gzip, log, start};

/// What `replay` wrote, with times left out.
#[derive(Debug, PartialEq)]
struct Written {
    stdout: Vec<u8>,
    stderr: String,
    rejects: String,
}

fn replay(inputs: &str, jobs: &str, wire: &str) -> Written {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rejects");
    let file = file.to_str().unwrap();
    let options = ["--jobs", jobs, "--wire", wire, "--reject", file];
    let output = edgetap(&[&["replay", inputs], &options[..]].concat(), &[], b"");
    let times = Regex::new(r"in \d+\.\d s").unwrap();
    Written {
        stderr: times.replace(&stderr(&output), "").into_owned(),
        stdout: output.stdout,
        rejects: fs::read_to_string(file).unwrap(),
    }
}

/// The lines of `--reject` by verdict.
fn verdicts(rejects: &str) -> BTreeMap<String, u64> {
    let mut verdicts = BTreeMap::new();
    for line in rejects.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let verdict = line["verdict"].as_str().unwrap().to_owned();
        *verdicts.entry(verdict).or_default() += 1;
    }
    verdicts
}

/// The number before a word of the summary.
fn counted(summary: &str, word: &str) -> u64 {
    let count = Regex::new(&format!("([0-9,]+) {word}")).unwrap();
    let count = count
        .captures(summary)
        .map(|count| count[1].replace(',', ""));
    count.map_or(0, |count| count.parse().unwrap())
}

fn assert_rejects_are_counted(written: &Written) {
    let verdicts = verdicts(&written.rejects);
    for verdict in ["static", "excluded", "malformed", "rejected", "foreign"] {
        assert_eq!(
            verdicts.get(verdict).copied().unwrap_or_default(),
            counted(&written.stderr, verdict),
            "{verdict}: {}",
            written.stderr
        );
    }
}

// proves: R4
#[test]
fn jobs_do_not_change_what_is_written() {
    let fixtures = fixtures();
    for (folder, wire) in [("logs", "ndjson"), ("logs", "uap"), ("cases", "ndjson")] {
        let folder = fixtures.join(folder);
        let one = replay(folder.to_str().unwrap(), "1", wire);
        assert!(one.stdout.len() > 1000, "{}", one.stderr);
        assert_eq!(one, replay(folder.to_str().unwrap(), "8", wire));
        assert_rejects_are_counted(&one);
    }
}

/// Logs that are larger than what may wait for its turn.
#[test]
fn output_behind_a_large_log_waits() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.gz", "b.gz", "c.gz"] {
        fs::write(directory.path().join(name), gzip(&log(30_000))).unwrap();
    }
    let inputs = directory.path().to_str().unwrap();
    let one = replay(inputs, "1", "ndjson");
    assert!(one.stdout.len() > 3 * (4 << 20), "{}", one.stdout.len());
    assert_eq!(one, replay(inputs, "3", "ndjson"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn jobs_do_not_change_what_small_logs_give(
        logs in prop::collection::vec(prop::collection::vec(0..6usize, 0..12), 1..8)
    ) {
        let rows = [
            "2026-11-14\t20:00:00\t192.0.2.7\tGET\t/api\t200\tid\n",
            "2026-11-14\t20:00:00\t192.0.2.7\tGET\t/health\t200\tid\n",
            "2026-11-14\t20:00:00\t192.0.2.7\t-\t/api\t200\tid\n",
            "2026-11-14 20:00:00 192.0.2.7\n",
            "\n",
            "{\"a\":1}\n",
        ];
        let directory = tempfile::tempdir().unwrap();
        for (number, kinds) in logs.iter().enumerate() {
            let text: String = kinds.iter().map(|kind| rows[*kind]).collect();
            fs::write(directory.path().join(format!("{number}.log")), HEADER.to_owned() + &text)?;
        }
        let inputs = directory.path().to_str().unwrap();
        let one = replay(inputs, "1", "ndjson");
        assert_rejects_are_counted(&one);
        prop_assert_eq!(one, replay(inputs, "8", "ndjson"));
    }
}

/// A Parquet file has no lines: each row is one.
#[test]
fn rejects_of_parquet_are_those_of_the_same_text() {
    let rejects = |name: &str| {
        let log = fixtures().join("logs").join(name);
        let written = replay(log.to_str().unwrap(), "1", "uap");
        assert_rejects_are_counted(&written);
        let lines = written.rejects.lines().map(|line| {
            let mut reject: Value = serde_json::from_str(line).unwrap();
            let reject = reject.as_object_mut().unwrap();
            reject.remove("object");
            let line = reject.remove("line").unwrap().as_u64().unwrap();
            (line, reject["row"].as_u64().unwrap(), reject.clone())
        });
        lines.collect::<Vec<_>>()
    };
    let text = rejects("E27FO14I29XXXX.2026-11-14-20.d740d76b.gz");
    let parquet = rejects("E27FO14I29XXXX.2026-11-14-20.d740d76b.parquet");
    assert_eq!(text.len(), 5);
    assert_eq!(parquet.len(), 5);
    for ((_, _, text), (line, row, parquet)) in text.into_iter().zip(parquet) {
        assert_eq!(parquet, text);
        assert_eq!(line, row + 1);
    }
}

#[test]
fn rejects_name_line_row_and_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rejects");
    let text = "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem sc-status sc-content-type\n\
                1700000000000\t192.0.2.7\tGET\t/canary.css\t200\ttext/css\n\
                1700000000000\t192.0.2.7\tPOST\t/sent\t200\t-\n\n\
                1700000000000\t192.0.2.7\tGET\t/health\t200\t-\n\
                1700000000000\t192.0.2.7\t-\t/canary\t200\t-\n";
    let output = edgetap(
        &["replay", "-", "--reject", file.to_str().unwrap()],
        &[("EXCLUDE_PATHS", "/health")],
        text.as_bytes(),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        fs::read_to_string(file).unwrap(),
        "{\"object\":\"-\",\"line\":2,\"row\":0,\"verdict\":\"static\",\"reason\":\"extension `.css`\"}\n\
         {\"object\":\"-\",\"line\":5,\"row\":2,\"verdict\":\"excluded\",\"reason\":\"EXCLUDE_PATHS has `/health`\"}\n\
         {\"object\":\"-\",\"line\":6,\"row\":3,\"verdict\":\"malformed\",\"reason\":\"missing or unreadable cs-method\"}\n"
    );
}

/// Logs in a folder of their own, and a bridge for them.
struct Scene {
    directory: TempDir,
    bridge: LocalBridge,
    settings: Vec<(&'static str, String)>,
}

impl Scene {
    async fn new(logs: u64, rows: u64, options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        for number in 0..logs {
            let text = log(rows).replace("\tid-", &format!("\t{number:02}-"));
            let path = directory.path().join(format!("logs/{number:02}.gz"));
            fs::write(path, gzip(&text)).unwrap();
        }
        let bridge = start(&options).await;
        let mut settings = settings(&bridge, &options);
        settings.push(("BATCH_MAX_TRANSACTIONS", "10".to_owned()));
        Self {
            directory,
            bridge,
            settings,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("left.json")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgetap"));
        command
            .args(["replay", "--post"])
            .args(args)
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// The keys under which each transaction arrived.
    fn arrivals(&self) -> BTreeMap<String, Vec<String>> {
        let mut arrivals = BTreeMap::<_, Vec<String>>::new();
        for batch in self.bridge.received() {
            for transaction in batch.transactions {
                let keys = arrivals.entry(transaction.transaction_id).or_default();
                keys.push(batch.key.clone());
            }
        }
        arrivals
    }

    fn assert_each_once(&self, transactions: usize) {
        let arrivals = self.arrivals();
        assert_eq!(arrivals.len(), transactions);
        for (id, keys) in arrivals {
            assert_eq!(keys.len(), 1, "{id}");
        }
    }
}

/// A bridge whose first requests are answered by `react`, the others normally.
fn first(requests: u64, react: impl Fn() -> Reaction + Send + Sync + 'static) -> Options {
    at_edge(move |arrival| {
        if arrival.number <= requests {
            react()
        } else {
            Reaction::Normal
        }
    })
}

// proves: R5
#[tokio::test]
async fn outage_is_waited_for_and_shown_once() {
    let scene = Scene::new(6, 30, first(70, || Reaction::status(503))).await;
    let output = scene.run(&["logs"]).await;
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    scene.assert_each_once(180);
    for words in [
        "waiting for the bridge retry_for=\"10m\" reason=",
        "the bridge accepts requests again after=",
    ] {
        assert_eq!(text.matches(words).count(), 1, "{words}: {text}");
    }
    assert!(!text.contains("error"), "{text}");
}

// proves: R5
#[tokio::test]
async fn refusal_that_lasts_is_not_waited_for() {
    for (status, is_of_bridge) in [(401, true), (404, false), (400, false)] {
        let scene = Scene::new(30, 20, at_edge(move |_| Reaction::status(status))).await;
        let output = scene.run(&["--retry-for", "24h", "logs"]).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(!text.contains("waiting"), "{text}");
        assert!(text.contains(&status.to_string()), "{text}");
        assert!(text.contains("not begun"), "{text}");
        let begun = text.matches(": no row was delivered").count();
        let causes = text.matches(": no row was delivered: ").count();
        assert!(causes < begun, "a shared cause is given once: {text}");
        let most = if is_of_bridge { 4 } else { 10 + 3 };
        assert!((1..=most).contains(&begun), "{text}");
    }
}

#[tokio::test]
async fn outage_longer_than_retry_for_ends_the_replay() {
    let scene = Scene::new(9, 20, at_edge(|_| Reaction::status(503))).await;
    let output = scene.run(&["--retry-for", "1s", "logs"]).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("\nerror: gave up: "), "{text}");
    assert!(text.contains("\nleft: 9 objects\n"), "{text}");
    assert!(text.contains("  logs/08.gz: all rows\n"), "{text}");
    let hint = "hint: start over, able to go on from then on: \
                edgetap replay --post --retry-for 1s --resume left.json logs\n";
    assert!(text.contains(hint), "{text}");
    assert!(
        text.contains("gave up: nothing was accepted for 1s ("),
        "{text}"
    );
    assert!(text.contains(" of 9 objects not begun\n"), "{text}");
    assert!(
        !text.contains(" not delivered\n"),
        "rows that were not read have no number: {text}"
    );
}

#[tokio::test]
async fn failed_replay_counts_what_it_has_read() {
    let scene = Scene::new(0, 0, at_edge(|_| Reaction::status(404))).await;
    let text = log(5) + "2026-11-14\t20:00:00\t192.0.2.7\t-\t/malformed\t200\tid\n";
    fs::write(scene.path("logs/a.log"), text).unwrap();
    let output = scene.run(&["logs"]).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("1 object, 6 rows in"), "{text}");
    let counts = "\n0 sent, 0 static, 0 excluded, 1 malformed, 0 rejected, 5 not delivered\n";
    assert!(text.contains(counts), "{text}");
}

#[tokio::test]
async fn rows_that_the_bridge_rejects_are_in_the_rejects() {
    let react = |arrival: Arrival<'_>| {
        if String::from_utf8_lossy(arrival.body).contains("/row/7\"") {
            Reaction::status(413)
        } else {
            Reaction::Normal
        }
    };
    let scene = Scene::new(1, 30, at_edge(react)).await;
    let file = scene.file();
    let args = ["logs", "--reject", "rejects", "--resume", "left.json"];
    let output = scene.run(&args).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("the bridge rejected 1 row"), "{text}");
    assert!(!file.exists(), "no row is left");
    let line: Value =
        serde_json::from_str(&fs::read_to_string(scene.path("rejects")).unwrap()).unwrap();
    let expected = json!({"object": "logs/00.gz", "line": 10, "row": 7, "verdict": "rejected", "reason": "the bridge returned 413"});
    assert_eq!(line, expected);
    assert_eq!(scene.arrivals().len(), 29);
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(sent.success());
}

/// Sends a signal once the bridge has had so many requests, and returns the exit status.
async fn interrupted(scene: &Scene, args: &[&str], signal_name: &str, requests: u64) -> Output {
    let before = scene.bridge.tally().requests;
    let child = scene.command(args).spawn().unwrap();
    let mut child = child;
    while scene.bridge.tally().requests < before + requests && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if child.try_wait().unwrap().is_none() {
        signal(&child, signal_name);
    }
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
        .await
        .unwrap()
}

const RESUME: &[&str] = &["logs", "--resume", "left.json", "--reject", "rejects"];

/// Interrupts at random points until everything is delivered. Returns how often.
async fn campaign(scene: &Scene, signal_name: &str) -> u32 {
    for interruption in 0..500 {
        let requests = rand::random_range(1..25);
        let output = interrupted(scene, RESUME, signal_name, requests).await;
        let left = scene.file().exists();
        match output.status.code() {
            Some(0) => {
                assert!(!left, "{}", stderr(&output));
                return interruption;
            }
            // Interrupted before the handler was there, or killed.
            None => {}
            Some(130) => assert_eq!(left, stderr(&output).contains("\nleft: ")),
            other => panic!("{other:?}: {}", stderr(&output)),
        }
        if !left && interruption > 0 {
            return interruption;
        }
    }
    panic!("not delivered");
}

// proves: R1
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_replay_sends_nothing_twice() {
    let options = Options {
        delay: Duration::from_millis(3),
        ..at_edge(|arrival| match arrival.number % 23 {
            5 => Reaction::status(500),
            11 => Reaction::HangUp,
            17 => Reaction::status(503),
            _ => Reaction::Normal,
        })
    };
    let scene = Scene::new(20, 95, options).await;
    for number in 0..20 {
        let text = log(95).replace("\tid-", &format!("\t{number:02}-"));
        let malformed = "2026-11-14\t20:00:00\t192.0.2.7\t-\t/malformed\t200\tid\n";
        let path = scene.path(&format!("logs/{number:02}.gz"));
        fs::write(path, gzip(&(text + malformed))).unwrap();
    }
    let interruptions = campaign(&scene, "-INT").await;
    assert!(interruptions > 2, "{interruptions}");
    scene.assert_each_once(20 * 95);
    let rejects = fs::read_to_string(scene.path("rejects")).unwrap();
    let lines: BTreeSet<&str> = rejects.lines().collect();
    assert_eq!(
        lines.len(),
        rejects.lines().count(),
        "no line twice: {rejects}"
    );
    assert_eq!(
        verdicts(&rejects),
        BTreeMap::from([("malformed".to_owned(), 20)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn termination_ends_a_replay_in_order() {
    let options = Options {
        delay: Duration::from_millis(50),
        ..Options::default()
    };
    let scene = Scene::new(20, 95, options).await;
    let output = interrupted(&scene, RESUME, "-TERM", 3).await;
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(scene.file().exists());
}

#[tokio::test]
async fn wait_that_is_longer_than_retry_for_is_named() {
    let react = |_: Arrival<'_>| Reaction::Respond {
        status: 503,
        headers: vec![("retry-after", "3600".to_owned())],
        body: String::new(),
    };
    let scene = Scene::new(1, 5, at_edge(react)).await;
    let text = stderr(&scene.run(&["logs"]).await);
    let words = "the bridge asks to wait at least 15m, longer than --retry-for 10m";
    assert!(text.contains(words), "{text}");
}

// proves: R2
#[tokio::test(flavor = "multi_thread")]
async fn killed_replay_repeats_only_with_the_same_key() {
    let options = Options {
        delay: Duration::from_millis(3),
        ..at_edge(|arrival| match arrival.number % 17 {
            3 => Reaction::NormalThenHangUp,
            5 => Reaction::status(500),
            11 => Reaction::HangUp,
            _ => Reaction::Normal,
        })
    };
    let scene = Scene::new(20, 95, options).await;
    // Each start sends at least what the last one did in its last second.
    for _ in 0..6 {
        interrupted(&scene, RESUME, "-KILL", rand::random_range(20..120)).await;
    }
    let output = scene.run(RESUME).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!scene.file().exists());
    let arrivals = scene.arrivals();
    assert_eq!(arrivals.len(), 20 * 95);
    for (id, keys) in arrivals {
        let different: BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_interrupt_ends_at_once() {
    let arrived = Arc::new(AtomicU64::new(0));
    let count = arrived.clone();
    let options = at_edge(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Reaction::After(Duration::from_hours(1))
    });
    let scene = Scene::new(2, 20, options).await;
    let mut child = scene.command(RESUME).spawn().unwrap();
    while arrived.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The request is never answered: the second Ctrl-C comes within its five seconds.
    while child.try_wait().unwrap().is_none() {
        signal(&child, "-INT");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(
        text.contains("go on with: edgetap replay --post --reject rejects --resume left.json\n"),
        "{text}"
    );
    let left: Value = serde_json::from_slice(&fs::read(scene.file()).unwrap()).unwrap();
    assert_eq!(left["left"].as_array().unwrap().len(), 2);
}

// proves: R3
#[tokio::test]
async fn resumed_replay_needs_no_inputs_and_sends_what_is_left() {
    // Whoever has accepted three requests refuses all others.
    let scene = Scene::new(
        3,
        20,
        at_edge(|arrival| {
            if (4..100).contains(&arrival.number) {
                Reaction::status(401)
            } else {
                Reaction::Normal
            }
        }),
    )
    .await;
    let output = scene
        .run(&["logs", "--jobs", "1", "--resume", "left.json"])
        .await;
    assert_eq!(output.status.code(), Some(1));
    let text = fs::read_to_string(scene.file()).unwrap();
    assert!(
        !text.contains("192.0.2.7") && !text.contains("/row/"),
        "{text}"
    );
    while scene.bridge.tally().requests < 100 {
        let output = scene.run(&["--jobs", "1", "--resume", "left.json"]).await;
        if output.status.success() {
            break;
        }
    }
    assert!(!scene.file().exists());
    scene.assert_each_once(60);
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_resume_file_ends_the_replay_in_order() {
    let options = Options {
        delay: Duration::from_millis(200),
        ..Options::default()
    };
    let scene = Scene::new(20, 95, options).await;
    let child = scene.command(RESUME).spawn().unwrap();
    while scene.bridge.tally().requests < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while fs::create_dir(scene.path("left.json.new")).is_err() {}
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for words in ["error: cannot write left.json: ", " sent, ", "\nleft: "] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Writes a file of `--resume` with the rows from 10 on of the only log.
async fn partly_delivered() -> Scene {
    let scene = Scene::new(
        1,
        30,
        at_edge(|arrival| {
            if arrival.number == 1 || arrival.number > 9 {
                Reaction::Normal
            } else {
                Reaction::status(401)
            }
        }),
    )
    .await;
    let mut command = scene.command(&["logs", "--resume", "left.json"]);
    command.env("BRIDGE_CONCURRENCY", "1");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    assert_eq!(output.await.unwrap().status.code(), Some(1));
    let left: Value = serde_json::from_slice(&fs::read(scene.file()).unwrap()).unwrap();
    assert_eq!(left["left"][0]["rows"], json!([[10, null]]));
    scene
}

// proves: R3
#[tokio::test]
async fn log_that_changed_is_not_continued() {
    let scene = partly_delivered().await;
    fs::write(scene.path("logs/00.gz"), gzip(&log(31))).unwrap();
    let output = scene.run(&["--resume", "left.json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("error: logs/00.gz: it was replaced after part of it"),
        "{text}"
    );
    let hint = "  hint: deliver the new one whole: edgetap replay --post logs/00.gz\n";
    assert!(text.contains(hint), "{text}");
    assert!(!scene.file().exists(), "nothing can be delivered any more");
    assert_eq!(scene.arrivals().len(), 10);
}

// proves: R3
#[tokio::test]
async fn log_that_ends_before_the_rows_left_is_an_error() {
    let scene = partly_delivered().await;
    let text = fs::read_to_string(scene.file()).unwrap();
    fs::write(scene.file(), text.replace("[[10,null]]", "[[31,null]]")).unwrap();
    let output = scene.run(&["--resume", "left.json"]).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the log has 30 rows, and had more"), "{text}");
}

// proves: R3
#[tokio::test]
async fn resume_file_of_another_replay_is_refused() {
    let scene = partly_delivered().await;
    fs::write(scene.path("other.json"), "{\"edgetap_resume\":1}").unwrap();
    for (args, variable, words) in [
        (
            &["logs/00.gz", "--resume", "left.json"][..],
            ("A", ""),
            "a replay of other logs: logs",
        ),
        (
            &["--resume", "left.json"],
            ("EXCLUDE_PATHS", "/a"),
            "written with other settings",
        ),
        (
            &["--resume", "other.json"],
            ("A", ""),
            "other.json is not a file of `--resume`",
        ),
        (&["--resume", "none.json"], ("A", ""), "no log is named"),
        (&["-", "--resume", "none.json"], ("A", ""), "standard input"),
        (
            &["/dev/stdin", "--resume", "none.json"],
            ("A", ""),
            "which cannot be read twice",
        ),
        (
            &["--resume", "/dev/zero"],
            ("A", ""),
            "not a file of `--resume`",
        ),
        (
            &["--resume", "left.json"],
            ("BRIDGE_EDGE_ENDPOINT", "http://127.0.0.1:1/"),
            "of a replay to another bridge",
        ),
        (
            &["logs", "--reject", "./logs/00.gz"],
            ("A", ""),
            "the file of `--reject` is also a log",
        ),
        (
            &["logs", "--resume", "x.json", "--reject", "./x.json"],
            ("A", ""),
            "or that of another option",
        ),
    ] {
        let mut command = scene.command(args);
        command.env(variable.0, variable.1);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("\n  hint: "),
            "{}",
            stderr(&output)
        );
    }
    assert_eq!(scene.arrivals().len(), 10);
    assert!(!Path::new("none.json").exists());
    for option in ["--resume", "--retry-for"] {
        let output = edgetap(&["replay", "x", option, "1s"], &[], b"");
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("--post"), "{}", stderr(&output));
    }
}

// proves: R3
#[tokio::test]
async fn resume_file_is_for_one_folder_and_one_replay() {
    let scene = partly_delivered().await;
    for (folder, is_locked, words) in [
        ("logs", false, "of a replay in another folder"),
        (".", true, "another replay uses the file"),
    ] {
        let lock = fs::File::create(scene.path("left.json.lock")).unwrap();
        if is_locked {
            lock.lock().unwrap();
        }
        let file = scene.file();
        let mut command = scene.command(&["--resume", file.to_str().unwrap()]);
        command.current_dir(scene.path(folder));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    assert_eq!(scene.arrivals().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn object_in_s3_is_resumed_unless_it_was_replaced() {
    let s3 = FakeS3::start().await;
    for key in ["cdn/a", "cdn/b", "cdn/c"] {
        s3.put(key, gzip(&log(30).replace("\tid-", &format!("\t{key}-"))));
    }
    let options = at_edge(|arrival| {
        if arrival.number <= 4 || arrival.number > 20 {
            Reaction::Normal
        } else {
            Reaction::status(401)
        }
    });
    let bridge = start(&options).await;
    let mut settings = settings(&bridge, &options);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("left.json");
    settings.extend([
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL_S3", s3.endpoint()),
        ("BATCH_MAX_TRANSACTIONS", "10".to_owned()),
        ("BRIDGE_CONCURRENCY", "1".to_owned()),
    ]);
    let name = file.to_str().unwrap();
    let args = [
        "replay",
        "--post",
        "--jobs",
        "1",
        "--resume",
        name,
        "s3://logs/cdn/",
    ];
    let output = with_settings(settings.clone(), &args).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).is_empty());
    let left: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(left["left"][0]["rows"], json!([[10, null]]), "{left}");
    assert!(left["left"][0]["object"]["etag"].is_string(), "{left}");
    s3.put("cdn/b", gzip(&log(40)));
    let mut text = String::new();
    while file.exists() {
        let output = with_settings(settings.clone(), &args).await;
        text += &stderr(&output);
    }
    assert!(
        text.contains("s3://logs/cdn/b: it was replaced after part"),
        "{text}"
    );
    assert_eq!(bridge.tally().transactions, 30 + 10 + 30);
}

#[tokio::test]
async fn object_that_is_skipped_on_purpose_is_a_success() {
    let scene = Scene::new(0, 0, at_edge(|_| Reaction::Normal)).await;
    fs::write(scene.path("logs/aws-logs-write-test"), "test").unwrap();
    let log = scene.path("logs/aws-logs-write-test");
    let printed = edgetap(&["replay", log.to_str().unwrap()], &[], b"");
    assert!(printed.status.success(), "{}", stderr(&printed));
    let output = scene.run(&["logs"]).await;
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("skipped object"), "{text}");
    fs::write(scene.path("logs/empty"), "").unwrap();
    let text = stderr(&scene.run(&["logs"]).await);
    assert!(text.contains("error: the log has no data rows\n"), "{text}");
}

#[tokio::test]
async fn requests_that_were_sent_again_are_counted() {
    let scene = Scene::new(1, 30, first(2, || Reaction::status(503))).await;
    let text = stderr(&scene.run(&["logs"]).await);
    assert!(text.contains(", 2 requests sent again\n"), "{text}");
}

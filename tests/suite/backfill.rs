//! `edgetap backfill` and what it is made of, with a fake S3 and a fake SQS.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use edgetap::event::Event;
use edgetap::outbox::{Depth, Outbox, OutboxError};
use serde_json::Value;

use crate::command_line::{stderr, stdout, with_settings};
use crate::support::fake_s3::FakeS3;
use crate::support::fake_sqs::{FakeSqs, OTHER_DEAD_LETTERS, OTHER_WORK, SENT_ENTRY};
use crate::support::{BACKOFF, sdk_config};

const QUEUE: &str = "https://sqs.us-east-1.amazonaws.com/123456789012/other-work";

fn outbox(sqs: &FakeSqs) -> Outbox {
    Outbox::new(&sdk_config(&sqs.endpoint()), QUEUE)
}

fn bodies(sqs: &FakeSqs) -> Vec<String> {
    let messages = sqs.messages().into_iter();
    messages.map(|message| message.body).collect()
}

/// Ten messages, `0` to `9`.
fn ten() -> Vec<String> {
    (0..10).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn only_failed_entries_of_a_batch_are_sent_again() {
    let sqs = FakeSqs::start().await;
    // The entries 3 and 7, and 7 once more.
    sqs.fail(|action, number| action == SENT_ENTRY && [4, 8, 12].contains(&number));
    let sent = outbox(&sqs).send(&ten(), &BACKOFF).await;
    assert!(sent.is_ok(), "{sent:?}");
    let mut bodies = bodies(&sqs);
    assert_eq!(bodies.len(), 10);
    bodies.sort();
    assert_eq!(bodies, ten());
    assert_eq!(sqs.requests("SendMessageBatch"), 3);
    assert_eq!(sqs.requests(SENT_ENTRY), 10 + 2 + 1);
}

#[tokio::test]
async fn refused_entries_end_after_a_few_tries() {
    for (blamed, requests) in [(true, 3), (false, 5)] {
        let sqs = FakeSqs::start().await;
        if blamed {
            sqs.blame("6");
        } else {
            sqs.fail(|action, number| action == SENT_ENTRY && (number == 7 || number > 10));
        }
        let unsent = outbox(&sqs).send(&ten(), &BACKOFF).await.err().unwrap();
        assert_eq!((unsent.first, unsent.accepted), (6, 9), "{unsent:?}");
        assert_eq!(sqs.requests("SendMessageBatch"), requests);
        assert!(
            unsent.error.to_string().contains("SQS refuses a message"),
            "{unsent:?}"
        );
        assert_eq!(bodies(&sqs).len(), 9);
    }
}

#[tokio::test]
async fn failed_request_is_sent_again_until_no_try_is_left() {
    let sqs = FakeSqs::start().await;
    sqs.fail(|action, number| action == "SendMessageBatch" && number <= 4);
    let sent = outbox(&sqs).send(&ten(), &BACKOFF).await;
    assert!(sent.is_ok(), "{sent:?}");
    assert_eq!(bodies(&sqs).len(), 10);
    sqs.fail(|action, _| action == "SendMessageBatch");
    let unsent = outbox(&sqs).send(&ten(), &BACKOFF).await.err().unwrap();
    assert_eq!((unsent.first, unsent.accepted), (0, 0), "{unsent:?}");
}

#[tokio::test]
async fn queue_tells_its_depth_and_its_dead_letters() {
    let sqs = FakeSqs::start().await;
    let outbox = outbox(&sqs);
    let facts = outbox.facts().await.unwrap();
    assert_eq!(facts.dead_letters, OTHER_DEAD_LETTERS);
    assert_eq!(facts.retention.as_secs(), 14 * 24 * 3600);
    for body in ten() {
        sqs.send_to(OTHER_WORK, body);
    }
    sqs.send_to(OTHER_DEAD_LETTERS, "dead".to_owned());
    sqs.send("in another queue".to_owned());
    sqs.receive_batch(3, std::time::Duration::from_mins(1), |_| 0);
    let depth = outbox.depth().await.unwrap();
    assert_eq!(depth.total(), 10);
    let dead = outbox.of_arn(&facts.dead_letters).unwrap();
    let expected = Depth {
        waiting: 1,
        in_flight: 0,
    };
    assert_eq!(dead.depth().await.unwrap(), expected);
    let error = dead.facts().await.err().unwrap();
    assert!(matches!(error, OutboxError::NoDeadLetters(_)), "{error}");
    let nowhere = Outbox::new(
        &sdk_config(&sqs.endpoint()),
        "https://sqs.us-east-1.amazonaws.com/123456789012/none",
    );
    let error = nowhere.facts().await.err().unwrap().to_string();
    assert!(error.contains("the queue does not exist"), "{error}");
}

const ID: &str = "E27FO14I29XXXX";
const OTHER_ID: &str = "E1AAAAAAAAAAA1";
const FOLDER: &str = "AWSLogs/123456789012/CloudFront";
const ALL: &str = "s3://logs/AWSLogs/";

/// The key of a log.
fn key(id: &str, hour: &str, name: &str) -> String {
    format!("{FOLDER}/{id}.{hour}.{name}.gz")
}

/// Stores an object of 1,140 bytes: some ten rows.
fn put(s3: &FakeS3, key: &str, modified: &str, class: &str) {
    let xml = format!(
        "<LastModified>{modified}</LastModified><Size>1140</Size><StorageClass>{class}</StorageClass>"
    );
    s3.put_told(key, "content", &xml);
}

/// An S3 with `objects` logs, of one hour each, named so that no hour is outside of a window.
fn many(s3: &FakeS3, objects: usize) -> BTreeSet<String> {
    let keys = (0..objects).map(|number| {
        let key = key(ID, "2026-11-25-10", &format!("{number:06} +é'\"$"));
        put(s3, &key, "2026-11-25T10:10:00Z", "STANDARD");
        key
    });
    keys.collect()
}

fn variables(s3: &FakeS3, sqs: &FakeSqs) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL_S3", s3.endpoint()),
        ("AWS_ENDPOINT_URL_SQS", sqs.endpoint()),
    ]
}

async fn backfill(s3: &FakeS3, sqs: &FakeSqs, arguments: &[&str]) -> Output {
    let arguments = [&["backfill"], arguments].concat();
    with_settings(variables(s3, sqs), &arguments).await
}

/// How often each object was sent to the queue.
fn sent(sqs: &FakeSqs) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::new();
    for message in sqs.messages() {
        assert_eq!(message.queue, OTHER_WORK);
        let body: Value = serde_json::from_str(&message.body).unwrap();
        let Event::Direct(jobs) = Event::parse(body).unwrap() else {
            panic!("{}", message.body)
        };
        let [job] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!((&*job.object.bucket, job.object.size), ("logs", Some(1140)));
        assert!(job.object.etag.is_some());
        *sent.entry(job.object.key.clone()).or_default() += 1;
    }
    sent
}

fn once<'a>(keys: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, usize> {
    keys.into_iter().map(|key| (key.clone(), 1)).collect()
}

/// Objects of two distributions, and others. Those that are in the window of
/// [`WINDOW`] for the first distribution are returned.
fn assorted(s3: &FakeS3) -> Vec<String> {
    let (standard, on_time) = ("STANDARD", "2026-11-25T10:30:00Z");
    let wanted = [
        key(ID, "2026-11-24-12", "late"),
        key(ID, "2026-11-25-09", "first"),
        key(ID, "2026-11-25-11", "last"),
        format!("{FOLDER}/{ID}/2026/11/25/day.gz"),
    ];
    for key in &wanted {
        put(s3, key, on_time, standard);
    }
    for hour in ["2026-10-01-00", "2026-11-24-11", "2026-11-27-12"] {
        let modified = format!("{}T13:00:00Z", &hour[..10]);
        put(s3, &key(ID, hour, "out"), &modified, standard);
    }
    put(
        s3,
        &key(ID, "2026-11-25-12", "out"),
        "2026-11-25T12:00:00Z",
        standard,
    );
    put(
        s3,
        &key(OTHER_ID, "2026-11-25-10", "other"),
        on_time,
        standard,
    );
    put(
        s3,
        &key(ID, "2026-11-25-10", "archived"),
        on_time,
        "GLACIER",
    );
    put(s3, "AWSLogs/123456789012/WAFLogs/a.gz", on_time, standard);
    put(s3, "AWSLogs/aws-logs-write-test", on_time, standard);
    put(s3, "AWSLogs/", on_time, standard);
    let empty = format!("<LastModified>{on_time}</LastModified><Size>0</Size>");
    s3.put_told(&key(ID, "2026-11-25-10", "empty"), "", &empty);
    wanted.to_vec()
}

const WINDOW: [&str; 4] = [
    "--since",
    "2026-11-25T09:59:59Z",
    "--until",
    "2026-11-25T12:00:00Z",
];

#[tokio::test]
async fn dry_run_counts_estimates_and_sends_nothing() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    s3.list_by(3);
    assorted(&s3);
    let arguments = [&[ALL, "--dry-run", "--distribution", ID], &WINDOW[..]].concat();
    let output = backfill(&s3, &sqs, &arguments).await;
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for words in [
        "DISTRIBUTION    DAY         OBJECTS",
        "E27FO14I29XXXX  2026-11-24        1",
        "E27FO14I29XXXX  2026-11-25        3",
        "4 objects, 4.45 KiB: about 40 rows, 20 transactions in 4 requests\n",
        "1 of another distribution, 1 archived (GLACIER, DEEP_ARCHIVE), 1 empty, 1 of another service, \
         1 as access test, 1 as folder placeholder\n",
        "time: 0.2 s at a concurrency of 2 (0.4 s of Lambda); sending takes <0.1 s at 500 objects a second\n",
        "\ncost: <$0.01 in AWS",
        "\nprices: list prices of us-east-1",
        "\nrows are guessed from sizes; edgetap report s3://logs/AWSLogs/ counts them\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(stderr(&output), "");
    let output = backfill(&s3, &sqs, &[&arguments[..], &["--json"]].concat()).await;
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let estimate = &json["estimate"];
    assert_eq!(estimate["total"]["objects"], 4);
    assert_eq!(estimate["days"][1]["day"], "2026-11-25");
    assert_eq!(estimate["not_sent"]["archived"], 1);
    assert_eq!(sqs.sent(), 0);
}

#[tokio::test]
async fn selected_objects_are_sent_once_to_the_named_queue() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    s3.list_by(3);
    let wanted = assorted(&s3);
    let arguments = [ALL, "--queue", QUEUE, "--yes", "--distribution", ID];
    let output = backfill(&s3, &sqs, &[&arguments, &WINDOW[..]].concat()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(sent(&sqs), once(&wanted));
    assert_eq!(stderr(&output), "sent 4 messages\n");
}

#[tokio::test]
async fn before_the_enabling_is_what_no_event_was_sent_for() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    for id in [ID, OTHER_ID] {
        for modified in [
            "2026-11-25T09:59:59Z",
            "2026-11-25T10:00:00Z",
            "2026-11-25T10:00:01Z",
        ] {
            let name = modified.replace(':', "-");
            put(&s3, &key(id, "2026-11-25-09", &name), modified, "STANDARD");
        }
    }
    let base = [ALL, "--queue", QUEUE, "--yes", "--until", "enabled"];
    let of_one = format!("{ID}=2026-11-25T10:00:00Z");
    for (arguments, words) in [
        (
            &[][..],
            "needs the time at which distributions were enabled",
        ),
        (
            &["--enabled-at", &of_one][..],
            "were enabled: E1AAAAAAAAAAA1\n  hint: pass --enabled-at ID=TIME",
        ),
        (
            &["--enabled-at", &of_one, "--enabled-at", &of_one],
            "is given twice for E27FO14I29XXXX",
        ),
        (
            &["--enabled-at", "x=2026-11-25"],
            "not the ID of a distribution",
        ),
    ] {
        let output = backfill(&s3, &sqs, &[&base, arguments].concat()).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(sqs.sent(), 0, "{arguments:?}");
    }
    let others = [
        "--enabled-at",
        &of_one,
        "--enabled-at",
        "2026-11-25T10:00:01Z",
    ];
    let output = backfill(&s3, &sqs, &[&base, &others[..]].concat()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let wanted = [
        key(ID, "2026-11-25-09", "2026-11-25T09-59-59Z"),
        key(OTHER_ID, "2026-11-25-09", "2026-11-25T09-59-59Z"),
        key(OTHER_ID, "2026-11-25-09", "2026-11-25T10-00-00Z"),
    ];
    assert_eq!(sent(&sqs), once(&wanted));
}

#[tokio::test]
async fn nothing_is_sent_without_an_answer() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    many(&s3, 1);
    let output = backfill(&s3, &sqs, &[ALL, "--queue", QUEUE]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("without a terminal"),
        "{}",
        stderr(&output)
    );
    assert_eq!((sqs.sent(), s3.pages()), (0, 0));
}

#[tokio::test]
async fn wrong_arguments_and_places_are_clear_errors() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    many(&s3, 1);
    let base = "https://sqs.us-east-1.amazonaws.com/123456789012";
    let (none, dead) = (format!("{base}/none"), format!("{base}/other-dead-letters"));
    for (arguments, status, words) in [
        (&["logs", "--dry-run"][..], 2, "`logs` is not in S3"),
        (&["s3://", "--dry-run"], 1, "the bucket is missing"),
        (&[ALL], 2, "--queue <URL>"),
        (
            &["s3://logs/none/", "--dry-run"],
            1,
            "no objects below s3://logs/none/",
        ),
        (
            &[ALL, "--yes", "--queue", &none],
            1,
            "the queue does not exist",
        ),
        (&[ALL, "--yes", "--queue", &dead], 1, "no dead-letter queue"),
        (
            &[
                ALL,
                "--dry-run",
                "--since",
                "2026-11-25",
                "--until",
                "2026-11-24",
            ],
            2,
            "`--since` must be before",
        ),
        (
            &[ALL, "--dry-run", "--enabled-at", "2026-11-25"],
            2,
            "`--enabled-at` is for `--until enabled` only",
        ),
        (&[ALL, "--dry-run", "--rate", "0"], 2, "--rate <N>"),
        (&[ALL, "--dry-run", "--since", "soon"], 2, "not a time"),
    ] {
        let output = backfill(&s3, &sqs, arguments).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    s3.reject_lists(
        301,
        "PermanentRedirect",
        Some(("x-amz-bucket-region", "eu-west-1")),
    );
    let output = backfill(&s3, &sqs, &[ALL, "--dry-run"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("the region of the bucket is eu-west-1"),
        "{}",
        stderr(&output)
    );
    let mut without = variables(&s3, &sqs);
    without.retain(|(name, _)| !name.contains("KEY"));
    without.push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
    let output = with_settings(without, &["backfill", ALL, "--dry-run"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("Sign in to AWS"),
        "{}",
        stderr(&output)
    );
    let output = backfill(&s3, &sqs, &[ALL, "--dry-run", "--after", "AWSLogs/2"]).await;
    assert_eq!(output.status.code(), Some(1), "S3 still rejects lists");
    assert_eq!(sqs.sent(), 0);
}

/// Runs a command that was printed, with bash, as an operator would.
async fn run_printed(s3: &FakeS3, sqs: &FakeSqs, printed: &str) -> Output {
    let command = printed
        .lines()
        .find_map(|line| line.strip_prefix("  edgetap "));
    let binary = Path::new(env!("CARGO_BIN_EXE_edgetap"));
    let script = format!("{} {}", binary.display(), command.unwrap());
    let variables = variables(s3, sqs);
    let run = move || {
        Command::new("bash")
            .args(["-c", &script])
            .env_clear()
            .envs(variables)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn failure_names_the_last_key_and_how_to_go_on() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    let keys = many(&s3, 60);
    sqs.blame("000023");
    let base = [ALL, "--queue", QUEUE, "--yes", "--json"];
    let output = backfill(&s3, &sqs, &base).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: cannot send to the queue"), "{text}");
    assert!(text.contains("(InvalidMessageContents)"), "{text}");
    let json = stdout(&output);
    let told: Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
    let last = keys.iter().nth(22).unwrap();
    assert_eq!(told["sent"]["last_key"], *last);
    assert_eq!(told["sent"]["complete"], false);
    let before = sent(&sqs);
    assert!(keys.iter().take(23).all(|key| before[key] == 1));
    assert_eq!(told["sent"]["messages"], before.len());

    sqs.blame("");
    let output = run_printed(&s3, &sqs, &text).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let after = sent(&sqs);
    assert!(after.keys().eq(&keys), "every object was sent");
    let twice = after.values().filter(|times| **times == 2).count();
    assert_eq!(twice, before.len() - 23, "what was in flight behind it");
}

#[tokio::test]
async fn listing_that_fails_midway_is_no_success() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    let keys = many(&s3, 60);
    s3.list_by(20);
    s3.deny_lists_after(Some(4)); // three pages are counted, and one is sent
    let output = backfill(&s3, &sqs, &[ALL, "--queue", QUEUE, "--yes"]).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("access denied"), "{text}");
    assert!(sent(&sqs).keys().eq(keys.iter().take(20)), "{text}");

    s3.deny_lists_after(None);
    let output = run_printed(&s3, &sqs, &text).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(sent(&sqs).keys().eq(&keys), "every object was sent");
    assert!(sent(&sqs).values().all(|times| *times == 1));
}

/// Waits until a condition holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn spawn(s3: &FakeS3, sqs: &FakeSqs, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_edgetap"))
        .arg("backfill")
        .args(arguments)
        .env_clear()
        .envs(variables(s3, sqs))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn interrupt(child: &Child) {
    signal(child, "-INT");
}

fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let kill = Command::new("kill").args([signal, &pid]).status().unwrap();
    assert!(kill.success());
}

async fn end(mut child: Child) -> (String, ExitStatus) {
    let wait = move || {
        let mut text = String::new();
        child.stdout.take();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        (text, child.wait().unwrap())
    };
    tokio::task::spawn_blocking(wait).await.unwrap()
}

#[tokio::test]
async fn interrupted_backfill_goes_on_after_the_last_key() {
    for name in ["-INT", "-TERM"] {
        let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
        s3.list_by(7);
        let keys = many(&s3, 60);
        // The rate would take a minute, and longer than the test waits for anything.
        let options = ["--yes", "--json", "--rate", "1", "--since", "2026-01-01"];
        let arguments = [&[ALL, "--queue", QUEUE], &options[..]].concat();
        let mut child = spawn(&s3, &sqs, &arguments);
        until("some messages", || sqs.sent() >= 3).await;
        child.stdout.take(); // what reads it has ended
        signal(&child, name);
        let (text, status) = end(child).await;
        assert_eq!(status.code(), Some(130), "{name}: {text}");
        let before = sent(&sqs);
        assert!((3..60).contains(&before.len()), "{text}");
        assert!(
            before.keys().eq(keys.iter().take(before.len())),
            "in the order of keys"
        );
        assert!(text.contains("--since 2026-01-01T00:00:00Z"), "{text}");
        let faster = text.replace("--rate 1 ", "--rate 1000 ");
        let output = run_printed(&s3, &sqs, &faster).await;
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(sent(&sqs), once(&keys), "each object once");
    }
}

#[tokio::test]
async fn queue_of_new_logs_is_refused() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    many(&s3, 1);
    let live = QUEUE.replace("other-work", "edgetap-work");
    let output = backfill(&s3, &sqs, &[ALL, "--queue", &live, "--yes"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let words = "the queue receives the events of new logs";
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
    assert_eq!(sqs.sent(), 0);
}

#[tokio::test]
async fn wait_follows_what_an_earlier_run_has_sent() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    many(&s3, 1);
    sqs.send_to(OTHER_WORK, "sent before".to_owned());
    let options = ["--after", "B", "--yes", "--wait", "--look-every", "20"];
    let arguments = [&[ALL, "--queue", QUEUE], &options[..]].concat();
    let child = spawn(&s3, &sqs, &arguments);
    until("looks", || sqs.requests("GetQueueAttributes") > 5).await;
    for record in sqs.receive_batch(1, Duration::from_mins(30), |_| 0) {
        sqs.acknowledge(&record);
    }
    let (text, status) = end(child).await;
    assert!(status.success(), "{text}");
    for words in ["nothing to send\n", "the queue is empty; 0 dead letters"] {
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn wait_ends_with_the_new_dead_letters() {
    let base = [
        ALL,
        "--queue",
        QUEUE,
        "--yes",
        "--wait",
        "--look-every",
        "20",
    ];
    for new in [0, 2] {
        let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
        many(&s3, 12);
        sqs.send_to(OTHER_DEAD_LETTERS, "an old one".to_owned());
        let child = spawn(&s3, &sqs, &base);
        until("all messages", || sqs.sent() >= 13).await;
        let looks = sqs.requests("GetQueueAttributes");
        until("a look", || sqs.requests("GetQueueAttributes") > looks + 2).await;
        for _ in 0..new {
            sqs.send_to(OTHER_DEAD_LETTERS, "a new one".to_owned());
        }
        for record in sqs.receive_batch(12, Duration::from_mins(30), |_| 0) {
            sqs.acknowledge(&record);
        }
        let (text, status) = end(child).await;
        if new == 0 {
            assert!(status.success(), "{text}");
            assert!(text.contains("1 dead letters, none of them new"), "{text}");
        } else {
            assert_eq!(status.code(), Some(1), "{text}");
            assert!(
                text.contains("2 of its messages became dead letters"),
                "{text}"
            );
            assert!(
                text.contains("redrive.sh --queue backfill --dry-run"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn wait_says_that_nothing_moves_and_ends_by_ctrl_c() {
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    many(&s3, 1);
    let child = spawn(
        &s3,
        &sqs,
        &[
            ALL,
            "--queue",
            QUEUE,
            "--yes",
            "--wait",
            "--look-every",
            "5",
        ],
    );
    until("many looks", || sqs.requests("GetQueueAttributes") > 40).await;
    interrupt(&child);
    let (text, status) = end(child).await;
    assert_eq!(status.code(), Some(130), "{text}");
    let told = text
        .matches("no message is being received from the queue")
        .count();
    assert_eq!(told, 1, "{text}");
    assert!(
        text.ends_with("stopped waiting; the function goes on with the queue\n"),
        "{text}"
    );
    assert_eq!(sent(&sqs).len(), 1);
}

/// The peak memory behind a tenth of the keys is that at their end: neither pass holds them.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn memory_does_not_grow_with_the_number_of_keys() {
    const KEYS: usize = 100_000;
    let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
    for number in 0..KEYS {
        let id = if number % 100 == 0 { ID } else { OTHER_ID };
        let key = format!("{FOLDER}/{number:06}/{}", key(id, "2026-11-25-10", "a"));
        s3.put(&key, "x");
    }
    let mut child = spawn(
        &s3,
        &sqs,
        &[
            ALL,
            "--queue",
            QUEUE,
            "--yes",
            "--rate",
            "100000",
            "--distribution",
            ID,
        ],
    );
    let status = format!("/proc/{}/status", child.id());
    let (mut early, mut late) = (0, 0);
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        });
        if let Some(peak) = peak {
            late = peak;
            if s3.pages() <= KEYS / 1_000 / 10 {
                early = peak;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (text, status) = end(child).await;
    assert!(status.success(), "{text}");
    assert_eq!((sqs.sent(), s3.pages()), (1_000, 200));
    println!("peak memory: {early} kB, then {late} kB");
    assert!(
        early > 0 && late < early + 8_192,
        "{early} kB, then {late} kB"
    );
}

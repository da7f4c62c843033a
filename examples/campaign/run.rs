//! *Run*: logs in S3, messages in the work queues, and functions that poll them until they are
//! empty.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgetap::batch::Limits;
use edgetap::local_bridge::{LocalBridge, Options};
use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::bridge::{Bridge, Quota};
use crate::check::check;
use crate::claims::Repeated;
use crate::evidence::{Accepted, Evidence, Invocation, Letter, Message};
use crate::faults::Faults;
use crate::identity::{CLIENT_ID, CLIENT_SECRET, Identity};
use crate::logs::Log;
use crate::receiver::{AWS_SECRET, Ending, Receiver, Settings, urls};
use crate::support::fake_s3::{FakeS3, Fault};
use crate::support::fake_sqs::{FakeSqs, OTHER_WORK, Queued, WORK};
use crate::support::fault_proxy::FaultProxy;
use crate::support::{CapturedLogs, rules, s3_event, start};
use crate::weather::{Trouble, Weather, refusal};

/// Invocations after which faults cease.
const FAULTY_INVOCATIONS: usize = 25;
/// Invocations after which a run that has not ended loops.
const MAX_INVOCATIONS: usize = 1000;
/// How long a message is hidden by who receives it.
const VISIBILITY: Duration = Duration::from_mins(30);
/// The deadline of an invocation that is not in a hurry.
const PLENTY: Duration = Duration::from_secs(20);
/// Longer than a function takes for any object but the one that it still reads.
const STRAGGLER: Duration = Duration::from_mins(1);
/// The most messages of an event.
const MOST_MESSAGES: usize = 10;

/// The result of a run.
#[derive(Default)]
pub(crate) struct Run {
    pub evidence: Evidence,
    pub killed: usize,
    pub is_process: bool,
    pub redriven: usize,
    pub repeated: Repeated,
    pub violations: Vec<String>,
}

/// Runs one seed, with the real process if `bootstrap` is its path, and with the given troubles or
/// random ones.
pub(crate) async fn run(seed: u64, bootstrap: Option<&Path>, only: Option<&[Trouble]>) -> Run {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::INFO);
    let weather = Weather::random(only, bootstrap.is_some(), &mut rng);
    let mut scene = Scene::new(seed, bootstrap, weather, lines, &mut rng).await;
    scene.put_logs(&mut rng);
    if scene.weather().has(Trouble::Straggler) {
        scene.kill_beside_straggler(&mut rng).await;
    }
    for _ in 0..FAULTY_INVOCATIONS {
        if !scene.invoke_with_faults(&mut rng).await {
            break;
        }
    }
    scene.bridge.faults.stop();
    if let Some(identity) = &scene.bridge.identity {
        identity.store();
    }
    scene.open_fault_proxies().await;
    if scene.run.is_process {
        // The process does not use the queues' clock: what the bridge refuses would never reach
        // RETRY_FOR.
        scene.bridge.accept_all();
    }
    scene.drain().await;
    let evidence = &mut scene.run.evidence;
    evidence.before_redrive = evidence.invocations.len();
    evidence.dead_letters = letters(&scene.sqs.dead_letters());
    let bodies = scene.sqs.dead_letters().into_iter().map(|it| it.body);
    evidence.output.extend(bodies);

    // Repair everything and redrive the dead letters.
    scene.bridge.accept_all();
    scene.repair_logs();
    scene.redrive();
    scene.drain().await;
    scene.run.evidence.dead_letters_left = letters(&scene.sqs.dead_letters());
    scene.finish()
}

/// The functions and everything around them.
struct Scene {
    s3: FakeS3,
    sqs: FakeSqs,
    local_bridge: LocalBridge,
    bridge: Arc<Bridge>,
    /// To S3, SQS, the bridge and the token endpoint.
    fault_proxies: [FaultProxy; 4],
    receivers: [Receiver; 2],
    /// The most messages of an event.
    messages: usize,
    lines: CapturedLogs,
    current: Vec<usize>,
    run: Run,
}

/// What befalls an invocation.
#[derive(Clone, Copy)]
struct Fate {
    time_left: Duration,
    killed: Killed,
}

#[derive(Clone, Copy)]
enum Killed {
    Never,
    After(Duration),
    /// Once this many messages of the event are done with.
    Done(u64),
}

const CALM: Fate = Fate {
    time_left: PLENTY,
    killed: Killed::Never,
};

impl Scene {
    async fn new(
        seed: u64,
        bootstrap: Option<&Path>,
        weather: Weather,
        lines: CapturedLogs,
        rng: &mut StdRng,
    ) -> Self {
        let is_stormy = weather.has(Trouble::Storm);
        let faults = Arc::new(Faults::new(seed, is_stormy));
        // Some tokens expire during the run.
        let token_lifetime = Duration::from_secs([1, 2, 1800][rng.random_range(0..3)]);
        let identity = if weather.has(Trouble::Rotation) {
            Some(Identity::start(token_lifetime, rng).await)
        } else {
            None
        };
        let (s3, sqs) = (FakeS3::start().await, FakeSqs::start().await);
        let refused = if weather.has(Trouble::Poison) {
            refused(rng)
        } else {
            BTreeMap::new()
        };
        let halves = weather.has(Trouble::Poison) || weather.has(Trouble::Limit);
        let quota = Quota {
            // Enough to halve a batch down to single transactions.
            requests: rng.random_range(if halves { 40..80 } else { 2..8 }),
            every: SignedDuration::from_secs(rng.random_range(30..900)),
        };
        let outage_after = rng.random_range(1..20);
        let bridge = Arc::new(Bridge::new(
            weather.clone(),
            sqs.clock(),
            faults.clone(),
            identity,
            refused.clone(),
            quota,
            outage_after,
        ));
        let local_bridge = start(&options(&bridge, token_lifetime)).await;
        let (of_s3, of_sqs) = (faults.clone(), faults.clone());
        s3.react(move || of_s3.s3());
        sqs.misbehave(move |action, _| of_sqs.queue(action));
        let fault_proxy = |to| {
            let faults = faults.clone();
            FaultProxy::start(to, move || faults.fault_proxy())
        };
        let fault_proxies = [
            fault_proxy(s3.address()).await,
            fault_proxy(sqs.address()).await,
            fault_proxy(local_bridge.address()).await,
            fault_proxy(local_bridge.address()).await,
        ];
        let settings = Settings {
            urls: urls(&fault_proxies),
            secrets_manager: bridge.identity.as_ref().map(Identity::secrets_manager),
            clock: sqs.clock(),
            limits: Limits {
                transactions: rng.random_range(1..30),
                bytes: rng.random_range(1000..20_000),
            },
            concurrency: rng.random_range(1..6),
            // In a storm it ends what fails for good after a few invocations.
            retry_for: if is_stormy && !weather.has(Trouble::Quota) {
                SignedDuration::from_hours(3)
            } else {
                SignedDuration::from_hours(24)
            },
            s3_timeout: if weather.has(Trouble::Straggler) {
                STRAGGLER * 2
            } else {
                Duration::from_millis(250)
            },
            bootstrap: bootstrap.map(Path::to_owned),
        };
        let evidence = Evidence {
            making: rules(settings.limits).making(),
            concurrency: settings.concurrency,
            weather,
            refused,
            ..Evidence::default()
        };
        Self {
            s3,
            sqs,
            local_bridge,
            bridge,
            fault_proxies,
            receivers: [Receiver::new(settings.clone()), Receiver::new(settings)],
            messages: [1, 2, 5, MOST_MESSAGES][rng.random_range(0..4)],
            lines,
            current: Vec::new(),
            run: Run {
                evidence,
                is_process: bootstrap.is_some(),
                ..Run::default()
            },
        }
    }

    fn weather(&self) -> &Weather {
        &self.run.evidence.weather
    }

    /// Puts a few large logs or many small ones.
    fn put_logs(&mut self, rng: &mut StdRng) {
        let is_small = self.weather().has(Trouble::Outage) || rng.random_bool(0.3);
        let (logs, rows) = if is_small || self.weather().has(Trouble::Straggler) {
            (rng.random_range(5..12), 20)
        } else {
            (rng.random_range(1..4), 120)
        };
        for _ in 0..logs {
            self.put_log(rows, rng);
        }
        if rng.random_bool(0.2) {
            let keys: Vec<&str> = self.run.evidence.logs.iter().map(|log| &*log.key).collect();
            self.sqs.send(s3_event(&keys).to_string());
        }
    }

    fn put_log(&mut self, rows: u64, rng: &mut StdRng) {
        let log = Log::random(self.current.len(), rows, self.sqs.clock().now(), rng);
        self.s3.put(&log.key, log.versions[0].bytes.clone());
        let queue = if rng.random_bool(0.7) {
            WORK
        } else {
            OTHER_WORK
        };
        for _ in 0..if rng.random_bool(0.3) { 2 } else { 1 } {
            self.sqs.send_to(queue, s3_event(&[&log.key]).to_string());
        }
        self.run.evidence.logs.push(log);
        self.current.push(0);
    }

    /// Replaces truncated and corrupt logs with intact ones.
    fn repair_logs(&mut self) {
        for (log, current) in self
            .run
            .evidence
            .logs
            .iter()
            .zip(&mut self.current)
            .filter(|(log, _)| !log.is_whole())
        {
            *current = log.versions.len() - 1;
            self.s3.put(&log.key, log.versions[*current].bytes.clone());
        }
    }

    fn redrive(&mut self) {
        self.run.redriven += self.sqs.dead_letters().len();
        self.sqs.redrive();
    }

    async fn open_fault_proxies(&self) {
        for fault_proxy in &self.fault_proxies {
            fault_proxy.open().await;
        }
    }

    /// Runs one invocation, or two concurrent ones, with faults. Returns `false` if the queues are
    /// empty.
    async fn invoke_with_faults(&mut self, rng: &mut StdRng) -> bool {
        self.change(rng);
        if self.sqs.wait_for_next().is_none() {
            return false;
        }
        for fault_proxy in &self.fault_proxies {
            if fault_proxy.is_open() && self.bridge.faults.closes_fault_proxy() {
                fault_proxy.close();
            } else if rng.random_bool(0.5) {
                fault_proxy.open().await;
            }
        }
        let first = (self.sqs).receive_batch(self.messages, VISIBILITY, |visible| {
            rng.random_range(0..visible)
        });
        let mut events = vec![(first, self.fate(rng))];
        if rng.random_bool(0.15) {
            let second = self.receive_beside(&events[0].0, rng);
            if !second.is_empty() {
                events.push((second, self.fate(rng)));
            }
        }
        self.invoke(events).await;
        true
    }

    /// Changes what the weather changes between invocations.
    fn change(&mut self, rng: &mut StdRng) {
        let is_stormy = self.weather().has(Trouble::Storm);
        if is_stormy && rng.random_bool(0.03) {
            self.redrive();
        }
        if let Some(identity) = &self.bridge.identity {
            match rng.random_range(0..8) {
                0 => identity.rotate(rng),
                1 | 2 => identity.store(),
                3 => identity.revoke_tokens(),
                _ => {}
            }
        } else if is_stormy && rng.random_bool(0.05) {
            self.local_bridge.revoke_tokens();
        }
        // An object that arrives later, also while nothing is delivered.
        if self.current.len() < 14 && rng.random_bool(0.2) {
            self.put_log(20, rng);
        }
    }

    /// Receives messages for a second environment. SQS may deliver a message twice, and two messages
    /// may name the same object.
    fn receive_beside(&self, first: &[Value], rng: &mut StdRng) -> Vec<Value> {
        if rng.random_bool(0.5) {
            let other = self.sqs.receive_batch(self.messages, VISIBILITY, |_| 0);
            if !other.is_empty() {
                return other;
            }
        }
        if !self.weather().has(Trouble::Storm) {
            return Vec::new();
        }
        let again = |record| (self.sqs).receive_again(text(record, "messageId"), VISIBILITY);
        first.iter().filter_map(again).collect()
    }

    fn fate(&self, rng: &mut StdRng) -> Fate {
        let most = if rng.random_bool(0.1) { 1500 } else { 400 };
        let is_hurried = self.weather().has(Trouble::Storm) || self.weather().has(Trouble::Hurry);
        let time_left = Duration::from_millis(rng.random_range(1..most));
        let killed = Duration::from_millis(rng.random_range(1..150));
        Fate {
            time_left: if is_hurried { time_left } else { PLENTY },
            killed: if self.bridge.faults.kills() {
                Killed::After(killed)
            } else {
                Killed::Never
            },
        }
    }

    /// Kills the function while one object of an event is still read, and everything else of the
    /// event is done with.
    async fn kill_beside_straggler(&mut self, rng: &mut StdRng) {
        self.sqs.wait_for_next();
        let records = (self.sqs).receive_batch(MOST_MESSAGES, VISIBILITY, |visible| {
            rng.random_range(0..visible)
        });
        if records.len() < 2 {
            return;
        }
        let straggler = self.s3.gets().len() + rng.random_range(0..records.len());
        self.s3.fail(straggler, Fault::Stall(0, STRAGGLER * 2));
        let fate = Fate {
            killed: Killed::Done(records.len() as u64 - 1),
            ..CALM
        };
        self.invoke(vec![(records, fate)]).await;
        if !self
            .run
            .evidence
            .invocations
            .iter()
            .any(|one| one.was_killed)
        {
            let violation = "messages were not done with while another object was still read";
            self.run.evidence.violations.push(violation.to_owned());
        }
    }

    /// Invokes the function without faults until the queues are empty.
    async fn drain(&mut self) {
        for _ in 0..MAX_INVOCATIONS {
            if self.sqs.wait_for_next().is_none() {
                return;
            }
            let records = self.sqs.receive_batch(self.messages, VISIBILITY, |_| 0);
            self.invoke(vec![(records, CALM)]).await;
        }
        self.run.evidence.violations.push(format!(
            "the queues never become empty: {:?}",
            self.sqs.messages()
        ));
    }

    /// Invokes the function with an event, or two environments with one each.
    async fn invoke(&mut self, events: Vec<(Vec<Value>, Fate)>) {
        let before = self.marks();
        let time = self.sqs.clock().now();
        self.bridge.begin_invocation();
        self.bridge.take_lost();
        self.bridge.take_asked();
        let done = self.done();
        let sqs = &self.sqs;
        let endings =
            (self.receivers.iter_mut().zip(&events)).map(|(receiver, (records, fate))| {
                let kill = killed(sqs, fate.killed, done);
                Box::pin(receiver.invoke(records, fate.time_left, kill))
            });
        let endings = futures_util::future::join_all(endings).await;
        self.settle().await;
        let mut invocation = Invocation {
            time,
            current: self.current.clone(),
            environments: events.len(),
            lost: self.bridge.take_lost(),
            asked: self.bridge.take_asked(),
            ..Invocation::default()
        };
        for ((records, _), ending) in events.iter().zip(endings) {
            match ending {
                Ending::Responded { failed, is_late } => {
                    invocation.is_late |= is_late;
                    for record in records {
                        if !failed.iter().any(|id| id == text(record, "messageId")) {
                            self.sqs.acknowledge(record);
                        }
                    }
                }
                Ending::Killed => invocation.was_killed = true,
                Ending::Failed(how) => self.run.evidence.violations.push(how),
            }
        }
        self.run.killed += usize::from(invocation.was_killed);
        self.observe(&before, &events, &mut invocation);
        self.run.evidence.invocations.push(invocation);
        if self.weather().has(Trouble::Quota) {
            // An environment waits by its own clock, which the queues' clock does not advance.
            self.receivers.iter_mut().for_each(Receiver::end);
        }
    }

    /// How many messages the function is done with, or delayed.
    fn done(&self) -> u64 {
        ["DeleteMessage", "ChangeMessageVisibility"]
            .iter()
            .map(|action| self.sqs.requests(action))
            .sum()
    }

    /// Notes what happened since the marks.
    fn observe(&self, before: &Marks, events: &[(Vec<Value>, Fate)], invocation: &mut Invocation) {
        let left = self.sqs.messages();
        let left: BTreeSet<&str> = left.iter().map(|message| &*message.id).collect();
        let records = events.iter().flat_map(|(records, _)| records);
        invocation.messages = records
            .flat_map(|record| messages(record, !left.contains(text(record, "messageId"))))
            .collect();
        let after = self.marks();
        let is_closed = usize::from(!self.fault_proxies[1].is_open());
        let queue_disturbances = after.queue_disturbances - before.queue_disturbances + is_closed;
        invocation.failed_sends = after.failed_sends - before.failed_sends + queue_disturbances;
        invocation.queue_failures =
            after.queue_failures - before.queue_failures + queue_disturbances;
        invocation.disturbances = after.disturbances - before.disturbances;
        let sent: Vec<Queued> = (self.sqs.messages().into_iter())
            .chain(self.sqs.dead_letters())
            .filter(|message| number_of(message) > before.sent)
            .collect();
        invocation.sent = letters(&sent);
        invocation.accepted = self.local_bridge.received()[before.received..]
            .iter()
            .map(|batch| Accepted {
                key: batch.key.clone(),
                body: batch.body.to_vec(),
                ids: (batch.transactions.iter())
                    .map(|transaction| transaction.transaction_id.clone())
                    .collect(),
            })
            .collect();
        invocation.lines = (!self.run.is_process).then(|| {
            self.lines.text()[before.lines..]
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        });
    }

    /// Waits until nothing is in transit. Everything runs on this thread.
    async fn settle(&self) {
        // Abandoned requests may still reach the queue and the bridge.
        while !self.fault_proxies[1].is_quiet() || !self.fault_proxies[2].is_quiet() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..if self.run.is_process { 10 } else { 4 } {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn marks(&self) -> Marks {
        Marks {
            received: self.local_bridge.received().len(),
            lines: self.lines.text().len(),
            sent: self.sqs.sent(),
            disturbances: self.fault_proxies[2].disturbances(),
            queue_disturbances: self.fault_proxies[1].disturbances(),
            failed_sends: self.bridge.faults.failed_sends(),
            queue_failures: self.bridge.faults.queue_failures(),
        }
    }

    fn finish(mut self) -> Run {
        let evidence = &mut self.run.evidence;
        evidence
            .secrets
            .extend([CLIENT_SECRET, AWS_SECRET].map(str::to_owned));
        evidence
            .secrets
            .extend(self.fault_proxies.iter().flat_map(FaultProxy::bearers));
        evidence
            .output
            .extend(self.lines.text().lines().map(str::to_owned));
        for mut receiver in self.receivers {
            receiver.end();
            evidence.output.extend(receiver.output);
        }
        (self.run.violations, self.run.repeated) = check(&self.run.evidence);
        self.run
    }
}

/// Counters before and after an invocation.
struct Marks {
    received: usize,
    lines: usize,
    sent: u64,
    disturbances: usize,
    queue_disturbances: usize,
    failed_sends: usize,
    queue_failures: usize,
}

/// Returns when an invocation is killed. `done` is the number of messages done with before it.
async fn killed(sqs: &FakeSqs, killed: Killed, done: u64) {
    match killed {
        Killed::Never => std::future::pending().await,
        Killed::After(time) => tokio::time::sleep(time).await,
        Killed::Done(messages) => {
            let now = || sqs.requests("DeleteMessage") + sqs.requests("ChangeMessageVisibility");
            while now() < done + messages {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Returns transactions that the bridge refuses for their content, and the status of each: mostly a
/// few, now and then every third one of a log.
fn refused(rng: &mut StdRng) -> BTreeMap<String, u16> {
    let count = [2, 4, 8, 40][rng.random_range(0..4)];
    let one = rng.random_bool(0.5).then(|| refusal(rng));
    (0..count)
        .map(|_| {
            let log = rng.random_range(0..if count > 8 { 1 } else { 3 });
            let id = format!("log-{log}-{}", rng.random_range(0..100));
            (id, one.unwrap_or_else(|| refusal(rng)))
        })
        .collect()
}

fn options(bridge: &Arc<Bridge>, token_lifetime: Duration) -> Options {
    let (reacting, identifying) = (bridge.clone(), bridge.clone());
    let mut options = Options {
        client_id: CLIENT_ID.to_owned(),
        client_secret: CLIENT_SECRET.to_owned(),
        token_lifetime,
        react: Arc::new(move |arrival| reacting.react(arrival)),
        ..Options::default()
    };
    if bridge.identity.is_some() {
        options.authorize = Some(Arc::new(move |token| {
            let identity = identifying.identity.as_ref();
            let is_valid = identity.is_some_and(|identity| identity.is_valid(&token));
            Box::pin(async move { is_valid })
        }));
    }
    options
}

/// Returns the objects that a record names.
fn messages(record: &Value, done: bool) -> Vec<Message> {
    let body: Value = serde_json::from_str(text(record, "body")).unwrap();
    let message = |object: &Value, rows: Value, objects| Message {
        id: text(record, "messageId").to_owned(),
        queue: text(record, "eventSourceARN").to_owned(),
        key: text(object, "key").to_owned(),
        etag: object["etag"].as_str().map(str::to_owned),
        rows: serde_json::from_value(rows).unwrap(),
        objects,
        done,
    };
    match body["Records"].as_array() {
        Some(records) => records
            .iter()
            .map(|one| {
                message(
                    &one["s3"]["object"],
                    serde_json::json!([[0, null]]),
                    records.len(),
                )
            })
            .collect(),
        None => vec![message(&body["object"], body["rows"].clone(), 1)],
    }
}

/// Returns the function's messages. S3's notifications are skipped.
fn letters(messages: &[Queued]) -> Vec<Letter> {
    messages.iter().filter_map(Letter::read).collect()
}

fn number_of(message: &Queued) -> u64 {
    message
        .id
        .rsplit('-')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
}

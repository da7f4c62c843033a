//! One run: logs in S3, messages in the work queue, and functions that poll it until it is empty.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use edgetap::batch::Limits;
use edgetap::bridge::{Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::invocation::{Context, Function, RESERVE};
use edgetap::job::{Continuation, RowRanges};
use edgetap::local_bridge::{EDGE_PATH, LocalBridge, Options, TOKEN_PATH};
use edgetap::source::S3;
use edgetap::time::Deadline;
use edgetap::token::{AuthMethod, TokenParameters};
use edgetap::work_queue::WorkQueue;
use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::check::{Accepted, Evidence, Invocation, Message, check};
use crate::faults::Faults;
use crate::logs::Log;
use crate::runtime_api::{Outcome, Process, RuntimeApi};
use crate::support::fake_s3::FakeS3;
use crate::support::fake_sqs::{FakeSqs, Queued};
use crate::support::fault_proxy::FaultProxy;
use crate::support::{BACKOFF, CapturedLogs, rules, s3_event, sdk_config, start};

/// Invocations after which faults cease.
const FAULTY_INVOCATIONS: usize = 25;
/// Invocations after which a run that has not ended loops.
const MAX_INVOCATIONS: usize = 300;
/// How long a message is hidden by who receives it.
const VISIBILITY: Duration = Duration::from_mins(30);
/// The function's timeout for S3, short so that runs stay short.
const S3_PATIENCE: Duration = Duration::from_millis(250);

const CLIENT_ID: &str = "campaign";
const CLIENT_SECRET: &str = "canary-secret-campaign";
const AWS_SECRET: &str = "canary-aws-secret-campaign";

/// The result of a run.
#[derive(Default)]
pub(crate) struct Run {
    pub evidence: Evidence,
    pub killed: usize,
    pub is_process: bool,
    pub redriven: usize,
    /// Log lines, responses and dead letters.
    pub output: Vec<String>,
    pub violations: Vec<String>,
}

/// Runs one seed, with the real process if `bootstrap` is its path.
pub(crate) async fn run(seed: u64, bootstrap: Option<&Path>) -> Run {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
    let (lines, _listening) = CapturedLogs::capture(tracing::Level::INFO);
    let mut scene = Scene::new(seed, bootstrap, lines, &mut rng).await;
    scene.put_logs(&mut rng);

    for _ in 0..FAULTY_INVOCATIONS {
        if !scene.invoke_with_faults(&mut rng).await {
            break;
        }
    }
    scene.faults.stop();
    scene.open_fault_proxies().await;
    if scene
        .receivers
        .iter()
        .any(|receiver| matches!(receiver, Receiver::Process(_)))
    {
        // The process does not use the queue's clock: permanent rejections would never reach
        // RETRY_FOR.
        scene.faults.accept_all();
    }
    scene.drain().await;
    let evidence = &mut scene.run.evidence;
    evidence.before_redrive = evidence.invocations.len();
    evidence.dead_letters = continuations(&scene.sqs.dead_letters());
    scene.run.output.extend(
        scene
            .sqs
            .dead_letters()
            .into_iter()
            .map(|message| message.body),
    );

    // Repair everything and redrive the dead letters.
    scene.faults.accept_all();
    scene.repair_logs();
    scene.run.redriven += scene.sqs.dead_letters().len();
    scene.sqs.redrive();
    scene.drain().await;
    scene.run.evidence.dead_letters_left = continuations(&scene.sqs.dead_letters());
    scene.finish()
}

/// The functions and everything around them.
struct Scene {
    s3: FakeS3,
    sqs: FakeSqs,
    bridge: LocalBridge,
    faults: Arc<Faults>,
    /// To S3, SQS, the bridge and the token endpoint.
    fault_proxies: [FaultProxy; 4],
    receivers: [Receiver; 2],
    lines: CapturedLogs,
    current: Vec<usize>,
    run: Run,
}

/// The receiver of invocations.
enum Receiver {
    Inside(Box<Function>),
    Process(Box<Instance>),
}

/// An instance of the real `bootstrap`, started on demand.
struct Instance {
    bootstrap: PathBuf,
    variables: Vec<(&'static str, String)>,
    running: Option<(RuntimeApi, Process)>,
    output: Vec<String>,
    responses: Vec<String>,
}

/// The end of an invocation.
enum Ending {
    Responded { done: bool },
    Killed,
    Failed(String),
}

impl Scene {
    async fn new(
        seed: u64,
        bootstrap: Option<&Path>,
        lines: CapturedLogs,
        rng: &mut StdRng,
    ) -> Self {
        let rejected = (0..rng.random_range(0..4))
            .map(|_| format!("log-0-{}", rng.random_range(0..80)))
            .collect();
        let faults = Arc::new(Faults::new(seed, rejected));
        let of_bridge = faults.clone();
        let options = Options {
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned(),
            // Some tokens expire during the run.
            token_lifetime: Duration::from_secs([1, 2, 1800][rng.random_range(0..3)]),
            react: Arc::new(move |arrival| of_bridge.react(arrival)),
            ..Options::default()
        };
        let (s3, sqs, bridge) = (
            FakeS3::start().await,
            FakeSqs::start().await,
            start(&options).await,
        );
        let of_s3 = faults.clone();
        s3.react(move || of_s3.s3());
        let of_sqs = faults.clone();
        sqs.misbehave(move |action, _| of_sqs.queue(action));
        let fault_proxy = |to| {
            let faults = faults.clone();
            FaultProxy::start(to, move || faults.fault_proxy())
        };
        let fault_proxies = [
            fault_proxy(s3.address()).await,
            fault_proxy(sqs.address()).await,
            fault_proxy(bridge.address()).await,
            fault_proxy(bridge.address()).await,
        ];
        let limits = Limits {
            transactions: rng.random_range(1..30),
            bytes: rng.random_range(1000..20_000),
        };
        let concurrency = rng.random_range(1..6);
        let receiver = || match bootstrap {
            None => Receiver::Inside(Box::new(function(
                &fault_proxies,
                &sqs,
                limits,
                concurrency,
            ))),
            Some(bootstrap) => Receiver::Process(Box::new(Instance {
                bootstrap: bootstrap.to_owned(),
                variables: variables(&fault_proxies, limits, concurrency),
                running: None,
                output: Vec::new(),
                responses: Vec::new(),
            })),
        };
        let receivers = [receiver(), receiver()];
        let evidence = Evidence {
            in_flight: limits.transactions * concurrency,
            ..Evidence::default()
        };
        let run = Run {
            evidence,
            is_process: bootstrap.is_some(),
            ..Run::default()
        };
        Self {
            s3,
            sqs,
            bridge,
            faults,
            fault_proxies,
            receivers,
            lines,
            current: Vec::new(),
            run,
        }
    }

    fn put_logs(&mut self, rng: &mut StdRng) {
        for number in 0..rng.random_range(1..4) {
            let log = Log::random(number, rng);
            self.s3.put(&log.key, log.versions[0].bytes.clone());
            for _ in 0..rng.random_range(1..3) {
                self.sqs.send(s3_event(&[&log.key]).to_string());
            }
            self.run.evidence.logs.push(log);
            self.current.push(0);
        }
        if rng.random_bool(0.2) {
            let keys: Vec<&str> = self.run.evidence.logs.iter().map(|log| &*log.key).collect();
            self.sqs.send(s3_event(&keys).to_string());
        }
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

    async fn open_fault_proxies(&self) {
        for fault_proxy in &self.fault_proxies {
            fault_proxy.open().await;
        }
    }

    /// Runs one invocation, or two concurrent ones, with faults. Returns `false` if the queue is
    /// empty.
    async fn invoke_with_faults(&mut self, rng: &mut StdRng) -> bool {
        if rng.random_bool(0.03) {
            self.run.redriven += self.sqs.dead_letters().len();
            self.sqs.redrive();
        }
        if rng.random_bool(0.05) {
            self.bridge.revoke_tokens();
        }
        if self.sqs.wait_for_next().is_none() {
            return false;
        }
        for fault_proxy in &self.fault_proxies {
            if fault_proxy.is_open() && self.faults.closes_fault_proxy() {
                fault_proxy.close();
            } else if rng.random_bool(0.5) {
                fault_proxy.open().await;
            }
        }
        let first = self
            .sqs
            .receive_any(VISIBILITY, |visible| rng.random_range(0..visible));
        let Some(first) = first else { return true };
        // SQS may deliver a message twice, and two messages may name the same object.
        let second = if rng.random_bool(0.15) {
            let same = self
                .sqs
                .receive_again(text(&first, "messageId"), VISIBILITY);
            if rng.random_bool(0.5) {
                same
            } else {
                self.sqs.receive_any(VISIBILITY, |_| 0).or(same)
            }
        } else {
            None
        };
        let most = if rng.random_bool(0.1) { 1500 } else { 400 };
        let mut fates = || {
            let time_left = Duration::from_millis(rng.random_range(1..most));
            (
                time_left,
                rng.random_bool(0.15)
                    .then(|| Duration::from_millis(rng.random_range(1..150))),
            )
        };
        let (one, other) = (fates(), fates());
        self.invoke(first, one, second.map(|second| (second, other)))
            .await;
        true
    }

    /// Invokes the function without faults until the queue is empty.
    async fn drain(&mut self) {
        for _ in 0..MAX_INVOCATIONS {
            if self.sqs.wait_for_next().is_none() {
                return;
            }
            if let Some(message) = self.sqs.receive_any(VISIBILITY, |_| 0) {
                self.invoke(message, (Duration::from_secs(20), None), None)
                    .await;
            }
        }
        self.run.evidence.violations.push(format!(
            "the queue never becomes empty: {:?}",
            self.sqs.messages()
        ));
    }

    async fn invoke(
        &mut self,
        first: Value,
        fate: (Duration, Option<Duration>),
        second: Option<(Value, (Duration, Option<Duration>))>,
    ) {
        let before = self.marks();
        let ids: Vec<String> = [Some(&first), second.as_ref().map(|(record, _)| record)]
            .into_iter()
            .flatten()
            .map(|record| text(record, "messageId").to_owned())
            .collect();
        let records: Vec<Value> = [
            Some(first.clone()),
            second.as_ref().map(|(record, _)| record.clone()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let [one, other] = &mut self.receivers;
        let endings = match second {
            None => vec![Box::pin(one.invoke(first, fate)).await],
            Some((record, its_fate)) => {
                let both = futures_util::future::join(
                    Box::pin(one.invoke(first, fate)),
                    Box::pin(other.invoke(record, its_fate)),
                )
                .await;
                vec![both.0, both.1]
            }
        };
        self.settle().await;
        let mut was_killed = false;
        for (id, ending) in ids.iter().zip(endings) {
            match ending {
                Ending::Responded { done: true } => self.sqs.delete(id),
                Ending::Responded { done: false } => {}
                Ending::Killed => was_killed = true,
                Ending::Failed(how) => self.run.evidence.violations.push(how),
            }
        }
        self.run.killed += usize::from(was_killed);
        let left: BTreeSet<String> = self
            .sqs
            .messages()
            .into_iter()
            .map(|message| message.id)
            .collect();
        let messages: Vec<Message> = records
            .iter()
            .zip(&ids)
            .flat_map(|(record, id)| messages(record, !left.contains(id)))
            .collect();
        let after = self.marks();
        let sent = self
            .sqs
            .messages()
            .into_iter()
            .chain(self.sqs.dead_letters())
            .filter(|message| number_of(message) > before.sent)
            .collect::<Vec<_>>();
        let received = self.bridge.received();
        self.run.evidence.invocations.push(Invocation {
            // A process may still be working on an earlier invocation.
            stands_alone: records.len() == 1 && !self.run.is_process,
            messages,
            current: self.current.clone(),
            was_killed,
            queue_is_sound: after.queue_trouble == before.queue_trouble
                && self.fault_proxies[1].is_open(),
            lost_responses: after.lost_responses - before.lost_responses,
            accepted: received[before.received..]
                .iter()
                .map(|batch| Accepted {
                    key: batch.key.clone(),
                    body: batch.body.to_vec(),
                    ids: batch
                        .transactions
                        .iter()
                        .map(|transaction| transaction.transaction_id.clone())
                        .collect(),
                })
                .collect(),
            sent: continuations(&sent),
            lines: (!self.run.is_process).then(|| {
                self.lines.text()[before.lines..]
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect()
            }),
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
            received: self.bridge.received().len(),
            lines: self.lines.text().len(),
            sent: self.sqs.sent(),
            lost_responses: self.faults.lost_responses() + self.fault_proxies[2].disturbances(),
            queue_trouble: self.faults.queue_failures() + self.fault_proxies[1].disturbances(),
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
        self.run
            .output
            .extend(self.lines.text().lines().map(str::to_owned));
        for receiver in self.receivers {
            if let Receiver::Process(mut instance) = receiver {
                instance.end();
                self.run
                    .output
                    .extend(instance.output.into_iter().chain(instance.responses));
            }
        }
        self.run.evidence.output = std::mem::take(&mut self.run.output);
        self.run.violations = check(&self.run.evidence);
        self.run
    }
}

/// Counters before and after an invocation.
struct Marks {
    received: usize,
    lines: usize,
    sent: u64,
    lost_responses: usize,
    queue_trouble: usize,
}

impl Receiver {
    /// Invokes the function with a record and a deadline, and kills it after `killed_after`.
    async fn invoke(
        &mut self,
        record: Value,
        (time_left, killed_after): (Duration, Option<Duration>),
    ) -> Ending {
        let event = json!({ "Records": [record] });
        match self {
            Self::Inside(function) => {
                let trace = Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned());
                let context = Context {
                    deadline: Deadline::after(time_left),
                    trace,
                    function: "edgetap".to_owned(),
                };
                let handled = tokio::time::timeout(
                    killed_after.unwrap_or(Duration::from_mins(2)),
                    function.handle(event, &context),
                );
                match (handled.await, killed_after) {
                    (Ok(Ok(response)), _) => ending(&response),
                    (Ok(Err(error)), _) => {
                        Ending::Failed(format!("the invocation failed: {error}"))
                    }
                    (Err(_), Some(_)) => Ending::Killed,
                    (Err(_), None) => Ending::Failed("the invocation did not end".to_owned()),
                }
            }
            Self::Process(instance) => {
                instance
                    .invoke(event, RESERVE + time_left, killed_after)
                    .await
            }
        }
    }
}

impl Instance {
    async fn invoke(
        &mut self,
        event: Value,
        time_left: Duration,
        killed_after: Option<Duration>,
    ) -> Ending {
        if self.running.is_none() {
            let api = RuntimeApi::start().await;
            let variables = self.variables.iter().map(|(name, value)| (*name, value));
            let process = Process::bootstrap(&self.bootstrap, &api.address(), variables);
            self.running = Some((api, process));
        }
        let (api, _) = self.running.as_ref().unwrap();
        let time_left = i64::try_from(time_left.as_millis()).unwrap();
        let invoked = tokio::time::timeout(
            killed_after.unwrap_or(Duration::from_mins(2)),
            api.invoke(event, time_left),
        )
        .await;
        match (invoked, killed_after) {
            (Ok(Outcome::Response(response)), _) => {
                self.responses.push(response.to_string());
                ending(&response)
            }
            (Err(_), Some(_)) => {
                self.end();
                Ending::Killed
            }
            (outcome, _) => {
                self.end();
                Ending::Failed(format!("the process failed: {outcome:?}"))
            }
        }
    }

    /// Kills the process (SIGKILL) and keeps its output.
    fn end(&mut self) {
        if let Some((_, mut process)) = self.running.take() {
            let output = process.stop();
            self.output
                .extend(output.stdout.into_iter().chain(output.stderr));
        }
    }
}

fn ending(response: &Value) -> Ending {
    match response["batchItemFailures"].as_array() {
        Some(failures) => Ending::Responded {
            done: failures.is_empty(),
        },
        None => Ending::Failed(format!("not a partial batch response: {response}")),
    }
}

fn url(fault_proxy: &FaultProxy, path: &str) -> String {
    format!("http://{}{path}", fault_proxy.address())
}

fn short_timeouts(endpoint: &str) -> SdkConfig {
    sdk_config(endpoint)
        .into_builder()
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(S3_PATIENCE)
                .read_timeout(S3_PATIENCE)
                .build(),
        )
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .grace_period(S3_PATIENCE)
                .build(),
        )
        .build()
}

fn function(
    [s3, sqs, edge, token]: &[FaultProxy; 4],
    queue: &FakeSqs,
    limits: Limits,
    concurrency: usize,
) -> Function {
    let endpoints = Endpoints {
        edge: url(edge, EDGE_PATH).parse().unwrap(),
        token: url(token, TOKEN_PATH).parse().unwrap(),
        method: AuthMethod::Post,
        parameters: TokenParameters::default(),
        bridge_ca: None,
    };
    let credentials = Credentials::new(CLIENT_ID, CLIENT_SECRET);
    Function {
        s3: S3::new(&short_timeouts(&url(s3, "")), BACKOFF),
        rules: rules(limits),
        bridge: Bridge::new(
            endpoints,
            CredentialsSource::Variables(credentials),
            BACKOFF,
        )
        .unwrap(),
        concurrency,
        work_queue: WorkQueue::new(&short_timeouts(&url(sqs, ""))),
        retry_for: SignedDuration::from_hours(3), // ends permanent failures after a few invocations
        clock: queue.clock(),
    }
}

/// Returns the same configuration for a process.
fn variables(
    [s3, sqs, edge, token]: &[FaultProxy; 4],
    limits: Limits,
    concurrency: usize,
) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", AWS_SECRET.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL_S3", url(s3, "")),
        ("AWS_ENDPOINT_URL_SQS", url(sqs, "")),
        ("AWS_MAX_ATTEMPTS", "1".to_owned()), // the SDK's backoff is longer than these runs
        ("BRIDGE_CLIENT_ID", CLIENT_ID.to_owned()),
        ("BRIDGE_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ("BRIDGE_AUTH_ENDPOINT", url(token, TOKEN_PATH)),
        ("BRIDGE_EDGE_ENDPOINT", url(edge, EDGE_PATH)),
        ("BRIDGE_CONCURRENCY", concurrency.to_string()),
        ("BATCH_MAX_TRANSACTIONS", limits.transactions.to_string()),
        ("BATCH_MAX_BYTES", limits.bytes.to_string()),
    ]
}

/// Returns the objects that a record names.
fn messages(record: &Value, done: bool) -> Vec<Message> {
    let body: Value = serde_json::from_str(text(record, "body")).unwrap();
    if let Ok(remainder) = serde_json::from_value::<Continuation>(body.clone()) {
        return vec![Message {
            key: remainder.object.key,
            etag: remainder.object.etag,
            rows: remainder.rows,
            requeue_count: remainder.requeue_count,
            done,
        }];
    }
    let keys = body["Records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| text(&record["s3"]["object"], "key").to_owned());
    keys.map(|key| Message {
        key,
        etag: None,
        rows: RowRanges::from([(0, None)]),
        requeue_count: 0,
        done,
    })
    .collect()
}

/// Returns the continuations among the messages. S3's notifications are skipped.
fn continuations(messages: &[Queued]) -> Vec<Continuation> {
    messages
        .iter()
        .filter_map(|message| serde_json::from_str(&message.body).ok())
        .collect()
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

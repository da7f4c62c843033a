//! The tap under test: the built `bootstrap` between the peers and a local bridge, and its output.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgetap::local_bridge::{LocalBridge, Options, Reaction, Received};
use serde_json::{Value, json};

use crate::emulator::{self, Emulator};
use crate::peers::{
    AWS_SECRET_CANARY, BASIC_CLIENT, POST_CLIENT, Peers, REGION, SECRET_CANARY, WRONG_SECRET,
    bootstrap, secret,
};
use crate::runtime_api::{Outcome, Output, Process, RuntimeApi};

/// Milliseconds of an invocation without time pressure.
pub(crate) const PLENTY: i64 = 60_000;

/// The cookie value in the logs of these tests.
pub(crate) const COOKIE_CANARY: &str = "e2eCookieCanary3f8e";

pub(crate) type Variables = BTreeMap<&'static str, String>;

pub(crate) struct Tap {
    pub(crate) peers: Arc<Peers>,
    pub(crate) bridge: LocalBridge,
    lambda: Lambda,
    variables: Variables,
    process: Process,
    /// The output of earlier processes.
    before: Vec<String>,
    /// Every access token that the bridge received.
    tokens: Arc<Mutex<BTreeSet<String>>>,
    /// The responses to Lambda.
    responses: Mutex<Vec<String>>,
    stopped: bool,
}

/// What invokes the function.
enum Lambda {
    RuntimeApi(RuntimeApi),
    Emulator(Emulator),
}

impl Tap {
    /// Starts the function with a bridge that accepts everything.
    pub(crate) async fn start(change: impl FnOnce(&mut Variables)) -> Self {
        Self::with_bridge(Options::default(), change).await
    }

    /// Starts the function with a bridge that responds to every request with `status`.
    pub(crate) async fn with_bridge_responding(status: u16) -> Self {
        let options = Options {
            react: Arc::new(move |_| Reaction::status(status)),
            ..Options::default()
        };
        Self::with_bridge(options, |_| {}).await
    }

    /// Starts the function. `change` edits the variables of a valid configuration.
    pub(crate) async fn with_bridge(options: Options, change: impl FnOnce(&mut Variables)) -> Self {
        Self::with_timeout(None, options, change).await
    }

    /// Starts AWS's emulator, which starts the function with this timeout.
    pub(crate) async fn in_emulator(
        timeout_ms: i64,
        options: Options,
        change: impl FnOnce(&mut Variables),
    ) -> Self {
        Self::with_timeout(Some(timeout_ms), options, change).await
    }

    async fn with_timeout(
        emulator_timeout_ms: Option<i64>,
        mut options: Options,
        change: impl FnOnce(&mut Variables),
    ) -> Self {
        let peers = Peers::shared();
        let tokens = Arc::new(Mutex::new(BTreeSet::new()));
        let (judge, seen) = (peers.clone(), tokens.clone());
        options.authorize = Some(Arc::new(move |token| {
            seen.lock().unwrap().insert(token.clone());
            Box::pin(judge.introspect(token))
        }));
        let bridge = LocalBridge::start((Ipv4Addr::LOCALHOST, 0).into(), options)
            .await
            .unwrap();
        let mut variables = aws_variables(&peers);
        variables.extend([
            ("BRIDGE_CLIENT_ID", POST_CLIENT.to_owned()),
            ("BRIDGE_CLIENT_SECRET", secret()),
            ("BRIDGE_AUTH_ENDPOINT", peers.token_endpoint.clone()),
            ("BRIDGE_EDGE_ENDPOINT", bridge.edge_url()),
        ]);
        change(&mut variables);
        let (lambda, process) = if let Some(timeout_ms) = emulator_timeout_ms {
            let (emulator, process) = Emulator::start(&variables, timeout_ms).await;
            (Lambda::Emulator(emulator), process)
        } else {
            let api = RuntimeApi::start().await;
            let process = Process::bootstrap(&bootstrap(), &api.address(), &variables);
            (Lambda::RuntimeApi(api), process)
        };
        Self {
            peers,
            bridge,
            lambda,
            variables,
            process,
            before: Vec::new(),
            tokens,
            responses: Mutex::default(),
            stopped: false,
        }
    }

    /// Kills the process (SIGKILL), as Lambda does, and starts another one.
    pub(crate) fn kill_and_restart(&mut self) {
        let output = self.process.stop();
        self.before
            .extend(output.stdout.into_iter().chain(output.stderr));
        self.process = Process::bootstrap(&bootstrap(), &self.api().address(), &self.variables);
    }

    /// Returns the tests' own Runtime API.
    pub(crate) fn api(&self) -> &RuntimeApi {
        match &self.lambda {
            Lambda::RuntimeApi(api) => api,
            Lambda::Emulator(_) => panic!("the emulator has a Runtime API of its own"),
        }
    }

    /// Invokes the function. AWS stores the response, so it is searched for secrets too.
    pub(crate) async fn invoke(&self, event: Value, time_left_ms: i64) -> Outcome {
        let outcome = match &self.lambda {
            Lambda::RuntimeApi(api) => api.invoke(event, time_left_ms).await,
            Lambda::Emulator(emulator) => emulator.invoke(&event, time_left_ms).await,
        };
        self.responses.lock().unwrap().push(format!("{outcome:?}"));
        outcome
    }

    /// Invokes the function with an SQS event and returns the IDs of the failed messages.
    pub(crate) async fn deliver(&self, messages: &[(&str, &str)]) -> Vec<String> {
        self.deliver_within(messages, PLENTY).await
    }

    pub(crate) async fn deliver_within(
        &self,
        messages: &[(&str, &str)],
        time_left_ms: i64,
    ) -> Vec<String> {
        match self.invoke(sqs_event(messages), time_left_ms).await {
            Outcome::Response(response) => failures(&response),
            other => panic!("{other:?}: {:#?}", self.process.output()),
        }
    }

    /// Returns the batches that the bridge accepted after its first `before` ones.
    pub(crate) fn received_since(&self, before: usize) -> Vec<Received> {
        self.bridge.received().split_off(before)
    }

    /// Ends the process and returns its log lines.
    pub(crate) fn stop(mut self) -> Log {
        let output = self.end();
        assert_eq!(
            output.stderr,
            Vec::<String>::new(),
            "all output belongs on stdout"
        );
        let lines = output.stdout.iter();
        Log(lines
            .filter(|line| !emulator::is_own_line(line))
            .map(|line| parse_line(line))
            .collect())
    }

    fn end(&mut self) -> Output {
        self.stopped = true;
        let ended = self.process.has_ended();
        if ended.is_none() && matches!(self.lambda, Lambda::Emulator(_)) {
            emulator::end(&mut self.process);
        }
        let output = self.process.stop();
        assert_eq!(ended, None, "the process ended early: {output:#?}");
        let tokens = self.tokens.lock().unwrap();
        let basic =
            |id: &str| STANDARD.encode(format!("{}:{}", form_encoded(id), form_encoded(&secret())));
        let canaries = [
            SECRET_CANARY,
            WRONG_SECRET,
            AWS_SECRET_CANARY,
            COOKIE_CANARY,
        ]
        .map(str::to_owned)
        .into_iter();
        let canaries: Vec<String> = canaries
            .chain([POST_CLIENT, BASIC_CLIENT].map(basic))
            .chain(tokens.iter().cloned())
            .collect();
        for text in self
            .before
            .iter()
            .chain(&output.stdout)
            .chain(&output.stderr)
            .chain(self.responses.lock().unwrap().iter())
        {
            for canary in &canaries {
                assert!(
                    !text.contains(canary.as_str()),
                    "{canary} was leaked: {text}"
                );
            }
        }
        output
    }
}

impl Drop for Tap {
    /// Searches the output for secrets at the end of every test.
    fn drop(&mut self) {
        if !self.stopped && !std::thread::panicking() {
            self.end();
        }
    }
}

/// The variables that Lambda sets, with moto as AWS and `LOG_LEVEL=trace`.
fn aws_variables(peers: &Peers) -> Variables {
    Variables::from([
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", AWS_SECRET_CANARY.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ENDPOINT_URL", peers.aws.clone()),
        ("LOG_LEVEL", "trace".to_owned()),
    ])
}

fn form_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Returns the event that the event source mapping makes of messages (ID and body).
fn sqs_event(messages: &[(&str, &str)]) -> Value {
    let records = messages.iter().map(|(id, body)| {
        json!({
            "messageId": id,
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1794686400000",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1794686400001"
            },
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:{REGION}:123456789012:edgetap"),
            "awsRegion": REGION
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

/// Returns the IDs in a partial batch response.
pub(crate) fn failures(response: &Value) -> Vec<String> {
    let response = response.as_object().unwrap();
    assert_eq!(response.keys().collect::<Vec<_>>(), ["batchItemFailures"]);
    let failures = response["batchItemFailures"].as_array().unwrap();
    failures
        .iter()
        .map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned())
        .collect()
}

/// The log lines of a process.
#[derive(Debug)]
pub(crate) struct Log(Vec<Value>);

impl Log {
    pub(crate) fn at(&self, level: &str) -> Vec<&Value> {
        self.0
            .iter()
            .filter(|line| line["level"] == level)
            .collect()
    }

    /// Returns the lines with metrics, one per object.
    pub(crate) fn reports(&self) -> Vec<&Value> {
        self.0
            .iter()
            .filter(|line| line.get("_aws").is_some())
            .collect()
    }

    /// Returns the only line of `level` whose message contains `words`.
    pub(crate) fn the_one(&self, level: &str, words: &str) -> &Value {
        let found: Vec<_> = self
            .at(level)
            .into_iter()
            .filter(|line| line["message"].as_str().unwrap().contains(words))
            .collect();
        assert_eq!(found.len(), 1, "{words:?} in {:#?}", self.0);
        found[0]
    }
}

/// Parses a log line and checks the members that every line has.
fn parse_line(line: &str) -> Value {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |name: &str| {
        line[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {line}"))
    };
    assert!(
        text("timestamp").parse::<jiff::Timestamp>().is_ok(),
        "RFC 3339: {line}"
    );
    assert!(
        ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&text("level")),
        "{line}"
    );
    assert!(!text("message").is_empty(), "{line}");
    line
}

/// Upper bound for steps without a bound of their own.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

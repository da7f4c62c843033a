//! *Receiver*: the function that an event goes to, in this process or as the real one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use edgetap::batch::Limits;
use edgetap::bridge::{Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::invocation::{Context, Function, RESERVE};
use edgetap::local_bridge::{EDGE_PATH, TOKEN_PATH};
use edgetap::source::S3;
use edgetap::time::{Clock, Deadline};
use edgetap::token::{AuthMethod, TokenParameters};
use edgetap::work_queue::WorkQueue;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::identity::{CLIENT_ID, CLIENT_SECRET};
use crate::runtime_api::{Outcome, Process, RuntimeApi};
use crate::support::fault_proxy::FaultProxy;
use crate::support::{BACKOFF, rules, sdk_config};

pub(crate) const AWS_SECRET: &str = "canary-aws-secret-campaign";

/// An invocation that has not ended by then never will.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a function is made of.
#[derive(Clone)]
pub(crate) struct Settings {
    /// The URLs of S3, SQS, the bridge and the token endpoint.
    pub urls: [String; 4],
    /// The URL of Secrets Manager, if it has the credentials.
    pub secrets_manager: Option<String>,
    pub clock: Clock,
    pub limits: Limits,
    pub concurrency: usize,
    pub retry_for: SignedDuration,
    /// How long the function waits for S3.
    pub s3_timeout: Duration,
    /// The path of the real process, if it is to be used.
    pub bootstrap: Option<PathBuf>,
}

/// One environment, made when it is first invoked.
pub(crate) struct Receiver {
    settings: Settings,
    environment: Option<Environment>,
    /// What processes wrote, and what they responded.
    pub output: Vec<String>,
}

enum Environment {
    Inside(Box<Function>),
    Process(Box<(RuntimeApi, Process)>),
}

/// The end of an invocation.
pub(crate) enum Ending {
    /// The IDs of the messages that failed, and whether the deadline had passed.
    Responded {
        failed: Vec<String>,
        is_late: bool,
    },
    Killed,
    Failed(String),
}

impl Receiver {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            environment: None,
            output: Vec::new(),
        }
    }

    /// Invokes the function with the messages of an event, and kills it once `kill` has come.
    pub(crate) async fn invoke(
        &mut self,
        records: &[Value],
        time_left: Duration,
        kill: impl Future<Output = ()>,
    ) -> Ending {
        let event = json!({ "Records": records });
        let started = Instant::now();
        let ending = tokio::select! {
            response = self.respond(event, time_left) => match response.map(|it| failed(&it)) {
                Ok(Some(failed)) => Ending::Responded { failed, is_late: started.elapsed() >= time_left },
                Ok(None) => Ending::Failed("not a partial batch response".to_owned()),
                Err(error) => Ending::Failed(error),
            },
            () = kill => Ending::Killed,
            () = tokio::time::sleep(PATIENCE) => Ending::Failed("the invocation did not end".to_owned()),
        };
        if !matches!(ending, Ending::Responded { .. }) {
            self.end();
        }
        ending
    }

    /// Ends the environment, as SIGKILL does. The next invocation starts another one.
    pub(crate) fn end(&mut self) {
        if let Some(Environment::Process(instance)) = self.environment.take() {
            let (_, mut process) = *instance;
            let output = process.stop();
            (self.output).extend(output.stdout.into_iter().chain(output.stderr));
        }
    }

    async fn respond(&mut self, event: Value, time_left: Duration) -> Result<Value, String> {
        if self.environment.is_none() {
            self.environment = Some(self.settings.environment().await);
        }
        match self.environment.as_ref().unwrap() {
            Environment::Inside(function) => {
                let context = Context {
                    deadline: Deadline::after(time_left),
                    trace: Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned()),
                    function: "edgetap".to_owned(),
                };
                let handled = Box::pin(function.handle(event, &context)).await;
                handled.map_err(|error| format!("the invocation failed: {error}"))
            }
            Environment::Process(instance) => {
                let time_left = i64::try_from((RESERVE + time_left).as_millis()).unwrap();
                match instance.0.invoke(event, time_left).await {
                    Outcome::Response(response) => {
                        self.output.push(response.to_string());
                        Ok(response)
                    }
                    outcome => Err(format!("the process failed: {outcome:?}")),
                }
            }
        }
    }
}

impl Settings {
    async fn environment(&self) -> Environment {
        match &self.bootstrap {
            None => Environment::Inside(Box::new(self.function())),
            Some(bootstrap) => {
                let api = RuntimeApi::start().await;
                let process = Process::bootstrap(bootstrap, &api.address(), self.variables());
                Environment::Process(Box::new((api, process)))
            }
        }
    }

    fn function(&self) -> Function {
        let [s3, sqs, edge, token] = &self.urls;
        let endpoints = Endpoints {
            edge: edge.parse().unwrap(),
            token: token.parse().unwrap(),
            method: AuthMethod::Post,
            parameters: TokenParameters::default(),
            bridge_ca: None,
        };
        let credentials = match &self.secrets_manager {
            Some(url) => {
                CredentialsSource::secrets_manager(&sdk_config(url), "campaign".to_owned())
            }
            None => CredentialsSource::Variables(Credentials::new(CLIENT_ID, CLIENT_SECRET)),
        };
        let mut function = Function::new(
            S3::new(&self.with_timeouts(s3), BACKOFF),
            rules(self.limits),
            Bridge::new(endpoints, credentials, BACKOFF, self.concurrency).unwrap(),
            WorkQueue::new(&self.with_timeouts(sqs)),
            self.retry_for,
        );
        function.clock = self.clock.clone();
        function
    }

    /// Returns the same configuration for a process.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let [s3, sqs, edge, token] = self.urls.clone();
        vec![
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", AWS_SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL_S3", s3),
            ("AWS_ENDPOINT_URL_SQS", sqs),
            ("AWS_MAX_ATTEMPTS", "1".to_owned()), // the SDK's backoff is longer than these runs
            ("BRIDGE_CLIENT_ID", CLIENT_ID.to_owned()),
            ("BRIDGE_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
            ("BRIDGE_AUTH_ENDPOINT", token),
            ("BRIDGE_EDGE_ENDPOINT", edge),
            ("BRIDGE_CONCURRENCY", self.concurrency.to_string()),
            (
                "BATCH_MAX_TRANSACTIONS",
                self.limits.transactions.to_string(),
            ),
            ("BATCH_MAX_BYTES", self.limits.bytes.to_string()),
        ]
    }

    fn with_timeouts(&self, endpoint: &str) -> SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.s3_timeout)
            .read_timeout(self.s3_timeout)
            .build();
        let stalls = StalledStreamProtectionConfig::enabled()
            .grace_period(self.s3_timeout)
            .build();
        sdk_config(endpoint)
            .into_builder()
            .timeout_config(timeouts)
            .stalled_stream_protection(stalls)
            .build()
    }
}

/// Returns the URLs of S3, SQS, the bridge and the token endpoint.
pub(crate) fn urls([s3, sqs, edge, token]: &[FaultProxy; 4]) -> [String; 4] {
    let url = |proxy: &FaultProxy, path| format!("http://{}{path}", proxy.address());
    [
        url(s3, ""),
        url(sqs, ""),
        url(edge, EDGE_PATH),
        url(token, TOKEN_PATH),
    ]
}

/// Returns the IDs of the messages that failed.
fn failed(response: &Value) -> Option<Vec<String>> {
    let failures = response["batchItemFailures"].as_array()?;
    let id = |failure: &Value| failure["itemIdentifier"].as_str().map(str::to_owned);
    failures.iter().map(id).collect()
}

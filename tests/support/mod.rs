//! Shared by the tests: fake S3 and SQS, a fault-injecting TCP proxy, and a function wired to the
//! fakes and a local bridge.

#![allow(dead_code, clippy::unwrap_used, clippy::missing_panics_doc)]

pub(crate) mod certificates;
pub(crate) mod connect_proxy;
pub(crate) mod fake_s3;
pub(crate) mod fake_sqs;
pub(crate) mod fault_proxy;
pub(crate) mod odd_bridge;
pub(crate) mod parquet;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials as AwsCredentials, SharedCredentialsProvider};
use base64::Engine as _;
use edgetap::aws::{Network, http_client};
use edgetap::batch::Limits;
use edgetap::bridge::{Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::invocation::{Context, Function};
use edgetap::local_bridge::{Arrival, Endpoint, LocalBridge, Options, Reaction, Transaction};
use edgetap::pipeline::Rules;
use edgetap::retry::Backoff;
use edgetap::source::S3;
use edgetap::telemetry;
use edgetap::time::Deadline;
use edgetap::token::{AuthMethod, TokenParameters};
use edgetap::work_queue::WorkQueue;
use flate2::{Compression, write::GzEncoder};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tracing::Level;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

/// Short waits, so that the tests run fast.
pub(crate) const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(2),
    cap: Duration::from_millis(20),
    attempts: 5,
};

pub(crate) const HEADER: &str =
    "#Version: 1.0\n#Fields: date time c-ip cs-method cs-uri-stem sc-status x-edge-request-id\n";

/// A row with [`HEADER`]'s columns. Its path and ID contain `number`.
pub(crate) fn row(number: u64) -> String {
    format!("2026-11-14\t20:00:00\t192.0.2.7\tGET\t/row/{number}\t200\tid-{number}\n")
}

pub(crate) fn log(rows: u64) -> String {
    HEADER.to_owned() + &(0..rows).map(row).collect::<String>()
}

pub(crate) fn gzip(text: &str) -> Vec<u8> {
    gzip_of(text.as_bytes())
}

pub(crate) fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(crate) fn rules(limits: Limits) -> Arc<Rules> {
    Arc::new(Rules {
        limits,
        ..Rules::default()
    })
}

/// Options of a bridge whose edge endpoint reacts as given. Its token endpoint behaves normally.
pub(crate) fn at_edge(react: impl Fn(Arrival<'_>) -> Reaction + Send + Sync + 'static) -> Options {
    reacting(Endpoint::Edge, react)
}

/// Options of a bridge whose token endpoint reacts as given. Its edge endpoint behaves normally.
pub(crate) fn at_token(react: impl Fn(Arrival<'_>) -> Reaction + Send + Sync + 'static) -> Options {
    reacting(Endpoint::Token, react)
}

fn reacting(
    endpoint: Endpoint,
    react: impl Fn(Arrival<'_>) -> Reaction + Send + Sync + 'static,
) -> Options {
    Options {
        react: Arc::new(move |arrival| {
            if arrival.endpoint == endpoint {
                react(arrival)
            } else {
                Reaction::Normal
            }
        }),
        ..Options::default()
    }
}

/// The credentials of the only client that a bridge with these options knows.
pub(crate) fn credentials(options: &Options) -> Credentials {
    Credentials::new(options.client_id.clone(), options.client_secret.clone())
}

/// A client of `bridge` with the credentials of `options`, which sends one request at a time.
pub(crate) fn client(
    bridge: &LocalBridge,
    options: &Options,
    method: AuthMethod,
    bridge_ca: Option<String>,
) -> Bridge {
    let credentials = CredentialsSource::Variables(credentials(options));
    client_of(bridge, credentials, method, bridge_ca, 1)
}

/// A client of `bridge`, which sends up to four requests at a time.
pub(crate) fn client_with(
    bridge: &LocalBridge,
    credentials: CredentialsSource,
    method: AuthMethod,
    bridge_ca: Option<String>,
) -> Bridge {
    client_of(bridge, credentials, method, bridge_ca, 4)
}

fn client_of(
    bridge: &LocalBridge,
    credentials: CredentialsSource,
    method: AuthMethod,
    bridge_ca: Option<String>,
    concurrency: usize,
) -> Bridge {
    let endpoints = Endpoints {
        edge: bridge.edge_url().parse().unwrap(),
        token: bridge.token_url().parse().unwrap(),
        method,
        parameters: TokenParameters::default(),
        bridge_ca,
    };
    Bridge::new(endpoints, credentials, BACKOFF, concurrency).unwrap()
}

pub(crate) async fn start(options: &Options) -> LocalBridge {
    LocalBridge::start((Ipv4Addr::LOCALHOST, 0).into(), options.clone())
        .await
        .unwrap()
}

/// A configuration for the SDK's clients with one endpoint and fast retries.
pub(crate) fn sdk_config(endpoint: &str) -> SdkConfig {
    let credentials = AwsCredentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
            aws_smithy_async::rt::sleep::TokioSleep::new(),
        ))
        .http_client(http_client(Network::default()).unwrap())
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(2)
                .with_initial_backoff(Duration::from_millis(1)),
        )
        .build()
}

/// A function with the S3, SQS and bridge that it uses.
pub(crate) struct World {
    pub s3: fake_s3::FakeS3,
    pub sqs: fake_sqs::FakeSqs,
    pub bridge: LocalBridge,
    pub function: Function,
}

pub(crate) async fn world(options: Options, limits: Limits) -> World {
    world_with(options, limits, 4).await
}

/// A function with at most `concurrency` requests in flight, and its world.
pub(crate) async fn world_with(options: Options, limits: Limits, concurrency: usize) -> World {
    let (s3, sqs, bridge) = (
        fake_s3::FakeS3::start().await,
        fake_sqs::FakeSqs::start().await,
        start(&options).await,
    );
    let credentials = CredentialsSource::Variables(credentials(&options));
    let mut function = Function::new(
        S3::new(&sdk_config(&s3.endpoint()), BACKOFF),
        rules(limits),
        client_of(&bridge, credentials, AuthMethod::Post, None, concurrency),
        WorkQueue::new(&sdk_config(&sqs.endpoint())),
        SignedDuration::from_hours(72),
    );
    function.clock = sqs.clock();
    World {
        s3,
        sqs,
        bridge,
        function,
    }
}

impl World {
    /// Puts an S3 notification for an object into the work queue.
    pub(crate) fn notify(&self, key: &str) {
        self.sqs.send(s3_event(&[key]).to_string());
    }

    /// Acts as the event source mapping once: receives a message, invokes the function, and deletes
    /// the message unless it failed. Returns `None` if no message is visible, else whether the
    /// message is done.
    pub(crate) async fn poll(&self, time_left: Duration) -> Option<bool> {
        self.poll_batch(1, time_left).await.first().copied()
    }

    /// Does what [`Self::poll`] does, with up to `most` messages in one event. Returns for each
    /// whether it is done.
    pub(crate) async fn poll_batch(&self, most: usize, time_left: Duration) -> Vec<bool> {
        let records = self.sqs.receive_batch(most, Duration::from_mins(30), |_| 0);
        if records.is_empty() {
            return Vec::new();
        }
        let context = Context {
            deadline: Deadline::after(time_left),
            trace: Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned()),
            function: "edgetap".to_owned(),
        };
        let event = json!({ "Records": records });
        let response = self.function.handle(event, &context).await.unwrap();
        let failures = response["batchItemFailures"].as_array().unwrap();
        let acknowledge = |record: &Value| {
            let done = failures
                .iter()
                .all(|failure| failure["itemIdentifier"] != record["messageId"]);
            if done {
                self.sqs.acknowledge(record);
            }
            done
        };
        records.iter().map(acknowledge).collect()
    }

    /// Polls until the queues are empty, and advances their clock whenever no message is visible.
    /// Returns the number of invocations.
    ///
    /// # Panics
    /// If the queues are not empty after `limit` invocations.
    pub(crate) async fn drain(&self, time_left: Duration, limit: usize) -> usize {
        self.drain_batches(1, time_left, limit).await
    }

    /// Does what [`Self::drain`] does, with up to `most` messages in one event.
    pub(crate) async fn drain_batches(
        &self,
        most: usize,
        time_left: Duration,
        limit: usize,
    ) -> usize {
        for invocations in 0..=limit {
            if self.sqs.wait_for_next().is_none() {
                return invocations;
            }
            self.poll_batch(most, time_left).await;
        }
        panic!(
            "the queues are not empty after {limit} invocations: {:?}",
            self.sqs.messages()
        );
    }

    /// The IDs of the transactions that the bridge accepted, in order of arrival.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.bridge
            .received()
            .iter()
            .flat_map(|batch| batch.transactions.iter().map(|t| t.transaction_id.clone()))
            .collect()
    }

    /// Counts the arrivals of each transaction at the bridge.
    pub(crate) fn arrivals(&self) -> BTreeMap<String, u64> {
        let mut arrivals = BTreeMap::new();
        for id in self.ids() {
            *arrivals.entry(id).or_default() += 1;
        }
        arrivals
    }
}

/// One arrival of each of these rows, as [`World::arrivals`] counts them.
pub(crate) fn once_each(rows: impl IntoIterator<Item = u64>) -> BTreeMap<String, u64> {
    rows.into_iter()
        .map(|row| (format!("id-{row}"), 1))
        .collect()
}

/// A direct S3 event for objects in the bucket `logs`.
pub(crate) fn s3_event(keys: &[&str]) -> Value {
    let records = keys.iter().map(|key| {
        json!({"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
               "s3": {"bucket": {"name": "logs"}, "object": {"key": key, "size": 1}}})
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

/// An SQS event with one message per object in the bucket `logs`.
pub(crate) fn sqs_event(keys: &[&str]) -> Value {
    let records = keys.iter().map(|key| {
        json!({"messageId": format!("message-{key}"), "receiptHandle": "r", "eventSource": "aws:sqs", "body": s3_event(&[key]).to_string()})
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

/// A transaction in the form of the `*.expected.json` fixtures.
pub(crate) fn neutral(transaction: &Transaction) -> Value {
    let headers = |fields: &[String]| {
        let decode = |value| {
            String::from_utf8(
                base64::engine::general_purpose::STANDARD
                    .decode(value)
                    .unwrap(),
            )
            .unwrap()
        };
        fields
            .iter()
            .map(|field| field.split_once(':').unwrap())
            .map(|(name, value)| (name.to_owned(), json!(decode(value))))
            .collect::<BTreeMap<_, _>>()
    };
    let Transaction {
        request,
        response,
        txn_meta_data,
        ..
    } = transaction;
    let mut value = json!({
        "id": transaction.transaction_id, "timestamp": transaction.timestamp, "method": request.http_method,
        "target": request.uri_query_fragment, "scheme": request.http_scheme, "http_version": request.http_version, "host": request.host,
        "client_ip": request.connection.connection_ip, "client_port": request.connection.connection_port,
        "request_headers": headers(&request.headers), "status": response.status_code, "response_headers": headers(&response.headers),
        "response_length": transaction.response_header("Content-Length").map(|_| response.body.length),
        "pool_id": txn_meta_data.source_info.pool_id, "instance_id": txn_meta_data.source_info.instance_id,
    });
    value
        .as_object_mut()
        .unwrap()
        .retain(|_, member| !member.is_null());
    value
}

/// Log lines, captured in memory.
#[derive(Clone, Default)]
pub(crate) struct CapturedLogs(Arc<Mutex<Vec<u8>>>);

impl CapturedLogs {
    /// Captures what this thread logs at `level` and above until the guard is dropped.
    pub(crate) fn capture(level: Level) -> (Self, DefaultGuard) {
        // `tracing` caches per call site whether anyone is interested. Without a global subscriber,
        // a call site that another thread reaches first stays disabled for this thread.
        static ALL_THREADS: Once = Once::new();
        ALL_THREADS.call_once(|| {
            tracing::subscriber::set_global_default(Registry::default().with(LevelFilter::OFF))
                .unwrap();
        });
        let lines = Self::default();
        let guard = tracing::subscriber::set_default(telemetry::json(level, lines.clone()));
        (lines, guard)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub(crate) fn json(&self) -> Vec<Value> {
        let read = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                value.to_string().len(),
                line.len(),
                "duplicate name or extra whitespace: {line}"
            );
            value
        };
        self.text().lines().map(read).collect()
    }
}

impl std::io::Write for CapturedLogs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        assert!(
            bytes.ends_with(b"\n"),
            "each line must be a single write, so that lines cannot interleave"
        );
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for CapturedLogs {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

//! The real `bootstrap`, frozen between two invocations as Lambda freezes it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgetap::local_bridge::{EDGE_PATH, Endpoint, LocalBridge, Options, Reaction, TOKEN_PATH};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::runtime_api::{Outcome, Process, RuntimeApi};
use crate::support::certificates::{Kind, certificates};
use crate::support::fake_s3::FakeS3;
use crate::support::fake_sqs::FakeSqs;
use crate::support::fault_proxy::{FaultProxy, Manner};
use crate::support::{log, s3_event, start};

/// Tokens are renewed at half their lifetime; no invocation here takes that long.
const LIFETIME: Duration = Duration::from_secs(6);

// proves: D27
#[tokio::test]
async fn thawed_process_loses_nothing_and_gets_one_token() {
    let token_requests = Arc::new(AtomicU64::new(0));
    let count = token_requests.clone();
    let react = move |arrival: edgetap::local_bridge::Arrival<'_>| {
        count.fetch_add(
            u64::from(arrival.endpoint == Endpoint::Token),
            Ordering::Relaxed,
        );
        Reaction::Normal
    };
    let options = Options {
        token_lifetime: LIFETIME,
        react: Arc::new(react),
        ..Options::default()
    };
    let (s3, sqs, bridge) = (
        FakeS3::start().await,
        FakeSqs::start().await,
        start(&options).await,
    );
    let fault_proxy = |to| FaultProxy::start(to, || Manner::Smooth);
    let fault_proxies = [
        fault_proxy(s3.address()).await,
        fault_proxy(sqs.address()).await,
        fault_proxy(bridge.address()).await,
        fault_proxy(bridge.address()).await,
    ];
    let api = RuntimeApi::start().await;
    let mut process = Process::bootstrap(
        Path::new(env!("CARGO_BIN_EXE_bootstrap")),
        &api.address(),
        variables(&fault_proxies, &options),
    );
    for (key, rows) in [("before", 60), ("after", 90)] {
        s3.put(key, log(rows));
        sqs.send(s3_event(&[key]).to_string());
    }
    deliver(&api, &sqs).await;
    assert_eq!(
        (ids(&bridge), token_requests.load(Ordering::Relaxed)),
        (60, 1)
    );
    assert!(
        fault_proxies
            .iter()
            .all(|fault_proxy| fault_proxy.open_connections() > 0),
        "kept-alive connections"
    );

    process.signal("STOP");
    // While the process is frozen, its connections die and the token expires.
    for fault_proxy in &fault_proxies {
        fault_proxy.close();
        fault_proxy.open().await;
    }
    tokio::time::sleep(LIFETIME).await;
    process.signal("CONT");

    deliver(&api, &sqs).await;
    assert_eq!(
        (ids(&bridge), token_requests.load(Ordering::Relaxed)),
        (150, 2),
        "one new token"
    );
    assert_eq!(bridge.tally().repeated, 0);
    assert_eq!(sqs.requests("SendMessage"), 0);
    let output = process.stop();
    assert_eq!(output.stderr, [""; 0]);
    let lines: Vec<Value> = output
        .stdout
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines.iter().all(|line| line["level"] == "INFO"),
        "dead connections and expired tokens are not failures: {lines:#?}"
    );
    assert!(
        lines.iter().all(|line| line["token_requests"] == 1),
        "{lines:#?}"
    );
}

/// The logs are at an endpoint whose certificate a private authority issued.
#[tokio::test]
async fn function_trusts_the_authorities_that_are_named() {
    let certificates = certificates(Kind::PrivateCa, &["127.0.0.1"]);
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), certificates.ca_pem.unwrap()).unwrap();
    let ca = ca.path().to_str().unwrap();
    for (name, rows) in [
        (Some("SSL_CERT_FILE"), 60),
        (Some("AWS_CA_BUNDLE"), 60),
        (None, 0),
    ] {
        let options = Options::default();
        let (s3, sqs, bridge) = (
            FakeS3::start().await,
            FakeSqs::start().await,
            start(&options).await,
        );
        let to = |address| FaultProxy::start(address, || Manner::Smooth);
        let ways = [
            to(s3.address()).await,
            to(sqs.address()).await,
            to(bridge.address()).await,
            to(bridge.address()).await,
        ];
        let mut variables = variables(&ways, &options);
        let port = with_tls(s3.address(), certificates.server.clone()).await;
        let endpoint = format!("https://127.0.0.1:{port}");
        variables.retain(|(known, _)| *known != "AWS_ENDPOINT_URL_S3");
        variables.push(("AWS_ENDPOINT_URL_S3", endpoint));
        variables.extend(name.map(|name| (name, ca.to_owned())));
        let api = RuntimeApi::start().await;
        let mut process = Process::bootstrap(
            Path::new(env!("CARGO_BIN_EXE_bootstrap")),
            &api.address(),
            variables,
        );
        s3.put("key", log(60));
        sqs.send(s3_event(&["key"]).to_string());
        let record = sqs.receive(Duration::from_mins(30)).unwrap();
        api.invoke(json!({ "Records": [record] }), 20_000).await;
        let output = process.stop().stdout.join("\n");
        assert_eq!(ids(&bridge), rows, "{name:?}: {output}");
        let reason = "certificate was not issued by a trusted CA";
        let is_told = output.contains(reason) && output.contains("`AWS_CA_BUNDLE`");
        assert_eq!(is_told, name.is_none(), "{output}");
    }
}

/// Returns the port of a server that passes on what is in its TLS.
async fn with_tls(to: SocketAddr, server: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let accepting = TlsAcceptor::from(server.clone()).accept(stream);
            tokio::spawn(async move {
                let mut stream = accepting.await?;
                let mut server = TcpStream::connect(to).await?;
                copy_bidirectional(&mut stream, &mut server).await
            });
        }
    });
    port
}

/// Delivers the next message, which must take one invocation.
async fn deliver(api: &RuntimeApi, sqs: &FakeSqs) {
    let record = sqs.receive(Duration::from_mins(30)).unwrap();
    let id = record["messageId"].as_str().unwrap().to_owned();
    let response = api.invoke(json!({ "Records": [record] }), 60_000).await;
    assert_eq!(
        response,
        Outcome::Response(json!({ "batchItemFailures": [] }))
    );
    sqs.delete(&id);
}

fn ids(bridge: &LocalBridge) -> usize {
    bridge
        .received()
        .iter()
        .map(|batch| batch.transactions.len())
        .sum()
}

fn variables(
    [s3, sqs, edge, token]: &[FaultProxy; 4],
    options: &Options,
) -> Vec<(&'static str, String)> {
    let url =
        |fault_proxy: &FaultProxy, path: &str| format!("http://{}{path}", fault_proxy.address());
    // This machine, but not a loopback address.
    let aws = |fault_proxy: &FaultProxy| format!("http://0.0.0.0:{}", fault_proxy.address().port());
    vec![
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL_S3", aws(s3)),
        ("AWS_ENDPOINT_URL_SQS", aws(sqs)),
        ("BRIDGE_CLIENT_ID", options.client_id.clone()),
        ("BRIDGE_CLIENT_SECRET", options.client_secret.clone()),
        ("BRIDGE_AUTH_ENDPOINT", url(token, TOKEN_PATH)),
        ("BRIDGE_EDGE_ENDPOINT", url(edge, EDGE_PATH)),
        ("BATCH_MAX_TRANSACTIONS", "10".to_owned()),
        // A closed port: loopback addresses, the Runtime API, and AWS over plain http, which offers
        // credentials, are reached directly.
        ("ALL_PROXY", "http://127.0.0.1:1".to_owned()),
        ("HTTP_PROXY", "http://127.0.0.1:1".to_owned()),
    ]
}

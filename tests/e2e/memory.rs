//! Peak memory of the process (the number that Lambda bills) stays flat, whatever the object's size
//! and the bridge's failures.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgetap::local_bridge::{Endpoint, LocalBridge, Options, Reaction};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::fake_s3::FakeS3;
use crate::peers::bootstrap;
use crate::runtime_api::{Outcome, Process, RuntimeApi};

/// Rows of a gzip member, and the number of them that are sent.
const ROWS: u64 = 10_000;
const KEPT: u64 = 50;
/// Uncompressed megabytes of the small object: enough for more than one ranged GET.
const SMALL: u64 = 100;
/// Upper bound of the peak for any size.
const CAP: u64 = 48 << 20;

// proves: D26
#[tokio::test]
async fn large_object_takes_no_more_memory_than_a_small_one() {
    let (small, large) = (peak(SMALL).await, peak(megabytes()).await);
    println!(
        "peak memory: {} KiB for {SMALL} MB, {} KiB for {} MB",
        small >> 10,
        large >> 10,
        megabytes()
    );
    assert!(large <= CAP, "{large} bytes");
    assert!(large <= 2 * small, "{small} bytes, then {large}");
}

/// Uncompressed megabytes of the large object.
#[expect(
    clippy::disallowed_methods,
    reason = "this is not a setting of edgetap"
)]
fn megabytes() -> u64 {
    std::env::var("E2E_MEMORY_MB").map_or(2000, |megabytes| megabytes.parse().unwrap())
}

/// Delivers an object of this uncompressed size and returns the peak memory of the process.
async fn peak(megabytes: u64) -> u64 {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let options = Options {
        delay: Duration::from_millis(20),
        react: Arc::new(|arrival| match (arrival.endpoint, arrival.number % 8) {
            (Endpoint::Token, _) => Reaction::Normal,
            (_, 2) => Reaction::status(500),
            (_, 4) => Reaction::HangUp,
            (_, 6) => Reaction::After(Duration::from_millis(300)),
            _ => Reaction::Normal,
        }),
        watch: Some(Arc::new(move |batch| {
            count.fetch_add(batch.transactions.len() as u64, Ordering::Relaxed);
        })),
        ..Options::default()
    };
    let (id, secret) = (options.client_id.clone(), options.client_secret.clone());
    let (s3, api) = (FakeS3::start().await, RuntimeApi::start().await);
    let bridge = LocalBridge::start((Ipv4Addr::LOCALHOST, 0).into(), options)
        .await
        .unwrap();
    let (object, members) = object(megabytes);
    s3.put("large.gz", object);
    let mut process = Process::bootstrap(
        &bootstrap(),
        &api.address(),
        [
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL_S3", s3.endpoint()),
            ("BRIDGE_CLIENT_ID", id),
            ("BRIDGE_CLIENT_SECRET", secret),
            ("BRIDGE_AUTH_ENDPOINT", bridge.token_url()),
            ("BRIDGE_EDGE_ENDPOINT", bridge.edge_url()),
        ],
    );
    let record = json!({"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                        "s3": {"bucket": {"name": "logs"}, "object": {"key": "large.gz"}}});
    let outcome = api.invoke(json!({ "Records": [record] }), 900_000).await;
    assert_eq!(
        outcome,
        Outcome::Response(json!({ "objects": 1 })),
        "{:#?}",
        process.stop()
    );
    assert_eq!(
        sent.load(Ordering::Relaxed),
        members * KEPT,
        "every row arrived"
    );
    let peak = process.peak_memory();
    process.stop();
    peak
}

/// Returns a gzip file of equal members, and their number. A member holds realistic rows, most of
/// them for static assets.
fn object(megabytes: u64) -> (Vec<u8>, u64) {
    let header = "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(User-Agent) cs-uri-query\n";
    let agent = "Mozilla/5.0%20(X11;%20Linux%20x86_64)%20AppleWebKit/537.36%20(KHTML,%20like%20Gecko)%20Chrome/126.0.0.0%20Safari/537.36";
    let mut rows = String::new();
    for row in 0..ROWS {
        let (path, query) = if row % (ROWS / KEPT) == 0 {
            (format!("/api/orders/{row}"), "q=".repeat(300))
        } else {
            (format!("/assets/{row}.js"), "-".to_owned())
        };
        let ip = row % 250;
        let line = format!(
            "2026-11-14\t20:00:00\tFRA56-P4\t{row}\t192.0.2.{ip}\tGET\tapi.example.com\t{path}\t200\t{agent}\t{query}\n"
        );
        rows.push_str(&line);
    }
    let zip = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let members = (megabytes * 1_000_000).div_ceil(rows.len() as u64);
    let member = zip(&rows);
    let mut object = zip(header);
    (0..members).for_each(|_| object.extend_from_slice(&member));
    (object, members)
}

//! Peak memory of the process (the number that Lambda bills) stays flat, whatever the object's size
//! and the bridge's failures. A log in Parquet is copied to the temporary directory, and leaves
//! nothing there.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use edgetap::local_bridge::{Endpoint, LocalBridge, Options, Reaction};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::{Compression as Codec, GzipLevel, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_s3::{FakeS3, Fault};
use crate::peers::bootstrap;
use crate::runtime_api::{Outcome, Process, RuntimeApi};
use crate::tap::PATIENCE;

/// Rows of a gzip member, and the number of them that are sent.
const ROWS: u64 = 10_000;
const KEPT: u64 = 50;
/// Uncompressed megabytes of the small object: enough for more than one ranged GET.
const SMALL: u64 = 100;
/// Upper bound of the peak for any size.
const CAP: u64 = 48 << 20;
/// Rows of the Parquet log, all in one row group, and the upper bound of the peak with it.
const PARQUET_ROWS: u64 = 400_000;
const PARQUET_CAP: u64 = 40 << 20;

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

// proves: D26
#[tokio::test]
async fn large_parquet_log_takes_little_memory() {
    let object = parquet(PARQUET_ROWS);
    let size = object.len();
    let function = Function::start("large.parquet", object).await;
    let peak = function.deliver(PARQUET_ROWS / ROWS * KEPT).await;
    println!(
        "peak memory: {} KiB for {PARQUET_ROWS} rows of Parquet in {} KiB",
        peak >> 10,
        size >> 10
    );
    assert!(peak <= PARQUET_CAP, "{peak} bytes");
}

/// Lambda kills a function that is out of time, and its /tmp stays.
#[tokio::test]
async fn killed_function_leaves_no_copy_of_a_parquet_log() {
    let object = parquet(100_000);
    let half = object.len() / 2;
    let mut function = Function::start("killed.parquet", object).await;
    function.s3.fail(0, Fault::Stall(half, PATIENCE));
    let delivery = function.api.invoke(function.event(), 900_000);
    let copy = async {
        let started = Instant::now();
        while !function.has_copy() {
            assert!(started.elapsed() < PATIENCE, "the log was not copied");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        outcome = delivery => panic!("the invocation ended too early: {outcome:?}"),
        () = copy => {}
    }
    function.process.stop();
    let left = function.temporary.path().read_dir().unwrap();
    assert_eq!(left.count(), 0);
}

/// Delivers an object of this uncompressed size and returns the peak memory of the process.
async fn peak(megabytes: u64) -> u64 {
    let (object, members) = object(megabytes);
    let function = Function::start("large.gz", object).await;
    function.deliver(members * KEPT).await
}

/// The function, one object, and a slow bridge that fails now and then.
struct Function {
    key: &'static str,
    /// Transactions that the bridge received.
    sent: Arc<AtomicU64>,
    api: RuntimeApi,
    temporary: TempDir,
    process: Process,
    s3: FakeS3,
    _bridge: LocalBridge,
}

impl Function {
    async fn start(key: &'static str, object: Vec<u8>) -> Self {
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
        s3.put(key, object);
        let temporary = tempfile::tempdir().unwrap();
        let process = Process::bootstrap(
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
                ("TMPDIR", temporary.path().to_str().unwrap().to_owned()),
            ],
        );
        Self {
            key,
            sent,
            api,
            temporary,
            process,
            s3,
            _bridge: bridge,
        }
    }

    fn event(&self) -> Value {
        let record = json!({"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                            "s3": {"bucket": {"name": "logs"}, "object": {"key": self.key}}});
        json!({ "Records": [record] })
    }

    /// Delivers the object, of which `rows` are sent. Returns the peak memory of the process.
    async fn deliver(mut self, rows: u64) -> u64 {
        let outcome = self.api.invoke(self.event(), 900_000).await;
        assert_eq!(
            outcome,
            Outcome::Response(json!({ "objects": 1 })),
            "{:#?}",
            self.process.stop()
        );
        let sent = self.sent.load(Ordering::Relaxed);
        assert_eq!(sent, rows, "every row arrived");
        let peak = self.process.peak_memory();
        self.process.stop();
        peak
    }

    /// Whether the process has a file without a name open in the temporary directory.
    fn has_copy(&self) -> bool {
        let open = Path::new("/proc").join(self.process.id().to_string());
        let files = open.join("fd").read_dir().unwrap();
        files.flatten().any(|file| {
            let target = std::fs::read_link(file.path()).unwrap_or_default();
            target.starts_with(self.temporary.path()) && !target.exists()
        })
    }
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

/// Returns a Parquet file with 33 columns and realistic rows, most of them for static assets, as
/// AWS names them, in one row group.
fn parquet(rows: u64) -> Vec<u8> {
    const PIECE: u64 = 10_000;
    let columns = columns();
    let fields = columns.iter().map(|(name, _)| {
        let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY);
        Arc::new(
            column
                .with_repetition(Repetition::REQUIRED)
                .build()
                .unwrap(),
        )
    });
    let schema = Type::group_type_builder("schema").with_fields(fields.collect());
    let properties = WriterProperties::builder()
        .set_compression(Codec::GZIP(GzipLevel::try_new(1).unwrap()))
        .set_max_row_group_row_count(None)
        .build();
    let schema = Arc::new(schema.build().unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = file.next_row_group().unwrap();
    for (_, value) in &columns {
        let mut column = group.next_column().unwrap().unwrap();
        for first in (0..rows).step_by(usize::try_from(PIECE).unwrap()) {
            let piece = first..rows.min(first + PIECE);
            let values: Vec<ByteArray> = piece.map(|row| value(row).into_bytes().into()).collect();
            let writer = column.typed::<ByteArrayType>();
            writer.write_batch(&values, None, None).unwrap();
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    file.into_inner().unwrap()
}

/// Returns the value of a row.
type Cell = fn(u64) -> String;

/// The columns of a legacy log.
fn columns() -> Vec<(&'static str, Cell)> {
    fn either(row: u64, kept: &str, dropped: &str) -> String {
        let is_kept = row.is_multiple_of(ROWS / KEPT);
        if is_kept { kept } else { dropped }.replace("ROW", &row.to_string())
    }
    let cells: [(&str, Cell); 20] = [
        ("date", |_| "2026-11-14".to_owned()),
        ("time", |row| {
            format!("20:{:02}:{:02}", row / 60 % 60, row % 60)
        }),
        ("x_edge_location", |row| format!("FRA{}-P4", row % 60)),
        ("sc_bytes", |row| (row * 7 % 99_991).to_string()),
        ("c_ip", |row| format!("198.51.{}.{}", row % 256, row % 251)),
        ("cs_method", |_| "GET".to_owned()),
        ("cs_Host", |_| "d2xmpl7k3a9q0z.cloudfront.net".to_owned()),
        ("cs_uri_stem", |row| {
            either(row, "/api/orders/ROW", "/assets/ROW.js")
        }),
        ("sc_status", |_| "200".to_owned()),
        ("cs_Referer", |row| {
            format!("https://shop.example.com/list/{}", row % 20_000)
        }),
        ("cs_User_Agent", |row| {
            format!(
                "Mozilla/5.0%20(X11;%20Linux%20x86_64)%20Chrome/{}.0",
                row % 5_000
            )
        }),
        ("cs_uri_query", |row| either(row, &"q=".repeat(300), "-")),
        ("cs_Cookie", |row| format!("session={:x}", row * 7_919)),
        ("x_edge_request_id", |row| {
            let random = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let turned = random.rotate_left(17);
            format!("{random:016x}{:016x}{turned:016x}==", !random)
        }),
        ("x_host_header", |_| "shop.example.com".to_owned()),
        ("cs_bytes", |row| (row % 1_009).to_string()),
        ("time_taken", |row| format!("0.{:03}", row % 1000)),
        ("c_port", |row| (1024 + row % 60_000).to_string()),
        ("sc_content_type", |row| {
            either(row, "application/json", "text/javascript")
        }),
        ("sc_content_len", |row| (row * 31 % 100_003).to_string()),
    ];
    let nothing: [&str; 13] = [
        "x_edge_result_type",
        "cs_protocol",
        "x_forwarded_for",
        "ssl_protocol",
        "ssl_cipher",
        "x_edge_response_result_type",
        "cs_protocol_version",
        "fle_status",
        "fle_encrypted_fields",
        "time_to_first_byte",
        "x_edge_detailed_result_type",
        "sc_range_start",
        "sc_range_end",
    ];
    let nothing = nothing.map(|name| (name, (|_| "-".to_owned()) as Cell));
    cells.into_iter().chain(nothing).collect()
}

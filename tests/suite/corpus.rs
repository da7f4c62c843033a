//! Log rows that other projects published. They are not part of this repository, so these tests are
//! skipped if they are missing.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgetap::filter::StaticAssets;
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{Transaction, decode};
use edgetap::log::{Defect, LogError, LogReader};
use edgetap::pipeline::{Batches, Rules, Summary};
use serde_json::Value;

fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !path.is_dir() {
        eprintln!("SKIPPED: the corpus of published log rows is missing");
        return None;
    }
    Some(path)
}

/// Reads every transaction of a log, including static assets.
fn read(bytes: Vec<u8>) -> (Vec<Transaction>, Summary, Option<LogError>) {
    let static_assets = StaticAssets::parse("none").unwrap();
    let rules = Arc::new(Rules {
        static_assets,
        ..Rules::default()
    });
    let job = Job::all(ObjectRef::local("corpus"));
    let (mut transactions, mut summary, mut end) = (Vec::new(), Summary::default(), None);
    for batch in Batches::new(&job, Cursor::new(bytes), rules) {
        match batch {
            Ok(batch) => {
                if !batch.body.is_empty() {
                    transactions.extend(decode(&batch.body).unwrap());
                }
                summary.accept(&batch);
            }
            Err(error) => end = Some(error),
        }
    }
    (transactions, summary, end)
}

fn read_file(path: &Path) -> Vec<Transaction> {
    let (transactions, summary, end) = read(std::fs::read(path).unwrap());
    assert!(end.is_none(), "{}: {end:?}", path.display());
    assert_eq!(summary.counts.malformed, 0, "{}", path.display());
    transactions
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for child in std::fs::read_dir(directory).unwrap() {
        let path = child.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn text(header: Option<Vec<u8>>) -> Option<String> {
    header.map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn every_file_is_read_or_rejected_without_panic() {
    let Some(corpus) = corpus() else { return };
    let mut all = Vec::new();
    files(&corpus, &mut all);
    let (mut logs, mut rows) = (0, 0);
    for path in &all {
        let (transactions, summary, _) = read(std::fs::read(path).unwrap());
        assert!(summary.counts.is_balanced());
        logs += u32::from(!transactions.is_empty());
        rows += transactions.len();
    }
    assert!(
        logs >= 14 && rows > 100,
        "{logs} logs, {rows} rows of {} files",
        all.len()
    );
}

#[test]
fn other_logs_are_rejected_by_name() {
    let Some(corpus) = corpus() else { return };
    for (file, words) in [
        (
            "awsdocs__amazon-cloudfront-developer-guide/extracted/aws_docs_rtmp.log",
            "RTMP",
        ),
        ("aws_docs__v2/s3_w3c_example.log", "cs-method, cs-uri-stem"),
        (
            "aws_docs__v2/firehose_example.jsonl",
            "cs-method, cs-uri-stem",
        ),
    ] {
        let bytes = std::fs::read(corpus.join(file)).unwrap();
        if words == "RTMP" {
            // The pipeline skips it with a warning: it contains no requests that could be lost.
            let mut log = LogReader::new(&bytes[..]);
            assert!(log.advance().unwrap());
            let defect = log.record().1.defect().unwrap();
            assert!(matches!(defect, Defect::Foreign(name) if name.contains(words)));
            continue;
        }
        let (transactions, _, end) = read(bytes);
        assert!(transactions.is_empty());
        let end = end.unwrap_or_else(|| panic!("{file}")).to_string();
        assert!(end.contains(words), "{file}: {end}");
    }
}

/// The result of AWS's own parser is the oracle.
#[test]
fn row_decodes_as_the_aws_parser_does() {
    let Some(corpus) = corpus() else { return };
    let directory = corpus.join("aws_docs__parseCloudfront");
    let expected: Value =
        serde_json::from_slice(&std::fs::read(directory.join("expected.json")).unwrap()).unwrap();
    let [transaction] = &read_file(&directory.join("input.log"))[..] else {
        panic!()
    };
    let field = |name: &str| match &expected[name] {
        Value::String(text) if text == "-" => None,
        Value::String(text) => Some(text.clone()),
        number => Some(number.to_string()),
    };
    let (request, response) = (&transaction.request, &transaction.response);
    for (name, found) in [
        ("c-ip", Some(request.connection.connection_ip.clone())),
        (
            "c-port",
            request
                .connection
                .connection_port
                .map(|port| port.to_string()),
        ),
        ("cs-method", Some(request.http_method.clone())),
        ("cs-uri-stem", Some(request.uri_query_fragment.clone())),
        ("x-host-header", request.host.clone()),
        ("cs-protocol", request.http_scheme.clone()),
        (
            "cs-protocol-version",
            request
                .http_version
                .as_ref()
                .map(|version| format!("HTTP/{version}")),
        ),
        (
            "cs(User-Agent)",
            text(transaction.request_header("User-Agent")),
        ),
        ("cs(Referer)", text(transaction.request_header("Referer"))),
        ("cs(Cookie)", text(transaction.request_header("Cookie"))),
        ("sc-status", response.status_code.clone()),
        (
            "sc-content-type",
            text(transaction.response_header("Content-Type")),
        ),
        (
            "sc-content-len",
            text(transaction.response_header("Content-Length")),
        ),
        (
            "x-edge-request-id",
            Some(transaction.transaction_id.clone()),
        ),
        (
            "x-edge-location",
            transaction.txn_meta_data.source_info.instance_id.clone(),
        ),
    ] {
        assert_eq!(found, field(name), "{name}");
    }
    // 2019-12-04T21:02:31Z minus 0.001 s.
    assert_eq!(transaction.timestamp, "1575493350.999");
}

#[test]
fn forwarded_for_has_the_expected_addresses() {
    let Some(corpus) = corpus() else { return };
    let directory = corpus.join("asaaki__cloudfront-logs/extracted");
    let cases: Vec<Value> = serde_json::from_slice(
        &std::fs::read(directory.join("x_forwarded_for_cases.json")).unwrap(),
    )
    .unwrap();
    let template = std::fs::read_to_string(directory.join("tests_single_log_line.log")).unwrap();
    assert!(cases.len() >= 7);
    for case in cases {
        let mut row: Vec<&str> = template.trim_end().split('\t').collect();
        row[19] = case["raw"].as_str().unwrap();
        let (transactions, ..) = read(row.join("\t").into_bytes());
        let header = text(transactions[0].request_header("X-Forwarded-For")).unwrap();
        let header = header.strip_suffix(", 192.0.2.100").unwrap(); // c-ip
        // That parser removes leading zeros from addresses; edgetap sends the header unchanged.
        let bare = |address: &str| {
            address
                .split('.')
                .map(|number| number.trim_start_matches('0').to_owned())
                .collect::<Vec<_>>()
                .join(".")
        };
        let found: Vec<_> = header
            .split(',')
            .map(|address| bare(address.trim()))
            .collect();
        let expected: Vec<_> = case["expected"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| bare(address.as_str().unwrap()))
            .collect();
        assert_eq!(found, expected, "{case}");
    }
    let variants = read_file(&directory.join("tests_aws_docs_example_xff_variants.log"));
    let chain = |n: usize| text(variants[n].request_header("X-Forwarded-For"));
    assert_eq!(chain(0).as_deref(), Some("192.0.2.100"));
    assert_eq!(
        chain(1).as_deref(),
        Some("1.2.3.4, 5.6.7.8, 9.10.11.12, 192.0.2.100")
    );
    assert_eq!(
        chain(2).as_deref(),
        Some("24.62.90.247, 10.89.113.224, 10.89.112.141, 192.0.2.100")
    );
}

#[test]
fn single_and_double_encoding_give_the_same_requests() {
    let Some(corpus) = corpus() else { return };
    let directory = corpus.join("awsdocs__amazon-cloudfront-developer-guide/extracted");
    let twice = read_file(&directory.join("aws_docs_2019-12-20_double_encoded.log"));
    let once = read_file(&directory.join("aws_docs_2023-03-31_single_encoded.log"));
    assert_eq!(once.len(), 6);
    assert_eq!(twice, once);
}

#[test]
fn timestamp_matches_the_dynatrace_test() {
    let Some(corpus) = corpus() else { return };
    let [transaction] = &read_file(&corpus.join(
        "dynatrace-oss__dynatrace-aws-s3-log-forwarder/extracted/test_attribute_extraction.log",
    ))[..] else {
        panic!()
    };
    // 2023-02-16T14:11:45Z minus 0.026 s.
    assert_eq!(transaction.timestamp, "1676556704.974");
}

/// The expectations of that project's tests. The first row has 23 columns, the second 33, and
/// both lack a header.
#[test]
fn rows_match_the_logstash_patterns() {
    let Some(corpus) = corpus() else { return };
    let directory = corpus.join("logstash-plugins__logstash-patterns-core/extracted");
    let expected: Vec<Value> = serde_json::from_slice(
        &std::fs::read(directory.join("aws_spec_cloudfront.expected.json")).unwrap(),
    )
    .unwrap();
    let found = read_file(&directory.join("aws_spec_cloudfront.log"));
    assert_eq!(found.len(), expected.len());
    for (transaction, expected) in found.iter().zip(&expected) {
        let (request, response) = (&transaction.request, &transaction.response);
        for (name, found) in [
            ("clientip", Some(request.connection.connection_ip.clone())),
            (
                "source_port",
                request
                    .connection
                    .connection_port
                    .map(|port| port.to_string()),
            ),
            ("cs_method", Some(request.http_method.clone())),
            ("cs_uri_stem", Some(request.uri_query_fragment.clone())),
            ("x_host_header", request.host.clone()),
            ("cs_protocol", request.http_scheme.clone()),
            ("http_version", request.http_version.clone()),
            ("referrer", text(transaction.request_header("Referer"))),
            ("cookies", text(transaction.request_header("Cookie"))),
            ("sc_status", response.status_code.clone()),
            (
                "sc_content_type",
                text(transaction.response_header("Content-Type")),
            ),
            (
                "sc_content_len",
                text(transaction.response_header("Content-Length")),
            ),
            (
                "x_edge_location",
                transaction.txn_meta_data.source_info.instance_id.clone(),
            ),
        ] {
            let expected = match &expected[name] {
                Value::Null => None,
                Value::String(text) if text == "-" => None,
                Value::String(text) => Some(text.clone()),
                number => Some(number.to_string()),
            };
            assert_eq!(found, expected, "{name}");
        }
        assert!(
            text(transaction.request_header("User-Agent"))
                .unwrap()
                .contains("AppleWebKit/537.36 (KHTML, like Gecko)")
        );
    }
}

/// For each file: the number of transactions, and a header with text that every one contains.
#[test]
fn rows_match_the_notes_of_the_corpus() {
    let Some(corpus) = corpus() else { return };
    let dpetzold = "dpetzold__aws-log-parser/test/data";
    let opensearch = "aws-solutions__centralized-logging-with-opensearch";
    for (file, count, header, contained) in [
        (
            "aws-samples__amazon-cloudfront-log-analysis/lab1-serveless-cloudfront-log-analysis/sample-logs/raw-logs/sample-cloudfront-access-logs.gz".to_owned(),
            66,
            "User-Agent",
            "",
        ),
        ("coralogix__coralogix-aws-shipper/tests/fixtures/cloudfront.gz".to_owned(), 4, "User-Agent", "(KHTML, like Gecko) Chrome/119.0.0.0"),
        (format!("{dpetzold}/cloudfront_entry.csv"), 1, "Cookie", "zip=98101"),
        (format!("{dpetzold}/cloudfront_entry2.csv"), 1, "Referer", "www.unknownsingers.com"),
        (format!("{dpetzold}/cloudfront_entry_broken_cookie.csv"), 1, "Cookie", "zip 98101"),
        (format!("{dpetzold}/cloudfront_entry_cookie_with_encoding.csv"), 1, "Cookie", "this zip=98101"),
        (format!("{opensearch}/extracted/test_s3_object_replication_record.log"), 1, "User-Agent", "(iPad; CPU iPad OS 12_4_8 like Mac OS X)"),
    ] {
        let found = read_file(&corpus.join(&file));
        assert_eq!(found.len(), count, "{file}");
        for transaction in &found {
            let value = text(transaction.request_header(header)).unwrap_or_default();
            assert!(value.contains(contained), "{file}: {value}");
            assert!(!value.contains("%20"), "{file}: {value}");
        }
        if file.starts_with("coralogix") {
            assert!(found.iter().all(|transaction| transaction.response.status_code.as_deref() == Some("502")));
        }
        if file.contains("replication") {
            // 618754.3893625687 is not a length. A duration may have any number of decimals.
            assert_eq!(found[0].response_header("Content-Length"), None);
            assert_eq!(found[0].timestamp, "1688434142.253");
        }
    }
    let grafana = read_file(&corpus.join("grafana__lambda-promtail/testdata/cloudfront.log.gz"));
    assert!(
        grafana
            .iter()
            .any(|transaction| transaction.request.http_version.as_deref() == Some("1.0"))
    );
    assert!(grafana.iter().all(|transaction| {
        text(transaction.request_header("X-Forwarded-For"))
            .is_none_or(|chain| !chain.contains('\\'))
    }));
}

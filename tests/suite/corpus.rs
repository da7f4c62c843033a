//! Log rows that others published, where they are at hand. They are not part of this project.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgetap::filter::StaticAssets;
use edgetap::local_bridge::{Transaction, decode};
use edgetap::log::{LogError, LogReader};
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::work::{ObjectRef, Work};
use serde_json::Value;

/// The corpus; says so when it is not there.
fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !path.is_dir() {
        eprintln!("SKIPPED: the corpus of published log rows is not here");
        return None;
    }
    Some(path)
}

/// Every transaction of a log, static assets too.
fn read(bytes: Vec<u8>) -> (Vec<Transaction>, Summary, Option<LogError>) {
    let static_assets = StaticAssets::parse("none").unwrap();
    let rules = Arc::new(Rules { static_assets, ..Rules::default() });
    let work = Work::all(ObjectRef::local("corpus"));
    let (mut transactions, mut summary, mut end) = (Vec::new(), Summary::default(), None);
    for batch in Batches::new(&work, Cursor::new(bytes), rules) {
        match batch {
            Ok(batch) => {
                if !batch.body.is_empty() {
                    transactions.extend(decode(&batch.body).unwrap());
                }
                summary.settle(&batch, Vec::new());
            }
            Err(error) => end = Some(error),
        }
    }
    (transactions, summary, end)
}

fn read_file(path: &Path) -> Vec<Transaction> {
    let (transactions, summary, end) = read(std::fs::read(path).unwrap());
    assert!(end.is_none() && summary.counts.malformed == 0, "{}: {summary:?} {end:?}", path.display());
    transactions
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for child in std::fs::read_dir(folder).unwrap() {
        let path = child.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn text(header: Option<Vec<u8>>) -> Option<String> {
    header.map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn every_file_is_read_or_refused_without_a_panic() {
    let Some(corpus) = corpus() else { return };
    let mut all = Vec::new();
    files(&corpus, &mut all);
    let (mut logs, mut rows) = (0, 0);
    for path in &all {
        let (transactions, summary, _) = read(std::fs::read(path).unwrap());
        assert!(summary.counts.balance());
        logs += u32::from(!transactions.is_empty());
        rows += transactions.len();
    }
    assert!(logs >= 14 && rows > 100, "{logs} logs, {rows} rows of {} files", all.len());
}

#[test]
fn what_is_no_access_log_is_refused_by_name() {
    let Some(corpus) = corpus() else { return };
    for (file, words) in [
        ("awsdocs__amazon-cloudfront-developer-guide/extracted/aws_docs_rtmp.log", "RTMP"),
        ("aws_docs__v2/s3_w3c_example.log", "cs-method, cs-uri-stem, c-ip"),
        ("aws_docs__v2/firehose_example.jsonl", "cs-method, cs-uri-stem, c-ip"),
    ] {
        let bytes = std::fs::read(corpus.join(file)).unwrap();
        if words == "RTMP" {
            // Skipped, with a word in the log: it holds no requests to be lost.
            let error = LogReader::new(&bytes[..]).advance().unwrap_err();
            assert!(matches!(&error, LogError::OtherLog(name) if name.contains(words)), "{error}");
            continue;
        }
        let (transactions, _, end) = read(bytes);
        assert!(transactions.is_empty());
        let end = end.unwrap_or_else(|| panic!("{file}")).to_string();
        assert!(end.contains(words), "{file}: {end}");
    }
}

/// The vendor's own decoding of a row is the oracle.
#[test]
fn a_row_decodes_as_aws_decodes_it() {
    let Some(corpus) = corpus() else { return };
    let folder = corpus.join("aws_docs__parseCloudfront");
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let [transaction] = &read_file(&folder.join("input.log"))[..] else { panic!() };
    let field = |name: &str| match &expected[name] {
        Value::String(text) if text == "-" => None,
        Value::String(text) => Some(text.clone()),
        number => Some(number.to_string()),
    };
    let (request, response) = (&transaction.request, &transaction.response);
    for (name, found) in [
        ("c-ip", Some(request.connection.connection_ip.clone())),
        ("c-port", request.connection.connection_port.map(|port| port.to_string())),
        ("cs-method", Some(request.http_method.clone())),
        ("cs-uri-stem", Some(request.uri_query_fragment.clone())),
        ("x-host-header", request.host.clone()),
        ("cs-protocol", request.http_scheme.clone()),
        ("cs-protocol-version", request.http_version.as_ref().map(|version| format!("HTTP/{version}"))),
        ("cs(User-Agent)", text(transaction.request_header("User-Agent"))),
        ("cs(Referer)", text(transaction.request_header("Referer"))),
        ("cs(Cookie)", text(transaction.request_header("Cookie"))),
        ("x-forwarded-for", text(transaction.request_header("X-Forwarded-For"))),
        ("sc-status", response.status_code.clone()),
        ("sc-content-type", text(transaction.response_header("Content-Type"))),
        ("sc-content-len", text(transaction.response_header("Content-Length"))),
        ("x-edge-request-id", Some(transaction.transaction_id.clone())),
        ("x-edge-location", transaction.txn_meta_data.source_info.instance_id.clone()),
    ] {
        assert_eq!(found, field(name), "{name}");
    }
    // 2019-12-04T21:02:31Z, less 0.001 s.
    assert_eq!(transaction.timestamp, "1575493350.999");
}

#[test]
fn forwarded_for_holds_the_addresses_expected() {
    let Some(corpus) = corpus() else { return };
    let folder = corpus.join("asaaki__cloudfront-logs/extracted");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(folder.join("x_forwarded_for_cases.json")).unwrap()).unwrap();
    let template = std::fs::read_to_string(folder.join("tests_single_log_line.log")).unwrap();
    assert!(cases.len() >= 7);
    for case in cases {
        let mut row: Vec<&str> = template.trim_end().split('\t').collect();
        row[19] = case["raw"].as_str().unwrap();
        let (transactions, ..) = read(row.join("\t").into_bytes());
        let header = text(transactions[0].request_header("X-Forwarded-For")).unwrap();
        // That parser takes leading zeros from addresses; a header leaves here as it was sent.
        let bare = |address: &str| address.split('.').map(|octet| octet.trim_start_matches('0').to_owned()).collect::<Vec<_>>().join(".");
        let found: Vec<_> = header.split(',').map(|address| bare(address.trim())).collect();
        let expected: Vec<_> = case["expected"].as_array().unwrap().iter().map(|address| bare(address.as_str().unwrap())).collect();
        assert_eq!(found, expected, "{case}");
    }
    let variants = read_file(&folder.join("tests_aws_docs_example_xff_variants.log"));
    let chain = |n: usize| text(variants[n].request_header("X-Forwarded-For"));
    assert_eq!(chain(0), None);
    assert_eq!(chain(1).as_deref(), Some("1.2.3.4, 5.6.7.8, 9.10.11.12"));
    assert_eq!(chain(2).as_deref(), Some("24.62.90.247, 10.89.113.224, 10.89.112.141"));
}

#[test]
fn the_same_requests_encoded_once_and_twice_are_the_same_transactions() {
    let Some(corpus) = corpus() else { return };
    let folder = corpus.join("awsdocs__amazon-cloudfront-developer-guide/extracted");
    let twice = read_file(&folder.join("aws_docs_2019-12-20_double_encoded.log"));
    let once = read_file(&folder.join("aws_docs_2023-03-31_single_encoded.log"));
    assert_eq!(once.len(), 6);
    assert_eq!(twice, once);
}

#[test]
fn a_row_has_the_time_that_its_owner_says() {
    let Some(corpus) = corpus() else { return };
    let [transaction] =
        &read_file(&corpus.join("dynatrace-oss__dynatrace-aws-s3-log-forwarder/extracted/test_attribute_extraction.log"))[..]
    else {
        panic!()
    };
    // 2023-02-16T14:11:45Z, less 0.026 s.
    assert_eq!(transaction.timestamp, "1676556704.974");
}

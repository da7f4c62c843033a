//! From the bytes of a log to batches: the fixtures, and properties of any log.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Arc;

use edgetap::batch::{Batch, Counts, Limits, MAX_ROWS};
use edgetap::encode::{Encoding, Uap};
use edgetap::filter::{ExcludedPaths, IncludedPaths, StaticAssets};
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::decode;
use edgetap::log::LogError;
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::redact::{Cookies, Key, Names, Redaction};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{HEADER, fixtures, gzip, log, neutral, row, rules};

fn job(key: &str) -> Job {
    Job::all(ObjectRef::in_s3("fixtures", key))
}

fn batches(job: &Job, bytes: Vec<u8>, rules: &Arc<Rules>) -> (Vec<Batch>, Option<LogError>) {
    let (mut batches, mut end) = (Vec::new(), None);
    let mut all = Batches::new(job, Cursor::new(bytes), rules.clone());
    for batch in all.by_ref() {
        assert!(end.is_none(), "nothing follows the error");
        match batch {
            Ok(batch) => batches.push(batch),
            Err(error) => end = Some(error),
        }
    }
    assert!(all.next().is_none(), "the iterator is fused");
    let mut next_row = job.rows.first().unwrap();
    for Batch { rows, counts, .. } in &batches {
        assert_eq!(rows.start, next_row, "batches cover rows without gaps");
        assert!(counts.accounts_for(rows), "{rows:?}: {counts:?}");
        next_row = rows.end;
    }
    (batches, end)
}

fn summary(batches: &[Batch]) -> Summary {
    let mut summary = Summary::default();
    for batch in batches {
        summary.accept(batch);
    }
    summary
}

fn transactions(batches: &[Batch]) -> Vec<Value> {
    batches
        .iter()
        .filter(|batch| !batch.body.is_empty())
        .flat_map(|batch| decode(&batch.body).unwrap())
        .map(|t| neutral(&t))
        .collect()
}

/// Each fixture yields the transactions and counts of its `.expected.json`.
// proves: I2, I3, I12
#[test]
fn fixtures_yield_expected_transactions_and_counts() {
    let mut checked = 0;
    for file in std::fs::read_dir(fixtures().join("logs")).unwrap() {
        let path = file.unwrap().path();
        let Some(log) = path.to_str().unwrap().strip_suffix(".expected.json") else {
            continue;
        };
        let expected: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let name = std::path::Path::new(log)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        let job = job(name);
        let (batches, end) = batches(
            &job,
            std::fs::read(log).unwrap(),
            &rules(Limits {
                transactions: 3,
                ..Limits::default()
            }),
        );
        let Summary {
            counts,
            distribution,
            ..
        } = summary(&batches);
        assert!(counts.is_balanced(), "{name}: {counts:?}");
        let is_malformed = matches!(end, Some(LogError::Malformed { .. }));
        assert_eq!(
            is_malformed,
            counts.malformed == counts.rows,
            "{name}: {end:?}"
        );
        assert!(is_malformed || end.is_none(), "{name}: {end:?}");
        assert_eq!(
            json!({"rows": counts.rows, "sent": counts.sent, "static": counts.static_assets, "excluded": counts.excluded, "malformed": counts.malformed, "rejected": counts.rejected, "foreign": counts.foreign}),
            expected["counts"],
            "{name}"
        );
        assert_eq!(
            json!(distribution.or(job.object.distribution().map(str::to_owned))),
            expected["distribution"],
            "{name}"
        );
        let (found, expected) = (
            transactions(&batches),
            expected["transactions"].as_array().unwrap(),
        );
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(found.len(), expected.len(), "{name}");
        checked += 1;
    }
    assert!(checked >= 8, "{checked} fixtures");
}

// proves: I28
#[test]
fn static_extensions_replace_edit_or_empty_the_list() {
    let dropped = |setting: &str, path: &str| {
        let static_assets = StaticAssets::parse(setting).unwrap();
        let rules = Arc::new(Rules {
            static_assets,
            ..Rules::default()
        });
        let text = format!(
            "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem\n1700000000000\t192.0.2.1\tGET\t{path}\n"
        );
        summary(&batches(&job("x"), text.into_bytes(), &rules).0)
            .counts
            .static_assets
            == 1
    };
    for (setting, jpg, css, pdf) in [
        ("css, .PDF", false, true, true),
        ("+pdf", true, true, true),
        ("+pdf,-css", true, false, true),
        ("-.JPG", false, true, false),
        ("none", false, false, false),
        ("NONE", false, false, false),
    ] {
        assert_eq!(
            [
                dropped(setting, "/a.jpg"),
                dropped(setting, "/a.css"),
                dropped(setting, "/a.pdf")
            ],
            [jpg, css, pdf],
            "{setting}"
        );
    }
    for wrong in ["css,+pdf", "a/b", "+", "css,aaaaaaaaaaaaaaaaaaaaaaaaa"] {
        assert!(StaticAssets::parse(wrong).is_err(), "{wrong}");
    }
}

fn static_assets(setting: &str) -> StaticAssets {
    StaticAssets::parse(setting).unwrap()
}

fn excluded_paths(setting: &str) -> ExcludedPaths {
    ExcludedPaths::parse(setting).unwrap()
}

/// Rules with a value for every setting.
fn all_set() -> Rules {
    Rules {
        static_assets: static_assets("js,css"),
        included_paths: IncludedPaths::parse("/users/*/id-card.jpg").unwrap(),
        excluded_paths: excluded_paths("/metrics/**,/health,/metrics/**"),
        redaction: Redaction {
            urls: Some(Names::default()),
            cookies: Cookies::Hash(Key::new(*b"0123456789abcdef")),
        },
        encoding: Encoding::Uap(Uap {
            server_ip: "192.0.2.1".to_owned(),
            filter_name: "static-assets-custom".to_owned(),
        }),
        limits: Limits {
            transactions: 100,
            bytes: 500_000,
        },
    }
}

#[test]
fn canonical_text_of_rules_is_unchanged() {
    assert_eq!(
        all_set().canonical_text(),
        "edgetap rules 2\n\
         STATIC_EXTENSIONS 2\n3:css\n2:js\n\
         INCLUDE_PATHS 1\n20:/users/*/id-card.jpg\n\
         EXCLUDE_PATHS 2\n7:/health\n11:/metrics/**\n\
         REDACT 1\n2:on\n\
         REDACT_COOKIES 1\n4:hash\n\
         BATCH_MAX_TRANSACTIONS 1\n3:100\n\
         BATCH_MAX_BYTES 1\n6:500000\n\
         encoding 1\n3:uap\n\
         server_ip 1\n9:192.0.2.1\n\
         filter_name 1\n20:static-assets-custom\n"
    );
}

/// Queued messages carry the digest, so it must not change between releases.
#[test]
fn digest_is_unchanged_and_depends_on_every_field() {
    let changed = |change: &dyn Fn(&mut Rules)| {
        let mut rules = all_set();
        change(&mut rules);
        rules.digest()
    };
    let uap = |server_ip: &str, filter_name: &str| {
        Encoding::Uap(Uap {
            server_ip: server_ip.to_owned(),
            filter_name: filter_name.to_owned(),
        })
    };
    let digests = [
        (Rules::default().digest(), "675d8507ed054619"),
        (all_set().digest(), "a8b373cb5a3edc10"),
        (
            changed(&|rules| rules.static_assets = static_assets("css")),
            "5dce6e91749d8923",
        ),
        (
            changed(&|rules| rules.static_assets = static_assets("none")),
            "1d3f69addc599f6f",
        ),
        (
            changed(&|rules| rules.included_paths = IncludedPaths::default()),
            "739843cbba687cd3",
        ),
        (
            changed(&|rules| rules.excluded_paths = excluded_paths("/health")),
            "074af18bfa864ca4",
        ),
        (
            changed(&|rules| rules.redaction.urls = None),
            "4e57add9b88d67c5",
        ),
        (
            changed(&|rules| rules.redaction.cookies = Cookies::Keep),
            "ce5c82ed197ed6f3",
        ),
        (
            changed(&|rules| rules.redaction.cookies = Cookies::Drop),
            "cedcddd2ea749f66",
        ),
        (
            changed(&|rules| rules.encoding = Encoding::Ndjson),
            "402a8adc49ece948",
        ),
        (
            changed(&|rules| rules.encoding = uap("192.0.2.2", "static-assets-custom")),
            "76d5a3efd7a4a20b",
        ),
        (
            changed(&|rules| rules.encoding = uap("192.0.2.1", "static-assets")),
            "3168e36c9bc46001",
        ),
        (
            changed(&|rules| rules.limits.transactions = 101),
            "ea482f601d25f2d2",
        ),
        (
            changed(&|rules| rules.limits.bytes = 500_001),
            "9d201d7cf319e675",
        ),
    ];
    for (digest, expected) in &digests {
        assert_eq!(digest, expected);
    }
    let distinct: BTreeSet<_> = digests.iter().map(|(digest, _)| digest).collect();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn digest_ignores_order_repetition_and_the_cookie_key() {
    for change in [
        |rules: &mut Rules| rules.excluded_paths = excluded_paths("/health,/metrics/**"),
        |rules: &mut Rules| rules.static_assets = static_assets("css,js,CSS"),
        |rules: &mut Rules| rules.redaction.cookies = Cookies::Hash(None),
        |rules: &mut Rules| {
            rules.redaction.cookies = Cookies::Hash(Key::new(*b"another key of it"));
        },
    ] {
        let mut rules = all_set();
        change(&mut rules);
        assert_eq!(rules.digest(), all_set().digest(), "{rules:?}");
    }
}

/// A newline in one glob does not look like a second glob.
#[test]
fn digest_distinguishes_values_with_newlines() {
    let digest = |setting: &str| {
        let rules = Rules {
            excluded_paths: excluded_paths(setting),
            ..Rules::default()
        };
        rules.digest()
    };
    assert_ne!(digest("/a\n2:/b"), digest("/a,/b"));
}

/// The id is the SHA-256 of bucket, key and row with a NUL between them, so reading the rows again
/// gives the same ids.
// proves: D25
#[test]
fn missing_request_id_is_derived_from_position() {
    let row = "1700000000000\t::1\tGET\t/a\n";
    let text = format!("#Fields: timestamp(ms) c-ip cs-method cs-uri-stem\n{row}{row}");
    let (batches, _) = batches(&job("x"), text.into_bytes(), &rules(Limits::default()));
    let ids: Vec<_> = decode(&batches[0].body)
        .unwrap()
        .into_iter()
        .map(|transaction| transaction.transaction_id)
        .collect();
    assert_eq!(
        ids,
        [
            "ac111e59a21fa5aa3cb4efb94fe354ae75e45c98fad67d1ba55ffdd1eff65d6a",
            "b8afe03baba3d7c7fce149a1c37960d81918da655047ad6b16bac614602c61b8",
        ]
    );
}

// proves: I21
#[test]
fn encoded_newline_does_not_forge_a_transaction() {
    let forged = "x%0A2026-11-14%0920:00:00%096.6.6.6%09GET%09/forged%09200%09forged";
    let text = format!("{HEADER}2026-11-14\t20:00:00\t192.0.2.7\tGET\t/a?{forged}\t200\tid\n");
    let (batches, _) = batches(&job("x"), text.into_bytes(), &rules(Limits::default()));
    let found = transactions(&batches);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["client_ip"], "192.0.2.7");
    assert_eq!(found[0]["target"], format!("/a?{forged}"));
}

// proves: D3
#[test]
fn cut_log_yields_partial_batch_then_error() {
    let whole = gzip(&log(25));
    let (batches, end) = batches(
        &job("x"),
        whole[..whole.len() - 1].to_vec(),
        &rules(Limits {
            transactions: 10,
            bytes: 100_000,
        }),
    );
    assert_eq!(
        batches
            .iter()
            .map(|batch| batch.rows.clone())
            .collect::<Vec<_>>(),
        [0..10, 10..20, 20..25]
    );
    assert!(matches!(end, Some(LogError::Cut(_))), "{end:?}");
}

#[test]
fn oversized_transaction_gets_its_own_batch() {
    let large = "x".repeat(5000);
    let text = format!(
        "{HEADER}{}2026-11-14\t20:00:00\t192.0.2.7\tGET\t/{large}\t200\tlarge\n{}",
        row(0),
        row(2)
    );
    let (batches, _) = batches(
        &job("x"),
        text.into_bytes(),
        &rules(Limits {
            transactions: 250,
            bytes: 2000,
        }),
    );
    let shapes: Vec<_> = batches
        .iter()
        .map(|batch| (batch.rows.clone(), batch.marks.len()))
        .collect();
    assert_eq!(shapes, [(0..1, 1), (1..2, 1), (2..3, 1)]);
    assert!(batches[1].body.len() > 5000);
}

/// The row after [`MAX_ROWS`] dropped ones begins the next batch, and is counted there.
// proves: D1
#[test]
fn dropped_rows_close_a_batch_at_max_rows() {
    let assets = MAX_ROWS + 5;
    let asset = "2026-11-14\t20:00:00\t192.0.2.7\tGET\t/a.js\t200\tid\n";
    let text = HEADER.to_owned() + &asset.repeat(usize::try_from(assets).unwrap()) + &row(1);
    let (batches, _) = batches(&job("x"), text.into_bytes(), &rules(Limits::default()));
    let [first, last] = &batches[..] else {
        panic!("{batches:?}")
    };
    let counts = |static_assets, sent| Counts {
        rows: static_assets + sent,
        static_assets,
        sent,
        ..Counts::default()
    };
    assert_eq!(first.rows, 0..MAX_ROWS);
    assert_eq!(first.counts, counts(MAX_ROWS, 0));
    assert!(first.body.is_empty());
    assert_eq!(last.rows, MAX_ROWS..assets + 1);
    assert_eq!(last.counts, counts(5, 1));
    assert_eq!(last.marks.len(), 1);
}

#[test]
fn skipped_or_repeated_row_breaks_the_accounts() {
    let counts = Counts {
        rows: 3,
        sent: 1,
        static_assets: 1,
        malformed: 1,
        ..Counts::default()
    };
    assert!(counts.accounts_for(&(7..10)));
    assert!(!counts.accounts_for(&(7..11)), "a row was skipped");
    assert!(!counts.accounts_for(&(7..9)), "a row was counted twice");
    assert!(!Counts { sent: 2, ..counts }.accounts_for(&(7..10)));
}

#[test]
fn halves_of_a_batch_are_complete_bodies() {
    let (batches, _) = batches(&job("x"), log(9).into_bytes(), &rules(Limits::default()));
    let [batch] = &batches[..] else {
        panic!("{}", batches.len())
    };
    let [first, second] = batch.halves().unwrap();
    assert_eq!((first.rows.clone(), second.rows.clone()), (0..4, 4..9));
    let [third, fourth] = second.halves().unwrap();
    let ids: Vec<_> = [first, third, fourth]
        .iter()
        .flat_map(|part| decode(&part.body).unwrap())
        .map(|t| t.transaction_id)
        .collect();
    assert_eq!(
        ids,
        (0..9).map(|row| format!("id-{row}")).collect::<Vec<_>>()
    );
    let [single] = &batches_of_one()[..] else {
        panic!()
    };
    assert!(single.halves().is_none());
}

fn batches_of_one() -> Vec<Batch> {
    batches(&job("x"), log(1).into_bytes(), &rules(Limits::default())).0
}

/// A row of a generated log.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Api(usize),
    Static,
    Malformed,
    Blank,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (0usize..900).prop_map(Kind::Api),
        Just(Kind::Static),
        Just(Kind::Malformed),
        Just(Kind::Blank)
    ]
}

proptest! {
    // proves: D1
    #[test]
    fn batches_partition_kept_transactions_for_any_limits(
        kinds in prop::collection::vec(kind(), 0..120), transactions in 1usize..40, bytes in 1000usize..8000, from in 0u64..60,
    ) {
        let limits = Limits { transactions, bytes };
        let mut text = HEADER.to_owned();
        let (mut row, mut kept) = (0u64, Vec::new());
        let has_readable = kinds.iter().any(|kind| matches!(kind, Kind::Api(_) | Kind::Static));
        for kind in kinds {
            let (path, id) = match kind {
                Kind::Blank => { text.push('\n'); continue }
                Kind::Api(padding) => { if row >= from { kept.push(row); } (format!("/api/{}", "p".repeat(padding)), format!("id-{row}")) }
                Kind::Static => ("/a.css".to_owned(), format!("id-{row}")),
                Kind::Malformed => ("-".to_owned(), format!("id-{row}")),
            };
            writeln!(text, "2026-11-14\t20:00:00\t192.0.2.7\tGET\t{path}\t200\t{id}").unwrap();
            row += 1;
        }
        let job = Job { rows: (from..u64::MAX).into(), ..job("x") };
        let (batches, end) = batches(&job, text.into_bytes(), &rules(limits));
        let is_refused = row > 0 && !has_readable;
        prop_assert_eq!(matches!(end, Some(LogError::Malformed { .. })), is_refused);
        prop_assert_eq!(end.is_some(), is_refused);
        let mut next = from;
        let mut total = Counts::default();
        for batch in &batches {
            prop_assert!(!batch.rows.is_empty());
            next = batch.rows.end;
            prop_assert!(batch.marks.len() <= transactions);
            prop_assert!(batch.body.len() <= bytes || batch.marks.len() == 1);
            prop_assert_eq!(batch.counts.sent, batch.marks.len() as u64);
            total += batch.counts;
        }
        prop_assert_eq!(next, row.max(from));
        let found: Vec<u64> = batches.iter().flat_map(|batch| batch.marks.iter().map(|mark| mark.row)).collect();
        prop_assert_eq!(&found, &kept);
        let ids: Vec<String> = batches.iter().filter(|batch| !batch.body.is_empty())
            .flat_map(|batch| decode(&batch.body).unwrap()).map(|t| t.transaction_id).collect();
        prop_assert_eq!(ids, kept.iter().map(|row| format!("id-{row}")).collect::<Vec<_>>());
        prop_assert!(total.accounts_for(&(from..next)));
    }

    #[test]
    fn any_bytes_yield_batches_or_an_error_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), header: bool, zip: bool) {
        let mut text = if header { HEADER.as_bytes().to_vec() } else { Vec::new() };
        text.extend(bytes);
        let bytes = if zip { gzip(&String::from_utf8_lossy(&text)) } else { text };
        let (batches, _) = batches(&job("x"), bytes, &rules(Limits { transactions: 2, bytes: 1000 }));
        prop_assert!(summary(&batches).counts.is_balanced());
    }
}

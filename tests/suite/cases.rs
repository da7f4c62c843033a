//! Small logs with right answers. `expected.json` names each log and says what `edgetap replay`
//! makes of it:
//!
//! - `exit`: the exit status; `transactions` or `rows`: how many transactions are sent, and
//!   `at_least`, how many at least;
//! - `sent`, `must_be_sent`, `dropped`, `must_be_dropped`: IDs of requests;
//! - `target_must_contain`, `user_agent_as_sent`: by ID, what masking and decoding leave;
//! - `must_be_gone`: text that masking removes;
//! - `settings`: variables. Without those and the IDs of requests, static assets are sent too.

use std::collections::BTreeMap;
use std::path::Path;

use base64_simd::STANDARD;
use edgetap::local_bridge::{Transaction, decode};
use serde::Deserialize;
use serde_json::{Value, from_slice};

use crate::command_line::edgetap;
use crate::support::fixtures;

/// Unix seconds of 2001 and 2096: every time of a request is between them.
const TIMES: std::ops::Range<f64> = 1e9..4e9;

#[derive(Deserialize)]
struct Expected {
    exit: Option<i32>,
    transactions: Option<usize>,
    rows: Option<usize>,
    #[serde(default)]
    at_least: usize,
    sent: Option<Vec<String>>,
    must_be_sent: Option<Vec<String>>,
    dropped: Option<Vec<String>>,
    must_be_dropped: Option<Vec<String>>,
    #[serde(default)]
    target_must_contain: BTreeMap<String, String>,
    #[serde(default)]
    user_agent_as_sent: BTreeMap<String, String>,
    #[serde(default)]
    must_be_gone: Vec<String>,
    settings: Option<BTreeMap<String, String>>,
}

impl Expected {
    fn variables(&self) -> Vec<(&str, &str)> {
        let ids = [
            &self.sent,
            &self.dropped,
            &self.must_be_sent,
            &self.must_be_dropped,
        ];
        let has_rule = self.settings.is_some() || ids.iter().any(|ids| ids.is_some());
        let settings = self.settings.iter().flatten();
        let mut variables: Vec<_> = settings
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if !has_rule {
            variables.push(("STATIC_EXTENSIONS", "none"));
        }
        variables
    }

    /// Returns how the replay of a log differs from this.
    fn differences(&self, log: &Path) -> Vec<String> {
        let args = ["replay", "--wire", "uap", log.to_str().unwrap()];
        let output = edgetap(&args, &self.variables(), b"");
        let bodies = output.stdout.split(|byte| *byte == b'\n');
        let sent: Vec<Transaction> = bodies
            .filter(|body| !body.is_empty())
            .flat_map(|body| decode(body).unwrap())
            .collect();
        let by_id = |id: &String| sent.iter().find(|sent| sent.transaction_id == *id);
        let mut found = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                found.push(what);
            }
        };
        let status = output.status.code();
        check(
            self.exit.is_none() || self.exit == status,
            format!("exit status {status:?}"),
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_silent =
            sent.is_empty() && self.transactions != Some(0) && !stderr.contains(" 0 rows");
        check(
            !(status == Some(0) && is_silent),
            "success, and nothing was sent".to_owned(),
        );
        for count in [self.transactions, self.rows].into_iter().flatten() {
            check(
                sent.len() == count,
                format!("{} transactions, not {count}", sent.len()),
            );
        }
        check(
            sent.len() >= self.at_least,
            format!("{} transactions", sent.len()),
        );
        for id in [&self.sent, &self.must_be_sent]
            .into_iter()
            .flatten()
            .flatten()
        {
            check(by_id(id).is_some(), format!("{id} was dropped"));
        }
        for id in [&self.dropped, &self.must_be_dropped]
            .into_iter()
            .flatten()
            .flatten()
        {
            check(by_id(id).is_none(), format!("{id} was sent"));
        }
        for (id, text) in &self.target_must_contain {
            let target = by_id(id).map(|sent| &sent.request.uri_query_fragment);
            check(
                target.is_some_and(|target| target.contains(text)),
                format!("{id}: {text} is not in {target:?}"),
            );
        }
        for (id, agent) in &self.user_agent_as_sent {
            let found = by_id(id).and_then(|sent| {
                headers(sent).find_map(|(name, value)| (name == "User-Agent").then_some(value))
            });
            check(
                found.as_ref() == Some(agent),
                format!("{id}: another user agent than {agent}"),
            );
        }
        let text: String = sent
            .iter()
            .flat_map(|sent| {
                let values = headers(sent).map(|(_, value)| value);
                values.chain([format!("{sent:?}")])
            })
            .collect();
        for secret in &self.must_be_gone {
            check(!text.contains(secret), format!("{secret} was sent"));
        }
        for sent in &sent {
            let time = sent.timestamp.parse().unwrap_or_default();
            check(
                TIMES.contains(&time),
                format!("{}: started {}", sent.transaction_id, sent.timestamp),
            );
        }
        found
    }
}

/// Returns the request's headers, with their decoded values.
fn headers(transaction: &Transaction) -> impl Iterator<Item = (&str, String)> {
    transaction.request.headers.iter().map(|header| {
        let (name, value) = header.split_once(':').unwrap();
        let value = STANDARD.decode_to_vec(value).unwrap();
        (name, String::from_utf8_lossy(&value).into_owned())
    })
}

/// Returns how the replays of all logs in a directory differ from what its `expected.json` says.
fn differences(directory: &Path) -> Vec<String> {
    let expected = std::fs::read(directory.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Value> = from_slice(&expected).unwrap();
    assert!(!expected.is_empty());
    let mut found = Vec::new();
    // A message is not a log.
    let logs = expected
        .into_iter()
        .filter(|(log, _)| !log.contains("letter-"));
    for (log, expected) in logs {
        let expected = Expected::deserialize(expected).unwrap();
        let differences = expected.differences(&directory.join(&log));
        found.extend(differences.into_iter().map(|what| format!("{log}: {what}")));
    }
    found
}

#[test]
fn cases_have_the_expected_results() {
    let found = differences(&fixtures().join("cases"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn published_cases_have_the_expected_results() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    if !cases.is_dir() {
        eprintln!("SKIPPED: the cases with right answers are missing");
        return;
    }
    let mut found = differences(&cases);
    // It has three requests, each with the fields of a transaction.
    found.retain(|what| what != "logs/parquet-names-as-json.json: 3 transactions, not 1");
    assert!(found.is_empty(), "{found:#?}");
}

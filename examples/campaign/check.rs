//! The invariants of a run, whatever faults it had.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use edgetap::job::{Continuation, RowRanges};
use edgetap::work_queue::MAX_REQUEUES;
use serde_json::Value;

use crate::logs::{CONTENT_CANARY, Log, Row, ids, log_of, multiset};

/// The observations of a run.
#[derive(Default)]
pub(crate) struct Evidence {
    pub logs: Vec<Log>,
    /// The maximum number of transactions in flight.
    pub in_flight: usize,
    pub invocations: Vec<Invocation>,
    /// The number of invocations before the final redrive.
    pub before_redrive: usize,
    /// The dead letters before the final redrive.
    pub dead_letters: Vec<Continuation>,
    /// The dead letters at the end.
    pub dead_letters_left: Vec<Continuation>,
    /// Log lines, responses and dead letters.
    pub output: Vec<String>,
    /// Texts that must not be in the output.
    pub secrets: BTreeSet<String>,
    /// Violations found during the run.
    pub violations: Vec<String>,
}

/// One invocation, or two concurrent ones. It has several messages if there are two invocations, or
/// if one message names several objects.
#[derive(Default)]
pub(crate) struct Invocation {
    pub messages: Vec<Message>,
    /// The current version of each log.
    pub current: Vec<usize>,
    pub was_killed: bool,
    /// Whether no request to SQS failed.
    pub queue_is_sound: bool,
    /// Whether its effects can be separated from those of other invocations.
    pub stands_alone: bool,
    /// Requests whose responses may have been lost.
    pub lost_responses: usize,
    pub accepted: Vec<Accepted>,
    /// The messages it sent to either queue.
    pub sent: Vec<Continuation>,
    /// Its log lines, if they can be attributed.
    pub lines: Option<Vec<Value>>,
}

/// One object in a message of an invocation.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub key: String,
    pub etag: Option<String>,
    pub rows: RowRanges,
    pub requeue_count: u8,
    /// Whether the message was deleted afterwards.
    pub done: bool,
}

/// A batch that the bridge accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub key: String,
    pub body: Vec<u8>,
    pub ids: Vec<String>,
}

/// Returns the violated invariants.
pub(crate) fn check(evidence: &Evidence) -> Vec<String> {
    let mut violations = evidence.violations.clone();
    nothing_is_lost(evidence, &mut violations);
    keys_identify_batches(evidence, &mut violations);
    for (number, invocation) in evidence.invocations.iter().enumerate() {
        let mut found = Vec::new();
        repeats_are_explained(invocation, &mut found);
        if invocation.stands_alone {
            only_requested_rows_are_sent(evidence, invocation, &mut found);
            accepted_rows_are_not_left_over(evidence, invocation, &mut found);
            rows_are_conserved(evidence, invocation, &mut found);
        }
        violations.extend(
            found
                .into_iter()
                .map(|what| format!("invocation {number}: {what}")),
        );
    }
    lines_balance_and_keep_secrets(evidence, &mut violations);
    violations
}

/// The bridge has every expected transaction and no other, or a dead letter with a reason names the
/// row.
fn nothing_is_lost(evidence: &Evidence, violations: &mut Vec<String>) {
    let accepted_in = |invocations: &[Invocation]| {
        multiset(
            invocations
                .iter()
                .flat_map(|one| &one.accepted)
                .flat_map(|batch| batch.ids.iter().cloned()),
        )
    };
    let known = ids(&evidence.logs);
    let all = accepted_in(&evidence.invocations);
    violations.extend(
        all.keys()
            .filter(|id| !known.contains(*id))
            .map(|id| format!("{id} was invented")),
    );
    let first = accepted_in(&evidence.invocations[..evidence.before_redrive]);
    for log in &evidence.logs {
        let dead_letters: Vec<_> = evidence
            .dead_letters
            .iter()
            .filter(|dead_letter| dead_letter.object.key == log.key)
            .collect();
        let is_dead = |row| {
            dead_letters
                .iter()
                .any(|dead_letter| covers(&dead_letter.rows, row))
        };
        let rows = || log.kept(0..log.rows.len() as u64);
        let lost: Vec<_> = rows()
            .filter(|row| !first.contains_key(&log.id(*row)) && !is_dead(*row))
            .collect();
        if !lost.is_empty() {
            violations.push(format!(
                "lost rows of the {} rows of {}: {lost:?}",
                log.rows.len(),
                log.key
            ));
        }
        let late: Vec<_> = rows()
            .filter(|row| !all.contains_key(&log.id(*row)))
            .collect();
        if !late.is_empty() {
            violations.push(format!(
                "rows of {} that did not arrive after the repair: {late:?}",
                log.key
            ));
        }
    }
    for dead_letter in &evidence.dead_letters {
        if dead_letter.reason.is_empty() || dead_letter.rows.is_empty() {
            violations.push(format!(
                "a dead letter has no reason or no rows: {dead_letter:?}"
            ));
        }
    }
    for dead_letter in &evidence.dead_letters_left {
        violations.push(format!("dead-lettered after the repair: {dead_letter:?}"));
    }
    let messages = evidence
        .dead_letters
        .iter()
        .chain(evidence.invocations.iter().flat_map(|one| &one.sent));
    for message in messages.filter(|message| message.requeue_count > MAX_REQUEUES) {
        violations.push(format!("{} requeues: {message:?}", message.requeue_count));
    }
}

/// A batch's key is derived from its rows, and its body holds all of them. Two batches of one
/// version of an object are equal, disjoint, or one contains the other.
fn keys_identify_batches(evidence: &Evidence, violations: &mut Vec<String>) {
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    let mut ranges: BTreeSet<(&str, usize, u64, u64)> = BTreeSet::new();
    for (invocation, batch) in evidence
        .invocations
        .iter()
        .flat_map(|one| one.accepted.iter().map(move |batch| (one, batch)))
    {
        if bodies
            .insert(&batch.key, &batch.body)
            .is_some_and(|body| body != batch.body)
        {
            violations.push(format!("two bodies under the key {}", batch.key));
        }
        let Some((log, version, rows)) = identify(&evidence.logs, batch) else {
            violations.push(format!(
                "a key that matches no rows of the object: {} for {:?}",
                batch.key, batch.ids
            ));
            continue;
        };
        if log
            .kept(rows.clone())
            .map(|row| log.id(row))
            .collect::<Vec<_>>()
            != batch.ids
        {
            violations.push(format!("{} batch {rows:?} holds {:?}", log.key, batch.ids));
        }
        // Adjacent rows that were rejected in two batches are redriven in one.
        let mut asked = invocation
            .messages
            .iter()
            .filter(|message| message.key == log.key)
            .flat_map(|message| &message.rows);
        let was_rejected = asked
            .any(|(start, end)| *start <= rows.start && end.is_some_and(|end| rows.end <= end));
        if !log.versions[version].uneven && !was_rejected {
            ranges.insert((&log.key, version, rows.start, rows.end));
        }
    }
    for (key, version, start, end) in &ranges {
        let crossing = ranges
            .iter()
            .filter(|other| (other.0, other.1) == (*key, *version));
        for (.., from, to) in
            crossing.filter(|(.., from, to)| from > start && from < end && to > end)
        {
            violations.push(format!(
                "{key}: batches {start}..{end} and {from}..{to} cross"
            ));
        }
    }
}

/// An invocation repeats an accepted batch only if the response was lost.
fn repeats_are_explained(invocation: &Invocation, violations: &mut Vec<String>) {
    let asked: usize = invocation
        .messages
        .iter()
        .map(|message| message.rows.len())
        .sum();
    let repeats: usize = multiset(invocation.accepted.iter().map(|batch| &batch.key))
        .into_values()
        .map(|times| times.saturating_sub(asked.max(1)))
        .sum();
    if repeats > invocation.lost_responses {
        violations.push(format!(
            "{repeats} batches were accepted again, but {} responses were lost",
            invocation.lost_responses
        ));
    }
}

fn only_requested_rows_are_sent(
    evidence: &Evidence,
    invocation: &Invocation,
    violations: &mut Vec<String>,
) {
    for batch in &invocation.accepted {
        let Some((log, _, rows)) = identify(&evidence.logs, batch) else {
            continue;
        };
        let asked = invocation
            .messages
            .iter()
            .filter(|message| message.key == log.key);
        let is_asked = |message: &Message| {
            let replaced = message.etag.is_some()
                && message.etag.as_deref() != Some(current(evidence, invocation, log).1);
            replaced || log.kept(rows.clone()).all(|row| covers(&message.rows, row))
        };
        if !asked.into_iter().any(is_asked) {
            violations.push(format!(
                "rows {rows:?} of {} were sent, but the invocation had {:?}",
                log.key, invocation.messages
            ));
        }
    }
}

/// Delivery resumes and does not start over: if an invocation could send its remainder, only
/// requests in flight are repeated.
fn accepted_rows_are_not_left_over(
    evidence: &Evidence,
    invocation: &Invocation,
    violations: &mut Vec<String>,
) {
    let [message] = &invocation.messages[..] else {
        return;
    };
    if invocation.was_killed || !invocation.queue_is_sound || message.requeue_count >= MAX_REQUEUES
    {
        return;
    }
    let mut left: Vec<&RowRanges> = invocation
        .sent
        .iter()
        .map(|remainder| &remainder.rows)
        .collect();
    if !message.done {
        left.push(&message.rows);
    }
    let ids: BTreeSet<&String> = invocation
        .accepted
        .iter()
        .flat_map(|batch| &batch.ids)
        .collect();
    let row = |id: &str| {
        id.rsplit_once('-')
            .and_then(|(_, row)| row.parse().ok())
            .unwrap_or(0)
    };
    let again = ids
        .iter()
        .filter(|id| left.iter().any(|rows| covers(rows, row(id))))
        .count();
    if again > evidence.in_flight {
        violations.push(format!(
            "{again} transactions were accepted and will be repeated, but only {} can be in flight: {message:?}, remaining {left:?}",
            evidence.in_flight
        ));
    }
}

/// The counts of an invocation are those of the rows from its start to its end, so that they add up
/// over all invocations.
fn rows_are_conserved(evidence: &Evidence, invocation: &Invocation, violations: &mut Vec<String>) {
    let (Some(lines), [message]) = (&invocation.lines, &invocation.messages[..]) else {
        return;
    };
    let Some(log) = evidence.logs.iter().find(|log| log.key == message.key) else {
        return;
    };
    let (version, etag) = current(evidence, invocation, log);
    let [(start, None)] = message.rows[..] else {
        return;
    };
    let is_other = message.etag.as_deref().is_some_and(|wanted| wanted != etag);
    if invocation.was_killed
        || !invocation.queue_is_sound
        || message.requeue_count >= MAX_REQUEUES
        || is_other
        || log.versions[version].uneven
    {
        return;
    }
    let remainders = invocation.sent.iter().flat_map(|remainder| &remainder.rows);
    let end = remainders
        .filter(|(_, end)| end.is_none())
        .map(|(start, _)| *start)
        .min();
    let end = end.unwrap_or(if message.done {
        log.versions[version].rows
    } else {
        start
    });
    let object = format!("s3://logs/{}", log.key);
    let reports: Vec<_> = lines
        .iter()
        .filter(|line| line["object"] == object && line["rows"].is_u64())
        .collect();
    let [report] = reports[..] else {
        violations.push(format!(
            "{} lines report {object}: {reports:?}",
            reports.len()
        ));
        return;
    };
    let number = |name: &str| report[name].as_u64().unwrap_or(u64::MAX);
    let rows = start.min(end)..end;
    let rejected: BTreeSet<_> = invocation
        .sent
        .iter()
        .flat_map(|remainder| &remainder.rows)
        .filter_map(|(start, end)| Some((*start, (*end)?)))
        .collect();
    let rejected: u64 = rejected.into_iter().map(|(start, end)| end - start).sum();
    let expected = [
        ("rows", end - rows.start),
        ("static", log.count(rows.clone(), Row::Static)),
        ("malformed", log.count(rows.clone(), Row::Malformed)),
        ("rejected", rejected),
        (
            "sent",
            log.count(rows.clone(), Row::Sent).saturating_sub(rejected),
        ),
    ];
    for (name, expected) in expected {
        if number(name) != expected {
            violations.push(format!(
                "{name} is {}, but should be {expected} for rows {rows:?} of {}: {report}",
                number(name),
                log.key
            ));
        }
    }
}

fn lines_balance_and_keep_secrets(evidence: &Evidence, violations: &mut Vec<String>) {
    for line in &evidence.output {
        let members: Value = serde_json::from_str(line).unwrap_or_default();
        let number = |name: &str| members[name].as_u64();
        if let (Some(rows), Some(sent)) = (number("rows"), number("sent")) {
            let accounted = sent
                + ["static", "malformed", "rejected"]
                    .iter()
                    .filter_map(|name| number(name))
                    .sum::<u64>();
            if rows != accounted {
                violations.push(format!("the row counts do not add up: {line}"));
            }
        }
        let secrets = evidence.secrets.iter().map(String::as_str);
        if let Some(secret) = secrets
            .chain([CONTENT_CANARY, "Bearer "])
            .find(|secret| line.contains(secret))
        {
            violations.push(format!("{secret:?} was leaked: {line}"));
        }
    }
}

fn identify<'a>(logs: &'a [Log], batch: &Accepted) -> Option<(&'a Log, usize, Range<u64>)> {
    let log = log_of(logs, batch.ids.first()?)?;
    let (version, rows) = log.identify(&batch.key, &batch.ids)?;
    Some((log, version, rows))
}

/// Returns the current version of a log, and its `ETag`.
fn current<'a>(evidence: &'a Evidence, invocation: &Invocation, log: &Log) -> (usize, &'a str) {
    let index = evidence
        .logs
        .iter()
        .position(|other| other.key == log.key)
        .unwrap_or(0);
    let version = invocation.current.get(index).copied().unwrap_or(0);
    (version, &evidence.logs[index].versions[version].etag)
}

fn covers(rows: &RowRanges, row: u64) -> bool {
    rows.iter()
        .any(|(start, end)| (*start..end.unwrap_or(u64::MAX)).contains(&row))
}

/// Every check can fail.
#[cfg(test)]
mod tests {
    use edgetap::job::ContinuedObject;
    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn batch(log: &Log, rows: Range<u64>) -> Accepted {
        let etag = &log.versions[0].etag;
        let text = format!(
            "logs\0{}\0{etag}\0{}\0{}",
            log.key,
            rows.start,
            rows.end - 1
        );
        let ids: Vec<_> = log.kept(rows).map(|row| log.id(row)).collect();
        Accepted {
            key: hex::encode(Sha256::digest(text)),
            body: ids.concat().into_bytes(),
            ids,
        }
    }

    fn remainder(log: &Log, rows: RowRanges, requeue_count: u8) -> Continuation {
        let object = ContinuedObject {
            bucket: "logs".to_owned(),
            key: log.key.clone(),
            etag: Some(log.versions[0].etag.clone()),
        };
        let since = jiff::Timestamp::UNIX_EPOCH;
        Continuation {
            edgetap: 1,
            object,
            rows,
            since,
            requeue_count,
            reason: "why".to_owned(),
            rules: String::new(),
        }
    }

    fn line(log: &Log, rows: u64, sent: u64, dropped: u64) -> Value {
        json!({"object": format!("s3://logs/{}", log.key), "rows": rows, "sent": sent, "static": dropped, "malformed": 0, "rejected": 0})
    }

    /// A log of 40 rows, all sent except row 3, in batches of 10: one half, a requeue, the other
    /// half.
    fn sound() -> Evidence {
        let mut rows = vec![Row::Sent; 40];
        rows[3] = Row::Static;
        let log = Log::whole("log-0", rows);
        let message = |rows: RowRanges, requeue_count| Message {
            key: "log-0".to_owned(),
            etag: None,
            rows,
            requeue_count,
            done: true,
        };
        let invocation =
            |start: u64, end: u64, sent: Vec<Continuation>, line: Value, requeue_count| {
                Invocation {
                    messages: vec![message(vec![(start, None)], requeue_count)],
                    current: vec![0],
                    queue_is_sound: true,
                    stands_alone: true,
                    accepted: (start..end)
                        .step_by(10)
                        .map(|row| batch(&log, row..row + 10))
                        .collect(),
                    sent,
                    lines: Some(vec![line]),
                    ..Invocation::default()
                }
            };
        let first = invocation(
            0,
            20,
            vec![remainder(&log, vec![(20, None)], 1)],
            line(&log, 20, 19, 1),
            0,
        );
        let second = invocation(20, 40, Vec::new(), line(&log, 20, 20, 0), 1);
        Evidence {
            logs: vec![log],
            in_flight: 10,
            invocations: vec![first, second],
            before_redrive: 2,
            ..Evidence::default()
        }
    }

    /// Returns the violations of the evidence after `spoil`.
    fn found(spoil: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = sound();
        spoil(&mut evidence);
        check(&evidence).join("\n")
    }

    #[track_caller]
    fn finds(words: &str, spoil: impl FnOnce(&mut Evidence)) {
        let found = found(spoil);
        assert!(found.contains(words), "{words:?} is not in {found:?}");
    }

    #[test]
    fn sound_evidence_has_no_violations() {
        assert_eq!(found(|_| ()), "");
        // A batch accepted twice because its response was lost; rows in a dead letter until the
        // redrive.
        assert_eq!(
            found(|evidence| {
                let again = evidence.invocations[0].accepted[1].clone();
                evidence.invocations[0].accepted.push(again);
                evidence.invocations[0].lost_responses = 1;
                evidence.dead_letters = vec![remainder(&evidence.logs[0], vec![(20, None)], 0)];
                evidence.before_redrive = 1;
            }),
            ""
        );
    }

    /// Rows 19 and 20 were rejected in two batches and are redriven in one.
    #[test]
    fn redriven_rejected_rows_may_have_their_own_batches() {
        let back = |evidence: &mut Evidence, end| {
            let rows = vec![(19, end)];
            evidence.invocations.push(Invocation {
                messages: vec![Message {
                    key: "log-0".to_owned(),
                    etag: None,
                    rows,
                    requeue_count: 0,
                    done: true,
                }],
                current: vec![0],
                accepted: vec![batch(&evidence.logs[0], 19..21)],
                ..Invocation::default()
            });
        };
        assert_eq!(found(|evidence| back(evidence, Some(21))), "");
        finds("batches 10..20 and 19..21 cross", |evidence| {
            back(evidence, None);
        });
    }

    #[test]
    fn lost_row_is_found() {
        finds("lost rows of the 40 rows of log-0: [20, 21,", |evidence| {
            evidence.invocations[1].accepted.remove(0);
        });
        finds(
            "rows of log-0 that did not arrive after the repair",
            |evidence| {
                evidence.invocations[1].accepted.remove(0);
                evidence.dead_letters = vec![remainder(&evidence.logs[0], vec![(20, None)], 0)];
            },
        );
        finds("dead-lettered after the repair", |evidence| {
            evidence.dead_letters_left = vec![remainder(&evidence.logs[0], vec![(20, None)], 0)];
        });
    }

    #[test]
    fn invented_row_is_found() {
        finds("log-0-40 was invented", |evidence| {
            evidence.invocations[1].accepted[1]
                .ids
                .push("log-0-40".to_owned());
        });
        finds("log-0-3 was invented", |evidence| {
            evidence.invocations[0].accepted[0]
                .ids
                .insert(3, "log-0-3".to_owned());
        });
        finds("holds", |evidence| {
            evidence.invocations[0].accepted[0].ids.swap(1, 2);
        });
    }

    #[test]
    fn unexplained_duplicate_is_found() {
        finds("1 batches were accepted again, but 0", |evidence| {
            let again = evidence.invocations[0].accepted[1].clone();
            evidence.invocations[0].accepted.push(again);
        });
        finds("were sent, but", |evidence| {
            let again = evidence.invocations[0].accepted[0].clone();
            evidence.invocations[1].accepted.push(again);
        });
        // Starting over instead of resuming.
        finds("will be repeated", |evidence| {
            evidence.invocations[0].sent[0].rows = vec![(0, None)];
        });
        finds("will be repeated", |evidence| {
            evidence.invocations[0].messages[0].done = false;
        });
    }

    #[test]
    fn unrecognizable_duplicate_is_found() {
        finds("two bodies", |evidence| {
            let mut again = evidence.invocations[0].accepted[1].clone();
            again.body.push(b' ');
            evidence.invocations[0].accepted.push(again);
        });
        finds("matches no rows of the object", |evidence| {
            evidence.invocations[0].accepted[1].key = "random".to_owned();
        });
        finds("batches 10..20 and 15..25 cross", |evidence| {
            let other = batch(&evidence.logs[0], 15..25);
            evidence.invocations[0].accepted.push(other);
        });
    }

    #[test]
    fn wrong_counts_are_found() {
        finds("static is 0, but should be 1 for rows 0..20", |evidence| {
            evidence.invocations[0].lines = Some(vec![line(&evidence.logs[0], 20, 19, 0)]);
        });
        finds("0 lines report", |evidence| {
            evidence.invocations[0].lines = Some(Vec::new());
        });
        finds("do not add up", |evidence| {
            evidence
                .output
                .push(line(&evidence.logs[0], 20, 20, 1).to_string());
        });
        finds("13 requeues", |evidence| {
            evidence.invocations[0].sent[0].requeue_count = 13;
        });
    }

    #[test]
    fn leaked_secret_is_found() {
        finds("\"abc\" was leaked", |evidence| {
            evidence.secrets.insert("abc".to_owned());
            evidence.output.push("token abc".to_owned());
        });
        finds("was leaked", |evidence| {
            evidence.output.push(format!("GET /{CONTENT_CANARY}"));
        });
    }
}

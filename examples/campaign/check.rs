//! The invariants of a run, whatever went wrong in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;

use crate::claims::{Repeated, settle};
use crate::evidence::{Accepted, Evidence, Invocation, Letter, Message, covers, rows_before};
use crate::logs::{CONTENT_CANARY, Log, Row, ids, log_of, multiset};
use crate::weather::Trouble;

/// The limit on requeues of an object.
const MAX_HOPS: u64 = 1000;

/// The refused transactions of an object that are isolated. Of further ones the whole part of a
/// batch goes to the dead-letter queue.
const MAX_ISOLATED: usize = 10;

/// The longest delay of a message in SQS.
const MAX_DELAY: Duration = Duration::from_mins(15);

/// How long a refused transaction may hold up those beside it, by the queues' clock.
const HELD_UP: SignedDuration = SignedDuration::from_hours(1);

/// Returns the violated invariants, and how many transactions were sent again.
pub(crate) fn check(evidence: &Evidence) -> (Vec<String>, Repeated) {
    let mut violations = evidence.violations.clone();
    let mut repeated = Repeated::default();
    nothing_is_lost(evidence, &mut violations);
    keys_identify_batches(evidence, &mut violations);
    only_refused_rows_are_dead_lettered(evidence, &mut violations);
    refused_rows_hold_up_no_other(evidence, &mut violations);
    for (number, invocation) in evidence.invocations.iter().enumerate() {
        let mut found = Vec::new();
        repeated += settle(evidence, invocation, &mut found);
        queues_are_kept_apart(invocation, &mut found);
        requeues_shrink(evidence, invocation, &mut found);
        waits_are_granted(evidence, invocation, &mut found);
        rows_are_counted(evidence, invocation, &mut found);
        violations.extend(
            found
                .into_iter()
                .map(|what| format!("invocation {number}: {what}")),
        );
    }
    lines_balance_and_keep_secrets(evidence, &mut violations);
    (violations, repeated)
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
            .filter(|dead_letter| dead_letter.key == log.key)
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
    for message in messages.filter(|message| message.hops > MAX_HOPS) {
        violations.push(format!("{} requeues: {message:?}", message.hops));
    }
}

/// A batch's key is derived from its rows, and its body holds all of them. Where none is halved, two
/// batches of one version of an object are equal, disjoint, or one contains the other.
fn keys_identify_batches(evidence: &Evidence, violations: &mut Vec<String>) {
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    let mut ranges: BTreeSet<(&str, usize, u64, u64)> = BTreeSet::new();
    for batch in (evidence.invocations.iter()).flat_map(|one| &one.accepted) {
        if bodies
            .insert(&batch.key, &batch.body)
            .is_some_and(|body| body != batch.body)
        {
            violations.push(format!("two bodies under the key {}", batch.key));
        }
        let Some((log, version, rows)) = identify(evidence, batch) else {
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
        if !log.versions[version].uneven {
            ranges.insert((&log.key, version, rows.start, rows.end));
        }
    }
    let halves = [
        Trouble::Storm,
        Trouble::Poison,
        Trouble::Outage,
        Trouble::Limit,
    ];
    // The rows of a part that stays behind form batches with the rows after them.
    if halves.iter().any(|trouble| evidence.weather.has(*trouble)) {
        return;
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

/// A dead letter names no row that the bridge accepts, but rows of damaged objects. An outage's
/// refusals lead to none.
fn only_refused_rows_are_dead_lettered(evidence: &Evidence, violations: &mut Vec<String>) {
    if !evidence.weather.is_just() {
        return;
    }
    let sent = (evidence.invocations.iter())
        .flat_map(|one| one.sent.iter().filter(|letter| letter.is_dead()));
    for letter in sent {
        let Some(log) = evidence.logs.iter().find(|log| log.key == letter.key) else {
            continue;
        };
        let version = (log.versions.iter())
            .find(|version| letter.etag.as_ref() == Some(&version.etag))
            .or(log.versions.first().filter(|_| letter.etag.is_none()));
        let Some(version) = version.filter(|version| !version.uneven) else {
            continue;
        };
        let is_refused = |row: &u64| evidence.refused.contains_key(&log.id(*row));
        let of_object = log
            .kept(0..log.rows.len() as u64)
            .filter(is_refused)
            .count();
        // Dropped rows are named by no letter: those between two ranges do not divide a part.
        let named = |row| covers(&letter.rows, row) || log.row(row) != Some(Row::Sent);
        let named: Vec<u64> = (0..version.rows).filter(|row| named(*row)).collect();
        for range in named.chunk_by(|row, next| row + 1 == *next) {
            let (refused, others): (Vec<_>, Vec<_>) = log
                .kept(range[0]..range[range.len() - 1] + 1)
                .partition(is_refused);
            // A part of a batch that went as a whole.
            let is_part = of_object > MAX_ISOLATED && !refused.is_empty();
            if !others.is_empty() && !is_part {
                violations.push(format!(
                    "the bridge accepts the rows {others:?} of {} ({refused:?} it refuses), but {letter:?}",
                    log.key
                ));
            }
        }
    }
}

/// The transactions beside a refused one arrive soon.
fn refused_rows_hold_up_no_other(evidence: &Evidence, violations: &mut Vec<String>) {
    let is_alone = |trouble: &Trouble| matches!(trouble, Trouble::Poison | Trouble::Limit);
    if !evidence.weather.troubles.iter().all(is_alone) {
        return;
    }
    let mut arrived = BTreeMap::new();
    for invocation in &evidence.invocations {
        for id in invocation.accepted.iter().flat_map(|batch| &batch.ids) {
            arrived.entry(id.clone()).or_insert(invocation.time);
        }
    }
    for log in evidence.logs.iter().filter(|log| log.is_whole()) {
        let rows = || log.kept(0..log.rows.len() as u64);
        let is_refused = |row: &u64| evidence.refused.contains_key(&log.id(*row));
        if rows().filter(is_refused).count() > MAX_ISOLATED {
            continue;
        }
        let late: Vec<_> = rows()
            .filter(|row| !is_refused(row))
            .filter_map(|row| Some((row, arrived.get(&log.id(row))?.duration_since(log.notified))))
            .filter(|(_, time)| *time > HELD_UP)
            .collect();
        if !late.is_empty() {
            violations.push(format!("rows of {} that arrived late: {late:?}", log.key));
        }
    }
}

/// A message of one queue leads to messages in this queue and its own dead-letter queue.
fn queues_are_kept_apart(invocation: &Invocation, violations: &mut Vec<String>) {
    let name = |queue: &str| {
        let name = queue
            .strip_suffix("-work")
            .or(queue.strip_suffix("-dead-letters"));
        name.unwrap_or(queue).to_owned()
    };
    let queues: BTreeSet<_> = (invocation.messages.iter())
        .map(|message| name(&message.queue))
        .collect();
    for letter in (invocation.sent.iter()).filter(|letter| !queues.contains(&name(&letter.queue))) {
        violations.push(format!("messages of {queues:?} led to {letter:?}"));
    }
}

/// A requeued message has fewer rows than the one before.
fn requeues_shrink(evidence: &Evidence, invocation: &Invocation, violations: &mut Vec<String>) {
    for letter in invocation.sent.iter().filter(|letter| !letter.is_dead()) {
        let Some(log) = evidence.logs.iter().find(|log| log.key == letter.key) else {
            continue;
        };
        let (_, etag) = current(evidence, invocation, log);
        let before = || (invocation.messages.iter()).filter(|message| message.key == letter.key);
        let is_other = |message: &Message| message.etag.as_deref().is_some_and(|it| it != etag);
        // Progress on one of several objects is enough.
        if before().any(|message| is_other(message) || message.objects > 1) {
            continue;
        }
        // What follows the last row counts as one: a defect of the object may be there.
        let count = |rows| -> u64 {
            let ranges = rows_before(rows, log.rows.len() as u64 + 1);
            ranges.map(|range| range.end - range.start).sum()
        };
        if !before().any(|message| count(&message.rows) > count(&letter.rows)) {
            violations.push(format!(
                "requeued without progress: {letter:?} of {:?}",
                before().collect::<Vec<_>>()
            ));
        }
    }
}

/// The bridge is asked no more once it asked to wait, and what is left is delayed for that long.
fn waits_are_granted(evidence: &Evidence, invocation: &Invocation, violations: &mut Vec<String>) {
    let (wait, requests) = invocation.asked;
    if wait.is_zero() || !evidence.weather.is_just() || invocation.is_late {
        return;
    }
    let most = invocation.environments * evidence.concurrency;
    if requests > most {
        violations.push(format!(
            "{requests} requests were asked to wait for {wait:?}, but only {most} can be in flight"
        ));
    }
    let wait = SignedDuration::try_from(wait.min(MAX_DELAY)).unwrap_or_default();
    let was_asked = |letter: &&Letter| {
        let words = ["returned 429", "asked for a pause"];
        !letter.is_dead() && words.iter().any(|words| letter.reason.contains(words))
    };
    let requeues = invocation.sent.iter().filter(was_asked);
    for letter in requeues.filter(|letter| letter.delay < wait) {
        violations.push(format!("the bridge asked for {wait:?}, but {letter:?}"));
    }
}

/// The counts of an object's line are those of the rows that the invocation settled, so that they
/// add up over all invocations.
fn rows_are_counted(evidence: &Evidence, invocation: &Invocation, violations: &mut Vec<String>) {
    let Some(lines) = &invocation.lines else {
        return;
    };
    if invocation.was_killed || invocation.queue_failures > 0 || invocation.environments > 1 {
        return;
    }
    for log in &evidence.logs {
        let mut messages = (invocation.messages.iter()).filter(|message| message.key == log.key);
        let (Some(message), None) = (messages.next(), messages.next()) else {
            continue;
        };
        let (version, etag) = current(evidence, invocation, log);
        let is_other = message.etag.as_deref().is_some_and(|it| it != etag);
        if is_other || log.versions[version].uneven {
            continue;
        }
        let object = format!("s3://logs/{}", log.key);
        let reports: Vec<_> = lines
            .iter()
            .filter(|line| line["object"] == object && line["rows"].is_u64())
            .collect();
        if reports.is_empty() && !message.done {
            continue; // not begun
        }
        let [report] = reports[..] else {
            violations.push(format!(
                "{} lines report {object}: {reports:?}",
                reports.len()
            ));
            continue;
        };
        let settled = Settled::of(log, message, &invocation.sent, log.versions[version].rows);
        for (name, expected) in settled.counts(log) {
            let counted = report[name].as_u64().unwrap_or(u64::MAX);
            if counted != expected {
                violations.push(format!(
                    "{name} is {counted}, but should be {expected} for {message:?}, sent {:?}: {report}",
                    invocation.sent
                ));
            }
        }
    }
}

/// The rows of a message that an invocation settled.
struct Settled {
    rows: Vec<u64>,
    rejected: Vec<u64>,
}

impl Settled {
    fn of(log: &Log, message: &Message, sent: &[Letter], rows: u64) -> Self {
        let of_log = || sent.iter().filter(|letter| letter.key == log.key);
        let is_rejected = |row: u64| {
            let mut dead = of_log().filter(|letter| letter.is_rejection());
            dead.any(|letter| covers(&letter.rows, row))
        };
        let is_left = |row: u64| {
            let mut left = of_log().filter(|letter| !letter.is_rejection());
            !message.done || left.any(|letter| covers(&letter.rows, row))
        };
        let settled = rows_before(&message.rows, rows).flatten();
        let settled: Vec<u64> = settled.filter(|row| !is_left(*row)).collect();
        Self {
            rejected: settled
                .iter()
                .copied()
                .filter(|row| is_rejected(*row))
                .collect(),
            rows: settled,
        }
    }

    fn counts(&self, log: &Log) -> [(&'static str, u64); 5] {
        let count = |kind| {
            self.rows
                .iter()
                .filter(|row| log.row(**row) == Some(kind))
                .count()
        };
        let rejected = self.rejected.len();
        [
            ("rows", self.rows.len()),
            ("static", count(Row::Static)),
            ("malformed", count(Row::Malformed)),
            ("rejected", rejected),
            ("sent", count(Row::Sent).saturating_sub(rejected)),
        ]
        .map(|(name, number)| (name, number as u64))
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

fn identify<'a>(evidence: &'a Evidence, batch: &Accepted) -> Option<(&'a Log, usize, Range<u64>)> {
    let log = log_of(&evidence.logs, batch.ids.first()?)?;
    let (version, rows) = log.identify(&batch.key, &batch.ids, &evidence.making)?;
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

/// Every check can fail.
#[cfg(test)]
mod tests {
    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::evidence::Ranges;

    const MAKING: &str = "rules";
    const WORK: &str = "edgetap-work";
    const DEAD: &str = "edgetap-dead-letters";

    fn batch(log: &Log, rows: Range<u64>) -> Accepted {
        let etag = &log.versions[0].etag;
        let text = format!(
            "logs\0{}\0{etag}\0{}\0{}\0{MAKING}",
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

    fn message(id: &str, rows: Ranges) -> Message {
        Message {
            id: id.to_owned(),
            queue: WORK.to_owned(),
            key: "log-0".to_owned(),
            rows,
            objects: 1,
            done: true,
            ..Message::default()
        }
    }

    fn letter(queue: &str, rows: Ranges) -> Letter {
        Letter {
            queue: queue.to_owned(),
            key: "log-0".to_owned(),
            rows,
            reason: "the bridge returned 429".to_owned(),
            ..Letter::default()
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
        let invocation = |rows: Range<u64>, message, sent, line| Invocation {
            messages: vec![message],
            current: vec![0],
            environments: 1,
            accepted: rows
                .step_by(10)
                .map(|row| batch(&log, row..row + 10))
                .collect(),
            sent,
            lines: Some(vec![line]),
            ..Invocation::default()
        };
        let first = invocation(
            0..20,
            message("1", vec![(0, None)]),
            vec![letter(WORK, vec![(20, None)])],
            line(&log, 20, 19, 1),
        );
        let second = invocation(
            20..40,
            message("2", vec![(20, None)]),
            Vec::new(),
            line(&log, 20, 20, 0),
        );
        Evidence {
            logs: vec![log],
            making: MAKING.to_owned(),
            concurrency: 1,
            invocations: vec![first, second],
            before_redrive: 2,
            ..Evidence::default()
        }
    }

    /// Returns the violations of the evidence after `spoil`.
    fn found(spoil: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = sound();
        spoil(&mut evidence);
        check(&evidence).0.join("\n")
    }

    #[track_caller]
    fn finds(words: &str, spoil: impl FnOnce(&mut Evidence)) {
        let found = found(spoil);
        assert!(found.contains(words), "{words:?} is not in {found:?}");
    }

    /// The second batch is accepted once more.
    fn repeat(evidence: &mut Evidence) {
        let again = evidence.invocations[0].accepted[1].clone();
        evidence.invocations[0].accepted.push(again);
    }

    #[test]
    fn sound_evidence_has_no_violations() {
        assert_eq!(found(|_| ()), "");
        // Rows in a dead letter until the redrive.
        assert_eq!(
            found(|evidence| {
                evidence.invocations[0].sent[0].queue = DEAD.to_owned();
                evidence.dead_letters = evidence.invocations[0].sent.clone();
                evidence.before_redrive = 1;
                evidence.weather.troubles = vec![Trouble::Storm];
            }),
            ""
        );
    }

    #[test]
    fn transactions_sent_again_are_counted_by_cause() {
        type Cause = fn(&mut Invocation);
        let lost: Cause = |one| one.lost = vec![one.accepted[1].ids.iter().cloned().collect()];
        let causes: [(Cause, Repeated); 4] = [
            (
                lost,
                Repeated {
                    lost_response: 10,
                    ..Repeated::default()
                },
            ),
            (
                |one| one.disturbances = 1,
                Repeated {
                    lost_response: 10,
                    ..Repeated::default()
                },
            ),
            (
                |one| one.was_killed = true,
                Repeated {
                    killed: 10,
                    ..Repeated::default()
                },
            ),
            (
                |one| one.failed_sends = 1,
                Repeated {
                    failed_send: 10,
                    ..Repeated::default()
                },
            ),
        ];
        for (number, (cause, counted)) in causes.into_iter().enumerate() {
            let mut evidence = sound();
            repeat(&mut evidence);
            cause(&mut evidence.invocations[0]);
            let (violations, repeated) = check(&evidence);
            assert_eq!(violations, Vec::<String>::new(), "cause {number}");
            assert_eq!(repeated, counted, "cause {number}");
        }
    }

    #[test]
    fn lost_row_is_found() {
        finds("lost rows of the 40 rows of log-0: [20, 21,", |evidence| {
            evidence.invocations[1].accepted.remove(0);
        });
        finds("nothing claims the rows [20, 21,", |evidence| {
            evidence.invocations[1].accepted.remove(0);
        });
        finds(
            "rows of log-0 that did not arrive after the repair",
            |evidence| {
                evidence.invocations[1].accepted.remove(0);
                evidence.dead_letters = vec![letter(DEAD, vec![(20, None)])];
            },
        );
        finds("dead-lettered after the repair", |evidence| {
            evidence.dead_letters_left = vec![letter(DEAD, vec![(20, None)])];
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
        finds("10 transactions in 1 requests are sent again", repeat);
        finds("9 transactions in 1 requests are sent again", |evidence| {
            let again = evidence.invocations[0].accepted[0].clone();
            evidence.invocations[1].accepted.push(again);
        });
        // Starting over instead of resuming.
        finds("19 transactions in 2 requests are sent again", |evidence| {
            evidence.invocations[0].sent[0].rows = vec![(0, None)];
        });
        finds("are sent again", |evidence| {
            evidence.invocations[0].messages[0].done = false;
        });
        // One disturbance explains one batch.
        finds("19 transactions in 2 requests are sent again", |evidence| {
            evidence.invocations[0].sent[0].rows = vec![(0, None)];
            evidence.invocations[0].disturbances = 1;
        });
    }

    #[test]
    fn unrecognizable_duplicate_is_found() {
        finds("two bodies", |evidence| {
            repeat(evidence);
            evidence.invocations[0].accepted[2].body.push(b' ');
        });
        finds("matches no rows of the object", |evidence| {
            evidence.invocations[0].accepted[1].key = "random".to_owned();
        });
        let cross = |evidence: &mut Evidence| {
            let other = batch(&evidence.logs[0], 15..25);
            evidence.invocations[0].accepted.push(other);
        };
        finds("batches 10..20 and 15..25 cross", cross);
        let halved = found(|evidence| {
            cross(evidence);
            evidence.weather.troubles = vec![Trouble::Poison];
        });
        assert!(!halved.contains("cross"), "{halved}");
    }

    #[test]
    fn dead_letter_of_accepted_rows_is_found() {
        let refused = |evidence: &mut Evidence, rows: Range<u64>, dead: Ranges| {
            let ids = rows.map(|row| (format!("log-0-{row}"), 400));
            evidence.refused = ids.collect();
            evidence.invocations[1].sent = vec![letter(DEAD, dead)];
        };
        finds("accepts the rows [22]", |evidence| {
            refused(evidence, 20..22, vec![(20, Some(23))]);
        });
        finds("accepts the rows [35]", |evidence| {
            refused(evidence, 20..31, vec![(35, Some(36))]);
        });
        // A part of a batch of an object with many refused rows.
        let whole_part = found(|evidence| refused(evidence, 20..31, vec![(30, None)]));
        assert!(!whole_part.contains("accepts the rows"), "{whole_part}");
    }

    #[test]
    fn row_held_up_by_another_is_found() {
        finds("rows of log-0 that arrived late: [(20, 2h)", |evidence| {
            evidence.invocations[1].time += SignedDuration::from_hours(2);
        });
    }

    #[test]
    fn message_in_the_wrong_queue_is_found() {
        finds("led to", |evidence| {
            evidence.invocations[0].sent[0].queue = "other-work".to_owned();
        });
    }

    #[test]
    fn requeue_without_progress_is_found() {
        finds("requeued without progress", |evidence| {
            evidence.invocations[0].sent[0].rows = vec![(0, None)];
        });
        finds("1001 requeues", |evidence| {
            evidence.invocations[0].sent[0].hops = 1001;
        });
    }

    #[test]
    fn ignored_wait_is_found() {
        finds("the bridge asked for 1m, but", |evidence| {
            evidence.invocations[0].asked = (Duration::from_mins(1), 1);
        });
        finds("2 requests were asked to wait", |evidence| {
            evidence.invocations[0].asked = (Duration::from_mins(1), 2);
        });
    }

    #[test]
    fn wrong_counts_are_found() {
        finds("static is 0, but should be 1 for", |evidence| {
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

//! *Claims*: a message claims rows, and an invocation settles the claim of each row once. The bridge
//! accepts the row, or another message claims it, or the message stays in its queue.
//!
//! More than that means that the row is sent again. It needs an explanation.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use crate::evidence::{Evidence, Invocation, Message, covers};
use crate::logs::Log;

/// How many transactions are sent again, by explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repeated {
    pub killed: usize,
    pub lost_response: usize,
    pub failed_send: usize,
}

impl AddAssign for Repeated {
    fn add_assign(&mut self, other: Self) {
        self.killed += other.killed;
        self.lost_response += other.lost_response;
        self.failed_send += other.failed_send;
    }
}

/// Counts the transactions that are sent again. One without an explanation is a violation, and so is
/// a row whose claim is gone.
pub(crate) fn settle(
    evidence: &Evidence,
    invocation: &Invocation,
    violations: &mut Vec<String>,
) -> Repeated {
    let accepted: BTreeMap<&str, usize> = (invocation.accepted.iter())
        .flat_map(|batch| &batch.ids)
        .fold(BTreeMap::new(), |mut counts, id| {
            *counts.entry(&**id).or_default() += 1;
            counts
        });
    let mut again: BTreeMap<String, usize> = BTreeMap::new();
    for (log, version) in evidence.logs.iter().zip(&invocation.current) {
        let etag = &log.versions[*version].etag;
        let (mut gone, mut sent) = (Vec::new(), Vec::new());
        for row in log.kept(0..log.rows.len() as u64) {
            let id = log.id(row);
            let claims = Claims::of(log, etag, row, invocation);
            let settled = accepted.get(&*id).copied().unwrap_or(0) + claims.left;
            if settled < claims.messages {
                gone.push(row);
            }
            if settled > claims.deliveries {
                sent.push(row);
                again.insert(id, settled - claims.deliveries);
            }
        }
        if !gone.is_empty() {
            violations.push(format!("nothing claims the rows {gone:?} of {}", log.key));
        }
    }
    explain(invocation, again, violations)
}

/// The claims of a row.
struct Claims {
    /// Messages that claimed it before.
    messages: usize,
    /// How often these were delivered.
    deliveries: usize,
    /// Messages that claim it afterwards.
    left: usize,
}

impl Claims {
    fn of(log: &Log, etag: &str, row: u64, invocation: &Invocation) -> Self {
        let deliveries = || (invocation.messages.iter()).filter(|message| message.key == log.key);
        let claiming = |message: &&Message| covers(&message.rows, row);
        // Whoever has rows of an object that was replaced starts over.
        let is_other = |message: &&Message| message.etag.as_deref().is_some_and(|it| it != etag);
        let ids = |wanted: &dyn Fn(&&Message) -> bool| -> usize {
            let messages = deliveries().filter(|message| wanted(message));
            messages
                .map(|message| &message.id)
                .collect::<BTreeSet<_>>()
                .len()
        };
        let sent = (invocation.sent.iter())
            .filter(|letter| letter.key == log.key && covers(&letter.rows, row));
        Self {
            messages: ids(&claiming),
            deliveries: deliveries()
                .filter(|it| claiming(it) || is_other(it))
                .count(),
            left: ids(&|message| claiming(message) && !message.done) + sent.count(),
        }
    }
}

/// Explains why these transactions are sent again.
fn explain(
    invocation: &Invocation,
    mut again: BTreeMap<String, usize>,
    violations: &mut Vec<String>,
) -> Repeated {
    let mut repeated = Repeated::default();
    for id in invocation.lost.iter().flatten() {
        if let Some(times) = again.get_mut(id).filter(|times| **times > 0) {
            *times -= 1;
            repeated.lost_response += 1;
        }
    }
    again.retain(|_, times| *times > 0);
    let left: usize = again.values().sum();
    if invocation.was_killed {
        repeated.killed += left;
    } else if invocation.failed_sends > 0 {
        repeated.failed_send += left;
    } else if left > 0 {
        let requests = requests(invocation, again.clone());
        if requests > invocation.disturbances {
            violations.push(format!(
                "{left} transactions in {requests} requests are sent again without a cause ({} disturbances): {:?}; messages {:?}, sent {:?}",
                invocation.disturbances,
                again.keys().take(3).collect::<Vec<_>>(),
                invocation.messages,
                invocation.sent,
            ));
        }
        repeated.lost_response += left;
    }
    repeated
}

/// Returns in how many accepted requests these transactions are, at least about: first the one with
/// the most of them. What no request holds needs more than there can be: two messages claim it.
fn requests(invocation: &Invocation, mut again: BTreeMap<String, usize>) -> usize {
    let mut requests = 0;
    while !again.is_empty() {
        let held = |ids: &[String]| ids.iter().filter(|id| again.contains_key(*id)).count();
        let accepted = invocation.accepted.iter().map(|batch| &batch.ids);
        let Some(most) = accepted
            .max_by_key(|ids| held(ids))
            .filter(|ids| held(ids) > 0)
        else {
            return usize::MAX;
        };
        for id in most {
            if let Some(times) = again.get_mut(id) {
                *times -= 1;
            }
        }
        again.retain(|_, times| *times > 0);
        requests += 1;
    }
    requests
}

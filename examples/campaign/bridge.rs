//! *Bridge*: how the bridge and the token endpoint react, by the weather.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use edgetap::local_bridge::{Arrival, Endpoint, Reaction, decode};
use edgetap::time::Clock;
use jiff::{SignedDuration, Timestamp};

use crate::faults::Faults;
use crate::identity::Identity;
use crate::weather::{Trouble, Weather};

const OUTAGE: SignedDuration = SignedDuration::from_mins(30);

/// Longer than an invocation waits.
const LONG: Duration = Duration::from_mins(2);

pub(crate) struct Bridge {
    weather: Weather,
    clock: Clock,
    pub faults: Arc<Faults>,
    /// If the client secret is rotated.
    pub identity: Option<Identity>,
    /// The status by the ID of each transaction that it refuses for its content.
    pub refused: BTreeMap<String, u16>,
    /// Whether it refuses these transactions.
    is_strict: AtomicBool,
    quota: Quota,
    state: Mutex<State>,
}

/// As many requests as it accepts in a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub requests: u64,
    pub every: SignedDuration,
}

struct State {
    outage: Outage,
    /// When the current period of the quota began, and the requests in it.
    period: Option<(Timestamp, u64)>,
    /// The longest wait that it asked for since [`Bridge::take_asked`].
    asked: Duration,
    /// How many requests were refused because the quota was exhausted.
    over_quota: usize,
    /// The transactions of requests that were accepted and got no response.
    lost: Vec<BTreeSet<String>>,
}

enum Outage {
    /// So many requests are left. It begins at once, or between two invocations.
    Before(u64),
    Soon,
    Until(Timestamp),
    Over,
}

impl Bridge {
    pub(crate) fn new(
        weather: Weather,
        clock: Clock,
        faults: Arc<Faults>,
        identity: Option<Identity>,
        refused: BTreeMap<String, u16>,
        quota: Quota,
        outage_after: u64,
    ) -> Self {
        let outage = if weather.has(Trouble::Outage) {
            Outage::Before(outage_after)
        } else {
            Outage::Over
        };
        Self {
            weather,
            clock,
            faults,
            identity,
            refused,
            is_strict: true.into(),
            quota,
            state: Mutex::new(State {
                outage,
                period: None,
                asked: Duration::ZERO,
                over_quota: 0,
                lost: Vec::new(),
            }),
        }
    }

    /// Accepts every transaction from now on.
    pub(crate) fn accept_all(&self) {
        self.is_strict.store(false, Ordering::Relaxed);
        self.state().outage = Outage::Over;
    }

    /// Returns the wait that was asked for, and how many requests were over the quota, since the
    /// last call.
    pub(crate) fn take_asked(&self) -> (Duration, usize) {
        let mut state = self.state();
        (
            std::mem::take(&mut state.asked),
            std::mem::take(&mut state.over_quota),
        )
    }

    /// Returns the transactions of each request without a response since the last call.
    pub(crate) fn take_lost(&self) -> Vec<BTreeSet<String>> {
        std::mem::take(&mut self.state().lost)
    }

    /// Begins an outage that was to begin between two invocations.
    pub(crate) fn begin_invocation(&self) {
        let mut state = self.state();
        if matches!(state.outage, Outage::Soon) {
            state.outage = Outage::Until(self.clock.now() + OUTAGE);
        }
    }

    /// Whether batches are halved because of their content. An outage that begins during that time
    /// cannot be told from further bad content.
    fn halves(&self) -> bool {
        let causes = [Trouble::Poison, Trouble::Limit];
        causes.iter().any(|trouble| self.weather.has(*trouble))
    }

    pub(crate) fn react(&self, arrival: Arrival<'_>) -> Reaction {
        if arrival.endpoint == Endpoint::Token {
            return match (self.faults.bridge(), &self.identity) {
                (Reaction::Normal, Some(identity)) => identity.respond(arrival.body),
                (reaction, _) => reaction,
            };
        }
        if let Some(reaction) = (self.outage())
            .or_else(|| self.over_quota())
            .or_else(|| self.too_large(arrival.body))
            .or_else(|| self.refusal(arrival.body))
        {
            return reaction;
        }
        let reaction = self.faults.bridge();
        if reaction == Reaction::NormalThenHangUp {
            self.state().lost.push(ids(arrival.body));
        }
        reaction
    }

    fn outage(&self) -> Option<Reaction> {
        let (mut state, now) = (self.state(), self.clock.now());
        match &mut state.outage {
            Outage::Before(0) if self.halves() => state.outage = Outage::Soon,
            Outage::Before(0) => state.outage = Outage::Until(now + OUTAGE),
            Outage::Before(requests) => *requests -= 1,
            Outage::Until(end) if now >= *end => state.outage = Outage::Over,
            Outage::Soon | Outage::Until(_) | Outage::Over => {}
        }
        matches!(state.outage, Outage::Until(_)).then(|| Reaction::status(self.weather.outage))
    }

    fn over_quota(&self) -> Option<Reaction> {
        if !self.weather.has(Trouble::Quota) {
            return None;
        }
        let (mut state, now) = (self.state(), self.clock.now());
        let (began, requests) = state
            .period
            .filter(|(began, _)| now < *began + self.quota.every)
            .unwrap_or((now, 0));
        state.period = Some((began, requests + 1));
        if requests < self.quota.requests {
            return None;
        }
        let wait = (began + self.quota.every).duration_since(now);
        let wait = Duration::from_secs(u64::try_from(wait.as_secs()).unwrap_or(0)).max(LONG);
        state.asked = state.asked.max(wait);
        state.over_quota += 1;
        Some(Reaction::Respond {
            status: 429,
            headers: vec![("retry-after", wait.as_secs().to_string())],
            body: String::new(),
        })
    }

    /// A single transaction is never too large.
    fn too_large(&self, body: &[u8]) -> Option<Reaction> {
        let (largest, closes) = self.weather.limit;
        let is_large = self.weather.has(Trouble::Limit) && body.len() > largest;
        (is_large && ids(body).len() > 1).then(|| {
            if closes {
                Reaction::HangUp
            } else {
                Reaction::status(413)
            }
        })
    }

    fn refusal(&self, body: &[u8]) -> Option<Reaction> {
        if !self.is_strict.load(Ordering::Relaxed) || self.refused.is_empty() {
            return None;
        }
        let status = ids(body)
            .iter()
            .find_map(|id| self.refused.get(id).copied());
        status.map(Reaction::status)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn ids(body: &[u8]) -> BTreeSet<String> {
    let transactions = decode(body).unwrap_or_default();
    transactions
        .into_iter()
        .map(|transaction| transaction.transaction_id)
        .collect()
}

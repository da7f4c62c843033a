//! What goes wrong, by dice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use edgetap::local_bridge::{Arrival, Endpoint, Reaction, decode};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::fake_s3::Fault;
use crate::support::fault_proxy::Manner;

/// Longer than the function waits for S3 or a deadline of the campaign is.
const TOO_LONG: Duration = Duration::from_millis(900);

/// The weather of a run.
pub(crate) struct Weather {
    dice: Mutex<StdRng>,
    /// Whether anything goes wrong at all.
    is_bad: AtomicBool,
    /// Whether the bridge refuses `rejected`.
    is_strict: AtomicBool,
    /// Transactions that it refuses.
    pub rejected: BTreeSet<String>,
    /// How likely each thing is to go wrong.
    rates: Rates,
    /// So many posts are still answered with 401.
    storm: AtomicU64,
    /// Posts that were accepted while the answer was late or lost.
    lost_responses: AtomicUsize,
    /// Requests to SQS that were made to fail.
    queue_failures: AtomicUsize,
}

struct Rates {
    bridge: f64,
    s3: f64,
    send: f64,
    visibility: f64,
    fault_proxies: f64,
}

impl Weather {
    pub(crate) fn new(seed: u64, rejected: BTreeSet<String>) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        // Some things are sound in some runs, so that what the others cause is seen by itself.
        let mut rate = |most: f64| {
            if dice.random_bool(0.3) {
                0.0
            } else {
                dice.random_range(0.0..most)
            }
        };
        let rates = Rates {
            bridge: rate(0.5),
            s3: rate(0.5),
            send: rate(0.4),
            visibility: rate(0.4),
            fault_proxies: rate(0.06),
        };
        Self {
            dice: dice.into(),
            is_bad: true.into(),
            is_strict: true.into(),
            rejected,
            rates,
            storm: AtomicU64::new(0),
            lost_responses: AtomicUsize::new(0),
            queue_failures: AtomicUsize::new(0),
        }
    }

    pub(crate) fn clear_up(&self) {
        self.is_bad.store(false, Ordering::Relaxed);
        self.storm.store(0, Ordering::Relaxed);
    }

    /// From now on nothing is refused.
    pub(crate) fn relent(&self) {
        self.is_strict.store(false, Ordering::Relaxed);
    }

    pub(crate) fn lost_responses(&self) -> usize {
        self.lost_responses.load(Ordering::Relaxed)
    }

    pub(crate) fn queue_failures(&self) -> usize {
        self.queue_failures.load(Ordering::Relaxed)
    }

    fn dice(&self) -> MutexGuard<'_, StdRng> {
        self.dice.lock().unwrap()
    }

    fn strikes(&self, rate: f64) -> bool {
        self.is_bad.load(Ordering::Relaxed) && self.dice().random_bool(rate)
    }

    /// What the token endpoint and the bridge do.
    pub(crate) fn react(&self, arrival: Arrival<'_>) -> Reaction {
        let is_post = arrival.endpoint == Endpoint::Edge;
        if is_post && self.is_strict.load(Ordering::Relaxed) && self.holds_rejected(arrival.body) {
            return Reaction::status(422);
        }
        if is_post
            && self
                .storm
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
        {
            return Reaction::status(401);
        }
        if !self.strikes(self.rates.bridge) {
            return Reaction::Normal;
        }
        let mut dice = self.dice();
        match dice.random_range(0..16) {
            0 => Reaction::status(401),
            1 => {
                self.storm
                    .store(dice.random_range(2..12), Ordering::Relaxed);
                Reaction::status(401)
            }
            2 => Reaction::status(403),
            3 => Reaction::status(413),
            4 => retry_later(429, &mut dice),
            5 => retry_later(503, &mut dice),
            6..=8 => Reaction::status(*[408, 500, 502, 503, 504].choose(&mut dice).unwrap()),
            9 => Reaction::HangUp,
            10 | 11 => {
                self.lost_responses.fetch_add(1, Ordering::Relaxed);
                Reaction::NormalThenHangUp
            }
            12 | 13 => {
                self.lost_responses.fetch_add(1, Ordering::Relaxed);
                Reaction::After(Duration::from_millis(dice.random_range(1..60)))
            }
            14 => Reaction::After(TOO_LONG),
            _ => Reaction::Respond {
                status: 200,
                headers: vec![("content-type", "text/html".to_owned())],
                body: "<html>".to_owned(),
            },
        }
    }

    fn holds_rejected(&self, body: &[u8]) -> bool {
        decode(body).is_ok_and(|all| {
            all.iter()
                .any(|transaction| self.rejected.contains(&transaction.transaction_id))
        })
    }

    /// What goes wrong with a GET.
    pub(crate) fn s3(&self) -> Option<Fault> {
        if !self.strikes(self.rates.s3) {
            return None;
        }
        let mut dice = self.dice();
        Some(match dice.random_range(0..8) {
            0 => Fault::Status(*[403, 500, 503].choose(&mut dice).unwrap()),
            1 => Fault::HangUp,
            2 => Fault::NoRange,
            3 => Fault::Stall(dice.random_range(0..2000), TOO_LONG),
            4 => Fault::Drip(dice.random_range(50..500)),
            _ => Fault::Cut(dice.random_range(0..2000)),
        })
    }

    /// Whether a request to SQS fails, and whether it does what it was asked all the same.
    pub(crate) fn queue(&self, action: &str) -> Option<bool> {
        let rate = match action {
            "SendMessage" => self.rates.send,
            "ChangeMessageVisibility" => self.rates.visibility,
            _ => self.rates.send / 4.0,
        };
        let struck = self.strikes(rate);
        self.queue_failures
            .fetch_add(usize::from(struck), Ordering::Relaxed);
        struck.then(|| self.dice().random_bool(0.3))
    }

    /// How bytes go on that are on their way.
    pub(crate) fn fault_proxy(&self) -> Manner {
        if !self.strikes(self.rates.fault_proxies) {
            return Manner::Smooth;
        }
        let mut dice = self.dice();
        let at = dice.random_range(0..16 << 10);
        match dice.random_range(0..4) {
            0 => Manner::Stall(at, TOO_LONG),
            1 => Manner::Drip(dice.random_range(20..400), Duration::from_millis(1)),
            _ => Manner::Cut(at),
        }
    }

    /// Whether a port is closed for an invocation.
    pub(crate) fn closes_fault_proxy(&self) -> bool {
        self.strikes(self.rates.fault_proxies)
    }
}

/// With `Retry-After` in either form, in the past, at once, soon, or none at all.
fn retry_later(status: u16, dice: &mut StdRng) -> Reaction {
    let date = |time| httpdate::fmt_http_date(time);
    let value = match dice.random_range(0..5) {
        0 => "0".to_owned(),
        1 => "1".to_owned(),
        2 => date(SystemTime::now() - Duration::from_hours(1)),
        3 => date(SystemTime::now() + Duration::from_secs(1)),
        _ => "soon".to_owned(),
    };
    Reaction::Respond {
        status,
        headers: vec![("retry-after", value)],
        body: String::new(),
    }
}

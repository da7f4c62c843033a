//! The faults, chosen at random.

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

/// Longer than the function waits for S3, and longer than a deadline in these runs.
const TOO_LONG: Duration = Duration::from_millis(900);

/// The fault generator of a run.
pub(crate) struct Faults {
    rng: Mutex<StdRng>,
    /// Whether faults are injected.
    is_on: AtomicBool,
    /// Whether the bridge rejects the transactions in `rejected`.
    is_strict: AtomicBool,
    /// IDs of the transactions that the bridge rejects.
    pub rejected: BTreeSet<String>,
    /// The probability of each kind of fault.
    rates: Rates,
    /// The number of further requests that get a 401.
    unauthorized_left: AtomicU64,
    /// Accepted requests whose response was late or lost.
    lost_responses: AtomicUsize,
    /// Failed requests to SQS.
    queue_failures: AtomicUsize,
}

struct Rates {
    bridge: f64,
    s3: f64,
    send: f64,
    visibility: f64,
    fault_proxies: f64,
}

impl Faults {
    pub(crate) fn new(seed: u64, rejected: BTreeSet<String>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // In some runs some kinds of faults are off, so that the others show in isolation.
        let mut rate = |most: f64| {
            if rng.random_bool(0.3) {
                0.0
            } else {
                rng.random_range(0.0..most)
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
            rng: rng.into(),
            is_on: true.into(),
            is_strict: true.into(),
            rejected,
            rates,
            unauthorized_left: AtomicU64::new(0),
            lost_responses: AtomicUsize::new(0),
            queue_failures: AtomicUsize::new(0),
        }
    }

    pub(crate) fn stop(&self) {
        self.is_on.store(false, Ordering::Relaxed);
        self.unauthorized_left.store(0, Ordering::Relaxed);
    }

    /// Stops the rejections.
    pub(crate) fn accept_all(&self) {
        self.is_strict.store(false, Ordering::Relaxed);
    }

    pub(crate) fn lost_responses(&self) -> usize {
        self.lost_responses.load(Ordering::Relaxed)
    }

    pub(crate) fn queue_failures(&self) -> usize {
        self.queue_failures.load(Ordering::Relaxed)
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap()
    }

    fn occurs(&self, rate: f64) -> bool {
        self.is_on.load(Ordering::Relaxed) && self.rng().random_bool(rate)
    }

    /// Returns the reaction of the token endpoint or the bridge.
    pub(crate) fn react(&self, arrival: Arrival<'_>) -> Reaction {
        let is_post = arrival.endpoint == Endpoint::Edge;
        if is_post && self.is_strict.load(Ordering::Relaxed) && self.holds_rejected(arrival.body) {
            return Reaction::status(422);
        }
        if is_post
            && self
                .unauthorized_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
        {
            return Reaction::status(401);
        }
        if !self.occurs(self.rates.bridge) {
            return Reaction::Normal;
        }
        let mut rng = self.rng();
        match rng.random_range(0..16) {
            0 => Reaction::status(401),
            1 => {
                self.unauthorized_left
                    .store(rng.random_range(2..12), Ordering::Relaxed);
                Reaction::status(401)
            }
            2 => Reaction::status(403),
            3 => Reaction::status(413),
            4 => retry_later(429, &mut rng),
            5 => retry_later(503, &mut rng),
            6..=8 => Reaction::status(*[408, 500, 502, 503, 504].choose(&mut rng).unwrap()),
            9 => Reaction::HangUp,
            10 | 11 => {
                self.lost_responses.fetch_add(1, Ordering::Relaxed);
                Reaction::NormalThenHangUp
            }
            12 | 13 => {
                self.lost_responses.fetch_add(1, Ordering::Relaxed);
                Reaction::After(Duration::from_millis(rng.random_range(1..60)))
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

    /// Returns the fault of a GET.
    pub(crate) fn s3(&self) -> Option<Fault> {
        if !self.occurs(self.rates.s3) {
            return None;
        }
        let mut rng = self.rng();
        Some(match rng.random_range(0..8) {
            0 => Fault::Status(*[403, 500, 503].choose(&mut rng).unwrap()),
            1 => Fault::HangUp,
            2 => Fault::NoRange,
            3 => Fault::Stall(rng.random_range(0..2000), TOO_LONG),
            4 => Fault::Drip(rng.random_range(50..500)),
            _ => Fault::Cut(rng.random_range(0..2000)),
        })
    }

    /// Returns `Some` if a request to SQS fails; `Some(true)` if it takes effect nevertheless.
    pub(crate) fn queue(&self, action: &str) -> Option<bool> {
        let rate = match action {
            "SendMessage" => self.rates.send,
            "ChangeMessageVisibility" => self.rates.visibility,
            _ => self.rates.send / 4.0,
        };
        let fails = self.occurs(rate);
        self.queue_failures
            .fetch_add(usize::from(fails), Ordering::Relaxed);
        fails.then(|| self.rng().random_bool(0.3))
    }

    /// Returns the behavior of a connection.
    pub(crate) fn fault_proxy(&self) -> Manner {
        if !self.occurs(self.rates.fault_proxies) {
            return Manner::Smooth;
        }
        let mut rng = self.rng();
        let at = rng.random_range(0..16 << 10);
        match rng.random_range(0..4) {
            0 => Manner::Stall(at, TOO_LONG),
            1 => Manner::Drip(rng.random_range(20..400), Duration::from_millis(1)),
            _ => Manner::Cut(at),
        }
    }

    /// Whether a proxy's port is closed during an invocation.
    pub(crate) fn closes_fault_proxy(&self) -> bool {
        self.occurs(self.rates.fault_proxies)
    }
}

/// Returns a response with a `Retry-After`: seconds or a date, past or future, or invalid.
fn retry_later(status: u16, rng: &mut StdRng) -> Reaction {
    let date = |time| httpdate::fmt_http_date(time);
    let value = match rng.random_range(0..5) {
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

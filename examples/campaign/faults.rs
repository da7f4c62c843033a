//! *Faults*: those of a storm, chosen at random.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use edgetap::local_bridge::Reaction;
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
    /// The probability of each kind of fault.
    rates: Rates,
    /// The number of further requests that get a 401.
    unauthorized_left: AtomicU64,
    /// Requests that failed and would have sent a message.
    failed_sends: AtomicUsize,
    /// Failed requests to SQS.
    queue_failures: AtomicUsize,
}

#[derive(Default)]
struct Rates {
    bridge: f64,
    s3: f64,
    send: f64,
    visibility: f64,
    fault_proxies: f64,
    kills: f64,
}

impl Faults {
    /// Returns a generator of faults of every kind, or of none.
    pub(crate) fn new(seed: u64, is_stormy: bool) -> Self {
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
            kills: rate(0.3),
        };
        Self {
            rng: rng.into(),
            is_on: true.into(),
            rates: if is_stormy { rates } else { Rates::default() },
            unauthorized_left: AtomicU64::new(0),
            failed_sends: AtomicUsize::new(0),
            queue_failures: AtomicUsize::new(0),
        }
    }

    pub(crate) fn stop(&self) {
        self.is_on.store(false, Ordering::Relaxed);
        self.unauthorized_left.store(0, Ordering::Relaxed);
    }

    pub(crate) fn failed_sends(&self) -> usize {
        self.failed_sends.load(Ordering::Relaxed)
    }

    pub(crate) fn queue_failures(&self) -> usize {
        self.queue_failures.load(Ordering::Relaxed)
    }

    /// Whether an invocation is killed.
    pub(crate) fn kills(&self) -> bool {
        self.occurs(self.rates.kills)
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap()
    }

    fn occurs(&self, rate: f64) -> bool {
        self.is_on.load(Ordering::Relaxed) && self.rng().random_bool(rate)
    }

    /// Returns a reaction of the token endpoint or the bridge.
    pub(crate) fn bridge(&self) -> Reaction {
        let is_left = |left: u64| left.checked_sub(1);
        if (self.unauthorized_left)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left)
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
            2 => Reaction::status(*[207, 302, 400, 403, 404, 422].choose(&mut rng).unwrap()),
            3 => Reaction::status(413),
            4 => retry_later(429, &mut rng),
            5 => retry_later(503, &mut rng),
            6..=8 => Reaction::status(*[408, 500, 502, 503, 504].choose(&mut rng).unwrap()),
            9 => Reaction::HangUp,
            10 | 11 => Reaction::NormalThenHangUp,
            12 | 13 => Reaction::After(Duration::from_millis(rng.random_range(1..60))),
            14 => Reaction::After(TOO_LONG),
            _ => Reaction::Respond {
                status: 200,
                headers: vec![("content-type", "text/html".to_owned())],
                body: "<html>".to_owned(),
            },
        }
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
        let (rate, sends) = match action {
            "SendMessage" => (self.rates.send, true),
            // It names the dead-letter queue.
            "GetQueueAttributes" => (self.rates.send / 4.0, true),
            _ => (self.rates.visibility, false),
        };
        let fails = usize::from(self.occurs(rate));
        self.queue_failures.fetch_add(fails, Ordering::Relaxed);
        if sends {
            self.failed_sends.fetch_add(fails, Ordering::Relaxed);
        }
        (fails > 0).then(|| self.rng().random_bool(0.3))
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

//! *Weather*: what goes wrong in a run. Each run has other troubles, so that each shows in isolation
//! and beside others.

use clap::ValueEnum;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// Statuses with which a bridge, or something in front of it, refuses a transaction for its content.
const REFUSALS: [u16; 7] = [400, 403, 413, 422, 500, 502, 504];

/// Statuses of an outage. The first two are the likeliest ones of a bridge or firewall that refuses
/// everything because of a change.
const OUTAGES: [u16; 14] = [
    400, 400, 400, 403, 403, 403, 401, 404, 413, 422, 500, 502, 503, 504,
];

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Trouble {
    /// Faults of every kind at any request, and kills.
    Storm,
    /// Deadlines of less than half a second.
    Hurry,
    /// The bridge refuses some transactions for their content.
    Poison,
    /// Half an hour in which the bridge refuses everything.
    Outage,
    /// 429 with `Retry-After` after a few requests.
    Quota,
    /// The bridge takes only small bodies: 413, or it closes the connection.
    Limit,
    /// The client secret is rotated.
    Rotation,
    /// The function is killed while it still reads one object of several.
    Straggler,
}

impl Trouble {
    /// Whether it can befall the real process, which has its own clock, its credentials in
    /// variables, and waits of seconds.
    fn befalls_process(self) -> bool {
        matches!(self, Self::Storm | Self::Poison | Self::Straggler)
    }
}

/// What goes wrong in a run: nothing if it has no troubles.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub troubles: Vec<Trouble>,
    /// The status of the outage.
    pub outage: u16,
    /// The largest body in bytes, and whether the bridge closes the connection on larger ones.
    pub limit: (usize, bool),
}

impl Weather {
    /// Returns the weather of a run with the given troubles, or with random ones.
    pub(crate) fn random(only: Option<&[Trouble]>, is_process: bool, rng: &mut StdRng) -> Self {
        let mut troubles = match only {
            Some(only) => only.to_vec(),
            None => random_troubles(rng),
        };
        troubles.retain(|trouble| !is_process || trouble.befalls_process());
        Self {
            troubles,
            outage: *OUTAGES.choose(rng).unwrap(),
            limit: (rng.random_range(600..4000), rng.random_bool(0.5)),
        }
    }

    pub(crate) fn has(&self, trouble: Trouble) -> bool {
        self.troubles.contains(&trouble)
    }

    /// Whether the bridge refuses transactions for nothing but what the troubles say. In a storm it
    /// may refuse any.
    pub(crate) fn is_just(&self) -> bool {
        !self.has(Trouble::Storm)
    }
}

fn random_troubles(rng: &mut StdRng) -> Vec<Trouble> {
    use Trouble::{Hurry, Limit, Outage, Poison, Quota, Rotation, Storm, Straggler};
    let mut troubles = match rng.random_range(0..16) {
        0..=4 => vec![Storm],
        5 => Vec::new(),
        6 | 7 => vec![Poison],
        8..=10 => vec![Outage],
        11 | 12 => vec![Quota],
        13 => vec![Limit],
        14 => vec![Rotation],
        _ => vec![Straggler],
    };
    for (other, probability) in [
        (Hurry, 0.1),
        (Poison, 0.4),
        (Outage, 0.05),
        (Quota, 0.05),
        (Limit, 0.1),
        (Rotation, 0.1),
    ] {
        if !troubles.is_empty() && !troubles.contains(&other) && rng.random_bool(probability) {
            troubles.push(other);
        }
    }
    troubles
}

/// Returns a status with which a transaction is refused for its content.
pub(crate) fn refusal(rng: &mut StdRng) -> u16 {
    *REFUSALS.choose(rng).unwrap()
}

//! What holds for any input: the body of each fuzz target. `tests/suite/fuzzing.rs` runs the committed corpus through them too.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used)]

mod batches;
mod continuations;
mod events;
mod fields;
mod keys;
mod retry_after;

pub(super) use batches::batches;
pub(super) use continuations::continuations;
pub(super) use events::events;
pub(super) use fields::fields;
pub(super) use keys::keys;
pub(super) use retry_after::retry_after;

use std::sync::Arc;

use edgetap::batch::Limits;
use edgetap::encode::Encoding;
use edgetap::filter::StaticAssets;
use edgetap::pipeline::Rules;

/// Panics where something does not hold for an input.
pub(super) type Check = fn(&[u8]);

/// Every target by its name: that of its corpus, too.
pub(super) const TARGETS: [(&str, Check); 6] = [
    ("batches", batches),
    ("continuations", continuations),
    ("events", events),
    ("fields", fields),
    ("keys", keys),
    ("retry_after", retry_after),
];

fn rules(encoding: Encoding, static_assets: StaticAssets, limits: Limits) -> Arc<Rules> {
    Arc::new(Rules {
        static_assets,
        encoding,
        limits,
        ..Rules::default()
    })
}

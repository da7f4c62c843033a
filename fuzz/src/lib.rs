//! The fuzz targets: properties that hold for any input. `tests/suite/fuzzing.rs` runs them on the
//! committed corpus too.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used)]
#![allow(unreachable_pub)] // it is also a module of the test suite

mod batches;
mod continuations;
mod events;
mod fields;
mod keys;
mod masks;
mod parquet;
mod retry_after;
mod static_rule;

pub use batches::batches;
pub use continuations::continuations;
pub use events::events;
pub use fields::fields;
pub use keys::keys;
pub use masks::masks;
pub use parquet::parquet;
pub use retry_after::retry_after;
pub use static_rule::static_rule;

use std::sync::Arc;

use edgetap::batch::Limits;
use edgetap::encode::Encoding;
use edgetap::filter::StaticAssets;
use edgetap::pipeline::Rules;

/// Panics if a property does not hold for an input.
pub type Check = fn(&[u8]);

/// Every target with its name, which is also the name of its corpus directory.
pub const TARGETS: [(&str, Check); 9] = [
    ("batches", batches),
    ("continuations", continuations),
    ("events", events),
    ("fields", fields),
    ("keys", keys),
    ("masks", masks),
    ("parquet", parquet),
    ("retry_after", retry_after),
    ("static_rule", static_rule),
];

fn rules(encoding: Encoding, static_assets: StaticAssets, limits: Limits) -> Arc<Rules> {
    Arc::new(Rules {
        static_assets,
        encoding,
        limits,
        ..Rules::default()
    })
}

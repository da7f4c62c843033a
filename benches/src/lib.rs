//! What the programs of the benchmarks share: logs from a seed, and a file so many times over.

pub mod logs;
pub mod repeat;

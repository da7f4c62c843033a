//! What the programs of the benchmarks share: logs from a seed, small objects of them, and a file so many times over.

pub mod logs;
pub mod objects;
pub mod repeat;

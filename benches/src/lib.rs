//! Shared by the benchmark programs: logs generated from a seed, small objects, and repeated files.

pub mod logs;
pub mod objects;
pub mod repeat;

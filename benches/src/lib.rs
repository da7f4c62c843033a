//! Shared by the benchmark programs: logs generated from a seed, small objects, and repeated files.

pub mod logs;
pub mod objects;
pub mod repeat;

/// Peak resident memory of this process in KiB, on systems with `/proc`.
pub fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

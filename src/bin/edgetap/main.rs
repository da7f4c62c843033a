//! edgetap on the command line.

fn main() {}

//! The unit of the benchmarks, *one inflating*: a gzip file through `flate2` with zlib-rs and a buffer of 64 KiB, to nowhere.
//!
//! `inflate FILE [REPEAT]`: the file so many times over, as members of one stream.

use std::io::{BufReader, Read as _};

use edgetap_benches::repeat;
use flate2::bufread::MultiGzDecoder;

fn main() -> anyhow::Result<()> {
    let mut inflated = MultiGzDecoder::new(BufReader::with_capacity(
        64 << 10,
        repeat::from_arguments()?,
    ));
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        match inflated.read(&mut buffer)? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    println!("{{\"bytes\": {bytes}}}");
    Ok(())
}

//! The baseline of the benchmarks, *× gunzip*: decompresses a gzip file with `flate2` (zlib-rs, 64
//! KiB buffer) and discards the output.
//!
//! `gunzip FILE [REPEAT]`: reads the file REPEAT times, as members of one stream.

use std::io::{BufReader, Read as _};

use edgetap_benches::repeat;
use flate2::bufread::MultiGzDecoder;

fn main() -> anyhow::Result<()> {
    let mut text = MultiGzDecoder::new(BufReader::with_capacity(
        64 << 10,
        repeat::from_arguments()?,
    ));
    let mut buffer = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        match text.read(&mut buffer)? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    println!("{{\"bytes\": {bytes}}}");
    Ok(())
}

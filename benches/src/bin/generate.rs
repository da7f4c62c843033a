//! Generates an access log, and a JSON log with the same requests. The same seed gives the same
//! logs.
//!
//! `generate --mb 100 target/bench/logs/100` writes `100.log.gz` (legacy, 33 columns) and
//! `100.json.gz` (v2), and prints the number of rows and the uncompressed bytes of both.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use clap::Parser;
use edgetap_benches::logs::{self, Cells, FIELDS};
use flate2::{Compression, write::GzEncoder};

#[derive(Parser)]
#[command(about = "Generate access logs from a seed")]
struct Args {
    /// Path of the files, without `.log.gz` and `.json.gz`.
    out: String,
    /// Uncompressed size of the legacy log, in millions of bytes.
    #[arg(long, default_value_t = 1)]
    mb: u64,
    /// Rows, instead of a size.
    #[arg(long)]
    rows: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let Args {
        out,
        mb,
        rows: wanted,
        seed,
    } = Args::parse();
    let (mut log, mut json) = (
        Gzip::create(&format!("{out}.log.gz"))?,
        Gzip::create(&format!("{out}.json.gz"))?,
    );
    logs::write_header(&mut log)?;
    let mut count = 0;
    for cells in logs::Rows::new(seed) {
        if wanted.map_or(log.bytes >= mb * 1_000_000, |wanted| count >= wanted) {
            break;
        }
        logs::write_row(&cells, &mut log)?;
        write_json(&cells, &mut json)?;
        count += 1;
    }
    println!(
        "{{\"rows\": {count}, \"log\": {}, \"json\": {}}}",
        log.finish()?,
        json.finish()?
    );
    Ok(())
}

/// Writes a row as in a v2 JSON log.
fn write_json(cells: &Cells, out: &mut impl Write) -> io::Result<()> {
    for (index, (field, cell)) in FIELDS.iter().zip(cells).enumerate() {
        out.write_all(if index == 0 { b"{\"" } else { b",\"" })?;
        out.write_all(field.as_bytes())?;
        out.write_all(b"\":")?;
        serde_json::to_writer(&mut *out, cell)?;
    }
    out.write_all(b"}\n")
}

/// Compresses into a file, and counts the uncompressed bytes.
struct Gzip {
    encoder: GzEncoder<BufWriter<File>>,
    bytes: u64,
}

impl Gzip {
    fn create(path: &str) -> io::Result<Self> {
        Ok(Self {
            encoder: GzEncoder::new(BufWriter::new(File::create(path)?), Compression::default()),
            bytes: 0,
        })
    }

    fn finish(self) -> io::Result<u64> {
        self.encoder.finish()?.flush()?;
        Ok(self.bytes)
    }
}

impl Write for Gzip {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.encoder.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

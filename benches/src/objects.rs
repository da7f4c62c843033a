//! Small objects: logs of a few rows each, the same from the same seed in whichever process makes them.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::logs;

/// The bucket that they are in.
pub const BUCKET: &str = "logs";
/// The entity tag that `loopback` gives all of them, in quotes: none is ever replaced.
pub const ETAG: &str = "\"d41d8cd98f00b204e9800998ecf8427e\"";

/// An object.
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its entity tag, in quotes.
    pub etag: String,
    /// A legacy log, as gzip.
    pub gzip: Bytes,
}

/// So many objects of so many rows.
///
/// # Errors
/// None, in memory.
pub fn make(objects: usize, rows: usize) -> io::Result<Vec<Object>> {
    let mut all_rows = logs::Rows::new(1);
    let make = |number| {
        let mut text = Vec::new();
        logs::write_header(&mut text)?;
        for cells in all_rows.by_ref().take(rows) {
            logs::write_row(&cells, &mut text)?;
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text)?;
        let key = format!("E27FO14I29XXXX.2026-11-14-20.{number:08x}.gz");
        Ok(Object {
            key,
            etag: ETAG.to_owned(),
            gzip: gzip.finish()?.into(),
        })
    };
    (0..objects).map(make).collect()
}

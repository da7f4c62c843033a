//! Small objects: logs of a few rows each, with the same content in every process.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::logs;

/// The bucket of the objects.
pub const BUCKET: &str = "logs";
/// The `ETag`, in quotes, that `loopback` gives all objects: they never change.
pub const ETAG: &str = "\"d41d8cd98f00b204e9800998ecf8427e\"";

/// A small object in S3.
pub struct Object {
    /// The key in the bucket.
    pub key: String,
    /// The `ETag`, in quotes.
    pub etag: String,
    /// A legacy log as gzip.
    pub gzip: Bytes,
}

/// Makes `objects` objects of `rows` rows each.
///
/// # Errors
/// None: it writes to memory only.
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

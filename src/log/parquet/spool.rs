//! *Spool*: a copy of an object in the temporary directory. A Parquet file has its columns at its
//! end, so it cannot be read from its start to its end as it arrives.

use std::fs::File;
use std::io::{self, Read, Write as _};

use crate::log::LogError;

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;

/// Copies the rest of `source` to a file without a name, so that nothing is left behind even if the
/// process is killed. Returns it with its size.
///
/// # Errors
/// [`LogError::Cut`] for the source, [`LogError::Spool`] for the file.
pub(super) fn spool(mut source: impl Read) -> Result<(File, u64), LogError> {
    let mut file = tempfile::tempfile().map_err(LogError::Spool)?;
    let (mut piece, mut size) = (vec![0; PIECE], 0);
    loop {
        let read = match source.read(&mut piece) {
            Ok(0) => return Ok((file, size)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(LogError::Cut(error)),
        };
        file.write_all(&piece[..read]).map_err(LogError::Spool)?;
        size += read as u64;
    }
}

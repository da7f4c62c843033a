//! *Space*: what Parquet files take at a time, of temporary storage and of memory. A file waits until
//! there is enough for it, so that files that are read side by side do not fill the disk.

use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::log::most_open;

/// KiB of memory for the pages of files that are read side by side.
const PAGES: u32 = 32 << 10;
/// MB of the largest temporary storage that Lambda has.
const MOST_STORAGE: u64 = 10_240;

/// The temporary storage and the memory for all files.
#[derive(Debug)]
pub(crate) struct Space {
    /// KiB of storage, in all.
    size: u64,
    storage: Semaphore,
    pages: Semaphore,
}

/// What a file has of it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    _storage: SemaphorePermit<'a>,
    _pages: SemaphorePermit<'a>,
}

/// A file that never finds enough space.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "the Parquet file needs {needed} MB of temporary storage, and the function has {size} MB. {}",
    self.hint()
)]
pub(crate) struct TooLarge {
    needed: u64,
    size: u64,
}

impl TooLarge {
    fn hint(&self) -> String {
        let needed = self.needed;
        if needed < MOST_STORAGE {
            format!("Set `ephemeral_storage` to more than {needed}")
        } else {
            "Lambda has at most 10,240 MB: send the file with `edgetap replay --post`, and write smaller ones".to_owned()
        }
    }
}

impl Space {
    /// The free space of the directory for temporary files. It is taken once: nothing else writes
    /// there.
    pub(crate) fn of_temporary_directory() -> Self {
        let free = rustix::fs::statvfs(tempfile::env::temp_dir())
            .map(|system| system.f_bavail.saturating_mul(system.f_frsize));
        // Without a size, no file waits. A disk that is full is found when it is written.
        Self::of(free.unwrap_or(u64::MAX))
    }

    /// As many bytes of storage.
    pub(crate) fn of(bytes: u64) -> Self {
        let most = u64::from(u32::MAX).min(Semaphore::MAX_PERMITS as u64);
        let size = (bytes >> 10).min(most);
        Self {
            size,
            storage: Semaphore::new(usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS)),
            pages: Semaphore::new(PAGES as usize),
        }
    }

    /// Waits for the space for a file of `bytes`.
    ///
    /// The memory is waited for last, and whoever has it waits for nothing else here.
    ///
    /// # Errors
    /// [`TooLarge`] if it does not exist.
    pub(crate) async fn take(&self, bytes: u64) -> Result<Option<Share<'_>>, TooLarge> {
        let kibibytes = bytes.div_ceil(1024);
        let needed = u32::try_from(kibibytes).ok();
        let Some(needed) = needed.filter(|_| kibibytes <= self.size) else {
            return Err(TooLarge {
                needed: kibibytes.div_ceil(1024),
                size: self.size >> 10,
            });
        };
        let pages = u32::try_from(most_open(bytes).div_ceil(1024)).unwrap_or(PAGES);
        // An error would mean that a semaphore is closed, which it never is.
        let (Ok(storage), Ok(pages)) = (
            self.storage.acquire_many(needed).await,
            self.pages.acquire_many(pages).await,
        ) else {
            return Ok(None);
        };
        Ok(Some(Share {
            _storage: storage,
            _pages: pages,
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MB: u64 = 1 << 20;

    #[tokio::test]
    async fn files_wait_for_the_space_of_others() {
        let space = Space::of(10 * MB);
        let first = space.take(6 * MB).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(10), space.take(6 * MB));
        assert!(waiting.await.is_err());
        drop(first);
        assert!(space.take(6 * MB).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn files_wait_for_the_memory_of_others() {
        let space = Space::of(u64::MAX);
        let first = space.take(MB).await.unwrap();
        let _second = space.take(MB).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(10), space.take(MB));
        assert!(waiting.await.is_err());
        drop(first);
        assert!(space.take(MB).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn small_files_are_read_side_by_side() {
        let space = Space::of(u64::MAX);
        let mut shares = Vec::new();
        for _ in 0..8 {
            shares.push(space.take(100 << 10).await.unwrap());
        }
        let waiting = tokio::time::timeout(Duration::from_millis(10), space.take(1));
        assert!(waiting.await.is_err());
    }

    #[tokio::test]
    async fn file_larger_than_all_space_is_refused() {
        let space = Space::of(10 * MB);
        let lambda = space.take(10_240 * MB).await.unwrap_err();
        assert_eq!(
            lambda.to_string(),
            "the Parquet file needs 10240 MB of temporary storage, and the function has 10 MB. \
             Lambda has at most 10,240 MB: send the file with `edgetap replay --post`, and write smaller ones"
        );
        let refused = space.take(10 * MB + 1).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the Parquet file needs 11 MB of temporary storage, and the function has 10 MB. \
             Set `ephemeral_storage` to more than 11"
        );
    }
}

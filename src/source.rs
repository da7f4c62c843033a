//! *Source*: the bytes of an S3 object or a local file, as `impl Read`.
//!
//! S3 objects are fetched by ranged GETs, so that a slow bridge never holds a connection to S3
//! open. Each GET carries `If-Match`, so that all ranges are of one version of the object, and the
//! version ID if the notification has one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use jiff::Timestamp;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::job::ObjectRef;
use crate::log::MAGIC;
use crate::retry::{Backoff, causes};

/// Size of one ranged GET (4 MiB). At most two ranges are in memory: the one being read and the one
/// being fetched.
const RANGE: u64 = 4 << 20;

/// Why an object cannot be opened or read. The text names the object.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The object was deleted or never existed: S3's code `NoSuchKey`, and no other.
    #[error("{object} does not exist")]
    NotFound { object: String },
    #[error(
        "access denied for {object} ({reason}): the role needs s3:GetObject, s3:GetObjectVersion \
         if the bucket is versioned, and kms:Decrypt if it uses a KMS key"
    )]
    AccessDenied {
        object: String,
        /// S3's error code.
        reason: String,
    },
    #[error("cannot read {object}: {reason}")]
    Unavailable { object: String, reason: String },
    #[error("cannot list {place}: {reason}. {advice}")]
    Unlisted {
        /// `s3://BUCKET/PREFIX`
        place: String,
        reason: String,
        /// What to do.
        advice: &'static str,
    },
}

impl SourceError {
    fn unavailable(object: &ObjectRef, reason: impl Into<String>) -> Self {
        Self::Unavailable {
            object: object.to_string(),
            reason: reason.into(),
        }
    }
}

/// A client for S3 that retries broken reads.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    backoff: Backoff,
}

/// An open object.
pub struct Opened {
    /// The object, with the ETag and the size of the version being read.
    pub object: ObjectRef,
    /// Whether that version differs from the requested one.
    pub replaced: bool,
    /// Size in bytes, if known.
    pub size: Option<u64>,
    /// When the object was put in S3. `None` for files, whose times change when they are copied.
    pub modified: Option<Timestamp>,
    /// Whether it begins like a Parquet file. Only of S3 objects is that known before they are read.
    pub is_parquet: bool,
    /// Whether all of it is in memory, so that reading it does not block.
    pub is_in_memory: bool,
    pub bytes: Box<dyn Read + Send>,
}

impl Opened {
    /// Opens a local file.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] with the system's error.
    pub fn file(path: &Path) -> Result<Self, SourceError> {
        let object = ObjectRef::local(path.to_string_lossy());
        let open = || -> io::Result<_> {
            let file = File::open(path)?;
            let size = Some(file.metadata()?)
                .filter(std::fs::Metadata::is_file)
                .map(|file| file.len());
            Ok((file, size))
        };
        match open() {
            Ok((file, size)) => Ok(Self {
                object,
                replaced: false,
                size,
                modified: None,
                is_parquet: false,
                is_in_memory: false,
                bytes: Box::new(file),
            }),
            Err(error) => Err(SourceError::unavailable(&object, error.to_string())),
        }
    }

    /// Returns standard input, named `-`.
    pub fn stdin() -> Self {
        Self {
            object: ObjectRef::local("-"),
            replaced: false,
            size: None,
            modified: None,
            is_parquet: false,
            is_in_memory: false,
            bytes: Box::new(io::stdin()),
        }
    }
}

impl S3 {
    /// Returns a client that waits by `backoff` between attempts at a broken read.
    pub fn new(config: &SdkConfig, backoff: Backoff) -> Self {
        Self {
            client: Client::new(config),
            backoff,
        }
    }

    /// Opens an object and fetches its first range, which fixes the version. `Opened::bytes` must
    /// be read on a thread that may block, while the current runtime keeps running.
    ///
    /// # Errors
    /// [`SourceError::NotFound`], [`SourceError::AccessDenied`], or [`SourceError::Unavailable`]
    /// once retries are exhausted.
    pub async fn open(&self, object: &ObjectRef) -> Result<Opened, SourceError> {
        let first = self.first_range(object).await?;
        if first.etag.is_none() && (first.bytes.len() as u64) < first.size {
            return Err(SourceError::unavailable(
                object,
                "S3 returned no ETag, so ranged reads cannot be tied to one object version",
            ));
        }
        let replaced = object.etag.is_some() && object.etag != first.etag;
        let modified = first.modified;
        let is_parquet = first.bytes.starts_with(MAGIC);
        let is_in_memory = first.bytes.len() as u64 == first.size;
        let (size, object) = (
            first.size,
            ObjectRef {
                etag: first.etag.clone(),
                size: Some(first.size),
                ..object.clone()
            },
        );
        let reader = RangeReader {
            s3: self.clone(),
            object: object.clone(),
            offset: 0,
            chunk: Vec::new(),
            read: 0,
            first: Some(first),
            ahead: JoinSet::new(),
            size,
            runtime: Handle::current(),
        };
        Ok(Opened {
            object,
            replaced,
            size: Some(size),
            modified,
            is_parquet,
            is_in_memory,
            bytes: Box::new(reader),
        })
    }

    async fn first_range(&self, object: &ObjectRef) -> Result<Range, SourceError> {
        let (mut object, mut failed) = (object.clone(), 0);
        loop {
            match self.get(&object, 0, Vec::new()).await {
                Ok(range) => return Ok(range),
                Err(GetError::Changed) if object.etag.is_some() => {
                    tracing::warn!(
                        %object,
                        "object changed since the notification; reading the current version"
                    );
                    (object.etag, object.size) = (None, None);
                }
                Err(GetError::Changed) => return Err(changed(&object)),
                Err(GetError::Empty) if object.size.is_some_and(|size| size > 0) => {
                    return Err(SourceError::unavailable(
                        &object,
                        "S3 returned 416 as if it were empty, but it had content when it was \
                         created. Check the S3 endpoint",
                    ));
                }
                Err(GetError::Empty) => {
                    return Ok(Range {
                        bytes: Vec::new(),
                        size: 0,
                        etag: object.etag,
                        modified: None,
                    });
                }
                Err(GetError::Final(error)) => return Err(error),
                Err(GetError::Broken(reason)) => {
                    failed += 1;
                    let Some(wait) = self.backoff.wait(failed) else {
                        return Err(SourceError::unavailable(&object, reason));
                    };
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Fetches the range at `offset` into `bytes`, a buffer that may be reused.
    async fn get(
        &self,
        object: &ObjectRef,
        offset: u64,
        mut bytes: Vec<u8>,
    ) -> Result<Range, GetError> {
        let mut response = self
            .client
            .get_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version.clone())
            .range(format!("bytes={offset}-{}", offset + RANGE - 1))
            .set_if_match(object.etag.as_ref().map(|etag| format!("\"{etag}\"")))
            .send()
            .await
            .map_err(|error| get_error(object, &error))?;
        let size: Option<u64> = response
            .content_range()
            .and_then(|range| range.rsplit_once('/'))
            .and_then(|(_, size)| size.parse().ok());
        let Some(size) = size else {
            return Err(GetError::Final(SourceError::unavailable(
                object,
                "S3 returned no Content-Range for a ranged GET",
            )));
        };
        let starts_at = response.content_range().and_then(|range| {
            range
                .strip_prefix("bytes ")?
                .split_once('-')?
                .0
                .parse::<u64>()
                .ok()
        });
        if starts_at != Some(offset) {
            return Err(GetError::Broken(
                "S3 returned a range other than the requested one".to_owned(),
            ));
        }
        let etag = response
            .e_tag()
            .map(|etag| etag.trim_matches('"').to_owned());
        let modified = response
            .last_modified()
            .and_then(|time| Timestamp::from_second(time.secs()).ok());
        let expected =
            usize::try_from(RANGE.min(size.saturating_sub(offset))).unwrap_or(usize::MAX);
        bytes.clear();
        bytes.reserve_exact(expected);
        loop {
            match response.body.try_next().await {
                Ok(Some(chunk)) if chunk.len() > expected - bytes.len() => {
                    return Err(GetError::Broken(format!(
                        "S3 returned more than the {expected} bytes of a range"
                    )));
                }
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                // Keep the bytes received before the connection broke; the next GET resumes after
                // them. An error after the last byte still fails the range.
                Err(_) if (1..expected).contains(&bytes.len()) => break,
                Err(error) => return Err(GetError::Broken(causes(&error))),
            }
        }
        if bytes.is_empty() {
            return Err(GetError::Broken(format!(
                "S3 returned none of the {expected} bytes of a range"
            )));
        }
        Ok(Range {
            bytes,
            size,
            etag,
            modified,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

/// The response to one ranged GET.
struct Range {
    bytes: Vec<u8>,
    /// Size of the whole object.
    size: u64,
    etag: Option<String>,
    modified: Option<Timestamp>,
}

enum GetError {
    /// 416: the range starts at or after the object's end. At offset 0 the object is empty.
    Empty,
    /// 412: the object's current version is another one.
    Changed,
    /// A retry may help: no response, an incomplete response, or a status that says so.
    Broken(String),
    /// A retry is useless.
    Final(SourceError),
}

fn get_error(object: &ObjectRef, error: &SdkError<GetObjectError>) -> GetError {
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    let code = error.code().unwrap_or("no code");
    let denied = || SourceError::AccessDenied {
        object: object.to_string(),
        reason: code.to_owned(),
    };
    match status {
        416 => GetError::Empty,
        412 => GetError::Changed,
        404 if code == "NoSuchKey" => GetError::Final(SourceError::NotFound {
            object: object.to_string(),
        }),
        404 => GetError::Final(SourceError::unavailable(
            object,
            format!("S3 returned 404 ({code}). {}", advice(code)),
        )),
        403 => GetError::Final(denied()),
        // S3 reports problems with the KMS key as 400.
        400 if code.starts_with("KMS.") => GetError::Final(denied()),
        // The SDK has already retried a few times; an overloaded S3 may need longer.
        429 | 500.. => GetError::Broken(format!("S3 returned {status} ({code})")),
        400.. => GetError::Final(SourceError::unavailable(
            object,
            format!("S3 returned {status} ({code})"),
        )),
        _ => GetError::Broken(causes(error)),
    }
}

/// What to do about a 404 whose code is not `NoSuchKey`.
fn advice(code: &str) -> &'static str {
    match code {
        "NoSuchBucket" => "Check the bucket, the region and the S3 endpoint",
        "NoSuchVersion" => "Check what deletes noncurrent versions in the bucket",
        _ => "Check the S3 endpoint and any proxy in front of it",
    }
}

fn changed(object: &ObjectRef) -> SourceError {
    SourceError::unavailable(
        object,
        "it was replaced by another version while it was read",
    )
}

/// Reads an object range by range and fetches the next range in the meantime.
struct RangeReader {
    s3: S3,
    object: ObjectRef,
    /// Offset of the range after `chunk`.
    offset: u64,
    /// The range being read.
    chunk: Vec<u8>,
    /// Bytes of `chunk` that were read.
    read: usize,
    /// The first range, until reading begins.
    first: Option<Range>,
    /// The request for the next range; at most one. Dropping the reader cancels it.
    ahead: JoinSet<Result<Range, GetError>>,
    size: u64,
    runtime: Handle,
}

impl RangeReader {
    /// Makes `range` the current range, and starts to fetch the next one into the buffer of the
    /// previous one: two buffers are enough for an object of any size.
    fn begin(&mut self, range: Range) {
        let used = std::mem::replace(&mut self.chunk, range.bytes);
        self.read = 0;
        self.offset += self.chunk.len() as u64;
        if self.offset < self.size {
            let (s3, object, offset) = (self.s3.clone(), self.object.clone(), self.offset);
            self.ahead.spawn_on(
                async move { s3.get(&object, offset, used).await },
                &self.runtime,
            );
        }
    }

    /// Returns the next range: waits for the request in flight, or else makes another attempt.
    fn fetch(&mut self) -> Result<Range, GetError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match self.runtime.block_on(self.ahead.join_next()) {
            Some(Ok(fetched)) => fetched,
            Some(Err(ended)) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(GetError::Broken("the runtime is shutting down".to_owned())),
            },
            None => self
                .runtime
                .block_on(self.s3.get(&self.object, self.offset, Vec::new())),
        }
    }

    fn broken(&self, reason: &str) -> io::Error {
        io::Error::other(SourceError::unavailable(&self.object, reason))
    }
}

impl Read for RangeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut failed = 0;
        while self.read == self.chunk.len() {
            if self.offset >= self.size {
                (self.chunk, self.read) = (Vec::new(), 0); // a reader may be kept after its end
                return Ok(0);
            }
            match self.fetch() {
                Ok(range) => self.begin(range),
                Err(GetError::Empty) => {
                    return Err(self.broken("it is shorter than S3 reported before"));
                }
                Err(GetError::Changed) => return Err(io::Error::other(changed(&self.object))),
                Err(GetError::Final(error)) => return Err(io::Error::other(error)),
                Err(GetError::Broken(reason)) => {
                    failed += 1;
                    let Some(wait) = self.s3.backoff.wait(failed) else {
                        return Err(self.broken(&reason));
                    };
                    std::thread::sleep(wait.min(Duration::from_secs(5)));
                }
            }
        }
        let read = buf.len().min(self.chunk.len() - self.read);
        buf[..read].copy_from_slice(&self.chunk[self.read..self.read + read]);
        self.read += read;
        Ok(read)
    }
}

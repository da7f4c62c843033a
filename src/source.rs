//! *Source*: an object → its bytes, as `impl Read`. From S3 by ranges, so that a slow bridge never holds a connection to S3
//! open, every one under `If-Match`, so that all of them are of one version; or from a local file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::job::ObjectRef;
use crate::retry::{Backoff, causes};

/// Of an object so much is fetched at a time; as much is held while as much is on its way. 4 MiB.
const RANGE: u64 = 4 << 20;

/// Why an object cannot be opened. The text names the object, and what to do.
#[derive(Debug, Error)]
pub enum SourceError {
    /// There is no such object (any more).
    #[error("{object} does not exist")]
    NotFound { object: ObjectRef },
    /// It may not be read.
    #[error(
        "{object} may not be read ({reason}): the role needs s3:GetObject on it, and kms:Decrypt on the key where the bucket uses one"
    )]
    Forbidden {
        object: ObjectRef,
        /// What S3 says.
        reason: String,
    },
    #[error("{object} cannot be read: {reason}")]
    Unavailable {
        object: ObjectRef,
        /// What the SDK or the system says.
        reason: String,
    },
}

/// Access to objects in S3.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    backoff: Backoff,
}

/// An object that is open.
pub struct Opened {
    /// Which one; its entity tag is that of the version being read.
    pub object: ObjectRef,
    /// Whether it is another version than the one that was asked for.
    pub replaced: bool,
    /// How many bytes it has, where that is known.
    pub size: Option<u64>,
    pub bytes: Box<dyn Read + Send>,
}

impl Opened {
    /// Opens a local file.
    ///
    /// # Errors
    /// When the system does not open it.
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
                bytes: Box::new(file),
            }),
            Err(error) => Err(SourceError::Unavailable {
                object,
                reason: error.to_string(),
            }),
        }
    }

    /// The standard input.
    pub fn stdin() -> Self {
        Self {
            object: ObjectRef::local("-"),
            replaced: false,
            size: None,
            bytes: Box::new(io::stdin()),
        }
    }
}

impl S3 {
    /// A client for S3.
    pub fn new(config: &SdkConfig, backoff: Backoff) -> Self {
        Self {
            client: Client::new(config),
            backoff,
        }
    }

    /// Opens an object: fetches its first range, by which its version is fixed. Reading on must be done on a thread that
    /// may block, while the runtime that is current here runs.
    ///
    /// # Errors
    /// When S3 does not give the object.
    pub async fn open(&self, object: &ObjectRef) -> Result<Opened, SourceError> {
        let first = self.first_range(object).await?;
        if first.etag.is_none() && (first.bytes.len() as u64) < first.size {
            let reason =
                "S3 tells no entity tag, so that its ranges may be of several versions".to_owned();
            return Err(SourceError::Unavailable {
                object: object.clone(),
                reason,
            });
        }
        let replaced = object.etag.is_some() && object.etag != first.etag;
        let (size, object) = (
            first.size,
            ObjectRef {
                etag: first.etag.clone(),
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
            bytes: Box::new(reader),
        })
    }

    async fn first_range(&self, object: &ObjectRef) -> Result<Range, SourceError> {
        let (mut object, mut failed) = (object.clone(), 0);
        loop {
            match self.get(&object, 0, Vec::new()).await {
                Ok(range) => return Ok(range),
                Err(GetError::Changed) if object.etag.is_some() => {
                    tracing::warn!(%object, "the object has changed since its event: reading what is there");
                    object.etag = None;
                }
                Err(GetError::Changed) => return Err(changed(&object)),
                Err(GetError::Empty) => {
                    return Ok(Range {
                        bytes: Vec::new(),
                        size: 0,
                        etag: object.etag,
                    });
                }
                Err(GetError::Final(error)) => return Err(error),
                Err(GetError::Broken(reason)) => {
                    failed += 1;
                    let Some(wait) = self.backoff.wait(failed) else {
                        return Err(SourceError::Unavailable { object, reason });
                    };
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One ranged GET, from `offset` on, into a buffer that may have been used before.
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
            .range(format!("bytes={offset}-{}", offset + RANGE - 1))
            .set_if_match(object.etag.as_ref().map(|etag| format!("\"{etag}\"")))
            .send()
            .await
            .map_err(|error| refusal(object, &error))?;
        let size: Option<u64> = response
            .content_range()
            .and_then(|range| range.rsplit_once('/'))
            .and_then(|(_, size)| size.parse().ok());
        let Some(size) = size else {
            let reason = "S3 answered a range request without Content-Range".to_owned();
            return Err(GetError::Final(SourceError::Unavailable {
                object: object.clone(),
                reason,
            }));
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
                "S3 sent another range than the one asked for".to_owned(),
            ));
        }
        let etag = response
            .e_tag()
            .map(|etag| etag.trim_matches('"').to_owned());
        let expected =
            usize::try_from(RANGE.min(size.saturating_sub(offset))).unwrap_or(usize::MAX);
        bytes.clear();
        bytes.reserve_exact(expected);
        loop {
            match response.body.try_next().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                // What came is good: the next GET goes on behind it. All of it with an error after it is not.
                Err(_) if (1..expected).contains(&bytes.len()) => break,
                Err(error) => return Err(GetError::Broken(causes(&error))),
            }
        }
        if bytes.is_empty() || bytes.len() > expected {
            return Err(GetError::Broken(format!(
                "S3 sent {} bytes where {expected} were due",
                bytes.len()
            )));
        }
        Ok(Range { bytes, size, etag })
    }

    /// The objects below a prefix, in S3's order, without folder markers and empty ones.
    ///
    /// # Errors
    /// When S3 does not list them.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<Vec<(ObjectRef, u64)>, SourceError> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(bucket)
            .prefix(prefix)
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| SourceError::Unavailable {
                object: ObjectRef {
                    bucket: bucket.to_owned(),
                    key: prefix.to_owned(),
                    etag: None,
                },
                reason: causes(&error),
            })?;
            for listed in page.contents() {
                let (Some(key), size) = (
                    listed.key(),
                    listed
                        .size()
                        .and_then(|size| u64::try_from(size).ok())
                        .unwrap_or(0),
                ) else {
                    continue;
                };
                if size > 0 && !key.ends_with('/') {
                    found.push((
                        ObjectRef {
                            bucket: bucket.to_owned(),
                            key: key.to_owned(),
                            etag: None,
                        },
                        size,
                    ));
                }
            }
        }
        Ok(found)
    }
}

/// What one GET brought.
struct Range {
    bytes: Vec<u8>,
    size: u64,
    etag: Option<String>,
}

enum GetError {
    /// The object has no bytes: no range of it can be had (416).
    Empty,
    /// Another version of the object is there (412).
    Changed,
    /// No answer, or not all of it, or one that may pass.
    Broken(String),
    /// S3 says no.
    Final(SourceError),
}

fn refusal(object: &ObjectRef, error: &SdkError<GetObjectError>) -> GetError {
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    let code = error.code().unwrap_or("no code");
    let object = object.clone();
    match status {
        416 => GetError::Empty,
        412 => GetError::Changed,
        404 => GetError::Final(SourceError::NotFound { object }),
        403 => GetError::Final(SourceError::Forbidden {
            object,
            reason: code.to_owned(),
        }),
        // What S3 says of the key is a 400.
        400 if code.starts_with("KMS.") => GetError::Final(SourceError::Forbidden {
            object,
            reason: code.to_owned(),
        }),
        // The SDK has tried a few times already; a busy S3 may need longer.
        429 | 500.. => GetError::Broken(format!("S3 answers {status} ({code})")),
        400.. => GetError::Final(SourceError::Unavailable {
            object,
            reason: format!("S3 answers {status} ({code})"),
        }),
        _ => GetError::Broken(causes(error)),
    }
}

fn changed(object: &ObjectRef) -> SourceError {
    SourceError::Unavailable {
        object: object.clone(),
        reason: "it was replaced by another version meanwhile".to_owned(),
    }
}

/// Reads an object range by range, and fetches the next one while one is read.
struct RangeReader {
    s3: S3,
    object: ObjectRef,
    /// Where the next range begins.
    offset: u64,
    /// The range that is read.
    chunk: Vec<u8>,
    /// How much of it was read.
    read: usize,
    /// The first range, until it is begun.
    first: Option<Range>,
    /// The next range, on its way, unless there is none; given up when the reader is dropped.
    ahead: JoinSet<Result<Range, GetError>>,
    size: u64,
    runtime: Handle,
}

impl RangeReader {
    /// Begins a range that has come, and fetches the next to where the one before it was: an object takes two buffers, however large it is.
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

    /// The next range: the one on its way, or another attempt at it.
    fn fetch(&mut self) -> Result<Range, GetError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match self.runtime.block_on(self.ahead.join_next()) {
            Some(Ok(fetched)) => fetched,
            Some(Err(ended)) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(GetError::Broken("the runtime ends".to_owned())),
            },
            None => self
                .runtime
                .block_on(self.s3.get(&self.object, self.offset, Vec::new())),
        }
    }

    fn broken(&self, reason: &str) -> io::Error {
        io::Error::other(SourceError::Unavailable {
            object: self.object.clone(),
            reason: reason.to_owned(),
        })
    }
}

impl Read for RangeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut failed = 0;
        while self.read == self.chunk.len() {
            if self.offset >= self.size {
                return Ok(0);
            }
            match self.fetch() {
                Ok(range) => self.begin(range),
                Err(GetError::Empty) => {
                    return Err(self.broken("it is shorter than S3 said before"));
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

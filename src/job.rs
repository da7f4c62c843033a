//! *Job*: an object and the rows of it still to deliver.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rows::Rows;

/// An object in S3, or a local file (whose bucket is empty).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ObjectRef {
    /// The bucket's name; empty for a local file.
    pub bucket: String,
    /// The key, decoded; for a local file its path.
    pub key: String,
    /// The `ETag` without quotes: first from the event, then from the GetObject response.
    pub etag: Option<String>,
    /// The version ID, if the bucket is versioned and the event has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The size in bytes, if the event has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl ObjectRef {
    /// Returns the reference of a local file.
    pub fn local(path: impl Into<String>) -> Self {
        Self::in_s3("", path)
    }

    /// Returns the reference of the current version of an S3 object.
    pub fn in_s3(bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            key: key.into(),
            etag: None,
            version: None,
            size: None,
        }
    }

    /// Returns the distribution ID in the key: `E` and ten or more upper-case letters and digits.
    /// It is in the file name (`E27FO14I29XXXX.2026-11-14-20.d740d76b.gz`), else in a part of the
    /// prefix, with or without a Hive-style name (`DistributionId=E27FO14I29XXXX/`).
    pub fn distribution(&self) -> Option<&str> {
        self.key
            .rsplit(['/', '\\'])
            .flat_map(|segment| segment.split(['.', '=']))
            .find(|part| {
                part.len() >= 11
                    && part.starts_with('E')
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bucket.is_empty() {
            f.write_str(&self.key)
        } else {
            write!(f, "s3://{}/{}", self.bucket, self.key)
        }
    }
}

/// An object and the rows of it still to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub object: ObjectRef,
    /// [`Rows::all`] for a new object.
    pub rows: Rows,
}

impl Job {
    /// Returns the job of delivering a whole object.
    pub fn all(object: ObjectRef) -> Self {
        Self {
            object,
            rows: Rows::all(),
        }
    }

    /// Whether an earlier attempt settled some rows. If the object is missing now, its other rows
    /// are lost.
    pub(crate) fn has_started(&self) -> bool {
        !self.rows.is_all()
    }
}

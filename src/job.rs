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

    /// Returns the distribution ID in the key. It is in the file name
    /// (`E27FO14I29XXXX.2026-11-14-20.d740d76b.gz`), else in a folder named
    /// `DistributionId=E27FO14I29XXXX`, else it is the only folder that can be one.
    pub fn distribution(&self) -> Option<&str> {
        let (folders, name) = self.key.rsplit_once(SEPARATORS).unwrap_or(("", &self.key));
        if let Some(id) = in_file_name(name) {
            return Some(id);
        }
        let folders = || folders.split(SEPARATORS);
        if folders().any(|folder| in_hive_folder(folder).is_some()) {
            return only(folders().filter_map(in_hive_folder));
        }
        only(folders().filter(|folder| is_likely_id(folder)))
    }
}

/// Returns the ID if all are the same.
fn only<'a>(mut ids: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let id = ids.next()?;
    ids.all(|other| other == id).then_some(id)
}

pub(crate) const SEPARATORS: [char; 2] = ['/', '\\'];

/// Returns the ID in a file name that CloudFront gives: `ID.YYYY-MM-DD-HH.` and a unique part.
pub(crate) fn in_file_name(name: &str) -> Option<&str> {
    let mut parts = name.split('.');
    let (id, hour, _) = (parts.next()?, parts.next()?, parts.next()?);
    (is_distribution_id(id) && is_hour(hour)).then_some(id)
}

/// Whether a text is a date and an hour, `YYYY-MM-DD-HH`.
fn is_hour(text: &str) -> bool {
    let is_hour = |text: &str| text.parse().is_ok_and(|hour: u8| hour < 24);
    text.len() == 13
        && text.rsplit_once('-').is_some_and(|(date, hour)| {
            hour.bytes().all(|byte| byte.is_ascii_digit())
                && is_hour(hour)
                && date.parse::<jiff::civil::Date>().is_ok()
        })
}

fn in_hive_folder(folder: &str) -> Option<&str> {
    let (name, id) = folder.split_once('=')?;
    (name.eq_ignore_ascii_case("DistributionId") && is_distribution_id(id)).then_some(id)
}

/// Whether a folder may be named after a distribution. Nearly every ID has a digit, and few other
/// names of this form have.
fn is_likely_id(folder: &str) -> bool {
    is_distribution_id(folder) && folder.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether a name has the form of the IDs that CloudFront gives: `E` and ten or more upper-case
/// letters and digits.
pub(crate) fn is_distribution_id(name: &str) -> bool {
    (11..=32).contains(&name.len())
        && name.starts_with('E')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
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

#[cfg(test)]
mod tests {
    use super::*;

    // proves: I52
    #[test]
    fn distribution_is_told_from_the_key() {
        for (key, id) in [
            (
                "E27FO14I29XXXX.2026-11-14-20.d740d76b.gz",
                Some("E27FO14I29XXXX"),
            ),
            (
                "logs/EXPORTS2026Q4/E27FO14I29XXXX.2026-11-14-20.d740d76b.gz",
                Some("E27FO14I29XXXX"),
            ),
            (
                "DistributionId=E1AAAAAAAAAAA1/E27FO14I29XXXX.2026-11-14-20.x.parquet",
                Some("E27FO14I29XXXX"),
            ),
            (
                "a/EXPORTS2026Q4/distributionid=E27FO14I29XXXX/year=2026/x.gz",
                Some("E27FO14I29XXXX"),
            ),
            (r"C:\logs\E27FO14I29XXXX\2026\x.gz", Some("E27FO14I29XXXX")),
            (
                "AWSLogs/123456789012/E27FO14I29XXXX/x.gz",
                Some("E27FO14I29XXXX"),
            ),
            ("E27FO14I29XXXX/E27FO14I29XXXX/x.gz", Some("E27FO14I29XXXX")),
            ("EXPORTS2026Q4/E27FO14I29XXXX/x.gz", None),
            ("ENVIRONMENTPROD/x.gz", None),
            ("e27fo14i29xxxx/x.gz", None),
            ("other=E27FO14I29XXXX/x.gz", None),
            ("E27FO14I29XXXX.gz", None),
            ("E27FO14I29XXXX.2026-11-14.d740d76b.gz", None),
            ("../..2026-11-14-20.x.gz", None),
            ("backup.2026-11-14-20.tar.gz", None),
            ("EXPORTS.2026-11-14-20.tar.gz", None),
            ("EABCDEFGHIJKLM.2026-11-14-20.x.gz", Some("EABCDEFGHIJKLM")),
            ("DistributionId=abc/x.gz", None),
            ("E27FO14I29XXXX.2026-02-30-20.d740d76b.gz", None),
            ("E27FO14I29XXXX.2026-11-14-24.d740d76b.gz", None),
            ("E27FO14I29XXXX.2026-11-14-+1.d740d76b.gz", None),
            (
                "DistributionId=E1AAAAAAAAAAA1/DistributionId=E27FO14I29XXXX/x.gz",
                None,
            ),
            (
                "DistributionId=E27FO14I29XXXX/distributionid=E27FO14I29XXXX/x.gz",
                Some("E27FO14I29XXXX"),
            ),
            ("a=DistributionId=/.2026-11-14-20.x", None),
            ("", None),
        ] {
            assert_eq!(ObjectRef::in_s3("b", key).distribution(), id, "{key}");
        }
    }
}

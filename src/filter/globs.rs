//! *Globs*: the paths whose requests the operator wants to drop, or to keep.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::path;
use crate::transaction::Transaction;

/// Globs of paths. `*` does not match `/`.
#[derive(Clone, Default)]
struct Globs {
    set: GlobSet,
    patterns: Vec<String>,
}

impl fmt::Debug for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.patterns).finish()
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Globs {}

/// Why a string is not a list of globs. Positions count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GlobsError {
    /// It does not begin with a slash.
    Relative {
        position: usize,
    },
    Invalid {
        position: usize,
        reason: String,
    },
    /// All globs together.
    TooLarge {
        reason: String,
    },
}

impl Globs {
    /// `spelled` returns the spelling of a glob that is compared.
    fn parse(text: &str, spelled: impl Fn(&str) -> String) -> Result<Self, GlobsError> {
        let patterns: Vec<String> = text
            .split(',')
            .map(str::trim)
            .filter(|glob| !glob.is_empty())
            .map(str::to_owned)
            .collect();
        let mut set = GlobSetBuilder::new();
        for (position, pattern) in (1..).zip(&patterns) {
            if !pattern.starts_with('/') {
                return Err(GlobsError::Relative { position });
            }
            let glob = GlobBuilder::new(&spelled(pattern))
                .literal_separator(true)
                .build();
            set.add(glob.map_err(|error| GlobsError::Invalid {
                position,
                reason: error.kind().to_string(),
            })?);
        }
        let set = set.build().map_err(|error| GlobsError::TooLarge {
            reason: error.kind().to_string(),
        })?;
        Ok(Self { set, patterns })
    }

    /// Returns the first glob that matches a decoded path.
    fn find(&self, decoded: &str) -> Option<&str> {
        let index = *self.set.matches(Path::new(decoded)).first()?;
        self.patterns.get(index).map(String::as_str)
    }

    fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(String::as_str)
    }
}

/// Paths whose requests the operator wants to drop, such as health checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExcludedPaths(Globs);

impl ExcludedPaths {
    /// Reads `EXCLUDE_PATHS`: comma-separated globs, such as `/health,/metrics/**`. `*` does not
    /// match `/`.
    ///
    /// # Errors
    /// If one of them is not a valid glob that begins with `/`.
    pub fn parse(text: &str) -> Result<Self, GlobsError> {
        Globs::parse(text, str::to_owned).map(Self)
    }

    /// Returns the globs, in the order in which they were given.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.patterns()
    }

    /// Whether a request is excluded.
    pub fn matches(&self, transaction: &Transaction<'_>) -> bool {
        self.matching_glob(transaction).is_some()
    }

    /// Returns the first glob that excludes a request.
    ///
    /// A request that may change something never is, nor is a path that servers may read in
    /// different ways, so that a viewer cannot hide a request as `/health/..%2fapi`.
    pub fn matching_glob(&self, transaction: &Transaction<'_>) -> Option<&str> {
        if self.0.patterns.is_empty()
            || !matches!(transaction.method, b"GET" | b"HEAD" | b"OPTIONS")
        {
            return None;
        }
        let sent = transaction.path();
        let decoded = decoded(sent);
        path::check_delimiters(sent).ok()?;
        path::check_decoded(&decoded).ok()?;
        self.0.find(std::str::from_utf8(&decoded).ok()?)
    }
}

/// Paths whose requests the operator wants to be sent, although they look like static assets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncludedPaths(Globs);

impl IncludedPaths {
    /// Reads `INCLUDE_PATHS`, which is written like [`EXCLUDE_PATHS`](ExcludedPaths::parse).
    ///
    /// # Errors
    /// If one of them is not a valid glob that begins with `/`.
    pub fn parse(text: &str) -> Result<Self, GlobsError> {
        Globs::parse(text, canonical).map(Self)
    }

    /// Returns the globs, in the order in which they were given.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.patterns()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.patterns.is_empty()
    }

    /// Returns the first glob that matches a path as it was sent.
    ///
    /// Case and repeated slashes are ignored, so that no other spelling of a path escapes its glob.
    pub fn matching_glob(&self, sent: &[u8]) -> Option<&str> {
        self.0
            .find(&canonical(&String::from_utf8_lossy(&decoded(sent))))
    }
}

/// A path or glob in lower case, without empty segments.
fn canonical(path: &str) -> String {
    let mut canonical = String::with_capacity(path.len() + 1);
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        canonical.push('/');
        canonical.extend(segment.chars().flat_map(char::to_lowercase));
    }
    canonical
}

/// A path with the viewer's encoding undone.
fn decoded(sent: &[u8]) -> Cow<'_, [u8]> {
    percent_encoding::percent_decode(sent).into()
}

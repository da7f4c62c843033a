//! *Verdict*: whether the request of a row is sent, and why.

use std::fmt::{self, Display};

use edgetap::filter::Extension;
use edgetap::log::{Defect, LogError};
use edgetap::pipeline::{Fate, Rules};
use edgetap::transaction::{Malformed, Transaction};
use serde::Serialize;

/// As members of a JSON object: `"verdict":"static","reason":"extension .css"`.
#[derive(Serialize)]
pub(crate) struct Verdict {
    #[serde(rename = "verdict")]
    kind: Kind,
    reason: String,
}

/// What a row counts as.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Sent,
    Static,
    Excluded,
    Malformed,
    Rejected,
    Foreign,
    /// Not a row: the log cannot be read that far.
    Unreadable,
}

impl Verdict {
    /// Returns the verdict on a row, by what stitching it has returned.
    pub(crate) fn of(stitched: &Result<Transaction<'_>, Malformed>, rules: &Rules) -> Self {
        let (kind, reason) = match stitched {
            Ok(transaction) => decide(transaction, rules),
            Err(malformed) => (kind_of(*malformed), malformed.to_string()),
        };
        Self { kind, reason }
    }

    /// Returns the verdict on a row by its outcome, without reading it again.
    pub(crate) fn of_fate(fate: &Fate<'_>, rules: &Rules) -> Self {
        let (kind, reason) = match fate {
            Fate::Sent { transaction, .. } | Fate::Excluded(transaction) => {
                decide(transaction, rules)
            }
            Fate::Static { extension, .. } => (Kind::Static, by_extension(*extension)),
            Fate::Unread(malformed) => (kind_of(*malformed), malformed.to_string()),
        };
        Self { kind, reason }
    }

    /// Returns the verdict on a line of a log that cannot be read that far.
    pub(crate) fn unreadable(error: &LogError) -> Self {
        Self {
            kind: Kind::Unreadable,
            reason: error.to_string(),
        }
    }

    /// Returns the verdict on a row whose transaction the bridge rejected.
    pub(crate) fn rejected(status: Option<u16>) -> Self {
        Self {
            kind: Kind::Rejected,
            reason: match status {
                Some(status) => format!("the bridge returned {status}"),
                None => "the bridge closed the connection or did not respond".to_owned(),
            },
        }
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.kind == Kind::Sent
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, reason } = self;
        let noun = match kind {
            Kind::Sent => return write!(f, "Sent: {reason}."),
            Kind::Static => "static asset",
            Kind::Excluded => "excluded path",
            Kind::Malformed => "malformed row",
            Kind::Rejected => "rejected row",
            Kind::Foreign => "foreign record",
            Kind::Unreadable => "unreadable log",
        };
        write!(f, "Not sent: {noun} ({reason}).")
    }
}

/// What a row that has no transaction counts as.
fn kind_of(malformed: Malformed) -> Kind {
    match malformed {
        Malformed::Defect(Defect::Foreign(_)) => Kind::Foreign,
        Malformed::Defect(defect) if defect.is_rejection() => Kind::Rejected,
        _ => Kind::Malformed,
    }
}

fn by_extension(extension: Extension) -> String {
    format!("extension `.{extension}`")
}

/// Returns whether a request is sent, and why.
fn decide(transaction: &Transaction<'_>, rules: &Rules) -> (Kind, String) {
    let test = rules
        .static_assets
        .test(transaction.record, &mut Vec::new());
    let sent = match test {
        Err(keep) => keep.to_string(),
        Ok(extension) => match rules.included_paths.matching_glob(transaction.path()) {
            None => return (Kind::Static, by_extension(extension)),
            Some(glob) => format!("included path (INCLUDE_PATHS has `{glob}`)"),
        },
    };
    match rules.excluded_paths.matching_glob(transaction) {
        Some(glob) => (Kind::Excluded, format!("EXCLUDE_PATHS has `{glob}`")),
        None => (Kind::Sent, sent),
    }
}

//! *Fields*: the names of CloudFront's columns, and the index of each in the current log.
//!
//! Names and meanings: Amazon CloudFront Developer Guide, "Configure standard logging (v2)" and
//! "Standard logging (legacy)".

/// Declares [`Field`] once, with CloudFront's own names.
macro_rules! fields {
    ($($variant:ident $name:literal,)*) => {
        /// A column with a name that edgetap knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Field {
            /// Every field. The 33 legacy fields come first, in the order of legacy logs.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns CloudFront's name for the field.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the field with this name, ignoring case. Parquet files and tables of Athena have
            /// underscores: `cs_User_Agent`, `timestamp_ms`.
            pub fn from_name(name: &[u8]) -> Option<Self> {
                let find = |is_name: fn(&[u8], &[u8]) -> bool| {
                    Self::ALL
                        .iter()
                        .copied()
                        .find(|field| is_name(name, field.name().as_bytes()))
                };
                find(<[u8]>::eq_ignore_ascii_case).or_else(|| find(is_in_table))
            }
        }
    };
}

fields! {
    Date "date",
    Time "time",
    EdgeLocation "x-edge-location",
    ScBytes "sc-bytes",
    ClientIp "c-ip",
    Method "cs-method",
    DistributionDomain "cs(Host)",
    UriStem "cs-uri-stem",
    Status "sc-status",
    Referer "cs(Referer)",
    UserAgent "cs(User-Agent)",
    UriQuery "cs-uri-query",
    Cookie "cs(Cookie)",
    ResultType "x-edge-result-type",
    RequestId "x-edge-request-id",
    HostHeader "x-host-header",
    Protocol "cs-protocol",
    CsBytes "cs-bytes",
    TimeTaken "time-taken",
    XForwardedFor "x-forwarded-for",
    SslProtocol "ssl-protocol",
    SslCipher "ssl-cipher",
    ResponseResultType "x-edge-response-result-type",
    ProtocolVersion "cs-protocol-version",
    FleStatus "fle-status",
    FleEncryptedFields "fle-encrypted-fields",
    ClientPort "c-port",
    TimeToFirstByte "time-to-first-byte",
    DetailedResultType "x-edge-detailed-result-type",
    ContentType "sc-content-type",
    ContentLength "sc-content-len",
    RangeStart "sc-range-start",
    RangeEnd "sc-range-end",
    Timestamp "timestamp",
    TimestampMs "timestamp(ms)",
    DistributionId "DistributionId",
    OriginFirstByteLatency "origin-fbl",
    OriginLastByteLatency "origin-lbl",
    AutonomousSystem "asn",
    Country "c-country",
    CacheBehavior "cache-behavior-path-pattern",
    DistributionTenantId "distribution-tenant-id",
    ConnectionId "connection-id",
    ViewerRequestLogData "viewer-request-log-data",
    ViewerResponseLogData "viewer-response-log-data",
}

/// Whether `name` is `known` with one underscore for each run of other characters, and none at the
/// end. AWS's example for Athena spells one name in its own way.
fn is_in_table(name: &[u8], known: &[u8]) -> bool {
    // Every name begins with a letter, which tells most of them apart.
    let initial = |name: &[u8]| name.first().map(u8::to_ascii_lowercase);
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
    let words = known
        .split(|byte| !is_word(byte))
        .filter(|word| !word.is_empty());
    let has_words = || {
        name.split(|byte| *byte == b'_')
            .map(<[u8]>::to_ascii_lowercase)
            .eq(words.map(<[u8]>::to_ascii_lowercase))
    };
    let is_other = known == b"cs(Referer)" && name.eq_ignore_ascii_case(b"cs_referrer");
    initial(name) == initial(known) && (has_words() || is_other)
}

/// Numbers of columns that legacy logs have had over time. Fields were only ever appended.
const LEGACY_WIDTHS: [usize; 8] = [12, 15, 18, 19, 23, 24, 26, 33];

/// Index of a column that is not in the log.
const ABSENT: u32 = u32::MAX;

/// Fields that transactions use if they are there, in addition to the required ones.
const OPTIONAL: [Field; 18] = [
    Field::RequestId,
    Field::ClientIp,
    Field::TimeTaken,
    Field::ClientPort,
    Field::Protocol,
    Field::ProtocolVersion,
    Field::UriQuery,
    Field::HostHeader,
    Field::Referer,
    Field::UserAgent,
    Field::Cookie,
    Field::XForwardedFor,
    Field::Status,
    Field::ContentType,
    Field::ContentLength,
    Field::RangeStart,
    Field::RangeEnd,
    Field::EdgeLocation,
];

/// Fields that [`Rules`](crate::pipeline::Rules) and transactions use, the optional ones included.
pub(crate) const USED: [Field; 27] = {
    let mut used = [Field::Method; 27];
    let others = [
        Field::UriStem,
        Field::Date,
        Field::Time,
        Field::Timestamp,
        Field::TimestampMs,
        Field::DistributionId,
        Field::DistributionDomain,
        Field::ResultType,
    ];
    let mut index = 0;
    while index < OPTIONAL.len() + others.len() {
        used[index] = if index < OPTIONAL.len() {
            OPTIONAL[index]
        } else {
            others[index - OPTIONAL.len()]
        };
        index += 1;
    }
    used
};

/// The index of each field, resolved once per `#Fields` line or set of JSON keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    indices: [u32; Field::ALL.len()],
    /// Names that are not a [`Field`], with their index.
    others: Vec<(String, usize)>,
    width: usize,
}

impl Columns {
    /// Returns the columns of a `#Fields` line, in its order. Case is ignored. If a field is named
    /// twice, its first column is used.
    pub fn from_names<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut columns = Self {
            indices: [ABSENT; Field::ALL.len()],
            others: Vec::new(),
            width: 0,
        };
        for (index, name) in (0..ABSENT).zip(names) {
            columns.width += 1;
            match Field::from_name(name) {
                Some(field) if columns.indices[field as usize] == ABSENT => {
                    columns.indices[field as usize] = index;
                }
                Some(_) => {}
                None => columns.others.push((
                    String::from_utf8_lossy(name).into_owned(),
                    columns.width - 1,
                )),
            }
        }
        columns
    }

    /// Returns the columns of a legacy log without a header, by its first row. That may end in a tab,
    /// or have more columns than are known. Later rows may have more: the fields that were appended
    /// since are known too.
    pub fn from_legacy_row(row: &[u8]) -> Option<Self> {
        let [.., most] = LEGACY_WIDTHS;
        let width = row.split(|byte| *byte == b'\t').count() - usize::from(row.ends_with(b"\t"));
        let width = width.min(most);
        let names = Field::ALL[..most]
            .iter()
            .map(|field| field.name().as_bytes());
        LEGACY_WIDTHS.contains(&width).then(|| Self {
            width,
            ..Self::from_names(names)
        })
    }

    /// Returns the index of a field's column, or `None` if the log lacks it.
    #[inline]
    pub fn index(&self, field: Field) -> Option<usize> {
        let index = self.indices[field as usize];
        (index != ABSENT).then_some(index as usize)
    }

    /// Returns the field of a column, unless another column has it.
    pub(super) fn field(&self, index: usize) -> Option<Field> {
        let mut fields = Field::ALL.iter().copied();
        fields.find(|field| self.index(*field) == Some(index))
    }

    /// Returns how many fields are known.
    pub(super) fn known(&self) -> usize {
        let indices = self.indices.iter();
        indices.filter(|index| **index != ABSENT).count()
    }

    /// Whether a known field is not a time. Records of any kind have those.
    pub(super) fn has_request(&self) -> bool {
        let times = [
            Field::Date,
            Field::Time,
            Field::Timestamp,
            Field::TimestampMs,
        ];
        let times = times.iter().filter(|field| self.index(**field).is_some());
        self.known() > times.count()
    }

    /// Returns the number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the names that are not a [`Field`], with the index of their column.
    pub fn others(&self) -> impl Iterator<Item = (&str, usize)> {
        self.others
            .iter()
            .map(|(name, index)| (name.as_str(), *index))
    }

    /// Returns the optional fields of a transaction that these columns lack.
    pub fn absent(&self) -> impl Iterator<Item = &'static str> {
        OPTIONAL
            .into_iter()
            .filter(|&field| self.index(field).is_none_or(|index| index >= self.width))
            .map(Field::name)
    }

    /// Returns the required fields of a transaction (method, path, time) that these columns
    /// lack.
    pub fn missing(&self) -> Vec<&'static str> {
        let has = |field| self.index(field).is_some();
        let mut missing: Vec<_> = [Field::Method, Field::UriStem]
            .into_iter()
            .filter(|&field| !has(field))
            .map(Field::name)
            .collect();
        if !(has(Field::TimestampMs)
            || has(Field::Timestamp)
            || has(Field::Date) && has(Field::Time))
        {
            missing.push("date and time, or timestamp(ms)");
        }
        missing
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(line: &str) -> Columns {
        Columns::from_names(line.split(' ').map(str::as_bytes))
    }

    // proves: I4
    #[test]
    fn field_names_ignore_order_case_and_unknown_names() {
        let columns = names("X-Edge-Something CS-METHOD distributionid Timestamp(MS) cs-method");
        assert_eq!(columns.index(Field::Method), Some(1));
        assert_eq!(columns.index(Field::DistributionId), Some(2));
        assert_eq!(columns.index(Field::TimestampMs), Some(3));
        assert_eq!(columns.index(Field::Date), None);
        assert_eq!(
            columns.others().collect::<Vec<_>>(),
            [("X-Edge-Something", 0)]
        );
        assert_eq!(columns.width(), 5);
    }

    // proves: I3
    #[test]
    fn legacy_width_is_a_prefix_of_the_33_columns() {
        let of_width = |width: usize| Columns::from_legacy_row("-\t".repeat(width).as_bytes());
        for width in [33, 34, 100] {
            let columns = of_width(width).unwrap();
            assert_eq!(columns.index(Field::RangeEnd), Some(32), "{width}");
            assert_eq!(columns.width(), 33, "{width}");
        }
        let columns = of_width(24).unwrap();
        assert_eq!(columns.index(Field::ProtocolVersion), Some(23));
        assert_eq!(
            columns.absent().collect::<Vec<_>>(),
            [
                "c-port",
                "sc-content-type",
                "sc-content-len",
                "sc-range-start",
                "sc-range-end"
            ]
        );
        assert_eq!(of_width(17), None);
    }

    // proves: I13
    #[test]
    fn missing_required_fields_are_named() {
        assert_eq!(
            names("timestamp(ms) c-ip cs-method cs-uri-stem").missing(),
            Vec::<&str>::new()
        );
        assert_eq!(
            names("date c-ip cs-method").missing(),
            ["cs-uri-stem", "date and time, or timestamp(ms)"]
        );
    }
}

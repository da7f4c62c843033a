//! *Filter*: which requests are dropped.
//!
//! A request for a static asset is dropped. The extension of the path's last segment decides,
//! unless the request or its response does not fit: a method other than GET and HEAD, a content
//! type that APIs use, an HTML page in place of an asset (web cache deception), or an encoded
//! delimiter, which CloudFront and the origin may read differently. `EXCLUDE_PATHS` drops more
//! requests by their path, with the same care for paths that can be read in two ways.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::log::{Field, Record};
use crate::simd::{every, is_graphic};
use crate::transaction::Transaction;

/// Extensions found in at least three of six well-known lists of static assets, and newer image,
/// video and module formats. Documents, archives, JSON, XML and HTML are left out: an API may serve
/// them.
const DEFAULT_EXTENSIONS: &str = "css,js,map,mjs,png,jpg,jpeg,gif,svg,svgz,webp,avif,bmp,ico,tif,tiff,woff,woff2,ttf,otf,eot,\
                                  mp3,mp4,webm,ogg,ogv,avi,wav,mov,mkv,flac,flv,swf";

/// Content types of most static assets. They are neither [`is_api`] nor [`is_html`], so a request
/// with one of them skips these two checks.
const MOST_COMMON: [&[u8]; 8] = [
    b"image/png",
    b"image/jpeg",
    b"image/webp",
    b"image/svg+xml",
    b"text/css",
    b"text/javascript",
    b"application/javascript",
    b"font/woff2",
];

/// Longest extension, in bytes: it must fit in the `u128` of [`Extension`].
pub(crate) const MAX_EXTENSION: usize = 16;

/// A lower-case extension, padded with spaces to 16 bytes and stored as one number, so a comparison
/// needs no loop. The numbers sort like the extensions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Extension(u128);

impl Extension {
    /// Returns `None` if `text` is empty, too long, or contains anything but ASCII letters and
    /// digits.
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [b' '; MAX_EXTENSION];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        bytes.make_ascii_lowercase();
        (!text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric))
            .then(|| Self(u128::from_be_bytes(bytes)))
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.to_be_bytes();
        f.write_str(&String::from_utf8_lossy(bytes.trim_ascii_end()))
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a request is not dropped as one for a static asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Method,
    Extension,
    EncodedDelimiter,
    ApiContentType,
    HtmlPage,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "the method is neither GET nor HEAD",
            Self::Extension => "the path does not end in a static-asset extension",
            Self::EncodedDelimiter => {
                "the last path segment contains a backslash or an encoded delimiter"
            }
            Self::ApiContentType => "the content type of the response is one that APIs use",
            Self::HtmlPage => "the response is an HTML page",
        })
    }
}

/// The extensions of static assets, and the rule that applies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAssets {
    extensions: BTreeSet<Extension>,
    name: &'static str,
}

impl Default for StaticAssets {
    fn default() -> Self {
        Self {
            extensions: DEFAULT_EXTENSIONS
                .split(',')
                .filter_map(|text| Extension::new(text.as_bytes()))
                .collect(),
            name: "static-assets",
        }
    }
}

/// Why a string is not a list of extensions. Positions count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionsError {
    /// It mixes extensions with edits of the built-in list.
    Mixed,
    Invalid {
        position: usize,
    },
}

impl StaticAssets {
    /// Reads `STATIC_EXTENSIONS`: `css,js,png` replaces the default list, `+pdf,-svg` edits it,
    /// `none` empties it.
    ///
    /// # Errors
    /// If the text has none of these forms.
    pub fn parse(text: &str) -> Result<Self, ExtensionsError> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Self {
                extensions: BTreeSet::new(),
                name: "none",
            });
        }
        let words: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect();
        let edits = words
            .iter()
            .filter(|word| word.starts_with(['+', '-']))
            .count();
        if edits != 0 && edits != words.len() {
            return Err(ExtensionsError::Mixed);
        }
        let mut extensions = if edits == 0 {
            BTreeSet::new()
        } else {
            Self::default().extensions
        };
        for (position, word) in (1..).zip(words) {
            let extension = word.trim_start_matches(['+', '-']).trim_start_matches('.');
            let extension = Extension::new(extension.as_bytes())
                .ok_or(ExtensionsError::Invalid { position })?;
            if word.starts_with('-') {
                extensions.remove(&extension)
            } else {
                extensions.insert(extension)
            };
        }
        Ok(Self {
            extensions,
            name: "static-assets-custom",
        })
    }

    /// Returns the name of this list in the transactions that are sent.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the extensions, sorted.
    pub(crate) fn extensions(&self) -> impl Iterator<Item = String> {
        self.extensions.iter().map(Extension::to_string)
    }

    /// Whether a request is for a static asset, and therefore dropped.
    pub fn matches(&self, transaction: &Transaction<'_>) -> bool {
        self.keep_reason(transaction).is_none()
    }

    /// Returns why a request is kept, or `None` if it is for a static asset.
    pub fn keep_reason(&self, transaction: &Transaction<'_>) -> Option<Kept> {
        if !matches!(transaction.method, b"GET" | b"HEAD") {
            return Some(Kept::Method);
        }
        if !self.has_extension(transaction.path()) {
            return Some(Kept::Extension);
        }
        if [transaction.path(), transaction.stem]
            .map(last_segment)
            .iter()
            .any(|segment| has_hidden_delimiter(segment))
        {
            return Some(Kept::EncodedDelimiter);
        }
        let content_type = transaction.content_type?;
        if is_api(essence(content_type)) {
            return Some(Kept::ApiContentType);
        }
        // The error page of a missing asset is HTML too.
        let may_be_success = transaction
            .status
            .is_none_or(|status| status.starts_with(b"2"));
        (is_html(content_type) && may_be_success).then_some(Kept::HtmlPage)
    }

    /// Whether [`keep_reason`](Self::keep_reason) would certainly return `None` for this record: a
    /// fast path without decoding. If `false`, decode the record and ask it. A value without `%`
    /// and `\` is the same decoded, so this covers most static assets.
    pub fn is_certainly_static(&self, record: Record<'_>) -> bool {
        let Some(stem) = record.get(Field::UriStem) else {
            return false;
        };
        matches!(record.get(Field::Method), Some(b"GET" | b"HEAD"))
            && self.has_extension(stem)
            && every(stem, is_graphic)
            && memchr::memchr2(b'%', b'\\', stem).is_none()
            && record.get(Field::ContentType).is_none_or(|content_type| {
                let is_harmless = |essence| {
                    memchr::memchr(b'%', essence).is_none() && !is_api(essence) && !is_html(essence)
                };
                MOST_COMMON.contains(&content_type) || is_harmless(essence(content_type))
            })
    }

    fn has_extension(&self, path: &[u8]) -> bool {
        let name = before(b';', last_segment(path));
        let Some(dot) = memchr::memrchr(b'.', name) else {
            return false;
        };
        Extension::new(&name[dot + 1..])
            .is_some_and(|extension| self.extensions.contains(&extension))
    }
}

/// Paths whose requests the operator wants to drop, such as health checks.
#[derive(Clone, Default)]
pub struct ExcludedPaths {
    globs: GlobSet,
    patterns: Vec<String>,
}

impl fmt::Debug for ExcludedPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.patterns).finish()
    }
}

impl PartialEq for ExcludedPaths {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for ExcludedPaths {}

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

impl ExcludedPaths {
    /// Reads `EXCLUDE_PATHS`: comma-separated globs, such as `/health,/metrics/**`. `*` does not
    /// match `/`.
    ///
    /// # Errors
    /// If one of them is not a valid glob that begins with `/`.
    pub fn parse(text: &str) -> Result<Self, GlobsError> {
        let patterns: Vec<String> = text
            .split(',')
            .map(str::trim)
            .filter(|glob| !glob.is_empty())
            .map(str::to_owned)
            .collect();
        let mut globs = GlobSetBuilder::new();
        for (position, pattern) in (1..).zip(&patterns) {
            if !pattern.starts_with('/') {
                return Err(GlobsError::Relative { position });
            }
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            globs.add(glob.map_err(|error| GlobsError::Invalid {
                position,
                reason: error.kind().to_string(),
            })?);
        }
        let globs = globs.build().map_err(|error| GlobsError::TooLarge {
            reason: error.kind().to_string(),
        })?;
        Ok(Self { globs, patterns })
    }

    /// Returns the globs, in the order in which they were given.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(String::as_str)
    }

    /// Whether the decoded path of a request is excluded. A path that servers may read in different
    /// ways never is, so that a viewer cannot hide a request as `/health/..%2fapi`.
    pub fn matches(&self, transaction: &Transaction<'_>) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(transaction.path()).collect();
        let is_dots =
            |segment: &[u8]| matches!(segment.split(|b| *b == b';').next(), Some(b"." | b".."));
        let ambiguous = has_hidden_delimiter(transaction.path())
            || has_hidden_delimiter(transaction.stem)
            || decoded.contains(&b'%')
            || decoded.split(|b| *b == b'/').any(is_dots);
        !ambiguous
            && self
                .globs
                .is_match(Path::new(&*String::from_utf8_lossy(&decoded)))
    }

    /// Returns the first glob that excludes a request.
    pub fn matching_glob(&self, transaction: &Transaction<'_>) -> Option<&str> {
        if !self.matches(transaction) {
            return None;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(transaction.path()).collect();
        let path = String::from_utf8_lossy(&decoded);
        let index = *self.globs.matches(Path::new(&*path)).first()?;
        self.patterns.get(index).map(String::as_str)
    }
}

fn last_segment(path: &[u8]) -> &[u8] {
    memchr::memrchr(b'/', path).map_or(path, |slash| &path[slash + 1..])
}

/// The text before the first `byte`, or all of it.
fn before(byte: u8, text: &[u8]) -> &[u8] {
    memchr::memchr(byte, text).map_or(text, |at| &text[..at])
}

/// Whether a segment contains a backslash, or an encoded character that some servers treat as a
/// delimiter or as the end of the path.
fn has_hidden_delimiter(segment: &[u8]) -> bool {
    const ENCODED: [&[u8]; 8] = [
        b"%2f", b"%5c", b"%3b", b"%3f", b"%23", b"%00", b"%0a", b"%0d",
    ];
    let is_encoded = |at: usize| {
        segment.get(at..at + 3).is_some_and(|escape| {
            ENCODED
                .iter()
                .any(|encoded| escape.eq_ignore_ascii_case(encoded))
        })
    };
    segment.contains(&b'\\') || memchr::memchr_iter(b'%', segment).any(is_encoded)
}

/// The media type of a content type, without parameters.
fn essence(content_type: &[u8]) -> &[u8] {
    before(b';', content_type).trim_ascii()
}

/// Whether APIs use this media type.
fn is_api(essence: &[u8]) -> bool {
    let is = |name: &[u8]| essence.eq_ignore_ascii_case(name);
    let ends = |suffix: &[u8]| {
        essence
            .len()
            .checked_sub(suffix.len())
            .is_some_and(|at| essence[at..].eq_ignore_ascii_case(suffix))
    };
    let has = |part: &[u8]| {
        essence
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part))
    };
    has(b"json")
        || (ends(b"/xml") || ends(b"+xml")) && !is(b"image/svg+xml")
        || has(b"/grpc")
        || has(b"graphql")
        || has(b"protobuf")
        || has(b"msgpack")
        || ends(b"/cbor")
        || ends(b"+cbor")
        || is(b"application/x-www-form-urlencoded")
        || is(b"multipart/form-data")
        || is(b"text/event-stream")
}

/// Whether a content type is that of an HTML page.
fn is_html(content_type: &[u8]) -> bool {
    let essence = essence(content_type);
    essence.eq_ignore_ascii_case(b"text/html")
        || essence.eq_ignore_ascii_case(b"application/xhtml+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_common_content_types_are_not_api_or_html() {
        for media_type in MOST_COMMON {
            let shown = media_type.escape_ascii();
            assert!(!media_type.contains(&b'%'), "{shown}");
            assert!(!is_api(media_type), "{shown}");
            assert!(!is_html(media_type), "{shown}");
        }
    }
}

//! *Filter*: is this request worth analysing?
//!
//! A request for a static asset is not. What decides is the extension of the path's last segment, but a name alone proves
//! nothing: a method that changes things, an answer in an API's media type, or a page where an asset was asked for (web
//! cache deception) keep the request, and so does an encoded delimiter, on which edge and origin may disagree. What an
//! operator excludes by its path besides is dropped by the same caution.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::log::{Field, Record};
use crate::simd::{every, is_graphic};
use crate::transaction::Transaction;

/// Extensions that at least three of six well-known lists of static assets agree on, and image, video and module formats
/// younger than those lists. Documents and archives are not among them (an API may serve them), nor are JSON, XML and HTML.
const DEFAULT_EXTENSIONS: &str = "css,js,map,mjs,png,jpg,jpeg,gif,svg,svgz,webp,avif,bmp,ico,tif,tiff,woff,woff2,ttf,otf,eot,\
                                  mp3,mp4,webm,ogg,ogv,avi,wav,mov,mkv,flac,flv,swf";

/// What most static assets are answered with: no API's media type and no page's, so that nothing else need be asked of it.
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

/// No listed extension is longer.
pub(crate) const MAX_EXTENSION: usize = 16;

/// Letters and digits in lower case, compared as one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Extension(u128);

impl Extension {
    /// `None` where it is empty, too long, or holds anything else.
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [b' '; MAX_EXTENSION];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        bytes.make_ascii_lowercase();
        (!text.is_empty() && text.iter().all(u8::is_ascii_alphanumeric))
            .then(|| Self(u128::from_be_bytes(bytes)))
    }
}

/// As a string: it is part of what tells rules apart, in messages too that another version wrote.
impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.to_be_bytes();
        fmt::Debug::fmt(&String::from_utf8_lossy(bytes.trim_ascii_end()), f)
    }
}

/// Which requests are for static assets.
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

/// Why a text is not a list of extensions. Positions count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionsError {
    /// It mixes extensions with edits of the built-in list.
    Mixed,
    Invalid {
        position: usize,
    },
}

impl StaticAssets {
    /// Reads `STATIC_EXTENSIONS`: `css,js,png` is the whole list, `+pdf,-svg` edits the default one, `none` empties it.
    ///
    /// # Errors
    /// When the text has none of these forms.
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

    /// What these rules are called in the transactions they let through.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a request is for a static asset, so that it is not sent.
    pub fn matches(&self, transaction: &Transaction<'_>) -> bool {
        self.judge(transaction).is_ok()
    }

    /// As [`matches`](Self::matches), and when it is for none, why not.
    ///
    /// # Errors
    /// What keeps the request.
    pub fn judge(&self, transaction: &Transaction<'_>) -> Result<(), &'static str> {
        if !matches!(transaction.method, b"GET" | b"HEAD") {
            return Err("its method is neither GET nor HEAD");
        }
        if !self.has_extension(transaction.path()) {
            return Err("its path ends in no extension of a static asset");
        }
        if [transaction.path(), transaction.stem]
            .map(last_segment)
            .iter()
            .any(|segment| has_hidden_delimiter(segment))
        {
            return Err("the last segment of its path holds an encoded delimiter");
        }
        match transaction.content_type {
            Some(content_type) if is_api(essence(content_type)) => {
                Err("its answer has an API's media type")
            }
            Some(content_type)
                if is_html(content_type)
                    && transaction
                        .status
                        .is_none_or(|status| status.starts_with(b"2")) =>
            {
                Err("its answer is a page")
            }
            _ => Ok(()),
        }
    }

    /// Whether that can be said of a record as it was logged, since nothing in it that matters is encoded: most static assets
    /// need not be decoded to be dropped.
    pub fn matches_as_logged(&self, record: Record<'_>) -> bool {
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

/// Paths of which the operator wants to see nothing: health checks, say.
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

/// Why a text is not a list of globs. Positions count from 1.
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
    /// Reads `EXCLUDE_PATHS`: globs with commas between them, such as `/health,/metrics/**`; `*` stays within a segment.
    ///
    /// # Errors
    /// When one of them is not a glob of a path.
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

    /// Whether a request's path, decoded, is excluded. A path that servers may read in different ways never is: no viewer can
    /// hide a request behind `/health/..%2fapi`.
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

/// What stands before the first such byte, or all.
fn before(byte: u8, text: &[u8]) -> &[u8] {
    memchr::memchr(byte, text).map_or(text, |at| &text[..at])
}

/// A backslash, or an encoded character that ends or divides a path for some servers and not for others.
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

/// The media type without its parameters.
fn essence(content_type: &[u8]) -> &[u8] {
    before(b';', content_type).trim_ascii()
}

/// Whether a media type is one that APIs answer in.
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

/// Whether a content type is a web page's.
pub(crate) fn is_html(content_type: &[u8]) -> bool {
    let essence = essence(content_type);
    essence.eq_ignore_ascii_case(b"text/html")
        || essence.eq_ignore_ascii_case(b"application/xhtml+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_common_media_types_are_what_the_rules_say() {
        for media_type in MOST_COMMON {
            assert!(
                !media_type.contains(&b'%') && !is_api(media_type) && !is_html(media_type),
                "{}",
                media_type.escape_ascii()
            );
        }
    }
}

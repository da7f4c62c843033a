//! *Filter*: which requests are dropped.
//!
//! A request for a static asset is dropped. The rule is one of security: a viewer writes the
//! request, and must not be able to hide an API call behind the name of an asset. So every property
//! of the request and its response must be that of an asset, and each has a test of its own, named
//! by [`Keep`]. `INCLUDE_PATHS` sends what the rule would drop, and `EXCLUDE_PATHS` drops more
//! requests by their path, with the same care for paths that can be read in two ways.

mod extensions;
mod globs;
mod markup;
mod media;
mod path;
mod query;

use std::fmt;

pub use extensions::{Extension, ExtensionsError};
pub use globs::{ExcludedPaths, GlobsError, IncludedPaths};

pub(crate) use extensions::MAX_EXTENSION;

use crate::decode::{decode_in_place, push_visible};
use crate::log::{Field, Record};
use extensions::Extensions;
use media::Family;
use path::last_segment;

/// Why a request is not dropped as one for a static asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Method,
    Extension,
    Delimiter,
    SecondEncoding,
    NotUtf8,
    DotSegment,
    Script,
    Query,
    LongQuery,
    Parameter,
    Status,
    MediaType,
    /// That of an asset, which no error page of CloudFront has.
    OriginError,
    /// The response has none.
    NoMediaType,
    /// A request header.
    Markup(Field),
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "the method is neither GET nor HEAD",
            Self::Extension => "the path does not end in a static-asset extension",
            Self::Delimiter => {
                "the path contains `;`, `\\`, `?`, `#`, a control character or an encoded delimiter"
            }
            Self::SecondEncoding => {
                "the path contains an encoded `%`, or a `%` that encodes nothing"
            }
            Self::NotUtf8 => "the path is not UTF-8",
            Self::DotSegment => "the path contains a segment of dots",
            Self::Script => "the path names a server's script before its extension",
            Self::Query => "the query is not one that static assets have",
            Self::LongQuery => "the query is longer than 2,048 bytes",
            Self::Parameter => "a query parameter selects a callback or another method",
            Self::Status => "the status is not one that static assets have",
            Self::MediaType => "the content type of the response does not fit the extension",
            Self::OriginError => {
                "the origin answered with an error that has the content type of the extension"
            }
            Self::NoMediaType => "the response has no content type",
            Self::Markup(field) => {
                let name = field.name();
                return write!(f, "{name} contains `${{`, `<`, `\"` or a backtick");
            }
        })
    }
}

/// The extensions of static assets, and the rule that applies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAssets {
    extensions: Extensions,
    name: &'static str,
}

impl Default for StaticAssets {
    fn default() -> Self {
        Self {
            extensions: Extensions::built_in(),
            name: "static-assets",
        }
    }
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
                extensions: Extensions::default(),
                name: "none",
            });
        }
        Ok(Self {
            extensions: Extensions::parse(text)?,
            name: "static-assets-custom",
        })
    }

    /// Returns the name of this list in the transactions that are sent.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the extensions, sorted.
    pub(crate) fn extensions(&self) -> impl Iterator<Item = String> {
        self.extensions
            .iter()
            .map(|extension| extension.to_string())
    }

    /// Returns the extension by which a request is dropped. Decodes into `scratch`, which is
    /// cleared first.
    ///
    /// # Errors
    /// Why the request is kept: the first test that it fails.
    pub fn test(&self, record: Record<'_>, scratch: &mut Vec<u8>) -> Result<Extension, Keep> {
        if !matches!(record.get(Field::Method), Some(b"GET" | b"HEAD")) {
            return Err(Keep::Method);
        }
        let (extension, family) = self.test_path(record, scratch)?;
        record.get(Field::UriQuery).map_or(Ok(()), query::check)?;
        test_response(record, family)?;
        test_headers(record, scratch)?;
        Ok(extension)
    }

    /// Returns the extension in which a plain path ends.
    fn test_path(
        &self,
        record: Record<'_>,
        scratch: &mut Vec<u8>,
    ) -> Result<(Extension, Family), Keep> {
        let logged = record.get(Field::UriStem).unwrap_or_default();
        let name = last_segment(logged);
        let found = self.extensions.find(name);
        if found.is_none() && memchr::memchr(b'%', name).is_none() {
            return Err(Keep::Extension);
        }
        if let Some(found) = found
            && path::is_plain(logged)
        {
            path::check_dots(logged)?;
            return Ok(found);
        }
        scratch.clear();
        push_visible(logged, scratch);
        let found = self.extensions.find(last_segment(scratch));
        let found = found.ok_or(Keep::Extension)?;
        path::check_delimiters(scratch)?;
        let len = decode_in_place(scratch);
        scratch.truncate(len);
        path::check_decoded(scratch)?;
        path::check_dots(scratch)?;
        Ok(found)
    }
}

/// What the status of a response says about its content.
enum Content {
    Asset,
    /// The viewer has the asset already, or left before the response.
    AssetOrNone,
    /// A page of CloudFront, S3 or a web server.
    ErrorPage,
    /// A page of CloudFront, unless the origin sent the asset with this status.
    EdgePage,
}

fn content(record: Record<'_>) -> Result<Content, Keep> {
    match (record.get(Field::Status), record.get(Field::ResultType)) {
        (None | Some(b"200" | b"206"), _) => Ok(Content::Asset),
        (Some(b"304" | b"000" | b"0"), _) => Ok(Content::AssetOrNone),
        (Some(b"404"), _) | (Some([b'3', _, _]), Some(b"Redirect")) => Ok(Content::ErrorPage),
        (Some(b"502" | b"503" | b"504"), Some(b"Error")) => Ok(Content::EdgePage),
        _ => Err(Keep::Status),
    }
}

/// Tests the status and the media type of a response.
fn test_response(record: Record<'_>, family: Family) -> Result<(), Keep> {
    let content = content(record)?;
    let Some(content_type) = record.get(Field::ContentType) else {
        // Logs of 26 columns and fewer do not have it.
        return match content {
            Content::Asset if record.has_column(Field::ContentType) => Err(Keep::NoMediaType),
            _ => Ok(()),
        };
    };
    if matches!(content, Content::EdgePage) && family.fits(content_type) {
        return Err(Keep::OriginError);
    }
    let fits = match content {
        Content::Asset | Content::AssetOrNone => family.fits(content_type),
        Content::ErrorPage | Content::EdgePage => media::is_error_page(content_type),
    };
    if fits { Ok(()) } else { Err(Keep::MediaType) }
}

/// Tests what the viewer may have written for whoever reads the log.
fn test_headers(record: Record<'_>, scratch: &mut Vec<u8>) -> Result<(), Keep> {
    for field in [Field::UserAgent, Field::Referer, Field::XForwardedFor] {
        if let Some(logged) = record.get(field)
            && markup::is_in(field, logged, scratch)
        {
            return Err(Keep::Markup(field));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

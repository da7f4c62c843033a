//! *Media types*: which of them fit the extension of a static asset.

/// The media types that fit an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Style,
    Script,
    /// Source maps. Most are JSON, which is not distinguishable from the answer of an API.
    Map,
    Image,
    Icon,
    Font,
    /// Audio and video.
    Media,
    /// Any but pages and those that APIs use: for extensions that the operator has added.
    Any,
}

impl Family {
    /// Returns the family of a lower-case extension.
    pub(super) fn of(extension: &str) -> Self {
        match extension {
            "css" => Self::Style,
            "js" | "mjs" => Self::Script,
            "map" => Self::Map,
            "png" | "jpg" | "jpeg" | "gif" | "svg" | "svgz" | "webp" | "avif" | "bmp" | "tif"
            | "tiff" => Self::Image,
            "ico" => Self::Icon,
            "woff" | "woff2" | "ttf" | "otf" | "eot" => Self::Font,
            "mp3" | "mp4" | "webm" | "ogg" | "ogv" | "avi" | "wav" | "mov" | "mkv" | "flac"
            | "flv" | "swf" => Self::Media,
            _ => Self::Any,
        }
    }

    /// Whether a logged content type fits. One with an escape in its media type fits nothing: no
    /// name of a media type has one.
    pub(super) fn fits(self, content_type: &[u8]) -> bool {
        let own = match self {
            Self::Style => return is(content_type, b"text/css"),
            Self::Script => return is_script(content_type),
            Self::Map => false,
            Self::Image | Self::Icon => begins(content_type, b"image/"),
            Self::Font => is_font(content_type),
            Self::Media => is_media(content_type),
            Self::Any => return !is_api(content_type) && !is_page(content_type),
        };
        // What S3 stores for an object that was uploaded without a type.
        own || is(content_type, b"binary/octet-stream")
            // What web servers answer for a type that they do not know.
            || self != Self::Image && is(content_type, b"application/octet-stream")
    }
}

/// Whether a logged content type is one that an error page or a redirect of CloudFront, S3 or a web
/// server may have. That is any but those that APIs use; S3's error page is XML.
pub(super) fn is_error_page(content_type: &[u8]) -> bool {
    is_page(content_type)
        || is(content_type, b"application/xml")
        || is(content_type, b"text/xml")
        || !is_api(content_type)
}

/// Whether a content type has this media type, in any case, with or without parameters.
fn is<const N: usize>(content_type: &[u8], media_type: &[u8; N]) -> bool {
    begins(content_type, media_type) && matches!(content_type.get(N), None | Some(b';'))
}

fn begins<const N: usize>(content_type: &[u8], prefix: &[u8; N]) -> bool {
    content_type
        .first_chunk::<N>()
        .is_some_and(|start| start == prefix || start.eq_ignore_ascii_case(prefix))
}

/// The JavaScript media types of the WHATWG's MIME Sniffing Standard, and `text/js`.
fn is_script(content_type: &[u8]) -> bool {
    is(content_type, b"text/javascript")
        || is(content_type, b"application/javascript")
        || is(content_type, b"application/x-javascript")
        || is(content_type, b"text/x-javascript")
        || is(content_type, b"application/ecmascript")
        || is(content_type, b"application/x-ecmascript")
        || is(content_type, b"text/ecmascript")
        || is(content_type, b"text/x-ecmascript")
        || is(content_type, b"text/js")
        || is(content_type, b"text/jscript")
        || is(content_type, b"text/livescript")
        || begins(content_type, b"text/javascript1.")
}

/// RFC 8081, and the names that servers used before it.
fn is_font(content_type: &[u8]) -> bool {
    begins(content_type, b"font/")
        || begins(content_type, b"application/font-")
        || begins(content_type, b"application/x-font-")
        || is(content_type, b"application/eot")
        || is(content_type, b"application/font")
        || is(content_type, b"application/opentype")
        || is(content_type, b"application/otf")
        || is(content_type, b"application/truetype")
        || is(content_type, b"application/ttf")
        || is(content_type, b"application/x-opentype")
        || is(content_type, b"application/x-otf")
        || is(content_type, b"application/x-truetype-font")
        || is(content_type, b"application/x-ttf")
        || is(content_type, b"application/x-woff")
        || is(content_type, b"application/vnd.ms-fontobject")
        || is(content_type, b"application/vnd.ms-opentype")
        // The extension `otf` was that of OpenDocument formulas.
        || is(content_type, b"application/vnd.oasis.opendocument.formula-template")
}

fn is_media(content_type: &[u8]) -> bool {
    begins(content_type, b"video/")
        || begins(content_type, b"audio/")
        || is(content_type, b"application/ogg")
        || is(content_type, b"application/x-ogg")
        || is(content_type, b"application/mp4")
        || is(content_type, b"application/x-matroska")
        || is(content_type, b"application/x-shockwave-flash")
        || is(content_type, b"application/vnd.adobe.flash.movie")
}

/// Whether APIs use this media type.
fn is_api(content_type: &[u8]) -> bool {
    const PARTS: [&[u8]; 11] = [
        b"%", // an escape could hide any of them
        b"json",
        b"yaml",
        b"grpc",
        b"graphql",
        b"protobuf",
        b"msgpack",
        b"cbor",
        b"bson",
        b"avro",
        b"thrift",
    ];
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let media_type = &content_type[..end];
    let ends = |suffix: &[u8]| {
        media_type
            .len()
            .checked_sub(suffix.len())
            .is_some_and(|at| media_type[at..].eq_ignore_ascii_case(suffix))
    };
    let has = |part: &&[u8]| {
        media_type
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part))
    };
    PARTS.iter().any(has)
        || (ends(b"/xml") || ends(b"+xml"))
            && !is(content_type, b"image/svg+xml")
            && !is_page(media_type)
        || is(content_type, b"application/x-www-form-urlencoded")
        || is(content_type, b"multipart/form-data")
        || is(content_type, b"text/event-stream")
}

/// Whether a media type is that of an HTML page.
fn is_page(content_type: &[u8]) -> bool {
    is(content_type, b"text/html") || is(content_type, b"application/xhtml+xml")
}

//! The static rule: a request is dropped only if it passes all tests of `docs/input.md`, here
//! written a second time, on text that is decoded before it is tested.

use std::io::Cursor;

use edgetap::batch::Limits;
use edgetap::encode::Encoding;
use edgetap::filter::StaticAssets;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::Batches;

const FIELDS: [&str; 9] = [
    "cs-method",
    "cs-uri-stem",
    "cs-uri-query",
    "sc-status",
    "x-edge-result-type",
    "sc-content-type",
    "cs(User-Agent)",
    "cs(Referer)",
    "x-forwarded-for",
];

/// The input is a byte whose bits leave out columns, and the values of a row up to its newline.
pub fn static_rule(data: &[u8]) {
    let Some((absent, row)) = data.split_first() else {
        return;
    };
    let row = row.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let row = row.strip_suffix(b"\r").unwrap_or(row);
    let mut cells = row.split(|byte| *byte == b'\t');
    let cells: Vec<_> = (0..FIELDS.len())
        // The method and the path are required.
        .map(|index| {
            (index < 2 || absent >> (index - 2) & 1 == 0).then(|| cells.next().unwrap_or_default())
        })
        .collect();
    let row = Row { cells: &cells };

    let rules = super::rules(Encoding::Ndjson, StaticAssets::default(), Limits::default());
    let job = Job::all(ObjectRef::in_s3("fuzz", "log"));
    let mut batches = Batches::new(&job, Cursor::new(row.log()), rules);
    let is_dropped = batches.any(|batch| batch.is_ok_and(|batch| batch.counts.static_assets == 1));
    assert!(!is_dropped || row.is_asset(), "an attack was dropped");
    if row.is_written_by_cloudfront() {
        assert!(is_dropped || !row.is_asset(), "an asset was sent");
    }
}

struct Row<'a> {
    cells: &'a [Option<&'a [u8]>],
}

impl<'a> Row<'a> {
    fn log(&self) -> Vec<u8> {
        let (mut names, mut cells) = (
            "date time c-ip".to_owned(),
            b"2026-11-14\t20:00:00\t::1".to_vec(),
        );
        for (name, cell) in FIELDS.iter().zip(self.cells) {
            if let Some(cell) = cell {
                names = format!("{names} {name}");
                cells.push(b'\t');
                cells.extend_from_slice(cell);
            }
        }
        [b"#Fields: ", names.as_bytes(), b"\n", &cells, b"\n"].concat()
    }

    fn has_column(&self, name: &str) -> bool {
        FIELDS
            .iter()
            .zip(self.cells)
            .any(|(field, cell)| *field == name && cell.is_some())
    }

    fn get(&self, name: &str) -> Option<&'a [u8]> {
        let index = FIELDS.iter().position(|field| *field == name).unwrap();
        self.cells[index].filter(|cell| !matches!(*cell, b"" | b"-"))
    }

    /// Whether the query and the content type are encoded as CloudFront does. The rule keeps a
    /// request with others, rather than decode them.
    fn is_written_by_cloudfront(&self) -> bool {
        ["cs-uri-query", "sc-content-type"]
            .into_iter()
            .filter_map(|name| self.get(name))
            .all(|cell| encoded(&decoded(cell)) == cell)
    }

    fn is_asset(&self) -> bool {
        let Some(extension) = self.plain_extension() else {
            return false;
        };
        matches!(self.get("cs-method"), Some(b"GET" | b"HEAD"))
            && self.get("cs-uri-query").is_none_or(is_plain_query)
            && self.has_response_of(&extension)
            && !["cs(User-Agent)", "cs(Referer)", "x-forwarded-for"]
                .into_iter()
                .filter_map(|name| Some((name, self.get(name)?)))
                .any(|(name, cell)| has_markup(name, cell))
    }

    /// The extension of a path that is read in one way.
    fn plain_extension(&self) -> Option<String> {
        let sent = decoded(self.get("cs-uri-stem")?);
        let is_delimiter = |byte: u8| byte.is_ascii_control() || b";\\?#".contains(&byte);
        // Control characters and others are encoded in a request line.
        let mut path = Vec::new();
        for byte in sent {
            if byte.is_ascii_graphic() {
                path.push(byte);
            } else {
                path.extend(format!("%{byte:02X}").into_bytes());
            }
        }
        let name = path.rsplit(|byte| *byte == b'/').next()?.to_vec();
        let dot = name.iter().rposition(|byte| *byte == b'.')?;
        let extension = String::from_utf8(name[dot + 1..].to_ascii_lowercase()).ok()?;
        for (at, byte) in path.iter().enumerate() {
            if is_delimiter(*byte) {
                return None;
            }
            if *byte == b'%' {
                let escape = std::str::from_utf8(path.get(at + 1..at + 3)?).ok()?;
                let byte = escape.bytes().all(|b| b.is_ascii_hexdigit());
                let byte = u8::from_str_radix(escape, 16).ok().filter(|_| byte)?;
                if is_delimiter(byte) || byte == b'/' || byte == b'%' {
                    return None;
                }
            }
        }
        let text = String::from_utf8(decoded(&path)).ok()?;
        if text.contains(|c: char| c.is_control() || "．／＼；？＃％".contains(c)) {
            return None;
        }
        let mut segments: Vec<&str> = text.split('/').collect();
        if segments
            .iter()
            .any(|segment| segment.contains('.') && segment.trim_matches(['.', ' ']).is_empty())
        {
            return None;
        }
        let last = segments.pop()?;
        segments.push(&last[..last.rfind('.')?]);
        let mut parts = segments
            .iter()
            .flat_map(|segment| segment.split('.').skip(1));
        (!parts.any(is_script)).then_some(extension)
    }

    fn has_response_of(&self, extension: &str) -> bool {
        let redirect = self.get("x-edge-result-type") == Some(b"Redirect");
        let error = self.get("x-edge-result-type") == Some(b"Error");
        let content_type = self.get("sc-content-type").map(|cell| {
            let media_type = cell.split(|byte| *byte == b';').next().unwrap_or_default();
            String::from_utf8_lossy(media_type).to_ascii_lowercase()
        });
        let content_type = content_type.as_deref();
        let fits = |content_type: &str| is_of(extension, content_type);
        let is_page = |content_type: &str| !is_api(content_type);
        let is_fitting = match self.get("sc-status") {
            None | Some(b"200" | b"206") if content_type.is_none() => {
                !self.has_column("sc-content-type")
            }
            None | Some(b"200" | b"206" | b"304" | b"000" | b"0") => content_type.is_none_or(fits),
            Some(b"404") => content_type.is_none_or(is_page),
            Some([b'3', _, _]) if redirect => content_type.is_none_or(is_page),
            Some(b"502" | b"503" | b"504") if error => {
                content_type.is_none_or(|content_type| is_page(content_type) && !fits(content_type))
            }
            _ => false,
        };
        is_fitting && is_listed(extension)
    }
}

fn is_listed(extension: &str) -> bool {
    let listed = "css js map mjs png jpg jpeg gif svg svgz webp avif bmp ico tif tiff woff woff2 ttf otf eot \
                  mp3 mp4 webm ogg ogv avi wav mov mkv flac flv swf";
    listed.split(' ').any(|known| known == extension)
}

fn is_of(extension: &str, media_type: &str) -> bool {
    let begins = |words: &str| words.split(' ').any(|word| media_type.starts_with(word));
    let is = |words: &str| words.split(' ').any(|word| media_type == word);
    let (own, unknown) = match extension {
        "css" => return is("text/css"),
        "js" | "mjs" => {
            return begins("text/javascript1.")
                || is(
                    "text/javascript text/x-javascript text/ecmascript text/x-ecmascript text/jscript text/livescript",
                )
                || is(
                    "application/javascript application/x-javascript application/ecmascript application/x-ecmascript",
                );
        }
        "map" => (false, true),
        "ico" => (begins("image/"), true),
        "woff" | "woff2" | "ttf" | "otf" | "eot" => (
            begins("font/ application/font- application/x-font-")
                || is(
                    "application/x-woff application/vnd.ms-fontobject application/vnd.ms-opentype",
                )
                || is("application/vnd.oasis.opendocument.formula-template"),
            true,
        ),
        "png" | "jpg" | "jpeg" | "gif" | "svg" | "svgz" | "webp" | "avif" | "bmp" | "tif"
        | "tiff" => (begins("image/"), false),
        _ => (
            begins("video/ audio/")
                || is("application/ogg application/mp4 application/x-matroska")
                || is("application/x-shockwave-flash application/vnd.adobe.flash.movie"),
            true,
        ),
    };
    own || is("binary/octet-stream") || unknown && is("application/octet-stream")
}

fn is_api(media_type: &str) -> bool {
    let parts = "% json yaml grpc graphql protobuf msgpack cbor bson avro thrift";
    let names = "application/x-www-form-urlencoded multipart/form-data text/event-stream";
    let is_page = [
        "text/html",
        "application/xhtml+xml",
        "text/xml",
        "application/xml",
    ]
    .contains(&media_type);
    !is_page
        && (parts.split(' ').any(|part| media_type.contains(part))
            || names.split(' ').any(|name| media_type == name)
            || (media_type.ends_with("/xml") || media_type.ends_with("+xml"))
                && media_type != "image/svg+xml")
}

fn is_script(part: &str) -> bool {
    let end = part
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(part.len());
    let name = part[..end].to_ascii_lowercase();
    let without_digits = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let scripts = "php phtml phar asp aspx ashx asmx jsp jspx cgi cfm";
    scripts.split(' ').any(|script| {
        script == name || script.len() == 3 && script == without_digits && name.len() <= 5
    })
}

fn is_plain_query(cell: &[u8]) -> bool {
    let Ok(query) = String::from_utf8(decoded(cell)) else {
        return false;
    };
    let commas = query.replace("%2C", ",").replace("%2c", ",");
    let rest = commas.replace("%3A", ":").replace("%3a", ":");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._~-=&,:".contains(c);
    let changes = |parameter: &str| {
        let name = parameter
            .split('=')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        name.contains("callback") || name.contains("jsonp") || name.replace('.', "_") == "_method"
    };
    query.len() <= 2048
        && rest.chars().all(is_plain)
        && !query.contains("..")
        && !query.split('&').any(changes)
}

fn has_markup(name: &str, cell: &[u8]) -> bool {
    let text = if name == "x-forwarded-for" {
        super::fields::forwarded_for(cell)
    } else {
        decoded(cell)
    };
    text.iter().any(|byte| b"<\"`".contains(byte)) || text.windows(2).any(|two| two == b"${")
}

/// Undoes one layer of percent-encoding.
fn decoded(text: &[u8]) -> Vec<u8> {
    super::fields::decoded(text)
}

/// CloudFront's encoding: bytes 0 to 32, 127 to 255 and some others (its Developer Guide).
fn encoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in text {
        if byte.is_ascii_graphic() && !b"<>\"#%{}|\\^~[]`'".contains(byte) {
            out.push(*byte);
        } else {
            out.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    out
}

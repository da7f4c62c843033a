//! Access logs generated from a seed: those of a web shop with an API, with realistic
//! cardinalities.
//!
//! 45% of the rows are API calls and 55% static assets. A few thousand clients return often, a few
//! paths are requested far more often than others, and request ids do not compress. Queries contain
//! no credentials, and no asset has an HTML page as its response. A simple rule (GET or HEAD, and a
//! listed extension) therefore drops the same rows as edgetap does.

use std::borrow::Cow;
use std::io::{self, Write};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// The 33 columns of a legacy log; the keys of its JSON twin.
pub const FIELDS: [&str; 33] = [
    "date",
    "time",
    "x-edge-location",
    "sc-bytes",
    "c-ip",
    "cs-method",
    "cs(Host)",
    "cs-uri-stem",
    "sc-status",
    "cs(Referer)",
    "cs(User-Agent)",
    "cs-uri-query",
    "cs(Cookie)",
    "x-edge-result-type",
    "x-edge-request-id",
    "x-host-header",
    "cs-protocol",
    "cs-bytes",
    "time-taken",
    "x-forwarded-for",
    "ssl-protocol",
    "ssl-cipher",
    "x-edge-response-result-type",
    "cs-protocol-version",
    "fle-status",
    "fle-encrypted-fields",
    "c-port",
    "time-to-first-byte",
    "x-edge-detailed-result-type",
    "sc-content-type",
    "sc-content-len",
    "sc-range-start",
    "sc-range-end",
];

const CLIENTS: usize = 20_000;
const USER_AGENTS: usize = 800;
const ASSETS: usize = 4_000;
const EDGES: [&str; 8] = [
    "FRA56-P4", "FRA60-P7", "MUC50-P2", "AMS58-P1", "LHR61-P3", "CDG52-P2", "IAD89-C1", "SFO53-P5",
];
/// Rows per second of the time in the log.
const ROWS_PER_SECOND: u64 = 167;

/// The values of one row, in the order of [`FIELDS`], in CloudFront's encoding.
pub type Cells = [Cow<'static, str>; 33];

/// An endless sequence of rows. The same seed gives the same rows.
pub struct Rows {
    rng: StdRng,
    clients: Vec<Client>,
    assets: Vec<Asset>,
    row: u64,
}

struct Client {
    address: String,
    user_agent: String,
    edge: &'static str,
    is_app: bool,
}

struct Asset {
    path: String,
    content_type: &'static str,
    length: u32,
}

impl Rows {
    /// Creates the rows of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let user_agents: Vec<_> = (0..USER_AGENTS).map(|_| user_agent(&mut rng)).collect();
        let clients = (0..CLIENTS)
            .map(|_| client(&user_agents, &mut rng))
            .collect();
        let assets = (0..ASSETS).map(|_| asset(&mut rng)).collect();
        Self {
            rng,
            clients,
            assets,
            row: 0,
        }
    }
}

impl Iterator for Rows {
    type Item = Cells;

    fn next(&mut self) -> Option<Cells> {
        let Self {
            rng,
            clients,
            assets,
            row,
        } = self;
        let client = popular(clients, rng);
        let is_api = rng.random_bool(0.45);
        let Request {
            method,
            host,
            stem,
            query,
            status,
            content_type,
            length,
        } = if is_api {
            call(rng)
        } else {
            fetch(assets, rng)
        };
        let second = *row / ROWS_PER_SECOND;
        *row += 1;
        let took = if is_api {
            rng.random_range(4..900)
        } else {
            rng.random_range(1..40)
        };
        let result = match status {
            "403" | "404" | "500" => "Error",
            "304" => "RefreshHit",
            _ if is_api => "Miss",
            _ => "Hit",
        };
        let referer = if client.is_app {
            "-".into()
        } else {
            referer(rng)
        };
        let forwarded = if rng.random_bool(0.03) {
            forwarded_for(rng).into()
        } else {
            "-".into()
        };
        Some([
            format!("2026-11-{:02}", 14 + second / 86_400).into(),
            format!(
                "{:02}:{:02}:{:02}",
                (20 + second / 3600) % 24,
                second / 60 % 60,
                second % 60
            )
            .into(),
            client.edge.into(),
            (length + rng.random_range(300..900)).to_string().into(),
            client.address.clone().into(),
            method.into(),
            "d2xmpl7k3a9q0z.cloudfront.net".into(),
            stem,
            status.into(),
            referer,
            client.user_agent.clone().into(),
            query,
            "-".into(),
            result.into(),
            request_id(rng).into(),
            host.into(),
            "https".into(),
            rng.random_range(80..2500).to_string().into(),
            seconds(took),
            forwarded,
            "TLSv1.3".into(),
            "TLS_AES_128_GCM_SHA256".into(),
            result.into(),
            if client.is_app {
                "HTTP/1.1"
            } else {
                "HTTP/2.0"
            }
            .into(),
            "-".into(),
            "-".into(),
            rng.random_range(1024..=65_535).to_string().into(),
            seconds(took - took / 8),
            result.into(),
            content_type.into(),
            if status == "304" {
                "-".into()
            } else {
                length.to_string().into()
            },
            "-".into(),
            "-".into(),
        ])
    }
}

/// Writes the two header lines of a legacy log.
///
/// # Errors
/// Those of `out`.
pub fn write_header(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "#Version: 1.0\n#Fields: {}", FIELDS.join(" "))
}

/// Writes a row of a legacy log. Returns its length in bytes.
///
/// # Errors
/// Those of `out`.
pub fn write_row(cells: &Cells, out: &mut impl Write) -> io::Result<u64> {
    let mut bytes = 0;
    for (index, cell) in cells.iter().enumerate() {
        out.write_all(cell.as_bytes())?;
        out.write_all(if index + 1 == cells.len() {
            b"\n"
        } else {
            b"\t"
        })?;
        bytes += cell.len() as u64 + 1;
    }
    Ok(bytes)
}

struct Request {
    method: &'static str,
    host: &'static str,
    stem: Cow<'static, str>,
    query: Cow<'static, str>,
    status: &'static str,
    content_type: &'static str,
    length: u32,
}

/// An API call.
fn call(rng: &mut StdRng) -> Request {
    const JSON: &str = "application/json;%20charset=utf-8";
    const CLIENT: &str = "client=web-8.41.2&locale=de-DE&currency=EUR";
    let number = skewed(2_000_000, rng);
    let none = || Cow::Borrowed("-");
    let page = rng.random_range(1..40);
    let (method, stem, query): (_, Cow<'static, str>, _) = match rng.random_range(0..20) {
        0..=2 => ("GET", format!("/api/v1/orders/{number}").into(), none()),
        3 | 4 => (
            "GET",
            "/api/v1/orders".into(),
            format!("page={page}&limit=50&sort=-created_at&{CLIENT}").into(),
        ),
        5 | 6 => (
            "GET",
            format!("/api/v2/products/SKU-{:07}/reviews", number % 90_000).into(),
            format!("page={page}&{CLIENT}").into(),
        ),
        7 | 8 => (
            "GET",
            "/api/v2/search".into(),
            format!(
                "q={}&offset={}&limit=24&facets=brand,size,color,price&{CLIENT}",
                words(rng),
                page * 24
            )
            .into(),
        ),
        9 => ("POST", "/graphql".into(), none()),
        10 => ("POST", "/api/v1/cart/items".into(), none()),
        11 => (
            "PUT",
            format!("/api/v1/cart/items/{}", number % 400_000).into(),
            none(),
        ),
        12 => (
            "DELETE",
            format!("/api/v1/cart/items/{}", number % 400_000).into(),
            none(),
        ),
        13 => (
            "GET",
            format!("/api/v1/users/{}/profile", uuid(rng)).into(),
            none(),
        ),
        14 => (
            "PATCH",
            format!("/api/v1/users/{}/preferences", uuid(rng)).into(),
            none(),
        ),
        15 => ("POST", "/auth/realms/shop/login".into(), none()),
        16 => (
            "GET",
            format!("/api/v1/sessions/{}", uuid(rng)).into(),
            format!("expand=devices,location&{CLIENT}").into(),
        ),
        17 => ("OPTIONS", "/api/v1/orders".into(), none()),
        18 => (
            "POST",
            format!("/api/v1/payments/{}/confirm", uuid(rng)).into(),
            format!("attempt={}", page % 4).into(),
        ),
        _ => (
            "GET",
            "/api/v1/recommendations".into(),
            format!("user={number}&context=home&size=12&{CLIENT}").into(),
        ),
    };
    let status = *[
        "200", "200", "200", "200", "200", "200", "201", "204", "304", "401", "403", "404", "429",
        "500",
    ]
    .choose(rng)
    .unwrap_or(&"200");
    let host = *[
        "api.example.com",
        "api.example.com",
        "api.example.com",
        "m.example.com",
        "shop.example.com",
        "partner.example.net",
    ]
    .choose(rng)
    .unwrap_or(&"api.example.com");
    Request {
        method,
        host,
        stem,
        query,
        status,
        content_type: if status == "204" { "-" } else { JSON },
        length: rng.random_range(20..12_000),
    }
}

/// A request for a static asset.
fn fetch(assets: &[Asset], rng: &mut StdRng) -> Request {
    let asset = popular(assets, rng);
    let status = *[
        "200", "200", "200", "200", "200", "200", "200", "200", "304", "304", "404",
    ]
    .choose(rng)
    .unwrap_or(&"200");
    let method = if rng.random_bool(0.02) { "HEAD" } else { "GET" };
    let host = *["static.example.com", "shop.example.com", "www.example.com"]
        .choose(rng)
        .unwrap_or(&"static.example.com");
    let query = if rng.random_bool(0.2) {
        format!("v={}", 100 + skewed(60, rng)).into()
    } else {
        "-".into()
    };
    let content_type = if status == "404" {
        "text/html"
    } else {
        asset.content_type
    };
    Request {
        method,
        host,
        stem: asset.path.clone().into(),
        query,
        status,
        content_type,
        length: asset.length,
    }
}

fn asset(rng: &mut StdRng) -> Asset {
    const KINDS: [(&str, &str); 9] = [
        ("js", "application/javascript"),
        ("js", "text/javascript;%20charset=utf-8"),
        ("css", "text/css;%20charset=utf-8"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("webp", "image/webp"),
        ("svg", "image/svg+xml"),
        ("woff2", "font/woff2"),
        ("ico", "image/x-icon"),
    ];
    const FOLDERS: [&str; 5] = [
        "/assets/build/2026-11-12",
        "/static/media/common",
        "/media/catalog/products/large/1200x1200",
        "/assets/fonts/inter",
        "/_next/static/chunks/pages/product",
    ];
    let (extension, content_type) = *KINDS.choose(rng).unwrap_or(&KINDS[0]);
    let directory = FOLDERS.choose(rng).unwrap_or(&FOLDERS[0]);
    let path = format!(
        "{directory}/{}.{:012x}.{extension}",
        WORDS.choose(rng).unwrap_or(&"main"),
        rng.random::<u64>() >> 16
    );
    Asset {
        path,
        content_type,
        length: rng.random_range(200..400_000),
    }
}

/// Addresses in networks reserved for benchmarks (RFC 2544) and documentation (RFC 3849).
fn client(user_agents: &[String], rng: &mut StdRng) -> Client {
    let address = if rng.random_bool(0.15) {
        let [a, b, c, d] = rng.random::<[u16; 4]>();
        format!(
            "2001:db8:{:x}:{:x}:{:x}:{:x}:{a:x}:{b:x}",
            c % 512,
            d % 64,
            a % 999,
            b % 999
        )
    } else {
        format!(
            "198.{}.{}.{}",
            rng.random_range(18..20),
            rng.random_range(0..256),
            rng.random_range(1..255)
        )
    };
    let user_agent = popular(user_agents, rng).clone();
    let is_app = !user_agent.starts_with("Mozilla");
    Client {
        address,
        user_agent,
        edge: popular::<&str>(&EDGES, rng),
        is_app,
    }
}

fn user_agent(rng: &mut StdRng) -> String {
    let (major, minor) = (rng.random_range(118..145), rng.random_range(0..10));
    match rng.random_range(0..10) {
        0..=2 => format!(
            "Mozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36%20(KHTML,%20like%20Gecko)%20Chrome/{major}.0.{}.{}%20Safari/537.36",
            rng.random_range(6000..7500),
            rng.random_range(20..220)
        ),
        3 | 4 => format!(
            "Mozilla/5.0%20(iPhone;%20CPU%20iPhone%20OS%20{}_{minor}%20like%20Mac%20OS%20X)%20AppleWebKit/605.1.15%20(KHTML,%20like%20Gecko)%20Version/{}.{minor}%20Mobile/15E148%20Safari/604.1",
            major - 101,
            major - 101
        ),
        5 => format!(
            "Mozilla/5.0%20(Linux;%20Android%20{};%20SM-S9{}B)%20AppleWebKit/537.36%20(KHTML,%20like%20Gecko)%20Chrome/{major}.0.0.0%20Mobile%20Safari/537.36",
            rng.random_range(11..17),
            rng.random_range(10..40)
        ),
        6 => format!(
            "Mozilla/5.0%20(Macintosh;%20Intel%20Mac%20OS%20X%2010.15;%20rv:{major}.0)%20Gecko/20100101%20Firefox/{major}.0"
        ),
        7 => format!(
            "ShopApp/7.{minor}.{}%20(com.example.shop;%20build:{major};%20iOS%2018.{minor}.0)%20Alamofire/5.9.1",
            major % 7
        ),
        8 => format!("okhttp/4.{minor}.{}", major % 4),
        _ => format!("python-requests/2.{}.{minor}", major % 33),
    }
}

fn referer(rng: &mut StdRng) -> Cow<'static, str> {
    let [one, two] = [0, 1].map(|_| *WORDS.choose(rng).unwrap_or(&"main"));
    let product = skewed(90_000, rng);
    match rng.random_range(0..10) {
        0 => "-".into(),
        1 | 2 => "https://shop.example.com/".into(),
        3..=5 => format!("https://shop.example.com/de-de/category/{one}/{two}?sort=popularity&page={}&view=grid", 1 + product % 9).into(),
        6 | 7 => {
            format!("https://shop.example.com/de-de/category/{one}/product/SKU-{product:07}?variant={}&color={two}", product % 12).into()
        }
        _ => format!(
            "https://www.example.org/landing/{one}?utm_source=newsletter&utm_medium=email&utm_campaign={two}_2026&utm_content=teaser-{}",
            product % 8
        )
        .into(),
    }
}

fn forwarded_for(rng: &mut StdRng) -> String {
    format!(
        "198.51.100.{},\\x20203.0.113.{}",
        rng.random_range(1..255),
        rng.random_range(1..255)
    )
}

const WORDS: [&str; 24] = [
    "main",
    "vendor",
    "shoes",
    "jackets",
    "summer",
    "sale",
    "checkout",
    "hero",
    "banner",
    "icon",
    "runtime",
    "polyfills",
    "listing",
    "detail",
    "basket",
    "header",
    "footer",
    "theme",
    "boots",
    "travel",
    "garden",
    "outdoor",
    "kids",
    "gift",
];

/// A viewer's `%20` is logged as `%2520`.
fn words(rng: &mut StdRng) -> String {
    let [one, two] = [0, 1].map(|_| *WORDS.choose(rng).unwrap_or(&"main"));
    if rng.random_bool(0.4) {
        format!("{one}%2520{two}")
    } else {
        one.to_owned()
    }
}

fn uuid(rng: &mut StdRng) -> String {
    let id = format!("{:032x}", rng.random::<u128>());
    format!(
        "{}-{}-{}-{}-{}",
        &id[..8],
        &id[8..12],
        &id[12..16],
        &id[16..20],
        &id[20..]
    )
}

/// 54 characters of base64url and `==`.
fn request_id(rng: &mut StdRng) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut id = String::with_capacity(56);
    id.extend(
        rng.random::<[u8; 54]>()
            .map(|byte| char::from(DIGITS[usize::from(byte % 64)])),
    );
    id + "=="
}

fn seconds(milliseconds: u32) -> Cow<'static, str> {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000).into()
}

/// One of them, the first much more often than the last.
fn popular<'a, T>(all: &'a [T], rng: &mut StdRng) -> &'a T {
    &all[usize::try_from(skewed(all.len() as u64, rng)).unwrap_or(0)]
}

/// Below `end`, small numbers much more often than large ones.
fn skewed(end: u64, rng: &mut StdRng) -> u64 {
    let [a, b, c] = rng.random::<[u16; 3]>().map(u64::from);
    (((a * b) >> 16) * c * end) >> 32
}

//! Each test of the static rule, from both sides.

use super::*;
use crate::log::LogReader;

/// The columns of a legacy log that the rule reads, with the values of an ordinary asset.
const ASSET: [(&str, &str); 9] = [
    ("cs-method", "GET"),
    ("cs-uri-stem", "/static/logo.png"),
    ("sc-status", "200"),
    (
        "cs(Referer)",
        "https://shop.example.com/women%27s/shoes?page=2",
    ),
    ("cs(User-Agent)", "Mozilla/5.0%20(X11;%20Linux)"),
    ("cs-uri-query", "-"),
    ("x-edge-result-type", "Hit"),
    ("x-forwarded-for", "-"),
    ("sc-content-type", "image/png"),
];

/// A log of one row: that of an asset, with other `values`, and without the columns `absent`.
fn log(values: &[(&str, &str)], absent: &[&str]) -> String {
    let mut columns = ASSET.to_vec();
    for (field, value) in values {
        let column = columns.iter_mut().find(|(name, _)| name == field);
        column.unwrap_or_else(|| panic!("{field}")).1 = value;
    }
    columns.retain(|(name, _)| !absent.contains(name));
    let (names, cells): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let (names, cells) = (names.join(" "), cells.join("\t"));
    format!("#Fields: date time c-ip {names}\n2026-11-20\t00:00:01\t192.0.2.9\t{cells}\n")
}

fn decide_log(static_assets: &StaticAssets, log: &str) -> Result<String, Keep> {
    let mut reader = LogReader::new(log.as_bytes());
    assert!(reader.advance().unwrap(), "{log}");
    let decision = static_assets.test(reader.record().1, &mut Vec::new());
    decision.map(|extension| extension.to_string())
}

fn decide(values: &[(&str, &str)]) -> Result<String, Keep> {
    decide_log(&StaticAssets::default(), &log(values, &[]))
}

/// Why each value of a field keeps the request, or `None` if it is dropped.
fn check(field: &str, cases: &[(&str, Option<Keep>)]) {
    for (value, expected) in cases {
        let found = decide(&[(field, value)]);
        assert_eq!(found.err(), *expected, "{field} {value}");
    }
}

// proves: I27, I60
#[test]
fn methods_of_assets_are_get_and_head() {
    check("cs-method", &[("GET", None), ("HEAD", None)]);
    for method in [
        "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "get", "Head", "GET%20", "-",
    ] {
        check("cs-method", &[(method, Some(Keep::Method))]);
    }
}

// proves: I27, I61
#[test]
fn last_segment_ends_in_a_listed_extension() {
    for (path, extension) in [
        ("/a.png", Some("png")),
        ("/static/small.JPG", Some("jpg")),
        ("/a.b/icons/x@2x.WebP", Some("webp")),
        ("/logo%252D1.svg", Some("svg")),
        ("/caf%25C3%25A9/caf%C3%A9.gif", Some("gif")),
        ("/My%2520Photo%2520(1).jpeg", Some("jpeg")),
        ("/pages/%255Bslug%255D/%5Bid%5D.png", Some("png")),
        ("/app%2Epng", Some("png")), // `.` as CloudFront does not write it
        ("//static//a.png", Some("png")),
        ("/.png", Some("png")),
        ("/png", None),
        ("/a.png/", None),
        ("/v1.png/users", None),
        ("/a.png.", None),
        ("/a.png%2520", None),
        ("/api/me%252Epng", None),
        ("/api/me.%2570ng", None),
        ("/api/me%25EF%25BC%258Epng", None),
        ("/a.pngx", None),
        ("/report.pdf", None),
        ("/", None),
        ("-", None),
    ] {
        let expected = extension.map(str::to_owned).ok_or(Keep::Extension);
        assert_eq!(decide(&[("cs-uri-stem", path)]), expected, "{path}");
    }
}

// proves: I62
#[test]
fn delimiters_in_any_segment_keep_a_request() {
    for segment in [
        ";",
        "a;",
        ";jsessionid=1",
        "..;",
        "\\",
        "%5C",
        "?",
        "%3F",
        "#",
        "%23",
        "%00",
        "%09",
        "%0A",
        "%7F",
        "%252F",
        "%252f",
        "%255C",
        "%255c",
        "%253B",
        "%253b",
        "%253F",
        "%2523",
        "%2500",
        "%2509",
        "%250A",
        "%250d",
        "%251f",
        "%257F",
        "..%252f",
        "..%255C",
        "%25C2%2585",
        "%25EF%25BC%258F",
        "%25EF%25BC%258E%25EF%25BC%258E",
    ] {
        for path in [
            format!("/static/{segment}/api/users/1.png"),
            format!("/{segment}a.png"),
            format!("/a{segment}.png"),
        ] {
            check("cs-uri-stem", &[(&path, Some(Keep::Delimiter))]);
        }
    }
    for path in [
        "/a,b/c!d/e'(f)/g*h/i+j=k&l:m@n/$o.png",
        "/a%252Cb/c%2521/%2528d%2529/e%252Bf/%2540g/%255Bh%255D/%257Ei/j%2526k.png",
    ] {
        check("cs-uri-stem", &[(path, None)]);
    }
}

// proves: I63
#[test]
fn second_encoding_in_any_segment_keeps_a_request() {
    for escape in [
        "%25252e", "%25252F", "%25253b", "%252500", "%252541", "%2525", "%25u002e", "%25zz", "%zz",
        "%254", "100%25",
    ] {
        for path in [
            format!("/static/{escape}/api/users/1.png"),
            format!("/api/me{escape}.png"),
        ] {
            check("cs-uri-stem", &[(&path, Some(Keep::SecondEncoding))]);
        }
    }
}

// proves: I64
#[test]
fn path_that_is_not_utf_8_keeps_a_request() {
    for bytes in [
        "%25c0%25ae%25c0%25ae",
        "%25c0%25af",
        "%25e0%2580%25af",
        "%25FF",
        "%FF",
        "%25E9",
    ] {
        let path = format!("/static/{bytes}/a.png");
        check("cs-uri-stem", &[(&path, Some(Keep::NotUtf8))]);
    }
}

// proves: I65
#[test]
fn dot_segments_keep_a_request() {
    for segment in [
        "..",
        ".",
        "%252e%252e",
        "%252E.",
        ".%252e",
        "%252e",
        "%2e%2e",
        "...",
        "..%2520",
        "%2520..",
        ".%20.",
    ] {
        for path in [
            format!("/static/{segment}/api/users/1.png"),
            format!("/{segment}/{segment}/etc/passwd.png"),
            format!("{segment}/a.png"),
        ] {
            check("cs-uri-stem", &[(&path, Some(Keep::DotSegment))]);
        }
    }
    for path in [
        "/.hidden/a.png",
        "/a../b.png",
        "/..a/b.png",
        "/a..png",
        "/%2520a%2520.png",
        "/%2520/a.png",
    ] {
        check("cs-uri-stem", &[(path, None)]);
    }
}

// proves: I66
#[test]
fn scripts_before_the_extension_keep_a_request() {
    for script in [
        "php", "PHP", "php5", "phtml", "phar", "asp", "Aspx", "ashx", "asmx", "jsp", "jspx", "cgi",
        "cfm", "p%2568p", "%2570hp",
    ] {
        for path in [
            format!("/a.{script}/x.png"),
            format!("/a.{script}/b/c/x.png"),
            format!("/.{script}/x.png"),
            format!("/x.{script}.png"),
            format!("/x.{script}.min.png"),
            format!("/x.{script}%2520.png"),
            format!("/x.{script}::$DATA/y.png"),
            format!("/x%252E{script}.png"),
        ] {
            check("cs-uri-stem", &[(&path, Some(Keep::Script))]);
        }
    }
    for path in [
        "/php/a.png",
        "/worker-php.png",
        "/php.png",
        "/messages.pl.png",
        "/a.phpx/x.png",
        "/a.jsps/x.png",
        "/a.min.png",
        "/a.c.png",
        "/a.cfg/aspect.png",
    ] {
        check("cs-uri-stem", &[(path, None)]);
    }
    let scripts = StaticAssets::parse("+php").unwrap();
    let path = [("cs-uri-stem", "/x.PHP"), ("sc-content-type", "text/plain")];
    assert_eq!(decide_log(&scripts, &log(&path, &[])), Ok("php".to_owned()));
}

// proves: I67
#[test]
fn plain_queries_are_those_of_assets() {
    let long = |length: usize| format!("Signature={}", "a".repeat(length - 10));
    let signed = format!(
        "Expires=1795651737&Signature={}&Key-Pair-Id=K2JCJMDEHXQW5F",
        "aB3-_%7E".repeat(100)
    );
    check(
        "cs-uri-query",
        &[
            ("v=1.2.3", None),
            ("20261120", None),
            ("auto=compress%252Cformat&w=640", None),
            ("ar=16%253A9&dpr=2", None),
            ("ar=16%253a9,b:c&_=1~2", None),
            ("crop=a%2Cb%3Ac", None),
            (&signed, None),
            ("a.b.c=.", None),
            ("=&&==", None),
            (&long(2048), None),
            (&long(2049), Some(Keep::LongQuery)),
            (&format!("{}%252C", long(2045)), None),
            (&format!("{}%252C", long(2046)), Some(Keep::LongQuery)),
        ],
    );
    for query in [
        "id=1%27%20OR%201=1--",
        "id=-1+OR+1=1",
        "x=!cmd",
        "q=*)(uid=*",
        "x=$%7Bjndi:ldap%7D",
        "url=http://169.254.169.254/",
        "url=http:%252F%252F169.254.169.254",
        "url=//a",
        "a/b",
        "file=..",
        "file=..%252f..%252fpasswd",
        "a=1;b=2",
        "a=%2500",
        "a=%25252C",
        "a=%2525",
        "a=%252",
        "a=%25",
        "a=%",
        "a%25",
        "a=%2541",
        "a=%3Cscript%3E",
        "a=%60id%60",
        "a=b|c",
        "a[]=1",
        "a=b@c",
        "a=%25C3%25A9",
        "a=\u{e9}",
        "a?b",
        "a#b",
        "a\\b",
    ] {
        check("cs-uri-query", &[(query, Some(Keep::Query))]);
    }
}

// proves: I68
#[test]
fn callbacks_and_method_overrides_keep_a_request() {
    for name in [
        "_method",
        "_METHOD",
        ".method",
        "callback",
        "Callback",
        "jsonp",
        "JSONP",
        "jsoncallback",
        "jsonpCallback",
        "jsonp_callback",
    ] {
        for query in [
            format!("{name}=x"),
            name.to_owned(),
            format!("v=1&{name}=steal&id=1001"),
            format!("&&{name}"),
        ] {
            check("cs-uri-query", &[(&query, Some(Keep::Parameter))]);
        }
    }
    for query in [
        "method=x",
        "v=callback",
        "a=_method&b=jsonp",
        "x_method=1",
        "call=back",
    ] {
        check("cs-uri-query", &[(query, None)]);
    }
}

// proves: I69
#[test]
fn statuses_of_assets_are_few() {
    let dropped = |status| check("sc-status", &[(status, None)]);
    ["200", "206", "304", "000", "0", "-"]
        .into_iter()
        .for_each(dropped);
    for status in [
        "100", "101", "201", "204", "301", "302", "307", "308", "400", "401", "403", "405", "410",
        "416", "429", "500", "501", "502", "503", "504", "2000", "200x", "0000",
    ] {
        check("sc-status", &[(status, Some(Keep::Status))]);
    }
    assert!(decide_log(&StaticAssets::default(), &log(&[], &["sc-status"])).is_ok());
}

/// Status, result type, content type, and why the request is kept.
// proves: I69, I71
#[test]
fn pages_of_the_edge_are_dropped() {
    for (status, result, content_type, expected) in [
        ("301", "Redirect", "text/html", None),
        ("302", "Redirect", "-", None),
        ("307", "Redirect", "text/html", None),
        ("301", "Redirect", "application/json", Some(Keep::MediaType)),
        ("301", "Miss", "text/html", Some(Keep::Status)),
        ("302", "FunctionGeneratedResponse", "-", Some(Keep::Status)),
        ("302", "LambdaGeneratedResponse", "-", Some(Keep::Status)),
        ("302", "-", "-", Some(Keep::Status)),
        ("403", "Redirect", "text/html", Some(Keep::Status)),
        ("502", "Error", "text/html", None),
        ("503", "Error", "-", None),
        ("504", "Error", "text/html;%20charset=UTF-8", None),
        ("503", "Error", "image/png", Some(Keep::OriginError)),
        (
            "503",
            "Error",
            "binary/octet-stream",
            Some(Keep::OriginError),
        ),
        (
            "502",
            "Error",
            "application/problem+json",
            Some(Keep::MediaType),
        ),
        ("503", "Miss", "text/html", Some(Keep::Status)),
        ("500", "Error", "text/html", Some(Keep::Status)),
        ("403", "Error", "text/html", Some(Keep::Status)),
        ("404", "Error", "text/html", None),
        ("404", "Miss", "image/png", None),
        ("404", "Miss", "text/plain", None),
        ("404", "Miss", "-", None),
        ("404", "Error", "application/xml", None),
        ("404", "Error", "text/xml;%20charset=utf-8", None),
        ("404", "Error", "application/xhtml+xml", None),
        ("404", "Miss", "application/json", Some(Keep::MediaType)),
        (
            "404",
            "Miss",
            "application/json;%20charset=utf-8",
            Some(Keep::MediaType),
        ),
        (
            "404",
            "Miss",
            "Application/Vnd.Api+JSON",
            Some(Keep::MediaType),
        ),
        (
            "404",
            "Miss",
            "application/problem+xml",
            Some(Keep::MediaType),
        ),
        ("404", "Miss", "application/soap+xml", Some(Keep::MediaType)),
        ("404", "Miss", "application/grpc-web", Some(Keep::MediaType)),
        (
            "404",
            "Miss",
            "application/x-protobuf",
            Some(Keep::MediaType),
        ),
        ("404", "Miss", "application/x-ndjson", Some(Keep::MediaType)),
        ("404", "Miss", "application/yaml", Some(Keep::MediaType)),
        (
            "404",
            "Miss",
            "application/graphql-response+json",
            Some(Keep::MediaType),
        ),
        ("404", "Miss", "text/event-stream", Some(Keep::MediaType)),
        ("404", "Miss", "multipart/form-data", Some(Keep::MediaType)),
        (
            "404",
            "Miss",
            "application/x-www-form-urlencoded",
            Some(Keep::MediaType),
        ),
        ("404", "Miss", "application/%6ason", Some(Keep::MediaType)),
    ] {
        let values = [
            ("sc-status", status),
            ("x-edge-result-type", result),
            ("sc-content-type", content_type),
        ];
        assert_eq!(decide(&values).err(), expected, "{values:?}");
    }
    let redirect = log(&[("sc-status", "301")], &["x-edge-result-type"]);
    assert_eq!(
        decide_log(&StaticAssets::default(), &redirect),
        Err(Keep::Status)
    );
}

// proves: I70
#[test]
fn media_types_fit_the_extension() {
    const S3: &str = "binary/octet-stream";
    const UNKNOWN: &str = "application/octet-stream";
    for (extensions, fitting, others) in [
        (
            "png jpg jpeg gif svg svgz webp avif bmp tif tiff",
            "image/png image/jpeg image/webp image/svg+xml;%20charset=utf-8 IMAGE/GIF binary/octet-stream",
            "application/octet-stream images/png text/plain application/pdf imag",
        ),
        (
            "ico",
            "image/x-icon image/vnd.microsoft.icon binary/octet-stream application/octet-stream",
            "text/plain",
        ),
        (
            "woff woff2 ttf otf eot",
            "font/woff2 application/font-woff application/font-woff2 application/font-sfnt application/x-font-woff \
             application/x-font-ttf application/x-font-otf application/x-font-opentype application/x-font-truetype \
             application/vnd.ms-fontobject application/vnd.ms-opentype application/x-woff application/eot \
             application/font application/opentype application/otf application/truetype application/ttf \
             application/x-opentype application/x-otf application/x-ttf application/x-truetype-font binary/octet-stream \
             application/octet-stream",
            "text/plain image/png application/vnd.ms-excel application/fonts application/ttf2",
        ),
        (
            "mp3 mp4 webm ogg ogv avi wav mov mkv flac flv swf",
            "video/mp4 audio/mpeg application/ogg application/x-ogg application/x-shockwave-flash binary/octet-stream \
             application/octet-stream",
            "text/plain image/png application/x-mpegurl",
        ),
        (
            "css",
            "text/css text/css;%20charset=utf-8 Text/CSS",
            "text/csscript text/plain text/javascript",
        ),
        (
            "js mjs",
            "text/javascript application/javascript;%20charset=UTF-8 application/x-javascript text/x-javascript \
             text/ecmascript application/ecmascript text/javascript1.5 text/jscript text/js Application/JavaScript",
            "text/css text/plain application/javascripts text/json text/jsx",
        ),
        (
            "map",
            "binary/octet-stream application/octet-stream",
            "text/plain text/javascript",
        ),
    ] {
        let always_kept = "application/json text/html text/html;%20charset=utf-8 application/xhtml+xml text/xml \
                           application/xml text/csv application/zip application/yaml application/%6ason";
        for extension in extensions.split(' ') {
            let path = format!("/a.{extension}");
            let found = |content_type: &str| {
                decide(&[("cs-uri-stem", &path), ("sc-content-type", content_type)])
            };
            for content_type in fitting.split_whitespace() {
                assert_eq!(
                    found(content_type),
                    Ok(extension.to_owned()),
                    "{content_type}"
                );
            }
            for content_type in others.split(' ').chain(always_kept.split_whitespace()) {
                assert_eq!(
                    found(content_type),
                    Err(Keep::MediaType),
                    "{extension} {content_type}"
                );
            }
            assert_eq!(fitting.contains(S3), found(S3).is_ok(), "{extension}");
            assert_eq!(
                fitting.contains(UNKNOWN),
                found(UNKNOWN).is_ok(),
                "{extension}"
            );
        }
    }
}

/// The operator has added the extension, so its media type is not known.
// proves: I70
#[test]
fn added_extensions_fit_all_but_pages_and_apis() {
    let added = StaticAssets::parse("+pdf,+txt").unwrap();
    for (path, content_type, dropped) in [
        ("/a.pdf", "application/pdf", true),
        ("/a.txt", "text/plain;%20charset=utf-8", true),
        ("/a.pdf", "application/octet-stream", true),
        ("/a.pdf", "application/json", false),
        ("/a.txt", "text/html", false),
        ("/a.txt", "application/xml", false),
        ("/a.txt", "application/%6ason", false),
    ] {
        let log = log(
            &[("cs-uri-stem", path), ("sc-content-type", content_type)],
            &[],
        );
        assert_eq!(
            decide_log(&added, &log).is_ok(),
            dropped,
            "{path} {content_type}"
        );
    }
}

/// Status, whether the log has a column for the content type, and why a row without one is kept.
// proves: I71
#[test]
fn content_type_may_be_missing_without_a_response() {
    for (status, has_column, expected) in [
        ("200", true, Some(Keep::NoMediaType)),
        ("206", true, Some(Keep::NoMediaType)),
        ("-", true, Some(Keep::NoMediaType)),
        ("304", true, None),
        ("000", true, None),
        ("404", true, None),
        ("200", false, None),
        ("206", false, None),
        ("-", false, None),
        ("304", false, None),
        ("401", false, Some(Keep::Status)),
        ("403", false, Some(Keep::Status)),
    ] {
        let absent: &[_] = if has_column {
            &[]
        } else {
            &["sc-content-type"]
        };
        let log = log(&[("sc-status", status), ("sc-content-type", "-")], absent);
        let found = decide_log(&StaticAssets::default(), &log);
        assert_eq!(found.err(), expected, "{status} {has_column}");
    }
    let short = log(&[], &[]).replace("\timage/png", "");
    assert_eq!(
        decide_log(&StaticAssets::default(), &short),
        Err(Keep::NoMediaType)
    );
    for status in ["304", "000"] {
        let html = [("sc-status", status), ("sc-content-type", "text/html")];
        assert_eq!(decide(&html), Err(Keep::MediaType));
    }
}

/// Logs of 24 columns and no header, as they were until 2018.
// proves: I71
#[test]
fn logs_without_content_types_drop_ordinary_assets() {
    let row = |stem: &str, status: &str, query: &str| {
        format!(
            "2018-02-20\t00:00:01\tIAD89-C1\t10\t192.0.2.9\tGET\td1.cloudfront.net\t{stem}\t{status}\t-\tcurl/8\t{query}\t\
             -\tMiss\tid==\tapi.example.com\thttps\t9\t0.001\t-\tTLSv1.2\tECDHE-RSA\tMiss\tHTTP/2.0\n"
        )
    };
    for (stem, status, query, expected) in [
        ("/logo.png", "200", "-", None),
        ("/logo.png", "304", "v=1", None),
        ("/login.css", "401", "-", Some(Keep::Status)),
        ("/a.png", "200", "id=1%27%20OR%201=1", Some(Keep::Query)),
        ("/a.php/x.png", "200", "-", Some(Keep::Script)),
    ] {
        let found = decide_log(&StaticAssets::default(), &row(stem, status, query));
        assert_eq!(found.err(), expected, "{stem} {status} {query}");
    }
}

// proves: I72
#[test]
fn markup_in_headers_keeps_a_request() {
    for (name, field) in [
        ("cs(User-Agent)", Field::UserAgent),
        ("cs(Referer)", Field::Referer),
        ("x-forwarded-for", Field::XForwardedFor),
    ] {
        let padding = "Mozilla/5.0%20(X11)%20".repeat(4);
        for attack in [
            "%3Cscript%3E",
            "%3cb",
            "<b",
            "%22",
            "\"",
            "%60id%60",
            "`id`",
            "$%7Bjndi:ldap://x%7D",
            "${x",
            "%24%7bx",
            "$%7B",
        ] {
            for before in 0..padding.len() {
                let value = format!("{}{attack}{}", &padding[before..], &padding[..before]);
                check(name, &[(&value, Some(Keep::Markup(field)))]);
            }
            check(name, &[(attack, Some(Keep::Markup(field)))]);
        }
        for harmless in [
            "%253Cscript%253E",
            "%2522",
            "%2560",
            "$%257B",
            "%2524%257B",
            "McDonald%27s/8.1%20CFNetwork",
            "a$b",
            "$",
            "%7B$%7D",
            "%",
            "%2",
            "%3",
            "%5BFBAN/FBIOS%5D%7Ca%5Cb%3Eb",
            "a=b&c=d;e!f",
        ] {
            check(
                name,
                &[(harmless, None), (&format!("{padding}{harmless}"), None)],
            );
        }
    }
    let escaped = [
        ("10.0.0.1,\\x2010.0.0.2", None),
        ("\\x22x", Some(Keep::Markup(Field::XForwardedFor))),
    ];
    check("x-forwarded-for", &escaped);
}

// proves: I73
#[test]
fn no_spelling_of_a_path_escapes_its_glob() {
    let included = IncludedPaths::parse("/A//b.png,/users/*//Caf\u{e9}.jpg,//x/**").unwrap();
    for (path, expected) in [
        ("/a/B.png", Some("/A//b.png")),
        ("//a///%62.PNG", Some("/A//b.png")),
        ("/users/7/CAF%C3%89.jpg", Some("/users/*//Caf\u{e9}.jpg")),
        ("/users/7/8/caf%C3%A9.jpg", None),
        ("/x//y/z.png", Some("//x/**")),
        ("/a/b.png/c.png", None),
    ] {
        assert_eq!(included.matching_glob(path.as_bytes()), expected, "{path}");
    }
}

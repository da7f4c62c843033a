//! The static rule in the pipeline, with the globs that overrule it, and against a second rule.

use std::io::Cursor;
use std::sync::Arc;

use edgetap::batch::Counts;
use edgetap::filter::{ExcludedPaths, IncludedPaths};
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules, Summary};
use proptest::prelude::*;

use crate::fuzzing::targets;

/// A log of one row: that of an asset, with other `values`.
fn log(values: &[(&str, &str)]) -> String {
    let columns = [
        ("timestamp(ms)", "1700000000000"),
        ("c-ip", "192.0.2.9"),
        ("cs-method", "GET"),
        ("cs-uri-stem", "/static/logo.png"),
        ("cs-uri-query", "-"),
        ("sc-status", "200"),
        ("sc-content-type", "image/png"),
    ];
    let cells = columns.map(|(name, cell)| {
        let other = values.iter().find(|(field, _)| *field == name);
        other.map_or(cell, |(_, value)| *value)
    });
    let names = columns.map(|(name, _)| name).join(" ");
    format!("#Fields: {names}\n{}\n", cells.join("\t"))
}

fn counts(log: String, rules: Rules) -> Counts {
    let job = Job::all(ObjectRef::in_s3("b", "k"));
    let mut summary = Summary::default();
    let batches = Batches::new(&job, Cursor::new(log.into_bytes()), Arc::new(rules));
    // A log whose every row is malformed is refused at its end.
    for batch in batches.map_while(Result::ok) {
        summary.accept(&batch);
    }
    assert!(summary.counts.is_balanced());
    summary.counts
}

// proves: I27, I31
#[test]
fn rule_decides_in_the_pipeline() {
    for (values, expected) in [
        (("cs-method", "GET"), "static"),
        (("cs-method", "POST"), "sent"),
        (("cs-uri-stem", "/My%2520Photo.png"), "static"),
        (("cs-uri-stem", "/static/..%252fapi.png"), "sent"),
        (("cs-uri-query", "v=1"), "static"),
        (("cs-uri-query", "v='"), "sent"),
    ] {
        let counts = counts(log(&[values]), Rules::default());
        let found = (counts.static_assets, counts.sent);
        let (is_static, is_sent) = (expected == "static", expected == "sent");
        assert_eq!(
            found,
            (u64::from(is_static), u64::from(is_sent)),
            "{values:?}"
        );
    }
    let no_time = log(&[("timestamp(ms)", "-")]);
    assert_eq!(counts(no_time, Rules::default()).malformed, 1);
}

/// Globs, logged path, and whether the request is sent although its name is that of an asset.
// proves: I73
#[test]
fn included_paths_are_sent() {
    for (globs, path, sent) in [
        ("/users/*/id-card.jpg", "/users/1002/id-card.jpg", true),
        ("/users/*/id-card.jpg", "/users/1002/ID-Card.JPG", true),
        ("/users/*/id-card.jpg", "//users///1002/id-card.jpg", true),
        (
            "/users/*/id-card.jpg",
            "/%2575sers/1002/id%252Dcard.jpg",
            true,
        ),
        ("/Users/*/id-card.jpg", "/users/1002/id-card.jpg", true),
        ("/users/*/id-card.jpg", "/users/1002/x/id-card.jpg", false),
        ("/users/*/id-card.jpg", "/users/1002/photo.jpg", false),
        ("/a/**,/users/**", "/users/1002/x/id-card.jpg", true),
        ("/café/*", "/caf%25C3%25A9/a.jpg", true),
        ("", "/users/1002/id-card.jpg", false),
    ] {
        let rules = |excluded| Rules {
            included_paths: IncludedPaths::parse(globs).unwrap(),
            excluded_paths: ExcludedPaths::parse(excluded).unwrap(),
            ..Rules::default()
        };
        let text = log(&[("cs-uri-stem", path)]);
        let found = counts(text.clone(), rules(""));
        let expected = (u64::from(sent), u64::from(!sent));
        assert_eq!(
            (found.sent, found.static_assets),
            expected,
            "{globs} {path}"
        );
        // Whatever else drops a request still does.
        let found = counts(text, rules("/**"));
        assert_eq!(
            (found.excluded, found.static_assets),
            expected,
            "{globs} {path}"
        );
    }
}

// proves: I74
#[test]
fn only_harmless_methods_are_excluded() {
    for (method, excluded) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("POST", false),
        ("PUT", false),
        ("DELETE", false),
        ("PATCH", false),
        ("get", false),
        ("TRACE", false),
    ] {
        let rules = Rules {
            excluded_paths: ExcludedPaths::parse("/health,/metrics/**").unwrap(),
            ..Rules::default()
        };
        let values = [("cs-method", method), ("cs-uri-stem", "/health")];
        let found = counts(log(&values), rules);
        let expected = (u64::from(excluded), u64::from(!excluded));
        assert_eq!((found.excluded, found.sent), expected, "{method}");
    }
}

fn one_of(words: &'static str) -> impl Strategy<Value = String> {
    prop::sample::select(words.split_whitespace().collect::<Vec<_>>()).prop_map(str::to_owned)
}

fn joined(words: &'static str, most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(one_of(words), 0..most).prop_map(|words| words.concat())
}

fn header() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("-".to_owned()),
        1 => joined("Mozilla/5.0%20(X11;%20Linux) a%20b $ { %7B %24 %3C %253C < %22 \" %60 ` %25 % \\x22 \\x20 24 3C", 5),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The rule on logged values drops what a second rule on decoded ones drops.
    // proves: I27
    #[test]
    fn rule_agrees_with_a_second_one_on_decoded_values(
        absent in prop_oneof![3 => Just(0u8), 1 => any::<u8>()],
        method in one_of("GET GET GET GET HEAD POST get"),
        path in joined("/ / a b .min . .. .php .jsp .css.js %252e %252f %253b %2525 %25 %20 %2520 %C3%A9 %25C3%25A9 %25FF ; \\ ? php - \u{e9}", 7),
        extension in one_of(".png .css .js .map .woff .ico .mp4 .PNG .txt .p%6eg"),
        query in prop_oneof![
            2 => Just("-".to_owned()),
            3 => joined("a = & - . .. _ %7E %252C %253a %2525 %25 % 2C _method callback JSONP / + '", 8),
        ],
        status in one_of("200 200 200 206 304 000 0 404 301 503 403 500 - 3xx"),
        result in one_of("Hit Redirect Error -"),
        content_type in one_of(
            "image/png image/png image/png text/css text/javascript;%20charset=x font/woff2 video/mp4 text/html text/plain
             application/json application/octet-stream binary/octet-stream application/xml a/b+xml image/svg+xml text/css%20
             Text/HTML application/vnd.api+json;x -"
        ),
        headers in prop::array::uniform3(header()),
    ) {
        let path = format!("/{path}{extension}");
        let cells = [method, path, query, status, result, content_type];
        let has_column = |index: usize| index < 2 || absent >> (index - 2) & 1 == 0;
        let cells = cells.into_iter().chain(headers).enumerate();
        let row: Vec<_> = cells.filter_map(|(index, cell)| has_column(index).then_some(cell)).collect();
        targets::static_rule(&[&[absent], row.join("\t").as_bytes()].concat());
    }
}

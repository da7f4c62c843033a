//! JSON: objects in any arrangement, and other text between them.

use proptest::prelude::*;

use super::*;

fn object(path: &str) -> String {
    format!(
        "{{\"timestamp(ms)\":\"1\",\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"{path}\"}}"
    )
}

/// What is known of a record: its lines, its defect, its path, and its other values.
type Seen = (
    RangeInclusive<u64>,
    Option<Defect>,
    Option<String>,
    Vec<(String, Vec<u8>)>,
);

fn seen(text: &[u8], sizes: &[usize]) -> Vec<Seen> {
    seen_in(Chunks(text, sizes, 0))
}

fn seen_in(text: impl Read) -> Vec<Seen> {
    let mut reader = LogReader::new(text);
    let mut seen = Vec::new();
    while reader.advance().unwrap() {
        let (_, record) = reader.record();
        let value = |field| {
            record
                .get(field)
                .map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        let others = record
            .others()
            .map(|(name, value)| (name.to_owned(), value.to_vec()));
        seen.push((
            reader.lines(),
            record.defect(),
            value(Field::UriStem),
            others.collect(),
        ));
    }
    seen
}

/// The path of each record, or its defect in parentheses.
fn paths_of(text: &str) -> Vec<String> {
    let records = seen(text.as_bytes(), &[1 << 16]).into_iter();
    let shown = |(_, defect, path, _): Seen| match (defect, path) {
        (Some(defect), _) => format!("({defect:?})"),
        (None, path) => path.unwrap_or_default(),
    };
    records.map(shown).collect()
}

// proves: I7
#[test]
fn objects_may_stand_in_any_arrangement() {
    let [a, b] = [object("/a"), object("/b")];
    let pretty = |object: &str| {
        object
            .replace('{', "{\n    ")
            .replace(',', ",\r\n    ")
            .replace(':', " : ")
            .replace('}', "\n}")
            .replace(" :  : 1", "::1")
    };
    let (long_a, long_b) = (pretty(&a), pretty(&b));
    for text in [
        format!("{a}\n{b}\n"),
        format!("{a}\r\n{b}"),
        format!("{a}{b}"),
        format!("  {a}\t {b}\n"),
        format!("[{a},{b}]"),
        format!("[\n  {a},\n  {b}\n]\n"),
        format!("[[{a}],[{b}]]"),
        format!("\u{1e}{a}\n\u{1e}{b}\n"),
        format!("{a}\n\u{feff}{b}\n"),
        format!("#Version: 1.0\n{a}\n# {{\n  # {a}\n{b}\n#"),
        format!("{long_a}{long_b}"),
        format!("[\n{long_a},\n{long_b}]"),
    ] {
        assert_eq!(paths_of(&text), ["/a", "/b"], "{text}");
    }
    for text in ["[]", "[\n]\n", "\n \n[", "{", "[{"] {
        let records = paths_of(&format!("{text}\n"));
        assert_eq!(records.len(), usize::from(text.contains('{')), "{text}");
    }
}

/// After what is not an object, reading resumes at a line that begins one, at the next line, or
/// behind the next object.
// proves: I7, I24
#[test]
fn reading_resumes_behind_what_is_not_an_object() {
    const NOT_JSON: &str = "(NotJson)";
    let [a, b, c] = [object("/a"), object("/b"), object("/c")];
    let (half, wide) = (&b[..b.len() - 9], "x".repeat(MAX_LINE));
    for (text, expected) in [
        (format!("{a}\nnot json\n{c}\n"), &["/a", NOT_JSON, "/c"][..]),
        (format!("{a}\n{half}\n{c}\n"), &["/a", NOT_JSON, "/c"]),
        (format!("{a}\n{{\"a\":\n{c}\n"), &["/a", NOT_JSON, "/c"]),
        (format!("{a}\n{{\"a\":{{\n{c}\n"), &["/a", NOT_JSON, "/c"]),
        (
            format!("{a}\n{{\"a\":[\n{c}\n{c}"),
            &["/a", NOT_JSON, "/c", "/c"],
        ),
        (format!("{a}\n{{\"a\":[\n  {c}"), &["/a", NOT_JSON, "/c"]),
        (format!("{a} {{\n{c}"), &["/a", NOT_JSON, "/c"]),
        (format!("{a} more\n{c}"), &["/a", NOT_JSON, "/c"]),
        (format!("{a}\n{half}{b}\n{c}"), &["/a", NOT_JSON, "/c"]),
        (format!("{a}{half}{b}{c}{c}"), &["/a", NOT_JSON, "/c", "/c"]),
        (
            format!("{a}}}{{}}{b}"),
            &["/a", NOT_JSON, "(Unknown)", "/b"],
        ),
        (format!("{a}{{\"a\":}} , {b}"), &["/a", NOT_JSON, "/b"]),
        (format!("{a}{wide}{half}\n{c}"), &["/a", NOT_JSON, "/c"]),
        (format!("{a}{wide}{b}{c}"), &["/a", NOT_JSON, "/c"]),
        (format!("{a}\n#{wide}{b}{c}"), &["/a", NOT_JSON, "/c"]),
        (format!("{a}\n#{wide}\n{c}"), &["/a", "/c"]),
        (
            format!("{a}\n{{\"a\":\"{wide}\"}}{c}"),
            &["/a", "(TooLong)", "/c"],
        ),
        (
            format!("{a}\n{{\"a\":\n\"{wide}\"\n}}\n{c}"),
            &["/a", "(TooLong)", "/c"],
        ),
        (
            format!("{a}\n{{\"a\":\"{wide}\n{c}\n"),
            &["/a", "(TooLong)", "/c"],
        ),
        (
            format!("{a}\n{{\"a\":{}\n{c}\n", "[".repeat(1000)),
            &["/a", NOT_JSON, "/c"],
        ),
        (
            format!("{a}\n{{\"a\":{}\n{c}\n", "1".repeat(2000)),
            &["/a", NOT_JSON, "/c"],
        ),
        (
            format!("{a}\n{{\"a\":nothing}}\n{c}\n"),
            &["/a", NOT_JSON, "/c"],
        ),
        (
            format!("{a}\n{{'a':1}}\n{{a:1}}\n{c}"),
            &["/a", NOT_JSON, NOT_JSON, "/c"],
        ),
        (
            format!("{a}\n{{\"a\":1,}}\n{{,}}\n{c}"),
            &["/a", NOT_JSON, NOT_JSON, "/c"],
        ),
        (
            format!("{a}\n{{\"a\":[1}}\n{{\"a\":{{]}}\n{c}"),
            &["/a", NOT_JSON, NOT_JSON, "/c"],
        ),
        (
            format!("{a}\n\"text\"\n12\nnull\n{c}"),
            &["/a", NOT_JSON, NOT_JSON, NOT_JSON, "/c"],
        ),
    ] {
        let short: String = text.chars().take(200).collect();
        assert_eq!(paths_of(&text), expected, "{short}");
    }
}

// proves: I7
#[test]
fn each_object_names_its_own_fields() {
    let text = concat!(
        "{\"timestamp(ms)\":\"1\",\"c-ip\":\"192.0.2.1\",\"CS-Method\":\"GET\",\"cs-uri-stem\":\"/a\",\"new\":\"x\"}\r\n",
        "\n",
        "{\"cs-uri-stem\":\"/\\u0062\",\"sc-status\":0,\"asn\":null,\"cs-method\":\"GET\"}\n",
        "{\"cs-uri-stem\":\"/c\",\"sc-status\" : 1794686590.816 ,\"asn\":-1e5}{\"cs_uri_stem\":\"/d\"}\n",
        "{\"cs-uri-stem\":{\"a\":[1,{}]},\"c-ip\":[1],\"cs-method\":true}\n",
        "{\"c\\u002dip\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\ud83d\\ude00\\ud83d\\x20\\\"\"}\n",
        "{\"cs-uri-stem\":\"/e\"}",
    );
    let mut reader = LogReader::new(text.as_bytes());
    let mut found = Vec::new();
    while reader.advance().unwrap() {
        let (line, (_, record)) = (reader.line(), reader.record());
        let fields = [
            Field::UriStem,
            Field::Status,
            Field::AutonomousSystem,
            Field::ClientIp,
        ];
        let values = fields.map(|field| {
            let value = record.get(field).unwrap_or_default();
            String::from_utf8(value.to_vec()).unwrap()
        });
        found.push((line, values.join(" "), record.others().count()));
    }
    let some = |line, text: &str, others| (line, text.to_owned(), others);
    assert_eq!(
        found,
        [
            some(1, "/a   192.0.2.1", 1),
            some(3, "/b 0  ", 0),
            some(4, "/c 1794686590.816 -1e5 ", 0),
            some(4, "/d   ", 0),
            some(5, "   ", 0),
            some(6, "   \"\\/\u{8}\u{c}\n\r\t\u{1f600}\u{fffd}\\x20\"", 0),
            some(7, "/e   ", 0),
        ]
    );
}

// proves: I7, I15
#[test]
fn bytes_that_are_not_utf_8_become_replacement_characters() {
    let text = b"{\"c-ip\":\"caf\xe9/1\",\"cs-uri-stem\":\"/caf\xc3\xa9\",\"a\":\"\\u00e9\xff\"}\n";
    let mut reader = LogReader::new(&text[..]);
    assert!(reader.advance().unwrap());
    let record = reader.record().1;
    assert_eq!(
        record.get(Field::ClientIp),
        Some("caf\u{fffd}/1".as_bytes())
    );
    assert_eq!(record.get(Field::UriStem), Some("/caf\u{e9}".as_bytes()));
    assert_eq!(
        record.others().next(),
        Some(("a", "\u{e9}\u{fffd}".as_bytes()))
    );
}

/// Wherever they stand, they decide nothing about the other objects.
// proves: I9, I40
#[test]
fn foreign_and_wrapped_objects_are_told_by_their_names() {
    let message = |kind: &str| {
        format!(
            "{{\"messageType\":\"{kind}\",\"owner\":\"1\",\"logGroup\":\"g\",\"logEvents\":[{{\"id\":\"1\",\"message\":\"{{}}\"}}]}}"
        )
    };
    let (control, data) = (message("CONTROL_MESSAGE"), message("DATA_MESSAGE"));
    let foreign = [
        (
            "{\"eventTimestamp\":\"1\",\"connectionId\":\"x\",\"connectionStatus\":\"Success\"}",
            "CloudFront connection log",
        ),
        (
            "{\"Records\":[{\"eventVersion\":\"1.11\",\"userIdentity\":{\"s3\":1},\"eventSource\":\"kms\"},{\"s3\":{}}]}",
            "CloudTrail log",
        ),
        ("{\"Records\":[ ]}", "CloudTrail log"),
        (
            "{\"version\":\"0\",\"detail-type\":\"x\",\"source\":\"aws.s3\",\"detail\":{}}",
            "EventBridge event",
        ),
        (
            "{\"requestId\":\"1\",\"httpMethod\":\"GET\",\"resourcePath\":\"/\",\"status\":\"200\"}",
            "API Gateway log",
        ),
        (
            "{\"awsAccountId\":\"1\",\"digestS3Bucket\":\"b\"}",
            "CloudTrail digest",
        ),
        (
            "{\"timestamp\":1,\"formatVersion\":1,\"webaclId\":\"arn\"}",
            "AWS WAF log",
        ),
        (
            "{\"fileVersion\":\"1.0\",\"configurationItems\":[]}",
            "AWS Config log",
        ),
        (
            "{\"Service\":\"Amazon S3\",\"Event\":\"s3:TestEvent\",\"Bucket\":\"b\"}",
            "S3 test event",
        ),
        (
            "{\"timestamp\":1.5,\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/\",\"cs-host\":\"h\"}",
            "CloudFront real-time log",
        ),
        (
            "{\"c-ip\":\"::1\",\"cs-uri-stem\":\"/\",\"cs-user-agent\":\"x\",\"sc-status\":200}",
            "CloudFront real-time log",
        ),
        (
            "{\"timestamp\":\"1700000000000\",\"c_ip\":\"::1\",\"cs_method\":\"GET\",\"cs_uri_stem\":\"/\",\"c_ip_version\":\"IPv4\"}",
            "CloudFront real-time log",
        ),
        (&control, "CloudWatch Logs control message"),
    ];
    let wrapped = [
        (&data[..], "subscription record"),
        (
            "{\"requestId\":\"1\",\"timestamp\":1,\"records\":[{\"data\":\"e30=\"}]}",
            "Firehose request",
        ),
        (
            "{\"attemptsMade\":4,\"errorCode\":\"E\",\"rawData\":\"e30=\"}",
            "Firehose error record",
        ),
        (
            "{\"message\":\"2026-11-14\\t20:03:10\",\"timestamp\":\"2026\"}",
            "log shipper",
        ),
        (
            "{\"log\":\"2026-11-14\\t20:03:10\",\"stream\":\"stdout\"}",
            "log shipper",
        ),
        (
            "{\"@timestamp\":\"2026\",\"event\":{\"original\":\"{}\"}}",
            "log shipper",
        ),
    ];
    for (text, name) in foreign {
        assert!(!told(text, name).is_rejection(), "{text}");
    }
    for (text, name) in wrapped {
        assert!(told(text, name).is_rejection(), "{text}");
    }
}

/// They may hold a row of CloudFront's.
// proves: I40
#[test]
fn objects_with_unknown_content_are_rejected() {
    for (text, name) in [
        (
            "{\"version\":\"0\",\"detail-type\":\"x\",\"source\":\"my.aws.app\",\"detail\":{\"c-ip\":\"::1\"}}",
            "EventBridge event",
        ),
        (
            "{\"detail-type\":\"x\",\"detail\":{\"c-ip\":\"::1\"}}",
            "EventBridge event",
        ),
        ("{\"Records\":[{\"c-ip\":\"::1\"}]}", "not CloudTrail"),
        ("{\"Records\":[{\"message\":\"x\"}]}", "not CloudTrail"),
        (
            "{\"Records\":[{\"c-ip\":\"::1\"},{\"eventVersion\":\"1\",\"eventSource\":\"x\"}]}",
            "not CloudTrail",
        ),
        (
            "{\"Records\":[[],{\"eventVersion\":\"1\",\"eventSource\":\"x\"}]}",
            "not CloudTrail",
        ),
        (
            "{\"Records\":[{\"x\":{\"eventVersion\":\"1\",\"eventSource\":\"x\"}}]}",
            "not CloudTrail",
        ),
        (
            "{\"Records\":[{\"eventVersion\":\"1.0\",\"eventSource\":\"aws:kinesis\",\"kinesis\":{\"data\":\"e30=\"}}]}",
            "not CloudTrail",
        ),
        ("{\"Records\":\"x\"}", "not CloudTrail"),
        (
            "{\"x\":[{\"eventVersion\":\"1\",\"eventSource\":\"x\"}],\"Records\":[\"x\"]}",
            "not CloudTrail",
        ),
        (
            "{\"requestId\":\"1\",\"httpMethod\":\"GET\",\"row\":\"x\"}",
            "no field of a CloudFront",
        ),
        (
            "{\"text\":\"x\",\"timestamp\":1}",
            "no field of a CloudFront",
        ),
        (
            "{\"Items\":[{\"c-ip\":\"::1\"}]}",
            "no field of a CloudFront",
        ),
        ("{}", "no field of a CloudFront"),
    ] {
        assert!(told(text, name).is_rejection(), "{text}");
    }
}

/// Returns the defect of an object, which contains `name`, among rows.
fn told(text: &str, name: &str) -> Defect {
    let all = format!("{text}\n{}\n{text}\n{}{text}", object("/a"), object("/b"));
    let records = seen(all.as_bytes(), &[1 << 16]);
    let defects: Vec<_> = records.iter().map(|(_, defect, ..)| *defect).collect();
    let [Some(first), None, second, None, third] = defects[..] else {
        panic!("{text}: {defects:?}")
    };
    assert_eq!((second, third), (Some(first), Some(first)), "{text}");
    assert!(first.to_string().contains(name), "{text}: {first:?}");
    first
}

/// Whole files of other services are one object.
// proves: I9, I22, I40
#[test]
fn long_objects_are_told_by_their_first_names() {
    let many = "{\"a\":\"b\"},\n".repeat(200_000);
    let a = object("/a");
    for (start, is_long, expected) in [
        (
            "{\"Records\":[{\"eventVersion\":\"1\",\"userIdentity\":{},\n\"eventSource\":\"x\"},",
            true,
            "(Foreign(\"CloudTrail log\"))",
        ),
        ("{\"Records\":[", true, "not CloudTrail's"),
        (
            "{\"fileVersion\":\"1.0\",\n\"configurationItems\":[",
            true,
            "(Foreign(\"AWS Config log\"))",
        ),
        ("{\"requestId\":1,\"records\":[", true, "Firehose request"),
        ("{\"hello\":[", true, "(TooLong)"),
        ("{\"timestamp(ms)\":[", true, "(TooLong)"),
        ("{\"Records\":[", false, "not CloudTrail's"),
    ] {
        let items = if is_long { &many[..] } else { "{}," };
        let whole = format!("{a}\n{start}{items}{{}}],\"webaclId\":1}}{a}\n");
        let found = paths_of(&whole);
        assert_eq!(
            (&found[0][..], &found[2][..], found.len()),
            ("/a", "/a", 3),
            "{start}"
        );
        assert!(found[1].contains(expected), "{start}: {found:?}");
        for sizes in [&[1 << 22][..], &[60_000, 1_100_000], &[700_001]] {
            let [_, (lines, defect, ..), _] = &seen(whole.as_bytes(), sizes)[..] else {
                panic!("{start} in reads of {sizes:?}")
            };
            assert_eq!(*lines.start(), 2);
            assert!(
                format!("({defect:?})").contains(expected.trim_matches(['(', ')'])),
                "{start}: {defect:?}"
            );
        }
    }
}

/// Whether or not they are those of the object before, and however much is read at once.
// proves: I7, I40
#[test]
fn names_behind_1_mib_do_not_count() {
    let [wide, narrow] = [0, 100].map(|less| " ".repeat(MAX_LINE - less));
    for (blanks, member, expected) in [
        (&wide, "\"webaclId\":\"1\"", "(TooLong)"),
        (&narrow, "\"webaclId\":\"1\"", "(Foreign(\"AWS WAF log\"))"),
    ] {
        let short = format!("{{\"a\":\"b\",{member},\"c\":\"d\"}}\n");
        let long = format!("{{\"a\":\"b\"{blanks},{member}{blanks},\"c\":\"d\"}}\n");
        let text = format!("{}\n{short}{long}{short}{long}", object("/a"));
        for sizes in [&[1 << 22][..], &[60_000, 1_100_000], &[700_001]] {
            let defects: Vec<_> = seen(text.as_bytes(), sizes)
                .iter()
                .filter_map(|(_, defect, ..)| Some(format!("({:?})", (*defect)?)))
                .collect();
            let foreign = "(Foreign(\"AWS WAF log\"))";
            assert_eq!(defects, [foreign, expected, foreign, expected], "{sizes:?}");
        }
    }
}

/// Around 1 MiB, behind which nothing of an object is kept, for words and names that are read in
/// pieces. Reading resumes at the line that begins `{"c-ip`.
// proves: I7
#[test]
fn long_objects_do_not_depend_on_the_reads() {
    let (a, word) = (object("/a"), "t".repeat(900));
    let inner = "\"eventVersion\":\"1\",\"not eventSource\":\"x\"}]";
    for end in [
        word.clone(),
        format!("{word}}}"),
        "-1".to_owned(),
        "1".repeat(1_001),
        "nul\n".to_owned(),
        "\"x\\\"\n".to_owned(),
        format!("[{{{inner}}}"),
    ] {
        for before in [1, 24, 500, 899] {
            let start = format!("{{\"k\":[\n{a},\n");
            let start = if end.contains("event") {
                "{\"Records\":"
            } else {
                &start
            };
            let blanks = " ".repeat(MAX_LINE - before - start.len());
            let long = format!("{start}{blanks}{end}");
            let text = format!("{a}\n{long}\n{a}\n{a}");
            let whole = seen(text.as_bytes(), &[text.len()]);
            let limit = a.len() + 1 + MAX_LINE;
            for cut in [limit - 1, limit, limit + 1, limit + 2, limit + 90] {
                let (start, rest) = text.as_bytes().split_at(cut.min(text.len()));
                let cuts = seen_in(start.chain(rest));
                assert_eq!(
                    cuts, whole,
                    "{end:.20} {before} bytes before 1 MiB, cut at {cut}"
                );
            }
        }
    }
}

/// Each is read at most twice: in what it was opened in, and alone.
// proves: I7, I24
#[test]
fn objects_in_broken_ones_are_rows_of_their_own() {
    let a = object("/a");
    for (levels, end) in [(1, ""), (9, ""), (9, "}"), (127, "}"), (300, "x")] {
        let open = "{\"k\":[\n".repeat(levels);
        let found = paths_of(&format!("{a}\n{open}{a},\n{a}\n{end}\n{a}\n"));
        let mut expected = vec!["(NotJson)"; levels + 3];
        expected[0] = "/a";
        expected.splice(levels + 1.., ["/a", "/a"]);
        expected.extend(["(NotJson)", "/a"].iter().skip(usize::from(end.is_empty())));
        assert_eq!(found, expected, "{levels} levels and {end:?}");
    }
}

/// Bytes of a value that the search of plain ones stops at, at each place of a member whose name
/// repeats.
// proves: I7, I15
#[test]
fn special_bytes_count_wherever_they_stand() {
    for (special, plain) in [
        (&b"\\\""[..], "\""),
        (b"\\\\", "\\"),
        (b"\\u00e9", "\u{e9}"),
        (b"\\x", "\\x"),
        (b"\xc3\xa9", "\u{e9}"),
        (b"\xff", "\u{fffd}"),
        (b"\x01", "\u{1}"),
        (b"\x7f", "\u{7f}"),
        (b" ", " "),
    ] {
        for at in 0..100 {
            let before = "x".repeat(at);
            let value = [before.as_bytes(), special, b"y"].concat();
            let row = [b"{\"c-ip\":\"", &value[..], b"\",\"cs-uri-stem\":\"/\"}\n"].concat();
            let text = [object("/a").as_bytes(), b"\n", &row, &row].concat();
            let mut reader = LogReader::new(&text[..]);
            assert!(reader.advance().unwrap());
            for _ in 0..2 {
                assert!(reader.advance().unwrap());
                let record = reader.record().1;
                let expected = format!("{before}{plain}y");
                assert_eq!(record.get(Field::ClientIp), Some(expected.as_bytes()));
                assert_eq!(record.get(Field::UriStem), Some(&b"/"[..]), "{expected}");
            }
        }
    }
}

/// An access log may have a field that other records have too.
// proves: I10
#[test]
fn access_log_with_a_strange_field_stays_one() {
    for name in [
        "message",
        "log",
        "event",
        "Records",
        "logEvents",
        "webaclId",
        "c-ip-version",
        "cs-host",
    ] {
        let text = object("/a").replace(
            '}',
            &format!(",\"DistributionId\":\"E1\",\"{name}\":\"x\"}}"),
        );
        assert_eq!(paths_of(&text), ["/a"], "{name}");
    }
}

// proves: I24
#[test]
fn hostile_json_gives_malformed_rows() {
    let first = object("/a");
    let (deep, long) = ("[".repeat(100_000), "x".repeat(2 * MAX_LINE));
    let many = (0..50_000)
        .map(|n| format!("\"{n}\":\"\""))
        .collect::<Vec<_>>()
        .join(",");
    let text = format!(
        "{first}\n{{\"a\":{deep}\n{{\"a\":\"{long}\"}}\n{{{many},\"c-ip\":\"::1\"}}\n{first}\n"
    );
    assert_eq!(
        paths_of(&text),
        ["/a", "(NotJson)", "(TooLong)", "(TooMany)", "/a"]
    );
}

/// The buffer stays small whatever an object has.
// proves: I22
#[test]
fn buffer_of_objects_is_bounded() {
    let endless = |text: &str| {
        format!(
            "{{\"a\":\"{}{}",
            "\":\"x\",\"b".repeat(100),
            text.repeat((4 * MAX_LINE) / text.len())
        )
    };
    for text in [
        endless("x"),
        endless("\\\\"),
        "}".repeat(4 * MAX_LINE),
        format!("#{}", " ".repeat(4 * MAX_LINE)),
        endless(","),
    ] {
        let mut values = Values::new(Vec::new(), text.as_bytes());
        while values.advance().unwrap() {}
        assert!(values.capacity() <= 2 << 20, "{}", &text[..50]);
    }
}

/// A JSON value, in one of the ways to write it.
fn member() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "[ -!#-\\[\\]-~]{0,12}",
        "[{}:,\\[\\]é\u{1f600}]{0,9}",
        Just("\\\"\\\\\\u00e9\\n".to_owned())
    ];
    prop_oneof![
        4 => text.prop_map(|text| format!("\"{text}\"")),
        1 => prop::sample::select(vec!["0", "-1.5e3", "null", "true", "{}", "[]", "{\"a\":[1,{\"b\":\"}{\"}]}", "[[],\"]\"]"]).prop_map(str::to_owned),
    ]
}

fn any_object() -> impl Strategy<Value = String> {
    let blank = || prop::sample::select(vec!["", "", " ", "\n", "\r\n  ", "\t"]);
    let member = (
        prop::sample::select(vec!["c-ip", "cs-uri-stem", "x", "cs(Host)"]),
        member(),
        blank(),
        blank(),
    );
    prop::collection::vec(member, 0..5).prop_map(|members| {
        let members = members.into_iter().map(|(name, value, before, after)| {
            format!("{before}\"{name}\"{after}:{before}{value}{after}")
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    })
}

proptest! {
    /// Values and ends agree with a JSON parser.
    // proves: I7
    #[test]
    fn objects_agree_with_serde_json(
        objects in prop::collection::vec((any_object(), prop::sample::select(vec!["", "\n", " , ", "\r\n", "],[", "\n#x{\n"])), 1..8),
        sizes in prop::collection::vec(1usize..40, 1..4),
    ) {
        let text: String = objects.iter().map(|(object, after)| object.clone() + after).collect();
        let mut reader = LogReader::new(Chunks(text.as_bytes(), &sizes, 0));
        for (object, _) in &objects {
            prop_assert!(reader.advance().unwrap());
            let record = reader.record().1;
            // The first of two members with the same name counts.
            let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(object).unwrap();
            for (field, name) in [(Field::ClientIp, "\"c-ip\""), (Field::UriStem, "\"cs-uri-stem\"")] {
                if object.matches(name).count() > 1 {
                    continue;
                }
                let expected = match members.get(name.trim_matches('"')) {
                    Some(serde_json::Value::String(text)) => text.clone(),
                    Some(serde_json::Value::Number(number)) if number.as_i64() == Some(0) => "0".to_owned(),
                    Some(serde_json::Value::Number(_)) => "-1.5e3".to_owned(),
                    Some(serde_json::Value::Bool(_)) => "true".to_owned(),
                    _ => String::new(),
                };
                let expected = Some(expected.as_bytes()).filter(|text| !matches!(*text, b"" | b"-"));
                prop_assert_eq!(record.get(field), expected, "{}", object);
            }
        }
        prop_assert!(!reader.advance().unwrap());
    }

    /// However the bytes come, and whatever they are.
    // proves: I7
    #[test]
    fn objects_do_not_depend_on_the_reads(
        pieces in prop::collection::vec(prop_oneof![any_object(), "[\\[\\]{}\":,\\\\#\n a0}]{0,12}", Just("x".repeat(3000))], 1..12),
        repeat in prop::sample::select(vec![1usize, 1, 1, 20]),
        sizes in prop::collection::vec(0usize..5000, 1..6).prop_filter("some read returns bytes", |sizes| sizes.iter().any(|size| *size > 0)),
    ) {
        let text = format!("{}\n{}", object("/a"), pieces.concat().repeat(repeat));
        prop_assert_eq!(seen(text.as_bytes(), &[1 << 22]), seen(text.as_bytes(), &sizes));
    }
}

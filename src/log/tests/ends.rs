//! Compression, and how a log ends: at its end, cut, damaged or with a read error.

use flate2::GzBuilder;
use proptest::prelude::*;

use super::*;

// proves: I1
#[test]
fn every_gzip_member_is_read() {
    let bytes = [
        gzip(&format!("{HEADER}{}\n", row(0))),
        gzip(""),
        gzip(&format!("{HEADER}{}\n", row(1))),
    ]
    .concat();
    let (paths, end) = paths(LogReader::new(&bytes[..]));
    assert_eq!(paths, ["/row/0", "/row/1"]);
    end.unwrap();
}

/// The optional parts of a gzip header are longer than one read, and every read may be interrupted.
#[test]
fn gzip_header_is_read_despite_interruptions() {
    let text = format!("{HEADER}{}\n", row(0));
    let member = |builder: GzBuilder, text: &str| {
        let mut encoder = builder.write(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let all = || {
        GzBuilder::new()
            .extra("extra")
            .filename("name")
            .comment("comment")
    };
    let bytes = [
        member(all(), &text),
        member(all(), ""),
        member(all(), &text),
    ]
    .concat();
    for sizes in [&[0, 1][..], &[0, 0, 2], &[3, 0], &[0, 1000]] {
        let (paths, end) = paths(LogReader::new(Chunks(&bytes, sizes, 0)));
        assert_eq!(paths, ["/row/0", "/row/0"], "reads of {sizes:?}");
        end.unwrap();
    }
}

// proves: I26
#[test]
fn garbage_after_gzip_member_is_an_error() {
    let member = gzip(&format!("{HEADER}{}\n", row(0)));
    for garbage in [
        &b"g"[..],
        b"garbage",
        b"\0g",
        b"\x1f",
        b"\x1f\x8b",
        &[&[0; 1000][..], &gzip("more")].concat(),
    ] {
        let bytes = [&member, garbage].concat();
        for step in [1, 1000] {
            let (paths, end) = paths(LogReader::new(Chunks(&bytes, &[step], 0)));
            assert_eq!(paths, ["/row/0"], "{garbage:?}");
            assert!(matches!(end, Err(LogError::Cut(_))), "{garbage:?}: {end:?}");
        }
    }
}

// proves: I1
#[test]
fn zeros_after_the_last_gzip_member_are_padding() {
    let member = gzip(&format!("{HEADER}{}\n", row(0)));
    for zeros in [1, 511, 100_000] {
        let bytes = [&member[..], &member, &vec![0; zeros]].concat();
        for sizes in [&[1, 0][..], &[7], &[100_000]] {
            let (paths, end) = paths(LogReader::new(Chunks(&bytes, sizes, 0)));
            assert_eq!(paths, ["/row/0", "/row/0"], "{zeros} zeros");
            end.unwrap();
        }
    }
}

#[test]
fn wrong_checksum_or_length_of_a_member_is_an_error() {
    let whole = gzip(&format!("{HEADER}{}\n", row(0)));
    for byte in whole.len() - 8..whole.len() {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1;
        let (paths, end) = paths(LogReader::new(&damaged[..]));
        assert_eq!(paths, ["/row/0"]);
        assert!(matches!(end, Err(LogError::Cut(_))), "byte {byte}: {end:?}");
    }
}

#[test]
fn read_error_drops_the_incomplete_row() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset"))
        }
    }
    let text = format!("{HEADER}{}\n{}", row(0), row(1));
    let (rows, end) = paths(LogReader::new(text.as_bytes().chain(Broken)));
    assert_eq!(rows, ["/row/0"], "the second row may be incomplete");
    assert!(matches!(end, Err(LogError::Cut(_))));
}

/// A reader that fails once and would go on must not be read again: bytes could be missing.
#[test]
fn single_read_error_ends_the_log_at_any_byte() {
    let text = format!("{HEADER}{}\n{}\n", row(0), row(1));
    for (bytes, is_plain) in [(text.clone().into_bytes(), true), (gzip(&text), false)] {
        for at in 0..bytes.len() {
            let broken = FailOnce(Some(io::ErrorKind::ConnectionReset.into()));
            let (start, rest) = bytes.split_at(at);
            let (rows, end) = paths(LogReader::new(start.chain(broken).chain(rest)));
            assert_eq!(rows, ["/row/0", "/row/1"][..rows.len()]);
            if is_plain {
                let newlines = text[..at].matches('\n').count();
                assert_eq!(rows.len(), newlines.saturating_sub(2), "error at byte {at}");
            }
            let Err(LogError::Cut(error)) = end else {
                panic!("error at byte {at}: {end:?}")
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "byte {at}");
        }
    }
}

// proves: I26
#[test]
fn truncated_gzip_is_an_error_after_its_complete_rows() {
    let rows: Vec<String> = (0..60).map(row).collect();
    let json: Vec<String> = (0..60)
        .map(|n| format!("{{\"timestamp(ms)\":\"{n}\",\"c-ip\":\"::1\",\"cs-method\":\"GET\",\"cs-uri-stem\":\"/row/{n}\"}}"))
        .collect();
    for (text, headers) in [
        (format!("{HEADER}{}\n", rows.join("\n")), 2),
        (json.join("\n") + "\n", 0),
    ] {
        let whole = gzip(&text);
        for cut in 1..whole.len() {
            let mut text = Vec::new();
            let decoded = flate2::read::MultiGzDecoder::new(&whole[..cut]).read_to_end(&mut text);
            decoded.unwrap_err();
            let complete_rows = memchr::memchr_iter(b'\n', &text)
                .count()
                .saturating_sub(headers);
            let (paths, end) = paths(LogReader::new(&whole[..cut]));
            assert!(end.is_err(), "cut at {cut} of {}", whole.len());
            assert_eq!(
                paths.len(),
                complete_rows,
                "cut at {cut} of {}",
                whole.len()
            );
        }
        assert_eq!(paths(LogReader::new(&whole[..])).0.len(), 60);
    }
}

proptest! {
    #[test]
    fn chunking_does_not_change_records(sizes in prop::collection::vec(0usize..5000, 1..8).prop_filter("some read returns bytes", |sizes| sizes.iter().any(|size| *size > 0)), rows in 0u64..200, zip: bool) {
        let text = format!("{HEADER}{}", (0..rows).map(|n| row(n) + "\n").collect::<String>());
        let bytes = if zip { gzip(&text) } else { text.into_bytes() };
        let (found, end) = paths(LogReader::new(Chunks(&bytes, &sizes, 0)));
        prop_assert!(end.is_ok());
        prop_assert_eq!(found, (0..rows).map(|n| format!("/row/{n}")).collect::<Vec<_>>());
    }
}

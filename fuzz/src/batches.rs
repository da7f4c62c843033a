//! The whole pipeline: from the bytes of an object to batches.

#![expect(clippy::disallowed_types, reason = "`Text` reads every gzip member")]

use std::io::{Read, Write as _};
use std::ops::Range;

use edgetap::batch::{Batch, Limits, MAX_ROWS};
use edgetap::encode::{Encoding, Framing, Uap};
use edgetap::filter::StaticAssets;
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::decode;
use edgetap::log::{LogError, LogReader};
use edgetap::pipeline::{Batches, Rules, Summary};
use edgetap::rows::{OPEN, Rows};
use flate2::bufread::GzDecoder;
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

// Bits of the first byte.
const GZIP: u8 = 1;
const TWO_MEMBERS: u8 = 2;
const CUT: u8 = 4;
const NDJSON: u8 = 8;
const KEEP_STATIC: u8 = 16;

/// The most transactions that the bridge accepts in one request, and that a setting allows.
const MAX_TRANSACTIONS: usize = 250;

/// The input is eight bytes of settings, and a log or the text of one to compress.
pub fn batches(data: &[u8]) {
    let Some((
        &[
            flags,
            transactions,
            bytes_high,
            bytes_low,
            start,
            rows,
            place,
            step,
        ],
        log,
    )) = data.split_first_chunk()
    else {
        return;
    };
    let has = |flag| flags & flag != 0;
    let object = object(log, flags, place);
    let limits = Limits {
        transactions: usize::from(transactions).clamp(1, MAX_TRANSACTIONS),
        bytes: usize::from(u16::from_be_bytes([bytes_high, bytes_low])),
    };
    let static_assets = if has(KEEP_STATIC) {
        StaticAssets::parse("none").unwrap()
    } else {
        StaticAssets::default()
    };
    let encoding = if has(NDJSON) {
        Encoding::Ndjson
    } else {
        Encoding::Uap(Uap::new(static_assets.name()))
    };
    let rules = super::rules(encoding, static_assets, limits);
    let run = |rows: Range<u64>, step| Run::new(&object, rows.into(), step, &rules);

    let all = run(0..OPEN, usize::MAX);
    let text = Text::of(&object);
    // Another service's log is skipped.
    if !matches!(
        LogReader::new(&object[..]).advance(),
        Err(LogError::OtherLog(_))
    ) && !text.text.starts_with(b"PAR1")
    {
        all.check_against(&text);
    }
    all.check_rows(&(0..OPEN));
    all.check_sizes(limits);
    all.check_bodies(&rules.encoding);
    all.check_conservation();

    let some = u64::from(start)..if rows == 0 {
        OPEN
    } else {
        u64::from(start) + u64::from(rows)
    };
    let part = run(some.clone(), usize::MAX);
    part.check_rows(&some);
    part.check_sizes(limits);
    let wanted: Vec<_> = all
        .transactions()
        .into_iter()
        .filter(|(row, _)| some.contains(row))
        .collect();
    assert_eq!(
        part.transactions(),
        wanted,
        "some rows are those of the whole"
    );

    // Ranges around a gap are read in one go, and each begins a batch.
    if let (Some(first), Some(second)) = (
        some.start.checked_sub(2),
        some.end.checked_add(2).filter(|_| some.end != OPEN),
    ) {
        let rows: Rows = [0..first, some.clone(), second..OPEN].into_iter().collect();
        let parts = rows
            .ranges()
            .iter()
            .map(|rows| run(rows.clone(), usize::MAX));
        let parts: Vec<_> = parts.flat_map(|part| part.batches).collect();
        let at_once = Run::new(&object, rows, usize::MAX, &rules);
        assert_same(&at_once.batches, &parts, "one read of several ranges");
    }

    if let Some(first) = usize::from(place).checked_rem(all.batches.len()) {
        let rest = run(all.batches[first].rows.start..OPEN, usize::MAX);
        assert_same(
            &rest.batches,
            &all.batches[first..],
            "the first row of a batch gives the batches from there on",
        );
    }
    if !all.is_corrupt() {
        assert_same(
            &run(0..OPEN, usize::from(step) + 1).batches,
            &all.batches,
            "however the bytes come",
        );
    }
}

/// The bytes of the object: the log as it is, or compressed as one or two members. The end may be
/// cut.
fn object(log: &[u8], flags: u8, place: u8) -> Vec<u8> {
    let split = if flags & TWO_MEMBERS != 0 {
        log.len() * usize::from(place) / 256
    } else {
        log.len()
    };
    let mut object = match flags & GZIP {
        0 => log.to_vec(),
        _ => [
            gzip(&log[..split]),
            if split < log.len() {
                gzip(&log[split..])
            } else {
                Vec::new()
            },
        ]
        .concat(),
    };
    if flags & CUT != 0 {
        object.truncate(object.len().saturating_sub(usize::from(place)));
    }
    object
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Returns at most `step` bytes per read.
struct Drip<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Drip<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let len = buf.len().min(self.step);
        self.bytes.read(&mut buf[..len])
    }
}

/// The text of an object, decompressed in one step.
struct Text {
    text: Vec<u8>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// The file ends early.
    Missing,
    /// The file is damaged. The decoder decides how much text before the damage it returns.
    Damaged,
}

impl Text {
    fn of(object: &[u8]) -> Self {
        if !object.starts_with(&[0x1f, 0x8b]) {
            return Self {
                text: object.to_vec(),
                end: End::Whole,
            };
        }
        let (mut text, mut rest) = (Vec::new(), object);
        let end = loop {
            match GzDecoder::new(&mut rest).read_to_end(&mut text) {
                Ok(_) if rest.iter().all(|byte| *byte == 0) => break End::Whole,
                Ok(_) if rest[0] == 0 => break End::Damaged,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    break End::Missing;
                }
                Err(_) => break End::Damaged,
            }
        };
        Self { text, end }
    }

    /// Whether the log may be JSON: a row begins like a JSON text, also behind the end of a broken one.
    fn is_json(&self) -> bool {
        let is_between =
            |byte: &u8| b"}],\xef\xbb\xbf".contains(byte) || byte.is_ascii_whitespace();
        let mut lines = self.text.split(|byte| *byte == b'\n');
        lines.any(|line| {
            let start = line.iter().find(|byte| !is_between(byte));
            matches!(start, Some(b'{' | b'[' | 0x1e))
        })
    }

    /// Counts the objects by a JSON parser, if the text has nothing else.
    fn objects(&self) -> Option<u64> {
        let is_short = |part: &[u8]| part.len() < 500;
        let parts = || self.text.split(|byte| b"\",:[]{}\n ".contains(byte));
        let objects = serde_json::Deserializer::from_slice(&self.text).into_iter::<Value>();
        let objects: Vec<_> = objects.collect::<Result<_, _>>().ok()?;
        (objects.iter().all(Value::is_object) && parts().all(is_short))
            .then_some(objects.len() as u64)
    }

    /// Counts the rows: lines that are neither blank nor headers, without a last line that may be
    /// incomplete.
    fn rows(&self) -> u64 {
        let text = self
            .text
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(&self.text);
        let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
        if self.end != End::Whole {
            lines.pop();
        }
        let is_blank = |line: &[u8]| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            line.iter().all(|byte| *byte == b' ')
        };
        lines
            .iter()
            .filter(|line| !is_blank(line) && !line.starts_with(b"#"))
            .count() as u64
    }
}

/// The batches of an object, and how it ended.
struct Run {
    batches: Vec<Batch>,
    error: Option<LogError>,
    framing: Framing,
}

impl Run {
    fn new(object: &[u8], rows: Rows, step: usize, rules: &std::sync::Arc<Rules>) -> Self {
        let object_ref = ObjectRef::in_s3("fuzz", "E27FO14I29XXXX.2026-11-14-20.d740d76b.gz");
        let job = Job {
            rows,
            ..Job::all(object_ref)
        };
        let (mut batches, mut error) = (Vec::new(), None);
        let mut items = Batches::new(
            &job,
            Drip {
                bytes: object,
                step,
            },
            rules.clone(),
        );
        for item in items.by_ref() {
            assert!(error.is_none(), "batch after the error");
            match item {
                Ok(batch) => batches.push(batch),
                Err(cause) => error = Some(cause),
            }
        }
        assert!(
            items.next().is_none() && items.next().is_none(),
            "batch after the end"
        );
        Self {
            batches,
            error,
            framing: rules.encoding.framing(),
        }
    }

    fn is_corrupt(&self) -> bool {
        matches!(&self.error, Some(LogError::Cut(cause)) if cause.kind() != std::io::ErrorKind::UnexpectedEof)
    }

    /// Every transaction in the bodies, with its row.
    fn transactions(&self) -> Vec<(u64, &[u8])> {
        self.batches
            .iter()
            .flat_map(|batch| transactions(batch, self.framing))
            .collect()
    }

    fn check_against(&self, text: &Text) {
        let rows = self.batches.last().map_or(0, |batch| batch.rows.end);
        match &self.error {
            None => assert_eq!(text.end, End::Whole, "a cut or damaged object is an error"),
            Some(LogError::Cut(_)) => {
                assert_ne!(text.end, End::Whole, "a whole object is read to its end");
            }
            Some(
                LogError::NotAccessLog(_)
                | LogError::OtherLog(_)
                | LogError::MissingFields(_)
                | LogError::Parquet(_)
                | LogError::Spool(_)
                | LogError::Malformed { .. },
            ) => {}
        }
        match &self.error {
            None | Some(LogError::Malformed { .. }) if text.is_json() => {
                let objects = text.objects().unwrap_or(rows);
                assert_eq!(rows, objects, "every object is read");
            }
            _ if text.is_json() => {}
            None | Some(LogError::Malformed { .. }) => {
                assert_eq!(rows, text.rows(), "every row is read");
            }
            Some(LogError::Cut(_)) if text.end == End::Missing => {
                assert_eq!(rows, text.rows(), "every complete row is read");
            }
            Some(_) => assert!(rows <= text.rows(), "no row is invented"),
        }
    }

    /// Batches cover the requested rows in order and count each of them once.
    fn check_rows(&self, wanted: &Range<u64>) {
        let mut next = wanted.start;
        for batch in &self.batches {
            assert_eq!(
                batch.rows.start, next,
                "batches cover the rows without gaps"
            );
            assert!(!batch.rows.is_empty() && batch.rows.end - batch.rows.start <= MAX_ROWS);
            assert_eq!(
                batch.counts.rows,
                batch.rows.end - batch.rows.start,
                "each row is counted"
            );
            assert!(batch.counts.is_balanced(), "{:?}", batch.counts);
            assert_eq!(
                (batch.counts.sent, batch.counts.rejected),
                (batch.marks.len() as u64, batch.flaws.rows.count())
            );
            let flaws = batch.flaws.rows.ranges();
            assert!(
                flaws
                    .iter()
                    .all(|flaws| batch.rows.start <= flaws.start && flaws.end <= batch.rows.end)
            );
            assert!(
                batch.marks.is_sorted_by(|one, next| one.row < next.row)
                    && batch
                        .marks
                        .iter()
                        .all(|mark| batch.rows.contains(&mark.row))
            );
            next = batch.rows.end;
        }
        assert!(next <= wanted.end);
    }

    /// A batch keeps its limits, and ends only if the next transaction does not fit.
    fn check_sizes(&self, limits: Limits) {
        for batch in &self.batches {
            assert!(batch.marks.len() <= limits.transactions);
            assert!(
                batch.body.len() <= limits.bytes || batch.marks.len() == 1,
                "{} of {} bytes",
                batch.body.len(),
                limits.bytes
            );
        }
        for pair in self.batches.windows(2) {
            let [batch, next] = pair else { unreachable!() };
            let one_more = transactions(next, self.framing)
                .next()
                .map(|(_, bytes)| self.framing.separator.len() + bytes.len());
            let is_full = !batch.marks.is_empty()
                && (batch.marks.len() == limits.transactions
                    || one_more.is_some_and(|more| batch.body.len() + more > limits.bytes));
            assert!(
                is_full || batch.rows.end - batch.rows.start == MAX_ROWS,
                "{:?} ends too early",
                batch.rows
            );
        }
    }

    /// Marks describe the bodies, also after batches are split.
    fn check_bodies(&self, encoding: &Encoding) {
        for batch in &self.batches {
            check_body(batch, self.framing);
            match encoding {
                _ if batch.marks.is_empty() => assert!(batch.body.is_empty()),
                Encoding::Uap(_) => {
                    assert!(batch.body.iter().all(|byte| *byte >= b' '));
                    assert_eq!(
                        decode(&batch.body).map(|all| all.len()),
                        Ok(batch.marks.len())
                    );
                }
                Encoding::Ndjson => {
                    for (_, line) in transactions(batch, self.framing) {
                        assert!(line.iter().all(|byte| *byte >= b' '));
                        let line: Value = serde_json::from_slice(line).unwrap();
                        let (path, query) = (
                            line["request"]["path"].as_str().unwrap(),
                            line["request"]["query"].as_str().unwrap_or(""),
                        );
                        assert!(
                            path.bytes()
                                .chain(query.bytes())
                                .all(|byte| byte.is_ascii_graphic()),
                            "unencoded byte in a target"
                        );
                    }
                }
            }
            check_halves(batch, encoding, self.framing);
        }
    }

    /// Every row is accounted for if the bridge rejects some of them.
    fn check_conservation(&self) {
        let mut summary = Summary::default();
        for (index, batch) in self.batches.iter().enumerate() {
            match batch.halves() {
                Some([first, second]) => {
                    summary.accept(&first);
                    summary.reject(&second, Some(422));
                }
                None if index % 2 == 0 => summary.accept(batch),
                None => summary.reject(batch, None),
            }
        }
        let counts = summary.counts;
        let rows = self.batches.last().map_or(0, |batch| batch.rows.end);
        assert!(counts.accounts_for(&(0..rows)), "{counts:?}");
        let rejected = summary.rejected.len() as u64;
        assert_eq!(counts.rejected, rejected + summary.flaws.rows.count());
        assert_eq!(counts.sent + rejected, self.transactions().len() as u64);
        if matches!(self.error, Some(LogError::Malformed { .. })) {
            assert_eq!(
                (counts.rows, counts.sent),
                (counts.malformed + counts.foreign, 0)
            );
        }
    }
}

/// Every transaction of a batch with its row, found by the marks.
fn transactions(batch: &Batch, framing: Framing) -> impl Iterator<Item = (u64, &[u8])> {
    let mut start = framing.open.len();
    batch.marks.iter().map(move |mark| {
        let bytes = &batch.body[start..mark.end];
        start = mark.end + framing.separator.len();
        (mark.row, bytes)
    })
}

/// Checks that a body is its transactions and their framing.
fn check_body(batch: &Batch, framing: Framing) {
    if !batch.marks.is_empty() {
        let transactions: Vec<_> = transactions(batch, framing)
            .map(|(_, bytes)| bytes)
            .collect();
        let body = [
            framing.open.as_bytes(),
            &transactions.join(framing.separator.as_bytes()),
            framing.close.as_bytes(),
        ]
        .concat();
        assert_eq!(batch.body, body);
    }
}

/// Splits a batch down to single transactions: the parts contain the same transactions and rows.
fn check_halves(batch: &Batch, encoding: &Encoding, framing: Framing) {
    let Some(halves) = batch.halves() else {
        assert!(batch.marks.len() < 2, "a batch of two can be split");
        if let (Encoding::Uap(_), 1) = (encoding, batch.marks.len()) {
            assert_eq!(decode(&batch.body).map(|all| all.len()), Ok(1));
        }
        return;
    };
    let [first, second] = &halves;
    assert_eq!(
        (first.rows.start, first.rows.end, second.rows.end),
        (batch.rows.start, second.rows.start, batch.rows.end)
    );
    assert!(
        transactions(batch, framing).eq(halves.iter().flat_map(|half| transactions(half, framing)))
    );
    for half in &halves {
        assert!(
            !half.marks.is_empty() && half.marks.iter().all(|mark| half.rows.contains(&mark.row))
        );
        assert_eq!(half.counts.sent, half.marks.len() as u64);
        check_body(half, framing);
        check_halves(half, encoding, framing);
    }
}

/// Compares rows and bodies. The distribution may differ: a batch has the first one that the reader
/// has seen.
fn assert_same(found: &[Batch], wanted: &[Batch], why: &str) {
    let shown = |batches: &[Batch]| {
        batches
            .iter()
            .map(|b| {
                (
                    b.rows.clone(),
                    b.counts,
                    b.body.clone(),
                    b.marks.clone(),
                    b.flaws.clone(),
                    b.oldest_end,
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(found), shown(wanted), "{why}");
}

//! `edgetap explain`: how one row is handled, and why.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use comfy_table::Table;
use edgetap::config::{Config, Variables};
use edgetap::decode::as_sent;
use edgetap::encode::{Encoding, Origin};
use edgetap::job::ObjectRef;
use edgetap::log::{Field, LogReader, Record};
use edgetap::pipeline::Rules;
use edgetap::redact::{Cookies, Redaction};
use edgetap::source::Opened;
use edgetap::transaction::{Transaction, stitch};
use flate2::bufread::MultiGzDecoder;

use crate::Failure;
use crate::output::stdout;
use crate::show::{self, count};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Log file and line number, counted from 1 [default: the first data row].
    #[arg(value_name = "FILE[:LINE]")]
    row: String,
}

pub(crate) fn run(args: &Args, variables: &Variables) -> Result<(), Failure> {
    let rules = Config::read_rules(variables)?;
    let (path, line) = file_and_line(&args.row);
    let Opened { object, bytes, .. } = Opened::file(Path::new(path))?;
    let mut log = LogReader::new(bytes);
    while log.advance().with_context(|| path.to_owned())? {
        match line {
            Some(line) if log.line() < line => {}
            Some(line) if log.line() > line => break,
            _ => return explain(&mut log, &object, &rules),
        }
    }
    let Some(line) = line else {
        return Err(anyhow!("{path} has no data rows").into());
    };
    let reason = why_no_row(path, line).with_context(|| path.to_owned())?;
    Err(anyhow!("{path}: line {line} is not a data row: {reason}").into())
}

/// Splits `FILE:LINE`. A file's name may end like that too.
fn file_and_line(row: &str) -> (&str, Option<u64>) {
    if !Path::new(row).exists()
        && let Some((path, line)) = row.rsplit_once(':')
        && let Ok(line) = line.parse()
    {
        return (path, Some(line));
    }
    (row, None)
}

/// Why a line of a log that was read to its end is not a data row.
fn why_no_row(path: &str, line: u64) -> io::Result<String> {
    let mut bytes = BufReader::new(File::open(path)?);
    let text: Box<dyn Read> = if bytes.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(bytes))
    } else {
        Box::new(bytes)
    };
    let mut text = BufReader::new(text);
    for before in 0..line.saturating_sub(1) {
        if text.skip_until(b'\n')? == 0 {
            return Ok(format!("the log has {}", count(before, "line", "lines")));
        }
    }
    Ok(match text.fill_buf()?.first() {
        _ if line == 0 => "lines are counted from 1".to_owned(),
        None => format!("the log has {}", count(line - 1, "line", "lines")),
        Some(b'#') => "it is a header line".to_owned(),
        Some(_) => "it is blank".to_owned(),
    })
}

fn explain(
    log: &mut LogReader<impl Read>,
    object: &ObjectRef,
    rules: &Rules,
) -> Result<(), Failure> {
    let line = log.line();
    let absent: Vec<&str> = log
        .columns()
        .into_iter()
        .flat_map(edgetap::log::Columns::absent)
        .collect();
    let (row, record) = log.record();
    let mut scratch = Vec::new();
    let stitched = stitch(row, record, &mut scratch);
    let dropped = match &stitched {
        Err(malformed) => Some(format!("malformed row ({malformed})")),
        Ok(transaction) => dropped(transaction, rules),
    };
    let mut stdout = stdout();
    writeln!(stdout, "{object}, line {line} (row {row})")?;
    match (&stitched, &dropped) {
        (_, Some(reason)) => writeln!(stdout, "Not sent: {reason}.")?,
        (Ok(transaction), None) => {
            if let Some(kept) = rules.static_assets.keep_reason(transaction) {
                writeln!(stdout, "Sent: {kept}.")?;
            }
            if transaction.unreadable > 0 {
                writeln!(
                    stdout,
                    "{} could not be read and left out.",
                    count(transaction.unreadable, "value was", "values were")
                )?;
            }
        }
        (Err(_), None) => {}
    }
    let Fields { table, masked } = fields(record, &rules.redaction, dropped.is_none());
    if table.row_count() > 0 {
        writeln!(stdout, "\n{}", table.trim_fmt())?;
    }
    if !masked.is_empty() {
        writeln!(stdout, "\nMasked (REDACT): {}", masked.join(", "))?;
    }
    if !absent.is_empty() {
        writeln!(stdout, "\nNot in this log: {}", absent.join(", "))?;
    }
    if let (Ok(transaction), None) = (&stitched, &dropped) {
        let json = as_json(transaction, object, rules);
        writeln!(stdout, "\n{}", show::json(&json, show::width()))?;
    }
    Ok(())
}

/// The fields of a row, and the names of those whose value is masked.
struct Fields {
    table: Table,
    masked: Vec<String>,
}

/// The logged fields, each with its value, decoded and masked, and where that goes if it is sent.
fn fields(record: Record<'_>, redaction: &Redaction, is_sent: bool) -> Fields {
    let header: &[&str] = if is_sent {
        &["FIELD", "VALUE", "GOES TO"]
    } else {
        &["FIELD", "VALUE"]
    };
    let mut fields = Fields {
        table: show::table(header),
        masked: Vec::new(),
    };
    let mut add = |name: &str, value: &[u8], place: &str| {
        let mut scratch = Vec::new();
        let shown = redaction.mask_value(value, &mut scratch);
        let name = show::printable(name);
        if shown != value {
            fields.masked.push(name.clone());
        }
        let shown = show::printable(&String::from_utf8_lossy(shown));
        let cells = [name.as_str(), shown.as_str(), place];
        fields.table.add_row(&cells[..header.len()]);
    };
    let mut scratch = Vec::new();
    for &field in Field::ALL {
        let Some(logged) = record.get(field) else {
            continue;
        };
        match (field, &redaction.cookies) {
            (Field::Cookie, Cookies::Drop) => {
                add(field.name(), b"", "nowhere: REDACT_COOKIES=drop");
            }
            (Field::Cookie, Cookies::Hash(_)) => {
                add(
                    field.name(),
                    b"",
                    "request.headers Cookie, each value hashed",
                );
            }
            _ => add(
                field.name(),
                as_sent(field, logged, &mut scratch),
                place(field),
            ),
        }
    }
    for (name, logged) in record.others() {
        let value = as_sent(Field::ViewerRequestLogData, logged, &mut scratch);
        add(name, value, "fields (ndjson only)");
    }
    fields
}

/// Where a field's value goes in the bridge's format, `uap`; `ndjson` has all of them.
fn place(field: Field) -> &'static str {
    match field {
        Field::Date | Field::Time | Field::TimestampMs | Field::Timestamp | Field::TimeTaken => {
            "timestamp"
        }
        Field::EdgeLocation => "txn-meta-data.source_info.instance_id",
        Field::DistributionId => "txn-meta-data.source_info.pool_id",
        Field::ClientIp => "request.connection.connection-ip",
        Field::ClientPort => "request.connection.connection-port",
        Field::Method => "request.http-method",
        Field::Protocol => "request.http-scheme",
        Field::ProtocolVersion => "request.http-version",
        Field::UriStem | Field::UriQuery => "request.uri-query-fragment",
        Field::HostHeader => "request.host, header Host",
        Field::DistributionDomain => "request.host, if x-host-header is not logged",
        Field::Referer => "request.headers Referer",
        Field::UserAgent => "request.headers User-Agent",
        Field::Cookie => "request.headers Cookie",
        Field::XForwardedFor => "request.headers X-Forwarded-For",
        Field::Status => "response.status-code",
        Field::ContentType => "response.headers Content-Type",
        Field::ContentLength => "response.headers Content-Length, response.body.length",
        Field::RangeStart | Field::RangeEnd => "response.headers Content-Range",
        Field::RequestId => "transaction-id, header X-Amz-Cf-Id",
        _ => "cloudfront (ndjson only)",
    }
}

/// Why a request is not sent.
fn dropped(transaction: &Transaction<'_>, rules: &Rules) -> Option<String> {
    if rules.static_assets.matches(transaction) {
        let extension = extension(transaction.path());
        return Some(format!("static asset (extension `.{extension}`)"));
    }
    let glob = rules.excluded_paths.matching_glob(transaction)?;
    Some(format!("excluded path (EXCLUDE_PATHS has `{glob}`)"))
}

/// The extension by which a path was recognized as that of a static asset.
fn extension(path: &[u8]) -> String {
    let last = |text, at: u8| <[u8]>::rsplit(text, move |byte| *byte == at).next();
    let name = last(path, b'/').and_then(|name| name.split(|byte| *byte == b';').next());
    let extension = name.and_then(|name| last(name, b'.')).unwrap_or_default();
    String::from_utf8_lossy(extension).to_ascii_lowercase()
}

fn as_json(transaction: &Transaction<'_>, object: &ObjectRef, rules: &Rules) -> Vec<u8> {
    let (mut scratch, mut body) = (Vec::new(), Vec::new());
    let masked = rules.redaction.redact(transaction, &mut scratch);
    let origin = Origin {
        object,
        distribution: object.distribution(),
    };
    Encoding::Ndjson.encode(&masked, origin, &rules.redaction, &mut body);
    body
}

//! `edgetap explain`: how one row is handled, and why.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use comfy_table::Table;
use edgetap::config::{Config, Variables};
use edgetap::decode::as_sent;
use edgetap::encode::{Encoding, Origin};
use edgetap::job::ObjectRef;
use edgetap::log::{Defect, Field, LogReader, Record, text_of};
use edgetap::pipeline::Rules;
use edgetap::redact::{Cookies, Part, Redaction};
use edgetap::source::Opened;
use edgetap::transaction::{Malformed, Transaction, stitch};

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
    while log.advance().map_err(|error| anyhow!("{path}: {error}"))? {
        match line {
            Some(line) if *log.lines().end() < line => {}
            Some(line) if log.line() > line => break,
            _ => return explain(&mut log, &object, &rules),
        }
    }
    let Some(line) = line else {
        return Err(anyhow!("{path} has no data rows").into());
    };
    let reason = why_no_row(path, line).with_context(|| format!("cannot read {path}"))?;
    Err(anyhow!("{path}: line {line} is not a data row: {reason}").into())
}

/// What a row that has no transaction counts as.
fn kind_of(malformed: Malformed) -> &'static str {
    match malformed {
        Malformed::Defect(Defect::Foreign(_)) => "foreign record",
        Malformed::Defect(defect) if defect.is_rejection() => "rejected row",
        _ => "malformed row",
    }
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
    let mut text = BufReader::new(text_of(File::open(path)?));
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
    let decision = match &stitched {
        Err(malformed) => Err(format!("{} ({malformed})", kind_of(*malformed))),
        Ok(transaction) => decide(transaction, rules),
    };
    let mut stdout = stdout();
    writeln!(stdout, "{object}, line {line} (row {row})")?;
    match &decision {
        Err(why) => writeln!(stdout, "Not sent: {why}.")?,
        Ok(why) => writeln!(stdout, "Sent: {why}.")?,
    }
    if let (Ok(transaction), Ok(_)) = (&stitched, &decision)
        && transaction.unreadable > 0
    {
        writeln!(
            stdout,
            "Left out: {}.",
            count(
                transaction.unreadable,
                "value that cannot be read",
                "values that cannot be read"
            )
        )?;
    }
    let mut redacted_values = Vec::new();
    let redacted = stitched
        .as_ref()
        .ok()
        .map(|transaction| rules.redaction.redact(transaction, &mut redacted_values));
    let row = Row {
        record,
        redacted: redacted.as_ref(),
    };
    let Fields { table, masked } = fields(&row, &rules.redaction, decision.is_ok());
    if table.row_count() > 0 {
        writeln!(stdout, "\n{}", table.trim_fmt())?;
    }
    if !masked.is_empty() {
        writeln!(stdout, "\nMasked (REDACT): {}", masked.join(", "))?;
    }
    if !absent.is_empty() {
        writeln!(stdout, "\nNot in this log: {}", absent.join(", "))?;
    }
    if let (Some(redacted), Ok(_)) = (&redacted, &decision) {
        let json = as_json(redacted, object, rules);
        writeln!(stdout, "\n{}", show::json(&json, show::width()))?;
    }
    Ok(())
}

/// The fields of a row, and those whose value is masked, with the reasons.
struct Fields {
    table: Table,
    masked: Vec<String>,
}

/// The logged fields, each with its value, decoded and masked, and where that goes if it is sent.
/// A required field that the row lacks is shown, too.
fn fields(row: &Row<'_>, redaction: &Redaction, is_sent: bool) -> Fields {
    let header: &[&str] = if is_sent {
        &["FIELD", "VALUE", "GOES TO (bridge)"]
    } else {
        &["FIELD", "VALUE"]
    };
    let mut fields = Fields {
        table: show::table(header),
        masked: Vec::new(),
    };
    let mut add = |name: &str, value: &[u8], place: &str| {
        let name = show::printable(name);
        let value = show::printable(&String::from_utf8_lossy(value));
        let cells = [name.as_str(), value.as_str(), place];
        fields.table.add_row(&cells[..header.len()]);
    };
    let (mut scratch, mut mask) = (Vec::new(), Vec::new());
    for &field in Field::ALL {
        let name = field.name();
        let Some(logged) = row.record.get(field) else {
            if row.lacks(field) {
                add(name, b"(missing)", "");
            }
            continue;
        };
        let value = match (field, row.redacted) {
            (Field::UserAgent, Some(sent)) => sent.user_agent.unwrap_or_default(),
            _ => as_sent(field, logged, &mut scratch),
        };
        if field == Field::Cookie {
            let sent = row.redacted.and_then(|sent| sent.cookie);
            let value = match (&redaction.cookies, sent) {
                (Cookies::Keep, _) => value,
                (Cookies::Hash(_), Some(hashed)) => hashed,
                (Cookies::Hash(_), None) => b"(hashed)",
                (Cookies::Drop, _) => b"(dropped)",
            };
            add(name, value, cookie_place(&redaction.cookies));
            continue;
        }
        let place = place(field);
        let shown = match (field, row.redacted) {
            (Field::UriStem, Some(sent)) => sent.path(),
            (Field::UriQuery, Some(sent)) => sent.query().unwrap_or_default(),
            (Field::Referer, Some(sent)) => sent.referer.unwrap_or_default(),
            (_, Some(_)) if place != NOT_SENT => value,
            _ => redaction.mask_value(value, Part::Query, &mut mask),
        };
        add(name, shown, place);
        if shown != value {
            let part = match field {
                Field::UriStem => Part::Path,
                Field::Referer => Part::Url,
                _ => Part::Query,
            };
            fields
                .masked
                .push(masked(name, &redaction.reasons(value, part)));
        }
    }
    for (name, logged) in row.record.others() {
        let value = as_sent(Field::ViewerRequestLogData, logged, &mut scratch);
        let shown = redaction.mask_value(value, Part::Query, &mut mask);
        add(name, shown, NOT_SENT);
        if shown != value {
            let reasons = redaction.reasons(value, Part::Query);
            fields.masked.push(masked(&show::printable(name), &reasons));
        }
    }
    if is_sent {
        show::wrap_before(&mut fields.table, 2);
    }
    fields
}

/// A field with a masked value, and by what each credential in it was recognized.
fn masked(name: &str, reasons: &BTreeSet<String>) -> String {
    let reasons: Vec<&str> = reasons.iter().map(String::as_str).collect();
    format!("{name} ({})", reasons.join(", "))
}

/// A row, with what is sent of it.
struct Row<'a> {
    record: Record<'a>,
    /// `None` if the row is malformed.
    redacted: Option<&'a Transaction<'a>>,
}

impl Row<'_> {
    /// Whether the row is malformed, and this required field is missing.
    fn lacks(&self, field: Field) -> bool {
        let is_logged = |field| self.record.get(field).is_some();
        self.redacted.is_none()
            && self.record.defect().is_none()
            && !is_logged(field)
            && match field {
                Field::Method | Field::UriStem => true,
                Field::Date | Field::Time => {
                    !is_logged(Field::Timestamp) && !is_logged(Field::TimestampMs)
                }
                _ => false,
            }
    }
}

/// The place of a field that the bridge's format does not have.
const NOT_SENT: &str = "not sent (replay prints it)";

fn cookie_place(cookies: &Cookies) -> &'static str {
    match cookies {
        Cookies::Keep => place(Field::Cookie),
        Cookies::Hash(Some(_)) => "request.headers Cookie, each value hashed",
        Cookies::Hash(None) => "request.headers Cookie, hashed with the secret's redaction_key",
        Cookies::Drop => "not sent (REDACT_COOKIES=drop)",
    }
}

/// Where a field's value goes in the bridge's format, `uap`; `ndjson` has all of them.
fn place(field: Field) -> &'static str {
    match field {
        Field::Date | Field::Time | Field::TimestampMs | Field::Timestamp | Field::TimeTaken => {
            "timestamp"
        }
        Field::EdgeLocation => "txn-meta-data.source_info.instance_id",
        Field::DistributionId => "txn-meta-data.source_info.pool_id",
        Field::ClientIp => "request.connection.connection-ip, header X-Forwarded-For",
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
        _ => NOT_SENT,
    }
}

/// Returns why a request is sent.
///
/// # Errors
/// Why it is not sent.
fn decide(transaction: &Transaction<'_>, rules: &Rules) -> Result<String, String> {
    let sent = match rules
        .static_assets
        .test(transaction.record, &mut Vec::new())
    {
        Err(keep) => keep.to_string(),
        Ok(extension) => match rules.included_paths.matching_glob(transaction.path()) {
            None => return Err(format!("static asset (extension `.{extension}`)")),
            Some(glob) => format!("included path (INCLUDE_PATHS has `{glob}`)"),
        },
    };
    match rules.excluded_paths.matching_glob(transaction) {
        Some(glob) => Err(format!("excluded path (EXCLUDE_PATHS has `{glob}`)")),
        None => Ok(sent),
    }
}

fn as_json(redacted: &Transaction<'_>, object: &ObjectRef, rules: &Rules) -> Vec<u8> {
    let mut body = Vec::new();
    let origin = Origin {
        object,
        distribution: object.distribution(),
    };
    Encoding::Ndjson.encode(redacted, origin, &rules.redaction, &mut body);
    body
}

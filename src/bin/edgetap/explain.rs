//! `edgetap explain`: how one row is handled, and why.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use anyhow::anyhow;
use comfy_table::Table;
use edgetap::config::{Config, Variables};
use edgetap::decode::as_sent;
use edgetap::encode::{Encoding, Origin};
use edgetap::job::ObjectRef;
use edgetap::log::{Columns, Field, LogReader, Record, text_of};
use edgetap::pipeline::Rules;
use edgetap::redact::{Cookies, Part, Redaction};
use edgetap::source::Opened;
use edgetap::transaction::{Transaction, stitch};

use crate::Failure;
use crate::inputs::Input;
use crate::output::{Hinted, stdout};
use crate::show::{self, count};
use crate::tee::{Beginning, Tee};
use crate::verdict::Verdict;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One log (a file, `s3://BUCKET/KEY`, or `-` for stdin) and line number, counted from 1 [default:
    /// the first data row]. A Parquet file has records in place of lines. `find` looks for a request in
    /// many.
    #[arg(value_name = "LOG[:LINE]", allow_hyphen_values = true, value_parser = log_and_line)]
    row: String,
}

/// Accepts `-` and `-:LINE`, but no option.
fn log_and_line(text: &str) -> Result<String, &'static str> {
    match text.strip_prefix('-') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(':') => Err("not an option of explain"),
        _ => Ok(text.to_owned()),
    }
}

pub(crate) async fn run(args: Args, variables: &Variables) -> Result<(), Failure> {
    let rules = Config::read_rules(variables)?;
    let (name, line) = name_and_line(&args.row);
    let input = Input::named(name).await;
    let input = input.map_err(|error| {
        if error.is::<Hinted>() {
            error
        } else {
            error.context(format!("cannot read {name}"))
        }
    });
    let opened = input?.open().await?;
    let read = move || explain_line(opened, line, &rules);
    let text = tokio::task::spawn_blocking(read).await??;
    write!(stdout(), "{text}")?;
    Ok(())
}

/// Splits `OBJECT:LINE`. A file's name may end like that too.
fn name_and_line(row: &str) -> (&str, Option<u64>) {
    if !Path::new(row).exists()
        && let Some((name, line)) = row.rsplit_once(':')
        && let Ok(line) = line.parse()
    {
        return (name, Some(line));
    }
    (row, None)
}

/// Explains the row of a line, or the first one.
fn explain_line(opened: Opened, line: Option<u64>, rules: &Rules) -> anyhow::Result<String> {
    let Opened { object, bytes, .. } = opened;
    let beginning = RefCell::new(Beginning::of_line(line.unwrap_or(1)));
    let text = Tee::new(text_of(bytes), |piece| beginning.borrow_mut().see(piece));
    let mut log = LogReader::of_text(text);
    while log
        .advance()
        .map_err(|error| anyhow!("{object}: {error}"))?
    {
        match line {
            Some(line) if *log.lines().end() < line => {}
            Some(line) if log.line() > line => break,
            _ => return Ok(Explanation::of(&log, &object, rules).text),
        }
    }
    let Some(line) = line else {
        anyhow::bail!("{object} has no data rows");
    };
    if !log.is_text() {
        let records = count(log.next_row(), "record", "records");
        let reason = match line {
            0 => "records are counted from 1".to_owned(),
            _ => format!("the log has {records}"),
        };
        anyhow::bail!("{object}: record {line} does not exist: {reason}");
    }
    let reason = match beginning.borrow().byte {
        _ if line == 0 => "lines are counted from 1".to_owned(),
        None => format!(
            "the log has {}",
            count(beginning.borrow().lines(), "line", "lines")
        ),
        Some(b'#') => "it is a header line".to_owned(),
        Some(_) => "it is blank".to_owned(),
    };
    anyhow::bail!("{object}: line {line} is not a data row: {reason}")
}

/// What is said about a row.
pub(crate) struct Explanation {
    pub(crate) verdict: Verdict,
    /// The row's place and the verdict, a line each; its fields; and what is sent.
    pub(crate) text: String,
}

impl Explanation {
    /// Returns what is said about the current row of a log.
    pub(crate) fn of(log: &LogReader<impl Read>, object: &ObjectRef, rules: &Rules) -> Self {
        let (row, record) = log.record();
        let (mut scratch, mut redacted) = (Vec::new(), Vec::new());
        let stitched = stitch(row, record, &mut scratch);
        let verdict = Verdict::of(&stitched, rules);
        let line = if log.is_text() { "line" } else { "record" };
        let number = log.line();
        let name = show::escaped(&object.to_string());
        let mut head = format!("{name}, {line} {number} (row {row})\n{verdict}");
        let transaction = stitched.ok();
        let unreadable = transaction.map_or(0, |transaction| transaction.unreadable);
        if verdict.is_sent() && unreadable > 0 {
            let (one, many) = ("value that cannot be read", "values that cannot be read");
            head = format!("{head}\nLeft out: {}.", count(unreadable, one, many));
        }
        let redacted = transaction
            .as_ref()
            .map(|transaction| rules.redaction.redact(transaction, &mut redacted));
        let row = Row {
            record,
            redacted: redacted.as_ref(),
        };
        let Fields { table, masked } = fields(&row, &rules.redaction, verdict.is_sent());
        let columns = log.columns().into_iter();
        let absent: Vec<&str> = columns.flat_map(Columns::absent).collect();
        let list =
            |title: &str, names: &str| (!names.is_empty()).then(|| format!("{title}: {names}"));
        let sections = [
            Some(head),
            (table.row_count() > 0).then(|| table.trim_fmt()),
            list("Masked (REDACT)", &masked.join(", ")),
            list("Not in this log", &absent.join(", ")),
            redacted
                .filter(|_| verdict.is_sent())
                .map(|redacted| show::json(&as_json(&redacted, object, rules), show::width())),
        ];
        let text = sections.into_iter().flatten().collect::<Vec<_>>();
        Self {
            verdict,
            text: text.join("\n\n") + "\n",
        }
    }
}

/// The fields of a row, and those whose value is masked, with the reasons.
struct Fields {
    table: Table,
    masked: Vec<String>,
}

/// The logged fields, each with its value, decoded and masked, and where that goes if it is sent.
/// A required field that the row lacks is shown, too.
///
/// A malformed row may be text in a wrapping: what is in fields of other names is not shown, because
/// it cannot be masked. Nothing is shown of a row whose values may be those of other columns.
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
    if row.redacted.is_none() && row.record.defect().is_none() && !row.record.is_whole() {
        return fields;
    }
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
        let part = part(field);
        let shown = match (field, row.redacted) {
            (Field::UriStem, Some(sent)) => sent.path(),
            (Field::UriQuery, Some(sent)) => sent.query().unwrap_or_default(),
            (Field::Referer, Some(sent)) => sent.referer.unwrap_or_default(),
            (_, Some(_)) if place != NOT_SENT => value,
            _ => redaction.mask_value(value, part, &mut mask),
        };
        add(name, shown, place);
        if shown != value {
            fields
                .masked
                .push(masked(name, &redaction.reasons(value, part)));
        }
    }
    for (name, logged) in row.record.others() {
        if row.redacted.is_none() {
            add(name, b"(not shown)", NOT_SENT);
            continue;
        }
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

/// What a field is a part of, by which its credentials are recognized.
fn part(field: Field) -> Part {
    match field {
        Field::UriStem => Part::Path,
        Field::Referer => Part::Url,
        _ => Part::Query,
    }
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

fn as_json(redacted: &Transaction<'_>, object: &ObjectRef, rules: &Rules) -> Vec<u8> {
    let mut body = Vec::new();
    let origin = Origin {
        object,
        distribution: object.distribution(),
    };
    Encoding::Ndjson.encode(redacted, origin, &rules.redaction, &mut body);
    body
}

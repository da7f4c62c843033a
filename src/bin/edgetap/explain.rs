//! `edgetap explain`: what becomes of one row, and why.

use std::path::Path;

use anyhow::Context as _;
use comfy_table::{ContentArrangement, Table, presets};
use edgetap::config::{Config, Variables};
use edgetap::decode::as_sent;
use edgetap::encode::{Encoding, Origin};
use edgetap::job::ObjectRef;
use edgetap::log::{Field, LogReader, Record};
use edgetap::pipeline::Rules;
use edgetap::redact::{Cookies, Redaction};
use edgetap::source::Opened;
use edgetap::transaction::{Transaction, stitch};

use crate::{Failure, show};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A log, and the line of the row, counted from 1; without it the first row.
    #[arg(value_name = "FILE[:LINE]")]
    row: String,
}

pub(crate) fn run(args: &Args, variables: &Variables) -> Result<(), Failure> {
    let rules = Config::read_rules(variables)?;
    let (path, line) = file_and_line(&args.row);
    let Opened { object, bytes, .. } = Opened::file(Path::new(path))?;
    let mut log = LogReader::new(bytes);
    while log.advance().with_context(|| path.to_owned())? {
        if line.is_some_and(|line| log.line() < line) {
            continue;
        }
        if line.is_some_and(|line| log.line() > line) {
            break;
        }
        explain(&mut log, &object, &rules);
        return Ok(());
    }
    let row = line.map_or_else(
        || "it has no rows".to_owned(),
        |line| format!("line {line} is no row: a header, blank, or behind the end"),
    );
    Err(anyhow::anyhow!("{path}: {row}").into())
}

/// A line may stand behind a colon, which a file's name may hold too.
fn file_and_line(row: &str) -> (&str, Option<u64>) {
    if !Path::new(row).exists()
        && let Some((path, line)) = row.rsplit_once(':')
        && let Ok(line) = line.parse()
    {
        return (path, Some(line));
    }
    (row, None)
}

fn explain(log: &mut LogReader<impl std::io::Read>, object: &ObjectRef, rules: &Rules) {
    let line = log.line();
    let absent: Vec<&str> = log
        .columns()
        .into_iter()
        .flat_map(edgetap::log::Columns::absent)
        .collect();
    let (row, record) = log.record();
    println!("{object}, line {line}: row {row}\n");
    println!("{}\n", fields(record, &rules.redaction));
    if !absent.is_empty() {
        println!("Not in this log: {}\n", absent.join(", "));
    }
    let mut scratch = Vec::new();
    match stitch(row, record, &mut scratch) {
        Err(malformed) => println!("Malformed, so not sent: {malformed}."),
        Ok(transaction) => judge(&transaction, object, rules),
    }
}

/// Each field that was logged: its name, its value, decoded and masked, and where that goes.
fn fields(record: Record<'_>, redaction: &Redaction) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["field", "value", "goes to"]);
    let mut scratch = (Vec::new(), Vec::new());
    for &field in Field::ALL {
        let Some(logged) = record.get(field) else {
            continue;
        };
        let value = as_sent(field, logged, &mut scratch.0);
        let (value, place) = match (field, &redaction.cookies) {
            (Field::Cookie, Cookies::Drop) => (&b""[..], "nowhere: REDACT_COOKIES=drop"),
            (Field::Cookie, Cookies::Hash(_)) => {
                (&b""[..], "request.headers Cookie, each value hashed")
            }
            _ => (redaction.mask_value(value, &mut scratch.1), place(field)),
        };
        table.add_row([
            field.name(),
            &show::printable(&String::from_utf8_lossy(value)),
            place,
        ]);
    }
    for (name, logged) in record.others() {
        let value: Vec<u8> = as_sent(Field::ViewerRequestLogData, logged, &mut scratch.0).to_vec();
        let value = redaction.mask_value(&value, &mut scratch.1);
        table.add_row([
            &show::printable(name),
            &show::printable(&String::from_utf8_lossy(value)),
            "fields (ndjson only): an unknown name",
        ]);
    }
    table
}

/// Where a field's value stands in the bridge's format; `ndjson` has all of them.
fn place(field: Field) -> &'static str {
    match field {
        Field::Date | Field::Time | Field::TimestampMs | Field::Timestamp | Field::TimeTaken => {
            "timestamp: when the request started"
        }
        Field::EdgeLocation => "txn-meta-data.source_info.instance_id",
        Field::DistributionId => "txn-meta-data.source_info.pool_id",
        Field::ClientIp => "request.connection.connection-ip",
        Field::ClientPort => "request.connection.connection-port",
        Field::Method => "request.http-method",
        Field::Protocol => "request.http-scheme",
        Field::ProtocolVersion => "request.http-version",
        Field::UriStem | Field::UriQuery => "request.uri-query-fragment",
        Field::HostHeader => "request.host and the header Host",
        Field::DistributionDomain => "request.host, where x-host-header is not logged",
        Field::Referer => "request.headers Referer",
        Field::UserAgent => "request.headers User-Agent",
        Field::Cookie => "request.headers Cookie",
        Field::XForwardedFor => "request.headers X-Forwarded-For",
        Field::Status => "response.status-code",
        Field::ContentType => "response.headers Content-Type",
        Field::ContentLength => "response.headers Content-Length, response.body.length",
        Field::RangeStart | Field::RangeEnd => "response.headers Content-Range",
        Field::RequestId => "transaction-id and the header X-Amz-Cf-Id",
        _ => "cloudfront (ndjson only)",
    }
}

fn judge(transaction: &Transaction<'_>, object: &ObjectRef, rules: &Rules) {
    let kept = match rules.static_assets.judge(transaction) {
        Ok(()) => return println!("Not sent: a request for a static asset (STATIC_EXTENSIONS)."),
        Err(kept) => kept,
    };
    if rules.excluded_paths.matches(transaction) {
        return println!("Not sent: a request for an excluded path (EXCLUDE_PATHS).");
    }
    if transaction.unreadable > 0 {
        println!(
            "{} of the values cannot be read: the transaction goes without.\n",
            transaction.unreadable
        );
    }
    println!("Sent, since {kept}:\n");
    let (mut masked, mut body) = (Vec::new(), Vec::new());
    let masked = rules.redaction.mask(transaction, &mut masked);
    let origin = Origin {
        object,
        distribution: object.distribution(),
    };
    Encoding::Ndjson.encode(&masked, origin, &rules.redaction, &mut body);
    let pretty = serde_json::from_slice(&body)
        .and_then(|value: serde_json::Value| serde_json::to_string_pretty(&value));
    println!(
        "{}",
        pretty.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned())
    );
}

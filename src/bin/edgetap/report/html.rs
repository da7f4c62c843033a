//! *HTML*: the report as one page that needs nothing else. The template escapes every value; the
//! page's policy (CSP) allows no request, and no script or style but those of this program.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indicatif::{HumanBytes, HumanCount};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, HtmlEscape, UndefinedBehavior, Value, context};
use sha2::{Digest as _, Sha256};

use super::chart;
use super::model::{Delivery, Report};
use super::show::{self, escaped};
use super::timeline::Timeline;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Values of the list of endpoints, and of the other lists.
const ENDPOINTS: usize = 30;
const SHOWN: usize = 15;
/// Widths of the chart, in pixels, and the most bars that are readable in each.
const WIDE: f32 = 1120.0;
const BARS: usize = 62;
const NARROW: f32 = 360.0;
const NARROW_BARS: usize = 24;

/// Writes the page to a file. What was there is replaced at once, or stays as it is.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(report: &Report, file: &Path) -> anyhow::Result<()> {
    let page = page(report)?;
    replace(file, page.as_bytes())?;
    Ok(())
}

/// Finds out before the logs are read that the page cannot be written: its directory does not exist.
///
/// # Errors
/// It cannot.
pub(super) fn expect_writable(file: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!file.is_dir(), "this is a directory");
    if let Some(directory) = directory_of(file) {
        let name = escaped(&directory.display().to_string());
        anyhow::ensure!(directory.is_dir(), "the directory {name} does not exist");
    }
    Ok(())
}

/// Returns the directory that the name of a file has.
fn directory_of(file: &Path) -> Option<&Path> {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
}

/// Writes next to the file, then renames.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    if target.exists() && !target.is_file() {
        return std::fs::write(target, content); // a device or a pipe
    }
    let mut temporary = tempfile::Builder::new()
        .prefix(".edgetap-report-")
        .tempfile_in(directory_of(&target).unwrap_or(Path::new(".")))
        .map_err(|error| io::Error::from(error.kind()))?; // without the name of the temporary file
    temporary.write_all(content)?;
    temporary.persist(target).map_err(|error| error.error)?;
    Ok(())
}

/// Writes the page to a new file in the system's directory of temporary files, and returns its path.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_temporary(report: &Report) -> anyhow::Result<PathBuf> {
    let mut file = tempfile::Builder::new()
        .prefix("edgetap-demo-")
        .suffix(".html")
        .tempfile()?;
    file.write_all(page(report)?.as_bytes())?;
    let (_, path) = file.keep()?;
    Ok(path)
}

fn page(report: &Report) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("n", |number: u64| HumanCount(number).to_string());
    environment.add_filter("percent", percent);
    environment.add_filter("width", |part: u64, whole: u64| {
        format!("{:.2}%", share(part, whole))
    });
    environment.add_filter("bytes", |bytes: u64| HumanBytes(bytes).to_string());
    environment.add_filter("count", |number: u64, one: &str, many: &str| {
        show::count(number, one, many)
    });
    environment.add_filter("code", code);
    environment.add_filter("minutes", super::minutes);
    environment.add_filter("seconds", super::seconds);
    environment.add_filter("dollars", super::dollars);
    environment.add_filter("data_out", |dollars: Vec<f64>| super::range(&dollars));
    environment.add_filter("readable", |time: String| {
        time.replace('T', " ").replace('Z', "")
    });
    environment.add_template("page.html", TEMPLATE)?;
    let hours = &report.hours.values;
    let (timeline, narrow) = (
        Timeline::new(hours, BARS),
        Timeline::new(hours, NARROW_BARS),
    );
    let page = environment.get_template("page.html")?.render(context! {
        report => Value::from(Serde(report)),
        total => Value::from(Serde(&report.totals)),
        backfill => Value::from(Serde(&report.backfill)),
        endpoints => Value::from(Serde(report.endpoints.first(ENDPOINTS))),
        methods => Value::from(Serde(report.methods.first(SHOWN))),
        hosts => Value::from(Serde(report.hosts.first(SHOWN))),
        clients => Value::from(Serde(report.clients.first(SHOWN))),
        cookies => Value::from(Serde(report.cookies.names.first(SHOWN))),
        cookies_are => report.cookies.fate(),
        delivery => report.delivery.as_ref().map(delivery),
        shares => shares(report),
        timeline => context! {
            bins => bins(&timeline),
            has_gaps => timeline.has_gaps(),
            charts => [drawn("wide", &timeline, WIDE)?, drawn("narrow", &narrow, NARROW)?],
        },
        policy => format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
            digest(STYLE),
            digest(SCRIPT),
        ),
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
    })?;
    Ok(page + "\n")
}

/// Marks what is between backticks as code.
fn code(text: &str) -> Value {
    let parts = text.split('`').enumerate().map(|(at, part)| {
        let part = HtmlEscape(part);
        if at % 2 == 1 {
            format!("<code>{part}</code>")
        } else {
            part.to_string()
        }
    });
    Value::from_safe_string(parts.collect())
}

fn delivery(delivery: &Delivery) -> Value {
    match delivery.sentence() {
        Ok(sentence) => context! { sentence, is_known => true },
        Err(sentence) => context! { sentence, is_known => false },
    }
}

/// The source of a policy that allows this text and no other.
fn digest(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

fn drawn(class: &str, timeline: &Timeline, width: f32) -> anyhow::Result<Value> {
    let svg = Value::from_safe_string(chart::stacked_bars(timeline, width)?);
    Ok(context! { class, svg, unit => timeline.unit() })
}

fn bins(timeline: &Timeline) -> Vec<Value> {
    let bins = timeline.bins.iter().filter(|bin| !bin.is_gap);
    bins.map(|bin| {
        context! {
            label => timeline.label(bin),
            sent => bin.sent,
            static => bin.static_assets,
            excluded => bin.excluded,
        }
    })
    .collect()
}

/// The outcomes that occur, each with its place in a bar of all rows.
fn shares(report: &Report) -> Vec<Value> {
    let mut before = 0;
    let outcomes = report.totals.outcomes().into_iter();
    outcomes
        .filter(|(_, rows)| *rows > 0)
        .map(|(name, rows)| {
            let start = format!("{:.2}%", share(before, report.totals.rows));
            before += rows;
            let width = format!("{:.2}%", share(rows, report.totals.rows));
            context! { name, rows, start, width }
        })
        .collect()
}

pub(super) fn percent(part: u64, whole: u64) -> String {
    match share(part, whole) {
        0.0 => "0%".to_owned(),
        share if share < 0.1 => "<0.1%".to_owned(),
        share => format!("{share:.1}%"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64 * 100.0
    }
}

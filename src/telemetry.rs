//! Log lines: JSON in Lambda, plain text at a terminal.
//!
//! `LOG_LEVEL` applies to edgetap's own lines. Lines of libraries pass only if they are WARN or
//! ERROR, and at `LOG_LEVEL=error` only if they are ERROR: at lower levels some libraries log
//! requests and responses, and with them secrets. Lines written by [`metrics`] pass at every level.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Scope};

/// The target of the lines that [`metrics`] writes.
const METRICS: &str = "edgetap::metrics";
/// The field of those lines that holds their members, as JSON text.
const MEMBERS: &str = "members";

/// Capacity for one line in bytes: enough for a line with every metric.
const LINE: usize = 2 << 10;

/// Names and units of the metrics, their namespace and dimension. Terraform reads the same file for
/// the dashboard and the alarms.
static METRIC_NAMES: LazyLock<MetricNames> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../terraform/modules/edgetap/metrics.json"))
        .unwrap_or_default()
});

#[derive(Default, Deserialize)]
struct MetricNames {
    namespace: String,
    dimension: String,
    metrics: HashMap<String, MetricUnit>,
}

#[derive(Deserialize)]
struct MetricUnit {
    unit: String,
}

/// Returns the subscriber for Lambda. A line is one JSON object with `timestamp` (RFC 3339),
/// `level`, `message`, the event's fields and those of the spans around it (`requestId` among
/// them).
pub fn json<W>(level: Level, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::registry().with(JsonLines { writer }.with_filter(own_lines(level)))
}

/// Returns the subscriber for a terminal: short lines on stderr, through `writer`. Colors are off if
/// stderr is not a terminal, with `NO_COLOR`, and with `TERM=dumb`.
pub fn terminal<W>(level: Level, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let colors = anstream::AutoStream::choice(&std::io::stderr());
    // Names of objects, which anybody may have chosen, must not drive the terminal.
    let fields = debug_fn(|writer, field, value| {
        let value = escape(&format!("{value:?}"));
        match field.name() {
            "message" => write!(writer, "{value}"),
            name => write!(writer, "{name}={value}"),
        }
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colors != anstream::ColorChoice::Never)
        .fmt_fields(fields.delimited(" "))
        .without_time()
        .with_target(false);
    // What keeps the AWS SDK from credentials is in the error of the call that needs them.
    let shown = filter_fn(move |metadata| {
        let is_sdk = metadata.target().starts_with("aws_");
        (!is_sdk || *metadata.level() == Level::ERROR) && is_logged(metadata, level)
    });
    tracing_subscriber::registry().with(lines.with_filter(shown))
}

/// Returns text with control characters as escapes.
fn escape(text: &str) -> String {
    let escaped = |c: char| {
        if is_control(c) {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    text.chars().map(escaped).collect()
}

/// Whether a character may move the cursor or the text around it: a control character, a separator
/// of lines or paragraphs, or one that sets the direction of text (Unicode's UAX #9).
pub fn is_control(c: char) -> bool {
    let is_bidi = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_bidi || matches!(c, '\u{2028}' | '\u{2029}')
}

fn own_lines(level: Level) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |metadata| is_logged(metadata, level))
}

fn is_logged(metadata: &Metadata<'_>, level: Level) -> bool {
    match metadata.target().split("::").next() {
        _ if metadata.target() == METRICS => true,
        Some("edgetap" | "bootstrap") => *metadata.level() <= level,
        // The runtime's spans carry the request ID; its events repeat edgetap's.
        _ if metadata.target().starts_with("lambda_runtime::layers") => metadata.is_span(),
        _ => *metadata.level() <= Level::WARN.min(level),
    }
}

/// A value in a line of metrics.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum MetricValue<'a> {
    Text(&'a str),
    Number(u64),
    /// Several values of one metric. An empty list is left out: CloudWatch rejects it.
    List(&'a [u64]),
}

/// Logs one line in CloudWatch's embedded metric format, at every `LOG_LEVEL`. Numbers and lists
/// whose names are in `terraform/modules/edgetap/metrics.json` become metrics.
pub fn metrics(level: Level, message: &str, values: &[(&'static str, MetricValue<'_>)]) {
    let (mut line, mut metrics) = (Members::with_capacity(), Vec::with_capacity(values.len()));
    for (name, value) in values {
        match value {
            MetricValue::List([]) => continue,
            MetricValue::Text(_) => {}
            MetricValue::Number(_) | MetricValue::List(_) => {
                metrics.extend(Metric::named(name));
            }
        }
        line.push(name, value);
    }
    line.push("_aws", EmbeddedMetrics::new(metrics));
    let members = String::from_utf8_lossy(&line.json);
    let members = &*members;
    match level {
        Level::ERROR => tracing::error!(target: METRICS, members, "{message}"),
        Level::WARN => tracing::warn!(target: METRICS, members, "{message}"),
        _ => tracing::info!(target: METRICS, members, "{message}"),
    }
}

struct JsonLines<W> {
    writer: W,
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut members = Members::default();
        attributes.record(&mut members);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(members);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Members::with_capacity();
        line.json.push(b'{');
        line.push("timestamp", format_args!("{:.3}", Timestamp::now()));
        line.push("level", metadata.level().as_str());
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(Scope::from_root)
        {
            if let Some(members) = span.extensions().get::<Members>() {
                line.json.extend_from_slice(&members.json);
            }
        }
        event.record(&mut line);
        if metadata.fields().field("message").is_none() {
            line.push("message", "");
        }
        if let Err(error) = self
            .writer
            .make_writer_for(metadata)
            .write_all(&line.into_line())
        {
            // The log itself is broken, so stderr is all that is left.
            eprintln!("failed to write a log line: {error}");
        }
    }
}

/// Fields as JSON members, each followed by a comma. They are written directly to avoid a map per
/// line. Duplicate names are not removed; edgetap's field names never collide with the runtime's.
#[derive(Default)]
struct Members {
    json: Vec<u8>,
}

impl Members {
    fn with_capacity() -> Self {
        Self {
            json: Vec::with_capacity(LINE),
        }
    }

    fn push(&mut self, name: &str, value: impl Serialize) {
        let before = self.json.len();
        if let Err(error) = self.write(name, value) {
            self.json.truncate(before);
            eprintln!("failed to write the field {name} of a log line: {error}");
        }
    }

    fn write(&mut self, name: &str, value: impl Serialize) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.json, name)?;
        self.json.push(b':');
        serde_json::to_writer(&mut self.json, &value)?;
        self.json.push(b',');
        Ok(())
    }

    fn into_line(mut self) -> Vec<u8> {
        self.json.pop_if(|byte| *byte == b',');
        self.json.extend_from_slice(b"}\n");
        self.json
    }
}

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field.name(), format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            MEMBERS => self.json.extend_from_slice(value.as_bytes()),
            name => self.push(name, value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), value);
    }
}

/// The `_aws` member of a line in embedded metric format (CloudWatch User Guide, "Embedded metric
/// format specification").
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EmbeddedMetrics {
    /// Milliseconds since the Unix epoch.
    timestamp: i64,
    cloud_watch_metrics: [MetricDirective; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MetricDirective {
    namespace: &'static str,
    dimensions: [[&'static str; 1]; 1],
    metrics: Vec<Metric>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

impl EmbeddedMetrics {
    fn new(metrics: Vec<Metric>) -> Self {
        let MetricNames {
            namespace,
            dimension,
            ..
        } = &*METRIC_NAMES;
        let directive = MetricDirective {
            namespace,
            dimensions: [[dimension]],
            metrics,
        };
        Self {
            timestamp: Timestamp::now().as_millisecond(),
            cloud_watch_metrics: [directive],
        }
    }
}

impl Metric {
    /// Returns the metric of this name, if `terraform/modules/edgetap/metrics.json` has it.
    fn named(name: &'static str) -> Option<Self> {
        let MetricUnit { unit } = METRIC_NAMES.metrics.get(name)?;
        Some(Self { name, unit })
    }
}

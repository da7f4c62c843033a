//! Log lines: JSON in Lambda, for people at a terminal.
//!
//! A line with the target [`METRICS`] is metrics too (CloudWatch embedded metric format), and is printed at every level.
//! Only edgetap's own lines follow `LOG_LEVEL`. What libraries say is let through from WARN on: at lower levels some of them
//! show requests and answers, and with them secrets.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The target of lines that are metrics.
pub const METRICS: &str = "edgetap::metrics";

/// The names and units of metrics, their namespace and dimension: one place for the code, the dashboard and the alarms.
static METRIC_NAMES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../terraform/metrics.json")).unwrap_or_default());

/// For Lambda: one JSON object a line, with `timestamp` (RFC 3339), `level`, `message`, the event's fields and those of the
/// spans around it, `requestId` among them.
pub fn json<W>(level: Level, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::registry().with(JsonLines { writer }.with_filter(own_lines(level)))
}

/// For a terminal: short lines on stderr.
pub fn terminal(level: Level) -> impl Subscriber + Send + Sync {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(own_lines(level)))
}

fn own_lines(level: Level) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |metadata| match metadata.target().split("::").next() {
        _ if metadata.target() == METRICS => true,
        Some("edgetap" | "bootstrap") => *metadata.level() <= level,
        // Its spans carry the request id; its lines say again what ours say.
        _ if metadata.target().starts_with("lambda_runtime::layers") => metadata.is_span(),
        _ => *metadata.level() <= Level::WARN.min(level),
    })
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
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), format!("{:.3}", Timestamp::now()).into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        let mut fields = Fields::default();
        event.record(&mut fields);
        line.insert("message".to_owned(), fields.0.remove("message").unwrap_or_else(|| "".into()));
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.extend(fields.0.clone());
            }
        }
        if event.metadata().target() == METRICS {
            line.insert("_aws".to_owned(), embedded_metrics(&mut fields.0));
        }
        line.extend(fields.0);
        let mut bytes = Value::Object(line).to_string().into_bytes();
        bytes.push(b'\n');
        if let Err(error) = self.writer.make_writer_for(event.metadata()).write_all(&bytes) {
            // There is nowhere else to say it.
            eprintln!("a log line could not be written: {error}");
        }
    }
}

/// The `_aws` member of a line in embedded metric format (CloudWatch User Guide, "Embedded metric format specification").
/// Fields that are metrics become numbers or lists of them; empty lists go.
fn embedded_metrics(fields: &mut Map<String, Value>) -> Value {
    let known = &METRIC_NAMES["metrics"];
    let mut metrics = Vec::new();
    fields.retain(|name, value| {
        let Some(unit) = known[name]["unit"].as_str() else { return true };
        if let Some(list) = value.as_str().and_then(|text| serde_json::from_str(text).ok()) {
            *value = list; // a list is recorded as its `Debug` text, which is JSON
        }
        let has_values = !value.as_array().is_some_and(Vec::is_empty);
        if has_values {
            metrics.push(json!({ "Name": name, "Unit": unit }));
        }
        has_values
    });
    json!({
        "Timestamp": Timestamp::now().as_millisecond(),
        "CloudWatchMetrics": [{ "Namespace": METRIC_NAMES["namespace"], "Dimensions": [[METRIC_NAMES["dimension"]]], "Metrics": metrics }],
    })
}

/// The fields of an event or a span, as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }
}

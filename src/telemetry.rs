//! Log lines: JSON in Lambda, for people at a terminal.
//!
//! A line with the target [`METRICS`] is metrics too (CloudWatch embedded metric format), and is printed at every level.
//! Only edgetap's own lines follow `LOG_LEVEL`. What libraries say is let through from WARN on: at lower levels some of them
//! show requests and answers, and with them secrets.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Scope};

/// The target of lines that are metrics.
pub const METRICS: &str = "edgetap::metrics";

/// The names and units of metrics, their namespace and dimension: one place for the code, the dashboard and the alarms.
static METRIC_NAMES: LazyLock<MetricNames> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../terraform/metrics.json")).unwrap_or_default()
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

/// As long is a line with all metrics, in bytes.
const LINE: usize = 2 << 10;

/// For Lambda: one JSON object a line, with `timestamp` (RFC 3339), `level`, `message`, the event's fields and those of the
/// spans around it, `requestId` among them.
pub fn json<W>(level: Level, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::registry().with(JsonLines { writer }.with_filter(own_lines(level)))
}

/// For a terminal: short lines on stderr, through `writer`. Colors are off where stderr is not a terminal, with
/// `NO_COLOR`, and with `TERM=dumb`.
pub fn terminal<W>(level: Level, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let colors = anstream::AutoStream::choice(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colors != anstream::ColorChoice::Never)
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
        let mut members = Members::default();
        attributes.record(&mut members);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(members);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Members {
            json: Vec::with_capacity(LINE),
            metrics: (metadata.target() == METRICS).then(Vec::new),
        };
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
        if let Some(metrics) = line.metrics.take() {
            line.push("_aws", EmbeddedMetrics::new(metrics));
        }
        if let Err(error) = self
            .writer
            .make_writer_for(metadata)
            .write_all(&line.into_line())
        {
            // There is nowhere else to say it.
            eprintln!("a log line could not be written: {error}");
        }
    }
}

/// The fields of an event or a span as members of a JSON object, each with a comma behind it: written where they are met, since there is
/// a line for every object, however small. What is met twice stands there twice: the fields of edgetap's events have other names than those
/// of the runtime's span, `requestId` and such, and than what a line has anyway.
#[derive(Default)]
struct Members {
    json: Vec<u8>,
    /// In a line that is metrics: those that it has.
    metrics: Option<Vec<Metric>>,
}

/// A metric's name and unit.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

impl Members {
    fn push(&mut self, name: &str, value: impl Serialize) {
        let before = self.json.len();
        if let Err(error) = self.write(name, value) {
            self.json.truncate(before);
            eprintln!("a field of a log line could not be written: {name}: {error}");
        }
    }

    fn write(&mut self, name: &str, value: impl Serialize) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.json, name)?;
        self.json.push(b':');
        serde_json::to_writer(&mut self.json, &value)?;
        self.json.push(b',');
        Ok(())
    }

    /// A field that may be a metric.
    fn push_measured(&mut self, field: &Field, value: impl Serialize) {
        if let (Some(metrics), Some(unit)) = (&mut self.metrics, unit(field)) {
            metrics.push(Metric {
                name: field.name(),
                unit,
            });
        }
        self.push(field.name(), value);
    }

    fn into_line(mut self) -> Vec<u8> {
        self.json.pop_if(|byte| *byte == b',');
        self.json.extend_from_slice(b"}\n");
        self.json
    }
}

fn unit(field: &Field) -> Option<&'static str> {
    METRIC_NAMES
        .metrics
        .get(field.name())
        .map(|metric| metric.unit.as_str())
}

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.metrics.is_some() && unit(field).is_some() {
            // A list is recorded as its `Debug` text, which is JSON. CloudWatch takes no empty one.
            match serde_json::from_str::<Vec<Number>>(&format!("{value:?}")) {
                Ok(list) if list.is_empty() => return,
                Ok(list) => return self.push_measured(field, list),
                Err(_) => {} // some other text
            }
        }
        self.push(field.name(), format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_measured(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push_measured(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push_measured(field, value);
    }
}

/// The `_aws` member of a line in embedded metric format (CloudWatch User Guide, "Embedded metric format specification").
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

//! `edgetap demo`: sample logs → the real pipeline → a local bridge.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use comfy_table::CellAlignment;
use edgetap::batch::Counts;
use edgetap::bridge::{Attempt, Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::encode::Encoding;
use edgetap::ingest::ingest;
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{LocalBridge, Options};
use edgetap::pipeline::{Batches, Rules};
use edgetap::retry::Backoff;
use edgetap::source::Opened;
use edgetap::token::{AuthMethod, TokenParameters};

use crate::output::stdout;
use crate::show::{self, count};
use crate::{Failure, output, report};

/// A log of the repository's fixtures, built into the program.
struct Sample {
    about: &'static str,
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! sample {
    ($about:literal, $name:literal) => {
        Sample {
            about: $about,
            name: $name,
            bytes: include_bytes!(concat!("../../../tests/fixtures/logs/", $name)),
        }
    };
}

impl Sample {
    fn opened(&self) -> Opened {
        Opened {
            is_parquet: false,
            is_in_memory: true,
            object: ObjectRef::local(self.name),
            replaced: false,
            size: Some(self.bytes.len() as u64),
            modified: None,
            bytes: Box::new(self.bytes),
        }
    }
}

/// The last one has attacks, of which the first is also shown as JSON.
const SAMPLES: [Sample; 4] = [
    sample!("shop and API", "E27FO14I29XXXX.2026-11-14-20.d740d76b.gz"),
    sample!(
        "selected fields",
        "E3FIELDSUBSETX.2026-11-14-21.0a1b2c3d.gz"
    ),
    sample!("JSON", "E4JSONFIELDSXX.2026-11-14-21.5f6e7d8c.gz"),
    sample!("attacks", "attack-fidelity.log"),
];

/// Transactions shown of each log; every second one, because two neighbors are alike.
const SHOWN: usize = 2;

pub(crate) async fn run() -> Result<(), Failure> {
    let options = Options::default();
    let credentials = Credentials::new(options.client_id.clone(), options.client_secret.clone());
    let local = LocalBridge::start((Ipv4Addr::LOCALHOST, 0).into(), options).await?;
    let endpoints = Endpoints {
        edge: local.edge_url().parse()?,
        token: local.token_url().parse()?,
        method: AuthMethod::default(),
        parameters: TokenParameters::default(),
        bridge_ca: None,
    };
    let bridge = Bridge::new(
        endpoints,
        CredentialsSource::Variables(credentials),
        Backoff::default(),
        4,
    )?;
    let mut stdout = stdout();
    writeln!(
        stdout,
        "Reading {} sample CloudFront logs and sending their requests to a local bridge:",
        SAMPLES.len()
    )?;

    let rules = Arc::new(Rules::default());
    let mut counts = Vec::new();
    for Sample { about, name, bytes } in SAMPLES {
        let job = Job::all(ObjectRef::local(name));
        let outcome = ingest(&job, bytes, &rules, &bridge, Attempt::ONLY).await;
        if let Some(why) = outcome.why() {
            return Err(anyhow::anyhow!("{name}: not all rows were delivered: {why}").into());
        }
        counts.push((about, outcome.summary.counts));
    }
    writeln!(stdout, "{}\n", table(&counts).trim_fmt())?;
    let report = report::of(SAMPLES.iter().map(Sample::opened), &rules);
    let (masked, names) = report.masked();
    writeln!(
        stdout,
        "Static: requests for images, scripts, styles and fonts; edgetap drops them.\n\
         Malformed: a row without a method and one that is not JSON, on purpose.\n\
         Masked: credentials in the URLs of {} ({}).\n",
        count(masked, "transaction", "transactions"),
        names.join(", ")
    )?;

    let (tally, received) = (local.tally(), local.received());
    writeln!(
        stdout,
        "The bridge received {} in {}, using {}. A sample:\n",
        count(tally.transactions, "transaction", "transactions"),
        count(tally.requests, "request", "requests"),
        count(tally.tokens, "OAuth token", "OAuth tokens"),
    )?;
    let width = show::width();
    for batch in &received {
        for transaction in batch.transactions.iter().step_by(2).take(SHOWN) {
            let line = show::transaction(transaction, width.saturating_sub(2));
            writeln!(stdout, "  {line}")?;
        }
    }
    if let Some(transaction) = SAMPLES.last().and_then(first_as_json) {
        writeln!(
            stdout,
            "\nOne of them as JSON, as `edgetap replay` prints it:\n\n{}",
            show::json(&transaction, width)
        )?;
    }
    // A file of its own, because the demo must not replace one and not fill the current directory.
    let page = report::write_temporary(&report).context("cannot write the report")?;
    writeln!(
        stdout,
        "\nA report on these logs, to open in a browser:\n  {}\n\n\
         Next, your own logs, without sending anything:\n  \
         edgetap report LOG.gz --html report.html",
        show::escaped(&page.display().to_string())
    )?;
    let sent: u64 = counts.iter().map(|(_, counts)| counts.sent).sum();
    if tally.transactions != sent {
        output::error(format_args!(
            "edgetap sent {}, but the bridge received {}",
            count(sent, "transaction", "transactions"),
            tally.transactions
        ));
        return Err(Failure::Incomplete);
    }
    Ok(())
}

/// The counts that differ from zero in the samples, one row per log.
fn table(logs: &[(&str, Counts)]) -> comfy_table::Table {
    let mut table = show::table(&["LOG", "ROWS", "SENT", "STATIC", "MALFORMED"]);
    for (about, counts) in logs {
        let numbers = [
            counts.rows,
            counts.sent,
            counts.static_assets,
            counts.malformed,
        ];
        let numbers = numbers.map(|number| number.to_string());
        table.add_row(std::iter::once((*about).to_owned()).chain(numbers));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The first transaction of a log in edgetap's own JSON.
fn first_as_json(sample: &Sample) -> Option<Vec<u8>> {
    let job = Job::all(ObjectRef::local(sample.name));
    let rules = Rules {
        encoding: Encoding::Ndjson,
        ..Rules::default()
    };
    let batch = Batches::new(&job, sample.bytes, Arc::new(rules))
        .next()?
        .ok()?;
    let end = memchr::memchr(b'\n', &batch.body)?;
    Some(batch.body[..end].to_vec())
}

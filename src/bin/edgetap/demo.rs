//! `edgetap demo`: sample logs → the real pipeline → an embedded bridge.

use std::net::Ipv4Addr;
use std::sync::Arc;

use edgetap::bridge::{Bridge, Endpoints};
use edgetap::credentials::{Credentials, CredentialsSource};
use edgetap::ingest::{Outcome, ingest};
use edgetap::job::{Job, ObjectRef};
use edgetap::local_bridge::{LocalBridge, Options};
use edgetap::pipeline::Rules;
use edgetap::retry::{Backoff, Deadline};
use edgetap::token::AuthMethod;

use crate::{Failure, show};

macro_rules! sample {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../tests/fixtures/logs/", $name)),
        )
    };
}

const SAMPLES: [(&str, &[u8]); 3] = [
    sample!("E27FO14I29XXXX.2026-11-14-20.d740d76b.gz"),
    sample!("E3FIELDSUBSETX.2026-11-14-21.0a1b2c3d.gz"),
    sample!("attack-fidelity.log"),
];

/// Of the transactions that arrived so many of each log are shown.
const SHOWN: usize = 4;

pub(crate) async fn run() -> Result<(), Failure> {
    let options = Options::default();
    let credentials = Credentials::new(options.client_id.clone(), options.client_secret.clone());
    let local = LocalBridge::start((Ipv4Addr::LOCALHOST, 0).into(), options).await?;
    let endpoints = Endpoints {
        edge: local.edge_url().parse()?,
        token: local.token_url().parse()?,
        method: AuthMethod::default(),
        bridge_ca: None,
    };
    let bridge = Bridge::new(
        endpoints,
        CredentialsSource::Variables(credentials),
        Backoff::default(),
    )?;
    println!(
        "CloudFront access logs → edgetap → {} (an embedded bridge, with OAuth 2.0 client credentials)\n",
        local.edge_url()
    );

    let rules = Arc::new(Rules::default());
    let session = bridge.session(Deadline::NEVER);
    let mut counts = Vec::new();
    for (name, bytes) in SAMPLES {
        let job = Job::all(ObjectRef::local(name));
        match ingest(&job, bytes, &rules, &session, 4).await {
            Outcome::Complete(summary) => counts.push((name, summary.counts)),
            Outcome::Partial { from_row, why, .. } => {
                return Err(anyhow::anyhow!(
                    "{name} was not delivered from row {from_row} on: {why}"
                )
                .into());
            }
        }
    }
    println!("{}\n", show::counts(counts.iter().copied()));

    let (tally, received) = (local.tally(), local.received());
    println!(
        "What arrived: {} transactions in {} posts, with {} token. Some of them:",
        tally.transactions, tally.posts, tally.tokens
    );
    for batch in &received {
        println!();
        for transaction in batch.transactions.iter().take(SHOWN) {
            println!("  {}", show::transaction(transaction));
        }
    }
    println!("\nNext: your own logs, as a dry run:  cargo run --release -- replay LOG.gz");
    let sent: u64 = counts.iter().map(|(_, counts)| counts.sent).sum();
    if tally.transactions == sent {
        Ok(())
    } else {
        Err(anyhow::anyhow!(
            "{sent} transactions were sent, but {} arrived",
            tally.transactions
        )
        .into())
    }
}

//! `edgetap bridge`: the embedded bridge by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use edgetap::local_bridge::{Endpoint, LocalBridge, Options, Reaction, Received};
use jiff::SignedDuration;

use crate::{Failure, show};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Listen here; loopback only.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// The OAuth client it knows.
    #[arg(long, value_name = "ID", default_value = "demo")]
    client_id: String,
    /// That client's secret [default: a random one, shown at the start].
    #[arg(long, value_name = "SECRET")]
    client_secret: Option<String>,
    /// Answer posts with this status instead of accepting them.
    #[arg(long, value_name = "STATUS", value_parser = RangedU64ValueParser::<u16>::new().range(200..=599))]
    status: Option<u16>,
    /// Accept posts, but hang up instead of answering.
    #[arg(long, alias = "drop-answers", conflicts_with = "status")]
    drop_responses: bool,
    /// Misbehave at every Nth post only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Take so long to answer, e.g. 200ms.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    delay: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let time: SignedDuration = text
        .parse()
        .map_err(|_| "not a time such as 200ms or 2s".to_owned())?;
    Duration::try_from(time).map_err(|_| "a time cannot be negative".to_owned())
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut options = Options {
        client_id: args.client_id,
        delay: args.delay,
        watch: Some(Arc::new(print)),
        ..Options::default()
    };
    if let Some(secret) = args.client_secret {
        options.client_secret = secret;
    }
    let misbehaviour = match args.status {
        Some(status) => Reaction::status(status),
        None if args.drop_responses => Reaction::NormalThenHangUp,
        None => Reaction::Normal,
    };
    options.react = Arc::new(move |arrival| {
        let due = arrival.endpoint == Endpoint::Edge && arrival.number % args.every == 0;
        if due {
            misbehaviour.clone()
        } else {
            Reaction::Normal
        }
    });
    let (id, secret) = (options.client_id.clone(), options.client_secret.clone());
    let bridge = LocalBridge::start(args.listen, options).await?;
    println!("listening until Ctrl-C; settings for edgetap:\n");
    println!(
        "BRIDGE_AUTH_ENDPOINT={}\nBRIDGE_EDGE_ENDPOINT={}",
        bridge.token_url(),
        bridge.edge_url()
    );
    println!("BRIDGE_CLIENT_ID={id}\nBRIDGE_CLIENT_SECRET={secret}\n");
    tokio::signal::ctrl_c().await?;
    let tally = bridge.tally();
    println!(
        "\n{} posts, {} transactions accepted, {} batches repeated, {} posts not in the wire format, {} tokens given",
        tally.posts, tally.transactions, tally.repeated, tally.invalid, tally.tokens
    );
    Ok(())
}

fn print(batch: &Received) {
    let Received {
        key,
        body,
        transactions,
        repeated,
    } = batch;
    let again = if *repeated { ", again" } else { "" };
    println!(
        "{} transactions, {} bytes, key {}…{again}",
        transactions.len(),
        body.len(),
        key.get(..12).unwrap_or(key)
    );
    for transaction in transactions {
        println!("  {}", show::transaction(transaction));
    }
}

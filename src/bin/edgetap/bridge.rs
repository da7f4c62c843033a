//! `edgetap bridge`: the local bridge on its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use clap::builder::RangedU64ValueParser;
use edgetap::local_bridge::{Endpoint, LocalBridge, Options, Reaction, Received, decode};
use hyper::StatusCode;
use indicatif::HumanCount;
use tokio::sync::mpsc;

use crate::Failure;
use crate::output::{Hinted, StdoutError, stdout};
use crate::show::{self, count, duration};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Listen on this loopback address; port 0 picks a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8787", value_parser = loopback)]
    listen: SocketAddr,
    /// ID of the OAuth client to accept.
    #[arg(long, value_name = "ID", default_value = "demo")]
    client_id: String,
    /// Secret of that client [default: random, printed at startup].
    #[arg(long, value_name = "SECRET")]
    client_secret: Option<String>,
    /// Respond to transactions with this status, and accept them only if it is a success (2xx, not 207).
    #[arg(long, value_name = "STATUS", value_parser = RangedU64ValueParser::<u16>::new().range(200..=599))]
    status: Option<u16>,
    /// Accept transactions, but close the connection instead of responding.
    #[arg(long, alias = "drop-answers", conflicts_with = "status")]
    drop_responses: bool,
    /// Apply --status or --drop-responses only to every Nth request.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Delay each response to transactions by this long, e.g. 200ms.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    delay: Duration,
    /// Print totals only, not the transactions.
    #[arg(long, short)]
    quiet: bool,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected an address and a port such as 127.0.0.1:8787".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the local bridge must listen on a loopback address (127.0.0.1 or [::1])".to_owned())
    }
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let (failed, mut failures) = mpsc::unbounded_channel();
    let is_quiet = args.quiet;
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counter = accepted.clone();
    let report = move |written: Result<(), StdoutError>| {
        if let Err(error) = written {
            _ = failed.send(error);
        }
    };
    let report_refused = report.clone();
    let watch = move |batch: &Received| {
        counter.fetch_add(1, Ordering::Relaxed);
        if !is_quiet {
            report(print(batch));
        }
    };
    let mut options = Options {
        client_id: args.client_id,
        delay: args.delay,
        watch: Some(Arc::new(watch)),
        ..Options::default()
    };
    if let Some(secret) = args.client_secret {
        options.client_secret = secret;
    }
    let fault = match args.status {
        Some(status @ (200..=206 | 208..=299)) => Reaction::NormalAs(StatusCode::from_u16(status)?),
        Some(status) => Reaction::status(status),
        None if args.drop_responses => Reaction::NormalThenHangUp,
        None => Reaction::Normal,
    };
    let counter = refused.clone();
    options.react = Arc::new(move |arrival| {
        if arrival.endpoint != Endpoint::Edge || !arrival.number.is_multiple_of(args.every) {
            return Reaction::Normal;
        }
        if let Reaction::Respond { status, .. } = fault {
            counter.fetch_add(1, Ordering::Relaxed);
            if !is_quiet {
                report_refused(print_refused(status, arrival.body));
            }
        }
        fault.clone()
    });
    let (id, secret) = (options.client_id.clone(), options.client_secret.clone());
    let bridge = LocalBridge::start(args.listen, options)
        .await
        .map_err(|error| cannot_listen(args.listen, &error))?;
    writeln!(
        stdout(),
        "Listening until Ctrl-C. Settings for edgetap:\n\n\
         BRIDGE_AUTH_ENDPOINT={}\nBRIDGE_EDGE_ENDPOINT={}\n\
         BRIDGE_CLIENT_ID={id}\nBRIDGE_CLIENT_SECRET={secret}\n",
        bridge.token_url(),
        bridge.edge_url()
    )?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        Some(error) = failures.recv() => return Err(error.into()),
    }
    let tally = bridge.tally();
    let refused = match (args.status, refused.load(Ordering::Relaxed)) {
        (Some(status), refused @ 1..) => format!(", {} answered {status}", HumanCount(refused)),
        _ => String::new(),
    };
    writeln!(
        stdout(),
        "\n{}: {} accepted{refused}, {} not in the wire format\n\
         {} accepted; {} received twice, with the same ids\n\
         {} issued",
        count(tally.requests, "request", "requests"),
        HumanCount(accepted.load(Ordering::Relaxed)),
        HumanCount(tally.invalid),
        count(tally.transactions, "transaction", "transactions"),
        count(tally.repeated, "request", "requests"),
        count(tally.tokens, "token", "tokens"),
    )?;
    Ok(())
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let message = format!("cannot listen on {address}: {error}");
    if error.kind() != io::ErrorKind::AddrInUse {
        return anyhow!(message);
    }
    let hint = "choose another address with --listen, e.g. --listen 127.0.0.1:0 for a free port";
    let hint = hint.to_owned();
    Hinted { message, hint }.into()
}

/// Prints what was refused.
fn print_refused(status: u16, body: &[u8]) -> Result<(), StdoutError> {
    let what = match decode(body) {
        Ok(transactions) => count(transactions.len() as u64, "transaction", "transactions"),
        Err(_) => "a request that is not in the wire format".to_owned(),
    };
    writeln!(stdout(), "responded {status} to {what}")
}

/// Prints a batch in one piece, because requests arrive concurrently.
fn print(batch: &Received) -> Result<(), StdoutError> {
    let Received {
        key,
        body,
        transactions,
        repeated,
    } = batch;
    let mut text = format!(
        "{}, {}, key {}…{}",
        count(transactions.len() as u64, "transaction", "transactions"),
        count(body.len() as u64, "byte", "bytes"),
        key.get(..12).unwrap_or(key),
        if *repeated { ", repeated" } else { "" }
    );
    let width = show::width().saturating_sub(2);
    for transaction in transactions {
        text.push_str("\n  ");
        text.push_str(&show::transaction(transaction, width));
    }
    writeln!(stdout(), "{text}")
}

//! edgetap on the command line: one file per command.

#![recursion_limit = "256"] // the layout of one future, from a command down to the SDK
#![deny(clippy::print_stdout, clippy::print_stderr)] // they panic on a closed pipe: see output.rs

mod backfill;
mod bridge;
mod certificates;
mod check;
mod demo;
mod explain;
mod find;
mod inputs;
mod output;
mod replay;
mod report;
mod show;
mod tee;
mod times;
mod verdict;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use edgetap::config::{
    BridgeConfig, CredentialsConfig, Problem, Problems, Variables, https_proxy, log_level, network,
};
use edgetap::credentials::CredentialsSource;
use edgetap::retry::Backoff;
use edgetap::tls::Roots;
use edgetap::{aws, telemetry};

use crate::output::{Hinted, LogWriter, StdoutError};

const EXIT_STATUSES: &str = "\
Exit status:
  0  success
  1  the command failed: some input was not read or delivered, a check failed, an address
     could not be used, or the output could not be written (including a pipe whose reader has
     closed it, as in `edgetap replay LOG | head`)
  2  usage or configuration error
130  interrupted by Ctrl-C";

/// Sends Amazon CloudFront access logs as HTTP transactions to an API-security platform (the bridge).
///
/// Settings come from environment variables or a `.env` file; README lists them.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_STATUSES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Read settings from FILE; environment variables take precedence [default: `.env`, if present].
    #[arg(long, global = true, value_name = "FILE", display_order = 100)]
    env_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the built-in sample logs through edgetap and a local bridge; no configuration needed.
    Demo,
    /// Process logs: print the transactions (dry run) or, with --post, deliver them to the bridge.
    Replay(replay::Args),
    /// Report what logs hold and what edgetap does with it; with --html, also as a page.
    Report(report::Args),
    /// Explain how edgetap handles one row: whether it is sent, its fields, and where they go.
    Explain(explain::Args),
    /// Find a request in logs by its ID (X-Amz-Cf-Id): where it is, and whether it is sent.
    Find(find::Args),
    /// Send logs that are in a bucket already: notify the function of each, through a queue of their own.
    Backfill(backfill::Args),
    /// Check settings, token, TLS connections and paths; with --send, also post one test transaction.
    Check(check::Args),
    /// Run a local bridge, to try edgetap without a tenant.
    Bridge(bridge::Args),
}

/// Why a command did not succeed.
enum Failure {
    /// Some input was not read or delivered, which was reported; or the reader of the output left.
    Incomplete,
    /// Ctrl-C, after which the command ended in an orderly way.
    Interrupted,
    /// The configuration is invalid.
    Configuration(Problems),
    Error(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into().downcast::<Problems>() {
            Ok(problems) => Self::Configuration(problems),
            Err(error)
                if error
                    .downcast_ref()
                    .is_some_and(StdoutError::is_closed_pipe) =>
            {
                Self::Incomplete
            }
            Err(error) => Self::Error(error),
        }
    }
}

impl Failure {
    /// Reports the failure, and returns the exit status.
    fn report(&self) -> i32 {
        match self {
            Self::Incomplete => 1,
            Self::Interrupted => 130, // 128 + SIGINT
            Self::Configuration(Problems(problems)) => {
                for Problem { message, hint } in problems {
                    output::error(message);
                    hint.iter().for_each(output::hint);
                }
                if problems.len() > 1 {
                    let number = problems.len();
                    output::error(format_args!("the configuration has {number} problems"));
                }
                2
            }
            Self::Error(error) => {
                match error.downcast_ref() {
                    Some(failed) => output::write_error(failed),
                    None => output::error(format_args!("{error:#}")),
                }
                if let Some(Hinted { hint, .. }) = error.downcast_ref() {
                    output::hint(hint);
                }
                let hint = inputs::aws_hint(&format!("{error:#}"));
                hint.iter().for_each(output::hint);
                1
            }
        }
    }
}

#[tokio::main]
async fn main() {
    let ended = match Cli::try_parse() {
        Ok(cli) => run(cli).await,
        // Also `--help` and `--version`, which go to standard output.
        Err(usage) => match usage.print() {
            Err(error) if !usage.use_stderr() => Err(StdoutError(error).into()),
            _ => std::process::exit(usage.exit_code()),
        },
    };
    let status = ended.map_or_else(|failure| failure.report(), |()| 0);
    // Exit explicitly: returning would wait for a blocking thread that is still reading stdin.
    std::process::exit(status);
}

async fn run(Cli { command, env_file }: Cli) -> Result<(), Failure> {
    let (variables, level) = match command {
        // Both work without settings, and a wrong one must not stop them.
        Command::Bridge(_) => (Variables::default(), None),
        // One sample has a malformed row, which `demo` explains: a WARN would look like a failure.
        Command::Demo => (Variables::default(), Some(tracing::Level::ERROR)),
        _ => (read_variables(env_file.as_deref()), None),
    };
    let level = level.unwrap_or_else(|| log_level(&variables));
    tracing::subscriber::set_global_default(telemetry::terminal(level, || LogWriter))?;
    match command {
        Command::Demo => demo::run().await,
        Command::Replay(args) => replay::run(args, env_file.as_deref(), &variables).await,
        Command::Report(args) => report::run(args, &variables).await,
        Command::Explain(args) => explain::run(args, &variables).await,
        Command::Find(args) => find::run(args, &variables).await,
        Command::Backfill(args) => backfill::run(args).await,
        Command::Check(args) => check::run(&args, &variables).await,
        Command::Bridge(args) => bridge::run(args).await,
    }
}

/// An error of the command line that clap cannot know, with what to do. The exit status is 2.
fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure::Configuration(Problems(vec![Problem {
        message: message.into(),
        hint: Some(hint.into()),
    }]))
}

fn read_variables(env_file: Option<&Path>) -> Variables {
    match env_file {
        Some(file) => Variables::from_environment_and_file(file),
        None => Variables::from_environment_and_default_file(),
    }
}

/// The configuration of the AWS clients.
async fn for_aws() -> anyhow::Result<aws::SdkConfig> {
    Ok(aws::sdk_config(network(Roots::PublicAndMachine)?).await?)
}

/// The client of the configured bridge.
async fn connect(config: BridgeConfig) -> Result<edgetap::bridge::Bridge, Failure> {
    let credentials = match config.credentials {
        CredentialsConfig::Given(credentials) => {
            https_proxy()?; // the client of the bridge ignores a problem
            CredentialsSource::Variables(credentials)
        }
        CredentialsConfig::Arn(arn) => CredentialsSource::secrets_manager(&for_aws().await?, arn),
    };
    Ok(edgetap::bridge::Bridge::new(
        config.endpoints,
        credentials,
        Backoff::default(),
        config.concurrency,
    )?)
}

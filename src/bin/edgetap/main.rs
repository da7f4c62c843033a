//! edgetap on the command line: one file a verb.

#![recursion_limit = "256"] // the layout of one future, from the verb down to the SDK

mod bridge;
mod check;
mod demo;
mod explain;
mod replay;
mod show;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use edgetap::config::{BridgeConfig, CredentialsConfig, Problems, Variables, log_level};
use edgetap::credentials::CredentialsSource;
use edgetap::retry::Backoff;
use edgetap::{aws, telemetry};

/// A passive tap for Amazon CloudFront: access logs become HTTP transactions at an API-protection bridge.
///
/// Settings are variables (README lists them), from the environment or from a .env file. Exit status: 0 when all went well,
/// 1 when something was not, 2 for usage and configuration.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Read settings from this file, below those of the environment [default: .env, where there is one].
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Watch sample logs become transactions at an embedded bridge; needs nothing.
    Demo,
    /// Run logs through the pipeline: a dry run to stdout, or to the configured bridge with --post.
    Replay(replay::Args),
    /// Show what becomes of one row of a log: each field, what it is decoded to, where it goes, and why it is sent or not.
    Explain(explain::Args),
    /// Check the configuration: token, TLS and certificates of the bridge; with --send a transaction, too.
    Check(check::Args),
    /// Run the embedded bridge by itself, to try things without a tenant.
    Bridge(bridge::Args),
}

/// How a verb ended, when not well.
enum Failure {
    /// Something could not be read or delivered, and was said.
    Incomplete,
    /// It could not even begin.
    Usage(anyhow::Error),
    /// Anything else.
    Error(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        if error.is::<Problems>() {
            Self::Usage(error)
        } else {
            Self::Error(error)
        }
    }
}

#[tokio::main]
async fn main() {
    let Cli { verb, env_file } = Cli::parse();
    let status = match run(verb, env_file).await {
        Ok(()) => 0,
        Err(Failure::Incomplete) => 1,
        Err(Failure::Error(error)) => {
            eprintln!("edgetap: {error:#}");
            1
        }
        Err(Failure::Usage(error)) => {
            match error.downcast_ref::<Problems>() {
                Some(Problems(problems)) => problems
                    .iter()
                    .for_each(|problem| eprintln!("edgetap: {} {}", problem.name, problem.what)),
                None => eprintln!("edgetap: {error:#}"),
            }
            2
        }
    };
    // Not by returning: a thread that still waits for input would be waited for.
    std::process::exit(status);
}

async fn run(verb: Verb, env_file: Option<PathBuf>) -> Result<(), Failure> {
    let variables = || match &env_file {
        Some(file) => Variables::from_environment_and_file(file),
        None if Path::new(".env").exists() => {
            Variables::from_environment_and_file(Path::new(".env"))
        }
        None => Variables::from_environment(),
    };
    // These two work without any setting, and are not disturbed by one that is wrong.
    let variables = if matches!(verb, Verb::Demo | Verb::Bridge(_)) {
        Variables::default()
    } else {
        variables()?
    };
    tracing::subscriber::set_global_default(telemetry::terminal(log_level(&variables)))?;
    match verb {
        Verb::Demo => demo::run().await,
        Verb::Replay(args) => replay::run(args, &variables).await,
        Verb::Explain(args) => explain::run(&args, &variables),
        Verb::Check(args) => check::run(&args, &variables).await,
        Verb::Bridge(args) => bridge::run(args).await,
    }
}

/// The client of the configured bridge.
async fn connect(config: BridgeConfig) -> Result<edgetap::bridge::Bridge, Failure> {
    let secret = match config.secret {
        CredentialsConfig::Given(credentials) => CredentialsSource::Variables(credentials),
        CredentialsConfig::Arn(arn) => {
            CredentialsSource::secrets_manager(&aws::sdk_config().await, arn)
        }
    };
    Ok(edgetap::bridge::Bridge::new(
        config.endpoints,
        secret,
        Backoff::default(),
    )?)
}

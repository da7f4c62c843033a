//! The Lambda function: passes each event to [`Function::handle`].
//!
//! Startup reads the configuration, without network access, and polls for events. An invalid
//! configuration does not crash the process, because each crash would add to the receive count of a
//! message. The function logs the problems at every event and fails every message, so that SQS
//! redelivers it.

#![recursion_limit = "256"] // the layout of one future, from the event down to the SDK

use std::io::{self, Write as _};
use std::process;
use std::sync::Arc;

use edgetap::aws::sdk_config;
use edgetap::bridge::Bridge;
use edgetap::config::{
    BridgeConfig, Config, CredentialsConfig, Problems, Variables, log_level, network,
};
use edgetap::cpu;
use edgetap::credentials::CredentialsSource;
use edgetap::invocation::{Context, Function, deadline, fail_all};
use edgetap::retry::Backoff;
use edgetap::source::S3;
use edgetap::telemetry;
use edgetap::tls::{Roots, TlsError};
use edgetap::work_queue::WorkQueue;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::sync::OnceCell;

/// Nothing else may run on a CPU that lacks instructions of the program.
fn main() -> Result<(), Error> {
    if let Some(complaint) = cpu::complaint() {
        io::stdout().write_all(complaint.as_bytes())?;
        process::exit(1);
    }
    run()
}

#[tokio::main(flavor = "current_thread")]
async fn run() -> Result<(), Error> {
    let variables = Variables::from_environment();
    let level = log_level(&variables);
    tracing::subscriber::set_global_default(telemetry::json(level, std::io::stdout))?;
    let config = Config::read(&variables);
    // Made at the first event, whose result says what is wrong with it.
    let made = OnceCell::new();
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let response = match made.get_or_init(|| function(config.clone())).await {
            Ok(function) => {
                function
                    .handle(
                        event.payload,
                        &Context {
                            deadline: deadline(event.context.deadline),
                            trace: event.context.xray_trace_id,
                            function: event.context.env_config.function_name.clone(),
                        },
                    )
                    .await
            }
            Err(problems) => {
                let function = &event.context.env_config.function_name;
                fail_all(event.payload, problems, function)
            }
        };
        response.map_err(|error| Diagnostic {
            error_type: "edgetap".to_owned(),
            error_message: error.to_string(),
        })
    }))
    .await
}

/// Creates the function, or returns the problems of the configuration as text.
async fn function(config: Result<Config, Problems>) -> Result<Function, String> {
    let config = config.map_err(|problems| problems.to_string())?;
    let network = network(Roots::Public).map_err(|problems| problems.to_string())?;
    let sdk = sdk_config(network).await.map_err(cannot_set_up_tls)?;
    let BridgeConfig {
        endpoints,
        credentials,
        concurrency,
    } = config.bridge;
    let credentials = match credentials {
        CredentialsConfig::Given(credentials) => CredentialsSource::Variables(credentials),
        CredentialsConfig::Arn(arn) => CredentialsSource::secrets_manager(&sdk, arn),
    };
    let backoff = Backoff::default();
    let bridge =
        Bridge::new(endpoints, credentials, backoff, concurrency).map_err(cannot_set_up_tls)?;
    Ok(Function::new(
        S3::new(&sdk, backoff),
        Arc::new(config.rules),
        bridge,
        WorkQueue::new(&sdk),
        config.retry_for,
    ))
}

fn cannot_set_up_tls(error: TlsError) -> String {
    format!("cannot set up TLS: {error}")
}

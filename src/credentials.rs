//! Where the *credentials* come from: AWS Secrets Manager, or variables.

use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use secrecy::SecretString;
use serde_json::Value;
use thiserror::Error;

use crate::redact::Key;
use crate::retry::causes;

/// Who we are to the token endpoint, and whom the operator trusts to be the bridge.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub client_id: String,
    pub client_secret: SecretString,
    /// Certificates to trust for the bridge's host, PEM.
    pub bridge_ca: Option<String>,
    pub redaction_key: Option<Key>,
}

impl Credentials {
    /// Those of an OAuth client, and nothing beside.
    pub fn new(client_id: impl Into<String>, client_secret: impl Into<SecretString>) -> Self {
        Self {
            client_id: client_id.into(),
            client_secret: client_secret.into(),
            bridge_ca: None,
            redaction_key: None,
        }
    }
}

/// Why the secret cannot be had. The text names the secret and its keys, never a value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CredentialsError {
    /// Secrets Manager could not be reached or asked to wait.
    #[error("secret {arn} cannot be read for now: {reason}")]
    Unavailable { arn: String, reason: String },
    #[error(
        "secret {arn} cannot be read: {reason}: check BRIDGE_SECRET_ARN and the role's secretsmanager:GetSecretValue (and kms:Decrypt)"
    )]
    Refused { arn: String, reason: String },
    /// It holds something else than it should.
    #[error(
        "secret {arn} {reason}: it must be {{\"client_id\": …, \"client_secret\": …}}, with \"bridge_ca\" and \"redaction_key\" where needed"
    )]
    Malformed {
        arn: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Where the credentials come from.
#[derive(Clone)]
pub enum CredentialsSource {
    /// Variables: read once, at the start.
    Variables(Credentials),
    /// A secret in Secrets Manager, a JSON object.
    SecretsManager { client: Client, arn: String },
}

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variables(credentials) => f.debug_tuple("Variables").field(credentials).finish(),
            Self::SecretsManager { arn, .. } => f
                .debug_struct("SecretsManager")
                .field("arn", arn)
                .finish_non_exhaustive(),
        }
    }
}

impl CredentialsSource {
    /// The secret with that ARN.
    pub fn secrets_manager(config: &SdkConfig, arn: String) -> Self {
        Self::SecretsManager {
            client: Client::new(config),
            arn,
        }
    }

    /// Reads the credentials anew.
    ///
    /// # Errors
    /// When Secrets Manager does not give them, or gives something else.
    pub async fn read(&self) -> Result<Credentials, CredentialsError> {
        let (client, arn) = match self {
            Self::Variables(credentials) => return Ok(credentials.clone()),
            Self::SecretsManager { client, arn } => (client, arn),
        };
        let response = client.get_secret_value().secret_id(arn).send().await.map_err(|error| {
            let (arn, code) = (arn.clone(), error.code().unwrap_or_default().to_owned());
            let rejected = matches!(&error, SdkError::ServiceError(response) if response.raw().status().is_client_error());
            if rejected && !code.contains("Throttling") {
                CredentialsError::Refused { arn, reason: format!("{code} {}", error.message().unwrap_or_default()) }
            } else {
                CredentialsError::Unavailable { arn, reason: causes(&error) }
            }
        })?;
        let malformed = |reason| CredentialsError::Malformed {
            arn: arn.clone(),
            reason,
        };
        let text = response
            .secret_string()
            .ok_or_else(|| malformed("is binary"))?;
        let mut secret: Value = serde_json::from_str(text).map_err(|_| malformed("is not JSON"))?;
        let mut take = |key| match secret.get_mut(key).map(Value::take) {
            Some(Value::String(value)) if !value.is_empty() => Some(value),
            _ => None,
        };
        Ok(Credentials {
            client_id: take("client_id").ok_or_else(|| malformed("has no client_id"))?,
            client_secret: take("client_secret")
                .ok_or_else(|| malformed("has no client_secret"))?
                .into(),
            bridge_ca: take("bridge_ca"),
            redaction_key: match take("redaction_key").map(Key::new) {
                Some(None) => {
                    return Err(malformed(
                        "has a redaction_key that is shorter than 16 bytes",
                    ));
                }
                key => key.flatten(),
            },
        })
    }
}

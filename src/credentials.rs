//! *Credentials*: an OAuth client's ID and secret, from AWS Secrets Manager or environment
//! variables.

use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use thiserror::Error;

use crate::redact::Key;
use crate::retry::causes;

/// An OAuth client's ID and secret, and the optional members of the same secret.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// As secret as `client_secret`: where the operator swapped the two, this is the secret.
    pub client_id: SecretString,
    pub client_secret: SecretString,
    /// Certificates (PEM) to trust, in addition to the public roots.
    pub bridge_ca: Option<String>,
    pub redaction_key: Option<Key>,
}

impl Credentials {
    /// Returns credentials without a CA and without a redaction key.
    pub fn new(client_id: impl Into<SecretString>, client_secret: impl Into<SecretString>) -> Self {
        Self {
            client_id: client_id.into(),
            client_secret: client_secret.into(),
            bridge_ca: None,
            redaction_key: None,
        }
    }

    /// Whether ID and secret are the same.
    pub(crate) fn is_same_client(&self, other: &Self) -> bool {
        let is_same =
            |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        is_same(&self.client_id, &other.client_id)
            && is_same(&self.client_secret, &other.client_secret)
    }
}

/// The reason why the credentials cannot be read. The text names the secret's ARN and its keys,
/// never a value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CredentialsError {
    /// Secrets Manager could not be reached, failed, or throttled the request.
    #[error("cannot read secret {arn} yet: {reason}")]
    Unavailable { arn: String, reason: String },
    #[error(
        "cannot read secret {arn}: {reason}. Check BRIDGE_SECRET_ARN; the role needs \
         secretsmanager:GetSecretValue, and kms:Decrypt if the secret uses a customer managed key"
    )]
    Rejected { arn: String, reason: String },
    #[error(
        "invalid secret {arn}: {reason}. Expected JSON with client_id and client_secret \
         (optional: bridge_ca, redaction_key)"
    )]
    Malformed { arn: String, reason: &'static str },
}

/// Where the credentials come from.
#[derive(Clone)]
pub enum CredentialsSource {
    /// Environment variables, read once at startup.
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
    /// Returns a source that reads the secret with that ARN.
    pub fn secrets_manager(config: &SdkConfig, arn: String) -> Self {
        Self::SecretsManager {
            client: Client::new(config),
            arn,
        }
    }

    /// Reads the current credentials. Nothing is cached here.
    ///
    /// # Errors
    /// [`CredentialsError::Unavailable`] if a retry may help, else one of its other variants.
    pub async fn read(&self) -> Result<Credentials, CredentialsError> {
        let (client, arn) = match self {
            Self::Variables(credentials) => return Ok(credentials.clone()),
            Self::SecretsManager { client, arn } => (client, arn),
        };
        let requested = client.get_secret_value().secret_id(arn).send().await;
        let response = requested.map_err(|error| unreadable(arn.clone(), &error))?;
        let malformed = |reason| CredentialsError::Malformed {
            arn: arn.clone(),
            reason,
        };
        let text = response
            .secret_string()
            .ok_or_else(|| malformed("the secret is binary"))?;
        let mut secret: Value =
            serde_json::from_str(text).map_err(|_| malformed("the secret is not JSON"))?;
        let mut take = |key| match secret.get_mut(key).map(Value::take) {
            Some(Value::String(value)) if !value.is_empty() => Some(value),
            _ => None,
        };
        Ok(Credentials {
            client_id: take("client_id")
                .ok_or_else(|| malformed("client_id is missing or empty"))?
                .into(),
            client_secret: take("client_secret")
                .ok_or_else(|| malformed("client_secret is missing or empty"))?
                .into(),
            bridge_ca: take("bridge_ca"),
            redaction_key: match take("redaction_key").map(Key::new) {
                Some(None) => {
                    return Err(malformed("redaction_key is shorter than 16 bytes"));
                }
                key => key.flatten(),
            },
        })
    }
}

fn unreadable(arn: String, error: &SdkError<GetSecretValueError>) -> CredentialsError {
    let code = error.code().unwrap_or_default();
    let rejected = error
        .as_service_error()
        .and(error.raw_response())
        .is_some_and(|response| response.status().is_client_error());
    if !rejected || code.contains("Throttling") {
        return CredentialsError::Unavailable {
            arn,
            reason: causes(error),
        };
    }
    let message = error.message().unwrap_or("no message");
    CredentialsError::Rejected {
        arn,
        reason: format!("{code}: {}", message.trim_end_matches('.')),
    }
}

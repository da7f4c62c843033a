//! *Grant*: OAuth 2.0 client credentials (RFC 6749, section 4.4): the form to send, and what a
//! response says.
//!
//! Responses are read leniently, because identity providers deviate from the RFC in details that do
//! not matter. Nothing of a response is kept but the token, its lifetime and a known error code: an
//! identity provider may echo what it was sent.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::credentials::Credentials;

/// The lifetime of a token if the response has no readable `expires_in`, which RFC 6749, section
/// 5.1 makes optional.
pub const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// Upper bound on a token's lifetime, whatever `expires_in` says.
pub const MAX_LIFETIME: Duration = Duration::from_hours(24);
/// The lifetime of a token if `expires_in` is less than a second. A request for each batch would
/// overload the token endpoint; if the token has really expired, the bridge returns 401.
pub const SHORT_LIFETIME: Duration = Duration::from_mins(1);

/// Form parameters that edgetap sets itself, and those of other ways to authenticate (RFC 7521).
pub const RESERVED_PARAMETERS: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

/// The error codes of a token endpoint that may be shown: those of RFC 6749, sections 4.1.2.1 and
/// 5.2, and of RFC 8707.
const ERROR_CODES: &[&str] = &[
    "access_denied",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
];

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How the client authenticates to the token endpoint (OpenID Connect Core 1.0, section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMethod {
    /// `client_secret_post`: ID and secret in the request body.
    #[default]
    Post,
    /// `client_secret_basic`: ID and secret in the `Authorization` header.
    Basic,
}

/// The operator's additional form parameters, such as `scope`. A name may occur several times.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TokenParameters(Vec<(String, String)>);

/// Why additional form parameters are invalid. `position` counts them from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParametersError {
    /// A parameter is not `name=value` with a name of RFC 6749, appendix A: letters, digits, `-`,
    /// `.` and `_`.
    Invalid { position: usize },
    /// A parameter is one of [`RESERVED_PARAMETERS`], in any case.
    Reserved { position: usize },
}

impl TokenParameters {
    /// Returns the parameters in form-encoded text.
    ///
    /// # Errors
    /// [`ParametersError`] of the first parameter that is invalid.
    pub fn parse(text: &str) -> Result<Self, ParametersError> {
        let parameters = text
            .trim()
            .split('&')
            .filter(|parameter| !parameter.is_empty());
        for (position, parameter) in (1..).zip(parameters) {
            let Some((name, _)) = parameter.split_once('=').filter(|(name, _)| is_name(name))
            else {
                return Err(ParametersError::Invalid { position });
            };
            if RESERVED_PARAMETERS
                .iter()
                .any(|reserved| reserved.eq_ignore_ascii_case(name))
            {
                return Err(ParametersError::Reserved { position });
            }
        }
        Ok(Self(
            form_urlencoded::parse(text.trim().as_bytes())
                .into_owned()
                .collect(),
        ))
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !name.is_empty() && name.bytes().all(is_allowed)
}

impl fmt::Debug for TokenParameters {
    /// Names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Returns the form-encoded body of a token request. It must not be shown.
pub(crate) fn form(
    credentials: &Credentials,
    method: AuthMethod,
    TokenParameters(parameters): &TokenParameters,
) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if method == AuthMethod::Post {
        form.append_pair("client_id", credentials.client_id.expose_secret());
        form.append_pair("client_secret", credentials.client_secret.expose_secret());
    }
    form.extend_pairs(parameters).finish()
}

/// Returns user name and password of `client_secret_basic`. RFC 6749, section 2.3.1 requires that
/// both are form-encoded.
pub(crate) fn basic(credentials: &Credentials) -> [String; 2] {
    [&credentials.client_id, &credentials.client_secret]
        .map(|text| form_urlencoded::byte_serialize(text.expose_secret().as_bytes()).collect())
}

/// What a response of the token endpoint says.
#[derive(Debug)]
pub enum Answer {
    Token {
        bearer: SecretString,
        /// From one second to [`MAX_LIFETIME`].
        lifetime: Duration,
    },
    /// The client or the request was refused, with this error code if it is a known one.
    Refused(Option<&'static str>),
    /// A token of another type.
    NotBearer,
    /// Neither a token nor a refusal.
    Unreadable,
}

impl Answer {
    /// Reads a response that is not an HTML page.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        let mut body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        if matches!(status, 200..=299)
            && let Some(Value::String(bearer)) = body.get_mut("access_token").map(Value::take)
            && !bearer.is_empty()
        {
            return if is_bearer(body.get("token_type")) {
                Self::Token {
                    bearer: bearer.into(),
                    lifetime: lifetime(body.get("expires_in")),
                }
            } else {
                Self::NotBearer
            };
        }
        match body.get("error") {
            Some(Value::String(error)) => {
                let known = ERROR_CODES.iter().find(|code| *code == error);
                Self::Refused(known.copied())
            }
            _ if matches!(status, 400 | 401 | 403) => Self::Refused(None),
            _ => Self::Unreadable,
        }
    }
}

/// Whether a token of this `token_type` is a bearer token. Old versions of Apigee say
/// `BearerToken`, others say nothing.
fn is_bearer(token_type: Option<&Value>) -> bool {
    match token_type {
        None | Some(Value::Null) => true,
        Some(Value::String(name)) => ["bearer", "bearertoken"]
            .iter()
            .any(|bearer| name.trim().eq_ignore_ascii_case(bearer)),
        Some(_) => false,
    }
}

fn lifetime(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds.filter(|seconds: &f64| seconds.is_finite()) {
        None => DEFAULT_LIFETIME,
        Some(seconds) if seconds < 1.0 => SHORT_LIFETIME,
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .unwrap_or(MAX_LIFETIME)
            .min(MAX_LIFETIME),
    }
}

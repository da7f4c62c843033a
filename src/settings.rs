//! *Settings*: the table of everything that can be configured, and the messages for invalid values.
//!
//! Both are written only here. `scripts/settings.json` (for the scripts), the table in `README.md`
//! and `.env.example` are generated: `UPDATE=1 cargo test --test suite settings::` writes them, and
//! without `UPDATE` the same tests fail if they differ.
//!
//! A new setting is an entry of [`SETTINGS`] and its use in `config.rs`. If it is kept in the
//! function's environment, tests ask for the Terraform variable, too.

use serde::Serialize;

use crate::filter::MAX_EXTENSION;
use crate::grant::RESERVED_PARAMETERS;
use crate::redact::{Key, MAX_NAME};

/// One setting.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Setting {
    pub name: &'static str,
    /// Its name in Cequence's own CloudFront integration.
    pub vendor_name: Option<&'static str>,
    #[serde(flatten)]
    pub kind: Kind,
    pub default: Option<&'static str>,
    /// What to do if the setting is missing; `None` if it is optional.
    pub required: Option<&'static str>,
    #[serde(flatten)]
    pub place: Place,
    /// A phrase in Markdown: a cell of the README's table, of at most 100 characters.
    #[serde(skip)]
    pub about: &'static str,
    /// Further sentences for `.env.example`.
    #[serde(skip)]
    pub details: &'static str,
}

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    Text,
    Secret {
        min_bytes: usize,
    },
    /// Not checked: Secrets Manager accepts the name of a secret, too.
    Arn,
    /// The name of a file of PEM certificates.
    File,
    /// `https` if the value has no scheme.
    Url {
        default_path: &'static str,
    },
    Integer {
        from: usize,
        to: usize,
    },
    /// The bounds are in seconds.
    Duration {
        from: u32,
        to: u32,
    },
    Choice {
        values: &'static [&'static str],
        /// Whether case and surrounding white space are ignored.
        ignore_case: bool,
    },
    /// A comma-separated list of file extensions, or of edits of the built-in list.
    Extensions {
        max_length: usize,
    },
    /// A choice; the first value may be followed by edits of a built-in list of names.
    Names {
        values: &'static [&'static str],
        max_length: usize,
    },
    /// A comma-separated list of globs of paths.
    Globs,
    /// Form-encoded text.
    Parameters {
        /// Names that are refused, in any case.
        reserved: &'static [&'static str],
    },
}

/// Where the Terraform module keeps a setting of `.env`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "place", rename_all = "snake_case")]
pub enum Place {
    /// In the function's environment, through the Terraform variable with this name in lower case.
    Environment,
    /// In the function's environment, with a value that the module chooses.
    Module,
    /// In this field of the Secrets Manager secret.
    Secret { field: &'static str },
    /// Nowhere: only the scripts read it.
    Scripts,
}

const OPTIONAL: Setting = Setting {
    name: "",
    vendor_name: None,
    kind: Kind::Text,
    default: None,
    required: None,
    place: Place::Environment,
    about: "",
    details: "",
};

macro_rules! settings {
    ($($name:ident { $($field:ident: $value:expr,)* })*) => {
        $(
            pub const $name: Setting = Setting {
                name: stringify!($name),
                $($field: $value,)*
                ..OPTIONAL
            };
        )*

        /// Every setting, the required ones first. Names are matched without regard to case.
        pub const SETTINGS: &[Setting] = &[$($name),*];
    };
}

settings! {
    BRIDGE_CLIENT_ID {
        vendor_name: Some("CEQUENCE_CLIENT_ID"),
        required: Some("copy it from your tenant's API credentials"),
        place: Place::Secret { field: "client_id" },
        about: "ID of the OAuth 2.0 client",
    }
    BRIDGE_CLIENT_SECRET {
        vendor_name: Some("CEQUENCE_CLIENT_SECRET"),
        kind: Kind::Secret { min_bytes: 0 },
        required: Some("copy it from your tenant's API credentials"),
        place: Place::Secret { field: "client_secret" },
        about: "Secret of the OAuth 2.0 client; it may contain any character",
    }
    BRIDGE_AUTH_ENDPOINT {
        vendor_name: Some("CEQUENCE_AUTH_ENDPOINT"),
        kind: Kind::Url { default_path: "/auth/realms/cequence/protocol/openid-connect/token" },
        required: Some("set it to the URL or host name that your tenant gave you"),
        about: "OAuth 2.0 token endpoint",
        details: "A query is sent and never logged; it is stored in the function's environment.",
    }
    BRIDGE_EDGE_ENDPOINT {
        vendor_name: Some("CEQUENCE_EDGE_ENDPOINT"),
        kind: Kind::Url { default_path: "/api-transactions" },
        required: Some("set it to the URL or host name that your tenant gave you"),
        about: "The bridge: the endpoint that receives the transactions",
        details: "A query is treated as that of BRIDGE_AUTH_ENDPOINT.",
    }
    BRIDGE_SECRET_ARN {
        kind: Kind::Arn,
        place: Place::Module,
        about: "Secrets Manager secret to use instead: JSON with `client_id` and `client_secret`",
        details: "The JSON may also have bridge_ca (PEM) and redaction_key. This setting is for a \
            function that you deploy yourself: the Terraform module creates its own secret.",
    }
    BRIDGE_CA_FILE {
        kind: Kind::File,
        place: Place::Secret { field: "bridge_ca" },
        about: "PEM certificates to trust, in addition to the public roots",
        details: "CA certificates are trusted for the bridge and the token endpoint. The bridge's own \
            self-signed certificate is pinned: it is trusted for the bridge's host only.",
    }
    BRIDGE_AUTH_METHOD {
        kind: Kind::Choice {
            values: &["client_secret_post", "client_secret_basic"],
            ignore_case: false,
        },
        default: Some("client_secret_post"),
        about: "How the client authenticates at the token endpoint",
    }
    BRIDGE_TOKEN_PARAMETERS {
        kind: Kind::Parameters { reserved: RESERVED_PARAMETERS },
        about: "More form parameters of the token request: `scope=read&audience=https://api.example.com`",
        details: "Put no secret here: the value is in the function's environment.",
    }
    BRIDGE_CONCURRENCY {
        kind: Kind::Integer { from: 1, to: 64 },
        default: Some("10"),
        about: "Requests in flight",
    }
    BATCH_MAX_TRANSACTIONS {
        kind: Kind::Integer { from: 1, to: 250 },
        default: Some("250"),
        about: "Transactions per request",
    }
    BATCH_MAX_BYTES {
        kind: Kind::Integer { from: 1000, to: 10_000_000 },
        default: Some("1000000"),
        about: "Bytes per request; a larger transaction is sent in a request of its own",
    }
    STATIC_EXTENSIONS {
        kind: Kind::Extensions { max_length: MAX_EXTENSION },
        about: "Static assets to drop: `css,js` replaces the built-in list, `+pdf,-svg` edits it, \
            `none` keeps all",
    }
    INCLUDE_PATHS {
        kind: Kind::Globs,
        about: "Paths whose requests are sent, even static assets: `/users/*/id-card.jpg`",
    }
    EXCLUDE_PATHS {
        kind: Kind::Globs,
        about: "GET, HEAD and OPTIONS for these paths are dropped: `/health,/metrics/**`; `*` matches \
            no `/`",
    }
    REDACT {
        kind: Kind::Names { values: &["on", "off"], max_length: MAX_NAME },
        default: Some("on"),
        about: "Mask credentials in URLs; `on,+name,-name` edits the list of parameters, `off` \
            sends them",
    }
    REDACT_COOKIES {
        kind: Kind::Choice { values: &["keep", "drop", "hash"], ignore_case: false },
        default: Some("keep"),
        about: "Cookies, if they are logged; `hash` keeps names and sends an HMAC-SHA-256 of each \
            value",
    }
    REDACTION_KEY {
        kind: Kind::Secret { min_bytes: Key::MIN_BYTES },
        place: Place::Secret { field: "redaction_key" },
        about: "Key for `REDACT_COOKIES=hash`",
        details: "scripts/setup-tfvars.sh generates one where it is needed and not set.",
    }
    RETRY_FOR {
        // The upper bound divided by the shortest steady retry delay (12 minutes) must be less than
        // the work queue's `maxReceiveCount` (400). Otherwise SQS moves a message to the dead-letter
        // queue before edgetap does, and without a reason.
        kind: Kind::Duration { from: 60, to: 3 * 86_400 },
        default: Some("3d"),
        about: "How long an object is retried before its message goes to the dead-letter queue",
    }
    LOG_LEVEL {
        vendor_name: Some("CEQUENCE_LOG_LEVEL"),
        kind: Kind::Choice {
            values: &["error", "warn", "info", "debug", "trace"],
            ignore_case: true,
        },
        default: Some("info"),
        about: "Detail of the log; `debug` names each dropped static asset",
    }
    TF_AUTO_APPROVE {
        kind: Kind::Choice { values: &["true", "false"], ignore_case: true },
        default: Some("false"),
        place: Place::Scripts,
        about: "For the scripts: `true` answers their questions, except about a Terraform plan or `--destroy`",
    }
}

/// The prefixes of edgetap's settings. An unknown name with one of them is a mistake; any other
/// name belongs to another program.
pub const PREFIXES: &[&str] = &[
    "BRIDGE_",
    "BATCH_MAX_",
    "CEQUENCE_",
    "REDACT_",
    "REDACTION_",
];

impl Setting {
    /// Returns the setting with this name or vendor name, in any case.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        SETTINGS
            .iter()
            .find(|setting| is(setting.name) || setting.vendor_name.is_some_and(is))
    }

    /// Returns the problem with this setting. A template may name the setting and the bounds of its
    /// values.
    pub fn problem(&self, message: &Message, values: &[(&str, &str)]) -> Problem {
        let bounds: Vec<(&str, String)> = match self.kind {
            Kind::Integer { from, to } => vec![("from", from.to_string()), ("to", to.to_string())],
            Kind::Duration { from, to } => {
                let [from, to] = [from, to].map(|bound| format!("`{}`", duration_text(bound)));
                vec![("from", from), ("to", to)]
            }
            Kind::Choice { values, .. } => vec![("values", alternatives(values))],
            Kind::Secret { min_bytes } => vec![("min_bytes", min_bytes.to_string())],
            Kind::Names { values, max_length } => vec![
                ("values", alternatives(values)),
                ("max_length", max_length.to_string()),
            ],
            Kind::Extensions { max_length } => vec![("max_length", max_length.to_string())],
            Kind::Parameters { reserved } => vec![("reserved", alternatives(reserved))],
            _ => Vec::new(),
        };
        let bounds = bounds.iter().map(|(name, value)| (*name, value.as_str()));
        let fixed = [
            ("name", self.name),
            ("required", self.required.unwrap_or_default()),
        ];
        let all: Vec<_> = fixed
            .into_iter()
            .chain(bounds)
            .chain(values.iter().copied())
            .collect();
        message.problem(&all)
    }
}

/// Returns the known name that differs least from an unknown one, if at most 3 letters differ.
pub(crate) fn suggestion(unknown: &str) -> Option<&'static str> {
    let unknown = unknown.to_ascii_uppercase();
    SETTINGS
        .iter()
        .flat_map(|setting| std::iter::once(setting.name).chain(setting.vendor_name))
        .map(|name| (strsim::levenshtein(&unknown, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, name)| name)
}

/// Returns seconds in their largest whole unit, such as `3d`.
pub fn duration_text(seconds: u32) -> String {
    let (size, unit) = [(86_400, 'd'), (3600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(size, _)| seconds.is_multiple_of(*size))
        .unwrap_or((1, 's'));
    format!("{}{unit}", seconds / size)
}

/// Returns the values as words: `` `keep`, `drop` or `hash` ``.
pub fn alternatives(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    match quoted.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => quoted.concat(),
    }
}

/// A defect of the configuration. Neither text contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A whole sentence that names the setting, without a period.
    pub message: String,
    /// One action.
    pub hint: Option<String>,
}

/// A template of a [`Problem`], with placeholders such as `{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    #[serde(skip)]
    pub key: &'static str,
    #[serde(rename = "message")]
    pub(crate) text: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) hint: &'static str,
}

impl Message {
    /// Fills in the placeholders.
    pub(crate) fn problem(&self, values: &[(&str, &str)]) -> Problem {
        let fill = |template: &str| {
            values
                .iter()
                .fold(template.to_owned(), |text, (name, value)| {
                    text.replace(&format!("{{{name}}}"), value)
                })
        };
        Problem {
            message: fill(self.text),
            hint: (!self.hint.is_empty()).then(|| fill(self.hint)),
        }
    }
}

/// The messages. The scripts know each by the same name.
pub mod messages {
    use super::Message;

    macro_rules! messages {
        ($($name:ident: $text:literal $(=> $hint:literal)?;)*) => {
            $(
                pub const $name: Message = Message {
                    key: stringify!($name),
                    text: $text,
                    hint: concat!($($hint)?),
                };
            )*

            pub const ALL: &[Message] = &[$($name),*];
        };
    }

    messages! {
        UNKNOWN: "unknown setting `{name}`"
            => "correct or remove it; `.env.example` lists every setting";
        MISSPELLED: "unknown setting `{name}`" => "did you mean `{suggestion}`?";
        SET_TWICE: "`{name}` is set to different values, as `{first}` and as `{second}`"
            => "remove one of them";
        MISSING: "missing setting `{name}`" => "{required}";
        MISSING_OR_ARN: "missing setting `{name}`"
            => "{required}, or set `BRIDGE_SECRET_ARN` instead";
        MISSING_KEY: "missing setting `{name}`: `REDACT_COOKIES=hash` needs a key"
            => "set it to the output of `openssl rand -hex 32`";
        TWO_CREDENTIALS:
            "`{name}` cannot be combined with `BRIDGE_CLIENT_ID` or `BRIDGE_CLIENT_SECRET`"
            => "remove one or the other";
        NOT_HERE: "`{name}` cannot be set here: the Terraform module creates its own secret"
            => "remove it; it is for a function that you deploy yourself";

        CHOICE: "`{name}` must be {values}";
        INTEGER: "`{name}` must be a whole number from {from} to {to}";
        DURATION: "`{name}` must be a duration from {from} to {to}"
            => "write a number and a unit, such as `12h`";
        SECRET: "`{name}` must have at least {min_bytes} bytes"
            => "`openssl rand -hex 32` prints a good value";

        URL: "`{name}` must be a URL or a host name" => "write it like `https://host/path`";
        URL_SCHEME: "`{name}` must use https"
            => "plain http is allowed for loopback addresses only";
        URL_USER: "`{name}` must not contain a user name or password"
            => "remove the part before `@`";
        URL_FRAGMENT: "`{name}` must not contain a fragment"
            => "remove the part that begins with `#`";
        URL_LOOPBACK: "`{name}` is a loopback address, which a Lambda function cannot reach"
            => "set it to the endpoint that your tenant gave you";

        EXTENSIONS_MIXED:
            "`{name}` mixes a list (`css,js`) with edits of the built-in list (`+pdf,-svg`)"
            => "use one of the two forms";
        EXTENSIONS_INVALID: "extension {position} of `{name}` is invalid"
            => "an extension has 1 to {max_length} letters and digits";
        NAMES_SWITCH: "`{name}` must be {values}, or `on,+name,-name` to edit the list"
            => "write it in lower case; names only follow `on`";
        NAME_UNLISTED: "name {position} of `{name}` is not in the list"
            => "leave it out: its values are sent as they are; docs/input.md has the list";
        NAME_INVALID: "name {position} of `{name}` is invalid"
            => "write `+name` or `-name` with 1 to {max_length} letters, digits, `_` and `-`, not \
                beginning with `-`; `*` at its beginning stands for anything";
        GLOB_RELATIVE: "glob {position} of `{name}` must start with `/`";
        GLOB_INVALID: "glob {position} of `{name}` is invalid: {reason}";
        GLOBS_TOO_LARGE: "`{name}` cannot be used: {reason}" => "use fewer or shorter globs";

        PARAMETER_INVALID: "parameter {position} of `{name}` must have the form `name=value`"
            => "separate parameters by `&`; write `&` in a value as `%26`, `%` as `%25` and `+` as `%2B`";
        PARAMETER_RESERVED: "parameter {position} of `{name}` has a reserved name"
            => "edgetap authenticates itself; remove {reserved}";

        MEMORY: "`BRIDGE_CONCURRENCY` × `BATCH_MAX_BYTES` is too much for {memory} MB of memory"
            => "lower one of them so that the product is {most} or less, or raise the function's memory";

        FILE_UNREADABLE: "cannot read the file in `{name}`: {reason}";
        FILE_EMPTY: "the file in `{name}` contains no PEM certificate"
            => "a certificate begins with `-----BEGIN CERTIFICATE-----`";
        FILE_INVALID: "the file in `{name}` contains something that is not an X.509 certificate";
        FILE_KEY: "the file in `{name}` contains a private key"
            => "remove the key: certificates are enough";

        DOTENV_FILE: "cannot read {file}: {reason}";
        DOTENV_ENCODING: "{file} is not UTF-8 text";
        DOTENV_LINE: "line {line} of {file} must have the form NAME=VALUE";
        DOTENV_NAME: "line {line} of {file} has an invalid name"
            => "use letters, digits and underscores; begin with a letter or an underscore";
        DOTENV_SINGLE_QUOTE: "line {line} of {file} has a single quote that is not closed";
        DOTENV_DOUBLE_QUOTE: "line {line} of {file} has a double quote that is not closed";
        DOTENV_AFTER_QUOTE: "line {line} of {file} has text after the closing quote"
            => "quote the whole value";
        DOTENV_TWICE: "`{name}` is set twice in {file}, on lines {first} and {line}"
            => "remove one of the lines";
        DOTENV_TWICE_UNKNOWN: "line {line} of {file} sets the same name as line {first}"
            => "remove one of the lines";
    }
}

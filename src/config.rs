//! *Config*: variables → what edgetap does. The only file that reads the environment.
//!
//! Every problem is found at once, and each names the variable and what to do about it; values are not shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use tracing::Level;
use url::Url;

use crate::batch::Limits;
use crate::bridge::{Endpoints, is_loopback};
use crate::credentials::Credentials;
use crate::dotenv;
use crate::encode::{Encoding, Uap};
use crate::filter::{ExcludedPaths, StaticAssets};
use crate::pipeline::Rules;
use crate::redact::{Cookies, Key, Redaction};
use crate::token::AuthMethod;

/// A variable that edgetap reads.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    /// Its name in the reference integration.
    pub vendor_name: Option<&'static str>,
    /// What holds without it; `None` where it must be set (one of the two that give the secret).
    pub default: Option<&'static str>,
    pub about: &'static str,
}

const fn setting(
    name: &'static str,
    vendor_name: Option<&'static str>,
    default: Option<&'static str>,
    about: &'static str,
) -> Setting {
    Setting {
        name,
        vendor_name,
        default,
        about,
    }
}

/// Every variable, the required ones first. Names are matched without regard to case.
pub const SETTINGS: &[Setting] = &[
    setting(
        "BRIDGE_CLIENT_ID",
        Some("CEQUENCE_CLIENT_ID"),
        None,
        "id of the OAuth client",
    ),
    setting(
        "BRIDGE_CLIENT_SECRET",
        Some("CEQUENCE_CLIENT_SECRET"),
        None,
        "its secret; any character",
    ),
    setting(
        "BRIDGE_AUTH_ENDPOINT",
        Some("CEQUENCE_AUTH_ENDPOINT"),
        None,
        "token endpoint; without a path the tenant's default one",
    ),
    setting(
        "BRIDGE_EDGE_ENDPOINT",
        Some("CEQUENCE_EDGE_ENDPOINT"),
        None,
        "the bridge; without a path /api-transactions",
    ),
    setting(
        "BRIDGE_SECRET_ARN",
        None,
        Some(""),
        "instead of id and secret: ARN of a Secrets Manager secret {\"client_id\", \"client_secret\"}, with \"bridge_ca\" where needed",
    ),
    setting(
        "BRIDGE_CA_FILE",
        None,
        Some(""),
        "PEM file: certificates to trust for the bridge's host, or its own self-signed one",
    ),
    setting(
        "BRIDGE_AUTH_METHOD",
        None,
        Some("client_secret_post"),
        "or client_secret_basic",
    ),
    setting(
        "BRIDGE_CONCURRENCY",
        None,
        Some("4"),
        "posts in flight, 1 to 64",
    ),
    setting(
        "BATCH_MAX_TRANSACTIONS",
        None,
        Some("250"),
        "transactions a post, 1 to 250",
    ),
    setting(
        "BATCH_MAX_BYTES",
        None,
        Some("1000000"),
        "bytes a post, 1000 to 10000000",
    ),
    setting(
        "STATIC_EXTENSIONS",
        None,
        Some("the built-in list"),
        "which requests are dropped: css,js,png replaces the list, +pdf,-svg edits it, none keeps all",
    ),
    setting(
        "EXCLUDE_PATHS",
        None,
        Some(""),
        "globs of paths whose requests are dropped, such as /health,/metrics/**",
    ),
    setting(
        "REDACT",
        None,
        Some("on"),
        "credentials in URLs are masked; off sends them",
    ),
    setting(
        "REDACT_COOKIES",
        None,
        Some("keep"),
        "cookies, where they are logged: keep, drop, or hash (names kept, each value an HMAC)",
    ),
    setting(
        "REDACTION_KEY",
        None,
        Some(""),
        "key of REDACT_COOKIES=hash, 16 bytes or more; with BRIDGE_SECRET_ARN it is \"redaction_key\" in that secret",
    ),
    setting(
        "RETRY_FOR",
        None,
        Some("3d"),
        "how long an object is tried before it is dead-lettered, 1m to 3d",
    ),
    setting(
        "LOG_LEVEL",
        Some("CEQUENCE_LOG_LEVEL"),
        Some("info"),
        "error, warn, info, debug or trace",
    ),
    setting(
        "TF_AUTO_APPROVE",
        None,
        Some("false"),
        "for the scripts: true applies without asking",
    ),
];

/// The path of the tenant's token endpoint.
const TOKEN_PATH: &str = "/auth/realms/cequence/protocol/openid-connect/token";
/// The path of the bridge.
const EDGE_PATH: &str = "/api-transactions";

/// What is wrong with one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub name: String,
    /// What is wrong, and what to do.
    pub what: String,
}

/// All that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|Problem { name, what }| format!("{name} {what}"))
            .collect();
        f.write_str(&lines.join("; "))
    }
}

impl std::error::Error for Problems {}

/// Variables by their names in [`SETTINGS`].
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<&'static str, String>);

impl fmt::Debug for Variables {
    /// Names only: some of the values are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Variables {
    /// The process's environment.
    ///
    /// # Errors
    /// As [`Variables::from_pairs`].
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    pub fn from_environment() -> Result<Self, Problems> {
        let pairs = std::env::vars_os().filter_map(|(name, value)| {
            // A name that is not UTF-8 is none of ours.
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        });
        Self::from_pairs(pairs)
    }

    /// The process's environment over a `.env` file.
    ///
    /// # Errors
    /// When the file cannot be read, and as [`Variables::from_pairs`].
    pub fn from_environment_and_file(file: &Path) -> Result<Self, Problems> {
        let problem = |what| Problem {
            name: file.display().to_string(),
            what,
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| Problems(vec![problem(format!("cannot be read: {error}"))]))?;
        let pairs = dotenv::parse(&text).map_err(|errors| {
            Problems(
                errors
                    .iter()
                    .map(|error| problem(error.to_string()))
                    .collect(),
            )
        })?;
        let (mut below, above) = match (Self::from_pairs(pairs), Self::from_environment()) {
            (Ok(below), Ok(above)) => (below, above),
            (below, above) => {
                return Err(Problems(
                    [below.err(), above.err()]
                        .into_iter()
                        .flatten()
                        .flat_map(|p| p.0)
                        .collect(),
                ));
            }
        };
        below.0.extend(above.0);
        Ok(below)
    }

    /// Variables from names and values. Names that are not ours are passed over, and so are empty values.
    ///
    /// # Errors
    /// When two spellings of one setting disagree, and for a name that looks like one of ours but is none.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problems> {
        let (mut found, mut problems) = (BTreeMap::<_, (String, String)>::new(), Vec::new());
        for (name, value) in pairs {
            let upper = name.to_ascii_uppercase();
            let known = SETTINGS.iter().find(|setting| {
                upper == setting.name || Some(upper.as_str()) == setting.vendor_name
            });
            let Some(known) = known else {
                if ["BRIDGE_", "BATCH_MAX_", "CEQUENCE_"]
                    .iter()
                    .any(|prefix| upper.starts_with(prefix))
                {
                    let what = "is no setting of edgetap: correct or remove it (.env.example lists them all)".to_owned();
                    problems.push(Problem { name, what });
                }
                continue; // somebody else's variable, or a problem
            };
            if value.is_empty() {
                continue; // as if it were not set
            }
            match found.get(known.name) {
                Some((other, before)) if *before != value => problems.push(Problem {
                    name: known.name.to_owned(),
                    what: format!("is set twice, as {other} and as {name}, to different values: remove one of them"),
                }),
                _ => _ = found.insert(known.name, (name, value)),
            }
        }
        if problems.is_empty() {
            Ok(Self(
                found
                    .into_iter()
                    .map(|(name, (_, value))| (name, value))
                    .collect(),
            ))
        } else {
            Err(Problems(problems))
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Where the credentials are.
#[derive(Clone, Debug)]
pub enum CredentialsConfig {
    Given(Credentials),
    /// In Secrets Manager, under this ARN.
    Arn(String),
}

/// The bridge and how to be let in.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    pub endpoints: Endpoints,
    pub secret: CredentialsConfig,
    pub concurrency: usize,
}

/// What edgetap does.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is sent, and how.
    pub rules: Rules,
    pub bridge: BridgeConfig,
    /// How long an object is tried before it is dead-lettered.
    pub retry_for: SignedDuration,
    pub log_level: Level,
}

/// The longest `RETRY_FOR`: it divided by the shortest long rest (12 minutes) must stay below the work queue's
/// `maxReceiveCount` (400), or SQS dead-letters a message before edgetap does.
const MAX_RETRY_FOR: SignedDuration = SignedDuration::from_hours(72);

impl Config {
    /// Reads the variables.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(variables: &Variables) -> Result<Self, Problems> {
        let mut reader = Reader {
            variables,
            problems: Vec::new(),
        };
        let (rules, bridge, retry_for, log_level) = (
            reader.rules(),
            reader.bridge(),
            reader.retry_for(),
            reader.log_level(),
        );
        match (bridge, reader.problems) {
            (Some(bridge), problems) if problems.is_empty() => Ok(Self {
                rules,
                bridge,
                retry_for,
                log_level,
            }),
            (_, problems) => Err(Problems(problems)),
        }
    }

    /// Reads only what is sent, and how: enough for a dry run.
    ///
    /// # Errors
    /// Everything that is wrong with those variables.
    pub fn read_rules(variables: &Variables) -> Result<Rules, Problems> {
        let mut reader = Reader {
            variables,
            problems: Vec::new(),
        };
        let rules = reader.rules();
        if reader.problems.is_empty() {
            Ok(rules)
        } else {
            Err(Problems(reader.problems))
        }
    }
}

/// How much is logged, by `LOG_LEVEL`; `info` where that says nothing that can be read (which [`Config::read`] reports).
pub fn log_level(variables: &Variables) -> Level {
    Reader {
        variables,
        problems: Vec::new(),
    }
    .log_level()
}

struct Reader<'a> {
    variables: &'a Variables,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn rules(&mut self) -> Rules {
        let static_assets = match self
            .variables
            .get("STATIC_EXTENSIONS")
            .map(StaticAssets::parse)
        {
            Some(Ok(static_assets)) => static_assets,
            Some(Err(what)) => {
                self.problem("STATIC_EXTENSIONS", what);
                StaticAssets::default()
            }
            None => StaticAssets::default(),
        };
        let limits = Limits {
            transactions: self.number(
                "BATCH_MAX_TRANSACTIONS",
                1..=250,
                Limits::default().transactions,
            ),
            bytes: self.number(
                "BATCH_MAX_BYTES",
                1000..=10_000_000,
                Limits::default().bytes,
            ),
        };
        let excluded_paths = self
            .variables
            .get("EXCLUDE_PATHS")
            .map(ExcludedPaths::parse)
            .transpose()
            .unwrap_or_else(|what| {
                self.problem("EXCLUDE_PATHS", what);
                None
            });
        Rules {
            encoding: Encoding::Uap(Uap::new(static_assets.name())),
            static_assets,
            excluded_paths: excluded_paths.unwrap_or_default(),
            redaction: self.redaction(),
            limits,
        }
    }

    fn redaction(&mut self) -> Redaction {
        let urls = match self.variables.get("REDACT") {
            None | Some("on") => true,
            Some("off") => false,
            Some(_) => {
                self.problem("REDACT", "is neither on nor off");
                true
            }
        };
        let cookies = match self.variables.get("REDACT_COOKIES") {
            None | Some("keep") => Cookies::Keep,
            Some("drop") => Cookies::Drop,
            Some("hash") => Cookies::Hash(self.redaction_key()),
            Some(_) => {
                self.problem("REDACT_COOKIES", "is none of keep, drop, hash");
                Cookies::Drop
            }
        };
        Redaction { urls, cookies }
    }

    /// The key, where it is not in the secret.
    fn redaction_key(&mut self) -> Option<Key> {
        let in_secret = self.variables.get("BRIDGE_SECRET_ARN").is_some();
        let key = self.variables.get("REDACTION_KEY").map(Key::new);
        match key {
            Some(Some(key)) => Some(key),
            Some(None) => {
                self.problem("REDACTION_KEY", "is shorter than 16 bytes");
                None
            }
            None if in_secret => None,
            None => {
                self.problem(
                    "REDACTION_KEY",
                    "is not set: REDACT_COOKIES=hash needs one (openssl rand -hex 32)",
                );
                None
            }
        }
    }

    fn bridge(&mut self) -> Option<BridgeConfig> {
        let secret = self.secret();
        let token = self.url("BRIDGE_AUTH_ENDPOINT", TOKEN_PATH);
        let edge = self.url("BRIDGE_EDGE_ENDPOINT", EDGE_PATH);
        let method = match self.variables.get("BRIDGE_AUTH_METHOD") {
            None | Some("client_secret_post") => AuthMethod::Post,
            Some("client_secret_basic") => AuthMethod::Basic,
            Some(_) => {
                self.problem(
                    "BRIDGE_AUTH_METHOD",
                    "is neither client_secret_post nor client_secret_basic",
                );
                AuthMethod::Post
            }
        };
        let concurrency = self.number("BRIDGE_CONCURRENCY", 1..=64, 4);
        let bridge_ca = self
            .variables
            .get("BRIDGE_CA_FILE")
            .map(PathBuf::from)
            .and_then(|file| match std::fs::read_to_string(&file) {
                Ok(pem) => Some(pem),
                Err(error) => {
                    self.problem(
                        "BRIDGE_CA_FILE",
                        format!("names a file that cannot be read ({error})"),
                    );
                    None
                }
            });
        if let Some(pem) = &bridge_ca
            && let Err(error) = crate::tls::ServerTrust::new("").and_then(|tls| tls.set_own(pem))
        {
            self.problem("BRIDGE_CA_FILE", format!("names an unusable file: {error}"));
        }
        Some(BridgeConfig {
            endpoints: Endpoints {
                edge: edge?,
                token: token?,
                method,
                bridge_ca,
            },
            secret: secret?,
            concurrency,
        })
    }

    fn secret(&mut self) -> Option<CredentialsConfig> {
        let given = ["BRIDGE_CLIENT_ID", "BRIDGE_CLIENT_SECRET"]
            .map(|name| self.variables.get(name).map(str::to_owned));
        match (self.variables.get("BRIDGE_SECRET_ARN"), given) {
            (Some(arn), [None, None]) => Some(CredentialsConfig::Arn(arn.to_owned())),
            (Some(_), _) => {
                self.problem("BRIDGE_SECRET_ARN", "is set beside BRIDGE_CLIENT_ID or BRIDGE_CLIENT_SECRET: keep one of the two ways");
                None
            }
            (None, [Some(client_id), Some(client_secret)]) => Some(CredentialsConfig::Given(
                Credentials::new(client_id, client_secret),
            )),
            (None, [id, secret]) => {
                for (name, value) in [("BRIDGE_CLIENT_ID", id), ("BRIDGE_CLIENT_SECRET", secret)] {
                    if value.is_none() {
                        self.problem(name, "is not set: take it from the tenant's API credentials, or set BRIDGE_SECRET_ARN instead");
                    }
                }
                None
            }
        }
    }

    /// A URL, `https` where it names no scheme, with `default_path` where it has no path.
    fn url(&mut self, name: &'static str, default_path: &str) -> Option<Url> {
        let Some(text) = self.variables.get(name) else {
            self.problem(
                name,
                "is not set: it is the URL, or the host, that the tenant gave you",
            );
            return None;
        };
        let text = if text.contains("://") {
            text.trim().to_owned()
        } else {
            format!("https://{}", text.trim())
        };
        let mut url = match Url::parse(&text) {
            Ok(url) if url.has_host() => url,
            _ => {
                self.problem(name, "is not a URL such as https://host/path");
                return None;
            }
        };
        let refusal = match url.scheme() {
            "https" | "http" if !url.username().is_empty() || url.password().is_some() => {
                "holds credentials: a URL here may not"
            }
            "https" | "http" if url.query().is_some() || url.fragment().is_some() => {
                "has a query or a fragment: remove it"
            }
            "https" => "",
            "http" if is_loopback(&url) => "",
            "http" => {
                "is not https: secrets and transactions travel in the clear only to this machine (loopback)"
            }
            _ => "is neither https nor http",
        };
        if !refusal.is_empty() {
            self.problem(name, refusal);
            return None;
        }
        if matches!(url.path(), "" | "/") {
            url.set_path(default_path);
        }
        Some(url)
    }

    fn number(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        match self
            .variables
            .get(name)
            .map(|text| text.trim().parse::<usize>())
        {
            None => default,
            Some(Ok(number)) if range.contains(&number) => number,
            Some(_) => {
                self.problem(
                    name,
                    format!("is not a number from {} to {}", range.start(), range.end()),
                );
                default
            }
        }
    }

    fn retry_for(&mut self) -> SignedDuration {
        let Some(text) = self.variables.get("RETRY_FOR") else {
            return MAX_RETRY_FOR;
        };
        let time = text
            .parse::<Span>()
            .ok()
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        let time =
            time.filter(|time| (SignedDuration::from_mins(1)..=MAX_RETRY_FOR).contains(time));
        if time.is_none() {
            self.problem("RETRY_FOR", "is not a time from 1m to 3d, such as 12h");
        }
        time.unwrap_or(MAX_RETRY_FOR)
    }

    fn log_level(&mut self) -> Level {
        let text = self
            .variables
            .get("LOG_LEVEL")
            .unwrap_or("info")
            .trim()
            .to_ascii_lowercase();
        match Level::from_str(&text) {
            Ok(level) if !text.bytes().all(|b| b.is_ascii_digit()) => level,
            _ => {
                self.problem("LOG_LEVEL", "is none of error, warn, info, debug, trace");
                Level::INFO
            }
        }
    }

    fn problem(&mut self, name: &str, what: impl Into<String>) {
        self.problems.push(Problem {
            name: name.to_owned(),
            what: what.into(),
        });
    }
}

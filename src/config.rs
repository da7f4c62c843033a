//! *Config*: environment variables → validated settings. The only file that reads the environment.
//!
//! All problems are found before anything starts, and no message contains a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use tracing::Level;
use url::Url;

use crate::aws::{Network, Proxy, ProxyError};
use crate::batch::Limits;
use crate::bridge::Endpoints;
use crate::credentials::Credentials;
use crate::dotenv;
use crate::encode::{Encoding, Uap};
use crate::endpoint::EndpointUrl;
use crate::filter::{ExcludedPaths, ExtensionsError, GlobsError, IncludedPaths, StaticAssets};
use crate::grant::ParametersError;
use crate::pipeline::Rules;
use crate::redact::{Cookies, Key, Names, NamesError, Redaction};
use crate::settings::{self, Kind, Message, SETTINGS, Setting, messages};
use crate::tls::{Roots, ServerTrust, TlsError, roots_of};
use crate::token::{AuthMethod, TokenParameters};

pub use crate::settings::Problem;

/// The variable by which Lambda tells a function its memory in MB (1 MB = 2²⁰ bytes).
const FUNCTION_MEMORY: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
/// Memory in MB for everything but request bodies: at most 48 MB of logs that are being read (two
/// Parquet files of any size, while two others are copied), the process, and connections.
const OTHER_MEMORY: usize = 64;
/// Memory of a request body as a multiple of its size: a buffer doubles when it is full.
/// `terraform/modules/edgetap/variables.tf` has the same bound.
const MEMORY_PER_BODY: usize = 2;

/// What to do about [`ProxyError::Ambiguous`].
const PROXY_HINT: &str = "special characters in the password must be percent-encoded: \
    `%40` for `@`, `%2F` for `/`, `%3F` for `?`, `%23` for `#`";

/// What to do about certificates of the environment that cannot be used.
const ROOTS_HINT: &str = "name a PEM file, or a directory of such files, with the certificates of authorities, \
    or unset the variable to trust the public ones";

/// All defects of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// One line, for the log.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Problem { message, hint }) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "; " })?;
            f.write_str(message)?;
            if let Some(hint) = hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The given settings, still as text, and the problems found while reading them.
#[derive(Clone, Default)]
pub struct Variables {
    /// By [`Setting::name`].
    values: BTreeMap<&'static str, String>,
    problems: Vec<Problem>,
    /// Settings whose line in the `.env` file has a problem. They are not also reported as missing.
    unreadable: BTreeSet<&'static str>,
    /// Whether `.env` was looked for in the current directory, and does not exist.
    lacks_file: bool,
    /// The function's memory in MB; `None` on the command line.
    function_memory: Option<usize>,
}

impl fmt::Debug for Variables {
    /// Names only: some of the values are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Variables {
    /// Returns the settings in the process's environment.
    #[expect(clippy::disallowed_methods, reason = "the only reader")]
    pub fn from_environment() -> Self {
        let pairs = std::env::vars_os().filter_map(|(name, value)| {
            // The names of settings are ASCII.
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        });
        Self::from_pairs(pairs)
    }

    /// Returns the settings in the process's environment, and in `.env` in the current directory if
    /// it exists.
    pub fn from_environment_and_default_file() -> Self {
        let file = Path::new(".env");
        if file.exists() {
            return Self::from_environment_and_file(file);
        }
        Self {
            lacks_file: true,
            ..Self::from_environment()
        }
    }

    /// Returns the settings in the process's environment and a `.env` file. The environment takes
    /// precedence.
    pub fn from_environment_and_file(file: &Path) -> Self {
        let mut variables = Self::from_file(file);
        let environment = Self::from_environment();
        variables.values.extend(environment.values);
        variables.function_memory = environment.function_memory;
        for problem in environment.problems {
            if !variables.problems.contains(&problem) {
                variables.problems.push(problem);
            }
        }
        variables
    }

    fn from_file(file: &Path) -> Self {
        let name = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                let message = match error.kind() {
                    ErrorKind::InvalidData => &messages::DOTENV_ENCODING,
                    _ => &messages::DOTENV_FILE,
                };
                let values = [("file", name.as_str()), ("reason", &reason(&error))];
                return Self {
                    problems: vec![message.problem(&values)],
                    unreadable: SETTINGS.iter().map(|setting| setting.name).collect(),
                    ..Self::default()
                };
            }
        };
        Self::from_dotenv(&text, &name)
    }

    /// Returns the settings in the text of a `.env` file. `name` is the file's name, for messages.
    pub fn from_dotenv(text: &str, name: &str) -> Self {
        let (pairs, errors) = dotenv::parse(text);
        let mut variables = Self::from_pairs(pairs);
        variables.unreadable = errors
            .iter()
            .filter_map(|error| Setting::find(error.name.as_deref()?))
            .map(|setting| setting.name)
            .collect();
        let lines = errors.iter().map(|error| error.problem(name));
        variables.problems = lines.chain(variables.problems).collect();
        variables
    }

    /// Returns the settings among names and values. Empty values and unrelated names are ignored.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut found = BTreeMap::<_, (String, String)>::new();
        let mut problems = Vec::new();
        let mut function_memory = None;
        for (name, value) in pairs {
            if name == FUNCTION_MEMORY {
                function_memory = value.parse().ok();
            }
            let Some(setting) = Setting::find(&name) else {
                problems.extend(unknown(&name));
                continue;
            };
            if value.is_empty() {
                continue;
            }
            match found.get(setting.name) {
                None => _ = found.insert(setting.name, (name, value)),
                Some((first, before)) if *before != value => {
                    let spellings = [("first", first.as_str()), ("second", &name)];
                    problems.push(setting.problem(&messages::SET_TWICE, &spellings));
                }
                Some(_) => {}
            }
        }
        Self {
            values: found
                .into_iter()
                .map(|(name, (_, value))| (name, value))
                .collect(),
            problems,
            function_memory,
            ..Self::default()
        }
    }

    fn get(&self, setting: &Setting) -> Option<&str> {
        self.values.get(setting.name).map(String::as_str)
    }
}

/// Returns the proxy of `HTTPS_PROXY`, or else of `ALL_PROXY`, and the hosts of `NO_PROXY`. The client
/// of the bridge reads the same variables by itself. Warns of a value that is not a URL of one.
///
/// # Errors
/// A problem with a URL in which a password has no clear end.
pub fn https_proxy() -> Result<Option<Proxy>, Problems> {
    read_proxy(variable)
}

/// Returns the proxy, and the certificates of `AWS_CA_BUNDLE`, or else of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`, which replace `roots`.
///
/// # Errors
/// Problems of [`https_proxy`], and of certificates that cannot be used.
pub fn network(roots: Roots) -> Result<Network, Problems> {
    read_network(variable, roots)
}

#[expect(clippy::disallowed_methods, reason = "not settings of edgetap")]
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn read_network(get: impl Fn(&str) -> Option<String>, roots: Roots) -> Result<Network, Problems> {
    let proxy = read_proxy(&get)?;
    let given = |name: &&'static str| {
        let value = get(name).filter(|value| !value.is_empty());
        value.map(|value| (*name, value))
    };
    let bundle = given(&"AWS_CA_BUNDLE");
    let named = match bundle {
        Some(bundle) => vec![bundle],
        None => ["SSL_CERT_FILE", "SSL_CERT_DIR"]
            .iter()
            .filter_map(given)
            .collect(),
    };
    let Some((first, _)) = named.first() else {
        let roots = roots.load();
        return Ok(Network { proxy, roots });
    };
    let paths = named.iter().flat_map(|(name, value)| match *name {
        "SSL_CERT_DIR" => std::env::split_paths(value).collect(),
        _ => vec![value.into()],
    });
    let roots = roots_of(paths).map_err(|error| {
        Problems(vec![Problem {
            message: format!("the certificates of `{first}` cannot be used: {error}"),
            hint: Some(ROOTS_HINT.to_owned()),
        }])
    })?;
    Ok(Network { proxy, roots })
}

fn read_proxy(get: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, Problems> {
    let given = |name: &&'static str| {
        let value = get(name).filter(|value| !value.is_empty());
        value.map(|value| (*name, value))
    };
    let exceptions = ["NO_PROXY", "no_proxy"].iter().find_map(given);
    let exceptions = exceptions.map(|(_, hosts)| hosts).unwrap_or_default();
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    for (variable, url) in names.iter().filter_map(given) {
        match Proxy::new(&url, &exceptions) {
            Ok(proxy) => return Ok(Some(proxy)),
            Err(ProxyError::Ambiguous) => {
                return Err(Problems(vec![Problem {
                    message: format!(
                        "`{variable}` has special characters before the `@` of its URL"
                    ),
                    hint: Some(PROXY_HINT.to_owned()),
                }]));
            }
            Err(ProxyError::NotHttp) => tracing::warn!(
                variable,
                "the value of a variable is not the URL of an HTTP proxy"
            ),
        }
    }
    Ok(None)
}

/// Returns the problem with a name that looks like a setting's.
fn unknown(name: &str) -> Option<Problem> {
    let upper = name.to_ascii_uppercase();
    let is_ours = settings::PREFIXES
        .iter()
        .any(|prefix| upper.starts_with(prefix));
    is_ours.then(|| match settings::suggestion(&upper) {
        Some(known) => messages::MISSPELLED.problem(&[("name", name), ("suggestion", known)]),
        None => messages::UNKNOWN.problem(&[("name", name)]),
    })
}

/// Returns the text of an I/O error without its number, which the scripts do not have.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Where the credentials are.
#[derive(Clone, Debug)]
pub enum CredentialsConfig {
    Given(Credentials),
    /// In Secrets Manager, under this ARN.
    Arn(String),
}

/// The bridge, and how to authenticate.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    pub endpoints: Endpoints,
    pub credentials: CredentialsConfig,
    /// Requests in flight.
    pub concurrency: usize,
}

/// The validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub rules: Rules,
    pub bridge: BridgeConfig,
    /// How long an object is retried before its message goes to the dead-letter queue.
    pub retry_for: SignedDuration,
    pub log_level: Level,
}

impl Config {
    /// Returns the validated settings.
    ///
    /// # Errors
    /// Every problem with them.
    pub fn read(variables: &Variables) -> Result<Self, Problems> {
        let mut reader = Reader::new(variables);
        let bridge = reader.bridge();
        let rules = reader.rules();
        reader.check_memory();
        let retry_for = reader.duration(&settings::RETRY_FOR);
        let log_level = reader.log_level();
        reader.choice(&settings::TF_AUTO_APPROVE); // only the scripts use it
        match (bridge, reader.into_problems()) {
            (Some(bridge), Problems(problems)) if problems.is_empty() => Ok(Self {
                rules,
                bridge,
                retry_for,
                log_level,
            }),
            (_, problems) => Err(problems),
        }
    }

    /// Returns the rules of a dry run, and checks `LOG_LEVEL`.
    ///
    /// # Errors
    /// Every problem with these settings, and every name or line that cannot be read.
    pub fn read_rules(variables: &Variables) -> Result<Rules, Problems> {
        let mut reader = Reader::new(variables);
        let rules = reader.rules();
        reader.log_level();
        match reader.into_problems() {
            Problems(problems) if problems.is_empty() => Ok(rules),
            problems => Err(problems),
        }
    }
}

/// Returns `LOG_LEVEL`, or its default if it is invalid, which [`Config`] reports.
pub fn log_level(variables: &Variables) -> Level {
    Reader::new(variables).log_level()
}

struct Reader<'a> {
    variables: &'a Variables,
    problems: Vec<Problem>,
    /// Index of the last problem that is a missing setting.
    last_missing: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(variables: &'a Variables) -> Self {
        Self {
            variables,
            problems: variables.problems.clone(),
            last_missing: None,
        }
    }

    fn rules(&mut self) -> Rules {
        let limits = Limits {
            transactions: self.integer(&settings::BATCH_MAX_TRANSACTIONS),
            bytes: self.integer(&settings::BATCH_MAX_BYTES),
        };
        let static_assets = self.static_assets();
        Rules {
            encoding: Encoding::Uap(Uap::new(static_assets.name())),
            static_assets,
            included_paths: self.globs(&settings::INCLUDE_PATHS, IncludedPaths::parse),
            excluded_paths: self.globs(&settings::EXCLUDE_PATHS, ExcludedPaths::parse),
            redaction: self.redaction(),
            limits,
        }
    }

    /// Checks that the requests in flight fit into the function's memory.
    fn check_memory(&mut self) {
        let Some(memory) = self.variables.function_memory else {
            return;
        };
        let setting = &settings::BRIDGE_CONCURRENCY;
        let bodies = self.integer(setting) * self.integer(&settings::BATCH_MAX_BYTES);
        let most = memory.saturating_sub(OTHER_MEMORY).saturating_mul(1 << 20) / MEMORY_PER_BODY;
        if bodies > most {
            let (memory, most) = (memory.to_string(), most.to_string());
            let values = [("memory", memory.as_str()), ("most", &most)];
            self.problem(setting, &messages::MEMORY, &values);
        }
    }

    fn static_assets(&mut self) -> StaticAssets {
        let setting = &settings::STATIC_EXTENSIONS;
        let parsed = self.variables.get(setting).map(StaticAssets::parse);
        match parsed.transpose() {
            Ok(static_assets) => static_assets.unwrap_or_default(),
            Err(error) => {
                let (message, position) = match error {
                    ExtensionsError::Mixed => (&messages::EXTENSIONS_MIXED, 0),
                    ExtensionsError::Invalid { position } => {
                        (&messages::EXTENSIONS_INVALID, position)
                    }
                };
                self.problem(setting, message, &[("position", &position.to_string())]);
                StaticAssets::default()
            }
        }
    }

    fn globs<T: Default>(
        &mut self,
        setting: &Setting,
        parse: fn(&str) -> Result<T, GlobsError>,
    ) -> T {
        match self.variables.get(setting).map(parse).transpose() {
            Ok(paths) => paths.unwrap_or_default(),
            Err(error) => {
                let (message, position, reason) = match error {
                    GlobsError::Relative { position } => {
                        (&messages::GLOB_RELATIVE, position, String::new())
                    }
                    GlobsError::Invalid { position, reason } => {
                        (&messages::GLOB_INVALID, position, reason)
                    }
                    GlobsError::TooLarge { reason } => (&messages::GLOBS_TOO_LARGE, 0, reason),
                };
                let position = position.to_string();
                let values = [("position", position.as_str()), ("reason", &reason)];
                self.problem(setting, message, &values);
                T::default()
            }
        }
    }

    fn redaction(&mut self) -> Redaction {
        let key = self.redaction_key();
        Redaction {
            urls: self.masked_names(),
            cookies: match self.choice(&settings::REDACT_COOKIES) {
                "keep" => Cookies::Keep,
                "hash" => Cookies::Hash(key),
                _ => Cookies::Drop,
            },
        }
    }

    fn masked_names(&mut self) -> Option<Names> {
        let setting = &settings::REDACT;
        let parsed = self.variables.get(setting).map(Names::parse);
        parsed
            .unwrap_or_else(|| Ok(Some(Names::default())))
            .unwrap_or_else(|error| {
                let (message, position) = match error {
                    NamesError::Switch => (&messages::NAMES_SWITCH, 0),
                    NamesError::Invalid { position } => (&messages::NAME_INVALID, position),
                    NamesError::Unlisted { position } => (&messages::NAME_UNLISTED, position),
                };
                self.problem(setting, message, &[("position", &position.to_string())]);
                Some(Names::default())
            })
    }

    /// Returns the key, or `None` if it is unset or invalid; it may be in the secret instead.
    fn redaction_key(&mut self) -> Option<Key> {
        let setting = &settings::REDACTION_KEY;
        let key = self.variables.get(setting);
        let is_hash = self.variables.get(&settings::REDACT_COOKIES) == Some("hash");
        let in_secret = self.variables.get(&settings::BRIDGE_SECRET_ARN).is_some();
        match key.map(Key::new) {
            Some(None) => self.problem(setting, &messages::SECRET, &[]),
            Some(key) => return key,
            None if is_hash && !in_secret => self.missing(setting, &messages::MISSING_KEY),
            None => {}
        }
        None
    }

    fn bridge(&mut self) -> Option<BridgeConfig> {
        let credentials = self.credentials();
        let token = self.url(&settings::BRIDGE_AUTH_ENDPOINT);
        let edge = self.url(&settings::BRIDGE_EDGE_ENDPOINT);
        let method = match self.choice(&settings::BRIDGE_AUTH_METHOD) {
            "client_secret_basic" => AuthMethod::Basic,
            _ => AuthMethod::Post,
        };
        let parameters = self.token_parameters();
        let concurrency = self.integer(&settings::BRIDGE_CONCURRENCY);
        let bridge_ca = self.certificates(&settings::BRIDGE_CA_FILE);
        Some(BridgeConfig {
            endpoints: Endpoints {
                edge: edge?,
                token: token?,
                method,
                parameters,
                bridge_ca,
            },
            credentials: credentials?,
            concurrency,
        })
    }

    fn token_parameters(&mut self) -> TokenParameters {
        let setting = &settings::BRIDGE_TOKEN_PARAMETERS;
        let parsed = self.variables.get(setting).map(TokenParameters::parse);
        parsed.transpose().map_or_else(
            |error| {
                let (message, position) = match error {
                    ParametersError::Invalid { position } => {
                        (&messages::PARAMETER_INVALID, position)
                    }
                    ParametersError::Reserved { position } => {
                        (&messages::PARAMETER_RESERVED, position)
                    }
                };
                self.problem(setting, message, &[("position", &position.to_string())]);
                TokenParameters::default()
            },
            Option::unwrap_or_default,
        )
    }

    fn credentials(&mut self) -> Option<CredentialsConfig> {
        let given = [&settings::BRIDGE_CLIENT_ID, &settings::BRIDGE_CLIENT_SECRET];
        let arn = &settings::BRIDGE_SECRET_ARN;
        match (
            self.variables.get(arn),
            given.map(|setting| self.variables.get(setting)),
        ) {
            (Some(arn), [None, None]) => Some(CredentialsConfig::Arn(arn.to_owned())),
            (Some(_), _) => {
                self.problem(arn, &messages::TWO_CREDENTIALS, &[]);
                None
            }
            (None, [Some(client_id), Some(client_secret)]) => Some(CredentialsConfig::Given(
                Credentials::new(client_id.to_owned(), client_secret.to_owned()),
            )),
            (None, values) => {
                for (setting, value) in given.into_iter().zip(values) {
                    if value.is_none() {
                        self.missing(setting, &messages::MISSING_OR_ARN);
                    }
                }
                None
            }
        }
    }

    /// Returns the content of a file of certificates.
    fn certificates(&mut self, setting: &Setting) -> Option<String> {
        let file = self.variables.get(setting)?;
        let pem = match std::fs::read_to_string(file) {
            Ok(pem) => pem,
            Err(error) => {
                let reason = reason(&error);
                self.problem(setting, &messages::FILE_UNREADABLE, &[("reason", &reason)]);
                return None;
            }
        };
        let message =
            match ServerTrust::new("", "").and_then(|tls| tls.set_operator_certificates(&pem)) {
                Ok(()) => return Some(pem),
                Err(TlsError::Empty) => &messages::FILE_EMPTY,
                Err(_) => &messages::FILE_INVALID,
            };
        self.problem(setting, message, &[]);
        None
    }

    /// Returns a URL, with `https` if it has no scheme and the default path if it has no path.
    fn url(&mut self, setting: &Setting) -> Option<EndpointUrl> {
        let Some(text) = self.variables.get(setting).map(str::trim) else {
            self.missing(setting, &messages::MISSING);
            return None;
        };
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("https://{text}"))
        };
        let Some(mut url) = url.ok().filter(Url::has_host) else {
            self.problem(setting, &messages::URL, &[]);
            return None;
        };
        let is_http = url.scheme() == "http";
        let message = if !is_http && url.scheme() != "https" {
            &messages::URL_SCHEME
        } else if !url.username().is_empty() || url.password().is_some() {
            &messages::URL_USER
        } else if url.fragment().is_some() {
            &messages::URL_FRAGMENT
        } else if is_http && !EndpointUrl::from(url.clone()).is_loopback() {
            &messages::URL_SCHEME
        } else {
            if let Kind::Url { default_path } = setting.kind
                && matches!(url.path(), "" | "/")
            {
                url.set_path(default_path);
            }
            return Some(url.into());
        };
        self.problem(setting, message, &[]);
        None
    }

    fn integer(&mut self, setting: &Setting) -> usize {
        let default = setting.default.and_then(|text| text.parse().ok());
        let number = self.variables.get(setting).map(|text| text.trim().parse());
        match (number, setting.kind) {
            (None, _) => default,
            (Some(Ok(number)), Kind::Integer { from, to }) if (from..=to).contains(&number) => {
                Some(number)
            }
            _ => {
                self.problem(setting, &messages::INTEGER, &[]);
                default
            }
        }
        .unwrap_or_default()
    }

    fn duration(&mut self, setting: &Setting) -> SignedDuration {
        let parse = |text: &str| {
            let span = text.parse::<Span>().ok()?;
            span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
        };
        let default = setting.default.and_then(parse).unwrap_or_default();
        let Some(text) = self.variables.get(setting) else {
            return default;
        };
        match (parse(text.trim()), setting.kind) {
            (Some(time), Kind::Duration { from, to })
                if time >= SignedDuration::from_secs(from.into())
                    && time <= SignedDuration::from_secs(to.into()) =>
            {
                time
            }
            _ => {
                self.problem(setting, &messages::DURATION, &[]);
                default
            }
        }
    }

    fn choice(&mut self, setting: &Setting) -> &'static str {
        let default = setting.default.unwrap_or_default();
        let Some(text) = self.variables.get(setting) else {
            return default;
        };
        let choice = match setting.kind {
            Kind::Choice {
                values,
                ignore_case: true,
            } => values
                .iter()
                .find(|value| value.eq_ignore_ascii_case(text.trim())),
            Kind::Choice { values, .. } => values.iter().find(|value| **value == text),
            _ => None,
        };
        choice.copied().unwrap_or_else(|| {
            self.problem(setting, &messages::CHOICE, &[]);
            default
        })
    }

    fn log_level(&mut self) -> Level {
        Level::from_str(self.choice(&settings::LOG_LEVEL)).unwrap_or(Level::INFO)
    }

    fn problem(&mut self, setting: &Setting, message: &Message, values: &[(&str, &str)]) {
        self.problems.push(setting.problem(message, values));
    }

    fn missing(&mut self, setting: &Setting, message: &Message) {
        if !self.variables.unreadable.contains(setting.name) {
            self.last_missing = Some(self.problems.len());
            self.problem(setting, message, &[]);
        }
    }

    /// The hint of the last missing setting also says that `.env` does not exist.
    fn into_problems(mut self) -> Problems {
        if self.variables.lacks_file
            && let Some(at) = self.last_missing
            && let Some(Problem { hint, .. }) = self.problems.get_mut(at)
        {
            let action = hint.take().unwrap_or_default();
            *hint = Some(format!("{action} (the current directory has no `.env`)"));
        }
        Problems(self.problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_comes_from_the_first_variable_with_a_value() {
        for (variables, url, exceptions) in [
            (&[][..], None, ""),
            (&[("NO_PROXY", "a"), ("HTTP_PROXY", "http://b")], None, ""),
            (
                &[("HTTPS_PROXY", "http://me:canary@a:1"), ("NO_PROXY", "b,c")],
                Some("http://me:canary@a:1"),
                "b,c",
            ),
            (
                &[("https_proxy", "a:1"), ("no_proxy", "b")],
                Some("http://a:1"),
                "b",
            ),
            (
                &[
                    ("HTTPS_PROXY", ""),
                    ("ALL_PROXY", "https://a"),
                    ("NO_PROXY", ""),
                ],
                Some("https://a"),
                "",
            ),
            (&[("HTTPS_PROXY", "foo://canary@b:1")], None, ""),
            (&[("HTTPS_PROXY", "http://u:canary@")], None, ""),
            (&[("HTTPS_PROXY", "http://u:canary")], None, ""),
            (&[("HTTPS_PROXY", "http://can ary:1")], None, ""),
            (&[("HTTPS_PROXY", "http://a:99999")], None, ""),
            (
                &[("HTTPS_PROXY", "socks5://a:1"), ("ALL_PROXY", "http://b:2")],
                Some("http://b:2"),
                "",
            ),
            (
                &[("ALL_PROXY", "http://u:p%40canary@[::1]:1/")],
                Some("http://u:p%40canary@[::1]:1/"),
                "",
            ),
        ] {
            let get = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let proxy = read_proxy(get);
            assert!(!format!("{proxy:?}").contains("canary"));
            let expected = url.map(|url: &str| Proxy {
                url: url.to_owned(),
                exceptions: exceptions.to_owned(),
            });
            assert_eq!(proxy, Ok(expected), "{variables:?}");
        }
    }

    #[test]
    fn named_certificates_replace_the_roots() {
        let directory = tempfile::tempdir().unwrap();
        let of = |name: &str, pem: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, pem).unwrap();
            path.to_string_lossy().into_owned()
        };
        let authority = || {
            let made = rcgen::generate_simple_self_signed(["a.invalid".to_owned()]).unwrap();
            made.cert.pem()
        };
        let one = of("one.pem", &authority());
        let two = of("two.pem", &(authority() + &authority()));
        let empty = of("empty.pem", "");
        of("directory/a.pem", &authority());
        let within = directory
            .path()
            .join("directory")
            .to_string_lossy()
            .into_owned();
        let missing = directory
            .path()
            .join("missing.pem")
            .to_string_lossy()
            .into_owned();
        let public = Roots::Public.load().len();
        for (variables, expected) in [
            (vec![], Ok(public)),
            (vec![("SSL_CERT_FILE", "")], Ok(public)),
            (vec![("SSL_CERT_FILE", one.as_str())], Ok(1)),
            (vec![("SSL_CERT_DIR", within.as_str())], Ok(1)),
            (
                vec![
                    ("SSL_CERT_FILE", two.as_str()),
                    ("SSL_CERT_DIR", within.as_str()),
                ],
                Ok(3),
            ),
            (
                vec![
                    ("AWS_CA_BUNDLE", two.as_str()),
                    ("SSL_CERT_FILE", one.as_str()),
                ],
                Ok(2),
            ),
            (
                vec![
                    ("AWS_CA_BUNDLE", within.as_str()),
                    ("SSL_CERT_DIR", "missing"),
                ],
                Ok(1),
            ),
            (
                vec![("SSL_CERT_FILE", empty.as_str())],
                Err("`SSL_CERT_FILE` cannot be used: the text contains no certificate"),
            ),
            (
                vec![("AWS_CA_BUNDLE", missing.as_str())],
                Err("`AWS_CA_BUNDLE` cannot be used: "),
            ),
        ] {
            let get = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = read_network(get, Roots::Public).map(|network| network.roots.len());
            match expected {
                Ok(number) => assert_eq!(found, Ok(number), "{variables:?}"),
                Err(words) => {
                    let text = found.unwrap_err().to_string();
                    assert!(text.contains(words), "{text}");
                    assert!(text.contains("name a PEM file"), "{text}");
                }
            }
        }
    }

    #[test]
    fn proxy_with_an_unclear_password_is_a_problem() {
        for url in [
            "http://user:p@canary@127.0.0.1:1",
            "http://u:se#canary@a:1",
            "http://u:se?canary@a:1",
            "https://u:se/canary@a",
            "u:canary@b@a:1",
        ] {
            for name in ["HTTPS_PROXY", "all_proxy"] {
                let get = |wanted: &str| (wanted == name).then(|| url.to_owned());
                let text = read_proxy(get).unwrap_err().to_string();
                assert!(text.starts_with(&format!("`{name}` ")), "{text}");
                assert!(text.contains("percent-encoded"), "{text}");
                assert!(!text.contains("canary"), "{text}");
            }
        }
    }
}

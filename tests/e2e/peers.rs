//! The real peers: moto's server as AWS, `oidc-provider` as the OAuth server. `./scripts/test.sh`
//! installs them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::Credentials;
use edgetap::aws::{Network, http_client};
use serde_json::{Value, json};

use crate::runtime_api::Process;

/// Python and Node start slowly on a busy machine.
const START: Duration = Duration::from_secs(90);
/// The time within which a peer's output shows an action.
const SHOWN: Duration = Duration::from_secs(10);

/// A part of the clients' secret that no escaping changes.
pub(crate) const SECRET_CANARY: &str = "e2eSecretCanary71c5";
/// A secret that belongs to no client.
pub(crate) const WRONG_SECRET: &str = "e2eWrongSecretCanary04fa";
/// The function's AWS secret key.
pub(crate) const AWS_SECRET_CANARY: &str = "e2eAwsSecretCanaryb9d0";

/// The client that authenticates in the request body.
pub(crate) const POST_CLIENT: &str = "tap-post";
/// The client that authenticates in the `Authorization` header, where a colon is special.
pub(crate) const BASIC_CLIENT: &str = "tap basic:1";
/// The bridge as a resource server that introspects tokens.
const BRIDGE_CLIENT: (&str, &str) = ("bridge", "introspection-secret");

pub(crate) const REGION: &str = "us-east-1";

/// The secret of both clients: every character that RFC 6749 allows (visible ASCII and the space).
pub(crate) fn secret() -> String {
    let visible: String = (b' '..=b'~').map(char::from).collect();
    format!("a&b+c%20d:e#f'g\"h i$(j)`k`\\l=m;{SECRET_CANARY}{visible} ")
}

/// Returns the path of a tool: from a variable of scripts/test.sh, else its default place.
#[expect(
    clippy::disallowed_methods,
    reason = "these are not settings of edgetap"
)]
fn installed(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: run ./scripts/test.sh, which installs and builds the peers",
        path.display()
    );
    path
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Lambda function from the zip of `scripts/build-lambda.sh`.
pub(crate) fn bootstrap() -> PathBuf {
    installed("E2E_BOOTSTRAP", "target/e2e/function/bootstrap")
}

/// AWS's Runtime Interface Emulator.
pub(crate) fn emulator() -> PathBuf {
    installed("E2E_EMULATOR", "target/e2e/aws-lambda-rie")
}

/// A program of the Python environment.
pub(crate) fn python_program(name: &str) -> PathBuf {
    installed("E2E_VENV", "target/e2e/venv")
        .join("bin")
        .join(name)
}

/// Processes that tests share while they run; the last test that drops them ends them.
pub(crate) struct Peers {
    _moto: Process,
    oauth: Mutex<Process>,
    /// The URL of moto's server.
    pub(crate) aws: String,
    pub(crate) token_endpoint: String,
    introspection_endpoint: String,
}

impl Peers {
    /// Returns the running peers, or starts new ones.
    pub(crate) fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Peers>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let peers = Arc::new(Self::start());
            *running = Arc::downgrade(&peers);
            peers
        })
    }

    fn start() -> Self {
        let mut moto = Process::start(Command::new(python_program("moto_server")).args([
            "-H",
            "127.0.0.1",
            "-p",
            "0",
        ]));
        let mut oauth = oauth_server();
        let aws = moto.wait_for(START, |line| {
            let (_, address) = line.split_once("Running on ")?;
            address.split_whitespace().next().map(str::to_owned)
        });
        let endpoints = oauth.wait_for(START, |line| {
            serde_json::from_str::<Value>(line)
                .ok()
                .filter(|line| line.get("issuer").is_some())
        });
        let endpoint = |name: &str| endpoints[name].as_str().unwrap().to_owned();
        Self {
            _moto: moto,
            oauth: oauth.into(),
            aws,
            token_endpoint: endpoint("token_endpoint"),
            introspection_endpoint: endpoint("introspection_endpoint"),
        }
    }

    /// Returns the configuration of the tests' own AWS clients.
    pub(crate) async fn sdk_config(&self) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(&self.aws)
            .http_client(http_client(Network::default()).unwrap())
            .load()
            .await
    }

    /// Waits until the OAuth server has logged a token for the client, and returns how the client
    /// authenticated.
    pub(crate) fn authentication_of(&self, client_id: &str) -> String {
        let mut oauth = self.oauth.lock().unwrap_or_else(PoisonError::into_inner);
        oauth.wait_for(SHOWN, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["client_id"] == client_id)
                .then(|| line["authentication"].as_str().unwrap().to_owned())
        })
    }

    /// Asks the OAuth server whether a token is valid (RFC 7662).
    pub(crate) fn introspect(&self, token: String) -> impl Future<Output = bool> + Send + use<> {
        let endpoint = self.introspection_endpoint.clone();
        async move {
            let (id, secret) = BRIDGE_CLIENT;
            let form = [
                ("client_id", id),
                ("client_secret", secret),
                ("token", &token),
            ];
            let form = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form)
                .finish();
            let request = http()
                .post(endpoint)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(form);
            let response = request.send().await.unwrap();
            assert!(
                response.status().is_success(),
                "introspection: {}",
                response.status()
            );
            let response: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
            response["active"] == true
        }
    }
}

fn oauth_server() -> Process {
    let directory = repository().join("tests/e2e/oauth");
    assert!(
        directory.join("node_modules").exists(),
        "tests/e2e/oauth/node_modules is missing: run ./scripts/test.sh, which runs npm ci"
    );
    let client = |id: &str, secret: &str, method: &str| json!({ "client_id": id, "client_secret": secret, "token_endpoint_auth_method": method });
    let (id, introspection_secret) = BRIDGE_CLIENT;
    let clients = json!({ "clients": [
        client(POST_CLIENT, &secret(), "client_secret_post"),
        client(BASIC_CLIENT, &secret(), "client_secret_basic"),
        client(id, introspection_secret, "client_secret_post"),
    ]});
    let mut server = Process::start(
        Command::new("node")
            .arg("server.mjs")
            .current_dir(directory)
            .stdin(Stdio::piped()),
    );
    // The server ends when its stdin closes, and so never outlives the tests.
    writeln!(server.stdin(), "{clients}").unwrap();
    server
}

/// Returns the HTTP client for the tests' own requests.
#[expect(
    clippy::disallowed_methods,
    reason = "it talks to the tests' peers, never to a bridge"
)]
pub(crate) fn http() -> reqwest::Client {
    // reqwest is built without a TLS provider. Only the first call has an effect.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}

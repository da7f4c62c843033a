//! `edgetap check`: checks the configuration step by step. The first step that fails ends it.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use edgetap::batch::Limits;
use edgetap::bridge::{Bridge, Endpoints};
use edgetap::config::{Config, Variables};
use edgetap::endpoint::EndpointUrl;
use edgetap::job::{Job, ObjectRef};
use edgetap::pipeline::{Batches, Rules};
use edgetap::probe::{self, NoResponse, Path, Response, no_transactions, probe};
use edgetap::time::Deadline;
use edgetap::tls::{Flaw, Presented, ServerTrust};
use edgetap::token::TokenError;
use rustls::pki_types::CertificateDer;

use crate::certificates::{describe, is_expired, pem};
use crate::output::{Hinted, StdoutError, stdout};
use crate::{Failure, connect};

/// Limit of each step that uses the network.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the bodies of `--large`, before the largest one. They are just below limits of firewalls
/// in wide use, so that the last accepted one is a useful `BATCH_MAX_BYTES`.
const LARGE: [usize; 2] = [8_000, 64_000];
/// Bytes of a large transaction, most of them in its URL. CloudFront's limit of a URL is 8,192.
const LARGE_TRANSACTION: usize = 8_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also post one transaction, labeled /edgetap-check, and show the bridge's response.
    #[arg(long)]
    send: bool,
    /// With --send: then post larger and larger requests, up to `BATCH_MAX_BYTES`, to find the
    /// limit of a firewall or proxy. All their transactions are labeled /edgetap-check.
    #[arg(long, requires = "send")]
    large: bool,
}

pub(crate) async fn run(args: &Args, variables: &Variables) -> Result<(), Failure> {
    let config = Config::read(variables)?;
    let endpoints = config.bridge.endpoints.clone();
    let Endpoints { token, edge, .. } = &endpoints;
    let bridge = connect(config.bridge).await?;
    writeln!(stdout(), "settings     ok")?;
    print_url("token URL", token)?;
    print_url("bridge URL", edge)?;
    let check = Check {
        bridge,
        endpoints,
        rules: Arc::new(config.rules),
    };
    check.token().await?;
    if !args.send {
        check.path().await?;
        return Ok(writeln!(stdout(), "transaction  not tested; use --send")?);
    }
    let accepted = check.send().await?;
    if args.large {
        check.send_large(accepted).await?;
    }
    Ok(())
}

fn print_url(label: &str, endpoint: &EndpointUrl) -> Result<(), StdoutError> {
    let proxy = endpoint.proxy();
    let proxy = proxy.map(|proxy| format!(", through the proxy {proxy}"));
    writeln!(
        stdout(),
        "{label:13}{endpoint}{}",
        proxy.unwrap_or_default()
    )
}

struct Check {
    bridge: Bridge,
    endpoints: Endpoints,
    rules: Arc<Rules>,
}

impl Check {
    fn tls(&self) -> &Arc<ServerTrust> {
        self.bridge.tls()
    }

    /// Gets a token.
    async fn token(&self) -> Result<(), Failure> {
        let started = Instant::now();
        let token = self.bridge.tokens().token(Deadline::after(PATIENCE)).await;
        token.map_err(|error| self.no_token(error))?;
        let milliseconds = started.elapsed().as_millis();
        writeln!(stdout(), "token        ok: received in {milliseconds} ms")?;
        Ok(self.print_tls("token TLS", &self.endpoints.token)?)
    }

    /// Tries the path of the bridge with a request without transactions.
    async fn path(&self) -> Result<(), Failure> {
        let body = no_transactions(&self.rules.encoding);
        let response = self.post(body, "the bridge did not respond: ").await?;
        let (status, refusal) = (&response.status, response.refusal.as_deref());
        let refusal = refusal.unwrap_or_default();
        match response.path {
            Path::Exists => Ok(writeln!(
                stdout(),
                "bridge path  ok: it exists ({status} to a request without transactions)"
            )?),
            Path::Wrong => {
                print_response(&response)?;
                Err(anyhow!("the bridge rejected a request without transactions: {refusal}").into())
            }
            Path::Unknown => {
                print_response(&response)?;
                Err(hinted(
                    format!(
                        "cannot tell whether the path of BRIDGE_EDGE_ENDPOINT exists: {refusal}"
                    ),
                    "try again later, or use --send, which posts one transaction",
                ))
            }
        }
    }

    /// Sends one transaction, and prints what the bridge returns. Returns the bytes of its body.
    async fn send(&self) -> Result<usize, Failure> {
        const FAILED: &str = "the test transaction was not delivered: ";
        let body = self.body(1, "")?;
        let bytes = body.len();
        let response = self.post(body, FAILED).await?;
        print_response(&response)?;
        if let Some(why) = response.refusal {
            return Err(anyhow!("{FAILED}{why}").into());
        }
        writeln!(
            stdout(),
            "transaction  ok: accepted; look for /edgetap-check in the platform"
        )?;
        Ok(bytes)
    }

    /// Sends larger and larger requests. One of `accepted` bytes was accepted before.
    async fn send_large(&self, mut accepted: usize) -> Result<(), Failure> {
        for body in large_sizes(self.rules.limits) {
            let body = self.large_body(body)?;
            let bytes = body.len();
            let deadline = Deadline::after(PATIENCE);
            let refusal = match probe(&self.bridge, body, deadline).await {
                Err(error) => Some((error.why, error.may_be_size)),
                Ok(response) => {
                    if response.refusal.is_some() {
                        print_response(&response)?;
                    }
                    response.refusal.map(|why| (why, response.may_be_size))
                }
            };
            if let Some((why, may_be_size)) = refusal {
                let message = format!("a request of {bytes} bytes was not accepted: {why}");
                if !may_be_size {
                    return Err(anyhow!(message).into());
                }
                return Err(hinted(
                    message,
                    format!(
                        "a request of {accepted} bytes was accepted. Raise the limit of the firewall or proxy in\n  \
                         front of the bridge, or set BATCH_MAX_BYTES={}",
                        accepted.max(1_000)
                    ),
                ));
            }
            writeln!(stdout(), "large        ok: {bytes} bytes accepted")?;
            accepted = bytes;
        }
        let Limits {
            bytes,
            transactions,
        } = self.rules.limits;
        if transactions * LARGE_TRANSACTION < bytes {
            writeln!(
                stdout(),
                "large        not tested: more than {accepted} bytes, up to BATCH_MAX_BYTES={bytes}; \
                 BATCH_MAX_TRANSACTIONS={transactions} allows no larger test"
            )?;
        }
        Ok(())
    }

    /// Returns a request body of about that size: a little smaller, or as large as the limit of
    /// transactions allows.
    fn large_body(&self, bytes: usize) -> Result<Bytes, Failure> {
        let label = "&padding=";
        let alone = self.body(1, label)?.len();
        let number = bytes
            .div_ceil(LARGE_TRANSACTION)
            .min(self.rules.limits.transactions);
        let padding = (bytes / number).saturating_sub(alone);
        self.body(number, &format!("{label}{}", "x".repeat(padding)))
    }

    /// Returns a request body of test transactions as the function encodes them. `query` is the end
    /// of the query of each.
    fn body(&self, number: usize, query: &str) -> Result<Bytes, Failure> {
        let now = jiff::Timestamp::now().as_millisecond();
        let agent = concat!("edgetap/", env!("CARGO_PKG_VERSION"), "%20check");
        let mut log = "#Fields: timestamp(ms) c-ip cs-method cs-uri-stem cs-uri-query sc-status x-host-header cs-protocol cs(User-Agent) x-edge-request-id\n".to_owned();
        for row in 0..number {
            writeln!(
                log,
                "{now}\t192.0.2.1\tGET\t/edgetap-check\tsent-by=edgetap-check{query}\t200\tedgetap.invalid\thttps\t{agent}\tedgetap-check-{now}-{row:03}"
            )?;
        }
        let job = Job::all(ObjectRef::local("edgetap-check"));
        let batch = Batches::new(&job, io::Cursor::new(log), self.rules.clone()).next();
        let is_whole = |sent: u64| usize::try_from(sent).is_ok_and(|sent| sent == number);
        let batch = batch
            .transpose()?
            .filter(|batch| is_whole(batch.counts.sent));
        batch.map(|batch| batch.body).ok_or_else(|| {
            hinted(
                "the test transaction was not sent: EXCLUDE_PATHS excludes /edgetap-check",
                "remove the glob that matches it; it probably matches every path",
            )
        })
    }

    /// Posts a body to the bridge, and prints the certificates that it presents. `failed` begins the
    /// message if the response is missing.
    async fn post(&self, body: Bytes, failed: &str) -> Result<Response, Failure> {
        let edge = &self.endpoints.edge;
        let response = probe(&self.bridge, body, Deadline::after(PATIENCE)).await;
        let response = response.map_err(
            |NoResponse {
                 why,
                 is_unreachable,
                 ..
             }| {
                let message = format!("{failed}{why}");
                self.untrusted(edge).unwrap_or_else(|| {
                    if is_unreachable {
                        hinted(message, where_to_look("BRIDGE_EDGE_ENDPOINT", edge))
                    } else {
                        anyhow!(message).into()
                    }
                })
            },
        )?;
        self.print_tls("bridge TLS", edge)?;
        Ok(response)
    }

    /// Returns the error for a token that was not received. `check` does not try again later, unlike
    /// the function.
    fn no_token(&self, error: TokenError) -> Failure {
        let token = &self.endpoints.token;
        let TokenError::Later { reason, .. } = error else {
            return error.into();
        };
        if let Some(untrusted) = self.untrusted(token) {
            return untrusted;
        }
        let message = format!("cannot get a token: {reason}");
        let is_unreachable = [
            format!("{token}: cannot connect: "),
            format!("{token}: the request timed out"),
            format!("{token} did not return"),
        ]
        .iter()
        .any(|begin| reason.starts_with(begin));
        if is_unreachable {
            return hinted(message, where_to_look("BRIDGE_AUTH_ENDPOINT", token));
        }
        anyhow!(message).into()
    }

    /// Prints how TLS to an endpoint went, and its certificates.
    fn print_tls(&self, label: &str, endpoint: &EndpointUrl) -> Result<(), StdoutError> {
        if !endpoint.is_https() {
            return writeln!(
                stdout(),
                "{label:13}not used: the server is on this machine"
            );
        }
        let Endpoints { token, edge, .. } = &self.endpoints;
        let server = |endpoint: &EndpointUrl| (endpoint.host().to_owned(), endpoint.port());
        if endpoint == edge && token.is_https() && server(token) == server(edge) {
            return writeln!(stdout(), "{label:13}ok: the same server as the token URL's");
        }
        let Some(Presented { chain, version, .. }) = self.tls().presented(endpoint.host()) else {
            return Ok(());
        };
        let (host, port) = server(endpoint);
        let version = version.unwrap_or("TLS");
        // An exact match with BRIDGE_CA_FILE has no end.
        let expired = if chain.first().is_some_and(is_expired) {
            " by BRIDGE_CA_FILE or bridge_ca, but expired: renew it"
        } else {
            ""
        };
        writeln!(
            stdout(),
            "{label:13}ok: {version} to {host}:{port}, certificate trusted{expired}"
        )?;
        print_chain(&chain)
    }

    /// If an endpoint's certificates are not trusted, prints them and returns the error.
    fn untrusted(&self, endpoint: &EndpointUrl) -> Option<Failure> {
        let presented = self.tls().presented(endpoint.host())?;
        let (mut flaw, distrust) = presented.distrust?;
        let own = presented.chain.first();
        if own.is_some_and(is_expired) {
            flaw = Flaw::Expired;
        }
        let printed = print_chain(&presented.chain).and_then(|()| match own {
            Some(own) if flaw == Flaw::Issuer => writeln!(stdout(), "\n{}", pem(own)),
            _ => Ok(()),
        });
        if let Err(error) = printed {
            return Some(error.into());
        }
        let hint = match flaw {
            Flaw::Issuer => self.how_to_trust(endpoint),
            Flaw::Expired => "renew the server's certificate, and check this machine's clock",
            Flaw::Name => "use a host name in the URL that the certificate above is for",
            Flaw::Other => "replace the server's certificate, and check this machine's clock",
        };
        let (host, port) = (endpoint.host(), endpoint.port());
        Some(hinted(
            format!("the certificate of {host}:{port} is not trusted: {distrust}"),
            hint,
        ))
    }

    /// Returns how to trust a certificate whose issuer is unknown.
    fn how_to_trust(&self, endpoint: &EndpointUrl) -> &'static str {
        if endpoint.host() == self.endpoints.edge.host() {
            "compare the SHA-256 above with the bridge operator's. If it matches, save the PEM above as\n  \
             `bridge.pem` and set BRIDGE_CA_FILE=bridge.pem. If a private CA issued it, use the CA's\n  \
             certificate instead. For the function, run scripts/setup-tfvars.sh again, then terraform apply."
        } else {
            "if a private CA issued it, save the CA's certificate as `ca.pem` and set BRIDGE_CA_FILE=ca.pem.\n  \
             The file may have several certificates. A self-signed certificate is trusted for the bridge's\n  \
             host only. For the function, run scripts/setup-tfvars.sh again, then terraform apply."
        }
    }
}

/// Returns the sizes of the bodies of `--large`. The last one is the largest that edgetap posts.
fn large_sizes(limits: Limits) -> impl Iterator<Item = usize> {
    let most = limits.bytes.min(limits.transactions * LARGE_TRANSACTION);
    let smaller = LARGE.into_iter().filter(move |bytes| *bytes < most);
    smaller.chain([most])
}

fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Failure {
    let (message, hint) = (message.into(), hint.into());
    Hinted { message, hint }.into()
}

/// Returns what to check if an endpoint cannot be reached.
fn where_to_look(setting: &str, endpoint: &EndpointUrl) -> String {
    let hint = format!("check the host and port in {setting}");
    match endpoint.proxy() {
        Some(proxy) => format!("{hint}, and the proxy {proxy} (HTTPS_PROXY)"),
        None if endpoint.is_loopback() => hint,
        None => format!("{hint}; set HTTPS_PROXY if your network needs a proxy"),
    }
}

fn print_response(Response { status, head, .. }: &Response) -> Result<(), StdoutError> {
    writeln!(stdout(), "response     {status}, {}", head_text(head))
}

fn print_chain(chain: &[CertificateDer<'_>]) -> Result<(), StdoutError> {
    for certificate in chain {
        writeln!(stdout(), "{}", describe(certificate))?;
    }
    Ok(())
}

/// Returns the beginning of a response's body in one line, with control characters as escapes, which
/// a terminal does not obey.
fn head_text(head: &Result<Vec<u8>, String>) -> String {
    let head = match head {
        Ok(head) if head.is_empty() => return "without a body".to_owned(),
        Ok(head) => head,
        Err(error) => return format!("whose body cannot be read: {error}"),
    };
    let mut text = "body: ".to_owned();
    for c in String::from_utf8_lossy(head).chars() {
        match c {
            '"' | '\'' | '\\' => text.push(c),
            c => text.extend(c.escape_debug()),
        }
    }
    if head.len() == probe::HEAD {
        text.push('…');
    }
    text
}

//! `edgetap check`: what it tests, by which way, and what it says.

use std::sync::Arc;

use bytes::Bytes;
use edgetap::local_bridge::{Arrival, Endpoint, LocalBridge, Options, Reaction, serve};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::json;

use crate::command_line::{against, edgetap, settings, stderr, stdout, with_settings};
use crate::support::certificates::{Kind, certificates};
use crate::support::connect_proxy::{ConnectProxy, Tunnel};
use crate::support::{at_edge, start};

#[tokio::test]
async fn check_hints_at_host_and_port_of_an_unreachable_endpoint() {
    let options = Options::default();
    let bridge = start(&options).await;
    let mut settings = settings(&bridge, &options);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    settings[0].1 = format!("http://{address}/token");
    let output = with_settings(settings.clone(), &["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "error: cannot get a token: http://{address}/token: cannot connect: Connection refused\n  \
         hint: check the host and port in BRIDGE_AUTH_ENDPOINT\n"
    );
    assert_eq!(stderr(&output), expected);

    settings[0].1 = bridge.token_url();
    settings[1].1 = format!("http://{address}/");
    let output = with_settings(settings, &["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "error: the bridge did not respond: http://{address}/api-transactions: cannot connect: Connection refused\n  \
         hint: check the host and port in BRIDGE_EDGE_ENDPOINT\n"
    );
    assert_eq!(stderr(&output), expected);
}

#[tokio::test]
async fn check_send_delivers_the_test_transaction() {
    let options = Options::default();
    let bridge = start(&options).await;
    let output = against(&bridge, &options, &["check", "--send"], Vec::new()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("token        ok"), "{text}");
    assert!(text.contains("transaction  ok"), "{text}");
    assert!(!text.contains("not tested"), "{text}");
    assert_eq!(
        bridge.received()[0].transactions[0]
            .request
            .uri_query_fragment,
        "/edgetap-check?sent-by=edgetap-check"
    );
}

#[tokio::test]
async fn check_send_shows_the_beginning_of_the_response() {
    let long = "x".repeat(499) + "é and more";
    let cut = format!("body: {}\u{fffd}…", "x".repeat(499));
    for (status, content_type, body, shown, error) in [
        (200, "application/json", "", "200 OK, without a body", None),
        (
            202,
            "application/json",
            "{\"rejected\": 5,\n\"\\\": \"\u{1b}[31mé\u{202e}\"}",
            "202 Accepted, body: {\"rejected\": 5,\\n\"\\\": \"\\u{1b}[31mé\\u{202e}\"}",
            None,
        ),
        (200, "text/plain", &long, &format!("200 OK, {cut}"), None),
        (
            207,
            "application/json",
            "[]",
            "207 Multi-Status, body: []",
            Some("returned 207 Multi-Status. This status does not say"),
        ),
        (
            200,
            "text/html",
            "<html>",
            "200 OK, body: <html>",
            Some("returned 200 OK with an HTML page"),
        ),
        (
            200,
            "text/plain",
            " <!doctype HTML>",
            "200 OK, body:  <!doctype HTML>",
            Some("returned 200 OK with an HTML page"),
        ),
        (
            400,
            "text/plain",
            "no field `x`",
            "400 Bad Request, body: no field `x`",
            Some("returned 400 Bad Request. Check that BRIDGE_EDGE_ENDPOINT accepts"),
        ),
        (
            503,
            "text/plain",
            "busy",
            "503 Service Unavailable, body: busy",
            Some("returned 503 Service Unavailable. "),
        ),
    ] {
        let reaction = Reaction::respond(status, content_type, body);
        let options = at_edge(move |_| reaction.clone());
        let bridge = start(&options).await;
        let output = against(&bridge, &options, &["check", "--send"], Vec::new()).await;
        let (text, reported) = (stdout(&output), stderr(&output));
        assert!(text.contains(&format!("response     {shown}\n")), "{text}");
        assert_eq!(output.status.success(), error.is_none(), "{reported}");
        assert_eq!(text.contains("transaction  ok"), error.is_none(), "{text}");
        let error = error.map(|why| format!("was not delivered: {} {why}", bridge.edge_url()));
        assert!(reported.contains(&error.unwrap_or_default()), "{reported}");
    }
}

#[tokio::test]
async fn check_masks_what_a_response_repeats_of_the_request() {
    let react = |arrival: Arrival<'_>| match arrival.endpoint {
        Endpoint::Token => Reaction::respond(
            200,
            "application/json",
            r#"{"access_token": "canary-token"}"#,
        ),
        Endpoint::Edge => {
            let begin = "x".repeat(450);
            let body = format!("{begin} Bearer canary-token canary key, canary%20key canary-token");
            Reaction::respond(200, "text/plain", body)
        }
    };
    let options = Options {
        react: Arc::new(react),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let mut settings = settings(&bridge, &options);
    settings[1].1 += "?code=canary%20key&v=1";
    let output = with_settings(settings, &["check", "--send"]).await;
    let text = stdout(&output) + &stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains(" Bearer REDACTED REDACTED, REDACTED REDA"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn check_reports_a_wrong_secret_without_it() {
    let options = Options::default();
    let bridge = start(&options).await;
    let wrong = Options {
        client_secret: "another".to_owned(),
        ..options
    };
    let output = against(&bridge, &wrong, &["check"], Vec::new()).await;
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.starts_with("error: "), "{text}");
    assert!(text.contains("invalid_client"), "{text}");
    assert!(!text.contains("another"), "{text}");
}

#[tokio::test]
async fn check_names_the_setting_that_excludes_its_request() {
    let options = Options::default();
    let bridge = start(&options).await;
    let mut settings = settings(&bridge, &options);
    settings.push(("EXCLUDE_PATHS", "/**".to_owned()));
    let output = with_settings(settings, &["check", "--send"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("EXCLUDE_PATHS"), "{text}");
    assert!(text.contains("\n  hint: "), "{text}");
}

#[tokio::test]
async fn check_reports_a_port_without_tls() {
    let options = Options::default();
    let bridge = start(&options).await;
    let mut settings = settings(&bridge, &options);
    settings[1].1 = bridge.edge_url().replace("http://", "https://");
    let output = with_settings(settings.clone(), &["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "error: the bridge did not respond: {}: cannot connect: the server does not speak TLS on this port\n  \
         hint: check the host and port in BRIDGE_EDGE_ENDPOINT\n",
        settings[1].1
    );
    assert_eq!(stderr(&output), expected);
}

#[tokio::test]
async fn check_prints_untrusted_certificate_and_how_to_pin_it() {
    let certificates = certificates(Kind::SelfSigned, &["127.0.0.1"]);
    let options = Options::default();
    let (plain, over_tls) = (
        start(&options).await,
        start(&Options {
            tls: Some(certificates.server),
            authorize: Some(Arc::new(|_| Box::pin(async { true }))),
            ..options.clone()
        })
        .await,
    );
    let directory = tempfile::tempdir().unwrap();
    let env_file = directory.path().join("bridge.env");
    let write = |token_url: &str, more: &str| {
        let text = format!(
            "BRIDGE_AUTH_ENDPOINT={token_url}\nBRIDGE_EDGE_ENDPOINT={}\n\
             BRIDGE_CLIENT_ID={}\nBRIDGE_CLIENT_SECRET={}\n{more}",
            over_tls.edge_url(),
            options.client_id,
            options.client_secret
        );
        std::fs::write(&env_file, text).unwrap();
    };
    let check = || {
        let env_file = env_file.to_str().unwrap().to_owned();
        tokio::task::spawn_blocking(move || edgetap(&["check", "--env-file", &env_file], &[], b""))
    };
    let own_host = "hint: compare the SHA-256";
    let other_host = "hint: if a private CA issued it";
    for (token_url, hint) in [
        // Over plain http, the bridge's certificate is the first that is checked.
        (plain.token_url(), own_host),
        (over_tls.token_url(), own_host),
        (
            over_tls.token_url().replace("127.0.0.1", "localhost"),
            other_host,
        ),
    ] {
        write(&token_url, "");
        let output = check().await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let (shown, reported) = (stdout(&output), stderr(&output));
        let (start, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        assert!(shown.contains("SHA-256"), "{shown}");
        assert!(reported.contains("is not trusted: "), "{reported}");
        assert!(reported.contains(hint), "{reported}");
        assert!(reported.contains("BRIDGE_CA_FILE="), "{reported}");

        // The PEM that it prints is the one that it accepts.
        let pem = &shown[shown.find(start).unwrap()..shown.find(end).unwrap() + end.len()];
        let file = directory.path().join("bridge.pem");
        std::fs::write(&file, pem).unwrap();
        write(&token_url, &format!("BRIDGE_CA_FILE={}\n", file.display()));
        let output = check().await.unwrap();
        if hint == other_host {
            let reported = stderr(&output);
            assert!(reported.contains(hint), "{reported}");
            continue;
        }
        assert!(output.status.success(), "{}", stderr(&output));
        let shown = stdout(&output);
        assert!(shown.contains(" ok: TLS 1.3 to "), "{shown}");
        assert!(shown.contains(", certificate trusted\n"), "{shown}");
        assert!(
            shown.ends_with("transaction  not tested; use --send\n"),
            "{shown}"
        );
    }
}

/// Runs `edgetap check` with the options of `args` against a bridge whose edge endpoint reacts.
async fn check(
    react: impl Fn(&[u8]) -> Reaction + Send + Sync + 'static,
    args: &[&str],
    more: &[(&'static str, &str)],
) -> (LocalBridge, std::process::Output) {
    let options = at_edge(move |arrival| react(arrival.body));
    let bridge = start(&options).await;
    let mut settings = settings(&bridge, &options);
    settings.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let args: Vec<_> = ["check"].iter().chain(args).copied().collect();
    let output = with_settings(settings, &args).await;
    (bridge, output)
}

#[tokio::test]
async fn check_tries_the_path_without_a_transaction() {
    for (status, ok, words) in [
        (
            200,
            true,
            "ok: it exists (200 OK to a request without transactions)",
        ),
        (400, true, "ok: it exists (400 Bad Request to"),
        (422, true, "ok: it exists (422 "),
        (401, false, "rejects a fresh token"),
        (403, false, "permissions of the OAuth client"),
        (
            404,
            false,
            "returned 404 Not Found. Check the path of BRIDGE_EDGE_ENDPOINT",
        ),
        (405, false, "Check the path of BRIDGE_EDGE_ENDPOINT"),
        (302, false, "Redirects are not followed"),
        (
            503,
            false,
            "cannot tell whether the path of BRIDGE_EDGE_ENDPOINT exists",
        ),
    ] {
        let reaction = move |body: &[u8]| {
            assert_eq!(body, b"{\"data\":[]}");
            Reaction::status(status)
        };
        let (bridge, output) = check(reaction, &[], &[]).await;
        let text = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.success(), ok, "{text}");
        assert_eq!(text.contains("bridge path  ok"), ok, "{text}");
        assert!(text.contains(words), "{text}");
        let tally = bridge.tally();
        assert_eq!((tally.requests, tally.transactions), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn check_reports_a_path_that_does_not_exist() {
    let options = Options::default();
    let bridge = start(&options).await;
    let mut settings = settings(&bridge, &options);
    settings[1].1 += "/v2";
    let output = with_settings(settings.clone(), &["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "error: the bridge rejected a request without transactions: {} returned 404 Not Found. \
         Check the path of BRIDGE_EDGE_ENDPOINT\n",
        settings[1].1
    );
    assert_eq!(stderr(&output), expected);
    assert!(!stdout(&output).contains("bridge path  ok"));
}

#[tokio::test]
async fn check_large_finds_the_largest_accepted_request() {
    let over = |limit: usize, reaction: Reaction| {
        move |body: &[u8]| {
            if body.len() > limit {
                reaction.clone()
            } else {
                Reaction::Normal
            }
        }
    };
    for (limit, reaction, refused, advised, why) in [
        (8_192, Reaction::status(403), 64_000, 8_000, "403 Forbidden"),
        (
            1 << 16,
            Reaction::status(413),
            1_000_000,
            64_000,
            "413 Payload Too Large",
        ),
        (
            1 << 16,
            Reaction::HangUp,
            1_000_000,
            64_000,
            "the request failed",
        ),
        (2_000, Reaction::status(413), 8_000, 1_000, "413"),
    ] {
        let (_, output) = check(over(limit, reaction), &["--send", "--large"], &[]).await;
        let (text, reported) = (stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("transaction  ok"), "{text}");
        assert!(reported.contains(why), "{reported}");
        let bytes = |before: &str, after: &str| -> usize {
            let (_, rest) = reported.split_once(before).expect(&reported);
            rest.split_once(after).expect(&reported).0.parse().unwrap()
        };
        let is_near = |bytes: usize, size: usize| bytes <= size && bytes > size - size / 10;
        assert!(
            is_near(bytes("error: a request of ", " bytes"), refused),
            "{reported}"
        );
        let most = bytes("BATCH_MAX_BYTES=", "\n");
        if advised == 1_000 {
            assert!((1_000..2_000).contains(&most), "{reported}");
        } else {
            assert!(is_near(most, advised), "{reported}");
        }
    }
}

#[tokio::test]
async fn check_large_sends_only_labeled_transactions() {
    for (settings, sizes) in [
        (&[][..], 4),
        (&[("BATCH_MAX_BYTES", "10000000")], 4),
        (&[("BATCH_MAX_BYTES", "20000")], 3),
        (&[("BATCH_MAX_TRANSACTIONS", "1")], 2),
        (&[("BATCH_MAX_BYTES", "1000")], 2),
    ] {
        let (bridge, output) = check(|_| Reaction::Normal, &["--send", "--large"], settings).await;
        assert!(output.status.success(), "{}", stderr(&output));
        let received = bridge.received();
        assert_eq!(received.len(), sizes, "{settings:?}");
        assert_eq!(bridge.tally().invalid, 0);
        for transaction in received.iter().flat_map(|batch| &batch.transactions) {
            let target = &transaction.request.uri_query_fragment;
            assert!(target.starts_with("/edgetap-check?sent-by=edgetap-check"));
            assert!(target.len() < 8_192, "{}", target.len());
        }
        let lines = stdout(&output).matches("large        ok: ").count();
        assert_eq!(lines, sizes - 1);
    }
}

#[tokio::test]
async fn check_large_says_what_it_did_not_test() {
    let settings = [("BATCH_MAX_TRANSACTIONS", "1")];
    let (_, output) = check(|_| Reaction::Normal, &["--send", "--large"], &settings).await;
    let text = stdout(&output);
    let words = "; BATCH_MAX_TRANSACTIONS=1 allows no larger test\n";
    assert!(
        text.contains("large        not tested: more than "),
        "{text}"
    );
    assert!(text.ends_with(words), "{text}");
}

#[tokio::test]
async fn check_large_blames_size_only_where_it_may_be() {
    for (status, is_blamed) in [
        (400, true),
        (403, true),
        (413, true),
        (302, false),
        (401, false),
        (429, false),
        (503, false),
    ] {
        let reaction = move |body: &[u8]| match body.len() {
            ..4_000 => Reaction::Normal,
            _ => Reaction::status(status),
        };
        let (_, output) = check(reaction, &["--send", "--large"], &[]).await;
        let reported = stderr(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            reported.contains(&format!("returned {status} ")),
            "{reported}"
        );
        assert_eq!(
            reported.contains("BATCH_MAX_BYTES="),
            is_blamed,
            "{reported}"
        );
    }
}

#[tokio::test]
async fn check_does_not_lower_a_limit_for_a_small_request() {
    for args in [&[][..], &["--send"]] {
        let (_, output) = check(|_| Reaction::status(413), args, &[]).await;
        let reported = stderr(&output);
        assert!(
            reported.contains(" bytes. Check the limits of the bridge"),
            "{reported}"
        );
        assert!(!reported.contains("BATCH_MAX_BYTES"), "{reported}");
    }
}

#[tokio::test]
async fn check_recommends_no_pin_of_a_broken_certificate() {
    for (kind, name, hint) in [
        (
            Kind::Expired,
            "127.0.0.1",
            "hint: renew the server's certificate",
        ),
        (
            Kind::PrivateCa,
            "other.invalid",
            "hint: use a host name in the URL",
        ),
    ] {
        let certificates = certificates(kind, &[name]);
        let options = Options {
            tls: Some(certificates.server),
            ..Options::default()
        };
        let bridge = start(&options).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificates.ca_pem.unwrap()).unwrap();
        let mut settings = settings(&bridge, &options);
        settings.push(("BRIDGE_CA_FILE", file.path().to_str().unwrap().to_owned()));
        let output = with_settings(settings.clone(), &["check"]).await;
        let text = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(" is not trusted: "), "{text}");
        assert!(text.contains(hint), "{text}");
        for words in ["BRIDGE_CA_FILE", "-----BEGIN"] {
            assert!(!text.contains(words), "{text}");
        }

        // As a pin it is trusted whatever it says, and `check` says that it is expired.
        std::fs::write(file.path(), certificates.own_pem).unwrap();
        let output = with_settings(settings, &["check"]).await;
        let text = stdout(&output) + &stderr(&output);
        assert!(output.status.success(), "{text}");
        let is_expired = text.contains(", but expired: renew it\n");
        assert_eq!(is_expired, matches!(kind, Kind::Expired), "{text}");
    }
}

#[test]
fn check_large_without_send_is_a_usage_error() {
    let output = edgetap(&["check", "--large"], &[], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--send"), "{}", stderr(&output));
}

/// Secrets Manager, and a bridge with a token endpoint, with certificates of a private CA.
struct Peers {
    /// The settings of `edgetap check`.
    variables: Vec<(&'static str, String)>,
    /// Host and port of Secrets Manager, the token endpoint and the bridge.
    addresses: [String; 3],
    _bridge: LocalBridge,
    _ca: tempfile::NamedTempFile,
}

/// Names that only a proxy can resolve.
const NAMES: [&str; 3] = ["secrets.invalid", "login.invalid", "bridge.invalid"];

async fn peers(hosts: [&str; 3]) -> Peers {
    let certificates = certificates(Kind::PrivateCa, &hosts);
    let options = Options {
        tls: Some(certificates.server.clone()),
        ..Options::default()
    };
    let bridge = start(&options).await;
    let secret = json!({"client_id": options.client_id, "client_secret": options.client_secret});
    let answer = json!({ "SecretString": secret.to_string() }).to_string();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secrets = listener.local_addr().unwrap().port();
    let respond = move |_: Request<Incoming>| {
        let answer = answer.clone();
        async { Ok(Response::new(Full::new(Bytes::from(answer)))) }
    };
    serve(listener, Some(certificates.server), respond);
    let ports = [secrets, bridge.address().port(), bridge.address().port()];
    let at = |peer: usize| format!("{}:{}", hosts[peer], ports[peer]);
    let addresses = [at(0), at(1), at(2)];
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), certificates.ca_pem.unwrap()).unwrap();
    let file = ca.path().to_str().unwrap();
    let variables = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &format!("https://{}", addresses[0])),
        ("SSL_CERT_FILE", file),
        ("BRIDGE_SECRET_ARN", "arn"),
        ("BRIDGE_AUTH_ENDPOINT", &format!("https://{}", addresses[1])),
        ("BRIDGE_EDGE_ENDPOINT", &format!("https://{}", addresses[2])),
        ("BRIDGE_CA_FILE", file),
    ];
    Peers {
        variables: variables
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec(),
        addresses,
        _bridge: bridge,
        _ca: ca,
    }
}

/// [`peers`] that only a proxy, which wants a password, can reach.
async fn behind_proxy() -> (Peers, ConnectProxy) {
    let mut peers = peers(NAMES).await;
    let proxy = ConnectProxy::start(&NAMES).await;
    let url = format!("http://me:canary@{}", proxy.address());
    peers.variables.push(("HTTPS_PROXY", url));
    (peers, proxy)
}

#[tokio::test]
async fn check_uses_the_proxy_and_says_so() {
    let (peers, proxy) = behind_proxy().await;
    let output = with_settings(peers.variables.clone(), &["check", "--send"]).await;
    let text = stdout(&output) + &stderr(&output);
    assert!(output.status.success(), "{text}");
    let tunnels = peers.addresses.clone().map(|to| Tunnel {
        to,
        authorization: Some("Basic bWU6Y2FuYXJ5".to_owned()),
    });
    assert_eq!(proxy.tunnels(), tunnels);
    assert!(!text.contains("canary"), "{text}");
    let way = format!(", through the proxy {}\n", proxy.address());
    assert_eq!(text.matches(&way).count(), 2, "{text}");
    for (label, address) in [
        ("token TLS ", &peers.addresses[1]),
        ("bridge TLS", &peers.addresses[2]),
    ] {
        let trusted =
            format!("{label}   ok: TLS 1.3 to {address}, certificate trusted\n  subject ");
        assert!(text.contains(&trusted), "{text}");
    }
}

#[tokio::test]
async fn check_shows_certificates_of_the_identity_provider() {
    let (peers, _proxy) = behind_proxy().await;
    let mut variables = peers.variables.clone();
    variables.retain(|(name, _)| *name != "BRIDGE_CA_FILE");
    let output = with_settings(variables, &["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    let (shown, reported) = (stdout(&output), stderr(&output));
    for words in [
        "issuer CN=Private CA",
        "SHA-256 ",
        "-----BEGIN CERTIFICATE-----",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
    let error = format!(
        "error: the certificate of {} is not trusted: \
         the server's certificate was not issued by a trusted CA\n",
        peers.addresses[1]
    );
    assert!(reported.starts_with(&error), "{reported}");
    assert!(reported.contains("set BRIDGE_CA_FILE=ca.pem"), "{reported}");
}

#[tokio::test]
async fn check_names_the_proxy_that_refuses_a_host() {
    let (peers, proxy) = behind_proxy().await;
    let mut variables = peers.variables.clone();
    let edge = variables
        .iter_mut()
        .find(|(name, _)| *name == "BRIDGE_EDGE_ENDPOINT");
    edge.unwrap().1 = "https://unknown.invalid".to_owned();
    let output = with_settings(variables, &["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    let reported = stderr(&output);
    let begin = "error: the bridge did not respond: https://unknown.invalid/api-transactions: cannot connect: ";
    let cause = format!("the proxy {} refused the tunnel\n", proxy.address());
    assert!(
        reported.starts_with(&(begin.to_owned() + &cause)),
        "{reported}"
    );
    let hint = format!(
        "\n  hint: check the host and port in BRIDGE_EDGE_ENDPOINT, and the proxy {} (HTTPS_PROXY)\n",
        proxy.address()
    );
    assert!(reported.ends_with(&hint), "{reported}");
}

#[tokio::test]
async fn failure_of_the_proxy_is_not_said_of_the_endpoint() {
    let options = Options {
        tls: Some(certificates(Kind::PrivateCa, &["127.0.0.1"]).server),
        ..Options::default()
    };
    let over_tls = start(&options).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unreachable = closed.local_addr().unwrap();
    drop(closed);
    let plain_options = Options::default();
    let plain = start(&plain_options).await;
    let mut settings = settings(&plain, &plain_options);
    settings[1].1 = "https://bridge.invalid".to_owned();
    for (scheme, address, cause) in [
        ("http", unreachable, "cannot be reached: Connection refused"),
        (
            "https",
            over_tls.address(),
            "cannot be reached: the proxy's certificate was not issued by a trusted CA",
        ),
        (
            "https",
            plain.address(),
            "cannot be reached: the proxy does not speak TLS on this port",
        ),
    ] {
        let mut settings = settings.clone();
        settings.push(("HTTPS_PROXY", format!("{scheme}://me:canary@{address}")));
        let output = with_settings(settings, &["check"]).await;
        let reported = stderr(&output);
        let expected = format!(": cannot connect: the proxy {address} {cause}\n");
        assert!(reported.contains(&expected), "{reported}");
        assert!(!reported.contains("canary"), "{reported}");
    }
}

#[tokio::test]
async fn no_proxy_and_loopback_hosts_are_reached_directly() {
    // 0.0.0.0 is this machine, but not a loopback address.
    for (host, no_proxy) in [("127.0.0.1", ""), ("0.0.0.0", "example.com, 0.0.0.0")] {
        let mut peers = peers([host; 3]).await;
        let more = [("ALL_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", no_proxy)];
        let more = more.map(|(name, value)| (name, value.to_owned()));
        peers.variables.extend(more);
        let output = with_settings(peers.variables.clone(), &["check"]).await;
        let text = stdout(&output) + &stderr(&output);
        assert!(output.status.success(), "{text}");
        assert!(!text.contains("proxy"), "{text}");
        assert!(
            text.contains("bridge TLS   ok: the same server as the token URL's\n"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn proxy_of_another_kind_is_named_without_its_password() {
    let peers = peers(["127.0.0.1"; 3]).await;
    for url in [
        "socks5://me:canary@127.0.0.1:1",
        "foo://canary.invalid:1",
        "http://me:canary@",
        "http://can ary.invalid",
    ] {
        let mut variables = peers.variables.clone();
        variables.push(("HTTPS_PROXY", url.to_owned()));
        let output = with_settings(variables, &["check"]).await;
        let reported = stderr(&output);
        assert!(output.status.success(), "{reported}");
        let warning =
            "WARN the value of a variable is not the URL of an HTTP proxy variable=\"HTTPS_PROXY\"";
        assert_eq!(reported.matches(warning).count(), 1, "{reported}");
        assert!(!reported.contains("canary"), "{reported}");
    }
}

#[tokio::test]
async fn proxy_with_an_unclear_password_is_a_problem() {
    let options = Options::default();
    let bridge = start(&options).await;
    for args in [&["check"][..], &["replay", "--post", "-"]] {
        let mut settings = settings(&bridge, &options);
        let url = "http://me:p@canary@127.0.0.1:1".to_owned();
        settings.push(("HTTPS_PROXY", url));
        let output = with_settings(settings, args).await;
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stdout(&output), "");
        let reported = stderr(&output);
        let begin = "error: `HTTPS_PROXY` has special characters before the `@` of its URL\n  \
                     hint: special characters in the password must be percent-encoded: ";
        assert!(reported.starts_with(begin), "{reported}");
        assert!(!reported.contains("canary"), "{reported}");
    }
}

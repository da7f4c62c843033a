//! Runs the real `bootstrap`: a Lambda Runtime API in process, and the child process.
//!
//! The test chooses the deadline of each invocation, also one in the past, while AWS's emulator
//! (`tests/e2e/emulator.rs`) gives each the function's timeout. A process that does not respond in
//! time is not killed; the test only stops waiting for it and gets [`Outcome::TimedOut`].

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

const INVOCATION: &str = "/2018-06-01/runtime/invocation/";
const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";

/// The trace header of every invocation.
pub(crate) const TRACE: &str =
    "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0";

/// Environment variables that Lambda sets, all but the address of its Runtime API.
pub(crate) const LAMBDA: [(&str, &str); 8] = [
    ("AWS_LAMBDA_FUNCTION_NAME", "edgetap"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
    ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
    ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/edgetap"),
    (
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "2026/11/14/[$LATEST]0123456789abcdef",
    ),
    ("_HANDLER", "bootstrap"),
    ("TZ", ":UTC"),
];

/// How long after its deadline to wait for an invocation: the process may still have to start, and
/// some deadlines are in the past.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The function's response.
    Response(Value),
    /// The function failed; `errorType` and `errorMessage`.
    Error(Value),
    /// The process failed before it could take an invocation.
    InitError(Value),
    /// No response by [`GRACE`] after the deadline, or by the deadline in AWS's emulator.
    TimedOut,
}

/// A Lambda Runtime API, served until dropped.
pub(crate) struct RuntimeApi {
    address: SocketAddr,
    state: Arc<State>,
    events: mpsc::UnboundedSender<Invocation>,
    server: AbortHandle,
}

struct State {
    /// Invocations that no process has taken yet. The lock lets only one process poll at a time.
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    /// Where to send each invocation's outcome, by request ID.
    waiting: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    /// The error of an init that failed while no invocation was waiting.
    init_error: Mutex<Option<Value>>,
    polls: AtomicU64,
    number: AtomicU64,
}

struct Invocation {
    id: String,
    deadline_ms: i64,
    event: Value,
}

impl RuntimeApi {
    /// Starts on a free loopback port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            events: receiver.into(),
            waiting: Mutex::default(),
            init_error: Mutex::default(),
            polls: AtomicU64::default(),
            number: AtomicU64::default(),
        });
        let shared = state.clone();
        let server = edgetap::local_bridge::serve(listener, None, move |request| {
            respond(shared.clone(), request)
        });
        Self {
            address,
            state,
            events: sender,
            server,
        }
    }

    /// The value for `AWS_LAMBDA_RUNTIME_API`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// How often a process has polled for an invocation. The first poll ends its init phase.
    pub(crate) fn polls(&self) -> u64 {
        self.state.polls.load(Ordering::Relaxed)
    }

    /// Hands `event` to the next process that polls, with `time_left_ms` until the deadline. A
    /// negative value is a deadline in the past.
    pub(crate) async fn invoke(&self, event: Value, time_left_ms: i64) -> Outcome {
        let id = format!(
            "{:08x}-0000-4000-8000-000000000000",
            self.state.number.fetch_add(1, Ordering::Relaxed) + 1
        );
        let (sender, outcome) = oneshot::channel();
        lock(&self.state.waiting).insert(id.clone(), sender);
        if let Some(error) = lock(&self.state.init_error).take() {
            lock(&self.state.waiting).remove(&id);
            return Outcome::InitError(error);
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let deadline_ms = i64::try_from(now)
            .unwrap()
            .saturating_add(time_left_ms)
            .max(0);
        self.events
            .send(Invocation {
                id: id.clone(),
                deadline_ms,
                event,
            })
            .unwrap();
        let patience = Duration::from_millis(u64::try_from(time_left_ms).unwrap_or(0)) + GRACE;
        if let Ok(outcome) = tokio::time::timeout(patience, outcome).await {
            return outcome.expect("each invocation has one outcome");
        }
        lock(&self.state.waiting).remove(&id);
        Outcome::TimedOut
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn respond(
    state: Arc<State>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let is_post = request.method() == Method::POST;
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?
        .to_bytes();
    // A response that is not JSON is kept as text, so that the failing test shows it.
    let response =
        || serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
    if path == INIT_ERROR && is_post {
        let waiting: Vec<_> = lock(&state.waiting).drain().collect();
        if waiting.is_empty() {
            *lock(&state.init_error) = Some(response());
        }
        for (_, waiting) in waiting {
            _ = waiting.send(Outcome::InitError(response()));
        }
        return status(StatusCode::ACCEPTED);
    }
    match path
        .strip_prefix(INVOCATION)
        .map(|path| path.split_once('/').unwrap_or((path, "")))
    {
        Some(("next", "")) if !is_post => next(&state).await,
        Some((id, "response")) if is_post => end(&state, id, Outcome::Response(response())),
        Some((id, "error")) if is_post => end(&state, id, Outcome::Error(response())),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// Serves the long poll for the next invocation.
async fn next(state: &State) -> io::Result<Response<Full<Bytes>>> {
    state.polls.fetch_add(1, Ordering::Relaxed);
    let Some(Invocation {
        id,
        deadline_ms,
        event,
    }) = state.events.lock().await.recv().await
    else {
        return status(StatusCode::GONE);
    };
    Response::builder()
        .header("Content-Type", "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", id)
        .header("Lambda-Runtime-Deadline-Ms", deadline_ms)
        .header(
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:us-east-1:123456789012:function:edgetap",
        )
        .header("Lambda-Runtime-Trace-Id", TRACE)
        .body(event.to_string().into())
        .map_err(io::Error::other)
}

/// Ends an invocation. As in Lambda, an unknown or finished invocation is rejected.
fn end(state: &State, id: &str, outcome: Outcome) -> io::Result<Response<Full<Bytes>>> {
    let waiting = lock(&state.waiting).remove(id);
    status(match waiting.map(|waiting| waiting.send(outcome)) {
        Some(Ok(())) => StatusCode::ACCEPTED,
        _ => StatusCode::BAD_REQUEST,
    })
}

fn status(status: StatusCode) -> io::Result<Response<Full<Bytes>>> {
    let body = json!({ "status": if status.is_success() { "OK" } else { "error" } }).to_string();
    Response::builder()
        .status(status)
        .header("Content-Type", "application/json")
        .body(body.into())
        .map_err(io::Error::other)
}

/// A child process whose output is collected by line. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: LineCollector,
    stderr: LineCollector,
}

/// The lines that a process wrote.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

struct LineCollector {
    read: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts the `bootstrap` at `binary` as Lambda does: only with Lambda's environment variables
    /// and the given ones.
    pub(crate) fn bootstrap<K: AsRef<str>, V: AsRef<str>>(
        binary: &Path,
        runtime_api: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut command = Command::new(binary);
        command
            .env_clear()
            .envs(LAMBDA)
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api);
        for (name, value) in variables {
            command.env(name.as_ref(), value.as_ref());
        }
        Self::start(command.stdin(Stdio::null()))
    }

    /// Starts a process and collects its output.
    pub(crate) fn start(command: &mut Command) -> Self {
        let program = command.get_program().to_owned();
        let spawned = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self {
            child,
            stdout: LineCollector::of(stdout),
            stderr: LineCollector::of(stderr),
        }
    }

    /// Standard input, which must be a pipe.
    pub(crate) fn stdin(&mut self) -> &mut ChildStdin {
        self.child.stdin.as_mut().unwrap()
    }

    /// Closes standard input and waits until the process ends.
    pub(crate) fn finish(&mut self, patience: Duration) -> (ExitStatus, Output) {
        drop(self.child.stdin.take());
        let started = Instant::now();
        let status = loop {
            match self.has_ended() {
                Some(status) => break status,
                None => assert!(
                    started.elapsed() < patience,
                    "the process did not end: {:#?}",
                    self.output()
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        (status, self.stop())
    }

    /// The process ID; valid while the process runs.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's built-in `kill`; not every system has the program.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -s {name} {}", self.id())])
            .status()
            .unwrap();
        assert!(sent.success(), "kill -s {name}: {sent}");
    }

    /// Peak resident memory in bytes, which is what Lambda reports.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// The exit status, or `None` while the process runs.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The output that was read so far.
    pub(crate) fn output(&self) -> Output {
        Output {
            stdout: lock(&self.stdout.read).clone(),
            stderr: lock(&self.stderr.read).clone(),
        }
    }

    /// Waits for the first line of output for which `wanted` returns a value.
    ///
    /// # Panics
    /// If the process ends first, or after `patience`.
    pub(crate) fn wait_for<T>(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> T {
        let started = Instant::now();
        loop {
            let ended = self.has_ended();
            let output = if ended.is_some() {
                self.stop()
            } else {
                self.output()
            };
            if let Some(found) = output
                .stdout
                .iter()
                .chain(&output.stderr)
                .find_map(|line| wanted(line))
            {
                return found;
            }
            assert!(
                ended.is_none(),
                "the process ended ({ended:?}): {output:#?}"
            );
            assert!(
                started.elapsed() < patience,
                "the expected line did not appear: {output:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the process and returns its whole output.
    pub(crate) fn stop(&mut self) -> Output {
        // Both calls fail only if the process has already ended.
        _ = self.child.kill();
        _ = self.child.wait();
        self.stdout.join();
        self.stderr.join();
        self.output()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

impl LineCollector {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let read = Arc::new(Mutex::new(Vec::new()));
        let shared = read.clone();
        let reader = std::thread::spawn(move || {
            // Split bytes, so that lines that are not UTF-8 are kept as well.
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                lock(&shared).push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self {
            read,
            reader: Some(reader),
        }
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            _ = reader.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

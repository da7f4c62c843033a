//! Around the real `bootstrap`: the Lambda Runtime API, in process, and the process itself.
//!
//! Lambda's own emulators send a constant deadline; this one sends the deadline that a test chooses. A process that does not
//! answer by then is not killed (that is the test's to do), only no longer waited for: [`Outcome::TimedOut`].

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

/// So much longer than its deadline an invocation is waited for: a process must be started, and some deadlines are past.
const GRACE: Duration = Duration::from_secs(30);

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The function's answer.
    Response(Value),
    /// The function failed: `errorType` and `errorMessage`.
    Error(Value),
    /// The process failed before it could take an invocation.
    InitError(Value),
    /// No answer, long after the deadline.
    TimedOut,
}

/// A Lambda Runtime API (`AWS_LAMBDA_RUNTIME_API`), gone when dropped.
pub(crate) struct RuntimeApi {
    address: SocketAddr,
    state: Arc<State>,
    events: mpsc::UnboundedSender<Invocation>,
    server: AbortHandle,
}

struct State {
    /// Invocations that no process has taken yet. Processes that poll at the same time take turns.
    events: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    /// Who waits for which invocation's end.
    waiting: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    /// What an init failed with while nobody waited.
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
    /// On a free port of loopback.
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

    /// What `AWS_LAMBDA_RUNTIME_API` is to be.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// How often a process has asked for an invocation: once it has, its init is over.
    pub(crate) fn polls(&self) -> u64 {
        self.state.polls.load(Ordering::Relaxed)
    }

    /// Has the next process that asks handle `event`, with so many milliseconds left; less than none is a deadline in the past.
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
            return outcome.expect("an invocation has one end");
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
    // An answer that is no JSON is shown as text: the test that gets it says what it wanted.
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
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    {
        Some(("next", "")) if !is_post => next(&state).await,
        Some((id, "response")) if is_post => end(&state, id, Outcome::Response(response())),
        Some((id, "error")) if is_post => end(&state, id, Outcome::Error(response())),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// The long poll.
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

/// An invocation that is unknown, over or answered before is refused, as Lambda does.
fn end(state: &State, id: &str, outcome: Outcome) -> io::Result<Response<Full<Bytes>>> {
    let waiting = lock(&state.waiting).remove(id);
    status(match waiting.map(|waiting| waiting.send(outcome)) {
        Some(Ok(())) => StatusCode::ACCEPTED,
        _ => StatusCode::BAD_REQUEST,
    })
}

fn status(status: StatusCode) -> io::Result<Response<Full<Bytes>>> {
    let body = json!({ "status": if status.is_success() { "OK" } else { "no" } }).to_string();
    Response::builder()
        .status(status)
        .header("Content-Type", "application/json")
        .body(body.into())
        .map_err(io::Error::other)
}

/// A process whose output is kept line by line; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// What a process has written.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

struct Lines {
    read: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts the `bootstrap` at `binary` as Lambda does: with Lambda's variables and these, and no others.
    pub(crate) fn bootstrap<K: AsRef<str>, V: AsRef<str>>(
        binary: &Path,
        runtime_api: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("AWS_LAMBDA_FUNCTION_NAME", "edgetap")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/edgetap")
            .env(
                "AWS_LAMBDA_LOG_STREAM_NAME",
                "2026/11/14/[$LATEST]0123456789abcdef",
            )
            .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
            .env("_HANDLER", "bootstrap")
            .env("TZ", ":UTC");
        for (name, value) in variables {
            command.env(name.as_ref(), value.as_ref());
        }
        Self::start(command.stdin(Stdio::null()))
    }

    /// Starts any process, and keeps its output.
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
            stdout: Lines::of(stdout),
            stderr: Lines::of(stderr),
        }
    }

    /// Its standard input, which must be a pipe.
    pub(crate) fn stdin(&mut self) -> &mut ChildStdin {
        self.child.stdin.as_mut().unwrap()
    }

    /// Waits for its end, with no more input.
    pub(crate) fn finish(&mut self, patience: Duration) -> (ExitStatus, Output) {
        drop(self.child.stdin.take());
        let started = Instant::now();
        let status = loop {
            match self.has_ended() {
                Some(status) => break status,
                None => assert!(
                    started.elapsed() < patience,
                    "it did not end: {:#?}",
                    self.output()
                ),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        (status, self.stop())
    }

    /// Its id, while it runs.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name, as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own: not every system has the program.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -s {name} {}", self.id())])
            .status()
            .unwrap();
        assert!(sent.success(), "kill -s {name}: {sent}");
    }

    /// The most memory that it has ever held, in bytes: what Lambda counts.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it has written so far, as far as that was read.
    pub(crate) fn output(&self) -> Output {
        Output {
            stdout: lock(&self.stdout.read).clone(),
            stderr: lock(&self.stderr.read).clone(),
        }
    }

    /// The first line of its output for which `wanted` gives something. It panics when the process ends or the time is over.
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
            assert!(ended.is_none(), "it ended ({ended:?}): {output:#?}");
            assert!(
                started.elapsed() < patience,
                "it did not say what was waited for: {output:#?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, and gives all that it has written.
    pub(crate) fn stop(&mut self) -> Output {
        // Both fail only when it has ended by itself.
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

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let read = Arc::new(Mutex::new(Vec::new()));
        let shared = read.clone();
        let reader = std::thread::spawn(move || {
            // By bytes: a line that is not UTF-8 must be seen too.
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

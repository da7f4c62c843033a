//! A fake SQS that can misbehave (AWS JSON 1.0): a work queue and its dead-letter queue in memory.
//! Visibility follows a clock that the test advances. It does not check signatures.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use edgetap::local_bridge::serve;
use edgetap::time::Clock;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub(crate) const WORK: &str = "arn:aws:sqs:us-east-1:123456789012:edgetap-work";
pub(crate) const DEAD_LETTERS: &str = "arn:aws:sqs:us-east-1:123456789012:edgetap-dead-letters";

/// A message in either queue.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub id: String,
    pub body: String,
    pub trace: Option<String>,
    pub sent: Timestamp,
    pub visible_from: Timestamp,
    pub receive_count: u32,
}

/// Decides by action and number (counted from 1) whether a request fails: `None` if it succeeds,
/// else whether it takes effect although it fails.
pub(crate) type Fails = Arc<dyn Fn(&str, u64) -> Option<bool> + Send + Sync>;

struct State {
    now: Timestamp,
    messages: BTreeMap<String, Queued>,
    dead_letters: Vec<Queued>,
    sent: u64,
    requests: BTreeMap<String, u64>,
    fails: Fails,
}

pub(crate) struct FakeSqs {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
    server: AbortHandle,
}

impl FakeSqs {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            now: Timestamp::now(),
            messages: BTreeMap::new(),
            dead_letters: Vec::new(),
            sent: 0,
            requests: BTreeMap::new(),
            fails: Arc::new(|_, _| None),
        }));
        let shared = state.clone();
        let server = serve(listener, None, move |request| {
            response(shared.clone(), request)
        });
        Self {
            address,
            state,
            server,
        }
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The queue's clock, for the function under test.
    pub(crate) fn clock(&self) -> Clock {
        let state = self.state.clone();
        Clock::new(move || state.lock().unwrap_or_else(PoisonError::into_inner).now)
    }

    pub(crate) fn fail(&self, fails: impl Fn(&str, u64) -> bool + Send + Sync + 'static) {
        self.misbehave(move |action, number| fails(action, number).then_some(false));
    }

    pub(crate) fn misbehave(
        &self,
        fails: impl Fn(&str, u64) -> Option<bool> + Send + Sync + 'static,
    ) {
        self.lock().fails = Arc::new(fails);
    }

    /// Puts a message into the work queue.
    pub(crate) fn send(&self, body: String) {
        self.lock().enqueue(body, None);
    }

    /// Receives the next visible message and hides it for `visibility`.
    pub(crate) fn receive(&self, visibility: Duration) -> Option<Value> {
        self.receive_any(visibility, |_| 0)
    }

    /// Receives a visible message out of order: `pick` gets their number and returns an index.
    pub(crate) fn receive_any(
        &self,
        visibility: Duration,
        pick: impl FnOnce(usize) -> usize,
    ) -> Option<Value> {
        let mut state = self.lock();
        let now = state.now;
        let mut visible: Vec<_> = state
            .messages
            .values()
            .filter(|message| message.visible_from <= now)
            .collect();
        if visible.is_empty() {
            return None;
        }
        visible.sort_by_key(|message| message.visible_from);
        let id = visible[pick(visible.len())].id.clone();
        state.receive(&id, visibility)
    }

    /// Receives a message although another receiver still hides it.
    pub(crate) fn receive_again(&self, id: &str, visibility: Duration) -> Option<Value> {
        self.lock().receive(id, visibility)
    }

    pub(crate) fn delete(&self, id: &str) {
        self.lock().messages.remove(id);
    }

    /// Advances the clock until the next message is visible. Returns by how much, or `None` if the
    /// queue is empty.
    pub(crate) fn wait_for_next(&self) -> Option<SignedDuration> {
        let mut state = self.lock();
        let next = state
            .messages
            .values()
            .map(|message| message.visible_from)
            .min()?;
        let wait = next.duration_since(state.now).max(SignedDuration::ZERO);
        state.now = state.now.max(next);
        Some(wait)
    }

    pub(crate) fn messages(&self) -> Vec<Queued> {
        self.lock().messages.values().cloned().collect()
    }

    pub(crate) fn dead_letters(&self) -> Vec<Queued> {
        self.lock().dead_letters.clone()
    }

    /// The number of messages sent so far. Each ID ends with the message's number.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().sent
    }

    pub(crate) fn requests(&self, action: &str) -> u64 {
        self.lock()
            .requests
            .get(action)
            .copied()
            .unwrap_or_default()
    }

    /// Moves all messages in the dead-letter queue back to the work queue.
    pub(crate) fn redrive(&self) {
        let mut state = self.lock();
        for message in std::mem::take(&mut state.dead_letters) {
            state.enqueue(message.body, None);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeSqs {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn queued(&mut self, body: String, trace: Option<String>) -> Queued {
        self.sent += 1;
        Queued {
            id: format!("message-{:06}", self.sent),
            body,
            trace,
            sent: self.now,
            visible_from: self.now,
            receive_count: 0,
        }
    }

    fn receive(&mut self, id: &str, visibility: Duration) -> Option<Value> {
        let now = self.now;
        let message = self.messages.get_mut(id)?;
        message.receive_count += 1;
        message.visible_from = now + SignedDuration::try_from(visibility).unwrap();
        Some(json!({
            "messageId": message.id, "receiptHandle": message.id, "body": message.body, "eventSource": "aws:sqs", "eventSourceARN": WORK,
            "attributes": {"ApproximateReceiveCount": message.receive_count.to_string(), "SentTimestamp": message.sent.as_millisecond().to_string()},
        }))
    }

    fn enqueue(&mut self, body: String, trace: Option<String>) {
        let message = self.queued(body, trace);
        self.messages.insert(message.id.clone(), message);
    }

    fn handle(&mut self, action: &str, request: &Value) -> Result<Value, &'static str> {
        let queue = request["QueueUrl"].as_str().unwrap_or_default();
        let is_work = queue.ends_with("/123456789012/edgetap-work");
        if !is_work && !queue.ends_with("/123456789012/edgetap-dead-letters") {
            return Err("QueueDoesNotExist");
        }
        match action {
            "SendMessage" => {
                let body = request["MessageBody"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                let trace = request["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"]
                    .as_str()
                    .map(str::to_owned);
                if is_work {
                    self.enqueue(body, trace);
                } else {
                    let message = self.queued(body, trace);
                    self.dead_letters.push(message);
                }
                Ok(json!({"MessageId": format!("message-{:06}", self.sent)}))
            }
            "ChangeMessageVisibility" => {
                let seconds = request["VisibilityTimeout"]
                    .as_i64()
                    .filter(|seconds| (0..=43_200).contains(seconds))
                    .ok_or("InvalidParameterValue")?;
                let visible_from = self.now + SignedDuration::from_secs(seconds);
                let message = self
                    .messages
                    .get_mut(request["ReceiptHandle"].as_str().unwrap_or_default())
                    .ok_or("ReceiptHandleIsInvalid")?;
                message.visible_from = visible_from;
                Ok(json!({}))
            }
            "GetQueueAttributes" => {
                let policy = json!({"deadLetterTargetArn": DEAD_LETTERS, "maxReceiveCount": 400})
                    .to_string();
                Ok(json!({"Attributes": {"RedrivePolicy": policy}}))
            }
            _ => Err("UnsupportedOperation"),
        }
    }
}

async fn response(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let target = request
        .headers()
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let action = target.trim_start_matches("AmazonSQS.").to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?
        .to_bytes();
    let body: Value = serde_json::from_slice(&body)?;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let count = state.requests.entry(action.clone()).or_default();
    *count += 1;
    let count = *count;
    let handled = match (state.fails.clone())(&action, count) {
        None => state.handle(&action, &body),
        Some(done) => {
            if done {
                _ = state.handle(&action, &body);
            }
            Err("InternalError")
        }
    };
    let (status, body) = match handled {
        Ok(response) => (200, response),
        Err("InternalError") => (500, json!({"__type": "com.amazonaws.sqs#InternalError"})),
        Err(code) => (400, json!({"__type": format!("com.amazonaws.sqs#{code}")})),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0");
    response
        .body(body.to_string().into())
        .map_err(io::Error::other)
}

//! A fake SQS that can misbehave (AWS JSON 1.0): two work queues, each with its dead-letter queue, in
//! memory. Visibility and delays follow a clock that the test advances. It does not check signatures.

use std::collections::{BTreeMap, BTreeSet};
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
/// A second queue that feeds the same function.
pub(crate) const OTHER_WORK: &str = "arn:aws:sqs:us-east-1:123456789012:other-work";
pub(crate) const OTHER_DEAD_LETTERS: &str = "arn:aws:sqs:us-east-1:123456789012:other-dead-letters";

/// Each work queue and its dead-letter queue.
const QUEUES: [(&str, &str); 2] = [(WORK, DEAD_LETTERS), (OTHER_WORK, OTHER_DEAD_LETTERS)];

/// The largest message in bytes, as the AWS provider for Terraform sets it.
pub(crate) const MAX_MESSAGE: usize = 262_144;

/// The longest visibility timeout and the longest delay of a message, in seconds.
const MAX_VISIBILITY: i64 = 43_200;
const MAX_DELAY: i64 = 900;

/// A message in any queue.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub id: String,
    /// The queue's ARN.
    pub queue: &'static str,
    pub body: String,
    pub trace: Option<String>,
    pub sent: Timestamp,
    pub visible_from: Timestamp,
    pub receive_count: u32,
    pub first_received: Option<Timestamp>,
}

/// Decides by action and number (counted from 1) whether a request fails: `None` if it succeeds,
/// else whether it takes effect although it fails. Each entry of a batch is asked about once more,
/// as [`ENTRY`].
pub(crate) type Fails = Arc<dyn Fn(&str, u64) -> Option<bool> + Send + Sync>;

/// The action of one entry of a `ChangeMessageVisibilityBatch`.
pub(crate) const ENTRY: &str = "ChangeMessageVisibilityBatch entry";
/// The action of one entry of a `SendMessageBatch`.
pub(crate) const SENT_ENTRY: &str = "SendMessageBatch entry";

struct State {
    now: Timestamp,
    messages: BTreeMap<String, Queued>,
    dead_letters: Vec<Queued>,
    sent: u64,
    requests: BTreeMap<String, u64>,
    fails: Fails,
    /// A message with this text is refused as the sender's fault, if it is not empty.
    blamed: String,
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
            blamed: String::new(),
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

    /// Refuses every entry of a batch with this text as the sender's fault.
    pub(crate) fn blame(&self, text: &str) {
        text.clone_into(&mut self.lock().blamed);
    }

    /// Puts a message into the first work queue.
    pub(crate) fn send(&self, body: String) {
        self.send_to(WORK, body);
    }

    /// Puts a message into a work queue.
    pub(crate) fn send_to(&self, queue: &'static str, body: String) {
        self.lock().enqueue(queue, body, None, SignedDuration::ZERO);
    }

    /// Receives the next visible message and hides it for `visibility`.
    pub(crate) fn receive(&self, visibility: Duration) -> Option<Value> {
        self.receive_any(visibility, |_| 0)
    }

    /// Receives a visible message out of order: `pick` gets their number and returns an index.
    pub(crate) fn receive_any(
        &self,
        visibility: Duration,
        pick: impl FnMut(usize) -> usize,
    ) -> Option<Value> {
        self.receive_batch(1, visibility, pick).pop()
    }

    /// Receives up to `most` visible messages of one queue, as one poll does. `pick` gets the number
    /// of those left and returns an index; the first message decides the queue.
    pub(crate) fn receive_batch(
        &self,
        most: usize,
        visibility: Duration,
        mut pick: impl FnMut(usize) -> usize,
    ) -> Vec<Value> {
        let mut state = self.lock();
        let now = state.now;
        let mut visible: Vec<_> = state
            .messages
            .values()
            .filter(|message| message.visible_from <= now)
            .map(|message| (message.visible_from, message.queue, message.id.clone()))
            .collect();
        visible.sort_by_key(|(visible_from, ..)| *visible_from);
        let mut records = Vec::new();
        while records.len() < most && !visible.is_empty() {
            let (_, queue, id) = visible.remove(pick(visible.len()));
            visible.retain(|(_, other, _)| *other == queue);
            records.extend(state.receive(&id, visibility));
        }
        records
    }

    /// Receives a message although another receiver still hides it.
    pub(crate) fn receive_again(&self, id: &str, visibility: Duration) -> Option<Value> {
        self.lock().receive(id, visibility)
    }

    pub(crate) fn delete(&self, id: &str) {
        self.lock().messages.remove(id);
    }

    /// Deletes a received message by its receipt handle, as the event source mapping does.
    pub(crate) fn acknowledge(&self, record: &Value) {
        _ = self.lock().delete(&record["receiptHandle"]);
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

    /// The messages in the work queues.
    pub(crate) fn messages(&self) -> Vec<Queued> {
        self.lock().messages.values().cloned().collect()
    }

    /// The messages in the dead-letter queues, oldest first.
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

    /// Moves all dead letters back to their work queues, as new messages.
    pub(crate) fn redrive(&self) {
        let mut state = self.lock();
        for message in std::mem::take(&mut state.dead_letters) {
            let queue = QUEUES.iter().find(|(_, dead)| *dead == message.queue);
            state.enqueue(queue.unwrap().0, message.body, None, SignedDuration::ZERO);
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
    fn receive(&mut self, id: &str, visibility: Duration) -> Option<Value> {
        let now = self.now;
        let message = self.messages.get_mut(id)?;
        message.receive_count += 1;
        message.visible_from = now + SignedDuration::try_from(visibility).unwrap();
        let first_received = *message.first_received.get_or_insert(now);
        let mut attributes = json!({
            "ApproximateReceiveCount": message.receive_count.to_string(),
            "ApproximateFirstReceiveTimestamp": first_received.as_millisecond().to_string(),
            "SentTimestamp": message.sent.as_millisecond().to_string(),
        });
        if let Some(trace) = &message.trace {
            attributes["AWSTraceHeader"] = json!(trace);
        }
        Some(json!({
            "messageId": message.id, "receiptHandle": message.handle(), "body": message.body, "eventSource": "aws:sqs",
            "eventSourceARN": message.queue, "attributes": attributes,
        }))
    }

    /// Adds a message to any queue and returns its ID.
    fn enqueue(
        &mut self,
        queue: &'static str,
        body: String,
        trace: Option<String>,
        delay: SignedDuration,
    ) -> String {
        self.sent += 1;
        let id = format!("message-{:06}", self.sent);
        let message = Queued {
            id: id.clone(),
            queue,
            body,
            trace,
            sent: self.now,
            visible_from: self.now + delay,
            receive_count: 0,
            first_received: None,
        };
        if QUEUES.iter().any(|(work, _)| *work == queue) {
            self.messages.insert(id.clone(), message);
        } else {
            self.dead_letters.push(message);
        }
        id
    }

    fn handle(&mut self, action: &str, request: &Value) -> Result<Value, Refusal> {
        let name = request["QueueUrl"].as_str().unwrap_or_default();
        let name = name
            .rsplit_once("/123456789012/")
            .ok_or(Refusal("QueueDoesNotExist"))?
            .1;
        let (work, dead_letters) = *QUEUES
            .iter()
            .find(|(work, dead)| [work, dead].iter().any(|arn| is_named(arn, name)))
            .ok_or(Refusal("QueueDoesNotExist"))?;
        let queue = if is_named(work, name) {
            work
        } else {
            dead_letters
        };
        match action {
            "SendMessage" => self.send(queue, request),
            "DeleteMessage" => self.delete(&request["ReceiptHandle"]),
            "ChangeMessageVisibility" => self.change_visibility(request),
            "ChangeMessageVisibilityBatch" => self.change_visibilities(&request["Entries"]),
            "SendMessageBatch" => self.send_all(queue, &request["Entries"]),
            "GetQueueAttributes" => {
                let mut attributes = self.counts(queue);
                if queue == work {
                    let policy =
                        json!({"deadLetterTargetArn": dead_letters, "maxReceiveCount": 400});
                    attributes["RedrivePolicy"] = policy.to_string().into();
                }
                if queue == WORK {
                    let policy =
                        json!({"Statement": [{"Principal": {"Service": "s3.amazonaws.com"}}]});
                    attributes["Policy"] = policy.to_string().into();
                }
                Ok(json!({ "Attributes": attributes }))
            }
            _ => Err(Refusal("UnsupportedOperation")),
        }
    }

    /// The attributes of a queue that are numbers.
    fn counts(&self, queue: &str) -> Value {
        let (mut visible, mut delayed, mut in_flight) = (0, 0, 0);
        let messages = self.messages.values().chain(&self.dead_letters);
        for message in messages.filter(|message| message.queue == queue) {
            match message.receive_count {
                _ if message.visible_from <= self.now => visible += 1,
                0 => delayed += 1,
                _ => in_flight += 1,
            }
        }
        json!({
            "MessageRetentionPeriod": "1209600",
            "ApproximateNumberOfMessages": visible.to_string(),
            "ApproximateNumberOfMessagesDelayed": delayed.to_string(),
            "ApproximateNumberOfMessagesNotVisible": in_flight.to_string(),
        })
    }

    fn send_all(&mut self, queue: &'static str, entries: &Value) -> Result<Value, Refusal> {
        let entries = batch(entries)?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let body = entry["MessageBody"].as_str().unwrap_or_default();
            let is_blamed = !self.blamed.is_empty() && body.contains(&self.blamed);
            let sent = self.carry_out(SENT_ENTRY, |state| {
                if is_blamed {
                    return Err(Refusal("InvalidMessageContents"));
                }
                state.send(queue, entry)
            });
            match sent {
                Ok(sent) => successful.push(json!({
                    "Id": entry["Id"], "MessageId": sent["MessageId"], "MD5OfMessageBody": "",
                })),
                Err(Refusal(code)) => failed.push(
                    json!({"Id": entry["Id"], "Code": code, "SenderFault": code != INTERNAL_ERROR}),
                ),
            }
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }

    fn send(&mut self, queue: &'static str, request: &Value) -> Result<Value, Refusal> {
        let body = request["MessageBody"].as_str().unwrap_or_default();
        if body.is_empty() {
            return Err(Refusal("MissingParameter"));
        }
        let delay = request["DelaySeconds"].as_i64().unwrap_or_default();
        if body.len() > MAX_MESSAGE || !(0..=MAX_DELAY).contains(&delay) {
            return Err(Refusal("InvalidParameterValue"));
        }
        let trace = request["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"].as_str();
        let id = self.enqueue(
            queue,
            body.to_owned(),
            trace.map(str::to_owned),
            SignedDuration::from_secs(delay),
        );
        Ok(json!({ "MessageId": id }))
    }

    /// Deletes a message that was received with this handle and not since.
    fn delete(&mut self, handle: &Value) -> Result<Value, Refusal> {
        let id = id_of(handle)?;
        if (self.messages.get(id)).is_some_and(|message| message.handle() == *handle) {
            self.messages.remove(id);
        }
        Ok(json!({}))
    }

    fn change_visibility(&mut self, request: &Value) -> Result<Value, Refusal> {
        let seconds = request["VisibilityTimeout"]
            .as_i64()
            .filter(|seconds| (0..=MAX_VISIBILITY).contains(seconds))
            .ok_or(Refusal("InvalidParameterValue"))?;
        let (handle, now) = (&request["ReceiptHandle"], self.now);
        // Deleted, received again, or visible already.
        let message = self
            .messages
            .get_mut(id_of(handle)?)
            .filter(|message| message.handle() == *handle && message.visible_from > now)
            .ok_or(Refusal("InvalidParameterValue"))?;
        message.visible_from = now + SignedDuration::from_secs(seconds);
        Ok(json!({}))
    }

    fn change_visibilities(&mut self, entries: &Value) -> Result<Value, Refusal> {
        let entries = batch(entries)?;
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            match self.carry_out(ENTRY, |state| state.change_visibility(entry)) {
                Ok(_) => successful.push(json!({"Id": entry["Id"]})),
                Err(Refusal(code)) => failed.push(
                    json!({"Id": entry["Id"], "Code": code, "SenderFault": code != INTERNAL_ERROR}),
                ),
            }
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }

    /// Counts a request and carries it out, unless it is to fail.
    fn carry_out(
        &mut self,
        action: &str,
        request: impl FnOnce(&mut Self) -> Result<Value, Refusal>,
    ) -> Result<Value, Refusal> {
        let count = self.requests.entry(action.to_owned()).or_default();
        *count += 1;
        let count = *count;
        match (self.fails.clone())(action, count) {
            None => request(self),
            Some(takes_effect) => {
                if takes_effect {
                    _ = request(self);
                }
                Err(Refusal(INTERNAL_ERROR))
            }
        }
    }
}

impl Queued {
    /// The handle of the last receive. SQS issues a new one each time.
    fn handle(&self) -> String {
        format!("{}#{}", self.id, self.receive_count)
    }
}

/// The code with which SQS refuses a request.
struct Refusal(&'static str);

const INTERNAL_ERROR: &str = "InternalError";

/// Checks the entries of a batch request.
fn batch(entries: &Value) -> Result<&Vec<Value>, Refusal> {
    let entries = entries.as_array().ok_or(Refusal("EmptyBatchRequest"))?;
    let ids: BTreeSet<_> = entries
        .iter()
        .map(|entry| entry["Id"].to_string())
        .collect();
    match entries.len() {
        0 => Err(Refusal("EmptyBatchRequest")),
        1..=10 if ids.len() == entries.len() => Ok(entries),
        1..=10 => Err(Refusal("BatchEntryIdsNotDistinct")),
        _ => Err(Refusal("TooManyEntriesInBatchRequest")),
    }
}

fn id_of(handle: &Value) -> Result<&str, Refusal> {
    let id = handle.as_str().and_then(|handle| handle.split_once('#'));
    Ok(id.ok_or(Refusal("ReceiptHandleIsInvalid"))?.0)
}

fn is_named(arn: &str, name: &str) -> bool {
    arn.rsplit(':').next() == Some(name)
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
    let (status, body) = match state.carry_out(&action, |state| state.handle(&action, &body)) {
        Ok(response) => (200, response),
        Err(Refusal(code)) => (
            if code == INTERNAL_ERROR { 500 } else { 400 },
            json!({"__type": format!("com.amazonaws.sqs#{code}")}),
        ),
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0");
    response
        .body(body.to_string().into())
        .map_err(io::Error::other)
}

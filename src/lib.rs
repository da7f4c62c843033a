//! **edgetap** is a passive tap for Amazon CloudFront: it converts CloudFront access logs in S3
//! into HTTP transactions and posts them to the bridge of an API-security platform.
//!
//! ```text
//!                           ┌ pure and synchronous: no AWS, HTTP, clock, environment ┐
//! event ─▶ job ─▶ source ─▶ log ─▶ transaction ─▶ filter ─▶ redact ─▶ encode ─▶ batch ─▶ bridge
//!                           └────────── pipeline: an iterator of batches ───────────┘      ▲ token
//!                 └────── ingest: one thread reads, batches in flight side by side ──────────┘
//! ```
//!
//! Data flows in one direction. One row is in memory at a time, borrowed from the reader's buffer.
//! Only a [`batch::Batch`] is owned and crosses a thread. The call stack is the backpressure:
//! pulling a batch pulls rows, which pulls bytes from the object.
//!
//! The modules are listed in the order of that flow. No module imports one that is listed below it.
//!
//! **Invariants:** every row of every object is accounted for. Invalid input is a clear error and
//! loses nothing. Secrets and log content never reach a log line or an error, except the path of a
//! dropped static asset, at DEBUG.

pub mod rows;
pub mod job;
pub mod period;
pub mod continuation;
pub mod event;

pub(crate) mod simd;
pub mod log;
pub mod decode;
pub mod transaction;
pub mod filter;
pub mod redact;
pub mod encode;
pub mod batch;
pub mod pipeline;

pub mod time;
pub mod retry;
pub mod tls;
pub(crate) mod connector;
pub mod aws;
pub mod source;
pub mod listing;
pub mod endpoint;
pub(crate) mod http;
pub mod credentials;
pub mod grant;
pub mod token;
pub mod response;
pub mod bridge;
pub(crate) mod echo;
pub mod probe;
pub mod ingest;
pub mod plan;
pub mod work_queue;
pub mod outbox;
pub mod estimate;

pub mod cpu;
pub mod settings;
pub mod dotenv;
pub mod config;
pub mod telemetry;
pub(crate) mod report;
pub(crate) mod space;
pub mod invocation;

pub mod local_bridge;

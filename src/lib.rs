//! **edgetap** is a passive tap for Amazon CloudFront: access logs in S3 become HTTP transactions at an API-protection bridge.
//!
//! ```text
//!             ┌──────────── pure and synchronous: no AWS, HTTP, clock, environment ───────────┐
//!  event ─▶ job ─▶  source ─▶ log ─▶ transaction ─▶ filter ─▶ redact ─▶ encode ─▶ batch ────────┼─▶ bridge ─▶ POST
//!             └───────────────── pipeline: an iterator of batches ───────────────────────────┘     ▲ token
//!             └───────────────── ingest: one thread reads, up to N posts in flight ────────────────┘
//! ```
//!
//! Data moves one way. One row lives at a time, borrowed from the reader's buffer; only a [`batch::Batch`] is owned and
//! crosses a thread. Back-pressure is the call stack: pulling the iterator pulls the inflater pulls the object.
//!
//! The modules stand in the order of that flow, and none imports one that stands below it.
//!
//! What holds everywhere: every row of every object is accounted for; bad input is a clear error and nothing is lost;
//! secrets and log content stay out of log lines and errors.

pub mod job;

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
pub mod aws;
pub mod source;
pub mod tls;
pub mod credentials;
pub mod token;
pub mod bridge;
pub mod ingest;
pub mod work_queue;

pub mod settings;
pub mod dotenv;
pub mod config;
pub mod telemetry;
pub mod report;
pub mod invocation;

pub mod local_bridge;

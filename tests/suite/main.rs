//! The tests that need nothing but this crate: one program, so that it links once.

#![allow(clippy::unwrap_used)]

#[path = "../support/runtime_api.rs"]
mod runtime_api;
#[path = "../support/mod.rs"]
mod support;

mod backfill;
mod bridge;
mod cases;
mod check;
mod command_line;
mod config;
mod continuations;
mod corpus;
mod events;
mod find;
mod fuzzing;
mod golden;
mod input;
mod ingest;
mod messages;
mod parquet;
mod pipeline;
mod process;
mod replay;
mod report;
mod secrecy;
mod settings;
mod source;
mod static_rule;
mod terraform;
mod token;
mod work_queue;

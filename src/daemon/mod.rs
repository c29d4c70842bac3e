//! The daemon acts: everything that waits, reads, writes or tells the time.

pub mod access;
pub mod api;
pub mod app;
mod bounded;
pub mod clock;
pub mod cluster;
pub mod config;
mod dashboard;
pub mod edge;
pub mod etcd;
pub mod events;
pub mod history;
pub mod http;
pub mod journal;
pub mod log;
pub mod metrics;
pub(crate) mod outgoing;
pub mod resp;
pub mod runtime;
pub mod subscriptions;
pub mod sync;
pub mod text;
mod varint;
pub mod webhook;

pub use runtime::{Daemon, Embedded, Options, Prepared, StartError};

//! The daemon acts: everything that waits, reads, writes or tells the time.

pub mod api;
pub mod app;
pub mod clock;
pub mod config;
mod control;
pub mod events;
pub mod history;
pub mod http;
pub mod journal;
pub mod log;
pub mod marks;
pub mod metrics;
pub mod notify;
mod prepare;
pub mod recorder;
pub mod reload;
pub mod reload_request;
mod remember;
pub mod resp;
mod schedule;
pub mod selfcheck;
mod signals;
pub mod sockets;
pub mod start;
pub mod subscriptions;
pub mod sync;
pub mod text;
pub mod timeline;
mod varint;

pub use prepare::{Embedded, Prepared, StartError};
pub use start::{Daemon, Options};

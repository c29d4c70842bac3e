//! The daemon acts: everything that waits, reads, writes or tells the time.

pub mod clock;
pub mod config;
pub mod events;
pub mod http;
pub mod journal;
pub mod metrics;
pub mod notify;
pub mod sockets;
pub mod text;

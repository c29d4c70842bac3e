//! The life of the daemon: wire up, serve, reload, follow schedule and silence, write checkpoints, drain.

mod announce;
pub mod certificates;
mod checkpoint;
mod control;
pub mod dispatcher;
mod first_good;
mod node_watch;
pub mod notify;
mod prepare;
pub mod puller;
mod reload;
mod schedule;
pub mod selfcheck;
mod shards;
pub mod signals;
pub mod sockets;
pub mod start;
mod take_up;
mod upkeep;

pub use prepare::{Embedded, Prepared, StartError};
pub use start::{Daemon, Options};

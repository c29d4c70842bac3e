//! The Redis protocol, as far as usherd speaks it (API 6a): commands in, replies out, no I/O.

mod command;
pub mod reply;

pub use command::{ARG_BYTES_MAX, ARGS_MAX, Args, COMMAND_BYTES_MAX, Next, next};

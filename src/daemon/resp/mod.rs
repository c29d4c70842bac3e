//! The Redis protocol, as far as usherd speaks it (API 6a): commands in, replies out, no I/O.

mod command;
pub mod reply;

pub use command::{ARGS_MAX, ARG_BYTES_MAX, Args, COMMAND_BYTES_MAX, Next, next};

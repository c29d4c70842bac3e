//! FastAGI, as far as usherd speaks it: what Asterisk sends of a script, and the variables it gets. No I/O.

mod answer;
mod head;

pub use answer::{REPLY_BYTES_MAX, Reply, Variable, reply, set_variable, variables, variables_of_fault};
pub use head::{HEAD_BYTES_MAX, HEAD_LINES_MAX, LINE_BYTES_MAX, Script, Wrong, head_bytes, script};

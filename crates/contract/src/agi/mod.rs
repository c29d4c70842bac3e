//! FastAGI, as far as usherd speaks it: what Asterisk sends of a script, and the variables it gets. For the daemon's
//! listener, and for the agent that answers beside an Asterisk.

mod answer;
mod foreign;
mod head;
mod talk;

pub use answer::{Variable, variables, variables_of_fault, variables_of_silence};
pub use foreign::is_http;
pub use head::{HEAD_BYTES_MAX, HEAD_LINES_MAX, LINE_BYTES_MAX, Script, Wrong, script};
pub use talk::{Broken, Talk};

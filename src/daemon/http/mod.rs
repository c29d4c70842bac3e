//! The edge: sockets with their armour below, bodies and replies of the wire contract above.

mod accept;
pub mod auth;
pub mod body;
pub mod collect;
mod connection;
mod faults;
mod fields;
mod form;
pub mod gate;
mod given;
mod handler;
pub mod hint;
pub mod limits;
pub mod lines;
pub mod listener;
pub mod node_calls;
pub mod peer;
pub mod problem;
mod protocol;
pub mod reply;
pub mod stats;
mod stream;
pub mod tls;
pub mod wire;

pub use accept::{Edge, serve};
pub use body::{ReplyBody, ReplySender};
pub use gate::Gate;
pub use given::serve_stream;
pub use handler::Handler;
pub use limits::Limits;
pub use listener::Listener;
pub use peer::Peer;
pub use problem::Problem;
pub use protocol::Protocol;
pub use stats::EdgeStats;

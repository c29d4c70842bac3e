//! The edge: sockets with their armour below, bodies and replies of the wire contract above.

mod accept;
pub mod auth;
pub mod body;
mod connection;
mod faults;
mod fields;
mod form;
pub mod gate;
pub mod hint;
pub mod limits;
pub mod lines;
pub mod listener;
pub mod peer;
pub mod problem;
pub mod reply;
pub mod stats;
mod stream;
pub mod tls;
pub mod wire;

pub use accept::{Edge, Handler, serve};
pub use body::{ReplyBody, ReplySender};
pub use gate::Gate;
pub use limits::Limits;
pub use listener::{Listener, Protocol};
pub use peer::Peer;
pub use problem::Problem;
pub use stats::EdgeStats;

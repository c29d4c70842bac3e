//! The edge: sockets with their armour below, bodies and replies of the wire contract above.

mod accept;
pub mod body;
mod connection;
pub mod gate;
pub mod limits;
pub mod listener;
pub mod peer;
pub mod problem;
pub mod stats;
mod stream;
pub mod tls;

pub use accept::{Edge, Handler, serve};
pub use body::{ReplyBody, ReplySender};
pub use gate::Gate;
pub use limits::Limits;
pub use listener::{Listener, Protocol};
pub use peer::Peer;
pub use problem::Problem;
pub use stats::EdgeStats;

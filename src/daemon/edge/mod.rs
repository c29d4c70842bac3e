//! The edge: sockets and their armour. It lets connections in, holds each to its deadlines and budgets, and hands whole
//! requests to the [`Handler`] above.

mod accept;
pub(crate) mod address;
mod alarm;
mod answers;
mod bodies;
mod client_certificates;
pub mod collect;
mod commands;
mod conduct;
mod connection;
mod dispatch;
mod embedded;
pub mod gate;
mod handler;
mod head;
pub mod limits;
pub mod listener;
pub mod peer;
mod plain;
mod protocol;
mod scripts;
mod session;
mod shortcut;
mod socket;
pub mod stats;
mod stop;
mod stream;
pub mod tls;
mod turns;
pub mod validity;
mod vitals;

pub use accept::{Edge, serve};
pub use answers::Answers;
pub use bodies::Bodies;
pub use embedded::serve_stream;
pub use gate::Gate;
pub use handler::Handler;
pub use limits::Limits;
pub use listener::Listener;
pub use peer::Peer;
pub use plain::Plain;
pub use protocol::Protocol;
pub use session::Talk;
pub use stats::EdgeStats;

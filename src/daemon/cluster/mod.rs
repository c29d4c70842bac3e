//! Several daemons decide together: each the tenants of its shards, and each takes any request.

mod caller;
mod peers;
mod shards;
mod steward;
mod unsettled;
mod watch;

pub use caller::{CALLER, FORWARDED};
pub use peers::{Forwarded, PeerAnswer, Peers};
pub use shards::{Counts, Member, Owners, Shards};
pub use steward::{Look, Reason, Step, Steward, Timing};
pub use unsettled::{End, Session, Unsettled};
pub use watch::{Control, Loads, Me, Watch};

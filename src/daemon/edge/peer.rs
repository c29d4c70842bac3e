//! The other end of a connection, as far as the transport can tell.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::alarm::Alarm;
use super::answers::Answers;
use super::bodies::Bodies;
use super::gate::Pass;
use super::limits::Limits;
use super::stats::{Broken, Deadline, EdgeStats};
use super::turns::Turns;
use crate::daemon::http::problem::Problem;

/// When to ask again where all answers together are too large.
const RETRY_AFTER_FULL_SECONDS: u32 = 1;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// Over TCP; an IPv4 address mapped into IPv6 is shown as IPv4.
    Ip(IpAddr),
    /// Over the Unix socket, with the user the kernel vouches for.
    Unix {
        /// User id.
        uid: u32,
    },
}

/// The other end of one connection.
#[derive(Debug)]
pub struct Peer {
    pub(super) address: PeerAddress,
    pub(super) listener: Rc<str>,
    pub(super) names: Vec<String>,
    pub(super) encrypted: bool,
    pub(super) pass: Pass,
    pub(super) limits: Arc<Limits>,
    pub(super) stats: Arc<EdgeStats>,
    pub(super) bodies: Arc<Bodies>,
    pub(super) answers: Arc<Answers>,
    /// The deadlines of its requests.
    pub(super) alarm: Rc<Alarm>,
    /// Whose turn it is on this runtime; `None` for a connection that did not come from a listener of ours.
    pub(super) turns: Option<Rc<Turns>>,
}

impl Peer {
    /// Where it comes from.
    pub fn address(&self) -> PeerAddress {
        self.address
    }

    /// The listener that it came in by.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// The subject alternative names (DNS and URI) of its verified client certificate; empty without one.
    pub fn certificate_names(&self) -> &[String] {
        &self.names
    }

    /// True if the connection is TLS.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// True if it comes from this host: loopback or the Unix socket.
    pub fn is_local(&self) -> bool {
        match self.address {
            PeerAddress::Ip(address) => address.is_loopback(),
            PeerAddress::Unix { .. } => true,
        }
    }

    /// Tell it after every successful message of a node: from then on its address may use the reserved
    /// share of connections and keep idle ones for long. Cheap when told before.
    pub fn mark_node(&self) {
        self.pass.mark_node();
    }

    /// One more request, of a protocol of which a connection brings many at once.
    pub fn count_request(&self) {
        self.stats.count_request();
    }

    /// Counts bytes of a protocol that the listener does not speak; the connection ends.
    pub fn count_foreign(&self) {
        self.stats.count_broken(Broken::Protocol);
    }

    /// A deadline ended the connection, or a request of it. Whose fault that is pays with the next connection.
    pub(super) fn cut(&self, deadline: Deadline) {
        self.stats.count_deadline(deadline);
        if deadline.is_of_client() {
            self.pass.cut_off();
        }
    }

    /// The client broke the protocol in a way that costs us much and it nothing.
    pub(super) fn broke_the_rules(&self) {
        self.pass.cut_off();
    }

    /// Refuses a large answer, or what would have one, where all that wait for their readers hold what they may.
    ///
    /// # Errors
    /// 503, with when to ask again.
    pub fn room_for_answer(&self) -> Result<(), Problem> {
        if !self.answers.refuses(self.pass.is_node()) {
            return Ok(());
        }
        Err(Problem::unavailable(
            RETRY_AFTER_FULL_SECONDS,
            "the answers that wait for their readers hold what they may",
        ))
    }

    pub(super) fn idle_deadline(&self) -> Duration {
        if self.pass.is_node() { self.limits.idle_deadline } else { self.limits.idle_stranger_deadline }
    }
}

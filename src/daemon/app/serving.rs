//! The part of a daemon that serves: its listeners, and from when until when they are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::node_addresses::NodeAddresses;
use crate::daemon::access::auth::Role;
use crate::daemon::edge::tls::Served;
use crate::daemon::edge::{Edge, EdgeStats};

/// The listeners of a daemon, and from when until when they are answered.
pub struct Serving {
    /// The listeners, each with its counters.
    pub listeners: Vec<ListenerInfo>,
    /// Connection counts and limits of all listeners.
    pub edge: Arc<Edge>,
    /// The addresses of nodes, for the next start.
    pub node_addresses: Arc<NodeAddresses>,
    ready: AtomicBool,
    draining: AtomicBool,
    /// It stopped before all that was decided was written.
    unfinished: AtomicBool,
}

/// One listener of the daemon.
#[derive(Debug)]
pub struct ListenerInfo {
    /// The name in logs, metrics and problems.
    pub name: String,
    /// The address that it listens on: `127.0.0.1:7788`, or the path of a Unix socket.
    pub address: String,
    /// The roles whose requests it takes; empty: everybody's.
    pub roles: Vec<Role>,
    /// True if it speaks HTTP/1 in the clear, so that the daemon can ask itself there.
    pub is_plain_http: bool,
    /// The certificate that it shows, where it speaks TLS.
    pub tls: Option<Arc<Served>>,
    /// Its counters.
    pub stats: Arc<EdgeStats>,
}

impl Serving {
    /// Does not decide yet.
    pub fn new(listeners: Vec<ListenerInfo>, edge: Edge, node_addresses: NodeAddresses) -> Self {
        Serving {
            listeners,
            edge: Arc::new(edge),
            node_addresses: Arc::new(node_addresses),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            unfinished: AtomicBool::new(false),
        }
    }

    /// True if decisions are made: the journal is recovered and the configuration installed.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// True if a stop was asked for.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// True if it stopped before all that was decided was written.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Acquire)
    }

    /// Decisions are made from now on.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// A stop was asked for.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// It stops before all that was decided is written.
    pub(crate) fn set_unfinished(&self) {
        self.unfinished.store(true, Ordering::Release);
    }
}

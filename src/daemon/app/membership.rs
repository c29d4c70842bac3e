//! The part of a cluster's daemon that its operators use: orders to the watch, and etcd to be asked how it is.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::answers::cluster::EtcdEndpoint;
use crate::daemon::clock::monotonic_ns;
use crate::daemon::cluster::Control;
use crate::daemon::etcd::{Client, EndpointStatus};

/// How long one answer of etcd serves everybody who asks, nanoseconds.
const SEEN_FOR_NS: u64 = 1_000_000_000;

/// The orders and questions of operators; there once a daemon takes part in its cluster.
pub struct Membership {
    /// Where orders are given.
    pub control: Arc<Control>,
    etcd: Client,
    seen: Mutex<Option<(u64, EtcdHealth)>>,
}

/// The state of etcd.
#[derive(Clone, Debug)]
pub struct EtcdHealth {
    /// Of each endpoint, in the order of the configuration.
    pub endpoints: Vec<EtcdEndpoint>,
    /// The alarms that are raised; `None` where nobody answered.
    pub alarms: Option<Vec<String>>,
}

impl Membership {
    /// Asks etcd by a client of its own, so that nobody who decides waits for it.
    pub fn new(control: Arc<Control>, etcd: Client) -> Self {
        Membership { control, etcd, seen: Mutex::default() }
    }

    /// The state of etcd, a second old at most. Waits for the network: never call it on a thread that decides.
    pub fn etcd_health(&self) -> EtcdHealth {
        let mut seen = self.seen.lock();
        if let Some((at_ns, health)) = &*seen
            && monotonic_ns().saturating_sub(*at_ns) < SEEN_FOR_NS
        {
            return health.clone();
        }
        let endpoints: Vec<EtcdEndpoint> = self.etcd.status().into_iter().map(told).collect();
        let is_there = endpoints.iter().any(|endpoint| endpoint.problem.is_none());
        let alarms = if is_there { self.etcd.alarms().ok() } else { None };
        seen.insert((monotonic_ns(), EtcdHealth { endpoints, alarms })).1.clone()
    }
}

fn told(status: EndpointStatus) -> EtcdEndpoint {
    let EndpointStatus { endpoint, reachable } = status;
    match reachable {
        Ok(health) => EtcdEndpoint {
            endpoint,
            problem: None,
            version: Some(health.version),
            leader: Some(health.is_leader),
            db_bytes: Some(health.db_bytes),
            errors: health.errors,
        },
        Err(why) => EtcdEndpoint { endpoint, problem: Some(why), ..EtcdEndpoint::default() },
    }
}

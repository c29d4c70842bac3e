//! The input of a scrape from the other parts of the daemon: plain numbers, read once.

use usherd_engine::{Engine, Now};
use usherd_subscription::entitlement::State;

use super::cluster::ClusterStats;
use super::words::ChangeKind;

/// Everything that one scrape looks at beside the counters that [`super::Metrics`] keeps itself.
pub struct ScrapeInput<'a> {
    /// The table.
    pub engine: &'a Engine,
    /// The instant of the scrape.
    pub now: Now,
    /// The state of a configured tenant's subscription.
    pub subscription_state: &'a dyn Fn(&str) -> State,
    /// Open connections by listener; those of one name are added up.
    pub connections: &'a [(&'a str, u64)],
    /// The bytes that unfinished request bodies hold.
    pub request_bodies_bytes: u64,
    /// The bytes of large answers that wait for their readers.
    pub answers_bytes: u64,
    /// Answers refused for want of room, since the start.
    pub answers_refused: u64,
    /// The result of the last reload.
    pub config: ConfigState,
    /// Every booked change that is still to come.
    pub scheduled: &'a [ScheduledChange<'a>],
    /// The journal.
    pub journal: JournalStats<'a>,
    /// The event stream.
    pub events: EventStats,
    /// How often the wall clock stepped, since the start.
    pub clock_steps: u64,
    /// The cluster that the daemon belongs to.
    pub cluster: Option<ClusterStats<'a>>,
}

/// The configuration as seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigState {
    /// True if the last attempt was taken.
    pub last_reload_successful: bool,
    /// When one was last taken, milliseconds since 1970 UTC; 0 for never.
    pub last_success_utc_ms: i64,
    /// Tenant files that are not taken.
    pub tenants_rejected: u64,
    /// The first bytes of the hash of what is in force; 48 bits of it are shown, so that a float holds them.
    pub hash: u64,
}

/// A booked change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledChange<'a> {
    /// Whose.
    pub tenant: &'a str,
    /// From when, milliseconds since 1970 UTC.
    pub at_utc_ms: i64,
    /// The kind of change.
    pub kind: ChangeKind,
    /// The quota from then on; `None` is unlimited.
    pub seats: Option<u32>,
}

/// The journal since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JournalStats<'a> {
    /// Records written.
    pub records: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Writes and syncs that failed.
    pub errors: u64,
    /// Answers that went out without being as durable as was asked for.
    pub not_durable: u64,
    /// How much of the ring waits for the disk, 0 to 1.
    pub ring_used_ratio: f64,
    /// How long commits took.
    pub commits: HistogramStats<'a>,
    /// True if decisions go on without being written.
    pub degraded: bool,
}

/// A histogram that somebody else keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HistogramStats<'a> {
    /// Upper bounds, seconds, ascending.
    pub bounds_seconds: &'a [f64],
    /// How many per bucket, not added up; one more than bounds, for what is above them all.
    pub counts: &'a [u64],
    /// Sum of all observations, seconds.
    pub sum_seconds: f64,
}

/// The event stream since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventStats {
    /// The number of listeners now.
    pub subscribers: u64,
    /// Events that a slow listener missed.
    pub dropped: u64,
}

/// The build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo<'a> {
    /// Of the package.
    pub version: &'a str,
    /// Of the source tree.
    pub revision: &'a str,
    /// Of the compiler.
    pub rustc: &'a str,
}

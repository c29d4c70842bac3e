//! The part of a daemon that a decision needs.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use chrono::{DateTime, NaiveDate};
use chrono_tz::Tz;
use parking_lot::Mutex;
use usherd_engine::{Engine, Now};
use usherd_subscription::civil::civil;
use usherd_subscription::entitlement::Timelines;

use super::commit_times::CommitTimes;
use super::journal::Journal;
use super::knobs::Knobs;
use super::membership::Membership;
use super::timeline::Timeline;
use crate::answers::words::{Durability, JournalForm};
use crate::daemon::clock::{Clock, thread_cpu_ns};
use crate::daemon::cluster::Shards;
use crate::daemon::config::Config;
use crate::daemon::journal::sampler::Sampler;
use crate::daemon::journal::watermarks::Marks;
use crate::daemon::journal::{Committer, Shard, TurnWriter};
use crate::daemon::sync::keeper::Confirmation;

/// The part that a decision needs: the engine, the time, the limits, and the journal that it goes to.
pub struct Deciding {
    /// The engine, which decides.
    pub engine: Engine,
    /// The clock of the daemon.
    pub clock: Arc<dyn Clock>,
    /// The wall clock, as far as it can be trusted.
    pub timeline: Mutex<Timeline>,
    /// Limits that a reload may change, at hand for every request.
    pub knobs: Arc<ArcSwap<Knobs>>,
    /// The choice of denials that are written to the audit trail in a storm.
    pub sampler: Sampler,
    /// The marks that the journal remembers beside the sessions.
    pub marks: Marks,
    /// The committer of decisions; not set before recovery.
    pub committer: OnceLock<Arc<Committer<Journal>>>,
    /// The durations of commits of the journal.
    pub commits: Arc<CommitTimes>,
    /// The number of this run, which marks its answers.
    pub boot: u32,
    /// The number of runtimes that decide.
    pub workers: usize,
    /// The shards of the cluster; `None` on one machine, where every tenant is decided.
    pub shards: Option<Arc<Shards>>,
    /// The orders and questions of operators to the cluster; not set before the daemon takes part in one.
    pub membership: OnceLock<Membership>,
    /// The damage found in the journal at the start, until the nodes had time to report what they carry.
    damage: Mutex<Option<String>>,
}

impl Deciding {
    /// Nothing is recovered and no tenant is known yet.
    pub fn new(now: Now, config: &Config, clock: Arc<dyn Clock>, workers: usize) -> Self {
        let engine = Engine::new(config.settings.server.limits());
        engine.measure_holds(thread_cpu_ns);
        Deciding {
            engine,
            clock,
            timeline: Mutex::new(Timeline::new(now)),
            knobs: Arc::new(ArcSwap::from_pointee(Knobs::of(config, workers))),
            sampler: Sampler::new(20, 60, 10_000),
            marks: Marks::default(),
            committer: OnceLock::new(),
            commits: Arc::default(),
            boot: fastrand::u32(..),
            workers,
            shards: None,
            membership: OnceLock::new(),
            damage: Mutex::default(),
        }
    }

    /// The wall clock as far as it is trusted, milliseconds since 1970 UTC (H5).
    pub fn trusted_utc_ms(&self, now: Now) -> i64 {
        let timelines = self.timelines(now);
        timelines.old.unwrap_or(timelines.wall).timestamp_millis()
    }

    /// True if the wall clock is trusted (H5).
    pub fn is_clock_trusted(&self, now: Now) -> bool {
        self.timelines(now).old.is_none()
    }

    /// The timelines that subscriptions follow at an instant (H5).
    pub fn timelines(&self, now: Now) -> Timelines {
        self.timeline.lock().at(now)
    }

    /// When the publisher of synced records stands by them now; to be dated anew where nobody trusts the clock (H5).
    pub fn confirmation(&self, now: Now) -> Confirmation {
        let at = self.timelines(now);
        let doubted_uptime_ms = at.old.map(|_| now.uptime_ms);
        Confirmation { at: at.old.unwrap_or(at.wall), doubted_uptime_ms }
    }

    /// The civil date in a zone, by the wall clock as far as it is trusted.
    pub fn date(&self, now: Now, zone: Tz) -> NaiveDate {
        let trusted = DateTime::from_timestamp_millis(self.trusted_utc_ms(now)).unwrap_or_default();
        civil(zone, trusted).date()
    }

    /// True if a tenant is decided here: on one machine every one is.
    pub fn decides(&self, tenant: &str) -> bool {
        self.shards.as_ref().is_none_or(|shards| shards.term(shards.shard(tenant)) != 0)
    }

    /// True if this daemon tells others what concerns a tenant or, with an empty one, the whole fleet: its owner, that of
    /// the first shard.
    pub fn tells_of(&self, tenant: &str) -> bool {
        let of_fleet = || self.shards.as_ref().is_none_or(|shards| shards.term(Shard(0)) != 0);
        if tenant.is_empty() { of_fleet() } else { self.decides(tenant) }
    }

    /// A writer for one runtime; `None` before recovery.
    pub fn writer(&self) -> Option<TurnWriter<Journal>> {
        Some(self.committer.get()?.writer())
    }

    /// The durability that was asked of the journal.
    pub fn durability(&self) -> Durability {
        self.committer.get().map_or(Durability::None, |committer| committer.durability())
    }

    /// The way of decisions to the disk.
    pub fn journal_form(&self) -> JournalForm {
        self.committer.get().map_or(JournalForm::Nothing, |committer| committer.form())
    }

    /// Why decisions are not durable at present, or what was lost at the start and is being learned again.
    pub fn degraded(&self) -> Option<String> {
        let damage = || self.damage.lock().clone();
        self.committer.get().and_then(|committer| committer.degraded()).or_else(damage)
    }

    /// Something of the journal is lost, and is learned again from the nodes.
    pub(crate) fn note_damage(&self, text: String) {
        *self.damage.lock() = Some(text);
    }

    /// The nodes had time to report what they carry.
    pub(crate) fn forget_damage(&self) {
        self.damage.lock().take();
    }
}

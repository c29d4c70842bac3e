//! The work that the control thread leaves to others, because it may wait for a disk: snapshots, trims and reloads.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use usherd_engine::Now;

use super::checkpoint::checkpoint;
use super::schedule::Schedule;
use super::{notify, reload};
use crate::daemon::app::reload_request::{Outcome, Request};
use crate::daemon::app::{App, Configuration, Deciding, Journal};
use crate::daemon::clock::monotonic_ns;
use crate::daemon::events::{Event, EventResult, EventType, Events};
use crate::daemon::journal::{Committer, Journal as _, Keep};
use crate::daemon::metrics::ReloadTrigger;

/// How often a degraded journal is given a chance to heal.
const HEAL_EVERY_MS: u64 = 30_000;
/// A snapshot is taken at least so often, so that a restart reads little.
const CHECKPOINT_EVERY_MS: u64 = 3_600_000;
/// How often audit records that nobody wants to keep are looked for.
const TRIM_EVERY_MS: u64 = 3_600_000;

/// The upkeep of the journal.
pub(super) struct Upkeep {
    /// When it is due, uptime milliseconds.
    checkpoint_at: u64,
    trim_at: u64,
    /// Bytes of the journal at the last snapshot.
    checkpoint_bytes: u64,
    /// A snapshot or a trim in progress, on a thread of its own.
    work: Option<JoinHandle<()>>,
    was_degraded: bool,
}

impl Upkeep {
    /// The first snapshot is due at once.
    pub(super) fn new(now: Now) -> Self {
        Upkeep {
            checkpoint_at: now.uptime_ms,
            trim_at: now.uptime_ms + TRIM_EVERY_MS,
            checkpoint_bytes: 0,
            work: None,
            was_degraded: false,
        }
    }

    /// A snapshot when enough was written, when time has passed, or to heal; records nobody wants go.
    pub(super) fn look_after(
        &mut self,
        deciding: &Arc<Deciding>,
        configuration: &Arc<Configuration>,
        committer: &Arc<Committer<Journal>>,
        now: Now,
    ) {
        if self.work.as_ref().is_some_and(|work| !work.is_finished()) {
            return;
        }
        let config = configuration.running.get();
        let journal = &config.settings.journal;
        let written = committer.journal().map_or(0, |journal| journal.counters().bytes());
        let grown = written.saturating_sub(self.checkpoint_bytes) >= journal.checkpoint_bytes;
        let heals = committer.heal_due(now.uptime_ms, HEAL_EVERY_MS);
        if grown || heals || self.checkpoint_at <= now.uptime_ms {
            self.checkpoint_at = now.uptime_ms + CHECKPOINT_EVERY_MS;
            self.checkpoint_bytes = written;
            let (deciding, configuration) = (Arc::clone(deciding), Arc::clone(configuration));
            let committer = Arc::clone(committer);
            let work = move || checkpoint(&deciding, &configuration.keeper, &committer);
            self.work = Some(tokio::task::spawn_blocking(work));
            // What the new snapshot makes superfluous goes with it: each start takes one.
            self.trim_at = now.uptime_ms;
        } else if self.trim_at <= now.uptime_ms && deciding.is_clock_trusted(now) {
            // A clock that nobody trusts is no reason to throw the audit trail away.
            self.trim_at = now.uptime_ms + TRIM_EVERY_MS;
            let keep = Keep { age_ms: i64::from(journal.keep_days) * 86_400_000, bytes: journal.keep_bytes };
            let committer = Arc::clone(committer);
            self.work = Some(tokio::task::spawn_blocking(move || match committer.trim(keep, now.utc_ms) {
                Ok(trimmed) if trimmed.segments > 0 => {
                    tracing::info!(segments = trimmed.segments, bytes = trimmed.bytes, "old journal segments removed")
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "old journal segments cannot be removed"),
            }));
        }
    }

    /// Says once that durability is degraded, and once that the journal recovered; true if it said so now.
    pub(super) fn tell_degraded(&mut self, deciding: &Deciding, events: &Events, now: Now) -> bool {
        let degraded = deciding.degraded();
        if degraded.is_some() == self.was_degraded {
            return false;
        }
        self.was_degraded = degraded.is_some();
        let text = match &degraded {
            Some(why) => {
                format!("durability is degraded: {why}. Calls flow; what is decided now may be forgotten in a crash")
            }
            None => "journal recovered".to_owned(),
        };
        if degraded.is_some() {
            tracing::error!("{text}");
        } else {
            tracing::info!("{text}");
        }
        let result = if degraded.is_some() { EventResult::Degraded } else { EventResult::Whole };
        events.publish(Event::came_to(EventType::Journal, result, now.utc_ms, text));
        true
    }

    /// The end of what is in progress.
    pub(super) async fn end(&mut self) {
        if let Some(work) = self.work.take() {
            let _ = work.await;
        }
    }
}

/// A reload in progress, on a thread of its own: files may hang, and time goes on.
pub(super) struct Reloading {
    thread: JoinHandle<Outcome>,
    reply: Option<oneshot::Sender<Outcome>>,
    signalled: bool,
}

/// A reload that has ended.
pub(super) struct Reloaded {
    outcome: Result<Outcome, JoinError>,
    reply: Option<oneshot::Sender<Outcome>>,
    /// A signal asked for it, so that the service manager waits to hear of its end.
    pub(super) signalled: bool,
}

impl Reloading {
    /// Reads the files as of an instant.
    pub(super) fn begin(app: &App, schedule: &Arc<Mutex<Schedule>>, now: Now, mut request: Request) -> Self {
        let reply = request.reply.take();
        let signalled = request.trigger == ReloadTrigger::Signal;
        if signalled {
            let _ = notify::reloading(monotonic_ns() / 1_000, "reading the configuration");
        }
        let (app, schedule) = (app.clone(), Arc::clone(schedule));
        let thread = tokio::task::spawn_blocking(move || reload::reload(&app, &schedule, now, &request));
        Reloading { thread, reply, signalled }
    }

    /// Its end; never while there is none.
    pub(super) async fn done(reloading: &mut Option<Self>) -> Reloaded {
        let Some(running) = reloading else { return std::future::pending().await };
        let outcome = (&mut running.thread).await;
        let (reply, signalled) = (running.reply.take(), running.signalled);
        *reloading = None;
        Reloaded { outcome, reply, signalled }
    }
}

impl Reloaded {
    /// Tells who asked what came of it.
    pub(super) fn reply(self) {
        if let (Some(reply), Ok(outcome)) = (self.reply, self.outcome) {
            let _ = reply.send(outcome);
        }
    }
}

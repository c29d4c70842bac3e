//! The control thread: recovery, then everything that is due, asked for or signalled, one thing at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use usherd_engine::{Now, Standing};

use super::checkpoint::{restore, tell_recovered};
use super::first_good::first_good;
use super::node_watch::Silence;
use super::schedule::Schedule;
use super::shards::{Joining, Member};
use super::signals::{Asked, Signals};
use super::take_up::{install, take_up};
use super::upkeep::{Reloaded, Reloading, Upkeep};
use super::{certificates, notify, selfcheck};
use crate::daemon::app::recorder::Recorder;
use crate::daemon::app::reload_request::Request;
use crate::daemon::app::timeline::Step;
use crate::daemon::app::{App, Journal};
use crate::daemon::clock::monotonic_ns;
use crate::daemon::config::{self, Removals};
use crate::daemon::journal::{
    Audit, AuditKind, Committer, DISK_PATIENCE_NS, Epoch, Hooks, Journal as _, JournalError, Recovered, Shard,
    TurnWriter,
};
use crate::daemon::metrics::{ReloadResult, ReloadTrigger, Shard as Counts};

/// How long the reaper sleeps at most: an earlier deadline may be set meanwhile.
const REAPER_REST: Duration = Duration::from_millis(100);
/// A reaper that rested for longer was stopped, and so were the messages of the nodes.
const STALL_MS: u64 = 2_000;
/// How long the end waits for a disk that kept it waiting already.
const HUNG_DISK_PATIENCE: Duration = Duration::from_secs(1);
/// A disk that takes longer is told of, even where no answer waits for it.
const DISK_PATIENCE_MS: u64 = 1_000;

/// The parts that the control thread is given.
pub(super) struct Control {
    pub(super) app: App,
    pub(super) journal: Arc<Journal>,
    pub(super) epoch: Epoch,
    /// The cluster that the daemon belongs to, until it takes part.
    pub(super) joining: Option<Joining>,
    pub(super) state_dir: PathBuf,
    pub(super) reloads: mpsc::Receiver<Request>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) ready: watch::Sender<bool>,
    pub(super) as_process: bool,
    /// Its time passes on the thread that decides: nothing is left to another one.
    pub(super) on_one_thread: bool,
}

/// The result of a recovery.
struct Recovery {
    committer: Arc<Committer<Journal>>,
    /// As of when.
    now: Now,
    /// The step of the wall clock over the stop, where nobody trusts it (H5).
    step: Option<Step>,
}

/// When recurring things are due, uptime milliseconds.
struct Due {
    second_at: u64,
    /// When the reaper looked last, and from when on it may end anything.
    looked_at: u64,
    reap_from: u64,
    /// Until when what was damaged in the journal is being learned again.
    learned_at: u64,
    sweep_at: u64,
}

/// The control thread while it runs.
struct Loop {
    app: App,
    committer: Arc<Committer<Journal>>,
    /// The part in a cluster.
    member: Option<Member>,
    writer: TurnWriter<Journal>,
    counts: Counts,
    /// A reload holds it while it swaps the configuration.
    schedule: Arc<Mutex<Schedule>>,
    stop: watch::Sender<bool>,
    due: Due,
    upkeep: Upkeep,
    reloading: Option<Reloading>,
    silence: Silence,
    /// Real time passes: a jump of it means that the process was stopped.
    as_process: bool,
}

impl Control {
    /// Recovers, decides, and ends when a stop was asked for.
    pub(super) fn run(self) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the control runtime cannot be started");
                self.stop.send_replace(true);
                return;
            }
        };
        let stop = self.stop.clone();
        if let Err(error) = LocalSet::new().block_on(&runtime, self.serve()) {
            tracing::error!(%error, "the daemon ends");
        }
        stop.send_replace(true);
        // What hangs on a disk must not hold up the end.
        runtime.shutdown_background();
    }

    /// The same on the caller's runtime, inside a `LocalSet`.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) async fn serve(mut self) -> Result<(), JournalError> {
        // Before recovery, and before anybody is told that it is ready: a signal that comes early waits.
        let mut signals = self.as_process.then(Signals::new).flatten();
        let _ = notify::status("reading the journal");
        let Recovery { committer, now, step } = self.recover()?;
        let app = self.app.clone();
        let config = app.configuration.running.get();
        first_good(&self.app, &self.state_dir, &config);
        let zone = config.settings.time_zone.0;
        app.publishing.begin_today(zone, app.deciding.date(now, zone));
        let mut schedule = Schedule::new(app.clone(), committer.writer());
        schedule.begin(now, step);
        let schedule = Arc::new(Mutex::new(schedule));
        let joining = self.joining.take();
        let member = joining.map(|joining| joining.join(&app, &committer, Arc::clone(&schedule))).transpose()?;
        let mut control = Loop {
            schedule,
            writer: committer.writer(),
            counts: app.publishing.metrics.shard(),
            due: Due {
                second_at: now.uptime_ms,
                looked_at: now.uptime_ms,
                reap_from: 0,
                learned_at: now.uptime_ms + u64::from(config.settings.nodes.learning_s) * 1_000,
                sweep_at: now.uptime_ms + 60_000,
            },
            upkeep: Upkeep::new(now),
            app: app.clone(),
            committer,
            member,
            stop: self.stop.clone(),
            reloading: None,
            silence: Silence::default(),
            as_process: self.as_process,
        };
        app.serving.set_ready();
        self.ready.send_replace(true);
        let _ = notify::ready(&control.status());
        tracing::info!(tenants = config.tenants.len(), listeners = ?app.serving.listeners.iter().map(|l| &l.address).collect::<Vec<_>>(), "ready");
        let _ = crate::daemon::api::openapi(); // Made in advance: no thread that decides spends its time on it.
        let _watch = self.watch_files(&config);
        control.run(&mut self.reloads, &mut signals).await;
        control.end().await;
        Ok(())
    }

    /// Reads the journal, installs the configuration and puts the sessions back (G10), as of an instant
    /// that it answers, with the step that the wall clock made over the stop (H5).
    fn recover(&self) -> Result<Recovery, JournalError> {
        let app = &self.app;
        let App { deciding, publishing, configuration, serving } = app;
        // In a cluster there is nothing to decide before a shard is taken.
        let recovered = match &self.joining {
            None => self.journal.replay(Shard::ALL)?,
            Some(_) => Recovered::default(),
        };
        let now = deciding.clock.now();
        deciding.marks.recover(&recovered.marks);
        let step = deciding.marks.trusted_utc_ms().and_then(|trusted| deciding.timeline.lock().resume(now, trusted));
        match step {
            Some(_) => deciding.engine.hold_ends(),
            // Nobody reloads yet.
            None => {
                configuration.redate_confirmation(now);
            }
        }
        let config = configuration.running.get();
        let mut plan = config.plan(deciding.timelines(now));
        // Whatever ended meanwhile ends for the engine when its sessions are back, and the journal hears it (J6).
        let ended = plan.tenants.iter_mut().filter(|tenant| tenant.entitled.standing == Standing::Ended);
        ended.for_each(|tenant| tenant.entitled.standing = Standing::Suspended);
        deciding.engine.install(now, plan, &mut ());
        let lost = restore(deciding, now, &recovered, u64::from(config.settings.nodes.tombstone_s) * 1_000);
        let sessions = recovered.sessions.len();
        tell_recovered(deciding, &recovered, lost, &self.state_dir);
        let forgotten = configuration.keeper.raise(recovered.marks.iter().map(|(key, serial)| (key.as_str(), *serial)));
        if !forgotten.is_empty() {
            tracing::error!(
                ?forgotten,
                "the files of the sync are older than the journal: somebody put old ones back; what is older than these serials is refused"
            );
        }
        let commits = Arc::clone(&deciding.commits);
        let hooks = Hooks {
            clock_ns: monotonic_ns,
            committed: Box::new(move |nanos| commits.observe(nanos)),
            patience_ns: match &self.joining {
                None => DISK_PATIENCE_NS,
                Some(_) => u64::from(config.settings.nodes.deadline_ms) * 1_000_000,
            },
        };
        let durability = config.settings.journal.durability;
        let journal = Arc::clone(&self.journal);
        let committer = match self.on_one_thread {
            true => Committer::inline(journal, self.epoch, durability, hooks),
            false => Committer::new(journal, self.epoch, durability, hooks)?,
        };
        let _ = deciding.committer.set(Arc::clone(&committer));
        take_up(app, now, &config);
        certificates::show(&serving.listeners, &publishing.metrics);
        publishing.metrics.reloaded(ReloadTrigger::Start, ReloadResult::Applied);
        let text = format!("started: {sessions} sessions recovered");
        let audit = Audit { text: &text, ..Audit::new(AuditKind::System) };
        committer.writer().record(now.utc_ms, |group| group.audit(&audit)).1.commit_detached();
        Ok(Recovery { committer, now, step })
    }

    fn watch_files(&self, config: &config::Config) -> Option<config::Watch> {
        let reloads = self.app.configuration.reloads.clone();
        let changed = move |_| {
            // A full queue holds reloads enough that read the same files.
            let _ = reloads.try_send(by_watch());
        };
        match config::Watch::start(config.main(), config.contents.hash_on_disk(), config::SETTLE, changed) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "the configuration files are not watched; reload by verb, signal or HTTP");
                None
            }
        }
    }
}

impl Loop {
    async fn run(&mut self, reloads: &mut mpsc::Receiver<Request>, signals: &mut Option<Signals>) {
        let mut stopped = self.stop.subscribe();
        let mut watchdog = notify::watchdog_interval().map(tokio::time::interval);
        loop {
            let rest = self.rest();
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => return,
                Some(request) = reloads.recv(), if self.reloading.is_none() => self.begin_reload(request),
                done = Reloading::done(&mut self.reloading) => self.reloaded(done),
                asked = Signals::next(signals) => match asked {
                    Asked::Stop => {
                        self.app.serving.set_draining();
                        self.stop.send_replace(true);
                    }
                    // A full queue holds reloads enough that read the same files.
                    Asked::Reload => _ = self.app.configuration.reloads.try_send(by_signal()),
                },
                () = notify::due(&mut watchdog) => self.prove_alive(),
                () = tokio::time::sleep(rest) => {}
            }
            self.tick();
        }
    }

    /// Time until something is due.
    fn rest(&self) -> Duration {
        let now = self.app.deciding.clock.now();
        let due = self.app.deciding.engine.next_deadline().map(|due| due.max(self.due.reap_from));
        let until = due.map_or(u64::MAX, |due| due.saturating_sub(now.uptime_ms));
        let until = until.min(self.due.second_at.saturating_sub(now.uptime_ms)).max(1);
        let booked = self.schedule.try_lock().and_then(|schedule| schedule.next_utc_ms());
        let until = booked.map_or(until, |at| until.min(at.saturating_sub(now.utc_ms).max(1) as u64));
        Duration::from_millis(until).min(REAPER_REST)
    }

    /// Everything that is due.
    fn tick(&mut self) {
        let now = self.app.deciding.clock.now();
        self.reap(now);
        self.keep_to_schedule(now);
        if self.due.second_at <= now.uptime_ms {
            self.due.second_at = now.uptime_ms + 1_000;
            self.look(now);
            // One that is in progress may let them go already; were it to hang, the queue would be full of them.
            if self.reloading.is_none() && self.app.configuration.running.is_removal_due(now.uptime_ms) {
                // A full queue holds a reload that lets them go.
                let _ = self.app.configuration.reloads.try_send(by_watch());
            }
            self.committer.watch(DISK_PATIENCE_MS);
            self.committer.check();
            if self.due.learned_at <= now.uptime_ms {
                self.app.deciding.forget_damage();
            }
            if self.upkeep.tell_degraded(&self.app.deciding, &self.app.publishing.events, now) {
                let _ = notify::status(&self.status());
            }
            self.silence.look(&self.app.deciding.engine, &self.app.publishing.events, now);
            let (utc_ms, is_trusted) = (self.app.deciding.trusted_utc_ms(now), self.app.deciding.is_clock_trusted(now));
            self.app.serving.node_addresses.look(self.app.serving.edge.gate(), utc_ms, is_trusted);
            self.upkeep.look_after(&self.app.deciding, &self.app.configuration, &self.committer, now);
        }
        if self.due.sweep_at <= now.uptime_ms {
            self.due.sweep_at = now.uptime_ms + 60_000;
            self.tell_suppressed(now);
        }
    }

    /// Puts bookings into force, also while files are read: they may hang. It waits only while the configuration is
    /// swapped, which is a moment.
    fn keep_to_schedule(&mut self, now: Now) {
        let Some(mut schedule) = self.schedule.try_lock() else { return };
        schedule.tick(now);
        if schedule.take_plans_changed() {
            install(&self.app, now, &self.app.configuration.running.get());
        }
        if schedule.take_trusted_again() {
            // What a wrong clock had refused is good now, and no file tells.
            let _ =
                self.app.configuration.reloads.try_send(unasked(ReloadTrigger::Schedule, Removals::Delayed, "clock"));
        }
    }

    /// Ends what is due (G6, E2, E3, J6).
    fn reap(&mut self, now: Now) {
        let rested_ms = now.uptime_ms.saturating_sub(self.due.looked_at);
        self.due.looked_at = now.uptime_ms;
        if self.as_process && rested_ms > STALL_MS {
            let lease_s = self.app.configuration.running.get().settings.nodes.lease_s;
            tracing::warn!(
                rested_ms,
                lease_s,
                "the process was stopped: nodes have one lease to be heard before anything ends"
            );
            self.due.reap_from = now.uptime_ms + u64::from(lease_s) * 1_000;
        }
        if self.due.reap_from > now.uptime_ms
            || self.app.deciding.engine.next_deadline().is_none_or(|due| due > now.uptime_ms)
        {
            return;
        }
        let awake = self.app.publishing.events.is_awake(now.uptime_ms);
        let mut events = Vec::new();
        // Much may be due at once: other runtimes do not wait for the end of it.
        let mut pieces = self.writer.pieces(now.utc_ms);
        let mut recorder = Recorder::new(&mut pieces, &self.counts, awake.then_some(&mut events), now.utc_ms);
        self.app.deciding.engine.expire(now, &mut recorder);
        pieces.ticket().commit_detached();
        events.into_iter().for_each(|event| self.app.publishing.events.publish(event));
    }

    /// Reads the files on a thread that decides nothing. Until it has ended no other reload begins.
    fn begin_reload(&mut self, request: Request) {
        self.reloading = Some(Reloading::begin(&self.app, &self.schedule, self.app.deciding.clock.now(), request));
    }

    fn reloaded(&self, reloaded: Reloaded) {
        if reloaded.signalled {
            let _ = notify::ready(&self.status());
        }
        reloaded.reply();
    }

    fn tell_suppressed(&self, now: Now) {
        let suppressed = self.app.deciding.sampler.sweep(now.uptime_ms);
        for left_out in suppressed {
            let audit = Audit {
                tenant: &left_out.tenant,
                code: Some(left_out.code),
                count: left_out.count,
                ..Audit::new(AuditKind::Suppressed)
            };
            self.writer.record(now.utc_ms, |group| group.audit(&audit)).1.commit_detached();
        }
    }

    /// Shows the table to whoever counts over time; every five minutes of the clock windows of peaks begin anew.
    fn look(&self, now: Now) {
        let App { deciding, publishing, configuration, .. } = &self.app;
        let (held, peaks) = publishing.history.look(&deciding.engine, now, deciding.trusted_utc_ms(now));
        publishing.metrics.see_held(now, held);
        if let Some(peaks) = peaks {
            let zone = configuration.running.get().settings.time_zone.0;
            publishing.today.note(deciding.date(now, zone), &peaks);
        }
    }

    /// The watchdog's ping comes from a request to ourselves, through listener, table and journal.
    fn prove_alive(&self) {
        let Some(listener) = self
            .app
            .serving
            .listeners
            .iter()
            .find(|listener| listener.is_plain_http && selfcheck::can_ask(&listener.address))
        else {
            let _ = notify::alive();
            return;
        };
        let address = listener.address.clone();
        tokio::task::spawn_local(async move {
            match selfcheck::ask(&address).await {
                Ok(()) => _ = notify::alive(),
                Err(error) => tracing::error!(%error, address, "the daemon does not answer itself"),
            }
        });
    }

    fn status(&self) -> String {
        let tenants = self.app.configuration.running.get().tenants.len();
        let degraded =
            self.app.deciding.degraded().map_or(String::new(), |why| format!("; durability degraded: {why}"));
        format!("{tenants} tenants, {} sessions{degraded}", self.app.deciding.engine.session_total())
    }

    /// Drains: answers in progress are finished by the listeners; what is decided is committed.
    async fn end(mut self) {
        let _ = notify::stopping("draining");
        tracing::info!("draining");
        let drain =
            Duration::from_millis(self.app.configuration.running.get().settings.server.drain_deadline_ms.into());
        let ended = async {
            self.upkeep.end().await;
            if self.reloading.is_some() {
                let done = Reloading::done(&mut self.reloading).await;
                self.reloaded(done);
            }
        };
        // A disk that hangs does not keep the answers in progress from being finished.
        let hangs = tokio::time::timeout(drain, ended).await.is_err();
        let patience = if hangs { HUNG_DISK_PATIENCE.min(drain) } else { drain };
        let now = self.app.deciding.clock.now();
        self.keep_to_schedule(now);
        if let Some(schedule) = self.schedule.try_lock() {
            schedule.trust(now);
        }
        let audit = Audit { text: "stopped", ..Audit::new(AuditKind::System) };
        let stopped = self.writer.record(now.utc_ms, |group| group.audit(&audit)).1;
        let hangs = tokio::time::timeout(patience, stopped).await.is_err();
        let patience = if hangs { HUNG_DISK_PATIENCE.min(drain) } else { patience };
        let drained = async {
            while self.app.serving.listeners.iter().any(|listener| listener.stats.open() > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(drain, drained).await;
        self.leave(patience).await;
        let (app, committer) = (self.app.clone(), Arc::clone(&self.committer));
        let closed = tokio::task::spawn_blocking(move || {
            // What was decided first: what only makes the next start better may wait for a folder that hangs.
            committer.close();
            let now = app.deciding.clock.now();
            app.publishing.history.end(&app.deciding.engine, now, app.deciding.trusted_utc_ms(now));
            app.serving.node_addresses.end(
                app.serving.edge.gate(),
                app.deciding.trusted_utc_ms(now),
                app.deciding.is_clock_trusted(now),
            );
        });
        if tokio::time::timeout(patience, closed).await.is_err() {
            self.app.serving.set_unfinished();
            tracing::error!(
                "the daemon ends without its disk, which hangs: what was decided since, and is in no ring, may be forgotten"
            );
        }
    }
}

impl Loop {
    /// Lets others have the shards of this daemon; a store without an answer is not waited for.
    async fn leave(&mut self, patience: Duration) {
        let Some(mut member) = self.member.take() else { return };
        let journal = Arc::clone(member.journal());
        let left = tokio::task::spawn_blocking(move || member.leave());
        if tokio::time::timeout(patience, left).await.is_err() {
            tracing::error!("the store of the cluster has no answer: the others find out that this member is gone");
        }
        journal.stop();
    }
}

fn by_signal() -> Request {
    unasked(ReloadTrigger::Signal, Removals::DelayedInUse, "SIGHUP")
}

fn by_watch() -> Request {
    unasked(ReloadTrigger::Watch, Removals::Delayed, "file watch")
}

/// A reload of which nobody waits for the outcome.
fn unasked(trigger: ReloadTrigger, removals: Removals, actor: &str) -> Request {
    let actor = actor.to_owned();
    Request { trigger, force: false, removals, dry_run: false, actor, note: None, reply: None, sync: None }
}

//! The one way in which a running daemon takes up a configuration: by verb, signal, HTTP or file watch.

use std::path::Path;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use usherd_engine::Now;

use super::announce::announce;
use super::certificates::{self, folder};
use super::schedule::Schedule;
use super::take_up::{install_confirmed, take_up};
use crate::daemon::app::reload_request::{Applied, Outcome, Request, SyncStep};
use crate::daemon::app::{App, Deciding};
use crate::daemon::clock::Clock;
use crate::daemon::config::{self, Attempt, Config, Problem, Rejection, Reload, Running};
use crate::daemon::sync::keeper::{DiskAndRecords, Keeper, Pulled};
use crate::daemon::text::utc;

/// Reads, compares and takes up; runs on a thread that decides nothing. It is read as of an instant, and taken up as of
/// the one at which it is read: that may be much later, where a file system hangs.
pub(super) fn reload(app: &App, schedule: &Mutex<Schedule>, now: Now, request: &Request) -> Outcome {
    let held = |tenant: &str| app.deciding.engine.tenant(now, tenant).map(|view| view.held);
    // By the time that is trusted: a wrong clock makes no good file bad.
    let trusted = utc(Now { utc_ms: app.deciding.trusted_utc_ms(now), ..now });
    let attempt = Attempt { now: trusted, uptime_ms: now.uptime_ms, force: request.force, removals: request.removals };
    if request.dry_run {
        let plan = app.configuration.running.plan(&app.configuration.keeper.files(), &attempt, held)?;
        let certificates = certificates::look(&plan.config.settings, folder(&plan.config), utc(now));
        return Ok(Applied { certificates, ..applied(plan) });
    }
    let pulled = match &request.sync {
        Some(SyncStep::Confirm { etag }) => return Ok(confirm(app, schedule, now, etag.as_deref())),
        Some(SyncStep::Take(pulled)) => Some(pulled),
        None => None,
    };
    let at = app.deciding.confirmation(now).at;
    let files =
        pulled.map_or_else(|| app.configuration.keeper.files(), |pulled| DiskAndRecords::with(&pulled.bundle, at));
    let remember = || pulled.map_or(Ok(()), |pulled| remember(&app.deciding, &app.configuration.keeper, now, pulled));
    let known = app.configuration.running.get().warnings.clone();
    let mut swap = Swap::new(&*app.deciding.clock, schedule);
    let done = app.configuration.running.reload_kept(&files, &attempt, held, remember, |reload: &Reload| {
        let now = swap.begin();
        take_up(app, now, &reload.config);
    });
    swap.end();
    if let Ok(reload) = &done
        && !reload.unchanged
    {
        keep(&app.configuration.running, now, &reload.config);
    }
    let mut outcome = done.map(applied);
    if let Ok(applied) = &mut outcome
        && pulled.is_none()
    {
        let config = app.configuration.running.get();
        applied.certificates = certificates::renew(&config, &app.serving.listeners, &app.publishing.metrics, now);
    }
    if pulled.is_some() && outcome.as_ref().is_ok_and(|applied| applied.unchanged) {
        // The same records under a new serial: what is in force is confirmed by it.
        put_confirmed(app, schedule, at);
    }
    announce(app, now, request, &outcome, &known);
    outcome
}

fn applied(reload: Reload) -> Applied {
    let Reload { config, diff, unchanged, is_news, .. } = reload;
    Applied {
        hash: config.hash.clone(),
        diff,
        unchanged,
        is_news,
        warnings: config.warnings.clone(),
        rejected: config.rejected.clone(),
        away: config.away.iter().map(|path| path.display().to_string()).collect(),
        certificates: Vec::new(),
    }
}

/// Stores a bundle before it is in force; its serial goes into the journal too, which outlives a lost file.
fn remember(deciding: &Deciding, keeper: &Keeper, now: Now, pulled: &Pulled) -> Result<(), Rejection> {
    let mark = |key: &str, serial: u64| {
        if let Some(writer) = deciding.writer() {
            drop(writer.record(now.utc_ms, |group| group.mark(key, serial)).1);
        }
    };
    keeper.keep(pulled, deciding.confirmation(now), mark).map_err(|why| {
        let help = "make room in the state directory, and let this user write it";
        Rejection::NotKept { problems: vec![Problem::of_file("sync", why).help(help)] }
    })
}

/// The publisher stands by what is held: nothing is read anew, only what is stale comes back (J7).
fn confirm(app: &App, schedule: &Mutex<Schedule>, now: Now, etag: Option<&str>) -> Applied {
    let config = app.configuration.running.get();
    let confirmation = app.deciding.confirmation(now);
    app.configuration.keeper.confirm(confirmation, &config.settings.sync.url, etag);
    put_confirmed(app, schedule, confirmation.at);
    Applied {
        hash: config.hash.clone(),
        diff: config::Diff::default(),
        unchanged: true,
        is_news: false,
        warnings: Vec::new(),
        rejected: config.rejected.clone(),
        away: Vec::new(),
        certificates: Vec::new(),
    }
}

/// The moment in which one configuration takes the place of another. Up to it time does what is booked, by the
/// one before; from its end on by the new one; in between nobody does. So nothing is told twice, or by nobody, and what
/// waits for a disk is outside of it.
struct Swap<'a> {
    clock: &'a dyn Clock,
    schedule: &'a Mutex<Schedule>,
    held: Option<MutexGuard<'a, Schedule>>,
}

impl<'a> Swap<'a> {
    fn new(clock: &'a dyn Clock, schedule: &'a Mutex<Schedule>) -> Self {
        Swap { clock, schedule, held: None }
    }

    /// Does what is due by now; from here on the schedule waits. The instant as of which all is put in force.
    fn begin(&mut self) -> Now {
        let schedule = self.held.insert(self.schedule.lock());
        let now = self.clock.now();
        schedule.tick(now);
        now
    }

    /// The new configuration is in force: the schedule goes on by it.
    fn end(self) {
        if let Some(mut schedule) = self.held {
            schedule.refresh(self.clock.now());
        }
    }
}

/// Puts it in force that the publisher confirmed at an instant all that was pulled.
fn put_confirmed(app: &App, schedule: &Mutex<Schedule>, at: DateTime<Utc>) {
    let mut swap = Swap::new(&*app.deciding.clock, schedule);
    app.configuration.running.confirm(at, |before, config| {
        let now = swap.begin();
        install_confirmed(app, now, before, config);
    });
    swap.end();
}

/// Keeps it for a start that finds bad files (I21), and who is on trial or paid.
fn keep(running: &Running, now: Now, config: &Config) {
    let state = config.state_dir(std::env::var("STATE_DIRECTORY").ok().as_deref());
    if let Err(error) = config::store(&state, config) {
        tracing::warn!(folder = %state.display(), %error, "the last good configuration cannot be kept; a bad file at the next start will stop it");
    }
    note_accounts(running, now, &state, config);
}

/// Remembers who is on trial or paid (J3).
pub(super) fn note_accounts(running: &Running, now: Now, state: &Path, config: &Config) {
    if let Err(error) = running.note_accounts(state, config, utc(now)) {
        tracing::warn!(folder = %state.display(), %error, "who is on trial or paid cannot be kept; after a restart a second trial may go unseen");
    }
}

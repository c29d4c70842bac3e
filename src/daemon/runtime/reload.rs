//! A reload from its request to its outcome: by verb, signal, HTTP, file watch or sync.
//!
//! The files become a candidate, the candidate is taken up, and the outcome is announced; each step has a file.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use usherd_engine::{Engine, Now};

use super::announce::announce;
use super::certificates::{self, folder};
use super::schedule::Schedule;
use super::take_up::{install_confirmed, take_up};
use crate::daemon::app::reload_request::{Applied, Outcome, Request, SyncStep};
use crate::daemon::app::{App, Configuration, Deciding};
use crate::daemon::clock::Clock;
use crate::daemon::config::{self, Attempt, Candidate, Config, Files, Problem, Rejection, Running};
use crate::daemon::sync::keeper::{DiskAndRecords, Keeper, Pulled};
use crate::daemon::text::utc;

/// Reads, compares, takes up and announces; runs on a thread that decides nothing. It is read as of an instant, and
/// taken up as of the one at which it is read: that may be much later, where a file system hangs.
pub(super) fn reload(app: &App, schedule: &Mutex<Schedule>, now: Now, request: &Request) -> Outcome {
    let attempt = attempt(&app.deciding, now, request);
    if request.dry_run {
        return planned(&app.deciding, &app.configuration, now, &attempt);
    }
    let known = app.configuration.running.get().warnings.clone();
    let outcome = match &request.sync {
        None => take_files(app, schedule, now, &attempt),
        Some(SyncStep::Take(pulled)) => take_pulled(app, schedule, now, &attempt, pulled),
        Some(SyncStep::Confirm { etag }) => return Ok(confirm(app, schedule, now, etag.as_deref())),
    };
    announce(app, now, request, &outcome, &known);
    outcome
}

/// By the time that is trusted: a wrong clock makes no good file bad.
fn attempt(deciding: &Deciding, now: Now, request: &Request) -> Attempt {
    let trusted = utc(Now { utc_ms: deciding.trusted_utc_ms(now), ..now });
    Attempt { now: trusted, uptime_ms: now.uptime_ms, force: request.force, removals: request.removals }
}

/// Only what the files would change.
fn planned(deciding: &Deciding, configuration: &Configuration, now: Now, attempt: &Attempt) -> Outcome {
    let files = configuration.keeper.files();
    let candidate = configuration.running.candidate(&files, attempt, occupancy(&deciding.engine, now))?;
    let config = Arc::clone(&candidate.config);
    let certificates = certificates::look(&config.settings, folder(&config), utc(now));
    Ok(Applied { certificates, ..applied(candidate, &config) })
}

/// The files as they are, with the records that are held of the publisher, and the certificates of the listeners.
fn take_files(app: &App, schedule: &Mutex<Schedule>, now: Now, attempt: &Attempt) -> Outcome {
    let applied = replace(app, schedule, now, attempt, &app.configuration.keeper.files(), None)?;
    let config = app.configuration.running.get();
    let certificates = certificates::renew(&config, &app.serving.listeners, &app.publishing.metrics, now);
    Ok(Applied { certificates, ..applied })
}

/// The files as they are, with the records that the publisher brought.
fn take_pulled(app: &App, schedule: &Mutex<Schedule>, now: Now, attempt: &Attempt, pulled: &Pulled) -> Outcome {
    let at = app.deciding.confirmation(now).at;
    let files = DiskAndRecords::with(&pulled.bundle, at);
    let applied = replace(app, schedule, now, attempt, &files, Some(pulled))?;
    if applied.unchanged {
        // The same records under a new serial: what is in force is confirmed by it.
        put_confirmed(app, schedule, at);
    }
    Ok(applied)
}

/// One configuration takes the place of another, as a whole or not at all.
fn replace(
    app: &App,
    schedule: &Mutex<Schedule>,
    now: Now,
    attempt: &Attempt,
    files: &dyn Files,
    pulled: Option<&Pulled>,
) -> Outcome {
    let App { deciding, configuration, .. } = app;
    let running = &configuration.running;
    let lock = running.lock();
    let good = running.candidate(files, attempt, occupancy(&deciding.engine, now));
    let good = good.and_then(|candidate| match pulled {
        Some(pulled) => remember(deciding, &configuration.keeper, now, pulled).map(|()| candidate),
        None => Ok(candidate),
    });
    let candidate = match good {
        Ok(candidate) => candidate,
        Err(rejection) => {
            lock.reject(attempt);
            return Err(rejection);
        }
    };
    if candidate.unchanged {
        let config = lock.put_in_force(&candidate, attempt);
        return Ok(applied(candidate, &config));
    }
    let (mut schedule, taken_up_at) = hold(schedule, &*deciding.clock);
    take_up(app, taken_up_at, &candidate.config);
    let config = lock.put_in_force(&candidate, attempt);
    schedule.refresh(deciding.clock.now());
    drop(schedule);
    keep(running, now, &config);
    Ok(applied(candidate, &config))
}

/// The seats held by a tenant. The one question that the configuration asks back: about the tenants that the files change, of
/// the table as it is once the files are read, which may take long.
fn occupancy(engine: &Engine, now: Now) -> impl Fn(&str) -> Option<u32> {
    move |tenant| engine.tenant(now, tenant).map(|view| view.held)
}

/// Begins the moment in which one configuration takes the place of another. Up to it time does what is booked, by the
/// one before; once the guard is dropped by the new one; in between nobody does. So nothing is told twice, or by nobody,
/// and what waits for a disk is outside of it. The instant is that as of which all is put in force.
fn hold<'a>(schedule: &'a Mutex<Schedule>, clock: &dyn Clock) -> (MutexGuard<'a, Schedule>, Now) {
    let mut schedule = schedule.lock();
    let now = clock.now();
    schedule.tick(now);
    (schedule, now)
}

/// A candidate, with the configuration that is in force, or would be.
fn applied(candidate: Candidate, config: &Config) -> Applied {
    let Candidate { diff, unchanged, is_news, .. } = candidate;
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
            writer.record(now.utc_ms, |group| group.mark(key, serial)).1.commit_detached();
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

/// Puts it in force that the publisher confirmed at an instant all that was pulled: no file is read (J7).
fn put_confirmed(app: &App, schedule: &Mutex<Schedule>, at: DateTime<Utc>) {
    let running = &app.configuration.running;
    let lock = running.lock();
    let before = running.get();
    let confirmed = Arc::new(before.confirmed(at));
    let (mut schedule, now) = hold(schedule, &*app.deciding.clock);
    install_confirmed(app, now, &before, &confirmed);
    lock.put_confirmed(confirmed);
    schedule.refresh(app.deciding.clock.now());
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

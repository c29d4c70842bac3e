//! The running configuration, and the one way in which it becomes another: parse, validate, diff, swap.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use usherd_engine::session::Name;

use super::accounts::Accounts;
use super::before::Before;
use super::carry::carry;
use super::diff::{Diff, diff};
use super::guards::{Shrink, in_use, openings, shrink_beside};
use super::load::{Config, load_after};
use super::problem::{Problem, render};
use super::source::{Files, Overlay};
use super::tenant::Tenant;
use super::words::ProblemCode;

/// The running configuration. Reading it never waits; changing it is one at a time.
#[derive(Debug)]
pub struct Running {
    current: ArcSwap<Config>,
    main: PathBuf,
    turn: Mutex<()>,
    accounts: Mutex<Accounts>,
    /// Files that are away, or take tenants away, and since when, uptime milliseconds.
    waiting: Mutex<BTreeMap<PathBuf, u64>>,
}

/// How a reload is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The present instant, by the calendar.
    pub now: DateTime<Utc>,
    /// The monotonic clock, milliseconds.
    pub uptime_ms: u64,
    /// Also where the guards of the rule book (11) would stop it, or a second trial is granted.
    pub force: bool,
    /// When tenants go whose files are away.
    pub removals: Removals,
}

/// When tenants go whose files are away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removals {
    /// At once: somebody asked for it. Where seats are held it needs force.
    AtOnce,
    /// At once, but after `removal_delay_s` where seats are held: somebody asked who cannot be asked back.
    DelayedInUse,
    /// After `removal_delay_s`: nobody asked.
    Delayed,
}

impl Attempt {
    /// As somebody asks for it.
    pub fn asked(now: DateTime<Utc>, force: bool) -> Self {
        Attempt { now, uptime_ms: 0, force, removals: Removals::AtOnce }
    }
}

/// The result of a reload that was not rejected.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The configuration in force from now on (or that would be, of a dry run).
    pub config: Arc<Config>,
    /// Against what was in force before.
    pub diff: Diff,
    /// True if nothing that is in force is another.
    pub unchanged: bool,
    /// True if other tenant files are bad or away than before, or otherwise.
    pub is_news: bool,
}

/// Why a reload changed nothing (I20).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "rejected", rename_all = "snake_case")]
pub enum Rejection {
    /// The files are bad.
    Invalid {
        /// Every reason, never empty.
        problems: Vec<Problem>,
    },
    /// They are good, but too much would go at once.
    Shrinks {
        /// How much.
        shrink: Shrink,
        /// The place of the configuration, with the same sentence, and what else needs force.
        problems: Vec<Problem>,
    },
    /// They are good, but do what is done by force only.
    NeedsForce {
        /// The problems, never empty.
        problems: Vec<Problem>,
    },
    /// It is good, but what must be remembered of it could not be stored.
    NotKept {
        /// The problems of the file.
        problems: Vec<Problem>,
    },
}

impl Rejection {
    /// Every reason with file and line; never empty.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Rejection::Invalid { problems }
            | Rejection::Shrinks { problems, .. }
            | Rejection::NeedsForce { problems }
            | Rejection::NotKept { problems } => problems,
        }
    }

    /// True if force would carry it through.
    pub fn is_forceable(&self) -> bool {
        matches!(self, Rejection::Shrinks { .. } | Rejection::NeedsForce { .. })
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&render(self.problems(), false))
    }
}

impl Running {
    /// Starts with a configuration; later ones are read from the same place. Remembers nobody's trials yet.
    pub fn new(config: Config) -> Self {
        let main = config.main().to_owned();
        Running {
            current: ArcSwap::from_pointee(config),
            main,
            turn: Mutex::new(()),
            accounts: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Counts files that are away at the start as away from this instant of the monotonic clock on, milliseconds.
    pub fn away_since(&self, uptime_ms: u64) {
        self.waiting.lock().extend(self.get().away.iter().map(|path| (path.clone(), uptime_ms)));
    }

    /// True if something was away for longer than `removal_delay_s` and a reload would let its tenants go.
    pub fn is_removal_due(&self, uptime_ms: u64) -> bool {
        let delay_ms = self.delay_ms();
        self.waiting.lock().values().any(|since| uptime_ms.saturating_sub(*since) >= delay_ms)
    }

    fn delay_ms(&self) -> u64 {
        u64::from(self.get().settings.removal_delay.0) * 1_000
    }

    /// Starts from what was ever contracted (J3).
    pub fn remember(&self, accounts: Accounts) {
        *self.accounts.lock() = accounts;
    }

    /// Remembers what a configuration that was accepted contracts, in this state directory.
    ///
    /// # Errors
    /// It cannot be written; it is remembered all the same as long as the daemon runs.
    pub fn note_accounts(&self, state: &Path, config: &Config, now: DateTime<Utc>) -> std::io::Result<()> {
        self.accounts.lock().note(state, config, now)
    }

    /// The configuration in force.
    pub fn get(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// Plans a reload: reads and compares, changes nothing. `occupancy` as in [`diff`].
    ///
    /// # Errors
    /// Why it would be rejected.
    pub fn plan(
        &self,
        files: &dyn Files,
        attempt: &Attempt,
        occupancy: impl Fn(&str) -> Option<u32>,
    ) -> Result<Reload, Rejection> {
        let old = self.get();
        let found = self.read(files, attempt, &old, &occupancy)?;
        let unchanged = found.new.hash == old.hash;
        let diff = if unchanged { Diff::default() } else { diff(&old, &found.new, attempt.now, occupancy) };
        if !attempt.force {
            guard(&old, &found, &diff, attempt)?;
        }
        let new = found.new;
        let is_news = new.rejected != old.rejected || new.away != old.away;
        Ok(Reload { config: Arc::new(new), diff, unchanged, is_news })
    }

    /// Reads the files, with the records of those that are bad or away for a moment as they are in force.
    fn read(
        &self,
        files: &dyn Files,
        attempt: &Attempt,
        old: &Config,
        occupancy: &impl Fn(&str) -> Option<u32>,
    ) -> Result<Found, Rejection> {
        let since = self.waiting.lock().clone();
        let delay_ms = self.delay_ms();
        let stays = |path: &Path, id: &str| {
            let since = since.get(path).copied().unwrap_or(attempt.uptime_ms);
            let is_young = attempt.uptime_ms.saturating_sub(since) < delay_ms;
            match attempt.removals {
                Removals::AtOnce => false,
                Removals::DelayedInUse => is_young && occupancy(id).is_some_and(|held| held > 0),
                Removals::Delayed => is_young,
            }
        };
        let is_inline = |tenant: &Tenant| Path::new(&tenant.source) == self.main;
        let synced = || old.tenants.values().filter(|tenant| tenant.is_synced());
        let accounts = self.accounts.lock();
        let before = Before {
            contents: &old.contents,
            elsewhere: &|id| old.tenants.get(id).is_some_and(|tenant| tenant.is_synced() || is_inline(tenant)),
            stays: &stays,
            pulled_at: synced().filter_map(|tenant| tenant.record.synced_at).max(),
            objection: &|tenant| if attempt.force { None } else { accounts.second_trial(tenant) },
        };
        let invalid = |problems| Rejection::Invalid { problems };
        let new = load_after(files, &self.main, attempt.now, &before).map_err(invalid)?;
        // By the file itself: what is carried over would hide what it opens.
        let opened = openings(old, &new);
        // A file that is cut is good and says less: the tenants that stand in it go as those of files that are away.
        let is_gone = |id: &str| !new.tenants.contains_key(id) && stays(&self.main, id);
        let gone = old.tenants.iter().filter(|(id, tenant)| (tenant.is_synced() || is_inline(tenant)) && is_gone(id));
        let gone: BTreeSet<Name> = gone.map(|(id, _)| id.clone()).collect();
        let texts = [old, &new].map(|config| config.contents.files.get(&self.main).cloned().unwrap_or_default());
        if gone.is_empty() || texts[0] == texts[1] {
            return Ok(Found { leaving: leaving(&new), new, opened });
        }
        let with_sync = synced().any(|tenant| gone.contains(&tenant.id));
        let load = |text: &[u8]| {
            let files = Overlay { files, path: &self.main, text };
            load_after(&files, &self.main, attempt.now, &before)
        };
        let carried = carry(&texts[0], &texts[1], |id| gone.contains(id), with_sync);
        // Where they do not fit into the new text, nothing of it is taken while they stay.
        let carried = carried.and_then(|text| load(&text).ok()).map_or_else(|| load(&texts[0]), Ok);
        let mut new = carried.map_err(invalid)?;
        new.away.push(self.main.clone());
        let leaving = leaving(&new).into_iter().chain(gone).collect();
        Ok(Found { new, opened, leaving })
    }

    /// Reads, compares, and puts in force: `install` gets the new configuration just before it becomes the
    /// one that [`Running::get`] gives, and is not called where nothing in force is another. Reloads wait for each
    /// other here.
    ///
    /// # Errors
    /// Why it was rejected; what was in force then still is.
    pub fn reload(
        &self,
        files: &dyn Files,
        attempt: &Attempt,
        occupancy: impl Fn(&str) -> Option<u32>,
        install: impl FnOnce(&Reload),
    ) -> Result<Reload, Rejection> {
        self.reload_kept(files, attempt, occupancy, || Ok(()), install)
    }

    /// As [`Running::reload`], where something must be remembered once the configuration is known to be good,
    /// and before any of it is in force: `keep` stores it, or nothing changes. It is called also where nothing in
    /// force is another.
    ///
    /// # Errors
    /// As [`Running::reload`], or what `keep` says.
    pub fn reload_kept(
        &self,
        files: &dyn Files,
        attempt: &Attempt,
        occupancy: impl Fn(&str) -> Option<u32>,
        keep: impl FnOnce() -> Result<(), Rejection>,
        install: impl FnOnce(&Reload),
    ) -> Result<Reload, Rejection> {
        let _turn = self.turn.lock();
        let planned = self.plan(files, attempt, occupancy).and_then(|reload| keep().map(|()| reload));
        self.wait_for(planned.as_ref().ok().map(|reload| reload.config.away.as_slice()), attempt.uptime_ms);
        let mut reload = planned?;
        if !reload.unchanged {
            install(&reload);
        }
        let same_warnings = reload.config.warnings == self.get().warnings;
        if !reload.unchanged || reload.is_news || !same_warnings {
            self.current.store(Arc::clone(&reload.config));
        }
        reload.config = self.get();
        Ok(reload)
    }

    /// Remembers since when something is away. After a rejection what is overdue is forgotten, or it would be tried
    /// again at once, and for ever.
    fn wait_for(&self, paths: Option<&[PathBuf]>, uptime_ms: u64) {
        let delay_ms = self.delay_ms();
        let mut waiting = self.waiting.lock();
        match paths {
            None => waiting.retain(|_, since| uptime_ms.saturating_sub(*since) < delay_ms),
            Some(paths) => {
                let since = |path: &PathBuf| waiting.get(path).copied().unwrap_or(uptime_ms);
                *waiting = paths.iter().map(|path| (path.clone(), since(path))).collect();
            }
        }
    }

    /// The publisher has confirmed at an instant all that was pulled: no file is read, and `install` gets what
    /// is in force from then on, with what was before (J7).
    pub fn confirm(&self, at: DateTime<Utc>, install: impl FnOnce(&Config, &Config)) {
        let _turn = self.turn.lock();
        let before = self.get();
        let confirmed = Arc::new(before.confirmed(at));
        install(&before, &confirmed);
        self.current.store(confirmed);
    }

    /// The same without an installation and without waiting; `false` where a reload is under way, which may wait for a
    /// disk.
    pub fn try_confirm(&self, at: DateTime<Utc>) -> bool {
        let Some(_turn) = self.turn.try_lock() else { return false };
        self.current.store(Arc::new(self.get().confirmed(at)));
        true
    }
}

/// The files as they were read.
struct Found {
    new: Config,
    /// Openings in the text of `usherd.toml`, which need force.
    opened: Vec<Problem>,
    /// Tenants that stay for a while only: what they stood in is away.
    leaving: BTreeSet<Name>,
}

/// The tenants whose files are away.
fn leaving(new: &Config) -> BTreeSet<Name> {
    new.away.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.into())).collect()
}

/// Refuses changes that need force.
fn guard(old: &Config, found: &Found, diff: &Diff, attempt: &Attempt) -> Result<(), Rejection> {
    let mut problems = found.opened.clone();
    if attempt.removals == Removals::AtOnce {
        problems.extend(in_use(old, diff));
    }
    // A folder that empties slowly falls due file by file: with the first of them all that wait count as lost.
    let nobody = BTreeSet::new();
    let leaving = if diff.removed.is_empty() { &nobody } else { &found.leaving };
    let shrink = shrink_beside(old, &found.new, leaving, attempt.now);
    if let Some(shrink) = &shrink {
        let problem = Problem::of_file(old.main().display().to_string(), shrink.message.clone());
        problems.insert(0, problem.code(ProblemCode::Shrinks).help("`usherd plan --force` shows what would go"));
    }
    match shrink {
        Some(shrink) => Err(Rejection::Shrinks { shrink, problems }),
        None if problems.is_empty() => Ok(()),
        None => Err(Rejection::NeedsForce { problems }),
    }
}

//! The running configuration, and the one way in which it becomes another: parse, validate, diff, swap.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::Serialize;

use super::accounts::Accounts;
use super::diff::{Diff, Shrink, diff, shrink};
use super::load::{Config, load_from};
use super::problem::{Problem, render};
use super::source::Files;
use super::words::ProblemCode;

/// The running configuration. Reading it never waits; changing it is one at a time.
#[derive(Debug)]
pub struct Running {
    current: ArcSwap<Config>,
    main: PathBuf,
    turn: Mutex<()>,
    accounts: Mutex<Accounts>,
}

/// What came of a reload that was not rejected.
#[derive(Clone, Debug)]
pub struct Reload {
    /// What is in force from now on (or would be, of a dry run).
    pub config: Arc<Config>,
    /// Against what was in force before.
    pub diff: Diff,
    /// Whether any byte of the files is another.
    pub unchanged: bool,
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
        /// The place of the configuration, with the same sentence.
        problems: Vec<Problem>,
    },
    /// It is good, but what must be remembered of it could not be stored.
    NotKept {
        /// What could not, and why.
        problems: Vec<Problem>,
    },
}

impl Rejection {
    /// Every reason with file and line; never empty.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Rejection::Invalid { problems } | Rejection::Shrinks { problems, .. } | Rejection::NotKept { problems } => {
                problems
            }
        }
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
        Running { current: ArcSwap::from_pointee(config), main, turn: Mutex::new(()), accounts: Mutex::default() }
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

    /// What is in force.
    pub fn get(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// What a reload would do: reads and compares, changes nothing. `occupancy` as in [`diff`].
    ///
    /// # Errors
    /// Why it would be rejected.
    pub fn plan(
        &self,
        files: &dyn Files,
        now: DateTime<Utc>,
        force: bool,
        occupancy: impl Fn(&str) -> Option<u32>,
    ) -> Result<Reload, Rejection> {
        let old = self.get();
        let new = load_from(files, &self.main, now).map_err(|problems| Rejection::Invalid { problems })?;
        let again = if force { Vec::new() } else { self.accounts.lock().second_trials(&new) };
        if !again.is_empty() {
            return Err(Rejection::Invalid { problems: again });
        }
        if !force && let Some(shrink) = shrink(&old, &new, now) {
            let file = self.main.display().to_string();
            let problem = Problem::of_file(file, shrink.message.clone()).code(ProblemCode::Shrinks);
            let problem = problem.help("`usherd plan` shows what would go");
            return Err(Rejection::Shrinks { shrink, problems: vec![problem] });
        }
        let unchanged = new.hash == old.hash;
        let diff = if unchanged { Diff::default() } else { diff(&old, &new, now, occupancy) };
        Ok(Reload { config: Arc::new(new), diff, unchanged })
    }

    /// Reads, compares, and puts in force: `install` gets the new configuration just before it becomes the
    /// one that [`Running::get`] gives, and is not called where not a byte has changed. Reloads wait for each
    /// other here.
    ///
    /// # Errors
    /// Why it was rejected; what was in force then still is.
    pub fn reload(
        &self,
        files: &dyn Files,
        now: DateTime<Utc>,
        force: bool,
        occupancy: impl Fn(&str) -> Option<u32>,
        install: impl FnOnce(&Reload),
    ) -> Result<Reload, Rejection> {
        self.reload_kept(files, now, force, occupancy, || Ok(()), install)
    }

    /// As [`Running::reload`], where something must be remembered once the configuration is known to be good,
    /// and before any of it is in force: `keep` stores it, or nothing changes. It is called also where not a
    /// byte has changed.
    ///
    /// # Errors
    /// As [`Running::reload`], or what `keep` says.
    pub fn reload_kept(
        &self,
        files: &dyn Files,
        now: DateTime<Utc>,
        force: bool,
        occupancy: impl Fn(&str) -> Option<u32>,
        keep: impl FnOnce() -> Result<(), Rejection>,
        install: impl FnOnce(&Reload),
    ) -> Result<Reload, Rejection> {
        let _turn = self.turn.lock();
        let mut reload = self.plan(files, now, force, occupancy)?;
        keep()?;
        if reload.unchanged {
            reload.config = self.get();
        } else {
            install(&reload);
            self.current.store(Arc::clone(&reload.config));
        }
        Ok(reload)
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
}

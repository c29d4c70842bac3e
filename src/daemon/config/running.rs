//! The running configuration, and the one way in which it becomes another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};

use super::accounts::Accounts;
use super::candidate::{Candidate, InForce};
use super::load::Config;
use super::reload::{Attempt, Rejection};
use super::source::Files;

/// The running configuration. Reading it never waits; changing it is one at a time.
#[derive(Debug)]
pub struct Running {
    current: ArcSwap<Config>,
    main: PathBuf,
    lock: Mutex<()>,
    accounts: Mutex<Accounts>,
    /// Files that are away, or take tenants away, and since when, uptime milliseconds.
    waiting: Mutex<BTreeMap<PathBuf, u64>>,
}

/// The right to put another configuration in force; there is one at a time.
pub struct ReloadLock<'a> {
    running: &'a Running,
    _alone: MutexGuard<'a, ()>,
}

impl Running {
    /// Starts with a configuration; later ones are read from the same place. Remembers nobody's trials yet.
    pub fn new(config: Config) -> Self {
        let main = config.main().to_owned();
        Running {
            current: ArcSwap::from_pointee(config),
            main,
            lock: Mutex::new(()),
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
        let delay_ms = self.get().settings.removal_delay.ms();
        self.waiting.lock().values().any(|since| uptime_ms.saturating_sub(*since) >= delay_ms)
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

    /// The configuration that a reload would put in force: reads and compares, changes nothing. `occupancy` as in
    /// [`diff`](super::diff()), asked once the files are read.
    ///
    /// # Errors
    /// Why it would be rejected.
    pub fn candidate(
        &self,
        files: &dyn Files,
        attempt: &Attempt,
        occupancy: impl Fn(&str) -> Option<u32>,
    ) -> Result<Candidate, Rejection> {
        let config = self.get();
        let away_since = self.waiting.lock().clone();
        let accounts = self.accounts.lock();
        let in_force = InForce { config: &config, main: &self.main, accounts: &accounts, away_since: &away_since };
        in_force.candidate(files, attempt, occupancy)
    }

    /// Waits until nobody else puts a configuration in force.
    pub fn lock(&self) -> ReloadLock<'_> {
        ReloadLock { running: self, _alone: self.lock.lock() }
    }

    /// As [`Running::lock`] without waiting; `None` where a reload is under way, which may wait for a disk.
    pub fn try_lock(&self) -> Option<ReloadLock<'_>> {
        Some(ReloadLock { running: self, _alone: self.lock.try_lock()? })
    }
}

impl ReloadLock<'_> {
    /// Makes a candidate what [`Running::get`] gives, and answers what that is: what was before, where nothing in it
    /// is another. Remembers since when something is away.
    pub fn put_in_force(self, candidate: &Candidate, attempt: &Attempt) -> Arc<Config> {
        let Running { current, waiting, .. } = self.running;
        let mut waiting = waiting.lock();
        let since = |path: &PathBuf| waiting.get(path).copied().unwrap_or(attempt.uptime_ms);
        *waiting = candidate.config.away.iter().map(|path| (path.clone(), since(path))).collect();
        let same_warnings = candidate.config.warnings == self.running.get().warnings;
        if !candidate.unchanged || candidate.is_news || !same_warnings {
            current.store(Arc::clone(&candidate.config));
        }
        self.running.get()
    }

    /// Leaves in force what is, after a rejection. What is overdue is forgotten, or it would be tried again at once, and
    /// for ever.
    pub fn reject(self, attempt: &Attempt) {
        let delay_ms = self.running.get().settings.removal_delay.ms();
        self.running.waiting.lock().retain(|_, since| attempt.uptime_ms.saturating_sub(*since) < delay_ms);
    }

    /// The same configuration with the instant at which the publisher confirmed all that was pulled (J7).
    pub fn put_confirmed(self, confirmed: Arc<Config>) {
        self.running.current.store(confirmed);
    }
}

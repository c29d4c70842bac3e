//! The part of a daemon that is configured: what is in force, and where it came from.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use usherd_engine::Now;

use super::reload_request::Request;
use crate::answers::config::{self as answers, ReloadState};
use crate::daemon::access::auth::Authenticator;
use crate::daemon::config::{Effective, Problem, Running};
use crate::daemon::sync::keeper::Keeper;
use crate::daemon::sync::status::Status as SyncStatus;
use crate::daemon::text::rfc3339;

/// The configuration of a daemon: in force, where it came from, and where it becomes another.
pub struct Configuration {
    /// The configuration in force, and the one way in which it becomes another.
    pub running: Running,
    /// The rights of everybody who asks.
    pub auth: Arc<ArcSwap<Authenticator>>,
    /// Where reloads are asked for.
    pub reloads: mpsc::Sender<Request>,
    /// The records that are held of their publisher.
    pub keeper: Keeper,
    /// The outcome of pulling them.
    pub sync_status: SyncStatus,
    /// The origin of the configuration in force.
    pub state: Mutex<ConfigState>,
}

/// The origin of the configuration in force.
#[derive(Debug, Default)]
pub struct ConfigState {
    /// When it was taken up, milliseconds since 1970 UTC.
    pub loaded_utc_ms: i64,
    /// True if the last attempt succeeded.
    pub successful: bool,
    /// The problems of the last attempt, until one succeeds.
    pub problems: Vec<Problem>,
    /// It comes from the last good copy, because the files were bad at the start.
    pub from_last_good: bool,
    /// Certificates of listeners that could not be used by the last attempt: those before are shown.
    pub certificates: Vec<Problem>,
    /// The settings that the daemon was started with.
    pub started: Vec<Effective>,
    /// Keys whose values were changed since, and take effect with the next start only.
    pub waits_for_restart: Vec<String>,
}

impl Configuration {
    /// Begins with what a start found.
    pub fn new(
        running: Running,
        auth: Authenticator,
        reloads: mpsc::Sender<Request>,
        keeper: Keeper,
        state: ConfigState,
    ) -> Self {
        Configuration {
            running,
            auth: Arc::new(ArcSwap::from_pointee(auth)),
            reloads,
            keeper,
            sync_status: SyncStatus::default(),
            state: Mutex::new(state),
        }
    }

    /// The clock is trusted from now on: what synced records were confirmed at is put right, and not in force yet.
    /// `false` where a reload is under way: then it is to be tried again.
    pub(crate) fn redate_confirmation(&self, now: Now) -> bool {
        self.keeper.redate(now);
        let Some(at) = self.keeper.confirmed_at() else { return true };
        let Some(lock) = self.running.try_lock() else { return false };
        lock.put_confirmed(Arc::new(self.running.get().confirmed(at)));
        true
    }

    /// Its state, as `/v1/admin/config` and the overview show it.
    pub fn show(&self) -> answers::ConfigState {
        let state = self.state.lock();
        let config = self.running.get();
        answers::ConfigState {
            hash: config.hash.clone(),
            loaded_at: rfc3339(state.loaded_utc_ms).into(),
            outcome: ReloadState { last_reload_successful: state.successful },
            last_error: state.problems.first().map(|problem| problem.message.clone()),
            from_last_good: state.from_last_good,
            waits_for_restart: state.waits_for_restart.clone(),
            tenants_rejected: config.rejected.len(),
            tenants_away: config.away.len(),
            certificates_unusable: state.certificates.len(),
        }
    }
}

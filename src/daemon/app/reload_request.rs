//! The queue of reloads: requests and outcomes.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::daemon::config::{Diff, Problem, RejectedFile, Rejection, Removals};
use crate::daemon::metrics::ReloadTrigger;
use crate::daemon::sync::keeper::Pulled;

/// Reloads that may wait; one more is refused.
pub const QUEUE_MAX: usize = 16;

/// Somebody wants the files read again.
#[derive(Debug)]
pub struct Request {
    /// The reason.
    pub trigger: ReloadTrigger,
    /// Also where a guard would stop it (rule book 11).
    pub force: bool,
    /// The time at which tenants go whose files are away.
    pub removals: Removals,
    /// Only tell what it would do.
    pub dry_run: bool,
    /// The name of who asks, for the audit trail.
    pub actor: String,
    /// The purpose, for the audit trail.
    pub note: Option<String>,
    /// The way back for the outcome, where it is waited for.
    pub reply: Option<oneshot::Sender<Outcome>>,
    /// The step of the sync; `None`: only the files are another.
    pub sync: Option<SyncStep>,
}

/// A step of the sync.
#[derive(Debug)]
pub enum SyncStep {
    /// A bundle, to take the place of the one that is held.
    Take(Arc<Pulled>),
    /// That the one that is held still holds: no file is read for it.
    Confirm {
        /// The tag to ask with for news only, where it was said anew.
        etag: Option<String>,
    },
}

/// The outcome of a reload.
pub type Outcome = Result<Applied, Rejection>;

/// A reload that was not rejected.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The differences, made or planned.
    pub diff: Diff,
    /// True if nothing in force changed.
    pub unchanged: bool,
    /// True if other tenant files are bad or away than before.
    pub is_news: bool,
    /// Of the configuration in force, or that would be.
    pub hash: String,
    /// The warnings about that configuration, which is taken nevertheless.
    pub warnings: Vec<Problem>,
    /// Tenant files that are not taken.
    pub rejected: Vec<RejectedFile>,
    /// Files that are away, or drop tenants, and what was in force of them stays for now.
    pub away: Vec<String>,
    /// Certificates of listeners that cannot be used: those that are shown stay.
    pub certificates: Vec<Problem>,
}

//! The queue of reloads: what is asked for, and what came of it.

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
    /// Why.
    pub trigger: ReloadTrigger,
    /// Also where a guard would stop it (rule book 11).
    pub force: bool,
    /// When tenants go whose files are away.
    pub removals: Removals,
    /// Only tell what it would do.
    pub dry_run: bool,
    /// Who, for the audit trail.
    pub actor: String,
    /// What it is for, for the audit trail.
    pub note: Option<String>,
    /// Where the outcome is waited for.
    pub reply: Option<oneshot::Sender<Outcome>>,
    /// What the publisher brought; `None`: only the files are another.
    pub sync: Option<SyncStep>,
}

/// What the publisher brought.
#[derive(Debug)]
pub enum SyncStep {
    /// A bundle, to take the place of the one that is held.
    Take(Arc<Pulled>),
    /// That the one that is held still holds: no file is read for it.
    Confirm {
        /// What to ask with for news only, where it was said anew.
        etag: Option<String>,
    },
}

/// What came of a reload.
pub type Outcome = Result<Applied, Rejection>;

/// A reload that was not rejected.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What changed, or would.
    pub diff: Diff,
    /// Whether nothing that is in force is another.
    pub unchanged: bool,
    /// Whether other tenant files are bad or away than before.
    pub is_news: bool,
    /// Of the configuration in force, or that would be.
    pub hash: String,
    /// What is odd in that configuration and taken nevertheless.
    pub warnings: Vec<Problem>,
    /// Tenant files that are not taken.
    pub rejected: Vec<RejectedFile>,
    /// Files that are away, or drop tenants, and what was in force of them stays for now.
    pub away: Vec<String>,
    /// Certificates of listeners that cannot be used: those that are shown stay.
    pub certificates: Vec<Problem>,
}

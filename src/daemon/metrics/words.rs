//! The closed vocabularies of label values that are not the engine's own.

use usherd_contract::vocabulary;

pub use crate::answers::words::{Band, SyncResult, WebhookResult};

vocabulary! {
    /// The trigger of a load of the configuration.
    ReloadTrigger {
        /// The start of the daemon.
        Start = "start",
        /// SIGHUP.
        Signal = "signal",
        /// `POST /v1/admin/reload`.
        Http = "http",
        /// A file changed.
        Watch = "watch",
        /// A synced record came.
        Sync = "sync",
        /// A booked change took effect.
        Schedule = "schedule",
    }
}

vocabulary! {
    /// The result of it.
    ReloadResult {
        /// It is in force.
        Applied = "applied",
        /// Nothing was different.
        Unchanged = "unchanged",
        /// It had errors; the last good one stays in force.
        Rejected = "rejected",
    }
}

vocabulary! {
    /// The kind of a booked change.
    ChangeKind {
        /// More seats.
        Increase = "increase",
        /// Fewer seats.
        Reduction = "reduction",
        /// None from then on.
        Cancellation = "cancellation",
    }
}

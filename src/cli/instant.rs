//! Instants of the command line: the present one, and those that stand in for it.

use chrono::{DateTime, Utc};

use crate::daemon::clock::{Clock, SystemClock};

/// The present instant, for verbs without `--at`.
pub(super) fn wall_clock() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(SystemClock::start().now().utc_ms).unwrap_or_default()
}

/// Reads RFC 3339, for arguments.
///
/// # Errors
/// A sentence that says what is wrong with it, and how it is written.
pub(super) fn rfc3339(text: &str) -> Result<DateTime<Utc>, String> {
    let at = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    at.map_err(|error| format!("{error}; write an instant with its zone, as in 2026-06-16T14:00:00+02:00"))
}

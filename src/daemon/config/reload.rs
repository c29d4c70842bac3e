//! How a reload is asked for, and why it may change nothing.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::guards::Shrink;
use super::problem::{Problem, render};

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

//! How the last tries went: for the overview, and to tell a change from the same again.

use parking_lot::Mutex;
use usherd_engine::Now;
use usherd_subscription::entitlement::Timelines;

use super::keeper::Keeper;
use crate::answers::overview::SyncState;
use crate::daemon::config::Config;
use crate::daemon::metrics::SyncResult;
use crate::daemon::text::rfc3339;

/// Longest message that is shown, characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// How a try went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In one word.
    pub result: SyncResult,
    /// Why it was refused, as one word; empty where it was not.
    pub code: &'static str,
    /// The event, for people.
    pub message: String,
}

impl Outcome {
    /// One without a code.
    pub fn new(result: SyncResult, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Outcome { result, code: "", message: message.chars().take(MESSAGE_CHARS_MAX).collect() }
    }

    /// True if the publisher was heard and agrees.
    pub fn is_success(&self) -> bool {
        matches!(self.result, SyncResult::Applied | SyncResult::Unchanged)
    }

    /// True if people are to be told: not for the same word with the same reason and no new configuration.
    fn is_news_after(&self, before: Option<&Outcome>) -> bool {
        let same = before.is_some_and(|before| (before.result, before.code) == (self.result, self.code));
        let calm = before.is_some_and(Outcome::is_success) && self.result == SyncResult::Unchanged;
        self.result == SyncResult::Applied || !(same || calm)
    }
}

/// How the last tries went.
#[derive(Debug, Default)]
pub struct Status(Mutex<Tries>);

#[derive(Clone, Debug, Default)]
struct Tries {
    last: Option<Outcome>,
    attempt_utc_ms: i64,
    success_utc_ms: i64,
    next_utc_ms: i64,
}

impl Status {
    /// A try is over; `true`: it went otherwise than the one before.
    pub fn note(&self, now: Now, outcome: &Outcome) -> bool {
        let mut tries = self.0.lock();
        let news = outcome.is_news_after(tries.last.as_ref());
        tries.attempt_utc_ms = now.utc_ms;
        if outcome.is_success() {
            tries.success_utc_ms = now.utc_ms;
        }
        tries.last = Some(outcome.clone());
        news
    }

    /// When the next try is, milliseconds since 1970 UTC.
    pub fn next_at(&self, utc_ms: i64) {
        self.0.lock().next_utc_ms = utc_ms;
    }

    /// For `/v1/overview` and `usherd status`; `None` where nothing is pulled.
    pub fn show(&self, config: &Config, keeper: &Keeper, at: Timelines) -> Option<SyncState> {
        if !config.settings.sync.is_on() {
            return None;
        }
        let tries = self.0.lock().clone();
        let holding = keeper.holding();
        let held = holding.as_ref();
        // While nobody trusts the clock no confirmation runs out.
        let now_ms = at.trusted.unwrap_or(at.wall).timestamp_millis();
        let at = |utc_ms: i64| (utc_ms != 0).then(|| rfc3339(utc_ms).into());
        let stale_ms = i64::from(config.settings.rules.policy.stale_after_days) * 86_400_000;
        let last = tries.last;
        Some(SyncState {
            result: last.as_ref().map(|last| last.result.into()),
            code: last.as_ref().filter(|last| !last.code.is_empty()).map(|last| last.code.to_owned()),
            message: last.map(|last| last.message),
            last_attempt_at: at(tries.attempt_utc_ms),
            last_success_at: at(tries.success_utc_ms),
            next_attempt_at: at(tries.next_utc_ms),
            key: held.map(|held| held.bundle.key.clone()),
            serial: held.map(|held| held.bundle.serial),
            records: held.map_or(0, |held| held.bundle.records.len()),
            expires_at: held.map(|held| rfc3339(held.bundle.expires.timestamp_millis()).into()),
            confirmed_at: held.map(|held| rfc3339(held.confirmed_utc_ms).into()),
            stale: held.is_some_and(|held| stale_ms > 0 && held.confirmed_utc_ms + stale_ms <= now_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_of_changes_and_not_each_minute() {
        let status = Status::default();
        let now = Now { uptime_ms: 1, utc_ms: 1 };
        let refused = |code| Outcome { code, ..Outcome::new(SyncResult::Refused, "no") };
        for (at, outcome, news) in [
            (0, Outcome::new(SyncResult::Applied, ""), true),
            (1, Outcome::new(SyncResult::Unchanged, ""), false),
            (2, Outcome::new(SyncResult::Failed, "refused connection"), true),
            (3, Outcome::new(SyncResult::Failed, "time is over"), false),
            (4, refused("expired"), true),
            (5, refused("expired"), false),
            (6, refused("replayed"), true),
            (7, Outcome::new(SyncResult::Unchanged, ""), true),
            (8, Outcome::new(SyncResult::Unchanged, ""), false),
            (9, Outcome::new(SyncResult::Applied, ""), true),
            (10, Outcome::new(SyncResult::Applied, ""), true),
        ] {
            assert_eq!(status.note(now, &outcome), news, "{at}: {outcome:?}");
        }
    }
}

//! Keeps a storm of one kind of thing from becoming a storm of messages: the first is told, the rest is counted.

use std::collections::{HashMap, HashSet};

use usherd_engine::{Name, Now};

use super::event::{Notice, Topic};
use crate::daemon::text::rfc3339;

/// For how long things are counted into one message, milliseconds.
const WINDOW_MS: u64 = 60_000;
/// Tenants that are told apart in the count of a storm.
const TENANTS_MAX: usize = 10_000;

/// The counts of one receiver. It holds no more windows than two minutes have messages.
#[derive(Debug, Default)]
pub(super) struct Storm {
    /// True if the later ones of one tenant are counted from the first on, however few they are.
    by_tenant: bool,
    windows: HashMap<Name, Window>,
    rest: Option<Rest>,
    minute_from_ms: u64,
    spent: u32,
}

/// One tenant's, since it was told last.
#[derive(Debug)]
struct Window {
    until_ms: u64,
    since_utc_ms: i64,
    count: u64,
    /// The message that was sent first: the rest is like it.
    like: Notice,
}

/// The messages beyond those of a minute, of whichever tenants.
#[derive(Debug)]
struct Rest {
    until_ms: u64,
    since_utc_ms: i64,
    count: u64,
    tenants: HashSet<Name>,
    about: Notice,
}

impl Storm {
    /// Counts what comes of one tenant into one message a minute.
    pub(super) fn by_tenant() -> Self {
        Storm { by_tenant: true, ..Storm::default() }
    }

    /// Tells each, as long as there are not too many.
    pub(super) fn each() -> Self {
        Storm::default()
    }

    /// One more; what is to be told at once. It is made only then: in a storm there is hardly more than counting.
    pub(super) fn admit(
        &mut self,
        now: Now,
        per_minute_max: u32,
        about: Topic,
        tenant: &Name,
        make: impl FnOnce() -> Notice,
    ) -> Option<Notice> {
        if let Some(window) = self.windows.get_mut(tenant) {
            window.count += 1;
            return None;
        }
        if !self.spend(now, per_minute_max) {
            self.count_rest(now, 1, about, tenant);
            return None;
        }
        let notice = make();
        if self.by_tenant {
            self.open(now, notice.clone());
        }
        Some(notice.with("count", 1))
    }

    /// The summaries of windows that were counted long enough.
    pub(super) fn due(&mut self, now: Now, per_minute_max: u32) -> Vec<Notice> {
        let mut told = Vec::new();
        let over: Vec<Name> = self
            .windows
            .iter()
            .filter(|(_, window)| window.until_ms <= now.uptime_ms)
            .map(|(tenant, _)| tenant.clone())
            .collect();
        for tenant in over {
            let Some(window) = self.windows.remove(&tenant).filter(|window| window.count > 0) else { continue };
            if self.spend(now, per_minute_max) {
                self.open(now, window.like.clone());
                told.push(window.told(now.utc_ms));
            } else {
                self.count_rest(now, window.count, window.like.about, &tenant);
            }
        }
        if self.rest.as_ref().is_some_and(|rest| rest.until_ms <= now.uptime_ms) {
            told.extend(self.rest.take().map(Rest::told));
        }
        told
    }

    /// The summaries that are left at the end.
    pub(super) fn flush(&mut self, now: Now) -> Vec<Notice> {
        let windows = std::mem::take(&mut self.windows).into_values();
        let counted = windows.filter(|window| window.count > 0).map(|window| window.told(now.utc_ms));
        counted.chain(self.rest.take().map(Rest::told)).collect()
    }

    fn open(&mut self, now: Now, like: Notice) {
        let until_ms = now.uptime_ms + WINDOW_MS;
        self.windows.insert(like.tenant.clone(), Window { until_ms, since_utc_ms: now.utc_ms, count: 0, like });
    }

    fn spend(&mut self, now: Now, per_minute_max: u32) -> bool {
        if now.uptime_ms >= self.minute_from_ms + WINDOW_MS {
            (self.minute_from_ms, self.spent) = (now.uptime_ms, 0);
        }
        let may = self.spent < per_minute_max;
        self.spent += u32::from(may);
        may
    }

    fn count_rest(&mut self, now: Now, count: u64, about: Topic, tenant: &Name) {
        let rest = self.rest.get_or_insert_with(|| Rest {
            until_ms: now.uptime_ms + WINDOW_MS,
            since_utc_ms: now.utc_ms,
            count: 0,
            tenants: HashSet::new(),
            about: Notice::new(about, &Name::default(), now.utc_ms),
        });
        rest.count += count;
        if rest.tenants.len() < TENANTS_MAX && !rest.tenants.contains(tenant) {
            rest.tenants.insert(tenant.clone());
        }
    }
}

impl Window {
    fn told(self, utc_ms: i64) -> Notice {
        let told = Notice { utc_ms, ..self.like };
        told.with("count", self.count).with("since", rfc3339(self.since_utc_ms))
    }
}

impl Rest {
    fn told(self) -> Notice {
        let text = "there were more than denied_per_minute_max; these were only counted";
        let told = self.about.with("count", self.count).with("tenants", self.tenants.len());
        told.with("since", rfc3339(self.since_utc_ms)).with("message", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::HookType;

    fn at(seconds: u64) -> Now {
        Now { uptime_ms: 1_000_000 + seconds * 1_000, utc_ms: (seconds * 1_000) as i64 }
    }

    fn admit(storm: &mut Storm, per_minute_max: u32, tenant: &str, second: u64) -> Option<Notice> {
        let (about, tenant) = (Topic::Of(HookType::Denied), Name::from(tenant));
        storm.admit(at(second), per_minute_max, about, &tenant, || Notice::new(about, &tenant, at(second).utc_ms))
    }

    fn told(notices: impl IntoIterator<Item = Notice>) -> Vec<String> {
        let mut told: Vec<_> =
            notices.into_iter().map(|notice| format!("{} {}", notice.tenant, notice.data["count"])).collect();
        told.sort();
        told
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_of_its_minute_as_one() {
        let mut storm = Storm::by_tenant();
        assert_eq!(told(admit(&mut storm, 9, "a", 0)), ["a 1"]);
        for second in 1..=50 {
            assert_eq!(admit(&mut storm, 9, "a", second), None);
        }
        assert_eq!(told(admit(&mut storm, 9, "b", 50)), ["b 1"]);
        assert!(storm.due(at(59), 9).is_empty());
        let due = storm.due(at(60), 9);
        assert_eq!(due[0].data["since"], "1970-01-01T00:00:00Z");
        assert_eq!(told(due), ["a 50"]);
        assert!(storm.due(at(119), 9).is_empty() && storm.due(at(120), 9).is_empty());
        assert_eq!(told(admit(&mut storm, 9, "a", 121)), ["a 1"], "after a quiet minute it is news again");
    }

    #[test]
    fn a_storm_of_any_size_is_a_few_messages_that_add_up() {
        for mut storm in [Storm::by_tenant(), Storm::each()] {
            let (mut messages, mut sum) = (0, 0);
            let mut take = |notices: Vec<Notice>| {
                messages += notices.len();
                sum += notices.iter().map(|notice| notice.data["count"].as_u64().unwrap()).sum::<u64>();
            };
            for n in 0..100_000 {
                let second = n / 1_000;
                take(admit(&mut storm, 10, &format!("t{}", n % 3_000), second).into_iter().collect());
                take(storm.due(at(second), 10));
                assert!(storm.windows.len() <= 20);
            }
            take(storm.flush(at(100)));
            assert_eq!(sum, 100_000);
            assert!(messages <= 3 * 11 + 10, "{messages}");
        }
    }
}

//! The demand that the decisions report to the history: which level each request met, and who waits for a seat.
//!
//! A grant costs one short lock that only requests of the same 64th of the tenants share, and no look at a clock.

use foldhash::fast::FixedState;
use usherd_engine::Name;

use super::slot::Levels;
use crate::daemon::bounded::BoundedMap;

/// The milliseconds that a refused subject waits for a seat before the denial counts as a true one.
pub const WAITS_MS: u64 = 60_000;
/// People of one tenant who are known to wait; beyond it a denial counts as a true one at once.
pub const WAITING_MAX: usize = 1_024;
/// Tenants of whom something is told between two looks; nobody has so many, so what is beyond was made up by who asks.
const TENANTS_MAX: usize = 1 << 20;

/// The reports since the last look at one tenant.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TenantDemand {
    /// Requests by the level that each met.
    pub starts: Levels,
    /// Most people that waited at once on top of the seats held: seats held plus people waiting.
    pub demand: u32,
    /// People who wait now.
    pub waiting: u32,
    /// Whose wait ended without a seat.
    pub given_up: u64,
}

#[derive(Debug, Default)]
struct Feed {
    told: TenantDemand,
    /// Until when each waits, uptime milliseconds.
    waiting: hashbrown::HashMap<Name, u64, FixedState>,
}

/// The reports of the decisions since the last look.
#[derive(Debug)]
pub struct Demand {
    tenants: BoundedMap<Name, Feed>,
}

impl Default for Demand {
    fn default() -> Self {
        Demand { tenants: BoundedMap::new(TENANTS_MAX) }
    }
}

impl Demand {
    /// Somebody was given a seat; `held` counts it.
    pub fn granted(&self, tenant: &str, subject: &str, held: u32) {
        self.with(tenant, |feed| {
            if !feed.waiting.is_empty() {
                feed.waiting.remove(subject);
            }
            feed.start(held + feed.waiting.len() as u32);
        });
    }

    /// Somebody was refused a seat while so many were held. Trying again within the minute is the same wish.
    pub fn denied(&self, tenant: &str, subject: &str, held: u32, uptime_ms: u64) {
        self.with(tenant, |feed| {
            let until = uptime_ms + WAITS_MS;
            if let Some(known) = feed.waiting.get_mut(subject) {
                *known = until;
                return;
            }
            let level = held + feed.waiting.len() as u32 + 1;
            feed.start(level);
            feed.told.demand = feed.told.demand.max(level);
            if feed.waiting.len() < WAITING_MAX {
                feed.waiting.insert(Name::from(subject), until);
            } else {
                feed.told.given_up += 1;
            }
        });
    }

    /// Sees what was told since the last look, tenant by tenant, and who has waited for too long.
    pub fn drain(&self, uptime_ms: u64, mut see: impl FnMut(&Name, TenantDemand)) {
        let mut seen = Vec::new();
        self.tenants.retain(|tenant, feed| {
            let before = feed.waiting.len();
            feed.waiting.retain(|_, until| *until > uptime_ms);
            // The room stays with the tenant: the next grant of a busy one allocates nothing.
            let told = TenantDemand {
                starts: feed.told.starts.clone(),
                demand: std::mem::take(&mut feed.told.demand),
                waiting: feed.waiting.len() as u32,
                given_up: std::mem::take(&mut feed.told.given_up) + (before - feed.waiting.len()) as u64,
            };
            feed.told.starts.clear();
            let is_busy = told != TenantDemand::default();
            if is_busy {
                seen.push((tenant.clone(), told));
            }
            is_busy
        });
        // All locks are given back before anybody looks.
        seen.into_iter().for_each(|(tenant, told)| see(&tenant, told));
    }

    fn with(&self, tenant: &str, act: impl FnOnce(&mut Feed)) {
        // A known name is not copied.
        if let Some(mut feed) = self.tenants.get_mut(tenant) {
            return act(&mut feed);
        }
        let _ = self.tenants.with(Name::from(tenant), Feed::default, act);
    }
}

impl Feed {
    fn start(&mut self, level: u32) {
        self.told.starts.add(level, 0, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(demand: &Demand, uptime_ms: u64) -> Vec<(String, TenantDemand)> {
        let mut all = Vec::new();
        demand.drain(uptime_ms, |tenant, told| all.push((tenant.to_string(), told)));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    #[test]
    fn a_level_is_the_seats_held_and_the_people_who_wait() {
        let demand = Demand::default();
        demand.granted("a", "anna", 16);
        demand.granted("a", "bert", 16);
        demand.denied("a", "carl", 16, 1_000);
        demand.denied("a", "dora", 16, 1_000);
        // Trying again is no further wish.
        demand.denied("a", "carl", 16, 2_000);
        let mut starts = Levels::default();
        [(16, 2), (17, 1), (18, 1)].into_iter().for_each(|(level, count)| starts.add(level, 0, count));
        assert_eq!(
            told(&demand, 3_000),
            [("a".to_owned(), TenantDemand { starts, demand: 18, waiting: 2, given_up: 0 })]
        );
    }

    #[test]
    fn who_gets_a_seat_within_the_minute_was_not_truly_denied() {
        let demand = Demand::default();
        demand.denied("a", "carl", 16, 0);
        demand.denied("a", "dora", 16, 0);
        demand.denied("a", "carl", 16, 30_000);
        demand.granted("a", "dora", 16);
        let given_up =
            |at| told(&demand, at).into_iter().map(|(_, told)| (told.waiting, told.given_up)).collect::<Vec<_>>();
        assert_eq!(given_up(60_000), [(1, 0)], "carl tried again half a minute ago");
        assert_eq!(given_up(90_000), [(0, 1)]);
        assert_eq!(given_up(90_001), [], "nothing is left of it");
    }

    #[test]
    fn a_tenant_that_fills_up_is_told_in_few_levels() {
        let demand = Demand::default();
        (1..=100_000).for_each(|held| demand.granted("a", "anna", held));
        let all = told(&demand, 1);
        // However many seats were taken one after the other since the last look, a grant finds its level soon.
        assert!(all[0].1.starts.len() < 1_500, "{}", all[0].1.starts.len());
        assert_eq!(all[0].1.starts.starts(), 100_000);
    }

    #[test]
    fn a_storm_of_refusals_is_bounded_and_none_is_lost() {
        let demand = Demand::default();
        for person in 0..WAITING_MAX as u64 + 5 {
            demand.denied("a", &person.to_string(), 0, 0);
        }
        let all = told(&demand, 1);
        assert_eq!((all[0].1.waiting, all[0].1.given_up), (WAITING_MAX as u32, 5));
        assert_eq!(told(&demand, WAITS_MS)[0].1.given_up, WAITING_MAX as u64);
    }
}

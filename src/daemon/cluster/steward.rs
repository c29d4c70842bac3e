//! The choice of owners: from what everybody sees, without asking anybody.

use std::collections::BTreeMap;

use crate::daemon::journal::Shard;
use crate::daemon::journal::etcd::Seen;

/// How patient a member is, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A shard without a heartbeat for so long is taken over.
    pub takeover_ms: u64,
    /// Between two heartbeats.
    pub heartbeat_ms: u64,
}

/// One reading of the store, all of one instant.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Of each shard its owner's name, and the revision that made it so.
    pub owners: Vec<Option<(String, u64)>>,
    /// Of each shard the revision of the last heartbeat; 0 where there was none.
    pub heartbeats: Vec<u64>,
    /// Of each shard the member that it was given up for.
    pub heirs: Vec<Option<String>>,
    /// Of each member the revision of its last sign of life, and true if it wants to own nothing.
    pub members: BTreeMap<String, (u64, bool)>,
}

/// Why a shard is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody owned it.
    Unowned,
    /// Its owner gave it up for this member.
    HandedOver,
    /// Its owner showed no sign of life.
    Silent,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 3] = [Reason::Unowned, Reason::HandedOver, Reason::Silent];

    /// The word for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Unowned => "unowned",
            Reason::HandedOver => "handed_over",
            Reason::Silent => "silent",
        }
    }
}

/// Something to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take this shard, if nothing changed since it was seen so.
    Take {
        /// Which.
        shard: Shard,
        /// Its owner, where there is one.
        seen: Option<Seen>,
        /// Why.
        reason: Reason,
    },
    /// Give this shard of one's own to another member.
    HandOver {
        /// Which.
        shard: Shard,
        /// To whom.
        to: String,
    },
}

/// A revision, and since when it has been the same, uptime milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Sign {
    revision: u64,
    since_ms: u64,
}

impl Sign {
    fn look(&mut self, revision: u64, now_ms: u64) {
        if self.revision != revision {
            *self = Sign { revision, since_ms: now_ms };
        }
    }

    const fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms)
    }
}

/// Judges what a member sees by its own clock alone: how long something has not changed before its eyes.
#[derive(Debug)]
pub struct Steward {
    me: String,
    timing: Timing,
    /// Of each shard the last heartbeat of its owner.
    heartbeats: Vec<Sign>,
    /// Of each shard since when nobody has owned it.
    unowned: Vec<Option<u64>>,
    members: BTreeMap<String, Sign>,
    /// When each member was first seen alive without a break.
    alive_since: BTreeMap<String, u64>,
    began_ms: u64,
    handed_over_ms: u64,
}

impl Steward {
    /// Nothing was seen yet.
    pub fn new(me: &str, shards: u32, timing: Timing, now_ms: u64) -> Self {
        let sign = Sign { revision: u64::MAX, since_ms: now_ms };
        Steward {
            me: me.to_owned(),
            timing,
            heartbeats: vec![sign; shards as usize],
            unowned: vec![None; shards as usize],
            members: BTreeMap::new(),
            alive_since: BTreeMap::new(),
            began_ms: now_ms,
            handed_over_ms: 0,
        }
    }

    /// True if a member showed a sign of life of late.
    pub fn is_alive(&self, member: &str) -> bool {
        self.alive_since.contains_key(member)
    }

    /// Takes note of what is seen, and says what to do.
    pub fn judge(&mut self, now_ms: u64, look: &Look) -> Vec<Step> {
        self.note(now_ms, look);
        let is_willing = |member: &&String| look.members.get(*member).is_some_and(|(_, is_leaving)| !is_leaving);
        let mut owned: BTreeMap<String, usize> =
            self.alive_since.keys().filter(is_willing).map(|member| (member.clone(), 0)).collect();
        let living = |owner: &Option<(String, u64)>| owner.as_ref().filter(|(name, _)| self.is_alive(name)).is_some();
        for (name, _) in look.owners.iter().flatten() {
            if let Some(count) = owned.get_mut(name) {
                *count += 1;
            }
        }
        let mut steps = Vec::new();
        let mut is_whole = true;
        for (at, owner) in look.owners.iter().enumerate() {
            let shard = Shard(at as u32);
            let (waited_ms, seen, reason) = match owner {
                None => (now_ms - self.unowned[at].unwrap_or(now_ms), None, Reason::Unowned),
                Some((_, created)) => {
                    let age_ms = self.heartbeats[at].age_ms(now_ms);
                    let Some(late_ms) = age_ms.checked_sub(self.timing.takeover_ms) else { continue };
                    let seen = Seen { owner: *created, heartbeat: look.heartbeats[at] };
                    (late_ms, Some(seen), Reason::Silent)
                }
            };
            is_whole = false;
            // Whoever has least is first; the others follow one by one, should it not do it.
            let mut line: Vec<(usize, String)> = owned.iter().map(|(name, count)| (*count, name.clone())).collect();
            line.sort();
            if let Some((_, first)) = line.first() {
                *owned.entry(first.clone()).or_default() += 1;
            }
            let heir = look.heirs[at].as_deref().filter(|heir| seen.is_none() && self.is_alive(heir));
            let place = match heir {
                Some(heir) if heir == self.me => Some(0),
                Some(_) => Some(line.len()),
                None => line.iter().position(|(_, name)| *name == self.me),
            };
            let Some(place) = place else { continue };
            // A member that just came lets others be seen first.
            let early_ms = (self.began_ms + 2 * self.timing.heartbeat_ms).saturating_sub(now_ms);
            let is_heir = heir == Some(self.me.as_str());
            if is_heir || (early_ms == 0 && waited_ms >= place as u64 * 2 * self.timing.heartbeat_ms) {
                let reason = if is_heir { Reason::HandedOver } else { reason };
                steps.push(Step::Take { shard, seen, reason });
            }
        }
        if is_whole && look.owners.iter().all(living) {
            steps.extend(self.balance(now_ms, look, &owned));
        }
        steps
    }

    fn note(&mut self, now_ms: u64, look: &Look) {
        for (name, (revision, _)) in &look.members {
            let sign = self.members.entry(name.clone()).or_insert(Sign { revision: *revision, since_ms: 0 });
            sign.look(*revision, now_ms);
            let is_alive = *name == self.me || (sign.since_ms > 0 && sign.age_ms(now_ms) < self.timing.takeover_ms);
            if is_alive {
                self.alive_since.entry(name.clone()).or_insert(now_ms);
            } else {
                self.alive_since.remove(name);
            }
        }
        self.members.retain(|name, _| look.members.contains_key(name));
        self.alive_since.retain(|name, _| look.members.contains_key(name));
        for (at, owner) in look.owners.iter().enumerate() {
            self.heartbeats[at].look(look.heartbeats[at], now_ms);
            self.unowned[at] = if owner.is_some() { None } else { self.unowned[at].or(Some(now_ms)) };
        }
    }

    /// One shard at a time goes from who has more to who has less, once everybody has been there for a while.
    fn balance(&mut self, now_ms: u64, look: &Look, owned: &BTreeMap<String, usize>) -> Option<Step> {
        let settled_ms = 2 * self.timing.takeover_ms;
        let is_settled = |name: &str| self.alive_since.get(name).is_some_and(|since| now_ms - since >= settled_ms);
        let mine: Vec<Shard> = look
            .owners
            .iter()
            .enumerate()
            .filter(|(_, owner)| owner.as_ref().is_some_and(|(name, _)| *name == self.me))
            .map(|(at, _)| Shard(at as u32))
            .collect();
        let is_leaving = look.members.get(&self.me).is_some_and(|(_, is_leaving)| *is_leaving);
        let others = owned.iter().filter(|(name, _)| **name != self.me && is_settled(name));
        let (to, count) = others.min_by_key(|(name, count)| (**count, (*name).clone()))?;
        let is_due = now_ms - self.handed_over_ms >= self.timing.heartbeat_ms;
        let has_more = is_leaving || mine.len() >= count + 2;
        let shard = *mine.first().filter(|_| is_due && has_more)?;
        self.handed_over_ms = now_ms;
        Some(Step::HandOver { shard, to: to.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { takeover_ms: 800, heartbeat_ms: 200 };

    /// A store and the clocks before it, with members that do as they are told.
    struct World {
        now_ms: u64,
        revision: u64,
        look: Look,
        stewards: BTreeMap<String, Steward>,
        silent: Vec<String>,
        takes: Vec<(String, Shard, Reason)>,
    }

    impl World {
        fn new(shards: u32) -> Self {
            let look = Look {
                owners: vec![None; shards as usize],
                heartbeats: vec![0; shards as usize],
                heirs: vec![None; shards as usize],
                members: BTreeMap::new(),
            };
            World {
                now_ms: 10_000,
                revision: 1,
                look,
                stewards: BTreeMap::new(),
                silent: Vec::new(),
                takes: Vec::new(),
            }
        }

        fn join(&mut self, name: &str) {
            let shards = self.look.owners.len() as u32;
            self.stewards.insert(name.to_owned(), Steward::new(name, shards, TIMING, self.now_ms));
        }

        fn run(&mut self, ms: u64) {
            for _ in 0..ms / 50 {
                self.now_ms += 50;
                let names: Vec<String> = self.stewards.keys().cloned().collect();
                for name in &names {
                    if self.silent.contains(name) {
                        continue;
                    }
                    self.beat(name);
                    let steps = self.stewards.get_mut(name).unwrap().judge(self.now_ms, &self.look);
                    for step in steps {
                        self.done(name, step);
                    }
                }
            }
        }

        fn beat(&mut self, name: &str) {
            self.revision += 1;
            let is_leaving = self.look.members.get(name).is_some_and(|(_, is_leaving)| *is_leaving);
            self.look.members.insert(name.to_owned(), (self.revision, is_leaving));
            for (at, owner) in self.look.owners.iter().enumerate() {
                if owner.as_ref().is_some_and(|(owner, _)| owner == name) {
                    self.look.heartbeats[at] = self.revision;
                }
            }
        }

        fn done(&mut self, name: &str, step: Step) {
            self.revision += 1;
            match step {
                Step::Take { shard, seen, reason } => {
                    let at = shard.0 as usize;
                    let is_same = match (&self.look.owners[at], seen) {
                        (None, None) => true,
                        (Some((_, created)), Some(seen)) => {
                            *created == seen.owner && self.look.heartbeats[at] == seen.heartbeat
                        }
                        _ => false,
                    };
                    if is_same {
                        self.look.owners[at] = Some((name.to_owned(), self.revision));
                        self.look.heartbeats[at] = self.revision;
                        self.takes.push((name.to_owned(), shard, reason));
                    }
                }
                Step::HandOver { shard, to } => {
                    self.look.owners[shard.0 as usize] = None;
                    self.look.heirs[shard.0 as usize] = Some(to);
                }
            }
        }

        fn counts(&self) -> Vec<usize> {
            let owned = |name: &String| self.look.owners.iter().flatten().filter(|(owner, _)| owner == name).count();
            self.stewards.keys().map(owned).collect()
        }
    }

    #[test]
    fn shards_spread_over_who_is_there_and_whoever_comes() {
        let mut world = World::new(16);
        world.join("a");
        world.run(2_000);
        assert_eq!(world.counts(), [16]);
        world.join("b");
        world.run(10_000);
        assert_eq!(world.counts(), [8, 8]);
        world.join("c");
        world.run(10_000);
        let counts = world.counts();
        assert!(counts.iter().all(|count| (5..=6).contains(count)), "{counts:?}");
        let before = world.takes.len();
        world.run(60_000);
        assert_eq!(world.takes.len(), before, "then nothing moves any more");
    }

    #[test]
    fn a_silent_owners_shards_are_shared_among_the_others() {
        let mut world = World::new(16);
        ["a", "b", "c"].into_iter().for_each(|name| world.join(name));
        world.run(20_000);
        world.takes.clear();
        let silent_at = world.now_ms;
        world.silent.push("b".to_owned());
        while world.counts()[1] > 0 {
            world.run(50);
        }
        let took_ms = world.now_ms - silent_at;
        assert!((800..=1_000).contains(&took_ms), "{took_ms} ms");
        assert!(world.takes.iter().all(|(_, _, reason)| *reason == Reason::Silent));
        assert_eq!(world.counts(), [8, 0, 8]);
        world.silent.clear();
        world.run(20_000);
        let counts = world.counts();
        assert!(counts.iter().all(|count| (5..=6).contains(count)), "{counts:?}: it is back");
    }

    #[test]
    fn a_member_that_leaves_owns_nothing_in_the_end() {
        let mut world = World::new(16);
        ["a", "b"].into_iter().for_each(|name| world.join(name));
        world.run(20_000);
        world.look.members.get_mut("a").unwrap().1 = true;
        world.run(20_000);
        assert_eq!(world.counts(), [0, 16]);
    }

    #[test]
    fn an_owner_that_lives_keeps_its_shards_whatever_the_others_see() {
        let mut world = World::new(4);
        world.join("a");
        world.run(3_000);
        // What another one sees is old, as by a store that hangs for it.
        let mut stale = world.look.clone();
        stale.members.insert("b".to_owned(), (1, false));
        let mut other = Steward::new("b", 4, TIMING, world.now_ms);
        let mut steps = Vec::new();
        for _ in 0..30 {
            world.run(100);
            steps.extend(other.judge(world.now_ms, &stale));
        }
        assert!(!steps.is_empty(), "it would take them");
        steps.into_iter().for_each(|step| world.done("b", step));
        assert!(world.look.owners.iter().flatten().all(|(owner, _)| owner == "a"), "and the store refuses it");
    }
}

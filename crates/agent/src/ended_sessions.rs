//! Sessions that a script ended while events of their channel still come: until it is gone they are not adopted again.
//!
//! A hang-up handler gives its session back before the events of the same hang-up come, and these still carry what
//! the dial plan wrote on the channel. Pure: time comes in with every call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use usherd_contract::names::Name;

/// Most sessions that are remembered; beyond them the oldest is forgotten.
pub const ENDED_MAX: usize = 20_000;

/// Tenant and session.
pub type Key = (Name, Name);
/// Source and the id that its PBX gave to the channel.
pub type Place = (usize, String);

/// The sessions, each with its channel as far as it is known.
#[derive(Debug)]
pub struct EndedSessions {
    sessions: BTreeMap<Key, Ended>,
    /// Which session a channel was.
    places: BTreeMap<Place, Key>,
    /// In the order of their ends.
    order: BTreeSet<(Duration, Key)>,
    sources: usize,
}

#[derive(Debug)]
struct Ended {
    at: Duration,
    place: Option<Place>,
    /// The sources whose listing, begun later, did not have it.
    missing_from: BTreeSet<usize>,
}

impl EndedSessions {
    /// None yet; for a node with this many sources.
    pub fn new(sources: usize) -> Self {
        EndedSessions { sessions: BTreeMap::new(), places: BTreeMap::new(), order: BTreeSet::new(), sources }
    }

    /// Notes that a session ended, with its channel where one has shown it.
    pub fn remember(&mut self, now: Duration, key: Key, place: Option<Place>) {
        if self.sources == 0 {
            // No source would ever report the channel, as gone or as there.
            return;
        }
        let place = place.or_else(|| self.sessions.get(&key).and_then(|known| known.place.clone()));
        self.forget(&key);
        while self.sessions.len() >= ENDED_MAX
            && let Some((_, oldest)) = self.order.first().cloned()
        {
            self.forget(&oldest);
        }
        if let Some(place) = &place {
            self.places.insert(place.clone(), key.clone());
        }
        self.order.insert((now, key.clone()));
        self.sessions.insert(key, Ended { at: now, place, missing_from: BTreeSet::new() });
    }

    /// When a session ended.
    pub fn since(&self, key: &Key) -> Option<Duration> {
        self.sessions.get(key).map(|ended| ended.at)
    }

    /// A channel is gone, and with it the session that it was known to be. A channel that only claims a session may be
    /// a leg that inherited its variables: the session is remembered until a listing has none of them.
    pub fn gone(&mut self, place: &Place) {
        if let Some(key) = self.places.get(place).cloned() {
            self.forget(&key);
        }
    }

    /// Takes in a listing of a source that began at this time and had these channels and sessions.
    pub fn listed(&mut self, begun: Duration, source: usize, ids: &BTreeSet<&str>, alive: impl Fn(&Key) -> bool) {
        let mut over = Vec::new();
        for (key, ended) in &mut self.sessions {
            if ended.at >= begun || alive(key) {
                continue;
            }
            match &ended.place {
                Some((owner, id)) if *owner == source && !ids.contains(id.as_str()) => over.push(key.clone()),
                Some(_) => {}
                None => {
                    ended.missing_from.insert(source);
                    if ended.missing_from.len() == self.sources {
                        over.push(key.clone());
                    }
                }
            }
        }
        for key in over {
            self.forget(&key);
        }
    }

    /// Forgets a session that ended.
    pub fn forget(&mut self, key: &Key) {
        if let Some(ended) = self.sessions.remove(key) {
            self.order.remove(&(ended.at, key.clone()));
            if let Some(place) = ended.place {
                self.places.remove(&place);
            }
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True if none is remembered.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn key(session: &str) -> Key {
        ("acme".into(), session.into())
    }

    fn place(id: &str) -> Place {
        (0, id.to_owned())
    }

    #[test]
    fn it_is_remembered_until_its_channel_is_gone() {
        let mut ended = EndedSessions::new(1);
        ended.remember(at(1), key("c1"), Some(place("1.1")));
        assert_eq!((ended.since(&key("c1")), ended.since(&key("c2"))), (Some(at(1)), None));
        // Another channel of the same session does not end it.
        ended.gone(&place("1.2"));
        assert_eq!(ended.len(), 1);
        ended.gone(&place("1.1"));
        assert!(ended.is_empty() && ended.places.is_empty() && ended.order.is_empty());
    }

    #[test]
    fn an_end_that_is_said_twice_is_one() {
        let mut ended = EndedSessions::new(1);
        ended.remember(at(1), key("c1"), Some(place("1.1")));
        ended.remember(at(2), key("c1"), None);
        assert_eq!((ended.len(), ended.order.len(), ended.since(&key("c1"))), (1, 1, Some(at(2))));
        ended.gone(&place("1.1"));
        assert!(ended.is_empty());
    }

    #[test]
    fn a_later_listing_without_its_channel_ends_it() {
        let mut ended = EndedSessions::new(2);
        ended.remember(at(5), key("c1"), Some(place("1.1")));
        ended.remember(at(5), key("c2"), None);
        let none = BTreeSet::new();
        ended.listed(at(5), 0, &none, |_| false);
        assert_eq!(ended.len(), 2, "it may have been there when the listing began");
        ended.listed(at(6), 0, &BTreeSet::from(["1.1"]), |_| false);
        ended.listed(at(6), 1, &none, |key| key.1 == *"c2");
        assert_eq!(ended.len(), 2);
        ended.listed(at(7), 0, &none, |_| false);
        assert_eq!((ended.len(), ended.since(&key("c2"))), (1, Some(at(5))), "the other source may have it");
        ended.listed(at(7), 1, &none, |_| false);
        assert!(ended.is_empty());
    }

    #[test]
    fn the_oldest_is_forgotten_where_there_are_too_many() {
        let mut ended = EndedSessions::new(1);
        for number in 0..=ENDED_MAX as u64 {
            ended.remember(at(number), key(&number.to_string()), None);
        }
        assert_eq!((ended.len(), ended.order.len()), (ENDED_MAX, ENDED_MAX));
        assert!(ended.since(&key("0")).is_none() && ended.since(&key("1")).is_some());
        let mut nobody = EndedSessions::new(0);
        nobody.remember(at(1), key("c1"), None);
        assert!(nobody.is_empty());
    }
}

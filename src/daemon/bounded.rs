//! A map that cores share, of locked parts, which never holds more entries than its limit.

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::mapref::one::RefMut;
use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;

/// Parts with a lock each: more than there are cores, so that two seldom meet.
const PARTS: usize = 64;

/// A concurrent map with an exact limit. What its methods are given to do runs under the lock of a part, and must not
/// come back to the map.
#[derive(Debug)]
pub(crate) struct BoundedMap<K: Eq + Hash, V> {
    entries: DashMap<K, V, RandomState>,
    /// Entries, and room that was taken for one; never fewer than there are.
    len: AtomicUsize,
    max: usize,
}

impl<K: Eq + Hash + Clone, V> BoundedMap<K, V> {
    /// An empty map with room for so many entries.
    pub(crate) fn new(max: usize) -> Self {
        let entries = DashMap::with_hasher_and_shard_amount(RandomState::default(), PARTS);
        BoundedMap { entries, len: AtomicUsize::new(0), max }
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// True if there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if a further key has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// The value of a key under its lock: give it back soon, and do not use the map meanwhile.
    pub(crate) fn get_mut<Q>(&self, key: &Q) -> Option<RefMut<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.get_mut(key)
    }

    /// Acts on the value of a key, which is made where there is none; `None` where it has no room.
    pub(crate) fn with<R>(&self, key: K, make: impl FnOnce() -> V, act: impl FnOnce(&mut V) -> R) -> Option<R> {
        match self.entries.entry(key) {
            Entry::Occupied(mut known) => Some(act(known.get_mut())),
            Entry::Vacant(place) if self.take_room() => Some(act(place.insert(make()).value_mut())),
            Entry::Vacant(_) => None,
        }
    }

    /// Removes an entry that is over.
    pub(crate) fn remove_if(&self, key: &K, is_over: impl FnOnce(&V) -> bool) {
        if self.entries.remove_if(key, |_, value| is_over(value)).is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Keeps what is wanted, one part after the other.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let mut gone = 0;
        self.entries.retain(|key, value| {
            let kept = keep(key, value);
            gone += usize::from(!kept);
            kept
        });
        // Only now: room is given back after its entry is gone.
        self.len.fetch_sub(gone, Ordering::Relaxed);
    }

    /// The key whose value has the lowest rank, one part after the other.
    pub(crate) fn lowest(&self, rank: impl Fn(&V) -> u64) -> Option<K> {
        // No entry is held while the next part is locked.
        let ranked = self.entries.iter().map(|entry| (rank(entry.value()), entry.key().clone()));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, key)| key)
    }

    fn take_room(&self) -> bool {
        let more = |len| (len < self.max).then_some(len + 1);
        self.len.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_beyond_the_limit_has_no_room_and_a_known_one_has() {
        let map = BoundedMap::new(2);
        assert_eq!([1, 2, 3].map(|key| map.with(key, || key * 10, |value| *value)), [Some(10), Some(20), None]);
        assert_eq!(map.with(2, || 0, |value| std::mem::replace(value, 5)), Some(20));
        assert!(map.is_full() && map.get_mut(&3).is_none());
        assert_eq!(map.lowest(|value| *value), Some(2));
        map.remove_if(&2, |value| *value == 6);
        assert_eq!(map.len(), 2);
        map.remove_if(&2, |value| *value == 5);
        assert_eq!((map.len(), map.with(3, || 30, |value| *value)), (1, Some(30)));
        map.retain(|key, _| *key == 3);
        assert_eq!((map.len(), map.is_full()), (1, false));
        map.retain(|_, _| false);
        assert!(map.is_empty() && map.entries.is_empty());
    }

    #[test]
    fn the_limit_is_exact_while_threads_add_and_remove() {
        const MAX: usize = 16;
        let (map, alive) = (BoundedMap::new(MAX), AtomicUsize::new(0));
        let gone = |is_gone: bool| {
            alive.fetch_sub(usize::from(is_gone), Ordering::SeqCst);
            is_gone
        };
        let work = &|seed: u64| {
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..5_000 {
                let key = random.u8(0..64);
                let make = || assert!(alive.fetch_add(1, Ordering::SeqCst) < MAX, "above the limit");
                match random.u8(0..8) {
                    0 => map.retain(|other, ()| !gone(other % 4 == key % 4)),
                    1..4 => map.remove_if(&key, |()| gone(true)),
                    _ => _ = map.with(key, make, |()| ()),
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|seed| _ = scope.spawn(move || work(seed))));
        assert_eq!((map.len(), alive.into_inner()), (map.entries.len(), map.entries.len()));
    }
}

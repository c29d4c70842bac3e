//! Session ids beside the sessions: where these stand, the tombstones of those that ended, versions.

use hashbrown::HashTable;

use super::key::{Asked, Key};
use super::session::{Kind, Stamp};

/// Above so many tombstones a tenant's ids are spread over more stripes.
pub(crate) const TOMBSTONES_CROWDED: usize = 512;

/// The remains of a session that is gone, or was never seen: the newest message of its node (G5).
#[derive(Clone, Debug)]
pub(crate) struct Tombstone {
    pub(crate) session: Key,
    pub(crate) stamp: Stamp,
    /// Uptime milliseconds until which it stands.
    pub(crate) until: u64,
    pub(crate) version: u64,
    pub(crate) node: u32,
    pub(crate) id_route: u32,
    pub(crate) kind: Kind,
}

impl Tombstone {
    /// True if it keeps out an acquire of this node and stamp (G5).
    pub(crate) fn blocks(&self, node: u32, stamp: Option<Stamp>, now_ms: u64) -> bool {
        self.until > now_ms && self.node == node && stamp.is_some_and(|message| message <= self.stamp)
    }
}

/// The ids of one stripe.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Where the sessions stand: the route of the id, and that of the cell. Empty in a table of one stripe, whose part
    /// is searched.
    places: HashTable<(u32, u32)>,
    tombstones: HashTable<Tombstone>,
    /// Last version given; grows with every recorded change.
    pub(crate) version: u64,
}

impl Ids {
    pub(crate) fn new(version: u64) -> Self {
        Ids { version, ..Ids::default() }
    }

    pub(crate) fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The route of the `nth` cell in which a session of this id may stand.
    pub(crate) fn place(&self, id_route: u32, nth: usize) -> Option<u32> {
        let mut candidates = self.places.iter_hash(spread(id_route)).filter(|(id, _)| *id == id_route);
        candidates.nth(nth).map(|(_, route)| *route)
    }

    /// Memory for the places of so many more sessions.
    pub(crate) fn reserve(&mut self, sessions: usize) {
        self.places.reserve(sessions, |(id, _)| spread(*id));
    }

    pub(crate) fn add_place(&mut self, id_route: u32, route: u32) {
        self.places.insert_unique(spread(id_route), (id_route, route), |(id, _)| spread(*id));
    }

    pub(crate) fn remove_place(&mut self, id_route: u32, route: u32) {
        if let Ok(place) = self.places.find_entry(spread(id_route), |place| *place == (id_route, route)) {
            place.remove();
        }
        if self.places.capacity() > 64 && self.places.len() * 8 < self.places.capacity() {
            self.places.shrink_to(self.places.len() * 2, |(id, _)| spread(*id));
        }
    }

    pub(crate) fn forget_places(&mut self) {
        self.places = HashTable::new();
    }

    pub(crate) fn tombstone(&mut self, id: &Asked<'_>) -> Option<&mut Tombstone> {
        if self.tombstones.is_empty() {
            return None;
        }
        self.tombstones.find_mut(spread(id.route()), |tombstone| id.is(&tombstone.session))
    }

    /// Lays a tombstone for an id that has none.
    pub(crate) fn lay(&mut self, tombstone: Tombstone) {
        let hash = spread(tombstone.id_route);
        self.tombstones.insert_unique(hash, tombstone, |tombstone| spread(tombstone.id_route));
    }

    /// Takes the tombstone of an id away; `false` where there is none.
    pub(crate) fn lift(&mut self, id: &Asked<'_>) -> bool {
        if self.tombstones.is_empty() {
            return false;
        }
        let found = self.tombstones.find_entry(spread(id.route()), |tombstone| id.is(&tombstone.session));
        found.map(|tombstone| tombstone.remove()).is_ok()
    }

    pub(crate) fn tombstones(&self) -> impl Iterator<Item = &Tombstone> {
        self.tombstones.iter()
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.tombstones.len() > TOMBSTONES_CROWDED
    }

    pub(crate) fn tombstones_len(&self) -> usize {
        self.tombstones.len()
    }

    /// Drops the tombstones that need not stand; answers how many.
    pub(crate) fn sweep(&mut self, mut stays: impl FnMut(&Tombstone) -> bool) -> u32 {
        let before = self.tombstones.len();
        self.tombstones.retain(|tombstone| stays(tombstone));
        if self.tombstones.capacity() > 64 && self.tombstones.len() * 4 < self.tombstones.capacity() {
            self.tombstones.shrink_to_fit(|tombstone| spread(tombstone.id_route));
        }
        (before - self.tombstones.len()) as u32
    }

    /// Drops the older half of the tombstones; answers how many went.
    pub(crate) fn sweep_older_half(&mut self) -> u32 {
        let mut ends: Vec<u64> = self.tombstones.iter().map(|tombstone| tombstone.until).collect();
        if ends.is_empty() {
            return 0;
        }
        let middle = ends.len() / 2;
        let (_, oldest_kept, _) = ends.select_nth_unstable(middle);
        let oldest_kept = *oldest_kept;
        match self.sweep(|tombstone| tombstone.until >= oldest_kept) {
            // All of one instant: none is older than another.
            0 => self.sweep(|tombstone| tombstone.until > oldest_kept),
            swept => swept,
        }
    }

    /// Moves what is of other ids to another stripe.
    pub(crate) fn split(&mut self, other: &mut Ids, goes: impl Fn(u32) -> bool) {
        other.version = other.version.max(self.version);
        for (id, route) in self.places.extract_if(|(id, _)| goes(*id)) {
            other.add_place(id, route);
        }
        for tombstone in self.tombstones.extract_if(|tombstone| goes(tombstone.id_route)) {
            other.lay(tombstone);
        }
    }

    /// Takes everything of another stripe.
    pub(crate) fn absorb(&mut self, other: Ids) {
        self.version = self.version.max(other.version);
        other.places.into_iter().for_each(|(id, route)| self.add_place(id, route));
        other.tombstones.into_iter().for_each(|tombstone| self.lay(tombstone));
    }
}

/// The hash of a route within a stripe, whose ids have their first bits in common.
fn spread(route: u32) -> u64 {
    u64::from(route).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

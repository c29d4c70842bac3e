//! The stripes of a tenant's table: one lock for a small one, more of them as its sessions become more, fewer again
//! as they go.
//!
//! A table of one stripe is its part, under one lock. One of more has two locks in each stripe: of the ids whose routes
//! it covers, and of the cells whose routes it covers. They are taken in this order only, and never two of a kind but
//! by who changes the number of stripes, of whom there is one. Stripes are split one after the other in the order of
//! their numbers, so that their count alone says where a route belongs; who read the count too early finds that the
//! stripe does not cover the route any more, and looks again.

use super::cell::Cell;
use super::holds::{Holds, Work};
use super::ids::Ids;
use super::key::Asked;
use super::part::{CELLS_ALONE, CELLS_JOINED, CELLS_SPARSE, Part, Range};
use super::sync::{AtomicU32, Mutex, MutexGuard, OnceLock, Ordering};

/// Cells that a reader copies out while it holds a lock, about.
const STEP_CELLS: u64 = 64;
/// Stripes that a decision joins at most, after it left its critical section.
const JOINED_AT_ONCE: u32 = 4;
/// Two stripes with more tombstones than this together stay two.
const TOMBSTONES_JOINED: usize = 256;
/// Most stripes of a tenant, as a power of two: enough for the most sessions that it may have.
const STRIPES_BITS: u32 = 15;

/// One stripe.
#[derive(Debug)]
struct Stripe {
    ids: Mutex<IdStripe>,
    part: Mutex<Part>,
}

#[derive(Debug)]
struct IdStripe {
    /// `None` where the stripe is not in use, or is the only one, whose part has the ids.
    range: Option<Range>,
    ids: Ids,
}

/// All stripes of a tenant.
#[derive(Debug)]
pub(crate) struct Stripes {
    first: Stripe,
    /// How many are in use.
    count: AtomicU32,
    more: OnceLock<Box<More>>,
}

/// The stripes beside the first; none is freed before its tenant.
#[derive(Debug, Default)]
struct More {
    /// Twice as many in each as in the one before.
    chunks: [OnceLock<Box<[Stripe]>>; STRIPES_BITS as usize],
    /// One thread at a time changes their number.
    resizing: Mutex<()>,
}

/// The critical section of one session id: nobody else changes that session meanwhile.
///
/// It holds the lock of the id's stripe, and of one part at a time; in a table of one stripe, of its part alone.
#[derive(Debug)]
pub(crate) struct Hold<'t> {
    stripes: &'t Stripes,
    holds: &'t Holds,
    ids: Option<MutexGuard<'t, IdStripe>>,
    part: Option<MutexGuard<'t, Part>>,
    /// The table may have to grow or to shrink.
    uneven: bool,
}

impl Stripe {
    fn unused() -> Self {
        Stripe { ids: Mutex::new(IdStripe { range: None, ids: Ids::default() }), part: Mutex::new(Part::new(None, 0)) }
    }
}

impl Stripes {
    /// One stripe; gives versions above `version`.
    pub(crate) fn new(version: u64) -> Self {
        let part = Mutex::new(Part::new(Some(Range::WHOLE), version));
        let first = Stripe { part, ..Stripe::unused() };
        Stripes { first, count: AtomicU32::new(1), more: OnceLock::new() }
    }

    /// Enters the critical section of a session id.
    #[inline]
    pub(crate) fn hold<'t>(&'t self, id: &Asked<'_>, holds: &'t Holds) -> Hold<'t> {
        if self.count.load(Ordering::Acquire) == 1 {
            let part = self.first.part.lock();
            if part.is_whole() {
                return Hold { stripes: self, holds, ids: None, part: Some(part), uneven: false };
            }
        }
        self.hold_of_many(id, holds)
    }

    fn hold_of_many<'t>(&'t self, id: &Asked<'_>, holds: &'t Holds) -> Hold<'t> {
        loop {
            let count = self.count.load(Ordering::Acquire);
            let ids = self.stripe(number_of(id.route(), count)).ids.lock();
            if ids.range.is_some_and(|range| range.covers(id.route())) {
                return Hold { stripes: self, holds, ids: Some(ids), part: None, uneven: false };
            }
            drop(ids);
            let part = self.first.part.lock();
            if part.is_whole() {
                return Hold { stripes: self, holds, ids: None, part: Some(part), uneven: false };
            }
        }
    }

    #[cold]
    fn first_part(&self) -> MutexGuard<'_, Part> {
        self.part(0)
    }

    fn part(&self, route: u32) -> MutexGuard<'_, Part> {
        loop {
            let count = self.count.load(Ordering::Acquire);
            let part = self.stripe(number_of(route, count)).part.lock();
            if part.range.is_some_and(|range| range.covers(route)) {
                return part;
            }
        }
    }

    /// The part of a route that a walk comes to, and the route after its last one.
    fn part_at(&self, at: u64) -> Option<(MutexGuard<'_, Part>, u64)> {
        let part = self.part(u32::try_from(at).ok()?);
        let end = part.range.map_or(u64::MAX, Range::end);
        Some((part, end))
    }

    /// Runs over all cells in the order of their routes, for a reader: copies what it wants, some 64 cells while it
    /// holds a lock, and shows it the copies while it holds none. A session that lives all the while is met once,
    /// whatever comes, goes, or moves to another stripe meanwhile.
    pub(crate) fn walk(
        &self,
        holds: &Holds,
        work: Work,
        mut wants: impl FnMut(&Cell) -> bool,
        mut see: impl FnMut(&Cell),
    ) {
        let mut copies = Vec::with_capacity(2 * STEP_CELLS as usize);
        let mut at = 0;
        while let Some((part, end)) = self.part_at(at) {
            let took = holds.begin();
            let until = end.min(at + step(&part));
            let here = |cell: &&Cell| (at..until).contains(&u64::from(cell.route));
            copies.extend(part.cells().filter(here).filter(|cell| wants(cell)).cloned());
            drop(part);
            holds.end(work, took);
            copies.drain(..).for_each(|cell| see(&cell));
            at = until;
        }
    }

    /// Looks at every part under its lock, and then acts on what it found there while it holds none.
    ///
    /// It begins after every decision that had begun before: whoever makes something known and then looks at all parts
    /// finds each session that was decided without knowing it.
    pub(crate) fn sweep<T>(
        &self,
        holds: &Holds,
        work: Work,
        mut look: impl FnMut(&mut Part, &mut Vec<T>),
        mut act: impl FnMut(T),
    ) {
        for number in 0..self.count.load(Ordering::Acquire) {
            drop(self.stripe(number).ids.lock());
        }
        let mut found = Vec::with_capacity(CELLS_ALONE as usize);
        let mut at = 0;
        while let Some((mut part, end)) = self.part_at(at) {
            let took = holds.begin();
            look(&mut part, &mut found);
            drop(part);
            holds.end(work, took);
            found.drain(..).for_each(&mut act);
            at = end;
        }
    }

    /// Looks at the ids of every stripe under its lock, and then acts on what it found there while it holds none.
    pub(crate) fn sweep_ids<T>(
        &self,
        holds: &Holds,
        work: Work,
        mut look: impl FnMut(&mut Ids, &mut Vec<T>),
        mut act: impl FnMut(T),
    ) {
        let mut found = Vec::new();
        let mut at = 0u64;
        while let Ok(route) = u32::try_from(at) {
            let count = self.count.load(Ordering::Acquire);
            let took;
            if count == 1 {
                let mut part = self.first.part.lock();
                if !part.is_whole() {
                    continue;
                }
                took = holds.begin();
                look(&mut part.ids, &mut found);
                at = u64::MAX;
            } else {
                let mut ids = self.stripe(number_of(route, count)).ids.lock();
                let Some(range) = ids.range.filter(|range| range.covers(route)) else { continue };
                took = holds.begin();
                look(&mut ids.ids, &mut found);
                at = range.end();
            }
            holds.end(work, took);
            found.drain(..).for_each(&mut act);
        }
    }

    fn stripe(&self, number: u32) -> &Stripe {
        let chunk = number.checked_ilog2().unwrap_or(0);
        let more = self.more.get().and_then(|more| more.chunks.get(chunk as usize)).and_then(OnceLock::get);
        // Every stripe that the count covers is there before the count is.
        match more {
            Some(stripes) if number > 0 => &stripes[(number - (1 << chunk)) as usize],
            _ => &self.first,
        }
    }

    /// Makes one stripe more of the next that is to be split.
    fn split(&self, holds: &Holds) {
        let more = self.more.get_or_init(Box::default);
        let Some(_one_at_a_time) = more.resizing.try_lock() else { return };
        let count = self.count.load(Ordering::Acquire);
        let level = count.ilog2();
        let Some(chunk) = more.chunks.get(level as usize) else { return };
        chunk.get_or_init(|| (0..1 << level).map(|_| Stripe::unused()).collect());
        let (old, new) = (self.stripe(count - (1 << level)), self.stripe(count));
        let used = old.part.lock().used() as usize;
        new.part.lock().reserve(used * 5 / 8);
        new.ids.lock().ids.reserve(used);
        let (mut old_ids, mut new_ids) = (old.ids.lock(), new.ids.lock());
        let (mut old_part, mut new_part) = (old.part.lock(), new.part.lock());
        let took = holds.begin();
        let Some(range) = old_part.range else { return };
        if range.is_whole() {
            old_ids.ids = std::mem::take(&mut old_part.ids);
            old_part.sessions().for_each(|cell| old_ids.ids.add_place(cell.id_route, cell.route));
        }
        let (near, far) = range.halves();
        old_part.move_to(&mut new_part, |cell| far.covers(cell.route));
        old_ids.ids.split(&mut new_ids.ids, |id_route| far.covers(id_route));
        (old_ids.range, old_part.range) = (Some(near), Some(near));
        (new_ids.range, new_part.range) = (Some(far), Some(far));
        self.count.store(count + 1, Ordering::Release);
        drop((old_part, new_part, old_ids, new_ids));
        holds.end(Work::Growth, took);
    }

    /// Joins stripes as long as they have little, so many at most.
    pub(crate) fn shrink(&self, holds: &Holds, most: u32) {
        for _ in 0..most {
            if self.join(holds).is_none() {
                return;
            }
        }
    }

    /// Joins the last stripe with the one from which it was split, where both have little; `None` where not.
    fn join(&self, holds: &Holds) -> Option<()> {
        let _one_at_a_time = self.more.get()?.resizing.try_lock()?;
        let last = self.count.load(Ordering::Acquire) - 1;
        let level = last.checked_ilog2()?;
        let (near, far) = (self.stripe(last - (1 << level)), self.stripe(last));
        let (mut near_ids, mut far_ids) = (near.ids.lock(), far.ids.lock());
        let (mut near_part, mut far_part) = (near.part.lock(), far.part.lock());
        let took = holds.begin();
        let tombstones = near_ids.ids.tombstones_len() + far_ids.ids.tombstones_len();
        let range = near_part.range?.joined();
        if near_part.used() + far_part.used() > CELLS_JOINED || tombstones > TOMBSTONES_JOINED {
            return None;
        }
        far_part.move_to(&mut near_part, |_| true);
        let emptied = std::mem::replace(&mut *far_part, Part::new(None, 0));
        near_ids.ids.absorb(std::mem::take(&mut far_ids.ids));
        far_ids.range = None;
        (near_ids.range, near_part.range) = (Some(range), Some(range));
        if range.is_whole() {
            near_ids.range = None;
            near_part.ids = std::mem::take(&mut near_ids.ids);
            near_part.ids.forget_places();
        }
        self.count.store(last, Ordering::Release);
        drop((far_part, near_part, far_ids, near_ids));
        holds.end(Work::Growth, took);
        drop(emptied);
        Some(())
    }
}

impl<'t> Hold<'t> {
    /// True if nobody else is in any critical section of this tenant.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        self.ids.is_none()
    }

    /// The part of a route; the one before is left.
    #[inline]
    pub(crate) fn enter(&mut self, route: u32) -> &mut Part {
        if self.is_alone() { self.here() } else { self.enter_another(route) }
    }

    fn enter_another(&mut self, route: u32) -> &mut Part {
        let part = match self.part.take() {
            Some(part) if part.range.is_some_and(|range| range.covers(route)) => part,
            other => {
                drop(other);
                self.stripes.part(route)
            }
        };
        self.part.insert(part)
    }

    /// The part that was entered last.
    #[inline]
    pub(crate) fn here(&mut self) -> &mut Part {
        self.part.get_or_insert_with(|| self.stripes.first_part())
    }

    /// Leaves the part that was entered last.
    pub(crate) fn leave(&mut self) {
        self.part = None;
    }

    #[inline]
    pub(crate) fn ids(&mut self) -> &mut Ids {
        match &mut self.ids {
            Some(ids) => &mut ids.ids,
            None => &mut self.part.get_or_insert_with(|| self.stripes.first_part()).ids,
        }
    }

    /// Notes that a tombstone was laid.
    pub(crate) fn laid(&mut self) {
        self.uneven |= self.ids().is_crowded();
    }

    /// Enters the part in which a session stands; its cell there.
    pub(crate) fn find(&mut self, id: &Asked<'_>) -> Option<u32> {
        if self.is_alone() {
            return self.here().find_session(id);
        }
        let mut nth = 0;
        while let Some(route) = self.ids().place(id.route(), nth) {
            if let Some(at) = self.enter(route).find_session(id) {
                return Some(at);
            }
            nth += 1;
        }
        None
    }

    /// Makes the session that was put into a cell of the part that was entered last known by its id.
    pub(crate) fn settle(&mut self, at: u32, id: &Asked<'_>) {
        let part = self.here();
        let route = part.settle(at, id);
        let crowded = part.is_crowded();
        self.uneven |= crowded;
        if let Some(ids) = &mut self.ids {
            ids.ids.add_place(id.route(), route);
        }
    }

    /// Takes a session out of its cell, in the part that was entered last.
    pub(crate) fn clear(&mut self, at: u32) {
        let part = self.here();
        let (id_route, route) = part.clear(at);
        let sparse = part.is_sparse();
        self.uneven |= sparse;
        if let Some(ids) = &mut self.ids {
            ids.ids.remove_place(id_route, route);
        }
    }

    /// Leaves the critical section, and lets the table grow or shrink where that is due.
    #[cold]
    fn even_out(&mut self) {
        let is_alone = self.is_alone();
        let mut part = self.part.take();
        let ids = self.ids.as_ref().map(|ids| &ids.ids).or(part.as_ref().map(|part| &part.ids));
        let crowded = ids.is_some_and(Ids::is_crowded) || part.as_ref().is_some_and(|part| part.is_crowded());
        let used = part.as_ref().map_or(u32::MAX, |part| part.used());
        let took = self.holds.begin();
        let emptied = part.as_mut().filter(|part| part.is_hollow()).map(|part| part.lay_out());
        drop(part);
        self.ids = None;
        if emptied.is_some() {
            self.holds.end(Work::Growth, took);
        }
        drop(emptied);
        if crowded {
            self.stripes.split(self.holds);
        } else if !is_alone && used <= CELLS_SPARSE {
            self.stripes.shrink(self.holds, JOINED_AT_ONCE);
        }
    }
}

impl Drop for Hold<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.uneven {
            self.even_out();
        }
    }
}

/// The routes whose cells a reader copies in one step.
fn step(part: &Part) -> u64 {
    let width = part.range.map_or(0, Range::width);
    match u64::from(part.used()) {
        used if used <= STEP_CELLS => width,
        used => (width * STEP_CELLS).div_ceil(used),
    }
}

/// The stripe of a route among so many.
fn number_of(route: u32, count: u32) -> u32 {
    let route = route.reverse_bits();
    let ceiling = count.next_power_of_two();
    let number = route & (ceiling - 1);
    if number < count { number } else { route & (ceiling / 2 - 1) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::ids::TOMBSTONES_CROWDED;
    use super::super::*;
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { uptime_ms: 1_000_000 + seconds * 1_000, utc_ms: 1_700_000_000_000 }
    }

    fn engine(policy: Policy) -> Engine {
        let engine = Engine::new(Limits::default());
        let tenant = TenantPlan {
            id: "acme".into(),
            entitled: Entitled { standing: Standing::Active, seats: None },
            policy: Arc::new(policy),
            reserve: Vec::new(),
            pool: None,
        };
        engine.install(at(0), Plan { tenants: vec![tenant], ..Plan::default() }, &mut ());
        engine
    }

    fn stripes(engine: &Engine) -> u32 {
        engine.world.load().tenants["acme"].tenant.stripes.count.load(Ordering::Acquire)
    }

    /// Room for so many cells is kept, in all parts.
    fn room(engine: &Engine) -> usize {
        let mut room = 0;
        engine.world.load().tenants["acme"].tenant.each_part(Work::Sweep, |part| room += part.room());
        room
    }

    fn acquire(engine: &Engine, subject: &str, session: &str) {
        let asked = Acquire { ttl_s: Some(60), ..Acquire::new("acme", subject, session, Kind::Desktop) };
        let code = engine.acquire(at(0), &asked, &mut ()).unwrap().code;
        assert!(matches!(code, Code::AllowNew | Code::AllowHeld), "{session}: {code}");
    }

    fn listed(engine: &Engine) -> Vec<Name> {
        let all = engine.sessions("acme", &SessionFilter::default(), "", usize::MAX).unwrap();
        all.into_iter().map(|view| view.session).collect()
    }

    #[test]
    fn every_route_has_one_stripe_whatever_their_number() {
        let mut ranges = vec![Range::WHOLE];
        for count in 1..200u32 {
            for route in (0..1000u32).map(|at| at.wrapping_mul(0x9E37_79B9)) {
                let own = number_of(route, count);
                let covering = (0..count).filter(|number| ranges[*number as usize].covers(route));
                assert_eq!(covering.collect::<Vec<_>>(), [own], "{route:x} of {count}");
            }
            let mut at = 0;
            while at < 1 << 32 {
                at = ranges[number_of(at as u32, count) as usize].end();
            }
            assert_eq!(at, 1 << 32, "a walk ends after the last route");
            let old = (count - (1 << count.ilog2())) as usize;
            let (near, far) = ranges[old].halves();
            assert_eq!((near.joined(), far.joined()), (ranges[old], ranges[old]));
            ranges[old] = near;
            ranges.push(far);
        }
    }

    #[test]
    fn a_table_grows_and_shrinks_with_its_sessions() {
        let engine = engine(Policy::default());
        // One in four belongs to a subject with many sessions, one in four of the rest to one with two.
        let subject = |at: u32| match at % 4 {
            0 => "gateway".to_owned(),
            1 => format!("user-{}", at / 8),
            _ => format!("user-{at}"),
        };
        let names: Vec<(String, String)> = (0..20_000).map(|at| (subject(at), format!("session-{at:05}"))).collect();
        for (subject, session) in &names {
            acquire(&engine, subject, session);
        }
        assert!((156..500).contains(&stripes(&engine)), "{}", stripes(&engine));
        let subjects: std::collections::HashSet<_> = names.iter().map(|(subject, _)| subject).collect();
        let view = engine.tenant(at(0), "acme").unwrap();
        assert_eq!((view.sessions, view.held), (20_000, subjects.len() as u32));
        assert!(listed(&engine).iter().eq(names.iter().map(|(_, session)| session)));
        let gateway = engine.subjects("acme", "gatewax", 1).unwrap();
        assert_eq!((gateway[0].claims, gateway[0].sessions), (5_000, 5_000));
        assert!(room(&engine) < 2 * 20_000, "{}", room(&engine));
        for (_, session) in names.iter().skip(10) {
            engine.release(at(0), &Release::new("acme", session), &mut ());
        }
        assert!(stripes(&engine) <= 2, "{}", stripes(&engine));
        assert!(room(&engine) < 256, "{}", room(&engine));
        assert!(listed(&engine).iter().eq(names[..10].iter().map(|(_, session)| session)));
        for (_, session) in &names[..10] {
            engine.release(at(0), &Release::new("acme", session), &mut ());
        }
        let view = engine.tenant(at(0), "acme").unwrap();
        assert_eq!((view.sessions, view.held, engine.subjects("acme", "", 1).unwrap().len()), (0, 0, 0));
        assert_eq!(engine.impossible_total(), 0);
    }

    #[test]
    fn tombstones_of_sessions_never_seen_are_spread_too() {
        let engine = engine(Policy::default());
        for session in 0..20_000 {
            let (session, node) = (format!("never-{session}"), Some("n"));
            let release = Release { node, epoch: Some(1), seq: Some(9), ..Release::new("acme", &session) };
            assert_eq!(engine.release(at(0), &release, &mut ()).code, Code::ReleasedNone);
        }
        let mut most = 0;
        engine.world.load().tenants["acme"].tenant.each_ids(Work::Sweep, |ids| most = most.max(ids.tombstones_len()));
        assert!(most < 2 * TOMBSTONES_CROWDED, "{most} under one lock, of {} stripes", stripes(&engine));
        engine.expire(at(301), &mut ());
        assert_eq!(stripes(&engine), 1, "their time is over");
    }

    #[test]
    fn deadlines_lingering_and_tombstones_outlive_growth() {
        let engine = engine(Policy { seat_linger_ms: 5_000, ..Policy::default() });
        let release = |session: &str, at| {
            let stamped = Release { node: Some("n"), epoch: Some(1), seq: Some(9), ..Release::new("acme", session) };
            engine.release(at, &stamped, &mut ());
        };
        let first: Vec<String> = (0..200).map(|at| format!("first-{at}")).collect();
        for name in &first {
            let asked = Acquire {
                node: Some("n"),
                epoch: Some(1),
                seq: Some(1),
                ..Acquire::new("acme", name, name, Kind::Desktop)
            };
            engine.acquire(at(0), &Acquire { ttl_s: Some(60), ..asked }, &mut ()).unwrap();
        }
        first[..100].iter().for_each(|name| release(name, at(0)));
        (0..5_000).for_each(|n| acquire(&engine, &format!("user-{n}"), &format!("session-{n}")));
        assert!(stripes(&engine) > 16);
        let held = |seconds| {
            engine.expire(at(seconds), &mut ());
            engine.tenant(at(seconds), "acme").unwrap().held
        };
        assert_eq!((held(4), held(5)), (5_200, 5_100), "a hundred seats lingered");
        let late = |name| Acquire {
            node: Some("n"),
            epoch: Some(1),
            seq: Some(2),
            ttl_s: Some(60),
            ..Acquire::new("acme", name, name, Kind::Desktop)
        };
        for name in &first[..100] {
            assert_eq!(engine.acquire(at(5), &late(name), &mut ()).unwrap().code, Code::IgnoreStale, "{name}");
        }
        assert_eq!((held(59), held(60)), (5_100, 0), "everything ends in its second");
        assert_eq!(stripes(&engine), 1);
    }
}

//! The reference: the same decision on three DashMaps, as one would write it in a day (sessions, persons, tenants).
//!
//! It knows sessions that need a seat; what needs none is allowed and not kept. Left out: tombstones, nodes,
//! reservations, pools, trunk lines and lingering seats. Locks are taken in one order: tenant (shared), session,
//! person; a seat changes hands inside all of them, so that it is free before anybody sees its person gone.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;
use usherd_contract::emergency;
use usherd_engine::{
    Acquire, Changes, Class, Code, Decision, Detail, Device, Direction, GoneRecord, Kind, Leg, Limits, Name, Now,
    Policy, Reason, Release, SessionRecord,
};

use crate::key::{Key, Named};

/// Shards of each map, as many as the yardstick's: measured, 1,024 cost 1.2 times as much on two cores, for each lock has
/// cache lines of its own.
const SHARDS: usize = 256;
/// Seats that a word can count.
const SEATS: u64 = (1 << 20) - 1;
const QUOTA_SHIFT: u32 = 20;
const STANDING_SHIFT: u32 = 42;
/// No epoch, no number.
const NONE: u64 = u64::MAX;
/// Sessions that a tenant takes room for at once.
const BLOCK: u32 = 16;

/// A live session.
#[derive(Debug)]
struct Session {
    person: Name,
    deadline: u64,
    version: u64,
    started_utc_ms: i64,
    /// [`NONE`] where its messages have none.
    epoch: u64,
    seq: u64,
    ttl_s: u32,
    kind: Kind,
    direction: Option<Direction>,
    leg: Leg,
    device: Option<Device>,
    class: Option<Class>,
    first: Code,
    external: bool,
}

impl Session {
    fn is_newer_than(&self, epoch: Option<u64>, seq: Option<u64>) -> bool {
        let (Some(epoch), true) = (epoch, self.epoch != NONE) else { return false };
        epoch < self.epoch || epoch == self.epoch && self.seq != NONE && seq.is_some_and(|seq| seq < self.seq)
    }

    fn record<'a>(&'a self, tenant: &'a Tenant, session: &'a str) -> SessionRecord<'a> {
        SessionRecord {
            tenant: &tenant.id,
            session,
            subject: &self.person,
            kind: self.kind,
            direction: self.direction,
            leg: self.leg,
            device: self.device,
            class: self.class,
            counts: true,
            external: self.external,
            group: "",
            node: "",
            epoch: (self.epoch != NONE).then_some(self.epoch),
            seq: (self.seq != NONE).then_some(self.seq),
            ttl_s: Some(self.ttl_s),
            first: self.first,
            started_utc_ms: self.started_utc_ms,
            version: self.version,
        }
    }
}

/// A tenant: its seats in one word, sums and counters beside it.
#[derive(Debug)]
struct Tenant {
    number: u32,
    id: Name,
    policy: Arc<Policy>,
    /// Seats held, quota, standing.
    word: AtomicU64,
    seat_ms: AtomicU64,
    saturated_ms: AtomicU64,
    peak: AtomicU32,
    sessions: AtomicU32,
    denials: AtomicU64,
    version: AtomicU64,
    due: AtomicU64,
}

fn held(word: u64) -> u64 {
    word & SEATS
}

fn is_full(word: u64) -> bool {
    held(word) >= word >> QUOTA_SHIFT & SEATS
}

fn is_active(word: u64) -> bool {
    word >> STANDING_SHIFT == 0
}

impl Tenant {
    /// Takes a seat where one is free; the word after that, or why not.
    fn take(&self, now_ms: u64) -> Result<u64, u64> {
        let mut word = self.word.load(Ordering::Acquire);
        while !is_full(word) && is_active(word) {
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.seat_ms.fetch_sub(now_ms, Ordering::Relaxed);
                    if is_full(word + 1) {
                        self.saturated_ms.fetch_sub(now_ms, Ordering::Relaxed);
                    }
                    let held = held(word + 1) as u32;
                    if held > self.peak.load(Ordering::Relaxed) {
                        self.peak.fetch_max(held, Ordering::Relaxed);
                    }
                    return Ok(word + 1);
                }
                Err(now) => word = now,
            }
        }
        Err(word)
    }

    /// Gives one back.
    fn free(&self, now_ms: u64) -> u64 {
        let word = self.word.fetch_sub(1, Ordering::AcqRel);
        self.seat_ms.fetch_add(now_ms, Ordering::Relaxed);
        if is_full(word) && !is_full(word - 1) {
            self.saturated_ms.fetch_add(now_ms, Ordering::Relaxed);
        }
        word - 1
    }

    fn answer(&self, code: Code, detail: Detail, word: u64) -> Decision {
        Decision {
            code,
            detail,
            first: None,
            held: held(word) as u32,
            quota: Some((word >> QUOTA_SHIFT & SEATS) as u32),
            ttl_ms: None,
            retry_after_s: self.policy.retry_after_s,
            sip_code: self.policy.sip_code,
        }
    }

    fn denied(&self, code: Code, detail: Detail, word: u64) -> Decision {
        self.denials.fetch_add(1, Ordering::Relaxed);
        self.answer(code, detail, word)
    }

    /// Why a seat was not given, by the word that said so.
    fn refused(&self, word: u64) -> Decision {
        match word >> STANDING_SHIFT {
            0 => self.denied(Code::DenyFull, Detail::Tenant, word),
            1 => self.denied(Code::DenyInactive, Detail::Suspended, word),
            2 => self.denied(Code::DenyInactive, Detail::Stale, word),
            _ => self.denied(Code::DenyInactive, Detail::Ended, word),
        }
    }

    fn next_version(&self) -> u64 {
        self.version.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Live sessions by kind, in cells that threads seldom share.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Tally([AtomicU32; 6]);

/// The three maps.
#[derive(Debug)]
pub(crate) struct DashMaps {
    tenants: DashMap<Name, Tenant, RandomState>,
    sessions: DashMap<Key, Session, RandomState>,
    /// How many sessions each person has; who is in it holds one seat.
    persons: DashMap<Key, u32, RandomState>,
    limits: Limits,
    in_all: AtomicU32,
    due: AtomicU64,
    tally: [Tally; 16],
}

fn map<K: Eq + Hash, V>(capacity: usize) -> DashMap<K, V, RandomState> {
    DashMap::with_capacity_and_hasher_and_shard_amount(capacity, RandomState::default(), SHARDS)
}

fn lower(bound: &AtomicU64, value: u64) {
    if bound.load(Ordering::Acquire) > value {
        bound.fetch_min(value, Ordering::AcqRel);
    }
}

impl DashMaps {
    /// Maps with tenants of so many seats each, with room for so many sessions and persons.
    pub(crate) fn new(now: Now, tenants: u32, seats: u32, sessions: usize, persons: usize) -> Self {
        let maps = DashMaps {
            tenants: map(tenants as usize),
            sessions: map(sessions),
            persons: map(persons),
            limits: Limits::default(),
            in_all: AtomicU32::new(0),
            due: AtomicU64::new(u64::MAX),
            tally: std::array::from_fn(|_| Tally::default()),
        };
        let policy = Arc::new(Policy::default());
        for number in 0..tenants {
            let id = Name::from(format!("tenant-{number:05}"));
            let tenant = Tenant {
                number,
                id: id.clone(),
                policy: Arc::clone(&policy),
                word: AtomicU64::new(u64::from(seats) << QUOTA_SHIFT),
                seat_ms: AtomicU64::new(0),
                saturated_ms: AtomicU64::new(if seats == 0 { 0u64.wrapping_sub(now.uptime_ms) } else { 0 }),
                peak: AtomicU32::new(0),
                sessions: AtomicU32::new(0),
                denials: AtomicU64::new(0),
                version: AtomicU64::new(0),
                due: AtomicU64::new(u64::MAX),
            };
            maps.tenants.insert(id, tenant);
        }
        maps
    }

    /// May this happen?
    pub(crate) fn acquire(&self, now: Now, message: &Acquire<'_>, changes: &mut impl Changes) -> Decision {
        let (Some(tenant), Some(session), Some(person)) =
            (self.tenants.get(message.tenant), message.session, message.subject)
        else {
            return unknown();
        };
        let tenant = tenant.value();
        if !needs_seat(message, &tenant.policy) {
            return tenant.answer(Code::AllowFree, Detail::None, tenant.word.load(Ordering::Acquire));
        }
        let slot = match self.sessions.entry(Key { tenant: tenant.number, name: Name::from(session) }) {
            Entry::Occupied(mut known) => return self.known(now, tenant, message, known.get_mut(), changes),
            Entry::Vacant(slot) => slot,
        };
        let word = tenant.word.load(Ordering::Acquire);
        if !is_active(word) {
            return tenant.refused(word);
        }
        if !self.reserve(tenant) {
            return tenant.denied(Code::DenyFull, Detail::Limit, word);
        }
        let (first, word) = match self.claim(now, tenant, person, word) {
            Ok(claimed) => claimed,
            Err(word) => {
                self.unreserve(tenant);
                return tenant.refused(word);
            }
        };
        let ttl_s = message.ttl_s.unwrap_or(86_400);
        let fresh = Session {
            person: Name::from(person),
            deadline: now.uptime_ms + u64::from(ttl_s) * 1_000,
            version: tenant.next_version(),
            started_utc_ms: now.utc_ms,
            epoch: message.epoch.unwrap_or(NONE),
            seq: message.seq.unwrap_or(NONE),
            ttl_s,
            kind: message.kind,
            direction: message.direction,
            leg: message.leg,
            device: message.device,
            class: message.class,
            first,
            external: message.is_external(),
        };
        self.count(fresh.version, fresh.kind, 1);
        self.due_at(tenant, fresh.deadline);
        changes.put(&fresh.record(tenant, session), true);
        slot.insert(fresh);
        Decision { ttl_ms: Some(u64::from(ttl_s) * 1_000), ..tenant.answer(first, Detail::None, word) }
    }

    /// One more session of a person, who takes a seat with the first: the code, and the word right after. Or the word
    /// that said no.
    fn claim(&self, now: Now, tenant: &Tenant, person: &str, word: u64) -> Result<(Code, u64), u64> {
        match self.persons.entry(Key { tenant: tenant.number, name: Name::from(person) }) {
            Entry::Occupied(mut claims) => {
                *claims.get_mut() += 1;
                Ok((Code::AllowHeld, word))
            }
            Entry::Vacant(claims) => {
                let word = tenant.take(now.uptime_ms)?;
                claims.insert(1);
                Ok((Code::AllowNew, word))
            }
        }
    }

    /// A session that is there: another person's, a late message, or a renewal.
    fn known(
        &self,
        now: Now,
        tenant: &Tenant,
        message: &Acquire<'_>,
        session: &mut Session,
        changes: &mut impl Changes,
    ) -> Decision {
        let word = tenant.word.load(Ordering::Acquire);
        if Some(session.person.as_str()) != message.subject {
            return tenant.answer(Code::DenyConflict, Detail::None, word);
        }
        if session.is_newer_than(message.epoch, message.seq) {
            return tenant.answer(Code::IgnoreStale, Detail::None, word);
        }
        if let Some(epoch) = message.epoch {
            (session.epoch, session.seq) = (epoch, message.seq.unwrap_or(NONE));
        }
        let ttl_s = message.ttl_s.unwrap_or(session.ttl_s);
        session.deadline = now.uptime_ms + u64::from(ttl_s) * 1_000;
        if ttl_s != session.ttl_s {
            (session.ttl_s, session.version) = (ttl_s, tenant.next_version());
            changes.put(&session.record(tenant, message.session.unwrap_or_default()), false);
        }
        self.due_at(tenant, session.deadline);
        Decision {
            first: Some(session.first),
            ttl_ms: Some(u64::from(ttl_s) * 1_000),
            ..tenant.answer(Code::AllowSame, Detail::None, word)
        }
    }

    /// This ended.
    pub(crate) fn release(&self, now: Now, message: &Release<'_>, changes: &mut impl Changes) -> Decision {
        let Some(tenant) = self.tenants.get(message.tenant) else { return unknown() };
        let tenant = tenant.value();
        let mut outcome = None;
        let key: &dyn Named = &(tenant.number, message.session);
        self.sessions.remove_if(key, |_, session| {
            let is_late = session.is_newer_than(message.epoch, message.seq);
            outcome = Some(match is_late {
                true => (Code::IgnoreStale, None),
                false => self.end(now, tenant, message.session, session, changes),
            });
            !is_late
        });
        let (code, word) = outcome.unwrap_or((Code::ReleasedNone, None));
        tenant.answer(code, Detail::None, word.unwrap_or_else(|| tenant.word.load(Ordering::Acquire)))
    }

    /// Ends a session, and frees the seat with the last one of its person: the word right after that.
    fn end(
        &self,
        now: Now,
        tenant: &Tenant,
        name: &str,
        session: &Session,
        changes: &mut impl Changes,
    ) -> (Code, Option<u64>) {
        let mut freed = None;
        let person: &dyn Named = &(tenant.number, session.person.as_str());
        self.persons.remove_if_mut(person, |_, claims| {
            *claims -= 1;
            if *claims == 0 {
                freed = Some(tenant.free(now.uptime_ms));
            }
            *claims == 0
        });
        self.unreserve(tenant);
        self.count(session.version, session.kind, u32::MAX);
        changes.gone(&GoneRecord {
            tenant: &tenant.id,
            session: name,
            subject: &session.person,
            kind: session.kind,
            counts: true,
            reason: Reason::Node,
            freed: freed.is_some(),
            was_live: true,
            tombstone: None,
            version: tenant.next_version(),
        });
        (if freed.is_some() { Code::ReleasedLast } else { Code::ReleasedMore }, freed)
    }

    /// Seats held by a tenant, the peak, and the sum of seat time, milliseconds.
    pub(crate) fn seats(&self, now: Now, tenant: &str) -> Option<(u32, u32, u64)> {
        let tenant = self.tenants.get(tenant)?;
        let held = held(tenant.word.load(Ordering::Acquire));
        let seat_ms = tenant.seat_ms.load(Ordering::Acquire).wrapping_add(held * now.uptime_ms);
        Some((held as u32, tenant.peak.load(Ordering::Relaxed), seat_ms))
    }

    /// Persons who hold a seat, and sessions, of all tenants.
    pub(crate) fn kept(&self) -> (usize, usize) {
        let live: u32 = self
            .tally
            .iter()
            .flat_map(|cell| &cell.0)
            .fold(0, |sum, count| sum.wrapping_add(count.load(Ordering::Relaxed)));
        assert_eq!(live as usize, self.sessions.len(), "the tally of sessions");
        (self.persons.len(), self.sessions.len())
    }

    fn reserve(&self, tenant: &Tenant) -> bool {
        let before = tenant.sessions.fetch_add(1, Ordering::Relaxed);
        let in_all = if before.is_multiple_of(BLOCK) { self.in_all.fetch_add(BLOCK, Ordering::Relaxed) } else { 0 };
        if before < self.limits.sessions_per_tenant_max && in_all < self.limits.sessions_max {
            return true;
        }
        self.unreserve(tenant);
        false
    }

    fn unreserve(&self, tenant: &Tenant) {
        if (tenant.sessions.fetch_sub(1, Ordering::Relaxed) - 1).is_multiple_of(BLOCK) {
            self.in_all.fetch_sub(BLOCK, Ordering::Relaxed);
        }
    }

    fn count(&self, version: u64, kind: Kind, step: u32) {
        self.tally[version as usize % 16].0[kind as usize % 6].fetch_add(step, Ordering::Relaxed);
    }

    fn due_at(&self, tenant: &Tenant, deadline: u64) {
        lower(&tenant.due, deadline);
        lower(&self.due, deadline);
    }
}

/// True for a client, a mobile and a call that somebody starts, unless it is an emergency.
fn needs_seat(message: &Acquire<'_>, policy: &Policy) -> bool {
    let is_emergency = |to| emergency::is_emergency(to, &policy.emergency_numbers, &policy.trunk_prefix);
    if message.emergency || message.to.is_some_and(is_emergency) {
        return false;
    }
    match message.kind {
        Kind::Call => message.leg == Leg::Originate && message.direction != Some(Direction::Inbound),
        Kind::Desktop | Kind::Mobile | Kind::Guest => true,
        _ => false,
    }
}

fn unknown() -> Decision {
    Decision {
        code: Code::DenyUnknownTenant,
        detail: Detail::None,
        first: None,
        held: 0,
        quota: None,
        ttl_ms: None,
        retry_after_s: 60,
        sip_code: 403,
    }
}

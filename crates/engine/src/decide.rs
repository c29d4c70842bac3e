//! One request against one tenant: the order of checks D5, and what the answer changes.

use std::sync::Arc;

use super::ending::{put, record, watch};
use super::entry::{Flags, Life, NEVER, NO_NODE, Session, Stripe};
use super::node::{Directory, Node};
use super::plan::{Policy, Timers};
use super::rules::Need;
use super::seats::SeatState;
use super::session::{
    Acquire, Changes, Code, Decision, Detail, Direction, Fault, Kind, Name, Now, Stamp, TTL_SECONDS_MAX,
};
use super::subjects::SubjectRef;
use super::sync::Ordering;
use super::table::{Claim, ClaimTerms, Claimed, Tenant};

/// A message with everything that is looked up once: what it asks, of whom, under which keys.
pub(crate) struct Ask<'a> {
    pub(crate) now: Now,
    pub(crate) tenant: &'a Tenant,
    pub(crate) policy: &'a Policy,
    pub(crate) timers: &'a Timers,
    pub(crate) node: Option<&'a Arc<Node>>,
    pub(crate) directory: &'a Directory,
    /// Its id in this tenant's table.
    pub(crate) session: &'a str,
    /// Its subject in this tenant's table; empty for nobody.
    pub(crate) subject: &'a str,
    pub(crate) message: &'a Acquire<'a>,
    /// Its place in its node's order.
    pub(crate) stamp: Option<Stamp>,
    /// An inventory lists it that is newer than any tombstone of it (G9).
    pub(crate) listed: bool,
}

/// The effect of a message on the table, beside its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Nothing is stored of it.
    No,
    /// It is a session from now on.
    Fresh,
    /// It was one before.
    Known,
}

/// The table's knowledge of the session that is asked for.
enum Known {
    /// The answer follows from its entry alone.
    Answered(Decision, Stored),
    /// A live session that does not count stands in its place.
    Displaced,
    /// Nothing.
    Not,
}

impl Ask<'_> {
    pub(crate) fn node_index(&self) -> u32 {
        self.node.map_or(NO_NODE, |node| node.index)
    }

    /// The decision with the seats of `word`.
    pub(crate) fn answer(&self, code: Code, detail: Detail, word: SeatState) -> Decision {
        answer(self.policy, code, detail, word)
    }

    /// D5 for a request that needs no seat: always allowed, recorded where there is room.
    pub(crate) fn free(&self, detail: Detail, changes: &mut impl Changes) -> (Decision, Stored) {
        let mut decision = self.answer(Code::AllowFree, detail, self.tenant.seats.read());
        if self.session.is_empty() {
            return (decision, Stored::No);
        }
        let hash = self.tenant.hash(self.session);
        let mut stripe = self.tenant.stripe(hash).lock();
        self.mark_node();
        if self.node.is_some_and(|node| node.is_past(self.message.epoch)) {
            return (decision, Stored::No);
        }
        let node = self.node_index();
        let now_ms = self.now.uptime_ms;
        match stripe.find(hash, self.session) {
            Some(entry) if entry.is_live() && entry.counts() => return (decision, Stored::Known),
            Some(entry) if entry.is_live() => {
                decision.ttl_ms = match entry.is_newer_than(node, self.order()) {
                    true => self.life_ms(entry.kind, entry.deadline),
                    false => self.renew(hash, &mut stripe, changes),
                };
                return (decision, Stored::Known);
            }
            Some(tombstone) if !self.listed && tombstone.blocks(node, self.stamp, now_ms) => {
                return (decision, Stored::No);
            }
            _ => {}
        }
        if !self.tenant.reserve_session() {
            return (decision, Stored::No);
        }
        let subject = self.tenant.refer(self.subject);
        if let Some(channel) = self.channel() {
            self.tenant.hot.channels[channel].fetch_add(1, Ordering::Relaxed);
        }
        decision.ttl_ms = self.insert(&mut stripe, hash, Code::AllowFree, subject, "", changes);
        (decision, Stored::Fresh)
    }

    /// Decides a request that needs a seat, from "claim id known" on (D5).
    ///
    /// # Errors
    /// `ttl_s` is missing: the node has no lease that would end the claim (E3).
    pub(crate) fn seat(
        &self,
        never_deny: bool,
        lifeline: bool,
        changes: &mut impl Changes,
    ) -> Result<(Decision, Stored), Fault> {
        self.check_life()?;
        let hash = self.tenant.hash(self.session);
        let mut stripe = self.tenant.stripe(hash).lock();
        self.mark_node();
        let replaces = match self.known(&mut stripe, hash, changes) {
            Known::Answered(decision, stored) => return Ok((decision, stored)),
            Known::Displaced => true,
            Known::Not => false,
        };
        let word = self.tenant.seats.read();
        if word.standing() != 0 && !self.message.existing {
            drop(stripe);
            if lifeline {
                return Ok(self.free(Detail::Lifeline, changes));
            }
            return Ok((self.denied(Code::DenyInactive, inactive_detail(word), word), Stored::No));
        }
        if !replaces && !self.tenant.reserve_session() {
            return Ok((self.limited(never_deny, lifeline, word), Stored::No));
        }
        let claim = self.tenant.claim(self.now.uptime_ms, &self.claim_terms(never_deny));
        let code = match claim.claimed {
            Claimed::New => Code::AllowNew,
            Claimed::Held => Code::AllowHeld,
            Claimed::Over => Code::AllowOver,
            Claimed::Full(_) | Claimed::Inactive => {
                if !replaces {
                    self.tenant.unreserve_session();
                }
                return Ok((self.refused(&claim, lifeline), Stored::No));
            }
        };
        if replaces {
            self.displace(&mut stripe, hash);
        }
        let group = self.tenant.group_name(claim.group);
        let mut decision = self.answer(code, Detail::None, claim.word);
        decision.ttl_ms = self.insert(&mut stripe, hash, code, claim.subject, &group, changes);
        Ok((decision, Stored::Fresh))
    }

    /// The daemon's limit on sessions is reached: what runs already and lifelines go on unrecorded, others
    /// are denied, for want of a seat if that is so.
    fn limited(&self, never_deny: bool, lifeline: bool, word: SeatState) -> Decision {
        if lifeline || self.message.existing {
            return self.answer(Code::AllowOver, Detail::Limit, word);
        }
        let outlook = self.tenant.peek(&self.claim_terms(never_deny));
        match outlook.claimed {
            Claimed::Full(_) | Claimed::Inactive => self.refused(&outlook, lifeline),
            _ => self.denied(Code::DenyFull, Detail::Limit, word),
        }
    }

    /// A known claim, a late message, or a tombstone: everything that is answered from the entry alone.
    fn known(&self, stripe: &mut Stripe, hash: u64, changes: &mut impl Changes) -> Known {
        let past = self.node.is_some_and(|node| node.is_past(self.message.epoch));
        let node = self.node_index();
        let entry = stripe.find(hash, self.session);
        let word = self.tenant.seats.read();
        let stale = || Known::Answered(self.answer(Code::IgnoreStale, Detail::None, word), Stored::No);
        match entry {
            Some(entry) if entry.is_live() && entry.counts() => {
                if !self.tenant.is_subject(entry.subject, self.subject) {
                    return Known::Answered(self.denied(Code::DenyConflict, Detail::None, word), Stored::No);
                }
                if past || entry.is_newer_than(node, self.order()) {
                    return stale();
                }
                let mut decision = self.answer(Code::AllowSame, Detail::None, word);
                decision.first = Some(entry.first);
                decision.ttl_ms = self.renew(hash, stripe, changes);
                Known::Answered(decision, Stored::Known)
            }
            Some(entry) if !self.listed && !entry.is_live() && entry.blocks(node, self.stamp, self.now.uptime_ms) => {
                stale()
            }
            _ if past => stale(),
            Some(entry) if entry.is_live() => Known::Displaced,
            _ => Known::Not,
        }
    }

    /// A denial; want of a seat is counted for the tenant.
    fn denied(&self, code: Code, detail: Detail, word: SeatState) -> Decision {
        if code != Code::DenyConflict {
            self.tenant.hot.denials.fetch_add(1, Ordering::Relaxed);
        }
        self.answer(code, detail, word)
    }

    fn refused(&self, claim: &Claim, lifeline: bool) -> Decision {
        match claim.claimed {
            Claimed::Full(detail) => self.denied(Code::DenyFull, detail, claim.word),
            // The standing changed between two looks at it: a lifeline is free then (C18).
            _ if lifeline => self.answer(Code::AllowFree, Detail::Lifeline, claim.word),
            _ => self.denied(Code::DenyInactive, inactive_detail(claim.word), claim.word),
        }
    }

    /// Checks that something will end the claim if nobody does (E3).
    fn check_life(&self) -> Result<(), Fault> {
        if self.subject.is_empty() {
            return Err(Fault::new("subject", "is required: this counts, and somebody must hold the seat"));
        }
        let lives = self.message.kind == Kind::Mobile
            || self.message.ttl_s.is_some()
            || self.node.is_some_and(|node| node.is_leased());
        if lives { Ok(()) } else { Err(TTL_NEEDED) }
    }

    fn claim_terms(&self, never_deny: bool) -> ClaimTerms<'_> {
        let message = self.message;
        let over = never_deny || message.existing;
        let enforced = self.policy.channels_enforce && message.is_external() && !over;
        ClaimTerms {
            subject: self.subject,
            group: message.group,
            over,
            inactive: message.existing,
            channels_by: enforced.then_some(self.policy),
            channel: self.channel(),
        }
    }

    /// The trunk line that the session uses: 0 inbound, 1 outbound (L3).
    fn channel(&self) -> Option<usize> {
        let inbound = self.message.direction == Some(Direction::Inbound);
        self.message.is_external().then_some(usize::from(!inbound))
    }

    /// Remembers that this node has sessions here, before its epoch is looked at: a sweep that begins a new
    /// epoch either finds this tenant or is seen here.
    pub(crate) fn mark_node(&self) {
        let Some(node) = self.node else { return };
        let bit = 1u64 << (node.index % 64);
        if self.tenant.hot.nodes.load(Ordering::SeqCst) & bit == 0 {
            self.tenant.hot.nodes.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// The instant at which the session ends by itself, apart from its node's lease.
    fn deadline(&self, kind: Kind, ttl_s: u32) -> u64 {
        let now_ms = self.now.uptime_ms;
        match kind {
            Kind::Mobile if self.policy.mobile_offline_ms > 0 => now_ms.saturating_add(self.policy.mobile_offline_ms),
            Kind::Mobile => NEVER,
            _ if ttl_s > 0 => now_ms + u64::from(ttl_s) * 1_000,
            _ => NEVER,
        }
    }

    /// The life that a session is stored with: what it asks, or the longest where nothing else would end it.
    fn ttl_s(&self, kind: Kind) -> u32 {
        if kind == Kind::Mobile {
            return 0;
        }
        let leased = self.node.is_some_and(|node| node.is_leased());
        self.message.ttl_s.unwrap_or(if leased { 0 } else { TTL_SECONDS_MAX })
    }

    fn insert(
        &self,
        stripe: &mut Stripe,
        hash: u64,
        first: Code,
        subject: SubjectRef,
        group: &str,
        changes: &mut impl Changes,
    ) -> Option<u64> {
        let message = self.message;
        let counts = !matches!(first, Code::AllowFree);
        let ttl_s = self.ttl_s(message.kind);
        let version = stripe.next_version();
        let mut session = Session {
            name: Name::from(self.session),
            subject,
            epoch: 0,
            seq: 0,
            deadline: self.deadline(message.kind, ttl_s),
            version,
            started_utc_ms: self.now.utc_ms,
            node: self.node_index(),
            ttl_s,
            kind: message.kind,
            direction: message.direction,
            leg: message.leg,
            device: message.device,
            class: message.class,
            first,
            life: Life::Live,
            flags: Flags::new(counts, message.is_external()),
        };
        let (epoch, seq) = self.order();
        session.set_order(epoch, seq);
        self.tenant.tally(hash, message.kind, counts, true);
        let node = self.directory.name(session.node);
        let node = if node.is_empty() { message.node.filter(|_| self.node.is_some()).unwrap_or("") } else { node };
        changes.put(&record(&self.tenant.id, &session, self.subject, group, node), true);
        let life_ms = self.life_ms(session.kind, session.deadline);
        put(self.tenant, stripe, hash, session);
        life_ms
    }

    pub(crate) fn order(&self) -> (Option<u64>, Option<u64>) {
        match self.stamp {
            Some(stamp) => (Some(stamp.epoch), Some(stamp.seq)),
            None => (self.message.epoch, None),
        }
    }

    /// A known session was heard of again (G1, G6); answers how long it lives, milliseconds.
    pub(crate) fn renew(&self, hash: u64, stripe: &mut Stripe, changes: &mut impl Changes) -> Option<u64> {
        let node = self.node_index();
        let entry = stripe.find(hash, self.session)?;
        let moved = entry.node != node;
        let recorded = (entry.ttl_s, entry.node);
        entry.life = Life::Live;
        entry.node = node;
        if moved || self.stamp.is_some() {
            let (epoch, seq) = self.order();
            entry.set_order(epoch, seq);
        }
        if let (Some(ttl_s), true) = (self.message.ttl_s, entry.kind != Kind::Mobile) {
            entry.ttl_s = ttl_s;
        } else if entry.ttl_s == 0 {
            entry.ttl_s = self.ttl_s(entry.kind);
        }
        entry.deadline = self.deadline(entry.kind, entry.ttl_s);
        let (kind, deadline, ttl_s) = (entry.kind, entry.deadline, entry.ttl_s);
        if recorded != (ttl_s, node) {
            rerecord(self, stripe, hash, changes);
        }
        watch(self.tenant, stripe, deadline);
        self.life_ms(kind, deadline)
    }

    /// Takes a session that did not count out of the way of a claim of the same id.
    fn displace(&self, stripe: &mut Stripe, hash: u64) {
        let Some(entry) = stripe.find(hash, self.session) else { return };
        let (kind, counts, subject) = (entry.kind, entry.counts(), entry.subject);
        if entry.external() {
            let inbound = entry.direction == Some(Direction::Inbound);
            self.tenant.hot.channels[usize::from(!inbound)].fetch_sub(1, Ordering::Relaxed);
        }
        self.tenant.unrefer(subject);
        self.tenant.tally(hash, kind, counts, false);
    }

    /// Milliseconds until a session of this kind and deadline ends unless renewed.
    fn life_ms(&self, kind: Kind, deadline: u64) -> Option<u64> {
        let now_ms = self.now.uptime_ms;
        let mut ends = deadline;
        if kind != Kind::Mobile && self.node.is_some_and(|node| node.is_leased()) {
            ends = ends.min(now_ms + self.timers.lease_ms);
        }
        (ends != NEVER).then(|| ends.saturating_sub(now_ms))
    }
}

/// Decides a request of this need in a known tenant.
pub(crate) fn acquire(ask: &Ask<'_>, need: Need, changes: &mut impl Changes) -> Result<(Decision, Stored), Fault> {
    match need {
        Need::Emergency => Ok((ask.answer(Code::AllowFree, Detail::Emergency, ask.tenant.seats.read()), Stored::No)),
        Need::Free(detail) => Ok(ask.free(detail, changes)),
        Need::Seat { never_deny, lifeline } => ask.seat(never_deny, lifeline, changes),
    }
}

/// Records a session again: something of it changed that must outlive a restart.
pub(crate) fn rerecord(ask: &Ask<'_>, stripe: &mut Stripe, hash: u64, changes: &mut impl Changes) {
    let version = stripe.next_version();
    let Some(entry) = stripe.find(hash, ask.session) else { return };
    let (subject, group) = ask.tenant.subject_and_group(entry.subject);
    let group = ask.tenant.group_name(group);
    entry.version = version;
    let node = ask.node.map_or("", |node| &node.name);
    changes.put(&record(&ask.tenant.id, entry, &subject, &group, node), false);
}

/// The decision of a policy with the seats of a word.
pub(crate) fn answer(policy: &Policy, code: Code, detail: Detail, word: SeatState) -> Decision {
    Decision {
        code,
        detail,
        first: None,
        held: word.held(),
        quota: word.quota(),
        ttl_ms: None,
        retry_after_s: policy.retry_after_s,
        sip_code: policy.sip_code,
    }
}

fn inactive_detail(word: SeatState) -> Detail {
    match word.standing() {
        1 => Detail::Suspended,
        2 => Detail::Stale,
        _ => Detail::Ended,
    }
}

/// The fault of a claim that nothing would end (E3).
pub(crate) const TTL_NEEDED: Fault = Fault::new(
    "ttl_s",
    "is required: 1 to 86400 seconds. This node never said hello and so has no lease that would end the session",
);

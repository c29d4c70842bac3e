//! One request against one tenant: the order of checks D5, and what the answer changes.

use std::sync::Arc;

use super::cell::{Life, NEVER, NO_NODE, RecordNames};
use super::ending::{displace, place};
use super::gate::{GroupId, NO_GROUP};
use super::key::{Asked, UUID_TEXT};
use super::node::{Directory, Node};
use super::plan::{Policy, Timers};
use super::rules::Need;
use super::seats::SeatState;
use super::session::{Acquire, Changes, Code, Decision, Detail, Direction, Fault, Kind, Now, Stamp, TTL_SECONDS_MAX};
use super::stripes::Hold;
use super::sync::Ordering;
use super::table::{Claim, ClaimTerms, Claimed, Tenant};

/// Whom a message concerns, and who sent it: everything that is looked up once.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) tenant: &'a Tenant,
    pub(crate) policy: &'a Policy,
    pub(crate) timers: &'a Timers,
    pub(crate) node: Option<&'a Arc<Node>>,
    pub(crate) directory: &'a Directory,
    /// Its session's id in this tenant's table.
    pub(crate) session: Asked<'a>,
}

/// A request with its context.
pub(crate) struct Ask<'a> {
    pub(crate) context: Context<'a>,
    /// Its subject in this tenant's table; empty for nobody.
    pub(crate) subject: Asked<'a>,
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

impl Context<'_> {
    pub(crate) fn node_index(&self) -> u32 {
        self.node.map_or(NO_NODE, |node| node.index)
    }

    /// The decision with the seats of `word`.
    pub(crate) fn answer(&self, code: Code, detail: Detail, word: SeatState) -> Decision {
        answer(self.policy, code, detail, word)
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
}

impl Ask<'_> {
    /// D5 for a request that needs no seat: always allowed, recorded where there is room.
    pub(crate) fn free(&self, detail: Detail, changes: &mut impl Changes) -> (Decision, Stored) {
        let mut decision = self.context.answer(Code::AllowFree, detail, self.context.tenant.seats.read());
        if self.context.session.is_empty() {
            return (decision, Stored::No);
        }
        let mut hold = self.context.tenant.hold(&self.context.session);
        self.context.mark_node();
        if self.context.node.is_some_and(|node| node.is_past(self.message.epoch)) {
            return (decision, Stored::No);
        }
        let node = self.context.node_index();
        if let Some(at) = hold.find(&self.context.session) {
            let session = hold.here().cell(at);
            if !session.counts() {
                decision.ttl_ms = match session.is_newer_than(node, self.order()) {
                    true => self.life_ms(session.kind, session.deadline),
                    false => self.renew(&mut hold, at, changes),
                };
            }
            return (decision, Stored::Known);
        }
        if self.is_kept_out(&mut hold) || !self.context.tenant.reserve_session(&hold) {
            return (decision, Stored::No);
        }
        let home = self.context.tenant.refer(&mut hold, &self.subject);
        if let Some(channel) = self.channel() {
            self.context.tenant.use_channel(&hold, channel);
        }
        decision.ttl_ms = self.insert(&mut hold, Code::AllowFree, home, NO_GROUP, changes);
        (decision, Stored::Fresh)
    }

    /// True if a tombstone keeps the message out (G5).
    fn is_kept_out(&self, hold: &mut Hold<'_>) -> bool {
        let tombstone = if self.listed { None } else { hold.ids().tombstone(&self.context.session) };
        tombstone.is_some_and(|tombstone| {
            tombstone.blocks(self.context.node_index(), self.stamp, self.context.now.uptime_ms)
        })
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
        let mut hold = self.context.tenant.hold(&self.context.session);
        self.context.mark_node();
        let replaces = match self.known(&mut hold, changes) {
            Known::Answered(decision, stored) => return Ok((decision, stored)),
            Known::Displaced => true,
            Known::Not => false,
        };
        let word = self.context.tenant.seats.read();
        if word.standing() != 0 && !self.message.existing {
            drop(hold);
            if lifeline {
                return Ok(self.free(Detail::Lifeline, changes));
            }
            return Ok((self.denied(Code::DenyInactive, inactive_detail(word), word), Stored::No));
        }
        if !replaces && !self.context.tenant.reserve_session(&hold) {
            return Ok((self.limited(&mut hold, never_deny, lifeline, word), Stored::No));
        }
        let claim = self.context.tenant.claim(&mut hold, self.context.now.uptime_ms, &self.claim_terms(never_deny));
        let code = match claim.claimed {
            Claimed::New => Code::AllowNew,
            Claimed::Held => Code::AllowHeld,
            Claimed::Over => Code::AllowOver,
            Claimed::Full(_) | Claimed::Inactive => {
                if !replaces {
                    self.context.tenant.unreserve_session(&hold);
                }
                return Ok((self.refused(&claim, lifeline), Stored::No));
            }
        };
        let mut home = Some(claim.home);
        if replaces {
            displace(self.context.tenant, &mut hold, &self.context.session);
            home = hold.enter(self.subject.route()).find_home(&self.subject);
        }
        let mut decision = self.context.answer(code, Detail::None, claim.word);
        decision.ttl_ms = self.insert(&mut hold, code, home, claim.group, changes);
        Ok((decision, Stored::Fresh))
    }

    /// The daemon's limit on sessions is reached: what runs already and lifelines go on unrecorded, others
    /// are denied, for want of a seat if that is so.
    fn limited(&self, hold: &mut Hold<'_>, never_deny: bool, lifeline: bool, word: SeatState) -> Decision {
        if lifeline || self.message.existing {
            return self.context.answer(Code::AllowOver, Detail::Limit, word);
        }
        let outlook = self.context.tenant.peek(hold, &self.claim_terms(never_deny));
        match outlook.claimed {
            Claimed::Full(_) | Claimed::Inactive => self.refused(&outlook, lifeline),
            _ => self.denied(Code::DenyFull, Detail::Limit, word),
        }
    }

    /// A known claim, a late message, or a tombstone: everything that is answered from the session alone.
    fn known(&self, hold: &mut Hold<'_>, changes: &mut impl Changes) -> Known {
        let past = self.context.node.is_some_and(|node| node.is_past(self.message.epoch));
        let word = self.context.tenant.seats.read();
        let stale = || Known::Answered(self.context.answer(Code::IgnoreStale, Detail::None, word), Stored::No);
        let Some(at) = hold.find(&self.context.session) else {
            return if past || self.is_kept_out(hold) { stale() } else { Known::Not };
        };
        let session = hold.here().cell(at);
        if session.counts() && !self.subject.is(&session.subject) {
            return Known::Answered(self.denied(Code::DenyConflict, Detail::None, word), Stored::No);
        }
        if past || (session.counts() && session.is_newer_than(self.context.node_index(), self.order())) {
            return stale();
        }
        if !session.counts() {
            return Known::Displaced;
        }
        let mut decision = self.context.answer(Code::AllowSame, Detail::None, word);
        decision.first = Some(session.first);
        decision.ttl_ms = self.renew(hold, at, changes);
        Known::Answered(decision, Stored::Known)
    }

    /// A denial; want of a seat is counted for the tenant.
    fn denied(&self, code: Code, detail: Detail, word: SeatState) -> Decision {
        if code != Code::DenyConflict {
            self.context.tenant.hot.denials.fetch_add(1, Ordering::Relaxed);
        }
        self.context.answer(code, detail, word)
    }

    fn refused(&self, claim: &Claim, lifeline: bool) -> Decision {
        match claim.claimed {
            Claimed::Full(detail) => self.denied(Code::DenyFull, detail, claim.word),
            // The standing changed between two looks at it: a lifeline is free then (C18).
            _ if lifeline => self.context.answer(Code::AllowFree, Detail::Lifeline, claim.word),
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
            || self.context.node.is_some_and(|node| node.is_leased());
        if lives { Ok(()) } else { Err(TTL_NEEDED) }
    }

    fn claim_terms(&self, never_deny: bool) -> ClaimTerms<'_> {
        let message = self.message;
        let over = never_deny || message.existing;
        let enforced = self.context.policy.channels_enforce && message.is_external() && !over;
        ClaimTerms {
            subject: self.subject,
            group: message.group,
            over,
            inactive: message.existing,
            channels_by: enforced.then_some(self.context.policy),
            channel: self.channel(),
        }
    }

    /// The trunk line that the session uses: 0 inbound, 1 outbound (L3).
    fn channel(&self) -> Option<usize> {
        let inbound = self.message.direction == Some(Direction::Inbound);
        self.message.is_external().then_some(usize::from(!inbound))
    }

    /// The instant at which the session ends by itself, apart from its node's lease.
    fn deadline(&self, kind: Kind, ttl_s: u32) -> u64 {
        let now_ms = self.context.now.uptime_ms;
        match kind {
            Kind::Mobile if self.context.policy.mobile_offline_ms > 0 => {
                now_ms.saturating_add(self.context.policy.mobile_offline_ms)
            }
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
        let leased = self.context.node.is_some_and(|node| node.is_leased());
        self.message.ttl_s.unwrap_or(if leased { 0 } else { TTL_SECONDS_MAX })
    }

    /// Stores the session, its subject's home being in the part that was entered last; answers how long it lives.
    fn insert(
        &self,
        hold: &mut Hold<'_>,
        first: Code,
        home: Option<u32>,
        group: GroupId,
        changes: &mut impl Changes,
    ) -> Option<u64> {
        let Ask { context, message, .. } = self;
        let tenant = context.tenant;
        let ttl_s = self.ttl_s(message.kind);
        let version = hold.ids().next_version();
        let at = place(tenant, hold, &context.session, &self.subject, home, group);
        tenant.tally(hold, message.kind, first != Code::AllowFree, true);
        hold.settle(at, &context.session);
        let part = hold.here();
        let session = part.cell_mut(at);
        session.session = context.session.key();
        session.deadline = self.deadline(message.kind, ttl_s);
        session.version = version;
        session.started_utc_ms = context.now.utc_ms;
        session.node = context.node_index();
        session.ttl_s = ttl_s;
        session.kind = message.kind;
        session.direction = message.direction;
        session.leg = message.leg;
        session.device = message.device;
        session.class = message.class;
        session.first = first;
        session.life = Life::Live;
        session.set_uses(first != Code::AllowFree, message.is_external());
        let (epoch, seq) = self.order();
        session.set_order(epoch, seq);
        let node = context.directory.name(session.node);
        let node = if node.is_empty() { message.node.filter(|_| context.node.is_some()).unwrap_or("") } else { node };
        let group = tenant.group_name(group);
        let names = RecordNames { session: context.session.text, subject: self.subject.text, group: &group, node };
        changes.put(&session.record(&tenant.id, names), true);
        let deadline = session.deadline;
        tenant.watch(part, deadline);
        self.life_ms(message.kind, deadline)
    }

    pub(crate) fn order(&self) -> (Option<u64>, Option<u64>) {
        match self.stamp {
            Some(stamp) => (Some(stamp.epoch), Some(stamp.seq)),
            None => (self.message.epoch, None),
        }
    }

    /// A known session was heard of again (G1, G6), in a cell of the part that was entered last; answers how long it
    /// lives, milliseconds.
    pub(crate) fn renew(&self, hold: &mut Hold<'_>, at: u32, changes: &mut impl Changes) -> Option<u64> {
        let node = self.context.node_index();
        let part = hold.here();
        let session = part.cell_mut(at);
        let moved = session.node != node;
        let recorded = (session.ttl_s, session.node);
        session.life = Life::Live;
        session.node = node;
        if moved || self.stamp.is_some() {
            let (epoch, seq) = self.order();
            session.set_order(epoch, seq);
        }
        if let (Some(ttl_s), true) = (self.message.ttl_s, session.kind != Kind::Mobile) {
            session.ttl_s = ttl_s;
        } else if session.ttl_s == 0 {
            session.ttl_s = self.ttl_s(session.kind);
        }
        session.deadline = self.deadline(session.kind, session.ttl_s);
        let (kind, deadline, ttl_s) = (session.kind, session.deadline, session.ttl_s);
        self.context.tenant.watch(part, deadline);
        if recorded != (ttl_s, node) {
            rerecord(&self.context, hold, at, changes);
        }
        self.life_ms(kind, deadline)
    }

    /// Milliseconds until a session of this kind and deadline ends unless renewed.
    fn life_ms(&self, kind: Kind, deadline: u64) -> Option<u64> {
        let now_ms = self.context.now.uptime_ms;
        let mut ends = deadline;
        if kind != Kind::Mobile && self.context.node.is_some_and(|node| node.is_leased()) {
            ends = ends.min(now_ms + self.context.timers.lease_ms);
        }
        (ends != NEVER).then(|| ends.saturating_sub(now_ms))
    }
}

/// Decides a request of this need in a known tenant.
pub(crate) fn acquire(ask: &Ask<'_>, need: Need, changes: &mut impl Changes) -> Result<(Decision, Stored), Fault> {
    match need {
        Need::Emergency => {
            Ok((ask.context.answer(Code::AllowFree, Detail::Emergency, ask.context.tenant.seats.read()), Stored::No))
        }
        Need::Free(detail) => Ok(ask.free(detail, changes)),
        Need::Seat { never_deny, lifeline } => ask.seat(never_deny, lifeline, changes),
    }
}

/// Records the session of a cell again: something of it changed that must outlive a restart.
pub(crate) fn rerecord(context: &Context<'_>, hold: &mut Hold<'_>, at: u32, changes: &mut impl Changes) {
    let version = hold.ids().next_version();
    let session = hold.here().cell_mut(at);
    session.version = version;
    let node = context.node.map_or("", |node| &node.name);
    let group = context.tenant.group_name(session.group);
    let mut room = [0; UUID_TEXT];
    let subject = session.subject.text(&mut room);
    let names = RecordNames { session: context.session.text, subject, group: &group, node };
    changes.put(&session.record(&context.tenant.id, names), false);
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

//! Why a request would be answered as it would be: the order of checks D5, told step by step.

use super::cell::Cell;
use super::holds::Work;
use super::rules::{self, Need};
use super::session::{Acquire, Code, Detail, Kind, Now};
use super::sync::Ordering;
use super::table::{Claim, ClaimTerms, Claimed, Tenant};
use super::{Engine, Slot, Stamp, World, name_in_default_tenant};

/// One rule that was consulted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which rule of the rule book.
    pub rule: &'static str,
    /// The facts that were looked at.
    pub input: String,
    /// The conclusion from them.
    pub outcome: String,
}

/// The answer that a request would get, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The code it would get.
    pub code: Code,
    /// The word that goes with it.
    pub detail: Detail,
    /// Seats held now.
    pub held: u32,
    /// The quota now; `None` is unlimited.
    pub quota: Option<u32>,
    /// Each rule in the order D5, up to the one that decided.
    pub steps: Vec<Step>,
    /// Sessions that hold seats, by kind.
    pub holders: Vec<(Kind, u32)>,
    /// Uptime milliseconds of the earliest end that is known of a session that holds a seat.
    pub frees_next_ms: Option<u64>,
    /// Changes that would make it succeed; empty where it does.
    pub would_allow: Vec<String>,
}

/// The steps that are recorded while the checks are walked through.
#[derive(Default)]
struct Trace(Vec<Step>);

impl Trace {
    fn step(&mut self, rule: &'static str, input: impl Into<String>, outcome: impl Into<String>) {
        self.0.push(Step { rule, input: input.into(), outcome: outcome.into() });
    }
}

impl Engine {
    /// The answer that [`Engine::acquire`] would give now, and why; changes nothing.
    pub fn explain(&self, now: Now, message: &Acquire<'_>) -> Explanation {
        let world = self.world.load();
        let mut trace = Trace::default();
        let slot = world.tenants.get(message.tenant);
        let (code, detail) = self.verdict(now, &world, slot, message, &mut trace);
        let seats = slot.or_else(|| world.default_slot()).map(|slot| slot.tenant.seats.read());
        let mut explanation = Explanation {
            code,
            detail,
            held: seats.map_or(0, |word| word.held()),
            quota: seats.map_or(Some(0), |word| word.quota()),
            steps: trace.0,
            holders: Vec::new(),
            frees_next_ms: None,
            would_allow: would_allow(code, detail),
        };
        if let Some(slot) = slot.or_else(|| world.default_slot()) {
            (explanation.holders, explanation.frees_next_ms) = holders(&slot.tenant);
        }
        explanation
    }

    fn verdict(
        &self,
        now: Now,
        world: &World,
        slot: Option<&Slot>,
        message: &Acquire<'_>,
        trace: &mut Trace,
    ) -> (Code, Detail) {
        let policy = slot.map_or(&world.unknown, |slot| &slot.policy);
        let need = rules::need(message, policy);
        let dialled = message.to.unwrap_or("nothing");
        if need == Need::Emergency {
            trace.step(
                "C14",
                format!("flag {}, dialled {dialled}", message.emergency),
                "an emergency call: always allowed",
            );
            return (Code::AllowFree, Detail::Emergency);
        }
        trace.step("C14", format!("flag {}, dialled {dialled}", message.emergency), "not an emergency call");
        let class = format!(
            "kind {}, direction {}, leg {}",
            message.kind,
            message.direction.map_or("none", |d| d.as_str()),
            message.leg
        );
        let (never_deny, lifeline) = match need {
            Need::Seat { never_deny, lifeline } => (never_deny, lifeline),
            Need::Free(detail) => {
                trace.step("C1 C5 C12 C13 B4 B6 B7 C4", class, format!("free: {detail}"));
                return (Code::AllowFree, detail);
            }
            Need::Emergency => return (Code::AllowFree, Detail::Emergency),
        };
        trace.step("C1 C5 C12 C13 B4 B6 B7 C4", class, "needs a seat for its subject");
        let Some(home) = slot.or_else(|| world.default_slot()) else {
            trace.step("D4", format!("tenant {}", message.tenant), "not configured, and no default tenant");
            return (Code::DenyUnknownTenant, Detail::None);
        };
        let (mut subject, mut session) =
            (message.subject.unwrap_or("").to_owned(), message.session.unwrap_or("").to_owned());
        if slot.is_none() {
            trace.step(
                "D4",
                format!("tenant {}", message.tenant),
                format!("not configured: decided in {}", home.tenant.id),
            );
            subject = name_in_default_tenant(message.tenant, &subject);
            session = name_in_default_tenant(message.tenant, &session);
        } else {
            trace.step("D4", format!("tenant {}", message.tenant), "configured");
        }
        if let Some(known) = self.known(now, home, message, &subject, &session, trace) {
            return known;
        }
        self.seat_outlook(home, message, (&session, &subject), (never_deny, lifeline), trace)
    }

    /// Claim id, epoch and tombstone.
    fn known(
        &self,
        now: Now,
        slot: &Slot,
        message: &Acquire<'_>,
        subject: &str,
        session: &str,
        trace: &mut Trace,
    ) -> Option<(Code, Detail)> {
        let directory = self.nodes.directory();
        let node = message.node.and_then(|name| directory.find(name));
        let index = node.map_or(super::cell::NO_NODE, |node| node.index);
        let past = node.is_some_and(|node| node.is_past(message.epoch));
        let stamp: Option<Stamp> = message.stamp();
        let tenant = &slot.tenant;
        let (id, subject) = (tenant.asked(session), tenant.asked(subject));
        let mut hold = tenant.hold(&id);
        let live = hold.find(&id).map(|at| hold.here().cell(at).clone());
        let released = hold.ids().tombstone(&id).is_some_and(|tombstone| tombstone.blocks(index, stamp, now.uptime_ms));
        drop(hold);
        if let Some(live) = live.filter(Cell::counts) {
            let verdict = if !subject.is(&live.subject) {
                (Code::DenyConflict, Detail::None)
            } else if past || live.is_newer_than(index, (message.epoch, message.seq)) {
                (Code::IgnoreStale, Detail::None)
            } else {
                (Code::AllowSame, Detail::None)
            };
            trace.step("G1 G4 G5", format!("session {session} is live"), verdict.0.as_str());
            return Some(verdict);
        }
        if released {
            trace.step("G5", format!("session {session} was released by a newer message"), Code::IgnoreStale.as_str());
            return Some((Code::IgnoreStale, Detail::None));
        }
        trace.step("G1 G4 G5", format!("session {session}"), "not known as a claim");
        if past {
            trace.step("G5 G8", "the message comes from before its node's last start", Code::IgnoreStale.as_str());
            return Some((Code::IgnoreStale, Detail::None));
        }
        None
    }

    fn seat_outlook(
        &self,
        slot: &Slot,
        message: &Acquire<'_>,
        (session, subject): (&str, &str),
        (never_deny, lifeline): (bool, bool),
        trace: &mut Trace,
    ) -> (Code, Detail) {
        let tenant = &slot.tenant;
        let word = tenant.seats.read();
        let standing = super::Standing::from_number(word.standing()).unwrap_or(super::Standing::Active);
        if word.standing() != 0 && !message.existing {
            if lifeline {
                trace.step("C18", format!("subscription {standing}"), "a lifeline is free");
                return (Code::AllowFree, Detail::Lifeline);
            }
            trace.step("J5 J6 J7", format!("subscription {standing}"), "no new claims");
            let detail = Detail::from_word(standing.as_str()).unwrap_or(Detail::Ended);
            return (Code::DenyInactive, detail);
        }
        trace.step("J5 J6 J7", format!("subscription {standing}, existing {}", message.existing), "goes on");
        let over = never_deny || message.existing;
        let enforced = slot.policy.channels_enforce && message.is_external() && !over;
        let terms = ClaimTerms {
            subject: tenant.asked(subject),
            group: message.group,
            over,
            inactive: message.existing,
            channels_by: enforced.then_some(&*slot.policy),
            channel: None,
        };
        let (has_room, claim) = {
            let id = tenant.asked(session);
            let mut hold = tenant.hold(&id);
            (hold.find(&id).is_some(), tenant.peek(&mut hold, &terms))
        };
        let outlook = outlook(&claim, &terms, trace);
        let sessions = tenant.hot.sessions.load(Ordering::Relaxed);
        let limits = &self.shared.limits;
        let has_block = sessions & (self.shared.block - 1) != 0;
        let fits = has_block || self.shared.sessions.load(Ordering::Relaxed) < limits.sessions_max;
        if has_room || (sessions < limits.sessions_per_tenant_max && fits) {
            return outlook;
        }
        trace.step("limits", format!("{sessions} live sessions"), "the daemon's limit is reached");
        match outlook {
            _ if lifeline || message.existing => (Code::AllowOver, Detail::Limit),
            (code, _) if code.denies() => outlook,
            _ => (Code::DenyFull, Detail::Limit),
        }
    }
}

/// Trunk lines, seat of the subject, free seats.
fn outlook(outlook: &Claim, terms: &ClaimTerms<'_>, trace: &mut Trace) -> (Code, Detail) {
    let quota = outlook.word.quota().map_or("unlimited".to_owned(), |quota| quota.to_string());
    let seats = format!("{} of {quota} seats held", outlook.word.held());
    let subject = format!("subject {}", terms.subject.text);
    let (code, detail) = match outlook.claimed {
        Claimed::New => (Code::AllowNew, Detail::None),
        Claimed::Held => (Code::AllowHeld, Detail::None),
        Claimed::Over => (Code::AllowOver, Detail::None),
        Claimed::Full(detail) => (Code::DenyFull, detail),
        Claimed::Inactive => (Code::DenyInactive, Detail::None),
    };
    match (code, detail) {
        (Code::DenyFull, Detail::Channels) => trace.step("L3", "trunk lines", "all in use"),
        (Code::AllowHeld, _) => trace.step("D2", subject, "holds a seat already"),
        (Code::AllowNew, _) => {
            trace.step("D2", subject, "holds no seat");
            trace.step("D1 F6 F7", seats, "a seat is free");
        }
        (Code::AllowOver, _) => {
            trace.step("D2", subject, "holds no seat");
            trace.step("F3", seats, "admitted above what is full: already running, or a lifeline");
        }
        _ => {
            trace.step("D2", subject, "holds no seat");
            trace.step("D3 F6 F7", seats, format!("full: {detail}"));
        }
    }
    (code, detail)
}

fn holders(tenant: &Tenant) -> (Vec<(Kind, u32)>, Option<u64>) {
    let mut counts = [0u32; Kind::ALL.len()];
    let mut next = u64::MAX;
    tenant.each_part(Work::List, |part| {
        for session in part.sessions().filter(|session| session.counts()) {
            counts[session.kind as usize] += 1;
            next = next.min(session.deadline);
        }
    });
    let by_kind = Kind::ALL.iter().zip(counts).filter(|(_, count)| *count > 0).map(|(kind, count)| (*kind, count));
    (by_kind.collect(), (next != u64::MAX).then_some(next))
}

/// Changes that would turn a denial into an allow, in words.
fn would_allow(code: Code, detail: Detail) -> Vec<String> {
    let advice: &[&str] = match (code, detail) {
        (Code::DenyFull, Detail::Tenant) => &["a seat that is given back", "a larger quota"],
        (Code::DenyFull, Detail::Pool) => &["a seat that any tenant of the pool gives back", "a larger pool"],
        (Code::DenyFull, Detail::Reservation) => {
            &["a group that has seats reserved", "a smaller reservation", "a larger quota"]
        }
        (Code::DenyFull, Detail::Channels) => {
            &["a trunk line that becomes free", "channels_enforce = false", "a larger quota"]
        }
        (Code::DenyFull, _) => &["fewer live sessions", "a larger sessions_max or sessions_per_tenant_max in [server]"],
        (Code::DenyInactive, Detail::Suspended) => &["resuming the subscription"],
        (Code::DenyInactive, Detail::NoMajority) => &["a majority of the cluster's machines"],
        (Code::DenyInactive, Detail::Stale) => &["a sync that confirms the subscription"],
        (Code::DenyInactive, _) => &["a new subscription"],
        (Code::DenyUnknownTenant, _) => &["a tenant file for it", "a default_tenant in usherd.toml"],
        (Code::DenyConflict, _) => &["a session id of its own: this one belongs to another subject's live claim"],
        _ => &[],
    };
    advice.iter().map(|word| (*word).to_owned()).collect()
}

//! How entries come into the table and leave it: the one place that keeps counters, seats and records in step.

use super::entry::{Life, NEVER, Session, Stripe};
use super::node::Directory;
use super::seats::SeatState;
use super::session::{Changes, Direction, GoneRecord, Reason, SessionRecord, Stamp};
use super::subjects::SubjectRef;
use super::sync::Ordering;
use super::table::{Ended, Tenant};

/// How a session ends.
pub(crate) struct End {
    pub(crate) now_ms: u64,
    pub(crate) reason: Reason,
    /// The stamp that keeps its late messages out, if any does (G5).
    pub(crate) tombstone: Option<Stamp>,
    pub(crate) tombstone_until: u64,
    pub(crate) linger_until: Option<u64>,
}

/// Ends a live session by its name; the outcome is `None` where it held no seat.
pub(crate) fn end_entry(
    tenant: &Tenant,
    directory: &Directory,
    stripe: &mut Stripe,
    hash: u64,
    session: &str,
    end: &End,
    changes: &mut impl Changes,
) -> (Option<Ended>, SeatState) {
    let Stripe { entries, version, tombstones, .. } = stripe;
    let Ok(mut slot) = entries.find_entry(hash, |entry| entry.name == session) else {
        return (None, tenant.seats.read());
    };
    let outcome = end_session(tenant, directory, slot.get_mut(), version, end, changes);
    if slot.get().is_live() {
        slot.remove();
    } else {
        *tombstones += 1;
        tenant.hot.tombstones.fetch_add(1, Ordering::Relaxed);
        evict_tombstones(tenant, stripe);
    }
    outcome
}

/// Ends a live session where it stands. It is a tombstone afterwards, or still live: then its entry must go.
pub(crate) fn end_session(
    tenant: &Tenant,
    directory: &Directory,
    entry: &mut Session,
    version: &mut u64,
    end: &End,
    changes: &mut impl Changes,
) -> (Option<Ended>, SeatState) {
    if entry.external() {
        let inbound = entry.direction == Some(Direction::Inbound);
        tenant.hot.channels[usize::from(!inbound)].fetch_sub(1, Ordering::Relaxed);
    }
    let (ended, word, subject) = if entry.counts() {
        let (ended, word, name) = tenant.unclaim(end.now_ms, entry.subject, end.linger_until);
        (Some(ended), word, name)
    } else {
        (None, tenant.seats.read(), tenant.unrefer(entry.subject))
    };
    tenant.unreserve_session();
    tenant.tally(entry.version, entry.kind, entry.counts(), false);
    *version += 1;
    entry.version = *version;
    changes.gone(&GoneRecord {
        tenant: &tenant.id,
        session: &entry.name,
        subject: &subject,
        kind: entry.kind,
        counts: entry.counts(),
        reason: end.reason,
        freed: ended == Some(Ended::Last),
        was_live: true,
        tombstone: end.tombstone.map(|stamp| (directory.name(entry.node), stamp)),
        version: *version,
    });
    entry.subject = SubjectRef::NONE;
    if let Some(stamp) = end.tombstone {
        entry.life = Life::Tombstone;
        entry.deadline = end.tombstone_until;
        entry.set_order(Some(stamp.epoch), Some(stamp.seq));
    }
    (ended, word)
}

/// Puts an entry into its stripe, over a tombstone or a displaced session of the same name.
pub(crate) fn put(tenant: &Tenant, stripe: &mut Stripe, hash: u64, session: Session) {
    let deadline = if session.is_live() { session.deadline } else { NEVER };
    let fresh_tombstone = !session.is_live();
    if let Some(entry) = stripe.find(hash, &session.name) {
        let was_tombstone = !entry.is_live();
        *entry = session;
        if was_tombstone {
            stripe.tombstones -= 1;
            tenant.hot.tombstones.fetch_sub(1, Ordering::Relaxed);
        }
    } else {
        stripe.entries.insert_unique(hash, Box::new(session), |entry| tenant.hash(&entry.name));
    }
    if fresh_tombstone {
        stripe.tombstones += 1;
        tenant.hot.tombstones.fetch_add(1, Ordering::Relaxed);
        evict_tombstones(tenant, stripe);
    }
    watch(tenant, stripe, deadline);
}

/// Keeps the tombstones of a stripe within their limit: beyond it the older half goes.
fn evict_tombstones(tenant: &Tenant, stripe: &mut Stripe) {
    let stripes = tenant.stripes.len() as u32;
    let most = (tenant.shared.limits.tombstones_per_tenant_max / stripes).max(1);
    if stripe.tombstones <= most {
        return;
    }
    let standing = stripe.entries.iter().filter(|entry| !entry.is_live());
    let mut deadlines: Vec<u64> = standing.map(|entry| entry.deadline).collect();
    let middle = deadlines.len() / 2;
    let (_, median, _) = deadlines.select_nth_unstable(middle);
    let oldest_kept = *median;
    sweep_tombstones(tenant, stripe, oldest_kept.saturating_sub(1));
    if stripe.tombstones > most {
        // All of one instant: none is older than another.
        sweep_tombstones(tenant, stripe, oldest_kept);
    }
}

/// Drops the tombstones of a stripe whose time ended at or before an instant.
pub(crate) fn sweep_tombstones(tenant: &Tenant, stripe: &mut Stripe, until_ms: u64) {
    let before = stripe.entries.len();
    stripe.entries.retain(|entry| entry.is_live() || entry.deadline > until_ms);
    let swept = (before - stripe.entries.len()) as u32;
    stripe.tombstones -= swept;
    tenant.hot.tombstones.fetch_sub(swept, Ordering::Relaxed);
    if stripe.entries.capacity() > 64 && stripe.entries.len() * 4 < stripe.entries.capacity() {
        stripe.entries.shrink_to_fit(|entry| tenant.hash(&entry.name));
    }
}

/// Makes sure that the reaper looks at a stripe at an instant.
pub(crate) fn watch(tenant: &Tenant, stripe: &mut Stripe, deadline: u64) {
    if deadline < stripe.due {
        stripe.due = deadline;
        tenant.due_at(deadline);
    }
}

/// Everything that is recorded of a session.
pub(crate) fn record<'a>(
    tenant: &'a str,
    session: &'a Session,
    subject: &'a str,
    group: &'a str,
    node: &'a str,
) -> SessionRecord<'a> {
    SessionRecord {
        tenant,
        session: &session.name,
        subject,
        kind: session.kind,
        direction: session.direction,
        leg: session.leg,
        device: session.device,
        class: session.class,
        counts: session.counts(),
        external: session.external(),
        group,
        node,
        epoch: session.epoch(),
        seq: session.stamp().map(|stamp| stamp.seq),
        ttl_s: (session.ttl_s > 0).then_some(session.ttl_s),
        first: session.first,
        started_utc_ms: session.started_utc_ms,
        version: session.version,
    }
}

//! How sessions come into the table and leave it: the one place that keeps counters, seats and records in step.

use super::cell::Cell;
use super::gate::GroupId;
use super::ids::Tombstone;
use super::key::{Asked, UUID_TEXT};
use super::node::Directory;
use super::seats::SeatState;
use super::session::{Changes, GoneRecord, Reason, Stamp};
use super::stripes::Hold;
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

/// Ends the session of a cell in the part that was entered last; the outcome is `None` where it held no seat.
pub(crate) fn end_session(
    tenant: &Tenant,
    directory: &Directory,
    hold: &mut Hold<'_>,
    id: &Asked<'_>,
    at: u32,
    end: &End,
    changes: &mut impl Changes,
) -> (Option<Ended>, SeatState) {
    let version = hold.ids().next_version();
    let cell = hold.here().cell(at);
    let (counts, kind, node) = (cell.counts(), cell.kind, cell.node);
    tenant.free_channel(hold, at);
    tenant.unreserve_session(hold);
    tenant.tally(hold, kind, counts, false);
    let (apart, home) = home_of(tenant, hold, at);
    let part = hold.here();
    let ended = home.and_then(|home| tenant.unclaim(part, home, counts, end.linger_until));
    let session = apart.as_ref().unwrap_or_else(|| part.cell(at));
    changes.gone(&GoneRecord {
        tenant: &tenant.id,
        session: id.text,
        subject: session.subject.text(&mut [0; UUID_TEXT]),
        kind,
        counts,
        reason: end.reason,
        freed: ended == Some(Ended::Last),
        was_live: true,
        tombstone: end.tombstone.map(|stamp| (directory.name(node), stamp)),
        version,
    });
    let freed = home.filter(|_| ended == Some(Ended::Last)).map(|home| unseat(hold, home));
    let free = || freed.map_or_else(|| tenant.seats.read(), |group| tenant.free_seat(end.now_ms, group));
    let own = apart.is_none().then_some(at);
    let word = if cfg!(feature = "canary-release-order") {
        // The known bug: the subject goes first, so that somebody can see the seat gone and be refused it.
        remove(hold, id, own, home);
        hold.leave();
        std::thread::yield_now();
        free()
    } else {
        let word = free();
        remove(hold, id, own, home);
        word
    };
    if let Some(stamp) = end.tombstone {
        let session = id.key();
        let (until, id_route) = (end.tombstone_until, id.route());
        lay(tenant, hold, Tombstone { session, stamp, until, version, node, id_route, kind });
    }
    (ended, word)
}

/// Takes a session that did not count out of the way of a claim of the same id; nothing is told of it.
pub(crate) fn displace(tenant: &Tenant, hold: &mut Hold<'_>, id: &Asked<'_>) {
    let Some(at) = hold.find(id) else { return };
    let cell = hold.here().cell(at);
    let (kind, counts) = (cell.kind, cell.counts());
    tenant.free_channel(hold, at);
    tenant.tally(hold, kind, counts, false);
    let (apart, home) = home_of(tenant, hold, at);
    if let Some(home) = home {
        tenant.unclaim(hold.here(), home, counts, None);
    }
    remove(hold, id, apart.is_none().then_some(at), home);
}

/// Enters the part where the subject of a cell's session is at home; the home, if it has one, and a copy of the cell where
/// that is another.
fn home_of(tenant: &Tenant, hold: &mut Hold<'_>, at: u32) -> (Option<Cell>, Option<u32>) {
    let cell = hold.here().cell(at);
    if cell.is_home() || cell.subject.is_empty() {
        return (None, cell.is_home().then_some(at));
    }
    let cell = cell.clone();
    let mut room = [0; UUID_TEXT];
    let subject = tenant.asked(cell.subject.text(&mut room));
    let home = hold.enter(subject.route()).find_home(&subject);
    (Some(cell), home)
}

/// Takes the seat from a subject without a claim, at home in the part that was entered last; the group that it counted
/// for, for which it is to be freed.
fn unseat(hold: &mut Hold<'_>, home: u32) -> GroupId {
    let subject = hold.here().cell_mut(home);
    subject.set_seated(false);
    subject.group
}

/// Takes a session out of its cell, and its subject where that is not needed any more.
fn remove(hold: &mut Hold<'_>, id: &Asked<'_>, own: Option<u32>, home: Option<u32>) {
    if own.is_none()
        && let Some(home) = home
    {
        hold.here().forget_if_unused(home);
    }
    if let Some(at) = own.or_else(|| hold.find(id)) {
        hold.clear(at);
    }
}

/// A place for a session, in the part that is entered: its subject's home where that has none yet, else a cell of its
/// own. The session is to be put into it, and then to be settled.
pub(crate) fn place(
    tenant: &Tenant,
    hold: &mut Hold<'_>,
    id: &Asked<'_>,
    subject: &Asked<'_>,
    home: Option<u32>,
    group: GroupId,
) -> u32 {
    if hold.ids().lift(id) {
        tenant.hot.tombstones.fetch_sub(1, Ordering::Relaxed);
    }
    if let Some(home) = home
        && !hold.here().cell(home).is_live()
    {
        return home;
    }
    let part = hold.enter(id.route());
    let at = part.add(id.route());
    let cell = part.cell_mut(at);
    cell.subject = subject.key();
    cell.group = group;
    at
}

/// Lays a tombstone for an id that has none, and keeps the tenant within its limit: beyond it the older half goes.
pub(crate) fn lay(tenant: &Tenant, hold: &mut Hold<'_>, tombstone: Tombstone) {
    hold.ids().lay(tombstone);
    hold.laid();
    let standing = tenant.hot.tombstones.fetch_add(1, Ordering::Relaxed) + 1;
    if standing > tenant.shared.limits.tombstones_per_tenant_max.max(1) {
        tenant.hot.tombstones.fetch_sub(hold.ids().sweep_older_half(), Ordering::Relaxed);
    }
}

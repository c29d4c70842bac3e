//! The end of a session by its node: a release, before or after its acquire (E1, E2, E4, G5).

use super::decide::{Ask, rerecord};
use super::ending::{End, end_entry, put};
use super::entry::{Session, Stripe};
use super::session::{Changes, Code, Decision, Detail, Direction, GoneRecord, Kind, Reason, Release, Stamp};
use super::table::Ended;

/// Ends a session by its node (E1, E2, E4, G5).
pub(crate) fn release(ask: &Ask<'_>, message: &Release<'_>, changes: &mut impl Changes) -> Decision {
    let hash = ask.tenant.hash(ask.session);
    let mut guard = ask.tenant.stripe(hash).lock();
    let stripe = &mut *guard;
    let node = ask.node_index();
    let stamp = message.stamp();
    let word = ask.tenant.seats.read();
    let none = ask.answer(Code::ReleasedNone, Detail::None, word);
    let live = stripe.find(hash, ask.session).filter(|entry| entry.is_live());
    let Some(entry) = live else {
        lay_tombstone(ask, stripe, hash, stamp, changes);
        return none;
    };
    let foreign = message.node.is_some() && entry.node != node;
    if foreign || entry.is_newer_than(node, (message.epoch, message.seq)) {
        return ask.answer(Code::IgnoreStale, Detail::None, word);
    }
    let outbound = entry.kind == Kind::Call && entry.direction == Some(Direction::Outbound);
    if message.transferred && ask.policy.transfer_out_until_end && entry.counts() && outbound {
        if let Some(stamp) = stamp {
            entry.set_order(Some(stamp.epoch), Some(stamp.seq));
            rerecord(ask, stripe, hash, changes);
        }
        return ask.answer(Code::ReleasedMore, Detail::Linger, word);
    }
    let linger = ask.policy.seat_linger_ms;
    let end = End {
        now_ms: ask.now.uptime_ms,
        reason: Reason::Node,
        tombstone: stamp,
        tombstone_until: ask.now.uptime_ms + ask.timers.tombstone_ms,
        linger_until: (linger > 0).then(|| ask.now.uptime_ms + linger),
    };
    let (ended, word) = end_entry(ask.tenant, ask.directory, stripe, hash, ask.session, &end, changes);
    match ended {
        None => ask.answer(Code::ReleasedNone, Detail::None, word),
        Some(Ended::Last) => ask.answer(Code::ReleasedLast, Detail::None, word),
        Some(Ended::More) => ask.answer(Code::ReleasedMore, Detail::None, word),
        Some(Ended::Lingers) => ask.answer(Code::ReleasedMore, Detail::Linger, word),
    }
}

/// A release of something that is not there keeps its late acquire out (G5).
fn lay_tombstone(ask: &Ask<'_>, stripe: &mut Stripe, hash: u64, stamp: Option<Stamp>, changes: &mut impl Changes) {
    let Some(stamp) = stamp else { return };
    let node = ask.node_index();
    let now_ms = ask.now.uptime_ms;
    let until = now_ms + ask.timers.tombstone_ms;
    let version = stripe.next_version();
    let newest = match stripe.find(hash, ask.session) {
        Some(tombstone) => {
            let newest = match tombstone.stamp() {
                Some(own) if tombstone.node == node && tombstone.deadline > now_ms => own.max(stamp),
                _ => stamp,
            };
            tombstone.node = node;
            tombstone.deadline = until;
            tombstone.version = version;
            tombstone.set_order(Some(newest.epoch), Some(newest.seq));
            newest
        }
        None => {
            let mut tombstone = Session::tombstone(ask.session, node, stamp, until);
            tombstone.version = version;
            put(ask.tenant, stripe, hash, tombstone);
            stamp
        }
    };
    changes.gone(&GoneRecord {
        tenant: &ask.tenant.id,
        session: ask.session,
        subject: "",
        kind: Kind::Call,
        counts: false,
        reason: Reason::Node,
        freed: false,
        was_live: false,
        tombstone: Some((ask.node.map_or("", |node| &node.name), newest)),
        version,
    });
}

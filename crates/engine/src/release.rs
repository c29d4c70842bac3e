//! The end of a session by its node: a release, before or after its acquire (E1, E2, E4, G5).

use super::decide::{Context, rerecord};
use super::ending::{End, end_session, lay};
use super::ids::Tombstone;
use super::session::{Changes, Code, Decision, Detail, Direction, GoneRecord, Kind, Reason, Release, Stamp};
use super::stripes::Hold;
use super::table::Ended;

/// Ends a session by its node (E1, E2, E4, G5).
pub(crate) fn release(context: &Context<'_>, message: &Release<'_>, changes: &mut impl Changes) -> Decision {
    let mut hold = context.tenant.hold(&context.session);
    let node = context.node_index();
    let stamp = message.stamp();
    let word = context.tenant.seats.read();
    let Some(at) = hold.find(&context.session) else {
        lay_tombstone(context, &mut hold, stamp, changes);
        return context.answer(Code::ReleasedNone, Detail::None, word);
    };
    let session = hold.here().cell_mut(at);
    let foreign = message.node.is_some() && session.node != node;
    if foreign || session.is_newer_than(node, (message.epoch, message.seq)) {
        return context.answer(Code::IgnoreStale, Detail::None, word);
    }
    let outbound = session.kind == Kind::Call && session.direction == Some(Direction::Outbound);
    if message.transferred && context.policy.transfer_out_until_end && session.counts() && outbound {
        if let Some(stamp) = stamp {
            session.set_order(Some(stamp.epoch), Some(stamp.seq));
            rerecord(context, &mut hold, at, changes);
        }
        return context.answer(Code::ReleasedMore, Detail::Linger, word);
    }
    let linger = context.policy.seat_linger_ms;
    let end = End {
        now_ms: context.now.uptime_ms,
        reason: Reason::Node,
        tombstone: stamp,
        tombstone_until: context.now.uptime_ms + context.timers.tombstone_ms,
        linger_until: (linger > 0).then(|| context.now.uptime_ms + linger),
    };
    let (ended, word) = end_session(context.tenant, context.directory, &mut hold, &context.session, at, &end, changes);
    match ended {
        None => context.answer(Code::ReleasedNone, Detail::None, word),
        Some(Ended::Last) => context.answer(Code::ReleasedLast, Detail::None, word),
        Some(Ended::More) => context.answer(Code::ReleasedMore, Detail::None, word),
        Some(Ended::Lingers) => context.answer(Code::ReleasedMore, Detail::Linger, word),
    }
}

/// A release of something that is not there keeps its late acquire out (G5).
fn lay_tombstone(context: &Context<'_>, hold: &mut Hold<'_>, stamp: Option<Stamp>, changes: &mut impl Changes) {
    let Some(stamp) = stamp else { return };
    let node = context.node_index();
    let now_ms = context.now.uptime_ms;
    let until = now_ms + context.timers.tombstone_ms;
    let ids = hold.ids();
    let version = ids.next_version();
    let newest = match ids.tombstone(&context.session) {
        Some(tombstone) => {
            if tombstone.node != node || tombstone.until <= now_ms || tombstone.stamp < stamp {
                tombstone.stamp = stamp;
            }
            tombstone.node = node;
            tombstone.until = until;
            tombstone.version = version;
            tombstone.stamp
        }
        None => {
            let (session, id_route) = (context.session.key(), context.session.route());
            lay(context.tenant, hold, Tombstone { session, stamp, until, version, node, id_route, kind: Kind::Call });
            stamp
        }
    };
    changes.gone(&GoneRecord {
        tenant: &context.tenant.id,
        session: context.session.text,
        subject: "",
        kind: Kind::Call,
        counts: false,
        reason: Reason::Node,
        freed: false,
        was_live: false,
        tombstone: Some((context.node.map_or("", |node| &node.name), newest)),
        version,
    });
}

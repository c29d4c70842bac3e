//! Between the engine and the journal: what is put back at a start, and what a snapshot is made of.

use std::path::Path;

use usherd_engine::{Changes, GoneRecord, Now, RestoredTombstone, SessionRecord};

use crate::daemon::app::{Deciding, Journal};
use crate::daemon::journal::{Committer, Recovered};
use crate::daemon::sync::keeper::Keeper;

/// Puts back what the journal remembers; answers how many sessions there was no room for.
pub(super) fn restore(deciding: &Deciding, now: Now, recovered: &Recovered, tombstone_ms: u64) -> u32 {
    // A clock that stepped over the stop must not take tombstones away.
    let utc_ms = deciding.trusted_utc_ms(now);
    let tombstones: Vec<RestoredTombstone> = recovered
        .tombstones
        .iter()
        .filter_map(|tombstone| {
            let age_ms = u64::try_from(utc_ms.saturating_sub(tombstone.laid_utc_ms)).unwrap_or(0);
            let left_ms = tombstone_ms.checked_sub(age_ms).filter(|left| *left > 0)?;
            Some(RestoredTombstone {
                tenant: tombstone.tenant.clone(),
                session: tombstone.session.clone(),
                node: tombstone.node.clone(),
                stamp: tombstone.stamp,
                version: tombstone.version,
                left_ms,
            })
        })
        .collect();
    let sessions = recovered.sessions.iter().map(|session| session.record());
    deciding.engine.restore(now, sessions, &tombstones, &recovered.nodes, recovered.version_max)
}

/// Logs what a recovery found, and keeps what is damaged to be shown.
pub(super) fn tell_recovered(deciding: &Deciding, recovered: &Recovered, lost: u32, folder: &Path) {
    let (sessions, Recovered { records, bytes, .. }) = (recovered.sessions.len(), recovered);
    tracing::info!(sessions, records, bytes, folder = %folder.display(), "journal recovered");
    if let Some(cut) = &recovered.tail_cut {
        tracing::warn!(
            file = cut.file,
            offset = cut.offset,
            bytes = cut.bytes,
            "an interrupted write at the end of the journal was cut off; only where the disk was full or failing had it \
             been answered for"
        );
    }
    if recovered.ring_records > 0 {
        tracing::info!(turns = recovered.ring_records, "what waited for the disk was taken from the ring");
    }
    if recovered.ring_ignored > 0 {
        tracing::error!(
            turns = recovered.ring_ignored,
            "the ring does not go with the journal: somebody put an older one back; what waited in it is not used"
        );
    }
    if let Some(why) = &recovered.degraded {
        tracing::error!(why, set_aside = ?recovered.set_aside, "the journal is damaged: calls flow, nodes report their sessions again");
        let text = format!("the journal was damaged, sessions are learned again from the nodes: {why}");
        deciding.note_damage(text);
    }
    if lost > 0 {
        tracing::error!(lost, "sessions beyond sessions_max were not restored");
    }
}

/// Writes what the engine holds as the journal's next snapshot.
pub(super) fn checkpoint(deciding: &Deciding, keeper: &Keeper, committer: &Committer<Journal>) {
    /// The engine's snapshot on its way into the journal's.
    struct Live<'f, F>(&'f mut F);
    impl<F: Changes> Changes for Live<'_, F> {
        fn put(&mut self, session: &SessionRecord<'_>, fresh: bool) {
            self.0.put(session, fresh);
        }
        fn gone(&mut self, gone: &GoneRecord<'_>) {
            self.0.gone(gone);
        }
        fn node(&mut self, node: &str, epoch: u64) {
            self.0.node(node, epoch);
        }
    }
    let now = deciding.clock.now();
    let done = committer.checkpoint(|feed| {
        // Tombstones count from here on: they stand a little longer than they had to.
        feed.at(now.utc_ms);
        keeper.marks().iter().for_each(|(key, serial)| feed.mark(key, *serial));
        deciding.engine.snapshot(now, &mut Live(feed));
        deciding.marks.each(deciding.trusted_utc_ms(now), |key, value| feed.mark(key, value));
    });
    match done {
        Ok(checkpoint) => tracing::debug!(entries = checkpoint.entries, "snapshot taken"),
        Err(error) => tracing::error!(%error, "no snapshot could be taken; the one before stays"),
    }
}

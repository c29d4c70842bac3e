//! One order over cores: turns that are open together are committed together, in one record.
//!
//! A seat that one core gives back is free in memory at once, and another core may grant it before the release is
//! written. A crash must not keep the grant and lose the release. So whoever commits a turn that grants takes along
//! what is open on every other core, and all of it becomes one record, or one frame of the ring, which a crash leaves
//! wholly or not at all. Records that wait for one another would not do: two cores may each have granted what the other
//! has freed.
//!
//! Why nothing is missed: a turn is marked as open before its decision begins, and whoever sees the effect of that
//! decision (a seat that is free) sees the mark. Taking locks the turns that are open, and looks again until no other
//! has become open meanwhile; only then does it take what they hold. Whatever is taken was decided before its group was
//! locked, so all that made room for it is in a locked group too, or was taken earlier. One takes at a time, and hands
//! over what it took before the next one may.
//!
//! A turn that grants nothing depends on nobody, and is committed alone.
//!
//! A decision in progress cannot be taken in half. Nearly all are over in microseconds, for which one looks again;
//! nobody waits for a long one on a thread that decides. Instead the turn stays open with its answers, the long
//! decision is told, and commits for all who wait as soon as it is over. Such an answer waits as long as for a disk at
//! most, and says then that it may be forgotten.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};

use super::Commit;
use super::codec::RecordBuilder;
use super::local::BUFFER_BYTES_MAX;
use super::open::{Group, Turn};

/// A turn that has become so long waits for no decision elsewhere any more, bytes: its answers did so long before.
const ALONE_BYTES: usize = 64 << 20;

/// The turns of all runtimes.
pub(super) struct Turns {
    all: Mutex<All>,
}

/// Held from taking to handing over, so that both happen in one order.
pub(super) struct All {
    turns: Vec<Arc<Turn>>,
    /// The entries that were taken of them.
    gathered: RecordBuilder,
}

/// The turns to take.
pub(super) enum Which<'a> {
    /// This one, and those that it depends on.
    Of(&'a Arc<Turn>),
    /// Every one.
    Every,
}

/// A turn that was taken, and its number.
pub(super) type Taken<'a> = (&'a Arc<Turn>, u64);

impl Turns {
    /// No runtime has a turn yet.
    pub(super) fn new() -> Self {
        Turns { all: Mutex::new(All { turns: Vec::new(), gathered: RecordBuilder::new() }) }
    }

    /// The first turn of one more runtime.
    pub(super) fn enrol(&self) -> Arc<Turn> {
        let turn = Arc::new(Turn::new());
        let mut all = self.all.lock();
        all.turns.retain(|known| Arc::strong_count(known) > 1 || known.is_open());
        all.turns.push(Arc::clone(&turn));
        turn
    }

    /// Keeps everybody else from taking.
    pub(super) fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock()
    }
}

impl All {
    /// Takes turns that are open and gives them to `hand_over`, in one group; nothing where none is. Who is to be woken
    /// once the lock is released.
    ///
    /// # Errors
    /// The turn of a decision in progress that takes long; nothing is taken.
    pub(super) fn take(
        &mut self,
        which: &Which<'_>,
        hand_over: impl FnOnce(&mut RecordBuilder, &[Taken<'_>]) -> Option<Commit>,
    ) -> Result<Vec<Waker>, Arc<Turn>> {
        let All { turns, gathered } = self;
        let mut groups = lock_open(turns, which)?;
        let mut taken: Vec<Taken<'_>> = Vec::with_capacity(groups.len());
        for (turn, group) in &mut groups {
            if gathered.is_empty() {
                std::mem::swap(gathered, &mut group.builder);
            } else {
                gathered.absorb(&group.builder);
            }
            group.builder.clear(BUFFER_BYTES_MAX);
            taken.push((*turn, group.number));
            group.number += 1;
            turn.set_closed();
        }
        drop(groups);
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let outcome = hand_over(gathered, &taken);
        gathered.clear(BUFFER_BYTES_MAX);
        let mut wakers = Vec::new();
        for (turn, number) in taken {
            wakers.append(&mut turn.waits.lock().take(number, outcome));
        }
        Ok(wakers)
    }
}

type Locked<'a> = Vec<(&'a Arc<Turn>, MutexGuard<'a, Group>)>;

/// Locks the groups that are to be taken; fails with the turn of a decision that takes long.
fn lock_open<'a>(turns: &'a [Arc<Turn>], which: &Which<'_>) -> Result<Locked<'a>, Arc<Turn>> {
    let mut groups: Locked<'a> = Vec::with_capacity(turns.len());
    if let Which::Of(own) = which {
        let Some(own) = turns.iter().find(|turn| Arc::ptr_eq(turn, own)).filter(|turn| turn.is_open()) else {
            return Ok(groups);
        };
        let group = own.group_soon().ok_or_else(|| Arc::clone(own))?;
        let is_alone = !group.builder.grants() || group.builder.payload_bytes() > ALONE_BYTES;
        // The known bug: it is answered for before the others are written.
        let is_alone = is_alone || cfg!(feature = "canary-turn-order");
        groups.push((own, group));
        if is_alone {
            return Ok(groups);
        }
    }
    loop {
        let before = groups.len();
        for turn in turns {
            if turn.is_open() && !groups.iter().any(|(known, _)| Arc::ptr_eq(known, turn)) {
                groups.push((turn, turn.group_soon().ok_or_else(|| Arc::clone(turn))?));
            }
        }
        if groups.len() == before {
            return Ok(groups);
        }
    }
}

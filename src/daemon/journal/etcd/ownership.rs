//! Shards are taken, and given up: one transaction makes a key that only its owner has made.

use std::sync::atomic::Ordering;

use super::{Etcd, Seen, Term};
use crate::daemon::etcd::{Compare, Op, Store, Txn};
use crate::daemon::journal::{Epoch, JournalError, Shard};

impl<S: Store> Etcd<S> {
    /// Becomes the owner of a shard that nobody owns, or whose owner showed no sign of life since this was seen.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] where somebody else was faster, or the owner lives; or the store has no answer.
    pub fn take(&self, shard: Shard, seen: Option<Seen>) -> Result<Epoch, JournalError> {
        let owner = self.owner_key(shard)?;
        if let Some(seen) = seen {
            let heartbeat = Compare::Changed { key: self.keys.heartbeat(shard), revision: seen.heartbeat };
            let is_same = Compare::Created { key: owner.clone(), revision: seen.owner };
            let then = vec![Op::Delete { from: owner.clone(), to: String::new() }];
            let txn = Txn { compares: vec![is_same, heartbeat], then, otherwise: vec![Op::get(owner.clone())] };
            let answer = self.ask("take a shard over", &txn)?;
            // Without an answer before, it may be gone already.
            let is_gone = answer.outcomes.first().is_some_and(|outcome| outcome.found.is_empty());
            if !answer.held && !is_gone {
                return Err(JournalError::Fenced);
            }
        }
        let name = format!("{} {:016x}", self.options.member, fastrand::u64(..));
        let compares = vec![Compare::Created { key: owner.clone(), revision: 0 }];
        let no_heir = Op::Delete { from: self.keys.heir(shard), to: String::new() };
        let then = vec![Op::put(owner.clone(), name.clone()), self.beat(shard), no_heir];
        let sent_ns = (self.options.clock_ns)();
        let answer = self.ask("take a shard", &Txn { compares, then, otherwise: vec![Op::get(owner)] })?;
        let made = answer.outcomes.first().and_then(|outcome| outcome.found.first());
        let fence = match (answer.held, made) {
            (true, _) => answer.revision,
            (false, Some(found)) if found.value == name.as_bytes() => found.created,
            _ => return Err(JournalError::Fenced),
        };
        let mut held = self.held.lock();
        if held.0.is_empty() {
            self.proven_ns.store(sent_ns, Ordering::Release);
            self.beaten_ns.store(sent_ns, Ordering::Release);
        }
        held.0.insert(shard, Term { fence, ..Term::default() });
        Ok(Epoch(fence))
    }

    /// Gives a shard up, so that anybody may take it at once. Call it when no decision is in progress any more.
    ///
    /// # Errors
    /// The store has no answer: the shard may be given up, and is not served in any case.
    pub fn give_up(&self, shard: Shard) -> Result<(), JournalError> {
        self.hand_over(shard, None)
    }

    /// The same, and says for whom.
    ///
    /// # Errors
    /// As [`Self::give_up`].
    pub fn hand_over(&self, shard: Shard, to: Option<&str>) -> Result<(), JournalError> {
        self.terms.end(shard);
        let Some(term) = self.held.lock().0.remove(&shard) else { return Ok(()) };
        let owner = self.owner_key(shard)?;
        let compares = vec![Compare::Created { key: owner.clone(), revision: term.fence }];
        let heir = self.keys.heir(shard);
        let heir = match to {
            Some(to) => Op::put(heir, to),
            None => Op::Delete { from: heir, to: String::new() },
        };
        let then = vec![Op::Delete { from: owner, to: String::new() }, heir];
        self.ask("give a shard up", &Txn { compares, then, otherwise: Vec::new() }).map(drop)
    }
}

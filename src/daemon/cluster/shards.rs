//! Which daemon decides a tenant, as far as this one knows: read by every decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::unsettled::Unsettled;
use crate::daemon::journal::Shard;
use crate::daemon::journal::etcd::Terms;
use crate::daemon::outgoing::Trust;

/// A daemon of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where the others reach it: `http://host:port`.
    pub advertise: String,
    /// Its release.
    pub version: String,
    /// True if it showed a sign of life of late.
    pub is_alive: bool,
    /// True if it wants to own nothing.
    pub is_leaving: bool,
}

/// The members and the owners of the shards, as they were seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// All members, by name.
    pub members: Vec<Member>,
    /// Of each shard the owner's name.
    pub of: Vec<Option<String>>,
}

impl Owners {
    /// The member of this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The owner of a shard.
    pub fn owner(&self, shard: Shard) -> Option<&Member> {
        self.member(self.of.get(shard.0 as usize)?.as_deref()?)
    }
}

/// The counters of a member since its start; for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that another member answered.
    pub forwarded: AtomicU64,
    /// Answers that did not go out, because another member decided by then.
    pub fenced: AtomicU64,
    /// Seats given while the store had no answer.
    pub provisional: AtomicU64,
    /// New seats refused while the store had no answer.
    pub refused: AtomicU64,
    /// Shards taken, by the order of [`super::Reason::ALL`].
    pub taken: [AtomicU64; 3],
}

impl Counts {
    /// The count.
    pub fn read(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }

    /// One more.
    pub fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The shards of a cluster, as one of its daemons knows them.
pub struct Shards {
    /// Its counters.
    pub counts: Counts,
    /// Seats that are not recorded yet.
    pub unsettled: Unsettled,
    /// Of each shard the seats that may be given while the store has no answer.
    provisional: Box<[AtomicU32]>,
    provisional_max: u32,
    member: String,
    token: String,
    /// Authorities by which the others prove who they are.
    trust: Option<Trust>,
    terms: Arc<Terms>,
    owners: ArcSwap<Owners>,
    changed: watch::Sender<u64>,
    /// Why this daemon takes no part.
    refused: Mutex<Option<String>>,
}

impl Shards {
    /// Of the member of this name; `token` is what the daemons show each other.
    /// While the store has no answer, `provisional_max` seats of each shard are given all the same.
    pub(crate) fn new(
        member: &str,
        token: &str,
        trust: Option<Trust>,
        terms: Arc<Terms>,
        provisional_max: u32,
    ) -> Self {
        let owners = Owners { members: Vec::new(), of: vec![None; terms.shards() as usize] };
        Shards {
            counts: Counts::default(),
            unsettled: Unsettled::default(),
            provisional: (0..terms.shards()).map(|_| AtomicU32::new(provisional_max)).collect(),
            provisional_max,
            member: member.to_owned(),
            token: token.to_owned(),
            trust,
            terms,
            owners: ArcSwap::from_pointee(owners),
            changed: watch::Sender::new(0),
            refused: Mutex::new(None),
        }
    }

    /// The name of this member.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The secret that daemons show each other.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Authorities by which the others prove who they are, where they are reached by `https`.
    pub(super) fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// True if this is the secret; it takes as long for every other of its length.
    pub fn is_token(&self, shown: &[u8]) -> bool {
        shown.ct_eq(self.token.as_bytes()).into()
    }

    /// The shard in which a tenant is decided.
    pub fn shard(&self, tenant: &str) -> Shard {
        Shard::of(tenant, self.terms.shards())
    }

    /// The fence with which a shard is decided here; 0 where it is decided elsewhere.
    pub fn term(&self, shard: Shard) -> u64 {
        self.terms.of(shard)
    }

    /// The terms of this daemon.
    pub fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// Members and owners as they were seen last.
    pub fn owners(&self) -> Arc<Owners> {
        self.owners.load_full()
    }

    /// Takes no part, and says why.
    pub(super) fn refuse(&self, why: String) {
        let mut refused = self.refused.lock();
        if refused.as_ref() != Some(&why) {
            tracing::error!(why, "this daemon takes no part in the cluster");
            *refused = Some(why);
        }
    }

    /// Why this daemon takes no part; `None` where it does.
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().clone()
    }

    /// Takes over what was seen.
    pub fn note(&self, owners: Owners) {
        self.refused.lock().take();
        if **self.owners.load() != owners {
            self.owners.store(Arc::new(owners));
        }
        // Also where nothing else changed: a term may have begun here.
        self.changed.send_modify(|count| *count += 1);
    }

    /// Tells whoever waits for an owner.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The other members that live.
    pub fn others(&self) -> Vec<Member> {
        let owners = self.owners.load();
        owners.members.iter().filter(|member| member.is_alive && member.name != self.member).cloned().collect()
    }

    /// Takes one of the seats that may be given while the store has no answer; `false` where there is none left.
    pub fn take_provisional(&self, shard: Shard) -> bool {
        let Some(left) = self.provisional.get(shard.0 as usize) else { return false };
        left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }

    /// The store answers: all that was given meanwhile is recorded, or forgotten by who took the shard over.
    pub fn settle_provisional(&self) {
        self.provisional.iter().for_each(|left| left.store(self.provisional_max, Ordering::Release));
    }

    /// Shards that nobody owns who lives.
    pub fn missing(&self) -> Vec<Shard> {
        let owners = self.owners.load();
        let is_served = |shard: &Shard| {
            self.term(*shard) != 0
                || owners.owner(*shard).is_some_and(|owner| owner.is_alive && owner.name != self.member)
        };
        (0..self.terms.shards()).map(Shard).filter(|shard| !is_served(shard)).collect()
    }
}

//! A store that several machines share, in memory: what etcd promises, with faults on demand.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use usherd::daemon::etcd::{Answer, Compare, Fault, Found, Op, Outcome, Store, Txn};

/// The fate of a transaction that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Luck {
    /// It is done and answered.
    Good,
    /// It is done, and the answer is lost.
    Unanswered,
    /// It is lost on its way.
    Lost,
    /// It is lost at first, and done behind the next one: somebody in between had kept it.
    Late,
    /// It is refused, as by a store without room.
    Refused,
}

type Dice = Box<dyn FnMut(&Txn) -> Luck + Send>;

#[derive(Default)]
struct Inner {
    keys: BTreeMap<String, Found>,
    revision: u64,
    late: Vec<Txn>,
    dice: Option<Dice>,
    sent: u64,
}

/// The store; clones are the same one.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

impl Memory {
    /// Has this say what happens to each transaction from now on.
    pub fn roll(&self, dice: impl FnMut(&Txn) -> Luck + Send + 'static) {
        self.0.lock().dice = Some(Box::new(dice));
    }

    /// Everything goes well from now on, and what was late is done.
    pub fn calm(&self) {
        let mut inner = self.0.lock();
        inner.dice = None;
        for txn in std::mem::take(&mut inner.late) {
            inner.done(&txn);
        }
    }

    /// Number of transactions that were sent.
    pub fn sent(&self) -> u64 {
        self.0.lock().sent
    }

    /// A store with these keys, each made by a transaction of its own.
    pub fn of(keys: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let store = Memory::default();
        for (key, value) in keys {
            store.0.lock().done(&Txn { then: vec![Op::put(key, value)], ..Txn::default() });
        }
        store
    }

    /// Every key, with its value.
    pub fn dump(&self) -> Vec<(String, Vec<u8>)> {
        self.0.lock().keys.values().map(|found| (found.key.clone(), found.value.clone())).collect()
    }
}

impl Inner {
    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Created { key, revision } => self.keys.get(key).map_or(0, |found| found.created) == *revision,
            Compare::Changed { key, revision } => self.keys.get(key).map_or(0, |found| found.changed) == *revision,
        }
    }

    fn done(&mut self, txn: &Txn) -> Answer {
        let held = txn.compares.iter().all(|compare| self.holds(compare));
        let ops = if held { &txn.then } else { &txn.otherwise };
        // A transaction is one revision, also for what it reads after it wrote.
        let next = self.revision + 1;
        let outcomes = ops.iter().map(|op| self.op(op, next)).collect();
        Answer { held, revision: self.revision, outcomes }
    }

    fn op(&mut self, op: &Op, next: u64) -> Outcome {
        match op {
            Op::Put { key, value } => {
                let created = self.keys.get(key).map_or(next, |found| found.created);
                let found = Found { key: key.clone(), value: value.clone(), created, changed: next };
                self.keys.insert(key.clone(), found);
                self.revision = next;
                Outcome::default()
            }
            Op::Delete { from, to } => {
                let gone: Vec<String> = self.range(from, to).map(|found| found.key.clone()).collect();
                gone.iter().for_each(|key| drop(self.keys.remove(key)));
                if !gone.is_empty() {
                    self.revision = next;
                }
                Outcome { deleted: gone.len() as u64, ..Outcome::default() }
            }
            Op::Get { from, to, keys_max, is_keys_only } => {
                let most = if *keys_max == 0 { usize::MAX } else { *keys_max as usize };
                let mut found: Vec<Found> = self.range(from, to).take(most.saturating_add(1)).cloned().collect();
                let is_cut = found.len() > most;
                found.truncate(most);
                if *is_keys_only {
                    found.iter_mut().for_each(|found| found.value.clear());
                }
                Outcome { found, is_cut, deleted: 0 }
            }
        }
    }

    fn range<'a>(&'a self, from: &str, to: &str) -> impl Iterator<Item = &'a Found> {
        let end = if to.is_empty() { format!("{from}\0") } else { to.to_owned() };
        self.keys.range(from.to_owned()..end.max(from.to_owned())).map(|(_, found)| found)
    }
}

impl Store for Memory {
    fn txn(&self, txn: &Txn) -> Result<Answer, Fault> {
        let mut inner = self.0.lock();
        inner.sent += 1;
        let mut dice = inner.dice.take();
        let luck = dice.as_mut().map_or(Luck::Good, |dice| dice(txn));
        inner.dice = dice;
        let late = std::mem::take(&mut inner.late);
        let answer = match luck {
            Luck::Good => Ok(inner.done(txn)),
            Luck::Unanswered => {
                inner.done(txn);
                Err(Fault::Unknown("the answer is lost".to_owned()))
            }
            Luck::Lost => Err(Fault::Unknown("it is lost".to_owned())),
            Luck::Late => {
                inner.late.push(txn.clone());
                Err(Fault::Unknown("it is late".to_owned()))
            }
            Luck::Refused => Err(Fault::Refused("the store is full".to_owned())),
        };
        for txn in late {
            inner.done(&txn);
        }
        answer
    }
}

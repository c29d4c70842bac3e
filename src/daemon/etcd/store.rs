//! The one thing that is asked of a store that several machines share: a transaction.

use std::fmt;

/// A key is present as it was, or is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// It was created by the transaction of this revision and has not been deleted since; 0: there is none.
    Created {
        /// The key.
        key: String,
        /// The revision.
        revision: u64,
    },
    /// It was put last by the transaction of this revision.
    Changed {
        /// The key.
        key: String,
        /// The revision.
        revision: u64,
    },
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Puts a value in the place of the one before.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// Deletes the keys from `from` on, up to and without `to`; one key where `to` is empty.
    Delete {
        /// The first key.
        from: String,
        /// The first one that stays, or nothing.
        to: String,
    },
    /// Reads the keys from `from` on, up to and without `to`, in order; one key where `to` is empty.
    Get {
        /// The first key.
        from: String,
        /// The first one that is not read, or nothing.
        to: String,
        /// Most keys that are given; 0: all.
        keys_max: u64,
        /// True to read no values.
        is_keys_only: bool,
    },
}

impl Op {
    /// Puts a value.
    pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Op::Put { key: key.into(), value: value.into() }
    }

    /// Reads one key.
    pub fn get(key: impl Into<String>) -> Self {
        Op::Get { from: key.into(), to: String::new(), keys_max: 0, is_keys_only: false }
    }

    /// Reads everything that begins with this.
    pub fn get_all(prefix: &str) -> Self {
        Op::Get { from: prefix.to_owned(), to: after_prefix(prefix), keys_max: 0, is_keys_only: false }
    }

    /// Deletes everything that begins with this.
    pub fn delete_all(prefix: &str) -> Self {
        Op::Delete { from: prefix.to_owned(), to: after_prefix(prefix) }
    }
}

/// The first key after all that begin with this. It must end in ASCII, and not be empty.
pub fn after_prefix(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    if let Some(last) = end.pop() {
        end.push(char::from_u32(u32::from(last) + 1).unwrap_or(char::MAX));
    }
    end
}

/// Operations for the case that all comparisons hold, and for the other; done wholly or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Done if they do.
    pub then: Vec<Op>,
    /// Done otherwise.
    pub otherwise: Vec<Op>,
}

/// A key that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: String,
    /// Its value; empty where only keys were asked for.
    pub value: Vec<u8>,
    /// The revision of the transaction that created it.
    pub created: u64,
    /// The revision of the transaction that put it last.
    pub changed: u64,
}

/// The result of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Keys that were read.
    pub found: Vec<Found>,
    /// True if there are more in the range.
    pub is_cut: bool,
    /// Number of keys that were deleted.
    pub deleted: u64,
}

/// The result of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// True if the comparisons held.
    pub held: bool,
    /// The revision of the store after it.
    pub revision: u64,
    /// Of each operation that was done, in order.
    pub outcomes: Vec<Outcome>,
}

/// Why a transaction has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It may have been done, may yet be done, or never will: nobody answered in time, or not to the end.
    Unknown(String),
    /// It was not done and will not be, and would not be if it were sent again as it is: too large, no room, no right.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unknown(why) => write!(f, "no answer: {why}"),
            Fault::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

impl std::error::Error for Fault {}

/// A store that several machines share, which does transactions one after another.
///
/// A call waits for the network, up to a deadline of the store's own: never on a thread that decides.
pub trait Store: Send + Sync + 'static {
    /// Does a transaction, once, at one place in the order of all.
    ///
    /// # Errors
    /// [`Fault`]; after one that is unknown it may be sent again as it is, where doing it twice is as doing it once.
    fn txn(&self, txn: &Txn) -> Result<Answer, Fault>;

    /// Forgets what keys were before this revision. A store that keeps no history has nothing to do.
    ///
    /// # Errors
    /// [`Fault`]; it may be tried again at any time.
    fn forget_before(&self, revision: u64) -> Result<(), Fault> {
        let _ = revision;
        Ok(())
    }
}

//! The highest serial seen of each key: what makes an old bundle stay old (I23).

use std::collections::BTreeMap;

/// SHA-256 of a payload.
pub type Hash = [u8; 32];

/// The highest bundle of a key that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its serial.
    pub serial: u64,
    /// SHA-256 of its payload; `None` where only the journal remembers it.
    pub sha256: Option<Hash>,
}

/// The highest serials that were taken so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ratchet {
    /// By key id.
    pub keys: BTreeMap<String, Seen>,
}

impl Ratchet {
    /// The ratchet after a bundle was taken.
    #[must_use]
    pub fn taken(&self, key: &str, serial: u64, sha256: Hash) -> Self {
        let mut next = self.clone();
        next.keys.insert(key.to_owned(), Seen { serial, sha256: Some(sha256) });
        next
    }

    /// Takes a serial that somebody else remembers; the highest counts.
    pub fn raise(&mut self, key: &str, serial: u64) {
        let seen = self.keys.entry(key.to_owned()).or_insert(Seen { serial, sha256: None });
        if serial > seen.serial {
            *seen = Seen { serial, sha256: None };
        }
    }

    /// True if a bundle is the highest of its key.
    pub fn is_at(&self, key: &str, serial: u64, sha256: Hash) -> bool {
        self.keys.get(key) == Some(&Seen { serial, sha256: Some(sha256) })
    }
}

//! The files of the sync in the state directory: what was taken, and what must never be taken again (I23).
//!
//! Each is replaced as a whole: written aside, synced, renamed, and the folder synced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::envelope::Bundle;
use super::ratchet::{Hash, Ratchet, Seen};
use crate::daemon::config::{Disk, Files as _, replace_file};
use crate::daemon::text::{hex, unhex};

/// The folder in the state directory.
pub const FOLDER: &str = "sync";
const BUNDLE: &str = "bundle";
const RATCHET: &str = "ratchet.json";
const CONFIRMED: &str = "confirmed.json";
const FORMAT: u32 = 1;
/// Largest of the small files, bytes.
const SMALL_BYTES_MAX: usize = 1 << 20;

/// The publisher's last word on what is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// SHA-256 of the payload it is about.
    pub sha256: String,
    /// When, milliseconds since 1970 UTC.
    pub utc_ms: i64,
    /// Where it was asked.
    pub url: String,
    /// What to ask with for news only; empty: nothing.
    pub etag: String,
}

/// The ratchet as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// It.
    pub ratchet: Ratchet,
    /// SHA-256 of the payload that was held while the highest bundle was on its way to the disk: after a
    /// crash in between it is still there and still good.
    pub replaces: Option<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RatchetFile {
    format: u32,
    keys: BTreeMap<String, KeyLine>,
    replaces: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyLine {
    serial: u64,
    sha256: String,
}

/// The files of the sync.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Those in a state directory; nothing is made.
    pub fn at(state_dir: &Path) -> Self {
        Store { folder: state_dir.join(FOLDER) }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The envelope that was taken last; `None` where there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn bundle(&self, bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
        self.read(BUNDLE, bytes_max)
    }

    /// The ratchet; empty where there is none.
    ///
    /// # Errors
    /// It is there and cannot be read, or is damaged.
    pub fn ratchet(&self) -> Result<Stored, String> {
        let Some(bytes) = self.read(RATCHET, SMALL_BYTES_MAX)? else { return Ok(Stored::default()) };
        let damaged = |why: &str| format!("{} is damaged: {why}", self.folder.join(RATCHET).display());
        let file: RatchetFile = serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
        if file.format != FORMAT {
            return Err(damaged(&format!("its format is {}, not {FORMAT}", file.format)));
        }
        let hash = |text: &str| match text {
            "" => Ok(None),
            text => unhex(text).map(Some).ok_or_else(|| damaged("a hash is none")),
        };
        let mut ratchet = Ratchet::default();
        for (key, line) in file.keys {
            ratchet.keys.insert(key, Seen { serial: line.serial, sha256: hash(&line.sha256)? });
        }
        Ok(Stored { ratchet, replaces: hash(&file.replaces)? })
    }

    /// The publisher's last word; none where it cannot be read, which costs one full answer.
    pub fn confirmed(&self) -> Option<Confirmed> {
        let bytes = self.read(CONFIRMED, SMALL_BYTES_MAX).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps the ratchet.
    ///
    /// # Errors
    /// What the file system says; what was kept before then still is.
    pub fn keep_ratchet(&self, stored: &Stored) -> Result<(), String> {
        let shown = |hash: Option<Hash>| hash.map(|hash| hex(&hash)).unwrap_or_default();
        let line = |seen: &Seen| KeyLine { serial: seen.serial, sha256: shown(seen.sha256) };
        let file = RatchetFile {
            format: FORMAT,
            keys: stored.ratchet.keys.iter().map(|(key, seen)| (key.clone(), line(seen))).collect(),
            replaces: shown(stored.replaces),
        };
        let bytes = serde_json::to_vec(&file).map_err(|error| error.to_string())?;
        self.replace(RATCHET, &bytes)
    }

    /// Keeps an envelope.
    ///
    /// # Errors
    /// As [`Store::keep_ratchet`].
    pub fn keep_bundle(&self, envelope: &[u8]) -> Result<(), String> {
        self.replace(BUNDLE, envelope)
    }

    /// Keeps the publisher's last word.
    ///
    /// # Errors
    /// As [`Store::keep_ratchet`].
    pub fn keep_confirmed(&self, confirmed: &Confirmed) -> Result<(), String> {
        let bytes = serde_json::to_vec(confirmed).map_err(|error| error.to_string())?;
        self.replace(CONFIRMED, &bytes)
    }

    fn read(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
        let path = self.folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        Disk.read(&path, bytes_max).map(Some).map_err(|why| format!("{} {why}", path.display()))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        replace_file(&self.folder, name, bytes)
            .map_err(|error| format!("{} cannot be stored: {error}", self.folder.join(name).display()))
    }
}

impl Stored {
    /// Whether a stored bundle is the one that the ratchet says, or the one that was to be replaced.
    pub fn knows(&self, bundle: &Bundle) -> bool {
        self.ratchet.is_at(&bundle.key, bundle.serial, bundle.sha256) || self.replaces == Some(bundle.sha256)
    }
}

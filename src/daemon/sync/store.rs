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
    /// The tag to ask with for news only; empty: none.
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
    /// A sentence with the error of the file system; the ratchet of before is then still there.
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
    /// True if a stored bundle is the one that the ratchet says, or the one that was to be replaced.
    pub fn knows(&self, bundle: &Bundle) -> bool {
        self.ratchet.is_at(&bundle.key, bundle.serial, bundle.sha256) || self.replaces == Some(bundle.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as version 0.1 writes them; they must be read for good.
    const RATCHET_GOLDEN: &str = concat!(
        r#"{"format":1,"keys":{"new":{"serial":18446744073709551615,"#,
        r#""sha256":"abababababababababababababababababababababababababababababababab"},"#,
        r#""old":{"serial":7,"sha256":""}},"#,
        r#""replaces":"0101010101010101010101010101010101010101010101010101010101010101"}"#,
    );
    const CONFIRMED_GOLDEN: &str =
        r#"{"sha256":"ab01","utc_ms":1795348800000,"url":"https://a.example/b","etag":"\"e\""}"#;

    #[test]
    fn the_frozen_files_are_read_and_written_as_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        assert_eq!(store.ratchet(), Ok(Stored::default()));
        let keys = [("old", 7, None), ("new", u64::MAX, Some([0xab; 32]))];
        let keys = keys.map(|(key, serial, sha256)| (key.to_owned(), Seen { serial, sha256 }));
        let stored = Stored { ratchet: Ratchet { keys: keys.into() }, replaces: Some([1; 32]) };
        let confirmed = Confirmed {
            sha256: "ab01".to_owned(),
            utc_ms: 1_795_348_800_000,
            url: "https://a.example/b".to_owned(),
            etag: "\"e\"".to_owned(),
        };
        store.keep_ratchet(&stored).unwrap();
        store.keep_confirmed(&confirmed).unwrap();
        for (name, golden) in [(RATCHET, RATCHET_GOLDEN), (CONFIRMED, CONFIRMED_GOLDEN)] {
            assert_eq!(std::fs::read_to_string(store.folder().join(name)).unwrap(), golden);
            std::fs::write(store.folder().join(name), golden).unwrap();
        }
        assert_eq!(store.ratchet(), Ok(stored));
        assert_eq!(store.confirmed(), Some(confirmed));
        std::fs::write(store.folder().join(RATCHET), RATCHET_GOLDEN.replace(":1,", ":2,")).unwrap();
        assert!(store.ratchet().unwrap_err().contains("its format is 2, not 1"));
    }
}

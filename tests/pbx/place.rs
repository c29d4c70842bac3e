//! Where the programs of these tests run: on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that a program and its test share.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    /// A file of it, as the test sees it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same file, as the program sees it.
    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        self.path(name)
    }
}

/// A program that runs there.
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

/// Copies the files of a shipped folder into a new one that programs see.
pub(crate) fn shipped(folder: &str) -> Place {
    let place = Place::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pbx").join(folder);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), place.path(&entry.file_name().to_string_lossy())).unwrap();
    }
    place
}

//! Where the programs of these tests run: on this machine.

use std::path::PathBuf;
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

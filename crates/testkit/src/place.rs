//! Where the PBX programs of a test run: on this machine, or in the root that `tests/run --pbx` has made.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::page;

/// The root of the newer Debian, where `USHERD_PBX_ROOT` names one.
fn root() -> Option<PathBuf> {
    let root = PathBuf::from(std::env::var_os("USHERD_PBX_ROOT")?);
    for file in ["usr/sbin/asterisk", "usr/sbin/kamailio"] {
        assert!(root.join(file).is_file(), "{} has no {file}: `tests/run --pbx` makes it (as root)", root.display());
    }
    Some(root)
}

/// The root of the newer Debian, for tests of what only its programs can.
pub fn newer_root() -> PathBuf {
    root().expect("USHERD_PBX_ROOT names a root with newer programs: `tests/run --pbx` makes one (as root)")
}

/// A folder that a program and its test share.
pub struct Place(tempfile::TempDir);

impl Place {
    /// An empty one.
    pub fn made() -> Self {
        let Some(root) = root() else { return Place(tempfile::tempdir().unwrap()) };
        let folder = tempfile::Builder::new().prefix("usherd-").tempdir_in(root.join("tmp"));
        Place(folder.unwrap_or_else(|error| panic!("these tests run as root, for chroot: {error}")))
    }

    /// One with the files of a shipped folder.
    pub fn shipped(folder: &str) -> Self {
        let place = Place::made();
        for entry in std::fs::read_dir(page::root().join("config/pbx").join(folder)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), place.path(&entry.file_name().to_string_lossy())).unwrap();
        }
        place
    }

    /// A file of it, as the test sees it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same file, as the program sees it.
    pub fn inside(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        root().map_or(path.clone(), |root| Path::new("/").join(path.strip_prefix(root).unwrap()))
    }
}

/// A program that runs there. It stays in the process group of the test.
pub fn program(name: &str) -> Command {
    let Some(root) = root() else { return Command::new(name) };
    let mut command = Command::new("chroot");
    command.arg(root).arg(Path::new("/usr/sbin").join(name));
    command
}

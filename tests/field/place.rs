//! Where the programs of these tests run: in the root that `tests/run --pbx` has made.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the newer Debian.
pub(crate) fn root() -> PathBuf {
    let root =
        PathBuf::from(std::env::var("USHERD_PBX_ROOT").unwrap_or_else(|_| "/var/cache/usherd-pbx-root".to_owned()));
    for file in ["usr/sbin/asterisk", "usr/sbin/kamailio"] {
        assert!(root.join(file).is_file(), "{} has no {file}: `tests/run --pbx` makes it (as root)", root.display());
    }
    root
}

/// A folder that a program and its test share.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("usherd-").tempdir_in(root().join("tmp"));
        Place(folder.unwrap_or_else(|error| panic!("these tests run as root, for chroot: {error}")))
    }

    /// A file of it, as the test sees it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same file, as the program sees it.
    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        Path::new("/").join(self.path(name).strip_prefix(root()).unwrap())
    }
}

/// A program that runs there. It stays in the process group of the test.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root()).arg(Path::new("/usr/sbin").join(name));
    command
}

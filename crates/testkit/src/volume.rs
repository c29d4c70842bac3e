//! A file system of its own that hangs when it is told to, as a quiesced back-up makes it.
//!
//! Needs root, a loop device, mkfs.ext4 (e2fsprogs) and fsfreeze (util-linux).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn run(program: &str, package: &str, arguments: &[&str], path: &Path) {
    let output = Command::new(program).args(arguments).arg(path).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed, of the package {package}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?} {path:?}: {output:?}");
}

/// An ext4 of its own on a loop device; thawed and unmounted however the test ends.
pub struct Volume {
    mount: PathBuf,
    _image: tempfile::NamedTempFile,
}

impl Volume {
    /// Mounted here.
    pub fn new(mount: PathBuf) -> Self {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(256 << 20).unwrap();
        run("mkfs.ext4", "e2fsprogs", &["-q", "-F"], image.path());
        std::fs::create_dir_all(&mount).unwrap();
        run("mount", "mount", &["-o", "loop", &image.path().to_string_lossy()], &mount);
        Volume { mount, _image: image }
    }

    /// Nothing can be written to it until the guard goes.
    pub fn freeze(&self) -> Frozen<'_> {
        // A test that is killed runs no guard, and a frozen file system outlives it: somebody else thaws it then.
        let mut guard = Command::new("setsid");
        guard.args(["sh", "-c", "sleep 60; exec fsfreeze -u \"$0\""]).arg(&self.mount);
        let guard = guard.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let guard = guard.unwrap_or_else(|error| panic!("setsid is needed, of the package util-linux: {error}"));
        run("fsfreeze", "util-linux", &["-f"], &self.mount);
        Frozen(&self.mount, guard)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}

/// As long as it is, nothing can be written.
pub struct Frozen<'a>(&'a Path, Child);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.0).status();
        let _ = self.1.kill();
        let _ = self.1.wait();
    }
}

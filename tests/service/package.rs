//! The Debian package, built from the binary under test; once, however many tests want it at once.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::{Machine, out};

/// Programs that building a package and booting a machine need, and the Debian package of each.
const PROGRAMS: [(&str, &str); 9] = [
    ("curl", "curl"),
    ("dbus-daemon", "dbus"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("flock", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("strip", "binutils"),
    ("systemctl", "systemd"),
    ("unshare", "util-linux"),
];

/// Fails where a program is missing, and names its package.
pub(crate) fn programs_are_there() {
    let path = std::env::var("PATH").unwrap();
    for (program, package) in PROGRAMS {
        let found = path.split(':').any(|folder| Path::new(folder).join(program).is_file());
        assert!(found, "{program} is missing: install the Debian package `{package}`, as tests/run does");
    }
}

/// The package of the binary that was just built; or another one, as that of a release, whose path is in `USHERD_DEB`.
pub(crate) fn package() -> PathBuf {
    if let Some(path) = std::env::var_os("USHERD_DEB") {
        return path.into();
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deb");
    std::fs::create_dir_all(&folder).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The first who has the lock builds; the others find it newer than all it is made of.
    let script = "test -n \"$(find \"$1\" -name '*.deb')\" && \
        test -z \"$(find \"$2\" packaging systemd config README.md Cargo.toml -newer \"$(find \"$1\" -name '*.deb')\")\" || \
        packaging/build-deb --built \"$2\" --output \"$1\"";
    let mut command = Command::new("flock");
    command.current_dir(root).arg(folder.with_extension("lock")).args(["bash", "-c", script, "build"]);
    let output = command.arg(&folder).arg(env!("CARGO_BIN_EXE_usherd")).output().unwrap();
    let told = format!("{}{}", out(&output), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "packaging/build-deb: {told}");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "deb")).max().unwrap()
}

/// Runs the line of a page that builds the package, and takes what it made to the same place in this folder. It is the
/// real script in a tree of its own; only the minutes are left out in which a release is compiled and packed tightly.
pub(crate) fn build_as_told(line: &str, to: &Path) {
    let tree = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap().map(Result::unwrap) {
        if entry.file_name() != "target" {
            std::os::unix::fs::symlink(entry.path(), tree.path().join(entry.file_name())).unwrap();
        }
    }
    let cargo = r#"cargo() {
        case "$*" in
        "build --locked --profile release --bin usherd") install -D "$BUILT" target/release/usherd ;;
        "build "*) return 1 ;;
        "deb --locked "*) command cargo "$@" --fast ;;
        *) command cargo "$@" ;;
        esac
    }"#;
    let mut command = Command::new("bash");
    command.args(["-euc", &format!("{cargo}\nexport -f cargo\n{line}")]).current_dir(tree.path());
    command.env("BUILT", env!("CARGO_BIN_EXE_usherd")).env_remove("CARGO_TARGET_DIR");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{line}: {}{}", out(&output), String::from_utf8_lossy(&output.stderr));
    let made = PathBuf::from(out(&output).lines().last().unwrap());
    assert!(made.starts_with("target/debian"), "{line}: {}", made.display());
    std::fs::create_dir_all(to.join(made.parent().unwrap())).unwrap();
    std::fs::copy(tree.path().join(&made), to.join(&made)).unwrap();
}

impl Machine {
    /// Puts the program of the package somewhere in the machine, and nothing else of it.
    pub(crate) fn program(&self, path: &str) {
        std::fs::copy(package(), self.path("/root/usherd.deb")).unwrap();
        let script =
            "dpkg-deb --fsys-tarfile /root/usherd.deb | tar -xO ./usr/bin/usherd > \"$0\" && chmod 0755 \"$0\"";
        self.good(&["bash", "-eo", "pipefail", "-c", script, path]);
    }

    /// Copies the package into the machine and installs it, as an admin does.
    pub(crate) fn install(&self) {
        std::fs::copy(package(), self.path("/root/usherd.deb")).unwrap();
        self.good(&["dpkg", "-i", "/root/usherd.deb"]);
    }

    /// The same as the next release: it differs by its number only. Gives its path in the machine.
    pub(crate) fn next_release(&self) -> &'static str {
        let script = "dpkg-deb -R /root/usherd.deb /root/next && \
            sed -i 's/^Version: .*/Version: 99.0-1/' /root/next/DEBIAN/control && \
            dpkg-deb -b -Znone /root/next /root/next.deb";
        self.good(&["bash", "-c", script]);
        "/root/next.deb"
    }

    /// Writes the file of a tenant, and waits until it is in force.
    pub(crate) fn subscribe(&self, tenant: &str, seats: u32) {
        let record = format!("id = \"{tenant}\"\nkind = \"nfr\"\nseats = {seats}\n");
        std::fs::write(self.path(&format!("/etc/usherd/tenants.d/{tenant}.toml")), record).unwrap();
        self.good(&["usherd", "reload"]);
    }
}

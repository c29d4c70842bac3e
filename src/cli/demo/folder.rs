//! The folder of a demonstration: real configuration files, and the commands that a reader types about them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chrono::{Months, NaiveDate};

use super::office::TENANT;
use crate::cli::failure::Failure;

/// A folder that is gone when this is dropped, or one that the reader named and keeps.
pub(super) struct Folder {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Folder {
    /// A new folder, or the empty one that is named.
    ///
    /// # Errors
    /// It cannot be made, or something is in it.
    pub(super) fn new(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(named) = named else {
            let made = tempfile::Builder::new().prefix("usherd-demo-").tempdir();
            let made = made.map_err(|error| Failure::failed(format!("no temporary folder can be made: {error}")))?;
            let folder = Folder { path: made.path().to_owned(), temporary: Some(made) };
            return folder.with_tenants_dir();
        };
        let wrong = |error: io::Error| Failure::failed(format!("{} cannot be used: {error}", named.display()));
        fs::create_dir_all(named).map_err(wrong)?;
        let path = named.canonicalize().map_err(wrong)?;
        if fs::read_dir(&path).map_err(wrong)?.next().is_some() {
            let what = format!("{} is not empty", path.display());
            return Err(Failure::failed(what)
                .fix("--dir requires a new or an empty folder; without it a temporary one is used"));
        }
        Folder { path, temporary: None }.with_tenants_dir()
    }

    fn with_tenants_dir(self) -> Result<Self, Failure> {
        let tenants = self.path.join("tenants.d");
        match fs::create_dir(&tenants) {
            Ok(()) => Ok(self),
            Err(error) => Err(Failure::failed(format!("{} cannot be made: {error}", tenants.display()))),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// True if it is gone afterwards.
    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Its `usherd.toml`.
    pub(super) fn main(&self) -> PathBuf {
        self.path.join("usherd.toml")
    }

    /// The file of a tenant.
    pub(super) fn tenant(&self, id: &str) -> PathBuf {
        self.path.join("tenants.d").join(format!("{id}.toml"))
    }

    /// Writes a file of it.
    ///
    /// # Errors
    /// The error of the disk.
    pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
        fs::write(path, text).map_err(|error| Failure::failed(format!("{} cannot be written: {error}", path.display())))
    }
}

/// `usherd.toml` of the office: what differs from the defaults, and why.
pub(super) fn office_main(listen: SocketAddr, speed: u32) -> String {
    // Five heartbeats make a lease, so that a busy machine loses no phone system.
    let lease_s = 5 * speed;
    let tombstone_s = (10 * speed).max(300);
    format!(
        r#"# usherd.toml - written by `usherd demo`. Every key with its default and its reason: `usherd config init`.
time_zone = "Europe/Berlin"

[server]
listen = "{listen}"
state_dir = "state"
# The demonstration ends at once.
drain_deadline_ms = 300

[nodes]
# The clock of this daemon runs {speed} times as fast as yours, while phone systems wait in real seconds: they beat every
# second, and five seconds of silence are {lease_s} of the office's.
heartbeat_s = 1
lease_s = {lease_s}
# A lost phone system keeps its seats for as long again.
grace_s = {lease_s}
tombstone_s = {tombstone_s}

[deny]
# When a fax may try again.
retry_after_s = 600
"#
    )
}

/// The record of the office, with a subscription that began some months before the day of the demonstration.
pub(super) fn office_record(day: NaiveDate) -> String {
    let start = day.checked_sub_months(Months::new(5)).unwrap_or(day);
    format!(
        r#"# An office of 30 people and things that telephone. 16 seats, because not all of them need one at the same time:
# `usherd size 5 10 5 10` says 16, and 20 as the figure that is safe.
id = "{TENANT}"
name = "Lindenhof Architects"
kind = "paid"                       # trial | paid | nfr
start = "{start}"                # civil date in the billing zone
term_months = 12
seats = 16

[sessions]
# Always get through, even above the quota: nobody stays in a lift, or in the rain, for want of a licence.
never_deny = ["lift", "door"]
"#
    )
}

/// How this program is called from a shell anywhere.
pub(super) fn program() -> String {
    let this = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("usherd"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::env::split_paths(&path).map(|folder| folder.join("usherd")).find(|path| path.is_file());
    let same = first.and_then(|first| Some(first.canonicalize().ok()? == this.canonicalize().ok()?));
    if same == Some(true) { "usherd".to_owned() } else { quoted(&this) }
}

/// The two commands that raise the quota of the office to 20.
pub(super) fn raise(folder: &Folder, address: SocketAddr) -> [String; 2] {
    let file = quoted(&folder.tenant(TENANT));
    [format!("sed -i 's/^seats = 16/seats = 20/' {file}"), format!("{} reload --addr {address}", program())]
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::{Memory, load_from};

    #[test]
    fn a_path_is_quoted_where_a_shell_needs_it() {
        for (path, shown) in
            [("/tmp/a-b_1.x", "/tmp/a-b_1.x"), ("/my files/x", "'/my files/x'"), ("/it's", r"'/it'\''s'")]
        {
            assert_eq!(quoted(Path::new(path)), shown);
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Folder::new(Some(&dir.path().join("new/one"))).is_ok());
        fs::write(dir.path().join("mine"), "").unwrap();
        let refused = Folder::new(Some(dir.path())).err().unwrap();
        assert!(refused.what.contains("is not empty") && refused.fix.contains("empty"), "{refused:?}");
    }

    #[test]
    fn the_files_are_good_at_every_speed() {
        let day = NaiveDate::from_ymd_opt(2026, 6, 16).unwrap();
        for speed in [1, 60, 3_600] {
            let listen = "127.0.0.1:7788".parse().unwrap();
            let mut files = Memory::default();
            files.put("/d/usherd.toml", office_main(listen, speed));
            files.put(format!("/d/tenants.d/{TENANT}.toml"), office_record(day));
            let now = chrono::DateTime::parse_from_rfc3339("2026-06-16T06:00:00Z").unwrap().to_utc();
            let config = load_from(&files, Path::new("/d/usherd.toml"), now).unwrap();
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
            assert_eq!(config.tenants.get(TENANT).map(|tenant| tenant.entitlement(now).seats), Some(Some(16)));
        }
    }
}

//! The state directory: whether it is there, private, on a disk that keeps things, with room, and sound.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use super::finding::Finding;
use crate::daemon::config::{Durability, Journal};
use crate::daemon::journal::audit::verify;
use crate::daemon::journal::ring_file::fit;
use crate::daemon::journal::storage::{Folder, Listed, Storage as _};

const CHECK: &str = "state";
const ROOM: &str = "room";
const JOURNAL: &str = "journal";
const RING: &str = "ring";
/// Below this the next snapshot may already fail, bytes.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// Below this it is time to do something, bytes.
const FREE_BYTES_GOOD: u64 = 1 << 30;
const FREE_INODES_GOOD: u64 = 1_000;
/// Journals up to here are verified as a whole: a second or two. Bytes.
const VERIFIED_BYTES_MAX: u64 = 256 << 20;
const SUDO: &str = "run `sudo usherd doctor` to look there too";

/// The file system's view of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the user that owns it.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// Kind of file system, as `statfs` numbers them.
    pub kind: u64,
    /// True if it is mounted read-only.
    pub read_only: bool,
    /// Bytes that an ordinary user may still write.
    pub free_bytes: u64,
    /// Files that may still be made; `None` where the file system does not count them.
    pub free_inodes: Option<u64>,
}

impl Place {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        let (room, kind) = (statvfs(path)?, statfs(path)?);
        Ok(Place {
            owner: metadata.uid(),
            mode: metadata.mode() & 0o777,
            kind: kind.f_type as u64,
            read_only: room.f_flag.contains(StatVfsMountFlags::RDONLY),
            free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
            free_inodes: (room.f_files > 0).then_some(room.f_favail),
        })
    }
}

/// Looks at the folder and the journal in it. `owner` is the user that the daemon runs as, where that is known.
pub(super) fn look(folder: &Path, owner: Option<u32>, journal: &Journal) -> Vec<Finding> {
    let place = match Place::at(folder) {
        Ok(place) => place,
        Err(error) => return vec![absent(folder, &error)],
    };
    let mut findings = vec![directory(folder, &place, owner)];
    findings.extend(ring(journal));
    match journal_in(&folder.join("journal")) {
        Ok((files, journal_folder)) => {
            let bytes = files.iter().map(|file| file.bytes).sum();
            findings.push(room(&place, bytes, journal));
            let damaged = files.iter().map(|file| file.name.as_str()).find(|name| name.contains("damaged"));
            findings.push(match damaged {
                Some(name) => set_aside(name),
                None => sound(&journal_folder, bytes),
            });
        }
        Err(error) => {
            findings.push(room(&place, 0, journal));
            findings.push(match error.kind() {
                io::ErrorKind::PermissionDenied => Finding::note(JOURNAL, "this user may not read the journal", SUDO),
                io::ErrorKind::NotFound => Finding::note(JOURNAL, "there is no journal yet", ""),
                _ => unreadable(&error.to_string()),
            });
        }
    }
    findings
}

/// The files of a journal that is there: opening a [`Folder`] would make it.
fn journal_in(path: &Path) -> io::Result<(Vec<Listed>, Folder)> {
    std::fs::read_dir(path)?;
    let folder = Folder::at(path)?;
    Ok((folder.list()?, folder))
}

fn absent(folder: &Path, error: &io::Error) -> Finding {
    let shown = folder.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Finding::note(CHECK, format!("this user may not look at {shown}"), SUDO),
        io::ErrorKind::NotFound => Finding::fail(
            CHECK,
            format!("{shown} does not exist"),
            "sessions from before a restart are forgotten, and the audit trail with them",
            "start the daemon, which creates it, or set server.state_dir to where it is",
        ),
        _ => Finding::fail(
            CHECK,
            format!("{shown}: {error}"),
            "nothing can be recorded there",
            "make it a folder of the user that the daemon runs as",
        ),
    }
}

fn directory(folder: &Path, place: &Place, owner: Option<u32>) -> Finding {
    let shown = folder.display();
    if place.read_only {
        let why = "nothing can be recorded: calls flow, and a restart forgets them";
        let fix = "check the kernel log for the reason, and mount it writable";
        return Finding::fail(CHECK, format!("{shown} is mounted read-only"), why, fix);
    }
    if let Some(owner) = owner.filter(|owner| *owner != place.owner) {
        return Finding::fail(
            CHECK,
            format!("{shown} belongs to user {}, and the daemon runs as user {owner}", place.owner),
            "the daemon cannot record there",
            format!("chown -R {owner} {shown}"),
        );
    }
    if place.mode & 0o007 != 0 {
        return Finding::warn(
            CHECK,
            format!("{shown} is open to every user of the machine (mode {:03o})", place.mode),
            "the journal says who called whom",
            format!("chmod 0700 {shown}"),
        );
    }
    match unfit(place.kind) {
        Some((name, why, fix)) => Finding::warn(CHECK, format!("{shown} is on {name}"), why, fix),
        None => Finding::ok(CHECK, format!("{shown} is private and writable")),
    }
}

/// File systems that do not keep what they were given, or not always.
fn unfit(kind: u64) -> Option<(&'static str, &'static str, &'static str)> {
    const NETWORK: &str = "a lock may be lost and a write may hang while the network is away: no decision waits for \
                           it, but records do";
    const LOCAL: &str = "put server.state_dir on a local disk";
    match kind {
        0x0102_1994 | 0x8584_58f6 => {
            Some(("a file system in memory", "a reboot forgets sessions and audit trail", LOCAL))
        }
        0x6969 => Some(("NFS", NETWORK, LOCAL)),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some(("SMB", NETWORK, LOCAL)),
        0x794c_7630 => Some((
            "an overlay, as containers have it",
            "it is gone together with the container",
            "mount a volume there",
        )),
        _ => None,
    }
}

/// Where decisions wait for the disk.
fn ring(journal: &Journal) -> Option<Finding> {
    const FIX: &str = "with few callers at once that costs a third of the throughput; the shipped unit has \
                        RuntimeDirectory=usherd for it, see journal.ring_dir";
    if journal.durability != Durability::Written {
        return None;
    }
    let hand_off =
        |why: &str| Finding::note(RING, format!("answers wait for the thread that writes, 40 ms at most: {why}"), FIX);
    Some(match fit(Path::new(&journal.ring_dir)) {
        _ if journal.ring_dir.is_empty() => hand_off("journal.ring_dir is \"\""),
        Ok(()) => Finding::ok(RING, format!("decisions wait for the disk in memory, in {}", journal.ring_dir)),
        Err(why) => hand_off(&why),
    })
}

fn room(place: &Place, journal_bytes: u64, journal: &Journal) -> Finding {
    let free = size(place.free_bytes);
    let may_grow = journal.keep_bytes.saturating_sub(journal_bytes);
    let why = "once the disk is full calls flow, but nothing is recorded and a restart forgets them";
    let fix = format!("make room, or lower journal.keep_bytes ({}) and journal.keep_days", size(journal.keep_bytes));
    if place.free_bytes < FREE_BYTES_MIN {
        return Finding::fail(ROOM, format!("{free} are free"), why, fix);
    }
    if place.free_inodes.is_some_and(|free| free < FREE_INODES_GOOD) {
        let left = place.free_inodes.unwrap_or(0);
        return Finding::warn(ROOM, format!("{left} more files can be created"), why, "remove files that nobody needs");
    }
    if place.free_bytes < FREE_BYTES_GOOD.min(may_grow) {
        let what = format!("{free} are free, and the journal may grow by {}", size(may_grow));
        return Finding::warn(ROOM, what, why, fix);
    }
    Finding::ok(ROOM, format!("{free} are free, the journal has {}", size(journal_bytes)))
}

fn set_aside(name: &str) -> Finding {
    Finding::warn(
        JOURNAL,
        format!("{name} was damaged and is set aside"),
        "what it held was learned again from the nodes, but is not in the audit trail",
        "check the disk (smartctl -a); keep the file for whoever investigates, then move it away",
    )
}

fn unreadable(error: &str) -> Finding {
    Finding::fail(JOURNAL, format!("it cannot be read: {error}"), "a restart would not find its sessions", SUDO)
}

/// Reads a journal that is small enough and says whether it is as it was written.
fn sound(folder: &Folder, bytes: u64) -> Finding {
    if bytes > VERIFIED_BYTES_MAX {
        let what = format!("it has {}, too much to read it here", size(bytes));
        return Finding::note(JOURNAL, what, "`usherd journal verify` reads all of it");
    }
    match verify(folder) {
        Err(error) => unreadable(&error.to_string()),
        Ok(verified) => match verified.bad.first() {
            None => Finding::ok(JOURNAL, format!("{} records, each as it was written", verified.records)),
            Some(damage) => Finding::fail(
                JOURNAL,
                format!("it is not as it was written: {damage}"),
                "the disk fails, or somebody changed it: the next start sets the file aside",
                "`usherd journal verify` shows all; copy the folder before a restart; check the disk (smartctl -a)",
            ),
        },
    }
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, *};
    use super::*;

    const GOOD: Place = Place {
        owner: 990,
        mode: 0o700,
        kind: 0xef53,
        read_only: false,
        free_bytes: 50 << 30,
        free_inodes: Some(1 << 20),
    };

    #[test]
    fn each_thing_that_can_be_wrong_with_the_folder() {
        let table: [(Place, Verdict, &str); 8] = [
            (GOOD, Ok, "private"),
            (Place { read_only: true, ..GOOD }, Fail, "read-only"),
            (Place { owner: 0, ..GOOD }, Fail, "user 0"),
            (Place { mode: 0o755, ..GOOD }, Warn, "755"),
            (Place { kind: 0x0102_1994, ..GOOD }, Warn, "memory"),
            (Place { kind: 0x6969, ..GOOD }, Warn, "NFS"),
            (Place { kind: 0xff53_4d42, ..GOOD }, Warn, "SMB"),
            (Place { kind: 0x794c_7630, ..GOOD }, Warn, "overlay"),
        ];
        for (place, verdict, word) in table {
            let finding = directory(Path::new("/var/lib/usherd"), &place, Some(990));
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn room_is_judged_by_what_the_journal_may_still_take() {
        let journal = Journal { keep_bytes: 10 << 30, ..Journal::default() };
        let small = Journal { keep_bytes: 200 << 20, ..Journal::default() };
        let free = |free_bytes| Place { free_bytes, ..GOOD };
        let table: [(Place, u64, &Journal, Verdict); 7] = [
            (GOOD, 0, &journal, Ok),
            (free(2 << 30), 0, &journal, Ok),
            (free(900 << 20), 0, &journal, Warn),
            (free(900 << 20), 0, &small, Ok),
            (free(100 << 20), 150 << 20, &small, Ok),
            (free(63 << 20), 0, &small, Fail),
            (Place { free_inodes: Some(12), ..GOOD }, 0, &journal, Warn),
        ];
        for (place, bytes, journal, verdict) in table {
            assert_eq!(room(&place, bytes, journal).verdict, verdict, "{place:?} {bytes}");
        }
        assert_eq!(room(&Place { free_inodes: None, ..GOOD }, 0, &journal).verdict, Ok);
    }

    #[test]
    fn the_form_of_the_journal_is_told_where_it_matters() {
        let of =
            |durability, ring_dir: &str| Journal { durability, ring_dir: ring_dir.to_owned(), ..Journal::default() };
        assert!(ring(&of(Durability::Synced, "/dev/shm")).is_none());
        let table = [
            ("/dev/shm", Ok, "in memory"),
            ("", Note, "\"\""),
            ("/nowhere", Note, "/nowhere"),
            ("/etc", Note, "tmpfs"),
        ];
        for (ring_dir, verdict, word) in table {
            let finding = ring(&of(Durability::Written, ring_dir)).unwrap();
            assert!(finding.verdict == verdict && finding.what.contains(word), "{ring_dir}: {finding:?}");
        }
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!([size(5_000), size(70 << 20), size(3 << 29)], ["4 KiB", "70 MiB", "1.5 GiB"]);
    }
}

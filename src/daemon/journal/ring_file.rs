//! The ring's file: where it is, whose it is, and whether it may be there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock, statfs};
use sha2::{Digest, Sha256};

use super::ring::{Memory, RING_HEAD_BYTES, Ring};

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

/// A file in memory, held by this process alone.
#[derive(Debug)]
struct RingFile {
    file: File,
    path: PathBuf,
}

impl Memory for RingFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn discard(&self) {
        // What stays takes room until the machine starts anew, and nothing else.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Checks that files in a folder outlive the process and are on no disk.
///
/// # Errors
/// Why not, for people.
pub fn fit(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let kind = statfs(folder).map_err(|error| format!("{shown}: {error}"))?.f_type as u64;
    if matches!(kind, TMPFS | RAMFS) { Ok(()) } else { Err(format!("{shown} is not on a tmpfs")) }
}

/// The file of a journal in a ring folder: one for each place of a state directory.
pub fn ring_path(ring_folder: &Path, journal_folder: &Path) -> PathBuf {
    let place = std::fs::canonicalize(journal_folder).unwrap_or_else(|_| journal_folder.to_owned());
    let digest = Sha256::digest(place.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    ring_folder.join(format!("journal-{name}.ring"))
}

/// Opens the ring of a journal, and makes it where there is none yet.
///
/// # Errors
/// Why there can be none here, for people: decisions are handed to a thread that writes then.
pub fn open_ring(ring_folder: &Path, journal_folder: &Path, bytes: u64) -> Result<Ring, String> {
    fit(ring_folder)?;
    let path = ring_path(ring_folder, journal_folder);
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let memory = locked(&path, true).map_err(failed)?;
    let memory = match Ring::bytes_of(&memory) {
        None => memory,
        Some(found) => {
            let ring = Ring::new(memory, found);
            if found == bytes || ring.used_ratio() > 0.0 {
                return Ok(ring);
            }
            // Of another size, and empty: it is made anew.
            drop(ring);
            locked(&path, true).map_err(failed)?
        }
    };
    memory.file.set_len(0).map_err(failed)?;
    // Room is taken now, so that no write can lack it later.
    if let Err(error) = fallocate(&memory.file, FallocateFlags::empty(), 0, RING_HEAD_BYTES + bytes) {
        memory.discard();
        return Err(failed(error.into()));
    }
    Ok(Ring::new(memory, bytes))
}

/// The ring that an earlier run of this journal left, for a run that wants none.
pub fn left_ring(ring_folder: &Path, journal_folder: &Path) -> Option<Ring> {
    let memory = locked(&ring_path(ring_folder, journal_folder), false).ok()?;
    let bytes = Ring::bytes_of(&memory)?;
    Some(Ring::new(memory, bytes))
}

fn locked(path: &Path, make: bool) -> io::Result<RingFile> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(make)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(RingFile { file, path: path.to_owned() })
}

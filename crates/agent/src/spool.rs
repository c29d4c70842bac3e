//! Releases on disk until the daemon has acknowledged them, and the agent's boot number.
//!
//! One line each, with a checksum: a line that a power cut tore, or that somebody edited, is set aside and
//! counted, and those around it are kept. What was written survives a `kill -9` at once and a power cut from
//! the next sync on; what a power cut takes, the next listing of the PBX brings back.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use usherd_contract::names::EPOCH_MAX;

/// The releases.
const RELEASES: &str = "releases";
/// Lines that could not be read.
const DAMAGED: &str = "releases.damaged";
/// Epoch and number of starts.
const BOOT: &str = "boot";
/// Most bytes of damaged lines that are kept.
const DAMAGED_BYTES_MAX: u64 = 1024 * 1024;
/// The number of starts from which on none fits above the numbers of messages.
const STARTS_MAX: u64 = 1 << 31;

/// A session that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The customer phone system.
    pub tenant: String,
    /// The session.
    pub session: String,
    /// Its parties stay bridged (C7).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transferred: bool,
}

/// The file of releases.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    written: u64,
    acknowledged: u64,
    unsynced: bool,
    damaged: u64,
}

impl Spool {
    /// Opens the folder, and returns the releases that were never acknowledged, in order.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<(Self, Vec<Release>)> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(RELEASES);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (mut releases, mut good, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match read(line) {
                Some(release) => {
                    releases.push(release);
                    good.extend_from_slice(line);
                }
                None => damaged.push(line),
            }
        }
        if !damaged.is_empty() {
            set_aside(folder, &damaged)?;
            replace(folder, RELEASES, &good)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (bytes, written) = (good.len() as u64, releases.len() as u64);
        let (folder, damaged) = (folder.to_owned(), damaged.len() as u64);
        Ok((Spool { folder, file, bytes, bytes_max, written, acknowledged: 0, unsynced: false, damaged }, releases))
    }

    /// Appends a release; `false` where the spool is full: nothing was written, and the caller says so.
    ///
    /// # Errors
    /// An error of the disk.
    pub fn append(&mut self, release: &Release) -> io::Result<bool> {
        let line = line(release)?;
        if self.bytes + line.len() as u64 > self.bytes_max {
            return Ok(false);
        }
        let written = self.file.write_all(&line);
        if let Err(error) = written {
            // A half line would be taken for damage: the next one must not be joined to it.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.written += 1;
        self.unsynced = true;
        Ok(true)
    }

    /// The file to sync, so that all that was written by now survives a power cut; `None` where it does already.
    /// Syncing may take a while: do it where nobody waits, and call [`Spool::unsynced`] if it failed.
    ///
    /// # Errors
    /// The handle cannot be duplicated.
    pub fn to_sync(&mut self) -> io::Result<Option<File>> {
        if !std::mem::take(&mut self.unsynced) {
            return Ok(None);
        }
        self.file.try_clone().map(Some)
    }

    /// The file that [`Spool::to_sync`] gave could not be synced.
    pub fn unsynced(&mut self) {
        self.unsynced = true;
    }

    /// How many were written, counted from the opening; for [`Spool::acknowledge`].
    pub fn mark(&self) -> u64 {
        self.written
    }

    /// How many wait for the daemon.
    pub fn waiting(&self) -> u64 {
        self.written - self.acknowledged
    }

    /// Lines that could not be read when it was opened.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The daemon has everything up to this mark. Once it has all, the file is emptied; until then it is kept,
    /// because a release twice is a release once (G1).
    ///
    /// # Errors
    /// An error of the disk; everything stays as it is, and would be sent again.
    pub fn acknowledge(&mut self, mark: u64) -> io::Result<()> {
        self.acknowledged = self.acknowledged.max(mark.min(self.written));
        if self.acknowledged == self.written && self.bytes > 0 {
            self.file.set_len(0)?;
            self.bytes = 0;
        }
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The epoch that this node keeps, and the number that its first message has: higher than all of earlier starts.
///
/// The epoch outlives a restart of the agent, because the PBX did not restart and its calls go on: a new one
/// would end them at the daemon (G8). `fresh` is the epoch of a folder that holds none.
///
/// # Errors
/// The folder cannot be read or written.
pub fn boot(folder: &Path, fresh: u64) -> io::Result<(u64, u64)> {
    std::fs::create_dir_all(folder)?;
    let kept = match std::fs::read(folder.join(BOOT)) {
        // An epoch that no daemon takes counts as none: this node could never say hello with it.
        Ok(bytes) => decode_line::<(u64, u64)>(&bytes).filter(|(epoch, _)| *epoch <= EPOCH_MAX),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let (epoch, starts) = match kept {
        Some((epoch, starts)) if starts + 1 < STARTS_MAX => (epoch, starts + 1),
        Some((epoch, _)) => (fresh.max(epoch + 1).min(EPOCH_MAX), 1),
        None => (fresh, 1),
    };
    replace(folder, BOOT, &encode_line(&(epoch, starts))?)?;
    Ok((epoch, starts << 32))
}

/// Stores a newer epoch, which the daemon knew and which is used from now on, for the next start.
///
/// # Errors
/// The folder cannot be read or written.
pub fn store_epoch(folder: &Path, epoch: u64) -> io::Result<()> {
    let kept = decode_line::<(u64, u64)>(&std::fs::read(folder.join(BOOT))?);
    let starts = kept.map_or(1, |(_, starts)| starts);
    replace(folder, BOOT, &encode_line(&(epoch, starts))?)
}

/// A value as a line with its checksum.
pub(super) fn encode_line<T: Serialize>(what: &T) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(what)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// The value of a line, if the line is whole.
pub(super) fn decode_line<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Option<T> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = (line.get(..8)?, line.get(9..)?);
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if sum == crc32c::crc32c(json) { serde_json::from_slice(json).ok() } else { None }
}

fn line(release: &Release) -> io::Result<Vec<u8>> {
    encode_line(release)
}

fn read(line: &[u8]) -> Option<Release> {
    decode_line(line)
}

fn set_aside(folder: &Path, lines: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join(DAMAGED))?;
    if file.metadata()?.len() < DAMAGED_BYTES_MAX {
        for line in lines {
            file.write_all(line)?;
            if line.last() != Some(&b'\n') {
                file.write_all(b"\n")?;
            }
        }
    }
    file.sync_data()
}

/// Replaces a file atomically.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(session: &str) -> Release {
        Release { tenant: "acme".to_owned(), session: session.to_owned(), transferred: false }
    }

    fn open(folder: &Path) -> (Spool, Vec<Release>) {
        Spool::open(folder, 10_000).unwrap()
    }

    /// Files as version 0.1 wrote them; every later version must read them.
    const GOLDEN: &str = include_str!("golden/releases");
    const GOLDEN_BOOT: &str = include_str!("golden/boot");

    #[test]
    fn the_golden_files_are_read_and_written_as_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let all = [release("pbx-1-a"), Release { transferred: true, ..release("zo\u{eb}\n\"b\"") }];
        let (mut spool, _) = open(dir.path());
        all.iter().for_each(|one| assert!(spool.append(one).unwrap()));
        assert_eq!(boot(dir.path(), 1_795_392_000).unwrap(), (1_795_392_000, 1 << 32));
        let written = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((written(RELEASES).as_str(), written(BOOT).as_str()), (GOLDEN, GOLDEN_BOOT));
        std::fs::write(dir.path().join(RELEASES), GOLDEN).unwrap();
        std::fs::write(dir.path().join(BOOT), GOLDEN_BOOT).unwrap();
        assert_eq!(open(dir.path()).1, all);
        assert_eq!(boot(dir.path(), 2_000_000_000).unwrap(), (1_795_392_000, 2 << 32));
    }

    #[test]
    fn what_was_not_acknowledged_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, old) = open(dir.path());
        assert!(old.is_empty());
        for session in ["a", "b", "c\"\n"] {
            assert!(spool.append(&release(session)).unwrap());
        }
        spool.acknowledge(1).unwrap();
        assert_eq!(spool.waiting(), 2);
        drop(spool);
        let (mut spool, old) = open(dir.path());
        assert_eq!(old, [release("a"), release("b"), release("c\"\n")], "one too many is harmless, one too few is not");
        let mark = spool.mark();
        assert!(spool.append(&release("d")).unwrap());
        spool.acknowledge(mark).unwrap();
        assert_eq!(spool.waiting(), 1);
        spool.acknowledge(spool.mark()).unwrap();
        assert!(spool.to_sync().unwrap().is_some() && spool.to_sync().unwrap().is_none());
        assert!(spool.append(&release("e")).unwrap());
        assert_eq!(open(dir.path()).1, [release("e")]);
    }

    #[test]
    fn a_cut_or_a_flipped_bit_costs_at_most_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(dir.path());
        let all = ["a", "b", "c"].map(release);
        for one in &all {
            spool.append(one).unwrap();
        }
        let path = dir.path().join(RELEASES);
        let good = std::fs::read(&path).unwrap();
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            let (spool, old) = open(dir.path());
            let whole = good[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(old, all[..whole], "cut at {cut}");
            let torn = cut > 0 && good[cut - 1] != b'\n';
            assert_eq!(spool.damaged(), u64::from(torn), "cut at {cut}");
        }
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            std::fs::write(&path, &bad).unwrap();
            let (_, old) = open(dir.path());
            let hit = good[..at / 8].iter().filter(|byte| **byte == b'\n').count();
            let kept = all.iter().enumerate().filter(|(line, one)| *line != hit && old.contains(one)).count();
            // A line end that is gone takes the next line along.
            let lost = if good[at / 8] == b'\n' && hit < 2 { 1 } else { 2 };
            assert_eq!(kept, lost, "bit {at}: {old:?}");
            assert!(old.iter().all(|one| all.contains(one)), "bit {at}: nothing is made up: {old:?}");
        }
    }

    #[test]
    fn full_is_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, _) = Spool::open(dir.path(), 100).unwrap();
        assert!(spool.append(&release("a")).unwrap());
        assert!(!spool.append(&release(&"x".repeat(100))).unwrap());
        assert_eq!((spool.waiting(), open(dir.path()).1.len()), (1, 1));
    }

    #[test]
    fn the_epoch_is_kept_and_numbers_grow_from_start_to_start() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(boot(dir.path(), 1_000).unwrap(), (1_000, 1 << 32));
        assert_eq!(boot(dir.path(), 2_000).unwrap(), (1_000, 2 << 32));
        store_epoch(dir.path(), 1_500).unwrap();
        assert_eq!(boot(dir.path(), 2_000).unwrap(), (1_500, 3 << 32), "the daemon knew of a later one");
        std::fs::write(dir.path().join(BOOT), "damaged").unwrap();
        assert_eq!(boot(dir.path(), 3_000).unwrap(), (3_000, 1 << 32));
        replace(dir.path(), BOOT, &encode_line(&(5_000_u64, STARTS_MAX)).unwrap()).unwrap();
        assert_eq!(boot(dir.path(), 4_000).unwrap(), (5_001, 1 << 32), "an epoch never goes back");
    }
}

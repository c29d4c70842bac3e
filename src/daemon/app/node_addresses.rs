//! The addresses that nodes were heard from, kept over restarts: else strangers could hold the nodes' share of
//! connections before the first node is back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::daemon::config::replace_file;
use crate::daemon::edge::Gate;

/// The file in the state directory.
pub const NODE_ADDRESSES_FILE: &str = "node-addresses";
/// Its first line. Format 1: then one line for each address, when it was heard last in seconds since 1970 UTC, to the
/// hour, and the address as IPv4, or the first of an IPv6 /64. This is frozen: another format has another number.
const FORMAT: &str = "usherd node addresses 1";
/// How long an address is kept that nothing more is heard from, seconds: longer than the oldest connection may get.
const KEPT_S: i64 = 90 * 86_400;
/// To what an instant is rounded down, so that the file need not change each time a node is heard, seconds.
const STEP_S: i64 = 3_600;
/// Largest file that is read, bytes; the addresses that a gate remembers by default fill a third of it.
const BYTES_MAX: u64 = 2 << 20;

/// When each address was heard last, and the file that says so.
#[derive(Debug)]
pub struct NodeAddresses {
    folder: PathBuf,
    kept: Mutex<Kept>,
    /// One writes at a time, and the newest last.
    writes: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    seen: BTreeMap<IpAddr, i64>,
    /// The count of the gate when it was looked at last.
    heard: u64,
    /// True if the file does not say so yet.
    is_new: bool,
}

impl NodeAddresses {
    /// Reads the file of a state directory, if there is one, and lets a gate know the addresses in it, as many as it
    /// remembers. None is too old yet: at a start nobody knows whether the clock is right.
    pub fn recall(folder: &Path, gate: &Gate) -> Self {
        let seen = match read(&folder.join(NODE_ADDRESSES_FILE)) {
            Ok(seen) => seen,
            Err(why) => {
                tracing::warn!(why, file = NODE_ADDRESSES_FILE, "the addresses of nodes are learned again");
                BTreeMap::new()
            }
        };
        let mut kept = Kept { seen, ..Kept::default() };
        kept.keep_newest(gate);
        let mut oldest_first: Vec<(i64, IpAddr)> = kept.seen.iter().map(|(address, seen)| (*seen, *address)).collect();
        oldest_first.sort_unstable();
        kept.heard = gate.recall(oldest_first.into_iter().map(|(_, address)| address));
        NodeAddresses { folder: folder.to_owned(), kept: Mutex::new(kept), writes: Mutex::default() }
    }

    /// Takes note of what a gate heard since it was looked at last, and has it written by a thread that decides
    /// nothing. Call it about every second, within a runtime, with the wall clock as far as it is trusted, and whether it
    /// is: while it is not, none gets too old.
    pub fn look(self: &Arc<Self>, gate: &Gate, utc_ms: i64, is_trusted: bool) {
        if self.note(gate, utc_ms, is_trusted) {
            let addresses = Arc::clone(self);
            drop(tokio::task::spawn_blocking(move || addresses.write()));
        }
    }

    /// The last look; it waits for the disk.
    pub fn end(&self, gate: &Gate, utc_ms: i64, is_trusted: bool) {
        self.note(gate, utc_ms, is_trusted);
        self.write();
    }

    /// True if there is something to write that nobody was told of.
    fn note(&self, gate: &Gate, utc_ms: i64, is_trusted: bool) -> bool {
        let now_s = utc_ms / 1_000;
        let mut kept = self.kept.lock();
        let (heard, addresses) = gate.heard_since(kept.heard);
        kept.heard = heard;
        let mut is_new = is_trusted && kept.forget_old(now_s);
        let step_s = now_s - now_s.rem_euclid(STEP_S);
        for address in addresses {
            is_new |= kept.seen.insert(address, step_s) != Some(step_s);
        }
        kept.keep_newest(gate);
        let is_first = is_new && !kept.is_new;
        kept.is_new |= is_new;
        is_first
    }

    fn write(&self) {
        let _one_at_a_time = self.writes.lock();
        let text = {
            let mut kept = self.kept.lock();
            if !std::mem::take(&mut kept.is_new) {
                return;
            }
            text(&kept.seen)
        };
        if let Err(error) = replace_file(&self.folder, NODE_ADDRESSES_FILE, text.as_bytes()) {
            tracing::warn!(%error, file = NODE_ADDRESSES_FILE, "the addresses of nodes cannot be kept for the next start");
        }
    }
}

impl Kept {
    /// Drops what was not heard for too long; whether there was any. What seems to be heard in the future stays: a
    /// clock was wrong.
    fn forget_old(&mut self, now_s: i64) -> bool {
        let before = self.seen.len();
        self.seen.retain(|_, seen| now_s.saturating_sub(*seen) <= KEPT_S);
        self.seen.len() < before
    }

    /// Drops what is more than a gate remembers, the oldest first and of the same hour what the gate has forgotten: so
    /// the file is never longer than what is read.
    fn keep_newest(&mut self, gate: &Gate) {
        let more = self.seen.len().saturating_sub(gate.node_addresses_max());
        if more == 0 {
            return;
        }
        let mut oldest_first: Vec<(i64, bool, IpAddr)> =
            self.seen.iter().map(|(address, seen)| (*seen, gate.knows_node(*address), *address)).collect();
        oldest_first.sort_unstable();
        oldest_first.iter().take(more).for_each(|(_, _, address)| _ = self.seen.remove(address));
    }
}

fn text(seen: &BTreeMap<IpAddr, i64>) -> String {
    let mut text = format!("{FORMAT}\n");
    for (address, seen) in seen {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{seen} {address}");
    }
    text
}

/// The addresses in a file; none where there is no file.
fn read(path: &Path) -> Result<BTreeMap<IpAddr, i64>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Ok(file) if file.len() > BYTES_MAX => return Err(format!("it is longer than {BYTES_MAX} bytes")),
        _ => {}
    }
    parse(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
}

fn parse(text: &str) -> Result<BTreeMap<IpAddr, i64>, String> {
    let body = text.strip_prefix(FORMAT).and_then(|body| body.strip_prefix('\n'));
    let body = body.ok_or_else(|| format!("it does not begin with {FORMAT:?}: of another release, or damaged"))?;
    let line = |line: &str| Some((line.split_once(' ')?.1.parse().ok()?, line.split_once(' ')?.0.parse().ok()?));
    let lines = body.lines().enumerate();
    lines.map(|(at, text)| line(text).ok_or_else(|| format!("line {} is damaged", at + 2))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::edge::Limits;

    const NOON_MS: i64 = 1_795_348_800_000;
    const DAY_MS: i64 = 86_400_000;
    /// A file of format 1, as it was written once; it must be read for good.
    const GOLDEN: &str = include_str!("node_addresses.golden");

    fn gate() -> Arc<Gate> {
        Arc::new(Gate::new(&Limits { node_addresses_max: 3, ..Limits::default() }))
    }

    fn hear(gate: &Arc<Gate>, address: &str) {
        gate.admit(Some(address.parse().unwrap())).unwrap().mark_node();
    }

    fn knows(gate: &Gate, addresses: &[&str]) -> Vec<bool> {
        addresses.iter().map(|address| gate.knows_node(address.parse().unwrap())).collect()
    }

    #[test]
    fn the_golden_file_is_read_and_written_as_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NODE_ADDRESSES_FILE), GOLDEN).unwrap();
        let gate = gate();
        let addresses = NodeAddresses::recall(folder.path(), &gate);
        assert_eq!(knows(&gate, &["10.0.0.7", "2001:db8:0:1::99", "10.0.0.8"]), [true, true, false]);
        assert_eq!(text(&addresses.kept.lock().seen), GOLDEN);
    }

    #[test]
    fn what_was_heard_is_known_after_a_restart_and_goes_with_time() {
        let folder = tempfile::tempdir().unwrap();
        let before = gate();
        let addresses = NodeAddresses::recall(folder.path(), &before);
        assert!(!addresses.note(&before, NOON_MS, true), "nothing was heard");
        hear(&before, "10.0.0.1");
        assert!(addresses.note(&before, NOON_MS, true));
        hear(&before, "10.0.0.2");
        assert!(!addresses.note(&before, NOON_MS, true), "somebody was told to write already");
        addresses.write();
        hear(&before, "10.0.0.2");
        assert!(!addresses.note(&before, NOON_MS + 60_000, true), "the hour is the same");
        hear(&before, "10.0.0.2");
        addresses.end(&before, NOON_MS + 80 * DAY_MS, true);
        let after = gate();
        let addresses = NodeAddresses::recall(folder.path(), &after);
        assert_eq!(knows(&after, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]), [true, true, false]);
        addresses.end(&after, NOON_MS + 90 * DAY_MS, true);
        assert_eq!(addresses.kept.lock().seen.len(), 2);
        addresses.end(&after, NOON_MS + 91 * DAY_MS, true);
        let later = gate();
        let addresses = NodeAddresses::recall(folder.path(), &later);
        assert_eq!(knows(&later, &["10.0.0.1", "10.0.0.2"]), [false, true]);
        addresses.end(&later, NOON_MS + 300 * DAY_MS, true);
        let file = std::fs::read_to_string(folder.path().join(NODE_ADDRESSES_FILE)).unwrap();
        assert_eq!(file, format!("{FORMAT}\n"), "an old one is in the file no more");
    }

    #[test]
    fn of_too_many_the_last_heard_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = (1..=5).map(|n| format!("{} 10.0.0.{n}\n", NOON_MS / 1_000 - n * 3_600)).collect();
        std::fs::write(folder.path().join(NODE_ADDRESSES_FILE), format!("{FORMAT}\n{lines}")).unwrap();
        let gate = gate();
        NodeAddresses::recall(folder.path(), &gate);
        assert_eq!(
            knows(&gate, &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]),
            [true, true, true, false, false]
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_none() {
        for text in
            ["", "usherd node addresses 2\n", "usherd node addresses 1\n1 x\n", "usherd node addresses 1\n10.0.0.1\n"]
        {
            assert!(parse(text).is_err(), "{text}");
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(NODE_ADDRESSES_FILE), text).unwrap();
            let gate = gate();
            let addresses = NodeAddresses::recall(folder.path(), &gate);
            hear(&gate, "10.0.0.1");
            addresses.end(&gate, NOON_MS, true);
            assert_eq!(read(&folder.path().join(NODE_ADDRESSES_FILE)).unwrap().len(), 1, "{text}");
        }
    }

    #[test]
    fn a_clock_that_nobody_trusts_makes_no_address_old() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("{} 10.0.0.1\n", NOON_MS / 1_000);
        std::fs::write(folder.path().join(NODE_ADDRESSES_FILE), format!("{FORMAT}\n{line}")).unwrap();
        let gate = gate();
        let addresses = NodeAddresses::recall(folder.path(), &gate);
        hear(&gate, "10.0.0.2");
        addresses.end(&gate, NOON_MS + 1_300 * DAY_MS, false);
        assert_eq!(addresses.kept.lock().seen.len(), 2);
        addresses.end(&gate, NOON_MS + DAY_MS, true);
        let file = std::fs::read_to_string(folder.path().join(NODE_ADDRESSES_FILE)).unwrap();
        assert!(file.contains(&line), "{file}");
    }

    #[test]
    fn no_more_are_kept_than_a_gate_remembers() {
        let folder = tempfile::tempdir().unwrap();
        let gate = gate();
        let addresses = NodeAddresses::recall(folder.path(), &gate);
        for n in 1..=9 {
            hear(&gate, &format!("10.0.0.{n}"));
            addresses.note(&gate, NOON_MS, true);
        }
        addresses.write();
        let kept = read(&folder.path().join(NODE_ADDRESSES_FILE)).unwrap();
        let newest: Vec<IpAddr> = (7..=9).map(|n| format!("10.0.0.{n}").parse().unwrap()).collect();
        assert_eq!(kept.into_keys().collect::<Vec<_>>(), newest);
    }
}

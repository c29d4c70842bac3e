//! The queue of one receiver: bounded, and in a file of the state directory, so that a restart forgets nothing.
//!
//! The file is replaced as a whole, at most about once a second: JSON lines, each behind its CRC32C. What was
//! delivered since is delivered again after a crash; receivers recognise it by its id.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use usherd_engine::Now;

use crate::daemon::config::{Disk, Files as _, replace_file};

/// The folder in the state directory.
pub(crate) const FOLDER: &str = "webhooks";
/// Most bytes of bodies that wait for one receiver, however many messages are allowed.
const BYTES_MAX: usize = 16 << 20;
/// Largest file, bytes: bodies may double when they are written as JSON.
const FILE_BYTES_MAX: usize = 64 << 20;
/// Waits between tries, seconds, as Standard Webhooks recommend them; the last one repeats.
const WAITS_S: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Added to a wait at random, at most, percent: receivers that come back are not met by all at once.
const JITTER_PERCENT: u64 = 20;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) about: String,
    pub(crate) tenant: String,
    pub(crate) body: String,
    pub(crate) made_utc_ms: i64,
    /// Tries that failed.
    pub(crate) attempts: u32,
    /// When the next try is due, and when no further one is made: uptime milliseconds, in the file UTC.
    pub(crate) due_ms: i64,
    pub(crate) until_ms: i64,
    /// The receiver had a look at it and did not want it: that it takes others says nothing about this one.
    pub(crate) refused: bool,
}

/// The messages that wait for one receiver.
#[derive(Debug)]
pub(crate) struct Queue {
    folder: PathBuf,
    file: String,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    dirty: bool,
}

impl Queue {
    /// Opens the queue that an earlier run left for a receiver, with a sentence about damage: damaged lines are left
    /// out, and the file is set aside.
    pub(crate) fn open(state_dir: &Path, name: &str, now: Now, retry_for_s: u32) -> (Self, Option<String>) {
        let folder = state_dir.join(FOLDER);
        let file = format!("{name}.queue");
        let mut queue = Queue { folder, file, waiting: VecDeque::new(), bytes: 0, dirty: false };
        let path = queue.folder.join(&queue.file);
        if !path.exists() {
            return (queue, None);
        }
        let read = Disk
            .read(&path, FILE_BYTES_MAX)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()));
        let (text, mut fault) = match read {
            Ok(text) => (text, None),
            Err(why) => (String::new(), Some(why)),
        };
        for line in text.lines() {
            match parse(line) {
                Some(waiting) => queue.restore(waiting, now, retry_for_s),
                None => fault = Some("has a damaged line".to_owned()),
            }
        }
        let problem = fault.map(|why| {
            queue.dirty = true;
            let aside = queue.folder.join(format!("{}.damaged", queue.file));
            let moved = std::fs::rename(&path, &aside).map_or_else(
                |error| format!("cannot be set aside: {error}"),
                |()| format!("is set aside as {}", aside.display()),
            );
            format!("{} {why} and {moved}; {} whole messages of it are kept", path.display(), queue.waiting.len())
        });
        (queue, problem)
    }

    /// Clocks may have been moved since: nothing waits for longer than it would have to from now on.
    fn restore(&mut self, mut waiting: Waiting, now: Now, retry_for_s: u32) {
        let from_now = |utc_ms: i64, most_s: u64| {
            utc_ms.saturating_sub(now.utc_ms).clamp(0, most_s as i64 * 1_000) + now.uptime_ms as i64
        };
        waiting.due_ms = from_now(waiting.due_ms, WAITS_S[WAITS_S.len() - 1]);
        waiting.until_ms = from_now(waiting.until_ms, retry_for_s.into());
        self.bytes += waiting.body.len();
        self.waiting.push_back(waiting);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the oldest was made, milliseconds since 1970 UTC.
    pub(crate) fn oldest_utc_ms(&self) -> Option<i64> {
        self.waiting.iter().map(|waiting| waiting.made_utc_ms).min()
    }

    /// One more. Beyond the limit the oldest go, but for the one under way: their number.
    pub(crate) fn push(&mut self, waiting: Waiting, most: usize, under_way: Option<&str>) -> u64 {
        self.dirty = true;
        self.bytes += waiting.body.len();
        self.waiting.push_back(waiting);
        let mut dropped = 0;
        while self.waiting.len() > most || self.bytes > BYTES_MAX {
            let Some(oldest) = self.waiting.iter().position(|waiting| under_way != Some(waiting.id.as_str())) else {
                break;
            };
            self.bytes -= self.waiting.remove(oldest).map_or(0, |gone| gone.body.len());
            dropped += 1;
        }
        dropped
    }

    /// The first message that is due, if any is.
    pub(crate) fn due(&self, now: Now) -> Option<&Waiting> {
        self.waiting
            .iter()
            .min_by_key(|waiting| waiting.due_ms)
            .filter(|waiting| waiting.due_ms <= now.uptime_ms as i64)
    }

    /// It need not wait any more.
    pub(crate) fn remove(&mut self, id: &str) {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.id == id) {
            self.bytes -= self.waiting.remove(at).map_or(0, |gone| gone.body.len());
            self.dirty = true;
        }
    }

    /// A try failed: how long it waits, milliseconds; `None` where its time is over or it is not here any more.
    pub(crate) fn postpone(&mut self, id: &str, now: Now, at_least_ms: u64, refused: bool) -> Option<u64> {
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.id == id)?;
        self.dirty = true;
        let now_ms = now.uptime_ms as i64;
        if waiting.until_ms <= now_ms {
            return None;
        }
        let wait_s = WAITS_S[(waiting.attempts as usize).min(WAITS_S.len() - 1)];
        waiting.attempts += 1;
        waiting.refused = refused;
        let wait_ms = (wait_s * 1_000 + fastrand::u64(0..=wait_s * 10 * JITTER_PERCENT)).max(at_least_ms);
        // The last try is made when the time is over, and not long before.
        waiting.due_ms = (now_ms + wait_ms as i64).min(waiting.until_ms);
        Some((waiting.due_ms - now_ms) as u64)
    }

    /// The receiver is back: what it did not refuse need not wait any longer.
    pub(crate) fn bring_forward(&mut self, now: Now) {
        for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.refused && waiting.attempts > 0) {
            waiting.due_ms = waiting.due_ms.min(now.uptime_ms as i64);
        }
    }

    /// Everything goes: how many there were.
    pub(crate) fn clear(&mut self) -> u64 {
        let gone = self.waiting.len() as u64;
        self.dirty |= gone > 0;
        self.waiting.clear();
        self.bytes = 0;
        gone
    }

    /// Writes it down where it changed since.
    ///
    /// # Errors
    /// An error of the file system; it is tried again with the next change.
    pub(crate) fn save(&mut self, now: Now) -> std::io::Result<()> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        let in_utc = |uptime_ms: i64| uptime_ms.saturating_sub(now.uptime_ms as i64).saturating_add(now.utc_ms);
        let mut text = String::with_capacity(self.bytes + self.waiting.len() * 256);
        for waiting in &self.waiting {
            let line =
                Waiting { due_ms: in_utc(waiting.due_ms), until_ms: in_utc(waiting.until_ms), ..waiting.clone() };
            let json = serde_json::to_string(&line)?;
            text.push_str(&format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())));
        }
        replace_file(&self.folder, &self.file, text.as_bytes())
    }
}

fn parse(line: &str) -> Option<Waiting> {
    let (crc, json) = line.split_once(' ')?;
    let is_whole = crc == format!("{:08x}", crc32c::crc32c(json.as_bytes()));
    serde_json::from_str(json).ok().filter(|_| is_whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { uptime_ms: 1_000_000 + seconds * 1_000, utc_ms: 1_700_000_000_000 + (seconds * 1_000) as i64 }
    }

    fn message(id: &str, second: u64) -> Waiting {
        let due_ms = at(second).uptime_ms as i64;
        Waiting {
            id: id.to_owned(),
            about: "usherd.test.v1".to_owned(),
            tenant: String::new(),
            body: "{\"ü\n\":1}".to_owned(),
            made_utc_ms: at(second).utc_ms,
            attempts: 0,
            due_ms,
            until_ms: due_ms + 259_200_000,
            refused: false,
        }
    }

    fn ids(queue: &Queue) -> String {
        queue.waiting.iter().map(|waiting| waiting.id.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// A file as version 0.1 wrote it; it must be read for good.
    const GOLDEN: &str = include_str!("golden/queue");

    #[test]
    fn the_golden_file_is_read_and_written_as_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(dir.path(), "desk", at(0), 259_200);
        queue.push(message("msg_1", 0), 9, None);
        let about = "usherd.seat.denied.v1".to_owned();
        let other = Waiting { about, tenant: "acme".to_owned(), attempts: 2, refused: true, ..message("msg_2", 1) };
        queue.push(other, 9, None);
        let waiting = queue.waiting.clone();
        queue.save(at(1)).unwrap();
        let path = dir.path().join("webhooks/desk.queue");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), GOLDEN);
        std::fs::write(&path, GOLDEN).unwrap();
        let (again, problem) = Queue::open(dir.path(), "desk", at(0), 300_000);
        assert_eq!((again.waiting, problem), (waiting, None));
    }

    #[test]
    fn a_restart_keeps_the_queue_and_damage_costs_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let open = |second| Queue::open(dir.path(), "desk", at(second), 259_200);
        let (mut queue, problem) = open(0);
        assert_eq!((queue.len(), problem), (0, None));
        for id in ["a", "b", "c"] {
            queue.push(message(id, 0), 9, None);
        }
        let wait_ms = queue.postpone("b", at(1), 0, true).unwrap();
        assert!((5_000..=6_000).contains(&wait_ms));
        queue.save(at(1)).unwrap();
        // Another run has another uptime; the wall clock goes on.
        let later = Now { uptime_ms: 7_000, utc_ms: at(3).utc_ms };
        let (again, problem) = Queue::open(dir.path(), "desk", later, 259_200);
        assert_eq!((ids(&again).as_str(), problem), ("a b c", None));
        assert_eq!(again.waiting[1].due_ms, 7_000 + wait_ms as i64 - 2_000);
        assert_eq!((again.waiting[1].attempts, again.waiting[1].refused), (1, true));
        let path = dir.path().join("webhooks/desk.queue");
        let whole = std::fs::read(&path).unwrap();
        for at_byte in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at_byte] ^= 0x20;
            std::fs::write(&path, &bytes).unwrap();
            let (left, problem) = open(3);
            assert!(left.len() < 3 && problem.is_some(), "byte {at_byte}: {}", ids(&left));
            assert!(!path.exists() && dir.path().join("webhooks/desk.queue.damaged").exists());
        }
    }

    #[test]
    fn the_oldest_goes_but_for_what_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(dir.path(), "desk", at(0), 60);
        let dropped: Vec<u64> = (0..5).map(|n| queue.push(message(&n.to_string(), n), 3, Some("0"))).collect();
        assert_eq!((dropped, ids(&queue).as_str()), (vec![0, 0, 0, 1, 1], "0 3 4"));
        let large = Waiting { body: "x".repeat(BYTES_MAX - 4), ..message("large", 9) };
        assert_eq!((queue.push(large, 9, Some("0")), ids(&queue).as_str()), (3, "0"), "bytes are limited too");
    }

    #[test]
    fn waits_grow_until_the_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(dir.path(), "desk", at(0), 259_200);
        queue.push(message("a", 0), 9, None);
        let (mut second, mut tries) = (0, 1);
        assert_eq!(queue.due(at(0)).unwrap().id, "a");
        while let Some(wait_ms) = queue.postpone("a", at(second), 0, false) {
            let least = WAITS_S[(tries - 1).min(8)] * 1_000;
            let last = second * 1_000 + wait_ms == 259_200_000;
            assert!(last || (least..=least * 6 / 5).contains(&wait_ms), "try {tries} waits {wait_ms} ms");
            second += wait_ms.div_ceil(1_000);
            tries += 1;
            assert!(queue.due(at(second - 1)).is_none() || wait_ms < 2_000);
            assert_eq!(queue.due(at(second)).unwrap().attempts as usize, tries - 1);
        }
        assert!((259_200..259_210).contains(&second) && (9..=11).contains(&tries), "{second} {tries}");
        queue.push(message("b", second), 9, None);
        assert_eq!(queue.postpone("b", at(second), 3_600_000, false), Some(3_600_000), "the receiver asked for more");
    }
}

//! The audit trail is read while the daemon goes on: files come and go between any two looks, and nothing is a false alarm.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use usherd::daemon::journal::audit::{Span, export, verify};
use usherd::daemon::journal::storage::{Listed, Storage};
use usherd::daemon::journal::{Commit, Epoch, Feed, Journal, Keep, Local};

use super::disk::{Disk, Held};
use super::model::{Workload, open, utc};

const GROUPS: usize = 400;

/// A daemon at work on the same disk.
struct Daemon {
    journal: Local<Disk>,
    epoch: Epoch,
    workload: Workload,
    at: usize,
}

impl Daemon {
    fn new(disk: &Disk) -> Self {
        let (journal, epoch, _) = open(disk, false, 400).unwrap();
        let mut daemon = Daemon { journal, epoch, workload: Workload::new(11, GROUPS), at: 0 };
        (0..4).for_each(|_| daemon.go_on());
        daemon
    }

    /// Some decisions, a snapshot, and the oldest files go.
    fn go_on(&mut self) {
        for _ in 0..3 {
            let group = &mut self.workload.group(self.at);
            assert_eq!(self.journal.commit(self.epoch, group), Commit::Durable);
            self.at += 1;
        }
        let mut snapshot = self.journal.snapshot_begin(self.epoch).unwrap();
        let mut feed = Feed::new(&self.journal, &mut snapshot);
        self.workload.feed(self.at, &mut feed);
        feed.finish().unwrap();
        self.journal.snapshot_mark(&mut snapshot);
        self.journal.snapshot_end(snapshot).unwrap();
        self.journal.trim(self.epoch, Keep { age_ms: 0, bytes: 0 }, utc(10 * GROUPS)).unwrap();
    }
}

/// The disk as a reader sees it, whose daemon goes on at some of the calls.
struct Busy {
    disk: Disk,
    daemon: Arc<Mutex<Daemon>>,
    calls: Mutex<RefCell<u64>>,
    goes_on_at: Vec<u64>,
}

impl Busy {
    fn call(&self) {
        let calls = self.calls.lock();
        *calls.borrow_mut() += 1;
        if self.goes_on_at.contains(&calls.borrow()) {
            self.daemon.lock().go_on();
        }
    }
}

impl Storage for Busy {
    type File = usize;
    type Lock = Held;

    fn lock(&self) -> io::Result<Held> {
        self.disk.lock()
    }
    fn create(&self, name: &str) -> io::Result<usize> {
        self.disk.create(name)
    }
    fn open(&self, name: &str) -> io::Result<usize> {
        self.disk.open(name)
    }
    fn append(&self, file: &usize, bytes: &[u8]) -> io::Result<usize> {
        self.disk.append(file, bytes)
    }
    fn sync(&self, file: &usize) -> io::Result<()> {
        self.disk.sync(file)
    }
    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.call();
        self.disk.read(name, bytes_max)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&self) -> io::Result<Vec<Listed>> {
        let listed = self.disk.list();
        self.call();
        listed
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

#[test]
fn a_file_that_went_meanwhile_is_no_damage() {
    let mut reached = 0;
    for at in 1..=40 {
        let disk = Disk::default();
        let daemon = Arc::new(Mutex::new(Daemon::new(&disk)));
        // Once, and at the same call of the second look as well.
        for goes_on_at in [vec![at], vec![at, at + 1], vec![at, 2 * at, 3 * at]] {
            let busy = Busy { disk: disk.clone(), daemon: Arc::clone(&daemon), calls: Mutex::default(), goes_on_at };
            let verified = verify(&busy).unwrap();
            assert_eq!(verified.bad, [], "call {at}, {:?}", busy.goes_on_at);
            export(&busy, Span::ALL, &mut Vec::new()).unwrap();
            reached = reached.max(*busy.calls.lock().borrow());
        }
    }
    assert!(reached >= 20, "{reached}");
}

#[test]
fn what_is_damaged_is_told_beside_a_daemon_as_well() {
    let disk = Disk::default();
    let daemon = Daemon::new(&disk);
    drop(daemon);
    let mut image = disk.image();
    let name = image.names().into_iter().find(|name| name.starts_with("segment-")).unwrap();
    let mut bytes = image.bytes(&name);
    bytes[70] ^= 1;
    image.put(&name, bytes);
    let verified = verify(&Disk::of(image)).unwrap();
    assert_eq!(verified.bad.first().map(|damage| damage.file.as_str()), Some(name.as_str()), "{:?}", verified.bad);
}

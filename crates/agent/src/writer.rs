//! The one thread that writes the agent's files, so that no answer to a script waits for a disk (I8).
//!
//! Work is written in the order in which it was handed over. A release that usherd acknowledged before its turn came is
//! not written at all; of devices and boot numbers only the last is.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::counters::Counters;
use super::device_file::{self, StoredDevice};
use super::spool::{self, Release, Spool};

/// Most releases that wait for a disk; those beyond it are only in the client's memory, which is logged.
pub const QUEUE_MAX: usize = 20_000;
/// How long an answer waits for its release to be written; after the first that waited in vain, none does until the
/// disk works again.
const PATIENCE: Duration = Duration::from_millis(40);

/// The work that waits for the thread. Releases are numbered as they are handed over, from one.
#[derive(Default)]
struct Queue {
    releases: VecDeque<(u64, Release)>,
    /// The number of the last release that was handed over.
    accepted: u64,
    /// The number up to which nothing waits to be written.
    done: u64,
    /// The number up to which usherd has them.
    acknowledged: u64,
    /// The number up to which they are removed from the file as well.
    removed: u64,
    sync_due: bool,
    devices: Option<Vec<StoredDevice>>,
    devices_failed: bool,
    epoch: Option<u64>,
    stop: bool,
}

impl Queue {
    fn has_work(&self) -> bool {
        let of_file = !self.releases.is_empty() || self.sync_due || self.removed < self.acknowledged;
        of_file || self.devices.is_some() || self.epoch.is_some()
    }
}

/// The work that the thread takes at once.
struct Work {
    releases: VecDeque<(u64, Release)>,
    /// The number of the last release that was handed over.
    accepted: u64,
    acknowledged: u64,
    sync: bool,
    devices: Option<Vec<StoredDevice>>,
    epoch: Option<u64>,
}

/// The state that the writer and its thread share.
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    written: Notify,
    stalled: AtomicBool,
    counters: Arc<Counters>,
}

/// The writer's handle, which hands work over and waits 40 ms for it at most. Dropped, it ends its thread once
/// all is written.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    damaged: u64,
}

impl Writer {
    /// Starts the thread of a spool that was opened.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(spool: Spool, counters: Arc<Counters>) -> io::Result<Self> {
        let (accepted, damaged) = (spool.mark(), spool.damaged());
        let queue = Queue { accepted, done: accepted, ..Queue::default() };
        let (ready, written, stalled) = (Condvar::new(), Notify::new(), AtomicBool::new(false));
        let shared = Arc::new(Shared { queue: Mutex::new(queue), ready, written, stalled, counters });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("spool".to_owned()).spawn(move || of_thread.run(spool))?;
        Ok(Writer { shared, thread: Mutex::new(Some(thread)), damaged })
    }

    /// Hands a release over; returns its number, or `None` where too many wait already.
    pub fn release(&self, release: Release) -> Option<u64> {
        let mut queue = self.shared.queue.lock();
        if queue.releases.len() >= QUEUE_MAX {
            return None;
        }
        queue.accepted += 1;
        let number = queue.accepted;
        queue.releases.push_back((number, release));
        self.shared.ready.notify_one();
        Some(number)
    }

    /// Waits until the release of this number is written, or 40 ms are over.
    pub async fn written(&self, number: u64) {
        let is_written = async {
            loop {
                let written = self.shared.written.notified();
                if self.shared.queue.lock().done >= number {
                    return;
                }
                written.await;
            }
        };
        if self.shared.stalled.load(Ordering::Relaxed) || timeout(PATIENCE, is_written).await.is_ok() {
            return;
        }
        if !self.shared.stalled.swap(true, Ordering::Relaxed) {
            warn!("the disk of the spool is slow: until it works again releases are in memory, and no script waits");
        }
    }

    /// The number of the last release that was handed over; for [`Self::acknowledge`].
    pub fn mark(&self) -> u64 {
        self.shared.queue.lock().accepted
    }

    /// Notes that usherd has every release up to this number.
    pub fn acknowledge(&self, mark: u64) {
        let mut queue = self.shared.queue.lock();
        queue.acknowledged = queue.acknowledged.max(mark.min(queue.accepted));
        self.shared.ready.notify_one();
    }

    /// True if usherd has not acknowledged all of them.
    pub fn has_unacknowledged(&self) -> bool {
        let queue = self.shared.queue.lock();
        queue.acknowledged < queue.accepted
    }

    /// Releases that wait for usherd, or are still to be removed from the file.
    pub fn waiting(&self) -> u64 {
        let queue = self.shared.queue.lock();
        queue.accepted - queue.removed
    }

    /// Lines that could not be read when the spool was opened.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Makes all that was written by now survive a power cut.
    pub fn sync(&self) {
        self.shared.queue.lock().sync_due = true;
        self.shared.ready.notify_one();
    }

    /// Writes the devices that hold a seat now.
    pub fn devices(&self, devices: Vec<StoredDevice>) {
        self.shared.queue.lock().devices = Some(devices);
        self.shared.ready.notify_one();
    }

    /// True if the devices could not be written since this was asked last.
    pub fn devices_failed(&self) -> bool {
        std::mem::take(&mut self.shared.queue.lock().devices_failed)
    }

    /// Writes the node's boot number from now on.
    pub fn epoch(&self, epoch: u64) {
        self.shared.queue.lock().epoch = Some(epoch);
        self.shared.ready.notify_one();
    }

    /// Waits until everything that was handed over is written; nothing is written after that.
    pub async fn end(&self) {
        self.shared.stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // The thread writes nothing any more: its result does not matter.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    fn stop(&self) {
        self.queue.lock().stop = true;
        self.ready.notify_one();
    }

    fn run(&self, mut spool: Spool) {
        // The number of the last release in the file.
        let mut last = spool.mark();
        while let Some(work) = self.next() {
            for (number, release) in &work.releases {
                // Releases that usherd has already need not be written.
                if *number > work.acknowledged && self.append(&mut spool, release) {
                    last = *number;
                }
            }
            if last <= work.acknowledged
                && let Err(why) = spool.acknowledge(spool.mark())
            {
                error!(%why, "the spool cannot be emptied; its releases will be sent again");
            }
            self.advance(work.accepted, work.acknowledged);
            self.write_rest(spool.folder(), work.devices, work.epoch);
            if work.sync {
                sync(&mut spool);
            }
        }
    }

    /// Waits for work; `None` once there is none left after a stop.
    fn next(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        while !queue.has_work() {
            if queue.stop {
                return None;
            }
            self.ready.wait(&mut queue);
        }
        Some(Work {
            releases: std::mem::take(&mut queue.releases),
            accepted: queue.accepted,
            acknowledged: queue.acknowledged,
            sync: std::mem::take(&mut queue.sync_due),
            devices: queue.devices.take(),
            epoch: queue.epoch.take(),
        })
    }

    /// Appends it to the file; true if it is there.
    fn append(&self, spool: &mut Spool, release: &Release) -> bool {
        match spool.append(release) {
            Ok(true) => return true,
            Ok(false) => {
                self.counters.count("spool_full", "");
                error!("the spool is full; a release is only in memory: raise spool.bytes_max, or start usherd");
            }
            Err(why) => {
                self.counters.count("spool_failed", "");
                error!(%why, "the spool cannot be written; a release is only in memory");
            }
        }
        false
    }

    fn advance(&self, accepted: u64, acknowledged: u64) {
        {
            let mut queue = self.queue.lock();
            queue.done = accepted;
            queue.removed = acknowledged;
        }
        if self.stalled.swap(false, Ordering::Relaxed) {
            info!("the disk of the spool works again");
        }
        self.written.notify_waiters();
    }

    fn write_rest(&self, folder: &Path, devices: Option<Vec<StoredDevice>>, epoch: Option<u64>) {
        if let Some(epoch) = epoch
            && let Err(why) = spool::store_epoch(folder, epoch)
        {
            // If it is not kept, the daemon tells the next start again.
            error!(%why, "the boot number cannot be kept in the spool's folder");
        }
        if let Some(devices) = devices
            && let Err(why) = device_file::write(folder, &devices)
        {
            error!(%why, "the file of devices cannot be written; a restart of the agent would leave them no grace");
            self.queue.lock().devices_failed = true;
        }
    }
}

fn sync(spool: &mut Spool) {
    let synced = spool.to_sync().and_then(|file| file.map_or(Ok(()), |file| file.sync_data()));
    if let Err(why) = synced {
        spool.unsynced();
        error!(%why, "the spool cannot be synced; a power cut may lose releases");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(session: &str) -> Release {
        Release { tenant: "acme".to_owned(), session: session.to_owned(), transferred: false }
    }

    fn open(folder: &Path) -> (Writer, Vec<Release>) {
        let (spool, old) = Spool::open(folder, 100_000).unwrap();
        (Writer::start(spool, Arc::default()).unwrap(), old)
    }

    #[tokio::test]
    async fn all_that_was_handed_over_is_written_in_its_order_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        spool::boot(dir.path(), 1).unwrap();
        let (writer, _) = open(dir.path());
        let all: Vec<Release> = (0..100).map(|at| release(&at.to_string())).collect();
        for one in &all {
            writer.release(one.clone()).unwrap();
        }
        for name in ["a", "b"] {
            writer.devices(vec![StoredDevice::new("asterisk", name)]);
        }
        writer.epoch(7);
        writer.sync();
        writer.end().await;
        assert_eq!(device_file::read(dir.path()).unwrap(), [StoredDevice::new("asterisk", "b")]);
        assert_eq!(spool::boot(dir.path(), 1).unwrap().0, 7);
        assert_eq!(open(dir.path()).1, all);
    }

    #[tokio::test]
    async fn what_is_acknowledged_is_struck_off_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _) = open(dir.path());
        let first = writer.release(release("a")).unwrap();
        writer.written(first).await;
        let mark = writer.mark();
        let second = writer.release(release("b")).unwrap();
        writer.acknowledge(mark);
        writer.written(second).await;
        assert!(writer.has_unacknowledged());
        writer.end().await;
        assert_eq!(writer.waiting(), 1);
        let (writer, old) = open(dir.path());
        assert_eq!(old.last(), Some(&release("b")));
        assert_eq!(writer.waiting(), old.len() as u64);
        writer.acknowledge(writer.mark());
        writer.end().await;
        assert_eq!((writer.waiting(), writer.has_unacknowledged()), (0, false));
        assert!(open(dir.path()).1.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_disk_is_awaited_once_and_a_full_queue_refuses() {
        let (queue, ready, written) = (Mutex::new(Queue::default()), Condvar::new(), Notify::new());
        let (stalled, counters) = (AtomicBool::new(false), Arc::default());
        let shared = Arc::new(Shared { queue, ready, written, stalled, counters });
        // No thread takes anything.
        let writer = Writer { shared, thread: Mutex::new(None), damaged: 0 };
        let begun = tokio::time::Instant::now();
        for at in 0..QUEUE_MAX {
            let number = writer.release(release(&at.to_string())).unwrap();
            writer.written(number).await;
            // The timer of a paused clock counts whole milliseconds.
            assert!(begun.elapsed() <= PATIENCE + Duration::from_millis(1), "the first waits, and no other");
        }
        assert_eq!(writer.release(release("one too many")), None);
        assert_eq!(writer.waiting(), QUEUE_MAX as u64);
        writer.shared.advance(QUEUE_MAX as u64, 0);
        assert!(!writer.shared.stalled.load(Ordering::Relaxed));
    }
}

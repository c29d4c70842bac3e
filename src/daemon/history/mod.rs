//! The usage and the demand of each tenant: for each five minutes of two weeks and each hour of thirteen months.
//!
//! The decisions tell [`demand`] which level of demand each request met and who waits; [`live`] looks at the table
//! once a second and closes a slot every five minutes; a thread of its own writes what is closed into the folder
//! `history` of the state directory ([`store`]). Sums come from the table itself and are exact: seat-seconds,
//! saturated time, denials, peaks, and the requests at each level of demand. How long each level lasted is looked at
//! once a second.
//!
//! A `kill -9` loses at most the slot in progress; a stop loses nothing. Memory: about 100 bytes per tenant, and 1.5 KB
//! per tenant with use in the present hour. Disk: at most `[history] bytes_max`, see `benches/README.md` for what a
//! tenant takes.

mod codec;
pub mod demand;
pub mod live;
pub mod slot;
mod span;
pub mod store;
pub mod usage;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use demand::Demand;
use live::{Closed, Live};
use store::{Job, Limits, Status, Store};
use usherd_engine::{Engine, Now, TenantView};

/// Most jobs that may wait to be written; beyond it a slot stays in memory only until its hour is over.
const JOBS_MAX: usize = 64;

/// The history of a running daemon.
#[derive(Debug)]
pub struct History {
    /// The demand, as the decisions report it.
    pub demand: Demand,
    live: Arc<Mutex<Live>>,
    store: Arc<Store>,
    limits: Arc<ArcSwap<Limits>>,
    writer: Mutex<Option<Writer>>,
    /// Jobs that wait for the disk.
    waiting: Arc<AtomicUsize>,
}

/// The thread that writes, and how it is told to: each job with the second at which it was given.
type Writer = (SyncSender<(Job, i64)>, JoinHandle<()>);

impl History {
    /// Goes on with what is in the state directory.
    pub fn open(state_dir: &Path, utc_ms: i64, limits: Limits) -> Self {
        let store = Arc::new(Store::at(state_dir.join("history")));
        let known = store.recover(utc_ms / 1_000, limits);
        let live = Arc::new(Mutex::new(Live::new(utc_ms, known)));
        let limits = Arc::new(ArcSwap::from_pointee(limits));
        let (jobs, work) = sync_channel(JOBS_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let of_writer = (Arc::clone(&live), Arc::clone(&store), Arc::clone(&limits), Arc::clone(&waiting));
        let thread = std::thread::Builder::new().name("history".to_owned());
        let writer = match thread.spawn(move || {
            let (live, store, limits, waiting) = of_writer;
            while let Ok((job, utc_s)) = work.recv() {
                write(job, utc_s, &live, &store, **limits.load());
                waiting.fetch_sub(1, Ordering::Release);
            }
        }) {
            Ok(thread) => Some((jobs, thread)),
            Err(error) => {
                store.note(Err(error));
                None
            }
        };
        History { demand: Demand::default(), live, store, limits, writer: Mutex::new(writer), waiting }
    }

    /// How much is kept from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Looks at every tenant, once a second; `utc_ms` is the wall clock as far as it is trusted. Gives the seats held
    /// by all, and every tenant's peak where five minutes are over.
    pub fn look(&self, engine: &Engine, now: Now, utc_ms: i64) -> (u64, Option<Vec<(TenantView, u32)>>) {
        let look = self.live.lock().look(engine, &self.demand, now, utc_ms);
        let peaks = look.closed.map(|closed| self.keep(closed, utc_ms));
        (look.held, peaks)
    }

    /// When it looked last, uptime milliseconds; `None` before the first look.
    pub fn looked_ms(&self) -> Option<u64> {
        self.live.lock().looked_ms()
    }

    /// Keeps the slot in progress too, and returns once all is written: before a stop.
    pub fn end(&self, engine: &Engine, now: Now, utc_ms: i64) {
        let closed = self.live.lock().close(engine, now, utc_ms);
        self.keep(closed, utc_ms);
        self.flush();
    }

    /// Returns once everything is written that was given to the writer; nothing is taken after it.
    fn flush(&self) {
        let writer = self.writer.lock().take();
        if let Some((jobs, thread)) = writer {
            drop(jobs);
            let _ = thread.join();
        }
    }

    /// The state of the files on disk.
    pub fn status(&self) -> Status {
        self.store.status()
    }

    /// Slots and hours that wait for the disk, of 64 at most.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn keep(&self, closed: Closed, utc_ms: i64) -> Vec<(TenantView, u32)> {
        self.write(Job::Slot(closed.head, closed.slot), utc_ms);
        if let Some(hour) = closed.hour {
            self.write(Job::Hour(hour), utc_ms);
        }
        closed.peaks
    }

    fn write(&self, job: Job, utc_ms: i64) {
        let writer = self.writer.lock();
        let Some((jobs, _)) = &*writer else { return };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let Err(TrySendError::Full((job, _)) | TrySendError::Disconnected((job, _))) =
            jobs.try_send((job, utc_ms / 1_000))
        else {
            return;
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.store.note(Err(std::io::Error::other("the disk takes nothing; what is not written is lost")));
        if let Job::Hour(hour) = job {
            // Its slots are in the log, as far as the disk took them; the next start takes that in.
            self.live.lock().finished(&hour);
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.flush();
    }
}

fn write(job: Job, utc_s: i64, live: &Mutex<Live>, store: &Store, limits: Limits) {
    match job {
        Job::Slot(hour, slot) => store.note(store.append(&hour, &slot)),
        Job::Hour(hour) => {
            store.note(store.finish_hour(&hour));
            live.lock().finished(&hour);
            store.keep_house(utc_s, limits);
        }
    }
}

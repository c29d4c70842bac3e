//! The junction of sources, socket, spool and client: each reports here, and here it is decided what follows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};
use usherd_client::{Ask, Client, Ended, Source, Verdict};
use usherd_contract::malformed::Malformed;
use usherd_contract::names::Name;
use usherd_contract::words::{Code, Detail, Kind};

use super::counters::Counters;
use super::ended_sessions::Key;
use super::presence::Presence;
use super::question::Sent;
use super::sessions::{Sessions, Step};
use super::source::Report;
use super::spool::Release;
use super::writer::Writer;

/// The time that the daemon has to acknowledge releases before they are made to survive a power cut.
const ACKNOWLEDGE_PATIENCE: Duration = Duration::from_secs(1);

/// A source as the rest of the agent sees it.
pub struct SourceState {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// True while it is connected and logged in.
    pub connected: AtomicBool,
    /// Its devices.
    pub presence: Mutex<Presence>,
    /// True once its devices were listed since the start, and from the start where none are wanted.
    pub devices_known: AtomicBool,
    /// Kinds of rows and events that could not be read and are in the log already.
    pub unread: Mutex<BTreeSet<&'static str>>,
}

/// The life of sessions that nothing ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A call that no source watches and that names no `ttl_s`, seconds (E3).
    pub unwatched_ttl_s: u32,
    /// The seat of a desktop whose device is gone, seconds (G6); `None`: as usherd says.
    pub presence_grace_s: Option<u32>,
}

/// The hub of the agent.
pub struct Hub {
    /// The client, which asks usherd.
    pub client: Client,
    /// The counters of the agent.
    pub counters: Arc<Counters>,
    /// The sources, where sessions live.
    pub sources: Vec<SourceState>,
    sessions: Mutex<Sessions>,
    pub(super) writer: Arc<Writer>,
    tenant: Option<Name>,
    limits: Limits,
    released: Notify,
    pub(super) devices_due: Notify,
    inventories: AtomicBool,
    unusable_logged: AtomicBool,
    started: Instant,
}

impl Hub {
    /// A hub of parts that were opened before; an empty `tenant` is none.
    pub fn new(
        client: Client,
        counters: Arc<Counters>,
        sources: Vec<SourceState>,
        sessions: Sessions,
        writer: Arc<Writer>,
        tenant: &str,
        limits: Limits,
    ) -> Self {
        Hub {
            client,
            counters,
            sources,
            sessions: Mutex::new(sessions),
            writer,
            tenant: (!tenant.is_empty()).then(|| tenant.into()),
            limits,
            released: Notify::new(),
            devices_due: Notify::new(),
            inventories: AtomicBool::new(false),
            unusable_logged: AtomicBool::new(false),
            started: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The tenant of this node, where it speaks for one only.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The time that a desktop keeps its seat after its device is gone (G6).
    pub(super) fn presence_grace(&self) -> Duration {
        let seconds = self.limits.presence_grace_s.unwrap_or_else(|| self.client.presence_grace_s());
        Duration::from_secs(seconds.into())
    }

    /// Decides a script's question: the question, the verdict, and true if a denial is to be said by status.
    ///
    /// # Errors
    /// Every fault of the question; but an emergency call passes however malformed its question is (C14).
    pub async fn acquire_sent(&self, sent: &Sent) -> Result<(Ask, Verdict, bool), Malformed> {
        let malformed = match sent.acquire(self.tenant()) {
            Ok(wanted) => {
                let (ask, verdict) = self.acquire(wanted.ask).await;
                return Ok((ask, verdict, wanted.by_status));
            }
            Err(malformed) => malformed,
        };
        let emergency = sent.emergency(self.tenant(), |to| self.client.is_emergency_number(to));
        let allowed = emergency.and_then(|ask| Some((self.client.decide_alone(&ask)?, ask)));
        allowed.map(|(verdict, ask)| (ask, verdict, false)).ok_or_else(|| {
            self.counters.count("malformed", "");
            malformed
        })
    }

    /// Decides a question; always within the client's deadline.
    pub async fn acquire(&self, mut ask: Ask) -> (Ask, Verdict) {
        if self.sources.is_empty() && ask.kind == Kind::Call && ask.ttl_s.is_none() {
            // Nothing would ever notice that its release was lost (E3).
            ask.ttl_s = Some(self.limits.unwatched_ttl_s);
        }
        let asked_at = self.now();
        let verdict = self.client.acquire(&ask).await;
        if verdict.allow && !matches!(verdict.source, Source::Emergency | Source::Malformed) {
            self.sessions.lock().allowed(asked_at, &ask);
        }
        (ask, verdict)
    }

    /// Releases a session that is over by its PBX: it is written to disk, then sent until usherd has acknowledged it.
    pub fn release(&self, key: &Key, ended: Ended) {
        self.spool_release(key, ended);
        self.client.release(&key.0, &key.1, ended);
        self.released.notify_one();
    }

    /// Hands a release over to be written; returns its number, or `None` if too many wait already.
    fn spool_release(&self, key: &Key, ended: Ended) -> Option<u64> {
        let transferred = ended == Ended::Transferred;
        let release = Release { tenant: key.0.to_string(), session: key.1.to_string(), transferred };
        self.counters.count("released", "");
        let number = self.writer.release(release);
        if number.is_none() {
            self.counters.count("spool_full", "");
            error!("the disk of the spool hangs and too many releases wait for it; a release is only in memory");
        }
        number
    }

    /// Releases a session for a script; returns usherd's answer once the release is on disk, or the disk hangs.
    /// `None` where usherd hears of it later.
    pub async fn release_for_script(&self, key: &Key, ended: Ended) -> Option<(Code, Detail)> {
        // A transferred call that still counts is released again at its end (C7).
        if ended == Ended::Over {
            self.sessions.lock().ended(self.now(), key);
            for source in &self.sources {
                source.presence.lock().released(&key.0, &key.1);
            }
        }
        let number = self.spool_release(key, ended);
        self.released.notify_one();
        let written = async {
            if let Some(number) = number {
                self.writer.written(number).await;
            }
        };
        tokio::join!(self.client.release_asked(&key.0, &key.1, ended), written).0
    }

    /// Sends the releases that were written down before this start and never acknowledged.
    pub fn resend(&self, releases: &[Release]) {
        for release in releases {
            let ended = if release.transferred { Ended::Transferred } else { Ended::Over };
            self.client.release(&release.tenant, &release.session, ended);
        }
        if !releases.is_empty() {
            info!(releases = releases.len(), "releases of before the restart are sent");
            self.released.notify_one();
        }
    }

    /// Takes in a report of a source. Never waits, so that reports and questions of scripts have one order.
    pub fn report(&self, at: usize, report: &Report) {
        let source = &self.sources[at];
        match report {
            Report::Ready => source.connected.store(true, Ordering::Relaxed),
            Report::Lost => source.connected.store(false, Ordering::Relaxed),
            Report::Live(_) => self.counters.count("listings", source.name),
            Report::Unsure(why) | Report::UnsureOfDevices(why) => {
                self.counters.count("listings_unsure", source.name);
                warn!(source = source.name, why, "a listing cannot be believed; nothing is released for it");
            }
            _ => {}
        }
        if let Report::Unread(what) = report {
            self.counters.count("rows_unread", source.name);
            if source.unread.lock().insert(what) {
                warn!(source = source.name, what, "it cannot be read and is left out; this is said once");
            }
        }
        let steps = self.sessions.lock().report(self.now(), at, report);
        self.apply(steps);
        self.report_devices(source, report);
    }

    fn apply(&self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Release(key) => self.release(&key, Ended::Over),
                Step::Unusable => {
                    self.counters.count("unusable", "");
                    if !self.unusable_logged.swap(true, Ordering::Relaxed) {
                        warn!(
                            "a channel holds a seat and cannot be counted: its USHERD_TENANT, or node.tenant, is no \
                             tenant's id (1-64 of a-z 0-9 . _ -); this is said once"
                        );
                    }
                }
                Step::Adopt(ask) => {
                    self.counters.count("adopted", "");
                    // Its shape was checked where it was made.
                    let _ = self.client.adopt(&ask);
                }
            }
        }
    }

    /// Lets the client send inventories once its sessions are all that live: what is missing in them does not.
    pub(super) fn allow_inventories(&self) {
        let devices_known = self.sources.iter().all(|source| source.devices_known.load(Ordering::Relaxed));
        if devices_known && self.sessions.lock().is_complete() && !self.inventories.swap(true, Ordering::Relaxed) {
            info!("everything that lives was listed; usherd gets inventories from now on");
            self.client.allow_inventories();
        }
    }

    /// Removes acknowledged releases from the spool, and makes the rest survive a power cut, for ever.
    pub async fn spool_loop(&self) {
        loop {
            self.released.notified().await;
            while self.writer.has_unacknowledged() {
                let mark = self.writer.mark();
                if self.client.flush(ACKNOWLEDGE_PATIENCE).await {
                    self.writer.acknowledge(mark);
                } else {
                    self.writer.sync();
                    sleep(ACKNOWLEDGE_PATIENCE).await;
                }
            }
        }
    }

    /// Gives usherd a last chance to acknowledge releases, and removes those from the spool.
    pub async fn flush_spool(&self, patience: Duration) {
        let mark = self.writer.mark();
        if self.client.flush(patience).await {
            self.writer.acknowledge(mark);
        }
        self.writer.sync();
    }

    /// Ends sessions that lived longer than their `ttl_s`, for ever.
    pub async fn expiry_loop(&self) {
        loop {
            sleep(Duration::from_secs(1)).await;
            let steps = self.sessions.lock().expire(self.now());
            self.apply(steps);
        }
    }

    /// The number of sessions that are known.
    pub fn known(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Seconds since the start.
    pub fn uptime_s(&self) -> u64 {
        self.now().as_secs()
    }

    /// The node's name.
    pub fn node(&self) -> &Name {
        self.client.node()
    }
}

//! Between the cluster and the engine: what happens to a daemon when a shard comes or goes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use usherd_engine::Now;

use super::checkpoint::restore;
use super::schedule::Schedule;
use crate::daemon::app::{AnyStore, App, ClusterJournal, Journal, Membership};
use crate::daemon::clock::monotonic_ns;
use crate::daemon::cluster::{self, Loads, Me, Reason, Shards, Timing, Watch};
use crate::daemon::config::{self, Config};
use crate::daemon::etcd::{Client, Options};
use crate::daemon::journal::etcd::EtcdOptions;
use crate::daemon::journal::{Committer, Journal as _, JournalError, Shard};
use crate::daemon::outgoing::Trust;

/// How long a question beside the commits may take: reading a shard back, writing a snapshot.
const ASIDE_DEADLINE: Duration = Duration::from_secs(2);
/// How long it is waited for the word of etcd on itself.
const HEALTH_DEADLINE: Duration = Duration::from_secs(1);
/// The pause before a transaction without an answer is sent again.
const RETRY: Duration = Duration::from_millis(20);

/// A cluster that a daemon belongs to, before it takes part.
pub(super) struct Joining {
    pub(super) shards: Arc<Shards>,
    pub(super) journal: Arc<ClusterJournal>,
    store: AnyStore,
    /// For those who want to know how etcd is.
    asking: Client,
    me: Me,
    timing: Timing,
}

/// Taking part in a cluster.
pub(super) struct Member {
    control: Arc<cluster::Control>,
    journal: Arc<ClusterJournal>,
    thread: Option<JoinHandle<()>>,
}

impl Joining {
    /// By the section of the configuration.
    ///
    /// # Errors
    /// A file with a secret cannot be read.
    pub(super) fn new(config: &Config, section: &config::Cluster) -> Result<Self, String> {
        let folder = config.main().parent().unwrap_or(Path::new("."));
        let token = section.token(folder)?;
        let password = section.password(folder)?;
        let path = |file: &str| if file.is_empty() { Default::default() } else { folder.join(file) };
        let client = |deadline| {
            let options = Options {
                endpoints: section.endpoints.clone(),
                ca_file: path(&section.ca_file),
                cert_file: path(&section.cert_file),
                key_file: path(&section.key_file),
                user: section.user.clone(),
                password: password.clone(),
                deadline,
            };
            Client::new(options)
        };
        let store = |deadline| AnyStore(Arc::new(client(deadline)));
        let takeover = Duration::from_millis(section.takeover_ms.into());
        // Half of it, so that a second member of etcd is asked before the others think that nobody is here.
        let stores = [store(takeover / 2), store(ASIDE_DEADLINE), store(takeover / 2)];
        let is_secured = section.advertise.starts_with("https:") || !section.ca_file.is_empty();
        let trust =
            is_secured.then(|| Trust::new(Path::new(&section.ca_file), folder, "cluster.ca_file")).transpose()?;
        Ok(Joining::over(section, (&token, trust), stores, client(HEALTH_DEADLINE)))
    }

    fn over(
        section: &config::Cluster,
        (token, trust): (&str, Option<Trust>),
        [commits, aside, store]: [AnyStore; 3],
        asking: Client,
    ) -> Self {
        let takeover = Duration::from_millis(section.takeover_ms.into());
        let options = EtcdOptions {
            cluster: section.name.clone(),
            member: section.member.clone(),
            shards: section.shards,
            retry: RETRY,
            heartbeat: Duration::from_millis(section.heartbeat_ms.into()),
            fresh: takeover * 3 / 4,
            clock_ns: monotonic_ns,
        };
        let journal = Arc::new(ClusterJournal::new(commits, aside, options));
        let provisional_max = match section.on_no_majority {
            config::OnNoMajority::Provisional => section.provisional_max,
            config::OnNoMajority::Refuse => 0,
        };
        let shards = Arc::new(Shards::new(&section.member, token, trust, Arc::clone(journal.terms()), provisional_max));
        Joining {
            shards,
            journal,
            store,
            asking,
            me: Me { advertise: section.advertise.clone(), version: env!("CARGO_PKG_VERSION").to_owned() },
            timing: Timing { takeover_ms: section.takeover_ms.into(), heartbeat_ms: section.heartbeat_ms.into() },
        }
    }

    /// Takes part from now on.
    pub(super) fn join(
        self,
        app: &App,
        committer: &Arc<Committer<Journal>>,
        schedule: Arc<Mutex<Schedule>>,
    ) -> Result<Member, JournalError> {
        let Joining { shards, journal, store, asking, me, timing } = self;
        let loads = Arc::new(Shares {
            app: app.clone(),
            committer: Arc::clone(committer),
            journal: Arc::clone(&journal),
            beats: Arc::default(),
            schedule,
            told: Mutex::default(),
        });
        let clock = Arc::clone(&app.deciding.clock);
        let watch = Watch::new(store, Arc::clone(&journal), shards, loads, (me, timing), move || clock.now().uptime_ms);
        let control = watch.control();
        let _ = app.deciding.membership.set(Membership::new(watch.control(), asking));
        let thread = std::thread::Builder::new().name("cluster".to_owned()).spawn(move || watch.run());
        let thread = thread.map_err(|error| JournalError::io("start the thread of the cluster", error))?;
        Ok(Member { control, journal, thread: Some(thread) })
    }
}

impl Member {
    /// Gives every shard up, so that others take it at once. Blocks while the store has no answer.
    pub(super) fn leave(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// For giving up beside whoever waits.
    pub(super) fn journal(&self) -> &Arc<ClusterJournal> {
        &self.journal
    }
}

/// The tenants of the shards in this daemon's engine.
struct Shares {
    app: App,
    committer: Arc<Committer<Journal>>,
    journal: Arc<ClusterJournal>,
    /// A heartbeat is on its way to the thread that commits.
    beats: Arc<AtomicBool>,
    schedule: Arc<Mutex<Schedule>>,
    /// Until when all was applied and told of the shard that is being taken, milliseconds since 1970 UTC.
    told: Mutex<Option<i64>>,
}

impl Loads for Shares {
    fn load(&self, shard: Shard, _reason: Reason) -> Result<(), JournalError> {
        let deciding = &self.app.deciding;
        let recovered = self.journal.replay(shard)?;
        let now: Now = deciding.clock.now();
        let tombstone_ms = u64::from(self.app.configuration.running.get().settings.nodes.tombstone_s) * 1_000;
        *self.told.lock() = deciding.marks.take_over(&recovered.marks);
        let lost = restore(deciding, now, &recovered, tombstone_ms);
        let (sessions, records) = (recovered.sessions.len(), recovered.records);
        tracing::info!(shard = shard.0, sessions, records, lost, "a shard was read");
        if let Some(why) = &recovered.degraded {
            tracing::error!(shard = shard.0, why, "the log of a shard is damaged: nodes report their sessions again");
            deciding.note_damage(format!("shard {}: {why}", shard.0));
        }
        Ok(())
    }

    fn begin(&self, shard: Shard, begin: &dyn Fn()) {
        let (now, shards) = (self.app.deciding.clock.now(), self.journal.terms().shards());
        let config = self.app.configuration.running.get();
        let mine = config.tenants.iter().filter(|(id, _)| Shard::of(id, shards) == shard);
        let tenants: Vec<_> = mine.map(|(_, tenant)| Arc::clone(tenant)).collect();
        let told = self.told.lock().take();
        self.schedule.lock().take_over(now, &tenants, told, begin);
    }

    fn quiesce(&self) {
        // It fails only at the end of the daemon, when nothing is in progress.
        let _ = self.committer.barrier();
    }

    fn unload(&self, shard: Shard) {
        let deciding = &self.app.deciding;
        let (now, shards) = (deciding.clock.now(), self.journal.terms().shards());
        for tenant in deciding.engine.tenant_ids() {
            if Shard::of(&tenant, shards) == shard {
                deciding.engine.evict(now, &tenant);
            }
        }
    }

    fn heartbeat(&self) {
        if self.beats.swap(true, Ordering::AcqRel) {
            return;
        }
        let beats = Arc::clone(&self.beats);
        self.committer.behind(move |journal| {
            if let Some(journal) = journal.cluster() {
                journal.heartbeat();
            }
            beats.store(false, Ordering::Release);
        });
    }
}

//! The agent beside a PBX: what a dial plan cannot do, from heartbeats to releases while the daemon is unreachable.
//!
//! Read in this order: [`source`] (what every PBX tells), the three machines ([`asterisk`] over [`ami`],
//! [`freeswitch`] over [`esl`], [`kamailio`]), [`sessions`] (what follows for sessions), [`presence`] (desktops and
//! mobiles), [`hub`] and `devices` (where it all meets), [`supervisor`], [`socket`] and [`scripts`] (what waits and
//! answers), [`spool`] and [`writer`] (what is written).
//!
//! These things never happen:
//! - a session is given back because a PBX could not be asked, or was listed in part;
//! - something is adopted that was not granted: only channels whose dial plan wrote down an `allow` are;
//! - a question of a script waits longer than the client's deadline, nor for a disk;
//! - a release is lost because the daemon is unreachable, or because the agent is killed meanwhile.

mod accept;
pub mod ami;
pub mod asterisk;
pub mod client_hooks;
pub mod config;
pub mod counters;
pub mod detached;
pub mod device_file;
mod devices;
pub mod ended_sessions;
pub mod esl;
pub mod fault;
pub mod freeswitch;
pub mod group;
pub mod hub;
pub mod json;
pub mod kamailio;
pub mod names;
pub mod presence;
pub mod question;
pub mod scripts;
pub mod sessions;
pub mod settings;
pub mod socket;
pub mod source;
pub mod spool;
pub mod status;
pub mod supervisor;
pub mod writer;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::info;
use usherd_client::{Address, Client, OnUnreachable, Options};
use usherd_contract::names::Name;

use asterisk::Asterisk;
use client_hooks::ClientHooks;
use config::Loaded;
use counters::Counters;
use freeswitch::FreeSwitch;
use hub::{Hub, Limits, SourceState};
use kamailio::Kamailio;
use presence::{Presence, Rule};
use sessions::Sessions;
use source::Machine;
use spool::Spool;
use supervisor::{SourceOptions, supervise};
use writer::Writer;

/// How long the agent waits for messages in flight when it is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// The reason why the agent cannot start.
#[derive(Debug)]
pub struct StartFault {
    /// The step that failed.
    pub what: String,
    /// Why that failed.
    pub why: String,
}

fn start_fault(what: impl Into<String>) -> impl FnOnce(&dyn Display) -> StartFault {
    let what = what.into();
    move |why| StartFault { what, why: why.to_string() }
}

/// A source, and the function that makes its machines.
struct Source {
    options: SourceOptions,
    rules: Vec<Rule>,
    make: Box<dyn Fn() -> Box<dyn Machine> + Send + Sync>,
}

/// Runs until `stop` is ready. `fresh_epoch` is the node's boot number where the spool's folder holds none yet;
/// `ready` is called once, when scripts are answered.
///
/// It says no goodbye: the PBX goes on, and its sessions keep the whole lease until the agent is back.
///
/// # Errors
/// The spool, the socket or the client cannot be opened.
pub async fn run(
    loaded: &Loaded,
    fresh_epoch: u64,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), StartFault> {
    let config = &loaded.config;
    let folder = Path::new(&config.spool.folder);
    let open = format!("open the spool in {}", folder.display());
    let listener = match config.socket_path() {
        None => None,
        Some(path) => {
            // Before the spool: the socket tells whether another agent is at work.
            let bind = format!("listen on {}", path.display());
            let mode = settings::mode(&config.socket.mode).unwrap_or(0o600);
            Some(socket::bind(&path, mode, &config.socket.group).await.map_err(|why| start_fault(bind)(&why))?)
        }
    };
    let scripts = match config.agi_address() {
        None => None,
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(|why| start_fault(format!("listen for scripts on {address}"))(&why))?)
        }
    };
    let (epoch, first_seq) = spool::boot(folder, fresh_epoch).map_err(|why| start_fault(open.clone())(&why))?;
    let (spool, waiting) = Spool::open(folder, config.spool.bytes_max).map_err(|why| start_fault(open)(&why))?;
    let counters = Arc::new(Counters::default());
    let writer =
        Writer::start(spool, Arc::clone(&counters)).map_err(|why| start_fault("start a thread for the spool")(&why))?;
    let writer = Arc::new(writer);
    let client = Client::start(
        options(loaded, epoch, first_seq),
        ClientHooks {
            counters: Arc::clone(&counters),
            writer: Arc::clone(&writer),
            daemons: std::iter::once(&loaded.address).chain(&loaded.other_addresses).map(Address::to_string).collect(),
            in_use: AtomicUsize::new(0),
        },
    );
    let client = client.map_err(|why| start_fault("start the client")(&why))?;
    let sources = sources(loaded);
    let states = sources.iter().map(|source| source_state(&config.node.name, source)).collect();
    let sessions = Sessions::new(&config.node.name, Name::from(config.node.tenant.as_str()), sources.len());
    let limits =
        Limits { unwatched_ttl_s: config.socket.unwatched_ttl_s, presence_grace_s: config.node.presence_grace_s };
    let hub = Arc::new(Hub::new(client, counters, states, sessions, writer, &config.node.tenant, limits));
    hub.resend(&waiting);
    hub.restore_devices(folder);
    let scripts_at = scripts.as_ref().and_then(|listener| listener.local_addr().ok());
    info!(node = config.node.name, epoch, sources = sources.len(), scripts_at = ?scripts_at, "the agent is at work");

    let mut tasks = JoinSet::new();
    for (at, source) in sources.into_iter().enumerate() {
        let hub = Arc::clone(&hub);
        tasks.spawn(async move { supervise(&source.options, source.make, |report| hub.report(at, &report)).await });
    }
    if let Some(listener) = listener {
        tasks.spawn(socket::serve(listener, Arc::clone(&hub), config.socket.connections_max));
    }
    if let Some(scripts) = scripts {
        tasks.spawn(scripts::serve(scripts, Arc::clone(&hub), config.socket.connections_max));
    }
    spawn_loops(&hub, &mut tasks);
    ready();
    stop.await;
    tasks.shutdown().await;
    // What is acknowledged now need not be sent again by the next start; the rest is on disk.
    hub.flush_spool(STOP_PATIENCE).await;
    hub.write_devices();
    info!("the agent stops; sessions keep their lease");
    hub.writer.end().await;
    if let Some(path) = config.socket_path() {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Starts the loops that run beside sources and scripts.
fn spawn_loops(hub: &Arc<Hub>, tasks: &mut JoinSet<()>) {
    let each = || Arc::clone(hub);
    let (presence, grace, devices, spool, time) = (each(), each(), each(), each(), each());
    tasks.spawn(async move { presence.presence_loop().await });
    tasks.spawn(async move { grace.grace_loop().await });
    tasks.spawn(async move { devices.devices_loop().await });
    tasks.spawn(async move { spool.spool_loop().await });
    tasks.spawn(async move { time.expiry_loop().await });
}

fn options(loaded: &Loaded, epoch: u64, first_seq: u64) -> Options {
    let config = &loaded.config;
    let refuses = config.daemon.on_unreachable == "deny";
    let numbers = config.node.emergency_numbers.iter().map(|number| Name::from(number.as_str()));
    Options {
        other_addresses: loaded.other_addresses.clone(),
        first_seq,
        // The ledger is empty until the PBX was listed: an inventory of it would end every call.
        withhold_inventories: true,
        token: loaded.token.clone(),
        ca_pem: loaded.ca_pem.clone(),
        deadline: Duration::from_millis(config.daemon.deadline_ms),
        on_unreachable: if refuses { OnUnreachable::Deny } else { OnUnreachable::Allow },
        emergency_numbers: numbers.collect(),
        trunk_prefix: Name::from(config.node.trunk_prefix.as_str()),
        ..Options::new(loaded.address.clone(), config.node.name.as_str(), epoch)
    }
}

fn source_state(node: &str, source: &Source) -> SourceState {
    // Sessions are unique per tenant, and a tenant may have several nodes.
    let prefix = format!("{node}-{}", source.options.name);
    SourceState {
        name: source.options.name,
        connected: AtomicBool::new(false),
        presence: Mutex::new(Presence::new(&prefix, source.rules.clone())),
        devices_known: AtomicBool::new(source.rules.is_empty()),
        unread: Mutex::default(),
    }
}

fn sources(loaded: &Loaded) -> Vec<Source> {
    let config = &loaded.config;
    let (asterisk, freeswitch, kamailio) = (&config.asterisk, &config.freeswitch, &config.kamailio);
    let source_options = |name, address: &str, list_s, silence_s| SourceOptions {
        name,
        address: address.to_owned(),
        list_every: Duration::from_secs(list_s),
        silence_max: Duration::from_secs(silence_s),
    };
    let mut all = Vec::new();
    if !asterisk.address.is_empty() {
        let rules = config.presence_rules(&asterisk.presence);
        let (user, secret, presence) = (asterisk.user.clone(), loaded.asterisk_secret.clone(), !rules.is_empty());
        let options = source_options("asterisk", &asterisk.address, asterisk.list_s, asterisk.silence_s);
        all.push(Source { options, rules, make: Box::new(move || Box::new(Asterisk::new(&user, &secret, presence))) });
    }
    if !freeswitch.address.is_empty() {
        let rules = config.presence_rules(&freeswitch.presence);
        let (password, presence) = (loaded.freeswitch_password.clone(), !rules.is_empty());
        let options = source_options("freeswitch", &freeswitch.address, freeswitch.list_s, freeswitch.silence_s);
        all.push(Source { options, rules, make: Box::new(move || Box::new(FreeSwitch::new(&password, presence))) });
    }
    if !kamailio.address.is_empty() {
        let (host, path) = (kamailio.address.clone(), kamailio.path.clone());
        let options = source_options("kamailio", &kamailio.address, kamailio.list_s, kamailio.silence_s);
        all.push(Source { options, rules: Vec::new(), make: Box::new(move || Box::new(Kamailio::new(&host, &path))) });
    }
    all
}

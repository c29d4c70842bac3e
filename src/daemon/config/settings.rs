//! Everything that `usherd.toml` says, with its defaults.

use std::net::SocketAddr;

pub use super::nodes::Nodes;
use usherd_engine::plan::Limits;
use usherd_engine::session::Name;

use super::cluster::Cluster;
use super::publisher::Publisher;
use super::rules::Rules;
use super::webhook::Webhook;
use super::words::{ClientCertificates, Durability, LogFormat, Protocol, Role, TenantSeries};

pub use super::top::{RemovalDelay, TenantsDir, Zone};
/// Most seats of a tenant or a pool (rule book 11).
pub use usherd_subscription::record::SEATS_MAX;
/// Most `[[listener]]` tables.
pub const LISTENERS_MAX: usize = 16;
/// Most names in `server.names`.
pub const SERVER_NAMES_MAX: usize = 16;
/// Most tokens.
pub const TOKENS_MAX: usize = 10_000;
/// Most provider pools.
pub const POOLS_MAX: usize = 10_000;

/// Keys that take effect with the next start only; a whole section where it ends in a dot. Each carries the
/// word "restart" in the shipped `usherd.toml`.
pub const RESTART_ONLY: &[&str] = &[
    "server.listen",
    "server.unix_socket",
    "server.state_dir",
    "server.workers",
    "server.sessions_max",
    "server.sessions_per_tenant_max",
    "server.tombstones_per_tenant_max",
    "server.nodes_max",
    "listener",
    "agi.listen",
    "journal.durability",
    "journal.segment_bytes",
    "journal.ring_dir",
    "journal.ring_bytes",
    "events.buffered_max",
    "log.format",
    "cluster",
];

/// Everything that `usherd.toml` says, tenants aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The billing time zone (H2).
    pub time_zone: Zone,
    /// The tenant that unknown tenants are counted under; `None` refuses them (D4).
    pub default_tenant: Option<Name>,
    /// Where the tenant files are, relative to `usherd.toml`; empty: nowhere.
    pub tenants_dir: TenantsDir,
    /// One bad tenant file rejects the whole folder.
    pub strict: bool,
    /// How long a tenant file that vanished keeps its tenant.
    pub removal_delay: RemovalDelay,
    /// `[policy]`, `[sessions]`, `[inclusive]`, `[deny]`: what holds where a tenant says nothing else.
    pub rules: Rules,
    /// `[trial]`.
    pub trial: Trial,
    /// `[nodes]`.
    pub nodes: Nodes,
    /// `[server]`.
    pub server: Server,
    /// `[[listener]]`.
    pub listeners: Vec<Listener>,
    /// `[agi]`.
    pub agi: Agi,
    /// `[auth]`.
    pub auth: Auth,
    /// `[journal]`.
    pub journal: Journal,
    /// `[history]`.
    pub history: History,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[log]`.
    pub log: Log,
    /// `[events]`.
    pub events: Events,
    /// `[[webhook]]`.
    pub webhooks: Vec<Webhook>,
    /// `[sync]`.
    pub sync: Publisher,
    /// `[cluster]`; `None`: this daemon decides alone.
    pub cluster: Option<Cluster>,
    /// `[[pool]]` (F7).
    pub pools: Vec<Pool>,
}

/// `[trial]` (J3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Length in civil days.
    pub days: u32,
    /// Seats of a trial that names none.
    pub seats: u32,
}

impl Default for Trial {
    fn default() -> Self {
        Trial { days: 30, seats: 10 }
    }
}

/// `[server]`: where it listens, where it keeps its state, and a limit on everything (RELIABILITY 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The main address; `None`: only the Unix socket, further listeners, or what systemd passes.
    pub listen: Option<SocketAddr>,
    /// Path of the Unix socket; empty: none.
    pub unix_socket: String,
    /// Where journal and last good configuration are kept; empty: see [`state_dir`].
    pub state_dir: String,
    /// Runtimes that decide; 0 = one per core.
    pub workers: u32,
    /// Allows to listen elsewhere than on loopback without TLS and credentials.
    pub insecure: bool,
    /// Names of this machine by which people may ask from loopback without a credential, lower case, at most
    /// [`SERVER_NAMES_MAX`]; addresses and `localhost` always.
    pub names: Vec<String>,
    /// From the connection to its first byte, milliseconds.
    pub first_byte_deadline_ms: u32,
    /// From the first byte of a request to the end of its head, milliseconds.
    pub head_deadline_ms: u32,
    /// From the end of the head to the end of the body, milliseconds.
    pub body_deadline_ms: u32,
    /// How long an answer may wait for its reader, milliseconds.
    pub write_deadline_ms: u32,
    /// How long a connection may be idle between two requests, seconds.
    pub idle_deadline_s: u32,
    /// How old a connection may become before it is closed after an answer, seconds.
    pub connection_age_s: u32,
    /// How long a shutdown waits for requests, milliseconds.
    pub drain_deadline_ms: u32,
    /// Largest request head, bytes.
    pub max_head_bytes: u32,
    /// Largest request body, bytes.
    pub max_body_bytes: u32,
    /// Largest inventory, bytes.
    pub max_inventory_bytes: u32,
    /// Most bytes that the unfinished bodies of all requests may hold together.
    pub request_bodies_bytes_max: u32,
    /// Most operations of one batch.
    pub batch_operations_max: u32,
    /// Most connections in all.
    pub connections_max: u32,
    /// Most connections of one address.
    pub connections_per_address_max: u32,
    /// Connections of `connections_max` that only authenticated nodes may take; three quarters where nothing is said.
    pub connections_reserved_for_nodes: u32,
    /// Most requests at once.
    pub requests_in_flight_max: u32,
    /// Failed authentications of one address per minute before it is answered 429.
    pub auth_failures_per_minute: u32,
    /// Most live sessions in all.
    pub sessions_max: u32,
    /// Most live sessions of one tenant.
    pub sessions_per_tenant_max: u32,
    /// Most tombstones of one tenant.
    pub tombstones_per_tenant_max: u32,
    /// Most nodes.
    pub nodes_max: u32,
    /// Most tenants.
    pub tenants_max: u32,
    /// Share of the tenants that a reload may drop without force, percent.
    pub reload_tenants_dropped_max_percent: u32,
    /// Share of all seats that a reload may drop without force, percent.
    pub reload_seats_dropped_max_percent: u32,
}

impl Default for Server {
    fn default() -> Self {
        let limits = Limits::default();
        Server {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 7788))),
            unix_socket: String::new(),
            state_dir: String::new(),
            workers: 0,
            insecure: false,
            names: Vec::new(),
            first_byte_deadline_ms: 10_000,
            head_deadline_ms: 5_000,
            body_deadline_ms: 10_000,
            write_deadline_ms: 10_000,
            idle_deadline_s: 3_600,
            connection_age_s: 86_400,
            drain_deadline_ms: 5_000,
            max_head_bytes: 16 << 10,
            max_body_bytes: 256 << 10,
            max_inventory_bytes: 8 << 20,
            request_bodies_bytes_max: 64 << 20,
            batch_operations_max: 1_000,
            connections_max: 16_384,
            connections_per_address_max: 1_024,
            connections_reserved_for_nodes: Server::reserved_for_nodes(16_384),
            requests_in_flight_max: 4_096,
            auth_failures_per_minute: 60,
            sessions_max: limits.sessions_max,
            sessions_per_tenant_max: limits.sessions_per_tenant_max,
            tombstones_per_tenant_max: limits.tombstones_per_tenant_max,
            nodes_max: limits.nodes_max,
            tenants_max: 100_000,
            reload_tenants_dropped_max_percent: 20,
            reload_seats_dropped_max_percent: 30,
        }
    }
}

impl Server {
    /// The connections of so many that are kept for nodes where nothing is said: three quarters. The others are the
    /// price of strangers, some 40 KiB each; whoever asks for a node is none from the first message on.
    pub const fn reserved_for_nodes(connections_max: u32) -> u32 {
        connections_max / 4 * 3
    }

    /// The limits as the engine takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            sessions_max: self.sessions_max,
            sessions_per_tenant_max: self.sessions_per_tenant_max,
            tombstones_per_tenant_max: self.tombstones_per_tenant_max,
            nodes_max: self.nodes_max,
        }
    }
}

/// Where a listener is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(String),
}

/// `[[listener]]`: one more address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: Address,
    /// The protocol that it speaks.
    pub protocol: Protocol,
    /// Certificates; `None`: in the clear.
    pub tls: Option<Tls>,
    /// Whose requests it takes; empty: everybody's.
    pub roles: Vec<Role>,
}

/// `[listener.tls]`: PEM files, relative to `usherd.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub cert_file: String,
    /// The private key.
    pub key_file: String,
    /// The file of authorities for client certificates, and of revocations; empty: none are asked for.
    pub client_ca_file: String,
    /// The demand for a client certificate.
    pub client_certificates: ClientCertificates,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            cert_file: String::new(),
            key_file: String::new(),
            client_ca_file: String::new(),
            client_certificates: ClientCertificates::Optional,
        }
    }
}

/// `[auth]` (RELIABILITY 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Whoever shows one of these may do what its role may.
    pub tokens: Vec<Token>,
    /// So may whoever connects with a client certificate for one of these names.
    pub certificates: Vec<Certificate>,
}

/// A bearer token; only its hash is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The name in logs.
    pub id: String,
    /// The role.
    pub role: Role,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// For which tenants; empty: for all.
    pub tenants: Vec<Name>,
    /// The nodes it may speak as; empty: all, or none where it is for some tenants only.
    pub nodes: Vec<String>,
    /// True if a viewer sees the names of subjects.
    pub names: bool,
}

/// A name in client certificates, and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// A DNS name or URI of the certificate, compared as a whole; logs call it so.
    pub name: String,
    /// The role.
    pub role: Role,
    /// For which tenants; empty: for all.
    pub tenants: Vec<Name>,
    /// The nodes it may speak as; empty as for a token.
    pub nodes: Vec<String>,
    /// True if a viewer sees the names of subjects.
    pub names: bool,
}

/// `[agi]`: FastAGI for Asterisk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agi {
    /// Where it listens; nothing is nowhere.
    pub listen: Option<SocketAddr>,
}

/// `[journal]` (DESIGN 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// When an answer counts as recorded.
    pub durability: Durability,
    /// How long the audit trail is kept, days.
    pub keep_days: u32,
    /// How large it may become, bytes.
    pub keep_bytes: u64,
    /// After how many bytes of records a snapshot is taken.
    pub checkpoint_bytes: u64,
    /// Size of one file, bytes.
    pub segment_bytes: u64,
    /// Folder on a tmpfs where decisions wait for the disk; empty: there is none.
    pub ring_dir: String,
    /// How much may wait there, bytes.
    pub ring_bytes: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Journal {
            durability: Durability::Written,
            keep_days: 90,
            keep_bytes: 10 << 30,
            checkpoint_bytes: 256 << 20,
            segment_bytes: 64 << 20,
            ring_dir: "/run/usherd".to_owned(),
            ring_bytes: 64 << 20,
        }
    }
}

/// `[metrics]` (METRICS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Which tenants have series of their own.
    pub tenants: TenantSeries,
    /// How many of the fullest.
    pub top: u32,
    /// How many more that are full, over or were refused.
    pub always_max: u32,
    /// The names for `tenants = "watch"`.
    pub watch: Vec<Name>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { tenants: TenantSeries::Top, top: 50, always_max: 200, watch: Vec::new() }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Levels by module, as in `info,usherd::daemon::http=debug`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// `[history]`: what is remembered of every tenant's use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Days for which every five minutes are kept.
    pub detail_days: u32,
    /// Months for which every hour is kept, 31 days each.
    pub months: u32,
    /// All of it on disk at most, bytes.
    pub bytes_max: u64,
}

impl Default for History {
    fn default() -> Self {
        History { detail_days: 14, months: 13, bytes_max: 2 << 30 }
    }
}

/// `[events]` (API 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Events kept for those who come back.
    pub buffered_max: u32,
    /// Readers at once.
    pub subscribers_max: u32,
}

impl Default for Events {
    fn default() -> Self {
        Events { buffered_max: 10_000, subscribers_max: 64 }
    }
}

/// `[[pool]]` (F7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its id.
    pub id: Name,
    /// Its capacity.
    pub seats: u32,
    /// True if the quotas of its tenants may exceed it.
    pub oversubscribe: bool,
}

/// The folder for journal and last good configuration: what the file says (relative to `usherd.toml`), else
/// what systemd says (`$STATE_DIRECTORY`, the first where there are several), else `state` beside
/// `usherd.toml`.
pub fn state_dir(configured: &str, from_systemd: Option<&str>, main: &std::path::Path) -> std::path::PathBuf {
    let folder = main.parent().unwrap_or(std::path::Path::new(""));
    let from_systemd = from_systemd.and_then(|dirs| dirs.split(':').next()).filter(|dir| !dir.is_empty());
    match (configured, from_systemd) {
        ("", None) => folder.join("state"),
        ("", Some(dir)) => dir.into(),
        (configured, _) => folder.join(configured),
    }
}

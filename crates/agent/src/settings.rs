//! The contents of `agent.toml`: its sections, their keys and defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use usherd_contract::words::Kind;

use super::presence::Rule;

/// The whole of `agent.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where usherd is, and what to do without it.
    pub daemon: Daemon,
    /// The node that the agent speaks for.
    pub node: Node,
    /// The socket for dial plans and scripts.
    pub socket: Socket,
    /// Scripts of Asterisk.
    pub agi: Agi,
    /// The releases that wait for the daemon.
    pub spool: Spool,
    /// Asterisk's manager interface.
    pub asterisk: Asterisk,
    /// FreeSWITCH's event socket.
    pub freeswitch: FreeSwitch,
    /// Kamailio's JSON-RPC.
    pub kamailio: Kamailio,
    /// The log.
    pub log: Log,
}

/// `[daemon]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Daemon {
    /// `http://host:port`, `https://host:port` or `unix:/path`; several of them in the order in which they are tried.
    pub address: Addresses,
    /// File with the node's token; empty = none.
    pub token_file: String,
    /// File with certificates that an `https` daemon may be signed by; empty = those the machine trusts.
    pub ca_file: String,
    /// Longest that a call waits for an answer, milliseconds, 1-10,000.
    pub deadline_ms: u64,
    /// `allow` or `deny` (G7).
    pub on_unreachable: String,
}

/// One address of usherd, or those of the daemons of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected an address of usherd, or a list of them")]
pub enum Addresses {
    /// A text.
    One(String),
    /// A list of texts.
    Several(Vec<String>),
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// The node's name; the same after each start.
    pub name: String,
    /// The tenant of channels that name none.
    pub tenant: String,
    /// Emergency numbers of this node (C14).
    pub emergency_numbers: Vec<String>,
    /// Digits that mean "outside", removed before an emergency match.
    pub trunk_prefix: String,
    /// Seconds that a desktop keeps its seat after its device is gone (G6); not set: as usherd says, 30 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_grace_s: Option<u32>,
}

/// `[socket]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    /// Its path; empty = none.
    pub path: String,
    /// Permissions, octal.
    pub mode: String,
    /// Group that it is given to; empty = the agent's own.
    pub group: String,
    /// Connections at one time, 1-4,096.
    pub connections_max: usize,
    /// Life of a call that no source watches and that names no `ttl_s`, seconds (E3).
    pub unwatched_ttl_s: u32,
}

/// `[agi]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agi {
    /// Loopback address and port for FastAGI; empty = none.
    pub listen: String,
}

/// `[spool]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// Its folder.
    pub folder: String,
    /// Most bytes of releases that wait.
    pub bytes_max: u64,
}

/// `[asterisk]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asterisk {
    /// `host:port` of the manager interface; empty = none.
    pub address: String,
    /// The manager user.
    pub user: String,
    /// File with the secret.
    pub secret_file: String,
    /// How often everything is listed, seconds.
    pub list_s: u64,
    /// Longest silence, seconds: half of it brings a question, all of it ends the connection.
    pub silence_s: u64,
    /// Which devices are desktops or mobiles.
    pub presence: Vec<PresenceRule>,
}

/// `[freeswitch]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FreeSwitch {
    /// `host:port` of the event socket; empty = none.
    pub address: String,
    /// File with the password.
    pub password_file: String,
    /// How often everything is listed, seconds.
    pub list_s: u64,
    /// Longest silence, seconds.
    pub silence_s: u64,
    /// Which registrations are desktops or mobiles.
    pub presence: Vec<PresenceRule>,
}

/// `[kamailio]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kamailio {
    /// `host:port` of xhttp; empty = none.
    pub address: String,
    /// The path that it hands to jsonrpcs.
    pub path: String,
    /// How often dialogs are listed, seconds.
    pub list_s: u64,
    /// Longest silence, seconds.
    pub silence_s: u64,
}

/// `[[asterisk.presence]]`, `[[freeswitch.presence]]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceRule {
    /// The device, with at most one `*`.
    pub device: String,
    /// The subject that holds the seat; `*` is what the device's `*` stands for.
    pub subject: String,
    /// Empty = `[node] tenant`.
    pub tenant: String,
    /// `desktop` or `mobile`.
    pub kind: String,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The level for each target, as in `info,usherd_agent=debug`.
    pub filter: String,
    /// `text` or `json`.
    pub format: String,
}

impl Default for Daemon {
    fn default() -> Self {
        Daemon {
            address: Addresses::One("http://127.0.0.1:7788".to_owned()),
            token_file: String::new(),
            ca_file: String::new(),
            deadline_ms: 50,
            on_unreachable: "allow".to_owned(),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Node {
            name: String::new(),
            tenant: String::new(),
            emergency_numbers: vec!["110".to_owned(), "112".to_owned()],
            trunk_prefix: String::new(),
            presence_grace_s: None,
        }
    }
}

impl Default for Socket {
    fn default() -> Self {
        Socket {
            path: "/run/usherd-agent/agent.sock".to_owned(),
            mode: "0660".to_owned(),
            group: String::new(),
            connections_max: 256,
            unwatched_ttl_s: 14_400,
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Spool { folder: "/var/lib/usherd-agent".to_owned(), bytes_max: 16 * 1024 * 1024 }
    }
}

impl Default for Asterisk {
    fn default() -> Self {
        let none = String::new;
        Asterisk { address: none(), user: none(), secret_file: none(), list_s: 60, silence_s: 30, presence: Vec::new() }
    }
}

impl Default for FreeSwitch {
    fn default() -> Self {
        let none = String::new;
        FreeSwitch { address: none(), password_file: none(), list_s: 60, silence_s: 60, presence: Vec::new() }
    }
}

impl Default for Kamailio {
    fn default() -> Self {
        Kamailio { address: String::new(), path: "/RPC".to_owned(), list_s: 5, silence_s: 15 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".to_owned(), format: "text".to_owned() }
    }
}

/// The permissions of a socket.
pub fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

impl Config {
    /// The presence rules of a section, with the tenant where they name none.
    pub fn presence_rules(&self, rules: &[PresenceRule]) -> Vec<Rule> {
        let rule = |rule: &PresenceRule| Rule {
            device: rule.device.clone(),
            subject: rule.subject.clone(),
            tenant: if rule.tenant.is_empty() { &self.node.tenant } else { &rule.tenant }.as_str().into(),
            kind: if rule.kind == "mobile" { Kind::Mobile } else { Kind::Desktop },
        };
        rules.iter().map(rule).collect()
    }

    /// The address at which scripts are answered, if they are.
    pub fn agi_address(&self) -> Option<SocketAddr> {
        self.agi.listen.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
    }

    /// The socket's path, if there is to be one.
    pub fn socket_path(&self) -> Option<PathBuf> {
        (!self.socket.path.is_empty()).then(|| PathBuf::from(&self.socket.path))
    }
}

//! The options of a client: where the daemons are, who the node is, what to do without it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use usherd_contract::emergency;
use usherd_contract::names::{Fault, Name, check_epoch, check_word};
use usherd_contract::words::Class;

use super::epoch::wall_clock_epoch;

/// Port where an address names none (API 1).
const PORT: u16 = 7788;
/// Port of `https` where an address names none.
const TLS_PORT: u16 = 443;
/// Most addresses of one client.
const ADDRESSES_MAX: usize = 8;

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `http://host:port`
    Http {
        /// The name or address of the host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `https://host:port`; the host's certificate is checked.
    Https {
        /// Name or address of the host, as in its certificate.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

impl Address {
    /// The value of the `Host` header.
    pub(super) fn authority(&self) -> String {
        match self {
            Address::Http { host, port } | Address::Https { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Http { host, port } => write!(f, "http://{host}:{port}"),
            Address::Https { host, port } => write!(f, "https://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The reason why a text is no address of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressFault(String);

impl fmt::Display for AddressFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not where a daemon listens: write http://host:port, https://host:port or unix:/path", self.0)
    }
}

impl std::error::Error for AddressFault {}

impl FromStr for Address {
    type Err = AddressFault;

    /// Reads `http://host[:port]`, `https://host[:port]` or `unix:/path`; a port is 1-65535, by default 7788 and 443.
    fn from_str(text: &str) -> Result<Self, AddressFault> {
        let fault = || AddressFault(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Address::Unix(path.into())) } else { Err(fault()) };
        }
        let (rest, tls) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(fault()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let usual = if tls { TLS_PORT } else { PORT };
        // The colons of an IPv6 address in brackets are not the one before a port.
        let host_ends = rest.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match rest.get(host_ends..).and_then(|after| after.rfind(':')) {
            Some(at) => {
                let (host, port) = rest.split_at(host_ends + at);
                (host, port[1..].parse().ok().filter(|port| *port > 0).ok_or_else(fault)?)
            }
            None => (rest, usual),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '?' | '#');
        if host.is_empty() || host.contains(odd) || (host_ends == 0 && host.contains(':')) {
            return Err(fault());
        }
        let host = host.to_owned();
        Ok(if tls { Address::Https { host, port } } else { Address::Http { host, port } })
    }
}

/// The behaviour of a node when the daemon cannot be asked in time (G7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnreachable {
    /// It allows, keeps the session in its ledger, and has it adopted later.
    #[default]
    Allow,
    /// It refuses what would need a seat, but never inbound calls and legs that deliver them, emergencies,
    /// lifelines, calls of the phone system itself, idle phones, nor what runs already.
    Deny,
}

/// Limits of a client. Full is an answer: the call is allowed, and the reason is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Questions that wait for an answer at one time, each on a connection of its own. Beyond:
    /// [`Unreachable::Busy`](super::Unreachable), at once.
    pub in_flight_max: u32,
    /// Sessions remembered. Beyond: [`Unreachable::Full`](super::Unreachable), at once; such a session is not
    /// reported, so the daemon never hears of it.
    pub sessions_max: u32,
    /// Releases and reports that wait to be sent. Beyond: [`Event::ReportsFull`](super::Event); the next
    /// inventory says the same, later.
    pub reports_max: u32,
    /// Releases and reports in one request, 1-1,000 (the daemon's own limit).
    pub batch_ops_max: u32,
    /// Bytes of an answer to a single message; a longer one counts as none.
    pub answer_bytes_max: u32,
    /// Questions without an answer in a row until calls do not wait any more.
    pub misses_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            in_flight_max: 256,
            sessions_max: 100_000,
            reports_max: 100_000,
            batch_ops_max: 100,
            answer_bytes_max: 64 * 1024,
            misses_max: 3,
        }
    }
}

/// The options with which a client is started.
#[derive(Clone)]
pub struct Options {
    /// Where the daemon listens.
    pub address: Address,
    /// Where other daemons of the same cluster listen, at most seven, in the order in which they are tried where the
    /// one in use does not answer. Default none.
    pub other_addresses: Vec<Address>,
    /// The node's name, 1-64 bytes of printable ASCII without blanks; the same after each start.
    pub node: Name,
    /// The node's boot number; higher after each start (G5, G8).
    pub epoch: u64,
    /// Number of the first message, from 1. A node that starts again with the epoch it had, because what lives on
    /// it outlived the start, begins above all numbers it ever gave (G5).
    pub first_seq: u64,
    /// No inventory is sent until [`Client::allow_inventories`](super::Client::allow_inventories): for a node that
    /// starts again with the epoch it had and has yet to find out what lives on it. An inventory would end the rest.
    pub withhold_inventories: bool,
    /// The credential that the daemon's `[auth]` asks for.
    pub token: Option<String>,
    /// Longest that a question may wait, the retry included. Default 50 ms.
    pub deadline: Duration,
    /// Longest that a message which no call waits for may take. Default 2 s.
    pub background_deadline: Duration,
    /// The behaviour when the daemon cannot be asked in time. Default: allow.
    pub on_unreachable: OnUnreachable,
    /// Numbers that are emergency calls on this node, however they are written when dialled (C14): `+112`, `1-1-2`
    /// and `tel:112` are 112. Default 110 and 112. The daemon's own lists, per tenant, apply besides.
    pub emergency_numbers: Vec<Name>,
    /// Digits before a number that mean "outside"; removed before an emergency match. Default none.
    pub trunk_prefix: Name,
    /// Classes that `on_unreachable` never refuses (C18). Default the lift.
    pub never_deny: Vec<Class>,
    /// Certificates, as PEM, that an `https` daemon may be signed by; `None` = those the machine trusts.
    pub ca_pem: Option<Vec<u8>>,
    /// A certificate with its chain and its key, as PEM, where an `https` daemon asks for one.
    pub identity_pem: Option<Vec<u8>>,
    /// The limits.
    pub limits: Limits,
}

impl Options {
    /// The defaults for a node with a boot number of its own.
    pub fn new(address: Address, node: impl Into<Name>, epoch: u64) -> Self {
        Options {
            address,
            other_addresses: Vec::new(),
            node: node.into(),
            epoch,
            first_seq: 1,
            withhold_inventories: false,
            token: None,
            deadline: Duration::from_millis(50),
            background_deadline: Duration::from_secs(2),
            on_unreachable: OnUnreachable::Allow,
            emergency_numbers: vec![Name::const_new("110"), Name::const_new("112")],
            trunk_prefix: Name::const_new(""),
            never_deny: vec![Class::Lift],
            ca_pem: None,
            identity_pem: None,
            limits: Limits::default(),
        }
    }

    /// The defaults for a node whose boot number is the wall clock ([`wall_clock_epoch`]).
    pub fn starting_now(address: Address, node: impl Into<Name>) -> Self {
        Self::new(address, node, wall_clock_epoch())
    }

    /// Every address, in their order.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.address).chain(&self.other_addresses)
    }

    /// Checks all that can be checked without a daemon.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn check(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        check_word("node", &self.node, &mut faults);
        check_epoch(self.epoch, &mut faults);
        let twice = |at| self.addresses().take(at).any(|address| self.addresses().nth(at) == Some(address));
        if self.other_addresses.len() >= ADDRESSES_MAX || (1..=self.other_addresses.len()).any(twice) {
            faults.push(Fault::new("other_addresses", "must be at most 7, each another one"));
        }
        if self.deadline.is_zero() || self.deadline > Duration::from_secs(10) {
            faults.push(Fault::new("deadline", "must be more than 0 and at most 10 seconds; 50 ms is usual"));
        }
        if self.background_deadline < Duration::from_millis(100) {
            faults.push(Fault::new("background_deadline", "must be at least 100 ms; 2 seconds are usual"));
        }
        if self.token.as_deref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            faults.push(Fault::new("token", "must be printable ASCII without blanks"));
        }
        if !(1..=1_000).contains(&self.limits.batch_ops_max) {
            faults.push(Fault::new("batch_ops_max", "must be 1 to 1000"));
        }
        if self.limits.in_flight_max == 0 || self.limits.misses_max == 0 {
            faults.push(Fault::new("limits", "in_flight_max and misses_max must be at least 1"));
        }
        if self.emergency_numbers.iter().any(|number| emergency::plain_number(number).is_none()) {
            faults
                .push(Fault::new("emergency_numbers", "must be numbers: digits, as dialled without the trunk prefix"));
        }
        if !self.trunk_prefix.is_empty() && emergency::plain_prefix(&self.trunk_prefix).is_none() {
            faults.push(Fault::new("trunk_prefix", "must be the digits that get an outside line, or empty for none"));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The same, with its numbers in the form that is cheapest to compare.
    pub(super) fn in_plain_numbers(mut self) -> Self {
        for number in &mut self.emergency_numbers {
            if let Some(plain) = emergency::plain_number(number) {
                *number = plain.into();
            }
        }
        if let Some(plain) = emergency::plain_prefix(&self.trunk_prefix) {
            self.trunk_prefix = plain.into();
        }
        self
    }
}

impl fmt::Debug for Options {
    /// Everything but the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &self.address)
            .field("other_addresses", &self.other_addresses)
            .field("node", &self.node)
            .field("epoch", &self.epoch)
            .field("deadline", &self.deadline)
            .field("on_unreachable", &self.on_unreachable)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_or_said_to_be_none() {
        for (text, shown) in [
            ("http://127.0.0.1:7788", Some("http://127.0.0.1:7788")),
            ("http://cu.example/", Some("http://cu.example:7788")),
            ("https://cu.example", Some("https://cu.example:443")),
            ("http://[::1]:80", Some("http://[::1]:80")),
            ("http://[::1]", Some("http://[::1]:7788")),
            ("unix:/run/usherd/usherd.sock", Some("unix:/run/usherd/usherd.sock")),
            ("unix:///run/u.sock", Some("unix:/run/u.sock")),
            ("unix:relative", None),
            ("http://", None),
            ("http://::1", None),
            ("http://host:0", None),
            ("http://host:65536", None),
            ("http://a@b", None),
            ("http://host/path", None),
            ("host:1", None),
        ] {
            let read = text.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(read.as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_wrong_option_is_named() {
        let good = Options::new(Address::Unix("/s".into()), "n1", 7);
        assert_eq!(good.check(), Ok(()));
        let many = |count| (0..count).map(|at| Address::Unix(format!("/{at}").into())).collect();
        assert_eq!(Options { other_addresses: many(7), ..good.clone() }.check(), Ok(()));
        assert!(Options { other_addresses: many(8), ..good.clone() }.check().is_err());
        let numbers = vec!["112".into(), "help".into()];
        let bad = Options { node: "".into(), deadline: Duration::ZERO, token: Some("a b".into()), ..good };
        let bad = Options { emergency_numbers: numbers, trunk_prefix: "x".into(), ..bad };
        let other_addresses = vec![Address::Unix("/t".into()), Address::Unix("/s".into())];
        let bad = Options { other_addresses, ..bad };
        let fields: Vec<_> = bad.check().unwrap_err().iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["node", "other_addresses", "deadline", "token", "emergency_numbers", "trunk_prefix"]);
    }

    #[test]
    fn numbers_are_compared_as_they_are_dialled_plainly_c14() {
        let options = Options {
            emergency_numbers: vec!["+112".into(), "tel:1-1-0".into()],
            trunk_prefix: "0-".into(),
            ..Options::new(Address::Unix("/s".into()), "n1", 7)
        };
        assert_eq!(options.check(), Ok(()));
        let options = options.in_plain_numbers();
        assert_eq!((options.emergency_numbers, &*options.trunk_prefix), (vec!["112".into(), "110".into()], "0"));
    }
}

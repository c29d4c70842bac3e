//! The verdict for a node: go on or not, and who says so.

use std::fmt;

use usherd_contract::names::Fault;
use usherd_contract::sentence;
use usherd_contract::words::{Code, Detail};

/// The answer to a question. The node acts on [`Verdict::allow`]; the rest is for messages, logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// True if it may go on.
    pub allow: bool,
    /// The source of the decision.
    pub source: Source,
    /// The daemon's answer; only with [`Source::Daemon`].
    pub answer: Option<Answer>,
    /// The faults of the question; only with [`Source::Malformed`], where they were seen here. Report them:
    /// they are defects of the node itself (C20).
    pub faults: Vec<Fault>,
    /// The daemon's words about the fault of the question; only with [`Source::Malformed`], where it was seen there.
    pub problem: Option<String>,
}

impl Verdict {
    pub(super) fn of(allow: bool, source: Source) -> Self {
        Verdict { allow, source, answer: None, faults: Vec::new(), problem: None }
    }

    /// The SIP code to refuse with (U3): the daemon's, or 403 where this node refuses because the daemon does not
    /// answer. `None` where it is allowed.
    pub fn sip_code(&self) -> Option<u16> {
        let said = self.answer.as_ref().and_then(|answer| answer.sip_code);
        (!self.allow).then(|| said.unwrap_or(403))
    }

    /// When to ask again, seconds (U4): the daemon's, or 60. `None` where it is allowed.
    pub fn retry_after_s(&self) -> Option<u32> {
        let said = self.answer.as_ref().and_then(|answer| answer.retry_after_s);
        (!self.allow).then(|| said.unwrap_or(60))
    }

    /// One sentence for a person; names nobody (U6).
    pub fn message(&self) -> &str {
        match (&self.answer, self.source) {
            (Some(answer), _) => &answer.message,
            (None, Source::Inbound) => sentence::message(Code::AllowFree, Detail::Inbound),
            (None, Source::Emergency) => sentence::message(Code::AllowFree, Detail::Emergency),
            (None, Source::Malformed) => "Allowed: the request could not be understood.",
            (None, _) if self.allow => "Allowed: the licence server could not be asked.",
            (None, _) => "The licence server cannot be asked. Please try again later.",
        }
    }
}

/// The source of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The daemon answered.
    Daemon,
    /// This node: an inbound call, or a leg that delivers one (C1, C5). The daemon hears of it afterwards.
    Inbound,
    /// This node: an emergency call (C14). The daemon hears of it afterwards.
    Emergency,
    /// This node, by its `on_unreachable`: the daemon could not be asked in time (G7).
    Unreachable(Unreachable),
    /// This node: the question is not well formed, and so it is allowed (C20).
    Malformed,
}

impl Source {
    /// The word for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Daemon => "daemon",
            Source::Inbound => "inbound",
            Source::Emergency => "emergency",
            Source::Unreachable(why) => why.as_str(),
            Source::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reason why the daemon could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unreachable {
    /// No answer within the deadline, every retry included.
    Timeout,
    /// Nothing listens there: the connection was refused, or the Unix socket does not exist.
    Refused,
    /// The host's name has no address.
    Unresolved,
    /// No connection for another reason, or it broke twice.
    Connection,
    /// Its certificate was signed by an authority that this node does not trust.
    TlsUntrusted,
    /// Its certificate is not valid at this time, by this node's clock.
    TlsExpired,
    /// Its certificate is for another name than the one under which it is asked.
    TlsWrongName,
    /// TLS failed otherwise: there is none, or it wants a client certificate.
    Tls,
    /// It answered that it is overloaded (429).
    Overloaded,
    /// It answered that it is not ready, overloaded or draining (503).
    NotReady,
    /// It does not accept this node's token (401), or something before it does not let this node through (403).
    NotPermitted,
    /// The server has no such route (404): it is not usherd.
    NotFound,
    /// It answered with an error of its own (another 5xx).
    ServerError,
    /// It answered something that is not the protocol, or too long.
    Protocol,
    /// It does not know this node, and hello did not get through in time.
    NotGreeted,
    /// It was not asked: it left several calls in a row without an answer, and is being tried in the background.
    Paused,
    /// It was not asked: [`Limits::in_flight_max`](super::Limits) calls wait for an answer already.
    Busy,
    /// It was not asked: [`Limits::sessions_max`](super::Limits) sessions are remembered already.
    Full,
}

impl Unreachable {
    /// Every reason, in the order of the definition.
    pub const ALL: &'static [Unreachable] = &[
        Unreachable::Timeout,
        Unreachable::Refused,
        Unreachable::Unresolved,
        Unreachable::Connection,
        Unreachable::TlsUntrusted,
        Unreachable::TlsExpired,
        Unreachable::TlsWrongName,
        Unreachable::Tls,
        Unreachable::Overloaded,
        Unreachable::NotReady,
        Unreachable::NotPermitted,
        Unreachable::NotFound,
        Unreachable::ServerError,
        Unreachable::Protocol,
        Unreachable::NotGreeted,
        Unreachable::Paused,
        Unreachable::Busy,
        Unreachable::Full,
    ];

    /// The reason for a status that is no decision.
    pub const fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Unreachable::NotPermitted,
            404 => Unreachable::NotFound,
            429 => Unreachable::Overloaded,
            503 => Unreachable::NotReady,
            500..=599 => Unreachable::ServerError,
            _ => Unreachable::Protocol,
        }
    }

    /// True if a second try over a new connection may go better.
    pub(super) const fn is_of_connection(self) -> bool {
        use Unreachable::{Connection, Protocol, Refused, Tls, TlsExpired, TlsUntrusted, TlsWrongName, Unresolved};
        matches!(self, Refused | Unresolved | Connection | TlsUntrusted | TlsExpired | TlsWrongName | Tls | Protocol)
    }

    /// True if another daemon may answer better.
    pub(super) const fn is_of_one_daemon(self) -> bool {
        use Unreachable::{NotFound, NotPermitted, NotReady, ServerError, Timeout};
        self.is_of_connection() || matches!(self, Timeout | NotReady | NotPermitted | NotFound | ServerError)
    }

    /// The word for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unreachable::Timeout => "timeout",
            Unreachable::Refused => "refused",
            Unreachable::Unresolved => "unresolved",
            Unreachable::Connection => "connection",
            Unreachable::TlsUntrusted => "tls_untrusted",
            Unreachable::TlsExpired => "tls_expired",
            Unreachable::TlsWrongName => "tls_wrong_name",
            Unreachable::Tls => "tls",
            Unreachable::Overloaded => "overloaded",
            Unreachable::NotReady => "not_ready",
            Unreachable::NotPermitted => "not_permitted",
            Unreachable::NotFound => "not_found",
            Unreachable::ServerError => "server_error",
            Unreachable::Protocol => "protocol",
            Unreachable::NotGreeted => "not_greeted",
            Unreachable::Paused => "paused",
            Unreachable::Busy => "busy",
            Unreachable::Full => "full",
        }
    }

    /// One sentence for whoever looks after the node: what it is, and where to fix it.
    pub const fn help(self) -> &'static str {
        match self {
            Unreachable::Timeout => "no answer in time: does usherd run, and does a firewall swallow packets?",
            Unreachable::Refused => "nobody listens there: is the address right, and does usherd run?",
            Unreachable::Unresolved => "the host's name has no address: is it written right, and does DNS answer?",
            Unreachable::Connection => "the connection cannot be made or breaks: look at the network between",
            Unreachable::TlsUntrusted => {
                "its certificate is of an authority that is not trusted here: name the right one as CA file"
            }
            Unreachable::TlsExpired => {
                "its certificate is not valid now: renew it, and see that the clocks of both machines are right"
            }
            Unreachable::TlsWrongName => {
                "its certificate is for another name: write the address with the name that the certificate has"
            }
            Unreachable::Tls => "TLS fails: does it speak TLS on this port, and does it want a client certificate?",
            Unreachable::Overloaded => "it is asked too often: see its limits for one client",
            Unreachable::NotReady => "it is starting, stopping or overloaded: its /readyz?verbose says which",
            Unreachable::NotPermitted => {
                "it does not let this node in: give the node a token of role `node` for its tenants and its name"
            }
            Unreachable::NotFound => {
                "what answers there is not usherd: is the address that of a proxy or of another server?"
            }
            Unreachable::ServerError => "it, or a proxy before it, answers with an error of its own: see its log",
            Unreachable::Protocol => {
                "what answers there does not speak as usherd does: are address, port and version right?"
            }
            Unreachable::NotGreeted => "it does not know this node yet, and hello did not get through in time",
            Unreachable::Paused => "several calls in a row were not answered: it is tried in the background",
            Unreachable::Busy => "too many calls wait for an answer at one time",
            Unreachable::Full => "too many sessions are remembered already",
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The daemon's answer to an acquire (API 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The verdict.
    pub code: Code,
    /// Why it was free, or what was full.
    pub detail: Detail,
    /// On `allow.same`: the code of the first answer.
    pub first: Option<Code>,
    /// One sentence for a person; names nobody (U6).
    pub message: String,
    /// Seats held after the decision.
    pub held: u32,
    /// The quota; `None` is unlimited.
    pub quota: Option<u32>,
    /// Seats held above the quota.
    pub over: u32,
    /// Seconds until the session ends unless renewed; heartbeats renew it.
    pub ttl_s: Option<u32>,
    /// On a denial: the SIP code to answer with (U3).
    pub sip_code: Option<u16>,
    /// On a denial: when to ask again, seconds (U4).
    pub retry_after_s: Option<u32>,
    /// The number of the decision, for the daemon's log and audit trail.
    pub decision_id: String,
}

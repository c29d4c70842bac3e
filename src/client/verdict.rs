//! What a node is told: go on or not, and who says so.

use std::fmt;

use crate::contract::sentence;
use crate::engine::{Code, Detail, Fault};

/// May it happen? The node acts on [`Verdict::allow`]; the rest is for messages, logs and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Go on.
    pub allow: bool,
    /// Who decided.
    pub source: Source,
    /// What the daemon answered; only with [`Source::Daemon`].
    pub answer: Option<Answer>,
    /// What was wrong with the question; only with [`Source::Malformed`], where it was seen here. Report it:
    /// it is a defect of the node's own (C20).
    pub faults: Vec<Fault>,
    /// What the daemon says was wrong with the question; only with [`Source::Malformed`], where it was seen there.
    pub problem: Option<String>,
}

impl Verdict {
    pub(super) fn of(allow: bool, source: Source) -> Self {
        Verdict { allow, source, answer: None, faults: Vec::new(), problem: None }
    }

    /// The SIP code to refuse with (U3): the daemon's, or 403 where this node refuses because nobody answers.
    /// `None` where it is allowed.
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

/// Who decided.
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

/// Why the daemon could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unreachable {
    /// No answer within the deadline, the retry included.
    Timeout,
    /// No connection, or it broke twice.
    Connection,
    /// It answered that it is overloaded or not ready (503, 429).
    Overloaded,
    /// It does not accept this node's token (401).
    NotPermitted,
    /// It answered something that is not the protocol, or too long.
    Protocol,
    /// It does not know this node, and hello did not get through in time.
    NotGreeted,
    /// Nobody was asked: it left several calls in a row without an answer, and is being tried in the background.
    Paused,
    /// Nobody was asked: [`Limits::in_flight_max`](super::Limits) calls wait for an answer already.
    Busy,
    /// Nobody was asked: [`Limits::sessions_max`](super::Limits) sessions are remembered already.
    Full,
}

impl Unreachable {
    /// Every reason, in the order of the definition.
    pub const ALL: &'static [Unreachable] = &[
        Unreachable::Timeout,
        Unreachable::Connection,
        Unreachable::Overloaded,
        Unreachable::NotPermitted,
        Unreachable::Protocol,
        Unreachable::NotGreeted,
        Unreachable::Paused,
        Unreachable::Busy,
        Unreachable::Full,
    ];

    /// The word for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unreachable::Timeout => "timeout",
            Unreachable::Connection => "connection",
            Unreachable::Overloaded => "overloaded",
            Unreachable::NotPermitted => "not_permitted",
            Unreachable::Protocol => "protocol",
            Unreachable::NotGreeted => "not_greeted",
            Unreachable::Paused => "paused",
            Unreachable::Busy => "busy",
            Unreachable::Full => "full",
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the daemon answered to an acquire (API 2).
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

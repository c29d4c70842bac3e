//! An answer that is not a decision: a problem object of RFC 9457.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::malformed::FieldError;
use super::vocabulary;
use super::word::Word;

vocabulary! {
    /// The kind of a problem; each has one status, one type and one title for good.
    ProblemKind {
        /// 400: a field or the whole body is wrong.
        Malformed = "/problems/malformed",
        /// 401: no valid credential, or it may not do this. Never 403, which is a decision.
        NotPermitted = "/problems/not-permitted",
        /// 404.
        NotFound = "/problems/not-found",
        /// 405, with `Allow`.
        MethodNotAllowed = "/problems/method",
        /// 408: the body did not come in time.
        Timeout = "/problems/timeout",
        /// 409: the state of the object forbids it.
        Conflict = "/problems/conflict",
        /// 409: the node is not known by this epoch; say hello and send an inventory.
        UnknownEpoch = "/problems/unknown-epoch",
        /// 413.
        TooLarge = "/problems/too-large",
        /// 415.
        UnsupportedType = "/problems/media-type",
        /// 422: understood and refused, as a configuration with errors.
        Rejected = "/problems/rejected",
        /// 429, with `Retry-After`.
        TooMany = "/problems/rate",
        /// 431.
        HeadTooLarge = "/problems/head-too-large",
        /// 503, with `Retry-After`: nobody answered, as far as a caller is concerned (I10).
        Unavailable = "/problems/unavailable",
    }
}

impl ProblemKind {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            ProblemKind::Malformed => 400,
            ProblemKind::NotPermitted => 401,
            ProblemKind::NotFound => 404,
            ProblemKind::MethodNotAllowed => 405,
            ProblemKind::Timeout => 408,
            ProblemKind::Conflict | ProblemKind::UnknownEpoch => 409,
            ProblemKind::TooLarge => 413,
            ProblemKind::UnsupportedType => 415,
            ProblemKind::Rejected => 422,
            ProblemKind::TooMany => 429,
            ProblemKind::HeadTooLarge => 431,
            ProblemKind::Unavailable => 503,
        }
    }

    /// The title.
    pub const fn title(self) -> &'static str {
        match self {
            ProblemKind::Malformed => "The request is malformed",
            ProblemKind::NotPermitted => "Not permitted",
            ProblemKind::NotFound => "There is no such thing",
            ProblemKind::MethodNotAllowed => "The method does not fit the route",
            ProblemKind::Timeout => "The request came too slowly",
            ProblemKind::Conflict => "The present state forbids it",
            ProblemKind::UnknownEpoch => "Say hello and send an inventory",
            ProblemKind::TooLarge => "The request is too large",
            ProblemKind::UnsupportedType => "The content type is not understood",
            ProblemKind::Rejected => "Understood and rejected",
            ProblemKind::TooMany => "Too many requests",
            ProblemKind::HeadTooLarge => "The head of the request is too large",
            ProblemKind::Unavailable => "Not able to answer now",
        }
    }
}

/// RFC 9457. An answer that is no decision: a node that gets one applies its own `on_unreachable` policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Problem<'a> {
    /// One of the documented kinds.
    #[serde(rename = "type")]
    pub kind: Word<ProblemKind>,
    /// The kind, for people.
    pub title: Cow<'a, str>,
    /// The HTTP status.
    pub status: u16,
    /// The fault, this time.
    pub detail: Cow<'a, str>,
    /// Every wrong field, at most 32.
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    pub errors: Cow<'a, [FieldError]>,
    /// When to ask again; also in Retry-After.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// With a 409 to a node: the epoch by which it is known, if any. A start needs a higher one, so a node whose clock
    /// or counter went back goes on with this one plus 1 - once: where that is refused too, another process speaks as
    /// this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_epoch: Option<u64>,
}

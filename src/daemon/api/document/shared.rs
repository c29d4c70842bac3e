//! Parts of the document that many routes share: common answers, headers, and the words before them all.

use serde_json::{Value, json};

/// The description of the whole.
pub(super) const DESCRIPTION: &str = "\
    Words: a *tenant* is a customer phone system, a *subject* whoever can hold a seat, a *session* any live \
    thing that a node reports, a *node* a PBX server.\n\n\
    A decision is status 200, allow or deny (403 for a denial only where `status=1` asked for it). Everything \
    else is no decision, and `application/problem+json`. So a node needs one rule: no 200 (or 403 where it \
    asked for it) means that nobody answered, and its own `on_unreachable` policy, which allows, applies.\n\n\
    Inbound and emergency calls are answered 200 and allow in every state of tenant and daemon, with any \
    credential or none, under any `Host` or two; an emergency call also where its request is malformed.\n\n\
    Without a credential of its own a request is a stranger's, from loopback too, where a page of another \
    origin sent it (`Origin`, `Sec-Fetch-Site`) or a proxy passed it on (`Forwarded`, `X-Forwarded-*`, `Via`, \
    `X-Real-IP`). A credential with `nodes` asks and gives back for those only.\n\n\
    Any other method on a path gives 405 with `Allow`; any other path 404. `GET` answers `HEAD` too. Lists are \
    sorted, paged by `after` (the last key, exclusive) and `limit`, and carry `next` while there is more. A \
    parameter that a route under `/v1/` for reading or administration does not know is a 400 that names it, and \
    the one that was probably meant; routes that nodes speak to pass over what they do not know. Fields may be \
    added to replies: ignore those you do not know.";

/// An answer of many routes.
pub(super) struct Common {
    pub(super) name: &'static str,
    pub(super) status: u16,
    pub(super) about: &'static str,
    pub(super) headers: &'static [&'static str],
    /// Its body is a problem; else it is empty.
    pub(super) is_problem: bool,
}

impl Common {
    const fn new(name: &'static str, status: u16, headers: &'static [&'static str], about: &'static str) -> Self {
        Common { name, status, about, headers, is_problem: true }
    }
}

/// Every common answer.
pub(super) const COMMON: &[Common] = &[
    Common::new(
        "Malformed",
        400,
        &[],
        "A field, a parameter or the whole body is wrong; `errors` names each. Or the request has no `Host`, \
         or more than one. Nothing changed.",
    ),
    Common::new(
        "NotPermitted",
        401,
        &["WWW-Authenticate"],
        "No valid credential, or it may not do this. Never 403, which is a decision.",
    ),
    Common::new("NotFound", 404, &[], "There is no such thing."),
    Common::new(
        "Conflict",
        409,
        &[],
        "A live call is concerned: its people keep talking, but it would not be counted any more. Add \
         `force=1`.",
    ),
    Common::new(
        "Epoch",
        409,
        &[],
        "`/problems/unknown-epoch`: the node is not known by this epoch, or was lost: say hello, then send \
         an inventory. `/problems/conflict` (hello only): the epoch went back. `known_epoch` says which one \
         is known.",
    ),
    Common::new("Timeout", 408, &[], "The body did not come in time."),
    Common::new("TooLarge", 413, &[], "The body, or the list in it, is longer than the limit."),
    Common::new("UnsupportedType", 415, &[], "Send application/json or application/x-www-form-urlencoded."),
    Common::new(
        "TooMany",
        429,
        &["Retry-After"],
        "One client over its rate: failed authentications of its address, or listeners to events.",
    ),
    Common {
        is_problem: false,
        ..Common::new("HeadTooLarge", 431, &[], "The head of the request is too large; the body is empty.")
    },
    Common::new(
        "Unavailable",
        503,
        &["Retry-After"],
        "Not ready, overloaded, or an internal error: nobody answered. Inbound and emergency calls are \
         allowed nevertheless.",
    ),
];

/// The description of a header.
pub(super) struct Header {
    pub(super) name: &'static str,
    /// Its name in the document.
    pub(super) component: &'static str,
    pub(super) described: fn() -> Value,
}

/// Every header that is told of.
pub(super) const HEADERS: &[Header] = &[
    Header {
        name: "Usherd-Durability",
        component: "Durability",
        described: || {
            json!({
                "description": "\
                    `degraded`: the answer went out before what it tells was as durable as `journal.durability` \
                    asks, because the disk did not go on within 40 ms; killed now, the daemon would forget it. \
                    Missing where all is as durable as asked for. Lines of NDJSON, RESP and scripts do not tell \
                    it.",
                "required": false,
                "schema": { "type": "string", "enum": ["degraded"] },
            })
        },
    },
    Header {
        name: "Retry-After",
        component: "RetryAfter",
        described: || json!({ "schema": { "type": "integer", "minimum": 0, "description": "Seconds." } }),
    },
    Header {
        name: "WWW-Authenticate",
        component: "Authenticate",
        described: || json!({ "schema": { "type": "string" } }),
    },
    Header {
        name: "ETag",
        component: "ETag",
        described: || json!({ "description": "Of its bytes.", "schema": { "type": "string" } }),
    },
    Header {
        name: "Content-Security-Policy",
        component: "ContentSecurityPolicy",
        described: || json!({ "description": "Nothing from elsewhere, nothing inline.", "schema": { "type": "string" } }),
    },
];

/// The name in the document of a header.
pub(super) fn header_component(name: &str) -> &'static str {
    HEADERS.iter().find(|header| header.name == name).map_or("", |header| header.component)
}

//! Routes that nodes use: decisions, and what nodes say of themselves.

use super::examples;
use super::operation::{DURABLE, Media, Operation, Reply, Tag};
use crate::answers::operation::{EndpointsChecked, Explanation};
use crate::daemon::api::bodies::EndpointsAsked;
use serde_json::json;
use usherd_contract::answers::{self, BatchReply, BatchResult, Decision, Goodbye, Hello, InventoryReply, Released};
use usherd_contract::schema;

const DECISION: &[Media] = &[
    Media::json::<Decision>().examples(examples::ACQUIRE),
    Media::of::<schema::PlainDecision>("text/plain").examples(examples::ACQUIRE_TEXT),
];

const QUESTION: &[Media] = &[
    Media::json::<schema::Acquire>().examples(examples::ACQUIRE_BODY),
    Media::form::<schema::Acquire>()
        .examples(&[("", || json!("tenant=acme&subject=anna&session=c1&kind=call&direction=outbound&ttl_s=3600"))]),
];

const EPOCH: &[Media] = &[
    Media::json::<schema::Epoch>().examples(examples::HELLO_BODY),
    Media::form::<schema::Epoch>().examples(&[("", || json!("epoch=7"))]),
];

/// `POST /v1/acquire`
pub(crate) const ACQUIRE: Operation = Operation::new(
    "acquire",
    Tag::Decisions,
    "Ask for a seat, or renew",
    &[
        Reply::new(
            200,
            "A decision, allow or deny. Also the allow of an inbound or emergency call that has no \
             valid credential, comes before readiness or under overload, and of an emergency call \
             with a malformed body; nothing is recorded then.",
            DECISION,
        )
        .headers(DURABLE),
        Reply::new(403, "A denial, where `status=1` asked for it.", DECISION),
    ],
)
.about(
    "The reply is JSON to JSON; one line of plain text to a form or with `Accept: \
     text/plain`; `Accept: application/json` always wins. An acquire of a known session is \
     its renewal (`allow.same`); every message of a node renews its lease.",
)
.body(QUESTION)
.reads(&["status"]);

/// `POST /v1/release`
pub(crate) const RELEASE: Operation = Operation::new(
    "release",
    Tag::Decisions,
    "Tell that a session ended",
    &[Reply::new(
        200,
        "Done, also where there was nothing to release.",
        &[
            Media::json::<Released>().examples(examples::RELEASE),
            Media::of::<schema::PlainDecision>("text/plain").examples(&[("", || json!("released.last"))]),
        ],
    )
    .headers(DURABLE)],
)
.body(&[
    Media::json::<schema::Release>().examples(examples::RELEASE_BODY),
    Media::form::<schema::Release>().examples(&[("", || json!("tenant=acme&session=c1"))]),
]);

/// `POST /v1/batch`
pub(crate) const BATCH: Operation = Operation::new(
    "batch",
    Tag::Decisions,
    "Many operations at once",
    &[Reply::new(
        200,
        "The results in the order of the operations, each decided on its own; a malformed one \
         gets a problem in its place. NDJSON: a line in, a line out, while the client goes on.",
        &[Media::json::<BatchReply>(), Media::lines::<BatchResult>("application/x-ndjson")],
    )
    .headers(DURABLE)],
)
.body(&[
    Media::json::<schema::Batch>().examples(examples::BATCH),
    Media::lines::<schema::Operation>("application/x-ndjson")
        .about("An operation on each line, without a limit on their number."),
]);

/// `POST /v1/explain`
pub(crate) const EXPLAIN: Operation = Operation::new(
    "explain",
    Tag::Decisions,
    "Why an acquire would be answered as it would be",
    &[Reply::ok::<Explanation>("What an acquire would get, and why. Nothing changed.")],
)
.body(QUESTION);

/// `POST /v1/nodes/{node}/hello`
pub(crate) const HELLO: Operation = Operation::new(
    "hello",
    Tag::Nodes,
    "A node started",
    &[Reply::new(200, "Taken.", &[Media::json::<Hello>().examples(examples::HELLO)]).headers(DURABLE)],
)
.about(
    "A higher epoch ends the calls of older ones at once; other sessions but mobiles wait \
     for the grace time. The same epoch again only renews the lease.",
)
.body(EPOCH);

/// `POST /v1/nodes/{node}/heartbeat`
pub(crate) const HEARTBEAT: Operation = Operation::new(
    "heartbeat",
    Tag::Nodes,
    "A node lives",
    &[Reply::new(200, "Taken.", &[Media::json::<answers::Ok>().examples(examples::HEARTBEAT)]).headers(DURABLE)],
)
.about(
    "409 `/problems/unknown-epoch`: say hello and send an inventory. That is so for a node \
     that was never greeted, was lost since, or is known by another epoch; its lease is \
     renewed nevertheless if the epoch is the known one.",
)
.body(EPOCH);

/// `POST /v1/nodes/{node}/inventory`
pub(crate) const INVENTORY: Operation = Operation::new(
    "inventory",
    Tag::Nodes,
    "Everything that a node has",
    &[Reply::new(200, "Taken as a whole.", &[Media::json::<InventoryReply>().examples(examples::INVENTORY)])
        .headers(DURABLE)],
)
.about(
    "Authoritative for this node and epoch: its sessions that are not listed, and not newer \
     than `seq`, end. Unknown ones are adopted as with `existing`.",
)
.body(&[Media::json::<schema::Inventory>().examples(examples::INVENTORY_BODY)]);

/// `POST /v1/nodes/{node}/goodbye`
pub(crate) const GOODBYE: Operation = Operation::new(
    "goodbye",
    Tag::Nodes,
    "A node stops by plan",
    &[Reply::new(200, "Taken.", &[Media::json::<Goodbye>().examples(examples::GOODBYE)]).headers(DURABLE)],
)
.about("As a lost node, but the grace starts now.")
.body(EPOCH);

/// `POST /v1/tenants/{tenant}/endpoints/check`
pub(crate) const CHECK_ENDPOINTS: Operation = Operation::new(
    "checkEndpoints",
    Tag::Nodes,
    "Whether more devices may be set up",
    &[Reply::new(
        200,
        "They may, or may not.",
        &[Media::json::<EndpointsChecked>().examples(examples::CHECK_ENDPOINTS)],
    )],
)
.about("Asked when a device is provisioned, never when it calls. Changes nothing.")
.optional_body(&[
    Media::json::<EndpointsAsked>().examples(examples::CHECK_ENDPOINTS_BODY),
    Media::form::<EndpointsAsked>().examples(&[("", || json!("add=1&endpoints=48"))]),
]);

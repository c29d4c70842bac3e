//! Routes that administer.

use super::examples;
use super::operation::{DURABLE, Media, Operation, Reply, Tag};
use crate::answers::cluster::{HandedOver, Leaving};
use crate::answers::config::{Config, Rejected, Reloaded};
use crate::answers::nodes::NodeForgotten;
use crate::answers::operation::{ClockTrust, LogLevelReply};
use crate::answers::sessions::Ended;
use crate::answers::subscriptions::{SubscriptionAccepted, SubscriptionRefused};
use crate::answers::webhooks::{WebhookDeliveries, WebhookDelivery, Webhooks};
use crate::daemon::api::bodies::{HandOver, Leave, LogLevel, SubscriptionRequest};
use usherd_contract::problem::Problem;

/// `DELETE /v1/nodes/{node}`
pub(crate) const FORGET_NODE: Operation = Operation::new(
    "forgetNode",
    Tag::Administration,
    "Forget a node",
    &[Reply::new(200, "It is forgotten.", &[Media::json::<NodeForgotten>().examples(examples::FORGET_NODE)])
        .headers(DURABLE)],
)
.about(
    "Its epoch and its tombstones: its next hello may have any epoch. Refused while it is up \
     or has sessions, unless with `force`; then these wait for it or another node with the \
     usual grace. Pairings stay. The audit trail keeps who did it.",
);

/// `DELETE /v1/tenants/{tenant}/subjects/{subject}`
pub(crate) const END_SUBJECT: Operation = Operation::new(
    "endSubject",
    Tag::Administration,
    "End all sessions of a subject",
    &[Reply::new(200, "They ended.", &[Media::json::<Ended>().examples(examples::END_SUBJECT)]).headers(DURABLE)],
)
.about(
    "Mobiles and desktops too. A live call only with `force`; it is not cut, only not \
     counted any more.",
);

/// `DELETE /v1/tenants/{tenant}/sessions/{session}`
pub(crate) const END_SESSION: Operation = Operation::new(
    "endSession",
    Tag::Administration,
    "End a session",
    &[Reply::new(200, "It ended.", &[Media::json::<Ended>().examples(examples::END_SESSION)]).headers(DURABLE)],
);

/// `POST /v1/tenants/{tenant}/subscription`
pub(crate) const REQUEST_SUBSCRIPTION: Operation = Operation::new(
    "requestSubscription",
    Tag::Administration,
    "A request of customer or operator to a subscription",
    &[
        Reply::ok::<SubscriptionAccepted>("Accepted, or would be."),
        Reply::new(
            409,
            "Refused by a rule, or the file cannot be changed; nothing was.",
            &[Media::either::<SubscriptionRefused, Problem<'static>>()],
        ),
    ],
)
.about(
    "Decided by the files as they are. What is accepted is written into the tenant's file, \
     comments and order kept, and is in force when the answer comes.",
)
.body(&[Media::json::<SubscriptionRequest>().examples(examples::REQUEST_SUBSCRIPTION)]);

/// `POST /v1/admin/reload`
pub(crate) const RELOAD: Operation = Operation::new(
    "reload",
    Tag::Administration,
    "Read the configuration again",
    &[
        Reply::ok::<Reloaded>("What changed, or would."),
        Reply::new(
            422,
            "Rejected: every error with file, line and column; or it does what is done by force \
             only, `forceable`: too much would go at once, seats are held of a tenant that would go, \
             a file became empty, credentials, TLS or roles would go (add `force=1`).",
            &[Media::of::<Rejected>("application/problem+json")],
        ),
    ],
)
.about(
    "Answers after the attempt. `usherd.toml` is taken as a whole or not at all; each tenant \
     file is a unit of its own, and one that is bad leaves its tenant the last good record \
     and stops no other.",
);

/// `GET /v1/admin/config`
pub(crate) const CONFIG: Operation = Operation::new(
    "config",
    Tag::Administration,
    "The configuration in force",
    &[Reply::ok::<Config>("Where it comes from, and what was wrong with the last attempt.")],
);

/// `PUT /v1/admin/log-level`
pub(crate) const LOG_LEVEL: Operation =
    Operation::new("logLevel", Tag::Administration, "Change what is logged", &[Reply::ok::<LogLevelReply>("Changed.")])
        .body(&[Media::json::<LogLevel>().examples(examples::LOG_LEVEL)]);

/// `POST /v1/admin/clock/trust`
pub(crate) const TRUST_CLOCK: Operation = Operation::new(
    "trustClock",
    Tag::Administration,
    "Say that the wall clock is right",
    &[Reply::new(200, "Noted.", &[Media::json::<ClockTrust>().examples(examples::TRUST_CLOCK)])],
)
.about(
    "After a start that found the clock before the last instant that was trusted, or more \
     than two days after it, each subscription is worth the more generous of both times for \
     10 minutes and until a time server keeps the clock, or this is said. The 10 minutes are \
     not shortened by it. The audit trail keeps who said it.",
);

/// `POST /v1/cluster/handover`
pub(crate) const HAND_OVER: Operation = Operation::new(
    "handOver",
    Tag::Administration,
    "Give a shard to another member of the cluster",
    &[Reply::new(200, "It goes over, or went.", &[Media::json::<HandedOver>().examples(examples::HAND_OVER)])],
)
.about(
    "Whichever member is asked, the owner does it: what is in progress is committed, the shard given up, and read by \
     the other. Where one member then has two shards more than another, one goes back by itself.",
)
.body(&[Media::json::<HandOver>().examples(examples::HAND_OVER_BODY)]);

/// `POST /v1/cluster/leave`
pub(crate) const LEAVE: Operation = Operation::new(
    "leave",
    Tag::Administration,
    "Have the member that is asked own nothing, or take its part again",
    &[Reply::new(200, "It is noted.", &[Media::json::<Leaving>().examples(examples::LEAVE)])],
)
.about(
    "Its shards go to the others one by one; it goes on taking requests and passes them on. Until it is told \
     otherwise, or restarts.",
)
.body(&[Media::json::<Leave>().examples(examples::LEAVE_BODY)]);

/// `GET /v1/admin/webhooks`
pub(crate) const WEBHOOKS: Operation = Operation::new(
    "webhooks",
    Tag::Administration,
    "The webhooks and how they are",
    &[Reply::ok::<Webhooks>("In the order of the configuration.")],
);

/// `GET /v1/admin/webhooks/{webhook}/deliveries`
pub(crate) const WEBHOOK_DELIVERIES: Operation = Operation::new(
    "webhookDeliveries",
    Tag::Administration,
    "The last tries to deliver to a webhook",
    &[Reply::ok::<WebhookDeliveries>(
        "Oldest first; the last 1,000 since the start are remembered. `after` is the number of a \
         delivery.",
    )],
);

/// `POST /v1/admin/webhooks/{webhook}/test`
pub(crate) const TEST_WEBHOOK: Operation = Operation::new(
    "testWebhook",
    Tag::Administration,
    "Send a signed test to a webhook now",
    &[Reply::new(
        200,
        "The try is over; `result` says whether it was taken.",
        &[Media::json::<WebhookDelivery>().examples(examples::TEST_WEBHOOK)],
    )],
)
.about(
    "A receiver that takes it after it answered 410, or was in trouble, gets what waits at \
     once.",
);

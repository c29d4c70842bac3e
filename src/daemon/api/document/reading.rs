//! Routes that read.

use super::examples;
use super::operation::{Media, Operation, Reply, Tag};
use crate::answers::cluster::Cluster;
use crate::answers::events::Event;
use crate::answers::nodes::Nodes;
use crate::answers::overview::Overview;
use crate::answers::pricing::{Quote, Size};
use crate::answers::sessions::{Sessions, Subject, Subjects};
use crate::answers::tenants::{Tenant, Tenants};
use crate::answers::usage::{Usage, Whatif};

/// `GET /v1/nodes`
pub(crate) const LIST_NODES: Operation =
    Operation::new("listNodes", Tag::Reading, "All nodes", &[Reply::ok::<Nodes>("Sorted by name.")])
        .about("A token for some tenants sees only the nodes that it may speak as.");

/// `GET /v1/tenants`
pub(crate) const LIST_TENANTS: Operation = Operation::new(
    "listTenants",
    Tag::Reading,
    "All tenants",
    &[Reply::ok::<Tenants>("Sorted by id; those that the token sees.")],
);

/// `GET /v1/tenants/{tenant}`
pub(crate) const TENANT: Operation =
    Operation::new("tenant", Tag::Reading, "One tenant", &[Reply::ok::<Tenant>("It.")]);

/// `GET /v1/tenants/{tenant}/subjects`
pub(crate) const LIST_SUBJECTS: Operation =
    Operation::new("listSubjects", Tag::Reading, "Its subjects", &[Reply::ok::<Subjects>("Sorted by id.")]);

/// `GET /v1/tenants/{tenant}/subjects/{subject}`
pub(crate) const SUBJECT: Operation =
    Operation::new("subject", Tag::Reading, "One subject, with its sessions", &[Reply::ok::<Subject>("It.")]);

/// `GET /v1/tenants/{tenant}/sessions`
pub(crate) const LIST_SESSIONS: Operation = Operation::new(
    "listSessions",
    Tag::Reading,
    "Its sessions",
    &[Reply::ok::<Sessions>("Sorted by id; those that do not count too.")],
);

/// `GET /v1/overview`
pub(crate) const OVERVIEW: Operation = Operation::new(
    "overview",
    Tag::Reading,
    "The whole daemon at a glance",
    &[Reply::ok::<Overview>("For tokens that see all tenants.")],
);

/// `GET /v1/cluster`
pub(crate) const CLUSTER: Operation = Operation::new(
    "cluster",
    Tag::Reading,
    "The cluster that the daemon belongs to",
    &[Reply::ok::<Cluster>("As this member sees it. For tokens that see all tenants.")],
)
.about("404 where the daemon belongs to none. etcd is asked at most once a second.");

/// `GET /v1/quote`
pub(crate) const QUOTE: Operation = Operation::new(
    "quote",
    Tag::Reading,
    "What a number of seats costs, and a change to it",
    &[Reply::new(200, "The quote.", &[Media::json::<Quote>().examples(examples::QUOTE)])],
)
.about(
    "Advice, no invoice. Amounts are euro cents, net of VAT; the billing period is the civil \
     month.",
);

/// `GET /v1/tenants/{tenant}/usage`
pub(crate) const USAGE: Operation = Operation::new(
    "usage",
    Tag::Reading,
    "What it used and wanted over time",
    &[Reply::ok::<Usage>("Point by point, and in all.")],
)
.about(
    "Five minutes are kept for 14 days and hours for 13 months, as [history] says. At most \
     5000 points. Times in which the daemon did not run are not there.",
);

/// `GET /v1/tenants/{tenant}/whatif`
pub(crate) const WHATIF: Operation = Operation::new(
    "whatif",
    Tag::Reading,
    "What other quotas would have denied",
    &[Reply::ok::<Whatif>("Quota by quota, and the one that is recommended (P4).")],
)
.about(
    "From the demand that was met: seats held plus people who were refused within the last \
     minute and have none. Of recent days it goes by whole hours, of older ones by whole \
     days.",
);

/// `GET /v1/size`
pub(crate) const SIZE: Operation = Operation::new(
    "size",
    Tag::Reading,
    "How many seats a company needs",
    &[Reply::ok::<Size>("The brochure's figure and the safe one.")],
)
.about(
    "Employees of type 1 need a seat always, of type 2 with probability 0.8, of type 3 with \
     0.4, of type 4 with 0.1, independently of each other. At most 100000 in all.",
);

/// `GET /v1/events`
pub(crate) const EVENTS: Operation = Operation::new(
    "events",
    Tag::Reading,
    "What happens, as it happens",
    &[Reply::new(
        200,
        "Server-sent events with increasing ids and a comment every 15 s of silence; NDJSON (an \
         event on each line) with `Accept: application/x-ndjson`.",
        &[
            Media::lines::<Event>("text/event-stream")
                .about("Lines `id:`, `event:` (the type) and `data:` (an Event)."),
            Media::lines::<Event>("application/x-ndjson"),
        ],
    )],
)
.about(
    "Grants and releases are kept for resuming only while somebody has listened lately; all \
     other types always. In a cluster events of the other members come too, without an id: only those of the member \
     that is asked can be resumed. A gap without `resumes_at` says that a member is not followed from then on, until \
     it is reached again.",
)
.reads(&["Last-Event-ID"]);

//! Routes for machines that watch, and for browsers.

use super::operation::{Media, Operation, Reply, Tag};
use crate::answers::operation::ServiceDiscovery;
use crate::answers::overview::Ready;
use serde_json::{Map, Value};
use usherd_contract::problem::Problem;

/// Of a file of the dashboard.
const PAGE: &[&str] = &["ETag", "Content-Security-Policy"];

/// `GET /v1/prometheus/sd`
pub(crate) const SERVICE_DISCOVERY: Operation = Operation::new(
    "serviceDiscovery",
    Tag::Watching,
    "Targets for Prometheus",
    &[Reply::ok::<ServiceDiscovery>("For `http_sd_configs`; large fleets are offered in shards.")],
);

/// `GET /metrics`
pub(crate) const METRICS: Operation = Operation::new(
    "metrics",
    Tag::Watching,
    "Metrics for Prometheus",
    &[Reply::new(200, "The text exposition format, as one consistent cut.", &[Media::of::<String>("text/plain")])],
)
.reads(&["shard"]);

/// `GET /`
pub(crate) const DASHBOARD: Operation = Operation::new(
    "dashboard",
    Tag::Dashboard,
    "The dashboard",
    &[
        Reply::new(200, "A page for people.", &[Media::of::<String>("text/html")]).headers(PAGE),
        Reply::new(304, "The browser has it.", &[]),
    ],
);

/// `GET /dashboard.js`
pub(crate) const DASHBOARD_SCRIPT: Operation = Operation::new(
    "dashboardScript",
    Tag::Dashboard,
    "Its script",
    &[
        Reply::new(
            200,
            "It reads what the credential of its user may read.",
            &[Media::of::<String>("text/javascript")],
        )
        .headers(PAGE),
        Reply::new(304, "The browser has it.", &[]),
    ],
);

/// `GET /dashboard.css`
pub(crate) const DASHBOARD_STYLE: Operation = Operation::new(
    "dashboardStyle",
    Tag::Dashboard,
    "Its style sheet",
    &[
        Reply::new(200, "Light and dark.", &[Media::of::<String>("text/css")]).headers(PAGE),
        Reply::new(304, "The browser has it.", &[]),
    ],
);

/// `GET /rulebook.md`
pub(crate) const RULE_BOOK: Operation = Operation::new(
    "ruleBook",
    Tag::Dashboard,
    "The rule book of this version",
    &[
        Reply::new(
            200,
            "Markdown, as plain text: the rules that explanations name are its headings.",
            &[Media::of::<String>("text/plain")],
        )
        .headers(PAGE),
        Reply::new(304, "The browser has it.", &[]),
    ],
);

/// `GET /livez`
pub(crate) const LIVEZ: Operation = Operation::new(
    "livez",
    Tag::Watching,
    "The process answers",
    &[Reply::new(200, "`ok`", &[Media::of::<String>("text/plain")])],
);

/// `GET /readyz`
pub(crate) const READYZ: Operation = Operation::new(
    "readyz",
    Tag::Watching,
    "Decisions are made",
    &[
        Reply::new(
            200,
            "`ok`, or with `verbose` what there is to know.",
            &[Media::of::<String>("text/plain"), Media::json::<Ready>()],
        ),
        Reply::new(
            503,
            "Reading the journal, or draining.",
            &[
                Media::of::<String>("text/plain"),
                Media::json::<Ready>(),
                Media::of::<Problem<'static>>("application/problem+json"),
            ],
        ),
    ],
)
.reads(&["verbose"]);

/// `GET /openapi.json`
pub(crate) const OPENAPI: Operation = Operation::new(
    "openapi",
    Tag::Watching,
    "This document",
    &[Reply::new(200, "It.", &[Media::json::<Map<String, Value>>()])],
);

//! Descriptions of parameters, by name; a name that means different things has one for each route.

use schemars::{Schema, SchemaGenerator, json_schema};
use usherd_contract::schema::{NODE_PATTERN, TENANT_PATTERN};
use usherd_contract::word::Word;
use usherd_contract::words::Kind;
use usherd_subscription::entitlement::State;
use usherd_subscription::policy::PriceMode;
use usherd_subscription::record::SEATS_MAX;
use usherd_subscription::tariff::Partner;

use super::operation::{SchemaOf, schema_of};
use crate::answers::words::{Band, EventType, Step};
use crate::daemon::api::admin::NOTE_BYTES_MAX;
use crate::daemon::api::queries::{PAGE_MAX, SEARCH_BYTES_MAX};
use crate::daemon::api::stream::PULSE_MS;

/// The place of a parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

impl Place {
    /// The word of the document.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
        }
    }
}

/// The description of a parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// The operations in which it means this; empty: in all others.
    pub(super) of: &'static [&'static str],
    pub(super) place: Place,
    pub(super) about: &'static str,
    pub(super) schema: SchemaOf,
}

const fn parameter(name: &'static str, place: Place, about: &'static str, schema: SchemaOf) -> Parameter {
    Parameter { name, of: &[], place, about, schema }
}

const fn query(name: &'static str, about: &'static str, schema: SchemaOf) -> Parameter {
    parameter(name, Place::Query, about, schema)
}

const fn only(of: &'static [&'static str], parameter: Parameter) -> Parameter {
    Parameter { of, ..parameter }
}

/// Every parameter.
pub(super) const PARAMETERS: &[Parameter] = &[
    parameter("tenant", Place::Path, "The tenant.", tenant),
    parameter("subject", Place::Path, "The subject, percent-encoded.", text),
    parameter("session", Place::Path, "The session, percent-encoded.", text),
    parameter("node", Place::Path, "The node.", node),
    parameter("webhook", Place::Path, "The name of a webhook.", tenant),
    query("after", "Begin behind this key.", text),
    query(
        "limit",
        "Most rows of the page.",
        |_| json_schema!({ "type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 100 }),
    ),
    query("force", "Do it nevertheless.", flag),
    query(
        "status",
        "1: a denial is 403, for callers that can only look at the status. Also as a field of the body. Every other \
         field may stand in the query too, where the body does not have it.",
        flag,
    ),
    query("state", "Only in this state.", schema_of::<Word<State>>),
    query("band", "Only those that are so full.", schema_of::<Word<Band>>),
    query(
        "search",
        "Only those with this in their id or name, in small or capital letters.",
        |_| json_schema!({ "type": "string", "maxLength": SEARCH_BYTES_MAX }),
    ),
    only(&["listSessions"], query("kind", "Only of this kind.", schema_of::<Word<Kind>>)),
    only(&["listSessions"], query("node", "Only of this node.", text)),
    only(&["listSessions"], query("subject", "Only of this subject.", text)),
    query(
        "counts",
        "Only those that count, or do not.",
        |_| json_schema!({ "type": "string", "enum": ["true", "false", "1", "0", "yes", "no"] }),
    ),
    only(
        &["quote"],
        query(
            "from",
            "Seats that are billed for the month already.",
            |_| json_schema!({ "type": "integer", "minimum": 0, "maximum": SEATS_MAX, "default": 0 }),
        ),
    ),
    only(
        &["quote"],
        query(
            "to",
            "Seats that are wanted. Needed.",
            |_| json_schema!({ "type": "integer", "minimum": 0, "maximum": SEATS_MAX }),
        ),
    ),
    query(
        "on",
        "The civil date of the change in the billing zone; today where it is absent.",
        |_| json_schema!({ "type": "string", "format": "date" }),
    ),
    query(
        "partner",
        "Adds the commission and the wholesale price of a partner of this level.",
        schema_of::<Word<Partner>>,
    ),
    query(
        "price_mode",
        "All seats at the price of the tier that is reached, or every seat at the price of its own; as configured \
         where it is absent.",
        schema_of::<Word<PriceMode>>,
    ),
    only(
        &["usage"],
        query("from", "From when: RFC 3339, or a civil date of the billing zone. Without it a day before `to`.", from),
    ),
    only(
        &["whatif"],
        query(
            "from",
            "From when: RFC 3339, or a civil date of the billing zone. Without it 30 days before `to`.",
            from,
        ),
    ),
    only(
        &["usage", "whatif"],
        query(
            "to",
            "Until when, not in it; without it up to now.",
            |_| json_schema!({ "type": "string", "example": "2026-06-17T00:00:00Z" }),
        ),
    ),
    query(
        "step",
        "How long a point is; without it the shortest that gives about 300 points. A day is a civil day of the billing \
         zone.",
        schema_of::<Word<Step>>,
    ),
    query(
        "quota",
        "One quota, or a range with both ends in it, of at most 200; without it around the present one.",
        |_| json_schema!({ "type": "string", "pattern": "^[0-9]+([.][.]=?[0-9]+)?$", "example": "14..24" }),
    ),
    query(
        "target",
        "The share of requests that the recommended quota may deny.",
        |_| json_schema!({ "type": "number", "minimum": 0.000_001, "maximum": 0.5, "default": 0.01 }),
    ),
    query(
        "types",
        "Needed: employees of type 1, 2, 3 and 4, with commas between them.",
        |_| json_schema!({ "type": "string", "pattern": "^[0-9]+,[0-9]+,[0-9]+,[0-9]+$", "example": "5,10,5,10" }),
    ),
    only(&["events"], query("tenant", "Only of this tenant.", tenant)),
    only(
        &["events"],
        query("types", "Only of these types, separated by commas.", |_| {
            let types: Vec<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
            let one = types.join("|");
            json_schema!({ "type": "string", "pattern": format!("^({one})(,({one}))*$") })
        }),
    ),
    only(&["events"], query("after", "As Last-Event-ID, for clients that cannot send it.", number)),
    query(
        "pulse_ms",
        "Instead of each event a `pulse` once there was one, at most one in so many milliseconds: for who reads the \
         overview again then.",
        |_| json_schema!({ "type": "integer", "minimum": PULSE_MS.start(), "maximum": PULSE_MS.end() }),
    ),
    parameter("Last-Event-ID", Place::Header, "Resume after this event.", number),
    query("dry_run", "Only tell what it would do.", flag),
    query(
        "removals",
        "When tenants go whose files are away: `at_once` (default; with seats held it needs `force`), or `delayed` by \
         `removal_delay_s`, as where the watch sees it.",
        |_| json_schema!({ "type": "string", "enum": ["", "at_once", "delayed"] }),
    ),
    query(
        "note",
        "What it is for, for the audit trail.",
        |_| json_schema!({ "type": "string", "maxLength": NOTE_BYTES_MAX }),
    ),
    query(
        "shard",
        "Part i of n of the tenants, as 3/16.",
        |_| json_schema!({ "type": "string", "pattern": "^[0-9]+/[0-9]+$" }),
    ),
    query("verbose", "JSON instead of a word.", flag),
];

fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

fn number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0 })
}

fn flag(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["", "1", "0", "true", "false", "yes", "no"] })
}

fn from(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "example": "2026-06-16" })
}

fn tenant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": TENANT_PATTERN })
}

fn node(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": NODE_PATTERN })
}

//! Messages of nodes as JSON Schema describes them: for the document alone, they are read by [`crate::body`].

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::batch::BATCH_OPS_MAX;
use super::names::{DIALLED_BYTES_MAX, EPOCH_MAX, ID_BYTES_MAX, TTL_SECONDS_MAX};
use super::word::Word;
use super::words::{Class, Device, Direction, Kind, Leg};

/// A tenant's id.
pub const TENANT_PATTERN: &str = "^[a-z0-9._-]{1,64}$";
/// A node's name.
pub const NODE_PATTERN: &str = "^[!-~]{1,64}$";

/// Unknown fields are ignored. In a form an empty value counts as absent; flags are 1/0, true/false, yes/no or on/off,
/// in any case. A field that comes twice is wrong.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Acquire {
    /// The customer phone system.
    #[schemars(regex(pattern = TENANT_PATTERN))]
    pub tenant: String,
    /// The one who would hold the seat. Needed, except for inbound, service, system and emergency calls. 1-128 bytes
    /// of UTF-8 without control characters, compared byte by byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ID_BYTES_MAX))]
    pub subject: Option<String>,
    /// The node's id of this thing, unique per tenant (recommended: node, epoch, call id). Needed, except for emergency
    /// calls. 1-128 bytes of printable ASCII. An acquire of a known session is its renewal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ID_BYTES_MAX), regex(pattern = "^[ -~]*$"))]
    pub session: Option<String>,
    /// The thing it is. `phone` (registered, idle) never needs a seat; `desktop`, `mobile` (while paired) and, by
    /// default, `guest` do; `connector` does not by default; a `call` as `direction` and `leg` say.
    pub kind: Word<Kind>,
    /// Needed for `call`; seen from the subject. `inbound` is always free and always allowed, in every state of tenant
    /// and daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Word<Direction>>,
    /// `deliver`: the leg only delivers a call (forward, fork, blind transfer, pick-up, unpark, queue) and is free. One
    /// exception: `deliver` with `direction` = `outbound` and `external` = false is an originated call handed to this
    /// subject; with `transferred_outbound = "follow"` it counts, and is admitted as `allow.over` where no seat is
    /// free, because a live call is never cut. `service`: feature codes and voicemail; `system`: calls of the phone
    /// system itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = Leg::Originate.as_str()))]
    pub leg: Option<Word<Leg>>,
    /// Which hardware; for lists and metrics only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Word<Device>>,
    /// Class of a function extension; `never_deny` of the configuration is matched on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Word<Class>>,
    /// The dialled number, as it is. An emergency number is always allowed, with and without the trunk prefix, however
    /// it is written: `+112`, `112#`, `1-1-2`, `tel:112`, `sip:112@pbx.example`; so is `urn:service:sos` and every
    /// service below it. An emergency may be longer than 64 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = DIALLED_BYTES_MAX))]
    pub to: Option<String>,
    /// The node's own judgement; it or `to` is enough. Nothing is recorded of an emergency call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<bool>,
    /// Uses a trunk line. Default: true for `outbound` and `inbound`, false for `internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<bool>,
    /// Reservation group of the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its sender.
    #[serde(flatten)]
    pub sender: Sender,
    /// Ends the session when it is not renewed for so long. Needed for what counts, unless its `node` is known (it said
    /// hello or sent a heartbeat) or `kind` is `mobile`; otherwise 400. Where a node is known, its lease (`lease_s` of
    /// hello) is the life, and both hold if both are there. A free session without either is listed for 86400 s. A
    /// mobile has no time-out and ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TTL_SECONDS_MAX))]
    pub ttl_s: Option<u32>,
    /// It runs already (the daemon could not be asked): it is adopted, above the quota if need be (`allow.over`), also
    /// in an inactive tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing: Option<bool>,
}

/// A release never fails: an unknown session answers `released.none`. One from another node than the session's is
/// `ignore.stale`, because the session has moved.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Release {
    /// The customer phone system.
    #[schemars(regex(pattern = TENANT_PATTERN))]
    pub tenant: String,
    /// The node's id of this thing, as its acquire had it. 1-128 bytes of printable ASCII.
    #[schemars(length(min = 1, max = ID_BYTES_MAX), regex(pattern = "^[ -~]*$"))]
    pub session: String,
    /// Its sender.
    #[serde(flatten)]
    pub sender: Sender,
    /// `transfer`: an attended transfer to outside was completed and the parties stay bridged. With
    /// `transfer_out = "charge_until_end"` the claim of an outbound call then stays (`released.more`, detail `linger`)
    /// until a release without it. Any other value is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The sender of a message, and its place among the others.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Sender {
    /// The asking node: 1-64 bytes of printable ASCII without blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NODE_PATTERN))]
    pub node: Option<String>,
    /// Boot number of the node; a restart must give a higher one. Needs `node`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = EPOCH_MAX))]
    pub epoch: Option<u64>,
    /// Number of the message within its epoch. Needs `epoch`. An acquire and its release have different ones; without
    /// it the last message to arrive wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// Many operations at once.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Batch {
    /// Each is decided on its own.
    #[schemars(length(max = BATCH_OPS_MAX))]
    pub ops: Vec<Operation>,
}

/// One operation of a batch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Asks for a seat, or renews.
    Acquire(Box<Acquire>),
    /// Tells that a session ended.
    Release(Release),
}

/// The body of hello, heartbeat and goodbye.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Epoch {
    /// Boot number of the node.
    #[schemars(range(max = EPOCH_MAX))]
    pub epoch: u64,
}

/// Read as a whole or not at all.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Inventory {
    /// Boot number of the node; a restart must give a higher one.
    #[schemars(range(max = EPOCH_MAX))]
    pub epoch: u64,
    /// Number of the message within its epoch.
    pub seq: u64,
    /// Everything that is live, each with the `seq` of its last message; `node` and `epoch` are those of the inventory.
    pub sessions: Vec<Acquire>,
}

/// A decision as one line of text.
pub struct PlainDecision;

impl JsonSchema for PlainDecision {
    fn schema_name() -> Cow<'static, str> {
        "PlainDecision".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[a-z_.]+( [a-z_]+)?$",
            "maxLength": 200,
            "description":
                "The code, and the detail after a blank: one line without a newline, at most 200 bytes of plain ASCII.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{AcquireBody, ReleaseBody};
    use crate::message;

    fn fields(described: &Schema) -> Vec<&String> {
        described.get("properties").and_then(|fields| fields.as_object()).unwrap().keys().collect()
    }

    fn written(message: &impl Serialize) -> serde_json::Value {
        serde_json::to_value(message).unwrap()
    }

    #[test]
    fn the_fields_that_are_described_are_those_that_are_written() {
        let acquire = message::Acquire {
            direction: Some(Direction::Outbound),
            leg: Leg::Deliver,
            device: Some(Device::Desk),
            class: Some(Class::Fax),
            to: Some("1"),
            emergency: true,
            external: Some(true),
            group: Some("g"),
            node: Some("n"),
            epoch: Some(1),
            seq: Some(1),
            ttl_s: Some(1),
            existing: true,
            ..message::Acquire::new("t", "a", "s", Kind::Call)
        };
        let acquire = written(&AcquireBody::from(&acquire));
        let described = SchemaGenerator::default().into_root_schema_for::<Acquire>();
        assert_eq!(acquire.as_object().unwrap().keys().collect::<Vec<_>>(), fields(&described));
        let release = message::Release {
            node: Some("n"),
            epoch: Some(1),
            seq: Some(1),
            transferred: true,
            ..message::Release::new("t", "s")
        };
        let release = written(&ReleaseBody::from(&release));
        let described = SchemaGenerator::default().into_root_schema_for::<Release>();
        assert_eq!(release.as_object().unwrap().keys().collect::<Vec<_>>(), fields(&described));
    }
}

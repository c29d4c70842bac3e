//! Bodies of the node calls: an epoch, or a whole inventory (API 3).

use std::fmt;

use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::{AcquireBody, Body as _};
use super::faults;
use super::form;
use super::format::BodyFormat;
use super::malformed::{ERRORS_MAX, FieldError, Malformed};
use super::message::Acquire;
use super::names::check_epoch;

/// The body of hello, heartbeat and goodbye.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeBody {
    /// Boot number of the node.
    pub epoch: u64,
}

impl NodeBody {
    /// Reads a body in either format, and the query for what the body does not say.
    ///
    /// # Errors
    /// 400: `epoch` is missing or not a whole number.
    pub fn parse(body: &[u8], format: BodyFormat, query: Option<&str>) -> Result<Self, Malformed> {
        let epoch = match format {
            _ if body.trim_ascii().is_empty() => None,
            BodyFormat::Form => form::epoch(body)?,
            BodyFormat::Json | BodyFormat::Ndjson => faults::epoch(body)?,
        };
        let epoch = match epoch {
            None => form::epoch(query.unwrap_or_default().as_bytes())?,
            given => given,
        };
        let needed = || Malformed::faulty(vec![FieldError::of("epoch", "is required: the node's boot number")]);
        let epoch = epoch.ok_or_else(needed)?;
        bounded(epoch)?;
        Ok(NodeBody { epoch })
    }
}

/// Checks that a boot number leaves room for the next one.
///
/// # Errors
/// 400: it is above the limit.
pub fn bounded(epoch: u64) -> Result<(), Malformed> {
    let mut faults = Vec::new();
    check_epoch(epoch, &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(Malformed::from_faults(&faults)) }
}

#[derive(Deserialize)]
struct RawInventory<'a> {
    epoch: Option<u64>,
    seq: Option<u64>,
    /// The list as it stands there.
    #[serde(borrow)]
    sessions: &'a RawValue,
}

/// Takes the items of a list one by one; none is kept.
struct Each<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}

/// A node's list of all its sessions (G9).
#[derive(Clone, Debug)]
pub struct InventoryBody<'a> {
    /// Boot number of the node.
    pub epoch: u64,
    /// Number of the message.
    pub seq: u64,
    /// Its sessions; each inherits node and epoch.
    pub sessions: Vec<AcquireBody<'a>>,
}

impl<'a> InventoryBody<'a> {
    /// The bytes of a session beside its text while it is read and compared with what is known.
    pub const SESSION_BYTES: usize = size_of::<AcquireBody<'_>>() + size_of::<Acquire<'_>>() + 64;

    /// No fewer sessions than [`Self::parse`] will find in this body: each is an object, and so is the whole.
    pub fn sessions_at_most(body: &[u8]) -> usize {
        body.iter().filter(|byte| **byte == b'{').count().saturating_sub(1)
    }

    /// Reads an inventory of at most `sessions_max` sessions. It is taken as a whole or not at all (I19).
    ///
    /// # Errors
    /// 400: every wrong field by its place, as `/sessions/3/kind`; 413: too many sessions.
    pub fn parse(body: &'a [u8], node: &'a str, sessions_max: usize) -> Result<Self, Malformed> {
        faults::need_object(body)?;
        let of_list = |error: &serde_json::Error| faults::of_list(body, "sessions", error);
        let raw: RawInventory<'a> = serde_json::from_slice(body).map_err(|error| of_list(&error))?;
        let mut errors = Vec::new();
        if raw.epoch.is_none() {
            errors.push(FieldError::of("epoch", "is required: the node's boot number"));
        }
        if let Some(epoch) = raw.epoch {
            errors.extend(bounded(epoch).err().map(Malformed::into_errors).unwrap_or_default());
        }
        if raw.seq.is_none() {
            errors.push(FieldError::of("seq", "is required: the number of this message within its epoch"));
        }
        let (mut count, mut sessions) = (0, Vec::with_capacity(Self::sessions_at_most(body).min(sessions_max)));
        let each = Each(|session: &'a RawValue| {
            count += 1;
            if count > sessions_max || errors.len() >= ERRORS_MAX {
                return;
            }
            let read = AcquireBody::from_json(session.get().as_bytes()).and_then(|mut read| {
                read.inherit(node, raw.epoch);
                read.checked()?;
                Ok(read)
            });
            match read {
                Ok(read) => sessions.push(read),
                Err(problem) => errors.extend(problem.within(&format!("/sessions/{}", count - 1)).into_errors()),
            }
        });
        let mut list = serde_json::Deserializer::from_str(raw.sessions.get());
        list.deserialize_seq(each).map_err(|error| of_list(&error))?;
        if count > sessions_max {
            return Err(Malformed::too_large(format!("{count} sessions; at most {sessions_max}")));
        }
        match (raw.epoch, raw.seq) {
            (Some(epoch), Some(seq)) if errors.is_empty() => Ok(InventoryBody { epoch, seq, sessions }),
            _ => Err(Malformed::faulty(errors)),
        }
    }
}

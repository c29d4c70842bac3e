//! Many operations in one body: a JSON batch, or a line of NDJSON each (API 2).

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::body::{AcquireBody, Body as _, ReleaseBody, read_json};
use super::faults;
use super::malformed::{FieldError, Malformed};

/// Most operations of one JSON batch (API 2).
pub const BATCH_OPS_MAX: usize = 1_000;

/// One operation of a batch or a line of NDJSON.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op<'a> {
    /// `"op":"acquire"`.
    Acquire(AcquireBody<'a>),
    /// `"op":"release"`.
    Release(ReleaseBody<'a>),
}

impl<'a> Op<'a> {
    /// Reads one operation.
    ///
    /// # Errors
    /// 400: every wrong field of it; put it in the operation's place and go on.
    pub fn from_json(body: &'a [u8]) -> Result<Self, Malformed> {
        faults::need_object(body)?;
        match read_json::<AcquireBody<'a>>(body) {
            Ok(read) => Op::of(read)
                .ok_or_else(|| Malformed::faulty(vec![FieldError::of("op", "must be one of acquire, release")])),
            // A field that only an acquire has may be wrong in a release: there it is unknown, so ignored.
            Err(_) if faults::is_release(body) => ReleaseBody::from_json(body).map(Op::Release),
            Err(error) => Err(faults::of_acquire(body, &error, AcquireBody::faults_left)),
        }
    }

    fn of(read: AcquireBody<'a>) -> Option<Self> {
        match read.op.text() {
            "acquire" => Some(Op::Acquire(read)),
            "release" => Some(Op::Release(read.into_release())),
            _ => None,
        }
    }
}

/// Reads an object, as [`Op::from_json`] does; an error tells only that it is none that is right.
impl<'de: 'a, 'a> Deserialize<'de> for Op<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Op<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an operation")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let read = AcquireBody::deserialize(MapAccessDeserializer::new(map))?;
                Op::of(read).ok_or_else(|| A::Error::custom("neither acquire nor release"))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The operations of a batch, at most [`BATCH_OPS_MAX`].
struct List<'a>(Vec<Op<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = List<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of operations")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut ops = Vec::new();
                while let Some(op) = seq.next_element()? {
                    if ops.len() == BATCH_OPS_MAX {
                        return Err(A::Error::custom("too many"));
                    }
                    ops.push(op);
                }
                Ok(List(ops))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    ops: List<'a>,
}

/// Reads a JSON batch in which every operation has the right form; `None` where one has not, or the batch itself:
/// [`batch_ops`] and [`Op::from_json`] then tell what is wrong.
pub fn read_batch(body: &[u8]) -> Option<Vec<Op<'_>>> {
    faults::need_object(body).ok()?;
    let Batch { ops } = serde_json::from_str(std::str::from_utf8(body).ok()?).ok()?;
    Some(ops.0)
}

#[derive(Deserialize)]
struct Ops<'a> {
    #[serde(borrow)]
    ops: Vec<&'a RawValue>,
}

/// Splits a JSON batch into its operations, each to be read by [`Op::from_json`].
///
/// # Errors
/// 400: not a batch; 413: more than [`BATCH_OPS_MAX`] operations.
pub fn batch_ops(body: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    faults::need_object(body)?;
    let Ops { ops } = serde_json::from_slice(body).map_err(|error| faults::of_list(body, "ops", &error))?;
    if ops.len() > BATCH_OPS_MAX {
        let detail = format!("{} operations; at most {BATCH_OPS_MAX}, or send NDJSON", ops.len());
        return Err(Malformed::too_large(detail));
    }
    Ok(ops.into_iter().map(|op| op.get().as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(ops: usize) -> String {
        let op = r#"{"op":"release","tenant":"t","session":"s","ttl_s":5,"x":[{}]}"#;
        format!(r#"{{"ops":[{}],"x":1}}"#, vec![op; ops].join(","))
    }

    #[test]
    fn what_is_read_at_once_is_what_is_read_one_by_one() {
        let acquire = r#"{"tenant":"t","op":"acquire","subject":"\u0061","kind":"call","to":null}"#;
        for (body, ops) in [
            (many(0), Some(0)),
            (many(3), Some(3)),
            (format!(r#" {{"ops":[{acquire},{acquire}]}} "#), Some(2)),
            (many(BATCH_OPS_MAX), Some(BATCH_OPS_MAX)),
            (many(BATCH_OPS_MAX + 1), None),
            (many(1).replace("release", "other"), None),
            (many(1).replace(r#""t""#, "5"), None),
            (many(1).replace(":5", r#":"5""#), None),
            (format!("[{}]", many(1)), None),
            (format!(r#"{{"ops":[["acquire"]],"x":{acquire}}}"#), None),
            (format!("{}x", many(1)), None),
            (r#"{"ops":{}}"#.to_owned(), None),
            ("{}".to_owned(), None),
        ] {
            let read = read_batch(body.as_bytes());
            assert_eq!(read.as_ref().map(Vec::len), ops, "{body:.200}");
            let Some(read) = read else { continue };
            let one_by_one = batch_ops(body.as_bytes()).unwrap().into_iter().map(|op| Op::from_json(op).unwrap());
            assert_eq!(format!("{read:?}"), format!("{:?}", one_by_one.collect::<Vec<_>>()));
        }
        let no_text = many(1).replace("[{}]", "\"\u{fc}\"").into_bytes();
        let cut = no_text.iter().copied().filter(|byte| *byte != 0xc3).collect::<Vec<_>>();
        assert!(read_batch(&cut).is_none(), "not UTF-8");
    }
}

//! Many operations in one body: a JSON batch, or a line of NDJSON each (API 2).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::{AcquireBody, Body as _, ReleaseBody};
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
        match serde_json::from_slice::<AcquireBody<'a>>(body) {
            Ok(read) => match read.op.text() {
                "acquire" => Ok(Op::Acquire(read)),
                "release" => Ok(Op::Release(read.into_release())),
                _ => Err(Malformed::faulty(vec![FieldError::of("op", "must be one of acquire, release")])),
            },
            // A field that only an acquire has may be wrong in a release: there it is unknown, so ignored.
            Err(_) if faults::is_release(body) => ReleaseBody::from_json(body).map(Op::Release),
            Err(error) => Err(faults::of_acquire(body, &error, AcquireBody::faults_left)),
        }
    }
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

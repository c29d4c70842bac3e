//! Answers in JSON, and what their heads say.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use crate::daemon::http::ReplyBody;
use crate::daemon::journal::Commit;

/// In the head of an answer that is not as durable as was asked for.
const DURABILITY: HeaderName = HeaderName::from_static("usherd-durability");

/// 200 with a JSON value.
pub(super) fn json(value: &Value) -> Response<ReplyBody> {
    json_bytes(value.to_string().into())
}

pub(super) fn json_bytes(bytes: Bytes) -> Response<ReplyBody> {
    typed(StatusCode::OK, "application/json", bytes)
}

pub(super) fn typed(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says in the head of an answer where what it tells is not as durable as was asked for: should the process be killed
/// before the disk goes on, it is forgotten.
pub(super) fn marked(mut response: Response<ReplyBody>, commit: Commit) -> Response<ReplyBody> {
    if commit == Commit::NotDurable {
        response.headers_mut().insert(DURABILITY, HeaderValue::from_static("degraded"));
    }
    response
}

//! Answers in JSON, and what their heads say.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::answers::value_of;
use crate::daemon::http::ReplyBody;
use crate::daemon::journal::Commit;

/// In the head of an answer that is not as durable as was asked for.
const DURABILITY: HeaderName = HeaderName::from_static("usherd-durability");

/// 200 with an answer.
pub(super) fn json(answer: &impl Serialize) -> Response<ReplyBody> {
    json_bytes(text(answer))
}

/// The text of an answer.
pub(super) fn text(answer: &impl Serialize) -> Bytes {
    value_of(answer).to_string().into()
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
    if matches!(commit, Commit::NotDurable | Commit::Unknown) {
        response.headers_mut().insert(DURABILITY, HeaderValue::from_static("degraded"));
    }
    response
}

//! Answers that are not decisions: RFC 9457 problem objects, with every wrong field.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::body::ReplyBody;
pub use usherd_contract::malformed::FieldError;
use usherd_contract::malformed::{ERRORS_MAX, Malformed, in_one_line};
use usherd_contract::names::Fault;
use usherd_contract::problem;
pub use usherd_contract::problem::ProblemKind;

/// In the head of an answer of a daemon that was asked by another one and does not decide the shard either.
pub const ELSEWHERE: HeaderName = HeaderName::from_static("usherd-elsewhere");

/// A problem object to answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemKind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after_s: Option<u32>,
    known_epoch: Option<u64>,
    allow: Option<HeaderValue>,
    of_transport: bool,
    /// The shard that is decided elsewhere; there are 64 at most.
    elsewhere: Option<u8>,
}

/// 400 or 413.
impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        let kind = if malformed.is_too_large() { ProblemKind::TooLarge } else { ProblemKind::Malformed };
        let (detail, errors) = malformed.into_parts();
        Problem { errors, ..Problem::new(kind, detail) }
    }
}

impl Problem {
    /// A problem with one sentence on this occurrence.
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
            known_epoch: None,
            allow: None,
            of_transport: false,
            elsewhere: None,
        }
    }

    /// 400.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(ProblemKind::Malformed, detail)
    }

    /// 400 with these faults; the detail counts them.
    pub fn faulty(errors: Vec<FieldError>) -> Self {
        Malformed::faulty(errors).into()
    }

    /// 400 with the faults that the engine's own check found.
    pub fn from_faults(faults: &[Fault]) -> Self {
        Malformed::from_faults(faults).into()
    }

    /// 405; `allow` is the list of methods as in the header.
    pub fn method_not_allowed(allow: String) -> Self {
        let mut problem = Problem::new(ProblemKind::MethodNotAllowed, format!("allowed here: {allow}"));
        problem.allow = HeaderValue::try_from(allow).ok();
        problem
    }

    /// 429.
    pub fn too_many(retry_after_s: u32, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(ProblemKind::TooMany, detail).retry_after(retry_after_s)
    }

    /// 503.
    pub fn unavailable(retry_after_s: u32, detail: impl Into<Cow<'static, str>>) -> Self {
        Problem::new(ProblemKind::Unavailable, detail).retry_after(retry_after_s)
    }

    /// 503: the tenant is of this shard of the cluster, which is decided elsewhere.
    pub fn elsewhere(shard: u32) -> Self {
        let mut problem = Problem::unavailable(1, format!("shard {shard} is decided by another daemon"));
        problem.elsewhere = u8::try_from(shard).ok();
        problem
    }

    /// The shard that is decided elsewhere, where that is the problem.
    pub fn is_elsewhere(&self) -> Option<u32> {
        self.elsewhere.map(u32::from)
    }

    /// Adds when to try again, seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Adds the epoch by which the daemon knows the node, so that it can take a higher one (G5).
    #[must_use]
    pub fn known_epoch(mut self, epoch: u64) -> Self {
        self.known_epoch = Some(epoch);
        self
    }

    /// It is about how the request came, and not about the call in it.
    #[must_use]
    pub fn of_transport(mut self) -> Self {
        self.of_transport = true;
        self
    }

    /// Adds a wrong field; beyond [`ERRORS_MAX`] it is left out.
    #[must_use]
    pub fn error(mut self, pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        }
        self
    }

    /// The same problem of a part: every pointer gets this prefix, as `/ops/3`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        if self.errors.is_empty() {
            let detail = self.detail.clone();
            return self.error(prefix, detail);
        }
        for error in &mut self.errors {
            error.pointer.insert_str(0, prefix);
        }
        self
    }

    /// The kind.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// True if a call that needs no licence passes nevertheless (I8): nothing is wrong with the call itself.
    pub fn lets_inbound_pass(&self) -> bool {
        let kinds = [ProblemKind::NotPermitted, ProblemKind::TooMany, ProblemKind::Unavailable];
        self.of_transport || kinds.contains(&self.kind)
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Its sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The wrong fields.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The wrong fields, to be gathered into another problem.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    /// Each field with its fault, or the fault of the whole, for protocols that have one line for it.
    pub fn in_one_line(&self) -> String {
        let errors = if self.kind == ProblemKind::UnknownEpoch { &[][..] } else { &self.errors };
        in_one_line(&self.detail, errors)
    }

    /// The JSON object, also for its place in a batch.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = problem::Problem {
            kind: self.kind.into(),
            title: self.kind.title().into(),
            status: self.kind.status(),
            detail: (&*self.detail).into(),
            errors: (&*self.errors).into(),
            retry_after_s: self.retry_after_s,
            known_epoch: self.known_epoch,
        };
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// The whole answer.
    pub fn into_response(self) -> Response<ReplyBody> {
        let mut response = Response::new(ReplyBody::full(Bytes::from(self.to_json())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, allow);
        }
        if let Some(shard) = self.elsewhere {
            headers.insert(ELSEWHERE, HeaderValue::from(u16::from(shard)));
        }
        if self.kind == ProblemKind::NotPermitted {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_fields_and_headers() {
        let problem = Problem::from_faults(&[Fault::new("kind", "is required")]).within("/ops/3");
        let json: serde_json::Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(json["type"], "/problems/malformed");
        assert_eq!(json["status"], 400);
        assert_eq!(json["errors"][0]["pointer"], "/ops/3/kind");
        let response = Problem::unavailable(3, "starting").into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
        let response = Problem::method_not_allowed("GET, HEAD".to_owned()).into_response();
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    }
}

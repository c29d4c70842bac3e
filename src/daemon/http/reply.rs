//! Decisions on the wire: flat JSON or one line of text, written by hand (API 1, 2).

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use usherd_contract::format::{BodyFormat, ReplyFormat};
use usherd_engine::session::{Acquire, Decision, Detail, Release};

use super::body::ReplyBody;
pub use usherd_contract::sentence::message;
/// How an answer is to be written: see [`ReplyFormat::of`].
pub fn reply_format(headers: &HeaderMap, request: BodyFormat) -> ReplyFormat {
    ReplyFormat::of(headers.get_all(ACCEPT).into_iter().map(HeaderValue::as_bytes), request)
}

/// The parts of a message that the answer to it repeats.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecisionContext<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The subject; left out of a reply where nobody could hold a seat.
    pub subject: Option<&'a str>,
    /// The session; left out where an emergency call had none.
    pub session: Option<&'a str>,
    /// The number of the decision, for the log and the audit trail.
    pub decision_id: &'a str,
    /// A sentence of the tenant's own; empty for the one of [`message`].
    pub message: &'a str,
}

impl<'a> DecisionContext<'a> {
    /// The asker of a seat.
    pub fn acquire(message: &Acquire<'a>, decision_id: &'a str) -> Self {
        let Acquire { tenant, subject, session, .. } = *message;
        DecisionContext { tenant, subject, session, decision_id, message: "" }
    }

    /// The session that ended.
    pub fn release(message: &Release<'a>, decision_id: &'a str) -> Self {
        DecisionContext {
            tenant: message.tenant,
            subject: None,
            session: Some(message.session),
            decision_id,
            message: "",
        }
    }
}

/// Writes a string as JSON, quotes included.
pub fn write_json_string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f => b"",
            _ => continue,
        };
        out.put_slice(&text.as_bytes()[plain_from..at]);
        plain_from = at + 1;
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.put_slice(b"\\u00");
            out.put_u8(HEX[usize::from(byte >> 4)]);
            out.put_u8(HEX[usize::from(byte & 15)]);
        } else {
            out.put_slice(escape);
        }
    }
    out.put_slice(&text.as_bytes()[plain_from..]);
    out.put_u8(b'"');
}

fn put_text(out: &mut BytesMut, key: &[u8], text: &str) {
    out.put_slice(key);
    write_json_string(out, text);
}

fn put_number(out: &mut BytesMut, key: &[u8], number: impl itoa::Integer) {
    out.put_slice(key);
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn put_quota(out: &mut BytesMut, quota: Option<u32>) {
    match quota {
        Some(quota) => put_number(out, b",\"quota\":", quota),
        None => out.put_slice(b",\"quota\":null"),
    }
}

fn put_about(out: &mut BytesMut, decision: &Decision, about: &DecisionContext<'_>) {
    let said = if about.message.is_empty() { message(decision.code, decision.detail) } else { about.message };
    put_text(out, b",\"message\":", said);
    put_text(out, b",\"tenant\":", about.tenant);
    if let Some(subject) = about.subject {
        put_text(out, b",\"subject\":", subject);
    }
    if let Some(session) = about.session {
        put_text(out, b",\"session\":", session);
    }
    put_number(out, b",\"held\":", decision.held);
    put_quota(out, decision.quota);
}

/// Writes the reply to an acquire as JSON; `out` is added to, so that it can be used again.
pub fn write_acquire(out: &mut BytesMut, decision: &Decision, about: &DecisionContext<'_>) {
    out.reserve(320 + about.tenant.len() + about.message.len() + about.subject.map_or(0, str::len));
    out.put_slice(b"{\"code\":\"");
    out.put_slice(decision.code.as_str().as_bytes());
    out.put_slice(if decision.code.allows() { b"\",\"allow\":true" } else { b"\",\"allow\":false" });
    put_text(out, b",\"detail\":", decision.detail.as_str());
    if let Some(first) = decision.first {
        put_text(out, b",\"first\":", first.as_str());
    }
    put_about(out, decision, about);
    put_number(out, b",\"over\":", decision.over());
    if let Some(ttl_ms) = decision.ttl_ms {
        put_number(out, b",\"ttl_s\":", ttl_ms / 1_000);
    }
    if decision.code.denies() {
        put_number(out, b",\"retry_after_s\":", decision.retry_after_s);
        put_number(out, b",\"sip_code\":", decision.sip_code);
    }
    put_text(out, b",\"decision_id\":", about.decision_id);
    out.put_u8(b'}');
}

/// Writes the reply to a release as JSON.
pub fn write_release(out: &mut BytesMut, decision: &Decision, about: &DecisionContext<'_>) {
    out.put_slice(b"{\"code\":\"");
    out.put_slice(decision.code.as_str().as_bytes());
    out.put_u8(b'"');
    put_text(out, b",\"detail\":", decision.detail.as_str());
    put_about(out, decision, about);
    put_text(out, b",\"decision_id\":", about.decision_id);
    out.put_u8(b'}');
}

/// Writes a decision as one line: the code, and the detail after a blank where there is one.
pub fn write_plain(out: &mut impl BufMut, decision: &Decision) {
    out.put_slice(decision.code.as_str().as_bytes());
    if decision.detail != Detail::None {
        out.put_u8(b' ');
        out.put_slice(decision.detail.as_str().as_bytes());
    }
}

/// A decision as a response: 200, or 403 for a denial where the caller can only see the status.
pub fn response(format: ReplyFormat, denied_as_status: bool, body: Bytes) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(body));
    if denied_as_status {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    let content_type = match format {
        ReplyFormat::Json => HeaderValue::from_static("application/json"),
        ReplyFormat::Plain => HeaderValue::from_static("text/plain"),
    };
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The head of [`response`] as HTTP/1.1 writes it, until its length; `is_degraded` where what it tells is not as durable
/// as was asked for.
pub const fn head(format: ReplyFormat, denied_as_status: bool, is_degraded: bool) -> &'static str {
    macro_rules! head {
        ($status:literal, $content_type:literal) => {
            if is_degraded {
                head!($status, $content_type, "usherd-durability: degraded\r\n")
            } else {
                head!($status, $content_type, "")
            }
        };
        ($status:literal, $content_type:literal, $durability:literal) => {
            concat!(
                "HTTP/1.1 ",
                $status,
                "\r\ncontent-type: ",
                $content_type,
                "\r\ncache-control: no-store\r\n",
                $durability
            )
        };
    }
    match (format, denied_as_status) {
        (ReplyFormat::Json, false) => head!("200 OK", "application/json"),
        (ReplyFormat::Json, true) => head!("403 Forbidden", "application/json"),
        (ReplyFormat::Plain, false) => head!("200 OK", "text/plain"),
        (ReplyFormat::Plain, true) => head!("403 Forbidden", "text/plain"),
    }
}

/// The whole answer to an acquire. `wants_status` is `status=1` of the request.
pub fn acquire_response(
    buf: &mut BytesMut,
    format: ReplyFormat,
    wants_status: bool,
    decision: &Decision,
    about: &DecisionContext<'_>,
) -> Response<ReplyBody> {
    match format {
        ReplyFormat::Json => write_acquire(buf, decision, about),
        ReplyFormat::Plain => write_plain(buf, decision),
    }
    response(format, wants_status && decision.code.denies(), buf.split().freeze())
}

/// The whole answer to a release.
pub fn release_response(
    buf: &mut BytesMut,
    format: ReplyFormat,
    decision: &Decision,
    about: &DecisionContext<'_>,
) -> Response<ReplyBody> {
    match format {
        ReplyFormat::Json => write_release(buf, decision, about),
        ReplyFormat::Plain => write_plain(buf, decision),
    }
    response(format, false, buf.split().freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_contract::answers;
    use usherd_contract::word::Word;
    use usherd_engine::session::Code;

    fn decision(code: Code, detail: Detail) -> Decision {
        Decision {
            code,
            detail,
            first: None,
            held: 3,
            quota: Some(2),
            ttl_ms: Some(15_999),
            retry_after_s: 60,
            sip_code: 403,
        }
    }

    #[test]
    fn every_decision_is_json_and_a_plain_line() {
        let about = DecisionContext {
            tenant: "acme",
            subject: Some("ü\"\\\u{1}\u{1f}\n\t\r</script>"),
            session: Some("s 1"),
            decision_id: "7-1",
            message: "",
        };
        for code in Code::ALL {
            for detail in Detail::ALL {
                let decision = Decision { first: Some(Code::AllowNew), ..decision(*code, *detail) };
                let mut out = BytesMut::new();
                write_acquire(&mut out, &decision, &about);
                let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(json["subject"], about.subject.unwrap());
                assert_eq!(json["allow"], code.allows());
                assert_eq!(json.get("sip_code").is_some(), code.denies());
                assert_eq!((&json["ttl_s"], &json["over"]), (&15.into(), &1.into()));
                out.clear();
                write_release(&mut out, &decision, &DecisionContext::default());
                let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(json["code"], code.as_str());
                out.clear();
                write_plain(&mut out, &decision);
                assert!(out.len() <= 200 && out.iter().all(|b| (b' '..=b'~').contains(b)) && !out.ends_with(b" "));
            }
        }
    }

    fn acquired(decision: &Decision, about: &DecisionContext<'_>) -> answers::Decision {
        let denied = decision.code.denies();
        answers::Decision {
            code: decision.code.into(),
            allow: decision.code.allows(),
            detail: decision.detail.into(),
            first: decision.first.map(Word::from),
            message: said(decision, about),
            tenant: about.tenant.to_owned(),
            subject: about.subject.map(str::to_owned),
            session: about.session.map(str::to_owned),
            held: decision.held,
            quota: decision.quota,
            over: decision.over(),
            ttl_s: decision.ttl_ms.map(|ms| ms / 1_000),
            retry_after_s: denied.then_some(decision.retry_after_s),
            sip_code: denied.then_some(decision.sip_code),
            decision_id: about.decision_id.to_owned(),
        }
    }

    fn released(decision: &Decision, about: &DecisionContext<'_>) -> answers::Released {
        answers::Released {
            code: decision.code.into(),
            detail: decision.detail.into(),
            message: said(decision, about),
            tenant: about.tenant.to_owned(),
            session: about.session.unwrap_or_default().to_owned(),
            held: decision.held,
            quota: decision.quota,
            decision_id: about.decision_id.to_owned(),
        }
    }

    fn said(decision: &Decision, about: &DecisionContext<'_>) -> String {
        let own = Some(about.message).filter(|own| !own.is_empty());
        own.unwrap_or(message(decision.code, decision.detail)).to_owned()
    }

    #[test]
    fn what_is_written_by_hand_is_what_the_types_say() {
        let codes = Code::ALL.iter().flat_map(|code| Detail::ALL.iter().map(move |detail| (*code, *detail)));
        for ((code, detail), options) in codes.flat_map(|words| (0..64u32).map(move |options| (words, options))) {
            let has = |option: u32| options & (1 << option) != 0;
            let decision = Decision {
                first: has(0).then_some(Code::AllowNew),
                quota: has(1).then_some(2),
                ttl_ms: has(2).then_some(15_999),
                ..decision(code, detail)
            };
            let about = DecisionContext {
                tenant: "acme",
                subject: has(3).then_some("ü\"\\\n"),
                session: has(4).then_some("s 1"),
                decision_id: "7-1",
                message: if has(5) { "Call \"us\"." } else { "" },
            };
            let mut out = BytesMut::new();
            write_acquire(&mut out, &decision, &about);
            assert_eq!(out, serde_json::to_string(&acquired(&decision, &about)).unwrap());
            assert_eq!(serde_json::from_slice::<answers::Decision>(&out).unwrap(), acquired(&decision, &about));
            out.clear();
            // A release has a session, always, and never a subject.
            let about = DecisionContext { subject: None, session: Some("s 1"), ..about };
            write_release(&mut out, &decision, &about);
            assert_eq!(out, serde_json::to_string(&released(&decision, &about)).unwrap());
        }
    }

    #[test]
    fn unlimited_is_null_and_what_is_absent_is_left_out() {
        let decision = Decision { quota: None, ttl_ms: None, ..decision(Code::AllowFree, Detail::Emergency) };
        let mut out = BytesMut::new();
        write_acquire(
            &mut out,
            &decision,
            &DecisionContext { tenant: "t", decision_id: "1", ..DecisionContext::default() },
        );
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(json["quota"].is_null() && json.get("quota").is_some());
        for absent in ["subject", "session", "ttl_s", "retry_after_s", "first"] {
            assert!(json.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn accept_decides_then_the_request() {
        let accepting = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            headers
        };
        for (headers, request, want) in [
            (HeaderMap::new(), BodyFormat::Json, ReplyFormat::Json),
            (HeaderMap::new(), BodyFormat::Form, ReplyFormat::Plain),
            (accepting("*/*"), BodyFormat::Form, ReplyFormat::Plain),
            (accepting("text/plain"), BodyFormat::Json, ReplyFormat::Plain),
            (accepting("text/plain, application/json;q=0.5"), BodyFormat::Form, ReplyFormat::Json),
        ] {
            assert_eq!(reply_format(&headers, request), want);
        }
    }

    #[test]
    fn a_denial_is_403_only_where_it_was_asked_for() {
        let mut buf = BytesMut::new();
        for (code, wants, status) in [
            (Code::DenyFull, false, 200),
            (Code::DenyFull, true, 403),
            (Code::AllowNew, true, 200),
            (Code::IgnoreStale, true, 200),
        ] {
            let decision = decision(code, Detail::Tenant);
            let answer = acquire_response(&mut buf, ReplyFormat::Plain, wants, &decision, &DecisionContext::default());
            assert_eq!(answer.status(), status);
        }
    }
}

//! Questions of scripts, read as the daemon reads them, and the answers written (API 1, 2).

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};
use usherd_contract::body::{AcquireBody, Body as _, ReleaseBody};
use usherd_contract::format::BodyFormat;
use usherd_contract::hint::emergency_hint;
use usherd_contract::malformed::Malformed;
use usherd_contract::names::Name;
use usherd_contract::sentence::message;
use usherd_contract::words::{Code, Detail, Direction, Kind};

use usherd_client::{Answer, Ask, Ended, Source, Verdict};

/// A question as it was sent, whatever protocol brought it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// How the body is written; `None` where that is not understood.
    pub format: Option<BodyFormat>,
    /// The body.
    pub body: Bytes,
    /// The query string; it may hold fields that the body does not.
    pub query: Option<String>,
}

/// An acquire that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcquireQuestion {
    /// The question, without its sender: the agent speaks as its own node.
    pub ask: Ask,
    /// True if a denial is to be a 403 (`status=1`).
    pub by_status: bool,
}

impl Sent {
    /// A form without a query.
    pub fn form(form: Vec<u8>) -> Self {
        Sent { format: Some(BodyFormat::Form), body: form.into(), query: None }
    }

    fn format(&self) -> Result<BodyFormat, Malformed> {
        self.format.ok_or(Malformed::new("send application/json or application/x-www-form-urlencoded"))
    }

    /// Reads it as an acquire; `tenant` is the one of a node that speaks for one only.
    ///
    /// # Errors
    /// Every wrong field. It may be an emergency call nevertheless: see [`Self::emergency`].
    pub fn acquire(&self, tenant: Option<&str>) -> Result<AcquireQuestion, Malformed> {
        let read = AcquireBody::parse(&self.body, self.format()?, self.query.as_deref())?.of_tenant(tenant);
        let message = read.checked()?;
        Ok(AcquireQuestion { ask: Ask::from(&message), by_status: read.wants_status() })
    }

    /// The emergency call that can be recognised in it, however wrong the rest is (C14).
    pub fn emergency(&self, tenant: Option<&str>, is_emergency: impl Fn(&str) -> bool) -> Option<Ask> {
        let hint = emergency_hint(&self.body, self.query.as_deref(), |_, to| is_emergency(to))?;
        let tenant = hint.tenant.as_deref().or(tenant).unwrap_or_default();
        let ask = Ask::new(tenant, "", "", Kind::Call);
        Some(Ask {
            subject: hint.subject.map(Name::from),
            session: hint.session.map(Name::from),
            direction: Some(Direction::Outbound),
            emergency: true,
            ..ask
        })
    }

    /// Reads it as a release: what ended, and how.
    ///
    /// # Errors
    /// Every wrong field.
    pub fn release(&self, tenant: Option<&str>) -> Result<(Name, Name, Ended), Malformed> {
        let read = ReleaseBody::parse(&self.body, self.format()?, self.query.as_deref())?.of_tenant(tenant);
        let message = read.checked()?;
        let ended = if message.transferred { Ended::Transferred } else { Ended::Over };
        Ok((message.tenant.into(), message.session.into(), ended))
    }
}

/// An answer that is a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The code of the line.
    pub code: Code,
    /// True if a denial is to be said by status.
    pub denied: bool,
    /// The line for those who read text.
    pub line: String,
    /// The object for those who read JSON.
    pub json: Value,
    /// Why usherd could not be asked, where it was not.
    pub unreachable: Option<&'static str>,
}

/// The answer to a question that may go on, or that usherd refused; `None` where neither is known: usherd could
/// not be asked and this node is to refuse then. That is no decision about a licence, and is not made one here.
///
/// Where usherd could not be asked and the call goes on (G7), the code is `allow.over`: admitted whatever the
/// quota, as the adoption that follows will be. The word `unreachable` takes the place of the detail.
pub fn reply(ask: &Ask, verdict: &Verdict) -> Option<Reply> {
    let (code, detail, unreachable) = match (&verdict.answer, verdict.source) {
        (Some(answer), _) => (answer.code, answer.detail.as_str(), None),
        (None, Source::Inbound) => (Code::AllowFree, Detail::Inbound.as_str(), None),
        (None, Source::Emergency) => (Code::AllowFree, Detail::Emergency.as_str(), None),
        (None, source) if verdict.allow => (Code::AllowOver, "unreachable", Some(source.as_str())),
        (None, _) => return None,
    };
    let mut json =
        json!({"code": code.as_str(), "allow": verdict.allow, "detail": detail, "message": verdict.message()});
    put(&mut json, "tenant", Some(ask.tenant.as_str()));
    put(&mut json, "subject", ask.subject.as_deref());
    put(&mut json, "session", ask.session.as_deref());
    put(&mut json, "unreachable", unreachable);
    put(&mut json, "sip_code", verdict.sip_code());
    put(&mut json, "retry_after_s", verdict.retry_after_s());
    if let Some(answer) = &verdict.answer {
        put_answer(&mut json, answer);
    }
    Some(Reply { code, denied: !verdict.allow, line: line(code, detail), json, unreachable })
}

/// The answer to a release: usherd's, or that the seat is kept until usherd hears of it.
pub fn release_reply(tenant: &str, session: &str, answer: Option<(Code, Detail)>) -> Reply {
    let (code, detail) = answer.map_or((Code::ReleasedMore, "unreachable"), |(code, detail)| (code, detail.as_str()));
    let unreachable = answer.is_none().then_some("queued");
    let mut json = json!({"code": code.as_str(), "detail": detail, "message": release_message(answer), "tenant": tenant,
        "session": session});
    put(&mut json, "unreachable", unreachable);
    Reply { code, denied: false, line: line(code, detail), json, unreachable }
}

/// The sentence for a person about a release.
pub fn release_message(answer: Option<(Code, Detail)>) -> &'static str {
    answer.map_or("It is over; usherd will hear of it.", |(code, detail)| message(code, detail))
}

fn put_answer(json: &mut Value, answer: &Answer) {
    put(json, "first", answer.first.map(Code::as_str));
    put(json, "held", Some(answer.held));
    json["quota"] = answer.quota.into();
    put(json, "over", Some(answer.over));
    put(json, "ttl_s", answer.ttl_s);
    put(json, "decision_id", Some(answer.decision_id.as_str()));
}

fn put(json: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        json[key] = value.into();
    }
}

fn line(code: Code, detail: &str) -> String {
    let mut line = code.as_str().to_owned();
    if !detail.is_empty() {
        let _ = write!(line, " {detail}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_client::Unreachable;

    fn form(text: &str) -> Sent {
        Sent::form(text.as_bytes().to_vec())
    }

    fn json(text: &str) -> Sent {
        Sent { format: Some(BodyFormat::Json), body: text.as_bytes().to_vec().into(), query: None }
    }

    fn dials_help(to: &str) -> bool {
        usherd_contract::emergency::is_emergency(to, &["112"], "")
    }

    #[test]
    fn a_form_and_json_say_the_same() {
        let by_form = form(
            "tenant=acme&subject=J%C3%BCrgen+K&session=c%2B1&kind=call&direction=outbound&to=030&external=0&ttl_s=60&group=&status=YES",
        );
        let by_json = json(
            r#"{"tenant":"acme","subject":"Jürgen K","session":"c+1","kind":"call","direction":"outbound",
                "to":"030","external":false,"ttl_s":60,"group":null,"later":"yes","status":1}"#,
        );
        let wanted = by_form.acquire(None).unwrap();
        assert_eq!(by_json.acquire(None).unwrap(), wanted);
        let ask = &wanted.ask;
        assert_eq!((ask.subject.as_deref(), ask.external, ask.ttl_s), (Some("Jürgen K"), Some(false), Some(60)));
        assert!(wanted.by_status);
    }

    #[test]
    fn a_node_of_one_tenant_need_not_name_it() {
        let silent = "subject=a&session=s&kind=desktop";
        assert_eq!(form(silent).acquire(Some("acme")).unwrap().ask.tenant, "acme");
        assert_eq!(form(&format!("{silent}&tenant=")).acquire(Some("acme")).unwrap().ask.tenant, "acme");
        assert_eq!(form(&format!("{silent}&tenant=b")).acquire(Some("acme")).unwrap().ask.tenant, "b");
        assert_eq!(form("session=s").release(Some("acme")), Ok(("acme".into(), "s".into(), Ended::Over)));
        assert_eq!(json(r#"{"session":"s"}"#).release(Some("acme")).unwrap().0, "acme");
        assert_eq!(form("to=112").emergency(Some("acme"), dials_help).unwrap().tenant, "acme");
        for wrong in [form(silent).acquire(None).unwrap_err(), form("session=s").release(None).unwrap_err()] {
            assert_eq!(wrong.errors()[0].pointer, "/tenant", "{wrong:?}");
        }
        let other = Sent { format: None, ..form(silent) };
        assert!(other.acquire(Some("acme")).is_err() && other.release(Some("acme")).is_err());
        assert!(Sent { format: None, ..form("to=112") }.emergency(None, dials_help).is_some());
    }

    #[test]
    fn nobody_reachable_is_said_and_is_no_denial_g7() {
        let ask = form("tenant=acme&subject=anna&session=c1&kind=call&direction=outbound").acquire(None).unwrap().ask;
        let unasked = |allow| Verdict {
            allow,
            source: Source::Unreachable(Unreachable::Timeout),
            answer: None,
            faults: Vec::new(),
            problem: None,
        };
        let answer = reply(&ask, &unasked(true)).unwrap();
        assert_eq!(
            (answer.line.as_str(), answer.denied, answer.unreachable),
            ("allow.over unreachable", false, Some("timeout"))
        );
        assert_eq!(answer.json["unreachable"], "timeout");
        assert!(answer.json.get("held").is_none(), "nobody knows");
        assert_eq!(reply(&ask, &unasked(false)), None, "an error is never reported as no licence (I10)");
        assert_eq!(release_reply("acme", "c1", None).line, "released.more unreachable");
        assert_eq!(release_reply("acme", "c1", Some((Code::ReleasedLast, Detail::None))).line, "released.last");
    }
}

//! What scripts ask over the agent's socket: bodies of the wire contract read, answers written (API 1, 2).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use percent_encoding::percent_decode;
use serde_json::{Map, Value, json};

use crate::client::{Answer, Ask, Ended, Source, Verdict};
use crate::engine::{Class, Code, Detail, Device, Direction, Fault, Kind, Leg, Name, check_session, check_tenant};

/// Most fields of one question; the contract knows 17.
const FIELDS_MAX: usize = 64;

/// The fields of a body by name; empty values are absent ones, as dial plans send what they have.
#[derive(Debug, Default)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// It is none, or a value is neither text, number nor a truth value.
    pub fn from_json(body: &[u8]) -> Result<Self, String> {
        let object: Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| format!("no JSON object: {error}"))?;
        let mut fields = BTreeMap::new();
        for (name, value) in object.into_iter().take(FIELDS_MAX) {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Array(_) | Value::Object(_) => return Err(format!("{name} is a list or an object")),
            };
            fields.insert(name, text);
        }
        Ok(Fields(fields))
    }

    /// Takes up the fields of a form or a query that are not there yet.
    ///
    /// # Errors
    /// A field comes twice, or is not UTF-8.
    pub fn add_form(&mut self, form: &[u8]) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).take(FIELDS_MAX) {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err("a field is not UTF-8".to_owned());
            };
            if seen.insert(name.clone(), value).is_some() {
                return Err(format!("{name} comes twice"));
            }
        }
        for (name, value) in seen {
            self.0.entry(name).or_insert(value);
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a field says yes.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("1" | "true" | "yes" | "on"))
    }

    fn word<W>(&self, name: &'static str, parse: fn(&str) -> Option<W>, faults: &mut Vec<Fault>) -> Option<W> {
        let word = self.text(name)?;
        let parsed = parse(word);
        if parsed.is_none() {
            faults.push(Fault::new(name, "is not one of the words of the contract"));
        }
        parsed
    }

    /// The question, with every fault that it has: what is wrong is left out of it.
    pub fn ask(&self) -> (Ask, Vec<Fault>) {
        let mut faults = Vec::new();
        let name = |field: &str| self.text(field).map(Name::from);
        if self.text("tenant").is_none() {
            faults.push(Fault::new("tenant", "is needed: 1-64 of a-z 0-9 . _ -"));
        }
        let kind = self.word("kind", Kind::from_word, &mut faults);
        if self.text("kind").is_none() {
            faults.push(Fault::new("kind", "is needed: one of desktop, mobile, phone, connector, guest, call"));
        }
        let ttl_s = self.text("ttl_s").map(str::parse);
        if matches!(ttl_s, Some(Err(_))) {
            faults.push(Fault::new("ttl_s", "must be 1 to 86400 seconds"));
        }
        let ask = Ask {
            tenant: name("tenant").unwrap_or_default(),
            subject: name("subject"),
            session: name("session"),
            kind: kind.unwrap_or(Kind::Call),
            direction: self.word("direction", Direction::from_word, &mut faults),
            leg: self.word("leg", Leg::from_word, &mut faults).unwrap_or(Leg::Originate),
            device: self.word("device", Device::from_word, &mut faults),
            class: self.word("class", Class::from_word, &mut faults),
            to: name("to"),
            emergency: self.flag("emergency"),
            external: self.text("external").map(|_| self.flag("external")),
            group: name("group"),
            ttl_s: ttl_s.and_then(Result::ok),
            existing: self.flag("existing"),
        };
        if faults.is_empty() {
            faults = ask.check().err().unwrap_or_default();
        }
        (ask, faults)
    }

    /// What ended, and how.
    ///
    /// # Errors
    /// Every fault.
    pub fn ended(&self) -> Result<(Name, Name, Ended), Vec<Fault>> {
        let (tenant, session) = (self.text("tenant").unwrap_or_default(), self.text("session").unwrap_or_default());
        let mut faults = Vec::new();
        check_tenant(tenant, &mut faults);
        check_session(session, &mut faults);
        let ended = if self.text("why") == Some("transfer") { Ended::Transferred } else { Ended::Over };
        if faults.is_empty() { Ok((tenant.into(), session.into(), ended)) } else { Err(faults) }
    }
}

/// Decodes `%41` and `+`. A percent sign without two hex digits stands for itself.
fn decoded(encoded: &[u8]) -> Option<String> {
    let blanks: Vec<u8> = encoded.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&blanks).decode_utf8().ok().map(Cow::into_owned)
}

/// An answer that is a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The code of the line.
    pub code: Code,
    /// Whether a denial is to be said by status.
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
/// quota, as the adoption that follows will be. The word `unreachable` stands where the detail does.
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
pub fn released(tenant: &str, session: &str, answer: Option<(Code, Detail)>) -> Reply {
    let (code, detail) = answer.map_or((Code::ReleasedMore, "unreachable"), |(code, detail)| (code, detail.as_str()));
    let unreachable = answer.is_none().then_some("queued");
    let mut json = json!({"code": code.as_str(), "detail": detail, "tenant": tenant, "session": session});
    put(&mut json, "unreachable", unreachable);
    Reply { code, denied: false, line: line(code, detail), json, unreachable }
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
    use crate::client::Unreachable;

    fn form(text: &str) -> Fields {
        let mut fields = Fields::default();
        fields.add_form(text.as_bytes()).unwrap();
        fields
    }

    #[test]
    fn a_form_and_json_say_the_same() {
        let by_form = form(
            "tenant=acme&subject=J%C3%BCrgen+K&session=c%2B1&kind=call&direction=outbound&to=030&external=0&ttl_s=60&group=",
        );
        let by_json = Fields::from_json(
            r#"{"tenant":"acme","subject":"Jürgen K","session":"c+1","kind":"call","direction":"outbound",
                "to":"030","external":false,"ttl_s":60,"group":null,"later":"yes"}"#
                .as_bytes(),
        );
        let (ask, faults) = by_form.ask();
        assert_eq!((by_json.unwrap().ask(), faults), ((ask.clone(), vec![]), vec![]));
        assert_eq!((ask.subject.as_deref(), ask.external, ask.ttl_s), (Some("Jürgen K"), Some(false), Some(60)));
    }

    #[test]
    fn every_fault_is_told() {
        let fields = |form_text: &str| form(form_text).ask().1.iter().map(|fault| fault.field).collect::<Vec<_>>();
        assert_eq!(fields("subject=a"), ["tenant", "kind"]);
        assert_eq!(fields("tenant=t&kind=fax&direction=up&ttl_s=x&leg=l"), ["kind", "ttl_s", "direction", "leg"]);
        assert_eq!(fields("tenant=T&kind=call&session=s&subject=a"), ["tenant", "direction"]);
        assert!(Fields::from_json(b"[1]").is_err() && Fields::from_json(br#"{"to":[1]}"#).is_err());
        assert!(Fields::default().add_form(b"to=1&to=2").is_err());
        assert!(Fields::default().add_form(b"to=%ff").is_err());
    }

    #[test]
    fn a_percent_sign_without_digits_stands_for_itself() {
        for (encoded, plain) in [("a%", "a%"), ("%4", "%4"), ("%4g", "%4g"), ("%41", "A"), ("%+1", "% 1")] {
            assert_eq!(decoded(encoded.as_bytes()).as_deref(), Some(plain), "{encoded}");
        }
    }

    #[test]
    fn nobody_reachable_is_said_and_is_no_denial_g7() {
        let ask = form("tenant=acme&subject=anna&session=c1&kind=call&direction=outbound").ask().0;
        let unasked = |allow| Verdict {
            allow,
            source: Source::Unreachable(Unreachable::Timeout),
            answer: None,
            faults: Vec::new(),
            problem: None,
        };
        let told = reply(&ask, &unasked(true)).unwrap();
        assert_eq!(
            (told.line.as_str(), told.denied, told.unreachable),
            ("allow.over unreachable", false, Some("timeout"))
        );
        assert_eq!(told.json["unreachable"], "timeout");
        assert!(told.json.get("held").is_none(), "nobody knows");
        assert_eq!(reply(&ask, &unasked(false)), None, "an error is never reported as no licence (I10)");
        assert_eq!(released("acme", "c1", None).line, "released.more unreachable");
        assert_eq!(released("acme", "c1", Some((Code::ReleasedLast, Detail::None))).line, "released.last");
    }
}

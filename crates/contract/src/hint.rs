//! Emergency and inbound calls, recognised in a body even when nothing else can be (I8).

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::Value;

use super::fields::flag;
use super::form;
use super::message::is_inbound;
use super::words::{Direction, Kind, Leg};

/// Most different dialled texts of one body that are looked at.
const DIALLED_MAX: usize = 32;

/// The fields that could be made out of a body that need not be right; for the allow that follows, nothing is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The tenant as given, unchecked.
    pub tenant: Option<String>,
    /// The subject as given, unchecked.
    pub subject: Option<String>,
    /// The session as given, unchecked.
    pub session: Option<String>,
    /// True if the node itself called it an emergency, once at least.
    pub flag: bool,
    /// Everything that was given as the dialled number.
    dialled: Vec<String>,
    kind: Option<String>,
    direction: Option<String>,
    leg: Option<String>,
    external: Option<String>,
}

const FIELDS: [&str; 9] = ["tenant", "subject", "session", "to", "emergency", "kind", "direction", "leg", "external"];

impl Hint {
    /// Looks at a body and a query. The content type is not asked: what looks like JSON is read as JSON as far as it is
    /// some, and what is broken word by word; all else is read as a form.
    pub fn of(body: &[u8], query: Option<&str>) -> Self {
        let mut hint = Hint::default();
        if let Some(query) = query {
            hint.take_form(query.as_bytes());
        }
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        match body.trim_ascii_start().first() {
            Some(b'{') if hint.take_json(body).is_ok() => {}
            Some(b'{' | b'[') => hint.take_broken_json(&String::from_utf8_lossy(body)),
            _ => hint.take_form(body),
        }
        hint
    }

    /// The hint, if the call is an emergency: the flag is set, or `is_emergency(tenant, to)` knows the number (C14). Of
    /// several numbers one is enough.
    pub fn emergency(self, is_emergency: impl Fn(Option<&str>, &str) -> bool) -> Option<Self> {
        let dialled = self.dialled.iter().any(|to| is_emergency(self.tenant.as_deref(), to));
        (self.flag || dialled).then_some(self)
    }

    /// The hint, if it is an inbound call, or a leg that only delivers one (C1, C5).
    pub fn inbound(self) -> Option<Self> {
        let word = |field: &Option<String>| field.as_deref().map(|word| word.trim().to_ascii_lowercase());
        let direction = word(&self.direction).and_then(|word| Direction::from_word(&word));
        let leg = word(&self.leg).and_then(|word| Leg::from_word(&word)).unwrap_or(Leg::Originate);
        let external = word(&self.external).and_then(|word| flag(&word));
        let is_call = word(&self.kind).as_deref() == Some(Kind::Call.as_str());
        (is_call && is_inbound(direction, leg, external)).then_some(self)
    }

    fn take(&mut self, field: &str, value: String) {
        let place = match field {
            "emergency" => {
                // Once said, it is not taken back by a second field.
                self.flag |= flag(value.trim()) == Some(true);
                return;
            }
            "to" => {
                if self.dialled.len() < DIALLED_MAX && !self.dialled.contains(&value) {
                    self.dialled.push(value);
                }
                return;
            }
            "tenant" => &mut self.tenant,
            "subject" => &mut self.subject,
            "session" => &mut self.session,
            "kind" => &mut self.kind,
            "direction" => &mut self.direction,
            "leg" => &mut self.leg,
            "external" => &mut self.external,
            _ => return,
        };
        *place = Some(value);
    }

    fn take_form(&mut self, form: &[u8]) {
        for (key, value) in form::lossy(form) {
            if !value.is_empty() {
                self.take(&key, value);
            }
        }
    }

    /// Takes the fields of an object up to where it is broken, also those that are there twice.
    fn take_json(&mut self, body: &[u8]) -> serde_json::Result<()> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        Object(self).deserialize(&mut reader)?;
        reader.end()
    }

    /// Finds `"field" : value` wherever it stands. Too much is better than too little here.
    fn take_broken_json(&mut self, body: &str) {
        for field in FIELDS {
            let quoted = format!("\"{field}\"");
            for (at, _) in body.match_indices(&quoted) {
                let after = body.get(at + quoted.len()..).unwrap_or_default().trim_start();
                let Some(value) = after.strip_prefix(':').map(str::trim_start) else { continue };
                let value = match value.strip_prefix('"') {
                    Some(text) => unescaped(text),
                    None => value.split([',', '}', ']', ' ', '\t', '\r', '\n']).next().unwrap_or_default().to_owned(),
                };
                if !value.is_empty() {
                    self.take(field, value);
                }
            }
        }
    }
}

/// The string whose opening quotation mark was read; as it stands where its escapes are broken, or it has no end.
fn unescaped(text: &str) -> String {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    let text = &text[..end.unwrap_or(text.len())];
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned())
}

/// Reads an object into a hint, field by field, so that what came before a break is kept.
struct Object<'h>(&'h mut Hint);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<Cow<'_, str>>()? {
            match map.next_value()? {
                Value::String(text) => self.0.take(&field, text),
                value @ (Value::Number(_) | Value::Bool(_)) => self.0.take(&field, value.to_string()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The emergency call in a body, however wrong the rest of it is; see [`Hint::emergency`].
pub fn emergency_hint(
    body: &[u8],
    query: Option<&str>,
    is_emergency: impl Fn(Option<&str>, &str) -> bool,
) -> Option<Hint> {
    Hint::of(body, query).emergency(is_emergency)
}

/// The inbound call in a body, however wrong the rest of it is; see [`Hint::inbound`].
pub fn inbound_hint(body: &[u8], query: Option<&str>) -> Option<Hint> {
    Hint::of(body, query).inbound()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dials_help(_: Option<&str>, to: &str) -> bool {
        crate::emergency::is_emergency(to, &["110", "112"], "")
    }

    #[test]
    fn an_emergency_is_seen_in_anything() {
        let seventy: String = (0..70).map(|at| format!("x{at}=1&")).collect::<String>() + "to=112";
        for body in [
            &br#"{"emergency":true}"#[..],
            br#"{"emergency":"true","kind":7,"tenant":[]}"#,
            br#"{"emergency":1,"seq":-4}"#,
            br#"{"emergency":"YES"}"#,
            br#"{"to":"112"}"#,
            br#"{"to":112,"kind":"nonsense"}"#,
            br#"{"emergency":true,"session":"cut of"#,
            br#"{"emergency":true"#,
            br#"{"emergency":tru e, "emergency" : true }"#,
            br#"{"to" : "112", "x": }"#,
            br#"{"to":"\u0031\u0031\u0032","x":"#,
            br#"{"x":,"to":"\u0031\u0031\u0032"}"#,
            br#"{"\u0074o":"112","x":"#,
            br#"{"to":"0301","to":"112"}"#,
            br#"{"to":"112","to":"0301"}"#,
            br#"{"to":"tel:1-1-2;phone-context=\"x\"","kind":7}"#,
            br#"{"x":,"to":"<sip:112@pbx;x=\"y\">"}"#,
            br#"[{"to":"112"}]"#,
            b"\xef\xbb\xbf{\"to\":\"112\"}",
            b"{\"to\":\"112\",\"subject\":\"\xff\xfe\"}",
            "{\"to\":\"\u{ff11}12\",\"x\"".as_bytes(),
            b"emergency=true",
            b"emergency=ON",
            b"to=112&kind=%ff&kind=x",
            b"to=%31%31%32",
            b"to=%2B112",
            b"to=%EF%BC%91%EF%BC%91%EF%BC%92&kind=%",
            b"to=112%23&seq=%4",
            b"to=0301&to=112",
            b"subject=b%D0&to=112",
            b"&&emergency=1&emergency=0",
            seventy.as_bytes(),
        ] {
            assert!(emergency_hint(body, None, dials_help).is_some(), "{}", String::from_utf8_lossy(body));
        }
        assert!(emergency_hint(b"", Some("to=110"), dials_help).is_some());
        assert!(emergency_hint(b"to=0301", Some("to=tel:110"), dials_help).is_some());
        for body in [
            &br#"{"emergency":false,"to":"0301234"}"#[..],
            br#"{"x":{"to":"112"}}"#,
            br#"{"subject":"\"to\":\"112\"","x"}"#,
            b"",
            b"{",
            b"to=1123",
            b"[]",
            br#""112""#,
        ] {
            assert_eq!(emergency_hint(body, None, dials_help), None, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn an_inbound_call_is_seen_in_anything() {
        for body in [
            &br#"{"kind":"call","direction":"inbound"}"#[..],
            br#"{"kind":"call","direction":"inbound","seq":"no"}"#,
            br#"{"kind":"call","direction":"inbound","tena"#,
            b"kind=call&direction=inbound",
            b"kind=call&direction=outbound&leg=deliver",
            b"kind=call&leg=Deliver",
            b"kind=call&direction=outbound&leg=deliver&external=yes",
            b"kind=call&direction=internal&leg=deliver&external=0",
            br#"{"kind":"call","direction":"outbound","leg":"deliver","tena"#,
        ] {
            assert!(inbound_hint(body, None).is_some(), "{}", String::from_utf8_lossy(body));
        }
        for body in [
            &b"kind=call&direction=outbound&leg=deliver&external=no"[..],
            br#"{"kind":"call","direction":"outbound","leg":"deliver","external":false}"#,
            b"kind=call&direction=outbound&leg=originate",
            b"kind=desktop&leg=deliver",
        ] {
            assert_eq!(inbound_hint(body, None), None, "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(inbound_hint(br#"{"kind":"phone","direction":"inbound"}"#, None), None);
        assert_eq!(inbound_hint(b"kind=call&direction=outbound", None), None);
    }
}

//! What must be recognised in a body even when nothing else can be: emergency and inbound calls (I8).

use std::borrow::Cow;

use serde_json::Value;

use super::fields::flag;
use super::form;

/// What could be made out of a body that need not be right; for the allow that follows, nothing is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The tenant as given, unchecked.
    pub tenant: Option<String>,
    /// The subject as given, unchecked.
    pub subject: Option<String>,
    /// The session as given, unchecked.
    pub session: Option<String>,
    /// The dialled number as given.
    pub to: Option<String>,
    /// Whether the node itself called it an emergency.
    pub flag: bool,
    kind: Option<String>,
    direction: Option<String>,
}

const FIELDS: [&str; 7] = ["tenant", "subject", "session", "to", "emergency", "kind", "direction"];

impl Hint {
    /// Looks at a body and a query. The content type is not asked: what looks like JSON is read as JSON,
    /// and if it is broken, word by word; all else is read as a form.
    pub fn of(body: &[u8], query: Option<&str>) -> Self {
        let mut hint = Hint::default();
        if let Some(query) = query {
            hint.take_form(query.as_bytes());
        }
        if body.trim_ascii_start().first() != Some(&b'{') {
            hint.take_form(body);
        } else if let Ok(Value::Object(object)) = serde_json::from_slice(body) {
            for field in FIELDS {
                match object.get(field) {
                    Some(Value::String(text)) => hint.take(field, text.clone()),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => hint.take(field, value.to_string()),
                    _ => {}
                }
            }
        } else {
            hint.take_broken_json(&String::from_utf8_lossy(body));
        }
        hint
    }

    /// It, if the call is an emergency: the flag is set, or `is_emergency(tenant, to)` knows the number (C14).
    pub fn emergency(self, is_emergency: impl Fn(Option<&str>, &str) -> bool) -> Option<Self> {
        let dialled = self.to.as_deref().is_some_and(|to| is_emergency(self.tenant.as_deref(), to));
        (self.flag || dialled).then_some(self)
    }

    /// It, if it is an inbound call (C1).
    pub fn inbound(self) -> Option<Self> {
        let is =
            |field: &Option<String>, word: &str| field.as_deref().is_some_and(|f| f.trim().eq_ignore_ascii_case(word));
        (is(&self.kind, "call") && is(&self.direction, "inbound")).then_some(self)
    }

    fn take(&mut self, field: &str, value: String) {
        let place = match field {
            "emergency" => {
                // Once said, it is not taken back by a second field.
                self.flag |= flag(value.trim()) == Some(true);
                return;
            }
            "tenant" => &mut self.tenant,
            "subject" => &mut self.subject,
            "session" => &mut self.session,
            "to" => &mut self.to,
            "kind" => &mut self.kind,
            "direction" => &mut self.direction,
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

    /// Finds `"field" : value` wherever it stands. Too much is better than too little here.
    fn take_broken_json(&mut self, body: &str) {
        for field in FIELDS {
            let quoted = format!("\"{field}\"");
            for (at, _) in body.match_indices(&quoted) {
                let after = body.get(at + quoted.len()..).unwrap_or_default().trim_start();
                let Some(value) = after.strip_prefix(':').map(str::trim_start) else { continue };
                let value: Cow<'_, str> = match value.strip_prefix('"') {
                    Some(text) => text.split('"').next().unwrap_or_default().into(),
                    None => value.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().into(),
                };
                if !value.is_empty() {
                    self.take(field, value.into_owned());
                }
            }
        }
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
        matches!(to, "110" | "112")
    }

    #[test]
    fn an_emergency_is_seen_in_anything() {
        for body in [
            &br#"{"emergency":true}"#[..],
            br#"{"emergency":"true","kind":7,"tenant":[]}"#,
            br#"{"emergency":1,"seq":-4}"#,
            br#"{"to":"112"}"#,
            br#"{"to":112,"kind":"nonsense"}"#,
            br#"{"emergency":true,"session":"cut of"#,
            br#"{"to" : "112", "x": }"#,
            b"{\"to\":\"112\",\"subject\":\"\xff\xfe\"}",
            b"emergency=true",
            b"to=112&kind=%ff&kind=x",
            b"to=%31%31%32",
            b"&&emergency=1&emergency=0",
        ] {
            assert!(emergency_hint(body, None, dials_help).is_some(), "{}", String::from_utf8_lossy(body));
        }
        assert!(emergency_hint(b"", Some("to=110"), dials_help).is_some());
        for body in [&br#"{"emergency":false,"to":"0301234"}"#[..], b"", b"{", b"to=1123", b"[]", br#""112""#] {
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
        ] {
            assert!(inbound_hint(body, None).is_some(), "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(inbound_hint(br#"{"kind":"phone","direction":"inbound"}"#, None), None);
        assert_eq!(inbound_hint(b"kind=call&direction=outbound", None), None);
    }
}

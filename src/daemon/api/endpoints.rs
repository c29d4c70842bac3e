//! `POST /v1/tenants/{t}/endpoints/check`: whether one more device may be set up (L4); changes nothing.

use http::header::{CONTENT_TYPE, HeaderValue};
use hyper::body::Incoming;
use serde_json::{Map, Value};
use usherd_contract::format::BodyFormat;
use usherd_subscription::inclusive::{Setup, may_set_up};

use super::bodies::{ADD_MAX, ENDPOINTS_MAX, EndpointsAsked};
use super::query::Query;
use super::routes::{Allowed, Call, HandlerResult};
use super::{Worker, json};
use crate::answers::operation::{EndpointsChecked, SetupCode};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::{FieldError, ProblemKind};
use crate::daemon::text::utc;

/// Largest body, bytes.
const BODY_BYTES_MAX: usize = 4_096;

impl EndpointsAsked {
    /// Reads JSON or a form; an empty body asks for one more.
    fn parse(body: &[u8], format: BodyFormat) -> Result<Self, Problem> {
        let fields = match format {
            _ if body.trim_ascii().is_empty() => Map::new(),
            BodyFormat::Form => form_fields(body)?,
            BodyFormat::Json | BodyFormat::Ndjson => serde_json::from_slice(body)
                .map_err(|error| Problem::malformed("the body must be a JSON object").error("", error.to_string()))?,
        };
        let mut errors = Vec::new();
        let mut number = |key: &str, least: u64, most: u64| {
            let value = fields.get(key).filter(|value| !value.is_null())?;
            let found = value.as_u64().filter(|number| (least..=most).contains(number));
            if found.is_none() {
                let detail = format!("must be a whole number from {least} to {most}");
                errors.push(FieldError { pointer: format!("/{key}"), detail: detail.into() });
            }
            found.and_then(|number| u32::try_from(number).ok())
        };
        let (add, endpoints) = (number("add", 1, ADD_MAX), number("endpoints", 0, ENDPOINTS_MAX));
        for key in fields.keys().filter(|key| !matches!(key.as_str(), "add" | "endpoints")).take(10) {
            let pointer = format!("/{}", key.chars().take(64).collect::<String>());
            errors.push(FieldError { pointer, detail: "is not known; add and endpoints are".into() });
        }
        if errors.is_empty() {
            Ok(EndpointsAsked { add: add.unwrap_or(1), endpoints })
        } else {
            Err(Problem::faulty(errors))
        }
    }
}

/// The fields of a form: digits become numbers, so that both formats are checked alike.
fn form_fields(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| Problem::malformed("the form is not UTF-8"))?;
    let pairs = Query::parse(Some(text))?.into_pairs().into_iter().filter(|(_, value)| !value.is_empty());
    Ok(pairs.map(|(key, value)| (key, value.parse::<u64>().map_or(Value::String(value), Value::from))).collect())
}

impl Worker {
    /// `POST /v1/tenants/{t}/endpoints/check` with `add` and `endpoints`, both optional
    pub(super) async fn check_endpoints(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let id = allowed.tenant();
        let body = call.peer.collect(body, BODY_BYTES_MAX).await?;
        let named = call.head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let format = BodyFormat::of(named, &body)
            .ok_or_else(|| Problem::new(ProblemKind::UnsupportedType, "send application/json or a form"))?;
        let asked = EndpointsAsked::parse(&body, format)?;
        let config = self.app.configuration.running.get();
        let tenant = (config.tenants.get(id))
            .ok_or_else(|| Problem::new(ProblemKind::NotFound, format!("tenant {id:?} is not configured")))?;
        let limit = tenant.inclusive(utc(self.app.deciding.clock.now())).endpoints;
        let endpoints = asked.endpoints.or(tenant.record.endpoints);
        Ok(json(&answer(limit, endpoints, asked.add)))
    }
}

/// The answer; devices that nobody counted are taken for none.
fn answer(limit: Option<u32>, endpoints: Option<u32>, add: u32) -> EndpointsChecked {
    let present = endpoints.unwrap_or(0);
    let setup = may_set_up(limit, present, add);
    let message = match (setup, limit) {
        (Setup::LimitReached, Some(limit)) => {
            format!("{present} devices are set up and the seats include {limit}: {add} more would be too many.")
        }
        (Setup::WithinLimit, Some(limit)) => format!("{add} more may be set up; the seats include {limit}."),
        _ => "The number of devices is not limited.".to_owned(),
    };
    let allow = setup != Setup::LimitReached;
    let code = if allow { SetupCode::Allow } else { SetupCode::Deny };
    EndpointsChecked { allow, code: code.into(), detail: setup.into(), endpoints, limit, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_say_the_same_and_faults_are_named() {
        let json = |text: &str| EndpointsAsked::parse(text.as_bytes(), BodyFormat::Json);
        let form = |text: &str| EndpointsAsked::parse(text.as_bytes(), BodyFormat::Form);
        assert_eq!(json(""), Ok(EndpointsAsked { add: 1, endpoints: None }));
        assert_eq!(json(r#"{"add":2,"endpoints":48}"#), form("add=2&endpoints=48"));
        assert_eq!(form("endpoints=0&add="), json(r#"{"endpoints":0,"add":null}"#));
        for (asked, pointer) in [
            (json(r#"{"add":0}"#), "/add"),
            (json(r#"{"add":100001}"#), "/add"),
            (json(r#"{"add":1.5}"#), "/add"),
            (json(r#"{"endpoints":"48"}"#), "/endpoints"),
            (form("endpoints=-1"), "/endpoints"),
            (form("endpoints=100000001"), "/endpoints"),
            (json(r#"{"ad":5}"#), "/ad"),
            (json("[1]"), ""),
        ] {
            assert_eq!(asked.unwrap_err().errors()[0].pointer, pointer);
        }
    }
}

//! Which parameters a query may have: a misspelt one would be a filter that does not filter.

use http::{Method, request};

use super::query::Query;
use crate::daemon::config::{nearest, one_of};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::FieldError;

/// Longest name that is told back, characters.
const TOLD_CHARS_MAX: usize = 64;

/// The routes that read and administer, and the parameters that each knows; `GET` answers `HEAD` too.
///
/// Not those that nodes speak to, for whose fields the query is another place: what a newer node says more is passed
/// over there. Nor those outside of `/v1/`, which scrapers, probes and browsers add to.
pub const PARAMETERS: &[(Method, &str, &[&str])] = &[
    (Method::GET, "/v1/nodes", &["after", "limit"]),
    (Method::GET, "/v1/tenants", &["after", "limit", "state", "band", "search"]),
    (Method::GET, "/v1/tenants/{tenant}", &[]),
    (Method::GET, "/v1/tenants/{tenant}/subjects", &["after", "limit"]),
    (Method::GET, "/v1/tenants/{tenant}/subjects/{subject}", &[]),
    (Method::DELETE, "/v1/tenants/{tenant}/subjects/{subject}", &["force"]),
    (Method::GET, "/v1/tenants/{tenant}/sessions", &["after", "limit", "kind", "node", "subject", "counts"]),
    (Method::DELETE, "/v1/tenants/{tenant}/sessions/{session}", &["force"]),
    (Method::POST, "/v1/tenants/{tenant}/subscription", &[]),
    (Method::GET, "/v1/tenants/{tenant}/usage", &["from", "to", "step"]),
    (Method::GET, "/v1/tenants/{tenant}/whatif", &["quota", "from", "to", "target"]),
    (Method::GET, "/v1/overview", &[]),
    (Method::GET, "/v1/quote", &["from", "to", "on", "partner", "price_mode"]),
    (Method::GET, "/v1/size", &["types"]),
    (Method::GET, "/v1/events", &["tenant", "types", "after", "pulse_ms"]),
    (Method::POST, "/v1/admin/reload", &["dry_run", "force", "removals", "note"]),
    (Method::GET, "/v1/admin/config", &[]),
    (Method::PUT, "/v1/admin/log-level", &[]),
    (Method::POST, "/v1/admin/clock/trust", &[]),
    (Method::DELETE, "/v1/nodes/{node}", &["force"]),
    (Method::GET, "/v1/admin/webhooks", &[]),
    (Method::GET, "/v1/admin/webhooks/{webhook}/deliveries", &["after", "limit"]),
    (Method::POST, "/v1/admin/webhooks/{webhook}/test", &[]),
    (Method::GET, "/v1/prometheus/sd", &[]),
];

/// Looks for parameters that the route does not know.
///
/// # Errors
/// 400: every one of them, with the one that was probably meant; or the query is none.
pub(super) fn check(head: &request::Parts) -> Result<(), Problem> {
    of(&head.method, head.uri.path(), head.uri.query())
}

fn of(method: &Method, path: &str, query: Option<&str>) -> Result<(), Problem> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(()) };
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let fits = |template: &str| {
        let (mut wanted, mut given) = (template.split('/'), path.split('/'));
        wanted.by_ref().zip(given.by_ref()).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
            && template.split('/').count() == path.split('/').count()
    };
    let Some((.., known)) = PARAMETERS.iter().find(|(own, template, _)| own == method && fits(template)) else {
        return Ok(());
    };
    let given = Query::parse(Some(query))?.into_pairs();
    let mut errors: Vec<FieldError> = Vec::new();
    for (name, _) in given.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        let told: String = name.chars().take(TOLD_CHARS_MAX).collect();
        let error = FieldError::of(&told, unknown(&told, known));
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::faulty(errors)) }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(meant) => format!("is not known here: did you mean `{meant}`?"),
        None if known.is_empty() => "is not known here: this route has no parameters".to_owned(),
        None => format!("is not known here: write {}", one_of(known.iter().copied())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(method: &Method, path: &str, query: &str) -> Vec<String> {
        let refused = of(method, path, Some(query)).err();
        let errors = refused.map(Problem::into_errors).unwrap_or_default();
        errors.into_iter().map(|error| format!("{} {}", error.pointer, error.detail)).collect()
    }

    #[test]
    fn what_a_route_does_not_know_is_told_with_what_was_meant() {
        for (method, path, query, errors) in [
            (Method::GET, "/v1/tenants", "limit=5&after=x&search=a", &[][..]),
            (Method::HEAD, "/v1/tenants", "limt=5", &["/limt is not known here: did you mean `limit`?"]),
            (Method::GET, "/v1/tenants", "limt=5&limt=6", &["/limt is not known here: did you mean `limit`?"]),
            (Method::GET, "/v1/nodes", "tenant=5", &["/tenant is not known here: write `after` or `limit`"]),
            (Method::GET, "/v1/overview", "x", &["/x is not known here: this route has no parameters"]),
            (Method::GET, "/v1/tenants/acme", "limit=5", &["/limit is not known here: this route has no parameters"]),
            (Method::GET, "/v1/tenants/acme/sessions", "counts=1&node=x", &[]),
            (
                Method::DELETE,
                "/v1/tenants/a/sessions/s",
                "forced=1",
                &["/forced is not known here: did you mean `force`?"],
            ),
            (Method::POST, "/v1/admin/reload", "dry-run=1", &["/dry-run is not known here: did you mean `dry_run`?"]),
            (Method::POST, "/v1/acquire", "limt=5", &[]),
            (Method::POST, "/v1/nodes/n/hello", "limt=5", &[]),
            (Method::GET, "/metrics", "limt=5", &[]),
            (Method::GET, "/v1/nothing", "limt=5", &[]),
        ] {
            assert_eq!(told(&method, path, query), errors, "{method} {path}?{query}");
        }
        assert!(of(&Method::GET, "/v1/overview", Some("a=%zz")).is_err());
        assert!(told(&Method::GET, "/v1/nodes", &"é".repeat(500))[0].len() < 300);
    }
}

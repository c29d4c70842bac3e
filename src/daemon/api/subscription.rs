//! `POST /v1/tenants/{t}/subscription`: a request of customer or operator, decided and written down (API 5).

use chrono::{DateTime, Utc};
use http::StatusCode;
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use usherd_engine::Now;
use usherd_subscription::request::Request;

use super::bodies::SubscriptionRequest;
use super::queries::no_tenant;
use super::routes::{Allowed, Call, HandlerResult};
use super::{Worker, json, text, typed};
use crate::answers::subscriptions::{RefusedType, SubscriptionRefused};
use crate::daemon::app::reload_request::Request as ReloadRequest;
use crate::daemon::config::{Config, Removals, Submission, Unwritten, submit};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::{FieldError, ProblemKind};
use crate::daemon::journal::{Audit, AuditKind};
use crate::daemon::metrics::ReloadTrigger;
use crate::daemon::subscriptions::{Written, answered, told};
use crate::daemon::text::utc;

/// Largest body, bytes.
const BODY_BYTES_MAX: usize = 4_096;
const FIELDS: &str = "actor, request, object, seats, when, change and dry_run are";

impl Worker {
    /// Decides by the files as they are, writes what is accepted, and has it taken up before it answers.
    pub(super) async fn request_subscription(
        &self,
        call: &Call<'_>,
        allowed: Allowed,
        body: Incoming,
    ) -> HandlerResult {
        let (tenant, access) = allowed.into_parts();
        let body = call.peer.collect(body, BODY_BYTES_MAX).await?;
        let SubscriptionRequest { written, dry_run } = parse(&body)?;
        let request = written.read().map_err(|faults| {
            let errors = faults.into_iter();
            let errors = errors.map(|(field, what)| FieldError { pointer: format!("/{field}"), detail: what.into() });
            Problem::faulty(errors.collect())
        })?;
        let now = self.app.deciding.clock.now();
        self.need_date(now)?;
        let submission = self.submitted(&tenant, &request, utc(now), dry_run).await?;
        let told = told(&request);
        self.audit_request(now, &tenant, &access.id, &told, &submission, dry_run).await;
        let mut accepted = match answered(&submission, utc(now), dry_run) {
            Ok(accepted) => accepted,
            Err(refused) => {
                let answer = SubscriptionRefused {
                    kind: RefusedType::Refused.into(),
                    title: "The request is refused, nothing was changed".to_owned(),
                    status: StatusCode::CONFLICT.as_u16(),
                    detail: refused.message.clone(),
                    refused: *refused,
                };
                return Ok(typed(StatusCode::CONFLICT, "application/problem+json", text(&answer)));
            }
        };
        if !dry_run {
            // It is written, and booked: an error would have it sent and booked again.
            if let Err(why) = self.take_up(format!("{tenant}: {told}"), access.id.clone()).await {
                accepted.waiting = Some(format!("written, and in force with the next reload: {why}"));
            }
        }
        Ok(json(&accepted))
    }

    /// Reads and writes files on a thread that decides nothing.
    async fn submitted(
        &self,
        tenant: &str,
        request: &Request,
        now: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<Submission, Problem> {
        let (id, request) = (tenant.to_owned(), request.clone());
        let config = self.app.configuration.running.get();
        let decide = move || submit(config.main(), &id, &request, now, dry_run, &config.contents);
        let done = tokio::task::spawn_blocking(decide).await;
        let done = done.map_err(|_| Problem::unavailable(1, "reading the files failed; see the log"))?;
        done.map_err(|unwritten| unwritten_problem(&self.app.configuration.running.get(), tenant, unwritten))
    }

    /// Records the caller, the request and the answer.
    async fn audit_request(
        &self,
        now: Now,
        tenant: &str,
        actor: &str,
        told: &str,
        submission: &Submission,
        dry_run: bool,
    ) {
        if dry_run {
            return;
        }
        let outcome = match &submission.answer {
            Ok(accepted) => {
                format!("accepted{}", accepted.change.as_ref().map(|id| format!(" as {id}")).unwrap_or_default())
            }
            Err(refusal) => format!("refused: {}", refusal.code.as_str()),
        };
        let text = format!("{told}: {outcome}");
        let (_, committed) = self.decide(now, |_, group, _| {
            if let Some(group) = group {
                group.audit(&Audit { tenant, actor, text: &text, ..Audit::new(AuditKind::Request) });
            }
        });
        committed.await;
        tracing::info!(tenant, actor, "{text}");
    }

    /// Has the files read again. What else is in them is taken as the watch would take it.
    ///
    /// # Errors
    /// Why what was written is not in force yet.
    async fn take_up(&self, note: String, actor: String) -> Result<(), String> {
        let (reply, outcome) = oneshot::channel();
        let request = ReloadRequest {
            trigger: ReloadTrigger::Http,
            force: false,
            removals: Removals::Delayed,
            dry_run: false,
            actor,
            note: Some(note),
            reply: Some(reply),
            sync: None,
        };
        self.app.configuration.reloads.send(request).await.map_err(|_| "the daemon stops".to_owned())?;
        match outcome.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(rejection)) => Err(rejection.to_string()),
            Err(_) => Err("the daemon stops".to_owned()),
        }
    }
}

fn unwritten_problem(config: &Config, tenant: &str, unwritten: Unwritten) -> Problem {
    match unwritten {
        Unwritten::UnknownTenant if config.tenants.contains_key(tenant) => Problem::new(
            ProblemKind::Conflict,
            "the tenant is not in the files: its record is pulled from a portal, ask there",
        ),
        Unwritten::UnknownTenant => no_tenant(tenant),
        Unwritten::Invalid(problems) => {
            let errors = problems.iter().map(|problem| FieldError {
                pointer: format!("/{}", problem.key_path),
                detail: format!("{}:{}: {}", problem.file, problem.line, problem.message).into(),
            });
            let detail = "the files are not good, or would not be with the new record; nothing was changed";
            errors.fold(Problem::new(ProblemKind::Conflict, detail), |problem, error| {
                problem.error(error.pointer.trim_start_matches('/'), error.detail.to_string())
            })
        }
        Unwritten::File(why) => Problem::new(ProblemKind::Conflict, format!("{why}; nothing was changed")),
    }
}

fn parse(body: &[u8]) -> Result<SubscriptionRequest, Problem> {
    let fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| Problem::malformed("the body must be a JSON object").error("", error.to_string()))?;
    let mut errors = Vec::new();
    let mut wrong =
        |field: &str, detail: String| errors.push(FieldError { pointer: format!("/{field}"), detail: detail.into() });
    let mut written = Written::default();
    let mut dry_run = false;
    for (field, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        let slot = match field.as_str() {
            "actor" => &mut written.actor,
            "request" => &mut written.request,
            "object" => &mut written.object,
            "when" => &mut written.when,
            "change" => &mut written.change,
            "seats" => {
                written.seats = value.as_u64();
                if written.seats.is_none() {
                    wrong("seats", "must be a whole number".to_owned());
                }
                continue;
            }
            "dry_run" => {
                dry_run = value == Value::Bool(true);
                if !value.is_boolean() {
                    wrong("dry_run", "must be true or false".to_owned());
                }
                continue;
            }
            _ => {
                wrong(&field, format!("is not known; {FIELDS}"));
                continue;
            }
        };
        match value {
            Value::String(text) => *slot = Some(text),
            _ => wrong(&field, "must be a text".to_owned()),
        }
    }
    if errors.is_empty() { Ok(SubscriptionRequest { written, dry_run }) } else { Err(Problem::faulty(errors)) }
}

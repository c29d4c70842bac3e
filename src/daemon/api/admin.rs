//! Administration (API 5): reload, the configuration's state, ending by hand, the log level.

use std::time::Duration;

use http::StatusCode;
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use usherd_contract::answers::Done;
use usherd_engine::EndOutcome;

use super::bodies::{LOG_FOR_SECONDS_MAX, LogLevel};
use super::queries::no_tenant;
use super::query::Query;
use super::routes::{Allowed, Call, HandlerResult};
use super::{Worker, json, marked, text, typed};
use crate::answers::Timestamp;
use crate::answers::config::{
    self as answers, ConfigProblem, FILES_SHOWN_MAX, Rejected, RejectedFile, ReloadCode, Reloaded,
};
use crate::answers::operation::LogLevelReply;
use crate::answers::sessions::{Ended, EndedCode};
use crate::daemon::app::recorder::Recorder;
use crate::daemon::app::reload_request::{Applied, Request};
use crate::daemon::config::{self, Removals};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::{FieldError, ProblemKind};
use crate::daemon::journal::{Audit, AuditKind};
use crate::daemon::metrics::ReloadTrigger;
use crate::daemon::text::rfc3339;

/// Longest note of a reload, bytes.
pub(super) const NOTE_BYTES_MAX: usize = 500;

/// Sessions of a subject that are ended in one record of the journal.
const ENDED_AT_ONCE_MAX: usize = 512;

impl LogLevel {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        let fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Problem::malformed("the body must be a JSON object").error("", error.to_string()))?;
        let mut errors = Vec::new();
        let mut wrong = |field: &str, what: &'static str| {
            errors.push(FieldError { pointer: format!("/{field}"), detail: what.into() });
        };
        let filter = fields.get("filter").and_then(Value::as_str);
        if filter.is_none() {
            wrong("filter", "is required: a level, or levels by module, as info,usherd::daemon::http=debug");
        }
        let for_s = fields.get("for_s").filter(|for_s| !for_s.is_null());
        if for_s.is_some_and(|for_s| for_s.as_u64().is_none_or(|for_s| for_s > LOG_FOR_SECONDS_MAX)) {
            wrong("for_s", "must be a whole number of seconds, 0 to 86400");
        }
        for field in fields.keys().filter(|field| !matches!(field.as_str(), "filter" | "for_s")) {
            wrong(field, "is not known; filter and for_s are");
        }
        match filter {
            Some(filter) if errors.is_empty() => {
                Ok(LogLevel { filter: filter.to_owned(), for_s: for_s.and_then(Value::as_u64) })
            }
            _ => Err(Problem::faulty(errors)),
        }
    }
}

impl Worker {
    /// `POST /v1/admin/reload[?dry_run=1][&force=1][&note=]`; answers after the attempt.
    pub(super) async fn reload(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let access = allowed.access();
        let query = call.query()?;
        let (reply, outcome) = oneshot::channel();
        let request = Request {
            trigger: ReloadTrigger::Http,
            force: query.is_set("force")?,
            removals: removals(&query)?,
            dry_run: query.is_set("dry_run")?,
            actor: access.id.clone(),
            note: note(&query)?,
            reply: Some(reply),
            sync: None,
        };
        let (force, dry_run) = (request.force, request.dry_run);
        self.app
            .configuration
            .reloads
            .try_send(request)
            .map_err(|_| Problem::unavailable(1, "too many reloads wait already"))?;
        match outcome.await {
            Ok(Ok(applied)) => Ok(json(&reloaded(dry_run, applied))),
            Ok(Err(rejection)) => {
                let answer = Rejected {
                    kind: ProblemKind::Rejected.into(),
                    title: "The configuration is rejected, the one before stays".to_owned(),
                    status: ProblemKind::Rejected.status(),
                    detail: rejection.to_string(),
                    force,
                    forceable: rejection.is_forceable(),
                    problems: told(rejection.problems()),
                };
                Ok(typed(StatusCode::UNPROCESSABLE_ENTITY, "application/problem+json", text(&answer)))
            }
            Err(_) => Err(Problem::unavailable(1, "the daemon stops")),
        }
    }

    /// `GET /v1/admin/config`
    pub(super) fn config(&self) -> HandlerResult {
        let config = self.app.configuration.running.get();
        let (problems, certificates) = {
            let state = self.app.configuration.state.lock();
            (told(&state.problems), told(&state.certificates))
        };
        let away = config.away.iter().take(FILES_SHOWN_MAX).map(|path| path.display().to_string());
        Ok(json(&answers::Config {
            state: self.app.configuration.show(),
            main: config.main().display().to_string(),
            problems,
            warnings: told(&config.warnings),
            rejected: rejected(&config.rejected),
            away: away.collect(),
            certificates,
            tenants: config.tenants.values().map(|tenant| (tenant.id.to_string(), tenant.source.clone())).collect(),
        }))
    }

    /// `DELETE /v1/tenants/{t}/sessions/{s}[?force=1]`
    pub(super) async fn end_session(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let ((tenant, access), session) = (allowed.into_parts(), call.variable(1)?);
        let force = call.query()?.is_set("force")?;
        let now = self.app.deciding.clock.now();
        self.app.deciding.engine.tenant(now, &tenant).ok_or_else(|| no_tenant(&tenant))?;
        let outcome = self.decide_durably(now, |worker, group, events| {
            let Some(group) = group else { return Ok(EndOutcome::NotFound) };
            let mut recorder = Recorder::new(group, &worker.shard, Some(events), now.utc_ms);
            let outcome = worker.app.deciding.engine.end_session(now, &tenant, &session, force, &mut recorder);
            let text = format!("ended by hand, force {force}: {outcome:?}");
            let about = Audit { tenant: &tenant, session: &session, ..Audit::new(AuditKind::Admin) };
            group.audit(&Audit { actor: &access.id, text: &text, ..about });
            Ok(outcome)
        });
        let (outcome, commit) = outcome.await?;
        Ok(marked(ended(outcome, "session", &session, &tenant)?, commit))
    }

    /// `DELETE /v1/tenants/{t}/subjects/{s}[?force=1]`; a large tenant is read, and much is ended, where nothing is
    /// decided, and in pieces between which every other change has its turn.
    pub(super) async fn end_subject(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let ((tenant, access), subject) = (allowed.into_parts(), call.variable(1)?);
        let force = call.query()?.is_set("force")?;
        let now = self.app.deciding.clock.now();
        self.app.deciding.engine.tenant(now, &tenant).ok_or_else(|| no_tenant(&tenant))?;
        let (of, whom) = (tenant.clone(), subject.clone());
        let (names, calls) =
            self.run_blocking(move |app| app.deciding.engine.sessions_of(&of, &whom).unwrap_or_default()).await?;
        let needs_force = calls && !force;
        let (of, whom, actor) = (tenant.clone(), subject.clone(), access.id.clone());
        // One piece of work that nobody can break off: whoever asked may be gone by now.
        let ending = self.record_blocking_by(move |app, writer, shard| {
            let (mut count, mut events) = (0, Vec::new());
            for piece in names.chunks(ENDED_AT_ONCE_MAX).filter(|_| !needs_force) {
                let (done, ticket) = writer.record(now.utc_ms, |group| {
                    let mut recorder = Recorder::new(group, shard, Some(&mut events), now.utc_ms);
                    let ends =
                        piece.iter().map(|name| app.deciding.engine.end_session(now, &of, name, true, &mut recorder));
                    ends.filter(|end| matches!(end, EndOutcome::Done { .. })).count()
                });
                // What is recorded after it is committed after it.
                ticket.commit_detached();
                count += u32::try_from(done).unwrap_or(u32::MAX);
            }
            let outcome = match count {
                _ if needs_force => EndOutcome::NeedsForce,
                0 => EndOutcome::NotFound,
                count => EndOutcome::Done { count },
            };
            let text = format!("ended by hand, force {force}: {outcome:?}");
            let ((), ticket) = writer.record(now.utc_ms, |group| {
                let about = Audit { tenant: &of, subject: &whom, ..Audit::new(AuditKind::Admin) };
                group.audit(&Audit { actor: &actor, text: &text, ..about });
            });
            events.into_iter().for_each(|event| app.publishing.events.publish(event));
            Ok((outcome, ticket))
        });
        let (outcome, commit) = ending.await?;
        Ok(marked(ended(outcome, "subject", &subject, &tenant)?, commit))
    }

    /// `PUT /v1/admin/log-level` with `filter` and `for_s`
    pub(super) async fn log_level(&self, call: &Call<'_>, allowed: Allowed, body: Incoming) -> HandlerResult {
        let access = allowed.access();
        let body = call.peer.collect(body, 4_096).await?;
        let wanted = LogLevel::parse(&body)?;
        let for_s = wanted.for_s.filter(|for_s| *for_s > 0);
        let Some(log) = self.app.publishing.log.clone() else {
            return Err(Problem::unavailable(60, "this process does not log by itself"));
        };
        let change = log
            .set(&wanted.filter)
            .map_err(|error| Problem::malformed("the filter cannot be read").error("/filter", error))?;
        tracing::info!(filter = wanted.filter, for_s, actor = access.id, "log level changed");
        let now = self.app.deciding.clock.now();
        let text = format!("log filter {}", wanted.filter);
        let (_, committed) = self.decide(now, |_, group, _| {
            if let Some(group) = group {
                group.audit(&Audit { actor: &access.id, text: &text, ..Audit::new(AuditKind::Admin) });
            }
        });
        committed.await;
        if let Some(for_s) = for_s {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_secs(for_s)).await;
                log.restore(change);
            });
        }
        let until = for_s.map(|for_s| rfc3339(now.utc_ms + for_s as i64 * 1_000));
        Ok(json(&LogLevelReply { code: Done::Ok.into(), filter: wanted.filter, until: until.map(Timestamp::from) }))
    }
}

/// The answer to a reload that was not rejected.
fn reloaded(dry_run: bool, applied: Applied) -> Reloaded {
    let code = match (dry_run, applied.rejected.is_empty(), applied.unchanged) {
        (true, ..) => ReloadCode::Planned,
        (_, false, _) => ReloadCode::Partly,
        (_, _, true) => ReloadCode::Unchanged,
        _ => ReloadCode::Applied,
    };
    Reloaded {
        code: code.into(),
        dry_run,
        hash: applied.hash,
        text: applied.diff.render(),
        diff: applied.diff,
        warnings: told(&applied.warnings),
        rejected: rejected(&applied.rejected),
        tenants_rejected: applied.rejected.len(),
        away: applied.away,
        certificates: told(&applied.certificates),
    }
}

fn told(problems: &[config::Problem]) -> Vec<ConfigProblem> {
    problems.iter().map(ConfigProblem::from).collect()
}

fn rejected(files: &[config::RejectedFile]) -> Vec<RejectedFile> {
    files.iter().take(FILES_SHOWN_MAX).map(RejectedFile::from).collect()
}

/// When tenants go whose files are away: at once, unless whoever asks wants something else of the reload.
fn removals(query: &Query) -> Result<Removals, Problem> {
    match query.get("removals").as_deref() {
        None | Some("at_once") => Ok(Removals::AtOnce),
        Some("delayed") => Ok(Removals::Delayed),
        Some(_) => Err(query.fault("removals", "must be at_once or delayed".to_owned())),
    }
}

/// The answer to ending by hand.
fn ended(outcome: EndOutcome, what: &str, id: &str, tenant: &str) -> HandlerResult {
    match outcome {
        EndOutcome::Done { count } => Ok(json(&Ended { code: EndedCode::Ended.into(), count })),
        EndOutcome::NotFound => {
            Err(Problem::new(ProblemKind::NotFound, format!("{what} {id:?} is not live in tenant {tenant}")))
        }
        EndOutcome::NeedsForce => {
            let detail =
                "a live call is concerned: its people keep talking, but it would not be counted any more; add ?force=1";
            Err(Problem::new(ProblemKind::Conflict, detail))
        }
    }
}

/// The purpose of a reload, in the caller's words.
fn note(query: &Query) -> Result<Option<String>, Problem> {
    match query.get("note") {
        Some(note) if note.len() > NOTE_BYTES_MAX || note.contains(char::is_control) => {
            let what = format!("must be at most {NOTE_BYTES_MAX} bytes without control characters");
            Err(Problem::malformed("a parameter is wrong").error("/note", what))
        }
        note => Ok(note),
    }
}

//! Tells everybody who should know what came of a reload: metrics, log, events, audit trail, `/v1/admin/config`.

use usherd_engine::Now;

use crate::daemon::app::reload_request::{Applied, Outcome, Request};
use crate::daemon::app::{App, Configuration};
use crate::daemon::config::{self, Problem};
use crate::daemon::events::{Event, EventResult, EventType};
use crate::daemon::journal::{Audit, AuditKind};
use crate::daemon::metrics::ReloadResult;

/// Tells the outcome of a reload. What is odd is told once: not where it was `known` before.
pub(super) fn announce(app: &App, now: Now, request: &Request, outcome: &Outcome, known: &[Problem]) {
    let (result, text) = match outcome {
        Ok(applied) if applied.unchanged => (ReloadResult::Unchanged, "nothing in force changed".to_owned()),
        Ok(applied) => (ReloadResult::Applied, applied.diff.render()),
        Err(rejection) => (ReloadResult::Rejected, rejection.to_string()),
    };
    app.publishing.metrics.reloaded(request.trigger, result);
    if request.sync.is_some() && outcome.is_err() {
        // The files are as good as before, and the publisher is asked again soon: the sync tells of it, once.
        return;
    }
    let is_news = note_state(&app.configuration, now, request, outcome);
    match outcome {
        Ok(applied) => {
            tracing::info!(trigger = ?request.trigger, actor = request.actor, "configuration {result:?}: {text}");
            log_warnings(applied.warnings.iter().filter(|warning| !known.contains(warning)));
        }
        Err(_) => {
            tracing::error!(trigger = ?request.trigger, actor = request.actor, "configuration rejected, the one before stays:\n{text}")
        }
    }
    let unchanged = matches!(outcome, Ok(applied) if applied.unchanged);
    if !unchanged {
        app.publishing.events.publish(Event::came_to(EventType::Config, result.into(), now.utc_ms, text.clone()));
    }
    let aside = outcome.as_ref().ok().filter(|_| is_news).map(tell_of_units);
    if let Some(aside) = aside.as_ref().filter(|aside| !aside.is_empty()) {
        let rejected = Event::came_to(EventType::Config, EventResult::Rejected, now.utc_ms, aside.clone());
        app.publishing.events.publish(rejected);
    }
    if !unchanged || request.note.is_some() || aside.is_some() {
        let text = [request.note.clone(), Some(text), aside].into_iter().flatten().collect::<Vec<_>>().join("\n");
        if let Some(writer) = app.deciding.writer() {
            let audit = Audit { actor: &request.actor, text: &text, ..Audit::new(AuditKind::Reload) };
            writer.record(now.utc_ms, |group| group.audit(&audit)).1.commit_detached();
        }
    }
}

/// Notes the outcome in the state of the configuration; true if other files or certificates are bad or away than
/// before.
fn note_state(configuration: &Configuration, now: Now, request: &Request, outcome: &Outcome) -> bool {
    let mut is_news = false;
    let mut state = configuration.state.lock();
    state.successful = outcome.is_ok();
    match outcome {
        Ok(applied) => {
            state.problems.clear();
            state.from_last_good = false;
            state.waits_for_restart = config::waiting(&state.started, &configuration.running.get().effective);
            if request.sync.is_none() {
                is_news = state.certificates != applied.certificates;
                state.certificates.clone_from(&applied.certificates);
            }
            is_news |= applied.is_news;
            if !applied.unchanged {
                state.loaded_utc_ms = now.utc_ms;
            }
        }
        Err(rejection) => state.problems = rejection.problems().to_vec(),
    }
    is_news
}

/// Tells the log of tenant files and certificates that are not taken while all else is, and answers the same as a
/// text; empty where everything is good again.
fn tell_of_units(applied: &Applied) -> String {
    for file in &applied.away {
        tracing::warn!(file, "the file is missing, or drops tenants; they stay in force for removal_delay_s");
    }
    for problem in &applied.certificates {
        tracing::error!(%problem, "a certificate cannot be used; the one that is shown stays");
    }
    if !applied.rejected.is_empty() {
        tracing::error!("{}", config::render_rejected(&applied.rejected, false));
    }
    let certificates: String =
        applied.certificates.iter().map(|problem| format!("{}\n", problem.render(false))).collect();
    config::render_rejected(&applied.rejected, false) + &certificates
}

/// Tells of what is odd in a configuration and taken nevertheless.
pub(super) fn log_warnings<'a>(warnings: impl IntoIterator<Item = &'a Problem>) {
    for warning in warnings {
        tracing::warn!(code = warning.code.as_str(), help = warning.help, "configuration: {warning}");
    }
}

impl From<ReloadResult> for EventResult {
    fn from(result: ReloadResult) -> Self {
        match result {
            ReloadResult::Applied => EventResult::Applied,
            ReloadResult::Unchanged => EventResult::Unchanged,
            ReloadResult::Rejected => EventResult::Rejected,
        }
    }
}

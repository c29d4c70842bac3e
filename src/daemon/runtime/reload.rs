//! The one way in which a running daemon takes up a configuration: by verb, signal, HTTP or file watch.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use usherd_engine::plan::Plan;
use usherd_engine::{Name, Now, Standing};

use super::certificates;
use super::schedule::{ChangeContext, Schedule};
use crate::daemon::access::auth::{
    Access, AuthSettings, Authenticator, CertificateRule, Credential, FailureLimit, Role, TokenHash,
};
use crate::daemon::app::recorder::Recorder;
use crate::daemon::app::reload_request::{Applied, Outcome, Request, SyncStep};
use crate::daemon::app::{App, Deciding, Knobs, ListenerInfo, edge_limits};
use crate::daemon::clock::Clock;
use crate::daemon::config::{self, Attempt, Config, Problem, Rejection, Reload, Running, Tenant, TenantSeries};
use crate::daemon::events::{Event, EventResult, EventType};
use crate::daemon::history::store::Limits;
use crate::daemon::journal::{Audit, AuditKind};
use crate::daemon::metrics::{Metrics, ReloadResult, TenantExport, TenantMode};
use crate::daemon::sync::keeper::{DiskAndRecords, Keeper, Pulled};
use crate::daemon::text::utc;

/// Reads, compares and takes up; runs on a thread that decides nothing. It is read as of an instant, and taken up as of
/// the one at which it is read: that may be much later, where a file system hangs.
pub(super) fn reload(app: &App, schedule: &Mutex<Schedule>, now: Now, request: &Request) -> Outcome {
    let held = |tenant: &str| app.deciding.engine.tenant(now, tenant).map(|view| view.held);
    // By the time that is trusted: a wrong clock makes no good file bad.
    let trusted = utc(Now { utc_ms: app.deciding.trusted_utc_ms(now), ..now });
    let attempt = Attempt { now: trusted, uptime_ms: now.uptime_ms, force: request.force, removals: request.removals };
    if request.dry_run {
        let plan = app.configuration.running.plan(&app.configuration.keeper.files(), &attempt, held)?;
        let certificates = certificates::look(&plan.config.settings, folder(&plan.config), utc(now));
        return Ok(Applied { certificates, ..applied(plan) });
    }
    let pulled = match &request.sync {
        Some(SyncStep::Confirm { etag }) => return Ok(confirm(app, schedule, now, etag.as_deref())),
        Some(SyncStep::Take(pulled)) => Some(pulled),
        None => None,
    };
    let at = app.deciding.confirmation(now).at;
    let files =
        pulled.map_or_else(|| app.configuration.keeper.files(), |pulled| DiskAndRecords::with(&pulled.bundle, at));
    let remember = || pulled.map_or(Ok(()), |pulled| remember(&app.deciding, &app.configuration.keeper, now, pulled));
    let known = app.configuration.running.get().warnings.clone();
    let mut swap = Swap::new(&*app.deciding.clock, schedule);
    let done = app.configuration.running.reload_kept(&files, &attempt, held, remember, |reload: &Reload| {
        let now = swap.begin();
        take_up(app, now, &reload.config);
    });
    swap.end();
    if let Ok(reload) = &done
        && !reload.unchanged
    {
        keep(&app.configuration.running, now, &reload.config);
    }
    let mut outcome = done.map(applied);
    if let Ok(applied) = &mut outcome
        && pulled.is_none()
    {
        let config = app.configuration.running.get();
        applied.certificates = renew_certificates(&config, &app.serving.listeners, &app.publishing.metrics, now);
    }
    if pulled.is_some() && outcome.as_ref().is_ok_and(|applied| applied.unchanged) {
        // The same records under a new serial: what is in force is confirmed by it.
        put_confirmed(app, schedule, at);
    }
    tell(app, now, request, &outcome, &known);
    outcome
}

fn applied(reload: Reload) -> Applied {
    let Reload { config, diff, unchanged, is_news, .. } = reload;
    Applied {
        hash: config.hash.clone(),
        diff,
        unchanged,
        is_news,
        warnings: config.warnings.clone(),
        rejected: config.rejected.clone(),
        away: config.away.iter().map(|path| path.display().to_string()).collect(),
        certificates: Vec::new(),
    }
}

/// The folder of `usherd.toml`.
fn folder(config: &Config) -> &Path {
    config.main().parent().unwrap_or(Path::new("."))
}

/// Tells of what is odd in a configuration and taken nevertheless.
pub fn log_warnings<'a>(warnings: impl IntoIterator<Item = &'a Problem>) {
    for warning in warnings {
        tracing::warn!(code = warning.code.as_str(), help = warning.help, "configuration: {warning}");
    }
}

/// Stores a bundle before it is in force; its serial goes into the journal too, which outlives a lost file.
fn remember(deciding: &Deciding, keeper: &Keeper, now: Now, pulled: &Pulled) -> Result<(), Rejection> {
    let mark = |key: &str, serial: u64| {
        if let Some(writer) = deciding.writer() {
            drop(writer.record(now.utc_ms, |group| group.mark(key, serial)).1);
        }
    };
    keeper.keep(pulled, deciding.confirmation(now), mark).map_err(|why| {
        let help = "make room in the state directory, and let this user write it";
        Rejection::NotKept { problems: vec![Problem::of_file("sync", why).help(help)] }
    })
}

/// The publisher stands by what is held: nothing is read anew, only what is stale comes back (J7).
fn confirm(app: &App, schedule: &Mutex<Schedule>, now: Now, etag: Option<&str>) -> Applied {
    let config = app.configuration.running.get();
    let confirmation = app.deciding.confirmation(now);
    app.configuration.keeper.confirm(confirmation, &config.settings.sync.url, etag);
    put_confirmed(app, schedule, confirmation.at);
    Applied {
        hash: config.hash.clone(),
        diff: config::Diff::default(),
        unchanged: true,
        is_news: false,
        warnings: Vec::new(),
        rejected: config.rejected.clone(),
        away: Vec::new(),
        certificates: Vec::new(),
    }
}

/// The moment in which one configuration takes the place of another. Up to it time does what is booked, by the
/// one before; from its end on by the new one; in between nobody does. So nothing is told twice, or by nobody, and what
/// waits for a disk is outside of it.
struct Swap<'a> {
    clock: &'a dyn Clock,
    schedule: &'a Mutex<Schedule>,
    held: Option<MutexGuard<'a, Schedule>>,
}

impl<'a> Swap<'a> {
    fn new(clock: &'a dyn Clock, schedule: &'a Mutex<Schedule>) -> Self {
        Swap { clock, schedule, held: None }
    }

    /// Does what is due by now; from here on the schedule waits. The instant as of which all is put in force.
    fn begin(&mut self) -> Now {
        let schedule = self.held.insert(self.schedule.lock());
        let now = self.clock.now();
        schedule.tick(now);
        now
    }

    /// The new configuration is in force: the schedule goes on by it.
    fn end(self) {
        if let Some(mut schedule) = self.held {
            schedule.refresh(self.clock.now());
        }
    }
}

/// Puts it in force that the publisher confirmed at an instant all that was pulled.
fn put_confirmed(app: &App, schedule: &Mutex<Schedule>, at: DateTime<Utc>) {
    let mut swap = Swap::new(&*app.deciding.clock, schedule);
    app.configuration.running.confirm(at, |before, config| {
        let now = swap.begin();
        install_confirmed(app, now, before, config);
    });
    swap.end();
}

/// Tells the engine only where the confirmation makes a difference to it, which it seldom does.
fn install_confirmed(app: &App, now: Now, before: &Config, config: &Config) {
    let at = app.deciding.timelines(now);
    let state = |tenant: &Tenant| tenant.entitlement(at).state;
    let mut synced = config.tenants.iter().filter(|(_, tenant)| tenant.is_synced());
    if synced.any(|(id, tenant)| before.tenants.get(id).is_some_and(|old| state(old) != state(tenant))) {
        install(app, now, config);
    }
}

/// Puts a configuration in force: the engine's plan, who may do what, what is exported and logged.
pub fn take_up(app: &App, now: Now, config: &Config) {
    install(app, now, config);
    app.configuration.auth.store(Arc::new(authenticator(config)));
    app.publishing.metrics.export_tenants(tenant_export(config));
    app.publishing.webhooks.configure(&config.settings.webhooks);
    app.publishing.history.set_limits(Limits::of(&config.settings.history));
    app.deciding.knobs.store(Arc::new(Knobs::of(config, app.deciding.workers)));
    app.serving.edge.set_limits(edge_limits(config));
    if let Some(log) = &app.publishing.log
        && let Err(error) = log.configure(&config.settings.log.filter)
    {
        tracing::error!(
            filter = config.settings.log.filter,
            error,
            "the log filter cannot be read; the one before stays"
        );
    }
}

/// Takes up the certificates that stand in the files of the listeners by now, which are no part of the configuration;
/// answers those that cannot be used, in whose place the ones before stay.
fn renew_certificates(config: &Config, listeners: &[ListenerInfo], metrics: &Metrics, now: Now) -> Vec<Problem> {
    let faults = certificates::faults(&config.settings, folder(config), utc(now));
    let mut problems = certificates::told(&faults);
    for listener in listeners {
        let Some(served) = &listener.tls else { continue };
        if faults.iter().any(|fault| fault.is_of(&served.cert_file, &served.key_file)) {
            continue;
        }
        match served.renew() {
            Ok(true) => tracing::info!(listener = listener.name, "another certificate is shown from now on"),
            Ok(false) => {}
            Err(why) => problems.push(certificates::problem(&served.cert_file, why)),
        }
    }
    show_certificates(listeners, metrics);
    problems
}

/// Tells the metrics when the certificates that are shown expire.
pub fn show_certificates(listeners: &[ListenerInfo], metrics: &Metrics) {
    let expiry = |listener: &'_ ListenerInfo| listener.tls.as_ref()?.certificate.expires_s();
    let expiries: Vec<_> =
        listeners.iter().filter_map(|listener| Some((listener.name.as_str(), expiry(listener)?))).collect();
    metrics.set_tls_expiries(&expiries);
}

/// Gives the engine the plan of a configuration at an instant; what ended by it goes to the journal.
pub fn install(app: &App, now: Now, config: &Config) {
    let plan = config.plan(app.deciding.timelines(now));
    let ended = newly_ended(app, now, config, &plan);
    let shard = app.publishing.metrics.shard();
    match app.deciding.writer() {
        None => app.deciding.engine.install(now, plan, &mut ()),
        Some(writer) => {
            let mut events = Vec::new();
            let (_, ticket) = writer.record(now.utc_ms, |group| {
                let mut turn =
                    ChangeContext { deciding: &app.deciding, counts: &shard, now, group, events: &mut events };
                ended.iter().for_each(|tenant| turn.end(tenant));
                app.deciding.engine.install(
                    now,
                    plan,
                    &mut Recorder::new(group, &shard, Some(&mut events), now.utc_ms),
                );
            });
            ticket.commit_detached();
            events.into_iter().for_each(|event| app.publishing.events.publish(event));
        }
    }
}

/// Whom a plan ends who has not ended yet (J6): by their record, or because they are gone from the configuration.
/// Nobody at the start, where the schedule tells what ended while the daemon was stopped.
fn newly_ended(app: &App, now: Now, config: &Config, plan: &Plan) -> Vec<Arc<Tenant>> {
    if !app.serving.is_ready() {
        return Vec::new();
    }
    let running = app.configuration.running.get();
    let planned = plan.tenants.iter().filter(|tenant| tenant.entitled.standing == Standing::Ended);
    let planned = planned.filter_map(|tenant| config.tenants.get(&tenant.id));
    let removed = running.tenants.values().filter(|tenant| !config.tenants.contains_key(&tenant.id));
    let live = |tenant: &Tenant| {
        app.deciding.engine.tenant(now, &tenant.id).is_some_and(|view| view.standing != Standing::Ended)
    };
    planned.chain(removed).filter(|tenant| live(tenant)).cloned().collect()
}

fn keep(running: &Running, now: Now, config: &Config) {
    let state = config.state_dir(std::env::var("STATE_DIRECTORY").ok().as_deref());
    if let Err(error) = config::store(&state, config) {
        tracing::warn!(folder = %state.display(), %error, "the last good configuration cannot be kept; a bad file at the next start will stop it");
    }
    note_accounts(running, now, &state, config);
}

/// Remembers who is on trial or paid (J3).
pub fn note_accounts(running: &Running, now: Now, state: &Path, config: &Config) {
    if let Err(error) = running.note_accounts(state, config, utc(now)) {
        tracing::warn!(folder = %state.display(), %error, "who is on trial or paid cannot be kept; after a restart a second trial may go unseen");
    }
}

/// Everybody who should know: metrics, log, listeners, the audit trail, `/v1/admin/config`.
/// What is odd is told once: not where it was `known` before.
fn tell(app: &App, now: Now, request: &Request, outcome: &Outcome, known: &[Problem]) {
    let (result, text) = match outcome {
        Ok(applied) if applied.unchanged => (ReloadResult::Unchanged, "nothing that is in force is another".to_owned()),
        Ok(applied) => (ReloadResult::Applied, applied.diff.render()),
        Err(rejection) => (ReloadResult::Rejected, rejection.to_string()),
    };
    app.publishing.metrics.reloaded(request.trigger, result);
    if request.sync.is_some() && outcome.is_err() {
        // The files are as good as before, and the publisher is asked again soon: the sync tells of it, once.
        return;
    }
    let mut is_news = false;
    {
        let mut state = app.configuration.state.lock();
        state.successful = outcome.is_ok();
        match outcome {
            Ok(applied) => {
                state.problems.clear();
                state.from_last_good = false;
                state.waits_for_restart = config::waiting(&state.started, &app.configuration.running.get().effective);
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
    }
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
        app.publishing.events.publish(Event::came_to(
            EventType::Config,
            EventResult::Rejected,
            now.utc_ms,
            aside.clone(),
        ));
    }
    if !unchanged || request.note.is_some() || aside.is_some() {
        let text = [request.note.clone(), Some(text), aside].into_iter().flatten().collect::<Vec<_>>().join("\n");
        if let Some(writer) = app.deciding.writer() {
            let audit = Audit { actor: &request.actor, text: &text, ..Audit::new(AuditKind::Reload) };
            drop(writer.record(now.utc_ms, |group| group.audit(&audit)).1);
        }
    }
}

/// Tells the log of tenant files and certificates that are not taken while all else is, and answers the same as a
/// text; empty where everything is good again.
fn tell_of_units(applied: &Applied) -> String {
    for file in &applied.away {
        tracing::warn!(file, "the file is away, or drops tenants; what was in force of it stays for removal_delay_s");
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

/// Who may do what, as configured.
pub fn authenticator(config: &Config) -> Authenticator {
    let access = |id: &str, role: config::Role, tenants: &[Name], nodes: &[String], names| Access {
        tenants: tenants.iter().map(ToString::to_string).collect(),
        nodes: nodes.to_vec(),
        names,
        ..Access::new(id, Role::from_word(role.as_str()).unwrap_or(Role::Viewer))
    };
    let settings = &config.settings;
    let credentials = settings.auth.tokens.iter().map(|token| Credential {
        access: access(&token.id, token.role, &token.tenants, &token.nodes, token.names),
        tokens: vec![TokenHash::from_bytes(token.sha256)],
    });
    let certificates = settings.auth.certificates.iter().map(|rule| CertificateRule {
        name: rule.name.clone(),
        access: access(&rule.name, rule.role, &rule.tenants, &rule.nodes, rule.names),
    });
    let per_minute = settings.server.auth_failures_per_minute;
    Authenticator::new(AuthSettings {
        credentials: credentials.collect(),
        certificates: certificates.collect(),
        insecure: settings.server.insecure,
        names: settings.server.names.clone(),
        own_uid: rustix::process::getuid().as_raw(),
        failures: FailureLimit { burst: per_minute, per_minute },
    })
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

fn tenant_export(config: &Config) -> TenantExport {
    let metrics = &config.settings.metrics;
    TenantExport {
        mode: match metrics.tenants {
            TenantSeries::Top => TenantMode::Top,
            TenantSeries::All => TenantMode::All,
            TenantSeries::Watch => TenantMode::Watch,
            TenantSeries::None => TenantMode::None,
        },
        top: metrics.top as usize,
        noticed_max: metrics.always_max as usize,
        watch: metrics.watch.iter().cloned().collect(),
        ..TenantExport::default()
    }
}

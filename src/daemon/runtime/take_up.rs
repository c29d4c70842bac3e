//! Puts a configuration in force in a running daemon: in the engine, at the listeners, in the log.

use std::sync::Arc;

use usherd_engine::plan::Plan;
use usherd_engine::{Engine, Name, Now, Standing};

use super::schedule::ChangeContext;
use crate::daemon::access::auth::{
    Access, AuthSettings, Authenticator, CertificateRule, Credential, FailureLimit, Role, TokenHash,
};
use crate::daemon::app::recorder::Recorder;
use crate::daemon::app::{App, Knobs, edge_limits};
use crate::daemon::config::{self, Config, Tenant, TenantSeries};
use crate::daemon::history::store::Limits;
use crate::daemon::metrics::{TenantExport, TenantMode};

/// Puts a configuration in force: the engine's plan, who may do what, what is exported and logged.
pub(super) fn take_up(app: &App, now: Now, config: &Config) {
    install(app, now, config);
    let App { deciding, publishing, configuration, serving } = app;
    configuration.auth.store(Arc::new(authenticator(config)));
    publishing.metrics.export_tenants(tenant_export(config));
    publishing.webhooks.configure(&config.settings.webhooks);
    publishing.history.set_limits(Limits::of(&config.settings.history));
    deciding.knobs.store(Arc::new(Knobs::of(config, deciding.workers)));
    serving.edge.set_limits(edge_limits(config));
    if let Some(log) = &publishing.log
        && let Err(error) = log.configure(&config.settings.log.filter)
    {
        tracing::error!(
            filter = config.settings.log.filter,
            error,
            "the log filter cannot be read; the one before stays"
        );
    }
}

/// Gives the engine the plan of a configuration at an instant; what ended by it goes to the journal.
pub(super) fn install(app: &App, now: Now, config: &Config) {
    let App { deciding, publishing, configuration, serving } = app;
    let engine = &deciding.engine;
    let plan = config.plan(deciding.timelines(now));
    let ended = match serving.is_ready() {
        true => newly_ended(engine, now, &configuration.running.get(), config, &plan),
        // At the start the schedule tells what ended while the daemon was stopped.
        false => Vec::new(),
    };
    let counts = publishing.metrics.shard();
    match deciding.writer() {
        None => engine.install(now, plan, &mut ()),
        Some(writer) => {
            let mut events = Vec::new();
            let (_, ends) = writer.record(now.utc_ms, |group| {
                let mut turn = ChangeContext { deciding, counts: &counts, now, group, events: &mut events };
                ended.iter().for_each(|tenant| turn.end(tenant));
            });
            // Much may end with it: no runtime waits until all of it has.
            let mut pieces = writer.pieces(now.utc_ms);
            engine.install(now, plan, &mut Recorder::new(&mut pieces, &counts, Some(&mut events), now.utc_ms));
            pieces.ticket().commit_detached();
            ends.commit_detached();
            events.into_iter().for_each(|event| publishing.events.publish(event));
        }
    }
}

/// The tenants that end by a plan and had not ended yet (J6): by their record, or because they are gone from the
/// configuration.
fn newly_ended(engine: &Engine, now: Now, before: &Config, config: &Config, plan: &Plan) -> Vec<Arc<Tenant>> {
    let planned = plan.tenants.iter().filter(|tenant| tenant.entitled.standing == Standing::Ended);
    let planned = planned.filter_map(|tenant| config.tenants.get(&tenant.id));
    let removed = before.tenants.values().filter(|tenant| !config.tenants.contains_key(&tenant.id));
    let live = |tenant: &Tenant| engine.tenant(now, &tenant.id).is_some_and(|view| view.standing != Standing::Ended);
    planned.chain(removed).filter(|tenant| live(tenant)).cloned().collect()
}

/// Tells the engine only where the confirmation makes a difference to it, which it seldom does.
pub(super) fn install_confirmed(app: &App, now: Now, before: &Config, config: &Config) {
    let at = app.deciding.timelines(now);
    let state = |tenant: &Tenant| tenant.entitlement(at).state;
    let mut synced = config.tenants.iter().filter(|(_, tenant)| tenant.is_synced());
    if synced.any(|(id, tenant)| before.tenants.get(id).is_some_and(|old| state(old) != state(tenant))) {
        install(app, now, config);
    }
}

/// The rights of everybody, as configured.
pub(super) fn authenticator(config: &Config) -> Authenticator {
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

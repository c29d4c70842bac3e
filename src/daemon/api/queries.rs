//! Reading: tenants, subjects, sessions, nodes, and the overview (API 4).
//!
//! Everything here is computed on a thread that decides nothing, from copies that the engine hands out.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use usherd_engine::{
    Direction, Engine, Kind, Name, Now, SessionFilter, SessionView, Standing, SubjectView, TenantView,
};
use usherd_subscription::civil::TZ_DATA_VERSION;
use usherd_subscription::entitlement::{State, Timelines};
use usherd_subscription::schedule::schedule;

use super::Worker;
use super::fullest::Fullest;
use super::query::Query;
use super::routes::{Allowed, Call, HandlerResult};
use crate::daemon::app::names::Sight;
use crate::daemon::app::{App, Deciding, Today};
use crate::daemon::config::{Config, Tenant};
use crate::daemon::events::{EventType, Events};
use crate::daemon::history::History;
use crate::daemon::http::Problem;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::metrics::Band;
use crate::daemon::subscriptions::item_shown;
use crate::daemon::text::{rfc3339, utc};

/// Most rows of a page.
const PAGE_MAX: usize = 1_000;
/// Denials that the overview tells.
const DENIALS_MAX: usize = 20;
/// Longest text that is searched for, bytes.
const SEARCH_BYTES_MAX: usize = 64;

/// `GET /v1/tenants?after=&limit=&state=&band=&search=`
pub(super) fn tenants(
    deciding: &Deciding,
    config: &Config,
    now: Now,
    query: &Query,
    permitted: &dyn Fn(&str) -> bool,
) -> Result<Value, Problem> {
    let (after, limit) = query.page(PAGE_MAX)?;
    let (state, band, search) = (query.get("state"), query.get("band"), search(query)?);
    let states = || State::ALL.iter().map(|state| state.as_str());
    if let Some(state) = &state
        && !states().any(|known| known == state)
    {
        return Err(query.fault("state", format!("must be one of {}", states().collect::<Vec<_>>().join(", "))));
    }
    let band = band
        .map(|word| {
            Band::from_word(&word).ok_or_else(|| {
                let words: Vec<&str> = Band::ALL.iter().map(|band| band.as_str()).collect();
                query.fault("band", format!("must be one of {}", words.join(", ")))
            })
        })
        .transpose()?;
    let called = search.as_deref().map(|part| called(config, part));
    let mut views = Vec::new();
    deciding.engine.each_tenant(now, |view| {
        let wanted = view.id.as_str() > after.as_str() && band.is_none_or(|band| band == band_of(view));
        // One that the configuration does not name any more is called by its id.
        let found = match (&called, &search) {
            (Some(_), Some(part)) if !view.configured => view.id.contains(part),
            (Some(called), _) => called.contains(&view.id),
            _ => true,
        };
        if wanted && found && permitted(&view.id) {
            views.push(view.clone());
        }
    });
    let at = deciding.timelines(now);
    if let Some(state) = &state {
        views.retain(|view| state_word(config, at, view) == state);
    }
    views.sort_by(|a, b| a.id.cmp(&b.id));
    let next = cut(&mut views, limit, |view| view.id.to_string());
    let rows = views.iter().map(|view| {
        let mut fields = tenant_fields(view, state_word(config, at, view));
        fields.insert("name".into(), json!(name_of(config, view)));
        Value::Object(fields)
    });
    Ok(page("tenants", rows.collect(), next))
}

/// The part of an id or name that is looked for, in lower case.
fn search(query: &Query) -> Result<Option<String>, Problem> {
    match query.get("search") {
        Some(part) if part.len() > SEARCH_BYTES_MAX => {
            Err(query.fault("search", format!("must be at most {SEARCH_BYTES_MAX} bytes")))
        }
        part => Ok(part.map(|part| part.to_lowercase())),
    }
}

/// The tenants with this in their id or name.
fn called<'a>(config: &'a Config, part: &str) -> HashSet<&'a Name> {
    let is_called = |tenant: &Tenant| tenant.id.contains(part) || tenant.name.to_lowercase().contains(part);
    config.tenants.iter().filter(|(_, tenant)| is_called(tenant)).map(|(id, _)| id).collect()
}

/// What people call it; the id of a tenant that the configuration does not name any more.
fn name_of<'a>(config: &'a Config, view: &'a TenantView) -> &'a str {
    config.tenants.get(&view.id).map_or(&view.id, |tenant| &tenant.name)
}

/// `GET /v1/tenants/{t}`
pub(super) fn tenant(
    deciding: &Deciding,
    config: &Config,
    today: &Today,
    now: Now,
    id: &str,
    sight: Sight<'_>,
) -> Result<Value, Problem> {
    let view = deciding.engine.tenant(now, id).ok_or_else(|| no_tenant(id))?;
    let at = deciding.timelines(now);
    let mut fields = tenant_fields(&view, state_word(config, at, &view));
    let today = today.of(id, &view);
    fields.insert("at".into(), json!(rfc3339(now.utc_ms)));
    fields.insert("peak_today".into(), json!(today.peak));
    fields.insert("denials_today".into(), json!(today.denials));
    fields.insert("sessions".into(), json!(view.sessions));
    fields.insert("names".into(), json!(sight.is_clear()));
    fields.insert("time_zone".into(), json!(config.settings.time_zone.0.name()));
    if let Some(tenant) = config.tenants.get(id) {
        fields.insert("name".into(), json!(tenant.name));
        fields.insert("source".into(), json!(tenant.source));
        fields.insert("next_change".into(), next_change(tenant, now));
        fields.insert("schedule".into(), booked(tenant, now));
        fields.insert("inclusive".into(), inclusive(tenant, &view, at));
    }
    Ok(Value::Object(fields))
}

/// Everything that is booked, each with the seats that the tenant has from then on.
fn booked(tenant: &Tenant, now: Now) -> Value {
    let items = schedule(&tenant.record, &tenant.terms, utc(now)).into_iter().map(|item| {
        let mut shown = item_shown(&item);
        shown.insert("seats_then".into(), json!(tenant.entitlement(item.effective_at).seats));
        Value::Object(shown)
    });
    items.collect()
}

/// L1 to L4: what the seats include, and what is over it.
fn inclusive(tenant: &Tenant, view: &TenantView, at: Timelines) -> Value {
    let inclusive = tenant.inclusive(at.wall);
    json!({
        "numbers": inclusive.numbers,
        "numbers_assigned": tenant.record.numbers,
        "surplus_numbers": inclusive.surplus_numbers,
        "channels": inclusive.channels,
        "channels_in_use": view.channels_inbound + view.channels_outbound,
        "endpoints": inclusive.endpoints,
        "endpoints_set_up": tenant.record.endpoints,
        "surplus_endpoints": inclusive.surplus_endpoints,
    })
}

/// `GET /v1/tenants/{t}/subjects`
pub(super) fn subjects(engine: &Engine, id: &str, query: &Query, sight: Sight<'_>) -> Result<Value, Problem> {
    let (after, limit) = query.page(PAGE_MAX)?;
    let read = |after: &str, limit| engine.subjects(id, after, limit);
    let mut rows = sight.page(id, &after, limit + 1, read).ok_or_else(|| no_tenant(id))?;
    let next = cut(&mut rows, limit, |row| row.subject.to_string());
    Ok(page("subjects", rows.iter().map(subject_row).collect(), next))
}

/// `GET /v1/tenants/{t}/subjects/{s}`
pub(super) fn subject(engine: &Engine, now: Now, id: &str, subject: &str, sight: Sight<'_>) -> Result<Value, Problem> {
    engine.tenant(now, id).ok_or_else(|| no_tenant(id))?;
    let filter = SessionFilter { subject: sight.find_subject(engine, id, subject), ..SessionFilter::default() };
    let read = |after: &str, limit| match filter.subject {
        Some(_) => engine.sessions(id, &filter, after, limit),
        None => None,
    };
    let sessions = sight.page(id, "", PAGE_MAX, read).unwrap_or_default();
    if sessions.is_empty() {
        let detail = format!("subject {subject:?} has no session in tenant {id}");
        return Err(Problem::new(ProblemKind::NotFound, detail));
    }
    let claims = sessions.iter().filter(|session| session.counts).count();
    let rows: Vec<Value> = sessions.iter().map(|session| session_row(now, session)).collect();
    Ok(json!({ "tenant": id, "subject": subject, "seated": claims > 0, "claims": claims, "sessions": rows }))
}

/// `GET /v1/tenants/{t}/sessions?kind=&node=&counts=`
pub(super) fn sessions(engine: &Engine, now: Now, id: &str, query: &Query, sight: Sight<'_>) -> Result<Value, Problem> {
    let (after, limit) = query.page(PAGE_MAX)?;
    let kind = match query.get("kind") {
        None => None,
        Some(word) => Some(Kind::from_word(&word).ok_or_else(|| {
            let words: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            query.fault("kind", format!("must be one of {}", words.join(", ")))
        })?),
    };
    engine.tenant(now, id).ok_or_else(|| no_tenant(id))?;
    let asked = query.get("subject");
    let subject = asked.as_deref().and_then(|seen| sight.find_subject(engine, id, seen));
    let nobody = asked.is_some() && subject.is_none();
    let filter =
        SessionFilter { kind, node: query.get("node").map(Name::from), counts: query.flag("counts")?, subject };
    let read = |after: &str, limit| if nobody { None } else { engine.sessions(id, &filter, after, limit) };
    // An unknown node or subject simply has no sessions here.
    let mut rows = sight.page(id, &after, limit + 1, read).unwrap_or_default();
    let next = cut(&mut rows, limit, |row| row.session.to_string());
    Ok(page("sessions", rows.iter().map(|row| session_row(now, row)).collect(), next))
}

/// `GET /v1/nodes`
pub(super) fn nodes(
    engine: &Engine,
    now: Now,
    query: &Query,
    permitted: &dyn Fn(&str) -> bool,
) -> Result<Value, Problem> {
    let (after, limit) = query.page(PAGE_MAX)?;
    let mut rows = engine.nodes(now);
    rows.retain(|row| row.node.as_str() > after.as_str() && permitted(&row.node));
    rows.sort_by(|a, b| a.node.cmp(&b.node));
    let next = cut(&mut rows, limit, |row| row.node.to_string());
    let rows = rows.iter().map(|node| {
        let ago_ms = now.uptime_ms.saturating_sub(node.last_seen_ms) as i64;
        let seen = node.epoch.map(|_| rfc3339(now.utc_ms - ago_ms));
        let state = if node.up {
            "up"
        } else if node.left {
            "left"
        } else {
            "silent"
        };
        json!({ "node": node.node, "epoch": node.epoch, "state": state, "last_seen": seen })
    });
    Ok(page("nodes", rows.collect(), next))
}

/// `GET /v1/overview`
pub(super) fn overview(app: &App, now: Now, sight: Sight<'_>) -> Value {
    let App { deciding, publishing, configuration, serving } = app;
    let (engine, config) = (&deciding.engine, configuration.running.get());
    let (mut held, mut quota, mut over, mut tenants) = (0u64, 0u64, 0u64, 0u64);
    let mut in_band = [0u64; Band::ALL.len()];
    let mut fullest = Fullest::default();
    engine.each_tenant(now, |view| {
        tenants += 1;
        held += u64::from(view.held);
        quota += u64::from(view.quota.unwrap_or(0));
        over += u64::from(view.over());
        fullest.see(view);
        in_band[band_of(view) as usize] += 1;
    });
    let bands: Map<String, Value> =
        Band::ALL.iter().map(|band| (band.to_string(), json!(in_band[*band as usize]))).collect();
    let by_kind = Kind::ALL.iter().map(|kind| {
        let (counting, free) = (engine.session_count(*kind, true), engine.session_count(*kind, false));
        (kind.as_str().to_owned(), json!({ "counting": counting, "free": free }))
    });
    let sessions: Map<String, Value> = by_kind.collect();
    let pools = engine.pools();
    let pools = pools.iter().map(|pool| {
        json!({
            "pool": pool.id, "licensed": pool.licensed, "unassigned": pool.unassigned(),
            "assigned_unused": pool.assigned_unused(), "in_use": pool.in_use, "over": pool.over(),
        })
    });
    let mut nodes = engine.nodes(now);
    // A name that never said hello has no lease to lose, and nobody waits for who said goodbye.
    nodes.retain(|node| node.epoch.is_some() && !node.left);
    let up = nodes.iter().filter(|node| node.up).count();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": serving.is_ready(),
        "at": rfc3339(now.utc_ms),
        "tenants": tenants, "held": held, "quota": quota, "over": over,
        "bands": bands, "sessions": sessions,
        "fullest": fullest_rows(engine, &config, now, fullest), "denials": denials(&publishing.events, sight), "pools": pools.collect::<Vec<_>>(),
        "nodes": { "up": up, "silent": nodes.len() - up },
        "journal": { "durability": deciding.durability(), "degraded": deciding.degraded() },
        "config": configuration.show(),
        "time": time(deciding, &config, now),
        "next_change": next_change_of_all(&config, now),
        "history": history(&publishing.history, &config),
        "sync": configuration.sync_status.show(&config, &configuration.keeper, deciding.timelines(now)),
    })
}

fn fullest_rows(engine: &Engine, config: &Config, now: Now, fullest: Fullest) -> Value {
    let views = fullest.ids().filter_map(|id| engine.tenant(now, &id));
    let rows = views.map(|view| {
        json!({
            "tenant": view.id, "name": name_of(config, &view), "quota": view.quota, "held": view.held,
            "free": view.free(), "over": view.over(), "band": band_of(&view).as_str(),
        })
    });
    rows.collect()
}

/// What was denied lately, the newest first.
fn denials(events: &Events, sight: Sight<'_>) -> Value {
    let latest = events.latest(EventType::Denied, DENIALS_MAX);
    let lines = latest.iter().map(|(id, event)| sight.event(event).to_json(*id));
    lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok()).collect()
}

/// What is kept of the past.
fn history(history: &History, config: &Config) -> Value {
    let status = history.status();
    let from = |at: Option<i64>| at.map(|at| rfc3339(at * 1_000));
    let bytes_max = config.settings.history.bytes_max;
    json!({
        "bytes": status.bytes, "bytes_max": bytes_max, "from": from(status.from_s), "detail_from": from(status.detail_from_s),
        "problem": status.problem,
    })
}

/// By which time subscriptions go.
pub(super) fn time(deciding: &Deciding, config: &Config, now: Now) -> Value {
    let timeline = deciding.timeline.lock();
    let waits_for = timeline.wait(now).map(|wait| if wait.for_proof { "confirmation" } else { "ten_minutes" });
    json!({
        "zone": config.settings.time_zone.0.name(),
        "tz_data": TZ_DATA_VERSION,
        "clock_steps": timeline.steps(),
        "wall_clock_trusted": timeline.at(now).old.is_none(),
        "waits_for": waits_for,
        "synchronised": deciding.clock.is_synchronised(),
    })
}

fn next_change_of_all(config: &Config, now: Now) -> Value {
    let Some((at, id)) = config.next_change(utc(now)) else { return Value::Null };
    let then = config.tenants.get(id).map(|tenant| tenant.entitlement(at));
    let (seats, state) = (then.and_then(|then| then.seats), then.map(|then| then.state.as_str()));
    json!({ "tenant": id, "at": rfc3339(at.timestamp_millis()), "seats": seats, "state": state })
}

fn band_of(view: &TenantView) -> Band {
    Band::of(view.held, view.quota)
}

/// The state of a tenant's subscription, in the words of the rule book.
pub(super) fn state_word(config: &Config, at: Timelines, view: &TenantView) -> &'static str {
    match config.tenants.get(&view.id) {
        Some(tenant) => tenant.entitlement(at).state.as_str(),
        None if view.standing == Standing::Active => "active",
        None => "ended",
    }
}

fn tenant_fields(view: &TenantView, state: &str) -> Map<String, Value> {
    let fields = json!({
        "tenant": view.id, "state": state, "quota": view.quota, "held": view.held, "free": view.free(),
        "over": view.over(), "peak": view.peak, "band": band_of(view).as_str(), "denials": view.denials,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What is booked next, by the wall clock alone.
fn next_change(tenant: &Tenant, now: Now) -> Value {
    let Some(at) = tenant.entitlement(utc(now)).next_change_at else { return Value::Null };
    let then = tenant.entitlement(at);
    json!({ "at": rfc3339(at.timestamp_millis()), "seats": then.seats, "state": then.state.as_str() })
}

fn subject_row(row: &SubjectView) -> Value {
    json!({ "subject": row.subject, "seated": row.seated, "claims": row.claims, "sessions": row.sessions })
}

fn session_row(now: Now, row: &SessionView) -> Value {
    let ends_in_s = row.deadline_ms.map(|deadline| deadline.saturating_sub(now.uptime_ms).div_ceil(1_000));
    let leg = (row.kind == Kind::Call).then(|| row.leg.as_str());
    let mut fields = json!({
        "session": row.session, "subject": row.subject, "kind": row.kind.as_str(),
        "direction": row.direction.map(Direction::as_str), "leg": leg,
        "device": row.device.map(|device| device.as_str()), "class": row.class.map(|class| class.as_str()),
        "counts": row.counts, "external": row.external, "orphan": row.orphan, "node": row.node,
        "epoch": row.epoch, "seq": row.seq, "first": row.first.as_str(),
        "started": rfc3339(row.started_utc_ms), "ends_in_s": ends_in_s,
    });
    if let Value::Object(fields) = &mut fields {
        fields.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
    }
    fields
}

fn cut<T>(rows: &mut Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Option<String> {
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(key)
}

fn page(noun: &str, rows: Vec<Value>, next: Option<String>) -> Value {
    let mut fields = Map::new();
    fields.insert(noun.to_owned(), Value::Array(rows));
    if let Some(next) = next {
        fields.insert("next".to_owned(), Value::String(next));
    }
    Value::Object(fields)
}

/// 404 for a tenant.
pub(super) fn no_tenant(id: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("tenant {id:?} is not configured and has no sessions"))
}

impl Worker {
    /// `GET /v1/tenants`
    pub(super) async fn list_tenants(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let (_, access) = allowed.into_parts();
        let (query, now) = (call.query()?, self.app.deciding.clock.now());
        let permitted = move |tenant: &str| access.sees(tenant);
        self.answer_blocking(move |app| {
            tenants(&app.deciding, &app.configuration.running.get(), now, &query, &permitted)
        })
        .await
    }

    /// `GET /v1/tenants/{t}`
    pub(super) async fn tenant(&self, allowed: Allowed) -> HandlerResult {
        let ((id, access), now) = (allowed.into_parts(), self.app.deciding.clock.now());
        self.answer_blocking(move |app| {
            let (config, sight) = (app.configuration.running.get(), app.publishing.sight(&access));
            tenant(&app.deciding, &config, &app.publishing.today, now, &id, sight)
        })
        .await
    }

    /// `GET /v1/tenants/{t}/subjects`
    pub(super) async fn subjects(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let ((id, access), query) = (allowed.into_parts(), call.query()?);
        self.answer_blocking(move |app| subjects(&app.deciding.engine, &id, &query, app.publishing.sight(&access)))
            .await
    }

    /// `GET /v1/tenants/{t}/subjects/{s}`
    pub(super) async fn subject(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let ((id, access), name, now) = (allowed.into_parts(), call.variable(1)?, self.app.deciding.clock.now());
        self.answer_blocking(move |app| subject(&app.deciding.engine, now, &id, &name, app.publishing.sight(&access)))
            .await
    }

    /// `GET /v1/tenants/{t}/sessions`
    pub(super) async fn sessions(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let ((id, access), query, now) = (allowed.into_parts(), call.query()?, self.app.deciding.clock.now());
        self.answer_blocking(move |app| sessions(&app.deciding.engine, now, &id, &query, app.publishing.sight(&access)))
            .await
    }

    /// `GET /v1/overview`
    pub(super) async fn overview(&self, allowed: Allowed) -> HandlerResult {
        let (_, access) = allowed.into_parts();
        if !access.tenants.is_empty() {
            let detail = format!("{} is for some tenants only; ask for each at /v1/tenants/{{tenant}}", access.id);
            return Err(Problem::new(ProblemKind::NotPermitted, detail));
        }
        let now = self.app.deciding.clock.now();
        self.answer_blocking(move |app| Ok(overview(app, now, app.publishing.sight(&access)))).await
    }
}

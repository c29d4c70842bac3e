//! Reading: tenants, subjects, sessions and nodes (API 4).
//!
//! Everything here is computed on a thread that decides nothing, from copies that the engine hands out.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use usherd_contract::word::Word;
use usherd_engine::{Engine, Kind, Name, Now, SessionFilter, SessionView, Standing, SubjectView, TenantView};
use usherd_subscription::entitlement::{State, Timelines};
use usherd_subscription::schedule::schedule;

use super::Worker;
use super::query::Query;
use super::routes::{Allowed, Call, HandlerResult};
use super::whole::{Whole, first_rows};
use crate::answers::Timestamp;
use crate::answers::nodes::{NodeRow, NodeState, Nodes};
use crate::answers::sessions::{SessionRow, Sessions, Subject, SubjectRow, Subjects};
use crate::answers::subscriptions::Booked;
use crate::answers::tenants::{self, Inclusive, NextChange, TenantFigures, TenantRow, Tenants};
use crate::answers::words::Band;
use crate::daemon::app::names::Sight;
use crate::daemon::app::{Deciding, Today};
use crate::daemon::config::{Config, Tenant};
use crate::daemon::http::Problem;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::subscriptions::item_shown;
use crate::daemon::text::{rfc3339, utc};

/// Most rows of a page.
pub(super) const PAGE_MAX: usize = 1_000;
/// Longest text that is searched for, bytes.
pub(super) const SEARCH_BYTES_MAX: usize = 64;

/// `GET /v1/tenants?after=&limit=&state=&band=&search=`
pub(super) fn tenants(
    deciding: &Deciding,
    config: &Config,
    now: Now,
    query: &Query,
    permitted: &dyn Fn(&str) -> bool,
) -> Result<Tenants, Problem> {
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
        views.retain(|view| state_of(config, at, view).as_str() == state);
    }
    views.sort_by(|a, b| a.id.cmp(&b.id));
    let next = cut(&mut views, limit, |view| view.id.to_string());
    let rows = views.iter().map(|view| TenantRow {
        figures: figures(view, state_of(config, at, view)),
        name: name_of(config, view).to_owned(),
    });
    Ok(Tenants { tenants: rows.collect(), next, missing: Vec::new() })
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

/// The name for people; the id of a tenant that the configuration does not name any more.
pub(super) fn name_of<'a>(config: &'a Config, view: &'a TenantView) -> &'a str {
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
) -> Result<tenants::Tenant, Problem> {
    let view = deciding.engine.tenant(now, id).ok_or_else(|| no_tenant(id))?;
    let at = deciding.timelines(now);
    let today = today.of(id, &view);
    let tenant = config.tenants.get(id);
    Ok(tenants::Tenant {
        figures: figures(&view, state_of(config, at, &view)),
        at: rfc3339(now.utc_ms).into(),
        name: tenant.map(|tenant| tenant.name.clone()),
        source: tenant.map(|tenant| tenant.source.clone()),
        time_zone: config.settings.time_zone.0.name().to_owned(),
        sessions: view.sessions,
        names: sight.is_clear(),
        peak_today: today.peak,
        denials_today: today.denials,
        next_change: tenant.map(|tenant| next_change(tenant, now)),
        schedule: tenant.map(|tenant| booked(tenant, now)),
        inclusive: tenant.map(|tenant| inclusive(tenant, &view, at)),
    })
}

/// Everything that is booked, each with the seats that the tenant has from then on.
fn booked(tenant: &Tenant, now: Now) -> Vec<Booked> {
    let items = schedule(&tenant.record, &tenant.terms, utc(now)).into_iter().map(|item| {
        let then = tenant.entitlement(item.effective_at);
        Booked { seats_then: Some(then.seats), ..item_shown(&item) }
    });
    items.collect()
}

/// L1 to L4: what the seats include, and what is over it.
fn inclusive(tenant: &Tenant, view: &TenantView, at: Timelines) -> Inclusive {
    let inclusive = tenant.inclusive(at.wall);
    Inclusive {
        numbers: inclusive.numbers,
        numbers_assigned: tenant.record.numbers,
        surplus_numbers: inclusive.surplus_numbers,
        channels: inclusive.channels,
        channels_in_use: view.channels_inbound + view.channels_outbound,
        endpoints: inclusive.endpoints,
        endpoints_set_up: tenant.record.endpoints,
        surplus_endpoints: inclusive.surplus_endpoints,
    }
}

/// `GET /v1/tenants/{t}/subjects`
pub(super) fn subjects(engine: &Engine, id: &str, query: &Query, sight: Sight<'_>) -> Result<Subjects, Problem> {
    let (after, limit) = query.page(PAGE_MAX)?;
    let read = |after: &str, limit| engine.subjects(id, after, limit);
    let mut rows = sight.page(id, &after, limit + 1, read).ok_or_else(|| no_tenant(id))?;
    let next = cut(&mut rows, limit, |row| row.subject.to_string());
    Ok(Subjects { subjects: rows.iter().map(subject_row).collect(), next })
}

/// `GET /v1/tenants/{t}/subjects/{s}`
pub(super) fn subject(
    engine: &Engine,
    now: Now,
    id: &str,
    subject: &str,
    sight: Sight<'_>,
) -> Result<Subject, Problem> {
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
    Ok(Subject {
        tenant: id.to_owned(),
        subject: subject.to_owned(),
        seated: claims > 0,
        claims,
        sessions: sessions.iter().map(|session| session_row(now, session)).collect(),
    })
}

/// `GET /v1/tenants/{t}/sessions?kind=&node=&counts=`
pub(super) fn sessions(
    engine: &Engine,
    now: Now,
    id: &str,
    query: &Query,
    sight: Sight<'_>,
) -> Result<Sessions, Problem> {
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
    Ok(Sessions { sessions: rows.iter().map(|row| session_row(now, row)).collect(), next })
}

/// `GET /v1/nodes`
pub(super) fn nodes(
    engine: &Engine,
    now: Now,
    query: &Query,
    permitted: &dyn Fn(&str) -> bool,
) -> Result<Nodes, Problem> {
    let (after, limit) = query.page(PAGE_MAX)?;
    let mut rows = engine.nodes(now);
    rows.retain(|row| row.node.as_str() > after.as_str() && permitted(&row.node));
    rows.sort_by(|a, b| a.node.cmp(&b.node));
    let next = cut(&mut rows, limit, |row| row.node.to_string());
    let rows = rows.iter().map(|node| {
        let ago_ms = now.uptime_ms.saturating_sub(node.last_seen_ms) as i64;
        let state = match (node.up, node.left) {
            (true, _) => NodeState::Up,
            (false, true) => NodeState::Left,
            (false, false) => NodeState::Silent,
        };
        NodeRow {
            node: node.node.to_string(),
            epoch: node.epoch,
            state: state.into(),
            last_seen: node.epoch.map(|_| rfc3339(now.utc_ms - ago_ms).into()),
        }
    });
    Ok(Nodes { nodes: rows.collect(), next, missing: Vec::new() })
}

fn band_of(view: &TenantView) -> Band {
    Band::of(view.held, view.quota)
}

/// The state of a tenant's subscription.
fn state_of(config: &Config, at: Timelines, view: &TenantView) -> State {
    match config.tenants.get(&view.id) {
        Some(tenant) => tenant.entitlement(at).state,
        None if view.standing == Standing::Active => State::Active,
        None => State::Ended,
    }
}

fn figures(view: &TenantView, state: State) -> TenantFigures {
    TenantFigures {
        tenant: view.id.to_string(),
        state: state.into(),
        quota: view.quota,
        held: view.held,
        free: view.free(),
        over: view.over(),
        peak: view.peak,
        band: band_of(view).into(),
        denials: view.denials,
    }
}

/// The next booking, by the wall clock alone.
fn next_change(tenant: &Tenant, now: Now) -> Option<NextChange> {
    let at = tenant.entitlement(utc(now)).next_change_at?;
    let then = tenant.entitlement(at);
    Some(NextChange { at: rfc3339(at.timestamp_millis()).into(), seats: then.seats, state: then.state.into() })
}

fn subject_row(row: &SubjectView) -> SubjectRow {
    SubjectRow { subject: row.subject.to_string(), seated: row.seated, claims: row.claims, sessions: row.sessions }
}

fn session_row(now: Now, row: &SessionView) -> SessionRow {
    let named = |name: &Name| (!name.is_empty()).then(|| name.to_string());
    SessionRow {
        session: row.session.to_string(),
        subject: named(&row.subject),
        kind: row.kind.into(),
        direction: row.direction.map(Word::from),
        leg: (row.kind == Kind::Call).then(|| row.leg.into()),
        device: row.device.map(Word::from),
        class: row.class.map(Word::from),
        counts: row.counts,
        external: row.external,
        orphan: row.orphan,
        node: named(&row.node),
        epoch: row.epoch,
        seq: row.seq,
        first: row.first.into(),
        started: rfc3339(row.started_utc_ms).into(),
        ends_in_s: row.deadline_ms.map(|deadline| deadline.saturating_sub(now.uptime_ms).div_ceil(1_000)),
    }
}

fn cut<T>(rows: &mut Vec<T>, limit: usize, key: impl Fn(&T) -> String) -> Option<String> {
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(key)
}

/// 404 for a tenant.
pub(super) fn no_tenant(id: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("tenant {id:?} is not configured and has no sessions"))
}

impl Whole for Tenants {
    fn join(&mut self, others: Vec<Self>, missing: Vec<String>, limit: usize) {
        let all = std::iter::once(std::mem::take(self)).chain(others);
        let pages = all.map(|page| (page.tenants, page.next)).collect();
        let (tenants, next) = first_rows(pages, limit, |row| &row.figures.tenant, |_, _| Ordering::Equal);
        *self = Tenants { tenants, next, missing };
    }
}

impl Whole for Nodes {
    fn join(&mut self, others: Vec<Self>, missing: Vec<String>, limit: usize) {
        // Each member hears every node, unless it could not be told: the latest sign of life counts.
        let sign =
            |row: &NodeRow| (row.state == NodeState::Up.into(), row.last_seen.as_ref().and_then(Timestamp::instant));
        let all = std::iter::once(std::mem::take(self)).chain(others);
        let pages = all.map(|page| (page.nodes, page.next)).collect();
        let (nodes, next) = first_rows(pages, limit, |row| &row.node, |a, b| sign(a).cmp(&sign(b)));
        *self = Nodes { nodes, next, missing };
    }
}

impl Worker {
    /// `GET /v1/tenants`
    pub(super) async fn list_tenants(&self, call: &Call<'_>, allowed: Allowed) -> HandlerResult {
        let access = Arc::clone(allowed.access());
        let (query, now) = (call.query()?, self.app.deciding.clock.now());
        let (_, limit) = query.page(PAGE_MAX)?;
        self.answer_whole(call, &allowed, limit, move |app| {
            let permitted = |tenant: &str| access.sees(tenant) && app.deciding.decides(tenant);
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
}

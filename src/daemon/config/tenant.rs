//! Reads one tenant, from a file of its own or from a `[[tenant]]` table.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use usherd_contract::file::nearest;
use usherd_engine::plan::{Entitled, Policy, TenantPlan};
use usherd_engine::session::{Name, Standing, check_word};
use usherd_subscription::civil::{self, Edge};
use usherd_subscription::entitlement::{Entitlement, State, Timelines, entitlement_on, seats_peak};
use usherd_subscription::explicit::{Booked, Explicit, explicit};
use usherd_subscription::inclusive::{Inclusive, extra, inclusive, next_extra_at};
use usherd_subscription::policy::Terms;
use usherd_subscription::record::{CHANGES_MAX, ContractKind, Record};

use super::problem::Problems;
use super::reader::Table;
use super::record::read_record;
use super::rules::Rules;
use super::sections::tenant_id;
use super::settings::{SEATS_MAX, Settings};
use super::value::{Cx, quoted, rfc3339};
use super::words::{ProblemCode, one_of};

/// Most reservation groups of one tenant.
pub const GROUPS_MAX: usize = 100;

/// One customer phone system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: Name,
    /// The name for people; the id where nothing else is given.
    pub name: String,
    /// Its subscription.
    pub record: Record,
    /// The keys in force for it; shared where they are the same.
    pub rules: Arc<Rules>,
    /// The rules as the engine takes them.
    pub policy: Arc<Policy>,
    /// The terms that its subscription is subject to.
    pub terms: Arc<Terms>,
    /// F6, in file order: group and seats set aside.
    pub reserve: Vec<(Name, u32)>,
    /// The pool that the seats come from, where there is one (F7).
    pub pool: Option<Name>,
    /// The file that brought it.
    pub source: String,
    /// The line of that file, from 1.
    pub line: usize,
    /// It was pulled.
    pub(crate) synced: bool,
}

impl Tenant {
    /// Its entitlement at an instant.
    pub fn entitlement(&self, at: impl Into<Timelines>) -> Entitlement {
        entitlement_on(&self.record, &self.terms, at.into())
    }

    /// The part of it that the engine is told.
    pub fn entitled(&self, at: impl Into<Timelines>) -> Entitled {
        let entitlement = self.entitlement(at);
        Entitled { standing: standing(entitlement.state), seats: entitlement.seats }
    }

    /// The extras that come with its seats at an instant.
    pub fn inclusive(&self, now: DateTime<Utc>) -> Inclusive {
        inclusive(&self.record, &self.terms, now)
    }

    /// The next instant at which [`Tenant::plan`] says something else; `None` if never.
    pub fn next_plan_at(&self, at: impl Into<Timelines>) -> Option<DateTime<Utc>> {
        let at = at.into();
        self.entitlement(at).next_change_at.into_iter().chain(next_extra_at(&self.record, at.wall)).min()
    }

    /// True if it was pulled, and not read from a file.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The publisher stands by it as of an instant (J7); `None`: nobody knows.
    pub(crate) fn confirm(&mut self, at: Option<DateTime<Utc>>) {
        self.synced = true;
        self.record.synced_at = at;
    }

    /// The plan of it for the engine at an instant.
    pub fn plan(&self, at: impl Into<Timelines>) -> TenantPlan {
        let at = at.into();
        let entitlement = self.entitlement(at);
        let channels_extra = if entitlement.state == State::Ended { 0 } else { extra(&self.record, at.wall).channels };
        let policy = match channels_extra {
            0 => Arc::clone(&self.policy),
            _ => Arc::new(Policy { channels_extra, ..Policy::clone(&self.policy) }),
        };
        TenantPlan {
            id: self.id.clone(),
            entitled: self.entitled(at),
            policy,
            reserve: self.reserve.clone(),
            pool: self.pool.clone(),
        }
    }
}

/// The rights of people in a state.
pub fn standing(state: State) -> Standing {
    match state {
        State::Trial | State::Active | State::PendingChange | State::PendingCancel => Standing::Active,
        State::Suspended => Standing::Suspended,
        State::Stale => Standing::Stale,
        State::Ended => Standing::Ended,
    }
}

/// The context in which all tenants of a configuration are read.
pub(crate) struct Base<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) shared: Shared,
    /// When it is read.
    pub(crate) now: DateTime<Utc>,
    /// Oddities that are taken nevertheless.
    pub(crate) warnings: Problems,
}

impl<'a> Base<'a> {
    pub(crate) fn new(settings: &'a Settings, now: DateTime<Utc>) -> Self {
        Base { settings, shared: Shared::new(settings), now, warnings: Problems::default() }
    }
}

/// Rules that several tenants have in common, kept once.
pub(crate) struct Shared {
    zone: Tz,
    trial_days: u32,
    kept: Vec<Kept>,
}

/// Rules, and what engine and subscription need of them.
#[derive(Clone)]
pub(crate) struct Kept {
    rules: Arc<Rules>,
    pub(crate) policy: Arc<Policy>,
    terms: Arc<Terms>,
}

impl Shared {
    fn new(settings: &Settings) -> Self {
        let mut shared = Shared { zone: settings.time_zone.0, trial_days: settings.trial.days, kept: Vec::new() };
        shared.keep(settings.rules.clone());
        shared
    }

    /// The rules of the configuration as a whole.
    pub(crate) fn common(&self) -> Option<Kept> {
        self.kept.first().cloned()
    }

    fn keep(&mut self, rules: Rules) -> Kept {
        const KEPT_MAX: usize = 64;
        if let Some(kept) = self.kept.iter().find(|kept| *kept.rules == rules) {
            return kept.clone();
        }
        let kept = Kept {
            policy: Arc::new(rules.engine()),
            terms: Arc::new(rules.terms(self.zone, self.trial_days)),
            rules: Arc::new(rules),
        };
        if self.kept.len() < KEPT_MAX {
            self.kept.push(kept.clone());
        }
        kept
    }
}

/// Reads a tenant; `stem` is the name of its file without the ending, `None` for an inline one. Every fault
/// goes to the problems; what is returned is then only good for finding more of them.
pub(crate) fn read(
    cx: &mut Cx<'_>,
    mut table: Table<'_, '_>,
    base: &mut Base<'_>,
    stem: Option<&str>,
) -> Option<Tenant> {
    let zone = base.settings.time_zone.0;
    let id = read_id(cx, &mut table, stem);
    let name = read_name(cx, &mut table);
    let mut rules = base.settings.rules.clone();
    rules.read(cx, &mut table);
    let problems = cx.problems.len();
    let record = read_record(cx, &mut table, zone, base.settings, &rules);
    // A record with a fault says nothing of its seats: one mistake is one error.
    let peak = if cx.problems.len() == problems { seats_peak(&record) } else { None };
    let pool = read_pool(cx, &mut table, base.settings);
    let reserve = read_reserve(cx, &mut table, peak);
    let line = cx.source.place(table.span.start).line;
    let line = if stem.is_some() { 1 } else { line };
    let Kept { rules, policy, terms } = base.shared.keep(rules);
    warn_of_explicit(cx, &mut table, &explicit(&record, &terms, base.now), &mut base.warnings);
    warn_of_start(cx, &mut table, &record, zone, base);
    warn_of_groups(cx, &mut table, &mut base.warnings);
    table.finish(cx);
    let id = id?;
    Some(Tenant {
        name: name.unwrap_or_else(|| id.to_string()),
        id,
        record,
        rules,
        policy,
        terms,
        reserve,
        pool,
        source: cx.source.name().to_owned(),
        line,
        synced: false,
    })
}

/// J8: what the record says wins over what is computed, and a difference is told.
fn warn_of_explicit(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, found: &[Explicit], warnings: &mut Problems) {
    if found.is_empty() {
        return;
    }
    let mut seen = Problems::default();
    let mut again = Cx { source: cx.source, problems: &mut seen, ledger: None, tenant: cx.tenant };
    let mut changes = table.tables(&mut again, "change", CHANGES_MAX);
    for Explicit { booked, at, computed } in found {
        let item = match booked {
            Booked::End => table.item("cancel_at"),
            Booked::Change(place) => changes.get_mut(*place).and_then(|entry| entry.item("effective_at")),
        };
        let Some(item) = item else { continue };
        let (at, computed) = (rfc3339(*at), rfc3339(*computed));
        let message = format!("`{}` is {at}; by the rules it would be {computed}", item.key_path);
        let problem = cx.fault(&item.span, &item.key_path, message).code(ProblemCode::ExplicitInstant).warning();
        warnings.push(problem.help(format!("{at} is used; write \"{computed}\" if nothing else was agreed")));
    }
}

/// A contract that has no start, or has not begun: more often a slip than meant.
fn warn_of_start(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, record: &Record, zone: Tz, base: &mut Base<'_>) {
    let Some(start) = record.start else {
        if record.kind == ContractKind::Paid && !table.has("start") {
            let path = table.key_path("start");
            let message = format!("`{path}` is missing: nobody can say when a term of this contract ends");
            let problem = cx.fault(&table.span, &path, message).code(ProblemCode::NoStart).warning();
            base.warnings
                .push(problem.help("write the date on which the contract began, as in start = \"2026-06-16\""));
        }
        return;
    };
    let begins = civil::instant(zone, start, Edge::Start);
    if let Some(item) = table.item("start").filter(|_| begins > base.now) {
        let days = (begins - base.now).num_days();
        let message = format!("`{}` lies ahead, by {days} days: {}", item.key_path, rfc3339(begins));
        let problem = cx.fault(&item.span, &item.key_path, message).code(ProblemCode::StartsLater).warning();
        base.warnings.push(problem.help("write the date on which the contract began, unless it begins only then"));
    }
}

/// TOML takes every line below `[reserve]` for a group, also one that belongs further up.
fn warn_of_groups(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, warnings: &mut Problems) {
    let groups = table.table(cx, "reserve");
    for (key, item) in groups.in_file_order().into_iter().take(GROUPS_MAX) {
        let name = key.get_ref().as_ref();
        if table.knows(name) {
            let message = format!("`{}` is a group, and named like a key of the tenant", item.key_path);
            let problem = cx.fault(&key.span(), &item.key_path, message).code(ProblemCode::OddGroup).warning();
            let help = format!(
                "if the key is meant, move `{name}` above the first [section]: what stands below [reserve] is in it"
            );
            warnings.push(problem.help(help));
        }
    }
}

fn read_id(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, stem: Option<&str>) -> Option<Name> {
    if !table.has("id") {
        table.item("id");
        let Some(stem) = stem else {
            table.missing(cx, "id", "write the id that nodes ask with: 1 to 64 of a-z 0-9 . _ -");
            return None;
        };
        let mut faults = Vec::new();
        usherd_engine::session::check_tenant(stem, &mut faults);
        if faults.is_empty() {
            return Some(Name::from(stem));
        }
        let problem = cx.fault(&(0..0), "id", format!("the file name is not a tenant id: {}", quoted(stem)));
        cx.problems.push(problem.help("rename the file: an id is 1 to 64 of a-z 0-9 . _ -"));
        return None;
    }
    let (text, item) = table.text_opt(cx, "id")?;
    let id = tenant_id(cx, &item, &text)?;
    if let Some(stem) = stem
        && stem != id
    {
        let message = format!("`id` is {}, but the file is named {}", quoted(&id), quoted(&format!("{stem}.toml")));
        item.wrong(cx, message, format!("rename the file to \"{id}.toml\", or write id = {}", quoted(stem)));
    }
    Some(id)
}

fn read_name(cx: &mut Cx<'_>, table: &mut Table<'_, '_>) -> Option<String> {
    let (name, item) = table.text_opt(cx, "name")?;
    if name.chars().count() > 200 {
        item.wrong(cx, format!("`{}` is longer than 200 characters", item.key_path), "shorten it");
    }
    Some(name)
}

fn read_pool(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, settings: &Settings) -> Option<Name> {
    let (pool, item) = table.text_opt(cx, "pool")?;
    let ids = || settings.pools.iter().map(|pool| pool.id.as_str());
    if ids().any(|id| id == pool) {
        return Some(Name::from(pool));
    }
    let guess = nearest(&pool, ids()).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let known = if settings.pools.is_empty() {
        "usherd.toml has no [[pool]]".to_owned()
    } else {
        format!("known: {}", one_of(ids().take(20)))
    };
    let message = format!("`{}` does not know {}", item.key_path, quoted(&pool));
    item.wrong_as(cx, ProblemCode::UnknownName, message, format!("{guess}{known}"));
    None
}

/// F6. The sum is held against the most seats that the record ever gives, where that is known: after a reduction
/// reservations shrink, and a file that was good must stay good across a restart.
fn read_reserve(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, peak: Option<u32>) -> Vec<(Name, u32)> {
    let groups = table.table(cx, "reserve");
    let mut reserve = Vec::new();
    let mut sum = 0u64;
    for (key, item) in groups.in_file_order().into_iter().take(GROUPS_MAX + 1) {
        let mut faults = Vec::new();
        check_word("reserve", key.get_ref(), &mut faults);
        if !faults.is_empty() || reserve.len() == GROUPS_MAX {
            let problem = cx.fault(&key.span(), &item.key_path, format!("`{}` is not a group", item.key_path));
            cx.problems.push(problem.help(format!(
                "a group is 1 to 64 bytes of printable ASCII without blanks; at most {GROUPS_MAX} groups"
            )));
            continue;
        }
        let Some(seats) = groups.free_int(cx, &item, 0..=u64::from(SEATS_MAX)) else { continue };
        sum += u64::from(seats);
        if let Some(peak) = peak
            && sum > u64::from(peak)
            && sum - u64::from(seats) <= u64::from(peak)
        {
            let message = format!("`{}` reserves more than there is: {sum} of {peak} seats", item.key_path);
            item.wrong_as(
                cx,
                ProblemCode::ReservationExceeded,
                message,
                "reserve at most as many seats as the tenant has",
            );
        }
        reserve.push((Name::from(key.get_ref().as_ref()), seats));
    }
    reserve
}

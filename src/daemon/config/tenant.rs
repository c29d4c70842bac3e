//! Reads one tenant, from a file of its own or from a `[[tenant]]` table.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::reader::Table;
use super::rules::Rules;
use super::sections::tenant_id;
use super::settings::{SEATS_MAX, Settings};
use super::value::{Cx, Item, quoted, rfc3339};
use super::words::{nearest, one_of};
use crate::engine::plan::{Entitled, Policy, TenantPlan};
use crate::engine::session::{Name, Standing, check_word};
use crate::subscription::civil::Edge;
use crate::subscription::entitlement::{Entitlement, State, entitlement, seats_peak};
use crate::subscription::record::{Actor, Addon, Change, ContractKind, Record};

/// Most booked changes of one object.
pub const CHANGES_MAX: usize = 100;
/// Most add-ons of one tenant.
pub const ADDONS_MAX: usize = 50;
/// Most reservation groups of one tenant.
pub const GROUPS_MAX: usize = 100;
const CHANGE_HELP: &str =
    "an instant as \"2027-06-15T22:00:00Z\", or a civil date as \"2027-06-16\" for midnight in the billing zone";

/// One customer phone system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: Name,
    /// What people call it; the id where nothing else is given.
    pub name: String,
    /// Its subscription.
    pub record: Record,
    /// The keys in force for it; shared where they are the same.
    pub rules: Arc<Rules>,
    /// What the engine needs of them.
    pub policy: Arc<Policy>,
    /// F6, in file order: group and seats set aside.
    pub reserve: Vec<(Name, u32)>,
    /// F7.
    pub pool: Option<Name>,
    /// The file that brought it.
    pub source: String,
    /// The line of that file, from 1.
    pub line: usize,
}

impl Tenant {
    /// What it may use at an instant.
    pub fn entitlement(&self, now: DateTime<Utc>) -> Entitlement {
        entitlement(&self.record, now)
    }

    /// What the engine needs of it at an instant.
    pub fn plan(&self, now: DateTime<Utc>) -> TenantPlan {
        let entitlement = self.entitlement(now);
        TenantPlan {
            id: self.id.clone(),
            entitled: Entitled { standing: standing(entitlement.state), seats: entitlement.seats },
            policy: Arc::clone(&self.policy),
            reserve: self.reserve.clone(),
            pool: self.pool.clone(),
        }
    }
}

/// What a state lets people do.
pub fn standing(state: State) -> Standing {
    match state {
        State::Trial | State::Active | State::PendingChange | State::PendingCancel => Standing::Active,
        State::Suspended => Standing::Suspended,
        State::Stale => Standing::Stale,
        State::Ended => Standing::Ended,
    }
}

/// What all tenants of a configuration are read against.
pub(crate) struct Base<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) shared: Shared,
}

/// Rules that several tenants have in common, kept once.
pub(crate) struct Shared(Vec<(Arc<Rules>, Arc<Policy>)>);

impl Shared {
    pub(crate) fn new(rules: &Rules) -> Self {
        Shared(vec![(Arc::new(rules.clone()), Arc::new(rules.engine()))])
    }

    /// The rules of the configuration as a whole.
    pub(crate) fn common(&self) -> Option<(Arc<Rules>, Arc<Policy>)> {
        self.0.first().cloned()
    }

    fn keep(&mut self, rules: Rules) -> (Arc<Rules>, Arc<Policy>) {
        const KEPT_MAX: usize = 64;
        if let Some(kept) = self.0.iter().find(|(kept, _)| **kept == rules) {
            return kept.clone();
        }
        let kept = (Arc::new(rules.clone()), Arc::new(rules.engine()));
        if self.0.len() < KEPT_MAX {
            self.0.push(kept.clone());
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
    let record = read_record(cx, &mut table, zone, base.settings, &rules);
    let pool = read_pool(cx, &mut table, base.settings);
    let reserve = read_reserve(cx, &mut table, &record);
    let line = cx.source.place(table.span.start).line;
    let line = if stem.is_some() { 1 } else { line };
    table.finish(cx);
    let (rules, policy) = base.shared.keep(rules);
    let id = id?;
    Some(Tenant {
        name: name.unwrap_or_else(|| id.to_string()),
        id,
        record,
        rules,
        policy,
        reserve,
        pool,
        source: cx.source.name().to_owned(),
        line,
    })
}

fn read_id(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, stem: Option<&str>) -> Option<Name> {
    if !table.has("id") {
        table.item("id");
        let Some(stem) = stem else {
            table.missing(cx, "id", "write the id that nodes ask with: 1 to 64 of a-z 0-9 . _ -");
            return None;
        };
        let mut faults = Vec::new();
        crate::engine::session::check_tenant(stem, &mut faults);
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

fn read_record(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, zone: Tz, settings: &Settings, rules: &Rules) -> Record {
    let mut kind = ContractKind::Paid;
    table.word(cx, "kind", &mut kind);
    if !table.has("kind") {
        table.missing(cx, "kind", "allowed: `trial`, `paid` or `nfr`");
    }
    let start = table.civil(cx, "start");
    if kind == ContractKind::Trial && !table.has("start") {
        table.missing(cx, "start", "a trial ends so many days after its start: write start = \"2026-11-22T10:00:00\"");
    }
    let mut term_months = rules.policy.term_months;
    table.int(cx, "term_months", 0..=120, &mut term_months);
    let seats = read_seats(cx, table, kind, settings);
    let changes = read_changes(cx, table, zone);
    let addons = read_addons(cx, table, zone);
    let mut suspended = false;
    table.flag(cx, "suspended", &mut suspended);
    let record = Record {
        kind,
        start,
        term_months,
        seats,
        changes,
        addons,
        cancel_at: table.instant(cx, "cancel_at", zone, Edge::End),
        suspended,
        synced_at: table.instant(cx, "synced_at", zone, Edge::Start),
        numbers: table.int_opt(cx, "numbers", 0..=100_000_000),
        endpoints: table.int_opt(cx, "endpoints", 0..=100_000_000),
    };
    if let Some(peak) = seats_peak(&record)
        && peak > SEATS_MAX
        && let Some(item) = table.item("seats").or_else(|| table.item("addon"))
    {
        let message = format!("`{}` and add-ons together reach {peak} seats", item.key_path);
        item.wrong(cx, message, format!("a tenant has at most {SEATS_MAX}"));
    }
    record
}

fn read_seats(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, kind: ContractKind, settings: &Settings) -> Option<u32> {
    let mut unlimited = false;
    table.flag(cx, "unlimited", &mut unlimited);
    let seats = table.int_opt(cx, "seats", 0..=u64::from(SEATS_MAX));
    match (table.has("seats"), unlimited) {
        (true, true) => {
            if let Some(item) = table.item("unlimited") {
                item.wrong(cx, format!("`{}` stands beside `seats`", item.key_path), "keep one of the two");
            }
            None
        }
        (true, false) => seats.or(Some(0)),
        (false, true) => None,
        (false, false) if kind == ContractKind::Trial => Some(settings.trial.seats),
        (false, false) => {
            let help = format!("write a whole number from 0 (inbound only) to {SEATS_MAX}, or unlimited = true");
            table.missing(cx, "seats", help);
            Some(0)
        }
    }
}

fn read_changes(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, zone: Tz) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for mut entry in table.tables(cx, "change", CHANGES_MAX) {
        let at = entry.instant(cx, "effective_at", zone, Edge::Start);
        for (key, help) in [("effective_at", CHANGE_HELP), ("seats", "write the seats from then on, 0 to 1000000")] {
            if !entry.has(key) {
                entry.missing(cx, key, help);
            }
        }
        let seats = entry.int_opt(cx, "seats", 0..=u64::from(SEATS_MAX));
        let mut by = Actor::Customer;
        entry.word(cx, "by", &mut by);
        if let (Some(effective_at), Some(item)) = (at, entry.item("effective_at")) {
            check_ascending(cx, &item, changes.last(), effective_at);
            changes.push(Change { effective_at, seats: seats.unwrap_or(0), by });
        }
        entry.finish(cx);
    }
    changes
}

fn check_ascending(cx: &mut Cx<'_>, item: &Item<'_, '_>, before: Option<&Change>, at: DateTime<Utc>) {
    let Some(before) = before.map(|change| change.effective_at).filter(|before| *before >= at) else { return };
    let same = before == at;
    let before = rfc3339(before);
    if same {
        let message = format!("`{}` is the instant of the change before it: {before}", item.key_path);
        item.wrong(cx, message, "one change per instant: keep the one that is meant");
    } else {
        let message = format!("`{}` is earlier than the change before it, {before}", item.key_path);
        item.wrong(cx, message, "order the changes by time, the earliest first");
    }
}

fn read_addons(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, zone: Tz) -> Vec<Addon> {
    let mut addons: Vec<Addon> = Vec::new();
    for mut entry in table.tables(cx, "addon", ADDONS_MAX) {
        let id = entry.text_opt(cx, "id");
        let seats = entry.int_opt(cx, "seats", 0..=u64::from(SEATS_MAX));
        for (key, help) in [("id", "write a name that is its own within the tenant"), ("seats", "write 0 to 1000000")] {
            if !entry.has(key) {
                entry.missing(cx, key, help);
            }
        }
        let changes = read_changes(cx, &mut entry, zone);
        let cancel_at = entry.instant(cx, "cancel_at", zone, Edge::End);
        if let Some((id, item)) = id {
            let mut faults = Vec::new();
            check_word("id", &id, &mut faults);
            if !faults.is_empty() {
                let message = format!("`{}` is not a name: {}", item.key_path, quoted(&id));
                item.wrong(cx, message, "a name is 1 to 64 bytes of printable ASCII without blanks");
            } else if addons.iter().any(|addon| addon.id == id) {
                item.wrong(cx, format!("there are two add-ons `{id}`"), "give each add-on an id of its own");
            }
            addons.push(Addon { id, seats: seats.unwrap_or(0), changes, cancel_at });
        }
        entry.finish(cx);
    }
    addons
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
    item.wrong(cx, format!("`{}` does not know {}", item.key_path, quoted(&pool)), format!("{guess}{known}"));
    None
}

/// F6. The sum is held against the most seats that the record ever gives: after a reduction reservations
/// shrink, and a file that was good must stay good across a restart.
fn read_reserve(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, record: &Record) -> Vec<(Name, u32)> {
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
        if let Some(peak) = seats_peak(record)
            && sum > u64::from(peak)
            && sum - u64::from(seats) <= u64::from(peak)
        {
            let message = format!("`{}` reserves more than there is: {sum} of {peak} seats", item.key_path);
            item.wrong(cx, message, "reserve at most as many seats as the tenant has");
        }
        reserve.push((Name::from(key.get_ref().as_ref()), seats));
    }
    reserve
}

//! Reads the keys of a subscription: contract, booked changes, add-ons, requests (J1).

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::Tz;
use usherd_engine::session::check_word;
use usherd_subscription::civil::{self, Edge};
use usherd_subscription::entitlement::seats_peak;
use usherd_subscription::record::{
    ADDONS_MAX, Actor, Addon, CHANGES_MAX, Change, ContractKind, Extra, Object, REQUESTS_MAX, Record, SEATS_MAX,
    Submitted, SubmittedStatus,
};

use super::reader::Table;
use super::rules::Rules;
use super::settings::Settings;
use super::value::{Cx, Item, quoted, rfc3339};
use super::words::ProblemCode;

const CHANGE_HELP: &str =
    "an instant as \"2027-06-15T22:00:00Z\", or a civil date as \"2027-06-16\" for midnight in the billing zone";

/// Reads the keys of the subscription.
pub(super) fn read_record(
    cx: &mut Cx<'_>,
    table: &mut Table<'_, '_>,
    zone: Tz,
    settings: &Settings,
    rules: &Rules,
) -> Record {
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
    let changes = read_changes(cx, table, zone, seats.unwrap_or(u32::MAX));
    let addons = read_addons(cx, table, zone);
    let (mut suspended, mut price_protected, mut cancel_by) = (false, false, Actor::Customer);
    table.flag(cx, "suspended", &mut suspended);
    table.flag(cx, "price_protected", &mut price_protected);
    table.word(cx, "cancel_by", &mut cancel_by);
    let record = Record {
        kind,
        start,
        term_months,
        seats,
        changes,
        addons,
        cancel_at: read_end(cx, table, zone, start),
        cancel_by,
        price_protected,
        action_since: table.instant(cx, "action_since", zone, Edge::Start),
        requests: read_requests(cx, table, zone),
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
        item.wrong_as(cx, ProblemCode::TooManySeats, message, format!("a tenant has at most {SEATS_MAX}"));
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

fn read_changes(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, zone: Tz, base: u32) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for mut entry in table.tables(cx, "change", CHANGES_MAX) {
        for (key, help) in [("effective_at", CHANGE_HELP), ("seats", "write the seats from then on, 0 to 1000000")] {
            if !entry.has(key) {
                entry.missing(cx, key, help);
            }
        }
        let seats = entry.int_opt(cx, "seats", 0..=u64::from(SEATS_MAX));
        // H3: of two equal clock readings, fewer seats begin with the later, more with the earlier.
        let before = changes.last().map_or(base, |change| change.seats);
        let edge = if seats.is_some_and(|seats| seats < before) { Edge::End } else { Edge::Start };
        let at = entry.instant(cx, "effective_at", zone, edge);
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

/// The end of the subscription. What changed or ended before a start that moved, as with an upgrade of a trial,
/// is history and may stay.
fn read_end(
    cx: &mut Cx<'_>,
    table: &mut Table<'_, '_>,
    zone: Tz,
    start: Option<NaiveDateTime>,
) -> Option<DateTime<Utc>> {
    let at = table.instant(cx, "cancel_at", zone, Edge::End)?;
    let start = start.map(|start| civil::instant(zone, start, Edge::Start));
    if let (Some(item), Some(start)) = (table.item("cancel_at"), start.filter(|start| at < *start)) {
        let message = format!("`{}` is before the start: {} and {}", item.key_path, rfc3339(at), rfc3339(start));
        item.wrong_as(cx, ProblemCode::EndBeforeStart, message, "nothing ends before its start: fix one of the two");
    }
    Some(at)
}

fn check_ascending(cx: &mut Cx<'_>, item: &Item<'_, '_>, before: Option<&Change>, at: DateTime<Utc>) {
    let Some(before) = before.map(|change| change.effective_at).filter(|before| *before >= at) else { return };
    let same = before == at;
    let before = rfc3339(before);
    if same {
        let message = format!("`{}` is the instant of the change before it: {before}", item.key_path);
        item.wrong_as(cx, ProblemCode::SameInstant, message, "one change per instant: keep the one that is meant");
    } else {
        let message = format!("`{}` is earlier than the change before it, {before}", item.key_path);
        item.wrong_as(cx, ProblemCode::NotAscending, message, "order the changes by time, the earliest first");
    }
}

fn read_addons(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, zone: Tz) -> Vec<Addon> {
    let mut addons: Vec<Addon> = Vec::new();
    for mut entry in table.tables(cx, "addon", ADDONS_MAX) {
        let id = entry.text_opt(cx, "id");
        if !entry.has("id") {
            entry.missing(cx, "id", "write a name that is its own within the tenant");
        }
        let seats = entry.int_opt(cx, "seats", 0..=u64::from(SEATS_MAX));
        let extra = read_extra(cx, &mut entry);
        if !entry.has("seats") && extra == Extra::default() {
            entry.missing(cx, "seats", "write 0 to 1000000, or what it adds instead: numbers, channels, endpoints");
        }
        let seats = seats.unwrap_or(0);
        let changes = read_changes(cx, &mut entry, zone, seats);
        let cancel_at = entry.instant(cx, "cancel_at", zone, Edge::End);
        let mut cancel_by = Actor::Customer;
        entry.word(cx, "cancel_by", &mut cancel_by);
        if let Some((id, item)) = id {
            let mut faults = Vec::new();
            check_word("id", &id, &mut faults);
            if !faults.is_empty() {
                let message = format!("`{}` is not a name: {}", item.key_path, quoted(&id));
                item.wrong(cx, message, "a name is 1 to 64 bytes of printable ASCII without blanks");
            } else if addons.iter().any(|addon| addon.id == id) {
                let message = format!("there are two add-ons `{id}`");
                item.wrong_as(cx, ProblemCode::DuplicateAddon, message, "give each add-on an id of its own");
            }
            addons.push(Addon { id, seats, changes, cancel_at, cancel_by, extra });
        }
        entry.finish(cx);
    }
    addons
}

fn read_extra(cx: &mut Cx<'_>, entry: &mut Table<'_, '_>) -> Extra {
    let mut one = |key| entry.int_opt(cx, key, 0..=100_000_000).unwrap_or(0);
    Extra { numbers: one("numbers"), channels: one("channels"), endpoints: one("endpoints") }
}

/// N2: `[[request]]`, cancellations of the manual flow.
fn read_requests(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, zone: Tz) -> Vec<Submitted> {
    let mut requests: Vec<Submitted> = Vec::new();
    for mut entry in table.tables(cx, "request", REQUESTS_MAX) {
        for key in ["id", "at"] {
            if !entry.has(key) {
                entry.missing(cx, key, "`usherd subscription request` writes these tables");
            }
        }
        let id = entry.text_opt(cx, "id");
        let at = entry.instant(cx, "at", zone, Edge::Start);
        let object = entry.text_opt(cx, "object").and_then(|(text, item)| {
            let object = text.parse().ok();
            if object.is_none() {
                let message =
                    format!("`{}` is neither `subscription` nor `addon:ID`: {}", item.key_path, quoted(&text));
                item.wrong(cx, message, "name what is to be cancelled");
            }
            object
        });
        let licences = entry.int_opt(cx, "licences", 1..=u64::from(SEATS_MAX));
        let when = entry.text_opt(cx, "when").and_then(|(text, item)| {
            let when = text.parse().ok();
            if when.is_none() {
                let message = format!("`{}` is not a time to cancel at: {}", item.key_path, quoted(&text));
                item.wrong(cx, message, "allowed: `immediate`, `period_end`, or a civil date as \"2026-06-15\"");
            }
            when
        });
        let mut status = SubmittedStatus::Submitted;
        entry.word(cx, "status", &mut status);
        if let (Some((id, item)), Some(at)) = (id, at) {
            if requests.iter().any(|request| request.id == id) {
                let message = format!("there are two requests `{id}`");
                item.wrong_as(cx, ProblemCode::Duplicate, message, "give each request an id of its own");
            }
            let object = object.unwrap_or(Object::Subscription);
            requests.push(Submitted { id, at, object, licences, when, status });
        }
        entry.finish(cx);
    }
    requests
}

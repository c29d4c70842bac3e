//! The differences between a new configuration and the running one, and their consequences for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use usherd_subscription::entitlement::{Entitlement, State};
use usherd_subscription::record::{Change, Record};

use super::load::Config;
use super::origin::Effective;
use super::settings::RESTART_ONLY;
use super::tenant::Tenant;
use super::value::rfc3339;
use crate::answers::config::Unlimited;
pub use crate::answers::config::{Diff, Quota, SettingDiff, TenantDiff};

impl From<Option<u32>> for Quota {
    fn from(seats: Option<u32>) -> Self {
        seats.map_or(Quota::Unlimited(Unlimited::Unlimited.into()), Quota::Seats)
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Quota::Seats(seats) => write!(f, "{seats}"),
            Quota::Unlimited(word) => f.write_str(word),
        }
    }
}

/// Compares two configurations as they are at `now`. `occupancy` tells the seats a tenant holds, `None`
/// where that is not known (no daemon was asked).
pub fn diff(old: &Config, new: &Config, now: DateTime<Utc>, occupancy: impl Fn(&str) -> Option<u32>) -> Diff {
    let mut diff = Diff { settings: settings(&old.effective, &new.effective), ..Diff::default() };
    for (id, before) in &old.tenants {
        let held = occupancy(id);
        match new.tenants.get(id) {
            None => diff.removed.push(removed(before, now, held)),
            Some(after) => diff.changed.extend(changed(before, after, now, held)),
        }
    }
    let fresh = new.tenants.iter().filter(|(id, _)| !old.tenants.contains_key(*id));
    diff.added.extend(fresh.map(|(id, tenant)| added(tenant, now, occupancy(id))));
    diff
}

impl Diff {
    /// True if nothing changes, however the files may differ. Such a configuration may still be swapped in,
    /// so that its hash and its lines are the ones that are shown.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && self.settings.is_empty()
    }

    /// Keys that changed and wait for the next start.
    pub fn needs_restart(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().filter(|setting| setting.needs_restart).map(|setting| setting.key.as_str())
    }

    /// The diff for people, with a newline at the end.
    pub fn render(&self) -> String {
        if self.is_empty() {
            return "no changes\n".to_owned();
        }
        let mut text = String::new();
        for (sign, tenants) in [('+', &self.added), ('-', &self.removed), ('~', &self.changed)] {
            for tenant in tenants {
                tenant.render(sign, &mut text);
            }
        }
        for setting in &self.settings {
            let before = setting.before.as_deref().unwrap_or("(none)");
            let after = setting.after.as_deref().unwrap_or("(none)");
            let restart = if setting.needs_restart { "  (takes effect at the next start)" } else { "" };
            let _ = writeln!(text, "~ {}: {before} -> {after}{restart}", setting.key);
        }
        let (added, removed, changed) = (self.added.len(), self.removed.len(), self.changed.len());
        let keys = self.settings.len();
        let _ = writeln!(text, "tenants: {added} added, {removed} removed, {changed} changed; keys changed: {keys}");
        text
    }
}

impl TenantDiff {
    fn render(&self, sign: char, text: &mut String) {
        let quota = match (&self.quota_before, &self.quota_after) {
            (Some(before), Some(after)) if before != after => format!("{before} -> {after} seats"),
            (Some(quota), _) | (None, Some(quota)) => format!("{quota} seats"),
            (None, None) => String::new(),
        };
        let held = self.held.map(|held| format!(", {held} held")).unwrap_or_default();
        let _ = writeln!(text, "{sign} tenant {}: {quota}{held}", self.tenant);
        for line in self.what.iter().chain(&self.consequences) {
            let _ = writeln!(text, "    {line}");
        }
    }
}

fn settings(old: &[Effective], new: &[Effective]) -> Vec<SettingDiff> {
    let by_key = |all: &[Effective]| -> BTreeMap<String, String> {
        all.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    };
    let (old, mut new) = (by_key(old), by_key(new));
    let mut diffs = Vec::new();
    for (key, before) in old {
        let after = new.remove(&key);
        if after.as_ref() != Some(&before) {
            diffs.push(SettingDiff { needs_restart: needs_restart(&key), key, before: Some(before), after });
        }
    }
    diffs.extend(new.into_iter().map(|(key, after)| SettingDiff {
        needs_restart: needs_restart(&key),
        key,
        before: None,
        after: Some(after),
    }));
    diffs
}

/// Keys whose value is another than at the start, which is still in force, since they take effect with a start only.
pub fn waiting(started: &[Effective], files: &[Effective]) -> Vec<String> {
    let waiting = settings(started, files).into_iter().filter(|setting| setting.needs_restart);
    waiting.map(|setting| setting.key).collect()
}

fn needs_restart(key: &str) -> bool {
    let below = |root: &str| key.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    RESTART_ONLY.iter().any(|root| below(root))
}

fn added(tenant: &Tenant, now: DateTime<Utc>, held: Option<u32>) -> TenantDiff {
    let entitlement = tenant.entitlement(now);
    let mut consequences = vec![match entitlement.state {
        State::Ended => "ended: only inbound and emergency calls".to_owned(),
        State::Suspended => "suspended: only inbound and emergency calls".to_owned(),
        _ => "takes effect at once".to_owned(),
    }];
    consequences.extend(booked_ahead(tenant, now));
    TenantDiff {
        tenant: tenant.id.to_string(),
        quota_before: None,
        quota_after: Some(entitlement.seats.into()),
        held,
        what: vec![format!("from {}", tenant.source)],
        consequences,
    }
}

fn removed(tenant: &Tenant, now: DateTime<Utc>, held: Option<u32>) -> TenantDiff {
    let consequence = match held {
        Some(0) => "nobody holds a seat; its people are then denied, except inbound and emergency calls".to_owned(),
        held => {
            format!(
                "sessions end: pairings at once, clients within {} s, running calls by themselves; the quota is 0",
                tenant.rules.policy.end_drain_s
            ) + &held.map(|held| format!(", {} over until then", seats(held))).unwrap_or_default()
        }
    };
    TenantDiff {
        tenant: tenant.id.to_string(),
        quota_before: Some(tenant.entitlement(now).seats.into()),
        quota_after: None,
        held,
        what: vec![format!("was in {}", tenant.source)],
        consequences: vec![consequence],
    }
}

fn changed(old: &Tenant, new: &Tenant, now: DateTime<Utc>, held: Option<u32>) -> Option<TenantDiff> {
    let what = differences(old, new);
    if what.is_empty() {
        return None;
    }
    let (before, after) = (old.entitlement(now), new.entitlement(now));
    let mut consequences = Vec::new();
    consequences.extend(state_consequence(new, &before, &after));
    if after.state != State::Ended {
        consequences.extend(seat_consequence(before.seats, after.seats, held));
    }
    if old.record.changes != new.record.changes
        || old.record.addons != new.record.addons
        || old.record.cancel_at != new.record.cancel_at
    {
        consequences.extend(booked_ahead(new, now));
    }
    if consequences.is_empty() {
        consequences.push("takes effect at once, no seat changes".to_owned());
    }
    Some(TenantDiff {
        tenant: new.id.to_string(),
        quota_before: Some(before.seats.into()),
        quota_after: Some(after.seats.into()),
        held,
        what,
        consequences,
    })
}

fn state_consequence(new: &Tenant, before: &Entitlement, after: &Entitlement) -> Option<String> {
    if before.state.gives_seats() == after.state.gives_seats() && after.state != State::Ended
        || before.state == after.state
    {
        return None;
    }
    Some(match after.state {
        State::Ended => format!(
            "sessions end: pairings at once, clients within {} s, running calls by themselves",
            new.rules.policy.end_drain_s
        ),
        State::Suspended | State::Stale => {
            "new seats are denied, what runs runs out; inbound and emergency calls go on".to_owned()
        }
        _ => "seats are given again".to_owned(),
    })
}

fn seat_consequence(before: Option<u32>, after: Option<u32>, held: Option<u32>) -> Option<String> {
    match (before, after) {
        _ if before == after => None,
        (_, None) => Some("seats are unlimited from now on".to_owned()),
        (Some(before), Some(after)) if after > before => {
            Some(format!("{} more at once, for the very next request", seats(after - before)))
        }
        (_, Some(after)) => Some(match held {
            Some(held) if held > after => {
                format!("{} over until people leave; nobody is cut", seats(held - after))
            }
            Some(_) => "nobody is over; nobody is cut".to_owned(),
            None => "who is over stays until people leave; nobody is cut".to_owned(),
        }),
    }
}

fn booked_ahead(tenant: &Tenant, now: DateTime<Utc>) -> Option<String> {
    let at = tenant.entitlement(now).next_change_at?;
    let then = tenant.entitlement(at);
    let what = match then.state {
        State::Ended => "the end".to_owned(),
        _ => format!("a quota of {}", Quota::from(then.seats)),
    };
    Some(format!("{what} takes effect at {}", rfc3339(at)))
}

fn seats(count: u32) -> String {
    format!("{count} {}", if count == 1 { "seat" } else { "seats" })
}

/// The differences between two versions of a tenant, in words of the configuration.
fn differences(old: &Tenant, new: &Tenant) -> Vec<String> {
    let mut what = record_differences(&old.record, &new.record);
    let mut note = |key: &str, before: String, after: String| {
        if before != after {
            what.push(format!("{key}: {before} -> {after}"));
        }
    };
    // The confirmation of what is pulled is new every time; it is shown by the state of the sync.
    if !(old.is_synced() && new.is_synced()) {
        let instant = |tenant: &Tenant| tenant.record.synced_at.map_or("(none)".to_owned(), rfc3339);
        note("synced_at", instant(old), instant(new));
    }
    note("name", format!("{:?}", old.name), format!("{:?}", new.name));
    let pool = |tenant: &Tenant| tenant.pool.as_deref().unwrap_or("(none)").to_owned();
    note("pool", pool(old), pool(new));
    let reserve = |tenant: &Tenant| {
        let groups: Vec<String> = tenant.reserve.iter().map(|(group, seats)| format!("{group} = {seats}")).collect();
        format!("{{ {} }}", groups.join(", "))
    };
    note("reserve", reserve(old), reserve(new));
    if old.rules != new.rules {
        for (before, after) in old.rules.entries().into_iter().zip(new.rules.entries()) {
            note(&before.key, before.value, after.value);
        }
    }
    what
}

fn record_differences(old: &Record, new: &Record) -> Vec<String> {
    let mut what = Vec::new();
    let mut note = |key: &str, before: String, after: String| {
        if before != after {
            what.push(format!("{key}: {before} -> {after}"));
        }
    };
    let number = |number: Option<u32>| number.map_or("(none)".to_owned(), |number| number.to_string());
    let instant = |at: Option<DateTime<Utc>>| at.map_or("(none)".to_owned(), rfc3339);
    let word = |record: &Record| record.kind.as_str().to_owned();
    note("kind", word(old), word(new));
    let start = |record: &Record| record.start.map_or("(none)".to_owned(), |start| start.to_string());
    note("start", start(old), start(new));
    note("term_months", old.term_months.to_string(), new.term_months.to_string());
    note("seats", Quota::from(old.seats).to_string(), Quota::from(new.seats).to_string());
    note("change", schedule(&old.changes), schedule(&new.changes));
    note("addon", addons(old), addons(new));
    note("cancel_at", instant(old.cancel_at), instant(new.cancel_at));
    note("suspended", old.suspended.to_string(), new.suspended.to_string());
    note("numbers", number(old.numbers), number(new.numbers));
    note("endpoints", number(old.endpoints), number(new.endpoints));
    what
}

fn schedule(changes: &[Change]) -> String {
    let word = |change: &Change| change.by.as_str();
    let all: Vec<String> = changes
        .iter()
        .map(|change| format!("{} from {} by {}", change.seats, rfc3339(change.effective_at), word(change)))
        .collect();
    if all.is_empty() { "(none)".to_owned() } else { all.join(", ") }
}

fn addons(record: &Record) -> String {
    let all: Vec<String> = record
        .addons
        .iter()
        .map(|addon| {
            let changes =
                if addon.changes.is_empty() { String::new() } else { format!(", {}", schedule(&addon.changes)) };
            let until = addon.cancel_at.map(|at| format!(", until {}", rfc3339(at))).unwrap_or_default();
            format!("{} {}{changes}{until}", addon.id, addon.seats)
        })
        .collect();
    if all.is_empty() { "(none)".to_owned() } else { all.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{good, now};
    use super::*;

    fn paid(seats: u32, more: &str) -> String {
        format!("kind = \"paid\"\nseats = {seats}\n{more}\n")
    }

    fn between(old: &str, new: &str, held: Option<u32>) -> TenantDiff {
        let (old, new) = (good("", &[("a.toml", old)]), good("", &[("a.toml", new)]));
        let diff = diff(&old, &new, now(), |_| held);
        assert!(diff.added.is_empty() && diff.removed.is_empty() && diff.settings.is_empty());
        diff.changed.into_iter().next().unwrap()
    }

    #[track_caller]
    fn check(old: &str, new: &str, held: Option<u32>, consequences: &[&str]) {
        assert_eq!(between(old, new, held).consequences, consequences);
    }

    #[test]
    fn the_same_and_comments_are_no_change() {
        let (old, new) = (good("", &[("a.toml", &paid(5, ""))]), good("# x\n", &[("a.toml", &paid(5, "# y"))]));
        assert_ne!(old.hash, new.hash);
        let diff = diff(&old, &new, now(), |_| None);
        assert!(diff.is_empty());
        assert_eq!(diff.render(), "no changes\n");
    }

    #[test]
    fn consequences_are_said() {
        let (twenty, fifteen) = (paid(20, ""), paid(15, ""));
        check(&twenty, &fifteen, Some(20), &["5 seats over until people leave; nobody is cut"]);
        check(&twenty, &paid(19, ""), Some(20), &["1 seat over until people leave; nobody is cut"]);
        check(&twenty, &fifteen, Some(3), &["nobody is over; nobody is cut"]);
        check(&twenty, &fifteen, None, &["who is over stays until people leave; nobody is cut"]);
        check(&fifteen, &twenty, Some(15), &["5 seats more at once, for the very next request"]);
        let ended = paid(20, "cancel_at = 2026-01-01");
        check(
            &twenty,
            &ended,
            Some(2),
            &["sessions end: pairings at once, clients within 900 s, running calls by themselves"],
        );
        check(&ended, &twenty, Some(0), &["seats are given again", "20 seats more at once, for the very next request"]);
        let ends = paid(20, "cancel_at = 2027-06-15T22:00:00Z");
        check(&twenty, &ends, Some(2), &["the end takes effect at 2027-06-15T22:00:00Z"]);
        let books = paid(20, "change = [{ effective_at = 2027-06-15T22:00:00Z, seats = 10 }]");
        check(&twenty, &books, Some(2), &["a quota of 10 takes effect at 2027-06-15T22:00:00Z"]);
        let suspended = paid(20, "suspended = true");
        check(
            &twenty,
            &suspended,
            Some(2),
            &["new seats are denied, what runs runs out; inbound and emergency calls go on"],
        );
        check(&twenty, &paid(20, "name = \"A\""), None, &["takes effect at once, no seat changes"]);
        check(&twenty, "kind = \"paid\"\nunlimited = true", None, &["seats are unlimited from now on"]);
    }

    #[test]
    fn what_changed_is_named() {
        let old = paid(20, "[deny]\nsip_code = 480");
        let new = paid(15, "numbers = 3\n[reserve]\ndesk = 2");
        let diff = between(&old, &new, Some(20));
        assert_eq!(
            diff.what,
            ["seats: 20 -> 15", "numbers: (none) -> 3", "reserve: {  } -> { desk = 2 }", "deny.sip_code: 480 -> 403"]
        );
    }

    #[test]
    fn added_removed_and_settings_are_rendered() {
        let old = good("", &[("a.toml", &paid(5, "")), ("b.toml", &paid(7, ""))]);
        let main = "[server]\nworkers = 2\n[deny]\nsip_code = 480\n[[pool]]\nid = \"p\"\nseats = 1\n";
        let new = good(main, &[("a.toml", &paid(5, "")), ("c.toml", "kind = \"paid\"\nunlimited = true\n")]);
        let diff = diff(&old, &new, now(), |id| (id == "b").then_some(3));
        assert_eq!(diff.needs_restart().collect::<Vec<_>>(), ["server.workers"]);
        let expected = "\
+ tenant c: unlimited seats
    from /etc/usherd/tenants.d/c.toml
    takes effect at once
- tenant b: 7 seats, 3 held
    was in /etc/usherd/tenants.d/b.toml
    sessions end: pairings at once, clients within 900 s, running calls by themselves; the quota is 0, 3 seats over until then
~ tenant a: 5 seats
    deny.sip_code: 403 -> 480
    takes effect at once, no seat changes
~ deny.sip_code: 403 -> 480
~ server.workers: 0 -> 2  (takes effect at the next start)
~ pool[0].id: (none) -> \"p\"
~ pool[0].oversubscribe: (none) -> false
~ pool[0].seats: (none) -> 1
tenants: 1 added, 1 removed, 1 changed; keys changed: 5
";
        assert_eq!(diff.render(), expected);
        let json = serde_json::to_value(&diff).unwrap();
        assert_eq!(json["added"][0]["quota_after"], "unlimited");
        assert_eq!(json["removed"][0]["quota_before"], 7);
        assert!(json["removed"][0].get("quota_after").is_none());
    }

    #[test]
    fn a_new_token_and_a_renamed_pool_are_shown_as_changes() {
        let main = |pool: &str, digit: &str| {
            let sha256 = digit.repeat(64);
            format!(
                "[[pool]]\nid = \"{pool}\"\nseats = 1\n[[auth.tokens]]\nid = \"n\"\nrole = \"node\"\nsha256 = \"{sha256}\"\n"
            )
        };
        let keys = |old: &str, new: &str| -> Vec<String> {
            diff(&good(old, &[]), &good(new, &[]), now(), |_| None).settings.into_iter().map(|s| s.key).collect()
        };
        assert_eq!(keys(&main("p", "a"), &main("q", "a")), ["pool[0].id"]);
        assert_eq!(keys(&main("p", "a"), &main("p", "b")), ["auth.tokens[0].sha256"]);
        let config = good(&main("p", "a"), &[]);
        let shown = config.effective.iter().find(|e| e.key.ends_with("sha256")).unwrap();
        assert_eq!(shown.value, "\"aaaaaaaa...\"");
    }
}

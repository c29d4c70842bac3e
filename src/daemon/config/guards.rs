//! Changes that a reload makes only by force: they take away too much at once, open what was closed, or end what is
//! used.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use usherd_engine::session::Name;

use super::diff::Diff;
use super::load::Config;
use super::problem::{PROBLEMS_MAX, Problem};
use super::settings::{Address, Certificate, Listener, Settings, Token};
use super::tenant::Tenant;
use super::words::{ClientCertificates, ProblemCode, Role};

/// So many tenants must lose seats at once before a share of them, or of their seats, is a reason to stop.
const TENANTS_LOSING_MIN: usize = 5;
const FORCE_HELP: &str = "if it is meant: `usherd reload --force`; `usherd plan --force` shows all that follows";

/// A reload that would drop too much at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shrink {
    /// Tenants of the running configuration.
    pub tenants_before: usize,
    /// How many of them would have no seat any more: they go, end, or are suspended.
    pub tenants_dropped: usize,
    /// How many would have fewer seats, these included.
    pub tenants_losing: usize,
    /// Seats of all limited tenants of the running configuration.
    pub seats_before: u64,
    /// Seats of all limited tenants of the new one.
    pub seats_after: u64,
    /// Why it is refused, and how to do it nevertheless.
    pub message: String,
}

/// Detects a reload that takes away more than the running configuration allows without force (rule book 11): seats of
/// at least five tenants, and more than a share of the tenants or of all seats. A reduction of one customer is no
/// accident, a folder of which half is missing is. Unlimited tenants have no part in the sum of seats.
pub fn shrink(old: &Config, new: &Config, now: DateTime<Utc>) -> Option<Shrink> {
    shrink_beside(old, new, &BTreeSet::new(), now)
}

/// As [`shrink`], where some tenants of the new configuration count as gone.
pub(super) fn shrink_beside(
    old: &Config,
    new: &Config,
    leaving: &BTreeSet<Name>,
    now: DateTime<Utc>,
) -> Option<Shrink> {
    let new: BTreeMap<&Name, &Tenant> =
        new.tenants.iter().filter(|(id, _)| !leaving.contains(*id)).map(|(id, tenant)| (id, &**tenant)).collect();
    let seats_of = |tenant: &Tenant| {
        let entitlement = tenant.entitlement(now);
        if entitlement.state.gives_seats() { entitlement.seats } else { Some(0) }
    };
    let (mut tenants_dropped, mut tenants_losing) = (0, 0);
    for (id, before) in &old.tenants {
        let before = seats_of(before).unwrap_or(u32::MAX);
        let after = new.get(id).map_or(0, |after| seats_of(after).unwrap_or(u32::MAX));
        tenants_losing += usize::from(after < before);
        tenants_dropped += usize::from(after < before && after == 0);
    }
    let server = &old.settings.server;
    let tenants_before = old.tenants.len();
    let seats_before: u64 = old.tenants.values().filter_map(|tenant| seats_of(tenant)).map(u64::from).sum();
    let seats_after: u64 = new.values().filter_map(|tenant| seats_of(tenant)).map(u64::from).sum();
    let seats_dropped = seats_before.saturating_sub(seats_after);
    let too_many = |dropped: u64, of: u64, percent: u32| dropped * 100 > of * u64::from(percent);
    let tenants = too_many(tenants_dropped as u64, tenants_before as u64, server.reload_tenants_dropped_max_percent);
    let seats = too_many(seats_dropped, seats_before, server.reload_seats_dropped_max_percent);
    if tenants_losing < TENANTS_LOSING_MIN || !(tenants || seats) {
        return None;
    }
    let mut reasons = Vec::new();
    if tenants {
        let most = server.reload_tenants_dropped_max_percent;
        reasons.push(format!("{tenants_dropped} of {tenants_before} tenants would go, more than {most} %"));
    }
    if seats {
        let most = server.reload_seats_dropped_max_percent;
        reasons.push(format!(
            "{seats_dropped} of {seats_before} seats of {tenants_losing} tenants would go, more than {most} %"
        ));
    }
    let message = format!("{}; reload with force if this is meant", reasons.join(" and "));
    Some(Shrink { tenants_before, tenants_dropped, tenants_losing, seats_before, seats_after, message })
}

/// Changes of the daemon's own file that need force: it has become empty, the last credential goes, one is for more
/// than before, or a listener loses its TLS, its roles or the client certificates that it asks for. A file that was cut
/// is good TOML, and what it opens nobody sees.
pub(super) fn openings(old: &Config, new: &Config) -> Vec<Problem> {
    let file = new.main().display().to_string();
    let problem = |code, message: String| Problem::of_file(file.as_str(), message).code(code).help(FORCE_HELP);
    if new.is_blank && !old.is_blank {
        let message = "the file has become empty, and the one in force is not".to_owned();
        return vec![problem(ProblemCode::Emptied, message)];
    }
    let mut problems = Vec::new();
    if credentials(&old.settings) > 0 && credentials(&new.settings) == 0 {
        let message = "the last credential would go: whoever reaches the daemon could do everything".to_owned();
        problems.push(problem(ProblemCode::Opens, message));
    }
    let widened = widened(&old.settings, &new.settings).into_iter();
    problems.extend(widened.map(|message| problem(ProblemCode::Opens, message)));
    for before in &old.settings.listeners {
        let Some(after) = counterpart(before, &old.settings, &new.settings) else { continue };
        let address = shown(&after.address);
        for what in lost(before, after) {
            problems.push(problem(ProblemCode::Opens, format!("the listener {address} would lose {what}")));
        }
    }
    problems
}

fn credentials(settings: &Settings) -> usize {
    settings.auth.tokens.len() + settings.auth.certificates.len()
}

/// Credentials that would be for more than before: tokens by their hashes, names of certificates as they stand. A file
/// that ends before `tenants` or `nodes` is good, and its last credential would be for everybody's.
fn widened(old: &Settings, new: &Settings) -> Vec<String> {
    let tokens = old.auth.tokens.iter().filter_map(|before| {
        let after = new.auth.tokens.iter().find(|after| after.sha256 == before.sha256)?;
        let more = more(&Extent::of_token(before), &Extent::of_token(after))?;
        Some(format!("the token `{}` {more}", after.id))
    });
    let certificates = old.auth.certificates.iter().filter_map(|before| {
        let after = new.auth.certificates.iter().find(|after| after.name == before.name)?;
        let more = more(&Extent::of_certificate(before), &Extent::of_certificate(after))?;
        Some(format!("the certificate name `{}` {more}", after.name))
    });
    tokens.chain(certificates).collect()
}

/// The extent of a credential's rights.
struct Extent {
    role: Role,
    all_tenants: bool,
    all_nodes: bool,
}

impl Extent {
    fn of_token(token: &Token) -> Self {
        Extent::new(token.role, token.tenants.is_empty(), token.nodes.is_empty())
    }

    fn of_certificate(rule: &Certificate) -> Self {
        Extent::new(rule.role, rule.tenants.is_empty(), rule.nodes.is_empty())
    }

    /// Where no node is named it is all of them, or none for who has some tenants only.
    fn new(role: Role, all_tenants: bool, no_nodes: bool) -> Self {
        Extent { role, all_tenants, all_nodes: all_tenants && no_nodes }
    }
}

fn more(before: &Extent, after: &Extent) -> Option<String> {
    let narrower = match before.role {
        Role::Admin => true,
        Role::Viewer => after.role == Role::Scrape,
        _ => false,
    };
    if after.role != before.role && !narrower {
        return Some(format!("could do what the role `{}` may", after.role.as_str()));
    }
    match (!before.all_tenants && after.all_tenants, !before.all_nodes && after.all_nodes) {
        (true, true) => Some("would be for all tenants and nodes".to_owned()),
        (true, false) => Some("would be for all tenants".to_owned()),
        (false, true) => Some("would be for all nodes".to_owned()),
        (false, false) => None,
    }
}

/// The listener that takes the place of another: at its address, else where it stood, if that address is new.
fn counterpart<'n>(before: &Listener, old: &Settings, new: &'n Settings) -> Option<&'n Listener> {
    let there = new.listeners.iter().find(|after| after.address == before.address);
    there.or_else(|| {
        let place = old.listeners.iter().position(|listener| listener == before)?;
        let moved = new.listeners.get(place)?;
        old.listeners.iter().all(|listener| listener.address != moved.address).then_some(moved)
    })
}

fn lost(before: &Listener, after: &Listener) -> Vec<&'static str> {
    let asks = |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| !tls.client_ca_file.is_empty());
    let requires = |listener: &Listener| {
        listener.tls.as_ref().is_some_and(|tls| tls.client_certificates == ClientCertificates::Required)
    };
    let mut lost = Vec::new();
    match (&before.tls, &after.tls) {
        (Some(_), None) => lost.push("its TLS"),
        _ if asks(before) && !asks(after) => lost.push("its client certificates"),
        _ if requires(before) && !requires(after) => lost.push("that client certificates are required"),
        _ => {}
    }
    if !before.roles.is_empty() && after.roles.is_empty() {
        lost.push("its roles, and take everybody's requests");
    }
    lost
}

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => path.clone(),
    }
}

/// Tenants that would go while seats of theirs are held: people are asked before.
pub(super) fn in_use(old: &Config, diff: &Diff) -> Vec<Problem> {
    let used = diff.removed.iter().filter_map(|tenant| Some((tenant, tenant.held.filter(|held| *held > 0)?)));
    let problems = used.map(|(tenant, held)| {
        let are_held = if held == 1 { "1 seat is".to_owned() } else { format!("{held} seats are") };
        let message =
            format!("tenant `{}` would go while {are_held} held: its pairings and clients would end", tenant.tenant);
        let file = old.tenants.get(tenant.tenant.as_str()).map(|tenant| tenant.source.clone());
        let file = file.unwrap_or_else(|| old.main().display().to_string());
        Problem::of_file(file, message).code(ProblemCode::InUse).help(FORCE_HELP)
    });
    problems.take(PROBLEMS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{good, now};
    use super::*;

    fn fleet(tenants: usize, seats: u32) -> Config {
        fleet_with(tenants, &format!("seats = {seats}\n"))
    }

    fn fleet_with(tenants: usize, more: &str) -> Config {
        let names: Vec<String> = (0..tenants).map(|n| format!("t{n}.toml")).collect();
        let text = format!("kind = \"paid\"\n{more}\n");
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
        good("", &files)
    }

    #[test]
    fn a_reload_may_not_take_away_too_much_t187() {
        for (old, new) in [
            (fleet(1, 16), fleet(1, 10)),
            (fleet(4, 10), fleet(4, 0)),
            (fleet(4, 10), fleet(0, 0)),
            (fleet(10, 10), fleet(6, 10)),
            (fleet(10, 10), fleet(10, 7)),
            (fleet(10, 10), fleet(20, 50)),
            (fleet(0, 0), fleet(10, 10)),
        ] {
            assert_eq!(shrink(&old, &new, now()), None);
        }
        let old = fleet(10, 10);
        let dropped = shrink(&old, &fleet(5, 30), now()).unwrap();
        assert_eq!((dropped.tenants_before, dropped.tenants_dropped, dropped.tenants_losing), (10, 5, 5));
        assert_eq!(dropped.message, "5 of 10 tenants would go, more than 20 %; reload with force if this is meant");
        let cut = shrink(&old, &fleet(10, 6), now()).unwrap();
        assert_eq!((cut.seats_before, cut.seats_after, cut.tenants_dropped), (100, 60, 0));
        for none in ["seats = 0", "seats = 10\nsuspended = true", "seats = 10\ncancel_at = \"2026-01-01\""] {
            assert_eq!(shrink(&old, &fleet_with(10, none), now()).unwrap().tenants_dropped, 10, "{none}");
        }
        let unlimited = fleet_with(5, "unlimited = true");
        assert!(shrink(&unlimited, &fleet(5, 0), now()).unwrap().message.contains("5 of 5 tenants"));
        let mut lenient = old.clone();
        lenient.settings.server.reload_tenants_dropped_max_percent = 100;
        lenient.settings.server.reload_seats_dropped_max_percent = 100;
        assert_eq!(shrink(&lenient, &fleet(0, 0), now()), None);
    }

    #[track_caller]
    fn opens(old: &str, new: &str, fragments: &[&str]) {
        let problems = openings(&good(old, &[]), &good(new, &[]));
        let told: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(told.len(), fragments.len(), "{told:?}");
        assert!(told.iter().zip(fragments).all(|(told, fragment)| told.contains(fragment)), "{told:?}");
    }

    #[test]
    fn what_was_closed_is_opened_by_force_only_t188() {
        let token = format!("[[auth.tokens]]\nid = \"n\"\nrole = \"node\"\nsha256 = \"{}\"\n", "a".repeat(64));
        let certificate = "[[auth.certificates]]\nname = \"pbx.example\"\nrole = \"node\"\n";
        let listener = |at: &str, more: &str| format!("[[listener]]\nlisten = \"127.0.0.1:{at}\"\n{more}\n");
        let tls = "tls = { cert_file = \"c\", key_file = \"k\" }";
        let mutual = "tls = { cert_file = \"c\", key_file = \"k\", client_ca_file = \"a\" }";
        let last = "the last credential";
        opens(&token, "", &["has become empty"]);
        opens(&token, "# all of it in comments\n", &["has become empty"]);
        opens("[server]\nworkers = 1\n", " \n", &["has become empty"]);
        opens("# nothing\n", "", &[]);
        opens(&token, "[server]\nworkers = 1\n", &[last]);
        opens(certificate, "[server]\n", &[last]);
        opens(&format!("{token}{certificate}"), certificate, &[]);
        opens("[server]\n", &token, &[]);
        opens(&listener("9", tls), &listener("9", ""), &["127.0.0.1:9 would lose its TLS"]);
        opens(&listener("9", tls), &listener("8", ""), &["127.0.0.1:8 would lose its TLS"]);
        opens(&listener("9", mutual), &listener("9", tls), &["its client certificates"]);
        opens(&listener("9", "roles = [\"scrape\"]"), &listener("9", ""), &["its roles"]);
        opens(&listener("9", "roles = [\"scrape\"]"), &listener("9", "roles = [\"viewer\"]"), &[]);
        opens(&listener("9", tls), "[server]\n", &[]);
        let two = format!("{}{}", listener("9", tls), listener("8", ""));
        opens(&two, &listener("8", ""), &[]);
        opens(&format!("{token}{}", listener("9", tls)), &listener("9", ""), &[last, "its TLS"]);
        let asked = "tls = { cert_file = \"c\", key_file = \"k\", client_ca_file = \"a\", client_certificates = ";
        let (must, may) = (format!("{asked}\"required\" }}"), format!("{asked}\"optional\" }}"));
        opens(&listener("9", &must), &listener("9", mutual), &["that client certificates are required"]);
        opens(&listener("9", &must), &listener("9", &may), &["that client certificates are required"]);
        opens(&listener("9", &may), &listener("9", &must), &[]);
    }

    #[test]
    fn a_credential_is_for_more_by_force_only_t188() {
        let token = |id: &str, role: &str, more: &str| {
            format!("[[auth.tokens]]\nid = \"{id}\"\nrole = \"{role}\"\nsha256 = \"{}\"\n{more}\n", "a".repeat(64))
        };
        let certificate =
            |more: &str| format!("[[auth.certificates]]\nname = \"pbx.example\"\nrole = \"node\"\n{more}\n");
        let (acme, pbx) = ("tenants = [\"acme\"]", "nodes = [\"pbx-1\"]");
        let both = format!("{acme}\n{pbx}");
        let (all_tenants, all_nodes) = ("for all tenants", "for all nodes");
        opens(&token("n", "node", acme), &token("n", "node", ""), &[all_tenants]);
        opens(&token("n", "node", acme), &token("other", "node", ""), &[all_tenants]);
        opens(&token("n", "node", pbx), &token("n", "node", ""), &[all_nodes]);
        opens(&token("n", "node", &both), &token("n", "node", ""), &["for all tenants and nodes"]);
        opens(&token("n", "node", &both), &token("n", "node", acme), &[]);
        opens(&token("n", "node", ""), &token("n", "node", &both), &[]);
        opens(&token("n", "node", acme), &token("n", "node", "tenants = [\"acme\", \"beta\"]"), &[]);
        opens(&certificate(acme), &certificate(""), &[all_tenants]);
        for (before, after, is_wider) in [
            ("scrape", "viewer", true),
            ("viewer", "admin", true),
            ("node", "admin", true),
            ("scrape", "node", true),
            ("admin", "node", false),
            ("viewer", "scrape", false),
        ] {
            let what = format!("could do what the role `{after}` may");
            let told: &[&str] = if is_wider { &[&what] } else { &[] };
            opens(&token("n", before, ""), &token("n", after, ""), told);
        }
    }
}

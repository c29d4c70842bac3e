//! The daemon by what it says of itself: readiness, durability, release, limits, sync, webhooks, scrapes.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::finding::Finding;

/// Descriptors beside the connections: listeners, journal, files, watches.
const FILES_RESERVE: u64 = 256;
/// Scrapes are expected from here on, seconds after the start.
const SCRAPED_AFTER_S: i64 = 300;
/// From this share of a limit on it is time to do something, percent.
const FULL_PERCENT: u64 = 90;

/// Checks that it decides, and records its decisions; `ready` is the answer of `/readyz?verbose`.
pub(super) fn readiness(ready: &Value, address: &str) -> Vec<Finding> {
    let flag = |key: &str| ready.get(key).and_then(Value::as_bool);
    let check = "daemon";
    let daemon = match (flag("ready"), flag("draining")) {
        (Some(true), _) => Finding::ok(check, format!("{address} decides")),
        (_, Some(true)) => Finding::fail(
            check,
            format!("{address} is stopping"),
            "new connections go to whoever starts next",
            "wait until it is back; `journalctl -u usherd` says who stopped it",
        ),
        _ => Finding::fail(
            check,
            format!("{address} is not ready: it is still reading its journal"),
            "inbound and emergency calls are allowed, everybody else has to wait",
            "wait a moment; `journalctl -u usherd -n 50` shows how far it is",
        ),
    };
    vec![daemon, durability(ready)]
}

fn durability(ready: &Value) -> Finding {
    let word = ready.get("durability").and_then(Value::as_str).unwrap_or_default();
    let check = "durability";
    match ready.get("degraded").and_then(Value::as_str) {
        Some(why) => Finding::fail(
            check,
            format!("nothing is recorded any more: {why}"),
            "calls flow, but a restart forgets who holds a seat",
            "check the disk of the state directory (df, dmesg), fix it, then `systemctl restart usherd`",
        ),
        None if word == "degraded" => Finding::fail(
            check,
            "nothing is recorded any more; the reason is shown only to those who may read it",
            "calls flow, but a restart forgets who holds a seat",
            "ask again with a token of the role viewer or admin, or look at `journalctl -u usherd`",
        ),
        None if word == "none" => Finding::warn(
            check,
            "journal.durability is \"none\"",
            "a restart forgets who holds a seat, and there is no audit trail",
            "set journal.durability = \"written\"",
        ),
        None => {
            let form = match ready.get("journal_form").and_then(Value::as_str) {
                Some("ring") => ", into memory that outlives the daemon (ring)",
                Some("hand-off") => ", by a thread of its own (hand-off)",
                _ => "",
            };
            Finding::ok(check, format!("every answer is {word} before it goes out{form}"))
        }
    }
}

/// Checks that the running daemon is of the same release as this program.
pub(super) fn release(overview: &Value, own: &str) -> Finding {
    match overview.get("version").and_then(Value::as_str) {
        Some(version) if version == own => Finding::ok("release", format!("the daemon and this program are {own}")),
        version => Finding::warn(
            "release",
            format!("the daemon is {}, this program is {own}", version.unwrap_or("of an unknown release")),
            "what the newer one fixed is not in force",
            "systemctl restart usherd; with its socket unit nobody is refused",
        ),
    }
}

/// Checks that pulled records arrive; nothing where none are pulled.
pub(super) fn sync(overview: &Value) -> Option<Finding> {
    let sync = overview.get("sync").filter(|sync| !sync.is_null())?;
    let word = |key: &str| sync.get(key).and_then(Value::as_str).unwrap_or_default();
    let since = if word("last_success_at").is_empty() { "never" } else { word("last_success_at") };
    let check = "sync";
    let fix = "`usherd status` has the message; ask whoever publishes; see [sync] and IPAddressAllow= of the unit";
    if sync.get("stale") == Some(&Value::Bool(true)) {
        let what = format!("the records are stale, last confirmed {}", word("confirmed_at"));
        return Some(Finding::fail(check, what, "their tenants are inbound only", fix));
    }
    Some(match word("result") {
        "applied" | "unchanged" => Finding::ok(check, format!("records were confirmed {since}")),
        "" => Finding::note(check, "no records were asked for yet", ""),
        result => Finding::warn(
            check,
            format!("the last try {result}: {} (the last successful one: {since})", word("message")),
            "changes that were published are not in force, and after policy.stale_after_days tenants are inbound only",
            fix,
        ),
    })
}

/// Checks that webhooks arrive, by the answer of `/v1/admin/webhooks`; nothing where there are none.
pub(super) fn webhooks(list: &Value) -> Option<Finding> {
    let hooks = list.get("webhooks")?.as_array().filter(|hooks| !hooks.is_empty())?;
    let state = |hook: &Value| hook.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
    let failing = hooks.iter().filter(|hook| matches!(state(hook).as_str(), "failing" | "gone"));
    let word = |hook: &Value, key: &str| hook.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let told: Vec<String> =
        failing.map(|hook| format!("{} ({})", word(hook, "name"), word(hook, "last_error"))).collect();
    Some(if told.is_empty() {
        Finding::ok("webhooks", format!("{} of them, none failing", hooks.len()))
    } else {
        let fix = "check the receiver; IPAddressAllow= of the unit must include its address";
        let why = "whoever waits for these events does not learn of them";
        Finding::warn("webhooks", format!("cannot be delivered: {}", told.join(", ")), why, fix)
    })
}

/// Checks that the usage history is kept; nothing where the daemon has none.
pub(super) fn history(overview: &Value) -> Option<Finding> {
    let history = overview.get("history").filter(|history| !history.is_null())?;
    let bytes = history.get("bytes").and_then(Value::as_u64).unwrap_or(0);
    let from = history.get("from").and_then(Value::as_str).unwrap_or("now");
    if let Some(problem) = history.get("problem").and_then(Value::as_str) {
        let why = "reports, whatif and sizing by history lack these hours";
        let fix = "check the disk of the state directory (df, dmesg)";
        return Some(Finding::warn("history", format!("usage is not kept: {problem}"), why, fix));
    }
    Some(Finding::ok("history", format!("usage is known from {from} on, {} KiB", bytes >> 10)))
}

/// Room for connections: as many descriptors as the configuration allows connections, and some left.
pub(super) fn descriptors(metrics: &str, connections_max: Option<u32>) -> Option<Finding> {
    let (open, most) = (number(metrics, "process_open_fds")?, number(metrics, "process_max_fds")?);
    let check = "descriptors";
    let fix =
        "raise LimitNOFILE= (systemctl edit usherd; --ulimit nofile= of a container), or lower server.connections_max";
    let why = "beyond it connections are neither accepted nor refused: their nodes wait until the deadline";
    let wanted = u64::from(connections_max.unwrap_or(0)) + FILES_RESERVE;
    if open * 100 >= most * FULL_PERCENT {
        return Some(Finding::fail(check, format!("{open} of {most} are in use"), why, fix));
    }
    Some(if most < wanted {
        let what = format!("{most} are allowed, and server.connections_max needs {wanted}");
        Finding::warn(check, what, why, fix)
    } else {
        Finding::ok(check, format!("{open} of {most} are in use"))
    })
}

/// Checks that somebody scrapes: without scrapes there is no alert. `now` is the present instant.
pub(super) fn scrapes(metrics: &str, now: DateTime<Utc>) -> Option<Finding> {
    let started = number(metrics, "process_start_time_seconds")?;
    let up_s = now.timestamp() - i64::try_from(started).ok()?;
    let (check, fix) = (
        "monitoring",
        "config/prometheus/ (in the package /usr/share/usherd/prometheus/) has scrape configuration and alerts",
    );
    // The one that is looked at here is not counted yet.
    let scrapes = sum(metrics, "usherd_http_requests_total{", "route=\"/metrics\"");
    Some(match scrapes {
        0 if up_s > SCRAPED_AFTER_S => Finding::note(check, "nobody fetches the metrics, so nobody is alerted", fix),
        0 => Finding::note(check, "nobody has fetched the metrics yet", fix),
        scrapes => Finding::ok(check, format!("the metrics were fetched {scrapes} times since the start")),
    })
}

/// The value of a series without labels, as a whole number.
fn number(metrics: &str, name: &str) -> Option<u64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse::<f64>().ok().map(|value| value as u64)
}

/// The sum of the series that begin and have a label like this.
fn sum(metrics: &str, begin: &str, label: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(begin) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Verdict::{self, *};
    use super::*;

    fn verdicts(findings: &[Finding]) -> Vec<Verdict> {
        findings.iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn a_daemon_that_is_not_ready_or_does_not_record_is_told() {
        let table: [(Value, [Verdict; 2]); 5] = [
            (json!({"ready": true, "durability": "written", "degraded": null}), [Ok, Ok]),
            (json!({"ready": true, "durability": "none"}), [Ok, Warn]),
            (json!({"ready": true, "durability": "degraded", "degraded": "No space left"}), [Ok, Fail]),
            (json!({"ready": false, "draining": true, "durability": "synced"}), [Fail, Ok]),
            (json!({"ready": false, "draining": false, "durability": "synced"}), [Fail, Ok]),
        ];
        for (ready, expected) in table {
            assert_eq!(verdicts(&readiness(&ready, "a:1")), expected, "{ready}");
        }
    }

    #[test]
    fn another_release_is_told() {
        assert_eq!(release(&json!({"version": "1.2.3"}), "1.2.3").verdict, Ok);
        assert_eq!(release(&json!({"version": "1.2.2"}), "1.2.3").verdict, Warn);
    }

    #[test]
    fn records_that_do_not_arrive_are_told() {
        let table: [(Value, Option<Verdict>); 5] = [
            (json!({"sync": null}), None),
            (json!({"sync": {"result": "unchanged", "stale": false, "last_success_at": "T"}}), Some(Ok)),
            (json!({"sync": {"result": null}}), Some(Note)),
            (json!({"sync": {"result": "refused", "message": "expired", "stale": false}}), Some(Warn)),
            (json!({"sync": {"result": "failed", "stale": true}}), Some(Fail)),
        ];
        for (overview, expected) in table {
            assert_eq!(sync(&overview).map(|finding| finding.verdict), expected, "{overview}");
        }
        let hooks = json!({"webhooks": [{"name": "crm", "state": "gone", "last_error": "410"}, {"state": "ok"}]});
        assert_eq!(webhooks(&hooks).unwrap().what, "cannot be delivered: crm (410)");
        assert_eq!(history(&json!({"history": {"bytes": 4096, "problem": "disk full"}})).unwrap().verdict, Warn);
        assert_eq!((webhooks(&json!({})), history(&json!({}))), (None, None));
    }

    #[test]
    fn descriptors_are_compared_with_the_allowed_connections() {
        let metrics = |open: u32, most: u32| format!("process_max_fds {most}\nprocess_open_fds {open}\n");
        let table: [(u32, u32, Option<u32>, Verdict); 4] = [
            (35, 65_536, Some(16_384), Ok),
            (35, 1_024, Some(16_384), Warn),
            (35, 1_024, None, Ok),
            (950, 1_024, Some(16_384), Fail),
        ];
        for (open, most, connections, verdict) in table {
            assert_eq!(descriptors(&metrics(open, most), connections).unwrap().verdict, verdict, "{open} {most}");
        }
        assert_eq!(descriptors("", None), None);
    }

    #[test]
    fn scrapes_are_counted() {
        let now = DateTime::from_timestamp(2_000, 0).unwrap();
        let metrics = |count: u32| {
            format!(
                "process_start_time_seconds 1000\nusherd_http_requests_total{{route=\"/metrics\",method=\"GET\"}} {count}\n"
            )
        };
        assert_eq!(
            scrapes(&metrics(7), now).unwrap(),
            Finding::ok("monitoring", "the metrics were fetched 7 times since the start")
        );
        assert_eq!(scrapes(&metrics(0), now).unwrap().verdict, Note);
    }
}

//! The daemon by what it says of itself: readiness, durability, release, limits, sync, webhooks, scrapes.

use chrono::{DateTime, Utc};

use super::finding::Finding;
use crate::answers::overview::{HistoryState, Overview, Ready};
use crate::answers::webhooks::{Webhook, WebhookState};
use crate::answers::words::{DurabilityNow, JournalForm, SyncResult};

/// Descriptors beside the connections: listeners, journal, files, watches.
const FILES_RESERVE: u64 = 256;
/// Scrapes are expected from here on, seconds after the start.
const SCRAPED_AFTER_S: i64 = 300;
/// From this share of a limit on it is time to do something, percent.
const FULL_PERCENT: u64 = 90;

/// Checks that it decides, and records its decisions; `ready` is the answer of `/readyz?verbose`.
pub(super) fn readiness(ready: &Ready, address: &str) -> Vec<Finding> {
    let check = "daemon";
    let daemon = match (ready.ready, ready.draining) {
        (true, _) => Finding::ok(check, format!("{address} decides")),
        (false, true) => Finding::fail(
            check,
            format!("{address} is stopping"),
            "new connections go to whoever starts next",
            "wait until it is back; `journalctl -u usherd` says who stopped it",
        ),
        (false, false) => Finding::fail(
            check,
            format!("{address} is not ready: it is still reading its journal"),
            "inbound and emergency calls are allowed, everybody else has to wait",
            "wait a moment; `journalctl -u usherd -n 50` shows how far it is",
        ),
    };
    vec![daemon, durability(ready)]
}

fn durability(ready: &Ready) -> Finding {
    let check = "durability";
    let word = &ready.durability;
    match (ready.degraded.as_ref().and_then(Option::as_ref), DurabilityNow::from_word(word)) {
        (Some(why), _) => Finding::fail(
            check,
            format!("nothing is recorded any more: {why}"),
            "calls flow, but a restart forgets who holds a seat",
            "check the disk of the state directory (df, dmesg), fix it, then `systemctl restart usherd`",
        ),
        (None, Some(DurabilityNow::Degraded)) => Finding::fail(
            check,
            "nothing is recorded any more; the reason is shown only to those who may read it",
            "calls flow, but a restart forgets who holds a seat",
            "ask again with a token of the role viewer or admin, or look at `journalctl -u usherd`",
        ),
        (None, Some(DurabilityNow::None)) => Finding::warn(
            check,
            "journal.durability is \"none\"",
            "a restart forgets who holds a seat, and there is no audit trail",
            "set journal.durability = \"written\"",
        ),
        (None, _) => {
            let form = match ready.journal_form.as_deref().and_then(JournalForm::from_word) {
                Some(JournalForm::Ring) => ", into memory that outlives the daemon (ring)",
                Some(JournalForm::HandOff) => ", by a thread of its own (hand-off)",
                _ => "",
            };
            Finding::ok(check, format!("every answer is {word} before it goes out{form}"))
        }
    }
}

/// Checks that the running daemon is of the same release as this program.
pub(super) fn release(overview: &Overview, own: &str) -> Finding {
    let version = if overview.version.is_empty() { "of an unknown release" } else { &overview.version };
    if version == own {
        return Finding::ok("release", format!("the daemon and this program are {own}"));
    }
    Finding::warn(
        "release",
        format!("the daemon is {version}, this program is {own}"),
        "what the newer one fixed is not in force",
        "systemctl restart usherd; with its socket unit nobody is refused",
    )
}

/// Checks that pulled records arrive; nothing where none are pulled.
pub(super) fn sync(overview: &Overview) -> Option<Finding> {
    let sync = overview.sync.as_ref()?;
    let since = sync.last_success_at.as_deref().unwrap_or("never");
    let check = "sync";
    let fix = "`usherd status` has the message; ask whoever publishes; see [sync] and IPAddressAllow= of the unit";
    if sync.stale {
        let confirmed_at = sync.confirmed_at.as_deref().unwrap_or_default();
        let what = format!("the records are stale, last confirmed {confirmed_at}");
        return Some(Finding::fail(check, what, "their tenants are inbound only", fix));
    }
    let Some(result) = &sync.result else { return Some(Finding::note(check, "no records were asked for yet", "")) };
    let message = sync.message.as_deref().unwrap_or_default();
    Some(match SyncResult::from_word(result) {
        Some(SyncResult::Applied | SyncResult::Unchanged) => {
            Finding::ok(check, format!("records were confirmed {since}"))
        }
        _ => Finding::warn(
            check,
            format!("the last try {result}: {message} (the last successful one: {since})"),
            "changes that were published are not in force, and after policy.stale_after_days tenants are inbound only",
            fix,
        ),
    })
}

/// Checks that webhooks arrive; nothing where there are none.
pub(super) fn webhooks(hooks: &[Webhook]) -> Option<Finding> {
    let bad = [WebhookState::Failing.into(), WebhookState::Gone.into()];
    let failing = hooks.iter().filter(|hook| bad.contains(&hook.state));
    let told: Vec<String> =
        failing.map(|hook| format!("{} ({})", hook.name, hook.last_error.as_deref().unwrap_or_default())).collect();
    (!hooks.is_empty()).then(|| {
        if told.is_empty() {
            Finding::ok("webhooks", format!("{} of them, none failing", hooks.len()))
        } else {
            let fix = "check the receiver; IPAddressAllow= of the unit must include its address";
            let why = "whoever waits for these events does not learn of them";
            Finding::warn("webhooks", format!("cannot be delivered: {}", told.join(", ")), why, fix)
        }
    })
}

/// Checks that the usage history is kept; nothing where the daemon has none.
pub(super) fn history(overview: &Overview) -> Option<Finding> {
    let history = Some(&overview.history).filter(|history| **history != HistoryState::default())?;
    if let Some(problem) = &history.problem {
        let why = "reports, whatif and sizing by history lack these hours";
        let fix = "check the disk of the state directory (df, dmesg)";
        return Some(Finding::warn("history", format!("usage is not kept: {problem}"), why, fix));
    }
    let from = history.from.as_deref().unwrap_or("now");
    Some(Finding::ok("history", format!("usage is known from {from} on, {} KiB", history.bytes >> 10)))
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
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::super::finding::Verdict::{self, *};
    use super::*;
    use crate::answers::webhooks::Webhooks;

    fn read<T: DeserializeOwned>(answer: &Value) -> T {
        serde_json::from_value(answer.clone()).unwrap()
    }

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
            assert_eq!(verdicts(&readiness(&read(&ready), "a:1")), expected, "{ready}");
        }
    }

    #[test]
    fn another_release_is_told() {
        assert_eq!(release(&read(&json!({"version": "1.2.3"})), "1.2.3").verdict, Ok);
        assert_eq!(release(&read(&json!({"version": "1.2.2"})), "1.2.3").verdict, Warn);
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
            assert_eq!(sync(&read(&overview)).map(|finding| finding.verdict), expected, "{overview}");
        }
        let hooks = json!({"webhooks": [{"name": "crm", "state": "gone", "last_error": "410"}, {"state": "ok"}]});
        let hooks: Webhooks = read(&hooks);
        assert_eq!(webhooks(&hooks.webhooks).unwrap().what, "cannot be delivered: crm (410)");
        let disk_full = json!({"history": {"bytes": 4096, "problem": "disk full"}});
        assert_eq!(history(&read(&disk_full)).unwrap().verdict, Warn);
        assert_eq!((webhooks(&[]), history(&read(&json!({})))), (None, None));
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

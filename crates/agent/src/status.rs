//! The status of the agent: for monitoring (text exposition) and for people (JSON).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use usherd_client::{Source, Unreachable};

use super::hub::{Hub, SourceState};
use super::presence::Presence;

/// Each counter with the name of its label and its meaning.
const COUNTERS: [(&str, &str, &str); 19] = [
    ("adopted", "", "Sessions that ran already and nobody remembered."),
    ("connections_refused", "", "Connections to the socket beyond connections_max."),
    ("inventories", "", "Inventories that usherd took."),
    ("listings", "source", "Whole listings of what lives at a PBX."),
    ("listings_unsure", "source", "Listings that could not be believed."),
    ("malformed", "", "Questions over the socket that could not be understood."),
    ("missed", "why", "Messages that no call waits for and usherd did not answer well, by why."),
    ("moved", "", "Times that another daemon was taken because the one in use did not answer."),
    ("questions", "source", "Questions by who decided: daemon, inbound, emergency, or why it could not be asked."),
    ("refused", "source", "Of these, refused."),
    ("released", "", "Sessions that ended."),
    ("reports_full", "", "Reports left to the next inventory because too many waited."),
    ("reports_refused", "", "Reports that usherd refused."),
    ("retried", "", "Questions asked once more, on a new connection or at another daemon."),
    ("rows_unread", "source", "Rows of listings and events that could not be read and were left out."),
    ("scripts_broken", "", "Scripts of Asterisk that broke off."),
    ("spool_failed", "", "Releases that could not be written down."),
    ("spool_full", "", "Releases that did not fit into the spool, or waited for its disk as one too many."),
    ("unusable", "", "Channels that hold a seat and name no tenant that usherd could have; each listing counts them."),
];

/// The text exposition.
pub fn metrics(hub: &Hub) -> String {
    let mut out = String::new();
    let client = hub.client.status();
    let (waiting, damaged) = (hub.writer.waiting(), hub.writer.damaged());
    let sum = |of: fn(&Presence) -> usize| hub.sources.iter().map(|source| of(&source.presence.lock())).sum::<usize>();
    for (name, help, value) in [
        ("connected", "Whether usherd answered hello and every heartbeat since.", u64::from(client.connected)),
        ("paused", "Whether calls do not wait for usherd.", u64::from(client.paused)),
        ("sessions", "Sessions that live on this node.", client.sessions as u64),
        ("sessions_unconfirmed", "Of these, allowed here and still to be adopted.", client.unconfirmed as u64),
        ("sessions_watched", "Sessions that the agent knows of by scripts and listings.", hub.known() as u64),
        ("presence_held", "Devices that hold a seat.", sum(Presence::held) as u64),
        ("presence_in_grace", "Of these, those that cannot be reached.", sum(Presence::in_grace) as u64),
        ("presence_left_out", "Times that a device was one too many for this agent.", sum(Presence::left_out) as u64),
        ("reports_waiting", "Releases and reports in memory that wait for usherd.", client.reports as u64),
        ("spool_waiting", "Releases, on disk or on their way there, that wait for usherd.", waiting),
        ("spool_damaged", "Lines of the spool that could not be read at the start.", damaged),
        ("uptime_seconds", "Seconds since the start.", hub.uptime_s()),
    ] {
        let _ = write!(
            out,
            "# HELP usherd_agent_{name} {help}\n# TYPE usherd_agent_{name} gauge\nusherd_agent_{name} {value}\n"
        );
    }
    out.push_str("# HELP usherd_agent_source_connected Whether a PBX is connected.\n");
    out.push_str("# TYPE usherd_agent_source_connected gauge\n");
    for source in &hub.sources {
        let connected = u8::from(source.connected.load(Ordering::Relaxed));
        let _ = writeln!(out, "usherd_agent_source_connected{{source=\"{}\"}} {connected}", source.name);
    }
    daemons(hub, client.daemon, &mut out);
    counters(hub, &mut out);
    out
}

fn daemons(hub: &Hub, in_use: usize, out: &mut String) {
    let answers = hub.counters.answers.lock().clone();
    let labels =
        || hub.client.addresses().map(|address| address.to_string().replace('\\', "\\\\").replace('"', "\\\""));
    out.push_str("# HELP usherd_agent_daemon_in_use Whether usherd is asked at this address.\n");
    out.push_str("# TYPE usherd_agent_daemon_in_use gauge\n");
    for (at, address) in labels().enumerate() {
        let _ = writeln!(out, "usherd_agent_daemon_in_use{{address=\"{address}\"}} {}", u8::from(at == in_use));
    }
    out.push_str("# HELP usherd_agent_answers_total Questions that usherd answered, by its address.\n");
    out.push_str("# TYPE usherd_agent_answers_total counter\n");
    for (at, address) in labels().enumerate() {
        let count = answers.get(&at).copied().unwrap_or_default();
        let _ = writeln!(out, "usherd_agent_answers_total{{address=\"{address}\"}} {count}");
    }
}

fn counters(hub: &Hub, out: &mut String) {
    let counted = hub.counters.all();
    for (name, label, help) in COUNTERS {
        let _ = write!(out, "# HELP usherd_agent_{name}_total {help}\n# TYPE usherd_agent_{name}_total counter\n");
        if label.is_empty() {
            let count = counted.iter().find(|(of, ..)| *of == name).map_or(0, |(_, _, count)| *count);
            let _ = writeln!(out, "usherd_agent_{name}_total {count}");
        }
        let mut values = known_values(hub, name);
        let of_this = || counted.iter().filter(|(of, value, _)| *of == name && !value.is_empty());
        values.extend(of_this().map(|(_, value, _)| *value));
        for value in values {
            let count = of_this().find(|(_, of, _)| *of == value).map_or(0, |(_, _, count)| *count);
            let _ = writeln!(out, "usherd_agent_{name}_total{{{label}=\"{value}\"}} {count}");
        }
    }
}

/// The values that a counter's label may have, so that each is there from the start.
fn known_values(hub: &Hub, counter: &str) -> BTreeSet<&'static str> {
    let reasons = Unreachable::ALL.iter().map(|reason| reason.as_str());
    match counter {
        "missed" => reasons.collect(),
        "questions" | "refused" => {
            let decided = [Source::Daemon, Source::Inbound, Source::Emergency, Source::Malformed];
            reasons.chain(decided.map(Source::as_str)).collect()
        }
        "listings" | "listings_unsure" | "rows_unread" => hub.sources.iter().map(|source| source.name).collect(),
        _ => BTreeSet::new(),
    }
}

/// A summary for people.
pub fn summary(hub: &Hub) -> Value {
    let client = hub.client.status();
    let (waiting, damaged) = (hub.writer.waiting(), hub.writer.damaged());
    let source = |source: &SourceState| {
        let connected = source.connected.load(Ordering::Relaxed);
        let presence = source.presence.lock();
        json!({
            "source": source.name, "connected": connected, "presence": presence.held(), "in_grace": presence.in_grace(),
        })
    };
    let sources: Vec<Value> = hub.sources.iter().map(source).collect();
    let missed = hub.counters.missed().filter(|_| !client.connected);
    json!({
        "node": hub.node().as_str(), "uptime_s": hub.uptime_s(), "connected": client.connected,
        "address": hub.client.address().to_string(),
        "why": missed.map(|missed| missed.why), "help": missed.map(|missed| missed.help), "paused": client.paused,
        "sessions": client.sessions, "unconfirmed": client.unconfirmed, "watched": hub.known(),
        "releases_waiting": waiting, "spool_damaged": damaged, "sources": sources,
    })
}

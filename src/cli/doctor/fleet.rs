//! Tenants and nodes: who is full, who is silent, and what is known of one node.

use serde_json::Value;

use super::finding::Finding;

const TENANTS: &str = "tenants";
const NODES: &str = "nodes";
/// Names that are told before "and more".
const NAMES_MAX: usize = 5;

/// Tenants that are full or above their quota, by the counts of the overview.
pub(super) fn tenants(overview: &Value) -> Finding {
    let count = |band: &str| overview.get("bands").and_then(|bands| bands.get(band)?.as_u64()).unwrap_or(0);
    let all = overview.get("tenants").and_then(Value::as_u64).unwrap_or(0);
    match (count("over"), count("full")) {
        _ if all == 0 => Finding::warn(
            TENANTS,
            "the daemon knows no tenant",
            "nobody may dial out; inbound and emergency calls are allowed",
            "add a file to tenants.d, or check [sync]",
        ),
        (0, 0) => Finding::ok(TENANTS, format!("{all} tenants, each with free seats")),
        (0, full) => Finding::warn(
            TENANTS,
            format!("{full} of {all} tenants are full"),
            "the next person there who needs a seat is refused",
            "`usherd tenants --band full` names them, `usherd whatif TENANT` says how many seats would be enough",
        ),
        (over, full) => Finding::warn(
            TENANTS,
            format!("{over} of {all} tenants hold more than their quota, {full} are full"),
            "nobody is cut off, but nobody new there gets a seat",
            "`usherd tenants --band over` names them",
        ),
    }
}

/// Nodes that went silent.
pub(super) fn nodes(nodes: &[Value]) -> Finding {
    let said_hello = nodes.iter().filter(|node| node.get("epoch").is_some_and(|epoch| !epoch.is_null()));
    let known: Vec<&Value> = said_hello.collect();
    let silent: Vec<String> =
        known.iter().filter(|node| word(node, "state") == "silent").map(|node| name(node)).collect();
    if silent.is_empty() {
        return match known.len() {
            0 => Finding::note(
                NODES,
                "no node has said hello",
                "`usherd agent` beside a PBX does: without it a crash of the PBX keeps its seats until their ttl_s",
            ),
            count => Finding::ok(NODES, format!("{count} nodes, none of them silent")),
        };
    }
    let more = if silent.len() > NAMES_MAX { ", and more" } else { "" };
    let names = silent.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    Finding::warn(
        NODES,
        format!("{} of {} nodes are silent: {names}{more}", silent.len(), known.len()),
        "their sessions lose their seats when the grace ends, though calls may go on there",
        "check the PBX and the network between; on it, `systemctl status usherd-agent`; here `usherd doctor --node NAME`",
    )
}

/// Checks one node.
pub(super) fn node(nodes: &[Value], wanted: &str, lease_s: Option<u32>) -> Finding {
    let check = "node";
    let Some(node) = nodes.iter().find(|node| word(node, "node") == wanted) else {
        let others: Vec<&str> = nodes.iter().map(|node| word(node, "node")).take(NAMES_MAX).collect();
        let known = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        return Finding::fail(
            check,
            format!("{wanted} was never heard; known nodes: {known}"),
            "its calls are not counted, or are counted under another name",
            "compare `node` in /etc/usherd/agent.toml there; is usherd's address right, and reached from there?",
        );
    };
    let what = told(node);
    match (word(node, "state"), node.get("epoch").is_some_and(|epoch| !epoch.is_null())) {
        (_, false) => Finding::warn(
            check,
            format!("{wanted} asks, but never said hello"),
            "its sessions end only with their ttl_s: after a crash there they keep their seats until then",
            "run `usherd agent` beside it",
        ),
        ("up", true) => Finding::ok(check, format!("{wanted} is up: {what}")),
        ("left", true) => Finding::warn(
            check,
            format!("{wanted} said goodbye: {what}"),
            "its sessions ended with it, and calls that go on there are not counted",
            "start the agent there again: systemctl start usherd-agent",
        ),
        _ => Finding::fail(
            check,
            format!("{wanted} is silent: {what}"),
            match lease_s {
                Some(lease_s) => format!("nothing was heard for more than the lease of {lease_s} s"),
                None => "nothing was heard for longer than its lease".to_owned(),
            },
            "on its host: systemctl status usherd-agent; journalctl -u usherd-agent -n 50; curl usherd's /livez from there",
        ),
    }
}

/// Everything that the daemon tells of a node, whatever that is: heartbeat, epoch, inventory.
fn told(node: &Value) -> String {
    let fields = node.as_object().into_iter().flatten();
    let shown = fields.filter(|(key, value)| !matches!(key.as_str(), "node" | "state") && !value.is_null());
    let pairs = shown.map(|(key, value)| match value {
        Value::String(text) => format!("{} {text}", key.replace('_', " ")),
        other => format!("{} {other}", key.replace('_', " ")),
    });
    pairs.collect::<Vec<_>>().join(", ")
}

fn word<'a>(node: &'a Value, key: &str) -> &'a str {
    node.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The name of a node and when it was heard last.
fn name(node: &Value) -> String {
    let seen = word(node, "last_seen");
    if seen.is_empty() { word(node, "node").to_owned() } else { format!("{} (last heard {seen})", word(node, "node")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Verdict::{self, *};
    use super::*;

    #[test]
    fn full_tenants_are_counted() {
        let table: [(u64, u64, u64, Verdict); 4] = [(4, 0, 0, Ok), (4, 1, 0, Warn), (4, 0, 1, Warn), (0, 0, 0, Warn)];
        for (tenants_in_all, full, over, verdict) in table {
            let overview = json!({"tenants": tenants_in_all, "bands": {"full": full, "over": over}});
            assert_eq!(tenants(&overview).verdict, verdict, "{overview}");
        }
    }

    #[test]
    fn a_node_that_is_silent_or_unknown_is_told_by_its_name() {
        let all = [
            json!({"node": "pbx1", "epoch": 7, "state": "up", "last_seen": "2026-11-22T12:54:20Z"}),
            json!({"node": "pbx2", "epoch": 3, "state": "silent", "last_seen": "2026-11-22T11:00:00Z"}),
            json!({"node": "pbx3", "epoch": null, "state": "silent", "last_seen": null}),
            json!({"node": "pbx5", "epoch": 2, "state": "left", "last_seen": "2026-11-22T11:00:00Z"}),
        ];
        let table: [(&str, Verdict, &str); 5] = [
            ("pbx1", Ok, "epoch 7, last seen 2026-11-22T12:54:20Z"),
            ("pbx2", Fail, "last seen 2026-11-22T11:00:00Z"),
            ("pbx3", Warn, "never said hello"),
            ("pbx4", Fail, "known nodes: pbx1, pbx2, pbx3"),
            ("pbx5", Warn, "said goodbye"),
        ];
        for (wanted, verdict, word) in table {
            let finding = node(&all, wanted, Some(15));
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(word), "{finding:?}");
        }
        let finding = nodes(&all);
        assert!(finding.verdict == Warn && finding.what.starts_with("1 of 3 nodes are silent: pbx2"), "{finding:?}");
        assert_eq!((nodes(&all[..1]).verdict, nodes(&[]).verdict), (Ok, Note));
    }
}

//! Tenants and nodes: who is full, who is silent, and what is known of one node.

use super::finding::Finding;
use crate::answers::nodes::{NodeRow, NodeState};
use crate::answers::overview::Overview;
use crate::answers::words::Band;

const TENANTS: &str = "tenants";
const NODES: &str = "nodes";
/// Names that are told before "and more".
const NAMES_MAX: usize = 5;

/// Tenants that are full or above their quota, by the counts of the overview.
pub(super) fn tenants(overview: &Overview) -> Finding {
    let count = |band: Band| overview.bands.get(&band.into()).copied().unwrap_or(0);
    let all = overview.tenants;
    match (count(Band::Over), count(Band::Full)) {
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
pub(super) fn nodes(nodes: &[NodeRow]) -> Finding {
    let known: Vec<&NodeRow> = nodes.iter().filter(|node| node.epoch.is_some()).collect();
    let is_silent = |node: &NodeRow| node.state == NodeState::Silent.into();
    let silent: Vec<String> = known.iter().filter(|node| is_silent(node)).map(|node| name(node)).collect();
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
pub(super) fn node(nodes: &[NodeRow], wanted: &str, lease_s: Option<u32>) -> Finding {
    let check = "node";
    let Some(node) = nodes.iter().find(|node| node.node == wanted) else {
        let others: Vec<&str> = nodes.iter().map(|node| node.node.as_str()).take(NAMES_MAX).collect();
        let known = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
        return Finding::fail(
            check,
            format!("{wanted} was never heard; known nodes: {known}"),
            "its calls are not counted, or are counted under another name",
            "compare `node` in /etc/usherd/agent.toml there; is usherd's address right, and reached from there?",
        );
    };
    let Some(epoch) = node.epoch else {
        return Finding::warn(
            check,
            format!("{wanted} asks, but never said hello"),
            "its sessions end only with their ttl_s: after a crash there they keep their seats until then",
            "run `usherd agent` beside it",
        );
    };
    let last_seen = node.last_seen.as_ref().map(|at| format!(", last seen {at}")).unwrap_or_default();
    let what = format!("epoch {epoch}{last_seen}");
    match NodeState::from_word(&node.state) {
        Some(NodeState::Up) => Finding::ok(check, format!("{wanted} is up: {what}")),
        Some(NodeState::Left) => Finding::warn(
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

/// The name of a node and when it was heard last.
fn name(node: &NodeRow) -> String {
    match &node.last_seen {
        None => node.node.clone(),
        Some(seen) => format!("{} (last heard {seen})", node.node),
    }
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
            assert_eq!(
                tenants(&serde_json::from_value(overview).unwrap()).verdict,
                verdict,
                "{tenants_in_all} {full} {over}"
            );
        }
    }

    #[test]
    fn a_node_that_is_silent_or_unknown_is_told_by_its_name() {
        let all = json!([
            {"node": "pbx1", "epoch": 7, "state": "up", "last_seen": "2026-11-22T12:54:20Z"},
            {"node": "pbx2", "epoch": 3, "state": "silent", "last_seen": "2026-11-22T11:00:00Z"},
            {"node": "pbx3", "epoch": null, "state": "silent", "last_seen": null},
            {"node": "pbx5", "epoch": 2, "state": "left", "last_seen": "2026-11-22T11:00:00Z"},
        ]);
        let all: Vec<NodeRow> = serde_json::from_value(all).unwrap();
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

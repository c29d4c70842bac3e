//! Tells of nodes that fell silent without a goodbye, and of those that are heard again (G6).

use std::collections::HashMap;

use usherd_engine::{Engine, Name, NodeView, Now};

use crate::daemon::events::{Event, EventResult, EventType, Events};

/// The nodes that were reported as silent; as many as the engine lists.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Nodes that were up, and whether they have been told as lost.
    told: HashMap<Name, bool>,
}

impl Silence {
    /// Looks at all nodes; call it about every second.
    pub(super) fn look(&mut self, engine: &Engine, events: &Events, now: Now) {
        for (node, result) in self.see(&engine.nodes(now)) {
            let text = match result {
                EventResult::Lost => format!(
                    "node {node} is silent and its lease is over: its sessions keep their seats for their grace"
                ),
                _ => format!("node {node} is heard again"),
            };
            tracing::warn!(node = %node, "{text}");
            events.publish(Event { node, ..Event::came_to(EventType::Node, result, now.utc_ms, text) });
        }
    }

    fn see(&mut self, nodes: &[NodeView]) -> Vec<(Name, EventResult)> {
        let mut news = Vec::new();
        // Who left or is forgotten is nobody's worry any more.
        let before = std::mem::take(&mut self.told);
        for node in nodes.iter().filter(|node| node.epoch.is_some() && !node.left) {
            let was_lost = before.get(&node.node).copied();
            match (was_lost, node.up) {
                (Some(false), false) => news.push((node.node.clone(), EventResult::Lost)),
                (Some(true), true) => news.push((node.node.clone(), EventResult::Back)),
                _ => {}
            }
            // A node that was not up since the start of the daemon is not lost by it.
            if node.up || was_lost.is_some() {
                self.told.insert(node.node.clone(), !node.up);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_lost_once_and_back_once_and_goodbye_is_neither() {
        let mut silence = Silence::default();
        let node = |node: &str, up, left| NodeView { node: node.into(), epoch: Some(1), up, left, last_seen_ms: 1 };
        let mut see = |a: (bool, bool), b: (bool, bool)| {
            let news = silence.see(&[node("a", a.0, a.1), node("b", b.0, b.1)]);
            news.into_iter().map(|(node, word)| format!("{node} {word}")).collect::<Vec<_>>().join(", ")
        };
        for (a, b, news) in [
            ((false, false), (true, false), ""),
            ((true, false), (false, false), "b lost"),
            ((true, false), (false, false), ""),
            ((false, true), (true, false), "b back"),
            ((false, false), (false, false), "b lost"),
            ((true, false), (true, false), "b back"),
        ] {
            assert_eq!(see(a, b), news, "{a:?} {b:?}");
        }
    }
}

//! The same questions from a script of Asterisk: what `AGI(agi://…/acquire?…)` means.

use std::sync::Arc;

use usherd_contract::agi::{Variable, script, variables, variables_of_fault, variables_of_silence};

use super::Worker;
use super::verb::Verb;
use crate::daemon::access::auth::{Access, Role};
use crate::daemon::edge::Peer;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::http::reply::message;

impl Worker {
    /// The channel variables that answer a script. Only a denial refuses; whatever is wrong lets the call go out, and
    /// says so (C20).
    pub(super) async fn answer_script(&self, head: &[u8], peer: &Peer) -> [Variable; 4] {
        let script = match script(head) {
            Ok(script) => script,
            Err(wrong) => return variables_of_fault(wrong.to_string()),
        };
        let verb = if script.is_release { Verb::Release } else { Verb::Acquire };
        // FastAGI knows no credentials: whoever reaches the listener is a node.
        let caller = self.ready().map(|()| Arc::new(Access::new("agi", Role::Node)));
        match self.ask_form(verb, &script.form, &caller).await {
            Ok(decision) => {
                peer.mark_node();
                let refuses = decision.code.denies().then_some(decision.sip_code);
                variables(decision.code, message(decision.code, decision.detail), refuses)
            }
            Err(problem) => match problem.kind() {
                ProblemKind::Malformed | ProblemKind::TooLarge => variables_of_fault(problem.in_one_line()),
                _ => variables_of_silence(problem.in_one_line()),
            },
        }
    }
}

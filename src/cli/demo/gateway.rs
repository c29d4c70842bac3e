//! The gateway of the cordless phones, which loses its power: what the daemon notices of it, and when (G6, G8).

use usherd_engine::{Engine, Name, Now, SessionFilter};

use super::office::{Node, TENANT, called};

/// How it is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Powered,
    /// The daemon has not noticed yet.
    Silent,
    /// It has; the seats of its calls are kept for the grace.
    Lost,
    /// They are free.
    Freed,
}

/// The gateway, and the call that it took with it.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    state: State,
    /// Session and subject.
    cut_off: Option<(Name, Name)>,
}

impl Gateway {
    /// It is gone without a goodbye: what is to be told.
    pub(super) fn loses_power(&mut self, engine: &Engine) -> String {
        self.state = State::Silent;
        self.cut_off = counting(engine).pop();
        let call = self
            .cut_off
            .as_ref()
            .map_or(String::new(), |(_, who)| format!(", and the call of {} with it", called(who)));
        format!("The gateway of the cordless phones loses its power{call}. Nobody tells the daemon.")
    }

    /// The event that the daemon has noticed since, if it is new.
    pub(super) fn look(&mut self, engine: &Engine, now: Now) -> Option<String> {
        if self.state == State::Silent
            && engine.nodes(now).iter().any(|node| node.node == Node::Dect.name() && !node.up)
        {
            self.state = State::Lost;
            let keeps = "Its calls keep their seats for the grace, in case it comes back.";
            return Some(format!("The gateway missed its heartbeats and is taken for lost. {keeps}"));
        }
        let (session, who) = self.cut_off.as_ref().filter(|_| self.state == State::Lost)?;
        if counting(engine).iter().any(|(other, _)| other == session) {
            return None;
        }
        self.state = State::Freed;
        let held = engine.tenant(now, TENANT).map_or(0, |view| view.held);
        Some(format!("The grace is over: the seat of {} is free by itself, {held} are held.", called(who)))
    }

    /// It has its power back: what is to be told, where it had lost it.
    pub(super) fn is_back(&mut self) -> Option<&'static str> {
        match std::mem::take(&mut self.state) {
            State::Powered => None,
            State::Freed => Some("The gateway has its power back, and says hello with a new epoch."),
            State::Silent | State::Lost => Some(
                "The gateway has its power back, and says hello with a new epoch: the calls of the old one are over.",
            ),
        }
    }
}

/// Its sessions that hold a seat, and whose.
fn counting(engine: &Engine) -> Vec<(Name, Name)> {
    let node = Some(Name::const_new(Node::Dect.name()));
    let filter = SessionFilter { node, counts: Some(true), ..SessionFilter::default() };
    let sessions = engine.sessions(TENANT, &filter, "", 100).unwrap_or_default();
    sessions.into_iter().map(|session| (session.session, session.subject)).collect()
}

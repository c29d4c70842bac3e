//! Plays a row: requests to a record at instants, each with the answer that the rule book gives.
//!
//! `at INSTANT` moves the clock. `[operator] [addon:ID] VERB ARGUMENTS -> ANSWER` asks; the answer is the instant
//! at which it takes effect, `now`, `waits`, or the code of a refusal with the earliest instant behind it.
//! `is STATE SEATS [base STATE] [addon STATE]` looks at the entitlement and the storefront's states.

use chrono::{DateTime, Utc};
use usherd_subscription::entitlement::entitlement;
use usherd_subscription::policy::Terms;
use usherd_subscription::record::{Actor, Object, Record};
use usherd_subscription::request::{Accepted, Request, Verb, request};
use usherd_subscription::schedule::{addon_state, subscription_state};

/// A record with its terms while requests are put to it.
pub(crate) struct Play {
    pub(crate) record: Record,
    pub(crate) terms: Terms,
    pub(crate) now: DateTime<Utc>,
}

pub(crate) fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Play {
    pub(crate) fn run(&mut self, id: &str, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.line(&format!("{id}: {line}"), line);
        }
    }

    fn line(&mut self, place: &str, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["at", instant] => self.now = t(instant),
            ["is", state, seats, rest @ ..] => self.check(place, state, seats, rest),
            _ => {
                let (asked, answer) = line.split_once("->").unwrap_or_else(|| panic!("{place}: no answer"));
                let got = self.ask(asked);
                let got = match &got {
                    Ok(Accepted { effective_at: None, .. }) => "waits".to_owned(),
                    Ok(Accepted { effective_at: Some(at), .. }) if *at == self.now => "now".to_owned(),
                    Ok(Accepted { effective_at: Some(at), .. }) => shown(*at),
                    Err(refusal) => {
                        assert!(refusal.message.len() > 10, "{place}: {}", refusal.message);
                        let earliest = refusal.earliest.map(|at| format!(" {}", shown(at))).unwrap_or_default();
                        format!("{}{earliest}", refusal.code.as_str())
                    }
                };
                assert!(got == answer.trim() || got.split(' ').next() == Some(answer.trim()), "{place}: got {got}");
            }
        }
    }

    fn ask(&mut self, asked: &str) -> Result<Accepted, usherd_subscription::refusal::Refusal> {
        let mut words: Vec<&str> = asked.split_whitespace().collect();
        let actor = if words[0] == "operator" { Actor::Operator } else { Actor::Customer };
        words.retain(|word| *word != "operator");
        let object = words[0].parse().unwrap_or(Object::Subscription);
        if object != Object::Subscription {
            words.remove(0);
        }
        let before = self.record.clone();
        let answer = request(&self.record, &self.terms, &Request { actor, object, verb: verb(&words) }, self.now);
        match &answer {
            Ok(accepted) => self.record = accepted.record.clone(),
            Err(_) => assert_eq!(self.record, before, "a refusal changes nothing"),
        }
        answer
    }

    fn check(&self, place: &str, state: &str, seats: &str, rest: &[&str]) {
        let got = entitlement(&self.record, &self.terms, self.now);
        let got_seats = got.seats.map_or("unlimited".to_owned(), |seats| seats.to_string());
        assert_eq!((got.state.as_str(), got_seats.as_str()), (state, seats), "{place}");
        for pair in rest.chunks(2) {
            let got = match pair[0] {
                "base" => subscription_state(&self.record, &self.terms, self.now),
                "addon" => addon_state(&self.record, &self.record.addons[0], &self.terms, self.now),
                other => panic!("{place}: {other}"),
            };
            assert_eq!(got.as_str(), pair[1], "{place}");
        }
    }
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

fn verb(words: &[&str]) -> Verb {
    let number = |at: usize| words[at].parse().unwrap();
    let change = || words[1].to_owned();
    match words[0] {
        "add" => Verb::Add { seats: number(1) },
        "reduce" => Verb::Reduce { to: number(1) },
        "upgrade" => Verb::Upgrade { seats: number(1) },
        "cancel" => {
            let licences = words.get(1).and_then(|word| word.parse().ok());
            let when = words[1..].iter().find_map(|word| word.parse().ok());
            Verb::Cancel { licences, when }
        }
        "revoke" => Verb::Revoke { change: change() },
        "suspend" => Verb::Suspend,
        "resume" => Verb::Resume,
        "accept" => Verb::Accept { change: change() },
        "reject" => Verb::Reject { change: change() },
        "withdraw" => Verb::Withdraw { change: change() },
        other => panic!("{other}"),
    }
}

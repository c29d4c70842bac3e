//! The sessions that live on this node, the questions without an answer yet, and the reports that are still to be sent.
//!
//! Pure: no I/O and no time, so that every race of the protocol is a sequence of calls here. All of it is behind
//! one lock, so that numbers are given, sessions come and go, and inventories are taken, in one order.
//!
//! Every message has a number. Of one session the highest counts (G5): a late acquire that comes after its
//! release is ignored by the daemon, whatever connection it took. So a release may always be sent, and sending
//! anything twice is harmless.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use usherd_contract::names::Name;
use usherd_contract::words::Kind;

use super::ask::{Ask, Ended};
use super::verdict::Unreachable;

/// Tenant and session.
pub(super) type Key = (Name, Name);

/// A session that lives on this node, as the client remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The question with which it came.
    pub ask: Arc<Ask>,
    /// Number of its message.
    pub seq: u64,
    /// True if the daemon is known to have it; `false` = it was allowed here and is still to be adopted.
    pub confirmed: bool,
}

#[derive(Debug)]
struct Live {
    ask: Arc<Ask>,
    seq: u64,
    confirmed: bool,
    /// True if a message about it may have reached the daemon. A session that it never heard of needs no release.
    told: bool,
}

/// A question in flight.
#[derive(Debug)]
struct Open {
    key: Option<Key>,
    /// True if its session was given back meanwhile: whatever the answer, it does not live here.
    released: bool,
}

/// A question with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub seq: u64,
    /// True if it is known here, and so runs already (G7).
    pub existing: bool,
}

/// The end of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The daemon allowed it and has it.
    Granted,
    /// The daemon allowed it and has nothing to remember: an emergency call.
    Unrecorded,
    /// It goes on without the daemon, to be adopted.
    FailedOpen {
        /// A message about it may have reached the daemon.
        told: bool,
    },
    /// It does not go on, or nothing of it may be told again.
    Refused {
        /// A try of it was not answered: the daemon may still take it in.
        loose: bool,
    },
}

/// A report to the daemon that no call waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Ended { key: Key, seq: u64, ended: Ended },
    Lives { key: Key, seq: u64 },
    Emergency { ask: Arc<Ask>, seq: u64 },
}

/// A report with what goes on the wire.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Release { key: Key, seq: u64, ended: Ended },
    Acquire { ask: Arc<Ask>, seq: u64, existing: bool },
}

/// The daemon's response to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is done.
    Done,
    /// The release ended nothing yet: the claim of a transferred call stays until its end (C7).
    Stays,
    /// It was not accepted, and will not be.
    Refused,
    /// It is to be sent again later.
    Later,
}

/// Everything that lives here, and the number at which that was so (G9).
#[derive(Debug)]
pub(super) struct Inventory {
    pub seq: u64,
    pub sessions: Vec<(Arc<Ask>, u64)>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    last_seq: u64,
    live: HashMap<Key, Live>,
    /// Numbers whose outcome is open: questions in flight, and releases that may leave the claim.
    open: BTreeMap<u64, Open>,
    asking: usize,
    reports: VecDeque<Report>,
    sending: Vec<Report>,
    /// Something is known here that only an inventory will tell.
    inventory_due: bool,
    sessions_max: usize,
    asking_max: usize,
    reports_max: usize,
}

impl Ledger {
    pub(super) fn new(first_seq: u64, sessions_max: u32, asking_max: u32, reports_max: u32) -> Self {
        Ledger {
            last_seq: first_seq.saturating_sub(1),
            live: HashMap::new(),
            open: BTreeMap::new(),
            asking: 0,
            reports: VecDeque::new(),
            sending: Vec::new(),
            inventory_due: false,
            sessions_max: sessions_max as usize,
            asking_max: asking_max as usize,
            reports_max: reports_max as usize,
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// The number that was given last.
    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Numbers a question that is about to be sent; [`Ledger::answered`] ends it.
    pub(super) fn ask(&mut self, ask: &Ask) -> Result<Question, Unreachable> {
        if self.asking >= self.asking_max {
            return Err(Unreachable::Busy);
        }
        let key = key_of(ask);
        let known = key.as_ref().and_then(|key| self.live.get(key));
        if known.is_none() && self.live.len() + self.asking >= self.sessions_max {
            return Err(Unreachable::Full);
        }
        let existing = ask.existing || known.is_some_and(|live| live.ask.subject == ask.subject);
        let seq = self.next_seq();
        self.open.insert(seq, Open { key, released: false });
        self.asking += 1;
        Ok(Question { seq, existing })
    }

    /// Ends a question. Returns true if a report is to be sent because of it, or `None` where one should be and there
    /// is no room.
    pub(super) fn answered(&mut self, seq: u64, ask: &Ask, outcome: Outcome) -> Option<bool> {
        let Some(Open { key, released }) = self.open.remove(&seq) else { return Some(false) };
        self.asking -= 1;
        let Some(key) = key.filter(|_| !released) else { return Some(false) };
        match outcome {
            Outcome::Unrecorded => Some(false),
            Outcome::Granted => {
                self.remember(key, ask, seq, true, true);
                Some(false)
            }
            Outcome::FailedOpen { told } => {
                if self.live.contains_key(&key) {
                    return Some(false);
                }
                self.remember(key.clone(), ask, seq, false, told || ask.existing);
                self.report(Report::Lives { key, seq })
            }
            Outcome::Refused { loose } => {
                let wanted =
                    self.live.contains_key(&key) || self.open.values().any(|open| open.key.as_ref() == Some(&key));
                if !loose || wanted {
                    return Some(false);
                }
                let seq = self.next_seq();
                self.report_end(key, Ended::Over, seq, Some(ask.kind))
            }
        }
    }

    /// Takes in a session that the daemon was not asked for: an inbound call, one that runs already, one that went on
    /// without a question. As [`Ledger::answered`].
    pub(super) fn note(&mut self, ask: &Ask) -> Option<bool> {
        let key = key_of(ask)?;
        if self.live.get(&key).is_some_and(|live| live.ask.subject == ask.subject) {
            return Some(false);
        }
        if self.live.len() + self.asking >= self.sessions_max {
            return None;
        }
        let seq = self.next_seq();
        // What ran before may be known from an earlier life of this node.
        self.remember(key.clone(), ask, seq, false, ask.existing);
        self.report(Report::Lives { key, seq })
    }

    /// Takes in an emergency call: it is reported, not remembered.
    pub(super) fn note_emergency(&mut self, ask: &Ask) -> Option<bool> {
        let seq = self.next_seq();
        // By this node's judgement, which need not be the daemon's: it compares digits as they were dialled.
        self.report(Report::Emergency { ask: Arc::new(Ask { emergency: true, ..ask.clone() }), seq })
    }

    fn remember(&mut self, key: Key, ask: &Ask, seq: u64, confirmed: bool, told: bool) {
        match self.live.get_mut(&key) {
            // A later question of the same session was answered first.
            Some(live) if live.seq > seq => {}
            Some(live) if *live.ask == *ask => {
                live.seq = seq;
                live.confirmed |= confirmed;
                live.told |= told;
            }
            _ => {
                self.live.insert(key, Live { ask: Arc::new(ask.clone()), seq, confirmed, told });
            }
        }
    }

    /// Ends a session on this node. Returns as [`Ledger::answered`].
    pub(super) fn release(&mut self, key: Key, ended: Ended) -> Option<bool> {
        let mut asked = false;
        for open in self.open.values_mut().filter(|open| open.key.as_ref() == Some(&key)) {
            open.released = true;
            asked = true;
        }
        let kind = self.live.get(&key).map(|live| live.ask.kind);
        let told = match (ended, self.live.get(&key)) {
            (_, Some(live)) if !live.told && !asked => {
                self.live.remove(&key);
                return Some(false);
            }
            (Ended::Over, _) => {
                self.live.remove(&key);
                None
            }
            (Ended::Transferred, live) => live.map(|_| key.clone()),
        };
        let seq = self.next_seq();
        let reported = self.report_end(key.clone(), ended, seq, kind);
        match (told, reported) {
            // Until the daemon answers, the list may not say anything about it (C7).
            (Some(key), Some(_)) => drop(self.open.insert(seq, Open { key: Some(key), released: true })),
            (Some(_), None) => drop(self.live.remove(&key)),
            _ => {}
        }
        reported
    }

    fn report(&mut self, report: Report) -> Option<bool> {
        if self.reports.len() + self.sending.len() >= self.reports_max {
            self.inventory_due = true;
            return None;
        }
        self.reports.push_back(report);
        Some(true)
    }

    /// There is always room for the end of a pairing: no inventory ends one (B2), and they are few.
    fn report_end(&mut self, key: Key, ended: Ended, seq: u64, kind: Option<Kind>) -> Option<bool> {
        let report = Report::Ended { key, seq, ended };
        if kind != Some(Kind::Mobile) {
            return self.report(report);
        }
        self.reports.push_back(report);
        Some(true)
    }

    /// The next reports to send, as they are now; [`Ledger::sent`] ends them. What ended meanwhile is left out.
    pub(super) fn take(&mut self, most: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < most {
            let Some(report) = self.reports.pop_front() else { break };
            let message = match &report {
                Report::Ended { key, seq, ended } => Message::Release { key: key.clone(), seq: *seq, ended: *ended },
                Report::Emergency { ask, seq } => Message::Acquire { ask: Arc::clone(ask), seq: *seq, existing: false },
                Report::Lives { key, seq } => match self.live.get_mut(key) {
                    Some(live) if live.seq == *seq && !live.confirmed => {
                        live.told = true;
                        let existing = live.ask.existing || !live.ask.is_inbound();
                        Message::Acquire { ask: Arc::clone(&live.ask), seq: *seq, existing }
                    }
                    _ => continue,
                },
            };
            messages.push(message);
            self.sending.push(report);
        }
        messages
    }

    /// Takes the results of the reports that were taken last, in their order; those without an answer are sent again.
    pub(super) fn sent(&mut self, results: &[Settled]) {
        let sending = std::mem::take(&mut self.sending);
        let mut again = Vec::new();
        for (at, report) in sending.into_iter().enumerate() {
            match (results.get(at).copied().unwrap_or(Settled::Later), report) {
                (Settled::Later, report) => again.push(report),
                (settled, Report::Ended { key, seq, ended: Ended::Transferred }) => {
                    self.transferred(&key, seq, settled)
                }
                // What the daemon will not have must not spoil an inventory.
                (Settled::Refused, Report::Lives { key, seq }) if self.lives_as(&key, seq) => {
                    drop(self.live.remove(&key));
                }
                (_, Report::Lives { key, seq }) => self.confirm(&key, seq),
                _ => {}
            }
        }
        for report in again.into_iter().rev() {
            self.reports.push_front(report);
        }
    }

    fn transferred(&mut self, key: &Key, seq: u64, settled: Settled) {
        self.open.remove(&seq);
        match self.live.get_mut(key) {
            Some(live) if live.seq < seq && settled == Settled::Stays => live.seq = seq,
            Some(live) if live.seq < seq => drop(self.live.remove(key)),
            _ => {}
        }
    }

    fn lives_as(&self, key: &Key, seq: u64) -> bool {
        self.live.get(key).is_some_and(|live| live.seq == seq)
    }

    fn confirm(&mut self, key: &Key, seq: u64) {
        if let Some(live) = self.live.get_mut(key).filter(|live| live.seq == seq) {
            live.confirmed = true;
        }
    }

    /// Everything that lives here. What is missing in it and has a number up to its own has ended.
    ///
    /// A question in flight is not in the list, since it is unknown whether it will live; so the number of
    /// the list is below all of these, and it says nothing about them.
    pub(super) fn inventory(&mut self) -> Inventory {
        self.inventory_due = false;
        let seq = match self.open.first_key_value() {
            // A known bug for the checkers: questions in flight are taken for ended.
            Some(_) if cfg!(feature = "canary-client-inventory") => self.next_seq(),
            Some((lowest, _)) => lowest - 1,
            None => self.next_seq(),
        };
        let mut sessions = Vec::with_capacity(self.live.len());
        for live in self.live.values_mut() {
            live.told = true;
            sessions.push((Arc::clone(&live.ask), live.seq));
        }
        Inventory { seq, sessions }
    }

    /// An inventory was taken in; all of it, unless something was `ignored`.
    pub(super) fn taken_in(&mut self, inventory: &Inventory, ignored: u32) {
        if ignored > 0 {
            return;
        }
        for (ask, seq) in &inventory.sessions {
            if let Some(key) = key_of(ask) {
                self.confirm(&key, *seq);
            }
        }
    }

    /// Reports everything that lives here once more, each on its own: for a daemon that greets this node
    /// while inventories are withheld. `None` where not all of it finds room.
    pub(super) fn tell_again(&mut self) -> Option<bool> {
        let keys: Vec<Key> = self.live.keys().cloned().collect();
        let mut told = Some(false);
        for key in keys {
            let seq = self.next_seq();
            if let Some(live) = self.live.get_mut(&key) {
                (live.seq, live.confirmed) = (seq, false);
            }
            told = self.report(Report::Lives { key, seq }).and(told.map(|_| true));
        }
        told
    }

    /// Notes that an inventory did not get through: it is as due as before.
    pub(super) fn need_inventory(&mut self) {
        self.inventory_due = true;
    }

    pub(super) fn is_inventory_due(&self) -> bool {
        self.inventory_due
    }

    /// True if the end of this session is still to be told.
    pub(super) fn is_ending(&self, key: &Key) -> bool {
        self.reports
            .iter()
            .chain(&self.sending)
            .any(|report| matches!(report, Report::Ended { key: own, .. } if own == key))
    }

    /// True if this session lives here.
    pub(super) fn lives(&self, key: &Key) -> bool {
        self.live.contains_key(key)
    }

    pub(super) fn reports(&self) -> usize {
        self.reports.len() + self.sending.len()
    }

    pub(super) fn asking(&self) -> usize {
        self.asking
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = Remembered> + '_ {
        self.live.values().map(|live| Remembered {
            ask: Arc::clone(&live.ask),
            seq: live.seq,
            confirmed: live.confirmed,
        })
    }
}

/// The key under which a question's session is remembered; an emergency call may have none.
pub(super) fn key_of(ask: &Ask) -> Option<Key> {
    Some((ask.tenant.clone(), ask.session.clone()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_contract::words::Direction;

    fn ledger() -> Ledger {
        Ledger::new(1, 4, 3, 4)
    }

    fn call(session: &str) -> Ask {
        Ask::call("acme", "anna", session, Direction::Outbound)
    }

    fn key(session: &str) -> Key {
        ("acme".into(), session.into())
    }

    /// Asks and is answered.
    fn answered(ledger: &mut Ledger, session: &str, outcome: Outcome) -> u64 {
        let question = ledger.ask(&call(session)).unwrap();
        ledger.answered(question.seq, &call(session), outcome);
        question.seq
    }

    /// The reports that would be sent, in words.
    fn said(ledger: &mut Ledger) -> Vec<String> {
        let messages = ledger.take(10);
        let words = messages.iter().map(|message| match message {
            Message::Release { key, seq, ended: Ended::Over } => format!("-{} {seq}", key.1),
            Message::Release { key, seq, ended: Ended::Transferred } => format!("~{} {seq}", key.1),
            Message::Acquire { ask, seq, existing } => {
                format!(
                    "+{} {seq}{}",
                    ask.session.as_deref().unwrap_or("emergency"),
                    if *existing { " existing" } else { "" }
                )
            }
        });
        words.collect()
    }

    fn listed(inventory: &Inventory) -> (u64, Vec<&str>) {
        let mut sessions: Vec<_> = inventory.sessions.iter().filter_map(|(ask, _)| ask.session.as_deref()).collect();
        sessions.sort_unstable();
        (inventory.seq, sessions)
    }

    #[test]
    fn a_list_says_nothing_about_questions_on_their_way() {
        let mut ledger = ledger();
        answered(&mut ledger, "c1", Outcome::Granted);
        let second = ledger.ask(&call("c2")).unwrap();
        answered(&mut ledger, "c3", Outcome::Granted);
        let inventory = ledger.inventory();
        assert_eq!(listed(&inventory), (second.seq - 1, vec!["c1", "c3"]));
        ledger.answered(second.seq, &call("c2"), Outcome::Granted);
        assert_eq!(listed(&ledger.inventory()), (4, vec!["c1", "c2", "c3"]), "a number of its own: none is open");
    }

    #[test]
    fn a_session_released_before_its_answer_never_lives() {
        for outcome in [Outcome::Granted, Outcome::FailedOpen { told: true }, Outcome::Refused { loose: true }] {
            let mut ledger = ledger();
            let question = ledger.ask(&call("c1")).unwrap();
            assert_eq!(ledger.release(key("c1"), Ended::Over), Some(true));
            ledger.answered(question.seq, &call("c1"), outcome);
            assert_eq!((ledger.sessions().count(), said(&mut ledger)), (0, vec!["-c1 2".to_owned()]), "{outcome:?}");
        }
    }

    #[test]
    fn a_refusal_is_released_where_a_retry_may_still_arrive() {
        for (loose, want) in [(false, vec![]), (true, vec!["-c1 2".to_owned()])] {
            let mut ledger = ledger();
            answered(&mut ledger, "c1", Outcome::Refused { loose });
            assert_eq!(said(&mut ledger), want);
        }
        let mut ledger = ledger();
        let (first, second) = (ledger.ask(&call("c1")).unwrap(), ledger.ask(&call("c1")).unwrap());
        ledger.answered(first.seq, &call("c1"), Outcome::Refused { loose: true });
        ledger.answered(second.seq, &call("c1"), Outcome::Granted);
        assert_eq!(said(&mut ledger), Vec::<String>::new(), "the other question of it got it");
    }

    #[test]
    fn what_was_allowed_alone_is_told_unless_it_ended_before() {
        let mut ledger = ledger();
        answered(&mut ledger, "c1", Outcome::FailedOpen { told: false });
        answered(&mut ledger, "c2", Outcome::FailedOpen { told: false });
        answered(&mut ledger, "c3", Outcome::FailedOpen { told: true });
        assert_eq!(ledger.release(key("c1"), Ended::Over), Some(false), "nobody ever heard of it");
        assert_eq!(ledger.release(key("c3"), Ended::Over), Some(true), "it may be on its way");
        assert_eq!(said(&mut ledger), ["+c2 2 existing", "-c3 4"]);
        ledger.sent(&[]);
        assert_eq!(said(&mut ledger), ["+c2 2 existing", "-c3 4"], "the same numbers again");
        ledger.sent(&[Settled::Done, Settled::Done]);
        assert_eq!(ledger.sessions().map(|session| session.confirmed).collect::<Vec<_>>(), [true]);
        assert_eq!(ledger.reports(), 0);
    }

    #[test]
    fn what_ran_before_is_given_back_whether_or_not_it_was_told() {
        let mut ledger = ledger();
        ledger.note(&Ask { existing: true, ..call("c1") });
        assert_eq!(ledger.release(key("c1"), Ended::Over), Some(true), "an earlier life may have told of it");
        assert_eq!(said(&mut ledger), ["-c1 2"]);
    }

    #[test]
    fn an_inventory_that_was_taken_in_saves_the_reports() {
        let mut ledger = ledger();
        answered(&mut ledger, "c1", Outcome::FailedOpen { told: false });
        let inventory = ledger.inventory();
        ledger.taken_in(&inventory, 1);
        assert!(ledger.sessions().all(|session| !session.confirmed), "something was not taken, nobody knows what");
        ledger.taken_in(&inventory, 0);
        assert_eq!(said(&mut ledger), Vec::<String>::new());
        assert_eq!(ledger.release(key("c1"), Ended::Over), Some(true), "the list told of it");
    }

    #[test]
    fn what_the_daemon_will_not_have_spoils_no_inventory() {
        let mut ledger = ledger();
        ledger.note(&call("c1"));
        assert_eq!(said(&mut ledger), ["+c1 1 existing"]);
        ledger.sent(&[Settled::Refused]);
        assert!(ledger.inventory().sessions.is_empty());
    }

    #[test]
    fn what_lives_here_is_asked_for_as_running() {
        let mut ledger = ledger();
        answered(&mut ledger, "c1", Outcome::Granted);
        assert!(ledger.ask(&call("c1")).unwrap().existing);
        let other = Ask { subject: Some("bob".into()), ..call("c1") };
        assert!(!ledger.ask(&other).unwrap().existing, "another subject's is another question");
    }

    #[test]
    fn a_transferred_call_lives_as_long_as_the_daemon_says_c7() {
        for (settled, left) in [(Settled::Done, 0), (Settled::Stays, 1)] {
            let mut ledger = ledger();
            answered(&mut ledger, "c1", Outcome::Granted);
            ledger.release(key("c1"), Ended::Transferred);
            assert_eq!(said(&mut ledger), ["~c1 2"]);
            assert_eq!(listed(&ledger.inventory()), (1, vec!["c1"]), "a list may not keep it, nor end it");
            ledger.sent(&[settled]);
            assert_eq!(ledger.sessions().count(), left);
        }
    }

    #[test]
    fn full_is_an_answer() {
        let mut ledger = ledger();
        for session in ["c1", "c2", "c3"] {
            ledger.ask(&call(session)).unwrap();
        }
        assert_eq!(ledger.ask(&call("c4")), Err(Unreachable::Busy));
        for (seq, session) in (1..).zip(["c1", "c2", "c3"]) {
            ledger.answered(seq, &call(session), Outcome::FailedOpen { told: true });
        }
        answered(&mut ledger, "c4", Outcome::FailedOpen { told: true });
        assert_eq!(ledger.ask(&call("c5")), Err(Unreachable::Full));
        assert!(ledger.ask(&call("c1")).is_ok(), "what lives here needs no room");
        assert_eq!(ledger.release(key("c4"), Ended::Over), None, "the queue is full");
        assert!(ledger.is_inventory_due());
        ledger.inventory();
        assert!(!ledger.is_inventory_due());
    }

    #[test]
    fn the_end_of_a_pairing_finds_room_b2() {
        let mut ledger = Ledger::new(1, 9, 9, 1);
        let pairing = Ask::new("acme", "anna", "m1", Kind::Mobile);
        let question = ledger.ask(&pairing).unwrap();
        ledger.answered(question.seq, &pairing, Outcome::Granted);
        answered(&mut ledger, "c1", Outcome::FailedOpen { told: true });
        assert_eq!(ledger.release(key("m1"), Ended::Over), Some(true));
        assert_eq!(said(&mut ledger), ["+c1 2 existing", "-m1 3"]);
    }

    #[test]
    fn what_lives_is_told_again_with_numbers_above_all_before() {
        let mut ledger = Ledger::new(100, 9, 9, 9);
        assert_eq!(ledger.tell_again(), Some(false), "nothing lives");
        assert_eq!(answered(&mut ledger, "c1", Outcome::Granted), 100);
        answered(&mut ledger, "c2", Outcome::FailedOpen { told: false });
        assert_eq!(ledger.tell_again(), Some(true));
        let told = said(&mut ledger);
        let mut sessions: Vec<&str> = told.iter().map(|said| &said[..3]).collect();
        sessions.sort_unstable();
        assert_eq!(sessions, ["+c1", "+c2"], "each once: {told:?}");
        assert!(told.iter().all(|said| said.contains(" 102") || said.contains(" 103")), "{told:?}");
    }
}

//! One question in flight: the answers that need no daemon, the tries within the deadline, and the effect of each end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use usherd_contract::emergency;
use usherd_contract::words::{Code, Detail, Kind, Leg};

use super::ask::Ask;
use super::breaker::Transition;
use super::hooks::{Event, VerdictSeen};
use super::ledger::{Outcome, key_of};
use super::options::OnUnreachable;
use super::route::Route;
use super::shared::{Link, Shared};
use super::verdict::{Answer, Source, Unreachable, Verdict};
use super::wire::{self, NoDecision};

/// The resolution of timers: set this much earlier, they keep a deadline.
const TIMER_SLACK: Duration = Duration::from_millis(1);

impl Shared {
    /// [`Client::acquire`](super::Client::acquire)
    pub(super) async fn acquire(&self, ask: &Ask) -> Verdict {
        if let Some(verdict) = self.decide_alone(ask) {
            return verdict;
        }
        let began = Instant::now();
        let (verdict, daemon) = self.ask_daemon(ask, began).await;
        self.seen(ask, &verdict, daemon, began.elapsed());
        verdict
    }

    /// [`Client::decide_alone`](super::Client::decide_alone)
    pub(super) fn decide_alone(&self, ask: &Ask) -> Option<Verdict> {
        let verdict = if self.is_emergency(ask) {
            if is_sayable_emergency(ask) {
                let told = self.ledger.lock().note_emergency(ask);
                self.tell(told);
            }
            Verdict::of(true, Source::Emergency)
        } else if let Err(faults) = ask.check() {
            Verdict { faults, ..Verdict::of(true, Source::Malformed) }
        } else if ask.is_inbound() {
            self.note(ask);
            Verdict::of(true, Source::Inbound)
        } else {
            return None;
        };
        self.seen(ask, &verdict, None, Duration::ZERO);
        Some(verdict)
    }

    /// Remembers what lives here without a question, to be told in the background.
    pub(super) fn note(&self, ask: &Ask) {
        // After goodbye another process speaks for this node.
        if self.link() == Link::Closed {
            return;
        }
        let told = self.ledger.lock().note(ask);
        self.tell(told);
    }

    /// True if it is an emergency call (C14) as far as this node knows; the daemon also checks the tenant's own list.
    fn is_emergency(&self, ask: &Ask) -> bool {
        ask.emergency || ask.to.as_deref().is_some_and(|to| self.is_emergency_number(to))
    }

    /// [`Client::is_emergency_number`](super::Client::is_emergency_number)
    pub(super) fn is_emergency_number(&self, dialled: &str) -> bool {
        emergency::is_emergency(dialled, &self.options.emergency_numbers, &self.options.trunk_prefix)
    }

    fn seen(&self, ask: &Ask, verdict: &Verdict, daemon: Option<usize>, waited: Duration) {
        self.hooks.verdict(&VerdictSeen {
            kind: ask.kind,
            direction: ask.direction,
            allow: verdict.allow,
            source: verdict.source,
            code: verdict.answer.as_ref().map(|answer| answer.code),
            daemon,
            waited,
        });
    }

    /// The verdict, and the daemon that answered.
    async fn ask_daemon(&self, ask: &Ask, began: Instant) -> (Verdict, Option<usize>) {
        let is_heard = !matches!(self.link(), Link::Away | Link::Closed);
        let order = is_heard.then(|| self.breakers.lock().begin(self.daemons.current())).flatten();
        let Some(order) = order else { return (self.unasked(ask, Unreachable::Paused), None) };
        let budget = self.options.deadline;
        let route = Route::new(&order, began, budget.saturating_sub(TIMER_SLACK.min(budget / 10)));
        let numbered = self.ledger.lock().ask(ask);
        let question = match numbered {
            Ok(question) => question,
            Err(why) => {
                self.breakers.lock().left(route.at());
                return (self.unasked(ask, why), None);
            }
        };
        let loose = AtomicBool::new(false);
        let mut pending = Pending { shared: self, ask, seq: question.seq, route, loose, open: true };
        let tried = pending.tries(question.existing).await;
        let daemon = Some(pending.route.at());
        match tried {
            Ok(answer) => (pending.answered(answer), daemon),
            Err(NoDecision::Malformed(problem)) => (pending.malformed(problem), daemon),
            Err(NoDecision::Unreachable(why)) => (pending.unanswered(question.existing, why), None),
        }
    }

    /// The verdict where the daemon was not asked.
    fn unasked(&self, ask: &Ask, why: Unreachable) -> Verdict {
        let key = key_of(ask);
        let lives = key.is_some_and(|key| self.ledger.lock().lives(&key));
        let allow = self.allows_unasked(ask, lives);
        // What there is no room for is not remembered.
        if allow && why != Unreachable::Full {
            self.note(ask);
        }
        Verdict::of(allow, Source::Unreachable(why))
    }

    /// The verdict of `on_unreachable` (G7); a node never refuses by itself lifelines, running sessions, or what never
    /// counts.
    fn allows_unasked(&self, ask: &Ask, lives: bool) -> bool {
        self.options.on_unreachable == OnUnreachable::Allow
            || lives
            || ask.existing
            || ask.kind == Kind::Phone
            || ask.class.is_some_and(|class| self.options.never_deny.contains(&class))
            || (ask.kind == Kind::Call && matches!(ask.leg, Leg::Deliver | Leg::System))
    }

    async fn greeted(&self) -> Result<(), NoDecision> {
        match self.until_link(|link| link != Link::Greeting).await {
            Link::Greeted => Ok(()),
            _ => Err(NoDecision::Unreachable(Unreachable::NotGreeted)),
        }
    }
}

/// A question in flight. Dropped before its end, it gives its session back.
struct Pending<'a> {
    shared: &'a Shared,
    ask: &'a Ask,
    seq: u64,
    route: Route,
    /// A try is on the wire that was not answered: the daemon may take it in at any time.
    loose: AtomicBool,
    open: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.open {
            for (at, _) in self.route.asked() {
                self.shared.breakers.lock().left(at);
            }
            self.end(Outcome::Refused { loose: self.loose.load(Ordering::Relaxed) });
        }
    }
}

impl Pending<'_> {
    fn end(&mut self, outcome: Outcome) {
        self.open = false;
        let told = self.shared.ledger.lock().answered(self.seq, self.ask, outcome);
        self.shared.tell(told);
    }

    /// Tells the breakers how it went, and stays with the daemon that answered.
    fn heard(&self, answered: bool) {
        let here = self.route.at();
        let mut turn = Transition::None;
        {
            let mut breakers = self.shared.breakers.lock();
            if answered {
                turn = breakers.answered(here);
            }
            for (at, why) in self.route.asked().filter(|(at, _)| !answered || *at != here) {
                match why {
                    Some(Unreachable::Timeout) => turn = breakers.missed(at).or(turn),
                    _ => breakers.left(at),
                }
            }
        }
        self.shared.transitioned(turn);
        if answered && self.shared.move_on(self.route.first(), here) {
            self.shared.suspect.notify_one();
        }
    }

    /// The tries that the route has, all with the same numbers, so that it counts once whatever happened to the others.
    async fn tries(&mut self, existing: bool) -> Result<Answer, NoDecision> {
        loop {
            let (at, until) = (self.route.at(), self.route.until(Instant::now()));
            match self.one_try(existing, until).await {
                Ok(answer) if answer.code == Code::DenyConflict && !self.route.is_fresh() && self.is_ending() => {
                    // The id was another subject's, whose end is still to be told: that comes first.
                    let _ = timeout_at(until, self.told_end()).await;
                    self.route.again();
                }
                Err(NoDecision::Unreachable(why)) if self.route.goes_on(why, Instant::now()) => {}
                other => return other,
            }
            if self.route.at() != at {
                self.shared.breakers.lock().admit(self.route.at());
            }
            self.shared.hooks.event(Event::Retried);
        }
    }

    async fn one_try(&self, existing: bool, until: Instant) -> Result<Answer, NoDecision> {
        let shared = self.shared;
        let exchange = shared.daemons.exchange(self.route.at());
        let fresh = self.route.is_fresh();
        let loose_before = self.loose.load(Ordering::Relaxed);
        let asked = async {
            shared.greeted().await?;
            // Only now is it known with which epoch this node speaks.
            let body = wire::acquire(self.ask, shared.sender(), self.seq, existing);
            let on_wire = || self.loose.store(true, Ordering::Relaxed);
            let answer_max = shared.options.limits.answer_bytes_max;
            let replied = exchange.post("/v1/acquire", body, fresh, answer_max, on_wire).await;
            let replied = replied.map_err(NoDecision::Unreachable)?;
            let read = match replied.status {
                200 => wire::answer(&replied.body).ok_or(NoDecision::Unreachable(Unreachable::Protocol))?,
                status => {
                    let no_decision = wire::no_decision(status, &replied.body);
                    if no_decision == NoDecision::Unreachable(Unreachable::NotGreeted) {
                        self.not_greeted();
                    }
                    return Err(no_decision);
                }
            };
            Ok(read)
        };
        let Ok(answered) = timeout_at(until, asked).await else {
            exchange.close_kept();
            let asked = self.loose.load(Ordering::Relaxed) || shared.link() == Link::Greeted;
            return Err(NoDecision::Unreachable(if asked { Unreachable::Timeout } else { Unreachable::NotGreeted }));
        };
        match &answered {
            Err(NoDecision::Unreachable(why)) if why.is_of_connection() => shared.suspect.notify_one(),
            Err(NoDecision::Unreachable(Unreachable::NotGreeted)) => {
                self.loose.store(loose_before, Ordering::Relaxed);
                shared.suspect.notify_one();
            }
            _ => self.loose.store(loose_before, Ordering::Relaxed),
        }
        answered
    }

    /// The daemon does not know this node. Where another one did, it is greeted before it is asked again.
    fn not_greeted(&self) {
        let at = self.route.at();
        if at != self.shared.daemons.greeted() {
            self.shared.move_on(self.route.first(), at);
            self.shared.greet_anew();
        }
    }

    fn is_ending(&self) -> bool {
        key_of(self.ask).is_some_and(|key| self.shared.ledger.lock().is_ending(&key))
    }

    async fn told_end(&self) {
        loop {
            let settled = self.shared.settled.notified();
            if !self.is_ending() {
                return;
            }
            settled.await;
        }
    }

    fn answered(mut self, answer: Answer) -> Verdict {
        self.heard(true);
        let allow = answer.code.allows();
        let loose = self.loose.load(Ordering::Relaxed);
        self.end(match (allow, answer.detail) {
            (true, Detail::Emergency) => Outcome::Unrecorded,
            // Passed over, as what was asked by an epoch that was raised meanwhile: it is still to be adopted.
            (true, _) if answer.code == Code::IgnoreStale => Outcome::FailedOpen { told: true },
            (true, _) => Outcome::Granted,
            (false, _) => Outcome::Refused { loose },
        });
        Verdict { answer: Some(answer), ..Verdict::of(allow, Source::Daemon) }
    }

    /// Allows a malformed question: our own defect blocks nobody (C20). It is not reported, for it would spoil an
    /// inventory.
    fn malformed(mut self, problem: String) -> Verdict {
        self.heard(true);
        let loose = self.loose.load(Ordering::Relaxed);
        self.end(Outcome::Refused { loose });
        Verdict { problem: Some(problem), ..Verdict::of(true, Source::Malformed) }
    }

    fn unanswered(mut self, lives: bool, why: Unreachable) -> Verdict {
        let told = self.loose.load(Ordering::Relaxed);
        self.heard(false);
        if self.route.asked().any(|(_, why)| why == Some(Unreachable::Timeout)) {
            self.shared.suspect.notify_one();
        }
        let allow = self.shared.allows_unasked(self.ask, lives);
        self.end(match why {
            // What this node may not tell would spoil an inventory.
            Unreachable::NotPermitted => Outcome::Refused { loose: false },
            _ if allow => Outcome::FailedOpen { told },
            _ => Outcome::Refused { loose: told },
        });
        Verdict::of(allow, Source::Unreachable(why))
    }
}

/// True if the daemon would read the report of an emergency call, which need not be well formed to be allowed.
fn is_sayable_emergency(ask: &Ask) -> bool {
    let absent = |field: &str| match field {
        "subject" => ask.subject.is_none(),
        "session" => ask.session.is_none(),
        field => matches!(field, "direction" | "to"),
    };
    ask.check().map_or_else(|faults| faults.iter().all(|fault| absent(fault.field)), |()| true)
}

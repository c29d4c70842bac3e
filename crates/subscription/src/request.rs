//! Requests of customer or operator to a subscription: a new record, or a refusal (J9-J14, N1-N8).

use chrono::{DateTime, SubsecRound, Utc};

use super::booking;
use super::entitlement::{ends_at, seats_peak};
use super::guard::Ask;
use super::policy::{PendingConflict, Terms};
use super::record::{
    Actor, CHANGES_MAX, Change, ContractKind, Object, REQUESTS_MAX, Record, SEATS_MAX, Submitted, SubmittedStatus, When,
};
use super::refusal::{Code, Refusal};
use super::schedule::{cancel_id, change_id, is_change_ahead, object_seats};
use super::tariff;
use super::{civil, schedule};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The party that asks.
    pub actor: Actor,
    /// The object of the request.
    pub object: Object,
    /// The change that is asked for.
    pub verb: Verb,
}

/// A change that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// So many seats more, at once (J9).
    Add {
        /// 1..=1,000,000.
        seats: u32,
    },
    /// Fewer seats, when the contract allows (J10, J11).
    Reduce {
        /// Seats from then on.
        to: u32,
    },
    /// Some or all of it ends (J12, N3-N5).
    Cancel {
        /// How many seats; `None` is all.
        licences: Option<u32>,
        /// When; `None` is when the contract allows.
        when: Option<When>,
    },
    /// Revokes a booking, so that it does not happen (N7); of an undecided request: withdraw or reject.
    Revoke {
        /// Its id in the schedule.
        change: String,
    },
    /// A trial becomes a paid subscription, at once (J3).
    Upgrade {
        /// Base seats from now on.
        seats: u32,
    },
    /// An operator stops new claims (J5).
    Suspend,
    /// An operator ends a suspension (J5).
    Resume,
    /// An operator lets a submitted cancellation be executed (N2).
    Accept {
        /// Its id in the schedule.
        change: String,
    },
    /// An operator refuses a submitted cancellation (N2).
    Reject {
        /// Its id in the schedule.
        change: String,
    },
    /// A customer takes a submitted cancellation back (N7).
    Withdraw {
        /// Its id in the schedule.
        change: String,
    },
}

/// A request that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The record from now on.
    pub record: Record,
    /// The id of what was booked, executed, revoked or submitted; `None` where nothing has one.
    pub change: Option<String>,
    /// When it takes effect; `None` while an operator has to decide.
    pub effective_at: Option<DateTime<Utc>>,
}

type RequestResult = Result<Accepted, Refusal>;

/// The record after a request, or why it is refused. Pure; a refusal changes nothing.
///
/// The block by something pending is per object (X10). What is done at once is dated to the full second.
///
/// # Errors
/// The closed code of the rule that forbids it, with the earliest instant where waiting helps.
pub fn request(record: &Record, terms: &Terms, request: &Request, now: DateTime<Utc>) -> RequestResult {
    let ask = Ask { terms, actor: request.actor, object: &request.object, now: now.trunc_subsecs(0) };
    if ends_at(record, terms).is_some_and(|end| end <= now) {
        return Err(Refusal::new(
            Code::Ended,
            "the subscription has ended; it cannot be revived, a new one is required",
        ));
    }
    ask.object_exists(record)?;
    let answer = match &request.verb {
        Verb::Add { seats } => ask.add(record, *seats),
        Verb::Reduce { to } => ask.reduce(record, *to),
        Verb::Cancel { licences, when } => ask.cancel(record, *licences, *when),
        Verb::Revoke { change } => ask.revoke(record, change),
        Verb::Upgrade { seats } => ask.upgrade(record, *seats),
        Verb::Suspend => ask.suspend(record),
        Verb::Resume => ask.resume(record),
        Verb::Accept { change } => ask.decide(record, change, SubmittedStatus::Accepted),
        Verb::Reject { change } => ask.decide(record, change, SubmittedStatus::Rejected),
        Verb::Withdraw { change } => ask.decide(record, change, SubmittedStatus::Withdrawn),
    }?;
    within_limits(answer)
}

fn within_limits(answer: Accepted) -> RequestResult {
    let peak = seats_peak(&answer.record);
    if peak.is_some_and(|peak| peak > SEATS_MAX) {
        return Err(Refusal::new(
            Code::TooManySeats,
            format!("a tenant has at most {SEATS_MAX} seats, add-ons included"),
        ));
    }
    let lists = answer.record.addons.iter().map(|addon| &addon.changes).chain([&answer.record.changes]);
    if lists.into_iter().any(|changes| changes.len() > CHANGES_MAX) {
        let message =
            format!("the record holds {CHANGES_MAX} changes of one object; fold those long in force into `seats`");
        return Err(Refusal::new(Code::TooManyChanges, message));
    }
    Ok(answer)
}

impl Ask<'_> {
    /// Adds seats at once, inside the minimum term too (J9).
    fn add(&self, record: &Record, seats: u32) -> RequestResult {
        self.quantity_allowed(record)?;
        self.no_cancel_pending(record)?;
        let changes = booking::changes(record, self.object);
        if is_change_ahead(changes, self.now) && self.terms.pending_conflict == PendingConflict::Reject {
            return Err(self.pending_change(changes));
        }
        if seats == 0 {
            return Err(Refusal::new(Code::NotAnAddition, "say how many seats are to be added, 1 or more"));
        }
        let Some(present) = object_seats(record, self.object, self.now) else {
            return Err(Refusal::new(Code::Unlimited, "the subscription has unlimited seats already"));
        };
        let mut record = record.clone();
        if self.terms.pending_conflict == PendingConflict::Replace {
            booking::drop_pending(&mut record, self.object, self.now);
        }
        self.book(record, self.now, present.saturating_add(seats))
    }

    /// Books a reduction, or refuses one that is not valid (J10, J11).
    fn reduce(&self, record: &Record, to: u32) -> RequestResult {
        self.quantity_allowed(record)?;
        let present = object_seats(record, self.object, self.now);
        if present.is_some_and(|present| to >= present) {
            let message = format!("{to} seats are no reduction of {}", present.unwrap_or_default());
            return Err(Refusal::new(Code::NotAReduction, message));
        }
        if to == 0 {
            return Err(Refusal::new(Code::UseCancel, "a reduction leaves at least one seat; cancel it instead"));
        }
        self.no_cancel_pending(record)?;
        let at = booking::reduction_at(record, self.terms, self.object, self.now)?;
        let record = self.make_room(record)?;
        self.book(record, at, to)
    }

    /// Cancels an object, or some of its seats (J12, J14, N2-N5, N8).
    fn cancel(&self, record: &Record, licences: Option<u32>, when: Option<When>) -> RequestResult {
        let present = object_seats(record, self.object, self.now);
        let part = licences.filter(|licences| present != Some(*licences));
        if let Some(part) = part
            && (part == 0 || present.is_none_or(|present| part > present))
        {
            let present = present.map_or("an unlimited number of".to_owned(), |seats| seats.to_string());
            let message = format!("{part} seats cannot be cancelled of {present}");
            return Err(Refusal::new(Code::NotAReduction, message));
        }
        let at = self.cancel_at(record, part, when)?;
        if self.actor == Actor::Operator && part.is_none() && at <= self.now {
            // N8: it overrides everything that is pending.
            return Ok(self.end(self.cleared(record), at));
        }
        self.no_cancel_pending(record)?;
        self.no_request_pending(record)?;
        let executed = match part {
            None => self.end(self.room_for_end(record)?, at),
            Some(part) => {
                self.quantity_allowed(record)?;
                // A part is a reduction: where J10 wants a new subscription this is no way round it.
                booking::reduction_at(record, self.terms, self.object, self.now)?;
                self.book(self.make_room(record)?, at, present.unwrap_or_default().saturating_sub(part))?
            }
        };
        if self.waits_for_operator(record, licences) { self.submit(record, licences, when) } else { Ok(executed) }
    }

    /// When a cancellation takes effect; refuses an instant that the actor may not ask for. A subscription does
    /// not end before its start: files that say so are refused.
    fn cancel_at(&self, record: &Record, part: Option<u32>, when: Option<When>) -> Result<DateTime<Utc>, Refusal> {
        let whole = part.is_none() && *self.object == Object::Subscription;
        let start = booking::starts_at(record, self.terms).filter(|start| whole && *start > self.now);
        match when {
            Some(When::Immediate) if self.actor == Actor::Customer && !self.terms.cancel_immediate => {
                let earliest = booking::end_at(record, self.terms, self.object, self.now);
                let message = "`policy.cancel_immediate` does not let customers cancel at once";
                Err(Refusal::new(Code::NotImmediate, message).earliest(earliest))
            }
            Some(When::Immediate) if start.is_some() => {
                let message = "it starts later, and nothing ends before its start; until then suspend it";
                Err(Refusal::new(Code::NotImmediate, message).earliest(start))
            }
            Some(When::Immediate) => Ok(self.now),
            Some(When::Date(_)) if self.actor == Actor::Customer => {
                Err(Refusal::new(Code::NeedsOperator, "only an operator cancels as of a date"))
            }
            Some(When::Date(_)) if part.is_some() => {
                Err(Refusal::new(Code::WholeOnly, "as of a date only the whole is cancelled; leave out `licences`"))
            }
            Some(When::Date(date)) => booking::date_in_period(record, self.terms, date, self.now),
            None | Some(When::PeriodEnd) => booking::end_at(record, self.terms, self.object, self.now)
                .map(|end| start.map_or(end, |start| end.max(start)))
                .ok_or_else(|| Refusal::new(Code::OutOfCalendar, "the end lies beyond the calendar")),
        }
    }

    /// Revokes a pending change, or withdraws a request (N7).
    fn revoke(&self, record: &Record, change: &str) -> RequestResult {
        if record.requests.iter().any(|request| request.id == change) {
            let status = match self.actor {
                Actor::Customer => SubmittedStatus::Withdrawn,
                Actor::Operator => SubmittedStatus::Rejected,
            };
            return self.decide(record, change, status);
        }
        let found = schedule::schedule(record, self.terms, self.now).into_iter().find(|item| item.id == change);
        let Some(item) = found else {
            if booking::was_executed(record, change, self.now) {
                return Err(Refusal::new(Code::AlreadyExecuted, format!("`{change}` is in force already")));
            }
            return Err(Refusal::new(Code::UnknownChange, format!("nothing is booked under `{change}`")));
        };
        if self.actor == Actor::Customer {
            if item.by == Actor::Operator {
                return Err(Refusal::new(Code::NotYours, "an operator booked it; only an operator revokes it"));
            }
            let full = item.id == cancel_id(&Object::Subscription);
            if full && !self.terms.revoke_full_by_customer {
                let message = "the cancellation of a whole subscription is revoked by an operator only";
                return Err(Refusal::new(Code::NeedsOperator, message));
            }
        }
        let mut record = record.clone();
        booking::remove(&mut record, &item);
        Ok(Accepted { record, change: Some(item.id), effective_at: Some(self.now) })
    }

    /// Upgrades a trial (J3, T154): the term begins with the civil date of the change (J4).
    fn upgrade(&self, record: &Record, seats: u32) -> RequestResult {
        self.whole()?;
        if record.kind != ContractKind::Trial {
            return Err(Refusal::new(Code::NotATrial, "the subscription is paid already; add seats to it"));
        }
        self.running(record)?;
        if seats == 0 {
            return Err(Refusal::new(Code::UseCancel, "a paid subscription has at least one seat"));
        }
        let mut record = record.clone();
        record.kind = ContractKind::Paid;
        record.start = Some(civil::civil(self.terms.zone, self.now).date().and_time(chrono::NaiveTime::MIN));
        record.seats = Some(seats);
        record.changes.clear();
        booking::set_end(&mut record, self.object, None, self.actor);
        Ok(Accepted { record, change: None, effective_at: Some(self.now) })
    }

    /// Suspends the subscription (J5).
    fn suspend(&self, record: &Record) -> RequestResult {
        self.whole()?;
        self.operator("suspends")?;
        if record.suspended {
            return Err(Refusal::new(Code::Suspended, "the subscription is suspended already"));
        }
        self.no_cancel_pending_if_rejecting(record)?;
        let record = Record { suspended: true, ..record.clone() };
        Ok(Accepted { record, change: None, effective_at: Some(self.now) })
    }

    /// Ends a suspension (J5).
    fn resume(&self, record: &Record) -> RequestResult {
        self.whole()?;
        self.operator("resumes")?;
        if !record.suspended {
            return Err(Refusal::new(Code::NotSuspended, "the subscription is not suspended"));
        }
        let record = Record { suspended: false, ..record.clone() };
        Ok(Accepted { record, change: None, effective_at: Some(self.now) })
    }

    /// Accepts, rejects or withdraws a submitted cancellation (N2, N7).
    fn decide(&self, record: &Record, change: &str, status: SubmittedStatus) -> RequestResult {
        let Some(at) = record.requests.iter().position(|request| request.id == change) else {
            return Err(Refusal::new(Code::UnknownChange, format!("nothing was submitted under `{change}`")));
        };
        match (status, self.actor) {
            (SubmittedStatus::Withdrawn, Actor::Operator) => {
                return Err(Refusal::new(Code::NotYours, "the customer withdraws it; an operator rejects it"));
            }
            (SubmittedStatus::Accepted | SubmittedStatus::Rejected, Actor::Customer) => {
                return Err(Refusal::new(Code::NeedsOperator, "an operator decides; a customer withdraws"));
            }
            _ => {}
        }
        let asked = record.requests[at].clone();
        if asked.status != SubmittedStatus::Submitted {
            return Err(Refusal::new(Code::AlreadyExecuted, format!("`{change}` was decided already")));
        }
        let mut record = record.clone();
        record.requests[at].status = status;
        if status != SubmittedStatus::Accepted {
            return Ok(Accepted { record, change: Some(asked.id), effective_at: Some(self.now) });
        }
        let terms = Terms { execute_subscription: true, execute_addon: true, ..self.terms.clone() };
        let ask = Ask { terms: &terms, actor: Actor::Customer, object: &asked.object, now: self.now };
        ask.object_exists(&record)?;
        ask.cancel(&record, asked.licences, asked.when)
    }

    /// Books seats of the object from an instant on; at once, if that is now.
    fn book(&self, mut record: Record, at: DateTime<Utc>, seats: u32) -> RequestResult {
        let change = Change { effective_at: at, seats, by: self.actor };
        booking::insert(booking::changes_mut(&mut record, self.object), change);
        Ok(Accepted { record, change: Some(change_id(self.object, at)), effective_at: Some(at) })
    }

    /// Ends the object at an instant, or now; a subscription that ends at once drops what is pending (N3).
    fn end(&self, mut record: Record, at: DateTime<Utc>) -> Accepted {
        if at <= self.now {
            let whole = *self.object == Object::Subscription;
            let open = |request: &&mut Submitted| request.status == SubmittedStatus::Submitted;
            for request in record.requests.iter_mut().filter(open) {
                // Nobody has to decide any more about what is gone.
                if whole || request.object == *self.object {
                    request.status = SubmittedStatus::Rejected;
                }
            }
        }
        booking::set_end(&mut record, self.object, Some(at), self.actor);
        Accepted { record, change: Some(cancel_id(self.object)), effective_at: Some(at) }
    }

    /// True if an operator has to decide about a cancellation (N2).
    fn waits_for_operator(&self, record: &Record, licences: Option<u32>) -> bool {
        let automatic = match self.object {
            Object::Subscription => self.terms.execute_subscription,
            Object::Addon(_) => self.terms.execute_addon,
        };
        !automatic && self.actor == Actor::Customer && !self.is_small(record, licences)
    }

    /// Notes a cancellation for an operator (N2); all else stays as it is until one decides.
    fn submit(&self, record: &Record, licences: Option<u32>, when: Option<When>) -> RequestResult {
        let mut record = record.clone();
        let decided = record.requests.iter().position(|request| request.status != SubmittedStatus::Submitted);
        if record.requests.len() >= REQUESTS_MAX {
            let Some(oldest) = decided else {
                let message = format!("{REQUESTS_MAX} requests wait for an operator");
                return Err(Refusal::new(Code::PendingRequest, message));
            };
            record.requests.remove(oldest);
        }
        let id = booking::next_request_id(&record);
        let object = self.object.clone();
        let status = SubmittedStatus::Submitted;
        record.requests.push(Submitted { id: id.clone(), at: self.now, object, licences, when, status });
        Ok(Accepted { record, change: Some(id), effective_at: None })
    }

    /// True if the cancelled seats are worth less a month than an operator wants to see (N2).
    fn is_small(&self, record: &Record, licences: Option<u32>) -> bool {
        let Some(present) = object_seats(record, self.object, self.now) else { return false };
        let left = present.saturating_sub(licences.unwrap_or(present));
        let monthly = |seats| tariff::monthly_cents(self.terms.price_mode, seats);
        monthly(present).saturating_sub(monthly(left)) < self.terms.execute_below_cents
    }

    /// Without what N8 makes an operator's end at once override.
    fn cleared(&self, record: &Record) -> Record {
        let mut record = record.clone();
        booking::drop_pending(&mut record, self.object, self.now);
        if *self.object == Object::Subscription {
            for id in record.addons.iter().map(|addon| addon.id.clone()).collect::<Vec<_>>() {
                booking::drop_pending(&mut record, &Object::Addon(id), self.now);
            }
        }
        record
    }
}

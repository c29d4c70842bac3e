//! Checks that can refuse a request: states, and what is pending (J5, J11, N8).

use chrono::{DateTime, Utc};

use super::booking;
use super::policy::{PendingConflict, Terms};
use super::record::{Actor, Change, ContractKind, Object, Record, Submitted, SubmittedStatus};
use super::refusal::{Code, Refusal};
use super::schedule::{cancel_id, change_id, is_change_ahead};

/// The facts that stay the same while one request is looked at.
pub(super) struct Ask<'a> {
    pub(super) terms: &'a Terms,
    pub(super) actor: Actor,
    pub(super) object: &'a Object,
    pub(super) now: DateTime<Utc>,
}

impl Ask<'_> {
    pub(super) fn object_exists(&self, record: &Record) -> Result<(), Refusal> {
        let Object::Addon(id) = self.object else { return Ok(()) };
        match record.addon(id) {
            None => Err(Refusal::new(Code::UnknownObject, format!("there is no add-on `{id}`"))),
            Some(addon) if addon.cancel_at.is_some_and(|end| end <= self.now) => {
                Err(Refusal::new(Code::Ended, format!("the add-on `{id}` has ended; it cannot be revived")))
            }
            Some(_) => Ok(()),
        }
    }

    /// The record without the booked change that a new one replaces; a refusal where it may not be replaced (J11).
    pub(super) fn make_room(&self, record: &Record) -> Result<Record, Refusal> {
        let changes = booking::changes(record, self.object);
        let mut record = record.clone();
        if is_change_ahead(changes, self.now) {
            if self.terms.pending_conflict != PendingConflict::Replace {
                return Err(self.pending_change(changes));
            }
            booking::drop_pending(&mut record, self.object, self.now);
        }
        Ok(record)
    }

    /// Checks bookings before an end: they may stay, have to go, or forbid it (J11, J14).
    pub(super) fn room_for_end(&self, record: &Record) -> Result<Record, Refusal> {
        match self.terms.pending_conflict {
            PendingConflict::Keep => Ok(record.clone()),
            PendingConflict::Replace | PendingConflict::Reject => self.make_room(record),
        }
    }

    /// Checks that the number of seats may change at all (N8).
    pub(super) fn quantity_allowed(&self, record: &Record) -> Result<(), Refusal> {
        self.running(record)?;
        if record.kind == ContractKind::Trial && *self.object == Object::Subscription {
            return Err(Refusal::new(
                Code::UseUpgrade,
                "seats of a trial are fixed; upgrade it to a paid subscription",
            ));
        }
        if record.price_protected {
            return Err(Refusal::new(Code::PriceProtected, "its price is protected; the number of seats stays"));
        }
        Ok(())
    }

    /// Neither suspended nor in the hands of the vendor.
    pub(super) fn running(&self, record: &Record) -> Result<(), Refusal> {
        if record.suspended {
            return Err(Refusal::new(Code::Suspended, "the subscription is suspended; resume it first"));
        }
        if record.action_since.is_some() {
            return Err(Refusal::new(Code::ActionPending, "an action of the vendor is under way or has failed"));
        }
        Ok(())
    }

    pub(super) fn no_cancel_pending(&self, record: &Record) -> Result<(), Refusal> {
        match booking::cancel_at(record, self.object) {
            Some(at) => {
                let message = format!("its end is booked as `{}`; revoke that first", cancel_id(self.object));
                Err(Refusal::new(Code::PendingCancel, message).earliest(Some(at)))
            }
            None => Ok(()),
        }
    }

    /// Refuses while something is pending, where the terms reject a second change (N8).
    pub(super) fn no_cancel_pending_if_rejecting(&self, record: &Record) -> Result<(), Refusal> {
        if self.terms.pending_conflict != PendingConflict::Reject {
            return Ok(());
        }
        self.no_cancel_pending(record)?;
        self.make_room(record).map(drop)
    }

    pub(super) fn no_request_pending(&self, record: &Record) -> Result<(), Refusal> {
        let undecided =
            |request: &&Submitted| request.status == SubmittedStatus::Submitted && request.object == *self.object;
        match record.requests.iter().find(undecided) {
            Some(request) => {
                let message = format!("`{}` waits for an operator; withdraw it first", request.id);
                Err(Refusal::new(Code::PendingRequest, message))
            }
            None => Ok(()),
        }
    }

    pub(super) fn pending_change(&self, changes: &[Change]) -> Refusal {
        let at = changes.last().map(|change| change.effective_at);
        let id = at.map(|at| change_id(self.object, at)).unwrap_or_default();
        Refusal::new(Code::PendingChange, format!("`{id}` is booked; revoke it first")).earliest(at)
    }

    /// Checks a request that concerns the subscription as a whole.
    pub(super) fn whole(&self) -> Result<(), Refusal> {
        match self.object {
            Object::Subscription => Ok(()),
            Object::Addon(_) => {
                Err(Refusal::new(Code::WholeOnly, "this is asked of the subscription, not of an add-on"))
            }
        }
    }

    pub(super) fn operator(&self, does: &str) -> Result<(), Refusal> {
        match self.actor {
            Actor::Operator => Ok(()),
            Actor::Customer => {
                Err(Refusal::new(Code::NeedsOperator, format!("only an operator {does} a subscription")))
            }
        }
    }
}

//! Why a request is refused, in closed codes.

use chrono::{DateTime, Utc};
use usherd_contract::vocabulary;

vocabulary! {
    /// The rule that forbids a request.
    Code {
        /// Not possible before the end of the minimum term (J10).
        InTerm = "in_term",
        /// Possible only by cancelling and subscribing anew (J10).
        NeedsRecreate = "needs_recreate",
        /// The new number of seats is not lower than the present one (J11).
        NotAReduction = "not_a_reduction",
        /// An addition of nothing.
        NotAnAddition = "not_an_addition",
        /// A reduction to nothing (J11).
        UseCancel = "use_cancel",
        /// The seats of a trial are fixed (J3).
        UseUpgrade = "use_upgrade",
        /// A change is booked (J11, N8).
        PendingChange = "pending_change",
        /// The end is booked (N8).
        PendingCancel = "pending_cancel",
        /// A request waits for an operator (N2).
        PendingRequest = "pending_request",
        /// Somebody else booked it (N7).
        NotYours = "not_yours",
        /// The change has taken effect and cannot be revoked (N7).
        AlreadyExecuted = "already_executed",
        /// A specific date may not lie in the future (N5).
        FutureDate = "future_date",
        /// A specific date may not lie before the current period (N5).
        BeforePeriod = "before_period",
        /// Not possible for customers (N5, N7).
        NeedsOperator = "needs_operator",
        /// Customers may not cancel at once, and nobody before the start (J12).
        NotImmediate = "not_immediate",
        /// An account has one trial (J3).
        TrialUsed = "trial_used",
        /// There is nothing to upgrade (J3).
        NotATrial = "not_a_trial",
        /// An object that has ended stays ended (N7).
        Ended = "ended",
        /// Not possible while the subscription is suspended (J5, N8).
        Suspended = "suspended",
        /// There is nothing to resume (J5).
        NotSuspended = "not_suspended",
        /// The quantity of a price-protected subscription is fixed (N8).
        PriceProtected = "price_protected",
        /// An action of the vendor is still running (N12).
        ActionPending = "action_pending",
        /// Unlimited seats cannot be added to (F5).
        Unlimited = "unlimited",
        /// Not for a part, or not for an add-on.
        WholeOnly = "whole_only",
        /// No such add-on.
        UnknownObject = "unknown_object",
        /// Nothing is booked or submitted under that id.
        UnknownChange = "unknown_change",
        /// More than a tenant may have.
        TooManySeats = "too_many_seats",
        /// More than a record may hold.
        TooManyChanges = "too_many_changes",
        /// No such instant.
        OutOfCalendar = "out_of_calendar",
    }
}

/// A refused request; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub code: Code,
    /// The reason for people, and what to do instead.
    pub message: String,
    /// From when on it may be granted, or when what is in its way happens.
    pub earliest: Option<DateTime<Utc>>,
}

impl Refusal {
    /// A refusal by a rule.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into(), earliest: None }
    }

    /// Adds from when on it may be granted.
    #[must_use]
    pub fn earliest(mut self, at: Option<DateTime<Utc>>) -> Self {
        self.earliest = at;
        self
    }
}

//! The bookings of a subscription, under ids by which they can be revoked, and its parts' states (N1, N6, N12).

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use usherd_contract::vocabulary;

use super::entitlement::{addon_seats, base_seats, ends_at};
use super::policy::Terms;
use super::record::{Actor, Addon, Change, ContractKind, Object, Record, SubmittedStatus};

/// The longest time that an action of the vendor takes before it has failed (N12).
pub const ACTION_MINUTES_MAX: i64 = 120;

/// Something booked or asked for that has not happened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// Its name in a request to revoke it.
    pub id: String,
    /// The object that it changes.
    pub object: Object,
    /// When it takes effect; of an undecided request: when it was submitted.
    pub effective_at: DateTime<Utc>,
    /// The change that then happens.
    pub what: What,
    /// The party that booked it.
    pub by: Actor,
    /// Its status, which says if it will happen.
    pub status: Status,
}

/// The effect of a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The object has so many seats from then on.
    Seats(u32),
    /// The object ends.
    Cancel,
    /// A customer asks for so many seats to be cancelled; `None` is all.
    Asked(Option<u32>),
}

vocabulary! {
    /// The status of a booking, which says if it will happen.
    Status {
        /// At its instant.
        Pending = "pending",
        /// Not, unless the end before it is revoked (N6, N7).
        Void = "void",
        /// When an operator accepts it (N2).
        Submitted = "submitted",
    }
}

vocabulary! {
    /// Where a subscription or an add-on stands in the storefront (N1).
    ObjectState {
        /// In use, nothing booked.
        Active = "active",
        /// Another number of seats is booked.
        PendingQuantityChange = "pending_quantity_change",
        /// Its end is booked.
        PendingCancel = "pending_cancel",
        /// It has ended, for good (N7).
        Cancelled = "cancelled",
        /// Suspended by the operator (J5).
        Suspended = "suspended",
        /// An action of the vendor did not finish (N12); what it entitles to stays.
        Failed = "failed",
        /// In its trial (J3).
        Trial = "trial",
    }
}

/// The id of a booked change: its object and instant, which are unique together.
pub fn change_id(object: &Object, at: DateTime<Utc>) -> String {
    format!("{object}@{}", at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// The id of the booked end of an object.
pub fn cancel_id(object: &Object) -> String {
    format!("{object}@cancel")
}

/// Everything that lies ahead of `now`, by instant; what an earlier end makes void is in it and says so.
pub fn schedule(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Vec<Booked> {
    let end = ends_at(record, terms);
    let mut booked = of_object(&Object::Subscription, &record.changes, record.cancel_at, record.cancel_by, now);
    for addon in &record.addons {
        let object = Object::Addon(addon.id.clone());
        booked.extend(of_object(&object, &addon.changes, addon.cancel_at, addon.cancel_by, now));
    }
    for item in &mut booked {
        let own_end = item.object == Object::Subscription && item.what == What::Cancel;
        if !own_end && end.is_some_and(|end| end <= item.effective_at) {
            item.status = Status::Void;
        }
    }
    let undecided = record.requests.iter().filter(|request| request.status == SubmittedStatus::Submitted);
    booked.extend(undecided.map(|request| Booked {
        id: request.id.clone(),
        object: request.object.clone(),
        effective_at: request.at,
        what: What::Asked(request.licences),
        by: Actor::Customer,
        status: Status::Submitted,
    }));
    booked.sort_by(|a, b| (a.effective_at, &a.object).cmp(&(b.effective_at, &b.object)));
    booked
}

fn of_object(
    object: &Object,
    changes: &[Change],
    cancel_at: Option<DateTime<Utc>>,
    cancel_by: Actor,
    now: DateTime<Utc>,
) -> Vec<Booked> {
    let ahead = changes.iter().filter(|change| change.effective_at > now);
    let mut booked: Vec<Booked> = ahead
        .map(|change| Booked {
            id: change_id(object, change.effective_at),
            object: object.clone(),
            effective_at: change.effective_at,
            what: What::Seats(change.seats),
            by: change.by,
            // The end of an object beats what is due with it (J14, N6).
            status: if cancel_at.is_some_and(|end| end <= change.effective_at) {
                Status::Void
            } else {
                Status::Pending
            },
        })
        .collect();
    booked.extend(cancel_at.filter(|at| *at > now).map(|at| Booked {
        id: cancel_id(object),
        object: object.clone(),
        effective_at: at,
        what: What::Cancel,
        by: cancel_by,
        status: Status::Pending,
    }));
    booked
}

/// True if an action of the vendor did not finish in time (N12).
pub fn failed(record: &Record, now: DateTime<Utc>) -> bool {
    let limit = |since: DateTime<Utc>| since.checked_add_signed(Duration::minutes(ACTION_MINUTES_MAX));
    record.action_since.and_then(limit).is_some_and(|limit| limit < now)
}

/// Where the subscription itself stands (N1).
pub fn subscription_state(record: &Record, terms: &Terms, now: DateTime<Utc>) -> ObjectState {
    if ends_at(record, terms).is_some_and(|end| end <= now) {
        ObjectState::Cancelled
    } else if failed(record, now) {
        ObjectState::Failed
    } else if record.suspended {
        ObjectState::Suspended
    } else if record.cancel_at.is_some() {
        ObjectState::PendingCancel
    } else if record.kind == ContractKind::Trial {
        ObjectState::Trial
    } else if is_change_ahead(&record.changes, now) {
        ObjectState::PendingQuantityChange
    } else {
        ObjectState::Active
    }
}

/// Where an add-on stands (N1); it goes with its subscription (N3, N6).
pub fn addon_state(record: &Record, addon: &Addon, terms: &Terms, now: DateTime<Utc>) -> ObjectState {
    let ends = [addon.cancel_at, ends_at(record, terms)];
    if ends.iter().flatten().any(|end| *end <= now) {
        ObjectState::Cancelled
    } else if addon.cancel_at.is_some() {
        ObjectState::PendingCancel
    } else if is_change_ahead(&addon.changes, now) {
        ObjectState::PendingQuantityChange
    } else {
        ObjectState::Active
    }
}

/// Seats of an object at an instant; `None` is unlimited.
pub fn object_seats(record: &Record, object: &Object, now: DateTime<Utc>) -> Option<u32> {
    match object {
        Object::Subscription => base_seats(record, now),
        Object::Addon(id) => Some(record.addon(id).map_or(0, |addon| addon_seats(addon, now))),
    }
}

/// True if another number of seats is booked for after `now`.
pub fn is_change_ahead(changes: &[Change], now: DateTime<Utc>) -> bool {
    changes.last().is_some_and(|change| change.effective_at > now)
}

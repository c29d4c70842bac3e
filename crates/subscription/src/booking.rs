//! The instants at which the contract lets things happen, and the record's lists of what is booked.

use chrono::{DateTime, NaiveDate, Utc};

use super::civil::{self, Edge};
use super::entitlement::{term_ends_at, trial_ends_at};
use super::policy::{BillingPeriod, CancelAfterTerm, Downgrade, Terms};
use super::record::{Actor, Change, Object, Record};
use super::refusal::{Code, Refusal};
use super::schedule::{Booked, What, cancel_id, change_id};

/// The civil date on which the current billing period began, and the instant of its end, P (N4, X2).
pub fn period(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Option<(NaiveDate, DateTime<Utc>)> {
    match (terms.billing, record.start) {
        (BillingPeriod::Year, Some(start)) => civil::anniversary(terms.zone, start.date(), 12, now),
        _ => {
            let first = civil::month_of(civil::civil(terms.zone, now).date());
            Some((first, civil::next_month(terms.zone, now)?))
        }
    }
}

/// The instant of the start; of a contract without one, `None`.
pub fn starts_at(record: &Record, terms: &Terms) -> Option<DateTime<Utc>> {
    record.start.map(|start| civil::instant(terms.zone, start, Edge::Start))
}

/// When a reduction asked for now takes effect (J10). The minimum term binds the base alone: add-ons change
/// with the billing period (N4).
///
/// # Errors
/// Where reductions are made by a new subscription, with the earliest instant.
pub fn reduction_at(
    record: &Record,
    terms: &Terms,
    object: &Object,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, Refusal> {
    let beyond = || Refusal::new(Code::OutOfCalendar, "the end of the period lies beyond the calendar");
    if *object != Object::Subscription {
        return Ok(period(record, terms, now).ok_or_else(beyond)?.1);
    }
    let term_end = term_ends_at(record, terms).filter(|end| *end > now);
    match (terms.downgrade, term_end) {
        (Downgrade::Scheduled, Some(end)) => Ok(end),
        (Downgrade::Scheduled, None) => civil::next_month(terms.zone, now).ok_or_else(beyond),
        (Downgrade::AfterTermRecreate, Some(end)) => {
            let message = "within the minimum term seats are not reduced; afterwards by a new subscription";
            Err(Refusal::new(Code::InTerm, message).earliest(Some(end)))
        }
        (Downgrade::AfterTermRecreate, None) | (Downgrade::RecreateNow, _) => {
            let message = "cancel the subscription and create a new one with fewer seats; the rest is not refunded";
            Err(Refusal::new(Code::NeedsRecreate, message).earliest(Some(now)))
        }
    }
}

/// When an end asked for now takes effect (J12, N4); of a trial: when it ends anyway.
pub fn end_at(record: &Record, terms: &Terms, object: &Object, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let period_end = || Some(period(record, terms, now)?.1);
    if *object != Object::Subscription || terms.cancel_after_term == CancelAfterTerm::PeriodEnd {
        return trial_ends_at(record, terms).filter(|_| *object == Object::Subscription).or_else(period_end);
    }
    let computed = trial_ends_at(record, terms).or_else(|| term_ends_at(record, terms));
    if let Some(end) = computed.filter(|end| *end > now) {
        return Some(end);
    }
    match (terms.cancel_after_term, record.start) {
        (CancelAfterTerm::TermEnd, Some(start)) if record.term_months > 0 => {
            Some(civil::anniversary(terms.zone, start.date(), record.term_months, now)?.1)
        }
        _ => civil::next_month(terms.zone, now),
    }
}

/// The start of a civil date of the current period, not after today (N5).
///
/// # Errors
/// `future_date`, `before_period`.
pub fn date_in_period(
    record: &Record,
    terms: &Terms,
    date: NaiveDate,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, Refusal> {
    let today = civil::civil(terms.zone, now).date();
    let (since, _) = period(record, terms, now)
        .ok_or_else(|| Refusal::new(Code::OutOfCalendar, "the end of the period lies beyond the calendar"))?;
    let since = record.start.map_or(since, |start| since.max(start.date()));
    if date > today {
        return Err(Refusal::new(Code::FutureDate, format!("{date} is after today, {today}")));
    }
    if date < since {
        return Err(Refusal::new(Code::BeforePeriod, format!("{date} is before the current period, {since}")));
    }
    let started = starts_at(record, terms);
    let at = civil::midnight(terms.zone, date, Edge::Start);
    Ok(started.map_or(at, |started| at.max(started)).min(now))
}

/// The changes of an object.
pub fn changes<'r>(record: &'r Record, object: &Object) -> &'r [Change] {
    match object {
        Object::Subscription => &record.changes,
        Object::Addon(id) => record.addon(id).map_or(&[], |addon| &addon.changes),
    }
}

/// The changes of an object that is there; those of the subscription otherwise.
pub fn changes_mut<'r>(record: &'r mut Record, object: &Object) -> &'r mut Vec<Change> {
    let at = match object {
        Object::Subscription => None,
        Object::Addon(id) => record.addons.iter().position(|addon| addon.id == *id),
    };
    match at {
        Some(at) => &mut record.addons[at].changes,
        None => &mut record.changes,
    }
}

/// The booked end of an object alone.
pub fn cancel_at(record: &Record, object: &Object) -> Option<DateTime<Utc>> {
    match object {
        Object::Subscription => record.cancel_at,
        Object::Addon(id) => record.addon(id)?.cancel_at,
    }
}

/// Puts a change where it belongs by time; one of the same instant gives way.
pub fn insert(changes: &mut Vec<Change>, change: Change) {
    let at = changes.partition_point(|other| other.effective_at < change.effective_at);
    match changes.get_mut(at) {
        Some(same) if same.effective_at == change.effective_at => *same = change,
        _ => changes.insert(at, change),
    }
}

/// Removes what is booked for an object after an instant: changes, and its end.
pub fn drop_pending(record: &mut Record, object: &Object, now: DateTime<Utc>) {
    changes_mut(record, object).retain(|change| change.effective_at <= now);
    if cancel_at(record, object).is_some_and(|at| at > now) {
        set_end(record, object, None, Actor::Customer);
    }
}

/// Ends an object at an instant, or takes its booked end back; then nobody has booked it.
pub fn set_end(record: &mut Record, object: &Object, at: Option<DateTime<Utc>>, by: Actor) {
    let by = if at.is_some() { by } else { Actor::Customer };
    match object {
        Object::Subscription => (record.cancel_at, record.cancel_by) = (at, by),
        Object::Addon(id) => {
            if let Some(addon) = record.addons.iter_mut().find(|addon| addon.id == *id) {
                (addon.cancel_at, addon.cancel_by) = (at, by);
            }
        }
    }
}

/// Takes something booked out of the record.
pub fn remove(record: &mut Record, item: &Booked) {
    match item.what {
        What::Cancel => set_end(record, &item.object, None, item.by),
        What::Seats(_) => {
            changes_mut(record, &item.object).retain(|change| change.effective_at != item.effective_at);
        }
        What::Asked(_) => record.requests.retain(|request| request.id != item.id),
    }
}

/// True if an id is of something that is in force already.
pub fn was_executed(record: &Record, id: &str, now: DateTime<Utc>) -> bool {
    let objects = record.addons.iter().map(|addon| Object::Addon(addon.id.clone())).chain([Object::Subscription]);
    objects.into_iter().any(|object| {
        let passed = |change: &&Change| change.effective_at <= now;
        let ended = cancel_at(record, &object).is_some_and(|end| end <= now);
        (ended && id == cancel_id(&object))
            || changes(record, &object)
                .iter()
                .filter(passed)
                .any(|change| id == change_id(&object, change.effective_at))
    })
}

/// An id for the next submitted request.
pub fn next_request_id(record: &Record) -> String {
    let numbers = record.requests.iter().filter_map(|request| request.id.strip_prefix("request:")?.parse::<u32>().ok());
    format!("request:{}", numbers.max().unwrap_or(0).saturating_add(1))
}

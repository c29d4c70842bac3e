//! Requests to subscriptions as they come by wire and command line, and what is answered (API 5, 7).

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use usherd_contract::word::Word;
use usherd_subscription::entitlement::{ends_at, term_ends_at, trial_ends_at};
use usherd_subscription::inclusive::inclusive;
use usherd_subscription::policy::Terms;
use usherd_subscription::price::price;
use usherd_subscription::record::{Actor, Object, Record, SEATS_MAX, When};
use usherd_subscription::request::{Request, Verb};
use usherd_subscription::schedule::{
    Booked, ObjectState, What, addon_state, object_seats, schedule, subscription_state,
};

use crate::answers::subscriptions::{self as answers, ObjectRow, Refused, Subscription, SubscriptionAccepted};
use crate::daemon::config::{Submission, Tenant, rfc3339};

/// The verbs of requests, as they are written.
pub const VERBS: [&str; 10] =
    ["add", "reduce", "cancel", "revoke", "upgrade", "suspend", "resume", "accept", "reject", "withdraw"];

/// A field of a request that is wrong: its name, and what is.
pub type FieldFault = (&'static str, String);

/// A request as it is written: words and numbers.
#[derive(Clone, Debug, Default, JsonSchema)]
pub struct Written {
    /// The one who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Word<Actor>", extend("default" = Actor::Customer.as_str()))]
    pub actor: Option<String>,
    /// The verb.
    #[schemars(schema_with = "verbs")]
    pub request: Option<String>,
    /// `subscription`, or `addon:ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "subscription"))]
    pub object: Option<String>,
    /// add: how many more; reduce, upgrade: how many then; cancel: how many, all where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = SEATS_MAX))]
    pub seats: Option<u64>,
    /// cancel: `immediate`, `period_end`, or for operators a civil date; when the contract allows where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// revoke, accept, reject, withdraw: an id of the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

fn verbs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": VERBS })
}

impl Written {
    /// The request that is meant.
    ///
    /// # Errors
    /// Every field that is wrong, missing, or does not belong to the verb.
    pub fn read(&self) -> Result<Request, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let actor = match self.actor.as_deref() {
            None | Some("customer") => Actor::Customer,
            Some("operator") => Actor::Operator,
            Some(_) => {
                faults.push(("actor", "must be customer or operator".to_owned()));
                Actor::Customer
            }
        };
        let object = self.object.as_deref().map_or(Ok(Object::Subscription), str::parse).unwrap_or_else(|_| {
            faults.push(("object", "must be subscription or addon:ID".to_owned()));
            Object::Subscription
        });
        let verb = self.verb(&mut faults);
        match verb {
            Some(verb) if faults.is_empty() => Ok(Request { actor, object, verb }),
            _ => Err(faults),
        }
    }

    fn verb(&self, faults: &mut Vec<FieldFault>) -> Option<Verb> {
        let word = self.request.as_deref().unwrap_or_default();
        if !VERBS.contains(&word) {
            faults.push(("request", format!("must be one of {}", VERBS.join(", "))));
            return None;
        }
        let takes_seats = matches!(word, "add" | "reduce" | "cancel" | "upgrade");
        let takes_change = matches!(word, "revoke" | "accept" | "reject" | "withdraw");
        let seats = self.seats.map(|seats| u32::try_from(seats).ok().filter(|seats| *seats <= SEATS_MAX));
        if seats == Some(None) {
            faults.push(("seats", format!("must be a whole number from 0 to {SEATS_MAX}")));
        }
        let seats = seats.flatten();
        if self.seats.is_none() && takes_seats && word != "cancel" {
            faults.push(("seats", format!("is required to {word}")));
        }
        let when = self.when.as_deref().map(str::parse::<When>);
        if matches!(when, Some(Err(_))) {
            faults.push(("when", "must be immediate, period_end, or a date that exists, as 2026-06-15".to_owned()));
        }
        if self.change.is_none() && takes_change {
            faults.push(("change", format!("is required to {word}: an id of the schedule")));
        }
        for (field, given, taken) in [
            ("seats", self.seats.is_some(), takes_seats),
            ("when", self.when.is_some(), word == "cancel"),
            ("change", self.change.is_some(), takes_change),
        ] {
            if given && !taken {
                faults.push((field, format!("does not belong to {word}")));
            }
        }
        let change = self.change.clone().unwrap_or_default();
        let number = seats.unwrap_or_default();
        Some(match word {
            "add" => Verb::Add { seats: number },
            "reduce" => Verb::Reduce { to: number },
            "cancel" => Verb::Cancel { licences: seats, when: when.and_then(Result::ok) },
            "upgrade" => Verb::Upgrade { seats: number },
            "suspend" => Verb::Suspend,
            "resume" => Verb::Resume,
            "revoke" => Verb::Revoke { change },
            "accept" => Verb::Accept { change },
            "reject" => Verb::Reject { change },
            _ => Verb::Withdraw { change },
        })
    }
}

/// A subscription at an instant (`subscription show`).
pub fn shown(tenant: &Tenant, now: DateTime<Utc>) -> Subscription {
    let (record, terms) = (&tenant.record, &*tenant.terms);
    let entitlement = tenant.entitlement(now);
    let included = inclusive(record, terms, now);
    let at = |at: DateTime<Utc>| rfc3339(at).into();
    Subscription {
        tenant: tenant.id.to_string(),
        at: at(now),
        kind: record.kind.into(),
        state: entitlement.state.into(),
        seats: entitlement.seats,
        start: record.start.map(|start| start.format("%Y-%m-%dT%H:%M:%S").to_string()),
        term_ends_at: term_ends_at(record, terms).map(at),
        trial_ends_at: trial_ends_at(record, terms).map(at),
        ends_at: ends_at(record, terms).map(at),
        next_change_at: entitlement.next_change_at.map(at),
        schedule: schedule_shown(record, terms, now),
        objects: objects(record, terms, now),
        numbers: included.numbers,
        channels: included.channels,
        endpoints: included.endpoints,
        surplus_numbers: included.surplus_numbers,
    }
}

/// The result of a request (`subscription request`, `POST /v1/tenants/{t}/subscription`).
///
/// # Errors
/// A rule forbids it.
pub fn answered(
    submission: &Submission,
    now: DateTime<Utc>,
    dry_run: bool,
) -> Result<SubscriptionAccepted, Box<Refused>> {
    let tenant = &submission.before;
    match &submission.answer {
        Ok(accepted) => {
            let price = price(&tenant.record, &accepted.record, &tenant.terms, now);
            let after = Tenant { record: accepted.record.clone(), ..(**tenant).clone() };
            let entitlement = after.entitlement(now);
            Ok(SubscriptionAccepted {
                tenant: tenant.id.to_string(),
                dry_run,
                accepted: true,
                refusal: (),
                change: accepted.change.clone(),
                effective_at: accepted.effective_at.map(|at| rfc3339(at).into()),
                charge_cents: price.charge_cents,
                credit_cents: price.credit_cents,
                monthly_cents: price.monthly_cents,
                state: entitlement.state.into(),
                seats: entitlement.seats,
                schedule: schedule_shown(&accepted.record, &tenant.terms, now),
                waiting: None,
            })
        }
        Err(refusal) => Err(Box::new(Refused {
            tenant: tenant.id.to_string(),
            dry_run,
            refusal: refusal.code.into(),
            message: refusal.message.clone(),
            earliest_at: refusal.earliest.map(|at| rfc3339(at).into()),
            schedule: schedule_shown(&tenant.record, &tenant.terms, now),
            ..Refused::default()
        })),
    }
}

/// A request in one line, for the audit trail.
pub fn told(ask: &Request) -> String {
    let what = match &ask.verb {
        Verb::Add { seats } => format!("add {seats}"),
        Verb::Reduce { to } => format!("reduce to {to}"),
        Verb::Cancel { licences, when } => {
            let licences = licences.map_or("all".to_owned(), |licences| licences.to_string());
            format!("cancel {licences}{}", when.map(|when| format!(", {when}")).unwrap_or_default())
        }
        Verb::Revoke { change } => format!("revoke {change}"),
        Verb::Upgrade { seats } => format!("upgrade to {seats}"),
        Verb::Suspend => "suspend".to_owned(),
        Verb::Resume => "resume".to_owned(),
        Verb::Accept { change } => format!("accept {change}"),
        Verb::Reject { change } => format!("reject {change}"),
        Verb::Withdraw { change } => format!("withdraw {change}"),
    };
    format!("{} asked: {what} ({})", ask.actor.as_str(), ask.object)
}

/// The bookings, by their dates.
pub fn schedule_shown(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Vec<answers::Booked> {
    schedule(record, terms, now).iter().map(item_shown).collect()
}

/// Something that is booked.
pub fn item_shown(item: &Booked) -> answers::Booked {
    let (seats, asked) = match item.what {
        What::Seats(seats) => (Some(seats), None),
        What::Cancel => (None, None),
        What::Asked(licences) => (None, Some(licences)),
    };
    answers::Booked {
        id: item.id.clone(),
        object: item.object.to_string(),
        effective_at: rfc3339(item.effective_at).into(),
        seats,
        cancel: seats.is_none().then_some(true),
        cancel_licences: asked,
        by: item.by.into(),
        status: item.status.into(),
        seats_then: None,
    }
}

/// Where subscription and add-ons stand (N1).
fn objects(record: &Record, terms: &Terms, now: DateTime<Utc>) -> Vec<ObjectRow> {
    let row = |object: Object, state: ObjectState| ObjectRow {
        seats: object_seats(record, &object, now),
        object: object.to_string(),
        state: state.into(),
    };
    let base = row(Object::Subscription, subscription_state(record, terms, now));
    let addons = record.addons.iter();
    let addons = addons.map(|addon| row(Object::Addon(addon.id.clone()), addon_state(record, addon, terms, now)));
    std::iter::once(base).chain(addons).collect()
}

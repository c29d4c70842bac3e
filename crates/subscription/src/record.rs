//! The record of a subscription as the synced configuration brings it (J1).

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use usherd_contract::vocabulary;

vocabulary! {
    /// The kind of a contract (J1).
    ContractKind {
        /// Free of charge for a limited time (J3).
        Trial = "trial",
        /// With a minimum term (J4).
        Paid = "paid",
        /// Not for resale (K8).
        Nfr = "nfr",
    }
}

vocabulary! {
    /// The party that booked something.
    Actor {
        /// The customer, in the portal.
        Customer = "customer",
        /// The operator, in the back office.
        Operator = "operator",
    }
}

/// A booked change: absolute seats from an instant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// From when.
    pub effective_at: DateTime<Utc>,
    /// 0..=1,000,000.
    pub seats: u32,
    /// The party that booked it.
    pub by: Actor,
}

/// Something on top of the base: seats, or services without seats (N10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addon {
    /// Unique within the record.
    pub id: String,
    /// 0..=1,000,000.
    pub seats: u32,
    /// Booked changes, ascending.
    pub changes: Vec<Change>,
    /// From when it is gone.
    pub cancel_at: Option<DateTime<Utc>>,
    /// The party that booked its end (N7).
    pub cancel_by: Actor,
    /// Inclusive services that it adds whatever its seats (N10).
    pub extra: Extra,
}

/// Inclusive services beyond those that come with the seats (N10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Numbers (L2).
    pub numbers: u32,
    /// Channels (L3).
    pub channels: u32,
    /// Endpoints (L4).
    pub endpoints: u32,
}

/// The object of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The subscription, its base seats.
    Subscription,
    /// The add-on of this id.
    Addon(String),
}

/// When a cancellation is to take effect (N3-N5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once (N3).
    Immediate,
    /// With the billing period (N4).
    PeriodEnd,
    /// On a civil date of the current billing period, not after today (N5).
    Date(NaiveDate),
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Object::Subscription => f.write_str("subscription"),
            Object::Addon(id) => write!(f, "addon:{id}"),
        }
    }
}

impl std::str::FromStr for Object {
    type Err = NotOne;

    /// `subscription`, or `addon:ID`.
    fn from_str(text: &str) -> Result<Self, NotOne> {
        match text.strip_prefix("addon:") {
            Some(id) if !id.is_empty() => Ok(Object::Addon(id.to_owned())),
            None if text == "subscription" => Ok(Object::Subscription),
            _ => Err(NotOne),
        }
    }
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            When::Immediate => f.write_str("immediate"),
            When::PeriodEnd => f.write_str("period_end"),
            When::Date(date) => write!(f, "{date}"),
        }
    }
}

impl std::str::FromStr for When {
    type Err = NotOne;

    /// `immediate`, `period_end`, or a civil date that exists.
    fn from_str(text: &str) -> Result<Self, NotOne> {
        match text {
            "immediate" => Ok(When::Immediate),
            "period_end" => Ok(When::PeriodEnd),
            _ if text.len() == 10 => text.parse().map(When::Date).map_err(|_| NotOne),
            _ => Err(NotOne),
        }
    }
}

/// A text that is none of the words, ids or dates that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOne;

/// A customer's cancellation that waits for an operator, or was decided by one (N1, N2: manual flow).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Unique within the record.
    pub id: String,
    /// When it was submitted.
    pub at: DateTime<Utc>,
    /// The object to be cancelled.
    pub object: Object,
    /// How many seats; `None` is all.
    pub licences: Option<u32>,
    /// When it is to take effect.
    pub when: Option<When>,
    /// Where it stands.
    pub status: SubmittedStatus,
}

vocabulary! {
    /// Where a submitted request stands (N1).
    SubmittedStatus {
        /// Nobody decided yet.
        Submitted = "submitted",
        /// An operator let it be executed.
        Accepted = "accepted",
        /// An operator refused it.
        Rejected = "rejected",
        /// The customer took it back.
        Withdrawn = "withdrawn",
    }
}

/// Most seats of a tenant at any time.
pub const SEATS_MAX: u32 = 1_000_000;
/// Most booked changes of one object, those in force included.
pub const CHANGES_MAX: usize = 1_000;
/// Most add-ons of one tenant.
pub const ADDONS_MAX: usize = 50;
/// Most requests of the manual flow that a record keeps.
pub const REQUESTS_MAX: usize = 100;

/// The record of a subscription (J1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Trial, paid or not for resale.
    pub kind: ContractKind,
    /// Civil start in the billing zone; a date is its midnight.
    pub start: Option<NaiveDateTime>,
    /// Minimum term, months (J4).
    pub term_months: u32,
    /// Base seats; `None` is unlimited (F5).
    pub seats: Option<u32>,
    /// Booked changes of the base, ascending.
    pub changes: Vec<Change>,
    /// Seats on top.
    pub addons: Vec<Addon>,
    /// From when the whole subscription is ended.
    pub cancel_at: Option<DateTime<Utc>>,
    /// The party that booked the end (N7).
    pub cancel_by: Actor,
    /// True if quantity changes are refused (N8).
    pub price_protected: bool,
    /// Since when an action of the vendor has been under way; two hours later it has failed (N12).
    pub action_since: Option<DateTime<Utc>>,
    /// Cancellations of the manual flow (N2), oldest first.
    pub requests: Vec<Submitted>,
    /// Suspended by the operator, or unpaid (J5).
    pub suspended: bool,
    /// When the portal last confirmed it (J7).
    pub synced_at: Option<DateTime<Utc>>,
    /// Assigned numbers (L2).
    pub numbers: Option<u32>,
    /// Endpoints set up (L4).
    pub endpoints: Option<u32>,
}

impl Record {
    /// A paid subscription of so many seats with nothing booked; `None` is unlimited.
    pub fn paid(seats: Option<u32>) -> Self {
        Record {
            kind: ContractKind::Paid,
            start: None,
            term_months: 12,
            seats,
            changes: Vec::new(),
            addons: Vec::new(),
            cancel_at: None,
            cancel_by: Actor::Customer,
            price_protected: false,
            action_since: None,
            requests: Vec::new(),
            suspended: false,
            synced_at: None,
            numbers: None,
            endpoints: None,
        }
    }

    /// The add-on of an id.
    pub fn addon(&self, id: &str) -> Option<&Addon> {
        self.addons.iter().find(|addon| addon.id == id)
    }
}

impl Addon {
    /// An add-on of so many seats with nothing booked.
    pub fn new(id: &str, seats: u32) -> Self {
        Addon {
            id: id.to_owned(),
            seats,
            changes: Vec::new(),
            cancel_at: None,
            cancel_by: Actor::Customer,
            extra: Extra::default(),
        }
    }
}

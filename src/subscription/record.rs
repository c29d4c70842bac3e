//! The record of a subscription as the synced configuration brings it (J1).

use chrono::{DateTime, NaiveDateTime, Utc};

/// What kind of contract it is (J1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractKind {
    /// J3.
    Trial,
    /// J4.
    Paid,
    /// Not for resale (K8).
    Nfr,
}

/// Who booked something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The customer, in the portal.
    Customer,
    /// The operator, in the back office.
    Operator,
}

/// A booked change: absolute seats from an instant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// From when.
    pub effective_at: DateTime<Utc>,
    /// 0..=1,000,000.
    pub seats: u32,
    /// Who booked it.
    pub by: Actor,
}

/// Seats on top of the base.
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
}

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
    /// J5.
    pub suspended: bool,
    /// When the portal last confirmed it (J7).
    pub synced_at: Option<DateTime<Utc>>,
    /// Assigned numbers (L2).
    pub numbers: Option<u32>,
    /// Endpoints set up (L4).
    pub endpoints: Option<u32>,
}

//! The rights that a contract gives a tenant at an instant: pure functions of record and time.

pub mod booking;
pub mod civil;
pub mod entitlement;
pub mod explicit;
mod guard;
pub mod inclusive;
pub mod invoice;
pub mod policy;
pub mod price;
pub mod record;
pub mod refusal;
pub mod reminder;
pub mod request;
pub mod schedule;
pub mod sizing;
pub mod tariff;

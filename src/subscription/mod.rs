//! What a contract lets a tenant use at an instant: pure functions of record and time.

pub mod civil;
pub mod entitlement;
pub mod invoice;
pub mod policy;
pub mod record;
pub mod tariff;

//! What a contract lets a tenant use at an instant: pure functions of record and time.

pub mod record;

//! The shipped Kamailio recipe, started as it is, between real SIP callers and the real daemon.

mod calls;
mod cancel;
mod faults;
mod files;
pub(crate) mod lab;
pub(crate) mod relay;
#[allow(dead_code, reason = "shared with the field tests, which use more of it")]
pub(crate) mod sip;
mod slow;
mod transfers;
mod wire;

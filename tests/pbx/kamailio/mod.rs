//! The shipped Kamailio recipe, started as it is, between real SIP callers and the real daemon.

mod calls;
mod cancel;
mod faults;
mod files;
mod slow;
mod transfers;
mod wire;

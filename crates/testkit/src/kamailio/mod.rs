//! What tests with a Kamailio need: a lab of it, phones, and a wire that takes its time.

pub mod lab;
pub mod relay;
pub mod sip;

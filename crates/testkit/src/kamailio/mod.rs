//! The parts of tests with a Kamailio: a lab of it, phones, and a wire that takes its time.

pub mod lab;
pub mod relay;
pub mod sip;

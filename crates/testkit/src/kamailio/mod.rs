//! The parts of tests with a Kamailio: a lab of it, and phones.

pub mod lab;
pub mod sip;

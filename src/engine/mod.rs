//! The engine decides: who may take a seat, who keeps one, when it is free again.

pub mod plan;
pub mod session;

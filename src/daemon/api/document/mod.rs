//! The document that describes the wire contract, and what each route says for it.

mod administration;
mod calls;
mod examples;
mod openapi;
mod operation;
mod parameters;
mod reading;
mod shared;
mod watching;

pub(super) use administration::*;
pub(super) use calls::*;
pub use openapi::openapi;
pub(super) use operation::Operation;
pub(super) use reading::*;
pub(super) use watching::*;

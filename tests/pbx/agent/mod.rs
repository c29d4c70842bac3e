//! The agent as a process of its own, between the built daemon and PBXs that play recorded sessions.

mod alike;
mod away;
mod beside;
mod emergency;
mod fake;
mod gone;
mod kamailio;
mod machines;
mod scripts;
mod shipped;
mod socket;
mod sources;

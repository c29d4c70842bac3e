//! The agent as a process of its own, between the built daemon and PBXs that play recorded sessions.

mod alike;
mod away;
mod beside;
mod emergency;
mod fake;
mod frozen;
mod gone;
mod grace;
mod kamailio;
mod line;
mod machines;
mod odd;
mod scripts;
mod shipped;
mod socket;
mod sources;
mod switch;

//! The wire contract: its words, names, limits and messages, for all who speak it. No I/O, no clock, no async.

mod digits;
pub mod emergency;
pub mod message;
pub mod names;
pub mod words;

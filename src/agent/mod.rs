//! The agent beside a PBX: what a dial plan cannot do, from heartbeats to releases while the daemon is away.

pub mod ami;
pub mod asterisk;
pub mod book;
pub mod esl;
pub mod freeswitch;
pub mod kamailio;
pub mod presence;
pub mod source;
pub mod spool;


//! Acts: everything that waits, reads, writes or tells the time.

pub mod config;
//! The daemon acts: everything that waits, reads, writes or tells the time.

pub mod journal;
//! The daemon acts: everything that waits, reads, writes or tells the time.

pub mod http;

//! Contracts by the rule book: requests as rows, and what holds for every record, request and zone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by a panic that it failed")]

#[path = "subscription/calendar.rs"]
mod calendar;
#[path = "subscription/files.rs"]
mod files;
#[path = "subscription/rows.rs"]
#[rustfmt::skip] // A row is one thing to read, not five lines.
mod rows;
#[path = "subscription/script.rs"]
mod script;
#[path = "subscription/sequences.rs"]
mod sequences;

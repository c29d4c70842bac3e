//! usherd decides in real time whether a phone-system user may take a concurrent-user licence.
//!
//! **The engine decides, the daemon acts.** Layers, top down; imports point down only, and a test reads them:
//!
//! | layer | what it does | what it never does |
//! |---|---|---|
//! | [`cli`] | asks a running daemon, or reads its files | decide |
//! | [`usherd_agent`] | sits beside a PBX: reports what lives there, keeps what is to be sent, answers its scripts | decide |
//! | [`usherd_client`] | asks a daemon for a PBX node, and allows where nobody answers | deny by itself, wait for inbound or emergency |
//! | [`daemon`] | everything that waits, reads, writes or tells the time | decide |
//! | [`answers`] | what the daemon answers about contracts and operation, as types | wait, decide |
//! | [`usherd_engine`] | decides: who may take a seat, who keeps one, when it is free | I/O, clocks, async, logging, serde |
//! | [`usherd_subscription`] | what a subscription allows at an instant | the same |
//! | [`usherd_contract`] | the words, names, limits and messages of the wire, which all others share | wait, decide |
//!
//! All but `cli`, `daemon` and `answers` are crates beside this one, in `crates/`: what each may use, its manifest says.
//!
//! Read in this order: [`usherd_contract::message`] and [`usherd_engine::session`] (the nouns); of the engine's files
//! `rules.rs` (which session counts), `seats.rs` (the seat word), `table.rs` (the table and its locks), `decide.rs`
//! (the order of checks); then [`daemon::runtime::start`] and [`daemon::api`]. Contracts:
//! [`usherd_subscription::record`] (the nouns), [`usherd_subscription::entitlement`] (what one is worth when),
//! [`usherd_subscription::request`] (what may be asked), [`usherd_subscription::tariff`] and
//! [`usherd_subscription::invoice`] (money); `daemon/runtime/schedule.rs` puts them into force. A node:
//! [`usherd_client`] (the model in a page), its `ledger.rs` (every race of the protocol); [`usherd_agent`] stands on
//! it.
//!
//! These things never happen, mostly absences (letters and numbers are those of the rule book):
//! - an inbound or emergency call is denied (V3, I8);
//! - a live call is ended for want of a licence (V4);
//! - a subject holds two seats, or a seat without a claim that does not linger (V1, A2);
//! - a seat that was released cannot be taken by the next who asks (I3);
//! - a message has an effect twice, or a late one touches something newer (V5, I18);
//! - an answer goes out before what was decided is as durable as was asked for (I11);
//! - a part of `usherd.toml`, or of a tenant file, takes effect (I20).
//!
//! Two choices that differ from what one might expect, and why:
//! - Every tenant has its own striped table instead of all sharing one concurrent map: a list, a scrape or an
//!   export of one tenant reads only its own lines, whole tenants can be moved, and tenants cannot collide.
//! - Node names and tenants are behind an atomically swapped map, because they are read on every message and
//!   change seldom: reading them writes to no shared cache line.

pub mod answers;
pub mod cli;
pub mod daemon;

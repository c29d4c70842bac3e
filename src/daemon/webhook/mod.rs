//! Webhooks: what happens is told to receivers, as CloudEvents in requests signed after Standard Webhooks.
//!
//! All of it runs on one thread that decides nothing. It overhears the ring of events, which is there anyway, and
//! looks at the tenants once a second where a receiver wants to know who is full: no decision waits for it, wakes
//! it, or does anything that it would not do without webhooks.
//!
//! A message is delivered at least once: receivers recognise a repetition by its `webhook-id`. What waits survives
//! a restart; a crash loses what happened in the last second or so, and the counts of storms in progress.
//!
//! Reading order: `select` (what is worth telling, pure), `storm` (not a thousand times), `event` and `sign` (how
//! it looks), `queue` (what waits), `hook` (one receiver), `deliver` (one try), `courier` (the thread), `board`
//! (what is shown of it).

pub mod board;
pub mod courier;
mod deliver;
mod event;
mod hook;
mod queue;
mod select;
pub mod sign;
mod storm;

//! Webhooks: what happens is told to receivers, as CloudEvents in requests signed after Standard Webhooks.
//!
//! All of it runs on one thread that decides nothing. It overhears the ring of events, which is there anyway, and
//! looks at the tenants once a second where a receiver wants to know who is full: no decision waits for it, wakes
//! it, or does anything that it would not do without webhooks.
//!
//! A message is delivered at least once: receivers recognise a repetition by its `webhook-id`. What waits survives
//! a restart; a crash loses what happened in the last second or so, and the counts of storms in progress.
//!
//! Reading order: `select` (what is worth telling, pure), `coalescer` (not a thousand times), `event` and `sign` (how
//! it looks), `queue` (what waits), `hook` (one receiver), `deliver` (one try), `board`
//! (what is shown of it); the thread is the `dispatcher` of the runtime.

pub mod board;
mod coalescer;
pub(crate) mod deliver;
pub(crate) mod event;
pub(crate) mod hook;
pub(crate) mod queue;
pub(crate) mod select;
pub mod sign;

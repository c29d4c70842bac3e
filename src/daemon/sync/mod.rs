//! Tenant records pulled over HTTPS: a signed bundle is fetched, verified, taken up as a whole, and remembered.
//!
//! Reading order: `envelope` (what a bundle is, pure), `ratchet` and `refusal`, `sign` (who makes one), `store`
//! and `keeper` (what is held), `fetch`, `status`. The runtime's `puller` says when what is asked.

pub mod envelope;
pub(crate) mod fetch;
pub mod keeper;
pub mod ratchet;
pub mod refusal;
pub mod sign;
pub mod status;
pub mod store;

pub use envelope::{Admission, Bundle, Limits, Trust};
pub use ratchet::{Hash, Ratchet, Seen};
pub use refusal::{Refusal, RefusalCode};

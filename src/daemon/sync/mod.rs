//! Tenant records pulled over HTTPS: a signed bundle is fetched, verified, taken up as a whole, and remembered.
//!
//! Reading order: `envelope` (what a bundle is, pure), `ratchet` and `refusal`, `sign` (who makes one).

pub mod envelope;
pub mod ratchet;
pub mod refusal;
pub mod sign;

pub use envelope::{Admission, Bundle, Limits, Trust};
pub use ratchet::{Ratchet, Seen};
pub use refusal::{Refusal, RefusalCode};

//! The shipped recipes in Asterisk 22 and Kamailio 6, which Debian 12 does not have: `tests/run --pbx` makes a root of Debian
//! sid with both, and runs these and `tests/pbx/kamailio` there. They need that root in `USHERD_PBX_ROOT`, and to be root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod asterisk;
mod kamailio6;

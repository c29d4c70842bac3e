//! Recipes, client and agent against the real daemon, and with real PBX programs where Debian has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod agent;
mod agi;
mod emergency;
mod exchanges;
mod freeradius;
mod kamailio;
mod node;
mod node_client;
mod recipes;

use usherd_testkit::process::Site;

#[test]
fn the_daemon_that_the_recipes_ask_is_the_built_one() {
    let site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let daemon = site.start();
    assert!(daemon.address().port() > 0);
}

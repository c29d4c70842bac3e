//! The dashboard in a real headless Chromium, on the built daemon and its demonstration: what a person sees, by mouse, keyboard and phone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod access;
mod demo;
mod fleet;
mod looks;
mod page;
mod tenant;

use usherd_testkit::process::{Site, Usherd};

/// A fleet of three: one full with a change booked that cannot fit, one with free seats, one that nobody uses.
const TENANTS: [(&str, &str); 3] = [
    (
        "hotel-seeblick",
        "name = \"Hotel Seeblick\"\nkind = \"paid\"\nstart = \"2026-01-16\"\nseats = 3\nnumbers = 5\n[[change]]\neffective_at = 2099-01-01\nseats = 2\n",
    ),
    ("office-lindenhof", "name = \"Büro Lindenhof\"\nkind = \"paid\"\nstart = \"2026-01-16\"\nseats = 10\n"),
    ("trial-nordlicht", "kind = \"nfr\"\nseats = 5\n"),
];

/// The fleet, with these lines in `usherd.toml`.
fn site(main: &str) -> Site {
    Site::new(main, &TENANTS)
}

/// Asks for a seat on a desktop, as nobody in particular; the code.
fn acquire(daemon: &Usherd, tenant: &str, subject: &str) -> String {
    let form = format!("tenant={tenant}&subject={subject}&session=d-{subject}&kind=desktop&ttl_s=3600");
    daemon.client().ask("POST", "/v1/acquire", &form).unwrap().body
}

/// The hotel is full: two on desktops, of whom one calls, and one on a call; a fourth was refused.
fn fill(daemon: &Usherd) {
    assert_eq!(acquire(daemon, "hotel-seeblick", "anna"), "allow.new");
    assert_eq!(acquire(daemon, "hotel-seeblick", "bernd"), "allow.new");
    let call = "tenant=hotel-seeblick&kind=call&direction=outbound&ttl_s=3600";
    let mut client = daemon.client();
    assert_eq!(
        client.ask("POST", "/v1/acquire", &format!("{call}&subject=anna&session=c-anna")).unwrap().body,
        "allow.held"
    );
    assert_eq!(
        client.ask("POST", "/v1/acquire", &format!("{call}&subject=clara&session=c-clara")).unwrap().body,
        "allow.new"
    );
    assert_eq!(client.ask("POST", "/v1/nodes/pbx-berlin/hello", "epoch=1").unwrap().status, 200);
    assert_eq!(acquire(daemon, "hotel-seeblick", "detlef"), "deny.full tenant");
    assert_eq!(acquire(daemon, "office-lindenhof", "emma"), "allow.new");
}

//! `usherd top` in a real terminal: tmux, a daemon, keys, and what can be read on the screen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what went wrong by panicking")]

mod once;
mod tmux;
mod top;

use std::net::SocketAddr;

use usherd_testkit::process::{Site, Usherd, own_ip, told, usherd};

/// A daemon with a port that stays, also when it starts again.
struct Office {
    site: Site,
    usherd: Option<Usherd>,
    address: SocketAddr,
}

impl Office {
    /// With tenants of these seats.
    fn open(tenants: &[(&str, u32)]) -> Self {
        let texts: Vec<(&str, String)> = tenants
            .iter()
            .map(|(id, seats)| {
                (*id, format!("id = {id:?}\nname = \"The {id} company\"\nkind = \"nfr\"\nseats = {seats}\n"))
            })
            .collect();
        let texts: Vec<(&str, &str)> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
        let site = Site::new("", &texts);
        // It may be started there again.
        site.listen((own_ip(), 0).into());
        let usherd = site.start();
        site.listen(usherd.address());
        Office { address: usherd.address(), site, usherd: Some(usherd) }
    }

    fn address(&self) -> String {
        self.address.to_string()
    }

    /// Asks for a seat with a desktop client; the decision.
    fn acquire(&self, tenant: &str, subject: &str) -> String {
        let session = format!("{subject}-pc");
        self.cli(&["acquire", tenant, subject, &session, "desktop", "--ttl", "600"])
    }

    fn release(&self, tenant: &str, subject: &str) {
        self.cli(&["release", tenant, &format!("{subject}-pc")]);
    }

    fn cli(&self, arguments: &[&str]) -> String {
        told(usherd(arguments).args(["--addr", &self.address()])).1
    }
}

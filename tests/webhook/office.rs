//! A whole daemon in this process with one webhook, and a clock that the test moves.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use usherd_testkit::daemon::{NOON_UTC_MS, Running};
use usherd_testkit::files::files;
use usherd_testkit::http::Client;
use usherd_testkit::wait::{PATIENCE, eventually_or};

use crate::receiver::{Got, Receiver};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Each with this many seats.
pub(crate) const PAID: &str = "kind = \"paid\"\nstart = \"2026-06-16\"\nseats = ";

/// Waits until something that can be seen from outside is so.
pub(crate) fn wait(what: &str, seen: impl Fn() -> bool, told: impl Fn() -> String) {
    eventually_or(|| seen().then_some(()), || format!("{what}; {}", told()));
}

/// One request to a daemon.
pub(crate) fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let answer = Client::connect_within(PATIENCE, address).unwrap().ask(method, path, body).unwrap();
    (answer.status, answer.body)
}

/// The files of a daemon with a webhook called `desk`; `more` are further lines of its table, and further tables.
pub(crate) fn site(receiver: &Receiver, url: &str, more: &str) -> tempfile::TempDir {
    let folder = files("", &[]);
    std::fs::write(folder.path().join("ca.pem"), &receiver.authority).unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    write_main(folder.path(), url, more);
    folder
}

fn write_main(folder: &Path, url: &str, more: &str) {
    let main = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[[webhook]]\nname = \"desk\"\nurl = \"{url}\"\n\
         secret_file = \"secret\"\nca_file = \"ca.pem\"\n{more}\n"
    );
    std::fs::write(folder.join("usherd.toml"), main).unwrap();
}

/// The daemon with its files.
pub(crate) struct Office {
    pub(crate) daemon: Running,
    pub(crate) receiver: Receiver,
}

impl Office {
    /// With one tenant `acme` of two seats.
    pub(crate) fn start(more: &str) -> Self {
        let receiver = Receiver::start();
        let daemon = Running::stopped(site(&receiver, &receiver.url(), more), NOON_UTC_MS);
        daemon.write("acme", &format!("{PAID}2\n"));
        let mut office = Office { daemon, receiver };
        office.boot();
        office
    }

    /// Other lines of the webhook, put in force.
    pub(crate) fn configure(&self, more: &str) {
        write_main(self.daemon.folder.path(), &self.receiver.url(), more);
        assert_eq!(self.reload(), 200);
    }

    pub(crate) fn boot(&mut self) {
        self.daemon.boot();
        self.settled();
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        call(self.daemon.address(), method, path, body)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) fn reload(&self) -> u16 {
        self.call("POST", "/v1/admin/reload?force=1", "").0
    }

    /// Lets time pass.
    pub(crate) fn after(&self, seconds: u64) {
        self.daemon.clock.advance(seconds * 1_000);
        self.settled();
    }

    /// Waits until the thread of the webhooks has looked at the tenants and at all that is due by this time.
    pub(crate) fn settled(&self) {
        // The one that is under way may have read the clock before.
        let turns = || self.daemon.app().publishing.webhooks.turns();
        let before = turns();
        wait("two turns", || turns() >= before + 2, String::new);
    }

    /// Somebody asks for a seat.
    pub(crate) fn acquire(&self, tenant: &str, subject: &str) -> String {
        let body = json!({"tenant": tenant, "subject": subject, "session": format!("s-{subject}"), "kind": "desktop", "ttl_s": 86_400});
        let (_, answer) = self.call("POST", "/v1/acquire", &body.to_string());
        serde_json::from_str::<Value>(&answer).unwrap()["code"].as_str().unwrap_or(&answer).to_owned()
    }

    /// The webhook, as the API shows it.
    pub(crate) fn hook(&self) -> Value {
        self.get("/v1/admin/webhooks")["webhooks"][0].clone()
    }

    /// The tries, as the API shows them.
    pub(crate) fn tries(&self) -> Vec<Value> {
        self.get("/v1/admin/webhooks/desk/deliveries?limit=1000")["deliveries"].as_array().unwrap().clone()
    }

    /// The last try once there are so many.
    pub(crate) fn try_number(&self, number: usize) -> Value {
        wait(
            &format!("try {number}"),
            || self.tries().len() >= number,
            || format!("{:#?} {:#?}", self.tries(), self.hook()),
        );
        let tries = self.tries();
        assert_eq!(tries.len(), number, "{tries:#?}");
        tries[number - 1].clone()
    }

    /// The messages that the receiver got, once they are so many.
    pub(crate) fn got(&self, number: usize) -> Vec<Got> {
        wait(
            &format!("{number} messages"),
            || self.receiver.got().len() >= number,
            || format!("{:?} {:#?}", self.abouts(), self.tries()),
        );
        let got = self.receiver.got();
        assert!(got.iter().all(|got| got.is_in_order(SECRET)), "{got:#?}");
        got
    }

    pub(crate) fn abouts(&self) -> Vec<String> {
        self.receiver.got().iter().map(Got::about).collect()
    }

    /// A series of the exposition.
    pub(crate) fn series(&self, name: &str) -> u64 {
        let series = self.daemon.client_within(PATIENCE).series(name);
        series.unwrap_or_else(|| panic!("no {name}")) as u64
    }

    pub(crate) fn counted(&self, result: &str) -> u64 {
        self.series(&format!("usherd_webhook_deliveries_total{{result=\"{result}\"}}"))
    }
}

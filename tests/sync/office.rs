//! A whole daemon in this process that pulls from a publisher, with a clock that the test moves.

use std::path::PathBuf;

use serde_json::Value;
use usherd::daemon::text::hex;
use usherd_testkit::daemon::Running;
use usherd_testkit::files::files;
use usherd_testkit::wait::{PATIENCE, eventually_or};

use crate::bundles::{INSTALLATION, KEY, key, noon};
use crate::publisher::Publisher;

const INTERVAL_S: u64 = 10;

/// The daemon with its files.
pub(crate) struct Office {
    pub(crate) daemon: Running,
}

impl Office {
    /// Pulls from a publisher; `more` are lines of `[sync]`.
    pub(crate) fn start(publisher: &Publisher, more: &str) -> Self {
        let public = hex(&key(1).public());
        let main = format!(
            "[server]\nworkers = 1\n[sync]\nurl = \"{}\"\ninterval_s = {INTERVAL_S}\n\
             jitter_s = 0\ntimeout_s = 10\ninstallation = \"{INSTALLATION}\"\npublic_keys = {{ \"{KEY}\" = \"{public}\" }}\n\
             ca_file = \"ca.pem\"\n{more}",
            publisher.url()
        );
        let files = files(&main, &[]);
        std::fs::write(files.path().join("ca.pem"), &publisher.authority).unwrap();
        let mut office = Office { daemon: Running::stopped(files, noon().timestamp_millis()) };
        office.boot();
        office
    }

    fn boot(&mut self) {
        self.daemon.boot();
        // The first try is made at once.
        self.wait("the first try", |office| office.runs() == 1);
    }

    /// Stops it, lets somebody put hands on its state, and starts it again.
    pub(crate) fn restart_after(&mut self, meanwhile: impl FnOnce(PathBuf)) {
        self.daemon.stop();
        meanwhile(self.daemon.path("state/sync"));
        self.boot();
    }

    pub(crate) fn restart(&mut self) {
        self.restart_after(|_| ());
    }

    /// Waits until something that can be seen from outside is so.
    pub(crate) fn wait(&self, what: &str, seen: impl Fn(&Self) -> bool) {
        eventually_or(|| seen(self).then_some(()), || format!("{what}; {}", self.sync()));
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let answer = self.daemon.client_within(PATIENCE).ask(method, path, body).unwrap();
        (answer.status, answer.body)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, "");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {status} {body}"))
    }

    /// The state of the sync, as the overview shows it.
    pub(crate) fn sync(&self) -> Value {
        let sync = self.get("/v1/overview")["sync"].clone();
        let document: Value = serde_json::from_str(usherd::daemon::api::openapi()).unwrap();
        let mut schema = document["components"]["schemas"]["SyncState"].clone();
        schema["additionalProperties"] = Value::Bool(false);
        let schema = serde_json::json!({ "anyOf": [schema, { "type": "null" }] });
        assert!(jsonschema::is_valid(&schema, &sync), "not as documented: {sync:#}");
        sync
    }

    /// A series of the exposition.
    pub(crate) fn series(&self, name: &str) -> f64 {
        self.daemon.client_within(PATIENCE).series(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Tries with a result.
    pub(crate) fn counted(&self, result: &str) -> u64 {
        self.series(&format!("usherd_sync_runs_total{{result=\"{result}\"}}")) as u64
    }

    fn runs(&self) -> u64 {
        ["applied", "unchanged", "refused", "failed"].iter().map(|result| self.counted(result)).sum()
    }

    /// Lets so much time pass that one try is made, and tells its result and code.
    pub(crate) fn pull_after(&self, seconds: u64) -> String {
        let before = self.runs();
        self.daemon.clock.advance(seconds * 1_000);
        self.wait("a try", |office| office.runs() > before);
        assert_eq!(self.runs(), before + 1);
        let sync = self.sync();
        let word = |key: &str| sync[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("result"), word("code")).trim().to_owned()
    }

    pub(crate) fn pull(&self) -> String {
        self.pull_after(INTERVAL_S)
    }

    /// Seats of a tenant; `None` where it is not configured.
    pub(crate) fn quota(&self, tenant: &str) -> Option<u64> {
        let app = self.daemon.app();
        app.configuration
            .running
            .get()
            .tenants
            .contains_key(tenant)
            .then(|| self.get(&format!("/v1/tenants/{tenant}"))["quota"].as_u64().unwrap())
    }

    /// The answer that somebody would get.
    pub(crate) fn explained(&self, tenant: &str) -> String {
        let (_, body) = self.call(
            "POST",
            "/v1/explain",
            &format!("tenant={tenant}&subject=a&session=a&kind=call&direction=outbound&to=0301"),
        );
        let json: Value = serde_json::from_str(&body).unwrap_or_default();
        json["code"].as_str().unwrap_or(&body).to_owned()
    }

    /// Everything that a failed try must leave as it is.
    pub(crate) fn picture(&self) -> String {
        let app = self.daemon.app();
        let held = app.configuration.keeper.holding().map(|held| (held.bundle.serial, held.confirmed_utc_ms));
        let files = ["bundle", "ratchet.json", "confirmed.json"].map(|name| std::fs::read(self.stored(name)).ok());
        let quotas: Vec<_> =
            app.configuration.running.get().tenants.keys().map(|id| (id.to_string(), self.quota(id))).collect();
        format!(
            "{} {quotas:?} {held:?} {:?} {files:?}",
            app.configuration.running.get().hash,
            app.configuration.keeper.marks()
        )
    }

    fn stored(&self, name: &str) -> PathBuf {
        self.daemon.path("state/sync").join(name)
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let app = self.daemon.app();
        let mut listener =
            app.publishing.events.subscribe(Some(noon().timestamp_millis().unsigned_abs() - 1), 64).unwrap();
        match listener.take(10_000) {
            usherd::daemon::events::Next::Events(events) => {
                let of_sync = events.into_iter().filter(|(_, event)| event.kind.as_str() == "sync");
                of_sync.map(|(_, event)| event.message.split(':').next().unwrap().to_owned()).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

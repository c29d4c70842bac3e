//! A daemon in this process whose clocks a test moves, asked over a real socket.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use usherd::daemon::clock::{Clock as _, ManualClock};
use usherd::daemon::events::Next;
use usherd::daemon::journal::audit::{Span, export};
use usherd::daemon::journal::storage::Folder;
use usherd_engine::Now;
use usherd_testkit::daemon::Running;
use usherd_testkit::files::files;
use usherd_testkit::wait::eventually_or;

/// No answer and no wait takes longer, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon with its files and clocks.
pub(crate) struct World {
    daemon: Running,
}

/// Milliseconds since 1970 of an instant.
fn ms(at: &str) -> i64 {
    at.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
}

/// Every file below a folder with what is in it; an error where one goes while it is read.
fn contents(folder: &Path) -> std::io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(contents(&path)?);
        } else {
            let bytes = std::fs::read(&path)?;
            found.insert(path, bytes);
        }
    }
    Ok(found)
}

impl World {
    /// Starts at an instant with these tenants.
    pub(crate) fn start(at: &str, tenants: &[(&str, &str)]) -> Self {
        let files = files("[server]\nworkers = 1\nstate_dir = \"state\"\n", tenants);
        let mut world = World { daemon: Running::stopped(files, ms(at)) };
        world.daemon.boot();
        world
    }

    /// Writes a tenant file; nothing happens yet.
    pub(crate) fn write(&self, id: &str, text: &str) {
        self.daemon.write(id, text);
    }

    pub(crate) fn path(&self) -> &Path {
        self.daemon.folder.path()
    }

    pub(crate) fn stop(&mut self) {
        self.daemon.stop();
    }

    /// Stops it, and starts it again at an instant; the monotonic clock begins anew, as after a boot.
    pub(crate) fn restart_at(&mut self, at: &str) {
        self.stop();
        self.daemon.clock = Arc::new(ManualClock::new(Now { uptime_ms: 5_000, utc_ms: ms(at) }));
        self.daemon.boot();
    }

    /// The files once nothing moves in them: the same at two looks.
    fn at_rest(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let last = RefCell::new(None);
        self.wait("files at rest", || {
            let now = contents(self.path()).ok();
            now.is_some() && last.replace(now.clone()) == now
        });
        last.into_inner().unwrap()
    }

    /// Goes on, at an instant, with the files as they are now on the disk: what a kill leaves.
    pub(crate) fn crash_at(&mut self, at: &str) {
        let left = tempfile::tempdir().unwrap();
        for (path, bytes) in self.at_rest() {
            let to = left.path().join(path.strip_prefix(self.path()).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, bytes).unwrap();
        }
        self.stop();
        self.daemon.folder = left;
        self.restart_at(at);
    }

    pub(crate) fn restart(&mut self) {
        self.daemon.restart();
    }

    /// Lets time pass until the wall clock shows an instant, and the control thread has looked at it.
    pub(crate) fn until(&self, at: &str) {
        let by = ms(at) - self.daemon.clock.now().utc_ms;
        self.daemon.clock.advance(u64::try_from(by).unwrap_or_else(|_| panic!("{at} is over")));
        self.settled();
    }

    /// Lets seconds pass.
    pub(crate) fn after(&self, seconds: u64) {
        self.daemon.clock.advance(seconds * 1_000);
        self.settled();
    }

    /// Sets the kernel's word on the clock.
    pub(crate) fn synchronise(&self, is: Option<bool>) {
        self.daemon.clock.synchronise(is);
    }

    /// The state of the clock, as `trusted waits_for`.
    pub(crate) fn clock(&self) -> String {
        let time = &self.get("/v1/overview")["time"];
        format!("{} {}", time["wall_clock_trusted"], time["waits_for"].as_str().unwrap_or("nothing"))
    }

    /// Moves the wall clock alone, seconds, and waits until that was seen.
    pub(crate) fn step(&self, seconds: i64) {
        let before = self.clock_steps();
        self.daemon.clock.step_wall(seconds * 1_000);
        self.wait("the step", || self.clock_steps() > before);
        self.settled();
    }

    pub(crate) fn clock_steps(&self) -> u64 {
        self.app().deciding.timeline.lock().steps()
    }

    /// True if the usage history has looked at the table at this instant.
    pub(crate) fn has_looked(&self) -> bool {
        self.app().publishing.history.looked_ms() == Some(self.daemon.clock.now().uptime_ms)
    }

    pub(crate) fn app(&self) -> &usherd::daemon::app::App {
        self.daemon.app()
    }

    /// Waits until every tenant is what it should be, and what was due has ended: both can be seen from outside.
    fn settled(&self) {
        let now = self.daemon.clock.now();
        self.wait("the reaper", || self.app().deciding.engine.next_deadline().is_none_or(|due| due > now.uptime_ms));
        self.wait("booked changes", || {
            let (config, at) = (self.app().configuration.running.get(), self.app().deciding.timelines(now));
            config.tenants.iter().all(|(id, tenant)| {
                let entitled = tenant.entitled(at);
                let view = self.app().deciding.engine.tenant(now, id);
                view.is_some_and(|view| (view.standing, view.quota) == (entitled.standing, entitled.seats))
            })
        });
    }

    /// Waits for something that can be seen from outside.
    pub(crate) fn wait(&self, what: &str, seen: impl Fn() -> bool) {
        eventually_or(|| seen().then_some(()), || what.to_owned());
    }

    /// One request; status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.daemon.client_within(PATIENCE).ask(method, path, &body).unwrap();
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    /// The value of a series, as it is exposed.
    pub(crate) fn series(&self, name: &str) -> Option<f64> {
        self.daemon.client_within(PATIENCE).series(name)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null).1
    }

    /// Asks for a seat of `acme`: the code of the answer, with its detail.
    pub(crate) fn acquire(&self, subject: &str, session: &str, kind: &str) -> String {
        let mut body = json!({"tenant": "acme", "subject": subject, "session": session, "kind": kind, "ttl_s": 86_400});
        if kind == "outbound" || kind == "inbound" {
            body["kind"] = json!("call");
            body["direction"] = json!(kind);
        }
        let (status, answer) = self.ask("POST", "/v1/acquire", &body);
        assert_eq!(status, 200, "{answer}");
        let word = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("code"), word("detail")).trim().to_owned()
    }

    /// `acme` gives a session back.
    pub(crate) fn release(&self, session: &str) {
        let (status, answer) = self.ask("POST", "/v1/release", &json!({"tenant": "acme", "session": session}));
        assert_eq!(status, 200, "{answer}");
    }

    /// True if a session of `acme` is live.
    pub(crate) fn has(&self, session: &str) -> bool {
        let page = self.get("/v1/tenants/acme/sessions");
        page["sessions"].as_array().unwrap().iter().any(|row| row["session"] == session)
    }

    /// `state quota held` of a tenant.
    pub(crate) fn look(&self, tenant: &str) -> String {
        let fields = self.get(&format!("/v1/tenants/{tenant}"));
        format!("{} {} {}", fields["state"].as_str().unwrap(), fields["quota"], fields["held"])
    }

    /// The lines of the audit trail that contain a text, of all runs, in order.
    pub(crate) fn audits(&self, text: &str) -> Vec<String> {
        let storage = Folder::at(&self.path().join("state").join("journal")).unwrap();
        let mut trail = Vec::new();
        export(&storage, Span::ALL, &mut trail).unwrap();
        let trail = String::from_utf8(trail).unwrap();
        trail.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// The sentences of the events of a type, of this run.
    pub(crate) fn told(&self, kind: &str) -> Vec<String> {
        let events = self.app().publishing.events.clone();
        let mut listener = events.subscribe(Some(0), 100).unwrap();
        let mut told = Vec::new();
        for _ in 0..1_000 {
            match listener.take(1_000) {
                Next::Events(all) => {
                    let wanted = all.iter().filter(|(_, event)| event.kind.as_str() == kind);
                    told.extend(wanted.map(|(_, event)| format!("{}: {}", event.tenant, event.message)));
                }
                Next::Gap { .. } => {}
                Next::Nothing => break,
            }
        }
        told
    }

    /// As above, once there are so many.
    pub(crate) fn told_all(&self, kind: &str, count: usize) -> Vec<String> {
        self.wait(&format!("{count} of {kind}"), || self.told(kind).len() >= count);
        self.told(kind)
    }

    /// Reads the files again.
    pub(crate) fn reload(&self, force: bool) -> (u16, Value) {
        let path = if force { "/v1/admin/reload?force=1" } else { "/v1/admin/reload" };
        let answer = self.ask("POST", path, &Value::Null);
        self.settled();
        answer
    }
}

//! Every verb against the real daemon: a day in its life, from the first start to the audit trail.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use usherd_testkit::process::Killed;

use super::{finish, run, usherd};

/// A daemon in a folder of its own, listening on a Unix socket only.
pub(super) struct Office {
    dir: tempfile::TempDir,
    told: UnixDatagram,
    child: Option<Killed>,
}

impl Office {
    /// Writes a configuration with one tenant and starts; it decides when this returns.
    pub(super) fn open(seats: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let told = UnixDatagram::bind(dir.path().join("notify.sock")).unwrap();
        told.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        std::fs::create_dir(dir.path().join("tenants.d")).unwrap();
        let mut office = Office { dir, told, child: None };
        let socket = office.path("usherd.sock");
        let main = format!("[server]\nlisten = \"\"\nunix_socket = {:?}\nworkers = 1\n", socket.to_str().unwrap());
        std::fs::write(office.path("usherd.toml"), main).unwrap();
        office.subscribe(seats);
        office.start();
        office
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn subscribe(&self, seats: u32) {
        let record = format!("id = \"acme\"\nkind = \"nfr\"\nseats = {seats}\n");
        std::fs::write(self.path("tenants.d/acme.toml"), record).unwrap();
    }

    fn start(&mut self) {
        let mut command = usherd(&["serve", "--config", self.path("usherd.toml").to_str().unwrap()]);
        let log = std::fs::File::create(self.path("log")).unwrap();
        command.env("NOTIFY_SOCKET", self.path("notify.sock")).stdout(Stdio::null()).stderr(log);
        self.child = Some(Killed(command.spawn().unwrap()));
        self.wait_for("READY=1");
    }

    fn wait_for(&self, word: &str) {
        let mut buffer = [0; 4_096];
        loop {
            match self.told.recv(&mut buffer) {
                Ok(length) if String::from_utf8_lossy(&buffer[..length]).contains(word) => return,
                Ok(_) => {}
                Err(error) => panic!("no {word}: {error}\n{}", std::fs::read_to_string(self.path("log")).unwrap()),
            }
        }
    }

    /// Asks the daemon by its configuration, as an admin of the machine would.
    pub(super) fn ask(&self, arguments: &[&str], expected: i32) -> String {
        let config = self.path("usherd.toml");
        let mut all = arguments.to_vec();
        all.extend(["--config", config.to_str().unwrap()]);
        let (out, err) = run(&all, expected);
        format!("{out}{err}")
    }

    pub(super) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let killed = Command::new("sh").args(["-c", &format!("kill {}", child.id())]).status().unwrap();
        assert!(killed.success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{}", std::fs::read_to_string(self.path("log")).unwrap());
    }
}

#[test]
fn seats_are_given_shown_and_given_back() {
    let office = Office::open(1);
    office.ask(&["status"], 0);
    let granted = office.ask(&["acquire", "acme", "anna", "d1", "desktop", "--ttl", "600"], 0);
    assert!(granted.starts_with("allow.new: 1 of 1 seats held"), "{granted}");
    let denied = office.ask(&["acquire", "acme", "bob", "d2", "desktop", "--ttl", "600"], 1);
    assert!(denied.starts_with("deny.full tenant: 1 of 1 seats held"), "{denied}");
    let emergency = office.ask(&["acquire", "acme", "bob", "c1", "call", "--direction", "outbound", "--to", "112"], 0);
    assert!(emergency.starts_with("allow.free emergency"), "{emergency}");
    let faulty = office.ask(&["acquire", "acme", "bob", "d2", "desktop"], 1);
    assert!(faulty.contains("ttl_s"), "{faulty}");
    let why = office.ask(&["explain", "acme", "bob", "d2", "desktop", "--ttl", "600"], 1);
    assert!(why.contains("the request is denied (D3 F6 F7)\n    1 of 1 seats held: full: tenant\n"), "{why}");
    let tenants = office.ask(&["tenants", "--band", "full", "-o", "csv"], 0);
    assert!(tenants.lines().any(|line| line.starts_with("acme,active,1,1,0,0,")), "{tenants}");
    let sessions = office.ask(&["sessions", "acme", "--counts", "true"], 0);
    assert!(sessions.contains("anna") && sessions.contains("desktop"), "{sessions}");
    let check = office.ask(&["check", "tenant", "acme"], 2);
    assert!(check.starts_with("USHERD CRITICAL - acme: 1 of 1 seats held (100%) | held=1;1;1;0;1"), "{check}");
    office.ask(&["nodes", "-o", "json"], 0);
    let released = office.ask(&["release", "acme", "d1"], 0);
    assert!(released.starts_with("released.last: 0 of 1 seats held"), "{released}");
    office.ask(&["check", "tenant", "acme"], 0);
}

#[test]
fn a_reload_changes_everything_or_nothing() {
    let office = Office::open(1);
    office.subscribe(5);
    let plan = office.ask(&["plan"], 0);
    // The daemon watches its files: it may have taken them up by itself just now.
    assert!(plan.contains("acme") || plan.contains("no changes"), "{plan}");
    office.ask(&["reload"], 0);
    let after = office.ask(&["check", "tenant", "acme"], 0);
    assert!(after.contains("0 of 5 seats held"), "{after}");
    assert!(office.ask(&["reload"], 0).contains("no changes"));
    std::fs::write(office.path("tenants.d/acme.toml"), "id = \"acme\"\nkind = \"nfr\"\nseats = \"many\"\n").unwrap();
    for verb in ["plan", "reload"] {
        let rejected = office.ask(&[verb], 1);
        assert!(rejected.contains("acme.toml:3:") && rejected.contains("keeps its last good record"), "{rejected}");
    }
    let checked = office.ask(&["config", "check", office.path("usherd.toml").to_str().unwrap()], 1);
    assert!(checked.contains("acme.toml:3:") && checked.contains("1 tenant file is rejected"), "{checked}");
    assert_eq!(office.ask(&["check", "tenant", "acme"], 0), after, "a bad file changes nothing");
    // Nor does a request for the tenant of a bad file; one for another goes through.
    std::fs::write(office.path("tenants.d/bolt.toml"), "kind = \"paid\"\nstart = \"2026-01-01\"\nseats = 3\n").unwrap();
    office.ask(&["reload"], 1);
    office.ask(&["subscription", "request", "bolt", "add", "--seats", "4"], 0);
    let own = office.ask(&["subscription", "request", "acme", "add", "--seats", "4"], 78);
    assert!(own.contains("acme.toml:3:"), "{own}");
    let shown = office.ask(&["subscription", "show", "acme"], 78);
    assert!(shown.contains("acme.toml:3:"), "{shown}");
    assert!(office.ask(&["check", "tenant", "bolt"], 0).contains("0 of 7 seats held"));
    let doctor = office.ask(&["doctor"], 1);
    assert!(doctor.contains("1 of its tenant files are not") && doctor.contains("that of acme"), "{doctor}");
    // The daemon's own file is one unit.
    let main = std::fs::read_to_string(office.path("usherd.toml")).unwrap();
    std::fs::write(office.path("usherd.toml"), format!("{main}\n[polcy]\n")).unwrap();
    assert!(office.ask(&["reload"], 78).contains("usherd.toml:"));
}

#[test]
fn a_tenant_that_is_used_goes_where_somebody_says_so() {
    let office = Office::open(2);
    std::fs::write(office.path("tenants.d/bolt.toml"), "kind = \"nfr\"\nseats = 3\n").unwrap();
    office.ask(&["reload"], 0);
    office.ask(&["acquire", "acme", "anna", "m1", "mobile"], 0);
    std::fs::remove_file(office.path("tenants.d/acme.toml")).unwrap();
    for arguments in [&["reload"][..], &["plan"]] {
        let refused = office.ask(arguments, 78);
        assert!(refused.contains("tenant `acme` would go while 1 seat is held"), "{refused}");
        assert!(refused.contains("usherd reload --force"), "{refused}");
    }
    office.ask(&["subscription", "request", "bolt", "suspend", "--actor", "operator"], 0);
    let held = office.ask(&["sessions", "acme"], 0);
    assert!(held.contains("m1"), "a request for another tenant ends nothing: {held}");
    assert!(office.ask(&["reload", "--force"], 0).contains("- tenant acme"));
}

#[test]
fn a_request_is_in_force_at_once_and_on_record() {
    let mut office = Office::open(3);
    let asked = office.ask(&["subscription", "request", "acme", "add", "--seats", "4", "-o", "json"], 0);
    assert!(asked.contains("\"taken_up\":true"), "{asked}");
    let after = office.ask(&["check", "tenant", "acme"], 0);
    assert!(after.contains("0 of 7 seats held"), "{after}");
    // It drops everything there is, and was meant to.
    let ended =
        ["subscription", "request", "acme", "cancel", "--when", "immediate", "--actor", "operator", "-o", "json"];
    let asked = office.ask(&ended, 0);
    assert!(asked.contains("\"taken_up\":true") && asked.contains("\"state\":\"ended\""), "{asked}");
    let denied = office.ask(&["acquire", "acme", "anna", "d1", "desktop", "--ttl", "600"], 1);
    assert!(denied.starts_with("deny.inactive"), "{denied}");
    office.stop();
    let trail = office.ask(&["journal", "export"], 0);
    for told in
        ["acme: customer asked: add 4 (subscription)", "acme: operator asked: cancel all, immediate (subscription)"]
    {
        assert!(trail.contains(told), "{told}: {trail}");
    }
    let asked = office.ask(&["subscription", "show", "acme", "-o", "json"], 0);
    assert!(asked.contains("\"state\":\"ended\""), "{asked}");
}

#[test]
fn what_happened_is_told_and_remembered() {
    let mut office = Office::open(2);
    office.ask(&["acquire", "acme", "anna", "d1", "desktop", "--ttl", "600"], 0);
    let config = office.path("usherd.toml");
    let follow = ["events", "--types", "denied,config", "--limit", "1", "-o", "json"];
    let mut listener = usherd(&follow);
    let listener = listener.args(["--config", config.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
    // A denial is kept always, so it does not matter who comes first.
    office.ask(&["acquire", "nobody", "anna", "d1", "desktop", "--ttl", "600"], 1);
    let event = listener_line(listener, &office);
    assert!(event.contains("\"type\":\"denied\"") || event.contains("\"type\":\"config\""), "{event}");
    office.stop();
    let verified = office.ask(&["journal", "verify"], 0);
    assert!(verified.starts_with("valid: "), "{verified}");
    let trail = office.ask(&["journal", "export"], 0);
    assert!(trail.lines().any(|line| line.contains("\"d1\"") && line.contains("anna")), "{trail}");
    office.start();
    let sessions = office.ask(&["sessions", "acme"], 0);
    assert!(sessions.contains("d1"), "what was acknowledged is there after a restart: {sessions}");
    office.stop();
}

/// The first line that a listener shows; keeps the office busy until there is one.
fn listener_line(mut listener: Child, office: &Office) -> String {
    for attempt in 0.. {
        let session = format!("x{attempt}");
        office.ask(&["acquire", "nobody", "anna", &session, "desktop", "--ttl", "600"], 1);
        if listener.try_wait().unwrap().is_some() {
            break;
        }
    }
    String::from_utf8(listener.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn a_bad_configuration_at_the_first_start_is_78() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("usherd.toml");
    std::fs::write(&config, "tenants_dir = \"\"\n[server]\nlissten = \"127.0.0.1:0\"\n").unwrap();
    let (_, err) = finish(&mut usherd(&["serve", "--config", config.to_str().unwrap()]), 78);
    assert!(err.contains("usherd.toml:3") && err.contains("did you mean `listen`"), "{err}");
}

#[test]
fn two_daemons_never_share_a_state_directory() {
    let office = Office::open(1);
    let config: &Path = &office.path("usherd.toml");
    let (_, err) = finish(&mut usherd(&["serve", "--config", config.to_str().unwrap()]), 1);
    assert!(err.contains("in use by another process"), "{err}");
    office.ask(&["status"], 0);
}

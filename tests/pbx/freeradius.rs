//! The FreeRADIUS recipe, loaded by the FreeRADIUS of Debian and asked with its own client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use usherd::daemon::access::auth::TokenHash;
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::emergency::rows;
use usherd_testkit::process::{Killed, Site, Usherd, own_ip};
use usherd_testkit::wait::eventually;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/pbx/freeradius");
const SHIPPED_ADDRESS: &str = "http://127.0.0.1:7788";
const SECRET: &str = "between-pbx-and-radius";
/// The module's longest time-out is 0.2 s for a call; the rest is for a busy machine.
const CALL_DEADLINE: Duration = Duration::from_millis(1_500);

/// A main configuration that loads the shipped files by the folders they are meant for.
const RADIUSD: &str = "
prefix = /usr
raddbdir = FOLDER
confdir = FOLDER
modconfdir = FOLDER/mods-config
libdir = /usr/lib/freeradius
logdir = FOLDER
run_dir = FOLDER
pidfile = FOLDER/radiusd.pid
log {
	destination = stdout
}
security {
	reject_delay = 0
}
proxy_requests = no
client pbx {
	ipaddr = 127.0.0.1
	secret = SECRET
	usherd_tenant = acme
}
client unlisted {
	ipaddr = 127.0.0.2
	secret = SECRET
}
thread pool {
	start_servers = 2
	max_servers = 8
	min_spare_servers = 1
	max_spare_servers = 4
}
modules {
	$INCLUDE mods-enabled/
}
policy {
	$INCLUDE policy.d/
}
$INCLUDE sites-enabled/
";

/// A program of Debian, which may stand where only root looks.
fn program(name: &str, package: &str) -> PathBuf {
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let found = folders.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}

struct Radius {
    _server: Killed,
    auth: SocketAddr,
    accounting: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Radius {
    /// With the shipped files, changed in nothing but the addresses.
    fn start(usherd: SocketAddr) -> Self {
        Self::start_edited(usherd, &|_, text| text)
    }

    /// With shipped files that an admin has changed: gets the name and the text of each.
    fn start_edited(usherd: SocketAddr, edit: &dyn Fn(&str, String) -> String) -> Self {
        Self::start_with(usherd, None, edit)
    }

    /// And with a second daemon, added as README.md says.
    fn start_with(usherd: SocketAddr, second: Option<SocketAddr>, edit: &dyn Fn(&str, String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["mods-enabled", "policy.d", "sites-enabled", "mods-config/attr_filter"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let [auth, accounting] = [(); 2].map(|()| UdpSocket::bind((own_ip(), 0)).unwrap().local_addr().unwrap());
        let shipped = |name: &str| edit(name, std::fs::read_to_string(Path::new(RECIPE).join(name)).unwrap());
        let module = shipped("mods-available/usherd");
        assert_eq!(module.matches(SHIPPED_ADDRESS).count(), 2, "one address for each instance");
        std::fs::write(root.join("mods-enabled/usherd"), module.replace(SHIPPED_ADDRESS, &format!("http://{usherd}")))
            .unwrap();
        if let Some(second) = second {
            std::fs::create_dir(root.join("mods-available")).unwrap();
            std::fs::write(root.join("mods-available/usherd"), module).unwrap();
            let readme = std::fs::read_to_string(Path::new(RECIPE).join("README.md")).unwrap();
            let add = readme.lines().find(|line| line.starts_with("sed ")).unwrap();
            let add = add.replace("192.0.2.2:7788", &second.to_string())
                + " && mv mods-available/usherd_second mods-enabled/";
            assert!(Command::new("sh").args(["-c", &add]).current_dir(root).status().unwrap().success());
        }
        std::fs::write(root.join("policy.d/usherd"), shipped("policy.d/usherd")).unwrap();
        let site = shipped("sites-available/usherd")
            .replace("ipaddr = 127.0.0.1", &format!("ipaddr = {}", own_ip()))
            .replace("port = 1812", &format!("port = {}", auth.port()))
            .replace("port = 1813", &format!("port = {}", accounting.port()));
        std::fs::write(root.join("sites-enabled/usherd"), site).unwrap();
        for name in ["always", "expr", "attr_filter"] {
            std::fs::copy(
                Path::new("/etc/freeradius/3.0/mods-available").join(name),
                root.join("mods-enabled").join(name),
            )
            .unwrap();
        }
        for filter in std::fs::read_dir("/etc/freeradius/3.0/mods-config/attr_filter").unwrap() {
            let filter = filter.unwrap();
            std::fs::copy(filter.path(), root.join("mods-config/attr_filter").join(filter.file_name())).unwrap();
        }
        std::fs::write(root.join("dictionary"), "").unwrap();
        let main = RADIUSD.replace("FOLDER", root.to_str().unwrap()).replace("SECRET", SECRET);
        std::fs::write(root.join("radiusd.conf"), main).unwrap();
        let server = Killed(run_server(root));
        Radius { _server: server, auth, accounting, _folder: folder }
    }

    /// Asks whether this call may be made.
    fn call(&self, user: &str, session: &str, to: &str) -> Verdict {
        self.ask(&[
            ("User-Name", user),
            ("Acct-Session-Id", session),
            ("Called-Station-Id", to),
            ("NAS-Identifier", "pbx"),
        ])
    }

    fn ask(&self, attributes: &[(&str, &str)]) -> Verdict {
        let said = self.send(self.auth, "auth", attributes);
        if said.contains("Received Access-Accept") {
            return Verdict::Accept;
        }
        assert!(said.contains("Received Access-Reject"), "{said}");
        let message = said.split("Reply-Message = \"").nth(1).and_then(|rest| rest.split('"').next());
        Verdict::Reject(message.unwrap_or_default().to_owned())
    }

    /// Tells of a call's life, and waits until it is confirmed.
    fn account(&self, user: &str, session: &str, status: &str) {
        let said = self.send(
            self.accounting,
            "acct",
            &[
                ("User-Name", user),
                ("Acct-Session-Id", session),
                ("Called-Station-Id", "030123"),
                ("NAS-Identifier", "pbx"),
                ("Acct-Status-Type", status),
            ],
        );
        assert!(said.contains("Received Accounting-Response"), "{said}");
    }

    fn send(&self, to: SocketAddr, what: &str, attributes: &[(&str, &str)]) -> String {
        let lines: String = attributes.iter().map(|(name, value)| format!("{name} = \"{value}\"\n")).collect();
        send_at_once(to, what, 1, &lines)
    }
}

/// Sends packets, with an empty line between them, at most so many at a time; what came back.
fn send_at_once(to: SocketAddr, what: &str, at_once: usize, packets: &str) -> String {
    let mut client = Command::new(program("radclient", "freeradius-utils"))
        .args(["-x", "-r", "1", "-t", "10", "-p", &at_once.to_string(), &to.to_string(), what, SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(packets.as_bytes()).unwrap();
    String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap()
}

/// Starts it, and waits until it takes requests. Its log is read to its end, so that it never waits for us.
fn run_server(root: &Path) -> Child {
    let mut server = Command::new(program("freeradius", "freeradius freeradius-rest"))
        .args(["-f", "-l", "stdout", "-n", "radiusd", "-d"])
        .arg(root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ready to process requests") {
        let bytes = log.read_line(&mut said).unwrap();
        assert!(bytes > 0, "FreeRADIUS did not start: {said}");
    }
    std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
    server
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Reject(String),
}

fn refused() -> Verdict {
    Verdict::Reject("No free licence. Please try again later.".to_owned())
}

fn one_seat(main: &str) -> (Site, Usherd, Radius) {
    let site = Site::new(main, &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let usherd = site.start();
    let radius = Radius::start(usherd.address());
    (site, usherd, radius)
}

#[test]
fn a_call_takes_the_seat_and_its_accounting_stop_gives_it_back() {
    let (_site, usherd, radius) = one_seat("");
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    assert_eq!(usherd.client().held("acme"), 1);
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept, "the PBX asked again");
    assert_eq!(radius.call("ben", "c2", "030123"), refused());
    radius.account("anna", "c1", "Start");
    radius.account("anna", "c1", "Interim-Update");
    assert_eq!(usherd.client().held("acme"), 1);
    radius.account("anna", "c1", "Stop");
    assert_eq!(usherd.client().held("acme"), 0);
    assert_eq!(radius.call("ben", "c2", "030123"), Verdict::Accept);
    radius.account("ben", "c2", "Stop");
    radius.account("ben", "c2", "Stop");
    assert_eq!(usherd.client().held("acme"), 0);
}

#[test]
fn names_from_the_wire_cannot_write_the_request() {
    let (_site, usherd, radius) = one_seat("");
    assert_eq!(radius.call("Jörg & Anna +49%2", "c 1", "030123"), Verdict::Accept);
    let sessions = usherd.client().list("/v1/tenants/acme/sessions", "sessions");
    assert_eq!(sessions.len(), 1);
    assert_eq!((&sessions[0]["subject"], &sessions[0]["session"]), (&"Jörg & Anna +49%2".into(), &"pbx-c 1".into()));
    for trick in ["eve&direction=inbound", "eve&emergency=1", "eve&to=112", "eve&subject=anna"] {
        assert_eq!(radius.call(trick, "c2", "030123"), refused(), "{trick}");
    }
}

#[test]
fn emergency_and_inbound_calls_are_never_refused() {
    let (_site, usherd, radius) = one_seat("");
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    let asked = usherd.client().get("/metrics").body;
    for number in ["sip:112@pbx.example", "sips:0110@pbx.example;user=phone", "tel:112"] {
        assert_eq!(radius.call("ben", "c2", number), Verdict::Accept, "{number}");
    }
    // The recipe lists the digit 0 for an outside line.
    let rows: Vec<_> = rows().into_iter().filter(|row| row.for_all && row.prefix != "9").collect();
    for row in rows.iter().filter(|row| row.is_emergency) {
        assert_eq!(radius.call("ben", "c2", &row.dialled), Verdict::Accept, "{}", row.dialled);
    }
    let origin = ("h323-call-origin", "h323-call-origin=answer");
    let inbound = [("User-Name", "ben"), ("Acct-Session-Id", "c3"), ("Called-Station-Id", "20"), origin];
    assert_eq!(radius.ask(&inbound), Verdict::Accept);
    assert_eq!(
        radius.ask(&[("Acct-Session-Id", "c4"), ("Called-Station-Id", "030123")]),
        Verdict::Accept,
        "nobody calls"
    );
    assert_eq!(radius.ask(&[("User-Name", "ben"), ("Called-Station-Id", "030123")]), Verdict::Accept, "no session");
    let counted = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("usherd_decisions_total")).map(str::to_owned).collect()
    };
    let asked = counted(&asked);
    assert!(asked.iter().any(|line| line.contains("allow.new") && line.ends_with(" 1")), "{asked:?}");
    assert_eq!(counted(&usherd.client().get("/metrics").body), asked, "none of them was asked for");
    for number in ["1120", "1", "11", "0049112", "sip:1123@pbx.example", "112x"] {
        assert_eq!(radius.call("ben", "c2", number), refused(), "{number}");
    }
    for row in rows.iter().filter(|row| !row.is_emergency) {
        assert_eq!(radius.call("ben", "c2", &row.dialled), refused(), "{}", row.dialled);
    }
}

#[test]
fn a_hung_or_dead_daemon_refuses_nobody_i9() {
    let (site, usherd, radius) = one_seat("");
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    usherd.pause();
    for call in ["c2", "c3"] {
        let began = monotonic_ns();
        assert_eq!(radius.call("ben", call, "030123"), Verdict::Accept);
        let took = Duration::from_nanos(monotonic_ns() - began);
        assert!(took < CALL_DEADLINE, "{took:?}");
    }
    // Each waits on a thread of its own: eight threads let eighty calls through in some two seconds.
    let call = |n: u32| format!("User-Name = u{n}\nAcct-Session-Id = m{n}\nCalled-Station-Id = 030123\n");
    let calls: Vec<String> = (0..80).map(call).collect();
    let said = send_at_once(radius.auth, "auth", 40, &calls.join("\n"));
    assert_eq!(said.matches("Received Access-Accept").count(), 80, "{said}");
    radius.account("anna", "c1", "Stop");
    usherd.kill();
    assert_eq!(radius.call("ben", "c4", "030123"), Verdict::Accept);
    radius.account("ben", "c2", "Stop");
    drop(site);
}

#[test]
fn a_second_daemon_is_asked_where_the_first_hangs_or_is_gone() {
    let (site, usherd, _) = one_seat("");
    let second_site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let second = second_site.start();
    let radius = Radius::start_with(usherd.address(), Some(second.address()), &|_, text| text);
    let held = || second.client().held("acme");
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    assert_eq!((usherd.client().held("acme"), held()), (1, 0), "the first is asked while it answers");
    for fault in ["hangs", "is gone"] {
        if fault == "hangs" {
            usherd.pause();
        } else {
            usherd.signal(rustix::process::Signal::KILL);
        }
        let began = monotonic_ns();
        assert_eq!(radius.call("ben", "c2", "030123"), Verdict::Accept, "{fault}");
        let took = Duration::from_nanos(monotonic_ns() - began);
        assert!(took < CALL_DEADLINE, "{fault}: {took:?}");
        assert_eq!(held(), 1, "{fault}");
        assert_eq!(radius.call("cara", "c3", "030123"), refused(), "{fault}: the second decides");
        assert_eq!(radius.call(&"n".repeat(150), "c4", "030123"), refused(), "{fault}: in words that it takes");
        radius.account("ben", "c2", "Interim-Update");
        assert_eq!(held(), 1, "{fault}");
        radius.account("ben", "c2", "Stop");
        assert_eq!(held(), 0, "{fault}");
        radius.account("dora", "c5", "Start");
        assert_eq!(held(), 1, "{fault}: one that went out unasked");
        radius.account("dora", "c5", "Stop");
    }
    second.kill();
    assert_eq!(radius.call("ben", "c6", "030123"), Verdict::Accept, "nobody answers");
    drop(site);
}

/// One request on a connection of its own, answered as usherd would: its path and its form.
fn taken(listener: &TcpListener) -> (String, String) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nallow.new";
    reader.get_mut().write_all(answer).unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), String::from_utf8(body).unwrap())
}

#[test]
fn an_acquire_after_the_release_of_its_call_takes_no_seat_g5() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let radius = Radius::start(listener.local_addr().unwrap());
    let sent = std::thread::spawn(move || [(); 3].map(|()| taken(&listener)));
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    radius.account("anna", "c1", "Interim-Update");
    radius.account("anna", "c1", "Stop");
    let [acquire, renewal, release] = sent.join().unwrap();
    let site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let usherd = site.start();
    let mut client = usherd.client();
    let mut tell = |(path, form): &(String, String)| client.post(path, form).body;
    assert_eq!(tell(&release), "released.none");
    for late in [&acquire, &renewal] {
        assert_eq!(tell(late), "ignore.stale", "{late:?}");
    }
    assert_eq!(usherd.client().held("acme"), 0);
    // The PBX may use the same id for its next call.
    let radius = Radius::start(usherd.address());
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    assert_eq!(usherd.client().held("acme"), 1);
    radius.account("anna", "c1", "Stop");
    assert_eq!(usherd.client().held("acme"), 0);
}

#[test]
fn a_call_let_through_counts_from_its_next_accounting() {
    let (_site, usherd, radius) = one_seat("");
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    radius.account("ben", "c2", "Interim-Update");
    assert_eq!(usherd.client().held("acme"), 2, "above the quota, because it is running");
    radius.account("ben", "c2", "Stop");
    radius.account("anna", "c1", "Stop");
    assert_eq!(usherd.client().held("acme"), 0);
    assert_eq!(radius.call("carl", "c3", "030123"), Verdict::Accept);
}

#[test]
fn freeradius_starts_before_the_daemon_and_asks_later() {
    let site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    site.listen((own_ip(), 0).into());
    let first = site.start();
    let address = first.address();
    site.listen(address);
    first.kill();
    let radius = Radius::start(address);
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    let usherd = site.start();
    eventually("a call to be counted", || {
        assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
        (usherd.client().held("acme") == 1).then_some(())
    });
    assert_eq!(radius.call("ben", "c2", "030123"), refused());
}

#[test]
fn a_refused_request_is_no_refused_call_i10() {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let auth = format!("[[auth.tokens]]\nid = \"x\"\nrole = \"node\"\nsha256 = \"{sha256}\"\n");
    let (_site, _usherd, radius) = one_seat(&auth);
    // 401, which rlm_rest takes for a reject.
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    assert_eq!(radius.call("ben", "c2", "030123"), Verdict::Accept);
    radius.account("ben", "c2", "Stop");
}

#[test]
fn a_malformed_request_is_no_refused_call_c20() {
    let site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let usherd = site.start();
    let radius = Radius::start_edited(usherd.address(), &|_, text| text.replace("kind=call", "kind=pigeon"));
    for call in ["c1", "c2"] {
        assert_eq!(radius.call("anna", call, "030123"), Verdict::Accept);
    }
    assert_eq!(usherd.client().held("acme"), 0);
}

#[test]
fn a_call_is_counted_and_released_whatever_the_phone_sends() {
    let (_site, usherd, radius) = one_seat("");
    let long = |sign: &str| sign.repeat(200);
    for (user, session, number) in [
        (long("x"), "c1".to_owned(), "030123".to_owned()),
        (long("ü").chars().take(100).collect(), "c1".to_owned(), "030123".to_owned()),
        ("anna".to_owned(), long("c"), "030123".to_owned()),
        ("anna".to_owned(), "cü".to_owned(), "030123".to_owned()),
        ("anna".to_owned(), "c1".to_owned(), long("0")),
        (long("x"), long("c"), long("0")),
        ("an\\001na".to_owned(), "c\\0011".to_owned(), "030\\001".to_owned()),
    ] {
        let what = format!("{user} {session} {number}");
        assert_eq!(radius.call(&user, &session, &number), Verdict::Accept, "{what}");
        assert_eq!(usherd.client().held("acme"), 1, "{what}");
        assert_eq!(radius.call(&long("y"), "c2", &long("1")), refused(), "{what}");
        // A packet over everything that usherd takes: still the same call.
        radius.account(&user, &session, "Interim-Update");
        assert_eq!(usherd.client().list("/v1/tenants/acme/sessions", "sessions").len(), 1, "{what}");
        radius.account(&user, &session, "Stop");
        assert_eq!(usherd.client().held("acme"), 0, "{what}");
    }
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    let emergency = format!("<sip:112@{}.example>", "x".repeat(80));
    assert_eq!(radius.call(&long("y"), "c2", &emergency), Verdict::Accept, "usherd sees it, however long it is");
    assert_eq!(usherd.client().held("acme"), 1);
}

#[test]
fn the_token_of_the_recipe_goes_with_each_request() {
    let token = format!("ush_node_{}", "r".repeat(43));
    let hash = TokenHash::of(&token).to_hex();
    let main = format!("[[auth.tokens]]\nid = \"pbx\"\nrole = \"node\"\nsha256 = \"{hash}\"\n");
    let site = Site::new(&main, &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let usherd = site.start();
    let radius = Radius::start_edited(usherd.address(), &|name, text| match name {
        "policy.d/usherd" => {
            let commented = "#\tupdate control {\n#\t\t&REST-HTTP-Header := \"Authorization: Bearer ush_node_PUT-YOURS-HERE\"\n#\t}\n";
            assert!(text.contains(commented));
            let used = commented.replace('#', "").replace("ush_node_PUT-YOURS-HERE", &token);
            text.replace(commented, &used)
        }
        _ => text,
    });
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    assert_eq!(radius.call("ben", "c2", "030123"), refused());
    radius.account("anna", "c1", "Start");
    radius.account("anna", "c1", "Stop");
    assert_eq!(radius.call("ben", "c2", "030123"), Verdict::Accept);
    assert_eq!(radius.call("anna", "c1", "030123"), refused());
}

#[test]
fn a_site_that_checks_passwords_asks_behind_the_check() {
    let site = Site::new("", &[("acme", "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n")]);
    let usherd = site.start();
    let radius = Radius::start_edited(usherd.address(), &|name, text| match name {
        "sites-available/usherd" => {
            text.replace("\t\tusherd_ask\n", "").replace("post-auth {\n", "post-auth {\n\t\tusherd_ask\n")
        }
        _ => text,
    });
    assert_eq!(radius.call("anna", "c1", "030123"), Verdict::Accept);
    assert_eq!(radius.call("ben", "c2", "030123"), refused());
    usherd.kill();
    assert_eq!(radius.call("ben", "c2", "030123"), Verdict::Accept);
}

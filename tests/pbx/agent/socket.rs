//! Access to the agent's socket: its mode and its group are those of the configuration.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::beside::{Place, held};

/// On every Debian, and root is a member of none of them.
const GROUP: (&str, u32) = ("users", 100);
/// A user and a group that own nothing.
const NOBODY: &str = "65534";

/// With these lines in `[socket]`.
fn place(lines: &str) -> Place {
    let place = Place::new("");
    let path = place.path("agent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[socket]\n", &format!("[socket]\n{lines}\n"))).unwrap();
    place
}

/// A group that the user of this test may give a file to, with its number.
fn group() -> (String, u32) {
    if rustix::process::geteuid().is_root() {
        return (GROUP.0.to_owned(), GROUP.1);
    }
    let own = rustix::process::getegid().as_raw();
    (own.to_string(), own)
}

#[test]
fn the_socket_has_the_group_and_the_mode_that_are_configured() {
    let (name, number) = group();
    for (group, mode) in [(name.as_str(), 0o660), (&number.to_string(), 0o600), (&name, 0o666)] {
        let place = place(&format!("group = \"{group}\"\nmode = \"{mode:04o}\""));
        let _agent = place.agent();
        let about = std::fs::metadata(place.path("agent.sock")).unwrap();
        assert_eq!((about.gid(), about.mode() & 0o777), (number, mode), "{group} {mode:o}");
        assert_eq!(about.uid(), rustix::process::geteuid().as_raw());
    }
}

#[test]
fn an_unknown_group_is_refused_at_the_start_with_help() {
    let place = place("group = \"no-such-group\"");
    for more in [&[][..], &["--check"]] {
        let out = place.command().args(more).output().unwrap();
        let told = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        assert_eq!(out.status.code(), Some(78), "{told}");
        for part in ["agent.toml:8:9", "`socket.group`", "no group \"no-such-group\"", "help:", "groupadd"] {
            assert!(told.contains(part), "no {part} in {told}");
        }
    }
    assert!(!place.path("agent.sock").exists());
}

/// Asks as another user of the machine, who is a member of these groups; the answer, if the socket let him.
fn ask_as(place: &Place, groups: &str) -> Option<String> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY]);
    command.args(if groups.is_empty() { vec!["--clear-groups"] } else { vec!["--groups", groups] });
    command.args(["curl", "--silent", "--max-time", "20", "--unix-socket"]).arg(place.path("agent.sock"));
    command.args(["http://agent/v1/acquire", "--data"]);
    command.arg("tenant=acme&subject=anna&session=c1&kind=call&direction=outbound");
    let out = command.output().unwrap_or_else(|error| panic!("setpriv (Debian package util-linux): {error}"));
    // 7: could not connect.
    assert!(matches!(out.status.code(), Some(0 | 7)), "(Debian package curl) {out:?}");
    out.status.success().then(|| String::from_utf8(out.stdout).unwrap())
}

#[test]
fn a_member_of_the_group_may_ask_and_others_may_not() {
    assert!(rustix::process::geteuid().is_root(), "only root can be somebody else: run it as root");
    let place = place(&format!("group = \"{}\"", GROUP.0));
    let (daemon, _agent) = (place.daemon(), place.agent());
    // Others may go through the folder, as in /run/usherd-agent.
    std::fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
    let member = GROUP.1.to_string();
    assert_eq!(ask_as(&place, ""), None);
    assert_eq!(ask_as(&place, "65533"), None, "a member of another");
    assert_eq!(held(&daemon), 0);
    assert_eq!(ask_as(&place, &member).as_deref(), Some("allow.new"));
    assert_eq!(held(&daemon), 1);
    assert_eq!(ask_as(&place, &format!("65533,{member}")).as_deref(), Some("allow.same"));
}

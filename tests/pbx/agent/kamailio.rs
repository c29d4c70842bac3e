//! A real Kamailio's dialogs, over its real JSON-RPC, with real calls of SIPp.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use usherd_testkit::process::own_ip;
use usherd_testkit::wait::eventually;

use super::beside::{Place, held, until_sessions};

const CONFIG: &str = r#"
log_stderror=yes
children=1
listen=udp:@IP@:@SIP@
listen=tcp:@RPC@
tcp_children=1
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "dialog.so"
loadmodule "xhttp.so"
loadmodule "jsonrpcs.so"
loadmodule "textops.so"
loadmodule "siputils.so"
modparam("jsonrpcs", "transport", 1)
modparam("dialog", "dlg_match_mode", 2)
request_route {
    dlg_manage();
    if (is_method("INVITE") && !has_totag()) {
        $dlg_var(usherd_subject) = "anna";
        $dlg_var(usherd_code) = "allow.new";
    }
    $du = "sip:@IP@:@UAS@";
    t_relay();
}
event_route[xhttp:request] {
    if ($hu =~ "^/RPC") { jsonrpc_dispatch(); } else { xhttp_reply("404", "Not Found", "", ""); }
}
"#;

/// A program that is told to end when it is dropped.
struct Program(Child);

impl Program {
    fn start(program: &str, package: &str, arguments: &[&str]) -> Self {
        let started = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(child) => Program(child),
            Err(error) => panic!("{program} cannot be run ({error}): install the Debian package `{package}`"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Not a kill: Kamailio's children end with it only when it is asked.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// A port of an address that no other test has.
fn free_udp() -> u16 {
    UdpSocket::bind((own_ip(), 0)).unwrap().local_addr().unwrap().port()
}

fn free_tcp() -> SocketAddr {
    TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap()
}

fn kamailio(config: &Path) -> Program {
    let checked = Command::new("kamailio").args(["-c", "-f"]).arg(config).output();
    if let Ok(told) = checked.as_ref().map(|checked| String::from_utf8_lossy(&checked.stderr)) {
        assert!(checked.as_ref().is_ok_and(|checked| checked.status.success()), "{told}");
    }
    let (config, folder) = (config.to_str().unwrap(), config.parent().unwrap().to_str().unwrap());
    Program::start("kamailio", "kamailio", &["-DD", "-f", config, "-m", "32", "-M", "4", "-Y", folder])
}

#[test]
fn dialogs_of_a_real_kamailio_come_go_and_outlive_a_gap() {
    let (ip, rpc, [sip, uas, uac]) = (own_ip().to_string(), free_tcp(), [(); 3].map(|()| free_udp().to_string()));
    let place = Place::new(&format!("[kamailio]\naddress = \"{rpc}\"\nlist_s = 1\n"));
    let config = place.path("kamailio.cfg");
    let marks = [("@IP@", &ip), ("@SIP@", &sip), ("@RPC@", &rpc.to_string()), ("@UAS@", &uas)];
    let text = marks.iter().fold(CONFIG.to_owned(), |text, (mark, value)| text.replace(mark, value));
    std::fs::write(&config, text).unwrap();
    let (daemon, mut agent) = (place.daemon(), place.agent());
    agent.until_says("the PBX cannot be asked");
    let proxy = kamailio(&config);
    agent.until_says("the PBX is connected");
    agent.until_says("everything that lives was listed");

    let _callee = Program::start("sipp", "sip-tester", &["-sn", "uas", "-i", &ip, "-p", &uas, "-nostdin"]);
    let target = format!("{ip}:{sip}");
    let call = |id: &str, ms: &str| {
        let arguments = ["-sn", "uac", &target, "-i", &ip, "-p", &uac, "-m", "1", "-d", ms, "-cid_str", id, "-nostdin"];
        Program::start("sipp", "sip-tester", &arguments)
    };
    let mut caller = call("short-%u", "3000");
    until_sessions(&daemon, &["call anna short-1"]);
    eventually("the call to end", || caller.0.try_wait().unwrap());
    until_sessions(&daemon, &[]);

    let _caller = call("long-%u", "60000");
    until_sessions(&daemon, &["call anna long-1"]);
    drop(proxy);
    agent.until_says("the PBX cannot be asked");
    assert_eq!(held(&daemon), 1, "nobody knows whether it lives");
    let _proxy = kamailio(&config);
    until_sessions(&daemon, &[]);
}

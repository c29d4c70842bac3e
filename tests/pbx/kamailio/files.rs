//! The shipped files as files: each way to start them is a configuration that Kamailio takes.

use std::path::PathBuf;

use usherd_testkit::kamailio::lab::{Lab, free_port, phones_ip, trunk_ip};
use usherd_testkit::kamailio::sip::{Phone, connect};
use usherd_testkit::place::{Place, program};

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/pbx/kamailio")
}

/// `kamailio -c`: what is wrong with the configuration in this folder.
fn check(folder: &Place, defines: &[&str]) {
    let mut command = program("kamailio");
    command
        .arg("-c")
        .arg("-f")
        .arg(folder.inside("kamailio.cfg"))
        .args(defines.iter().flat_map(|define| ["-A", define]));
    let out = command.output().unwrap_or_else(|error| panic!("kamailio (Debian package kamailio): {error}"));
    assert!(out.status.success(), "{defines:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn every_way_to_start_the_shipped_files_is_taken_by_kamailio() {
    let whole = Place::shipped("kamailio");
    check(&whole, &[]);
    check(&whole, &["USHERD_REDIS"]);
    check(&whole, &["WITH_LISTEN", "USHERD_TRUST_DIVERSION", "PHONES_TWO=\"192.0.2.9:5060\"", "USHERD_NODE=\"pbx2\""]);
}

#[test]
fn the_kamailio_6_files_are_valid_but_for_its_own_module() {
    // http_async_client is not in Debian 12: what is its own is put in words of this Kamailio, the rest is as shipped.
    let folder = Place::made();
    for file in ["kamailio.cfg", "usherd.cfg", "usherd-http.cfg", "usherd-http-6.cfg"] {
        let mut text = std::fs::read_to_string(shipped().join(file)).unwrap();
        for (six, five) in [
            ("loadmodule \"http_async_client.so\"", ""),
            ("modparam(\"http_async_client\", \"workers\", 2)", ""),
            ("modparam(\"http_client\", \"timeout_mode\", 2)", ""),
            ("http_async_query(\"$var(usherd_to_url)\", ", "async_task_route("),
            ("$http_req(", "$avp("),
            ("$http_ok", "$var(ok)"),
            ("$http_rs", "$var(rs)"),
            ("$http_rb", "$var(rb)"),
        ] {
            text = text.replace(six, five);
        }
        assert!(!text.replace("http_async_client", "").contains("http_async"), "{file} uses more of the module");
        std::fs::write(folder.path(file), text).unwrap();
    }
    check(&folder, &["USHERD_HTTP_ASYNC"]);
}

#[test]
fn the_commands_of_the_readme_show_a_call_that_is_up() {
    let lab = Lab::new(1);
    let mut trunk = Phone::new(trunk_ip(), lab.trunk_port, lab.kamailio_port);
    let mut anna = Phone::new(phones_ip(), free_port(phones_ip()), lab.kamailio_port);
    let call = anna.invite("anna", "0301234567", "shown@phone", "");
    let invite = trunk.receive("INVITE ", None);
    connect(&mut anna, call, &mut trunk, &invite, "t");
    let readme = std::fs::read_to_string(shipped().join("README.md")).unwrap();
    let commands = readme.lines().filter_map(|line| line.split('#').next()?.strip_prefix("kamcmd "));
    let told: Vec<String> = commands.map(|command| lab.kamcmd(command.split_whitespace())).collect();
    let told = told.join("\n");
    for part in ["script:usherd_asked = 1", "script:usherd_allowed = 1", "shown@phone", "size: 0", "name: usherd_down"]
    {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(!told.contains("error"), "{told}");
}

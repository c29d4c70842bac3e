//! The shipped configuration and page of the agent, and its verb.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use usherd_agent::config::load;
use usherd_agent::settings::Config;
use usherd_testkit::process::{told, usherd};

use super::beside::Place;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pbx").join(name)
}

#[test]
fn the_shipped_configuration_names_every_key_with_its_default() {
    let text = std::fs::read_to_string(shipped("agent.toml")).unwrap();
    let mut config = load(&shipped("agent.toml")).ok().unwrap().config;
    let written: toml::Table = text.parse().unwrap();
    for (section, keys) in toml::Table::try_from(Config::default()).unwrap() {
        for (key, _) in keys.as_table().unwrap() {
            let commented = key == "presence" && text.contains(&format!("#[[{section}.presence]]"));
            assert!(commented || written[&section].get(key).is_some(), "{section}.{key} is not in agent.toml");
        }
    }
    config.node.name.clear();
    assert_eq!(config, Config::default());
}

#[test]
fn what_is_commented_out_in_it_is_good_too() {
    let text = std::fs::read_to_string(shipped("agent.toml")).unwrap();
    let opened: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| rest.starts_with(['[', 'd', 's', 'k', 't'])).unwrap_or(line))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, opened.join("\n").replace("tenant = \"\"\n# Emergency", "tenant = \"acme\"\n# Emergency"))
        .unwrap();
    let config =
        load(&path).map_err(|faults| faults.iter().map(ToString::to_string).collect::<String>()).ok().unwrap().config;
    assert_eq!((config.asterisk.presence.len(), config.freeswitch.presence.len()), (2, 1));
}

#[test]
fn the_page_names_what_is_there() {
    let page = std::fs::read_to_string(shipped("agent.md")).unwrap();
    for word in
        ["systemd/usherd-agent.service", "USHERD_CODE", "Usherd-Unreachable", "/livez", "usherd_agent_spool_waiting"]
    {
        assert!(page.contains(word), "{word}");
    }
    for line in page.lines() {
        assert!(line.chars().count() <= 240, "{line}");
    }
}

fn run(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    told(usherd(&["agent"]).args(arguments).arg("--config").arg(place.path("agent.toml")))
}

#[test]
fn the_verb_checks_runs_and_looks() {
    let place = Place::new("");
    let (code, told) = run(&place, &["--check"]);
    assert!(code == Some(0) && told.contains("is valid"), "{told}");
    let (code, told) = run(&place, &["--status"]);
    assert!(code == Some(1) && told.contains("cannot be reached"), "{told}");
    let (_daemon, agent) = (place.daemon(), place.agent());
    place.until_agent("the daemon", |look| look["connected"] == true);
    let (code, told) = run(&place, &["--status"]);
    assert!(code == Some(0) && told.contains("pbx-1"), "{told}");
    let (code, told) = run(&place, &[]);
    assert!(code == Some(1) && told.contains("another process answers there"), "{told}");
    let (status, metrics) = place.ask("/metrics", "");
    assert!(status == 200 && metrics.contains("usherd_agent_connected 1\n"), "{metrics}");
    assert_eq!(place.ask("/livez", ""), (200, "ok".to_owned()));
    assert_eq!(place.ask("/v1/batch", "{}").0, 404);
    assert_eq!(agent.terminate(), Some(0));
    assert!(!place.path("agent.sock").exists());
    std::fs::write(place.path("agent.toml"), "[node]\nname = \"n\"\ntenat = \"acme\"\n").unwrap();
    let (code, told) = run(&place, &[]);
    assert!(code == Some(78) && told.contains("agent.toml:3:1") && told.contains("did you mean `tenant`?"), "{told}");
}

#[test]
fn the_command_line_asks_the_agent_as_it_asks_usherd() {
    let place = Place::new("");
    let (_daemon, _agent) = (place.daemon(), place.agent());
    let ask = |arguments: &[&str]| {
        told(usherd(arguments).arg("--addr").arg(format!("unix:{}", place.path("agent.sock").display())))
    };
    let (code, told) = ask(&["acquire", "acme", "anna", "c1", "call", "--direction", "outbound"]);
    assert!(code == Some(0) && told.starts_with("allow.new: 1 of 10 seats held"), "{told}");
    let (code, told) = ask(&["release", "acme", "c1"]);
    assert!(code == Some(0) && told.starts_with("released.last"), "{told}");
    let (code, told) = ask(&["acquire", "acme", "anna", "c1", "call"]);
    assert!(code == Some(1) && told.contains("direction"), "{told}");
}

#[test]
fn the_socket_has_limits_and_full_is_an_answer() {
    let place = Place::new("");
    let path = place.path("agent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[socket]\n", "[socket]\nconnections_max = 2\n")).unwrap();
    let _agent = place.agent();
    assert_eq!(place.ask("/v1/acquire", &format!("to={}", "1".repeat(70_000))).0, 413);
    assert_eq!(place.ask("/v1/acquire", "").0, 405);
    assert_eq!(place.ask("/livez", "x=1").0, 405);
    assert_eq!(place.ask("/v1/acquire", "tenant=acme&kind=call").0, 400);
    assert_eq!(place.ask("/v1/acquire", "{\"tenant\":").0, 400);
    assert_eq!(place.ask("/v1/release", "tenant=acme").0, 400);
    let connect = || std::os::unix::net::UnixStream::connect(place.path("agent.sock")).unwrap();
    // Those of before have ended once two new ones are served.
    let idle = usherd_testkit::wait::eventually("room", || {
        let mut both = [connect(), connect()];
        let served = both.iter_mut().all(|stream| {
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").is_ok()
                && stream.read(&mut [0; 1_024]).is_ok_and(|read| read > 0)
        });
        served.then_some(both)
    });
    assert_eq!(connect().read(&mut [0; 1]).unwrap(), 0, "one too many is not kept waiting");
    drop(idle);
}

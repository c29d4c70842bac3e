//! The shipped configuration and page of the agent, and its verb.

use std::path::{Path, PathBuf};
use std::process::Command;

use usherd::agent::config::{Config, load};

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
    let mut command = Command::new(env!("CARGO_BIN_EXE_usherd"));
    command.arg("agent").args(arguments).arg("--config").arg(place.path("agent.toml"));
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).unwrap())
}

#[test]
fn the_verb_checks_runs_and_looks() {
    let place = Place::new("");
    let (code, told) = run(&place, &["--check"]);
    assert!(code == Some(0) && told.contains("is good"), "{told}");
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_usherd"));
        command.args(arguments).arg("--addr").arg(format!("unix:{}", place.path("agent.sock").display()));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, told) = ask(&["acquire", "acme", "anna", "c1", "call", "--direction", "outbound"]);
    assert!(code == Some(0) && told.starts_with("allow.new: 1 of 10 seats held"), "{told}");
    let (code, told) = ask(&["release", "acme", "c1"]);
    assert!(code == Some(0) && told.starts_with("released.last"), "{told}");
    let (code, told) = ask(&["acquire", "acme", "anna", "c1", "call"]);
    assert!(code == Some(1) && told.contains("direction"), "{told}");
}

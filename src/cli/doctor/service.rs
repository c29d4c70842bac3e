//! The units of systemd: whether they run, stay running, and hold the doors open in a restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::finding::Finding;

const CHECK: &str = "service";
const SERVICE: &str = "usherd.service";
const SOCKET: &str = "usherd.socket";
const AGENT: &str = "usherd-agent.service";
const PROPERTIES: &str =
    "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,NeedDaemonReload,User,StateDirectory";

/// The properties of the units by their names, as `systemctl show` tells them.
pub(super) type Units = BTreeMap<String, BTreeMap<String, String>>;

/// Asks systemd; `None` where the machine was not started by it, or it does not answer.
pub(super) fn ask() -> Option<Units> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["show", "--no-pager", "--property", PROPERTIES, SERVICE, SOCKET, AGENT]);
    let output = systemctl.output().ok().filter(|output| output.status.success())?;
    Some(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Blocks of `Key=value`, an empty line between two.
fn parse(text: &str) -> Units {
    let blocks = text.split("\n\n").map(|block| {
        let lines = block.lines().filter_map(|line| line.split_once('='));
        lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
    });
    blocks.filter_map(|unit| Some((unit.get("Id")?.clone(), unit))).collect()
}

/// A value of the service's unit, where that is installed: user and state directory.
pub(super) fn of_service<'a>(units: Option<&'a Units>, key: &str) -> Option<&'a str> {
    let value = units.filter(|units| is_installed(units, SERVICE))?.get(SERVICE)?.get(key)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

fn value<'a>(units: &'a Units, unit: &str, key: &str) -> &'a str {
    units.get(unit).and_then(|unit| unit.get(key)).map_or("", String::as_str)
}

fn is_installed(units: &Units, unit: &str) -> bool {
    value(units, unit, "LoadState") == "loaded"
}

/// The findings about the units.
pub(super) fn judge(units: Option<&Units>) -> Vec<Finding> {
    let Some(units) = units else {
        return vec![Finding::note(CHECK, "systemd does not run here: something else must restart the daemon", "")];
    };
    if !is_installed(units, SERVICE) {
        let fix = "the Debian package installs it";
        return vec![Finding::note(CHECK, format!("{SERVICE} is not installed"), fix)];
    }
    let mut findings = vec![service(units), socket(units)];
    findings.extend(agent(units));
    findings
}

fn service(units: &Units) -> Finding {
    let (active, sub) = (value(units, SERVICE, "ActiveState"), value(units, SERVICE, "SubState"));
    let log = "journalctl -u usherd -n 50 says why";
    let restarts: u64 = value(units, SERVICE, "NRestarts").parse().unwrap_or(0);
    if value(units, SERVICE, "NeedDaemonReload") == "yes" {
        let why = "systemd still uses the unit as it was";
        return Finding::warn(CHECK, "the unit file was changed", why, "systemctl daemon-reload");
    }
    match active {
        "active" if restarts > 0 => Finding::warn(
            CHECK,
            format!("running, but systemd had to start it again {restarts} times"),
            "it exited or hung; callers waited meanwhile",
            log,
        ),
        "active" if !matches!(value(units, SERVICE, "UnitFileState"), "enabled" | "enabled-runtime") => Finding::warn(
            CHECK,
            "running, but not enabled",
            "after the next boot it runs only once somebody connects, or not at all",
            "systemctl enable usherd.service usherd.socket",
        ),
        "active" => Finding::ok(CHECK, format!("{SERVICE} is active ({sub}) and enabled")),
        _ => Finding::fail(
            CHECK,
            format!("{SERVICE} is {active} ({sub}), result {}", value(units, SERVICE, "Result")),
            "nobody decides: every call is allowed, and none is counted",
            format!("{log}; systemctl start usherd"),
        ),
    }
}

fn socket(units: &Units) -> Finding {
    if value(units, SOCKET, "ActiveState") == "active" {
        return Finding::ok("socket", format!("{SOCKET} keeps the sockets open while the daemon restarts"));
    }
    Finding::warn(
        "socket",
        format!("{SOCKET} is {}", value(units, SOCKET, "ActiveState")),
        "connections are refused during each restart",
        "systemctl stop usherd.service; systemctl enable --now usherd.socket usherd.service",
    )
}

/// The agent is only there where a PBX is.
fn agent(units: &Units) -> Option<Finding> {
    let (active, enabled) = (value(units, AGENT, "ActiveState"), value(units, AGENT, "UnitFileState"));
    match active {
        "active" => Some(Finding::ok("agent", format!("{AGENT} is active"))),
        "failed" | "activating" | "inactive" if active != "inactive" || enabled == "enabled" => Some(Finding::fail(
            "agent",
            format!("{AGENT} is {active}, result {}", value(units, AGENT, "Result")),
            "the PBX here reports nothing: its sessions lose their seats when their lease ends",
            "usherd agent --check --config /etc/usherd/agent.toml; journalctl -u usherd-agent -n 50",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, *};
    use super::*;

    const GOOD: &str = "Id=usherd.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
        UnitFileState=enabled\nNRestarts=0\nNeedDaemonReload=no\nResult=success\nStateDirectory=usherd\n\n\
        Id=usherd.socket\nLoadState=loaded\nActiveState=active\n\nId=usherd-agent.service\nLoadState=loaded\n\
        ActiveState=inactive\nUnitFileState=disabled\n";

    #[test]
    fn each_state_of_the_units() {
        let table: [(&str, &str, &[Verdict]); 8] = [
            ("", "", &[Ok, Ok]),
            ("ActiveState=active\nSubState=running", "ActiveState=failed\nSubState=failed", &[Fail, Ok]),
            ("NRestarts=0", "NRestarts=3", &[Warn, Ok]),
            ("UnitFileState=enabled", "UnitFileState=disabled", &[Warn, Ok]),
            ("NeedDaemonReload=no", "NeedDaemonReload=yes", &[Warn, Ok]),
            ("usherd.socket\nLoadState=loaded\nActiveState=active", "usherd.socket\nActiveState=inactive", &[Ok, Warn]),
            ("inactive\nUnitFileState=disabled", "failed\nUnitFileState=enabled", &[Ok, Ok, Fail]),
            ("service\nLoadState=loaded", "service\nLoadState=not-found", &[Note]),
        ];
        for (from, to, expected) in table {
            let text = if from.is_empty() { GOOD.to_owned() } else { GOOD.replacen(from, to, 1) };
            let findings = judge(Some(&parse(&text)));
            let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
            assert_eq!(verdicts, expected, "{from:?} -> {to:?}: {findings:?}");
        }
        assert_eq!(judge(None)[0].verdict, Note);
    }

    #[test]
    fn the_state_directory_is_known_where_the_unit_is_installed() {
        let units = parse(GOOD);
        assert_eq!(of_service(Some(&units), "StateDirectory"), Some("usherd"));
        assert_eq!(of_service(Some(&units), "User"), None);
        assert_eq!(of_service(None, "StateDirectory"), None);
    }
}

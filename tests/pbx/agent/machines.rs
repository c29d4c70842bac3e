//! The recordings, fed to the machines with a cut at every byte: what they make of them is always the same.

use usherd_agent::asterisk::Asterisk;
use usherd_agent::freeswitch::FreeSwitch;
use usherd_agent::source::{Act, Machine, Report};

/// The messages of the PBX that do not wait for the agent, turn by turn.
fn turns(name: &str) -> Vec<Vec<u8>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pbx/agent/sessions").join(name);
    let line_end = if name.starts_with("asterisk") { "\r\n" } else { "\n" };
    let (mut turns, mut turn) = (Vec::new(), Vec::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            ">" => turn.extend([rest, line_end].concat().into_bytes()),
            ">event" | ">api" => {
                let kind = if mark == ">api" { "api/response" } else { "text/event-json" };
                turn.extend(format!("Content-Type: {kind}\nContent-Length: {}\n\n{rest}", rest.len()).into_bytes());
            }
            "<" if !turn.is_empty() => turns.push(std::mem::take(&mut turn)),
            "!" => break,
            _ => {}
        }
    }
    turns.push(turn);
    turns
}

/// Plays the turns, each cut into chunks of this many bytes and at this byte, and lists when the PBX is ready.
fn played(machine: &mut dyn Machine, turns: &[Vec<u8>], chunk: usize, cut: Option<(usize, usize)>) -> Vec<Act> {
    let (mut all, mut acts) = (Vec::new(), Vec::new());
    machine.opened(&mut acts);
    for (at, turn) in turns.iter().enumerate() {
        let (before, behind) = match cut {
            Some((of, byte)) if of == at => turn.split_at(byte),
            _ => (turn.as_slice(), &[][..]),
        };
        for part in before.chunks(chunk).chain(behind.chunks(chunk)) {
            machine.feed(part, &mut acts);
            if acts.contains(&Act::Tell(Report::Ready)) {
                machine.list(&mut acts);
            }
            all.append(&mut acts);
        }
    }
    all
}

fn check(name: &str, make: impl Fn() -> Box<dyn Machine>, reports: usize) {
    let turns = turns(name);
    let whole = played(&mut *make(), &turns, usize::MAX, None);
    let told = whole.iter().filter(|act| matches!(act, Act::Tell(_))).count();
    assert_eq!(told, reports, "{whole:#?}");
    assert!(!whole.iter().any(|act| matches!(act, Act::Close(_))), "{whole:#?}");
    assert_eq!(played(&mut *make(), &turns, 1, None), whole, "{name}, byte by byte");
    for (at, turn) in turns.iter().enumerate() {
        for byte in 0..=turn.len() {
            assert_eq!(
                played(&mut *make(), &turns, usize::MAX, Some((at, byte))),
                whole,
                "{name}, turn {at}, byte {byte}"
            );
        }
    }
}

#[test]
fn asterisk_is_understood_wherever_its_bytes_are_cut() {
    // Ready, asking, live, hangup.
    check("asterisk-call.txt", || Box::new(Asterisk::new("usherd", "manager-secret", false)), 4);
    // Ready, asking, live, present, and three changes.
    check("asterisk-presence.txt", || Box::new(Asterisk::new("usherd", "x", true)), 7);
}

#[test]
fn freeswitch_is_understood_wherever_its_bytes_are_cut() {
    // Ready, asking, present, live, ended, started, presence, ended, present.
    check("freeswitch-call.txt", || Box::new(FreeSwitch::new("event-secret", true)), 9);
}

#[test]
fn nothing_that_comes_makes_a_machine_stumble() {
    let mut seed = fastrand::Rng::with_seed(0x75_73_68);
    for (name, make) in [
        (
            "asterisk-call.txt",
            (|| Box::new(Asterisk::new("u", "s", true)) as Box<dyn Machine>) as fn() -> Box<dyn Machine>,
        ),
        ("freeswitch-call.txt", || Box::new(FreeSwitch::new("p", true))),
        ("freeswitch-call.txt", || Box::new(usherd_agent::kamailio::Kamailio::new("h", "/RPC"))),
    ] {
        let turns = turns(name);
        for _ in 0..2_000 {
            let mut bad = turns.clone();
            for _ in 0..seed.usize(1..6) {
                let turn = seed.usize(..bad.len());
                if let Some(byte) = seed.choice(&mut bad[turn]) {
                    *byte = seed.u8(..);
                }
            }
            played(&mut *make(), &bad, seed.usize(1..200), None);
        }
    }
}

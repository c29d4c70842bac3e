//! `usherd agent` beside a real Asterisk: by the manager interface, and answering its scripts.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use usherd::daemon::clock::monotonic_ns;
use usherd_testkit::kamailio::sip::hang_up;
use usherd_testkit::process::{Usherd, usherd};
use usherd_testkit::wait::eventually;

use super::lab::{Lab, Plan};

/// How long the agent waits for usherd.
const DEADLINE_MS: u64 = 200;

struct Beside {
    lab: Lab,
    agent: Option<Usherd>,
}

impl Beside {
    /// The agent answers the scripts.
    fn new(plan: Plan, seats: u32, globals: &str) -> Self {
        let mut lab = Lab::idle(plan, seats, "", plan == Plan::Curl);
        lab.configure("", globals);
        lab.start_asterisk();
        let scripts = match plan {
            Plan::Agi => format!("[agi]\nlisten = \"{}\"\n", lab.agi),
            Plan::Curl => String::new(),
        };
        let at = |name: &str| lab.site.path(name).display().to_string();
        let text = format!(
            "[daemon]\naddress = \"http://{}\"\ndeadline_ms = {DEADLINE_MS}\n[node]\nname = \"pbx1\"\ntenant = \"acme\"\n\
             [socket]\npath = {:?}\n[spool]\nfolder = {:?}\n{scripts}[asterisk]\naddress = \"{}\"\n\
             user = \"usherd\"\nsecret_file = {:?}\nlist_s = 2\n",
            lab.usherd().address(),
            at("agent.sock"),
            at("spool"),
            lab.manager,
            at("secret")
        );
        std::fs::write(lab.site.path("agent.toml"), text).unwrap();
        std::fs::write(lab.site.path("secret"), "manager-secret\n").unwrap();
        let mut beside = Beside { lab, agent: None };
        beside.start_agent();
        beside
    }

    fn command(&self) -> Command {
        let mut command = usherd(&["agent", "--config"]);
        command.arg(self.lab.site.path("agent.toml"));
        command
    }

    fn start_agent(&mut self) {
        let mut agent = Usherd::spawn(&mut self.command());
        agent.until_says("the agent is at work");
        self.agent = Some(agent);
        eventually("the agent to reach both", || {
            self.command().arg("--status").output().unwrap().status.success().then_some(())
        });
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.as_mut().filter(|_| std::thread::panicking()) {
            let _ = writeln!(std::io::stderr(), "{}", agent.all_said());
        }
    }
}

#[test]
fn calls_are_counted_by_its_scripts_and_end_with_the_calls() {
    let beside = Beside::new(Plan::Agi, 1, "");
    let lab = &beside.lab;
    let (mut trunk, mut anna, mut bob) = (lab.trunk(), lab.phone("20"), lab.phone("21"));
    let (call, _) = lab.call(&mut anna, "20", "0301234", "counted", &mut trunk);
    lab.until_held(1);
    let other = bob.invite("21", "0301234", "full", "");
    assert_eq!(bob.outcome(&other), 403);
    hang_up(&mut anna, call, &mut trunk);
    lab.until_held(0);
}

#[test]
fn a_call_let_out_while_usherd_hung_is_booked_when_it_is_back() {
    for (plan, globals) in [(Plan::Agi, ""), (Plan::Curl, "USHERD_EPOCH=none"), (Plan::Curl, "")] {
        let beside = Beside::new(plan, 1, globals);
        let lab = &beside.lab;
        let (mut trunk, mut anna) = (lab.trunk(), lab.phone("20"));
        lab.usherd()
            .client()
            .post("/v1/acquire", "tenant=acme&subject=x&session=x&kind=call&direction=outbound&ttl_s=600");
        lab.usherd().pause();
        let dialled = monotonic_ns();
        let call = anna.invite("20", "0301234", "unasked", "");
        let invite = trunk.receive("INVITE ", None);
        let waited = Duration::from_nanos(monotonic_ns() - dialled);
        // The agent answers within its deadline; asked by `CURL()`, usherd has the dial plan's.
        let waits_max = plan.waits_max() + Duration::from_millis(DEADLINE_MS);
        assert!(waited < waits_max, "{plan:?} {globals}: {waited:?}");
        let (call, _) = lab.talk(&mut anna, call, &mut trunk, &invite);
        lab.usherd().signal(Signal::CONT);
        lab.until_held(2);
        hang_up(&mut anna, call, &mut trunk);
        lab.until_held(1);
        assert_eq!(lab.sessions().len(), 1, "{plan:?} {globals}");
    }
}

#[test]
fn the_calls_of_a_killed_asterisk_end_with_the_next_listing() {
    for (plan, globals) in [(Plan::Agi, ""), (Plan::Curl, "USHERD_EPOCH=none")] {
        let mut beside = Beside::new(plan, 3, globals);
        let (mut trunk, mut anna) = (beside.lab.trunk(), beside.lab.phone("20"));
        // The manager's events have shown the channel by then; one that died before lives by its `ttl_s`.
        beside.lab.call(&mut anna, "20", "0301234", "lost", &mut trunk);
        beside.lab.until_held(1);
        beside.lab.kill_asterisk();
        beside.lab.start_asterisk();
        beside.lab.until_held(0);
    }
}

#[test]
fn a_restart_of_the_agent_ends_no_call() {
    let mut beside = Beside::new(Plan::Agi, 1, "");
    let (mut trunk, mut anna) = (beside.lab.trunk(), beside.lab.phone("20"));
    let (call, _) = beside.lab.call(&mut anna, "20", "0301234", "long", &mut trunk);
    beside.lab.until_held(1);
    beside.agent.take().unwrap().kill();
    beside.start_agent();
    assert_eq!((beside.lab.held(), beside.lab.sessions().len()), (1, 1));
    hang_up(&mut anna, call, &mut trunk);
    beside.lab.until_held(0);
}

//! The same questions over RESP: what each command means (API 6a).

use std::rc::Rc;
use std::str;

use bytes::BytesMut;
use usherd_contract::body::{AcquireBody, Body as _, ReleaseBody};
use usherd_contract::form;
use usherd_contract::node_calls::bounded;
use usherd_engine::{Decision, Now};

use super::ask::Caller;
use super::elsewhere::LeftForm;
use super::nodes::check_speaker;
use super::verb::Verb;
use super::{InFlight, Worker, ask, queries, text};
use crate::answers::tenants::TenantFigures;
use crate::daemon::access::auth::{Asked, RouteClass};
use crate::daemon::app::App;
use crate::daemon::cluster::Forwarded;
use crate::daemon::edge::{Peer, Talk};
use crate::daemon::events::Event;
use crate::daemon::http::Problem;
use crate::daemon::http::problem::ProblemKind;
use crate::daemon::http::reply::{DecisionContext, write_acquire, write_plain, write_release};
use crate::daemon::journal::{Commit, RecordBuilder, Shard};
use crate::daemon::resp::{Next, next, reply};

/// The sign for an absent subject.
const ABSENT: &[u8] = b"-";

/// The context of a command: the turn, the instant, the caller.
struct CommandContext<'a> {
    now: Now,
    group: Option<&'a mut RecordBuilder>,
    events: &'a mut Vec<Event>,
}

/// One command: its bytes, with the talk that knows where its arguments stand.
struct Command<'a> {
    bytes: &'a [u8],
    talk: &'a mut Talk,
    peer: &'a Peer,
}

impl<'a> Command<'a> {
    fn arg(&self, at: usize) -> &'a [u8] {
        self.talk.args.get(self.bytes, at)
    }

    fn count(&self) -> usize {
        self.talk.args.count()
    }

    fn word(&self, at: usize) -> Result<&'a str, Problem> {
        str::from_utf8(self.arg(at)).map_err(|_| Problem::malformed("an argument is not UTF-8"))
    }

    /// Names and values from argument `from` on.
    fn pairs(&self, from: usize) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'_, 'a> {
        (from..self.count()).step_by(2).map(|at| (self.arg(at), self.arg(at + 1)))
    }

    /// Checks that the arguments are as many as the command has places, and whole pairs behind them.
    fn check(&self, places: usize, usage: &'static str) -> Result<(), Problem> {
        let whole = self.count() > places && (self.count() - places - 1).is_multiple_of(2);
        if whole { Ok(()) } else { Err(Problem::malformed(usage)) }
    }

    fn wants_json(&self, from: usize) -> bool {
        self.pairs(from).any(|(name, value)| name == b"format" && value == b"json")
    }

    fn is(&self, name: &str) -> bool {
        self.arg(0).eq_ignore_ascii_case(name.as_bytes())
    }
}

const ACQUIRE: &str = "write CU.ACQUIRE tenant subject session kind [field value ...]";
const RELEASE: &str = "write CU.RELEASE tenant session [field value ...]";
const NODE: &str = "write CU.NODE node hello|heartbeat|goodbye epoch";
const STATUS: &str = "write CU.STATUS tenant";

impl Worker {
    /// Answers the whole commands at the front of `bytes` within one turn.
    pub(super) fn answer_commands<'a>(
        &'a self,
        bytes: &[u8],
        talk: &mut Talk,
        peer: &Peer,
    ) -> (usize, impl Future<Output = bool> + use<'a>) {
        let (taken, committed, caller) = self.decide_commands(bytes, talk, peer);
        let (left, later) = (self.elsewhere.forms.take(), Rc::clone(&talk.later));
        let answered = async move {
            if !matches!(committed.await, Commit::Durable | Commit::NotDurable) {
                return false;
            }
            for form in left {
                let answer = self.answer_left(&form, &caller).await;
                later.borrow_mut().push((form.at, answer));
            }
            true
        };
        (taken, answered)
    }

    /// The answer to a command that was left to another daemon.
    async fn answer_left(&self, left: &LeftForm, caller: &Caller) -> Vec<u8> {
        let mut out = Vec::new();
        match self.ask_form_elsewhere(left.verb, left.shard, &left.form, caller).await {
            Ok(decision) => {
                let id = self.decision_id();
                let about = DecisionContext { decision_id: &id, ..DecisionContext::default() };
                let write = match left.verb {
                    Verb::Acquire => write_acquire as fn(&mut BytesMut, &Decision, &DecisionContext<'_>),
                    Verb::Release => write_release,
                };
                self.tell(&mut out, &decision, &about, left.wants_json.then_some(write));
            }
            Err(problem) => reply::error(&mut out, prefix(problem.kind()), &problem.in_one_line()),
        }
        out
    }

    fn decide_commands(&self, bytes: &[u8], talk: &mut Talk, peer: &Peer) -> (usize, ask::Committed<'_>, Caller) {
        let _in_flight = InFlight::new(&self.in_flight);
        let now = self.app.deciding.clock.now();
        let mut caller = self.caller(Asked::Bare(talk.authorization.as_deref()), peer);
        let (taken, committed) = self.decide(now, |worker, mut group, events| {
            let mut at = 0;
            while !talk.is_closing() {
                let rest = &bytes[at..];
                match next(rest, &mut talk.args) {
                    Next::Partial => break,
                    Next::Broken(why) => {
                        reply::error(&mut talk.out, "ERR", why);
                        talk.close();
                    }
                    // As Redis does: without an answer.
                    Next::Http => {
                        peer.count_foreign();
                        talk.close();
                    }
                    Next::Command(length) => {
                        at += length;
                        let turn = CommandContext { now, group: group.as_deref_mut(), events: &mut *events };
                        let command = Command { bytes: rest, talk: &mut *talk, peer };
                        worker.command(turn, command, &mut caller);
                    }
                }
            }
            at
        });
        (taken, committed, caller)
    }

    fn command(&self, mut turn: CommandContext<'_>, mut command: Command<'_>, caller: &mut Caller) {
        if command.count() == 0 {
            return;
        }
        command.peer.count_request();
        let (class, answered) = if command.is("CU.ACQUIRE") {
            (Some(RouteClass::Decide), self.resp_acquire(&mut turn, &mut command, caller))
        } else if command.is("CU.RELEASE") {
            (Some(RouteClass::Decide), self.resp_release(&mut turn, &mut command, caller))
        } else if command.is("CU.NODE") {
            (Some(RouteClass::Nodes), self.resp_node(&mut turn, &mut command, caller))
        } else if command.is("CU.STATUS") {
            (Some(RouteClass::Read), self.resp_status(&turn, &mut command, caller))
        } else {
            (None, self.of_the_protocol(&mut command, caller))
        };
        if let Err(wrong) = answered {
            let problem = match class {
                Some(class) => ask::first(caller, class, wrong),
                None => wrong,
            };
            let prefix = prefix(problem.kind());
            // A word for the node to look for, as HTTP has a status of its own for it.
            let word = if problem.kind() == ProblemKind::UnknownEpoch { "unknown_epoch " } else { "" };
            reply::error(&mut command.talk.out, prefix, &format!("{word}{}", problem.in_one_line()));
        }
    }

    fn resp_acquire(
        &self,
        turn: &mut CommandContext<'_>,
        command: &mut Command<'_>,
        caller: &Caller,
    ) -> Result<(), Problem> {
        command.check(4, ACQUIRE)?;
        let [tenant, subject, session, kind] = [1, 2, 3, 4].map(|at| command.arg(at));
        let subject = if subject == ABSENT { b"" } else { subject };
        let placed = [(&b"tenant"[..], tenant), (b"subject", subject), (b"session", session), (b"kind", kind)];
        let read = AcquireBody::from_pairs(placed.into_iter().chain(command.pairs(5)));
        let id = self.decision_id();
        let decided = read.as_ref().map_err(|malformed| Problem::from(malformed.clone())).and_then(|read| {
            let message = read.request()?;
            let decision = self.acquire_now(turn.now, &message, caller, turn.group.as_deref_mut(), turn.events)?;
            if message.node.is_some() {
                command.peer.mark_node();
            }
            Ok((decision, DecisionContext::acquire(&message, &id)))
        });
        let (decision, about) = match decided {
            Ok(decided) => decided,
            Err(wrong) => {
                let problem = ask::first(caller, RouteClass::Decide, wrong);
                let form = form::of_pairs(placed.into_iter().chain(command.pairs(5)));
                let Some((hint, detail)) = self.free_hint(&form, None, &problem) else {
                    return self.leave_form(Verb::Acquire, form, command, command.wants_json(5), problem);
                };
                if let Some(shard) = problem.is_elsewhere() {
                    self.tell_owner(Shard(shard), caller, Forwarded::form(Verb::Acquire.target(), form));
                }
                (
                    self.note_unrecorded(turn.now, &hint, detail, turn.events),
                    DecisionContext { decision_id: &id, ..DecisionContext::default() },
                )
            }
        };
        let json = command.wants_json(5).then_some(write_acquire as fn(&mut BytesMut, &Decision, &DecisionContext<'_>));
        self.tell(&mut command.talk.out, &decision, &about, json);
        Ok(())
    }

    fn resp_release(
        &self,
        turn: &mut CommandContext<'_>,
        command: &mut Command<'_>,
        caller: &Caller,
    ) -> Result<(), Problem> {
        command.check(2, RELEASE)?;
        let placed = [(&b"tenant"[..], command.arg(1)), (b"session", command.arg(2))];
        let read = ReleaseBody::from_pairs(placed.into_iter().chain(command.pairs(3)))?;
        let message = read.checked()?;
        let decided = self.release_now(turn.now, &message, caller, turn.group.as_deref_mut(), turn.events);
        let decision = match decided {
            Ok(decision) => decision,
            Err(problem) => {
                let form = form::of_pairs(placed.into_iter().chain(command.pairs(3)));
                return self.leave_form(Verb::Release, form, command, command.wants_json(3), problem);
            }
        };
        if message.node.is_some() {
            command.peer.mark_node();
        }
        let id = self.decision_id();
        let about = DecisionContext::release(&message, &id);
        let json = command.wants_json(3).then_some(write_release as fn(&mut BytesMut, &Decision, &DecisionContext<'_>));
        self.tell(&mut command.talk.out, &decision, &about, json);
        Ok(())
    }

    /// Leaves a message to the daemon that decides it, where that is the problem.
    fn leave_form(
        &self,
        verb: Verb,
        form: Vec<u8>,
        command: &Command<'_>,
        wants_json: bool,
        problem: Problem,
    ) -> Result<(), Problem> {
        let Some(shard) = problem.is_elsewhere().map(Shard) else { return Err(problem) };
        let left = LeftForm { at: command.talk.out.len(), shard, verb, form: form.into(), wants_json };
        self.elsewhere.forms.borrow_mut().push(left);
        Ok(())
    }

    fn resp_node(
        &self,
        turn: &mut CommandContext<'_>,
        command: &mut Command<'_>,
        caller: &Caller,
    ) -> Result<(), Problem> {
        command.check(3, NODE)?;
        let (node, verb, epoch) = (command.word(1)?, command.word(2)?, command.word(3)?);
        let access = caller.as_ref().map_err(Clone::clone)?;
        access.need(RouteClass::Nodes, None)?;
        check_speaker(access, node)?;
        let epoch = epoch.parse().map_err(|_| Problem::malformed("the epoch is not a whole number"))?;
        bounded(epoch)?;
        let said = match verb.to_ascii_lowercase().as_str() {
            "hello" => text(&self.hello_now(turn.now, node, epoch, turn.group.as_deref_mut(), turn.events)?),
            "heartbeat" => text(&self.heartbeat_now(turn.now, node, epoch, turn.group.as_deref_mut())?),
            "goodbye" => text(&self.goodbye_now(turn.now, node, epoch, turn.events)?),
            _ => return Err(Problem::malformed(NODE)),
        };
        command.peer.mark_node();
        if command.wants_json(4) {
            reply::bulk(&mut command.talk.out, &said);
        } else {
            reply::simple(&mut command.talk.out, "ok");
        }
        Ok(())
    }

    fn resp_status(
        &self,
        turn: &CommandContext<'_>,
        command: &mut Command<'_>,
        caller: &Caller,
    ) -> Result<(), Problem> {
        command.check(1, STATUS)?;
        let tenant = command.word(1)?;
        let access = caller.as_ref().map_err(Clone::clone)?;
        access.need(RouteClass::Read, Some(tenant))?;
        let App { deciding, publishing, configuration, .. } = &self.app;
        let (config, sight) = (configuration.running.get(), publishing.sight(access));
        let status = queries::tenant(deciding, &config, &publishing.today, turn.now, tenant, sight)?;
        if command.wants_json(2) {
            reply::bulk(&mut command.talk.out, &text(&status));
        } else {
            reply::simple(&mut command.talk.out, &status_line(&status.figures));
        }
        Ok(())
    }

    /// A decision: one line, or as JSON in a bulk string.
    fn tell(
        &self,
        out: &mut Vec<u8>,
        decision: &Decision,
        about: &DecisionContext<'_>,
        json: Option<fn(&mut BytesMut, &Decision, &DecisionContext<'_>)>,
    ) {
        match json {
            None => {
                out.push(b'+');
                write_plain(out, decision);
                out.extend_from_slice(b"\r\n");
            }
            Some(write) => {
                let mut buffer = self.buffer.borrow_mut();
                buffer.clear();
                write(&mut buffer, decision, about);
                reply::bulk(out, &buffer);
                buffer.clear();
            }
        }
    }

    /// Answers commands about the client and the server, which any server has.
    fn of_the_protocol(&self, command: &mut Command<'_>, caller: &mut Caller) -> Result<(), Problem> {
        let name = String::from_utf8_lossy(command.arg(0)).to_ascii_uppercase();
        let second = command.arg(1).to_ascii_uppercase();
        let (count, argument) = (command.count(), command.arg(1));
        let resp3 = command.talk.resp3;
        match (name.as_str(), second.as_slice()) {
            ("PING", _) if count == 1 => reply::simple(&mut command.talk.out, "PONG"),
            ("PING", _) => reply::bulk(&mut command.talk.out, argument),
            ("HELLO", _) => return self.resp_hello(command, caller),
            ("AUTH", _) if (2..=3).contains(&count) => {
                self.authorize(command, caller, count - 1)?;
                reply::simple(&mut command.talk.out, "OK");
            }
            ("QUIT", _) => {
                reply::simple(&mut command.talk.out, "OK");
                command.talk.close();
            }
            // There is one database; and who asks for another would mix things up.
            ("SELECT", b"0") | ("CLIENT", b"SETNAME" | b"SETINFO") => reply::simple(&mut command.talk.out, "OK"),
            ("COMMAND", _) => reply::array(&mut command.talk.out, 0),
            ("CONFIG", b"GET") => reply::map(&mut command.talk.out, 0, resp3),
            ("INFO", _) => {
                let text =
                    format!("# Server\r\nserver_name:usherd\r\nusherd_version:{}\r\n", env!("CARGO_PKG_VERSION"));
                reply::bulk(&mut command.talk.out, text.as_bytes());
            }
            _ => {
                let shown: String = name.chars().take(40).collect();
                let detail = format!(
                    "there is no command {shown:?} of this form; CU.ACQUIRE, CU.RELEASE, CU.NODE, CU.STATUS, PING, HELLO, AUTH, QUIT, INFO"
                );
                return Err(Problem::new(ProblemKind::NotFound, detail));
            }
        }
        Ok(())
    }

    /// `HELLO [2|3 [AUTH user token] [SETNAME name]]`
    fn resp_hello(&self, command: &mut Command<'_>, caller: &mut Caller) -> Result<(), Problem> {
        let resp3 = match command.arg(1) {
            b"" => command.talk.resp3,
            b"2" => false,
            b"3" => true,
            _ => {
                reply::error(
                    &mut command.talk.out,
                    "NOPROTO",
                    "unsupported protocol version: write HELLO 2 or HELLO 3",
                );
                return Ok(());
            }
        };
        let mut at = 2;
        while at < command.count() {
            match command.arg(at).to_ascii_uppercase().as_slice() {
                b"AUTH" if at + 2 < command.count() => {
                    self.authorize(command, caller, at + 2)?;
                    at += 3;
                }
                b"SETNAME" if at + 1 < command.count() => at += 2,
                _ => return Err(Problem::malformed("write HELLO [2|3 [AUTH user token] [SETNAME name]]")),
            }
        }
        command.talk.resp3 = resp3;
        let out = &mut command.talk.out;
        reply::map(out, 4, resp3);
        for (key, value) in [("server", "usherd"), ("version", env!("CARGO_PKG_VERSION")), ("mode", "standalone")] {
            reply::bulk(out, key.as_bytes());
            reply::bulk(out, value.as_bytes());
        }
        reply::bulk(out, b"proto");
        reply::integer(out, if resp3 { 3 } else { 2 });
        Ok(())
    }

    /// Takes argument `at` for a token; the user is not looked at, for a token names its owner.
    fn authorize(&self, command: &mut Command<'_>, caller: &mut Caller, at: usize) -> Result<(), Problem> {
        let authorization = [b"Bearer ", command.arg(at)].concat();
        // Before recovery a token can be checked too: only decisions wait for it.
        self.access(Asked::Bare(Some(&authorization)), command.peer)?;
        *caller = self.caller(Asked::Bare(Some(&authorization)), command.peer);
        command.talk.authorization = Some(authorization);
        Ok(())
    }
}

/// The first word of an error.
fn prefix(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::NotPermitted => "NOAUTH",
        ProblemKind::TooMany | ProblemKind::Unavailable => "BUSY",
        _ => "ERR",
    }
}

/// `active held=3 quota=16 over=0`; `quota=-` is an unlimited one.
fn status_line(status: &TenantFigures) -> String {
    let quota = status.quota.map_or_else(|| "-".to_owned(), |quota| quota.to_string());
    format!("{} held={} quota={quota} over={}", status.state, status.held, status.over)
}

//! Scripts of Asterisk over FastAGI, answered by the agent: unlike one that asks usherd itself, none waits longer
//! than the client's deadline, for `AGI()` has no time-out of its own (I9).

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use usherd_client::Verdict;
use usherd_contract::agi::{Broken, Talk, Variable, script, variables, variables_of_fault, variables_of_silence};
use usherd_contract::words::Code;

use super::accept;
use super::hub::Hub;
use super::question::{Sent, release_message, reply};

/// Longest that Asterisk may take for its head, and for the reply to each variable.
const STEP_DEADLINE: Duration = Duration::from_secs(5);

/// Serves for ever.
pub async fn serve(listener: TcpListener, hub: Arc<Hub>, connections_max: usize) {
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    accept::serve_each(hub, connections_max, accept, answer).await;
}

async fn answer(stream: TcpStream, hub: Arc<Hub>) {
    let mut talk = Talk::new(stream);
    if run(&mut talk, &hub).await.is_err() {
        hub.counters.count("scripts_broken", "");
    }
    let _ = timeout(STEP_DEADLINE, talk.end()).await;
}

async fn run(talk: &mut Talk<TcpStream>, hub: &Hub) -> Result<(), Broken> {
    let head = timeout(STEP_DEADLINE, talk.head()).await.map_err(|_| Broken)??;
    for variable in &respond(hub, &head).await {
        timeout(STEP_DEADLINE, talk.set(variable)).await.map_err(|_| Broken)??;
    }
    Ok(())
}

/// The variables that answer a script. A malformed question lets the call go out, and says so (C20).
async fn respond(hub: &Hub, head: &[u8]) -> [Variable; 4] {
    let script = match script(head) {
        Ok(script) => script,
        Err(wrong) => return fault(hub, wrong.to_string()),
    };
    let sent = Sent::form(script.form);
    if script.is_release {
        return match sent.release(hub.tenant()) {
            Ok((tenant, session, ended)) => {
                let answer = hub.release_for_script(&(tenant, session), ended).await;
                let code = answer.map_or(Code::ReleasedMore, |(code, _)| code);
                variables(code, release_message(answer), None)
            }
            Err(malformed) => fault(hub, malformed.in_one_line()),
        };
    }
    match hub.acquire_sent(&sent).await {
        Ok((ask, verdict, _)) => match reply(&ask, &verdict) {
            Some(reply) => variables(reply.code, verdict.message().to_owned(), verdict.sip_code()),
            None => refused(&verdict),
        },
        Err(malformed) => variables_of_fault(malformed.in_one_line()),
    }
}

/// The variables where usherd could not be asked and this node is configured to deny then.
fn refused(verdict: &Verdict) -> [Variable; 4] {
    let [code, allow, message, sip_code] = variables_of_silence(verdict.message().to_owned());
    [code, if verdict.allow { allow } else { ("USHERD_ALLOW", "0".into()) }, message, sip_code]
}

fn fault(hub: &Hub, what: String) -> [Variable; 4] {
    hub.counters.count("malformed", "");
    variables_of_fault(what)
}

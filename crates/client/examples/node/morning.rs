//! One morning of the example's phone system.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use usherd_client::{Ask, Client, Direction, Ended, Kind, Options, Verdict};

/// This node; ids of sessions begin with it and its boot number, so that no other node has the same.
pub(crate) const NODE: &str = "pbx-berlin-1";

/// A morning of that phone system, told to `out`.
pub(crate) async fn run(options: Options, tenant: &str, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let client = Client::start(options, ())?;
    if !client.connected(Duration::from_secs(5)).await {
        writeln!(out, "nobody answers; calls are allowed")?;
    }
    let id = |session: &str| format!("{NODE}/{}/{session}", client.status().epoch);
    let mut tell = |who: &str, verdict: &Verdict| {
        let word = if verdict.allow { "allowed" } else { "refused" };
        writeln!(out, "{who}: {word} ({:?}), {}", verdict.source, verdict.message())
    };

    // Anna dials; her phone is on a desk.
    let anna = id("1001");
    let call = Ask { to: Some("030 7654321".into()), ..Ask::call(tenant, "anna", &anna, Direction::Outbound) };
    tell("Anna's call", &client.acquire(&call).await)?;

    // Bob opens his client. With one seat, it is Anna's.
    let bob = id("bob");
    let refused = client.acquire(&Ask::new(tenant, "bob", &bob, Kind::Desktop)).await;
    tell("Bob's client", &refused)?;

    // Customers always get through, and so does help: neither waits for the daemon.
    let customer = id("1002");
    let inbound = Ask { subject: None, ..Ask::call(tenant, "", &customer, Direction::Inbound) };
    tell("a customer", &client.acquire(&inbound).await)?;
    let help = Ask { session: None, to: Some("112".into()), ..Ask::call(tenant, "bob", "", Direction::Outbound) };
    tell("Bob's call for help", &client.acquire(&help).await)?;

    // Everybody hangs up, and the phone system is shut down.
    for session in [&anna, &customer] {
        client.release(tenant, session, Ended::Over);
    }
    if refused.allow {
        client.release(tenant, &bob, Ended::Over);
    }
    let heard = client.goodbye(Duration::from_secs(5)).await;
    writeln!(out, "goodbye, {}", if heard { "heard" } else { "not heard: the daemon's lease ends it" })?;
    Ok(())
}

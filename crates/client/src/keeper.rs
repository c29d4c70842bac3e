//! The node's own messages: hello, heartbeats and inventories, and what follows when they are not answered.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep, sleep_until};

use super::exchange::Replied;
use super::hooks::Event;
use super::shared::{Aside, Link, Shared};
use super::verdict::Unreachable;
use super::wire::{self, Welcome};

/// Pause between tries while the daemon does not answer, approximately: nodes that lost it together come back spread.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// The characters that are escaped in a segment of a path: all but the unreserved ones of RFC 3986.
const BEYOND_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Pause where another process speaks as this node, or where this one may not speak.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// The reason why the node's own messages fail.
enum Broken {
    /// The daemon does not know this node: say hello.
    Forgotten,
    /// It does not answer, or not well.
    Away(Unreachable),
    /// It knows a newer epoch of this node, even than the next one that was tried.
    Refused,
}

impl From<Unreachable> for Broken {
    fn from(why: Unreachable) -> Self {
        Broken::Away(why)
    }
}

/// Speaks for the node until the task is ended.
pub(super) async fn run(shared: &Shared) {
    loop {
        let Err(broken) = attend(shared).await;
        match broken {
            Broken::Forgotten => {
                shared.hooks.event(Event::Forgotten);
                shared.set_link(Link::Greeting);
            }
            Broken::Away(why) => {
                missed(shared, why);
                leave(shared);
                sleep(if why == Unreachable::NotPermitted { REFUSED_PAUSE } else { spread(RETRY_EVERY) }).await;
            }
            Broken::Refused => {
                shared.hooks.event(Event::EpochRefused);
                leave(shared);
                sleep(REFUSED_PAUSE).await;
            }
        }
    }
}

fn missed(shared: &Shared, why: Unreachable) {
    shared.hooks.event(Event::Missed(why));
}

/// No daemon answers: calls need not find that out one by one.
fn leave(shared: &Shared) {
    shared.set_link(Link::Away);
    shared.daemons.close_kept();
    let turn = shared.breakers.lock().open_all();
    shared.transitioned(turn);
}

fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Says hello and what lives here, then heartbeats and inventories in their turn.
async fn attend(shared: &Shared) -> Result<std::convert::Infallible, Broken> {
    let welcome = hello(shared).await?;
    if let Some(grace_s) = welcome.presence_grace_s {
        shared.presence_grace_s.store(grace_s, Ordering::Relaxed);
    }
    shared.hooks.event(Event::Greeted);
    // Before calls ask again: what was allowed meanwhile counts in what they are told.
    shared.set_link(Link::Greeting);
    if shared.withheld.load(Ordering::Acquire) {
        // It may have lost what it knew, and an inventory would say more than is known here.
        let told = shared.ledger.lock().tell_again();
        shared.tell(told);
    } else {
        inventory(shared).await?;
    }
    shared.set_link(Link::Greeted);
    shared.reports.notify_one();
    let mut inventory_at = Instant::now() + seconds(welcome.inventory_s);
    loop {
        let calls_wait = shared.breakers.lock().is_closed(shared.daemons.current());
        let pause = if calls_wait { seconds(welcome.heartbeat_s) } else { spread(RETRY_EVERY) };
        let beat_at = Instant::now() + pause;
        let due = tokio::select! {
            // In this order, so that a simulation is what its seed says.
            biased;
            () = sleep_until(inventory_at) => true,
            () = sleep_until(beat_at) => false,
            () = shared.suspect.notified(), if calls_wait => false,
        };
        if due || shared.ledger.lock().is_inventory_due() {
            inventory_at = Instant::now() + seconds(welcome.inventory_s);
            inventory(shared).await?;
        }
        heartbeat(shared, seconds(welcome.lease_s)).await?;
        if shared.link() == Link::Greeting {
            // A question had come to a daemon before the others told it of this node.
            shared.set_link(Link::Greeted);
        }
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.max(1).into())
}

/// Where the daemon knows a higher epoch, hello is said once more with the next one.
async fn hello(shared: &Shared) -> Result<Welcome, Broken> {
    let (mut at, mut replied) = say_hello(shared).await?;
    if replied.status == 409
        && let Some(epoch) = shared.epoch.raise(wire::known_epoch(&replied.body))
    {
        shared.hooks.event(Event::EpochRaised(epoch));
        (at, replied) = say_hello(shared).await?;
    }
    match replied.status {
        200 => {
            shared.daemons.greeted_by(at);
            wire::welcome(&replied.body).ok_or(Broken::Away(Unreachable::Protocol))
        }
        409 => Err(Broken::Refused),
        status => Err(Broken::Away(Unreachable::of_status(status))),
    }
}

async fn say_hello(shared: &Shared) -> Result<(usize, Replied), Unreachable> {
    let said = Said { verb: "hello", body: wire::epoch(shared.epoch.number()), fresh: &[true], whole: false };
    say(shared, &said).await
}

/// One that is lost may be an accident; two in a row are not.
async fn heartbeat(shared: &Shared, lease: Duration) -> Result<(), Broken> {
    let body = wire::epoch(shared.epoch.number());
    let (at, replied) = say(shared, &Said { verb: "heartbeat", body, fresh: &[false, true], whole: false }).await?;
    match replied.status {
        200 => {
            shared.daemons.greeted_by(at);
            shared.epoch.stands(lease);
            if shared.breakers.lock().heard(at) {
                shared.ledger.lock().need_inventory();
            }
            Ok(())
        }
        409 => Err(Broken::Forgotten),
        status => Err(Broken::Away(Unreachable::of_status(status))),
    }
}

/// Sends an inventory of everything that lives here. Where that is refused, calls ask all the same.
async fn inventory(shared: &Shared) -> Result<(), Broken> {
    if shared.withheld.load(Ordering::Acquire) {
        // What lives besides what is remembered is not known yet.
        return Ok(());
    }
    let listed = shared.ledger.lock().inventory();
    let body = wire::inventory(&listed, shared.epoch.number()).await;
    let said = say(shared, &Said { verb: "inventory", body, fresh: &[false], whole: true }).await;
    let (at, replied) = match said {
        Ok(replied) => replied,
        Err(why) => {
            shared.ledger.lock().need_inventory();
            return Err(Broken::Away(why));
        }
    };
    match replied.status {
        200 => {
            let taken = wire::taken_in(&replied.body).unwrap_or_default();
            shared.ledger.lock().taken_in(&listed, taken.ignored);
            let (kept, adopted, removed, ignored) = (taken.kept, taken.adopted, taken.removed, taken.ignored);
            shared.hooks.event(Event::Inventory { kept, adopted, removed, ignored });
            let turn = shared.breakers.lock().answered(at);
            shared.transitioned(turn);
        }
        409 => return Err(Broken::Forgotten),
        413 => shared.hooks.event(Event::InventoryTooLarge),
        status @ (429 | 503) => {
            shared.ledger.lock().need_inventory();
            return Err(Broken::Away(Unreachable::of_status(status)));
        }
        status => shared.hooks.event(Event::Missed(Unreachable::of_status(status))),
    }
    Ok(())
}

/// Announces a planned shutdown; true if the daemon heard it.
pub(super) async fn goodbye(shared: &Shared) -> bool {
    let body = wire::epoch(shared.epoch.number());
    let said = say(shared, &Said { verb: "goodbye", body, fresh: &[false], whole: true }).await;
    said.is_ok_and(|(_, replied)| replied.status == 200)
}

/// One of the node's own messages.
struct Said {
    verb: &'static str,
    body: Bytes,
    /// The tries at one address: over a kept connection, or a new one.
    fresh: &'static [bool],
    /// It may take long, so each address gets the whole time; else its share.
    whole: bool,
}

/// Says something to the daemon in use, and where that does not answer, or not well, to the others in their turn; the
/// one that does is in use from then on. Returns its answer; where none does, the failure of the one in use.
async fn say(shared: &Shared, said: &Said) -> Result<(usize, Replied), Unreachable> {
    'current: loop {
        let current = shared.daemons.current();
        let mut failed = Vec::new();
        let mut first = None;
        let order = shared.breakers.lock().order(current);
        for at in order {
            let replied = say_to(shared, current, at, said).await;
            if shared.daemons.current() != current {
                // A question has found one that answers.
                continue 'current;
            }
            let Some(why) = failure(&replied) else {
                move_on(shared, current, at, &failed);
                return replied.map(|replied| (at, replied));
            };
            failed.push((at, why));
            first.get_or_insert(replied);
        }
        return first.unwrap_or(Err(Unreachable::Timeout)).map(|replied| (current, replied));
    }
}

/// Leaves the daemon in use for another one, after these have failed.
fn move_on(shared: &Shared, current: usize, to: usize, failed: &[(usize, Unreachable)]) {
    let Some((_, why)) = failed.first() else { return };
    missed(shared, *why);
    for (at, _) in failed {
        let turn = shared.breakers.lock().open(*at);
        shared.transitioned(turn);
    }
    shared.move_on(current, to);
}

/// Why another daemon is to be tried; `None` where this one answered.
fn failure(replied: &Result<Replied, Unreachable>) -> Option<Unreachable> {
    match replied {
        // What is no error of its own is for the caller to read.
        Ok(replied) => Some(Unreachable::of_status(replied.status)).filter(|why| *why != Unreachable::Protocol),
        Err(why) => Some(*why),
    }
    .filter(|why| why.is_of_one_daemon())
}

async fn say_to(shared: &Shared, current: usize, at: usize, said: &Said) -> Result<Replied, Unreachable> {
    let path = path(shared, said.verb);
    let whole = shared.options.background_deadline;
    let share = whole / u32::try_from(shared.daemons.count()).unwrap_or(u32::MAX);
    let patience = if said.whole { whole } else { share };
    let answer_bytes_max = shared.options.limits.answer_bytes_max;
    let mut replied = Err(Unreachable::Timeout);
    for &fresh in said.fresh {
        let aside = Aside { path: &path, body: said.body.clone(), fresh, patience, answer_bytes_max };
        replied = shared.post_aside(current, at, aside).await;
        if replied.is_ok() || shared.daemons.current() != current {
            break;
        }
    }
    replied
}

/// The path of a message of this node. Its name may hold whatever is printable.
fn path(shared: &Shared, verb: &str) -> String {
    format!("/v1/nodes/{}/{verb}", utf8_percent_encode(&shared.options.node, BEYOND_UNRESERVED))
}

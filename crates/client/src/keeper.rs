//! The node's own messages: hello, heartbeats and inventories, and what follows when they are not answered.

use std::sync::atomic::Ordering;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep, sleep_until};

use super::exchange::Replied;
use super::hooks::Event;
use super::shared::{Link, Shared};
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
                shared.hooks.event(Event::Missed(why));
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

/// The daemon does not answer: calls need not find that out one by one.
fn leave(shared: &Shared) {
    shared.set_link(Link::Away);
    shared.exchange.close_kept();
    let turn = shared.breaker.lock().open();
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
        let calls_wait = shared.breaker.lock().is_closed();
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
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.max(1).into())
}

/// Where the daemon knows a higher epoch, hello is said once more with the next one.
async fn hello(shared: &Shared) -> Result<Welcome, Broken> {
    let mut replied = say_hello(shared).await?;
    if replied.status == 409
        && let Some(epoch) = shared.epoch.raise(wire::known_epoch(&replied.body))
    {
        shared.hooks.event(Event::EpochRaised(epoch));
        replied = say_hello(shared).await?;
    }
    match replied.status {
        200 => wire::welcome(&replied.body).ok_or(Broken::Away(Unreachable::Protocol)),
        409 => Err(Broken::Refused),
        status => Err(Broken::Away(Unreachable::of_status(status))),
    }
}

async fn say_hello(shared: &Shared) -> Result<Replied, Unreachable> {
    let path = path(shared, "hello");
    let body = wire::epoch(shared.epoch.number());
    shared.post_aside(&path, body, true, shared.options.limits.answer_bytes_max).await
}

/// One that is lost may be an accident; two in a row are not.
async fn heartbeat(shared: &Shared, lease: Duration) -> Result<(), Broken> {
    let path = path(shared, "heartbeat");
    let body = wire::epoch(shared.epoch.number());
    let answer_max = shared.options.limits.answer_bytes_max;
    let replied = match shared.post_aside(&path, body.clone(), false, answer_max).await {
        Ok(replied) => replied,
        Err(_) => shared.post_aside(&path, body, true, answer_max).await?,
    };
    match replied.status {
        200 => {
            shared.epoch.stands(lease);
            if shared.breaker.lock().heard() {
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
    let path = path(shared, "inventory");
    let listed = shared.ledger.lock().inventory();
    let body = wire::inventory(&listed, shared.epoch.number()).await;
    let posted = shared.post_aside(&path, body, false, shared.options.limits.answer_bytes_max).await;
    let replied = match posted {
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
            let turn = shared.breaker.lock().answered();
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
    let path = path(shared, "goodbye");
    let body = wire::epoch(shared.epoch.number());
    let replied = shared.post_aside(&path, body, false, shared.options.limits.answer_bytes_max).await;
    replied.is_ok_and(|replied| replied.status == 200)
}

/// The path of a message of this node. Its name may hold whatever is printable.
fn path(shared: &Shared, verb: &str) -> String {
    format!("/v1/nodes/{}/{verb}", utf8_percent_encode(&shared.options.node, BEYOND_UNRESERVED))
}

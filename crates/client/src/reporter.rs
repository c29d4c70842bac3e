//! Sends releases and reports, several at once where several wait, until each is acknowledged.

use std::time::Duration;

use tokio::time::sleep;

use super::hooks::Event;
use super::ledger::{Message, Settled};
use super::shared::{Aside, Link, Shared};
use super::verdict::Unreachable;
use super::wire;

/// Pause after a batch that was not taken.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that the answer to one operation may take, beside those of [`Limits::answer_bytes_max`](super::Limits).
const RESULT_BYTES_MAX: u32 = 1_024;

/// The outcome of a batch.
enum Sent {
    /// Each operation was answered, in these bytes.
    Answered(Vec<Settled>, Vec<u8>),
    /// It was larger than the daemon takes at once.
    TooLarge,
    /// It was not answered, or not well.
    Lost,
}

/// Sends reports until the task is ended.
pub(super) async fn run(shared: &Shared) {
    let mut most = shared.options.limits.batch_ops_max as usize;
    let mut fresh = false;
    loop {
        shared.until_link(|link| link == Link::Greeted).await;
        let messages = shared.ledger.lock().take(most);
        if messages.is_empty() {
            // What was waiting may have ended by itself.
            shared.settled.notify_waiters();
            shared.reports.notified().await;
            continue;
        }
        let sent = send(shared, &messages, fresh).await;
        fresh = matches!(sent, Sent::Lost);
        let settled = match sent {
            Sent::Answered(settled, body) => {
                tell_those_who_wait(shared, &messages, &body);
                settled
            }
            Sent::TooLarge if messages.len() == 1 => vec![Settled::Refused],
            Sent::TooLarge => {
                most = messages.len() / 2;
                Vec::new()
            }
            Sent::Lost => Vec::new(),
        };
        shared.ledger.lock().sent(&settled);
        shared.settled.notify_waiters();
        for _ in settled.iter().filter(|settled| **settled == Settled::Refused) {
            shared.hooks.event(Event::ReportRefused);
        }
        if settled.is_empty() || settled.contains(&Settled::Later) {
            sleep(RETRY_PAUSE).await;
        }
    }
}

async fn send(shared: &Shared, messages: &[Message], fresh: bool) -> Sent {
    let body = wire::batch(messages, shared.sender());
    let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    let answer_max = shared.options.limits.answer_bytes_max.saturating_add(count.saturating_mul(RESULT_BYTES_MAX));
    let at = shared.daemons.current();
    let patience = shared.options.background_deadline;
    let aside = Aside { path: "/v1/batch", body, fresh, patience, answer_bytes_max: answer_max };
    let replied = shared.post_aside(at, at, aside).await;
    match replied {
        Ok(replied) if replied.status == 200 => {
            let settled = wire::results(&replied.body, messages.len());
            settled.map_or(Sent::Lost, |settled| Sent::Answered(settled, replied.body))
        }
        // Another one is in use.
        Err(_) if shared.daemons.current() != at => Sent::Lost,
        Ok(replied) if replied.status == 413 => Sent::TooLarge,
        Ok(replied) => {
            shared.hooks.event(Event::Missed(Unreachable::of_status(replied.status)));
            Sent::Lost
        }
        Err(why) => {
            shared.hooks.event(Event::Missed(why));
            shared.suspect.notify_one();
            Sent::Lost
        }
    }
}

/// Hands the daemon's answers to those who asked with [`Client::release_asked`](super::Client::release_asked).
fn tell_those_who_wait(shared: &Shared, messages: &[Message], body: &[u8]) {
    let mut awaited = shared.awaited.lock();
    if awaited.is_empty() {
        return;
    }
    for (message, code) in messages.iter().zip(wire::codes(body)) {
        let Message::Release { seq, .. } = message else { continue };
        if let (Some(waiting), Some(code)) = (awaited.remove(seq), code) {
            // A caller that does not wait any more gets no answer.
            let _ = waiting.send(code);
        }
    }
}

//! One receiver: what it is told, what waits for it, and how it behaves.

use std::path::Path;

use usherd_engine::{Name, Now};

use super::board::{Board, Entry};
use super::coalescer::Storm;
use super::deliver::Outcome;
use super::event::{Notice, Topic};
use super::queue::{Queue, Waiting};
use crate::daemon::config::{HookType, Webhook};
use crate::daemon::metrics::WebhookResult;

/// After a failure nothing is tried for so long, whatever is due: a receiver in trouble is not stormed.
const PAUSE_MS: u64 = 5_000;

/// One receiver.
pub(crate) struct Hook {
    pub(crate) settings: Webhook,
    pub(crate) queue: Queue,
    denied: Storm,
    emergency: Storm,
    /// The message that is being delivered: one at a time.
    pub(crate) under_way: Option<String>,
    /// Nothing is tried before then, uptime milliseconds.
    pause_until_ms: u64,
    /// It answered 410.
    pub(crate) gone: bool,
    failing: bool,
}

impl Hook {
    /// With what an earlier run left; and what was wrong with that.
    pub(crate) fn open(settings: &Webhook, state_dir: &Path, now: Now) -> (Self, Option<String>) {
        let (queue, problem) = Queue::open(state_dir, &settings.name, now, settings.retry_for_s);
        let hook = Hook {
            settings: settings.clone(),
            queue,
            denied: Storm::by_tenant(),
            emergency: Storm::each(),
            under_way: None,
            pause_until_ms: 0,
            gone: false,
            failing: false,
        };
        (hook, problem)
    }

    /// It is configured otherwise: it gets another chance at once.
    pub(crate) fn configure(&mut self, settings: &Webhook, now: Now) {
        self.settings = settings.clone();
        self.recovered(now);
    }

    /// Something happened, which `make` can say: results to be counted.
    pub(crate) fn tell(
        &mut self,
        now: Now,
        source: &str,
        about: Topic,
        tenant: &Name,
        make: &dyn Fn() -> Notice,
        results: &mut Vec<WebhookResult>,
    ) {
        let per_minute_max = self.settings.denied_per_minute_max;
        let notice = match about {
            Topic::Of(kind) if !self.settings.takes(kind, tenant) => return,
            // Whoever hears of some tenants only cannot know whether it was about them.
            Topic::Missed if !self.settings.enabled || !self.settings.tenants.is_empty() => return,
            Topic::Of(HookType::Denied) => self.denied.admit(now, per_minute_max, about, tenant, make),
            Topic::Of(HookType::Emergency) => self.emergency.admit(now, per_minute_max, about, tenant, make),
            _ => Some(make()),
        };
        if let Some(notice) = notice {
            let waiting = waiting(&self.settings, now, source, notice);
            push(&mut self.queue, &self.settings, self.gone, self.under_way.as_deref(), waiting, results);
        }
    }

    /// Queues the summaries that were counted long enough; all of them where the daemon ends.
    pub(crate) fn tell_counted(&mut self, now: Now, source: &str, at_end: bool, results: &mut Vec<WebhookResult>) {
        let per_minute_max = self.settings.denied_per_minute_max;
        for storm in [&mut self.denied, &mut self.emergency] {
            let told = if at_end { storm.flush(now) } else { storm.due(now, per_minute_max) };
            let waiting: Vec<_> = told.into_iter().map(|notice| waiting(&self.settings, now, source, notice)).collect();
            for waiting in waiting {
                push(&mut self.queue, &self.settings, self.gone, self.under_way.as_deref(), waiting, results);
            }
        }
    }

    /// The message that is to be tried now; it is under way then.
    pub(crate) fn next(&mut self, now: Now) -> Option<Waiting> {
        let rests =
            self.under_way.is_some() || self.gone || !self.settings.enabled || self.pause_until_ms > now.uptime_ms;
        let next = self.queue.due(now).filter(|_| !rests)?.clone();
        self.under_way = Some(next.id.clone());
        Some(next)
    }

    /// A try is over: what the log says of it.
    pub(crate) fn finish_try(
        &mut self,
        now: Now,
        tried: &Waiting,
        outcome: &Outcome,
        results: &mut Vec<WebhookResult>,
    ) -> Entry {
        self.under_way = None;
        let mut entry = Entry::new(now, tried, outcome, WebhookResult::Delivered);
        if outcome.is_success() {
            self.queue.remove(&tried.id);
            self.recovered(now);
        } else if outcome.is_gone() {
            self.gone = true;
            entry.result = WebhookResult::Gone;
            results.extend((1..self.queue.clear()).map(|_| WebhookResult::Gone));
        } else {
            self.failing = true;
            let pause_ms = PAUSE_MS.max(outcome.retry_after_s * 1_000);
            self.pause_until_ms = now.uptime_ms + pause_ms;
            match self.queue.postpone(&tried.id, now, outcome.retry_after_s * 1_000, outcome.is_refusal()) {
                Some(wait_ms) => {
                    entry.result = WebhookResult::Retried;
                    entry.next_utc_ms = Some(now.utc_ms.saturating_add_unsigned(wait_ms));
                }
                None => {
                    self.queue.remove(&tried.id);
                    entry.result = WebhookResult::Failed;
                }
            }
        }
        results.push(entry.result);
        entry
    }

    /// How it is, for who wants to see it.
    pub(crate) fn show(&self, board: &Board) {
        board.show(&self.settings.name, self.gone, self.queue.len(), self.queue.oldest_utc_ms());
    }

    /// It takes messages again.
    pub(crate) fn recovered(&mut self, now: Now) {
        if self.failing || self.gone {
            self.queue.bring_forward(now);
        }
        (self.failing, self.gone, self.pause_until_ms) = (false, false, 0);
    }
}

/// A message about something.
fn waiting(settings: &Webhook, now: Now, source: &str, mut notice: Notice) -> Waiting {
    if !settings.names {
        notice.without_names();
    }
    message(now, source, &notice, settings.retry_for_s)
}

/// A message, due at once.
pub(crate) fn message(now: Now, source: &str, notice: &Notice, retry_for_s: u32) -> Waiting {
    let id = format!("msg_{:x}_{:016x}", now.utc_ms, fastrand::u64(..));
    let due_ms = now.uptime_ms as i64;
    Waiting {
        about: notice.about.as_str().to_owned(),
        tenant: notice.tenant.to_string(),
        body: notice.body(source, &id),
        id,
        made_utc_ms: now.utc_ms,
        attempts: 0,
        due_ms,
        until_ms: due_ms + i64::from(retry_for_s) * 1_000,
        refused: false,
    }
}

fn push(
    queue: &mut Queue,
    settings: &Webhook,
    gone: bool,
    under_way: Option<&str>,
    waiting: Waiting,
    results: &mut Vec<WebhookResult>,
) {
    if gone {
        return results.push(WebhookResult::Gone);
    }
    let dropped = queue.push(waiting, settings.queue_max as usize, under_way);
    results.extend((0..dropped).map(|_| WebhookResult::Dropped));
}

//! Asks the publisher again and again, on a thread that decides nothing, and hands on what is good.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{oneshot, watch};
use usherd_subscription::entitlement::Timelines;

use crate::daemon::app::App;
use crate::daemon::app::reload_request::{Request, SyncStep};
use crate::daemon::config::{Config, Publisher, Rejection, Removals};
use crate::daemon::events::{Event, EventResult, EventType};
use crate::daemon::metrics::{ReloadTrigger, SyncResult};
use crate::daemon::sync::envelope::Admission;
use crate::daemon::sync::fetch::{Fetched, fetch};
use crate::daemon::sync::keeper::Pulled;
use crate::daemon::sync::refusal::{Refusal, RefusalCode};
use crate::daemon::sync::status::Outcome;

/// How often it is looked at whether a try is due: the daemon's clock may be another than that of sleeps.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The first wait after a failure; it doubles with each further one, up to the interval.
const BACKOFF_FIRST_S: u32 = 15;

/// Pulls until a stop was asked for; nothing before the daemon is ready.
pub fn run(app: &App, mut stopped: watch::Receiver<bool>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime that pulls records cannot be started");
            return;
        }
    };
    runtime.block_on(async {
        let mut puller = Puller { app: app.clone(), due_ms: 0, failures: 0, settings: Publisher::default() };
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = puller.pull_for_ever() => {}
        }
    });
    // A name look-up that hangs must not hold up the end of the daemon.
    runtime.shutdown_background();
}

struct Puller {
    app: App,
    /// When the next try is due, uptime milliseconds.
    due_ms: u64,
    /// Tries in a row that did not reach the publisher.
    failures: u32,
    /// The settings of the last try: with others the next one is due at once.
    settings: Publisher,
}

impl Puller {
    async fn pull_for_ever(&mut self) {
        loop {
            let config = self.app.configuration.running.get();
            let publisher = &config.settings.sync;
            if *publisher != self.settings {
                (self.settings, self.due_ms, self.failures) = (publisher.clone(), 0, 0);
            }
            if publisher.is_on()
                && self.app.serving.is_ready()
                && self.due_ms <= self.app.deciding.clock.now().uptime_ms
            {
                self.pull(&config).await;
            }
            self.app.configuration.keeper.store_redated();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn pull(&mut self, config: &Config) {
        let outcome = self.attempt(config).await;
        let now = self.app.deciding.clock.now();
        self.failures = if outcome.result == SyncResult::Failed { self.failures + 1 } else { 0 };
        let wait_ms = wait_ms(&config.settings.sync, self.failures);
        self.due_ms = now.uptime_ms + wait_ms;
        self.app.configuration.sync_status.next_at(now.utc_ms.saturating_add_unsigned(wait_ms));
        let news = self.app.configuration.sync_status.note(now, &outcome);
        self.app.publishing.metrics.synced(outcome.result, outcome.is_success().then_some(now.utc_ms));
        let Outcome { result, code, message } = outcome;
        if !news {
            tracing::debug!(result = result.as_str(), code, message, "sync, as before");
            return;
        }
        match result {
            SyncResult::Applied | SyncResult::Unchanged => tracing::info!(message, "sync {}", result.as_str()),
            _ => tracing::error!(code, message, "sync {}, what was in force stays", result.as_str()),
        }
        let text = format!("{}: {message}", result.as_str());
        self.app.publishing.events.publish(Event::came_to(EventType::Sync, result.into(), now.utc_ms, text));
    }

    async fn attempt(&self, config: &Config) -> Outcome {
        let settings = &config.settings;
        let keeper = &self.app.configuration.keeper;
        let url = &settings.sync.url;
        let folder = config.main().parent().unwrap_or(Path::new(""));
        let answer = match fetch(&settings.sync, folder, keeper.etag(url).as_deref()).await {
            Ok(answer) => answer,
            Err(why) => return Outcome::new(SyncResult::Failed, why),
        };
        let at = self.app.deciding.timelines(self.app.deciding.clock.now());
        let (bytes, etag) = match answer {
            Fetched::NotModified => {
                return match by_either(at, |now| keeper.may_confirm(settings, now)) {
                    Ok(()) => self.confirm(None).await,
                    Err(refusal) => refused(&refusal),
                };
            }
            Fetched::TooLarge => {
                let most = settings.sync.bundle_bytes_max;
                return refused(&RefusalCode::TooLarge.because(format!("the bundle has more than {most} bytes")));
            }
            Fetched::Bundle { bytes, etag } => (bytes, etag),
        };
        match by_either(at, |now| keeper.judge(&bytes, settings, now)) {
            Err(refusal) => refused(&refusal),
            Ok((_, Admission::Repeated)) => self.confirm(Some(etag)).await,
            Ok((bundle, Admission::Fresh)) => {
                let pulled = Pulled { bundle: Arc::new(bundle), envelope: bytes, url: url.clone(), etag };
                self.take(Arc::new(pulled)).await
            }
        }
    }

    /// The publisher stands by what is held.
    async fn confirm(&self, etag: Option<String>) -> Outcome {
        match self.ask(SyncStep::Confirm { etag }).await {
            Ok(_) => Outcome::new(SyncResult::Unchanged, "the publisher has nothing new"),
            Err(outcome) => outcome,
        }
    }

    async fn take(&self, pulled: Arc<Pulled>) -> Outcome {
        let (serial, key) = (pulled.bundle.serial, pulled.bundle.key.clone());
        match self.ask(SyncStep::Take(pulled)).await {
            Ok(text) => Outcome::new(SyncResult::Applied, format!("serial {serial} of key {key}: {text}")),
            Err(outcome) => outcome,
        }
    }

    /// Queues a step behind all other reloads, and waits for what comes of it.
    async fn ask(&self, step: SyncStep) -> Result<String, Outcome> {
        let (reply, outcome) = oneshot::channel();
        let request = Request {
            trigger: ReloadTrigger::Sync,
            force: false,
            removals: Removals::Delayed,
            dry_run: false,
            actor: "sync".to_owned(),
            note: None,
            reply: Some(reply),
            sync: Some(step),
        };
        let stops = || Outcome::new(SyncResult::Failed, "the daemon stops");
        self.app.configuration.reloads.send(request).await.map_err(|_| stops())?;
        match outcome.await {
            Ok(Ok(applied)) if applied.unchanged => Ok("its records are those in force".to_owned()),
            Ok(Ok(applied)) => Ok(applied.diff.render()),
            Ok(Err(rejection)) => Err(rejected(&rejection)),
            Err(_) => Err(stops()),
        }
    }
}

/// Judges by the wall clock, and where nobody trusts that, by the time that would be without its step: what is good by
/// either is taken (H5).
fn by_either<T>(at: Timelines, judge: impl Fn(DateTime<Utc>) -> Result<T, Refusal>) -> Result<T, Refusal> {
    judge(at.wall).or_else(|refusal| at.old.map_or(Err(refusal), judge))
}

fn refused(refusal: &Refusal) -> Outcome {
    Outcome { code: refusal.code.as_str(), ..Outcome::new(SyncResult::Refused, refusal.to_string()) }
}

impl From<SyncResult> for EventResult {
    fn from(result: SyncResult) -> Self {
        match result {
            SyncResult::Applied => EventResult::Applied,
            SyncResult::Unchanged => EventResult::Unchanged,
            SyncResult::Refused => EventResult::Refused,
            SyncResult::Failed => EventResult::Failed,
        }
    }
}

fn rejected(rejection: &Rejection) -> Outcome {
    match rejection {
        Rejection::Invalid { .. } | Rejection::NeedsForce { .. } => {
            refused(&RefusalCode::Rejected.because(rejection.to_string()))
        }
        Rejection::Shrinks { shrink, .. } => refused(&RefusalCode::Shrinks.because(shrink.message.clone())),
        Rejection::NotKept { .. } => Outcome::new(SyncResult::Failed, rejection.to_string()),
    }
}

/// Until the next try, milliseconds: the interval, or less after failures, and some jitter.
fn wait_ms(publisher: &Publisher, failures: u32) -> u64 {
    let wait_s = match failures {
        0 => publisher.interval_s,
        failures => publisher.interval_s.min(BACKOFF_FIRST_S.saturating_mul(1 << (failures - 1).min(16))),
    };
    let jitter_ms = u64::from(publisher.jitter_s.min(wait_s)) * 1_000;
    u64::from(wait_s) * 1_000 + fastrand::u64(0..=jitter_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_the_wait_doubles_up_to_the_interval() {
        let publisher = Publisher { interval_s: 100, jitter_s: 0, ..Publisher::default() };
        for (failures, wait_s) in [(0, 100), (1, 15), (2, 30), (3, 60), (4, 100), (5, 100), (u32::MAX, 100)] {
            assert_eq!(wait_ms(&publisher, failures), wait_s * 1_000, "{failures} failures");
        }
        let jittered = Publisher { jitter_s: 60, ..publisher };
        for _ in 0..1_000 {
            assert!((100_000..=160_000).contains(&wait_ms(&jittered, 0)));
            assert!((15_000..=30_000).contains(&wait_ms(&jittered, 1)));
        }
    }
}

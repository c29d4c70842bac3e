//! The thread that carries messages: it overhears what happens, looks at the tenants, and delivers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use usherd_engine::{Name, Now};
use usherd_subscription::entitlement::Timelines;

use crate::daemon::app::App;
use crate::daemon::config::{Config, HookType, Tenant, Webhook};
use crate::daemon::events::{Event, EventType, Next, Subscriber};
use crate::daemon::metrics::WebhookResult;
use crate::daemon::webhook::board::{Entry, Order};
use crate::daemon::webhook::deliver::{Outcome, deliver};
use crate::daemon::webhook::event::{Notice, Topic};
use crate::daemon::webhook::hook::{Hook, message};
use crate::daemon::webhook::queue::Waiting;
use crate::daemon::webhook::select::{Selector, Worth, notice};

/// How often it is looked at what happened and what is due: the daemon's clock may be another than that of sleeps.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The same where there are no webhooks.
const IDLE_EVERY: Duration = Duration::from_millis(500);
/// How often all tenants are looked at, and queues are written down, milliseconds.
const SECOND_MS: u64 = 1_000;
/// How often it is told that events were missed, milliseconds.
const MINUTE_MS: u64 = 60_000;
/// Events that are taken at once: the ring is not held for longer.
const EVENTS_MAX: usize = 256;

/// Carries messages until a stop was asked for; nothing before the daemon is ready.
pub fn run(app: &App, mut stopped: watch::Receiver<bool>) {
    let Some(mut inbox) = app.publishing.webhooks.inbox() else { return };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime of the webhooks cannot be started");
            return;
        }
    };
    let mut courier = Courier::new(app);
    LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = courier.carry(&mut inbox) => {}
        }
    });
    courier.end();
    // A name look-up that hangs must not hold up the end of the daemon.
    runtime.shutdown_background();
}

/// A try that is over.
struct Tried {
    hook: Name,
    message: Waiting,
    outcome: Outcome,
    /// The order of the caller that waits for it, where it is a test.
    test: Option<Order>,
}

struct Courier {
    app: App,
    state_dir: PathBuf,
    hooks: Vec<Hook>,
    selector: Selector,
    /// Only while there are webhooks.
    ring: Option<Subscriber>,
    /// The configuration that the webhooks are of.
    config: Option<Arc<Config>>,
    source: String,
    looked_at: u64,
    saved_at: u64,
    /// Events that were gone before they could be looked at, since that was told.
    missed: u64,
    missed_told_at: u64,
    flying: JoinSet<Tried>,
}

impl Courier {
    fn new(app: &App) -> Self {
        let state_dir = app.configuration.running.get().state_dir(std::env::var("STATE_DIRECTORY").ok().as_deref());
        Courier {
            app: app.clone(),
            state_dir,
            hooks: Vec::new(),
            selector: Selector::default(),
            ring: None,
            config: None,
            source: String::new(),
            looked_at: 0,
            saved_at: 0,
            missed: 0,
            missed_told_at: 0,
            flying: JoinSet::new(),
        }
    }

    async fn carry(&mut self, inbox: &mut mpsc::Receiver<Order>) {
        loop {
            if self.app.serving.is_ready() {
                self.turn();
                self.app.publishing.webhooks.turned();
            }
            let rest = if self.hooks.is_empty() { IDLE_EVERY } else { LOOK_EVERY };
            tokio::select! {
                Some(tried) = self.flying.join_next() => if let Ok(tried) = tried {
                    self.finish_try(tried);
                },
                Some(order) = inbox.recv() => self.try_out(order),
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Everything that is due.
    fn turn(&mut self) {
        let now = self.app.deciding.clock.now();
        self.follow_config(now);
        if self.hooks.is_empty() {
            return;
        }
        self.overhear(now);
        if self.looked_at + SECOND_MS <= now.uptime_ms {
            self.looked_at = now.uptime_ms;
            self.look(now);
        }
        self.tell_missed(now, false);
        self.tell_counted(now, false);
        self.send(now);
        if self.saved_at + SECOND_MS <= now.uptime_ms {
            self.saved_at = now.uptime_ms;
            self.save(now);
        }
        self.show();
    }

    fn follow_config(&mut self, now: Now) {
        let config = self.app.configuration.running.get();
        if self.config.as_ref().is_some_and(|own| Arc::ptr_eq(own, &config)) {
            return;
        }
        let is_first = self.config.replace(Arc::clone(&config)).is_none();
        let settings = &config.settings;
        self.source = match settings.sync.installation.as_str() {
            "" => "/usherd".to_owned(),
            installation => format!("/usherd/{installation}"),
        };
        let had_hooks = !self.hooks.is_empty();
        self.configure(now, &settings.webhooks);
        if self.hooks.is_empty() {
            (self.ring, self.selector) = (None, Selector::default());
            return;
        }
        let events = &self.app.publishing.events;
        self.ring.get_or_insert_with(|| events.overhear(is_first));
        if self.wants(HookType::StateChanged) {
            let at = self.app.deciding.timelines(now);
            let all: HashMap<Name, Worth> =
                config.tenants.iter().map(|(id, tenant)| (id.clone(), worth(tenant, at))).collect();
            let news = self.selector.configured(now, all, is_first || !had_hooks);
            self.tell_all(now, news);
        }
    }

    /// Takes up the webhooks of a configuration; what waits for one that is gone stays in its file.
    fn configure(&mut self, now: Now, settings: &[Webhook]) {
        let mut before = std::mem::take(&mut self.hooks);
        for settings in settings {
            match before.iter().position(|hook| hook.settings.name == settings.name) {
                Some(at) => {
                    let mut hook = before.swap_remove(at);
                    if hook.settings != *settings {
                        hook.configure(settings, now);
                    }
                    self.hooks.push(hook);
                }
                None => {
                    let (hook, problem) = Hook::open(settings, &self.state_dir, now);
                    if let Some(why) = problem {
                        tracing::error!(webhook = %settings.name, "what waits for a webhook: {why}");
                    }
                    self.hooks.push(hook);
                }
            }
        }
        for mut gone in before {
            if let Err(error) = gone.queue.save(now) {
                tracing::error!(webhook = %gone.settings.name, %error, "what waits for a webhook cannot be stored");
            }
        }
    }

    fn wants(&self, kind: HookType) -> bool {
        self.hooks.iter().any(|hook| hook.settings.enabled && hook.settings.types.contains(&kind))
    }

    /// Takes in the events since the last time.
    fn overhear(&mut self, now: Now) {
        loop {
            let Some(ring) = self.ring.as_mut() else { return };
            let position = ring.position();
            match ring.take(EVENTS_MAX) {
                Next::Nothing => return,
                Next::Gap { resumes_at } => {
                    let missed = resumes_at.saturating_sub(position + 1);
                    self.missed += missed;
                }
                Next::Events(events) => events.iter().for_each(|(_, event)| self.hear(now, event)),
            }
        }
    }

    fn hear(&mut self, now: Now, event: &Event) {
        // Every member of a cluster hears of nodes and files, and one tells.
        let is_common = matches!(event.kind, EventType::Node | EventType::Config | EventType::Sync);
        if is_common && !self.app.deciding.tells_of(&event.tenant) {
            return;
        }
        let Some(kind) = self.selector.heard(event) else {
            let changed = self.subscription(now, event);
            return self.tell_all(now, changed);
        };
        let mut results = Vec::new();
        for hook in &mut self.hooks {
            hook.tell(now, &self.source, Topic::Of(kind), &event.tenant, &|| notice(kind, event), &mut results);
        }
        self.count(&results);
    }

    /// Events that were gone before they could be looked at: once a minute, for this comes in storms.
    fn tell_missed(&mut self, now: Now, at_end: bool) {
        if self.missed == 0 || (self.missed_told_at + MINUTE_MS > now.uptime_ms && !at_end) {
            return;
        }
        let count = std::mem::take(&mut self.missed);
        self.missed_told_at = now.uptime_ms;
        tracing::warn!(count, "events came faster than webhooks look at them; see [events] buffered_max");
        let text = "events came too fast to be looked at; `usherd journal export` has them";
        let missed = Notice::new(Topic::Missed, &Name::default(), now.utc_ms).with("count", count);
        self.tell_all(now, [missed.with("message", text)]);
    }

    fn subscription(&mut self, now: Now, event: &Event) -> Option<Notice> {
        if event.kind != EventType::Subscription || !self.wants(HookType::StateChanged) {
            return None;
        }
        let config = self.config.as_ref()?;
        let worth = worth(config.tenants.get(&event.tenant)?, self.app.deciding.timelines(now));
        self.selector.changed(event, worth)
    }

    /// Looks for tenants that are full or over: at most a second late, and not for less than that.
    fn look(&mut self, now: Now) {
        if !self.wants(HookType::Full) && !self.wants(HookType::Over) {
            return;
        }
        let (mut news, selector) = (Vec::new(), &mut self.selector);
        self.app.deciding.engine.each_tenant(now, |view| selector.see(now, view, &mut news));
        selector.looked(now);
        self.tell_all(now, news);
    }

    fn tell_all(&mut self, now: Now, news: impl IntoIterator<Item = Notice>) {
        let mut results = Vec::new();
        let is_told = |notice: &Notice| notice.tenant.is_empty() || self.app.deciding.decides(&notice.tenant);
        for notice in news.into_iter().filter(is_told) {
            for hook in &mut self.hooks {
                hook.tell(now, &self.source, notice.about, &notice.tenant, &|| notice.clone(), &mut results);
            }
        }
        self.count(&results);
    }

    fn tell_counted(&mut self, now: Now, at_end: bool) {
        let mut results = Vec::new();
        for hook in &mut self.hooks {
            hook.tell_counted(now, &self.source, at_end, &mut results);
        }
        self.count(&results);
    }

    fn count(&self, results: &[WebhookResult]) {
        for result in results {
            self.app.publishing.metrics.webhook(*result);
        }
    }

    /// One message for each receiver at a time.
    fn send(&mut self, now: Now) {
        let mut due = Vec::new();
        for hook in &mut self.hooks {
            due.extend(hook.next(now).map(|message| (hook.settings.clone(), message)));
        }
        for (settings, message) in due {
            self.fly(now, settings, message, None);
        }
    }

    fn fly(&mut self, now: Now, settings: Webhook, message: Waiting, test: Option<Order>) {
        let config = self.app.configuration.running.get();
        let folder = config.main().parent().unwrap_or(Path::new("")).to_owned();
        self.flying.spawn_local(async move {
            let outcome = deliver(&settings, &folder, &message.id, message.body.clone(), now.utc_ms).await;
            Tried { hook: settings.name, message, outcome, test }
        });
    }

    fn finish_try(&mut self, tried: Tried) {
        let now = self.app.deciding.clock.now();
        let Tried { hook: name, message, outcome, test } = tried;
        let Some(hook) = self.hooks.iter_mut().find(|hook| hook.settings.name == name) else { return };
        let mut results = Vec::new();
        let mut entry = match &test {
            None => hook.finish_try(now, &message, &outcome, &mut results),
            Some(_) => {
                let result = if outcome.is_success() { WebhookResult::Delivered } else { WebhookResult::Failed };
                if outcome.is_success() {
                    hook.recovered(now);
                }
                Entry::new(now, &message, &outcome, result)
            }
        };
        self.app.publishing.webhooks.log(&name, &mut entry);
        let Entry { result, status, duration_ms, error, attempt, .. } = &entry;
        let (id, about, result) = (&message.id, &message.about, result.as_str());
        if outcome.is_success() {
            tracing::info!(webhook = %name, id, about, result, status, duration_ms, attempt, "webhook");
        } else {
            tracing::warn!(webhook = %name, id, about, result, status, duration_ms, attempt, error, "webhook");
        }
        // Whoever is answered sees what came of it.
        hook.show(&self.app.publishing.webhooks);
        self.count(&results);
        if let Some(order) = test {
            // Who asked may have gone meanwhile.
            let _ = order.reply.send(entry);
        }
    }

    /// Sends a test now, whatever waits.
    fn try_out(&mut self, order: Order) {
        let now = self.app.deciding.clock.now();
        self.follow_config(now);
        // Whoever asked for one that is gone meanwhile is told by the silence.
        let Some(hook) = self.hooks.iter().find(|hook| hook.settings.name == order.hook) else { return };
        let text = "somebody tries this webhook: `usherd webhook test`";
        let notice = Notice::new(Topic::Test, &Name::default(), now.utc_ms).with("message", text);
        let message = message(now, &self.source, &notice, 0);
        self.fly(now, hook.settings.clone(), message, Some(order));
    }

    fn save(&mut self, now: Now) {
        for hook in &mut self.hooks {
            let name = &hook.settings.name;
            match hook.queue.save(now) {
                Ok(()) => self.app.publishing.webhooks.show_unsaved(name, None),
                Err(error) => {
                    tracing::error!(webhook = %name, %error, "what waits for a webhook cannot be stored; a restart would forget it");
                    self.app.publishing.webhooks.show_unsaved(name, Some(error.to_string()));
                }
            }
        }
    }

    fn show(&self) {
        self.hooks.iter().for_each(|hook| hook.show(&self.app.publishing.webhooks));
        self.app.publishing.metrics.webhooks_waiting(self.hooks.iter().map(|hook| hook.queue.len()).sum());
    }

    /// Keeps what happened up to the end for the next start.
    fn end(&mut self) {
        let now = self.app.deciding.clock.now();
        if self.app.serving.is_ready() && !self.hooks.is_empty() {
            self.overhear(now);
            self.tell_missed(now, true);
            self.tell_counted(now, true);
            self.save(now);
        }
    }
}

fn worth(tenant: &Tenant, at: Timelines) -> Worth {
    let entitlement = tenant.entitlement(at);
    Worth { state: entitlement.state, seats: entitlement.seats }
}

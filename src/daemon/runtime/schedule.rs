//! Applies what subscriptions booked at its second, tenant by tenant, and tells of it once (H5, H6, J6, J13).
//!
//! Due dates are kept in order, so that nobody walks all tenants each second. They are walked at the
//! start, after a reload, after a step of the wall clock and when it is trusted again: then every tenant is put
//! to what its record says at that instant, and nothing is done or told where the engine has that in force.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use usherd_engine::plan::Entitled;
use usherd_engine::{Engine, Name, Now, Standing};
use usherd_subscription::entitlement::{Timelines, ends_at};
use usherd_subscription::policy::AfterEnd;
use usherd_subscription::reminder;

use crate::daemon::app::recorder::Recorder;
use crate::daemon::app::timeline::{Seen, Step};
use crate::daemon::app::{App, Deciding, Journal};
use crate::daemon::config::Tenant;
use crate::daemon::events::{Event, EventResult, EventType};
use crate::daemon::journal::{Audit, AuditKind, RecordBuilder, TurnWriter};
use crate::daemon::metrics::{ReloadResult, ReloadTrigger, Shard as Counts};
use crate::daemon::text::{rfc3339, utc};

/// How often it is noted that the wall clock is trusted, milliseconds.
const TRUST_EVERY_MS: u64 = 300_000;
/// Tenants that are settled in one record of the journal: midnight is due for many at once.
const BATCH_MAX: usize = 256;

/// The schedule, which puts subscriptions into force as time passes.
pub(super) struct Schedule {
    app: App,
    writer: TurnWriter<Journal>,
    counts: Counts,
    /// When to look at a tenant again, milliseconds since 1970 UTC by the wall clock.
    due: BTreeSet<(i64, Name)>,
    /// Trunk lines ended without seats: they are in a tenant's rules, which only a new plan changes.
    plans_changed: bool,
    /// Until when all was applied and told before the stop, while nobody trusts the clock that the start found.
    stopped: Option<DateTime<Utc>>,
    /// When synced records were confirmed is still to be put right.
    unsettled: bool,
    /// When it is noted again that the clock is trusted, uptime milliseconds.
    trust_at: u64,
    /// The wall clock is trusted again: what was refused by a wrong one may be good.
    trusted_again: bool,
}

impl Schedule {
    /// Knows nothing until [`Schedule::begin`].
    pub(super) fn new(app: App, writer: TurnWriter<Journal>) -> Self {
        let counts = app.publishing.metrics.shard();
        Schedule {
            app,
            writer,
            counts,
            due: BTreeSet::new(),
            plans_changed: false,
            stopped: None,
            unsettled: false,
            trust_at: 0,
            trusted_again: false,
        }
    }

    /// When something is due, milliseconds since 1970 UTC; `None` where nothing is booked.
    pub(super) fn next_utc_ms(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// True if the engine needs a new plan since this was asked last.
    pub(super) fn take_plans_changed(&mut self) -> bool {
        std::mem::take(&mut self.plans_changed)
    }

    /// True if the wall clock became trusted again since this was asked last.
    pub(super) fn take_trusted_again(&mut self) -> bool {
        std::mem::take(&mut self.trusted_again)
    }

    /// After a recovery: tells what became due since all was applied and told, which is in force already (H6), and
    /// goes on with the drains that were under way. Where the clock stepped over the stop they wait until it is trusted.
    pub(super) fn begin(&mut self, now: Now, step: Option<Step>) {
        let settled = self.app.deciding.marks.applied_until_utc_ms().map(|until| utc(Now { utc_ms: until, ..now }));
        if let Some(step) = step {
            self.turn(now, |turn| turn.tell_start(step));
            self.stopped = settled;
        }
        if let Some(stopped) = settled.filter(|stopped| step.is_some() || *stopped < utc(now)) {
            for batch in self.all().chunks(BATCH_MAX) {
                self.turn(now, |turn| batch.iter().for_each(|tenant| turn.catch_up(tenant, stopped)));
            }
        }
        self.refresh(now);
    }

    /// Looks at the clocks, and applies what is due.
    pub(super) fn tick(&mut self, now: Now) {
        self.seek_proof(now);
        let seen = self.app.deciding.timeline.lock().observe(now);
        match seen {
            Seen::Step(step) => {
                self.app.deciding.engine.hold_ends();
                self.turn(now, |turn| turn.tell_step(step));
                return self.refresh(now);
            }
            Seen::Trusted => {
                self.trusted_again = true;
                let text = "the wall clock is trusted again: it alone decides what subscriptions are worth";
                self.turn(now, |turn| turn.tell_clock(text));
                self.unsettled = !self.app.configuration.redate_confirmation(now);
                // Whoever has a subscription again is taken out first: of the rest the end takes effect now.
                self.refresh(now);
                return self.release_ends(now);
            }
            Seen::Nothing => self.note_trust(now),
        }
        if self.unsettled && self.app.deciding.is_clock_trusted(now) {
            self.unsettled = !self.app.configuration.redate_confirmation(now);
            self.refresh(now);
        }
        let config = self.app.configuration.running.get();
        while self.next_utc_ms().is_some_and(|at| at <= now.utc_ms) {
            let due = std::iter::from_fn(|| match self.due.first() {
                Some((at, _)) if *at <= now.utc_ms => self.due.pop_first(),
                _ => None,
            });
            let due: Vec<_> = due.take(BATCH_MAX).filter_map(|(_, id)| config.tenants.get(&id).cloned()).collect();
            let last = self.next_utc_ms().is_none_or(|at| at > now.utc_ms);
            self.apply_due(&due, now, last);
        }
    }

    /// After a step over a stop the kernel may know by now that a time server keeps the clock.
    fn seek_proof(&self, now: Now) {
        let waits = self.app.deciding.timeline.lock().wait(now).is_some_and(|wait| wait.for_proof);
        if waits && self.app.deciding.clock.is_synchronised() == Some(true) {
            self.app.deciding.timeline.lock().prove();
            let text = "the kernel says that a time server keeps the wall clock: no confirmation is required any more";
            self.turn(now, |turn| turn.tell_clock(text));
        }
    }

    /// Every few minutes the journal hears which instant was trusted, for the next start to compare with.
    fn note_trust(&mut self, now: Now) {
        if self.trust_at <= now.uptime_ms {
            self.trust_at = now.uptime_ms + TRUST_EVERY_MS;
            self.trust(now);
        }
    }

    /// The same at once: before a stop.
    pub(super) fn trust(&self, now: Now) {
        if self.app.deciding.is_clock_trusted(now) {
            self.turn(now, |turn| turn.deciding.marks.trust(now.utc_ms, turn.group));
        }
    }

    /// Ends, for pairings and clients too, what ended while the clock was not trusted.
    fn release_ends(&mut self, now: Now) {
        let stopped = self.stopped.take();
        let config = self.app.configuration.running.get();
        self.turn(now, |turn| {
            let mut recorder = Recorder::new(turn.group, turn.counts, Some(&mut *turn.events), now.utc_ms);
            let ended = turn.deciding.engine.release_ends(now, &mut recorder);
            for tenant in ended.iter().filter_map(|id| config.tenants.get(id)) {
                match stopped.filter(|stopped| tenant.entitled(*stopped).standing == Standing::Ended) {
                    Some(_) => turn.go_on_draining(tenant),
                    None => turn.end(tenant),
                }
            }
        });
    }

    /// Puts every tenant to what its record says now, and finds out what is due next.
    pub(super) fn refresh(&mut self, now: Now) {
        self.due.clear();
        let all = self.all();
        let mut batches = all.chunks(BATCH_MAX).peekable();
        while let Some(batch) = batches.next() {
            self.apply_due(batch, now, batches.peek().is_none());
        }
    }

    fn all(&self) -> Vec<Arc<Tenant>> {
        self.app.configuration.running.get().tenants.values().cloned().collect()
    }

    /// Tells what became due of tenants since another member applied and told all; `begin` has them decided here from then
    /// on, and nothing else is applied meanwhile.
    pub(super) fn take_over(
        &mut self,
        now: Now,
        tenants: &[Arc<Tenant>],
        told_until_utc_ms: Option<i64>,
        begin: impl FnOnce(),
    ) {
        begin();
        let told = told_until_utc_ms.map(|until| utc(Now { utc_ms: until, ..now }));
        let is_trusted = self.app.deciding.is_clock_trusted(now);
        for batch in tenants.chunks(BATCH_MAX) {
            self.turn(now, |turn| {
                for tenant in batch {
                    if let Some(told) = told.filter(|told| *told < utc(now)) {
                        turn.catch_up(tenant, told);
                    }
                    if is_trusted {
                        turn.remind(tenant, utc(now));
                    }
                }
                if is_trusted {
                    turn.deciding.marks.note_applied(now.utc_ms, turn.group);
                }
            });
        }
    }

    /// `last`: with these tenants all that is due is applied and told.
    fn apply_due(&mut self, tenants: &[Arc<Tenant>], now: Now, last: bool) {
        let at = self.app.deciding.timelines(now);
        let changed = self.turn(now, |turn| {
            let mut changed = false;
            for tenant in tenants {
                changed |= turn.entitle(tenant, tenant.entitled(at));
                // Who is to be told that data will be deleted is not decided by a clock that nobody trusts.
                if at.old.is_none() {
                    turn.remind(tenant, at.wall);
                }
            }
            if last && at.old.is_none() {
                turn.deciding.marks.note_applied(now.utc_ms, turn.group);
            }
            changed
        });
        if tenants.iter().any(|tenant| has_other_channels(&self.app.deciding.engine, now, tenant)) {
            self.plans_changed = true;
        }
        if changed {
            self.app.publishing.metrics.reloaded(ReloadTrigger::Schedule, ReloadResult::Applied);
        }
        self.due.extend(tenants.iter().filter_map(|tenant| Some((look_again(tenant, at)?, tenant.id.clone()))));
    }

    fn turn<R>(&self, now: Now, act: impl FnOnce(&mut ChangeContext<'_>) -> R) -> R {
        let mut events = Vec::new();
        let (result, ticket) = self.writer.record(now.utc_ms, |group| {
            act(&mut ChangeContext {
                deciding: &self.app.deciding,
                counts: &self.counts,
                now,
                group,
                events: &mut events,
            })
        });
        ticket.commit_detached();
        events.into_iter().for_each(|event| self.app.publishing.events.publish(event));
        result
    }
}

/// True if add-ons brought trunk lines that are gone (N10), while the engine still counts them.
fn has_other_channels(engine: &Engine, now: Now, tenant: &Tenant) -> bool {
    let extra = tenant.record.addons.iter().any(|addon| addon.extra.channels > 0);
    let view = extra.then(|| engine.tenant(now, &tenant.id)).flatten();
    view.is_some_and(|view| view.channels_limit != tenant.inclusive(utc(now)).channels)
}

/// When a tenant may change next or is to be reminded, in whole milliseconds not before it.
fn look_again(tenant: &Tenant, at: Timelines) -> Option<i64> {
    let change = tenant.next_plan_at(at);
    let reminder = reminder::next_at(&tenant.record, &tenant.terms, at.wall);
    let next = change.into_iter().chain(reminder).min()?;
    Some(next.timestamp_millis() + i64::from(next.timestamp_subsec_nanos() % 1_000_000 > 0))
}

/// The context of the changes and messages in one record of the journal.
pub(super) struct ChangeContext<'a> {
    pub(super) deciding: &'a Deciding,
    pub(super) counts: &'a Counts,
    pub(super) now: Now,
    pub(super) group: &'a mut RecordBuilder,
    /// To be published once the record is made.
    pub(super) events: &'a mut Vec<Event>,
}

impl ChangeContext<'_> {
    /// Puts a tenant to what it is entitled to; `false` where that is in force.
    fn entitle(&mut self, tenant: &Tenant, after: Entitled) -> bool {
        let view = self.deciding.engine.tenant(self.now, &tenant.id).filter(|view| view.configured);
        let before = view.map(|view| Entitled { standing: view.standing, seats: view.quota });
        let Some(before) = before.filter(|before| *before != after) else { return false };
        // Every member puts it into force, and the owner tells of it.
        if self.deciding.decides(&tenant.id) {
            self.tell(
                EventType::Subscription,
                Some(after.standing.into()),
                &tenant.id,
                sentence(tenant, before, after),
            );
            if after.standing == Standing::Ended {
                self.end(tenant);
            }
        }
        let mut recorder = Recorder::new(self.group, self.counts, Some(self.events), self.now.utc_ms);
        self.deciding.engine.entitle(self.now, &tenant.id, after, &mut recorder)
    }

    /// Tells what an end does to people (J6), and remembers until when; the engine does it. While ends are held nothing
    /// is done to anybody, and it is told once the clock is trusted.
    pub(super) fn end(&mut self, tenant: &Tenant) {
        if self.deciding.engine.holds_ends() {
            return;
        }
        let policy = &tenant.rules.policy;
        let drain_s = policy.end_drain_s;
        self.deciding.marks.drain(&tenant.id, self.now.utc_ms + i64::from(drain_s) * 1_000, self.group);
        let text = format!(
            "the end takes effect: desktop and guest sessions are closed within {drain_s} s, nodes log their clients off; pairings left the account, running calls are not cut"
        );
        self.tell(EventType::Subscription, Some(EventResult::Drains), &tenant.id, text);
        if policy.after_end == AfterEnd::Off {
            let text = "after_end = \"off\": the platform is asked to switch this phone system off; the daemon itself denies no inbound call";
            self.tell(EventType::Subscription, Some(EventResult::Off), &tenant.id, text.to_owned());
        }
    }

    /// Catches up on a tenant's changes since all was reported.
    fn catch_up(&mut self, tenant: &Tenant, stopped: DateTime<Utc>) {
        let (before, after) = (tenant.entitled(stopped), tenant.entitled(self.deciding.timelines(self.now)));
        if before != after {
            let text = sentence(tenant, before, after);
            let text = format!("{text}, while the daemon was stopped");
            self.tell(EventType::Subscription, Some(after.standing.into()), &tenant.id, text);
            if after.standing == Standing::Ended {
                self.end(tenant);
            }
        } else if after.standing == Standing::Ended && !self.deciding.engine.holds_ends() {
            self.go_on_draining(tenant);
        }
    }

    /// A tenant had ended before the stop: its clients have the rest of their time. Where nobody was told, because
    /// the files were changed while the daemon was stopped, they have the whole.
    fn go_on_draining(&mut self, tenant: &Tenant) {
        let end = ends_at(&tenant.record, &tenant.terms).map_or(i64::MAX, |end| end.timestamp_millis());
        let told = self.deciding.marks.drained_until_utc_ms(&tenant.id).filter(|until| *until >= end);
        if let Some(until) = told {
            let drain_ms = i64::from(tenant.rules.policy.end_drain_s) * 1_000;
            let left_ms = until.saturating_sub(self.now.utc_ms).clamp(0, drain_ms);
            self.deciding.engine.drain_by(&tenant.id, self.now.uptime_ms + left_ms.unsigned_abs());
        } else if self.deciding.engine.tenant(self.now, &tenant.id).is_some_and(|view| view.sessions > 0) {
            self.end(tenant);
        }
    }

    fn remind(&mut self, tenant: &Tenant, now: DateTime<Utc>) {
        let Some(reminder) = reminder::due(&tenant.record, &tenant.terms, now) else { return };
        if !self.deciding.decides(&tenant.id) {
            return;
        }
        if self.deciding.marks.remind(&tenant.id, &reminder, self.group) {
            self.tell(EventType::Reminder, None, &tenant.id, reminder.sentence());
        }
    }

    fn tell_step(&mut self, step: Step) {
        let by_s = i128::from(step.utc_ms) - i128::from(step.expected_utc_ms);
        let text = format!(
            "the wall clock stepped by {} s, from {} to {}: for 10 minutes each subscription is worth the more generous of what both times give",
            by_s / 1_000,
            rfc3339(step.expected_utc_ms),
            rfc3339(step.utc_ms)
        );
        self.tell_clock(&text);
    }

    fn tell_start(&mut self, step: Step) {
        let by_s = i128::from(step.utc_ms) - i128::from(step.expected_utc_ms);
        let text = format!(
            "the wall clock stepped by {} s over the stop, from {}, the last instant that was trusted, to {}: for 10 minutes, and until a time server keeps the clock or somebody says `usherd clock trust`, each subscription is worth the more generous of what both times give, and no end takes a pairing or closes a client",
            by_s / 1_000,
            rfc3339(step.expected_utc_ms),
            rfc3339(step.utc_ms)
        );
        self.tell_clock(&text);
    }

    fn tell_clock(&mut self, text: &str) {
        tracing::warn!("{text}");
        self.group.audit(&Audit { text, actor: "clock", ..Audit::new(AuditKind::System) });
        self.events.push(Event::plain(EventType::ClockStep, self.now.utc_ms, text));
    }

    fn tell(&mut self, kind: EventType, result: Option<EventResult>, tenant: &Name, text: String) {
        tracing::info!(tenant = %tenant, "{text}");
        self.group.audit(&Audit { tenant, text: &text, actor: "schedule", ..Audit::new(AuditKind::Request) });
        self.events.push(Event { tenant: tenant.clone(), result, ..Event::plain(kind, self.now.utc_ms, text) });
    }
}

impl From<Standing> for EventResult {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Active => EventResult::Active,
            Standing::Suspended => EventResult::Suspended,
            Standing::Stale => EventResult::Stale,
            Standing::Ended => EventResult::Ended,
        }
    }
}

/// The change that took effect, with what was before, as a sentence.
fn sentence(tenant: &Tenant, before: Entitled, after: Entitled) -> String {
    let seats = |of: Entitled| of.seats.map_or("unlimited".to_owned(), |seats| seats.to_string());
    let what = match (before.standing, after.standing) {
        (before, after) if before == after => "a booked change took effect".to_owned(),
        (_, Standing::Active) => "the subscription gives seats again".to_owned(),
        (_, Standing::Suspended) => "the subscription is suspended".to_owned(),
        (_, Standing::Stale) => {
            format!("the subscription was not confirmed for {} days and is stale", tenant.terms.stale_after_days)
        }
        (_, Standing::Ended) => "the subscription ended".to_owned(),
    };
    format!("{what}: {} seats, before {}", seats(after), seats(before))
}

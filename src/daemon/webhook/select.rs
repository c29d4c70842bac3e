//! The choice of events and states that are worth a message. Pure: it is told the time and everything else.

use std::collections::HashMap;

use usherd_engine::{Code, Kind, Name, Now, TenantView};
use usherd_subscription::entitlement::State;

use super::event::{Notice, Topic};
use crate::daemon::config::HookType;
use crate::daemon::events::{Event, EventResult, EventType};

/// A tenant that was not full for so long and is again is news, milliseconds.
const CALM_MS: u64 = 60_000;

/// The worth of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worth {
    pub(crate) state: State,
    /// `None` is unlimited.
    pub(crate) seats: Option<u32>,
}

/// The state of the choice, as far as it says what is news.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    /// When a tenant was last seen full, and over, uptime milliseconds; only those that were lately.
    full: HashMap<Name, u64>,
    over: HashMap<Name, u64>,
    /// True if a first look was taken: what is the case then is not news.
    looked: bool,
    worth: HashMap<Name, Worth>,
    sync_failed: bool,
    /// Whom the last configuration that came made worth something else, and by which wall clock that was told,
    /// milliseconds since 1970 UTC.
    configured: HashMap<Name, i64>,
}

impl Selector {
    /// The type of message that an event is worth, if any; [`notice`] says it. Events about what a subscription is
    /// worth are for [`Selector::changed`].
    pub(crate) fn heard(&mut self, event: &Event) -> Option<HookType> {
        let about = match (event.kind, event.result) {
            (EventType::Denied, _) => HookType::Denied,
            (EventType::Emergency, _) => HookType::Emergency,
            (EventType::Node, Some(EventResult::Lost)) => HookType::NodeLost,
            (EventType::Node, Some(EventResult::Back)) => HookType::NodeBack,
            (EventType::Config, Some(EventResult::Rejected)) => HookType::ConfigRejected,
            (EventType::Config, _) => HookType::ConfigApplied,
            (EventType::Reminder, _) => HookType::Reminder,
            (EventType::ClockStep, _) => HookType::ClockStep,
            (EventType::Journal, Some(EventResult::Degraded)) => HookType::JournalDegraded,
            (EventType::Journal, _) => HookType::JournalWhole,
            (EventType::Sync, Some(EventResult::Refused | EventResult::Failed)) => HookType::SyncFailed,
            (EventType::Sync, _) if self.sync_failed => HookType::SyncRestored,
            (
                EventType::Granted | EventType::Released | EventType::Node | EventType::Sync | EventType::Subscription,
                _,
            ) => {
                return None;
            }
        };
        if event.kind == EventType::Sync {
            self.sync_failed = about == HookType::SyncFailed;
        }
        Some(about)
    }

    /// One tenant of a look at all of them, which [`Selector::looked`] ends.
    pub(crate) fn see(&mut self, now: Now, view: &TenantView, news: &mut Vec<Notice>) {
        let Some(quota) = view.quota.filter(|quota| view.held >= *quota && view.held > 0) else { return };
        let lately = |seen: u64| seen + CALM_MS > now.uptime_ms;
        let was_full = self.full.insert(view.id.clone(), now.uptime_ms).is_some_and(lately);
        let is_over = view.held > quota;
        let was_over = is_over && self.over.insert(view.id.clone(), now.uptime_ms).is_some_and(lately);
        // Who goes over the quota at once is told as that.
        let about = match (is_over, was_over, was_full) {
            (true, false, _) => HookType::Over,
            (false, _, false) => HookType::Full,
            _ => return,
        };
        if self.looked {
            news.push(Notice::new(Topic::Of(about), &view.id, now.utc_ms).with_seats(view.held, view.quota));
        }
    }

    /// All tenants were seen.
    pub(crate) fn looked(&mut self, now: Now) {
        self.looked = true;
        for seen in [&mut self.full, &mut self.over] {
            seen.retain(|_, at| *at + CALM_MS > now.uptime_ms);
        }
    }

    /// Compares the worth of all subscriptions after a new configuration: messages for those that changed.
    pub(crate) fn configured(&mut self, now: Now, all: HashMap<Name, Worth>, is_first: bool) -> Vec<Notice> {
        let before = std::mem::replace(&mut self.worth, all);
        self.configured.clear();
        if is_first {
            return Vec::new();
        }
        let gone = Worth { state: State::Ended, seats: Some(0) };
        let other = before.iter().filter_map(|(tenant, was)| {
            let is = self.worth.get(tenant).copied();
            let text = if is.is_some() {
                "the configuration says so"
            } else {
                "the tenant is not in the configuration any more"
            };
            let is = is.unwrap_or(gone);
            (is != *was).then(|| (tenant.clone(), change(now.utc_ms, tenant, Some(*was), is, text)))
        });
        let (tenants, news): (Vec<_>, Vec<_>) = other.unzip();
        self.configured.extend(tenants.into_iter().map(|tenant| (tenant, now.utc_ms)));
        news
    }

    /// Compares the worth of a subscription after an event that changed it.
    pub(crate) fn changed(&mut self, event: &Event, is: Worth) -> Option<Notice> {
        if event.kind != EventType::Subscription || matches!(event.result, Some(EventResult::Drains | EventResult::Off))
        {
            return None;
        }
        let was = self.worth.insert(event.tenant.clone(), is);
        // What became due while a configuration came was seen in it, and told, before its event.
        let is_told = self.configured.get(&event.tenant).is_some_and(|told_ms| *told_ms >= event.utc_ms);
        if is_told && was == Some(is) {
            return None;
        }
        Some(change(event.utc_ms, &event.tenant, was, is, &event.message))
    }
}

/// The message about an event.
pub(crate) fn notice(about: HookType, event: &Event) -> Notice {
    let notice = Notice::new(Topic::Of(about), &event.tenant, event.utc_ms)
        .with("subject", event.subject.as_str())
        .with("session", event.session.as_str())
        .with("kind", event.session_kind.map_or("", Kind::as_str))
        .with("code", event.code.map_or("", Code::as_str))
        .with("detail", event.detail.as_str())
        .with("node", event.node.as_str())
        .with("message", event.message.as_str());
    match event.seats {
        Some((held, quota)) if about == HookType::Denied => notice.with_seats(held, quota),
        _ => notice,
    }
}

fn change(utc_ms: i64, tenant: &Name, was: Option<Worth>, is: Worth, message: &str) -> Notice {
    let notice = Notice::new(Topic::Of(HookType::StateChanged), tenant, utc_ms)
        .with("state", is.state.as_str())
        .with("seats", is.seats)
        .with("message", message);
    match was {
        Some(was) if was != is => notice.with("state_before", was.state.as_str()).with("seats_before", was.seats),
        _ => notice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use usherd_engine::Standing;

    fn at(seconds: u64) -> Now {
        Now { uptime_ms: 1_000_000 + seconds * 1_000, utc_ms: (seconds * 1_000) as i64 }
    }

    fn view(held: u32, quota: Option<u32>) -> TenantView {
        TenantView {
            id: "acme".into(),
            generation: 0,
            standing: Standing::Active,
            quota,
            held,
            peak: held,
            peak_now: held,
            sessions: held,
            channels_inbound: 0,
            channels_outbound: 0,
            channels_limit: None,
            denials: 0,
            seat_ms: None,
            saturated_ms: None,
            configured: true,
        }
    }

    fn words(news: impl IntoIterator<Item = Notice>) -> String {
        let word = |notice: Notice| match notice.about {
            Topic::Of(kind) => kind.as_str(),
            other => other.as_str(),
        };
        news.into_iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn full_is_told_once_until_it_was_calm_for_a_minute() {
        let mut selector = Selector::default();
        let mut look = |second, held, quota| {
            let mut news = Vec::new();
            selector.see(at(second), &view(held, quota), &mut news);
            selector.looked(at(second));
            words(news)
        };
        let ten = Some(10);
        for (second, held, quota, news) in [
            (0, 9, ten, ""),
            (1, 10, ten, "full"),
            (2, 10, ten, ""),
            (3, 9, ten, ""),
            (60, 10, ten, ""),
            (61, 9, ten, ""),
            (119, 9, ten, ""),
            (120, 10, ten, "full"),
            (121, 11, ten, "over"),
            (122, 12, ten, ""),
            (123, 10, ten, ""),
            (150, 11, ten, ""),
            (300, 11, ten, "over"),
            (500, 0, Some(0), ""),
            (501, 3, Some(0), "over"),
            (700, 900, None, ""),
        ] {
            assert_eq!(look(second, held, quota), news, "second {second}");
        }
    }

    #[test]
    fn a_look_at_100_000_tenants_finds_the_one_that_is_full() {
        let policy = std::sync::Arc::new(usherd_engine::Policy::default());
        let entitled = usherd_engine::Entitled { standing: Standing::Active, seats: Some(1) };
        let tenant = |n: u32| usherd_engine::TenantPlan {
            id: format!("tenant-{n:06}").into(),
            entitled,
            policy: std::sync::Arc::clone(&policy),
            reserve: Vec::new(),
            pool: None,
        };
        let engine = usherd_engine::Engine::new(usherd_engine::Limits::default());
        let plan =
            usherd_engine::Plan { tenants: (0..100_000).map(tenant).collect(), ..usherd_engine::Plan::default() };
        engine.install(at(0), plan, &mut ());
        let mut selector = Selector::default();
        let mut look = |second| {
            let (mut news, began) = (Vec::new(), crate::daemon::clock::monotonic_ns());
            engine.each_tenant(at(second), |view| selector.see(at(second), view, &mut news));
            selector.looked(at(second));
            println!("a look at 100,000 tenants took {} us", (crate::daemon::clock::monotonic_ns() - began) / 1_000);
            news
        };
        assert!(look(0).is_empty());
        let asked = usherd_engine::Acquire {
            ttl_s: Some(60),
            ..usherd_engine::Acquire::new("tenant-054321", "a", "a", Kind::Desktop)
        };
        engine.acquire(at(0), &asked, &mut ()).unwrap();
        assert_eq!(look(1).iter().map(|notice| notice.tenant.as_str()).collect::<Vec<_>>(), ["tenant-054321"]);
        assert!(look(2).is_empty());
    }

    #[test]
    fn what_was_the_case_at_the_first_look_is_no_news() {
        let mut selector = Selector::default();
        let mut news = Vec::new();
        selector.see(at(0), &view(10, Some(10)), &mut news);
        selector.looked(at(0));
        selector.see(at(1), &view(10, Some(10)), &mut news);
        assert_eq!(words(news), "");
    }

    #[test]
    fn each_event_is_of_one_type_or_of_none() {
        let mut selector = Selector::default();
        for (kind, result, about) in [
            (EventType::Granted, "", ""),
            (EventType::Released, "", ""),
            (EventType::Denied, "", "denied"),
            (EventType::Emergency, "", "emergency"),
            (EventType::Node, "hello", ""),
            (EventType::Node, "goodbye", ""),
            (EventType::Node, "lost", "node_lost"),
            (EventType::Node, "back", "node_back"),
            (EventType::Config, "rejected", "config_rejected"),
            (EventType::Config, "applied", "config_applied"),
            (EventType::Subscription, "ended", ""),
            (EventType::Reminder, "", "reminder"),
            (EventType::ClockStep, "", "clock_step"),
            (EventType::Journal, "degraded", "journal_degraded"),
            (EventType::Journal, "whole", "journal_whole"),
            (EventType::Sync, "applied", ""),
            (EventType::Sync, "failed", "sync_failed"),
            (EventType::Sync, "refused", "sync_failed"),
            (EventType::Sync, "unchanged", "sync_restored"),
            (EventType::Sync, "applied", ""),
        ] {
            let result = EventResult::from_word(result);
            let heard = selector.heard(&Event { result, ..Event::plain(kind, 0, "") });
            assert_eq!(heard.map_or("", HookType::as_str), about, "{kind:?} {result:?}");
        }
    }

    #[test]
    fn a_subscription_is_told_when_it_is_worth_something_else() {
        let mut selector = Selector::default();
        let active = Worth { state: State::Active, seats: Some(10) };
        let all = |worth: &[(&str, Worth)]| worth.iter().map(|(tenant, worth)| (Name::from(*tenant), *worth)).collect();
        assert!(selector.configured(at(0), all(&[("a", active), ("b", active)]), true).is_empty());
        let ended = Worth { state: State::Ended, seats: Some(0) };
        let mut news = selector.configured(at(1), all(&[("a", ended), ("new", active)]), false);
        news.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        assert_eq!(
            (news.len(), &news[0].data["state_before"], &news[0].data["state"]),
            (2, &json!("active"), &json!("ended"))
        );
        assert_eq!((news[1].tenant.as_str(), &news[1].data["seats"]), ("b", &json!(0)));
        let event =
            |result| Event { tenant: "new".into(), ..Event::came_to(EventType::Subscription, result, 0, "booked") };
        let less = Worth { state: State::Active, seats: Some(6) };
        let told = selector.changed(&event(EventResult::Active), less).unwrap();
        assert_eq!((&told.data["seats"], &told.data["seats_before"]), (&json!(6), &json!(10)));
        assert_eq!(selector.changed(&event(EventResult::Drains), ended), None);
    }

    #[test]
    fn what_is_due_while_a_configuration_comes_is_told_once() {
        let mut selector = Selector::default();
        let worth = |seats| Worth { state: State::Active, seats: Some(seats) };
        let all = |seats| HashMap::from([(Name::from("acme"), worth(seats))]);
        selector.configured(at(0), all(2), true);
        let event = |utc_ms| Event {
            tenant: "acme".into(),
            ..Event::came_to(EventType::Subscription, EventResult::Active, utc_ms, "booked")
        };
        // Seen in the configuration before the event is heard, and the other way round.
        assert_eq!(selector.configured(at(60), all(1), false).len(), 1);
        assert_eq!(selector.changed(&event(60_000), worth(1)), None);
        assert!(selector.changed(&event(61_000), worth(3)).is_some());
        assert!(selector.configured(at(61), all(3), false).is_empty());
        assert!(selector.changed(&event(61_000), worth(3)).is_some(), "no configuration told it");
    }
}

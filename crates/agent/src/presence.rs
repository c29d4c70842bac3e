//! Presence: which devices are somebody's open desktop client or paired mobile, by configured rules.
//!
//! Pure: time comes in with every call. A desktop is given back when its device was gone for the grace (B1, G6): a
//! PBX that restarts, or a network that flaps, closes no client. No grace begins because the PBX cannot be
//! asked. A mobile is never given back: a pairing lives until it is unpaired, whether or not the app can be reached
//! (B2), and that only the platform knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use usherd_client::Ask;
use usherd_contract::names::Name;
use usherd_contract::words::Kind;

use super::names;

/// Most devices that are remembered for one source; the rest is not reported and counts in the metrics.
pub const DEVICES_MAX: usize = 10_000;

/// A rule that says whose desktop or mobile a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The device as the PBX names it; one `*` stands for anything.
    pub device: String,
    /// The subject that holds the seat; `*` is replaced with what the `*` of the device stood for.
    pub subject: String,
    /// The tenant.
    pub tenant: Name,
    /// Desktop or mobile.
    pub kind: Kind,
}

impl Rule {
    /// The part of the device that the `*` stands for; `None` where the device does not match.
    fn part<'d>(&self, device: &'d str) -> Option<&'d str> {
        let Some((before, behind)) = self.device.split_once('*') else {
            return (self.device == device).then_some("");
        };
        device.strip_prefix(before)?.strip_suffix(behind).filter(|part| !part.is_empty())
    }
}

/// The devices of one source.
#[derive(Debug)]
pub struct Presence {
    prefix: String,
    rules: Vec<Rule>,
    devices: BTreeMap<String, Device>,
    queue: Queue,
    /// The time since which the PBX has not said who is there; at the start it has not yet.
    away: Option<Duration>,
    left_out: usize,
    /// True if the desktops that hold a seat changed since this was last reset.
    pub changed: bool,
}

#[derive(Debug)]
struct Device {
    ask: Ask,
    /// True if it holds a seat.
    held: bool,
    /// Its place in the queue.
    place: Option<u64>,
    /// True while usherd is asked for its seat.
    is_asked_for: bool,
    /// True if a script gave its session back: it is not acquired again before it went and came.
    over: bool,
    /// The time since which it cannot be reached.
    gone: Option<Duration>,
    /// True if it held a seat when the agent stopped, and its PBX has not reported on it since.
    is_restored: bool,
}

/// The devices that are to be acquired, by their places: one that goes is found by its own.
#[derive(Debug, Default)]
struct Queue {
    names: BTreeMap<u64, String>,
    /// The last place that was given.
    last: u64,
}

impl Queue {
    fn join(&mut self, name: &str) -> Option<u64> {
        self.last += 1;
        self.names.insert(self.last, name.to_owned());
        Some(self.last)
    }

    fn leave(&mut self, place: Option<u64>) {
        place.map(|place| self.names.remove(&place));
    }
}

impl Presence {
    /// No devices yet, by these rules, of which the first that matches counts; `prefix` keeps the sessions of sources
    /// apart.
    pub fn new(prefix: &str, rules: Vec<Rule>) -> Self {
        Presence {
            prefix: prefix.to_owned(),
            rules,
            devices: BTreeMap::new(),
            queue: Queue::default(),
            away: Some(Duration::ZERO),
            left_out: 0,
            changed: false,
        }
    }

    /// Takes up the desktops that held a seat when the agent stopped: nobody knows yet whether they are there, so
    /// they have the grace from the start on. And those, `true`, whose seat a script gave back while they stayed: they
    /// are not asked for before they went and came.
    pub fn restore(&mut self, devices: impl IntoIterator<Item = (String, bool)>) {
        for (name, is_over) in devices {
            // A rule may have made mobiles of desktops meanwhile: those are asked for when they are seen.
            let is_desktop = || self.ask(&name).is_some_and(|ask| ask.kind == Kind::Desktop);
            if !(is_over || is_desktop()) || !self.set(Duration::ZERO, Duration::ZERO, &name, true) {
                continue;
            }
            let Some(device) = self.devices.get_mut(&name) else { continue };
            if is_over {
                device.over = true;
                self.queue.leave(device.place.take());
            } else {
                (device.gone, device.is_restored) = (Some(Duration::ZERO), true);
            }
        }
    }

    /// A device came, or went, and has its `grace` from now on; returns true if it is new.
    pub fn set(&mut self, now: Duration, grace: Duration, name: &str, on: bool) -> bool {
        if !on {
            self.mark_gone(self.gone_since(now, grace), name);
            return false;
        }
        if let Some(device) = self.devices.get_mut(name) {
            (device.gone, device.is_restored) = (None, false);
            return false;
        }
        let Some(ask) = self.ask(name) else { return false };
        if self.devices.len() >= DEVICES_MAX {
            self.left_out += 1;
            return false;
        }
        let place = self.queue.join(name);
        let device =
            Device { ask, held: false, place, is_asked_for: false, over: false, gone: None, is_restored: false };
        self.devices.insert(name.to_owned(), device);
        true
    }

    /// These devices are there and no others. Refused ones are tried again.
    pub fn present(&mut self, now: Duration, grace: Duration, devices: &[String]) {
        let since = self.gone_since(now, grace);
        for device in devices {
            self.set(now, grace, device, true);
        }
        for (name, device) in &mut self.devices {
            if since == now && self.away.is_some() {
                // No device could come back before the PBX did.
                device.gone = device.gone.map(|_| now);
            }
            if !device.held && !device.over && !device.is_asked_for && device.place.is_none() {
                device.place = self.queue.join(name);
            }
        }
        let there: BTreeSet<&str> = devices.iter().map(String::as_str).collect();
        let gone: Vec<String> = self.devices.keys().filter(|name| !there.contains(name.as_str())).cloned().collect();
        for name in gone {
            self.mark_gone(since, &name);
        }
        self.away = None;
    }

    /// The PBX cannot be asked any more.
    pub fn lost(&mut self, now: Duration) {
        self.away.get_or_insert(now);
    }

    /// The PBX is back and says nothing of who is there: only what it tells of single devices counts.
    pub fn unsure(&mut self) {
        self.away = None;
    }

    /// The time since which a missing device counts as gone: since its PBX went, or, where that was away longer than
    /// the grace, since its return.
    fn gone_since(&self, now: Duration, grace: Duration) -> Duration {
        self.away.filter(|lost| now < *lost + grace).unwrap_or(now)
    }

    /// Removes the devices whose grace is over, and returns the sessions to give back.
    pub fn expire(&mut self, now: Duration, grace: Duration) -> Vec<(Name, Name)> {
        let is_over = |device: &Device| self.reported_gone(device).is_some_and(|gone| now >= gone + grace);
        let over: Vec<String> =
            self.devices.iter().filter(|(_, device)| is_over(device)).map(|(name, _)| name.clone()).collect();
        over.iter().filter_map(|name| self.remove(name)).collect()
    }

    /// The time at which the next grace is over.
    pub fn next_expiry(&self, grace: Duration) -> Option<Duration> {
        let gone = self.devices.values().filter_map(|device| self.reported_gone(device)).min();
        gone.map(|gone| gone + grace)
    }

    /// The time since which a device is gone, where its PBX reported that before it went itself.
    fn reported_gone(&self, device: &Device) -> Option<Duration> {
        let said = device.gone.filter(|_| !device.is_restored);
        said.filter(|gone| self.away.is_none_or(|away| *gone < away))
    }

    /// The next device to acquire.
    pub fn next_due(&mut self) -> Option<(String, Ask)> {
        let (_, name) = self.queue.names.pop_first()?;
        let device = self.devices.get_mut(&name)?;
        (device.place, device.is_asked_for) = (None, true);
        let ask = device.ask.clone();
        Some((name, ask))
    }

    /// Takes the answer for a device of [`Presence::next_due`]; true if it went meanwhile and its session is to be
    /// released.
    pub fn answered(&mut self, name: &str, allowed: bool) -> bool {
        let Some(device) = self.devices.get_mut(name) else { return allowed };
        // What a script gave back meanwhile is given back.
        let held = allowed && !device.over;
        self.changed |= device.held != held && device.ask.kind == Kind::Desktop;
        (device.held, device.is_asked_for) = (held, false);
        if !allowed && device.gone.is_some() {
            self.forget(name);
        }
        false
    }

    /// A script gave a session back: where it is that of a device, as of a mobile that is unpaired, the device holds
    /// nothing any more.
    pub fn released(&mut self, tenant: &Name, session: &Name) {
        // Most sessions are calls, which need no search.
        if !session.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.starts_with('-')) {
            return;
        }
        let is_its =
            |device: &&mut Device| device.ask.tenant == *tenant && device.ask.session.as_ref() == Some(session);
        if let Some(device) = self.devices.values_mut().find(is_its) {
            self.changed |= device.held || !device.over;
            (device.held, device.over) = (false, true);
        }
    }

    /// Devices that hold a seat.
    pub fn held(&self) -> usize {
        self.devices.values().filter(|device| device.held).count()
    }

    /// Of these, those that cannot be reached.
    pub fn in_grace(&self) -> usize {
        self.devices.values().filter(|device| device.held && device.gone.is_some()).count()
    }

    /// The number of times that a device matched a rule and was left out because there were too many.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The desktops that hold a seat.
    pub fn desktops(&self) -> impl Iterator<Item = &str> {
        let desktops = self.devices.iter().filter(|(_, device)| device.held && device.ask.kind == Kind::Desktop);
        desktops.map(|(name, _)| name.as_str())
    }

    /// Devices whose seat a script gave back while they stayed.
    pub fn over(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().filter(|(_, device)| device.over).map(|(name, _)| name.as_str())
    }

    fn mark_gone(&mut self, since: Duration, name: &str) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let stays = device.ask.kind == Kind::Mobile && !device.over;
        if stays || (device.gone.is_some() && !device.is_restored) {
            return;
        }
        device.is_restored = false;
        if device.held || device.is_asked_for {
            device.gone = Some(since);
        } else {
            self.changed |= device.over;
            self.forget(name);
        }
    }

    /// Takes it out of the queue, too: one that flaps would be in it many times.
    fn forget(&mut self, name: &str) -> Option<Device> {
        let device = self.devices.remove(name)?;
        self.queue.leave(device.place);
        Some(device)
    }

    fn remove(&mut self, name: &str) -> Option<(Name, Name)> {
        let device = self.forget(name)?;
        device.held.then_some(())?;
        self.changed = true;
        Some((device.ask.tenant, device.ask.session?))
    }

    fn ask(&self, device: &str) -> Option<Ask> {
        let (rule, part) = self.rules.iter().find_map(|rule| Some((rule, rule.part(device)?)))?;
        let subject = rule.subject.replacen('*', part, 1);
        let session = format!("{}-{device}", self.prefix);
        let (subject, session) = (names::subject(&subject), names::session(&session));
        let ask = Ask::new(rule.tenant.clone(), &*subject, &*session, rule.kind);
        ask.check().is_ok().then_some(ask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(device: &str, subject: &str, kind: Kind) -> Rule {
        Rule { device: device.to_owned(), subject: subject.to_owned(), tenant: "acme".into(), kind }
    }

    fn presence() -> Presence {
        let rules = vec![rule("Custom:client-*", "*", Kind::Desktop), rule("PJSIP/*-mobile", "*@acme", Kind::Mobile)];
        Presence::new("pbx1", rules)
    }

    fn all_due(presence: &mut Presence) -> Vec<(String, String)> {
        let due = std::iter::from_fn(|| presence.next_due());
        due.map(|(_, ask)| (ask.subject.unwrap().into(), ask.session.unwrap().into())).collect()
    }

    const GRACE: Duration = Duration::from_secs(30);

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_is_restored_is_not_gone_before_its_pbx_says_so() {
        let mut presence = presence();
        presence.restore(["anna", "bob"].map(|name| (format!("Custom:client-{name}"), false)));
        assert_eq!(all_due(&mut presence).len(), 2);
        for name in ["Custom:client-anna", "Custom:client-bob"] {
            presence.answered(name, true);
        }
        // The PBX is there, and its list breaks off.
        presence.unsure();
        assert!(presence.expire(at(300), GRACE).is_empty(), "nothing follows from a list in part");
        presence.set(at(300), GRACE, "Custom:client-bob", false);
        assert!(presence.expire(at(329), GRACE).is_empty());
        assert_eq!(presence.expire(at(330), GRACE).len(), 1, "bob: it said so");
        presence.present(at(400), GRACE, &[]);
        assert_eq!(presence.expire(at(430), GRACE), anna());
    }

    #[test]
    fn an_unpaired_mobile_is_not_acquired_after_a_restart_b2() {
        let mut before = presence();
        before.present(at(0), GRACE, &["PJSIP/anna-mobile".to_owned()]);
        assert_eq!(all_due(&mut before).len(), 1);
        before.answered("PJSIP/anna-mobile", true);
        before.changed = false;
        before.released(&"acme".into(), &"pbx1-PJSIP/anna-mobile".into());
        assert!(before.changed);
        let over: Vec<String> = before.over().map(str::to_owned).collect();

        let mut presence = presence();
        presence.restore(over.into_iter().map(|name| (name, true)));
        presence.present(at(1), GRACE, &["PJSIP/anna-mobile".to_owned()]);
        assert!(all_due(&mut presence).is_empty(), "the app is still registered, and nothing more");
        presence.present(at(2), GRACE, &[]);
        assert!(presence.changed && presence.over().next().is_none());
        presence.present(at(3), GRACE, &["PJSIP/anna-mobile".to_owned()]);
        assert_eq!(all_due(&mut presence).len(), 1, "it went and came");
    }

    #[test]
    fn a_device_that_flaps_is_asked_for_once() {
        let mut presence = presence();
        for _ in 0..100 {
            presence.set(at(1), GRACE, "Custom:client-anna", true);
            presence.set(at(1), GRACE, "Custom:client-anna", false);
        }
        presence.set(at(1), GRACE, "Custom:client-anna", true);
        assert_eq!(all_due(&mut presence).len(), 1);
    }

    fn anna() -> Vec<(Name, Name)> {
        vec![("acme".into(), "pbx1-Custom:client-anna".into())]
    }

    /// Anna's client is there and holds a seat.
    fn with_anna() -> Presence {
        let mut presence = presence();
        presence.present(at(0), GRACE, &["Custom:client-anna".to_owned()]);
        assert_eq!(all_due(&mut presence).len(), 1);
        presence.answered("Custom:client-anna", true);
        presence
    }

    #[test]
    fn a_desktop_gone_for_the_grace_is_released_b1_g6() {
        let mut presence = presence();
        presence.present(at(0), GRACE, &[]);
        assert!(presence.set(at(1), GRACE, "Custom:client-anna", true));
        assert!(!presence.set(at(1), GRACE, "Custom:client-anna", true));
        assert!(!presence.set(at(1), GRACE, "PJSIP/anna", true), "nobody's rule");
        assert_eq!(all_due(&mut presence), [("anna".to_owned(), "pbx1-Custom:client-anna".to_owned())]);
        assert!(!presence.answered("Custom:client-anna", true));
        assert_eq!((presence.held(), presence.in_grace()), (1, 0));
        presence.set(at(10), GRACE, "Custom:client-anna", false);
        presence.set(at(20), GRACE, "Custom:client-anna", false);
        assert_eq!((presence.held(), presence.in_grace(), presence.next_expiry(GRACE)), (1, 1, Some(at(40))));
        assert!(presence.expire(at(39), GRACE).is_empty());
        assert_eq!(presence.expire(at(40), GRACE), anna());
        assert!(presence.expire(at(41), GRACE).is_empty() && presence.next_expiry(GRACE).is_none());
    }

    #[test]
    fn who_is_back_within_the_grace_never_went_and_has_it_anew() {
        let mut presence = with_anna();
        for (gone, back) in [(10, 10), (10, 16), (20, 49)] {
            presence.set(at(gone), GRACE, "Custom:client-anna", false);
            assert!(presence.expire(at(back), GRACE).is_empty());
            presence.set(at(back), GRACE, "Custom:client-anna", true);
        }
        assert!(presence.next_due().is_none(), "nobody is asked for again");
        presence.present(at(60), GRACE, &[]);
        assert!(presence.expire(at(89), GRACE).is_empty());
        assert_eq!(presence.expire(at(90), GRACE), anna());
        let mut without = with_anna();
        without.set(at(5), Duration::ZERO, "Custom:client-anna", false);
        assert_eq!(without.expire(at(5), Duration::ZERO), anna(), "a grace of nothing");
    }

    #[test]
    fn grace_begins_when_the_pbx_goes_and_ends_only_when_it_is_back() {
        let mut presence = with_anna();
        presence.lost(at(100));
        presence.lost(at(110));
        presence.present(at(120), GRACE, &[]);
        assert!(presence.expire(at(129), GRACE).is_empty());
        assert_eq!(presence.expire(at(130), GRACE), anna());

        let mut long = with_anna();
        long.lost(at(100));
        assert!(long.expire(at(1_000), GRACE).is_empty() && long.next_expiry(GRACE).is_none());
        long.present(at(1_000), GRACE, &[]);
        assert!(long.expire(at(1_029), GRACE).is_empty(), "nobody could come back before the PBX did");
        assert_eq!(long.expire(at(1_030), GRACE), anna());

        let mut said_before = with_anna();
        said_before.set(at(95), GRACE, "Custom:client-anna", false);
        said_before.lost(at(100));
        assert!(said_before.expire(at(124), GRACE).is_empty());
        assert_eq!(said_before.expire(at(125), GRACE), anna(), "that is what the PBX said last");

        let mut told_by_events = with_anna();
        told_by_events.lost(at(100));
        told_by_events.unsure();
        told_by_events.set(at(110), GRACE, "Custom:client-anna", false);
        assert_eq!(told_by_events.expire(at(140), GRACE), anna());
    }

    #[test]
    fn a_restart_of_the_agent_leaves_the_grace() {
        let held: Vec<String> = with_anna().desktops().map(str::to_owned).collect();
        for back in [true, false] {
            let mut presence = presence();
            let others = ["PJSIP/nobody", "PJSIP/anna-mobile"].map(str::to_owned);
            presence.restore(held.iter().cloned().chain(others).map(|name| (name, false)));
            assert_eq!(all_due(&mut presence), [("anna".to_owned(), "pbx1-Custom:client-anna".to_owned())]);
            presence.answered("Custom:client-anna", true);
            presence.present(at(5), GRACE, &[]);
            assert!(presence.expire(at(29), GRACE).is_empty());
            presence.set(at(29), GRACE, "Custom:client-anna", back);
            assert_eq!(presence.expire(at(30), GRACE), if back { vec![] } else { anna() });
        }
        let mut refused = presence();
        refused.restore(held.into_iter().map(|name| (name, false)));
        refused.next_due();
        refused.answered("Custom:client-anna", false);
        assert!(refused.devices.is_empty(), "somebody else has the seat, and nobody waits for it");
    }

    #[test]
    fn a_mobile_stays_paired_when_it_sleeps_b2() {
        let mut presence = presence();
        presence.set(at(0), GRACE, "PJSIP/anna-mobile", true);
        assert_eq!(all_due(&mut presence)[0].0, "anna@acme");
        presence.answered("PJSIP/anna-mobile", true);
        presence.set(at(1), GRACE, "PJSIP/anna-mobile", false);
        presence.present(at(1), GRACE, &[]);
        assert!(presence.expire(at(1_000), GRACE).is_empty());
        assert_eq!((presence.held(), presence.desktops().count()), (1, 0));
    }

    #[test]
    fn a_refused_device_is_retried_and_a_gone_one_is_released() {
        let mut presence = presence();
        let there = ["Custom:client-anna".to_owned(), "Custom:client-bob".to_owned()];
        presence.present(at(0), GRACE, &there);
        assert_eq!(all_due(&mut presence).len(), 2);
        presence.answered(&there[0], false);
        presence.answered(&there[1], true);
        assert!(presence.next_due().is_none());
        presence.present(at(1), GRACE, &there);
        assert_eq!(all_due(&mut presence).len(), 1, "anna's again");
        presence.present(at(2), GRACE, &there[..1]);
        assert!(presence.expire(at(32), GRACE) == [("acme".into(), "pbx1-Custom:client-bob".into())]);
        // Anna's client closes for good while she is asked for.
        presence.set(at(40), GRACE, &there[0], false);
        assert!(presence.expire(at(70), GRACE).is_empty(), "she holds none yet");
        assert!(presence.answered(&there[0], true), "to be given back at once");
        // One that is only queued, or was refused, has nothing to keep.
        presence.set(at(80), GRACE, &there[0], true);
        presence.set(at(80), GRACE, &there[0], false);
        assert!(presence.next_due().is_none() && presence.devices.is_empty());
    }

    #[test]
    fn a_released_device_is_acquired_again_when_it_returns_b2() {
        for device in ["PJSIP/anna-mobile", "Custom:client-anna"] {
            let (mut presence, there) = (presence(), [device.to_owned()]);
            presence.present(at(0), GRACE, &there);
            let (_, ask) = presence.next_due().unwrap();
            presence.answered(device, true);
            let session = ask.session.unwrap();
            presence.released(&"other".into(), &session);
            presence.released(&"acme".into(), &"pbx1-1719.1".into());
            assert_eq!(presence.held(), 1);
            presence.released(&"acme".into(), &session);
            presence.present(at(60), GRACE, &there);
            presence.answered(device, true);
            assert!(presence.held() == 0 && presence.next_due().is_none(), "{device}");
            presence.present(at(120), GRACE, &[]);
            presence.present(at(180), GRACE, &there);
            assert!(presence.next_due().is_some(), "{device}");
        }
    }

    #[test]
    fn a_name_that_usherd_refuses_is_counted_under_another() {
        let long = format!("Custom:client-{}", "x".repeat(127));
        let mut presence = presence();
        for device in ["Custom:client-zo\u{eb}", &long, "Custom:client-a\u{1}b"] {
            presence.set(at(0), GRACE, device, true);
            let (_, ask) = presence.next_due().unwrap();
            assert!(ask.check().is_ok(), "{device}");
            assert!(ask.session.unwrap().starts_with("pbx1-Custom:client-"), "{device}");
            presence.answered(device, true);
        }
        presence.set(at(0), GRACE, "Custom:client-", true);
        assert!(presence.next_due().is_none(), "a rule's * stands for something");
        assert_eq!(presence.held(), 3);
    }
}

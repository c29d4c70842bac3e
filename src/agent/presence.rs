//! Who is present: which devices are somebody's open desktop client or paired mobile, by configured rules.
//!
//! Pure. A desktop is given back when its device goes (B1). A mobile is not: a pairing lives until it is
//! unpaired, whether or not the app can be reached (B2), and that only the platform knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::client::Ask;
use crate::engine::{Kind, Name};

/// Most devices that are remembered for one source; the rest is not reported and counts in the metrics.
pub const DEVICES_MAX: usize = 10_000;

/// Which devices mean what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The device as the PBX names it; one `*` stands for anything.
    pub device: String,
    /// Who holds the seat; `*` is replaced with what the `*` of the device stood for.
    pub subject: String,
    /// Whose phone system.
    pub tenant: Name,
    /// Desktop or mobile.
    pub kind: Kind,
}

impl Rule {
    /// What the `*` stands for; `None` where the device does not match.
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
    /// Those that are to be asked for, in their order.
    queue: VecDeque<String>,
    /// Devices that matched a rule and were not remembered because there were too many.
    pub left_out: u64,
}

#[derive(Debug)]
struct Device {
    ask: Ask,
    /// It holds a seat.
    held: bool,
    /// It is in the queue, or being asked for.
    asked: bool,
}

impl Presence {
    /// By these rules, the first that matches; `prefix` makes the sessions of this source unlike others'.
    pub fn new(prefix: &str, rules: Vec<Rule>) -> Self {
        Presence { prefix: prefix.to_owned(), rules, devices: BTreeMap::new(), queue: VecDeque::new(), left_out: 0 }
    }

    /// A device came, or went: then the session to give back, if there is one.
    pub fn set(&mut self, device: &str, on: bool) -> Option<(Name, Name)> {
        if !on {
            return self.remove(device);
        }
        if !self.devices.contains_key(device)
            && let Some(ask) = self.ask(device)
        {
            if self.devices.len() < DEVICES_MAX {
                self.devices.insert(device.to_owned(), Device { ask, held: false, asked: true });
                self.queue.push_back(device.to_owned());
            } else {
                self.left_out += 1;
            }
        }
        None
    }

    /// These devices are there and no others: the sessions to give back. Refused ones are tried again.
    pub fn present(&mut self, devices: &[String]) -> Vec<(Name, Name)> {
        for device in devices {
            self.set(device, true);
        }
        for (name, device) in &mut self.devices {
            if !device.held && !std::mem::replace(&mut device.asked, true) {
                self.queue.push_back(name.clone());
            }
        }
        let there: BTreeSet<&str> = devices.iter().map(String::as_str).collect();
        let gone: Vec<String> = self.devices.keys().filter(|name| !there.contains(name.as_str())).cloned().collect();
        gone.iter().filter_map(|device| self.remove(device)).collect()
    }

    /// A device to ask for next.
    pub fn due(&mut self) -> Option<(String, Ask)> {
        loop {
            let name = self.queue.pop_front()?;
            // It may have gone since it was queued.
            if let Some(device) = self.devices.get(&name) {
                let ask = device.ask.clone();
                return Some((name, ask));
            }
        }
    }

    /// The answer to [`Presence::due`]; whether the session is of no use because the device went meanwhile.
    pub fn answered(&mut self, device: &str, allowed: bool) -> bool {
        match self.devices.get_mut(device) {
            Some(device) => {
                (device.held, device.asked) = (allowed, false);
                false
            }
            None => allowed,
        }
    }

    /// Devices that hold a seat.
    pub fn held(&self) -> usize {
        self.devices.values().filter(|device| device.held).count()
    }

    fn remove(&mut self, name: &str) -> Option<(Name, Name)> {
        let device = self.devices.get(name)?;
        if device.ask.kind == Kind::Mobile {
            return None;
        }
        let device = self.devices.remove(name)?;
        device.held.then_some(())?;
        Some((device.ask.tenant, device.ask.session?))
    }

    fn ask(&self, device: &str) -> Option<Ask> {
        let (rule, part) = self.rules.iter().find_map(|rule| Some((rule, rule.part(device)?)))?;
        let subject = rule.subject.replacen('*', part, 1);
        let session = format!("{}-{device}", self.prefix);
        let ask = Ask::new(rule.tenant.clone(), subject, session, rule.kind);
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
        let due = std::iter::from_fn(|| presence.due());
        due.map(|(_, ask)| (ask.subject.unwrap().into(), ask.session.unwrap().into())).collect()
    }

    #[test]
    fn a_desktop_comes_and_goes_with_its_device_b1() {
        let mut presence = presence();
        assert_eq!(presence.set("Custom:client-anna", true), None);
        assert_eq!(presence.set("Custom:client-anna", true), None);
        assert_eq!(presence.set("PJSIP/anna", true), None, "nobody's rule");
        assert_eq!(all_due(&mut presence), [("anna".to_owned(), "pbx1-Custom:client-anna".to_owned())]);
        assert!(!presence.answered("Custom:client-anna", true));
        assert_eq!(presence.held(), 1);
        let gone = presence.set("Custom:client-anna", false);
        assert_eq!(gone, Some(("acme".into(), "pbx1-Custom:client-anna".into())));
        assert_eq!(presence.set("Custom:client-anna", false), None);
    }

    #[test]
    fn a_mobile_stays_paired_when_it_sleeps_b2() {
        let mut presence = presence();
        presence.set("PJSIP/anna-mobile", true);
        assert_eq!(all_due(&mut presence)[0].0, "anna@acme");
        presence.answered("PJSIP/anna-mobile", true);
        assert_eq!(presence.set("PJSIP/anna-mobile", false), None);
        assert!(presence.present(&[]).is_empty());
        assert_eq!(presence.held(), 1);
    }

    #[test]
    fn a_refused_one_is_tried_again_with_the_next_list_and_one_that_went_is_given_back() {
        let mut presence = presence();
        let there = ["Custom:client-anna".to_owned(), "Custom:client-bob".to_owned()];
        presence.present(&there);
        assert_eq!(all_due(&mut presence).len(), 2);
        presence.answered(&there[0], false);
        presence.answered(&there[1], true);
        assert!(presence.due().is_none());
        presence.present(&there);
        assert_eq!(all_due(&mut presence).len(), 1, "anna's again");
        assert!(presence.present(&there[..1]) == [("acme".into(), "pbx1-Custom:client-bob".into())]);
        // Anna's client closes while she is asked for.
        presence.answered(&there[0], false);
        presence.present(&there[..1]);
        let (device, _) = presence.due().unwrap();
        presence.set(&device, false);
        assert!(presence.answered(&device, true), "to be given back at once");
    }

    #[test]
    fn an_unusable_name_is_nobodys() {
        let mut presence = presence();
        for device in ["Custom:client-", "Custom:client-\u{e4}", &format!("Custom:client-{}", "x".repeat(128))] {
            presence.set(device, true);
            assert!(presence.due().is_none(), "{device}");
        }
    }
}

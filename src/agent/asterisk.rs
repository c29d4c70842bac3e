//! What the agent says to Asterisk's manager interface, and what it makes of the answers.
//!
//! Presence comes from device states alone: an endpoint with two contacts is there until the last of them is
//! gone, and only its device state says so. Variables come with the listing and, where `channelvars` of
//! manager.conf names them, with every event of a channel; `VarSet` would bring every variable of every call.

use std::collections::BTreeMap;

use super::ami::{Decoder, Frame, Message, action};
use super::source::{Act, MARKS, Machine, Marks, Report, THINGS_MAX, Thing};

/// States in which nobody can be behind a device.
const ABSENT: [&str; 3] = ["UNAVAILABLE", "INVALID", "UNKNOWN"];

/// The manager's side of a connection.
pub struct Asterisk {
    user: String,
    secret: String,
    wants_presence: bool,
    decoder: Decoder,
    step: Step,
    listing: Option<Listing>,
    devices: Option<Vec<String>>,
    actions: u64,
    cut: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Banner,
    Login,
    Ready,
}

struct Listing {
    action: String,
    things: BTreeMap<String, Thing>,
    /// Rows so far, those of channels that hung up meanwhile included.
    rows: usize,
    whole: bool,
}

impl Asterisk {
    /// For a manager user; with device states where presence is wanted.
    pub fn new(user: &str, secret: &str, wants_presence: bool) -> Self {
        Asterisk {
            user: user.to_owned(),
            secret: secret.to_owned(),
            wants_presence,
            decoder: Decoder::default(),
            step: Step::Banner,
            listing: None,
            devices: None,
            actions: 0,
            cut: 0,
        }
    }

    fn frame(&mut self, frame: Frame, acts: &mut Vec<Act>) {
        match frame {
            Frame::Banner(line) if line.starts_with("Asterisk Call Manager") => self.log_in(acts),
            Frame::Banner(line) => {
                let shown: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
                acts.push(Act::Close(format!("no Asterisk manager answers there, but {shown:?}")));
            }
            Frame::Message(message) => {
                self.cut += u64::from(message.cut);
                match self.step {
                    Step::Ready => self.message(&message, acts),
                    _ => self.logged_in(&message, acts),
                }
            }
        }
    }

    fn log_in(&mut self, acts: &mut Vec<Act>) {
        self.step = Step::Login;
        acts.push(Act::Send(action(&[
            ("Action", "Login"),
            ("ActionID", "usherd-login"),
            ("Username", &self.user),
            ("Secret", &self.secret),
            ("Events", "call,system"),
        ])));
    }

    fn logged_in(&mut self, message: &Message, acts: &mut Vec<Act>) {
        match message.get("Response") {
            "Success" => {
                self.step = Step::Ready;
                acts.push(Act::Tell(Report::Ready));
            }
            "" => {}
            _ => acts.push(Act::Close(format!("the login was refused: {}", message.get("Message")))),
        }
    }

    fn message(&mut self, message: &Message, acts: &mut Vec<Act>) {
        match message.get("Event") {
            "" => self.response(message, acts),
            "Status" => self.listed(message),
            "StatusComplete" => self.listing_ends(message, acts),
            "DeviceStateChange" => self.device(message, acts),
            "DeviceStateListComplete" => {
                if let Some(devices) = self.devices.take() {
                    acts.push(Act::Tell(Report::Present(devices)));
                }
            }
            "Hangup" => {
                let thing = thing_of(message);
                if let Some(listing) = &mut self.listing {
                    listing.things.remove(&thing.id);
                }
                tell(thing, Report::Ended, acts);
            }
            "Shutdown" => acts.push(Act::Close("Asterisk shuts down".to_owned())),
            _ => {
                let thing = thing_of(message);
                if thing.marks != Marks::default() {
                    tell(thing, Report::Started, acts);
                }
            }
        }
    }

    fn response(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let of_listing = self.listing.as_ref().is_some_and(|listing| listing.action == message.get("ActionID"));
        if of_listing && message.get("Response") == "Error" {
            self.listing = None;
            acts.push(Act::Tell(Report::Unsure("Asterisk refuses `Status`: give the manager user write = reporting")));
        } else if message.get("ActionID") == "usherd-devices" && message.get("Response") == "Error" {
            self.devices = None;
            acts.push(Act::Tell(Report::UnsureOfDevices(
                "Asterisk refuses `DeviceStateList`: load res_manager_devicestate, write = reporting",
            )));
        }
    }

    fn listed(&mut self, message: &Message) {
        let Some(listing) = self.listing.as_mut().filter(|listing| listing.action == message.get("ActionID")) else {
            return;
        };
        listing.rows += 1;
        listing.whole &= !message.cut && listing.rows <= THINGS_MAX;
        let thing = thing_of(message);
        if !thing.id.is_empty() && listing.whole {
            listing.things.insert(thing.id.clone(), thing);
        }
    }

    fn listing_ends(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let Some(listing) = self.listing.take_if(|listing| listing.action == message.get("ActionID")) else { return };
        // Asterisk before 12 calls it `Items`; some versions say neither.
        let told: Option<usize> =
            [message.get("ListItems"), message.get("Items")].iter().find_map(|items| items.parse().ok());
        acts.push(Act::Tell(match told {
            Some(items) if items != listing.rows => Report::Unsure("rows of the listing are missing"),
            _ if !listing.whole => Report::Unsure("rows of the listing are longer than the limits"),
            _ => Report::Live(listing.things.into_values().collect()),
        }));
    }

    fn device(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let (device, on) = (message.get("Device"), !ABSENT.contains(&message.get("State")));
        if !self.wants_presence || device.is_empty() || message.cut {
            return;
        }
        if message.get("ActionID") == "usherd-devices"
            && let Some(devices) = &mut self.devices
        {
            if on && devices.len() < THINGS_MAX {
                devices.push(device.to_owned());
            }
        } else {
            acts.push(Act::Tell(Report::Presence { device: device.to_owned(), on }));
        }
    }
}

fn thing_of(message: &Message) -> Thing {
    let mut thing = Thing { id: message.get("Uniqueid").to_owned(), marks: Marks::default() };
    for (name, value) in message.variables() {
        thing.marks.set(name, value);
    }
    thing
}

fn tell(thing: Thing, report: fn(Thing) -> Report, acts: &mut Vec<Act>) {
    if !thing.id.is_empty() {
        acts.push(Act::Tell(report(thing)));
    }
}

impl Machine for Asterisk {
    fn opened(&mut self, _: &mut Vec<Act>) {}

    fn feed(&mut self, bytes: &[u8], acts: &mut Vec<Act>) {
        let mut frames = Vec::new();
        self.decoder.feed(bytes, |frame| frames.push(frame));
        for frame in frames {
            self.frame(frame, acts);
        }
    }

    fn list(&mut self, acts: &mut Vec<Act>) {
        if self.step != Step::Ready {
            return;
        }
        if self.listing.is_some() {
            acts.push(Act::Close("the last listing was never finished".to_owned()));
            return;
        }
        self.actions += 1;
        let action_id = format!("usherd-list-{}", self.actions);
        let variables = MARKS.map(|mark| format!("USHERD_{}", mark.to_ascii_uppercase())).join(",");
        acts.push(Act::Tell(Report::Asking));
        acts.push(Act::Send(action(&[("Action", "Status"), ("ActionID", &action_id), ("Variables", &variables)])));
        self.listing = Some(Listing { action: action_id, things: BTreeMap::new(), rows: 0, whole: true });
        if self.wants_presence {
            self.devices = Some(Vec::new());
            acts.push(Act::Send(action(&[("Action", "DeviceStateList"), ("ActionID", "usherd-devices")])));
        }
    }

    fn probe(&mut self, acts: &mut Vec<Act>) {
        if self.step == Step::Ready {
            acts.push(Act::Send(action(&[("Action", "Ping"), ("ActionID", "usherd-ping")])));
        }
    }

    fn cut(&self) -> u64 {
        self.cut
    }
}

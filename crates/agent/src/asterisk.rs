//! The conversation with Asterisk's manager interface: the commands that are sent, and the reports that follow.
//!
//! Presence comes from device states alone: an endpoint with two contacts is there until the last of them is
//! gone, and only its device state says so. Variables come with the listing and, where `channelvars` of
//! manager.conf names them, with every event of a channel; `VarSet` would bring every variable of every call.

use std::collections::BTreeMap;

use super::ami::{Decoder, Frame, Message, action};
use super::names::NAME_BYTES_MAX;
use super::source::{
    Act, Channel, LISTING_ROWS_MAX, MARKS, Machine, Marks, Report, devices_listed_in_part, listed_in_part,
};

/// Device states in which no phone is registered.
const ABSENT: [&str; 3] = ["UNAVAILABLE", "INVALID", "UNKNOWN"];

/// The manager's side of a connection.
pub struct Asterisk {
    user: String,
    secret: String,
    wants_presence: bool,
    decoder: Decoder,
    step: Step,
    listing: Option<Listing>,
    devices: Option<Devices>,
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
    channels: BTreeMap<String, Channel>,
    /// The rows so far, those of channels that have hung up since included.
    rows: usize,
    /// True if it was asked for out of turn.
    is_early: bool,
}

#[derive(Default)]
struct Devices {
    there: Vec<String>,
    /// The rows so far, those of devices that are not there included.
    rows: usize,
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
        let is_row = message.get("Event") == "Status" || self.listing.is_some() || self.devices.is_some();
        if message.is_torn() && !is_row {
            return self.relist(acts);
        }
        match message.get("Event") {
            "" => self.response(message, acts),
            "Status" => self.listed(message, acts),
            "StatusComplete" => self.listing_ends(message, acts),
            "DeviceStateChange" => self.device(message, acts),
            "DeviceStateListComplete" => self.devices_end(message, acts),
            "Hangup" => {
                let channel = channel_of(message);
                if let Some(listing) = &mut self.listing {
                    listing.channels.remove(&channel.id);
                }
                match is_name(&channel.id) {
                    true => acts.push(Act::Tell(Report::Ended(channel))),
                    false => acts.push(Act::Tell(Report::Unread("a Hangup without a Uniqueid"))),
                }
            }
            "Shutdown" => acts.push(Act::Close("Asterisk shuts down".to_owned())),
            _ => {
                let channel = channel_of(message);
                if channel.marks != Marks::default() && is_name(&channel.id) {
                    acts.push(Act::Tell(Report::Started(channel)));
                }
            }
        }
    }

    /// A caller's text may have been taken for Asterisk's own, in this message or beside it: a new listing of all that
    /// lives corrects whatever it said.
    fn relist(&mut self, acts: &mut Vec<Act>) {
        acts.push(Act::Tell(Report::Unread("a message that a line end in a value tore")));
        self.list(acts);
        if let Some(listing) = &mut self.listing {
            listing.is_early = true;
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

    fn listed(&mut self, message: &Message, acts: &mut Vec<Act>) {
        // Asterisk says our id in every row. One without it is one whose end got lost, as by a line end in a value.
        let is_ours = |listing: &&mut Listing| ["", &listing.action].contains(&message.get("ActionID"));
        let Some(listing) = self.listing.as_mut().filter(is_ours) else { return };
        listing.rows += 1;
        let channel = channel_of(message);
        if !is_name(&channel.id) {
            // Every channel has one; a row without it is of none that is known here.
            acts.push(Act::Tell(Report::Unread("a row of `Status` without a Uniqueid")));
        } else if listing.rows <= LISTING_ROWS_MAX {
            listing.channels.insert(channel.id.clone(), channel);
        }
    }

    fn listing_ends(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let Some(listing) = self.listing.take_if(|listing| listing.action == message.get("ActionID")) else { return };
        let channels = listing.channels.into_values();
        if items(message).is_some_and(|items| items != listing.rows) {
            acts.extend(listed_in_part(channels, "rows of the listing are missing"));
        } else if listing.rows > LISTING_ROWS_MAX {
            acts.extend(listed_in_part(channels, "the listing has more than 100,000 rows"));
        } else {
            acts.push(Act::Tell(Report::Live(channels.collect())));
        }
    }

    fn devices_end(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let Some(devices) = self.devices.take() else { return };
        if items(message).is_some_and(|items| items != devices.rows) {
            acts.extend(devices_listed_in_part(devices.there, "rows of the list of devices are missing"));
        } else if devices.there.len() > LISTING_ROWS_MAX {
            acts.extend(devices_listed_in_part(devices.there, "the list of devices has more than 100,000 rows"));
        } else {
            acts.push(Act::Tell(Report::Present(devices.there)));
        }
    }

    fn device(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let (device, on) = (message.get("Device"), !ABSENT.contains(&message.get("State")));
        if !self.wants_presence {
            return;
        }
        let listed = self.devices.as_mut().filter(|_| message.get("ActionID") == "usherd-devices");
        if !is_name(device) {
            acts.push(Act::Tell(Report::Unread("a device state without a device")));
        }
        match listed {
            Some(devices) => {
                devices.rows += 1;
                if on && is_name(device) && devices.there.len() <= LISTING_ROWS_MAX {
                    devices.there.push(device.to_owned());
                }
            }
            None if is_name(device) => {
                // What comes while a list is in flight is newer than the device's row, where that came before.
                if let Some(devices) = &mut self.devices {
                    devices.there.retain(|there| there != device);
                    devices.there.extend(on.then(|| device.to_owned()));
                }
                acts.push(Act::Tell(Report::Presence { device: device.to_owned(), on }));
            }
            None => {}
        }
    }
}

/// How many rows there are, as Asterisk says at their end; before 12 it called it `Items`, and some versions say
/// neither.
fn items(message: &Message) -> Option<usize> {
    [message.get("ListItems"), message.get("Items")].iter().find_map(|items| items.parse().ok())
}

/// True if this is the whole name of a channel or device: a longer one was cut, or is none.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX
}

fn channel_of(message: &Message) -> Channel {
    let mut channel = Channel { id: message.get("Uniqueid").to_owned(), marks: Marks::default() };
    for (name, value) in message.variables() {
        channel.marks.set(name, value);
    }
    channel
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
        if let Some(listing) = &mut self.listing {
            if !std::mem::take(&mut listing.is_early) {
                acts.push(Act::Close("the last listing was never finished".to_owned()));
            }
            return;
        }
        self.actions += 1;
        let action_id = format!("usherd-list-{}", self.actions);
        let variables = MARKS.map(|mark| format!("USHERD_{}", mark.to_ascii_uppercase())).join(",");
        acts.push(Act::Tell(Report::Asking));
        acts.push(Act::Send(action(&[("Action", "Status"), ("ActionID", &action_id), ("Variables", &variables)])));
        self.listing = Some(Listing { action: action_id, channels: BTreeMap::new(), rows: 0, is_early: false });
        if self.wants_presence {
            self.devices = Some(Devices::default());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Asterisk {
        let mut asterisk = Asterisk::new("usherd", "secret", true);
        let mut acts = Vec::new();
        asterisk.feed(b"Asterisk Call Manager/9.0.0\r\nResponse: Success\r\n\r\n", &mut acts);
        assert_eq!(acts.last(), Some(&Act::Tell(Report::Ready)));
        asterisk
    }

    /// The acts that follow an event of a channel whose caller has this number.
    fn of_caller(number: &str) -> Vec<Act> {
        let (mut asterisk, mut acts) = (ready(), Vec::new());
        let event = format!(
            "Event: Hangup\r\nChannel: PJSIP/trunk-1\r\nCallerIDNum: {number}\r\nCallerIDName: x\r\nUniqueid: 9.9\r\n\r\n"
        );
        asterisk.feed(event.as_bytes(), &mut acts);
        acts
    }

    fn asks_for_all(acts: &[Act]) -> bool {
        acts.iter().filter(|act| matches!(act, Act::Tell(Report::Asking))).count() == 1
    }

    #[test]
    fn a_number_with_line_ends_does_not_end_another_call() {
        let own = Channel { id: "9.9".to_owned(), marks: Marks::default() };
        assert_eq!(of_caller("20"), [Act::Tell(Report::Ended(own))]);
        let acts = of_caller("20\r\nUniqueid: 1719.7");
        assert!(asks_for_all(&acts) && !acts.iter().any(|act| matches!(act, Act::Tell(Report::Ended(_)))), "{acts:?}");
        for number in [
            "x\r\n\r\nEvent: Hangup\r\nUniqueid: 1719.7",
            "x\r\n\r\nEvent: Hangup\r\nChannel: y\r\nUniqueid: 1719.7\r\n\r\nZ: z",
            "x\r\nUniqueid: 1\r\n\r\nEvent: DeviceStateChange\r\nDevice: Custom:client-mallory\r\nState: INUSE\r\n\r\nZ: z",
        ] {
            let acts = of_caller(number);
            assert!(asks_for_all(&acts), "{number:?} is set right at once: {acts:?}");
        }
    }

    #[test]
    fn who_comes_while_devices_are_listed_is_there() {
        let (mut asterisk, mut acts) = (ready(), Vec::new());
        asterisk.list(&mut acts);
        let row = |device: &str, state: &str, id: &str| {
            format!("Event: DeviceStateChange\r\nActionID: {id}\r\nDevice: {device}\r\nState: {state}\r\n\r\n")
        };
        let said = [
            row("Custom:anna", "NOT_INUSE", "usherd-devices"),
            row("Custom:bob", "UNAVAILABLE", "usherd-devices"),
            row("Custom:bob", "INUSE", ""),
            row("Custom:anna", "UNAVAILABLE", ""),
            "Event: DeviceStateListComplete\r\nActionID: usherd-devices\r\nListItems: 2\r\n\r\n".to_owned(),
        ];
        asterisk.feed(said.concat().as_bytes(), &mut acts);
        assert_eq!(acts.last(), Some(&Act::Tell(Report::Present(vec!["Custom:bob".to_owned()]))), "{acts:?}");
    }

    #[test]
    fn a_listing_out_of_turn_is_not_one_that_hangs() {
        let (mut asterisk, mut acts) = (ready(), Vec::new());
        asterisk.feed(b"Event: Newchannel\r\nChannel: PJSIP/trunk-1\r\nCallerIDNum: x\r\n\r\n", &mut acts);
        asterisk.list(&mut acts);
        assert!(asks_for_all(&acts) && !acts.iter().any(|act| matches!(act, Act::Close(_))), "{acts:?}");
        asterisk.list(&mut acts);
        assert!(matches!(acts.last(), Some(Act::Close(_))), "{acts:?}");
    }
}

//! What the agent says to FreeSWITCH's event socket, and what it makes of the answers.
//!
//! A listing of channels comes without their variables, so those of channels that are not known yet are asked
//! for one by one, a few at a time. Who is registered is listed anew whenever somebody goes: only the list knows
//! whether it was the last of several devices.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::esl::{Decoder, Message, command};
use super::source::{Act, Machine, Marks, Report, THINGS_MAX, Thing};

/// Channels whose variables are asked for at once.
const DUMPS_AT_ONCE: usize = 16;
const CALL_EVENTS: &str = "CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_ANSWER CHANNEL_HANGUP_COMPLETE HEARTBEAT";
const REGISTRATION_EVENTS: &str = "CUSTOM sofia::register sofia::unregister sofia::expire";

/// The event socket's side of a connection.
pub struct FreeSwitch {
    password: String,
    wants_presence: bool,
    decoder: Decoder,
    /// Answers come in the order of the commands.
    expected: VecDeque<Expected>,
    ready: bool,
    listing: Option<Listing>,
    /// Channels that hold a seat: what is on them does not change any more.
    known: BTreeMap<String, Marks>,
    cut: u64,
}

enum Expected {
    Auth,
    Events,
    Channels,
    Dump(String),
    Registrations,
    Uptime,
}

struct Listing {
    things: BTreeMap<String, Thing>,
    to_ask: VecDeque<String>,
    /// Channels that were asked for and not answered yet.
    asked: usize,
    whole: bool,
}

#[derive(Deserialize)]
struct Rows<R> {
    row_count: usize,
    #[serde(default = "Vec::new")]
    rows: Vec<R>,
}

#[derive(Deserialize)]
struct Channel {
    uuid: String,
}

#[derive(Deserialize)]
struct Registration {
    reg_user: String,
    realm: String,
}

impl FreeSwitch {
    /// For a password; with registrations where presence is wanted.
    pub fn new(password: &str, wants_presence: bool) -> Self {
        FreeSwitch {
            password: password.to_owned(),
            wants_presence,
            decoder: Decoder::default(),
            expected: VecDeque::new(),
            ready: false,
            listing: None,
            known: BTreeMap::new(),
            cut: 0,
        }
    }

    fn say(&mut self, text: &str, answer: Expected, acts: &mut Vec<Act>) {
        self.expected.push_back(answer);
        acts.push(Act::Send(command(text)));
    }

    fn message(&mut self, message: &Message, acts: &mut Vec<Act>) {
        self.cut += u64::from(message.cut);
        match message.get("Content-Type") {
            "auth/request" => {
                let auth = format!("auth {}", self.password);
                self.say(&auth, Expected::Auth, acts);
            }
            "command/reply" => self.reply(message.get("Reply-Text"), acts),
            "api/response" => self.answer(message, acts),
            "text/event-json" => self.event(message, acts),
            "text/disconnect-notice" => acts.push(Act::Close("FreeSWITCH ends the connection".to_owned())),
            "text/rude-rejection" => {
                acts.push(Act::Close("FreeSWITCH refuses this address: see apply-inbound-acl".to_owned()));
            }
            _ => {}
        }
    }

    fn reply(&mut self, text: &str, acts: &mut Vec<Act>) {
        let good = text.starts_with("+OK");
        match self.expected.pop_front() {
            Some(Expected::Auth) if good => {
                let events = if self.wants_presence { REGISTRATION_EVENTS } else { "" };
                self.say(format!("event json {CALL_EVENTS} {events}").trim_end(), Expected::Events, acts);
            }
            Some(Expected::Events) if good => {
                self.ready = true;
                acts.push(Act::Tell(Report::Ready));
            }
            Some(Expected::Auth) => acts.push(Act::Close(format!("the login was refused: {text}"))),
            _ => acts.push(Act::Close(format!("FreeSWITCH does not do as it was told: {text}"))),
        }
    }

    fn answer(&mut self, message: &Message, acts: &mut Vec<Act>) {
        match self.expected.pop_front() {
            Some(Expected::Channels) => self.channels(message, acts),
            Some(Expected::Dump(uuid)) => self.dumped(uuid, message, acts),
            Some(Expected::Registrations) => match rows::<Registration>(message) {
                Some(rows) => {
                    let devices = rows.into_iter().map(|row| format!("{}@{}", row.reg_user, row.realm));
                    acts.push(Act::Tell(Report::Present(devices.collect())));
                }
                None => acts.push(Act::Tell(Report::UnsureOfDevices("the list of registrations is not whole"))),
            },
            Some(Expected::Uptime) => {}
            _ => acts.push(Act::Close("FreeSWITCH answers what was not asked".to_owned())),
        }
    }

    fn channels(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let Some(rows) = rows::<Channel>(message) else {
            self.listing = None;
            acts.push(Act::Tell(Report::Unsure("the list of channels is not whole")));
            return;
        };
        let mut listing = Listing { things: BTreeMap::new(), to_ask: VecDeque::new(), asked: 0, whole: true };
        for Channel { uuid } in rows {
            match self.known.get(&uuid) {
                Some(marks) => {
                    listing.things.insert(uuid.clone(), Thing { id: uuid, marks: marks.clone() });
                }
                None => listing.to_ask.push_back(uuid),
            }
        }
        self.known.retain(|uuid, _| listing.things.contains_key(uuid));
        self.listing = Some(listing);
        self.ask_on(acts);
    }

    fn dumped(&mut self, uuid: String, message: &Message, acts: &mut Vec<Act>) {
        let Some(listing) = &mut self.listing else { return };
        listing.asked -= 1;
        match serde_json::from_slice::<Map<String, Value>>(&message.body) {
            Ok(fields) => {
                let marks = marks(&fields);
                if marks.hold_a_seat() {
                    self.known.insert(uuid.clone(), marks.clone());
                }
                listing.things.insert(uuid.clone(), Thing { id: uuid, marks });
            }
            // It hung up between the list and the question.
            Err(_) if message.body.starts_with(b"-ERR No such channel") => {}
            Err(_) => listing.whole = false,
        }
        self.ask_on(acts);
    }

    /// Asks for the next channels, or ends the listing where none is left.
    fn ask_on(&mut self, acts: &mut Vec<Act>) {
        let Some(mut listing) = self.listing.take() else { return };
        while listing.asked < DUMPS_AT_ONCE
            && let Some(uuid) = listing.to_ask.pop_front()
        {
            listing.asked += 1;
            self.say(&format!("api uuid_dump {uuid} json"), Expected::Dump(uuid), acts);
        }
        if listing.asked > 0 {
            self.listing = Some(listing);
        } else if listing.whole {
            acts.push(Act::Tell(Report::Live(listing.things.into_values().collect())));
        } else {
            acts.push(Act::Tell(Report::Unsure("the variables of some channels could not be read")));
        }
    }

    fn event(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(&message.body) else { return };
        let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("Event-Name"), text("Event-Subclass")) {
            ("CUSTOM", "sofia::register") => {
                let device = format!("{}@{}", text("from-user"), text("from-host"));
                acts.push(Act::Tell(Report::Presence { device, on: true }));
            }
            ("CUSTOM", "sofia::unregister" | "sofia::expire") => self.ask_who_is_there(acts),
            (name, _) if name.starts_with("CHANNEL_") && !text("Unique-ID").is_empty() => {
                let thing = Thing { id: text("Unique-ID").to_owned(), marks: marks(&fields) };
                self.channel(name, thing, acts);
            }
            _ => {}
        }
    }

    fn channel(&mut self, event: &str, thing: Thing, acts: &mut Vec<Act>) {
        if event == "CHANNEL_HANGUP_COMPLETE" {
            self.known.remove(&thing.id);
            if let Some(listing) = &mut self.listing {
                listing.things.remove(&thing.id);
            }
            acts.push(Act::Tell(Report::Ended(thing)));
        } else if thing.marks.hold_a_seat() {
            if self.known.len() < THINGS_MAX {
                self.known.insert(thing.id.clone(), thing.marks.clone());
            }
            acts.push(Act::Tell(Report::Started(thing)));
        }
    }

    fn ask_who_is_there(&mut self, acts: &mut Vec<Act>) {
        let asked = self.expected.iter().any(|expected| matches!(expected, Expected::Registrations));
        if self.wants_presence && !asked {
            self.say("api show registrations as json", Expected::Registrations, acts);
        }
    }
}

/// The rows of a `show … as json`, if all of them are there.
fn rows<R: serde::de::DeserializeOwned>(message: &Message) -> Option<Vec<R>> {
    let rows: Rows<R> = serde_json::from_slice(&message.body).ok()?;
    (rows.row_count == rows.rows.len() && rows.row_count <= THINGS_MAX).then_some(rows.rows)
}

fn marks(fields: &Map<String, Value>) -> Marks {
    let mut marks = Marks::default();
    for (key, value) in fields {
        if let (Some(name), Some(value)) = (key.strip_prefix("variable_"), value.as_str()) {
            marks.set(name, value);
        }
    }
    marks
}

impl Machine for FreeSwitch {
    fn opened(&mut self, _: &mut Vec<Act>) {}

    fn feed(&mut self, bytes: &[u8], acts: &mut Vec<Act>) {
        let mut messages = Vec::new();
        let fed = self.decoder.feed(bytes, |message| messages.push(message));
        for message in messages {
            self.message(&message, acts);
        }
        if let Err(why) = fed {
            acts.push(Act::Close(format!("no event socket answers there: {why}")));
        }
    }

    fn list(&mut self, acts: &mut Vec<Act>) {
        if !self.ready {
            return;
        }
        let asked = self.expected.iter().any(|expected| matches!(expected, Expected::Channels));
        if asked || self.listing.is_some() {
            acts.push(Act::Close("the last listing was never finished".to_owned()));
            return;
        }
        acts.push(Act::Tell(Report::Asking));
        self.say("api show channels as json", Expected::Channels, acts);
        self.ask_who_is_there(acts);
    }

    fn probe(&mut self, acts: &mut Vec<Act>) {
        if self.ready {
            self.say("api uptime", Expected::Uptime, acts);
        }
    }

    fn cut(&self) -> u64 {
        self.cut
    }
}

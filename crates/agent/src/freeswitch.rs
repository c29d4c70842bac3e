//! The conversation with FreeSWITCH's event socket: the commands that are sent, and the reports that follow.
//!
//! A listing of channels comes without their variables, so those of channels that are not known yet are asked
//! for one by one, a few at a time. Those of known ones are asked for again now and then: the list is a table of
//! its own, beside the channels, and may keep one that is long gone. Who is registered is listed anew whenever
//! somebody goes: only the list knows whether it was the last of several devices.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::esl::{Decoder, Message, command};
use super::json::{List, Object, text};
use super::names::NAME_BYTES_MAX;
use super::source::{Act, Channel, LISTING_ROWS_MAX, Machine, Marks, Report, devices_listed_in_part, listed_in_part};

/// Channels whose variables are asked for at once.
const DUMPS_AT_ONCE: usize = 16;
/// Fewest known channels that are verified with each list, those that waited longest first …
const VERIFIED_MIN: usize = 16;
/// … and the part of all: each is verified within so many lists.
const VERIFIED_WITHIN_LISTS: usize = 16;
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
    /// Channels that hold a seat.
    known: BTreeMap<String, Known>,
    /// All channels of the last listing that was reported.
    listed: BTreeSet<String>,
    lists: u64,
    /// Devices that registered since the registrations were asked for, and between that and the time before: the list
    /// is a table of its own, which is written behind the event.
    came: [BTreeSet<String>; 2],
    cut: u64,
}

struct Known {
    /// Its variables, which do not change any more.
    marks: Marks,
    /// The number of the list in which it was last seen alive.
    verified: u64,
}

enum Expected {
    Auth,
    Events,
    Channels,
    Dump(String),
    Registrations,
    Uptime,
}

#[derive(Default)]
struct Listing {
    channels: BTreeMap<String, Channel>,
    to_ask: VecDeque<String>,
    /// Channels that were asked for and not answered yet.
    asked: usize,
    /// The reason why channels may be missing from the list.
    in_part: Option<&'static str>,
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
            listed: BTreeSet::new(),
            lists: 0,
            came: Default::default(),
            cut: 0,
        }
    }

    fn send_command(&mut self, text: &str, answer: Expected, acts: &mut Vec<Act>) {
        self.expected.push_back(answer);
        acts.push(Act::Send(command(text)));
    }

    fn message(&mut self, message: &Message, acts: &mut Vec<Act>) {
        self.cut += u64::from(message.cut);
        match message.get("Content-Type") {
            "auth/request" => {
                let auth = format!("auth {}", self.password);
                self.send_command(&auth, Expected::Auth, acts);
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
                self.send_command(format!("event json {CALL_EVENTS} {events}").trim_end(), Expected::Events, acts);
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
            Some(Expected::Registrations) => self.registrations(message, acts),
            Some(Expected::Uptime) => {}
            _ => acts.push(Act::Close("FreeSWITCH answers what was not asked".to_owned())),
        }
    }

    fn channels(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let rows = Rows::of(message);
        let mut listing = Listing { in_part: rows.in_part, ..Listing::default() };
        self.lists += 1;
        let mut all_read = true;
        for row in &rows.rows {
            let Some(uuid) = row.as_ref().and_then(|row| name(row.text("uuid")?)) else {
                all_read = false;
                acts.push(Act::Tell(Report::Unread("a row of `show channels` without a uuid")));
                continue;
            };
            let marks = self.known.get(&uuid).map(|known| known.marks.clone());
            if marks.is_none() {
                listing.to_ask.push_back(uuid.clone());
            }
            listing.channels.insert(uuid.clone(), Channel { id: uuid, marks: marks.unwrap_or_default() });
        }
        self.verify(&mut listing);
        if !all_read {
            // The row may have been that of a channel that is missing now: whether it lives is asked.
            let missing = self.known.keys().chain(&self.listed).filter(|uuid| !listing.channels.contains_key(*uuid));
            listing.to_ask.extend(missing.collect::<BTreeSet<_>>().into_iter().cloned());
        } else if listing.in_part.is_none() {
            self.known.retain(|uuid, _| listing.channels.contains_key(uuid));
        }
        self.listing = Some(listing);
        self.ask_next(acts);
    }

    /// Asks for some of the known channels again, those that waited longest first.
    fn verify(&self, listing: &mut Listing) {
        let there = |(uuid, _): &(&String, &Known)| listing.channels.contains_key(*uuid);
        let mut due: Vec<(u64, &String)> =
            self.known.iter().filter(there).map(|(uuid, known)| (known.verified, uuid)).collect();
        let most = VERIFIED_MIN.max(due.len() / VERIFIED_WITHIN_LISTS);
        if due.len() > most {
            due.select_nth_unstable(most);
            due.truncate(most);
        }
        due.sort_unstable();
        listing.to_ask.extend(due.into_iter().map(|(_, uuid)| uuid.clone()));
    }

    fn dumped(&mut self, uuid: String, message: &Message, acts: &mut Vec<Act>) {
        let Some(listing) = &mut self.listing else { return };
        listing.asked -= 1;
        if message.body.starts_with(b"-ERR No such channel") {
            // It hung up between the list and the question, or long ago.
            listing.channels.remove(&uuid);
            self.known.remove(&uuid);
        } else {
            let fields = Object::read(&message.body).unwrap_or_default();
            if !fields.whole {
                acts.push(Act::Tell(Report::Unread("the variables of a channel")));
            }
            let marks = marks(&fields);
            let known = self.known.entry(uuid.clone());
            let known = known.and_modify(|known| known.verified = self.lists);
            let marks = match known {
                Entry::Occupied(known) => known.get().marks.clone(),
                Entry::Vacant(unknown) if marks.hold_a_seat() => {
                    unknown.insert(Known { marks: marks.clone(), verified: self.lists });
                    marks
                }
                Entry::Vacant(_) => marks,
            };
            listing.channels.insert(uuid.clone(), Channel { id: uuid, marks });
        }
        self.ask_next(acts);
    }

    /// Asks for the next channels, or ends the listing where none is left.
    fn ask_next(&mut self, acts: &mut Vec<Act>) {
        let Some(mut listing) = self.listing.take() else { return };
        while listing.asked < DUMPS_AT_ONCE
            && let Some(uuid) = listing.to_ask.pop_front()
        {
            // FreeSWITCH would misread an id that is not one word.
            if uuid.bytes().all(|byte| byte.is_ascii_graphic()) {
                listing.asked += 1;
                self.send_command(&format!("api uuid_dump {uuid} json"), Expected::Dump(uuid), acts);
            }
        }
        if listing.asked > 0 {
            self.listing = Some(listing);
            return;
        }
        match listing.in_part {
            Some(why) => acts.extend(listed_in_part(listing.channels.into_values(), why)),
            None => {
                self.listed = listing.channels.keys().cloned().collect();
                acts.push(Act::Tell(Report::Live(listing.channels.into_values().collect())));
            }
        }
    }

    fn event(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let fields = Object::read(&message.body).unwrap_or_default();
        let text = |key: &str| fields.text(key).unwrap_or_default();
        match (text("Event-Name").as_str(), text("Event-Subclass").as_str()) {
            ("CUSTOM", "sofia::register") => match device(fields.text("from-user"), fields.text("from-host")) {
                Some(device) => {
                    self.came[0].insert(device.clone());
                    acts.push(Act::Tell(Report::Presence { device, on: true }));
                }
                None => acts.push(Act::Tell(Report::Unread("a registration without a user"))),
            },
            ("CUSTOM", "sofia::unregister" | "sofia::expire") => {
                if let Some(device) = device(fields.text("from-user"), fields.text("from-host")) {
                    self.came.iter_mut().for_each(|came| _ = came.remove(&device));
                }
                self.list_registrations(acts);
            }
            (event, _) if event.starts_with("CHANNEL_") => match fields.text("Unique-ID").and_then(name) {
                Some(id) => self.channel(event, Channel { id, marks: marks(&fields) }, acts),
                None => acts.push(Act::Tell(Report::Unread("an event of a channel without a Unique-ID"))),
            },
            ("", _) => acts.push(Act::Tell(Report::Unread("an event without a name"))),
            _ => {}
        }
    }

    fn channel(&mut self, event: &str, channel: Channel, acts: &mut Vec<Act>) {
        if event == "CHANNEL_HANGUP_COMPLETE" {
            self.known.remove(&channel.id);
            self.listed.remove(&channel.id);
            if let Some(listing) = &mut self.listing {
                listing.channels.remove(&channel.id);
            }
            acts.push(Act::Tell(Report::Ended(channel)));
        } else if channel.marks.hold_a_seat() {
            if self.known.len() < LISTING_ROWS_MAX {
                let known = Known { marks: channel.marks.clone(), verified: self.lists };
                self.known.insert(channel.id.clone(), known);
            }
            acts.push(Act::Tell(Report::Started(channel)));
        }
    }

    fn registrations(&mut self, message: &Message, acts: &mut Vec<Act>) {
        let rows = Rows::of(message);
        let mut devices = Vec::new();
        for row in &rows.rows {
            match row.as_ref().and_then(|row| device(row.text("reg_user"), row.text("realm"))) {
                Some(device) => devices.push(device),
                None => acts.push(Act::Tell(Report::Unread("a row of `show registrations` without a user"))),
            }
        }
        // Devices that the list has will be missing in it when they go.
        self.came.iter_mut().for_each(|came| came.retain(|device| !devices.contains(device)));
        devices.extend(self.came.iter().flatten().cloned());
        match rows.in_part {
            Some(why) => acts.extend(devices_listed_in_part(devices, why)),
            None => acts.push(Act::Tell(Report::Present(devices))),
        }
    }

    fn list_registrations(&mut self, acts: &mut Vec<Act>) {
        let asked = self.expected.iter().any(|expected| matches!(expected, Expected::Registrations));
        if self.wants_presence && !asked {
            self.came.swap(0, 1);
            self.came[0].clear();
            self.send_command("api show registrations as json", Expected::Registrations, acts);
        }
    }
}

/// The rows of a `show … as json`; `None` for one that is no object.
struct Rows<'b> {
    rows: Vec<Option<Object<'b>>>,
    /// The reason why rows may be missing.
    in_part: Option<&'static str>,
}

impl<'b> Rows<'b> {
    fn of(message: &'b Message) -> Self {
        let answer = Object::read(&message.body).unwrap_or_default();
        let count = answer.text("row_count").and_then(|count| count.parse::<usize>().ok());
        let list = match answer.raw("rows") {
            Some(rows) => List::read(rows),
            // Where the answer broke off within the rows, they are not a field yet.
            None if !answer.whole => open_rows(&message.body).and_then(List::read),
            None => Some(List { elements: Vec::new(), whole: true }),
        };
        let list = list.unwrap_or_default();
        let in_part = if !answer.whole || !list.whole {
            Some("the list breaks off, or is none")
        } else if count != Some(list.elements.len()) {
            Some("rows of the list are missing")
        } else {
            (list.elements.len() > LISTING_ROWS_MAX).then_some("the list has more than 100,000 rows")
        };
        Rows { rows: list.elements.into_iter().take(LISTING_ROWS_MAX).map(Object::read).collect(), in_part }
    }
}

/// Where the rows begin in an answer that breaks off within them.
fn open_rows(body: &[u8]) -> Option<&[u8]> {
    let name = b"\"rows\"";
    let behind = body.windows(name.len()).position(|part| part == name)? + name.len();
    let list = body[behind..].iter().position(|byte| *byte == b'[')?;
    body.get(behind + list..)
}

fn device(user: Option<String>, realm: Option<String>) -> Option<String> {
    let user = user.filter(|user| !user.is_empty())?;
    name(format!("{user}@{}", realm.unwrap_or_default()))
}

/// A name within the limits.
fn name(name: String) -> Option<String> {
    (!name.is_empty() && name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// The variables that a dial plan wrote on a channel. Of fields that break off none is believed: the rest might say
/// whose it is.
fn marks(fields: &Object<'_>) -> Marks {
    let mut marks = Marks::default();
    if !fields.whole {
        return marks;
    }
    for (key, value) in fields.fields() {
        let variable = key.strip_prefix("variable_").filter(|name| Marks::is_one(name));
        if let Some((name, value)) = variable.zip(text(value)) {
            marks.set(name, &value);
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
        self.send_command("api show channels as json", Expected::Channels, acts);
        self.list_registrations(acts);
    }

    fn probe(&mut self, acts: &mut Vec<Act>) {
        if self.ready {
            self.send_command("api uptime", Expected::Uptime, acts);
        }
    }

    fn cut(&self) -> u64 {
        self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(subclass: &str, user: &str) -> Vec<u8> {
        let body = format!(
            r#"{{"Event-Name":"CUSTOM","Event-Subclass":"{subclass}","from-user":"{user}","from-host":"pbx"}}"#
        );
        format!("Content-Length: {}\nContent-Type: text/event-json\n\n{body}", body.len()).into_bytes()
    }

    fn no_registrations() -> Vec<u8> {
        let body = r#"{"row_count":0}"#;
        format!("Content-Length: {}\nContent-Type: api/response\n\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn the_longest_unasked_channels_are_verified_first() {
        let mut machine = FreeSwitch::new("ClueCon", false);
        let mut listing = Listing::default();
        // Younger ones have smaller names, so that neither order of names is the one that is asked for.
        for age in 0..VERIFIED_MIN + 8 {
            let uuid = format!("u-{age:02}");
            let verified = 100 - age as u64;
            machine.known.insert(uuid.clone(), Known { marks: Marks::default(), verified });
            listing.channels.insert(uuid.clone(), Channel { id: uuid, marks: Marks::default() });
        }
        machine.known.insert("gone".to_owned(), Known { marks: Marks::default(), verified: 0 });
        machine.verify(&mut listing);
        let oldest: Vec<String> = (8..VERIFIED_MIN + 8).rev().map(|age| format!("u-{age:02}")).collect();
        assert_eq!(Vec::from(listing.to_ask), oldest, "what the list does not hold is not asked for");
    }

    #[test]
    fn who_registers_while_the_list_is_made_is_there() {
        let mut machine = FreeSwitch::new("ClueCon", true);
        machine.ready = true;
        let mut present = |bytes: Vec<u8>| {
            let mut acts = Vec::new();
            machine.feed(&bytes, &mut acts);
            acts.into_iter().find_map(|act| match act {
                Act::Tell(Report::Present(devices)) => Some(devices),
                _ => None,
            })
        };
        present(event("sofia::unregister", "bob"));
        present(event("sofia::register", "anna"));
        let anna = Some(vec!["anna@pbx".to_owned()]);
        assert_eq!(present(no_registrations()), anna, "the list is older than her");
        present(event("sofia::unregister", "bob"));
        assert_eq!(present(no_registrations()), anna, "it may not have been written yet when it was asked for");
        present(event("sofia::unregister", "bob"));
        assert_eq!(present(no_registrations()), Some(Vec::new()), "from here on the list knows better");
        present(event("sofia::register", "anna"));
        present(event("sofia::unregister", "anna"));
        assert_eq!(present(no_registrations()), Some(Vec::new()));
        present(event("sofia::register", "anna"));
        present(event("sofia::unregister", "bob"));
        let body = r#"{"row_count":1,"rows":[{"reg_user":"anna","realm":"pbx"}]}"#;
        let listed = format!("Content-Length: {}\nContent-Type: api/response\n\n{body}", body.len()).into_bytes();
        assert_eq!(present(listed), anna);
        present(event("sofia::unregister", "bob"));
        assert_eq!(present(no_registrations()), Some(Vec::new()), "the list had her, and has her no more");
    }
}

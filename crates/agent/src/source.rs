//! The reports of a source: which sessions live at the PBX, what began and ended, who is present.

use std::borrow::Cow;

use usherd_contract::words::{Direction, Leg};

use super::names;

/// Most channels, dialogs or devices of one listing; a longer one is not trusted, and nothing is released by it.
pub const LISTING_ROWS_MAX: usize = 100_000;

/// A live channel or dialog, as its PBX shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// The PBX's own id: `Uniqueid`, channel UUID or Call-ID.
    pub id: String,
    /// The variables that its dial plan set.
    pub marks: Marks,
}

/// The variables by which a dial plan says which session a channel is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// `USHERD_TENANT`; without it the tenant of the agent's own configuration.
    pub tenant: Option<String>,
    /// `USHERD_SUBJECT`.
    pub subject: Option<String>,
    /// `USHERD_SESSION`; without it the session has the PBX's own id.
    pub session: Option<String>,
    /// `USHERD_DIRECTION`; outbound where it is not said.
    pub direction: Option<Direction>,
    /// `USHERD_LEG`.
    pub leg: Option<Leg>,
    /// `USHERD_CODE`, the answer as the dial plan got it, says that a seat is used. Before the answer, after a
    /// refusal (what is still heard is the announcement) and for free calls it does not, and nothing is adopted.
    pub granted: bool,
}

/// The beginning of the names of the variables, in any case.
pub const PREFIX: &str = "usherd_";
/// Names of the variables, without their prefix and in lower case.
pub const MARKS: [&str; 6] = ["tenant", "subject", "session", "direction", "leg", "code"];

impl Marks {
    /// Takes in one variable, whatever the case of its name; returns true if it is one of ours.
    ///
    /// A subject or session that no field of the wire contract may have is made into one that it may ([`names`]):
    /// a channel with strange variables still belongs to somebody. A tenant is not: it would be a different tenant.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        if !Marks::is_one(name) {
            return false;
        }
        let mark = &name[PREFIX.len()..];
        let named = |fitted: fn(&str) -> Cow<'_, str>| (!value.is_empty()).then(|| fitted(value).into_owned());
        match MARKS.iter().find(|known| mark.eq_ignore_ascii_case(known)) {
            Some(&"tenant") => self.tenant = named(names::subject),
            Some(&"subject") => self.subject = named(names::subject),
            Some(&"session") => self.session = named(names::session),
            Some(&"direction") => self.direction = Direction::from_word(value),
            Some(&"leg") => self.leg = Leg::from_word(value),
            Some(_) => self.granted = value.starts_with("allow") && !value.starts_with("allow.free"),
            None => return false,
        }
        true
    }

    /// True if a variable of this name is one of ours, as far as its beginning says.
    pub fn is_one(name: &str) -> bool {
        name.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
    }

    /// True if they name a session that holds a seat, so that it may be adopted.
    pub fn hold_a_seat(&self) -> bool {
        self.granted && self.subject.is_some()
    }
}

/// A report of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The PBX accepted the login; a listing follows.
    Ready,
    /// A listing was asked for: what is decided from now on may be missing in it.
    Asking,
    /// All that lives there, as answered to the last [`Report::Asking`].
    Live(Vec<Channel>),
    /// The kind of a row or event that could not be read and is left out. It names nothing that is known here, or
    /// the machine has asked for what it may have named.
    Unread(&'static str),
    /// A listing that cannot be believed as a whole: nothing follows from what is missing in it.
    Unsure(&'static str),
    /// A list of devices that cannot be believed: nothing follows from what is missing in it.
    UnsureOfDevices(&'static str),
    /// A channel is there, or its marks changed.
    Started(Channel),
    /// A channel is gone; with the marks of its last message, where that had some.
    Ended(Channel),
    /// A device came or went.
    Presence {
        /// Its name at the PBX.
        device: String,
        /// True if it is there.
        on: bool,
    },
    /// Every device that is there: those that are not in it went.
    Present(Vec<String>),
    /// The connection is gone: nothing is known any more, and nothing is released for it.
    Lost,
}

/// An act that a protocol machine asks for; acts are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Bytes to send.
    Send(Vec<u8>),
    /// A report to the hub.
    Tell(Report),
    /// The connection must be closed, for this reason.
    Close(String),
}

/// The acts for a listing that is not whole: what is in it lives, and nothing follows from what is not.
pub fn listed_in_part(channels: impl IntoIterator<Item = Channel>, why: &'static str) -> impl Iterator<Item = Act> {
    let there = channels.into_iter().map(|channel| Act::Tell(Report::Started(channel)));
    there.chain([Act::Tell(Report::Unsure(why))])
}

/// The acts for a list of devices that is not whole.
pub fn devices_listed_in_part(
    devices: impl IntoIterator<Item = String>,
    why: &'static str,
) -> impl Iterator<Item = Act> {
    let there = devices.into_iter().map(|device| Act::Tell(Report::Presence { device, on: true }));
    there.chain([Act::Tell(Report::UnsureOfDevices(why))])
}

/// A protocol without its connection: bytes in, acts out.
pub trait Machine: Send {
    /// The connection is open.
    fn opened(&mut self, acts: &mut Vec<Act>);
    /// Bytes have come, cut anywhere.
    fn feed(&mut self, bytes: &[u8], acts: &mut Vec<Act>);
    /// It is time to list what lives.
    fn list(&mut self, acts: &mut Vec<Act>);
    /// The PBX was silent for a while: provoke an answer.
    fn probe(&mut self, acts: &mut Vec<Act>);
    /// The number of messages so far that were cut because they were longer than the limits.
    fn cut(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_in_any_case_and_within_limits() {
        let mut marks = Marks::default();
        let all = [("USHERD_TENANT", "acme"), ("usherd_subject", "änna"), ("Usherd_Direction", "internal")];
        for (name, value) in all.into_iter().chain([("USHERD_CODE", "allow.new")]) {
            assert!(marks.set(name, value), "{name}");
        }
        assert!(marks.hold_a_seat());
        assert_eq!((marks.tenant.as_deref(), marks.subject.as_deref()), (Some("acme"), Some("änna")));
        assert_eq!(marks.direction, Some(Direction::Internal));
        for name in ["USHERD_", "USHERD_X", "USHER", "DIALSTATUS", "", "ä"] {
            assert!(!marks.clone().set(name, "x"), "{name}");
        }
        assert!(marks.set("USHERD_SUBJECT", &"x".repeat(129)));
        assert!(marks.hold_a_seat() && marks.subject.as_ref().is_some_and(|subject| subject.len() <= 128));
        assert!(marks.set("USHERD_SESSION", "J\u{fc}rgen"));
        assert!(marks.session.as_ref().is_some_and(|session| session.starts_with("J%C3%BCrgen~")));
    }

    #[test]
    fn only_what_was_granted_holds_a_seat() {
        let mut marks = Marks { subject: Some("anna".to_owned()), ..Marks::default() };
        assert!(!marks.hold_a_seat(), "it is still asked for");
        for (answer, holds) in [
            ("allow.new", true),
            ("allow.over unreachable", true),
            ("allow", true),
            ("allow.free inbound", false),
            ("deny.full tenant", false),
            ("", false),
        ] {
            marks.set("USHERD_CODE", answer);
            assert_eq!(marks.hold_a_seat(), holds, "{answer}");
        }
    }
}

//! Seats that were taken and are not recorded yet: several requests may be about one of them.

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use usherd_engine::Name;

/// A session: its tenant, and its id.
pub type Session = (Name, Name);

/// The end of a request about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its answer says that the seat is held, or nobody was answered.
    Told,
    /// It took the seat, or found it there unrecorded, and was refused it.
    Refused,
    /// It has nothing to do with an unrecorded seat.
    Nothing,
}

/// The requests about a session that are in progress.
#[derive(Clone, Copy, Debug, Default)]
struct Requests {
    count: u32,
    is_refused: bool,
    is_told: bool,
}

/// The sessions that requests are about, while these are in progress.
#[derive(Debug, Default)]
pub struct Unsettled(DashMap<Session, Requests>);

impl Unsettled {
    /// A request about a session begins, before it is decided.
    pub fn begin(&self, session: Session) {
        self.0.entry(session).or_default().count += 1;
    }

    /// True if a session that a request found there may be that of another one whose seat is not recorded yet.
    pub fn is_shared(&self, session: &Session) -> bool {
        self.0.get(session).is_some_and(|requests| requests.count > 1 || requests.is_refused)
    }

    /// A request ends. True if it was the last, and the seat must be given back: one was refused it, and none was told that it
    /// is held.
    pub fn ended(&self, session: Session, end: End) -> bool {
        let Entry::Occupied(mut entry) = self.0.entry(session) else { return false };
        let requests = entry.get_mut();
        requests.is_told |= end == End::Told;
        requests.is_refused |= end == End::Refused;
        requests.count -= 1;
        if requests.count > 0 {
            return false;
        }
        let requests = entry.remove();
        requests.is_refused && !requests.is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_goes_back_when_the_last_request_ends_and_none_has_it() {
        let (unsettled, session) = (Unsettled::default(), ("acme".into(), "c1".into()));
        let begin = || unsettled.begin(session.clone());
        let ended = |end| unsettled.ended(session.clone(), end);
        assert!(!ended(End::Refused), "nobody asks");
        begin();
        assert!(!unsettled.is_shared(&session), "it is alone");
        assert!(ended(End::Refused));
        begin();
        begin();
        assert!(unsettled.is_shared(&session));
        assert!(!ended(End::Refused), "another one may be told");
        assert!(unsettled.is_shared(&session), "and finds a seat that is in question");
        assert!(!ended(End::Told), "and is");
        for ends in [[End::Refused, End::Nothing], [End::Nothing, End::Refused], [End::Refused, End::Refused]] {
            ends.iter().for_each(|_| begin());
            assert_eq!(ends.map(&ended), [false, true], "{ends:?}");
        }
        begin();
        assert!(!ended(End::Nothing) && !unsettled.is_shared(&session));
    }
}

//! The sessions that live on this node as far as the agent knows, and the steps that follow from what the PBXs report.
//!
//! The PBX is right about what lives there: a session that it no longer has is released, one that it has and nobody
//! remembers is adopted. While it cannot be asked, nothing changes. Pure: time comes in with every call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use usherd_client::Ask;
use usherd_contract::names::Name;
use usherd_contract::words::{Direction, Kind, Leg};

use super::ended_sessions::{EndedSessions, Key, Place};
use super::names;
use super::source::{Channel, LISTING_ROWS_MAX, Report};

/// Listings in a row without a session that no PBX has shown yet, after which it is over: the dial plan writes its
/// variables after it got its answer, so the first listing may have come in between.
const MISSES_MAX: u8 = 2;

/// A step to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Adopts a session that runs already and that nobody remembers.
    Adopt(Ask),
    /// Releases a session that is over.
    Release(Key),
    /// Counts a session that runs and holds a seat, but has a name that usherd would not take.
    Unusable,
}

/// The live sessions, and the source that has shown each.
#[derive(Debug)]
pub struct Sessions {
    node: String,
    tenant: Name,
    entries: BTreeMap<Key, Entry>,
    /// The session of each channel, for when it ends.
    channels: BTreeMap<Place, Key>,
    /// Sessions that were given back while their channel is still heard of.
    over: EndedSessions,
    sources: Vec<Listed>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    ttl: Option<Duration>,
    since: Duration,
    shown_by: Option<Place>,
    /// Listings in a row without it, by source.
    misses: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Listed {
    /// The time at which the present listing was asked for.
    begun: Option<Duration>,
    /// True if it was listed at least once.
    once: bool,
}

impl Sessions {
    /// No sessions yet, for a node with this many sources; `tenant` is the tenant of channels that name none.
    pub fn new(node: &str, tenant: Name, sources: usize) -> Self {
        Sessions {
            node: node.to_owned(),
            tenant,
            entries: BTreeMap::new(),
            channels: BTreeMap::new(),
            over: EndedSessions::new(sources),
            sources: vec![Listed::default(); sources],
        }
    }

    /// A script was allowed a session; to be called with the time at which it asked.
    pub fn allowed(&mut self, now: Duration, ask: &Ask) {
        let Some(session) = &ask.session else { return };
        let ttl = ask.ttl_s.map(|seconds| Duration::from_secs(seconds.into()));
        let key = (ask.tenant.clone(), session.clone());
        if self.over.since(&key).is_some_and(|ended| ended > now) {
            // It was given back while the question was in flight.
            return;
        }
        self.over.forget(&key);
        if self.entries.len() >= LISTING_ROWS_MAX && !self.entries.contains_key(&key) {
            // The client has a limit of its own and says so; this one only bounds the memory.
            return;
        }
        let misses = vec![0; self.sources.len()];
        let entry =
            self.entries.entry(key).or_insert(Entry { kind: ask.kind, ttl, since: now, shown_by: None, misses });
        // A repeated question renews it.
        entry.ttl = ttl.or(entry.ttl);
        entry.since = now;
        entry.misses.fill(0);
    }

    /// A session was ended by other means than its PBX. Events of its channel may still come, and its variables say
    /// that it holds a seat: until the channel is gone it is not adopted again.
    pub fn ended(&mut self, now: Duration, key: &Key) {
        let place = self.remove(key).and_then(|entry| entry.shown_by);
        self.over.remember(now, key.clone(), place);
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        if let Some(place) = &entry.shown_by {
            self.channels.remove(place);
        }
        Some(entry)
    }

    /// True if every source was listed since the start, so that a session that is not known does not live.
    pub fn is_complete(&self) -> bool {
        !self.sources.is_empty() && self.sources.iter().all(|source| source.once)
    }

    /// How many sessions are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if no session is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes in a report of a source, and returns the steps that follow.
    pub fn report(&mut self, now: Duration, source: usize, report: &Report) -> Vec<Step> {
        match report {
            Report::Asking => self.sources[source].begun = Some(now),
            Report::Live(channels) => return self.listed(now, source, channels),
            Report::Started(channel) => return self.shown(now, source, channel).1.into_iter().collect(),
            Report::Ended(channel) => return self.channel_ended(source, channel),
            Report::Unsure(_) | Report::Lost => self.sources[source].begun = None,
            Report::Ready
            | Report::Presence { .. }
            | Report::Present(_)
            | Report::UnsureOfDevices(_)
            | Report::Unread(_) => {}
        }
        Vec::new()
    }

    /// Ends, with its `ttl_s` (E3), each session that no source has shown: the client's inventories would renew it for
    /// ever.
    pub fn expire(&mut self, now: Duration) -> Vec<Step> {
        let over = |entry: &Entry| entry.shown_by.is_none() && entry.ttl.is_some_and(|ttl| now >= entry.since + ttl);
        let keys: Vec<Key> = self.entries.iter().filter(|(_, entry)| over(entry)).map(|(key, _)| key.clone()).collect();
        self.release_all(keys)
    }

    fn listed(&mut self, now: Duration, source: usize, channels: &[Channel]) -> Vec<Step> {
        // Without its beginning it is unknown which sessions it should have.
        let Some(begun) = self.sources[source].begun.take() else { return Vec::new() };
        self.sources[source].once = true;
        let mut steps = Vec::new();
        let mut alive = BTreeMap::new();
        for channel in channels {
            let (key, step) = self.shown(now, source, channel);
            alive.extend(key.map(|key| (key, channel.id.as_str())));
            steps.extend(step);
        }
        let ids: BTreeSet<&str> = channels.iter().map(|channel| channel.id.as_str()).collect();
        self.recognise(source, &ids, &mut alive);
        let listed: BTreeSet<Key> = channels.iter().map(|channel| self.key(channel)).collect();
        self.over.listed(begun, source, &ids, |key| listed.contains(key));
        self.follow_moved(source, &ids, &alive);
        let mut gone = Vec::new();
        for (key, entry) in &mut self.entries {
            if alive.contains_key(key) || entry.since >= begun {
                continue;
            }
            match &entry.shown_by {
                Some((owner, _)) if *owner == source => gone.push(key.clone()),
                Some(_) => {}
                None => {
                    entry.misses[source] = (entry.misses[source] + 1).min(MISSES_MAX);
                    let nowhere = entry.misses.iter().all(|misses| *misses >= MISSES_MAX);
                    let is_looked_for = entry.ttl.is_none() || own_id(&self.node, &key.1).is_some();
                    if entry.kind == Kind::Call && is_looked_for && nowhere {
                        gone.push(key.clone());
                    }
                }
            }
        }
        steps.extend(self.release_all(gone));
        steps
    }

    /// Sessions that no channel names, but which are a channel's own id behind the node's name: node, epoch and call
    /// id are the usual way to make one. Ids are compared whole: an id may be the end of another.
    fn recognise<'t>(&mut self, source: usize, ids: &BTreeSet<&'t str>, alive: &mut BTreeMap<Key, &'t str>) {
        for (key, entry) in &mut self.entries {
            let elsewhere = entry.shown_by.as_ref().is_some_and(|(owner, _)| *owner != source);
            if elsewhere || entry.kind != Kind::Call || alive.contains_key(key) {
                continue;
            }
            let Some(id) = own_ids(&self.node, &key.1).find_map(|id| ids.get(id).copied()) else { continue };
            if entry.shown_by.is_none() {
                let place = (source, id.to_owned());
                entry.shown_by = Some(place.clone());
                self.channels.insert(place, key.clone());
            }
            alive.insert(key.clone(), id);
        }
    }

    /// Moves a session whose channel is gone to another channel that carries it on.
    fn follow_moved(&mut self, source: usize, ids: &BTreeSet<&str>, alive: &BTreeMap<Key, &str>) {
        for (key, id) in alive {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            if let Some(place) = &mut entry.shown_by
                && place.0 == source
                && !ids.contains(place.1.as_str())
            {
                self.channels.remove(place);
                place.1 = (*id).to_owned();
                self.channels.insert(place.clone(), key.clone());
            }
        }
    }

    /// Takes in a channel that is there; returns its session if that is known, and the step if it is new.
    fn shown(&mut self, now: Duration, source: usize, channel: &Channel) -> (Option<Key>, Option<Step>) {
        let key = self.key(channel);
        let place = (source, channel.id.clone());
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.shown_by.is_none() {
                entry.shown_by = Some(place.clone());
                self.channels.insert(place, key.clone());
            }
            return (Some(key), None);
        }
        if self.over.since(&key).is_some() || !channel.marks.hold_a_seat() {
            return (None, None);
        }
        let Some(ask) = self.adoptable(channel) else { return (None, Some(Step::Unusable)) };
        let entry = Entry {
            kind: Kind::Call,
            ttl: None,
            since: now,
            shown_by: Some(place.clone()),
            misses: vec![0; self.sources.len()],
        };
        self.entries.insert(key.clone(), entry);
        self.channels.insert(place, key.clone());
        (Some(key), Some(Step::Adopt(ask)))
    }

    fn key(&self, channel: &Channel) -> Key {
        let tenant = channel.marks.tenant.as_deref().map_or_else(|| self.tenant.clone(), Name::from);
        let session = channel.marks.session.as_deref().map_or_else(|| names::session(&channel.id), Into::into);
        (tenant, Name::from(&*session))
    }

    fn adoptable(&self, channel: &Channel) -> Option<Ask> {
        let (tenant, session) = self.key(channel);
        let subject = channel.marks.subject.as_deref()?;
        let direction = channel.marks.direction.unwrap_or(Direction::Outbound);
        let leg = channel.marks.leg.unwrap_or(Leg::Originate);
        let ask = Ask { leg, existing: true, ..Ask::call(tenant, subject, session, direction) };
        ask.check().is_ok().then_some(ask)
    }

    fn channel_ended(&mut self, source: usize, channel: &Channel) -> Vec<Step> {
        let (place, named) = ((source, channel.id.clone()), self.key(channel));
        self.over.gone(&place);
        let key = match self.channels.get(&place) {
            Some(key) => key.clone(),
            // Never listed: its last message says which session it was. Not where another channel carries it.
            None => match self.entries.get(&named) {
                Some(entry) if entry.shown_by.is_none() => named,
                _ => return Vec::new(),
            },
        };
        self.release_all([key])
    }

    fn release_all(&mut self, keys: impl IntoIterator<Item = Key>) -> Vec<Step> {
        keys.into_iter().filter(|key| self.remove(key).is_some()).map(Step::Release).collect()
    }
}

/// The part behind the node's name in a session that is named by it: an id of its PBX, maybe behind an epoch. Such a
/// session is a channel by its name; any other with a `ttl_s` may be a script of anything.
fn own_id<'s>(node: &str, session: &'s str) -> Option<&'s str> {
    session.strip_prefix(node)?.strip_prefix(is_sign)
}

fn is_sign(c: char) -> bool {
    c.is_ascii_punctuation()
}

/// The ids of a PBX that a session may be made of: `ID`, `NODE-ID`, `NODE-EPOCH-ID`; any sign may stand for the `-`.
fn own_ids<'s>(node: &str, session: &'s str) -> impl Iterator<Item = &'s str> + use<'s> {
    let behind_node = own_id(node, session);
    let behind_epoch = behind_node.and_then(|rest| {
        let id = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        if id.len() == rest.len() { None } else { id.strip_prefix(is_sign) }
    });
    [Some(session), behind_node, behind_epoch].into_iter().flatten().filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Marks;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn call(session: &str) -> Ask {
        Ask::call("acme", "anna", session, Direction::Outbound)
    }

    fn key(session: &str) -> Key {
        ("acme".into(), session.into())
    }

    fn release(session: &str) -> Vec<Step> {
        vec![Step::Release(key(session))]
    }

    fn bare(id: &str) -> Channel {
        Channel { id: id.to_owned(), marks: Marks::default() }
    }

    fn marked(id: &str, session: &str) -> Channel {
        let session = Some(session.to_owned());
        Channel {
            id: id.to_owned(),
            marks: Marks { subject: Some("anna".into()), session, granted: true, ..Marks::default() },
        }
    }

    fn listing(sessions: &mut Sessions, from: u64, to: u64, channels: Vec<Channel>) -> Vec<Step> {
        assert!(sessions.report(at(from), 0, &Report::Asking).is_empty());
        sessions.report(at(to), 0, &Report::Live(channels))
    }

    fn sessions(sources: usize) -> Sessions {
        Sessions::new("pbx-1", "acme".into(), sources)
    }

    #[test]
    fn what_lives_and_is_not_remembered_is_adopted_once_g7() {
        let mut sessions = sessions(1);
        assert!(!sessions.is_complete());
        let steps = listing(&mut sessions, 1, 2, vec![marked("1.1", "c1"), bare("1.2")]);
        assert_eq!(steps, [Step::Adopt(Ask { existing: true, ..call("c1") })]);
        assert!(sessions.is_complete());
        assert!(listing(&mut sessions, 3, 4, vec![marked("1.1", "c1")]).is_empty());
        assert_eq!(sessions.report(at(5), 0, &Report::Ended(bare("1.1"))), release("c1"));
        assert!(sessions.is_empty() && sessions.channels.is_empty());
    }

    #[test]
    fn what_was_not_granted_is_not_adopted() {
        let mut channel = marked("1.1", "c1");
        channel.marks.granted = false;
        assert!(listing(&mut sessions(1), 1, 2, vec![channel]).is_empty());
    }

    #[test]
    fn what_the_pbx_no_longer_has_is_released() {
        let mut sessions = sessions(1);
        sessions.allowed(at(0), &call("c1"));
        assert!(listing(&mut sessions, 1, 2, vec![marked("1.1", "c1")]).is_empty());
        assert_eq!(listing(&mut sessions, 61, 62, vec![]), release("c1"));
    }

    #[test]
    fn what_is_newer_than_the_listing_is_kept() {
        let mut sessions = sessions(1);
        sessions.report(at(1), 0, &Report::Asking);
        sessions.allowed(at(1), &call("c1"));
        sessions.report(at(1), 0, &Report::Started(marked("1.1", "c1")));
        assert!(sessions.report(at(2), 0, &Report::Live(vec![])).is_empty());
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn an_unseen_session_is_released_after_two_full_listings() {
        let mut sessions = sessions(2);
        sessions.allowed(at(0), &call("c1"));
        for (source, from, released) in [(0, 1, false), (0, 2, false), (0, 3, false), (1, 4, false), (1, 5, true)] {
            sessions.report(at(from), source, &Report::Asking);
            let steps = sessions.report(at(from), source, &Report::Live(vec![bare("9")]));
            assert_eq!(steps == release("c1"), released, "{from}: {steps:?}");
        }
    }

    #[test]
    fn the_id_of_the_pbx_is_a_session_where_none_is_written() {
        let mut sessions = sessions(1);
        sessions.allowed(at(0), &call("1.1"));
        for from in [1, 2, 3] {
            assert!(listing(&mut sessions, from, from, vec![bare("1.1")]).is_empty());
        }
        assert_eq!(sessions.report(at(4), 0, &Report::Ended(bare("1.1"))), release("1.1"));
    }

    #[test]
    fn a_session_matches_the_whole_pbx_id_after_node_and_epoch() {
        let id = "a-2@pbx.example.com";
        for (session, lives) in [
            (id, true),
            ("pbx-1-a-2@pbx.example.com", true),
            ("pbx-1-17-a-2@pbx.example.com", true),
            ("pbx-1/17/a-2@pbx.example.com", true),
            ("pbx-1-17-18-a-2@pbx.example.com", false),
            ("pbx-1-x-a-2@pbx.example.com", false),
            ("pbx-10-a-2@pbx.example.com", false),
            ("other-17-a-2@pbx.example.com", false),
            ("pbx-1-a-2@pbx.example.co", false),
            ("xa-2@pbx.example.com", false),
        ] {
            let mut sessions = sessions(1);
            sessions.allowed(at(0), &call(session));
            listing(&mut sessions, 1, 1, vec![bare(id)]);
            let gone = listing(&mut sessions, 2, 2, vec![bare(id)]);
            assert_eq!(gone, if lives { vec![] } else { release(session) }, "{session}");
            if lives {
                assert_eq!(listing(&mut sessions, 3, 3, vec![]), release(session), "{session}");
            }
        }
        // Others' ids that end as this one does.
        for other in ["com", "example.com", "pbx.example.com", "2@pbx.example.com", "17-a-2@pbx.example.com", "1", ""] {
            let mut sessions = sessions(1);
            sessions.allowed(at(0), &call("pbx-1-9-a-2@pbx.example.com"));
            listing(&mut sessions, 1, 1, vec![bare(other)]);
            assert_eq!(
                listing(&mut sessions, 2, 2, vec![bare(other)]),
                release("pbx-1-9-a-2@pbx.example.com"),
                "{other}"
            );
        }
    }

    #[test]
    fn a_released_session_is_not_adopted_from_its_channel() {
        for shown_before in [true, false] {
            let mut sessions = sessions(1);
            sessions.allowed(at(0), &call("c1"));
            if shown_before {
                assert!(sessions.report(at(1), 0, &Report::Started(marked("1.1", "c1"))).is_empty());
            }
            sessions.ended(at(2), &key("c1"));
            sessions.report(at(2), 0, &Report::Asking);
            assert!(sessions.report(at(3), 0, &Report::Started(marked("1.1", "c1"))).is_empty());
            assert!(sessions.report(at(3), 0, &Report::Live(vec![marked("1.1", "c1")])).is_empty());
            assert!(listing(&mut sessions, 4, 4, vec![marked("1.1", "c1")]).is_empty());
            // A leg that inherited the variables goes first.
            sessions.report(at(5), 0, &Report::Ended(marked("1.9", "c1")));
            assert!(sessions.report(at(5), 0, &Report::Started(marked("1.1", "c1"))).is_empty());
            assert!(sessions.report(at(5), 0, &Report::Ended(bare("1.1"))).is_empty());
            if !shown_before {
                assert!(listing(&mut sessions, 6, 6, vec![]).is_empty());
            }
            assert!(sessions.is_empty() && sessions.over.is_empty());
            // The same name again is a call of its own.
            let steps = sessions.report(at(7), 0, &Report::Started(marked("1.2", "c1")));
            assert_eq!(steps, [Step::Adopt(Ask { existing: true, ..call("c1") })]);
        }
    }

    #[test]
    fn a_session_that_is_asked_for_again_is_one_again() {
        let mut sessions = sessions(1);
        sessions.allowed(at(0), &call("c1"));
        sessions.ended(at(2), &key("c1"));
        sessions.allowed(at(1), &call("c1"));
        assert!(sessions.is_empty(), "the answer to a question of before its end");
        sessions.allowed(at(3), &call("c1"));
        assert!(sessions.report(at(3), 0, &Report::Started(marked("1.1", "c1"))).is_empty());
        assert_eq!(sessions.report(at(4), 0, &Report::Ended(bare("1.1"))), release("c1"));
    }

    #[test]
    fn refused_names_are_rewritten_and_foreign_tenants_reported() {
        let mut sessions = sessions(1);
        let long = "y".repeat(300);
        let mut channel = bare(&long);
        channel.marks.set("USHERD_SUBJECT", "zo\u{eb}\u{1}");
        channel.marks.set("USHERD_CODE", "allow.new");
        let steps = listing(&mut sessions, 1, 1, vec![channel.clone()]);
        let [Step::Adopt(ask)] = steps.as_slice() else { panic!("{steps:?}") };
        assert!(ask.check().is_ok() && ask.session.as_ref().is_some_and(|session| session.starts_with("yyy")));
        assert_eq!(sessions.report(at(2), 0, &Report::Ended(bare(&long))).len(), 1);
        channel.marks.set("USHERD_TENANT", "ACME!");
        assert_eq!(listing(&mut sessions, 3, 3, vec![channel]), [Step::Unusable]);
    }

    #[test]
    fn a_call_that_ends_before_any_listing_is_released_by_its_marks() {
        let mut sessions = sessions(1);
        sessions.allowed(at(0), &call("c1"));
        assert_eq!(sessions.report(at(1), 0, &Report::Ended(marked("1.1", "c1"))), release("c1"));
        assert!(sessions.report(at(1), 0, &Report::Ended(marked("1.1", "c1"))).is_empty());
    }

    #[test]
    fn nothing_is_released_by_ignorance() {
        let mut sessions = sessions(1);
        sessions.allowed(at(0), &call("c1"));
        listing(&mut sessions, 1, 1, vec![marked("1.1", "c1")]);
        sessions.report(at(2), 0, &Report::Asking);
        sessions.report(at(2), 0, &Report::Lost);
        assert!(sessions.report(at(3), 0, &Report::Live(vec![])).is_empty(), "a listing of a connection that is gone");
        sessions.report(at(4), 0, &Report::Asking);
        sessions.report(at(4), 0, &Report::Unsure("cut"));
        assert!(sessions.report(at(5), 0, &Report::Live(vec![])).is_empty());
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn one_channel_of_two_may_go() {
        let mut sessions = sessions(1);
        listing(&mut sessions, 1, 1, vec![marked("1.1", "c1"), marked("1.2", "c1")]);
        assert!(sessions.report(at(2), 0, &Report::Ended(marked("1.2", "c1"))).is_empty(), "the called side");
        assert!(listing(&mut sessions, 3, 3, vec![marked("1.3", "c1")]).is_empty(), "the end of 1.1 was missed");
        assert_eq!(sessions.report(at(4), 0, &Report::Ended(bare("1.3"))), release("c1"));
    }

    #[test]
    fn a_script_with_a_ttl_lives_by_it_e3() {
        let mut sessions = sessions(1);
        sessions.allowed(at(0), &Ask { ttl_s: Some(60), ..call("fax") });
        for from in [1, 2, 3] {
            assert!(listing(&mut sessions, from, from, vec![]).is_empty());
        }
        sessions.allowed(at(50), &Ask { ttl_s: Some(60), ..call("fax") });
        assert!(sessions.expire(at(109)).is_empty());
        assert_eq!(sessions.expire(at(110)), release("fax"));
    }

    #[test]
    fn a_session_named_by_this_node_is_looked_for_despite_its_ttl() {
        for (session, is_channel) in
            [("pbx-1-9.9", true), ("pbx-1-7-9.9", true), ("fax", false), ("9.9", false), ("pbx-12-9.9", false)]
        {
            let mut sessions = sessions(1);
            sessions.allowed(at(0), &Ask { ttl_s: Some(14_400), ..call(session) });
            assert!(listing(&mut sessions, 1, 1, vec![]).is_empty(), "{session}: it may come yet");
            let steps = listing(&mut sessions, 2, 2, vec![]);
            assert_eq!(steps, if is_channel { release(session) } else { vec![] }, "{session}");
            // Asked for again in time it is one again, and its channel is found by its id.
            sessions.allowed(at(3), &Ask { ttl_s: Some(14_400), ..call(session) });
            assert!(listing(&mut sessions, 4, 4, vec![bare("9.9")]).is_empty(), "{session}");
            assert!(listing(&mut sessions, 5, 5, vec![bare("9.9")]).is_empty(), "{session}");
            assert_eq!(sessions.len(), 1, "{session}");
        }
    }

    #[test]
    fn desktops_of_scripts_are_not_looked_for_among_channels() {
        let mut sessions = sessions(1);
        sessions.allowed(at(0), &Ask::new("acme", "anna", "d1", Kind::Desktop));
        for from in [1, 2, 3] {
            assert!(listing(&mut sessions, from, from, vec![]).is_empty());
        }
    }
}

//! The state of the live view, and how keys and fresh data change it: no terminal, no network, no clock.

use std::collections::{BTreeSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};
use usherd_contract::words::Kind;

use super::facts::{Detail, Holder, described, joined};
use super::news::{Fleet, News, Wish};
use super::order::{Cursor, Sort, matches};
use super::paint::span;
use crate::answers::events::Event;
use crate::answers::operation::Explanation;
use crate::answers::overview::{FullestRow, Overview};
use crate::answers::sessions::SessionRow;
use crate::answers::tenants::{TenantFigures, TenantRow};

/// How long an answer may take beyond two intervals before that is said, seconds.
const LATE_S: i64 = 2;
/// How long it is told that events cannot be followed, seconds.
const DEAF_S: i64 = 5;
/// Events that are kept for showing.
const EVENTS_MAX: usize = 500;
/// Longest filter, characters.
const FILTER_CHARS_MAX: usize = 64;
/// The id under which a question asks that is not about a session.
const ASKED_SESSION: &str = "usherd-top-asks";

/// A request of the view to the code that runs it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Nothing but to be drawn.
    Draw,
    /// To end.
    Quit,
    /// To be stopped as by a shell.
    Suspend,
    /// Fresh data at once.
    Refresh,
    /// An answer of `/v1/explain` to this.
    Ask(Value),
}

/// Which part of a tenant keys act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    /// The holders of seats.
    #[default]
    Holders,
    /// The decisions.
    Decisions,
}

/// The overlay above the view.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Above {
    /// The keys.
    Help,
    /// The answer to a question, which is told in the first field.
    Why(String, Option<Result<Box<Explanation>, String>>),
}

/// One tenant in depth.
#[derive(Clone, Debug, Default)]
pub(super) struct Depth {
    /// Which.
    pub id: String,
    /// The data that was read of it; `None` until then.
    pub detail: Option<Detail>,
    /// Which part keys act on.
    pub pane: Pane,
    /// The holder that is chosen.
    pub holder: Cursor,
    /// The decision that is chosen.
    pub decision: Cursor,
}

/// Everything that the view shows.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The address of the daemon.
    pub address: String,
    /// How often, seconds.
    pub interval_s: u64,
    /// Now, where it is looked at, by which waiting is measured; `None` before the first word of the clock.
    pub now: Option<DateTime<Utc>>,
    /// How far the daemon's clock was ahead of that when it answered last: it may hurry, or be set otherwise.
    ahead: TimeDelta,
    /// When the daemon answered last.
    pub answered: Option<DateTime<Utc>>,
    /// Since when it does not, and why.
    pub failed: Option<(DateTime<Utc>, String)>,
    /// When events could not be followed last, and why.
    deaf: Option<(DateTime<Utc>, String)>,
    /// The totals.
    pub overview: Option<Overview>,
    /// Nodes that were lost, by name.
    pub silent: Vec<String>,
    /// True if there are more tenants than were read.
    pub cut: bool,
    tenants: Vec<TenantRow>,
    /// Places in `tenants`, as they are shown.
    order: Vec<usize>,
    /// How they are sorted.
    pub sort: Sort,
    /// True for the reverse order.
    pub reversed: bool,
    /// Only these are shown.
    pub filter: String,
    /// True if keys go into the filter.
    pub typing: bool,
    /// The tenant that is chosen.
    pub cursor: Cursor,
    /// One tenant, where it is shown instead of the fleet.
    pub depth: Option<Depth>,
    /// The events, the newest first.
    pub events: VecDeque<Event>,
    /// The overlay, if there is one.
    pub above: Option<Above>,
    /// The first line of it that is seen.
    pub above_top: u16,
    /// True if nothing changes for now.
    pub paused: bool,
}

impl State {
    /// Nothing yet, of the daemon that is asked there and so often.
    pub(super) fn new(address: String, interval_s: u64, sort: Sort, filter: String) -> Self {
        State { address, interval_s, sort, filter, ..State::default() }
    }

    /// Now by the daemon's clock, to which everything belongs that it tells.
    pub(super) fn clock(&self) -> Option<DateTime<Utc>> {
        self.now?.checked_add_signed(self.ahead)
    }

    /// Remembers the daemon's clock; one that does not tell it is taken to go right.
    fn set_clock(&mut self, at: Option<DateTime<Utc>>) {
        self.ahead = at.zip(self.now).map_or_else(TimeDelta::zero, |(at, now)| at - now);
    }

    /// The tenants as they are shown.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &TenantRow> {
        self.order.iter().map(|at| &self.tenants[*at])
    }

    /// Tenants that were read.
    pub(super) fn known(&self) -> usize {
        self.tenants.len()
    }

    /// Denials of all tenants that were read.
    pub(super) fn denials(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.figures.denials).sum()
    }

    /// Decisions of the tenant that is shown, the newest first.
    pub(super) fn decisions(&self) -> impl Iterator<Item = &Event> {
        let id = self.depth.as_ref().map(|depth| depth.id.as_str());
        self.events.iter().filter(move |event| event.tenant.as_deref() == id)
    }

    /// The trouble with reading: an answer that failed, or none for longer than it should take.
    pub(super) fn trouble(&self) -> Option<String> {
        let ago = |since: DateTime<Utc>| {
            let ago = self.now.map_or(0, |now| (now - since).num_seconds());
            span(u64::try_from(ago).unwrap_or(0))
        };
        if let Some((since, why)) = &self.failed {
            return Some(format!("No answer for {}: {why}", ago(*since)));
        }
        let answered = self.answered.filter(|_| !self.paused)?;
        let late = self.now? - answered > TimeDelta::seconds(2 * self.interval_s.cast_signed() + LATE_S);
        late.then(|| format!("No answer for {}: {} takes long", ago(answered), self.address))
    }

    /// Why events cannot be followed. They are asked for again every second: silence since then is good news.
    pub(super) fn deaf(&self) -> Option<&str> {
        let (since, why) = self.deaf.as_ref()?;
        (self.now? - since < TimeDelta::seconds(DEAF_S)).then_some(why)
    }

    /// The data that shall be read.
    pub(super) fn wish(&self) -> Wish {
        Wish {
            tenant: self.depth.as_ref().map(|depth| depth.id.clone()),
            search: if self.cut || self.wants_search() { self.filter.trim().to_owned() } else { String::new() },
            paused: self.paused,
        }
    }

    /// A fleet that is larger than what was read is searched by the daemon as long as there is a filter.
    fn wants_search(&self) -> bool {
        self.overview.as_ref().is_some_and(|overview| overview.tenants > self.tenants.len() as u64)
            && !self.filter.trim().is_empty()
    }

    fn chosen(&self) -> Option<String> {
        self.rows().nth(self.cursor.at).map(|tenant| tenant.figures.tenant.clone())
    }

    /// Goes into a tenant.
    pub(super) fn enter(&mut self, id: &str) {
        self.events.clear();
        self.deaf = None;
        self.depth = Some(Depth { id: id.to_owned(), ..Depth::default() });
    }

    fn leave(&mut self) {
        self.events.clear();
        self.deaf = None;
        self.depth = None;
    }

    /// Takes what the reader found. `false` where the process shall end.
    pub(super) fn news(&mut self, news: News) -> bool {
        match news {
            News::End => return false,
            News::Explained(answer) => {
                if let Some(Above::Why(_, waiting)) = &mut self.above {
                    *waiting = Some(answer);
                }
            }
            News::Failed(why) => {
                let since = self.failed.take().map(|(since, _)| since).or(self.answered).or(self.now);
                self.failed = since.map(|since| (since, why));
            }
            _ if self.paused => {}
            News::Fleet(fleet) => self.take_fleet(*fleet),
            News::Tenant(detail) => self.take_tenant(*detail),
            News::NoEvents(why) => self.deaf = self.now.map(|now| (now, why)),
            News::Event(event) => self.take_event(*event),
        }
        true
    }

    fn take_fleet(&mut self, fleet: Fleet) {
        (self.answered, self.failed) = (self.now, None);
        self.set_clock(fleet.overview.as_ref().and_then(|overview| overview.at.instant()));
        self.silent = fleet.silent;
        self.overview = fleet.overview;
        if let Some(tenants) = fleet.tenants {
            (self.tenants, self.cut) = (tenants, fleet.cut);
            self.add_fullest();
            self.arrange();
        }
    }

    /// Of a fleet that is too large to be read, the fullest are there anyway.
    fn add_fullest(&mut self) {
        let Some(overview) = self.overview.as_ref().filter(|_| self.cut) else { return };
        let known: BTreeSet<&str> = self.tenants.iter().map(|tenant| tenant.figures.tenant.as_str()).collect();
        let more = overview.fullest.iter().filter(|tenant| !known.contains(tenant.tenant.as_str()));
        let more: Vec<TenantRow> = more.map(row_of).collect();
        self.tenants.extend(more);
    }

    fn take_tenant(&mut self, detail: Detail) {
        let Some(depth) = self.depth.as_mut().filter(|depth| depth.id == detail.tenant.figures.tenant) else { return };
        (self.answered, self.failed) = (self.now, None);
        let names = detail.holders.iter().map(|holder| holder.subject.as_str());
        depth.holder.follow_row(names);
        let at = detail.tenant.at.instant();
        depth.detail = Some(detail);
        self.set_clock(at);
    }

    fn take_event(&mut self, event: Event) {
        self.deaf = None;
        let rows = self.events.len() + 1;
        if let Some(depth) = self.depth.as_mut().filter(|depth| event.tenant.as_ref() == Some(&depth.id)) {
            depth.decision.pushed(rows.min(EVENTS_MAX));
        }
        self.events.push_front(event);
        self.events.truncate(EVENTS_MAX);
    }

    /// Sorts and filters anew; whoever was chosen stays chosen.
    pub(super) fn arrange(&mut self) {
        let mut order: Vec<usize> = (0..self.tenants.len()).collect();
        order.retain(|at| matches(&self.tenants[*at], &self.filter));
        order.sort_by(|a, b| self.sort.compare(&self.tenants[*a], &self.tenants[*b], self.reversed));
        self.order = order;
        let ids: Vec<String> = self.rows().map(|tenant| tenant.figures.tenant.clone()).collect();
        self.cursor.follow_row(ids.iter().map(String::as_str));
    }

    /// Acts on a key; `page` is the number of rows of the list that keys act on.
    pub(super) fn key(&mut self, key: KeyEvent, page: usize) -> Effect {
        // Escape and the key behind it look like one with Alt where both come in one packet, as over ssh.
        if key.modifiers.contains(KeyModifiers::ALT) {
            return match self.key(KeyEvent::from(KeyCode::Esc), page) {
                Effect::Draw => self.key(KeyEvent::new(key.code, key.modifiers - KeyModifiers::ALT), page),
                effect => effect,
            };
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if ctrl => Effect::Quit,
            KeyCode::Char('z') if ctrl => Effect::Suspend,
            KeyCode::Char('l') if ctrl => Effect::Refresh,
            _ if self.above.is_some() => self.key_above(key.code, page),
            _ if self.typing => self.key_typing(key.code, ctrl),
            _ if ctrl => Effect::Draw,
            KeyCode::Char('?') => self.show(Above::Help),
            KeyCode::Char(' ') => {
                self.paused = !self.paused;
                Effect::Draw
            }
            KeyCode::Char('r') => Effect::Refresh,
            code if self.depth.is_some() => self.key_tenant(code, page),
            code => self.key_fleet(code, page),
        }
    }

    fn show(&mut self, above: Above) -> Effect {
        (self.above, self.above_top) = (Some(above), 0);
        Effect::Draw
    }

    fn key_above(&mut self, code: KeyCode, page: usize) -> Effect {
        let page = u16::try_from(page).unwrap_or(u16::MAX);
        match code {
            KeyCode::Down | KeyCode::Char('j') => self.above_top = self.above_top.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.above_top = self.above_top.saturating_sub(1),
            KeyCode::PageDown => self.above_top = self.above_top.saturating_add(page),
            KeyCode::PageUp => self.above_top = self.above_top.saturating_sub(page),
            KeyCode::Home => self.above_top = 0,
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | 'e' | '?') => self.above = None,
            _ => {}
        }
        Effect::Draw
    }

    fn key_typing(&mut self, code: KeyCode, ctrl: bool) -> Effect {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Char('u') if ctrl => self.filter.clear(),
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(c) if !ctrl && self.filter.chars().count() < FILTER_CHARS_MAX => self.filter.push(c),
            _ => {}
        }
        self.arrange();
        Effect::Draw
    }

    fn key_fleet(&mut self, code: KeyCode, page: usize) -> Effect {
        match code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Effect::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('e') => return self.ask_of_tenant(),
            KeyCode::Enter | KeyCode::Right => {
                if let Some(id) = self.chosen() {
                    self.enter(&id);
                }
                return Effect::Draw;
            }
            KeyCode::Char(c) if Sort::of_key(c).is_some() => self.sort_by(c),
            code => {
                let ids: Vec<String> = self.rows().map(|tenant| tenant.figures.tenant.clone()).collect();
                self.cursor.key(code, page, ids.iter().map(String::as_str));
                return Effect::Draw;
            }
        }
        self.arrange();
        Effect::Draw
    }

    fn sort_by(&mut self, key: char) {
        if let Some(sort) = Sort::of_key(key) {
            self.reversed = self.sort == sort && !self.reversed;
            self.sort = sort;
            self.cursor = Cursor::default();
        }
    }

    fn key_tenant(&mut self, code: KeyCode, page: usize) -> Effect {
        let ids: Vec<String> = self.decisions().map(|event| event.id.unwrap_or(0).to_string()).collect();
        let Some(depth) = &mut self.depth else { return Effect::Draw };
        match (code, depth.pane) {
            (KeyCode::Esc | KeyCode::Left | KeyCode::Backspace | KeyCode::Char('q'), _) => self.leave(),
            (KeyCode::Tab | KeyCode::BackTab, Pane::Holders) => depth.pane = Pane::Decisions,
            (KeyCode::Tab | KeyCode::BackTab, Pane::Decisions) => depth.pane = Pane::Holders,
            (KeyCode::Char('e') | KeyCode::Enter, Pane::Holders) => return self.ask_of_holder(),
            (KeyCode::Char('e') | KeyCode::Enter, Pane::Decisions) => return self.ask_of_decision(),
            (code, Pane::Decisions) => depth.decision.key(code, page, ids.iter().map(String::as_str)),
            (code, Pane::Holders) => {
                let holders = depth.detail.iter().flat_map(|detail| &detail.holders);
                depth.holder.key(code, page, holders.map(|holder| holder.subject.as_str()));
            }
        }
        Effect::Draw
    }

    /// Asks for the answer that a subject without a seat would get.
    fn ask_of_tenant(&mut self) -> Effect {
        match self.chosen() {
            Some(id) => self.ask_for_somebody(&id),
            None => Effect::Draw,
        }
    }

    fn ask_for_somebody(&mut self, tenant: &str) -> Effect {
        let about = format!("{tenant}: somebody without a seat opens a desktop client");
        self.show(Above::Why(about, None));
        Effect::Ask(json!({
            "tenant": tenant, "subject": ASKED_SESSION, "session": ASKED_SESSION, "kind": "desktop", "ttl_s": 60,
        }))
    }

    /// Why this one holds a seat: its oldest claim, asked again. A seat that lingers has none.
    fn ask_of_holder(&mut self) -> Effect {
        let Some(depth) = &self.depth else { return Effect::Draw };
        let tenant = depth.id.clone();
        let chosen = depth.detail.as_ref().and_then(|detail| detail.holders.get(depth.holder.at));
        let Some(Holder { subject, claims }) = chosen.cloned() else { return self.ask_for_somebody(&tenant) };
        let claim = claims.first().cloned().unwrap_or_else(|| SessionRow {
            session: ASKED_SESSION.to_owned(),
            kind: Kind::Desktop.into(),
            ..SessionRow::default()
        });
        let about = format!("{subject} in {tenant}: {}", described(&claim));
        self.show(Above::Why(about, None));
        let mut body = json!({
            "tenant": tenant, "subject": subject, "session": claim.session, "kind": claim.kind,
            "direction": claim.direction, "leg": claim.leg,
        });
        complete(&mut body, claim.kind == Kind::Call.into(), claim.node.as_deref());
        Effect::Ask(body)
    }

    /// Why it was decided so, or would be now.
    fn ask_of_decision(&mut self) -> Effect {
        let at = self.depth.as_ref().map_or(0, |depth| depth.decision.at);
        let Some(event) = self.decisions().nth(at).cloned() else { return Effect::Draw };
        let (Some(tenant), Some(subject), Some(kind)) = (&event.tenant, &event.subject, &event.kind) else {
            return Effect::Draw;
        };
        let words = joined([event.direction.as_deref(), Some(kind), event.session.as_deref()], " ");
        self.show(Above::Why(format!("{subject} in {tenant}: {words}"), None));
        let mut body = json!({
            "tenant": tenant, "subject": subject, "session": event.session, "kind": kind,
            "direction": event.direction, "class": event.class, "group": event.group,
        });
        complete(&mut body, *kind == Kind::Call.into(), None);
        Effect::Ask(body)
    }
}

/// A row of the fleet of what is told of one of the fullest.
fn row_of(full: &FullestRow) -> TenantRow {
    let FullestRow { tenant, name, quota, held, free, over, band } = full.clone();
    let (quota, free) = (Some(quota), Some(free));
    TenantRow { figures: TenantFigures { tenant, quota, held, free, over, band, ..TenantFigures::default() }, name }
}

/// Makes a question of fields that may be absent. Where nobody said which way a call goes, it is one that counts.
fn complete(body: &mut Value, is_call: bool, node: Option<&str>) {
    let Some(fields) = body.as_object_mut() else { return };
    fields.retain(|_, value| !value.is_null());
    if is_call && !fields.contains_key("direction") {
        fields.insert("direction".to_owned(), json!("outbound"));
    }
    match node {
        None => fields.insert("ttl_s".to_owned(), json!(60)),
        Some(node) => fields.insert("node".to_owned(), json!(node)),
    };
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::answers::usage::Usage;

    fn at(second: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(1_800_000_000 + second, 0)
    }

    fn tenant(id: &str, held: u32, quota: u32) -> TenantRow {
        row_of(&FullestRow { tenant: id.into(), held, quota, ..FullestRow::default() })
    }

    fn fleet(tenants: &[TenantRow]) -> News {
        let overview = Overview { tenants: tenants.len() as u64, ready: true, ..Overview::default() };
        News::Fleet(Box::new(Fleet { overview: Some(overview), tenants: Some(tenants.to_vec()), ..Fleet::default() }))
    }

    fn state(tenants: &[TenantRow]) -> State {
        let mut state = State::new("here:1".into(), 2, Sort::default(), String::new());
        state.now = at(0);
        assert!(state.news(fleet(tenants)));
        state
    }

    fn three() -> State {
        state(&[tenant("a", 1, 10), tenant("b", 10, 10), tenant("c", 5, 10)])
    }

    fn press(state: &mut State, keys: &str) -> Effect {
        let mut effect = Effect::Draw;
        for key in keys.split(' ') {
            let (code, modifiers) = match key {
                "Enter" => (KeyCode::Enter, KeyModifiers::NONE),
                "Esc" => (KeyCode::Esc, KeyModifiers::NONE),
                "Tab" => (KeyCode::Tab, KeyModifiers::NONE),
                "Down" => (KeyCode::Down, KeyModifiers::NONE),
                "Back" => (KeyCode::Backspace, KeyModifiers::NONE),
                "Space" => (KeyCode::Char(' '), KeyModifiers::NONE),
                "^C" => (KeyCode::Char('c'), KeyModifiers::CONTROL),
                "^U" => (KeyCode::Char('u'), KeyModifiers::CONTROL),
                "Alt-h" => (KeyCode::Char('h'), KeyModifiers::ALT),
                "^Z" => (KeyCode::Char('z'), KeyModifiers::CONTROL),
                key => (KeyCode::Char(key.chars().next().unwrap()), KeyModifiers::NONE),
            };
            effect = state.key(KeyEvent::new(code, modifiers), 10);
        }
        effect
    }

    fn shown(state: &State) -> String {
        state.rows().map(|tenant| tenant.figures.tenant.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_sort_and_the_same_key_again_turns_it_round() {
        let mut state = three();
        for (keys, expected) in [("f", "a c b"), ("f", "b c a"), ("n", "a b c"), ("n", "c b a"), ("h", "b c a")] {
            press(&mut state, keys);
            assert_eq!(shown(&state), expected, "{keys}");
        }
    }

    #[test]
    fn a_filter_narrows_while_typed_and_escape_clears_it_first() {
        let mut state = state(&[tenant("acme", 1, 2), tenant("quick", 1, 2)]);
        assert_eq!(press(&mut state, "/ q"), Effect::Draw, "q is a letter here");
        assert_eq!((shown(&state).as_str(), state.typing), ("quick", true));
        press(&mut state, "Back a");
        assert_eq!(shown(&state), "acme");
        press(&mut state, "x ^U c Enter");
        assert_eq!((shown(&state).as_str(), state.filter.as_str(), state.typing), ("acme quick", "c", false));
        assert_eq!(press(&mut state, "Esc"), Effect::Draw);
        assert_eq!(state.filter, "");
        press(&mut state, "/ q Alt-h");
        assert_eq!((state.filter.as_str(), state.typing, state.sort), ("", false, Sort::Held), "Escape, then h");
        assert_eq!(press(&mut state, "Esc"), Effect::Quit);
    }

    #[test]
    fn keys_go_in_and_out_of_a_tenant() {
        let mut state = three();
        press(&mut state, "Down Enter");
        assert_eq!(state.wish().tenant.as_deref(), Some("c"), "the second by fullness");
        assert_eq!(press(&mut state, "q"), Effect::Draw);
        assert_eq!(state.wish(), Wish::default());
        assert_eq!(press(&mut state, "q"), Effect::Quit);
        assert_eq!(press(&mut state, "^C"), Effect::Quit);
        assert_eq!(press(&mut state, "^Z"), Effect::Suspend);
    }

    fn detail(id: &str) -> News {
        let session = |id: &str, kind: &str, direction: &str| {
            json!({ "session": id, "subject": "anna", "kind": kind, "direction": direction, "counts": true,
                "leg": "originate", "node": "pbx", "started": "2027-01-15T08:00:00Z" })
        };
        let sessions = json!([session("c1", "call", "outbound"), session("d1", "desktop", "")]);
        let subjects = json!([{ "subject": "anna", "seated": true }, { "subject": "bob", "seated": true }]);
        depth(json!({ "tenant": id, "held": 2, "quota": 2 }), sessions, subjects)
    }

    fn depth(tenant: Value, sessions: Value, subjects: Value) -> News {
        let (sessions, subjects): (Vec<SessionRow>, _) = (read(sessions), read(subjects));
        News::Tenant(Box::new(Detail::new(read(tenant), &sessions, subjects, &Usage::default(), false)))
    }

    fn read<T: DeserializeOwned>(answer: Value) -> T {
        serde_json::from_value(answer).unwrap()
    }

    #[test]
    fn a_holder_is_explained_by_the_oldest_claim() {
        let mut state = three();
        press(&mut state, "Enter");
        state.news(detail("b"));
        let Effect::Ask(body) = press(&mut state, "e") else { panic!("nothing was asked") };
        let expected = json!({ "tenant": "b", "subject": "anna", "session": "c1", "kind": "call",
            "direction": "outbound", "leg": "originate", "node": "pbx" });
        assert_eq!(body, expected);
        assert!(matches!(&state.above, Some(Above::Why(_, None))));
        state.news(News::Explained(Err("no".into())));
        assert!(matches!(&state.above, Some(Above::Why(_, Some(Err(_))))));
        press(&mut state, "Esc");
        // Bob holds a seat that lingers: there is no session to ask about.
        let Effect::Ask(body) = press(&mut state, "Down e") else { panic!("nothing was asked") };
        assert_eq!((body["subject"].as_str(), body["kind"].as_str()), (Some("bob"), Some("desktop")));
    }

    #[test]
    fn a_denied_call_is_explained_as_one_that_counts() {
        let mut state = three();
        press(&mut state, "Enter Tab");
        let event =
            json!({ "id": 7, "type": "denied", "tenant": "b", "subject": "bob", "session": "c9", "kind": "call" });
        state.news(News::Event(Box::new(read(event))));
        let Effect::Ask(body) = press(&mut state, "e") else { panic!("nothing was asked") };
        assert_eq!(body["direction"], "outbound");
        assert_eq!(body["ttl_s"], 60);
    }

    #[test]
    fn the_chosen_decision_stays_chosen_while_others_come() {
        let mut state = three();
        press(&mut state, "Enter Tab");
        let event = |id: u64, tenant: &str| {
            let event = json!({ "id": id, "tenant": tenant, "kind": "desktop", "subject": "x" });
            News::Event(Box::new(read(event)))
        };
        for id in 1..=3 {
            state.news(event(id, "b"));
        }
        press(&mut state, "Down");
        let chosen =
            |state: &State| state.decisions().nth(state.depth.as_ref().unwrap().decision.at).unwrap().id.unwrap();
        assert_eq!(chosen(&state), 2);
        state.news(event(4, "b"));
        state.news(event(5, "other"));
        assert_eq!(chosen(&state), 2);
        for id in 6..2_000 {
            state.news(event(id, "b"));
        }
        assert_eq!(state.events.len(), EVENTS_MAX);
        assert!(chosen(&state) > 2, "the last that is kept, where the chosen one is gone");
    }

    #[test]
    fn a_pause_holds_everything_but_the_end() {
        let mut state = three();
        press(&mut state, "Space");
        state.news(fleet(&[tenant("new", 1, 1)]));
        assert_eq!(shown(&state), "b c a");
        assert!(state.wish().paused);
        assert!(!state.news(News::End));
        press(&mut state, "Space");
        state.news(fleet(&[tenant("new", 1, 1)]));
        assert_eq!(shown(&state), "new");
    }

    #[test]
    fn silence_is_told_with_its_length_and_ends_with_an_answer() {
        let mut state = three();
        assert_eq!(state.trouble(), None);
        state.now = at(6);
        assert_eq!(state.trouble(), None, "two intervals and a little");
        state.now = at(12);
        assert_eq!(state.trouble().unwrap(), "No answer for 12 s: here:1 takes long");
        state.news(News::Failed("refused".into()));
        state.now = at(15);
        state.news(News::Failed("refused again".into()));
        assert_eq!(state.trouble().unwrap(), "No answer for 15 s: refused again");
        state.news(fleet(&[]));
        assert_eq!(state.trouble(), None);
        state.news(News::NoEvents("too many listen".into()));
        assert_eq!(state.deaf(), Some("too many listen"));
        state.now = at(21);
        assert_eq!(state.deaf(), None);
    }

    #[test]
    fn the_clock_is_the_daemons_and_waiting_is_measured_by_ones_own() {
        let mut state = three();
        assert_eq!(state.clock(), at(0), "a daemon that does not tell its own");
        let tells = |at: Option<DateTime<Utc>>| {
            let overview = Overview { at: at.unwrap().to_rfc3339().into(), ..Overview::default() };
            News::Fleet(Box::new(Fleet { overview: Some(overview), ..Fleet::default() }))
        };
        state.news(tells(at(7_200)));
        state.now = at(3);
        assert_eq!((state.clock(), state.trouble()), (at(7_203), None), "two hours ahead");
        // One that hurries is followed with each answer; one that is behind goes as well.
        for told in [7_500, -7_500] {
            state.news(tells(at(told)));
            assert_eq!(state.clock(), at(told));
        }
        state.news(News::Failed("refused".into()));
        state.now = at(10);
        assert_eq!(state.trouble().unwrap(), "No answer for 7 s: refused");
        assert_eq!(state.clock(), at(-7_493));
        press(&mut state, "Enter");
        let tenant = json!({ "tenant": "b", "at": "2027-01-15T09:00:00Z" });
        state.news(depth(tenant, json!([]), json!([])));
        assert_eq!(state.clock(), at(3_600));
        state.set_clock(Some(DateTime::<Utc>::MAX_UTC));
        state.now = at(11);
        assert_eq!(state.clock(), None, "nonsense is not shown, and ends nothing");
    }

    #[test]
    fn a_fleet_too_large_to_read_is_searched_by_the_daemon() {
        let mut state = three();
        let news = |search: &str| {
            let full = FullestRow { tenant: "zz".into(), held: 3, quota: 2, ..FullestRow::default() };
            let overview = Overview { tenants: 30_000, fullest: vec![full], ..Overview::default() };
            let tenants = if search.is_empty() { vec![tenant("a", 1, 10)] } else { vec![tenant("x7", 1, 2)] };
            News::Fleet(Box::new(Fleet {
                overview: Some(overview),
                tenants: Some(tenants),
                cut: search.is_empty(),
                silent: Vec::new(),
            }))
        };
        state.news(news(""));
        assert_eq!(shown(&state), "zz a");
        press(&mut state, "/ x 7");
        assert_eq!(state.wish().search, "x7");
        state.news(news("x7"));
        assert_eq!(shown(&state), "x7");
        assert_eq!(state.wish().search, "x7", "as long as there is a filter");
        press(&mut state, "Esc");
        assert_eq!(state.wish().search, "");
    }
}

//! The fleet: totals, and the tenants as a table.

use ratatui::layout::Rect;
use usherd_contract::word::Word;
use usherd_subscription::entitlement::State as Standing;

use super::facts::{fullness, joined, seats_after};
use super::order::Sort;
use super::paint::{Look, Pen, Tone, grouped, quota, span, width};
use super::places;
use super::state::State;
use crate::answers::Timestamp;
use crate::answers::events::Event;
use crate::answers::overview::Overview;
use crate::answers::tenants::TenantRow;
use crate::answers::words::{Band, EventType};

/// Columns of a label at the left edge.
const LABEL: u16 = 10;
/// Columns of what is over, of denials, and of the word behind a bar.
const OVER: u16 = 4;
const DENIED: u16 = 6;
const BEHIND_BAR: u16 = 5;
/// Of which time two of the columns are, and what a rule needs beside its words to tell that too.
const SINCE: &str = "; PEAK in 10 min, DENIED since the start";
const RULE_MARGIN: u16 = 7;
/// From here on a screen has room for the words of the wire, and for the band.
const WIDE: u16 = 104;

/// Draws the fleet; without keys and events where it is printed.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, live: bool) {
    let places = places::fleet(area, live);
    head(pen, places.head, state);
    table(pen, places.titles, places.rows, state, live);
    if live {
        happenings(pen, places.events, state);
        foot(pen, places.foot, state);
    }
}

/// The first line of every view: what is looked at at the left, the daemon's clock at the right.
pub(super) fn title(pen: &mut Pen<'_>, area: Rect, state: &State, words: &[(String, Tone)]) {
    let clock = state.clock().map(|now| pen.look.date_time(now)).unwrap_or_default();
    let columns = area.width.saturating_sub(width(&clock) + 2);
    pen.pieces(area.x, area.y, columns, words);
    pen.right(area.x, area.y, area.width, &clock, Tone::Plain);
}

/// A label and what belongs to it.
pub(super) fn line(pen: &mut Pen<'_>, area: Rect, row: u16, label: &str, pieces: &[(String, Tone)]) {
    pen.text(area.x, area.y + row, LABEL, label, Tone::Faint);
    pen.pieces(area.x + LABEL, area.y + row, area.width.saturating_sub(LABEL), pieces);
}

/// Seats as a bar, and in words behind it.
pub(super) fn seats(pen: &mut Pen<'_>, area: Rect, row: u16, held: u64, limit: Option<u64>, more: &[(String, Tone)]) {
    let columns = (area.width / 3).min(50);
    pen.text(area.x, area.y + row, LABEL, "Seats", Tone::Faint);
    let share = limit.map_or(0.0, |limit| if limit == 0 { 0.0 } else { held as f64 / limit as f64 });
    pen.bar(area.x + LABEL, area.y + row, columns, share, tone_of(share));
    let mut pieces = vec![(format!("{} of {} held", grouped(held), quota(limit)), Tone::Strong)];
    if limit.is_some_and(|limit| limit > 0) {
        pieces.push((format!("  {}%", percent(share)), tone_of(share)));
    }
    pieces.extend_from_slice(more);
    let x = area.x + LABEL + columns + 1;
    pen.pieces(x, area.y + row, area.right().saturating_sub(x), &pieces);
}

/// How full it is for the eye.
pub(super) fn tone_of(share: f64) -> Tone {
    match share {
        share if share >= 1.0 => Tone::Bad,
        share if share >= 0.9 => Tone::Warn,
        _ => Tone::Good,
    }
}

/// Rounded down, so that 100 is only what is full.
fn percent(share: f64) -> u64 {
    (share * 100.0).floor() as u64
}

fn plain(text: impl Into<String>) -> (String, Tone) {
    (text.into(), Tone::Plain)
}

fn head(pen: &mut Pen<'_>, area: Rect, state: &State) {
    let Some(overview) = &state.overview else {
        let asked = if state.answered.is_some() { "totals are for tokens of the whole daemon" } else { "asking" };
        title(pen, area, state, &[("usherd ".into(), Tone::Title), plain(format!("{}  {asked}", state.address))]);
        return;
    };
    let (word, tone) = match (state.trouble().is_some(), overview.ready) {
        (true, _) => ("NO ANSWER", Tone::Bad),
        (false, true) => ("ready", Tone::Good),
        (false, false) => ("NOT READY", Tone::Bad),
    };
    let mut words = vec![
        (format!("usherd {} ", overview.version), Tone::Title),
        plain(format!("{}  ", state.address)),
        (word.to_owned(), tone),
    ];
    if state.paused {
        words.push(("  PAUSED".into(), Tone::Warn));
    }
    title(pen, area, state, &words);
    let over = match overview.over {
        0 => Vec::new(),
        over => vec![(format!("  {} over quota", grouped(over)), Tone::Bad)],
    };
    seats(pen, area, 1, overview.held, Some(overview.quota), &over);
    line(pen, area, 2, "Tenants", &bands(overview));
    line(pen, area, 3, "Nodes", &nodes(overview, state));
    line(pen, area, 4, "Daemon", &daemon(overview, pen.look));
}

fn bands(overview: &Overview) -> Vec<(String, Tone)> {
    let mut pieces = vec![(grouped(overview.tenants), Tone::Strong)];
    for band in Band::ALL {
        let count = overview.bands.get(&(*band).into()).copied().unwrap_or(0);
        let (word, tone) = match band {
            Band::Idle => ("idle", Tone::Plain),
            Band::Below50 => ("<50%", Tone::Plain),
            Band::From50 => ("<80%", Tone::Plain),
            Band::From80 => ("<90%", Tone::Plain),
            Band::From90 => ("<100%", Tone::Warn),
            Band::Full => ("full", Tone::Warn),
            Band::Over => ("over", Tone::Bad),
        };
        let tone = if count == 0 { Tone::Faint } else { tone };
        pieces.push((format!("  {} {word}", grouped(count)), tone));
    }
    pieces
}

fn nodes(overview: &Overview, state: &State) -> Vec<(String, Tone)> {
    let mut pieces = vec![plain(format!("{} up", grouped(overview.nodes.up as u64)))];
    match (overview.nodes.silent as u64, state.silent.as_slice()) {
        (0, _) => {}
        (count, []) => pieces.push((format!(", {} silent", grouped(count)), Tone::Warn)),
        (count, [first, more @ ..]) => {
            let others = if more.is_empty() { "" } else { " and others" };
            pieces.push((format!(", {} silent: {first}{others}", grouped(count)), Tone::Warn));
        }
    }
    let claims: u64 = overview.sessions.values().map(|of| u64::from(of.counting)).sum();
    let free: u64 = overview.sessions.values().map(|of| u64::from(of.free)).sum();
    pieces.push(plain(format!("   Sessions {} with a seat, {} without", grouped(claims), grouped(free))));
    let denials = state.denials();
    pieces.push((format!("   Denied {}", grouped(denials)), if denials > 0 { Tone::Warn } else { Tone::Plain }));
    pieces
}

fn daemon(overview: &Overview, look: Look) -> Vec<(String, Tone)> {
    let mut pieces = Vec::new();
    match &overview.journal.degraded {
        Some(why) => pieces.push((format!("JOURNAL DEGRADED: {why}"), Tone::Bad)),
        None => pieces.push(plain(format!("journal {}", overview.journal.durability))),
    }
    let config = &overview.config;
    match (config.outcome.last_reload_successful, config.from_last_good, config.loaded_at.instant()) {
        (false, ..) => {
            let why = config.last_error.as_deref().unwrap_or("rejected");
            pieces.push((format!("  CONFIG REJECTED: {why}"), Tone::Bad));
        }
        (true, true, _) => pieces.push(("  CONFIG is the last good one, the files are not valid".into(), Tone::Bad)),
        (true, false, Some(at)) => pieces.push(plain(format!("  config of {}", look.minute(at)))),
        (true, false, None) => {}
    }
    if !overview.time.wall_clock_trusted {
        pieces.push(("  CLOCK NOT TRUSTED".into(), Tone::Bad));
    }
    if let Some(next) = &overview.next_change {
        let then = booked(&next.at, next.seats, &next.state, look);
        pieces.push(plain(format!("  next change {} {then}", next.tenant)));
    }
    pieces
}

/// A booked change: `2026-12-01 00:00: 12 seats`
pub(super) fn booked(at: &Timestamp, seats: Option<u32>, state: &Word<Standing>, look: Look) -> String {
    let at = at.instant().map(|at| look.minute(at)).unwrap_or_default();
    if *state == Standing::Ended.into() {
        return format!("{at}: ended");
    }
    format!("{at}: {} seats", quota(seats.map(u64::from)))
}

/// Where each column begins and how wide it is.
struct Columns {
    name: u16,
    state: u16,
    band: u16,
    bar: u16,
    figure: u16,
    wide: bool,
}

impl Columns {
    fn of(width: u16) -> Self {
        let wide = width >= WIDE;
        let (state, band, bar, figure) = match wide {
            true => (14, 9, (width / 6).min(30), 7),
            false => (9, 0, 6, 5),
        };
        // Marker, six figures with their gaps, and the word behind the bar.
        let figures = 2 + 4 * (figure + 1) + OVER + 1 + DENIED + 1 + BEHIND_BAR;
        let name = width.saturating_sub(figures + state + 1 + bar + 1 + if wide { band + 1 } else { 0 });
        Columns { name, state, band, bar, figure, wide }
    }

    /// The widths of the figures, in their order.
    const fn figures(&self) -> [u16; 6] {
        [self.figure, self.figure, self.figure, OVER, self.figure, DENIED]
    }
}

fn table(pen: &mut Pen<'_>, titles: Rect, rows: Rect, state: &State, live: bool) {
    let columns = Columns::of(rows.width);
    let (shown, known) = (state.rows().len(), state.known());
    let upside = if state.reversed { ", reversed" } else { "" };
    let mut heading = format!("Tenants by {}{upside}", state.sort.word());
    if !state.filter.trim().is_empty() {
        heading.push_str(&format!(", filter \"{}\"", state.filter.trim()));
    }
    let of = match state.cut {
        true => format!("{} of the first {}; / searches them all", grouped(shown as u64), grouped(known as u64)),
        false => format!("{} of {}", grouped(shown as u64), grouped(known as u64)),
    };
    if width(&heading) + width(SINCE) + width(&of) + RULE_MARGIN <= titles.width {
        heading.push_str(SINCE);
    }
    pen.rule(titles.x, titles.y, titles.width, &heading, &of, Tone::Title);
    if let Some(nothing) = nothing_to_show(state) {
        pen.text(rows.x + 2, rows.y, rows.width.saturating_sub(2), &nothing, Tone::Plain);
        return;
    }
    column_titles(pen, Rect { y: titles.y + 1, height: 1, ..titles }, &columns, state);
    let page = usize::from(rows.height);
    let top = if live { state.cursor.top(page) } else { 0 };
    for (row, tenant) in state.rows().skip(top).take(page).enumerate() {
        let area = Rect { y: rows.y + row as u16, height: 1, ..rows };
        tenant_row(pen, area, &columns, tenant);
        if live && top + row == state.cursor.at {
            pen.text(area.x, area.y, 1, ">", Tone::Strong);
            pen.choose(area.x, area.y, area.width);
        }
    }
}

fn nothing_to_show(state: &State) -> Option<String> {
    match (state.rows().len(), state.known(), state.answered) {
        (1.., ..) => None,
        (0, _, None) => Some(format!("Asking {} ...", state.address)),
        (0, 0, Some(_)) if state.filter.trim().is_empty() => {
            Some("The daemon knows no tenants: `usherd config init` writes a file to begin with.".to_owned())
        }
        (0, ..) => Some(format!("No tenant matches \"{}\"; Esc clears the filter.", state.filter.trim())),
    }
}

fn column_titles(pen: &mut Pen<'_>, area: Rect, columns: &Columns, state: &State) {
    let sorted = |sort: Sort| if state.sort == sort { Tone::Title } else { Tone::Strong };
    let mut x = area.x + 2;
    pen.text(x, area.y, columns.name, "TENANT", sorted(Sort::Name));
    x += columns.name + 1;
    pen.text(x, area.y, columns.state, "STATE", Tone::Strong);
    x += columns.state + 1;
    if columns.wide {
        pen.text(x, area.y, columns.band, "BAND", Tone::Strong);
        x += columns.band + 1;
    }
    let titles = [
        ("HELD", sorted(Sort::Held)),
        ("QUOTA", Tone::Strong),
        ("FREE", Tone::Strong),
        ("OVER", Tone::Strong),
        ("PEAK", Tone::Strong),
        ("DENIED", sorted(Sort::Denials)),
    ];
    for ((title, tone), wide) in titles.into_iter().zip(columns.figures()) {
        pen.right(x, area.y, wide, title, tone);
        x += wide + 1;
    }
    pen.text(x, area.y, area.right().saturating_sub(x), "FULLNESS", sorted(Sort::Fullness));
}

fn tenant_row(pen: &mut Pen<'_>, area: Rect, columns: &Columns, tenant: &TenantRow) {
    let TenantRow { figures, name } = tenant;
    let share = fullness(figures);
    let tone = if share >= 0.9 { tone_of(share) } else { Tone::Plain };
    let y = area.y;
    let mut x = area.x + 2;
    let behind = pen.text(x, y, columns.name, &figures.tenant, Tone::Strong);
    if *name != figures.tenant && behind + 8 < x + columns.name {
        pen.text(behind + 2, y, x + columns.name - behind - 2, name, Tone::Plain);
    }
    x += columns.name + 1;
    let state = if columns.wide { &*figures.state } else { short(&figures.state) };
    let is_well = matches!(&*figures.state, "active" | "trial" | "pending_change" | "pending_cancel");
    pen.text(x, y, columns.state, state, if is_well { Tone::Plain } else { Tone::Warn });
    x += columns.state + 1;
    if columns.wide {
        pen.text(x, y, columns.band, &figures.band, tone);
        x += columns.band + 1;
    }
    let free = figures.quota.map(|quota| quota.saturating_sub(figures.held));
    let unless_none = |count: u64, tone| if count == 0 { (None, Tone::Faint) } else { (Some(count), tone) };
    let cells = [
        (Some(figures.held.into()), Tone::Strong),
        (figures.quota.map(u64::from), Tone::Plain),
        (free.map(u64::from), Tone::Plain),
        unless_none(figures.over.into(), Tone::Bad),
        (Some(figures.peak.into()), Tone::Plain),
        unless_none(figures.denials, Tone::Warn),
    ];
    for (at, ((count, tone), wide)) in cells.into_iter().zip(columns.figures()).enumerate() {
        let nothing = if at < 3 { "unlim" } else { "-" };
        pen.right(x, y, wide, &count.map_or_else(|| nothing.to_owned(), |count| short_count(count, wide)), tone);
        x += wide + 1;
    }
    pen.bar(x, y, columns.bar, share, tone_of(share));
    let word = match (figures.quota, figures.over) {
        (None, _) => "-".to_owned(),
        (_, 1..) => "over".to_owned(),
        (Some(quota), 0) if quota > 0 && figures.held == quota => "full".to_owned(),
        _ => format!("{}%", percent(share)),
    };
    pen.right(x + columns.bar, y, BEHIND_BAR, &word, tone);
}

/// A count in so many columns: with its thousands set apart, without, or in thousands and millions.
fn short_count(count: u64, columns: u16) -> String {
    let ways = [grouped(count), count.to_string(), format!("{}k", count / 1_000), format!("{}M", count / 1_000_000)];
    let [.., last] = &ways;
    ways.iter().find(|way| width(way) <= columns).unwrap_or(last).clone()
}

/// States in nine columns.
fn short(state: &str) -> &str {
    match state {
        "pending_change" => "changing",
        "pending_cancel" => "ending",
        state => state,
    }
}

fn happenings(pen: &mut Pen<'_>, area: Rect, state: &State) {
    if let Some(why) = state.trouble() {
        pen.text(area.x, area.y, area.width, &format!("! {why}"), Tone::Bad);
        return;
    }
    if let Some(why) = state.deaf() {
        pen.text(area.x, area.y, area.width, &format!("! No events: {why}"), Tone::Warn);
        return;
    }
    let mut area = area;
    if area.height > 1 {
        pen.rule(area.x, area.y, area.width, "What happens", "", Tone::Title);
        area = Rect { y: area.y + 1, height: area.height - 1, ..area };
    }
    if state.events.is_empty() {
        pen.text(area.x, area.y, area.width, "Nothing was denied and nothing else happened so far.", Tone::Faint);
    }
    for (row, event) in state.events.iter().take(usize::from(area.height)).enumerate() {
        let tone = if event.event == EventType::Denied.into() { Tone::Warn } else { Tone::Plain };
        pen.text(area.x, area.y + row as u16, area.width, &told(event, pen.look, true), tone);
    }
}

/// An event as one line.
pub(super) fn told(event: &Event, look: Look, with_tenant: bool) -> String {
    let at = event.at.as_ref().and_then(Timestamp::instant).map(|at| look.time(at));
    let what = format!("{:<9}", &*event.event);
    let tenant = event.tenant.as_deref().filter(|_| with_tenant);
    let kind = joined([event.direction.as_deref(), event.kind.as_deref()], " ");
    let Event { code, detail, reason, message, subject, .. } = event;
    let outcome = joined([code.as_deref(), detail.as_deref(), reason.as_deref(), message.as_deref()], " ");
    let seats = seats_after(event);
    let words = [at.as_deref(), Some(&what), tenant, subject.as_deref(), Some(&kind), Some(&outcome), Some(&seats)];
    joined(words, "  ")
}

fn foot(pen: &mut Pen<'_>, area: Rect, state: &State) {
    if state.typing {
        let cursor = pen.look.either("▏", "_");
        let asked = [
            ("Filter: ".to_owned(), Tone::Title),
            (format!("{}{cursor}", state.filter), Tone::Strong),
            ("   Enter keeps it, Esc clears it".to_owned(), Tone::Faint),
        ];
        pen.pieces(area.x, area.y, area.width, &asked);
        return;
    }
    let every = format!("every {}", span(state.interval_s));
    keys(
        pen,
        area,
        &[
            ("Enter", "open"),
            ("f h d n", "sort"),
            ("/", "filter"),
            ("e", "explain"),
            ("space", "pause"),
            ("?", "help"),
            ("q", "quit"),
        ],
        &every,
    );
}

/// The keys that work here, and something at the right where there is room for it.
pub(super) fn keys(pen: &mut Pen<'_>, area: Rect, keys: &[(&str, &str)], right: &str) {
    let mut pieces = Vec::new();
    for (at, (key, what)) in keys.iter().enumerate() {
        let gap = if at == 0 { "" } else { "  " };
        pieces.push((format!("{gap}{key}"), Tone::Title));
        pieces.push((format!(" {what}"), Tone::Plain));
    }
    let behind = pen.pieces(area.x, area.y, area.width, &pieces);
    if behind + 2 + width(right) <= area.right() {
        pen.right(area.x, area.y, area.width, right, Tone::Faint);
    }
}

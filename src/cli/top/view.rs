//! Draws what the state is: the fleet or a tenant, and what lies above it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::facts::joined;
use super::paint::{Look, Pen, Tone, width};
use super::places::{SMALLEST, above};
use super::state::{Above, State};
use super::{fleet, tenant};
use crate::answers::operation::{Explanation, Step};
use crate::cli::rules;

const HELP: &[(&str, &str)] = &[
    ("arrows, j k", "up and down; PgUp PgDn by pages, Home End (g G) to the ends"),
    ("Enter", "look into a tenant: who holds a seat and why, the day, the decisions"),
    ("Esc, q", "back; in the fleet: clear the filter, then quit; Ctrl-C quits anywhere"),
    ("f h d n", "sort by fullness, seats held, denials, name; the same key again: reversed"),
    ("/", "filter: words in id or name, a state (stale), a band (full, over, 90_to_100)"),
    ("Tab", "in a tenant: between who holds a seat and what is decided"),
    ("e", "explain: what this one gets and by which rule; changes nothing"),
    ("space", "pause: the screen stands still, to read or copy it"),
    ("r", "read now; Ctrl-L draws anew too; Ctrl-Z to the shell, fg comes back"),
    ("", ""),
    ("HELD", "seats in use; QUOTA what the subscription allows; OVER what is above it"),
    ("PEAK", "most seats at once in ten minutes; in a tenant: today"),
    ("DENIED", "denials since the daemon's start; in a tenant: today"),
    ("<80%", "tenants by fullness: from the step before up to below this one"),
];

/// Draws everything.
pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer, look: Look) {
    let mut pen = Pen::new(buffer, look);
    let (columns, rows) = SMALLEST;
    if area.width < columns || area.height < rows {
        return too_small(&mut pen, area);
    }
    body(&mut pen, area, state, true);
    let Some(shown) = &state.above else { return };
    let (heading, lines) = match shown {
        Above::Help => ("Keys".to_owned(), help()),
        Above::Why(about, answer) => (format!("Why? {about}"), why(answer.as_ref())),
    };
    scroll(&mut pen, above(area), &heading, &lines, state.above_top);
}

/// Draws what is printed once: no keys, nothing that lies above.
pub(super) fn print(state: &State, buffer: &mut Buffer, look: Look) {
    let area = buffer.area;
    body(&mut Pen::new(buffer, look), area, state, false);
}

/// A buffer as lines of text, without styles and without blanks at their ends.
pub(super) fn plain(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut x = buffer.area.left();
        let mut line = String::new();
        while x < buffer.area.right() {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide sign covers the cells behind it.
            x += width(symbol).max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let end = text.trim_end().len();
    text.truncate(end);
    text.push('\n');
    text
}

fn body(pen: &mut Pen<'_>, area: Rect, state: &State, live: bool) {
    match &state.depth {
        None => fleet::draw(pen, area, state, live),
        Some(depth) => tenant::draw(pen, area, state, depth, live),
    }
}

fn too_small(pen: &mut Pen<'_>, area: Rect) {
    let (columns, rows) = SMALLEST;
    let lines = [
        "A little too small to show seats.".to_owned(),
        format!("This is {} x {}, it needs {columns} x {rows}:", area.width, area.height),
        "make the window larger or the font smaller.".to_owned(),
        "q quits; `usherd top --once` prints.".to_owned(),
    ];
    let top = area.y + area.height.saturating_sub(lines.len() as u16) / 2;
    for (row, line) in lines.iter().enumerate() {
        let x = area.x + area.width.saturating_sub(width(line)) / 2;
        pen.text(x, top + row as u16, area.width, line, Tone::Plain);
    }
}

/// A line of something that lies above: a word at the left, text, and how it is meant.
type Line = (String, String, Tone);

fn help() -> Vec<Line> {
    HELP.iter().map(|(key, what)| ((*key).to_owned(), (*what).to_owned(), Tone::Plain)).collect()
}

fn why(answer: Option<&Result<Box<Explanation>, String>>) -> Vec<Line> {
    let line = |word: &str, text: &str, tone| (word.to_owned(), text.to_owned(), tone);
    let explanation = match answer {
        None => return vec![line("", "asking ...", Tone::Plain)],
        Some(Err(why)) => return vec![line("", &format!("No answer: {why}"), Tone::Bad)],
        Some(Ok(explanation)) => explanation,
    };
    let tone = if explanation.allow { Tone::Good } else { Tone::Bad };
    let code = joined([Some(&explanation.code), Some(&explanation.detail)], " ");
    let mut lines = vec![line("Now", &format!("{code}. {}", explanation.message), tone)];
    lines.push(line("", "", Tone::Plain));
    // There is room for one sentence: that of the step that decided.
    if let Some((decided, before)) = explanation.steps.split_last() {
        for Step { rule, input, outcome } in before {
            lines.push(line("", &format!("{input}: {outcome}{}", rules::codes(rule, None)), Tone::Plain));
        }
        let Step { rule, input, outcome } = decided;
        let told = rules::lines(rule, &format!("{input}: {outcome}"), None);
        lines.extend(told.iter().map(|text| line("", text, Tone::Strong)));
    }
    lines.push(line("", "", Tone::Plain));
    for way in &explanation.would_allow {
        lines.push(line("Would help", way, Tone::Plain));
    }
    if let Some(frees) = &explanation.frees_next {
        lines.push(line("Free next", &format!("in {} s: {}", frees.in_s, frees.by), Tone::Plain));
    }
    lines.push(line("", "Asked as of now; nothing was changed.", Tone::Faint));
    lines
}

/// Lines in a frame, broken to its width, from a line on. Scrolled beyond its end it shows its end.
fn scroll(pen: &mut Pen<'_>, area: Rect, heading: &str, lines: &[Line], top: u16) {
    const WORD: u16 = 13;
    let room = area.width.saturating_sub(4);
    let mut rows: Vec<Line> = Vec::new();
    for (word, text, tone) in lines {
        let words = broken(word, WORD - 1);
        let texts = broken(text, room.saturating_sub(WORD));
        for at in 0..words.len().max(texts.len()) {
            let part = |of: &[String]| of.get(at).cloned().unwrap_or_default();
            rows.push((part(&words), part(&texts), *tone));
        }
    }
    pen.frame(area, heading);
    let page = area.height.saturating_sub(2);
    let most = (rows.len() as u16).saturating_sub(page);
    let top = top.min(most);
    for (row, (word, text, tone)) in rows.iter().skip(usize::from(top)).take(usize::from(page)).enumerate() {
        let y = area.y + 1 + row as u16;
        pen.text(area.x + 2, y, WORD - 1, word, Tone::Title);
        pen.text(area.x + 2 + WORD, y, room.saturating_sub(WORD), text, *tone);
    }
    let more = if top < most { "Down: more  " } else { "" };
    pen.right(area.x + 2, area.bottom().saturating_sub(1), room, &format!(" {more}Esc: back "), Tone::Faint);
}

/// A text in lines of so many columns, broken at blanks; a longer word is cut when it is written.
fn broken(text: &str, columns: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = |line: &String| line.is_empty() || width(line) + 1 + width(word) <= columns;
        match lines.last_mut().filter(|line| fits(line)) {
            Some(line) => {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use usherd_contract::word::Word;
    use usherd_subscription::entitlement::State as Standing;

    use super::super::facts::Detail;
    use super::super::news::{Fleet, News};
    use super::super::order::Sort;
    use super::*;
    use crate::answers::overview::{JournalState, NodeCount, Overview};
    use crate::answers::tenants::{TenantFigures, TenantRow};
    use crate::answers::usage::{Usage, UsageFigures, UsagePoint};
    use crate::answers::words::{Band, Durability};

    const LOOK: Look = Look { colour: true, unicode: true, utc: true };

    fn shown(state: &State, columns: u16, rows: u16, look: Look) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut(), look)).unwrap();
        let text = plain(terminal.backend().buffer());
        assert!(text.lines().all(|line| width(line) <= columns));
        text.lines().map(str::to_owned).collect()
    }

    fn fleet_of(tenants: Vec<TenantRow>) -> State {
        let mut state = State::new("127.0.0.1:7788".into(), 2, Sort::default(), String::new());
        state.now = DateTime::from_timestamp(1_800_000_000, 0);
        let overview = Overview {
            version: "0.1.0".into(),
            ready: true,
            tenants: tenants.len() as u64,
            held: 1_234,
            quota: 2_000,
            over: 3,
            bands: Band::ALL.iter().map(|band| Word::from(*band)).zip([5, 20, 9, 3, 2, 2, 1]).collect(),
            nodes: NodeCount { up: 3, silent: 1 },
            journal: JournalState { durability: Durability::Written.into(), degraded: None },
            ..Overview::default()
        };
        let silent = vec!["pbx2".to_owned()];
        state.news(News::Fleet(Box::new(Fleet {
            overview: Some(overview),
            tenants: Some(tenants),
            cut: false,
            silent,
        })));
        state
    }

    fn tenant(id: &str, held: u32, quota: Option<u32>) -> TenantRow {
        let over = quota.map_or(0, |quota| held.saturating_sub(quota));
        let (tenant, state, peak) = (id.into(), Standing::Active.into(), held);
        let figures = TenantFigures { tenant, state, held, quota, over, peak, ..TenantFigures::default() };
        TenantRow { figures, ..TenantRow::default() }
    }

    fn some() -> State {
        let mut ending = tenant("a-company-with-a-long-name", 9, Some(10));
        (ending.figures.state, ending.figures.denials) = (Standing::PendingCancel.into(), 1_234_567);
        fleet_of(vec![tenant("acme", 12, Some(10)), ending, tenant("vast", 123_456, None), tenant("full", 2, Some(2))])
    }

    fn line<'a>(lines: &'a [String], part: &str) -> &'a str {
        lines.iter().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part} in\n{}", lines.join("\n")))
    }

    #[test]
    fn the_fleet_fits_into_80_by_24() {
        let lines = shown(&some(), 80, 24, LOOK);
        assert_eq!(lines[0], "usherd 0.1.0 127.0.0.1:7788  ready                       2027-01-15 08:00:00 UTC");
        assert_eq!(lines[1], "Seats     ████████████████·········· 1,234 of 2,000 held  61%  3 over quota");
        assert_eq!(lines[2], "Tenants   4  5 idle  20 <50%  9 <80%  3 <90%  2 <100%  2 full  1 over");
        assert!(lines[3].starts_with("Nodes     3 up, 1 silent: pbx2"), "{}", lines[3]);
        assert!(lines[5].contains("by fullness; PEAK in 10 min, DENIED since the start ─"), "{}", lines[5]);
        assert_eq!(lines[6], "  TENANT               STATE      HELD QUOTA  FREE OVER  PEAK DENIED FULLNESS");
        assert_eq!(lines[7], "> acme                 active       12    10     0    2    12      - ██████ over");
        assert_eq!(lines[8], "  full                 active        2     2     0    -     2      - ██████ full");
        assert_eq!(lines[9], "  a-company-with-a-lo… ending        9    10     1    -     9  1234k █████▍  90%");
        assert_eq!(lines[10], "  vast                 active     123k unlim unlim    -  123k      - ······    -");
        assert!(lines[23].ends_with("q quit"), "{}", lines[23]);
    }

    #[test]
    fn a_large_screen_shows_wire_words_and_a_small_one_says_so() {
        let lines = shown(&some(), 200, 50, LOOK);
        assert!(line(&lines, "a-company-with-a-long-name").contains("pending_cancel"));
        assert!(line(&lines, "BAND").contains("FULLNESS"));
        assert!(line(&lines, "What happens").starts_with('─'));
        let lines = shown(&some(), 60, 20, LOOK);
        assert!(line(&lines, "60 x 20").contains("needs 72 x 20"));
        for (columns, rows) in [(1, 1), (5, 2), (72, 20), (0, 0), (300, 3)] {
            shown(&some(), columns, rows, LOOK);
        }
    }

    #[test]
    fn ascii_is_enough() {
        let mut state = some();
        state.enter("müller");
        state.news(detail());
        for state in [&some(), &state] {
            for line in shown(state, 80, 24, Look { unicode: false, ..LOOK }) {
                assert!(line.is_ascii(), "{line}");
            }
        }
    }

    fn read<T: DeserializeOwned>(answer: Value) -> T {
        serde_json::from_value(answer).unwrap()
    }

    fn detail() -> News {
        let session = json!({ "session": "d1", "subject": "anna", "kind": "desktop", "counts": true, "node": "pbx1",
            "started": "2027-01-15T07:00:00Z", "ends_in_s": 58 });
        let idle =
            json!({ "session": "c2", "subject": "bob", "kind": "call", "direction": "inbound", "counts": false });
        let tenant = json!({ "tenant": "müller", "name": "Müller Bau", "state": "pending_change", "held": 1, "quota": 8,
            "peak_today": 7, "denials_today": 4, "inclusive": { "channels": 20, "channels_in_use": 1 },
            "next_change": { "at": "2027-02-01T00:00:00Z", "seats": 12, "state": "active" } });
        let mut detail = Detail::new(read(tenant), &[read(session), read(idle)], Vec::new(), &Usage::default(), false);
        let start = DateTime::from_timestamp(1_800_000_000 - 86_400, 0).unwrap();
        detail.usage = (0..288)
            .filter(|slot| !(100..120).contains(slot))
            .map(|slot| {
                let figures = UsageFigures { peak: (slot as u32 / 30).min(8), ..UsageFigures::default() };
                let point = UsagePoint { figures, quota: Some(8), ..UsagePoint::default() };
                (start + TimeDelta::minutes(5) * slot, point)
            })
            .collect();
        News::Tenant(Box::new(detail))
    }

    #[test]
    fn how_long_a_seat_is_held_goes_by_the_clock_of_the_daemon() {
        let mut state = some();
        state.enter("müller");
        let News::Tenant(mut told) = detail() else { panic!("no tenant") };
        told.tenant.at = "2027-01-15T10:00:00Z".to_owned().into();
        state.news(News::Tenant(told));
        let lines = shown(&state, 80, 24, LOOK);
        assert!(lines[0].ends_with("2027-01-15 10:00:00 UTC"), "{}", lines[0]);
        assert!(line(&lines, "desktop d1").contains("3 h"), "{lines:#?}");
    }

    #[test]
    fn a_tenant_shows_who_holds_what_is_booked_and_the_day() {
        let mut state = some();
        state.enter("müller");
        state.news(detail());
        let event = json!({ "id": 5, "type": "denied", "at": "2027-01-15T07:59:58Z", "tenant": "müller", "subject": "cleo",
            "kind": "desktop", "code": "deny.full", "detail": "tenant", "held": 8, "quota": 8 });
        state.news(News::Event(Box::new(read(event))));
        let lines = shown(&state, 80, 24, LOOK);
        assert!(lines[0].starts_with("müller  Müller Bau  pending_change"), "{}", lines[0]);
        assert_eq!(lines[3], "Booked    2027-02-01 00:00: 12 seats");
        assert_eq!(lines[4], "Sessions  1 desktop, 1 call without a seat");
        assert!(line(&lines, "desktop d1").starts_with("> anna"), "{lines:#?}");
        assert!(line(&lines, "desktop d1").contains("60 min"), "{lines:#?}");
        assert!(line(&lines, "desktop d1").ends_with("58 s"), "{lines:#?}");
        assert!(line(&lines, "Seats over 24 h").contains("quota 8"), "{lines:#?}");
        assert_eq!(
            line(&lines, "cleo").trim(),
            "07:59:58  denied     cleo  desktop  deny.full tenant                       8/8".trim()
        );
        let curve = line(&lines, "     8 ");
        assert!(curve.contains("────") && curve.ends_with('█'), "the quota, and that it was reached: {curve}");
    }

    #[test]
    fn trouble_and_help_and_reasons_are_seen() {
        let mut state = some();
        state.news(News::Failed("127.0.0.1:7788: refused".into()));
        let lines = shown(&state, 80, 24, LOOK);
        assert!(lines[0].contains("NO ANSWER"), "{}", lines[0]);
        assert!(line(&lines, "! No answer for 0 s").contains("refused"));
        state.key(KeyEvent::from(KeyCode::Char('?')), 10);
        assert!(line(&shown(&state, 80, 24, LOOK), "sort by fullness").contains("f h d n"));
        state.key(KeyEvent::from(KeyCode::Esc), 10);
        state.key(KeyEvent::from(KeyCode::Char('e')), 10);
        assert!(line(&shown(&state, 80, 24, LOOK), "Why?").contains("acme"));
        let answer = json!({ "code": "deny.full", "detail": "tenant", "allow": false, "message": "All in use.",
            "steps": [{ "rule": "D3 F6 F7", "input": "12 of 10 seats held", "outcome": "full: tenant" }],
            "would_allow": ["a larger quota"], "frees_next": { "in_s": 30, "by": "the earliest" } });
        state.news(News::Explained(Ok(read(answer))));
        let lines = shown(&state, 80, 24, LOOK);
        for part in [
            "deny.full tenant. All in use.",
            "the request is denied (D3 F6 F7)",
            "12 of 10 seats held: full: tenant",
            "a larger quota",
            "in 30 s",
        ] {
            line(&lines, part);
        }
        // Scrolled far beyond, the end is still seen.
        state.above_top = u16::MAX;
        line(&shown(&state, 80, 24, LOOK), "nothing was changed");
    }

    #[test]
    fn what_is_printed_is_plain() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        print(&some(), &mut buffer, LOOK);
        let text = plain(&buffer);
        assert!(text.contains("  acme ") && !text.contains('>') && !text.contains('\u{1b}'), "{text}");
        assert!(!text.contains("quit") && text.ends_with("-\n"), "{text}");
    }
}

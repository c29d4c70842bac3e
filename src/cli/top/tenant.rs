//! One tenant in depth: who holds a seat and why, the day as a curve, and what is decided.

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::layout::Rect;

use super::facts::{Detail, Holder, described, seats_after};
use super::fleet::{booked, keys, line, seats, title, told};
use super::paint::{Pen, Tone, grouped, span, width};
use super::places;
use super::state::{Depth, Pane, State};
use crate::answers::usage::UsagePoint;
use crate::answers::words::EventType;

/// Columns at the left of the curve for its scale.
const SCALE: u16 = 7;

/// Draws the tenant that is looked at; without keys and decisions where it is printed.
pub(super) fn draw(pen: &mut Pen<'_>, area: Rect, state: &State, depth: &Depth, live: bool) {
    let places = places::tenant_of(state, area, live);
    let Some(detail) = &depth.detail else {
        title(
            pen,
            area,
            state,
            &[(depth.id.clone(), Tone::Title), (format!("  asking {} ...", state.address), Tone::Plain)],
        );
        if let Some(why) = state.trouble() {
            pen.text(area.x, area.y + 2, area.width, &format!("! {why}"), Tone::Bad);
        }
        foot(pen, places.foot, live);
        return;
    };
    head(pen, places.head, state, detail);
    if places.curve.height > 0 {
        curve(pen, places.curve, &detail.usage);
    }
    holders(pen, places.holders, state, depth, detail, live);
    if live {
        decisions(pen, places.decisions, state, depth);
    }
    if let Some(why) = state.trouble().filter(|_| live) {
        pen.text(places.trouble.x, places.trouble.y, places.trouble.width, &format!("! {why}"), Tone::Bad);
    }
    foot(pen, places.foot, live);
}

fn head(pen: &mut Pen<'_>, area: Rect, state: &State, detail: &Detail) {
    let tenant = &detail.tenant;
    let figures = &tenant.figures;
    let mut words = vec![(figures.tenant.clone(), Tone::Title)];
    if let Some(name) = tenant.name.as_ref().filter(|name| !name.is_empty() && **name != figures.tenant) {
        words.push((format!("  {name}"), Tone::Plain));
    }
    let is_well = matches!(&*figures.state, "active" | "trial");
    words.push((format!("  {}", figures.state), if is_well { Tone::Good } else { Tone::Warn }));
    if state.paused {
        words.push(("  PAUSED".to_owned(), Tone::Warn));
    }
    title(pen, area, state, &words);
    let (held, quota) = (u64::from(figures.held), figures.quota.map(u64::from));
    let more = match (figures.over, quota) {
        (over @ 1.., _) => vec![(format!("  {} over quota", grouped(over.into())), Tone::Bad)],
        (0, Some(quota)) => vec![(format!("  {} free", grouped(quota.saturating_sub(held))), Tone::Plain)],
        (0, None) => Vec::new(),
    };
    seats(pen, area, 1, held, quota, &more);
    let inclusive = tenant.inclusive.clone().unwrap_or_default();
    let of = inclusive.channels.map(|channels| format!(" of {} included", grouped(channels.into())));
    let channels = format!("   channels now {}{}", grouped(inclusive.channels_in_use.into()), of.unwrap_or_default());
    let denied = if tenant.denials_today > 0 { Tone::Warn } else { Tone::Plain };
    let today = [
        (format!("peak {}, ", grouped(tenant.peak_today.into())), Tone::Plain),
        (format!("{} denied", grouped(tenant.denials_today)), denied),
        (channels, Tone::Plain),
    ];
    line(pen, area, 2, "Today", &today);
    let next = tenant.next_change.as_ref().and_then(Option::as_ref);
    let next = next.map(|next| booked(&next.at, next.seats, &next.state, pen.look));
    let next = next.unwrap_or_else(|| "nothing".to_owned());
    line(pen, area, 3, "Booked", &[(next, Tone::Plain)]);
    line(pen, area, 4, "Sessions", &sessions(detail));
}

fn sessions(detail: &Detail) -> Vec<(String, Tone)> {
    if detail.sessions.is_empty() {
        return vec![("none".to_owned(), Tone::Plain)];
    }
    let told = |(kind, claims, free): &(&str, u64, u64)| match (*claims, *free) {
        (claims, 0) => format!("{claims} {kind}"),
        (0, free) => format!("{free} {kind} without a seat"),
        (claims, free) => format!("{claims} {kind} and {free} without a seat"),
    };
    let mut words = detail.sessions.iter().map(told).collect::<Vec<_>>().join(", ");
    if detail.cut {
        words.push_str(" (of those that were read: there are more)");
    }
    vec![(words, Tone::Plain)]
}

fn curve(pen: &mut Pen<'_>, area: Rect, usage: &[(DateTime<Utc>, UsagePoint)]) {
    let (Some((first, _)), Some((last, now))) = (usage.first(), usage.last()) else { return };
    let step = usage.windows(2).map(|pair| pair[1].0 - pair[0].0).min().unwrap_or_else(|| TimeDelta::minutes(5));
    let end = *last + step;
    let start = *first.min(&(end - TimeDelta::hours(1)));
    let peak = usage.iter().map(|(_, point)| u64::from(point.figures.peak)).max().unwrap_or(0);
    let denials: u64 = usage.iter().map(|(_, point)| point.figures.denials).sum();
    let limit = now.quota.map(u64::from);
    let top = peak.max(limit.unwrap_or(0)).max(1);
    let heading = format!("Seats over {}", span(u64::try_from((end - start).num_seconds()).unwrap_or(0)));
    let quota = limit.map_or_else(|| "unlimited".to_owned(), |quota| format!("quota {}", grouped(quota)));
    let right = format!("{quota}, peak {}, {} denied", grouped(peak), grouped(denials));
    pen.rule(area.x, area.y, area.width, &heading, &right, Tone::Title);
    let plot =
        Rect::new(area.x + SCALE, area.y + 1, area.width.saturating_sub(SCALE + 1), area.height.saturating_sub(2));
    pen.right(area.x, plot.y, SCALE - 1, &grouped(top), Tone::Faint);
    pen.right(area.x, plot.bottom().saturating_sub(1), SCALE - 1, "0", Tone::Faint);
    let values: Vec<Option<u64>> =
        (0..plot.width).map(|column| peak_in(usage, start, end, step, column, plot.width)).collect();
    pen.curve(plot, &values, limit, top);
    let y = plot.bottom();
    let middle = start + (end - start) / 2;
    pen.text(plot.x, y, 5, &pen.look.hour(start), Tone::Faint);
    pen.text(plot.x + plot.width / 2, y, 5, &pen.look.hour(middle), Tone::Faint);
    pen.right(plot.x, y, plot.width, "now", Tone::Faint);
}

/// The most seats in the part of the time that a column stands for; `None` where the daemon did not run.
fn peak_in(
    usage: &[(DateTime<Utc>, UsagePoint)],
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    step: TimeDelta,
    column: u16,
    columns: u16,
) -> Option<u64> {
    let edge = |column: u16| start + (end - start) * i32::from(column) / i32::from(columns.max(1));
    let (from, to) = (edge(column), edge(column + 1));
    let within = usage.iter().filter(|(at, _)| *at < to && *at + step > from);
    within.map(|(_, point)| point.figures.peak.into()).max()
}

fn heading_tone(depth: &Depth, pane: Pane) -> (Tone, &'static str) {
    if depth.pane == pane { (Tone::Title, "> ") } else { (Tone::Plain, "") }
}

fn holders(pen: &mut Pen<'_>, area: Rect, state: &State, depth: &Depth, detail: &Detail, live: bool) {
    let (tone, mark) = if live { heading_tone(depth, Pane::Holders) } else { (Tone::Title, "") };
    let heading = format!("{mark}Who holds a seat, and why");
    let people = grouped(detail.holders.len() as u64);
    let right =
        if detail.tenant.names { people } else { format!("{people}, by pseudonym: the token may not see names") };
    pen.rule(area.x, area.y, area.width, &heading, &right, tone);
    if detail.holders.is_empty() {
        pen.text(area.x + 2, area.y + 1, area.width.saturating_sub(2), "Nobody.", Tone::Plain);
        return;
    }
    let (subject, node) = (area.width / 4, area.width / 8);
    let why = area.width.saturating_sub(2 + subject + 1 + 12 + 1 + node + 1 + 10 + 1);
    let columns = [subject, why, 12, node, 10];
    cells(pen, area, 1, &columns, ["WHO", "WHY", "FOR", "NODE", "ENDS IN"].map(str::to_owned), Tone::Strong);
    let page = usize::from(area.height.saturating_sub(2));
    let top = if live { depth.holder.top(page) } else { 0 };
    for (row, holder) in detail.holders.iter().skip(top).take(page).enumerate() {
        let row_y = 2 + row as u16;
        let is_orphan = holder.claims.iter().any(|claim| claim.orphan);
        cells(
            pen,
            area,
            row_y,
            &columns,
            holder_cells(holder, state.clock()),
            if is_orphan { Tone::Warn } else { Tone::Plain },
        );
        if live && depth.pane == Pane::Holders && top + row == depth.holder.at {
            pen.text(area.x, area.y + row_y, 1, ">", Tone::Strong);
            pen.choose(area.x, area.y + row_y, area.width);
        }
    }
}

fn cells(pen: &mut Pen<'_>, area: Rect, row: u16, columns: &[u16; 5], cells: [String; 5], tone: Tone) {
    let mut x = area.x + 2;
    for (cell, wide) in cells.iter().zip(columns) {
        pen.text(x, area.y + row, *wide, cell, tone);
        x += wide + 1;
    }
}

fn holder_cells(holder: &Holder, now: Option<DateTime<Utc>>) -> [String; 5] {
    let Some(first) = holder.claims.first() else {
        // D4 and E1: the seat of a call is kept a moment for the next.
        return [
            holder.subject.clone(),
            "lingers after the last".to_owned(),
            String::new(),
            String::new(),
            String::new(),
        ];
    };
    let mut why = holder.claims.iter().map(described).collect::<Vec<_>>().join(", ");
    if holder.claims.iter().any(|claim| claim.orphan) {
        why = format!("node lost: {why}");
    }
    let age = first.started.instant().zip(now).map(|(started, now)| (now - started).num_seconds().max(0));
    let age = age.and_then(|seconds| u64::try_from(seconds).ok()).map(span).unwrap_or_default();
    // The seat is free when the last of its claims has ended.
    let ends: Option<Vec<u64>> = holder.claims.iter().map(|claim| claim.ends_in_s).collect();
    let ends = ends.and_then(|ends| ends.into_iter().max()).map_or_else(|| "-".to_owned(), span);
    [holder.subject.clone(), why, age, first.node.clone().unwrap_or_default(), ends]
}

fn decisions(pen: &mut Pen<'_>, area: Rect, state: &State, depth: &Depth) {
    if area.height == 0 {
        return;
    }
    let (tone, mark) = heading_tone(depth, Pane::Decisions);
    pen.rule(area.x, area.y, area.width, &format!("{mark}Decisions, as they happen"), "newest first", tone);
    let page = usize::from(area.height - 1);
    if let Some(why) = state.deaf() {
        pen.text(area.x + 2, area.y + 1, area.width - 2, &format!("! {why}"), Tone::Warn);
        return;
    }
    if state.decisions().next().is_none() {
        pen.text(area.x + 2, area.y + 1, area.width - 2, "Nothing since this view was opened.", Tone::Faint);
    }
    let top = depth.decision.top(page);
    for (row, event) in state.decisions().skip(top).take(page).enumerate() {
        let y = area.y + 1 + row as u16;
        let tone = match EventType::from_word(&event.event) {
            Some(EventType::Denied) => Tone::Warn,
            Some(EventType::Granted) => Tone::Good,
            _ => Tone::Plain,
        };
        let text = told(event, pen.look, false);
        let seats = seats_after(event);
        let text = text.strip_suffix(&seats).unwrap_or(&text).trim_end();
        pen.text(area.x + 2, y, area.width.saturating_sub(3 + width(&seats)), text, tone);
        pen.right(area.x, y, area.width, &seats, Tone::Strong);
        if depth.pane == Pane::Decisions && top + row == depth.decision.at {
            pen.text(area.x, y, 1, ">", Tone::Strong);
            pen.choose(area.x, y, area.width);
        }
    }
}

fn foot(pen: &mut Pen<'_>, area: Rect, live: bool) {
    if live {
        let shown = [
            ("Esc", "back"),
            ("Tab", "other list"),
            ("e", "explain"),
            ("space", "pause"),
            ("r", "read now"),
            ("?", "help"),
        ];
        keys(pen, area, &shown, "");
    }
}

//! Where things lie on the screen, for whoever draws them and for the keys that turn pages.

use ratatui::layout::{Constraint, Layout, Rect};

use super::state::{Pane, State};

/// The smallest screen that shows anything of use.
pub(super) const SMALLEST: (u16, u16) = (72, 20);
/// From here on there is room for more than one line of what happens in the fleet.
const ROOMY_ROWS: u16 = 36;

/// The fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct FleetPlaces {
    /// Title and totals.
    pub head: Rect,
    /// The rule with the heading of the list, and the titles of its columns.
    pub titles: Rect,
    /// The tenants.
    pub rows: Rect,
    /// The events.
    pub events: Rect,
    /// The keys.
    pub foot: Rect,
}

/// One tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct TenantPlaces {
    /// Title and figures.
    pub head: Rect,
    /// The day as a curve, with its rule and its axis; without rows where there is none.
    pub curve: Rect,
    /// The holders of seats, with a rule above and the titles of the columns.
    pub holders: Rect,
    /// The decisions, with a rule above.
    pub decisions: Rect,
    /// The trouble line; without rows where nothing is wrong.
    pub trouble: Rect,
    /// The keys.
    pub foot: Rect,
}

/// The fleet on a screen; what is printed has no keys and no events.
pub(super) fn fleet(area: Rect, live: bool) -> FleetPlaces {
    let events = match live {
        false => 0,
        true if area.height >= ROOMY_ROWS => area.height / 5,
        true => 1,
    };
    let rows = [
        Constraint::Length(5),
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(events),
        Constraint::Length(u16::from(live)),
    ];
    let [head, titles, rows, events, foot] = Layout::vertical(rows).areas(area);
    FleetPlaces { head, titles, rows, events, foot }
}

/// A tenant on a screen.
pub(super) fn tenant(area: Rect, live: bool, has_curve: bool, has_trouble: bool) -> TenantPlaces {
    let curve = match area.height {
        _ if !has_curve => 0,
        0..24 => 0,
        24..30 => 5,
        30..45 => 8,
        _ => 12,
    };
    let decisions = if live { (area.height - area.height.min(curve + 7)) * 2 / 5 } else { 0 };
    let rows = [
        Constraint::Length(5),
        Constraint::Length(curve),
        Constraint::Min(3),
        Constraint::Length(decisions),
        Constraint::Length(u16::from(has_trouble)),
        Constraint::Length(u16::from(live)),
    ];
    let [head, curve, holders, decisions, trouble, foot] = Layout::vertical(rows).areas(area);
    TenantPlaces { head, curve, holders, decisions, trouble, foot }
}

/// The part of an area where the overlay lies.
pub(super) fn above(area: Rect) -> Rect {
    let (columns, rows) = (area.width.saturating_sub(4).min(110), area.height.saturating_sub(2).min(40));
    Rect::new(area.x + (area.width - columns) / 2, area.y + (area.height - rows) / 2, columns, rows)
}

/// The places of the tenant that is shown.
pub(super) fn tenant_of(state: &State, area: Rect, live: bool) -> TenantPlaces {
    let detail = state.depth.as_ref().and_then(|depth| depth.detail.as_ref());
    tenant(area, live, detail.is_some_and(|detail| !detail.usage.is_empty()), state.trouble().is_some())
}

/// Rows of the list that keys act on: what a page is.
pub(super) fn page(state: &State, area: Rect) -> usize {
    let rows = match (&state.above, &state.depth) {
        (Some(_), _) => above(area).height.saturating_sub(2),
        (None, None) => fleet(area, true).rows.height,
        (None, Some(depth)) => {
            let places = tenant_of(state, area, true);
            match depth.pane {
                Pane::Holders => places.holders.height.saturating_sub(2),
                Pane::Decisions => places.decisions.height.saturating_sub(1),
            }
        }
    };
    usize::from(rows)
}

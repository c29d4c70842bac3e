//! How lists are sorted, narrowed and walked through.

use std::cmp::Ordering;

use ratatui::crossterm::event::KeyCode;

use super::facts::fullness;
use crate::answers::tenants::TenantRow;

/// By what the fleet is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    /// The share of the seats in use, the fullest first.
    #[default]
    Fullness,
    /// Seats held, the most first.
    Held,
    /// Denials, the most first.
    Denials,
    /// By name.
    Name,
}

impl Sort {
    /// The order that a key stands for.
    pub(super) const fn of_key(key: char) -> Option<Self> {
        match key {
            'f' => Some(Sort::Fullness),
            'h' => Some(Sort::Held),
            'd' => Some(Sort::Denials),
            'n' => Some(Sort::Name),
            _ => None,
        }
    }

    /// The name of the order.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Sort::Fullness => "fullness",
            Sort::Held => "seats held",
            Sort::Denials => "denials",
            Sort::Name => "name",
        }
    }

    /// Compares two rows, the first one less; equals go by name, so that rows do not jump.
    pub(super) fn compare(self, a: &TenantRow, b: &TenantRow, reversed: bool) -> Ordering {
        let (a, b) = (&a.figures, &b.figures);
        let names = a.tenant.cmp(&b.tenant);
        let order = match self {
            Sort::Fullness => fullness(b).total_cmp(&fullness(a)).then(b.held.cmp(&a.held)),
            Sort::Held => b.held.cmp(&a.held),
            Sort::Denials => b.denials.cmp(&a.denials),
            Sort::Name => names,
        };
        (if reversed { order.reverse() } else { order }).then(names)
    }
}

/// True if a tenant fits a filter: each word is a part of its id or name, its state, or its band.
pub(super) fn matches(tenant: &TenantRow, filter: &str) -> bool {
    filter.split_whitespace().all(|word| {
        let word = word.to_lowercase();
        let within = |text: &str| text.to_lowercase().contains(&word);
        let TenantRow { figures, name } = tenant;
        within(&figures.tenant) || within(name) || *figures.state == *word || *figures.band == *word
    })
}

/// The chosen row of a list. Once somebody moved it, it stays with its row wherever that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The row.
    pub at: usize,
    /// The chosen row, by name; `None` at the top, whoever is there.
    chosen: Option<String>,
}

impl Cursor {
    /// Finds its row again in a list that changed; where it is gone, the one in its place.
    pub(super) fn follow_row<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let Some(chosen) = &self.chosen else {
            self.at = 0;
            return;
        };
        let mut rows = 0;
        for (at, name) in names.enumerate() {
            if name == chosen {
                self.at = at;
                return;
            }
            rows = at + 1;
        }
        self.at = self.at.min(rows.max(1) - 1);
    }

    /// Something came in at the front of the list, which has so many rows now.
    pub(super) fn pushed(&mut self, rows: usize) {
        if self.at > 0 {
            self.at = (self.at + 1).min(rows.max(1) - 1);
        }
    }

    /// Moves by a key.
    pub(super) fn key<'a>(&mut self, code: KeyCode, page: usize, mut names: impl Iterator<Item = &'a str>) {
        let page = page.max(1);
        let to = match code {
            KeyCode::Down | KeyCode::Char('j') => self.at + 1,
            KeyCode::Up | KeyCode::Char('k') => self.at.saturating_sub(1),
            KeyCode::PageDown => self.at + page,
            KeyCode::PageUp => self.at.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => return,
        };
        let (mut at, mut last) = (0, None);
        for (row, name) in names.by_ref().enumerate().take(to.saturating_add(1)) {
            (at, last) = (row, Some(name));
        }
        self.at = at;
        self.chosen = last.filter(|_| at > 0).map(str::to_owned);
    }

    /// The first row that is seen, where so many fit: the page that the chosen one is on.
    pub(super) const fn top(&self, page: usize) -> usize {
        match self.at.checked_div(page) {
            Some(pages) => pages * page,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use usherd_subscription::entitlement::State;

    use super::*;
    use crate::answers::tenants::TenantFigures;
    use crate::answers::words::Band;

    fn tenant(id: &str, held: u32, quota: Option<u32>, denials: u64) -> TenantRow {
        let figures = TenantFigures { tenant: id.into(), held, quota, denials, ..TenantFigures::default() };
        TenantRow { figures, ..TenantRow::default() }
    }

    #[test]
    fn each_order_has_its_reverse_and_equals_go_by_name() {
        let tenants = [
            tenant("b-half", 5, Some(10), 7),
            tenant("a-half", 5, Some(10), 0),
            tenant("over", 3, Some(2), 1),
            tenant("free", 900, None, 2),
            tenant("none", 1, Some(0), 0),
            tenant("empty", 0, Some(0), 0),
        ];
        let sorted = |sort: Sort, reversed| {
            let mut rows: Vec<&TenantRow> = tenants.iter().collect();
            rows.sort_by(|a, b| sort.compare(a, b, reversed));
            rows.iter().map(|tenant| tenant.figures.tenant.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(sorted(Sort::Fullness, false), "none over a-half b-half free empty");
        assert_eq!(sorted(Sort::Fullness, true), "empty free a-half b-half over none");
        assert_eq!(sorted(Sort::Held, false), "free a-half b-half over none empty");
        assert_eq!(sorted(Sort::Denials, false), "b-half free over a-half empty none");
        assert_eq!(sorted(Sort::Name, true), "over none free empty b-half a-half");
    }

    #[test]
    fn a_filter_is_words_of_name_state_or_band() {
        let mut tenant = TenantRow { name: "Müller Bau".into(), ..tenant("acme", 0, None, 0) };
        (tenant.figures.state, tenant.figures.band) = (State::Stale.into(), Band::Full.into());
        for (filter, expected) in [
            ("", true),
            ("CM", true),
            ("müll", true),
            ("stale", true),
            ("sta", false),
            ("full acme", true),
            ("full other", false),
        ] {
            assert_eq!(matches(&tenant, filter), expected, "{filter}");
        }
    }

    #[test]
    fn the_cursor_stays_with_its_row_once_it_was_moved() {
        let mut cursor = Cursor::default();
        cursor.follow_row(["b", "a"].into_iter());
        assert_eq!(cursor.at, 0, "at the top whoever is there");
        cursor.key(KeyCode::Down, 5, ["a", "b", "c"].into_iter());
        cursor.follow_row(["b", "c", "a"].into_iter());
        assert_eq!(cursor.at, 0, "b went up");
        cursor.follow_row(["c"].into_iter());
        assert_eq!(cursor.at, 0, "b is gone");
        cursor.follow_row([].into_iter());
        assert_eq!(cursor.at, 0);
    }

    #[test]
    fn the_cursor_never_leaves_its_list() {
        let names: Vec<String> = (0..25).map(|at| format!("t{at}")).collect();
        let mut cursor = Cursor::default();
        for (code, at, top) in [
            (KeyCode::Up, 0, 0),
            (KeyCode::PageDown, 10, 10),
            (KeyCode::Char('j'), 11, 10),
            (KeyCode::End, 24, 20),
            (KeyCode::Down, 24, 20),
            (KeyCode::PageUp, 14, 10),
            (KeyCode::Char('k'), 13, 10),
            (KeyCode::Home, 0, 0),
            (KeyCode::Char('x'), 0, 0),
        ] {
            cursor.key(code, 10, names.iter().map(String::as_str));
            assert_eq!((cursor.at, cursor.top(10)), (at, top), "{code:?}");
        }
        cursor.key(KeyCode::End, 10, std::iter::empty());
        assert_eq!(cursor.at, 0);
    }
}

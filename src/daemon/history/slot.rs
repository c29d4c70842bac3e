//! The figures of a stretch of time: sums and peaks, and how often each level of demand was met.

/// Levels up to this are kept exactly; above, rounded up to eight binary digits, which is less than 1 %.
const LEVEL_EXACT_MAX: u32 = 256;

/// One stretch of time of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Most seats held at once.
    pub peak: u32,
    /// Most seats held plus people waiting at once: who was refused within the last minute and has none yet.
    pub demand: u32,
    /// Q at its end; `None` is unlimited.
    pub quota: Option<u32>,
    /// Sum over all seats of the time they were held, milliseconds; exact.
    pub seat_ms: u64,
    /// Time with no free seat, milliseconds; exact.
    pub saturated_ms: u64,
    /// Requests that were denied.
    pub denials: u64,
    /// People who were denied and got no seat within a minute of their last try.
    pub denials_true: u64,
}

impl Slot {
    /// True if nothing happened.
    pub fn is_idle(&self) -> bool {
        self.peak == 0
            && self.demand == 0
            && self.seat_ms == 0
            && self.saturated_ms == 0
            && self.denials == 0
            && self.denials_true == 0
    }

    /// Takes in what came after it.
    pub fn add(&mut self, later: &Slot) {
        self.peak = self.peak.max(later.peak);
        self.demand = self.demand.max(later.demand);
        if !later.is_idle() {
            self.quota = later.quota;
        }
        self.seat_ms += later.seat_ms;
        self.saturated_ms += later.saturated_ms;
        self.denials += later.denials;
        self.denials_true += later.denials_true;
    }
}

/// How much of a level of demand there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Seats that all who want one would take.
    pub level: u32,
    /// How long so many were wanted, milliseconds; looked at once a second.
    pub ms: u64,
    /// Requests that met it, their own seat included; exact.
    pub starts: u64,
}

/// Time and requests by level of demand, ascending; levels that did not occur are not there. What any quota would
/// have denied is the sum over the levels above it (P4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels(Vec<Level>);

impl Levels {
    /// Adds to a level.
    pub fn add(&mut self, level: u32, ms: u64, starts: u64) {
        let level = rounded(level);
        match self.0.binary_search_by_key(&level, |known| known.level) {
            Ok(at) => {
                self.0[at].ms += ms;
                self.0[at].starts += starts;
            }
            Err(at) => self.0.insert(at, Level { level, ms, starts }),
        }
    }

    /// Forgets all, and keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds all of another.
    pub fn add_all(&mut self, other: &Levels) {
        for level in &other.0 {
            self.add(level.level, level.ms, level.starts);
        }
    }

    /// The levels that occurred.
    pub fn iter(&self) -> impl Iterator<Item = &Level> {
        self.0.iter()
    }

    /// How many levels occurred.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if none did.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All requests.
    pub fn starts(&self) -> u64 {
        self.0.iter().map(|level| level.starts).sum()
    }

    /// The denials that a quota would have caused: requests, and milliseconds in which more were wanted.
    pub fn above(&self, quota: u32) -> (u64, u64) {
        let above = self.0.iter().filter(|level| level.level > quota);
        above.fold((0, 0), |(starts, ms), level| (starts + level.starts, ms + level.ms))
    }

    /// As [`usherd_subscription::sizing::from_usage`] takes it.
    pub fn demand(&self) -> Vec<(u32, u64)> {
        self.0.iter().map(|level| (level.level, level.starts)).collect()
    }
}

/// Up, so that a large tenant is never told too small a number.
fn rounded(level: u32) -> u32 {
    if level <= LEVEL_EXACT_MAX {
        return level;
    }
    let step = 1 << (u32::BITS - level.leading_zeros() - 8);
    level.div_ceil(step).saturating_mul(step)
}

/// The figures of one tenant over a span: its slots by position, and the demand of the whole span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Slots in which something happened, by position, ascending.
    pub slots: Vec<(u8, Slot)>,
    /// Demand over the whole span.
    pub levels: Levels,
}

impl Row {
    /// Takes in a slot; into the one that is there at this position, if there is one.
    pub fn put(&mut self, at: u8, slot: &Slot) {
        match self.slots.binary_search_by_key(&at, |(known, _)| *known) {
            Ok(found) => self.slots[found].1.add(slot),
            Err(place) => self.slots.insert(place, (at, *slot)),
        }
    }

    /// Takes in another row of the same span.
    pub fn add(&mut self, other: &Row) {
        for (at, slot) in &other.slots {
            self.put(*at, slot);
        }
        self.levels.add_all(&other.levels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_levels_are_rounded_up_by_less_than_one_percent() {
        for level in [0, 1, 255, 256] {
            assert_eq!(rounded(level), level);
        }
        for level in [257, 300, 511, 513, 1_000, 65_537, 1_048_575] {
            let kept = rounded(level);
            assert!(kept >= level && f64::from(kept) < f64::from(level) * 1.01, "{level} became {kept}");
        }
        let mut levels = Levels::default();
        (1..=1_048_575).step_by(97).for_each(|level| levels.add(level, 1, 1));
        assert!(levels.len() < 2_000, "{} levels", levels.len());
    }

    #[test]
    fn what_a_quota_would_have_denied_is_the_sum_above_it() {
        let mut levels = Levels::default();
        for (level, ms, starts) in [(9, 10, 2), (7, 100, 5), (9, 5, 1), (12, 1, 1)] {
            levels.add(level, ms, starts);
        }
        for (quota, denied) in [(6, (9, 116)), (7, (4, 16)), (8, (4, 16)), (9, (1, 1)), (12, (0, 0))] {
            assert_eq!(levels.above(quota), denied, "quota {quota}");
        }
        assert_eq!((levels.starts(), levels.demand()), (9, vec![(7, 5), (9, 3), (12, 1)]));
    }

    #[test]
    fn rows_of_one_span_add_up() {
        let slot = |peak, seat_ms| Slot { peak, seat_ms, quota: Some(9), ..Slot::default() };
        let mut row = Row::default();
        row.put(3, &slot(4, 100));
        let mut other = Row::default();
        other.put(1, &slot(2, 50));
        other.put(3, &slot(5, 10));
        row.add(&other);
        assert_eq!(row.slots, [(1, slot(2, 50)), (3, slot(5, 110))]);
    }
}

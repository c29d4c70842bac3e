//! One copied row per tenant: the consistent cut of a scrape, and the marks that keep counters from falling.

use std::collections::HashMap;

use usherd_engine::{Engine, Name, Now, TenantView};

use super::text::is_plain;
use super::words::Band;

/// A counter that goes on where its tenant began anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The total of earlier lives of the tenant.
    base: u64,
    /// The highest reading of this life.
    high: u64,
}

impl Mark {
    /// The exported value.
    pub(super) fn total(self) -> u64 {
        self.base.wrapping_add(self.high)
    }

    /// Two threads whose instants cross may make a sum fall for a moment.
    fn rise(&mut self, reading: u64) {
        self.high = self.high.max(reading);
    }

    fn begin_anew(&mut self) {
        *self = Mark { base: self.total(), high: 0 };
    }
}

/// One tenant as of the last scrape. About 180 bytes, kept between scrapes.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: Name,
    generation: u64,
    /// True if it is decided here; else it is another daemon that tells of it.
    pub(super) is_here: bool,
    /// True if its id needs no escape as a label value.
    pub(super) plain: bool,
    /// Decides its shard.
    pub(super) key: u32,
    pub(super) held: u32,
    pub(super) quota: Option<u32>,
    pub(super) peak: u32,
    pub(super) channels: u32,
    pub(super) denials: Mark,
    pub(super) seat_ms: Mark,
    pub(super) saturated_ms: Mark,
    /// The quota of its next booked change; outer `None` where nothing is booked.
    pub(super) scheduled: Option<Option<u32>>,
    /// It keeps its place among the largest until then, uptime milliseconds.
    pub(super) large_until: u64,
    /// It counts as noticeable until then: full, over, or denied somebody.
    pub(super) noticed_until: u64,
}

impl Row {
    fn new(id: &Name) -> Self {
        Row {
            id: id.clone(),
            generation: 0,
            is_here: true,
            plain: is_plain(id),
            key: crc32c::crc32c(id.as_bytes()),
            held: 0,
            quota: None,
            peak: 0,
            channels: 0,
            denials: Mark::default(),
            seat_ms: Mark::default(),
            saturated_ms: Mark::default(),
            scheduled: None,
            large_until: 0,
            noticed_until: 0,
        }
    }

    fn read(&mut self, now_ms: u64, view: &TenantView, keep: Keep) {
        let seat_ms = view.seat_ms.map(positive_56);
        let saturated_ms = view.saturated_ms.map(positive_64);
        if view.generation != self.generation {
            self.generation = view.generation;
            self.seat_ms.begin_anew();
            self.saturated_ms.begin_anew();
            self.denials.begin_anew();
        }
        self.held = view.held;
        self.quota = view.quota;
        self.peak = view.peak;
        self.channels = view.channels_inbound.saturating_add(view.channels_outbound);
        self.seat_ms.rise(seat_ms.unwrap_or(0));
        self.saturated_ms.rise(saturated_ms.unwrap_or(0));
        if view.denials > self.denials.high {
            self.noticed_until = now_ms.saturating_add(keep.denied_ms);
        }
        self.denials.rise(view.denials);
        if matches!(self.band(), Band::Full | Band::Over) {
            self.noticed_until = self.noticed_until.max(now_ms.saturating_add(keep.sticky_ms));
        }
    }

    pub(super) fn band(&self) -> Band {
        Band::of(self.held, self.quota)
    }

    pub(super) fn over(&self) -> u32 {
        self.quota.map_or(0, |quota| self.held.saturating_sub(quota))
    }
}

/// How long a tenant stays exported after what brought it in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    pub(super) sticky_ms: u64,
    pub(super) denied_ms: u64,
}

/// A seat that was taken at an instant after that of the scrape makes the sum negative: 0 then.
fn positive_56(reading: u64) -> u64 {
    if reading >= 1 << 55 { 0 } else { reading }
}

fn positive_64(reading: u64) -> u64 {
    if reading >= 1 << 63 { 0 } else { reading }
}

/// All tenants as of the last scrape, in the order in which the table told them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) list: Vec<Row>,
    /// Seat time of tenants that are gone, milliseconds.
    gone_seat_ms: u64,
}

impl Rows {
    /// Reads the whole table once. Rows of tenants that left it are given up, their seat time is not.
    pub(super) fn collect(
        &mut self,
        engine: &Engine,
        now: Now,
        keep: Keep,
        mut see: impl FnMut(&mut Row, &TenantView),
    ) {
        let list = &mut self.list;
        // The table keeps its order until a configuration is installed: then, once, rows are found by name.
        let mut moved: HashMap<Name, Row, foldhash::fast::RandomState> = HashMap::default();
        let mut at = 0;
        engine.each_tenant(now, |view| {
            if list.get(at).is_none_or(|row| row.id != view.id) {
                moved.extend(list.drain(at..).map(|row| (row.id.clone(), row)));
                list.push(moved.remove(&view.id).unwrap_or_else(|| Row::new(&view.id)));
            }
            if let Some(row) = list.get_mut(at) {
                row.read(now.uptime_ms, view, keep);
                see(row, view);
            }
            at += 1;
        });
        let gone = list.drain(at..).chain(moved.into_values()).map(|row| row.seat_ms.total());
        self.gone_seat_ms = gone.fold(self.gone_seat_ms, u64::wrapping_add);
    }

    /// Seat time of all tenants, also of those that are gone, milliseconds.
    pub(super) fn seat_ms(&self) -> u64 {
        self.list.iter().fold(self.gone_seat_ms, |sum, row| sum.wrapping_add(row.seat_ms.total()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_engine::Standing;

    const KEEP: Keep = Keep { sticky_ms: 1_800_000, denied_ms: 3_600_000 };

    fn view(held: u32, seat_ms: Option<u64>, denials: u64) -> TenantView {
        TenantView {
            id: "acme".into(),
            generation: 0,
            standing: Standing::Active,
            quota: Some(10),
            held,
            peak: held,
            peak_now: held,
            sessions: held,
            channels_inbound: 0,
            channels_outbound: 0,
            channels_limit: Some(50),
            denials,
            seat_ms,
            saturated_ms: seat_ms,
            configured: true,
        }
    }

    #[test]
    fn a_counter_survives_crossed_readings_and_a_new_life() {
        let mut row = Row::new(&"acme".into());
        let mut last = 0;
        for (seat_ms, denials, expected) in [
            (Some(1_000_000), 1, 1_000_000),
            (None, 1, 1_000_000),
            (Some(999_990), 1, 1_000_000),
            (Some(1_000_500), 1, 1_000_500),
        ] {
            row.read(0, &view(5, seat_ms, denials), KEEP);
            assert_eq!(row.seat_ms.total(), expected);
            assert!(row.seat_ms.total() >= last);
            last = row.seat_ms.total();
        }
        // An idle tenant, whose last seat was given back by a thread that was held up for long.
        row.read(0, &view(0, Some(900_000), 1), KEEP);
        assert_eq!(row.seat_ms.total(), 1_000_500);
        let anew = |generation, seat_ms, denials| TenantView { generation, ..view(5, Some(seat_ms), denials) };
        row.read(0, &anew(1, 20, 1), KEEP);
        assert_eq!((row.seat_ms.total(), row.denials.total()), (1_000_520, 2));
        row.read(0, &anew(2, 2_000_000, 0), KEEP);
        assert_eq!((row.seat_ms.total(), row.denials.total()), (3_000_520, 2));
    }

    #[test]
    fn a_negative_sum_is_none_at_all() {
        let mut row = Row::new(&"acme".into());
        row.read(0, &view(1, Some((1 << 56) - 5), 0), KEEP);
        assert_eq!(row.seat_ms.total(), 0);
        assert_eq!((positive_64(u64::MAX), positive_64(7)), (0, 7));
    }

    #[test]
    fn denials_and_a_full_quota_are_noticed_for_a_while() {
        let mut row = Row::new(&"acme".into());
        row.read(5, &view(9, Some(0), 0), KEEP);
        assert_eq!(row.noticed_until, 0);
        row.read(5, &view(10, Some(0), 0), KEEP);
        assert_eq!(row.noticed_until, 1_800_005);
        row.read(6, &view(9, Some(0), 1), KEEP);
        assert_eq!(row.noticed_until, 3_600_006);
        row.read(7, &view(9, Some(0), 1), KEEP);
        assert_eq!(row.noticed_until, 3_600_006);
    }
}

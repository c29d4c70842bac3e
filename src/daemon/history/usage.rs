//! Answers from the history: usage over time, and the demand from which any quota can be judged (P4).

use std::collections::{BTreeMap, HashMap};
use std::io;

use usherd_engine::{Name, Now, TenantView};

pub use crate::answers::usage::POINTS_MAX;
pub use crate::answers::words::Step;

use super::History;
use super::live::SLOT_S;
use super::slot::{Levels, Row, Slot};
use super::span::Head;

impl Step {
    /// Its length, seconds; a day with a clock change has an hour more or less.
    pub const fn seconds(self) -> u32 {
        match self {
            Step::FiveMinutes => SLOT_S,
            Step::Hour => 3_600,
            Step::Day => 86_400,
        }
    }
}

/// A point of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The usage and the demand.
    pub slot: Slot,
    /// How long the daemon looked, milliseconds.
    pub observed_ms: u64,
}

impl Point {
    /// Seats held on average while the daemon looked.
    pub fn mean(&self) -> f64 {
        if self.observed_ms == 0 { 0.0 } else { self.slot.seat_ms as f64 / self.observed_ms as f64 }
    }

    /// Takes in what came after it.
    pub fn add(&mut self, later: &Point) {
        self.slot.add(&later.slot);
        self.observed_ms += later.observed_ms;
    }
}

/// Tells what a tenant has at present, and when that was; `None` where it is unknown.
pub type Present<'a> = &'a dyn Fn() -> Option<(Now, TenantView)>;

/// A stretch of time, seconds since 1970 UTC, the end not in it.
pub type Stretch = (i64, i64);

impl History {
    /// The usage of one tenant, point by point as `begin` puts a second to the beginning of its point; stretches in
    /// which the daemon did not run are not there, idle ones have zeros. The slot in progress is as `present` gives it.
    ///
    /// # Errors
    /// Of the file system.
    pub fn usage(
        &self,
        tenant: &str,
        present: Present<'_>,
        stretch: Stretch,
        step: Step,
        begin: impl Fn(i64) -> i64,
    ) -> io::Result<BTreeMap<i64, Point>> {
        let mut points: BTreeMap<i64, Point> = BTreeMap::new();
        let detail = step == Step::FiveMinutes;
        // By time, for what is seen first is the hour in progress.
        let mut slots = BTreeMap::new();
        self.each(tenant, present, stretch, detail, |head, row| note_slots(&mut slots, head, row, stretch))?;
        // A point without use has no quota of its own: that of the point before, or the first that is known.
        let first = slots.values().find(|point: &&Point| !point.slot.is_idle()).map(|point| point.slot.quota);
        let mut quota = first.unwrap_or_else(|| present().and_then(|(_, view)| view.quota));
        for (at, mut point) in slots {
            if point.slot.is_idle() {
                point.slot.quota = quota;
            }
            quota = point.slot.quota;
            let sum = points.entry(begin(at)).or_default();
            sum.add(&point);
            sum.slot.quota = quota;
        }
        Ok(points)
    }

    /// The demand of one tenant over the hours and days that touch a stretch, and for how long it was looked at,
    /// milliseconds.
    ///
    /// # Errors
    /// Of the file system.
    pub fn demand_of(&self, tenant: &str, present: Present<'_>, stretch: Stretch) -> io::Result<(Levels, u64)> {
        let (mut levels, mut observed_ms) = (Levels::default(), 0);
        self.each(tenant, present, stretch, false, |head, row| {
            levels.add_all(&row.levels);
            observed_ms += head.observed_ms.iter().sum::<u64>();
        })?;
        Ok((levels, observed_ms))
    }

    /// Of every tenant the peak and the denials since a second, as far as slots are closed: for the start of the daemon.
    /// Files that cannot be read are left out, and logged.
    pub fn since(&self, from_s: i64) -> HashMap<Name, (u32, u64)> {
        let mut all: HashMap<Name, (u32, u64)> = HashMap::new();
        let mut note = |tenant: &Name, head: &Head, row: &Row| {
            for (_, slot) in row.slots.iter().filter(|(at, _)| head.slot_start_s(*at) >= from_s) {
                let sum = all.entry(tenant.clone()).or_default();
                *sum = (sum.0.max(slot.peak), sum.1 + slot.denials);
            }
        };
        let read = self.store.each_tenant(from_s, &mut note);
        if read.is_err() {
            self.store.note(read);
        }
        self.live.lock().each_tenant(&mut note);
        all
    }

    fn each(
        &self,
        tenant: &str,
        present: Present<'_>,
        stretch: Stretch,
        detail: bool,
        mut see: impl FnMut(&Head, &Row),
    ) -> io::Result<()> {
        let touches =
            |head: &Head| head.start_s < stretch.1 && head.slot_start_s(head.observed_ms.len() as u8) > stretch.0;
        let except = {
            let live = self.live.lock();
            // With the lock: a view from before the slot in progress began would have nothing to do with it.
            live.each(tenant, present().as_ref(), |head, row| {
                if touches(head) {
                    see(head, row);
                }
            })
        };
        self.store.each(tenant, stretch, detail, &except, see)
    }
}

fn note_slots(slots: &mut BTreeMap<i64, Point>, head: &Head, row: &Row, (from_s, to_s): Stretch) {
    let length_s = i64::from(head.slot_s);
    for (at, observed_ms) in (0u8..).zip(&head.observed_ms) {
        let start_s = head.slot_start_s(at);
        if *observed_ms == 0 || start_s >= to_s || start_s + length_s <= from_s {
            continue;
        }
        let found = row.slots.binary_search_by_key(&at, |(known, _)| *known);
        let slot = found.map_or_else(|_| Slot::default(), |found| row.slots[found].1);
        slots.entry(start_s).or_default().add(&Point { slot, observed_ms: *observed_ms });
    }
}

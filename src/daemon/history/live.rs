//! The hour in progress: looks at the table once a second, and closes a slot every five minutes.

use std::collections::HashMap;
use std::sync::Arc;

use usherd_engine::{Engine, Name, Now, TenantView};

use super::demand::{Demand, TenantDemand};
use super::slot::{Levels, Row, Slot};
use super::span::{Head, Span};

/// How long a slot is, seconds.
pub const SLOT_S: u32 = 300;
/// How long a span of slots is, seconds.
pub const HOUR_S: i64 = 3_600;
const HOUR_SLOTS: usize = 12;

/// The hour in progress.
#[derive(Debug)]
pub struct Live {
    /// Its closed slots.
    span: Span,
    /// Hours that are over, until they are on disk.
    finishing: Vec<Arc<Span>>,
    /// The slot in progress.
    at: u8,
    observed_ms: u64,
    looked_ms: Option<u64>,
    tenants: HashMap<Name, Tracked>,
}

/// The figures of one tenant: its sums when the last slot was closed, and what was seen since.
#[derive(Debug, Default)]
struct Tracked {
    sums: Sums,
    demand: u32,
    given_up: u64,
    levels: Levels,
}

/// The sums of a tenant's table, which only rise while it is the same table.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    generation: u64,
    seat_ms: u64,
    saturated_ms: u64,
    denials: u64,
}

/// The result of one look.
#[derive(Debug, Default)]
pub struct Look {
    /// Seats held by all tenants.
    pub held: u64,
    /// The slot that was closed by it.
    pub closed: Option<Closed>,
}

/// A slot that was closed.
#[derive(Debug, Default)]
pub struct Closed {
    /// The hour and the log that it belongs to.
    pub head: Head,
    /// The slot, as a span with nothing else in it.
    pub slot: Span,
    /// The hour, where the slot was its last one.
    pub hour: Option<Arc<Span>>,
    /// Every tenant with its peak in the slot.
    pub peaks: Vec<(TenantView, u32)>,
}

impl Live {
    /// Goes on with an hour, of which some slots may be known, at an instant.
    pub fn new(utc_ms: i64, known: Option<Span>) -> Self {
        let start_s = hour_of(utc_ms);
        let span = known.filter(|span| span.head.start_s == start_s).unwrap_or_else(|| an_hour(start_s));
        let at = slot_of(utc_ms);
        Live { span, finishing: Vec::new(), at, observed_ms: 0, looked_ms: None, tenants: HashMap::new() }
    }

    /// Looks at every tenant; `utc_ms` is the wall clock as far as it is trusted. To be called once a second.
    /// Changes between two looks count into the slot in progress at the first of them.
    pub fn look(&mut self, engine: &Engine, demand: &Demand, now: Now, utc_ms: i64) -> Look {
        let passed_ms = now.uptime_ms.saturating_sub(self.looked_ms.replace(now.uptime_ms).unwrap_or(now.uptime_ms));
        self.observed_ms += passed_ms;
        let mut waiting = HashMap::new();
        demand.drain(now.uptime_ms, |tenant, told| {
            if told.waiting > 0 {
                waiting.insert(tenant.clone(), told.waiting);
            }
            self.tenants.entry(tenant.clone()).or_default().hear(told);
        });
        let mut held = 0;
        engine.each_tenant(now, |view| {
            held += u64::from(view.held);
            let level = view.held + if waiting.is_empty() { 0 } else { waiting.get(&view.id).copied().unwrap_or(0) };
            if level > 0 {
                see(&mut self.tenants, view, level, passed_ms);
            }
        });
        let is_over = (hour_of(utc_ms), slot_of(utc_ms)) != (self.span.head.start_s, self.at);
        Look { held, closed: is_over.then(|| self.close(engine, now, utc_ms)) }
    }

    /// Closes the slot in progress, and begins the one of an instant.
    pub fn close(&mut self, engine: &Engine, now: Now, utc_ms: i64) -> Closed {
        let mut slot = Span { head: self.span.head.clone(), ..Span::default() };
        slot.head.observed_ms.fill(0);
        if let Some(observed_ms) = slot.head.observed_ms.get_mut(usize::from(self.at)) {
            *observed_ms = std::mem::take(&mut self.observed_ms);
        }
        let mut ended = HashMap::new();
        engine.roll_peaks(|tenant, peak| _ = ended.insert(Name::from(tenant), peak));
        let mut peaks = Vec::with_capacity(ended.len());
        engine.each_tenant(now, |view| {
            let peak = ended.get(&view.id).copied().unwrap_or(view.held);
            let row = self.tenants.entry(view.id.clone()).or_default().close(view, peak, self.at);
            if let Some(row) = row {
                slot.rows.insert(view.id.clone(), row);
            }
            peaks.push((view.clone(), peak));
        });
        self.span.add(&slot);
        let head = self.span.head.clone();
        let hour = (hour_of(utc_ms) != head.start_s).then(|| {
            // Who is gone is not remembered from one hour to the next.
            self.tenants.retain(|tenant, _| ended.contains_key(tenant));
            let hour = Arc::new(std::mem::replace(&mut self.span, an_hour(hour_of(utc_ms))));
            self.finishing.push(Arc::clone(&hour));
            hour
        });
        self.at = slot_of(utc_ms);
        Closed { head, slot, hour, peaks }
    }

    /// Every tenant's row of the hour in progress, as far as its slots are closed.
    pub fn each_tenant(&self, mut see: impl FnMut(&Name, &Head, &Row)) {
        self.span.rows.iter().for_each(|(tenant, row)| see(tenant, &self.span.head, row));
    }

    /// When it looked last, uptime milliseconds; `None` before the first look.
    pub fn looked_ms(&self) -> Option<u64> {
        self.looked_ms
    }

    /// An hour is on disk.
    pub fn finished(&mut self, hour: &Arc<Span>) {
        self.finishing.retain(|known| !Arc::ptr_eq(known, hour));
    }

    /// Sees one tenant's row of every hour that is not on disk yet, with the slot in progress as this view of
    /// the tenant gives it, taken at an instant. Gives back the numbers of the hours that are about to be on disk.
    pub fn each(&self, tenant: &str, view: Option<&(Now, TenantView)>, mut see: impl FnMut(&Head, &Row)) -> Vec<u64> {
        let nothing = Row::default();
        for span in &self.finishing {
            see(&span.head, span.rows.get(tenant).unwrap_or(&nothing));
        }
        let (mut head, mut row) = (self.span.head.clone(), self.span.rows.get(tenant).cloned().unwrap_or_default());
        // The view is younger than the last look: its sums cover what has passed since.
        let since_ms = |now: &Now| now.uptime_ms.saturating_sub(self.looked_ms.unwrap_or(now.uptime_ms));
        if let Some(observed_ms) = head.observed_ms.get_mut(usize::from(self.at)) {
            *observed_ms += self.observed_ms + view.map_or(0, |(now, _)| since_ms(now));
        }
        if let Some((_, view)) = view {
            let tracked = self.tenants.get(tenant);
            let slot = tracked.unwrap_or(&Tracked::default()).slot(view, view.peak_now);
            if !slot.is_idle() {
                row.put(self.at, &slot);
            }
            if let Some(tracked) = tracked {
                row.levels.add_all(&tracked.levels);
            }
        }
        see(&head, &row);
        self.finishing.iter().map(|span| span.head.taken_in).collect()
    }
}

impl Tracked {
    fn hear(&mut self, told: TenantDemand) {
        self.levels.add_all(&told.starts);
        self.demand = self.demand.max(told.demand);
        self.given_up += told.given_up;
    }

    /// The slot of what was seen since the last one was closed.
    fn slot(&self, view: &TenantView, peak: u32) -> Slot {
        let then = self.sums.of(view);
        let now = then.risen(view);
        Slot {
            peak,
            demand: self.demand.max(peak),
            quota: view.quota,
            seat_ms: now.seat_ms - then.seat_ms,
            saturated_ms: now.saturated_ms - then.saturated_ms,
            denials: now.denials - then.denials,
            denials_true: self.given_up,
        }
    }

    fn close(&mut self, view: &TenantView, peak: u32, at: u8) -> Option<Row> {
        let slot = self.slot(view, peak);
        self.sums = self.sums.of(view).risen(view);
        let levels = std::mem::take(&mut self.levels);
        (self.demand, self.given_up) = (0, 0);
        (!slot.is_idle() || !levels.is_empty()).then(|| Row { slots: vec![(at, slot)], levels })
    }
}

impl Sums {
    /// Those that a view is to be compared with: a tenant that was gone and is back counts from 0 again.
    fn of(self, view: &TenantView) -> Self {
        if self.generation == view.generation { self } else { Sums { generation: view.generation, ..Sums::default() } }
    }

    /// As a view of the same table has them. Where its word kept moving, the next slot brings what this one misses;
    /// where a thread was held up between its clock and the table, a sum may fall for a moment.
    fn risen(self, view: &TenantView) -> Self {
        Sums {
            generation: self.generation,
            seat_ms: view.seat_ms.map_or(self.seat_ms, |now| now.max(self.seat_ms)),
            saturated_ms: view.saturated_ms.map_or(self.saturated_ms, |now| now.max(self.saturated_ms)),
            denials: view.denials.max(self.denials),
        }
    }
}

fn see(tenants: &mut HashMap<Name, Tracked>, view: &TenantView, level: u32, passed_ms: u64) {
    let tracked = match tenants.get_mut(&view.id) {
        Some(tracked) => tracked,
        None => tenants.entry(view.id.clone()).or_default(),
    };
    tracked.levels.add(level, passed_ms, 0);
    tracked.demand = tracked.demand.max(level);
}

fn an_hour(start_s: i64) -> Span {
    let mut span = Span { head: Head::new(start_s, SLOT_S, HOUR_SLOTS), ..Span::default() };
    span.head.taken_in = fastrand::u64(1..);
    span
}

/// When the hour of an instant begins, seconds since 1970 UTC; nothing is before 1970.
fn hour_of(utc_ms: i64) -> i64 {
    let utc_s = utc_ms.max(0) / 1_000;
    utc_s - utc_s % HOUR_S
}

fn slot_of(utc_ms: i64) -> u8 {
    (utc_ms.max(0) / 1_000 % HOUR_S / i64::from(SLOT_S)) as u8
}

//! Peak and denials of each tenant since midnight.

use std::collections::HashMap;

use chrono::NaiveDate;
use parking_lot::Mutex;
use usherd_engine::{Name, TenantView};

/// Peaks and denials since midnight in the billing zone, those of before a restart included.
#[derive(Debug, Default)]
pub struct Today(Mutex<Day>);

#[derive(Debug, Default)]
struct Day {
    date: NaiveDate,
    tenants: HashMap<Name, OfDay>,
}

/// The day of one tenant, as far as it is known. Its table counts denials since it was made, which may have been
/// yesterday.
#[derive(Clone, Copy, Debug, Default)]
struct OfDay {
    peak: u32,
    /// Denials of today that the table does not count: of before a restart, or of a table that is gone.
    earlier: u64,
    /// The generation whose counts `from` and `seen` are; `None` before the first look.
    generation: Option<u64>,
    /// The count of the table when the day began.
    from: u64,
    /// Its count when it was looked at last.
    seen: u64,
}

impl OfDay {
    fn follow(&mut self, view: &TenantView) {
        if self.generation != Some(view.generation) {
            self.earlier += self.seen.saturating_sub(self.from);
            (self.generation, self.from) = (Some(view.generation), 0);
        }
        self.seen = view.denials;
    }
}

/// Peak and denials of a tenant since midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TodayView {
    /// Most seats held at once.
    pub peak: u32,
    /// Denials.
    pub denials: u64,
}

impl Today {
    /// Begins with what the history knows of this date: of each tenant the peak and the denials.
    pub fn begin(&self, date: NaiveDate, known: HashMap<Name, (u32, u64)>) {
        let of_day = |(peak, earlier)| OfDay { peak, earlier, ..OfDay::default() };
        let tenants = known.into_iter().map(|(tenant, known)| (tenant, of_day(known))).collect();
        *self.0.lock() = Day { date, tenants };
    }

    /// Takes over the peak of a window that ended; a new date begins a new day.
    pub fn note(&self, date: NaiveDate, ended: &[(TenantView, u32)]) {
        let mut day = self.0.lock();
        if day.date != date {
            day.date = date;
            day.tenants.clear();
            for (view, _) in ended {
                let (generation, denials) = (Some(view.generation), view.denials);
                let begun = OfDay { peak: view.held, earlier: 0, generation, from: denials, seen: denials };
                day.tenants.insert(view.id.clone(), begun);
            }
            return;
        }
        for (view, peak) in ended {
            let known = day.tenants.entry(view.id.clone()).or_default();
            known.peak = known.peak.max(*peak);
            known.follow(view);
        }
    }

    /// Peak and denials of a tenant, up to this view of it.
    pub fn of(&self, tenant: &str, view: &TenantView) -> TodayView {
        let mut known = self.0.lock().tenants.get(tenant).copied().unwrap_or_default();
        known.follow(view);
        let denials = known.earlier + known.seen.saturating_sub(known.from);
        TodayView { peak: known.peak.max(view.peak_now), denials }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use usherd_engine::Standing;

    fn view(generation: u64, denials: u64, held: u32) -> TenantView {
        TenantView {
            id: "acme".into(),
            generation,
            standing: Standing::Active,
            quota: Some(9),
            held,
            peak: held,
            peak_now: held,
            sessions: 0,
            channels_inbound: 0,
            channels_outbound: 0,
            channels_limit: None,
            denials,
            seat_ms: None,
            saturated_ms: None,
            configured: true,
        }
    }

    #[test]
    fn today_is_the_history_and_what_was_counted_since() {
        let (date, today) = (NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(), Today::default());
        let of = |view: &TenantView| {
            let TodayView { peak, denials } = today.of("acme", view);
            (peak, denials)
        };
        today.begin(date, HashMap::from([("acme".into(), (5, 7))]));
        assert_eq!(of(&view(1, 0, 0)), (5, 7), "before the restart");
        assert_eq!(of(&view(1, 2, 6)), (6, 9), "and in the first five minutes");
        today.note(date, &[(view(1, 3, 2), 8)]);
        assert_eq!(of(&view(1, 4, 1)), (8, 11));
        assert_eq!(of(&view(2, 1, 1)), (8, 11), "a table that is gone took three with it, and one came since");
        today.note(date, &[(view(2, 1, 1), 1)]);
        assert_eq!(of(&view(2, 2, 1)), (8, 12));
        today.note(date.succ_opt().unwrap(), &[(view(2, 5, 3), 4)]);
        assert_eq!((of(&view(2, 5, 3)), of(&view(2, 6, 1))), ((3, 0), (3, 1)));
        today.begin(date, HashMap::new());
        assert_eq!(of(&view(1, 3, 1)), (1, 3), "a first run loses none");
    }
}

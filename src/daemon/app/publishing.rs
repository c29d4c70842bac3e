//! The part of a daemon that is shown to others.

use std::sync::Arc;

use chrono::NaiveDate;
use chrono_tz::Tz;
use usherd_subscription::civil;

use super::names::{Pseudonyms, Sight};
use super::today::Today;
use crate::daemon::access::auth::Access;
use crate::daemon::events::Events;
use crate::daemon::history::History;
use crate::daemon::log::LogControl;
use crate::daemon::metrics::Metrics;
use crate::daemon::metrics::scrapes::Scrapes;
use crate::daemon::webhook::board::Board;

/// The part that is shown to others: events, metrics, usage, webhooks, the log.
pub struct Publishing {
    /// The events of late.
    pub events: Arc<Events>,
    /// The counters and gauges.
    pub metrics: Arc<Metrics>,
    /// The scrapes that wait to be answered.
    pub scrapes: Arc<Scrapes>,
    /// The usage and demand of months.
    pub history: History,
    /// Peaks and denials since midnight.
    pub today: Today,
    /// The webhooks as they are shown.
    pub webhooks: Board,
    /// The control of the log; `None` where this process does not log by itself.
    pub log: Option<LogControl>,
    /// The pseudonyms for names that a reader may not see.
    pseudonyms: Pseudonyms,
}

impl Publishing {
    /// Nothing was shown yet, except what the history kept.
    pub fn new(events: Events, metrics: Arc<Metrics>, history: History, log: Option<LogControl>) -> Self {
        Publishing {
            events: Arc::new(events),
            metrics,
            scrapes: Arc::default(),
            history,
            today: Today::default(),
            webhooks: Board::default(),
            log,
            pseudonyms: Pseudonyms::default(),
        }
    }

    /// The sight that somebody has of the names of subjects.
    pub fn sight(&self, access: &Access) -> Sight<'_> {
        Sight::new(&self.pseudonyms, access.sees_names())
    }

    /// Goes on with the day of before the start, as the history knows it.
    pub(crate) fn begin_today(&self, zone: Tz, date: NaiveDate) {
        let midnight = civil::midnight(zone, date, civil::Edge::Start);
        self.today.begin(date, self.history.since(midnight.timestamp()));
    }
}

//! The configuration that a daemon starts with, kept for its next start.

use std::path::Path;

use super::reload::note_accounts;
use crate::daemon::app::App;
use crate::daemon::config;
use crate::daemon::events::{Event, EventResult, EventType};

/// Keeps what the daemon starts with, for the next start, unless it comes from there.
pub(super) fn first_good(app: &App, state_dir: &Path, config: &config::Config) {
    let App { deciding, publishing, configuration, .. } = app;
    let tell_rejected = |text| {
        let utc_ms = deciding.clock.now().utc_ms;
        publishing.events.publish(Event::came_to(EventType::Config, EventResult::Rejected, utc_ms, text));
    };
    if !config.rejected.is_empty() {
        let text = config::render_rejected(&config.rejected, false);
        tracing::error!("{text}");
        tell_rejected(text);
    }
    if configuration.state.lock().from_last_good {
        tracing::error!("the configuration is bad; the last good one is in force until it is fixed");
        let text = config::render_problems(&configuration.state.lock().problems, false);
        tell_rejected(text);
    } else if let Err(error) = config::store(state_dir, config) {
        tracing::warn!(%error, "the configuration cannot be kept as the last good one");
    }
    match config::Accounts::read(state_dir) {
        Ok(accounts) => configuration.running.remember(accounts.unwrap_or_default()),
        Err(why) => {
            tracing::error!(
                why,
                "who was on trial or paid is forgotten, the file is set aside: a second trial may go unseen"
            );
            config::Accounts::set_aside(state_dir);
        }
    }
    note_accounts(&configuration.running, deciding.clock.now(), state_dir, config);
}

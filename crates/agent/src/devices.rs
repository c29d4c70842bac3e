//! The agent's work on devices: reports of sources, questions to usherd, their grace, and their file.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;
use usherd_client::Ended;

use super::device_file::{self, StoredDevice};
use super::hub::{Hub, SourceState};
use super::presence::DEVICES_MAX;
use super::source::Report;

/// How often the file of devices is brought up to date, and grace is checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Hub {
    /// Takes up a source's report of its devices.
    pub(super) fn report_devices(&self, source: &SourceState, report: &Report) {
        let (now, grace) = (self.now(), self.presence_grace());
        {
            let mut presence = source.presence.lock();
            let left_out = presence.left_out();
            match report {
                Report::Presence { device, on } => drop(presence.set(now, grace, device, *on)),
                Report::Present(devices) => {
                    source.devices_known.store(true, Ordering::Relaxed);
                    presence.present(now, grace, devices);
                }
                Report::UnsureOfDevices(_) => presence.unsure(),
                Report::Lost => presence.lost(now),
                _ => {}
            }
            if left_out == 0 && presence.left_out() > 0 {
                warn!(source = source.name, "more than {DEVICES_MAX} devices: the rest is not counted");
            }
        }
        if grace.is_zero() {
            self.expire_devices();
        }
        if matches!(report, Report::Presence { .. } | Report::Present(_) | Report::Live(_)) {
            self.devices_due.notify_one();
        }
    }

    /// Gives back the seats of those whose grace is over.
    fn expire_devices(&self) {
        let (now, grace) = (self.now(), self.presence_grace());
        for source in &self.sources {
            let over = source.presence.lock().expire(now, grace);
            for key in &over {
                self.release(key, Ended::Over);
            }
        }
    }

    /// Acquires seats for the devices that came, one after the other, for ever.
    pub async fn presence_loop(&self) {
        loop {
            self.devices_due.notified().await;
            for source in &self.sources {
                loop {
                    let due = source.presence.lock().next_due();
                    let Some((device, ask)) = due else { break };
                    let verdict = self.client.acquire(&ask).await;
                    let useless = source.presence.lock().answered(&device, verdict.allow);
                    if useless && let Some(session) = ask.session {
                        self.release(&(ask.tenant, session), Ended::Over);
                    }
                }
            }
            self.allow_inventories();
        }
    }

    /// Ends the grace of devices in time, for ever.
    pub async fn grace_loop(&self) {
        loop {
            let (now, grace) = (self.now(), self.presence_grace());
            let next = self.sources.iter().filter_map(|source| source.presence.lock().next_expiry(grace)).min();
            // No grace that begins later ends sooner than this.
            let pause = next.map_or(LOOK_EVERY, |at| at.saturating_sub(now)).min(LOOK_EVERY);
            sleep(pause.max(Duration::from_millis(1))).await;
            self.expire_devices();
        }
    }

    /// Restores the devices that held a seat when the agent stopped, and those that had given theirs back and stayed.
    pub fn restore_devices(&self, folder: &Path) {
        let stored = match device_file::read(folder) {
            Ok(stored) => stored,
            Err(why) => {
                warn!(%why, "the file of devices cannot be read; who is not there now loses the seat at once");
                return;
            }
        };
        for source in &self.sources {
            let of_source = stored.iter().filter(|stored| stored.source == source.name);
            source.presence.lock().restore(of_source.map(|stored| (stored.device.clone(), stored.is_over())));
        }
        self.devices_due.notify_one();
    }

    /// Writes the devices that hold a seat, or gave it back and stayed, to disk whenever they change, for ever.
    pub async fn devices_loop(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            self.write_devices();
        }
    }

    /// Writes the devices that hold a seat to disk, if they changed since the last write.
    pub fn write_devices(&self) {
        let mut is_changed = self.writer.devices_failed();
        let mut devices = Vec::new();
        for source in &self.sources {
            let mut presence = source.presence.lock();
            is_changed |= std::mem::take(&mut presence.changed);
            let of_source = presence.desktops().map(|device| StoredDevice::new(source.name, device));
            devices.extend(of_source);
            devices.extend(presence.over().map(|device| StoredDevice::over(source.name, device)));
        }
        if is_changed {
            self.writer.devices(devices);
        }
    }
}

//! The publisher's records, held in memory and on the disk, as files of the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use usherd_engine::Now;

use super::envelope::{Admission, Bundle, Limits, Trust, in_time, open, verify};
use super::ratchet::Ratchet;
use super::refusal::{Refusal, RefusalCode};
use super::store::{Confirmed, Store, Stored};
use crate::daemon::config::{Disk, Files, Settings, Synced, TENANT_FILE_BYTES_MAX, state_dir};
use crate::daemon::text::hex;

/// Begins the keys of the journal's marks, one for each signing key.
const MARK: &str = "sync:";

/// The bundle that is held of the publisher.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    inner: Mutex<Inner>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    ratchet: Ratchet,
    held: Option<Arc<Bundle>>,
    confirmed: Confirmed,
    /// When that was, where nobody trusted the clock that dated it.
    doubted_uptime_ms: Option<u64>,
    /// The file has another date.
    unstored: bool,
}

/// When the publisher stood by what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// By the clock as far as it is trusted.
    pub at: DateTime<Utc>,
    /// Uptime milliseconds, where that is not far: it is dated anew once the clock is trusted ([`Keeper::redate`]).
    pub doubted_uptime_ms: Option<u64>,
}

/// A bundle that was pulled and is to be taken, with its envelope for the disk.
#[derive(Debug)]
pub struct Pulled {
    /// The opened bundle.
    pub bundle: Arc<Bundle>,
    /// Its exact bytes.
    pub envelope: Vec<u8>,
    /// Where it was.
    pub url: String,
    /// The tag to ask with for news only; empty: none.
    pub etag: String,
}

/// The facts about the held bundle, for status and metrics.
#[derive(Clone, Debug)]
pub struct Holding {
    /// It.
    pub bundle: Arc<Bundle>,
    /// When it was last confirmed, milliseconds since 1970 UTC.
    pub confirmed_utc_ms: i64,
}

/// The settings that a bundle is judged by.
pub fn trust(settings: &Settings) -> Trust<'_> {
    Trust {
        keys: &settings.sync.public_keys,
        installation: &settings.sync.installation,
        limits: Limits {
            bundle_bytes: settings.sync.bundle_bytes_max as usize,
            records: settings.server.tenants_max as usize,
            record_bytes: TENANT_FILE_BYTES_MAX,
        },
    }
}

impl Keeper {
    /// Takes up the bundle that an earlier run has stored, judged again by signature and ratchet; that it expired
    /// meanwhile is not the matter here, but of J7. The second value says why something stored is not used. Whether the
    /// clock can be trusted is not known yet: so no date is judged.
    pub fn recall(state_dir: &Path, settings: &Settings) -> (Self, Option<String>) {
        let store = Store::at(state_dir);
        let mut inner = Inner::default();
        let problem = recall(&store, settings, &mut inner).err();
        (Keeper { store, inner: Mutex::new(inner) }, problem)
    }

    /// Takes the serials that the journal remembers; the highest counts. Answers those that the files have
    /// forgotten: somebody put older ones in their place.
    pub fn raise<'a>(&self, marks: impl Iterator<Item = (&'a str, u64)>) -> Vec<String> {
        let mut inner = self.inner.lock();
        let before = inner.ratchet.clone();
        let of_keys = marks.filter_map(|(mark, serial)| Some((mark.strip_prefix(MARK)?, serial)));
        of_keys.for_each(|(key, serial)| inner.ratchet.raise(key, serial));
        let forgotten = inner.ratchet.keys.iter().filter(|(key, seen)| before.keys.get(*key) != Some(*seen));
        forgotten.map(|(key, seen)| format!("key {key}: serial {}", seen.serial)).collect()
    }

    /// The ratchet as marks of the journal.
    pub fn marks(&self) -> Vec<(String, u64)> {
        self.inner.lock().ratchet.keys.iter().map(|(key, seen)| (format!("{MARK}{key}"), seen.serial)).collect()
    }

    /// The held bundle.
    pub fn holding(&self) -> Option<Holding> {
        let inner = self.inner.lock();
        let bundle = inner.held.clone()?;
        Some(Holding { bundle, confirmed_utc_ms: inner.confirmed.utc_ms })
    }

    /// The tag to ask with for news only; `None` where the whole bundle is wanted.
    pub fn etag(&self, url: &str) -> Option<String> {
        let inner = self.inner.lock();
        let known = inner.held.is_some() && inner.confirmed.url == url && !inner.confirmed.etag.is_empty();
        known.then(|| inner.confirmed.etag.clone())
    }

    /// Judges what was pulled. `Repeated` is answered only where it is held: what was taken once and is lost
    /// since is taken again.
    ///
    /// # Errors
    /// Why it is not to be taken.
    pub fn judge(
        &self,
        envelope: &[u8],
        settings: &Settings,
        now: DateTime<Utc>,
    ) -> Result<(Bundle, Admission), Refusal> {
        let inner = self.inner.lock().clone();
        let (bundle, admission) = verify(envelope, &trust(settings), &inner.ratchet, now)?;
        let is_held = inner.held.is_some_and(|held| held.sha256 == bundle.sha256 && held.key == bundle.key);
        Ok((bundle, if is_held { admission } else { Admission::Fresh }))
    }

    /// Checks that the held bundle may be confirmed: the publisher's word alone cannot keep an expired bundle alive,
    /// nor one whose key or name is not trusted any more.
    ///
    /// # Errors
    /// Why not.
    pub fn may_confirm(&self, settings: &Settings, now: DateTime<Utc>) -> Result<(), Refusal> {
        let Some(held) = self.inner.lock().held.clone() else {
            return Err(RefusalCode::Malformed.because("the publisher says that nothing is new, but nothing is held"));
        };
        if !fits(&held, settings) {
            return Err(
                RefusalCode::UnknownKey.because("what is held is not signed by a trusted key for this installation")
            );
        }
        in_time(&held, now)
    }

    /// Stores a bundle that is about to be in force: first the ratchet, durably, then its mark in the journal,
    /// then the bundle, and at last that it is complete.
    ///
    /// # Errors
    /// It could not be stored, and is not held.
    pub fn keep(&self, pulled: &Pulled, now: Confirmation, mark: impl FnOnce(&str, u64)) -> Result<(), String> {
        let before = self.inner.lock().clone();
        let bundle = &pulled.bundle;
        let replaces = before.held.map(|held| held.sha256);
        let mut stored = Stored { ratchet: before.ratchet.taken(&bundle.key, bundle.serial, bundle.sha256), replaces };
        self.store.keep_ratchet(&stored)?;
        mark(&format!("{MARK}{}", bundle.key), bundle.serial);
        self.store.keep_bundle(&pulled.envelope)?;
        stored.replaces = None;
        self.store.keep_ratchet(&stored)?;
        let confirmed = Confirmed {
            sha256: hex(&bundle.sha256),
            utc_ms: now.at.timestamp_millis(),
            url: pulled.url.clone(),
            etag: pulled.etag.clone(),
        };
        self.tell_confirmed(&confirmed);
        *self.inner.lock() = Inner {
            ratchet: stored.ratchet,
            held: Some(Arc::clone(bundle)),
            confirmed,
            doubted_uptime_ms: now.doubted_uptime_ms,
            unstored: false,
        };
        Ok(())
    }

    /// The publisher stands by what is held.
    pub fn confirm(&self, now: Confirmation, url: &str, etag: Option<&str>) {
        let confirmed = {
            let mut inner = self.inner.lock();
            inner.doubted_uptime_ms = now.doubted_uptime_ms;
            inner.confirmed.utc_ms = now.at.timestamp_millis();
            url.clone_into(&mut inner.confirmed.url);
            if let Some(etag) = etag {
                etag.clone_into(&mut inner.confirmed.etag);
            }
            inner.confirmed.sha256 = inner.held.as_ref().map(|held| hex(&held.sha256)).unwrap_or_default();
            inner.confirmed.clone()
        };
        self.tell_confirmed(&confirmed);
    }

    /// The wall clock is trusted from now on: a confirmation that was dated while it was not is dated anew, and none is
    /// later than now (H5). In memory: it is for [`Self::store_redated`] to wait for a disk.
    pub fn redate(&self, now: Now) {
        let mut inner = self.inner.lock();
        let utc_ms = match inner.doubted_uptime_ms.take() {
            Some(then) => now.utc_ms.saturating_sub_unsigned(now.uptime_ms.saturating_sub(then)),
            None => inner.confirmed.utc_ms.min(now.utc_ms),
        };
        inner.unstored |= utc_ms != inner.confirmed.utc_ms;
        inner.confirmed.utc_ms = utc_ms;
    }

    /// Stores what [`Self::redate`] has dated anew.
    pub fn store_redated(&self) {
        let confirmed = {
            let mut inner = self.inner.lock();
            std::mem::take(&mut inner.unstored).then(|| inner.confirmed.clone())
        };
        if let Some(confirmed) = confirmed {
            self.tell_confirmed(&confirmed);
        }
    }

    /// A word that is lost with the next start is only an earlier one, so it is no reason to refuse anything.
    fn tell_confirmed(&self, confirmed: &Confirmed) {
        if let Err(error) = self.store.keep_confirmed(confirmed) {
            tracing::warn!(
                error,
                "the confirmation of the publisher cannot be kept; after a restart the one before counts"
            );
        }
    }

    /// The disk, with the records that are held.
    pub fn files(&self) -> DiskAndRecords {
        let inner = self.inner.lock();
        DiskAndRecords {
            confirmed_at: DateTime::from_timestamp_millis(inner.confirmed.utc_ms),
            bundle: inner.held.clone(),
        }
    }

    /// When what is held was last confirmed.
    pub fn confirmed_at(&self) -> Option<DateTime<Utc>> {
        self.files().confirmed_at.filter(|at| *at > DateTime::UNIX_EPOCH)
    }
}

fn recall(store: &Store, settings: &Settings, inner: &mut Inner) -> Result<(), String> {
    // Also where the bundle is damaged: the last good records are as old as this (J7).
    inner.confirmed = store.confirmed().unwrap_or_default();
    let stored = store.ratchet()?;
    inner.ratchet = stored.ratchet.clone();
    let trust = trust(settings);
    if !settings.sync.is_on() {
        return Ok(());
    }
    let Some(envelope) = store.bundle(trust.limits.bundle_bytes)? else { return Ok(()) };
    let bundle = open(&envelope, &trust).map_err(|refusal| refusal.to_string())?;
    if !stored.knows(&bundle) {
        let what = format!("the stored bundle has serial {}, which is not the one taken last", bundle.serial);
        return Err(RefusalCode::Replayed.because(what).to_string());
    }
    // Without a word of the publisher that is about this bundle, its making is the last that is known of it.
    if inner.confirmed.sha256 != hex(&bundle.sha256) {
        let utc_ms = bundle.issued.timestamp_millis();
        inner.confirmed = Confirmed { utc_ms, ..Confirmed::default() };
    }
    inner.held = Some(Arc::new(bundle));
    Ok(())
}

/// True if a bundle is signed by a key that is trusted, for this installation: both may change by a reload.
fn fits(bundle: &Bundle, settings: &Settings) -> bool {
    settings.sync.public_keys.get(&bundle.key) == Some(&bundle.public_key)
        && settings.sync.installation == bundle.installation
}

/// The disk, and records beside it.
#[derive(Clone, Debug)]
pub struct DiskAndRecords {
    bundle: Option<Arc<Bundle>>,
    confirmed_at: Option<DateTime<Utc>>,
}

impl DiskAndRecords {
    /// With the records of a bundle that is confirmed now.
    pub fn with(bundle: &Arc<Bundle>, now: DateTime<Utc>) -> Self {
        DiskAndRecords { bundle: Some(Arc::clone(bundle)), confirmed_at: Some(now) }
    }
}

impl Files for DiskAndRecords {
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        Disk.read(path, bytes_max)
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        Disk.list(dir)
    }

    fn skipped(&self, dir: &Path) -> Vec<PathBuf> {
        Disk.skipped(dir)
    }

    fn synced(&self, settings: &Settings, _main: &Path) -> Result<Option<Synced>, String> {
        let of = |bundle: &Arc<Bundle>| match fits(bundle, settings) {
            true => Synced { texts: bundle.records.clone(), confirmed_at: self.confirmed_at },
            false => Synced::default(),
        };
        Ok(self.bundle.as_ref().map(of))
    }
}

/// The disk, and what an earlier run has stored: for a start, when only the files say where that is.
#[derive(Clone, Debug)]
pub struct DiskAndState<'a> {
    /// `$STATE_DIRECTORY`.
    pub from_systemd: Option<&'a str>,
}

impl Files for DiskAndState<'_> {
    fn read(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
        Disk.read(path, bytes_max)
    }

    fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        Disk.list(dir)
    }

    fn skipped(&self, dir: &Path) -> Vec<PathBuf> {
        Disk.skipped(dir)
    }

    fn synced(&self, settings: &Settings, main: &Path) -> Result<Option<Synced>, String> {
        let state = state_dir(&settings.server.state_dir, self.from_systemd, main);
        let (keeper, problem) = Keeper::recall(&state, settings);
        problem.map_or_else(|| keeper.files().synced(settings, main), Err)
    }
}

//! The history on disk: a log of the hour in progress, a file per hour for some days, one per day for months.
//!
//! An hour is written whole when it is over, from what its log holds too; a day from its hours. Files are replaced
//! wholly or not at all. What is damaged is set aside and told, and everything else is still read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::DateTime;
use parking_lot::Mutex;
use usherd_engine::Name;

use super::codec::{put_row, take_row};
use super::live::{HOUR_S, SLOT_S};
use super::slot::{Row, Slot};
use super::span::{Head, Span, SpanFile, put_part, take_part};
use crate::daemon::config::{self, replace_file};
use crate::daemon::varint::{Reader, put_varint};

/// How long a day is, seconds; days here are those of UTC.
pub const DAY_S: i64 = 86_400;
const DAY_SLOTS: usize = 24;
/// Longest log of an hour that is read, bytes.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Days for which the five minutes are kept.
    pub detail_days: u32,
    /// Days for which the hours are kept.
    pub days: u32,
    /// All files together, bytes; beyond, the oldest go, but nothing of the last day.
    pub bytes_max: u64,
}

impl Limits {
    /// As configured; a month is 31 days.
    pub fn of(history: &config::History) -> Self {
        Limits { detail_days: history.detail_days, days: history.months * 31, bytes_max: history.bytes_max }
    }
}

/// The state of the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// All files together.
    pub bytes: u64,
    /// From when on there are five minutes, and hours, seconds since 1970 UTC.
    pub detail_from_s: Option<i64>,
    /// As above.
    pub from_s: Option<i64>,
    /// The last problem, until all goes well again.
    pub problem: Option<String>,
}

/// The kind of a file of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Hour,
    Day,
    /// Of an hour in progress, with its number.
    Log(u64),
}

/// One file.
#[derive(Clone, Debug)]
struct Entry {
    start_s: i64,
    kind: Kind,
    bytes: u64,
}

/// The folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    status: Mutex<Status>,
}

impl Store {
    /// A folder, which is made with the first file.
    pub fn at(folder: PathBuf) -> Self {
        Store { folder, status: Mutex::default() }
    }

    /// The state, as of the last time anything was written.
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Takes in the logs of hours that were cut off, and gives back that of the hour of this instant to go on with.
    pub fn recover(&self, utc_s: i64, limits: Limits) -> Option<Span> {
        let mut present = None;
        for entry in self.list() {
            let Kind::Log(id) = entry.kind else { continue };
            let path = self.path(entry.start_s, entry.kind);
            let mut span = match read_log(&path, entry.start_s) {
                Ok(span) => span,
                Err(error) => {
                    self.set_aside(&path, &error);
                    continue;
                }
            };
            span.head.taken_in = id;
            if present.is_none() && utc_s >= entry.start_s && utc_s < entry.start_s + HOUR_S {
                present = Some(span);
            } else {
                self.note(self.finish_hour(&span));
            }
        }
        self.keep_house(utc_s, limits);
        present
    }

    /// Appends a closed slot to the log of its hour.
    ///
    /// # Errors
    /// Of the file system; the slot is in memory until the hour is over.
    pub fn append(&self, hour: &Head, slot: &Span) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (at, observed_ms) in (0..).zip(&slot.head.observed_ms).filter(|(_, ms)| **ms > 0) {
            bytes.push(at);
            put_varint(&mut bytes, *observed_ms);
        }
        bytes.push(u8::MAX);
        slot.rows.iter().for_each(|(tenant, row)| put_row(&mut bytes, tenant, row));
        let mut part = Vec::with_capacity(bytes.len() + 8);
        put_part(&mut part, &bytes);
        fs::create_dir_all(&self.folder)?;
        let path = self.path(hour.start_s, Kind::Log(hour.taken_in));
        OpenOptions::new().create(true).append(true).open(path)?.write_all(&part)
    }

    /// Writes an hour that is over, with what is there of it already, and removes its log.
    ///
    /// # Errors
    /// Of the file system; the log is still there then.
    pub fn finish_hour(&self, hour: &Span) -> io::Result<()> {
        let head = &hour.head;
        let path = self.path(head.start_s, Kind::Hour);
        match SpanFile::open(&path) {
            Ok(file) if file.head.taken_in == head.taken_in => {}
            Ok(file) => {
                // The clock was set back: this hour was there before.
                let mut whole = file.load()?;
                whole.add(hour);
                whole.head.taken_in = head.taken_in;
                self.replace(&path, &whole)?;
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    self.set_aside(&path, &error);
                }
                self.replace(&path, hour)?;
            }
        }
        match fs::remove_file(self.path(head.start_s, Kind::Log(head.taken_in))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes days of hours, and removes what is too old or too much.
    pub fn keep_house(&self, utc_s: i64, limits: Limits) {
        let today_s = utc_s - utc_s.rem_euclid(DAY_S);
        let entries = self.list();
        let mut days: Vec<i64> =
            entries.iter().filter(|entry| entry.kind == Kind::Hour).map(|entry| day_of(entry.start_s)).collect();
        days.dedup();
        let is_there = |day| entries.iter().any(|entry| entry.kind == Kind::Day && entry.start_s == day);
        for day in days.into_iter().filter(|day| *day < today_s && !is_there(*day)) {
            self.note(self.make_day(day));
        }
        let mut entries = self.list();
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        // Five minutes go before the hours of the same time do.
        entries.sort_by_key(|entry| (entry.kind == Kind::Day, entry.start_s));
        entries.retain(|entry| {
            let (kept_days, length_s) = match entry.kind {
                Kind::Hour => (limits.detail_days, HOUR_S),
                Kind::Day => (limits.days, DAY_S),
                Kind::Log(_) => return true,
            };
            let is_old = entry.start_s + length_s <= utc_s - i64::from(kept_days) * DAY_S;
            let is_much = bytes > limits.bytes_max && entry.start_s + length_s <= utc_s - DAY_S;
            if !is_old && !is_much {
                return true;
            }
            self.note(fs::remove_file(self.path(entry.start_s, entry.kind)));
            bytes -= entry.bytes;
            false
        });
        let first = |kinds: &[Kind]| {
            entries.iter().filter(|entry| kinds.contains(&entry.kind)).map(|entry| entry.start_s).min()
        };
        let mut status = self.status.lock();
        status.bytes = bytes;
        status.detail_from_s = first(&[Kind::Hour]);
        status.from_s = first(&[Kind::Hour, Kind::Day]);
    }

    /// Sees one tenant's row of every file that touches a time, from the finest there is down to `detail`: five
    /// minutes, or only hours. No stretch of time is seen twice. Hours with one of the numbers `except` were seen
    /// already.
    ///
    /// # Errors
    /// Of the file system.
    pub fn each(
        &self,
        tenant: &str,
        (from_s, to_s): (i64, i64),
        detail: bool,
        except: &[u64],
        mut see: impl FnMut(&Head, &Row),
    ) -> io::Result<()> {
        let entries = self.list();
        let days: Vec<i64> = match detail {
            true => Vec::new(),
            false => entries.iter().filter(|entry| entry.kind == Kind::Day).map(|entry| entry.start_s).collect(),
        };
        for entry in &entries {
            let length_s = match entry.kind {
                Kind::Hour if days.contains(&day_of(entry.start_s)) => continue,
                Kind::Hour => HOUR_S,
                Kind::Day if !detail => DAY_S,
                _ => continue,
            };
            if entry.start_s >= to_s || entry.start_s + length_s <= from_s {
                continue;
            }
            let path = self.path(entry.start_s, entry.kind);
            match SpanFile::open(&path).and_then(|file| Ok((file.row(tenant)?, file.head))) {
                Ok((_, head)) if except.contains(&head.taken_in) => {}
                Ok((row, head)) => see(&head, &row.unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => self.set_aside(&path, &error),
                // It was too old, meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sees every tenant's row of every hour on disk from an instant on.
    ///
    /// # Errors
    /// Of the file system.
    pub fn each_tenant(&self, from_s: i64, mut see: impl FnMut(&Name, &Head, &Row)) -> io::Result<()> {
        let hours = self.list().into_iter().filter(|entry| entry.kind == Kind::Hour);
        for entry in hours.filter(|entry| entry.start_s + HOUR_S > from_s) {
            let path = self.path(entry.start_s, entry.kind);
            match SpanFile::open(&path).and_then(|file| {
                let head = file.head.clone();
                file.each(|tenant, row| see(&tenant, &head, &row))
            }) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => self.set_aside(&path, &error),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Remembers what went wrong, or that it goes well.
    pub fn note(&self, result: io::Result<()>) {
        let problem = result.err().map(|error| format!("{}: {error}", self.folder.display()));
        let mut status = self.status.lock();
        if let Some(why) = problem.as_ref().filter(|_| status.problem != problem) {
            tracing::error!(why, "the usage history cannot be kept on disk; decisions are not concerned");
        }
        status.problem = problem;
    }

    fn make_day(&self, day_s: i64) -> io::Result<()> {
        let mut day = Span { head: Head::new(day_s, HOUR_S as u32, DAY_SLOTS), ..Span::default() };
        for at in 0..DAY_SLOTS as u8 {
            let path = self.path(day.head.slot_start_s(at), Kind::Hour);
            let file = match SpanFile::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.set_aside(&path, &error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            day.head.observed_ms[usize::from(at)] = file.head.observed_ms.iter().sum();
            file.each(|tenant, hour| {
                let row = day.rows.entry(tenant).or_default();
                if let Some(slot) = sum(&hour) {
                    row.put(at, &slot);
                }
                row.levels.add_all(&hour.levels);
            })?;
        }
        self.replace(&self.path(day_s, Kind::Day), &day)
    }

    fn replace(&self, path: &Path, span: &Span) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        replace_file(&self.folder, &name, &span.encode())
    }

    fn set_aside(&self, path: &Path, error: &io::Error) {
        let aside = path.with_extension("damaged");
        tracing::error!(file = %path.display(), %error, aside = %aside.display(), "a file of the usage history is damaged and set aside");
        self.note(fs::rename(path, &aside));
    }

    fn path(&self, start_s: i64, kind: Kind) -> PathBuf {
        let at = DateTime::from_timestamp(start_s, 0).unwrap_or_default();
        self.folder.join(match kind {
            Kind::Hour => at.format("hour-%Y-%m-%dT%H").to_string(),
            Kind::Day => at.format("day-%Y-%m-%d").to_string(),
            Kind::Log(id) => format!("log-{}-{id:016x}", at.format("%Y-%m-%dT%H")),
        })
    }

    /// Every file of the history, the oldest first.
    fn list(&self) -> Vec<Entry> {
        let Ok(folder) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut entries: Vec<Entry> = folder
            .flatten()
            .filter_map(|file| {
                let (start_s, kind) = parse(file.file_name().to_str()?)?;
                Some(Entry { start_s, kind, bytes: file.metadata().map_or(0, |metadata| metadata.len()) })
            })
            .collect();
        entries.sort_by_key(|entry| (entry.start_s, entry.kind));
        entries
    }
}

/// When the day of an instant begins.
fn day_of(utc_s: i64) -> i64 {
    utc_s - utc_s.rem_euclid(DAY_S)
}

fn parse(name: &str) -> Option<(i64, Kind)> {
    let (kind, rest) = name.split_once('-')?;
    let instant = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp());
    match kind {
        "hour" => Some((instant(&format!("{rest}:00:00Z"))?, Kind::Hour)),
        "day" => Some((instant(&format!("{rest}T00:00:00Z"))?, Kind::Day)),
        "log" => {
            let (at, id) = rest.rsplit_once('-')?;
            Some((instant(&format!("{at}:00:00Z"))?, Kind::Log(u64::from_str_radix(id, 16).ok()?)))
        }
        _ => None,
    }
}

/// All slots of a row in one.
fn sum(row: &Row) -> Option<Slot> {
    let mut slots = row.slots.iter().map(|(_, slot)| *slot);
    let first = slots.next()?;
    Some(slots.fold(first, |mut sum, slot| {
        sum.add(&slot);
        sum
    }))
}

/// The slots of a log, up to where it is cut off.
fn read_log(path: &Path, start_s: i64) -> io::Result<Span> {
    let bytes = match fs::metadata(path)?.len() {
        length if length <= LOG_BYTES_MAX => fs::read(path)?,
        length => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes are too many"))),
    };
    let mut span = Span { head: Head::new(start_s, SLOT_S, 12), ..Span::default() };
    let mut reader = Reader { bytes: &bytes };
    while let Some(part) = take_part(&mut reader) {
        let slot = take_slot(part, &span.head)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a slot makes no sense"))?;
        span.add(&slot);
    }
    if !reader.bytes.is_empty() {
        tracing::warn!(file = %path.display(), bytes = reader.bytes.len(), "an interrupted write at the end of a log of the usage history was left out");
    }
    Ok(span)
}

fn take_slot(part: &[u8], hour: &Head) -> Option<Span> {
    let mut slot = Span { head: hour.clone(), ..Span::default() };
    slot.head.observed_ms.fill(0);
    let mut reader = Reader { bytes: part };
    loop {
        match reader.byte()? {
            u8::MAX => break,
            at => *slot.head.observed_ms.get_mut(usize::from(at))? = reader.varint()?,
        }
    }
    while !reader.bytes.is_empty() {
        let (tenant, row) = take_row(&mut reader)?;
        slot.rows.insert(tenant, row);
    }
    Some(slot)
}

/// A job of the writer; jobs are done one after the other.
#[derive(Debug)]
pub enum Job {
    /// A slot was closed.
    Slot(Head, Span),
    /// An hour is over.
    Hour(Arc<Span>),
}

//! A disk that keeps what was not synced apart, loses it in every way there is, and fails when told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::{Condvar, Mutex};
use usherd::daemon::journal::ring::Memory;
use usherd::daemon::journal::storage::{Listed, Storage};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// Nobody takes longer to come to the disk.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Eio,
    Enospc,
    /// Half of a write; of other calls EIO.
    Short,
}

impl Fault {
    pub(crate) const ALL: [Fault; 3] = [Fault::Eio, Fault::Enospc, Fault::Short];

    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(if self == Fault::Enospc { ENOSPC } else { EIO })
    }
}

/// The part of unsynced data that a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// `kill -9`: everything written stays.
    Kill,
    /// Power: nothing stays that was not synced.
    All,
    /// Power: of each file a part from the front, torn within a write; of names a part from the front.
    Prefix,
    /// Power: any of the writes and names, in place or as zeros.
    Subset,
    /// Power: any of them, with garbled bytes in some.
    Garbled,
}

impl Loss {
    pub(crate) const ALL: [Loss; 5] = [Loss::Kill, Loss::All, Loss::Prefix, Loss::Subset, Loss::Garbled];
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Vec<u8>>,
}

impl Inode {
    fn all(&self) -> Vec<u8> {
        let mut all = self.durable.clone();
        self.pending.iter().for_each(|write| all.extend_from_slice(write));
        all
    }
}

#[derive(Clone, Debug)]
enum NameOp {
    Set(String, usize),
    Move(String, String, usize),
    Remove(String),
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameOp::Set(name, inode) => drop(names.insert(name.clone(), *inode)),
            NameOp::Move(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameOp::Remove(name) => drop(names.remove(name)),
        }
    }
}

/// The contents of the disk at one moment, and what the workload had been told by then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameOp>,
    pub(crate) acked: usize,
    pub(crate) issued: usize,
    /// Memory that outlives the process.
    ring: Vec<u8>,
}

impl Image {
    /// The contents of the disk that a restarted daemon finds.
    pub(crate) fn after(&self, loss: Loss, rng: &mut Rng) -> Image {
        let mut image = self.clone();
        for inode in &mut image.inodes {
            let pending = std::mem::take(&mut inode.pending);
            lose(&mut inode.durable, &pending, loss, rng);
        }
        let ops = std::mem::take(&mut image.pending_names);
        let kept_prefix = rng.usize(0..=ops.len());
        for (at, op) in ops.iter().enumerate() {
            let keep = match loss {
                Loss::Kill => true,
                Loss::All => false,
                Loss::Prefix => at < kept_prefix,
                Loss::Subset | Loss::Garbled => rng.bool(),
            };
            if keep {
                op.apply(&mut image.durable_names);
            }
        }
        image.names = image.durable_names.clone();
        if loss != Loss::Kill {
            image.ring.clear();
        }
        image
    }

    /// These files, and the memory of this one.
    pub(crate) fn with_files_of(&self, other: &Image) -> Image {
        Image { ring: self.ring.clone(), ..other.clone() }
    }

    pub(crate) fn ring_bytes(&self) -> usize {
        self.ring.len()
    }

    pub(crate) fn with_flipped_bit(&self, bit: usize) -> Image {
        let mut image = self.clone();
        image.ring[bit / 8] ^= 1 << (bit % 8);
        image
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.inodes[self.names[name]].all()
    }

    pub(crate) fn put(&mut self, name: &str, bytes: Vec<u8>) {
        self.inodes.push(Inode { durable: bytes, pending: Vec::new() });
        let inode = self.inodes.len() - 1;
        self.names.insert(name.to_owned(), inode);
        self.durable_names.insert(name.to_owned(), inode);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names.remove(name);
    }
}

fn lose(durable: &mut Vec<u8>, pending: &[Vec<u8>], loss: Loss, rng: &mut Rng) {
    match loss {
        Loss::Kill => pending.iter().for_each(|write| durable.extend_from_slice(write)),
        Loss::All => {}
        Loss::Prefix => {
            let kept = rng.usize(0..=pending.len());
            pending[..kept].iter().for_each(|write| durable.extend_from_slice(write));
            if let Some(torn) = pending.get(kept) {
                durable.extend_from_slice(&torn[..rng.usize(0..=torn.len())]);
            }
        }
        Loss::Subset | Loss::Garbled => {
            let (start, mut end) = (durable.len(), durable.len());
            for write in pending {
                // A write goes to disk in sectors, each of them or not.
                let sector = if rng.bool() { write.len().max(1) } else { 16 };
                for part in write.chunks(sector) {
                    let kept = rng.bool();
                    durable.extend(part.iter().map(|byte| if kept { *byte } else { 0 }));
                    end = if kept { durable.len() } else { end };
                }
            }
            if rng.bool() {
                durable.truncate(end);
            }
            if loss == Loss::Garbled && durable.len() > start {
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(start..durable.len());
                    durable[at] = rng.u8(..);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    image: Image,
    locked: bool,
    calls: u64,
    writes: u64,
    syncs: u64,
    fault: Option<(u64, Fault, bool)>,
    filming: bool,
    film: Vec<Image>,
}

/// True if calls are held up, and how many stand before it.
#[derive(Debug, Default)]
struct Freeze {
    is_on: bool,
    standing: usize,
}

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    inner: Arc<Mutex<Inner>>,
    /// While set, a sync waits.
    gate: Arc<(Mutex<bool>, Condvar)>,
    /// While it is frozen, whatever changes the disk waits.
    freeze: Arc<(Mutex<Freeze>, Condvar)>,
    /// Says that it synced and did not: a canary.
    pub(crate) lies: bool,
}

impl Disk {
    pub(crate) fn new(lies: bool) -> Self {
        Disk { lies, ..Disk::default() }
    }

    pub(crate) fn of(image: Image) -> Self {
        let inner = Inner { image, ..Inner::default() };
        Disk { inner: Arc::new(Mutex::new(inner)), ..Disk::default() }
    }

    /// Keeps an image before and after every call from now on.
    pub(crate) fn film(&self) {
        self.inner.lock().filming = true;
    }

    pub(crate) fn take_film(&self) -> Vec<Image> {
        let mut inner = self.inner.lock();
        inner.filming = false;
        let last = inner.image.clone();
        inner.film.push(last);
        std::mem::take(&mut inner.film)
    }

    pub(crate) fn image(&self) -> Image {
        self.inner.lock().image.clone()
    }

    pub(crate) fn told(&self, acked: usize, issued: usize) {
        let mut inner = self.inner.lock();
        inner.image.acked = acked;
        inner.image.issued = issued;
    }

    pub(crate) fn calls(&self) -> u64 {
        self.inner.lock().calls
    }

    pub(crate) fn writes(&self) -> u64 {
        self.inner.lock().writes
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.inner.lock().syncs
    }

    /// Fails call number `at`, counted from now, and with `lasting` all after it.
    pub(crate) fn fail(&self, at: u64, fault: Fault, lasting: bool) {
        let mut inner = self.inner.lock();
        inner.fault = Some((inner.calls + at, fault, lasting));
    }

    pub(crate) fn works_again(&self) {
        self.inner.lock().fault = None;
    }

    /// Freezes it, or thaws it.
    pub(crate) fn hold_calls(&self, hold: bool) {
        self.freeze.0.lock().is_on = hold;
        self.freeze.1.notify_all();
    }

    /// Waits until somebody stands before the frozen disk.
    pub(crate) fn until_somebody_stands(&self) {
        let mut freeze = self.freeze.0.lock();
        while freeze.standing == 0 {
            assert!(!self.freeze.1.wait_for(&mut freeze, PATIENCE).timed_out(), "nobody came to the disk");
        }
    }

    /// Memory beside the disk, which no fault of the disk concerns.
    pub(crate) fn memory(&self) -> Beside {
        Beside(self.clone())
    }

    pub(crate) fn hold_syncs(&self, hold: bool) {
        *self.gate.0.lock() = hold;
        self.gate.1.notify_all();
    }

    fn call<R>(&self, act: impl FnOnce(&mut Inner, Option<Fault>) -> io::Result<R>) -> io::Result<R> {
        let mut freeze = self.freeze.0.lock();
        if freeze.is_on {
            freeze.standing += 1;
            self.freeze.1.notify_all();
            while freeze.is_on {
                self.freeze.1.wait(&mut freeze);
            }
            freeze.standing -= 1;
        }
        drop(freeze);
        let mut inner = self.inner.lock();
        inner.calls += 1;
        if inner.filming {
            let before = inner.image.clone();
            inner.film.push(before);
        }
        let calls = inner.calls;
        let fault = inner.fault.filter(|(at, _, lasting)| *at == calls || (*lasting && calls > *at)).map(|f| f.1);
        act(&mut inner, fault)
    }

    fn plain<R>(&self, act: impl FnOnce(&mut Inner) -> io::Result<R>) -> io::Result<R> {
        self.call(|inner, fault| fault.map_or_else(|| act(inner), |fault| Err(fault.error())))
    }
}

/// The memory beside a [`Disk`]: filmed with it, and there after a kill only.
pub(crate) struct Beside(Disk);

impl Beside {
    fn put(image: &mut Image, bytes: &[u8], at: usize) {
        if image.ring.len() < at + bytes.len() {
            image.ring.resize(at + bytes.len(), 0);
        }
        image.ring[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Memory for Beside {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut inner = self.0.inner.lock();
        let at = usize::try_from(at).unwrap();
        if inner.filming {
            // A kill may come in the middle of it.
            let mut half = inner.image.clone();
            inner.film.push(half.clone());
            Self::put(&mut half, &bytes[..bytes.len() / 2], at);
            inner.film.push(half);
        }
        Self::put(&mut inner.image, bytes, at);
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let ring = &self.0.inner.lock().image.ring;
        let at = usize::try_from(at).unwrap();
        bytes.fill(0);
        let there = ring.get(at..).unwrap_or_default();
        let length = there.len().min(bytes.len());
        bytes[..length].copy_from_slice(&there[..length]);
        Ok(())
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

pub(crate) struct Held(Disk);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.inner.lock().locked = false;
    }
}

impl Storage for Disk {
    type File = usize;
    type Lock = Held;

    fn lock(&self) -> io::Result<Held> {
        self.plain(|inner| match std::mem::replace(&mut inner.locked, true) {
            true => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            false => Ok(()),
        })?;
        Ok(Held(self.clone()))
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        self.plain(|inner| {
            let image = &mut inner.image;
            if image.names.contains_key(name) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            image.inodes.push(Inode::default());
            let op = NameOp::Set(name.to_owned(), image.inodes.len() - 1);
            op.apply(&mut image.names);
            image.pending_names.push(op);
            Ok(image.inodes.len() - 1)
        })
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.plain(|inner| inner.image.names.get(name).copied().ok_or_else(missing))
    }

    fn append(&self, file: &usize, bytes: &[u8]) -> io::Result<usize> {
        self.call(|inner, fault| {
            inner.writes += 1;
            let taken = match fault {
                None => bytes.len(),
                Some(Fault::Short) => bytes.len() / 2,
                Some(fault) => return Err(fault.error()),
            };
            inner.image.inodes[*file].pending.push(bytes[..taken].to_vec());
            Ok(taken)
        })
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let mut held = self.gate.0.lock();
        while *held {
            self.gate.1.wait(&mut held);
        }
        drop(held);
        let lies = self.lies;
        self.plain(|inner| {
            inner.syncs += 1;
            let inode = &mut inner.image.inodes[*file];
            if !lies {
                inode.durable = inode.all();
                inode.pending.clear();
            }
            Ok(())
        })
    }

    fn read(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.plain(|inner| {
            let inode = inner.image.names.get(name).copied().ok_or_else(missing)?;
            let mut bytes = inner.image.inodes[inode].all();
            bytes.truncate(usize::try_from(bytes_max).unwrap_or(usize::MAX));
            Ok(bytes)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plain(|inner| {
            let inode = inner.image.names.get(from).copied().ok_or_else(missing)?;
            let op = NameOp::Move(from.to_owned(), to.to_owned(), inode);
            op.apply(&mut inner.image.names);
            inner.image.pending_names.push(op);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plain(|inner| {
            let op = NameOp::Remove(name.to_owned());
            op.apply(&mut inner.image.names);
            inner.image.pending_names.push(op);
            Ok(())
        })
    }

    fn list(&self) -> io::Result<Vec<Listed>> {
        self.plain(|inner| {
            let image = &inner.image;
            let listed = |(name, inode): (&String, &usize)| Listed {
                name: name.clone(),
                bytes: image.inodes[*inode].all().len() as u64,
            };
            Ok(image.names.iter().map(listed).collect())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.plain(|inner| {
            inner.image.durable_names = inner.image.names.clone();
            inner.image.pending_names.clear();
            Ok(())
        })
    }
}

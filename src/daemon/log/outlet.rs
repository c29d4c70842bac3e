//! Lines on their way to the standard error stream: who logs never waits for who reads.
//!
//! The stream may be a pipe that nobody reads, or a journal whose disk hangs. One thread writes; what it cannot take in
//! time is counted and left out, and it says so once it goes on.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES_MAX: usize = 8_192;
/// Their length together, bytes.
const BYTES_MAX: usize = 8 << 20;

enum Item {
    Line(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// Where lines are left for the thread that writes them; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    items: SyncSender<Item>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    left_out: AtomicU64,
}

impl Outlet {
    /// Starts the thread that writes to this.
    ///
    /// # Errors
    /// There can be no further thread.
    pub(super) fn to(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (items, work) = sync_channel(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let of_thread = Arc::clone(&counts);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&work, &of_thread, output))?;
        Ok(Outlet { items, counts })
    }

    /// Returns once everything is written that was said so far, or after `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, ended) = sync_channel(1);
        if self.items.try_send(Item::Flush(done)).is_ok() {
            let _: Result<(), RecvTimeoutError> = ended.recv_timeout(patience);
        }
    }

    fn leave(&self, line: &[u8]) {
        let bytes = self.counts.bytes.fetch_add(line.len(), Ordering::Relaxed) + line.len();
        let left = if bytes > BYTES_MAX { None } else { Some(self.items.try_send(Item::Line(line.to_vec()))) };
        if !matches!(left, Some(Ok(()))) {
            self.counts.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.counts.left_out.fetch_add(1, Ordering::Relaxed);
        }
        debug_assert!(!matches!(left, Some(Err(TrySendError::Disconnected(_)))), "the thread ends with the process");
    }
}

fn write(work: &Receiver<Item>, counts: &Counts, mut output: impl Write) {
    while let Ok(item) = work.recv() {
        match item {
            Item::Line(line) => {
                // There is nowhere to say that the log cannot be written.
                let _ = output.write_all(&line);
                counts.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Item::Flush(done) => {
                let _ = output.flush();
                let _ = done.try_send(());
            }
        }
        let left_out = counts.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            tracing::warn!(left_out, "lines of the log were left out: nobody read them in time");
        }
    }
}

/// One event's line.
pub(super) struct Line<'a>(&'a Outlet);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.leave(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_logs_never_waits_for_a_pipe_that_nobody_reads() {
        let (mut reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::to(writer).unwrap();
        let line = [b'x'; 1_024];
        // More than the pipe and the queue take together.
        for _ in 0..2 * LINES_MAX {
            outlet.make_writer().write_all(&line).unwrap();
        }
        assert!(outlet.counts.left_out.load(Ordering::Relaxed) > 0);
        assert!(outlet.counts.bytes.load(Ordering::Relaxed) <= BYTES_MAX);
        let reading = std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            let mut all = 0;
            while let Ok(read @ 1..) = io::Read::read(&mut reader, &mut bytes) {
                all += read;
                if bytes[..read].ends_with(b"last") {
                    break;
                }
            }
            all
        });
        while outlet.counts.bytes.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        outlet.make_writer().write_all(b"last").unwrap();
        outlet.flush(Duration::from_secs(60));
        assert!(reading.join().unwrap() > LINES_MAX * 1_024 / 2);
    }
}

//! The messages to the service manager: ready, reloading, stopping, alive, and one line for `systemctl status`.
//!
//! Without a service manager (no `NOTIFY_SOCKET`) every call does nothing and succeeds.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

/// Longest status line that is sent, in bytes.
const STATUS_BYTES_MAX: usize = 256;

/// Recovery is done and the sockets are served; also ends [`reloading`].
///
/// # Errors
/// The service manager's socket cannot be written to.
pub fn ready(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))])
}

/// A reload has begun at this reading of `CLOCK_MONOTONIC`, microseconds; call [`ready`] when it is over,
/// also where it failed: the old configuration is in force then.
///
/// # Errors
/// As [`ready`].
pub fn reloading(monotonic_us: u64, status: &str) -> io::Result<()> {
    sd_notify::notify(&[
        NotifyState::Reloading,
        NotifyState::MonotonicUsec(i128::from(monotonic_us)),
        NotifyState::Status(&one_line(status)),
    ])
}

/// One line for `systemctl status`, cut at 256 bytes.
///
/// # Errors
/// As [`ready`].
pub fn status(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Status(&one_line(status))])
}

/// No further connections are taken, what has begun is finished.
///
/// # Errors
/// As [`ready`].
pub fn stopping(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))])
}

/// A request of its own has just gone through listener, table and journal.
///
/// # Errors
/// As [`ready`].
pub fn alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

/// How often [`alive`] is due: half of what the service manager waits; `None` where it does not watch.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2).filter(|interval| !interval.is_zero())
}

/// Waits until [`alive`] is due; for ever where nobody watches.
pub async fn due(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => std::future::pending().await,
    }
}

/// A status may name a file or a tenant: it must not be able to add an assignment of its own.
fn one_line(status: &str) -> String {
    let mut line = String::with_capacity(status.len().min(STATUS_BYTES_MAX));
    for c in status.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > STATUS_BYTES_MAX {
            break;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// Runs one of the tests below in a process of its own, because only that may have another environment.
    fn in_child(test: &str, variables: &[(&str, &str)]) {
        let name = format!("daemon::runtime::notify::tests::{test}");
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name.as_str(), "--nocapture"]).env("USHERD_TEST_CHILD", "1");
        child.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        child.envs(variables.iter().copied());
        let output = child.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn is_child() -> bool {
        std::env::var_os("USHERD_TEST_CHILD").is_some()
    }

    #[test]
    fn child_tells_its_life() {
        if !is_child() {
            return;
        }
        ready("12 tenants, 0 sessions").unwrap();
        reloading(1_234_567, "reads tenants.d").unwrap();
        status("tenant `a`\nREADY=0").unwrap();
        alive().unwrap();
        stopping("drains").unwrap();
    }

    #[test]
    fn child_is_watched() {
        if is_child() {
            assert_eq!(watchdog_interval(), Some(Duration::from_secs(10)));
        }
    }

    #[test]
    fn child_is_alone() {
        if is_child() {
            assert_eq!(watchdog_interval(), None);
            ready("nobody listens").unwrap();
        }
    }

    #[test]
    fn the_service_manager_hears_every_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        in_child("child_tells_its_life", &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        let mut buffer = [0; 1_024];
        let mut next = || {
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(next(), "READY=1\nSTATUS=12 tenants, 0 sessions\n");
        assert_eq!(next(), "RELOADING=1\nMONOTONIC_USEC=1234567\nSTATUS=reads tenants.d\n");
        assert_eq!(next(), "STATUS=tenant `a` READY=0\n", "a name must not end the line and go on as a message");
        assert_eq!(next(), "WATCHDOG=1\n");
        assert_eq!(next(), "STOPPING=1\nSTATUS=drains\n");
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_bites() {
        in_child("child_is_watched", &[("WATCHDOG_USEC", "20000000")]);
    }

    #[test]
    fn without_a_service_manager_nothing_is_told_and_nothing_fails() {
        in_child("child_is_alone", &[("WATCHDOG_USEC", "20000000"), ("WATCHDOG_PID", "1")]);
    }

    #[test]
    fn a_long_status_is_cut_between_characters() {
        assert_eq!(one_line(&"ü".repeat(200)).len(), 256);
        assert_eq!(one_line(&format!("a{}", "ü".repeat(200))).len(), 255);
    }
}

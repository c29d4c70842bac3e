//! Keeps one source connected: connects, feeds its machine, and tries again with growing pauses.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::source::{Act, Machine, Report};

/// Longest that connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// First pause before another try; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause before another try.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Most bytes read at once.
const READ_BYTES_MAX: usize = 64 * 1024;

/// The address and the intervals of a source.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// `host:port`.
    pub address: String,
    /// The interval at which everything is listed.
    pub list_every: Duration,
    /// Longest silence: half of it brings a question, all of it ends the connection.
    pub silence_max: Duration,
}

/// Keeps a source connected for ever; `new_machine` begins a machine for each connection, `report_to` takes what it
/// reports.
pub async fn supervise(
    options: &SourceOptions,
    new_machine: impl Fn() -> Box<dyn Machine>,
    mut report_to: impl FnMut(Report),
) {
    let mut pause = PAUSE_MIN;
    let mut last_why = String::new();
    loop {
        let mut was_ready = false;
        let why = match timeout(CONNECT_DEADLINE, TcpStream::connect(&options.address)).await {
            Err(_) => "no connection within 3 s".to_owned(),
            Ok(Err(error)) => format!("no connection: {error}"),
            Ok(Ok(stream)) => {
                let mut report_seen = |report: Report| {
                    was_ready |= report == Report::Ready;
                    report_to(report);
                };
                converse(options, stream, new_machine(), &mut report_seen).await
            }
        };
        report_to(Report::Lost);
        if was_ready {
            pause = PAUSE_MIN;
        }
        // A repeated reason is logged once.
        if why != last_why || was_ready {
            warn!(
                source = options.name,
                address = options.address,
                why,
                "the PBX cannot be asked; what it carries stays as it is"
            );
            last_why = why;
        }
        // Half of it is random: agents that lost the same PBX come back one by one.
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Serves one connection until it ends, and returns the reason.
async fn converse(
    options: &SourceOptions,
    mut stream: TcpStream,
    mut machine: Box<dyn Machine>,
    report_to: &mut impl FnMut(Report),
) -> String {
    let mut bytes = Vec::with_capacity(READ_BYTES_MAX);
    let mut acts = Vec::new();
    let mut cut = 0;
    let mut heard = Instant::now();
    let mut probed = false;
    let mut list_at = heard + options.list_every;
    machine.opened(&mut acts);
    loop {
        let mut is_ready = false;
        for act in acts.drain(..) {
            match act {
                Act::Tell(report) => {
                    is_ready |= report == Report::Ready;
                    report_to(report);
                }
                Act::Send(message) => match timeout(options.silence_max, stream.write_all(&message)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return format!("the connection broke: {error}"),
                    Err(_) => return "it does not read what is sent to it".to_owned(),
                },
                Act::Close(why) => return why,
            }
        }
        if is_ready {
            info!(source = options.name, address = options.address, "the PBX is connected");
            machine.list(&mut acts);
            list_at = Instant::now() + options.list_every;
            continue;
        }
        let quiet_at = heard + if probed { options.silence_max } else { options.silence_max / 2 };
        tokio::select! {
            read = stream.read_buf(&mut bytes) => {
                match read {
                    Ok(0) => return "it ended the connection".to_owned(),
                    Err(error) => return format!("the connection broke: {error}"),
                    Ok(_) => {}
                }
                (heard, probed) = (Instant::now(), false);
                machine.feed(&bytes, &mut acts);
                bytes.clear();
                if machine.cut() > cut {
                    // Once a connection: the same message may come with every listing.
                    if cut == 0 {
                        warn!(source = options.name, "messages longer than the limits are cut");
                    }
                    cut = machine.cut();
                    debug!(source = options.name, cut, "messages that were cut so far");
                }
            }
            () = sleep_until(list_at) => {
                machine.list(&mut acts);
                list_at = Instant::now() + options.list_every;
            }
            () = sleep_until(quiet_at) => {
                if probed {
                    return format!("it said nothing for {} s", options.silence_max.as_secs());
                }
                probed = true;
                machine.probe(&mut acts);
            }
        }
    }
}

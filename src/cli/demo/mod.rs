//! `demo`: a daemon on loopback with a simulated office day, or with as many tenants as one likes; or a cluster of three.

mod cluster;
mod figures;
mod fleet;
mod folder;
mod gateway;
mod narrate;
mod office;
mod play;
mod scale;
mod start;
mod terminal;

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{Datelike as _, Days, NaiveDate, Weekday};
use tokio::runtime::Runtime;

use figures::hours;
use folder::Folder;
use office::{CLOSES_S, OPENS_S, SEED, TENANT};
use play::{Play, Stage, utc_ms};
use start::{Stop, free, start};
use terminal::{Terminal, Tone};
use usherd_subscription::civil::civil;

use super::failure::{Failure, OK};
use super::instant::wall_clock;
use super::screen::Screen;
use crate::daemon::clock::{Clock, HurriedClock};
use crate::daemon::config::Settings;

/// `usherd demo`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Where to listen: an address of this machine itself, port 0 for a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7788", value_parser = loopback)]
    listen: SocketAddr,
    /// How many times as fast as real time a day of the office passes
    #[arg(long, value_name = "TIMES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    speed: u32,
    /// The seed of the day: the same number gives the same day
    #[arg(long, value_name = "NUMBER", default_value_t = SEED)]
    seed: u64,
    /// Begin the day at this time; what began before runs already
    #[arg(long, value_name = "HH:MM", default_value = "07:45", value_parser = time_of_day)]
    from: u32,
    /// Stop at this time of the first day [default: go on, day after day]
    #[arg(long, value_name = "HH:MM", value_parser = time_of_day)]
    until: Option<u32>,
    /// A new or empty folder for the files, which is kept [default: a temporary one, which is removed]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Instead of the office: this many tenants, and a load on them
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["speed", "seed", "from", "until"],
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tenants: Option<u32>,
    /// With --tenants: live sessions in all, at most 2000000 [default: ten for each tenant]
    #[arg(long, value_name = "NUMBER", requires = "tenants", value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    sessions: Option<u32>,
    /// Instead of the office: three daemons over three etcds, of which one is killed; ends by itself
    #[arg(long, conflicts_with_all = ["speed", "seed", "from", "until", "tenants"])]
    cluster: bool,
}

/// Nobody shows a credential here, so nobody else may reach it.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "write an IP address and a port, as in 127.0.0.1:7788".to_owned())?;
    let why = "a demonstration asks for no credentials, so it listens on this machine only: 127.0.0.1 or [::1]";
    if address.ip().is_loopback() { Ok(address) } else { Err(why.to_owned()) }
}

/// Seconds after midnight.
fn time_of_day(text: &str) -> Result<u32, String> {
    let parsed = text.split_once(':').and_then(|(hour, minute)| Some((hour.parse().ok()?, minute.parse().ok()?)));
    let at_s = parsed
        .filter(|(_, minute)| *minute < 60)
        .map(|(hour, minute): (u32, u32)| hour.saturating_mul(3_600) + minute * 60);
    let range = OPENS_S..=CLOSES_S;
    at_s.filter(|at_s| range.contains(at_s))
        .ok_or_else(|| format!("write a time from {} to {}", hours(OPENS_S), hours(CLOSES_S)))
}

/// Runs a demonstration until SIGINT or SIGTERM, or until its end.
///
/// # Errors
/// The port is taken, the folder cannot be used, or the daemon cannot start.
pub(super) fn demo(arguments: &DemoArgs, config: Option<&Path>, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    if config.is_some() {
        let failure = Failure::usage("a demonstration writes its own configuration");
        return Err(
            failure.fix("--dir says where, so that you can look at it and change it; `usherd serve` takes yours")
        );
    }
    if arguments.until.is_some_and(|until_s| until_s <= arguments.from) {
        return Err(Failure::usage("--until is not after --from"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no event loop can be made: {error}")))?;
    // Before the folder is there: whatever ends the demonstration from here on removes it.
    let stop = Stop::new(&runtime)?;
    let listen = free(arguments.listen)?;
    let folder = Folder::new(arguments.dir.as_deref())?;
    let colour = screen.colour;
    let terminal = Terminal::new(screen.bytes(), io::stdout().is_terminal(), colour);
    match arguments.tenants {
        None if arguments.cluster => cluster::run(listen, &folder, &runtime, stop, terminal)?,
        Some(tenants) => {
            let sessions = arguments.sessions.unwrap_or(tenants.saturating_mul(10)).min(2_000_000);
            scale::run(&scale::Wanted { tenants, sessions, listen }, &folder, &runtime, stop, terminal)?;
        }
        None => run_office(arguments, listen, &folder, &runtime, stop, terminal)?,
    }
    Ok(OK)
}

/// The date itself, or the Monday after it.
fn working_day(date: NaiveDate) -> NaiveDate {
    let days = match date.weekday() {
        Weekday::Sat => 2,
        Weekday::Sun => 1,
        _ => 0,
    };
    date.checked_add_days(Days::new(days)).unwrap_or(date)
}

fn run_office(
    arguments: &DemoArgs,
    listen: SocketAddr,
    folder: &Folder,
    runtime: &Runtime,
    mut stop: Stop,
    terminal: Terminal<'_>,
) -> Result<(), Failure> {
    let date = working_day(civil(Settings::default().time_zone.0, wall_clock()).date());
    Folder::write(&folder.main(), &folder::office_main(listen, arguments.speed))?;
    Folder::write(&folder.tenant(TENANT), &folder::office_record(date))?;
    // It stands until everybody is there.
    let clock = Arc::new(HurriedClock::start(utc_ms(date, arguments.from), 0));
    let daemon = start(folder, Arc::clone(&clock) as Arc<dyn Clock>)?;
    let mut play = Play::new(Stage {
        clock: Arc::clone(&clock),
        deciding: Arc::clone(&daemon.app().deciding),
        address: listen,
        terminal,
        seed: arguments.seed,
        speed: arguments.speed,
        raise: folder::raise(folder, listen),
        date,
    });
    greet(play.terminal(), listen, folder, arguments.speed)?;
    clock.set_speed(arguments.speed);
    let played = days(arguments, &mut play, runtime, &mut stop);
    // First the phone systems, then what they talk to.
    drop(play);
    drop(daemon);
    played
}

/// Day after day until it is to end, or as much of the first as was asked for.
fn days(arguments: &DemoArgs, play: &mut Play<'_>, runtime: &Runtime, stop: &mut Stop) -> Result<(), Failure> {
    let mut from_s = arguments.from;
    for number in 0.. {
        let day = play.day(number, from_s, arguments.until.unwrap_or(CLOSES_S));
        let is_over = runtime.block_on(stop.unless_asked(day))?;
        play.figures()?;
        if !is_over {
            return play.stopped();
        }
        runtime.block_on(play.close());
        if arguments.until.is_some() {
            break;
        }
        let next = working_day(play.date().succ_opt().unwrap_or_default());
        if !runtime.block_on(stop.unless_asked(play.night(next, OPENS_S)))? {
            return play.stopped();
        }
        from_s = OPENS_S;
    }
    Ok(())
}

/// Prints an introduction: the purpose of the demonstration, and where to look.
fn greet(terminal: &mut Terminal<'_>, listen: SocketAddr, folder: &Folder, speed: u32) -> Result<(), Failure> {
    let program = folder::program();
    let goes = if folder.is_temporary() { "; they are removed when the demo ends" } else { "" };
    let ask = "tenant=office-lindenhof&subject=you&session=y1&kind=call&direction=outbound&ttl_s=600";
    terminal.say("", Tone::Plain, "")?;
    for line in [
        "usherd demo: an office of 30 people with 16 seats, and a working day of it".to_owned(),
        format!("that passes {speed} times as fast as yours."),
        String::new(),
        "A seat is one concurrent-user licence. A person needs one, and never more than".to_owned(),
        "one, while a desktop client is open, a mobile is paired, or a call that person".to_owned(),
        "started is running. Inbound calls never need one and are never refused.".to_owned(),
        String::new(),
        format!("  dashboard   http://{listen}/"),
        format!("  live view   {program} top --addr {listen}"),
        format!("  by hand     curl -s http://{listen}/v1/acquire \\"),
        format!("                -d '{ask}'"),
        format!("  files       {}{goes}", folder::quoted(folder.path())),
        "  stop        Ctrl-C".to_owned(),
        String::new(),
    ] {
        terminal.line(Tone::Plain, &line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_be_listened_on() {
        for (text, good) in [
            ("127.0.0.1:7788", true),
            ("[::1]:0", true),
            ("127.8.9.1:1", true),
            ("0.0.0.0:7788", false),
            ("localhost:7788", false),
        ] {
            assert_eq!(loopback(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_time_lies_in_the_office_hours() {
        for (text, at_s) in [
            ("07:45", Some(OPENS_S)),
            ("10:30", Some(37_800)),
            ("18:00", Some(CLOSES_S)),
            ("07:44", None),
            ("18:01", None),
            ("10:60", None),
            ("10", None),
            ("99999999:00", None),
        ] {
            assert_eq!(time_of_day(text).ok(), at_s, "{text}");
        }
    }

    #[test]
    fn nobody_works_at_the_weekend() {
        for (day, works) in [(18, 18), (19, 19), (20, 22), (21, 22), (22, 22)] {
            let of = |day| NaiveDate::from_ymd_opt(2026, 6, day).unwrap();
            assert_eq!(working_day(of(day)), of(works), "June {day}, 2026");
        }
    }
}

//! `serve`: the daemon, in the foreground.

use std::path::Path;
use std::sync::Arc;

use super::config::main_file;
use super::failure::{Failure, OK};
use crate::daemon::clock::SystemClock;
use crate::daemon::config::render_problems;
use crate::daemon::runtime::sockets;
use crate::daemon::{Daemon, Options, StartError, log};

/// Serves until a signal, with the sockets that the service manager passed.
///
/// # Errors
/// There is no configuration, now or of before, or the daemon cannot start.
pub(super) fn serve(main: Option<&Path>, colour: bool) -> Result<u8, Failure> {
    // Before the first thread, as the sockets demand it.
    let passed = sockets::passed().map_err(|error| Failure::failed(error.to_string()))?;
    let config = main_file(main)?;
    let shown = config.display().to_string();
    let options = Options { config, clock: Arc::new(SystemClock::start()), passed, as_process: true };
    let ended = Daemon::start(options).map(Daemon::wait);
    log::flush();
    match ended {
        Ok(whole) => match whole {
            true => Ok(OK),
            false => Err(Failure::failed("the daemon could not continue; the log says why".to_owned())),
        },
        Err(StartError::Config(problems)) => {
            let told = render_problems(&problems, colour);
            let failure = Failure::configuration(format!("{shown} is not valid\n\n{}", told.trim_end()));
            Err(failure.fix("no last good configuration is kept in the state directory, so nothing is served"))
        }
        Err(StartError::Failed { what, why }) => Err(Failure::failed(format!("cannot {what}: {why}"))),
    }
}

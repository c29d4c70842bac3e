//! `serve`: the daemon, in the foreground.

use std::path::Path;

use super::config::main_file;
use super::failure::Failure;

/// Serves until a signal.
///
/// # Errors
/// There is no configuration, or the daemon cannot start.
pub fn serve(main: Option<&Path>) -> Result<u8, Failure> {
    let main = main_file(main)?;
    Err(Failure::failed(format!("this build cannot serve {}", main.display())))
}

//! The options of verbs that look at a running daemon: where it is, and who asks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use usherd_contract::file;

use super::address::candidates;
use super::client::Client;
use super::failure::Failure;

/// Largest file with a token, bytes.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Where the daemon is, and who asks.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Connection {
    /// Where the daemon is: host:port, http://host:port, https://host:port or unix:/path [default: its Unix socket, then
    /// 127.0.0.1:7788]
    #[arg(long, global = true, env = "USHERD_ADDR", value_name = "ADDRESS", help_heading = "Connection")]
    pub addr: Option<String>,
    /// A PEM file with whom to trust over https [default: whom this machine trusts]
    #[arg(long, global = true, env = "USHERD_CA_FILE", value_name = "PEM", value_hint = clap::ValueHint::FilePath,
        help_heading = "Connection")]
    pub ca_file: Option<OsString>,
    /// The token; other users of the machine can read a command line, so prefer a file
    #[arg(
        long,
        global = true,
        env = "USHERD_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Connection"
    )]
    pub token: Option<String>,
    /// A file with the token; takes precedence over --token
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub token_file: Option<PathBuf>,
    /// How long to wait for an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10, help_heading = "Connection",
        value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub timeout: u64,
}

impl Connection {
    /// A client for the daemon that is meant.
    ///
    /// # Errors
    /// The address, the token or whom to trust is of no use.
    pub(super) fn client(&self, config: Option<&Path>) -> Result<Client, Failure> {
        let from_file = match &self.token_file {
            None => None,
            Some(path) => Some(read_token(path)?),
        };
        let token = from_file.or_else(|| self.token.clone()).filter(|token| !token.is_empty());
        let addresses = candidates(self.addr.as_deref().filter(|addr| !addr.is_empty()), config)?;
        let ca_file = Path::new(self.ca_file.as_deref().unwrap_or_default());
        Client::new(addresses, ca_file, token.as_deref(), Duration::from_secs(self.timeout))
    }
}

/// The token in the first line of a file that is not empty.
///
/// # Errors
/// The file cannot be read, or is empty.
pub(super) fn read_token(path: &Path) -> Result<String, Failure> {
    let wrong = |what: String| Failure::usage(format!("the token file {} {what}", path.display()));
    let text = file::read_any(path, TOKEN_BYTES_MAX).and_then(file::text);
    let text = text.map_err(|why| wrong(format!("cannot be read: {}", why.reason())))?;
    file::secret(&text).map(str::to_owned).ok_or_else(|| wrong("is empty".to_owned()))
}

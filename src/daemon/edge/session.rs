//! The state that one RESP connection and its commands share.

use crate::daemon::resp::Args;

/// The state that is kept between the commands of one connection.
#[derive(Debug, Default)]
pub struct Talk {
    /// Answers that are to be sent.
    pub out: Vec<u8>,
    /// The credential that `AUTH` or `HELLO` brought, as the `Authorization` header of HTTP.
    pub authorization: Option<Vec<u8>>,
    /// True if replies are those of RESP3.
    pub resp3: bool,
    /// Where the arguments of the command at hand stand.
    pub args: Args,
    closing: bool,
}

impl Talk {
    /// The connection ends once what is in [`Talk::out`] is sent.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// True if the connection ends.
    pub fn is_closing(&self) -> bool {
        self.closing
    }
}

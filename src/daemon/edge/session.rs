//! The state that one RESP connection and its commands share.

use std::cell::RefCell;
use std::rc::Rc;

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
    /// Answers that come while the others wait to go out.
    pub(crate) later: Later,
    closing: bool,
}

/// Answers that others give: each with its place among those that are there already, in order.
pub(crate) type Later = Rc<RefCell<Vec<(usize, Vec<u8>)>>>;

impl Talk {
    /// The connection ends once what is in [`Talk::out`] is sent.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Puts the answers that came later in their places.
    pub(super) fn take_later(&mut self) {
        let later = std::mem::take(&mut *self.later.borrow_mut());
        for (at, answer) in later.into_iter().rev() {
            let at = at.min(self.out.len());
            self.out.splice(at..at, answer);
        }
    }

    /// True if the connection ends.
    pub fn is_closing(&self) -> bool {
        self.closing
    }
}

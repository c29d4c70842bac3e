//! Why a verb failed, how to fix it, and the exit code that says so (API 7).

use std::io;

/// All is well.
pub(super) const OK: u8 = 0;
/// It failed, or was denied.
pub(super) const FAILED: u8 = 1;
/// The command line makes no sense.
pub(super) const USAGE: u8 = 2;
/// The configuration is wrong (`EX_CONFIG`).
pub(super) const CONFIGURATION: u8 = 78;

/// Why a verb failed: one sentence on what and where, one on how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The exit code.
    pub code: u8,
    /// The step that failed, and where.
    pub what: String,
    /// How to fix it; empty where nothing can be advised.
    pub fix: String,
}

impl Failure {
    /// It did not work.
    pub(super) fn failed(what: impl Into<String>) -> Self {
        Failure { code: FAILED, what: what.into(), fix: String::new() }
    }

    /// The command line makes no sense.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Failure { code: USAGE, ..Failure::failed(what) }
    }

    /// The configuration is wrong.
    pub(super) fn configuration(what: impl Into<String>) -> Self {
        Failure { code: CONFIGURATION, ..Failure::failed(what) }
    }

    /// Adds how to fix it.
    #[must_use]
    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    /// A failed write to the terminal or pipe. A reader that has seen enough (`| head`) is no failure.
    pub(super) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure { code: OK, what: String::new(), fix: String::new() };
        }
        Failure::failed(format!("the output cannot be written: {error}"))
    }

    /// The lines for people; empty where there is nothing to say.
    pub(super) fn render(&self) -> String {
        match (self.what.as_str(), self.fix.as_str()) {
            ("", _) => String::new(),
            (what, "") => format!("usherd: {what}\n"),
            (what, fix) => format!("usherd: {what}\n  help: {fix}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_the_readers_choice() {
        let gone = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((gone.code, gone.render().as_str()), (OK, ""));
        let full = Failure::output(&io::Error::other("disk full"));
        assert_eq!((full.code, full.render().as_str()), (FAILED, "usherd: the output cannot be written: disk full\n"));
    }
}

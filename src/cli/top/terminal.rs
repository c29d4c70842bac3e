//! The terminal: taken for the view, and given back however it ends.

use std::env;
use std::io::{self, Stdout};

use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, enable_raw_mode, size};
use ratatui::layout::Rect;
use rustix::process::{Signal, getpid, kill_process};

use crate::cli::failure::Failure;

/// The size of the print where there is no terminal, columns and rows.
const PRINTED: (u16, u16) = (80, 24);

/// A terminal in raw mode with a screen of its own; dropping it gives it back, as does a panic.
pub(super) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Stdout>>,
    /// Its size, as it was drawn last.
    pub area: Rect,
}

impl Terminal {
    /// Takes the terminal of the process.
    ///
    /// # Errors
    /// It cannot be steered.
    pub(super) fn take() -> Result<Self, Failure> {
        let inner = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            Failure::failed(format!("the terminal cannot be controlled: {error}")).fix("print it once with --once")
        })?;
        Ok(Terminal { inner, area: Rect::default() })
    }

    /// Draws what changed.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn draw(&mut self, draw: impl FnOnce(Rect, &mut Buffer)) -> Result<(), Failure> {
        let drawn = self.inner.draw(|frame| draw(frame.area(), frame.buffer_mut()));
        self.area = drawn.map_err(|error| Failure::output(&error))?.area;
        Ok(())
    }

    /// Draws everything anew next time, whatever somebody else wrote over it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn clear(&mut self) -> Result<(), Failure> {
        self.inner.clear().map_err(|error| Failure::output(&error))
    }

    /// Gives the terminal back, stops as Ctrl-Z stops a program, and takes it again when the shell says `fg`.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn suspend(&mut self) -> Result<(), Failure> {
        let _ = self.inner.show_cursor();
        ratatui::restore();
        kill_process(getpid(), Signal::TSTP).map_err(|error| Failure::output(&error.into()))?;
        enable_raw_mode()
            .and_then(|()| execute!(io::stdout(), EnterAlternateScreen))
            .and_then(|()| self.inner.hide_cursor())
            .and_then(|()| self.inner.clear())
            .map_err(|error| Failure::output(&error))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.inner.show_cursor();
        // Where the terminal is gone there is nothing to give back, and nobody to tell.
        let _ = ratatui::try_restore();
    }
}

/// Columns and rows for what is printed once.
pub(super) fn size_to_print() -> (u16, u16) {
    use std::io::IsTerminal as _;
    if io::stdout().is_terminal() { size().unwrap_or(PRINTED) } else { PRINTED }
}

/// True if the locale is one of UTF-8: the first of these that is set decides.
pub(super) fn shows_unicode() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(|name| env::var(name).ok());
    let locale = set.into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_uppercase();
    locale.contains("UTF-8") || locale.contains("UTF8")
}

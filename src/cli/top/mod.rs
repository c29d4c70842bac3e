//! `top`: the fleet and its tenants, live in a terminal.

mod facts;
mod fetch;
mod fleet;
mod news;
mod order;
mod paint;
mod places;
mod state;
mod tenant;
mod terminal;
mod view;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use chrono::DateTime;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::layout::Rect;

use fetch::Reader;
use order::Sort;
use paint::Look;
use places::page;
use state::{Effect, State};
use terminal::Terminal;

use super::client::Client;
use super::failure::{Failure, OK};
use super::screen::Screen;
use crate::daemon::clock::{Clock, SystemClock};

/// How long a key may wait for fresh data to be drawn first, and fresh data for a key.
const TURN: Duration = Duration::from_millis(100);

/// News that are taken before it is drawn: a flood of them must not keep the keys waiting.
const NEWS_MAX: usize = 10_000;

/// `usherd top`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TopArgs {
    /// Begin with this tenant in depth
    #[arg(long)]
    tenant: Option<String>,
    /// How often to read: 1s to 60s
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// How the tenants are sorted
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Only tenants with these words in id or name, or of this state or band
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    filter: String,
    /// Print it once as plain text and end: for scripts and tickets
    #[arg(long)]
    once: bool,
    /// Columns and rows of what is printed once [default: those of the terminal, or 80x24]
    #[arg(long, value_name = "COLSxROWS", requires = "once", value_parser = size)]
    size: Option<(u16, u16)>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let number = |text: &str, seconds: u64| text.trim().parse::<u64>().ok()?.checked_mul(seconds);
    let seconds = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(seconds), _) => number(seconds, 1),
        (_, Some(minutes)) => number(minutes, 60),
        _ => number(text, 1),
    };
    let seconds = seconds.filter(|seconds| (1..=60).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "write 1s to 60s".to_owned())
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    let sane = |(columns, rows): &(u16, u16)| (1..=1_000).contains(columns) && (1..=1_000).contains(rows);
    parsed.filter(sane).ok_or_else(|| "write columns and rows as in 120x50, at most 1000 of each".to_owned())
}

/// Shows the fleet until it is left, or once.
///
/// # Errors
/// There is no terminal to be live in; the daemon cannot be asked, where it is asked once.
pub(super) fn top(arguments: &TopArgs, client: Client, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let look = Look { colour: screen.colour && !arguments.once, unicode: terminal::shows_unicode(), utc: screen.utc };
    let clock = SystemClock::start();
    let interval_s = arguments.interval.as_secs();
    let mut state = State::new(client.first_address(), interval_s, arguments.sort, arguments.filter.clone());
    state.now = DateTime::from_timestamp_millis(clock.now().utc_ms);
    if let Some(tenant) = &arguments.tenant {
        state.enter(tenant);
    }
    if arguments.once {
        return once(arguments, &client, state, look, screen);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let failure = Failure::usage("top is live, and there is no terminal here");
        return Err(failure.fix("print it once with --once; over ssh, ask for a terminal with ssh -t"));
    }
    live(arguments, client, state, look, &clock)
}

fn once(
    arguments: &TopArgs,
    client: &Client,
    mut state: State,
    look: Look,
    screen: &mut Screen<'_>,
) -> Result<u8, Failure> {
    let news = client.run(fetch::once(client, &state.wish()))?;
    state.news(news);
    let (columns, rows) = arguments.size.unwrap_or_else(terminal::size_to_print);
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
    view::print(&state, &mut buffer, look);
    screen.write(&view::plain(&buffer))?;
    Ok(OK)
}

fn live(arguments: &TopArgs, client: Client, mut state: State, look: Look, clock: &SystemClock) -> Result<u8, Failure> {
    let (sender, news) = channel();
    let reader = Reader::start(client, arguments.interval, state.wish(), sender)?;
    let mut terminal = Terminal::take()?;
    loop {
        state.now = DateTime::from_timestamp_millis(clock.now().utc_ms);
        for _ in 0..NEWS_MAX {
            match news.try_recv() {
                Ok(news) => {
                    if !state.news(news) {
                        return Ok(OK);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(OK),
            }
        }
        reader.wish(state.wish());
        terminal.draw(|area, buffer| view::draw(&state, area, buffer, look))?;
        let mut wait = TURN;
        while event::poll(wait).map_err(|error| Failure::output(&error))? {
            wait = Duration::ZERO;
            let Event::Key(key) = event::read().map_err(|error| Failure::output(&error))? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match state.key(key, page(&state, terminal.area)) {
                Effect::Draw => {}
                Effect::Quit => return Ok(OK),
                Effect::Suspend => terminal.suspend()?,
                Effect::Refresh => {
                    terminal.clear()?;
                    reader.refresh();
                }
                Effect::Ask(body) => reader.explain(body),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_and_sizes_have_limits() {
        for (text, seconds) in [
            ("1s", Some(1)),
            ("60s", Some(60)),
            ("1m", Some(60)),
            ("5", Some(5)),
            ("0s", None),
            ("61s", None),
            ("2m", None),
            ("s", None),
        ] {
            assert_eq!(interval(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
        for (text, expected) in
            [("80x24", Some((80, 24))), ("0x24", None), ("80", None), ("80x1001", None), ("x", None)]
        {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }
}

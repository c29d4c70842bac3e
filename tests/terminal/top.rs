//! The live view: what it shows, what keys do, and what becomes of the terminal.

use rustix::process::{Pid, Signal, kill_process};

use super::Office;
use super::tmux::Window;

/// Three tenants, one of them full.
fn office() -> Office {
    let office = Office::open(&[("acme", 2), ("lindenhof-bau", 10), ("hotel-seeblick", 5)]);
    for (tenant, subject) in [("acme", "anna"), ("acme", "bob"), ("hotel-seeblick", "cleo")] {
        assert!(office.acquire(tenant, subject).starts_with("allow.new"));
    }
    office
}

/// Types the command, and waits until tenants are seen.
fn start(window: &Window, office: &Office, more: &str) {
    window.types(&format!("{} top --interval 1s --addr {} {more}", env!("CARGO_BIN_EXE_usherd"), office.address()));
    window.keys(&["Enter"]);
    window.until_taken();
    window.until_shows("acme");
}

/// The ids at the left edge of the table, from the top.
fn tenants(screen: &str) -> Vec<String> {
    let rows = screen.lines().skip_while(|line| !line.contains("FULLNESS")).skip(1);
    let ids = rows.map(|line| line.trim_start_matches('>').trim_start().split(' ').next().unwrap().to_owned());
    ids.take_while(|id| !id.is_empty()).collect()
}

#[test]
fn the_fleet_is_sorted_filtered_and_live() {
    let (office, window) = (office(), Window::open(80, 24, &[]));
    start(&window, &office, "");
    let is_full = |line: &str| line.starts_with("> acme") && line.trim_end().ends_with("full");
    let screen = window.until("the fleet by fullness", |screen| {
        tenants(screen) == ["acme", "hotel-seeblick", "lindenhof-bau"]
            && screen.contains("ready")
            && screen.contains("3 of 17 held")
            && screen.lines().any(is_full)
    });
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    window.keys(&["n", "n"]);
    window.until("the fleet by name, reversed", |screen| {
        screen.contains("by name, reversed") && tenants(screen) == ["lindenhof-bau", "hotel-seeblick", "acme"]
    });
    window.keys(&["/"]);
    window.types("hot");
    window.until("one tenant", |screen| tenants(screen) == ["hotel-seeblick"] && screen.contains("Filter: hot"));
    window.keys(&["Escape", "h"]);
    window.until("all again", |screen| tenants(screen).len() == 3 && screen.contains("by seats held"));
    office.acquire("lindenhof-bau", "dora");
    window.until_shows("4 of 17 held");
    office.release("acme", "bob");
    window.until_shows("3 of 17 held");
    office.acquire("acme", "bob");
    assert!(office.acquire("acme", "emil").starts_with("deny.full"));
    window.until("who was refused", |screen| {
        screen.lines().any(|line| ["acme", "emil", "deny.full tenant"].iter().all(|part| line.contains(part)))
    });
    window.keys(&["q"]);
    window.until("the shell", |screen| screen.trim_end().ends_with("prompt$"));
    window.until_given_back();
}

#[test]
fn a_tenant_tells_who_holds_a_seat_and_why_somebody_got_none() {
    let (office, window) = (office(), Window::open(80, 24, &[]));
    start(&window, &office, "");
    window.keys(&["Enter"]);
    window.until_shows_all(&["desktop anna-pc", "The acme company", "2 of 2 held"]);
    window.keys(&["e"]);
    window.until_shows_all(&["allow.same", "Why? anna in acme: desktop anna-pc"]);
    window.keys(&["Escape", "Tab"]);
    office.acquire("acme", "emil");
    window.until_shows("emil  desktop  deny.full tenant");
    window.keys(&["e"]);
    window.until_shows_all(&["2 of 2 seats held: full: tenant", "Would help", "a larger quota"]);
    window.keys(&["Escape"]);
    office.release("acme", "anna");
    window.until("her seat to be free", |screen| screen.contains("1 of 2 held") && !screen.contains("desktop anna-pc"));
    window.keys(&["Escape"]);
    window.until_shows("Tenants by fullness");
    // What it was told to begin with.
    window.keys(&["C-c"]);
    window.until_shows("prompt$");
    window.types("clear");
    window.keys(&["Enter"]);
    start(&window, &office, "--tenant acme");
    window.until_shows("desktop bob-pc");
}

#[test]
fn a_daemon_that_goes_is_missed_and_found_again_while_keys_work() {
    let (mut office, window) = (office(), Window::open(80, 24, &[]));
    start(&window, &office, "");
    office.usherd.take().unwrap().kill();
    // What was known stays.
    window.until_shows_all(&["No answer for", "NO ANSWER", "acme"]);
    window.keys(&["n"]);
    window.until_shows("by name");
    office.usherd = Some(office.site.start());
    window.until("an answer", |screen| {
        !screen.contains("No answer") && !screen.contains("NO ANSWER") && screen.contains("3 of 17 held")
    });
    // One that takes connections and says nothing: SIGSTOP.
    office.usherd.as_ref().unwrap().pause();
    window.until_shows("No answer for");
    window.keys(&["f"]);
    window.until_shows("by fullness");
    office.usherd.as_ref().unwrap().signal(Signal::CONT);
    window.until("an answer", |screen| !screen.contains("No answer") && screen.contains("ready"));
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let (office, window) = (office(), Window::open(80, 24, &[]));
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        start(&window, &office, "");
        kill_process(Pid::from_raw(window.foreground()).unwrap(), signal).unwrap();
        window.until("the shell", |screen| screen.contains("prompt$") && !screen.contains("FULLNESS"));
        window.until_given_back();
        // What is typed is seen again.
        window.types("stty -a | grep -ow -e '-echo' -e '-icanon' || echo co''oked");
        window.keys(&["Enter"]);
        window.until_shows("cooked");
        window.types("clear");
        window.keys(&["Enter"]);
        window.until("a clear screen", |screen| !screen.contains("cooked"));
    }
    start(&window, &office, "");
    window.keys(&["C-z"]);
    window.until_shows("Stopped");
    window.until_given_back();
    window.types("fg");
    window.keys(&["Enter"]);
    window.until_shows("Tenants by fullness");
}

#[test]
fn the_window_may_change_its_size() {
    let (office, window) = (office(), Window::open(80, 24, &[]));
    start(&window, &office, "");
    window.resize(60, 20);
    window.until_shows("60 x 20, it needs 72 x 20");
    window.resize(120, 40);
    window.until("a large screen", |screen| screen.contains("50_to_80") || screen.contains("BAND"));
    window.resize(80, 24);
    window.until("the old size", |screen| {
        screen.contains("FULLNESS") && !screen.contains("BAND") && screen.contains("q quit")
    });
}

#[test]
fn any_terminal_will_do() {
    let (office, window) = (office(), Window::open(80, 24, &[("LANG", "C"), ("NO_COLOR", "1")]));
    start(&window, &office, "");
    let screen = window.until_shows_all(&["######", "q quit"]);
    assert!(screen.is_ascii(), "{screen}");
    // 39 and 49 are the colours that the terminal has anyway.
    let colours = |text: &str| -> Vec<String> {
        let codes = text.split("\u{1b}[").skip(1).filter_map(|rest| rest.split('m').next());
        let is_colour = |code: &&str| code.starts_with(['3', '4', '9']) && !["39", "49", "4", "9"].contains(code);
        codes.filter(is_colour).map(str::to_owned).collect()
    };
    assert_eq!(colours(&window.coloured()), Vec::<String>::new());
    window.keys(&["Enter"]);
    let screen = window.until_shows("desktop anna-pc");
    assert!(screen.is_ascii(), "{screen}");
    let window = Window::open(80, 24, &[]);
    start(&window, &office, "");
    window.until_shows_all(&["███", "q quit"]);
    // Either as 3x and 9x, or as an index below 16.
    let used = colours(&window.coloured());
    let is_ansi = |code: &String| match code.strip_prefix("38;5;") {
        Some(index) => index.parse::<u8>().unwrap() < 16,
        None => code.len() == 2,
    };
    assert!(!used.is_empty() && used.iter().all(is_ansi), "{used:?}");
}

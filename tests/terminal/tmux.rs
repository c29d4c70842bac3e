//! A terminal of its own: one tmux server with one window, gone with its last use.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use usherd_testkit::wait::{eventually, eventually_or};

/// A window; dropping it ends its server and everything in it.
pub(crate) struct Window {
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Window {
    /// A shell of so many columns and rows, with these variables beside its own.
    pub(crate) fn open(columns: u16, rows: u16, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let window = Window { socket: folder.path().join("tmux.sock"), _folder: folder };
        let mut start = window.command();
        // Nobody's own configuration; the shell shows a prompt that is known.
        start.args(["-f", "/dev/null", "new-session", "-d"]);
        start.args(["-x", &columns.to_string(), "-y", &rows.to_string()]);
        start.args(["env", "-u", "NO_COLOR", "-u", "USHERD_ADDR", "-u", "LC_ALL", "PS1=prompt$ ", "LANG=C.UTF-8"]);
        start.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        start.args(["bash", "--norc", "--noprofile"]);
        // It is tmux itself that must understand what is drawn.
        start.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let output = start.output().unwrap_or_else(|error| panic!("tmux (Debian package tmux): {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        window.tmux(&["set-option", "-g", "status", "off"]);
        window.until("the prompt", |screen| screen.contains("prompt$"));
        window
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).stdin(Stdio::null());
        command
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The text that can be read on it.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with its colours as escape sequences.
    pub(crate) fn coloured(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Presses keys, by the names of tmux.
    pub(crate) fn keys(&self, keys: &[&str]) {
        let mut arguments = vec!["send-keys"];
        arguments.extend(keys);
        self.tmux(&arguments);
    }

    /// Types a text as it is.
    pub(crate) fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// The id of the process that the shell runs in the foreground.
    pub(crate) fn foreground(&self) -> i32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", shell.trim())).unwrap();
        // Behind the name in parentheses: state, parent, group, session, terminal, group in the foreground.
        stat.rsplit(") ").next().unwrap().split(' ').nth(5).unwrap().parse().unwrap()
    }

    /// The modes: if the cursor is seen, and if a program has the other screen.
    fn modes(&self) -> String {
        self.tmux(&["display-message", "-p", "cursor=#{cursor_flag} alternate=#{alternate_on}"])
    }

    /// Waits until the screen is so; the screen.
    pub(crate) fn until(&self, what: &str, seen: impl Fn(&str) -> bool) -> String {
        let look = || Some(self.screen()).filter(|screen| seen(screen));
        eventually_or(look, || format!("{what}; this is the screen:\n{}", self.screen()))
    }

    /// Waits for a text.
    pub(crate) fn until_shows(&self, text: &str) -> String {
        self.until_shows_all(&[text])
    }

    /// Waits for texts that are seen at one time: a screen is painted in pieces, and may be looked at between two.
    pub(crate) fn until_shows_all(&self, texts: &[&str]) -> String {
        self.until(&texts.join(", "), |screen| texts.iter().all(|text| screen.contains(text)))
    }

    /// Waits until a program has the other screen.
    pub(crate) fn until_taken(&self) {
        eventually("the other screen", || self.modes().ends_with("alternate=1\n").then_some(()));
    }

    /// Waits until the cursor is seen and no program has the other screen.
    pub(crate) fn until_given_back(&self) {
        eventually("the screen of the shell", || (self.modes() == "cursor=1 alternate=0\n").then_some(()));
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}

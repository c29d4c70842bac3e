//! Commands that need a machine of their own: their syntax, their verbs and the files that they name are checked.

use std::io::Write;
use std::process::{Command, Stdio};

use clap::Parser;
use usherd::cli::Cli;

use crate::page::{self, root};

/// Blocks that are not run, in all pages together: another one is to be thought about first.
const BLOCKS_MAX: usize = 12;

/// Programs that such blocks may call, apart from `usherd`: true where `--help` lists verbs and options.
const PROGRAMS: [(&str, bool); 19] = [
    ("systemctl", true),
    ("journalctl", true),
    ("timedatectl", true),
    ("install", false),
    ("cp", false),
    ("rm", false),
    ("mkdir", false),
    ("chown", false),
    ("tar", false),
    ("printf", false),
    ("openssl", false),
    ("sha256sum", false),
    ("systemd-sysusers", false),
    ("cat", false),
    ("docker", false),
    ("podman", false),
    ("apt-get", false),
    ("packaging/build-deb", false),
    ("chronyc", false),
];

/// The test has built the program and started it as these lines do.
pub(crate) fn without_builds(body: &str) -> String {
    let built = |line: &&str| line.starts_with("cargo run --release") || line.starts_with("tests/run");
    body.lines().filter(|line| !built(line)).map(|line| format!("{line}\n")).collect()
}

/// The commands of a block, each as its words; quotes are taken off, redirections and operators end one.
pub(crate) fn commands(body: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    for line in body.replace("\\\n", " ").lines() {
        let line = line.split(" #").next().unwrap();
        for word in words(line) {
            if ["|", "||", "&&", ";", "&"].contains(&word.as_str()) {
                commands.push(Vec::new());
            } else {
                commands.last_mut().unwrap().push(word);
            }
        }
        commands.push(Vec::new());
    }
    for command in &mut commands {
        if let Some(at) = command.iter().position(|word| word.starts_with(['>', '<']) || word.starts_with("2>")) {
            command.truncate(at);
        }
        if command.first().is_some_and(|word| word == "sudo") {
            command.remove(0);
        }
    }
    commands.retain(|command| command.first().is_some_and(|word| !word.starts_with('#')));
    commands
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    for sign in line.chars() {
        match (quote, sign) {
            (None, '\'' | '"') => (quote, any) = (Some(sign), true),
            (Some(open), _) if open == sign => quote = None,
            (None, sign) if sign.is_whitespace() => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => word.push(sign),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Whether `usherd` takes these arguments.
pub(crate) fn parses(command: &[String]) -> Result<(), String> {
    match Cli::try_parse_from(command) {
        Ok(_) => Ok(()),
        Err(error) if error.exit_code() == 0 => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_shell(body: &str) -> bool {
    let mut sh = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    sh.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    sh.wait().unwrap().success()
}

/// Everything that a program says about itself.
fn help(program: &str) -> String {
    let output = Command::new(program).arg("--help").env("PAGER", "cat").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: apt-get install systemd"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn known(command: &[String]) -> Result<(), String> {
    let program = command[0].as_str();
    if program == "usherd" || program == "/usr/bin/usherd" {
        return parses(command);
    }
    let Some((_, listed)) = PROGRAMS.iter().find(|(name, _)| *name == program) else {
        return Err(format!("{program} is not on the list"));
    };
    let options = command[1..].iter().filter(|word| word.starts_with("--"));
    let verb =
        command.get(1).filter(|word| program.ends_with("ctl") && program != "journalctl" && !word.starts_with('-'));
    if *listed {
        let help = help(program);
        for word in options.chain(verb) {
            let word = word.split('=').next().unwrap();
            if !help.contains(word) {
                return Err(format!("{program} knows no {word}"));
            }
        }
    }
    let folders = ["systemd/", "config/", "packaging/"];
    let files = command.iter().filter(|word| folders.iter().any(|folder| word.starts_with(folder)));
    for file in files {
        if !root().join(file).exists() {
            return Err(format!("there is no {file}"));
        }
    }
    Ok(())
}

#[test]
fn commands_for_a_machine_of_its_own_are_known() {
    let mut blocks = 0;
    for page in page::all() {
        for block in page.blocks().iter().filter(|block| block.info == "sh host") {
            blocks += 1;
            let place = format!("{}:{}", page.name, block.line);
            assert!(is_shell(&block.body), "{place}: {}", block.body);
            for command in commands(&block.body) {
                known(&command).unwrap_or_else(|why| panic!("{place}: {command:?}: {why}"));
            }
        }
    }
    assert!(blocks <= BLOCKS_MAX, "{blocks} blocks are not run: run them, or say why in BLOCKS_MAX");
}

#[test]
fn what_is_run_for_the_readme_is_what_it_says() {
    for line in ["cargo run --release        # the daemon", "tests/run                  # everything"] {
        assert_eq!(without_builds(line), "");
    }
    assert_eq!(without_builds("usherd status\n"), "usherd status\n");
    assert!(root().join("tests/run").exists());
}

#[test]
fn words_are_taken_as_a_shell_takes_them() {
    let got = commands(
        "# nothing\nsudo usherd acquire acme 'Anna B' c1 call \\\n  --ttl 60 > /dev/null || echo \"exit $?\"\n",
    );
    let want: [&[&str]; 2] =
        [&["usherd", "acquire", "acme", "Anna B", "c1", "call", "--ttl", "60"], &["echo", "exit $?"]];
    assert_eq!(got, want);
}

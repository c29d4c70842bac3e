//! Commands that nothing can run: their syntax, their verbs and the files that they name are checked.

use std::io::Write;
use std::process::{Command, Stdio};

use clap::Parser;
use usherd::cli::Cli;
use usherd_testkit::page::{self, root};

/// The test has built the program and started it as these lines do.
pub(crate) fn without_builds(body: &str) -> String {
    let built = |line: &&str| line.starts_with("cargo run --release") || line.starts_with("tests/run");
    body.lines().filter(|line| !built(line)).map(|line| format!("{line}\n")).collect()
}

/// The commands of a block, each as its words; quotes are taken off, redirections and operators end one.
pub(crate) fn commands(body: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    // The end of a text that stands among the commands.
    let mut end = None;
    for line in body.replace("\\\n", " ").lines() {
        if end.is_some() {
            end = end.filter(|end| *end != line);
            continue;
        }
        end = line.split_once("<< '").map(|(_, word)| word.trim_end_matches('\'').to_owned());
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

/// Checks that `usherd` takes these arguments.
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

/// Checks a command that is not run, as far as can be seen.
fn known(command: &[String]) -> Result<(), String> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    // A command in the container; whatever else there is would be a block that could be run.
    if let ["podman", "exec", _, ..] = words[..] {
        return parses(&command[3..]);
    }
    if let ["usherd", ..] = words[..] {
        return parses(command);
    }
    let of_three_machines = [
        "apt-get",
        "cat",
        "chmod",
        "chown",
        "cp",
        "curl",
        "etcdctl",
        "export",
        "jq",
        "openssl",
        "rm",
        "sed",
        "systemctl",
    ];
    if of_three_machines.contains(&words[0]) || words[0] == "ETCDCTL_API=3" && words[1] == "etcdctl" {
        return Ok(());
    }
    let ["podman", "build" | "run", ..] = words[..] else {
        return Err("it could be run: see tests/service".to_owned());
    };
    let missing = words.iter().find(|word| word.starts_with("packaging/") && !root().join(word).exists());
    missing.map_or(Ok(()), |file| Err(format!("there is no {file}")))
}

#[test]
fn commands_that_are_not_run_are_known() {
    let blocks: Vec<_> = page::for_a_machine().into_iter().filter(|(_, block)| block.is_not_run()).collect();
    assert_eq!(blocks.len(), page::NOT_RUN.len(), "each reason is for one block");
    for (place, block) in blocks {
        assert!(is_shell(&block.body), "{place}: {}", block.body);
        for command in commands(&block.body) {
            known(&command).unwrap_or_else(|why| panic!("{place}: {command:?}: {why}"));
        }
    }
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
    assert_eq!(commands("cat > file << 'END'\nno command\nEND\nrm file\n"), [["cat"].as_slice(), &["rm", "file"]]);
}

//! Every verb explains itself, wrong arguments are told apart from failures, and packagers get their files.

use super::{finish, run, usherd};

const VERBS: [&[&str]; 48] = [
    &["serve"],
    &["demo"],
    &["agent"],
    &["config"],
    &["config", "check"],
    &["config", "init"],
    &["config", "show"],
    &["plan"],
    &["reload"],
    &["status"],
    &["top"],
    &["tenants"],
    &["sessions"],
    &["nodes"],
    &["cluster"],
    &["cluster", "status"],
    &["cluster", "handover"],
    &["cluster", "leave"],
    &["events"],
    &["explain"],
    &["acquire"],
    &["release"],
    &["check"],
    &["check", "tenant"],
    &["doctor"],
    &["quote"],
    &["statement"],
    &["subscription"],
    &["subscription", "show"],
    &["subscription", "request"],
    &["journal"],
    &["journal", "verify"],
    &["journal", "export"],
    &["size"],
    &["webhook"],
    &["webhook", "list"],
    &["webhook", "deliveries"],
    &["webhook", "test"],
    &["webhook", "secret"],
    &["whatif"],
    &["report"],
    &["records"],
    &["records", "keygen"],
    &["records", "sign"],
    &["records", "verify"],
    &["completions"],
    &["man"],
    &[],
];

#[test]
fn every_verb_has_help() {
    for verb in VERBS {
        let mut arguments = verb.to_vec();
        arguments.push("--help");
        let (out, err) = run(&arguments, 0);
        assert!(out.contains("Usage: usherd") && err.is_empty(), "{verb:?}: {out}{err}");
        for line in out.lines() {
            assert!(line.chars().count() <= 120, "{verb:?}: {line}");
        }
    }
}

#[test]
fn every_argument_is_explained() {
    for verb in VERBS {
        let mut arguments = verb.to_vec();
        arguments.push("-h");
        let (out, _) = run(&arguments, 0);
        for line in out.lines().filter(|line| line.trim_start().starts_with('-') || line.trim_start().starts_with('['))
        {
            let explained = line.trim_start().split_once("  ").is_some_and(|(_, text)| !text.trim().is_empty());
            let on_the_next = line.len() > 40;
            assert!(explained || on_the_next, "{verb:?}: {line} is not explained");
        }
    }
}

#[test]
fn the_version_is_told() {
    let (out, _) = run(&["--version"], 0);
    assert_eq!(out, format!("usherd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_arguments_are_2_and_3_for_a_monitoring_plugin() {
    for arguments in [
        &["dance"][..],
        &["sessions"],
        &["sessions", "acme", "--kind", "fax"],
        &["acquire", "acme", "anna", "c1", "cal"],
        &["tenants", "--limit", "0"],
        &["nodes", "--addr", "https://pbx:0"],
        &["nodes", "--token-file", "/nowhere/token"],
        &["journal", "export", "--from", "yesterday"],
        &["completions", "tcl"],
    ] {
        let (out, err) = run(arguments, 2);
        assert!(out.is_empty() && !err.is_empty(), "{arguments:?}: {out}{err}");
    }
    for arguments in [&["check"][..], &["check", "tenant"], &["check", "tenant", "acme", "--warn", "much"]] {
        run(arguments, 3);
    }
    run(&["config", "check", "--dance"], 2);
}

#[test]
fn a_typing_error_is_answered_with_what_was_meant() {
    let (_, err) = run(&["sesions", "acme"], 2);
    assert!(err.contains("sessions"), "{err}");
}

#[test]
fn every_shell_gets_completions() {
    for (shell, word) in [
        ("bash", "_usherd"),
        ("zsh", "#compdef usherd"),
        ("fish", "complete -c usherd"),
        ("elvish", "usherd"),
        ("powershell", "usherd"),
    ] {
        let (out, _) = run(&["completions", shell], 0);
        assert!(out.contains(word) && out.contains("token-file"), "{shell}: {out}");
    }
    let mut check = std::process::Command::new("bash");
    check.args(["-n", "/dev/stdin"]).stdin(std::process::Stdio::piped());
    let mut child = check.spawn().unwrap();
    let (out, _) = run(&["completions", "bash"], 0);
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), out.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "bash does not take the completions");
}

#[test]
fn manual_pages_are_written_for_every_verb() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("man1");
    run(&["man", folder.to_str().unwrap()], 0);
    for verb in VERBS {
        let mut name = vec!["usherd"];
        name.extend(verb.iter());
        let page = std::fs::read_to_string(folder.join(format!("{}.1", name.join("-")))).unwrap();
        assert!(page.contains(".TH") && page.contains(".SH SYNOPSIS"), "{name:?}: {page}");
    }
    let (page, _) = run(&["man"], 0);
    assert!(page.contains(".SH NAME"), "{page}");
}

#[test]
fn the_token_of_the_environment_is_not_shown() {
    let (out, _) = finish(usherd(&["--help"]).env("USHERD_TOKEN", "ush_admin_secret"), 0);
    assert!(!out.contains("ush_admin_secret"), "{out}");
}

//! Names in the documentation are names of the program: links, keys, metrics, routes, verbs and alerts.

use std::collections::BTreeSet;

use clap::CommandFactory;
use usherd::cli::Cli;
use usherd_engine::session::Code;
use usherd_testkit::page::{self, Page, root};
use usherd_testkit::process::Site;

use crate::elsewhere;

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// Everything below a folder that is text, one behind the other.
fn all_text(folder: &str) -> String {
    page::files(&root().join(folder)).iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

fn fail(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Words in code of all pages, each with its place.
fn codes() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for page in page::all() {
        all.extend(page.codes().into_iter().map(|(line, code)| (format!("{}:{line}", page.name), code)));
    }
    all
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    for page in page::all() {
        for (line, target) in page.links() {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { root().join(&page.name) } else { page.folder().join(file) };
            let found = !target.contains("://") && path.exists();
            let known = anchor.is_empty() || {
                let name = path.strip_prefix(root()).unwrap_or(&path).to_str().unwrap().to_owned();
                found && Page::read(&name).anchors().iter().any(|known| known == anchor)
            };
            if !found || !known {
                faults.push(format!("{}:{line}: {target} leads nowhere", page.name));
            }
        }
    }
    fail(&faults);
}

/// Section and key of every key of the sample, those in examples too.
fn keys() -> BTreeSet<(String, String)> {
    let (mut section, mut keys) = (String::new(), BTreeSet::new());
    for line in read("config/usherd.toml").lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_matches(['[', ']']).split(']').next().unwrap().to_owned();
            if let Some((above, name)) = section.split_once('.') {
                keys.insert((above.to_owned(), name.to_owned()));
            }
        } else if let Some((key, _)) = line.split_once(" = ")
            && !key.contains(' ')
        {
            keys.insert((section.clone(), key.to_owned()));
        }
    }
    keys
}

#[test]
fn every_key_of_the_configuration_is_one() {
    let keys = keys();
    let sections: BTreeSet<&str> = keys.iter().map(|(section, _)| section.as_str()).collect();
    // `usherd status` has names below `sync` too.
    let status = read("src/answers/overview.rs");
    assert!(sections.contains("server") && keys.contains(&("sessions".into(), "guests".into())));
    let mut faults = Vec::new();
    for (place, code) in codes() {
        let code = code.split(" = ").next().unwrap();
        let section = code.trim_matches(['[', ']']);
        if code.starts_with('[') && code.ends_with(']') && !code.contains([' ', '|', '"']) {
            let tenant_file = ["change", "addon", "addon.change", "reserve"].contains(&section);
            let agent_file = read("config/pbx/agent.toml").contains(&format!("[{section}]"));
            if !tenant_file && !agent_file && !sections.contains(section) && section != "tenant" {
                faults.push(format!("{place}: there is no section `{code}`"));
            }
        } else if let Some((section, key)) = code.split_once('.')
            && sections.contains(section)
            && !key.contains(|sign: char| !sign.is_ascii_lowercase() && !"_0123456789".contains(sign))
            && !["toml", "service", "socket"].contains(&key)
            && !Code::ALL.iter().any(|known| code == known.as_str())
            && !(section == "sync" && status.contains(&format!("pub {key}: ")))
            && !keys.contains(&(section.to_owned(), key.to_owned()))
        {
            faults.push(format!("{place}: there is no key `{code}`"));
        }
    }
    fail(&faults);
}

#[test]
fn every_name_with_an_underscore_is_known_to_the_program() {
    let text: String = ["config", "crates", "src", "systemd"].map(all_text).concat();
    let known: BTreeSet<&str> = text.split(|sign: char| !sign.is_alphanumeric() && sign != '_').collect();
    let mut faults = Vec::new();
    for (place, code) in codes() {
        for word in code.split(|sign: char| !sign.is_alphanumeric() && sign != '_') {
            // A family may be named by its beginning, as in `usherd_tenant_*`.
            let family = code.contains(&format!("{word}*"));
            let found = known.contains(word) || family && known.iter().any(|name| name.starts_with(word));
            if word.trim_matches('_').contains('_') && !found {
                faults.push(format!("{place}: nothing is called `{word}`"));
            }
        }
    }
    fail(&faults);
}

#[test]
fn every_metric_is_exported() {
    let site = Site::new(
        "",
        &[(
            "acme",
            "id = \"acme\"\nkind = \"nfr\"\nseats = 1\n[[change]]\neffective_at = \"2090-01-01T00:00:00Z\"\nseats = 2\nby = \"operator\"\n",
        )],
    );
    let daemon = site.start();
    let mut client = daemon.client();
    client.post("/v1/nodes/n1/hello", "{\"epoch\":1}");
    let scrape = client.get("/metrics").body;
    // The agent has its own exposition; it puts the prefix in front of these names.
    let agent = read("crates/agent/src/counters.rs") + &read("crates/agent/src/status.rs");
    let of_agent = |word: &str| {
        let name = word.strip_prefix("usherd_agent_").map(|name| name.strip_suffix("_total").unwrap_or(name));
        name.is_some_and(|name| agent.contains(&format!("\"{name}\"")) || agent.contains(&format!("{word} ")))
    };
    let rules = read("config/prometheus/usherd.rules.yml");
    // This daemon belongs to no cluster.
    let cluster = read("src/daemon/metrics/cluster.rs");
    let of_cluster: Vec<&str> = cluster.split('"').filter(|text| text.starts_with("usherd_")).collect();
    assert_eq!(of_cluster.len(), 7, "{of_cluster:?}");
    let mut faults = Vec::new();
    // Each family has its row, with its type.
    let rows = Page::read("docs/metrics.md").table(&["name", "type", "labels", "meaning"]);
    for family in scrape.lines().filter_map(|line| line.strip_prefix("# TYPE usherd_")) {
        let (name, kind) = family.split_once(' ').unwrap();
        let name = format!("`usherd_{name}`");
        if !rows.iter().any(|(_, cells)| cells[0] == name && cells[1] == kind) {
            faults.push(format!("docs/metrics.md has no row for {name}, a {kind}"));
        }
    }
    for name in &of_cluster {
        if !rows.iter().any(|(_, cells)| cells[0] == format!("`{name}`")) {
            faults.push(format!("docs/metrics.md has no row for {name}"));
        }
    }
    for (place, code) in codes() {
        for word in code.split(|sign: char| !sign.is_alphanumeric() && sign != '_' && sign != ':') {
            let is_metric = word.starts_with("usherd_");
            let family = code.contains(&format!("{word}*"));
            let kind =
                scrape.contains(&format!("# TYPE {word} ")) || family && scrape.contains(&format!("# TYPE {word}"));
            let is_crate = root().join("crates").join(word.trim_start_matches("usherd_")).is_dir();
            let is_known = is_crate || of_agent(word) || rules.contains(word) || of_cluster.contains(&word);
            if is_metric && !kind && !is_known {
                faults.push(format!("{place}: `{word}` is not exported"));
            }
        }
    }
    fail(&faults);
}

/// True if a path is one of the templates; a part in braces matches anything.
fn is_route(path: &str, templates: &[String]) -> bool {
    let path = path.split(['?', '[']).next().unwrap();
    let parts: Vec<&str> = path.split('/').collect();
    templates.iter().any(|template| {
        let wanted: Vec<&str> = template.split('/').collect();
        wanted.len() == parts.len()
            && wanted.iter().zip(&parts).all(|(want, part)| want.starts_with('{') || want == part)
    })
}

#[test]
fn every_route_is_one() {
    let document: serde_json::Value = serde_json::from_str(usherd::daemon::api::openapi()).unwrap();
    let templates: Vec<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let mut faults = Vec::new();
    let watched = ["/v1/", "/metrics", "/livez", "/readyz", "/openapi.json"];
    for (place, code) in codes() {
        for word in code.split([' ', '"', '\'', ',']) {
            let path = word.split_once("7788").map_or(word, |(_, path)| path);
            if watched.iter().any(|start| path.starts_with(start)) && !is_route(path, &templates) {
                faults.push(format!("{place}: there is no route {path}"));
            }
        }
    }
    for page in page::all() {
        for block in page.blocks().iter().filter(|block| block.info.starts_with("sh")) {
            let words =
                block.body.split([' ', '"', '\'', '\n', '\\']).filter_map(|word| word.split_once("127.0.0.1:7788/"));
            for (_, path) in words {
                if !is_route(&format!("/{path}"), &templates) {
                    faults.push(format!("{}:{}: there is no route /{path}", page.name, block.line));
                }
            }
        }
    }
    fail(&faults);
}

/// Each route of the document is on the page of the contract.
#[test]
fn every_route_is_on_its_page() {
    let page = Page::read("docs/api.md");
    let document: serde_json::Value = serde_json::from_str(usherd::daemon::api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let files = ["/dashboard.js", "/dashboard.css"];
    let missing: Vec<&String> = paths
        .keys()
        .filter(|path| !files.contains(&path.as_str()))
        .filter(|path| {
            // Behind its method or in code for itself; a longer path is another one.
            let mut ends = page.text().split(path.as_str()).skip(1);
            !ends.any(|rest| rest.starts_with(['`', '?', ' ', '.', ')', '\n']))
        })
        .collect();
    assert!(missing.is_empty(), "docs/api.md does not tell of {missing:?}");
}

/// Every verb without verbs of its own, as somebody types it.
fn verbs() -> Vec<String> {
    fn below(command: &clap::Command, name: &str, verbs: &mut Vec<String>) {
        if command.get_subcommands().next().is_none() {
            verbs.push(name.to_owned());
        }
        for verb in command.get_subcommands() {
            below(verb, &format!("{name} {}", verb.get_name()), verbs);
        }
    }
    let mut verbs = Vec::new();
    below(&Cli::command(), "usherd", &mut verbs);
    verbs
}

#[test]
fn every_verb_is_in_the_documentation() {
    let docs: String = page::all().iter().filter(|page| page.name != "README.md").map(Page::text).collect();
    let missing: Vec<String> = verbs().into_iter().filter(|verb| !docs.contains(verb.as_str())).collect();
    assert!(missing.is_empty(), "no page of docs/ names {missing:?}");
}

/// The options of a verb, those of all verbs included.
fn options(words: &[&str]) -> Option<BTreeSet<String>> {
    let top = Cli::command();
    let mut command = &top;
    for word in words.iter().skip(1) {
        match command.find_subcommand(word) {
            Some(verb) => command = verb,
            None if command.has_subcommands() && !word.starts_with('-') && command.get_name() != "usherd" => {
                return None;
            }
            None if command.get_name() == "usherd" && !word.starts_with('-') => return None,
            None => break,
        }
    }
    let arguments = command.get_arguments().chain(top.get_arguments());
    Some(arguments.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}")).collect())
}

#[test]
fn every_command_in_the_prose_is_one() {
    let mut faults = Vec::new();
    for page in page::all().iter().filter(|page| page.name != "README.md") {
        for (line, code) in page.codes() {
            let words: Vec<&str> = code.split_whitespace().collect();
            if words.first() != Some(&"usherd") {
                continue;
            }
            let Some(options) = options(&words) else {
                faults.push(format!("{}:{line}: `{code}` is no verb", page.name));
                continue;
            };
            for word in words.iter().filter(|word| word.starts_with("--")) {
                let word = word.split('=').next().unwrap();
                if !options.contains(word) && !["--help", "--version"].contains(&word) {
                    faults.push(format!("{}:{line}: `{code}`: there is no {word}", page.name));
                }
            }
        }
        for block in page.blocks().iter().filter(|block| block.info == "sh") {
            for command in elsewhere::commands(&block.body).iter().filter(|command| command[0] == "usherd") {
                let names: Vec<&str> = command.iter().map(String::as_str).collect();
                if options(&names).is_none() {
                    faults.push(format!("{}:{}: {command:?} is no verb", page.name, block.line));
                }
            }
        }
    }
    fail(&faults);
}

#[test]
fn every_code_is_of_the_vocabulary() {
    let keys = keys();
    let mut faults = Vec::new();
    for (place, code) in codes() {
        let word = code.split(' ').next().unwrap();
        let is_code = ["allow.", "deny.", "released.", "ignore."].iter().any(|start| word.starts_with(start));
        let key = keys.iter().any(|(section, key)| word == format!("{section}.{key}"));
        let known = key || word.ends_with(['…', '*']) || Code::ALL.iter().any(|known| known.as_str() == word);
        if is_code && !known {
            faults.push(format!("{place}: there is no code `{word}`"));
        }
    }
    fail(&faults);
}

#[test]
fn every_alert_has_its_row_and_its_fix() {
    let rules = read("config/prometheus/usherd.rules.yml");
    let mut alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let operating = Page::read("docs/operating.md");
    for (line, cells) in operating.table(&["alert", "what it means", "what to do"]) {
        let alert = cells[0].trim_matches('`');
        assert!(alerts.contains(&alert), "docs/operating.md:{line}: there is no alert {alert}");
        assert!(cells[2].contains("](troubleshooting.md#"), "docs/operating.md:{line}: {alert} leads to no section");
        alerts.retain(|known| *known != alert);
    }
    assert!(alerts.is_empty(), "docs/operating.md has no row for {alerts:?}");
}

#[test]
fn every_file_of_the_repository_is_there() {
    let folders = ["tests/", "src/", "config/", "systemd/", "benches/", "docs/", "packaging/"];
    let of_run = ["config/state", "config/open.toml"];
    let mut faults = Vec::new();
    for (place, code) in codes() {
        let named = folders.iter().any(|folder| code.starts_with(folder)) && !code.contains([' ', '*', '…']);
        if named && !of_run.iter().any(|made| code.starts_with(made)) && !root().join(&code).exists() {
            faults.push(format!("{place}: there is no {code}"));
        }
    }
    fail(&faults);
}

#[test]
fn every_kind_of_test_has_its_row() {
    let tests = Page::read("tests/README.md");
    let rows = tests.table(&["folder or file", "tests", "what it proves", "needs", "seconds"]);
    let named: BTreeSet<&str> = rows.iter().flat_map(|(_, cells)| cells[0].split('`').skip(1).step_by(2)).collect();
    let kinds = std::fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let kinds = kinds.filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "rs"));
    let kinds: BTreeSet<String> = kinds.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let without: Vec<_> = kinds.iter().filter(|kind| *kind != "seats" && !named.contains(kind.as_str())).collect();
    assert!(without.is_empty(), "tests/README.md has no row for {without:?}");
    let gone: Vec<_> =
        named.iter().filter(|name| !["src", "--lib"].contains(*name) && !kinds.contains(**name)).collect();
    assert!(gone.is_empty(), "tests/README.md names {gone:?}, and there is none");
}

#[test]
fn nothing_of_this_machine_is_told() {
    for page in page::all() {
        for word in ["/work/", "/root/", "/home/", "target/debug"] {
            assert!(!page.text().contains(word), "{} says {word}", page.name);
        }
    }
}

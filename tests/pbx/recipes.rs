//! Checks of the recipes without the PBX: they are in order as text, and agree with each other.

use std::path::{Path, PathBuf};

use usherd::daemon::config::Settings;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pbx")
}

fn read(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The line without strings and comments, in which only brackets count.
fn bare(line: &str, comment: char) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for letter in line.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            _ if letter == comment => break,
            _ => out.push(letter),
        }
    }
    assert!(!quoted, "a string is not closed: {line}");
    out
}

/// The brackets that are open at the end of the text; they close in the order of their opening.
fn open_brackets(text: &str) -> Vec<char> {
    let mut open = Vec::new();
    for letter in text.chars() {
        match letter {
            '(' | '[' | '{' => open.push(letter),
            ')' => assert_eq!(open.pop(), Some('('), "{text}"),
            ']' => assert_eq!(open.pop(), Some('['), "{text}"),
            '}' => assert_eq!(open.pop(), Some('{'), "{text}"),
            _ => {}
        }
    }
    open
}

#[test]
fn brackets_of_scripts_and_configurations_close() {
    for name in [
        "opensips/usherd.cfg",
        "freeradius/mods-available/usherd",
        "freeradius/policy.d/usherd",
        "freeradius/sites-available/usherd",
    ] {
        let text: Vec<String> = read(name).lines().map(|line| bare(line, '#')).collect();
        assert_eq!(open_brackets(&text.join("\n")), [], "{name}");
    }
}

#[test]
fn each_line_of_the_dial_plans_of_asterisk_is_one_step() {
    for name in ["asterisk/extensions_usherd.conf", "asterisk/extensions_usherd_agi.conf"] {
        let (mut contexts, mut extension) = (Vec::new(), false);
        for line in read(name).lines().filter(|line| !line.trim_start().starts_with(';') && !line.is_empty()) {
            // Wherever it stands, a comment begins there.
            assert!(!line.contains(';'), "{name}: {line}");
            assert_eq!(open_brackets(&line.replace('"', "")), [], "{name}: {line}");
            let step = if line.starts_with('[') {
                contexts.push(line.trim_matches(['[', ']']).to_owned());
                extension = false;
                continue;
            } else if let Some(exten) = line.strip_prefix("exten => ") {
                extension = true;
                exten.split_once(',').unwrap().1
            } else {
                assert!(extension, "{name}: no extension that this goes on: {line}");
                line.strip_prefix(" same => ").unwrap_or_else(|| panic!("{name}: {line}"))
            };
            let (priority, application) = step.split_once(',').unwrap_or_else(|| panic!("{name}: {line}"));
            assert!(priority == "1" || priority.starts_with('n'), "{name}: {line}");
            assert!(application.contains('(') && application.ends_with(')'), "{name}: {line}");
        }
        assert_eq!(contexts, ["usherd-emergency", "usherd-ask", "usherd-release", "usherd-keep"], "{name}");
        let text = read(name);
        for label in
            text.split('?').skip(1).filter_map(|rest| rest.split([')', ']', ':']).next()).filter(|l| !l.is_empty())
        {
            let is_label = label.chars().all(|letter| letter.is_ascii_lowercase());
            assert!(!is_label || text.contains(&format!("n({label}),")), "{name}: there is no label {label}");
        }
    }
}

/// Checks that a document is well-formed as far as the recipes use XML: elements, attributes, comments, entities.
fn well_formed(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest =
        text.trim_start().strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").expect("an XML declaration");
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('&'), "an entity outside of an attribute: {}", &rest[..at]);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            let end = comment.find("--").expect("a comment ends");
            rest =
                comment[end..].strip_prefix("-->").unwrap_or_else(|| panic!("`--` in a comment: {}", &comment[..end]));
            continue;
        }
        let (tag, quotes_open) = tag_of(rest);
        assert!(!quotes_open, "an attribute is not closed: {tag}");
        rest = &rest[tag.len() + 2..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        attributes(tag);
        if !tag.ends_with('/') {
            open.push(tag.split_ascii_whitespace().next().unwrap());
        }
    }
    assert_eq!(open, [""; 0], "these are not closed");
}

/// The text between `<` and its `>`, and whether that was inside of quotes.
fn tag_of(text: &str) -> (&str, bool) {
    let mut quoted = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '"' => quoted = !quoted,
            '>' if !quoted => return (&text[1..at], quoted),
            '<' => panic!("`<` inside of a tag: {}", &text[..at]),
            _ => {}
        }
    }
    panic!("a tag is not closed: {text}");
}

fn attributes(tag: &str) {
    let mut rest = tag.split_once(char::is_whitespace).map_or("", |(_, rest)| rest).trim_end_matches('/').trim();
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no attribute: {rest}"));
        let (value, after) = value.split_once('"').unwrap();
        assert!(name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_'), "{tag}");
        assert!(!seen.contains(&name), "{name} twice: {tag}");
        for entity in value.split('&').skip(1) {
            assert!(
                ["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|known| entity.starts_with(known)),
                "&{entity} in {tag}"
            );
        }
        seen.push(name);
        rest = after.trim_start();
    }
}

#[test]
fn the_dial_plan_of_freeswitch_is_well_formed() {
    well_formed(&read("freeswitch/dialplan/usherd.xml"));
}

#[test]
fn broken_xml_would_be_seen() {
    for broken in
        ["<a><b></a>", "<a>", "<a b=\"1\" b=\"2\"/>", "<a b=\"x&y\"/>", "<a b=1/>", "<a b=\"1/>", "<!-- a -- b --><a/>"]
    {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{broken}");
        assert!(std::panic::catch_unwind(|| well_formed(&text)).is_err(), "{broken}");
    }
}

#[test]
fn every_recipe_spares_the_known_emergency_numbers_c14() {
    let numbers = Settings::default().rules.sessions.emergency_numbers;
    assert_eq!(numbers, ["110", "112"], "the recipes name these");
    for (name, exempts) in [
        ("asterisk/extensions_usherd.conf", ["exten => 110,", "exten => 112,"]),
        ("asterisk/extensions_usherd_agi.conf", ["exten => 110,", "exten => 112,"]),
        ("freeswitch/dialplan/usherd.xml", ["^[+]?0?(110|112)#?$", "usherd_emergency"]),
        ("opensips/usherd.cfg", ["^[+]?0?(110|112)#?$", "usherd_relay"]),
        ("freeradius/policy.d/usherd", ["0?(110|112)", "usherd_exempt"]),
    ] {
        let text = read(name);
        assert!(exempts.iter().all(|part| text.contains(part)), "{name}");
    }
}

/// Settings that were seen in the programs, which no test here can start.
#[test]
fn waits_tokens_and_certificates_are_as_the_programs_take_them() {
    let opensips = read("opensips/usherd.cfg");
    let set = opensips.lines().find(|line| line.contains("\"rest_client\", \"curl_timeout\"")).unwrap();
    let seconds: u32 = set.split([',', ')']).nth(2).unwrap().trim().parse().unwrap();
    assert!(seconds >= 2, "{set}: its clock ticks once a second, so that 1 is anything down to nothing");
    assert!(read("opensips/README.md").contains("2 is 1.1 to 2.1 s"));
    let page = read("freeswitch/README.md");
    for said in ["`append_headers 'Authorization: Bearer ush_node_", "**and `secure`** behind them"] {
        assert!(page.contains(said), "{said}");
    }
}

#[test]
fn every_pbx_has_a_page_and_a_line_in_the_index() {
    let index = read("README.md");
    for entry in std::fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !entry.path().is_dir() {
            continue;
        }
        assert!(index.contains(&format!("]({name}/")), "config/pbx/README.md has no link to {name}/");
        if name != "node" {
            let page = read(&format!("{name}/README.md"));
            for section in ["## Set up", "hung", "## Check it"] {
                assert!(page.contains(section), "{name}/README.md says nothing of `{section}`");
            }
        }
    }
}

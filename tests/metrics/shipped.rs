//! The rules and dashboards that are shipped: Prometheus takes them, they ask for nothing that is not exported.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Scrape, full};

const RULES: &str = "config/prometheus/usherd.rules.yml";
const TESTS: [&str; 2] = ["config/prometheus/usherd.rules.test.yml", "config/prometheus/usherd.weeks.test.yml"];
const DASHBOARDS: [&str; 2] = ["config/grafana/usherd-fleet.json", "config/grafana/usherd-tenant.json"];
/// Labels that Prometheus and its service discovery add.
const OF_THE_TARGET: [&str; 3] = ["job", "instance", "shard"];
const WORDS: [&str; 10] = ["and", "or", "unless", "by", "without", "on", "offset", "bool", "inf", "nan"];

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let output = Command::new("promtool").args(arguments).args(files).output();
    let Ok(output) = output else { panic!("promtool is missing: install the Debian package `prometheus`") };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The values of a key of a YAML file as these are written: in its line, quoted or not, or as a block below it.
fn values(text: &str, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let own = line.trim_start_matches([' ', '-']);
        let Some(value) = own.strip_prefix(key).and_then(|rest| rest.strip_prefix(": ")) else { continue };
        let indent = line.len() - own.len();
        let mut whole = value.trim_matches(['\'', '|', '>', '-']).to_owned();
        while let Some(more) = lines.next_if(|next| next.len() - next.trim_start().len() > indent) {
            whole = format!("{whole}\n{}", more.trim());
        }
        found.push(whole.trim().to_owned());
    }
    found
}

/// The selectors of an expression: each name with the labels that it is narrowed by.
fn selectors(expr: &str) -> Vec<(String, Vec<String>)> {
    let mut plain = String::new();
    let mut quoted = false;
    for char in expr.chars() {
        quoted ^= char == '"';
        plain.push(if quoted { ' ' } else { char });
    }
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let (mut rest, mut grouping) = (plain.as_str(), false);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_:$.".contains(c))).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        match first {
            '{' | '[' => {
                let (inside, outside) = rest[1..].split_once(['}', ']']).unwrap();
                if let Some((_, labels)) = found.last_mut().filter(|_| first == '{') {
                    let names = inside.split(',').filter_map(|part| part.split(['=', '!']).next());
                    labels.extend(names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
                }
                rest = outside;
            }
            // What follows `by` and the like are labels.
            '(' if grouping => rest = rest.split_once(')').unwrap().1,
            _ if word.is_empty() => rest = &rest[first.len_utf8()..],
            _ => {
                let is_name = first.is_ascii_alphabetic() || first == '_' || first == ':';
                let is_word = WORDS.contains(&word.to_ascii_lowercase().as_str());
                let is_called = ["(", "by (", "without ("].iter().any(|next| after.starts_with(next));
                if is_name && !is_word && !is_called {
                    found.push((word.to_owned(), Vec::new()));
                }
                rest = after;
                grouping = ["by", "without", "on"].contains(&word);
                continue;
            }
        }
        grouping = false;
    }
    found
}

/// The series that may be asked for: of a scrape, of the recording rules, and whether a target answered.
struct Known {
    scrape: Scrape,
    records: BTreeSet<String>,
}

impl Known {
    fn new() -> Self {
        Known { scrape: full(), records: values(&read(RULES), "record").into_iter().collect() }
    }

    fn check(&self, place: &str, expr: &str) {
        let selectors = selectors(expr);
        assert!(!selectors.is_empty(), "{place}: nothing is asked for in {expr}");
        for (name, labels) in selectors {
            if name == "up" || self.records.contains(&name) {
                continue;
            }
            let own: BTreeSet<&str> = (self.scrape.labels.iter())
                .filter(|(series, _)| *series == name)
                .flat_map(|(_, labels)| labels.iter().map(|(label, _)| label.as_str()))
                .chain(OF_THE_TARGET)
                .collect();
            assert!(self.scrape.labels.iter().any(|(series, _)| *series == name), "{place}: no scrape has {name}");
            for label in labels {
                assert!(own.contains(label.as_str()), "{place}: {name} has no label {label}");
            }
        }
    }
}

fn dashboard(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

/// Every expression of a dashboard, with the title of its panel; variables as they may be filled in.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| {
            let expr = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
            (title.clone(), expr)
        })
    };
    panels(dashboard).iter().flat_map(of_panel).collect()
}

#[test]
fn selectors_are_found_and_nothing_else() {
    let expr = r#"sum by (a, b) (rate(x_total{c=~"d|e{f}", g!="h"}[5m] offset 1d)) / on (job) group:y:max7d > 0.9 or vector(0)"#;
    let expected = [("x_total", vec!["c", "g"]), ("group:y:max7d", vec![])];
    let expected = expected.map(|(name, labels)| (name.to_owned(), labels.into_iter().map(str::to_owned).collect()));
    assert_eq!(selectors(expr), expected);
}

#[test]
fn the_shipped_rules_are_rules_and_do_what_their_tests_say() {
    promtool(&["check", "rules"], &[path(RULES)]);
    promtool(&["test", "rules"], &TESTS.map(path));
}

#[test]
fn the_shipped_rules_ask_for_what_is_exported() {
    let known = Known::new();
    let exprs = values(&read(RULES), "expr");
    assert!(exprs.len() > 20, "{}", exprs.len());
    for expr in exprs {
        known.check(RULES, &expr);
    }
    for file in TESTS {
        for expr in [values(&read(file), "series"), values(&read(file), "expr")].concat() {
            known.check(file, &expr);
        }
    }
}

#[test]
fn every_shipped_alert_says_what_to_do_and_was_seen_to_fire() {
    let rules = read(RULES);
    let tests = TESTS.map(read).concat();
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert_eq!(alerts.len(), 23);
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        for key in ["severity", "summary", "description"] {
            assert!(values(alert, key).first().is_some_and(|value| !value.is_empty()), "{name} has no {key}");
        }
        let tested = format!("alertname: {name}\n");
        let mut cases = tests.split(&tested).skip(1);
        assert!(cases.any(|case| case.trim_start().starts_with("exp_alerts:")), "no test lets {name} fire");
    }
}

#[test]
fn the_shipped_dashboards_can_be_imported_as_they_are() {
    let mut uids = BTreeSet::new();
    for file in DASHBOARDS {
        let dashboard = dashboard(file);
        assert!(dashboard.get("id").is_none(), "{file}: an id belongs to one Grafana");
        assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{file}");
        assert!(dashboard["schemaVersion"].as_u64() >= Some(39), "{file}");
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert_eq!((&variables[0]["name"], &variables[0]["type"]), (&json!("datasource"), &json!("datasource")));
        let mut ids = BTreeSet::new();
        for panel in panels(&dashboard) {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: two panels have the id {}", panel["id"]);
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            assert!(panel["type"] == "row" || !targets.is_empty(), "{file}: {} shows nothing", panel["title"]);
            for asks in targets.iter().chain([panel].into_iter().filter(|panel| panel["type"] != "row")) {
                assert_eq!(asks["datasource"]["uid"], "${datasource}", "{file}: {}", panel["title"]);
            }
        }
    }
}

#[test]
fn the_shipped_dashboards_ask_for_what_is_exported() {
    let known = Known::new();
    let mut rules = Vec::new();
    for file in DASHBOARDS {
        let dashboard = dashboard(file);
        for (title, expr) in expressions(&dashboard) {
            known.check(&format!("{file}: {title}"), &expr);
            rules.push(json!({ "record": format!("expression:{}", rules.len()), "expr": expr }));
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let query = variable["query"]["query"].as_str().unwrap_or_default();
            if let Some((selector, _)) = query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(',')) {
                known.check(file, selector);
            }
        }
    }
    // JSON is YAML, and a dashboard's expressions are checked as rules.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboards.yml");
    std::fs::write(&file, json!({ "groups": [{ "name": "dashboards", "rules": rules }] }).to_string()).unwrap();
    promtool(&["check", "rules"], &[file]);
}

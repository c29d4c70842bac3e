//! The page of the rules is put to the daemon row by row, and its stories to the engine.

use usherd_testkit::http::Client;
use usherd_testkit::page::Page;
use usherd_testkit::process::Site;
use usherd_testkit::rules::real::Real;
use usherd_testkit::rules::script::{Row, check};

/// Columns of the table, as its head has them.
const HEAD: [&str; 8] = [
    "situation",
    "asked as",
    "a seat is free",
    "all are taken",
    "has a seat already",
    "contract ended",
    "whose seat, and until when",
    "rule",
];

/// Rules of the rule book that the page explains, by their letters.
const RULES: [(char, u32); 7] = [('A', 6), ('B', 7), ('C', 20), ('D', 7), ('E', 4), ('F', 8), ('G', 10)];

/// A column: its place, the states that it names as tenants, and what their files say.
const STATES: [(usize, &str, &str); 4] = [
    (2, "free", "kind = \"nfr\"\nseats = 2\n"),
    (3, "taken", "kind = \"nfr\"\nseats = 1\n"),
    (4, "held", "kind = \"nfr\"\nseats = 1\n"),
    (5, "ended", "kind = \"paid\"\nstart = \"2020-01-01\"\nseats = 2\ncancel_at = \"2021-01-01\"\n"),
];

/// A row of the table as the test puts it to a daemon.
struct Situation {
    line: usize,
    cells: Vec<String>,
    /// Fields of the request, as in a form.
    fields: String,
    /// Lines for `[sessions]` of the tenant's file.
    keys: String,
}

fn situations(page: &Page) -> Vec<Situation> {
    let rows = page.table(&HEAD);
    let of = |(line, cells): (usize, Vec<String>)| {
        let codes: Vec<&str> = cells[1].split('`').skip(1).step_by(2).collect();
        let fields = codes[0].split_whitespace().collect::<Vec<_>>().join("&");
        let keys = codes[1..].iter().map(|key| format!("{key}\n")).collect();
        Situation { line, fields, keys, cells }
    };
    rows.into_iter().map(of).collect()
}

/// The answer that a cell names.
fn answer(cell: &str) -> &str {
    cell.trim_matches('`')
}

fn acquire(client: &mut Client, tenant: &str, subject: &str, session: &str, fields: &str) -> String {
    let body = format!("tenant={tenant}&subject={subject}&session={session}&ttl_s=600&{fields}");
    let answer = client.post("/v1/acquire", &body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    answer.body
}

#[test]
fn every_row_of_the_table_is_what_the_daemon_answers() {
    let page = Page::read("docs/rules.md");
    let situations = situations(&page);
    assert!(situations.len() >= 30, "{} rows", situations.len());
    let site = Site::new("", &[]);
    for (number, situation) in situations.iter().enumerate() {
        for (_, state, file) in STATES {
            let id = format!("{state}-{number}");
            site.tenant(&id, &format!("id = \"{id}\"\n{file}\n[sessions]\n{}", situation.keys));
        }
    }
    let daemon = site.start();
    let mut client = daemon.client();
    let mut wrong = Vec::new();
    for (number, situation) in situations.iter().enumerate() {
        for (column, state, _) in STATES {
            let tenant = format!("{state}-{number}");
            match state {
                "taken" => assert_eq!(acquire(&mut client, &tenant, "bob", "d0", "kind=desktop"), "allow.new"),
                "held" => assert_eq!(acquire(&mut client, &tenant, "anna", "d0", "kind=desktop"), "allow.new"),
                _ => {}
            }
            let wanted = answer(&situation.cells[column]);
            let got = acquire(&mut client, &tenant, "anna", "s1", &situation.fields);
            let place = format!("docs/rules.md:{}: {} ({state})", situation.line, situation.cells[0]);
            if got != wanted {
                wrong.push(format!("{place}: {got}, and the page says {wanted}"));
            }
            let released = client.post("/v1/release", &format!("tenant={tenant}&session=s1")).body;
            let end = match got.split(' ').next().unwrap() {
                "allow.new" | "allow.over" => "released.last",
                "allow.held" => "released.more",
                _ => "released.none",
            };
            if released != end {
                wrong.push(format!("{place}: its end is {released}, not {end}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_names_its_rules() {
    let page = Page::read("docs/rules.md");
    for situation in situations(&page) {
        let rules = situation.cells[7].split([' ', ',']).filter(|rule| !rule.is_empty());
        for rule in rules {
            let known = rule.starts_with(|sign: char| "ABCDEFGHJU".contains(sign)) && rule[1..].parse::<u32>().is_ok();
            assert!(known, "docs/rules.md:{}: `{rule}` is no rule", situation.line);
        }
    }
}

#[test]
fn every_rule_about_seats_is_on_the_page() {
    let page = Page::read("docs/rules.md");
    let words: Vec<&str> = page.text().split(|sign: char| !sign.is_alphanumeric()).collect();
    for (letter, last) in RULES {
        for number in 1..=last {
            let rule = format!("{letter}{number}");
            assert!(words.contains(&rule.as_str()), "docs/rules.md does not name {rule}");
        }
    }
}

#[test]
fn every_story_happens_in_the_engine() {
    let page = Page::read("docs/rules.md");
    let blocks = page.blocks();
    let stories: Vec<_> = blocks.iter().filter(|block| block.info == "story").collect();
    assert!(stories.len() >= 8, "{} stories", stories.len());
    for story in stories {
        // A test's process ends soon after; the rows of the rule book are constants, and this is one of them.
        let id = format!("docs/rules.md:{}", story.line).leak();
        let row = Row { id, rules: "", script: story.body.clone().leak() };
        check(&row, |limits| Box::new(Real::new(limits)));
    }
}

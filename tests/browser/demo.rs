//! The demonstration as people meet it: its office fills while its page is looked at, by a clock that hurries.

use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::Signal;
use serde_json::{Value, json};
use usherd_testkit::demo::Demo;
use usherd_testkit::wait::eventually;

use super::page::Page;

const OVERVIEW: &str = "/v1/overview";
const TENANT: &str = "/v1/tenants/office-lindenhof";

fn instant(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// Waits until an element of the page tells what the daemon tells, and returns that: seats move meanwhile, so the
/// daemon is asked before and after.
fn agreed(page: &Page, demo: &Demo, path: &str, element: &str, told: impl Fn(&Value) -> String) -> String {
    eventually(&format!("{element} to tell what {path} tells"), || {
        let before = told(&demo.get(path));
        let shown = page.js(&format!("return document.getElementById({element:?})?.textContent"));
        let is_shown = shown.as_str().is_some_and(|text| text.contains(&before));
        (is_shown && told(&demo.get(path)) == before).then_some(before)
    })
}

fn seats(answer: &Value) -> String {
    format!("{} of {}", answer["held"], answer["quota"])
}

/// Waits until other seats are in use than these, and the page says so.
fn other_seats(page: &Page, demo: &Demo, path: &str, before: &str) {
    eventually("other seats in use", || (agreed(page, demo, path, "held", seats) != before).then_some(()));
}

/// Every instant that is shown, but those of contracts, is of this day and not ahead of the daemon; and it is told as
/// one of this day, but for the age of the configuration.
fn assert_times_are_of(page: &Page, demo: &Demo, day: DateTime<Utc>) {
    let shown = page
        .js("return [...document.querySelectorAll('main time')].filter((node) => !node.title.startsWith('in '))\
         .map((node) => [node.dateTime, node.textContent, Boolean(node.closest('[data-key=config]'))])");
    let now = instant(&demo.get(OVERVIEW)["at"]);
    let shown = shown.as_array().unwrap();
    assert!(shown.len() >= 3, "{shown:?}");
    for time in shown {
        let at = instant(&time[0]);
        assert!(day <= at && at <= now, "{time} at {now}");
        assert!(time[2] == true || time[1].as_str().unwrap().len() <= "08:00:00".len(), "{time} at {now}");
    }
}

#[test]
fn the_office_fills_on_its_page_by_its_own_clock() {
    let mut demo = Demo::start(&["--from", "08:30"]);
    demo.wait_for("dashboard");
    let opened = instant(&demo.get(OVERVIEW)["at"]);
    let midnight = opened - TimeDelta::minutes(8 * 60 + 30);
    let page = Page::open(demo.address().parse().unwrap(), "#/");
    page.until_text("#live-text", "live");
    let first = agreed(&page, &demo, OVERVIEW, "held", seats);
    page.js("window.untouched = true");
    other_seats(&page, &demo, OVERVIEW, &first);
    page.until_text("[data-key=fullest]", "Lindenhof");
    assert_times_are_of(&page, &demo, midnight);
    page.picture("demo-fleet");

    page.go("#/tenant/office-lindenhof");
    page.until_text("[data-key=holders]", "since");
    page.until("document.querySelector('#chart .c-peak')");
    let second = agreed(&page, &demo, TENANT, "held", seats);
    agreed(&page, &demo, &format!("{TENANT}/usage"), "curve-summary", |usage| {
        let peak = &usage["total"]["peak"];
        format!("At most {peak} seat{} in use at once", if peak == 1 { "" } else { "s" })
    });
    // Its slots are five minutes of the daemon's, which are seconds here.
    let slots = page.js("return document.getElementById('chart').ariaValueMax");
    page.until(&format!("Number(document.getElementById('chart').ariaValueMax) > {}", slots.as_str().unwrap()));
    other_seats(&page, &demo, TENANT, &second);
    assert_times_are_of(&page, &demo, midnight);
    page.picture("demo-tenant");

    let now = instant(&demo.get(OVERVIEW)["at"]);
    let asked = page
        .js("return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).searchParams)\
         .filter((query) => query.has('step')).map((query) => [query.get('step'), query.get('from')])");
    let asked = asked.as_array().unwrap();
    assert!(asked.len() >= 3, "{asked:?}");
    for query in asked {
        let days = if query[0] == "5m" { 1 } else { 7 };
        let to = instant(&query[1]) + TimeDelta::days(days);
        assert!(opened <= to && to <= now, "{query} was asked between {opened} and {now}");
    }
    assert_eq!(page.js("return window.untouched"), json!(true), "nothing was loaded anew");
    page.is_clean(&[]);
    drop(page);
    assert_eq!(demo.stop(Signal::TERM).code(), Some(0), "{}", demo.said);
}

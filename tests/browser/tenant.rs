//! A tenant: who holds a seat and why, what is booked, its decisions explained, and all of it by keyboard.

use std::process::Command;

use serde_json::{Value, json};

use super::page::Page;
use super::{acquire, fill, site};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
const LEFT: &str = "\u{e012}";

/// Tabs until the focus is on something that a script accepts.
fn tab_to(page: &Page, wanted: &str) {
    for _ in 0..80 {
        if page.js(&format!("const at = document.activeElement; return {wanted}")) == true {
            return;
        }
        page.press(TAB);
    }
    panic!("no key leads to {wanted}: {}", page.text());
}

#[test]
fn a_tenant_is_reached_read_and_explained_by_keyboard_alone() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    let page = Page::open(daemon.address(), "#/");
    page.until_text("#live-text", "live");
    page.until_text("[data-key=fullest]", "Hotel Seeblick");
    page.press(TAB);
    assert_eq!(page.js("return document.activeElement.textContent"), "Skip to the content");
    tab_to(&page, "at.textContent === 'Hotel Seeblick'");
    page.press(ENTER);
    page.until_text("h1", "Hotel Seeblick");
    page.until("document.activeElement.nodeName === 'H1'");
    page.until_text("#held", "3 of 3");
    for (subject, what) in
        [("anna", "desktop client"), ("anna", "outbound call"), ("bernd", "desktop client"), ("clara", "outbound call")]
    {
        page.until(&format!("[...document.querySelectorAll('[data-key=holders] tr')].some((row) => row.textContent.startsWith('{subject}') && row.textContent.includes('{what}'))"));
    }
    page.until_text("[data-key=inclusive]", "Phone numbers");
    page.until_text("[data-key=booked]", "1 Jan 2099");
    // The denial of before is in the list, for it was resumed; another one comes by itself.
    page.until_text("[data-key=decisions] tbody tr", "detlef");
    assert_eq!(acquire(&daemon, "hotel-seeblick", "hugo"), "deny.full tenant");
    page.until_text("[data-key=decisions] tbody tr:first-child", "hugo");
    page.until_text("#say", "Denied: hugo, no free seat.");
    tab_to(&page, "at.dataset.do === 'explain' && at.closest('tr').textContent.includes('hugo')");
    page.press(ENTER);
    page.until_text("dialog .tag", "deny.full tenant");
    page.until("document.querySelectorAll('dialog .steps li').length >= 5");
    page.until_text("dialog .steps li:last-child", "Without a free seat the request is denied D3 F6 F7");
    page.until_text("dialog .steps li:last-child", "3 of 3 seats held: full: tenant");
    page.until("document.querySelector('dialog .steps li:last-child a').href.endsWith('/rulebook.md#:~:text=%23%23%23%23%20D3')");
    page.until_text("dialog", "It would be allowed by: a seat that is given back; a larger quota.");
    page.picture("explain");
    page.press(ESCAPE);
    page.until("!document.querySelector('dialog').open && document.activeElement.dataset.do === 'explain'");
    page.picture("tenant");
    page.is_clean(&[]);
}

#[test]
fn the_curve_works_by_keyboard_and_warns_of_a_bad_change() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    let page = Page::open(daemon.address(), "#/tenant/hotel-seeblick");
    page.until_text("#curve-summary", "At most 3 seats in use at once");
    page.until_text(".notice", "2 seats from 1 Jan 2099. Would not fit: 3 seats were in use at once");
    page.until_text("[data-key=booked]", "does not fit");
    page.until("document.querySelector('.c-peak') && document.querySelector('.c-quota') && document.querySelector('.c-refused')");
    page.until_text("#readout", "at most 3 of 3 seats");
    page.js("document.getElementById('chart').focus()");
    page.press(LEFT);
    let told = page.js("const chart = document.getElementById('chart'); return [chart.role, chart.ariaValueText === document.getElementById('readout').textContent]");
    assert_eq!(told, json!(["slider", true]));
    page.click("[data-span=week]");
    page.until_text("[data-span=week][aria-pressed=true]", "7 days");
    page.until("document.querySelector('[data-key=curve] table caption').textContent === 'Seats over time'");
    page.picture("curve");
    page.is_clean(&[]);
}

#[test]
fn a_reader_whose_clock_is_wrong_sees_the_daemons_time() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    let page = Page::open(daemon.address(), "#/");
    for days in [3, -3] {
        let skewed = format!("const real = Date.now; Date.now = () => real() + {days} * 86400e3;");
        let script = page.chromium("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": skewed }));
        page.go("#/tenant/hotel-seeblick");
        page.js("location.reload()");
        page.until_text("#curve-summary", "At most 3 seats in use at once");
        page.until("document.querySelector('#chart .c-peak')");
        // Of today is told by the hour, what is older with its date.
        page.until("document.querySelector('[data-key=decisions] time')");
        let told = page.js(
            "return [...document.querySelectorAll('[data-key=decisions] time')].map((node) => node.textContent.length)",
        );
        assert!(told.as_array().unwrap().iter().all(|length| length == 8), "{days} days: {}", page.text());
        // What happens now is said, what was before is not.
        assert_eq!(acquire(&daemon, "hotel-seeblick", &format!("hugo{days}")), "deny.full tenant");
        page.until_text("#say", &format!("Denied: hugo{days}, no free seat."));
        page.go("#/");
        page.until_text("[data-key=denials] time", ":");
        let told = page.js("return document.querySelector('[data-key=denials] time').textContent.length");
        assert_eq!(told, 8, "{days} days: {}", page.text());
        page.chromium("Page.removeScriptToEvaluateOnNewDocument", &json!({ "identifier": script["identifier"] }));
    }
    page.is_clean(&[]);
}

#[test]
fn what_is_copied_as_curl_runs_in_a_shell() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    acquire(&daemon, "hotel-seeblick", "o'brien%20%26%20sons");
    let page = Page::open(daemon.address(), "#/tenant/hotel-seeblick");
    page.chromium(
        "Browser.grantPermissions",
        &json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] }),
    );
    page.until_text("[data-key=decisions] tbody tr:first-child", "o'brien & sons");
    let shell = |command: &Value| -> Value {
        let output = Command::new("sh").args(["-c", command.as_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{command}: {error}: {output:?}"))
    };
    let of = |place: &str| page.js(&format!("return document.querySelector('{place} [data-do=copy]').dataset.curl"));
    assert_eq!(shell(&of(".head"))["held"], 3);
    let explained = shell(&of("[data-key=decisions] tbody tr:first-child"));
    assert_eq!((&explained["code"], &explained["detail"]), (&json!("deny.full"), &json!("tenant")));
    page.click(".head [data-do=copy]");
    page.until_text("#say", "Copied.");
    page.is_clean(&[]);
}

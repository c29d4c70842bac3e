//! The fleet: its numbers, live; search; what it says when the daemon is gone.

use serde_json::json;
use usherd_testkit::process::{Usherd, own_ip};

use super::page::Page;
use super::{acquire, fill, site};

fn opened(daemon: &Usherd) -> Page {
    let page = Page::open(daemon.address(), "#/");
    page.until_text("h1", "Fleet");
    page.until_text("#live-text", "live");
    page
}

#[test]
fn the_fleet_shows_its_numbers_and_they_live() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    let page = opened(&daemon);
    page.until_text("#held", "4 of 18");
    page.until_text("[data-key=fullest] tbody tr:first-child", "Hotel Seeblick");
    page.until_text("[data-key=fullest] tbody tr:first-child", "3 / 3");
    page.until_text("[data-key=denials] tbody tr", "detlef");
    page.until_text("[data-key=denials] tbody tr", "no free seat");
    page.until_text("[data-key=nodes] tbody tr", "pbx-berlin");
    page.until_text("[data-key=config]", "Europe/Berlin");
    page.until_text("[data-key=config]", "1 Jan 2099: hotel-seeblick to 2 seats");
    // Whoever looks does not have to look again: no reload, the focus stays, and it is told to who listens.
    page.js("window.untouched = true; document.querySelector('[data-key=fullest] a').focus()");
    assert_eq!(acquire(&daemon, "office-lindenhof", "fritz"), "allow.new");
    page.until_text("#held", "5 of 18");
    assert_eq!(acquire(&daemon, "hotel-seeblick", "gustav"), "deny.full tenant");
    page.until_text("[data-key=denials] tbody tr:first-child", "gustav");
    page.until_text("#say", "new denial, the latest for hotel-seeblick");
    assert_eq!(
        page.js("return [window.untouched, document.activeElement.textContent]"),
        json!([true, "Hotel Seeblick"])
    );
    page.picture("fleet");
    page.is_clean(&[]);
}

#[test]
fn a_search_finds_by_id_and_by_name_and_opens_the_only_one() {
    let site = site("");
    let daemon = site.start();
    let page = opened(&daemon);
    page.press("/");
    assert_eq!(page.js("return document.activeElement.id"), "search");
    page.press("LINDEN");
    page.until_text("h1", "Tenants");
    page.until_text("[data-key=list] tbody", "Büro Lindenhof");
    assert_eq!(
        page.js("return [document.querySelectorAll('[data-key=list] tbody tr').length, document.activeElement.id]"),
        json!([1, "search"])
    );
    page.picture("search");
    page.press("\u{e007}");
    page.until_text("h1", "Büro Lindenhof");
    page.go("#/tenants?band=idle");
    page.until("document.querySelectorAll('[data-key=list] tbody tr').length === 3");
    page.go("#/tenants?search=nobody-has-this");
    page.until_text("[data-key=list]", "None. Try a part");
    page.is_clean(&[]);
}

#[test]
fn what_an_address_says_more_than_the_page_knows_is_passed_over() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    let page = Page::open(daemon.address(), "#/tenants?search=linden&utm_source=mail&limit=none&after=zz&Search=x");
    page.until_text("h1", "Tenants");
    page.until_text("[data-key=list] tbody", "Büro Lindenhof");
    page.is_clean(&[]);
}

#[test]
fn it_shows_a_silent_daemon_and_recovers_by_itself() {
    let site = site("");
    site.listen((own_ip(), 0).into());
    let daemon = site.start();
    fill(&daemon);
    site.listen(daemon.address());
    let page = opened(&daemon);
    page.until_text("#held", "4 of 18");
    daemon.kill();
    page.until_text("[role=alert]", "The daemon does not answer");
    page.until_text("#live-text", "connecting again");
    assert!(page.text().contains("4 of 18"), "what was known stays, and says from when it is");
    let _again = site.start();
    page.until_text("#live-text", "live");
    page.until("document.querySelector('[role=alert]') === null");
}

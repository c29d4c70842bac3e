//! Access to the page: a token where one is needed, and the names of people only with the right to them.

use usherd::daemon::access::auth::TokenHash;

use super::page::Page;
use super::{fill, site};

const ENTER: &str = "\u{e007}";

fn token(role: &str, letter: char) -> String {
    format!("ush_{role}_{}", letter.to_string().repeat(43))
}

fn entry(role: &str, letter: char, rest: &str) -> String {
    let hash = TokenHash::of(&token(role, letter)).to_hex();
    format!("[[auth.tokens]]\nid = \"{role}-{letter}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"\n{rest}\n")
}

/// Gives the form a token.
fn sign_in(page: &Page, token: &str) {
    page.until("document.getElementById('token') !== null");
    page.js("document.getElementById('token').value = ''; document.getElementById('token').focus()");
    page.press(&format!("{token}{ENTER}"));
}

#[test]
fn a_token_is_asked_for_and_people_show_only_with_the_right() {
    let main = [
        entry("node", 'n', ""),
        entry("viewer", 'a', ""),
        entry("viewer", 'b', "names = true"),
        entry("viewer", 'c', "tenants = [\"office-lindenhof\"]"),
    ];
    let site = site(&main.concat());
    let daemon = site.start();
    let as_node = |form: &str| {
        let request = format!(
            "POST /v1/acquire HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            token("node", 'n'),
            form.len()
        );
        let mut client = daemon.client();
        client.send(request.as_bytes()).unwrap();
        client.answer().unwrap().body
    };
    for subject in ["anna", "bernd", "clara", "detlef"] {
        as_node(&format!("tenant=hotel-seeblick&subject={subject}&session=desk-{subject}&kind=desktop&ttl_s=3600"));
    }
    let page = Page::open(daemon.address(), "#/tenant/hotel-seeblick");
    page.until_text("h1", "A token is required");
    page.picture("token");
    sign_in(&page, "ush_viewer_wrong");
    page.until_text("[role=alert]", "This token is not valid");
    sign_in(&page, &token("viewer", 'a'));
    page.until_text("#held", "3 of 3");
    page.until_text(".notice", "You see pseudonyms");
    page.until("document.querySelectorAll('[data-key=holders] tbody tr').length === 3");
    page.until_text("[data-key=decisions]", "denied");
    for name in ["anna", "bernd", "clara", "detlef"] {
        assert!(!page.js("return document.documentElement.outerHTML").as_str().unwrap().contains(name), "{name} shows");
    }
    // The pseudonym can be asked about, and is told by the same pseudonym.
    page.click("[data-key=decisions] [data-do=explain]");
    page.until_text("dialog .steps", "3 of 3 seats held: full: tenant");
    page.picture("pseudonyms");
    page.press("\u{e00c}");
    page.click("#sign-out");
    sign_in(&page, &token("viewer", 'b'));
    page.until_text("[data-key=holders]", "anna");
    assert_eq!(
        page.js("return [Object.keys(localStorage).length, Object.keys(sessionStorage).join()]"),
        serde_json::json!([0, "usherd.token"])
    );
    page.click("#sign-out");
    page.go("#/");
    sign_in(&page, &token("viewer", 'c'));
    page.until_text(".notice", "Your token is for these tenants only");
    page.until("document.querySelectorAll('[data-key=list] tbody tr').length === 1");
    // The browser itself notes each 401; nothing else.
    page.is_clean(&["401 (Unauthorized)"]);
}

#[test]
fn a_page_that_rebinds_its_name_to_this_machine_reads_nothing() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    let page = Page::open(daemon.address(), "#/");
    page.until_text("#held", "4 of 18");
    let port = daemon.address().port();
    page.js(&format!("location.href = 'http://rebound.example:{port}/'"));
    page.until_text("h1", "A token is required");
    let told = page.until("document.querySelector('[role=alert]')?.textContent");
    let told = told.as_str().unwrap();
    assert!(told.contains(&format!("rebound.example:{port}")) && told.contains("server.names"), "{told}");
    for path in ["v1/overview", "v1/tenants", "v1/tenants/hotel-seeblick/sessions", "v1/events", "v1/admin/config"] {
        let asked = page.js(&format!(
            "const asked = new XMLHttpRequest(); asked.open('GET', '{path}', false); asked.send(); \
             return [location.hostname, asked.status, asked.responseText.includes('seeblick')]"
        ));
        assert_eq!(asked, serde_json::json!(["rebound.example", 401, false]), "{path}");
    }
    page.picture("rebound");
}

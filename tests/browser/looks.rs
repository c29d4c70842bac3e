//! Light and dark, a phone, names for who cannot see: read off what the browser really draws.

use serde_json::json;

use super::page::Page;
use super::{fill, site};

/// Every text that shows with less contrast against its ground than WCAG AA asks for: 4.5, or 3 for large ones.
const FAINT: &str = r"
const rgb = (color) => { const c = document.createElement('canvas').getContext('2d', { willReadFrequently: true }); c.fillStyle = color; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
const light = (color) => { const [r, g, b] = rgb(color).slice(0, 3).map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (node) => { for (let at = node; at; at = at.parentElement) { const color = getComputedStyle(at).backgroundColor; if (rgb(color)[3] === 255) return color; } return 'white'; };
const found = new Set(); let seen = 0;
for (const node of document.body.querySelectorAll('*')) {
  const writes = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  if (!writes || !node.checkVisibility() || node.closest('.hidden, .skip, svg')) continue;
  const style = getComputedStyle(node), [a, b] = [light(style.color), light(ground(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), large = parseFloat(style.fontSize) >= 24;
  seen += 1;
  if (ratio < (large ? 3 : 4.5)) found.add(`${node.nodeName}.${node.className} ${ratio.toFixed(2)} ${style.color} on ${ground(node)}`);
}
return [seen > 15, ...found];";

/// Finds controls without a name, tables without a caption, and heading levels that are left out.
const NAMELESS: &str = r"
const found = [];
for (const node of document.querySelectorAll('a, button, input, textarea, [role=slider], [role=region], meter')) {
  const name = node.ariaLabel || node.labels?.[0]?.textContent || (node.nodeName === 'INPUT' ? '' : node.textContent);
  if (!name?.trim()) found.push(node.outerHTML.slice(0, 90));
}
for (const table of document.querySelectorAll('table')) if (!table.caption?.textContent.trim() || table.querySelector('thead th:not([scope])')) found.push(`table ${table.textContent.slice(0, 60)}`);
let level = 0;
for (const heading of document.querySelectorAll('main h1, main h2, main h3')) { const own = Number(heading.nodeName[1]); if (own > level + 1) found.push(`heading ${heading.textContent}`); level = own; }
if (document.querySelectorAll('h1').length !== 1) found.push('not one h1');
const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
found.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `twice #${id}`));
for (const landmark of ['header', 'main', 'footer', '[role=search]', '[aria-live=polite]']) if (!document.querySelector(landmark)) found.push(`no ${landmark}`);
if (!document.documentElement.lang) found.push('no lang');
return found;";

const PLACES: [(&str, &str, &str); 3] = [
    ("fleet", "#/", "[data-key=fullest] tbody a"),
    ("tenant", "#/tenant/hotel-seeblick", "[data-key=decisions] [data-do=explain]"),
    ("list", "#/tenants?search=o", "[data-key=list] tbody a"),
];

#[test]
fn both_themes_can_be_read_and_everything_has_a_name() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    let page = Page::open(daemon.address(), "#/");
    for scheme in ["light", "dark"] {
        page.prefer(scheme);
        for (name, place, shown) in PLACES {
            page.go(place);
            page.until(&format!("document.querySelector({shown:?}) !== null"));
            assert_eq!(page.js(FAINT), json!([true]), "{scheme} {name}");
            assert_eq!(page.js(NAMELESS), json!([]), "{scheme} {name}");
            page.picture(&format!("{name}-{scheme}"));
        }
    }
    // The button wins over the system, and is remembered.
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let dark = page.js(ground);
    page.click("#theme");
    page.until_text("#theme", "Theme: light");
    assert_ne!(page.js(ground), dark);
    page.js("location.reload()");
    page.until_text("#theme", "Theme: light");
    assert_ne!(page.js(ground), dark);
    page.is_clean(&[]);
}

#[test]
fn it_fits_a_phone_without_scrolling_sideways() {
    let site = site("");
    let daemon = site.start();
    fill(&daemon);
    let page = Page::open(daemon.address(), "#/");
    page.size(375, 740, true);
    for (name, place, shown) in PLACES {
        page.go(place);
        page.until(&format!("document.querySelector({shown:?}) !== null"));
        assert_eq!(page.js("return [innerWidth, document.documentElement.scrollWidth]"), json!([375, 375]), "{name}");
        let beyond = page.js("return [...document.querySelectorAll('main *')].filter((node) => !node.closest('.scroll, svg, .hidden') && node.getBoundingClientRect().right > 376).map((node) => node.outerHTML.slice(0, 80))");
        assert_eq!(beyond, json!([]), "{name}");
        page.picture(&format!("{name}-375"));
    }
    page.is_clean(&[]);
}

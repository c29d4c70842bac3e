//! `[[webhook]]`: who is told of what happens, by a signed request of the daemon's own.

use std::net::IpAddr;

use usherd_engine::session::{Name, check_tenant};

use super::reader::Table;
use super::value::{Cx, Item, any_tenant, quoted};
use super::words::{HookType, ProblemCode};

/// Most `[[webhook]]` tables: each may hold a queue of its own.
pub const WEBHOOKS_MAX: usize = 32;

const SECRET_HELP: &str = "write it into a file that only the daemon may read, as `usherd webhook secret` prints it, \
                           and name that as secret_file";
const URL_HELP: &str = "write https://HOST[:PORT]/PATH without a user; http:// only for this machine itself, or with \
                        insecure = true";

/// `[[webhook]]`: one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The name in logs, the API and the files of the queue.
    pub name: Name,
    /// Where it is told.
    pub url: String,
    /// File with what it is signed by, relative to `usherd.toml`.
    pub secret_file: String,
    /// PEM file of the authorities of its certificate; empty: those of the machine.
    pub ca_file: String,
    /// The types of messages that it is sent.
    pub types: Vec<HookType>,
    /// Of which tenants; empty: of all, and of the daemon itself.
    pub tenants: Vec<Name>,
    /// True if messages name subjects and sessions.
    pub names: bool,
    /// True if messages may be sent in the clear.
    pub insecure: bool,
    /// True if it is sent any messages.
    pub enabled: bool,
    /// For connecting, and for the whole try, seconds.
    pub timeout_s: u32,
    /// How long a message is tried again, seconds.
    pub retry_for_s: u32,
    /// Most messages that wait.
    pub queue_max: u32,
    /// Most messages about denials, and as many about emergency calls, a minute; the rest is counted in one more.
    pub denied_per_minute_max: u32,
}

impl Default for Webhook {
    fn default() -> Self {
        Webhook {
            name: Name::default(),
            url: String::new(),
            secret_file: String::new(),
            ca_file: String::new(),
            types: HookType::DEFAULT.to_vec(),
            tenants: Vec::new(),
            names: false,
            insecure: false,
            enabled: true,
            timeout_s: 15,
            retry_for_s: 259_200,
            queue_max: 1_000,
            denied_per_minute_max: 60,
        }
    }
}

impl Webhook {
    /// True if it is told of a thing of this type; `tenant` is empty for the daemon itself, which names
    /// everybody: then only who may hear of all is told (I29).
    pub fn takes(&self, kind: HookType, tenant: &str) -> bool {
        self.enabled
            && self.types.contains(&kind)
            && (self.tenants.is_empty() || self.tenants.iter().any(|own| own == tenant))
    }

    /// The address without what may be secret in it.
    pub fn shown_url(&self) -> String {
        shown_url(&self.url)
    }
}

fn shown_url(url: &str) -> String {
    let (plain, query) = url.split_once('?').map_or((url, false), |(plain, _)| (plain, true));
    let scheme_end = plain.find("://").map_or(0, |at| at + 3);
    let host_end = plain[scheme_end..].find('/').map_or(plain.len(), |at| scheme_end + at);
    let host_at = plain[scheme_end..host_end].rfind('@').map_or(scheme_end, |at| scheme_end + at + 1);
    format!("{}{}{}", &plain[..scheme_end], &plain[host_at..], if query { "?..." } else { "" })
}

/// Reads one table.
pub(super) fn read(cx: &mut Cx<'_>, mut table: Table<'_, '_>, hooks: &mut Vec<Webhook>) {
    let mut hook = Webhook::default();
    let named = read_name(cx, &mut table, hooks, &mut hook);
    let url = table.item("url");
    if url.is_none() {
        table.missing(cx, "url", URL_HELP);
    }
    table.text(cx, "secret_file", &mut hook.secret_file);
    if let Some(item) = table.item("secret") {
        // Whatever stands in this file is kept as the last good one, compared and shown.
        let problem = cx.fault(&item.span, &item.key_path, format!("`{}` must not stand in this file", item.key_path));
        cx.problems.push(problem.help(SECRET_HELP).without_excerpt());
    } else if hook.secret_file.is_empty() {
        table.missing(cx, "secret_file", SECRET_HELP);
    }
    table.text(cx, "ca_file", &mut hook.ca_file);
    table.words(cx, "types", &mut hook.types);
    table.texts(cx, "tenants", &mut hook.tenants, any_tenant);
    table.flag(cx, "names", &mut hook.names);
    table.flag(cx, "insecure", &mut hook.insecure);
    table.flag(cx, "enabled", &mut hook.enabled);
    table.int(cx, "timeout_s", 1..=60, &mut hook.timeout_s);
    table.int(cx, "retry_for_s", 0..=604_800, &mut hook.retry_for_s);
    table.int(cx, "queue_max", 1..=100_000, &mut hook.queue_max);
    table.int(cx, "denied_per_minute_max", 1..=10_000, &mut hook.denied_per_minute_max);
    if let Some(item) = url
        && let Some(url) = item.text(cx)
    {
        check_url(cx, &item, &url, hook.insecure);
        table.noted(cx, "url", || quoted(&shown_url(&url)));
        hook.url = url;
    }
    table.finish(cx);
    if named {
        hooks.push(hook);
    }
}

/// The name, which is that of files too; `false` where there is none that is good.
fn read_name(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, hooks: &[Webhook], hook: &mut Webhook) -> bool {
    let Some((name, item)) = table.text_opt(cx, "name") else {
        if !table.has("name") {
            table.missing(cx, "name", "write what logs and the command line shall call it");
        }
        return false;
    };
    let mut faults = Vec::new();
    check_tenant(&name, &mut faults);
    if !faults.is_empty() || name.starts_with('.') {
        let message = format!("`{}` is not the name of a webhook: {}", item.key_path, quoted(&name));
        item.wrong(cx, message, "a name is 1 to 64 of a-z 0-9 . _ - and begins with no dot");
        return false;
    }
    if hooks.iter().any(|other| other.name == name.as_str()) {
        let message = format!("there are two webhooks `{name}`");
        item.wrong_as(cx, ProblemCode::Duplicate, message, "give each webhook a name of its own");
        return false;
    }
    hook.name = name.as_str().into();
    true
}

fn check_url(cx: &mut Cx<'_>, item: &Item<'_, '_>, url: &str, insecure: bool) {
    let parsed = url.parse::<http::Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let wrong = match parsed.as_ref().map(|uri| (uri, uri.scheme_str())) {
        Some((uri, _)) if uri.authority().is_some_and(|host| host.as_str().contains('@')) => "holds a user or password",
        Some((_, Some("https"))) => return,
        Some((uri, Some("http"))) if insecure || uri.host().is_some_and(is_this_machine) => return,
        Some((_, Some("http"))) => "goes over the network in the clear",
        _ => "is not the address of a receiver over https",
    };
    let problem =
        cx.fault(&item.span, &item.key_path, format!("`{}` {wrong}: {}", item.key_path, quoted(&shown_url(url))));
    cx.problems.push(problem.help(URL_HELP).without_excerpt());
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_secret_in_it() {
        for (url, shown) in [
            ("https://a.example:8443/b/c", "https://a.example:8443/b/c"),
            ("https://a.example/b?code=secret", "https://a.example/b?..."),
            ("https://me:secret@a.example/b@c", "https://a.example/b@c"),
            ("https://a.example", "https://a.example"),
            ("me:secret@a.example/x", "a.example/x"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }

    #[test]
    fn who_hears_of_some_tenants_hears_of_nobody_else() {
        let all = Webhook::default();
        let some = Webhook { tenants: vec!["acme".into()], ..Webhook::default() };
        let off = Webhook { enabled: false, ..Webhook::default() };
        for (hook, tenant, takes) in [
            (&all, "acme", true),
            (&all, "", true),
            (&some, "acme", true),
            (&some, "b", false),
            (&some, "", false),
            (&off, "acme", false),
        ] {
            assert_eq!(hook.takes(HookType::Denied, tenant), takes, "{tenant:?}");
        }
        assert!(!all.takes(HookType::ConfigApplied, ""));
    }
}

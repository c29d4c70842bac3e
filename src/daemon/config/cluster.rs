//! `[cluster]`: the daemons that own a fleet together, and the etcd in which they keep it.

use std::path::Path;

use usherd_contract::file;
use usherd_engine::session::check_tenant;
use usherd_subscription::record::SEATS_MAX;

use super::reader::Table;
use super::value::{Cx, Item, quoted};
use super::words::{ClusterEngine, ClusterRecords, Durability, OnNoMajority, ProblemCode};

/// Most members of etcd that are asked.
pub const ENDPOINTS_MAX: usize = 9;
/// Shortest token of the daemons among themselves, characters.
pub const CLUSTER_TOKEN_CHARS_MIN: usize = 32;

/// Largest file with a token or a password, bytes.
const SECRET_BYTES_MAX: usize = 4 << 10;
/// Heartbeats in the time after which a shard is taken over: as many less one may be lost.
const HEARTBEATS_MIN: u32 = 4;

const NAME_HELP: &str = "a name is 1 to 64 of a-z 0-9 . _ -";
const URL_HELP: &str = "write http://HOST:PORT or https://HOST:PORT, without a user and a path";
const TOKEN_HELP: &str = "write at least 32 characters, the same for every member, into a file that only the daemon may \
                          read, as `openssl rand -hex 32` prints them, and name that as token_file";
const PASSWORD_HELP: &str = "write it into a file that only the daemon may read, and name that as password_file";

/// `[cluster]` (DESIGN 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The store in which the shards are kept.
    pub engine: ClusterEngine,
    /// The name of the cluster, with which its keys begin.
    pub name: String,
    /// The name of this daemon in it.
    pub member: String,
    /// URLs of the members of etcd.
    pub endpoints: Vec<String>,
    /// The URL at which the other daemons reach this one.
    pub advertise: String,
    /// Shards of the fleet; fixed when the cluster is created.
    pub shards: u32,
    /// Without a heartbeat of its owner for so long a shard is taken over, milliseconds.
    pub takeover_ms: u32,
    /// From one heartbeat to the next, milliseconds.
    pub heartbeat_ms: u32,
    /// PEM file of the authorities that etcd and the other daemons are checked by; empty: those of the machine.
    pub ca_file: String,
    /// PEM file of the certificate that this daemon shows etcd; empty: none.
    pub cert_file: String,
    /// PEM file of its private key.
    pub key_file: String,
    /// The user of etcd; empty: none.
    pub user: String,
    /// File with the password of the user.
    pub password_file: String,
    /// File with the token by which the daemons know each other.
    pub token_file: String,
    /// The answer for a new seat while etcd has no majority.
    pub on_no_majority: OnNoMajority,
    /// Most seats of a shard that are allowed meanwhile.
    pub provisional_max: u32,
    /// Where tenant records come from.
    pub records: ClusterRecords,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            engine: ClusterEngine::Etcd,
            name: String::new(),
            member: String::new(),
            endpoints: Vec::new(),
            advertise: String::new(),
            shards: 16,
            takeover_ms: 800,
            heartbeat_ms: 200,
            ca_file: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            user: String::new(),
            password_file: String::new(),
            token_file: String::new(),
            on_no_majority: OnNoMajority::Refuse,
            provisional_max: 10,
            records: ClusterRecords::Files,
        }
    }
}

impl Cluster {
    /// The token by which the daemons know each other; its file is relative to `folder`.
    ///
    /// # Errors
    /// A sentence that says why there is none, and never shows it.
    pub fn token(&self, folder: &Path) -> Result<String, String> {
        let token = secret(&folder.join(&self.token_file), "cluster.token_file")?;
        if token.chars().count() < CLUSTER_TOKEN_CHARS_MIN {
            let path = folder.join(&self.token_file);
            return Err(format!("cluster.token_file {} is too short to be a token; {TOKEN_HELP}", path.display()));
        }
        Ok(token)
    }

    /// The password of the user of etcd; empty where there is no user.
    ///
    /// # Errors
    /// As [`Cluster::token`].
    pub fn password(&self, folder: &Path) -> Result<String, String> {
        if self.user.is_empty() {
            return Ok(String::new());
        }
        secret(&folder.join(&self.password_file), "cluster.password_file")
    }
}

/// The only line of a file.
fn secret(path: &Path, key: &str) -> Result<String, String> {
    let wrong = |why: &str| format!("{key} {} {why}", path.display());
    let bytes = file::read(path, SECRET_BYTES_MAX).map_err(|why| wrong(&why.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
    let line = text.trim();
    if line.is_empty() || line.contains(char::is_control) {
        return Err(wrong("must hold one line of printable characters"));
    }
    Ok(line.to_owned())
}

/// Reads the section, where there is one.
pub(super) fn read(cx: &mut Cx<'_>, document: &mut Table<'_, '_>, durability: Durability) -> Option<Cluster> {
    if !document.has("cluster") {
        // Known all the same, for whoever writes it a little wrong.
        document.item("cluster");
        return None;
    }
    let mut table = document.table(cx, "cluster");
    let mut cluster = Cluster::default();
    table.word(cx, "engine", &mut cluster.engine);
    read_name(
        cx,
        &mut table,
        "name",
        &mut cluster.name,
        "write the same name for every member; its keys in etcd begin so",
    );
    read_name(cx, &mut table, "member", &mut cluster.member, "write a name that no other member has");
    read_addresses(cx, &mut table, &mut cluster);
    table.int(cx, "shards", 1..=64, &mut cluster.shards);
    read_times(cx, &mut table, &mut cluster);
    table.text(cx, "ca_file", &mut cluster.ca_file);
    table.text(cx, "cert_file", &mut cluster.cert_file);
    table.text(cx, "key_file", &mut cluster.key_file);
    table.text(cx, "user", &mut cluster.user);
    table.text(cx, "password_file", &mut cluster.password_file);
    table.text(cx, "token_file", &mut cluster.token_file);
    let cert = ("cert_file", cluster.cert_file.is_empty());
    check_pair(cx, &table, cert, ("key_file", cluster.key_file.is_empty()), "both are needed, or neither, both PEM");
    let user = ("user", cluster.user.is_empty());
    check_pair(cx, &table, user, ("password_file", cluster.password_file.is_empty()), "both are needed, or neither");
    for (key, help) in [("token", TOKEN_HELP), ("password", PASSWORD_HELP)] {
        if let Some(item) = table.item(key) {
            // Whatever stands in this file is kept as the last good one, compared and shown.
            let message = format!("`{}` must not stand in this file", item.key_path);
            let problem = cx.fault(&item.span, &item.key_path, message);
            cx.problems.push(problem.help(help).without_excerpt());
        }
    }
    if cluster.token_file.is_empty() && !table.has("token") {
        table.missing(cx, "token_file", TOKEN_HELP);
    }
    table.word(cx, "on_no_majority", &mut cluster.on_no_majority);
    table.int(cx, "provisional_max", 0..=u64::from(SEATS_MAX), &mut cluster.provisional_max);
    table.word(cx, "records", &mut cluster.records);
    if let Some(item) = table.item("records").filter(|_| cluster.records == ClusterRecords::Shared) {
        let message = format!("`{}` = \"shared\" is not there yet in this release", item.key_path);
        item.wrong(cx, message, "write \"files\", and give every member the same files");
    }
    table.finish(cx);
    check_durability(cx, document, durability);
    if let Some(item) = document.item("pool") {
        let message =
            "`[[pool]]` and `[cluster]` do not go together yet: each tenant is decided by the owner of its shard"
                .to_owned();
        item.wrong(cx, message, "take the pools out, or decide this fleet on one machine, without [cluster]");
    }
    Some(cluster)
}

fn read_name(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, key: &'static str, name: &mut String, help: &str) {
    let Some((text, item)) = table.text_opt(cx, key) else {
        if !table.has(key) {
            table.missing(cx, key, format!("{help}; {NAME_HELP}"));
        }
        return;
    };
    let mut faults = Vec::new();
    check_tenant(&text, &mut faults);
    if !faults.is_empty() {
        item.wrong(cx, format!("`{}` is not a name: {}", item.key_path, quoted(&text)), NAME_HELP);
    }
    *name = text;
}

fn read_addresses(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, cluster: &mut Cluster) {
    let check = |url: &str| match url_fault(url) {
        None => Ok(url.to_owned()),
        Some(what) => Err((what, URL_HELP)),
    };
    table.texts(cx, "endpoints", &mut cluster.endpoints, check);
    let endpoints = &cluster.endpoints;
    let twin = (1..endpoints.len()).find(|&at| endpoints[..at].contains(&endpoints[at]));
    match table.item("endpoints") {
        None => table.missing(cx, "endpoints", "write the URLs of etcd's members, as in [\"https://10.0.0.1:2379\"]"),
        Some(item) if is_empty_list(&item) => {
            item.wrong(cx, format!("`{}` names no member of etcd", item.key_path), URL_HELP);
        }
        Some(item) if endpoints.len() > ENDPOINTS_MAX => {
            let message = format!("`{}` has {} entries", item.key_path, endpoints.len());
            item.wrong_as(cx, ProblemCode::TooLarge, message, format!("at most {ENDPOINTS_MAX} are allowed"));
        }
        Some(item) => {
            if let Some(at) = twin {
                let message = format!("`{}` has {} twice", item.key_path, quoted(&endpoints[at]));
                item.wrong_as(cx, ProblemCode::Duplicate, message, "keep one of the two");
            }
        }
    }
    match table.text_opt(cx, "advertise") {
        Some((url, item)) => {
            if let Some(what) = url_fault(&url) {
                item.wrong(cx, format!("`{}` {what}: {}", item.key_path, quoted(&url)), URL_HELP);
            }
            cluster.advertise = url;
        }
        None if table.has("advertise") => {}
        None => table.missing(cx, "advertise", format!("the other members reach this one there: {URL_HELP}")),
    }
}

fn is_empty_list(item: &Item<'_, '_>) -> bool {
    item.value.as_array().is_some_and(|values| values.is_empty())
}

/// The fault of a URL that must name a scheme, a host and a port, and nothing else.
fn url_fault(url: &str) -> Option<&'static str> {
    let Ok(uri) = url.parse::<http::Uri>() else { return Some("is not a URL") };
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        Some("holds a user or password")
    } else if !matches!(uri.scheme_str(), Some("http" | "https")) || !has_host {
        Some("is not a URL of http or https")
    } else if uri.port_u16().is_none_or(|port| port == 0) {
        Some("names no port")
    } else if uri.path() != "/" || uri.query().is_some() {
        Some("has a path")
    } else {
        None
    }
}

fn read_times(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, cluster: &mut Cluster) {
    table.int(cx, "takeover_ms", 300..=60_000, &mut cluster.takeover_ms);
    table.int(cx, "heartbeat_ms", 50..=10_000, &mut cluster.heartbeat_ms);
    if cluster.heartbeat_ms > cluster.takeover_ms / HEARTBEATS_MIN {
        let message = format!(
            "`cluster.heartbeat_ms` ({}) is more than a quarter of `cluster.takeover_ms` ({})",
            cluster.heartbeat_ms, cluster.takeover_ms
        );
        if let Some(item) = table.item("heartbeat_ms").or_else(|| table.item("takeover_ms")) {
            item.wrong(cx, message, "a shard must not be taken over because one heartbeat was lost or late");
        }
    }
}

fn check_pair(
    cx: &mut Cx<'_>,
    table: &Table<'_, '_>,
    (one, lacks_one): (&'static str, bool),
    (other, lacks_other): (&'static str, bool),
    help: &str,
) {
    if lacks_one != lacks_other {
        let (missing, given) = if lacks_one { (one, other) } else { (other, one) };
        table.missing(cx, missing, format!("`{}` is given: {help}", table.key_path(given)));
    }
}

/// A turn is committed in etcd before it is answered, so it waits for its record, which only a journal has that is
/// waited for.
fn check_durability(cx: &mut Cx<'_>, document: &mut Table<'_, '_>, durability: Durability) {
    if durability != Durability::None {
        return;
    }
    if let Some(item) = document.table(cx, "journal").item("durability") {
        let message = format!("`{}` is \"none\", and with [cluster] an answer waits for etcd", item.key_path);
        item.wrong(cx, message, "write \"written\" or \"synced\": in a cluster nothing is answered that may be lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_scheme_host_and_port() {
        for (url, fault) in [
            ("http://10.0.0.1:2379", None),
            ("https://etcd.example:2379/", None),
            ("http://[::1]:2379", None),
            ("10.0.0.1:2379", Some("is not a URL of http or https")),
            ("ftp://a:1", Some("is not a URL of http or https")),
            ("http://a", Some("names no port")),
            ("http://a:0", Some("names no port")),
            ("http://a:1/v3", Some("has a path")),
            ("http://a:1?b", Some("has a path")),
            ("http://me:secret@a:1", Some("holds a user or password")),
            ("http://a b:1", Some("is not a URL")),
        ] {
            assert_eq!(url_fault(url), fault, "{url}");
        }
    }

    #[test]
    fn secrets_are_read_from_files_and_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        put("token", format!("{}\n", "t".repeat(32)));
        put("short", "t".repeat(31));
        put("two", format!("{0}\n{0}\n", "t".repeat(32)));
        let cluster =
            |file: &str| Cluster { token_file: file.into(), password_file: file.into(), ..Cluster::default() };
        let token = |file: &str| cluster(file).token(folder.path());
        assert_eq!(token("token"), Ok("t".repeat(32)));
        for (file, why) in [("short", "too short"), ("two", "one line"), ("none", "cluster.token_file /")] {
            let told = token(file).unwrap_err();
            assert!(told.contains(why) && !told.contains("ttt"), "{told}");
        }
        assert_eq!(cluster("none").password(folder.path()), Ok(String::new()), "nobody asks for it");
        let user = Cluster { user: "usherd".into(), ..cluster("short") };
        assert_eq!(user.password(folder.path()), Ok("t".repeat(31)));
    }
}

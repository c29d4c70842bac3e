//! Reads `usherd.toml` into [`Settings`], section by section.

use std::net::{IpAddr, SocketAddr};

use usherd_engine::session::{Name, check_tenant};

use super::access;
use super::cluster;
use super::publisher;
use super::reader::Table;
use super::settings::{
    Address, Events, History, Journal, LISTENERS_MAX, Listener, Log, Metrics, Nodes, POOLS_MAX, Pool, SEATS_MAX,
    SERVER_NAMES_MAX, Server, Settings, Tls, Trial,
};
use super::value::{Cx, Item, any_tenant, quoted};
use super::webhook;
use super::words::{ClientCertificates, ProblemCode, Protocol, Role};
use super::zone;

/// Longest path of a Unix socket, in bytes (the kernel's `sun_path` less its end mark).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// Longest host name, bytes.
const HOST_NAME_BYTES_MAX: usize = 253;

/// Reads everything but the tenants; the caller closes the document.
pub(crate) fn read(cx: &mut Cx<'_>, document: &mut Table<'_, '_>) -> Settings {
    let mut settings = Settings::default();
    read_top(cx, document, &mut settings);
    let table = document.table(cx, "server");
    read_server(cx, table, &mut settings.server);
    let table = document.table(cx, "auth");
    access::read(cx, table, &mut settings.auth);
    for table in document.tables(cx, "listener", LISTENERS_MAX) {
        settings.listeners.extend(read_listener(cx, table, &settings));
    }
    let table = document.table(cx, "agi");
    read_agi(cx, table, &mut settings);
    settings.rules.read(cx, document);
    let table = document.table(cx, "trial");
    read_trial(cx, table, &mut settings.trial);
    let table = document.table(cx, "nodes");
    read_nodes(cx, table, &mut settings.nodes);
    let table = document.table(cx, "journal");
    read_journal(cx, table, &mut settings.journal);
    settings.cluster = cluster::read(cx, document, settings.journal.durability);
    let table = document.table(cx, "history");
    read_history(cx, table, &mut settings.history);
    let table = document.table(cx, "metrics");
    read_metrics(cx, table, &mut settings.metrics);
    let table = document.table(cx, "log");
    read_log(cx, table, &mut settings.log);
    let table = document.table(cx, "events");
    read_events(cx, table, &mut settings.events);
    for table in document.tables(cx, "webhook", webhook::WEBHOOKS_MAX) {
        webhook::read(cx, table, &mut settings.webhooks);
    }
    let table = document.table(cx, "sync");
    publisher::read(cx, table, &mut settings.sync);
    for table in document.tables(cx, "pool", POOLS_MAX) {
        read_pool(cx, table, &mut settings.pools);
    }
    settings
}

fn read_top(cx: &mut Cx<'_>, document: &mut Table<'_, '_>, settings: &mut Settings) {
    let mut zone = settings.time_zone.0.name().to_owned();
    if let Some(item) = document.text(cx, "time_zone", &mut zone) {
        match zone.parse() {
            Ok(zone) => settings.time_zone.0 = zone,
            Err(_) => {
                let message = format!("`time_zone` does not know {}", quoted(&zone));
                item.wrong_as(cx, ProblemCode::UnknownZone, message, zone::help(&zone));
            }
        }
    }
    let mut default_tenant = String::new();
    if let Some(item) = document.text(cx, "default_tenant", &mut default_tenant)
        && !default_tenant.is_empty()
        && let Some(id) = tenant_id(cx, &item, &default_tenant)
    {
        settings.default_tenant = Some(id);
    }
    document.text(cx, "tenants_dir", &mut settings.tenants_dir.0);
    document.flag(cx, "strict", &mut settings.strict);
    document.int(cx, "removal_delay_s", 0..=86_400, &mut settings.removal_delay.0);
}

/// A tenant id, or a complaint.
pub(crate) fn tenant_id(cx: &mut Cx<'_>, item: &Item<'_, '_>, id: &str) -> Option<Name> {
    let mut faults = Vec::new();
    check_tenant(id, &mut faults);
    if faults.is_empty() {
        return Some(Name::from(id));
    }
    let guess: String = id.to_lowercase().chars().map(|c| if c.is_whitespace() { '-' } else { c }).collect();
    faults.clear();
    check_tenant(&guess, &mut faults);
    let guess = if faults.is_empty() { format!("did you mean `{guess}`? ") } else { String::new() };
    let message = format!("`{}` is not a tenant id: {}", item.key_path, quoted(id));
    item.wrong(cx, message, format!("{guess}an id is 1 to 64 of a-z 0-9 . _ -"));
    None
}

fn read_server(cx: &mut Cx<'_>, mut table: Table<'_, '_>, server: &mut Server) {
    let mut listen = server.listen.map(|at| at.to_string()).unwrap_or_default();
    let listen_item = table.text(cx, "listen", &mut listen);
    if let Some(item) = &listen_item {
        server.listen = if listen.is_empty() { None } else { socket_address(cx, item, &listen).or(server.listen) };
    }
    if let Some(item) = table.text(cx, "unix_socket", &mut server.unix_socket) {
        check_unix_path(cx, &item, &server.unix_socket);
    }
    table.text(cx, "state_dir", &mut server.state_dir);
    table.int(cx, "workers", 0..=256, &mut server.workers);
    table.flag(cx, "insecure", &mut server.insecure);
    if let (Some(item), Some(address)) = (&listen_item, server.listen)
        && !address.ip().is_loopback()
        && !server.insecure
    {
        let message = format!("`{}` is open to the network without TLS and credentials: {address}", item.key_path);
        item.wrong(cx, message, OPEN_HELP);
    }
    read_names(cx, &mut table, server);
    read_deadlines(cx, &mut table, server);
    read_limits(cx, &mut table, server);
    table.finish(cx);
}

fn read_names(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, server: &mut Server) {
    table.texts(cx, "names", &mut server.names, host_name);
    if server.names.len() > SERVER_NAMES_MAX
        && let Some(item) = table.item("names")
    {
        let message = format!("`{}` has {} entries", item.key_path, server.names.len());
        item.wrong_as(cx, ProblemCode::TooLarge, message, format!("at most {SERVER_NAMES_MAX} are allowed"));
    }
}

/// A host name as browsers send it, in lower case and without a dot at its end.
fn host_name(text: &str) -> Result<String, (&'static str, &'static str)> {
    let help = "write a host name as in \"pbx1.example\": labels of a-z 0-9 - with dots between, no port, no *";
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.parse::<IpAddr>().is_ok() {
        return Err(("is an address", "leave it out: whoever asks by an IP address is not asked for a name"));
    }
    if text.len() > HOST_NAME_BYTES_MAX || !text.split('.').all(is_label) {
        return Err(("is not a host name", help));
    }
    Ok(text.to_ascii_lowercase())
}

const OPEN_HELP: &str = "listen on 127.0.0.1, or move it to a [[listener]] with tls and give [auth] tokens or a \
                         client_ca_file, or set server.insecure = true if the network is trusted";

fn read_deadlines(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, server: &mut Server) {
    table.int(cx, "first_byte_deadline_ms", 10..=3_600_000, &mut server.first_byte_deadline_ms);
    table.int(cx, "head_deadline_ms", 10..=3_600_000, &mut server.head_deadline_ms);
    table.int(cx, "body_deadline_ms", 10..=3_600_000, &mut server.body_deadline_ms);
    table.int(cx, "write_deadline_ms", 10..=3_600_000, &mut server.write_deadline_ms);
    table.int(cx, "idle_deadline_s", 1..=604_800, &mut server.idle_deadline_s);
    table.int(cx, "connection_age_s", 1..=2_592_000, &mut server.connection_age_s);
    table.int(cx, "drain_deadline_ms", 0..=3_600_000, &mut server.drain_deadline_ms);
}

fn read_limits(cx: &mut Cx<'_>, table: &mut Table<'_, '_>, server: &mut Server) {
    table.int(cx, "max_head_bytes", 8_192..=1 << 20, &mut server.max_head_bytes);
    table.int(cx, "max_body_bytes", 1_024..=64 << 20, &mut server.max_body_bytes);
    table.int(cx, "max_inventory_bytes", 1_024..=1 << 30, &mut server.max_inventory_bytes);
    table.int(cx, "request_bodies_bytes_max", 4_096..=u32::MAX.into(), &mut server.request_bodies_bytes_max);
    let largest = server.max_inventory_bytes.max(server.max_body_bytes);
    if server.request_bodies_bytes_max / 4 < largest {
        let keys = ["request_bodies_bytes_max", "max_inventory_bytes", "max_body_bytes"];
        let message = format!(
            "`server.request_bodies_bytes_max` ({}) is for the bodies of all requests together, and one may have {largest}",
            server.request_bodies_bytes_max
        );
        if let Some(item) = keys.iter().find_map(|key| table.item(key)) {
            item.wrong(cx, message, "it must be at least four times as large as the largest body");
        }
    }
    table.int(cx, "batch_operations_max", 1..=1_000, &mut server.batch_operations_max);
    table.int(cx, "connections_max", 1..=1_000_000, &mut server.connections_max);
    table.int(cx, "connections_per_address_max", 1..=1_000_000, &mut server.connections_per_address_max);
    server.connections_reserved_for_nodes = Server::reserved_for_nodes(server.connections_max);
    table.int(cx, "connections_reserved_for_nodes", 0..=1_000_000, &mut server.connections_reserved_for_nodes);
    if server.connections_reserved_for_nodes >= server.connections_max {
        let message = format!(
            "`server.connections_reserved_for_nodes` ({}) leaves nothing of `server.connections_max` ({})",
            server.connections_reserved_for_nodes, server.connections_max
        );
        if let Some(item) = table.item("connections_reserved_for_nodes") {
            item.wrong(cx, message, "reserve fewer than there are");
        }
    }
    table.int(cx, "requests_in_flight_max", 1..=1_000_000, &mut server.requests_in_flight_max);
    table.int(cx, "auth_failures_per_minute", 1..=1_000_000, &mut server.auth_failures_per_minute);
    table.int(cx, "sessions_max", 1..=100_000_000, &mut server.sessions_max);
    table.int(cx, "sessions_per_tenant_max", 1..=100_000_000, &mut server.sessions_per_tenant_max);
    table.int(cx, "tombstones_per_tenant_max", 1..=100_000_000, &mut server.tombstones_per_tenant_max);
    table.int(cx, "nodes_max", 1..=1_000_000, &mut server.nodes_max);
    table.int(cx, "tenants_max", 1..=1_000_000, &mut server.tenants_max);
    table.int(cx, "reload_tenants_dropped_max_percent", 0..=100, &mut server.reload_tenants_dropped_max_percent);
    table.int(cx, "reload_seats_dropped_max_percent", 0..=100, &mut server.reload_seats_dropped_max_percent);
}

fn socket_address(cx: &mut Cx<'_>, item: &Item<'_, '_>, text: &str) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let message = format!("`{}` is not an address and port: {}", item.key_path, quoted(text));
        item.wrong(cx, message, "write an IP address and a port, as in \"127.0.0.1:7788\" or \"[::1]:7788\"");
    }
    address
}

fn check_unix_path(cx: &mut Cx<'_>, item: &Item<'_, '_>, path: &str) {
    if path.len() > UNIX_PATH_BYTES_MAX {
        let message = format!("`{}` is {} bytes long", item.key_path, path.len());
        item.wrong(cx, message, format!("a socket path has at most {UNIX_PATH_BYTES_MAX} bytes"));
    } else if !path.is_empty() && !path.starts_with('/') {
        let message = format!("`{}` is not an absolute path: {}", item.key_path, quoted(path));
        item.wrong(cx, message, "write it from the root on, as in \"/run/usherd/usherd.sock\"");
    }
}

fn read_listener(cx: &mut Cx<'_>, mut table: Table<'_, '_>, settings: &Settings) -> Option<Listener> {
    let (listen, unix) = (table.text_opt(cx, "listen"), table.text_opt(cx, "unix_socket"));
    let mut protocol = Protocol::Http1;
    table.word(cx, "protocol", &mut protocol);
    let mut roles: Vec<Role> = Vec::new();
    table.words(cx, "roles", &mut roles);
    let tls = if table.has("tls") {
        let tls = table.table(cx, "tls");
        Some(read_tls(cx, tls))
    } else {
        table.item("tls");
        None
    };
    if tls.is_some() && protocol == Protocol::H2c {
        let help = "h2c is HTTP/2 without TLS: leave out `protocol` or `tls`";
        let problem = cx.fault(&table.span, &table.key_path("protocol"), "a listener has tls and `protocol = \"h2c\"`");
        cx.problems.push(problem.help(help));
    }
    let address = match (listen, unix) {
        (Some((listen, item)), None) => {
            let address = socket_address(cx, &item, &listen);
            if let Some(address) = address {
                check_open(cx, &item, address, tls.as_ref(), settings);
            }
            address.map(Address::Tcp)
        }
        (None, Some((path, item))) => {
            check_unix_path(cx, &item, &path);
            Some(Address::Unix(path))
        }
        (Some(_), Some((_, item))) => {
            let message = format!("`{}` stands beside `listen`", item.key_path);
            item.wrong(cx, message, "give each its own [[listener]]");
            None
        }
        (None, None) => {
            if !table.has("listen") && !table.has("unix_socket") {
                table.missing(cx, "listen", "write listen = \"ADDRESS:PORT\" or unix_socket = \"/PATH\"");
            }
            None
        }
    };
    let listener = address.map(|address| Listener { address, protocol, tls, roles });
    if let Some(listener) = &listener {
        check_taken(cx, &table, listener, settings);
    }
    table.finish(cx);
    listener
}

fn check_taken(cx: &mut Cx<'_>, table: &Table<'_, '_>, listener: &Listener, settings: &Settings) {
    let server = &settings.server;
    // Port 0 is any that is free, so each gets its own.
    let any = matches!(&listener.address, Address::Tcp(address) if address.port() == 0);
    let taken = !any
        && (settings.listeners.iter().any(|other| other.address == listener.address)
            || match &listener.address {
                Address::Tcp(address) => server.listen == Some(*address),
                Address::Unix(path) => *path == server.unix_socket,
            });
    if taken {
        let key = if matches!(listener.address, Address::Tcp(_)) { "listen" } else { "unix_socket" };
        let path = table.key_path(key);
        let problem = cx.fault(&table.span, &path, format!("`{path}` is taken by [server] or another [[listener]]"));
        cx.problems.push(problem.help("give each listener an address of its own"));
    }
}

/// FastAGI has neither TLS nor credentials, so what is asked of an open [server] is asked of it.
fn read_agi(cx: &mut Cx<'_>, mut table: Table<'_, '_>, settings: &mut Settings) {
    let mut listen = String::new();
    if let Some(item) = table.text(cx, "listen", &mut listen).filter(|_| !listen.is_empty())
        && let Some(address) = socket_address(cx, &item, &listen)
    {
        if !address.ip().is_loopback() && !settings.server.insecure {
            let message = format!("`{}` is open to the network without TLS and credentials: {address}", item.key_path);
            item.wrong(
                cx,
                message,
                "FastAGI has neither: listen on 127.0.0.1, or set server.insecure = true if the network is trusted",
            );
        }
        let is_there = |other: &Address| *other == Address::Tcp(address) && address.port() != 0;
        if is_there_already(settings, is_there) {
            let message = format!("`{}` is taken by [server] or a [[listener]]", item.key_path);
            item.wrong(cx, message, "give it an address of its own; FastAGI's usual port is 4573");
        }
        settings.agi.listen = Some(address);
    }
    table.finish(cx);
}

fn is_there_already(settings: &Settings, is: impl Fn(&Address) -> bool) -> bool {
    settings.server.listen.is_some_and(|address| is(&Address::Tcp(address)))
        || settings.listeners.iter().any(|listener| is(&listener.address))
}

fn check_open(cx: &mut Cx<'_>, item: &Item<'_, '_>, address: SocketAddr, tls: Option<&Tls>, settings: &Settings) {
    let credentials = !settings.auth.tokens.is_empty() || tls.is_some_and(|tls| !tls.client_ca_file.is_empty());
    if address.ip().is_loopback() || settings.server.insecure || (tls.is_some() && credentials) {
        return;
    }
    let lacks = match (tls.is_some(), credentials) {
        (true, _) => "credentials",
        (false, true) => "TLS",
        (false, false) => "TLS and credentials",
    };
    let message = format!("`{}` is open to the network without {lacks}: {address}", item.key_path);
    item.wrong(
        cx,
        message,
        "give it [listener.tls], and [[auth.tokens]] or a client_ca_file, or listen on 127.0.0.1, \
         or set server.insecure = true if the network is trusted",
    );
}

fn read_tls(cx: &mut Cx<'_>, mut table: Table<'_, '_>) -> Tls {
    let mut tls = Tls::default();
    table.text(cx, "cert_file", &mut tls.cert_file);
    table.text(cx, "key_file", &mut tls.key_file);
    table.text(cx, "client_ca_file", &mut tls.client_ca_file);
    table.word(cx, "client_certificates", &mut tls.client_certificates);
    if tls.client_certificates == ClientCertificates::Required
        && tls.client_ca_file.is_empty()
        && let Some(item) = table.item("client_certificates")
    {
        let message = format!("`{}` requires certificates, and no authority is named", item.key_path);
        item.wrong(cx, message, "write client_ca_file, PEM of whoever signs them, or leave this out");
    }
    for (key, value) in [("cert_file", &tls.cert_file), ("key_file", &tls.key_file)] {
        if value.is_empty() {
            table.missing(cx, key, "TLS needs cert_file and key_file, both PEM");
        }
    }
    table.finish(cx);
    tls
}

fn read_trial(cx: &mut Cx<'_>, mut table: Table<'_, '_>, trial: &mut Trial) {
    table.int(cx, "days", 1..=3_650, &mut trial.days);
    table.int(cx, "seats", 0..=u64::from(SEATS_MAX), &mut trial.seats);
    table.finish(cx);
}

fn read_nodes(cx: &mut Cx<'_>, mut table: Table<'_, '_>, nodes: &mut Nodes) {
    table.int(cx, "heartbeat_s", 1..=3_600, &mut nodes.heartbeat_s);
    table.int(cx, "lease_s", 1..=86_400, &mut nodes.lease_s);
    if nodes.lease_s <= nodes.heartbeat_s {
        let item = table.item("lease_s").or_else(|| table.item("heartbeat_s"));
        let message = format!(
            "`nodes.lease_s` ({}) is not longer than `nodes.heartbeat_s` ({})",
            nodes.lease_s, nodes.heartbeat_s
        );
        if let Some(item) = item {
            item.wrong(cx, message, "three heartbeats are a good lease: one may be lost");
        }
    }
    table.int(cx, "grace_s", 0..=86_400, &mut nodes.grace_s);
    table.int(cx, "presence_grace_s", 0..=86_400, &mut nodes.presence_grace_s);
    table.int(cx, "inventory_s", 1..=86_400, &mut nodes.inventory_s);
    table.int(cx, "tombstone_s", 1..=86_400, &mut nodes.tombstone_s);
    table.int(cx, "learning_s", 0..=86_400, &mut nodes.learning_s);
    table.int(cx, "deadline_ms", 1..=60_000, &mut nodes.deadline_ms);
    table.word(cx, "on_unreachable", &mut nodes.on_unreachable);
    table.finish(cx);
}

fn read_journal(cx: &mut Cx<'_>, mut table: Table<'_, '_>, journal: &mut Journal) {
    table.word(cx, "durability", &mut journal.durability);
    table.int(cx, "keep_days", 1..=36_500, &mut journal.keep_days);
    table.int(cx, "keep_bytes", 1 << 20..=1 << 50, &mut journal.keep_bytes);
    table.int(cx, "checkpoint_bytes", 1 << 20..=1 << 40, &mut journal.checkpoint_bytes);
    table.int(cx, "segment_bytes", 1 << 20..=1 << 32, &mut journal.segment_bytes);
    table.text(cx, "ring_dir", &mut journal.ring_dir);
    table.int(cx, "ring_bytes", 1 << 20..=1 << 30, &mut journal.ring_bytes);
    table.finish(cx);
}

fn read_metrics(cx: &mut Cx<'_>, mut table: Table<'_, '_>, metrics: &mut Metrics) {
    table.word(cx, "tenants", &mut metrics.tenants);
    table.int(cx, "top", 0..=100_000, &mut metrics.top);
    table.int(cx, "always_max", 0..=100_000, &mut metrics.always_max);
    table.texts(cx, "watch", &mut metrics.watch, any_tenant);
    table.finish(cx);
}

fn read_log(cx: &mut Cx<'_>, mut table: Table<'_, '_>, log: &mut Log) {
    if let Some(item) = table.text(cx, "filter", &mut log.filter)
        && let Err(error) = tracing_subscriber::EnvFilter::try_new(&log.filter)
    {
        let message = format!("`{}` is not a filter: {error}", item.key_path);
        item.wrong(cx, message, "write a level, or levels by module: \"info,usherd::daemon::http=debug\"");
    }
    table.word(cx, "format", &mut log.format);
    table.finish(cx);
}

fn read_history(cx: &mut Cx<'_>, mut table: Table<'_, '_>, history: &mut History) {
    table.int(cx, "detail_days", 1..=90, &mut history.detail_days);
    table.int(cx, "months", 1..=60, &mut history.months);
    table.int(cx, "bytes_max", 16 << 20..=1 << 44, &mut history.bytes_max);
    table.finish(cx);
}

fn read_events(cx: &mut Cx<'_>, mut table: Table<'_, '_>, events: &mut Events) {
    table.int(cx, "buffered_max", 1..=10_000_000, &mut events.buffered_max);
    table.int(cx, "subscribers_max", 0..=100_000, &mut events.subscribers_max);
    table.finish(cx);
}

fn read_pool(cx: &mut Cx<'_>, mut table: Table<'_, '_>, pools: &mut Vec<Pool>) {
    let id = match table.text_opt(cx, "id") {
        Some((id, item)) => tenant_id(cx, &item, &id).map(|id| (id, item)),
        None if table.has("id") => None,
        None => {
            table.missing(cx, "id", "write the name that tenants use as `pool`");
            None
        }
    };
    if !table.has("seats") {
        table.missing(cx, "seats", format!("write a whole number from 0 to {SEATS_MAX}"));
    }
    let seats = table.int_opt(cx, "seats", 0..=u64::from(SEATS_MAX)).unwrap_or(0);
    let mut oversubscribe = false;
    table.flag(cx, "oversubscribe", &mut oversubscribe);
    if let Some((id, item)) = id {
        if pools.iter().any(|pool| pool.id == id) {
            let message = format!("there are two pools `{id}`");
            item.wrong_as(cx, ProblemCode::Duplicate, message, "give each pool an id of its own");
        } else {
            pools.push(Pool { id, seats, oversubscribe });
        }
    }
    table.finish(cx);
}
